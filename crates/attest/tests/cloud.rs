//! Identity documents of made clouds: what is sound is accepted as what it is, and every reason to refuse is reached.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyhearth_attest::cloud::{
    AGE_S_MAX, CLOUD_CERTIFICATES_MAX, CloudClaims, Clouds, DOCUMENT_BYTES_MAX, Provider, SKEW_S, nonce,
    verify,
};
use keyhearth_attest::{Area, Demands, Reason, Refusal};
use keyhearth_machines::NOW_S;
use keyhearth_machines::clouds::{
    Certificate, Message, Signer, aws_document, azure_document, gcp_token, jwt,
};
use proptest::prelude::*;
use serde_json::{Value, json};

/// What the request demands.
const REPORT_DATA: [u8; 64] = [0xda; 64];

fn demands() -> Demands {
    Demands { report_data: Some(REPORT_DATA), ..Demands::at(NOW_S) }
}

/// A document, what is believed, and what is demanded; each test makes one thing otherwise.
struct Case {
    document: Vec<u8>,
    clouds: Clouds,
    demands: Demands,
}

impl Case {
    fn of(document: Vec<u8>, provider: Provider, file: &str, certificate: &Certificate) -> Self {
        let mut clouds = Clouds::default();
        clouds.add(provider, file, &certificate.der()).expect("a certificate");
        Self { document, clouds, demands: demands() }
    }

    fn aws(change: impl FnOnce(&mut Message)) -> Self {
        let mut message = Message::aws(&aws_document());
        change(&mut message);
        Self::of(message.as_aws(), Provider::Aws, "hearth-west-1.pem", &Certificate::of_region())
    }

    fn azure(change: impl FnOnce(&mut Message)) -> Self {
        let mut message = Message::azure(&azure_document(&REPORT_DATA));
        change(&mut message);
        Self::of(message.as_azure(), Provider::Azure, "root.pem", &Certificate::ca())
    }

    /// The same with these certificates in the message, the signer's first.
    fn azure_with(certificates: &[Certificate]) -> Self {
        let certificates = certificates.iter().map(Certificate::der).collect();
        Self::azure(|message| message.certificates = certificates)
    }

    /// A document of Azure's with one member otherwise.
    fn azure_saying(member: &str, value: Value) -> Self {
        let mut document = azure_document(&REPORT_DATA);
        document[member] = value;
        Self::azure(|message| message.content = document.to_string().into_bytes())
    }

    fn gcp(change: impl FnOnce(&mut Value)) -> Self {
        let mut token = gcp_token(&REPORT_DATA);
        change(&mut token);
        Self::of(jwt("RS256", &token, Signer::Region), Provider::Gcp, "certs", &Certificate::of_region())
    }

    fn saying(mut self, document: &[u8]) -> Self {
        self.document = document.to_vec();
        self
    }

    fn at(mut self, now_s: u64) -> Self {
        self.demands.now_s = now_s;
        self
    }

    fn judge(&self) -> Result<CloudClaims, Refusal> {
        verify(&self.document, &self.clouds, &self.demands)
    }

    #[track_caller]
    fn accepted(&self) -> CloudClaims {
        self.judge().unwrap_or_else(|refusal| panic!("{refusal}"))
    }

    #[track_caller]
    fn refused(&self, reason: Reason) {
        assert_eq!(self.judge().map_err(|refusal| refusal.reason), Err(reason));
    }
}

#[test]
fn each_cloud_says_where_its_instance_is() {
    let claims = |case: Case| serde_json::to_value(case.accepted()).expect("claims are JSON");
    assert_eq!(
        claims(Case::aws(|_| ())),
        json!({
            "provider": "aws", "fresh": false, "account": "123456789012", "region": "hearth-west-1",
            "zone": "hearth-west-1a", "instance": "i-078517ca8a70a1dde", "instance_type": "c6a.large",
            "image": "ami-0fa9e1f64142cde17",
        })
    );
    assert_eq!(
        claims(Case::gcp(|_| ())),
        json!({
            "provider": "gcp", "fresh": true, "account": "hearth-project", "account_number": "739419398126",
            "region": "hearth-west1", "zone": "hearth-west1-a", "instance": "152986662232938449",
            "instance_name": "web-1",
        })
    );
    assert_eq!(
        claims(Case::azure(|_| ())),
        json!({
            "provider": "azure", "fresh": true, "account": "0afbfffa-5df9-4a3b-987e-fe7577624272",
            "region": "hearth-1", "instance": "990878d4-068a-4ac4-9ee9-1231d2218ef2", "image": "12-gen2",
        })
    );
}

