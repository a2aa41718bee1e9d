//! The messages as JSON.

use std::collections::BTreeMap;
use std::fmt;

use keyhearth_core::Error;
use keyhearth_core::id::{DeploymentId, Name, PrincipalId, RequestId};
use keyhearth_core::machine::{Proposal, check_expected};
use serde::de::{Deserializer, Error as _};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use super::release::Release;
use super::transcript::Tee;
use super::{
    ATTEST_BYTES_MAX, BODY_BYTES_MAX, CLOUD_BYTES_MAX, ENDORSEMENT_BYTES_MAX, ENDORSEMENTS_MAX,
    EVIDENCE_BYTES_MAX, NONCE_BYTES, SECRET_BYTES, SESSION_BYTES, TOKEN_BYTES, VOLUMES_MAX,
};
use crate::rest::{Bytes, Is, Refused as Nowhere};

/// Exactly `N` bytes, as base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed<const N: usize>(pub [u8; N]);

impl<const N: usize> Serialize for Fixed<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Bytes::<N>::from(&self.0[..]).serialize(serializer)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Fixed<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Bytes::<N>::deserialize(deserializer)?;
        let bytes: &[u8] = &bytes;
        bytes.try_into().map(Self).map_err(|_| D::Error::custom("has another length"))
    }
}

/// `POST /boot/v1/challenge`: a machine asks for a nonce.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Challenge {
    /// Which machine it says it is.
    pub machine: Is<PrincipalId>,
    /// What will vouch for it.
    pub tee: Tee,
    /// What it wants to open; at most [`VOLUMES_MAX`], each once. None from a machine that runs and only says so.
    pub volumes: Vec<Is<Name>>,
}

/// The nonce, which serves once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Challenged {
    /// Names what follows.
    pub session: Fixed<SESSION_BYTES>,
    /// What the evidence must carry, by way of the transcript.
    pub nonce: Fixed<NONCE_BYTES>,
    /// The deployment that asks.
    pub server: Is<DeploymentId>,
    /// How long it may be answered.
    pub expires_in_s: u32,
}

/// `POST /boot/v1/attest`: the evidence, and to whom the answer is sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attest {
    /// As in [`Challenged`].
    pub session: Fixed<SESSION_BYTES>,
    /// An HPKE public key of X-Wing, 1216 bytes, made for this request.
    pub ephemeral: Bytes<1216>,
    /// The [`super::header_hash`] of each volume, in the order of the challenge.
    pub headers: Vec<Fixed<32>>,
    /// The number of this boot by the machine's own count; 0 if it keeps none.
    pub boot_counter: u64,
    /// As the hardware gave it; absent for [`Tee::None`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Bytes<EVIDENCE_BYTES_MAX>>,
    /// Certificates that the host gave with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endorsements: Vec<Bytes<ENDORSEMENT_BYTES_MAX>>,
    /// What the cloud says of where the machine runs, as its metadata service gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud: Option<Bytes<CLOUD_BYTES_MAX>>,
    /// What a machine that runs continues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continues: Option<Continues>,
    /// What a machine that continues says of its next boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Candidate>,
    /// Whether a clone of a golden image asks, under its image's id, for an identity of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clone: bool,
}

/// What the evidence of the next boot will claim, as far as the machine knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// The claims, each name once.
    pub claims: Vec<Expected>,
    /// Only compare: nothing is kept.
    pub dry_run: bool,
}

/// A claim and its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// The name, as of a reference value.
    pub claim: String,
    /// The value.
    pub value: String,
}

impl Candidate {
    /// What core compares.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::TooLarge`].
    pub fn proposal(&self) -> Result<Proposal, Error> {
        let pairs = self.claims.iter().map(|one| (one.claim.clone(), one.value.clone()));
        let claims: BTreeMap<_, _> = pairs.collect();
        if claims.len() != self.claims.len() {
            return Err(Error::Invalid { field: "candidate", rule: "must name each claim once" });
        }
        check_expected(&claims)?;
        Ok(Proposal { claims, dry_run: self.dry_run })
    }
}

