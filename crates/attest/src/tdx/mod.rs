//! Quotes of Intel TDX machines (TDs): versions 4 and 5, with TD reports of TDX 1.0, 1.5 and 1.5 extended.
//!
//! A quote is believed only together with what Intel says of the platform at the time (*collateral*): TCB info, the
//! identity of the quoting enclave (QE), and two revocation lists. See [`chain`] for who signs what.
//!
//! The order of the checks: form of the quote; the platform's certificate; whether Intel's
//! statements are there; the chain, its dates and its revocation; then `dcap-qvl` verifies everything from the root to the TD report (see [`verdict`]);
//! the platform's level; what the caller demands.
//!
//! Not here: event logs that explain the RTMRs; and which TD, which TDX module and which number of TCB evaluation
//! (an old one hides what was found since) are good enough: policy over [`TdxClaims`].
//!
//! Source: Intel 348551 (TDX Module ABI) §3.9; Intel, "TDX DCAP Quoting Library API"; Intel PCS API v4.

mod chain;
mod claims;
mod collateral;
mod quote;
mod verdict;

pub use claims::{Attributes, Certified, TdxClaims};

pub(crate) use chain::{IntelRoot, built_in_roots};
pub(crate) use collateral::{Collateral, Statement};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dcap_qvl::{QuoteClaims, QuoteCollateralV3, TcbStatus};

use crate::claims::{Bytes, Claims, Kind, Specific};
use crate::demands::Demands;
use crate::endorsements::{Endorsements, Roots};
use crate::reason::{Reason, Refusal};
use chain::{Chain, Pck};
use quote::Quote;

/// Versions and types of keys beyond this one would be another format; smaller unknown ones are refused by name.
const NUMBER_SHOWN_MAX: u16 = 0xff;

/// Quotes begin with their version and the type of their key, two bytes each.
pub(crate) fn recognised(evidence: &[u8]) -> bool {
    let Some([version, high, key, key_high]) = evidence.first_chunk() else { return false };
    [[*version, *high], [*key, *key_high]]
        .iter()
        .all(|number| (1..=NUMBER_SHOWN_MAX).contains(&u16::from_le_bytes(*number)))
}

/// Checks a quote. Everything that [`crate::appraise`] promises holds here.
pub(crate) fn appraise(
    evidence: &[u8],
    endorsements: &Endorsements,
    roots: &Roots,
    demands: &Demands,
) -> Result<Claims, Refusal> {
    let quote = Quote::parse(evidence)?;
    let carried = quote.certificates()?;
    let certificates = carried.iter().map(Vec::as_slice).chain(endorsements.certificates());
    let pck = Pck::find(&quote, certificates.clone())?;
    let statements = Statements::find(&pck, endorsements)?;
    let chain = Chain::build(&pck, certificates, endorsements, roots, demands.now_s)?;
    let collateral = collateral(&statements, &chain);
    let verified = verdict::verify(evidence, collateral, &chain.root.certificate, demands.now_s)?;
    check_level(&verified, demands.sw_hardening)?;
    let Some(report) = verified.report.as_td10() else {
        return Err(Reason::TdxTee.into());
    };
    if demands.report_data.is_some_and(|demanded| demanded != report.report_data) {
        return Err(Reason::ReportDataDiffers.into());
    }
    Ok(Claims {
        kind: Kind::Tdx,
        root: chain.root.label.clone(),
        memory_encrypted: true,
        debug: false,
        reduced_assurance: verified.tcb.status != TcbStatus::UpToDate,
        revocation_checked: true,
        report_data: Bytes::from(report.report_data.as_slice()),
        specific: Specific::Tdx(Box::new(TdxClaims::new(&verified, report))),
    })
}

/// What Intel says that concerns the platform.
struct Statements<'a> {
    tcb_info: &'a Statement,
    qe_identity: &'a Statement,
}

impl<'a> Statements<'a> {
    fn find(pck: &Pck<'_>, endorsements: &'a Endorsements) -> Result<Self, Refusal> {
        let fmspc = Bytes::from(pck.platform.fmspc.as_slice()).to_string();
        let pce_id = Bytes::from(pck.platform.pce_id.as_slice()).to_string();
        let tcb_info = Statement::of_platform(endorsements.statements(), &fmspc, &pce_id);
        let qe_identity = Statement::of_quoting_enclave(endorsements.statements());
        Ok(Self {
            tcb_info: tcb_info.ok_or_else(|| {
                Reason::TdxTcbInfoMissing.because(format!("for FMSPC {fmspc}, PCE {pce_id}"))
            })?,
            qe_identity: qe_identity.ok_or(Reason::TdxQeIdentityMissing)?,
        })
    }
}

/// Puts together what `dcap-qvl` reads.
fn collateral(Statements { tcb_info, qe_identity }: &Statements<'_>, chain: &Chain<'_>) -> QuoteCollateralV3 {
    let signer = pem(&[chain.statement_signer]);
    QuoteCollateralV3 {
        pck_crl_issuer_chain: pem(&[chain.pck_issuer]),
        root_ca_crl: chain.root_list.to_vec(),
        pck_crl: chain.pck_list.to_vec(),
        tcb_info_issuer_chain: signer.clone(),
        tcb_info: tcb_info.text.clone(),
        tcb_info_signature: tcb_info.signature.clone(),
        qe_identity_issuer_chain: signer,
        qe_identity: qe_identity.text.clone(),
        qe_identity_signature: qe_identity.signature.clone(),
        pck_certificate_chain: Some(pem(&[chain.pck, chain.pck_issuer])),
    }
}

fn pem(certificates: &[&[u8]]) -> String {
    let block = |der: &&[u8]| {
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der))
    };
    certificates.iter().map(block).collect()
}

/// Checks what Intel calls the level of the platform, of what its TDX module was since replaced by, and of the QE.
fn check_level(verified: &QuoteClaims, sw_hardening: bool) -> Result<(), Refusal> {
    let current = verified.platform.current_tcb_level.as_ref().map(|level| level.tcb_status);
    let levels =
        [verified.tcb.status, verified.platform.tcb_level.tcb_status, verified.qe.tcb_level.tcb_status];
    for status in levels.into_iter().chain(current) {
        match status {
            TcbStatus::UpToDate => {}
            TcbStatus::SWHardeningNeeded if sw_hardening => {}
            TcbStatus::SWHardeningNeeded => {
                return Err(Reason::TdxTcbHardening.because(verified.tcb.advisory_ids.join(" ")));
            }
            TcbStatus::OutOfDateConfigurationNeeded
            | TcbStatus::OutOfDate
            | TcbStatus::ConfigurationAndSWHardeningNeeded
            | TcbStatus::ConfigurationNeeded
            | TcbStatus::Revoked
            | TcbStatus::TDRelaunchAdvised
            | TcbStatus::TDRelaunchAdvisedConfigurationNeeded => {
                let detail = format!("{status} {}", verified.tcb.advisory_ids.join(" "));
                return Err(Reason::TdxTcbStatus.because(detail.trim_end().to_owned()));
            }
        }
    }
    Ok(())
}
