//! The suite that every store passes: each sentence of [`keyhearth_core::store`], as a test.
//!
//! Most of it is one model of a store, simple enough to be right by looking at it, that a real store must
//! agree with after every batch, after being opened again, and after a fault.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use keyhearth_core::id::TenantId;
use keyhearth_core::log::{
    Checkpoint, EMPTY_ROOT, Hash, KeyName, TILE_WIDTH, TileId, Tree, inclusion_proof, leaf_hash, tile_hashes,
    verify_inclusion,
};
use keyhearth_core::row::{Row, RowKey, Table};
use keyhearth_core::store::{Commit, Expect, Head, Outcome, Store, StoreError, Write};
use keyhearth_crypto::digest::sha256;
use keyhearth_crypto::note::NoteKey;

/// Holds `S` to the promises. `place` makes room for a new, empty store, `open` opens the store in it.
pub fn run<P, S: Store>(place: impl Fn() -> P, open: impl Fn(&P) -> S) {
    for seed in 1..=4 {
        follows_the_model(seed, &place(), &open);
    }
    let fresh = |test: fn(&S)| {
        let place = place();
        test(&open(&place));
    };
    fresh(starts_empty);
    fresh(a_conflict_leaves_its_commit_out_whole);
    fresh(a_row_is_written_at_most_once_in_a_commit);
    fresh(an_entry_that_is_too_long_fails_the_batch);
    fresh(scan_keeps_to_prefix_order_and_limit);
    fresh(changes_are_whole_epochs);
    fresh(visit_all_sees_every_row_once_and_stops_at_an_error);
    fresh(readers_see_whole_batches);
    the_log_has_tiles_and_proofs(&place(), &open);
    checkpoints_and_documents_last(&place(), &open);
}

/// What a store should hold.
#[derive(Clone, Default)]
pub struct Model {
    pub rows: BTreeMap<RowKey, Row>,
    pub entries: Vec<Vec<u8>>,
    pub changes: Vec<(u64, RowKey)>,
    pub head: Head,
}

type MacChange = (Option<[u8; 32]>, Option<[u8; 32]>);

impl Model {
    /// What a batch does to a store that is in order.
    pub fn commit(&mut self, batch: &[Commit]) -> Vec<Outcome> {
        let mut macs = Vec::new();
        let epoch = self.head.epoch + 1;
        let mut outcomes = Vec::new();
        for commit in batch {
            let found =
                |write: &Write| self.rows.get(&write.key).map_or(Expect::Absent, |row| Expect::Mac(row.mac));
            if let Some(write) = commit.writes.iter().position(|write| found(write) != write.expect) {
                outcomes.push(Outcome::Conflict { write });
                continue;
            }
            for Write { key, row, .. } in &commit.writes {
                let old = match row {
                    Some(row) => self.rows.insert(key.clone(), row.clone()),
                    None => self.rows.remove(key),
                };
                if old.is_some() || row.is_some() {
                    macs.push((old.map(|row| row.mac), row.as_ref().map(|row| row.mac)));
                    self.changes.push((epoch, key.clone()));
                }
            }
            outcomes.push(Outcome::Committed { index: self.entries.len() as u64 });
            self.entries.push(commit.entry.clone());
        }
        self.head.log_size = self.entries.len() as u64;
        if !macs.is_empty() {
            let log_size = self.head.log_size;
            self.head = Head {
                epoch,
                log_size,
                sealed_log_size: log_size,
                digest_seal: seal(&macs, epoch, log_size),
            };
        }
        outcomes
    }

    /// Commits to both and compares what they say.
    pub fn commit_to(&mut self, store: &impl Store, batch: &[Commit]) {
        let outcomes = store.commit(batch, &mut seal).unwrap();
        assert_eq!(outcomes, self.commit(batch));
    }

    /// The store holds exactly this.
    pub fn assert_held_by(&self, store: &impl Store) {
        assert_eq!(store.head().unwrap(), self.head);
        assert!(store.entries(0, usize::MAX).unwrap() == self.entries);
        assert_eq!(store.log_root(), (self.entries.len() as u64, self.root()));
        assert_eq!(store.changes(0, usize::MAX).unwrap().unwrap(), self.changes);
        assert!(rows(store) == self.rows);
        for (key, row) in &self.rows {
            assert_eq!(store.read(key).unwrap().as_ref(), Some(row));
        }
    }

