//! SNP machines: their own ARK, ASK, ASVK, VCEK and VLEK.

use std::sync::LazyLock;

use keyhearth_attest::snp::{Generation, REPORT_BYTES, Signer};
use keyhearth_crypto::algorithm::{Algorithm, Mechanism};
use keyhearth_crypto::key::{Input, Key};

use crate::der::{
    bits, certificate_body, constraints, ecdsa_numbers, extension, integer, list_body, sequence, tlv,
    unknown_extension,
};
use crate::{AFTER, BEFORE, make};

struct Keys {
    root: Key,
    /// Of both ASK and ASVK: what tells them apart is their names.
    intermediate: Key,
    leaf: Key,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let other = std::thread::spawn(move || make(Algorithm::Rsa4096));
    Keys {
        root: make(Algorithm::Rsa4096),
        leaf: make(Algorithm::EcP384),
        intermediate: other.join().expect("it makes a key"),
    }
});

/// RSASSA-PSS with SHA-384 for message and mask, and this many bytes of salt.
fn pss(salt: u8) -> Vec<u8> {
    let rsa = |last: u8| tlv(0x06, &[&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, last]]);
    let sha384 = sequence(&[&tlv(0x06, &[&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02]]), &[5, 0]]);
    let mask = sequence(&[&rsa(8), &sha384]);
    let parameters = [tlv(0xa0, &[&sha384]), tlv(0xa1, &[&mask]), tlv(0xa2, &[&integer(salt)])].concat();
    sequence(&[&rsa(10), &sequence(&[&parameters])])
}

/// An extension of AMD's: what follows 1.3.6.1.4.1.3704.1 in its name.
fn amd(last: &[u8], value: &[u8]) -> Vec<u8> {
    extension(&[&[0x2b, 0x06, 0x01, 0x04, 0x01, 0x9c, 0x78, 0x01], last].concat(), false, value)
}

/// Everything that a certificate says.
#[derive(Clone)]
pub struct Certificate {
    /// Its number.
    pub serial: u8,
    /// Common name of its holder.
    pub subject: String,
    /// Common name of its issuer.
    pub issuer: String,
    /// When it begins, as `UTCTime`.
    pub not_before: &'static str,
    /// When it ends, as `UTCTime`.
    pub not_after: &'static str,
    /// In DER, one after another.
    pub extensions: Vec<Vec<u8>>,
    /// Bytes of salt in the signature.
    pub salt: u8,
    /// Signed by the root's key, rather than the intermediate one.
    pub by_root: bool,
    /// The holder's public key, `SubjectPublicKeyInfo`.
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
    #[must_use]
    pub fn with_unknown(mut self) -> Self {
        self.extensions.push(unknown_extension());
        self
    }

    /// Makes it, or keeps it from being, an issuer's.
    #[must_use]
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
    /// AMD's name of the product.
    pub product: String,
    /// The firmware that the key belongs to.
    pub levels: Levels,
    /// The chip; only a VCEK's certificate says it.
    pub hardware_id: Vec<u8>,
    /// Older certificates have the hardware id without a tag.
    pub bare_id: bool,
    /// Whether it is a VCEK or a VLEK.
    pub signer: Signer,
    /// What certificates of any kind say.
    pub certificate: Certificate,
}

impl Leaf {
    /// That of a machine at [`LEVELS`].
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

    /// The certificate, signed.
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

/// A revocation list of the root's.
pub struct List {
    /// Common name of its issuer.
    pub issuer: &'static str,
    /// Numbers of certificates.
    pub revoked: Vec<u8>,
    /// When it begins, as `UTCTime`.
    pub this_update: &'static str,
    /// When it ends, as `UTCTime`.
    pub next_update: Option<&'static str>,
    /// Signed by the root's key, rather than the intermediate one.
    pub by_root: bool,
}

impl List {
    /// One in force that names these serial numbers.
    pub fn of(revoked: &[u8]) -> Self {
        let (issuer, revoked) = ("ARK-Hearth", revoked.to_vec());
        Self { issuer, revoked, this_update: BEFORE, next_update: Some(AFTER), by_root: true }
    }

    /// The list, signed.
    pub fn der(&self) -> Vec<u8> {
        let body = list_body(&pss(48), self.issuer, self.this_update, self.next_update, &self.revoked, &[]);
        signed(&body, 48, if self.by_root { &KEYS.root } else { &KEYS.intermediate })
    }
}
