//! What `keyhearth bench` measures: a development server in a throw-away directory, with TLS and the durable log
//! on, and the operations that its users wait for; and, without a server, what boot release waits for.

mod aws;
pub mod boot;
mod rest;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::aws::Elsewhere;
use super::error::Error;
use super::load::{self, Connection, Target, Way};
use super::process::{self, Process};
use super::report::Report;
use super::request::{Outgoing, Request};
use super::{Extent, Workload};
use crate::listen::Stop;

/// Verb of the measured server's process.
pub const SERVER: &str = "bench-server";

/// What is spoken.
#[derive(Clone, Debug)]
pub enum Protocol {
    /// The REST API.
    Rest,
    /// The AWS KMS API, and another server of it to compare with.
    Aws(Option<Elsewhere>),
}

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
/// As [`compare`](super::compare).
pub fn run(data: &Path, protocol: &Protocol, only: Option<&str>, extent: &Extent) -> Result<Report, Error> {
    let mut server = Process::start(&[SERVER], &Job { data: data.to_owned() })?;
    let address = server.address()?;
    let chosen = |workload: &Workload| only.is_none_or(|text| workload.name.contains(text));
    match protocol {
        Protocol::Rest => rest::run(data, address, chosen, extent),
        Protocol::Aws(elsewhere) => aws::run(data, elsewhere.as_ref(), chosen, extent),
    }
}

/// 64 bytes in base64.
const PLAINTEXT: &str =
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==";

/// Sends requests one after another and reads the JSON of their answers.
fn ask(target: &Target, requests: &[Request]) -> Result<Vec<Value>, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let mut connection = Connection::open(&Arc::new(Way::to(target)?)).await?;
        let mut answers = Vec::new();
        for request in requests {
            let answer = connection.exchange(Outgoing::new(request).number(0, load::present())).await?;
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
