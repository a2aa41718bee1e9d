//! The funnel: the only way anything happens to a key.
//!
//! 1. load what the request needs (cache; the store on a miss)
//! 2. [`decide`] → refusal | [`Permit`]
//! 3. act: compute, or prepare what is to be written; both need the permit
//! 4. commit rows and log entry in one transaction of the store (group commit, flushed)   ← commit point
//! 5. only now publish to the caches and release the result
//!
//! A refusal is logged too. If 4 fails the caller gets an error, and nothing was released or cached.
//! A crash before 4 leaves nothing; after 4 it leaves the change and its entry without an answer, and a
//! creating request that is repeated with its idempotency key gets the first answer.
//!
//! If rows changed while a use of a key was being committed, the decision is made again before the
//! result is released: after a revoke has returned, no result of an older decision leaves. A change is
//! committed only if caller and tenant are still what they were when it was decided.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "each module of acts takes the requests of its scope, and the funnel sends it no others"
)]

mod authenticate;
mod clock;
mod clones;
mod govern;
mod grants;
mod key_policies;
mod keys;
mod ledger;
mod limits;
mod log;
mod machines;
mod names;
mod open;
mod operate;
mod policies;
mod question;
mod records;
mod repeat;
mod schedule;
mod secrets;
mod start;
mod transfer;
mod usage;
mod uses;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use keyhearth_core::Error;
use keyhearth_core::decide::{Basis, Facts, Permit, Refusal, decide};
use keyhearth_core::entry::{Entry, Result as Outcome};
use keyhearth_core::grant::Grant;
use keyhearth_core::id::{KeyId, RequestId, TenantId};
use keyhearth_core::key::Key;
use keyhearth_core::operation::{Group, Operation, Scope};
use keyhearth_core::principal::{AccessKey, Caller, Principal, Proof};
use keyhearth_core::request::{KeyRef, LastUse, REASON_BYTES_MAX, Request, Response};
use keyhearth_core::secret::KeptSecret;
use keyhearth_core::state::Class;
use keyhearth_core::store::{Commit, Store, Write};
use keyhearth_core::tenant::Tenant;
use keyhearth_core::time::Now;

pub use authenticate::{Authenticated, NoLogin, Signer};
pub use clock::{Clock, Reading};
pub use limits::{PRINCIPAL_PER_S, SECRETS_PER_TENANT, TENANT_PER_S};
pub use machines::{Booting, Denial};
pub use names::{Named, PublicHalves};
pub use operate::UnsealWith;
pub use start::{Initial, StartError, initialise};

use crate::policy::Compiled;
use ledger::Ledger;
use open::{Held, Open};
use question::Question;
use records::{Records, Stored};

/// What the entry of a dry run says.
const DRY_RUN: &str = "dry run";

/// How often a request that raced with another is tried again.
const ATTEMPTS_MAX: usize = 8;
/// When to try again what lost every one of these races, in milliseconds.
const CONTENDED_RETRY_AFTER_MS: u32 = 100;

/// What can be configured about the engine.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Requests per second of one principal.
    pub principal_per_s: u32,
    /// Requests per second of one tenant.
    pub tenant_per_s: u32,
    /// Secrets of one tenant; some more, if many are kept at the same moment.
    pub secrets_per_tenant: u32,
    /// Where the newest checkpoint is kept outside the store, to notice an old store put back.
    pub anchor: std::path::PathBuf,
    /// The log's name in checkpoints.
    pub origin: String,
    /// The role `developer` exists.
    pub development: bool,
    /// What precedes a key's id in its ARN, where the AWS KMS API is served.
    pub key_arn_prefix: Option<String>,
    /// Go on with rows and a log that are not those of the last commit. What was destroyed since they were
    /// good may live again; the log says for ever that they were accepted.
    pub danger_accept_found: bool,
}

