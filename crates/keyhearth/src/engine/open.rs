//! What the server knows while it is unsealed: caches over verified rows. Dropped whole by `seal`.
//!
//! A cache entry is put in only while the rows are held still ([`Records::view`]), and taken out by the
//! committing thread before it lets go of the rows that a commit changed ([`Open::follow`]). So after a
//! revoke has returned, nobody finds the old entry any more, whatever became of the request that revoked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use keyhearth_core::Error;
use keyhearth_core::grant::{GRANTS_PER_KEY_MAX, Grant};
use keyhearth_core::id::{Alias, DeploymentId, KeyId, PrincipalId, TenantId};
use keyhearth_core::key::{AliasOf, Key, Material};
use keyhearth_core::principal::{AccessKey, Principal};
use keyhearth_core::request::KeyRef;
use keyhearth_core::row::{RowKey, Table};
use keyhearth_core::store::Write;
use keyhearth_core::tenant::Tenant;
use keyhearth_core::time::Time;
use keyhearth_crypto::kdf::MacKey;
use keyhearth_crypto::kh1::envelope;
use keyhearth_crypto::secret::SecretBytes;
use parking_lot::{Mutex, RwLock};

use super::ledger::Book;
use super::policies::Policies;
use super::records::{Records, Stored};
use super::schedule::Dates;
use super::uses::Uses;
use crate::identity::Ca;
use crate::policy::Compiled;
use crate::seal::Unsealed;

/// A tenant key that a record names is not there: it was rotated after the record was read.
pub const TENANT_KEY_GONE: Error = Error::NotFound("tenant key");
/// Keys that are kept ready for use; the least used make room.
pub const KEYS_CACHED_MAX: usize = 65_536;
/// How long a key stays ready for use before it is read again, in milliseconds.
pub const KEY_RESIDENCY_MS_MAX: u64 = 15 * 60 * 1_000;
/// Principals and aliases that are kept at hand.
const NAMES_CACHED_MAX: usize = 65_536;
/// What computes for long on policies, at a time: reports and the checks of new policies.
const REPORTS_MAX: usize = 2;

/// A key ready for use: its record, the grants on it, and its unwrapped versions as they are needed.
pub struct Held {
    /// The record.
    pub key: Stored<Key>,
    /// Its grants.
    pub grants: Vec<Stored<Grant>>,
    /// When it was read, on the boot clock.
    pub read_boot_ms: u64,
    versions: Box<[OnceLock<Arc<keyhearth_crypto::key::Key>>]>,
}

/// Everything the server knows while unsealed.
pub struct Open {
    /// Verified access to the rows.
    pub records: Records,
    /// Which rows there are.
    pub book: Arc<Book>,
    /// The root key and the server's secrets.
    pub unsealed: ArcSwap<Unsealed>,
    /// The built-in CA.
    pub ca: Ca,
    /// This deployment.
    pub deployment: DeploymentId,
    /// For HMACs of sensitive values in the log.
    pub audit: MacKey,
    keys: quick_cache::sync::Cache<(TenantId, KeyId), Arc<Held>>,
    aliases: quick_cache::sync::Cache<(TenantId, Alias), KeyId>,
    principals: quick_cache::sync::Cache<PrincipalId, Arc<Stored<Principal>>>,
    access_keys: quick_cache::sync::Cache<String, Arc<Stored<AccessKey>>>,
    tenants: RwLock<HashMap<TenantId, Arc<Stored<Tenant>>>>,
    identity_epoch: AtomicU64,
    tenant_keys: Mutex<HashMap<(TenantId, u32), Arc<SecretBytes>>>,
    policies: Policies,
    /// Reports that are made now; see [`REPORTS_MAX`].
    pub reports: tokio::sync::Semaphore,
    /// What happens by itself, and when.
    pub dates: Mutex<Dates>,
    /// The last use of each key.
    pub uses: Uses,
    /// Uses under random IVs that were made, of those that are reserved durably.
    pub random_iv: Mutex<HashMap<(KeyId, u32), u64>>,
}

