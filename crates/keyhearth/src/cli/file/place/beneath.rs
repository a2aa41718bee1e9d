//! A folder that others write to, reached without leaving it: no symbolic link is followed and no other filesystem entered,
//! whatever somebody else puts there meanwhile.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, StatVfs};

use super::Stamp;

/// The folder itself.
pub struct Root(OwnedFd);

/// It, or a folder below it.
pub struct Folder(OwnedFd);

impl Root {
    /// # Errors
    /// The error of open(2).
    pub fn open(path: &Path) -> io::Result<Self> {
        let root =
            Self(rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?);
        root.folder(Path::new(""))?;
        Ok(root)
    }

    /// The folder at `inside`; the root itself, if that is empty.
    ///
    /// # Errors
    /// The error of openat2(2).
    pub fn folder(&self, inside: &Path) -> io::Result<Folder> {
        let inside = if inside.as_os_str().is_empty() { Path::new(".") } else { inside };
        let how = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        Ok(Folder(rustix::fs::openat2(&self.0, inside, how, Mode::empty(), within)?))
    }

    /// Room in its filesystem.
    ///
    /// # Errors
    /// The error of statvfs(3).
    pub fn room(&self) -> io::Result<StatVfs> {
        Ok(rustix::fs::fstatvfs(&self.0)?)
    }
}

impl Folder {
    /// A path to it that holds as long as this does.
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// The error of stat(2).
    pub fn metadata(&self) -> io::Result<Metadata> {
        fs::metadata(self.path())
    }

    /// Opens the regular file of this name, to read it.
    ///
    /// # Errors
    /// The error of open(2); [`io::ErrorKind::NotFound`] of what is no regular file.
    pub fn open(&self, name: &OsStr) -> io::Result<File> {
        let how = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&self.0, name, how, Mode::empty())?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// The stamp of what has this name, whatever it is.
    ///
    /// # Errors
    /// The error of stat(2).
    pub fn stamp(&self, name: &OsStr) -> io::Result<Option<Stamp>> {
        Stamp::at(&self.path().join(name))
    }

    /// Makes a folder, its owner's alone.
    ///
    /// # Errors
    /// The error of mkdir(2).
    pub fn make(&self, name: &OsStr) -> io::Result<()> {
        fs::DirBuilder::new().mode(0o700).create(self.path().join(name))
    }

    /// Removes what has this name and is no folder.
    ///
    /// # Errors
    /// The error of unlink(2).
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        fs::remove_file(self.path().join(name))
    }

    /// Removes an empty folder.
    ///
    /// # Errors
    /// The error of rmdir(2).
    pub fn remove_folder(&self, name: &OsStr) -> io::Result<()> {
        fs::remove_dir(self.path().join(name))
    }

    /// Waits until the names in it are on the disk.
    ///
    /// # Errors
    /// The error of fsync(2).
    pub fn synchronise(&self) -> io::Result<()> {
        File::open(self.path())?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_outside_is_reached() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("a"), "").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("folder/below")).unwrap();
        symlink(outside.path(), path("out")).unwrap();
        symlink(outside.path().join("a"), path("link")).unwrap();
        symlink("folder", path("inner")).unwrap();
        let root = Root::open(folder.path()).unwrap();
        for inside in ["out", "inner", "inner/below", "..", "folder/../out", "/"] {
            assert!(root.folder(Path::new(inside)).is_err(), "{inside}");
        }
        let here = root.folder(Path::new("")).unwrap();
        assert!(here.open(OsStr::new("link")).is_err() && here.open(OsStr::new("folder")).is_err());
        assert!(root.folder(Path::new("folder/below")).is_ok());
    }
}
