use std::collections::BTreeMap;
use std::fs::{self, File};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use keyhearth_crypto::digest;
use proptest::prelude::*;

use super::*;
use crate::age::{self, FileKey, Stanza};

const FOLDER_ID: FolderId = FolderId([7; 16]);

fn path(text: &str) -> InsidePath {
    InsidePath::new(text).unwrap()
}

fn content(number: u8) -> Content {
    let file = FileId::read(&format!("{number:032x}"));
    Content { front: Front([number; 16]), hash: Hash([number; 32]), payload_bytes: number.into(), file }
}

fn record(content: Option<Content>, device: &str) -> Record {
    Record { content, when: 1, device: Device::new(device).unwrap() }
}

fn observed(number: u8) -> Observed {
    let Content { front, hash, payload_bytes, file } = content(number);
    Observed { file, front, payload_bytes, hash: Some(hash) }
}

/// What happens in a folder: a path, what lies there then, and on which of two devices.
fn history() -> impl Strategy<Value = Vec<(u8, u8, bool)>> {
    proptest::collection::vec((0u8..3, 0u8..4, any::<bool>()), 0..24)
}

/// A manifest that devices wrote, who sometimes knew of each other and sometimes not.
fn manifest() -> impl Strategy<Value = Manifest> {
    (history(), 0usize..24, proptest::option::of("[a-c]")).prop_map(|(history, joined_at, names)| {
        let mut devices = [Manifest::new(FOLDER_ID), Manifest::new(FOLDER_ID)];
        for (step, (at, what, device)) in history.into_iter().enumerate() {
            let name = if device { "left" } else { "right" };
            let content = (what > 0).then(|| content(what));
            devices[usize::from(device)].record(path(&format!("{at}")), record(content, name));
            if step == joined_at {
                let both = devices[0].clone().join(devices[1].clone());
                devices = [both.clone(), both];
            }
        }
        let [left, right] = devices;
        let check = crate::names::Check::read(&"0".repeat(32)).unwrap();
        let names = names.map(|secret| crate::names::Names { secret, check });
        Manifest { names, ..left.join(right) }
    })
}

