//! TDX quotes of made machines: what is sound is accepted as what it is, every reason to refuse is reached, and
//! another verifier judges alike.

use std::collections::BTreeSet;

use dcap_qvl::config::{Config, CryptoProvider};
use dcap_qvl::signature::DerSigEncoder;
use dcap_qvl::verify::QuoteVerifier;
use dcap_qvl::x509::X509CertBackend;
use dcap_qvl::{QuoteCollateralV3, QuotePolicy, TcbStatus};
use keyhearth_attest::eventlog::{self, LOG_BYTES_MAX, Quoted, without_filler};
use keyhearth_attest::tdx::{Evidence, TdxClaims};
use keyhearth_attest::{
    Area, Claims, Demands, Endorsements, Reason, Refusal, RootError, Roots, STATEMENTS_MAX, Specific,
    appraise,
};
use keyhearth_crypto::algorithm::{Algorithm, Mechanism};
use keyhearth_crypto::digest::{sha256, sha384};
use keyhearth_crypto::key::{Input, PublicKey};
use keyhearth_machines::NOW_S;
use keyhearth_machines::tdx::{
    Body, By, Certificate, List, Pck, Quote, answer, boot, member, pck_ca, pem, qe_identity, root,
    statement_signer, tcb_info, together,
};
use keyhearth_machines::tpm::{Event, SHA256, SHA384, log};
use proptest::prelude::*;
use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id};
use serde_json::{Value, json};

/// Evidence, what comes with it, and what is demanded; each test makes one thing otherwise.
struct Case {
    quote: Quote,
    /// Cut or changed after it was signed.
    forge: fn(&mut Vec<u8>),
    pck: Option<Pck>,
    pck_ca: Option<Certificate>,
    statement_signer: Option<Certificate>,
    /// Whose key signs TCB info and QE identity.
    by: [By; 2],
    tcb_info: Option<Value>,
    qe_identity: Option<Value>,
    lists: Vec<List>,
    files: Vec<Vec<u8>>,
    roots: Roots,
    demands: Demands,
}

impl Case {
    /// A machine that carries no certificates: they are endorsements.
    fn new(body: Body) -> Self {
        Self {
            quote: Quote { chain: Vec::new(), kinds: [6, 1], ..Quote::new(body) },
            forge: |_| {},
            pck: Some(Pck::default()),
            pck_ca: Some(pck_ca()),
            statement_signer: Some(statement_signer()),
            by: [By::StatementSigner; 2],
            tcb_info: Some(tcb_info()),
            qe_identity: Some(qe_identity()),
            lists: vec![List::of_root(&[9]), List::of_pck_ca(&[9])],
            files: Vec::new(),
            roots: Roots::built_in().with_intel("hearth", &root().der()).expect("a root"),
            demands: Demands { report_data: Some([0xda; 64]), ..Demands::at(NOW_S) },
        }
    }

    fn pck(&mut self) -> &mut Pck {
        self.pck.as_mut().expect("no test asks after it took it away")
    }

    fn pck_ca(&mut self) -> &mut Certificate {
        self.pck_ca.as_mut().expect("no test asks after it took it away")
    }

    fn statement_signer(&mut self) -> &mut Certificate {
        self.statement_signer.as_mut().expect("no test asks after it took it away")
    }

    /// Changes TCB info at a JSON pointer (RFC 6901), or takes the member away.
    fn tcb(&mut self, pointer: &str, value: Value) {
        put(self.tcb_info.as_mut().expect("no test asks after it took it away"), pointer, value);
    }

    /// The same with the QE identity.
    fn qe(&mut self, pointer: &str, value: Value) {
        put(self.qe_identity.as_mut().expect("no test asks after it took it away"), pointer, value);
    }

    /// Sets the attributes of the TD, besides that `SEPT_VE_DISABLE` stays.
    fn attributes(&mut self, bits: u64) {
        self.quote.put(120, &(bits | 1 << 28).to_le_bytes());
    }

    fn evidence(&self) -> Vec<u8> {
        let mut quote = self.quote.bytes();
        (self.forge)(&mut quote);
        quote
    }

    fn endorsements(&self) -> Result<Endorsements, Refusal> {
        let [platform_by, enclave_by] = self.by;
        let files = (self.pck.iter().map(Pck::der))
            .chain(self.pck_ca.iter().chain(&self.statement_signer).map(Certificate::der))
            .chain(self.lists.iter().map(List::der))
            .chain(self.tcb_info.iter().map(|info| answer("tcbInfo", info, platform_by)))
            .chain(self.qe_identity.iter().map(|identity| answer("enclaveIdentity", identity, enclave_by)))
            .chain(self.files.iter().cloned());
        let mut endorsements = Endorsements::default();
        files.into_iter().try_for_each(|file| endorsements.add(&file))?;
        Ok(endorsements)
    }

