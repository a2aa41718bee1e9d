//! Headers that cryptsetup made, and what becomes of them when somebody changes them.

use std::fs::{self, File};
use std::process::Command;

use keyhearth_crypto::digest::sha256;
use serde_json::Value;

use super::testing::{KEY, format, run};
use super::*;

/// The first bytes of a disk.
fn metadata(disk: &std::path::Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    File::open(disk).unwrap().take(METADATA_BYTES_MAX as u64).read_to_end(&mut bytes).unwrap();
    bytes
}

fn checksum(copy: &mut [u8]) {
    copy[448..512].fill(0);
    let hash = sha256(&[&*copy]);
    copy[448..480].copy_from_slice(&hash);
}

/// Both copies of a default header with another text, and the checksums that belong to it.
fn with_text(bytes: &[u8], text: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for start in [0, 16 << 10] {
        let copy = &mut bytes[start..start + (16 << 10)];
        copy[4096..].fill(0);
        let length = text.len().min(copy.len() - 4096);
        copy[4096..4096 + length].copy_from_slice(&text[..length]);
        checksum(copy);
    }
    bytes
}

fn text(bytes: &[u8]) -> &[u8] {
    bytes[4096..].split(|byte| *byte == 0).next().unwrap()
}

/// The rule that a changed header breaks.
fn rule(bytes: &[u8]) -> Option<Rule> {
    Header::parse(bytes).err().map(|refusal| refusal.rule)
}

#[test]
fn what_cryptsetup_makes_is_accepted_and_opens_when_written_anew() {
    let choices: [&[&str]; 6] = [
        &[],
        &["--pbkdf=argon2id", "--pbkdf-memory=32", "--pbkdf-force-iterations=4"],
        &["--pbkdf=argon2i", "--pbkdf-memory=32", "--pbkdf-force-iterations=4"],
        &["--sector-size=512", "--hash=sha512"],
        &["--luks2-metadata-size=64k", "--luks2-keyslots-size=1m", "--label=root"],
        &["--uuid=0c8d5c0e-6e6b-4f0c-9f0c-2e5a3d0a7b11", "--integrity-no-journal"],
    ];
    for options in choices {
        let disk = format(options);
        let token = r#"{"type":"keyhearth-test","keyslots":["0"],"x":{"y":[1,null,true]}}"#;
        fs::write(disk.path().with_extension("json"), token).unwrap();
        let import = disk.path().with_extension("json");
        let mut command = Command::new("cryptsetup");
        run(command.args(["token", "import", "--json-file"]).arg(&import).arg(disk.path()));
        fs::remove_file(import).unwrap();

        let before = metadata(disk.path());
        let (header, image) = read(&mut File::open(disk.path()).unwrap()).unwrap();
        assert_eq!(header.uuid().len(), 36);
        let anew = Header::parse(&image).unwrap();
        assert_eq!((anew.hash(), anew.uuid()), (header.hash(), header.uuid()), "{options:?}");
        assert_eq!(anew.metadata().unwrap(), header.metadata().unwrap());
        assert!(!String::from_utf8_lossy(&image).contains("keyhearth-test"));
        let key = keyhearth_crypto::secret::SecretBytes::copy_from(&KEY).unwrap();
        crate::cryptsetup::open(disk.path(), &image, &key, crate::cryptsetup::Purpose::Try).unwrap();
        assert!(metadata(disk.path()) == before, "the disk was written to");
    }
}

#[test]
fn the_hash_is_that_of_the_documented_form() {
    let disk = format(&[]);
    let header = Header::parse(&metadata(disk.path())).unwrap();
    let dump = Command::new("cryptsetup")
        .args(["luksDump", "--dump-json-metadata"])
        .arg(disk.path())
        .output()
        .unwrap();
    let script = "import sys, json, hashlib; d = json.load(sys.stdin); \
        d = {k: d[k] for k in ('keyslots', 'segments', 'digests')}; \
        print(hashlib.sha256(json.dumps(d, sort_keys=True, separators=(',', ':')).encode()).hexdigest())";
    let mut python = Command::new("python3");
    python.args(["-c", script]).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = python.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &dump.stdout).unwrap();
    let output = child.wait_with_output().unwrap();
    let hash: String = header.hash().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), hash);
}

#[test]
fn tokens_and_tuning_do_not_change_the_hash_and_a_keyslot_does() {
    let disk = format(&[]);
    let hash = |disk: &std::path::Path| Header::parse(&metadata(disk)).unwrap().hash();
    let first = hash(disk.path());
    let mut command = Command::new("cryptsetup");
    run(command.args(["config", "--label=other"]).arg(disk.path()));
    assert_eq!(hash(disk.path()), first);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, &[7; 32]).unwrap();
    let mut command = Command::new("cryptsetup");
    command.args([
        "luksAddKey",
        "--batch-mode",
        "--key-file=-",
        "--pbkdf=pbkdf2",
        "--pbkdf-force-iterations=1000",
    ]);
    run(command.arg(disk.path()).arg(file.path()));
    assert_ne!(hash(disk.path()), first);
}

type Change = fn(&mut Value);

