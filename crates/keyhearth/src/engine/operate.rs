//! Acts on the deployment: tenants, the seal, rotation of root and tenant keys.
//!
//! Rotations go on in steps after their first commit. Each step is a commit of its own and leaves every
//! key readable, so a crash at any of them is resumed at the next unseal.

use std::sync::Arc;

use keyhearth_core::Error;
use keyhearth_core::entry::{Entry, Result as Outcome};
use keyhearth_core::id::{Name, TenantId};
use keyhearth_core::key::{Key, Material};
use keyhearth_core::operation::Operation;
use keyhearth_core::principal::{AccessKey, Principal, Role};
use keyhearth_core::request::{Ask, PAGE_MAX, Rekey as RekeyStep, Response, Secret, Status};
use keyhearth_core::row::{RowKey, Table};
use keyhearth_core::store::{Commit, Write};
use keyhearth_core::tenant::Tenant;
use keyhearth_core::time::Time;
use keyhearth_crypto::kh1::envelope;
use keyhearth_crypto::passphrase::Params;
use keyhearth_crypto::secret::SecretBytes;
use zeroize::Zeroizing;

use super::keys::id_bytes;
use super::open::{Open, WrappedTenantKey};
use super::records::{Records, Rows, Stored};
use super::{Effect, Engine, Turn, blocking};
use crate::seal::{self, Collected, Passphrase, Quorum, Rekey, SealChoice, SealRecord, ShareCollector};

/// Rows that one step of a rotation changes.
const STEP_ROWS: usize = 256;

/// Wrong shares and passphrases that are taken in a minute; then unsealing waits.
const UNSEAL_FAILURES_PER_MINUTE: u32 = 10;

/// Ceremonies under way. At most one of a kind: who begins another, ends the one before.
#[derive(Default)]
pub(super) struct Ceremonies {
    unseal: Option<ShareCollector>,
    failures: (u64, u32),
    rekey: Option<Rekey>,
}

