//! What is open: sealed files whose keys the server gives for a while.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use fuser::Errno;
use keyhearth_files::{AnyOpened, Error};
use parking_lot::Mutex;

use super::super::super::failure::Failure;
use super::super::super::output;
use super::super::super::session::Server;
use super::super::failure;
use super::super::open::Opener;
use super::beneath::{Entry, Root};
use super::leases::{Leased, Leases};
use super::names::Names;

/// Files whose lengths are remembered.
const LENGTHS_MAX: usize = 64 * 1024;

/// What is said of a file or folder.
pub struct Seen {
    pub is_folder: bool,
    /// Bytes of plaintext, as the header says it.
    pub bytes: u64,
    pub modified: SystemTime,
    pub changed: SystemTime,
}

/// A file that programs have open.
struct Open {
    /// As it lies on the disk; its name may go to another meanwhile.
    sealed: File,
    handles: usize,
}

/// What tells one state of a sealed file from the others.
type Stamp = [i64; 3];

/// The folder, and what is open in it.
pub struct Files {
    pub root: Root,
    server: Server,
    pub names: Mutex<Names>,
    open: Mutex<HashMap<u64, Arc<Mutex<Open>>>>,
    pub leases: Leases,
    /// Lengths of plaintext, by device and number of the sealed file.
    lengths: Mutex<HashMap<(u64, u64), (Stamp, u64)>>,
}

impl Files {
    pub fn new(root: Root, server: Server, lease: Duration) -> Self {
        Self {
            root,
            server,
            names: Mutex::new(Names::new()),
            open: Mutex::default(),
            leases: Leases::new(lease),
            lengths: Mutex::default(),
        }
    }

    /// The path of what the kernel knows by this number.
    pub fn path(&self, number: u64) -> Result<PathBuf, Errno> {
        self.names.lock().path(number).map(Path::to_owned).ok_or(Errno::ENOENT)
    }

    /// What lies at `path`.
    pub fn see(&self, path: &Path) -> Result<Seen, Errno> {
        let (folder, name) = parts(path);
        let folder = self.root.folder(folder)?;
        if name.is_empty() {
            return Ok(seen(&folder.metadata()?, None));
        }
        match folder.find(name)?.ok_or(Errno::ENOENT)? {
            Entry::Folder => Ok(seen(&self.root.folder(path)?.metadata()?, None)),
            Entry::File(sealed) => self.see_file(folder.open(&sealed)?),
        }
    }

    fn see_file(&self, file: File) -> Result<Seen, Errno> {
        let metadata = file.metadata()?;
        let stamp = [metadata.ctime(), metadata.ctime_nsec(), metadata.len().cast_signed()];
        let place = (metadata.dev(), metadata.ino());
        let known = self.lengths.lock().get(&place).filter(|(of, _)| *of == stamp).map(|(_, bytes)| *bytes);
        let bytes = known.unwrap_or_else(|| {
            let bytes = plaintext_bytes(file);
            let mut lengths = self.lengths.lock();
            if lengths.len() >= LENGTHS_MAX {
                lengths.clear();
            }
            lengths.insert(place, (stamp, bytes));
            bytes
        });
        Ok(seen(&metadata, Some(bytes)))
    }

    /// Opens a file to read it; the server is asked for its key.
    pub fn open(&self, number: u64) -> Result<(), Errno> {
        let path = self.path(number)?;
        let (folder, name) = parts(&path);
        let folder = self.root.folder(folder)?;
        let Some(Entry::File(sealed)) = folder.find(name)? else { return Err(Errno::ENOENT) };
        let file = {
            let mut open = self.open.lock();
            match open.get(&number) {
                Some(file) => Arc::clone(file),
                None => {
                    let file = Arc::new(Mutex::new(Open { sealed: folder.open(&sealed)?, handles: 0 }));
                    open.insert(number, Arc::clone(&file));
                    file
                }
            }
        };
        file.lock().handles += 1;
        self.leased(number).map(drop).inspect_err(|_| self.close(number))
    }

    /// One of those who opened it closes it.
    pub fn close(&self, number: u64) {
        let mut open = self.open.lock();
        let Some(file) = open.get(&number).map(Arc::clone) else { return };
        let mut file = file.lock();
        file.handles = file.handles.saturating_sub(1);
        if file.handles == 0 {
            open.remove(&number);
            self.leases.end(number);
        }
    }

    /// Reads plaintext of an open file.
    pub fn read(&self, number: u64, offset: u64, out: &mut [u8]) -> Result<usize, Errno> {
        let leased = self.leased(number)?;
        self.leases.read_at(&leased, offset, out).map_err(|error| self.tell(number, &failure(error)))
    }

    /// What opens an open file: what is kept, or what the server gives.
    fn leased(&self, number: u64) -> Result<Arc<Leased>, Errno> {
        if let Some(leased) = self.leases.find(number) {
            return Ok(leased);
        }
        let file = self.open.lock().get(&number).map(Arc::clone).ok_or(Errno::EBADF)?;
        let file = file.lock();
        // Who had the lock before may have asked.
        if let Some(leased) = self.leases.find(number) {
            return Ok(leased);
        }
        self.ask(number, &file).map_err(|refusal| self.tell(number, &refusal))
    }

    fn ask(&self, number: u64, file: &Open) -> Result<Arc<Leased>, Failure> {
        let opened = keyhearth_files::open_any(file.sealed.try_clone()?).map_err(failure)?;
        let asked = Instant::now();
        let unlocked = Opener::Server(&self.server).unlock(vec![opened])?.into_iter().next();
        let unlocked = unlocked.unwrap_or_else(|| Err(failure(Error::NotForUs)))?;
        let reader = unlocked.into_reader().map_err(failure)?;
        self.leases.keep(number, reader, asked).map_err(failure)
    }

    /// Tells on standard error why a file gives no plaintext, and gives what programs are told: that they may not, or that it
    /// could not be read.
    fn tell(&self, number: u64, why: &Failure) -> Errno {
        let path = self.path(number).unwrap_or_default();
        eprintln!("{}: {}", output::visible(&path.to_string_lossy()), output::visible(&why.to_string()));
        match why.code() {
            Some("denied" | "not_found" | "wrong_state" | "not_for_us") => Errno::EACCES,
            Some(_) | None => Errno::EIO,
        }
    }
}

/// The folder that a path is in, and its name there; empty ones of the root.
pub fn parts(path: &Path) -> (&Path, &OsStr) {
    (path.parent().unwrap_or(Path::new("")), path.file_name().unwrap_or_default())
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
