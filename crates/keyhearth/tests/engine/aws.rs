//! The AWS front over a socket: who is let in, and what everybody else is told.
//!
//! What is called is an operation that this server refuses to everybody it lets in, and for a reason of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use keyhearth::engine::{Engine, Settings};
use keyhearth::listen::aws::Aws;
use keyhearth::listen::{Limits, Listener, Stop};
use keyhearth::telemetry::Metrics;
use keyhearth_core::operation::Operation;
use keyhearth_core::principal::{Caller, Role};
use keyhearth_core::request::Ask;
use keyhearth_core::time::Time;
use keyhearth_crypto::digest::sha256;
use keyhearth_proto::aws::sigv4::{Header, Message, Scope, SigningKey, Stamp, authorization};
use keyhearth_proto::aws::{BODY_BYTES_MAX, Place};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};

use super::access_keys::{Issued, issue_access_key};
use super::support::House;

const HERE: Scope<'static> = Scope { region: "eu-central-1", service: "kms" };
const BODY: &str = r#"{"CustomKeyStoreId":"cks-1234567890abcdef0"}"#;
/// Every caller who is let in gets this.
const LET_IN: (u16, &str) = (400, "UnsupportedOperationException");
const MISMATCH: &str = "The request signature we calculated does not match the signature you provided. Check your \
                        AWS Secret Access Key and signing method. Consult the service documentation for details.";

/// A front on a loopback port, without TLS.
pub struct Front {
    address: SocketAddr,
    stop: Stop,
    task: JoinHandle<()>,
}

impl Front {
    pub async fn of(engine: &Arc<Engine>) -> Self {
        Self::within(engine, Limits::default()).await
    }

    async fn within(engine: &Arc<Engine>, limits: Limits) -> Self {
        let listener = Listener::bind_loopback((Ipv4Addr::LOCALHOST, 0).into(), limits);
        let listener = listener.await.unwrap();
        let place = Place::new("111122223333", HERE.region).unwrap();
        let front = Aws::new(Arc::clone(engine), Arc::new(Metrics::default()), place);
        let (stop, shutdown) = Stop::new();
        let address = listener.address();
        let serve = move |peer, request| Arc::clone(&front).answer(peer, request);
        Self { address, stop, task: tokio::spawn(listener.serve(serve, shutdown)) }
    }

    /// Ends, and with it what it knows of its engine.
    async fn end(self) {
        self.stop.request();
        self.task.await.unwrap();
    }

    async fn connect(&self) -> Connection {
        Connection(TcpStream::connect(self.address).await.unwrap())
    }
}

/// One connection that stays.
struct Connection(TcpStream);

impl Connection {
    /// Sends a request and reads the answer: status, `__type` and message.
    async fn exchange(&mut self, call: &Signed) -> (u16, String, Option<String>) {
        let (status, body) = self.send(call).await;
        let text = |name: &str| body[name].as_str().map(str::to_owned);
        (status, text("__type").unwrap(), text("message"))
    }

    /// Sends a request and reads the answer: status and body, which may be none.
    async fn send(&mut self, call: &Signed) -> (u16, Value) {
        self.announce(call).await;
        self.0.write_all(&call.body).await.unwrap();
        self.answer().await
    }

    /// Sends a request without its body.
    async fn announce(&mut self, call: &Signed) {
        let mut request = format!("{} HTTP/1.1\r\ncontent-length: {}\r\n", call.line, call.body.len());
        for (name, value) in &call.headers {
            request += &format!("{name}: {value}\r\n");
        }
        self.0.write_all((request + "\r\n").as_bytes()).await.unwrap();
    }

