//! Acts on the log: listing, checkpoints, proofs, files for export.

use std::collections::HashMap;
use std::sync::Arc;

use keyhearth_core::Error;
use keyhearth_core::entry::Entry;
use keyhearth_core::log::{
    Checkpoint, Hash, KeyName, SignedCheckpoint, TILE_WIDTH, TileId, Tree, VerifierKey, bundle_path,
    consistency_proof, inclusion_proof, leaf_hash, push_entry, tile_hashes, verify_consistency,
};
use keyhearth_core::request::{Ask, PAGE_MAX, Response};
use keyhearth_core::store::{Store, StoreError};

use super::open::Open;
use super::{Effect, Engine, Turn, blocking};

/// Entries that one listing looks at, at most; it may find fewer of the tenant's own.
const ENTRIES_EXAMINED_MAX: usize = 10_000;

impl Turn<'_> {
    pub(super) fn audit(&self) -> Result<Effect, Error> {
        match &self.request.ask {
            Ask::ListEntries { from, limit } => self.list_entries(*from, *limit),
            Ask::Checkpoint => Ok(Effect::of(Response::Checkpoint(self.engine.checkpoint_now(self.open)?))),
            Ask::ProveEntry { index, size } => self.prove_entry(*index, *size),
            _ => Err(Error::Internal("not an operation on the log")),
        }
    }

    fn list_entries(&self, from: u64, limit: usize) -> Result<Effect, Error> {
        if !(1..=PAGE_MAX).contains(&limit) {
            return Err(Error::Invalid { field: "limit", rule: "must be 1 to 1,000" });
        }
        let size = self.engine.ledger.log_size();
        let mut entries = Vec::new();
        let mut index = from;
        let end = size.min(from.saturating_add(ENTRIES_EXAMINED_MAX as u64));
        while index < end && entries.len() < limit {
            let read = self.engine.store.entries(index, PAGE_MAX)?;
            if read.is_empty() {
                break;
            }
            for bytes in read {
                if entries.len() == limit || index == end {
                    break;
                }
                if Entry::from_bytes(&bytes)?.tenant == self.tenant() {
                    entries.push((index, bytes));
                }
                index += 1;
            }
        }
        let next = (index < size).then_some(index);
        Ok(Effect::of(Response::Entries { first: from, entries, next }))
    }

    /// Proves that an entry of the tenant is in the log that the newest checkpoint states.
    fn prove_entry(&self, index: u64, size: Option<u64>) -> Result<Effect, Error> {
        let store = self.engine.store.as_ref();
        let entry = store.entries(index, 1)?.pop().ok_or(Error::NotFound("log entry"))?;
        if Entry::from_bytes(&entry)?.tenant != self.tenant() {
            return Err(Error::NotFound("log entry"));
        }
        let checkpoint = self.engine.checkpoint_now(self.open)?;
        let signed: SignedCheckpoint = checkpoint.parse().map_err(|_| Error::Damaged("checkpoint"))?;
        let newest = signed.danger_unverified().size();
        let size = size.unwrap_or(newest);
        if size > newest || index >= size {
            return Err(Error::Invalid {
                field: "size",
                rule: "must be more than the index and at most the log's size",
            });
        }
        let tiles = Tiles::at(store, size)?;
        let hashes =
            inclusion_proof(size, index, |id| tiles.read(store, id)).map_err(|_| Error::Damaged("log"))?;
        Ok(Effect::of(Response::Proof { index, size, entry, hashes, checkpoint }))
    }

    /// One file of the log in C2SP tlog-tiles layout.
    pub(super) fn export_log(&self, path: &str) -> Result<Effect, Error> {
        let store = self.engine.store.as_ref();
        if path == "checkpoint" {
            return Ok(Effect::of(Response::LogFile(self.engine.checkpoint_now(self.open)?.into_bytes())));
        }
        let bytes = match parse_path(path).ok_or(Error::NotFound("log file"))? {
            (None, index, width) => {
                let first = index.checked_mul(TILE_WIDTH as u64).ok_or(Error::NotFound("log file"))?;
                let entries = store.entries(first, width)?;
                if entries.len() < width {
                    return Err(Error::NotFound("log file"));
                }
                let mut bundle = Vec::new();
                for entry in &entries {
                    push_entry(&mut bundle, entry).map_err(|_| Error::Damaged("log entry"))?;
                }
                bundle
            }
            (Some(level), index, width) => {
                let tile = TileId { level, index };
                let (size, _) = store.log_root();
                let tiles = Tiles::at(store, size)?;
                let hashes = tiles.read(store, tile).map_err(|_| Error::NotFound("log file"))?;
                let hashes = hashes.get(..width).ok_or(Error::NotFound("log file"))?;
                hashes.as_flattened().to_vec()
            }
        };
        Ok(Effect::of(Response::LogFile(bytes)))
    }
}

/// Reads `tile/entries/N[.p/W]` and `tile/L/N[.p/W]`: the level (none for entries), index and width.
/// A file has one path: what reads like it but is spelled otherwise is none.
///
/// Source: C2SP tlog-tiles, "Merkle Tree" (paths of tiles).
fn parse_path(path: &str) -> Option<(Option<u8>, u64, usize)> {
    let (level, rest) = path.strip_prefix("tile/")?.split_once('/')?;
    let level = if level == "entries" { None } else { Some(level.parse().ok().filter(|level| *level < 8)?) };
    let (rest, width) = match rest.split_once(".p/") {
        Some((rest, width)) => (rest, width.parse().ok().filter(|width| (1..TILE_WIDTH).contains(width))?),
        None => (rest, TILE_WIDTH),
    };
    let mut index = 0_u64;
    for group in rest.split('/') {
        let digits = group.strip_prefix('x').unwrap_or(group);
        index = index.checked_mul(1_000)?.checked_add(digits.parse().ok()?)?;
    }
    let spelled = match level {
        Some(level) => TileId { level, index }.path_at_width(width),
        None => bundle_path(index, width),
    };
    (spelled == path).then_some((level, index, width))
}

