//! What the cloud says of where this machine runs: a signed document of its metadata service, judged by the server alone.
//!
//! The service speaks HTTP without TLS, at an address that only this machine's host can answer. It is asked in the way that
//! programs which merely fetch URLs for others cannot: with a header, on AWS with a token besides.
//!
//! Called by [`crate::run`] and by `keyhearth-boot check`.
//!
//! Source: Amazon EC2 User Guide, "Use IMDSv2"; Google Cloud, "Verify the identity of instances"; Microsoft Learn, "Azure
//! Instance Metadata Service", attested data.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyhearth_attest::cloud::{audience, nonce};
use keyhearth_proto::boot::{CLOUD_BYTES_MAX, Transcript};
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::http::{self, Answer};
use crate::transport::{Timed, patiently};

/// How long one question takes at most.
const WAIT: Duration = Duration::from_secs(3);
/// A document of Azure's may be one that was kept, with a nonce of before: then it is asked for so often.
const AZURE_ATTEMPTS: u32 = 5;
const AZURE_PAUSE: Duration = Duration::from_secs(1);
/// How long a token of AWS's serves, in seconds.
const TOKEN_S: u32 = 60;
/// AWS's tokens have 56 bytes.
const TOKEN_BYTES_MAX: usize = 1024;

/// A cloud whose document is collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cloud {
    /// Amazon Web Services.
    Aws,
    /// Google Cloud.
    Gcp,
    /// Microsoft Azure, the sovereign clouds as well.
    Azure,
}

impl fmt::Display for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aws => "aws",
            Self::Gcp => "gcp",
            Self::Azure => "azure",
        })
    }
}

/// Where the metadata service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    address: SocketAddr,
    /// As in a URL.
    authority: String,
}

impl Default for Metadata {
    fn default() -> Self {
        let ip = Ipv4Addr::new(169, 254, 169, 254);
        Self { address: (ip, 80).into(), authority: ip.to_string() }
    }
}

impl FromStr for Metadata {
    type Err = &'static str;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        let rule = "a metadata service is http://ADDRESS or http://ADDRESS:PORT, without a path";
        let authority = url.strip_prefix("http://").ok_or(rule)?;
        let bare = authority.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(authority);
        let address = authority
            .parse()
            .or_else(|_| bare.parse().map(|ip: IpAddr| (ip, 80).into()))
            .map_err(|_| rule)?;
        Ok(Self { address, authority: authority.to_owned() })
    }
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Why there is no document.
#[derive(Debug)]
pub enum Error {
    /// The service does not answer.
    Silent(io::Error),
    /// It answers with what is no HTTP.
    Exchange(http::Error),
    /// It refuses, with this status.
    Status(u16),
    /// What it gives is longer than any document is, or no token.
    Form,
    /// Its documents were made for another request.
    Kept,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(error) => write!(f, "the metadata service does not answer: {error}"),
            Self::Exchange(error) => error.fmt(f),
            Self::Status(status) => write!(f, "the metadata service answers with status {status}"),
            Self::Form => {
                write!(f, "the metadata service gives what is no document of up to {CLOUD_BYTES_MAX} bytes")
            }
            Self::Kept => f.write_str("the metadata service gives documents that it made before"),
        }
    }
}

impl std::error::Error for Error {}

/// The document for a request with this transcript; AWS's is the same for all.
///
/// # Errors
/// [`Error`]; there may be one later.
pub fn document(cloud: Cloud, service: &Metadata, transcript: &Transcript) -> Result<Vec<u8>, Error> {
    let document = match cloud {
        Cloud::Aws => aws(service)?,
        Cloud::Gcp => {
            let audience = audience(&transcript.0);
            let path = format!(
                "/computeMetadata/v1/instance/service-accounts/default/identity?audience={audience}&format=full"
            );
            service.ask("GET", &path, "metadata-flavor: Google")?
        }
        Cloud::Azure => azure(service, &nonce(&transcript.0))?,
    };
    if document.len() > CLOUD_BYTES_MAX { Err(Error::Form) } else { Ok(document) }
}

fn aws(service: &Metadata) -> Result<Vec<u8>, Error> {
    let header = format!("x-aws-ec2-metadata-token-ttl-seconds: {TOKEN_S}\r\ncontent-length: 0");
    let token = String::from_utf8(service.ask("PUT", "/latest/api/token", &header)?);
    // It becomes part of a header.
    let fits = |token: &String| token.len() <= TOKEN_BYTES_MAX && token.bytes().all(|c| c.is_ascii_graphic());
    let token = token.ok().filter(fits).ok_or(Error::Form)?;
    let header = format!("x-aws-ec2-metadata-token: {token}");
    service.ask("GET", "/latest/dynamic/instance-identity/rsa2048", &header)
}

fn azure(service: &Metadata, nonce: &str) -> Result<Vec<u8>, Error> {
    let path = format!("/metadata/attested/document?api-version=2021-02-01&nonce={nonce}");
    for attempt in 1..=AZURE_ATTEMPTS {
        let document = service.ask("GET", &path, "metadata: true")?;
        if names(&document, nonce) {
            return Ok(document);
        }
        if attempt < AZURE_ATTEMPTS {
            thread::sleep(AZURE_PAUSE);
        }
    }
    Err(Error::Kept)
}

/// Whether the signed message in a document of Azure's has the nonce in it, wherever it may be.
fn names(document: &[u8], nonce: &str) -> bool {
    #[derive(Deserialize)]
    struct Answer {
        signature: String,
    }
    let answer = serde_json::from_slice::<Answer>(document).ok();
    let message = answer.and_then(|answer| STANDARD.decode(answer.signature).ok()).unwrap_or_default();
    message.windows(nonce.len()).any(|text| text == nonce.as_bytes())
}

impl Metadata {
    /// What the service answers with status 200, if it does before long.
    fn ask(&self, method: &str, path: &str, header: &str) -> Result<Vec<u8>, Error> {
        patiently(|| self.ask_once(method, path, header))
    }

    fn ask_once(&self, method: &str, path: &str, header: &str) -> Result<Vec<u8>, Error> {
        let mut stream = Timed::connect(self.address, WAIT).map_err(Error::Silent)?;
        let answer = http::plain(&mut stream, method, &self.authority, path, header);
        match answer.map_err(Error::Exchange)? {
            Answer { status: 200, body, .. } => Ok(body.to_vec()),
            Answer { status, .. } => Err(Error::Status(status)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_an_address() {
        let service = |url: &str| url.parse::<Metadata>().map(|service| service.address.to_string());
        assert_eq!(service("http://169.254.169.254").unwrap(), Metadata::default().address.to_string());
        assert_eq!(service("http://10.0.2.2:8080").unwrap(), "10.0.2.2:8080");
        assert_eq!(service("http://[fd00:ec2::254]").unwrap(), "[fd00:ec2::254]:80");
        for bad in ["https://10.0.2.2", "10.0.2.2", "http://metadata.google.internal", "http://10.0.2.2/x"] {
            assert!(service(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_document_that_was_kept_is_noticed() {
        let document =
            |message: &str| format!(r#"{{"encoding":"pkcs7","signature":"{}"}}"#, STANDARD.encode(message));
        assert!(names(document(r#"..{"nonce":"0123456789","#).as_bytes(), "0123456789"));
        assert!(!names(document(r#"..{"nonce":"9876543210","#).as_bytes(), "0123456789"));
        assert!(!names(b"{}", "0123456789"));
    }
}
