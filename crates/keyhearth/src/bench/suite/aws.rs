//! The AWS KMS API: every request signed when it is sent. The same can be asked of another server of this API.

use std::collections::BTreeMap;
use std::net::ToSocketAddrs;
use std::path::Path;

use http::Uri;
use serde_json::{Value, json};

use super::{PLAINTEXT, ask, text};
use crate::bench::error::Error;
use crate::bench::load::{Target, Tls};
use crate::bench::report::Report;
use crate::bench::request::Request;
use crate::bench::sign::AccessKey;
use crate::bench::{Extent, Peer, Workload, compare};

/// Another server of the AWS KMS API.
#[derive(Clone, Debug)]
pub struct Elsewhere {
    /// Where it is: `http` or `https`, host and port.
    pub url: String,
    /// Whose certificates to believe, as PEM, for `https`.
    pub roots: String,
}

/// Measures the operations that are `chosen` at the development server of `data`, and beside it `elsewhere`.
pub(super) fn run(
    data: &Path,
    elsewhere: Option<&Elsewhere>,
    chosen: impl Fn(&Workload) -> bool,
    extent: &Extent,
) -> Result<Report, Error> {
    let ours = Service::of_development(data)?;
    let mut workloads = ours.prepare()?;
    workloads.retain(chosen);
    let peer = elsewhere.map(|elsewhere| {
        let theirs = Service::unproved(elsewhere)?;
        Ok::<_, Error>(Peer { workloads: theirs.prepare()?, target: theirs.target })
    });
    compare(&ours.target, &workloads, peer.transpose()?.as_ref(), extent)
}

/// A server, and who calls it.
struct Service {
    target: Target,
    access_key: AccessKey,
}

impl Service {
    /// What `dev.env` tells every client.
    fn of_development(data: &Path) -> Result<Self, Error> {
        let file = std::fs::read_to_string(data.join("dev.env"))?;
        let known: BTreeMap<&str, &str> = file
            .lines()
            .filter_map(|line| line.strip_prefix("export ")?.split_once('='))
            .map(|(name, value)| (name, value.trim_matches('\'')))
            .collect();
        let known = |name: &'static str| known.get(name).copied().ok_or(Error::Answer(name));
        let roots = std::fs::read_to_string(data.join("ca.crt"))?;
        let access_key = AccessKey {
            id: known("AWS_ACCESS_KEY_ID")?.to_owned(),
            secret: known("AWS_SECRET_ACCESS_KEY")?.to_owned(),
            region: known("AWS_DEFAULT_REGION")?.to_owned(),
        };
        Ok(Self { target: target(known("AWS_ENDPOINT_URL_KMS")?, roots)?, access_key })
    }

    /// A server that believes whatever access key it is shown.
    fn unproved(elsewhere: &Elsewhere) -> Result<Self, Error> {
        let access_key = AccessKey {
            id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret: "unproved".to_owned(),
            region: "us-east-1".to_owned(),
        };
        Ok(Self { target: target(&elsewhere.url, elsewhere.roots.clone())?, access_key })
    }

    fn call(&self, operation: &str, body: &Value) -> Request {
        Request::aws(operation, &body.to_string(), &self.access_key)
    }

    fn new_key(&self, body: &Value) -> Result<String, Error> {
        let answers = ask(&self.target, &[self.call("CreateKey", body)])?;
        let metadata = answers[0].get("KeyMetadata").ok_or(Error::Answer("KeyMetadata"))?;
        text(metadata, "KeyId").map(str::to_owned)
    }

    /// Makes keys and what the workloads need.
    fn prepare(&self) -> Result<Vec<Workload>, Error> {
        let aes = self.new_key(&json!({}))?;
        let p256 = self.new_key(&json!({ "KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY" }))?;
        let encrypt = json!({ "KeyId": aes, "Plaintext": PLAINTEXT });
        let sealed = ask(&self.target, &[self.call("Encrypt", &encrypt)])?;
        let decrypt = json!({ "KeyId": aes, "CiphertextBlob": text(&sealed[0], "CiphertextBlob")? });
        let data_key = json!({ "KeyId": aes, "KeySpec": "AES_256" });
        let sign = json!({ "KeyId": p256, "Message": PLAINTEXT, "SigningAlgorithm": "ECDSA_SHA_256" });
        let workloads = [
            ("Encrypt", encrypt),
            ("Decrypt", decrypt),
            ("GenerateDataKey", data_key.clone()),
            ("GenerateDataKeyWithoutPlaintext", data_key),
            ("Sign", sign),
        ];
        Ok(workloads
            .into_iter()
            .map(|(name, body)| Workload { name: name.to_owned(), request: self.call(name, &body) })
            .collect())
    }
}

/// The server at `url`.
fn target(url: &str, roots: String) -> Result<Target, Error> {
    let wrong = || Error::Url(url.to_owned());
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let host = uri.host().ok_or_else(wrong)?;
    let (tls, usual_port) = match uri.scheme_str() {
        Some("https") => (Some(Tls { server_name: host.to_owned(), roots, client: None }), 443),
        Some("http") => (None, 80),
        Some(_) | None => return Err(wrong()),
    };
    let bare_host = host.trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<_> = (bare_host, uri.port_u16().unwrap_or(usual_port)).to_socket_addrs()?.collect();
    // A development server listens on the older of the two loopback addresses.
    let address = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
    Ok(Target { address: *address.ok_or_else(wrong)?, tls })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_become_targets() {
        let plain = target("http://127.0.0.1:5000", String::new()).unwrap();
        assert_eq!(plain.address, ([127, 0, 0, 1], 5000).into());
        assert!(plain.tls.is_none());
        let secure = target("https://127.0.0.1/", "roots".to_owned()).unwrap();
        assert_eq!(secure.address.port(), 443);
        let tls = secure.tls.unwrap();
        assert_eq!((&*tls.server_name, &*tls.roots, tls.client.is_none()), ("127.0.0.1", "roots", true));
        assert_eq!(target("http://[::1]:80", String::new()).unwrap().address.port(), 80);
        for wrong in ["127.0.0.1:5000", "ftp://127.0.0.1", "", "http://"] {
            assert!(matches!(target(wrong, String::new()), Err(Error::Url(_))), "{wrong}");
        }
    }
}
