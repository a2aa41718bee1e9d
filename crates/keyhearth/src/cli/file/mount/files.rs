//! What is open: sealed files whose keys the server gives for a while.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use fuser::Errno;
use keyhearth_files::held::Wrapped;
use keyhearth_files::manifest::Device;
use keyhearth_files::{AnyOpened, Error, Reader};
use keyhearth_sys::clock::boottime_ms;
use parking_lot::{Condvar, Mutex};

use super::super::super::failure::Failure;
use super::super::super::output;
use super::super::super::session::Server;
use super::super::failure;
use super::super::open::Opener;
use super::super::place::Stamp;
use super::super::place::beneath::Folder;
use super::documents::{Base, Document, Identity, Placed, Proof, Shown, Tree};
use super::held::{Digest, Held, digest};
use super::leases::{Leased, Leases};
use super::numbers::Numbers;
use super::shown::{Entry, ShownRoot};

/// Files whose lengths are remembered, and of which it is remembered what was opened last.
const FILES_MAX: usize = 64 * 1024;

/// Why some files are only read.
pub const READ_ONLY: &str = "only files of age that are for the mount's key alone are written";

/// What is said of a file or folder.
pub struct Seen {
    pub is_folder: bool,
    /// Bytes of plaintext, as the header says it.
    pub bytes: u64,
    pub modified: SystemTime,
    pub changed: SystemTime,
}

/// A file that a program has open.
pub struct Handle {
    /// What the kernel knows the file by.
    pub number: u64,
    pub document: Arc<Document>,
    pub writes: bool,
}

/// What a file is opened for.
#[derive(Clone, Copy)]
pub struct Wanted {
    /// To write, too.
    pub writes: bool,
    /// As an empty one.
    pub cut: bool,
}

/// The folder, and what is open in it.
pub struct Files {
    pub root: ShownRoot,
    pub server: Server,
    /// What new files are sealed under; without it nothing is written.
    pub key: Option<String>,
    /// By what name people know this machine.
    pub device: Device,
    /// The ids of what that has named since the mount began: files under these are written, others only read.
    pub keys: Mutex<HashSet<String>>,
    pub numbers: Mutex<Numbers>,
    /// By what the kernel knows an opening by: each is of the file as it was then.
    pub open: Mutex<HashMap<u64, Arc<Handle>>>,
    next: AtomicU64,
    /// How long the server's word holds for a file that is open, in milliseconds.
    lease_ms: u64,
    pub leases: Leases,
    /// What opens without the server, if anything does.
    pub held: Option<Held>,
    /// Lengths of plaintext, by device and number of the sealed file.
    lengths: Mutex<HashMap<(u64, u64), (Stamp, u64)>>,
    pub tree: Mutex<Tree>,
    /// What lay there when a file was opened or saved here last.
    pub known: Mutex<HashMap<PathBuf, Stamp>>,
    /// Whether the mount has ended.
    pub is_over: Mutex<bool>,
    pub over: Condvar,
}

impl Files {
    pub fn new(
        root: ShownRoot,
        server: Server,
        (key, device): (Option<String>, Device),
        lease: Duration,
        held: Option<Held>,
    ) -> Self {
        Self {
            root,
            server,
            key,
            device,
            keys: Mutex::default(),
            numbers: Mutex::new(Numbers::new()),
            open: Mutex::default(),
            next: AtomicU64::new(1),
            lease_ms: u64::try_from(lease.as_millis()).unwrap_or(u64::MAX),
            leases: Leases::new(),
            held,
            lengths: Mutex::default(),
            tree: Mutex::default(),
            known: Mutex::default(),
            is_over: Mutex::default(),
            over: Condvar::new(),
        }
    }

    /// The path of what the kernel knows by this number.
    pub fn path(&self, number: u64) -> Result<PathBuf, Errno> {
        self.numbers.lock().path(number).map(Path::to_owned).ok_or(Errno::ENOENT)
    }