/// What an attacker changes in the text, with checksums that fit, and the rule that it breaks.
const CHANGES: &[(Rule, Change)] = &[
    (Rule::Cipher, |json| json["segments"]["0"]["encryption"] = "cipher_null-ecb".into()),
    (Rule::Cipher, |json| json["segments"]["0"]["encryption"] = "aes-cbc-essiv:sha256".into()),
    (Rule::Cipher, |json| json["segments"]["0"]["encryption"] = "aes-xts-plain".into()),
    (Rule::KeyslotCipher, |json| json["keyslots"]["0"]["area"]["encryption"] = "cipher_null-ecb".into()),
    (Rule::KeyslotCipher, |json| json["keyslots"]["0"]["area"]["key_size"] = 32.into()),
    (Rule::KeySize, |json| json["keyslots"]["0"]["key_size"] = 32.into()),
    (Rule::SegmentCount, |json| json["segments"]["1"] = json["segments"]["0"].clone()),
    (Rule::SegmentCount, |json| json["segments"] = serde_json::json!({})),
    (Rule::SegmentKind, |json| json["segments"]["0"]["type"] = "linear".into()),
    (Rule::SegmentPlace, |json| json["segments"]["0"]["size"] = "4096".into()),
    (Rule::SegmentPlace, |json| json["segments"]["0"]["offset"] = "32768".into()),
    (Rule::SegmentPlace, |json| json["segments"]["0"]["iv_tweak"] = "8".into()),
    (Rule::SectorSize, |json| json["segments"]["0"]["sector_size"] = 8192.into()),
    (Rule::Form, |json| json["segments"]["0"]["integrity"] = serde_json::json!({"type": "none"})),
    (Rule::Form, |json| json["segments"]["0"]["offset"] = "016777216".into()),
    (Rule::Form, |json| json["config"]["json_size"] = "12287".into()),
    (Rule::Form, |json| json["more"] = serde_json::json!({})),
    (Rule::Form, |json| drop(json.as_object_mut().unwrap().remove("digests"))),
    (Rule::Reencryption, |json| json["segments"]["0"]["flags"] = serde_json::json!(["in-reencryption"])),
    (Rule::Reencryption, |json| {
        json["config"]["requirements"] = serde_json::json!({"mandatory": ["online-reencrypt-v2"]});
    }),
    (Rule::Reencryption, |json| {
        json["keyslots"]["1"] = serde_json::json!({"type": "reencrypt", "key_size": 1, "mode": "reencrypt"});
    }),
    (Rule::Requirements, |json| json["config"]["requirements"] = serde_json::json!({"mandatory": ["x"]})),
    (Rule::Requirements, |json| json["config"]["requirements"] = serde_json::json!([])),
    (Rule::Requirements, |json| json["config"]["flags"] = serde_json::json!(["x"])),
    (Rule::KeyslotKind, |json| json["keyslots"]["0"]["type"] = "luks3".into()),
    (Rule::KeyslotCount, |json| json["keyslots"] = serde_json::json!({})),
    (Rule::Form, |json| {
        let keyslot = json["keyslots"]["0"].clone();
        json["keyslots"] = serde_json::json!({"00": keyslot});
        json["digests"]["0"]["keyslots"] = serde_json::json!(["00"]);
    }),
    (Rule::Digest, |json| json["digests"] = serde_json::json!({"32": json["digests"]["0"].clone()})),
    (Rule::KeyslotArea, |json| json["keyslots"]["0"]["area"]["offset"] = "0".into()),
    (Rule::KeyslotArea, |json| json["keyslots"]["0"]["area"]["offset"] = "18446744073709547520".into()),
    (Rule::KeyslotArea, |json| json["keyslots"]["0"]["area"]["size"] = "4096".into()),
    (Rule::KeyslotArea, |json| json["keyslots"]["0"]["af"]["stripes"] = 1.into()),
    (Rule::KeyslotArea, |json| json["config"]["keyslots_size"] = "18446744073709551615".into()),
    (Rule::KeyDerivation, |json| json["keyslots"]["0"]["kdf"]["iterations"] = 1.into()),
    (Rule::KeyDerivation, |json| {
        let salt = json["keyslots"]["0"]["kdf"]["salt"].clone();
        let memory = u32::MAX;
        json["keyslots"]["0"]["kdf"] =
            serde_json::json!({"type": "argon2id", "time": 4, "memory": memory, "cpus": 1, "salt": salt});
    }),
    (Rule::Digest, |json| json["digests"]["1"] = json["digests"]["0"].clone()),
    (Rule::Digest, |json| json["digests"]["0"]["keyslots"] = serde_json::json!([])),
    (Rule::Digest, |json| json["digests"]["0"]["segments"] = serde_json::json!([])),
    (Rule::Digest, |json| json["digests"]["0"]["type"] = "none".into()),
];

