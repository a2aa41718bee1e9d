//! Quotes of Intel TDX machines (TDs): versions 4 and 5, with TD reports of TDX 1.0, 1.5 and 1.5 extended.
//!
//! A quote is believed only together with what Intel says of the platform at the time (*collateral*): TCB info, the
//! identity of the quoting enclave (QE), and two revocation lists. See [`chain`] for who signs what.
//!
//! The order of the checks: form of the quote; the platform's certificate, whose key signed the QE's report; whether
//! Intel's statements are there; the chain, its dates and its revocation; the statements; whether this QE made the
//! key that signed the quote; what the TD report says of the TD; the platform's level; what the caller demands.
//!
//! The quote comes alone, or in a document with the firmware's event log ([`Evidence`]). The log proves nothing: it has to
//! lead to the registers (RTMRs) of the quote, and only then is told what it says.
//!
//! Not here: which TD, which TDX module and which number of TCB evaluation (an old one hides what was found since) are
//! good enough: policy over [`TdxClaims`].
//!
//! Source: Intel 348551 (TDX Module ABI) §3.9; Intel, "TDX DCAP Quoting Library API"; Intel PCS API v4.

mod chain;
mod claims;
mod collateral;
mod evidence;
mod pck;
mod quote;
mod report;
mod tcb;

pub use claims::{Attributes, Certified, TdxClaims};
pub use evidence::Evidence;

pub(crate) use chain::{IntelRoot, STATEMENT_SIGNER, built_in_roots};
pub(crate) use collateral::{Collateral, Statement};
pub(crate) use evidence::QUOTE_BYTES_MAX;
pub(crate) use pck::Pck;
pub(crate) use quote::Quote;

use std::borrow::Cow;

use crate::claims::{Bytes, Claims, Kind, Specific};
use crate::demands::Demands;
use crate::endorsements::{Endorsements, Roots};
use crate::eventlog::{self, Quoted};
use crate::reason::{Reason, Refusal};
use chain::Chain;
use pck::Platform;
use tcb::{QeIdentity, TcbInfo};

/// Versions and types of keys beyond this one would be another format; smaller unknown ones are refused by name.
const NUMBER_SHOWN_MAX: u16 = 0xff;

/// Quotes begin with their version and the type of their key, two bytes each; documents with their label.
pub(crate) fn recognised(evidence: &[u8]) -> bool {
    evidence::recognised(evidence) || is_quote(evidence)
}

fn is_quote(evidence: &[u8]) -> bool {
    let Some([version, high, key, key_high]) = evidence.first_chunk() else { return false };
    [[*version, *high], [*key, *key_high]]
        .iter()
        .all(|number| (1..=NUMBER_SHOWN_MAX).contains(&u16::from_le_bytes(*number)))
}

/// The quote in evidence of either form.
pub(crate) fn quote_of(evidence: &[u8]) -> Result<Cow<'_, [u8]>, Refusal> {
    if evidence::recognised(evidence) {
        return Ok(Evidence::decode(evidence)?.quote.into());
    }
    Ok(evidence.into())
}

/// Checks evidence of either form. Everything that [`crate::appraise`] promises holds here.
pub(crate) fn appraise(
    evidence: &[u8],
    endorsements: &Endorsements,
    roots: &Roots,
    demands: &Demands,
) -> Result<Claims, Refusal> {
    if evidence::recognised(evidence) {
        let Evidence { quote, log } = Evidence::decode(evidence)?;
        return appraise_quote(&quote, Some(&log), Guest::Kernel, endorsements, roots, demands);
    }
    appraise_quote(evidence, None, Guest::Kernel, endorsements, roots, demands)
}

/// What runs a TD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guest {
    /// The kernel of its owner, which is not to be disturbed by pages that the host takes away.
    Kernel,
    /// A paravisor, which may see to that itself.
    Paravisor,
}

/// Checks a quote and, if there is one, the log that is to explain its registers.
pub(crate) fn appraise_quote(
    quote: &[u8],
    log: Option<&[u8]>,
    guest: Guest,
    endorsements: &Endorsements,
    roots: &Roots,
    demands: &Demands,
) -> Result<Claims, Refusal> {
    let quote = Quote::parse(quote)?;
    let carried = quote.certificates()?;
    let certificates = carried.iter().map(Vec::as_slice).chain(endorsements.certificates());
    let Pck { certificate, platform } = Pck::find(&quote, certificates.clone())?;
    let statements = Statements::find(&platform, endorsements)?;
    let chain = Chain::build(&certificate, certificates, endorsements, roots, demands.now_s)?;
    let tcb_info = TcbInfo::open(statements.tcb_info, &chain.signers, demands.now_s)?;
    let qe_identity = QeIdentity::open(statements.qe_identity, &chain.signers, demands.now_s)?;
    quote.check_attestation_key()?;
    let qe = qe_identity.judge(quote.qe())?;
    quote.check_signature()?;
    let attributes = Attributes::read(quote.report.attributes(), guest)?;
    if quote.report.mr_service_tds().into_iter().flatten().any(|hash| *hash != [0; 48]) {
        return Err(Reason::TdxServiceTd.into());
    }
    let verdict = tcb_info.judge(&platform, quote.report, &qe, demands.sw_hardening)?;
    if demands.report_data.is_some_and(|demanded| demanded != *quote.report.report_data()) {
        return Err(Reason::ReportDataDiffers.into());
    }
    let rtmrs = quote.report.rtmrs().map(|rtmr| *rtmr);
    let boot = log.map(|log| eventlog::appraise(log, &Quoted::Rtmrs(&rtmrs))).transpose()?;
    let evaluation = tcb_info.tcb_evaluation_data_number.min(qe_identity.tcb_evaluation_data_number);
    Ok(Claims {
        kind: Kind::Tdx,
        root: chain.root.to_owned(),
        memory_encrypted: true,
        debug: false,
        reduced_assurance: !verdict.is_up_to_date(),
        revocation_checked: true,
        report_data: Bytes::from(&quote.report.report_data()[..]),
        specific: Specific::Tdx(Box::new(TdxClaims {
            boot,
            ..TdxClaims::new(&quote, &platform, attributes, verdict, evaluation)
        })),
    })
}

/// What Intel says that concerns the platform.
struct Statements<'a> {
    tcb_info: &'a Statement,
    qe_identity: &'a Statement,
}

impl<'a> Statements<'a> {
    fn find(platform: &Platform, endorsements: &'a Endorsements) -> Result<Self, Refusal> {
        let fmspc = Bytes::from(&platform.fmspc[..]).to_string();
        let pce_id = Bytes::from(&platform.pce_id[..]).to_string();
        let tcb_info = Statement::of_platform(endorsements.statements(), &fmspc, &pce_id);
        let missing = || Reason::TdxTcbInfoMissing.because(format!("for FMSPC {fmspc}, PCE {pce_id}"));
        let qe_identity = Statement::of_quoting_enclave(endorsements.statements());
        Ok(Self {
            tcb_info: tcb_info.ok_or_else(missing)?,
            qe_identity: qe_identity.ok_or(Reason::TdxQeIdentityMissing)?,
        })
    }
}