/// The server's engine. Sealed at first; see [`Engine::unseal`].
pub struct Engine {
    store: Arc<dyn Store>,
    ledger: Ledger,
    clock: Clock,
    rates: limits::Rates,
    settings: Settings,
    open: ArcSwapOption<Open>,
    ceremonies: parking_lot::Mutex<operate::Ceremonies>,
    incarnation: AtomicU64,
    request_prefix: [u8; 4],
    requests: AtomicU64,
    failures: parking_lot::Mutex<authenticate::Failures>,
    /// When this process made the newest checkpoint, on the boot clock. One is made at a time.
    checkpointed: parking_lot::Mutex<Option<u64>>,
    /// Entries that were in the log when this process began.
    found_log_size: u64,
    /// One share or passphrase is tried at a time.
    unsealing: tokio::sync::Mutex<()>,
    /// The server is opened once at a time.
    opening: parking_lot::Mutex<()>,
    /// One rotation runs at a time: of the root, of a tenant's key, of the seals.
    rotating: tokio::sync::Mutex<()>,
    /// Keys there are, about.
    keys: AtomicU64,
}

/// What an act came to, before it is committed.
struct Effect {
    response: Response,
    writes: Vec<Write>,
    /// For the entry, where the request does not name it.
    key: Option<KeyId>,
    version: Option<u32>,
    detail: Option<String>,
}

/// A request that was allowed: its permits, and what they were decided from.
struct Decided {
    permit: Arc<Permit>,
    loaded: Loaded,
    beside: Option<Arc<Beside>>,
}

impl Decided {
    /// For the entry, what was used of the key beside.
    fn from(&self) -> Option<String> {
        let permit = &self.beside.as_ref()?.permit;
        (permit.operation() != Operation::Hold).then(|| from(permit.key(), permit.version()))?
    }

    /// For the entry, what decided.
    fn by(&self) -> Vec<String> {
        let holds = self.beside.as_ref().map(|beside| &beside.permit);
        let holds = holds.filter(|permit| permit.operation() == Operation::Hold);
        let mut by = basis(self.permit.basis());
        by.extend(holds.into_iter().flat_map(|permit| basis(permit.basis())));
        by
    }
}

/// A key that a request uses beside the one it names, by a permit of its own: what a rewrap opens, what an alias
/// is taken from.
struct Beside {
    permit: Permit,
    held: Arc<Held>,
}

impl Effect {
    fn of(response: Response) -> Self {
        Self { response, writes: Vec::new(), key: None, version: None, detail: None }
    }

    fn writing(response: Response, writes: Vec<Write>) -> Self {
        Self { writes, ..Self::of(response) }
    }

    fn detail(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    /// What is left of it if the request is a dry run: nothing, but that a signature does not hold.
    fn of_run(self, dry_run: bool) -> Self {
        match self.response {
            _ if !dry_run => self,
            Response::Verified { valid: false, .. } => self,
            _ => Self { response: Response::WouldSucceed, writes: Vec::new(), detail: None, ..self },
        }
    }
}

/// A request that was refused or failed, with what its entry says.
struct Failure {
    error: Error,
    outcome: Outcome,
    key: Option<KeyId>,
    version: Option<u32>,
    by: Vec<String>,
    detail: Option<String>,
}

impl Failure {
    fn refused(refusal: Refusal, key: Option<KeyId>) -> Self {
        Self {
            outcome: Outcome::Refused,
            key,
            by: basis(&Basis::Policies(refusal.policies)),
            ..Self::failed(refusal.error)
        }
    }

    fn failed(error: Error) -> Self {
        Self { error, outcome: Outcome::Failed, key: None, version: None, by: Vec::new(), detail: None }
    }
}

/// A key as it was when it was last loaded.
pub struct Peeked(Arc<Held>);

impl std::ops::Deref for Peeked {
    type Target = Key;

    fn deref(&self) -> &Key {
        &self.0.key.value
    }
}

/// What was loaded for a decision.
struct Loaded {
    tenant: Arc<Stored<Tenant>>,
    principal: Arc<Stored<Principal>>,
    /// What the caller proved itself with, if that is an access key.
    access_key: Option<Arc<Stored<AccessKey>>>,
    policies: Arc<Compiled>,
    held: Option<Arc<Held>>,
    /// The secret that the request is about, if there is one under this key.
    secret: Option<Arc<Stored<KeptSecret>>>,
    reason_given: bool,
    now: Now,
    epoch: u64,
}

impl Engine {
    /// Takes one request from the rates of `caller` and its tenant, which [`Engine::execute`] does by itself. For
    /// those that are refused before.
    ///
    /// # Errors
    /// [`Error::TooMany`].
    pub fn charge(&self, caller: &Caller) -> Result<(), Error> {
        self.rates.take(caller, Reading::take().boot * 1_000)
    }