    fn judge(&self) -> Result<Claims, Refusal> {
        appraise(&self.evidence(), &self.endorsements()?, &self.roots, &self.demands)
    }
}

fn put(document: &mut Value, pointer: &str, value: Value) {
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer has a slash");
    let parent = document.pointer_mut(parent).expect("it points into the document");
    match (parent, value) {
        (Value::Object(members), Value::Null) => drop(members.remove(name).expect("it is there")),
        (Value::Object(members), value) => drop(members.insert(name.to_owned(), value)),
        (elements, value) => elements[name.parse::<usize>().expect("an index")] = value,
    }
}

fn tdx(claims: &Claims) -> &TdxClaims {
    let Specific::Tdx(claims) = &claims.specific else { panic!("{claims:?}") };
    claims
}

/// The quote in a document with a log, spoilt.
fn with_log(quote: &[u8], log: Vec<u8>, spoil: fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut document = Evidence { quote: quote.to_vec(), log }.encode();
    spoil(&mut document);
    document
}

type Change = fn(&mut Case);

/// Each way to break a sound case, and the reason that it deserves.
const BROKEN: &[(Reason, Change)] = &[
    (Reason::ReportDataDiffers, |case| case.demands.report_data = Some([1; 64])),
    (Reason::TdxEvidenceMalformed, |case| {
        case.forge = |quote| *quote = with_log(quote, Vec::new(), |document| document.truncate(20));
    }),
    (Reason::TdxEvidenceMalformed, |case| {
        case.forge = |quote| *quote = with_log(quote, Vec::new(), |document| document.push(0));
    }),
    (Reason::TdxEvidenceMalformed, |case| {
        case.forge = |quote| *quote = with_log(quote, vec![0; LOG_BYTES_MAX + 1], |_| {});
    }),
    (Reason::TdxTee, |case| case.quote.header[4] = 0),
    (Reason::TdxTee, |case| case.quote.header[7] = 1),
    (Reason::TdxVersion, |case| case.quote.header[0] = 3),
    (Reason::TdxVersion, |case| case.quote.header[0] = 6),
    (Reason::TdxKeyType, |case| case.quote.header[2] = 3),
    (Reason::TdxVendor, |case| case.quote.header[12] ^= 1),
    (Reason::TdxBody, |case| case.quote.header[48] = 1),
    (Reason::TdxBody, |case| case.quote.header[48] = 5),
    (Reason::TdxBody, |case| case.quote.header[50] -= 1),
    (Reason::TdxQuoteMalformed, |case| case.forge = |quote| quote.truncate(47)),
    (Reason::TdxQuoteMalformed, |case| case.forge = |quote| quote.truncate(600)),
    (Reason::TdxQuoteMalformed, |case| case.forge = |quote| quote.truncate(quote.len() - 1)),
    (Reason::TdxQuoteMalformed, |case| case.forge = |quote| quote.extend([0, 1])),
    (Reason::TdxQuoteMalformed, |case| case.quote.kinds[0] = 5),
    (Reason::TdxQuoteMalformed, |case| {
        case.quote.chain = pem(&[root().der()]).replace("END", "FIN").into_bytes();
        case.quote.kinds[1] = 5;
    }),
    (Reason::TdxQuoteMalformed, |case| {
        case.quote.chain = pem(&vec![root().der(); 9]).into_bytes();
        case.quote.kinds[1] = 5;
    }),
    (Reason::TdxCertificateMissing, |case| case.pck = None),
    (Reason::TdxCertificateMalformed, |case| case.pck().ppid.truncate(15)),
    (Reason::TdxCertificateMalformed, |case| case.pck().pce_svn = 0x8000),
    (Reason::TdxCertificateMalformed, |case| case.pck().more = member(&[4], &[4, 1, 0])),
    (Reason::TdxCertificateMalformed, |case| case.pck().more = vec![5, 0]),
    (Reason::TdxQeSignature, |case| case.quote.qe_by = By::AttestationKey),
    (Reason::TdxQeSignature, |case| case.pck().certificate.key = By::PckCa),
    (Reason::TdxTcbInfoMissing, |case| case.tcb_info = None),
    (Reason::TdxTcbInfoMissing, |case| case.tcb("/fmspc", json!("F5BC00000001"))),
    (Reason::TdxTcbInfoMissing, |case| case.tcb("/pceId", json!("0001"))),
    (Reason::TdxTcbInfoMissing, |case| case.tcb("/id", json!("SGX"))),
    (Reason::TdxTcbInfoMissing, |case| case.pck().fmspc[5] = 1),
    (Reason::TdxQeIdentityMissing, |case| case.qe_identity = None),
    (Reason::TdxQeIdentityMissing, |case| case.qe("/id", json!("QE"))),
    (Reason::TdxTcbInfoSignature, |case| case.by[0] = By::Pck),
    (Reason::TdxQeIdentitySignature, |case| case.by[1] = By::Root),
    (Reason::TdxCollateralMalformed, |case| case.tcb("/version", json!(2))),
    (Reason::TdxCollateralMalformed, |case| case.tcb("/version", json!(4))),
    (Reason::TdxCollateralMalformed, |case| case.tcb("/tcbType", json!(1))),
    (Reason::TdxCollateralMalformed, |case| case.tcb("/tdxModule", Value::Null)),
    (Reason::TdxCollateralMalformed, |case| case.tcb("/tdxModule/mrsigner", json!("00"))),
    (Reason::TdxCollateralMalformed, |case| case.tcb("/tcbLevels", Value::Null)),
    (Reason::TdxCollateralMalformed, |case| case.tcb("/tcbLevels/1/tcb/pcesvn", json!(-1))),
    (Reason::TdxCollateralMalformed, |case| case.tcb("/tcbLevels/0/tcb/sgxtcbcomponents", json!([]))),
    (Reason::TdxCollateralMalformed, |case| {
        let levels = vec![json!({ "svn": 0 }); 17];
        case.tcb("/tcbLevels/0/tcb/tdxtcbcomponents", json!(levels));
    }),
    (Reason::TdxCollateralMalformed, |case| case.tcb("/nextUpdate", json!("2025-07-19T10:16:03+01:00"))),
    (Reason::TdxCollateralMalformed, |case| case.qe("/version", json!(1))),
    (Reason::TdxCollateralMalformed, |case| case.qe("/attributes", json!("1g"))),
    (Reason::TdxTcbInfoStale, |case| case.tcb("/issueDate", json!("2025-07-01T00:00:01Z"))),
    (Reason::TdxTcbInfoStale, |case| case.tcb("/nextUpdate", json!("2025-06-30T23:59:59Z"))),
    (Reason::TdxQeIdentityStale, |case| case.qe("/issueDate", json!("2025-07-01T00:00:01Z"))),
    (Reason::TdxQeIdentityStale, |case| case.qe("/nextUpdate", json!("2025-06-30T23:59:59Z"))),
    (Reason::TdxAttestationKey, |case| case.quote.vouched = false),
    (Reason::TdxAttestationKey, |case| case.quote.put_qe(352, &[1])),
    (Reason::TdxQeDiffers, |case| case.quote.put_qe(128, &[0xdd])),
    (Reason::TdxQeDiffers, |case| case.quote.put_qe(256, &[1])),
    (Reason::TdxQeDiffers, |case| case.quote.put_qe(16, &[1])),
    (Reason::TdxQeDiffers, |case| case.quote.put_qe(48, &[0x13])),
    (Reason::TdxSignature, |case| case.quote.by = By::Pck),
    (Reason::TdxSignature, |case| case.forge = |quote| quote[48 + 136] ^= 1),
    (Reason::TdxDebug, |case| case.attributes(1)),
    (Reason::TdxDebug, |case| case.attributes(1 << 5)),
    (Reason::TdxMigration, |case| case.attributes(1 << 29)),
    (Reason::TdxServiceTd, |case| case.attributes(1 << 17)),
    (Reason::TdxServiceTd, |case| {
        *case = Case::new(Body::Td15);
        case.quote.put(647, &[1]);
    }),
    (Reason::TdxServiceTd, |case| {
        *case = Case::new(Body::Td15Extended);
        case.quote.put(829, &[1]);
    }),
    (Reason::TdxAttributes, |case| case.attributes(1 << 2)),
    (Reason::TdxAttributes, |case| case.attributes(1 << 20)),
    (Reason::TdxAttributes, |case| case.attributes(1 << 61)),
    (Reason::TdxSeptVe, |case| case.quote.put(120, &[0; 8])),
    (Reason::TdxTcbUnknown, |case| case.pck().components[0] = 1),
    (Reason::TdxTcbUnknown, |case| case.pck().components[15] = 199),
    (Reason::TdxTcbUnknown, |case| case.pck().pce_svn = 4),
    (Reason::TdxTcbUnknown, |case| case.quote.put(2, &[1])),
    (Reason::TdxTcbUnknown, |case| case.quote.put(0, &[1])),
    (Reason::TdxTcbUnknown, |case| case.quote.put_qe(258, &[1])),
    (Reason::TdxTcbUnknown, |case| case.tcb("/tcbLevels", json!([]))),
    (Reason::TdxTcbUnknown, |case| {
        *case = Case::new(Body::Td15);
        case.quote.put(584, &[1]);
    }),
    (Reason::TdxModuleUnknown, |case| case.quote.put(1, &[2])),
    (Reason::TdxModuleUnknown, |case| case.tcb("/tdxModuleIdentities", Value::Null)),
    (Reason::TdxModuleSigner, |case| case.quote.put(64, &[1])),
    (Reason::TdxModuleSigner, |case| case.tcb("/tdxModuleIdentities/1/mrsigner", json!("01".repeat(48)))),
    (Reason::TdxModuleSigner, |case| {
        case.quote.put(1, &[0]);
        case.tcb("/tdxModule/mrsigner", json!("01".repeat(48)));
    }),
    (Reason::TdxModuleAttributes, |case| case.quote.put(119, &[0x80])),
    (Reason::TdxTcbStatus, |case| case.pck().components[0] = 3),
    (Reason::TdxTcbStatus, |case| case.pck().pce_svn = 10),
    (Reason::TdxTcbStatus, |case| case.quote.put(2, &[2])),
    (Reason::TdxTcbStatus, |case| case.quote.put(0, &[5])),
    (Reason::TdxTcbStatus, |case| case.quote.put_qe(258, &[3])),
    (Reason::TdxTcbStatus, |case| case.tcb("/tcbLevels/0/tcbStatus", json!("Revoked"))),
    (Reason::TdxTcbStatus, |case| case.tcb("/tcbLevels/0/tcbStatus", json!("uptodate"))),
    (Reason::TdxTcbStatus, |case| case.qe("/tcbLevels/0/tcbStatus", json!("SWHardeningNeeded"))),
    (Reason::TdxTcbStatus, |case| {
        *case = Case::new(Body::Td15);
        case.quote.put(584, &[5]);
    }),
    (Reason::TdxTcbHardening, |case| case.tcb("/tcbLevels/0/tcbStatus", json!("SWHardeningNeeded"))),
    (Reason::EndorsementMalformed, |case| case.files = vec![b"{}".to_vec()]),
    (Reason::EndorsementMalformed, |case| case.files = vec![b"{\"tcbInfo\":{}}".to_vec()]),
    (Reason::EndorsementMalformed, |case| {
        case.files = vec![format!("{{\"tcbInfo\":{},\"signature\":\"00\"}}", tcb_info()).into_bytes()];
    }),
    (Reason::EndorsementTooLarge, |case| {
        let number =
            |number: usize| json!({ "id": "QE", "tcbEvaluationDataNumber": number, "issueDate": "" });
        let file = |at: usize| answer("enclaveIdentity", &number(at), By::Root);
        case.files = (0..STATEMENTS_MAX).map(file).collect();
    }),
    (Reason::IssuerMissing, |case| case.pck_ca = None),
    (Reason::IssuerMissing, |case| case.statement_signer = None),
    (Reason::IssuerMissing, |case| case.statement_signer().subject = "Hearth TCB Signing"),
    (Reason::RootUntrusted, |case| case.roots = Roots::built_in()),
    (Reason::CertificateUnfit, |case| case.pck_ca = Some(pck_ca().issuing(false))),
    (Reason::CertificateUnfit, |case| case.pck().certificate = Pck::default().certificate.issuing(true)),
    (Reason::CertificateUnfit, |case| case.pck().certificate = Pck::default().certificate.with_unknown()),
    (Reason::CertificateUnfit, |case| case.statement_signer = Some(statement_signer().issuing(true))),
    (Reason::CertificateSignature, |case| case.pck().certificate.by = By::Root),
    (Reason::CertificateSignature, |case| case.pck_ca().by = By::PckCa),
    (Reason::CertificateSignature, |case| case.statement_signer().by = By::PckCa),
    (Reason::CertificateNotYetValid, |case| case.pck().certificate.not_before = "250701000001Z"),
    (Reason::CertificateNotYetValid, |case| case.demands.now_s = 0),
    (Reason::CertificateExpired, |case| case.pck_ca().not_after = "250630235959Z"),
    (Reason::CertificateExpired, |case| case.statement_signer().not_after = "250630235959Z"),
    (Reason::CertificateExpired, |case| case.demands.now_s = u64::MAX),
    (Reason::ListSignature, |case| case.lists[0].by = By::PckCa),
    (Reason::ListSignature, |case| case.lists[1].by = By::Root),
    (Reason::CertificateRevoked, |case| case.lists[0].revoked = vec![2]),
    (Reason::CertificateRevoked, |case| case.lists[0].revoked = vec![9, 3]),
    (Reason::CertificateRevoked, |case| case.lists[0].revoked = vec![1]),
    (Reason::CertificateRevoked, |case| case.lists[1].revoked = vec![4]),
    (Reason::CertificateRevoked, |case| {
        case.lists.push(List { next_update: Some("250101000000Z"), ..List::of_pck_ca(&[4]) });
    }),
    (Reason::ListMissing, |case| drop(case.lists.remove(0))),
    (Reason::ListMissing, |case| drop(case.lists.remove(1))),
    (Reason::ListStale, |case| case.lists[0].next_update = Some("250630235959Z")),
    (Reason::ListStale, |case| case.lists[1].this_update = "250701000001Z"),
];

