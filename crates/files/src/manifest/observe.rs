//! A sealed file as a manifest sees it: without its key, and apart from its header.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use keyhearth_crypto::digest::{self, Sha256};

use super::{Content, Front, Hash};
use crate::age;
use crate::chunks::fill;
use crate::held::{FileId, Held};
use crate::transform::HEADER_BYTES_MAX;
use crate::{Error, open_any};

/// Bytes at the beginning of a payload that tell sealings apart.
const FRONT_BYTES: usize = 4096;
/// Bytes that are read at once.
const READ_BYTES: usize = 1 << 20;

/// What lies at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The file's own id, if it has one of ours. It is not proved.
    pub file: Option<FileId>,
    /// What its payload begins with.
    pub front: Front,
    /// Bytes of its payload.
    pub payload_bytes: u64,
    /// All of its payload, if that was read.
    pub hash: Option<Hash>,
}

impl Observed {
    /// The same as a manifest keeps it; `None` if the file was not read whole.
    #[must_use]
    pub fn content(&self) -> Option<Content> {
        let Self { file, front, payload_bytes, hash } = *self;
        Some(Content { front, hash: hash?, payload_bytes, file })
    }
}

/// Looks at a file; reads all of it if `whole`. `None` if it is no sealed file.
///
/// The payload of a file of age is what follows its header. Of other sealed files, and of those in text, whose headers
/// nobody rewrites, it is everything.
///
/// # Errors
/// [`Error::Io`]; [`Error::Changed`] if its length changes meanwhile.
pub fn observe(mut source: &File, whole: bool) -> Result<Option<Observed>, Error> {
    let len = source.metadata()?.len();
    let mut start = vec![0; HEADER_BYTES_MAX + FRONT_BYTES];
    let read = fill(&mut source, &mut start)?;
    start.truncate(read);
    let (file, header_bytes) = match age::Header::read(&start) {
        Ok((header, rest)) => {
            let held = Held::all(&header.stanzas).ok().and_then(|all| all.into_iter().next());
            (held.map(|held| held.file()), start.len() - rest.len())
        }
        Err(_) if open_any(source.try_clone()?).is_ok() => {
            // Both are one place in the file.
            source.seek(SeekFrom::Start(read as u64))?;
            (None, 0)
        }
        Err(_) => return Ok(None),
    };
    let payload = &start[header_bytes..];
    let front = digest::sha256(&[&payload[..payload.len().min(FRONT_BYTES)]]);
    let front = Front(front.first_chunk().copied().unwrap_or_default());
    let hash = if whole { Some(hash(payload, &mut source, len, read)?) } else { None };
    let payload_bytes = len.checked_sub(header_bytes as u64).ok_or(Error::Changed)?;
    Ok(Some(Observed { file, front, payload_bytes, hash }))
}

/// The hash of what was read of the payload, and of what follows in `source`, of a file that has `len` bytes.
fn hash(payload: &[u8], source: &mut &File, len: u64, read: usize) -> Result<Hash, Error> {
    let mut hash = Sha256::default();
    hash.update(payload);
    let mut buffer = vec![0; READ_BYTES];
    let mut total = read as u64;
    loop {
        match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                hash.update(&buffer[..read]);
                total += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    if total == len { Ok(Hash(hash.finish())) } else { Err(Error::Changed) }
}
