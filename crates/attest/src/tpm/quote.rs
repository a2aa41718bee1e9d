//! What a TPM signs when it quotes PCRs: `TPMS_ATTEST` with `TPMS_QUOTE_INFO`.
//!
//! Source: TCG TPM 2.0 Library part 2 rev. 1.59 §10.12.8 (`TPMS_ATTEST`), §10.6.2 (`TPMS_PCR_SELECTION`).

use keyhearth_crypto::digest::sha256;

use super::TPM_ALG_SHA256;
use super::evidence::Pcrs;
use crate::reader::Reader;
use crate::reason::{Reason, Refusal};

/// The longest structure that a TPM signs; real quotes have less than 200 bytes.
pub(super) const QUOTE_BYTES_MAX: usize = 1024;

/// PCRs of a TPM on a PC.
pub(super) const PCRS: u8 = 24;

const TPM_GENERATED: u32 = 0xff54_4347;
const TPM_ST_ATTEST_QUOTE: u16 = 0x8018;

/// A quote of the right form, over PCRs of the SHA-256 bank alone. Nothing in it is believed yet.
pub(super) struct Quote<'a> {
    signed: &'a [u8],
    /// What the caller of the TPM had it sign.
    pub(super) extra_data: &'a [u8],
    /// Milliseconds that the TPM was on, as far as it knows.
    pub(super) clock_ms: u64,
    /// How often it was reset or restarted from nothing.
    pub(super) reset_count: u32,
    /// How often it was resumed or hibernated since.
    pub(super) restart_count: u32,
    /// Whether the clock never showed a later time than this before.
    pub(super) clock_safe: bool,
    pub(super) firmware_version: u64,
    selected: u32,
    pcr_digest: &'a [u8],
}

impl<'a> Quote<'a> {
    pub(super) fn parse(signed: &'a [u8]) -> Result<Self, Refusal> {
        let mut reader = Reader::new(signed);
        let header = |reader: &mut Reader<'a>| {
            Some((u32::from_be_bytes(reader.array()?), u16::from_be_bytes(reader.array()?)))
        };
        let malformed = || Reason::TpmQuoteMalformed.because(format!("{} bytes", signed.len()));
        let (magic, kind) = header(&mut reader).ok_or_else(malformed)?;
        if magic != TPM_GENERATED {
            return Err(Reason::TpmQuoteMagic.because(format!("{magic:08x}")));
        }
        if kind != TPM_ST_ATTEST_QUOTE {
            return Err(Reason::TpmQuoteType.because(format!("{kind:04x}")));
        }
        let (mut quote, selections) = Self::body(signed, reader).ok_or_else(malformed)?;
        let [(TPM_ALG_SHA256, selected)] = *selections else {
            let banks: Vec<_> = selections.iter().map(|(bank, _)| format!("{bank:04x}")).collect();
            return Err(Reason::TpmBank.because(format!("hash algorithms {}", banks.join(", "))));
        };
        quote.selected = selected;
        Ok(quote)
    }

    /// The rest, and for each bank its algorithm and PCRs; the lowest bit is PCR 0.
    fn body(signed: &'a [u8], mut reader: Reader<'a>) -> Option<(Self, Vec<(u16, u32)>)> {
        if signed.len() > QUOTE_BYTES_MAX {
            return None;
        }
        let _qualified_signer = reader.sized()?;
        let extra_data = reader.sized()?;
        let clock_ms = u64::from_be_bytes(reader.array()?);
        let reset_count = u32::from_be_bytes(reader.array()?);
        let restart_count = u32::from_be_bytes(reader.array()?);
        let [safe @ 0..=1] = reader.array()? else { return None };
        let firmware_version = u64::from_be_bytes(reader.array()?);
        let banks = u32::from_be_bytes(reader.array()?);
        let mut selections = Vec::new();
        for _ in 0..banks {
            selections.push((u16::from_be_bytes(reader.array()?), selection(&mut reader)?));
        }
        let pcr_digest = reader.sized()?;
        reader.end()?;
        let quote = Self {
            signed,
            extra_data,
            clock_ms,
            reset_count,
            restart_count,
            clock_safe: safe == 1,
            firmware_version,
            selected: 0,
            pcr_digest,
        };
        Some((quote, selections))
    }

    /// What the signature is over.
    pub(super) fn signed(&self) -> &'a [u8] {
        self.signed
    }

    /// Checks that `pcrs` are exactly what was quoted: those PCRs with those values.
    pub(super) fn check_pcrs(&self, pcrs: &Pcrs) -> Result<(), Refusal> {
        let given = pcrs.keys().fold(0_u32, |set, index| set | 1 << (index % PCRS));
        if given != self.selected || given == 0 {
            let detail = format!("quoted {:06x}, given {given:06x}", self.selected);
            return Err(Reason::TpmPcrSelection.because(detail));
        }
        let values: Vec<&[u8]> = pcrs.values().map(<[u8; 32]>::as_slice).collect();
        if sha256(&values) != *self.pcr_digest {
            return Err(Reason::TpmPcrDigest.into());
        }
        Ok(())
    }
}

/// A bit for each PCR that is selected; nothing if there are more than a PC has.
fn selection(reader: &mut Reader<'_>) -> Option<u32> {
    let [length] = reader.array()?;
    let octets = reader.slice(length.into())?;
    let (octets, beyond) = octets.split_at_checked(3).unwrap_or((octets, &[]));
    let selected = octets.iter().rev().fold(0, |set, octet| set << 8 | u32::from(*octet));
    beyond.iter().all(|octet| *octet == 0).then_some(selected)
}
