//! Files that are open, each one for all who opened it, and what was written to them and is not saved yet.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use keyhearth_files::held::FileId;
use keyhearth_files::{AnyOpened, Error, Scratch};
use parking_lot::Mutex;

use super::super::super::failure::Failure;
use super::super::failure;
use super::super::place::Stamp;
use super::held::{Digest, digest};
use super::numbers::moved_to;

/// How long after a failure files are saved again; it doubles.
pub const AGAIN: Duration = Duration::from_secs(3);
const AGAIN_MAX: Duration = Duration::from_secs(60);
/// How long nothing is written by who has rested.
const REST: Duration = Duration::from_secs(5);
/// How long who goes on writing keeps from others that what they wrote is saved.
const OWED_MAX: Duration = Duration::from_secs(30);

/// What a file stays when it is saved: grants are for this id under this key.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// The key of the server that wraps the file's key.
    pub key: String,
    pub file: FileId,
}

/// What the server has proved of a header.
#[derive(Clone)]
pub struct Proof {
    /// Each content of a file has a key of its own, and so a header.
    pub header: Digest,
    /// Nothing, if others than the mount's key can open it, too: it is only read then.
    pub alone: Option<Identity>,
}

/// A sealed file as it lies on the disk; its name may go to another.
pub struct Base {
    /// What leases know it by.
    pub id: u64,
    pub sealed: File,
    pub stamp: Mutex<Stamp>,
    pub proof: Mutex<Option<Proof>>,
}

impl Base {
    pub fn new(id: u64, sealed: File, proof: Option<Proof>) -> io::Result<Self> {
        let stamp = Mutex::new(Stamp::of(&sealed.metadata()?));
        Ok(Self { id, sealed, stamp, proof: Mutex::new(proof) })
    }

    /// Reads its header, which must be this one, if any.
    pub fn read(&self, header: Option<Digest>) -> Result<AnyOpened, Failure> {
        let opened = keyhearth_files::open_any(self.sealed.try_clone()?).map_err(failure)?;
        if header.is_some_and(|header| header != digest(&opened)) {
            return Err(failure(Error::Changed));
        }
        Ok(opened)
    }
}

/// What was written, all of it.
pub struct Draft {
    pub scratch: Scratch,
    /// What the file stays when it is saved; a new one if absent.
    pub identity: Option<Identity>,
    /// Whether something of the sealed file is in it, which the server was asked for.
    pub holds_base: bool,
    /// Counts them.
    pub changes: u64,
    /// Those that are saved.
    pub saved: u64,
    pub changed: Instant,
    /// Who has changed it since it was saved, by what each has it open under.
    pub unsaved: HashMap<u64, Writers>,
    /// Why it could not be saved, as it was told last.
    pub told: Option<String>,
    /// Since when somebody believes it saved, or wants it to be, though others still write.
    pub owed: Option<Instant>,
    /// How often in a row it could not be saved, and when that was last.
    pub failures: u32,
    pub failed: Option<Instant>,
}

/// What is shown of a draft, to who does not wait for it.
#[derive(Clone, Copy)]
pub struct Shown {
    /// Bytes of plaintext.
    pub bytes: u64,
    pub modified: SystemTime,
    pub is_unsaved: bool,
}

/// Who writes by one opening: programs, by what the kernel knows them by. One that opened a file for others to write, and
/// closes it, has not written all.
#[derive(Default)]
pub struct Writers {
    pub owners: HashSet<u64>,
    /// Whoever closes it, the kernel did not say who writes.
    pub anybody: bool,
}

impl Writers {
    /// This program closes the file; gives whether it was the last of them.
    pub fn leave(&mut self, owner: u64) -> bool {
        let is_one = self.owners.remove(&owner) || self.anybody;
        is_one && self.owners.is_empty()
    }
}

impl Draft {
    /// Of this content, which is saved already.
    pub fn new(scratch: Scratch, identity: Option<Identity>, holds_base: bool) -> Self {
        Self {
            scratch,
            identity,
            holds_base,
            changes: 0,
            saved: 0,
            changed: Instant::now(),
            unsaved: HashMap::new(),
            told: None,
            owed: None,
            failures: 0,
            failed: None,
        }
    }

    pub fn is_unsaved(&self) -> bool {
        self.changes != self.saved
    }

    /// Whether it is to be saved again though nobody closes it: if nobody writes any more; or if somebody closed it before, or
    /// asked for it, and who still writes has rested, or goes on for long. The more often it failed, the later.
    pub fn is_due(&self) -> bool {
        let is_asked = |since: Instant| since.elapsed() > OWED_MAX || self.changed.elapsed() > REST;
        let wait = (AGAIN * 2u32.saturating_pow(self.failures.saturating_sub(1).min(8))).min(AGAIN_MAX);
        self.is_unsaved()
            && (self.unsaved.is_empty() || self.owed.is_some_and(is_asked))
            && self.failed.is_none_or(|failed| failed.elapsed() >= wait)
    }

