//! Reports through configfs-tsm: a folder is made, the data written into it, the report read from it.
//!
//! Source: Linux, Documentation/ABI/testing/configfs-tsm-report.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::Collected;

/// The longest report or table of certificates.
const BLOB_BYTES_MAX: u64 = 512 << 10;

/// A folder for one report, which is gone when this is dropped.
struct Entry(PathBuf);

impl Entry {
    fn make(reports: &Path) -> io::Result<Self> {
        let path = reports.join(format!("keyhearth-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.0.join(name))?.take(BLOB_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn text(&self, name: &str) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&self.read(name)?).trim().to_owned())
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // What stays costs the kernel a little memory, and the next name is another one.
        let _ = fs::remove_dir(&self.0);
    }
}

/// Which hardware reports here.
pub(super) fn provider(reports: &Path) -> io::Result<String> {
    Entry::make(reports)?.text("provider")
}

/// A report of `provider` that carries `report_data`.
pub(super) fn report(reports: &Path, provider: &str, report_data: &[u8; 64]) -> io::Result<Collected> {
    let entry = Entry::make(reports)?;
    let found = entry.text("provider")?;
    if found != provider {
        return Err(io::Error::other(format!("the reports here are those of {found}")));
    }
    fs::write(entry.0.join("inblob"), report_data)?;
    // The number changes with everything that is written: nobody else wrote meanwhile.
    let generation = entry.text("generation")?;
    let evidence = entry.read("outblob")?;
    let table = entry.read("auxblob").unwrap_or_default();
    if entry.text("generation")? != generation {
        return Err(io::Error::other("somebody else asked for a report at the same time"));
    }
    let endorsements = Some(table).filter(|table| !table.is_empty());
    Ok(Collected { evidence: Some(evidence), endorsements: endorsements.into_iter().collect() })
}
