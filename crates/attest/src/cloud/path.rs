//! Paths from a server's certificate to one that is believed, as CAs of the web issue them.
//!
//! Several certificates may bear one name: a CA that was certified anew, or by two others. So every way is tried, up to a
//! bound, as a message carries what its sender likes.
//!
//! Not here: revocation, and policies of certificates; an issuer with critical constraints of those is unfit.
//!
//! Source: RFC 5280 §6.1.

use crate::reason::{Reason, Refusal};
use crate::x509::Certificate;

/// The most certificates between the one that signed and the one that is believed.
const BETWEEN_MAX: usize = 3;
/// The most signatures of issuers that are checked above one certificate; a path has four at most.
const SIGNATURES_MAX: u32 = 32;

/// Checks that one of `believed` leads to the signer's certificate, over some of those that it came with, every one of them
/// fit for its place and valid now.
pub(super) fn check<'a>(
    signer: &'a Certificate<'a>,
    carried: &'a [Certificate<'a>],
    believed: &'a [Certificate<'a>],
    now_s: u64,
) -> Result<(), Refusal> {
    signer.check_use_for_web(false)?;
    signer.check_dates(now_s)?;
    Search { carried, believed, now_s, signatures: SIGNATURES_MAX }.climb(&[], signer)
}

struct Search<'a> {
    carried: &'a [Certificate<'a>],
    believed: &'a [Certificate<'a>],
    now_s: u64,
    /// How many may still be checked.
    signatures: u32,
}

impl<'a> Search<'a> {
    /// Looks for a way to a certificate that is believed from `reached`, which stands above `below`. If there is none, says
    /// why the last that was tried is none.
    fn climb(&mut self, below: &[&'a Certificate<'a>], reached: &'a Certificate<'a>) -> Result<(), Refusal> {
        let path = [below, &[reached]].concat();
        let believed = self.believed.iter().map(|issuer| (issuer, true));
        let all = believed.chain(self.carried.iter().map(|issuer| (issuer, false)));
        let mut refusal = Reason::RootUntrusted.because(reached.issuer_name());
        for (issuer, is_believed) in all.filter(|(issuer, _)| reached.names_issuer(issuer)) {
            let tried = self.check_issuer(issuer, &path).and_then(|()| match is_believed {
                true => Ok(()),
                false if path.len() > BETWEEN_MAX => Err(Reason::RootUntrusted.because(issuer.issuer_name())),
                false => self.climb(&path, issuer),
            });
            match tried {
                Ok(()) => return Ok(()),
                Err(tried) => refusal = tried,
            }
        }
        Err(refusal)
    }

    /// Checks that `issuer` signed the last of a path and may stand above all of it.
    fn check_issuer(&mut self, issuer: &Certificate<'_>, path: &[&Certificate<'_>]) -> Result<(), Refusal> {
        let unfit = |what: &str| Reason::CertificateUnfit.because(format!("{}: {what}", issuer.name()));
        issuer.check_use_for_web(true)?;
        let (Some(issued), Some(between)) = (path.last(), path.len().checked_sub(1)) else { return Ok(()) };
        if !issuer.allows_below(between) {
            return Err(unfit("too far above"));
        }
        let left = self.signatures.checked_sub(1);
        self.signatures = left.ok_or_else(|| unfit("too many certificates bear its name"))?;
        issuer.check_signed_for_web(issued)?;
        path.iter().try_for_each(|below| issuer.check_names(below))?;
        issuer.check_dates(self.now_s)
    }
}
