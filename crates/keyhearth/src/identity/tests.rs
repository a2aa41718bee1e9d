use std::sync::Arc;
use std::time::Duration;

use keyhearth_core::id::{DeploymentId, Name, PrincipalId, TenantId};
use keyhearth_core::time::DAY_MS;
use proptest::prelude::*;
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateSigningRequestDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::GeneralName;

use super::*;

const DEPLOYMENT: DeploymentId = DeploymentId([7; 16]);
const TENANT: TenantId = TenantId([8; 16]);
const PRINCIPAL: PrincipalId = PrincipalId([9; 16]);
const NOW: Time = Time::from_unix_ms(1_800_000_000_000);

fn ca() -> Ca {
    Ca::create(&key::generate(Algorithm::EcP256).unwrap(), DEPLOYMENT, NOW).unwrap()
}

fn sign(ca: &Ca, csr: &str, days: u32, now: Time) -> Result<Issued, Error> {
    let name: Name = "web-1".parse().unwrap();
    ca.sign_client(csr, Subject { tenant: TENANT, principal: PRINCIPAL, name: &name }, days, now)
}

fn csr() -> String {
    generate_key_and_csr("whoever").unwrap().1
}

fn roots(ca: &Ca) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.certificate().clone()).unwrap();
    Arc::new(roots)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn unix(time: Time) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_millis(time.unix_ms()))
}

fn invalid_csr(result: Result<Issued, Error>) -> &'static str {
    match result {
        Err(Error::Invalid { field: "csr", rule }) => rule,
        other => panic!("{other:?}"),
    }
}

#[test]
fn tls_accepts_a_client_of_this_ca_and_no_other() {
    let ca = ca();
    let issued = sign(&ca, &csr(), 30, NOW).unwrap();
    let der = certificate_der(&issued.pem).unwrap();
    let accepts = |ca: &Ca, now| {
        let verifier = WebPkiClientVerifier::builder_with_provider(roots(ca), provider()).build().unwrap();
        verifier.verify_client_cert(&der, &[], unix(now)).is_ok()
    };
    assert!(accepts(&ca, NOW));
    assert!(!accepts(&self::ca(), NOW) && !accepts(&ca, NOW.plus_days(31)));

    let presented = client_certificate(&der, Now::exactly(NOW)).unwrap();
    assert_eq!(presented, Presented { fingerprint: issued.fingerprint, not_after: NOW.plus_days(30) });
    assert_eq!(issued.fingerprint, fingerprint(&der));
}

#[test]
fn tls_accepts_a_server_under_its_names_alone() {
    let ca = ca();
    let (key_pem, issued) = ca.issue_server(&["keys.example", "192.0.2.1", "2001:db8::1"], 90, NOW).unwrap();
    let der = certificate_der(&issued.pem).unwrap();
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(&ca), provider()).build().unwrap();
    let accepts = |name: &str| {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        verifier.verify_server_cert(&der, &[], &name, &[], unix(NOW)).is_ok()
    };
    assert!(accepts("keys.example") && accepts("192.0.2.1") && accepts("2001:db8::1"));
    assert!(!accepts("example") && !accepts("192.0.2.2"));
    assert!(client_certificate(&der, Now::exactly(NOW)).is_err(), "a server's certificate is for no client");

    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    config.unwrap().with_no_client_auth().with_single_cert(vec![der], key).unwrap();

    let csr = csr();
    for names in [&[][..], &["*.example"], &["a b"], &[""], &["x"; SERVER_NAMES_MAX + 1]] {
        let refused = ca.sign_server(&csr, names, 90, NOW);
        assert!(matches!(refused, Err(Error::Invalid { field: "names", .. })), "{names:?}");
    }
}