/// The tiles of the log at one size: full ones from the store, those at the right edge computed.
pub(super) struct Tiles {
    tree: Tree,
    /// Full tiles already read.
    read: parking_lot::Mutex<HashMap<TileId, Vec<Hash>>>,
}

impl Tiles {
    /// The tiles of the log when it had `size` entries.
    pub(super) fn at(store: &dyn Store, size: u64) -> Result<Self, Error> {
        let edge = size % TILE_WIDTH as u64;
        let entries = store.entries(size - edge, usize::try_from(edge).expect("below 256"))?;
        let leaves: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry)).collect();
        let tree = Tree::load(size, &leaves, |id| full_tile(store, id)).map_err(|_| Error::Damaged("log"))?;
        Ok(Self { tree, read: parking_lot::Mutex::default() })
    }

    /// The root at this size.
    pub(super) fn root(&self) -> Hash {
        self.tree.root()
    }

    /// A tile, as far as the log of this size has it.
    pub(super) fn read(&self, store: &dyn Store, id: TileId) -> Result<Vec<Hash>, StoreError> {
        if let Some(hashes) = self.tree.edge_tile(id) {
            return Ok(hashes.to_vec());
        }
        if let Some(hashes) = self.read.lock().get(&id) {
            return Ok(hashes.clone());
        }
        let hashes = full_tile(store, id)?;
        self.read.lock().insert(id, hashes.clone());
        Ok(hashes)
    }
}

fn full_tile(store: &dyn Store, id: TileId) -> Result<Vec<Hash>, StoreError> {
    let bytes = store.tile(id)?;
    tile_hashes(&bytes).map(<[Hash]>::to_vec).ok_or(StoreError::Damaged("a tile of the log has another size"))
}

impl Engine {
    /// The log's name.
    fn origin(&self) -> Result<KeyName, Error> {
        self.settings
            .origin
            .parse()
            .map_err(|_| Error::Internal("the log's name is not usable; correct it in the configuration"))
    }

    /// What verifies this log's checkpoints.
    pub(super) fn verifier_key(&self, open: &Open) -> Result<VerifierKey, Error> {
        let key = open.unsealed.load().secrets().checkpoint_key()?;
        Ok(VerifierKey::log(self.origin()?, key.public()))
    }

    /// Signs and stores a checkpoint of the log as it is, unless the newest one states that already.
    pub(super) fn checkpoint_now(&self, open: &Open) -> Result<String, Error> {
        let _one = self.checkpointing.lock();
        let (size, root) = self.store.log_root();
        if let Some(note) = self.store.checkpoint()? {
            let signed: SignedCheckpoint = note.parse().map_err(|_| Error::Damaged("checkpoint"))?;
            if signed.danger_unverified().size() == size {
                return Ok(note);
            }
        }
        let key = open.unsealed.load().secrets().checkpoint_key()?;
        let note = Checkpoint::new(self.origin()?, size, root).sign(&key).to_string();
        self.store.put_checkpoint(size, &note)?;
        super::start::write_anchor(&self.settings.anchor, &note)?;
        Ok(note)
    }

    /// Makes a checkpoint that nobody asked for.
    pub(super) async fn keep_checkpoint(self: &Arc<Self>, open: &Arc<Open>) {
        let (engine, of) = (Arc::clone(self), Arc::clone(open));
        if let Err(error) = blocking(move || engine.checkpoint_now(&of).map(|_| ())).await {
            tracing::error!(%error, "no checkpoint could be made");
        }
    }

    /// Checks that the log continues what `note` states: same log, signed by us, not cut, not forked.
    pub(super) fn continues(&self, open: &Open, note: &str) -> Result<(), Error> {
        let damaged = Error::Damaged("log: it does not continue what the anchor states");
        let signed: SignedCheckpoint = note.parse().map_err(|_| damaged)?;
        let old = signed.verify(&self.verifier_key(open)?).map_err(|_| damaged)?;
        let store = self.store.as_ref();
        let (size, root) = store.log_root();
        if old.size() > size {
            return Err(damaged);
        }
        let tiles = Tiles::at(store, size)?;
        if tiles.root() != root {
            return Err(damaged);
        }
        let proof = consistency_proof(old.size(), size, |id| tiles.read(store, id)).map_err(|_| damaged)?;
        if verify_consistency((old.size(), old.root()), (size, &root), &proof) {
            Ok(())
        } else {
            Err(damaged)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::parse_path;

    #[test]
    fn paths_of_log_files() {
        assert_eq!(parse_path("tile/entries/000"), Some((None, 0, 256)));
        assert_eq!(parse_path("tile/entries/x001/234.p/7"), Some((None, 1234, 7)));
        assert_eq!(parse_path("tile/1/005"), Some((Some(1), 5, 256)));
        for bad in [
            "",
            "tile/",
            "tile/9/000",
            "tile/entries/1",
            "tile/entries/000.p/256",
            "tile/0/../000",
            "tile/0/x99999999999",
            "tile/0/x000",
            "tile/entries/x000/001",
        ] {
            assert_eq!(parse_path(bad), None, "{bad}");
        }
    }
}
