//! The client side of a measurement: a closed loop over a fixed number of connections.
//!
//! Each connection speaks HTTP/1.1, is kept alive as long as the server likes, and sends its next
//! request when the last one is answered. It runs in its own process, and its HTTP is written by
//! hand, because what the client costs is taken from the server on the same machine.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use keyhearth_core::time::Time;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::error::Error;
use super::histogram::Histogram;
use super::request::{Outgoing, Request};
use crate::listen::tls;

/// Most bytes of an answer; a longer one is an error.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most bytes of a refusal that are shown.
const REFUSAL_BYTES_SHOWN: usize = 300;

/// A server to measure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// How it is secured; absent if it is not.
    pub tls: Option<Tls>,
}

/// What a client believes and shows. All texts but the name are PEM.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tls {
    /// The name that the server's certificate must carry.
    pub server_name: String,
    /// Whose certificates to believe.
    pub roots: String,
    /// The client's certificate; absent if the server asks for none.
    pub client: Option<Certificate>,
}

/// A client's certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Certificate {
    /// Its chain.
    pub chain: String,
    /// Its private key.
    pub key: String,
}

/// What the load process reads from its standard input.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    /// The server.
    pub target: Target,
    /// Sent over and over.
    pub request: Request,
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

/// Runs a job.
///
/// # Errors
/// If a connection can not be opened. A request that fails is counted instead.
pub fn run(job: &Job) -> Result<Measurement, Error> {
    let way = Arc::new(Way::to(&job.target)?);
    // A run lasts for seconds and sends fewer requests in each than this leaves room for.
    let seconds = present().unix_ms() / 1000;
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
                let (shared, way) = (&shared, &way);
                scope.spawn(move || worker(job, connections, way, shared))
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
fn worker(job: &Job, connections: usize, way: &Arc<Way>, shared: &Arc<Shared>) -> Result<Tally, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let mut opened = Ok(Vec::with_capacity(connections));
        for _ in 0..connections {
            match (Connection::open(way).await, &mut opened) {
                (Ok(connection), Ok(open)) => open.push(connection),
                (Err(error), _) => opened = Err(error),
                (Ok(_), Err(_)) => {}
            }
        }
        shared.opened.wait();
        let mut loops = JoinSet::new();
        for connection in opened? {
            loops.spawn(closed_loop(connection, Outgoing::new(&job.request), Arc::clone(shared)));
        }
        let mut total = Tally::default();
        while let Some(tally) = loops.join_next().await {
            total.merge(tally.map_err(|_| Error::Panicked)?);
        }
        Ok(total)
    })
}

/// Sends request after request until the time is up or one is refused.
async fn closed_loop(mut connection: Connection, mut outgoing: Outgoing, shared: Arc<Shared>) -> Tally {
    let from = *shared.start.get_or_init(Instant::now) + shared.warm_up;
    let until = from + shared.measure;
    let mut tally = Tally::default();
    loop {
        let sent = Instant::now();
        let request = outgoing.number(shared.sequence.fetch_add(1, Ordering::Relaxed), present());
        let refusal = match connection.exchange(request).await {
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

/// The wall clock.
pub fn present() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_unix_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// How connections to a target are opened.
pub struct Way {
    address: SocketAddr,
    tls: Option<(ServerName<'static>, TlsConnector)>,
}

impl Way {
    /// TLS, if any, is version 1.3.
    ///
    /// # Errors
    /// If a text of `target` is not the PEM or the name it should be.
    pub fn to(target: &Target) -> Result<Self, Error> {
        let tls = target.tls.as_ref().map(|tls| {
            let name = ServerName::try_from(tls.server_name.clone())?;
            Ok::<_, Error>((name, TlsConnector::from(Arc::new(client_config(tls)?))))
        });
        Ok(Self { address: target.address, tls: tls.transpose()? })
    }

    async fn open(&self) -> io::Result<Box<dyn Duplex>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(match &self.tls {
            Some((name, tls)) => Box::new(tls.connect(name.clone(), stream).await?),
            None => Box::new(stream),
        })
    }
}

fn client_config(with: &Tls) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    for root in tls::certificates(with.roots.as_bytes())? {
        roots.add(root)?;
    }
    let config = ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots);
    let mut config = match &with.client {
        Some(Certificate { chain, key }) => config.with_client_auth_cert(
            tls::certificates(chain.as_bytes())?,
            PrivateKeyDer::from_pem_slice(key.as_bytes())?,
        )?,
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![tls::ALPN_HTTP1.to_vec()];
    Ok(config)
}

/// Bytes both ways.
trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

/// A connection, opened again when the server has closed it after an answer.
pub struct Connection {
    way: Arc<Way>,
    stream: Option<Box<dyn Duplex>>,
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
    pub async fn open(way: &Arc<Way>) -> Result<Self, Error> {
        let stream = Some(way.open().await?);
        Ok(Self { way: Arc::clone(way), stream, inbound: Vec::with_capacity(8192) })
    }

    /// Sends the bytes of one request and reads its answer, which must announce its length.
    ///
    /// # Errors
    /// If the connection breaks or the answer is not HTTP.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<Answer<'_>> {
        let Self { way, stream, inbound } = self;
        let open = match stream {
            Some(open) => open,
            None => stream.insert(way.open().await?),
        };
        open.write_all(request).await?;
        open.flush().await?;
        inbound.clear();
        let head = loop {
            read_some(open, inbound).await?;
            if let Some(head) = Head::parse(inbound)? {
                break head;
            }
        };
        while inbound.len() < head.bytes + head.body_bytes {
            read_some(open, inbound).await?;
        }
        if head.closes {
            *stream = None;
        }
        Ok(Answer { status: head.status, body: &inbound[head.bytes..head.bytes + head.body_bytes] })
    }
}

async fn read_some(from: &mut Box<dyn Duplex>, inbound: &mut Vec<u8>) -> io::Result<()> {
    if inbound.len() > ANSWER_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    match from.read_buf(inbound).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// What must be known of an answer's head.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    bytes: usize,
    body_bytes: usize,
    /// The server closes the connection after this answer.
    closes: bool,
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
        let status = status.and_then(|digits| digits.parse().ok()).ok_or_else(not_http)?;
        let mut head = Self { status, bytes: end + 4, body_bytes: 0, closes: false };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("content-length") {
                let bytes = value.trim().parse().ok().filter(|&bytes| bytes <= ANSWER_BYTES_MAX);
                head.body_bytes = bytes.ok_or_else(not_http)?;
            } else if name.eq_ignore_ascii_case("connection") {
                head.closes = value.trim().eq_ignore_ascii_case("close");
            }
        }
        Ok(Some(head))
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
            Some(Head { status: 404, bytes: text.len() - 3, body_bytes: 12, closes: false })
        );
        let closed = Head::parse(b"HTTP/1.1 200 OK\r\nconnection: Close\r\n\r\n").unwrap();
        assert_eq!(closed, Some(Head { status: 200, bytes: 38, body_bytes: 0, closes: true }));
        for broken in ["HTTP/1.0 200 OK", "HTTP/1.1 2", "HTTP/1.1 200 OK\r\ncontent-length: -1", ""] {
            assert!(Head::parse(format!("{broken}\r\n\r\n").as_bytes()).is_err(), "{broken}");
        }
    }
}