/// What is not demanded is not checked, and then nothing is fresh.
#[test]
fn without_report_data_nothing_is_fresh() {
    for mut case in [Case::gcp(|token| token["aud"] = json!("x")), Case::azure_saying("nonce", json!("1"))] {
        case.refused(Reason::CloudNonceDiffers);
        case.demands.report_data = None;
        assert!(!case.accepted().fresh);
    }
}

/// Spellings of the same message: out of a stream or not, with attributes or without.
#[test]
fn a_message_is_read_in_each_of_its_spellings() {
    for (attributes, streamed) in [(true, true), (true, false), (false, true), (false, false)] {
        Case::aws(|message| (message.attributes, message.streamed) = (attributes, streamed)).accepted();
        Case::azure(|message| (message.attributes, message.streamed) = (attributes, streamed)).accepted();
    }
    Case::aws(|message| message.algorithm = 1).accepted();
}

#[test]
fn the_nonce_has_ten_digits() {
    assert_eq!(nonce(&[0; 64]).len(), 10);
    assert!(nonce(&REPORT_DATA).bytes().all(|c| c.is_ascii_digit()));
    assert_ne!(nonce(&[0; 64]), nonce(&REPORT_DATA));
}

#[test]
fn every_cloud_of_azure_has_its_own_certificates() {
    for (host, provider) in [("us", Provider::AzureUs), ("cn", Provider::AzureCn)] {
        let host = format!("west.metadata.azure.{host}");
        let signer = Certificate::azure().of_hosts(&[&host]);
        let mut case = Case::azure_with(&[signer, Certificate::intermediate()]);
        case.refused(Reason::CloudUntrusted);
        case.clouds.add(provider, "root", &Certificate::ca().der()).expect("a certificate");
        let claims = case.accepted();
        assert_eq!((claims.provider, claims.region.as_deref()), (provider, Some("west")));
    }
}

#[test]
fn a_certificate_for_many_regions_says_none() {
    for hosts in [
        &["metadata.azure.com"][..],
        &["*.metadata.azure.com"],
        &["a.metadata.azure.com", "b.metadata.azure.com"],
    ] {
        let signer = Certificate::azure().of_hosts(hosts);
        assert_eq!(
            Case::azure_with(&[signer, Certificate::intermediate()]).accepted().region,
            None,
            "{hosts:?}"
        );
    }
}

/// The issuer of the signer may be believed itself, and needs no root then.
#[test]
fn a_path_ends_at_whatever_is_believed() {
    let mut case = Case::azure_with(&[Certificate::azure()]);
    case.refused(Reason::RootUntrusted);
    case.clouds.add(Provider::Azure, "issuer", &Certificate::intermediate().der()).expect("a certificate");
    case.accepted();
}

/// Tags of names in certificates.
const HOST: u8 = 0x82;
const DIRECTORY: u8 = 0xa4;
const ADDRESS: u8 = 0x87;
/// Usages of keys.
const SIGNS: u8 = 0x80;
const ENCRYPTS: u8 = 0x20;
const ISSUES: u8 = 0x04;
/// Purposes.
const SERVERS: u8 = 1;
const CLIENTS: u8 = 2;
const MAIL: u8 = 4;

