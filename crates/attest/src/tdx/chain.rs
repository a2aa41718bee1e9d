//! From the platform's certificate and Intel's statements up to a root, and what was revoked on the way.
//!
//! ```text
//! root (pinned) ─▶ PCK platform or processor CA ─▶ PCK: a key of one platform at one level ─▶ QE report
//!              └─▶ TCB signing ─▶ TCB info, QE identity
//! ```
//! Two revocation lists belong to it, one of the root and one of the PCK's issuer. Unlike AMD's, they are always
//! demanded: Intel's collateral is not whole without them.

use keyhearth_crypto::key::PublicKey;
use x509_parser::pem::parse_x509_pem;

use crate::endorsements::{BUILT_IN, Endorsements, Roots};
use crate::reason::{Reason, Refusal};
use crate::x509::{Certificate, List, find_issuer};

/// The subject of certificates whose keys sign TCB info and QE identity.
pub(crate) const STATEMENT_SIGNER: &str = "Intel SGX TCB Signing";

/// A root that is believed.
#[derive(Clone, Debug)]
pub(crate) struct IntelRoot {
    pub(crate) label: String,
    pub(crate) certificate: Vec<u8>,
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

/// A chain that was checked.
pub(super) struct Chain<'a> {
    /// Whose root it ends in.
    pub(super) root: &'a str,
    /// Keys whose statements the root vouches for; at least one.
    pub(super) signers: Vec<PublicKey>,
}

impl<'a> Chain<'a> {
    /// Finds and checks the chain of a platform's certificate, and that of Intel's statements below the same root.
    pub(super) fn build(
        pck: &Certificate<'_>,
        candidates: impl Iterator<Item = &'a [u8]> + Clone,
        endorsements: &'a Endorsements,
        roots: &'a Roots,
        now_s: u64,
    ) -> Result<Self, Refusal> {
        let missing = Reason::IssuerMissing.because(pck.issuer_name());
        let (_, issuer) = find_issuer(pck, candidates.clone(), missing, |_| Ok(()))?;
        let untrusted = Reason::RootUntrusted.because(issuer.issuer_name());
        let believed = roots.intel.iter().map(|root| &*root.certificate);
        let (index, root) = find_issuer(&issuer, believed, untrusted, |_| Ok(()))?;
        pck.check_use(false)?;
        for certificate in [pck, &issuer, &root] {
            certificate.check_dates(now_s)?;
        }
        let of_root = Revoked::by(&root, endorsements, now_s)?;
        of_root.check(&root)?;
        of_root.check(&issuer)?;
        Revoked::by(&issuer, endorsements, now_s)?.check(pck)?;
        let signers = find_signers(candidates, &root, &of_root, now_s)?;
        Ok(Self { root: &roots.intel[index].label, signers })
    }
}

/// The keys that sign TCB info and QE identity: those of every sound certificate for it directly below the root.
fn find_signers<'a>(
    candidates: impl Iterator<Item = &'a [u8]>,
    root: &Certificate<'_>,
    revoked: &Revoked<'_>,
    now_s: u64,
) -> Result<Vec<PublicKey>, Refusal> {
    let mut signers = Vec::new();
    let mut refusal = Reason::IssuerMissing.because(STATEMENT_SIGNER);
    for der in candidates {
        let candidate = Certificate::parse(der)?;
        if candidate.name() != STATEMENT_SIGNER || !candidate.names_issuer(root) {
            continue;
        }
        let checked = root
            .check_signed(&candidate)
            .and_then(|()| candidate.check_use(false))
            .and_then(|()| candidate.check_dates(now_s))
            .and_then(|()| revoked.check(&candidate));
        match checked {
            Ok(()) => signers.extend(candidate.p256_key()),
            Err(tried) => refusal = tried,
        }
    }
    if signers.is_empty() { Err(refusal) } else { Ok(signers) }
}

/// The authentic lists of an issuer, of which one is in force.
struct Revoked<'a>(Vec<List<'a>>);

impl<'a> Revoked<'a> {
    fn by(issuer: &Certificate<'_>, endorsements: &'a Endorsements, now_s: u64) -> Result<Self, Refusal> {
        let mut lists = Vec::new();
        let mut missing = Reason::ListMissing.because(issuer.name());
        for der in endorsements.lists() {
            let list = List::parse(der)?;
            if list.names_issuer(issuer) {
                // One that is forged takes nothing away from the others.
                match list.check_signed(issuer) {
                    Ok(()) => lists.push(list),
                    Err(refusal) => missing = refusal,
                }
            }
        }
        match lists.last() {
            None => Err(missing),
            Some(_) if lists.iter().any(|list| list.is_current(now_s)) => Ok(Self(lists)),
            Some(list) => Err(Reason::ListStale.because(list.dates())),
        }
    }

    /// Checks that no list names the certificate. One whose time is over still counts for what it names: what was
    /// revoked stays so.
    fn check(&self, certificate: &Certificate<'_>) -> Result<(), Refusal> {
        if self.0.iter().any(|list| list.revokes(certificate)) {
            return Err(Reason::CertificateRevoked.because(certificate.name()));
        }
        Ok(())
    }
}
