//! Refusals that need more than one machine without hardware: too many that wait, and hardware that is known to be weakened.

use std::fs;

use keyhearth_attest::snp::{Generation, Signer};
use keyhearth_core::machine::{APPROVALS_MAX, BootFacts, Claim, Claims, Comparison};
use keyhearth_machines::snp::{Leaf, List, ark, intermediate, report, sign};

use super::*;

/// Boots that differ in what they claim wait one by one.
#[tokio::test]
async fn approvals_that_wait_are_not_without_end() {
    let scene = Scene::new().await;
    scene.policy("boot", " when { context.boot.approved }").await;
    let engine = scene.home.engine();
    let address = Ipv4Addr::LOCALHOST.into();
    let caller = engine.booting(scene.machine.id, address).await.unwrap().caller;
    let wait = async |number: usize| {
        let claims: Claims = [("kind".to_owned(), Claim::Text(number.to_string()))].into();
        let facts = BootFacts {
            volumes: vec![name("root")],
            claims,
            comparison: Comparison::NoReference,
            counter: 0,
            approval: None,
            continues: None,
            image: None,
        };
        scene.home.ask(&caller, Ask::AskApproval { facts: Box::new(facts) }).await
    };
    for number in 0..APPROVALS_MAX {
        wait(number).await.unwrap();
    }
    assert!(matches!(wait(APPROVALS_MAX).await, Err(Error::TooLarge { field: "approvals", .. })));
    let attempt = scene.challenge(Tee::None, &["root"]).await;
    assert_eq!(scene.refusal(&attempt).await, Reason::ApprovalsFull.code());
}

#[tokio::test]
async fn hardware_that_is_known_to_be_weakened_is_named_as_what_is_missing() {
    let (generation, signer) = (Generation::Milan, Signer::Vcek);
    let folder = tempfile::tempdir().unwrap();
    let endorsements = folder.path().join("endorsements");
    fs::create_dir(&endorsements).unwrap();
    for (file, der) in [
        ("leaf", Leaf::new(generation, signer).der()),
        ("intermediate", intermediate(generation, signer).der()),
        ("list", List::of(&[9]).der()),
    ] {
        fs::write(endorsements.join(file), der).unwrap();
    }
    let root = folder.path().join("root");
    fs::write(&root, ark().der()).unwrap();
    let config = BootConfig {
        endorsements: Some(endorsements),
        roots: [("made".to_owned(), root)].into(),
        ..BootConfig::default()
    };
    let scene = Scene::judging(0, config).await;
    scene.policy("boot", " when { context.boot.memory_encrypted && !context.boot.reduced_assurance }").await;
    let on_milan = async || {
        let mut attempt = scene.challenge(Tee::Snp, &["root"]).await;
        let mut evidence = report(5, generation, signer);
        evidence[0x50..0x90].copy_from_slice(&attempt.transcript.0);
        sign(&mut evidence);
        attempt.attest.evidence = Some(evidence.into());
        attempt
    };
    assert_eq!(scene.refusal(&on_milan().await).await, Reason::PolicyAssurance.code());
    let kept = scene.machine().await.refused.unwrap().text;
    assert!(kept.contains("the hardware is of reduced assurance"), "{kept}");
    scene.policy("boot", " when { context.boot.memory_encrypted }").await;
    scene.released(on_milan().await).await;
}
