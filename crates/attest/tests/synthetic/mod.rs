//! A maker of SNP machines: its own ARK, ASK, ASVK, VCEK and VLEK, so that reports that no real machine gives can be
//! signed. Names, extensions and algorithms are AMD's; the keys are made once in each process.
//!
//! Used by the tests of this crate and, for seeds, by fuzzing.

use std::sync::LazyLock;

use keyhearth_attest::snp::{Generation, REPORT_BYTES, Signer};
use keyhearth_crypto::algorithm::{Algorithm, Mechanism};
use keyhearth_crypto::key::{Input, Key, generate};

/// 2025-07-01, when everything is valid that is not made otherwise.
pub const NOW_S: u64 = 1_751_328_000;

pub const BEFORE: &str = "240101000000Z";
pub const AFTER: &str = "300101000000Z";

struct Keys {
    root: Key,
    /// Of both ASK and ASVK: what tells them apart is their names.
    intermediate: Key,
    leaf: Key,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let make = |algorithm| {
        let material = generate(algorithm).expect("randomness and locked memory");
        Key::load(algorithm, &material).expect("what was generated loads")
    };
    let other = std::thread::spawn(move || make(Algorithm::Rsa4096));
    Keys {
        root: make(Algorithm::Rsa4096),
        leaf: make(Algorithm::EcP384),
        intermediate: other.join().expect("it makes a key"),
    }
});

/// A DER value.
pub fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let contents = parts.concat();
    let length = contents.len();
    let mut value = vec![tag];
    match u8::try_from(length) {
        Ok(short @ 0..=0x7f) => value.push(short),
        Ok(long) => value.extend([0x81, long]),
        Err(_) => {
            let [high, low] = u16::try_from(length).expect("nothing here is longer").to_be_bytes();
            value.extend([0x82, high, low]);
        }
    }
    value.extend(contents);
    value
}

pub fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, parts)
}

pub fn integer(number: u8) -> Vec<u8> {
    if number < 0x80 { tlv(0x02, &[&[number]]) } else { tlv(0x02, &[&[0, number]]) }
}

fn time(text: &str) -> Vec<u8> {
    tlv(0x17, &[text.as_bytes()])
}

fn name(common: &str) -> Vec<u8> {
    let attribute = sequence(&[&[0x06, 0x03, 0x55, 0x04, 0x03], &tlv(0x0c, &[common.as_bytes()])]);
    sequence(&[&tlv(0x31, &[&attribute])])
}

/// RSASSA-PSS with SHA-384 for message and mask, and this many bytes of salt.
fn pss(salt: u8) -> Vec<u8> {
    let rsa = |last: u8| tlv(0x06, &[&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, last]]);
    let sha384 = sequence(&[&tlv(0x06, &[&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02]]), &[5, 0]]);
    let mask = sequence(&[&rsa(8), &sha384]);
    let parameters = [tlv(0xa0, &[&sha384]), tlv(0xa1, &[&mask]), tlv(0xa2, &[&integer(salt)])].concat();
    sequence(&[&rsa(10), &sequence(&[&parameters])])
}

pub fn bits(bytes: &[u8]) -> Vec<u8> {
    tlv(0x03, &[&[0], bytes])
}

pub fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[0x01, 0x01, 0xff] } else { &[] };
    sequence(&[&tlv(0x06, &[oid]), critical, &tlv(0x04, &[value])])
}

/// An extension of AMD's: what follows 1.3.6.1.4.1.3704.1 in its name.
fn amd(last: &[u8], value: &[u8]) -> Vec<u8> {
    extension(&[&[0x2b, 0x06, 0x01, 0x04, 0x01, 0x9c, 0x78, 0x01], last].concat(), false, value)
}

/// What a certificate's signature is over, of version 3; `algorithm` is that of the signature.
pub fn certificate_body(
    serial: u8,
    algorithm: &[u8],
    [issuer, subject]: [&str; 2],
    [not_before, not_after]: [&str; 2],
    spki: &[u8],
    extensions: &[Vec<u8>],
) -> Vec<u8> {
    sequence(&[
        &tlv(0xa0, &[&integer(2)]),
        &integer(serial),
        algorithm,
        &name(issuer),
        &sequence(&[&time(not_before), &time(not_after)]),
        &name(subject),
        spki,
        &tlv(0xa3, &[&sequence(&[&extensions.concat()])]),
    ])
}

/// What a revocation list's signature is over.
pub fn list_body(
    algorithm: &[u8],
    issuer: &str,
    this_update: &str,
    next_update: Option<&str>,
    revoked: &[u8],
    extensions: &[u8],
) -> Vec<u8> {
    let revoked = revoked.iter().map(|serial| sequence(&[&integer(*serial), &time(BEFORE)]));
    let revoked: Vec<u8> = revoked.flatten().collect();
    sequence(&[
        &integer(1),
        algorithm,
        &name(issuer),
        &time(this_update),
        &next_update.map(time).unwrap_or_default(),
        &if revoked.is_empty() { Vec::new() } else { sequence(&[&revoked]) },
        &if extensions.is_empty() { Vec::new() } else { tlv(0xa0, &[&sequence(&[extensions])]) },
    ])
}

