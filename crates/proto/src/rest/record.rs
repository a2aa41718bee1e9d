//! Core's records as answers tell them.

use std::net::IpAddr;

use keyhearth_core::id::Alias;
use keyhearth_core::operation::Operation;
use keyhearth_core::principal::{self, Fingerprint, Proof};
use keyhearth_core::request as ask;
use keyhearth_core::{entry, grant, key, machine, policy, secret, tenant};

use super::answer::*;
use super::body::{Cryptoperiod, Days, ReferenceValue, Switches};
use super::spelling::{Is, Use, Within, hex};

fn some<T, U: From<T>>(value: Option<T>) -> Option<U> {
    value.map(Into::into)
}

pub(super) fn list<'a, T: 'a, U: From<&'a T>>(values: &'a [T]) -> Vec<U> {
    values.iter().map(U::from).collect()
}

fn days(days: Option<u32>) -> Option<Days> {
    days.and_then(Within::new)
}

fn address(bytes: &[u8]) -> Option<String> {
    let four = || <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    let sixteen = || <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from);
    four().or_else(sixteen).map(|address| address.to_string())
}

impl From<&key::Key> for Key {
    fn from(key: &key::Key) -> Self {
        Self {
            id: key.id.into(),
            tenant: key.tenant.into(),
            algorithm: key.algorithm.into(),
            usage: key.usage.names().map(|name| Is(Use(name))).collect(),
            exportable: key.exportable,
            origin: key.origin.into(),
            created: key.created.into(),
            creator: key.creator.into(),
            description: key.description.clone(),
            tags: key.tags.iter().collect(),
            primary: key.primary,
            versions: list(&key.versions),
            switches: Switches {
                process_when_suspended: key.switches.process_when_suspended,
                process_when_compromised: key.switches.process_when_compromised,
            },
            cryptoperiod: Cryptoperiod {
                protect_days: days(key.cryptoperiod.protect_days),
                process_days: days(key.cryptoperiod.process_days),
            },
            rotation: key
                .rotation
                .map(|rotation| Rotation { every_days: rotation.every_days, next: rotation.next.into() }),
            destroy_at: some(key.destroy_at),
            aliases: key.aliases.iter().cloned().map(Is).collect(),
            suspended: some(key.suspended),
            closed: key.is_closed(),
        }
    }
}

impl From<&key::Version> for Version {
    fn from(version: &key::Version) -> Self {
        Self {
            number: version.number,
            state: version.state.into(),
            created: version.created.into(),
            activation: some(version.activation),
            protect_end: some(version.protect_end),
            process_end: some(version.process_end),
            compromised: some(version.compromised),
            destroyed: some(version.destroyed),
            has_material: version.has_material,
            expires: some(version.expires),
            description: version.description.clone(),
            automatic: version.automatic,
        }
    }
}

impl From<&(Alias, key::AliasOf)> for AliasOf {
    fn from((alias, of): &(Alias, key::AliasOf)) -> Self {
        Self {
            alias: alias.clone().into(),
            key: of.key.into(),
            created: some(of.created),
            updated: some(of.updated),
        }
    }
}

impl From<&(secret::SecretName, secret::KeptSecret)> for KeptSecret {
    fn from((name, secret): &(secret::SecretName, secret::KeptSecret)) -> Self {
        Self {
            name: name.clone().into(),
            key: secret.key.into(),
            version: secret.version,
            created: secret.created.into(),
        }
    }
}

impl From<&grant::Grant> for Grant {
    fn from(grant: &grant::Grant) -> Self {
        Self {
            id: grant.id.into(),
            key: grant.key.into(),
            grantee: grant.grantee.into(),
            grantor: grant.grantor.into(),
            operations: grant
                .operations
                .iter()
                .filter_map(|&code| some(Operation::from_code(code)))
                .collect(),
            context: grant.context.iter().collect(),
            expires: some(grant.expires),
            delegable: grant.delegable,
            parent: some(grant.parent),
            created: grant.created.into(),
            name: grant.name.clone(),
            exact_context: grant.exact_context.as_ref().map(|pairs| pairs.iter().collect()),
            retiree: some(grant.retiree),
        }
    }
}