#[test]
fn every_reason_is_reached() {
    let mut reached = BTreeSet::new();
    for (index, (reason, change)) in BROKEN.iter().enumerate() {
        let mut case = Case::new(Body::Td10);
        change(&mut case);
        let refusal = case.judge().expect_err(reason.code());
        assert_eq!(refusal.reason, *reason, "row {index}: {refusal}");
        reached.insert(*reason);
    }
    let ours = |reason: &&Reason| matches!(reason.area(), Area::Tdx | Area::Certificates);
    let missed: Vec<_> = Reason::ALL.iter().filter(ours).filter(|reason| !reached.contains(reason)).collect();
    assert!(missed.is_empty(), "no test reaches {missed:?}");
}

#[test]
fn a_forged_list_takes_nothing_away_from_the_others() {
    for place in [0, 2] {
        let mut case = Case::new(Body::Td15);
        case.lists.insert(place, List { by: By::PckCa, ..List::of_root(&[2]) });
        case.lists.insert(place, List { by: By::Root, ..List::of_pck_ca(&[4]) });
        assert!(case.judge().is_ok(), "one list of each is authentic");
    }
}

#[test]
fn sound_quotes_of_every_kind_are_accepted() {
    for body in Body::ALL {
        let claims = Case::new(body).judge().unwrap_or_else(|refusal| panic!("{body:?}: {refusal}"));
        assert_eq!((&*claims.root, claims.reduced_assurance), ("hearth", false));
        assert!(claims.memory_encrypted && claims.revocation_checked && !claims.debug);
        let said = tdx(&claims);
        assert_eq!(said.quote_version, if body == Body::V4 { 4 } else { 5 });
        assert_eq!((said.seam_version, said.seam_svn, said.certified.pce_svn), (1, 6, 300));
        assert_eq!((&*said.tcb_status, &*said.tcb_date), ("UpToDate", "2024-03-13T00:00:00Z"));
        // The lower one of TCB info and QE identity.
        assert_eq!(said.tcb_evaluation_data_number, 17);
        assert_eq!(said.tee_tcb_svn_now.is_some(), matches!(body, Body::Td15 | Body::Td15Extended));
        assert_eq!(said.td_id.is_some(), body == Body::Td15Extended);
        let certified = &said.certified;
        assert_eq!(
            (certified.dynamic_platform, certified.cached_keys, certified.smt),
            (Some(false), Some(true), Some(true))
        );
    }
}

