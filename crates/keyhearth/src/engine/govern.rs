//! Acts on identities, access keys and policies, and the tenant's other acts that are not on one key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyhearth_core::Error;
use keyhearth_core::id::{Name, PrincipalId, TenantId};
use keyhearth_core::key::Key;
use keyhearth_core::operation::Operation;
use keyhearth_core::policy::{Authorizer, POLICY_BYTES_MAX, Policy, Question, Verdict, key_of_policy};
use keyhearth_core::principal::{
    AccessKey, CERTIFICATES_MAX, Fingerprint, Principal, Role, Roles, SESSION_MINUTES_MAX,
    SESSION_MINUTES_MIN, SESSION_TOKEN_BYTES,
};
use keyhearth_core::request::{
    Ask, KeyRef, PAGE_MAX, Page, RANDOM_BYTES_MAX, Response, Secret, Session, Status,
};
use keyhearth_core::row::{RowKey, Table};
use keyhearth_core::store::Write;
use keyhearth_core::tenant::Tenant;
use keyhearth_crypto::kh1::envelope;
use keyhearth_crypto::random;
use keyhearth_crypto::secret::SecretBytes;
use tokio::sync::SemaphorePermit;

use super::authenticate::Owner;
use super::keys::{id_bytes, page_limit};
use super::open::Open;
use super::records::{Records, Stored};
use super::{Effect, Turn};
use crate::identity::{self, Subject};
use crate::policy::{Compiled, as_caller, diff, who_can};

/// Days a client certificate is good for unless asked otherwise.
const CLIENT_DAYS: u32 = 90;
/// Most identities and keys that a policy report looks at.
const REPORT_ITEMS_MAX: usize = 10_000;

