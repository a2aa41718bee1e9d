//! Acts on keys and their life: create, describe, update, rotate, the transitions, aliases.

use std::collections::BTreeMap;

use keyhearth_core::Error;
use keyhearth_core::id::{Alias, KeyId};
use keyhearth_core::key::{
    ALIASES_MAX, AliasOf, Cryptoperiod, DESCRIPTION_BYTES_MAX, DESTROY_DAYS, Key, Origin, PERIOD_DAYS,
    Rotation, Usage, check_tags,
};
use keyhearth_core::operation::Operation;
use keyhearth_core::request::{Ask, KeyChange, KeyRef, NewKey, PAGE_MAX, Page, Request, Response, UNLIKE};
use keyhearth_core::row::{RowKey, Table};
use keyhearth_core::state::{State, Transition};
use keyhearth_core::store::Write;
use keyhearth_core::time::Now;
use keyhearth_crypto::algorithm::Status;
use keyhearth_crypto::key::generate;
use keyhearth_crypto::random;

use super::records::{Records, Stored};
use super::{CONTENDED_RETRY_AFTER_MS, Effect, Turn};

/// Fresh random bytes for an id.
pub(super) fn id_bytes() -> Result<[u8; 10], Error> {
    let mut bytes = [0; 10];
    random::fill("id", &mut bytes)?;
    Ok(bytes)
}

/// Whether a request makes a key without reading a row that is not cached, and makes its material quickly.
pub(super) fn is_quick(request: &Request) -> bool {
    match &request.ask {
        Ask::CreateKey(new) => {
            !new.policy.decides()
                && new.alias.is_none()
                && request.idempotency.is_none()
                && !super::usage::is_slow(new.algorithm)
        }
        _ => false,
    }
}