proptest! {
    #[test]
    fn joining_is_commutative_associative_and_idempotent(a in manifest(), b in manifest(), c in manifest()) {
        let join = |a: &Manifest, b: &Manifest| a.clone().join(b.clone());
        prop_assert_eq!(join(&a, &b), join(&b, &a));
        prop_assert_eq!(join(&join(&a, &b), &c), join(&a, &join(&b, &c)));
        prop_assert_eq!(join(&a, &a), a.clone());
        prop_assert_eq!(join(&a, &b).behind(&a).count(), 0);
        prop_assert_eq!(a.behind(&b).next().is_none() && a.names >= b.names, join(&a, &b) == a);
    }

    /// However often each of two devices speaks, and whatever both knew before, what they said last without knowing of each
    /// other stays.
    #[test]
    fn what_devices_say_at_once_stays(both in manifest(), left in 1u8..40, right in 1u8..40) {
        let mut devices = [both.clone(), both];
        for (device, (count, name)) in devices.iter_mut().zip([(left, "left"), (right, "right")]) {
            for number in 0..count {
                let content = (number % 3 > 0 || number + 1 == count).then(|| content(10 + number + count));
                device.record(path("0"), record(content, name));
            }
        }
        let last = devices.each_ref().map(|device| device.at(&path("0")).unwrap().newest().cloned().collect::<Vec<_>>());
        let [left_manifest, right_manifest] = devices;
        let joined = left_manifest.join(right_manifest);
        let newest: Vec<_> = joined.at(&path("0")).unwrap().newest().cloned().collect();
        let is_far = left.abs_diff(right) >= 16;
        prop_assert!(is_far || last.iter().flatten().all(|said| newest.contains(said)), "{:?} {:?}", last, newest);
    }

    /// What is put in place of one of several leaves the others.
    #[test]
    fn only_what_was_seen_is_replaced(left in 0u8..3, right in 0u8..3) {
        let mut devices = ["left", "right"].map(|name| (name, Manifest::new(FOLDER_ID)));
        for ((name, device), (count, first)) in devices.iter_mut().zip([(left, 10), (right, 20)]) {
            for number in 0..=count {
                device.record(path("a"), record(Some(content(first + number)), name));
            }
        }
        let [(_, left_manifest), (_, right_manifest)] = devices;
        let mut joined = left_manifest.join(right_manifest);
        let (mine, theirs) = (content(10 + left), content(20 + right));
        let next = || record(None, "left");
        prop_assert!(joined.record_over(path("a"), |seen| seen == Some(&mine), next()));
        let contents = |manifest: &Manifest| manifest.at(&path("a")).unwrap().newest().map(|said| said.content).collect::<Vec<_>>();
        prop_assert!(contents(&joined).len() == 2 && contents(&joined).contains(&Some(theirs)));
        prop_assert!(!joined.record_over(path("a"), |seen| seen == Some(&mine), next()), "it is said");
        prop_assert!(joined.record_over(path("a"), |seen| seen == Some(&theirs), next()));
        prop_assert_eq!(contents(&joined), vec![None]);
    }

    #[test]
    fn a_manifest_has_one_text(manifest in manifest(), byte: u8, at: usize) {
        let text = manifest.to_text();
        prop_assert_eq!(&Manifest::read(text.as_bytes()).unwrap(), &manifest);
        let by = Statement { tenant: "t".to_owned(), key: "k".to_owned(), version: 3 };
        let signed = Signed { manifest, by, signature: vec![1; 64] };
        prop_assert_eq!(&Signed::read(signed.to_text().as_bytes()).unwrap(), &signed);
        let mut other = signed.to_text().into_bytes();
        let at = at % other.len();
        other[at] = byte;
        if let Ok(read) = Signed::read(&other) {
            prop_assert_eq!(read.to_text().into_bytes(), other);
        }
    }

    #[test]
    fn what_is_recorded_is_found_as_it_is(mut manifest in manifest(), files in proptest::collection::btree_map(0u8..4, 1u8..9, 0..4)) {
        let found: BTreeMap<_, _> = files.iter().map(|(at, what)| (path(&format!("{at}")), observed(*what))).collect();
        for at in 0u8..4 {
            let at = path(&format!("{at}"));
            let content = found.get(&at).and_then(Observed::content);
            manifest.record(at, record(content, "here"));
        }
        prop_assert_eq!(compare(&manifest, &found), vec![]);
        prop_assert_eq!(manifest.files(), found.len());
        for (at, content) in &found {
            prop_assert!(!manifest.record(at.clone(), record(content.content(), "there")), "nothing is new");
        }
    }
}

/// Three files, of which the first was changed once and a fourth was deleted.
fn three() -> (Manifest, BTreeMap<InsidePath, Observed>) {
    let mut manifest = Manifest::new(FOLDER_ID);
    manifest.record(path("a"), record(Some(content(9)), "d"));
    for (name, what) in [("a", 1), ("b", 2), ("c", 3), ("d", 4)] {
        manifest.record(path(name), record(Some(content(what)), "d"));
    }
    manifest.record(path("d"), record(None, "d"));
    let found = [("a", 1), ("b", 2), ("c", 3)].map(|(name, what)| (path(name), observed(what)));
    (manifest, found.into())
}

fn findings(manifest: &Manifest, found: &BTreeMap<InsidePath, Observed>) -> Vec<String> {
    let word = |finding: Finding| {
        let other = finding.other.map(|path| format!(" {}", path.as_str())).unwrap_or_default();
        format!("{} {}{other}", finding.kind.name(), finding.path.as_str())
    };
    compare(manifest, found).into_iter().map(word).collect()
}

