//! The endorsements of a whole deployment, of which one evidence needs few; and what evidence lacks that its makers
//! publish.
//!
//! Called by the server, which keeps a library in memory and may fetch what is lacking.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::azure;
use crate::claims::{Bytes, Kind};
use crate::endorsements::{Endorsement, Endorsements, Roots};
use crate::inspect::Subject;
use crate::reason::{Reason, Refusal};
use crate::snp::{Generation, Report, Signer, Tcb};
use crate::tdx::{self, Pck, Quote};
use crate::tpm::Evidence;
use crate::x509::find_issuer;

/// Bytes of a chip's id that tell chips apart; those of Turin have no more.
const CHIP_BYTES: usize = 8;

/// Endorsements of many machines.
#[derive(Clone, Debug)]
pub struct Library {
    /// Certificates of chips, by how their ids begin.
    of_chips: HashMap<[u8; CHIP_BYTES], Vec<Endorsement>>,
    others: Endorsements,
}

impl Default for Library {
    fn default() -> Self {
        Self { of_chips: HashMap::new(), others: Endorsements::of_deployment() }
    }
}

impl Library {
    /// Adds one, of this subject if that is known.
    ///
    /// # Errors
    /// [`Reason::EndorsementTooLarge`] if there is no room for it.
    pub fn add(&mut self, one: Endorsement, subject: Option<&Subject>) -> Result<(), Refusal> {
        let chip = match subject {
            Some(Subject::Vcek { chip, .. }) => chip.first_chunk(),
            Some(_) | None => None,
        };
        match chip {
            Some(chip) => {
                self.of_chips.entry(*chip).or_default().push(one);
                Ok(())
            }
            None => self.others.add_one(&one),
        }
    }

    /// Those that evidence may need: of certificates of chips, only those of its own.
    #[must_use]
    pub fn fitting(&self, evidence: &[u8]) -> Endorsements {
        let mut fitting = self.others.clone();
        let of_chip = snp_report(evidence).and_then(|report| {
            let report = Report::parse(&report, true).ok()?;
            self.of_chips.get(report.chip_id().first_chunk()?)
        });
        for one in of_chip.into_iter().flatten() {
            if fitting.add_one(one).is_err() {
                break;
            }
        }
        fitting
    }
}

/// Something that makers publish.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// The certificate of a chip at a firmware level, from AMD.
    Vcek {
        /// Of the processor.
        generation: Generation,
        /// The chip: 64 bytes, 8 of Turin.
        chip: Vec<u8>,
        /// Its firmware.
        tcb: Tcb,
    },
    /// The issuers of such certificates, from AMD.
    AmdIssuers(Generation, Signer),
    /// The revocation list of a generation, from AMD.
    AmdList(Generation),
    /// TCB info of platforms of this kind (FMSPC), from Intel.
    TcbInfo([u8; 6]),
    /// The identity of the quoting enclave, from Intel.
    QeIdentity,
    /// The revocation list of an issuer of platform certificates, from Intel.
    PckList(PckIssuer),
    /// The revocation list of Intel's root.
    IntelRootList,
}

/// Who issues platform certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PckIssuer {
    /// Of platforms with several packages.
    Platform,
    /// Of single ones.
    Processor,
}

impl PckIssuer {
    /// Intel's word in requests.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Processor => "processor",
        }
    }

    fn of(common_name: &str) -> Self {
        if common_name.contains("Processor") { Self::Processor } else { Self::Platform }
    }
}

impl Need {
    /// Whether an endorsement belongs to what was asked for: what does not is not kept, whoever vouches for it.
    #[must_use]
    pub fn takes(&self, subject: &Subject) -> bool {
        match (self, subject) {
            (Self::Vcek { generation, chip, tcb }, Subject::Vcek { generation: g, chip: c, tcb: t }) => {
                (generation, chip, tcb) == (g, c, t)
            }
            (Self::TcbInfo(fmspc), Subject::TcbInfo(found)) => Bytes::from(&fmspc[..]).to_string() == *found,
            (Self::QeIdentity, Subject::QeIdentity(_))
            | (Self::AmdList(_) | Self::PckList(_) | Self::IntelRootList, Subject::List(_)) => true,
            (_, Subject::Certificate(_)) => !matches!(self, Self::Vcek { .. }),
            (_, _) => false,
        }
    }

    /// Whether an endorsement is what was asked for, rather than what came with it.
    #[must_use]
    pub fn is_met_by(&self, subject: &Subject) -> bool {
        let certificate = matches!(subject, Subject::Certificate(_));
        self.takes(subject) && (!certificate || matches!(self, Self::AmdIssuers(..)))
    }

