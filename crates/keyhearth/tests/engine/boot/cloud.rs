//! What clouds say of a machine: read by policies and reference values, and refused with its reason.

use std::time::Duration;

use keyhearth_machines::clouds::{self, Certificate, Signer};
use serde_json::json;
use tempfile::TempDir;

use super::*;

impl Scene {
    /// One that believes the made certificates of clouds in a folder, which is there as long as the result.
    async fn in_clouds(lease_s: u32) -> (Self, TempDir) {
        let folder = TempDir::new().unwrap();
        for (cloud, file) in [("aws", "hearth-west-1.crt"), ("gcp", "certificates")] {
            std::fs::create_dir(folder.path().join(cloud)).unwrap();
            std::fs::write(folder.path().join(cloud).join(file), Certificate::of_region().der()).unwrap();
        }
        let clouds = Some(folder.path().to_owned());
        (Self::judging(lease_s, BootConfig { clouds, ..BootConfig::default() }).await, folder)
    }
}

/// What AWS says of an instance in this account.
fn aws(account: &str) -> Option<Vec<u8>> {
    let mut document = clouds::aws_document();
    document["accountId"] = json!(account);
    Some(clouds::Message::aws(&document).as_aws())
}

/// What GCP says to a request with this transcript, now.
fn gcp(transcript: &Transcript) -> Option<Vec<u8>> {
    let mut token = clouds::gcp_token(&transcript.0);
    let now_s = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    (token["iat"], token["exp"]) = (json!(now_s), json!(now_s + 3_600));
    Some(clouds::jwt("RS256", &token, Signer::Region))
}

/// A condition on a claim of the cloud's.
fn says_of_cloud((claim, value): (&str, &str)) -> String {
    format!(r#"context.boot.hasTag("cloud.{claim}") && context.boot.getTag("cloud.{claim}") == "{value}""#)
}

/// Whoever hangs up does not get another place while the work for it goes on.
#[tokio::test]
async fn appraisals_keep_their_places_when_machines_hang_up() {
    let (scene, folder) = Scene::in_clouds(0).await;
    // Whoever reads it waits until somebody writes into it.
    let pipe = folder.path().join("gcp/pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // Without a place a request is not even read.
    let is_full = async || match scene.post(boot::Step::Attest, &json!({})).await.0 {
        503 => true,
        400 => false,
        status => panic!("{status}"),
    };
    let mut stayed_full = false;
    // Whoever hangs up before the work began gives the place back, and another one takes it in the next round.
    for round in 0..20 {
        let mut machines = Vec::new();
        while machines.len() < 100 && !is_full().await {
            let mut attempt = scene.challenge(Tee::None, &["root"]).await;
            attempt.attest.cloud = gcp(&attempt.transcript).map(Into::into);
            machines.push(scene.send(boot::Step::Attest, &attempt.attest).await);
        }
        // Each round gives the last of them more time to have its work begun.
        tokio::time::sleep(Duration::from_millis(50 * round)).await;
        drop(machines);
        stayed_full = true;
        for _ in 0..25 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            stayed_full &= is_full().await;
        }
        if stayed_full {
            break;
        }
    }
    let end = folder.path().join("end");
    std::fs::rename(&pipe, &end).unwrap();
    // Whoever opened it before reads its end now; it waits for nobody, as it is opened for both.
    for _ in 0..25 {
        drop(std::fs::OpenOptions::new().read(true).write(true).open(&end).unwrap());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(stayed_full);
    while is_full().await {}
}

/// A policy that asks for what a cloud says looks, to whoever wrote it, like any other that does not allow.
#[tokio::test]
async fn a_document_that_did_not_come_is_said_to_be_missing() {
    let (scene, _folder) = Scene::in_clouds(0).await;
    scene.policy("boot", &format!(" when {{ {} }}", says_of_cloud(("provider", "aws")))).await;
    let said = async |document: Option<Vec<u8>>| {
        let mut attempt = scene.challenge(Tee::None, &["root"]).await;
        attempt.attest.cloud = document.map(Into::into);
        let (_, refused): (_, Refused) = scene.attest(&attempt).await;
        let entry = scene.home.newest(Operation::RefuseEvidence).await;
        assert!(entry.detail.unwrap().contains(&refused.text), "{}", refused.text);
        (refused.code, refused.text.contains("no identity document of its cloud came"))
    };
    assert_eq!(said(None).await, ("policy".to_owned(), true));
    scene.policy("boot", " when { context.boot.image_known }").await;
    let account = ("cloud.account".to_owned(), ["123456789012".to_owned()].into());
    scene.change(MachineChange { reference: Some([account].into()), ..MachineChange::default() }).await;
    assert_eq!(said(None).await, ("policy-image".to_owned(), true));
    // One that came is what it is.
    assert_eq!(said(aws("210987654321")).await, ("policy-image".to_owned(), false));
    scene.policy("boot", " when { context.boot.counter == 77 }").await;
    assert_eq!(said(aws("123456789012")).await, ("policy".to_owned(), false));

    // Where no document would be believed, none is missing.
    let elsewhere = Scene::new().await;
    let (_, refused): (_, Refused) = elsewhere.attest(&elsewhere.challenge(Tee::None, &["root"]).await).await;
    assert!(refused.code == "policy" && !refused.text.contains("cloud"), "{}", refused.text);
}

/// Policies may read a tag only where they know that it is there.
#[tokio::test]
async fn the_policies_of_the_document_are_policies() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/boot/release.md");
    let document = std::fs::read_to_string(path).unwrap();
    let examples: Vec<_> =
        document.split("```cedar").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() > 1);
    let scene = Scene::new().await;
    for text in examples {
        let put = Ask::PutPolicy { name: name("example"), text: text.to_owned() };
        scene.home.ask(&scene.home.admin, put).await.unwrap_or_else(|error| panic!("{error}: {text}"));
    }
}

