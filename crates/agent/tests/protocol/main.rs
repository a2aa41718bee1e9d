//! The whole way of a boot up to a key that fits, against a server that does with the messages what each test says,
//! by the protocol's own functions; over TLS, with a volume that cryptsetup made.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

mod clone;
mod cloud;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyhearth_agent::candidate::{self, State};
use keyhearth_agent::config::Config;
use keyhearth_agent::confirm::confirm;
use keyhearth_agent::evidence::Machine;
use keyhearth_agent::run::{Extent, open};
use keyhearth_agent::session::Session;
use keyhearth_agent::stop::{Moment, Stop};
use keyhearth_agent::watch::{close, watch};
use keyhearth_core::id::{DeploymentId, Name, PrincipalId, RequestId};
use keyhearth_crypto::note::NoteKey;
use keyhearth_proto::boot::{
    Attest, Besides, Candidate, Challenge, Challenged, Confirm, Confirmed, Continues, Covered, Fixed, Key,
    Outlook, Pending, Refused, Release, Tee, Terms, Transcript, confirm_mac, continue_mac, read, write,
};
use keyhearth_proto::rest::Is;
use keyhearth_sys::clock::boottime_ms;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

const SERVER: DeploymentId = DeploymentId([1; 16]);
const MACHINE: PrincipalId = PrincipalId([2; 16]);
const SECRET: [u8; 32] = [0x5a; 32];
const CONFIRM_KEY: [u8; 32] = [8; 32];
const RELEASE_SEED: [u8; 32] = [3; 32];
const TERMS: Terms = Terms { not_after_s: 0, lease_s: 60, image: None };

/// A request: its path and its body.
type Act = dyn Fn(&str, &[u8]) -> (u16, Vec<u8>) + Send + Sync;

/// A machine with one volume, and its server.
struct Scene {
    folder: tempfile::TempDir,
    config: Config,
    asked: Arc<AtomicUsize>,
}

