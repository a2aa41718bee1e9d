//! What is remembered of a pair of folders: what was in step when both were looked at last, and what is under way.
//!
//! It lies in the user's state folder, by the place of the plain folder, which has a mark: what is not mounted, or is another
//! folder, has another one or none. It is written after the files that it tells of are durable, and what is about to get a name
//! on the sealed side before. So what a crash leaves is an older memory, by which files that were done since are found
//! equal, and the words that this device has yet to sign.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use keyhearth_crypto::{digest, random};
use keyhearth_files::manifest::{FOLDER, FolderId};
use keyhearth_sys::filesystem;
use keyhearth_sys::lock::DirLock;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::failure::Failure;
use super::super::file::manifest::{PAIR, remembered};
use super::super::made;
use super::tree::{Half, Tree};

const KNOWN: &str = "known.json";
const PENDING: &str = "pending.jsonl";
/// The longest mark, in bytes.
const MARK_BYTES_MAX: usize = 1024;
/// The longest memory of a pair that is read, in bytes: about a million files.
const MEMORY_BYTES_MAX: usize = 512 << 20;

/// What tells a plain folder from another one at its place.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    /// 32 hexadecimal digits.
    id: String,
    /// 32 bytes in base64, by which plaintext is hashed.
    secret: String,
}

/// A path that was in step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InStep {
    pub plain: Half,
    pub sealed: Half,
    /// The front of the sealed file, if this device sealed it. If the manifest has forgotten it nobody else may have seen it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<String>,
}

/// What lay at a path that is not in step, so that it is not read again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Looked {
    pub plain: Option<Half>,
    pub sealed: Option<Half>,
}

#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Memory {
    /// The plain folder's mark.
    mark: String,
    /// The sealed folder's id.
    folder: String,
    paths: BTreeMap<String, InStep>,
    looked: BTreeMap<String, Looked>,
}

/// What this device does on the sealed side, until it is signed: a line of a file that grows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    pub path: String,
    /// What it was done in place of, by hashes; `None` is nothing.
    pub seen: BTreeSet<Option<String>>,
    /// The hashes of the plain and the sealed file; `None` if both are deleted.
    pub files: Option<(String, String)>,
}

/// The memory of a pair, which is nobody else's until this is dropped.
pub struct Pair {
    place: PathBuf,
    memory: Memory,
    /// What is on the disk.
    written: Memory,
    pending: BTreeMap<String, Pending>,
    /// By which plaintext is hashed.
    pub secret: [u8; 32],
    _lock: DirLock,
}

impl Pair {
    /// Of the plain folder and the sealed one with this id.
    ///
    /// # Errors
    /// [`Failure`] if another process keeps them in step, or if one of them is not the one that was.
    pub fn open(plain: &Tree, folder: FolderId) -> Result<Self, Failure> {
        let hash = digest::sha256(&[plain.path.as_os_str().as_encoded_bytes()]);
        let place = remembered::state()?.join("pairs").join(hex(&hash[..16]));
        made::folder(&place)?;
        // Each pass would change what it keeps in step.
        if place.canonicalize()?.starts_with(&plain.path) {
            let what = format!("{} lies in the plain folder", place.display());
            return Err(Failure::new(
                what,
                "keep a folder below it in step, or set XDG_STATE_HOME to another place",
            ));
        }
        let lock = DirLock::acquire(&place).map_err(|error| {
            let next = "this folder is kept in step already; end that first";
            Failure::of("busy", &error.to_string(), "", next)
        })?;
        let memory: Option<Memory> = read(&place.join(KNOWN))?;
        let pending = read_pending(&place.join(PENDING))?;
        let other = |what: &str| {
            let what = format!("{} is not the folder that was in step: {what}", plain.path.display());
            let next = format!(
                "mount the right one; or, to begin anew, remove {}: all files are compared then, and none is deleted",
                place.display()
            );
            Err(Failure::of("other_folder", &what, "", &next))
        };
        let mark = match (Mark::read(plain)?, &memory) {
            (None, Some(_)) => return other("its mark is missing"),
            (Some(mark), Some(memory)) if mark.id != memory.mark => return other("it has another mark"),
            (Some(mark), _) => mark,
            (None, None) => Mark::make(plain)?,
        };
        let folder = folder.to_string();
        let written = memory.clone().unwrap_or_default();
        let memory = match memory {
            Some(memory) if memory.folder != folder => return other("it was with another sealed folder"),
            Some(memory) => memory,
            None => Memory { mark: mark.id.clone(), folder, ..Memory::default() },
        };
        let secret = BASE64.decode(&mark.secret).ok().and_then(|secret| secret.try_into().ok());
        let secret = secret.ok_or_else(|| Mark::malformed(plain))?;
        // Written before anything is done: from now on the folder must be this one.
        let mut pair = Self { place, written, memory, pending, secret, _lock: lock };
        pair.save()?;
        Ok(pair)
    }

    pub fn get(&self, path: &str) -> Option<&InStep> {
        self.memory.paths.get(path)
    }

    /// What lay there, by which files are known without reading them.
    pub fn plain_halves(&self, path: &str) -> [Option<&Half>; 2] {
        let looked = self.memory.looked.get(path).and_then(|looked| looked.plain.as_ref());
        [self.get(path).map(|known| &known.plain), looked]
    }