#[test]
fn a_log_that_leads_to_the_registers_tells_of_the_boot() {
    let events = boot();
    let case = |events: &[Event]| {
        let case = Case::new(Body::Td15);
        Case { quote: case.quote.clone().booted(events), ..case }
    };
    let judge = |case: &Case, log: &[u8]| {
        let evidence = Evidence { quote: case.evidence(), log: log.to_vec() }.encode();
        appraise(&evidence, &case.endorsements().expect("sound"), &case.roots, &case.demands)
    };
    let sound = case(&events);
    let log = log(&events, &[SHA384]);
    let claims = judge(&sound, &log).expect("sound");
    let told = tdx(&claims).boot.clone().expect("there is a log");
    assert_eq!(told.boot_applications.map(|all| all.len()), Some(3));
    // What shares its register with what others choose is not told.
    assert_eq!((told.secure_boot, told.pk, told.db), (None, None, None));
    assert_eq!((told.image_sections, told.phase, told.kernel_command_line), (None, None, None));
    assert_eq!(sound.judge().map(|claims| tdx(&claims).boot.clone()), Ok(None));
    // What fills the table up may be left out.
    let table = [&log[..], &[0xff; 1000]].concat();
    assert_eq!(without_filler(&table), log);
    assert_eq!(judge(&sound, &table), Ok(claims));
    assert_eq!(without_filler(b"no log"), b"no log");

    let refused = |case: &Case, log: &[u8]| judge(case, log).map(drop).map_err(|refusal| refusal.reason);
    for register in 1..=3 {
        let other: Vec<_> = events.iter().cloned().chain([Event::separator(register)]).collect();
        assert_eq!(refused(&case(&other), &log), Err(Reason::EventLogDiffers), "register {register}");
    }
    // The last register is for whoever comes later: the log says nothing of it.
    let released: Vec<_> = events.iter().cloned().chain([Event::separator(4)]).collect();
    assert_eq!(refused(&case(&released), &log), Ok(()));
    assert_eq!(refused(&sound, &keyhearth_machines::tpm::log(&events, &[SHA256])), Err(Reason::EventLogBank));
    assert_eq!(refused(&sound, b""), Err(Reason::EventLogMalformed));
    // The quote is judged first, and whatever is forged in it.
    let mut debug = case(&events);
    debug.attributes(1);
    assert_eq!(refused(&debug, b""), Err(Reason::TdxDebug));
}

