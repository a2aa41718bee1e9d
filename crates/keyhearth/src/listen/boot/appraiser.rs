//! What evidence is judged by: endorsements and roots as configured, and what a machine's record adds.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use keyhearth_attest::{
    Demands, ENDORSEMENT_BYTES_MAX, Endorsements, Reason, Refusal, Revocation, Roots, appraise,
};
use keyhearth_core::machine::{Claim, Claims, Machine};
use keyhearth_core::principal::Fingerprint;
use keyhearth_proto::rest::Spelling as _;
use serde_json::Value;

use crate::config::{BootConfig, ConfigError};

/// What evidence is judged by.
pub struct Appraiser {
    endorsements: Endorsements,
    roots: Roots,
    require_revocation: bool,
    legacy_reports: bool,
    vmpl: u32,
}

impl Appraiser {
    /// Reads what the configuration names.
    ///
    /// # Errors
    /// [`ConfigError`] for a file that cannot be read, or is none of what it should be.
    pub fn new(config: &BootConfig) -> Result<Self, ConfigError> {
        let mut endorsements = Endorsements::default();
        if let Some(folder) = &config.endorsements {
            let mut paths = fs::read_dir(folder)
                .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>())
                .map_err(|error| ConfigError::Read { path: folder.clone(), error })?;
            paths.sort();
            for path in paths.iter().filter(|path| path.is_file()) {
                let added = endorsements.add(&read(path)?);
                added.map_err(|refusal| ConfigError::Endorsement { path: path.clone(), refusal })?;
            }
        }
        let mut roots = Roots::built_in();
        for (label, path) in &config.roots {
            let certificate = read(path)?;
            roots = match roots.clone().with_amd(label, &certificate) {
                Ok(roots) => roots,
                Err(_) => roots
                    .with_intel(label, &certificate)
                    .map_err(|error| ConfigError::Root { path: path.clone(), error })?,
            };
        }
        let BootConfig { require_revocation, legacy_reports, vmpl, .. } = *config;
        Ok(Self { endorsements, roots, require_revocation, legacy_reports, vmpl })
    }

    /// Appraises what a machine brought. `given` are endorsements that came with it: they are checked as all others.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn appraise(
        &self,
        machine: &Machine,
        evidence: &[u8],
        given: &[Vec<u8>],
        report_data: [u8; 64],
    ) -> Result<Claims, Refusal> {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let demands = Demands {
            report_data: Some(report_data),
            revocation: if self.require_revocation { Revocation::Demanded } else { Revocation::IfGiven },
            vmpl: self.vmpl,
            legacy_reports: self.legacy_reports,
            enrolled_aks: enrolled_aks(machine),
            ..Demands::at(now_s)
        };
        let mut endorsements = self.endorsements.clone();
        for one in given {
            endorsements.add(one)?;
        }
        let claims = appraise(evidence, &endorsements, &self.roots, &demands)?;
        let value = serde_json::to_value(&claims).map_err(|_| Refusal::from(Reason::EvidenceUnknown))?;
        let Value::Object(members) = value else { return Err(Reason::EvidenceUnknown.into()) };
        Ok(members.into_iter().filter_map(|(name, value)| Some((name, claim(value)?))).collect())
    }
}

/// The attestation keys of TPMs that the machine was enrolled with: its reference values of the claim `ak`.
fn enrolled_aks(machine: &Machine) -> Vec<[u8; 32]> {
    let values = machine.reference.get("ak").into_iter().flatten();
    values.filter_map(|digits| Fingerprint::read(digits).map(|Fingerprint(digest)| digest)).collect()
}

/// A claim as policies read it; nothing for what is not claimed.
fn claim(value: Value) -> Option<Claim> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(value) => Claim::Bool(value),
        Value::Number(value) => match value.as_i64() {
            Some(value) => Claim::Number(value),
            None => Claim::Text(value.to_string()),
        },
        Value::String(value) => Claim::Text(value),
        Value::Array(values) => Claim::Texts(
            values
                .iter()
                .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
                .collect(),
        ),
        Value::Object(members) => Claim::Record(
            members.into_iter().filter_map(|(name, value)| Some((name, claim(value)?))).collect(),
        ),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let failed = |error| ConfigError::Read { path: path.to_owned(), error };
    if fs::metadata(path).map_err(failed)?.len() > ENDORSEMENT_BYTES_MAX as u64 {
        return Err(ConfigError::TooLong(path.to_owned()));
    }
    fs::read(path).map_err(failed)
}
