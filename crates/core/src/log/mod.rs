//! The audit log as a Merkle tree: appending, proofs, checkpoints, export and offline verification.
//!
//! Leaves are hashed as in RFC 6962; tiles, entry bundles and checkpoints have the form of C2SP
//! tlog-tiles, tlog-checkpoint and tlog-cosignature, so that an outside witness or verifier needs no code
//! of ours. `docs/formats/log.md` describes the whole with a vector.
//!
//! Entries are opaque bytes here; what they say is defined elsewhere. Nothing here reads, writes or knows
//! the time: callers pass readers and timestamps.
//!
//! Called by the store's committer ([`Tree`]), the server (proofs, [`Checkpoint`], [`export`]), the witness
//! ([`WitnessRequest`]) and the offline verifier ([`verify_export`], [`EntryProof`]).

mod checkpoint;
mod entry_proof;
mod export;
mod proof;
mod tile;
mod tree;
mod verify;
mod witness;

#[cfg(test)]
mod tests;

pub use checkpoint::{
    Checkpoint, CheckpointError, KeyName, NOTE_BYTES_MAX, SIGNATURES_MAX, SignedCheckpoint, VerifierKey,
};
pub use entry_proof::EntryProof;
pub use export::{CHECKPOINT_PATH, ExportError, export};
use keyhearth_crypto::digest::sha256;
pub use proof::{consistency_proof, inclusion_proof, verify_consistency, verify_inclusion};
pub use tile::{
    BUNDLE_BYTES_MAX, BundleError, ENTRY_BYTES_MAX, TILE_BYTES, TILE_WIDTH, TileError, TileId,
    bundle_entries, bundle_path, push_entry, tile_hashes,
};
use tile::{Tiles, perfect_root};
pub use tree::Tree;
pub use verify::{Fault, Report, verify_export};
pub use witness::{WitnessRefusal, WitnessRequest};

/// A SHA-256 hash: of a leaf, an inner node or a whole tree.
pub type Hash = [u8; 32];

/// The root of the tree without leaves: SHA-256 of nothing.
///
/// Source: RFC 6962 §2.1.
pub const EMPTY_ROOT: Hash = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27,
    0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// The hash of an entry as a leaf; the prefix keeps leaves and inner nodes apart.
///
/// Source: RFC 6962 §2.1.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    sha256(&[&[0], entry])
}

/// The hash of an inner node.
///
/// Source: RFC 6962 §2.1.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[1], left, right])
}
