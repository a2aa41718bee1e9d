//! Confidential VMs of Azure: a TPM in the paravisor, whose key the hardware's report vouches for.
//!
//! Source: Azure, "Guest attestation for confidential VMs": NV index 0x01400001 holds the report, handle 0x81000003
//! the key; the instance metadata service has the chip's certificate of an SNP machine, and makes quotes of a TD's report.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyhearth_attest::azure;
use keyhearth_attest::tpm::Evidence;
use serde::Deserialize;

use super::quote::event_log;
use super::{Collected, Error, Machine};
use crate::http;
use crate::tpm::Tpm;
use crate::transport::{Timed, patiently};

/// Marks every machine of Azure.
const CHASSIS: &str = "7783-7084-3265-9085-8269-3286-77";
const NV_REPORT: u32 = 0x0140_0001;
const HANDLE_AK: u32 = 0x8100_0003;
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const METADATA_WAIT: Duration = Duration::from_secs(3);
/// How long the service may take to have a quote made.
const QUOTE_WAIT: Duration = Duration::from_secs(10);

pub(super) fn is_here(machine: &Machine) -> bool {
    let marked = fs::read_to_string(&machine.chassis).is_ok_and(|tag| tag.trim() == CHASSIS);
    marked && matches!(Tpm::open(&machine.tpm).and_then(|mut tpm| tpm.nv_read(NV_REPORT)), Ok(Some(_)))
}

pub(super) fn collect(machine: &Machine, qualifying: &[u8; 32]) -> Result<Collected, Error> {
    let mut tpm = Tpm::open(&machine.tpm)?;
    let missing = Error::Absent("the TPM has no HCL report: this is no confidential VM of Azure");
    let report = tpm.nv_read(NV_REPORT)?.ok_or(missing)?;
    let td_quote = azure::td_report(&report).map(td_quote).transpose()?;
    let ak = tpm.read_ak(HANDLE_AK)?;
    let quote = tpm.quote(&ak, qualifying)?;
    let evidence = Evidence {
        quote: quote.quoted,
        signature: quote.signature,
        ak: None,
        pcrs: quote.pcrs,
        log: event_log(&machine.event_log),
        hcl_report: Some(report),
        td_quote,
    };
    let endorsements = match evidence.td_quote {
        Some(_) => Vec::new(),
        None => certificates().unwrap_or_default(),
    };
    Ok(Collected { evidence: Some(evidence.encode()), endorsements })
}

#[derive(Deserialize)]
struct Quoted {
    quote: String,
}

/// A quote of a TD's own report, which the host makes.
fn td_quote(report: &[u8]) -> Result<Vec<u8>, Error> {
    let ask = || {
        let mut stream = Timed::connect(SocketAddr::from((METADATA, 80)), QUOTE_WAIT)?;
        ask_for_quote(&mut stream, report)
    };
    patiently(ask).map_err(Error::Report)
}

fn ask_for_quote(stream: &mut (impl Read + Write), report: &[u8]) -> io::Result<Vec<u8>> {
    let body = serde_json::json!({ "report": URL_SAFE_NO_PAD.encode(report) }).to_string();
    let answer = http::post(stream, "169.254.169.254", "/acc/tdquote", body.as_bytes());
    let answer = answer.map_err(|error| io::Error::other(error.to_string()))?;
    if answer.status != 200 {
        return Err(io::Error::other(format!("Azure made no quote of it, status {}", answer.status)));
    }
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "Azure's answer holds no quote");
    let Quoted { quote } = serde_json::from_slice(&answer.body).map_err(|_| malformed())?;
    URL_SAFE_NO_PAD.decode(quote.trim_end_matches('=')).map_err(|_| malformed())
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
    let answer = http::plain(&mut stream, "GET", "169.254.169.254", path, "metadata: true").ok()?;
    let certificates: Certificates =
        serde_json::from_slice(&answer.body).ok().filter(|_| answer.status == 200)?;
    Some([certificates.vcek_cert, certificates.certificate_chain].map(String::into_bytes).into())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// What was asked, and what is answered.
    struct Service(Vec<u8>, Cursor<Vec<u8>>);

    impl Service {
        fn answering(status: &str, body: &str) -> Self {
            let length = body.len();
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
            Self(Vec::new(), Cursor::new(answer.into_bytes()))
        }
    }

    impl Read for Service {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.1.read(out)
        }
    }

    impl Write for Service {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_quote_is_asked_for_as_azure_wants_it() {
        let mut service = Service::answering("200 OK", r#"{"quote":"BAAC_w=="}"#);
        assert_eq!(ask_for_quote(&mut service, &[0xff; 1024]).unwrap(), [4, 0, 2, 0xff]);
        let asked = String::from_utf8(service.0).unwrap();
        assert!(asked.starts_with("POST /acc/tdquote HTTP/1.1\r\nhost: 169.254.169.254\r\n"), "{asked}");
        let report = URL_SAFE_NO_PAD.encode([0xff; 1024]);
        assert!(asked.ends_with(&format!("\r\n\r\n{{\"report\":\"{report}\"}}")), "{asked}");
        for (status, body) in
            [("429 Too Many Requests", ""), ("200 OK", "{}"), ("200 OK", r#"{"quote":"no base64!"}"#)]
        {
            assert!(ask_for_quote(&mut Service::answering(status, body), &[0; 1024]).is_err(), "{body}");
        }
    }
}
