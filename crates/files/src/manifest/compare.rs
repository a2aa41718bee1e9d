//! What differs between a manifest and a folder.

use std::collections::{BTreeMap, BTreeSet};

use super::{Content, Entry, Front, InsidePath, Manifest, Observed};

/// What is wrong at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It is not there.
    Missing,
    /// Nobody recorded it.
    Added,
    /// It lies at another path.
    Renamed,
    /// What was recorded for another path lies there.
    Swapped,
    /// What lay there at an earlier version lies there again.
    RolledBack,
    /// Something else lies there.
    Changed,
    /// It was cut, extended or altered.
    Damaged,
    /// Devices recorded different things at the same version.
    Conflict,
}

impl Kind {
    /// Its name in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Added => "added",
            Self::Renamed => "renamed",
            Self::Swapped => "swapped",
            Self::RolledBack => "rolled_back",
            Self::Changed => "changed",
            Self::Damaged => "damaged",
            Self::Conflict => "conflict",
        }
    }
}

/// Something that is wrong in a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Where.
    pub path: InsidePath,
    /// What.
    pub kind: Kind,
    /// The path that it has to do with: where the file lies now, or whose file lies there.
    pub other: Option<InsidePath>,
}

/// Everything that is wrong in a folder in which `found` lies, in the order of paths.
#[must_use]
pub fn compare(manifest: &Manifest, found: &BTreeMap<InsidePath, Observed>) -> Vec<Finding> {
    let entry_of = |path: &InsidePath| manifest.entries.get(path);
    let recorded: BTreeMap<Front, &InsidePath> = manifest
        .entries()
        .flat_map(|(path, entry)| contents(entry).map(move |content| (content.front, path)))
        .collect();
    // What lies at paths where nothing should.
    let strays: BTreeMap<&InsidePath, &Observed> = found
        .iter()
        .filter(|(path, _)| entry_of(path).is_none_or(|entry| contents(entry).next().is_none()))
        .collect();
    let by_front: BTreeMap<Front, &InsidePath> =
        strays.iter().map(|(path, file)| (file.front, *path)).collect();
    let mut findings = Vec::new();
    let mut tell = |path: &InsidePath, kind, other: Option<&InsidePath>| {
        findings.push(Finding { path: path.clone(), kind, other: other.cloned() });
    };
    let mut explained = BTreeSet::new();
    for (path, entry) in manifest.entries() {
        if entry.agreed().is_none() {
            tell(path, Kind::Conflict, None);
        }
        let is_deleted = entry.newest().any(|record| record.content.is_none());
        match found.get(path) {
            Some(_) if strays.contains_key(path) => {}
            Some(found) => match at(entry, found) {
                Some(Kind::Changed) if recorded.contains_key(&found.front) => {
                    tell(path, Kind::Swapped, recorded.get(&found.front).copied());
                }
                Some(kind) => tell(path, kind, None),
                None => {}
            },
            None if is_deleted => {}
            None => match contents(entry).find_map(|content| by_front.get(&content.front)) {
                Some(now) => {
                    explained.insert(*now);
                    tell(path, Kind::Renamed, Some(now));
                }
                None => tell(path, Kind::Missing, None),
            },
        }
    }
    for (path, file) in strays.into_iter().filter(|(path, _)| !explained.contains(path)) {
        match entry_of(path) {
            Some(entry) if entry.was(file.front) => tell(path, Kind::RolledBack, None),
            _ => tell(path, Kind::Added, recorded.get(&file.front).copied()),
        }
    }
    findings.sort();
    findings
}

/// What is wrong with a file that lies where one should.
fn at(entry: &Entry, found: &Observed) -> Option<Kind> {
    let mut same_front = contents(entry).filter(|content| content.front == found.front).peekable();
    if same_front.peek().is_none() {
        return Some(if entry.was(found.front) { Kind::RolledBack } else { Kind::Changed });
    }
    let is_same = |content: &Content| {
        content.payload_bytes == found.payload_bytes
            && content.file == found.file
            && found.hash.is_none_or(|hash| content.hash == hash)
    };
    if same_front.any(is_same) { None } else { Some(Kind::Damaged) }
}

/// What should lie there: several in a conflict, nothing if it was deleted.
fn contents(entry: &Entry) -> impl Iterator<Item = &Content> {
    entry.newest().filter_map(|record| record.content.as_ref())
}
