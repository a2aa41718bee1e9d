//! Requests to the servers: TLS 1.3 with a pinned CA, over TCP, each with a deadline.
//!
//! TLS is not what makes a release secret or fresh: keys are sealed to this machine's ephemeral key, and what is
//! released is signed. So the machine's clock, by which certificates are judged, need not be right to the day.
//!
//! Called by [`crate::run`] and [`crate::confirm`].

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};
use serde::{Deserialize, Deserializer, de};

use crate::http::{self, Answer};
use crate::resolve::{self, RESOLV_CONF};

const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// How long one request takes at most, from its first byte to the last of the answer.
const EXCHANGE_WAIT: Duration = Duration::from_secs(30);
const CA_BYTES_MAX: u64 = 256 << 10;
/// How often the services of a cloud's host are asked for one thing, and how long after a failure.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// Asks a service of a cloud's host until it answers, a few times: they are busy for moments, and a boot is not given up for one.
///
/// # Errors
/// The last one.
pub(crate) fn patiently<T, E>(ask: impl Fn() -> Result<T, E>) -> Result<T, E> {
    for _ in 1..ATTEMPTS {
        if let Ok(answer) = ask() {
            return Ok(answer);
        }
        thread::sleep(PAUSE);
    }
    ask()
}

/// A server's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    host: String,
    port: u16,
    /// As in a URL: IPv6 in brackets.
    authority: String,
}

impl FromStr for Server {
    type Err = &'static str;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        let rule = "a server is https://HOST:PORT, without a path";
        let authority = url.strip_prefix("https://").ok_or(rule)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let (host, port) = authority.rsplit_once(':').ok_or(rule)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(rule)?;
        ServerName::try_from(host).map_err(|_| rule)?;
        Ok(Self { host: host.to_owned(), port, authority: authority.to_owned() })
    }
}

impl<'de> Deserialize<'de> for Server {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority)
    }
}

/// Why a server did not answer.
#[derive(Debug)]
pub enum Error {
    /// Its name has no address.
    Resolve(resolve::Error),
    /// None of its addresses answers; the last one's error.
    Connect(SocketAddr, io::Error),
    /// The connection failed, its certificate perhaps, or the answer.
    Exchange(http::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve(error) => write!(f, "its name has no address: {error}"),
            Self::Connect(address, error) => write!(f, "no connection to {address}: {error}"),
            Self::Exchange(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

/// What all requests have in common.
pub struct Transport {
    tls: Arc<ClientConfig>,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}

impl Transport {
    /// Reads the pinned CA, PEM with at least one certificate.
    ///
    /// # Errors
    /// The error of reading, or [`io::ErrorKind::InvalidData`] if it is no CA.
    pub fn new(ca: &Path) -> io::Result<Self> {
        let mut pem = Vec::new();
        fs::File::open(ca)?.take(CA_BYTES_MAX).read_to_end(&mut pem)?;
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "it holds no CA certificate in PEM");
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(&pem) {
            roots.add(root.map_err(|_| invalid())?).map_err(|_| invalid())?;
        }
        if roots.is_empty() {
            return Err(invalid());
        }
        let mut tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has suites of TLS 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        tls.resumption = rustls::client::Resumption::disabled();
        Ok(Self { tls: Arc::new(tls) })
    }

    /// Sends JSON to `path` of `server`.
    ///
    /// # Errors
    /// [`Error`]; whether the server acted is not known after [`Error::Exchange`].
    pub fn post(&self, server: &Server, path: &str, body: &[u8]) -> Result<Answer, Error> {
        // Without a list of DNS servers a literal address still works.
        let resolv_conf = fs::read_to_string(RESOLV_CONF).unwrap_or_default();
        let addresses =
            resolve::addresses(&server.host, &resolve::servers(&resolv_conf)).map_err(Error::Resolve)?;
        let stream = connect(&addresses, server.port)?;
        let exchange = |error| Error::Exchange(http::Error::Io(error));
        stream.set_nodelay(true).map_err(exchange)?;
        let mut timed = Timed { stream, deadline: Instant::now() + EXCHANGE_WAIT };
        let name = ServerName::try_from(server.host.clone()).expect("it was a name when it was read");
        let mut connection = ClientConnection::new(Arc::clone(&self.tls), name)
            .map_err(|error| exchange(io::Error::other(error)))?;
        let mut stream = Stream::new(&mut connection, &mut timed);
        http::post(&mut stream, &server.authority, path, body).map_err(Error::Exchange)
    }
}

fn connect(addresses: &[IpAddr], port: u16) -> Result<TcpStream, Error> {
    let mut failed = Error::Resolve(resolve::Error::NoSuchName);
    for address in addresses {
        let address = SocketAddr::new(*address, port);
        match TcpStream::connect_timeout(&address, CONNECT_WAIT) {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = Error::Connect(address, error),
        }
    }
    Err(failed)
}

/// A stream that ends at a time, however slowly its peer speaks.
pub(crate) struct Timed {
    stream: TcpStream,
    deadline: Instant,
}

impl Timed {
    /// Connects to an address; all of it takes no longer than `wait`.
    pub(crate) fn connect(address: SocketAddr, wait: Duration) -> io::Result<Self> {
        let deadline = Instant::now() + wait;
        Ok(Self { stream: TcpStream::connect_timeout(&address, wait)?, deadline })
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

impl Read for Timed {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(out)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
