//! Names of identities to their ids and back, for protocols that know identities by name.
//!
//! A name is a handle and no authority: what is done is decided by ids.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keyhearth_core::Error;
use keyhearth_core::id::{Name, PrincipalId, TenantId};
use keyhearth_core::row::{RowKey, Table};

use super::{Engine, blocking};

impl Engine {
    /// The identities of a tenant that have these names; names that nobody has are left out.
    ///
    /// # Errors
    /// [`Error::Sealed`], and those of the store.
    pub async fn identities_named(
        self: &Arc<Self>,
        tenant: TenantId,
        names: BTreeSet<Name>,
    ) -> Result<BTreeMap<Name, PrincipalId>, Error> {
        let open = self.open.load_full().ok_or(Error::Sealed)?;
        let find = move || {
            let mut found = BTreeMap::new();
            for name in names {
                let row = RowKey::new(Table::PrincipalName, tenant, name.as_str().as_bytes());
                if let Some(id) = open.records.read::<PrincipalId>(&row)? {
                    found.insert(name, id.value);
                }
            }
            Ok(found)
        };
        blocking(find).await
    }

    /// The names of these identities of a tenant; those that it does not have are left out.
    ///
    /// # Errors
    /// [`Error::Sealed`], and those of the store.
    pub async fn names_of(
        self: &Arc<Self>,
        tenant: TenantId,
        identities: BTreeSet<PrincipalId>,
    ) -> Result<BTreeMap<PrincipalId, Name>, Error> {
        let open = self.open.load_full().ok_or(Error::Sealed)?;
        let find = move || {
            let mut found = BTreeMap::new();
            for id in identities {
                match open.principal(tenant, id) {
                    Ok(principal) => drop(found.insert(id, principal.value.name.clone())),
                    Err(Error::NotFound(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(found)
        };
        blocking(find).await
    }
}