#[test]
fn every_certificate_of_a_path_is_for_servers_if_it_says_for_what() {
    let judged = |signer: Certificate, issuer: Certificate, root: Certificate| {
        let mut case = Case::azure_with(&[signer, issuer]);
        case.clouds = Clouds::default();
        case.clouds.add(Provider::Azure, "root", &root.der()).expect("a certificate");
        case.judge().map(drop).map_err(|refusal| refusal.reason)
    };
    let (signer, issuer, root) = (Certificate::azure, Certificate::intermediate, Certificate::ca);
    let server = || signer().for_use(SIGNS | ENCRYPTS, &[CLIENTS, SERVERS]);
    let for_servers = |one: Certificate| one.for_use(ISSUES, &[SERVERS]);
    assert_eq!(judged(server(), for_servers(issuer()), for_servers(root())), Ok(()));
    let unfit = Err(Reason::CertificateUnfit);
    assert_eq!(judged(signer().for_use(SIGNS, &[MAIL]), issuer(), root()), unfit);
    assert_eq!(judged(signer().for_use(SIGNS, &[]), issuer(), root()), unfit);
    assert_eq!(judged(signer().for_use(ENCRYPTS, &[SERVERS]), issuer(), root()), unfit);
    assert_eq!(judged(server(), issuer().for_use(ISSUES, &[MAIL]), root()), unfit);
    assert_eq!(judged(server(), issuer().for_use(SIGNS, &[SERVERS]), root()), unfit);
    assert_eq!(judged(server(), issuer(), root().for_use(ISSUES, &[CLIENTS, MAIL])), unfit);
}

#[test]
fn an_issuer_vouches_for_no_host_outside_of_its_constraints() {
    let signer = Certificate::azure;
    // Of the issuer and of the root it is the same.
    let judged = |signer: Certificate, permitted: &[(u8, &[u8])], excluded: &[(u8, &[u8])]| {
        let issuer = Certificate::intermediate().constrained(permitted, excluded);
        let mut below_issuer = Case::azure_with(&[signer.clone(), issuer]);
        let mut below_root = Case::azure_with(&[signer, Certificate::intermediate()]);
        below_root.clouds = Clouds::default();
        let root = Certificate::ca().constrained(permitted, excluded);
        below_root.clouds.add(Provider::Azure, "root", &root.der()).expect("a certificate");
        let [of_issuer, of_root] = [&mut below_issuer, &mut below_root]
            .map(|case| case.judge().map(drop).map_err(|refusal| refusal.reason));
        assert_eq!(of_issuer, of_root);
        of_issuer
    };
    let host = |name: &'static str| (HOST, name.as_bytes());
    assert_eq!(judged(signer(), &[host("azure.com")], &[host("example.com"), (ADDRESS, &[0; 8])]), Ok(()));
    let unfit = Err(Reason::CertificateUnfit);
    assert_eq!(judged(signer(), &[host("example.com")], &[]), unfit);
    assert_eq!(judged(signer(), &[host("hearth-1.metadata.azure.com")], &[]), unfit, "one name of two");
    assert_eq!(judged(signer(), &[], &[host("metadata.azure.com")]), unfit);
    assert_eq!(
        judged(signer().of_hosts(&["*.metadata.azure.com"]), &[], &[host("a.metadata.azure.com")]),
        unfit
    );
    // What cannot be judged is refused.
    assert_eq!(judged(signer(), &[host("azure.com"), (DIRECTORY, &[0x30, 0])], &[]), unfit);
    let with_address = signer().of_names(&[host("metadata.azure.com"), (ADDRESS, &[127, 0, 0, 1])]);
    assert_eq!(judged(with_address.clone(), &[host("azure.com")], &[]), unfit);
    Case::azure_with(&[with_address, Certificate::intermediate()]).accepted();
}

/// A CA that was certified twice, or a key: one way that leads somewhere is enough, wherever the others lead.
#[test]
fn every_way_to_what_is_believed_is_tried() {
    let (signer, issuer) = (Certificate::azure, Certificate::intermediate);
    let over = ["200101000000Z", "210101000000Z"];
    let by_another = || Certificate { issuer: "Another CA", ..issuer() };
    let [old_signer, old_issuer] = [signer(), issuer()].map(|one| Certificate { dates: over, ..one });
    let of_another_host = signer().of_hosts(&["example.com"]);
    let for_leaves_alone = || Certificate { issuer: "Hearth Root CA", ..issuer() }.for_leaves_alone();
    // Below an issuer that bears the same name, it stands too far above.
    let of_itself = Certificate { issuer: "Hearth Issuing CA", by: Signer::Intermediate, ..issuer() };
    for carried in [
        &[signer(), by_another(), issuer()][..],
        &[signer(), old_issuer, issuer()],
        &[signer(), of_itself, by_another(), for_leaves_alone()],
        &[old_signer, signer(), issuer()],
        &[of_another_host, issuer(), signer()],
    ] {
        Case::azure_with(carried).accepted();
        let turned: Vec<_> = carried.iter().rev().cloned().collect();
        Case::azure_with(&turned).accepted();
    }
    Case::azure_with(&[signer(), by_another()]).refused(Reason::RootUntrusted);
}

