//! Acts of boot release: machines, the secrets of their volumes, approvals.
//!
//! The boot listener knows no more of a machine than the id that it says. It looks at the machine ([`Engine::booting`]),
//! appraises what it brought, and then sends [`Ask::ReleaseVolumes`] through the funnel as the machine's identity, with
//! what the evidence said. Policies decide on that; what they cannot decide on (headers, leases, tokens) is checked here
//! on the very row that the release then changes.

use std::net::IpAddr;
use std::sync::Arc;

use keyhearth_core::Error;
use keyhearth_core::entry::{Entry, Result as Outcome};
use keyhearth_core::id::{Name, PrincipalId, RequestId, TenantId};
use keyhearth_core::key::Key;
use keyhearth_core::machine::{
    APPROVAL_MS, APPROVALS_MAX, Approval, Boot, BootFacts, Claim, Claims, Decision, Machine, MachineChange,
    NewMachine, Reason, Release, SECRET_BYTES, TEXT_BYTES_MAX, VOLUMES_MAX, Volume, check_image,
    check_reference,
};
use keyhearth_core::operation::Operation;
use keyhearth_core::principal::{Caller, Principal, Proof, Roles};
use keyhearth_core::request::{Ask, Page, Request, Response, Secret};
use keyhearth_core::row::{RowKey, Table};
use keyhearth_core::store::{Commit, Write};
use keyhearth_crypto::digest::sha256;
use keyhearth_crypto::note::{self, NoteKey};
use keyhearth_crypto::random;
use zeroize::Zeroizing;

use super::authenticate::address_bytes;
use super::keys::page_limit;
use super::records::{Records, Stored};
use super::{Effect, Engine, Question, Turn, blocking};

pub(super) const VOLUME_LABEL: &str = "keyhearth/volume";
pub(super) const RECOVERY_LABEL: &str = "keyhearth/volume-recovery";

/// Claims that differ at every boot of the same machine in the same state: an approval does not cover them.
const CLAIMS_OF_ONE_BOOT: [&str; 7] =
    ["report_data", "report_id", "report_id_ma", "clock_ms", "clock_safe", "reset_count", "restart_count"];

/// A machine that boots, as the server knows it.
pub struct Booting {
    /// As whom it acts, if its evidence is good.
    pub caller: Arc<Caller>,
    /// Its record.
    pub machine: Machine,
    /// Approvals of it that are not over.
    pub approvals: Vec<Approval>,
}

/// Why a machine is refused, for its console and for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// A stable word.
    pub code: &'static str,
    /// For people; at most [`TEXT_BYTES_MAX`] are kept.
    pub text: String,
}

impl From<Reason> for Denial {
    fn from(reason: Reason) -> Self {
        Self { code: reason.code(), text: reason.text().to_owned() }
    }
}

impl Booting {
    /// The approval that the facts have, or that was denied them.
    #[must_use]
    pub fn approval(&self, claims: &Claims) -> Option<&Approval> {
        let digest = digest(claims);
        self.approvals.iter().find(|approval| approval.claims == digest)
    }
}

