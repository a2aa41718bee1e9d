//! Quotes, event logs and Azure evidence from real machines: each is accepted, or refused for exactly the reason it
//! deserves.
//!
//! `KEYHEARTH_VECTORS` names the folder that holds them; they are no part of Keyhearth, and without it these tests say
//! that they were skipped.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use keyhearth_attest::eventlog::{self, BootFacts, Quoted};
use keyhearth_attest::tpm::{AkTrust, Evidence, Pcrs, TpmClaims};
use keyhearth_attest::{
    Claims, Demands, Endorsements, Kind, Reason, Refusal, Revocation, Roots, Specific, appraise,
};
use keyhearth_crypto::digest::{sha256, sha384};
use serde_json::{Value, json};

/// 2025-07-01, when every certificate of the fixtures is valid.
const NOW_S: u64 = 1_751_328_000;

/// The folder with vectors, or a note that there is none.
fn vectors(test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("KEYHEARTH_VECTORS").map(|folder| Path::new(&folder).join("attest"));
    if folder.is_none() {
        eprintln!("{test}: skipped, KEYHEARTH_VECTORS is not set");
    }
    folder
}

fn read(folder: &Path, name: &str) -> Vec<u8> {
    fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |pair: &[u8]| {
        let pair = str::from_utf8(pair).expect("digits");
        u8::from_str_radix(pair, 16).expect("digits")
    };
    text.as_bytes().chunks(2).map(byte).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

fn demands() -> Demands {
    Demands { legacy_reports: true, revocation: Revocation::IfGiven, ..Demands::at(NOW_S) }
}

fn judge(evidence: &[u8], demands: &Demands) -> Result<Claims, Reason> {
    judge_with(evidence, &Endorsements::default(), demands)
}

fn judge_with(evidence: &[u8], endorsements: &Endorsements, demands: &Demands) -> Result<Claims, Reason> {
    appraise(evidence, endorsements, &Roots::built_in(), demands).map_err(|refusal| {
        eprintln!("{refusal}");
        refusal.reason
    })
}

/// The evidence of Trustee's TPM attester as the document of ours.
fn trustee(folder: &Path) -> Evidence {
    let json: Value = serde_json::from_slice(&read(folder, "tpm/tpm_evidence.json")).expect("JSON");
    let base64 = |value: &Value| STANDARD.decode(text(value)).expect("base64");
    let quote = &json["tpm_quote"];
    let pcrs = quote["pcrs"].as_array().expect("PCRs").iter().zip(0..);
    Evidence {
        quote: base64(&quote["message"]),
        signature: base64(&quote["signature"]),
        ak: Some(base64(&json["ak_public"])),
        pcrs: pcrs.map(|(value, index)| (index, unhex(text(value)).try_into().expect("32 bytes"))).collect(),
        log: None,
        hcl_report: None,
        td_quote: None,
    }
}

#[test]
fn quote_of_trustee() {
    let Some(folder) = vectors("quote_of_trustee") else { return };
    let evidence = trustee(&folder);
    let key = sha256(&[evidence.ak.as_ref().expect("a key")]);
    let enrolled = Demands { enrolled_aks: vec![key], ..demands() };

    let claims = judge(&evidence.encode(), &enrolled).expect("a sound quote");
    assert_eq!((claims.kind, &*claims.root), (Kind::Tpm, "enrolled"));
    assert!(!claims.memory_encrypted && claims.report_data.0.len() == 64);
    let Specific::Tpm(tpm) = &claims.specific else { panic!("claims of a TPM") };
    assert!(tpm.vtpm_host_trusted && tpm.ak_trust == AkTrust::Enrolled && tpm.boot.is_none());
    assert_eq!((tpm.pcrs.len(), tpm.reset_count), (24, 2));

    assert_eq!(judge(&evidence.encode(), &demands()), Err(Reason::TpmKeyUntrusted));
    let other = Demands { report_data: Some([7; 64]), ..enrolled.clone() };
    assert_eq!(judge(&evidence.encode(), &other), Err(Reason::ReportDataDiffers));
    let mut altered = evidence.clone();
    altered.pcrs.insert(4, [7; 32]);
    assert_eq!(judge(&altered.encode(), &enrolled), Err(Reason::TpmPcrDigest));
    let mut with_log = evidence.clone();
    with_log.log = Some(read(&folder, "tpm/eventlog-rhel8-uefi.bin"));
    assert_eq!(judge(&with_log.encode(), &enrolled), Err(Reason::EventLogDiffers));
    let mut altered = evidence;
    altered.quote[60] ^= 1;
    assert_eq!(judge(&altered.encode(), &enrolled), Err(Reason::TpmSignature));
}

fn azure(folder: &Path, version: u32) -> Value {
    serde_json::from_slice(&read(folder, &format!("azure/evidence-v{version}.json"))).expect("JSON")
}

fn tpm(claims: &Claims) -> &TpmClaims {
    let Specific::AzureSnp(claims) = &claims.specific else { panic!("claims of an Azure VM") };
    &claims.tpm
}

#[test]
fn evidence_of_azure() {
    let Some(folder) = vectors("evidence_of_azure") else { return };
    for version in [0, 1, 2] {
        let evidence = azure(&folder, version);
        let claims = judge(evidence.to_string().as_bytes(), &demands()).expect("sound evidence");
        assert_eq!((claims.kind, &*claims.root), (Kind::AzureSnp, "built-in"));
        assert!(claims.memory_encrypted && !tpm(&claims).vtpm_host_trusted);
        assert_eq!((tpm(&claims).ak_trust, tpm(&claims).pcrs.len()), (AkTrust::Azure, 24));
        let Specific::AzureSnp(both) = &claims.specific else { panic!("claims of both") };
        assert!(both.azure_vm_id.as_ref().is_some_and(|id| id.len() == 36) && both.snp.vmpl == 0);
        let nonce: &[u8] = if version == 2 { &tpm(&claims).ak.0[..0] } else { b"challenge" };
        assert!(claims.report_data.0.starts_with(nonce), "{version}");
        // Policies see one flat record.
        let record = serde_json::to_value(&claims).expect("JSON");
        assert!(record["measurement"].is_string() && record["pcrs"]["7"].is_string());

        let other = Demands { report_data: Some([7; 64]), ..demands() };
        assert_eq!(judge(evidence.to_string().as_bytes(), &other), Err(Reason::ReportDataDiffers));
        let strict = Demands { revocation: Revocation::Demanded, ..demands() };
        assert_eq!(judge(evidence.to_string().as_bytes(), &strict), Err(Reason::ListMissing));
    }
}

#[test]
fn altered_evidence_of_azure() {
    let Some(folder) = vectors("altered_evidence_of_azure") else { return };
    let refused =
        |evidence: Value| judge(evidence.to_string().as_bytes(), &demands()).expect_err("it was altered");
    let alter = |pointer: &str, value: Value| {
        let mut evidence = azure(&folder, 0);
        *evidence.pointer_mut(pointer).expect("a member") = value;
        refused(evidence)
    };
    assert_eq!(alter("/quote/pcrs/4/0", json!(0)), Reason::TpmPcrDigest);
    assert_eq!(alter("/quote/signature/9", json!(0)), Reason::TpmSignature);
    assert_eq!(alter("/quote/message/50", json!(0)), Reason::TpmSignature);
    assert_eq!(alter("/quote/message/0", json!(0)), Reason::TpmQuoteMagic);
    assert_eq!(alter("/report/0", json!(0)), Reason::AzureReportMalformed);
    assert_eq!(alter("/report/100", json!(9)), Reason::SnpSignature);
    assert_eq!(alter("/report/1224", json!(3)), Reason::AzureReportType);
    assert_eq!(alter("/report/1224", json!(4)), Reason::AzureTdQuoteMissing);
    assert_eq!(alter("/report/1300", json!(0)), Reason::AzureRuntimeDataDiffers);
    assert_eq!(alter("/quote/pcrs", json!([])), Reason::AzureEvidenceMalformed);
    assert_eq!(alter("/vcek", json!("none")), Reason::EndorsementMalformed);
    let other = String::from_utf8(read(&folder, "azure/other-chip-certs.pem")).expect("PEM");
    assert_eq!(alter("/vcek", json!(other)), Reason::SnpChipDiffers);
    // The report and the quote are of two machines.
    let mut mixed = azure(&folder, 1);
    mixed["tpm_quote"] = azure(&folder, 2)["tpm_quote"].clone();
    assert_eq!(refused(mixed), Reason::TpmSignature);
    let mut later = azure(&folder, 1);
    later["version"] = json!(3);
    assert_eq!(refused(later), Reason::AzureEvidenceMalformed);
}

/// A VM of Azure on TDX, without the collateral of its time: all that can be judged is that Intel vouches for the platform, and
/// that the quote is of the HCL report's runtime data.
#[test]
fn evidence_of_azure_on_tdx() {
    let Some(folder) = vectors("evidence_of_azure_on_tdx") else { return };
    let path = folder.join("azure/tdx-evidence-v1.json");
    let Ok(evidence) = fs::read(&path) else {
        eprintln!("skipped: there is no {}", path.display());
        return;
    };
    assert_eq!(Kind::of(&evidence), Some(Kind::AzureTdx));
    assert_eq!(judge(&evidence, &demands()), Err(Reason::TdxTcbInfoMissing));
    let json: Value = serde_json::from_slice(&evidence).expect("JSON");
    let bytes =
        |name: &str| URL_SAFE_NO_PAD.decode(text(&json[name]).trim_end_matches('=')).expect("base64url");
    let (report, quote) = (bytes("hcl_report"), bytes("td_quote"));
    let td_report = keyhearth_attest::azure::td_report(&report).expect("it is of a TD");
    // `REPORTMACSTRUCT.REPORTDATA` and `TDINFO.MRTD` of the one are those of the other.
    assert_eq!(td_report[128..192], quote[48 + 520..][..64]);
    assert_eq!(td_report[512 + 16..][..48], quote[48 + 136..][..48]);
    let length = u32::from_le_bytes(report[1232..1236].try_into().expect("four bytes"));
    let runtime_data = &report[1236..][..usize::try_from(length).expect("it is small")];
    assert_eq!(sha256(&[runtime_data]), quote[48 + 520..][..32]);
    let mut without = json.clone();
    without.as_object_mut().expect("a record").remove("td_quote");
    assert_eq!(judge(without.to_string().as_bytes(), &demands()), Err(Reason::AzureEvidenceMalformed));
}

/// The same evidence in our document, where the certificate comes with the endorsements.
#[test]
fn evidence_of_azure_in_our_document() {
    let Some(folder) = vectors("evidence_of_azure_in_our_document") else { return };
    let json = azure(&folder, 0);
    let octets = |value: &Value| -> Vec<u8> { serde_json::from_value(value.clone()).expect("octets") };
    let pcrs = json["quote"]["pcrs"].as_array().expect("PCRs").iter().zip(0..);
    let signature = octets(&json["quote"]["signature"]);
    let mut evidence = Evidence {
        quote: octets(&json["quote"]["message"]),
        signature: [&[0, 0x14, 0, 0x0b, 1, 0], &*signature].concat(),
        ak: None,
        pcrs: pcrs.map(|(value, index)| (index, octets(value).try_into().expect("32 bytes"))).collect(),
        log: None,
        hcl_report: Some(octets(&json["report"])),
        td_quote: None,
    };
    let mut endorsements = Endorsements::default();
    endorsements.add(text(&json["vcek"]).as_bytes()).expect("a certificate");
    let claims = judge_with(&evidence.encode(), &endorsements, &demands()).expect("sound evidence");
    assert_eq!(claims.kind, Kind::AzureSnp);
    assert_eq!(judge(&evidence.encode(), &demands()), Err(Reason::SnpCertificateMissing));
    evidence.signature[1] = 0x16;
    assert_eq!(judge_with(&evidence.encode(), &endorsements, &demands()), Err(Reason::TpmSignature));
}

#[test]
fn report_of_an_azure_machine_and_certificates_of_two() {
    let Some(folder) = vectors("report_of_an_azure_machine_and_certificates_of_two") else { return };
    let evidence = Evidence {
        quote: read(&folder, "azure/tpm-quote.msg"),
        signature: [&[0, 0x14, 0, 0x0b, 1, 0], &*read(&folder, "azure/tpm-quote.sig")].concat(),
        ak: None,
        pcrs: Pcrs::new(),
        log: None,
        hcl_report: Some(read(&folder, "azure/hcl-report.bin")),
        td_quote: None,
    };
    let with = |name: &str| {
        let mut endorsements = Endorsements::default();
        endorsements.add(&read(&folder, name)).expect("certificates");
        judge_with(&evidence.encode(), &endorsements, &demands())
    };
    // The quote is another machine's, and so fails behind everything that the report goes through.
    assert_eq!(with("azure/vcek.pem"), Err(Reason::TpmSignature));
    assert_eq!(with("azure/other-chip-certs.pem"), Err(Reason::SnpChipDiffers));
}

/// What a log leads to, computed here once more; for each event a digest of the bank with this algorithm.
fn replayed(log: &[u8], algorithm: u16, hash: impl Fn(&[&[u8]]) -> Vec<u8>) -> BTreeMap<u32, Vec<u8>> {
    let number = |at: usize| u32::from_le_bytes(log[at..at + 4].try_into().expect("4 bytes"));
    let short = |at: usize| u16::from_le_bytes(log[at..at + 2].try_into().expect("2 bytes"));
    let lengths: BTreeMap<u16, usize> = [(4, 20), (0xb, 32), (0xc, 48), (0xd, 64)].into();
    let mut at = 32 + usize::try_from(number(28)).expect("a length");
    let mut registers: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    while at + 16 <= log.len() && number(at) < 24 && number(at + 8) != 0 {
        let (register, kind, digests) = (number(at), number(at + 4), number(at + 8));
        at += 12;
        for _ in 0..digests {
            let length = lengths[&short(at)];
            if short(at) == algorithm && kind != 3 {
                let value = registers.entry(register).or_insert(vec![0; length]);
                *value = hash(&[value, &log[at + 2..at + 2 + length]]);
            }
            at += 2 + length;
        }
        at += 4 + usize::try_from(number(at)).expect("a length");
    }
    registers
}

fn facts_of_pcrs(log: &[u8]) -> Result<BootFacts, Refusal> {
    let mut pcrs: Pcrs = (0..24).map(|index| (index, [0; 32])).collect();
    for (index, value) in replayed(log, 0xb, |parts| sha256(parts).to_vec()) {
        pcrs.insert(index.try_into().expect("a PCR"), value.try_into().expect("32 bytes"));
    }
    let led = eventlog::replayed(log)?;
    assert!(led.len() == 17 && led.iter().all(|(index, value)| pcrs[index] == *value), "{led:02x?}");
    eventlog::appraise(log, &Quoted::Pcrs(&pcrs))
}

#[test]
fn event_logs() {
    let Some(folder) = vectors("event_logs") else { return };
    let log = |name: &str| read(&folder, &format!("tpm/eventlog-{name}.bin"));
    let facts = |name: &str| facts_of_pcrs(&log(name)).expect("a sound log");
    let applications = |facts: &BootFacts| facts.boot_applications.as_ref().map(Vec::len);

    let rhel = facts("rhel8-uefi");
    assert_eq!((rhel.secure_boot, applications(&rhel)), (Some(true), Some(3)));
    let line = rhel.kernel_command_line.expect("GRUB was told");
    assert!(line.starts_with("(hd0,gpt2)/boot/vmlinuz-") && line.contains(" root=UUID="), "{line}");
    assert!(rhel.pk.is_some() && rhel.kek.is_some() && rhel.db.is_some() && rhel.dbx.is_some());
    assert!(
        rhel.mok.is_some_and(|mok| mok.len() == 2) && rhel.image_sections.is_none() && rhel.phase.is_none()
    );

    let ubuntu = facts("ubuntu-2104-no-secure-boot");
    assert_eq!((ubuntu.secure_boot, applications(&ubuntu)), (Some(false), Some(2)));
    assert!(ubuntu.kernel_command_line.is_some_and(|line| line.contains("root=PARTUUID=6443a6ae")));

    let cos = facts("cos-101-amd-sev");
    assert_eq!(cos.secure_boot, Some(true));
    assert!(cos.kernel_command_line.is_some_and(|line| line.starts_with("/syslinux/vmlinuz.A")));

    let arch = facts("arch-linux-workstation");
    assert_eq!((arch.secure_boot, applications(&arch)), (Some(false), Some(2)));
    assert_eq!(arch.kernel_command_line, None);

    let legacy = eventlog::appraise(&log("debian-10"), &Quoted::Pcrs(&Pcrs::new()));
    let legacy = legacy.map_err(|refusal| refusal.reason);
    assert_eq!(legacy, Err(Reason::EventLogLegacy));
}

#[test]
fn log_of_a_tdx_machine() {
    let Some(folder) = vectors("log_of_a_tdx_machine") else { return };
    let log = read(&folder, "tdx/ccel_data.dat");
    let quote = read(&folder, "tdx/cos-113-tdx-quote.dat");
    let registers = replayed(&log, 0xc, |parts| sha384(&parts.concat()).to_vec());
    let mut rtmrs: [[u8; 48]; 4] = std::array::from_fn(|index| {
        let register = registers.get(&u32::try_from(index + 1).expect("1 to 4"));
        register.map_or([0; 48], |value| value.as_slice().try_into().expect("48 bytes"))
    });
    // The quote was made on the same machine: a TD report in version 4 has RTMRs at 328 of its body.
    for (index, rtmr) in rtmrs.iter().enumerate().take(3) {
        assert_eq!(quote[48 + 328 + 48 * index..][..48], *rtmr, "RTMR{index}");
    }
    let facts = eventlog::appraise(&log, &Quoted::Rtmrs(&rtmrs)).expect("a sound log");
    assert_eq!((facts.secure_boot, facts.boot_applications.map(|of| of.len())), (None, Some(2)));
    rtmrs[1][0] ^= 1;
    let refused = eventlog::appraise(&log, &Quoted::Rtmrs(&rtmrs)).map_err(|refusal| refusal.reason);
    assert_eq!(refused, Err(Reason::EventLogDiffers));
    let pcrs = facts_of_pcrs(&log).map_err(|refusal| refusal.reason);
    assert_eq!(pcrs, Err(Reason::EventLogBank));
}
