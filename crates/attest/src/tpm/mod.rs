//! Quotes of TPM 2.0: which PCRs a machine has, and what its event log tells of its boot.
//!
//! The order of the checks: form of the document and of the quote; the attestation key, and why it is believed to be a
//! TPM's; the signature; the values of the PCRs; that the quote was made for this request; the event log.
//!
//! A quote carries the SHA-256 of the demanded report data: TPMs take less than SNP and TDX do.
//!
//! Without hardware that vouches for it a TPM is as true as its host: many are software. Claims say so
//! ([`TpmClaims::vtpm_host_trusted`]), and never that memory is encrypted. That a key is restricted and in a TPM is
//! proved when a machine is enrolled, by credential activation; that is not done here.
//!
//! Not here: which PCRs are good. That is policy over [`TpmClaims`].
//!
//! Source: TCG TPM 2.0 Library rev. 1.59 part 1 §36 (restricted keys), part 3 §18.4 (`TPM2_Quote`).

mod claims;
mod evidence;
mod key;
mod quote;

pub use claims::{AkTrust, TpmClaims};
pub use evidence::{Evidence, Pcrs};

pub(crate) use evidence::recognised;
pub(crate) use key::{AttestationKey, Signature};

use keyhearth_crypto::digest::sha256;

use crate::azure;
use crate::claims::{Bytes, Claims, Kind, Specific};
use crate::demands::Demands;
use crate::endorsements::{ENROLLED, Endorsements, Roots};
use crate::eventlog::{self, Quoted};
use crate::reason::{Reason, Refusal};
use quote::Quote;

const TPM_ALG_SHA256: u16 = 0x000b;

/// Checks a document with a quote. Everything that [`crate::appraise`] promises holds here.
pub(crate) fn appraise(
    evidence: &[u8],
    endorsements: &Endorsements,
    roots: &Roots,
    demands: &Demands,
) -> Result<Claims, Refusal> {
    let evidence = Evidence::decode(evidence)?;
    let parts = Parts {
        quote: &evidence.quote,
        signature: Signature::parse(&evidence.signature)?,
        pcrs: &evidence.pcrs,
        log: evidence.log.as_deref(),
    };
    if let Some(report) = &evidence.hcl_report {
        let td_quote = evidence.td_quote.as_deref();
        return azure::appraise_parts(report, td_quote, &parts, endorsements, roots, demands);
    }
    let ak = AttestationKey::parse(evidence.ak.as_deref().unwrap_or_default())?;
    if !demands.enrolled_aks.contains(&ak.fingerprint()) {
        let detail = format!("SHA-256 {}", Bytes::from(&ak.fingerprint()[..]));
        return Err(Reason::TpmKeyUntrusted.because(detail));
    }
    let (report_data, claims) = parts.appraise(&ak, AkTrust::Enrolled, demands)?;
    Ok(Claims {
        kind: Kind::Tpm,
        root: ENROLLED.to_owned(),
        memory_encrypted: false,
        debug: false,
        reduced_assurance: false,
        revocation_checked: false,
        report_data,
        specific: Specific::Tpm(Box::new(claims)),
    })
}

/// A quote and what it needs, whatever document they came in.
pub(crate) struct Parts<'a> {
    pub(crate) quote: &'a [u8],
    pub(crate) signature: Signature,
    pub(crate) pcrs: &'a Pcrs,
    pub(crate) log: Option<&'a [u8]>,
}

impl Parts<'_> {
    /// Checks a quote by a key that is trusted. Gives what the quote carries for the caller, and the claims.
    pub(crate) fn appraise(
        &self,
        ak: &AttestationKey,
        ak_trust: AkTrust,
        demands: &Demands,
    ) -> Result<(Bytes, TpmClaims), Refusal> {
        let quote = Quote::parse(self.quote)?;
        ak.check(quote.signed(), &self.signature)?;
        quote.check_pcrs(self.pcrs)?;
        if demands.report_data.is_some_and(|demanded| sha256(&[&demanded]) != *quote.extra_data) {
            return Err(Reason::ReportDataDiffers.into());
        }
        let boot = self.log.map(|log| eventlog::appraise(log, &Quoted::Pcrs(self.pcrs))).transpose()?;
        let claims = TpmClaims::new(&quote, ak, ak_trust, self.pcrs, boot);
        Ok((quote.extra_data.into(), claims))
    }
}
