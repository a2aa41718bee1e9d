//! What happens by itself: dates of keys, checkpoints, forgetting, and noticing that the clock jumped.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use keyhearth_core::Error;
use keyhearth_core::decide::Permit;
use keyhearth_core::entry::Entry;
use keyhearth_core::id::{KeyId, Name, PrincipalId, TenantId};
use keyhearth_core::key::{Key, Version};
use keyhearth_core::operation::Operation;
use keyhearth_core::principal::{Caller, Proof, Roles};
use keyhearth_core::request::{Ask, KeyRef, PAGE_MAX, Request};
use keyhearth_core::row::Table;
use keyhearth_core::state::{State, Transition};
use keyhearth_core::store::{Commit, Write};
use keyhearth_core::time::{Now, Time};

use super::open::Open;
use super::records::{Records, Rows};
use super::repeat::Remembered;
use super::transfer::Import;
use super::{Engine, Reading, Turn, blocking};

/// From one look to the next.
const TICK: Duration = Duration::from_secs(1);
/// Until what failed is tried again, in milliseconds.
const RETRY_MS: u64 = 60_000;
/// Ticks from one clearing of remembered results to the next.
const CLEARING_TICKS: u64 = 3_600;
/// The clocks of a machine that runs on drift apart by less than this in a tick, in milliseconds.
const DRIFT_MS_MAX: u64 = 1_000;

impl Engine {
    /// Runs until the future is dropped.
    pub async fn run_schedule(self: &Arc<Self>) {
        let mut last = Reading::take();
        let mut was_steady = self.clock.steady();
        for tick in 1_u64.. {
            tokio::time::sleep(TICK).await;
            let reading = Reading::take();
            self.notice_resume(last, reading).await;
            last = reading;
            let now = self.clock.at(reading);
            if was_steady && !self.clock.steady() {
                was_steady = false;
                self.alarm("the wall clock jumped; dates wait until the server is started again").await;
            }
            let Some(open) = self.open.load_full() else { continue };
            open.forget_old(reading.boot);
            self.keep_checkpoint(&open).await;
            for _ in 0..PAGE_MAX {
                let Some((tenant, key)) = open.dates.lock().take_due(now) else { break };
                if let Err(error) = self.date_reached(&open, tenant, key).await {
                    tracing::error!(%key, %error, "what was due could not be done; tried again in a minute");
                    open.dates.lock().add((tenant, key), now.latest.plus_ms(RETRY_MS));
                }
            }
            if tick % CLEARING_TICKS == 0
                && let Err(error) = self.clear_remembered(&open).await
            {
                tracing::error!(%error, "remembered results could not be cleared");
            }
        }
    }

    /// A machine that was stopped and goes on, or a copy of it, has clocks that disagree about how long
    /// that took. What is cached may be stale or live twice: forget it, and go on as another incarnation.
    async fn notice_resume(&self, last: Reading, reading: Reading) {
        let by_wall = reading.wall.saturating_sub(last.wall);
        let by_boot = reading.boot.saturating_sub(last.boot);
        if by_wall > by_boot + DRIFT_MS_MAX {
            if let Some(open) = self.open.load_full() {
                open.forget_all();
            }
            self.incarnation.fetch_add(1, Ordering::Relaxed);
            self.alarm("this machine was resumed or cloned: caches dropped, new incarnation").await;
        }
    }

    /// Carries out what a date brings to a key: activation, end of protecting or of its material, rotation,
    /// destruction.
    async fn date_reached(
        self: &Arc<Self>,
        open: &Arc<Open>,
        tenant: TenantId,
        id: KeyId,
    ) -> Result<(), Error> {
        let (engine, of) = (Arc::clone(self), Arc::clone(open));
        let done = blocking(move || engine.what_is_due(&of, tenant, id)).await?;
        let Some((writes, entry)) = done else { return Ok(()) };
        self.ledger.commit(Commit { writes, entry: entry.to_bytes() }).await.map(|_| ())
    }

