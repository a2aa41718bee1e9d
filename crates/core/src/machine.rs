//! Machines that get the secrets of their volumes before they boot: what is stored about them, and what one boot says
//! of itself. All pure.
//!
//! A machine is an identity without roles, so policies name it and a revoked one gets nothing; its volumes, its
//! reference values and its ledger of boots lie in a row beside. The secrets of its volumes are derived from one key,
//! so what ends the key ends the volumes.

mod candidate;
mod image;

use std::collections::{BTreeMap, BTreeSet};

use minicbor::{Decode, Encode};

use crate::error::Error;
use crate::id::{KeyId, Name, PrincipalId, RequestId, TenantId};
use crate::principal::Principal;
use crate::time::{Now, Time};

pub use candidate::{
    CANDIDATE_CLAIMS_MAX, CANDIDATES_MAX, Candidate, Expected, Outlook, Proposal, check_expected,
};
pub use image::{CLONES_MAX, IMAGE_NAME_BYTES_MAX, Image, Origin, SETTLE_MS, check_image};

/// What claims of evidence must be one of; nested claims as `record.member`.
pub type Reference = BTreeMap<String, BTreeSet<String>>;

/// The most volumes of one machine.
pub const VOLUMES_MAX: usize = 16;
/// The most reference values of one machine.
pub const REFERENCE_VALUES_MAX: usize = 256;
/// The longest name or value of a reference value, in bytes.
pub const REFERENCE_BYTES_MAX: usize = 256;
/// Bytes of a secret of a keyslot, and of a token.
pub const SECRET_BYTES: usize = 32;
/// How long an approval waits to be decided, and then to be used, in milliseconds.
pub const APPROVAL_MS: u64 = 60 * 60 * 1_000;
/// The most approvals of one tenant that wait.
pub const APPROVALS_MAX: usize = 1_000;
/// The longest sentence about a refusal that is kept, in bytes.
pub const TEXT_BYTES_MAX: usize = 1_024;

/// Claims about registers that are extended while the machine that was released to starts and runs: by the agent after
/// the release (PCR 15, RTMR3), and by systemd as userspace comes up (PCR 11).
pub const MOVED_BY_RUNNING: [&str; 4] = ["pcrs.15", "rtmr3", "pcrs.11", "boot.phase"];

/// What evidence says, as policies read it: attest's claims, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Claim {
    Bool(bool),
    Number(i64),
    Text(String),
    Texts(BTreeSet<String>),
    Record(BTreeMap<String, Claim>),
}

/// All that evidence says; empty if there was none.
pub type Claims = BTreeMap<String, Claim>;

/// A volume of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Volume {
    /// Its name, unique in the machine.
    #[n(0)]
    pub name: Name,
    /// The secret that opens it; 0 before there is one.
    #[n(1)]
    pub generation: u32,
    /// Secrets that were given out for its keyslots, counted from 1. None is given out twice.
    #[n(2)]
    pub given: u32,
    /// The hash that its LUKS2 header must have. Without one, none does.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub header: Option<[u8; 32]>,
}

/// While it lasts, no other copy of the machine is given anything. The copy that has it may ask again, and so keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Lease {
    /// The session of the release.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub session: [u8; 16],
    /// What the release was bound to.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub transcript: [u8; 64],
    /// When it ends.
    #[n(2)]
    pub until: Time,
    /// Whether the machine has shown what its volume keeps.
    #[n(3)]
    pub confirmed: bool,
    /// What this release continued.
    #[n(4)]
    pub before: Option<Before>,
}

/// The release that another one continued. Until it is known that the machine got the newer one, as it is once that is
/// continued in turn, either may be shown: an answer may be lost.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Before {
    /// Its session.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub session: [u8; 16],
    /// What it was bound to.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub transcript: [u8; 64],
}

impl Lease {
    /// The release of this session, if whoever shows it has the lease.
    #[must_use]
    pub fn of(&self, session: &[u8; 16]) -> Option<Before> {
        let newest = Before { session: self.session, transcript: self.transcript };
        [Some(newest), self.before.clone()].into_iter().flatten().find(|one| one.session == *session)
    }
}