/// A document of format 1 that was written once: whoever changes the format keeps reading it.
#[test]
fn the_document_of_the_first_format_is_read() {
    let document = include_bytes!("../vectors/tdx-evidence-1.cbor");
    let read = Evidence::decode(document).expect("it is sound");
    assert_eq!(read.encode(), document);
    let mut rtmrs = [[0; 48]; 4];
    rtmrs.as_flattened_mut().copy_from_slice(&read.quote[48 + 6 + 328..][..4 * 48]);
    let told = eventlog::appraise(&read.log, &Quoted::Rtmrs(&rtmrs)).expect("it leads there");
    assert!(told.boot_applications.is_some());
}

#[test]
fn claims_are_one_flat_record() {
    let claims = Case::new(Body::V4).judge().expect("a sound quote");
    let json = serde_json::to_value(&claims).expect("claims are JSON");
    assert_eq!((&json["kind"], &json["mrtd"]), (&"tdx".into(), &"3e".repeat(48).into()));
    assert_eq!((&json["rtmr3"], &json["report_data"]), (&"a3".repeat(48).into(), &"da".repeat(64).into()));
    assert_eq!(json["attributes"]["sept_ve_disable"], true);
    assert_eq!((&json["certified"]["fmspc"], &json["advisories"]), (&"f5bc00000000".into(), &json!([])));
    for absent in
        ["mr_config_id", "mr_owner", "mr_owner_config", "mr_signer_seam", "td_id", "tee_tcb_svn_now"]
    {
        assert!(json.get(absent).is_none(), "{absent}");
    }
}

