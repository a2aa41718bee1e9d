//! `boot …`: evidence of machines that ask for keys before they boot.
//!
//! `appraise` is offline: it believes the roots in this program and those that are named, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use keyhearth_attest::{
    Area, Claims, Demands, ENDORSEMENT_BYTES_MAX, ENROLLED, EVIDENCE_BYTES_MAX, Endorsements,
    REPORT_DATA_BYTES, Reason, Refusal, Revocation, Roots, appraise,
};
use keyhearth_core::time::Time;
use keyhearth_proto::rest::Is;
use serde::Serialize;
use serde_json::{Map, Value};

use super::failure::Failure;
use super::input;
use super::machine;
use super::session::Session;
use super::spelled::{pair, spelled};

/// Where wide values are broken, in characters: 24 bytes in digits. Names of claims leave so much of 80 columns.
const VALUE_CHARS: usize = 48;

#[derive(Subcommand)]
pub enum Verb {
    #[command(flatten)]
    Machine(machine::Verb),
    /// Verifies attestation evidence and prints what it claims, offline
    Appraise(Appraisal),
}

#[derive(Args)]
pub struct Appraisal {
    /// The evidence, as the hardware gave it; a TPM's in a document of docs/formats/tpm-evidence.md.
    #[arg(long, value_name = "FILE")]
    evidence: PathBuf,
    /// Folder with certificates and revocation lists (PEM or DER) and Intel's collateral (JSON), whatever their names.
    #[arg(long, value_name = "FOLDER")]
    endorsements: Option<PathBuf>,
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

impl Verb {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Machine(verb) => verb.run(session),
            Self::Appraise(appraisal) => appraisal.run(session),
        }
    }
}

/// What `appraise` found.
#[derive(Serialize)]
struct Accepted<'a> {
    result: &'static str,
    #[serde(flatten)]
    claims: &'a Claims,
}

impl Appraisal {
    fn run(self, session: &Session) -> Result<(), Failure> {
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
        let roots = self.roots()?;
        let endorsements = self.endorsements.as_deref().map(read_folder).transpose()?.unwrap_or_default();
        let evidence = input::read(&self.evidence, EVIDENCE_BYTES_MAX)?;
        let claims = appraise(&evidence, &endorsements, &roots, &demands).map_err(refused)?;
        let accepted = Accepted { result: "accepted", claims: &claims };
        if session.json() {
            return session.show(&accepted);
        }
        let value = serde_json::to_value(&accepted).map_err(|error| Failure::new(error, "report this"))?;
        let members = value.as_object().into_iter().flatten();
        session.show(&members.flat_map(|(name, value)| rows(name, value)).collect::<Map<_, _>>())?;
        if self.nonce.is_none() {
            session.hint("Whether it is fresh was not checked: give --nonce.");
        }
        // What the caller knows itself has no certificates.
        if !claims.revocation_checked && claims.root != ENROLLED {
            session.hint("Whether a certificate was revoked was not checked: give a current list.");
        }
        Ok(())
    }

    fn roots(&self) -> Result<Roots, Failure> {
        self.roots.iter().try_fold(Roots::built_in(), |roots, (label, path)| {
            let certificate = input::read(Path::new(path), ENDORSEMENT_BYTES_MAX)?;
            let added = roots.with(label, &certificate);
            added.map_err(|error| Failure::new(error, "correct --root"))
        })
    }
}

/// Every file of the folder; folders in it are left out.
fn read_folder(folder: &Path) -> Result<Endorsements, Failure> {
    let failed = |error: std::io::Error| Failure::at(folder.display(), &error);
    let entries = fs::read_dir(folder).map_err(failed)?;
    let mut paths: Vec<_> =
        entries.map(|entry| Ok(entry.map_err(failed)?.path())).collect::<Result<_, Failure>>()?;
    paths.sort();
    let mut endorsements = Endorsements::default();
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
        (Reason::EvidenceTooLarge | Reason::EvidenceUnknown, _) => "give what the hardware gave, unchanged",
        (Reason::TpmKeyUntrusted, _) => {
            "compare it with what the machine was enrolled with, and give that as --ak; take none from the evidence"
        }
        (_, Area::Evidence | Area::Snp | Area::Tdx | Area::Tpm | Area::EventLog | Area::Azure) => {
            "give this machine no key before that is explained; see docs/boot/appraisal.md"
        }
    };
    Failure::of(refusal.reason.code(), refusal.reason.sentence(), &refusal.detail, next)
}

/// Claims for people, by their names: records of bits and numbers are one, others one for each member.
fn rows(name: &str, value: &Value) -> Vec<(String, Value)> {
    match value.as_object() {
        Some(members) if members.values().any(|member| !member.is_boolean() && !member.is_number()) => {
            members.iter().flat_map(|(member, value)| rows(&format!("{name} {member}"), value)).collect()
        }
        _ => vec![(name.to_owned(), in_words(value))],
    }
}

/// A claim for people: bits that are set and numbers by their names, and nothing wider than [`VALUE_CHARS`].
fn in_words(value: &Value) -> Value {
    let part = |(name, value): (&String, &Value)| match value.as_bool() {
        Some(yes) => yes.then(|| name.replace('_', " ")),
        None => Some(format!("{} {value}", name.replace('_', " "))),
    };
    if let Some(members) = value.as_object() {
        broken(&members.iter().filter_map(part).collect::<Vec<_>>().join(", ")).into()
    } else if let Some(texts) = value.as_array() {
        let texts: Vec<_> = texts.iter().map(|text| broken(text.as_str().unwrap_or_default())).collect();
        texts.join("\n").into()
    } else if let Some(text) = value.as_str() {
        broken(text).into()
    } else {
        value.clone()
    }
}

/// The text in lines: broken at spaces, or anywhere in words that are wider than a line.
fn broken(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always a line");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() <= VALUE_CHARS {
            line.push(' ');
            line.push_str(word);
            continue;
        }
        let letters: Vec<_> = word.chars().collect();
        lines.extend(letters.chunks(VALUE_CHARS).map(|part| part.iter().collect()));
    }
    lines[1..].join("\n")
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
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_are_shown_in_words_that_fit() {
        let policy = json!({ "abi_major": 1, "smt": true, "debug": false, "single_socket": true });
        assert_eq!(in_words(&policy), json!("abi major 1, smt, single socket"));
        assert_eq!(rows("policy", &policy).len(), 1);
        let boot = json!({ "phase": "ready", "mok": ["aa", "bb"], "secure_boot": true });
        let told = [
            ("boot mok", json!("aa\nbb")),
            ("boot phase", json!("ready")),
            ("boot secure_boot", json!(true)),
        ];
        let mut shown = rows("boot", &boot);
        shown.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(shown, told.map(|(name, value)| (name.to_owned(), value)));
        let digits = "0".repeat(2 * VALUE_CHARS + 1);
        let lines: Vec<_> = broken(&digits).lines().map(str::len).collect();
        assert_eq!(lines, [VALUE_CHARS, VALUE_CHARS, 1]);
        assert_eq!(broken(""), "");
        assert!(broken(&"word ".repeat(40)).lines().all(|line| line.len() <= VALUE_CHARS));
    }

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
