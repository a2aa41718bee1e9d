//! Endorsements in a folder: imported and listed by commands, seen by a running server, and fetched from services that
//! a test plays.

#![allow(clippy::unwrap_used, reason = "a test may panic, its functions too")]

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use keyhearth::config::{BootConfig, FetchConfig};
use keyhearth::endorsements::{FOLDER_BYTES_MAX, Fetcher, Folder, Outcome, Shelf, Sources, Urls};
use keyhearth::listen::{Limits, Listener, Stop, Tls};
use keyhearth_attest::snp::{Generation, Signer};
use keyhearth_attest::{Demands, Reason, Roots, appraise};
use keyhearth_core::id::PrincipalId;
use keyhearth_machines::snp::{self, Leaf, List, ark, intermediate};
use keyhearth_machines::tdx;
use serde_json::Value;
use tempfile::TempDir;

const GENERATION: Generation = Generation::Milan;
const CALLER: (PrincipalId, IpAddr) = (PrincipalId([1; 16]), IpAddr::V4(Ipv4Addr::LOCALHOST));

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    fs::write(folder.join(name), bytes).unwrap();
}

fn names(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(name).collect();
    names.sort();
    names
}

fn keyhearth(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyhearth"));
    command.args(["boot", "endorsements"]).args(arguments).current_dir(folder).output().unwrap()
}

/// What a command prints with `--json`.
fn items(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    let printed: Value = serde_json::from_str(&text).unwrap_or_else(|_| {
        panic!("{text}{}", String::from_utf8_lossy(&output.stderr));
    });
    printed["items"].as_array().unwrap().clone()
}

fn of(items: &[Value], member: &str, source: &str) -> Option<String> {
    let item = items.iter().find(|item| item["file"].as_str().unwrap().ends_with(source))?;
    Some(item[member].as_str().map_or_else(|| item["refusal"]["reason"].to_string(), str::to_owned))
}

/// A machine's certificates in a folder, and its root beside it.
fn given() -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("given")).unwrap();
    fs::create_dir(folder.path().join("kept")).unwrap();
    let given = folder.path().join("given");
    write(folder.path(), "root.der", &ark().der());
    write(&given, "leaf", &Leaf::new(GENERATION, Signer::Vcek).der());
    write(&given, "issuer.crt", &intermediate(GENERATION, Signer::Vcek).der());
    write(&given, "list", &List::of(&[9]).der());
    folder
}

const PLACE: [&str; 5] = ["--to", "kept", "--root", "lab=root.der", "--json"];
const SHOWN: [&str; 4] = ["kept", "--root", "lab=root.der", "--json"];

