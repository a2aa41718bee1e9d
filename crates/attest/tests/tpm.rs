//! Quotes, event logs and Azure evidence of made machines: what is sound is accepted as what it is, every reason to
//! refuse is reached, and a log that was altered tells nothing that did not happen.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use keyhearth_attest::eventlog::{self, BootFacts, BootPhase, EVENTS_MAX, Quoted};
use keyhearth_attest::snp::{Generation, REPORT_BYTES, Signer};
use keyhearth_attest::tpm::{AkTrust, Evidence, Pcrs, TpmClaims};
use keyhearth_attest::{
    Area, Claims, Demands, EVIDENCE_BYTES_MAX, Endorsements, Kind, Reason, Refusal, RootError, Roots,
    Specific, appraise,
};
use keyhearth_crypto::digest::sha256;
use keyhearth_machines::NOW_S;
use keyhearth_machines::snp::{self, Leaf, List, ark, intermediate, report};
use keyhearth_machines::tdx;
use keyhearth_machines::tpm::{
    ATTRIBUTES, Ak, Event, Quote, SHA1, SHA256, SHA384, boot, hcl_report, log, pcrs, runtime_data,
};
use proptest::prelude::*;
use serde_json::{Value, json};

/// What the request demands of reports; the quote carries its SHA-256.
const REPORT_DATA: [u8; 64] = [0xda; 64];

/// Of the key that signed the vector.
const AK_OF_VECTOR: [u8; 32] = [
    0x42, 0xa3, 0xa4, 0xe8, 0xb4, 0xce, 0x5b, 0xa6, 0xce, 0x53, 0x0f, 0xc7, 0x96, 0x97, 0xe5, 0xb1, 0xde,
    0x85, 0x7b, 0x64, 0xd5, 0x90, 0x04, 0x5d, 0x45, 0x95, 0xb2, 0x7d, 0x13, 0x59, 0xb2, 0xed,
];

/// Evidence and what is demanded; each test makes one thing otherwise.
struct Case {
    ak: Ak,
    quote: Quote,
    pcrs: Pcrs,
    log: Option<Vec<u8>>,
    /// The key in the evidence, and the signature, if they are not the sound ones.
    key: Option<Vec<u8>>,
    signature: Option<Vec<u8>>,
    /// The hardware's report and the runtime data, on Azure.
    azure: Option<Azure>,
    demands: Demands,
    /// Changes the document's bytes.
    alter: fn(Vec<u8>) -> Vec<u8>,
}

struct Azure {
    hardware: Vec<u8>,
    /// Of a VM on TDX: its quote, before it is signed.
    td: Option<tdx::Quote>,
    report_type: u32,
    hash_type: u32,
    runtime_data: String,
    /// What the hardware's report vouches for, if it is something else.
    vouched: Option<String>,
    alter: fn(Vec<u8>) -> Vec<u8>,
}

impl Azure {
    fn report(&self) -> Vec<u8> {
        let vouched = self.vouched.as_ref().unwrap_or(&self.runtime_data);
        let mut hardware = self.hardware.clone();
        hardware[0x50..0x90].copy_from_slice(&[&sha256(&[vouched.as_bytes()])[..], &[0; 32]].concat());
        if self.td.is_none() {
            snp::sign(&mut hardware);
        }
        (self.alter)(hcl_report(&hardware, self.report_type, self.hash_type, &self.runtime_data))
    }

    fn td_quote(&self) -> Option<Vec<u8>> {
        let vouched = self.vouched.as_ref().unwrap_or(&self.runtime_data);
        let mut quote = self.td.clone()?;
        quote.put(520, &[sha256(&[vouched.as_bytes()]), [0; 32]].concat());
        Some(quote.bytes())
    }
}

impl Case {
    /// A machine that was enrolled with this key, and booted so.
    fn of(ak: Ak, events: &[Event]) -> Self {
        let pcrs = pcrs(events, BootPhase::EnterInitrd);
        Self {
            ak,
            quote: Quote::of(&pcrs, &REPORT_DATA),
            pcrs,
            log: Some(log(events, &[SHA1, SHA256])),
            key: None,
            signature: None,
            azure: None,
            demands: Demands {
                report_data: Some(REPORT_DATA),
                enrolled_aks: Ak::ALL.map(Ak::fingerprint).to_vec(),
                ..Demands::at(NOW_S)
            },
            alter: |bytes| bytes,
        }
    }

    fn enrolled() -> Self {
        Self::of(Ak::P256, &boot())
    }

    /// A VM of Azure, on a Genoa processor.
    fn azure() -> Self {
        let azure = Azure {
            hardware: report(3, Generation::Genoa, Signer::Vcek),
            td: None,
            report_type: 2,
            hash_type: 1,
            runtime_data: runtime_data(&Ak::Rsassa.modulus()),
            vouched: None,
            alter: |report| report,
        };
        let mut case = Self { azure: Some(azure), ..Self::of(Ak::Rsassa, &boot()) };
        case.demands.enrolled_aks.clear();
        case
    }

    /// A VM of Azure on TDX, whose kernel is the paravisor.
    fn azure_on_tdx() -> Self {
        let mut case = Self::azure();
        let mut td = tdx::Quote::new(tdx::Body::V4);
        td.put(120, &[0; 8]);
        let hardware = vec![0; REPORT_BYTES];
        case.azure = case.azure.map(|azure| Azure { hardware, td: Some(td), report_type: 4, ..azure });
        case
    }

    fn td(&mut self) -> &mut tdx::Quote {
        self.vm().td.as_mut().expect("only tests of TDX ask")
    }