    fn what_is_due(
        self: &Arc<Self>,
        open: &Arc<Open>,
        tenant: TenantId,
        id: KeyId,
    ) -> Result<Option<(Vec<Write>, Entry)>, Error> {
        let now = self.now();
        let held = open.hold(tenant, id, Reading::take().boot)?;
        let permit = Permit::for_dates(&held.key.value);
        let caller = own_caller()?;
        let ask = Ask::DescribeKey { key: KeyRef::Id(id) };
        let request = Request::new(self.request_id(), ask);
        let turn = Turn {
            engine: self,
            open,
            caller: &caller,
            request: &request,
            now,
            permit: &permit,
            held: Some(&held),
            beside: None,
            secret: None,
        };
        let mut key = held.key.value.clone();
        let mut writes = Vec::new();
        let mut said = in_words(&key.apply_dates(now));
        for number in ended_material(&key, now) {
            writes.extend(turn.unload(&mut key, number)?);
            said.push(format!("material of version {number} deleted"));
        }
        if key.destroy_at.is_some_and(|date| now.reached(date)) {
            let mut destroyed = Vec::new();
            for number in 1..=u32::try_from(key.versions.len()).unwrap_or(u32::MAX) {
                let state = key.version(number)?.state;
                if matches!(state, State::Active | State::Suspended) {
                    key.apply(number, Transition::Deactivate, Operation::DateReached, now)?;
                }
                if state != State::Destroyed {
                    writes.extend(turn.destroy_version(&mut key, number, Operation::DateReached, now)?);
                    destroyed.push((number, State::Destroyed));
                }
            }
            said.extend(in_words(&destroyed));
            (key.destroy_at, key.rotation) = (None, None);
        } else if key.rotation.is_some_and(|rotation| now.reached(rotation.next))
            && key.destroy_at.is_none()
            && key.suspended.is_none()
        {
            match turn.rotated(&key, true) {
                Ok((rotated, material)) => {
                    key = rotated;
                    writes.extend(material);
                    said.push(format!("rotated to version {}", key.versions.len()));
                }
                Err(error) => {
                    tracing::error!(key = %id, %error, "rotation was due and is not possible; tried again a day later");
                    key.rotation = key
                        .rotation
                        .map(|r| keyhearth_core::key::Rotation { next: now.latest.plus_days(1), ..r });
                }
            }
        }
        if key == held.key.value {
            return Ok(None);
        }
        writes.insert(0, open.records.replace(&held.key, &key));
        let entry = Entry {
            tenant,
            key: Some(id),
            by: vec!["server".to_owned()],
            detail: Some(said.join(", ")),
            ..self.own_entry(permit.operation())
        };
        Ok(Some((writes, entry)))
    }

    /// Deletes remembered results and import parameters that are over.
    async fn clear_remembered(&self, open: &Arc<Open>) -> Result<(), Error> {
        let now = self.now();
        let of = Arc::clone(open);
        let tenants = blocking(move || of.all_tenants()).await?;
        for (tenant, table) in
            tenants.iter().flat_map(|tenant| [(tenant, Table::Idempotency), (tenant, Table::Import)])
        {
            let mut after = Vec::new();
            loop {
                let (of, cursor, id) = (Arc::clone(open), after.clone(), tenant.value.id);
                let (over, next) = blocking(move || over(&of, table, id, &cursor, now)).await?;
                if !over.is_empty() {
                    let what =
                        if table == Table::Import { "import parameters" } else { "remembered results" };
                    self.commit_own(Operation::DateReached, over, format!("cleared {what}")).await?;
                }
                match next {
                    Some(next) => after = next,
                    None => break,
                }
            }
        }
        Ok(())
    }
}

/// Writes that delete what is over on one page of a table, and where the next page starts.
fn over(open: &Open, table: Table, tenant: TenantId, after: &[u8], now: Now) -> Result<Rows<Write>, Error> {
    if table == Table::Import {
        let (rows, next) = open.records.scan::<Import>(table, tenant, after, PAGE_MAX)?;
        let over = rows.iter().filter(|row| now.reached(row.value.expires));
        return Ok((over.map(Records::delete).collect(), next));
    }
    let (rows, next) = open.records.scan::<Remembered>(table, tenant, after, PAGE_MAX)?;
    let over = rows.iter().filter(|row| now.reached(row.value.expires));
    Ok((over.map(Records::delete).collect(), next))
}

