//! Tenants' policies, ready to be asked.
//!
//! Compiling takes up to seconds. So it runs away from the threads that serve connections, once at a time for
//! each tenant, and holds the rows still only while it reads them and when it publishes what came of them:
//! policies that were changed meanwhile are never published.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use keyhearth_core::Error;
use keyhearth_core::id::TenantId;
use keyhearth_core::policy::Policy;
use parking_lot::RwLock;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::blocking;
use super::records::Records;
use crate::policy::Compiled;

/// How often policies that keep changing are compiled for one request.
const COMPILES_MAX: usize = 4;

/// The policies of every tenant that was asked for.
#[derive(Default)]
pub struct Policies {
    tenants: RwLock<HashMap<TenantId, Arc<OfTenant>>>,
}

#[derive(Default)]
struct OfTenant {
    /// What the rows say, unless they changed.
    ready: ArcSwapOption<Compiled>,
    /// What was compiled last: what did not change since is not parsed again. Held by who compiles.
    last: Arc<Mutex<Option<Arc<Compiled>>>>,
}

impl Policies {
    /// The policies of a tenant if they are ready.
    pub fn ready(&self, tenant: TenantId) -> Option<Arc<Compiled>> {
        self.tenants.read().get(&tenant)?.ready.load_full()
    }

    /// Makes the policies of a tenant ready. Does not block.
    pub async fn load(&self, records: &Records, tenant: TenantId) -> Result<Arc<Compiled>, Error> {
        let (of, records) = (self.of(tenant), records.clone());
        let last = Arc::clone(&of.last).lock_owned().await;
        if let Some(ready) = of.ready.load_full() {
            return Ok(ready);
        }
        blocking(move || of.compile(&records, tenant, last)).await
    }

    /// As [`Policies::load`], on a thread that may block.
    pub fn load_blocking(&self, records: &Records, tenant: TenantId) -> Result<Arc<Compiled>, Error> {
        let of = self.of(tenant);
        let last = Arc::clone(&of.last).blocking_lock_owned();
        match of.ready.load_full() {
            Some(ready) => Ok(ready),
            None => of.compile(records, tenant, last),
        }
    }

    /// Follows a change of a tenant's policies.
    pub fn forget(&self, tenant: TenantId) {
        if let Some(of) = self.tenants.read().get(&tenant) {
            of.ready.store(None);
        }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.tenants.write().clear();
    }

    fn of(&self, tenant: TenantId) -> Arc<OfTenant> {
        Arc::clone(self.tenants.write().entry(tenant).or_default())
    }
}

impl OfTenant {
    /// A damaged or a missing policy fails the whole: it might forbid something.
    fn compile(
        &self,
        records: &Records,
        tenant: TenantId,
        mut last: OwnedMutexGuard<Option<Arc<Compiled>>>,
    ) -> Result<Arc<Compiled>, Error> {
        for _ in 0..COMPILES_MAX {
            let rows = records.view().policies(tenant)?;
            let policies: Vec<Policy> = rows.iter().map(|row| row.value.clone()).collect();
            let compiled = match &*last {
                Some(last) => last.with(&policies),
                None => Compiled::new(tenant, &policies),
            };
            let compiled = Arc::new(compiled.map_err(|_| Error::Damaged("policy"))?);
            *last = Some(Arc::clone(&compiled));
            let view = records.view();
            if view.has_policies(tenant, &rows) {
                self.ready.store(Some(Arc::clone(&compiled)));
                return Ok(compiled);
            }
        }
        Err(Error::Unavailable { retry_after_ms: 1_000 })
    }
}