    /// Reads an answer: status and body, which may be none.
    async fn answer(&mut self) -> (u16, Value) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let field = |name: &str| head.split("\r\n").find_map(|line| line.strip_prefix(name));
        assert_eq!(field("content-type: "), Some("application/x-amz-json-1.1"));
        assert_eq!(field("x-amzn-requestid: ").unwrap().len(), 36);
        let mut body = vec![0; field("content-length: ").unwrap().parse().unwrap()];
        self.0.read_exact(&mut body).await.unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
        (status, body)
    }

    async fn is_let_in(&mut self, call: &Signed) {
        let (status, kind, message) = self.exchange(call).await;
        assert_eq!((status, &*kind), LET_IN, "{message:?}");
    }

    async fn is_refused(&mut self, call: &Signed, kind: &str, message: &str) {
        let (_, said, because) = self.exchange(call).await;
        assert_eq!((&*said, because.as_deref()), (kind, Some(message)));
    }
}

/// A signed request, to be changed after that.
#[derive(Clone)]
struct Signed {
    line: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Signed {
    fn new(key: &Issued) -> Self {
        Self::made(key, Time::from_unix_ms(now_ms()), HERE, BODY.into())
    }

    fn made(key: &Issued, time: Time, scope: Scope<'_>, body: Vec<u8>) -> Self {
        Self::calling("ConnectCustomKeyStore", key, time, scope, body)
    }

    fn calling(operation: &str, key: &Issued, time: Time, scope: Scope<'_>, body: Vec<u8>) -> Self {
        let token = key.session.as_ref().map(|(token, _)| String::from_utf8(token.to_vec()).unwrap());
        let mut headers = vec![
            ("host", "localhost".to_owned()),
            ("content-type", "application/x-amz-json-1.1".to_owned()),
            ("x-amz-date", Stamp(time).to_string()),
            ("x-amz-target", format!("TrentService.{operation}")),
        ];
        headers.extend(token.map(|token| ("x-amz-security-token", token)));
        let signed: Vec<Header<'_>> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let message = Message { method: "POST", path: "/", query: "", headers: &signed };
        let signing_key = SigningKey::derive(&key.secret, &Stamp(time).to_string()[..8], scope);
        let header = authorization(&message, &sha256(&[&body]), scope, (&key.id, &signing_key)).unwrap();
        headers.push(("authorization", header));
        Self { line: "POST /", headers, body }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(found, _)| *found != name);
        self.headers.push((name, value.to_owned()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(found, _)| *found != name);
        self
    }
}

/// A program that calls operations of AWS KMS on one connection.
pub struct Program {
    connection: Connection,
    key: Issued,
}

impl Program {
    pub async fn new(front: &Front, key: Issued) -> Self {
        Self { connection: front.connect().await, key }
    }

    /// What the operation gives, or the exception's kind and message.
    pub async fn call(&mut self, operation: &str, body: Value) -> Result<Value, (String, Option<String>)> {
        let (now, body) = (Time::from_unix_ms(now_ms()), serde_json::to_vec(&body).unwrap());
        let (status, answer) =
            self.connection.send(&Signed::calling(operation, &self.key, now, HERE, body)).await;
        if status == 200 {
            return Ok(answer);
        }
        let text = |name: &str| answer[name].as_str().map(str::to_owned);
        Err((text("__type").unwrap(), text("message")))
    }
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

#[tokio::test]
async fn whoever_signed_rightly_is_let_in_and_nobody_else() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = issue_access_key(&home, home.user.principal, None).await;
    let front = Front::of(&house.engine).await;
    let mut there = front.connect().await;
    for _ in 0..3 {
        there.is_let_in(&Signed::new(&key)).await;
    }
    let other_body = Signed { body: b"{}".to_vec(), ..Signed::new(&key) };
    there.is_refused(&other_body, "InvalidSignatureException", MISMATCH).await;
    let other_target = Signed::new(&key).with("x-amz-target", "TrentService.ListKeys");
    there.is_refused(&other_target, "InvalidSignatureException", MISMATCH).await;
    let other_secret = Issued { id: key.id.clone(), secret: key.secret[1..].to_vec().into(), session: None };
    there.is_refused(&Signed::new(&other_secret), "InvalidSignatureException", MISMATCH).await;
    let nobody = Signed::new(&key).without("authorization");
    let text = "Request is missing Authentication Token";
    there.is_refused(&nobody, "MissingAuthenticationTokenException", text).await;
    let unsigned = Signed::new(&key).with("x-amz-meta", "1");
    let text = "There were headers present in the request which were not signed: x-amz-meta";
    there.is_refused(&unsigned, "InvalidSignatureException", text).await;

