//! Evidence as the tools of Azure's VMs write it: JSON, in three versions.
//!
//! | version | bytes are | certificate |
//! |---|---|---|
//! | none | arrays of numbers | PEM |
//! | 1, 2 | HCL report in base64url, the quote in hexadecimal digits | DER in base64url |
//!
//! On TDX there is a quote of the TD (`td_quote`) in the place of the certificate: an array of numbers, or base64url.
//!
//! The signature is a bare one of RSASSA with SHA-256. Source: az-snp-vtpm, az-tdx-vtpm and the attester of guest-components.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::appraise_parts;
use crate::claims::Claims;
use crate::demands::Demands;
use crate::endorsements::{Endorsements, Roots};
use crate::reason::{Reason, Refusal};
use crate::tpm::{Parts, Pcrs, Signature};

/// Every PCR of a TPM, from the first.
const PCRS: usize = 24;

pub(crate) fn recognised(evidence: &[u8]) -> bool {
    evidence.trim_ascii_start().first() == Some(&b'{')
}

/// Evidence of a VM on TDX names its quote.
pub(crate) fn recognised_tdx(evidence: &[u8]) -> bool {
    let name = br#""td_quote""#;
    recognised(evidence) && evidence.windows(name.len()).any(|window| window == name)
}

#[derive(Deserialize)]
struct Json {
    #[serde(default)]
    version: u32,
    #[serde(alias = "report")]
    hcl_report: Octets,
    #[serde(alias = "quote")]
    tpm_quote: Quote,
    vcek: Option<String>,
    td_quote: Option<Octets>,
}

#[derive(Deserialize)]
struct Quote {
    message: Octets,
    signature: Octets,
    pcrs: Vec<Octets>,
}

/// Bytes in one of their spellings.
#[derive(Deserialize)]
#[serde(untagged)]
enum Octets {
    Numbers(Vec<u8>),
    Text(String),
}

impl Octets {
    fn base64(&self) -> Option<Vec<u8>> {
        match self {
            Self::Numbers(bytes) => Some(bytes.clone()),
            Self::Text(text) => URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok(),
        }
    }

    fn hex(&self) -> Option<Vec<u8>> {
        match self {
            Self::Numbers(bytes) => Some(bytes.clone()),
            Self::Text(text) => {
                let digit =
                    |digit: &u8| char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                let byte = |pair: &[u8]| match pair {
                    [high, low] => Some(digit(high)? << 4 | digit(low)?),
                    _ => None,
                };
                text.as_bytes().chunks(2).map(byte).collect()
            }
        }
    }
}

/// Checks evidence in JSON. Everything that [`crate::appraise`] promises holds here.
pub(crate) fn appraise(
    evidence: &[u8],
    endorsements: &Endorsements,
    roots: &Roots,
    demands: &Demands,
) -> Result<Claims, Refusal> {
    let malformed = |what: &'static str| Reason::AzureEvidenceMalformed.because(what);
    let json: Json = serde_json::from_slice(evidence).map_err(|_| malformed("not JSON with its members"))?;
    if json.vcek.is_some() == json.td_quote.is_some() {
        return Err(malformed("either a certificate or a TD quote"));
    }
    if json.version > 2 {
        return Err(Reason::AzureEvidenceMalformed.because(format!("version {}", json.version)));
    }
    let report = json.hcl_report.base64().ok_or(malformed("the HCL report"))?;
    let quote = json.tpm_quote.message.hex().ok_or(malformed("the quote"))?;
    let signature = json.tpm_quote.signature.hex().ok_or(malformed("the signature"))?;
    let pcrs = pcrs(&json.tpm_quote.pcrs).ok_or(malformed("the PCRs"))?;
    let mut endorsements = endorsements.clone();
    if let Some(vcek) = &json.vcek {
        endorsements.add(&certificate(vcek).ok_or(malformed("the certificate"))?)?;
    }
    let td_quote = json.td_quote.map(|quote| quote.base64().ok_or(malformed("the TD quote"))).transpose()?;
    let parts = Parts { quote: &quote, signature: Signature::rsassa(&signature), pcrs: &pcrs, log: None };
    appraise_parts(&report, td_quote.as_deref(), &parts, &endorsements, roots, demands)
}

/// All PCRs are given, and all are quoted.
fn pcrs(values: &[Octets]) -> Option<Pcrs> {
    let value = |(index, value): (usize, &Octets)| {
        let value = <[u8; 32]>::try_from(value.hex()?).ok()?;
        Some((u8::try_from(index).ok()?, value))
    };
    (values.len() == PCRS).then(|| values.iter().enumerate().map(value).collect())?
}

/// PEM, or DER in base64url.
fn certificate(text: &str) -> Option<Vec<u8>> {
    if text.starts_with("-----BEGIN") {
        return Some(text.as_bytes().to_vec());
    }
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()
}