impl Turn<'_> {
    /// Acts on the tenant.
    pub(super) fn on_tenant(&self) -> Result<Effect, Error> {
        match &self.request.ask {
            Ask::CreateKey(new) => self.create_key(new),
            Ask::ListKeys { page } => self.list_keys(page),
            Ask::ListAliases { of, page } => self.list_aliases(of.as_ref(), page),
            Ask::ListSecrets { page } => self.list_secrets(page),
            Ask::Random { bytes } => random_bytes(*bytes),
            Ask::IssueIdentity { name, roles, request, days } => {
                self.issue_identity(name, roles, request, *days)
            }
            Ask::ListRetirableGrants { identity, page } => self.list_retirable_grants(*identity, page),
            Ask::ListIdentities { page } => self.list_identities(page),
            Ask::RenewIdentity { request, days } => self.renew_identity(request, *days),
            Ask::RevokeIdentity { identity } => self.revoke_identity(*identity),
            Ask::SetRoles { identity, roles } => self.set_roles(*identity, roles),
            Ask::BindCertificate { identity, certificate } => self.bind_certificate(*identity, certificate),
            Ask::Status => self.status(),
            Ask::WhoAmI => Ok(Effect::of(Response::WhoAmI(Box::new(self.caller.clone())))),
            Ask::CreateAccessKey { identity, import, minutes } => {
                self.create_access_key(*identity, import.as_ref(), *minutes)
            }
            Ask::ListAccessKeys { page } => self.list_access_keys(page),
            Ask::DisableAccessKey { id } => self.disable_access_key(id),
            Ask::PutPolicy { name, text } => self.put_policy(name, text),
            Ask::ListPolicies => {
                Ok(Effect::of(Response::Policies(self.policies()?.into_iter().map(|p| p.value).collect())))
            }
            Ask::DeletePolicy { name } => self.delete_policy(name),
            Ask::DiffPolicy { name, text } => self.diff_policy(name, text.as_deref()),
            Ask::TestPolicy { identity, operation, key, context, lease_seconds } => {
                self.test_policy(*identity, *operation, key.as_ref(), (context, *lease_seconds))
            }
            Ask::ListMachines { page } => self.list_machines(page),
            Ask::DescribeMachine { machine } => {
                Ok(Effect::of(Response::Machine(Box::new(self.machine(*machine)?.value))))
            }
            Ask::ListApprovals { page } => self.list_approvals(page),
            Ask::ListEntries { .. } | Ask::Checkpoint | Ask::ProveEntry { .. } => self.audit(),
            _ => Err(Error::Internal("not an operation on a tenant")),
        }
    }

    /// The server's state; what speaks of other tenants is for the platform tenant.
    fn status(&self) -> Result<Effect, Error> {
        let status = self.engine.status()?;
        let (keys, log_size, epoch) = match self.tenant() {
            TenantId::PLATFORM => (status.keys, status.log_size, status.epoch),
            _ => (None, None, None),
        };
        Ok(Effect::of(Response::Status(Box::new(Status { keys, log_size, epoch, ..status }))))
    }

    fn checked_roles(&self, roles: &[Role], tenant: TenantId) -> Result<Roles, Error> {
        if roles.contains(&Role::Developer) && !self.engine.settings.development {
            return Err(Error::Invalid {
                field: "roles",
                rule: "developer exists on a development server only",
            });
        }
        Roles::new(roles.iter().copied(), tenant)
    }

    /// A new identity with its certificate, and the rows that make it.
    pub(super) fn new_identity(
        &self,
        tenant: TenantId,
        name: &Name,
        roles: &[Role],
        request: &str,
        days: Option<u32>,
    ) -> Result<(Principal, String, Vec<Write>), Error> {
        let mut principal = self.principal(tenant, name, self.checked_roles(roles, tenant)?)?;
        let subject = Subject { tenant, principal: principal.id, name };
        let issued =
            self.open.ca.sign_client(request, subject, days.unwrap_or(CLIENT_DAYS), self.now.latest)?;
        principal.certificates.push(issued.fingerprint);
        let certificate = RowKey::new(Table::Certificate, TenantId::PLATFORM, &issued.fingerprint.0);
        let owner = Owner { tenant, principal: principal.id };
        let mut writes = Vec::from(self.principal_rows(&principal));
        writes.push(self.open.records.create(certificate, &owner));
        Ok((principal, issued.pem, writes))
    }

    /// A new identity that nothing proves yet.
    pub(super) fn principal(&self, tenant: TenantId, name: &Name, roles: Roles) -> Result<Principal, Error> {
        let name_row = RowKey::new(Table::PrincipalName, tenant, name.as_str().as_bytes());
        if self.open.records.read::<PrincipalId>(&name_row)?.is_some() {
            return Err(Error::Conflict("an identity of this name exists, or has existed"));
        }
        Ok(Principal {
            id: PrincipalId::new(self.now.latest, id_bytes()?),
            tenant,
            name: name.clone(),
            roles,
            created: self.now.latest,
            revoked: None,
            certificates: Vec::new(),
        })
    }

    /// The rows that make an identity.
    pub(super) fn principal_rows(&self, principal: &Principal) -> [Write; 2] {
        let Principal { id, tenant, name, .. } = principal;
        let name_row = RowKey::new(Table::PrincipalName, *tenant, name.as_str().as_bytes());
        [
            self.open.records.create(RowKey::new(Table::Principal, *tenant, &id.0), principal),
            self.open.records.create(name_row, id),
        ]
    }

    fn issue_identity(
        &self,
        name: &Name,
        roles: &[Role],
        request: &str,
        days: Option<u32>,
    ) -> Result<Effect, Error> {
        let (principal, certificate, writes) =
            self.new_identity(self.tenant(), name, roles, request, days)?;
        let detail = format!("{} {}: {}", principal.id, principal.name, role_names(principal.roles));
        self.remember(Effect::writing(self.identity(principal, certificate), writes).detail(detail))
    }

    pub(super) fn identity(&self, principal: Principal, certificate: String) -> Response {
        let ca = self.open.ca.certificate_pem().to_owned();
        Response::Identity { principal: Box::new(principal), certificate, ca }
    }

    fn list_identities(&self, page: &Page) -> Result<Effect, Error> {
        let limit = page_limit(page)?;
        let (rows, next) =
            self.open.records.scan::<Principal>(Table::Principal, self.tenant(), &page.after, limit)?;
        Ok(Effect::of(Response::Identities {
            principals: rows.into_iter().map(|row| row.value).collect(),
            next,
        }))
    }

    /// An identity of the tenant that is not revoked.
    fn live_identity(&self, id: PrincipalId) -> Result<std::sync::Arc<Stored<Principal>>, Error> {
        let principal = self.open.principal(self.tenant(), id)?;
        if principal.value.revoked.is_some() {
            return Err(Error::Conflict("this identity is revoked for ever"));
        }
        Ok(principal)
    }

    /// The writes that add a certificate to an identity; the oldest makes room.
    fn add_certificate(
        &self,
        stored: &Stored<Principal>,
        new: Fingerprint,
    ) -> Result<(Principal, Vec<Write>), Error> {
        let mut principal = stored.value.clone();
        let row =
            |fingerprint: &Fingerprint| RowKey::new(Table::Certificate, TenantId::PLATFORM, &fingerprint.0);
        let mut writes = Vec::new();
        if self.open.records.read::<Owner>(&row(&new))?.is_some() {
            return Err(Error::Conflict("this certificate is bound already"));
        }
        if principal.certificates.len() >= CERTIFICATES_MAX {
            let oldest = principal.certificates.remove(0);
            if let Some(old) = self.open.records.read::<Owner>(&row(&oldest))? {
                writes.push(Records::delete(&old));
            }
        }
        principal.certificates.push(new);
        let owner = Owner { tenant: principal.tenant, principal: principal.id };
        writes.push(self.open.records.create(row(&new), &owner));
        writes.push(self.open.records.replace(stored, &principal));
        Ok((principal, writes))
    }

    fn renew_identity(&self, request: &str, days: Option<u32>) -> Result<Effect, Error> {
        let stored = self.live_identity(self.caller.principal)?;
        let subject = Subject { tenant: self.tenant(), principal: stored.value.id, name: &stored.value.name };
        let issued =
            self.open.ca.sign_client(request, subject, days.unwrap_or(CLIENT_DAYS), self.now.latest)?;
        let (principal, writes) = self.add_certificate(&stored, issued.fingerprint)?;
        self.remember(Effect::writing(self.identity(principal, issued.pem), writes))
    }

    fn bind_certificate(&self, id: PrincipalId, pem: &str) -> Result<Effect, Error> {
        let stored = self.live_identity(id)?;
        let der = identity::certificate_der(pem)?;
        let presented = identity::client_certificate(&der, self.now)?;
        let (principal, writes) = self.add_certificate(&stored, presented.fingerprint)?;
        let detail = principal.id.to_string();
        Ok(Effect::writing(Response::Principal(Box::new(principal)), writes).detail(detail))
    }

    fn revoke_identity(&self, id: PrincipalId) -> Result<Effect, Error> {
        let stored = self.live_identity(id)?;
        let principal = Principal { revoked: Some(self.now.latest), ..stored.value.clone() };
        let write = self.open.records.replace(&stored, &principal);
        let detail = format!("{} {}", principal.id, principal.name);
        Ok(Effect::writing(Response::Principal(Box::new(principal)), vec![write]).detail(detail))
    }

    fn set_roles(&self, id: PrincipalId, roles: &[Role]) -> Result<Effect, Error> {
        if id == self.caller.principal {
            return Err(Error::Invalid { field: "identity", rule: "nobody changes its own roles" });
        }
        let stored = self.live_identity(id)?;
        let principal =
            Principal { roles: self.checked_roles(roles, self.tenant())?, ..stored.value.clone() };
        let write = self.open.records.replace(&stored, &principal);
        let detail = format!("{} {}: {}", principal.id, principal.name, role_names(principal.roles));
        Ok(Effect::writing(Response::Principal(Box::new(principal)), vec![write]).detail(detail))
    }

    fn create_access_key(
        &self,
        identity: PrincipalId,
        import: Option<&(String, Secret)>,
        minutes: Option<u32>,
    ) -> Result<Effect, Error> {
        let owner = self.live_identity(identity)?.value.id;
        let refuse = |rule| Err(Error::Invalid { field: "minutes", rule });
        let (id, secret) = match (import, minutes) {
            (Some(_), Some(_)) => return refuse("an imported access key does not end"),
            (None, Some(minutes)) if !(SESSION_MINUTES_MIN..=SESSION_MINUTES_MAX).contains(&minutes) => {
                return refuse("must be 15 to 2,160");
            }
            (Some((id, secret)), None) => (checked_access_key_id(id)?, checked_access_secret(secret)?),
            (None, minutes) => new_access_key(minutes.is_some())?,
        };
        let end = minutes.map(|minutes| self.now.latest.plus_ms(u64::from(minutes) * 60_000));
        let owner_row = RowKey::new(Table::AccessKeyOwner, TenantId::PLATFORM, id.as_bytes());
        if self.open.records.read::<TenantId>(&owner_row)?.is_some() {
            return Err(Error::Conflict("an access key of this id exists"));
        }
        let tenant = self.open.tenant(self.tenant())?;
        let tenant_key_version = tenant.value.tenant_key;
        let tenant_key = self.open.tenant_key(self.tenant(), tenant_key_version)?;
        let aad = access_key_binding(&id, owner);
        let wrapped_secret = envelope::wrap(&tenant_key, self.tenant().0, tenant_key_version, &aad, &secret)?;
        let record = AccessKey {
            id: id.clone(),
            principal: owner,
            wrapped_secret,
            created: self.now.latest,
            disabled: None,
            tenant_key_version,
            end,
        };
        let writes = vec![
            self.open.records.create(RowKey::new(Table::AccessKey, self.tenant(), id.as_bytes()), &record),
            self.open.records.create(owner_row, &self.tenant()),
            Records::keep(&tenant),
        ];
        let detail = format!("{id} of {owner}");
        self.remember(Effect::writing(self.access_key_made(&record)?, writes).detail(detail))
    }

    /// The answer to who made an access key, or asked again.
    pub(super) fn access_key_made(&self, key: &AccessKey) -> Result<Response, Error> {
        let whole = self.open.access_secret(self.tenant(), key)?;
        let (token, secret) = parts(key, &whole)?;
        let session = key.end.map(|end| Session { token: Secret::new(session_token(token)), end });
        let secret = Secret::new(secret.to_vec());
        Ok(Response::AccessKey { id: key.id.clone(), secret, identity: key.principal, session })
    }

    fn list_access_keys(&self, page: &Page) -> Result<Effect, Error> {
        let limit = page_limit(page)?;
        let (rows, next) =
            self.open.records.scan::<AccessKey>(Table::AccessKey, self.tenant(), &page.after, limit)?;
        Ok(Effect::of(Response::AccessKeys { keys: rows.into_iter().map(|row| row.value).collect(), next }))
    }

    fn disable_access_key(&self, id: &str) -> Result<Effect, Error> {
        let stored = self.open.access_key(self.tenant(), &checked_access_key_id(id)?)?;
        if stored.value.disabled.is_some() {
            return Err(Error::Conflict("this access key is disabled for ever"));
        }
        let record = AccessKey { disabled: Some(self.now.latest), ..stored.value.clone() };
        let write = self.open.records.replace(&stored, &record);
        Ok(Effect::writing(Response::Done, vec![write]).detail(id))
    }

    fn policies(&self) -> Result<Vec<Stored<Policy>>, Error> {
        self.open.records.view().policies(self.tenant())
    }

    /// A place among the few who compute for long on policies, kept until it is dropped.
    pub(super) fn report(&self) -> Result<SemaphorePermit<'_>, Error> {
        self.open.reports.try_acquire().map_err(|_| Error::Unavailable { retry_after_ms: 1_000 })
    }

    /// The tenant's policies with `name` set to `text`, or without it.
    pub(super) fn with_policy(
        &self,
        name: &Name,
        text: Option<&str>,
    ) -> Result<(Vec<Policy>, Option<Stored<Policy>>), Error> {
        let mut old = None;
        let mut policies = Vec::new();
        for stored in self.policies()? {
            if stored.value.name == *name {
                old = Some(stored);
            } else {
                policies.push(stored.value);
            }
        }
        if let Some(text) = text {
            if text.len() > POLICY_BYTES_MAX {
                return Err(Error::TooLarge { field: "text", limit: POLICY_BYTES_MAX });
            }
            policies.push(Policy { name: name.clone(), text: text.to_owned(), activated: self.now.latest });
        }
        Ok((policies, old))
    }

    pub(super) fn compile(&self, policies: &[Policy]) -> Result<Compiled, Error> {
        self.open.policies(self.tenant())?.with(policies).map_err(|error| (&error).into())
    }

    fn put_policy(&self, name: &Name, text: &str) -> Result<Effect, Error> {
        of_no_key(name)?;
        let _report = self.report()?;
        let tenant = self.open.tenant(self.tenant())?;
        let (policies, old) = self.with_policy(name, Some(text))?;
        self.compile(&policies)?;
        let row = RowKey::new(Table::Policy, self.tenant(), name.as_str().as_bytes());
        let policy = Policy { name: name.clone(), text: text.to_owned(), activated: self.now.latest };
        let writes = self.policy_rows(row, old.as_ref(), &policy, &tenant);
        Ok(Effect::writing(Response::Done, writes).detail(name.as_str()))
    }

    /// The writes that put `policy` in the place of `old`.
    pub(super) fn policy_rows(
        &self,
        row: RowKey,
        old: Option<&Stored<Policy>>,
        policy: &Policy,
        tenant: &Stored<Tenant>,
    ) -> Vec<Write> {
        let records = &self.open.records;
        let write = match old {
            Some(old) => records.replace(old, policy),
            None => records.create(row, policy),
        };
        vec![write, self.touched(tenant)]
    }

    /// Every change of policies writes the tenant's row anew: what was decided by others conflicts with it. So do
    /// two policies that fit by themselves and might not fit together.
    fn touched(&self, tenant: &Stored<Tenant>) -> Write {
        self.open.records.replace(tenant, &tenant.value)
    }

    fn delete_policy(&self, name: &Name) -> Result<Effect, Error> {
        of_no_key(name)?;
        let (_, old) = self.with_policy(name, None)?;
        let old = old.ok_or(Error::NotFound("policy"))?;
        let tenant = self.open.tenant(self.tenant())?;
        let writes = vec![Records::delete(&old), self.touched(&tenant)];
        Ok(Effect::writing(Response::Done, writes).detail(name.as_str()))
    }

    fn diff_policy(&self, name: &Name, text: Option<&str>) -> Result<Effect, Error> {
        of_no_key(name)?;
        let _report = self.report()?;
        let (policies, _) = self.with_policy(name, text)?;
        let new = self.compile(&policies)?;
        let old = self.open.policies(self.tenant())?;
        let principals = self.everything::<Principal>(Table::Principal)?;
        let keys = self.everything::<Key>(Table::Key)?;
        Ok(Effect::of(Response::PolicyDiff(diff(&old, &new, &principals, &keys, self.now)?)))
    }

    fn test_policy(
        &self,
        identity: PrincipalId,
        operation: Operation,
        key: Option<&KeyRef>,
        (context, lease_seconds): (&[(String, String)], u32),
    ) -> Result<Effect, Error> {
        let principal = self.open.principal(self.tenant(), identity)?;
        let key: Option<Stored<Key>> = match key {
            None => None,
            Some(key) => {
                let id = self.open.resolve(self.tenant(), key)?;
                let row = RowKey::new(Table::Key, self.tenant(), &id.0);
                Some(self.open.records.read(&row)?.ok_or(Error::NotFound("key"))?)
            }
        };
        let caller = as_caller(&principal.value);
        let key = key.as_ref().map(|key| &key.value);
        let now = self.now.lasting(lease_seconds);
        let question = Question { caller: &caller, operation, key, context, boot: None, lease_seconds, now };
        let (allowed, by) = match self.open.policies(self.tenant())?.authorize(&question) {
            Verdict::Allow(by) => (principal.value.revoked.is_none(), by.to_vec()),
            Verdict::Forbid(by) => (false, by.to_vec()),
            Verdict::Silent => (false, Vec::new()),
        };
        Ok(Effect::of(Response::PolicyTest { allowed, by }))
    }

    /// Who can do what with the key.
    pub(super) fn who_can(&self) -> Result<Effect, Error> {
        let _report = self.report()?;
        let held = self.held()?;
        let policies = self.open.policies(self.tenant())?;
        let principals = self.everything::<Principal>(Table::Principal)?;
        let grants: Vec<_> = held.grants.iter().map(|grant| grant.value.clone()).collect();
        let abilities = who_can(&policies, &held.key.value, &principals, &grants, self.now)?;
        Ok(Effect::of(Response::WhoCan(abilities)))
    }

    /// All records of a table of the tenant, for a report.
    fn everything<T: for<'b> minicbor::Decode<'b, ()>>(&self, table: Table) -> Result<Vec<T>, Error> {
        let mut all: Vec<T> = Vec::new();
        let mut after = Vec::new();
        loop {
            let (rows, next) = self.open.records.scan::<T>(table, self.tenant(), &after, PAGE_MAX)?;
            all.extend(rows.into_iter().map(|row| row.value));
            if all.len() > REPORT_ITEMS_MAX {
                return Err(Error::TooLarge { field: "report", limit: REPORT_ITEMS_MAX });
            }
            match next {
                Some(next) => after = next,
                None => return Ok(all),
            }
        }
    }
}

