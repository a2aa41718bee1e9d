//! `boot appraise`: verifies evidence, and what a cloud says of its instance. It believes the roots in this program and those that are named, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use keyhearth::listen::boot::clouds;
use keyhearth_attest::cloud::{self, CloudClaims, DOCUMENT_BYTES_MAX};
use keyhearth_attest::{
    Area, Claims, Demands, ENDORSEMENT_BYTES_MAX, ENROLLED, EVIDENCE_BYTES_MAX, Endorsements,
    REPORT_DATA_BYTES, Reason, Refusal, Revocation, Roots, appraise,
};
use keyhearth_core::time::Time;
use keyhearth_proto::rest::Is;
use serde::Serialize;

use super::show::show;
use crate::cli::failure::Failure;
use crate::cli::input;
use crate::cli::session::Session;
use crate::cli::spelled::{pair, spelled};

#[derive(Args)]
pub struct Appraisal {
    /// The evidence, as the hardware gave it; a TPM's in a document of docs/formats/tpm-evidence.md.
    #[arg(long, value_name = "FILE", required_unless_present = "cloud")]
    evidence: Option<PathBuf>,
    /// Folder with certificates and revocation lists (PEM or DER) and Intel's collateral (JSON), whatever their names.
    #[arg(long, value_name = "FOLDER")]
    endorsements: Option<PathBuf>,
    /// The cloud's document of identity, as its metadata service gave it.
    #[arg(long, value_name = "FILE", requires = "clouds")]
    cloud: Option<PathBuf>,
    /// Folder with the folders aws, gcp, azure, azure-us and azure-cn, whose certificates vouch for such documents.
    #[arg(long, value_name = "FOLDER")]
    clouds: Option<PathBuf>,
    /// When the evidence is judged; now if absent.
    #[arg(long, value_name = "TIME", value_parser = spelled::<Time>())]
    at: Option<Is<Time>>,
    /// What the evidence must carry as report data, up to 64 bytes; zeroes follow a shorter one. A TPM's quote
    /// carries the SHA-256 of that.
    #[arg(long, value_name = "HEX", value_parser = report_data)]
    nonce: Option<[u8; REPORT_DATA_BYTES]>,
    /// The privilege level that must have asked for an SNP report.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=3))]
    vmpl: u32,
    /// Accept SNP reports of version 2, which do not name the processor.
    #[arg(long)]
    legacy: bool,
    /// Accept TDX platforms on which Intel says that software must be hardened.
    #[arg(long)]
    sw_hardening: bool,
    /// Refuse without a revocation list that is in force.
    #[arg(long)]
    require_crl: bool,
    /// SHA-256 of the attestation key (`SubjectPublicKeyInfo`) that a machine with a TPM was enrolled with; can be
    /// given again.
    #[arg(long = "ak", value_name = "HEX", value_parser = fingerprint)]
    aks: Vec<[u8; 32]>,
    /// A further root to believe, which claims then name; can be given again.
    #[arg(long = "root", value_name = "LABEL=FILE", value_parser = pair)]
    roots: Vec<(String, String)>,
}

/// What `appraise` found.
#[derive(Serialize)]
struct Accepted<'a> {
    result: &'static str,
    #[serde(flatten)]
    claims: Option<&'a Claims>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cloud: Option<CloudClaims>,
}

impl Appraisal {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let now_s = match &self.at {
            Some(at) => at.0.unix_ms() / 1000,
            None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        };
        let demands = Demands {
            report_data: self.nonce,
            revocation: if self.require_crl { Revocation::Demanded } else { Revocation::IfGiven },
            vmpl: self.vmpl,
            legacy_reports: self.legacy,
            sw_hardening: self.sw_hardening,
            enrolled_aks: self.aks.clone(),
            ..Demands::at(now_s)
        };
        let roots = extra_roots(&self.roots)?;
        let endorsements = self.endorsements.as_deref().map(read_folder).transpose()?.unwrap_or_default();
        let appraised = |path: &PathBuf| {
            let evidence = input::read(path, EVIDENCE_BYTES_MAX)?;
            appraise(&evidence, &endorsements, &roots, &demands).map_err(refused)
        };
        let claims = self.evidence.as_ref().map(appraised).transpose()?;
        let cloud = self.cloud(&demands)?;
        let accepted = Accepted { result: "accepted", claims: claims.as_ref(), cloud };
        show(session, &accepted)?;
        if session.json() {
            return Ok(());
        }
        if self.nonce.is_none() {
            session.hint("Whether it is fresh was not checked: give --nonce.");
        }
        // What the caller knows itself has no certificates.
        if claims.is_some_and(|claims| !claims.revocation_checked && claims.root != ENROLLED) {
            session.hint("Whether a certificate was revoked was not checked: give a current list.");
        }
        Ok(())
    }

    /// What the cloud says, if there is a document of it.
    fn cloud(&self, demands: &Demands) -> Result<Option<CloudClaims>, Failure> {
        let (Some(path), Some(folder)) = (&self.cloud, &self.clouds) else { return Ok(None) };
        let document = input::read(path, DOCUMENT_BYTES_MAX)?;
        let clouds = clouds::read(folder, cloud::providers(&document));
        let clouds = clouds.map_err(|error| Failure::new(error, "correct --clouds"))?;
        cloud::verify(&document, &clouds, demands).map(Some).map_err(refused)
    }
}