    /// The same machine with another log, whose PCRs are quoted.
    fn booted(mut self, events: &[Event]) -> Self {
        self.log = Some(log(events, &[SHA256]));
        self.quoting(pcrs(events, BootPhase::EnterInitrd))
    }

    /// The same with other PCRs.
    fn quoting(mut self, pcrs: Pcrs) -> Self {
        (self.quote, self.pcrs) = (Quote::of(&pcrs, &REPORT_DATA), pcrs);
        self
    }

    fn vm(&mut self) -> &mut Azure {
        self.azure.as_mut().expect("only tests of Azure ask")
    }

    fn document(&self) -> Evidence {
        let quote = self.quote.bytes();
        let key = self.key.clone().unwrap_or_else(|| self.ak.spki());
        Evidence {
            signature: self.signature.clone().unwrap_or_else(|| self.ak.sign(&quote)),
            quote,
            ak: self.azure.is_none().then_some(key),
            pcrs: self.pcrs.clone(),
            log: self.log.clone(),
            hcl_report: self.azure.as_ref().map(Azure::report),
            td_quote: self.azure.as_ref().and_then(Azure::td_quote),
        }
    }

    /// The same as the tools of Azure's VMs write it.
    fn json(&self) -> Value {
        let document = self.document();
        let pcrs: Vec<_> = (0..24).map(|index| self.pcrs.get(&index).unwrap_or(&[0; 32]).to_vec()).collect();
        // Without the algorithms and the length.
        let quote = json!({ "message": document.quote, "signature": document.signature[6..], "pcrs": pcrs });
        match document.td_quote {
            Some(td_quote) => {
                json!({ "hcl_report": document.hcl_report, "tpm_quote": quote, "td_quote": td_quote })
            }
            None => {
                let leaf = Leaf::new(Generation::Genoa, Signer::Vcek).der();
                json!({ "report": document.hcl_report, "quote": quote, "vcek": pem(&leaf) })
            }
        }
    }

    fn judge(&self) -> Result<Claims, Refusal> {
        self.judge_bytes(&(self.alter)(self.document().encode()))
    }

    fn judge_bytes(&self, evidence: &[u8]) -> Result<Claims, Refusal> {
        let (endorsements, roots) = &*GIVEN;
        appraise(evidence, endorsements, roots, &self.demands)
    }
}

/// What comes with the reports of processors.
static GIVEN: LazyLock<(Endorsements, Roots)> = LazyLock::new(|| {
    let (generation, signer) = (Generation::Genoa, Signer::Vcek);
    let mut endorsements = Endorsements::default();
    let lists = [tdx::List::of_root(&[9]), tdx::List::of_pck_ca(&[9])];
    let files = [
        Leaf::new(generation, signer).der(),
        intermediate(generation, signer).der(),
        List::of(&[9]).der(),
        tdx::together(&tdx::tcb_info(), &tdx::qe_identity(), [&lists[0], &lists[1]]),
    ];
    files.iter().try_for_each(|file| endorsements.add(file)).expect("they are sound");
    let roots = Roots::built_in().with_amd("hearth", &ark().der()).expect("a root");
    (endorsements, roots.with_intel("tdx", &tdx::root().der()).expect("a root"))
});

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

fn tpm(claims: &Claims) -> &TpmClaims {
    match &claims.specific {
        Specific::Tpm(claims) => claims,
        Specific::AzureSnp(claims) => &claims.tpm,
        Specific::AzureTdx(claims) => &claims.tpm,
        other @ (Specific::Snp(_) | Specific::Tdx(_)) => panic!("{other:?}"),
    }
}

fn facts(case: &Case) -> BootFacts {
    tpm(&case.judge().expect("it is sound")).boot.clone().expect("there is a log")
}

type Change = fn(&mut Case);

