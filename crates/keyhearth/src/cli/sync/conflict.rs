//! The name of a version that was changed while another device changed the same file.

use std::fs;
use std::path::Path;

use keyhearth_core::time::Time;
use keyhearth_files::manifest::Device;
use keyhearth_proto::rest::Is;

use super::super::failure::Failure;
use super::super::file::keys;
use super::super::output;

/// Names that are tried.
const TRIES_MAX: u32 = 1000;

/// Moves a file aside, visibly: `NAME (conflict DATE DEVICE).ext` in the same folder. Gives that name.
pub fn move_aside(place: &Path, device: &Device) -> Result<String, Failure> {
    let date = Is(Time::from_unix_ms(keys::now().saturating_mul(1000))).to_string();
    let date = output::moment(&date).replace('T', " ").replace(':', ".").replace('Z', "");
    for number in 0..TRIES_MAX {
        let name =
            name(&place.file_name().unwrap_or_default().to_string_lossy(), &date, device.as_str(), number);
        let aside = place.with_file_name(&name);
        if aside.symlink_metadata().is_err() {
            fs::rename(place, &aside).map_err(|error| Failure::at(place.display(), &error))?;
            return Ok(name);
        }
    }
    Err(Failure::new("every name for another version is taken", "remove some of them"))
}

fn name(name: &str, date: &str, device: &str, number: u32) -> String {
    // What a device is called may have a slash; a file's name may not.
    let device = device.replace('/', "-");
    let number = if number == 0 { String::new() } else { format!(" {number}") };
    let (stem, suffix) = match name.rfind('.') {
        Some(at) if at > 0 => name.split_at(at),
        Some(_) | None => (name, ""),
    };
    format!("{stem} (conflict {date} {device}{number}){suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_version_keeps_its_suffix_and_says_whose_it_is() {
        let made = |given, number| name(given, "2026-11-21 23.45.10", "desk/2", number);
        assert_eq!(made("report.pdf", 0), "report (conflict 2026-11-21 23.45.10 desk-2).pdf");
        assert_eq!(made("Makefile", 1), "Makefile (conflict 2026-11-21 23.45.10 desk-2 1)");
        assert_eq!(made(".profile", 0), ".profile (conflict 2026-11-21 23.45.10 desk-2)");
    }
}
