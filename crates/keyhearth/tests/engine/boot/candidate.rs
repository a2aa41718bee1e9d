//! What a machine that runs says of its next boot: who may say it, what becomes of it, and who accepts it.

use keyhearth_core::machine::{CANDIDATES_MAX, Reference};
use keyhearth_proto::boot::{Candidate, Expected};

use super::*;

fn candidate(claims: &[(&str, &str)], dry_run: bool) -> Candidate {
    let expected =
        |(claim, value): &(&str, &str)| Expected { claim: (*claim).to_owned(), value: (*value).to_owned() };
    Candidate { claims: claims.iter().map(expected).collect(), dry_run }
}

fn reference(pairs: &[(&str, &str)]) -> Reference {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), [(*value).to_owned()].into())).collect()
}

impl Scene {
    /// What this attempt says besides; its transcript is another one then.
    fn saying(&self, tee: Tee, mut attempt: Attempt, candidate: Candidate) -> Attempt {
        attempt.transcript = Transcript::of(&Covered {
            session: &attempt.challenged.session.0,
            nonce: &attempt.challenged.nonce.0,
            server: DeploymentId(attempt.challenged.server.0.0),
            machine: self.machine.id,
            ephemeral: &attempt.keys.public,
            volumes: &[],
            headers: &[],
            boot_counter: 3,
            tee,
            candidate: Some(&candidate),
            clone: false,
        });
        attempt.attest.candidate = Some(candidate);
        attempt
    }

    /// A request under the lease of `held` that says what the next boot will be.
    async fn proposing(&self, tee: Tee, held: &(Attempt, Opened), candidate: Candidate) -> Attempt {
        let mut attempt = self.saying(tee, self.challenge(tee, &[]).await, candidate);
        let mac = Fixed(boot::continue_mac(&held.1.confirm, &attempt.transcript));
        attempt.attest.continues = Some(Continues { session: held.0.challenged.session, mac });
        attempt
    }

    /// What the server says of it: what waits, and what is none of the reference values.
    async fn propose(
        &self,
        held: (Attempt, Opened),
        claims: &[(&str, &str)],
    ) -> ((Attempt, Opened), Option<RequestId>, Vec<String>) {
        let attempt = self.proposing(Tee::None, &held, candidate(claims, false)).await;
        let mut held = self.released(attempt).await;
        let outlook = held.1.outlook.take().unwrap();
        (held, outlook.candidate.map(|id| *id), outlook.lacks)
    }

    async fn refer(&self, pairs: &[(&str, &str)]) {
        let reference = Some(reference(pairs));
        self.change(MachineChange { reference, ..MachineChange::default() }).await;
    }

    async fn decide_candidate(&self, candidate: RequestId, accept: bool) -> Result<Response, Error> {
        let ask = Ask::DecideCandidate { machine: self.machine.id, candidate, accept };
        self.home.ask(&self.home.key_admin, ask).await
    }
}

