//! An exported log verifies if nothing in it was altered, and otherwise only if what changed are lines of
//! signers whom nobody asked about.
#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use keyhearth_core::log::{
    CHECKPOINT_PATH, Checkpoint, Hash, KeyName, Tree, VerifierKey, export, leaf_hash, push_entry,
    verify_export,
};
use keyhearth_crypto::note::NoteKey;
use libfuzzer_sys::fuzz_target;

struct Log {
    root: Hash,
    files: BTreeMap<String, Vec<u8>>,
    verifier: VerifierKey,
}

/// 300 entries: one full tile and two levels.
static LOG: LazyLock<Log> = LazyLock::new(|| {
    let entry = |index: u64| index.to_be_bytes();
    let mut tree = Tree::empty();
    (0..300).for_each(|index| tree.append(leaf_hash(&entry(index)), &mut |_, _| ()));
    let key = NoteKey::from_seed(&[3; 32]).expect("a seed of 32 bytes");
    let origin: KeyName = "fuzz.example/log".parse().expect("a name");
    let signed = Checkpoint::new(origin.clone(), tree.size(), tree.root()).sign(&key);
    let mut files = BTreeMap::new();
    export::<()>(
        &signed,
        |first, count| {
            let mut bundle = Vec::new();
            (first..first + count as u64)
                .try_for_each(|index| push_entry(&mut bundle, &entry(index)))
                .expect("entries are small");
            Ok(bundle)
        },
        |path, bytes| {
            files.insert(path.to_owned(), bytes.to_vec());
            Ok(())
        },
    )
    .expect("the log is whole");
    Log { root: tree.root(), files, verifier: VerifierKey::log(origin, key.public()) }
});

// Bytes: which file, where in it (two bytes), how many bytes to take out there, and what to put in their place.
fuzz_target!(|data: &[u8]| {
    let [file, high, low, cut, put @ ..] = data else { return };
    let (altered, bytes) =
        LOG.files.iter().nth(usize::from(*file) % LOG.files.len()).expect("the index is below the length");
    let from = usize::from(u16::from_be_bytes([*high, *low])) % bytes.len();
    let to = (from + usize::from(*cut)).min(bytes.len());
    let mut given = bytes.clone();
    given.splice(from..to, put.iter().copied());

    let read = |path: &str| -> Result<_, ()> {
        Ok(if path == altered { Some(given.clone()) } else { LOG.files.get(path).cloned() })
    };
    match verify_export(read, &LOG.verifier, &[], |_, _| Ok(())) {
        Ok(report) => {
            assert_eq!((report.size, report.root), (300, LOG.root));
            assert!(given == *bytes || altered == CHECKPOINT_PATH, "{altered} was altered unnoticed");
        }
        Err(fault) => assert_ne!(given, *bytes, "{altered}: {fault:?}"),
    }
});