    let body = || BODY.as_bytes().to_vec();
    let time = |ms| Time::from_unix_ms(ms);
    let region = Signed::made(&key, time(now_ms()), Scope { region: "us-east-1", ..HERE }, body());
    let text = "Credential should be scoped to a valid region. ";
    there.is_refused(&region, "InvalidSignatureException", text).await;
    let service = Signed::made(&key, time(now_ms()), Scope { service: "s3", ..HERE }, body());
    let text = "Credential should be scoped to correct service: 'kms'. ";
    there.is_refused(&service, "InvalidSignatureException", text).await;
    for (ms, begin) in
        [(now_ms() - 400_000, "Signature expired: "), (now_ms() + 400_000, "Signature not yet current: ")]
    {
        let (_, kind, message) = there.exchange(&Signed::made(&key, time(ms), HERE, body())).await;
        assert_eq!(kind, "InvalidSignatureException");
        assert!(message.unwrap().starts_with(begin));
    }
    let unknown = Issued { id: "AKIAIOSFODNN7EXAMPLE".to_owned(), secret: key.secret.clone(), session: None };
    let text = "The security token included in the request is invalid.";
    there.is_refused(&Signed::new(&unknown), "UnrecognizedClientException", text).await;
    let failed = house.engine.status().unwrap().log_size;
    there.is_let_in(&Signed::new(&key)).await;
    assert_eq!(house.engine.status().unwrap().log_size, failed, "who is let in is logged by what it asks");
    drop(there);
    front.end().await;
    let log = house.close().await.log();
    let failures: Vec<_> =
        log.iter().filter(|entry| entry.operation() == Some(Operation::Authenticate)).collect();
    assert_eq!(failures.len(), 10);
    let named = |id: Option<&str>| failures.iter().filter(|entry| entry.access_key.as_deref() == id).count();
    // What is wrong before the credential is read names nobody.
    assert_eq!((named(Some(&key.id)), named(Some(&unknown.id)), named(None)), (5, 1, 4));
}

#[tokio::test]
async fn what_is_no_call_is_refused() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = issue_access_key(&home, home.user.principal, None).await;
    let front = Front::of(&house.engine).await;
    let mut there = front.connect().await;
    let unknown = (400, "UnknownOperationException".to_owned(), None);
    for line in ["GET /", "PUT /", "POST /keys"] {
        assert_eq!(there.exchange(&Signed { line, ..Signed::new(&key) }).await, unknown);
    }
    let plain = Signed::new(&key).with("content-type", "application/json");
    there.is_refused(&plain, "InvalidSignatureException", MISMATCH).await;
    let too_long = Signed::made(&key, Time::from_unix_ms(now_ms()), HERE, vec![b' '; BODY_BYTES_MAX + 1]);
    let (status, kind, _) = there.exchange(&too_long).await;
    assert_eq!((status, &*kind), (413, "RequestEntityTooLargeException"));
    there.is_let_in(&Signed::new(&key)).await;
    let longest = Signed::made(&key, Time::from_unix_ms(now_ms()), HERE, vec![b' '; BODY_BYTES_MAX]);
    let (_, kind, _) = there.exchange(&longest).await;
    assert_eq!(kind, "SerializationException");
    let in_query = Signed { line: "POST /?X-Amz-Signature=00", ..Signed::new(&key) }.without("authorization");
    let (_, kind, message) = there.exchange(&in_query).await;
    assert_eq!(kind, "IncompleteSignatureException");
    assert!(message.unwrap().contains("query"));
    let twice = Signed::new(&key);
    let header = twice.headers.last().cloned().unwrap();
    let twice = Signed { headers: [twice.headers, vec![header]].concat(), ..twice };
    let text = "There is more than one 'authorization' header.";
    there.is_refused(&twice, "IncompleteSignatureException", text).await;
}

