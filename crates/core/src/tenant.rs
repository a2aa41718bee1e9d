//! Tenants.

use minicbor::{Decode, Encode};

use crate::id::{Name, TenantId};
use crate::time::Time;

/// The stored record of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Tenant {
    /// Its id.
    #[n(0)]
    pub id: TenantId,
    /// Its name, unique in the deployment, never reused.
    #[n(1)]
    pub name: Name,
    /// When it was made.
    #[n(2)]
    pub created: Time,
    /// While set, no key of the tenant is used.
    #[n(3)]
    pub disabled: Option<Time>,
    /// The version of its tenant key that wraps new material; 0 for the platform tenant, which has none.
    #[n(4)]
    pub tenant_key: u32,
}
