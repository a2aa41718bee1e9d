//! Writing: what programs write goes into a scratch, which is sealed anew as a whole when it is saved.
//!
//! A file is saved at fsync(2), and when the last who wrote to it closes it. What can not be saved stays in its scratch and is tried
//! again, until it can or the mount ends. How it takes the place of the file before: [`super::replace`].

use std::fmt;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use fuser::Errno;
use keyhearth_crypto::digest::sha256;
use keyhearth_files::age::{FileKey, Header};
use keyhearth_files::held::{self, FileId};
use keyhearth_files::{Error, Output, Scratch};
use zeroize::Zeroizing;

use super::super::super::failure::Failure;
use super::super::keys::Bare;
use super::super::{SUFFIX, failure, keys};
use super::documents::{AGAIN, Base, Document, Draft, Identity, Proof};
use super::files::{Files, header_at, parts, remember, say};
use super::replace::{Put, Target};

/// Bytes of a file that are brought into its scratch at once.
const LOAD_BYTES: usize = 1 << 20;

/// What begins a sealed file, and what it is.
pub struct Head {
    pub file_key: FileKey,
    pub header: Header,
    pub identity: Identity,
}

impl Head {
    pub fn proof(&self) -> Proof {
        let header = sha256(&[self.header.to_text().as_bytes()]);
        Proof { header, alone: Some(self.identity.clone()) }
    }
}

/// Why a file was not saved in its place.
pub enum Unsaved {
    /// The server refuses or does not answer, or something is wrong with the file.
    Refused(Failure),
    /// The disk does not take it.
    Disk(io::Error),
    /// Another file had come to its place: it was saved beside that, here.
    Beside(PathBuf),
}

impl From<Failure> for Unsaved {
    fn from(refusal: Failure) -> Self {
        Self::Refused(refusal)
    }
}

impl From<io::Error> for Unsaved {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl From<Error> for Unsaved {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(error) => Self::Disk(error),
            Error::Malformed(_)
            | Error::Unsupported(_)
            | Error::NotAuthentic
            | Error::NotForUs
            | Error::Invalid(_)
            | Error::Changed
            | Error::Machine(_) => Self::Refused(failure(error)),
        }
    }
}

impl fmt::Display for Unsaved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "not saved, and tried again until it is: {why}"),
            Self::Disk(why) => write!(f, "not saved, and tried again until it is: {why}"),
            Self::Beside(path) => {
                write!(
                    f,
                    "another version came meanwhile and stays; what was written here is {}",
                    path.display()
                )
            }
        }
    }
}

impl Unsaved {
    pub fn errno(self) -> Errno {
        match self {
            Self::Disk(error)
                if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
            {
                error.into()
            }
            Self::Disk(_) | Self::Refused(_) | Self::Beside(_) => Errno::EIO,
        }
    }

    /// Whether the server said nothing, and would not for other files.
    fn is_unanswered(&self) -> bool {
        matches!(self, Self::Refused(why) if why.is_unanswered())
    }
}

impl Files {
    /// Has a new key made and wrapped for one content of a file: of the file with this identity, or of a new one.
    ///
    /// # Errors
    /// [`Failure`] if the server refuses or does not answer.
    pub fn head(&self, identity: Option<&Identity>) -> Result<Head, Failure> {
        let (key, file) = match identity {
            Some(identity) => (identity.key.as_str(), identity.file),
            None => (self.key.as_deref().unwrap_or_default(), FileId::random().map_err(failure)?),
        };
        let file_key = FileKey::random().map_err(failure)?;
        let wrapped =
            keys::wrap(&self.server, &[Bare { key, file, made: keys::now(), file_key: &file_key }])?.pop();
        let wrapped = wrapped.unwrap_or_else(|| Err(failure(Error::NotForUs)))?;
        let mut stanzas = vec![wrapped.to_stanza()];
        held::pad(&mut stanzas, 0);
        let header = Header::new(&file_key, stanzas).map_err(failure)?;
        if identity.is_none() {
            self.keys.lock().insert(wrapped.key.clone());
        }
        Ok(Head { file_key, header, identity: Identity { key: wrapped.key, file } })
    }

