//! A file put in the place of one that others may replace meanwhile: names are exchanged, and what came out is looked at.

use std::path::Path;
use std::{fs, io};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::Stamp;

/// What came of an exchange.
#[derive(Debug, PartialEq)]
pub enum Exchanged {
    /// What was expected came out, and lies where ours lay.
    Done,
    /// Something else had come to the place, and lies there again; ours lies where it lay.
    Kept,
    /// Nobody knows, or yet another file had taken the place of ours in between: what lies where ours lay may be the only one, and
    /// must stay.
    Unclear,
}

/// Exchanges the file at `ours` with what was `expected` at `place`.
///
/// The commit point is the first exchange: a crash before it leaves each file where it was, a crash after it each where the other was.
///
/// # Errors
/// As [`swap`]; ours lies where it lay then.
pub fn exchange(ours: &Path, place: &Path, expected: &Stamp) -> io::Result<Exchanged> {
    let before = Stamp::at(ours)?;
    let first = swap(ours, place)?;
    let lies = || Stamp::at(ours).ok().flatten();
    if first == Exchanged::Unclear || lies().is_some_and(|came| came.has_content_of(expected)) {
        return Ok(first);
    }
    let is_back =
        swap(ours, place).is_ok() && lies().zip(before).is_some_and(|(now, ours)| now.is_file_of(&ours));
    Ok(if is_back { Exchanged::Kept } else { Exchanged::Unclear })
}

/// Exchanges the file at `ours` with whatever is at `place`. A failure that came after the fact is none.
///
/// # Errors
/// The error of renameat2(2); ours lies where it lay then. [`cannot`] tells whether the filesystem does not exchange names.
pub fn swap(ours: &Path, place: &Path) -> io::Result<Exchanged> {
    let before = Stamp::at(ours)?.ok_or(io::ErrorKind::NotFound)?;
    let Err(error) = renameat_with(CWD, ours, CWD, place, RenameFlags::EXCHANGE) else {
        return Ok(Exchanged::Done);
    };
    match Stamp::at(ours).ok().flatten() {
        Some(now) if now.is_file_of(&before) => Err(error.into()),
        Some(_) => Ok(Exchanged::Done),
        None => Ok(Exchanged::Unclear),
    }
}

/// Whether the filesystem has no such way to rename.
pub fn cannot(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}

/// Renames what is at `from` to a name that nothing has.
///
/// # Errors
/// The error of renameat2(2).
pub fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some filesystems can not promise to replace nothing; a look comes close.
        Err(Errno::INVAL) if Stamp::at(to)?.is_none() => fs::rename(from, to),
        Err(Errno::INVAL) => Err(io::ErrorKind::AlreadyExists.into()),
        renamed => Ok(renamed?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_exchanged_with_nothing_and_nothing_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("there"), "there").unwrap();
        let kind = |done: io::Result<Exchanged>| done.map_err(|error| error.kind());
        assert_eq!(kind(swap(&path("gone"), &path("there"))), Err(io::ErrorKind::NotFound));
        assert_eq!(kind(swap(&path("there"), &path("gone"))), Err(io::ErrorKind::NotFound));
        fs::write(path("ours"), "ours").unwrap();
        let taken = rename_new(&path("ours"), &path("there")).map_err(|error| error.kind());
        assert_eq!(taken, Err(io::ErrorKind::AlreadyExists));
        assert_eq!(kind(swap(&path("ours"), &path("there"))), Ok(Exchanged::Done));
        assert_eq!(fs::read_to_string(path("there")).unwrap(), "ours");
        let other = Stamp::at(folder.path()).unwrap().unwrap();
        assert_eq!(kind(exchange(&path("ours"), &path("there"), &other)), Ok(Exchanged::Kept));
        assert_eq!(fs::read_to_string(path("there")).unwrap(), "ours");
    }
}