#[tokio::test]
async fn what_ends_has_ended_on_its_open_connection() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let web = home.issue("web", &[Role::KeyUser]).await;
    let disabled = issue_access_key(&home, web.principal, None).await;
    let revoked = issue_access_key(&home, web.principal, None).await;
    let front = Front::of(&house.engine).await;
    let (mut one, mut two) = (front.connect().await, front.connect().await);
    one.is_let_in(&Signed::new(&disabled)).await;
    two.is_let_in(&Signed::new(&revoked)).await;
    let text = "The security token included in the request is invalid.";
    home.ask(&home.admin, Ask::DisableAccessKey { id: disabled.id.clone() }).await.unwrap();
    one.is_refused(&Signed::new(&disabled), "UnrecognizedClientException", text).await;
    two.is_let_in(&Signed::new(&revoked)).await;
    home.ask(&home.admin, Ask::RevokeIdentity { identity: web.principal }).await.unwrap();
    two.is_refused(&Signed::new(&revoked), "UnrecognizedClientException", text).await;
    one.is_refused(&Signed::new(&revoked), "UnrecognizedClientException", text).await;
}

/// A request counts as of when it is whole: its body may come long after its head.
#[tokio::test]
async fn what_ends_while_a_body_arrives_has_ended() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let disabled = issue_access_key(&home, home.user.principal, None).await;
    let lasting = issue_access_key(&home, home.user.principal, None).await;
    let front = Front::of(&house.engine).await;
    let (mut one, mut two) = (front.connect().await, front.connect().await);
    let refused = Signed::new(&disabled);
    let stale = Signed::made(&lasting, Time::from_unix_ms(now_ms() - 299_000), HERE, BODY.into());
    one.announce(&refused).await;
    two.announce(&stale).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    home.ask(&home.admin, Ask::DisableAccessKey { id: disabled.id.clone() }).await.unwrap();
    one.0.write_all(&refused.body).await.unwrap();
    two.0.write_all(&stale.body).await.unwrap();
    assert_eq!(one.answer().await.1["__type"], "UnrecognizedClientException");
    let message = two.answer().await.1["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("Signature expired: "), "{message}");
}

/// Room is kept from those who know no more than the id of an access key, not from those who have its secret.
#[tokio::test]
async fn bodies_that_nobody_is_known_to_have_signed_have_little_room() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = issue_access_key(&home, home.user.principal, None).await;
    let front = Front::of(&house.engine).await;
    let mut known = front.connect().await;
    known.is_let_in(&Signed::new(&key)).await;
    let longest = Signed::made(&key, Time::from_unix_ms(now_ms()), HERE, vec![b' '; BODY_BYTES_MAX]);
    let mut waiting = JoinSet::new();
    for _ in 0..=64 * 1_024 * 1_024 / BODY_BYTES_MAX {
        let mut there = front.connect().await;
        there.announce(&longest).await;
        waiting.spawn(async move { there.answer().await });
    }
    let (status, body) = waiting.join_next().await.unwrap().unwrap();
    assert_eq!((status, &body["__type"]), (503, &"ServiceUnavailableException".into()));
    let (_, kind, _) = known.exchange(&longest).await;
    assert_eq!(kind, "SerializationException", "it was read");
    waiting.shutdown().await;
    let mut again = front.connect().await;
    while again.exchange(&longest).await.1 != "SerializationException" {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_a_failed_login() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = issue_access_key(&home, home.user.principal, None).await;
    let front =
        Front::within(&house.engine, Limits { body: Duration::from_millis(50), ..Limits::default() }).await;
    let mut there = front.connect().await;
    there.announce(&Signed::new(&key)).await;
    assert_eq!(there.answer().await.1["__type"], "SerializationException");
    drop(there);
    front.end().await;
    let log = house.close().await.log();
    let failure = log.iter().find(|entry| entry.operation() == Some(Operation::Authenticate)).unwrap();
    assert_eq!(failure.access_key, Some(key.id));
}