#[test]
fn machines_differ_in_what_they_carry() {
    // As it is mostly: the quote has the chain, and everything else comes together.
    let mut case = Case::new(Body::V4);
    case.quote = Quote::new(Body::V4);
    let lists = [&List::of_root(&[]), &List::of_pck_ca(&[])];
    let files = vec![together(&tcb_info(), &qe_identity(), lists)];
    (case.pck, case.pck_ca, case.statement_signer) = (None, None, None);
    (case.tcb_info, case.qe_identity, case.lists, case.files) = (None, None, Vec::new(), files);
    assert_eq!(case.judge().map(drop), Ok(()));
    case.quote.chain.push(0);
    assert_eq!(case.judge().map(drop), Ok(()), "C programs end texts with a zero");
    case.forge = |quote| quote.resize(8000, 0);
    assert_eq!(case.judge().map(drop), Ok(()), "buffers are longer");
    // A single package has neither an id nor settings.
    let mut case = Case::new(Body::Td15);
    (case.pck().instance_id, case.pck().settings) = (None, None);
    let claims = case.judge().expect("a sound quote");
    assert_eq!((&tdx(&claims).certified.platform_instance_id, tdx(&claims).certified.smt), (&None, None));
    // Data that the enclave adds to its key may have any length.
    let mut case = Case::new(Body::Td15);
    case.quote.qe_data = vec![7; 100];
    assert!(case.judge().is_ok());
}

#[test]
fn statements_may_be_signed_by_an_old_and_a_new_key() {
    let mut case = Case::new(Body::Td15);
    let old = Certificate { serial: 7, key: By::AttestationKey, ..statement_signer() };
    case.files = vec![old.der()];
    case.by[1] = By::AttestationKey;
    assert_eq!(case.judge().map(drop), Ok(()));
    case.files = vec![Certificate { not_after: "250101000000Z", ..old }.der()];
    assert_eq!(case.judge().map_err(|refusal| refusal.reason), Err(Reason::TdxQeIdentitySignature));
}

#[test]
fn hardening_is_accepted_if_asked_for() {
    let mut case = Case::new(Body::Td15);
    case.tcb("/tcbLevels/0/tcbStatus", json!("SWHardeningNeeded"));
    case.tcb("/tcbLevels/0/advisoryIDs", json!(["INTEL-SA-00615", "INTEL-SA-00615"]));
    let refusal = case.judge().expect_err("it was not asked for");
    assert_eq!(refusal.detail, "SWHardeningNeeded INTEL-SA-00615");
    case.demands.sw_hardening = true;
    let claims = case.judge().expect("it was asked for");
    assert!(claims.reduced_assurance);
    assert_eq!(tdx(&claims).tcb_status, "SWHardeningNeeded");
    assert_eq!(tdx(&claims).advisories, ["INTEL-SA-00615"]);
}

#[test]
fn the_order_of_levels_does_not_matter() {
    let mut case = Case::new(Body::Td15);
    for levels in ["/tcbLevels", "/tdxModuleIdentities/1/tcbLevels"] {
        let info = case.tcb_info.as_mut().expect("it is there");
        info.pointer_mut(levels).and_then(Value::as_array_mut).expect("levels").reverse();
    }
    assert_eq!(case.judge().map(drop), Ok(()));
}