    /// Carries out one request of `caller`.
    ///
    /// # Errors
    /// Whatever [`Error`] says; then nothing has changed, except that the refusal is logged.
    pub async fn execute(
        self: &Arc<Self>,
        caller: &Arc<Caller>,
        request: Arc<Request>,
    ) -> Result<Response, Error> {
        let open = self.open.load_full().ok_or(Error::Sealed)?;
        self.charge(caller)?;
        if request.reason.as_ref().is_some_and(|reason| reason.len() > REASON_BYTES_MAX) {
            return Err(Error::TooLarge { field: "reason", limit: REASON_BYTES_MAX });
        }
        if request.dry_run && request.ask.key().is_none() {
            return Err(Error::Unsupported("a dry run of what is not about a key"));
        }
        for _ in 0..ATTEMPTS_MAX {
            if let Some(result) = self.attempt(&open, caller, &request).await {
                return result;
            }
        }
        // Others keep changing the same thing.
        let failure = Failure::failed(Error::Unavailable { retry_after_ms: CONTENDED_RETRY_AFTER_MS });
        self.log_failure(&open, caller, &request, failure).await
    }

    /// One passage through the funnel; `None` if it raced with another change and must start again.
    async fn attempt(
        self: &Arc<Self>,
        open: &Arc<Open>,
        caller: &Arc<Caller>,
        request: &Arc<Request>,
    ) -> Option<Result<Response, Error>> {
        let operation = request.ask.operation();
        let (decided, effect) = match self.decide_and_act(open, caller, request).await {
            Ok(done) => done,
            // A rotation of the tenant key went by between two reads of this request.
            Err(failure) if failure.error == open::TENANT_KEY_GONE => return None,
            Err(failure) => return Some(self.log_failure(open, caller, request, failure).await),
        };
        let Decided { permit, loaded, .. } = &decided;
        let Effect { response, mut writes, key, version, detail } = effect.of_run(request.dry_run);
        let mut entry = self.entry(open, caller, request, loaded.now);
        entry.key = key.or(permit.key());
        entry.version = version.or(permit.version());
        entry.by = decided.by();
        entry.detail = joined([entry.detail, detail, decided.from()]);
        let on_platform = operation.info().scope == Scope::Platform;
        if on_platform || !writes.is_empty() {
            // Nothing changes for a caller, an access key or a tenant that ended meanwhile, nor by what a key's
            // record no longer says. What writes such a row itself, is a check of it already.
            let same = [Records::keep(&loaded.principal), Records::keep(&loaded.tenant)].into_iter();
            let same = same.chain(loaded.access_key.as_deref().map(Records::keep));
            let same = same.chain(loaded.held.as_ref().map(|held| Records::keep(&held.key)));
            let same = same.filter(|check| writes.iter().all(|write| write.key != check.key));
            writes.extend(same.collect::<Vec<_>>());
        }
        let last = LastUse { operation, time: entry.time, request: entry.request };
        let commit = Commit { writes, entry: entry.to_bytes() };
        // Commit point. Before it nothing is visible to anybody; after it the change and its entry are durable.
        let committed = if on_platform {
            // In a task of its own: what follows the commit is done although the client goes away.
            let (engine, open, request) = (Arc::clone(self), Arc::clone(open), Arc::clone(request));
            let task = tokio::spawn(async move {
                engine.ledger.commit(commit).await?;
                let instead = engine.after_commit(&open, &request.ask).await;
                Ok(instead.map(|instead| instead.unwrap_or(response)))
            });
            task.await.unwrap_or(Err(Error::Internal("a worker failed")))
        } else {
            self.ledger.commit(commit).await.map(|_| Ok(response))
        };
        let result = match committed {
            Ok(result) => result,
            Err(Error::Conflict(_)) => return None,
            Err(error @ Error::TooLarge { .. }) => {
                let Entry { key, version, by, .. } = entry;
                let failure = Failure { key, version, by, detail: decided.from(), ..Failure::failed(error) };
                return Some(self.log_failure(open, caller, request, failure).await);
            }
            Err(error) => return Some(Err(error)),
        };
        let uses_key = operation.class() != Class::Metadata;
        if let (true, false, Some(key), Ok(response)) = (uses_key, request.dry_run, permit.key(), &result) {
            open.uses.note(key, response, last);
        }
        if uses_key
            && open.epoch() != loaded.epoch
            && let Err(error) = self.still_allowed(open, caller, request, &decided).await
        {
            return Some(Err(error));
        }
        if !on_platform && !self.open.load().as_ref().is_some_and(|now| Arc::ptr_eq(now, open)) {
            return Some(Err(Error::Sealed));
        }
        Some(result)
    }