#[tokio::test]
async fn a_policy_reads_in_whose_account_and_where_the_machine_runs() {
    let (scene, _folder) = Scene::in_clouds(60).await;
    let wanted =
        [("provider", "aws"), ("account", "123456789012"), ("region", "hearth-west-1"), ("fresh", "false")];
    scene.policy("boot", &format!(" when {{ {} }}", wanted.map(says_of_cloud).join(" && "))).await;
    let showing = async |document: Option<Vec<u8>>| {
        let mut attempt = scene.challenge(Tee::None, &["root"]).await;
        attempt.attest.cloud = document.map(Into::into);
        attempt
    };
    assert_eq!(scene.refusal(&showing(aws("210987654321")).await).await, Reason::Policy.code());
    assert_eq!(scene.refusal(&showing(None).await).await, Reason::Policy.code());
    let held = scene.released(showing(aws("123456789012")).await).await;

    // A machine that runs shows it again with each heartbeat.
    let mut beat = scene.continuing(&held, &[]).await;
    beat.attest.cloud = aws("123456789012").map(Into::into);
    let held = scene.released(beat).await;
    assert_eq!(scene.refusal(&scene.continuing(&held, &[]).await).await, Reason::Policy.code());
}

#[tokio::test]
async fn a_document_that_is_not_believed_refuses_the_boot() {
    let (scene, folder) = Scene::in_clouds(0).await;
    scene.policy("boot", &format!(" when {{ {} }}", says_of_cloud(("fresh", "true")))).await;
    let mut first = scene.challenge(Tee::None, &["root"]).await;
    first.attest.cloud = gcp(&first.transcript).map(Into::into);
    let mut second = scene.challenge(Tee::None, &["root"]).await;
    second.attest.cloud.clone_from(&first.attest.cloud);
    scene.released(first).await;
    assert_eq!(scene.refusal(&second).await, "cloud-nonce-differs");

    // Certificates count as they are now, also if they cannot be read: then it may be tried again.
    let attempt = async || {
        let mut attempt = scene.challenge(Tee::None, &["root"]).await;
        attempt.attest.cloud = gcp(&attempt.transcript).map(Into::into);
        attempt
    };
    let file = folder.path().join("gcp/certificates");
    std::fs::write(&file, Certificate::ca().der()).unwrap();
    assert_eq!(scene.refusal(&attempt().await).await, "cloud-signature");
    std::fs::write(&file, "half").unwrap();
    assert_eq!(scene.post(boot::Step::Attest, &attempt().await.attest).await.0, 503);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(scene.refusal(&attempt().await).await, "cloud-untrusted");
    // Without a document nothing of that is asked.
    assert_eq!(scene.refusal(&scene.challenge(Tee::None, &["root"]).await).await, Reason::Policy.code());
}

#[tokio::test]
async fn without_certificates_of_clouds_no_document_is_believed() {
    let scene = Scene::allowed().await;
    let mut attempt = scene.challenge(Tee::None, &["root"]).await;
    attempt.attest.cloud = aws("123456789012").map(Into::into);
    assert_eq!(scene.refusal(&attempt).await, "cloud-untrusted");
}

#[tokio::test]
async fn reference_values_may_be_of_the_cloud() {
    let (scene, _folder) = Scene::in_clouds(0).await;
    scene.policy("boot", " when { context.boot.image_known }").await;
    let account = ("cloud.account".to_owned(), ["123456789012".to_owned()].into());
    scene.change(MachineChange { reference: Some([account].into()), ..MachineChange::default() }).await;
    for (account, expected) in [("123456789012", None), ("210987654321", Some(Reason::PolicyImage))] {
        let mut attempt = scene.challenge(Tee::None, &["root"]).await;
        attempt.attest.cloud = aws(account).map(Into::into);
        match expected {
            None => drop(scene.released(attempt).await),
            Some(reason) => assert_eq!(scene.refusal(&attempt).await, reason.code()),
        }
    }
}
