//! The client side of a measurement: a closed loop over a fixed number of connections.
//!
//! Each connection is kept alive, speaks HTTP/1.1 over TLS with a client certificate, and sends
//! its next request when the last one is answered. It runs in its own process, and its HTTP is
//! written by hand, because what the client costs is taken from the server on the same machine.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::Error;
use super::histogram::Histogram;
use crate::listen::tls;

/// Stands in a request for 16 hexadecimal digits that no other request of any run has.
pub const SEQUENCE: &str = "@@sequence-hex@@";

/// Most bytes of an answer; a longer one is an error.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most bytes of a refusal that are shown.
const REFUSAL_BYTES_SHOWN: usize = 300;

/// A server to measure, and the identity to measure it with. All texts are PEM.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// The name its certificate must carry.
    pub server_name: String,
    /// Whose certificates to believe.
    pub roots: String,
    /// The client's certificate chain.
    pub chain: String,
    /// The client's private key.
    pub key: String,
}

/// What the load process reads from its standard input.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    /// The server.
    pub target: Target,
    /// Sent over and over. [`SEQUENCE`] in it is replaced each time.
    pub request: String,
    /// Connections, each with one request at a time.
    pub connections: usize,
    /// Threads the connections are shared out to.
    pub threads: usize,
    /// Time before measuring, in milliseconds.
    pub warm_up_ms: u64,
    /// Time measured, in milliseconds.
    pub measure_ms: u64,
}

/// What the load process prints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measurement {
    /// Answers per second.
    pub ops_s: f64,
    /// Half of the answers came within this many microseconds.
    pub p50_us: f64,
    /// 99 of 100 answers came within this many microseconds.
    pub p99_us: f64,
    /// Connections given up because a request on them was not answered with a 2xx status.
    pub errors: u64,
    /// The first of them.
    pub first_error: Option<String>,
}

/// The bytes of an HTTP/1.1 request with a JSON body.
pub fn request(method: &str, path: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Runs a job.
///
/// # Errors
/// If a connection can not be opened. A request that fails is counted instead.
pub fn run(job: &Job) -> Result<Measurement, Error> {
    let config = client_config(&job.target)?;
    // A run lasts for seconds and sends fewer requests in each than this leaves room for.
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let threads = job.threads.clamp(1, job.connections.max(1));
    let shared = Arc::new(Shared {
        sequence: AtomicU64::new(seconds * 1_000_000_000),
        opened: Barrier::new(threads),
        start: OnceLock::new(),
        warm_up: Duration::from_millis(job.warm_up_ms),
        measure: Duration::from_millis(job.measure_ms),
    });
    let mut total = Tally::default();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let connections = (thread..job.connections).step_by(threads).len();
                let (shared, config) = (&shared, &config);
                scope.spawn(move || worker(job, connections, config, shared))
            })
            .collect();
        for worker in workers {
            total.merge(worker.join().map_err(|_| Error::Panicked)??);
        }
        Ok::<_, Error>(())
    })?;
    Ok(Measurement {
        ops_s: total.latency_ns.count() as f64 / shared.measure.as_secs_f64(),
        p50_us: total.latency_ns.quantile(0.50) as f64 / 1000.0,
        p99_us: total.latency_ns.quantile(0.99) as f64 / 1000.0,
        errors: total.errors,
        first_error: total.first_error,
    })
}

/// What all connections of a job have in common.
struct Shared {
    sequence: AtomicU64,
    opened: Barrier,
    start: OnceLock<Instant>,
    warm_up: Duration,
    measure: Duration,
}

#[derive(Default)]
struct Tally {
    latency_ns: Histogram,
    errors: u64,
    first_error: Option<String>,
}

impl Tally {
    fn merge(&mut self, other: Self) {
        self.latency_ns.merge(&other.latency_ns);
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
    }
}

/// One thread: opens its connections, waits for the other threads, and drives the load.
fn worker(
    job: &Job,
    connections: usize,
    config: &Arc<ClientConfig>,
    shared: &Arc<Shared>,
) -> Result<Tally, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let mut opened = Ok(Vec::with_capacity(connections));
        for _ in 0..connections {
            match (Connection::open(&job.target, Arc::clone(config)).await, &mut opened) {
                (Ok(connection), Ok(open)) => open.push(connection),
                (Err(error), _) => opened = Err(error),
                (Ok(_), Err(_)) => {}
            }
        }
        shared.opened.wait();
        let mut loops = JoinSet::new();
        for connection in opened? {
            loops.spawn(closed_loop(connection, job.request.clone().into_bytes(), Arc::clone(shared)));
        }
        let mut total = Tally::default();
        while let Some(tally) = loops.join_next().await {
            total.merge(tally.map_err(|_| Error::Panicked)?);
        }
        Ok(total)
    })
}