    /// Steps 1 to 3.
    async fn decide_and_act(
        self: &Arc<Self>,
        open: &Arc<Open>,
        caller: &Arc<Caller>,
        request: &Arc<Request>,
    ) -> Result<(Decided, Effect), Failure> {
        let decided = self.decide(open, caller, request).await?;
        match self.act(open, caller, request, &decided).await {
            Ok(effect) => Ok((decided, effect)),
            Err(error) => Err(Failure {
                key: decided.permit.key(),
                version: decided.permit.version(),
                by: decided.by(),
                detail: decided.from(),
                ..Failure::failed(error)
            }),
        }
    }

    /// Steps 1 and 2, for each key of the request.
    async fn decide(
        self: &Arc<Self>,
        open: &Arc<Open>,
        caller: &Arc<Caller>,
        request: &Arc<Request>,
    ) -> Result<Decided, Failure> {
        let (permit, loaded) = self.permitted(open, caller, request, Question::of(&request.ask)).await?;
        let about = |failure| Failure { key: permit.key(), version: permit.version(), ..failure };
        if let Err(error) = demanded(request, &loaded) {
            return Err(Failure { by: basis(permit.basis()), ..about(Failure::failed(error)) });
        }
        let mut beside = None;
        if let Some(question) = Question::beside(&request.ask, &permit) {
            let (operation, version) = (question.operation, question.version);
            match self.permitted(open, caller, request, question).await {
                Ok((permit, loaded)) => beside = loaded.held.map(|held| Arc::new(Beside { permit, held })),
                Err(refused) => {
                    let detail = match operation {
                        Operation::Hold => Some(operation.name().to_owned()),
                        _ => from(refused.key, version),
                    };
                    return Err(Failure { detail, ..about(refused) });
                }
            }
        }
        Ok(Decided { permit: Arc::new(permit), loaded, beside })
    }

    /// Steps 1 and 2, for one key.
    async fn permitted(
        self: &Arc<Self>,
        open: &Arc<Open>,
        caller: &Arc<Caller>,
        request: &Arc<Request>,
        question: Question<'_>,
    ) -> Result<(Permit, Loaded), Failure> {
        let refused = |error: Error| Failure::refused(error.into(), None);
        let loaded = self.load(open, caller, request, &question).await.map_err(refused)?;
        let key = loaded.held.as_ref().map(|held| held.key.value.id);
        let permit = match Self::decide_about(caller, &question, &loaded) {
            Ok(permit) => permit,
            Err(refusal) => return Err(Failure::refused(refusal, key)),
        };
        if let Some(held) = &loaded.held {
            let names = question.context.iter().map(|(name, _)| name);
            let told_apart = held.key.value.check_told_apart("context", names);
            told_apart.map_err(|error| Failure { key, ..Failure::failed(error) })?;
        }
        Ok((permit, loaded))
    }