impl Open {
    /// Over the rows of `records`, from `now` on.
    pub fn new(records: Records, book: Arc<Book>, unsealed: Unsealed, ca: Ca, now: Time) -> Self {
        let deployment = unsealed.deployment();
        let audit = MacKey::new(unsealed.secrets().audit.expose());
        Self {
            records,
            book,
            unsealed: ArcSwap::from_pointee(unsealed),
            ca,
            deployment,
            audit,
            keys: quick_cache::sync::Cache::new(KEYS_CACHED_MAX),
            aliases: quick_cache::sync::Cache::new(NAMES_CACHED_MAX),
            principals: quick_cache::sync::Cache::new(NAMES_CACHED_MAX),
            access_keys: quick_cache::sync::Cache::new(NAMES_CACHED_MAX),
            tenants: RwLock::default(),
            identity_epoch: AtomicU64::new(new_identity_epoch()),
            tenant_keys: Mutex::default(),
            policies: Policies::default(),
            reports: tokio::sync::Semaphore::new(REPORTS_MAX),
            dates: Mutex::default(),
            uses: Uses::new(now),
            random_iv: Mutex::default(),
        }
    }

    /// Another one after every change of identities, their certificates and access keys: who calls is looked up again
    /// when it changes. No two openings of a server have one in common: connections outlive a seal.
    ///
    /// Apart from [`Open::epoch`], so that making keys does not send every connection back to the store.
    pub fn identity_epoch(&self) -> u64 {
        self.identity_epoch.load(Ordering::Acquire)
    }

    /// Counts changes of rows: what was read at one epoch is still so while it has not changed.
    pub fn epoch(&self) -> u64 {
        self.book.epoch.load(Ordering::Acquire)
    }

    /// The key's id; `NotFound` for an alias that points nowhere.
    pub fn resolve(&self, tenant: TenantId, key: &KeyRef) -> Result<KeyId, Error> {
        let alias = match key {
            KeyRef::Id(id) => return Ok(*id),
            KeyRef::Alias(alias) => alias,
        };
        if let Some(id) = self.aliases.get(&(tenant, alias.clone())) {
            return Ok(id);
        }
        let view = self.records.view();
        let row = RowKey::new(Table::Alias, tenant, alias.as_str().as_bytes());
        let alias_of: Stored<AliasOf> = view.read(&row)?.ok_or(Error::NotFound("alias"))?;
        let id = alias_of.value.key;
        self.aliases.insert((tenant, alias.clone()), id);
        Ok(id)
    }

    /// The key if it is ready for use and not too old.
    pub fn held(&self, tenant: TenantId, id: KeyId, boot_ms: u64) -> Option<Arc<Held>> {
        let held = self.keys.get(&(tenant, id))?;
        (boot_ms.saturating_sub(held.read_boot_ms) < KEY_RESIDENCY_MS_MAX).then_some(held)
    }

    /// The key if it is ready for use, without reading anything.
    pub fn peek(&self, tenant: TenantId, key: &KeyRef) -> Option<Arc<Held>> {
        let id = match key {
            KeyRef::Id(id) => *id,
            KeyRef::Alias(alias) => self.aliases.get(&(tenant, alias.clone()))?,
        };
        self.keys.get(&(tenant, id))
    }

    /// Reads the key and keeps it ready. Blocks on the store.
    pub fn hold(&self, tenant: TenantId, id: KeyId, boot_ms: u64) -> Result<Arc<Held>, Error> {
        let view = self.records.view();
        let key: Stored<Key> =
            view.read(&RowKey::new(Table::Key, tenant, &id.0))?.ok_or(Error::NotFound("key"))?;
        let grants = view.scan(Table::Grant, tenant, &id.0, &[], GRANTS_PER_KEY_MAX)?;
        // A damaged grant is no grant: it can only be missed by who had it.
        let grants = grants.into_iter().flatten().collect();
        let versions = key.value.versions.iter().map(|_| OnceLock::new()).collect();
        let held = Arc::new(Held { key, grants, read_boot_ms: boot_ms, versions });
        self.keys.insert((tenant, id), Arc::clone(&held));
        Ok(held)
    }

    /// The key's version, unwrapped and parsed. Blocks on the store the first time.
    pub fn version(&self, held: &Held, number: u32) -> Result<Arc<keyhearth_crypto::key::Key>, Error> {
        let slot = usize::try_from(number).ok().and_then(|n| held.versions.get(n.checked_sub(1)?));
        let slot = slot.ok_or(Error::NotFound("key version"))?;
        if let Some(key) = slot.get() {
            return Ok(Arc::clone(key));
        }
        let material = self.material(&held.key.value, number)?;
        let key = Arc::new(keyhearth_crypto::key::Key::load(held.key.value.algorithm, &material)?);
        Ok(Arc::clone(slot.get_or_init(|| key)))
    }