/// Refuses the name of a key's own policy: that is set and taken away with the key.
fn of_no_key(name: &Name) -> Result<(), Error> {
    match key_of_policy(name) {
        Some(_) => Err(Error::Invalid {
            field: "name",
            rule: "is that of a key's own policy, which `put-key-policy` changes",
        }),
        None => Ok(()),
    }
}

fn random_bytes(bytes: usize) -> Result<Effect, Error> {
    if !(1..=RANDOM_BYTES_MAX).contains(&bytes) {
        return Err(Error::Invalid { field: "bytes", rule: "must be 1 to 1,024" });
    }
    let mut out = Secret::new(vec![0; bytes]);
    random::fill("random", &mut out)?;
    Ok(Effect::of(Response::Random(out)))
}

/// The names of roles, for the log.
pub(super) fn role_names(roles: Roles) -> String {
    let names: Vec<&str> = roles.iter().map(Role::name).collect();
    if names.is_empty() { "no roles".to_owned() } else { names.join(", ") }
}

impl Open {
    /// An access key's secret, unwrapped; see [`parts`].
    pub(super) fn access_secret(&self, tenant: TenantId, key: &AccessKey) -> Result<SecretBytes, Error> {
        let tenant_key = self.tenant_key(tenant, key.tenant_key_version)?;
        let aad = access_key_binding(&key.id, key.principal);
        envelope::unwrap(&tenant_key, tenant.0, key.tenant_key_version, &aad, &key.wrapped_secret)
            .map_err(|_| Error::Damaged("access key"))
    }
}