/// Each way to break the evidence of an enrolled machine, and the reason that it deserves.
const BROKEN: &[(Reason, Change)] = &[
    (Reason::EvidenceTooLarge, |case| case.alter = |_| vec![0xa6; EVIDENCE_BYTES_MAX + 1]),
    (Reason::EvidenceUnknown, |case| case.alter = |bytes| bytes[1..].to_vec()),
    (Reason::ReportDataDiffers, |case| case.demands.report_data = Some([1; 64])),
    (Reason::ReportDataDiffers, |case| case.quote.extra_data = REPORT_DATA.to_vec()),
    (Reason::ReportDataDiffers, |case| case.quote.extra_data.clear()),
    (Reason::TpmEvidenceMalformed, |case| case.alter = |bytes| bytes[..bytes.len() - 1].to_vec()),
    (Reason::TpmEvidenceMalformed, |case| case.alter = |bytes| [bytes, vec![0]].concat()),
    // Format 2 instead of 1, behind the label.
    (Reason::TpmEvidenceMalformed, |case| case.alter = |bytes| replaced(bytes, 17, 2)),
    (Reason::TpmEvidenceMalformed, |case| {
        case.pcrs.insert(24, [0; 32]);
    }),
    (Reason::TpmEvidenceMalformed, |case| case.key = Some(vec![0x30; 1025])),
    (Reason::TpmEvidenceMalformed, |case| case.log = Some(vec![0; (512 << 10) + 1])),
    (Reason::TpmEvidenceMalformed, |case| {
        case.alter = |bytes| Evidence { ak: None, ..Evidence::decode(&bytes).expect("sound") }.encode()
    }),
    (Reason::TpmSignatureMalformed, |case| case.signature = Some(vec![0, 0x18, 0])),
    (Reason::TpmSignatureMalformed, |case| {
        case.signature = Some([case.ak.sign(b""), vec![0]].concat());
    }),
    // Numbers that no curve has.
    (Reason::TpmSignatureMalformed, |case| {
        case.signature = Some([&[0, 0x18, 0, 0x0b, 0, 49][..], &[1; 49], &[0, 1, 1]].concat());
    }),
    (Reason::TpmSignatureAlgorithm, |case| case.signature = Some(vec![0, 0x18, 0, 0x04, 0, 0, 0, 0])),
    (Reason::TpmSignatureAlgorithm, |case| case.signature = Some(vec![0, 0x05, 0, 0x0b, 0, 0])),
    (Reason::TpmKeyMalformed, |case| case.key = Some(vec![0x30, 0])),
    (Reason::TpmKeyMalformed, |case| case.key = Some(vec![])),
    (Reason::TpmKeyMalformed, |case| case.key = Some([Ak::P256.public(ATTRIBUTES), vec![0]].concat())),
    (Reason::TpmKeyMalformed, |case| case.key = Some(replaced(Ak::P256.public(ATTRIBUTES), 1, 8))),
    // Its point is not on the curve.
    (Reason::TpmKeyMalformed, |case| case.key = Some(replaced(Ak::P256.public(ATTRIBUTES), 30, 0))),
    // Not restricted; not made in the TPM; made to decrypt.
    (Reason::TpmKeyUnfit, |case| case.key = Some(Ak::P256.public(ATTRIBUTES ^ 1 << 16))),
    (Reason::TpmKeyUnfit, |case| case.key = Some(Ak::P256.public(ATTRIBUTES ^ 1 << 5))),
    (Reason::TpmKeyUnfit, |case| case.key = Some(Ak::P256.public(ATTRIBUTES ^ 1 << 1))),
    (Reason::TpmKeyUnfit, |case| case.key = Some(Ak::P256.public(ATTRIBUTES | 1 << 17))),
    (Reason::TpmKeyUntrusted, |case| case.demands.enrolled_aks.clear()),
    (Reason::TpmKeyUntrusted, |case| case.demands.enrolled_aks = vec![Ak::P384.fingerprint()]),
    (Reason::TpmQuoteMagic, |case| case.quote.magic = 0xff54_4346),
    (Reason::TpmQuoteType, |case| case.quote.kind = 0x8017),
    (Reason::TpmQuoteMalformed, |case| case.quote.safe = 2),
    (Reason::TpmQuoteMalformed, |case| case.quote.banks[0].1 = vec![0, 0, 0, 1]),
    (Reason::TpmBank, |case| case.quote.banks[0].0 = SHA1),
    (Reason::TpmBank, |case| case.quote.banks[0].0 = SHA384),
    (Reason::TpmBank, |case| case.quote.banks.clear()),
    (Reason::TpmBank, |case| case.quote.banks.push((SHA1, vec![1, 0, 0]))),
    (Reason::TpmSignature, |case| case.signature = Some(case.ak.sign(b"something else"))),
    (Reason::TpmSignature, |case| case.signature = Some(Ak::P384.sign(&case.quote.bytes()))),
    (Reason::TpmSignature, |case| case.key = Some(Ak::Rsassa.spki())),
    (Reason::TpmPcrSelection, |case| {
        case.pcrs.remove(&15);
    }),
    (Reason::TpmPcrSelection, |case| {
        case.pcrs.insert(16, [0; 32]);
    }),
    (Reason::TpmPcrSelection, |case| *case = Case::enrolled().quoting(Pcrs::new())),
    (Reason::TpmPcrDigest, |case| {
        case.pcrs.insert(4, [0; 32]);
    }),
    (Reason::TpmPcrDigest, |case| case.quote.digest = [0; 32]),
    (Reason::EventLogTooLarge, |case| {
        let note = Event::note(b"");
        case.log = Some(log(&vec![note; EVENTS_MAX + 1], &[SHA256]));
    }),
    (Reason::EventLogMalformed, |case| case.log = Some(vec![])),
    (Reason::EventLogMalformed, |case| case.log = case.log.take().map(|log| log[..log.len() - 1].to_vec())),
    (Reason::EventLogMalformed, |case| case.log = case.log.take().map(|log| [log, vec![0, 1]].concat())),
    (Reason::EventLogMalformed, |case| case.log = Some(log(&boot(), &[SHA256, SHA256]))),
    // An event with fewer digests than there are banks: their number is in its ninth byte.
    (Reason::EventLogMalformed, |case| case.log = Some(replaced(log(&boot(), &[SHA256]), 32 + 33 + 8, 2))),
    (Reason::EventLogLegacy, |case| case.log = Some(replaced(log(&boot(), &[SHA256]), 32, b's'))),
    (Reason::EventLogBank, |case| case.log = Some(log(&boot(), &[SHA1, SHA384]))),
    (Reason::EventLogRegister, |case| {
        case.log = Some(log(&[boot(), vec![Event::separator(17)]].concat(), &[SHA256]));
    }),
    // One event less, one more, one other; userspace does what no boot does.
    (Reason::EventLogDiffers, |case| case.log = Some(log(&boot()[..boot().len() - 1], &[SHA256]))),
    (Reason::EventLogDiffers, |case| {
        case.log = Some(log(&[boot(), vec![Event::application("more")]].concat(), &[SHA256]));
    }),
    (Reason::EventLogDiffers, |case| case.log = Some(log(&boot()[1..], &[SHA256]))),
    (Reason::EventLogDiffers, |case| {
        let mut pcrs = case.pcrs.clone();
        pcrs.insert(11, [7; 32]);
        let log = case.log.take();
        *case = Case { log, ..Case::enrolled().quoting(pcrs) };
    }),
];