/// Sends request after request until the time is up or one is refused.
async fn closed_loop(mut connection: Connection, mut request: Vec<u8>, shared: Arc<Shared>) -> Tally {
    let marks: Vec<_> = request
        .windows(SEQUENCE.len())
        .enumerate()
        .filter(|(_, w)| *w == SEQUENCE.as_bytes())
        .map(|(at, _)| at)
        .collect();
    let from = *shared.start.get_or_init(Instant::now) + shared.warm_up;
    let until = from + shared.measure;
    let mut tally = Tally::default();
    loop {
        if !marks.is_empty() {
            let sequence = format!("{:016x}", shared.sequence.fetch_add(1, Ordering::Relaxed));
            for &at in &marks {
                request[at..at + SEQUENCE.len()].copy_from_slice(sequence.as_bytes());
            }
        }
        let sent = Instant::now();
        let refusal = match connection.exchange(&request).await {
            Ok(answer) if (200..300).contains(&answer.status) => None,
            Ok(answer) => Some(answer.refusal()),
            Err(error) => Some(error.to_string()),
        };
        let answered = Instant::now();
        if refusal.is_some() {
            return Tally { errors: 1, first_error: refusal, ..tally };
        }
        if answered >= until {
            return tally;
        }
        if sent >= from {
            let latency = answered.duration_since(sent).as_nanos();
            tally.latency_ns.record(usize::try_from(latency).unwrap_or(usize::MAX));
        }
    }
}

/// TLS as the load client speaks it: version 1.3, a client certificate, HTTP/1.1.
///
/// # Errors
/// If a text of `target` is not the PEM it should be.
pub fn client_config(target: &Target) -> Result<Arc<ClientConfig>, Error> {
    let mut roots = RootCertStore::empty();
    for root in tls::certificates(target.roots.as_bytes())? {
        roots.add(root)?;
    }
    let mut config = ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(
            tls::certificates(target.chain.as_bytes())?,
            PrivateKeyDer::from_pem_slice(target.key.as_bytes())?,
        )?;
    config.alpn_protocols = vec![tls::ALPN_HTTP1.to_vec()];
    Ok(Arc::new(config))
}

/// One kept-alive connection.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    inbound: Vec<u8>,
}

/// An answer, in the buffer of the connection it came over.
pub struct Answer<'a> {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: &'a [u8],
}

impl Answer<'_> {
    /// What is shown of an answer that should have been a 2xx.
    pub fn refusal(&self) -> String {
        let shown = &self.body[..self.body.len().min(REFUSAL_BYTES_SHOWN)];
        format!("status {}: {}", self.status, String::from_utf8_lossy(shown))
    }
}

impl Connection {
    /// Connects and shakes hands.
    ///
    /// # Errors
    /// If the server is not there, or either side refuses the other's certificate.
    pub async fn open(target: &Target, config: Arc<ClientConfig>) -> Result<Self, Error> {
        let stream = TcpStream::connect(target.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(target.server_name.clone())?;
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        Ok(Self { stream, inbound: Vec::with_capacity(8192) })
    }

    /// Sends the bytes of one request and reads its answer, which must announce its length.
    ///
    /// # Errors
    /// If the connection breaks or the answer is not HTTP.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<Answer<'_>> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        self.inbound.clear();
        let head = loop {
            self.read_some().await?;
            if let Some(head) = Head::parse(&self.inbound)? {
                break head;
            }
        };
        while self.inbound.len() < head.bytes + head.body_bytes {
            self.read_some().await?;
        }
        Ok(Answer { status: head.status, body: &self.inbound[head.bytes..head.bytes + head.body_bytes] })
    }

    async fn read_some(&mut self) -> io::Result<()> {
        if self.inbound.len() > ANSWER_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        match self.stream.read_buf(&mut self.inbound).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// What must be known of an answer's head.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    bytes: usize,
    body_bytes: usize,
}

impl Head {
    /// Reads the head at the start of `bytes`; `None` until it is complete.
    fn parse(bytes: &[u8]) -> io::Result<Option<Self>> {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
        let not_http = || io::Error::from(io::ErrorKind::InvalidData);
        let text = str::from_utf8(&bytes[..end]).map_err(|_| not_http())?;
        let mut lines = text.split("\r\n");
        let status =
            lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).and_then(|line| line.get(..3));
        let body_bytes = lines.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then_some(value.trim())
        });
        Ok(Some(Self {
            status: status.and_then(|digits| digits.parse().ok()).ok_or_else(not_http)?,
            bytes: end + 4,
            body_bytes: match body_bytes {
                Some(digits) => {
                    digits.parse().ok().filter(|&bytes| bytes <= ANSWER_BYTES_MAX).ok_or_else(not_http)?
                }
                None => 0,
            },
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_when_complete() {
        let text = b"HTTP/1.1 404 Not Found\r\nX: y\r\nContent-Length: 12\r\n\r\nabc";
        for end in 0..text.len() - 3 {
            assert_eq!(Head::parse(&text[..end]).unwrap(), None);
        }
        assert_eq!(
            Head::parse(text).unwrap(),
            Some(Head { status: 404, bytes: text.len() - 3, body_bytes: 12 })
        );
        for broken in ["HTTP/1.0 200 OK", "HTTP/1.1 2", "HTTP/1.1 200 OK\r\ncontent-length: -1", ""] {
            assert!(Head::parse(format!("{broken}\r\n\r\n").as_bytes()).is_err(), "{broken}");
        }
    }
}
