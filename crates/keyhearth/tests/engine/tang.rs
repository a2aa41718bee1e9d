//! The Tang front over a socket: what the identity that it acts as may do, and what becomes of everybody else.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyhearth::engine::Named;
use keyhearth::listen::tang::{ActsAs, Tang};
use keyhearth::listen::{Limits, Listener, Stop};
use keyhearth::telemetry::Metrics;
use keyhearth_core::entry::Result as Outcome;
use keyhearth_core::key::Key;
use keyhearth_core::operation::Operation;
use keyhearth_core::principal::Caller;
use keyhearth_core::request::{Ask, KeyRef, NewKey, Response};
use keyhearth_crypto::algorithm::Algorithm;
use keyhearth_crypto::key::{Key as Ready, generate};
use keyhearth_proto::tang::Point;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::{House, Household, because, by_id, got, new_key};

const POLICY: &str = r#"permit (
  principal,
  action in [
    Keyhearth::Action::"exchange",
    Keyhearth::Action::"public-key",
    Keyhearth::Action::"sign"
  ],
  resource
) when { principal.name == "tang" && resource.hasTag("tang") };"#;

struct Scene {
    house: House,
    home: Household,
    tang: Arc<Caller>,
    address: SocketAddr,
    _stop: Stop,
}

impl Scene {
    /// A front that acts as an identity without roles, which no policy allows anything yet.
    async fn new() -> Self {
        let house = House::new().await;
        let home = house.tenant("one").await;
        let tang = home.issue("tang", &[]).await;
        let listener = Listener::bind_plain((Ipv4Addr::LOCALHOST, 0).into(), Limits::default());
        let listener = listener.await.unwrap();
        let named = |name: &str| Named::Name(name.parse().unwrap());
        let acts_as = ActsAs { tenant: named("one"), identity: Named::Name("tang".parse().unwrap()) };
        let front = Tang::new(home.engine(), Arc::new(Metrics::default()), acts_as);
        let (stop, shutdown) = Stop::new();
        let address = listener.address();
        let serve = move |peer, request| Arc::clone(&front).answer(peer, request);
        tokio::spawn(listener.serve(serve, shutdown));
        Self { house, home, tang, address, _stop: stop }
    }

    async fn allowed() -> Self {
        let scene = Self::new().await;
        scene.policy("tang", POLICY).await;
        scene
    }

    async fn policy(&self, name: &str, text: &str) {
        let put = Ask::PutPolicy { name: name.parse().unwrap(), text: text.to_owned() };
        self.home.ask(&self.home.admin, put).await.unwrap();
    }

    /// Makes the pair `name`; gives the key that exchanges.
    async fn pair(&self, name: &str) -> Key {
        let key = |alias: String, usage: &str| NewKey {
            usage: vec![usage.to_owned()],
            alias: Some(alias.parse().unwrap()),
            tags: [("tang".to_owned(), name.to_owned())].into(),
            ..new_key(Algorithm::EcP521)
        };
        self.home.create(key(format!("tang/{name}/sign"), "sign")).await;
        self.home.create(key(format!("tang/{name}"), "exchange")).await
    }

    async fn point(&self, key: KeyRef, version: Option<u32>) -> Point {
        let ask = Ask::PublicKey { key, version };
        let der = got!(self.home.ask(&self.home.auditor, ask).await, Response::PublicKey { der, .. } => der);
        Point::of_public_key(&der).unwrap()
    }

