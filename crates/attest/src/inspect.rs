//! What one endorsement is: of what, on whose root it rests, and until when it is in force.
//!
//! Called about what is to be kept: by `keyhearth boot endorsements` and by the server, which leaves out what nobody
//! vouches for. Appraisal believes none of this; it checks whatever it uses itself.
//!
//! Not here: whether a time is over. That is the caller's, which knows what time it is.

use std::fmt;

use keyhearth_crypto::digest::sha256;
use keyhearth_crypto::key::PublicKey;
use serde::Serialize;

use crate::claims::{Bytes, printable};
use crate::endorsements::{Endorsement, Endorsements, Piece, Roots};
use crate::reason::{Reason, Refusal};
use crate::snp::{Generation, Signer, Tcb, Vek};
use crate::tdx::{STATEMENT_SIGNER, Statement};
use crate::x509::{self, Certificate, List, find_issuer};

/// The most certificates from one to its root.
const DEPTH_MAX: usize = 4;
/// Bytes of digests and ids in names of files.
const SHORT_BYTES: usize = 16;

/// What an endorsement is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The certificate of a chip's key at one firmware level.
    Vcek {
        /// Of the processor.
        generation: Generation,
        /// The chip: 64 bytes, 8 of Turin.
        chip: Vec<u8>,
        /// Its firmware.
        tcb: Tcb,
    },
    /// The certificate of a key that a cloud loads.
    Vlek {
        /// Of the processors.
        generation: Generation,
        /// Whose it is.
        provider: String,
        /// Their firmware.
        tcb: Tcb,
    },
    /// Any other certificate, by its holder.
    Certificate(String),
    /// A revocation list, by its issuer.
    List(String),
    /// TCB info of platforms of this kind (FMSPC), in lowercase digits.
    TcbInfo(String),
    /// An identity of a quoting enclave, by Intel's name of it.
    QeIdentity(String),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vcek { generation, chip, tcb } => {
                let chip = Bytes::from(&chip[..chip.len().min(8)]);
                write!(f, "VCEK of {} {chip} at {tcb}", generation.name())
            }
            Self::Vlek { generation, provider, tcb } => {
                write!(f, "VLEK of {}, {provider} at {tcb}", generation.name())
            }
            Self::Certificate(holder) => write!(f, "certificate of {holder}"),
            Self::List(issuer) => write!(f, "revocation list of {issuer}"),
            Self::TcbInfo(fmspc) => write!(f, "TCB info of {fmspc}"),
            Self::QeIdentity(id) => write!(f, "QE identity {id}"),
        }
    }
}

impl Serialize for Subject {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An endorsement that a root vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// What it is of.
    pub subject: Subject,
    /// The label of the root, or [`crate::BUILT_IN`].
    pub root: String,
    /// Whether it is that root itself, which nothing has to be kept of.
    pub is_root: bool,
    /// When it begins, in seconds since 1970.
    pub begins_s: u64,
    /// When it ends, in seconds since 1970.
    pub ends_s: u64,
    /// Intel's number of the evaluation that a statement comes from; 0 of others.
    evaluation: u32,
    /// SHA-256 of the key that signed it.
    signer: [u8; 32],
    /// SHA-256 of itself.
    digest: [u8; 32],
}

impl Inspected {
    /// The name of the file to keep it in. What takes another's place has the same name: a list of the same issuer, a
    /// statement about the same, a certificate of the same chip at the same level.
    #[must_use]
    pub fn file_name(&self) -> String {
        let short = |bytes: &[u8]| Bytes::from(&bytes[..bytes.len().min(SHORT_BYTES)]).to_string();
        let by = &short(&self.signer)[..8];
        match &self.subject {
            Subject::Vcek { generation, chip, tcb } => {
                let levels: Vec<_> = tcb.parts().map(|(_, level)| level.to_string()).collect();
                let generation = generation.name().to_lowercase();
                format!("vcek-{generation}-{}-{}-{by}.der", short(chip), levels.join("-"))
            }
            Subject::Vlek { generation, .. } => {
                format!("vlek-{}-{}.der", generation.name().to_lowercase(), short(&self.digest))
            }
            Subject::Certificate(holder) => {
                format!("certificate-{}-{}.der", slug(holder), short(&self.digest))
            }
            Subject::List(issuer) => format!("crl-{}-{by}.der", slug(issuer)),
            Subject::TcbInfo(fmspc) => format!("tcb-info-{}-{by}.json", slug(fmspc)),
            Subject::QeIdentity(id) => format!("qe-identity-{}-{by}.json", slug(id)),
        }
    }