/// Seven issuers that each lead to all seven would be four hundred ways.
#[test]
fn ways_have_an_end() {
    let days = [
        "240101000000Z",
        "240102000000Z",
        "240103000000Z",
        "240104000000Z",
        "240105000000Z",
        "240106000000Z",
    ];
    let of_itself = |day| Certificate {
        issuer: "Hearth Issuing CA",
        by: Signer::Intermediate,
        dates: [day, "350101000000Z"],
        ..Certificate::intermediate()
    };
    let mut carried = vec![Certificate::azure()];
    carried.extend(days.map(of_itself));
    let refusal = Case::azure_with(&carried).judge().expect_err("it leads nowhere");
    assert_eq!(refusal.reason, Reason::CertificateUnfit, "{refusal}");
    assert!(refusal.detail.contains("too many"), "{refusal}");
}

#[test]
fn certificates_come_in_every_form() {
    let der = Certificate::of_region().der();
    let pem = keyhearth_machines::clouds::pem(&der);
    let json = json!({ "1": pem, "2": pem }).to_string();
    for (file, bytes) in [("a", &der[..]), ("a.pem", pem.as_bytes()), ("a.json", json.as_bytes())] {
        let mut case = Case::gcp(|_| ());
        case.clouds = Clouds::default();
        case.clouds.add(Provider::Gcp, file, bytes).expect("a certificate");
        case.accepted();
    }
    let add =
        |bytes: &[u8]| Clouds::default().add(Provider::Gcp, "a", bytes).map_err(|refusal| refusal.reason);
    for bad in ["", "none", "{}x", r#"{"a":1}"#, r#"{"a":"b"}"#, "0\u{1}"] {
        assert_eq!(add(bad.as_bytes()), Err(Reason::EndorsementMalformed), "{bad}");
    }
    let mut clouds = Clouds::default();
    let mut add = |file: usize| {
        let added = clouds.add(Provider::Gcp, &file.to_string(), pem.as_bytes());
        added.map_err(|refusal| refusal.reason)
    };
    for file in 0..CLOUD_CERTIFICATES_MAX {
        assert_eq!(add(file), Ok(()));
    }
    assert_eq!(add(0), Ok(()), "the same again is no more");
    assert_eq!(add(CLOUD_CERTIFICATES_MAX), Err(Reason::EndorsementTooLarge));
}

/// What is replaced is over when its successor is, and regions of AWS have nothing to do with each other.
#[test]
fn the_certificate_that_ends_last_counts() {
    let until =
        |year: &'static str, of: Certificate| Certificate { dates: ["200101000000Z", year], ..of }.der();
    let mut clouds = Clouds::default();
    let mut add = |provider, file, der: Vec<u8>| clouds.add(provider, file, &der).expect("a certificate");
    add(Provider::Aws, "east.pem", until("300101000000Z", Certificate::of_region()));
    add(Provider::Aws, "west.1.pem", until("220101000000Z", Certificate::of_region()));
    add(Provider::Aws, "west.2.pem", until("210101000000Z", Certificate::of_region()));
    add(Provider::Azure, "a.pem", until("210101000000Z", Certificate::intermediate()));
    add(Provider::Azure, "b.pem", until("230101000000Z", Certificate::intermediate()));
    add(Provider::Azure, "c.pem", until("240101000000Z", Certificate::ca()));
    let (year, begin) = (365 * 86_400, 1_577_836_800);
    let latest = clouds.latest();
    let found: Vec<_> = latest
        .iter()
        .map(|one| (one.provider.name(), &*one.name, &*one.holder, (one.ends_s - begin) / year))
        .collect();
    assert_eq!(
        found,
        [
            ("aws", "east", "Hearth Web Services LLC", 10),
            ("aws", "west", "Hearth Web Services LLC", 2),
            ("azure", "b", "Hearth Issuing CA", 3),
            ("azure", "c", "Hearth Root CA", 4),
        ]
    );
    assert!(latest.iter().all(|one| one.begins_s == begin));
}

