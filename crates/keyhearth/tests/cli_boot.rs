//! `boot appraise` on a made machine: what a user types, what comes back, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test may panic, its functions too")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyhearth_attest::eventlog::BootPhase;
use keyhearth_attest::snp::{Generation, Signer};
use keyhearth_attest::tpm::Evidence;
use keyhearth_machines::snp::{Leaf, List, ark, intermediate, report, sign};
use keyhearth_machines::{tdx, tpm};
use serde_json::Value;
use tempfile::TempDir;

const AT: &str = "2025-07-01T00:00:00Z";

fn pem(kind: &str, der: &[u8]) -> String {
    let lines: Vec<_> = STANDARD
        .encode(der)
        .into_bytes()
        .chunks(64)
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect();
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
}

/// A folder with evidence, its endorsements in both spellings, and the root.
fn machine() -> TempDir {
    let folder = TempDir::new().unwrap();
    let (generation, signer) = (Generation::Turin, Signer::Vcek);
    let mut evidence = report(5, generation, signer);
    sign(&mut evidence);
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    fs::create_dir(folder.path().join("endorsements")).unwrap();
    write("report.bin", &evidence);
    write("root.pem", pem("CERTIFICATE", &ark().der()).as_bytes());
    write("endorsements/leaf", &Leaf::new(generation, signer).der());
    let list = pem("X509 CRL", &List::of(&[9]).der());
    let both = pem("CERTIFICATE", &intermediate(generation, signer).der()) + &list;
    write("endorsements/others.txt", both.as_bytes());
    folder
}

fn appraise(folder: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_keyhearth"))
        .args(["boot", "appraise", "--evidence", "report.bin", "--endorsements", "endorsements", "--at", AT])
        .args(more)
        .current_dir(folder)
        .output()
        .unwrap()
}

#[test]
fn evidence_is_accepted_or_refused_with_the_reason() {
    let folder = machine();
    let root = ["--root", "lab=root.pem", "--require-crl"];
    let nonce = "da".repeat(64);

    let accepted = appraise(folder.path(), &[&root[..], &["--nonce", &nonce]].concat());
    let text = String::from_utf8(accepted.stdout).unwrap();
    assert_eq!(accepted.status.code(), Some(0), "{}", String::from_utf8_lossy(&accepted.stderr));
    assert!(accepted.stderr.is_empty(), "nothing is left unchecked");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let shows = |name: &str, value: &str| {
        text.lines().any(|line| line.strip_prefix(name).is_some_and(|rest| rest.trim() == value))
    };
    assert!(shows("result", "accepted") && shows("kind", "snp") && shows("root", "lab"), "{text}");
    assert!(shows("reported tcb", "fmc 1, bootloader 4, tee 2, snp 24, microcode"), "{text}");

    let json = appraise(folder.path(), &[&root[..], &["--json"]].concat());
    let claims: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&claims["result"], &claims["generation"]), (&"accepted".into(), &"turin".into()));
    assert_eq!(claims["measurement"], "3e".repeat(48));

    // A shorter nonce is followed by zeroes, which this machine's is not.
    let other = appraise(folder.path(), &[&root[..], &["--nonce", "dada", "--json"]].concat());
    assert_eq!((other.status.code(), other.stdout.is_empty()), (Some(1), true));
    let problem: Value = serde_json::from_slice(&other.stderr).unwrap();
    assert_eq!(problem["code"], "report-data-differs");
    assert!(!problem["next_step"].as_str().unwrap().is_empty());

    let untrusted = appraise(folder.path(), &[]);
    let text = String::from_utf8(untrusted.stderr).unwrap();
    assert_eq!(untrusted.status.code(), Some(1));
    assert!(
        text.contains("root-untrusted: The chain does not end") && text.contains("(ARK-Hearth)"),
        "{text}"
    );
}

#[test]
fn what_is_misspelled_or_not_there_is_said() {
    let folder = machine();
    for wrong in [&["--nonce", "0x12"][..], &["--vmpl", "4"], &["--root", "root.pem"]] {
        assert_eq!(appraise(folder.path(), wrong).status.code(), Some(2), "{wrong:?}");
    }
    let label = appraise(folder.path(), &["--root", "built-in=root.pem"]);
    assert!(String::from_utf8_lossy(&label.stderr).contains("the label of a root"));
    fs::write(folder.path().join("endorsements/readme"), "none").unwrap();
    let readme = appraise(folder.path(), &[]);
    assert_eq!(readme.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&readme.stderr).contains("readme: endorsement-malformed"));
}

