//! From the key that signed a report up to a root, and what was revoked on the way.
//!
//! A chain has three certificates. AMD issues one revocation list for each generation, signed by the ARK.

use x509_parser::pem::parse_x509_pem;

use super::tcb::Generation;
use super::vek::Vek;
use crate::demands::{Demands, Revocation};
use crate::endorsements::{BUILT_IN, Endorsements, Roots};
use crate::reason::{Reason, Refusal};
use crate::x509::{Certificate, List, find_issuer};

/// A root that is believed (ARK), and intermediate certificates that are known with it (ASK).
#[derive(Clone, Debug)]
pub(crate) struct AmdRoot {
    pub(crate) label: String,
    /// The only generation that it vouches for; any, if it was added by the caller.
    generation: Option<Generation>,
    pub(crate) certificate: Vec<u8>,
    pub(crate) intermediates: Vec<Vec<u8>>,
}

impl AmdRoot {
    pub(crate) fn extra(label: &str, certificate: Vec<u8>) -> Self {
        Self { label: label.to_owned(), generation: None, certificate, intermediates: Vec::new() }
    }
}

/// AMD's roots. ASVKs are not among them: they come with the VLEK.
///
/// Source: `https://kdsintf.amd.com/vcek/v1/{product}/cert_chain`, as packaged by the crate `sev`; a test compares.
pub(crate) fn built_in_roots() -> Vec<AmdRoot> {
    macro_rules! root {
        ($generation:ident, $name:literal) => {
            AmdRoot {
                label: BUILT_IN.to_owned(),
                generation: Some(Generation::$generation),
                certificate: der(include_bytes!(concat!("roots/", $name, "-ark.pem"))),
                intermediates: vec![der(include_bytes!(concat!("roots/", $name, "-ask.pem")))],
            }
        };
    }
    vec![root!(Milan, "milan"), root!(Genoa, "genoa"), root!(Turin, "turin")]
}

fn der(pem: &[u8]) -> Vec<u8> {
    parse_x509_pem(pem).expect("the files in roots/ are PEM, and a test reads them").1.contents
}

/// A chain that was checked.
pub(super) struct Chain<'a> {
    /// Whose root it ends in.
    pub(super) root: &'a str,
    /// Whether a list that is in force said that nothing of it was revoked.
    pub(super) revocation_checked: bool,
}

impl<'a> Chain<'a> {
    /// Finds and checks the chain of a certificate.
    pub(super) fn build(
        vek: &Vek<'_>,
        endorsements: &Endorsements,
        roots: &'a Roots,
        demands: &Demands,
    ) -> Result<Self, Refusal> {
        let leaf = &vek.certificate;
        let missing = Reason::IssuerMissing.because(leaf.issuer_name());
        let intermediate =
            find_issuer(leaf, endorsements.certificates().chain(roots.intermediates()), missing, |_| Ok(()))?
                .1;
        let believed = roots.amd.iter().map(|root| &*root.certificate);
        let untrusted = Reason::RootUntrusted.because(intermediate.issuer_name());
        let (index, root) = find_issuer(&intermediate, believed, untrusted, |index| {
            let generation = roots.amd[index].generation;
            if generation.is_none_or(|generation| generation == vek.generation) {
                return Ok(());
            }
            Err(Reason::SnpProductDiffers.because(format!("the root is not for {}", vek.generation.name())))
        })?;
        leaf.check_use(false)?;
        for certificate in [leaf, &intermediate, &root] {
            certificate.check_dates(demands.now_s)?;
        }
        let revocation_checked = check_revocation(&[leaf, &intermediate], &root, endorsements, demands)?;
        Ok(Self { root: &roots.amd[index].label, revocation_checked })
    }
}

/// Checks that no authentic list names a certificate below the root. Lists of other roots do not matter.
///
/// A list whose time is over still counts for what it names: what was revoked stays so.
fn check_revocation(
    below: &[&Certificate<'_>],
    root: &Certificate<'_>,
    endorsements: &Endorsements,
    demands: &Demands,
) -> Result<bool, Refusal> {
    let mut unchecked = Reason::ListMissing.because(root.name());
    let mut current = false;
    for der in endorsements.lists() {
        let list = List::parse(der)?;
        if !list.names_issuer(root) {
            continue;
        }
        // One that is forged takes nothing away from the others.
        if let Err(refusal) = list.check_signed(root) {
            unchecked = refusal;
            continue;
        }
        if let Some(revoked) = below.iter().find(|certificate| list.revokes(certificate)) {
            return Err(Reason::CertificateRevoked.because(revoked.name()));
        }
        if list.is_current(demands.now_s) {
            current = true;
        } else {
            unchecked = Reason::ListStale.because(list.dates());
        }
    }
    match demands.revocation {
        Revocation::Demanded if !current => Err(unchecked),
        Revocation::Demanded | Revocation::IfGiven => Ok(current),
    }
}