/// The roots in this program, and those that are named.
pub fn extra_roots(named: &[(String, String)]) -> Result<Roots, Failure> {
    named.iter().try_fold(Roots::built_in(), |roots, (label, path)| {
        let certificate = input::read(Path::new(path), ENDORSEMENT_BYTES_MAX)?;
        let added = roots.with(label, &certificate);
        added.map_err(|error| Failure::new(error, "correct --root"))
    })
}

/// Every file of the folder; folders in it are left out.
fn read_folder(folder: &Path) -> Result<Endorsements, Failure> {
    let failed = |error: std::io::Error| Failure::at(folder.display(), &error);
    let entries = fs::read_dir(folder).map_err(failed)?;
    let mut paths: Vec<_> =
        entries.map(|entry| Ok(entry.map_err(failed)?.path())).collect::<Result<_, Failure>>()?;
    paths.sort();
    let mut endorsements = Endorsements::of_deployment();
    for path in paths.iter().filter(|path| path.is_file()) {
        endorsements.add(&input::read(path, ENDORSEMENT_BYTES_MAX)?).map_err(|refusal| {
            let next = "keep only certificates, revocation lists and Intel's collateral in that folder";
            Failure::new(format_args!("{}: {refusal}", path.display()), next)
        })?;
    }
    Ok(endorsements)
}

fn refused(refusal: Refusal) -> Failure {
    let next = match (refusal.reason, refusal.reason.area()) {
        (
            Reason::SnpCertificateMissing
            | Reason::TdxCertificateMissing
            | Reason::TdxTcbInfoMissing
            | Reason::TdxQeIdentityMissing
            | Reason::TdxTcbInfoStale
            | Reason::TdxQeIdentityStale,
            _,
        )
        | (_, Area::Certificates) => {
            "give the endorsements that belong to it; docs/boot/appraisal.md says where they come from"
        }
        (Reason::TdxTcbHardening, _) => {
            "give --sw-hardening if this machine's software is hardened as Intel advises"
        }
        (Reason::CloudUntrusted, _) => {
            "put that cloud's certificates into --clouds; docs/boot/appraisal.md says where they come from"
        }
        (Reason::EvidenceTooLarge | Reason::EvidenceUnknown, _) => "give what the hardware gave, unchanged",
        (Reason::TpmKeyUntrusted, _) => {
            "compare it with what the machine was enrolled with, and give that as --ak; take none from the evidence"
        }
        (
            _,
            Area::Evidence | Area::Snp | Area::Tdx | Area::Tpm | Area::EventLog | Area::Azure | Area::Cloud,
        ) => "give this machine no key before that is explained; see docs/boot/appraisal.md",
    };
    Failure::of(refusal.reason.code(), refusal.reason.sentence(), &refusal.detail, next)
}

/// Reads report data from hexadecimal digits.
fn report_data(text: &str) -> Result<[u8; REPORT_DATA_BYTES], String> {
    let rule = || format!("must be 1 to {REPORT_DATA_BYTES} bytes in hexadecimal digits");
    let mut bytes =
        digits(text).filter(|bytes| (1..=REPORT_DATA_BYTES).contains(&bytes.len())).ok_or_else(rule)?;
    bytes.resize(REPORT_DATA_BYTES, 0);
    bytes.try_into().map_err(|_| rule())
}

/// Reads a SHA-256 digest.
fn fingerprint(text: &str) -> Result<[u8; 32], String> {
    let bytes = digits(text).and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| "must be 32 bytes in hexadecimal digits".to_owned())
}

fn digits(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = text.chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let byte = |pair: &[u32]| match pair {
        [high, low] => u8::try_from(high << 4 | low).ok(),
        _ => None,
    };
    digits.chunks(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_data_is_padded() {
        let bytes = report_data("00ff7A").expect("three bytes");
        assert_eq!((&bytes[..3], bytes[3..].iter().any(|byte| *byte != 0)), (&[0, 0xff, 0x7a][..], false));
        assert!(report_data(&"ab".repeat(64)).is_ok());
        for wrong in ["", "0", "xx", "+f", &"ab".repeat(65)] {
            assert!(report_data(wrong).is_err(), "{wrong}");
        }
    }
}