    /// Whether the version is ready without reading anything.
    pub fn is_ready(held: &Held, number: u32) -> bool {
        usize::try_from(number)
            .ok()
            .and_then(|n| held.versions.get(n.checked_sub(1)?))
            .is_some_and(|s| s.get().is_some())
    }

    /// The row of a version's material.
    pub fn material_row(&self, key: &Key, number: u32) -> Result<Stored<Material>, Error> {
        let row = RowKey::versioned(Table::Material, key.tenant, &key.id.0, number);
        self.records.read(&row)?.ok_or(Error::NotFound("key material"))
    }

    /// The version's material, unwrapped.
    pub fn material(&self, key: &Key, number: u32) -> Result<SecretBytes, Error> {
        let row = self.material_row(key, number)?.value;
        let tenant_key = self.tenant_key(key.tenant, row.tenant_key)?;
        let binding = key.material_binding(self.deployment, number);
        envelope::unwrap(&tenant_key, key.tenant.0, row.tenant_key, &binding, &row.wrapped)
            .map_err(|_| Error::Damaged("key material"))
    }

    /// The writes that store new material of a version, wrapped under the tenant's present key. They conflict
    /// if that key is rotated meanwhile: the rotation would not see this material, and end the key it needs.
    pub fn store_material(
        &self,
        key: &Key,
        number: u32,
        material: &SecretBytes,
    ) -> Result<[Write; 2], Error> {
        let tenant = self.tenant(key.tenant)?;
        let record = self.wrap(key, number, tenant.value.tenant_key, material)?;
        let row = RowKey::versioned(Table::Material, key.tenant, &key.id.0, number);
        Ok([self.records.create(row, &record), Records::keep(&tenant)])
    }

    /// Wraps material of a version under a tenant key.
    pub fn wrap(
        &self,
        key: &Key,
        number: u32,
        version: u32,
        material: &SecretBytes,
    ) -> Result<Material, Error> {
        let tenant_key = self.tenant_key(key.tenant, version)?;
        let binding = key.material_binding(self.deployment, number);
        let wrapped = envelope::wrap(&tenant_key, key.tenant.0, version, &binding, material.expose())?;
        let public = if key.algorithm.is_asymmetric() {
            keyhearth_crypto::key::Key::load(key.algorithm, material)?.public_key_der().map(<[u8]>::to_vec)
        } else {
            None
        };
        Ok(Material { tenant_key: version, wrapped, public })
    }

    /// A tenant key, unwrapped.
    pub fn tenant_key(&self, tenant: TenantId, version: u32) -> Result<Arc<SecretBytes>, Error> {
        if let Some(key) = self.tenant_keys.lock().get(&(tenant, version)) {
            return Ok(Arc::clone(key));
        }
        let view = self.records.view();
        let row = RowKey::versioned(Table::TenantKey, tenant, &tenant.0, version);
        let wrapped: Stored<WrappedTenantKey> = view.read(&row)?.ok_or(TENANT_KEY_GONE)?;
        let key = Arc::new(self.unsealed.load().unwrap_tenant_key(tenant, version, &wrapped.value.0)?);
        self.tenant_keys.lock().insert((tenant, version), Arc::clone(&key));
        Ok(key)
    }

    /// A tenant.
    pub fn tenant(&self, id: TenantId) -> Result<Arc<Stored<Tenant>>, Error> {
        if let Some(tenant) = self.tenants.read().get(&id) {
            return Ok(Arc::clone(tenant));
        }
        let view = self.records.view();
        let row = RowKey::new(Table::Tenant, TenantId::PLATFORM, &id.0);
        let tenant = Arc::new(view.read(&row)?.ok_or(Error::NotFound("tenant"))?);
        self.tenants.write().insert(id, Arc::clone(&tenant));
        Ok(tenant)
    }

    /// A principal of a tenant.
    pub fn principal(&self, tenant: TenantId, id: PrincipalId) -> Result<Arc<Stored<Principal>>, Error> {
        if let Some(principal) = self.principals.get(&id) {
            return if principal.value.tenant == tenant {
                Ok(principal)
            } else {
                Err(Error::NotFound("identity"))
            };
        }
        let view = self.records.view();
        let row = RowKey::new(Table::Principal, tenant, &id.0);
        let principal: Arc<Stored<Principal>> =
            Arc::new(view.read(&row)?.ok_or(Error::NotFound("identity"))?);
        self.principals.insert(id, Arc::clone(&principal));
        Ok(principal)
    }