/// What an operator gives to unseal.
pub enum UnsealWith<'a> {
    /// One share.
    Share(&'a str),
    /// The passphrase.
    Passphrase(&'a [u8]),
}

/// The same, for the task that tries it.
enum Given {
    Share(Zeroizing<String>),
    Passphrase(Secret),
}

/// The System row that remembers how often the seal record was changed.
pub(super) fn seal_revision_row() -> RowKey {
    RowKey::new(Table::System, TenantId::PLATFORM, b"seal-revision")
}

impl Turn<'_> {
    /// Acts on the deployment.
    pub(super) fn on_platform(&self) -> Result<Effect, Error> {
        match &self.request.ask {
            Ask::CreateTenant { name, admin, request } => self.create_tenant(name, admin, request),
            Ask::ListTenants => self.list_tenants(),
            Ask::DisableTenant { tenant } => self.switch_tenant(*tenant, true),
            Ask::EnableTenant { tenant } => self.switch_tenant(*tenant, false),
            Ask::RotateTenantKey { tenant } => self.rotate_tenant_key(*tenant),
            Ask::RotateRoot => Ok(Effect::of(Response::Done)),
            Ask::Seal => Ok(Effect::of(Response::Done)),
            Ask::Rekey(step) => self.rekey(step),
            Ask::ExportLog { path } => self.export_log(path),
            _ => Err(Error::Internal("not an operation on the deployment")),
        }
    }

    fn create_tenant(&self, name: &Name, admin: &Name, request: &str) -> Result<Effect, Error> {
        let name_row = RowKey::new(Table::TenantName, TenantId::PLATFORM, name.as_str().as_bytes());
        if self.open.records.read::<TenantId>(&name_row)?.is_some() {
            return Err(Error::Conflict("a tenant of this name exists, or has existed"));
        }
        let id = TenantId::new(self.now.latest, id_bytes()?);
        let tenant =
            Tenant { id, name: name.clone(), created: self.now.latest, disabled: None, tenant_key: 1 };
        let role = if self.engine.settings.development { Role::Developer } else { Role::TenantAdmin };
        let (principal, certificate, mut writes) = self.new_identity(id, admin, &[role], request, None)?;
        let records = &self.open.records;
        writes.push(records.create(RowKey::new(Table::Tenant, TenantId::PLATFORM, &id.0), &tenant));
        writes.push(records.create(name_row, &id));
        writes.extend(self.new_tenant_key(id, 1)?);
        let detail = format!("{id} {name}, admin {}", principal.id);
        let response = self.tenant_made(tenant, principal, certificate);
        self.remember(Effect::writing(response, writes).detail(detail))
    }

    pub(super) fn tenant_made(&self, tenant: Tenant, admin: Principal, certificate: String) -> Response {
        let ca = self.open.ca.certificate_pem().to_owned();
        Response::Tenant { tenant: Box::new(tenant), admin: Box::new(admin), certificate, ca }
    }

    /// The writes that store a new tenant key. They conflict if the root is rotated meanwhile.
    fn new_tenant_key(&self, tenant: TenantId, version: u32) -> Result<[Write; 2], Error> {
        let revision = self.open.seal_revision()?;
        let key = SecretBytes::random(32)?;
        let wrapped = self.open.unsealed.load().wrap_tenant_key(tenant, version, &key)?;
        let row = RowKey::versioned(Table::TenantKey, tenant, &tenant.0, version);
        Ok([self.open.records.create(row, &WrappedTenantKey(wrapped)), Records::keep(&revision)])
    }

    fn list_tenants(&self) -> Result<Effect, Error> {
        Ok(Effect::of(Response::Tenants(self.open.all_tenants()?.into_iter().map(|row| row.value).collect())))
    }

    /// A tenant other than the platform's.
    fn other_tenant(&self, id: TenantId) -> Result<Arc<Stored<Tenant>>, Error> {
        if id == TenantId::PLATFORM {
            return Err(Error::Invalid { field: "tenant", rule: "the platform tenant stays as it is" });
        }
        self.open.tenant(id)
    }

    fn switch_tenant(&self, id: TenantId, off: bool) -> Result<Effect, Error> {
        let stored = self.other_tenant(id)?;
        if stored.value.disabled.is_some() == off {
            return Err(Error::Conflict("the tenant is in that state already"));
        }
        let tenant = Tenant { disabled: off.then_some(self.now.latest), ..stored.value.clone() };
        let write = self.open.records.replace(&stored, &tenant);
        Ok(Effect::writing(Response::Done, vec![write]).detail(format!("{id} {}", tenant.name)))
    }

    /// The first step: the new tenant key. The sweep follows, see [`Engine::sweep_tenant`].
    fn rotate_tenant_key(&self, id: TenantId) -> Result<Effect, Error> {
        let stored = self.other_tenant(id)?;
        if self.open.is_tenant_key_rotating(id)? {
            return Err(Error::Conflict(
                "the last rotation of this tenant's key is not finished; one that failed goes on at the next unseal",
            ));
        }
        let version = stored.value.tenant_key + 1;
        let tenant = Tenant { tenant_key: version, ..stored.value.clone() };
        let [key, same_root] = self.new_tenant_key(id, version)?;
        let writes = vec![key, same_root, self.open.records.replace(&stored, &tenant)];
        Ok(Effect::writing(Response::Done, writes).detail(format!("{id} version {version}")))
    }

    /// A step of a rekey. The new seals take the place of the old ones afterwards, see [`Engine::finish_rekey`].
    fn rekey(&self, step: &RekeyStep) -> Result<Effect, Error> {
        let unsealed = self.open.unsealed.load_full();
        let mut ceremonies = self.engine.ceremonies.lock();
        let progress = |rekey: &Rekey| {
            let progress = rekey.progress();
            let (proved, needed) = progress.map_or((0, 1), |progress| (progress.present, progress.needed));
            Response::RekeyProgress { proved, needed, done: false }
        };
        match step {
            RekeyStep::Shares { threshold, count } => {
                let quorum = Some(Quorum { threshold: *threshold, count: *count });
                let (rekey, shares) = Rekey::begin(&unsealed, &SealChoice { passphrase: None, quorum })?;
                ceremonies.rekey = Some(rekey);
                let shares = shares.0.iter().map(|share| Secret::new(share.as_bytes().to_vec())).collect();
                Ok(Effect::of(Response::RekeyShares(shares))
                    .detail(format!("begun: {threshold} of {count} shares")))
            }
            RekeyStep::Passphrase(text) => {
                let passphrase = Some(Passphrase { text, params: Params::MIN });
                let (rekey, _) = Rekey::begin(&unsealed, &SealChoice { passphrase, quorum: None })?;
                let response = progress(&rekey);
                ceremonies.rekey = Some(rekey);
                Ok(Effect::of(response).detail("begun: passphrase"))
            }
            RekeyStep::Cancel => {
                let begun = ceremonies.rekey.take();
                begun.map(|_| Effect::of(Response::Done).detail("cancelled")).ok_or(NOT_BEGUN)
            }
            RekeyStep::Prove(proof) => {
                let rekey = ceremonies.rekey.as_mut().ok_or(NOT_BEGUN)?;
                match std::str::from_utf8(proof) {
                    _ if rekey.is_proven() => {}
                    Ok(text) if text.starts_with("khshare") => {
                        rekey.prove_share(&unsealed, text, self.now.latest)?
                    }
                    Ok(_) | Err(_) => rekey.prove_passphrase(&unsealed, proof)?,
                }
                Ok(Effect::of(progress(rekey)).detail("proved"))
            }
        }
    }
}