/// What became of one boot.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Boot {
    /// When.
    #[n(0)]
    pub time: Time,
    /// The request, as in the log.
    #[n(1)]
    pub request: RequestId,
    /// A stable word: `released`, or the reason to refuse.
    #[n(2)]
    pub code: String,
    /// One sentence.
    #[n(3)]
    pub text: String,
}

/// The stored record of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Machine {
    /// The identity that it is.
    #[n(0)]
    pub id: PrincipalId,
    /// Its tenant.
    #[n(1)]
    pub tenant: TenantId,
    /// Its name, that of the identity.
    #[n(2)]
    pub name: Name,
    /// The key that the secrets of its volumes are derived from. Fixed.
    #[n(3)]
    pub key: KeyId,
    /// The version of that key. Fixed.
    #[n(4)]
    pub version: u32,
    /// Its volumes, 1 to [`VOLUMES_MAX`].
    #[n(5)]
    pub volumes: Vec<Volume>,
    /// What its evidence must claim.
    #[n(6)]
    pub reference: Reference,
    /// Releases so far.
    #[n(7)]
    pub boots: u64,
    /// SHA-256 of what the encrypted volume keeps.
    #[cbor(n(8), with = "minicbor::bytes")]
    pub token: Option<[u8; 32]>,
    /// SHA-256 of what it was given to keep and has not shown yet.
    #[cbor(n(9), with = "minicbor::bytes")]
    pub next_token: Option<[u8; 32]>,
    /// The lease of the newest release.
    #[n(10)]
    pub lease: Option<Lease>,
    /// The newest release.
    #[n(11)]
    pub released: Option<Boot>,
    /// The newest refusal.
    #[n(12)]
    pub refused: Option<Boot>,
    /// When it was enrolled.
    #[n(13)]
    pub created: Time,
    /// What it says of its next boot, the oldest first; at most [`CANDIDATES_MAX`].
    #[n(14)]
    #[cbor(default)]
    pub candidates: Vec<Candidate>,
    /// Of a golden image: how many clones it makes. It gets no keys itself.
    #[n(15)]
    #[cbor(default)]
    pub image: Option<Image>,
    /// Of a clone: where it comes from.
    #[n(16)]
    #[cbor(default)]
    pub origin: Option<Origin>,
}

/// A machine to be enrolled.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "as in `Machine`")]
pub struct NewMachine {
    pub name: Name,
    pub key: crate::request::KeyRef,
    pub volumes: Vec<Name>,
    pub reference: Reference,
    /// Makes it a golden image of at most so many clones.
    pub clones: Option<u32>,
    /// Of an image: whether its clones have keyslots for their recovery secrets.
    pub recovery: bool,
}

/// What changes of a machine; absent fields stay as they are.
#[derive(Clone, Debug, Default)]
pub struct MachineChange {
    /// All reference values anew.
    pub reference: Option<Reference>,
    /// Reference values besides those that there are.
    pub add: Reference,
    /// Reference values that are taken away then. Each claim keeps one.
    pub drop: Reference,
    /// Volumes that were prepared: which secret opens them now, and what their header is.
    pub volumes: Vec<(Name, u32, [u8; 32])>,
    /// Forget what the volume kept: after its owner put an older copy back on purpose.
    pub forget_token: bool,
    /// How many clones an image may make in all.
    pub clones: Option<u32>,
}

impl Machine {
    /// The machine that this identity is, which never booted. Any evidence is right, and it is neither an image nor a clone.
    #[must_use]
    pub fn new(principal: &Principal, key: KeyId, version: u32, volumes: Vec<Volume>) -> Self {
        Self {
            id: principal.id,
            tenant: principal.tenant,
            name: principal.name.clone(),
            key,
            version,
            volumes,
            reference: Reference::new(),
            boots: 0,
            token: None,
            next_token: None,
            lease: None,
            released: None,
            refused: None,
            created: principal.created,
            candidates: Vec::new(),
            image: None,
            origin: None,
        }
    }