impl Turn<'_> {
    /// Acts of boot release.
    pub(super) fn on_machine(&self) -> Result<Effect, Error> {
        match &self.request.ask {
            Ask::EnrollMachine(new) => self.enroll_machine(new),
            Ask::UpdateMachine { machine, change } => self.update_machine(*machine, change),
            Ask::VolumeSecret { machine, volume, .. } => self.volume_secret(*machine, volume),
            Ask::RecoverySecret { machine, volume, .. } => self.recovery_secret(*machine, volume),
            Ask::DecideApproval { approval, approve } => self.decide_approval(*approval, *approve),
            Ask::ReleaseVolumes { release, .. } => match &release.clone {
                Some(sealed_to) => self.clone_image(release, sealed_to),
                None => self.release_volumes(release),
            },
            Ask::SettleClone { session, header } => self.settle_clone(session, *header),
            Ask::DecideCandidate { machine, candidate, accept } => {
                self.decide_candidate(*machine, *candidate, *accept)
            }
            Ask::AskApproval { facts } => self.ask_approval(facts),
            Ask::ConfirmBoot { session, token, opened, lease_ms } => {
                self.confirm_boot(session, *token, opened, *lease_ms)
            }
            _ => Err(Error::Internal("not an operation on a machine")),
        }
    }

    /// A machine of the tenant.
    pub(super) fn machine(&self, id: PrincipalId) -> Result<Stored<Machine>, Error> {
        let row = RowKey::new(Table::Machine, self.tenant(), &id.0);
        self.open.records.read(&row)?.ok_or(Error::NotFound("machine"))
    }

    pub(super) fn list_machines(&self, page: &Page) -> Result<Effect, Error> {
        let limit = page_limit(page)?;
        let (rows, next) =
            self.open.records.scan::<Machine>(Table::Machine, self.tenant(), &page.after, limit)?;
        Ok(Effect::of(Response::Machines { machines: rows.into_iter().map(|row| row.value).collect(), next }))
    }

    fn enroll_machine(&self, new: &NewMachine) -> Result<Effect, Error> {
        let is_twice = |(index, name): (usize, &Name)| new.volumes[..index].contains(name);
        if new.volumes.is_empty()
            || new.volumes.len() > VOLUMES_MAX
            || new.volumes.iter().enumerate().any(is_twice)
        {
            return Err(Error::Invalid { field: "volumes", rule: "must be 1 to 16 names, each once" });
        }
        check_reference(&new.reference)?;
        let checked = |clones| check_image(&new.name, new.volumes.len(), clones, new.recovery);
        let image = new.clones.map(checked).transpose()?;
        if new.recovery && image.is_none() {
            let rule = "is for golden images: other machines have their keyslots made by who enrolls them";
            return Err(Error::Invalid { field: "recovery", rule });
        }
        let id = self.open.resolve(self.tenant(), &new.key)?;
        let row = RowKey::new(Table::Key, self.tenant(), &id.0);
        let key: Stored<Key> = self.open.records.read(&row)?.ok_or(Error::NotFound("key"))?;
        if !key.value.usage.permits(Operation::ReleaseVolumes) {
            return Err(Error::Invalid { field: "key", rule: "must be made for release: --usage release" });
        }
        let principal = self.principal(self.tenant(), &new.name, Roles::default())?;
        let volume = |name: &Name| Volume { name: name.clone(), generation: 0, given: 0, header: None };
        let volumes = new.volumes.iter().map(volume).collect();
        let machine = Machine {
            reference: new.reference.clone(),
            image,
            ..Machine::new(&principal, id, key.value.primary, volumes)
        };
        let records = &self.open.records;
        let mut writes = Vec::from(self.principal_rows(&principal));
        writes.push(records.create(RowKey::new(Table::Machine, machine.tenant, &machine.id.0), &machine));
        let owner = RowKey::new(Table::MachineOwner, TenantId::PLATFORM, &machine.id.0);
        writes.push(records.create(owner, &machine.tenant));
        let of_clones = machine.image.map(|image| format!(", an image of {} clones", image.clones_max));
        let detail = format!("{} {}{}", machine.id, machine.name, of_clones.unwrap_or_default());
        let effect = Effect::writing(Response::Machine(Box::new(machine)), writes).detail(detail);
        Ok(Effect { key: Some(id), ..effect })
    }

    fn update_machine(&self, id: PrincipalId, change: &MachineChange) -> Result<Effect, Error> {
        let stored = self.machine(id)?;
        let mut machine = stored.value.clone();
        machine.change(change)?;
        let mut changed: Vec<String> =
            change.volumes.iter().map(|(name, number, _)| format!("{name} generation {number}")).collect();
        changed.extend(change.reference.is_some().then(|| "reference values".to_owned()));
        for (word, values) in [("added", &change.add), ("dropped", &change.drop)] {
            let names: Vec<&str> = values.keys().map(String::as_str).collect();
            changed.extend((!names.is_empty()).then(|| format!("{word} values of {}", names.join(" "))));
        }
        changed.extend(change.clones.map(|clones| format!("{clones} clones")));
        changed.extend(change.forget_token.then(|| "token forgotten".to_owned()));
        let detail = format!("{} {}: {}", machine.id, machine.name, changed.join(", "));
        let write = self.open.records.replace(&stored, &machine);
        Ok(Effect::writing(Response::Machine(Box::new(machine)), vec![write]).detail(detail))
    }

    /// The secret of a volume's keyslot, 32 bytes.
    pub(super) fn secret(
        &self,
        machine: &Machine,
        volume: &Name,
        label: &str,
        generation: u32,
    ) -> Result<Secret, Error> {
        let key = self.open.version(self.held()?, machine.version)?;
        let name = volume.as_str().as_bytes();
        let len = u32::try_from(name.len()).unwrap_or(u32::MAX).to_be_bytes();
        let secret = key.volume_secret(label, &[&machine.id.0, &len, name, &generation.to_be_bytes()])?;
        Ok(Secret::new(secret.to_vec()))
    }

    /// The machine, if its secrets are derived from the key and version that were permitted.
    pub(super) fn machine_of_key(&self, id: PrincipalId) -> Result<Stored<Machine>, Error> {
        let machine = self.machine(id)?;
        let is_its = Some(machine.value.key) == self.permit.key()
            && Some(machine.value.version) == self.permit.version();
        let rule = "must be the key that the machine was enrolled with, and still at that version";
        if is_its { Ok(machine) } else { Err(Error::Invalid { field: "key", rule }) }
    }

    fn volume_secret(&self, id: PrincipalId, name: &Name) -> Result<Effect, Error> {
        let stored = self.machine_of_key(id)?;
        let mut machine = stored.value.clone();
        let volume = machine.volumes.iter_mut().find(|volume| volume.name == *name);
        let volume = volume.ok_or(Error::NotFound("volume"))?;
        volume.given = volume
            .given
            .checked_add(1)
            .ok_or(Error::TooLarge { field: "generation", limit: u32::MAX as usize })?;
        let generation = volume.given;
        let secret = self.secret(&machine, name, VOLUME_LABEL, generation)?;
        let detail = format!("{} {}: {name} generation {generation}", machine.id, machine.name);
        let (key, version) = (machine.key, machine.version);
        let write = self.open.records.replace(&stored, &machine);
        let response = Response::VolumeSecret { key, version, generation, secret };
        Ok(Effect::writing(response, vec![write]).detail(detail))
    }

    fn recovery_secret(&self, id: PrincipalId, name: &Name) -> Result<Effect, Error> {
        if !super::gives_reason(self.request) {
            return Err(Error::Invalid {
                field: "reason",
                rule: "must say why a recovery secret is given out",
            });
        }
        let machine = self.machine_of_key(id)?.value;
        machine.volume(name)?;
        let secret = self.secret(&machine, name, RECOVERY_LABEL, 0)?;
        tracing::warn!(machine = %machine.id, volume = %name, by = %self.caller.name, "a recovery secret was given out");
        let detail = format!("{} {}: recovery of {name}", machine.id, machine.name);
        let (key, version) = (machine.key, machine.version);
        Ok(Effect::of(Response::VolumeSecret { key, version, generation: 0, secret }).detail(detail))
    }

    fn release_volumes(&self, release: &Release) -> Result<Effect, Error> {
        let stored = self.machine_of_key(self.caller.principal)?;
        let mut machine = stored.value.clone();
        machine.check(release, self.now).map_err(|reason| Error::Conflict(reason.text()))?;
        let secret_of = |name: &Name| {
            let generation = machine.volume(name)?.generation;
            Ok((name.clone(), generation, self.secret(&machine, name, VOLUME_LABEL, generation)?))
        };
        let volumes = release.facts.volumes.iter().map(secret_of).collect::<Result<Vec<_>, Error>>()?;
        machine.lease_to(release, self.now);
        let outlook = release
            .proposal
            .as_ref()
            .map(|proposal| machine.propose(proposal, self.request.id, self.now.latest));
        let names: Vec<&str> = release.facts.volumes.iter().map(Name::as_str).collect();
        let kind = kind(release);
        let asked = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
        let continued = if release.facts.continues.is_some() { ", continued" } else { "" };
        let text = format!("{asked} on {kind} evidence, boot {}{continued}", machine.boots);
        if !names.is_empty() {
            let code = "released".to_owned();
            machine.released =
                Some(Boot { time: self.now.latest, request: self.request.id, code, text: text.clone() });
        }
        let mut writes = vec![self.open.records.replace(&stored, &machine)];
        let mut detail = text;
        if let Some(id) = outlook.as_ref().and_then(|outlook| outlook.candidate) {
            detail = format!("{detail}, candidate {id} waits");
        }
        if let Some(id) = release.facts.approval {
            writes.push(self.use_approval(id)?);
            detail = format!("{detail}, approval {id}");
        }
        let response = Response::Released { machine: Box::new(machine), volumes, outlook };
        Ok(Effect::writing(response, writes).detail(detail))
    }

    fn confirm_boot(
        &self,
        session: &[u8; 16],
        token: Option<[u8; SECRET_BYTES]>,
        opened: &[Name],
        lease_ms: u64,
    ) -> Result<Effect, Error> {
        let stored = self.machine(self.caller.principal)?;
        let mut machine = stored.value.clone();
        let lease = machine.lease.as_mut().filter(|lease| lease.of(session).is_some());
        let lease = lease.ok_or(Error::NotFound("session"))?;
        lease.until = self.now.latest.plus_ms(lease_ms);
        lease.confirmed = true;
        let mut next = Zeroizing::new([0; SECRET_BYTES]);
        random::fill("boot token", &mut next[..])?;
        machine.take_token(token.map(|token| sha256(&[&token])), sha256(&[&next[..]]))?;
        let names: Vec<&str> = opened.iter().map(Name::as_str).collect();
        let detail = format!("opened {}", names.join(", "));
        let write = self.open.records.replace(&stored, &machine);
        let response = Response::Confirmed { token: Secret::new(next.to_vec()) };
        Ok(Effect::writing(response, vec![write]).detail(detail))
    }

    /// All approvals of the tenant; there are few.
    fn approvals(&self) -> Result<Vec<Stored<Approval>>, Error> {
        let (rows, _) =
            self.open.records.scan::<Approval>(Table::Approval, self.tenant(), &[], 2 * APPROVALS_MAX)?;
        Ok(rows)
    }

    fn approval(&self, id: RequestId) -> Result<Stored<Approval>, Error> {
        let found = self.approvals()?.into_iter().find(|row| row.value.id == id);
        found.ok_or(Error::NotFound("approval"))
    }

    /// Uses an approval up: the row that goes.
    pub(super) fn use_approval(&self, id: RequestId) -> Result<Write, Error> {
        let approval = self.approval(id)?;
        if approval.value.decision != Decision::Approved || approval.value.is_over(self.now) {
            return Err(Error::Conflict("the approval was used meanwhile, or is over"));
        }
        Ok(Records::delete(&approval))
    }

    pub(super) fn list_approvals(&self, page: &Page) -> Result<Effect, Error> {
        let limit = page_limit(page)?;
        let (rows, next) =
            self.open.records.scan::<Approval>(Table::Approval, self.tenant(), &page.after, limit)?;
        let live = rows.into_iter().map(|row| row.value).filter(|approval| !approval.is_over(self.now));
        Ok(Effect::of(Response::Approvals { approvals: live.collect(), next }))
    }

    fn decide_approval(&self, id: RequestId, approve: bool) -> Result<Effect, Error> {
        let stored = self.approval(id)?;
        if stored.value.is_over(self.now) {
            return Err(Error::NotFound("approval"));
        }
        if stored.value.decision != Decision::Pending {
            return Err(Error::Conflict("this was decided already"));
        }
        let decision = if approve { Decision::Approved } else { Decision::Denied };
        let approval = Approval {
            decision,
            by: Some(self.caller.principal),
            until: self.now.latest.plus_ms(APPROVAL_MS),
            ..stored.value.clone()
        };
        let word = if approve { "approved" } else { "denied" };
        let detail = format!("{word} {} {}: {id}", approval.machine, approval.name);
        let write = self.open.records.replace(&stored, &approval);
        Ok(Effect::writing(Response::Approval(Box::new(approval)), vec![write]).detail(detail))
    }

    fn decide_candidate(&self, id: PrincipalId, candidate: RequestId, accept: bool) -> Result<Effect, Error> {
        let stored = self.machine(id)?;
        let mut machine = stored.value.clone();
        let candidate = machine.decide_candidate(candidate, accept)?;
        let word = if accept { "accepted" } else { "rejected" };
        let mut detail =
            format!("{} {}: {word} {}: {}", machine.id, machine.name, candidate.id, candidate.summary());
        detail.truncate(detail.floor_char_boundary(TEXT_BYTES_MAX));
        let write = self.open.records.replace(&stored, &machine);
        Ok(Effect::writing(Response::Machine(Box::new(machine)), vec![write]).detail(detail))
    }

    /// The approval that waits for such claims, or a new one.
    fn ask_approval(&self, facts: &BootFacts) -> Result<Effect, Error> {
        let machine = self.machine(self.caller.principal)?.value;
        let claims = digest(&facts.claims);
        let (over, live): (Vec<_>, Vec<_>) =
            self.approvals()?.into_iter().partition(|row| row.value.is_over(self.now));
        let same = |row: &&Stored<Approval>| row.value.machine == machine.id && row.value.claims == claims;
        if let Some(found) = live.iter().find(same) {
            return Ok(Effect::of(Response::Approval(Box::new(found.value.clone()))));
        }
        if live.len() >= APPROVALS_MAX {
            return Err(Error::TooLarge { field: "approvals", limit: APPROVALS_MAX });
        }
        let approval = Approval {
            id: self.request.id,
            machine: machine.id,
            name: machine.name,
            claims,
            summary: summary(facts),
            asked: self.now.latest,
            until: self.now.latest.plus_ms(APPROVAL_MS),
            decision: Decision::Pending,
            by: None,
        };
        let id = [approval.machine.0, approval.id.0].concat();
        let mut writes: Vec<Write> = over.iter().map(Records::delete).collect();
        writes.push(self.open.records.create(RowKey::new(Table::Approval, self.tenant(), &id), &approval));
        let detail = format!("approval {}", approval.id);
        Ok(Effect::writing(Response::Approval(Box::new(approval)), writes).detail(detail))
    }
}

