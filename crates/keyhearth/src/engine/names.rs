//! From names to ids and back, for configurations and for protocols that know things by name: identities and tenants
//! by theirs, versions of a key by their public halves.
//!
//! A name is a handle and no authority: what is done is decided by ids.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::Arc;

use keyhearth_core::Error;
use keyhearth_core::id::{KeyId, Name, PrincipalId, TenantId};
use keyhearth_core::request::KeyRef;
use keyhearth_core::row::{RowKey, Table};

use super::open::Open;
use super::{Engine, Reading, blocking};

/// Something by its id or its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named<I> {
    /// By its id.
    Id(I),
    /// By its name.
    Name(Name),
}

impl<I: FromStr> FromStr for Named<I> {
    type Err = Error;
    /// What has the form of a UUID is an id; everything else is a name.
    fn from_str(text: &str) -> Result<Self, Error> {
        text.parse().map(Self::Id).or_else(|_| text.parse().map(Self::Name))
    }
}

/// The public halves of a key's versions.
#[derive(Clone, Debug)]
pub struct PublicHalves {
    /// The key.
    pub key: KeyId,
    /// How many versions it has, with and without material.
    pub versions: usize,
    /// Numbers of versions and their public halves in DER.
    pub halves: Vec<(u32, Vec<u8>)>,
}

impl Open {
    /// The tenant of this id or name.
    pub(super) fn tenant_named(&self, tenant: &Named<TenantId>) -> Result<TenantId, Error> {
        let name = match tenant {
            Named::Id(id) => return Ok(*id),
            Named::Name(name) => name,
        };
        let row = RowKey::new(Table::TenantName, TenantId::PLATFORM, name.as_str().as_bytes());
        Ok(self.records.read::<TenantId>(&row)?.ok_or(Error::NotFound("tenant"))?.value)
    }

    /// The identity of this id or name in a tenant.
    pub(super) fn principal_named(
        &self,
        tenant: TenantId,
        identity: &Named<PrincipalId>,
    ) -> Result<PrincipalId, Error> {
        let name = match identity {
            Named::Id(id) => return Ok(*id),
            Named::Name(name) => name,
        };
        let row = RowKey::new(Table::PrincipalName, tenant, name.as_str().as_bytes());
        Ok(self.records.read::<PrincipalId>(&row)?.ok_or(Error::NotFound("identity"))?.value)
    }
}

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

    /// The public halves of a key's versions, for protocols in which a caller names a version by its public half.
    /// They are for finding that version and not to be given out: that is [`Operation::PublicKey`], and decided.
    ///
    /// [`Operation::PublicKey`]: keyhearth_core::operation::Operation::PublicKey
    ///
    /// # Errors
    /// [`Error::Sealed`], [`Error::NotFound`], and those of the store.
    pub async fn public_halves(
        self: &Arc<Self>,
        tenant: TenantId,
        key: KeyRef,
    ) -> Result<PublicHalves, Error> {
        let open = self.open.load_full().ok_or(Error::Sealed)?;
        let find = move || {
            let (id, boot) = (open.resolve(tenant, &key)?, Reading::take().boot);
            let held = match open.held(tenant, id, boot) {
                Some(held) => held,
                None => open.hold(tenant, id, boot)?,
            };
            let key = &held.key.value;
            let with_material = key.versions.iter().filter(|version| version.has_material);
            let half = |number| match open.material_row(key, number) {
                Ok(row) => Ok(row.value.public.map(|der| (number, der))),
                Err(Error::NotFound(_)) => Ok(None),
                Err(error) => Err(error),
            };
            let halves = with_material.filter_map(|version| half(version.number).transpose());
            Ok(PublicHalves {
                key: id,
                versions: key.versions.len(),
                halves: halves.collect::<Result<_, Error>>()?,
            })
        };
        blocking(find).await
    }
}
