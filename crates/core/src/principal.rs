//! Identities, their roles, and who is calling.

use std::net::IpAddr;

use minicbor::{Decode, Encode};

use crate::error::Error;
use crate::id::{Name, PrincipalId, TenantId};
use crate::time::Time;

/// What a caller may do by template. Each role is a short Cedar policy shipped with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Runs the deployment: tenants and seal. Reaches no key.
    PlatformOperator,
    /// Identities, policies and access keys of its tenant. Uses no key.
    TenantAdmin,
    /// Creates, rotates and ends keys. Uses none.
    KeyAdmin,
    /// Uses keys.
    KeyUser,
    /// Reads keys' metadata, policies, the log and the reports. Changes nothing.
    Auditor,
    /// Holds a share of the seal; carries out immediate destruction.
    Custodian,
    /// Everything in its tenant. Exists only on a development server.
    Developer,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 7] = [
        Self::PlatformOperator,
        Self::TenantAdmin,
        Self::KeyAdmin,
        Self::KeyUser,
        Self::Auditor,
        Self::Custodian,
        Self::Developer,
    ];

    /// Pairs that one identity must not hold together: who manages does not use, who audits does nothing else.
    pub const EXCLUSIVE: [(Self, Self); 11] = [
        (Self::KeyAdmin, Self::KeyUser),
        (Self::TenantAdmin, Self::KeyUser),
        (Self::Custodian, Self::KeyAdmin),
        (Self::Custodian, Self::KeyUser),
        (Self::PlatformOperator, Self::KeyAdmin),
        (Self::PlatformOperator, Self::KeyUser),
        (Self::Auditor, Self::PlatformOperator),
        (Self::Auditor, Self::TenantAdmin),
        (Self::Auditor, Self::KeyAdmin),
        (Self::Auditor, Self::KeyUser),
        (Self::Auditor, Self::Custodian),
    ];

    /// The role's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PlatformOperator => "platform-operator",
            Self::TenantAdmin => "tenant-admin",
            Self::KeyAdmin => "key-admin",
            Self::KeyUser => "key-user",
            Self::Auditor => "auditor",
            Self::Custodian => "custodian",
            Self::Developer => "developer",
        }
    }

    /// The role of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// A set of roles in which no two exclude each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Roles(#[n(0)] u16);

impl Roles {
    /// Makes a set of roles for an identity of `tenant`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if two of them must not meet, or if a role does not exist in that tenant:
    /// `platform-operator` lives in the platform tenant only, and roles over keys everywhere else.
    pub fn new(roles: impl IntoIterator<Item = Role>, tenant: TenantId) -> Result<Self, Error> {
        let set = Self(roles.into_iter().fold(0, |bits, role| bits | role.bit()));
        if Role::EXCLUSIVE.into_iter().any(|(a, b)| set.contains(a) && set.contains(b)) {
            return Err(Error::Invalid {
                field: "roles",
                rule: "two of these roles must not be held by one identity",
            });
        }
        let platform = tenant == TenantId::PLATFORM;
        let over_keys = [Role::TenantAdmin, Role::KeyAdmin, Role::KeyUser, Role::Developer];
        if platform && over_keys.into_iter().any(|role| set.contains(role)) {
            return Err(Error::Invalid {
                field: "roles",
                rule: "the platform tenant holds no keys and no roles over keys",
            });
        }
        if !platform && set.contains(Role::PlatformOperator) {
            return Err(Error::Invalid {
                field: "roles",
                rule: "platform-operator exists in the platform tenant only",
            });
        }
        Ok(set)
    }

    /// Whether the set holds `role`.
    #[must_use]
    pub const fn contains(self, role: Role) -> bool {
        self.0 & role.bit() != 0
    }

    /// The roles of the set.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |&role| self.contains(role))
    }
}

/// The stored record of an identity.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Principal {
    /// Its id.
    #[n(0)]
    pub id: PrincipalId,
    /// Its tenant.
    #[n(1)]
    pub tenant: TenantId,
    /// Its name, unique in the tenant, never reused.
    #[n(2)]
    pub name: Name,
    /// What it may do by template.
    #[n(3)]
    pub roles: Roles,
    /// When it was made.
    #[n(4)]
    pub created: Time,
    /// Set once it is revoked; never unset.
    #[n(5)]
    pub revoked: Option<Time>,
    /// SHA-256 of the DER certificates it may present, newest last, at most [`CERTIFICATES_MAX`].
    #[n(6)]
    pub certificates: Vec<Fingerprint>,
}

/// The most certificates an identity has at one time; the oldest goes first.
pub const CERTIFICATES_MAX: usize = 8;

/// SHA-256 of a certificate's DER form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Fingerprint(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 32]);

/// The stored record of an access key (an id and a secret, as AWS tools use).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AccessKey {
    /// The public id, 16 to 128 of `A-Z 0-9`.
    #[n(0)]
    pub id: String,
    /// Whose it is.
    #[n(1)]
    pub principal: PrincipalId,
    /// The secret, wrapped under the tenant key. Before the secret of a temporary access key stand the
    /// [`SESSION_TOKEN_BYTES`] of its session token.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub wrapped_secret: Vec<u8>,
    /// When it was made.
    #[n(3)]
    pub created: Time,
    /// Set once it is disabled; never unset.
    #[n(4)]
    pub disabled: Option<Time>,
    /// The version of the tenant key that wraps the secret.
    #[n(5)]
    pub tenant_key_version: u32,
    /// When it ends, if it is temporary: then its session token is asked for too.
    #[n(6)]
    pub end: Option<Time>,
}

/// Length of a temporary access key's session token, in bytes.
pub const SESSION_TOKEN_BYTES: usize = 32;
/// The shortest life of a temporary access key, in minutes.
pub const SESSION_MINUTES_MIN: u32 = 15;
/// The longest.
pub const SESSION_MINUTES_MAX: u32 = 36 * 60;

/// How a caller proved who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A client certificate.
    Certificate(Fingerprint),
    /// A request signed with the secret of the access key of this id.
    AccessKey(String),
    /// None: a listener's callers prove nothing, and this is the identity that it is configured to act as.
    Anonymous,
    /// Evidence of what it is, appraised by the boot protocol. The identity is the one that the machine says it is: what
    /// its evidence proves is for policies to look at.
    Evidence,
    /// The server itself, or the operator on the machine while no server runs.
    Local,
}

/// Who is calling: the result of authentication, valid for the epoch it was read at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The identity.
    pub principal: PrincipalId,
    /// Its tenant. Everything a request reaches lies in this tenant.
    pub tenant: TenantId,
    /// Its name, for the log.
    pub name: Name,
    /// Its roles.
    pub roles: Roles,
    /// How it proved itself.
    pub proof: Proof,
    /// When the certificate or access key that proves it ends, if it does.
    pub expires: Option<Time>,
    /// Where the request came from.
    pub address: IpAddr,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_that_must_not_meet_are_refused() {
        let tenant = TenantId([1; 16]);
        for (a, b) in Role::EXCLUSIVE {
            assert!(Roles::new([a, b], tenant).is_err(), "{} with {}", a.name(), b.name());
        }
        assert!(Roles::new([Role::KeyAdmin, Role::TenantAdmin], tenant).is_ok());
        assert!(Roles::new([Role::KeyUser], TenantId::PLATFORM).is_err());
        assert!(Roles::new([Role::PlatformOperator], tenant).is_err());
        assert!(Roles::new([Role::PlatformOperator, Role::Custodian], TenantId::PLATFORM).is_ok());
    }
}
