//! Offline verification of an exported log, file by file, from a public key alone.
//!
//! The signed root is believed first. The tiles at the right edge must hash to it, every full tile must
//! hash to its place in the tile above, and every entry to its place in a tile of level 0. So each file is
//! compared with something already proven, is read once, and the first one that differs is named. Memory
//! is one tile per level and one bundle, whatever the size of the log.

use super::{
    BundleError, CHECKPOINT_PATH, Checkpoint, CheckpointError, Hash, KeyName, SignedCheckpoint, TILE_WIDTH,
    TileError, TileId, Tiles, VerifierKey, bundle_entries, bundle_path, consistency_proof, leaf_hash,
    perfect_root, tile_hashes, verify_consistency,
};

/// What has been proven about an exported log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The name of the log.
    pub origin: KeyName,
    /// The number of entries; all of them were checked.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
    /// The checkpoint with its signatures, to be asked for the cosignatures of witnesses.
    pub signed: SignedCheckpoint,
}

/// The first thing wrong with an exported log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault<E> {
    /// The caller's reader failed.
    Read {
        /// The file.
        path: String,
        /// Why.
        error: E,
    },
    /// The caller's receiver of entries refused this one.
    Refused {
        /// The entry.
        index: u64,
        /// Why.
        error: E,
    },
    /// A file that a log of this size has is not there.
    Missing {
        /// The file.
        path: String,
    },
    /// The checkpoint is malformed or not signed by the log's key.
    Checkpoint(CheckpointError),
    /// The tile has not the length, or not the hashes, that the log signed.
    Tile {
        /// The file.
        path: String,
    },
    /// The tiles agree with each other and the entries, but the log signed another root.
    Root,
    /// The bundle cannot be split into the entries it should hold.
    Bundle {
        /// The file.
        path: String,
        /// What is wrong with the bytes; none if only the number of entries is.
        error: Option<BundleError>,
    },
    /// The entry is not the one the log signed.
    Entry {
        /// The entry.
        index: u64,
        /// The file.
        path: String,
    },
    /// The log is shorter than it was when it signed a checkpoint known to the verifier.
    Shrunk {
        /// The size it had.
        known: u64,
    },
    /// The log signed two histories: this one does not begin with the one known to the verifier.
    Fork {
        /// The size of the known history.
        known: u64,
    },
}

impl<E: std::fmt::Display> std::fmt::Display for Fault<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Read { path, error } => write!(f, "cannot read {path}: {error}"),
            Self::Refused { index, error } => write!(f, "entry {index}: {error}"),
            Self::Missing { path } => write!(f, "{path} is missing; export the log again"),
            Self::Checkpoint(error) => write!(f, "{CHECKPOINT_PATH}: {error}"),
            Self::Tile { path } => write!(f, "{path} was altered; compare it with another copy"),
            Self::Root => f.write_str("the log signed another root than its tiles have"),
            Self::Bundle { path, error: Some(error) } => write!(f, "{path} was altered: {error}"),
            Self::Bundle { path, error: None } => write!(f, "{path} has too few or too many entries"),
            Self::Entry { index, path } => write!(f, "entry {index} in {path} was altered"),
            Self::Shrunk { known } => {
                write!(f, "the log is shorter than {known} entries it had signed before")
            }
            Self::Fork { known } => {
                write!(
                    f,
                    "the log signed another history of its first {known} entries; keep both checkpoints"
                )
            }
        }
    }
}

impl<E: std::error::Error> std::error::Error for Fault<E> {}

/// Verifies every file of an exported log and hands each proven entry to `each`, in order.
///
/// `read(path)` returns the bytes of a file, `None` if there is none; it should refuse files above
/// [`BUNDLE_BYTES_MAX`](super::BUNDLE_BYTES_MAX), the largest part of a log. `known` are checkpoints of this log that the verifier holds from
/// elsewhere, a witness or an earlier export: the log must extend each. Without them a log that was cut
/// back to an older, genuine checkpoint looks whole.
///
/// # Errors
/// The first [`Fault`].
pub fn verify_export<E>(
    read: impl FnMut(&str) -> Result<Option<Vec<u8>>, E>,
    key: &VerifierKey,
    known: &[Checkpoint],
    each: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<Report, Fault<E>> {
    let mut folder = Folder { read };
    let text = String::from_utf8(folder.file(CHECKPOINT_PATH.to_owned())?)
        .map_err(|_| Fault::Checkpoint(CheckpointError::Malformed("not UTF-8")))?;
    let signed: SignedCheckpoint = text.parse().map_err(Fault::Checkpoint)?;
    let checkpoint = signed.verify(key).map_err(Fault::Checkpoint)?;
    let mut walk = Walk { folder, size: checkpoint.size(), each };
    walk.edge(checkpoint.root())?;
    for known in known {
        walk.extends(known, checkpoint)?;
    }
    let (origin, size, root) = (checkpoint.origin().clone(), checkpoint.size(), *checkpoint.root());
    Ok(Report { origin, size, root, signed })
}

/// The exported files.
struct Folder<R> {
    read: R,
}

impl<E, R: FnMut(&str) -> Result<Option<Vec<u8>>, E>> Folder<R> {
    fn file(&mut self, path: String) -> Result<Vec<u8>, Fault<E>> {
        match (self.read)(&path) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(Fault::Missing { path }),
            Err(error) => Err(Fault::Read { path, error }),
        }
    }

    /// A tile of exactly the width it has in a tree of `size` leaves; its hashes are not proven.
    fn tile(&mut self, id: TileId, size: u64) -> Result<Vec<Hash>, Fault<E>> {
        let width = id.width(size);
        let path = id.path_at_width(width);
        let bytes = self.file(path.clone())?;
        match tile_hashes(&bytes) {
            Some(hashes) if hashes.len() == width => Ok(hashes.to_vec()),
            _ => Err(Fault::Tile { path }),
        }
    }

    /// The hashes of the leaves in a bundle, and the bundle itself.
    fn leaves(&mut self, index: u64, width: usize) -> Result<(Vec<u8>, Vec<Hash>), Fault<E>> {
        let path = bundle_path(index, width);
        let bundle = self.file(path.clone())?;
        let leaves: Result<Vec<_>, _> =
            bundle_entries(&bundle).take(TILE_WIDTH + 1).map(|entry| entry.map(leaf_hash)).collect();
        match leaves {
            Ok(leaves) if leaves.len() == width => Ok((bundle, leaves)),
            Ok(_) => Err(Fault::Bundle { path, error: None }),
            Err(error) => Err(Fault::Bundle { path, error: Some(error) }),
        }
    }
}