/// How a candidate compares with the reference values; signed with the release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outlook {
    /// What somebody has to accept; absent if nothing waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Is<RequestId>>,
    /// Names of the claims whose values are none of the reference values.
    pub lacks: Vec<String>,
    /// Names of claims that have reference values, may change with an update, and were not named.
    pub unnamed: Vec<String>,
}

/// Proof that whoever asks is the very copy of the machine that has the lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Continues {
    /// Of the release before.
    pub session: Fixed<SESSION_BYTES>,
    /// [`super::continue_mac`] by that release's confirm key, over the transcript of this request.
    pub mac: Fixed<SECRET_BYTES>,
}

/// 202: somebody has to approve. The machine begins again later, with a new challenge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    /// What is to be approved.
    pub approval: Is<RequestId>,
    /// When to ask again.
    pub poll_after_s: u32,
}

/// 403: why there is nothing, for the console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// A stable word: a reason of appraisal, or of the server's own.
    pub code: String,
    /// One sentence for people.
    pub text: String,
    /// The entry of the log that has the rest.
    pub audit: Is<RequestId>,
}

/// `POST /boot/v1/confirm`: the volumes are open, and this was in them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirm {
    /// As in [`Challenge`].
    pub machine: Is<PrincipalId>,
    /// Of the release.
    pub session: Fixed<SESSION_BYTES>,
    /// What was opened.
    pub opened: Vec<Is<Name>>,
    /// What the boot before left in the volume; absent at the first boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Fixed<TOKEN_BYTES>>,
    /// [`super::confirm_mac`] of the two.
    pub mac: Fixed<SECRET_BYTES>,
}

/// What to leave in the volume for the next boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmed {
    /// The token.
    pub token: Fixed<TOKEN_BYTES>,
    /// How long no other copy of the machine is given anything, unless this one ends before.
    pub lease_s: u32,
}

/// `POST /boot/v1/settle`: the header that the volume of a clone will have. Said before it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settle {
    /// The clone.
    pub machine: Is<PrincipalId>,
    /// Of the answer that gave its identity.
    pub session: Fixed<SESSION_BYTES>,
    /// The [`super::header_hash`] of its volume's header.
    pub header: Fixed<32>,
    /// [`super::settle_mac`] of the two ids and the hash.
    pub mac: Fixed<SECRET_BYTES>,
}

/// 200 of [`Settle`]: from now on this header is the clone's, and it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settled {}

impl Serialize for Tee {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Tee {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let found = Self::ALL.iter().copied().find(|tee| tee.name() == name);
        found.ok_or_else(|| D::Error::custom("names no kind of evidence"))
    }
}