/// Each way to break the evidence of an Azure VM.
const BROKEN_ON_AZURE: &[(Reason, Change)] = &[
    (Reason::AzureReportMalformed, |case| case.vm().alter = |report| replaced(report, 0, b'h')),
    (Reason::AzureReportMalformed, |case| case.vm().alter = |report| report[..1300].to_vec()),
    (Reason::AzureReportMalformed, |case| case.vm().alter = |report| [report, vec![1]].concat()),
    (Reason::AzureReportMalformed, |case| case.vm().hash_type = 2),
    (Reason::AzureReportType, |case| case.vm().report_type = 3),
    (Reason::AzureTdQuoteMissing, |case| case.vm().report_type = 4),
    (Reason::SnpSignature, |case| case.vm().alter = |report| replaced(report, 32 + 0x90, 0)),
    (Reason::SnpVmpl, |case| case.vm().hardware[0x30] = 1),
    (Reason::SnpDebug, |case| case.vm().hardware[0x0a] = 0x0b),
    (Reason::AzureRuntimeDataDiffers, |case| case.vm().vouched = Some("{}".to_owned())),
    (Reason::AzureKeyMissing, |case| case.vm().runtime_data = "{}".to_owned()),
    (Reason::AzureKeyMissing, |case| case.vm().runtime_data = r#"{"keys":[]}"#.to_owned()),
    (Reason::AzureKeyMissing, |case| {
        case.vm().runtime_data = r#"{"keys":[{"kid":"HCLAkPub","kty":"EC","x":"AQAB"}]}"#.to_owned();
    }),
    (Reason::AzureKeyMissing, |case| {
        let twice = case.vm().runtime_data.replace("HCLEkPub", "HCLAkPub");
        case.vm().runtime_data = twice;
    }),
    (Reason::TpmKeyMalformed, |case| case.vm().runtime_data = runtime_data(&[0xff; 100])),
    (Reason::TpmSignature, |case| case.ak = Ak::P256),
    (Reason::TpmPcrDigest, |case| {
        case.pcrs.insert(4, [0; 32]);
    }),
    (Reason::ReportDataDiffers, |case| case.demands.report_data = Some([1; 64])),
    (Reason::EventLogDiffers, |case| case.log = Some(log(&boot()[1..], &[SHA256]))),
];

/// Each way to break it as JSON: a member, and what it becomes.
const BROKEN_IN_JSON: &[(Reason, &str, &str)] = &[
    (Reason::AzureEvidenceMalformed, "/quote", "{}"),
    (Reason::AzureEvidenceMalformed, "/quote/message", r#""0g""#),
    (Reason::AzureEvidenceMalformed, "/quote/message", r#""012""#),
    (Reason::AzureEvidenceMalformed, "/quote/signature", r#""é""#),
    (Reason::AzureEvidenceMalformed, "/quote/pcrs/7", "[1]"),
    (Reason::AzureEvidenceMalformed, "/quote/pcrs", "[]"),
    (Reason::AzureEvidenceMalformed, "/report", r#""?""#),
    (Reason::AzureEvidenceMalformed, "/vcek", r#""?""#),
    (Reason::EndorsementMalformed, "/vcek", r#""AQID""#),
    (Reason::AzureReportMalformed, "/report", "[]"),
    (Reason::TpmQuoteMalformed, "/quote/message", r#""ff5443478018""#),
];

/// The bytes with one of them replaced.
fn replaced(mut bytes: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    assert_ne!(std::mem::replace(&mut bytes[at], byte), byte, "it has to differ");
    bytes
}

#[test]
fn every_reason_is_reached() {
    let mut reached = BTreeSet::new();
    let sound: [fn() -> Case; 2] = [Case::enrolled, Case::azure];
    for (sound, broken) in sound.into_iter().zip([BROKEN, BROKEN_ON_AZURE]) {
        assert!(sound().judge().is_ok());
        for (index, (reason, change)) in broken.iter().enumerate() {
            let mut case = sound();
            change(&mut case);
            let refusal = case.judge().expect_err(reason.code());
            assert_eq!(refusal.reason, *reason, "row {index}: {refusal}");
            reached.insert(*reason);
        }
    }
    for (reason, pointer, value) in BROKEN_IN_JSON {
        let mut evidence = whole_azure().json();
        *evidence.pointer_mut(pointer).expect("a member") = value.parse().expect("JSON");
        let refusal = Case::azure().judge_bytes(evidence.to_string().as_bytes()).expect_err(pointer);
        assert_eq!(refusal.reason, *reason, "{pointer}: {refusal}");
        reached.insert(*reason);
    }
    let ours = |reason: &&Reason| matches!(reason.area(), Area::Tpm | Area::EventLog | Area::Azure);
    let missed: Vec<_> = Reason::ALL.iter().filter(ours).filter(|reason| !reached.contains(reason)).collect();
    assert!(missed.is_empty(), "no test reaches {missed:?}");
}

/// An Azure VM all of whose PCRs are quoted: JSON has no other.
fn whole_azure() -> Case {
    let mut pcrs = pcrs(&boot(), BootPhase::EnterInitrd);
    pcrs.extend((16..24).map(|index| (index, [0xff; 32])));
    Case::azure().quoting(pcrs)
}

#[test]
fn a_vm_of_azure_on_tdx_is_vouched_for_by_a_quote_of_it() {
    let mut pcrs = pcrs(&boot(), BootPhase::EnterInitrd);
    pcrs.extend((16..24).map(|index| (index, [0xff; 32])));
    let case = || Case::azure_on_tdx().quoting(pcrs.clone());
    let document = case().judge().expect("it is sound");
    let tools = case().judge_bytes(case().json().to_string().as_bytes()).expect("it is sound");
    for claims in [&document, &tools] {
        assert_eq!((claims.kind, &*claims.root, claims.memory_encrypted), (Kind::AzureTdx, "tdx", true));
        assert!(claims.revocation_checked && !tpm(claims).vtpm_host_trusted);
        assert_eq!(tpm(claims).ak.0, Ak::Rsassa.fingerprint());
        let json = serde_json::to_value(claims).expect("claims are JSON");
        assert_eq!((&json["kind"], &json["mrtd"]), (&"azure-tdx".into(), &"3e".repeat(48).into()));
        // The paravisor may see to it; no report shows that.
        assert_eq!(json["attributes"]["sept_ve_disable"], false);
        assert_eq!(json["azure_vm_id"], "5a64a0e6-30d5-4dfa-9a3c-1d0b8f6c5e11");
    }
    assert_eq!(Kind::of(case().json().to_string().as_bytes()), Some(Kind::AzureTdx));

    for (reason, change) in [
        (Reason::TdxSignature, (|case| case.td().by = tdx::By::Pck) as Change),
        (Reason::TdxDebug, |case| case.td().put(120, &[1])),
        (Reason::TdxQuoteMalformed, |case| case.td().kinds[0] = 5),
        (Reason::AzureRuntimeDataDiffers, |case| case.vm().vouched = Some("{}".to_owned())),
        (Reason::AzureKeyMissing, |case| case.vm().runtime_data = "{}".to_owned()),
        (Reason::ReportDataDiffers, |case| case.demands.report_data = Some([1; 64])),
        (Reason::TpmSignature, |case| case.signature = Some(Ak::Rsassa.sign(b"other"))),
        // Said to be of SNP, with a TD's report.
        (Reason::SnpVersion, |case| case.vm().report_type = 2),
    ] {
        let mut case = case();
        change(&mut case);
        assert_eq!(case.judge().map(drop).map_err(|refusal| refusal.reason), Err(reason));
    }
    let judge = |bytes: &[u8]| case().judge_bytes(bytes).map(drop).map_err(|refusal| refusal.reason);
    // A TD's quote belongs to an HCL report, and of the tools' JSON either is there.
    let alone = Evidence { ak: Some(Ak::Rsassa.spki()), hcl_report: None, ..case().document() };
    assert_eq!(judge(&alone.encode()), Err(Reason::TpmEvidenceMalformed));
    let mut both = case().json();
    both["vcek"] = json!("none");
    assert_eq!(judge(both.to_string().as_bytes()), Err(Reason::AzureEvidenceMalformed));
    // A TD that is not a paravisor's is asked for more.
    assert_eq!(judge(&case().td().bytes()), Err(Reason::TdxSeptVe));
}

#[test]
fn keys_of_every_kind_and_form_are_accepted() {
    for ak in Ak::ALL {
        for key in [ak.spki(), ak.public(ATTRIBUTES)] {
            let mut case = Case::of(ak, &boot());
            (case.key, case.demands.enrolled_aks) = (Some(key), vec![ak.fingerprint()]);
            let claims = case.judge().unwrap_or_else(|refusal| panic!("{ak:?}: {refusal}"));
            assert_eq!(tpm(&claims).ak.0, ak.fingerprint(), "{ak:?}");
        }
    }
}

#[test]
fn a_hosts_tpm_says_what_it_is() {
    let claims = Case::enrolled().judge().expect("it is sound");
    assert_eq!((claims.kind, &*claims.root, claims.debug), (Kind::Tpm, "enrolled", false));
    assert_eq!((claims.memory_encrypted, claims.revocation_checked), (false, false));
    assert_eq!(claims.report_data.0, sha256(&[&REPORT_DATA]));
    let said = tpm(&claims);
    assert!(said.vtpm_host_trusted && said.clock_safe && said.ak_trust == AkTrust::Enrolled);
    assert_eq!((said.clock_ms, said.reset_count, said.restart_count), (90_000, 7, 1));
    assert_eq!(said.tpm_firmware.to_string(), "0102030405060708");
    let json = serde_json::to_value(&claims).expect("claims are JSON");
    assert_eq!((&json["kind"], &json["ak_trust"]), (&"tpm".into(), &"enrolled".into()));
    assert_eq!(
        (&json["boot"]["secure_boot"], &json["boot"]["phase"]),
        (&true.into(), &"enter-initrd".into())
    );
    assert_eq!(json["pcrs"]["15"], "0".repeat(64));

    let mut without = Case::enrolled();
    without.log = None;
    let json = serde_json::to_value(without.judge().expect("a log is not needed")).expect("claims are JSON");
    assert!(json.get("boot").is_none() && json["pcrs"]["7"].is_string());
}

#[test]
fn a_vm_of_azure_is_vouched_for_by_its_processor() {
    let case = whole_azure();
    let document = case.judge().expect("it is sound");
    let tools = case.judge_bytes(case.json().to_string().as_bytes()).expect("it is sound");
    for claims in [&document, &tools] {
        assert_eq!((claims.kind, &*claims.root, claims.memory_encrypted), (Kind::AzureSnp, "hearth", true));
        assert!(claims.revocation_checked && !tpm(claims).vtpm_host_trusted);
        assert_eq!(
            (tpm(claims).ak_trust, &tpm(claims).ak.0[..]),
            (AkTrust::Azure, &Ak::Rsassa.fingerprint()[..])
        );
        assert_eq!(claims.report_data.0, sha256(&[&REPORT_DATA]));
        let json = serde_json::to_value(claims).expect("claims are JSON");
        assert_eq!(json["azure_vm_id"], "5a64a0e6-30d5-4dfa-9a3c-1d0b8f6c5e11");
        assert_eq!((&json["generation"], &json["measurement"]), (&"genoa".into(), &"3e".repeat(48).into()));
    }
    // The tools do not give the log.
    assert!(tpm(&document).boot.is_some() && tpm(&tools).boot.is_none());
    // The versions of the tools differ in how they spell bytes.
    let hex = |value: &Value| -> String {
        value
            .as_array()
            .expect("numbers")
            .iter()
            .map(|byte| format!("{:02x}", byte.as_u64().expect("a byte")))
            .collect()
    };
    let mut evidence = case.json();
    let quote = evidence["quote"].take();
    let pcrs: Vec<_> = quote["pcrs"].as_array().expect("PCRs").iter().map(hex).collect();
    evidence["tpm_quote"] = json!({
        "message": hex(&quote["message"]), "signature": hex(&quote["signature"]), "pcrs": pcrs,
    });
    evidence.as_object_mut().expect("a record").remove("quote");
    for (version, sound) in [(1, true), (2, true), (3, false)] {
        evidence["version"] = json!(version);
        let judged = case.judge_bytes(evidence.to_string().as_bytes());
        assert_eq!(
            judged.map(drop).map_err(|refusal| refusal.reason),
            if sound { Ok(()) } else { Err(Reason::AzureEvidenceMalformed) }
        );
    }
}

/// A document of format 1 that was written once: whoever changes the format keeps reading it.
#[test]
fn the_document_of_the_first_format_is_read() {
    let document = include_bytes!("../vectors/tpm-evidence-1.cbor");
    let demands =
        Demands { report_data: Some(REPORT_DATA), enrolled_aks: vec![AK_OF_VECTOR], ..Demands::at(NOW_S) };
    let claims = appraise(document, &Endorsements::default(), &Roots::built_in(), &demands);
    let claims = claims.expect("it is sound");
    assert_eq!(tpm(&claims).boot.as_ref().and_then(|boot| boot.secure_boot), Some(true));
    let read = Evidence::decode(document).expect("it is sound");
    assert_eq!(read.encode(), document);
}

#[test]
fn no_root_is_called_as_what_needs_none() {
    let root = Roots::built_in().with_amd("enrolled", &ark().der());
    assert_eq!(root.map(drop), Err(RootError::Label));
}

#[test]
fn a_whole_boot_is_told() {
    let told = facts(&Case::enrolled());
    let of = |bytes: &[u8]| Some(keyhearth_attest::Bytes(sha256(&[bytes]).to_vec()));
    assert_eq!(told.secure_boot, Some(true));
    assert_eq!(
        [told.pk, told.kek, told.db, told.dbx],
        [b"owner".as_slice(), b"exchange", b"allowed", b"forbidden"].map(of)
    );
    assert_eq!(
        told.boot_applications,
        ["shim", "grub", "kernel"].map(|name| of(name.as_bytes())).into_iter().collect()
    );
    assert_eq!(told.mok, [of(b"keys"), of(b"no keys")].into_iter().collect());
    assert_eq!(told.kernel_command_line.as_deref(), Some("/vmlinuz ro panic=0 \"dm=1 none\""));
    assert_eq!(told.command_line_overrides, Some(vec!["console=ttyS0".to_owned()]));
    let sections = told.image_sections.expect("there is an image");
    assert_eq!(
        (sections.len(), sections.get("linux"), sections.get("cmdline")),
        (2, of(b"a kernel").as_ref(), of(b"ro").as_ref())
    );
    assert_eq!(told.phase, Some(BootPhase::EnterInitrd));
}

#[test]
fn userspace_is_followed_into_every_phase() {
    let phases = [
        BootPhase::BeforeInitrd,
        BootPhase::EnterInitrd,
        BootPhase::LeaveInitrd,
        BootPhase::Sysinit,
        BootPhase::Ready,
        BootPhase::Shutdown,
        BootPhase::Final,
    ];
    for phase in phases {
        let case = Case::enrolled().quoting(pcrs(&boot(), phase));
        assert_eq!(facts(&case).phase, Some(phase));
    }
    // An initial ramdisk without systemd measures none of its own.
    let extended = |words: &[&str]| {
        let mut quoted = pcrs(&boot(), BootPhase::BeforeInitrd);
        let image = quoted.get_mut(&11).expect("it is quoted");
        words.iter().for_each(|word| *image = sha256(&[&image[..], &sha256(&[word.as_bytes()])]));
        Case::enrolled().quoting(quoted)
    };
    assert_eq!(facts(&extended(&["sysinit"])).phase, Some(BootPhase::Sysinit));
    // Of what is past it, it can be told whether it measures itself; but not of what was extended otherwise.
    let started = pcrs(&boot(), BootPhase::BeforeInitrd)[&11];
    let told = |now: &[u8; 32]| eventlog::measures_initrd(&started, now);
    assert_eq!(told(&pcrs(&boot(), BootPhase::Ready)[&11]), Some(true));
    for words in [&[][..], &["sysinit", "ready"]] {
        assert_eq!(told(&extended(words).pcrs[&11]), Some(false));
    }
    assert_eq!(told(&extended(&["ready"]).pcrs[&11]), None);
    assert_eq!(facts(&extended(&["sysinit", "ready"])).phase, Some(BootPhase::Ready));
    let skipped = extended(&["ready"]).judge().map_err(|refusal| refusal.reason);
    assert_eq!(skipped.err(), Some(Reason::EventLogDiffers));
}

/// The boot with an event of a register replaced, counted from 0 in that register; without one, left out.
fn otherwise(register: u32, at: usize, other: Option<Event>) -> Vec<Event> {
    let mut events = boot();
    let mut own =
        (0..events.len()).filter(|index| events[*index].register == register && events[*index].kind != 3);
    let index = own.nth(at).expect("there are so many");
    events.splice(index..=index, other);
    events
}

/// Logs whose registers are quoted as they are, and what is not known of such a boot, or known to be otherwise.
#[test]
fn what_may_not_have_happened_is_not_told() {
    let of = |events: &[Event]| facts(&Case::enrolled().booted(events));
    let mut lie = Event::variable("SecureBoot", &[1]);
    lie.measured = Event::variable("SecureBoot", &[0]).data;
    assert_eq!(
        of(&otherwise(7, 0, Some(lie))).secure_boot,
        None,
        "the log says other than what was measured"
    );
    let off = Event::variable("SecureBoot", &[0]);
    assert_eq!(of(&otherwise(7, 0, Some(off.clone()))).secure_boot, Some(false));
    let odd = Event::variable("SecureBoot", &[2]);
    assert_eq!(of(&otherwise(7, 0, Some(odd))).secure_boot, None);
    assert_eq!(of(&otherwise(7, 1, Some(off.clone()))).secure_boot, None, "it was measured twice");
    let told = of(&[boot(), vec![off]].concat());
    assert_eq!(told.secure_boot, Some(true), "what comes after the separator is not the firmware's");
    let told = of(&otherwise(7, 5, None));
    assert_eq!((told.secure_boot, told.pk), (None, None), "there is no separator");

    let hidden =
        Event { data: b"Calling EFI Application from Boot Option".to_vec(), ..Event::application("evil") };
    let told = of(&[boot(), vec![Event { kind: 0x8000_0007, ..hidden }]].concat());
    assert_eq!(told.boot_applications.map(|of| of.len()), Some(4), "a program is called an action");

    let line = |label, text| Some(Event::grub(label, text));
    assert_eq!(of(&otherwise(8, 2, None)).kernel_command_line, None, "no command line");
    assert_eq!(of(&otherwise(8, 1, None)).kernel_command_line, None, "no command");
    let evil = line("kernel_cmdline: ", "/vmlinuz init=/bin/sh");
    assert_eq!(of(&otherwise(8, 2, evil)).kernel_command_line, None, "another than the command's");
    let evil = line("grub_cmd: ", "linux /vmlinuz init=/bin/sh");
    assert_eq!(of(&otherwise(8, 0, evil)).kernel_command_line, None, "two commands differ");
    let evil = line("grub_cmd: ", "/vmlinuz ro panic=0 dm=1 none");
    assert_eq!(of(&otherwise(8, 0, evil)).kernel_command_line, None, "two lines that differ in their quotes");
    let unknown = line("", "set root=hd0,gpt1");
    assert_eq!(of(&otherwise(8, 0, unknown)).kernel_command_line, None, "a text of unknown kind");
    let long = format!("/vmlinuz {}", "a".repeat(4096));
    let mut events = otherwise(8, 1, line("grub_cmd: ", &format!("linux {long}")));
    events.push(Event::grub("kernel_cmdline: ", &long));
    assert_eq!(of(&events).kernel_command_line, None, "too long");

    let credential = Event::new(12, 0xd, b"a credential", &[b'a', 0, 0, 0]);
    assert_eq!(of(&[boot(), vec![credential]].concat()).command_line_overrides, None);
    let twice = [boot(), Event::section("linux", b"another").to_vec()].concat();
    assert_eq!(of(&twice).image_sections, None, "two images");
    let open = [boot(), Event::section("initrd", b"").to_vec()[..1].to_vec()].concat();
    assert_eq!(of(&open).image_sections, None, "a name without contents");
}

#[test]
fn nothing_is_told_of_registers_that_were_not_quoted() {
    let mut quoted = pcrs(&boot(), BootPhase::EnterInitrd);
    quoted.retain(|index, _| *index == 4);
    let told = facts(&Case::enrolled().quoting(quoted));
    let applications = told.boot_applications.clone();
    assert_eq!(told, BootFacts { boot_applications: applications, ..BootFacts::default() });
    assert_eq!(told.boot_applications.map(|of| of.len()), Some(3));
}

/// What programs extend later, the log does not tell, and that does no harm.
#[test]
fn registers_without_events_may_have_any_value() {
    let mut quoted = pcrs(&boot(), BootPhase::EnterInitrd);
    quoted.insert(15, [7; 32]);
    quoted.insert(9, [8; 32]);
    let claims = Case::enrolled().quoting(quoted).judge().expect("it is sound");
    assert_eq!(tpm(&claims).pcrs[&15].0, [7; 32]);
    // Those of the firmware may not.
    let mut quoted = pcrs(&boot(), BootPhase::EnterInitrd);
    quoted.insert(6, [7; 32]);
    let refusal = Case::enrolled().quoting(quoted).judge().expect_err("PCR 6 is the firmware's");
    assert_eq!((refusal.reason, &*refusal.detail), (Reason::EventLogDiffers, "PCR 6"));
}

#[test]
fn a_log_in_its_place_is_filled_up() {
    for filler in [0, 0xff] {
        let mut case = Case::enrolled();
        case.log = case.log.take().map(|log| [log, vec![filler; 100]].concat());
        assert!(case.judge().is_ok(), "{filler}");
    }
}

/// Logs of a virtual machine (OVMF 2022.11, systemd-stub 252, Linux 6.1) without Secure Boot and with it, and the PCRs that
/// its TPM had.
#[test]
fn logs_of_a_booted_image_lead_to_its_registers() {
    let off: &[u8] = include_bytes!("../vectors/ovmf-uki.log");
    let on: &[u8] = include_bytes!("../vectors/ovmf-uki-secure-boot.log");
    let had_off = [
        (0, "93b4db75f808ff05b1cc1d62e7921d13e9424e3cbbf4226fa6323d8043f300b2"),
        (1, "ec09678bc9a85dd840b3b05f457edda355a003a8c2c20e65463803e44087f8a6"),
        (4, "ab5962435175c70e7279f9243b92dce5f9907c7027a1990a59e534e14e559176"),
        (7, "65caf8dd1e0ea7a6347b635d2b379c93b9a1351edc2afc3ecda700e534eb3068"),
        (9, "9fcc95894e4b56df3281f40278750f910be6c23b76d3728242c9efac3d52224e"),
        (11, "7f5e26ff998c776f2525ef901b5406ee4d5cc9192f9f07d3f0652305baa5032f"),
    ];
    let had_on = [
        (0, "47bf47eb465a3e81299fd159eb9ffd94636b4baf42c1e53b2fc3108ad461f00c"),
        (1, "ec09678bc9a85dd840b3b05f457edda355a003a8c2c20e65463803e44087f8a6"),
        (4, "97971c590b9bd4fe3c61fafd737a5471bbaff8c378916fc45b0f6add9f3d000f"),
        (7, "02a4f904010ebddfb1ce765622af8d48ac2408422e220ad4eed1e1856407f704"),
        (9, "9fcc95894e4b56df3281f40278750f910be6c23b76d3728242c9efac3d52224e"),
        (11, "7f5e26ff998c776f2525ef901b5406ee4d5cc9192f9f07d3f0652305baa5032f"),
    ];
    for (log, had, secure_boot, applications) in [(off, had_off, false, 2), (on, had_on, true, 1)] {
        let led = eventlog::replayed(log).expect("it is sound");
        for (index, value) in had {
            assert_eq!(keyhearth_attest::Bytes(led[&index].to_vec()).to_string(), value, "PCR {index}");
        }
        let told = eventlog::appraise(log, &Quoted::Pcrs(&led)).expect("it is sound");
        assert_eq!(told.secure_boot, Some(secure_boot));
        assert_eq!(told.boot_applications.map(|of| of.len()), Some(applications));
        let sections: Vec<_> = told.image_sections.expect("there is an image").into_keys().collect();
        assert_eq!(sections, ["cmdline", "initrd", "linux", "osrel"]);
        assert_eq!((told.phase, told.pk.is_some()), (Some(BootPhase::BeforeInitrd), true));
        assert_eq!(told.command_line_overrides, Some(Vec::new()));
    }
}

/// Whether all that `less` tells, `more` tells too.
fn tells_no_other(less: &BootFacts, more: &BootFacts) -> bool {
    let (Ok(Value::Object(less)), Ok(Value::Object(more))) =
        (serde_json::to_value(less), serde_json::to_value(more))
    else {
        panic!("facts are a record");
    };
    less.iter().all(|(name, value)| more.get(name) == Some(value))
}

proptest! {
    #[test]
    fn an_altered_log_tells_nothing_else(place in any::<proptest::sample::Index>(), bit in 0_u8..8) {
        let mut case = Case::enrolled();
        let sound = facts(&case);
        let mut altered = case.log.take().expect("there is one");
        *place.get_mut(&mut altered) ^= 1 << bit;
        case.log = Some(altered);
        if let Ok(claims) = case.judge() {
            let told = tpm(&claims).boot.clone().expect("there is a log");
            prop_assert!(tells_no_other(&told, &sound), "{told:?}");
        }
    }

    #[test]
    fn one_changed_bit_of_a_quote_is_refused(place in any::<proptest::sample::Index>(), bit in 0_u8..8) {
        let mut case = Case::enrolled();
        case.log = None;
        let mut evidence = case.document().encode();
        *place.get_mut(&mut evidence) ^= 1 << bit;
        prop_assert!(case.judge_bytes(&evidence).is_err());
    }

    #[test]
    fn any_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600), member in 0..6) {
        let mut document = Case::enrolled().document();
        match member {
            0 => document.quote = bytes,
            1 => document.signature = bytes,
            2 => document.ak = Some(bytes),
            3 => document.log = Some(bytes),
            4 => (document.ak, document.hcl_report) = (None, Some(bytes)),
            _ => {
                let document = [&Case::enrolled().document().encode()[..17], &bytes].concat();
                prop_assert!(Case::enrolled().judge_bytes(&document).is_err());
                let json = [b"{", &bytes[..]].concat();
                prop_assert!(Case::enrolled().judge_bytes(&json).is_err());
                return Ok(());
            }
        }
        prop_assert!(Case::enrolled().judge_bytes(&document.encode()).is_err());
    }
}
