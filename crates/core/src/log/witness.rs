//! What a log asks a witness, and when the witness may say yes.
//!
//! The witness's promise is to cosign no two histories. It keeps the newest checkpoint it cosigned of each
//! log; storing the next one, durably and only if the stored one is still that which [`WitnessRequest::judge`]
//! was given, comes before answering and is the caller's part.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::checkpoint::decimal;
use super::entry_proof::hashes;
use super::{
    Checkpoint, CheckpointError, EMPTY_ROOT, Hash, SignedCheckpoint, VerifierKey, verify_consistency,
};

/// The most hashes of a consistency proof in a request.
const HASHES_MAX: usize = 63;

/// The body of `add-checkpoint`: a new checkpoint and the proof that it extends an older one.
///
/// Source: C2SP tlog-witness, "add-checkpoint".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessRequest {
    /// The size of the checkpoint that the log believes the witness cosigned last; 0 for none.
    pub old_size: u64,
    /// What [`super::consistency_proof`] returned from that size to the new one.
    pub proof: Vec<Hash>,
    /// The new checkpoint.
    pub checkpoint: SignedCheckpoint,
}

/// Why a witness does not cosign. The standard's HTTP status is named for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WitnessRefusal {
    /// Not signed by the log's key: 403.
    Checkpoint(CheckpointError),
    /// The old size is above the new one: 400.
    Shrinks,
    /// The witness cosigned another size last, and the log should prove from there: 409.
    Conflict {
        /// The size it cosigned last; 0 for none.
        latest: u64,
    },
    /// The new checkpoint does not extend the old one; a log that signs such a thing has forked: 422.
    Inconsistent,
}

impl fmt::Display for WitnessRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checkpoint(error) => error.fmt(f),
            Self::Shrinks => f.write_str("the old size is above the new one"),
            Self::Conflict { latest } => write!(f, "the latest checkpoint seen has size {latest}"),
            Self::Inconsistent => f.write_str("the checkpoint does not extend the latest one seen"),
        }
    }
}

impl std::error::Error for WitnessRefusal {}

impl WitnessRequest {
    /// Decides whether to cosign, given the log's key and the newest checkpoint of that log the witness has
    /// cosigned, and returns the checkpoint to store in its place.
    ///
    /// # Errors
    /// As in [`WitnessRefusal`].
    ///
    /// Source: C2SP tlog-witness, "add-checkpoint".
    pub fn judge(
        &self,
        log: &VerifierKey,
        latest: Option<&Checkpoint>,
    ) -> Result<&Checkpoint, WitnessRefusal> {
        let new = self.checkpoint.verify(log).map_err(WitnessRefusal::Checkpoint)?;
        if self.old_size > new.size() {
            return Err(WitnessRefusal::Shrinks);
        }
        let (size, root) = latest.map_or((0, &EMPTY_ROOT), |latest| (latest.size(), latest.root()));
        if self.old_size != size {
            return Err(WitnessRefusal::Conflict { latest: size });
        }
        if verify_consistency((size, root), (new.size(), new.root()), &self.proof) {
            Ok(new)
        } else {
            Err(WitnessRefusal::Inconsistent)
        }
    }
}

impl fmt::Display for WitnessRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old_size)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{}", STANDARD.encode(hash)))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for WitnessRequest {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        let (head, checkpoint) = text
            .split_once("\n\n")
            .ok_or(CheckpointError::Malformed("a blank line before the checkpoint"))?;
        let mut lines = head.split('\n');
        let old_size = lines.next().and_then(|line| line.strip_prefix("old "));
        let old_size = decimal(old_size.ok_or(CheckpointError::Malformed("the first line is `old N`"))?)?;
        Ok(Self { old_size, proof: hashes(lines, HASHES_MAX)?, checkpoint: checkpoint.parse()? })
    }
}