    pub fn root(&self) -> Hash {
        let mut tree = Tree::empty();
        self.entries.iter().for_each(|entry| tree.append(leaf_hash(entry), &mut |_, _| {}));
        tree.root()
    }
}

/// A stand-in for the engine's seal that depends on everything it is given.
pub fn seal(macs: &[MacChange], epoch: u64, log_size: u64) -> [u8; 32] {
    assert!(!macs.is_empty());
    sha256(&[format!("{macs:?}").as_bytes(), &epoch.to_be_bytes(), &log_size.to_be_bytes()])
}

/// All rows, as [`Store::visit_all`] shows them.
pub fn rows(store: &impl Store) -> BTreeMap<RowKey, Row> {
    let rows = Mutex::new(BTreeMap::new());
    let visit = |key, row| {
        assert_eq!(rows.lock().unwrap().insert(key, row), None, "a row was visited twice");
        Ok(())
    };
    store.visit_all(&visit).unwrap();
    rows.into_inner().unwrap()
}

/// Random batches from a seed: mostly valid commits on a few rows, so that they meet often.
pub struct Batches {
    state: u64,
}

impl Batches {
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A number below `bound`. Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators".
    pub fn below(&mut self, bound: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ z >> 31) % bound as u64).unwrap()
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.below(256).to_le_bytes()[0]).collect()
    }

    pub fn batch(&mut self, model: &Model) -> Vec<Commit> {
        let mut model = model.clone();
        let mut batch = Vec::new();
        for _ in 0..1 + self.below(20) {
            let commit = self.one(&model);
            model.commit(std::slice::from_ref(&commit));
            batch.push(commit);
        }
        batch
    }

    fn one(&mut self, model: &Model) -> Commit {
        let keys: BTreeSet<_> = (0..self.below(4)).map(|_| self.key()).collect();
        let writes = keys.into_iter().map(|key| self.write(model, key)).collect();
        let length = if self.below(50) == 0 { 65_535 } else { self.below(300) };
        Commit { writes, entry: self.bytes(length) }
    }

    fn key(&mut self) -> RowKey {
        let table = [Table::Key, Table::Grant, Table::System][self.below(3)];
        let length = [1, 16, 20, 300][self.below(4)];
        RowKey::new(
            table,
            TenantId([[0, 7, 255][self.below(3)]; 16]),
            &vec![self.below(2).to_le_bytes()[0]; length],
        )
    }

    fn write(&mut self, model: &Model, key: RowKey) -> Write {
        let old = model.rows.get(&key);
        let expect = match (self.below(30), old) {
            (0, _) => Expect::Mac([9; 32]),
            (1, _) | (_, None) => Expect::Absent,
            (_, Some(row)) => Expect::Mac(row.mac),
        };
        let revision = old.map_or(u64::MAX - 5, |row| row.revision.wrapping_add(1));
        let length = if self.below(20) == 0 { 20_000 } else { self.below(400) };
        let row = (self.below(4) > 0).then(|| Row {
            revision,
            body: self.bytes(length),
            mac: self.bytes(32).try_into().unwrap(),
        });
        Write { key, expect, row }
    }
}

fn follows_the_model<P, S: Store>(seed: u64, place: &P, open: &impl Fn(&P) -> S) {
    println!("seed {seed}");
    let mut model = Model::default();
    let mut batches = Batches::new(seed);
    for _ in 0..6 {
        let store = open(place);
        model.assert_held_by(&store);
        for _ in 0..10 {
            let batch = batches.batch(&model);
            model.commit_to(&store, &batch);
        }
        model.assert_held_by(&store);
    }
    model.assert_held_by(&open(place));
}

