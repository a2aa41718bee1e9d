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
use crate::reason::{Reason, Refusal};

/// The most certificates that a quote may carry; Intel's have three.
const CERTIFICATES_MAX: usize = 8;

const HEADER_BYTES: usize = 48;
const QE_REPORT_BYTES: usize = 384;
const TEE_TDX: usize = 0x81;
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
pub(super) struct Quote<'a> {
    pub(super) version: u16,
    pub(super) report: TdReport<'a>,
    pub(super) qe: QeReport<'a>,
    /// Header and TD report.
    signed: &'a [u8],
    signature: &'a [u8; 64],
    attestation_key: &'a [u8; 64],
    qe_signature: &'a [u8; 64],
    qe_data: &'a [u8],
    /// The PCK chain as PEM; nothing if the quote only says how to find it.
    chain: &'a [u8],
}

impl<'a> Quote<'a> {
    /// Checks header, kind of TD report, every length, and that nothing but zeroes follows: hosts give quotes in
    /// buffers of a fixed size.
    pub(super) fn parse(evidence: &'a [u8]) -> Result<Self, Refusal> {
        let mut rest = Bytes(evidence);
        let version = check_header(rest.take(HEADER_BYTES, "header")?)?;
        let body_bytes = match version {
            4 => TD_1_0_BYTES,
            _ => body_bytes(rest.u16("body")?, rest.u32("body")?)?,
        };
        let report = TdReport(rest.take(body_bytes, "TD report")?);
        let signed = &evidence[..evidence.len() - rest.0.len()];
        let length = rest.u32("signature")?;
        let mut auth = Bytes(rest.take(length, "signature")?);
        if rest.0.iter().any(|byte| *byte != 0) {
            return Err(Reason::TdxQuoteMalformed.because(format!("{} bytes follow it", rest.0.len())));
        }
        let signature = auth.array("signature")?;
        let attestation_key = auth.array("attestation key")?;
        let mut certified = auth.last_field(QE_REPORT)?;
        let qe = QeReport(certified.array("QE report")?);
        let qe_signature = certified.array("QE report's signature")?;
        let length = certified.u16("QE data")?;
        let qe_data = certified.take(length.into(), "QE data")?;
        let (kind, chain) = certified.typed("PCK chain")?;
        certified.end("PCK chain")?;
        let chain = if kind == PCK_CHAIN { chain } else { &[] };
        Ok(Self { version, report, qe, signed, signature, attestation_key, qe_signature, qe_data, chain })
    }

    /// The certificates that the quote carries, as DER.
    pub(super) fn certificates(&self) -> Result<Vec<Vec<u8>>, Refusal> {
        let malformed = || Reason::TdxQuoteMalformed.because("PCK chain");
        // C programs count the end of the text as part of it.
        let text = self.chain.strip_suffix(&[0]).unwrap_or(self.chain);
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
        is_signed(key, self.qe.0, self.qe_signature)
    }

    /// Checks that the quoting enclave made the attestation key: its report holds the hash of the key, and of data
    /// that belongs to it.
    pub(super) fn check_attestation_key(&self) -> Result<(), Refusal> {
        let (hash, rest) = self.qe.report_data().split_at(32);
        let vouched =
            hash == sha256(&[self.attestation_key, self.qe_data]) && rest.iter().all(|byte| *byte == 0);
        if vouched { Ok(()) } else { Err(Reason::TdxAttestationKey.into()) }
    }

    /// Checks that the attestation key signed header and TD report.
    pub(super) fn check_signature(&self) -> Result<(), Refusal> {
        let point = [&[UNCOMPRESSED], &self.attestation_key[..]].concat();
        let key = PublicKey::from_der(Algorithm::EcP256, &point);
        let signed = key.is_ok_and(|key| is_signed(&key, self.signed, self.signature));
        if signed { Ok(()) } else { Err(Reason::TdxSignature.into()) }
    }
}

/// Whether `signature`, two numbers of P-256, is one of `message` by this key.
pub(super) fn is_signed(key: &PublicKey, message: &[u8], signature: &[u8; 64]) -> bool {
    let (r, s) = signature.split_at(32);
    key.verify(Mechanism::EcdsaSha256, Input::Message(message), &ecdsa::der(r, s)).is_ok()
}

/// The report of the quoting enclave.
///
/// Source: Intel SDM vol. 3D §41.15 (`REPORT`).
#[derive(Clone, Copy)]
pub(super) struct QeReport<'a>(&'a [u8; QE_REPORT_BYTES]);

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
fn check_header(header: &[u8]) -> Result<u16, Refusal> {
    let mut rest = Bytes(header);
    let (version, key, tee) = (rest.u16("header")?, rest.u16("header")?, rest.u32("header")?);
    if tee != TEE_TDX {
        return Err(Reason::TdxTee.because(format!("TEE type {tee:#x}")));
    }
    if !matches!(version, 4 | 5) {
        return Err(Reason::TdxVersion.because(format!("version {version}")));
    }
    if key != ECDSA_P256 {
        return Err(Reason::TdxKeyType.because(format!("key type {key}")));
    }
    // Security versions of QE and PCE lie between; those of the QE report and the PCK certificate are signed.
    rest.take(4, "header")?;
    if rest.take(INTEL.len(), "header")? != INTEL {
        return Err(Reason::TdxVendor.into());
    }
    Ok(version)
}

fn body_bytes(kind: u16, length: usize) -> Result<usize, Refusal> {
    let Some((_, bytes)) = BODIES.iter().find(|(known, _)| *known == kind) else {
        return Err(Reason::TdxBody.because(format!("type {kind}")));
    };
    if *bytes == length { Ok(length) } else { Err(Reason::TdxBody.because(format!("{length} bytes"))) }
}

/// Bytes that are read from the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], Refusal> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Reason::TdxQuoteMalformed.because(what))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<&'a [u8; N], Refusal> {
        Ok(self.take(N, what)?.try_into().expect("so many bytes were taken"))
    }

    fn u16(&mut self, what: &'static str) -> Result<u16, Refusal> {
        Ok(u16::from_le_bytes(*self.array(what)?))
    }

    /// A length of four bytes.
    fn u32(&mut self, what: &'static str) -> Result<usize, Refusal> {
        let length = u32::from_le_bytes(*self.array(what)?);
        usize::try_from(length).map_err(|_| Reason::TdxQuoteMalformed.because(what))
    }

    /// A type, a length, and so many bytes.
    fn typed(&mut self, what: &'static str) -> Result<(u16, &'a [u8]), Refusal> {
        let kind = self.u16(what)?;
        let length = self.u32(what)?;
        Ok((kind, self.take(length, what)?))
    }

    /// A field of this type, after which nothing follows.
    fn last_field(&mut self, kind: u16) -> Result<Self, Refusal> {
        let (found, bytes) = self.typed("certification data")?;
        if found != kind {
            return Err(Reason::TdxQuoteMalformed.because(format!("certification data of type {found}")));
        }
        self.end("certification data")?;
        Ok(Self(bytes))
    }

    fn end(&self, what: &'static str) -> Result<(), Refusal> {
        if self.0.is_empty() { Ok(()) } else { Err(Reason::TdxQuoteMalformed.because(what)) }
    }
}