#[test]
fn of_several_statements_the_newest_counts() {
    let mut case = Case::new(Body::Td15);
    let mut newer = tcb_info();
    put(&mut newer, "/tcbEvaluationDataNumber", json!(19));
    put(&mut newer, "/tcbLevels/0/tcbStatus", json!("OutOfDate"));
    case.files = vec![answer("tcbInfo", &newer, By::StatementSigner)];
    assert_eq!(case.judge().expect_err("it is out of date now").reason, Reason::TdxTcbStatus);
    // Of another platform.
    put(&mut newer, "/fmspc", json!("F5BC00000001"));
    case.files = vec![answer("tcbInfo", &newer, By::StatementSigner)];
    assert_eq!(case.judge().map(drop), Ok(()));
}

#[test]
fn modules_without_a_version_have_no_levels() {
    let mut case = Case::new(Body::V4);
    case.quote.put(0, &[5, 0, 3]);
    assert_eq!(tdx(&case.judge().expect("a sound quote")).seam_version, 0);
    case.quote.put(0, &[4, 0, 3]);
    assert_eq!(case.judge().expect_err("below the first level").reason, Reason::TdxTcbStatus);
}

#[test]
fn extra_roots_have_labels_of_their_own() {
    let root = root().der();
    for label in ["", "built-in", "Upper", &"x".repeat(65)] {
        assert_eq!(Roots::built_in().with_intel(label, &root).map(drop), Err(RootError::Label), "{label}");
    }
    assert_eq!(Roots::built_in().with_intel("lab", b"none").map(drop), Err(RootError::Certificate));
}

/// What the other verifier calculates with.
struct Backend;

impl Config for Backend {
    type X509 = X509CertBackend;
    type SigEncoder = DerSigEncoder;
    type Crypto = Self;
}

impl CryptoProvider for Backend {
    fn sig_algo() -> &'static dyn SignatureVerificationAlgorithm {
        &EcdsaP256Sha256
    }

    fn sha256(data: &[u8]) -> [u8; 32] {
        sha256(&[data])
    }

    fn sha384(data: &[u8]) -> [u8; 48] {
        sha384(data)
    }
}

#[derive(Debug)]
struct EcdsaP256Sha256;

impl SignatureVerificationAlgorithm for EcdsaP256Sha256 {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let key = PublicKey::from_der(Algorithm::EcP256, key).map_err(|_| InvalidSignature)?;
        key.verify(Mechanism::EcdsaSha256, Input::Message(message), signature).map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P256
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_SHA256
    }
}

/// What the other verifier says: whether it accepts, if accepted is what is up to date.
fn judge_elsewhere(evidence: &[u8], collateral: &[u8]) -> Result<dcap_qvl::QuoteClaims, String> {
    let collateral: QuoteCollateralV3 = serde_json::from_slice(collateral).expect("its own format");
    let verifier = QuoteVerifier::<Backend>::new_with_config(root().der());
    let claims = verifier.verify_with_policy(evidence, collateral, NOW_S, &QuotePolicy::claims_only(NOW_S));
    let claims = claims.map_err(|error| format!("{error:#}"))?;
    let now = claims.platform.current_tcb_level.as_ref().map(|level| level.tcb_status);
    let statuses = [claims.tcb.status, claims.qe.tcb_level.tcb_status, now.unwrap_or(TcbStatus::UpToDate)];
    let bad = statuses.into_iter().find(|status| *status != TcbStatus::UpToDate);
    bad.map_or(Ok(claims), |status| Err(status.to_string()))
}

/// Bits of attributes that the other verifier knows no reason to refuse, and that have no name here.
const ONLY_REFUSED_HERE: u64 = 0b1_1111 << 18;