/// The key of one region vouches for nothing in another.
#[test]
fn another_region_is_not_believed() {
    let mut document = aws_document();
    document["region"] = json!("hearth-east-1");
    let elsewhere = |message: &mut Message| message.content = document.to_string().into_bytes();
    let mut case = Case::aws(elsewhere);
    case.refused(Reason::CloudUntrusted);
    case.clouds.add(Provider::Aws, "hearth-east-1.pem", &Certificate::ca().der()).expect("a certificate");
    case.refused(Reason::CloudSignature);
}

fn refusals() -> Vec<(Reason, Case)> {
    let aws = |change: fn(&mut Message)| Case::aws(change);
    let of_hosts = |hosts: &[&str]| {
        Case::azure_with(&[Certificate::azure().of_hosts(hosts), Certificate::intermediate()])
    };
    let path = |between: Certificate| Case::azure_with(&[Certificate::azure(), between]);
    let between = Certificate::intermediate;
    let time = |created: &str| {
        let expires = "07/01/25 05:59:58 -0000";
        Case::azure_saying("timeStamp", json!({ "createdOn": created, "expiresOn": expires }))
    };
    let old = Case::of(
        jwt("RS256", &gcp_token(&REPORT_DATA), Signer::Region),
        Provider::Gcp,
        "certs",
        &Certificate { dates: ["200101000000Z", "210101000000Z"], ..Certificate::of_region() },
    );
    vec![
        (Reason::CloudDocumentTooLarge, aws(|_| ()).saying(&vec![b'A'; DOCUMENT_BYTES_MAX + 1])),
        (Reason::CloudDocumentMalformed, aws(|_| ()).saying(b"")),
        (Reason::CloudDocumentMalformed, aws(|_| ()).saying(b"*")),
        (Reason::CloudDocumentMalformed, aws(|_| ()).saying(b"MAA=")),
        (Reason::CloudDocumentMalformed, aws(|_| ()).saying(b"{}")),
        (Reason::CloudDocumentMalformed, aws(|_| ()).saying(br#"{"encoding":"pkcs1","signature":""}"#)),
        (Reason::CloudDocumentMalformed, aws(|_| ()).saying(b"a.b.c")),
        (Reason::CloudDocumentMalformed, aws(|_| ()).saying(b"a.")),
        (Reason::CloudDocumentMalformed, aws(|message| message.content = b"{}".to_vec())),
        (Reason::CloudDocumentMalformed, aws(|message| message.certificates = vec![vec![5, 0]; 9])),
        (Reason::CloudDocumentMalformed, Case::azure(|message| message.content = b"{}".to_vec())),
        (Reason::CloudDocumentMalformed, time("2025-07-01")),
        (Reason::CloudDocumentMalformed, Case::azure_saying("vmId", json!(""))),
        (Reason::CloudDocumentMalformed, Case::azure_saying("vmId", json!("a".repeat(129)))),
        (Reason::CloudDocumentMalformed, Case::azure_saying("vmId", json!("a\nb"))),
        (Reason::CloudDocumentMalformed, Case::gcp(|token| token["iat"] = json!("now"))),
        (
            Reason::CloudDocumentMalformed,
            Case::gcp(|token| token["google"]["compute_engine"]["zone"] = json!("here")),
        ),
        (Reason::CloudSignatureAlgorithm, aws(|message| message.algorithm = 5)),
        (
            Reason::CloudSignatureAlgorithm,
            Case::gcp(|_| ()).saying(&jwt("none", &gcp_token(&REPORT_DATA), Signer::Region)),
        ),
        (Reason::CloudUntrusted, Case { clouds: Clouds::default(), ..aws(|_| ()) }),
        (Reason::CloudUntrusted, Case { clouds: Clouds::default(), ..Case::gcp(|_| ()) }),
        (Reason::CloudUntrusted, Case { clouds: Clouds::default(), ..Case::azure(|_| ()) }),
        (Reason::CloudSignature, aws(|message| message.by = Signer::Ca)),
        (Reason::CloudSignature, aws(|message| message.digest = Some([1; 32]))),
        (Reason::CloudSignature, Case::azure(|message| message.by = Signer::Ca)),
        (Reason::CloudSignature, Case::azure_with(&[])),
        (
            Reason::CloudSignature,
            Case::gcp(|_| ()).saying(&jwt("RS256", &gcp_token(&REPORT_DATA), Signer::Ca)),
        ),
        (Reason::CloudSigner, of_hosts(&[])),
        (Reason::CloudSigner, of_hosts(&["metadata.azure.com.example"])),
        (Reason::CloudSigner, of_hosts(&["xmetadata.azure.com"])),
        (Reason::CloudSigner, of_hosts(&["metadata.azure.com", "west.metadata.azure.us"])),
        (Reason::CloudIssuer, Case::gcp(|token| token["iss"] = json!("https://accounts.example"))),
        (Reason::CloudInstanceMissing, Case::gcp(|token| token["google"] = json!({}))),
        (Reason::CloudInstanceMissing, Case::gcp(|token| token["google"] = Value::Null)),
        (Reason::CloudNonceDiffers, Case::gcp(|token| token["aud"] = json!("keyhearth:"))),
        (Reason::CloudNonceDiffers, Case::azure_saying("nonce", json!("0000000000"))),
        (Reason::CloudNotYetValid, Case::gcp(|token| token["iat"] = json!(NOW_S + SKEW_S + 1))),
        (Reason::CloudNotYetValid, time("07/01/25 00:01:01 -0000")),
        (Reason::CloudExpired, Case::gcp(|token| token["exp"] = json!(NOW_S - SKEW_S - 1))),
        (Reason::CloudExpired, Case::azure(|_| ()).at(NOW_S + AGE_S_MAX)),
        (Reason::RootUntrusted, path(Certificate { issuer: "Another CA", ..between() })),
        (Reason::CertificateSignature, path(Certificate { by: Signer::Region, ..between() })),
        (Reason::CertificateUnfit, path(between().with_unknown())),
        (Reason::CertificateUnfit, path(between().of_hosts(&[]))),
        (
            Reason::CertificateExpired,
            path(Certificate { dates: ["200101000000Z", "210101000000Z"], ..between() }),
        ),
        (Reason::CertificateExpired, old),
        (
            Reason::CertificateNotYetValid,
            Case::azure_with(&[
                Certificate { dates: ["280101000000Z", "290101000000Z"], ..Certificate::azure() },
                between(),
            ]),
        ),
        (
            Reason::CertificateUnfit,
            Case::of(
                Message::azure(&azure_document(&REPORT_DATA)).as_azure(),
                Provider::Azure,
                "root",
                &Certificate::ca().for_leaves_alone(),
            ),
        ),
    ]
}

#[test]
fn every_reason_is_reached() {
    let cases = refusals();
    for (index, (reason, case)) in cases.iter().enumerate() {
        let judged = case.judge().map_err(|refusal| refusal.reason);
        assert_eq!(judged, Err(*reason), "case {index}");
    }
    let reached: BTreeSet<_> = cases.iter().map(|(reason, _)| *reason).collect();
    let missing =
        Reason::ALL.iter().filter(|reason| reason.area() == Area::Cloud && !reached.contains(reason));
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&Reason>::new());
}

/// Both ends of the times count.
#[test]
fn clocks_may_be_apart_by_the_skew() {
    Case::gcp(|token| token["iat"] = json!(NOW_S + SKEW_S)).accepted();
    Case::gcp(|token| token["exp"] = json!(NOW_S - SKEW_S)).accepted();
    // It was made two seconds before.
    Case::azure(|_| ()).at(NOW_S + AGE_S_MAX - 2).accepted();
    Case::azure(|_| ()).at(NOW_S - SKEW_S - 2).accepted();
    Case::azure(|_| ()).at(NOW_S - SKEW_S - 3).refused(Reason::CloudNotYetValid);
}

/// Without a request that it is made for, a document of Azure's holds as long as it says.
#[test]
fn a_document_that_is_only_looked_at_ends_when_it_says() {
    let mut case = Case::azure(|_| ()).at(NOW_S + 5 * 3_600);
    case.refused(Reason::CloudExpired);
    case.demands.report_data = None;
    case.accepted();
    case.at(NOW_S + 7 * 3_600).refused(Reason::CloudExpired);
}

/// Runs openssl in a folder.
fn openssl(folder: &Path, arguments: &str) {
    let done = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output();
    let done = done.expect("openssl is installed");
    assert!(done.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Messages that another implementation made, in the ways that it has: out of a stream, with attributes and without.
#[test]
fn what_openssl_signs_is_believed_and_nothing_else() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path();
    let read = |name: &str| std::fs::read(path.join(name)).expect("openssl wrote it");
    let new = "req -newkey rsa:2048 -noenc -subj";
    let narrow = "-addext extendedKeyUsage=serverAuth \
                  -addext nameConstraints=critical,permitted;DNS:azure.com,permitted;IP:10.0.0.0/255.0.0.0,excluded;DNS:example.com";
    openssl(path, &format!("{new} /CN=root -x509 {narrow} -keyout root.key -out root.pem -days 2"));
    openssl(path, &format!("{new} /CN=metadata.azure.com -keyout leaf.key -out leaf.csr"));
    let names = "subjectAltName=DNS:west.metadata.azure.com\nextendedKeyUsage=clientAuth,serverAuth\n\
                 keyUsage=critical,digitalSignature,keyEncipherment";
    std::fs::write(path.join("names"), names).expect("a file");
    openssl(
        path,
        "x509 -req -in leaf.csr -CA root.pem -CAkey root.key -extfile names -days 1 -sha384 -out leaf.pem",
    );
    let now_s = std::time::UNIX_EPOCH.elapsed().expect("it is later").as_secs();
    let mut clouds = Clouds::default();
    clouds.add(Provider::Aws, "hearth-west-1.pem", &read("leaf.pem")).expect("a certificate");
    clouds.add(Provider::Azure, "root.pem", &read("root.pem")).expect("a certificate");

    let mut document = azure_document(&REPORT_DATA);
    std::fs::write(path.join("aws"), aws_document().to_string()).expect("a file");
    let time = |shift_s: i64| {
        let at = format!("@{}", i64::try_from(now_s).expect("it is soon") + shift_s);
        let date = Command::new("date").args(["-u", "-d", &at, "+%m/%d/%y %H:%M:%S -0000"]).output();
        String::from_utf8(date.expect("date is installed").stdout).expect("text").trim().to_owned()
    };
    document["timeStamp"] = json!({ "createdOn": time(-1), "expiresOn": time(3_600) });
    std::fs::write(path.join("azure"), document.to_string()).expect("a file");

    let demands = Demands { now_s, ..demands() };
    for how in ["", " -noattr", " -stream", " -stream -noattr", " -keyid"] {
        let sign = "cms -sign -binary -nodetach -md sha256 -outform DER -signer leaf.pem -inkey leaf.key -out signed";
        openssl(path, &format!("{sign} -in aws -nocerts{how}"));
        let aws = STANDARD.encode(read("signed"));
        let claims =
            verify(aws.as_bytes(), &clouds, &demands).unwrap_or_else(|error| panic!("{how}: {error}"));
        assert_eq!(claims.account, "123456789012");

        openssl(path, &format!("{sign} -in azure{how}"));
        let answer = |message: &[u8]| json!({ "encoding": "pkcs7", "signature": STANDARD.encode(message) });
        let mut message = read("signed");
        let azure = answer(&message).to_string();
        let claims =
            verify(azure.as_bytes(), &clouds, &demands).unwrap_or_else(|error| panic!("{how}: {error}"));
        assert_eq!((claims.region.as_deref(), claims.fresh), (Some("west"), true));

        // The first letter of what is signed.
        let place = message.windows(8).position(|text| text == b"\"nonce\":").expect("it is in there");
        message[place + 9] ^= 1;
        assert!(verify(answer(&message).to_string().as_bytes(), &clouds, &demands).is_err(), "{how}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(verify(&bytes, &Clouds::default(), &demands()).is_err());
    }

    #[test]
    fn a_changed_document_is_refused(place in any::<prop::sample::Index>(), bit in 0..8u8) {
        let token = jwt("RS256", &gcp_token(&REPORT_DATA), Signer::Region);
        let last = token.iter().rposition(|c| *c == b'.').unwrap_or_default();
        let mut document = token;
        document[place.index(last)] ^= 1 << bit;
        let case = Case::gcp(|_| ()).saying(&document);
        prop_assert!(case.judge().is_err());
    }
}
