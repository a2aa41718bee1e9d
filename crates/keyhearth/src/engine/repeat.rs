//! Repeated creating requests: the same idempotency key gives the first answer again.

use keyhearth_core::Error;
use keyhearth_core::grant::Grant;
use keyhearth_core::id::{GrantId, KeyId, PrincipalId, TenantId};
use keyhearth_core::key::Key;
use keyhearth_core::request::{IDEMPOTENCY_KEY_BYTES_MAX, IDEMPOTENCY_MS, Response};
use keyhearth_core::row::{RowKey, Table};
use keyhearth_core::time::Time;
use keyhearth_crypto::digest::sha256;

use super::records::Stored;
use super::{Effect, Turn};

/// The remembered result of a creating request.
#[derive(Clone, Debug, minicbor::Encode, minicbor::Decode)]
pub(super) struct Remembered {
    /// SHA-256 of the request.
    #[cbor(n(0), with = "minicbor::bytes")]
    digest: [u8; 32],
    /// Number of the operation.
    #[n(1)]
    operation: u8,
    /// Until when it is remembered.
    #[n(2)]
    pub expires: Time,
    /// What was made.
    #[n(3)]
    made: Made,
}

/// What a creating request made, by reference where it can be read again.
#[derive(Clone, Debug, minicbor::Encode, minicbor::Decode)]
enum Made {
    #[n(0)]
    Key(#[n(0)] KeyId),
    #[n(1)]
    Grant(#[n(0)] KeyId, #[n(1)] GrantId),
    #[n(2)]
    Identity(#[n(0)] PrincipalId, #[n(1)] String),
    #[n(3)]
    Tenant(#[n(0)] TenantId, #[n(1)] PrincipalId, #[n(2)] String),
    #[n(4)]
    AccessKey(#[n(0)] String),
}

impl Turn<'_> {
    /// Where this request's result is remembered, if it may be repeated.
    fn memory(&self) -> Result<Option<(RowKey, [u8; 32])>, Error> {
        let Some(repeatable) = &self.request.idempotency else { return Ok(None) };
        if !(1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&repeatable.key.len()) {
            return Err(Error::Invalid { field: "idempotency_key", rule: "must have 1 to 128 bytes" });
        }
        let id = sha256(&[&self.caller.principal.0, repeatable.key.as_bytes()]);
        Ok(Some((RowKey::new(Table::Idempotency, self.tenant(), &id), repeatable.digest)))
    }

    /// The first answer, if this request repeats one.
    ///
    /// # Errors
    /// [`Error::Conflict`] if another request has used the same key.
    pub(super) fn remembered(&self) -> Result<Option<Effect>, Error> {
        let Some((row, digest)) = self.memory()? else { return Ok(None) };
        let Some(found) = self.open.records.read::<Remembered>(&row)? else { return Ok(None) };
        if self.now.may_have_passed(found.value.expires) {
            return Ok(None);
        }
        if found.value.digest != digest || found.value.operation != self.permit.operation().info().code {
            return Err(Error::Conflict("this idempotency key was used for another request"));
        }
        let response = match &found.value.made {
            Made::Key(id) => {
                let row = RowKey::new(Table::Key, self.tenant(), &id.0);
                let key: Stored<Key> = self.open.records.read(&row)?.ok_or(Error::NotFound("key"))?;
                Response::Key(Box::new(key.value))
            }
            Made::Grant(key, grant) => {
                let row = RowKey::new(Table::Grant, self.tenant(), &[key.0, grant.0].concat());
                let grant: Stored<Grant> = self.open.records.read(&row)?.ok_or(Error::NotFound("grant"))?;
                Response::Grant(Box::new(grant.value))
            }
            Made::Identity(id, certificate) => {
                let principal = self.open.principal(self.tenant(), *id)?.value.clone();
                self.identity(principal, certificate.clone())
            }
            Made::Tenant(id, admin, certificate) => {
                let tenant = self.open.tenant(*id)?.value.clone();
                let admin = self.open.principal(*id, *admin)?.value.clone();
                self.tenant_made(tenant, admin, certificate.clone())
            }
            Made::AccessKey(id) => self.access_key_made(&self.open.access_key(self.tenant(), id)?.value)?,
        };
        Ok(Some(Effect::of(response).detail("repeated")))
    }

    /// The effect, with its result remembered if the request may be repeated.
    pub(super) fn remember(&self, mut effect: Effect) -> Result<Effect, Error> {
        let Some((row, digest)) = self.memory()? else { return Ok(effect) };
        let made = match &effect.response {
            Response::Key(key) => Made::Key(key.id),
            Response::Grant(grant) => Made::Grant(grant.key, grant.id),
            Response::Identity { principal, certificate, .. } => {
                Made::Identity(principal.id, certificate.clone())
            }
            Response::Tenant { tenant, admin, certificate, .. } => {
                Made::Tenant(tenant.id, admin.id, certificate.clone())
            }
            Response::AccessKey { id, .. } => Made::AccessKey(id.clone()),
            _ => return Err(Error::Internal("this result is not remembered")),
        };
        let expires = self.now.latest.plus_ms(IDEMPOTENCY_MS);
        let remembered = Remembered { digest, operation: self.permit.operation().info().code, expires, made };
        effect.writes.push(match self.open.records.read::<Remembered>(&row)? {
            Some(old) if self.now.may_have_passed(old.value.expires) => {
                self.open.records.replace(&old, &remembered)
            }
            // If the same request has come before this one meanwhile, this conflicts and is tried again.
            Some(_) | None => self.open.records.create(row, &remembered),
        });
        Ok(effect)
    }
}
