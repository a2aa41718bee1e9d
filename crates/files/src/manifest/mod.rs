//! What lies in a folder of sealed files, and what differs from that.
//!
//! A manifest is a join-semilattice: of every path it has what was said of it last and what that came after, and
//! [`Manifest::join`] of two is what both know, in any order and however often. So devices that write at the same time
//! lose nothing: a sync service keeps both files, and whoever reads them joins them. What two devices said without knowing
//! of each other is a conflict, however often each of them spoke, until somebody says something who knows of both. The
//! fronts of earlier versions are also those by which an older file is known as one.
//!
//! How it is written and signed: [`Signed`] and `docs/formats/manifest.md`. What is wrong in a folder: [`compare`]. Not
//! here: keys and walking through folders.

mod compare;
mod observe;
#[cfg(test)]
mod tests;
mod text;

pub use compare::{Finding, Kind, compare};
pub use observe::{Observed, observe};
pub use text::{Malformed, Signed, Statement};

use std::borrow::Borrow;
use std::collections::btree_map::Entry as Place;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::held::FileId;
use crate::hex;
use crate::names::Names;

/// The folder that manifests lie in, inside the one they are of.
pub const FOLDER: &str = ".keyhearth";
/// The longest manifest that is read, in bytes: about 200,000 files.
pub const MANIFEST_BYTES_MAX: usize = 64 << 20;
/// The longest path inside a folder, in bytes.
pub const PATH_BYTES_MAX: usize = 4096;
/// The longest name of a device, in bytes.
pub const DEVICE_BYTES_MAX: usize = 64;
/// Earlier versions that are kept of one path.
pub const EARLIER_MAX: usize = 16;
/// The last version of a path. Nobody gets there by counting.
const VERSION_MAX: u64 = 1 << 53;

hex::digits! {
    /// What a folder is, wherever it lies: 16 random bytes, 32 hexadecimal digits.
    FolderId = "keyhearth/folder-id"
}

/// A path inside a folder: names with `/` between them, 1 to 4,096 bytes of UTF-8 without control characters. It leads
/// nowhere else, and not to manifests.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InsidePath(String);

impl InsidePath {
    /// Checks it.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let is_name = |name: &str| !matches!(name, "" | "." | "..");
        let is_path = text.len() <= PATH_BYTES_MAX
            && !text.contains(char::is_control)
            && text.split('/').all(is_name)
            && text.split('/').next() != Some(FOLDER);
        is_path.then(|| Self(text.to_owned()))
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for InsidePath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// By what name a machine is known to people: 1 to 64 bytes of visible ASCII. Nothing rests on it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Device(String);

impl Device {
    /// Checks it.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let is_device =
            (1..=DEVICE_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_device.then(|| Self(text.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a payload begins with, hashed: it tells sealings apart without reading them whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Front([u8; 16]);

impl fmt::Display for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::write(&self.0, f)
    }
}

/// SHA-256 of a whole payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hash([u8; 32]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::write(&self.0, f)
    }
}

/// A sealed file, whatever its header: that is rewritten when who may open it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Content {
    /// What its payload begins with.
    pub front: Front,
    /// All of its payload.
    pub hash: Hash,
    /// Bytes of its payload.
    pub payload_bytes: u64,
    /// Its own id, if it has one of ours.
    pub file: Option<FileId>,
}

/// What one device said of a path at one version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// What lies there; `None` if it was deleted.
    pub content: Option<Content>,
    /// When that was recorded, in seconds since 1970, by the device's clock.
    pub when: u64,
    /// Who recorded it.
    pub device: Device,
}

/// One version of a path, as those know it that came after it: which, and the front of what lay there; none if nothing did.
type Earlier = (u64, Option<Front>);

/// What is known of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What was said and nobody knew when they said something newer: never empty. One, unless there is a conflict. The
    /// highest version of a path is one of these.
    newest: BTreeSet<(u64, Record)>,
    /// What the newest came after: the last versions. All up to the oldest of them are known if there are as many as are
    /// kept.
    earlier: BTreeSet<Earlier>,
}

