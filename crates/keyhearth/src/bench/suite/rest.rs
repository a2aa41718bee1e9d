//! The REST API: mutual TLS, keys of three kinds, and what policies cost.

use std::net::SocketAddr;
use std::path::Path;

use super::{PLAINTEXT, ask, text};
use crate::bench::error::Error;
use crate::bench::load::{Certificate, Target, Tls};
use crate::bench::report::Report;
use crate::bench::request::{Request, SEQUENCE};
use crate::bench::{Extent, Workload, compare};

/// Policies that a tenant has beside the role templates in the small and in the large measurement.
const POLICIES: [usize; 2] = [2, 1_000];

/// Measures the operations at the development server of `data`, those that are `chosen`.
pub(super) fn run(
    data: &Path,
    address: SocketAddr,
    chosen: impl Fn(&Workload) -> bool,
    extent: &Extent,
) -> Result<Report, Error> {
    let target = target(data, address)?;
    let mut workloads = prepare(&target)?;
    workloads.retain(&chosen);
    let mut report = compare(&target, &workloads, None, extent)?;
    for count in POLICIES {
        let mut workloads = with_policies(&target, count)?;
        workloads.retain(&chosen);
        report.rows.extend(compare(&target, &workloads, None, extent)?.rows);
    }
    Ok(report)
}

fn target(data: &Path, address: SocketAddr) -> Result<Target, Error> {
    let client = Certificate {
        chain: std::fs::read_to_string(data.join("dev.crt"))?,
        key: std::fs::read_to_string(data.join("dev.key"))?,
    };
    let roots = std::fs::read_to_string(data.join("ca.crt"))?;
    let tls = Tls { server_name: "localhost".to_owned(), roots, client: Some(client) };
    Ok(Target { address, tls: Some(tls) })
}

fn new_key(target: &Target, body: &str) -> Result<String, Error> {
    let answers = ask(target, &[Request::rest("POST", "/v1/keys", body)])?;
    text(&answers[0], "id").map(str::to_owned)
}

/// Makes keys and what the workloads need.
fn prepare(target: &Target) -> Result<Vec<Workload>, Error> {
    let aes = new_key(target, r#"{"algorithm":"aes-256"}"#)?;
    let p256 = new_key(target, r#"{"algorithm":"ec-p256"}"#)?;
    let ml_dsa = new_key(target, r#"{"algorithm":"ml-dsa-65"}"#)?;
    let encrypt = format!(r#"{{"plaintext":"{PLAINTEXT}"}}"#);
    let sealed = ask(target, &[Request::rest("POST", &format!("/v1/keys/{aes}/encrypt"), &encrypt)])?;
    let decrypt = format!(r#"{{"ciphertext":"{}"}}"#, text(&sealed[0], "ciphertext")?);
    let sign = format!(r#"{{"message":"{PLAINTEXT}"}}"#);
    let workload = |name: &str, path: String, body: &str| Workload {
        name: name.to_owned(),
        request: Request::rest("POST", &path, body),
    };
    Ok(vec![
        workload("encrypt", format!("/v1/keys/{aes}/encrypt"), &encrypt),
        workload("decrypt", format!("/v1/keys/{aes}/decrypt"), &decrypt),
        workload("data-key", format!("/v1/keys/{aes}/data-key"), "{}"),
        workload("sign-ec-p256", format!("/v1/keys/{p256}/sign"), &sign),
        workload("sign-ml-dsa-65", format!("/v1/keys/{ml_dsa}/sign"), &sign),
        workload(
            "create-key",
            "/v1/keys".to_owned(),
            &format!(r#"{{"algorithm":"aes-256","description":"{SEQUENCE}"}}"#),
        ),
    ])
}

/// The same encryption while the tenant has `count` policies of its own, each about another key.
fn with_policies(target: &Target, count: usize) -> Result<Vec<Workload>, Error> {
    let aes = new_key(target, r#"{"algorithm":"aes-256"}"#)?;
    let statements: Vec<String> = (0..count)
        .map(|i| {
            format!(
                "permit(principal, action == Keyhearth::Action::\"decrypt\", \
                 resource == Keyhearth::Key::\"00000000-0000-7000-8000-{i:012x}\");"
            )
        })
        .collect();
    let puts: Vec<Request> = statements
        .chunks(250)
        .enumerate()
        .map(|(i, chunk)| {
            let body = serde_json::json!({ "text": chunk.join("\n") }).to_string();
            Request::rest("PUT", &format!("/v1/policies/bench-{i}"), &body)
        })
        .collect();
    ask(target, &puts)?;
    let body = format!(r#"{{"plaintext":"{PLAINTEXT}"}}"#);
    Ok(vec![Workload {
        name: format!("encrypt, {count} policies"),
        request: Request::rest("POST", &format!("/v1/keys/{aes}/encrypt"), &body),
    }])
}