#[test]
fn everything_that_is_done_to_files_has_its_name() {
    type Change = fn(&mut BTreeMap<InsidePath, Observed>);
    let changes: &[(Change, &[&str])] = &[
        (|_| {}, &[]),
        (|found| found.retain(|path, _| path.as_str() != "b"), &["missing b"]),
        (
            |found| {
                found.insert(path("x"), observed(8));
            },
            &["added x"],
        ),
        (
            |found| {
                found.insert(path("x"), observed(2));
            },
            &["added x b"],
        ),
        (
            |found| {
                found.insert(path("d"), observed(2));
            },
            &["added d b"],
        ),
        (
            |found| {
                let moved = found.remove("b").unwrap();
                found.insert(path("x"), moved);
            },
            &["renamed b x"],
        ),
        (
            |found| {
                let moved = found.remove("b").unwrap();
                found.insert(path("d"), moved);
            },
            &["renamed b d"],
        ),
        (
            |found| {
                found.insert(path("b"), observed(3));
                found.insert(path("c"), observed(2));
            },
            &["swapped b c", "swapped c b"],
        ),
        (
            |found| {
                found.insert(path("a"), observed(9));
            },
            &["rolled_back a"],
        ),
        (
            |found| {
                found.insert(path("d"), observed(4));
            },
            &["rolled_back d"],
        ),
        (
            |found| {
                found.insert(path("b"), observed(8));
            },
            &["changed b"],
        ),
        (|found| found.get_mut("b").unwrap().payload_bytes -= 1, &["damaged b"]),
        (|found| found.get_mut("b").unwrap().hash = Some(Hash([0; 32])), &["damaged b"]),
        (|found| found.get_mut("b").unwrap().file = None, &["damaged b"]),
        // Without reading all of it that cannot show.
        (|found| found.get_mut("b").unwrap().hash = None, &[]),
    ];
    for (number, (change, expected)) in changes.iter().enumerate() {
        let (manifest, mut found) = three();
        change(&mut found);
        assert_eq!(findings(&manifest, &found), *expected, "{number}");
    }
}

#[test]
fn devices_that_write_at_the_same_time_are_in_conflict_until_the_next_version() {
    let (manifest, mut found) = three();
    let (mut left, mut right) = (manifest.clone(), manifest);
    left.record(path("b"), record(Some(content(5)), "left"));
    right.record(path("b"), record(Some(content(6)), "right"));
    // Both say the same of another file: that is no conflict.
    left.record(path("c"), record(Some(content(7)), "left"));
    right.record(path("c"), record(Some(content(7)), "right"));
    found.insert(path("c"), observed(7));
    let mut both = left.join(right);
    for what in [5, 6] {
        found.insert(path("b"), observed(what));
        assert_eq!(findings(&both, &found), ["conflict b"]);
    }
    assert!(both.record(path("b"), record(Some(content(6)), "left")));
    assert_eq!(findings(&both, &found), Vec::<String>::new());
    found.insert(path("b"), observed(5));
    assert_eq!(findings(&both, &found), ["rolled_back b"]);
}

#[test]
fn an_older_manifest_is_behind() {
    let (older, _) = three();
    let mut newer = older.clone();
    newer.record(path("b"), record(None, "d"));
    assert_eq!(older.behind(&newer).map(InsidePath::as_str).collect::<Vec<_>>(), ["b"]);
    assert_eq!(newer.behind(&older).count(), 0);
    let other = Manifest::new(FolderId([8; 16]));
    assert_eq!(other.clone().join(newer), other, "of another folder nothing is taken");
}

#[test]
fn broken_texts_are_refused_by_their_line() {
    let zeros = "0".repeat(64);
    let front = &zeros[..32];
    let head = format!("keyhearth/manifest1\nfolder {front}\n");
    let file = |version, path| format!("file {version} - 1 {front} {zeros} 1 d {path}\n");
    let cases = [
        (String::new(), 1),
        ("keyhearth/manifest2\n".to_owned(), 1),
        (format!("keyhearth/manifest1\nfolder {}\n", &front[1..]), 2),
        (format!("{head}{}", file("0", "a")), 3),
        (format!("{head}{}", file("01", "a")), 3),
        (format!("{head}{}", file("99999999999999999", "a")), 3),
        (format!("{head}{}", file("1", "../a")), 3),
        (format!("{head}{}", file("1", "/a")), 3),
        (format!("{head}{}", file("1", "a//b")), 3),
        (format!("{head}{}", file("1", ".keyhearth/manifest")), 3),
        (format!("{head}{}", file("1", "a\u{7}")), 3),
        (format!("{head}{}", file("1", "")), 3),
        (format!("{head}{}{}", file("1", "b"), file("1", "a")), 1),
        (format!("{head}{}{}", file("1", "a"), file("1", "a")), 1),
        (format!("{head}{}{}", file("2", "a"), file("1", "a")), 1),
        (format!("{head}{}{}was 1 {front} a\n", file("1", "a"), file("2", "a")), 1),
        (format!("{head}{}was 1 {front} a\nwas 1 - a\n", file("2", "a")), 1),
        (format!("{head}{}was 1 {front} a\n", file("1", "a")), 4),
        (format!("{head}was 1 {front} a\n"), 3),
        (format!("{head}gone 1 1 {} a\n", "d".repeat(DEVICE_BYTES_MAX + 1)), 3),
        (format!("{head}names \n"), 3),
        (format!("{head}names a\n"), 3),
        (format!("{head}names a {front}\nnames a {front}\n"), 4),
        (format!("{head}more\n"), 3),
        (format!("{head}gone 1 1 d a"), 3),
    ];
    for (text, line) in cases {
        assert_eq!(Manifest::read(text.as_bytes()).unwrap_err().line, line, "{text}");
    }
    let signed = format!("{head}tenant t\nkey k 1\nsignature AAAA\n");
    assert!(Signed::read(signed.as_bytes()).is_ok());
    for broken in ["tenant \n", "key k\n", "key k 01\n", "signature A\n", "signature \n"] {
        let word = broken.split(' ').next().unwrap();
        let line = signed.lines().find(|line| line.starts_with(word)).unwrap();
        assert!(Signed::read(signed.replace(&format!("{line}\n"), broken).as_bytes()).is_err(), "{broken}");
    }
    assert!(Signed::read(format!("{signed}\n").as_bytes()).is_err());
}