/// The extension that says whether a certificate is an issuer's.
pub fn constraints(may: bool) -> Vec<u8> {
    let constraints = if may { sequence(&[&[0x01, 0x01, 0xff]]) } else { sequence(&[]) };
    extension(&[0x55, 0x1d, 0x13], true, &constraints)
}

/// The extension that nobody knows and that must be known.
pub fn unknown_extension() -> Vec<u8> {
    extension(&[0x55, 0x1d, 0x36], true, &integer(0))
}

/// Everything that a certificate says.
#[derive(Clone)]
pub struct Certificate {
    pub serial: u8,
    pub subject: String,
    pub issuer: String,
    pub not_before: &'static str,
    pub not_after: &'static str,
    pub extensions: Vec<Vec<u8>>,
    pub salt: u8,
    /// Signed by the root's key, rather than the intermediate one.
    pub by_root: bool,
    pub spki: Vec<u8>,
}

impl Certificate {
    fn new(serial: u8, subject: String, issuer: String, key: &Key, by_root: bool) -> Self {
        let spki = key.public_key_der().expect("a pair").to_vec();
        let (not_before, not_after) = (BEFORE, AFTER);
        Self {
            serial,
            subject,
            issuer,
            not_before,
            not_after,
            extensions: Vec::new(),
            salt: 48,
            by_root,
            spki,
        }
    }

    /// The certificate, signed.
    pub fn der(&self) -> Vec<u8> {
        let body = certificate_body(
            self.serial,
            &pss(self.salt),
            [&self.issuer, &self.subject],
            [self.not_before, self.not_after],
            &self.spki,
            &self.extensions,
        );
        signed(&body, self.salt, if self.by_root { &KEYS.root } else { &KEYS.intermediate })
    }

    /// Adds the extension that nobody knows and that must be known.
    pub fn with_unknown(mut self) -> Self {
        self.extensions.push(unknown_extension());
        self
    }

    /// Makes it, or keeps it from being, an issuer's.
    pub fn issuing(mut self, may: bool) -> Self {
        self.extensions = vec![constraints(may)];
        self
    }
}

fn signed(body: &[u8], salt: u8, key: &Key) -> Vec<u8> {
    let signature = key.sign(Mechanism::RsaPssSha384, Input::Message(body)).expect("an RSA pair");
    sequence(&[body, &pss(salt), &bits(&signature)])
}

/// The root of all generations.
pub fn ark() -> Certificate {
    let name = || "ARK-Hearth".to_owned();
    Certificate::new(1, name(), name(), &KEYS.root, true).issuing(true)
}

/// The issuer of a generation's VCEKs or VLEKs.
pub fn intermediate(generation: Generation, signer: Signer) -> Certificate {
    let (serial, subject) = issuer(generation, signer);
    Certificate::new(serial, subject, "ARK-Hearth".to_owned(), &KEYS.intermediate, true).issuing(true)
}

fn issuer(generation: Generation, signer: Signer) -> (u8, String) {
    match signer {
        Signer::Vcek => (2, format!("SEV-{}", generation.name())),
        Signer::Vlek => (3, format!("SEV-VLEK-{}", generation.name())),
    }
}

/// Firmware levels: FMC, boot loader, TEE, SNP, microcode.
pub type Levels = [u8; 5];

/// What the machine reports unless it is made otherwise; one number needs a second byte in a certificate.
pub const LEVELS: Levels = [1, 4, 2, 24, 217];

/// The certificate of a machine's signing key.
#[derive(Clone)]
pub struct Leaf {
    pub product: String,
    pub levels: Levels,
    pub hardware_id: Vec<u8>,
    /// Older certificates have the hardware id without a tag.
    pub bare_id: bool,
    pub signer: Signer,
    pub certificate: Certificate,
}

impl Leaf {
    pub fn new(generation: Generation, signer: Signer) -> Self {
        let subject = format!("SEV-{}", signer.name().to_uppercase());
        let (_, issuer) = issuer(generation, signer);
        Self {
            product: generation.name().to_owned(),
            levels: LEVELS,
            hardware_id: chip_id(generation),
            bare_id: false,
            signer,
            certificate: Certificate::new(0, subject, issuer, &KEYS.leaf, false),
        }
    }