fn starts_empty(store: &impl Store) {
    Model::default().assert_held_by(store);
    assert_eq!(store.log_root(), (0, EMPTY_ROOT));
    assert_eq!(store.checkpoint().unwrap(), None);
    assert_eq!(store.document("seal").unwrap(), None);
    assert_eq!(store.read(&key(b"none")).unwrap(), None);
    assert_eq!(
        store.tile(TileId { level: 0, index: 1 }),
        Err(StoreError::Damaged("a tile of the log is missing"))
    );
    assert_eq!(store.commit(&[], &mut seal), Ok(vec![]));
}

fn key(id: &[u8]) -> RowKey {
    RowKey::new(Table::Key, TenantId([1; 16]), id)
}

fn row(number: u8) -> Row {
    Row { revision: 1, body: vec![number; 40], mac: [number; 32] }
}

fn put(id: &[u8], expect: Expect, number: u8) -> Write {
    Write { key: key(id), expect, row: Some(row(number)) }
}

fn commit(writes: Vec<Write>) -> Commit {
    Commit { writes, entry: b"entry".to_vec() }
}

fn a_conflict_leaves_its_commit_out_whole(store: &impl Store) {
    let mut model = Model::default();
    let batch = [
        commit(vec![put(b"a", Expect::Absent, 1)]),
        commit(vec![
            put(b"b", Expect::Absent, 2),
            put(b"c", Expect::Absent, 3),
            put(b"a", Expect::Absent, 4),
        ]),
        commit(vec![
            put(b"a", Expect::Mac([1; 32]), 5),
            Write { key: key(b"b"), expect: Expect::Absent, row: None },
        ]),
        commit(vec![put(b"a", Expect::Mac([1; 32]), 6)]),
        commit(vec![Write { key: key(b"z"), expect: Expect::Mac([5; 32]), row: None }]),
    ];
    let outcomes = store.commit(&batch, &mut seal).unwrap();
    let conflict = |write| Outcome::Conflict { write };
    let committed = |index| Outcome::Committed { index };
    assert_eq!(outcomes, [committed(0), conflict(2), committed(1), conflict(0), conflict(0)]);
    assert_eq!(model.commit(&batch), outcomes);
    model.assert_held_by(store);
    let none = store.commit(&batch[..1], &mut |_, _, _| panic!("no row changes")).unwrap();
    assert_eq!(none, [conflict(0)]);
    store.commit(&[commit(vec![])], &mut |_, _, _| panic!("no row changes")).unwrap();
    model.commit(&[commit(vec![])]);
    model.assert_held_by(store);
}

fn a_row_is_written_at_most_once_in_a_commit(store: &impl Store) {
    let mut model = Model::default();
    model.commit_to(store, &[commit(vec![put(b"a", Expect::Absent, 1)])]);
    for twice in [
        vec![put(b"b", Expect::Absent, 1), put(b"b", Expect::Absent, 2)],
        vec![put(b"a", Expect::Mac([1; 32]), 2), put(b"a", Expect::Mac([1; 32]), 3)],
    ] {
        let batch = [commit(vec![put(b"c", Expect::Absent, 1)]), commit(twice)];
        assert!(matches!(store.commit(&batch, &mut seal), Err(StoreError::Failed(_))));
        model.assert_held_by(store);
    }
}

fn an_entry_that_is_too_long_fails_the_batch(store: &impl Store) {
    let mut model = Model::default();
    let long = Commit { writes: vec![], entry: vec![0; 65_536] };
    let batch = [commit(vec![put(b"a", Expect::Absent, 1)]), long];
    assert!(matches!(store.commit(&batch, &mut seal), Err(StoreError::Failed(_))));
    model.assert_held_by(store);
    model.commit_to(store, &batch[..1]);
    model.assert_held_by(store);
}