    /// Whether it was made empty and nothing was written since: who opens a file anew for another program to write closes it
    /// so.
    pub fn is_made_empty(&self) -> bool {
        self.identity.is_none() && self.scratch.is_empty()
    }

    /// Somebody has changed it by this opening.
    pub fn change(&mut self, handle: u64) -> &mut Writers {
        self.changes += 1;
        self.changed = Instant::now();
        self.unsaved.entry(handle).or_default()
    }
}

/// A file that is open, or could not be saved.
///
/// Locks are taken in this order: `saving`, the tree's, `draft`, `shown`, `base`. `draft` is held for as long as a file is loaded or
/// sealed: who has the tree's does not wait for it then.
pub struct Document {
    pub id: u64,
    /// Held while it is saved.
    pub saving: Mutex<()>,
    pub base: Mutex<Arc<Base>>,
    pub draft: Mutex<Option<Draft>>,
    /// What is shown of the draft, if there is one.
    pub shown: Mutex<Option<Shown>>,
}

impl Document {
    pub fn new(base: Base, draft: Option<Draft>) -> Arc<Self> {
        let (id, base) = (base.id, Mutex::new(Arc::new(base)));
        let document =
            Self { id, saving: Mutex::default(), base, draft: Mutex::default(), shown: Mutex::default() };
        document.set_draft(&mut document.draft.lock(), draft);
        Arc::new(document)
    }

    pub fn base(&self) -> Arc<Base> {
        Arc::clone(&self.base.lock())
    }

    pub fn is_drafted(&self) -> bool {
        self.shown.lock().is_some()
    }

    /// Changes whether there is a draft, and which.
    pub fn set_draft(&self, place: &mut Option<Draft>, draft: Option<Draft>) {
        *place = draft;
        *self.shown.lock() = place.as_ref().map(|draft| Shown {
            bytes: draft.scratch.len(),
            modified: SystemTime::now(),
            is_unsaved: draft.is_unsaved(),
        });
    }

    /// Shows what was written to the draft.
    pub fn show_written(&self, draft: &Draft) {
        let (bytes, is_unsaved) = (draft.scratch.len(), draft.is_unsaved());
        *self.shown.lock() = Some(Shown { bytes, modified: SystemTime::now(), is_unsaved });
    }

    /// Shows that the draft was saved, as far as it was.
    pub fn show_saved(&self, draft: &Draft) {
        if let Some(shown) = self.shown.lock().as_mut() {
            shown.is_unsaved = draft.is_unsaved();
        }
    }

    /// Whether something is not saved.
    pub fn is_unsaved(&self) -> bool {
        self.shown.lock().is_some_and(|shown| shown.is_unsaved)
    }
}

/// A document, and how many have it open.
pub struct Placed {
    pub document: Arc<Document>,
    /// Where it is in the folder; nowhere once it was removed or another took its place.
    pub path: Option<PathBuf>,
    pub handles: usize,
    /// Those of them that may write.
    pub writers: usize,
}

/// All documents. Who changes names in the folder holds its lock.
#[derive(Default)]
pub struct Tree(HashMap<u64, Placed>);

impl Tree {
    pub fn insert(&mut self, placed: Placed) {
        self.0.insert(placed.document.id, placed);
    }

    pub fn of(&mut self, document: &Document) -> Option<&mut Placed> {
        self.0.get_mut(&document.id)
    }

    pub fn remove(&mut self, document: &Document) {
        self.0.remove(&document.id);
    }

    /// The document of what is at `path` now; others may be of what was there before.
    pub fn at(&mut self, path: &Path) -> Option<&mut Placed> {
        let at_path = self.0.values_mut().filter(|placed| placed.path.as_deref() == Some(path));
        at_path.max_by_key(|placed| placed.document.id)
    }

    pub fn all(&self) -> Vec<Arc<Document>> {
        self.0.values().map(|placed| Arc::clone(&placed.document)).collect()
    }

    /// Nothing is at `path` any more.
    pub fn clear(&mut self, path: &Path) {
        let gone = self.0.values_mut().filter(|placed| placed.path.as_deref() == Some(path));
        gone.for_each(|placed| placed.path = None);
    }

    /// What was at `from`, and in it, is at `to`.
    pub fn rename(&mut self, from: &Path, to: &Path) {
        self.clear(to);
        for path in self.0.values_mut().filter_map(|placed| placed.path.as_mut()) {
            if path.starts_with(from) {
                *path = moved_to(path, from, to);
            }
        }
    }
}
