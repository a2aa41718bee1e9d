//! Connections to one server: made when needed, kept while idle, used for one request at a time.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use crate::{ConfigurationError, Error};

/// How many idle connections are kept.
const IDLE_MAX: usize = 16;
/// How long making a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// The longest answer that is read; files of the log are the longest there are.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// The server's word that it is this client's certificate for which it made no connection, if it said so. What a client says of
/// the server's certificate is not among it: whoever that was is not the server.
fn refused(error: &(dyn std::error::Error + 'static)) -> Option<Error> {
    use AlertDescription as Alert;
    let of_tls = |error: &(dyn std::error::Error + 'static)| {
        let inner = error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref::<rustls::Error>()?;
        let &rustls::Error::AlertReceived(alert) = inner else { return None };
        let is_of_certificate = matches!(
            alert,
            Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied
                | Alert::DecryptError
                | Alert::CertificateRequired
        );
        is_of_certificate.then_some(Error::Certificate(alert))
    };
    std::iter::successors(Some(error), |error| error.source()).find_map(of_tls)
}

type Sender = SendRequest<Full<Bytes>>;

/// An answer, read to its end.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Zeroizing<Vec<u8>>,
}

/// One server and the idle connections to it.
pub(crate) struct Server {
    host: String,
    port: u16,
    name: ServerName<'static>,
    connector: TlsConnector,
    idle: Mutex<Vec<Sender>>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.authority())
    }
}

impl Server {
    pub(crate) fn new(
        host: String,
        port: u16,
        config: Arc<ClientConfig>,
    ) -> Result<Self, ConfigurationError> {
        let name = ServerName::try_from(host.clone()).map_err(|_| ConfigurationError::Url)?;
        Ok(Self { host, port, name, connector: config.into(), idle: Mutex::new(Vec::new()) })
    }

    /// The value of the `Host` header.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Sends one request and reads its answer.
    ///
    /// An idle connection that turns out to be closed before it took the request is replaced.
    pub(crate) async fn send(&self, mut request: Request<Full<Bytes>>) -> Result<Answer, Error> {
        while let Some(mut idle) = self.take() {
            match idle.try_send_request(request).await {
                Ok(response) => return self.finish(idle, response).await,
                Err(mut error) => match error.take_message() {
                    Some(untouched) => request = untouched,
                    None => return Err(Error::Broken(error.into_error())),
                },
            }
        }
        let connecting = timeout(CONNECT, self.connect()).await;
        let late = || io::Error::from(io::ErrorKind::TimedOut);
        let mut sender = connecting
            .unwrap_or_else(|_| Err(late()))
            .map_err(|error| refused(&error).unwrap_or(Error::Unreachable(error)))?;
        let response = sender.send_request(request).await;
        // In TLS 1.3 the server looks at the certificate when the client is through with the handshake.
        let response = response.map_err(|error| refused(&error).unwrap_or(Error::Broken(error)))?;
        self.finish(sender, response).await
    }

    fn take(&self) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| idle.pop()).find(Sender::is_ready)
    }

    async fn connect(&self) -> io::Result<Sender> {
        let tcp = TcpStream::connect((&*self.host, self.port)).await?;
        tcp.set_nodelay(true)?;
        let tls = self.connector.connect(self.name.clone(), tcp).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(tls)).await.map_err(io::Error::other)?;
        // It ends when the server closes it or its sender is dropped; whoever waits on the sender learns why.
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn finish(&self, mut sender: Sender, response: Response<Incoming>) -> Result<Answer, Error> {
        let status = response.status().as_u16();
        let length = response.headers().get(http::header::CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(4096_usize);
        let mut answer = Zeroizing::new(Vec::with_capacity(length.min(ANSWER_BYTES_MAX)));
        let mut incoming = response.into_body();
        while let Some(frame) = incoming.frame().await {
            let Ok(piece) = frame.map_err(Error::Broken)?.into_data() else { continue };
            if answer.len() + piece.len() > ANSWER_BYTES_MAX {
                return Err(Error::Answer);
            }
            answer.extend_from_slice(&piece);
        }
        if sender.ready().await.is_ok() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < IDLE_MAX {
                idle.push(sender);
            }
        }
        Ok(Answer { status, body: answer })
    }
}
