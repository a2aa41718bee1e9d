//! Who is calling: from a certificate or an access key to an identity that is good now.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use keyhearth_core::Error;
use keyhearth_core::entry::{Entry, Result as Outcome};
use keyhearth_core::id::{PrincipalId, TenantId};
use keyhearth_core::operation::Operation;
use keyhearth_core::principal::{AccessKey, Caller, Fingerprint, Proof};
use keyhearth_core::row::{RowKey, Table};
use keyhearth_core::store::Commit;
use keyhearth_core::time::Time;
use keyhearth_crypto::digest::sha256;
use keyhearth_crypto::secret::SecretBytes;
use zeroize::Zeroizing;

use super::Named;
use super::govern::{checked_access_key_id, parts, session_token};
use super::open::{Open, TENANT_KEY_GONE};
use super::{ATTEMPTS_MAX, Engine};
use crate::identity::client_certificate;

/// Failed logins that are logged one by one, a second; the others are counted in the next entry.
const FAILURES_LOGGED_PER_S: u64 = 50;

/// Whose a certificate is: the record in [`Table::Certificate`].
#[derive(Clone, Debug, minicbor::Encode, minicbor::Decode)]
pub(super) struct Owner {
    #[n(0)]
    pub tenant: TenantId,
    #[n(1)]
    pub principal: PrincipalId,
}

/// An authenticated caller, and how long that holds without looking again.
#[derive(Clone, Debug)]
pub struct Authenticated {
    /// Who.
    pub caller: Arc<Caller>,
    /// While no identity has changed since…
    identity_epoch: u64,
    /// …and the certificate or access key has not ended.
    not_after: Time,
}

/// Who calls if a request was signed with this secret, and with this session token beside it.
pub struct Signer {
    /// Who.
    pub authenticated: Authenticated,
    key: AccessKey,
    secret: SecretBytes,
}

/// Why an access key lets nobody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoLogin {
    /// There is none of this id, it is disabled, or its identity is revoked.
    Unknown,
    /// It was temporary.
    Ended,
    /// Who it is cannot be found out.
    Failed(Error),
}

impl From<Error> for NoLogin {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Signer {
    /// What requests are signed with.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn expose_secret(&self) -> Result<&[u8], Error> {
        parts(&self.key, &self.secret).map(|(_, secret)| secret)
    }

    /// SHA-256 of the session token that goes with every request; `None` if there must be none.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn session_token_hash(&self) -> Result<Option<[u8; 32]>, Error> {
        let (token, _) = parts(&self.key, &self.secret)?;
        Ok(self.key.end.map(|_| sha256(&[&Zeroizing::new(session_token(token))])))
    }
}

/// Failed logins and untried unseals: counted always, logged up to a rate.
#[derive(Debug, Default)]
pub(super) struct Failures {
    second: u64,
    logged: u64,
    unlogged: u64,
}

impl Failures {
    /// Whether to log one more, and how many were not logged before it.
    pub(super) fn admit(&mut self, second: u64) -> Option<u64> {
        if second != self.second {
            (self.second, self.logged) = (second, 0);
        }
        if self.logged >= FAILURES_LOGGED_PER_S {
            self.unlogged += 1;
            return None;
        }
        self.logged += 1;
        Some(std::mem::take(&mut self.unlogged))
    }
}

impl Engine {
    /// Whether what was found out about a connection's caller still holds.
    pub fn still_holds(&self, known: &Authenticated) -> bool {
        let open = self.open.load();
        open.as_ref().is_some_and(|open| {
            open.identity_epoch() == known.identity_epoch && !self.now().may_have_passed(known.not_after)
        })
    }

    /// Finds out who presents `certificate` (DER, its chain already verified). A failure is logged.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] without a certificate, or with one that is not bound to an identity, has
    /// ended, or whose identity is revoked; [`Error::Sealed`].
    pub async fn authenticate(
        &self,
        certificate: Option<&[u8]>,
        address: IpAddr,
    ) -> Result<Authenticated, Error> {
        let open = self.open.load_full().ok_or(Error::Sealed)?;
        let found =
            certificate.ok_or(Error::Unauthenticated).and_then(|der| self.identify(&open, der, address));
        match found {
            Ok(authenticated) => Ok(authenticated),
            Err(error) => {
                let hash = certificate.map(crate::identity::fingerprint);
                let certificate = hash.map(|Fingerprint(hash)| hash[..8].try_into().expect("8 of 32 bytes"));
                self.log_failed_login(address, |entry| Entry { certificate, ..entry }).await?;
                Err(error)
            }
        }
    }

    fn identify(&self, open: &Open, der: &[u8], address: IpAddr) -> Result<Authenticated, Error> {
        let identity_epoch = open.identity_epoch();
        let refused = |_| Error::Unauthenticated;
        let presented = client_certificate(der, self.now()).map_err(refused)?;
        let row = RowKey::new(Table::Certificate, TenantId::PLATFORM, &presented.fingerprint.0);
        let owner = open.records.read::<Owner>(&row)?.ok_or(Error::Unauthenticated)?.value;
        let principal = open.principal(owner.tenant, owner.principal)?;
        let principal = &principal.value;
        if principal.revoked.is_some() || !principal.certificates.contains(&presented.fingerprint) {
            return Err(Error::Unauthenticated);
        }
        let caller = Caller {
            principal: principal.id,
            tenant: principal.tenant,
            name: principal.name.clone(),
            roles: principal.roles,
            proof: Proof::Certificate(presented.fingerprint),
            expires: Some(presented.not_after),
            address,
        };
        Ok(Authenticated { caller: Arc::new(caller), identity_epoch, not_after: presented.not_after })
    }

