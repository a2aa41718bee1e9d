//! `boot appraise` and `boot measure` on a made machine: what a user types, what comes back, and what is refused.

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
use keyhearth_machines::{clouds, images, tdx, tpm};
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
        td_quote: None,
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

fn measure(folder: &Path, arguments: &[&str]) -> Output {
    let command = Command::new(env!("CARGO_BIN_EXE_keyhearth"))
        .args([&["boot", "measure"], arguments].concat())
        .current_dir(folder)
        .output();
    command.unwrap()
}

#[test]
fn an_image_is_measured_before_it_boots() {
    let folder = TempDir::new().unwrap();
    let (magic, kernel) = (images::magic("257.13-1"), images::kernel("6.12.1"));
    let sections: [(&str, &[u8]); 3] =
        [(".sdmagic", magic.as_bytes()), (".cmdline", b"ro"), (".linux", &kernel)];
    fs::write(folder.path().join("uki.efi"), images::pe(true, &sections)).unwrap();
    fs::write(folder.path().join("kernel"), &kernel).unwrap();
    let json = |more: &[&str]| -> Value {
        let output = measure(folder.path(), &[&["uki", "--uki", "uki.efi", "--json"], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let (off, on) = (json(&[]), json(&["--secure-boot"]));
    assert_eq!((&off["stub"], &off["pcr11"]), (&257.into(), &on["pcr11"]));
    let applications = |measured: &Value| measured["boot_applications"].as_array().unwrap().len();
    assert_eq!((applications(&off), applications(&on)), (2, 1));
    assert!(off["pcr4"] != on["pcr4"] && off["image_sections"]["cmdline"].is_string());

    let output = measure(folder.path(), &["uki", "--uki", "uki.efi"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(text.contains(&off["pcr11"].as_str().unwrap()[..48]), "{text}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("PCR 9"));

    let refused = measure(folder.path(), &["uki", "--uki", "kernel"]);
    let text = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(text.contains(".sdmagic") && text.contains("docs/boot/measure.md"), "{text}");
}

#[test]
fn a_guest_is_measured_before_it_starts() {
    let folder = TempDir::new().unwrap();
    let firmware = images::ovmf(&[(0x1000, 4096, 2), (0x4000, 4096, 0x10)], Some(0x4c00));
    fs::write(folder.path().join("OVMF.fd"), firmware).unwrap();
    fs::write(folder.path().join("vmlinuz"), b"a kernel").unwrap();
    let digest = |more: &[&str]| {
        let usual = ["snp", "--ovmf", "OVMF.fd", "--vcpus", "2", "--vcpu-type", "EPYC-Milan-v2", "--json"];
        let output = measure(folder.path(), &[&usual[..], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let measured: Value = serde_json::from_slice(&output.stdout).unwrap();
        measured["measurement"].as_str().unwrap().to_owned()
    };
    let kernel = ["--kernel", "vmlinuz", "--cmdline", "ro"];
    let digests = [
        digest(&[]),
        digest(&kernel[..2]),
        digest(&kernel),
        digest(&["--guest-features", "0x21"]),
        digest(&["--vmm", "ec2"]),
    ];
    assert!(digests.iter().all(|digest| digest.len() == 96));
    assert!((1..5).all(|index| !digests[..index].contains(&digests[index])), "{digests:?}");
    for wrong in
        [&["--vcpus", "0"][..], &["--vcpu-type", "EPYC-Next"], &["--vmm", "other"], &["--initrd", "vmlinuz"]]
    {
        let usual = ["snp", "--ovmf", "OVMF.fd"];
        assert_eq!(measure(folder.path(), &[&usual[..], wrong].concat()).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn what_a_cloud_says_is_judged_alone_or_beside_evidence() {
    let folder = machine();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir_all(path("clouds/gcp")).unwrap();
    fs::write(path("clouds/gcp/certs"), clouds::Certificate::of_region().der()).unwrap();
    let token = clouds::gcp_token(&[0xda; 64]);
    fs::write(path("token"), clouds::jwt("RS256", &token, clouds::Signer::Region)).unwrap();
    let nonce = "da".repeat(64);
    let cloud = ["--cloud", "token", "--clouds", "clouds", "--at", AT, "--nonce", &nonce];
    let alone = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyhearth"));
        command.args(["boot", "appraise"]).args(more).current_dir(folder.path()).output().unwrap()
    };

    let accepted = alone(&cloud);
    let text = String::from_utf8(accepted.stdout).unwrap();
    assert_eq!(accepted.status.code(), Some(0), "{}", String::from_utf8_lossy(&accepted.stderr));
    let shows = |name: &str, value: &str| {
        text.lines().any(|line| line.strip_prefix(name).is_some_and(|rest| rest.trim() == value))
    };
    assert!(shows("cloud account", "hearth-project") && shows("cloud region", "hearth-west1"), "{text}");

    let both = [&["--root", "lab=root.pem", "--json"], &cloud[..4], &cloud[6..]].concat();
    let claims: Value = serde_json::from_slice(&appraise(folder.path(), &both).stdout).unwrap();
    assert_eq!((&claims["kind"], &claims["cloud"]["fresh"]), (&"snp".into(), &true.into()));

    let other = alone(&[&cloud[..6], &["--nonce", "00", "--json"]].concat());
    let problem: Value = serde_json::from_slice(&other.stderr).unwrap();
    assert_eq!((other.status.code(), &problem["code"]), (Some(1), &"cloud-nonce-differs".into()));
    fs::remove_file(path("clouds/gcp/certs")).unwrap();
    let untrusted = alone(&cloud);
    assert!(String::from_utf8_lossy(&untrusted.stderr).contains("cloud-untrusted"));
    for wrong in [&[][..], &cloud[..2], &cloud[2..4]] {
        assert_eq!(alone(wrong).status.code(), Some(2), "{wrong:?}");
    }
}