/// When something will happen to keys by itself: at most one date for each key.
#[derive(Debug, Default)]
pub struct Dates {
    sorted: BTreeSet<(Time, (TenantId, KeyId))>,
    of: HashMap<(TenantId, KeyId), Time>,
}

impl Dates {
    /// Replaces the date of a key.
    pub fn set(&mut self, key: (TenantId, KeyId), date: Option<Time>) {
        if let Some(before) = self.of.remove(&key) {
            self.sorted.remove(&(before, key));
        }
        if let Some(date) = date {
            self.of.insert(key, date);
            self.sorted.insert((date, key));
        }
    }

    /// Adds a date that was read a while ago: one that is known already is newer, and stays.
    pub fn add(&mut self, key: (TenantId, KeyId), date: Time) {
        if !self.of.contains_key(&key) {
            self.set(key, Some(date));
        }
    }

    /// Takes out the earliest key whose date has certainly come.
    fn take_due(&mut self, now: Now) -> Option<(TenantId, KeyId)> {
        let &(_, key) = self.sorted.first().filter(|(date, _)| now.reached(*date))?;
        self.set(key, None);
        Some(key)
    }
}

/// The versions whose imported material has certainly ended.
fn ended_material(key: &Key, now: Now) -> Vec<u32> {
    let ended =
        |version: &&Version| version.expires.is_some_and(|end| now.reached(end)) && version.has_material;
    key.versions.iter().filter(ended).map(|version| version.number).collect()
}

/// What happened to which versions: a few words, however many they are.
fn in_words(changes: &[(u32, State)]) -> Vec<String> {
    let of_state = |state| {
        let of: Vec<u32> = changes.iter().filter(|change| change.1 == state).map(|change| change.0).collect();
        match of.as_slice() {
            [] => None,
            [number] => Some(format!("version {number} {state}")),
            [first, .., last] => Some(format!("{} versions from {first} to {last} {state}", of.len())),
        }
    };
    State::ALL.into_iter().filter_map(of_state).collect()
}

/// The server as its own caller.
fn own_caller() -> Result<Caller, Error> {
    let name: Name = "server".parse()?;
    Ok(Caller {
        principal: PrincipalId([0; 16]),
        tenant: TenantId::PLATFORM,
        name,
        roles: Roles::default(),
        proof: Proof::Local,
        expires: None,
        address: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_date_and_the_newest_counts() {
        let at = Time::from_unix_ms;
        let key = |byte| (TenantId([1; 16]), KeyId([byte; 16]));
        let mut dates = Dates::default();
        for ms in [50, 30, 40] {
            dates.set(key(1), Some(at(ms)));
        }
        dates.add(key(1), at(1));
        dates.add(key(2), at(10));
        assert_eq!(dates.sorted.len(), 2);
        assert_eq!(dates.take_due(Now::exactly(at(39))), Some(key(2)));
        assert_eq!(dates.take_due(Now::exactly(at(39))), None);
        assert_eq!(dates.take_due(Now::exactly(at(40))), Some(key(1)));
        dates.set(key(3), Some(at(1)));
        dates.set(key(3), None);
        assert!(dates.sorted.is_empty() && dates.of.is_empty());
    }

    #[test]
    fn few_words_tell_of_many_versions() {
        let changes: Vec<_> = (1..=4_096).map(|number| (number, State::Destroyed)).collect();
        assert_eq!(in_words(&changes), ["4096 versions from 1 to 4096 destroyed"]);
        let mixed = [(1, State::Deactivated), (2, State::Active), (3, State::Deactivated)];
        assert_eq!(in_words(&mixed), ["version 2 active", "2 versions from 1 to 3 deactivated"]);
    }
}
