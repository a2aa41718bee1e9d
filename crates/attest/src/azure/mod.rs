//! The TPM of Azure's confidential VMs: a paravisor emulates it inside the encrypted VM, and the hardware's report
//! names its key.
//!
//! ```text
//! VCEK ─▶ SNP report ─┐
//! PCK ─▶ TD quote ────┴ report data ─▶ runtime data ─ HCLAkPub ─▶ quote: PCRs, and the request
//! ```
//! The hardware's report is made once, when the VM starts, and so says nothing of the request; the TPM's quote does. It is
//! the paravisor's, which has the VM's most privileged level (VMPL 0, the TD's own).
//!
//! TDX: the HCL report holds the TD's own report, which only this processor can verify. Azure's metadata service has a
//! quote made of it, and the quote is what counts. It says that the TD did not have the host's removal of pages stop it
//! (`SEPT_VE_DISABLE`): its kernel is the paravisor, which is measured (MRTD) and may turn these exceptions off itself
//! (`TD_CTLS` of TDX 1.5). No report shows whether it does, so that the claim says what the attribute says.
//!
//! Evidence comes as JSON of the tools that read it from the VM, or in the document of [`crate::tpm`].
//!
//! Not here: which paravisor is good (`measurement`, `mrtd`); that is policy.
//!
//! Source: Microsoft Learn, "Azure confidential VMs: guest attestation design"; the forms as the crate `az-snp-vtpm`
//! writes them.

mod evidence;
mod report;

pub(crate) use evidence::{appraise, recognised, recognised_tdx};
pub use report::HCL_REPORT_BYTES_MAX;
pub(crate) use report::Hardware;

use serde::Serialize;

use crate::claims::{Claims, Kind, Specific};
use crate::demands::Demands;
use crate::endorsements::{Endorsements, Roots};
use crate::reason::{Reason, Refusal};
use crate::snp::{self, SnpClaims};
use crate::tdx::{self, Guest, TdxClaims};
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

/// What a VM of Azure on TDX says. The members of both stand side by side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AzureTdxClaims {
    /// Azure's name of the VM, as the paravisor knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub azure_vm_id: Option<String>,
    /// The hardware's quote.
    #[serde(flatten)]
    pub tdx: TdxClaims,
    /// The TPM.
    #[serde(flatten)]
    pub tpm: TpmClaims,
}

/// The SNP report in an HCL report; nothing if it is of other hardware.
pub(crate) fn snp_report(report: &[u8]) -> Option<&[u8]> {
    let report = HclReport::parse(report).ok()?;
    (report.made_by == Hardware::Snp).then_some(report.hardware)
}

/// The TD's own report in an HCL report, 1,024 bytes, of which a quote has to be made; nothing if it is of other hardware.
#[must_use]
pub fn td_report(report: &[u8]) -> Option<&[u8]> {
    let report = HclReport::parse(report).ok()?;
    (report.made_by == Hardware::Tdx).then_some(report.hardware)
}

/// Checks a TPM's quote whose key an HCL report names. `td_quote` is the quote of a TD's report in it.
pub(crate) fn appraise_parts(
    report: &[u8],
    td_quote: Option<&[u8]>,
    parts: &Parts<'_>,
    endorsements: &Endorsements,
    roots: &Roots,
    demands: &Demands,
) -> Result<Claims, Refusal> {
    let report = HclReport::parse(report)?;
    // The report carries the key; what the caller demands is in the TPM's quote.
    let hardware = Demands { report_data: None, vmpl: 0, ..demands.clone() };
    let vouched = match report.made_by {
        Hardware::Snp => snp::appraise(report.hardware, endorsements, roots, &hardware)?,
        Hardware::Tdx => {
            let quote = td_quote.ok_or(Reason::AzureTdQuoteMissing)?;
            tdx::appraise_quote(quote, None, Guest::Paravisor, endorsements, roots, &hardware)?
        }
    };
    report.check_vouched(&vouched.report_data.0)?;
    let runtime = report.runtime()?;
    let (report_data, tpm) = parts.appraise(&runtime.attestation_key, AkTrust::Azure, demands)?;
    let azure_vm_id = runtime.vm_id;
    let (kind, specific) = match vouched.specific {
        Specific::Snp(snp) => {
            (Kind::AzureSnp, Specific::AzureSnp(Box::new(AzureSnpClaims { azure_vm_id, snp: *snp, tpm })))
        }
        Specific::Tdx(tdx) => {
            (Kind::AzureTdx, Specific::AzureTdx(Box::new(AzureTdxClaims { azure_vm_id, tdx: *tdx, tpm })))
        }
        Specific::Tpm(_) | Specific::AzureSnp(_) | Specific::AzureTdx(_) => {
            return Err(Reason::AzureReportType.into());
        }
    };
    Ok(Claims { kind, report_data, specific, ..vouched })
}