#[tokio::test]
async fn what_is_refused_before_the_engine_is_asked_counts_too() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let of = async |caller: &Caller| issue_access_key(&home, caller.principal, None).await;
    let keys = [of(&home.user).await, of(&home.auditor).await];
    let slow = |settings| Settings { principal_per_s: 1, ..settings };
    let house = house.close().await.open_as(slow).await.map_err(|(_, error)| error).unwrap();
    let front = Front::of(&house.engine).await;
    let mut there = front.connect().await;
    let malformed = Signed::made(&keys[1], Time::from_unix_ms(now_ms()), HERE, b"[]".to_vec());
    for (call, usual) in [(Signed::new(&keys[0]), LET_IN.1), (malformed, "SerializationException")] {
        assert_eq!(there.exchange(&call).await.1, usual);
        let (mut calls, mut said) = (1, usual.to_owned());
        while said == usual && calls < 100 {
            (_, said, _) = there.exchange(&call).await;
            calls += 1;
        }
        assert_eq!(said, "ThrottlingException");
    }
}

#[tokio::test]
async fn a_temporary_access_key_needs_its_token() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let temporary = issue_access_key(&home, home.user.principal, Some(15)).await;
    let lasting = issue_access_key(&home, home.user.principal, None).await;
    let front = Front::of(&house.engine).await;
    let mut there = front.connect().await;
    let text = "The security token included in the request is invalid.";
    let of = |key: &Issued, session| Issued { id: key.id.clone(), secret: key.secret.clone(), session };
    let (token, end) = temporary.session.clone().unwrap();
    let other = Some((b"another".to_vec().into(), end));
    for _ in 0..2 {
        for wrong in
            [of(&temporary, None), of(&temporary, other.clone()), of(&lasting, Some((token.clone(), end)))]
        {
            there.is_refused(&Signed::new(&wrong), "UnrecognizedClientException", text).await;
        }
        there.is_let_in(&Signed::new(&temporary)).await;
        there.is_let_in(&Signed::new(&lasting)).await;
    }
    let stripped = Signed::new(&temporary).without("x-amz-security-token");
    let text =
        "'x-amz-security-token' is named as a SignedHeader, but it does not exist in the HTTP request.";
    there.is_refused(&stripped, "IncompleteSignatureException", text).await;
}

/// The newest entry is ten days ahead: the present may be today, or after the end of everything temporary.
#[tokio::test]
async fn a_temporary_access_key_that_ended_is_said_to_have() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await;
    let temporary = issue_access_key(&home, home.user.principal, Some(2_160)).await;
    let lasting = issue_access_key(&home, home.user.principal, None).await;
    let ahead = house.engine.now().latest.plus_days(10);
    let closed = house.close().await;
    closed.rewrite_key(home.id, key.id, ahead, |_| ());
    let house = closed.open().await.map_err(|(_, error)| error).unwrap();
    let front = Front::of(&house.engine).await;
    let mut there = front.connect().await;
    let text = "The security token included in the request is expired";
    there.is_refused(&Signed::new(&temporary), "ExpiredTokenException", text).await;
    there.is_let_in(&Signed::new(&lasting)).await;
}

#[tokio::test]
async fn a_sealed_server_asks_to_come_back() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = issue_access_key(&home, home.user.principal, None).await;
    let front = Front::of(&house.engine).await;
    let mut there = front.connect().await;
    there.is_let_in(&Signed::new(&key)).await;
    house.engine.seal();
    for _ in 0..2 {
        let (status, kind, _) = there.exchange(&Signed::new(&key)).await;
        assert_eq!((status, &*kind), (503, "ServiceUnavailableException"));
    }
}
