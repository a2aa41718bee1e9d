//! What kind of filesystem a data directory is on.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
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
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut stat = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: `path` ends with NUL; `stat` is writable and large enough for the result.
    if unsafe { libc::statfs(path.as_ptr(), stat.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: statfs succeeded and has filled the whole structure.
    let stat = unsafe { stat.assume_init() };
    Ok(classify(stat.f_type as u64 & 0xffff_ffff))
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
}
