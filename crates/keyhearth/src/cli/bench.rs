//! `bench`: how fast the server is, beside what this machine could do.

use std::net::ToSocketAddrs as _;

use clap::{Args, Subcommand};
use http::Uri;
use keyhearth::bench::load::Target;
use keyhearth::bench::{self, Extent, Workload, process};
use keyhearth_crypto::algorithm::Algorithm;
use keyhearth_proto::rest::body::{Encrypt, MakeDataKey, NewKey, Schedule, Sign};
use keyhearth_proto::rest::{Is, Text, Within};
use serde::Serialize;

use super::failure::Failure;
use super::output;
use super::session::{Server, Session};

/// Bytes of what is encrypted and signed.
const MESSAGE_BYTES: usize = 64;

#[derive(Subcommand)]
pub enum Verb {
    /// Measures the server with keys made for it, beside a bare server
    Bench(Bench),
    /// The load process of a measurement
    #[command(name = process::LOAD, hide = true)]
    Load,
    /// The bare server of a measurement
    #[command(name = process::BARE, hide = true)]
    Bare,
}

/// How long and how wide to measure.
#[derive(Args)]
pub struct Bench {
    /// Numbers of connections.
    #[arg(long, value_delimiter = ',', default_values_t = Extent::default().connections)]
    connections: Vec<usize>,
    /// Milliseconds of each measurement.
    #[arg(long, default_value_t = Extent::default().measure_ms)]
    measure_ms: u64,
    /// Times each is measured; the median counts.
    #[arg(long, default_value_t = Extent::default().rounds)]
    rounds: usize,
}

impl Verb {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Load => process::run_load().map_err(unmeasured),
            Self::Bare => process::run_bare().map_err(unmeasured),
            Self::Bench(bench) => bench.run(session),
        }
    }
}

fn unmeasured(error: bench::Error) -> Failure {
    Failure::new(error, "correct that and measure again")
}

impl Bench {
    fn run(self, session: &Session) -> Result<(), Failure> {
        let target = target(session)?;
        let server = session.server()?;
        let aes = make(&server, Algorithm::Aes256)?;
        let ec = make(&server, Algorithm::EcP256)?;
        let extent = Extent {
            connections: self.connections,
            measure_ms: self.measure_ms,
            rounds: self.rounds,
            ..Extent::default()
        };
        let measured =
            workloads(&aes, &ec).and_then(|work| bench::compare(&target, &work, &extent).map_err(unmeasured));
        for key in [aes, ec] {
            server.wait(server.schedule_destroy(&key, &Schedule { days: Within::new(7) }))?;
        }
        let report = measured?;
        if session.json() { session.show(&report) } else { output::line(&report.to_string()) }
    }
}

fn make(server: &Server, algorithm: Algorithm) -> Result<String, Failure> {
    let key = NewKey {
        algorithm: Is(algorithm),
        usage: None,
        exportable: None,
        import: None,
        description: Some(Text("made by `keyhearth bench`".to_owned())),
        tags: None,
        alias: None,
        activation: None,
        cryptoperiod: None,
        rotate_days: None,
    };
    Ok(server.wait(server.create_key(&key))?.id.to_string())
}

fn workloads(aes: &str, ec: &str) -> Result<Vec<Workload>, Failure> {
    let message = || vec![7; MESSAGE_BYTES].into();
    Ok(vec![
        workload("encrypt", aes, &Encrypt { mechanism: None, context: None, plaintext: message() })?,
        workload("data-key", aes, &MakeDataKey::default())?,
        workload("sign", ec, &Sign { message: Some(message()), ..Sign::default() })?,
    ])
}

fn workload(verb: &str, key: &str, body: &impl Serialize) -> Result<Workload, Failure> {
    Ok(Workload {
        name: verb.to_owned(),
        method: "POST".to_owned(),
        path: format!("/v1/keys/{key}/{verb}"),
        body: serde_json::to_string(body).map_err(|error| Failure::new(error, "report this"))?,
    })
}

/// The server and the identity of the session, as the load process takes them.
fn target(session: &Session) -> Result<Target, Failure> {
    let access = session.access(true)?;
    let uri: Uri =
        access.url.parse().map_err(|_| Failure::new("the URL is malformed", "give https://host:port"))?;
    let host = uri.host().unwrap_or_default();
    let mut addresses = (host.trim_matches(['[', ']']), uri.port_u16().unwrap_or(443)).to_socket_addrs()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (chain, key) =
        access.identity.as_ref().map(|(chain, key)| (text(chain), text(key))).unwrap_or_default();
    Ok(Target {
        address: addresses.next().ok_or_else(|| Failure::new("the host has no address", "check the URL"))?,
        server_name: host.to_owned(),
        roots: text(&access.ca),
        chain,
        key,
    })
}