#[test]
fn what_is_sound_is_taken_and_what_is_not_is_named() {
    let folder = given();
    let (given, kept) = (folder.path().join("given"), folder.path().join("kept"));
    let stranger = Leaf { levels: [9; 5], ..Leaf::new(GENERATION, Signer::Vcek) };
    let mut forged = stranger.der();
    *forged.last_mut().unwrap() ^= 1;
    let over = List { next_update: Some("250101000000Z"), ..List::of(&[]) };
    let by_another = List { by_root: false, ..List::of(&[]) };
    write(&given, "root-too", &ark().der());
    write(&given, "forged", &forged);
    write(&given, "over", &over.der());
    write(&given, "by-another", &by_another.der());
    write(&given, "readme", b"none");
    let imported = keyhearth(folder.path(), &[&["import", "given"][..], &PLACE].concat());
    assert_eq!(imported.status.code(), Some(1), "something was refused");
    let told = items(&imported);
    for (source, outcome) in
        [("leaf", "taken"), ("issuer.crt", "taken"), ("/list", "taken"), ("root-too", "root")]
    {
        assert_eq!(of(&told, "outcome", source).as_deref(), Some(outcome), "{source}");
    }
    for (source, reason) in [
        ("forged", "certificate-signature"),
        ("over", "crl-stale"),
        ("by-another", "crl-signature"),
        ("readme", "endorsement-malformed"),
    ] {
        let item = told.iter().find(|item| item["file"].as_str().unwrap().ends_with(source)).unwrap();
        assert_eq!((&item["outcome"], &item["refusal"]["reason"]), (&"refused".into(), &reason.into()));
    }
    let files = names(&kept);
    assert_eq!(files.len(), 3, "{files:?}");
    for start in ["certificate-sev-milan-", "crl-ark-hearth-", "vcek-milan-c1c1c1c1"] {
        assert!(files.iter().any(|file| file.starts_with(start)), "{start}: {files:?}");
    }

    // Once more: nothing changes. An older list is none that is wanted.
    let older = List { this_update: "230101000000Z", ..List::of(&[]) };
    write(&given, "list", &older.der());
    for refused in ["forged", "over", "by-another", "readme"] {
        fs::remove_file(given.join(refused)).unwrap();
    }
    let list = || fs::read(kept.join(files.iter().find(|file| file.starts_with("crl")).unwrap())).unwrap();
    let before = list();
    let again = keyhearth(folder.path(), &[&["import", "given/leaf", "given/list"][..], &PLACE].concat());
    assert_eq!(again.status.code(), Some(0));
    assert!(items(&again).iter().all(|item| item["outcome"] == "known"));
    assert_eq!((list(), names(&kept)), (before, files.clone()));
    let newer = List { this_update: "250101000000Z", ..List::of(&[7]) }.der();
    write(&given, "list", &newer);
    let newest = keyhearth(folder.path(), &[&["import", "given/list"][..], &PLACE].concat());
    assert_eq!(items(&newest)[0]["outcome"], "taken");
    assert_eq!(list(), newer);
}

