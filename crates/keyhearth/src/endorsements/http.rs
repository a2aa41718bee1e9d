//! One GET after another, from services that answer with few and public bytes.
//!
//! TLS keeps others from seeing which chips a deployment has; that what comes is authentic is checked afterwards, by
//! signatures. So a mirror may be asked without TLS.
//!
//! Not here: redirects, proxies and kept connections. Whoever needs a proxy names a mirror.

use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, RETRY_AFTER};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use keyhearth_attest::ENDORSEMENT_BYTES_MAX;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How long one answer may take, from the first byte sent.
const WAIT: Duration = Duration::from_secs(10);
/// Where systems keep the CAs that everybody believes.
const SYSTEM_CAS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
/// The longest file of CAs, in bytes.
const CAS_BYTES_MAX: u64 = 4 << 20;
/// How the names of headers end that hold certificates of issuers.
const ISSUERS: &str = "-issuer-chain";

/// Who asks.
pub struct Client {
    tls: TlsConnector,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// When to come again, if that was said.
    pub retry_after: Option<Duration>,
    /// Certificates of the issuers, in PEM, if they came with it.
    pub issuers: Vec<u8>,
    /// The body.
    pub body: Vec<u8>,
}

impl Client {
    /// A client that believes the CAs of a file (PEM), or those of the system.
    ///
    /// # Errors
    /// The error of reading, or [`io::ErrorKind::InvalidData`] if there is no CA.
    pub fn new(cas: Option<&Path>) -> io::Result<Self> {
        let system = || SYSTEM_CAS.iter().map(Path::new).find(|path| path.exists());
        let mut roots = RootCertStore::empty();
        if let Some(path) = cas.or_else(system) {
            let mut pem = Vec::new();
            std::fs::File::open(path)?.take(CAS_BYTES_MAX).read_to_end(&mut pem)?;
            roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
            if roots.is_empty() {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it holds no CA certificate in PEM"));
            }
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Arc::new(config).into() })
    }

    /// Asks for what `url` names, `https://…` or `http://…`.
    ///
    /// # Errors
    /// The error of connecting, sending or reading; [`io::ErrorKind::TimedOut`] after ten seconds;
    /// [`io::ErrorKind::InvalidData`] for more than an endorsement has.
    pub async fn get(&self, url: &str) -> io::Result<Answer> {
        timeout(WAIT, self.ask(url)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn ask(&self, url: &str) -> io::Result<Answer> {
        let invalid = |what: &'static str| io::Error::new(io::ErrorKind::InvalidInput, what);
        let url: Uri = url.parse().map_err(|_| invalid("this is no URL"))?;
        let authority = url.authority().ok_or_else(|| invalid("the URL has no host"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let secure = url.scheme_str() == Some("https");
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let tcp = TcpStream::connect((host, port)).await?;
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::get(path).header(HOST, authority.as_str()).body(Empty::<Bytes>::new());
        let request = request.map_err(|_| invalid("the URL has no path"))?;
        if !secure {
            return exchange(TokioIo::new(tcp), request).await;
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|_| invalid("the URL's host"))?;
        exchange(TokioIo::new(self.tls.connect(name, tcp).await?), request).await
    }
}

/// One request on a connection of its own.
async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>) -> io::Result<Answer>
where
    S: Read + Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(stream).await.map_err(io::Error::other)?;
    // It ends with the answer; whoever waits on the sender learns why.
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(io::Error::other);
    let answer = match response {
        Ok(response) => read(response).await,
        Err(error) => Err(error),
    };
    connection.abort();
    answer
}

async fn read(response: Response<Incoming>) -> io::Result<Answer> {
    let (head, mut incoming) = response.into_parts();
    let retry_after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let issuers = head.headers.iter().filter(|(name, _)| name.as_str().ends_with(ISSUERS));
    let issuers = issuers.flat_map(|(_, value)| percent_decoded(value.as_bytes())).collect();
    let mut body = Vec::new();
    while let Some(frame) = incoming.frame().await {
        let Ok(piece) = frame.map_err(io::Error::other)?.into_data() else { continue };
        if body.len() + piece.len() > ENDORSEMENT_BYTES_MAX {
            let limit = format!("more than {ENDORSEMENT_BYTES_MAX} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, limit));
        }
        body.extend_from_slice(&piece);
    }
    let retry_after = retry_after.map(Duration::from_secs);
    Ok(Answer { status: head.status.as_u16(), retry_after, issuers, body })
}

/// The bytes that percent-encoding stands for; what is not encoded stays as it is.
///
/// Source: RFC 3986 §2.1.
fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let pair = after.split_first_chunk::<2>();
        let byte = pair
            .filter(|_| *first == b'%')
            .and_then(|([high, low], after)| Some((digit(high)? << 4 | digit(low)?, after)));
        let (byte, after) = byte.unwrap_or((*first, after));
        decoded.push(byte);
        rest = after;
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_is_undone_once() {
        assert_eq!(percent_decoded(b"-----BEGIN%20X-----%0AAb%2B%2525%"), b"-----BEGIN X-----\nAb+%25%");
        assert_eq!(percent_decoded(b"%zz%4"), b"%zz%4");
    }
}
