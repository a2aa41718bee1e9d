//! By what a file is known without reading it.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A file that was changed so shortly before it was looked at may be changed again without showing it: as long as the coarsest
/// times that filesystems keep, and more.
const TICK: Duration = Duration::from_secs(3);

/// Device, number, length, and when it was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stamp {
    is_folder: bool,
    lies: [u64; 3],
    modified: (i64, i64),
    /// Renaming a file and changing its attributes change this alone.
    changed: (i64, i64),
}

impl Stamp {
    /// The stamp of what says this of itself.
    pub fn of(of: &Metadata) -> Self {
        Self {
            is_folder: of.is_dir(),
            lies: [of.dev(), of.ino(), of.len()],
            modified: (of.mtime(), of.mtime_nsec()),
            changed: (of.ctime(), of.ctime_nsec()),
        }
    }

    /// The stamp of what lies at `path`, whatever it is; `None` if nothing does.
    ///
    /// # Errors
    /// The error of lstat(2).
    pub fn at(path: &Path) -> io::Result<Option<Self>> {
        match fs::symlink_metadata(path) {
            Ok(metadata) => Ok(Some(Self::of(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether it is the same file and nobody has written to it, unless who did hides it.
    pub fn has_content_of(&self, other: &Self) -> bool {
        (self.lies, self.modified) == (other.lies, other.modified)
    }

    /// Whether it is the same file, whatever is in it.
    pub fn is_file_of(&self, other: &Self) -> bool {
        self.place() == other.place()
    }

    /// What the file is known by in its filesystem.
    pub fn place(&self) -> (u64, u64) {
        (self.lies[0], self.lies[1])
    }

    /// The stamp of the same file, after this changed into that by what was done here: when it was changed otherwise before that stays
    /// to be seen.
    pub fn after(&self, before: &Self, after: &Self) -> Self {
        if self == before { *after } else { Self { changed: self.changed, ..*after } }
    }

    /// Whether it is a folder.
    pub fn is_folder(&self) -> bool {
        self.is_folder
    }

    /// The length of the file.
    pub fn bytes(&self) -> u64 {
        self.lies[2]
    }

    /// Whether every later change will show.
    pub fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let changed = u64::try_from(self.changed.0).map(Duration::from_secs);
        changed.is_ok_and(|changed| now > changed + TICK)
    }
}