    /// Step 1: the tenant, the caller, the key, which version is meant, and the policies.
    async fn load(
        self: &Arc<Self>,
        open: &Arc<Open>,
        caller: &Arc<Caller>,
        request: &Arc<Request>,
        question: &Question<'_>,
    ) -> Result<Loaded, Error> {
        let reading = Reading::take();
        let now = self.clock.at(reading);
        let epoch = open.epoch();
        let tenant = open.tenant(caller.tenant)?;
        // The caller was authenticated before this epoch was read: it must still be who it was.
        let principal = open.principal(caller.tenant, caller.principal)?;
        let (access_key, is_proved) = match &caller.proof {
            Proof::Certificate(hash) => (None, principal.value.certificates.contains(hash)),
            Proof::AccessKey(id) => {
                let key = open.access_key(caller.tenant, id)?;
                let is_good = key.value.disabled.is_none();
                (Some(key), is_good)
            }
            Proof::Evidence | Proof::Anonymous | Proof::Local => (None, true),
        };
        if principal.value.revoked.is_some() || principal.value.roles != caller.roles || !is_proved {
            return Err(Error::Denied);
        }
        let mut secret = None;
        if let Some(name) = question.secret {
            let (open, row) = (Arc::clone(open), name.row(caller.tenant));
            secret = blocking(move || open.records.read::<KeptSecret>(&row)).await?.map(Arc::new);
        }
        let id = match (question.key.as_deref(), question.secret) {
            (Some(key), _) => Some(open.resolve(caller.tenant, key)?),
            (None, Some(_)) => Some(secret.as_ref().ok_or(Error::NotFound("secret"))?.value.key),
            (None, None) => None,
        };
        let held = match id {
            None => None,
            Some(id) => match open.held(caller.tenant, id, reading.boot) {
                Some(held) => Some(held),
                None => {
                    let open = Arc::clone(open);
                    let tenant = caller.tenant;
                    Some(blocking(move || open.hold(tenant, id, reading.boot)).await?)
                }
            },
        };
        let policies = open.load_policies(caller.tenant).await?;
        Ok(Loaded {
            tenant,
            principal,
            access_key,
            policies,
            held,
            secret,
            reason_given: gives_reason(request),
            now,
            epoch,
        })
    }

    /// Step 2.
    fn decide_about(caller: &Caller, question: &Question<'_>, loaded: &Loaded) -> Result<Permit, Refusal> {
        let held = loaded.held.as_deref();
        let own_grants: Vec<Grant> = held.map_or_else(Vec::new, |held| {
            let named = |grant: &&Stored<Grant>| {
                [Some(grant.value.grantee), grant.value.retiree].contains(&Some(caller.principal))
            };
            let live = held.grants.iter().filter(named);
            live.filter(|grant| grants::chain_is_live(&held.grants, &grant.value, loaded.now))
                .map(|grant| grant.value.clone())
                .collect()
        });
        // What reads a secret uses the version that encrypted it; one under another key is none.
        let key = held.map(|held| held.key.value.id);
        let kept = loaded
            .secret
            .as_ref()
            .filter(|secret| question.operation == Operation::ReadSecret && Some(secret.value.key) == key);
        let facts = Facts {
            tenant: &loaded.tenant.value,
            key: held.map(|held| &held.key.value),
            version: question.version.or(kept.map(|secret| secret.value.version)),
            grants: &own_grants,
            context: &question.context,
            boot: question.boot,
            lease_seconds: question.lease_seconds,
            reason_given: loaded.reason_given,
            now: loaded.now,
        };
        decide(caller, question.operation, &facts, loaded.policies.as_ref())
    }

    /// Step 3: on this thread if it is quick, elsewhere if it reads the store or computes for long.
    async fn act(
        self: &Arc<Self>,
        open: &Arc<Open>,
        caller: &Arc<Caller>,
        request: &Arc<Request>,
        Decided { permit, loaded, beside }: &Decided,
    ) -> Result<Effect, Error> {
        if let (Some(held), Some(version)) = (&loaded.held, permit.version()) {
            let uses_material = matches!(permit.operation().class(), Class::Protect | Class::Process);
            if uses_material && usage::is_quick(&request.ask, held, version) {
                return usage::act(open, permit, request, held);
            }
        }
        let (permit, held, beside) = (Arc::clone(permit), loaded.held.clone(), beside.clone());
        let acting = Acting { permit, held, beside, secret: loaded.secret.clone(), now: loaded.now };
        if keys::is_quick(request) {
            return self.act_blocking(open, caller, request, &acting);
        }
        let (engine, open, caller, request) =
            (Arc::clone(self), Arc::clone(open), Arc::clone(caller), Arc::clone(request));
        blocking(move || engine.act_blocking(&open, &caller, &request, &acting)).await
    }

