//! The bytes of a report: where each field lies, and whether the whole has the right form.
//!
//! Source: AMD 56860 rev. 1.58 §7.3, tables "ATTESTATION_REPORT" and "Signature".

use super::tcb::Generation;
use super::vek::Signer;
use crate::ecdsa;
use crate::reason::{Reason, Refusal};

/// Bytes of a report of every version.
pub const REPORT_BYTES: usize = 0x4a0;

/// Bytes that are signed: everything before the signature.
const SIGNED_BYTES: usize = 0x2a0;
/// Bytes of each of the signature's two numbers, the lowest first.
const NUMBER_BYTES: usize = 72;
/// Bytes of a number of P-384.
const SCALAR_BYTES: usize = 48;
const ECDSA_P384_SHA384: u32 = 1;

/// A report of the right form. Nothing in it is believed yet.
pub(crate) struct Report<'a> {
    bytes: &'a [u8; REPORT_BYTES],
}

impl<'a> Report<'a> {
    /// Checks size, version, algorithm, signer and the shape of the signature.
    pub(crate) fn parse(evidence: &'a [u8], legacy: bool) -> Result<Self, Refusal> {
        let Ok(bytes) = <&[u8; REPORT_BYTES]>::try_from(evidence) else {
            return Err(Reason::SnpSize.because(format!("{} bytes", evidence.len())));
        };
        let report = Self { bytes };
        match report.version() {
            2 if !legacy => return Err(Reason::SnpVersionLegacy.into()),
            2..=5 => {}
            version => return Err(Reason::SnpVersion.because(format!("version {version}"))),
        }
        if report.number(0x34) != ECDSA_P384_SHA384 {
            let detail = format!("algorithm {}", report.number(0x34));
            return Err(Reason::SnpSignatureAlgorithm.because(detail));
        }
        report.signer()?;
        if report.bytes[SIGNED_BYTES..].iter().all(|byte| *byte == 0) {
            return Err(Reason::SnpUnsigned.because("the signature is zero"));
        }
        report.signature()?;
        report.generation()?;
        Ok(report)
    }

    fn field<const N: usize>(&self, offset: usize) -> &'a [u8; N] {
        self.bytes[offset..].first_chunk().expect("every field that is named here lies inside a report")
    }

    fn number(&self, offset: usize) -> u32 {
        u32::from_le_bytes(*self.field(offset))
    }

    pub(super) fn version(&self) -> u32 {
        self.number(0)
    }

    pub(super) fn guest_svn(&self) -> u32 {
        self.number(0x04)
    }

    pub(super) fn policy(&self) -> u64 {
        u64::from_le_bytes(*self.field(0x08))
    }

    pub(super) fn family_id(&self) -> &'a [u8; 16] {
        self.field(0x10)
    }

    pub(super) fn image_id(&self) -> &'a [u8; 16] {
        self.field(0x20)
    }

    pub(super) fn vmpl(&self) -> u32 {
        self.number(0x30)
    }

    pub(super) fn current_tcb(&self) -> &'a [u8; 8] {
        self.field(0x38)
    }

    pub(super) fn platform(&self) -> u64 {
        u64::from_le_bytes(*self.field(0x40))
    }

    /// Whether an author key signed the key that signed the ID block.
    pub(super) fn has_author_key(&self) -> bool {
        self.number(0x48) & 1 == 1
    }

    /// Whose key signed.
    pub(crate) fn signer(&self) -> Result<Signer, Refusal> {
        match self.number(0x48) >> 2 & 7 {
            0 => Ok(Signer::Vcek),
            1 => Ok(Signer::Vlek),
            7 => Err(Reason::SnpUnsigned.because("no signing key")),
            other => Err(Reason::SnpSignerUnknown.because(format!("key {other}"))),
        }
    }

    pub(super) fn report_data(&self) -> &'a [u8; 64] {
        self.field(0x50)
    }

    pub(super) fn measurement(&self) -> &'a [u8; 48] {
        self.field(0x90)
    }

    pub(super) fn host_data(&self) -> &'a [u8; 32] {
        self.field(0xc0)
    }

    pub(super) fn id_key_digest(&self) -> &'a [u8; 48] {
        self.field(0xe0)
    }

    pub(super) fn author_key_digest(&self) -> &'a [u8; 48] {
        self.field(0x110)
    }

    pub(super) fn report_id(&self) -> &'a [u8; 32] {
        self.field(0x140)
    }

    pub(super) fn report_id_ma(&self) -> &'a [u8; 32] {
        self.field(0x160)
    }

    pub(crate) fn reported_tcb(&self) -> &'a [u8; 8] {
        self.field(0x180)
    }

    /// The processor's generation; version 2 does not say.
    pub(crate) fn generation(&self) -> Result<Option<Generation>, Refusal> {
        if self.version() < 3 {
            return Ok(None);
        }
        let [family, model] = *self.field(0x188);
        let unknown = || Reason::SnpProcessorUnknown.because(format!("family {family:#x}, model {model:#x}"));
        Generation::of_cpu(family, model).ok_or_else(unknown).map(Some)
    }

    pub(crate) fn chip_id(&self) -> &'a [u8; 64] {
        self.field(0x1a0)
    }

    pub(super) fn committed_tcb(&self) -> &'a [u8; 8] {
        self.field(0x1e0)
    }

    pub(super) fn launch_tcb(&self) -> &'a [u8; 8] {
        self.field(0x1f0)
    }

    /// What the signature is over.
    pub(super) fn signed(&self) -> &'a [u8] {
        &self.bytes[..SIGNED_BYTES]
    }

    /// The signature as DER: a sequence of the two numbers.
    ///
    /// Bytes that a number of P-384 cannot fill must be zero, so that one report has one spelling.
    pub(super) fn signature(&self) -> Result<Vec<u8>, Refusal> {
        let (numbers, rest) = self.bytes[SIGNED_BYTES..].split_at(2 * NUMBER_BYTES);
        let mut excess = rest.iter().any(|byte| *byte != 0);
        let mut scalars = [[0; SCALAR_BYTES]; 2];
        for (number, scalar) in numbers.chunks_exact(NUMBER_BYTES).zip(&mut scalars) {
            let (digits, above) = number.split_at(SCALAR_BYTES);
            excess |= above.iter().any(|byte| *byte != 0);
            scalar.copy_from_slice(digits);
            scalar.reverse();
        }
        let [r, s] = scalars;
        ecdsa::der(&r, &s).filter(|_| !excess).ok_or(Reason::SnpSignatureMalformed.into())
    }
}
