//! The bytes of a quote: whether the whole has the right form, and where its certificates and signatures lie.
//!
//! ```text
//! header 48 │ version 5: type, size │ TD report │ signature 64, key 64 │ QE report 384, its signature 64, QE data │ PCK chain
//! └──────────────── signed by the attestation key ────────────────┘
//! ```
//! What a TD report says is read by [`super::verdict`] after it was verified.
//!
//! Source: Intel, "TDX DCAP Quoting Library API" rev. 0.9 §A.3 (version 4) and §A.4 (version 5).

use x509_parser::pem::Pem;

use crate::reason::{Reason, Refusal};

/// The bytes of a quote's header.
pub(super) const HEADER_BYTES: usize = 48;
/// The most certificates that a quote may carry; Intel's have three.
const CERTIFICATES_MAX: usize = 8;

const TEE_TDX: usize = 0x81;
const ECDSA_P256: u16 = 2;
/// The quoting enclave's maker: Intel.
const INTEL: [u8; 16] =
    [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07];
const PCK_CHAIN: u16 = 5;
const QE_REPORT: u16 = 6;

/// Kinds of TD reports, as version 5 numbers them, and their bytes.
const BODIES: [(u16, usize); 3] = [(2, 584), (3, 648), (4, 885)];
const TD_1_0_BYTES: usize = 584;

/// A quote of the right form, by the right kind of key. Nothing in it is believed yet.
pub(super) struct Quote<'a> {
    /// The quoting enclave's report, which vouches for the attestation key.
    pub(super) qe_report: &'a [u8],
    /// ECDSA by the PCK: two numbers of 32 bytes.
    pub(super) qe_report_signature: &'a [u8],
    /// The PCK chain as PEM; nothing if the quote only says how to find it.
    chain: &'a [u8],
}

impl<'a> Quote<'a> {
    /// Checks header, kind of TD report, every length, and that nothing but zeroes follows: hosts give quotes in
    /// buffers of a fixed size.
    pub(super) fn parse(evidence: &'a [u8]) -> Result<Self, Refusal> {
        let mut rest = Bytes(evidence);
        let header = rest.take(HEADER_BYTES, "header")?;
        let version = check_header(header)?;
        let body_bytes = match version {
            4 => TD_1_0_BYTES,
            _ => body_bytes(rest.u16("body")?, rest.u32("body")?)?,
        };
        rest.take(body_bytes, "TD report")?;
        let length = rest.u32("signature")?;
        let mut auth = Bytes(rest.take(length, "signature")?);
        if rest.0.iter().any(|byte| *byte != 0) {
            return Err(Reason::TdxQuoteMalformed.because(format!("{} bytes follow it", rest.0.len())));
        }
        auth.take(64, "signature")?;
        auth.take(64, "attestation key")?;
        let mut certified = auth.last_field(QE_REPORT)?;
        let qe_report = certified.take(384, "QE report")?;
        let qe_report_signature = certified.take(64, "QE report's signature")?;
        let length = certified.u16("QE data")?;
        certified.take(length.into(), "QE data")?;
        let (kind, chain) = certified.typed("PCK chain")?;
        certified.end("PCK chain")?;
        Ok(Self { qe_report, qe_report_signature, chain: if kind == PCK_CHAIN { chain } else { &[] } })
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

    fn u16(&mut self, what: &'static str) -> Result<u16, Refusal> {
        let bytes = self.take(2, what)?.try_into().expect("two bytes were taken");
        Ok(u16::from_le_bytes(bytes))
    }

    /// A length of four bytes.
    fn u32(&mut self, what: &'static str) -> Result<usize, Refusal> {
        let bytes = self.take(4, what)?.try_into().expect("four bytes were taken");
        usize::try_from(u32::from_le_bytes(bytes)).map_err(|_| Reason::TdxQuoteMalformed.because(what))
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
