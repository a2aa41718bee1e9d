//! Attestation evidence: bytes in, claims or a refusal out.
//!
//! [`appraise`] recognises the kind of evidence by its bytes and checks everything that could make it untrue or
//! unfit: form, chain to a trusted root, dates, revocation, signature, debug modes, and that it was made for this
//! request. What it then says is [`Claims`].
//!
//! Not here: which measurement, firmware level or chip is good enough. That is Cedar policy over the claims. Nor any
//! IO, clock or cache: certificates, lists and the time are given by the caller.
//!
//! Called by `keyhearth boot appraise` and by the server's boot release. A kind of evidence is a module of its own
//! with one row in [`Kind`].

pub mod azure;
mod claims;
pub mod cloud;
mod demands;
mod ecdsa;
mod endorsements;
pub mod eventlog;
mod inspect;
mod library;
pub mod measure;
mod reader;
mod reason;
pub mod snp;
pub mod tdx;
pub mod tpm;
mod x509;

pub use claims::{Bytes, Claims, Kind, Specific};
pub use demands::{Demands, REPORT_DATA_BYTES, Revocation};
pub use endorsements::{
    BUILT_IN, CERTIFICATES_MAX, ENDORSEMENT_BYTES_MAX, ENROLLED, Endorsement, Endorsements, LISTS_MAX,
    RootError, Roots, STATEMENTS_MAX,
};
pub use inspect::{Inspected, Subject};
pub use library::{Library, Need, PckIssuer, needs};
pub use reason::{Area, Reason, Refusal};

/// The longest evidence of any kind; event logs are the longest part of it.
pub const EVIDENCE_BYTES_MAX: usize = 1 << 20;

/// Checks evidence of whatever kind it is, and says what it claims.
///
/// Total: any bytes get claims or a refusal, after work that the limits of this crate bound.
///
/// # Errors
/// [`Refusal`] with the first check that failed.
///
/// Source: RFC 9334 §4 (the words), and the documents of each kind's module.
pub fn appraise(
    evidence: &[u8],
    endorsements: &Endorsements,
    roots: &Roots,
    demands: &Demands,
) -> Result<Claims, Refusal> {
    if evidence.len() > EVIDENCE_BYTES_MAX {
        let detail = format!("{} bytes; the limit is {EVIDENCE_BYTES_MAX}", evidence.len());
        return Err(Reason::EvidenceTooLarge.because(detail));
    }
    match Kind::of(evidence) {
        Some(Kind::Snp) => snp::appraise(evidence, endorsements, roots, demands),
        Some(Kind::Tdx) => tdx::appraise(evidence, endorsements, roots, demands),
        Some(Kind::Tpm) => tpm::appraise(evidence, endorsements, roots, demands),
        Some(Kind::AzureSnp | Kind::AzureTdx) => azure::appraise(evidence, endorsements, roots, demands),
        None => Err(Reason::EvidenceUnknown.into()),
    }
}