impl Scene {
    fn new(more: &str, act: impl Fn(&str, &[u8]) -> (u16, Vec<u8>) + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        format(&folder.path().join("disk"));
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(folder.path().join("ca.pem"), ca.pem()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let port = serve(Arc::new(tls), Arc::new(act), Arc::clone(&asked));
        let config = folder.path().join("boot.toml");
        let text = format!(
            "servers = [\"https://127.0.0.1:{port}\"]\nca = \"{ca}\"\nrelease_key = \"{release_key}\"\n\
             server = \"{SERVER}\"\nmachine = \"{MACHINE}\"\ntee = \"none\"\ndevice_wait_s = 0\nattempts = 2\n{more}\n\
             [[volumes]]\nname = \"root\"\ndevice = \"{disk}\"\nmapping = \"test-root\"\n",
            ca = folder.path().join("ca.pem").display(),
            disk = folder.path().join("disk").display(),
            release_key = STANDARD.encode(NoteKey::from_seed(&RELEASE_SEED).unwrap().public()),
        );
        fs::write(&config, text).unwrap();
        Self { config: Config::read(&config).unwrap(), folder, asked }
    }

    fn attempt(&self) -> Result<(), Stop> {
        open(&self.config, &Machine::default(), &self.folder.path().join("state"), Extent::Try)
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn format(disk: &Path) {
    fs::File::create(disk).unwrap().set_len(32 << 20).unwrap();
    let mut child = Command::new("cryptsetup")
        .args(["luksFormat", "--type=luks2", "--batch-mode", "--key-file=-"])
        .args(["--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000"])
        .arg(disk)
        .stdin(Stdio::piped())
        .spawn()
        .expect("cryptsetup is installed");
    child.stdin.take().unwrap().write_all(&SECRET).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Answers each connection once; gives the port.
fn serve(tls: Arc<ServerConfig>, act: Arc<Act>, asked: Arc<AtomicUsize>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream =
                StreamOwned::new(ServerConnection::new(Arc::clone(&tls)).unwrap(), stream.unwrap());
            let mut request = Vec::new();
            let Some((path, body)) = receive(&mut stream, &mut request) else { continue };
            asked.fetch_add(1, Ordering::SeqCst);
            let (status, body) = act(&path, &body);
            let head =
                format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nretry-after: 0\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    port
}

fn receive(stream: &mut impl Read, request: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    loop {
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).ok().filter(|read| *read > 0)?;
        request.extend_from_slice(&chunk[..read]);
        let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&request[..end]).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let body = &request[end + 4..];
        if body.len() == length.parse::<usize>().unwrap() {
            return Some((head.split(' ').nth(1).unwrap().to_owned(), body.to_vec()));
        }
    }
}

fn challenged(server: DeploymentId) -> Vec<u8> {
    write(&Challenged {
        session: Fixed([4; 16]),
        nonce: Fixed([5; 32]),
        server: Is(server),
        expires_in_s: 120,
    })
}

/// A release as a server makes it, of other things than were asked for if the test wants that.
fn released(attest: &[u8], seed: &[u8; 32], volumes: &[&str], secret: [u8; 32]) -> Vec<u8> {
    let attest: Attest = read(attest).unwrap();
    let transcript = transcript(&attest, &["root"]);
    let volumes: Vec<_> = volumes.iter().map(|name| (name.parse().unwrap(), 1, Key::new(secret))).collect();
    let signer = NoteKey::from_seed(seed).unwrap();
    let release = Release::seal(
        &transcript,
        &attest.ephemeral,
        &volumes,
        &Key::new(CONFIRM_KEY),
        TERMS,
        Besides::Nothing,
        &signer,
    );
    write(&release.unwrap())
}

/// What a request for these volumes is about.
fn transcript(attest: &Attest, volumes: &[&str]) -> Transcript {
    transcript_of(MACHINE, attest, volumes)
}

fn transcript_of(machine: PrincipalId, attest: &Attest, volumes: &[&str]) -> Transcript {
    let names: Vec<Name> = volumes.iter().map(|name| name.parse().unwrap()).collect();
    let headers: Vec<_> = attest.headers.iter().map(|hash| hash.0).collect();
    Transcript::of(&Covered {
        session: &[4; 16],
        nonce: &[5; 32],
        server: SERVER,
        machine,
        ephemeral: &attest.ephemeral,
        volumes: &names,
        headers: &headers,
        boot_counter: attest.boot_counter,
        tee: Tee::None,
        candidate: attest.candidate.as_ref(),
        clone: attest.clone,
    })
}

fn released_to_all(path: &str, body: &[u8]) -> (u16, Vec<u8>) {
    match path {
        "/boot/v1/challenge" => (200, challenged(SERVER)),
        _ => (200, released(body, &RELEASE_SEED, &["root"], SECRET)),
    }
}

fn refused() -> Vec<u8> {
    refused_for("image-unknown")
}

fn refused_for(code: &str) -> Vec<u8> {
    let text = "The image is none of those.".to_owned();
    write(&Refused { code: code.to_owned(), text, audit: Is(RequestId([9; 16])) })
}

#[test]
fn a_released_key_fits_and_the_challenge_says_who_asks_for_what() {
    let scene = Scene::new("", |path, body| {
        if path == "/boot/v1/challenge" {
            let challenge: Challenge = read(body).unwrap();
            assert_eq!(
                (challenge.machine.0, challenge.tee, challenge.volumes.len()),
                (MACHINE, Tee::None, 1)
            );
        }
        released_to_all(path, body)
    });
    scene.attempt().unwrap();
    assert_eq!(scene.asked(), 2);
    assert!(!scene.folder.path().join("state").exists());
}

#[test]
fn a_refusal_is_final_and_shown_with_its_audit_number() {
    let scene = Scene::new("contact = \"the platform team\"", |path, _| match path {
        "/boot/v1/challenge" => (200, challenged(SERVER)),
        _ => (403, refused()),
    });
    let stop = scene.attempt().unwrap_err();
    assert!(matches!(stop, Stop::Refused(_)));
    assert_eq!(scene.asked(), 2);
    let screen = stop.screen(Moment::Start, scene.config.contact.as_deref(), "x").text();
    let audit = RequestId([9; 16]).to_string();
    for part in ["image-unknown", "The image is none of those.", &audit, "the platform team"] {
        assert!(screen.contains(part), "{screen}");
    }
}

#[test]
fn what_the_release_key_did_not_sign_for_this_request_is_forged() {
    type Forgery = fn(&[u8]) -> Vec<u8>;
    let forgeries: [Forgery; 4] = [
        |body| released(body, &[4; 32], &["root"], SECRET),
        |body| released(body, &RELEASE_SEED, &["data"], SECRET),
        |body| released(body, &RELEASE_SEED, &[], SECRET),
        |body| {
            let mut attest: Attest = read(body).unwrap();
            attest.boot_counter += 1;
            released(&write(&attest), &RELEASE_SEED, &["root"], SECRET)
        },
    ];
    for forgery in forgeries {
        let scene = Scene::new("", move |path, body| match path {
            "/boot/v1/challenge" => (200, challenged(SERVER)),
            _ => (200, forgery(body)),
        });
        assert!(matches!(scene.attempt(), Err(Stop::Forged)));
    }
}

#[test]
fn another_deployment_another_key_and_nonsense_are_told_apart() {
    let scene = Scene::new("", |_, _| (200, challenged(DeploymentId([7; 16]))));
    assert!(matches!(scene.attempt(), Err(Stop::OtherServer(DeploymentId([7, ..])))));
    let scene = Scene::new("", |path, body| match path {
        "/boot/v1/challenge" => (200, challenged(SERVER)),
        _ => (200, released(body, &RELEASE_SEED, &["root"], [1; 32])),
    });
    assert!(matches!(scene.attempt(), Err(Stop::Cryptsetup(..))));
    for (status, body) in [(200, "{}"), (202, "{}"), (403, "{}"), (404, ""), (500, "")] {
        let scene = Scene::new("", move |_, _| (status, body.as_bytes().to_vec()));
        let stop = scene.attempt().unwrap_err();
        assert!(matches!(&stop, Stop::Answer(_, shown) if *shown == status), "{stop:?}");
        assert_eq!(scene.asked(), 1);
    }
}

#[test]
fn a_busy_server_is_asked_as_often_as_configured() {
    let scene = Scene::new("", |_, _| (503, Vec::new()));
    assert!(matches!(scene.attempt(), Err(Stop::Unreachable(..))));
    assert_eq!(scene.asked(), 2);
    let first = AtomicUsize::new(0);
    let scene = Scene::new("", move |path, body| match first.fetch_add(1, Ordering::SeqCst) {
        0 => (429, Vec::new()),
        _ => released_to_all(path, body),
    });
    scene.attempt().unwrap();
}

#[test]
fn a_challenge_that_a_restart_of_the_server_forgot_is_asked_for_anew() {
    let scene = Scene::new("", |path, _| match path {
        "/boot/v1/challenge" => (200, challenged(SERVER)),
        _ => (403, refused_for("challenge-unknown")),
    });
    assert!(matches!(scene.attempt(), Err(Stop::Unreachable(..))));
    assert_eq!(scene.asked(), 4);
}

#[test]
fn an_approval_begins_again_with_a_new_challenge_and_is_not_waited_for_without_end() {
    let pending = || (202, write(&Pending { approval: Is(RequestId([6; 16])), poll_after_s: 0 }));
    let keys = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&keys);
    let scene = Scene::new("", move |path, body| {
        if path == "/boot/v1/challenge" {
            return (200, challenged(SERVER));
        }
        let attest: Attest = read(body).unwrap();
        let mut keys = keys.lock().unwrap();
        keys.push(attest.ephemeral.to_vec());
        if keys.len() == 1 { pending() } else { released_to_all(path, body) }
    });
    scene.attempt().unwrap();
    assert_eq!(scene.asked(), 4);
    let keys = seen.lock().unwrap();
    assert_ne!(keys[0], keys[1]);

    let scene = Scene::new("approval_wait_s = 1", move |path, _| match path {
        "/boot/v1/challenge" => (200, challenged(SERVER)),
        _ => pending(),
    });
    assert!(matches!(scene.attempt(), Err(Stop::NotApproved(RequestId([6, ..])))));
}

#[test]
fn a_server_of_another_ca_is_not_asked() {
    let scene = Scene::new("", released_to_all);
    let other = Scene::new("", released_to_all);
    fs::copy(other.folder.path().join("ca.pem"), scene.folder.path().join("ca.pem")).unwrap();
    assert!(matches!(scene.attempt(), Err(Stop::Unreachable(..))));
    assert_eq!(scene.asked(), 0);
}

#[test]
fn a_changed_header_is_refused_before_anybody_is_asked() {
    let scene = Scene::new("", released_to_all);
    let disk = scene.folder.path().join("disk");
    let mut bytes = fs::read(&disk).unwrap();
    bytes[5000] ^= 1;
    bytes[5000 + (16 << 10)] ^= 1;
    fs::write(disk, bytes).unwrap();
    let stop = scene.attempt().unwrap_err();
    assert_eq!(stop.code(), "luks-checksum");
    assert_eq!(scene.asked(), 0);
}

/// What a machine keeps of its release, whose lease lasts so long.
fn held(left_ms: u64) -> Session {
    Session {
        session: [4; 16],
        key: Key::new(CONFIRM_KEY),
        until_ms: boottime_ms() + left_ms,
        volumes: vec!["root".parse().unwrap()],
        clone: None,
    }
}

/// The tokens that were presented, in their order.
type Presented = Arc<Mutex<Vec<Option<[u8; 32]>>>>;

fn confirming(status: u16) -> (Scene, Presented) {
    confirming_with("", status)
}

fn confirming_with(more: &str, status: u16) -> (Scene, Presented) {
    let tokens = Presented::default();
    let seen = Arc::clone(&tokens);
    let scene = Scene::new(more, move |path, body| {
        assert_eq!(path, "/boot/v1/confirm");
        let confirm: Confirm = read(body).unwrap();
        let opened: Vec<Name> = confirm.opened.iter().map(|name| name.0.clone()).collect();
        let token = confirm.token.map(|token| token.0);
        assert_eq!(confirm.mac.0, confirm_mac(&Key::new(CONFIRM_KEY), &opened, token.as_ref()));
        let mut tokens = tokens.lock().unwrap();
        tokens.push(token);
        let next = [u8::try_from(tokens.len()).unwrap(); 32];
        match status {
            200 => (200, write(&Confirmed { token: Fixed(next), lease_s: 60 })),
            _ => (status, refused()),
        }
    });
    held(60_000).write(&scene.folder.path().join("state")).unwrap();
    (scene, seen)
}

#[test]
fn each_confirmation_brings_the_token_of_the_one_before() {
    let (scene, tokens) = confirming(200);
    let (root, state) = (scene.folder.path().join("root"), scene.folder.path().join("state"));
    fs::create_dir(&root).unwrap();
    confirm(&scene.config, &root, &state).unwrap();
    // Nothing is left to confirm.
    confirm(&scene.config, &root, &state).unwrap();
    held(60_000).write(&state).unwrap();
    confirm(&scene.config, &root, &state).unwrap();
    // Each new token is shown at once, so that the one before is over.
    assert_eq!(*tokens.lock().unwrap(), [None, Some([1; 32]), Some([1; 32]), Some([3; 32])]);
    assert_eq!(fs::read(root.join("var/lib/keyhearth/boot-token")).unwrap(), [3; 32]);
}

#[test]
fn a_stale_token_is_the_end_and_stays_as_it_is() {
    let (scene, _) = confirming(403);
    let (root, state) = (scene.folder.path().join("root"), scene.folder.path().join("state"));
    let token = root.join("var/lib/keyhearth/boot-token");
    fs::create_dir_all(token.parent().unwrap()).unwrap();
    fs::write(&token, [7; 32]).unwrap();
    assert!(matches!(confirm(&scene.config, &root, &state), Err(Stop::Refused(_))));
    assert_eq!(fs::read(token).unwrap(), [7; 32]);
    assert!(Session::read(&state).unwrap().is_none());
}

const HEARTBEAT: &str = "heartbeat = { every_s = 1, on_end = \"halt\" }";

impl Scene {
    fn state(&self) -> std::path::PathBuf {
        self.folder.path().join("state")
    }