    /// Its volume of this name.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn volume(&self, name: &Name) -> Result<&Volume, Error> {
        self.volumes.iter().find(|volume| volume.name == *name).ok_or(Error::NotFound("volume"))
    }

    /// Makes `change`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Invalid`], [`Error::TooLarge`].
    pub fn change(&mut self, change: &MachineChange) -> Result<(), Error> {
        let mut reference = change.reference.clone().unwrap_or_else(|| self.reference.clone());
        for (name, values) in &change.add {
            reference.entry(name.clone()).or_default().extend(values.iter().cloned());
        }
        candidate::drop_values(&mut reference, &change.drop)?;
        for (name, generation, header) in &change.volumes {
            let volume = self.volumes.iter_mut().find(|volume| volume.name == *name);
            let volume = volume.ok_or(Error::NotFound("volume"))?;
            if *generation == 0 || *generation > volume.given {
                return Err(Error::Invalid {
                    field: "generation",
                    rule: "must be that of a secret that was given out",
                });
            }
            (volume.generation, volume.header) = (*generation, Some(*header));
        }
        if reference != self.reference {
            self.refer(reference)?;
        }
        if let Some(clones) = change.clones {
            self.allow_clones(clones)?;
        }
        if change.forget_token {
            (self.token, self.next_token) = (None, None);
        }
        Ok(())
    }

    /// Whether another copy may be running on what was released last.
    #[must_use]
    pub fn is_leased(&self, now: Now) -> bool {
        self.lease.as_ref().is_some_and(|lease| !now.reached(lease.until))
    }

    /// Why what `release` asks for is refused, whatever policies say.
    ///
    /// # Errors
    /// [`Reason`].
    pub fn check(&self, release: &Release, now: Now) -> Result<(), Reason> {
        match (&self.image, &release.clone) {
            (Some(_), None) => return Err(Reason::IsImage),
            (None, Some(_)) => return Err(Reason::NoImage),
            (Some(_), Some(_)) | (None, None) => {}
        }
        match &release.facts.continues {
            Some(session) => {
                self.lease.as_ref().and_then(|lease| lease.of(session)).ok_or(Reason::SessionUnknown)?;
                if !self.is_leased(now) {
                    return Err(Reason::LeaseOver);
                }
            }
            None if release.proposal.is_some() => return Err(Reason::CandidateEarly),
            None if self.is_leased(now) && release.facts.approval.is_none() => return Err(Reason::Leased),
            None if release.facts.volumes.is_empty() => return Err(Reason::NothingAsked),
            None => {}
        }
        if release.facts.volumes.len() != release.headers.len() {
            return Err(Reason::HeaderDiffers);
        }
        for (name, header) in release.facts.volumes.iter().zip(&release.headers) {
            let volume = self.volume(name).map_err(|_| Reason::VolumeUnknown)?;
            if volume.generation == 0 {
                return Err(Reason::VolumeUnknown);
            }
            if volume.header != Some(*header) {
                return Err(Reason::HeaderDiffers);
            }
        }
        Ok(())
    }

    /// Gives the lease to whom `release` is for. A boot begins anew; what continues keeps whether it was confirmed.
    pub fn lease_to(&mut self, release: &Release, now: Now) {
        let kept = self.lease.take().and_then(|lease| {
            let before = lease.of(release.facts.continues.as_ref()?)?;
            Some((lease.confirmed, before))
        });
        self.boots += u64::from(kept.is_none());
        let (confirmed, before) = kept.map_or((false, None), |(confirmed, before)| (confirmed, Some(before)));
        self.lease = Some(Lease {
            session: release.session,
            transcript: release.transcript,
            until: now.latest.plus_ms(release.lease_ms),
            confirmed,
            before,
        });
    }

    /// Takes what the volume kept, and gives it `next` to keep. Until the machine has shown that it keeps `next`, the
    /// one before is good too: power may fail before it is written.
    ///
    /// # Errors
    /// [`Error::Conflict`] for a token that is not the newest: the volume is a copy, or an older state of itself.
    pub fn take_token(&mut self, shown: Option<[u8; 32]>, next: [u8; 32]) -> Result<(), Error> {
        let is_new = shown.is_some() && shown == self.next_token;
        if is_new {
            self.token = self.next_token.take();
        } else if shown != self.token {
            return Err(STALE_TOKEN);
        }
        self.next_token = Some(next);
        Ok(())
    }

    /// How its claims compare with the reference values; of a machine that runs without [`MOVED_BY_RUNNING`].
    #[must_use]
    pub fn compare(&self, claims: &Claims, runs: bool) -> Comparison {
        if self.reference.is_empty() {
            return Comparison::NoReference;
        }
        let differs = |(name, allowed): &(&String, &BTreeSet<String>)| match claim(claims, name) {
            Some(Claim::Text(value)) => !allowed.contains(value),
            Some(Claim::Bool(value)) => !allowed.contains(if *value { "true" } else { "false" }),
            Some(Claim::Number(value)) => !allowed.contains(&value.to_string()),
            Some(Claim::Texts(_) | Claim::Record(_)) | None => true,
        };
        let counts = |(name, _): &(&String, _)| !runs || !MOVED_BY_RUNNING.contains(&name.as_str());
        match self.reference.iter().filter(counts).find(differs) {
            Some((name, _)) => Comparison::Differs(name.clone()),
            None => Comparison::Known,
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])+ $variant:ident $code:literal $text:literal;)+) => {
        /// Why a machine that boots gets nothing, beside the reasons of appraisal.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[$doc])+ $variant,)+ }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its stable word.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// One sentence for people.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

reasons! {
    /// Not ours, used, or over.
    ChallengeUnknown "challenge-unknown" "The challenge was not given here, was answered already, or is over.";
    /// No such machine, or it was revoked.
    MachineUnknown "machine-unknown" "No machine of this id is enrolled, or it was revoked.";
    /// It announced evidence and brought none.
    EvidenceMissing "evidence-missing" "The machine brought no evidence of the kind that it announced.";
    /// It brought another kind than it announced.
    EvidenceKind "evidence-kind" "The evidence is of another kind than the machine announced.";
    /// It is not among those that were enrolled.
    VolumeUnknown "volume-unknown" "The machine asks for a volume that was not enrolled, or has no secret yet.";
    /// The header hash is another, or none was enrolled.
    HeaderDiffers "header-differs" "The volume's header is not the one that was enrolled: it may have been altered.";
    /// Another copy has a lease.
    Leased "leased" "What was released last may still be running: only one copy of a machine runs at a time.";
    /// It continues what nobody holds any more.
    LeaseOver "lease-over" "The machine was not heard of for longer than its lease: it has to start anew.";
    /// It continues, and does not prove that the lease is its own.
    ContinuationDiffers "continuation-differs" "The request was not made with the key of the release that it continues.";
    /// It boots and wants nothing.
    NothingAsked "nothing-asked" "Only a machine that runs already may ask for no volume.";
    /// Only a machine that runs knows what it was updated to.
    CandidateEarly "candidate-early" "Only a machine that runs, and has the lease, may say what its next boot will be.";
    /// It asks as an image, and for no identity.
    IsImage "is-image" "The id is that of a golden image, which gets no keys itself: only its clones do.";
    /// It asks for an identity, and not as an image.
    NoImage "no-image" "The machine asks for an identity of its own, and its id is not that of a golden image.";
    /// The image has made enough.
    ClonesFull "clones-full" "The golden image has made as many clones as it may.";
    /// The key is suspended, ended or destroyed.
    KeyUnusable "key-unusable" "The key of this machine is suspended, has ended or was destroyed.";
    /// No policy allows it, whatever the evidence said.
    Policy "policy" "No policy allows this machine to open its volumes here and now.";
    /// A policy asks for memory that hardware encrypts.
    PolicyMemory "policy-memory" "Security violation: the policy asks for proof that hardware encrypts the machine's memory.";
    /// A policy asks for a known image.
    PolicyImage "policy-image" "Security violation: the policy asks for an image whose reference values are known.";
    /// A policy asks for better hardware.
    PolicyAssurance "policy-assurance" "The policy asks for hardware whose promise is not known to be weakened.";
    /// Somebody denied it.
    ApprovalDenied "approval-denied" "Somebody looked at this boot and denied it.";
    /// Too many approvals wait.
    ApprovalsFull "approvals-full" "Too many boots wait for an approval.";
    /// The session was not released, or another was since.
    SessionUnknown "session-unknown" "Nothing was released in this session, or something was released after it.";
    /// The confirmation is not authentic.
    ConfirmationDiffers "confirmation-differs" "The confirmation was not made with the key of this release.";
    /// A clone or a rollback.
    TokenStale "token-stale" "Security violation: the volume is a copy, or was put back to an older state.";
}

/// The volume shows a token that is not the newest.
pub const STALE_TOKEN: Error =
    Error::Conflict("the volume is a copy, or was put back to an older state: its token is not the newest");

/// The claim of this name; `record.member` inside a record.
fn claim<'a>(claims: &'a Claims, name: &str) -> Option<&'a Claim> {
    match name.split_once('.') {
        None => claims.get(name),
        Some((record, member)) => match claims.get(record)? {
            Claim::Record(members) => claim(members, member),
            Claim::Bool(_) | Claim::Number(_) | Claim::Text(_) | Claim::Texts(_) => None,
        },
    }
}

