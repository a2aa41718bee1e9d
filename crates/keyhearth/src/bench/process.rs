//! A measurement runs in processes of their own, each this same program under a hidden verb.
//!
//! A job goes in as one line of JSON on standard input, which keeps private keys out of arguments
//! and files. A server prints `ready ADDRESS` and serves until its input ends, so that it can not
//! outlive whoever started it; a client prints its measurement and ends.

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::Error;
use super::{bare, load};
use crate::listen::Stop;

/// Verb of the load process.
pub const LOAD: &str = "bench-load";
/// Verb of the bare server's process.
pub const BARE: &str = "bench-bare";

const READY: &str = "ready ";

/// A running process; ended when dropped.
pub struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Process {
    /// Starts this program with `arguments` and gives it `job`.
    ///
    /// # Errors
    /// If it can not be started.
    pub fn start(arguments: &[&str], job: &impl Serialize) -> Result<Self, Error> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut input = child.stdin.take().expect("its standard input was asked to be a pipe");
        let output = BufReader::new(child.stdout.take().expect("its standard output was asked to be a pipe"));
        let mut line = serde_json::to_vec(job)?;
        line.push(b'\n');
        input.write_all(&line)?;
        Ok(Self { child, input: Some(input), output })
    }

    /// Waits until a server is ready.
    ///
    /// # Errors
    /// If it ends or says something else.
    pub fn address(&mut self) -> Result<SocketAddr, Error> {
        let line = self.line()?;
        line.strip_prefix(READY).and_then(|address| address.parse().ok()).ok_or(Error::NotReady)
    }

    /// Waits for a result.
    ///
    /// # Errors
    /// If the process ends without one.
    pub fn result<T: DeserializeOwned>(mut self) -> Result<T, Error> {
        Ok(serde_json::from_str(&self.line()?)?)
    }

    fn line(&mut self) -> Result<String, Error> {
        let mut line = String::new();
        match self.output.read_line(&mut line)? {
            0 => Err(Error::Ended),
            _ => Ok(line.trim_end().to_owned()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// Announces a server to the process that started it.
pub fn announce(address: SocketAddr) {
    println!("{READY}{address}");
}

/// Requests `stop` when standard input ends.
pub fn stop_with_input(stop: Stop) {
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        stop.request();
    });
}

/// The load process.
///
/// # Errors
/// If the job is unreadable or a connection can not be opened.
pub fn run_load() -> Result<(), Error> {
    let measurement = load::run(&job::<load::Job>()?)?;
    println!("{}", serde_json::to_string(&measurement)?);
    Ok(())
}

/// The bare server's process.
///
/// # Errors
/// If the job is unreadable or its certificates are unusable.
pub fn run_bare() -> Result<(), Error> {
    let job = job::<bare::Job>()?;
    let (stop, shutdown) = Stop::new();
    stop_with_input(stop);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(bare::serve(&job, announce, shutdown))
}

/// The job that a process of ours reads.
pub(super) fn job<T: DeserializeOwned>() -> Result<T, Error> {
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}