    /// Watches over a lease that lasts so long.
    fn watch(&self, left_ms: u64) -> Stop {
        held(left_ms).write(&self.state()).unwrap();
        watch(&self.config, &Machine::default(), &self.state()).unwrap_err()
    }
}

/// A release of nothing for so many seconds, whose confirm key is of these bytes, if `attest` continues `session` with
/// the key of those.
fn beaten(attest: &[u8], (session, key): ([u8; 16], [u8; 32]), next: [u8; 32], lease_s: u32) -> Vec<u8> {
    let attest: Attest = read(attest).unwrap();
    let transcript = transcript(&attest, &[]);
    let mac = Fixed(continue_mac(&Key::new(key), &transcript));
    assert_eq!(attest.continues, Some(Continues { session: Fixed(session), mac }));
    let signer = NoteKey::from_seed(&RELEASE_SEED).unwrap();
    let times = Terms { lease_s, ..TERMS };
    write(
        &Release::seal(
            &transcript,
            &attest.ephemeral,
            &[],
            &Key::new(next),
            times,
            Besides::Nothing,
            &signer,
        )
        .unwrap(),
    )
}

#[test]
fn each_heartbeat_continues_the_release_before_until_one_is_refused() {
    let beats = AtomicUsize::new(0);
    let scene = Scene::new(HEARTBEAT, move |path, body| {
        if path == "/boot/v1/challenge" {
            let challenge: Challenge = read(body).unwrap();
            assert!(challenge.volumes.is_empty());
            return (200, challenged(SERVER));
        }
        match beats.fetch_add(1, Ordering::SeqCst) {
            0 => (200, beaten(body, ([4; 16], CONFIRM_KEY), [9; 32], 60)),
            // What is no refusal is silence, and the same release is continued once more.
            1 => (202, write(&Pending { approval: Is(RequestId([6; 16])), poll_after_s: 0 })),
            2 => (500, Vec::new()),
            3 => (200, b"{}".to_vec()),
            4 => (403, refused_for("challenge-unknown")),
            5 => (200, beaten(body, ([4; 16], [9; 32]), [10; 32], 60)),
            _ => {
                beaten(body, ([4; 16], [10; 32]), [0; 32], 60);
                (403, refused())
            }
        }
    });
    let stop = scene.watch(60_000);
    assert!(matches!(stop, Stop::Refused(_)), "{stop:?}");
    assert_eq!(scene.asked(), 14);
    let kept = Session::read(&scene.state()).unwrap().unwrap();
    assert_eq!((*kept.key, kept.volumes[0].as_str()), ([10; 32], "root"));
    assert!(close(&scene.config, &scene.state()));
    assert!(Session::read(&scene.state()).unwrap().is_none());
}

#[test]
fn a_silent_server_is_asked_until_the_lease_is_over() {
    let scene = Scene::new(HEARTBEAT, |_, _| (503, Vec::new()));
    assert!(matches!(scene.watch(8_000), Stop::LeaseOver));
    assert!(scene.asked() > 1);
    // One that hangs does not make it last longer.
    let scene = Scene::new(HEARTBEAT, |_, _| {
        thread::sleep(std::time::Duration::from_mins(10));
        unreachable!()
    });
    assert!(matches!(scene.watch(500), Stop::LeaseOver));
    // A lease that was over before anybody watched.
    assert!(matches!(scene.watch(0), Stop::LeaseOver));
}

#[test]
fn nobody_is_watched_who_did_not_ask_for_it() {
    let scene = Scene::new("", released_to_all);
    let stop = watch(&scene.config, &Machine::default(), &scene.state()).unwrap_err();
    assert_eq!((stop.code(), scene.asked()), ("config", 0));
}

#[test]
fn a_confirmed_machine_that_is_to_be_heard_of_keeps_its_session() {
    let (scene, _) = confirming_with(HEARTBEAT, 200);
    let root = scene.folder.path().join("root");
    fs::create_dir(&root).unwrap();
    held(1).write(&scene.state()).unwrap();
    confirm(&scene.config, &root, &scene.state()).unwrap();
    let kept = Session::read(&scene.state()).unwrap().unwrap();
    assert_eq!((kept.session, *kept.key), ([4; 16], CONFIRM_KEY));
    assert!(!kept.left().is_zero(), "the confirmation makes the lease longer");
}

/// Whether it opens is another matter: the host of these tests has no device mapper.
#[test]
fn late_volumes_are_asked_for_under_the_lease_alone() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let asked = Arc::clone(&seen);
    let scene = Scene::new("", move |path, body| {
        if path != "/boot/v1/challenge" {
            let attest: Attest = read(body).unwrap();
            asked.lock().unwrap().push(attest.continues.map(|continues| continues.session.0));
        }
        released_to_all(path, body)
    });
    let mut config = scene.config.clone();
    // Nothing is to be opened late, and nothing early.
    open(&config, &Machine::default(), &scene.state(), Extent::Late).unwrap();
    config.volumes[0].late = true;
    open(&config, &Machine::default(), &scene.state(), Extent::Open).unwrap();
    assert_eq!(scene.asked(), 0);
    // Without a lease one begins; with one it goes on, also if a volume did not open.
    for _ in 0..2 {
        let late = open(&config, &Machine::default(), &scene.state(), Extent::Late);
        assert!(matches!(late, Err(Stop::Cryptsetup(..)) | Ok(())), "{late:?}");
        let kept = Session::read(&scene.state()).unwrap().unwrap();
        assert_eq!((kept.volumes.len(), kept.left().is_zero()), (1, false));
    }
    assert_eq!(*seen.lock().unwrap(), [None, Some([4; 16])]);
}

