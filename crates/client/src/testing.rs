//! A real server for the tests of programs that embed the client. It is thrown away when it is dropped.
//!
//! ```no_run
//! use keyhearth_client::{Algorithm, body, testing::Server};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::start()?;
//! let client = server.client();
//! let key = client.create_key(&Algorithm::Aes256.into()).await?.id.to_string();
//! let body = body::Encrypt { mechanism: None, context: None, plaintext: b"hello"[..].into() };
//! assert_eq!(client.encrypt(&key, &body).await?.version, 1);
//! # Ok(()) }
//! ```
//!
//! The server is the program `keyhearth` in another process, on a free port of the loopback interface, with
//! its data in a folder of its own below [`std::env::temp_dir`]: servers can be started side by side.
//! `KEYHEARTH_BIN` names the program (as an absolute path: tests run in the folder of their package); without
//! it, `PATH` has it.
//!
//! Not here: cleaning up after a test that a signal ends. Then the server goes on and the folder stays.

use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::{Client, ConfigurationError};

/// Names the program.
const PROGRAM: &str = "KEYHEARTH_BIN";
/// How long starting may take.
const START: Duration = Duration::from_secs(60);
/// The line that the server writes when it takes requests.
const READY: &str = "ready";

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The program can not be run.
    #[error(
        "cannot run {}: {error}; build it with `cargo build --release -p keyhearth` in Keyhearth's \
         repository, then put it on PATH or its absolute path into {PROGRAM}",
        program.display()
    )]
    Program {
        /// The program.
        program: PathBuf,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// The server ended, or took longer than a minute.
    #[error("the server was not ready {}; it said: {said}", if *late { "in time" } else { "before it ended" })]
    NotReady {
        /// It took too long.
        late: bool,
        /// What it wrote to standard error.
        said: String,
    },
    /// The files of the server can not be used.
    #[error("the server's files: {0}")]
    Files(#[from] io::Error),
    /// What lies in the files of the server is no configuration.
    #[error("the server's files: {0}")]
    Configuration(#[from] ConfigurationError),
}

/// A folder that is removed when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Self> {
        let name = format!("keyhearth-test-{:016x}", RandomState::new().hash_one(PROGRAM));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A test that fails is not to be hidden by what cannot be removed.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The server's process, killed when it is dropped; after that its folder goes.
struct Process {
    child: Child,
    folder: Folder,
}

impl Process {
    fn start(program: OsString) -> Result<Self, StartError> {
        let folder = Folder::new()?;
        let child = Command::new(&program)
            .args(["serve", "--dev", "--data"])
            .arg(folder.0.join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(folder.0.join("stderr"))?)
            .spawn()
            .map_err(|error| StartError::Program { program: program.into(), error })?;
        let mut process = Self { child, folder };
        let stdout = process.child.stdout.take().expect("standard output is piped");
        let (ready, is_ready) = mpsc::channel();
        // It reads to the end, so that the server never writes to a closed pipe.
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if line == READY {
                    let _ = ready.send(());
                }
            }
        });
        is_ready.recv_timeout(START).map_err(|error| StartError::NotReady {
            late: error == mpsc::RecvTimeoutError::Timeout,
            said: fs::read_to_string(process.folder.0.join("stderr")).unwrap_or_default(),
        })?;
        Ok(process)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A certificate and its private key, both PEM.
struct Identity {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

impl Identity {
    fn read(folder: &Path, name: &str) -> io::Result<Self> {
        let read = |ending| fs::read(folder.join(name).with_extension(ending));
        Ok(Self { certificate: read("crt")?, key: read("key")?.into() })
    }
}

/// A running development server: one tenant `dev`, one identity `dev` that may do everything in it.
///
/// Dropping it kills the process and removes its folder, also when a test panics.
pub struct Server {
    url: String,
    ca: Vec<u8>,
    dev: Identity,
    operator: Identity,
    process: Process,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.url)
    }
}

impl Server {
    /// Starts a server and waits until it takes requests, a minute at most. Blocks its thread.
    ///
    /// # Errors
    /// [`StartError`], which says what to do.
    pub fn start() -> Result<Self, StartError> {
        let process = Process::start(std::env::var_os(PROGRAM).unwrap_or_else(|| "keyhearth".into()))?;
        let data = process.folder.0.join("data");
        let env = fs::read_to_string(data.join("dev.env"))?;
        let url =
            |line: &str| Some(line.strip_prefix("export KEYHEARTH_URL='")?.strip_suffix('\'')?.to_owned());
        let server = Self {
            url: env.lines().find_map(url).ok_or(ConfigurationError::Url)?,
            ca: fs::read(data.join("ca.crt"))?,
            dev: Identity::read(&data, "dev")?,
            operator: Identity::read(&data, "operator/operator")?,
            process,
        };
        server.client_of(&server.dev)?;
        server.client_of(&server.operator)?;
        Ok(server)
    }

    /// Where it listens: `https://localhost:` and its port.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its data directory. `dev.env` in it sets up the command line, `dev.passphrase` opens the seal.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.process.folder.0.join("data")
    }

    /// A client of the identity `dev`. Each has connections of its own, as each test has a runtime of its own.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client_of(&self.dev).expect("the same made a client at the start")
    }

    /// A client of the platform operator, who makes tenants and seals, and uses no keys.
    #[must_use]
    pub fn operator(&self) -> Client {
        self.client_of(&self.operator).expect("the same made a client at the start")
    }

    fn client_of(&self, identity: &Identity) -> Result<Client, ConfigurationError> {
        Client::new(&self.url, &self.ca, Some((&identity.certificate, &identity.key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_named_with_what_to_do() {
        let error = Process::start("/nowhere/keyhearth".into()).err().unwrap();
        let text = error.to_string();
        assert!(text.starts_with("cannot run /nowhere/keyhearth: "), "{text}");
        assert!(text.contains("cargo build") && text.contains("KEYHEARTH_BIN"), "{text}");
    }

    #[test]
    fn a_program_that_ends_at_once_is_no_server() {
        let error = Process::start("cat".into()).err().unwrap();
        let StartError::NotReady { late: false, said } = error else { panic!("{error}") };
        assert!(said.contains("--dev"), "cat says which option it does not know: {said}");
    }
}
