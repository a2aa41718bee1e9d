//! The bytes of a quote: whether the whole has the right form, and where its certificates and signatures lie.
//!
//! ```text
//! header 48 │ version 5: type, size │ TD report │ signature 64, key 64 │ QE report 384, its signature 64, QE data │ PCK chain
//! └──────────────── signed by the attestation key ────────────────┘
//! ```
//!
//! Source: Intel, "TDX DCAP Quoting Library API" rev. 0.9 §A.3 (version 4) and §A.4 (version 5).

use keyhearth_crypto::algorithm::{Algorithm, Mechanism};
use keyhearth_crypto::digest::sha256;
use keyhearth_crypto::key::{Input, PublicKey};
use x509_parser::pem::Pem;

use super::report::{TD_1_0_BYTES, TD_1_5_BYTES, TD_1_5_EXTENDED_BYTES, TdReport};
use crate::ecdsa;
use crate::reader::Reader;
use crate::reason::{Reason, Refusal};

/// The most certificates that a quote may carry; Intel's have three.
const CERTIFICATES_MAX: usize = 8;

const HEADER_BYTES: usize = 48;
const QE_REPORT_BYTES: usize = 384;
const TEE_TDX: u32 = 0x81;
const ECDSA_P256: u16 = 2;
/// The quoting enclave's maker: Intel.
const INTEL: [u8; 16] =
    [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07];
const PCK_CHAIN: u16 = 5;
const QE_REPORT: u16 = 6;
/// How points begin whose both coordinates follow (SEC 1 §2.3.3).
const UNCOMPRESSED: u8 = 4;

/// Kinds of TD reports, as version 5 numbers them, and their bytes.
const BODIES: [(u16, usize); 3] = [(2, TD_1_0_BYTES), (3, TD_1_5_BYTES), (4, TD_1_5_EXTENDED_BYTES)];

/// A quote of the right form, by the right kind of key. Nothing in it is believed yet.
pub(crate) struct Quote<'a> {
    pub(super) version: u16,
    pub(super) report: TdReport<'a>,
    /// Header and TD report.
    signed: &'a [u8],
    auth: Auth<'a>,
}

/// What vouches for a quote.
struct Auth<'a> {
    signature: [u8; 64],
    attestation_key: [u8; 64],
    qe: QeReport<'a>,
    qe_signature: [u8; 64],
    qe_data: &'a [u8],
    /// The PCK chain as PEM; nothing if the quote only says how to find it.
    chain: &'a [u8],
}

impl<'a> Quote<'a> {
    /// Checks header, kind of TD report, every length, and that nothing but zeroes follows: hosts give quotes in
    /// buffers of a fixed size.
    pub(crate) fn parse(evidence: &'a [u8]) -> Result<Self, Refusal> {
        let malformed = |what: &'static str| move || Reason::TdxQuoteMalformed.because(what);
        let mut reader = Reader::new(evidence);
        let version = check_header(&reader.array().ok_or_else(malformed("header"))?)?;
        let body_bytes = match version {
            4 => TD_1_0_BYTES,
            _ => body_bytes(reader.array().ok_or_else(malformed("body"))?)?,
        };
        let report = TdReport(reader.slice(body_bytes).ok_or_else(malformed("TD report"))?);
        let signed = &evidence[..evidence.len() - reader.rest().len()];
        let auth = long(&mut reader).ok_or_else(malformed("signature"))?;
        let after = reader.rest();
        if after.iter().any(|byte| *byte != 0) {
            return Err(Reason::TdxQuoteMalformed.because(format!("{} bytes follow it", after.len())));
        }
        let auth = Auth::read(Reader::new(auth)).ok_or_else(malformed("signature"))?;
        Ok(Self { version, report, signed, auth })
    }

    /// The report of the quoting enclave.
    pub(super) fn qe(&self) -> QeReport<'a> {
        self.auth.qe
    }

    /// The certificates that the quote carries, as DER.
    pub(crate) fn certificates(&self) -> Result<Vec<Vec<u8>>, Refusal> {
        let malformed = || Reason::TdxQuoteMalformed.because("PCK chain");
        // C programs count the end of the text as part of it.
        let text = self.auth.chain.strip_suffix(&[0]).unwrap_or(self.auth.chain);
        let mut certificates = Vec::new();
        for block in Pem::iter_from_buffer(text) {
            if certificates.len() == CERTIFICATES_MAX {
                return Err(malformed());
            }
            certificates.push(block.map_err(|_| malformed())?.contents);
        }
        Ok(certificates)
    }

    /// Whether the QE report was signed by this key.
    pub(super) fn is_certified_by(&self, key: &PublicKey) -> bool {
        is_signed(key, self.auth.qe.0, &self.auth.qe_signature)
    }

    /// Checks that the quoting enclave made the attestation key: its report holds the hash of the key, and of data
    /// that belongs to it.
    pub(super) fn check_attestation_key(&self) -> Result<(), Refusal> {
        let Auth { attestation_key, qe, qe_data, .. } = &self.auth;
        let (hash, rest) = qe.report_data().split_at(32);
        let vouched = hash == sha256(&[attestation_key, qe_data]) && rest.iter().all(|byte| *byte == 0);
        if vouched { Ok(()) } else { Err(Reason::TdxAttestationKey.into()) }
    }

    /// Checks that the attestation key signed header and TD report.
    pub(super) fn check_signature(&self) -> Result<(), Refusal> {
        let point = [&[UNCOMPRESSED], &self.auth.attestation_key[..]].concat();
        let key = PublicKey::from_der(Algorithm::EcP256, &point);
        let signed = key.is_ok_and(|key| is_signed(&key, self.signed, &self.auth.signature));
        if signed { Ok(()) } else { Err(Reason::TdxSignature.into()) }
    }
}

