//! The built-in CA: one root, no intermediates, certificates that hold only names of ours.

use std::net::IpAddr;
use std::time::Duration;

use keyhearth_core::Error;
use keyhearth_core::id::{DeploymentId, Name, PrincipalId, TenantId};
use keyhearth_core::principal::Fingerprint;
use keyhearth_core::time::Time;
use keyhearth_crypto::algorithm::Algorithm;
use keyhearth_crypto::key::PublicKey;
use keyhearth_crypto::random;
use keyhearth_crypto::secret::SecretBytes;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, SanType,
    SerialNumber, SubjectPublicKeyInfo,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, ServerName};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{OID_PKCS1_SHA1WITHRSA, OID_SHA1_WITH_RSA};
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use super::{Signer, certificate_der, common_name, fingerprint, generate_key_and_csr, limit, parse, time};

/// How long the root is valid, ten years.
pub const CA_DAYS: u32 = 3653;
/// The longest a client certificate is valid.
pub const CLIENT_DAYS_MAX: u32 = 397;
/// The longest a server certificate is valid.
pub const SERVER_DAYS_MAX: u32 = 397;
/// The most names in a server certificate.
pub const SERVER_NAMES_MAX: usize = 64;

/// Certificates begin this much before they are made, for clients whose clock is behind.
const BACKDATE_MS: u64 = 5 * 60 * 1000;
const SERIAL_BYTES: usize = 16;

/// Keys that are certified. All of them work in TLS 1.3.
const ACCEPTED: [Algorithm; 6] = [
    Algorithm::EcP256,
    Algorithm::EcP384,
    Algorithm::Ed25519,
    Algorithm::Rsa2048,
    Algorithm::Rsa3072,
    Algorithm::Rsa4096,
];

/// The built-in CA. `Debug` does not show its key.
#[derive(Debug)]
pub struct Ca {
    deployment: DeploymentId,
    issuer: Issuer<'static, Signer>,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    not_after: Time,
}

/// Whom a client certificate names.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Tenant of the identity.
    pub tenant: TenantId,
    /// The identity.
    pub principal: PrincipalId,
    /// Its name.
    pub name: &'a Name,
}

/// A certificate the CA made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The certificate.
    pub pem: String,
    /// To bind it by.
    pub fingerprint: Fingerprint,
    /// The end of its validity.
    pub not_after: Time,
}

impl Ca {
    /// Makes the root certificate of `key` (EC P-256, PKCS#8), valid for [`CA_DAYS`].
    ///
    /// # Errors
    /// [`Error::Internal`] if the key is no such key, or without randomness.
    ///
    /// Source: RFC 5280 §4.2.1.3, §4.2.1.9.
    pub fn create(key: &SecretBytes, deployment: DeploymentId, now: Time) -> Result<Self, Error> {
        let mut params = template(&format!("Keyhearth CA {deployment}"), now, now.plus_days(CA_DAYS))?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = false;
        let certificate = params.self_signed(&Signer::load(key)?).map_err(failed)?;
        Self::open(key, deployment, &certificate.pem())
    }

    /// Takes up the root again that [`Ca::create`] made for `key`.
    ///
    /// # Errors
    /// [`Error::Damaged`] if `certificate_pem` is not a CA certificate of this key.
    pub fn open(key: &SecretBytes, deployment: DeploymentId, certificate_pem: &str) -> Result<Self, Error> {
        let damaged = Error::Damaged("CA certificate");
        let certificate = certificate_der(certificate_pem).map_err(|_| damaged)?;
        let signer = Signer::load(key)?;
        let parsed = parse(&certificate).map_err(|_| damaged)?;
        let not_after = time(parsed.validity().not_after).map_err(|_| damaged)?;
        if parsed.public_key().raw != signer.public_key_der() || !parsed.is_ca() {
            return Err(damaged);
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, signer).map_err(|_| damaged)?;
        Ok(Self { deployment, issuer, certificate, certificate_pem: certificate_pem.to_owned(), not_after })
    }

    /// The root certificate, for verifiers.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The root certificate, for clients and for the store.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The end of the root's validity. No certificate outlives it.
    #[must_use]
    pub fn not_after(&self) -> Time {
        self.not_after
    }

