//! The document in which a quote travels with the event log that explains its registers.
//!
//! Source: `docs/formats/tdx-evidence.md`.

use minicbor::{Decode, Encode};

use crate::eventlog::LOG_BYTES_MAX;
use crate::reason::{Reason, Refusal};

/// The longest quote in a document; Intel's have 5 to 8 kB, in buffers of 8 or 16 KiB.
pub(crate) const QUOTE_BYTES_MAX: usize = 128 << 10;

const LABEL: &str = "keyhearth/tdx";
const FORMAT: u8 = 1;

/// Evidence of a TD with its event log, as machines send it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The quote, at most 131,072 bytes.
    pub quote: Vec<u8>,
    /// The firmware's event log (CCEL), at most [`LOG_BYTES_MAX`] bytes.
    pub log: Vec<u8>,
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
    log: Vec<u8>,
}

/// The document begins with a map whose first member is the label.
pub(super) fn recognised(evidence: &[u8]) -> bool {
    let Some(([0xa0..=0xb7, 0, 0x6d], rest)) = evidence.split_first_chunk() else { return false };
    rest.starts_with(LABEL.as_bytes())
}

impl Evidence {
    /// The document.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (quote, log) = (self.quote.clone(), self.log.clone());
        let written = Written { label: LABEL.to_owned(), format: FORMAT, quote, log };
        minicbor::to_vec(written).expect("writing to memory does not fail")
    }

    /// Reads a document. One that would not be written the same is refused.
    ///
    /// # Errors
    /// [`Reason::TdxEvidenceMalformed`], also for what is longer than its member may be.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let malformed = |what: &'static str| Reason::TdxEvidenceMalformed.because(what);
        let written: Written = minicbor::decode(bytes).map_err(|_| malformed("not of its form"))?;
        if (&*written.label, written.format) != (LABEL, FORMAT) {
            return Err(malformed("another format"));
        }
        let evidence = Self { quote: written.quote, log: written.log };
        if evidence.encode() != bytes {
            return Err(malformed("not written as it would be here"));
        }
        if evidence.quote.len() > QUOTE_BYTES_MAX || evidence.log.len() > LOG_BYTES_MAX {
            return Err(malformed("a member is longer than it may be"));
        }
        Ok(evidence)
    }
}