proptest! {
    #[test]
    fn another_verifier_judges_alike(
        body in proptest::sample::select(&Body::ALL), first in 1_u8..6, pce_svn in 3_u16..14, qe_svn in 0_u8..6,
        svns in [0_u8..8, 0..5, 0..5], svns_now in [0_u8..8, 0..5, 0..5], attribute in 0_u32..64,
        order in any::<bool>(), digest in any::<[u8; 48]>(), service in proptest::option::weighted(0.1, 600_usize..648),
        sound in [(); 5].map(|()| proptest::bool::weighted(0.7)),
    ) {
        let mut quote = Quote::new(body);
        let mut pck = Pck::default();
        let mut info = tcb_info();
        // Mostly each part is what it should be, so that all of it is now and then.
        let [sound_pck, sound_tdx, sound_now, sound_attribute, sound_qe] = sound;
        if !sound_pck {
            (pck.components[0], pck.pce_svn) = (first, pce_svn);
        }
        if !sound_tdx {
            quote.put(0, &svns);
        }
        if !sound_now && quote.report.len() > 600 {
            quote.put(584, &svns_now);
        }
        let attributes = if sound_attribute { 0 } else { 1 << attribute };
        quote.put(120, &(attributes ^ 1_u64 << 28).to_le_bytes());
        if !sound_qe {
            quote.put_qe(258, &[qe_svn]);
        }
        if let Some(service) = service.filter(|service| *service < quote.report.len()) {
            quote.put(service, &[1]);
        }
        quote.put(376, &digest);
        if order {
            info["tcbLevels"].as_array_mut().expect("levels").reverse();
        }
        quote.chain = pem(&[pck.der(), pck_ca().der(), root().der()]).into_bytes();
        let collateral = together(&info, &qe_identity(), [&List::of_root(&[9]), &List::of_pck_ca(&[9])]);
        let evidence = quote.bytes();
        let mut endorsements = Endorsements::default();
        endorsements.add(&collateral).expect("sound collateral");
        let roots = Roots::built_in().with_intel("hearth", &root().der()).expect("a root");
        let ours = appraise(&evidence, &endorsements, &roots, &Demands::at(NOW_S));
        let theirs = judge_elsewhere(&evidence, &collateral);
        if attributes & ONLY_REFUSED_HERE != 0 {
            prop_assert!(ours.is_err());
            return Ok(());
        }
        prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "ours: {:?}, theirs: {:?}", &ours, &theirs);
        let (Ok(ours), Ok(theirs)) = (ours, theirs) else { return Ok(()) };
        let (said, report) = (tdx(&ours), theirs.report.as_td10().expect("a TD report"));
        for (bytes, other) in [
            (&said.mrtd, &report.mr_td[..]),
            (&said.mr_seam, &report.mr_seam),
            (&said.rtmr0, &report.rt_mr0),
            (&said.rtmr1, &report.rt_mr1),
            (&said.rtmr2, &report.rt_mr2),
            (&said.rtmr3, &report.rt_mr3),
            (&said.xfam, &report.xfam),
            (&said.tee_tcb_svn, &report.tee_tcb_svn),
            (&ours.report_data, &report.report_data),
            (&said.certified.ppid, &theirs.platform.pck.ppid),
            (&said.certified.fmspc, &theirs.platform.pck.fmspc),
            (&said.certified.cpu_svn, &theirs.platform.pck.cpu_svn),
        ] {
            prop_assert_eq!(&bytes.0, other);
        }
        prop_assert_eq!(said.certified.pce_svn, theirs.platform.pck.pce_svn);
        prop_assert_eq!(said.tcb_evaluation_data_number, theirs.tcb.eval_data_number);
        prop_assert_eq!(&said.tcb_status, &theirs.tcb.status.to_string());
        prop_assert_eq!(&said.tcb_date, &theirs.platform.tcb_level.tcb_date);
        prop_assert_eq!(&said.advisories, &theirs.tcb.advisory_ids);
    }

    #[test]
    fn any_bytes_are_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..1300), version in 3_u8..7, key in 1_u8..4,
    ) {
        let none = Endorsements::default();
        let demands = Demands::at(NOW_S);
        let begun = [&[version, 0, key, 0, 0x81, 0, 0, 0][..], &bytes].concat();
        prop_assert!(appraise(&begun, &none, &Roots::built_in(), &demands).is_err());
        let mut endorsements = Endorsements::default();
        let json = [&b"{"[..], &bytes].concat();
        prop_assert!(endorsements.add(&json).is_err());
    }

    #[test]
    fn one_changed_bit_of_a_quote_is_refused(place in any::<proptest::sample::Index>(), bit in 0_u8..8) {
        let case = Case::new(Body::Td15);
        let mut evidence = case.evidence();
        // The data that says how to find a certificate is not signed, and not read.
        *place.get_mut(&mut evidence) ^= 1 << bit;
        let endorsements = case.endorsements().expect("they are sound");
        let demands = Demands { report_data: None, ..case.demands };
        let kind = case.quote.bytes().len() - 6;
        let changed = place.index(kind + 6);
        let judged = appraise(&evidence, &endorsements, &case.roots, &demands);
        prop_assert!(judged.is_err() || (kind..kind + 2).contains(&changed));
    }

    #[test]
    fn one_changed_bit_of_a_statement_is_refused(place in any::<proptest::sample::Index>(), bit in 0_u8..8) {
        let mut case = Case::new(Body::Td15);
        let mut statement = answer("tcbInfo", &tcb_info(), By::StatementSigner);
        let text = statement.len() - r#"","signature":""}"#.len() - 128;
        *place.get_mut(&mut statement[..text]) ^= 1 << bit;
        (case.tcb_info, case.files) = (None, vec![statement]);
        prop_assert!(case.judge().is_err());
    }
}