const NOT_BEGUN: Error = Error::Conflict("no rekey has begun");

impl Open {
    /// How often the seal record was changed.
    pub(super) fn seal_revision(&self) -> Result<Stored<u64>, Error> {
        self.records.read(&seal_revision_row())?.ok_or(Error::Damaged("seal revision"))
    }

    /// All tenants; damaged ones are left out.
    pub(super) fn all_tenants(&self) -> Result<Vec<Stored<Tenant>>, Error> {
        Ok(self.tenant_rows()?.into_iter().flatten().collect())
    }

    /// All tenants, and what is wrong with the damaged ones.
    fn tenant_rows(&self) -> Result<Vec<Result<Stored<Tenant>, Error>>, Error> {
        let mut all = Vec::new();
        let mut after = Vec::new();
        loop {
            let view = self.records.view();
            let (rows, next) = view.page(Table::Tenant, TenantId::PLATFORM, &after, PAGE_MAX)?;
            all.extend(rows);
            match next {
                Some(next) => after = next,
                None => return Ok(all),
            }
        }
    }

    /// Whether the tenant has older keys: a rotation is under way, or is left of a crash.
    pub(super) fn is_tenant_key_rotating(&self, tenant: TenantId) -> Result<bool, Error> {
        let view = self.records.view();
        let keys = view.scan::<WrappedTenantKey>(Table::TenantKey, tenant, &tenant.0, &[], 2)?;
        Ok(keys.len() > 1)
    }
}