impl Turn<'_> {
    /// Acts on one key.
    pub(super) fn on_key(&self) -> Result<Effect, Error> {
        match &self.request.ask {
            Ask::DescribeKey { .. } => {
                Ok(Effect::of(Response::Key(Box::new(self.as_of_now(self.held()?.key.value.clone())))))
            }
            Ask::UpdateKey { change, .. } => self.update_key(change),
            Ask::RotateKey { .. } => self.rotate_key(),
            Ask::ActivateKey { version, .. } => self.transition(*version, Transition::Activate),
            Ask::SuspendKey { version: None, .. } => self.switch_key(Key::suspend, "key suspended"),
            Ask::ResumeKey { version: None, .. } => self.switch_key(Key::resume, "key resumed"),
            Ask::SuspendKey { version, .. } => self.transition(*version, Transition::Suspend),
            Ask::ResumeKey { version, .. } => self.transition(*version, Transition::Resume),
            Ask::DeactivateKey { version, .. } => self.transition(*version, Transition::Deactivate),
            Ask::CompromiseKey { version, .. } => self.compromise(*version),
            Ask::ScheduleDestroy { days, .. } => self.schedule_destroy(*days),
            Ask::CancelDestroy { suspend, .. } => self.cancel_destroy(*suspend),
            Ask::DestroyKey { version, confirm, .. } => self.destroy_key(*version, *confirm),
            Ask::PublicKey { version, .. } => self.public_key(*version),
            Ask::LastUse { .. } => self.last_use(),
            Ask::SetAlias { alias, .. } => self.set_alias(alias),
            Ask::DeleteAlias { alias, .. } => self.delete_alias(alias),
            Ask::MoveAlias { alias, .. } => self.move_alias(alias),
            Ask::ImportParameters { .. }
            | Ask::ImportKey { .. }
            | Ask::UnloadKey { .. }
            | Ask::ExportKey { .. } => self.transfer(),
            Ask::CreateGrant(_) | Ask::ListGrants { .. } | Ask::RevokeGrant { .. } => self.grants(),
            Ask::WhoCan { .. } => self.who_can(),
            Ask::PutKeyPolicy { policy, .. } => self.put_key_policy(policy),
            Ask::KeyPolicy { .. } => self.key_policy(),
            _ => Err(Error::Internal("not an operation on a key")),
        }
    }

    /// Creates a key, its first version, and its alias if one is wanted.
    pub(super) fn create_key(&self, new: &NewKey) -> Result<Effect, Error> {
        if matches!(new.algorithm.info().status, Status::ProcessOnly | Status::Forbidden) {
            return Err(Error::Unsupported("no new keys are made for this algorithm"));
        }
        check_key(&new.description, new.cryptoperiod, new.rotate_days)?;
        check_tags(&new.tags)?;
        let usage = match new.usage.as_slice() {
            [] => Usage::usual(new.algorithm),
            names => Usage::new(names.iter().map(String::as_str), new.algorithm)?,
        };
        let mut key = Key {
            id: KeyId::new(self.now.latest, id_bytes()?),
            tenant: self.tenant(),
            algorithm: new.algorithm,
            usage,
            exportable: new.exportable,
            origin: if new.import { Origin::Imported } else { Origin::Generated },
            created: self.now.latest,
            creator: self.caller.principal,
            description: new.description.clone(),
            tags: new.tags.clone(),
            primary: 1,
            versions: Vec::new(),
            switches: keyhearth_core::state::Switches::default(),
            cryptoperiod: new.cryptoperiod,
            rotation: new.rotate_days.map(|days| self.rotation(days)),
            destroy_at: None,
            aliases: new.alias.iter().cloned().collect(),
            suspended: None,
            policy: new.policy.record(),
        };
        key.check_told_apart("tags", key.tags.keys())?;
        let number = key.add_version(self.now, new.activation, !new.import)?;
        let mut writes = vec![self.open.records.create(RowKey::new(Table::Key, key.tenant, &key.id.0), &key)];
        if !new.import {
            writes.extend(self.new_material(&key, number)?);
        }
        if let Some(alias) = &new.alias {
            writes.push(self.new_alias(alias, key.id)?);
        }
        writes.extend(self.first_policy(&key, &new.policy)?);
        let id = key.id;
        let effect = Effect::writing(Response::Key(Box::new(key)), writes);
        self.remember(Effect { key: Some(id), version: Some(number), ..effect })
    }

    /// Lists the tenant's keys by id. Keys whose record is damaged are left out; the log has the alarm.
    pub(super) fn list_keys(&self, page: &Page) -> Result<Effect, Error> {
        let limit = page_limit(page)?;
        let (rows, next) = self.open.records.scan::<Key>(Table::Key, self.tenant(), &page.after, limit)?;
        let keys = rows.into_iter().map(|row| self.listed(self.as_of_now(row.value)));
        Ok(Effect::of(Response::Keys { keys: keys.collect::<Result<_, Error>>()?, next }))
    }

    /// The key without what people wrote of it, if its own policy keeps the caller from reading about it.
    fn listed(&self, key: Key) -> Result<Key, Error> {
        if key.policy.is_none() || self.may(Operation::DescribeKey, &key)? {
            return Ok(key);
        }
        Ok(Key { description: String::new(), tags: BTreeMap::new(), ..key })
    }

    /// The key with what dates have brought, whether that is written down already or not.
    fn as_of_now(&self, mut key: Key) -> Key {
        key.apply_dates(self.now);
        key
    }

    /// Lists the aliases of the tenant, or of one of its keys, by name.
    pub(super) fn list_aliases(&self, of: Option<&KeyRef>, page: &Page) -> Result<Effect, Error> {
        let limit = page_limit(page)?;
        if let Some(key) = of {
            return self.list_aliases_of(self.open.resolve(self.tenant(), key)?, &page.after, limit);
        }
        let (rows, next) =
            self.open.records.scan::<AliasOf>(Table::Alias, self.tenant(), &page.after, limit)?;
        let aliases = rows.into_iter().map(|row| {
            let text = std::str::from_utf8(&row.key.id).map_err(|_| Error::Damaged("alias"))?;
            Ok((text.parse().map_err(|_| Error::Damaged("alias"))?, row.value))
        });
        Ok(Effect::of(Response::Aliases { aliases: aliases.collect::<Result<_, Error>>()?, next }))
    }

    /// The aliases of one key: its record names them.
    fn list_aliases_of(&self, key: KeyId, after: &[u8], limit: usize) -> Result<Effect, Error> {
        let row = RowKey::new(Table::Key, self.tenant(), &key.0);
        let key: Stored<Key> = self.open.records.read(&row)?.ok_or(Error::NotFound("key"))?;
        let mut left = key.value.aliases.iter().filter(|alias| alias.as_str().as_bytes() > after);
        let mut aliases = Vec::new();
        for alias in left.by_ref().take(limit) {
            aliases.push((alias.clone(), self.alias_row(alias)?.value));
        }
        let last = aliases.last().map(|(alias, _)| alias.as_str().as_bytes().to_vec());
        let next = left.next().and(last);
        Ok(Effect::of(Response::Aliases { aliases, next }))
    }

    fn rotation(&self, every_days: u32) -> Rotation {
        Rotation { every_days, next: self.now.latest.plus_days(every_days) }
    }

    /// New material for a version, wrapped and bound to it.
    fn new_material(&self, key: &Key, number: u32) -> Result<[Write; 2], Error> {
        self.open.store_material(key, number, &generate(key.algorithm)?)
    }

    /// The effect of a changed key.
    fn changed(&self, key: Key, mut writes: Vec<Write>) -> Result<Effect, Error> {
        writes.insert(0, self.open.records.replace(&self.held()?.key, &key));
        Ok(Effect::writing(Response::Key(Box::new(key)), writes))
    }

    fn update_key(&self, change: &KeyChange) -> Result<Effect, Error> {
        let mut key = self.held()?.key.value.clone();
        let switched = change.switches.is_some_and(|switches| switches != key.switches);
        let periods = change.cryptoperiod.is_some_and(|cryptoperiod| cryptoperiod != key.cryptoperiod);
        if switched || periods {
            // Both say when a version is used: nobody brings that about who may not do it by itself.
            for operation in [Operation::DeactivateKey, Operation::ResumeKey] {
                if !self.may(operation, &key)? {
                    return Err(Error::Denied);
                }
            }
        }
        if let Some(description) = &change.description {
            key.description.clone_from(description);
        }
        if let Some(tags) = &change.tags {
            key.tags.clone_from(tags);
        }
        for (name, value) in &change.set_tags {
            match value {
                Some(value) => key.tags.insert(name.clone(), value.clone()),
                None => key.tags.remove(name),
            };
        }
        check_tags(&key.tags)?;
        key.check_told_apart("tags", key.tags.keys())?;
        key.switches = change.switches.unwrap_or(key.switches);
        key.cryptoperiod = change.cryptoperiod.unwrap_or(key.cryptoperiod);
        if let Some(days) = change.rotate_days {
            key.rotation = days.map(|days| self.rotation(days));
        }
        check_key(&key.description, key.cryptoperiod, key.rotation.map(|rotation| rotation.every_days))?;
        self.changed(key, Vec::new())
    }

    fn rotate_key(&self) -> Result<Effect, Error> {
        let (key, writes) = self.rotated(&self.held()?.key.value, false)?;
        let version = key.versions.last().map(|version| version.number);
        let effect = self.changed(key, writes)?;
        self.remember(Effect { version, ..effect })
    }

    /// The key with one more version. An imported key's new version awaits its material, unless that was brought
    /// before: then it begins.
    pub(super) fn rotated(&self, key: &Key, automatic: bool) -> Result<(Key, Vec<Write>), Error> {
        let mut key = key.clone();
        key.check_not_ending(Operation::RotateKey, self.now)?;
        let state = key.suspended.map_or(key.primary()?.state_at(self.now), |_| State::Suspended);
        if matches!(state, State::Suspended | State::Destroyed) {
            return Err(Error::WrongState { state, operation: Operation::RotateKey });
        }
        key.rotation = key.rotation.map(|rotation| self.rotation(rotation.every_days));
        if let Some(number) = key.brought(self.now).map(|version| version.number) {
            key.apply(number, Transition::Activate, Operation::RotateKey, self.now)?;
            key.version_mut(number)?.automatic = automatic;
            return Ok((key, Vec::new()));
        }
        if key.origin == Origin::Imported {
            if key.versions.last().is_some_and(|version| !version.has_material && version.destroyed.is_none())
            {
                return Err(Error::Conflict("a version of this key already awaits its material"));
            }
            let number = key.add_version(self.now, None, false)?;
            key.version_mut(number)?.automatic = automatic;
            return Ok((key, Vec::new()));
        }
        let number = key.add_version(self.now, None, true)?;
        key.version_mut(number)?.automatic = automatic;
        let writes = self.new_material(&key, number)?;
        Ok((key, writes.into()))
    }

    fn transition(&self, version: Option<u32>, transition: Transition) -> Result<Effect, Error> {
        let mut key = self.held()?.key.value.clone();
        let number = version.unwrap_or(key.primary);
        let operation = self.permit.operation();
        if transition != Transition::Compromise {
            key.check_not_ending(operation, self.now)?;
        }
        key.apply(number, transition, operation, self.now)?;
        let state = key.version(number)?.state;
        let effect = self.changed(key, Vec::new())?.detail(state.name());
        Ok(Effect { version: Some(number), ..effect })
    }

    /// Suspends or resumes the key as a whole.
    fn switch_key(
        &self,
        switch: fn(&mut Key, Now) -> Result<(), Error>,
        detail: &str,
    ) -> Result<Effect, Error> {
        let mut key = self.held()?.key.value.clone();
        switch(&mut key, self.now)?;
        Ok(self.changed(key, Vec::new())?.detail(detail))
    }

    fn compromise(&self, version: Option<u32>) -> Result<Effect, Error> {
        if self.request.reason.as_ref().is_none_or(String::is_empty) {
            return Err(Error::Invalid {
                field: "reason",
                rule: "must say why the key is thought to be compromised",
            });
        }
        self.transition(version, Transition::Compromise)
    }

    fn schedule_destroy(&self, days: u32) -> Result<Effect, Error> {
        if !DESTROY_DAYS.contains(&days) {
            return Err(Error::Invalid { field: "days", rule: "must be 7 to 30" });
        }
        let mut key = self.held()?.key.value.clone();
        if key.destroy_at.is_some() {
            return Err(Error::Conflict("its destruction is scheduled already"));
        }
        if key.versions.iter().all(|version| version.state == State::Destroyed) {
            return Err(Error::WrongState { state: State::Destroyed, operation: Operation::ScheduleDestroy });
        }
        key.destroy_at = Some(self.now.latest.plus_days(days));
        Ok(self.changed(key, Vec::new())?.detail(format!("in {days} days")))
    }

    fn cancel_destroy(&self, suspend: bool) -> Result<Effect, Error> {
        let mut key = self.held()?.key.value.clone();
        if key.destroy_at.take().is_none() {
            return Err(Error::Conflict("no destruction is scheduled"));
        }
        if suspend {
            key.suspend(self.now)?;
        }
        self.changed(key, Vec::new())
    }

    fn destroy_key(&self, number: u32, confirm: KeyId) -> Result<Effect, Error> {
        let mut key = self.held()?.key.value.clone();
        if confirm != key.id {
            return Err(Error::Invalid {
                field: "confirm",
                rule: "must repeat the key's id: this cannot be undone",
            });
        }
        let writes = self.destroy_version(&mut key, number, self.permit.operation(), self.now)?;
        let effect = self.changed(key, writes)?.detail(State::Destroyed.name());
        Ok(Effect { version: Some(number), ..effect })
    }

    /// Marks a version destroyed and deletes its material.
    pub(super) fn destroy_version(
        &self,
        key: &mut Key,
        number: u32,
        operation: Operation,
        now: Now,
    ) -> Result<Vec<Write>, Error> {
        let had_material = key.version(number)?.has_material;
        key.apply(number, Transition::Destroy, operation, now)?;
        if had_material {
            Ok(vec![Records::delete(&self.open.material_row(key, number)?)])
        } else {
            Ok(Vec::new())
        }
    }

    fn public_key(&self, version: Option<u32>) -> Result<Effect, Error> {
        let key = &self.held()?.key.value;
        let number = version.unwrap_or(key.primary);
        if !key.algorithm.is_asymmetric() {
            return Err(Error::Unsupported("a symmetric key has no public half"));
        }
        let version = key.version(number)?;
        if !version.has_material_at(self.now) {
            let state = if version.state == State::Destroyed { State::Destroyed } else { State::PreActive };
            return Err(Error::WrongState { state, operation: Operation::PublicKey });
        }
        let der = self.open.material_row(key, number)?.value.public.ok_or(Error::Damaged("public key"))?;
        let (algorithm, usage) = (key.algorithm, key.usage);
        let response = Response::PublicKey { key: key.id, version: number, algorithm, usage, der };
        Ok(Effect { version: Some(number), ..Effect::of(response) })
    }

    fn last_use(&self) -> Result<Effect, Error> {
        let key = &self.held()?.key.value;
        let (since, last) = self.open.uses.of(key.id);
        let (key, created) = (key.id, key.created);
        Ok(Effect::of(Response::LastUse { key, created, since: since.max(created), last }))
    }

    fn new_alias(&self, alias: &Alias, key: KeyId) -> Result<Write, Error> {
        let row = RowKey::new(Table::Alias, self.tenant(), alias.as_str().as_bytes());
        if self.open.records.read::<AliasOf>(&row)?.is_some() {
            return Err(Error::Conflict("this alias exists; move it, or delete it first"));
        }
        let now = Some(self.now.latest);
        Ok(self.open.records.create(row, &AliasOf { key, created: now, updated: now }))
    }

    fn alias_row(&self, alias: &Alias) -> Result<Stored<AliasOf>, Error> {
        let row = RowKey::new(Table::Alias, self.tenant(), alias.as_str().as_bytes());
        self.open.records.read(&row)?.ok_or(Error::NotFound("alias"))
    }

    fn set_alias(&self, alias: &Alias) -> Result<Effect, Error> {
        let mut key = self.held()?.key.value.clone();
        if key.aliases.contains(alias) {
            return Ok(Effect::of(Response::Key(Box::new(key))).detail(alias.as_str()));
        }
        if key.aliases.len() >= ALIASES_MAX {
            return Err(Error::TooLarge { field: "aliases", limit: ALIASES_MAX });
        }
        let write = self.new_alias(alias, key.id)?;
        key.aliases.push(alias.clone());
        key.aliases.sort();
        Ok(self.changed(key, vec![write])?.detail(alias.as_str()))
    }

    fn delete_alias(&self, alias: &Alias) -> Result<Effect, Error> {
        let mut key = self.held()?.key.value.clone();
        let at = key.aliases.iter().position(|own| own == alias).ok_or(Error::NotFound("alias"))?;
        key.aliases.remove(at);
        let row = self.alias_row(alias)?;
        Ok(self.changed(key, vec![Records::delete(&row)])?.detail(alias.as_str()))
    }

    /// Takes the alias from the key that has it and gives it to this one.
    fn move_alias(&self, alias: &Alias) -> Result<Effect, Error> {
        let mut key = self.held()?.key.value.clone();
        let row = self.alias_row(alias)?;
        if row.value.key == key.id {
            return Ok(Effect::of(Response::Key(Box::new(key))).detail(alias.as_str()));
        }
        let held = &self.beside()?.held;
        if row.value.key != held.key.value.id {
            // Others moved it meanwhile.
            return Err(Error::Unavailable { retry_after_ms: CONTENDED_RETRY_AFTER_MS });
        }
        if !held.key.value.is_like(&key) {
            return Err(UNLIKE);
        }
        if key.aliases.len() >= ALIASES_MAX {
            return Err(Error::TooLarge { field: "aliases", limit: ALIASES_MAX });
        }
        let mut old = held.key.value.clone();
        old.aliases.retain(|own| own != alias);
        key.aliases.push(alias.clone());
        key.aliases.sort();
        let moved = AliasOf { key: key.id, updated: Some(self.now.latest), ..row.value };
        let writes =
            vec![self.open.records.replace(&held.key, &old), self.open.records.replace(&row, &moved)];
        Ok(self.changed(key, writes)?.detail(alias.as_str()))
    }
}

fn check_key(description: &str, cryptoperiod: Cryptoperiod, rotate_days: Option<u32>) -> Result<(), Error> {
    if description.len() > DESCRIPTION_BYTES_MAX {
        return Err(Error::TooLarge { field: "description", limit: DESCRIPTION_BYTES_MAX });
    }
    let Cryptoperiod { protect_days, process_days } = cryptoperiod;
    if [protect_days, process_days, rotate_days]
        .into_iter()
        .flatten()
        .any(|days| !PERIOD_DAYS.contains(&days))
    {
        return Err(Error::Invalid { field: "days", rule: "must be 1 to 3,650" });
    }
    if protect_days.zip(process_days).is_some_and(|(protect, process)| process < protect) {
        return Err(Error::Invalid { field: "process_days", rule: "must not be less than protect_days" });
    }
    Ok(())
}

pub(super) fn page_limit(page: &Page) -> Result<usize, Error> {
    match page.limit {
        1..=PAGE_MAX => Ok(page.limit),
        _ => Err(Error::Invalid { field: "limit", rule: "must be 1 to 1,000" }),
    }
}