#[tokio::test]
async fn what_is_accepted_is_added_to_the_reference_values_and_the_log_has_it() {
    let (scene, held) = running().await;
    scene.refer(&[("pcrs.11", "old")]).await;
    let (held, candidate, lacks) = scene.propose(held, &[("pcrs.11", "old"), ("pcrs.9", "x")]).await;
    assert_eq!((candidate, lacks.len()), (None, 0));
    let (held, candidate, lacks) = scene.propose(held, &[("pcrs.11", "new"), ("pcrs.9", "x")]).await;
    let candidate = candidate.unwrap();
    assert_eq!(lacks, ["pcrs.11"]);
    let entry = scene.home.newest(Operation::ReleaseVolumes).await;
    assert_eq!(entry.request, candidate);
    assert!(entry.detail.unwrap().ends_with(&format!("candidate {candidate} waits")));
    assert_eq!(scene.machine().await.candidates[0].claims["pcrs.11"], "new");
    // It is a heartbeat besides, and waiting changes nothing that is demanded.
    assert_eq!(scene.machine().await.lease.unwrap().session, held.0.challenged.session.0);
    assert_eq!(scene.machine().await.reference, reference(&[("pcrs.11", "old")]));
    scene.decide_candidate(candidate, true).await.unwrap();
    let machine = scene.machine().await;
    assert_eq!(machine.reference["pcrs.11"], ["new".to_owned(), "old".to_owned()].into());
    assert!(machine.candidates.is_empty() && machine.reference.len() == 1);
    let entry = scene.home.newest(Operation::DecideCandidate).await;
    assert_eq!(entry.actor, Some(scene.home.key_admin.principal));
    assert!(entry.detail.unwrap().ends_with(&format!("accepted {candidate}: pcrs.11=new")));
    assert_eq!(scene.decide_candidate(candidate, true).await.err(), Some(Error::NotFound("candidate")));
    // The next boot meets them, and then the old value is taken away.
    let (held, again, _) = scene.propose(held, &[("pcrs.11", "new")]).await;
    assert_eq!(again, None);
    let drop = reference(&[("pcrs.11", "old")]);
    scene.change(MachineChange { drop, ..MachineChange::default() }).await;
    assert_eq!(scene.machine().await.reference, reference(&[("pcrs.11", "new")]));
    let (_, rejected, _) = scene.propose(held, &[("pcrs.11", "odd")]).await;
    scene.decide_candidate(rejected.unwrap(), false).await.unwrap();
    assert!(scene.machine().await.candidates.is_empty());
    assert_eq!(scene.machine().await.reference, reference(&[("pcrs.11", "new")]));
}

#[tokio::test]
async fn only_a_machine_that_has_the_lease_says_what_its_next_boot_will_be() {
    let (scene, held) = running().await;
    scene.refer(&[("pcrs.11", "old")]).await;
    let new = || candidate(&[("pcrs.11", "new")], false);
    // A MAC over the request without what it says, one of another key, a session that never was, and none at all.
    let attempt = scene.saying(Tee::None, scene.continuing(&held, &[]).await, new());
    assert_eq!(scene.refusal(&attempt).await, Reason::ContinuationDiffers.code());
    let mut attempt = scene.proposing(Tee::None, &held, new()).await;
    attempt.attest.candidate = Some(candidate(&[("pcrs.11", "newer")], false));
    assert_eq!(scene.refusal(&attempt).await, Reason::ContinuationDiffers.code());
    let forged =
        Opened { confirm: [1; 32].into(), volumes: Vec::new(), image: None, outlook: None, identity: None };
    let attempt = scene.proposing(Tee::None, &(scene.challenge(Tee::None, &[]).await, forged), new()).await;
    assert_eq!(scene.refusal(&attempt).await, Reason::SessionUnknown.code());
    let attempt = scene.saying(Tee::None, scene.challenge(Tee::None, &[]).await, new());
    assert_eq!(scene.refusal(&attempt).await, Reason::CandidateEarly.code());
    // What policies do not let go on says nothing either.
    scene.policy("boot", " when { context.boot.memory_encrypted }").await;
    let attempt = scene.proposing(Tee::None, &held, new()).await;
    assert_eq!(scene.refusal(&attempt).await, Reason::PolicyMemory.code());
    assert!(scene.machine().await.candidates.is_empty());
    // A lease that is over.
    let scene = Scene::allowed().await;
    let held = scene.boot().await;
    let attempt = scene.proposing(Tee::None, &held, new()).await;
    assert_eq!(scene.refusal(&attempt).await, Reason::LeaseOver.code());
}

