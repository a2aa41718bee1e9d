//! Checkpoints: a signed statement of a log's size and root, and what witnesses add to it.
//!
//! Only Ed25519, as log signature (type 1) and as timestamped cosignature (type 4). Other signatures are
//! kept and written back but never believed.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keyhearth_crypto::digest::sha256;
use keyhearth_crypto::note::{self, NoteKey};

use super::Hash;

/// The longest signed checkpoint that is parsed, in bytes: room for 16 post-quantum signatures.
pub const NOTE_BYTES_MAX: usize = 128 * 1024;
/// The most signature lines of a checkpoint.
pub const SIGNATURES_MAX: usize = 32;
/// The longest name of a log or witness, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// Begins the line that states the server's rows.
const ROWS: &str = "keyhearth rows ";

const LOG_SIGNATURE: u8 = 0x01;
const COSIGNATURE: u8 = 0x04;

/// Why a checkpoint or a key is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointError {
    /// Longer than [`NOTE_BYTES_MAX`] or with more than [`SIGNATURES_MAX`] signatures.
    TooLarge,
    /// The text breaks the rule.
    Malformed(&'static str),
    /// The checkpoint speaks of another log than the key's.
    OtherOrigin,
    /// No signature by this key.
    NotSigned,
    /// A signature that claims to be by this key is not.
    NotAuthentic,
}

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => {
                write!(f, "more than {NOTE_BYTES_MAX} bytes or {SIGNATURES_MAX} signatures")
            }
            Self::Malformed(rule) => write!(f, "malformed: {rule}"),
            Self::OtherOrigin => f.write_str("the checkpoint is of another log than the key"),
            Self::NotSigned => f.write_str("not signed by this key"),
            Self::NotAuthentic => f.write_str("not authentic"),
        }
    }
}

impl std::error::Error for CheckpointError {}

/// The name of a log (its origin) or of a witness: 1 to 255 bytes without spaces, `+` or control characters.
///
/// By convention a URL without its scheme, such as `example.com/log42`; nothing is ever fetched from it.
///
/// Source: C2SP signed-note, "Format".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(String);

impl KeyName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyName {
    type Err = CheckpointError;

    fn from_str(name: &str) -> Result<Self, CheckpointError> {
        let refused = |c: char| c.is_whitespace() || c.is_control() || c == '+';
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(refused) {
            return Err(CheckpointError::Malformed("a name is 1 to 255 bytes without spaces and `+`"));
        }
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a log states about itself: its name, how many entries it has, and the root over them.
///
/// Its text form is canonical: [`fmt::Display`] gives exactly the bytes that were parsed.
///
/// Source: C2SP tlog-checkpoint, "Note text".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    origin: KeyName,
    size: u64,
    root: Hash,
    /// Lines that signatures cover and verifiers do not interpret. Ours has one, see [`Checkpoint::with_rows`].
    extensions: Vec<String>,
}

impl Checkpoint {
    /// The checkpoint of the log `origin` at `size` entries.
    pub fn new(origin: KeyName, size: u64, root: Hash) -> Self {
        Self { origin, size, root, extensions: Vec::new() }
    }

    /// States also which rows the server had: the epoch of their last change, and the seal of all rows at it
    /// ([`crate::store::Head`]). So older rows can not be put back under a log that went on.
    #[must_use]
    pub fn with_rows(mut self, epoch: u64, seal: &Hash) -> Self {
        self.extensions.push(format!("{ROWS}{epoch} {}", STANDARD.encode(seal)));
        self
    }

    /// What [`Checkpoint::with_rows`] stated: epoch and seal.
    pub fn rows(&self) -> Option<(u64, Hash)> {
        let (epoch, seal) =
            self.extensions.iter().find_map(|line| line.strip_prefix(ROWS))?.split_once(' ')?;
        decimal(epoch).ok().zip(hash(seal).ok())
    }

    /// The name of the log.
    pub fn origin(&self) -> &KeyName {
        &self.origin
    }

    /// The number of entries.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The Merkle tree hash over these entries.
    pub fn root(&self) -> &Hash {
        &self.root
    }

    /// The lines after the root, not interpreted.
    pub fn extensions(&self) -> &[String] {
        &self.extensions
    }

