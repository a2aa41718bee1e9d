//! What the JSON of a header may say.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::AREAS_END_MAX;
use super::json::Json;
use super::refusal::{Refusal, Rule};

const CIPHER: &str = "aes-xts-plain64";
/// Two keys of AES-256.
const KEY_BYTES: u32 = 64;
/// Anti-forensic stripes: LUKS knows no other number.
const STRIPES: u32 = 4000;
const KEYSLOTS_MAX: usize = 32;
const AREA_BYTES_MAX: u64 = 1 << 20;
/// Offsets are multiples of this.
const ALIGNMENT: u64 = 4096;
const HASHES: [&str; 2] = ["sha256", "sha512"];
/// Argon2 may need so much memory, in KiB: cryptsetup's own limit.
const MEMORY_KIB_MAX: u32 = 4 << 20;
const ITERATIONS_MIN: u32 = 1000;
/// Base64 of salts and digests has at most so many characters.
const OCTETS_CHARS_MAX: usize = 128;
/// What only tunes performance, or lets the disk know which blocks are unused.
const FLAGS: [&str; 6] = [
    "allow-discards",
    "same-cpu-crypt",
    "submit-from-crypt-cpus",
    "no-journal",
    "no-read-workqueue",
    "no-write-workqueue",
];

/// A number that is written as text, as LUKS2 does with 64 bits.
#[derive(Clone, Copy)]
struct Decimal(u64);

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = text.parse().ok().filter(|number: &u64| number.to_string() == text);
        number.map(Self).ok_or_else(|| D::Error::custom("text that is no decimal number"))
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

