//! The boot front over a socket: a machine without evidence, what it is given, and everything that it is refused for.

mod candidate;
mod clone;
mod cloud;
mod refusal;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use keyhearth::config::{BootConfig, FetchConfig};
use keyhearth::listen::boot::Boot;
use keyhearth::listen::{Limits, Listener, Peer, Stop};
use keyhearth::telemetry::Metrics;
use keyhearth_attest::eventlog::BootPhase;
use keyhearth_attest::snp::{Generation, Signer};
use keyhearth_attest::tpm::{Evidence, Pcrs};
use keyhearth_core::Error;
use keyhearth_core::entry::Result as Outcome;
use keyhearth_core::id::{DeploymentId, Name, RequestId};
use keyhearth_core::key::Key;
use keyhearth_core::machine::{Approval, Decision, Machine, MachineChange, NewMachine, Reason};
use keyhearth_core::operation::Operation;
use keyhearth_core::request::{Ask, NewKey, Page, Response};
use keyhearth_crypto::algorithm::Algorithm;
use keyhearth_crypto::digest::sha256;
use keyhearth_crypto::hpke::KeyPair;
use keyhearth_machines::snp;
use keyhearth_machines::tpm::{self, Ak, Quote};
use keyhearth_proto::boot::{
    self, Attest, Challenge, Challenged, Confirm, Confirmed, Continues, Covered, Fixed, Message, Opened,
    Pending, Refused, Release, Tee, Transcript,
};
use keyhearth_proto::rest::Is;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::{House, Household, because, by_id, got, new_key};

const HEADER: [u8; 32] = [7; 32];

struct Scene {
    home: Household,
    address: SocketAddr,
    key: Key,
    machine: Machine,
    secret: Vec<u8>,
    house: House,
    _stop: Stop,
}

/// One machine's attempt to boot, between the challenge and the answer.
struct Attempt {
    challenged: Challenged,
    keys: KeyPair,
    transcript: Transcript,
    attest: Attest,
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

impl Scene {
    /// An enrolled machine that no policy allows anything. Leases end at once.
    async fn new() -> Self {
        Self::leasing(0).await
    }

    async fn leasing(lease_s: u32) -> Self {
        Self::judging(lease_s, BootConfig::default()).await
    }

    async fn judging(lease_s: u32, config: BootConfig) -> Self {
        let house = House::new().await;
        let home = house.tenant("one").await;
        let listener = Listener::bind_plain((Ipv4Addr::LOCALHOST, 0).into(), Limits::default());
        let listener = listener.await.unwrap();
        let appraiser = config.appraiser().unwrap();
        let front = Boot::new(home.engine(), Arc::new(Metrics::default()), appraiser, lease_s);
        let (stop, shutdown) = Stop::new();
        let address = listener.address();
        let serve = move |peer, request| Arc::clone(&front).answer(peer, request);
        tokio::spawn(listener.serve(serve, shutdown));
        let new = NewKey { usage: vec!["release".to_owned()], ..new_key(Algorithm::HmacSha256) };
        let key = home.create(new).await;
        let new = NewMachine {
            name: name("web-1"),
            key: by_id(key.id),
            volumes: vec![name("root"), name("data")],
            reference: [].into(),
            clones: None,
            recovery: false,
        };
        let machine =
            got!(home.ask(&home.key_admin, Ask::EnrollMachine(new)).await, Response::Machine(one) => *one);
        let mut scene = Self { home, address, key, machine, secret: Vec::new(), house, _stop: stop };
        scene.secret = scene.volume_secret("root").await.1;
        scene.prepare("root", 1).await;
        scene
    }

    async fn allowed() -> Self {
        let scene = Self::new().await;
        scene.policy("boot", "").await;
        scene
    }

    /// Allows the machine to boot under a condition.
    async fn policy(&self, policy: &str, condition: &str) {
        let text = format!(
            r#"permit (principal == Keyhearth::Principal::"{}", action == Keyhearth::Action::"release-volumes", resource){condition};"#,
            self.machine.id
        );
        let put = Ask::PutPolicy { name: name(policy), text };
        self.home.ask(&self.home.admin, put).await.unwrap();
    }

    async fn volume_secret(&self, volume: &str) -> (u32, Vec<u8>) {
        let ask =
            Ask::VolumeSecret { key: by_id(self.key.id), machine: self.machine.id, volume: name(volume) };
        got!(self.home.ask(&self.home.key_admin, ask).await,
            Response::VolumeSecret { generation, secret, .. } => (generation, secret.to_vec()))
    }