    /// An access key of a tenant.
    pub fn access_key(&self, tenant: TenantId, id: &str) -> Result<Arc<Stored<AccessKey>>, Error> {
        let missing = Error::NotFound("access key");
        if let Some(key) = self.access_keys.get(id) {
            return if key.key.tenant == tenant { Ok(key) } else { Err(missing) };
        }
        let view = self.records.view();
        let row = RowKey::new(Table::AccessKey, tenant, id.as_bytes());
        let key: Arc<Stored<AccessKey>> = Arc::new(view.read(&row)?.ok_or(missing)?);
        self.access_keys.insert(id.to_owned(), Arc::clone(&key));
        Ok(key)
    }

    /// The policies of a tenant. Does not block, but takes long the first time and after a change.
    pub async fn load_policies(&self, tenant: TenantId) -> Result<Arc<Compiled>, Error> {
        match self.policies.ready(tenant) {
            Some(policies) => Ok(policies),
            None => self.policies.load(&self.records, tenant).await,
        }
    }

    /// The policies of a tenant. Blocks the first time and after a change.
    pub fn policies(&self, tenant: TenantId) -> Result<Arc<Compiled>, Error> {
        match self.policies.ready(tenant) {
            Some(policies) => Ok(policies),
            None => self.policies.load_blocking(&self.records, tenant),
        }
    }

    /// Follows a write that was committed: forgets what is cached of the row, and notes a key's next date.
    pub fn follow(&self, write: &Write) {
        self.forget(&write.key);
        let Some(row) = write.row.as_ref().filter(|_| write.key.table == Table::Key) else { return };
        if let Ok(key) = minicbor::decode::<Key>(&row.body) {
            self.dates.lock().set((key.tenant, key.id), key.next_date());
        }
    }

    fn forget(&self, row: &RowKey) {
        match row.table {
            Table::Key | Table::Material | Table::Grant => {
                if let Some(id) = row.id.get(..16).and_then(|id| id.try_into().ok()) {
                    self.keys.remove(&(row.tenant, KeyId(id)));
                }
            }
            Table::Alias => {
                if let Some(alias) = std::str::from_utf8(&row.id).ok().and_then(|alias| alias.parse().ok()) {
                    self.aliases.remove(&(row.tenant, alias));
                }
            }
            Table::Principal => {
                self.identities_changed();
                if let Ok(id) = row.id.as_slice().try_into() {
                    self.principals.remove(&PrincipalId(id));
                }
            }
            Table::Policy => self.policies.forget(row.tenant),
            Table::Tenant => {
                if let Ok(id) = row.id.as_slice().try_into() {
                    self.tenants.write().remove(&TenantId(id));
                }
            }
            Table::TenantKey => self.tenant_keys.lock().retain(|(tenant, _), _| *tenant != row.tenant),
            Table::Certificate => self.identities_changed(),
            Table::AccessKey => {
                self.identities_changed();
                if let Ok(id) = std::str::from_utf8(&row.id) {
                    self.access_keys.remove(id);
                }
            }
            Table::PrincipalName
            | Table::TenantName
            | Table::Idempotency
            | Table::Import
            | Table::System
            | Table::AccessKeyOwner
            | Table::Machine
            | Table::MachineOwner
            | Table::Approval
            | Table::Secret => {}
        }
    }

    fn identities_changed(&self) {
        self.identity_epoch.store(new_identity_epoch(), Ordering::Release);
    }

    /// Forgets every key that was read too long ago, so that its material is wiped.
    pub fn forget_old(&self, boot_ms: u64) {
        self.keys.retain(|_, held| boot_ms.saturating_sub(held.read_boot_ms) < KEY_RESIDENCY_MS_MAX);
    }

    /// Forgets everything that is cached, as after the machine was cloned or resumed.
    pub fn forget_all(&self) {
        self.keys.clear();
        self.aliases.clear();
        self.principals.clear();
        self.access_keys.clear();
        self.tenants.write().clear();
        self.tenant_keys.lock().clear();
        self.policies.clear();
    }
}

/// An identity epoch that nothing in this process has had before.
fn new_identity_epoch() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The stored record of a wrapped tenant key.
#[derive(Clone, Debug, minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
pub struct WrappedTenantKey(#[cbor(n(0), with = "minicbor::bytes")] pub Vec<u8>);