impl Engine {
    /// Finds the machine that says this id, for a boot from `address`.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none or its identity is revoked; [`Error::TooMany`]; [`Error::Sealed`].
    pub async fn booting(self: &Arc<Self>, id: PrincipalId, address: IpAddr) -> Result<Booting, Error> {
        let open = self.open.load_full().ok_or(Error::Sealed)?;
        let now = self.now();
        let found = blocking(move || {
            let missing = Error::NotFound("machine");
            let owner = RowKey::new(Table::MachineOwner, TenantId::PLATFORM, &id.0);
            let tenant = open.records.read::<TenantId>(&owner)?.ok_or(missing)?.value;
            let principal = open.principal(tenant, id)?;
            let Principal { name, roles, revoked, .. } = &principal.value;
            if revoked.is_some() {
                return Err(missing);
            }
            let row = RowKey::new(Table::Machine, tenant, &id.0);
            let machine = open.records.read::<Machine>(&row)?.ok_or(missing)?.value;
            let view = open.records.view();
            let approvals = view.scan::<Approval>(Table::Approval, tenant, &id.0, &[], APPROVALS_MAX)?;
            let approvals = approvals.into_iter().flatten().map(|row| row.value);
            let caller = Caller {
                principal: id,
                tenant,
                name: name.clone(),
                roles: *roles,
                proof: Proof::Evidence,
                expires: None,
                address,
            };
            Ok(Booting {
                caller: Arc::new(caller),
                machine,
                approvals: approvals.filter(|approval| !approval.is_over(now)).collect(),
            })
        });
        let found = found.await?;
        self.charge(&found.caller)?;
        Ok(found)
    }