    /// Signs as the log itself, under the name that is the checkpoint's origin.
    ///
    /// The caller must never sign two checkpoints of one log of which neither extends the other.
    pub fn sign(self, key: &NoteKey) -> SignedCheckpoint {
        let signature = key.sign(self.to_string().as_bytes());
        let signer = VerifierKey { name: self.origin.clone(), kind: LOG_SIGNATURE, public: key.public() };
        let line = Signature { name: signer.name.clone(), id: signer.id(), bytes: signature.to_vec() };
        SignedCheckpoint { checkpoint: self, signatures: vec![line] }
    }

    /// What a witness signs; the first line keeps it apart from what a log signs.
    ///
    /// Source: C2SP tlog-cosignature, "Ed25519 signed message".
    fn cosigned_message(&self, time_unix_s: u64) -> String {
        format!("cosignature/v1\ntime {time_unix_s}\n{self}")
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, STANDARD.encode(self.root))?;
        self.extensions.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl FromStr for Checkpoint {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        let text = text.strip_suffix('\n').ok_or(CheckpointError::Malformed("the last line ends"))?;
        let mut lines = text.split('\n');
        let mut line = || lines.next().ok_or(CheckpointError::Malformed("at least three lines"));
        let (origin, size, root) = (line()?.parse()?, decimal(line()?)?, hash(line()?)?);
        let extensions: Vec<_> = lines.map(str::to_owned).collect();
        if extensions.iter().any(|line| line.is_empty() || line.contains(char::is_control)) {
            return Err(CheckpointError::Malformed("extension lines have text and no control characters"));
        }
        Ok(Self { origin, size, root, extensions })
    }
}

/// One signature line, by whichever key and of whichever type.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Signature {
    name: KeyName,
    id: [u8; 4],
    bytes: Vec<u8>,
}

/// A checkpoint and signatures over it, none of them believed until [`SignedCheckpoint::verify`] or
/// [`SignedCheckpoint::cosigned_at`] has checked it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    signatures: Vec<Signature>,
}

impl SignedCheckpoint {
    /// Checks that the log holding `key` signed this, and returns what it signed.
    ///
    /// # Errors
    /// [`CheckpointError::OtherOrigin`], [`CheckpointError::NotSigned`], or
    /// [`CheckpointError::NotAuthentic`] if any signature under the key's name and id is false.
    ///
    /// Source: C2SP signed-note, "Signatures".
    pub fn verify(&self, key: &VerifierKey) -> Result<&Checkpoint, CheckpointError> {
        if key.name != self.checkpoint.origin {
            return Err(CheckpointError::OtherOrigin);
        }
        let text = self.checkpoint.to_string();
        for signature in self.signatures_by(key, LOG_SIGNATURE)? {
            note::verify(&key.public, text.as_bytes(), &signature.bytes)
                .map_err(|_| CheckpointError::NotAuthentic)?;
        }
        Ok(&self.checkpoint)
    }

    /// Checks that the witness holding `key` cosigned this, and returns when: seconds since 1970, the
    /// latest if it did so more than once.
    ///
    /// # Errors
    /// [`CheckpointError::NotSigned`], or [`CheckpointError::NotAuthentic`] if any cosignature under the
    /// key's name and id is false.
    ///
    /// Source: C2SP tlog-cosignature, "Format".
    pub fn cosigned_at(&self, key: &VerifierKey) -> Result<u64, CheckpointError> {
        let mut latest = 0;
        for signature in self.signatures_by(key, COSIGNATURE)? {
            let (time, bytes) = signature.bytes.split_first_chunk().ok_or(CheckpointError::NotAuthentic)?;
            let time = u64::from_be_bytes(*time);
            note::verify(&key.public, self.checkpoint.cosigned_message(time).as_bytes(), bytes)
                .map_err(|_| CheckpointError::NotAuthentic)?;
            latest = latest.max(time);
        }
        Ok(latest)
    }

    /// The signature line by which the witness `name` states that this extends every checkpoint of the log
    /// it has seen.
    ///
    /// Source: C2SP tlog-cosignature, "Ed25519 signed message".
    pub fn cosign(&self, name: KeyName, key: &NoteKey, time_unix_s: u64) -> String {
        let signature = key.sign(self.checkpoint.cosigned_message(time_unix_s).as_bytes());
        let signer = VerifierKey { name, kind: COSIGNATURE, public: key.public() };
        let bytes = [&time_unix_s.to_be_bytes()[..], &signature].concat();
        Signature { id: signer.id(), name: signer.name, bytes }.to_string()
    }

