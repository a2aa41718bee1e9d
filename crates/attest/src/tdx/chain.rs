//! From the key that certified the quoting enclave up to a root, and what was revoked on the way.
//!
//! ```text
//! root (pinned) ─▶ PCK platform or processor CA ─▶ PCK: a key of one platform at one level ─▶ QE report
//!              └─▶ TCB signing ─▶ TCB info, QE identity
//! ```
//! Two revocation lists belong to it, one of the root and one of the PCK's issuer. Unlike AMD's, they are always
//! demanded: Intel's collateral is not whole without them.

use dcap_qvl::intel::{PckExtension, parse_pck_extension_with};
use keyhearth_crypto::algorithm::Mechanism;
use keyhearth_crypto::key::Input;
use x509_parser::asn1_rs::{Oid, oid};
use x509_parser::pem::parse_x509_pem;

use super::quote::Quote;
use super::verdict::{Backend, der_signature};
use crate::endorsements::{BUILT_IN, Endorsements, Roots};
use crate::reason::{Reason, Refusal};
use crate::x509::{Certificate, List, find_issuer};

const SGX_EXTENSION: Oid<'static> = oid!(1.2.840.113741.1.13.1);
/// The subject of the certificate whose key signs TCB info and QE identity.
const STATEMENT_SIGNER: &str = "Intel SGX TCB Signing";

/// A root that is believed.
#[derive(Clone, Debug)]
pub(crate) struct IntelRoot {
    pub(super) label: String,
    pub(super) certificate: Vec<u8>,
}

impl IntelRoot {
    pub(crate) fn extra(label: &str, certificate: Vec<u8>) -> Self {
        Self { label: label.to_owned(), certificate }
    }
}

/// Intel's root.
///
/// Source: `https://certificates.trustedservices.intel.com/Intel_SGX_Provisioning_Certification_RootCA.cer`, as
/// packaged by the crate `dcap-qvl`; a test compares.
pub(crate) fn built_in_roots() -> Vec<IntelRoot> {
    let pem = include_bytes!("roots/intel-sgx-root.pem");
    let certificate = parse_x509_pem(pem).expect("the file in roots/ is PEM, and a test reads it").1.contents;
    vec![IntelRoot { label: BUILT_IN.to_owned(), certificate }]
}

/// The platform's certificate.
pub(super) struct Pck<'a> {
    der: &'a [u8],
    certificate: Certificate<'a>,
    /// What Intel certifies of the platform.
    pub(super) platform: PckExtension,
}

impl<'a> Pck<'a> {
    /// Finds the certificate of the key that signed the QE report.
    pub(super) fn find(
        quote: &Quote<'_>,
        candidates: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Self, Refusal> {
        let signature = der_signature(quote.qe_report_signature);
        let mut refusal = Reason::TdxCertificateMissing.into();
        for der in candidates {
            let certificate = Certificate::parse(der)?;
            if certificate.extension(&SGX_EXTENSION).is_none() {
                continue;
            }
            let signed = certificate.p256_key().is_some_and(|key| {
                key.verify(Mechanism::EcdsaSha256, Input::Message(quote.qe_report), &signature).is_ok()
            });
            if !signed {
                refusal = Reason::TdxQeSignature.because(certificate.name());
                continue;
            }
            let Ok(platform) = parse_pck_extension_with::<Backend>(der) else {
                return Err(Reason::TdxCertificateMalformed.because(certificate.name()));
            };
            return Ok(Self { der, certificate, platform });
        }
        Err(refusal)
    }
}

/// A chain that was checked, and what vouches that nothing of it was revoked; all as DER.
pub(super) struct Chain<'a> {
    pub(super) root: &'a IntelRoot,
    pub(super) pck: &'a [u8],
    pub(super) pck_issuer: &'a [u8],
    pub(super) statement_signer: &'a [u8],
    pub(super) root_list: &'a [u8],
    pub(super) pck_list: &'a [u8],
}

impl<'a> Chain<'a> {
    /// Finds and checks the chain of a platform's certificate.
    pub(super) fn build(
        pck: &Pck<'a>,
        candidates: impl Iterator<Item = &'a [u8]> + Clone,
        endorsements: &'a Endorsements,
        roots: &'a Roots,
        now_s: u64,
    ) -> Result<Self, Refusal> {
        let leaf = &pck.certificate;
        let missing = Reason::IssuerMissing.because(leaf.issuer_name());
        let (index, issuer) = find_issuer(leaf, candidates.clone(), missing, |_| Ok(()))?;
        let pck_issuer = candidates.clone().nth(index).expect("it was found there");
        let untrusted = Reason::RootUntrusted.because(issuer.issuer_name());
        let believed = roots.intel.iter().map(|root| &*root.certificate);
        let (index, root) = find_issuer(&issuer, believed, untrusted, |_| Ok(()))?;
        let (statement_signer, signer) = find_statement_signer(candidates, &root)?;
        for leaf in [leaf, &signer] {
            leaf.check_use(false)?;
        }
        for certificate in [leaf, &issuer, &signer, &root] {
            certificate.check_dates(now_s)?;
        }
        let root_list = find_list(&root, &[&root, &issuer, &signer], endorsements, now_s)?;
        let pck_list = find_list(&issuer, &[leaf], endorsements, now_s)?;
        Ok(Self {
            root: &roots.intel[index],
            pck: pck.der,
            pck_issuer,
            statement_signer,
            root_list,
            pck_list,
        })
    }
}

/// Finds the certificate of the key that signs TCB info and QE identity, directly below the root.
fn find_statement_signer<'a>(
    candidates: impl Iterator<Item = &'a [u8]>,
    root: &Certificate<'_>,
) -> Result<(&'a [u8], Certificate<'a>), Refusal> {
    let mut refusal = Reason::IssuerMissing.because(STATEMENT_SIGNER);
    for der in candidates {
        let candidate = Certificate::parse(der)?;
        if candidate.name() != STATEMENT_SIGNER || !candidate.names_issuer(root) {
            continue;
        }
        match root.check_signed(&candidate) {
            Ok(()) => return Ok((der, candidate)),
            Err(tried) => refusal = tried,
        }
    }
    Err(refusal)
}

/// Finds a list of `issuer` that is in force, and checks that no list of its names one of `below`. A list whose time
/// is over still counts for what it names: what was revoked stays so.
fn find_list<'a>(
    issuer: &Certificate<'_>,
    below: &[&Certificate<'_>],
    endorsements: &'a Endorsements,
    now_s: u64,
) -> Result<&'a [u8], Refusal> {
    let mut found = Err(Reason::ListMissing.because(issuer.name()));
    for der in endorsements.lists() {
        let list = List::parse(der)?;
        if !list.names_issuer(issuer) {
            continue;
        }
        list.check_signed(issuer)?;
        if let Some(revoked) = below.iter().find(|certificate| list.revokes(certificate)) {
            return Err(Reason::CertificateRevoked.because(revoked.name()));
        }
        if list.is_current(now_s) {
            found = Ok(der);
        } else if found.is_err() {
            found = Err(Reason::ListStale.because(list.dates()));
        }
    }
    found
}