    /// Asks whether a file may be saved, before it is changed.
    fn may_save(&self, document: &Document, identity: Option<&Identity>) -> Result<(), Errno> {
        self.head(identity).map(drop).map_err(|refusal| self.tell(document, &refusal))
    }

    /// An empty scratch where the file of this path is.
    pub fn scratch(&self, path: &Path) -> Result<Scratch, Errno> {
        let folder = self.root.folder(parts(path).0)?;
        Scratch::create(&folder.path()).map_err(|error| Unsaved::from(error).errno())
    }

    /// Has all of the file in a scratch, to change it.
    fn begin(&self, document: &Document) -> Result<(), Errno> {
        if document.is_drafted() {
            return Ok(());
        }
        let leased = self.leased(document)?;
        let identity = document.base().proof.lock().as_ref().and_then(|proof| proof.alone.clone());
        let identity = identity.ok_or_else(|| self.tell_read_only(document))?;
        self.may_save(document, Some(&identity))?;
        let mut scratch = self.scratch(&self.path_of(document).unwrap_or_default())?;
        let mut draft = document.draft.lock();
        if draft.is_some() {
            return Ok(());
        }
        let mut content = Zeroizing::new(vec![0; LOAD_BYTES]);
        let mut load = || -> Result<(), Error> {
            loop {
                let read = leased.read_at(scratch.len(), &mut content)?;
                if read == 0 {
                    return Ok(());
                }
                scratch.write_at(scratch.len(), &content[..read])?;
            }
        };
        let loaded = load();
        if let Err(error) = loaded {
            drop(draft);
            return Err(self.refuse(document, error.into()));
        }
        document.set_draft(&mut draft, Some(Draft::new(scratch, Some(identity), true)));
        Ok(())
    }

    /// Tells why something was not written, and gives what programs are told.
    fn refuse(&self, document: &Document, why: Unsaved) -> Errno {
        match why {
            Unsaved::Refused(why) => self.tell(document, &why),
            Unsaved::Disk(_) | Unsaved::Beside(_) => why.errno(),
        }
    }

    /// Writes to an open file, at its end if there is no offset. `owner` is who does.
    pub fn write(
        &self,
        handle: u64,
        offset: Option<u64>,
        data: &[u8],
        owner: Option<u64>,
    ) -> Result<(), Errno> {
        let open = self.held(handle)?;
        if !open.writes {
            return Err(Errno::EBADF);
        }
        self.begin(&open.document)?;
        let mut place = open.document.draft.lock();
        let draft = place.as_mut().filter(|_| !self.is_over()).ok_or(Errno::EIO)?;
        let writers = draft.change(handle);
        match owner {
            Some(owner) => drop(writers.owners.insert(owner)),
            None => writers.anybody = true,
        }
        let written = draft.scratch.write_at(offset.unwrap_or(draft.scratch.len()), data);
        open.document.show_written(draft);
        drop(place);
        written.map_err(|error| self.refuse(&open.document, error.into()))
    }

    /// Cuts an open file, or appends zeros to it. Who makes it empty makes a new file of it: nothing is known of who may open what
    /// is written then but that they could open what lay there.
    pub fn cut(&self, handle: u64, len: u64) -> Result<(), Errno> {
        let open = self.held(handle)?;
        let document = &open.document;
        if !open.writes {
            return Err(Errno::EBADF);
        }
        if len > 0 {
            self.begin(document)?;
        } else if !document.is_drafted() {
            self.may_save(document, None)?;
            let scratch = self.scratch(&self.path_of(document).unwrap_or_default())?;
            let mut place = document.draft.lock();
            if place.is_none() {
                document.set_draft(&mut place, Some(Draft::new(scratch, None, false)));
            }
        }
        let mut place = document.draft.lock();
        let draft = place.as_mut().filter(|_| !self.is_over()).ok_or(Errno::EIO)?;
        let set = draft.scratch.set_len(len);
        if set.is_ok() {
            draft.change(handle).anybody = true;
            if len == 0 {
                draft.identity = None;
                draft.holds_base = false;
            }
            document.show_written(draft);
        }
        drop(place);
        set.map_err(|error| self.refuse(document, error.into()))
    }