    async fn prepare(&self, volume: &str, generation: u32) {
        let volumes = vec![(name(volume), generation, HEADER)];
        self.change(MachineChange { volumes, ..MachineChange::default() }).await;
    }

    async fn change(&self, change: MachineChange) {
        let ask = Ask::UpdateMachine { machine: self.machine.id, change };
        self.home.ask(&self.home.key_admin, ask).await.unwrap();
    }

    async fn machine(&self) -> Machine {
        let ask = Ask::DescribeMachine { machine: self.machine.id };
        got!(self.home.ask(&self.home.auditor, ask).await, Response::Machine(one) => *one)
    }

    /// A connection on which a message was sent, and nothing read.
    async fn send(&self, step: boot::Step, message: &impl Serialize) -> TcpStream {
        let body = boot::write(message);
        let mut connection = TcpStream::connect(self.address).await.unwrap();
        let head = format!("POST {step} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
        connection.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
        connection
    }

    async fn post(&self, step: boot::Step, message: &impl Serialize) -> (u16, Vec<u8>) {
        let mut connection = self.send(step, message).await;
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

    async fn challenge(&self, tee: Tee, volumes: &[&str]) -> Attempt {
        let volumes: Vec<Name> = volumes.iter().map(|volume| name(volume)).collect();
        let wanted = volumes.iter().cloned().map(Is).collect();
        let wanted = Challenge { machine: Is(self.machine.id), tee, volumes: wanted };
        let (status, body) = self.post(boot::Step::Challenge, &wanted).await;
        assert_eq!(status, 200);
        let challenged: Challenged = boot::read(&body).unwrap();
        let keys = boot::ephemeral().unwrap();
        let headers = vec![HEADER; volumes.len()];
        let transcript = Transcript::of(&Covered {
            session: &challenged.session.0,
            nonce: &challenged.nonce.0,
            server: DeploymentId(challenged.server.0.0),
            machine: self.machine.id,
            ephemeral: &keys.public,
            volumes: &volumes,
            headers: &headers,
            boot_counter: 3,
            tee,
            candidate: None,
            clone: false,
        });
        let attest = Attest {
            session: challenged.session,
            ephemeral: keys.public.as_slice().into(),
            headers: headers.into_iter().map(Fixed).collect(),
            boot_counter: 3,
            evidence: None,
            endorsements: Vec::new(),
            cloud: None,
            continues: None,
            candidate: None,
            clone: false,
        };
        Attempt { challenged, keys, transcript, attest }
    }

    async fn attest<T: Message>(&self, attempt: &Attempt) -> (u16, T) {
        let (status, body) = self.post(boot::Step::Attest, &attempt.attest).await;
        (status, boot::read(&body).unwrap_or_else(|_| panic!("{status} {}", String::from_utf8_lossy(&body))))
    }

    /// A whole boot of the root volume that is released.
    async fn boot(&self) -> (Attempt, Opened) {
        self.released(self.challenge(Tee::None, &["root"]).await).await
    }

    /// An attempt that continues what was released in another one.
    async fn continuing(&self, held: &(Attempt, Opened), volumes: &[&str]) -> Attempt {
        self.continuing_on(Tee::None, held, volumes).await
    }

    async fn continuing_on(
        &self,
        tee: Tee,
        (before, opened): &(Attempt, Opened),
        volumes: &[&str],
    ) -> Attempt {
        let mut attempt = self.challenge(tee, volumes).await;
        let mac = Fixed(boot::continue_mac(&opened.confirm, &attempt.transcript));
        attempt.attest.continues = Some(Continues { session: before.challenged.session, mac });
        attempt
    }

    /// A heartbeat.
    async fn beat(&self, held: &(Attempt, Opened)) -> (Attempt, Opened) {
        self.released(self.continuing(held, &[]).await).await
    }

    async fn released(&self, attempt: Attempt) -> (Attempt, Opened) {
        let (status, release): (_, Release) = self.attest(&attempt).await;
        assert_eq!(status, 200);
        let (_, public) = self.home.engine().release_identity().unwrap();
        let opened = release.open(&attempt.transcript, &attempt.keys, &public).unwrap();
        (attempt, opened)
    }

    /// The reason that an attempt is refused for, which the machine's record and the log have too.
    async fn refusal(&self, attempt: &Attempt) -> String {
        let (status, refused): (_, Refused) = self.attest(attempt).await;
        assert_eq!(status, 403);
        let entry = self.home.newest(Operation::RefuseEvidence).await;
        assert_eq!((entry.request, entry.result), (*refused.audit, Outcome::Refused));
        assert!(entry.detail.unwrap().starts_with(&refused.code));
        let kept = self.machine().await.refused.unwrap();
        assert_eq!((kept.code.as_str(), kept.request), (refused.code.as_str(), *refused.audit));
        refused.code
    }

    async fn confirm(
        &self,
        (attempt, opened): &(Attempt, Opened),
        token: Option<[u8; 32]>,
    ) -> Result<[u8; 32], String> {
        let names = [name("root")];
        let mac = Fixed(boot::confirm_mac(&opened.confirm, &names, token.as_ref()));
        let confirm = Confirm {
            machine: Is(self.machine.id),
            session: attempt.challenged.session,
            opened: names.map(Is).to_vec(),
            token: token.map(Fixed),
            mac,
        };
        let (status, body) = self.post(boot::Step::Confirm, &confirm).await;
        match status {
            200 => Ok(boot::read::<Confirmed>(&body).unwrap().token.0),
            _ => Err(boot::read::<Refused>(&body).unwrap().code),
        }
    }

    async fn approvals(&self) -> Vec<Approval> {
        let page = Page { after: Vec::new(), limit: 100 };
        got!(self.home.ask(&self.home.key_admin, Ask::ListApprovals { page }).await,
            Response::Approvals { approvals, .. } => approvals)
    }

    async fn decide(&self, approval: RequestId, approve: bool) -> Result<Response, Error> {
        self.home.ask(&self.home.key_admin, Ask::DecideApproval { approval, approve }).await
    }

    async fn pending(&self) -> RequestId {
        let attempt = self.challenge(Tee::None, &["root"]).await;
        let (status, pending): (_, Pending) = self.attest(&attempt).await;
        assert_eq!(status, 202);
        *pending.approval
    }
}

#[tokio::test]
async fn a_machine_gets_the_secret_that_its_keyslot_was_made_of() {
    let scene = Scene::allowed().await;
    let (_, opened) = scene.boot().await;
    let (volume, generation, secret) = &opened.volumes[0];
    assert_eq!((volume.as_str(), *generation, secret.to_vec()), ("root", 1, scene.secret.clone()));
    let machine = scene.machine().await;
    assert_eq!((machine.boots, machine.released.unwrap().code.as_str()), (1, "released"));
    let entry = scene.home.newest(Operation::ReleaseVolumes).await;
    assert_eq!((entry.actor, entry.key, entry.result), (Some(machine.id), Some(scene.key.id), Outcome::Done));
    assert_eq!(entry.by, ["boot"]);
    // The next secret is another one, and opens once its keyslot is there.
    let (generation, next) = scene.volume_secret("root").await;
    assert_eq!(generation, 2);
    assert_ne!(next, scene.secret);
    assert_eq!(scene.boot().await.1.volumes[0].1, 1);
    scene.prepare("root", 2).await;
    assert_eq!(scene.boot().await.1.volumes[0].2.to_vec(), next);
}

#[tokio::test]
async fn a_challenge_serves_once() {
    let scene = Scene::allowed().await;
    let attempt = scene.challenge(Tee::None, &["root"]).await;
    let (status, _): (_, Release) = scene.attest(&attempt).await;
    assert_eq!(status, 200);
    let (status, refused): (_, Refused) = scene.attest(&attempt).await;
    assert_eq!((status, refused.code.as_str()), (403, Reason::ChallengeUnknown.code()));
    // Also after a refusal.
    let mut attempt = scene.challenge(Tee::Snp, &["root"]).await;
    assert_eq!(scene.refusal(&attempt).await, Reason::EvidenceMissing.code());
    attempt.attest.evidence = Some(vec![0; 1184].into());
    let (_, refused): (_, Refused) = scene.attest(&attempt).await;
    assert_eq!(refused.code, Reason::ChallengeUnknown.code());
}

#[tokio::test]
async fn what_policies_do_not_allow_is_refused_and_what_is_missing_is_said() {
    let scene = Scene::new().await;
    let refusal = async || scene.refusal(&scene.challenge(Tee::None, &["root"]).await).await;
    assert_eq!(refusal().await, Reason::Policy.code());
    scene.policy("boot", " when { context.boot.memory_encrypted }").await;
    assert_eq!(refusal().await, Reason::PolicyMemory.code());
    scene.policy("boot", " when { context.boot.image_known }").await;
    assert_eq!(refusal().await, Reason::PolicyImage.code());
    scene
        .policy("boot", " when { context.boot.volumes.contains(\"root\") && context.boot.counter == 3 }")
        .await;
    scene.boot().await;
    let forbid = r#"forbid (principal, action == Keyhearth::Action::"release-volumes", resource) when { context.ip.isLoopback() };"#;
    let put = Ask::PutPolicy { name: name("elsewhere"), text: forbid.to_owned() };
    scene.home.ask(&scene.home.admin, put).await.unwrap();
    assert_eq!(refusal().await, Reason::Policy.code());
}

#[tokio::test]
async fn what_the_machine_itself_is_refused_for_has_its_reason() {
    let scene = Scene::allowed().await;
    // Evidence of another kind than announced, and none that is known.
    let mut attempt = scene.challenge(Tee::None, &["root"]).await;
    attempt.attest.evidence = Some(vec![1; 100].into());
    assert_eq!(scene.refusal(&attempt).await, Reason::EvidenceKind.code());
    let mut attempt = scene.challenge(Tee::Tpm, &["root"]).await;
    attempt.attest.evidence = Some(vec![1; 100].into());
    assert_eq!(scene.refusal(&attempt).await, keyhearth_attest::Reason::EvidenceUnknown.code());
    // A volume that is unknown, one without a secret, and a header that was altered.
    for volume in ["other", "data"] {
        let attempt = scene.challenge(Tee::None, &[volume]).await;
        assert_eq!(scene.refusal(&attempt).await, Reason::VolumeUnknown.code());
    }
    let mut attempt = scene.challenge(Tee::None, &["root"]).await;
    attempt.attest.headers = vec![Fixed([8; 32])];
    assert_eq!(scene.refusal(&attempt).await, Reason::HeaderDiffers.code());
    // The key is suspended; the machine is revoked.
    scene.home.manage(Ask::SuspendKey { key: by_id(scene.key.id), version: None }).await.unwrap();
    let attempt = scene.challenge(Tee::None, &["root"]).await;
    assert_eq!(scene.refusal(&attempt).await, Reason::KeyUnusable.code());
    scene.home.manage(Ask::ResumeKey { key: by_id(scene.key.id), version: None }).await.unwrap();
    scene.boot().await;
    scene.home.ask(&scene.home.admin, Ask::RevokeIdentity { identity: scene.machine.id }).await.unwrap();
    let attempt = scene.challenge(Tee::None, &["root"]).await;
    let (status, refused): (_, Refused) = scene.attest(&attempt).await;
    assert_eq!((status, refused.code.as_str()), (403, Reason::MachineUnknown.code()));
}

#[tokio::test]
async fn only_one_copy_of_a_machine_runs_at_a_time() {
    let scene = Scene::leasing(60).await;
    scene.policy("boot", "").await;
    scene.boot().await;
    let attempt = scene.challenge(Tee::None, &["root"]).await;
    let (status, _) = scene.post(boot::Step::Attest, &attempt.attest).await;
    assert_eq!(status, 503, "it may be the same one, started again: it waits");
    assert_eq!(scene.machine().await.refused.unwrap().code, Reason::Leased.code());
}

/// An attempt with evidence of a made TPM that has these PCRs.
fn quoted(mut attempt: Attempt, pcrs: &Pcrs, log: Option<Vec<u8>>) -> Attempt {
    let quote = Quote::of(pcrs, &attempt.transcript.0).bytes();
    let (signature, ak) = (Ak::P256.sign(&quote), Some(Ak::P256.spki()));
    let evidence =
        Evidence { quote, signature, ak, pcrs: pcrs.clone(), log, hcl_report: None, td_quote: None };
    attempt.attest.evidence = Some(evidence.encode().into());
    attempt
}

/// The agent extends PCR 15 and systemd PCR 11: evidence of a machine that runs is good for going on, and not for booting.
#[tokio::test]
async fn evidence_of_a_machine_that_runs_is_good_for_going_on_alone() {
    let scene = Scene::leasing(60).await;
    scene.policy("boot", " when { context.boot.image_known }").await;
    let at_boot = tpm::pcrs(&tpm::boot(), BootPhase::BeforeInitrd);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut reference = vec![("ak".to_owned(), [hex(&Ak::P256.fingerprint())].into())];
    reference.extend([4, 11, 15].map(|pcr| (format!("pcrs.{pcr}"), [hex(&at_boot[&pcr])].into())));
    let reference = Some(reference.into_iter().collect());
    scene.change(MachineChange { reference, ..MachineChange::default() }).await;
    let mut running = at_boot.clone();
    for (pcr, word) in [(15, "keyhearth boot released v1"), (11, "sysinit"), (11, "ready")] {
        running.insert(pcr, sha256(&[&running[&pcr], &sha256(&[word.as_bytes()])]));
    }
    let log = || Some(tpm::log(&tpm::boot(), &[tpm::SHA256]));
    let boot = quoted(scene.challenge(Tee::Tpm, &["root"]).await, &running, log());
    assert_eq!(scene.refusal(&boot).await, Reason::PolicyImage.code());
    let held = scene.released(quoted(scene.challenge(Tee::Tpm, &["root"]).await, &at_boot, log())).await;
    let held = scene.released(quoted(scene.continuing_on(Tee::Tpm, &held, &[]).await, &running, log())).await;
    // All else is compared as before, and without evidence nothing goes on.
    let mut other = running.clone();
    other.insert(4, [9; 32]);
    let attempt = quoted(scene.continuing_on(Tee::Tpm, &held, &[]).await, &other, None);
    assert_eq!(scene.refusal(&attempt).await, Reason::PolicyImage.code());
    let attempt = scene.continuing(&held, &[]).await;
    assert_eq!(scene.refusal(&attempt).await, Reason::PolicyImage.code());
    // A wrong MAC gets no evidence compared in this way.
    let mut attempt = quoted(scene.continuing_on(Tee::Tpm, &held, &[]).await, &running, log());
    attempt.attest.continues.as_mut().unwrap().mac = Fixed([0; 32]);
    assert_eq!(scene.refusal(&attempt).await, Reason::ContinuationDiffers.code());
    scene.released(quoted(scene.continuing_on(Tee::Tpm, &held, &[]).await, &running, None)).await;
}

/// A machine that may boot, and has, with a lease of a minute.
async fn running() -> (Scene, (Attempt, Opened)) {
    let scene = Scene::leasing(60).await;
    scene.policy("boot", "").await;
    let held = scene.boot().await;
    (scene, held)
}

#[tokio::test]
async fn a_machine_that_runs_keeps_its_lease_and_gets_late_volumes_under_it() {
    let (scene, first) = running().await;
    let token = scene.confirm(&first, None).await.unwrap();
    let second = scene.beat(&first).await;
    assert!(second.1.volumes.is_empty());
    let entry = scene.home.newest(Operation::ReleaseVolumes).await;
    assert_eq!(entry.detail.as_deref(), Some("nothing on no evidence, boot 1, continued"));
    let secret = scene.volume_secret("data").await.1;
    scene.prepare("data", 1).await;
    let third = scene.released(scene.continuing(&second, &["data"]).await).await;
    assert_eq!(third.1.volumes[0].2.to_vec(), secret);
    let machine = scene.machine().await;
    assert_eq!((machine.boots, machine.lease.unwrap().confirmed), (1, true));
    assert_eq!(machine.released.unwrap().text, "data on no evidence, boot 1, continued");
    // The token is what the boot left.
    scene.confirm(&third, Some(token)).await.unwrap();
}

#[tokio::test]
async fn a_boot_may_be_confirmed_after_it_was_continued_also_if_an_answer_was_lost() {
    let (scene, first) = running().await;
    let second = scene.beat(&first).await;
    assert!(!scene.machine().await.lease.unwrap().confirmed);
    let token = scene.confirm(&first, None).await.unwrap();
    scene.confirm(&second, Some(token)).await.unwrap();
    let third = scene.beat(&first).await;
    assert!(scene.machine().await.lease.unwrap().confirmed);
    assert_eq!(scene.confirm(&second, Some(token)).await, Err(Reason::SessionUnknown.code().to_owned()));
    scene.confirm(&third, Some(token)).await.unwrap();
}

#[tokio::test]
async fn only_the_copy_that_has_the_lease_continues_it() {
    let (scene, first) = running().await;
    let refusal = async |attempt: &Attempt| scene.refusal(attempt).await;
    // The MAC of another request, that of another key, and of a session that never was.
    let good = scene.continuing(&first, &[]).await;
    let replayed = |continues: &Option<Continues>, mut attempt: Attempt| {
        attempt.attest.continues.clone_from(continues);
        attempt
    };
    let attempt = replayed(&good.attest.continues, scene.challenge(Tee::None, &[]).await);
    assert_eq!(refusal(&attempt).await, Reason::ContinuationDiffers.code());
    let forged =
        Opened { confirm: [1; 32].into(), volumes: Vec::new(), image: None, outlook: None, identity: None };
    let attempt = scene.continuing(&(scene.challenge(Tee::None, &[]).await, forged), &[]).await;
    assert_eq!(refusal(&attempt).await, Reason::SessionUnknown.code());
    let Some(Continues { session, .. }) = good.attest.continues else { unreachable!() };
    let attempt = replayed(&Some(Continues { session, mac: Fixed([0; 32]) }), good);
    assert_eq!(refusal(&attempt).await, Reason::ContinuationDiffers.code());
    // A copy of the disk holds nothing from memory: it boots, or asks for nothing.
    let copy = scene.challenge(Tee::None, &["root"]).await;
    assert_eq!(scene.post(boot::Step::Attest, &copy.attest).await.0, 503);
    // An older state of the memory.
    let second = scene.beat(&first).await;
    let third = scene.beat(&second).await;
    let attempt = scene.continuing(&first, &[]).await;
    assert_eq!(refusal(&attempt).await, Reason::SessionUnknown.code());
    // A challenge that was answered: whoever recorded the answer has nothing.
    let attempt = scene.continuing(&third, &[]).await;
    let (status, _): (_, Release) = scene.attest(&attempt).await;
    assert_eq!(status, 200);
    let (status, refused): (_, Refused) = scene.attest(&attempt).await;
    assert_eq!((status, refused.code.as_str()), (403, Reason::ChallengeUnknown.code()));
}

#[tokio::test]
async fn another_machine_continues_nothing() {
    let (scene, first) = running().await;
    let new = NewMachine {
        name: name("web-2"),
        key: by_id(scene.key.id),
        volumes: vec![name("root")],
        reference: [].into(),
        clones: None,
        recovery: false,
    };
    let enrolled = scene.home.ask(&scene.home.key_admin, Ask::EnrollMachine(new)).await;
    let other = got!(enrolled, Response::Machine(one) => *one);
    let other = Scene { machine: other, ..scene };
    let attempt = other.continuing(&first, &[]).await;
    assert_eq!(other.refusal(&attempt).await, Reason::SessionUnknown.code());
    // Nor when it has a lease of its own, by the key of the other one's.
    other.volume_secret("root").await;
    other.prepare("root", 1).await;
    other.policy("other", "").await;
    let second = other.boot().await;
    let attempt = other.continuing(&first, &[]).await;
    assert_eq!(other.refusal(&attempt).await, Reason::SessionUnknown.code());
    let attempt = other.continuing(&(second.0, first.1), &[]).await;
    assert_eq!(other.refusal(&attempt).await, Reason::ContinuationDiffers.code());
}

#[tokio::test]
async fn a_lease_that_is_over_is_not_continued() {
    let scene = Scene::allowed().await;
    let first = scene.boot().await;
    let attempt = scene.continuing(&first, &[]).await;
    assert_eq!(scene.refusal(&attempt).await, Reason::LeaseOver.code());
    // Nor does a machine that boots get a lease on nothing.
    let attempt = scene.challenge(Tee::None, &[]).await;
    assert_eq!(scene.refusal(&attempt).await, Reason::NothingAsked.code());
    assert_eq!(scene.machine().await.boots, 1);
    scene.boot().await;
}

#[tokio::test]
async fn what_ends_a_machine_ends_it_at_its_next_heartbeat() {
    let (scene, first) = running().await;
    scene.home.manage(Ask::SuspendKey { key: by_id(scene.key.id), version: None }).await.unwrap();
    let attempt = scene.continuing(&first, &[]).await;
    assert_eq!(scene.refusal(&attempt).await, Reason::KeyUnusable.code());
    scene.home.manage(Ask::ResumeKey { key: by_id(scene.key.id), version: None }).await.unwrap();
    let second = scene.beat(&first).await;
    let text = r#"forbid (principal, action == Keyhearth::Action::"release-volumes", resource);"#;
    let put = Ask::PutPolicy { name: name("theft"), text: text.to_owned() };
    scene.home.ask(&scene.home.admin, put).await.unwrap();
    let attempt = scene.continuing(&second, &[]).await;
    assert_eq!(scene.refusal(&attempt).await, Reason::Policy.code());
    let delete = Ask::DeletePolicy { name: name("theft") };
    scene.home.ask(&scene.home.admin, delete).await.unwrap();
    let third = scene.beat(&second).await;
    scene.home.ask(&scene.home.admin, Ask::RevokeIdentity { identity: scene.machine.id }).await.unwrap();
    let attempt = scene.continuing(&third, &[]).await;
    let (status, refused): (_, Refused) = scene.attest(&attempt).await;
    assert_eq!((status, refused.code.as_str()), (403, Reason::MachineUnknown.code()));
}

#[tokio::test]
async fn an_approval_of_the_boot_is_enough_if_the_policy_says_so() {
    let scene = Scene::leasing(60).await;
    scene.policy("boot", " when { context.boot.approved || context.boot.continues }").await;
    scene.decide(scene.pending().await, true).await.unwrap();
    let held = scene.beat(&scene.boot().await).await;
    assert!(scene.approvals().await.is_empty());
    // Otherwise every heartbeat waits for one.
    scene.policy("boot", " when { context.boot.approved }").await;
    let attempt = scene.continuing(&held, &[]).await;
    let (status, _): (_, Pending) = scene.attest(&attempt).await;
    assert_eq!(status, 202);
}

/// Of what asks at once when a lease is over, one gets it.
#[tokio::test]
async fn heartbeats_and_a_boot_at_once_never_make_two_holders() {
    let (scene, first) = running().await;
    let beats = [scene.continuing(&first, &[]).await, scene.continuing(&first, &[]).await];
    let copy = scene.challenge(Tee::None, &["root"]).await;
    let attest = async |attempt: &Attempt| scene.post(boot::Step::Attest, &attempt.attest).await.0;
    let (one, other, boot) = tokio::join!(attest(&beats[0]), attest(&beats[1]), attest(&copy));
    assert_eq!(boot, 503);
    assert!([one, other].iter().all(|status| [200, 503].contains(status)) && (one == 200 || other == 200));
    let lease = scene.machine().await.lease.unwrap();
    let holds = |attempt: &&Attempt| attempt.challenged.session.0 == lease.session;
    assert_eq!(beats.iter().filter(holds).count(), 1);
    assert_eq!(
        (lease.before.unwrap().session, scene.machine().await.boots),
        (first.0.challenged.session.0, 1)
    );
}

#[tokio::test]
async fn a_copy_or_an_older_state_of_the_volume_shows_a_stale_token() {
    let scene = Scene::allowed().await;
    let first = scene.boot().await;
    let token = scene.confirm(&first, None).await.unwrap();
    // Written, and shown again: the one before is over.
    scene.confirm(&first, Some(token)).await.unwrap();
    let second = scene.boot().await;
    assert_eq!(scene.confirm(&second, None).await, Err(Reason::TokenStale.code().to_owned()));
    assert_eq!(scene.confirm(&second, Some([9; 32])).await, Err(Reason::TokenStale.code().to_owned()));
    assert_eq!(scene.machine().await.refused.unwrap().code, Reason::TokenStale.code());
    assert_eq!(scene.confirm(&first, Some(token)).await, Err(Reason::SessionUnknown.code().to_owned()));
    scene.confirm(&second, Some(token)).await.unwrap();
    let forged = (second.0, Opened { confirm: [1; 32].into(), ..second.1 });
    assert_eq!(scene.confirm(&forged, Some(token)).await, Err(Reason::ConfirmationDiffers.code().to_owned()));
    // Its owner put an older copy back on purpose.
    scene.change(MachineChange { forget_token: true, ..MachineChange::default() }).await;
    let third = scene.boot().await;
    scene.confirm(&third, None).await.unwrap();
}

#[tokio::test]
async fn an_approval_is_for_one_boot_with_new_evidence() {
    let scene = Scene::new().await;
    scene.policy("boot", " when { context.boot.approved }").await;
    let approval = scene.pending().await;
    // Asked again meanwhile, it is the same.
    assert_eq!(scene.pending().await, approval);
    let waiting = scene.approvals().await;
    assert_eq!((waiting.len(), waiting[0].id, waiting[0].decision), (1, approval, Decision::Pending));
    assert!(waiting[0].summary.contains("volumes root"), "{}", waiting[0].summary);
    assert_eq!(
        scene.home.ask(&scene.home.user, Ask::DecideApproval { approval, approve: true }).await.err(),
        Some(Error::Denied)
    );
    scene.decide(approval, true).await.unwrap();
    scene.boot().await;
    assert!(scene.approvals().await.is_empty());
    let entry = scene.home.newest(Operation::ReleaseVolumes).await;
    assert!(entry.detail.unwrap().contains(&approval.to_string()));
    let another = scene.pending().await;
    assert_ne!(another, approval);
    scene.decide(another, false).await.unwrap();
    assert!(matches!(scene.decide(another, true).await, Err(Error::Conflict(_))));
    let attempt = scene.challenge(Tee::None, &["root"]).await;
    assert_eq!(scene.refusal(&attempt).await, Reason::ApprovalDenied.code());
}

#[tokio::test]
async fn secrets_of_volumes_are_for_those_who_enroll_and_recovery_for_a_reason() {
    let scene = Scene::new().await;
    let (machine, volume, key) = (scene.machine.id, name("root"), by_id(scene.key.id));
    for caller in [&scene.home.user, &scene.home.auditor, &scene.home.admin] {
        let ask = Ask::VolumeSecret { key: key.clone(), machine, volume: volume.clone() };
        assert_eq!(scene.home.ask(caller, ask).await.err(), Some(Error::Denied));
    }
    let recover = || Ask::RecoverySecret { key: key.clone(), machine, volume: volume.clone() };
    let without = scene.home.ask(&scene.home.key_admin, recover()).await;
    assert!(matches!(without, Err(Error::Invalid { field: "reason", .. })));
    let engine = scene.home.engine();
    let given = because(&engine, &scene.home.key_admin, recover(), Some("the machine is gone")).await;
    let secret = got!(given, Response::VolumeSecret { generation: 0, secret, .. } => secret.to_vec());
    assert_ne!(secret, scene.secret);
    let entry = scene.home.newest(Operation::RecoverySecret).await;
    assert_eq!(entry.reason.as_deref(), Some("the machine is gone"));
    drop(scene.house);
}

#[tokio::test]
async fn a_machine_is_enrolled_with_a_key_for_release_and_nothing_else() {
    let scene = Scene::new().await;
    let other = scene.home.create(new_key(Algorithm::Aes256)).await;
    let new = |key, volumes: &[&str]| NewMachine {
        name: name("web-2"),
        key,
        volumes: volumes.iter().map(|volume| name(volume)).collect(),
        reference: [].into(),
        clones: None,
        recovery: false,
    };
    for (new, field) in [
        (new(by_id(other.id), &["root"]), "key"),
        (new(by_id(scene.key.id), &[]), "volumes"),
        (new(by_id(scene.key.id), &["root", "root"]), "volumes"),
    ] {
        let refused = scene.home.ask(&scene.home.key_admin, Ask::EnrollMachine(new)).await;
        assert!(matches!(refused, Err(Error::Invalid { field: found, .. }) if found == field), "{field}");
    }
    let both =
        NewKey { usage: vec!["mac".to_owned(), "release".to_owned()], ..new_key(Algorithm::HmacSha256) };
    let refused = scene.home.ask(&scene.home.key_admin, Ask::CreateKey(both)).await;
    assert!(matches!(refused, Err(Error::Invalid { field: "usage", .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_comes_again_while_its_certificate_is_fetched() {
    let (generation, signer) = (Generation::Milan, Signer::Vcek);
    let folder = tempfile::tempdir().unwrap();
    let endorsements = folder.path().join("endorsements");
    std::fs::create_dir(&endorsements).unwrap();
    std::fs::write(folder.path().join("root"), snp::ark().der()).unwrap();
    std::fs::write(endorsements.join("issuer"), snp::intermediate(generation, signer).der()).unwrap();
    let (certificate, list) = (snp::Leaf::new(generation, signer).der(), snp::List::of(&[9]).der());
    let mirror = Listener::bind_plain((Ipv4Addr::LOCALHOST, 0).into(), Limits::default()).await.unwrap();
    let url = format!("http://{}", mirror.address());
    let serve = move |_: Arc<Peer<()>>, request: http::Request<Incoming>| {
        let body = if request.uri().path().ends_with("/crl") { list.clone() } else { certificate.clone() };
        async move { http::Response::new(Full::new(Bytes::from(body))) }
    };
    let (_stop, shutdown) = Stop::new();
    tokio::spawn(mirror.serve(serve, shutdown));
    let config = BootConfig {
        endorsements: Some(endorsements),
        roots: [("lab".to_owned(), folder.path().join("root"))].into(),
        fetch: FetchConfig { enabled: true, amd: url, ..FetchConfig::default() },
        ..BootConfig::default()
    };
    let scene = Scene::judging(0, config).await;
    scene.policy("boot", " when { context.boot.memory_encrypted && context.boot.revocation_checked }").await;
    let mut told = Vec::new();
    loop {
        let mut attempt = scene.challenge(Tee::Snp, &["root"]).await;
        let mut report = snp::report(5, generation, signer);
        report[0x50..0x90].copy_from_slice(&attempt.transcript.0);
        snp::sign(&mut report);
        attempt.attest.evidence = Some(report.into());
        let (status, _) = scene.post(boot::Step::Attest, &attempt.attest).await;
        told.push(status);
        if status != 503 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(told.len() > 1 && told.last() == Some(&200), "{told:?}");
    // Coming again is no refusal.
    assert!(scene.machine().await.refused.is_none());
}