    /// What replaces an endorsement of this subject before it ends; nothing for what makers publish once.
    #[must_use]
    pub fn of_successor(subject: &Subject) -> Option<Self> {
        match subject {
            Subject::List(issuer) => match issuer.strip_prefix("ARK-") {
                Some(generation) => Generation::of_product(generation).map(Self::AmdList),
                None if issuer.contains("PCK") => Some(Self::PckList(PckIssuer::of(issuer))),
                None => issuer.contains("SGX Root").then_some(Self::IntelRootList),
            },
            Subject::TcbInfo(fmspc) => Some(Self::TcbInfo(fmspc_of(fmspc)?)),
            Subject::QeIdentity(_) => Some(Self::QeIdentity),
            Subject::Vcek { .. } | Subject::Vlek { .. } | Subject::Certificate(_) => None,
        }
    }
}

fn fmspc_of(digits: &str) -> Option<[u8; 6]> {
    let number = u64::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 12)?;
    number.to_be_bytes()[2..].try_into().ok()
}

/// What makers publish that evidence was refused for the lack of; nothing if it was refused otherwise.
///
/// An SNP report cannot be told from a forged one before its certificate is there: whoever fetches for strangers bounds
/// how often. What is asked of Intel follows from a certificate that one of `roots` vouches for.
#[must_use]
pub fn needs(evidence: &[u8], refused: Reason, roots: &Roots) -> Vec<Need> {
    if let Some(report) = snp_report(evidence) {
        return Report::parse(&report, false)
            .ok()
            .and_then(|report| snp_needs(&report, refused))
            .into_iter()
            .collect();
    }
    let quote = match Kind::of(evidence) {
        Some(Kind::Tdx) => tdx::quote_of(evidence).ok(),
        Some(Kind::Tpm) => {
            Evidence::decode(evidence).ok().and_then(|document| document.td_quote).map(Cow::from)
        }
        Some(Kind::Snp | Kind::AzureSnp | Kind::AzureTdx) | None => None,
    };
    quote.and_then(|quote| tdx_needs(&quote, refused, roots)).unwrap_or_default()
}

fn snp_needs(report: &Report<'_>, refused: Reason) -> Option<Need> {
    let (generation, signer) = (report.generation().ok()??, report.signer().ok()?);
    let chip = match generation {
        Generation::Milan | Generation::Genoa => &report.chip_id()[..],
        Generation::Turin => &report.chip_id()[..CHIP_BYTES],
    };
    match (refused, signer) {
        (Reason::SnpCertificateMissing | Reason::SnpChipDiffers | Reason::SnpTcbDiffers, Signer::Vcek)
            if chip.iter().any(|byte| *byte != 0) =>
        {
            let tcb = Tcb::read(generation, *report.reported_tcb());
            Some(Need::Vcek { generation, chip: chip.to_vec(), tcb })
        }
        (Reason::IssuerMissing, _) => Some(Need::AmdIssuers(generation, signer)),
        (Reason::ListMissing | Reason::ListStale, _) => Some(Need::AmdList(generation)),
        _ => None,
    }
}

fn tdx_needs(quote: &[u8], refused: Reason, roots: &Roots) -> Option<Vec<Need>> {
    let quote = Quote::parse(quote).ok()?;
    let carried = quote.certificates().ok()?;
    let certificates = carried.iter().map(Vec::as_slice);
    let Pck { certificate, platform } = Pck::find(&quote, certificates.clone()).ok()?;
    let missing = || Reason::IssuerMissing.into();
    let (_, issuer) = find_issuer(&certificate, certificates, missing(), |_| Ok(())).ok()?;
    find_issuer(&issuer, roots.each().map(|(_, der)| der), missing(), |_| Ok(())).ok()?;
    let statements = [Need::TcbInfo(platform.fmspc), Need::QeIdentity];
    let lists = [Need::PckList(PckIssuer::of(&issuer.name())), Need::IntelRootList];
    let is = |reasons: &[Reason]| reasons.contains(&refused);
    if is(&[Reason::TdxTcbInfoMissing, Reason::TdxQeIdentityMissing, Reason::IssuerMissing]) {
        Some(statements.into_iter().chain(lists).collect())
    } else if is(&[Reason::TdxTcbInfoStale, Reason::TdxQeIdentityStale]) {
        Some(statements.into())
    } else if is(&[Reason::ListMissing, Reason::ListStale]) {
        Some(lists.into())
    } else {
        None
    }
}

/// The SNP report in evidence of whatever kind, if there is one.
fn snp_report(evidence: &[u8]) -> Option<Cow<'_, [u8]>> {
    match Kind::of(evidence)? {
        Kind::Snp => Some(evidence.into()),
        Kind::Tpm => {
            let report = Evidence::decode(evidence).ok()?.hcl_report?;
            azure::snp_report(&report).map(|hardware| hardware.to_vec().into())
        }
        // The tools that write it give the certificate with it.
        Kind::AzureSnp | Kind::AzureTdx | Kind::Tdx => None,
    }
}