    /// The decision again, on what is so now.
    async fn still_allowed(
        self: &Arc<Self>,
        open: &Arc<Open>,
        caller: &Arc<Caller>,
        request: &Arc<Request>,
        decided: &Decided,
    ) -> Result<(), Error> {
        let ask = &request.ask;
        let beside = decided
            .beside
            .as_ref()
            .and_then(|beside| Some((Question::beside(ask, &decided.permit)?, &beside.permit)));
        for (question, permit) in [(Question::of(ask), &*decided.permit)].into_iter().chain(beside) {
            let mut question = question.again(permit);
            // What protects is the primary version. If another has become it, what the older one protected is
            // good as long as the caller may still protect with the key.
            if permit.operation().class() != Class::Protect {
                question.version = permit.version();
            }
            let (_permit, _) =
                self.permitted(open, caller, request, question).await.map_err(|failure| failure.error)?;
        }
        Ok(())
    }

    async fn log_failure(
        &self,
        open: &Open,
        caller: &Caller,
        request: &Request,
        failure: Failure,
    ) -> Result<Response, Error> {
        let mut entry = self.entry(open, caller, request, self.clock.now());
        entry.result = failure.outcome;
        entry.error = Some(failure.error.code().to_owned());
        entry.key = failure.key;
        entry.version = failure.version;
        entry.by = failure.by;
        entry.detail = joined([entry.detail, failure.detail]);
        self.ledger.commit(Commit { writes: Vec::new(), entry: entry.to_bytes() }).await?;
        Err(failure.error)
    }

    /// The entry of a request, as if it had been done; the caller of this fills in what came of it.
    fn entry(&self, open: &Open, caller: &Caller, request: &Request, now: Now) -> Entry {
        let pairs = request.ask.context();
        let context = (!pairs.is_empty()).then(|| {
            let mut framed = Vec::new();
            for text in pairs.iter().flat_map(|(name, value)| [name, value]) {
                framed.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
                framed.extend_from_slice(text.as_bytes());
            }
            let mac = open.audit.sign(&[b"context", &caller.tenant.0, &framed]);
            mac[..16].try_into().expect("16 of 32 bytes")
        });
        let (certificate, access_key) = match &caller.proof {
            Proof::Certificate(hash) => (Some(hash.0[..8].try_into().expect("8 of 32 bytes")), None),
            Proof::AccessKey(id) => (None, Some(id.clone())),
            Proof::Evidence | Proof::Anonymous | Proof::Local => (None, None),
        };
        let address = match caller.address {
            std::net::IpAddr::V4(address) => address.octets().to_vec(),
            std::net::IpAddr::V6(address) => address.octets().to_vec(),
        };
        Entry {
            time: now.latest,
            incarnation: self.incarnation.load(Ordering::Relaxed),
            request: request.id,
            tenant: caller.tenant,
            actor: Some(caller.principal),
            actor_name: Some(caller.name.clone()),
            certificate,
            address: Some(address),
            operation: request.ask.operation().info().code,
            key: None,
            version: None,
            result: Outcome::Done,
            error: None,
            by: Vec::new(),
            context,
            reason: request.reason.clone(),
            access_key,
            detail: joined([
                request.dry_run.then(|| DRY_RUN.to_owned()),
                request.ask.secret().map(ToString::to_string).or_else(|| question::held_file(&request.ask)),
            ]),
            lease_seconds: Some(request.ask.lease_seconds())
                .filter(|seconds| *seconds > 0 && !request.dry_run),
        }
    }

    /// An id for a new request: unique, not secret.
    pub fn request_id(&self) -> RequestId {
        let count = self.requests.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let mut random = [0; 10];
        random[..4].copy_from_slice(&self.request_prefix);
        random[4..].copy_from_slice(&count[2..]);
        RequestId::new(keyhearth_core::time::Time::from_unix_ms(Reading::take().wall), random)
    }

    /// The present.
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// A key as it is known without looking, for the wording of a refusal: never to decide by.
    ///
    /// After a request about a key was refused because of the key, it is there but for rare races.
    #[must_use]
    pub fn peek(&self, tenant: TenantId, key: &KeyRef) -> Option<Peeked> {
        self.open.load().as_ref()?.peek(tenant, key).map(Peeked)
    }

