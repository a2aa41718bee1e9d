//! The log against the definitions of RFC 6962 written out naively, and against tampering.

use std::collections::BTreeMap;
use std::convert::Infallible;

use keyhearth_crypto::note::NoteKey;
use proptest::prelude::*;

use super::*;

const ORIGIN: &str = "log.example/one";

fn entry(index: u64) -> Vec<u8> {
    format!("entry {index}").into_bytes()
}

fn leaves(size: u64) -> Vec<Hash> {
    (0..size).map(|index| leaf_hash(&entry(index))).collect()
}

/// MTH of RFC 6962 §2.1.
fn naive_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => sha256(&[]),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            node_hash(&naive_root(left), &naive_root(right))
        }
    }
}

/// PATH of RFC 6962 §2.1.1.
fn naive_path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
    let (mut path, sibling) = if index < left.len() {
        (naive_path(index, left), right)
    } else {
        (naive_path(index - left.len(), right), left)
    };
    path.push(naive_root(sibling));
    path
}

/// SUBPROOF of RFC 6962 §2.1.2.
fn naive_subproof(old: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
    if old == leaves.len() {
        return if whole { Vec::new() } else { vec![naive_root(leaves)] };
    }
    let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
    let (mut path, sibling) = if old <= left.len() {
        (naive_subproof(old, left, whole), right)
    } else {
        (naive_subproof(old - left.len(), right, false), left)
    };
    path.push(naive_root(sibling));
    path
}

/// A tree and the tiles it handed out, as a store keeps them.
struct Stored {
    tree: Tree,
    full: BTreeMap<TileId, Vec<Hash>>,
}

impl Stored {
    fn of(leaves: &[Hash]) -> Self {
        let mut stored = Self { tree: Tree::empty(), full: BTreeMap::new() };
        for leaf in leaves {
            stored.append(*leaf);
        }
        stored
    }

    fn append(&mut self, leaf: Hash) {
        let full = &mut self.full;
        self.tree.append(leaf, &mut |id, hashes| assert_eq!(full.insert(id, hashes.to_vec()), None));
    }