impl<'a> Auth<'a> {
    /// Reads it. Nothing if a part is longer or shorter than it says, or if the QE's report is not where it belongs.
    fn read(mut reader: Reader<'a>) -> Option<Self> {
        let (signature, attestation_key) = (reader.array()?, reader.array()?);
        let (kind, certified) = typed(&mut reader)?;
        reader.end()?;
        let mut reader = Reader::new(certified);
        let (qe, qe_signature) = (QeReport(reader.slice(QE_REPORT_BYTES)?), reader.array()?);
        let qe_data_bytes = u16::from_le_bytes(reader.array()?);
        let qe_data = reader.slice(qe_data_bytes.into())?;
        let (chain_kind, chain) = typed(&mut reader)?;
        reader.end()?;
        let chain = if chain_kind == PCK_CHAIN { chain } else { &[] };
        let auth = Self { signature, attestation_key, qe, qe_signature, qe_data, chain };
        (kind == QE_REPORT).then_some(auth)
    }
}

/// Whether `signature`, two numbers of P-256, is one of `message` by this key.
pub(super) fn is_signed(key: &PublicKey, message: &[u8], signature: &[u8; 64]) -> bool {
    let (r, s) = signature.split_at(32);
    let verified = |der: Vec<u8>| key.verify(Mechanism::EcdsaSha256, Input::Message(message), &der).is_ok();
    ecdsa::der(r, s).is_some_and(verified)
}

/// The report of the quoting enclave.
///
/// Source: Intel SDM vol. 3D §41.15 (`REPORT`).
#[derive(Clone, Copy)]
pub(super) struct QeReport<'a>(&'a [u8]);

impl<'a> QeReport<'a> {
    fn field<const N: usize>(self, offset: usize) -> &'a [u8; N] {
        self.0[offset..].first_chunk().expect("every field that is named here lies inside the report")
    }

    pub(super) fn misc_select(self) -> &'a [u8; 4] {
        self.field(16)
    }

    pub(super) fn attributes(self) -> &'a [u8; 16] {
        self.field(48)
    }

    pub(super) fn mr_signer(self) -> &'a [u8; 32] {
        self.field(128)
    }

    pub(super) fn isv_prod_id(self) -> u16 {
        u16::from_le_bytes(*self.field(256))
    }

    pub(super) fn isv_svn(self) -> u16 {
        u16::from_le_bytes(*self.field(258))
    }

    fn report_data(self) -> &'a [u8; 64] {
        self.field(320)
    }
}

/// Checks everything in the header that says what kind of quote it is; gives the version.
fn check_header(header: &[u8; HEADER_BYTES]) -> Result<u16, Refusal> {
    // The security versions of QE and PCE are passed over; those of the QE report and the PCK certificate are signed.
    let [v0, v1, k0, k1, t0, t1, t2, t3, _, _, _, _, vendor @ ..] = *header;
    let [version, key] = [[v0, v1], [k0, k1]].map(u16::from_le_bytes);
    let tee = u32::from_le_bytes([t0, t1, t2, t3]);
    if tee != TEE_TDX {
        return Err(Reason::TdxTee.because(format!("TEE type {tee:#x}")));
    }
    if !matches!(version, 4 | 5) {
        return Err(Reason::TdxVersion.because(format!("version {version}")));
    }
    if key != ECDSA_P256 {
        return Err(Reason::TdxKeyType.because(format!("key type {key}")));
    }
    if !vendor.starts_with(&INTEL) {
        return Err(Reason::TdxVendor.into());
    }
    Ok(version)
}

/// The length of the TD report, which its kind and the length that follows agree on.
fn body_bytes([k0, k1, l0, l1, l2, l3]: [u8; 6]) -> Result<usize, Refusal> {
    let (kind, length) = (u16::from_le_bytes([k0, k1]), u32::from_le_bytes([l0, l1, l2, l3]));
    let body = BODIES.iter().find(|(known, bytes)| *known == kind && u32::try_from(*bytes) == Ok(length));
    let unknown = || Reason::TdxBody.because(format!("type {kind} with {length} bytes"));
    body.map(|(_, bytes)| *bytes).ok_or_else(unknown)
}

/// Bytes behind their length, which has 32 bits, the lowest first.
fn long<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = u32::from_le_bytes(reader.array()?);
    reader.slice(usize::try_from(length).ok()?)
}

/// A type, and bytes behind their length.
fn typed<'a>(reader: &mut Reader<'a>) -> Option<(u16, &'a [u8])> {
    Some((u16::from_le_bytes(reader.array()?), long(reader)?))
}