    /// Somebody closes an open file, which others may have open, too: it is saved if who closes it has written to it and nobody else
    /// still does.
    pub fn flush(&self, handle: u64, owner: u64) -> Result<(), Errno> {
        let open = self.held(handle)?;
        let has_written = open.document.draft.lock().as_mut().is_some_and(|draft| {
            let is_made_empty = draft.is_made_empty();
            let writers = draft.unsaved.get_mut(&handle);
            writers.is_some_and(|writers| writers.leave(owner) && !is_made_empty)
        });
        if has_written { self.has_written(handle) } else { Ok(()) }
    }

    /// Nobody writes by this opening any more.
    pub fn has_written(&self, handle: u64) -> Result<(), Errno> {
        let document = &self.held(handle)?.document;
        let is_last = document.draft.lock().as_mut().is_some_and(|draft| {
            if draft.unsaved.remove(&handle).is_some() && !draft.unsaved.is_empty() {
                draft.owed.get_or_insert_with(Instant::now);
            }
            draft.unsaved.is_empty() && draft.is_unsaved()
        });
        if is_last { self.save(document).map_err(Unsaved::errno) } else { Ok(()) }
    }

    /// Saves an open file now, whoever still writes.
    pub fn synchronise(&self, handle: u64) -> Result<(), Errno> {
        let document = &self.held(handle)?.document;
        if document.is_unsaved() {
            return self.save(document).map_err(|why| {
                if let Some(draft) = document.draft.lock().as_mut() {
                    draft.owed.get_or_insert_with(Instant::now);
                }
                why.errno()
            });
        }
        // A file that was made and is empty is on the disk, but for its name.
        document.base().sealed.sync_all()?;
        match self.path_of(document) {
            Some(path) => self.synchronise_folder(parts(&path).0),
            None => Ok(()),
        }
    }

    /// Saves what is not saved yet of a document.
    pub fn save(&self, document: &Document) -> Result<(), Unsaved> {
        let _saving = document.saving.lock();
        let Some(path) = self.path_of(document).filter(|_| document.is_unsaved()) else { return Ok(()) };
        let saved = self.save_as(document, &path);
        let mut draft = document.draft.lock();
        let Some(draft) = draft.as_mut() else { return saved };
        let text = saved.as_ref().err().map(ToString::to_string);
        match (&saved, text) {
            (Err(why), Some(text)) if !matches!(why, Unsaved::Beside(_)) => {
                if draft.told.as_ref() != Some(&text) {
                    say(&path, &text);
                }
                draft.told = Some(text);
                draft.failures = draft.failures.saturating_add(1);
                draft.failed = Some(Instant::now());
            }
            (_, text) => {
                let told = draft.told.take().map(|_| "saved".to_owned());
                text.or(told).iter().for_each(|text| say(&path, text));
                (draft.owed, draft.failures, draft.failed) = (None, 0, None);
            }
        }
        saved
    }

