//! What every verb shares: who to talk to and how to answer.

use std::io::{self, IsTerminal};
use std::ops::Deref;
use std::path::PathBuf;

use clap::Args;
use keyhearth_client::Client;
use serde::Serialize;
use tokio::runtime::Runtime;

use super::failure::Failure;
use super::{input, output};

/// The longest certificate chain or key file that is read, in bytes.
const PEM_BYTES_MAX: usize = 64 * 1024;

/// Flags of every command.
#[derive(Args)]
pub struct Flags {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    manner: Manner,
}

/// Whom to talk to, and as whom.
#[derive(Args)]
#[command(next_help_heading = "Connection")]
struct Connection {
    /// The server's URL
    #[arg(long, global = true, env = "KEYHEARTH_URL", hide_env_values = true)]
    url: Option<String>,
    /// Certificate of the server's CA, PEM
    #[arg(long, global = true, value_name = "FILE", env = "KEYHEARTH_CA_FILE", hide_env_values = true)]
    ca_file: Option<PathBuf>,
    /// Your certificate, PEM
    #[arg(long, global = true, value_name = "FILE", env = "KEYHEARTH_CERT_FILE", hide_env_values = true)]
    cert_file: Option<PathBuf>,
    /// Your private key, PEM
    #[arg(long, global = true, value_name = "FILE", env = "KEYHEARTH_KEY_FILE", hide_env_values = true)]
    key_file: Option<PathBuf>,
    /// Why, for the log
    #[arg(long, global = true, value_name = "TEXT")]
    reason: Option<String>,
}

/// How to answer.
#[derive(Args)]
#[command(next_help_heading = "Answers")]
struct Manner {
    /// Print the server's answer as JSON
    #[arg(long, global = true)]
    json: bool,
    /// Print no hints and no progress
    #[arg(short, long, global = true)]
    quiet: bool,
}

/// One run of the command.
pub struct Session(Flags);

impl Session {
    /// A run with these flags.
    pub fn new(flags: Flags) -> Self {
        Self(flags)
    }

    /// Whether answers are printed as JSON.
    pub fn json(&self) -> bool {
        self.0.manner.json
    }

    /// Why the user does it, if that was said.
    pub fn reason(&self) -> Option<&str> {
        self.0.connection.reason.as_deref()
    }

    /// Whether somebody watches standard error and wants to see progress.
    pub fn watched(&self) -> bool {
        !self.0.manner.quiet && io::stderr().is_terminal()
    }

    /// The server that the flags name, and who calls; connected to at the first request.
    pub fn server(&self) -> Result<Server, Failure> {
        self.open(true)
    }

    /// The same server for what needs no identity: unsealing.
    pub fn anonymous(&self) -> Result<Server, Failure> {
        self.open(false)
    }

    fn open(&self, needs_identity: bool) -> Result<Server, Failure> {
        let flags = &self.0.connection;
        let url =
            flags.url.as_deref().ok_or_else(|| missing("the server's URL", "--url", "KEYHEARTH_URL"))?;
        let ca = flags.ca_file.as_deref();
        let ca = ca.ok_or_else(|| missing("the CA's certificate", "--ca-file", "KEYHEARTH_CA_FILE"))?;
        let ca = input::read(ca, PEM_BYTES_MAX)?;
        let pem =
            |file: &Option<PathBuf>| file.as_ref().map(|file| input::read(file, PEM_BYTES_MAX)).transpose();
        let identity = pem(&flags.cert_file)?.zip(pem(&flags.key_file)?);
        if identity.is_none() && needs_identity {
            return Err(missing(
                "your certificate or its private key",
                "--cert-file and --key-file",
                "KEYHEARTH_CERT_FILE and KEYHEARTH_KEY_FILE",
            ));
        }
        let identity = identity.as_ref().map(|(chain, key)| (chain.as_slice(), key.as_slice()));
        let client = Client::new(url, &ca, identity)?;
        let client = match &flags.reason {
            Some(reason) => client.because(reason),
            None => client,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Server { client, runtime })
    }

    /// Prints an answer: as it came, or as a record.
    pub fn show(&self, answer: &impl Serialize) -> Result<(), Failure> {
        if self.0.manner.json { self.raw(answer) } else { output::line(&output::record(&value(answer)?)) }
    }

    /// Prints an answer: as it came, or as a table with a hint where there is more.
    pub fn list(
        &self,
        answer: &impl Serialize,
        heads: &[&str],
        rows: impl IntoIterator<Item = Vec<String>>,
    ) -> Result<(), Failure> {
        if self.0.manner.json {
            return self.raw(answer);
        }
        let rows: Vec<_> = rows.into_iter().collect();
        if rows.is_empty() {
            self.hint("nothing");
            return Ok(());
        }
        output::line(&output::table(heads, &rows))?;
        self.next(answer)
    }

    /// Says on standard error how to go on, where there is more.
    pub fn next(&self, answer: &impl Serialize) -> Result<(), Failure> {
        let next = &value(answer)?["next"];
        if let Some(cursor) = next.as_str() {
            self.hint(&format!("more: --after {cursor}"));
        } else if let Some(index) = next.as_u64() {
            self.hint(&format!("more: --from {index}"));
        }
        Ok(())
    }

    /// Prints an answer in these words, or as it came.
    pub fn say(&self, answer: &impl Serialize, words: &str) -> Result<(), Failure> {
        if self.0.manner.json { self.raw(answer) } else { output::line(words) }
    }

    /// Prints on standard error what is good to know, unless `--quiet`.
    pub fn hint(&self, text: &str) {
        if !self.0.manner.quiet && !self.0.manner.json {
            eprintln!("{text}");
        }
    }

    fn raw(&self, answer: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(answer).map(zeroize::Zeroizing::new);
        output::line(&text.map_err(|error| Failure::new(error, "report this"))?)
    }
}

fn value(answer: &impl Serialize) -> Result<serde_json::Value, Failure> {
    serde_json::to_value(answer).map_err(|error| Failure::new(error, "report this"))
}

fn missing(what: &str, flag: &str, variable: &str) -> Failure {
    Failure::new(format_args!("{what} is not given"), format_args!("give {flag} or set {variable}"))
}

/// A connection to a server, for commands that do one thing after the other.
pub struct Server {
    client: Client,
    runtime: Runtime,
}

impl Server {
    /// The server and the identity that the environment names.
    pub fn from_env() -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = { runtime.block_on(async { Client::from_env() })? };
        Ok(Self { client, runtime })
    }

    /// Waits for an answer.
    pub fn wait<T>(
        &self,
        answer: impl Future<Output = Result<T, keyhearth_client::Error>>,
    ) -> Result<T, Failure> {
        Ok(self.runtime.block_on(answer)?)
    }
}

impl Deref for Server {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.client
    }
}