#[test]
fn a_statement_says_for_whom_and_of_what_it_is() {
    let by = Statement { tenant: "t".to_owned(), key: "k".to_owned(), version: 3 };
    let (manifest, _) = three();
    let text = by.of(&manifest);
    assert!(
        text.starts_with(&format!("keyhearth/manifest-statement1\nfolder {FOLDER_ID}\ntenant t\nkey k 3\n"))
    );
    assert_ne!(text, by.of(&Manifest::new(FOLDER_ID)));
    assert_ne!(text, Statement { version: 4, ..by }.of(&manifest));
}

#[test]
fn a_file_is_the_same_whatever_its_header_and_another_once_sealed_again() {
    let folder = tempfile::tempdir().unwrap();
    let key = FileKey::from_bytes(&[7; 16]).unwrap();
    let place = folder.path().join("f");
    let plaintext = vec![3; 200_000];
    let seal = |stanza: &str| {
        let header = age::Header::new(&key, vec![Stanza::new(stanza, &[], vec![1; 700])]).unwrap();
        let mut sealed = Vec::new();
        crate::seal_stream(&key, &header, &mut &plaintext[..], &mut sealed).unwrap();
        (header.to_text().len(), sealed)
    };
    let look = |bytes: &[u8], whole| {
        fs::write(&place, bytes).unwrap();
        observe(&File::open(&place).unwrap(), whole).unwrap()
    };
    let (header_bytes, sealed) = seal("one");
    let whole = look(&sealed, true).unwrap();
    assert_eq!(whole.payload_bytes, (sealed.len() - header_bytes) as u64);
    assert_eq!(Observed { hash: None, ..whole }, look(&sealed, false).unwrap());
    let longer = age::Header::new(&key, vec![Stanza::new("another", &["x"], vec![1; 900])]).unwrap();
    let rewritten = [longer.to_text().as_bytes(), &sealed[header_bytes..]].concat();
    assert_eq!(look(&rewritten, true), Some(whole));
    assert_ne!(look(&seal("one").1, false).unwrap().front, whole.front);
    let mut damaged = sealed.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let damaged = look(&damaged, true).unwrap();
    assert!(damaged.front == whole.front && damaged.hash != whole.hash);
    // In text it is one, however long, and as a whole.
    let lines: Vec<_> = BASE64.encode(&sealed).into_bytes().chunks(64).map(<[u8]>::to_vec).collect();
    let text = [
        b"-----BEGIN AGE ENCRYPTED FILE-----".to_vec(),
        lines.join(&b'\n'),
        b"-----END AGE ENCRYPTED FILE-----\n".to_vec(),
    ];
    let text = text.join(&b'\n');
    let looked = look(&text, true).unwrap();
    assert_eq!(
        (looked.payload_bytes, looked.hash),
        (text.len() as u64, Some(Hash(digest::sha256(&[&text]))))
    );
    for other in [&b"plain text"[..], b"", &sealed[1..], b"age-encryption.org/v1\n"] {
        assert_eq!(look(other, true), None);
    }
}