    /// Seals a document's draft with a key of its own, and puts that in the place of what it was made of.
    fn save_as(&self, document: &Document, path: &Path) -> Result<(), Unsaved> {
        let (inside, name) = parts(path);
        let folder = self.root.folder(inside)?;
        let output = Output::create(&folder.path().join(folder.sealed_name(name, SUFFIX)?))?;
        let base = document.base();
        let permissions = base.sealed.metadata()?.permissions();
        // Some filesystems have the same for all files, and refuse to set them.
        if output.file().metadata()?.permissions() != permissions {
            output.file().set_permissions(permissions)?;
        }
        let (head, identity, changes) = loop {
            let identity = document.draft.lock().as_ref().map(|draft| draft.identity.clone());
            let Some(identity) = identity else { return Ok(()) };
            let head = self.head(identity.as_ref())?;
            let mut draft = document.draft.lock();
            let Some(draft) = draft.as_mut() else { return Ok(()) };
            // Who made it empty meanwhile made a new file of it.
            if draft.identity == identity {
                let (reader, mut sealed) = (&mut draft.scratch.reader(), output.file());
                keyhearth_files::seal_stream(&head.file_key, &head.header, reader, &mut sealed)?;
                break (head, identity, draft.changes);
            }
        };
        output.file().sync_all()?;
        let (sealed, new) = output.name()?;
        let header = base.proof.lock().as_ref().map(|proof| proof.header);
        // `file rekey` works on what it has locked.
        let _locked = Locked::new(&base.sealed)?;

        let mut tree = self.tree.lock();
        // It may have been renamed meanwhile, or removed.
        let Some(placed) = tree.of(document) else { return Ok(()) };
        let Some(path) = placed.path.clone() else { return Ok(()) };
        let (inside, name) = parts(&path);
        let folder = self.root.folder(inside)?;
        let sealed_name = folder.sealed_name(name, SUFFIX)?;
        let target = Target { folder: &folder, name, device: &self.device };
        let stamp = *base.stamp.lock();
        if let Some(shown) = *document.shown.lock() {
            sealed.set_modified(shown.modified)?;
        }
        let put = target.put(new, |found| {
            // Attributes may change, but not the header: that is of one content.
            let is_header = || header.is_some() && header == header_at(&folder, &sealed_name);
            *found == stamp || found.has_content_of(&stamp) && is_header()
        })?;
        let put_at = match &put {
            Put::There => path,
            Put::Beside(name) => inside.join(name),
        };
        placed.path = Some(put_at.clone());
        let new_base = Base::new(self.next(), sealed, Some(head.proof()))?;
        remember(&mut self.known.lock(), put_at.clone(), *new_base.stamp.lock());
        if let Some(draft) = document.draft.lock().as_mut() {
            draft.saved = changes;
            if draft.identity == identity {
                draft.identity = Some(head.identity);
            }
            if !draft.is_unsaved() {
                draft.unsaved.clear();
            }
            document.show_saved(draft);
        }
        *document.base.lock() = Arc::new(new_base);
        self.leases.end(base.id);
        match put {
            Put::There => Ok(()),
            Put::Beside(_) => Err(Unsaved::Beside(put_at)),
        }
    }

    /// Saves again what could not be saved, until the mount ends.
    pub fn save_again(&self) {
        let mut is_over = self.is_over.lock();
        while !*is_over {
            self.over.wait_for(&mut is_over, AGAIN);
            if *is_over {
                return;
            }
            drop(is_over);
            let documents = self.tree.lock().all();
            for document in documents {
                if document.is_unsaved() && document.draft.lock().as_ref().is_some_and(Draft::is_due) {
                    // It was told, and is tried again.
                    let _ = self.save(&document);
                }
                self.settle(&document);
            }
            is_over = self.is_over.lock();
        }
    }

    /// Whether the mount has ended, and nothing is written any more.
    pub fn is_over(&self) -> bool {
        *self.is_over.lock()
    }

    /// Saves all that is not saved, at the end; a server that is gone is asked once.
    pub fn save_all(&self) {
        *self.is_over.lock() = true;
        self.over.notify_all();
        let documents = self.tree.lock().all();
        for document in documents {
            if self.save(&document).is_err_and(|why| why.is_unanswered()) {
                return;
            }
        }
    }

    /// What is not saved.
    pub fn unsaved(&self) -> Vec<PathBuf> {
        let documents = self.tree.lock().all();
        let unsaved = documents.iter().filter(|document| document.is_unsaved());
        unsaved.filter_map(|document| self.path_of(document)).collect()
    }
}

/// A sealed file that nobody else changes where it lies.
struct Locked<'f>(&'f File);

impl<'f> Locked<'f> {
    fn new(file: &'f File) -> Result<Self, Error> {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Err(Error::Changed),
            // Where there are no locks nobody else has one.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Self(file)),
        }
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // The lock ends with the file at the latest.
        let _ = self.0.unlock();
    }
}