    /// Takes over what `witness` signed among the signature lines it answered with, in place of earlier
    /// cosignatures of its own, and returns when it did.
    ///
    /// # Errors
    /// As [`SignedCheckpoint::cosigned_at`]; [`CheckpointError::Malformed`] or
    /// [`CheckpointError::TooLarge`] if the lines are. The checkpoint is unchanged then.
    ///
    /// Source: C2SP tlog-witness, "add-checkpoint".
    pub fn add_cosignatures(&mut self, lines: &str, witness: &VerifierKey) -> Result<u64, CheckpointError> {
        let answered = Self { checkpoint: self.checkpoint.clone(), signatures: signatures(lines)? };
        let time = answered.cosigned_at(witness)?;
        let (by_witness, others): (Vec<_>, Vec<_>) = (
            answered.signatures.into_iter().filter(|line| line.is_by(witness)).collect(),
            self.signatures.iter().filter(|line| !line.is_by(witness)).cloned().collect(),
        );
        if by_witness.len() + others.len() > SIGNATURES_MAX {
            return Err(CheckpointError::TooLarge);
        }
        self.signatures = [others, by_witness].concat();
        Ok(time)
    }

    /// The checkpoint whoever signed it; for display, and for asking which key to verify with.
    pub fn danger_unverified(&self) -> &Checkpoint {
        &self.checkpoint
    }

    fn signatures_by(&self, key: &VerifierKey, kind: u8) -> Result<Vec<&Signature>, CheckpointError> {
        let by_key: Vec<_> = self.signatures.iter().filter(|line| line.is_by(key)).collect();
        if key.kind != kind || by_key.is_empty() {
            return Err(CheckpointError::NotSigned);
        }
        Ok(by_key)
    }
}

impl fmt::Display for SignedCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.checkpoint)?;
        self.signatures.iter().try_for_each(|line| line.fmt(f))
    }
}

impl FromStr for SignedCheckpoint {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        if text.len() > NOTE_BYTES_MAX {
            return Err(CheckpointError::TooLarge);
        }
        let blank = text.rfind("\n\n").ok_or(CheckpointError::Malformed("a blank line before signatures"))?;
        let (body, lines) = (&text[..=blank], &text[blank + 2..]);
        Ok(Self { checkpoint: body.parse()?, signatures: signatures(lines)? })
    }
}

/// One or more signature lines.
fn signatures(lines: &str) -> Result<Vec<Signature>, CheckpointError> {
    let lines = lines.strip_suffix('\n').ok_or(CheckpointError::Malformed("the last line ends"))?;
    if lines.len() > NOTE_BYTES_MAX || lines.split('\n').count() > SIGNATURES_MAX {
        return Err(CheckpointError::TooLarge);
    }
    lines.split('\n').map(str::parse).collect()
}

impl Signature {
    /// Whether it claims to be by `key`.
    fn is_by(&self, key: &VerifierKey) -> bool {
        self.name == key.name && self.id == key.id()
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "— {} {}", self.name, STANDARD.encode([&self.id, &self.bytes[..]].concat()))
    }
}

impl FromStr for Signature {
    type Err = CheckpointError;

    fn from_str(line: &str) -> Result<Self, CheckpointError> {
        let parsed = line.strip_prefix("— ").and_then(|line| {
            let (name, signature) = line.split_once(' ')?;
            let signature = STANDARD.decode(signature).ok()?;
            let (id, bytes) = signature.split_first_chunk()?;
            Some(Self { name: name.parse().ok()?, id: *id, bytes: bytes.to_vec() })
        });
        parsed.ok_or(CheckpointError::Malformed("a signature line is `— name base64`"))
    }
}

/// A public key with the name and role it signs under, as verifiers are configured with it.
///
/// Its text form is `name+id+base64`, the vkey of the standard.
///
/// Source: C2SP signed-note, "Verifier keys".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: KeyName,
    kind: u8,
    public: [u8; note::KEY_BYTES],
}

impl VerifierKey {
    /// The key of a log.
    pub fn log(origin: KeyName, public: [u8; note::KEY_BYTES]) -> Self {
        Self { name: origin, kind: LOG_SIGNATURE, public }
    }

    /// The key of a witness.
    pub fn witness(name: KeyName, public: [u8; note::KEY_BYTES]) -> Self {
        Self { name, kind: COSIGNATURE, public }
    }

    /// The name it signs under.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// Says quickly which key a signature is by; it is not what makes the signature believed.
    fn id(&self) -> [u8; 4] {
        let hash = sha256(&[self.name.as_str().as_bytes(), b"\n", &[self.kind], &self.public]);
        [hash[0], hash[1], hash[2], hash[3]]
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = u32::from_be_bytes(self.id());
        let key = STANDARD.encode([&[self.kind][..], &self.public].concat());
        write!(f, "{}+{id:08x}+{key}", self.name)
    }
}