#[test]
fn what_is_there_is_listed_with_its_end() {
    let folder = given();
    let import = ["import", "given", "--to", "kept", "--root", "lab=root.der"];
    let imported = keyhearth(folder.path(), &import);
    let text = String::from_utf8(imported.stdout).unwrap();
    assert_eq!(imported.status.code(), Some(0), "{text}");
    assert!(text.starts_with("OUTCOME") && text.lines().count() == 4, "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    write(&folder.path().join("kept"), "notes.txt", b"none");
    let shown = items(&keyhearth(folder.path(), &[&["list"][..], &SHOWN].concat()));
    assert_eq!(shown[0]["refusal"]["reason"], "endorsement-malformed");
    assert_eq!(
        (&shown[1]["subject"], &shown[1]["state"]),
        (&"revocation list of ARK-Hearth".into(), &"ok".into())
    );
    assert_eq!((&shown[1]["root"], &shown[1]["ends"]), (&"lab".into(), &"2030-01-01T00:00:00Z".into()));
    for (at, state) in [("2029-12-30T00:00:00Z", "soon"), ("2030-06-01T00:00:00Z", "over")] {
        let then = [&["list"][..], &SHOWN, &["--at", at]].concat();
        assert_eq!(items(&keyhearth(folder.path(), &then))[1]["state"], state);
        let text = String::from_utf8(keyhearth(folder.path(), &then[..4]).stdout).unwrap();
        assert!(text.contains("revocation list of ARK-Hearth"), "{text}");
    }
    let over =
        keyhearth(folder.path(), &["list", "kept", "--root", "lab=root.der", "--at", "2030-06-01T00:00:00Z"]);
    assert!(String::from_utf8_lossy(&over.stdout).contains("! over"));
    // Without the root nobody vouches for any of it.
    let stranger = items(&keyhearth(folder.path(), &["list", "kept", "--json"]));
    assert!(stranger.iter().all(|item| item.get("subject").is_none()), "{stranger:?}");
}

/// A server's view of a folder, and a machine that asks it.
struct House {
    folder: TempDir,
    shelf: Arc<Shelf>,
    service: Service,
}

/// A service that answers what it is told to, and counts.
#[derive(Clone, Default)]
struct Service {
    answers: Arc<Mutex<BTreeMap<String, Answer>>>,
    asked: Arc<Mutex<Vec<String>>>,
    /// Who holds it to write holds back what is answered.
    held: Arc<tokio::sync::RwLock<()>>,
    stop: Arc<Mutex<Option<Stop>>>,
}

#[derive(Clone, Default)]
struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn of(body: Vec<u8>) -> Self {
        Self { status: 200, headers: Vec::new(), body }
    }

    fn failed(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

impl Service {
    /// Answers for requests whose path and query begin so.
    fn answer(&self, path: &str, answer: Answer) {
        self.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn respond(&self, path: &str) -> Response<Full<Bytes>> {
        self.asked.lock().unwrap().push(path.to_owned());
        let answers = self.answers.lock().unwrap();
        let known = answers.iter().find(|(begin, _)| path.starts_with(begin.as_str()));
        let Answer { status, headers, body } =
            known.map_or(Answer::failed(404), |(_, answer)| answer.clone());
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in headers {
            let name = HeaderName::from_static(name);
            response.headers_mut().insert(name, HeaderValue::from_str(&value).unwrap());
        }
        response
    }

    /// Begins to listen, with TLS if there is such; gives its URL.
    async fn listen(&self, tls: Option<Tls>) -> String {
        let address = (Ipv4Addr::LOCALHOST, 0).into();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let listener = match tls {
            Some(tls) => Listener::bind(address, tls, Limits::default()).await.unwrap(),
            None => Listener::bind_plain(address, Limits::default()).await.unwrap(),
        };
        let url = format!("{scheme}://localhost:{}", listener.address().port());
        let (stop, shutdown) = Stop::new();
        *self.stop.lock().unwrap() = Some(stop);
        let service = self.clone();
        let serve = move |_: Arc<keyhearth::listen::Peer<()>>,
                          request: http::Request<hyper::body::Incoming>| {
            let service = service.clone();
            async move {
                let response = service.respond(request.uri().path_and_query().unwrap().as_str());
                let _open = service.held.read().await;
                response
            }
        };
        tokio::spawn(listener.serve(serve, shutdown));
        url
    }
}

fn snp_roots() -> Roots {
    Roots::built_in().with("lab", &ark().der()).unwrap()
}

impl House {
    async fn new(roots: Roots) -> Self {
        Self::on(TempDir::new().unwrap(), roots).await
    }

    async fn on(folder: TempDir, roots: Roots) -> Self {
        let service = Service::default();
        let url = service.listen(None).await;
        let urls = Urls { amd: url.clone(), intel: url.clone(), intel_root_list: format!("{url}/root.crl") };
        let fetcher = Fetcher::new(Sources { urls, ca: None }).unwrap();
        let at = Folder::at(folder.path().to_owned());
        Self { shelf: Shelf::open(Some(at), roots, Some(fetcher)).unwrap(), folder, service }
    }

    /// Why evidence is refused, or nothing.
    fn refused(&self, evidence: &[u8]) -> Option<Reason> {
        let demands = Demands::at(now_s());
        let judged = appraise(evidence, &self.shelf.fitting(evidence), self.shelf.roots(), &demands);
        judged.err().map(|refusal| refusal.reason)
    }

    /// What a boot does: how long to wait, or why it is refused for good; nothing if it may go on.
    fn boot(&self, evidence: &[u8]) -> Result<Option<Duration>, Reason> {
        let Some(reason) = self.refused(evidence) else { return Ok(None) };
        self.shelf.lacking(CALLER, None, evidence, reason).map(Some).ok_or(reason)
    }

    /// Boots until it may go on or is refused for good.
    async fn booted(&self, evidence: &[u8]) -> Result<(), Reason> {
        while self.boot(evidence)?.is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Waits until the service was asked so often.
    async fn asked(&self, number: usize) {
        while self.service.asked().len() < number {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// An SNP machine, which lacks its certificate, the issuer of that, and the list.
fn snp_machine() -> Vec<u8> {
    let mut evidence = snp::report(5, GENERATION, Signer::Vcek);
    snp::sign(&mut evidence);
    evidence
}

fn answer_for_snp(service: &Service) {
    service.answer("/vcek/v1/Milan/c1c1", Answer::of(Leaf::new(GENERATION, Signer::Vcek).der()));
    let chain = tdx::pem(&[intermediate(GENERATION, Signer::Vcek).der(), ark().der()]);
    service.answer("/vcek/v1/Milan/cert_chain", Answer::of(chain.into_bytes()));
    service.answer("/vcek/v1/Milan/crl", Answer::of(List::of(&[9]).der()));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_machines_at_once_have_each_thing_fetched_once() {
    let house = House::new(snp_roots()).await;
    // The issuer is there: without it nobody can tell whether the certificate is sound.
    write(house.folder.path(), "issuer", &intermediate(GENERATION, Signer::Vcek).der());
    house.shelf.look().unwrap();
    answer_for_snp(&house.service);
    let evidence = snp_machine();
    let boots = (0..50).map(|_| house.booted(&evidence));
    for boot in boots {
        boot.await.unwrap();
    }
    let house = Arc::new(house);
    let asked = house.service.asked();
    assert_eq!(asked.len(), 2, "{asked:?}");
    let levels = "?blSPL=04&teeSPL=02&snpSPL=24&ucodeSPL=217";
    assert!(asked[0].ends_with(levels) && asked[1] == "/vcek/v1/Milan/crl", "{asked:?}");
    // A server that starts later has them, and asks nobody.
    let at = Folder::at(house.folder.path().to_owned());
    let later = Shelf::open(Some(at), snp_roots(), None).unwrap();
    let demands = Demands::at(now_s());
    appraise(&evidence, &later.fitting(&evidence), later.roots(), &demands).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_thing_is_fetched_once_however_many_wait_for_it() {
    let house = House::new(snp_roots()).await;
    answer_for_snp(&house.service);
    let evidence = snp_machine();
    let on_its_way = house.service.held.write().await;
    let waits: Vec<_> = (0..50).map(|_| house.boot(&evidence)).collect();
    assert!(waits.iter().all(|wait| matches!(wait, Ok(Some(_)))), "{waits:?}");
    house.asked(1).await;
    drop(on_its_way);
    assert_eq!(house.service.asked().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_asked_too_often_is_left_alone() {
    let house = House::new(snp_roots()).await;
    house.service.answer("/vcek", Answer::failed(429).with("retry-after", "30"));
    let evidence = snp_machine();
    assert!(house.boot(&evidence).unwrap().is_some());
    house.asked(1).await;
    // The answer is on its way; then its time counts, for other chips too.
    let waits = async |evidence: &[u8]| {
        loop {
            let wait = house.boot(evidence).unwrap().unwrap();
            if wait > Duration::from_secs(10) {
                return wait;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(waits(&evidence).await <= Duration::from_secs(30));
    let mut other = evidence.clone();
    other[0x1a0] ^= 1;
    assert!(waits(&other).await <= Duration::from_secs(30));
    assert_eq!(house.service.asked().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_what_was_asked_for_is_not_kept() {
    let sound = Leaf::new(GENERATION, Signer::Vcek);
    let mut forged = sound.der();
    *forged.last_mut().unwrap() ^= 1;
    let another_chip = Leaf { hardware_id: vec![7; 64], ..sound.clone() };
    let another_level = Leaf { levels: [1, 4, 2, 23, 217], ..sound.clone() };
    let stranger = Leaf {
        certificate: snp::Certificate { issuer: "SEV-Nobody".to_owned(), ..sound.certificate.clone() },
        ..sound
    };
    let issuer = intermediate(GENERATION, Signer::Vcek).der();
    let chip = |number| Leaf { hardware_id: vec![number; 64], ..Leaf::new(GENERATION, Signer::Vcek) }.der();
    let many = tdx::pem(
        &std::iter::once(Leaf::new(GENERATION, Signer::Vcek).der())
            .chain((0..32).map(chip))
            .collect::<Vec<_>>(),
    );
    for served in [
        forged,
        many.into_bytes(),
        another_chip.der(),
        another_level.der(),
        stranger.der(),
        List::of(&[]).der(),
        b"<html>".to_vec(),
        Vec::new(),
        vec![0x30; 2 << 20],
    ] {
        let house = House::new(snp_roots()).await;
        write(house.folder.path(), "issuer", &issuer);
        house.shelf.look().unwrap();
        let long = served.len() > 1 << 20;
        house.service.answer("/vcek/v1/Milan/c1", Answer::of(served));
        if long {
            // It was cut off, which may pass.
            assert!(house.boot(&snp_machine()).unwrap().is_some());
            house.asked(1).await;
        } else {
            assert_eq!(house.booted(&snp_machine()).await, Err(Reason::SnpCertificateMissing));
        }
        assert_eq!(names(house.folder.path()), ["issuer"]);
        assert_eq!(house.service.asked().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_being_told_to_a_server_asks_nobody() {
    let folder = TempDir::new().unwrap();
    write(folder.path(), "root", &ark().der());
    let service = Service::default();
    let url = service.listen(None).await;
    answer_for_snp(&service);
    let endorsements = folder.path().join("endorsements");
    fs::create_dir(&endorsements).unwrap();
    let config = BootConfig {
        endorsements: Some(endorsements),
        roots: [("lab".to_owned(), folder.path().join("root"))].into(),
        fetch: FetchConfig { amd: url.clone(), intel: url, ..FetchConfig::default() },
        ..BootConfig::default()
    };
    let appraiser = config.appraiser().unwrap();
    let evidence = snp_machine();
    for reason in [Reason::SnpCertificateMissing, Reason::ListMissing, Reason::IssuerMissing] {
        assert_eq!(appraiser.shelf().lacking(CALLER, None, &evidence, reason), None);
    }
    appraiser.shelf().refresh(u64::MAX);
    assert!(service.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_asked_for_no_other_chip_than_its_own() {
    let house = House::new(snp_roots()).await;
    let known = [["ab".repeat(64)].into(), ["c1".repeat(64)].into()];
    let lacking =
        |chips| house.shelf.lacking(CALLER, Some(chips), &snp_machine(), Reason::SnpCertificateMissing);
    assert_eq!(lacking(&known[0]), None);
    assert!(lacking(&known[1]).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn collateral_of_a_platform_is_fetched_with_its_issuers() {
    let house = House::new(Roots::built_in().with("lab", &tdx::root().der()).unwrap()).await;
    let encoded = |certificates: &[Vec<u8>]| {
        tdx::pem(certificates).replace('\n', "%0A").replace(' ', "%20").replace('+', "%2B")
    };
    let signers = encoded(&[tdx::statement_signer().der(), tdx::root().der()]);
    let [mut tcb_info, mut qe_identity] = [tdx::tcb_info(), tdx::qe_identity()];
    for statement in [&mut tcb_info, &mut qe_identity] {
        statement["nextUpdate"] = "2039-01-01T00:00:00Z".into();
    }
    let by = tdx::By::StatementSigner;
    let service = &house.service;
    service.answer(
        "/tdx/certification/v4/tcb?fmspc=f5bc00000000",
        Answer::of(tdx::answer("tcbInfo", &tcb_info, by)).with("tcb-info-issuer-chain", &signers),
    );
    service.answer(
        "/tdx/certification/v4/qe/identity",
        Answer::of(tdx::answer("enclaveIdentity", &qe_identity, by))
            .with("sgx-enclave-identity-issuer-chain", &signers),
    );
    service.answer(
        "/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
        Answer::of(tdx::List::of_pck_ca(&[]).der())
            .with("sgx-pck-crl-issuer-chain", &encoded(&[tdx::pck_ca().der(), tdx::root().der()])),
    );
    let digits: String = tdx::List::of_root(&[]).der().iter().map(|byte| format!("{byte:02x}")).collect();
    service.answer("/root.crl", Answer::of(digits.into_bytes()));
    let quote = tdx::Quote::new(tdx::Body::Td15).bytes();
    house.booted(&quote).await.unwrap();
    assert_eq!(house.service.asked().len(), 4, "{:?}", house.service.asked());
    let files = names(house.folder.path());
    assert!(files.iter().any(|file| file.starts_with("tcb-info-f5bc00000000-")), "{files:?}");

    // A certificate that anybody made for himself asks nobody.
    let stranger = House::new(Roots::built_in()).await;
    assert_eq!(stranger.booted(&quote).await, Err(Reason::TdxTcbInfoMissing));
    assert!(stranger.service.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_fetched_anew_before_they_end() {
    let mut root = ark();
    (root.subject, root.issuer) = ("ARK-Milan".to_owned(), "ARK-Milan".to_owned());
    let folder = TempDir::new().unwrap();
    let list = List { issuer: "ARK-Milan", ..List::of(&[]) };
    write(folder.path(), "crl", &list.der());
    // Its label stands for it; the built-in root of this name did not sign the list.
    let house = House::on(folder, Roots::built_in().with("lab", &root.der()).unwrap()).await;
    let (begins_s, ends_s) = (1_704_067_200, 1_893_456_000);
    house.shelf.refresh(begins_s + (ends_s - begins_s) / 2);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(house.service.asked().is_empty());
    let newer = List { issuer: "ARK-Milan", this_update: "250601000000Z", ..List::of(&[3]) };
    house.service.answer("/vcek/v1/Milan/crl", Answer::of(newer.der()));
    house.shelf.refresh(ends_s - 86_400);
    house.asked(1).await;
    while names(house.folder.path()).len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(house.service.asked(), ["/vcek/v1/Milan/crl"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_is_believed_by_its_ca() {
    let folder = TempDir::new().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    write(folder.path(), "ca.pem", certificate.as_bytes());
    let service = Service::default();
    let tls = Tls::from_pem(certificate.as_bytes(), key.as_bytes(), b"").unwrap();
    let url = service.listen(Some(tls)).await;
    answer_for_snp(&service);
    let ca = folder.path().join("ca.pem");
    for (ca, expected) in [(Some(ca.as_path()), true), (None, false)] {
        let kept = TempDir::new().unwrap();
        write(kept.path(), "issuer", &intermediate(GENERATION, Signer::Vcek).der());
        let urls = Urls { amd: url.clone(), intel: url.clone(), intel_root_list: url.clone() };
        let fetcher = Fetcher::new(Sources { urls, ca }).unwrap();
        let at = Folder::at(kept.path().to_owned());
        let shelf = Shelf::open(Some(at), snp_roots(), Some(fetcher)).unwrap();
        let asked = service.asked().len();
        assert!(shelf.lacking(CALLER, None, &snp_machine(), Reason::SnpCertificateMissing).is_some());
        let mut looks = 0;
        while names(kept.path()).len() < 2 && looks < if expected { 2000 } else { 40 } {
            tokio::time::sleep(Duration::from_millis(5)).await;
            looks += 1;
        }
        assert_eq!((names(kept.path()).len() == 2, service.asked().len() > asked), (expected, expected));
    }
}

#[test]
fn a_running_server_sees_what_changes_and_keeps_what_is_good() {
    let folder = TempDir::new().unwrap();
    let at = || Folder::at(folder.path().to_owned());
    let shelf = Shelf::open(Some(at()), snp_roots(), None).unwrap();
    let evidence = snp_machine();
    let judged = || {
        let judged = appraise(&evidence, &shelf.fitting(&evidence), shelf.roots(), &Demands::at(now_s()));
        judged.err().map(|refusal| refusal.reason)
    };
    let put = |name: &str, bytes: &[u8]| {
        write(folder.path(), name, bytes);
        shelf.look().unwrap();
    };
    assert_eq!(judged(), Some(Reason::SnpCertificateMissing));
    put("a", &Leaf::new(GENERATION, Signer::Vcek).der());
    assert_eq!(judged(), Some(Reason::IssuerMissing));
    put("b", &intermediate(GENERATION, Signer::Vcek).der());
    put("c", &List::of(&[]).der());
    assert_eq!(judged(), None);
    // What is broken, or forged in the name of the root, does not count.
    put("0", b"\x30\x82garbage");
    put("1", &List { by_root: false, ..List::of(&[]) }.der());
    put(".new-half", b"half");
    put("z", &vec![b'x'; 2 << 20]);
    assert_eq!(judged(), None);
    put("c", &List::of(&[2]).der());
    assert_eq!(judged(), Some(Reason::CertificateRevoked));
    fs::remove_file(folder.path().join("c")).unwrap();
    shelf.look().unwrap();
    assert_eq!(judged(), Some(Reason::ListMissing));
    // A folder that is gone takes nothing away.
    let moved = folder.path().with_extension("moved");
    fs::rename(folder.path(), &moved).unwrap();
    assert!(shelf.look().is_err());
    assert_eq!(judged(), Some(Reason::ListMissing));
    fs::rename(&moved, folder.path()).unwrap();
}

/// A disk that fails for a moment, or a list whose rights were taken, lets nothing in that was revoked.
#[test]
fn a_file_that_cannot_be_read_counts_as_it_did() {
    let folder = given();
    let path = folder.path().join("given");
    write(&path, "list", &List::of(&[2]).der());
    let open = || Shelf::open(Some(Folder::at(path.clone())), snp_roots(), None).unwrap();
    let (shelf, evidence) = (open(), snp_machine());
    let judged = |shelf: &Shelf| {
        let judged = appraise(&evidence, &shelf.fitting(&evidence), shelf.roots(), &Demands::at(now_s()));
        judged.err().map(|refusal| refusal.reason)
    };
    assert_eq!(judged(&shelf), Some(Reason::CertificateRevoked));
    // A file of which nothing can be read, whoever tries.
    fs::remove_file(path.join("list")).unwrap();
    std::os::unix::fs::symlink("/proc/self/mem", path.join("list")).unwrap();
    shelf.look().unwrap();
    assert_eq!(judged(&shelf), Some(Reason::CertificateRevoked));
    // Something else changes, and it still counts.
    write(&path, "more", b"none");
    shelf.look().unwrap();
    assert_eq!(judged(&shelf), Some(Reason::CertificateRevoked));
    // Whoever never read it does not know it, and says so.
    assert_eq!(judged(&open()), Some(Reason::ListMissing));
    let listed = keyhearth(folder.path(), &["list", "given", "--root", "lab=root.der"]);
    let said = String::from_utf8_lossy(&listed.stderr);
    assert!(listed.status.code() == Some(1) && said.contains("given/list"), "{said}");
    fs::remove_file(path.join("list")).unwrap();
    shelf.look().unwrap();
    assert_eq!(judged(&shelf), Some(Reason::ListMissing));
}

#[test]
fn a_folder_has_room_for_so_much_and_no_more() {
    let folder = TempDir::new().unwrap();
    let at = Folder::at(folder.path().to_owned());
    let shelf = Shelf::open(Some(at.clone()), snp_roots(), None).unwrap();
    for number in 0..FOLDER_BYTES_MAX >> 20 {
        let file = fs::File::create(folder.path().join(format!("{number}"))).unwrap();
        // As much as is read of one, and more does not count.
        file.set_len((1 << 20) + number).unwrap();
    }
    shelf.look().unwrap();
    let import = || {
        let given = [("given".to_owned(), intermediate(GENERATION, Signer::Vcek).der())];
        at.import(&given, &snp_roots(), now_s(), |_| true)
    };
    let full = import().unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull, "{full}");
    assert!(full.to_string().contains("32 MiB") && full.to_string().contains("remove"), "{full}");
    assert_eq!(names(folder.path()).len() as u64, FOLDER_BYTES_MAX >> 20);
    shelf.look().unwrap();
    write(folder.path(), "one more", b"");
    shelf.look().unwrap();
    write(folder.path(), "one more", b"x");
    assert!(shelf.look().is_err());
    fs::remove_file(folder.path().join("one more")).unwrap();
    fs::remove_file(folder.path().join("0")).unwrap();
    assert_eq!(import().unwrap()[0].outcome, Outcome::Taken);
    shelf.look().unwrap();
}

/// What is read of the folder and what is written into it belong together: whoever comes second sees what came first.
#[test]
fn imports_wait_for_each_other() {
    let [folder, elsewhere] = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let import = |folder: &TempDir, list: &List| {
        let given = [("given".to_owned(), list.der())];
        let at = Folder::at(folder.path().to_owned());
        at.import(&given, &snp_roots(), now_s(), |_| true).unwrap()[0].outcome
    };
    let newer = List { this_update: "250101000000Z", ..List::of(&[7]) };
    assert_eq!(import(&elsewhere, &newer), Outcome::Taken);
    let name = &names(elsewhere.path())[0];
    let other = fs::File::open(folder.path()).unwrap();
    other.lock().unwrap();
    std::thread::scope(|scope| {
        let older = scope.spawn(|| import(&folder, &List::of(&[])));
        std::thread::sleep(Duration::from_millis(300));
        fs::copy(elsewhere.path().join(name), folder.path().join(name)).unwrap();
        other.unlock().unwrap();
        assert_eq!(older.join().unwrap(), Outcome::Known);
    });
    let [kept, newest] = [&folder, &elsewhere].map(|folder| fs::read(folder.path().join(name)).unwrap());
    assert!(kept == newest);
}

#[test]
fn real_endorsements_are_told_for_what_they_are() {
    let Some(vectors) = std::env::var_os("KEYHEARTH_VECTORS").map(PathBuf::from) else {
        eprintln!("skipped: KEYHEARTH_VECTORS names no folder");
        return;
    };
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("kept")).unwrap();
    let file = |name: &str| vectors.join("attest").join(name).display().to_string();
    let files = [
        "snp/test-vcek.der",
        "snp/test-vlek.der",
        "snp/test-vcek-invalid-new.der",
        "snp/roots/milan_ask_ark_asvk.pem",
        "azure/vcek.pem",
        "tdx/tcbInfo.json",
    ];
    let files = files.map(file);
    let at = ["--to", "kept", "--at", "2025-03-01T00:00:00Z", "--json"];
    let arguments: Vec<_> =
        ["import"].into_iter().chain(files.iter().map(String::as_str)).chain(at).collect();
    let told = items(&keyhearth(folder.path(), &arguments));
    for item in &told {
        eprintln!("{item}");
    }
    assert_eq!(of(&told, "outcome", "snp/test-vcek.der").as_deref(), Some("taken"));
    assert_eq!(of(&told, "outcome", "snp/test-vlek.der").as_deref(), Some("taken"));
    // Its root is nobody's here, or nobody signed it: whatever it is, it is not kept.
    assert_eq!(of(&told, "outcome", "tdx/tcbInfo.json").as_deref(), Some("refused"));
    assert!(told.iter().any(|item| item["outcome"] == "root"));
    let shown = keyhearth(folder.path(), &["list", "kept", "--at", "2025-03-01T00:00:00Z", "--json"]);
    assert!(items(&shown).iter().all(|item| item["state"] == "ok" && item["root"] == "built-in"));
}
