//! Where versions go that make room for others: conflicts beside the file, for people to see; the rest into the plain folder's
//! trash, for a while.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use keyhearth_files::manifest::{Device, FOLDER};

use super::super::failure::Failure;
use super::super::file::keys;
use super::super::file::place::copies::{self, date};
use super::super::file::place::{NAME_BYTES_MAX, Place};
use super::tree::Tree;

const TRASH: &str = "trash";
const DAY_SECONDS: u64 = 24 * 60 * 60;

/// A place beside a file for a version of it that another one made room for, of a name of at most so many bytes, so that it can be
/// sealed.
pub fn conflict(place: &Place, device: &Device, bytes_max: usize) -> Result<Place, Failure> {
    place.free(copies::of_conflict(place.name(), device, bytes_max))
}

/// The plain folder's trash: a folder for each time that something goes there.
pub struct Trash(PathBuf);

impl Trash {
    pub fn now() -> Self {
        Self(Path::new(FOLDER).join(TRASH).join(date(keys::now())))
    }

    /// A place for what lies at `path`.
    pub fn place(&self, plain: &Tree, path: &str) -> Result<Place, Failure> {
        let place = plain.make_at(&self.0.join(path))?;
        if place.stamp()?.is_none() {
            Ok(place)
        } else {
            place.free(copies::names(place.name(), "earlier".to_owned(), NAME_BYTES_MAX))
        }
    }

    /// Removes what went there more than so many days ago.
    pub fn empty(plain: &Tree, days: u64) -> Result<(), Failure> {
        let trash = plain.path.join(FOLDER).join(TRASH);
        let oldest = date(keys::now().saturating_sub(days * DAY_SECONDS));
        let is_older =
            |name: &OsStr| name.to_str().is_some_and(|name| name.len() == oldest.len() && *name < *oldest);
        let Ok(entries) = fs::read_dir(&trash) else { return Ok(()) };
        let older = entries.flatten().filter(|entry| is_older(&entry.file_name())).map(|entry| entry.path());
        older.into_iter().try_for_each(|folder| {
            fs::remove_dir_all(&folder).map_err(|error| Failure::at(folder.display(), &error))
        })
    }
}
