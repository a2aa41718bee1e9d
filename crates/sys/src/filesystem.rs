//! What kind of filesystem a directory is on, what can be done to a whole one, and files in none.

use std::ffi::{CStr, CString};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Whether a filesystem keeps the promises a database needs: locks that exclude, syncs that reach the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filesystem {
    /// Nothing is known against it.
    Local,
    /// Locks and syncs depend on another machine or process; the name is for the operator.
    Network(&'static str),
    /// A container's writable layer: it disappears with the container.
    Overlay,
}

/// Says which kind of filesystem holds `path`, which must exist.
///
/// # Errors
/// The error of statfs(2).
///
/// Source: linux/magic.h.
pub fn kind(path: &Path) -> io::Result<Filesystem> {
    magic(path).map(classify)
}

/// Whether `path`, which must exist, is kept in memory alone (tmpfs, or ramfs as the kernel unpacks an initramfs to).
///
/// # Errors
/// The error of statfs(2).
///
/// Source: linux/magic.h.
pub fn in_memory(path: &Path) -> io::Result<bool> {
    Ok(matches!(magic(path)?, 0x0102_1994 | 0x8584_58f6))
}

fn magic(path: &Path) -> io::Result<u64> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut stat = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: `path` ends with NUL; `stat` is writable and large enough for the result.
    if unsafe { libc::statfs(path.as_ptr(), stat.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: statfs succeeded and has filled the whole structure.
    let stat = unsafe { stat.assume_init() };
    Ok(stat.f_type as u64 & 0xffff_ffff)
}

/// Whether a filesystem that is mounted may be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only read.
    ReadOnly,
    /// Read and written.
    ReadWrite,
}

/// Changes whether the filesystem mounted at `path` may be written to.
///
/// # Errors
/// The error of mount(2).
pub fn remount(path: &Path, access: Access) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let flags = match access {
        Access::ReadOnly => libc::MS_REMOUNT | libc::MS_RDONLY,
        Access::ReadWrite => libc::MS_REMOUNT,
    };
    let none = std::ptr::null();
    // SAFETY: `path` ends with NUL; a remount reads neither source nor type nor data, which may be null.
    let result = unsafe { libc::mount(none, path.as_ptr(), none, flags, none.cast()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes the filesystem mounted at `path` away from everybody who has not opened something in it yet.
///
/// # Errors
/// The error of umount2(2).
pub fn detach(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `path` ends with NUL and lives until the call has returned.
    let result = unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A file with `content` that no directory names, in memory. A program that this process starts has it open under the
/// same number, so that `/proc/self/fd/NUMBER` names it there.
///
/// # Errors
/// The error of memfd_create(2) or of writing.
pub fn memory_file(name: &CStr, content: &[u8]) -> io::Result<File> {
    // SAFETY: `name` ends with NUL. Without MFD_CLOEXEC the descriptor stays open in programs that are started.
    let descriptor = unsafe { libc::memfd_create(name.as_ptr(), 0) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this descriptor to us alone.
    let mut file = unsafe { File::from_raw_fd(descriptor) };
    file.write_all(content)?;
    Ok(file)
}

/// A new file in `folder` that has no name, readable by its owner alone: it is gone when it is closed, unless
/// [`name_file`] gives it one. `None` if this filesystem has no such files.
///
/// # Errors
/// The error of open(2).
///
/// Source: open(2), O_TMPFILE.
pub fn unnamed_file(folder: &Path) -> io::Result<Option<File>> {
    let opened =
        OpenOptions::new().read(true).write(true).mode(0o600).custom_flags(libc::O_TMPFILE).open(folder);
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL)) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Gives a file of [`unnamed_file`] a name that nothing has yet.
///
/// # Errors
/// The error of linkat(2): of kind [`io::ErrorKind::AlreadyExists`] if something has the name.
pub fn name_file(file: &File, path: &Path) -> io::Result<()> {
    let to = CString::new(path.as_os_str().as_bytes())?;
    let link = |folder, from: &CStr, flags| {
        // SAFETY: both paths end with NUL and live until the call has returned; the descriptor is open as long as `file` is.
        let result = unsafe { libc::linkat(folder, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), flags) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    match link(file.as_raw_fd(), c"", libc::AT_EMPTY_PATH) {
        // Older kernels let only root name a file by its descriptor alone.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let from = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
            link(libc::AT_FDCWD, &from, libc::AT_SYMLINK_FOLLOW)
        }
        linked => linked,
    }
}

/// Waits until everything written to the filesystem of `file` is on its disk.
///
/// # Errors
/// The error of syncfs(2): something written to this filesystem, perhaps by others, was not.
pub fn synchronise(file: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as `file` is.
    let result = unsafe { libc::syncfs(file.as_raw_fd()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Waits until the name that `file` has at `place` is on its disk.
///
/// # Errors
/// The error of fsync(2), or of syncfs(2) where the folder may be written but not read.
pub fn synchronise_name(file: &File, place: &Path) -> io::Result<()> {
    let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match File::open(folder) {
        Ok(folder) => folder.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => synchronise(file),
        Err(error) => Err(error),
    }
}

fn classify(magic: u64) -> Filesystem {
    match magic {
        0x6969 => Filesystem::Network("NFS"),
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => Filesystem::Network("SMB"),
        0x6573_5546 => Filesystem::Network("FUSE"),
        0x0102_1997 => Filesystem::Network("9P"),
        0x00c3_6400 => Filesystem::Network("Ceph"),
        0x5346_414f => Filesystem::Network("AFS"),
        0x794c_7630 => Filesystem::Overlay,
        _ => Filesystem::Local,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_dangerous_ones_and_names_a_missing_path() {
        assert_eq!(classify(0x6969), Filesystem::Network("NFS"));
        assert_eq!(classify(0xff53_4d42), Filesystem::Network("SMB"));
        assert_eq!(classify(0x794c_7630), Filesystem::Overlay);
        assert_eq!(classify(0xef53), Filesystem::Local);
        assert_eq!(kind(Path::new("/proc")).unwrap(), Filesystem::Local);
        let missing = kind(Path::new("/nonexistent/keyhearth")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn memory_is_told_from_disks_and_from_what_is_computed() {
        assert!(in_memory(Path::new("/dev/shm")).unwrap());
        assert!(!in_memory(Path::new("/proc")).unwrap());
    }

    #[test]
    fn what_is_not_mounted_is_neither_changed_nor_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        assert!(remount(folder.path(), Access::ReadOnly).is_err());
        assert!(detach(folder.path()).is_err());
    }

    #[test]
    fn a_file_without_a_name_is_gone_unless_it_gets_one_that_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let names = || std::fs::read_dir(folder.path()).unwrap().count();
        let mut file = unnamed_file(folder.path()).unwrap().expect("the folder of temporary files has them");
        file.write_all(b"content").unwrap();
        assert_eq!(names(), 0);
        let path = folder.path().join("name");
        name_file(&file, &path).unwrap();
        synchronise(&file).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"content");
        let other = unnamed_file(folder.path()).unwrap().unwrap();
        assert_eq!(name_file(&other, &path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        drop(other);
        assert_eq!(names(), 1);
        assert!(unnamed_file(&path).is_err(), "a file is no folder");
    }

    #[test]
    fn a_program_reads_a_memory_file_by_its_number() {
        let file = memory_file(c"test", b"content").unwrap();
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let output = std::process::Command::new("cat").arg(path).output().unwrap();
        assert_eq!(output.stdout, b"content");
    }
}