    /// Whether it says something newer than `other`, which is of the same.
    #[must_use]
    pub fn is_newer_than(&self, other: &Self) -> bool {
        (self.evaluation, self.begins_s) > (other.evaluation, other.begins_s)
    }

    /// Why it is of no use at a time in seconds since 1970; nothing if it is in force.
    #[must_use]
    pub fn out_of_force(&self, now_s: u64) -> Option<Reason> {
        let early = now_s < self.begins_s;
        if !early && now_s <= self.ends_s {
            return None;
        }
        Some(match self.subject {
            Subject::List(_) => Reason::ListStale,
            Subject::TcbInfo(_) => Reason::TdxTcbInfoStale,
            Subject::QeIdentity(_) => Reason::TdxQeIdentityStale,
            Subject::Vcek { .. } | Subject::Vlek { .. } | Subject::Certificate(_) if early => {
                Reason::CertificateNotYetValid
            }
            Subject::Vcek { .. } | Subject::Vlek { .. } | Subject::Certificate(_) => {
                Reason::CertificateExpired
            }
        })
    }
}

impl Endorsement {
    /// Says what it is, if one of `roots` vouches for it. Issuers are looked for `among` others of any kind.
    ///
    /// # Errors
    /// [`Refusal`] with the check that failed. [`Reason::IssuerMissing`] alone may become better with more of others.
    pub fn inspect(&self, among: &Endorsements, roots: &Roots) -> Result<Inspected, Refusal> {
        match &self.0 {
            Piece::Certificate(der) => certificate(der, among, roots),
            Piece::List(der) => list(der, among, roots),
            Piece::Statement(statement) => of_intel(statement, among, roots),
        }
        .map(|inspected| Inspected { digest: sha256(&[&self.bytes()]), ..inspected })
    }
}

fn certificate(der: &[u8], among: &Endorsements, roots: &Roots) -> Result<Inspected, Refusal> {
    let certificate = Certificate::parse(der)?;
    let [begins_s, ends_s] = certificate.dates_s();
    let inspected = |subject, root: &str, is_root, issuer: &Certificate<'_>| Inspected {
        subject,
        root: root.to_owned(),
        is_root,
        begins_s,
        ends_s,
        evaluation: 0,
        signer: sha256(&[issuer.spki()]),
        digest: [0; 32],
    };
    // A root that was issued anew is the same: its name and its key are believed.
    let is_root = |root: &[u8]| {
        Certificate::parse(root)
            .is_ok_and(|root| root.spki() == certificate.spki() && root.name() == certificate.name())
    };
    if let Some((label, _)) = roots.each().find(|(_, root)| is_root(root)) {
        return Ok(inspected(Subject::Certificate(certificate.name()), label, true, &certificate));
    }
    let (issuer, root) = climb(&certificate, among, roots)?;
    let vek = [Signer::Vcek, Signer::Vlek].iter().find_map(|signer| Vek::parse(der, *signer).transpose());
    let subject = match vek.transpose()? {
        None => Subject::Certificate(certificate.name()),
        Some(vek) => {
            certificate.check_use(false)?;
            let (generation, tcb) = (vek.generation, vek.tcb);
            match (vek.hardware_id, vek.provider) {
                (Some(chip), _) => Subject::Vcek { generation, chip: chip.to_vec(), tcb },
                (None, provider) => {
                    Subject::Vlek { generation, provider: printable(provider.unwrap_or_default()), tcb }
                }
            }
        }
    };
    Ok(inspected(subject, root, false, &issuer))
}

/// The issuer of a certificate, and the label of the root above it.
fn climb<'a>(
    certificate: &Certificate<'_>,
    among: &'a Endorsements,
    roots: &'a Roots,
) -> Result<(Certificate<'a>, &'a str), Refusal> {
    let known = || among.certificates().chain(roots.intermediates());
    let issuer_of = |issued: &Certificate<'_>| {
        let believed = roots.each().map(|(_, der)| der);
        let missing = || Reason::IssuerMissing.because(issued.issuer_name());
        match find_issuer(issued, believed, missing(), |_| Ok(())) {
            Ok((index, root)) => Ok((root, roots.each().nth(index).map(|(label, _)| label))),
            Err(refusal) => match find_issuer(issued, known(), missing(), |_| Ok(())) {
                Ok((_, issuer)) => Ok((issuer, None)),
                Err(tried) if tried.reason == Reason::IssuerMissing => Err(refusal),
                Err(tried) => Err(tried),
            },
        }
    };
    let (issuer, mut label) = issuer_of(certificate)?;
    let mut highest = None;
    for _ in 0..DEPTH_MAX {
        if let Some(label) = label {
            return Ok((issuer, label));
        }
        let unknown = |refusal: Refusal| {
            let missing = refusal.reason == Reason::IssuerMissing;
            if missing { Reason::RootUntrusted.because(refusal.detail) } else { refusal }
        };
        let (above, found) = issuer_of(highest.as_ref().unwrap_or(&issuer)).map_err(unknown)?;
        (highest, label) = (Some(above), found);
    }
    Err(Reason::RootUntrusted.because(issuer.issuer_name()))
}

