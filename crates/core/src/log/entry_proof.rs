//! A proof that one entry is in a log, as a text that is handed out and verified offline.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::checkpoint::{decimal, hash};
use super::{Checkpoint, CheckpointError, Hash, SignedCheckpoint, VerifierKey, leaf_hash, verify_inclusion};

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";
/// The most siblings: a tree whose size is a `u64` is at most 64 levels high.
const HASHES_MAX: usize = 64;

/// An entry's place in a log, with the checkpoint it is proven against.
///
/// Source: C2SP tlog-proof, "Format".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryProof {
    /// The entry's index.
    pub index: u64,
    /// What [`super::inclusion_proof`] returned for the checkpoint's size.
    pub path: Vec<Hash>,
    /// The checkpoint with what signatures there are.
    pub checkpoint: SignedCheckpoint,
}

impl EntryProof {
    /// Checks that the log holding `key` signed a checkpoint with `entry` in it, and returns that checkpoint.
    ///
    /// # Errors
    /// As [`SignedCheckpoint::verify`]; [`CheckpointError::NotAuthentic`] if the entry is not in the tree.
    ///
    /// Source: C2SP tlog-proof, "Verifying a tlog proof".
    pub fn verify(&self, entry: &[u8], key: &VerifierKey) -> Result<&Checkpoint, CheckpointError> {
        let checkpoint = self.checkpoint.verify(key)?;
        let (size, root) = (checkpoint.size(), checkpoint.root());
        if verify_inclusion(&leaf_hash(entry), self.index, size, &self.path, root) {
            Ok(checkpoint)
        } else {
            Err(CheckpointError::NotAuthentic)
        }
    }
}

impl fmt::Display for EntryProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST_LINE}\nindex {}", self.index)?;
        self.path.iter().try_for_each(|hash| writeln!(f, "{}", STANDARD.encode(hash)))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for EntryProof {
    type Err = CheckpointError;

    /// The `extra` line that other logs may write is dropped, because nothing authenticates it.
    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        let (head, checkpoint) = text
            .split_once("\n\n")
            .ok_or(CheckpointError::Malformed("a blank line before the checkpoint"))?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(FIRST_LINE) {
            return Err(CheckpointError::Malformed("the first line is `c2sp.org/tlog-proof@v1`"));
        }
        lines.next_if(|line| line.starts_with("extra "));
        let index = lines.next().and_then(|line| line.strip_prefix("index "));
        let index = decimal(index.ok_or(CheckpointError::Malformed("the index is in a line `index N`"))?)?;
        let path = hashes(lines, HASHES_MAX)?;
        Ok(Self { index, path, checkpoint: checkpoint.parse()? })
    }
}

/// The lines of a proof, one hash each.
pub(super) fn hashes<'a>(
    lines: impl Iterator<Item = &'a str>,
    max: usize,
) -> Result<Vec<Hash>, CheckpointError> {
    let hashes: Vec<_> = lines.take(max + 1).map(hash).collect::<Result<_, _>>()?;
    if hashes.len() > max { Err(CheckpointError::TooLarge) } else { Ok(hashes) }
}
