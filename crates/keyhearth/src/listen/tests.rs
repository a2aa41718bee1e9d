//! Every limit is reached over a real socket. A test waits until the thing happens, however long;
//! limits a test does not set are far beyond the time any test runs.

use std::net::Ipv4Addr;
use std::time::Duration;

use ::http::{StatusCode, Version};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, NamedGroup, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;

const BODY_BYTES_MAX: usize = 1000;
const SHORT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(3600);

fn unlimited() -> Limits {
    Limits {
        handshake: LONG,
        head: LONG,
        body: LONG,
        request: LONG,
        idle: LONG,
        drain: LONG,
        ..Limits::default()
    }
}

/// A certificate authority and what it issued.
struct Authority(CertifiedIssuer<'static, KeyPair>);

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn root(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    fn issue(&self, name: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    fn tls(&self) -> Tls {
        let (chain, key) = self.issue("localhost");
        Tls::new(chain, key, vec![self.root()]).unwrap()
    }

    fn client(&self, identity: Option<Identity>, alpn: &[u8]) -> ClientConfig {
        self.client_of(rustls::DEFAULT_VERSIONS, identity, alpn)
    }

    fn client_of(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        identity: Option<Identity>,
        alpn: &[u8],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.root()).unwrap();
        let builder = ClientConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![alpn.to_vec()];
        config
    }
}

async fn connect(listener: &Listener, config: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(listener.address()).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

/// A listener that runs until its [`Stop`] is dropped, and answers with who asks and how much it sent.
struct Server {
    listener: Arc<Listener>,
    stop: Stop,
    done: tokio::task::JoinHandle<()>,
}

async fn answer(peer: Arc<Peer<()>>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let who = if peer.certificate.is_some() { "known" } else { "anonymous" };
    match read_body(&peer, &mut request.into_body(), BODY_BYTES_MAX).await {
        Ok(body) => Response::new(Full::from(format!("{who} {}", body.len()))),
        Err(error) => Response::builder().status(error.status()).body(Full::default()).unwrap(),
    }
}

fn started<H: Handler<()>>(listener: Arc<Listener>, handler: H) -> Server {
    let (stop, shutdown) = Stop::new();
    let done = tokio::spawn(Arc::clone(&listener).serve(handler, shutdown));
    Server { listener, stop, done }
}

async fn plain(limits: Limits) -> Server {
    let listener = Listener::bind_loopback((Ipv4Addr::LOCALHOST, 0).into(), limits).await.unwrap();
    started(listener, answer)
}

async fn secure(authority: &Authority) -> Server {
    let listener =
        Listener::bind((Ipv4Addr::LOCALHOST, 0).into(), authority.tls(), unlimited()).await.unwrap();
    started(listener, answer)
}

/// Sends `bytes` and returns all that comes back until the server closes; it never closes first.
async fn until_closed(server: &Server, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.listener.address()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A cut connection may end in a reset; what came before it counts.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

/// One HTTP/1.1 exchange on a connection that is then left open.
async fn exchange<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
    stream: &mut S,
) -> io::Result<String> {
    stream.write_all(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc").await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b" 3") {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(String::from_utf8(answer).unwrap())
}

fn cut(server: &Server) -> u64 {
    server.listener.counters().cut.load(Ordering::Relaxed)
}

#[tokio::test]
async fn slow_headers_are_cut() {
    let server = plain(Limits { head: SHORT, ..unlimited() }).await;
    assert_eq!(until_closed(&server, b"GET / HTTP/1.1\r\nHost: loc").await, "");
    assert_eq!(cut(&server), 1);
}

#[tokio::test]
async fn slow_body_is_told_and_cut() {
    let server = plain(Limits { body: SHORT, ..unlimited() }).await;
    let answer =
        until_closed(&server, b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn a_request_that_hangs_is_cut() {
    let limits = Limits { request: SHORT, head: SHORT, ..unlimited() };
    let listener = Listener::bind_loopback((Ipv4Addr::LOCALHOST, 0).into(), limits).await.unwrap();
    let server = started(listener, |_: Arc<Peer<()>>, _| std::future::pending());
    assert_eq!(until_closed(&server, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await, "");
    assert_eq!(cut(&server), 1);
}

#[tokio::test]
async fn idle_connection_is_closed() {
    let server = plain(Limits { idle: SHORT, head: SHORT, ..unlimited() }).await;
    let answer = until_closed(&server, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(until_closed(&server, b"").await, "");
    assert_eq!(cut(&server), 0, "an idle connection is closed in peace");
}

#[tokio::test]
async fn oversize_headers_are_refused() {
    let server = plain(unlimited()).await;
    let long =
        format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(HEADER_BYTES_MAX as usize));
    let answer = until_closed(&server, long.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let many = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(HEADERS_MAX));
    let answer = until_closed(&server, many.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn oversize_body_is_refused() {
    let server = plain(unlimited()).await;
    let announced = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\n\r\n";
    let answer = until_closed(&server, announced).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let mut chunked = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..11 {
        chunked.extend_from_slice(b"64\r\n");
        chunked.extend_from_slice(&[b'x'; 100]);
        chunked.extend_from_slice(b"\r\n");
    }
    let answer = until_closed(&server, &chunked).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn a_body_in_pieces_is_joined_up_to_the_limit() {
    let server = plain(unlimited()).await;
    let mut chunked =
        b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
            .to_vec();
    for _ in 0..10 {
        chunked.extend_from_slice(b"64\r\n");
        chunked.extend_from_slice(&[b'x'; 100]);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let answer = until_closed(&server, &chunked).await;
    assert!(answer.ends_with("\r\n\r\nanonymous 1000"), "{answer}");
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once() {
    let server = plain(Limits { connections_max: 1, ..unlimited() }).await;
    let mut first = TcpStream::connect(server.listener.address()).await.unwrap();
    exchange(&mut first).await.unwrap();
    assert_eq!(until_closed(&server, b"").await, "");
    assert_eq!(server.listener.counters().refused.load(Ordering::Relaxed), 1);
    exchange(&mut first).await.unwrap();
    drop(first);
    while server.listener.counters().open.load(Ordering::Relaxed) > 0 {
        tokio::task::yield_now().await;
    }
    exchange(&mut TcpStream::connect(server.listener.address()).await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_client_silent_in_the_handshake_is_cut() {
    let tls = Authority::new("ours").tls();
    let limits = Limits { handshake: SHORT, ..unlimited() };
    let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into(), tls, limits).await.unwrap();
    let server = started(listener, answer);
    assert_eq!(until_closed(&server, b"").await, "");
    assert_eq!(server.listener.counters().handshakes_failed.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_client_may_be_known_or_anonymous() {
    let authority = Authority::new("ours");
    let server = secure(&authority).await;
    let mut known =
        connect(&server.listener, authority.client(Some(authority.issue("app")), b"http/1.1")).await.unwrap();
    assert!(exchange(&mut known).await.unwrap().ends_with("known 3"));
    let group = known.get_ref().1.negotiated_key_exchange_group().unwrap();
    assert_eq!(group.name(), NamedGroup::X25519MLKEM768);
    let mut anonymous = connect(&server.listener, authority.client(None, b"http/1.1")).await.unwrap();
    assert!(exchange(&mut anonymous).await.unwrap().ends_with("anonymous 3"));
}

#[tokio::test]
async fn a_foreign_certificate_is_refused() {
    let (authority, foreign) = (Authority::new("ours"), Authority::new("foreign"));
    let server = secure(&authority).await;
    let config = authority.client(Some(foreign.issue("app")), b"http/1.1");
    // In TLS 1.3 a client learns of the refusal only when it reads.
    let refused = async { exchange(&mut connect(&server.listener, config).await?).await };
    let refused = refused.await.unwrap_err();
    assert!(refused.to_string().contains("UnknownCA"), "{refused}");
    assert_eq!(server.listener.counters().handshakes_failed.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn no_session_is_resumed() {
    let authority = Authority::new("ours");
    let server = secure(&authority).await;
    for version in [&TLS13, &TLS12] {
        let config = authority.client_of(&[version], Some(authority.issue("app")), b"http/1.1");
        for _ in 0..2 {
            let mut stream = connect(&server.listener, config.clone()).await.unwrap();
            assert!(exchange(&mut stream).await.unwrap().ends_with("known 3"));
            assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        }
    }
}

#[tokio::test]
async fn reload_holds_for_new_connections() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let server = secure(&old).await;
    let mut before = connect(&server.listener, old.client(None, b"http/1.1")).await.unwrap();
    exchange(&mut before).await.unwrap();
    server.listener.reload(new.tls());
    assert!(connect(&server.listener, old.client(None, b"http/1.1")).await.is_err());
    let config = new.client(Some(new.issue("app")), b"http/1.1");
    let mut after = connect(&server.listener, config).await.unwrap();
    assert!(exchange(&mut after).await.unwrap().ends_with("known 3"));
    exchange(&mut before).await.unwrap();
}

#[tokio::test]
async fn http2_is_spoken_when_asked_for() {
    let authority = Authority::new("ours");
    let server = secure(&authority).await;
    let stream = connect(&server.listener, authority.client(None, b"h2")).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..3 {
        let request = Request::get("https://localhost/").body(Empty::<Bytes>::new()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!((response.status(), response.version()), (StatusCode::OK, Version::HTTP_2));
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "anonymous 0");
    }
    let long = "x".repeat(HEADER_BYTES_MAX as usize);
    let request = Request::get("https://localhost/").header("x", long).body(Empty::<Bytes>::new()).unwrap();
    assert_eq!(
        sender.send_request(request).await.unwrap().status(),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    );
}

#[tokio::test]
async fn shutdown_finishes_what_runs() {
    let (arrived, release) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let listener = Listener::bind_loopback((Ipv4Addr::LOCALHOST, 0).into(), unlimited()).await.unwrap();
    let server = started(listener, {
        let (arrived, release) = (Arc::clone(&arrived), Arc::clone(&release));
        move |_: Arc<Peer<()>>, _| {
            let (arrived, release) = (Arc::clone(&arrived), Arc::clone(&release));
            async move {
                arrived.add_permits(1);
                release.acquire().await.unwrap().forget();
                Response::new(Full::from("finished"))
            }
        }
    });
    let mut idle = TcpStream::connect(server.listener.address()).await.unwrap();
    let request = until_closed(&server, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let shutdown = async {
        arrived.acquire().await.unwrap().forget();
        server.stop.request();
        assert_eq!(idle.read(&mut [0]).await.unwrap(), 0, "an idle connection is closed at once");
        release.add_permits(1);
    };
    let (answer, ()) = tokio::join!(request, shutdown);
    assert!(answer.ends_with("\r\n\r\nfinished"), "{answer}");
    server.done.await.unwrap();
}

#[tokio::test]
async fn shutdown_does_not_wait_for_ever() {
    let listener =
        Listener::bind_loopback((Ipv4Addr::LOCALHOST, 0).into(), Limits { drain: SHORT, ..unlimited() });
    let arrived = Arc::new(Semaphore::new(0));
    let server = started(listener.await.unwrap(), {
        let arrived = Arc::clone(&arrived);
        move |_: Arc<Peer<()>>, _| {
            arrived.add_permits(1);
            std::future::pending()
        }
    });
    let mut stream = TcpStream::connect(server.listener.address()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    arrived.acquire().await.unwrap().forget();
    server.stop.request();
    server.done.await.unwrap();
}

#[tokio::test]
async fn only_loopback_goes_without_tls() {
    let refused = Listener::bind_loopback((Ipv4Addr::UNSPECIFIED, 0).into(), unlimited()).await;
    assert!(matches!(refused, Err(ListenError::NotLoopback(_))));
}