fn scan_keeps_to_prefix_order_and_limit(store: &impl Store) {
    let ids: [&[u8]; 7] = [b"a", b"ab", b"ab\0", b"ab\xff", b"ac", b"\xff", b"\xff\xff"];
    let mut writes: Vec<_> = ids.iter().rev().map(|id| put(id, Expect::Absent, 1)).collect();
    for (table, tenant) in [(Table::Alias, [1; 16]), (Table::Key, [2; 16]), (Table::Key, [0; 16])] {
        let key = RowKey::new(table, TenantId(tenant), b"abc");
        writes.push(Write { key, expect: Expect::Absent, row: Some(row(2)) });
    }
    store.commit(&[commit(writes)], &mut seal).unwrap();
    let scan = |prefix: &[u8], after: &[u8], limit| {
        let found = store.scan(Table::Key, TenantId([1; 16]), prefix, after, limit).unwrap();
        assert!(found.iter().all(|(_, found)| *found == row(1)));
        found.into_iter().map(|(key, _)| key.id).collect::<Vec<_>>()
    };
    assert_eq!(scan(b"", b"", 100), ids);
    assert_eq!(scan(b"", b"ab", 2), ids[2..4]);
    assert_eq!(scan(b"ab", b"", 100), ids[1..4]);
    assert_eq!(scan(b"ab", b"a", 2), ids[1..3]);
    assert_eq!(scan(b"ab", b"ab", 100), ids[2..4]);
    assert_eq!(scan(b"ab", b"b", 100), [b""; 0]);
    assert_eq!(scan(b"\xff", b"", 100), ids[5..]);
    assert_eq!(scan(b"", b"", 0), [b""; 0]);
    assert_eq!(scan(b"x", b"", 100), [b""; 0]);
}

fn changes_are_whole_epochs(store: &impl Store) {
    let mut model = Model::default();
    for number in 0..10 {
        let writes = (0..3).map(|i| put(&[number, i], Expect::Absent, 1)).collect();
        model.commit_to(store, &[commit(writes), commit(vec![])]);
        model.commit_to(store, &[commit(vec![])]);
    }
    let changes = |epoch, limit| store.changes(epoch, limit).unwrap().unwrap();
    assert_eq!(changes(0, 1), model.changes[..3]);
    assert_eq!(changes(0, 3), model.changes[..3]);
    assert_eq!(changes(4, 4), model.changes[12..18]);
    assert_eq!(changes(10, 100), []);
    assert_eq!(changes(0, 0), []);
}

fn visit_all_sees_every_row_once_and_stops_at_an_error(store: &impl Store) {
    let mut model = Model::default();
    for batch in 0..10_u16 {
        let put = |number: u16| {
            let id = [(batch * 1000 + number).to_be_bytes().as_slice(), &[0; 20]].concat();
            let table = Table::ALL[usize::from(number % 15)];
            let key = RowKey::new(table, TenantId([number.to_be_bytes()[1] % 3 * 127; 16]), &id);
            commit(vec![Write { key, expect: Expect::Absent, row: Some(row(1)) }])
        };
        let batch: Vec<_> = (0..1000).map(put).collect();
        model.commit_to(store, &batch);
    }
    assert!(rows(store) == model.rows);
    let stop = StoreError::Damaged("as the visitor says");
    assert_eq!(
        store.visit_all(&|key, _| if key.table == Table::System { Err(stop) } else { Ok(()) }),
        Err(stop)
    );
    assert!(rows(store) == model.rows);
}

/// While batches rewrite two rows together, no scan shows them apart, and nothing committed goes missing.
fn readers_see_whole_batches(store: &impl Store) {
    let pair =
        |expect, number| [commit(vec![put(b"a", expect, number)]), commit(vec![put(b"b", expect, number)])];
    store.commit(&pair(Expect::Absent, 0), &mut seal).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let size = store.log_root().0;
                    let found = store.scan(Table::Key, TenantId([1; 16]), b"", b"", 10).unwrap();
                    assert_eq!((found.len(), &found[0].1), (2, &found[1].1));
                    assert_eq!(store.entries(size - 1, 1).unwrap().len(), 1);
                }
            });
        }
        for number in 0..100 {
            let outcomes = store.commit(&pair(Expect::Mac([number; 32]), number + 1), &mut seal);
            assert!(matches!(outcomes.unwrap()[..], [Outcome::Committed { .. }, Outcome::Committed { .. }]));
            assert_eq!(store.read(&key(b"b")).unwrap(), Some(row(number + 1)));
        }
        done.store(true, Ordering::Relaxed);
    });
}