#[test]
fn only_the_key_is_taken_from_a_request() {
    let ca = ca();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["keys.example".to_owned()]).unwrap();
    params.distinguished_name = common_name("root of all");
    params.subject_alt_names.push(SanType::URI("urn:keyhearth:somebody-else".try_into().unwrap()));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let csr = params.serialize_request(&key).unwrap().pem().unwrap();

    let der = certificate_der(&sign(&ca, &csr, 1, NOW).unwrap().pem).unwrap();
    let certificate = parse(&der).unwrap();
    assert_eq!(certificate.public_key().raw, rcgen::PublicKeyData::subject_public_key_info(&key));
    assert_eq!(certificate.subject().to_string(), "CN=web-1");
    assert!(!certificate.is_ca());
    assert_eq!(certificate.key_usage().unwrap().unwrap().value.flags, 1, "digitalSignature alone");
    let purposes = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(purposes.client_auth && !purposes.server_auth && !purposes.any);
    let names = &certificate.subject_alternative_name().unwrap().unwrap().value.general_names;
    let urn = format!("urn:keyhearth:{DEPLOYMENT}:{TENANT}:{PRINCIPAL}");
    assert!(matches!(names[..], [GeneralName::URI(uri)] if uri == urn), "{names:?}");
}

#[test]
fn serial_numbers_are_random_and_positive() {
    let (ca, csr) = (ca(), csr());
    let serial = || {
        let der = certificate_der(&sign(&ca, &csr, 1, NOW).unwrap().pem).unwrap();
        parse(&der).unwrap().raw_serial().to_vec()
    };
    let (a, b) = (serial(), serial());
    assert!(a != b && a.len() == 16 && a[0] & 0x80 == 0, "{a:?} {b:?}");
}

#[test]
fn keys_that_tls_can_use_are_certified_and_others_are_not() {
    let ca = ca();
    let csr = |key: &KeyPair| CertificateParams::default().serialize_request(key).unwrap().pem().unwrap();
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
        &rcgen::PKCS_RSA_SHA256,
    ] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let der = certificate_der(&sign(&ca, &csr(&key), 1, NOW).unwrap().pem).unwrap();
        let certified = parse(&der).unwrap().public_key().raw.to_vec();
        assert_eq!(certified, rcgen::PublicKeyData::subject_public_key_info(&key), "{algorithm:?}");
    }
    let p521 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
    assert!(invalid_csr(sign(&ca, &csr(&p521), 1, NOW)).starts_with("its key must be"));
}

/// Says it has one key and signs with another.
struct Forger(KeyPair, KeyPair);

impl rcgen::PublicKeyData for Forger {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }
    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        rcgen::PublicKeyData::algorithm(&self.0)
    }
}

impl rcgen::SigningKey for Forger {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.1.sign(message)
    }
}

#[test]
fn a_request_for_somebody_elses_key_is_refused() {
    let forger = Forger(KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let csr = CertificateParams::default().serialize_request(&forger).unwrap().pem().unwrap();
    assert_eq!(invalid_csr(sign(&ca(), &csr, 1, NOW)), "its signature does not fit its key");
}

#[test]
fn what_is_no_request_is_refused() {
    let ca = ca();
    for text in ["", "garbage", ca.certificate_pem(), &csr()[..300]] {
        assert_eq!(invalid_csr(sign(&ca, text, 1, NOW)), "must be a certificate request in PEM");
    }
    let long = csr() + &" ".repeat(CERTIFICATE_BYTES_MAX);
    assert!(matches!(sign(&ca, &long, 1, NOW), Err(Error::TooLarge { field: "csr", .. })));
}

#[test]
fn no_certificate_is_valid_for_too_long() {
    let (ca, csr) = (ca(), csr());
    for days in [0, CLIENT_DAYS_MAX + 1] {
        assert!(matches!(sign(&ca, &csr, days, NOW), Err(Error::Invalid { field: "days", .. })));
    }
    let late = NOW.plus_days(CA_DAYS - 10);
    assert_eq!(sign(&ca, &csr, 30, late).unwrap().not_after, ca.not_after());
    assert!(sign(&ca, &csr, 30, ca.not_after()).is_err());
    let generous = Ca::create(&key::generate(Algorithm::EcP256).unwrap(), DEPLOYMENT, Time::MAX).unwrap();
    assert!(generous.not_after() <= Time::MAX);
}

#[test]
fn a_certificate_counts_between_its_dates_only() {
    let ca = ca();
    let der = certificate_der(&sign(&ca, &csr(), 1, NOW).unwrap().pem).unwrap();
    let at = |ms: u64| client_certificate(&der, Now::exactly(Time::from_unix_ms(ms)));
    let now = NOW.unix_ms();
    assert!(at(now - 300_000).is_ok() && at(now + DAY_MS - 1).is_ok());
    assert!(at(now - 300_001).is_err() && at(now + DAY_MS).is_err());
    let unsure = Now { earliest: NOW, latest: NOW.plus_days(1) };
    assert!(client_certificate(&der, unsure).is_err(), "it may have ended");
    assert!(client_certificate(ca.certificate(), Now::exactly(NOW)).is_err(), "a CA is no client");
}

#[test]
fn a_ca_is_taken_up_again_with_its_own_certificate_only() {
    let (key, other) = (key::generate(Algorithm::EcP256).unwrap(), key::generate(Algorithm::EcP256).unwrap());
    let ca = Ca::create(&key, DEPLOYMENT, NOW).unwrap();
    let again = Ca::open(&key, DEPLOYMENT, ca.certificate_pem()).unwrap();
    let der = certificate_der(&sign(&again, &csr(), 1, NOW).unwrap().pem).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(&ca), provider()).build().unwrap();
    assert!(verifier.verify_client_cert(&der, &[], unix(NOW)).is_ok());

    let damaged = Error::Damaged("CA certificate");
    assert_eq!(Ca::open(&other, DEPLOYMENT, ca.certificate_pem()).unwrap_err(), damaged);
    assert_eq!(Ca::open(&key, DEPLOYMENT, "garbage").unwrap_err(), damaged);
    let shown = format!("{ca:?}");
    assert!(!shown.contains(&format!("{:?}", key.expose()).trim_matches(['[', ']']).to_owned()), "{shown}");
}