    /// Whether the server is sealed.
    pub fn is_sealed(&self) -> bool {
        self.open.load().is_none()
    }

    fn act_blocking(
        self: &Arc<Self>,
        open: &Arc<Open>,
        caller: &Caller,
        request: &Request,
        acting: &Acting,
    ) -> Result<Effect, Error> {
        let turn = Turn {
            engine: self,
            open,
            caller,
            request,
            now: acting.now,
            permit: &acting.permit,
            held: acting.held.as_deref(),
            beside: acting.beside.as_deref(),
            secret: acting.secret.as_deref(),
        };
        if let Some(remembered) = turn.remembered()? {
            return Ok(remembered);
        }
        let operation = acting.permit.operation();
        if operation == Operation::Rewrap {
            return turn.rewrap();
        }
        if request.ask.secret().is_some() {
            return turn.on_secret();
        }
        if matches!(operation.info().group, Group::Boot | Group::Release) {
            return turn.on_machine();
        }
        let key = |turn: &Turn<'_>| turn.held.is_some();
        if matches!(operation.class(), Class::Protect | Class::Process) && key(&turn) {
            let held = turn.held.ok_or(Error::NotFound("key"))?;
            return usage::act(open, &acting.permit, request, held);
        }
        match operation.info().scope {
            Scope::Key => turn.on_key(),
            Scope::Tenant => turn.on_tenant(),
            Scope::Platform => turn.on_platform(),
        }
    }
}

/// What goes with a request to another thread.
struct Acting {
    permit: Arc<Permit>,
    held: Option<Arc<Held>>,
    beside: Option<Arc<Beside>>,
    secret: Option<Arc<Stored<KeptSecret>>>,
    now: Now,
}

/// One request on its way through its act.
struct Turn<'a> {
    engine: &'a Arc<Engine>,
    open: &'a Arc<Open>,
    caller: &'a Caller,
    request: &'a Request,
    now: Now,
    permit: &'a Permit,
    held: Option<&'a Held>,
    beside: Option<&'a Beside>,
    secret: Option<&'a Stored<KeptSecret>>,
}

impl Turn<'_> {
    fn tenant(&self) -> TenantId {
        self.permit.tenant()
    }

    fn held(&self) -> Result<&Held, Error> {
        self.held.ok_or(Error::NotFound("key"))
    }

    fn beside(&self) -> Result<&Beside, Error> {
        self.beside.ok_or(Error::NotFound("key"))
    }

    fn rewrap(&self) -> Result<Effect, Error> {
        let Beside { permit, held } = self.beside()?;
        usage::rewrap(self.open, self.permit, self.request, self.held()?, (permit, held))
    }
}

/// Looks at what the protocol demands of the key.
fn demanded(request: &Request, loaded: &Loaded) -> Result<(), Error> {
    match (&request.demand, &loaded.held) {
        (Some(demand), Some(held)) => demand(&held.key.value, loaded.now),
        (Some(_) | None, _) => Ok(()),
    }
}

/// What an entry says of the key beside.
fn from(key: Option<KeyId>, version: Option<u32>) -> Option<String> {
    let version = version.map(|number| format!(" version {number}")).unwrap_or_default();
    key.map(|id| format!("from {id}{version}"))
}

fn joined(parts: impl IntoIterator<Item = Option<String>>) -> Option<String> {
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

fn gives_reason(request: &Request) -> bool {
    request.reason.as_ref().is_some_and(|reason| !reason.is_empty())
}

/// Names of policies in an entry; more of them would only make it long.
const POLICIES_LOGGED_MAX: usize = 16;

fn basis(basis: &Basis) -> Vec<String> {
    match basis {
        Basis::Policies(names) => names.iter().take(POLICIES_LOGGED_MAX).cloned().collect(),
        Basis::Grant(id) => vec![format!("grant:{id}")],
        Basis::Server => vec!["server".to_owned()],
    }
}

/// Runs what blocks away from the threads that serve connections.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Internal("a worker failed"))?
}