fn the_log_has_tiles_and_proofs<P, S: Store>(place: &P, open: &impl Fn(&P) -> S) {
    let size = TILE_WIDTH * TILE_WIDTH + 3 * TILE_WIDTH + 10;
    let entry = |index: usize| index.to_be_bytes().to_vec();
    let mut tree = Tree::empty();
    {
        let store = open(place);
        for first in (0..size).step_by(1000) {
            let batch: Vec<_> = (first..size.min(first + 1000))
                .map(|index| Commit { writes: vec![], entry: entry(index) })
                .collect();
            store.commit(&batch, &mut |_, _, _| panic!("no row changes")).unwrap();
        }
    }
    for index in 0..size {
        tree.append(leaf_hash(&entry(index)), &mut |_, _| {});
    }
    let store = open(place);
    assert_eq!(store.log_root(), (size as u64, tree.root()));
    for index in [0, 1, 255, 256, 65_535, 65_536, size - 11, size - 1] {
        let read = |id| store.tile(id).map(|bytes| tile_hashes(&bytes).unwrap().to_vec());
        let proof = inclusion_proof(size as u64, index as u64, read).unwrap();
        assert!(verify_inclusion(&leaf_hash(&entry(index)), index as u64, size as u64, &proof, &tree.root()));
    }
    assert_eq!(store.tile(TileId { level: 0, index: 259 }).unwrap().len(), 10 * 32);
    assert_eq!(store.tile(TileId { level: 1, index: 0 }).unwrap().len(), TILE_WIDTH * 32);
    assert!(matches!(store.tile(TileId { level: 0, index: 260 }), Err(StoreError::Damaged(_))));
    let entries = |index, limit| store.entries(index, limit).unwrap();
    assert_eq!(entries(999, 3), [entry(999), entry(1000), entry(1001)]);
    assert_eq!(entries(size as u64 - 1, 5), [entry(size - 1)]);
    assert_eq!(entries(size as u64, 5), [[0; 0]; 0]);
    assert_eq!(entries(u64::MAX, 5), [[0; 0]; 0]);
    assert_eq!(entries(7, 0), [[0; 0]; 0]);
}

/// The checkpoint of a store as it is now, signed by a key of the tests.
pub fn signed_checkpoint(store: &impl Store) -> (u64, String) {
    let (size, root) = store.log_root();
    let origin: KeyName = "log.example".parse().unwrap();
    let key = NoteKey::from_seed(&[3; 32]).unwrap();
    (size, Checkpoint::new(origin, size, root).sign(&key).to_string())
}

fn checkpoints_and_documents_last<P, S: Store>(place: &P, open: &impl Fn(&P) -> S) {
    let (older, newer) = {
        let store = open(place);
        store.commit(&[commit(vec![])], &mut seal).unwrap();
        let older = signed_checkpoint(&store);
        store.commit(&[commit(vec![]), commit(vec![])], &mut seal).unwrap();
        let newer = signed_checkpoint(&store);
        store.put_checkpoint(older.0, &older.1).unwrap();
        assert_eq!(store.checkpoint().unwrap().as_ref(), Some(&older.1));
        store.put_checkpoint(newer.0, &newer.1).unwrap();
        store.put_document("seal", b"one").unwrap();
        store.put_document("seal", &[2; 10_000]).unwrap();
        store.put_document("other", b"").unwrap();
        store.commit(&[commit(vec![])], &mut seal).unwrap();
        (older, newer)
    };
    let store = open(place);
    assert_eq!(store.checkpoint().unwrap().as_ref(), Some(&newer.1));
    store.put_checkpoint(older.0, &older.1).unwrap();
    assert_eq!(store.checkpoint().unwrap(), Some(newer.1), "the newest is the one of the longest log");
    assert!(store.put_checkpoint(5, "of a log that is not there yet").is_err());
    assert_eq!(store.document("seal").unwrap(), Some(vec![2; 10_000]));
    assert_eq!(store.document("other").unwrap(), Some(vec![]));
    assert_eq!(store.document("none").unwrap(), None);
}