/// The descent from the root to the entries, from left to right.
struct Walk<R, F> {
    folder: Folder<R>,
    size: u64,
    each: F,
}

impl<E, R, F> Walk<R, F>
where
    R: FnMut(&str) -> Result<Option<Vec<u8>>, E>,
    F: FnMut(u64, &[u8]) -> Result<(), E>,
{
    /// Proves the tiles at the right edge against the root, then everything below them.
    fn edge(&mut self, root: &Hash) -> Result<(), Fault<E>> {
        let mut edge = Vec::new();
        for level in (0..TileId::levels(self.size)).rev() {
            let id = TileId::edge(level, self.size);
            if id.width(self.size) > 0 {
                edge.push((id, self.folder.tile(id, self.size)?));
            }
        }
        let mut tiles = Tiles::new(|id| {
            edge.iter().find(|(other, _)| *other == id).map(|(_, hashes)| hashes.clone()).ok_or(())
        });
        if tiles.range(0, self.size).as_ref() != Ok(root) {
            return Err(self.blame(&edge));
        }
        edge.into_iter().try_for_each(|(id, hashes)| self.below(id, &hashes))
    }

    /// Proves what the proven `hashes` of a tile stand for: entries, or the full tiles one level below.
    fn below(&mut self, id: TileId, hashes: &[Hash]) -> Result<(), Fault<E>> {
        let first = id.index * TILE_WIDTH as u64;
        let Some(level) = id.level.checked_sub(1) else {
            return self.entries(id.index, hashes);
        };
        for (index, hash) in (first..).zip(hashes) {
            let child = TileId { level, index };
            let grandchildren = self.folder.tile(child, self.size)?;
            if perfect_root(&grandchildren) != *hash {
                return Err(Fault::Tile { path: child.path() });
            }
            self.below(child, &grandchildren)?;
        }
        Ok(())
    }

    /// Proves the entries of a bundle against their hashes and hands them out.
    fn entries(&mut self, index: u64, hashes: &[Hash]) -> Result<(), Fault<E>> {
        let (bundle, leaves) = self.folder.leaves(index, hashes.len())?;
        let first = index * TILE_WIDTH as u64;
        let altered = (first..).zip(leaves.iter().zip(hashes)).find(|(_, (leaf, hash))| leaf != hash);
        if let Some((entry, _)) = altered {
            return Err(Fault::Entry { index: entry, path: bundle_path(index, hashes.len()) });
        }
        for (index, entry) in (first..).zip(bundle_entries(&bundle).flatten()) {
            (self.each)(index, entry).map_err(|error| Fault::Refused { index, error })?;
        }
        Ok(())
    }

    /// Finds which tile of an edge that misses the root disagrees with what lies below it.
    fn blame(&mut self, edge: &[(TileId, Vec<Hash>)]) -> Fault<E> {
        for (id, hashes) in edge {
            match self.recomputed(*id, hashes.len()) {
                Err(fault) => return fault,
                Ok(recomputed) if recomputed != *hashes => {
                    return Fault::Tile { path: id.path_at_width(hashes.len()) };
                }
                Ok(_) => {}
            }
        }
        Fault::Root
    }

    /// The hashes of a tile as the files one level below have them.
    fn recomputed(&mut self, id: TileId, width: usize) -> Result<Vec<Hash>, Fault<E>> {
        let Some(level) = id.level.checked_sub(1) else {
            return self.folder.leaves(id.index, width).map(|(_, leaves)| leaves);
        };
        (id.index * TILE_WIDTH as u64..)
            .take(width)
            .map(|index| Ok(perfect_root(&self.folder.tile(TileId { level, index }, self.size)?)))
            .collect()
    }

    /// Proves that the log now has the `known` one as its beginning. The tiles are read again, so what
    /// counts is the proof made from them: it binds both roots, whatever the files say by now.
    fn extends(&mut self, known: &Checkpoint, now: &Checkpoint) -> Result<(), Fault<E>> {
        if known.origin() != now.origin() {
            return Err(Fault::Checkpoint(CheckpointError::OtherOrigin));
        }
        if known.size() > now.size() {
            return Err(Fault::Shrunk { known: known.size() });
        }
        let fork = Fault::Fork { known: known.size() };
        let proof = consistency_proof(known.size(), now.size(), |id| self.folder.tile(id, now.size()));
        let proof = match proof {
            Ok(proof) => proof,
            Err(TileError::Read(fault)) => return Err(fault),
            Err(TileError::Short { .. } | TileError::OutOfRange) => return Err(fork),
        };
        let extends = verify_consistency((known.size(), known.root()), (now.size(), now.root()), &proof);
        if extends { Ok(()) } else { Err(fork) }
    }
}