/// A server that says this of the candidate, whatever it is.
fn judging(outlook: impl Fn(&Candidate) -> Option<Outlook> + Send + Sync + 'static) -> Scene {
    Scene::new(HEARTBEAT, move |path, body| {
        if path == "/boot/v1/challenge" {
            return (200, challenged(SERVER));
        }
        let attest: Attest = read(body).unwrap();
        let transcript = transcript(&attest, &[]);
        let mac = Fixed(continue_mac(&Key::new(CONFIRM_KEY), &transcript));
        assert_eq!(attest.continues, Some(Continues { session: Fixed([4; 16]), mac }));
        let outlook = outlook(attest.candidate.as_ref().unwrap());
        let besides = outlook.map_or(Besides::Nothing, Besides::Outlook);
        let (signer, key) = (NoteKey::from_seed(&RELEASE_SEED).unwrap(), Key::new(CONFIRM_KEY));
        let release = Release::seal(&transcript, &attest.ephemeral, &[], &key, TERMS, besides, &signer);
        (200, write(&release.unwrap()))
    })
}

fn propose(scene: &Scene, dry_run: bool) -> Result<candidate::Answer, candidate::Error> {
    let claims = [("pcrs.11".to_owned(), "aa".to_owned())].into();
    candidate::propose(&scene.config, &Machine::default(), &scene.state(), claims, dry_run)
}