#[test]
fn a_text_with_two_certificates_is_refused() {
    let pem = ca().certificate_pem().to_owned();
    assert!(certificate_der(&pem).is_ok());
    assert!(certificate_der(&(pem.clone() + &pem)).is_err());
    assert!(certificate_der("").is_err());
}

fn pem_of(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

proptest! {
    #[test]
    fn garbage_is_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), text in ".{0,200}") {
        let ca = ca();
        prop_assert!(client_certificate(&bytes, Now::exactly(NOW)).is_err());
        prop_assert!(certificate_der(&text).is_err());
        prop_assert!(sign(&ca, &text, 1, NOW).is_err());
        prop_assert!(sign(&ca, &pem_of("CERTIFICATE REQUEST", &bytes), 1, NOW).is_err());
        prop_assert!(Ca::open(&SecretBytes::copy_from(&bytes).unwrap(), DEPLOYMENT, &text).is_err());
    }

    // The signature does not cover the tags around it. A request altered there may pass: for the same key.
    #[test]
    fn an_altered_request_is_refused_or_for_the_same_key(at in any::<prop::sample::Index>(), flip in 1u8..) {
        let (ca, csr) = (ca(), csr());
        let genuine = CertificateSigningRequestDer::from_pem_slice(csr.as_bytes()).unwrap();
        let (_, request) = X509CertificationRequest::from_der(&genuine).unwrap();
        let mut der = genuine.to_vec();
        let at = at.index(der.len());
        der[at] ^= flip;
        if let Ok(issued) = sign(&ca, &pem_of("CERTIFICATE REQUEST", &der), 1, NOW) {
            let info = request.certification_request_info.raw;
            let start = genuine.windows(info.len()).position(|part| part == info).unwrap();
            prop_assert!(!(start..start + info.len()).contains(&at), "byte {at} is signed");
            let certificate = certificate_der(&issued.pem).unwrap();
            let key = request.certification_request_info.subject_pki.raw;
            let certificate = parse(&certificate).unwrap();
            prop_assert_eq!(certificate.public_key().raw, key);
        }
    }

    #[test]
    fn an_altered_certificate_is_refused_or_another_one(at in any::<prop::sample::Index>(), flip in 1u8..) {
        let issued = sign(&ca(), &csr(), 1, NOW).unwrap();
        let mut der = certificate_der(&issued.pem).unwrap().to_vec();
        let at = at.index(der.len());
        der[at] ^= flip;
        if let Ok(presented) = client_certificate(&der, Now::exactly(NOW)) {
            prop_assert!(presented.fingerprint != issued.fingerprint);
        }
    }
}
