//! The paravisor's report (HCL report): a hardware report, and the runtime data that it vouches for.
//!
//! Source: the layout of `attestation_report` and `IgvmAttestRequest` in `openvmm`
//! (openhcl/openhcl_attestation_protocol); az-cvm-vtpm, `hcl` module.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyhearth_crypto::digest::sha256;
use serde::Deserialize;

use crate::claims::printable;
use crate::reader::Reader;
use crate::reason::{Reason, Refusal};
use crate::snp::REPORT_BYTES;
use crate::tpm::AttestationKey;

/// The longest report: what a TPM's NV index holds of it.
pub const HCL_REPORT_BYTES_MAX: usize = 8192;

const SIGNATURE: &[u8; 4] = b"HCLA";
/// Bytes of the header between its signature and the hardware's report.
const HEADER_REST_BYTES: usize = 28;
const REPORT_TYPE_SNP: u32 = 2;
const REPORT_TYPE_TDX: u32 = 4;
/// Bytes of a TD's own report (`TDREPORT_STRUCT`), of which Azure makes a quote. Source: Intel 348551 §3.9.
const TD_REPORT_BYTES: usize = 1024;
const HASH_TYPE_SHA256: u32 = 1;
/// The hardware report's data begin with the hash; zeroes follow.
const HASH_BYTES: usize = 32;
const ATTESTATION_KEY: &str = "HCLAkPub";

/// What made the hardware's report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hardware {
    Snp,
    /// The report is for the processor alone; a quote of it is believed.
    Tdx,
}

/// A report of the right form. Nothing in it is believed yet.
pub(super) struct HclReport<'a> {
    pub(super) made_by: Hardware,
    /// The hardware's report.
    pub(super) hardware: &'a [u8],
    runtime_data: &'a [u8],
}

/// What the runtime data say that matters here.
pub(super) struct Runtime {
    pub(super) attestation_key: AttestationKey,
    pub(super) vm_id: Option<String>,
}

impl<'a> HclReport<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Refusal> {
        let malformed = || Reason::AzureReportMalformed.because(format!("{} bytes", bytes.len()));
        if bytes.len() > HCL_REPORT_BYTES_MAX {
            return Err(malformed());
        }
        let (hardware, [_size, _version, report_type, hash_type], data) =
            split(bytes).ok_or_else(malformed)?;
        let (made_by, hardware) = match report_type {
            REPORT_TYPE_SNP => (Hardware::Snp, hardware),
            REPORT_TYPE_TDX => (Hardware::Tdx, &hardware[..TD_REPORT_BYTES]),
            _ => return Err(Reason::AzureReportType.because(format!("type {report_type}"))),
        };
        if hash_type != HASH_TYPE_SHA256 {
            return Err(Reason::AzureReportMalformed.because(format!("hash type {hash_type}")));
        }
        Ok(Self { made_by, hardware, runtime_data: data })
    }

    /// Checks that the hardware's report vouches for the runtime data.
    pub(super) fn check_vouched(&self, report_data: &[u8]) -> Result<(), Refusal> {
        let (hash, rest) = report_data.split_at_checked(HASH_BYTES).unwrap_or((&[], report_data));
        if hash != sha256(&[self.runtime_data]) || rest.iter().any(|byte| *byte != 0) {
            return Err(Reason::AzureRuntimeDataDiffers.into());
        }
        Ok(())
    }

    /// Reads the runtime data: JSON with keys as JWK (RFC 7517, RFC 7518 §6.3.1).
    pub(super) fn runtime(&self) -> Result<Runtime, Refusal> {
        let missing = |what: &'static str| Reason::AzureKeyMissing.because(what);
        let json: RuntimeJson = serde_json::from_slice(self.runtime_data)
            .map_err(|_| missing("the runtime data are not of their form"))?;
        let mut named = json.keys.iter().filter(|key| key.kid.as_deref() == Some(ATTESTATION_KEY));
        let (Some(key), None) = (named.next(), named.next()) else {
            return Err(missing("not exactly one HCLAkPub"));
        };
        let number = |text: &Option<String>| {
            text.as_ref()
                .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
                .ok_or(missing("not a key of RSA"))
        };
        Ok(Runtime {
            attestation_key: AttestationKey::from_rsa(&number(&key.n)?, &number(&key.e)?)?,
            vm_id: json.configuration.vm_id.as_deref().map(printable),
        })
    }
}

/// The hardware's report, the numbers before the runtime data, and these.
fn split(bytes: &[u8]) -> Option<(&[u8], [u32; 4], &[u8])> {
    let mut reader = Reader::new(bytes);
    if reader.array()? != *SIGNATURE {
        return None;
    }
    reader.slice(HEADER_REST_BYTES)?;
    let hardware = reader.slice(REPORT_BYTES)?;
    let mut numbers = [0; 4];
    for number in &mut numbers {
        *number = u32::from_le_bytes(reader.array()?);
    }
    let length = u32::from_le_bytes(reader.array()?);
    let data = reader.slice(length.try_into().ok()?)?;
    // The TPM's NV index is longer than the report.
    reader.rest().iter().all(|byte| *byte == 0).then_some((hardware, numbers, data))
}

#[derive(Deserialize)]
struct RuntimeJson {
    keys: Vec<Jwk>,
    #[serde(rename = "vm-configuration", default)]
    configuration: Configuration,
}

#[derive(Deserialize)]
struct Jwk {
    kid: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

#[derive(Default, Deserialize)]
struct Configuration {
    #[serde(rename = "vmUniqueId")]
    vm_id: Option<String>,
}