impl From<&principal::Principal> for Identity {
    fn from(principal: &principal::Principal) -> Self {
        Self {
            id: principal.id.into(),
            tenant: principal.tenant.into(),
            name: principal.name.clone().into(),
            roles: principal.roles.iter().map(Is).collect(),
            created: principal.created.into(),
            revoked: some(principal.revoked),
            certificates: principal.certificates.iter().copied().map(Is).collect(),
        }
    }
}

impl From<&principal::Caller> for WhoAmI {
    fn from(caller: &principal::Caller) -> Self {
        Self {
            identity: caller.principal.into(),
            tenant: caller.tenant.into(),
            name: caller.name.clone().into(),
            roles: caller.roles.iter().map(Is).collect(),
            certificate: match &caller.proof {
                Proof::Certificate(fingerprint) => Some((*fingerprint).into()),
                Proof::AccessKey(_) | Proof::Evidence | Proof::Anonymous | Proof::Local => None,
            },
            access_key: match &caller.proof {
                Proof::AccessKey(id) => Some(id.clone()),
                Proof::Certificate(_) | Proof::Evidence | Proof::Anonymous | Proof::Local => None,
            },
            address: caller.address.to_string(),
        }
    }
}

impl From<&machine::Machine> for Machine {
    fn from(machine: &machine::Machine) -> Self {
        let reference = machine.reference.iter().map(|(claim, values)| ReferenceValue {
            claim: claim.clone().into(),
            values: values.iter().cloned().map(Into::into).collect(),
        });
        Self {
            id: machine.id.into(),
            tenant: machine.tenant.into(),
            name: machine.name.clone().into(),
            key: machine.key.into(),
            version: machine.version,
            volumes: list(&machine.volumes),
            reference: reference.collect(),
            boots: machine.boots,
            keeps_token: machine.token.is_some() || machine.next_token.is_some(),
            leased_until: machine.lease.as_ref().map(|lease| lease.until.into()),
            confirmed: machine.lease.as_ref().is_some_and(|lease| lease.confirmed),
            released: machine.released.as_ref().map(Into::into),
            refused: machine.refused.as_ref().map(Into::into),
            created: machine.created.into(),
            candidates: machine.candidates.iter().map(|candidate| expected(machine, candidate)).collect(),
            clones: machine.image.map(|image| Clones {
                made: image.clones,
                max: image.clones_max,
                recovery: image.recovery,
            }),
            image: machine.origin.as_ref().map(|origin| origin.image.into()),
            unsettled: machine.is_unsettled(),
        }
    }
}

fn expected(machine: &machine::Machine, candidate: &machine::Candidate) -> Candidate {
    let lacks = machine.lacks(&candidate.claims);
    let claims = candidate.claims.iter().map(|(claim, value)| ExpectedClaim {
        claim: claim.clone(),
        value: value.clone(),
        differs: lacks.contains_key(claim.as_str()),
    });
    Candidate { id: candidate.id.into(), asked: candidate.asked.into(), claims: claims.collect() }
}

impl From<&machine::Volume> for Volume {
    fn from(volume: &machine::Volume) -> Self {
        Self {
            name: volume.name.clone().into(),
            generation: volume.generation,
            header: volume.header.map(|hash| Fingerprint(hash).into()),
        }
    }
}

impl From<&machine::Boot> for Boot {
    fn from(boot: &machine::Boot) -> Self {
        let (code, text) = (boot.code.clone(), boot.text.clone());
        Self { time: boot.time.into(), request_id: boot.request.into(), code, text }
    }
}

impl From<&machine::Approval> for Approval {
    fn from(approval: &machine::Approval) -> Self {
        Self {
            id: approval.id.into(),
            machine: approval.machine.into(),
            name: approval.name.clone().into(),
            summary: approval.summary.clone(),
            asked: approval.asked.into(),
            until: approval.until.into(),
            decision: approval.decision.into(),
            by: some(approval.by),
        }
    }
}

