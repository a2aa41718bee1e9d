//! `bench`: how fast the server is, beside what this machine could do.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use keyhearth::bench::suite::Elsewhere;
use keyhearth::bench::{self, Extent, process, suite};

use super::failure::Failure;
use super::session::Session;
use super::{made, output};

#[derive(Subcommand)]
pub enum Verb {
    /// Measures a server of its own beside a bare one
    Bench(Bench),
    /// The load process of a measurement
    #[command(name = process::LOAD, hide = true)]
    Load,
    /// The bare server of a measurement
    #[command(name = process::BARE, hide = true)]
    Bare,
    /// The measured server of a measurement
    #[command(name = suite::SERVER, hide = true)]
    Server,
}

/// What to measure, how long and how wide.
#[derive(Args)]
pub struct Bench {
    /// Only what has this in its name.
    only: Option<String>,
    /// What is spoken.
    #[arg(long, value_enum, default_value_t = Protocol::Rest)]
    protocol: Protocol,
    /// Another server of the AWS KMS API, measured at the same work; it must not check signatures.
    #[arg(long, value_name = "URL")]
    peer: Option<String>,
    /// Whose certificates to believe at that server, if it has one.
    #[arg(long, value_name = "FILE", requires = "peer")]
    peer_ca: Option<PathBuf>,
    /// Numbers of connections, if there are any.
    #[arg(long, value_delimiter = ',', default_values_t = Extent::default().connections)]
    connections: Vec<usize>,
    /// Milliseconds of each measurement.
    #[arg(long, default_value_t = Extent::default().measure_ms)]
    measure_ms: u64,
    /// Times each is measured; the median counts.
    #[arg(long, default_value_t = Extent::default().rounds)]
    rounds: usize,
    /// Where the data of the measured server lies for a while: a folder on the disk to measure.
    #[arg(long, value_name = "FOLDER", default_value_os_t = std::env::temp_dir())]
    within: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Protocol {
    /// The REST API, with a client certificate.
    Rest,
    /// The AWS KMS API, with signed requests.
    Aws,
    /// None: appraisal of attestation evidence, on one core.
    Boot,
}

impl Verb {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Load => process::run_load().map_err(unmeasured),
            Self::Bare => process::run_bare().map_err(unmeasured),
            Self::Server => suite::run_server().map_err(unmeasured),
            Self::Bench(bench) => bench.run(session),
        }
    }
}

fn unmeasured(error: bench::Error) -> Failure {
    Failure::new(error, "correct that and measure again")
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::at(path.display(), &error))
}

impl Bench {
    fn run(self, session: &Session) -> Result<(), Failure> {
        let Self { only, protocol, peer, peer_ca, connections, measure_ms, rounds, within } = self;
        let extent = Extent { connections, measure_ms, rounds, ..Extent::default() };
        let protocol = match (protocol, peer) {
            (Protocol::Rest, None) => suite::Protocol::Rest,
            (Protocol::Boot, None) => {
                let report = suite::boot::run(only.as_deref(), &extent).map_err(unmeasured)?;
                return if session.json() {
                    session.show(&report)
                } else {
                    output::line(&report.to_string())
                };
            }
            (Protocol::Rest | Protocol::Boot, Some(_)) => {
                return Err(Failure::new(
                    "only servers of the AWS KMS API are compared",
                    "add `--protocol aws`",
                ));
            }
            (Protocol::Aws, None) => suite::Protocol::Aws(None),
            (Protocol::Aws, Some(url)) => {
                let roots = peer_ca.map(|path| read(&path)).transpose()?.unwrap_or_default();
                suite::Protocol::Aws(Some(Elsewhere { url, roots }))
            }
        };
        let data = ThrowAway::new(&within)?;
        let report = suite::run(&data.0, &protocol, only.as_deref(), &extent).map_err(unmeasured)?;
        if session.json() { session.show(&report) } else { output::line(&report.to_string()) }
    }
}

/// A folder that is removed with all that is in it.
struct ThrowAway(PathBuf);

impl ThrowAway {
    fn new(within: &Path) -> Result<Self, Failure> {
        let path = within.join(format!("keyhearth-bench-{}", std::process::id()));
        made::new_folder(&path)?;
        Ok(Self(path))
    }
}

impl Drop for ThrowAway {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