impl Engine {
    /// What follows the commit of some operations on the deployment.
    pub(super) async fn after_commit(
        self: &Arc<Self>,
        open: &Arc<Open>,
        ask: &Ask,
    ) -> Result<Option<Response>, Error> {
        match ask {
            Ask::RotateTenantKey { tenant } => {
                Ok(Some(Response::Rotated { rows: self.sweep_tenant(open, *tenant).await? }))
            }
            Ask::RotateRoot => Ok(Some(Response::Rotated { rows: self.rotate_root(open).await? })),
            Ask::Rekey(RekeyStep::Prove(_)) => self.finish_rekey(open).await,
            Ask::Seal => {
                self.seal();
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// Forgets the root key and everything that depends on it.
    pub fn seal(&self) {
        self.ledger.close();
        if let Some(open) = self.open.swap(None) {
            open.forget_all();
        }
        *self.ceremonies.lock() = Ceremonies::default();
    }

    /// The seal record.
    pub(super) fn seal_record(&self) -> Result<SealRecord, Error> {
        let bytes = self.store.document(seal::DOCUMENT)?.ok_or(Error::NotFound("seal record"))?;
        SealRecord::from_bytes(&bytes)
    }

    /// Writes the seal record, and gives the row that remembers its revision. A crash between the two leaves
    /// a record that is newer than the row says, which is good; an older one is refused.
    pub(super) fn write_seal(&self, open: &Open, record: &SealRecord) -> Result<Write, Error> {
        self.store.put_document(seal::DOCUMENT, &record.to_bytes())?;
        Ok(open.records.replace(&open.seal_revision()?, &record.revision()))
    }

    /// Takes a share or the passphrase; when they are enough, opens. What was tried is logged, whatever comes
    /// of it; what is refused untried, up to a rate.
    ///
    /// # Errors
    /// [`Error::TooMany`] after too many failures, [`Error::Conflict`] if it is not sealed,
    /// [`Error::Unavailable`] while something else is tried; else as [`ShareCollector::add`],
    /// [`SealRecord::unseal_passphrase`] and [`Engine::open`](Engine) say.
    pub async fn unseal(
        self: &Arc<Self>,
        with: UnsealWith<'_>,
        address: std::net::IpAddr,
    ) -> Result<Status, Error> {
        let given = match with {
            UnsealWith::Share(text) => Given::Share(Zeroizing::new(text.to_owned())),
            UnsealWith::Passphrase(text) => Given::Passphrase(Secret::new(text.to_vec())),
        };
        let engine = Arc::clone(self);
        // In a task of its own: it is counted, logged and if need be undone although the client goes away.
        let unsealing = tokio::spawn(async move { engine.unseal_alone(given, address).await });
        unsealing.await.map_err(|_| Error::Internal("a worker failed"))?
    }

    async fn unseal_alone(
        self: &Arc<Self>,
        given: Given,
        address: std::net::IpAddr,
    ) -> Result<Status, Error> {
        let one = match &given {
            Given::Share(_) => Ok(self.unsealing.lock().await),
            // A guess takes memory and time: none waits for another.
            Given::Passphrase(_) => {
                self.unsealing.try_lock().map_err(|_| Error::Unavailable { retry_after_ms: 1_000 })
            }
        };
        let now = self.now().latest;
        let _one = match one.and_then(|one| self.admit_unseal(now.unix_ms() / 60_000).map(|()| one)) {
            Ok(one) => one,
            Err(error) => {
                let logged = self.failures.lock().admit(now.unix_ms() / 1_000);
                if let Some(unlogged) = logged {
                    let more = if unlogged > 0 { format!(", and {unlogged} more") } else { String::new() };
                    self.log_unseal(address, Some(error), format!("not tried{more}")).await?;
                }
                return Err(error);
            }
        };
        let result = self.try_unseal(given, now).await;
        if result.is_ok() {
            let failures = &mut self.ceremonies.lock().failures.1;
            *failures = failures.saturating_sub(1);
        }
        let detail = match &result {
            Ok(status) if status.sealed => "share taken",
            Ok(_) => "unsealed",
            Err(_) => "refused",
        };
        let logged = self.log_unseal(address, result.as_ref().err().copied(), detail.to_owned()).await;
        if logged.is_err() && result.as_ref().is_ok_and(|status| !status.sealed) {
            // Nothing happens without its entry.
            self.seal();
        }
        logged.and(result)
    }

    async fn log_unseal(
        &self,
        address: std::net::IpAddr,
        error: Option<Error>,
        detail: String,
    ) -> Result<(), Error> {
        let result = if error.is_some() { Outcome::Refused } else { Outcome::Done };
        let entry = Entry {
            address: Some(super::authenticate::address_bytes(address)),
            result,
            error: error.map(|error| error.code().to_owned()),
            detail: Some(detail),
            ..self.own_entry(Operation::Unseal)
        };
        self.ledger.commit(Commit { writes: Vec::new(), entry: entry.to_bytes() }).await.map(|_| ())
    }

    async fn try_unseal(self: &Arc<Self>, given: Given, now: Time) -> Result<Status, Error> {
        let record = self.seal_record()?;
        let unsealed = match given {
            Given::Passphrase(text) => {
                let record = record.clone();
                blocking(move || record.unseal_passphrase(&text)).await?
            }
            Given::Share(text) => {
                let collected = {
                    let mut ceremonies = self.ceremonies.lock();
                    if ceremonies.unseal.is_none() {
                        ceremonies.unseal = record.collector();
                    }
                    let collector = ceremonies
                        .unseal
                        .as_mut()
                        .ok_or(Error::Unsupported("shares: this server has a passphrase"))?;
                    collector.add(&text, now)?
                };
                match collected {
                    Collected::Waiting(_) => return self.status(),
                    Collected::Complete(key) => {
                        self.ceremonies.lock().unseal = None;
                        record.unseal_shares(&key)?
                    }
                }
            }
        };
        let engine = Arc::clone(self);
        blocking(move || engine.open_with(unsealed, &record)).await?;
        self.status()
    }

    /// Counts a try before it is made, as one that failed; who succeeds takes it back.
    fn admit_unseal(&self, minute: u64) -> Result<(), Error> {
        if !self.is_sealed() {
            return Err(Error::Conflict("the server is not sealed"));
        }
        let mut ceremonies = self.ceremonies.lock();
        if ceremonies.failures.0 != minute {
            ceremonies.failures = (minute, 0);
        }
        if ceremonies.failures.1 >= UNSEAL_FAILURES_PER_MINUTE {
            return Err(Error::TooMany { retry_after_ms: 60_000 });
        }
        ceremonies.failures.1 += 1;
        Ok(())
    }

    /// The server's state.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the seal record is.
    pub fn status(&self) -> Result<Status, Error> {
        let record = self.seal_record()?;
        let open = self.open.load();
        let ceremonies = self.ceremonies.lock();
        Ok(Status {
            version: env!("CARGO_PKG_VERSION"),
            sealed: open.is_none(),
            seal_kind: match (record.has_passphrase(), record.quorum()) {
                (true, Some(_)) => "passphrase or shares",
                (true, None) => "passphrase",
                (false, _) => "shares",
            },
            unseal_progress: match (&ceremonies.unseal, record.quorum()) {
                (Some(collector), _) => Some((collector.progress().present, collector.progress().needed)),
                (None, Some(quorum)) if open.is_none() => Some((0, quorum.threshold)),
                (None, _) => None,
            },
            keys: Some(self.keys.load(std::sync::atomic::Ordering::Relaxed)),
            log_size: Some(self.ledger.log_size()),
            epoch: open.as_ref().map(|open| open.epoch()),
            release: self.release_identity().ok(),
            clock_steady: self.clock.steady(),
            development: self.settings.development,
            key_arn_prefix: self.settings.key_arn_prefix.clone(),
        })
    }

    /// Puts the new seals in place of the old ones, if they have all proved to open. The ceremony is kept until
    /// that is committed: if it fails in between, the next proof, of whatever, does it again.
    async fn finish_rekey(self: &Arc<Self>, open: &Arc<Open>) -> Result<Option<Response>, Error> {
        let _one = self.rotating.lock().await;
        let (engine, of) = (Arc::clone(self), Arc::clone(open));
        let sealed = blocking(move || {
            let ceremonies = engine.ceremonies.lock();
            let Some(rekey) = ceremonies.rekey.as_ref().filter(|rekey| rekey.is_proven()) else {
                return Ok(None);
            };
            let (record, unsealed) = rekey.finish(&of.unsealed.load(), &engine.seal_record()?)?;
            let write = engine.write_seal(&of, &record)?;
            of.unsealed.store(Arc::new(unsealed));
            Ok(Some(write))
        });
        let Some(write) = sealed.await? else { return Ok(None) };
        let detail = "done: the old shares and passphrases are dead".to_owned();
        self.commit_own(Operation::Rekey, vec![write], detail).await?;
        self.ceremonies.lock().rekey.take_if(|rekey| rekey.is_proven());
        Ok(Some(Response::RekeyProgress { proved: 0, needed: 0, done: true }))
    }

    /// Rewraps everything that a tenant's older keys wrap, and then deletes those. Returns the rows rewrapped.
    ///
    /// One sweep at a time. Older is what was so when it began: another rotation may make a newer key meanwhile,
    /// and what was rewrapped before that still needs the one that it found. A damaged row stops it before
    /// anything is deleted.
    pub(super) async fn sweep_tenant(
        self: &Arc<Self>,
        open: &Arc<Open>,
        tenant: TenantId,
    ) -> Result<u64, Error> {
        let _one = self.rotating.lock().await;
        let of = Arc::clone(open);
        let newest = blocking(move || Ok(of.tenant(tenant)?.value.tenant_key)).await?;
        let mut swept = 0;
        for table in [Table::Material, Table::AccessKey, Table::Import] {
            let mut after = Vec::new();
            loop {
                let (of, cursor) = (Arc::clone(open), after.clone());
                let (writes, next) =
                    blocking(move || rewrapped(&of, table, (tenant, newest), &cursor)).await?;
                swept += writes.len() as u64;
                if !writes.is_empty() {
                    let detail = format!("{tenant}: {} rows rewrapped", writes.len());
                    match self.commit_own(Operation::RotateTenantKey, writes, detail).await {
                        // Somebody changed one of the rows meanwhile: read this page again.
                        Err(Error::Conflict(_)) => continue,
                        result => result?,
                    }
                }
                match next {
                    Some(next) => after = next,
                    None => break,
                }
            }
        }
        let of = Arc::clone(open);
        let old_keys = blocking(move || {
            let newest = RowKey::versioned(Table::TenantKey, tenant, &tenant.0, newest);
            let (keys, _) =
                of.records.scan_whole::<WrappedTenantKey>(Table::TenantKey, tenant, &[], PAGE_MAX)?;
            Ok(keys.iter().filter(|key| key.key.id < newest.id).map(Records::delete).collect::<Vec<_>>())
        })
        .await?;
        if !old_keys.is_empty() {
            self.commit_own(Operation::RotateTenantKey, old_keys, format!("{tenant}: older keys deleted"))
                .await?;
        }
        Ok(swept)
    }

    /// All steps of a rotation of the root, or those that are left of one that a crash ended.
    pub(super) async fn rotate_root(self: &Arc<Self>, open: &Arc<Open>) -> Result<u64, Error> {
        let _one = self.rotating.lock().await;
        if !open.unsealed.load().is_rotating() {
            let (record, unsealed) = open.unsealed.load().rotate(&self.seal_record()?)?;
            let write = self.write_seal(open, &record)?;
            open.unsealed.store(Arc::new(unsealed));
            self.commit_own(Operation::RotateRoot, vec![write], format!("term {}", record.term())).await?;
        }
        self.rotate_on(open).await
    }

    /// The steps that are left of a rotation of the root that a crash ended, if there was one.
    pub(super) async fn resume_root(self: &Arc<Self>, open: &Arc<Open>) -> Result<(), Error> {
        let _one = self.rotating.lock().await;
        // Asked while nobody else rotates: one that is under way is not taken for one that is left.
        if open.unsealed.load().is_rotating() {
            self.rotate_on(open).await?;
        }
        Ok(())
    }

    /// The steps after the new root is there.
    async fn rotate_on(self: &Arc<Self>, open: &Arc<Open>) -> Result<u64, Error> {
        let of = Arc::clone(open);
        let keys = blocking(move || tenant_keys(&of)).await?;
        let mut swept = 0;
        for (tenant, version, stored) in &keys {
            let rewrapped = open.unsealed.load().rewrap_tenant_key(*tenant, *version, &stored.value.0)?;
            if let Some(wrapped) = rewrapped {
                let write = open.records.replace(stored, &WrappedTenantKey(wrapped));
                self.commit_own(Operation::RotateRoot, vec![write], format!("{tenant} version {version}"))
                    .await?;
                swept += 1;
            }
        }
        let of = Arc::clone(open);
        let keys = blocking(move || tenant_keys(&of)).await?;
        let keys = keys.into_iter().map(|(tenant, version, stored)| (tenant, version, stored.value.0));
        let (record, unsealed) = open.unsealed.load().finish_rotation(&self.seal_record()?, keys)?;
        let write = self.write_seal(open, &record)?;
        open.unsealed.store(Arc::new(unsealed));
        self.commit_own(Operation::RotateRoot, vec![write], "the previous root is gone".to_owned()).await?;
        Ok(swept)
    }

    /// Commits a step of the server's own.
    pub(super) async fn commit_own(
        &self,
        operation: Operation,
        writes: Vec<Write>,
        detail: String,
    ) -> Result<(), Error> {
        let entry =
            Entry { by: vec!["server".to_owned()], detail: Some(detail), ..self.own_entry(operation) };
        self.ledger.commit(Commit { writes, entry: entry.to_bytes() }).await.map(|_| ())
    }
}

/// Every tenant key there is. None may be missed: a damaged tenant or key fails it.
fn tenant_keys(open: &Open) -> Result<Vec<(TenantId, u32, Stored<WrappedTenantKey>)>, Error> {
    let mut all = Vec::new();
    for tenant in open.tenant_rows()? {
        let id = tenant?.value.id;
        let (keys, _) = open.records.scan_whole(Table::TenantKey, id, &[], PAGE_MAX)?;
        for stored in keys {
            let version = stored.key.id.last_chunk::<4>().ok_or(Error::Damaged("tenant key"))?;
            all.push((id, u32::from_be_bytes(*version), stored));
        }
    }
    Ok(all)
}

/// Writes that rewrap one page of a table under `newest` of the tenant's keys, and where the next page starts.
fn rewrapped(
    open: &Open,
    table: Table,
    (tenant, newest): (TenantId, u32),
    after: &[u8],
) -> Result<Rows<Write>, Error> {
    let mut writes = Vec::new();
    let next = match table {
        Table::Material => {
            let (rows, next) = open.records.scan_whole::<Material>(table, tenant, after, STEP_ROWS)?;
            for row in rows.iter().filter(|row| row.value.tenant_key < newest) {
                let (id, number) =
                    row.key.id.split_last_chunk::<4>().ok_or(Error::Damaged("key material"))?;
                let key: Stored<Key> =
                    open.records.read(&RowKey::new(Table::Key, tenant, id))?.ok_or(Error::Damaged("key"))?;
                let material = match open.material(&key.value, u32::from_be_bytes(*number)) {
                    // Deleted since this page was read.
                    Err(Error::NotFound(_)) => continue,
                    material => material?,
                };
                let renewed = open.wrap(&key.value, u32::from_be_bytes(*number), newest, &material)?;
                writes.push(open.records.replace(row, &renewed));
            }
            next
        }
        Table::AccessKey => {
            let (rows, next) = open.records.scan_whole::<AccessKey>(table, tenant, after, STEP_ROWS)?;
            for row in rows.iter().filter(|row| row.value.tenant_key_version < newest) {
                let secret = open.access_secret(tenant, &row.value)?;
                let aad = super::govern::access_key_binding(&row.value.id, row.value.principal);
                let new = open.tenant_key(tenant, newest)?;
                let wrapped_secret = envelope::wrap(&new, tenant.0, newest, &aad, secret.expose())?;
                let record = AccessKey { wrapped_secret, tenant_key_version: newest, ..row.value.clone() };
                writes.push(open.records.replace(row, &record));
            }
            next
        }
        // Import parameters end within a day; those that an older key wraps, or that are damaged, are asked for
        // again.
        _ => {
            let (rows, next) =
                open.records.scan::<super::transfer::Import>(table, tenant, after, STEP_ROWS)?;
            writes.extend(rows.iter().filter(|row| row.value.tenant_key < newest).map(Records::delete));
            next
        }
    };
    Ok((writes, next))
}
