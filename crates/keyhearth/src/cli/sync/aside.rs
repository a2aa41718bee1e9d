//! Where versions go that make room for others: conflicts beside the file, for people to see; the rest into the plain folder's
//! trash, for a while.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use keyhearth_core::time::Time;
use keyhearth_files::manifest::{Device, FOLDER};
use keyhearth_proto::rest::Is;

use super::super::failure::Failure;
use super::super::file::keys;
use super::super::file::place::Place;
use super::super::output;
use super::tree::Tree;

/// Names that are tried.
const TRIES_MAX: u32 = 1000;
/// The longest name that filesystems have, in bytes.
const NAME_MAX: usize = 255;
const TRASH: &str = "trash";
const DAY_SECONDS: u64 = 24 * 60 * 60;

/// `2026-11-21 23.45.10`
fn date(seconds: u64) -> String {
    let date = Is(Time::from_unix_ms(seconds.saturating_mul(1000))).to_string();
    output::moment(&date).replace('T', " ").replace(':', ".").replace('Z', "")
}

/// A place beside a file for a version of it that another one made room for: `NAME (conflict DATE DEVICE).ext`, of at most so
/// many bytes, so that it can be sealed.
pub fn conflict(place: &Place, device: &Device, bytes_max: usize) -> Result<Place, Failure> {
    // What a device is called may have a slash; a file's name may not.
    let words = format!("conflict {} {}", date(keys::now()), device.as_str().replace('/', "-"));
    place.free(names(place.name(), &words, bytes_max))
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
            place.free(names(place.name(), "earlier", NAME_MAX))
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

/// `NAME (WORDS).ext`, and then `NAME (WORDS 1).ext` and so on.
fn names(name: &OsStr, words: &str, bytes_max: usize) -> impl Iterator<Item = OsString> {
    let name = name.to_string_lossy().into_owned();
    let (stem, suffix) = match name.rfind('.') {
        Some(at) if at > 0 => name.split_at(at),
        Some(_) | None => (&*name, ""),
    };
    let (stem, suffix, words) = (stem.to_owned(), suffix.to_owned(), words.to_owned());
    (0..TRIES_MAX).map(move |number| {
        let number = if number == 0 { String::new() } else { format!(" {number}") };
        let rest = format!(" ({words}{number}){suffix}");
        let room = bytes_max.saturating_sub(rest.len());
        format!("{}{rest}", &stem[..stem.floor_char_boundary(room)]).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_keeps_its_suffix_and_says_what_it_is() {
        let made =
            |given: &str, number| names(OsStr::new(given), "conflict desk-2", 144).nth(number).unwrap();
        assert_eq!(made("report.pdf", 0), "report (conflict desk-2).pdf");
        assert_eq!(made("Makefile", 1), "Makefile (conflict desk-2 1)");
        assert_eq!(made(".profile", 0), ".profile (conflict desk-2)");
        let long = made(&format!("{}.txt", "ä".repeat(125)), 2);
        assert!(long.len() <= 144 && long.to_str().unwrap().ends_with(" (conflict desk-2 2).txt"));
        assert_eq!(date(1_795_304_710), "2026-11-21 23.45.10");
    }
}
