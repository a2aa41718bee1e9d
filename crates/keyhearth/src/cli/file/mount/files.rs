//! What is open: sealed files whose keys the server gives for a while.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use fuser::Errno;
use keyhearth_files::{AnyOpened, Error, Reader};
use keyhearth_sys::clock::boottime_ms;
use parking_lot::Mutex;

use super::super::super::failure::Failure;
use super::super::super::output;
use super::super::super::session::Server;
use super::super::failure;
use super::super::open::Opener;
use super::beneath::{Entry, Root};
use super::held::{Digest, Held, digest};
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

/// A file that a program has open.
struct Open {
    /// Where it was.
    path: PathBuf,
    /// As it lies on the disk; its name may go to another meanwhile.
    sealed: File,
    /// The header that was proved.
    header: Mutex<Option<Digest>>,
}

/// What tells one state of a sealed file from the others.
type Stamp = [i64; 3];

/// The folder, and what is open in it.
pub struct Files {
    pub root: Root,
    pub server: Server,
    pub names: Mutex<Names>,
    /// By what the kernel knows an opening by: each is of the file as it was then.
    open: Mutex<HashMap<u64, Arc<Open>>>,
    next: AtomicU64,
    /// How long the server's word holds for a file that is open, in milliseconds.
    lease_ms: u64,
    pub leases: Leases,
    /// What opens without the server, if anything does.
    pub held: Option<Held>,
    /// Lengths of plaintext, by device and number of the sealed file.
    lengths: Mutex<HashMap<(u64, u64), (Stamp, u64)>>,
}

impl Files {
    pub fn new(root: Root, server: Server, lease: Duration, held: Option<Held>) -> Self {
        Self {
            root,
            server,
            names: Mutex::new(Names::new()),
            open: Mutex::default(),
            next: AtomicU64::new(1),
            lease_ms: u64::try_from(lease.as_millis()).unwrap_or(u64::MAX),
            leases: Leases::new(),
            held,
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

    /// Opens a file to read it, as it is now: the server is asked for its key. Gives what it is open under.
    pub fn open(&self, number: u64) -> Result<u64, Errno> {
        let path = self.path(number)?;
        let (folder, name) = parts(&path);
        let folder = self.root.folder(folder)?;
        let Some(Entry::File(sealed)) = folder.find(name)? else { return Err(Errno::ENOENT) };
        let file = Arc::new(Open { path, sealed: folder.open(&sealed)?, header: Mutex::default() });
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        // First, so that a refusal that comes meanwhile finds it.
        self.open.lock().insert(handle, Arc::clone(&file));
        self.leased(handle, &file).inspect_err(|_| self.close(handle))?;
        Ok(handle)
    }

    /// Closes what was opened.
    pub fn close(&self, handle: u64) {
        self.open.lock().remove(&handle);
        self.leases.end(handle);
    }

    /// What is open, whatever has its name now.
    pub fn see_open(&self, handle: u64) -> Result<Seen, Errno> {
        self.see_file(self.held(handle)?.sealed.try_clone()?)
    }

    /// Reads plaintext of an open file.
    pub fn read(&self, handle: u64, offset: u64, out: &mut [u8]) -> Result<usize, Errno> {
        let file = self.held(handle)?;
        let leased = self.leased(handle, &file)?;
        self.leases.read_at(&leased, offset, out).map_err(|error| tell(&file, &failure(error)))
    }

    fn held(&self, handle: u64) -> Result<Arc<Open>, Errno> {
        self.open.lock().get(&handle).map(Arc::clone).ok_or(Errno::EBADF)
    }

    /// What opens an open file: what is kept, or what the server gives.
    fn leased(&self, handle: u64, file: &Open) -> Result<Arc<Leased>, Errno> {
        if let Some(leased) = self.leases.find(handle) {
            return Ok(leased);
        }
        let mut header = file.header.lock();
        // Who had the lock before may have asked.
        if let Some(leased) = self.leases.find(handle) {
            return Ok(leased);
        }
        self.ask(handle, file, &mut header).map_err(|refusal| tell(file, &refusal))
    }

    /// Asks the server. The header is that which was proved when the file was opened: whatever else was written over it since,
    /// though it is a sealed file too, is not what the program opened.
    fn ask(&self, handle: u64, file: &Open, header: &mut Option<Digest>) -> Result<Arc<Leased>, Failure> {
        let opened = file.read(*header)?;
        let found = digest(&opened);
        let until_ms = boottime_ms().saturating_add(self.lease_ms);
        let offline = || self.held.as_ref()?.reader_offline(&found, || file.read(Some(found)));
        let (reader, until_ms) = match offline() {
            Some(held) => held.map(|(reader, end_ms)| (reader, until_ms.min(end_ms)))?,
            None => match self.ask_server(opened) {
                Ok(reader) => {
                    self.held.iter().for_each(|held| held.learn(&found, None));
                    (reader, until_ms)
                }
                Err(refusal) => {
                    self.held.iter().for_each(|held| held.learn(&found, Some(&refusal)));
                    let (reader, end_ms) = offline().unwrap_or(Err(refusal))?;
                    (reader, until_ms.min(end_ms))
                }
            },
        };
        *header = Some(found);
        self.leases.keep(handle, reader, until_ms).map_err(failure)
    }

    fn ask_server(&self, opened: AnyOpened) -> Result<Reader, Failure> {
        let unlocked = Opener::Server(&self.server).unlock(vec![opened])?.into_iter().next();
        unlocked.unwrap_or_else(|| Err(failure(Error::NotForUs)))?.into_reader().map_err(failure)
    }

    /// Wipes what opens the open files with this header.
    pub fn end(&self, header: &Digest) {
        let open: Vec<_> =
            self.open.lock().iter().map(|(handle, file)| (*handle, Arc::clone(file))).collect();
        let of_it = |file: &Open| *file.header.lock() == Some(*header);
        open.iter().filter(|(_, file)| of_it(file)).for_each(|(handle, _)| self.leases.end(*handle));
    }

    /// Wipes everything, and keeps nothing from now on.
    pub fn end_all(&self) {
        self.held.iter().for_each(Held::end_all);
        self.leases.end_all();
    }
}

impl Open {
    /// Reads its header, which must be this one, if any.
    fn read(&self, header: Option<Digest>) -> Result<AnyOpened, Failure> {
        let opened = keyhearth_files::open_any(self.sealed.try_clone()?).map_err(failure)?;
        if header.is_some_and(|header| header != digest(&opened)) {
            return Err(failure(Error::Changed));
        }
        Ok(opened)
    }
}

/// Tells on standard error why a file gives no plaintext, and gives what programs are told: that they may not, or that it could
/// not be read.
fn tell(file: &Open, why: &Failure) -> Errno {
    eprintln!("{}: {}", output::visible(&file.path.to_string_lossy()), output::visible(&why.to_string()));
    match why.code() {
        Some("denied" | "not_found" | "wrong_state" | "not_for_us") => Errno::EACCES,
        Some(_) | None => Errno::EIO,
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