    /// What was never given.
    pub fn next(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// What lies at `path`, with what was written to it.
    pub fn see(&self, path: &Path) -> Result<Seen, Errno> {
        let document = self.tree.lock().at(path).map(|placed| Arc::clone(&placed.document));
        if let Some(seen) = document.and_then(|document| see_draft(&document)) {
            return Ok(seen);
        }
        let (folder, name) = parts(path);
        let folder = self.root.folder(folder)?;
        if name.is_empty() {
            return Ok(seen(&folder.metadata()?, None));
        }
        match folder.find(name)?.ok_or(Errno::ENOENT)? {
            Entry::Folder(_) => Ok(seen(&self.root.folder(path)?.metadata()?, None)),
            Entry::File(sealed) => self.see_file(folder.open(&sealed)?),
        }
    }

    fn see_file(&self, file: File) -> Result<Seen, Errno> {
        let metadata = file.metadata()?;
        let stamp = Stamp::of(&metadata);
        let place = stamp.place();
        let known = self.lengths.lock().get(&place).filter(|(of, _)| *of == stamp).map(|(_, bytes)| *bytes);
        let bytes = known.unwrap_or_else(|| {
            let bytes = plaintext_bytes(file);
            remember(&mut self.lengths.lock(), place, (stamp, bytes));
            bytes
        });
        Ok(seen(&metadata, Some(bytes)))
    }

    /// Opens a file as it is now: the server is asked for its key. Gives what it is open under.
    pub fn open(&self, number: u64, wanted: Wanted) -> Result<u64, Errno> {
        if wanted.writes && self.key.is_none() {
            return Err(Errno::EROFS);
        }
        let path = self.path(number)?;
        let document = self.enter(&path, wanted.writes)?;
        let handle = self.hold(number, document, wanted.writes);
        match self.admit(handle, wanted) {
            Ok(stamp) => {
                remember(&mut self.known.lock(), path, stamp);
                Ok(handle)
            }
            Err(error) => {
                self.close(handle);
                Err(error)
            }
        }
    }

    /// The document of the file at `path`, for one more: that which is open, unless another file lies there by now.
    fn enter(&self, path: &Path, writes: bool) -> Result<Arc<Document>, Errno> {
        let (folder, name) = parts(path);
        let mut tree = self.tree.lock();
        let folder = self.root.folder(folder)?;
        let sealed = match folder.find(name)? {
            Some(Entry::File(sealed)) => Some(sealed),
            Some(Entry::Folder(_)) | None => None,
        };
        let lying = sealed.as_ref().map_or(Ok(None), |sealed| folder.stamp(sealed))?;
        let is_there = |placed: &&mut Placed| {
            let base = placed.document.base();
            placed.document.is_drafted()
                || lying.is_some_and(|lying| lying.has_content_of(&base.stamp.lock()))
        };
        if let Some(placed) = tree.at(path).filter(is_there) {
            placed.handles += 1;
            placed.writers += usize::from(writes);
            return Ok(Arc::clone(&placed.document));
        }
        let sealed = sealed.ok_or(Errno::ENOENT)?;
        let document = Document::new(Base::new(self.next(), folder.open(&sealed)?, None)?, None);
        let placed = Placed {
            document: Arc::clone(&document),
            path: Some(path.to_owned()),
            handles: 1,
            writers: usize::from(writes),
        };
        tree.insert(placed);
        Ok(document)
    }

    /// Gives what a document is open under; it counts as open already.
    pub fn hold(&self, number: u64, document: Arc<Document>, writes: bool) -> u64 {
        let handle = self.next();
        self.open.lock().insert(handle, Arc::new(Handle { number, document, writes }));
        handle
    }

    /// Asks whether the file may be read, and written; gives its stamp.
    fn admit(&self, handle: u64, wanted: Wanted) -> Result<Stamp, Errno> {
        let document = &self.held(handle)?.document;
        let base = document.base();
        if wanted.writes && !document.is_drafted() && !self.is_written(&base.sealed) {
            return Err(self.tell_read_only(document));
        }
        {
            let mut proof = base.proof.lock();
            self.ask(&base, &mut proof).map_err(|refusal| self.tell(document, &refusal))?;
        }
        if wanted.writes && wanted.cut {
            self.cut(handle, 0)?;
        }
        Ok(*base.stamp.lock())
    }

    /// Closes what was opened; what was written by it and is not saved is saved now, if nobody else writes.
    pub fn close(&self, handle: u64) {
        // Whom could it be told? It is told on standard error, and tried again.
        let _ = self.has_written(handle);
        let Some(open) = self.open.lock().remove(&handle) else { return };
        if let Some(placed) = self.tree.lock().of(&open.document) {
            placed.handles -= 1;
            placed.writers -= usize::from(open.writes);
        }
        self.settle(&open.document);
    }

    /// Wipes what is needed no more of a document.
    pub fn settle(&self, document: &Document) {
        let mut tree = self.tree.lock();
        let Some(placed) = tree.of(document).filter(|placed| placed.writers == 0) else { return };
        // Who saves it now does this later.
        let draft =
            if document.is_drafted() { document.draft.try_lock() } else { Some(document.draft.lock()) };
        let Some(mut draft) = draft else { return };
        let is_gone = placed.path.is_none();
        if !is_gone && draft.as_ref().is_some_and(|draft| draft.is_unsaved()) {
            return;
        }
        if placed.handles == 0 || !is_gone {
            document.set_draft(&mut draft, None);
        }
        if placed.handles == 0 {
            self.leases.end(document.base().id);
            tree.remove(document);
        }
    }

    /// What is open, whatever has its name now.
    pub fn see_open(&self, handle: u64) -> Result<Seen, Errno> {
        let document = &self.held(handle)?.document;
        see_draft(document).map_or_else(|| self.see_file(document.base().sealed.try_clone()?), Ok)
    }

    /// What has no name any more and is open.
    pub fn see_nameless(&self, number: u64) -> Result<Seen, Errno> {
        let open = self.open.lock().iter().find(|(_, open)| open.number == number).map(|(handle, _)| *handle);
        self.see_open(open.ok_or(Errno::ENOENT)?)
    }

    /// Reads plaintext of an open file.
    pub fn read(&self, handle: u64, offset: u64, out: &mut [u8]) -> Result<usize, Errno> {
        let document = &self.held(handle)?.document;
        loop {
            let holds_base = document.draft.lock().as_ref().map(|draft| draft.holds_base);
            if holds_base != Some(false) {
                let leased = self.leased(document)?;
                if holds_base.is_none() {
                    let read = self.leases.read_at(&leased, offset, out);
                    return read.map_err(|error| self.tell(document, &failure(error)));
                }
            }
            let read = document.draft.lock().as_mut().map(|draft| draft.scratch.read_at(offset, out));
            // Without one it was saved meanwhile, and is read from there.
            if let Some(read) = read {
                return read.map_err(|error| self.tell(document, &failure(error)));
            }
        }
    }

    pub fn held(&self, handle: u64) -> Result<Arc<Handle>, Errno> {
        self.open.lock().get(&handle).map(Arc::clone).ok_or(Errno::EBADF)
    }

    /// What opens the sealed file of a document: what is kept, or what the server gives.
    pub fn leased(&self, document: &Document) -> Result<Arc<Leased>, Errno> {
        let base = document.base();
        if let Some(leased) = self.leases.find(base.id) {
            return Ok(leased);
        }
        let mut proof = base.proof.lock();
        // Who had the lock before may have asked.
        if let Some(leased) = self.leases.find(base.id) {
            return Ok(leased);
        }
        self.ask(&base, &mut proof).map_err(|refusal| self.tell(document, &refusal))
    }

    /// Asks the server. The header is that which was proved when the file was opened: whatever else was written over it since,
    /// though it is a sealed file too, is not what the program opened.
    fn ask(&self, base: &Base, proof: &mut Option<Proof>) -> Result<Arc<Leased>, Failure> {
        let opened = base.read(proof.as_ref().map(|proof| proof.header))?;
        let header = digest(&opened);
        let alone = self.identity_alone(&opened);
        let asked_ms = boottime_ms();
        let until_ms = asked_ms.saturating_add(self.lease_ms);
        let offline = || self.held.as_ref()?.reader_offline(&header, || base.read(Some(header)));
        let (reader, until_ms) = match offline() {
            Some(held) => held.map(|(reader, end_ms)| (reader, until_ms.min(end_ms)))?,
            None => match self.ask_server(opened) {
                Ok(reader) => {
                    self.held.iter().for_each(|held| held.learn(&header, asked_ms, None));
                    (reader, until_ms)
                }
                Err(refusal) => {
                    self.held.iter().for_each(|held| held.learn(&header, asked_ms, Some(&refusal)));
                    if refusal.is_refusal() {
                        // Whoever has it open already reads no more of it.
                        self.leases.end(base.id);
                    }
                    let (reader, end_ms) = offline().unwrap_or(Err(refusal))?;
                    (reader, until_ms.min(end_ms))
                }
            },
        };
        *proof = Some(Proof { header, alone });
        self.leases.keep(base.id, reader, until_ms).map_err(failure)
    }

    fn ask_server(&self, opened: AnyOpened) -> Result<Reader, Failure> {
        let unlocked = Opener::Server(&self.server).unlock(vec![opened])?.into_iter().next();
        unlocked.unwrap_or_else(|| Err(failure(Error::NotForUs)))?.into_reader().map_err(failure)
    }

    /// Wipes what opens the open files with this header.
    pub fn end(&self, header: &Digest) {
        let documents = self.tree.lock().all();
        let bases = documents.iter().map(|document| document.base());
        let of_it =
            |base: &Arc<Base>| base.proof.lock().as_ref().is_some_and(|proof| proof.header == *header);
        bases.filter(of_it).for_each(|base| self.leases.end(base.id));
    }

    /// Wipes everything, and keeps nothing from now on.
    pub fn end_all(&self) {
        self.held.iter().for_each(Held::end_all);
        self.leases.end_all();
    }

    /// What a file stays when it is saved, as its header says it and nobody has proved: nothing, if it is not for the mount's key
    /// alone, or no file of age in bytes.
    fn identity_alone(&self, opened: &AnyOpened) -> Option<Identity> {
        match opened {
            AnyOpened::Age(opened) => {
                opened.plaintext_bytes()?;
                let Wrapped { key, file, .. } = Wrapped::alone(&opened.header.stanzas)?;
                self.keys.lock().contains(&key).then_some(Identity { key, file })
            }
            AnyOpened::Esdk(_) => None,
        }
    }

    /// Whether a sealed file says that it is for the mount's key alone: all others are only read.
    pub fn is_written(&self, sealed: &File) -> bool {
        let opened = sealed.try_clone().ok().and_then(|sealed| keyhearth_files::open_any(sealed).ok());
        opened.is_some_and(|opened| self.identity_alone(&opened).is_some())
    }

    /// Where a document is; nowhere if it was removed.
    pub fn path_of(&self, document: &Document) -> Option<PathBuf> {
        self.tree.lock().of(document).and_then(|placed| placed.path.clone())
    }

    /// Tells on standard error why a file gives or takes no plaintext, and gives what programs are told: that they may not, or
    /// that it could not be done.
    pub fn tell(&self, document: &Document, why: &Failure) -> Errno {
        let path = self.path_of(document).unwrap_or_else(|| PathBuf::from("a file that was removed"));
        tell(&path, why)
    }

    /// Tells that a file can only be read, and gives what programs are told.
    pub fn tell_read_only(&self, document: &Document) -> Errno {
        let what = READ_ONLY;
        let next = "open it with `keyhearth file open`, and seal it again";
        self.tell(document, &Failure::new(what, next));
        Errno::EPERM
    }
}

/// As [`Files::tell`], of what has no document.
pub fn tell(path: &Path, why: &Failure) -> Errno {
    say(path, &why.to_string());
    match why.code() {
        Some("denied" | "unauthenticated" | "not_found" | "wrong_state" | "not_for_us") => Errno::EACCES,
        Some(_) | None => Errno::EIO,
    }
}

/// Says something of a file on standard error.
pub fn say(path: &Path, what: &str) {
    eprintln!("{}: {}", output::visible(&path.to_string_lossy()), output::visible(what));
}

/// The folder that a path is in, and its name there; empty ones of the root.
pub fn parts(path: &Path) -> (&Path, &OsStr) {
    (path.parent().unwrap_or(Path::new("")), path.file_name().unwrap_or_default())
}

/// Remembers something of a file, and forgets that of another if it is of too many.
pub fn remember<K: std::hash::Hash + Eq + Clone, V>(of: &mut HashMap<K, V>, key: K, value: V) {
    if of.len() >= FILES_MAX
        && let Some(other) = of.keys().next().cloned()
    {
        of.remove(&other);
    }
    of.insert(key, value);
}

/// SHA-256 of the header of the sealed file of this name, if it is one.
pub fn header_at(folder: &Folder, sealed: &OsStr) -> Option<Digest> {
    Some(digest(&keyhearth_files::open_any(folder.open(sealed).ok()?).ok()?))
}

fn plaintext_bytes(file: File) -> u64 {
    let opened = match keyhearth_files::open_any(file) {
        Ok(AnyOpened::Age(opened)) => opened.plaintext_bytes(),
        Ok(AnyOpened::Esdk(opened)) => opened.plaintext_bytes(),
        Err(_) => None,
    };
    opened.unwrap_or(0)
}

fn seen(metadata: &Metadata, bytes: Option<u64>) -> Seen {
    let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    Seen { is_folder: metadata.is_dir(), bytes: bytes.unwrap_or(0), modified, changed: modified }
}

fn see_draft(document: &Document) -> Option<Seen> {
    let Shown { bytes, modified, .. } = (*document.shown.lock())?;
    Some(Seen { is_folder: false, bytes, modified, changed: modified })
}