    fn read(&self, id: TileId) -> Result<Vec<Hash>, TileId> {
        let edge = || self.tree.edge_tile(id).map(<[Hash]>::to_vec);
        self.full.get(&id).cloned().or_else(edge).ok_or(id)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn roots_are_those_of_the_certificate_transparency_reference() {
    let entries: [&[u8]; 8] = [
        b"",
        &[0x00],
        &[0x10],
        &[0x20, 0x21],
        &[0x30, 0x31],
        &[0x40, 0x41, 0x42, 0x43],
        &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
        &[0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f],
    ];
    let roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut tree = Tree::empty();
    assert_eq!(tree.root(), EMPTY_ROOT);
    assert_eq!(sha256(&[]), EMPTY_ROOT);
    for (entry, root) in entries.into_iter().zip(roots) {
        tree.append(leaf_hash(entry), &mut |_, _| panic!("no tile is full"));
        assert_eq!(hex(&tree.root()), root);
    }
}

#[test]
fn every_size_has_the_naive_root_and_loads_again() {
    let leaves = leaves(1100);
    let mut stored = Stored::of(&[]);
    for size in 0..=leaves.len() {
        assert_eq!(stored.tree.root(), naive_root(&leaves[..size]), "size {size}");
        let ragged = &leaves[size - size % 256..size];
        let loaded = Tree::load(size as u64, ragged, |id| stored.full.get(&id).cloned().ok_or(id)).unwrap();
        assert_eq!(loaded.root(), stored.tree.root(), "size {size}");
        assert!(loaded.partial_tiles().eq(stored.tree.partial_tiles()), "size {size}");
        if let Some(leaf) = leaves.get(size) {
            stored.append(*leaf);
        }
    }
}

#[test]
fn three_levels_of_tiles_load_and_prove() {
    let leaves = leaves(70_000);
    let mut stored = Stored::of(&leaves);
    assert_eq!(stored.full.len(), 273 + 1);
    let root = stored.tree.root();
    assert_eq!(root, naive_root(&leaves));
    let mut loaded = Tree::load(70_000, &leaves[273 * 256..], |id| stored.read(id)).unwrap();
    loaded.append([1; 32], &mut |_, _| ());
    let path = inclusion_proof(70_000, 65_535, |id| stored.read(id)).unwrap();
    assert!(verify_inclusion(&leaves[65_535], 65_535, 70_000, &path, &root));
    stored.append([1; 32]);
    assert_eq!(loaded.root(), stored.tree.root());
    let path = consistency_proof(70_000, 70_001, |id| stored.read(id)).unwrap();
    assert!(verify_consistency((70_000, &root), (70_001, &loaded.root()), &path));
}

#[test]
fn a_short_or_missing_tile_is_named() {
    let leaves = leaves(600);
    let stored = Stored::of(&leaves);
    let edge = TileId { level: 0, index: 2 };
    let loaded =
        |ragged, read: &dyn Fn(TileId) -> Result<Vec<Hash>, TileId>| Tree::load(600, ragged, read).err();
    assert_eq!(loaded(&leaves[..87], &|id| stored.read(id)), Some(TileError::Short { tile: edge }));
    let child = TileId { level: 0, index: 0 };
    assert_eq!(loaded(&leaves[..88], &|_| Ok(vec![[0; 32]; 255])), Some(TileError::Short { tile: child }));
    assert_eq!(loaded(&leaves[..88], &Err), Some(TileError::Read(child)));
    assert_eq!(inclusion_proof(600, 600, |id| stored.read(id)), Err(TileError::OutOfRange));
    assert_eq!(consistency_proof(601, 600, |id| stored.read(id)), Err(TileError::OutOfRange));
    assert_eq!(inclusion_proof(600, 590, Err), Err(TileError::Read(TileId { level: 1, index: 0 })));
}

#[test]
fn proofs_equal_the_naive_ones_and_verify() {
    let leaves = leaves(1100);
    let stored = Stored::of(&leaves);
    let read = |id| stored.read(id);
    let sizes =
        (1..70).chain([127, 128, 129, 255, 256, 257, 300, 511, 512, 513, 767, 1023, 1024, 1025, 1100]);
    let sizes: Vec<usize> = sizes.collect();
    for &size in &sizes {
        let root = naive_root(&leaves[..size]);
        let step = size / 64 + 1;
        for index in (0..size).step_by(step).chain([size - 1]) {
            let path = inclusion_proof(size as u64, index as u64, read).unwrap();
            assert_eq!(path, naive_path(index, &leaves[..size]), "{index} of {size}");
            assert!(verify_inclusion(&leaves[index], index as u64, size as u64, &path, &root));
        }
        for &old in sizes.iter().filter(|old| **old <= size) {
            let path = consistency_proof(old as u64, size as u64, read).unwrap();
            assert_eq!(path, naive_subproof(old, &leaves[..size], true), "{old} to {size}");
            let old_root = naive_root(&leaves[..old]);
            assert!(verify_consistency((old as u64, &old_root), (size as u64, &root), &path));
        }
    }
    assert!(verify_consistency((0, &EMPTY_ROOT), (1100, &stored.tree.root()), &[]));
    assert!(!verify_consistency((0, &[0; 32]), (1100, &stored.tree.root()), &[]));
}

#[test]
fn a_path_that_ends_below_the_root_proves_nothing() {
    let (left, right) = ([1; 32], [2; 32]);
    let parent = node_hash(&left, &right);
    assert!(verify_inclusion(&left, 0, 2, &[right], &parent));
    assert!(!verify_inclusion(&left, 0, 4, &[right], &parent));
    assert!(verify_consistency((2, &left), (4, &parent), &[right]));
    assert!(!verify_consistency((2, &left), (8, &parent), &[right]));
}

proptest! {
    #[test]
    fn altered_inclusion_proofs_fail(size in 1_u64..700, at: prop::sample::Index, bit in 0_usize..256, cut: bool) {
        let leaves = leaves(size);
        let stored = Stored::of(&leaves);
        let index = at.index(leaves.len());
        let (leaf, root) = (leaves[index], stored.tree.root());
        let path = inclusion_proof(size, index as u64, |id| stored.read(id)).unwrap();
        let holds = |leaf: &Hash, index: u64, size: u64, path: &[Hash]| verify_inclusion(leaf, index, size, path, &root);
        let index = index as u64;
        prop_assert!(holds(&leaf, index, size, &path));
        prop_assert!(!holds(&[0; 32], index, size, &path));
        prop_assert!(!holds(&leaf, index + size, size, &path));
        if size > 1 {
            prop_assert!(!holds(&leaf, index ^ 1, size, &path));
            let mut other = path.clone();
            at.get_mut(&mut other)[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!holds(&leaf, index, size, &other));
            let other = if cut { path[1..].to_vec() } else { [&path[..], &[root]].concat() };
            prop_assert!(!holds(&leaf, index, size, &other));
        }
    }

    #[test]
    fn altered_consistency_proofs_fail(old in 1_u64..600, more in 1_u64..600, at: prop::sample::Index, bit in 0_usize..256) {
        let leaves = leaves(old + more);
        let stored = Stored::of(&leaves);
        let (old_root, root) = (naive_root(&leaves[..leaves.len() - usize::try_from(more).unwrap()]), stored.tree.root());
        let path = consistency_proof(old, old + more, |id| stored.read(id)).unwrap();
        prop_assert!(verify_consistency((old, &old_root), (old + more, &root), &path));
        prop_assert!(!verify_consistency((old, &root), (old + more, &root), &path));
        prop_assert!(!verify_consistency((old, &old_root), (old + more, &old_root), &path));
        prop_assert!(!verify_consistency((old + more, &root), (old, &old_root), &path));
        prop_assert!(!verify_consistency((old, &old_root), (old + more, &root), &path[1..]));
        let mut other = path.clone();
        at.get_mut(&mut other)[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!verify_consistency((old, &old_root), (old + more, &root), &other));
    }

    #[test]
    fn parsers_survive_anything(bytes in prop::collection::vec(any::<u8>(), 0..600), text in "\\PC*(\n\\PC*){0,6}\n") {
        let entries: Vec<_> = bundle_entries(&bytes).collect();
        prop_assert!(entries.len() <= bytes.len());
        let _ = tile_hashes(&bytes);
        if let Ok(parsed) = text.parse::<SignedCheckpoint>() {
            prop_assert_eq!(parsed.to_string(), text.clone());
        }
        let _ = (text.parse::<Checkpoint>(), text.parse::<VerifierKey>());
    }

    #[test]
    fn proofs_of_any_shape_are_total(index: u64, size: u64, path in prop::collection::vec(any::<Hash>(), 0..80)) {
        prop_assert!(!verify_inclusion(&[1; 32], index, size, &path, &[2; 32]));
        prop_assert!(!verify_consistency((index, &[1; 32]), (size, &[2; 32]), &path));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// A log of equal entries has tiles of equal hashes, so its tiles are known at any size.
    #[test]
    fn logs_of_any_size_load_and_prove(a in 1_u64.., b: u64, shift in 0_u32..64, at: u64) {
        let leaf = leaf_hash(b"equal");
        let read = |id: TileId| {
            let hash = (0..8 * u32::from(id.level)).fold(leaf, |hash, _| node_hash(&hash, &hash));
            Ok::<_, Infallible>(vec![hash; TILE_WIDTH])
        };
        let size = (a >> shift).max(1_u64);
        let (old, index) = (b % size + 1, at % size);
        let root = |size| Tree::load(size, &[leaf; TILE_WIDTH - 1], read).unwrap().root();
        let path = inclusion_proof(size, index, read).unwrap();
        prop_assert!(verify_inclusion(&leaf, index, size, &path, &root(size)));
        let path = consistency_proof(old, size, read).unwrap();
        prop_assert!(verify_consistency((old, &root(old)), (size, &root(size)), &path));
    }
}

type Files = BTreeMap<String, Vec<u8>>;

fn key_of(seed: u8) -> NoteKey {
    NoteKey::from_seed(&[seed; 32]).unwrap()
}

fn key() -> NoteKey {
    key_of(1)
}

fn checkpoint(leaves: &[Hash]) -> Checkpoint {
    Checkpoint::new(ORIGIN.parse().unwrap(), leaves.len() as u64, naive_root(leaves))
}

fn exported(size: u64) -> Files {
    let mut files = Files::new();
    let bundle = |first: u64, count: usize| {
        let mut bundle = Vec::new();
        (first..).take(count).for_each(|index| push_entry(&mut bundle, &entry(index)).unwrap());
        Ok::<_, Infallible>(bundle)
    };
    export(&checkpoint(&leaves(size)).sign(&key()), bundle, |path, bytes| {
        assert!(files.insert(path.to_owned(), bytes.to_vec()).is_none(), "{path} is written once");
        Ok(())
    })
    .unwrap();
    files
}

fn verified(files: &Files, known: &[Checkpoint]) -> Result<Report, Fault<Infallible>> {
    let log = VerifierKey::log(ORIGIN.parse().unwrap(), key().public());
    verify_export(|path| Ok(files.get(path).cloned()), &log, known, |_, _| Ok(()))
}

#[test]
fn an_export_verifies_and_returns_every_entry() {
    for size in [0, 1, 2, 255, 256, 257, 512, 1100] {
        let files = exported(size);
        let mut seen = 0;
        let log = VerifierKey::log(ORIGIN.parse().unwrap(), key().public());
        let report = verify_export(
            |path| Ok::<_, u64>(files.get(path).cloned()),
            &log,
            &[checkpoint(&leaves(size)), checkpoint(&leaves(size / 2)), checkpoint(&[])],
            |index, bytes| {
                assert_eq!((index, bytes), (seen, &entry(seen)[..]));
                seen += 1;
                Ok(())
            },
        );
        assert_eq!(report.map(|report| (report.size, report.root)), Ok((size, naive_root(&leaves(size)))));
        assert_eq!(seen, size);
    }
    let files = exported(3);
    let log = VerifierKey::log(ORIGIN.parse().unwrap(), key().public());
    let stopped = verify_export(
        |path| Ok(files.get(path).cloned()),
        &log,
        &[],
        |index, _| if index == 2 { Err("no") } else { Ok(()) },
    );
    assert_eq!(stopped, Err(Fault::Refused { index: 2, error: "no" }));
}

#[test]
fn the_vector_of_the_format_is_what_is_exported() {
    let document = include_str!("../../../../docs/formats/log.md");
    let files = exported(3);
    let tile = tile_hashes(&files["tile/0/000.p/3"]).unwrap().iter().map(|hash| hex(hash) + "\n").collect();
    let node = node_hash(&leaves(3)[0], &leaves(3)[1]);
    let log = VerifierKey::log(ORIGIN.parse().unwrap(), key().public());
    let witness = key_of(2);
    let signed: SignedCheckpoint =
        String::from_utf8(files[CHECKPOINT_PATH].clone()).unwrap().parse().unwrap();
    let name: KeyName = "witness.example".parse().unwrap();
    let proof = EntryProof { index: 2, path: vec![node], checkpoint: signed.clone() };
    let parts = [
        format!(
            "{}{}\n",
            signed.cosign(name.clone(), &witness, 1_700_000_000),
            VerifierKey::witness(name, witness.public())
        ),
        proof.to_string(),
        format!("{}\n", hex(&files["tile/entries/000.p/3"])),
        tile,
        format!("{}\n{}\n", hex(&node), hex(&naive_root(&leaves(3)))),
        signed.to_string(),
        format!("{log}\n"),
    ];
    for part in parts {
        assert!(document.contains(&format!("```\n{part}```\n")), "{part}");
    }
}

/// 70,000 entries have full tiles below a full tile, so this reaches every branch of the walk.
#[test]
fn an_export_of_three_levels_has_the_files_of_the_standard_and_verifies() {
    let files = exported(70_000);
    assert_eq!(files.len(), 1 + 2 * 274 + 2 + 1);
    assert_eq!(files["tile/0/273.p/112"].len(), 112 * 32);
    assert_eq!(files["tile/1/000"].len(), TILE_BYTES);
    assert_eq!(files["tile/2/000.p/1"].len(), 32);
    assert_eq!(verified(&files, &[checkpoint(&leaves(65_537))]).map(|report| report.size), Ok(70_000));
    for path in ["tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1", "tile/0/272"] {
        let mut bad = files.clone();
        *bad.get_mut(path).unwrap().last_mut().unwrap() ^= 1;
        assert_eq!(verified(&bad, &[]), Err(Fault::Tile { path: path.to_owned() }));
    }
}

/// Whether the fault names this file.
fn names(fault: &Fault<Infallible>, file: &str) -> bool {
    match fault {
        Fault::Tile { path }
        | Fault::Bundle { path, .. }
        | Fault::Missing { path }
        | Fault::Entry { path, .. } => path == file,
        Fault::Checkpoint(_) => file == CHECKPOINT_PATH,
        Fault::Read { .. }
        | Fault::Refused { .. }
        | Fault::Root
        | Fault::Shrunk { .. }
        | Fault::Fork { .. } => false,
    }
}

#[test]
fn every_altered_cut_extended_or_missing_file_is_named() {
    for size in [1, 3, 256, 600] {
        let good = exported(size);
        for (path, bytes) in &good {
            let named = |change: &dyn Fn(&mut Files)| {
                let mut files = good.clone();
                change(&mut files);
                let fault = verified(&files, &[]).unwrap_err();
                assert!(names(&fault, path), "{path} of {size}: {fault:?}");
            };
            for at in (0..bytes.len()).step_by(bytes.len() / 97 + 1) {
                named(&|files| files.get_mut(path).unwrap()[at] ^= 1 << (at % 8));
            }
            named(&|files| drop(files.remove(path)));
            named(&|files| files.get_mut(path).unwrap().truncate(bytes.len() - 1));
            named(&|files| files.get_mut(path).unwrap().push(0));
            named(&|files| files.get_mut(path).unwrap().clear());
        }
    }
}

#[test]
fn an_altered_entry_is_named_by_its_index() {
    let mut files = exported(600);
    let path = "tile/entries/001";
    files.get_mut(path).unwrap()[2] ^= 1;
    assert_eq!(verified(&files, &[]), Err(Fault::Entry { index: 256, path: path.to_owned() }));
}

#[test]
fn a_signed_root_that_the_entries_do_not_have_is_a_fault_of_the_root() {
    let mut files = exported(600);
    let signed = Checkpoint::new(ORIGIN.parse().unwrap(), 600, [5; 32]).sign(&key());
    files.insert(CHECKPOINT_PATH.to_owned(), signed.to_string().into_bytes());
    assert_eq!(verified(&files, &[]), Err(Fault::Root));
}

#[test]
fn a_shorter_log_or_another_history_is_refused_by_who_knows_better() {
    let files = exported(600);
    assert_eq!(verified(&files, &[checkpoint(&leaves(601))]), Err(Fault::Shrunk { known: 601 }));
    for known in [1, 256, 300, 600] {
        let mut other = leaves(known);
        other[0] = [0; 32];
        assert!(verified(&files, &[checkpoint(&leaves(known))]).is_ok());
        assert_eq!(verified(&files, &[checkpoint(&other)]), Err(Fault::Fork { known }));
    }
    let other_log = Checkpoint::new("log.example/two".parse().unwrap(), 0, EMPTY_ROOT);
    assert_eq!(verified(&files, &[other_log]), Err(Fault::Checkpoint(CheckpointError::OtherOrigin)));
}

#[test]
fn an_export_of_damaged_entries_ends_without_a_checkpoint() {
    let signed = checkpoint(&leaves(3)).sign(&key());
    let export_of = |bundle: &[u8]| {
        let mut files = Files::new();
        let result = export(
            &signed,
            |_, _| Ok::<_, Infallible>(bundle.to_vec()),
            |path, bytes| {
                files.insert(path.to_owned(), bytes.to_vec());
                Ok(())
            },
        );
        assert!(!files.contains_key(CHECKPOINT_PATH));
        result
    };
    assert_eq!(export_of(&[0, 0, 0, 0, 0, 0]), Err(ExportError::Root));
    assert_eq!(export_of(&[0, 0, 0, 0]), Err(ExportError::Bundle { first: 0, error: None }));
    assert_eq!(export_of(&[0; 8]), Err(ExportError::Bundle { first: 0, error: None }));
    assert_eq!(
        export_of(&[0, 9]),
        Err(ExportError::Bundle { first: 0, error: Some(BundleError::Truncated) })
    );
}

#[test]
fn an_entry_proof_survives_its_text_form_and_proves_one_entry() {
    let all = leaves(600);
    let stored = Stored::of(&all);
    let log = VerifierKey::log(ORIGIN.parse().unwrap(), key().public());
    for (size, index) in [(1, 0), (256, 255), (600, 300), (600, 599)] {
        let path = inclusion_proof(size, index, |id| stored.read(id)).unwrap();
        let signed = checkpoint(&leaves(size)).sign(&key());
        let proof = EntryProof { index, path, checkpoint: signed };
        let text = proof.to_string();
        assert_eq!(text.parse(), Ok(proof.clone()));
        let with_extra = text.replace("\nindex", "\nextra AAAA\nindex");
        assert_eq!(with_extra.parse(), Ok(proof.clone()));
        assert_eq!(proof.verify(&entry(index), &log).map(Checkpoint::size), Ok(size));
        assert_eq!(proof.verify(&entry(index + 1), &log), Err(CheckpointError::NotAuthentic));
        let long =
            text.replace("\n\nlog", &format!("{}\n\nlog", format!("\n{}=", "A".repeat(43)).repeat(65)));
        assert_eq!(long.parse::<EntryProof>(), Err(CheckpointError::TooLarge));
        for (from, to) in [("@v1", "@v2"), ("index ", "index 0"), ("index", "Index"), ("\n\n", "\n")] {
            assert!(text.replace(from, to).parse::<EntryProof>().is_err(), "{to}");
        }
    }
}

#[test]
fn a_witness_cosigns_only_what_extends_what_it_saw() {
    let all = leaves(600);
    let stored = Stored::of(&all);
    let log = VerifierKey::log(ORIGIN.parse().unwrap(), key().public());
    let request = |old_size, size: usize| {
        let proof = consistency_proof(old_size, size as u64, |id| stored.read(id)).unwrap_or_default();
        let request = WitnessRequest { old_size, proof, checkpoint: checkpoint(&all[..size]).sign(&key()) };
        assert_eq!(request.to_string().parse(), Ok(request.clone()));
        request
    };
    let seen = checkpoint(&all[..300]);
    assert_eq!(request(0, 300).judge(&log, None), Ok(&seen));
    assert_eq!(request(300, 600).judge(&log, Some(&seen)), Ok(&checkpoint(&all)));
    assert_eq!(request(300, 300).judge(&log, Some(&seen)), Ok(&seen));
    assert_eq!(request(0, 600).judge(&log, Some(&seen)), Err(WitnessRefusal::Conflict { latest: 300 }));
    assert_eq!(request(300, 600).judge(&log, None), Err(WitnessRefusal::Conflict { latest: 0 }));
    assert_eq!(request(300, 200).judge(&log, Some(&seen)), Err(WitnessRefusal::Shrinks));
    let mut other = all[..300].to_vec();
    other[7] = [0; 32];
    assert_eq!(request(300, 600).judge(&log, Some(&checkpoint(&other))), Err(WitnessRefusal::Inconsistent));
    assert_eq!(request(300, 300).judge(&log, Some(&checkpoint(&other))), Err(WitnessRefusal::Inconsistent));
    let stranger = VerifierKey::log(ORIGIN.parse().unwrap(), [3; 32]);
    let refused = Err(WitnessRefusal::Checkpoint(CheckpointError::NotSigned));
    assert_eq!(request(0, 300).judge(&stranger, None), refused);
}
