//! What others say about the hardware, and whom of them one believes.
//!
//! Endorsements come from anybody, the attested machine included, and are believed only as far as a root vouches
//! for them. Roots are believed.

use std::fmt;

use x509_parser::pem::Pem;

use crate::reason::{Reason, Refusal};
use crate::snp::{self, AmdRoot};
use crate::tdx::{self, Collateral, IntelRoot, Statement};
use crate::x509::{self, Certificate};

/// The most certificates that are taken.
pub const CERTIFICATES_MAX: usize = 32;
/// The most revocation lists that are taken.
pub const LISTS_MAX: usize = 16;
/// The most statements of Intel's (TCB info, QE identity) that are taken.
pub const STATEMENTS_MAX: usize = 16;
/// The longest endorsement file. Certificates have less than 2 kB; lists grow with what is revoked.
pub const ENDORSEMENT_BYTES_MAX: usize = 1 << 20;
/// The name of the roots in this program.
pub const BUILT_IN: &str = "built-in";
/// What stands for a root where the caller knows the key itself.
pub const ENROLLED: &str = "enrolled";

const LABEL_CHARS_MAX: usize = 64;

/// How many of each kind are taken.
#[derive(Clone, Copy, Debug)]
struct Limits {
    certificates: usize,
    lists: usize,
    statements: usize,
}

/// With one evidence.
const OF_EVIDENCE: Limits =
    Limits { certificates: CERTIFICATES_MAX, lists: LISTS_MAX, statements: STATEMENTS_MAX };
/// In a folder for a whole deployment.
const OF_DEPLOYMENT: Limits = Limits { certificates: 4096, lists: 256, statements: 256 };

/// Certificates, revocation lists and Intel's statements that were given with evidence.
#[derive(Clone, Debug)]
pub struct Endorsements {
    certificates: Vec<Vec<u8>>,
    lists: Vec<Vec<u8>>,
    statements: Vec<Statement>,
    limits: Limits,
}

impl Default for Endorsements {
    fn default() -> Self {
        Self { certificates: Vec::new(), lists: Vec::new(), statements: Vec::new(), limits: OF_EVIDENCE }
    }
}

impl Endorsements {
    /// None yet, with room for those of a whole deployment: 4,096 certificates, 256 lists and 256 statements.
    #[must_use]
    pub fn of_deployment() -> Self {
        Self { limits: OF_DEPLOYMENT, ..Self::default() }
    }