type Numbered<T> = BTreeMap<String, T>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    keyslots: Numbered<Keyslot>,
    #[serde(rename = "tokens")]
    _tokens: Numbered<serde::de::IgnoredAny>,
    segments: Numbered<Segment>,
    digests: Numbered<Digest>,
    config: Config,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keyslot {
    #[serde(rename = "type")]
    _kind: String,
    key_size: u32,
    #[serde(default, rename = "priority")]
    _priority: u32,
    af: Stripes,
    area: Area,
    kdf: KeyDerivation,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stripes {
    #[serde(rename = "type")]
    kind: String,
    stripes: u32,
    hash: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Area {
    #[serde(rename = "type")]
    kind: String,
    offset: Decimal,
    size: Decimal,
    encryption: String,
    key_size: u32,
}

#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
enum KeyDerivation {
    #[serde(rename = "pbkdf2")]
    Pbkdf2 { hash: String, iterations: u32, salt: String },
    #[serde(rename = "argon2i")]
    Argon2i { time: u32, memory: u32, cpus: u32, salt: String },
    #[serde(rename = "argon2id")]
    Argon2id { time: u32, memory: u32, cpus: u32, salt: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Segment {
    #[serde(rename = "type")]
    _kind: String,
    offset: Decimal,
    size: String,
    iv_tweak: Decimal,
    encryption: String,
    sector_size: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Digest {
    #[serde(rename = "type")]
    kind: String,
    keyslots: Vec<String>,
    segments: Vec<String>,
    hash: String,
    iterations: u32,
    salt: String,
    digest: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    json_size: Decimal,
    keyslots_size: Decimal,
    #[serde(default)]
    flags: Vec<String>,
    // Checked before.
    #[serde(default, rename = "requirements")]
    _requirements: serde::de::IgnoredAny,
}

/// Checks everything that a header of `copy_bytes` a copy says. Gives where the material of its keyslots lies.
pub(super) fn check(json: &Json, copy_bytes: usize) -> Result<Vec<(u64, u64)>, Refusal> {
    check_demands(json)?;
    check_kinds(json)?;
    let metadata: Metadata =
        serde_json::from_str(&json.to_string()).map_err(|error| Rule::Form.found(error))?;
    let copies = 2 * copy_bytes as u64;
    let (config, area_bytes) = (&metadata.config, metadata.config.keyslots_size.0);
    if config.json_size.0 + 4096 != copy_bytes as u64 {
        return Err(Rule::Form.found(format_args!("json_size {}", config.json_size)));
    }
    if let Some(flag) = config.flags.iter().find(|flag| !FLAGS.contains(&flag.as_str())) {
        return Err(Rule::Requirements.found(format_args!("flag {flag}")));
    }
    let areas_end = copies.checked_add(area_bytes).filter(|end| *end <= AREAS_END_MAX);
    let areas_end =
        areas_end.ok_or_else(|| Rule::KeyslotArea.found(format_args!("{area_bytes} bytes of keyslots")))?;
    for segment in metadata.segments.values() {
        check_segment(segment, areas_end)?;
    }
    if !(1..=KEYSLOTS_MAX).contains(&metadata.keyslots.len()) {
        return Err(Rule::KeyslotCount.found(metadata.keyslots.len()));
    }
    if let Some(name) = metadata.keyslots.keys().find(|name| !is_number(name)) {
        return Err(Rule::Form.found(format_args!("keyslot {name}")));
    }
    for (name, keyslot) in &metadata.keyslots {
        check_keyslot(name, keyslot, copies, areas_end)?;
    }
    check_digest(&metadata)?;
    Ok(metadata.keyslots.values().map(|keyslot| (keyslot.area.offset.0, keyslot.area.size.0)).collect())
}

/// What a header demands of its readers: nothing.
fn check_demands(json: &Json) -> Result<(), Refusal> {
    let Some(requirements) = json.member("config").and_then(|config| config.member("requirements")) else {
        return Ok(());
    };
    let text = requirements.to_string();
    match requirements.member("mandatory") {
        Some(Json::List(demands)) if requirements.members().count() == 1 && demands.is_empty() => Ok(()),
        Some(Json::List(demands)) if demands.iter().any(|demand| is_reencryption(demand.text())) => {
            Err(Rule::Reencryption.found(text))
        }
        _ => Err(Rule::Requirements.found(text)),
    }
}

fn is_reencryption(demand: Option<&str>) -> bool {
    demand.is_some_and(|demand| demand.contains("reencrypt"))
}

/// The kinds of what there is, before the members that each kind has.
fn check_kinds(json: &Json) -> Result<(), Refusal> {
    let all = |name| json.member(name).into_iter().flat_map(Json::members);
    let kind = |value: &Json| value.member("type").and_then(Json::text).unwrap_or("no type").to_owned();
    for (name, keyslot) in all("keyslots") {
        match &*kind(keyslot) {
            "luks2" => {}
            "reencrypt" => return Err(Rule::Reencryption.found(format_args!("keyslot {name}"))),
            other => return Err(Rule::KeyslotKind.found(format_args!("keyslot {name} of type {other}"))),
        }
    }
    let segments: Vec<_> = all("segments").collect();
    if segments.iter().any(|(_, segment)| segment.member("flags").is_some()) {
        return Err(Rule::Reencryption.found("a segment with flags"));
    }
    let [("0", segment)] = *segments else {
        let names: Vec<_> = segments.iter().map(|(name, _)| *name).collect();
        return Err(Rule::SegmentCount.found(format_args!("segments [{}]", names.join(" "))));
    };
    match &*kind(segment) {
        "crypt" => Ok(()),
        other => Err(Rule::SegmentKind.found(format_args!("type {other}"))),
    }
}

fn check_segment(segment: &Segment, areas_end: u64) -> Result<(), Refusal> {
    if segment.encryption != CIPHER {
        return Err(Rule::Cipher.found(&segment.encryption));
    }
    if ![512, 1024, 2048, 4096].contains(&segment.sector_size) {
        return Err(Rule::SectorSize.found(segment.sector_size));
    }
    let offset = segment.offset.0;
    if segment.size != "dynamic"
        || segment.iv_tweak.0 != 0
        || offset < areas_end
        || !offset.is_multiple_of(ALIGNMENT)
    {
        let Segment { offset, size, iv_tweak, .. } = segment;
        return Err(
            Rule::SegmentPlace.found(format_args!("offset {offset}, size {size}, iv_tweak {iv_tweak}"))
        );
    }
    Ok(())
}

fn check_keyslot(name: &str, keyslot: &Keyslot, copies: u64, areas_end: u64) -> Result<(), Refusal> {
    let Keyslot { key_size, af, area, kdf, .. } = keyslot;
    if area.encryption != CIPHER || area.key_size != KEY_BYTES {
        let Area { encryption, key_size, .. } = area;
        return Err(Rule::KeyslotCipher.found(format_args!("keyslot {name}: {encryption}, {key_size} bytes")));
    }
    if *key_size != KEY_BYTES {
        return Err(Rule::KeySize.found(format_args!("keyslot {name}: {key_size} bytes")));
    }
    let known = af.kind == "luks1" && af.stripes == STRIPES && HASHES.contains(&af.hash.as_str());
    let (offset, size) = (area.offset.0, area.size.0);
    let needed = u64::from(KEY_BYTES * STRIPES);
    let end = offset.checked_add(size).filter(|end| *end <= areas_end);
    let fits = (needed..=AREA_BYTES_MAX).contains(&size) && offset >= copies && offset % ALIGNMENT == 0;
    if !known || area.kind != "raw" || !fits || end.is_none() {
        let found =
            format_args!("keyslot {name}: {} at {offset}, {size} bytes, {} stripes", area.kind, af.stripes);
        return Err(Rule::KeyslotArea.found(found));
    }
    let sane = match kdf {
        KeyDerivation::Pbkdf2 { hash, iterations, salt } => {
            HASHES.contains(&hash.as_str()) && *iterations >= ITERATIONS_MIN && is_octets(salt)
        }
        KeyDerivation::Argon2i { time, memory, cpus, salt }
        | KeyDerivation::Argon2id { time, memory, cpus, salt } => {
            *time >= 1 && *memory <= MEMORY_KIB_MAX && (1..=4).contains(cpus) && is_octets(salt)
        }
    };
    if sane { Ok(()) } else { Err(Rule::KeyDerivation.found(format_args!("keyslot {name}"))) }
}

fn check_digest(metadata: &Metadata) -> Result<(), Refusal> {
    let [(name, digest)] = *metadata.digests.iter().collect::<Vec<_>>() else {
        return Err(Rule::Digest.found(format_args!("{} digests", metadata.digests.len())));
    };
    let mut keyslots = digest.keyslots.clone();
    keyslots.sort_unstable();
    let all = keyslots.iter().eq(metadata.keyslots.keys()) && digest.segments == ["0"];
    let known = digest.kind == "pbkdf2" && HASHES.contains(&digest.hash.as_str());
    let sane = digest.iterations >= ITERATIONS_MIN && is_octets(&digest.salt) && is_octets(&digest.digest);
    if is_number(name) && all && known && sane {
        return Ok(());
    }
    let Digest { kind, keyslots, segments, .. } = digest;
    let (keyslots, segments) = (keyslots.join(" "), segments.join(" "));
    Err(Rule::Digest
        .found(format_args!("digest {name}: {kind} of keyslots [{keyslots}] and segments [{segments}]")))
}

/// Whether it is the name of a keyslot or a digest: a number as it is written here.
fn is_number(name: &str) -> bool {
    (0..KEYSLOTS_MAX).any(|number| number.to_string() == name)
}

/// Whether it is base64 of a sane length; which bytes does not matter here.
fn is_octets(text: &str) -> bool {
    let base64 = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/' | b'=');
    (1..=OCTETS_CHARS_MAX).contains(&text.len()) && text.bytes().all(base64)
}