    async fn thumbprint(&self, key: &Key, version: u32) -> String {
        self.point(by_id(key.id), Some(version)).await.thumbprints().to_string()
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// One request on a connection of its own: the status and the body.
    async fn ask(&self, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        ask(&mut self.connect().await, method, path, body).await
    }

    async fn recover(&self, name: &str, thumbprint: &str) -> u16 {
        self.ask("POST", &format!("/{name}/rec/{thumbprint}"), &stranger().reply()).await.0
    }

    async fn newest(&self) -> (Outcome, Option<String>) {
        let entry = self.home.newest(Operation::Exchange).await;
        assert_eq!((entry.actor, entry.address), (Some(self.tang.principal), Some(vec![127, 0, 0, 1])));
        (entry.result, entry.error)
    }
}

async fn ask(connection: &mut TcpStream, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    connection.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.split("\r\n").find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    connection.read_exact(&mut body).await.unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
}

/// The point of a key that nobody here knows.
fn stranger() -> Point {
    let key = Ready::load(Algorithm::EcP521, &generate(Algorithm::EcP521).unwrap()).unwrap();
    Point::of_public_key(key.public_key_der().unwrap()).unwrap()
}

fn refused(code: &str) -> (Outcome, Option<String>) {
    (Outcome::Refused, Some(code.to_owned()))
}

#[tokio::test]
async fn nothing_is_allowed_but_what_a_policy_allows_its_identity() {
    let scene = Scene::new().await;
    let key = scene.pair("db1").await;
    let thumbprint = scene.thumbprint(&key, 1).await;
    assert_eq!(scene.ask("GET", "/db1/adv", b"").await.0, 403);
    assert_eq!(scene.recover("db1", &thumbprint).await, 403);
    assert_eq!(scene.newest().await, refused("denied"));
    scene.policy("tang", POLICY).await;
    assert_eq!(scene.ask("GET", "/db1/adv", b"").await.0, 200);
    assert_eq!(scene.recover("db1", &thumbprint).await, 200);
    assert_eq!(scene.newest().await, (Outcome::Done, None));
    let elsewhere = r#"forbid (principal, action, resource) when { context.ip.isInRange(ip("127.0.0.0/8")) && context.proof == "anonymous" };"#;
    scene.policy("not-from-here", elsewhere).await;
    assert_eq!(scene.recover("db1", &thumbprint).await, 403);
    let entry = scene.home.newest(Operation::Exchange).await;
    assert_eq!((entry.key, entry.by), (Some(key.id), vec!["not-from-here".to_owned()]));
}

#[tokio::test]
async fn the_identity_ends_on_open_connections_too() {
    let scene = Scene::allowed().await;
    let key = scene.pair("default").await;
    let path = format!("/rec/{}", scene.thumbprint(&key, 1).await);
    let mut connection = scene.connect().await;
    let body = stranger().reply();
    assert_eq!(ask(&mut connection, "POST", &path, &body).await.0, 200);
    scene.home.ask(&scene.home.admin, Ask::RevokeIdentity { identity: scene.tang.principal }).await.unwrap();
    assert_eq!(ask(&mut connection, "POST", &path, &body).await.0, 403);
    assert_eq!(scene.ask("POST", &path, &body).await.0, 403);
    scene.home.engine().seal();
    assert_eq!(ask(&mut connection, "POST", &path, &body).await.0, 503);
    drop(scene.house);
}

#[tokio::test]
async fn the_point_is_that_of_the_version_that_the_thumbprint_names() {
    let scene = Scene::allowed().await;
    let key = scene.pair("db1").await;
    let other = Ready::load(Algorithm::EcP521, &generate(Algorithm::EcP521).unwrap()).unwrap();
    let sent = Point::of_public_key(other.public_key_der().unwrap()).unwrap().reply();
    for version in 1..=3 {
        if version > 1 {
            scene.home.manage(Ask::RotateKey { key: by_id(key.id) }).await.unwrap();
        }
        for version in (1..=version).rev() {
            let ours = scene.point(by_id(key.id), Some(version)).await;
            let path = format!("/db1/rec/{}", ours.thumbprints());
            let (status, body) = scene.ask("POST", &path, &sent).await;
            assert_eq!(status, 200);
            assert_eq!(Point::read(&body).unwrap().bytes(), other.exchange(ours.bytes()).unwrap());
            assert_eq!(scene.home.newest(Operation::Exchange).await.version, Some(version));
        }
        let (status, jws) = scene.ask("GET", "/db1/adv", b"").await;
        assert_eq!(status, 200);
        let jws: Value = serde_json::from_slice(&jws).unwrap();
        let signing = scene.point(KeyRef::Alias("tang/db1/sign".parse().unwrap()), None).await;
        let exchange = scene.point(by_id(key.id), Some(version)).await;
        let payload = keyhearth_proto::tang::payload(&signing, &exchange);
        let expected = URL_SAFE_NO_PAD.encode(payload);
        assert_eq!(jws["payload"], expected, "the newest version alone is advertised");
    }
}

#[tokio::test]
async fn what_the_state_of_a_key_or_version_forbids_is_refused() {
    let scene = Scene::allowed().await;
    let key = scene.pair("db1").await;
    let (id, one) = (|| by_id(key.id), scene.thumbprint(&key, 1).await);
    let manage = async |ask| drop(scene.home.manage(ask).await.unwrap());
    manage(Ask::RotateKey { key: id() }).await;
    let two = scene.thumbprint(&key, 2).await;
    manage(Ask::SuspendKey { key: id(), version: None }).await;
    for thumbprint in [&one, &two] {
        assert_eq!(scene.recover("db1", thumbprint).await, 403);
        assert_eq!(scene.newest().await, refused("wrong_state"));
    }
    assert_eq!(scene.ask("GET", "/db1/adv", b"").await.0, 403);
    manage(Ask::ResumeKey { key: id(), version: None }).await;
    let compromise = Ask::CompromiseKey { key: id(), version: Some(1) };
    because(&scene.home.engine(), &scene.home.key_admin, compromise, Some("a lost backup")).await.unwrap();
    assert_eq!((scene.recover("db1", &one).await, scene.recover("db1", &two).await), (403, 200));
    manage(Ask::SuspendKey { key: id(), version: Some(2) }).await;
    assert_eq!(scene.recover("db1", &two).await, 403);
    manage(Ask::ResumeKey { key: id(), version: Some(2) }).await;
    manage(Ask::ScheduleDestroy { key: id(), days: 7 }).await;
    assert_eq!(scene.recover("db1", &two).await, 403);
    assert_eq!(scene.ask("GET", "/db1/adv", b"").await.0, 403, "nobody is bound to what will be destroyed");
}

#[tokio::test]
async fn what_is_not_there_or_not_for_this_is_refused_and_logged_once() {
    let scene = Scene::allowed().await;
    let key = scene.pair("db1").await;
    let (one, unknown) = (scene.thumbprint(&key, 1).await, "A".repeat(43));
    assert_eq!(scene.recover("db1", &one).await, 200);
    for (name, thumbprint) in [("db1", &unknown), ("db1", &unknown), ("nobody", &one)] {
        let before = scene.home.entries().await.len();
        assert_eq!(scene.recover(name, thumbprint).await, 404, "{name}");
        let (outcome, code) = scene.newest().await;
        assert_ne!(outcome, Outcome::Done);
        assert_eq!(code.as_deref(), Some("not_found"));
        // Reading the entries is one.
        assert_eq!(scene.home.entries().await.len(), before + 3);
    }
    // A key that agrees, under a name of Tang's.
    let agrees = NewKey {
        usage: vec!["agree".to_owned()],
        alias: Some("tang/odd".parse().unwrap()),
        tags: [("tang".to_owned(), "odd".to_owned())].into(),
        ..new_key(Algorithm::EcP521)
    };
    let agrees = scene.home.create(agrees).await;
    assert_eq!(scene.recover("odd", &scene.thumbprint(&agrees, 1).await).await, 403);
    // A key without the tag, which the policy does not allow.
    let untagged = NewKey {
        usage: vec!["exchange".to_owned()],
        alias: Some("tang/untagged".parse().unwrap()),
        ..new_key(Algorithm::EcP521)
    };
    let untagged = scene.home.create(untagged).await;
    assert_eq!(scene.recover("untagged", &scene.thumbprint(&untagged, 1).await).await, 403);
    // The name goes to another key: the thumbprint of the one before leads nowhere, and its own to it.
    let alias = "tang/db1".parse().unwrap();
    let other = scene.pair("db2").await;
    scene.home.manage(Ask::MoveAlias { key: by_id(other.id), alias }).await.unwrap();
    assert_eq!(scene.recover("db1", &one).await, 404);
    assert_eq!(scene.recover("db1", &scene.thumbprint(&other, 1).await).await, 200);
}

#[tokio::test]
async fn bodies_that_are_no_point_are_refused_before_anything_is_computed() {
    let scene = Scene::allowed().await;
    let key = scene.pair("default").await;
    let path = format!("/rec/{}", scene.thumbprint(&key, 1).await);
    let mut off_curve = stranger().bytes().to_vec();
    off_curve[132] ^= 1;
    let off_curve = Point::of_bytes(&off_curve).unwrap().reply();
    let infinity = Point::of_bytes(&[&[4][..], &[0; 132]].concat()).unwrap().reply();
    for (body, status) in [
        (off_curve, 400),
        (infinity, 400),
        (b"{".to_vec(), 400),
        (Vec::new(), 400),
        (vec![b' '; 4096], 400),
        (vec![b' '; 4097], 413),
    ] {
        let (found, problem) = scene.ask("POST", &path, &body).await;
        assert_eq!(found, status);
        let problem: Value = serde_json::from_slice(&problem).unwrap();
        assert!(!problem["message"].as_str().unwrap().is_empty());
        assert!(!problem["next_step"].as_str().unwrap().is_empty());
    }
    for (method, path, status) in
        [("GET", path.as_str(), 405), ("PUT", "/adv", 405), ("GET", "/v1/status", 404)]
    {
        assert_eq!(scene.ask(method, path, b"").await.0, status, "{method} {path}");
    }
}

#[tokio::test]
async fn a_signing_key_of_before_signs_too_for_who_names_it() {
    let scene = Scene::allowed().await;
    scene.pair("db1").await;
    let alias = |text: &str| text.parse().unwrap();
    let signing = || KeyRef::Alias(alias("tang/db1/sign"));
    let one = scene.point(signing(), None).await;
    let path = format!("/db1/adv/{}", one.thumbprints());
    let advertised = async || {
        let (status, jws) = scene.ask("GET", &path, b"").await;
        (status, serde_json::from_slice::<Value>(&jws).unwrap())
    };
    let (status, alone) = advertised().await;
    assert!(status == 200 && alone["signature"].is_string());
    let kept = || alias(&format!("tang/db1/sign/{}", one.thumbprints()));
    scene.home.manage(Ask::SetAlias { key: signing(), alias: kept() }).await.unwrap();
    let new = NewKey {
        usage: vec!["sign".to_owned()],
        tags: [("tang".to_owned(), "db1".to_owned())].into(),
        ..new_key(Algorithm::EcP521)
    };
    let new = scene.home.create(new).await;
    let taken = Ask::MoveAlias { key: by_id(new.id), alias: alias("tang/db1/sign") };
    scene.home.manage(taken).await.unwrap();
    let (status, both) = advertised().await;
    assert_eq!((status, both["signatures"].as_array().unwrap().len()), (200, 2));
    assert_ne!(both["payload"], alone["payload"], "the newer key is listed, not the one before");
    let (status, jws) = scene.ask("GET", "/db1/adv", b"").await;
    let jws: Value = serde_json::from_slice(&jws).unwrap();
    assert!(status == 200 && jws["signature"].is_string() && jws["payload"] == both["payload"]);
    // An alias that names another key than the one it stands on vouches for nothing.
    let odd = alias(&format!("tang/db1/sign/{}", "A".repeat(43)));
    scene.home.manage(Ask::SetAlias { key: by_id(new.id), alias: odd }).await.unwrap();
    assert_eq!(scene.ask("GET", &format!("/db1/adv/{}", "A".repeat(43)), b"").await.0, 404);
    scene.home.manage(Ask::SuspendKey { key: KeyRef::Alias(kept()), version: None }).await.unwrap();
    assert_eq!(advertised().await.0, 403);
    assert_eq!(scene.ask("GET", "/db1/adv", b"").await.0, 200);
}
