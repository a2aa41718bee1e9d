//! What evidence is judged by: endorsements and roots as configured, and what a machine's record adds.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keyhearth_attest::cloud::{self, Clouds};
use keyhearth_attest::{Demands, Endorsements, Reason, Refusal, Revocation, appraise};
use keyhearth_core::machine::{Claim, Claims, Machine};
use keyhearth_core::principal::Fingerprint;
use keyhearth_proto::rest::Spelling as _;
use serde::Serialize;
use serde_json::Value;

use super::clouds;
use crate::endorsements::Shelf;

/// What evidence is judged by.
pub struct Appraiser {
    shelf: Arc<Shelf>,
    rules: Rules,
    clouds: Option<PathBuf>,
}

/// What a machine showed is not believed, or cannot be judged.
#[derive(Debug)]
pub enum Failure {
    /// It is not believed.
    Refused(Refusal),
    /// What it is judged by is lacking, and is fetched meanwhile.
    Lacking(Duration),
    /// What it is judged by cannot be read now.
    Unreadable(clouds::Error),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// What a deployment asks of all evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// What is required of revocation lists.
    pub revocation: Revocation,
    /// Whether SNP reports of version 2 will do.
    pub legacy_reports: bool,
    /// The privilege level that must have asked for an SNP report.
    pub vmpl: u32,
}

impl Appraiser {
    /// Judges by these endorsements and their roots, and these rules.
    #[must_use]
    pub fn new(shelf: Arc<Shelf>, rules: Rules) -> Self {
        Self { shelf, rules, clouds: None }
    }

    /// The same, with a folder of what documents of clouds are judged by; without one none is believed.
    #[must_use]
    pub fn with_clouds(self, folder: Option<PathBuf>) -> Self {
        Self { clouds: folder, ..self }
    }

    /// The folder of what documents of clouds are judged by; without one none is believed.
    #[must_use]
    pub fn clouds(&self) -> Option<&Path> {
        self.clouds.as_deref()
    }

    /// The endorsements.
    #[must_use]
    pub fn shelf(&self) -> &Arc<Shelf> {
        &self.shelf
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
        let demands = Demands {
            report_data: Some(report_data),
            revocation: self.rules.revocation,
            vmpl: self.rules.vmpl,
            legacy_reports: self.rules.legacy_reports,
            enrolled_aks: enrolled_aks(machine),
            ..Demands::at(now_s())
        };
        let (mut brought, mut endorsements) = (Endorsements::default(), self.shelf.fitting(evidence));
        given.iter().try_for_each(|one| brought.add(one))?;
        endorsements.add_all(&brought)?;
        let claims = appraise(evidence, &endorsements, self.shelf.roots(), &demands)?;
        record(&claims)
    }

    /// Checks a document of a cloud. The folder is read each time: clouds change their keys more often than servers start.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn cloud(&self, document: &[u8], report_data: [u8; 64]) -> Result<Claims, Failure> {
        let read = |folder| clouds::read(folder, cloud::providers(document));
        let clouds = self.clouds.as_deref().map_or_else(|| Ok(Clouds::default()), read);
        let demands = Demands { report_data: Some(report_data), ..Demands::at(now_s()) };
        let claims = cloud::verify(document, &clouds.map_err(Failure::Unreadable)?, &demands)?;
        Ok(record(&claims)?)
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Claims as policies read them.
fn record(claims: &impl Serialize) -> Result<Claims, Refusal> {
    let value = serde_json::to_value(claims).map_err(|_| Refusal::from(Reason::EvidenceUnknown))?;
    let Value::Object(members) = value else { return Err(Reason::EvidenceUnknown.into()) };
    Ok(members.into_iter().filter_map(|(name, value)| Some((name, claim(value)?))).collect())
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