    pub fn der(&self) -> Vec<u8> {
        let [fmc, bootloader, tee, snp, microcode] = self.levels;
        let mut certificate = self.certificate.clone();
        let own = [
            amd(&[1], &integer(1)),
            amd(&[2], &tlv(0x16, &[self.product.as_bytes()])),
            amd(&[3, 9], &integer(fmc)),
            amd(&[3, 1], &integer(bootloader)),
            amd(&[3, 2], &integer(tee)),
            amd(&[3, 3], &integer(snp)),
            amd(&[3, 8], &integer(microcode)),
            match self.signer {
                Signer::Vcek if self.bare_id => amd(&[4], &self.hardware_id),
                Signer::Vcek => amd(&[4], &tlv(0x04, &[&self.hardware_id])),
                Signer::Vlek => amd(&[5], &tlv(0x16, &[b"CN=hearth.example"])),
            },
        ];
        certificate.extensions.extend(own);
        certificate.der()
    }
}

fn chip_id(generation: Generation) -> Vec<u8> {
    match generation {
        Generation::Milan | Generation::Genoa => vec![0xc1; 64],
        Generation::Turin => vec![0xc1; 8],
    }
}

/// A `TCB_VERSION`.
pub fn tcb(generation: Generation, [fmc, bootloader, tee, snp, microcode]: Levels) -> [u8; 8] {
    match generation {
        Generation::Milan | Generation::Genoa => [bootloader, tee, 0, 0, 0, 0, snp, microcode],
        Generation::Turin => [fmc, bootloader, tee, snp, 0, 0, 0, microcode],
    }
}

/// What a sound machine reports, not signed yet.
pub fn report(version: u32, generation: Generation, signer: Signer) -> Vec<u8> {
    let mut report = vec![0; REPORT_BYTES];
    let mut put = |offset: usize, bytes: &[u8]| report[offset..offset + bytes.len()].copy_from_slice(bytes);
    let levels = tcb(generation, LEVELS);
    let key_info: u32 = match signer {
        Signer::Vcek => 0,
        Signer::Vlek => 1 << 2,
    };
    put(0x00, &version.to_le_bytes());
    put(0x04, &7_u32.to_le_bytes());
    put(0x08, &0x0003_011d_u64.to_le_bytes());
    put(0x10, &[0xfa; 16]);
    put(0x20, &[0x1a; 16]);
    put(0x34, &1_u32.to_le_bytes());
    put(0x40, &0x25_u64.to_le_bytes());
    put(0x48, &key_info.to_le_bytes());
    put(0x50, &[0xda; 64]);
    put(0x90, &[0x3e; 48]);
    put(0xc0, &[0x40; 32]);
    put(0xe0, &[0x1d; 48]);
    put(0x140, &[0x1e; 32]);
    put(0x160, &[0xff; 32]);
    for offset in [0x38, 0x180, 0x1e0, 0x1f0] {
        put(offset, &levels);
    }
    if version >= 3 {
        put(
            0x188,
            match generation {
                Generation::Milan => &[0x19, 0x01, 0x01],
                Generation::Genoa => &[0x19, 0x11, 0x01],
                Generation::Turin => &[0x1a, 0x02, 0x01],
            },
        );
    }
    if signer == Signer::Vcek {
        put(0x1a0, &chip_id(generation));
    }
    report
}

/// Signs a report with the key of every leaf.
pub fn sign(report: &mut [u8]) {
    let (body, signature) = report.split_at_mut(0x2a0);
    let numbers = KEYS.leaf.sign(Mechanism::EcdsaSha384, Input::Message(body)).expect("an EC pair");
    for (place, number) in signature.chunks_exact_mut(72).zip(ecdsa_numbers::<48>(&numbers)) {
        place.iter_mut().zip(number.iter().rev()).for_each(|(byte, digit)| *byte = *digit);
    }
}

/// The two numbers of a signature in DER, each with its highest byte first.
pub fn ecdsa_numbers<const N: usize>(der: &[u8]) -> [[u8; N]; 2] {
    let (r, rest) = der_integer(&der[2..]);
    let (s, _) = der_integer(rest);
    [r, s].map(|digits| {
        let mut number = [0; N];
        number[N - digits.len()..].copy_from_slice(digits);
        number
    })
}

fn der_integer(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (number, rest) = bytes[2..].split_at(bytes[1].into());
    (number.strip_prefix(&[0]).unwrap_or(number), rest)
}

/// A revocation list of the root's.
pub struct List {
    pub issuer: &'static str,
    pub revoked: Vec<u8>,
    pub this_update: &'static str,
    pub next_update: Option<&'static str>,
    pub by_root: bool,
}

impl List {
    /// One in force that names these serial numbers.
    pub fn of(revoked: &[u8]) -> Self {
        let (issuer, revoked) = ("ARK-Hearth", revoked.to_vec());
        Self { issuer, revoked, this_update: BEFORE, next_update: Some(AFTER), by_root: true }
    }

    pub fn der(&self) -> Vec<u8> {
        let body = list_body(&pss(48), self.issuer, self.this_update, self.next_update, &self.revoked, &[]);
        signed(&body, 48, if self.by_root { &KEYS.root } else { &KEYS.intermediate })
    }
}
