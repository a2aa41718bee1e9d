//! Names for other versions of a file, beside it.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use keyhearth_core::time::Time;
use keyhearth_files::manifest::Device;
use keyhearth_proto::rest::Is;

use super::super::super::output;
use super::super::keys;

/// The longest ending that a copy keeps at its end, in bytes.
const EXTENSION_BYTES_MAX: usize = 32;
/// Names that are tried.
const COPIES_MAX: u32 = 1000;

/// `2026-11-21 23.45.10`
pub fn date(seconds: u64) -> String {
    let date = Is(Time::from_unix_ms(seconds.saturating_mul(1000))).to_string();
    output::moment(&date).replace('T', " ").replace(':', ".").replace('Z', "")
}

/// Names for a version of a file that another one made room for, or had no room: `NAME (conflict DATE DEVICE).ext`.
pub fn of_conflict(name: &OsStr, device: &Device, bytes_max: usize) -> impl Iterator<Item = OsString> {
    // What a device is called may have a slash; a file's name may not.
    let words = format!("conflict {} {}", date(keys::now()), device.as_str().replace('/', "-"));
    names(name, words, bytes_max)
}

/// `NAME (WORDS).ext`, then `NAME (WORDS 2).ext` and so on; what would have more than so many bytes is cut.
pub fn names(name: &OsStr, words: String, bytes_max: usize) -> impl Iterator<Item = OsString> {
    let path = Path::new(name);
    let extension = path.extension().filter(|extension| extension.len() <= EXTENSION_BYTES_MAX);
    let stem = extension.and_then(|_| path.file_stem()).unwrap_or(name).to_owned();
    let extension =
        extension.map(|extension| format!(".{}", extension.to_string_lossy())).unwrap_or_default();
    (1..=COPIES_MAX).map(move |number| {
        let number = if number == 1 { String::new() } else { format!(" {number}") };
        let end = format!(" ({words}{number}){extension}");
        let room = bytes_max.saturating_sub(end.len());
        let mut copy = stem.clone();
        if copy.len() > room {
            let stem = stem.to_string_lossy();
            copy = stem[..stem.floor_char_boundary(room)].into();
        }
        copy.push(end);
        copy
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_keeps_its_suffix_and_says_what_it_is() {
        let made = |given: &str, number| {
            let name = names(OsStr::new(given), "conflict desk-2".to_owned(), 144).nth(number).unwrap();
            name.into_string().unwrap()
        };
        assert_eq!(made("report.pdf", 0), "report (conflict desk-2).pdf");
        assert_eq!(made("Makefile", 1), "Makefile (conflict desk-2 2)");
        assert_eq!(made(".profile", 0), ".profile (conflict desk-2)");
        let long = made(&format!("{}.txt", "ä".repeat(125)), 2);
        assert!(long.len() <= 144 && long.ends_with("ä (conflict desk-2 3).txt"));
        let dotted = made(&format!("a.{}", "x".repeat(240)), 0);
        assert!(dotted.len() <= 144 && dotted.starts_with("a.x"));
        assert_eq!(date(1_795_304_710), "2026-11-21 23.45.10");
    }
}
