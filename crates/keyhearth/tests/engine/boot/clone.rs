//! Clones of a golden image: who gets an identity, how often, and what it opens.

use keyhearth_core::id::PrincipalId;
use keyhearth_proto::boot::Settle;

use super::*;

/// The header that a clone's volume has once it has its own secret.
const SETTLED: [u8; 32] = [8; 32];

/// A clone between its identity and its settling.
struct Newborn {
    attempt: Attempt,
    opened: Opened,
    id: PrincipalId,
    secret: [u8; 32],
}

impl Scene {
    /// A golden image of so many clones in the place of the machine, that policies allow to be cloned.
    async fn golden(clones: u32) -> Self {
        let mut scene = Self::new().await;
        let new = NewMachine {
            name: name("golden"),
            key: by_id(scene.key.id),
            volumes: vec![name("root")],
            reference: [].into(),
            clones: Some(clones),
            recovery: clones > 2,
        };
        let enroll = Ask::EnrollMachine(new);
        scene.machine =
            got!(scene.home.ask(&scene.home.key_admin, enroll).await, Response::Machine(one) => *one);
        scene.secret = scene.volume_secret("root").await.1;
        scene.prepare("root", 1).await;
        scene.image_policy("").await;
        scene
    }

    async fn image_policy(&self, condition: &str) {
        let (image, actions) =
            (self.machine.id, r#"[Keyhearth::Action::"clone-image", Keyhearth::Action::"release-volumes"]"#);
        let text = format!(
            r#"permit (principal, action in {actions}, resource) when {{ context.boot.image == "{image}" {condition}}};"#
        );
        let put = Ask::PutPolicy { name: name("image"), text };
        self.home.ask(&self.home.admin, put).await.unwrap();
    }

    /// An attempt of a clone, sealed to `keys` if it asked before.
    async fn cloning(&self, keys: Option<KeyPair>) -> Attempt {
        let mut attempt = self.challenge(Tee::None, &["root"]).await;
        attempt.keys = keys.unwrap_or(attempt.keys);
        self.bind(&mut attempt, self.machine.id, HEADER, true);
        attempt
    }

    /// Makes the attempt one of this machine, for a volume with this header.
    fn bind(&self, attempt: &mut Attempt, machine: PrincipalId, header: [u8; 32], clone: bool) {
        let Attempt { challenged, keys, transcript, attest } = attempt;
        *transcript = Transcript::of(&Covered {
            session: &challenged.session.0,
            nonce: &challenged.nonce.0,
            server: DeploymentId(challenged.server.0.0),
            machine,
            ephemeral: &keys.public,
            volumes: &[name("root")],
            headers: &[header],
            boot_counter: 3,
            tee: Tee::None,
            candidate: None,
            clone,
        });
        attest.ephemeral = keys.public.as_slice().into();
        attest.headers = vec![Fixed(header)];
        attest.clone = clone;
    }

    async fn born(&self, keys: Option<KeyPair>) -> Newborn {
        let (attempt, opened) = self.released(self.cloning(keys).await).await;
        let (id, secret) = opened.identity.as_ref().map(|one| (one.machine, *one.secret)).unwrap();
        Newborn { attempt, opened, id, secret }
    }

    async fn settle(&self, newborn: &Newborn, header: [u8; 32]) -> Result<(), String> {
        let session = newborn.attempt.challenged.session;
        let mac = boot::settle_mac(&newborn.opened.confirm, newborn.id, &session.0, &header);
        self.say(&Settle { machine: Is(newborn.id), session, header: Fixed(header), mac: Fixed(mac) }).await
    }

    async fn say(&self, settle: &Settle) -> Result<(), String> {
        let (status, body) = self.post(boot::Step::Settle, settle).await;
        if status == 200 { Ok(()) } else { Err(boot::read::<Refused>(&body).unwrap().code) }
    }

    /// The machine is this one from now on.
    async fn become_clone(&mut self, id: PrincipalId) {
        self.machine.id = id;
        self.machine = self.machine().await;
    }

    /// A boot of the clone that the machine is now.
    async fn own_boot(&self, header: [u8; 32]) -> Attempt {
        let mut attempt = self.challenge(Tee::None, &["root"]).await;
        self.bind(&mut attempt, self.machine.id, header, false);
        attempt
    }
}

#[tokio::test]
async fn each_clone_is_a_machine_of_its_own() {
    let mut scene = Scene::golden(2).await;
    let image = scene.machine.id;
    let (one, two) = (scene.born(None).await, scene.born(None).await);
    let opens = |newborn: &Newborn| newborn.opened.volumes[0].2.to_vec();
    assert_eq!((opens(&one), opens(&two)), (scene.secret.clone(), scene.secret.clone()));
    assert!(one.id != two.id && one.secret != two.secret && one.secret.to_vec() != scene.secret);
    let entry = scene.home.newest(Operation::CloneImage).await;
    assert_eq!((entry.actor, entry.key, entry.result), (Some(image), Some(scene.key.id), Outcome::Done));
    let detail = entry.detail.unwrap();
    assert!(detail.contains(&two.id.to_string()) && !detail.contains("recovery"), "{detail}");
    let counted = scene.machine().await.image.unwrap();
    assert_eq!((counted.clones, counted.clones_max), (2, 2));
    // There is no third.
    assert_eq!(scene.refusal(&scene.cloning(None).await).await, Reason::ClonesFull.code());

    scene.settle(&one, SETTLED).await.unwrap();
    assert_eq!(scene.home.newest(Operation::SettleClone).await.actor, Some(one.id));
    scene.become_clone(one.id).await;
    let clone = &scene.machine;
    assert_eq!((clone.name.as_str(), clone.image_id(), clone.image), ("golden-1", Some(image), None));
    // It boots with its own header and secret alone, as any machine does, and keeps a token of its own.
    assert_eq!(scene.refusal(&scene.own_boot(HEADER).await).await, Reason::HeaderDiffers.code());
    let held = scene.released(scene.own_boot(SETTLED).await).await;
    assert_eq!((held.1.volumes[0].1, *held.1.volumes[0].2), (1, one.secret));
    scene.confirm(&held, None).await.unwrap();
    assert!(scene.machine().await.next_token.is_some());
    // The other has not settled, and gets nothing.
    scene.become_clone(two.id).await;
    assert_eq!(scene.refusal(&scene.own_boot(SETTLED).await).await, Reason::VolumeUnknown.code());
}

#[tokio::test]
async fn who_asks_again_is_the_same_clone_and_nobody_else_is() {
    let mut scene = Scene::golden(2).await;
    let image = scene.machine.clone();
    let first = scene.born(None).await;
    let keys = |attempt: &Attempt| KeyPair {
        public: attempt.keys.public.clone(),
        private: keyhearth_crypto::secret::SecretBytes::copy_from(attempt.keys.private.expose()).unwrap(),
    };
    // The answer was lost.
    let again = scene.born(Some(keys(&first.attempt))).await;
    assert_eq!((again.id, again.secret), (first.id, first.secret));
    assert_eq!(scene.machine().await.image.unwrap().clones, 1);
    // Only the newest answer settles.
    assert_eq!(scene.settle(&first, SETTLED).await, Err(Reason::SessionUnknown.code().to_owned()));
    scene.settle(&again, SETTLED).await.unwrap();
    scene.settle(&again, SETTLED).await.unwrap();
    assert_eq!(scene.settle(&again, HEADER).await, Err(Reason::HeaderDiffers.code().to_owned()));
    // What has settled is not given once more.
    let (status, _) =
        scene.post(boot::Step::Attest, &scene.cloning(Some(keys(&first.attempt))).await.attest).await;
    assert_eq!(status, 400);
    scene.become_clone(again.id).await;
    scene.released(scene.own_boot(SETTLED).await).await;
    assert_eq!(scene.settle(&again, SETTLED).await, Err(Reason::SessionUnknown.code().to_owned()));
    scene.machine = image;
    assert_ne!(scene.born(None).await.id, again.id);
}

#[tokio::test]
async fn settling_needs_the_key_of_the_answer() {
    let scene = Scene::golden(1).await;
    let newborn = scene.born(None).await;
    let session = newborn.attempt.challenged.session;
    let mac = boot::settle_mac(&boot::Key::new([1; 32]), newborn.id, &session.0, &SETTLED);
    let forged = Settle { machine: Is(newborn.id), session, header: Fixed(SETTLED), mac: Fixed(mac) };
    assert_eq!(scene.say(&forged).await, Err(Reason::ConfirmationDiffers.code().to_owned()));
    let good = boot::settle_mac(&newborn.opened.confirm, newborn.id, &session.0, &SETTLED);
    let moved = Settle { header: Fixed(HEADER), mac: Fixed(good), ..forged.clone() };
    assert_eq!(scene.say(&moved).await, Err(Reason::ConfirmationDiffers.code().to_owned()));
    let image = Settle { machine: Is(scene.machine.id), ..forged };
    assert_eq!(scene.say(&image).await, Err(Reason::SessionUnknown.code().to_owned()));
    scene.settle(&newborn, SETTLED).await.unwrap();
}

#[tokio::test]
async fn an_image_gives_identities_and_nothing_else_and_machines_give_none() {
    let scene = Scene::golden(1).await;
    let boots = scene.challenge(Tee::None, &["root"]).await;
    assert_eq!(scene.refusal(&boots).await, Reason::IsImage.code());
    let mut other = scene.cloning(None).await;
    scene.bind(&mut other, scene.machine.id, SETTLED, true);
    assert_eq!(scene.refusal(&other).await, Reason::HeaderDiffers.code());
    // What was asked for is part of the transcript: evidence for one does not serve for the other.
    let mut asks = scene.cloning(None).await;
    assert!(asks.transcript != boots.transcript);
    let clone = asks.transcript;
    scene.bind(&mut asks, scene.machine.id, HEADER, false);
    assert!(asks.transcript != clone);
    let machine = Scene::allowed().await;
    assert_eq!(machine.refusal(&machine.cloning(None).await).await, Reason::NoImage.code());
}

#[tokio::test]
async fn policies_and_approvals_govern_who_gets_an_identity() {
    let scene = Scene::golden(3).await;
    scene.image_policy("&& context.boot.memory_encrypted ").await;
    assert_eq!(scene.refusal(&scene.cloning(None).await).await, Reason::PolicyMemory.code());
    scene.image_policy("&& context.boot.approved ").await;
    let (status, pending): (_, Pending) = scene.attest(&scene.cloning(None).await).await;
    assert_eq!(status, 202);
    scene.decide(*pending.approval, true).await.unwrap();
    scene.born(None).await;
    // It was for one clone.
    let (status, _): (_, Pending) = scene.attest(&scene.cloning(None).await).await;
    assert_eq!(status, 202);
    assert_eq!(scene.machine().await.image.unwrap().clones, 1);
}

#[tokio::test]
async fn revoking_an_image_ends_cloning_and_not_its_clones() {
    let mut scene = Scene::golden(3).await;
    let (settled, late) = (scene.born(None).await, scene.born(None).await);
    // Of this image clones get their recovery secrets, which is said.
    let recovery = settled.opened.identity.as_ref().unwrap().recovery.as_deref().unwrap();
    assert!(*recovery != settled.secret && recovery.to_vec() != scene.secret);
    let entry = scene.home.newest(Operation::CloneImage).await;
    assert!(entry.detail.unwrap().ends_with(", with its recovery secret"));
    scene.settle(&settled, SETTLED).await.unwrap();
    let revoke = Ask::RevokeIdentity { identity: scene.machine.id };
    scene.home.ask(&scene.home.admin, revoke).await.unwrap();
    let (status, refused): (_, Refused) = scene.attest(&scene.cloning(None).await).await;
    assert_eq!((status, refused.code.as_str()), (403, Reason::MachineUnknown.code()));
    // Who has an identity may still settle.
    scene.settle(&late, SETTLED).await.unwrap();
    scene.become_clone(settled.id).await;
    scene.released(scene.own_boot(SETTLED).await).await;
    // The key is that of all.
    let suspend = Ask::SuspendKey { key: by_id(scene.key.id), version: None };
    scene.home.ask(&scene.home.key_admin, suspend).await.unwrap();
    assert_eq!(scene.refusal(&scene.own_boot(SETTLED).await).await, Reason::KeyUnusable.code());
}

#[tokio::test]
async fn a_name_that_is_taken_gets_a_part_of_the_id() {
    let mut scene = Scene::golden(1).await;
    let taken = NewMachine {
        name: name("golden-1"),
        key: by_id(scene.key.id),
        volumes: vec![name("root")],
        reference: [].into(),
        clones: None,
        recovery: false,
    };
    scene.home.ask(&scene.home.key_admin, Ask::EnrollMachine(taken)).await.unwrap();
    let newborn = scene.born(None).await;
    scene.become_clone(newborn.id).await;
    assert_eq!(scene.machine.name.as_str(), format!("golden-1-{}", &newborn.id.to_string()[..8]));
}

#[tokio::test]
async fn the_policies_of_the_document_are_policies() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/boot/images.md");
    let page = std::fs::read_to_string(path).unwrap();
    let [_, example] = page.split("```cedar\n").collect::<Vec<_>>()[..] else { panic!("one example") };
    let example = example.split("```").next().unwrap();
    let scene = Scene::golden(1).await;
    let text = example.replace("01990a3e-…", &scene.machine.id.to_string());
    scene.home.ask(&scene.home.admin, Ask::PutPolicy { name: name("image"), text }).await.unwrap();
    // Nothing but evidence is lacking.
    assert_eq!(scene.refusal(&scene.cloning(None).await).await, Reason::Policy.code());
}
