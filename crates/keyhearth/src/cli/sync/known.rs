//! What was in step when both sides were looked at last.
//!
//! It lies in the user's state folder and is written after the files that it tells of are durable. So what a crash leaves
//! is an older memory: files that were done after it are compared, found equal, and remembered.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keyhearth_crypto::digest;
use keyhearth_sys::lock::DirLock;
use serde::{Deserialize, Serialize};

use super::super::failure::Failure;
use super::super::file::manifest::remembered;
use super::super::made;

const FILE: &str = "known.json";
/// The longest memory of a pair that is read, in bytes: about a million files.
const KNOWN_BYTES_MAX: usize = 512 << 20;
/// A file that was changed so shortly before it was looked at may be changed again without showing it.
const TICK: Duration = Duration::from_millis(20);

/// What shows that a file is the one that was looked at: device, number, length, and when it was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp([u64; 3], [i64; 4]);

impl Stamp {
    pub fn of(of: &Metadata) -> Self {
        Self([of.dev(), of.ino(), of.len()], [of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec()])
    }

    /// The same, unless it is too new to tell anything later.
    pub fn settled(self) -> Option<Self> {
        let [.., seconds, nanoseconds] = self.1;
        let changed = Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanoseconds).ok()?);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        (now > changed + TICK).then_some(self)
    }
}

/// One side of a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Half {
    /// SHA-256 of the plaintext, or of the sealed payload.
    pub hash: String,
    /// By which the file is known without reading it.
    pub stamp: Option<Stamp>,
}

/// A path that was in step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InStep {
    pub plain: Half,
    pub sealed: Half,
}

#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Memory {
    paths: BTreeMap<String, InStep>,
    /// What this machine wrote or deleted and is not signed yet, and the hash of what was sealed there last.
    unsigned: BTreeMap<String, String>,
}

/// The memory of a pair of folders, which is nobody else's until this is dropped.
pub struct Known {
    place: PathBuf,
    memory: Memory,
    /// What is on the disk.
    written: Memory,
    _lock: DirLock,
}

impl Known {
    /// Of these two folders.
    ///
    /// # Errors
    /// [`Failure`] if another process keeps them in step.
    pub fn of(plain: &Path, sealed: &Path) -> Result<Self, Failure> {
        let [plain, sealed] = [plain, sealed].map(|path| path.as_os_str().as_encoded_bytes());
        let hash = digest::sha256(&[plain, b"\0", sealed]);
        let name: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        let folder = remembered::state()?.join("pairs").join(name);
        made::folder(&folder)?;
        let lock = DirLock::acquire(&folder).map_err(|error| {
            Failure::of(
                "busy",
                &error.to_string(),
                "",
                "these folders are kept in step already; end that first",
            )
        })?;
        let place = folder.join(FILE);
        let memory: Memory = if place.try_exists()? {
            serde_json::from_slice(&remembered::read(&place, KNOWN_BYTES_MAX)?).map_err(|error| {
                let next = "remove it: all files are compared then, and none is lost";
                Failure::new(format_args!("{}: {error}", place.display()), next)
            })?
        } else {
            Memory::default()
        };
        Ok(Self { place, written: memory.clone(), memory, _lock: lock })
    }

    pub fn get(&self, path: &str) -> Option<&InStep> {
        self.memory.paths.get(path)
    }

    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.memory.paths.keys().map(String::as_str)
    }

    pub fn put(&mut self, path: &str, in_step: InStep) {
        self.memory.paths.insert(path.to_owned(), in_step);
    }

    pub fn forget(&mut self, path: &str) {
        self.memory.paths.remove(path);
    }

    /// What is to be signed, and what was sealed there last.
    pub fn unsigned(&self) -> &BTreeMap<String, String> {
        &self.memory.unsigned
    }

    pub fn leave_unsigned(&mut self, path: &str, hash: &str) {
        self.memory.unsigned.insert(path.to_owned(), hash.to_owned());
    }

    pub fn signed(&mut self) {
        self.memory.unsigned.clear();
    }

    /// Writes it down. What it tells of must be durable.
    pub fn save(&mut self) -> Result<(), Failure> {
        if self.memory != self.written {
            let text =
                serde_json::to_vec(&self.memory).map_err(|error| Failure::new(error, "report this"))?;
            remembered::write(&self.place, &text)?;
            self.written = self.memory.clone();
        }
        Ok(())
    }
}