/// What an access key's secret is bound to.
pub(super) fn access_key_binding(id: &str, owner: PrincipalId) -> Vec<u8> {
    [b"access-key".as_slice(), &owner.0, id.as_bytes()].concat()
}

/// An access key's session token, which is empty unless it is temporary, and its secret.
pub(super) fn parts<'a>(key: &AccessKey, whole: &'a SecretBytes) -> Result<(&'a [u8], &'a [u8]), Error> {
    let token = if key.end.is_some() { SESSION_TOKEN_BYTES } else { 0 };
    whole.expose().split_at_checked(token).ok_or(Error::Damaged("access key"))
}

/// A session token as it is sent.
pub(super) fn session_token(token: &[u8]) -> Vec<u8> {
    STANDARD.encode(token).into_bytes()
}

/// A new access key's id and secret; with its session token before that, if it is to be temporary.
fn new_access_key(temporary: bool) -> Result<(String, Secret), Error> {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut bytes = [0; 16];
    random::fill("access key id", &mut bytes)?;
    let tail = bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 31)]));
    let mut secret = zeroize::Zeroizing::new([0; 30]);
    random::fill("access key secret", secret.as_mut())?;
    let secret = Secret::new(STANDARD.encode(secret.as_ref()).into_bytes());
    let prefix = if temporary { "KHSA" } else { "KHIA" };
    let mut token = Secret::new(vec![0; if temporary { SESSION_TOKEN_BYTES } else { 0 }]);
    random::fill("session token", &mut token)?;
    Ok((prefix.chars().chain(tail).collect(), Secret::new([&token[..], &secret].concat())))
}

pub(super) fn checked_access_key_id(id: &str) -> Result<String, Error> {
    let good =
        (16..=128).contains(&id.len()) && id.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit());
    if good {
        Ok(id.to_owned())
    } else {
        Err(Error::Invalid { field: "id", rule: "must be 16 to 128 of A-Z 0-9" })
    }
}

fn checked_access_secret(secret: &Secret) -> Result<Secret, Error> {
    let good = (16..=128).contains(&secret.len()) && secret.iter().all(u8::is_ascii_graphic);
    if good {
        Ok(secret.clone())
    } else {
        Err(Error::Invalid { field: "secret", rule: "must be 16 to 128 visible ASCII characters" })
    }
}