/// Checks reference values.
///
/// # Errors
/// [`Error::TooLarge`], [`Error::Invalid`].
pub fn check_reference(reference: &Reference) -> Result<(), Error> {
    let field = "reference";
    if reference.values().map(BTreeSet::len).sum::<usize>() > REFERENCE_VALUES_MAX {
        return Err(Error::TooLarge { field, limit: REFERENCE_VALUES_MAX });
    }
    let is_long = |text: &String| text.is_empty() || text.len() > REFERENCE_BYTES_MAX;
    if reference.iter().any(|(name, values)| is_long(name) || values.is_empty() || values.iter().any(is_long))
    {
        return Err(Error::Invalid {
            field,
            rule: "names and values must have 1 to 256 bytes, and each name a value",
        });
    }
    Ok(())
}

/// How claims compare with reference values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// All are among them.
    Known,
    /// There are none. That is a refusal wherever a policy asks for a known image.
    NoReference,
    /// The claim of this name is absent or another.
    Differs(String),
}

/// What one boot says of itself once its evidence was appraised: what policies read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootFacts {
    /// What it wants to open.
    pub volumes: Vec<Name>,
    /// What its evidence says.
    pub claims: Claims,
    /// How that compares with the machine's reference values.
    pub comparison: Comparison,
    /// Its own count of boots.
    pub counter: u64,
    /// The approval that it has, if one was given for such claims.
    pub approval: Option<RequestId>,
    /// The session that a machine which runs has proved to hold.
    pub continues: Option<[u8; 16]>,
    /// The golden image that it is a clone of, or is.
    pub image: Option<PrincipalId>,
}

