//! `init`, `serve` and `config …`: the server itself.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use keyhearth::config::{Config, LogFormat};
use keyhearth::server::{self, InitOptions};
use keyhearth::telemetry::start_logging;
use keyhearth_core::id::Name;
use keyhearth_crypto::passphrase::PASSPHRASE_BYTES_MAX;
use keyhearth_proto::rest::Is;
use serde::Serialize;
use tokio::runtime::{Builder, Runtime};

use super::failure::Failure;
use super::seal::{hand_out, share_folder};
use super::session::Session;
use super::spelled::spelled;
use super::{input, output};

/// Fewest threads that serve, so that one long computation does not stop everybody.
const WORKERS_MIN: usize = 2;

#[derive(Subcommand)]
pub enum Verb {
    /// Makes a deployment in an empty data directory
    Init(Init),
    /// Runs the server
    Serve(Serve),
    /// The server's configuration
    #[command(subcommand)]
    Config(ConfigVerb),
}

#[derive(Subcommand)]
pub enum ConfigVerb {
    /// Checks a configuration file
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Prints every key with its meaning and default
    Reference,
}

/// How a deployment is made.
#[derive(Args)]
pub struct Init {
    /// Its data directory: empty, or not there.
    #[arg(long, value_name = "FOLDER")]
    data: PathBuf,
    /// Name of the first platform operator.
    #[arg(long, default_value = "operator", value_parser = spelled::<Name>())]
    operator: Is<Name>,
    /// Seal with so many shares instead of a passphrase.
    #[arg(long, value_name = "COUNT", requires = "threshold")]
    shares: Option<u8>,
    /// So many of the shares are needed.
    #[arg(long, value_name = "COUNT", requires = "shares")]
    threshold: Option<u8>,
    /// Folder for the shares, one file each; printed if absent.
    #[arg(long, value_name = "FOLDER", requires = "shares")]
    shares_out: Option<PathBuf>,
    /// File with the passphrase; asked for if absent, unless there are shares.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// DNS name or address that callers will use; can be given again.
    #[arg(long = "name", value_name = "HOST")]
    names: Vec<String>,
    /// The log's name, as `origin` of the configuration.
    #[arg(long)]
    origin: Option<String>,
    /// Where the anchor is kept, as `anchor` of the configuration.
    #[arg(long, value_name = "FILE")]
    anchor: Option<PathBuf>,
}

/// How the server runs.
#[derive(Args)]
pub struct Serve {
    /// The configuration file.
    #[arg(long, value_name = "FILE", required_unless_present = "data")]
    config: Option<PathBuf>,
    /// The data directory, for defaults without a configuration file.
    #[arg(long, value_name = "FOLDER", conflicts_with = "config")]
    data: Option<PathBuf>,
    /// A development server: makes the data directory, unseals itself, protects nothing.
    #[arg(long, requires = "data", conflicts_with = "passphrase_file")]
    dev: bool,
    /// File with the passphrase that unseals; `-` is standard input. Sealed if absent.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Go on although the stored rows or the log are not those of the last commit, as after a disk
    /// was lost. What was destroyed since may live again. The log says for ever that you did.
    #[arg(long, conflicts_with = "dev")]
    danger_accept_found: bool,
}

impl Verb {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Init(init) => init.run(session),
            Self::Serve(serve) => serve.run(session),
            Self::Config(ConfigVerb::Reference) => output::line(&Config::reference()),
            Self::Config(ConfigVerb::Check { file }) => {
                Config::load(&file)?;
                output::line(&format!("{} is a configuration", file.display()))
            }
        }
    }
}

/// What `init` made.
#[derive(Serialize)]
struct Made<'a> {
    data: &'a Path,
    ca: &'a Path,
    operator_certificate: &'a Path,
    operator_key: &'a Path,
    log_key: &'a Path,
    shares: Option<Vec<&'a str>>,
}

impl Init {
    fn run(self, session: &Session) -> Result<(), Failure> {
        let quorum = self.threshold.zip(self.shares);
        let passphrase = if quorum.is_some() && self.passphrase_file.is_none() {
            None
        } else {
            Some(input::new_secret(
                "Passphrase of the seal",
                self.passphrase_file.as_deref(),
                PASSPHRASE_BYTES_MAX,
            )?)
        };
        let origin = self.origin.unwrap_or_else(|| Config::default_for(&self.data).origin);
        let options = InitOptions {
            data: self.data,
            operator: self.operator.0,
            passphrase,
            quorum,
            names: self.names,
            origin,
            anchor: self.anchor,
            development: false,
        };
        // Before the deployment: what cannot take the shares is found while they do not exist yet.
        if let (Some(folder), Some(count)) = (&self.shares_out, self.shares) {
            share_folder(folder, count)?;
        }
        let made = runtime()?.block_on(server::init(&options))?;
        let shares = || made.shares.iter().map(|share| share.as_str());
        let printed = session.json() && self.shares_out.is_none();
        session.show(&Made {
            data: &options.data,
            ca: &made.ca,
            operator_certificate: &made.operator_certificate,
            operator_key: &made.operator_key,
            log_key: &made.log_key,
            shares: printed.then(|| shares().collect()),
        })?;
        if !printed {
            hand_out(shares(), self.shares_out.as_deref())?;
        }
        session.hint("Move the operator's key to the operator.");
        if !made.shares.is_empty() {
            session.hint("Give each custodian one share; they exist nowhere else.");
        }
        Ok(())
    }
}

/// Said on a line of its own when a server takes requests.
const READY: &str = "ready";

/// Said by a development server, loudly.
const NOT_FOR_PRODUCTION: &str = "\
************************************************************************
*  DEVELOPMENT SERVER - NOT FOR PRODUCTION                             *
*  It unseals itself with a passphrase that lies beside its data, and  *
*  one identity may do everything. Its keys are protected by nothing.  *
************************************************************************";

impl Serve {
    fn run(self, session: &Session) -> Result<(), Failure> {
        let say = |url: &str, more: &str| session.hint(&format!("listening on {url}{more}"));
        if let (true, Some(data)) = (self.dev, &self.data) {
            start_logging(false, tracing::Level::WARN);
            let ready = |ready: &server::DevReady| {
                eprintln!("{NOT_FOR_PRODUCTION}");
                say(
                    &ready.url,
                    &format!(
                        "\n  . {}   # then use keyhearth from another terminal",
                        ready.env_file.display()
                    ),
                );
                println!("{READY}");
            };
            return Ok(runtime()?.block_on(server::serve_dev(data, ready))?);
        }
        let config = match (&self.config, &self.data) {
            (Some(file), _) => Config::load(file)?,
            (None, data) => Config::default_for(data.as_deref().unwrap_or(Path::new("."))),
        };
        let file = self.passphrase_file.as_deref();
        let passphrase =
            file.map(|file| input::secret("Passphrase", Some(file), PASSPHRASE_BYTES_MAX)).transpose()?;
        start_logging(matches!(config.log.format, LogFormat::Json), config.log.level.into());
        let ready = |ready: &server::Ready| {
            say(&ready.url, if ready.sealed { "; sealed: `keyhearth unseal` opens it" } else { "" });
            ready.aws_url.iter().for_each(|url| say(url, " for AWS clients"));
            ready.tang_url.iter().for_each(|url| say(url, " for Clevis"));
            println!("{READY}");
        };
        Ok(runtime()?.block_on(server::serve(config, passphrase, self.danger_accept_found, ready))?)
    }
}

/// Threads that serve.
pub fn runtime() -> Result<Runtime, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Builder::new_multi_thread().worker_threads(cores.max(WORKERS_MIN)).enable_all().build()?)
}