    /// The identity that a listener acts as for callers at `address` who prove nothing. A failure is logged.
    ///
    /// # Errors
    /// [`Error::Denied`] if there is no such identity or it is revoked; [`Error::Sealed`].
    pub async fn anonymous(
        &self,
        tenant: &Named<TenantId>,
        identity: &Named<PrincipalId>,
        address: IpAddr,
    ) -> Result<Authenticated, Error> {
        let open = self.open.load_full().ok_or(Error::Sealed)?;
        match find_stand_in(&open, tenant, identity, address) {
            Err(Error::NotFound(_) | Error::Denied) => {
                self.log_failed_login(address, |entry| entry).await?;
                Err(Error::Denied)
            }
            found => found,
        }
    }

    /// Finds out who calls if a request turns out to be signed with the secret of access key `id`, for requests
    /// from `address`. Whoever asks checks the signature, and reports a failure with [`Engine::refuse_login`].
    ///
    /// # Errors
    /// [`NoLogin`]; [`Error::Sealed`] in it.
    pub fn signer(&self, id: &str, address: IpAddr) -> Result<Signer, NoLogin> {
        let open = self.open.load_full().ok_or(Error::Sealed)?;
        let id = checked_access_key_id(id).map_err(|_| NoLogin::Unknown)?;
        for _ in 1..ATTEMPTS_MAX {
            match self.find_signer(&open, &id, address) {
                // A rotation of the tenant key went by between two reads.
                Err(NoLogin::Failed(error)) if error == TENANT_KEY_GONE => {}
                found => return found,
            }
        }
        self.find_signer(&open, &id, address)
    }

    fn find_signer(&self, open: &Open, id: &str, address: IpAddr) -> Result<Signer, NoLogin> {
        let identity_epoch = open.identity_epoch();
        let owner = RowKey::new(Table::AccessKeyOwner, TenantId::PLATFORM, id.as_bytes());
        let tenant = open.records.read::<TenantId>(&owner)?.ok_or(NoLogin::Unknown)?.value;
        let key = open.access_key(tenant, id)?.value.clone();
        let principal = open.principal(tenant, key.principal)?;
        let principal = &principal.value;
        if key.disabled.is_some() || principal.revoked.is_some() {
            return Err(NoLogin::Unknown);
        }
        if key.end.is_some_and(|end| self.now().may_have_passed(end)) {
            return Err(NoLogin::Ended);
        }
        let secret = open.access_secret(tenant, &key)?;
        let caller = Caller {
            principal: principal.id,
            tenant,
            name: principal.name.clone(),
            roles: principal.roles,
            proof: Proof::AccessKey(id.to_owned()),
            expires: key.end,
            address,
        };
        let not_after = key.end.unwrap_or(Time::MAX);
        let authenticated = Authenticated { caller: Arc::new(caller), identity_epoch, not_after };
        Ok(Signer { authenticated, key, secret })
    }

    /// Logs that somebody at `address` did not prove to hold the access key that it named, if it named one.
    ///
    /// # Errors
    /// [`Error::Unavailable`] and the like if that cannot be logged; then nothing else is to be answered.
    pub async fn refuse_login(&self, access_key: Option<&str>, address: IpAddr) -> Result<(), Error> {
        let access_key = access_key.and_then(|id| checked_access_key_id(id).ok());
        self.log_failed_login(address, |entry| Entry { access_key, ..entry }).await
    }

    async fn log_failed_login(
        &self,
        address: IpAddr,
        with: impl FnOnce(Entry) -> Entry,
    ) -> Result<(), Error> {
        let now = self.now();
        let Some(unlogged) = self.failures.lock().admit(now.latest.unix_ms() / 1_000) else { return Ok(()) };
        let detail = (unlogged > 0).then(|| format!("and {unlogged} more that were not logged one by one"));
        let entry = Entry {
            address: Some(address_bytes(address)),
            result: Outcome::Refused,
            error: Some(Error::Unauthenticated.code().to_owned()),
            detail,
            ..self.own_entry(Operation::Authenticate)
        };
        self.ledger.commit(Commit { writes: Vec::new(), entry: with(entry).to_bytes() }).await.map(|_| ())
    }

    /// An entry about something the server does or notices by itself.
    pub(super) fn own_entry(&self, operation: Operation) -> Entry {
        Entry {
            time: self.now().latest,
            incarnation: self.incarnation.load(Ordering::Relaxed),
            request: self.request_id(),
            tenant: TenantId::PLATFORM,
            actor: None,
            actor_name: None,
            certificate: None,
            address: None,
            operation: operation.info().code,
            key: None,
            version: None,
            result: Outcome::Done,
            error: None,
            by: Vec::new(),
            context: None,
            reason: None,
            detail: None,
            access_key: None,
            lease_seconds: None,
        }
    }
}

fn find_stand_in(
    open: &Open,
    tenant: &Named<TenantId>,
    identity: &Named<PrincipalId>,
    address: IpAddr,
) -> Result<Authenticated, Error> {
    let identity_epoch = open.identity_epoch();
    let tenant = open.tenant_named(tenant)?;
    let principal = open.principal(tenant, open.principal_named(tenant, identity)?)?;
    let principal = &principal.value;
    if principal.revoked.is_some() {
        return Err(Error::Denied);
    }
    let caller = Caller {
        principal: principal.id,
        tenant,
        name: principal.name.clone(),
        roles: principal.roles,
        proof: Proof::Anonymous,
        expires: None,
        address,
    };
    Ok(Authenticated { caller: Arc::new(caller), identity_epoch, not_after: Time::MAX })
}

/// An address as entries carry it: 4 or 16 bytes.
pub(super) fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