/// A release that is asked for, by the boot protocol alone.
#[derive(Clone, Debug)]
pub struct Release {
    /// What is known of the boot.
    pub facts: BootFacts,
    /// The session.
    pub session: [u8; 16],
    /// The transcript.
    pub transcript: [u8; 64],
    /// The hash of each volume's header.
    pub headers: Vec<[u8; 32]>,
    /// How long the machine is alone then, in milliseconds.
    pub lease_ms: u64,
    /// What a machine that runs says of its next boot.
    pub proposal: Option<Proposal>,
    /// Of a clone that asks for an identity: SHA-256 of the key that the answer is sealed to.
    pub clone: Option<[u8; 32]>,
}

/// What somebody decided, or is to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Decision {
    /// Nobody has decided.
    #[n(0)]
    Pending,
    /// The next boot with such claims is approved, once.
    #[n(1)]
    Approved,
    /// It is denied.
    #[n(2)]
    Denied,
}

/// The stored record of an approval: by the request that asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Approval {
    /// Its id: the request that asked.
    #[n(0)]
    pub id: RequestId,
    /// The machine.
    #[n(1)]
    pub machine: PrincipalId,
    /// Its name.
    #[n(2)]
    pub name: Name,
    /// SHA-256 of the claims it is for, without what differs at every boot.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub claims: [u8; 32],
    /// The same for people: one claim a line.
    #[n(4)]
    pub summary: String,
    /// When it was asked for.
    #[n(5)]
    pub asked: Time,
    /// When it ends, decided or not.
    #[n(6)]
    pub until: Time,
    /// What was decided.
    #[n(7)]
    pub decision: Decision,
    /// By whom.
    #[n(8)]
    pub by: Option<PrincipalId>,
}