impl Entry {
    /// The highest version: 1 or more.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.newest.last().map_or(0, |(version, _)| *version)
    }

    /// What was said last: one record, or several that did not know of each other.
    pub fn newest(&self) -> impl Iterator<Item = &Record> {
        self.newest.iter().map(|(_, record)| record)
    }

    /// The fronts of everything that is kept of the path.
    pub fn fronts(&self) -> impl Iterator<Item = Front> {
        let newest = self.newest().filter_map(|record| record.content.map(|content| content.front));
        newest.chain(self.earlier.iter().filter_map(|(_, front)| *front))
    }

    /// What lies there, if all agree.
    fn agreed(&self) -> Option<&Option<Content>> {
        let mut contents = self.newest().map(|record| &record.content);
        let first = contents.next()?;
        contents.all(|content| content == first).then_some(first)
    }

    fn was(&self, front: Front) -> bool {
        self.earlier.iter().any(|(_, earlier)| *earlier == Some(front))
    }

    /// Up to this version everything is known, though it is not kept.
    fn known_to(&self) -> u64 {
        if self.earlier.len() < EARLIER_MAX {
            0
        } else {
            self.earlier.first().map_or(0, |(version, _)| *version)
        }
    }

    fn join(&mut self, mut other: Self) {
        self.newest.append(&mut other.newest);
        self.earlier.append(&mut other.earlier);
        self.settle();
    }

    /// Leaves of the newest what is not known to others of them, and of the earlier as many as are kept.
    fn settle(&mut self) {
        while self.earlier.len() > EARLIER_MAX {
            self.earlier.pop_first();
        }
        let known_to = self.known_to();
        let Self { newest, earlier } = self;
        newest.retain(|said| said.0 > known_to && !earlier.contains(&as_earlier(said)));
    }
}

fn as_earlier((version, record): &(u64, Record)) -> Earlier {
    (*version, record.content.map(|content| content.front))
}

/// What lies in a folder, and what lay there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Which folder.
    pub folder: FolderId,
    /// By what its names are encrypted ([`crate::names`]), if they are.
    pub names: Option<Names>,
    entries: BTreeMap<InsidePath, Entry>,
}

impl Manifest {
    /// Of an empty folder.
    #[must_use]
    pub fn new(folder: FolderId) -> Self {
        Self { folder, names: None, entries: BTreeMap::new() }
    }

    /// What is known of each path, in their order.
    pub fn entries(&self) -> impl Iterator<Item = (&InsidePath, &Entry)> {
        self.entries.iter()
    }

    /// How many files lie there; those in conflict count.
    #[must_use]
    pub fn files(&self) -> usize {
        let is_file = |entry: &&Entry| entry.newest().any(|record| record.content.is_some());
        self.entries.values().filter(is_file).count()
    }

    /// What both know. Commutative, associative and idempotent; of another folder nothing is taken.
    #[must_use]
    pub fn join(mut self, other: Self) -> Self {
        if other.folder != self.folder {
            return self;
        }
        self.names = self.names.max(other.names);
        for (path, entry) in other.entries {
            match self.entries.entry(path) {
                Place::Vacant(place) => {
                    place.insert(entry);
                }
                Place::Occupied(mut known) => known.get_mut().join(entry),
            }
        }
        self
    }

    /// Paths of which `other` knows something that this one does not: this one is older there.
    pub fn behind<'m>(&'m self, other: &'m Self) -> impl Iterator<Item = &'m InsidePath> {
        let knows_more = |(path, theirs): &(&InsidePath, &Entry)| {
            self.entries.get(*path).is_none_or(|ours| {
                let mut joined = ours.clone();
                joined.join((*theirs).clone());
                joined != *ours
            })
        };
        other.entries.iter().filter(knows_more).map(|(path, _)| path)
    }

    /// What is known of a path.
    #[must_use]
    pub fn at(&self, path: &InsidePath) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// Takes note of what lies at `path` now, as its next version; ends a conflict. Gives whether that is new.
    pub fn record(&mut self, path: InsidePath, record: Record) -> bool {
        self.record_over(path, |_| true, record)
    }

    /// Takes note of what was put at `path` in place of what is `seen`, as its next version: what others recorded and
    /// who put it there had not seen stays, as a conflict with it. Gives whether that is new.
    pub fn record_over(
        &mut self,
        path: InsidePath,
        seen: impl Fn(Option<&Content>) -> bool,
        record: Record,
    ) -> bool {
        let mut entry = match self.entries.get(&path) {
            Some(entry) => entry.clone(),
            None if record.content.is_none() => return false,
            None => Entry { newest: BTreeSet::new(), earlier: BTreeSet::new() },
        };
        let is_over =
            |said: &&(u64, Record)| said.1.content == record.content || seen(said.1.content.as_ref());
        let over: Vec<_> = entry.newest.iter().filter(is_over).cloned().collect();
        if !over.is_empty() && over.iter().all(|(_, over)| over.content == record.content) {
            return false;
        }
        let version = entry.version() + 1;
        entry.newest.retain(|said| !over.contains(said));
        entry.earlier.extend(over.iter().map(as_earlier));
        entry.newest.insert((version, record));
        entry.settle();
        self.entries.insert(path, entry);
        true
    }
}
