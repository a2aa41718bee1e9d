//! The TPM of Azure's confidential VMs: a paravisor emulates it inside the encrypted VM, and the hardware's report
//! names its key.
//!
//! ```text
//! VCEK ─▶ SNP report ─ REPORT_DATA ─▶ runtime data ─ HCLAkPub ─▶ quote: PCRs, and the request
//! ```
//! The SNP report is made once, when the VM starts, and so says nothing of the request; the quote does. It is the
//! paravisor's, which has the VM's most privileged level (VMPL 0).
//!
//! Evidence comes as JSON of the tools that read it from the VM, or in the document of [`crate::tpm`].
//!
//! Not here: TDX, where the paravisor's report is of another type ([`crate::Reason::AzureReportType`]).
//!
//! Source: Microsoft Learn, "Azure confidential VMs: guest attestation design"; the forms as the crate `az-snp-vtpm`
//! writes them.

mod evidence;
mod report;

pub(crate) use evidence::{appraise, recognised};
pub use report::HCL_REPORT_BYTES_MAX;

use serde::Serialize;

use crate::claims::{Claims, Kind, Specific};
use crate::demands::Demands;
use crate::endorsements::{Endorsements, Roots};
use crate::reason::{Reason, Refusal};
use crate::snp::{self, SnpClaims};
use crate::tpm::{AkTrust, Parts, TpmClaims};
use report::HclReport;

/// What a VM of Azure says. The members of both stand side by side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AzureSnpClaims {
    /// Azure's name of the VM, as the paravisor knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub azure_vm_id: Option<String>,
    /// The hardware's report.
    #[serde(flatten)]
    pub snp: SnpClaims,
    /// The TPM.
    #[serde(flatten)]
    pub tpm: TpmClaims,
}

/// The hardware's report in an HCL report.
pub(crate) fn hardware_of(report: &[u8]) -> Option<&[u8]> {
    HclReport::parse(report).ok().map(|report| report.hardware)
}

/// Checks a quote whose key an HCL report names.
pub(crate) fn appraise_parts(
    report: &[u8],
    parts: &Parts<'_>,
    endorsements: &Endorsements,
    roots: &Roots,
    demands: &Demands,
) -> Result<Claims, Refusal> {
    let report = HclReport::parse(report)?;
    // The report carries the key; what the caller demands is in the quote.
    let hardware = Demands { report_data: None, vmpl: 0, ..demands.clone() };
    let vouched = snp::appraise(report.hardware, endorsements, roots, &hardware)?;
    report.check_vouched(&vouched.report_data.0)?;
    let runtime = report.runtime()?;
    let (report_data, tpm) = parts.appraise(&runtime.attestation_key, AkTrust::Azure, demands)?;
    let Specific::Snp(snp) = vouched.specific else { return Err(Reason::AzureReportType.into()) };
    let specific = AzureSnpClaims { azure_vm_id: runtime.vm_id, snp: *snp, tpm };
    Ok(Claims {
        kind: Kind::AzureSnp,
        report_data,
        specific: Specific::AzureSnp(Box::new(specific)),
        ..vouched
    })
}
