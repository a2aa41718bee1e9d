//! Files that commands make. Nothing is overwritten.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::failure::Failure;

/// Mode of what only its owner may read.
pub const PRIVATE: u32 = 0o600;
/// Mode of what everybody may read.
pub const PUBLIC: u32 = 0o644;

/// Makes the file, which must not exist yet, and waits until it is on the disk.
pub fn create(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), Failure> {
    let written =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
    written.map_err(|error| Failure::at(path.display(), &error))
}

/// Makes the folder and those above it, unless they exist; only its owner may enter.
pub fn folder(path: &Path) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| Failure::at(path.display(), &error))
}

/// Makes the folder, which must not exist yet; only its owner may enter.
pub fn new_folder(path: &Path) -> Result<(), Failure> {
    DirBuilder::new().mode(0o700).create(path).map_err(|error| Failure::at(path.display(), &error))
}
