//! Certificates: who calls, and who the server says it is.
//!
//! A certificate proves possession of a key, nothing more. Which identity it stands for is looked up by
//! its [`Fingerprint`] in the store; the names in it are for people and are never read by a decision.
//! So a certificate of an external CA works as one of the built-in [`Ca`] does, once it is bound to an
//! identity, and a CA that signs a wrong name gives away nothing.
//!
//! Not here: the TLS handshake, which checks chains ([`crate::listen`]); revocation, which the engine
//! decides for each request; and the row that binds a fingerprint.

mod ca;
#[cfg(test)]
mod tests;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyhearth_core::Error;
use keyhearth_core::principal::Fingerprint;
use keyhearth_core::time::{Now, Time};
use keyhearth_crypto::algorithm::{Algorithm, Mechanism};
use keyhearth_crypto::digest;
use keyhearth_crypto::key::{self, Input, Key};
use keyhearth_crypto::secret::SecretBytes;
use rcgen::{CertificateParams, DistinguishedName, DnType};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;
use zeroize::Zeroizing;

pub use ca::{CA_DAYS, CLIENT_DAYS_MAX, Ca, Issued, SERVER_DAYS_MAX, SERVER_NAMES_MAX, Subject};

/// The longest certificate or request that is read, PEM or DER.
pub const CERTIFICATE_BYTES_MAX: usize = 16 << 10;

/// A client certificate whose form and dates are right. That its chain is, the handshake has checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presented {
    /// What its identity is looked up by.
    pub fingerprint: Fingerprint,
    /// The end of its validity. Connections live longer: compare at every request.
    pub not_after: Time,
}

/// Names a certificate by the SHA-256 of its DER form.
#[must_use]
pub fn fingerprint(der: &[u8]) -> Fingerprint {
    Fingerprint(digest::sha256(&[der]))
}

/// Reads a client certificate, at most [`CERTIFICATE_BYTES_MAX`] long.
///
/// # Errors
/// [`Error::Invalid`] if it is no certificate, not valid now, of a CA, or not for clients;
/// [`Error::TooLarge`].
///
/// Source: RFC 5280 §4.1.2.5 (dates), §4.2.1.9 (CA), §4.2.1.12 (purpose).
pub fn client_certificate(der: &[u8], now: Now) -> Result<Presented, Error> {
    let certificate = parse(der)?;
    let validity = certificate.validity();
    let not_after = time(validity.not_after)?;
    if !now.reached(time(validity.not_before)?) || now.may_have_passed(not_after) {
        return Err(invalid("is not valid now"));
    }
    let purposes = certificate.extended_key_usage().map_err(|_| invalid("has a purpose twice"))?;
    if certificate.is_ca() || purposes.is_some_and(|purposes| !purposes.value.client_auth) {
        return Err(invalid("is not made for clients"));
    }
    Ok(Presented { fingerprint: fingerprint(der), not_after })
}

/// The one certificate of a PEM text, as DER. Its content is not looked at.
///
/// # Errors
/// [`Error::Invalid`] if there is none or more than one, [`Error::TooLarge`].
pub fn certificate_der(pem: &str) -> Result<CertificateDer<'static>, Error> {
    limit("certificate", pem.as_bytes())?;
    let mut sections = CertificateDer::pem_slice_iter(pem.as_bytes());
    match (sections.next(), sections.next()) {
        (Some(Ok(der)), None) => Ok(der),
        _ => Err(invalid("must be one certificate in PEM")),
    }
}

/// Makes a private key (EC P-256) and a request for a certificate of it, both PEM.
///
/// `name` is for whoever reads the request: the CA ignores it.
///
/// # Errors
/// [`Error::Internal`] without randomness or locked memory.
///
/// Source: RFC 2986 §4 (request); RFC 7468 §10 (private key).
pub fn generate_key_and_csr(name: &str) -> Result<(Zeroizing<String>, String), Error> {
    let material = key::generate(Algorithm::EcP256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    let csr = params.serialize_request(&Signer::load(&material)?).and_then(|csr| csr.pem());
    Ok((private_key_pem(material.expose()), csr.map_err(|_| Error::Internal("certificate request"))?))
}

/// An EC P-256 key that signs certificates and requests.
struct Signer(Key);

impl Signer {
    const POINT_BYTES: usize = 65;

    fn load(material: &SecretBytes) -> Result<Self, Error> {
        Ok(Self(Key::load(Algorithm::EcP256, material)?))
    }

    fn public_key_der(&self) -> &[u8] {
        self.0.public_key_der().unwrap_or_default()
    }
}

impl rcgen::PublicKeyData for Signer {
    fn der_bytes(&self) -> &[u8] {
        let der = self.public_key_der();
        &der[der.len().saturating_sub(Self::POINT_BYTES)..]
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for Signer {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self.0.sign(Mechanism::EcdsaSha256, Input::Message(message));
        signature.map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

/// Written into memory that is zeroed, and large enough not to be moved.
fn private_key_pem(der: &[u8]) -> Zeroizing<String> {
    const LINE_BYTES: usize = 48;
    let mut pem = Zeroizing::new(String::with_capacity(der.len() * 2 + 128));
    pem.push_str("-----BEGIN PRIVATE KEY-----\n");
    for line in der.chunks(LINE_BYTES) {
        STANDARD.encode_string(line, &mut pem);
        pem.push('\n');
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    pem
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Error> {
    limit("certificate", der)?;
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(invalid("is not an X.509 certificate")),
    }
}

fn time(time: ASN1Time) -> Result<Time, Error> {
    let seconds = u64::try_from(time.timestamp()).map_err(|_| invalid("has a date before 1970"))?;
    Ok(Time::from_unix_ms(seconds.saturating_mul(1000)))
}

fn limit(field: &'static str, bytes: &[u8]) -> Result<(), Error> {
    if bytes.len() > CERTIFICATE_BYTES_MAX {
        return Err(Error::TooLarge { field, limit: CERTIFICATE_BYTES_MAX });
    }
    Ok(())
}

fn invalid(rule: &'static str) -> Error {
    Error::Invalid { field: "certificate", rule }
}