impl Approval {
    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self, now: Now) -> bool {
        now.may_have_passed(self.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::principal::Roles;

    pub(super) fn machine() -> Machine {
        let principal = Principal {
            id: PrincipalId([1; 16]),
            tenant: TenantId([2; 16]),
            name: "web-1".parse().unwrap(),
            roles: Roles::default(),
            created: Time::from_unix_ms(0),
            revoked: None,
            certificates: Vec::new(),
        };
        let volume = Volume { name: "root".parse().unwrap(), generation: 0, given: 2, header: None };
        Machine::new(&principal, KeyId([3; 16]), 1, vec![volume])
    }

    #[test]
    fn a_copy_shows_a_stale_token() {
        let mut machine = machine();
        machine.take_token(None, [1; 32]).unwrap();
        // Power failed before it was written.
        machine.take_token(None, [2; 32]).unwrap();
        machine.take_token(Some([2; 32]), [3; 32]).unwrap();
        for stale in [None, Some([1; 32])] {
            assert_eq!(machine.take_token(stale, [9; 32]), Err(STALE_TOKEN));
        }
        machine.take_token(Some([2; 32]), [4; 32]).unwrap();
        machine.take_token(Some([4; 32]), [5; 32]).unwrap();
        assert_eq!(machine.take_token(Some([2; 32]), [9; 32]), Err(STALE_TOKEN));
        machine.change(&MachineChange { forget_token: true, ..MachineChange::default() }).unwrap();
        machine.take_token(None, [6; 32]).unwrap();
    }

    const ROOT: [u8; 32] = [7; 32];

    pub(super) fn now(ms: u64) -> Now {
        Now::exactly(Time::from_unix_ms(ms))
    }

    /// A release in session `session` for a minute, of the root volume when it boots and of none when it continues.
    pub(super) fn release(session: u8, continues: Option<u8>) -> Release {
        let volumes = if continues.is_some() { Vec::new() } else { vec!["root".parse().unwrap()] };
        let headers = vec![ROOT; volumes.len()];
        let facts = BootFacts {
            volumes,
            claims: Claims::new(),
            comparison: Comparison::NoReference,
            counter: 0,
            approval: None,
            continues: continues.map(|byte| [byte; 16]),
            image: None,
        };
        let (session, transcript) = ([session; 16], [session; 64]);
        Release { facts, session, transcript, headers, lease_ms: 60_000, proposal: None, clone: None }
    }

    /// Checks and leases, as one release does.
    fn ask(machine: &mut Machine, release: &Release, now: Now) -> Result<(), Reason> {
        machine.check(release, now)?;
        machine.lease_to(release, now);
        Ok(())
    }

    pub(super) fn prepared() -> Machine {
        let mut machine = machine();
        (machine.volumes[0].generation, machine.volumes[0].header) = (1, Some(ROOT));
        machine
    }

    #[test]
    fn who_has_the_lease_keeps_it_and_nobody_else_gets_it() {
        let mut machine = prepared();
        assert_eq!(ask(&mut machine, &release(1, Some(9)), now(0)), Err(Reason::SessionUnknown));
        ask(&mut machine, &release(1, None), now(0)).unwrap();
        machine.lease.as_mut().unwrap().confirmed = true;
        for beat in 1..10 {
            assert_eq!(ask(&mut machine, &release(99, None), now(59_000)), Err(Reason::Leased));
            let at = now(u64::from(beat) * 50_000);
            ask(&mut machine, &release(beat + 1, Some(beat)), at).unwrap();
        }
        let lease = machine.lease.as_ref().unwrap();
        assert_eq!((machine.boots, lease.confirmed, lease.session), (1, true, [10; 16]));
        assert_eq!(ask(&mut machine, &release(11, Some(10)), now(510_000)), Err(Reason::LeaseOver));
        ask(&mut machine, &release(12, None), now(510_000)).unwrap();
        assert_eq!(ask(&mut machine, &release(13, Some(10)), now(510_000)), Err(Reason::SessionUnknown));
        assert_eq!((machine.boots, machine.lease.unwrap().confirmed), (2, false));
    }

    /// Whoever continues an older release than the one before is a second copy of the machine's memory.
    #[test]
    fn an_answer_may_be_lost_and_of_two_copies_one_is_refused() {
        let mut machine = prepared();
        ask(&mut machine, &release(1, None), now(0)).unwrap();
        ask(&mut machine, &release(2, Some(1)), now(1)).unwrap();
        // The answer was lost, twice.
        ask(&mut machine, &release(3, Some(1)), now(2)).unwrap();
        ask(&mut machine, &release(4, Some(1)), now(3)).unwrap();
        for lost in [2, 3] {
            assert_eq!(ask(&mut machine, &release(9, Some(lost)), now(4)), Err(Reason::SessionUnknown));
        }
        ask(&mut machine, &release(5, Some(4)), now(4)).unwrap();
        // It got the one before, so what that continued is over.
        assert_eq!(ask(&mut machine, &release(9, Some(1)), now(5)), Err(Reason::SessionUnknown));
        ask(&mut machine, &release(6, Some(4)), now(5)).unwrap();
        assert_eq!(ask(&mut machine, &release(9, Some(5)), now(6)), Err(Reason::SessionUnknown));
    }

    /// After a jump of the wall clock the present is only known to lie between two times.
    #[test]
    fn a_clock_that_jumps_gives_the_lease_to_nobody_else() {
        let mut machine = prepared();
        ask(&mut machine, &release(1, None), now(1_000_000)).unwrap();
        let jumped = |ms: u64| Now { earliest: Time::from_unix_ms(0), latest: Time::from_unix_ms(ms) };
        assert_eq!(ask(&mut machine, &release(9, None), jumped(1_500_000)), Err(Reason::Leased));
        ask(&mut machine, &release(2, Some(1)), jumped(1_500_000)).unwrap();
        assert_eq!(machine.lease.unwrap().until, Time::from_unix_ms(1_560_000));
    }

    #[test]
    fn only_what_runs_asks_for_nothing_and_rows_of_before_are_read() {
        let mut machine = prepared();
        let mut nothing = release(1, None);
        (nothing.facts.volumes, nothing.headers) = (Vec::new(), Vec::new());
        assert_eq!(ask(&mut machine, &nothing, now(0)), Err(Reason::NothingAsked));
        // Nor does it know what it was updated to.
        let mut early = release(1, None);
        early.proposal = Some(Proposal { claims: Expected::new(), dry_run: true });
        assert_eq!(ask(&mut machine, &early, now(0)), Err(Reason::CandidateEarly));
        // A lease as it was stored before anything could be continued: four members.
        let mut row = vec![0x84, 0x50];
        row.extend([1; 16]);
        row.extend([0x58, 64]);
        row.extend([2; 64]);
        row.extend([0x18, 60, 0xf5]);
        let lease: Lease = minicbor::decode(&row).unwrap();
        assert_eq!((lease.session, lease.confirmed, lease.before), ([1; 16], true, None));
    }

    #[test]
    fn only_secrets_that_were_given_out_come_into_use() {
        let mut machine = machine();
        let prepared = |generation| MachineChange {
            volumes: vec![("root".parse().unwrap(), generation, [7; 32])],
            ..MachineChange::default()
        };
        assert!(machine.change(&prepared(0)).is_err() && machine.change(&prepared(3)).is_err());
        machine.change(&prepared(2)).unwrap();
        assert_eq!((machine.volumes[0].generation, machine.volumes[0].header), (2, Some([7; 32])));
    }

    #[test]
    fn claims_are_compared_with_every_reference_value() {
        let mut machine = machine();
        let text = |text: &str| Claim::Text(text.to_owned());
        let pcrs = Claim::Record([("pcr11".to_owned(), text("aa"))].into());
        let claims: Claims = [("kind".to_owned(), text("tpm")), ("pcrs".to_owned(), pcrs)].into();
        assert_eq!(machine.compare(&claims, false), Comparison::NoReference);
        let reference = |name: &str, value: &str| (name.to_owned(), [value.to_owned()].into());
        machine.reference = [reference("kind", "tpm"), reference("pcrs.pcr11", "aa")].into();
        assert_eq!(machine.compare(&claims, false), Comparison::Known);
        machine.reference.extend([reference("pcrs.pcr12", "bb")]);
        assert_eq!(machine.compare(&claims, false), Comparison::Differs("pcrs.pcr12".to_owned()));
        assert_eq!(machine.compare(&Claims::new(), false), Comparison::Differs("kind".to_owned()));
        // What a machine extends while it starts is compared when it boots and not when it runs; all else is.
        machine.reference = ["kind", "pcrs.11", "pcrs.15", "rtmr3"].map(|name| reference(name, "tpm")).into();
        assert_eq!(machine.compare(&claims, true), Comparison::Known);
        assert_eq!(machine.compare(&claims, false), Comparison::Differs("pcrs.11".to_owned()));
        machine.reference.extend([reference("pcrs.1", "bb")]);
        assert_eq!(machine.compare(&claims, true), Comparison::Differs("pcrs.1".to_owned()));
    }
}