    /// Adds a certificate or a revocation list in DER, or any number of both in PEM or in the table that a host
    /// gives with an SNP report, whose entries of other kinds are left out; or collateral of Intel's in JSON: an
    /// answer of its service or a whole `QuoteCollateralV3`. Repeated ones count once.
    ///
    /// # Errors
    /// [`Reason::EndorsementMalformed`]; [`Reason::EndorsementTooLarge`] beyond [`CERTIFICATES_MAX`],
    /// [`LISTS_MAX`], [`STATEMENTS_MAX`] (or what [`Self::of_deployment`] has room for) or [`ENDORSEMENT_BYTES_MAX`].
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if bytes.len() > ENDORSEMENT_BYTES_MAX {
            return Err(Reason::EndorsementTooLarge.because(format!("{} bytes", bytes.len())));
        }
        if bytes.trim_ascii_start().first() != Some(&JSON_OBJECT) {
            return self.add_x509(bytes);
        }
        let collateral = Collateral::parse(bytes)?;
        collateral.files.iter().try_for_each(|file| self.add_x509(file))?;
        let limit = self.limits.statements;
        collateral
            .statements
            .into_iter()
            .try_for_each(|statement| keep(&mut self.statements, statement, limit))
    }

    /// Adds one that was taken apart already.
    ///
    /// # Errors
    /// [`Reason::EndorsementTooLarge`], as [`Self::add`].
    pub fn add_one(&mut self, one: &Endorsement) -> Result<(), Refusal> {
        match &one.0 {
            Piece::Certificate(der) => keep(&mut self.certificates, der.clone(), self.limits.certificates),
            Piece::List(der) => keep(&mut self.lists, der.clone(), self.limits.lists),
            Piece::Statement(statement) => {
                keep(&mut self.statements, statement.clone(), self.limits.statements)
            }
        }
    }

    /// Adds all of `others`.
    ///
    /// # Errors
    /// [`Reason::EndorsementTooLarge`], as [`Self::add`].
    pub fn add_all(&mut self, others: &Self) -> Result<(), Refusal> {
        others.each().try_for_each(|one| self.add_one(&one))
    }

    /// The certificates of issuers and of signers of statements alone: all that others can rest on.
    #[must_use]
    pub fn issuers(&self) -> Self {
        let vouches = |der: &&Vec<u8>| Certificate::parse(der).is_ok_and(|one| one.vouches());
        let certificates = self.certificates.iter().filter(vouches).cloned().collect();
        Self { certificates, ..Self::of_deployment() }
    }

    /// Each on its own.
    pub fn each(&self) -> impl Iterator<Item = Endorsement> {
        let certificates = self.certificates.iter().cloned().map(Piece::Certificate);
        let lists = self.lists.iter().cloned().map(Piece::List);
        let statements = self.statements.iter().cloned().map(Piece::Statement);
        certificates.chain(lists).chain(statements).map(Endorsement)
    }

    /// Adds what is in DER or PEM.
    fn add_x509(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if bytes.first() == Some(&DER_SEQUENCE) {
            return self.add_der(bytes.to_vec());
        }
        if let Some(entries) = snp::table_contents(bytes) {
            let mut known = entries.into_iter().filter(|der| x509::is_certificate(der) || x509::is_list(der));
            return known.try_for_each(|der| self.add_der(der.to_vec()));
        }
        let mut found = false;
        for block in Pem::iter_from_buffer(bytes) {
            let block = block.map_err(|_| Reason::EndorsementMalformed.because("not PEM"))?;
            self.add_der(block.contents)?;
            found = true;
        }
        if found { Ok(()) } else { Err(Reason::EndorsementMalformed.because("neither DER nor PEM")) }
    }

    fn add_der(&mut self, der: Vec<u8>) -> Result<(), Refusal> {
        let (kept, limit) = if x509::is_certificate(&der) {
            (&mut self.certificates, self.limits.certificates)
        } else if x509::is_list(&der) {
            (&mut self.lists, self.limits.lists)
        } else {
            return Err(Reason::EndorsementMalformed.because("neither a certificate nor a revocation list"));
        };
        keep(kept, der, limit)
    }

    /// The certificates, as DER.
    pub(crate) fn certificates(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.certificates.iter().map(Vec::as_slice)
    }

    /// The revocation lists, as DER.
    pub(crate) fn lists(&self) -> impl Iterator<Item = &[u8]> {
        self.lists.iter().map(Vec::as_slice)
    }

    /// What Intel says.
    pub(crate) fn statements(&self) -> impl Iterator<Item = &Statement> {
        self.statements.iter()
    }
}

/// One certificate, revocation list or statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endorsement(pub(crate) Piece);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Certificate(Vec<u8>),
    List(Vec<u8>),
    Statement(Statement),
}

impl Endorsement {
    /// As [`Endorsements::add`] reads it: DER, or JSON as Intel's service answers.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        match &self.0 {
            Piece::Certificate(der) | Piece::List(der) => der.clone(),
            Piece::Statement(statement) => statement.to_json().into_bytes(),
        }
    }
}

/// Adds what is not there yet.
fn keep<T: PartialEq>(kept: &mut Vec<T>, given: T, limit: usize) -> Result<(), Refusal> {
    if kept.contains(&given) {
        return Ok(());
    }
    if kept.len() == limit {
        return Err(Reason::EndorsementTooLarge.because(format!("more than {limit} of one kind")));
    }
    kept.push(given);
    Ok(())
}

