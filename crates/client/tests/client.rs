//! The client against a server that answers by a script, over real sockets and real TLS.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use keyhearth_client::{Client, ConfigurationError, Error, Page, Pairs, body};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What the server saw: method and URI, idempotency key, reason, body.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    request: String,
    name: Option<String>,
    reason: Option<String>,
    body: Vec<u8>,
}

struct Server {
    ca: String,
    url: String,
    identity: (String, String),
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<Mutex<usize>>,
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn tls(ca: &CertifiedIssuer<'static, KeyPair>) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, ca).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    Arc::new(config).into()
}

impl Server {
    /// Starts a server that gives these answers, one a request, and closes the connection after each `close`.
    async fn start(script: impl IntoIterator<Item = (u16, &'static str)>, close: bool) -> Self {
        let ca = authority();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["app".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
        let listener = TcpListener::bind("localhost:0").await.unwrap();
        let server = Self {
            ca: ca.pem(),
            url: format!("https://localhost:{}", listener.local_addr().unwrap().port()),
            identity: (leaf.pem(), key.serialize_pem()),
            seen: Arc::default(),
            connections: Arc::default(),
        };
        let (seen, connections) = (Arc::clone(&server.seen), Arc::clone(&server.connections));
        let script: Arc<Mutex<VecDeque<_>>> = Arc::new(Mutex::new(script.into_iter().collect()));
        let acceptor = tls(&ca);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                *connections.lock().unwrap() += 1;
                let (seen, script) = (Arc::clone(&seen), Arc::clone(&script));
                let service =
                    service_fn(move |request| answer(request, Arc::clone(&seen), Arc::clone(&script)));
                tokio::spawn(
                    http1::Builder::new().keep_alive(!close).serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        server
    }

    fn client(&self) -> Client {
        let (certificate, key) = &self.identity;
        Client::new(&self.url, self.ca.as_bytes(), Some((certificate.as_bytes(), key.as_bytes()))).unwrap()
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn answer(
    request: Request<Incoming>,
    seen: Arc<Mutex<Vec<Seen>>>,
    script: Arc<Mutex<VecDeque<(u16, &'static str)>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let header = |name| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let mut entry = Seen {
        request: format!("{} {}", request.method(), request.uri()),
        name: header("idempotency-key"),
        reason: header("x-keyhearth-reason"),
        body: Vec::new(),
    };
    entry.body = request.into_body().collect().await.unwrap().to_bytes().to_vec();
    seen.lock().unwrap().push(entry);
    let (status, body) = script.lock().unwrap().pop_front().unwrap_or((200, "{}"));
    Ok(Response::builder().status(status).body(Full::from(body)).unwrap())
}

const BUSY: &str = r#"{"code":"unavailable","message":"not available now","next_step":"try again",
    "retry_after_ms":1,"request_id":"07070707-0707-0707-0707-070707070707"}"#;
const DENIED: &str = r#"{"code":"denied","message":"not allowed","next_step":"ask an administrator",
    "request_id":"07070707-0707-0707-0707-070707070707","a_later_member":1}"#;
const ENCRYPTED: &str =
    r#"{"key":"07070707-0707-0707-0707-070707070707","version":3,"iv":"","ciphertext":"aGk="}"#;

fn encrypt() -> body::Encrypt {
    let context = Some(Pairs::from_iter([("table", "users")]));
    body::Encrypt { mechanism: None, context, plaintext: b"hello"[..].into() }
}

#[tokio::test]
async fn a_call_goes_there_and_back_on_one_connection() {
    let server = Server::start([(200, ENCRYPTED), (200, r#"{"keys":[],"next":"AQID"}"#)], false).await;
    let client = server.client().because("ticket 7");
    let answer = client.encrypt("team/db", &encrypt()).await.unwrap();
    assert_eq!((answer.version, &answer.ciphertext[..]), (3, &b"hi"[..]));
    let keys = client.list_keys(&Page::default()).await.unwrap();
    let next = Page { after: keys.next, limit: Some(5) };
    assert!(matches!(client.list_keys(&next).await, Err(Error::Answer)), "an answer without its members");

    let seen = server.seen();
    assert_eq!(seen[0].request, "POST /v1/keys/team%2Fdb/encrypt");
    let read: body::Encrypt = keyhearth_proto::rest::read(&seen[0].body).unwrap();
    assert_eq!(&read.plaintext[..], b"hello");
    assert_eq!((seen[0].name.as_deref(), seen[0].reason.as_deref()), (None, Some("ticket 7")));
    assert_eq!(seen[2].request, "GET /v1/keys?after=AQID&limit=5");
    assert_eq!(*server.connections.lock().unwrap(), 1);
}

#[tokio::test]
async fn a_refusal_says_what_to_do() {
    let server = Server::start([(403, DENIED)], false).await;
    let error = server.client().describe_key("k").await.unwrap_err();
    assert_eq!(error.code(), Some("denied"));
    let text = error.to_string();
    assert_eq!(text, "not allowed; ask an administrator (request 07070707-0707-0707-0707-070707070707)");
    assert_eq!(server.seen().len(), 1, "a refusal is final");
}

#[tokio::test]
async fn a_busy_server_is_asked_again_under_the_same_name() {
    let server = Server::start([(503, BUSY), (429, BUSY), (200, "{}")], false).await;
    server.client().seal().await.unwrap_err();
    assert_eq!(server.seen().len(), 1, "sealing has no name and is not repeated");
    let rotated = server.client().rotate_root().await;
    assert!(matches!(rotated, Err(Error::Answer)));
    let seen = server.seen();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[1], seen[2]);
    assert_eq!(seen[1].name.as_ref().unwrap().len(), 32);
}

#[tokio::test]
async fn tries_end() {
    let server = Server::start([(503, BUSY); 10], false).await;
    let error = server.client().status().await.unwrap_err();
    assert!(matches!(error, Error::Refused { status: 503, .. }));
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test]
async fn a_closed_connection_is_replaced() {
    let server = Server::start([(200, ENCRYPTED), (200, ENCRYPTED)], true).await;
    let client = server.client();
    client.encrypt("k", &encrypt()).await.unwrap();
    client.encrypt("k", &encrypt()).await.unwrap();
    assert_eq!(*server.connections.lock().unwrap(), 2);
}

#[tokio::test]
async fn only_the_stated_ca_is_believed() {
    let server = Server::start([], false).await;
    let (certificate, key) = &server.identity;
    let identity = Some((certificate.as_bytes(), key.as_bytes()));
    let client = Client::new(&server.url, authority().pem().as_bytes(), identity).unwrap();
    assert!(matches!(client.status().await, Err(Error::Unreachable(_))));
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_certificate_that_the_server_does_not_believe_is_a_refusal() {
    let (server, other) = (Server::start([], false).await, Server::start([], false).await);
    let (certificate, key) = &other.identity;
    for identity in [Some((certificate.as_bytes(), key.as_bytes())), None] {
        let client = Client::new(&server.url, server.ca.as_bytes(), identity).unwrap();
        let error = client.status().await.unwrap_err();
        assert!(matches!(error, Error::Certificate(_)), "{error:?}");
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn what_can_not_be_used_is_refused_at_once() {
    let ca = authority().pem();
    for url in ["http://localhost", "localhost", "https://", "https://localhost/path", "https://a b"] {
        assert_eq!(Client::new(url, ca.as_bytes(), None).unwrap_err(), ConfigurationError::Url, "{url}");
    }
    let empty = Client::new("https://localhost", b"", None).unwrap_err();
    assert_eq!(empty, ConfigurationError::Ca);
    let identity = Some((ca.as_bytes(), &b"no key"[..]));
    let error = Client::new("https://localhost", ca.as_bytes(), identity).unwrap_err();
    assert_eq!(error, ConfigurationError::Identity);
    let client = Client::new("https://localhost:1", ca.as_bytes(), None).unwrap().because("a\nb");
    assert!(matches!(client.status().await, Err(Error::Configuration(ConfigurationError::Reason))));
}
