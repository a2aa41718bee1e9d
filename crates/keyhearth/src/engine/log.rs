//! Acts on the log: listing, checkpoints, proofs, files for export.

use std::collections::HashMap;
use std::sync::Arc;

use keyhearth_core::Error;
use keyhearth_core::entry::Entry;
use keyhearth_core::log::{
    Checkpoint, CheckpointError, Hash, KeyName, SignedCheckpoint, TILE_WIDTH, TileId, Tree, VerifierKey,
    bundle_path, consistency_proof, inclusion_proof, leaf_hash, push_entry, tile_hashes, verify_consistency,
};
use keyhearth_core::request::{Ask, PAGE_MAX, Response};
use keyhearth_core::store::{Store, StoreError};
use keyhearth_crypto::note::NoteKey;

use super::open::Open;
use super::{Effect, Engine, Reading, Turn, blocking};

/// Entries that one listing looks at, at most; it may find fewer of the tenant's own.
const ENTRIES_EXAMINED_MAX: usize = 10_000;

/// A checkpoint not older than this is handed out again, in milliseconds.
const RECENT_MS: u64 = 1_000;

impl Turn<'_> {
    pub(super) fn audit(&self) -> Result<Effect, Error> {
        match &self.request.ask {
            Ask::ListEntries { from, limit } => self.list_entries(*from, *limit),
            Ask::Checkpoint => {
                Ok(Effect::of(Response::Checkpoint(self.engine.recent_checkpoint(self.open)?)))
            }
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
        let mut checkpoint = self.engine.recent_checkpoint(self.open)?;
        let mut newest = stated_size(&checkpoint)?;
        if newest < size.unwrap_or(0).max(index.saturating_add(1)) {
            checkpoint = self.engine.checkpoint_now(self.open)?;
            newest = stated_size(&checkpoint)?;
        }
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

    /// The newest checkpoint if it is recent, else a new one: what many ask for is made once.
    fn recent_checkpoint(&self, open: &Open) -> Result<String, Error> {
        let made = *self.checkpointed.lock();
        let recent = made.is_some_and(|made| Reading::take().boot.saturating_sub(made) < RECENT_MS);
        match self.store.checkpoint()?.filter(|_| recent) {
            Some(note) => Ok(note),
            None => self.checkpoint_now(open),
        }
    }

    /// A checkpoint of the log as it is.
    pub(super) fn checkpoint_now(&self, open: &Open) -> Result<String, Error> {
        self.state_log(&open.unsealed.load().secrets().checkpoint_key()?)
    }

    /// Signs and keeps a checkpoint of the log and the rows as they are, unless the newest one states that
    /// already: nothing changes rows without an entry. The rows are read after the log: they may be newer.
    pub(super) fn state_log(&self, key: &NoteKey) -> Result<String, Error> {
        let mut made = self.checkpointed.lock();
        let (size, root) = self.store.log_root();
        let head = self.store.head()?;
        if let Some(note) = self.store.checkpoint()?
            && stated_size(&note)? == size
        {
            return Ok(note);
        }
        let rows = Checkpoint::new(self.origin()?, size, root).with_rows(head.epoch, &head.digest_seal);
        let note = rows.sign(key).to_string();
        self.store.put_checkpoint(size, &note)?;
        super::start::write_anchor(&self.settings.anchor, &note)?;
        *made = Some(Reading::take().boot);
        Ok(note)
    }

    /// Makes a checkpoint that nobody asked for.
    pub(super) async fn keep_checkpoint(self: &Arc<Self>, open: &Arc<Open>) {
        let (engine, of) = (Arc::clone(self), Arc::clone(open));
        if let Err(error) = blocking(move || engine.checkpoint_now(&of).map(|_| ())).await {
            tracing::error!(%error, "no checkpoint could be made");
        }
    }

    /// Checks that the log continues what `note` states: same log, signed by us, not cut, not forked; and that
    /// the rows are those that it states, or newer. Returns how many entries it covers.
    pub(super) fn continues(&self, open: &Open, note: &str) -> Result<u64, Error> {
        let damaged = Error::Damaged("log: it does not continue what the anchor states");
        let signed: SignedCheckpoint = note.parse().map_err(|_| damaged)?;
        let old = signed.verify(&self.verifier_key(open)?).map_err(|error| match error {
            CheckpointError::OtherOrigin => {
                Error::Damaged("anchor: it is of a log of another name than `origin` in the configuration")
            }
            _ => damaged,
        })?;
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
        if !verify_consistency((old.size(), old.root()), (size, &root), &proof) {
            return Err(damaged);
        }
        // The clock began with the newest entry that is covered: it must be what its hash says.
        let last = old.size().checked_sub(1).ok_or(damaged)?;
        let (index, place) = (last / TILE_WIDTH as u64, last % TILE_WIDTH as u64);
        let hashes = tiles.read(store, TileId { level: 0, index })?;
        let entry = store.entries(last, 1)?.pop().ok_or(damaged)?;
        if hashes.get(usize::try_from(place).expect("below 256")) != Some(&leaf_hash(&entry)) {
            return Err(damaged);
        }
        let (epoch, seal) = old.rows().ok_or(damaged)?;
        let head = store.head()?;
        if head.epoch < epoch || (head.epoch == epoch && head.digest_seal != seal) {
            return Err(Error::Damaged("database: its rows are older than the newest checkpoint"));
        }
        Ok(old.size())
    }
}

/// The size that a checkpoint states, whoever signed it.
pub(super) fn stated_size(note: &str) -> Result<u64, Error> {
    let signed: SignedCheckpoint = note.parse().map_err(|_| Error::Damaged("checkpoint"))?;
    Ok(signed.danger_unverified().size())
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