    /// Certifies the key of a request for an identity, for 1 to [`CLIENT_DAYS_MAX`] days.
    ///
    /// Only the public key is taken from the request, once its signature proves that the sender has the
    /// private half. Names and purposes it asks for are ignored. The certificate names the identity as
    /// `urn:keyhearth:DEPLOYMENT:TENANT:PRINCIPAL`, for people and tools.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a request that is none, is forged, is signed with SHA-1 or has a key of another
    /// kind than EC P-256, P-384, Ed25519 or RSA of 2048, 3072 or 4096 bits; [`Error::TooLarge`];
    /// [`Error::Unavailable`] once the root has expired.
    ///
    /// Source: RFC 2986 §4.2 (request), RFC 5280 §4.2 (extensions).
    pub fn sign_client(
        &self,
        csr_pem: &str,
        subject: Subject<'_>,
        days: u32,
        now: Time,
    ) -> Result<Issued, Error> {
        let Subject { tenant, principal, name } = subject;
        let urn = format!("urn:keyhearth:{}:{tenant}:{principal}", self.deployment);
        let mut params = self.leaf(name.as_str(), days, CLIENT_DAYS_MAX, now)?;
        params.subject_alt_names = vec![SanType::URI(urn.try_into().map_err(failed)?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params, csr_pem)
    }

    /// Certifies the key of a request for a server with these DNS names and IP addresses.
    ///
    /// # Errors
    /// As [`Ca::sign_client`]; [`Error::Invalid`] also for a name that is neither, and for none.
    ///
    /// Source: RFC 5280 §4.2.1.6; RFC 9525 §6.3 (names only there).
    pub fn sign_server(&self, csr_pem: &str, names: &[&str], days: u32, now: Time) -> Result<Issued, Error> {
        if names.is_empty() || names.len() > SERVER_NAMES_MAX {
            return Err(Error::Invalid { field: "names", rule: "1 to 64 DNS names and IP addresses" });
        }
        let mut params = self.leaf("Keyhearth server", days, SERVER_DAYS_MAX, now)?;
        params.subject_alt_names = names.iter().map(|name| san(name)).collect::<Result<_, _>>()?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(&params, csr_pem)
    }

    /// Makes a key for a server, PEM, and certifies it.
    ///
    /// # Errors
    /// As [`Ca::sign_server`].
    pub fn issue_server(
        &self,
        names: &[&str],
        days: u32,
        now: Time,
    ) -> Result<(Zeroizing<String>, Issued), Error> {
        let (key_pem, csr_pem) = generate_key_and_csr("Keyhearth server")?;
        Ok((key_pem, self.sign_server(&csr_pem, names, days, now)?))
    }

    fn leaf(&self, name: &str, days: u32, days_max: u32, now: Time) -> Result<CertificateParams, Error> {
        if !(1..=days_max).contains(&days) {
            return Err(Error::Invalid { field: "days", rule: "1 to 397" });
        }
        if now >= self.not_after {
            return Err(Error::Internal("the CA certificate has expired"));
        }
        let mut params = template(name, now, now.plus_days(days).min(self.not_after))?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        Ok(params)
    }

    fn sign(&self, params: &CertificateParams, csr_pem: &str) -> Result<Issued, Error> {
        let certificate = params.signed_by(&requested_key(csr_pem)?, &self.issuer).map_err(failed)?;
        let not_after = time(parse(certificate.der())?.validity().not_after)?;
        Ok(Issued { pem: certificate.pem(), fingerprint: fingerprint(certificate.der()), not_after })
    }
}

/// What all certificates have. The serial number is random: 126 bits, always 16 bytes, positive.
fn template(name: &str, now: Time, not_after: Time) -> Result<CertificateParams, Error> {
    let mut serial = [0; SERIAL_BYTES];
    random::fill("keyhearth/certificate-serial", &mut serial)?;
    serial[0] = serial[0] & 0x7f | 0x40;
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.use_authority_key_identifier_extension = true;
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let at = |time: Time| epoch + Duration::from_secs(time.min(Time::MAX).unix_ms() / 1000);
    params.not_before = at(Time::from_unix_ms(now.unix_ms().saturating_sub(BACKDATE_MS)));
    params.not_after = at(not_after);
    Ok(params)
}

fn san(name: &str) -> Result<SanType, Error> {
    let rule = Error::Invalid { field: "names", rule: "each is a DNS name or an IP address" };
    match ServerName::try_from(name).map_err(|_| rule)? {
        ServerName::DnsName(name) => Ok(SanType::DnsName(name.as_ref().try_into().map_err(failed)?)),
        ServerName::IpAddress(address) => Ok(SanType::IpAddress(IpAddr::from(address))),
        _ => Err(rule),
    }
}

/// The public key of a request whose sender has the private half.
fn requested_key(csr_pem: &str) -> Result<SubjectPublicKeyInfo, Error> {
    limit("csr", csr_pem.as_bytes())?;
    let invalid = |rule| Error::Invalid { field: "csr", rule };
    let der = CertificateSigningRequestDer::from_pem_slice(csr_pem.as_bytes())
        .map_err(|_| invalid("must be a certificate request in PEM"))?;
    let Ok(([], csr)) = X509CertificationRequest::from_der(&der) else {
        return Err(invalid("is not a certificate request"));
    };
    let key = csr.certification_request_info.subject_pki.raw;
    let key = ACCEPTED
        .iter()
        .find_map(|&algorithm| PublicKey::from_der(algorithm, key).ok())
        .ok_or(invalid("its key must be EC P-256, P-384, Ed25519 or RSA of 2048, 3072 or 4096 bits"))?;
    if [OID_PKCS1_SHA1WITHRSA, OID_SHA1_WITH_RSA].contains(&csr.signature_algorithm.algorithm) {
        return Err(invalid("must not be signed with SHA-1"));
    }
    csr.verify_signature().map_err(|_| invalid("its signature does not fit its key"))?;
    SubjectPublicKeyInfo::from_der(key.der()).map_err(failed)
}

fn failed(_: rcgen::Error) -> Error {
    Error::Internal("the library made no certificate")
}