#[test]
fn what_the_next_boot_will_be_is_said_under_the_lease_and_the_answer_is_one_sentence() {
    let scene = judging(|candidate| {
        assert_eq!(
            (candidate.claims[0].claim.as_str(), candidate.claims[0].value.as_str()),
            ("pcrs.11", "aa")
        );
        let waits = (!candidate.dry_run).then_some(Is(RequestId([6; 16])));
        Some(Outlook { candidate: waits, lacks: vec!["pcrs.11".to_owned()], unnamed: Vec::new() })
    });
    assert!(matches!(propose(&scene, false), Err(candidate::Error::NoLease)));
    held(0).write(&scene.state()).unwrap();
    assert!(matches!(propose(&scene, false), Err(candidate::Error::NoLease)));
    assert_eq!(scene.asked(), 0);
    held(60_000).write(&scene.state()).unwrap();
    let waits = propose(&scene, false).unwrap();
    let id = RequestId([6; 16]).to_string();
    assert_eq!((waits.state, waits.candidate.as_deref()), (State::Waits, Some(&*id)));
    assert!(waits.text().contains(&id) && waits.text().contains("do not restart"), "{}", waits.text());
    let dry = propose(&scene, true).unwrap();
    assert_eq!((dry.state, dry.candidate.as_ref()), (State::Differs, None));
    assert!(dry.text().contains("would be refused"), "{}", dry.text());
    let unnamed = vec!["pcrs.4".to_owned()];
    let scene =
        judging(move |_| Some(Outlook { candidate: None, lacks: Vec::new(), unnamed: unnamed.clone() }));
    held(60_000).write(&scene.state()).unwrap();
    let unknown = propose(&scene, false).unwrap();
    assert_eq!(unknown.state, State::Unknown);
    assert!(unknown.text().ends_with("of it: pcrs.4"), "{}", unknown.text());
    let scene = judging(|_| Some(Outlook { candidate: None, lacks: Vec::new(), unnamed: Vec::new() }));
    held(60_000).write(&scene.state()).unwrap();
    assert_eq!(propose(&scene, false).unwrap().state, State::Accepted);
    // It kept the lease.
    assert!(!Session::read(&scene.state()).unwrap().unwrap().left().is_zero());
}

/// Its digests would never be in the evidence of such a machine, however they were accepted.
#[test]
fn an_image_tells_nothing_of_evidence_that_is_not_of_a_tpm() {
    let scene = judging(|_| None);
    let told = candidate::predict(&scene.folder.path().join("disk"), &scene.config, &Machine::default());
    assert!(
        matches!(&told, Err(error @ candidate::Error::Tee(Tee::None)) if error.to_string().contains("--claim"))
    );
}

#[test]
fn nobody_is_told_that_a_boot_will_pass_by_what_is_not_signed_or_by_a_refusal() {
    let scene = judging(|_| None);
    held(60_000).write(&scene.state()).unwrap();
    assert!(matches!(propose(&scene, false), Err(candidate::Error::Stop(Stop::Forged))));
    let scene = Scene::new(HEARTBEAT, |path, _| match path {
        "/boot/v1/challenge" => (200, challenged(SERVER)),
        _ => (403, refused()),
    });
    held(60_000).write(&scene.state()).unwrap();
    let error = propose(&scene, false).unwrap_err();
    assert!(error.to_string().contains("image-unknown"), "{error}");
}