impl From<&principal::AccessKey> for AccessKey {
    fn from(key: &principal::AccessKey) -> Self {
        Self {
            id: key.id.clone(),
            identity: key.principal.into(),
            created: key.created.into(),
            disabled: some(key.disabled),
            end: some(key.end),
        }
    }
}

impl From<&policy::Policy> for PolicyInForce {
    fn from(policy: &policy::Policy) -> Self {
        Self {
            name: policy.name.clone().into(),
            text: policy.text.clone(),
            activated: policy.activated.into(),
        }
    }
}

impl From<&ask::Difference> for Difference {
    fn from(difference: &ask::Difference) -> Self {
        Self {
            identity: difference.principal.into(),
            name: difference.name.clone().into(),
            operation: difference.operation.into(),
            key: some(difference.key),
            gains: difference.gains,
        }
    }
}

impl From<&ask::Ability> for Ability {
    fn from(ability: &ask::Ability) -> Self {
        Self {
            identity: ability.principal.into(),
            name: ability.name.clone().into(),
            operation: ability.operation.into(),
            by: ability.by.clone(),
        }
    }
}

impl Entry {
    /// Spells the entry at `index` of the log.
    #[must_use]
    pub fn new(index: u64, entry: &entry::Entry) -> Self {
        let operation = entry.operation();
        let lease = entry.lease_seconds.filter(|_| entry.result == entry::Result::Done);
        let held_until = lease.map(|seconds| entry.time.plus_ms(u64::from(seconds) * 1_000));
        Self {
            index,
            time: entry.time.into(),
            incarnation: entry.incarnation,
            request_id: entry.request.into(),
            tenant: entry.tenant.into(),
            actor: some(entry.actor),
            actor_name: some(entry.actor_name.clone()),
            certificate: entry.certificate.map(|bytes| hex(&bytes)),
            access_key: entry.access_key.clone(),
            address: entry.address.as_deref().and_then(address),
            operation: operation
                .map_or_else(|| format!("operation-{}", entry.operation), |known| known.name().to_owned()),
            key: some(entry.key),
            version: entry.version,
            result: entry.result.into(),
            error: entry.error.clone(),
            by: entry.by.clone(),
            context: entry.context.map(|bytes| hex(&bytes)),
            reason: entry.reason.clone(),
            detail: entry.detail.clone(),
            lease_seconds: entry.lease_seconds,
            held_until: held_until.map(Into::into),
        }
    }
}

impl From<(u64, Vec<u8>)> for LoggedEntry {
    fn from((index, bytes): (u64, Vec<u8>)) -> Self {
        let entry = entry::Entry::from_bytes(&bytes).ok().map(|entry| Entry::new(index, &entry));
        Self { index, bytes: bytes.into(), entry }
    }
}

impl From<&tenant::Tenant> for Tenant {
    fn from(tenant: &tenant::Tenant) -> Self {
        Self {
            id: tenant.id.into(),
            name: tenant.name.clone().into(),
            created: tenant.created.into(),
            disabled: some(tenant.disabled),
        }
    }
}

impl From<&ask::Status> for Status {
    fn from(status: &ask::Status) -> Self {
        Self {
            version: status.version.to_owned(),
            sealed: status.sealed,
            seal_kind: status.seal_kind.to_owned(),
            shares_given: status.unseal_progress.map(|(given, _)| given),
            shares_needed: status.unseal_progress.map(|(_, needed)| needed),
            keys: status.keys,
            log_size: status.log_size,
            epoch: status.epoch,
            deployment: status.release.map(|(deployment, _)| deployment.into()),
            release_key: status.release.map(|(_, key)| key[..].into()),
            clock_steady: status.clock_steady,
            development: status.development,
            key_arn_prefix: status.key_arn_prefix.clone(),
        }
    }
}
