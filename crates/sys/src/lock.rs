//! One process per data directory.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// The name of the lock file inside the directory. It stays there; only the lock on it counts.
pub const FILE_NAME: &str = "keyhearth.lock";

/// An exclusive lock on a directory, held until dropped or until the process ends, however it ends.
#[derive(Debug)]
pub struct DirLock {
    file: File,
}

/// Why a directory could not be locked.
#[derive(Debug)]
pub enum Error {
    /// Another process has the lock; `process` is the id it wrote, if it could be read.
    Held {
        /// The lock file.
        path: PathBuf,
        /// The holder's process id, perhaps in another container's numbering.
        process: Option<u32>,
    },
    /// The lock file could not be opened, locked or written.
    Io(io::Error),
}

impl DirLock {
    /// Locks `directory`, which must exist, and leaves this process's id in the lock file.
    ///
    /// # Errors
    /// [`Error::Held`] if another process has it, at once: this never waits. [`Error::Io`] otherwise.
    ///
    /// Source: flock(2).
    pub fn acquire(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(FILE_NAME);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Held { process: holder(&file), path }),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Self { file })
    }
}

impl Drop for DirLock {
    /// Unlocks by name: closing alone would leave the lock to a child that another thread is just starting,
    /// which has a copy of the descriptor until it executes its program.
    fn drop(&mut self) {
        // Closing follows, and unlocks too if this cannot.
        let _ = self.file.unlock();
    }
}

fn holder(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { path, process: Some(id) } => {
                write!(f, "{} is locked, probably by process {id}; stop it first", path.display())
            }
            Self::Held { path, process: None } => {
                write!(f, "{} is locked by another process; stop it first", path.display())
            }
            Self::Io(error) => write!(f, "cannot lock the data directory: {error}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_holder_is_refused_and_told_who_holds_it() {
        let directory = tempfile::tempdir().unwrap();
        let first = DirLock::acquire(directory.path()).unwrap();
        match DirLock::acquire(directory.path()) {
            Err(Error::Held { process, .. }) => assert_eq!(process, Some(std::process::id())),
            other => panic!("{other:?}"),
        }
        drop(first);
        DirLock::acquire(directory.path()).unwrap();
    }

    #[test]
    fn missing_directory_is_an_io_error() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(DirLock::acquire(&directory.path().join("absent")), Err(Error::Io(_))));
    }
}
