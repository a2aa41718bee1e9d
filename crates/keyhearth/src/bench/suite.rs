//! What `keyhearth bench` measures: a development server in a throw-away directory, with mutual TLS and
//! the durable log on, and the operations that its users wait for.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::Error;
use super::load::{self, Connection, SEQUENCE, Target};
use super::process::{self, Process};
use super::report::Report;
use super::{Extent, Workload, compare};
use crate::listen::Stop;

/// Verb of the measured server's process.
pub const SERVER: &str = "bench-server";

/// Policies that a tenant has beside the role templates in the small and in the large measurement.
const POLICIES: [usize; 2] = [2, 1_000];

/// What the measured server's process reads from its standard input.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    data: PathBuf,
}

/// The measured server's process.
///
/// # Errors
/// If it cannot begin.
pub fn run_server() -> Result<(), Error> {
    let Job { data } = process::job()?;
    let (stop, shutdown) = Stop::new();
    process::stop_with_input(stop);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let running =
            crate::server::begin_dev(&data).await.map_err(|error| Error::Server(Box::new(error)))?;
        process::announce(running.address());
        running.until(shutdown.requested()).await;
        Ok(())
    })
}

/// Measures all operations, or those whose names contain `only`, in the directory `data`, which is empty.
///
/// # Errors
/// As [`compare`].
pub fn run(data: &Path, only: Option<&str>, extent: &Extent) -> Result<Report, Error> {
    let mut server = Process::start(&[SERVER], &Job { data: data.to_owned() })?;
    let target = target(data, server.address()?)?;
    let chosen = |workload: &Workload| only.is_none_or(|text| workload.name.contains(text));
    let mut workloads = prepare(&target)?;
    workloads.retain(chosen);
    let mut report = compare(&target, &workloads, extent)?;
    for count in POLICIES {
        let mut workloads = with_policies(&target, count)?;
        workloads.retain(chosen);
        report.rows.extend(compare(&target, &workloads, extent)?.rows);
    }
    Ok(report)
}

fn target(data: &Path, address: SocketAddr) -> Result<Target, Error> {
    Ok(Target {
        address,
        server_name: "localhost".to_owned(),
        roots: std::fs::read_to_string(data.join("ca.crt"))?,
        chain: std::fs::read_to_string(data.join("dev.crt"))?,
        key: std::fs::read_to_string(data.join("dev.key"))?,
    })
}

/// Sends requests one after another and reads the JSON of their answers.
fn ask(target: &Target, requests: &[(&str, String, String)]) -> Result<Vec<Value>, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let mut connection = Connection::open(target, load::client_config(target)?).await?;
        let mut answers = Vec::new();
        for (method, path, body) in requests {
            let answer = connection.exchange(load::request(method, path, body).as_bytes()).await?;
            if !(200..300).contains(&answer.status) {
                return Err(Error::Preparation(answer.refusal()));
            }
            answers.push(serde_json::from_slice(answer.body)?);
        }
        Ok(answers)
    })
}

fn text<'v>(value: &'v Value, member: &'static str) -> Result<&'v str, Error> {
    value.get(member).and_then(Value::as_str).ok_or(Error::Answer(member))
}

fn new_key(target: &Target, body: &str) -> Result<String, Error> {
    let answers = ask(target, &[("POST", "/v1/keys".to_owned(), body.to_owned())])?;
    text(&answers[0], "id").map(str::to_owned)
}

/// 64 bytes in base64.
const PLAINTEXT: &str =
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==";

/// Makes keys and what the workloads need.
fn prepare(target: &Target) -> Result<Vec<Workload>, Error> {
    let aes = new_key(target, r#"{"algorithm":"aes-256"}"#)?;
    let p256 = new_key(target, r#"{"algorithm":"ec-p256"}"#)?;
    let ml_dsa = new_key(target, r#"{"algorithm":"ml-dsa-65"}"#)?;
    let encrypt = format!(r#"{{"plaintext":"{PLAINTEXT}"}}"#);
    let sealed = ask(target, &[("POST", format!("/v1/keys/{aes}/encrypt"), encrypt.clone())])?;
    let decrypt = format!(r#"{{"ciphertext":"{}"}}"#, text(&sealed[0], "ciphertext")?);
    let sign = format!(r#"{{"message":"{PLAINTEXT}"}}"#);
    let workload = |name: &str, path: String, body: &str| Workload {
        name: name.to_owned(),
        method: "POST".to_owned(),
        path,
        body: body.to_owned(),
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
    let puts: Vec<(&str, String, String)> = statements
        .chunks(250)
        .enumerate()
        .map(|(i, chunk)| {
            let body = serde_json::json!({ "text": chunk.join("\n") }).to_string();
            ("PUT", format!("/v1/policies/bench-{i}"), body)
        })
        .collect();
    ask(target, &puts)?;
    Ok(vec![Workload {
        name: format!("encrypt, {count} policies"),
        method: "POST".to_owned(),
        path: format!("/v1/keys/{aes}/encrypt"),
        body: format!(r#"{{"plaintext":"{PLAINTEXT}"}}"#),
    }])
}