fn list(der: &[u8], among: &Endorsements, roots: &Roots) -> Result<Inspected, Refusal> {
    let list = List::parse(der)?;
    let [begins_s, ends_s] = list.dates_s();
    let mut refusal = Reason::IssuerMissing.because(list.issuer_name());
    let known = among.certificates().chain(roots.intermediates()).map(|der| (None, der));
    for (label, der) in roots.each().map(|(label, der)| (Some(label), der)).chain(known) {
        let issuer = Certificate::parse(der)?;
        if !list.names_issuer(&issuer) {
            continue;
        }
        let checked = issuer.check_use(true).and_then(|()| list.check_signed(&issuer));
        let root = checked.and_then(|()| label.map_or_else(|| Ok(climb(&issuer, among, roots)?.1), Ok));
        match root {
            Ok(root) => {
                return Ok(Inspected {
                    subject: Subject::List(list.issuer_name()),
                    root: root.to_owned(),
                    is_root: false,
                    begins_s,
                    ends_s,
                    evaluation: 0,
                    signer: sha256(&[issuer.spki()]),
                    digest: [0; 32],
                });
            }
            Err(tried) => refusal = tried,
        }
    }
    Err(refusal)
}

fn of_intel(statement: &Statement, among: &Endorsements, roots: &Roots) -> Result<Inspected, Refusal> {
    let subject = match (statement.platform(), statement.id()) {
        (Some([fmspc, _]), "TDX") => Subject::TcbInfo(printable(&fmspc)),
        (None, "TD_QE") => Subject::QeIdentity("TD_QE".to_owned()),
        (_, id) => {
            return Err(Reason::TdxCollateralMalformed.because(format!("about {}, not TDX", printable(id))));
        }
    };
    let malformed = || Reason::TdxCollateralMalformed.because("its dates");
    let [begin, end] = statement.dates().map(x509::seconds_of);
    let (begins_s, ends_s) = begin.zip(end).ok_or_else(malformed)?;
    let mut refusal = Reason::IssuerMissing.because(STATEMENT_SIGNER);
    for der in among.certificates() {
        let certificate = Certificate::parse(der)?;
        let Some(key) = certificate.p256_key().filter(|_| certificate.name() == STATEMENT_SIGNER) else {
            continue;
        };
        match signed(statement, &certificate, &key, among, roots) {
            Ok(root) => {
                return Ok(Inspected {
                    subject,
                    root: root.to_owned(),
                    is_root: false,
                    begins_s,
                    ends_s,
                    evaluation: statement.evaluation(),
                    signer: sha256(&[certificate.spki()]),
                    digest: [0; 32],
                });
            }
            Err(tried) => refusal = tried,
        }
    }
    Err(refusal)
}

/// Checks that a certificate of a signer's is sound and that its key signed a statement; gives the label of the root.
fn signed<'a>(
    statement: &Statement,
    certificate: &Certificate<'_>,
    key: &PublicKey,
    among: &'a Endorsements,
    roots: &'a Roots,
) -> Result<&'a str, Refusal> {
    let root = climb(certificate, among, roots)?.1;
    certificate.check_use(false)?;
    let unsigned = match statement.platform() {
        Some(_) => Reason::TdxTcbInfoSignature,
        None => Reason::TdxQeIdentitySignature,
    };
    statement.signed_by(std::slice::from_ref(key)).map(|_| root).ok_or_else(|| unsigned.into())
}

/// Words of a name in lowercase, with a hyphen between them; at most 40 characters.
fn slug(name: &str) -> String {
    let letters: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { ' ' }).collect();
    letters.split_whitespace().collect::<Vec<_>>().join("-").chars().take(40).collect()
}
