//! The document in which a quote travels with what it needs.
//!
//! Source: `docs/formats/tpm-evidence.md`.

use std::collections::BTreeMap;

use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};

use super::key::{KEY_BYTES_MAX, SIGNATURE_BYTES_MAX};
use super::quote::{PCRS, QUOTE_BYTES_MAX};
use crate::azure::HCL_REPORT_BYTES_MAX;
use crate::eventlog::LOG_BYTES_MAX;
use crate::reason::{Reason, Refusal};
use crate::tdx::QUOTE_BYTES_MAX as TD_QUOTE_BYTES_MAX;

/// Values of PCRs of the SHA-256 bank, by index.
pub type Pcrs = BTreeMap<u8, [u8; 32]>;

const LABEL: &str = "keyhearth/tpm";
const FORMAT: u8 = 1;

/// Evidence of a TPM, as machines send it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// `TPMS_ATTEST`: what the TPM signed, at most 1,024 bytes.
    pub quote: Vec<u8>,
    /// `TPMT_SIGNATURE`, at most 1,024 bytes.
    pub signature: Vec<u8>,
    /// The attestation key (AK) as `SubjectPublicKeyInfo` or `TPMT_PUBLIC`, at most 1,024 bytes; absent if the HCL
    /// report holds it.
    pub ak: Option<Vec<u8>>,
    /// The PCRs that were quoted, each with its value.
    pub pcrs: Pcrs,
    /// The firmware's event log, at most [`LOG_BYTES_MAX`] bytes.
    pub log: Option<Vec<u8>>,
    /// The report of an Azure VM's paravisor, which vouches for the key.
    pub hcl_report: Option<Vec<u8>>,
    /// A quote of the TD whose report is in the HCL report, at most 131,072 bytes.
    pub td_quote: Option<Vec<u8>>,
}

/// The same as it is written: a map by number.
#[derive(Encode, Decode)]
#[cbor(map)]
struct Written {
    #[n(0)]
    label: String,
    #[n(1)]
    format: u8,
    #[cbor(n(2), with = "minicbor::bytes")]
    quote: Vec<u8>,
    #[cbor(n(3), with = "minicbor::bytes")]
    signature: Vec<u8>,
    #[cbor(n(4), with = "minicbor::bytes")]
    ak: Option<Vec<u8>>,
    #[n(5)]
    pcrs: BTreeMap<u8, ByteArray<32>>,
    #[cbor(n(6), with = "minicbor::bytes")]
    log: Option<Vec<u8>>,
    #[cbor(n(7), with = "minicbor::bytes")]
    hcl_report: Option<Vec<u8>>,
    #[cbor(n(8), with = "minicbor::bytes")]
    td_quote: Option<Vec<u8>>,
}

/// The document begins with a map whose first member is the label.
pub(crate) fn recognised(evidence: &[u8]) -> bool {
    let Some(([0xa0..=0xb7, 0, 0x6d], rest)) = evidence.split_first_chunk() else { return false };
    rest.starts_with(LABEL.as_bytes())
}

impl Evidence {
    /// The document.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let written = Written {
            label: LABEL.to_owned(),
            format: FORMAT,
            quote: self.quote.clone(),
            signature: self.signature.clone(),
            ak: self.ak.clone(),
            pcrs: self.pcrs.iter().map(|(index, value)| (*index, ByteArray::from(*value))).collect(),
            log: self.log.clone(),
            hcl_report: self.hcl_report.clone(),
            td_quote: self.td_quote.clone(),
        };
        minicbor::to_vec(written).expect("writing to memory does not fail")
    }

    /// Reads a document. One that would not be written the same is refused.
    ///
    /// # Errors
    /// [`Reason::TpmEvidenceMalformed`], also for what is longer than its member may be.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let malformed = |what: &'static str| Reason::TpmEvidenceMalformed.because(what);
        let written: Written = minicbor::decode(bytes).map_err(|_| malformed("not of its form"))?;
        if (&*written.label, written.format) != (LABEL, FORMAT) {
            return Err(malformed("another format"));
        }
        let evidence = Self {
            quote: written.quote,
            signature: written.signature,
            ak: written.ak,
            pcrs: written.pcrs.into_iter().map(|(index, value)| (index, value.into())).collect(),
            log: written.log,
            hcl_report: written.hcl_report,
            td_quote: written.td_quote,
        };
        if evidence.encode() != bytes {
            return Err(malformed("not written as it would be here"));
        }
        let length = |member: &Option<Vec<u8>>| member.as_ref().map_or(0, Vec::len);
        let within = evidence.quote.len() <= QUOTE_BYTES_MAX
            && evidence.signature.len() <= SIGNATURE_BYTES_MAX
            && length(&evidence.ak) <= KEY_BYTES_MAX
            && length(&evidence.log) <= LOG_BYTES_MAX
            && length(&evidence.hcl_report) <= HCL_REPORT_BYTES_MAX
            && length(&evidence.td_quote) <= TD_QUOTE_BYTES_MAX;
        if !within || evidence.pcrs.keys().any(|index| *index >= PCRS) {
            return Err(malformed("a member is longer than it may be, or there is no such PCR"));
        }
        if evidence.ak.is_some() == evidence.hcl_report.is_some() {
            return Err(malformed("either a key or an HCL report"));
        }
        if evidence.td_quote.is_some() && evidence.hcl_report.is_none() {
            return Err(malformed("a TD quote without an HCL report"));
        }
        Ok(evidence)
    }
}
