//! Changing who may open a sealed file, where it lies.
//!
//! The payload does not depend on the header's stanzas, so another header of the same length can take its place. Before
//! that, both are kept beside the file: whatever happens in between, it is known what was there and what was to be.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use keyhearth_sys::filesystem;

use crate::Error;
use crate::age::{HEADER_BYTES_MAX, Header};

/// What a disk writes whole or not at all, in bytes.
const SECTOR_BYTES: usize = 512;

/// Where the header before and the one after it are kept while the one takes the place of the other.
fn kept(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".header");
    path.with_file_name(name)
}

/// The file at `path`, which nobody else changes by these functions meanwhile.
fn locked(path: &Path) -> Result<File, Error> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    file.try_lock().map_err(|_| Error::Changed)?;
    // Whoever had the lock before may have put another file in its place.
    is_at(&file, path).map(|()| file)
}

/// Refuses a file that does not lie at `path` any more.
fn is_at(file: &File, path: &Path) -> Result<(), Error> {
    let (ours, named) = (file.metadata()?, path.metadata()?);
    if (ours.dev(), ours.ino()) == (named.dev(), named.ino()) { Ok(()) } else { Err(Error::Changed) }
}

/// Puts `header` in place of that of the sealed file at `path`, which has the same length.
///
/// # Errors
/// [`Error::Invalid`] if their lengths differ: [`copy_behind`] is for that. [`Error::Changed`] if the file's header is no longer `before`,
/// somebody else works on it, or it was replaced meanwhile; [`Error::Io`]. After an error or a crash the file has the one header or
/// the other, if need be once [`recover`] was called.
pub fn replace_header(path: &Path, before: &Header, header: &Header) -> Result<(), Error> {
    let (old, new) = (before.to_text(), header.to_text());
    if old.len() != new.len() {
        return Err(Error::Invalid("a header is replaced by one of its length"));
    }
    let file = locked(path)?;
    check_header(&file, &old)?;
    let kept = kept(path);
    let mut keeping = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&kept)?;
    keeping.write_all(old.as_bytes())?;
    keeping.write_all(new.as_bytes())?;
    keeping.sync_all()?;
    filesystem::synchronise_name(&keeping, &kept)?;
    file.write_all_at(new.as_bytes(), 0)?;
    file.sync_all()?;
    fs::remove_file(&kept)?;
    filesystem::synchronise_name(&keeping, &kept)?;
    is_at(&file, path)
}

/// Writes what the sealed file `source` has behind its header into `output`, an empty file, behind `header`.
///
/// # Errors
/// [`Error::Changed`] if its header is not `before`; [`Error::Io`].
pub fn copy_behind(
    mut source: &File,
    before: &Header,
    header: &Header,
    mut output: &File,
) -> Result<(), Error> {
    let old = before.to_text();
    check_header(source, &old)?;
    source.seek(SeekFrom::Start(old.len() as u64))?;
    output.write_all(header.to_text().as_bytes())?;
    io::copy(&mut source, &mut output)?;
    Ok(())
}

fn check_header(file: &File, header: &str) -> Result<(), Error> {
    let mut found = vec![0; header.len()];
    file.read_exact_at(&mut found, 0)?;
    if found == header.as_bytes() { Ok(()) } else { Err(Error::Changed) }
}

/// Ends a replacement of the header of the file at `path` that was interrupted: puts back the header before, if the file
/// has some of it and some of the other; gives whether it did.
///
/// # Errors
/// [`Error::Invalid`] if what was kept is of neither this file before nor after, and nothing is changed;
/// [`Error::Changed`] if somebody else works on it; [`Error::Io`].
pub fn recover(path: &Path) -> Result<bool, Error> {
    let kept = kept(path);
    if !kept.try_exists()? {
        return Ok(false);
    }
    let file = locked(path)?;
    let mut both = Vec::new();
    match File::open(&kept) {
        Ok(file) => file.take(2 * HEADER_BYTES_MAX as u64 + 1).read_to_end(&mut both)?,
        // Who had the lock before has come to the end.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let (old, new) = both.split_at(both.len() / 2);
    let is_whole = |text| Header::read(text).is_ok_and(|(_, rest)| rest.is_empty());
    // Cut short it was being kept still, and the file is as it was.
    let mut is_mixed = false;
    if is_whole(old) && is_whole(new) && old.len() == new.len() {
        let mut found = vec![0; old.len()];
        let len = crate::chunks::fill(&mut &file, &mut found)?;
        let sectors = || {
            let sectors = found[..len].chunks(SECTOR_BYTES).zip(old.chunks(SECTOR_BYTES));
            sectors.zip(new.chunks(SECTOR_BYTES)).map(|((found, old), new)| (found == old, found == new))
        };
        if len < old.len() || sectors().any(|is| is == (false, false)) {
            return Err(Error::Invalid(
                "the header kept beside it (.NAME.header) is of another file: remove it",
            ));
        }
        is_mixed = !sectors().all(|(is_old, _)| is_old) && !sectors().all(|(_, is_new)| is_new);
        if is_mixed {
            file.write_all_at(old, 0)?;
            file.sync_all()?;
        }
    }
    fs::remove_file(&kept)?;
    filesystem::synchronise_name(&file, path)?;
    Ok(is_mixed)
}