    /// The same of the sealed side.
    pub fn sealed_halves(&self, path: &str) -> [Option<&Half>; 2] {
        let looked = self.memory.looked.get(path).and_then(|looked| looked.sealed.as_ref());
        [self.get(path).map(|known| &known.sealed), looked]
    }

    /// Takes note of what lies at paths that are not in step.
    pub fn looked(&mut self, looked: BTreeMap<String, Looked>) {
        self.memory.looked = looked;
    }

    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.memory.paths.keys().map(String::as_str)
    }

    pub fn count(&self) -> usize {
        self.memory.paths.len()
    }

    pub fn put(&mut self, path: &str, in_step: InStep) {
        self.memory.paths.insert(path.to_owned(), in_step);
    }

    pub fn forget(&mut self, path: &str) {
        self.memory.paths.remove(path);
    }

    /// Writes down what is in step. What it tells of must be durable.
    pub fn save(&mut self) -> Result<(), Failure> {
        if self.memory != self.written {
            write(&self.place.join(KNOWN), &self.memory)?;
            self.written = self.memory.clone();
        }
        Ok(())
    }

    pub fn pending(&self) -> &BTreeMap<String, Pending> {
        &self.pending
    }

    /// Writes down what is about to be done on the sealed side.
    pub fn begin(&mut self, more: Vec<Pending>) -> Result<(), Failure> {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(made::PRIVATE)
            .open(self.place.join(PENDING))?;
        file.write_all(&lines(&more)?)?;
        file.sync_all()?;
        self.pending.extend(more.into_iter().map(|pending| (pending.path.clone(), pending)));
        Ok(())
    }

    /// Takes note of what was not done, or is signed and remembered.
    pub fn ended(&mut self, holds: impl Fn(&str) -> bool) -> Result<(), Failure> {
        let before = self.pending.len();
        self.pending.retain(|path, _| !holds(path));
        if self.pending.len() == before {
            return Ok(());
        }
        remembered::write(&self.place.join(PENDING), &lines(self.pending.values())?)
    }
}

fn lines<'p>(pending: impl IntoIterator<Item = &'p Pending>) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    for pending in pending {
        serde_json::to_writer(&mut text, pending).map_err(|error| Failure::new(error, "report this"))?;
        text.push(b'\n');
    }
    Ok(text)
}

impl Mark {
    fn inside() -> PathBuf {
        Path::new(FOLDER).join(PAIR)
    }

    fn malformed(plain: &Tree) -> Failure {
        let what = format!("{} is no mark of a folder", plain.path.join(Self::inside()).display());
        Failure::of("malformed", &what, "", "look who wrote it")
    }

    /// By the folder that was opened, whatever is mounted at its place by now.
    fn read(plain: &Tree) -> Result<Option<Self>, Failure> {
        let Some(place) = plain.find_at(&Self::inside())? else { return Ok(None) };
        let Some(file) = place.open()? else { return Ok(None) };
        let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(MARK_BYTES_MAX));
        file.take(MARK_BYTES_MAX as u64).read_to_end(&mut bytes)?;
        serde_json::from_slice(&bytes).map(Some).map_err(|_| Self::malformed(plain))
    }

    fn make(plain: &Tree) -> Result<Self, Failure> {
        let (mut id, mut secret) = ([0; 16], [0; 32]);
        let drawn = random::fill("keyhearth/pair", &mut id)
            .and_then(|()| random::fill("keyhearth/pair", &mut secret));
        drawn.map_err(|error| Failure::new(error, "try again"))?;
        let mark = Self { id: hex(&id), secret: BASE64.encode(secret) };
        let text = serde_json::to_vec(&mark).map_err(|error| Failure::new(error, "report this"))?;
        let output = plain.make_at(&Self::inside())?.output()?;
        let mut file: &File = output.file();
        file.write_all(&text)?;
        file.sync_all()?;
        output.finish()?;
        filesystem::synchronise(&File::open(&plain.path)?)?;
        Ok(mark)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read<M: DeserializeOwned>(place: &Path) -> Result<Option<M>, Failure> {
    if !place.try_exists()? {
        return Ok(None);
    }
    let memory = serde_json::from_slice(&remembered::read(place, MEMORY_BYTES_MAX)?);
    memory.map(Some).map_err(|error| broken(place, &error))
}

fn broken(place: &Path, error: &serde_json::Error) -> Failure {
    let next = "remove its folder: all files are compared then, and none is deleted";
    Failure::new(format_args!("{}: {error}", place.display()), next)
}

/// What a crash cut off at the end was not begun.
fn read_pending(place: &Path) -> Result<BTreeMap<String, Pending>, Failure> {
    if !place.try_exists()? {
        return Ok(BTreeMap::new());
    }
    let bytes = remembered::read(place, MEMORY_BYTES_MAX)?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if whole < bytes.len() {
        OpenOptions::new().write(true).open(place)?.set_len(whole as u64)?;
    }
    let pending = bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let pending =
        pending.map(|line| serde_json::from_slice::<Pending>(line).map_err(|error| broken(place, &error)));
    pending.map(|pending| pending.map(|pending| (pending.path.clone(), pending))).collect()
}

fn write(place: &Path, memory: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_vec(memory).map_err(|error| Failure::new(error, "report this"))?;
    remembered::write(place, &text)
}