    /// Whether `request` would be allowed. Nothing is done and nothing is logged: for saying what is missing.
    pub async fn would_allow(self: &Arc<Self>, caller: &Arc<Caller>, request: &Arc<Request>) -> bool {
        let Some(open) = self.open.load_full() else { return false };
        self.permitted(&open, caller, request, Question::of(&request.ask)).await.is_ok()
    }

    /// Logs why a machine got nothing, and keeps it for whoever asks why. Returns the entry's request id.
    ///
    /// What is refused more often than a log should grow is counted in the next entry.
    ///
    /// # Errors
    /// [`Error::Sealed`], and those of the store.
    pub async fn refuse_boot(
        self: &Arc<Self>,
        booting: Option<&Booting>,
        address: IpAddr,
        denial: &Denial,
    ) -> Result<RequestId, Error> {
        let open = self.open.load_full().ok_or(Error::Sealed)?;
        let now = self.now();
        let request = self.request_id();
        let Some(unlogged) = self.failures.lock().admit(now.latest.unix_ms() / 1_000) else {
            return Ok(request);
        };
        let more = (unlogged > 0).then(|| format!("and {unlogged} more that were not logged one by one"));
        let mut text = denial.text.clone();
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        let entry = Entry {
            request,
            tenant: booting.map_or(TenantId::PLATFORM, |booting| booting.caller.tenant),
            actor: booting.map(|booting| booting.caller.principal),
            actor_name: booting.map(|booting| booting.caller.name.clone()),
            address: Some(address_bytes(address)),
            result: Outcome::Refused,
            error: Some(Error::Denied.code().to_owned()),
            detail: super::joined([Some(format!("{}: {text}", denial.code)), more]),
            ..self.own_entry(Operation::RefuseEvidence)
        };
        let mut writes = Vec::new();
        if let Some(booting) = booting {
            let row = RowKey::new(Table::Machine, booting.caller.tenant, &booting.caller.principal.0);
            if let Some(stored) = open.records.read::<Machine>(&row)? {
                let code = denial.code.to_owned();
                let refused = Some(Boot { time: now.latest, request, code, text });
                let machine = Machine { refused, ..stored.value.clone() };
                writes.push(open.records.replace(&stored, &machine));
            }
        }
        match self.ledger.commit(Commit { writes, entry: entry.to_bytes() }).await {
            // The machine's record was changed meanwhile: the entry matters more.
            Err(Error::Conflict(_)) => {
                self.ledger.commit(Commit { writes: Vec::new(), entry: entry.to_bytes() }).await?;
            }
            other => {
                other?;
            }
        }
        Ok(request)
    }