const DER_SEQUENCE: u8 = 0x30;
const JSON_OBJECT: u8 = b'{';

/// Roots that are believed: those in this program, and those that the caller adds.
#[derive(Clone, Debug)]
pub struct Roots {
    pub(crate) amd: Vec<AmdRoot>,
    pub(crate) intel: Vec<IntelRoot>,
}

impl Roots {
    /// The makers' roots, as this program was built with them.
    #[must_use]
    pub fn built_in() -> Self {
        Self { amd: snp::built_in_roots(), intel: tdx::built_in_roots() }
    }

    /// Every root: its label and its certificate in DER.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&str, &[u8])> + Clone {
        let amd = self.amd.iter().map(|root| (root.label.as_str(), root.certificate.as_slice()));
        amd.chain(self.intel.iter().map(|root| (root.label.as_str(), root.certificate.as_slice())))
    }

    /// Certificates of issuers that are known with the roots.
    pub(crate) fn intermediates(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.amd.iter().flat_map(|root| root.intermediates.iter().map(Vec::as_slice))
    }

    /// Adds a root of either form: Intel's have keys of P-256, AMD's others.
    ///
    /// # Errors
    /// [`RootError`], as for [`Self::with_amd`].
    pub fn with(self, label: &str, certificate: &[u8]) -> Result<Self, RootError> {
        let der = Self::extra(label, certificate)?;
        let is_intel = Certificate::parse(&der).is_ok_and(|root| root.p256_key().is_some());
        if is_intel { self.with_intel(label, &der) } else { self.with_amd(label, &der) }
    }

    /// Adds a root of AMD's form (an ARK), in PEM or DER. Claims name it by its label, so that a policy can tell
    /// what rests on it from what AMD vouches for.
    ///
    /// # Errors
    /// [`RootError`] for a label that is not 1 to 64 characters of `a-z0-9-` or is [`BUILT_IN`] or [`ENROLLED`], and for what is
    /// not one certificate.
    pub fn with_amd(mut self, label: &str, certificate: &[u8]) -> Result<Self, RootError> {
        self.amd.push(AmdRoot::extra(label, Self::extra(label, certificate)?));
        Ok(self)
    }

    /// Adds a root of Intel's form, as [`Self::with_amd`] does.
    ///
    /// # Errors
    /// [`RootError`] for the same.
    pub fn with_intel(mut self, label: &str, certificate: &[u8]) -> Result<Self, RootError> {
        self.intel.push(IntelRoot::extra(label, Self::extra(label, certificate)?));
        Ok(self)
    }

    /// Checks the label of a root and that it is one certificate; gives its DER.
    fn extra(label: &str, certificate: &[u8]) -> Result<Vec<u8>, RootError> {
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        if label.is_empty()
            || label.len() > LABEL_CHARS_MAX
            || !label.bytes().all(allowed)
            || [BUILT_IN, ENROLLED].contains(&label)
        {
            return Err(RootError::Label);
        }
        let mut given = Endorsements::default();
        given.add(certificate).map_err(|_| RootError::Certificate)?;
        let [der] = <[Vec<u8>; 1]>::try_from(given.certificates).map_err(|_| RootError::Certificate)?;
        Certificate::parse(&der).map_err(|_| RootError::Certificate)?;
        Ok(der)
    }
}

/// Why a root was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootError {
    /// The label.
    Label,
    /// The certificate.
    Certificate,
}

impl fmt::Display for RootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label => write!(
                f,
                "the label of a root is 1 to {LABEL_CHARS_MAX} characters of a-z, 0-9 and -, and neither {BUILT_IN} nor {ENROLLED}"
            ),
            Self::Certificate => f.write_str("a root is one certificate in PEM or DER"),
        }
    }
}

impl std::error::Error for RootError {}