#[test]
fn a_tpm_is_judged_by_the_key_it_was_enrolled_with() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("endorsements")).unwrap();
    let events = tpm::boot();
    let pcrs = tpm::pcrs(&events, BootPhase::EnterInitrd);
    let quote = tpm::Quote::of(&pcrs, &[0xda; 64]).bytes();
    let ak = tpm::Ak::P256;
    let evidence = Evidence {
        signature: ak.sign(&quote),
        quote,
        ak: Some(ak.spki()),
        pcrs,
        log: Some(tpm::log(&events, &[tpm::SHA256])),
        hcl_report: None,
    };
    fs::write(folder.path().join("report.bin"), evidence.encode()).unwrap();
    let fingerprint = keyhearth_attest::Bytes(ak.fingerprint().to_vec()).to_string();
    let nonce = "da".repeat(64);

    let unknown = appraise(folder.path(), &["--nonce", &nonce]);
    let text = String::from_utf8(unknown.stderr).unwrap();
    assert_eq!(unknown.status.code(), Some(1));
    assert!(
        text.contains("tpm-key-untrusted") && text.contains(&fingerprint) && text.contains("--ak"),
        "{text}"
    );

    let accepted = appraise(folder.path(), &["--nonce", &nonce, "--ak", &fingerprint]);
    let text = String::from_utf8(accepted.stdout).unwrap();
    assert_eq!(accepted.status.code(), Some(0), "{}", String::from_utf8_lossy(&accepted.stderr));
    assert!(accepted.stderr.is_empty(), "nothing is left unchecked");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    for (name, value) in
        [("boot secure boot", "yes"), ("boot phase", "enter-initrd"), ("pcrs 15", &"0".repeat(48))]
    {
        let row = text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        assert_eq!(row, Some(value), "{name} in {text}");
    }

    let json = appraise(folder.path(), &["--nonce", &nonce, "--ak", &fingerprint, "--json"]);
    let claims: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&claims["vtpm_host_trusted"], &claims["boot"]["secure_boot"]), (&true.into(), &true.into()));
    assert_eq!(appraise(folder.path(), &["--ak", "00"]).status.code(), Some(2));
}

#[test]
fn a_tdx_machine_is_judged_by_collateral_in_the_folder() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("endorsements")).unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    let mut tcb_info = tdx::tcb_info();
    let lists = [tdx::List::of_root(&[]), tdx::List::of_pck_ca(&[])];
    write("report.bin", &tdx::Quote::new(tdx::Body::Td15).bytes());
    write("root.pem", tdx::pem(&[tdx::root().der()]).as_bytes());
    let nonce = "da".repeat(64);
    let arguments = ["--root", "lab=root.pem", "--nonce", &nonce];

    let missing = appraise(folder.path(), &arguments);
    let text = String::from_utf8(missing.stderr).unwrap();
    assert_eq!(missing.status.code(), Some(1));
    assert!(text.contains("tdx-tcb-info-missing") && text.contains("f5bc00000000"), "{text}");
    assert!(text.contains("where they come from"), "{text}");

    // Everything together, and each answer of Intel's service as a file.
    let together = tdx::together(&tcb_info, &tdx::qe_identity(), [&lists[0], &lists[1]]);
    write("endorsements/collateral.json", &together);
    let accepted = appraise(folder.path(), &arguments);
    let text = String::from_utf8(accepted.stdout).unwrap();
    assert_eq!(accepted.status.code(), Some(0), "{}", String::from_utf8_lossy(&accepted.stderr));
    assert!(accepted.stderr.is_empty(), "nothing is left unchecked");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    for (name, value) in
        [("kind", "tdx"), ("root", "lab"), ("tcb status", "UpToDate"), ("certified fmspc", "f5bc00000000")]
    {
        let row = text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        assert_eq!(row, Some(value), "{name} in {text}");
    }

    // A newer statement counts, and what it asks for has to be accepted.
    tcb_info["tcbEvaluationDataNumber"] = 19.into();
    tcb_info["tcbLevels"][0]["tcbStatus"] = "SWHardeningNeeded".into();
    write("endorsements/newer.json", &tdx::answer("tcbInfo", &tcb_info, tdx::By::StatementSigner));
    let hardening = appraise(folder.path(), &arguments);
    assert!(String::from_utf8_lossy(&hardening.stderr).contains("tdx-tcb-hardening"));
    let accepted = appraise(folder.path(), &[&arguments[..], &["--sw-hardening", "--json"]].concat());
    let claims: Value = serde_json::from_slice(&accepted.stdout).unwrap();
    assert_eq!(
        (&claims["tcb_status"], &claims["reduced_assurance"]),
        (&"SWHardeningNeeded".into(), &true.into())
    );
}