#[test]
fn every_change_of_the_text_has_its_rule() {
    let disk = format(&[]);
    let bytes = metadata(disk.path());
    let json: Value = serde_json::from_slice(text(&bytes)).unwrap();
    assert_eq!(rule(&with_text(&bytes, json.to_string().as_bytes())), None);
    for (number, (expected, change)) in CHANGES.iter().enumerate() {
        let mut changed = json.clone();
        change(&mut changed);
        let refused = Header::parse(&with_text(&bytes, changed.to_string().as_bytes())).unwrap_err();
        assert_eq!(refused.rule, *expected, "change {number}: {refused}");
    }
}

#[test]
fn nothing_that_is_accepted_names_no_encryption() {
    let disk = format(&[]);
    let bytes = metadata(disk.path());
    let whole = text(&bytes);
    for at in 0..=whole.len() {
        let (before, after) = whole.split_at(at);
        let text = [before, b"cipher_null", after].concat();
        assert!(rule(&with_text(&bytes, &text)).is_some(), "inserted at {at}");
    }
}

#[test]
fn a_text_that_could_be_read_in_two_ways_is_refused() {
    let disk = format(&[]);
    let bytes = metadata(disk.path());
    let whole = String::from_utf8(text(&bytes).to_vec()).unwrap();
    let twice = whole.replacen(r#""encryption":"#, r#""encryption":"aes-xts-plain64","encryption":"#, 1);
    let fraction = whole.replacen(r#""key_size":64"#, r#""key_size":64.0"#, 1);
    let more = format!("{whole}{{}}");
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    for text in [&twice, &fraction, &more, &deep, "", "\u{feff}{}"] {
        assert_eq!(rule(&with_text(&bytes, text.as_bytes())), Some(Rule::Json), "{text:.80}");
    }
    assert_eq!(rule(&with_text(&bytes, &b" ".repeat(12 << 10))), Some(Rule::JsonTooLong));
    let hidden = [whole.as_bytes(), b"\0{}"].concat();
    assert_eq!(rule(&with_text(&bytes, &hidden)), Some(Rule::JsonTrailing));
}

#[test]
fn one_torn_copy_does_not_matter_and_two_do() {
    let disk = format(&[]);
    let good = metadata(disk.path());
    let hash = Header::parse(&good).unwrap().hash();
    let second = 16 << 10;
    for torn in [5000, second + 5000, 0, second, 7, second + 7] {
        let mut bytes = good.clone();
        bytes[torn] ^= 1;
        assert_eq!(Header::parse(&bytes).unwrap().hash(), hash, "{torn}");
        let other = if torn < second { second + 5000 } else { 5000 };
        bytes[other] ^= 1;
        assert!(rule(&bytes).is_some());
    }
    let mut both = good.clone();
    both[5000] ^= 1;
    both[second + 5000] ^= 1;
    assert_eq!(rule(&both), Some(Rule::Checksum));
}

#[test]
fn the_newer_copy_counts_and_equal_ones_are_equal() {
    let disk = format(&[]);
    let good = metadata(disk.path());
    let second = 16 << 10;
    let changed = String::from_utf8(text(&good).to_vec()).unwrap().replace("4096}", "2048}");
    let mut bytes = with_text(&good, changed.as_bytes());
    bytes[..second].copy_from_slice(&good[..second]);
    assert_eq!(rule(&bytes), Some(Rule::CopiesDiffer));
    bytes[second + 23] += 1;
    checksum(&mut bytes[second..second + (16 << 10)]);
    let newer = Header::parse(&bytes).unwrap();
    assert_ne!(newer.hash(), Header::parse(&good).unwrap().hash());
}

#[test]
fn what_is_no_header_is_told_apart() {
    let disk = format(&[]);
    let good = metadata(disk.path());
    let changed = |at: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed[16 << 10..32 << 10].fill(0);
        rule(&changed)
    };
    assert_eq!(rule(&[]), Some(Rule::Magic));
    assert_eq!(changed(0, b"LUKE"), Some(Rule::Magic));
    assert_eq!(changed(6, &[0, 1]), Some(Rule::Version));
    assert_eq!(changed(8, &[0xff; 8]), Some(Rule::Size));
    assert_eq!(changed(8, &(15_u64 << 10).to_be_bytes()), Some(Rule::Size));
    assert_eq!(changed(72, b"crc32\0"), Some(Rule::ChecksumAlgorithm));
    assert_eq!(rule(&good[..9000]), Some(Rule::Size));
    let (_, image) = read(&mut File::open(disk.path()).unwrap()).unwrap();
    let mut short = std::io::Cursor::new(&image[..40_000]);
    assert_eq!(read(&mut short).unwrap_err().rule, Rule::Unreadable);
}

#[test]
fn other_disks_of_cryptsetup_are_refused() {
    let options: [(&[&str], Rule); 3] = [
        (&["--cipher=aes-xts-plain64", "--key-size=256"], Rule::KeyslotCipher),
        (&["--cipher=aes-cbc-essiv:sha256", "--key-size=256"], Rule::Cipher),
        (&["--offset=40960", "--luks2-keyslots-size=16m", "--luks2-metadata-size=4m"], Rule::Size),
    ];
    for (options, expected) in options {
        let disk = format(options);
        assert_eq!(rule(&metadata(disk.path())), Some(expected), "{options:?}");
    }
}