    /// This deployment's id, and the public half of the key that signs releases.
    ///
    /// # Errors
    /// [`Error::Sealed`].
    pub fn release_identity(
        &self,
    ) -> Result<(keyhearth_core::id::DeploymentId, [u8; note::KEY_BYTES]), Error> {
        let open = self.open.load_full().ok_or(Error::Sealed)?;
        Ok((open.deployment, open.unsealed.load().secrets().release_key()?.public()))
    }

    /// The key that signs releases.
    ///
    /// # Errors
    /// [`Error::Sealed`].
    pub fn release_key(&self) -> Result<NoteKey, Error> {
        let open = self.open.load_full().ok_or(Error::Sealed)?;
        open.unsealed.load().secrets().release_key()
    }

    /// The key that the machine of this release confirms with.
    ///
    /// # Errors
    /// [`Error::Sealed`].
    pub fn confirm_key(&self, transcript: &[u8; 64]) -> Result<Zeroizing<[u8; SECRET_BYTES]>, Error> {
        let open = self.open.load_full().ok_or(Error::Sealed)?;
        Ok(open.unsealed.load().secrets().confirm_key(transcript))
    }
}

/// The kind of the evidence, for the log.
pub(super) fn kind(release: &Release) -> &str {
    match release.facts.claims.get("kind") {
        Some(Claim::Text(kind)) => kind.as_str(),
        _ => "no",
    }
}