impl FromStr for VerifierKey {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        // The last part may contain `+` itself, as base64 does; the first two may not.
        let mut parts = text.splitn(3, '+');
        let parsed = parts.next().zip(parts.next()).zip(parts.next()).and_then(|((name, _), key)| {
            let key = STANDARD.decode(key).ok()?;
            let (kind, public) = key.split_first()?;
            Some(Self { name: name.parse().ok()?, kind: *kind, public: public.try_into().ok()? })
        });
        // Writing it back compares the id, which guards against typing errors.
        parsed
            .filter(|key| matches!(key.kind, LOG_SIGNATURE | COSIGNATURE) && key.to_string() == text)
            .ok_or(CheckpointError::Malformed("a verifier key is `name+id+base64` of an Ed25519 key"))
    }
}

/// A hash in base64.
pub(super) fn hash(text: &str) -> Result<Hash, CheckpointError> {
    let hash = STANDARD.decode(text).ok().and_then(|hash| hash.try_into().ok());
    hash.ok_or(CheckpointError::Malformed("a hash is 32 bytes in base64"))
}

/// A number without sign, spaces or leading zeroes.
pub(super) fn decimal(text: &str) -> Result<u64, CheckpointError> {
    let number = text.parse().ok().filter(|number: &u64| number.to_string() == text);
    number.ok_or(CheckpointError::Malformed("a number is decimal and below 2^64"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COSIGNED: &str = "example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==
";

    fn name(text: &str) -> KeyName {
        text.parse().unwrap()
    }

    fn key(seed: u8) -> NoteKey {
        NoteKey::from_seed(&[seed; 32]).unwrap()
    }

    fn signed() -> SignedCheckpoint {
        let mut signed = Checkpoint::new(name("log.example/one"), 42, [9; 32]).sign(&key(1));
        let witness = VerifierKey::witness(name("witness.example"), key(2).public());
        for time in [1_600_000_000, 1_700_000_000] {
            let line = signed.cosign(name("witness.example"), &key(2), time);
            assert_eq!(signed.add_cosignatures(&line, &witness), Ok(time));
        }
        assert_eq!(signed.signatures.len(), 2);
        signed
    }

    #[test]
    fn the_standards_example_parses_and_prints_as_it_was() {
        let parsed: SignedCheckpoint = COSIGNED.parse().unwrap();
        assert_eq!(parsed.danger_unverified().size(), 20_852_163);
        assert_eq!(parsed.signatures.len(), 2);
        assert_eq!(parsed.signatures[1].bytes[..8], 1_679_315_147_u64.to_be_bytes());
        assert_eq!(parsed.to_string(), COSIGNED);
    }

    #[test]
    fn the_standards_note_verifies_under_its_key() {
        let key: VerifierKey =
            "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k".parse().unwrap();
        let line: Signature = "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM="
            .parse()
            .unwrap();
        assert_eq!(line.id, key.id());
        note::verify(&key.public, b"This is an example message.\n", &line.bytes).unwrap();
    }

    #[test]
    fn a_signed_checkpoint_survives_its_text_form() {
        let log = VerifierKey::log(name("log.example/one"), key(1).public());
        let witness = VerifierKey::witness(name("witness.example"), key(2).public());
        let parsed: SignedCheckpoint = signed().to_string().parse().unwrap();
        assert_eq!(parsed.verify(&log).unwrap().root(), &[9; 32]);
        assert_eq!(parsed.cosigned_at(&witness), Ok(1_700_000_000));
        for key in [log, witness] {
            assert_eq!(key.to_string().parse(), Ok(key));
        }
    }

    #[test]
    fn keys_in_the_wrong_place_are_not_believed() {
        let signed = signed();
        let refused = |name: KeyName, seed| signed.verify(&VerifierKey::log(name, key(seed).public()));
        assert_eq!(refused(name("log.example/one"), 2), Err(CheckpointError::NotSigned));
        assert_eq!(refused(name("witness.example"), 2), Err(CheckpointError::OtherOrigin));
        let log_as_witness = VerifierKey::witness(name("log.example/one"), key(1).public());
        assert_eq!(signed.cosigned_at(&log_as_witness), Err(CheckpointError::NotSigned));
        let log = VerifierKey::log(name("log.example/one"), key(1).public());
        assert_eq!(signed.cosigned_at(&log), Err(CheckpointError::NotSigned));
    }

    #[test]
    fn only_true_cosignatures_of_the_witness_are_taken_over() {
        let mut signed = signed();
        let before = signed.clone();
        let other = VerifierKey::witness(name("other.example"), key(3).public());
        let of_another_tree = Checkpoint::new(name("log.example/one"), 43, [9; 32]).sign(&key(1));
        for (line, error) in [
            (signed.cosign(name("witness.example"), &key(3), 1), CheckpointError::NotSigned),
            (of_another_tree.cosign(name("other.example"), &key(3), 1), CheckpointError::NotAuthentic),
            (
                "— other.example AA==\n".to_owned(),
                CheckpointError::Malformed("a signature line is `— name base64`"),
            ),
        ] {
            assert_eq!(signed.add_cosignatures(&line, &other), Err(error));
            assert_eq!(signed, before);
        }
    }

    #[test]
    fn every_flipped_bit_is_refused_or_drops_a_signature() {
        let log = VerifierKey::log(name("log.example/one"), key(1).public());
        let witness = VerifierKey::witness(name("witness.example"), key(2).public());
        let text = signed().to_string().into_bytes();
        for at in 0..text.len() * 8 {
            let mut bad = text.clone();
            bad[at / 8] ^= 1 << (at % 8);
            let parsed = String::from_utf8(bad).ok().and_then(|bad| bad.parse::<SignedCheckpoint>().ok());
            let both = parsed.is_some_and(|it| it.verify(&log).is_ok() && it.cosigned_at(&witness).is_ok());
            assert!(!both, "bit {at}");
        }
    }

    #[test]
    fn extension_lines_are_signed_and_kept() {
        let mut checkpoint = Checkpoint::new(name("a"), 0, [0; 32]);
        checkpoint.extensions = vec!["one".into(), "two three".into()];
        let text = checkpoint.sign(&key(1)).to_string();
        let log = VerifierKey::log(name("a"), key(1).public());
        let parsed: SignedCheckpoint = text.parse().unwrap();
        assert_eq!(parsed.verify(&log).unwrap().extensions().len(), 2);
        let altered: SignedCheckpoint = text.replace("three", "four").parse().unwrap();
        assert_eq!(altered.verify(&log), Err(CheckpointError::NotAuthentic));
    }

    #[test]
    fn rows_are_stated_or_not() {
        let of_rows = Checkpoint::new(name("a"), 3, [0; 32]).with_rows(7, &[5; 32]);
        let signed = of_rows.sign(&key(1)).to_string();
        let parsed: SignedCheckpoint = signed.parse().unwrap();
        let log = VerifierKey::log(name("a"), key(1).public());
        assert_eq!(parsed.verify(&log).unwrap().rows(), Some((7, [5; 32])));
        let other: SignedCheckpoint = signed.replace("rows 7 ", "rows 8 ").parse().unwrap();
        assert_eq!(other.verify(&log), Err(CheckpointError::NotAuthentic));
        for (from, to) in
            [("rows 7 ", "rows 07 "), ("rows 7 ", "rows "), ("BQU=", "BQ=="), ("keyhearth", "key")]
        {
            let other: SignedCheckpoint = signed.replacen(from, to, 1).parse().unwrap();
            assert_eq!(other.danger_unverified().rows(), None, "{to}");
        }
    }

    #[test]
    fn malformed_text_is_refused() {
        let good = signed().to_string();
        assert!(good.parse::<SignedCheckpoint>().is_ok());
        for (from, to) in
            [("42\n", "042\n"), ("42\n", "+42\n"), ("42\n", "-1\n"), ("\n\n", "\n"), ("— ", "- ")]
        {
            assert!(good.replace(from, to).parse::<SignedCheckpoint>().is_err(), "{to:?}");
        }
        assert!(good.trim_end().parse::<SignedCheckpoint>().is_err());
        assert!("".parse::<SignedCheckpoint>().is_err() && "\n\n".parse::<SignedCheckpoint>().is_err());
        let line = good.lines().last().unwrap();
        let crowd = format!("{good}{}", format!("{line}\n").repeat(SIGNATURES_MAX - 1));
        assert_eq!(crowd.parse::<SignedCheckpoint>(), Err(CheckpointError::TooLarge));
        for bad in ["", "a b", "a+b", "a\u{a0}b", "a\tb", &"x".repeat(256)] {
            assert!(bad.parse::<KeyName>().is_err(), "{bad:?}");
        }
    }
}