/// Whoever has the key from memory but not the machine cannot say it: the evidence covers what is said.
#[tokio::test]
async fn the_evidence_covers_what_is_said() {
    let scene = Scene::leasing(60).await;
    scene.policy("boot", " when { context.boot.image_known }").await;
    let at_boot = tpm::pcrs(&tpm::boot(), BootPhase::BeforeInitrd);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (ak, pcr) = (hex(&Ak::P256.fingerprint()), hex(&at_boot[&11]));
    scene.refer(&[("ak", &ak), ("pcrs.11", &pcr)]).await;
    let held = scene.released(quoted(scene.challenge(Tee::Tpm, &["root"]).await, &at_boot, None)).await;
    let new = || candidate(&[("pcrs.11", "new")], false);
    // A quote that was made for a heartbeat is not one for this.
    let beat = quoted(scene.continuing_on(Tee::Tpm, &held, &[]).await, &at_boot, None);
    let evidence = beat.attest.evidence.clone();
    let mut attempt = scene.saying(Tee::Tpm, beat, new());
    let mac = Fixed(boot::continue_mac(&held.1.confirm, &attempt.transcript));
    attempt.attest.continues = Some(Continues { session: held.0.challenged.session, mac });
    attempt.attest.evidence = evidence;
    assert_eq!(scene.refusal(&attempt).await, keyhearth_attest::Reason::ReportDataDiffers.code());
    assert!(scene.machine().await.candidates.is_empty());
    let attempt = quoted(scene.proposing(Tee::Tpm, &held, new()).await, &at_boot, None);
    let held = scene.released(attempt).await;
    assert!(held.1.outlook.unwrap().candidate.is_some());
}

#[tokio::test]
async fn candidates_are_few_and_a_dry_run_leaves_none() {
    let (scene, mut held) = running().await;
    scene.refer(&[("pcrs.11", "old")]).await;
    let attempt = scene.proposing(Tee::None, &held, candidate(&[("pcrs.11", "new")], true)).await;
    held = scene.released(attempt).await;
    let outlook = held.1.outlook.take().unwrap();
    assert_eq!((outlook.candidate, outlook.lacks.len()), (None, 1));
    assert!(scene.machine().await.candidates.is_empty());
    let mut waiting = Vec::new();
    for number in 0..=CANDIDATES_MAX {
        let (next, candidate, _) = scene.propose(held, &[("pcrs.11", &number.to_string())]).await;
        waiting.push(candidate.unwrap());
        held = next;
    }
    let kept: Vec<_> = scene.machine().await.candidates.iter().map(|candidate| candidate.id).collect();
    assert_eq!(kept, waiting[1..], "the newest takes the place of the oldest");
    assert_eq!(scene.decide_candidate(waiting[0], true).await.err(), Some(Error::NotFound("candidate")));
    let (_, again, _) = scene.propose(held, &[("pcrs.11", "2")]).await;
    assert_eq!(again, Some(waiting[2]));
    // What is no candidate is no request.
    let many: Vec<_> = (0..17).map(|number| format!("pcrs.{number}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), "x")).collect();
    for claims in [&[][..], &[("pcrs.11", "a"), ("pcrs.11", "b")], &[("pcrs.11", "\u{1b}[2J")], &many] {
        let mut attempt = scene.challenge(Tee::None, &[]).await;
        attempt.attest.candidate = Some(candidate(claims, false));
        let status = scene.post(boot::Step::Attest, &attempt.attest).await.0;
        assert!([400, 413].contains(&status), "{status} {claims:?}");
    }
}

#[tokio::test]
async fn who_enrolls_machines_accepts_and_nobody_else() {
    let (scene, held) = running().await;
    scene.refer(&[("pcrs.11", "old")]).await;
    let (_, candidate, _) = scene.propose(held, &[("pcrs.11", "new")]).await;
    let candidate = candidate.unwrap();
    for caller in [&scene.home.user, &scene.home.auditor, &scene.home.admin] {
        let ask = Ask::DecideCandidate { machine: scene.machine.id, candidate, accept: true };
        assert_eq!(scene.home.ask(caller, ask).await.err(), Some(Error::Denied));
    }
    let other = scene.house.tenant("two").await;
    let ask = Ask::DecideCandidate { machine: scene.machine.id, candidate, accept: true };
    assert_eq!(other.ask(&other.key_admin, ask).await.err(), Some(Error::NotFound("machine")));
    assert_eq!(scene.machine().await.reference, reference(&[("pcrs.11", "old")]));
    scene.decide_candidate(candidate, true).await.unwrap();
}