/// A message that is read within limits.
pub trait Message: for<'de> Deserialize<'de> {
    /// The longest body.
    const BYTES_MAX: usize = BODY_BYTES_MAX;

    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::TooLarge`].
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }
}

impl Message for Challenge {
    fn check(&self) -> Result<(), Error> {
        check_volumes(&self.volumes, 0)
    }
}

impl Message for Attest {
    const BYTES_MAX: usize = ATTEST_BYTES_MAX;

    fn check(&self) -> Result<(), Error> {
        let within = |field, len: usize, limit| {
            if len > limit { Err(Error::TooLarge { field, limit }) } else { Ok(()) }
        };
        within("endorsements", self.endorsements.len(), ENDORSEMENTS_MAX)?;
        self.candidate.as_ref().map(Candidate::proposal).transpose()?;
        if self.clone && (self.continues.is_some() || self.candidate.is_some()) {
            let rule = "must be asked for by a machine that starts";
            return Err(Error::Invalid { field: "clone", rule });
        }
        within("evidence", self.evidence.as_ref().map_or(0, |bytes| bytes.len()), EVIDENCE_BYTES_MAX)?;
        within("cloud", self.cloud.as_ref().map_or(0, |bytes| bytes.len()), CLOUD_BYTES_MAX)?;
        self.endorsements.iter().try_for_each(|one| within("endorsements", one.len(), ENDORSEMENT_BYTES_MAX))
    }
}

impl Message for Confirm {
    fn check(&self) -> Result<(), Error> {
        check_volumes(&self.opened, 1)
    }
}

impl Message for Challenged {}
impl Message for Confirmed {}
impl Message for Pending {}
impl Message for Refused {}
impl Message for Settle {}
impl Message for Settled {}
impl Message for Release {}

fn check_volumes(volumes: &[Is<Name>], least: usize) -> Result<(), Error> {
    let is_twice = |(index, name): (usize, &Is<Name>)| volumes[..index].contains(name);
    if !(least..=VOLUMES_MAX).contains(&volumes.len()) || volumes.iter().enumerate().any(is_twice) {
        let rule = "must be at most 16 names, each once, and one at least where it says what was opened";
        return Err(Error::Invalid { field: "volumes", rule });
    }
    Ok(())
}

/// Reads a message.
///
/// # Errors
/// [`Error::TooLarge`]; [`Error::Invalid`] for what is no such message.
pub fn read<T: Message>(body: &[u8]) -> Result<T, Error> {
    if body.len() > T::BYTES_MAX {
        return Err(Error::TooLarge { field: "body", limit: T::BYTES_MAX });
    }
    let message: T = serde_json::from_slice(body)
        .map_err(|_| Error::Invalid { field: "body", rule: "must be a message of boot release" })?;
    message.check()?;
    Ok(message)
}

/// Writes a message.
pub fn write(message: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(message).expect("messages have string keys")
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as the messages")]
pub enum Step {
    Challenge,
    Attest,
    Confirm,
    Settle,
}

impl Step {
    /// Its path.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Challenge => "/boot/v1/challenge",
            Self::Attest => "/boot/v1/attest",
            Self::Confirm => "/boot/v1/confirm",
            Self::Settle => "/boot/v1/settle",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path())
    }
}

/// Finds what a method and a path ask for.
///
/// # Errors
/// [`Nowhere`].
pub fn route(method: &str, path: &str) -> Result<Step, Nowhere> {
    let steps = [Step::Challenge, Step::Attest, Step::Confirm, Step::Settle];
    let step = steps.into_iter().find(|step| step.path() == path).ok_or(Nowhere::NotFound)?;
    if method == "POST" { Ok(step) } else { Err(Nowhere::MethodNotAllowed("POST")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_continued_is_read_whole_or_not_at_all() {
        let attest = |continues: &str| {
            let json = format!(
                r#"{{"session":"{0}","ephemeral":"","headers":[],"boot_counter":0{continues}}}"#,
                "AAAAAAAAAAAAAAAAAAAAAA=="
            );
            read::<Attest>(json.as_bytes())
        };
        let (session, mac) = ("AQEBAQEBAQEBAQEBAQEBAQ==", "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=");
        let good = attest(&format!(r#","continues":{{"session":"{session}","mac":"{mac}"}}"#)).unwrap();
        assert_eq!(good.continues, Some(Continues { session: Fixed([1; 16]), mac: Fixed([2; 32]) }));
        assert_eq!(read::<Attest>(&write(&good)).unwrap(), good);
        let without = attest("").unwrap();
        assert!(without.continues.is_none() && !write(&without).windows(9).any(|text| text == b"continues"));
        for bad in [
            format!(r#","continues":{{"session":"{session}"}}"#),
            format!(r#","continues":{{"session":"{mac}","mac":"{mac}"}}"#),
            format!(r#","continues":{{"session":"{session}","mac":"{session}"}}"#),
            format!(r#","continues":{{"session":"{session}","mac":"{mac}","key":"{mac}"}}"#),
        ] {
            assert!(attest(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_candidate_names_each_claim_once_and_nothing_that_a_terminal_obeys() {
        let attest = |claims: &str| {
            let json = format!(
                r#"{{"session":"AAAAAAAAAAAAAAAAAAAAAA==","ephemeral":"","headers":[],"boot_counter":0,
                "candidate":{{"claims":[{claims}],"dry_run":false}}}}"#
            );
            read::<Attest>(json.as_bytes())
        };
        let one = r#"{"claim":"pcrs.11","value":"00ff"}"#;
        let good = attest(one).unwrap();
        assert_eq!(read::<Attest>(&write(&good)).unwrap(), good);
        let proposal = good.candidate.unwrap().proposal().unwrap();
        assert_eq!((proposal.claims["pcrs.11"].as_str(), proposal.dry_run), ("00ff", false));
        let many: Vec<_> = (0..17).map(|n| format!(r#"{{"claim":"c{n}","value":"1"}}"#)).collect();
        for bad in [
            "",
            &format!("{one},{one}"),
            r#"{"claim":"pcrs.11","value":"\u001b[2J"}"#,
            r#"{"claim":"pcrs.11","value":"0","more":1}"#,
            &many.join(","),
        ] {
            assert!(attest(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_a_machine_that_starts_asks_for_an_identity() {
        let attest = |more: &str| {
            let json = format!(
                r#"{{"session":"AAAAAAAAAAAAAAAAAAAAAA==","ephemeral":"","headers":[],"boot_counter":0{more}}}"#
            );
            read::<Attest>(json.as_bytes())
        };
        let asks = attest(r#","clone":true"#).unwrap();
        assert!(asks.clone && !attest("").unwrap().clone);
        assert_eq!(read::<Attest>(&write(&asks)).unwrap(), asks);
        let without = write(&Attest { clone: false, ..asks });
        assert!(!without.windows(5).any(|text| text == b"clone"), "servers before it refuse unknown members");
        let mac = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
        for more in [
            format!(r#""continues":{{"session":"AAAAAAAAAAAAAAAAAAAAAA==","mac":"{mac}"}}"#),
            r#""candidate":{"claims":[{"claim":"pcrs.11","value":"00"}],"dry_run":true}"#.to_owned(),
        ] {
            assert!(attest(&format!(",{more}")).is_ok());
            assert!(attest(&format!(r#","clone":true,{more}"#)).is_err(), "{more}");
        }
    }

    #[test]
    fn a_document_of_a_cloud_may_be_there_and_is_bounded() {
        let attest = |document: usize| Attest {
            session: Fixed([1; SESSION_BYTES]),
            ephemeral: vec![0; 1216].into(),
            headers: Vec::new(),
            boot_counter: 0,
            evidence: None,
            endorsements: Vec::new(),
            cloud: Some(vec![7; document].into()),
            continues: None,
            candidate: None,
            clone: false,
        };
        let longest = attest(CLOUD_BYTES_MAX);
        assert_eq!(read::<Attest>(&write(&longest)).unwrap(), longest);
        let refused = read::<Attest>(&write(&attest(CLOUD_BYTES_MAX + 1)));
        assert_eq!(refused, Err(Error::TooLarge { field: "cloud", limit: CLOUD_BYTES_MAX }));
        let without = write(&Attest { cloud: None, ..longest });
        assert!(!without.windows(5).any(|text| text == b"cloud"), "servers before it refuse unknown members");
    }

    #[test]
    fn only_a_challenge_may_name_no_volume() {
        let id = "01890a5d-ac96-774b-bcce-b302099a8057";
        let challenge = |volumes: &str| {
            read::<Challenge>(format!(r#"{{"machine":"{id}","tee":"none","volumes":{volumes}}}"#).as_bytes())
        };
        assert!(challenge("[]").is_ok() && challenge(r#"["root"]"#).is_ok());
        let many: Vec<String> = (0..=VOLUMES_MAX).map(|number| format!("\"v{number}\"")).collect();
        for bad in [r#"["root","root"]"#.to_owned(), format!("[{}]", many.join(","))] {
            assert!(challenge(&bad).is_err(), "{bad}");
        }
        let zeros = "AAAAAAAAAAAAAAAAAAAAAA==";
        let mac = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
        let confirm = format!(r#"{{"machine":"{id}","session":"{zeros}","opened":[],"mac":"{mac}"}}"#);
        assert!(read::<Confirm>(confirm.as_bytes()).is_err());
    }
}
