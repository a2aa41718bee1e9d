//! Confidential VMs of Azure: a TPM in the paravisor, whose key the hardware's report vouches for.
//!
//! Source: Azure, "Guest attestation for confidential VMs": NV index 0x01400001 holds the report, handle 0x81000003
//! the key; the instance metadata service has the chip's certificate.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use keyhearth_attest::tpm::Evidence;
use serde::Deserialize;

use super::quote::event_log;
use super::{Collected, Error, Machine};
use crate::http;
use crate::tpm::Tpm;
use crate::transport::Timed;

/// Marks every machine of Azure.
const CHASSIS: &str = "7783-7084-3265-9085-8269-3286-77";
const NV_REPORT: u32 = 0x0140_0001;
const HANDLE_AK: u32 = 0x8100_0003;
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const METADATA_WAIT: Duration = Duration::from_secs(3);

pub(super) fn is_here(machine: &Machine) -> bool {
    let marked = fs::read_to_string(&machine.chassis).is_ok_and(|tag| tag.trim() == CHASSIS);
    marked && matches!(Tpm::open(&machine.tpm).and_then(|mut tpm| tpm.nv_read(NV_REPORT)), Ok(Some(_)))
}

pub(super) fn collect(machine: &Machine, qualifying: &[u8; 32]) -> Result<Collected, Error> {
    let mut tpm = Tpm::open(&machine.tpm)?;
    let missing = Error::Absent("the TPM has no HCL report: this is no confidential VM of Azure");
    let report = tpm.nv_read(NV_REPORT)?.ok_or(missing)?;
    let ak = tpm.read_ak(HANDLE_AK)?;
    let quote = tpm.quote(&ak, qualifying)?;
    let evidence = Evidence {
        quote: quote.quoted,
        signature: quote.signature,
        ak: None,
        pcrs: quote.pcrs,
        log: event_log(&machine.event_log),
        hcl_report: Some(report),
    };
    Ok(Collected { evidence: Some(evidence.encode()), endorsements: certificates().unwrap_or_default() })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Certificates {
    vcek_cert: String,
    certificate_chain: String,
}

/// The chip's certificate and its issuers; the server may know them anyway.
fn certificates() -> Option<Vec<Vec<u8>>> {
    let mut stream = Timed::connect(SocketAddr::from((METADATA, 80)), METADATA_WAIT).ok()?;
    let path = "/metadata/THIM/amd/certification";
    let answer = http::get(&mut stream, "169.254.169.254", path, "metadata: true").ok()?;
    let certificates: Certificates =
        serde_json::from_slice(&answer.body).ok().filter(|_| answer.status == 200)?;
    Some([certificates.vcek_cert, certificates.certificate_chain].map(String::into_bytes).into())
}
