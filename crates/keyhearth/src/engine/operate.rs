//! Acts on the deployment: tenants, the seal, rotation of root and tenant keys.
//!
//! Rotations go on in steps after their first commit. Each step is a commit of its own and leaves every
//! key readable, so a crash at any of them is resumed at the next unseal.

use std::sync::Arc;

use keyhearth_core::Error;
use keyhearth_core::entry::Entry;
use keyhearth_core::id::{Name, TenantId};
use keyhearth_core::key::{Key, Material};
use keyhearth_core::operation::Operation;
use keyhearth_core::principal::{AccessKey, Role};
use keyhearth_core::request::{Ask, PAGE_MAX, Rekey as RekeyStep, Response, Secret, Status};
use keyhearth_core::row::{RowKey, Table};
use keyhearth_core::store::{Commit, Write};
use keyhearth_core::tenant::Tenant;
use keyhearth_crypto::kh1::envelope;
use keyhearth_crypto::passphrase::Params;
use keyhearth_crypto::secret::SecretBytes;

use super::keys::id_bytes;
use super::open::{Open, WrappedTenantKey};
use super::records::{Records, Stored};
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
            Ask::Status => Ok(Effect::of(Response::Status(Box::new(self.engine.status()?)))),
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
        let ca = self.open.ca.certificate_pem().to_owned();
        let response =
            Response::Tenant { tenant: Box::new(tenant), admin: Box::new(principal), certificate, ca };
        Ok(Effect::writing(response, writes).detail(detail))
    }

    /// The writes that store a new tenant key. They conflict if the root is rotated meanwhile.
    fn new_tenant_key(&self, tenant: TenantId, version: u32) -> Result<[Write; 2], Error> {
        let revision = self.open.seal_revision()?;
        let key = SecretBytes::random(32)?;
        let wrapped = self.open.unsealed.load().wrap_tenant_key(tenant, version, &key)?;
        let row = RowKey::versioned(Table::TenantKey, tenant, &tenant.0, version);
        Ok([self.open.records.create(row, &WrappedTenantKey(wrapped)), self.open.records.keep(&revision)])
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
        let version = stored.value.tenant_key + 1;
        let tenant = Tenant { tenant_key: version, ..stored.value.clone() };
        let [key, same_root] = self.new_tenant_key(id, version)?;
        let writes = vec![key, same_root, self.open.records.replace(&stored, &tenant)];
        Ok(Effect::writing(Response::Done, writes).detail(format!("{id} version {version}")))
    }

    fn rekey(&self, step: &RekeyStep) -> Result<Effect, Error> {
        let engine = self.engine;
        let unsealed = self.open.unsealed.load_full();
        let mut ceremonies = engine.ceremonies.lock();
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
                    Ok(text) if text.starts_with("khshare") => {
                        rekey.prove_share(&unsealed, text, self.now.latest)?
                    }
                    Ok(_) | Err(_) => rekey.prove_passphrase(&unsealed, proof)?,
                }
                if !rekey.is_proven() {
                    return Ok(Effect::of(progress(rekey)).detail("proved"));
                }
                let rekey = ceremonies.rekey.take().ok_or(NOT_BEGUN)?;
                let (record, unsealed) = rekey.finish(&unsealed, &engine.seal_record()?)?;
                let write = engine.write_seal(self.open, &record)?;
                self.open.unsealed.store(Arc::new(unsealed));
                let response = Response::RekeyProgress { proved: 0, needed: 0, done: true };
                Ok(Effect::writing(response, vec![write])
                    .detail("done: the old shares and passphrases are dead"))
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

    /// All tenants.
    pub(super) fn all_tenants(&self) -> Result<Vec<Stored<Tenant>>, Error> {
        let mut all: Vec<Stored<Tenant>> = Vec::new();
        let mut after = Vec::new();
        loop {
            let rows = self.records.scan(Table::Tenant, TenantId::PLATFORM, &[], &after, PAGE_MAX)?;
            let next = super::keys::next_cursor(&rows, PAGE_MAX);
            all.extend(rows);
            match next {
                Some(next) => after = next,
                None => return Ok(all),
            }
        }
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
                Ok(Some(Response::Rewrapped { rows: self.sweep_tenant(open, *tenant).await? }))
            }
            Ask::RotateRoot => Ok(Some(Response::Rewrapped { rows: self.rotate_root(open).await? })),
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

    /// Takes a share or the passphrase; when they are enough, opens. Logged, whatever comes of it.
    ///
    /// # Errors
    /// [`Error::TooMany`] after too many failures, [`Error::Conflict`] if it is not sealed; else as
    /// [`ShareCollector::add`], [`SealRecord::unseal_passphrase`] and [`Engine::open`](Engine) say.
    pub async fn unseal(
        self: &Arc<Self>,
        with: UnsealWith<'_>,
        address: std::net::IpAddr,
    ) -> Result<Status, Error> {
        let result = self.try_unseal(with).await;
        let detail = match &result {
            Ok(status) if status.sealed => "share taken",
            Ok(_) => "unsealed",
            Err(_) => "refused",
        };
        let entry = Entry {
            address: Some(super::authenticate::address_bytes(address)),
            result: if result.is_ok() {
                keyhearth_core::entry::Result::Done
            } else {
                keyhearth_core::entry::Result::Refused
            },
            error: result.as_ref().err().map(|error| error.code().to_owned()),
            detail: Some(detail.to_owned()),
            ..self.own_entry(Operation::Unseal)
        };
        let logged = self.ledger.commit(Commit { writes: Vec::new(), entry: entry.to_bytes() }).await;
        if logged.is_err() && result.as_ref().is_ok_and(|status| !status.sealed) {
            // Nothing happens without its entry.
            self.seal();
        }
        logged.and(result)
    }

    async fn try_unseal(self: &Arc<Self>, with: UnsealWith<'_>) -> Result<Status, Error> {
        if !self.is_sealed() {
            return Err(Error::Conflict("the server is not sealed"));
        }
        let now = self.now().latest;
        self.admit_unseal(now.unix_ms() / 60_000)?;
        let record = self.seal_record()?;
        let unsealed = match with {
            UnsealWith::Passphrase(text) => {
                let (record, text) = (record.clone(), Secret::new(text.to_vec()));
                blocking(move || record.unseal_passphrase(&text)).await
            }
            UnsealWith::Share(text) => {
                let collected = {
                    let mut ceremonies = self.ceremonies.lock();
                    if ceremonies.unseal.is_none() {
                        ceremonies.unseal = record.collector();
                    }
                    let collector = ceremonies
                        .unseal
                        .as_mut()
                        .ok_or(Error::Unsupported("shares: this server has a passphrase"))?;
                    collector.add(text, now).map_err(Error::from)
                };
                match collected {
                    Ok(Collected::Waiting(_)) => return self.status(),
                    Ok(Collected::Complete(key)) => {
                        self.ceremonies.lock().unseal = None;
                        record.unseal_shares(&key)
                    }
                    Err(error) => Err(error),
                }
            }
        };
        match unsealed {
            Ok(unsealed) => {
                let engine = Arc::clone(self);
                blocking(move || engine.open_with(unsealed, &record)).await?;
                self.status()
            }
            Err(error) => {
                self.ceremonies.lock().failures.1 += 1;
                Err(error)
            }
        }
    }

    fn admit_unseal(&self, minute: u64) -> Result<(), Error> {
        let mut ceremonies = self.ceremonies.lock();
        if ceremonies.failures.0 != minute {
            ceremonies.failures = (minute, 0);
        }
        if ceremonies.failures.1 >= UNSEAL_FAILURES_PER_MINUTE {
            return Err(Error::TooMany { retry_after_ms: 60_000 });
        }
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
            keys: self.keys.load(std::sync::atomic::Ordering::Relaxed),
            log_size: self.ledger.log_size(),
            epoch: open.as_ref().map_or(0, |open| open.epoch()),
            clock_steady: self.clock.steady(),
            development: self.settings.development,
        })
    }

    /// Rewraps everything that a tenant's older keys wrap, and then deletes those. Returns the rows rewrapped.
    ///
    /// One sweep at a time. Older is what was so when it began: another rotation may make a newer key meanwhile,
    /// and what was rewrapped before that still needs the one that it found.
    pub(super) async fn sweep_tenant(
        self: &Arc<Self>,
        open: &Arc<Open>,
        tenant: TenantId,
    ) -> Result<u64, Error> {
        let _one = self.rotating.lock().await;
        let of = Arc::clone(open);
        let begun_at = blocking(move || Ok(of.tenant(tenant)?.value.tenant_key)).await?;
        let mut swept = 0;
        for table in [Table::Material, Table::AccessKey, Table::Import] {
            let mut after = Vec::new();
            loop {
                let (of, cursor) = (Arc::clone(open), after.clone());
                let (writes, next) = blocking(move || rewrapped(&of, table, tenant, &cursor)).await?;
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
            let keys: Vec<Stored<WrappedTenantKey>> =
                of.records.scan(Table::TenantKey, tenant, &tenant.0, &[], PAGE_MAX)?;
            let kept = RowKey::versioned(Table::TenantKey, tenant, &tenant.0, begun_at);
            Ok(keys.iter().filter(|key| key.key.id < kept.id).map(Records::delete).collect::<Vec<_>>())
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

/// Every tenant key there is.
fn tenant_keys(open: &Open) -> Result<Vec<(TenantId, u32, Stored<WrappedTenantKey>)>, Error> {
    let mut all = Vec::new();
    for tenant in open.all_tenants()? {
        let id = tenant.value.id;
        for stored in open.records.scan::<WrappedTenantKey>(Table::TenantKey, id, &id.0, &[], PAGE_MAX)? {
            let version = stored.key.id.last_chunk::<4>().ok_or(Error::Damaged("tenant key"))?;
            all.push((id, u32::from_be_bytes(*version), stored));
        }
    }
    Ok(all)
}

/// Writes that rewrap one page of a table under the tenant's newest key, and where the next page starts.
fn rewrapped(
    open: &Open,
    table: Table,
    tenant: TenantId,
    after: &[u8],
) -> Result<(Vec<Write>, Option<Vec<u8>>), Error> {
    let newest = open.tenant(tenant)?.value.tenant_key;
    let mut writes = Vec::new();
    let next = match table {
        Table::Material => {
            let rows: Vec<Stored<Material>> = open.records.scan(table, tenant, &[], after, STEP_ROWS)?;
            for row in rows.iter().filter(|row| row.value.tenant_key != newest) {
                let (id, number) =
                    row.key.id.split_last_chunk::<4>().ok_or(Error::Damaged("key material"))?;
                let key: Stored<Key> =
                    open.records.read(&RowKey::new(Table::Key, tenant, id))?.ok_or(Error::Damaged("key"))?;
                let material = open.material(&key.value, u32::from_be_bytes(*number))?;
                let renewed = open.wrap(&key.value, u32::from_be_bytes(*number), newest, &material)?;
                writes.push(open.records.replace(row, &renewed));
            }
            super::keys::next_cursor(&rows, STEP_ROWS)
        }
        Table::AccessKey => {
            let rows: Vec<Stored<AccessKey>> = open.records.scan(table, tenant, &[], after, STEP_ROWS)?;
            for row in rows.iter().filter(|row| row.value.tenant_key_version != newest) {
                let aad = super::govern::access_key_binding(&row.value.id, row.value.principal);
                let old = open.tenant_key(tenant, row.value.tenant_key_version)?;
                let secret = envelope::unwrap(
                    &old,
                    tenant.0,
                    row.value.tenant_key_version,
                    &aad,
                    &row.value.wrapped_secret,
                )
                .map_err(|_| Error::Damaged("access key"))?;
                let new = open.tenant_key(tenant, newest)?;
                let wrapped_secret = envelope::wrap(&new, tenant.0, newest, &aad, secret.expose())?;
                let record = AccessKey { wrapped_secret, tenant_key_version: newest, ..row.value.clone() };
                writes.push(open.records.replace(row, &record));
            }
            super::keys::next_cursor(&rows, STEP_ROWS)
        }
        // Import parameters end within a day; those that an older key wraps are asked for again.
        _ => {
            let rows: Vec<Stored<super::transfer::Import>> =
                open.records.scan(table, tenant, &[], after, STEP_ROWS)?;
            writes.extend(rows.iter().filter(|row| row.value.tenant_key != newest).map(Records::delete));
            super::keys::next_cursor(&rows, STEP_ROWS)
        }
    };
    Ok((writes, next))
}
