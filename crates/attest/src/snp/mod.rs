//! Attestation reports of AMD SEV-SNP, versions 2 to 5, from Milan, Genoa and Turin.
//!
//! ```text
//! ARK (pinned) ─▶ ASK  ─▶ VCEK: a key of one chip at one firmware level ─▶ report
//!             └─▶ ASVK ─▶ VLEK: a key that a cloud loads at one level   ─▶ report
//! ```
//! The order of the checks: form of the report; which certificate belongs to it (kind, product, chip, firmware
//! level) and made its signature; the chain of that certificate, its dates and its revocation; what the report says
//! of itself; what the caller demands of it. A refusal says which check failed first.
//!
//! Not here: firmware levels that are high enough, measurements, chips and images: policy over [`SnpClaims`].
//!
//! Source: AMD 56860 (SEV-SNP Firmware ABI) rev. 1.58 §7.3; AMD 57230 (VCEK certificates and KDS); AMD 58369 (VLEK).

mod chain;
mod claims;
mod report;
mod table;
mod tcb;
mod vek;

pub use claims::{Platform, Policy, SnpClaims};
pub use report::REPORT_BYTES;
pub use tcb::{Generation, Tcb};
pub use vek::Signer;

pub(crate) use chain::{AmdRoot, built_in_roots};
pub(crate) use report::Report;
pub(crate) use table::contents as table_contents;
pub(crate) use vek::Vek;

use crate::claims::{Claims, Kind, Specific};
use crate::demands::Demands;
use crate::endorsements::{Endorsements, Roots};
use crate::reason::{Reason, Refusal};
use chain::Chain;

/// Versions beyond this one would be another format; smaller unknown ones are refused by name.
const VERSION_SHOWN_MAX: u32 = 0xff;

/// Reports begin with their version, four bytes of which all but the lowest are zero.
pub(crate) fn recognised(evidence: &[u8]) -> bool {
    let version = evidence.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
    version.is_some_and(|version| (1..=VERSION_SHOWN_MAX).contains(&version))
}

/// Checks a report. Everything that [`crate::appraise`] promises holds here.
pub(crate) fn appraise(
    evidence: &[u8],
    endorsements: &Endorsements,
    roots: &Roots,
    demands: &Demands,
) -> Result<Claims, Refusal> {
    let report = Report::parse(evidence, demands.legacy_reports)?;
    let (vek, chain) = endorsed(&report, endorsements, roots, demands)?;
    let claims = SnpClaims::new(&report, &vek);
    check_tcbs(&claims)?;
    check_demands(&report, &claims, demands)?;
    Ok(Claims {
        kind: Kind::Snp,
        root: chain.root.to_owned(),
        memory_encrypted: true,
        debug: claims.policy.debug,
        reduced_assurance: claims.generation == Generation::Milan && claims.signer == Signer::Vcek,
        revocation_checked: chain.revocation_checked,
        report_data: report.report_data().as_slice().into(),
        specific: Specific::Snp(Box::new(claims)),
    })
}

/// Finds the certificate that belongs to the report and a chain for it. Of the refusals of several certificates
/// the one that got furthest is given.
fn endorsed<'a>(
    report: &Report<'_>,
    endorsements: &'a Endorsements,
    roots: &'a Roots,
    demands: &Demands,
) -> Result<(Vek<'a>, Chain<'a>), Refusal> {
    let signer = report.signer()?;
    let missing = Reason::SnpCertificateMissing.because(signer.name().to_uppercase());
    let mut refusal = missing;
    for der in endorsements.certificates() {
        let tried = Vek::parse(der, signer).and_then(|vek| {
            let Some(vek) = vek else { return Ok(None) };
            vek.check_belongs(report)?;
            let chain = Chain::build(&vek, endorsements, roots, demands)?;
            Ok(Some((vek, chain)))
        });
        match tried {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            Err(tried) if tried.reason >= refusal.reason => refusal = tried,
            Err(_) => {}
        }
    }
    Err(refusal)
}

/// The firmware contradicts itself if it reports or commits to more than what runs.
fn check_tcbs(claims: &SnpClaims) -> Result<(), Refusal> {
    let current = &claims.current_tcb;
    for (tcb, reason) in
        [(&claims.reported_tcb, Reason::SnpTcbReported), (&claims.committed_tcb, Reason::SnpTcbCommitted)]
    {
        if !tcb.is_at_most(current) {
            return Err(reason.because(format!("{tcb}; current: {current}")));
        }
    }
    Ok(())
}

fn check_demands(report: &Report<'_>, claims: &SnpClaims, demands: &Demands) -> Result<(), Refusal> {
    if claims.policy.debug {
        return Err(Reason::SnpDebug.into());
    }
    if claims.policy.migrate_ma && demands.migration_agent != Some(*report.report_id_ma()) {
        return Err(Reason::SnpMigration.into());
    }
    if report.vmpl() != demands.vmpl {
        let detail = format!("VMPL {}; expected {}", report.vmpl(), demands.vmpl);
        return Err(Reason::SnpVmpl.because(detail));
    }
    if demands.report_data.is_some_and(|demanded| demanded != *report.report_data()) {
        return Err(Reason::ReportDataDiffers.into());
    }
    Ok(())
}