/// What an approval is for: the claims without those that differ at every boot.
fn digest(claims: &Claims) -> [u8; 32] {
    let mut lines = String::new();
    lasting(claims).for_each(|(name, claim)| write_claim(&mut lines, name, claim));
    sha256(&[lines.as_bytes()])
}

fn lasting(claims: &Claims) -> impl Iterator<Item = (&String, &Claim)> {
    claims.iter().filter(|(name, _)| !CLAIMS_OF_ONE_BOOT.contains(&name.as_str()))
}

/// One claim a line, those of records as `record.member`.
fn write_claim(lines: &mut String, name: &str, claim: &Claim) {
    let value = match claim {
        Claim::Bool(value) => value.to_string(),
        Claim::Number(value) => value.to_string(),
        Claim::Text(value) => value.clone(),
        Claim::Texts(values) => values.iter().map(String::as_str).collect::<Vec<_>>().join(" "),
        Claim::Record(members) => {
            for (member, claim) in members {
                write_claim(lines, &format!("{name}.{member}"), claim);
            }
            return;
        }
    };
    lines.extend([name, " ", &value, "\n"]);
}

/// What an approver sees.
fn summary(facts: &BootFacts) -> String {
    let names: Vec<&str> = facts.volumes.iter().map(Name::as_str).collect();
    let mut lines = format!("volumes {}\n", names.join(" "));
    let image = match &facts.comparison {
        keyhearth_core::machine::Comparison::Known => "as its reference values".to_owned(),
        keyhearth_core::machine::Comparison::NoReference => "no reference values".to_owned(),
        keyhearth_core::machine::Comparison::Differs(name) => format!("differs in {name}"),
    };
    lines.extend(["image ", &image, "\n"]);
    lasting(&facts.claims).for_each(|(name, claim)| write_claim(&mut lines, name, claim));
    lines.truncate(lines.floor_char_boundary(16 * TEXT_BYTES_MAX));
    lines
}
