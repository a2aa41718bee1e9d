//! The beginning of a deployment, of a process, and of the time the server is unsealed.
//!
//! When it is unsealed every row is read and its MAC checked, and the sum of all rows is compared with
//! what the last change left. A row that fails is not used, and an alarm says so; the others serve. If
//! rows are missing, older, or more than they should be, or if log and rows do not continue what the anchor
//! states, the server stays sealed: an older database was put back, or somebody wrote into this one.
//! What was changed after the newest checkpoint, at most about a second before a crash, is not covered by it.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use keyhearth_core::Error;
use keyhearth_core::entry::{Entry, Result as Outcome};
use keyhearth_core::id::{DeploymentId, Name, PrincipalId, TenantId};
use keyhearth_core::key::Key;
use keyhearth_core::operation::Operation;
use keyhearth_core::principal::{Principal, Role, Roles};
use keyhearth_core::request::PAGE_MAX;
use keyhearth_core::row::{Presence, RowAuth, RowKey, StateDigest, Table};
use keyhearth_core::store::{Commit, Store};
use keyhearth_core::tenant::Tenant;
use keyhearth_core::time::Time;
use keyhearth_crypto::random;
use parking_lot::Mutex;

use super::authenticate::Owner;
use super::keys::id_bytes;
use super::ledger::{Book, Ledger};
use super::log::stated_size;
use super::open::Open;
use super::operate::seal_revision_row;
use super::records::Records;
use super::{Clock, Engine, Reading, Settings, limits};
use crate::identity::{Ca, Subject};
use crate::seal::{self, SealChoice, SealRecord, Shares, Unsealed};

/// Name of the store's document that holds the CA's certificate (PEM, public).
pub const CA_DOCUMENT: &str = "ca";

/// Days the first identity's certificate is good for.
const FIRST_CERTIFICATE_DAYS: u32 = 90;

/// Why a deployment could not be made.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is one already.
    #[error("this data directory holds a deployment; name an empty one")]
    Exists,
    /// One was begun and never finished.
    #[error(
        "a deployment was begun in this data directory and not finished, and nobody can have used it: \
         remove the directory and begin again"
    )]
    Unfinished,
    /// It failed.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// What a new deployment begins with.
pub struct Initial {
    /// The seal's shares, to be given to the custodians. They exist nowhere else.
    pub shares: Shares,
    /// The CA's certificate.
    pub ca: String,
    /// The first platform operator's certificate.
    pub certificate: String,
    /// The engine, unsealed.
    pub engine: Arc<Engine>,
}

/// Makes a deployment in an empty store: seal, CA, platform tenant, and its first operator, whose
/// certificate request is `request`.
///
/// # Errors
/// [`StartError`].
pub async fn initialise(
    store: Arc<dyn Store>,
    settings: Settings,
    choice: &SealChoice<'_>,
    operator: &Name,
    request: &str,
) -> Result<Initial, StartError> {
    if store.document(seal::DOCUMENT).map_err(Error::from)?.is_some() {
        return Err(StartError::Exists);
    }
    if store.head().map_err(Error::from)?.log_size > 0 {
        return Err(StartError::Unfinished);
    }
    let mut id = [0; 16];
    random::fill("deployment", &mut id).map_err(Error::from)?;
    let created = seal::create(DeploymentId(id), choice)?;
    let now = Time::from_unix_ms(Reading::take().wall);
    let ca = Ca::create(&created.unsealed.secrets().ca, DeploymentId(id), now)?;
    store.put_document(CA_DOCUMENT, ca.certificate_pem().as_bytes()).map_err(Error::from)?;

    let principal = PrincipalId::new(now, id_bytes()?);
    let subject = Subject { tenant: TenantId::PLATFORM, principal, name: operator };
    let issued = ca.sign_client(request, subject, FIRST_CERTIFICATE_DAYS, now)?;
    let auth = RowAuth::new(created.unsealed.secrets().row.expose());
    let book = Arc::new(Book::new(auth, Presence::default(), StateDigest::default(), 0));
    let records = Records::new(Arc::clone(&store), Arc::clone(&book));
    let platform = Tenant {
        id: TenantId::PLATFORM,
        name: "platform".parse()?,
        created: now,
        disabled: None,
        tenant_key: 0,
    };
    let first = Principal {
        id: principal,
        tenant: TenantId::PLATFORM,
        name: operator.clone(),
        roles: Roles::new([Role::PlatformOperator], TenantId::PLATFORM)?,
        created: now,
        revoked: None,
        certificates: vec![issued.fingerprint],
    };
    let row = |table, id: &[u8]| RowKey::new(table, TenantId::PLATFORM, id);
    let writes = vec![
        records.create(row(Table::Tenant, &TenantId::PLATFORM.0), &platform),
        records.create(row(Table::TenantName, b"platform"), &TenantId::PLATFORM),
        records.create(row(Table::Principal, &principal.0), &first),
        records.create(row(Table::PrincipalName, operator.as_str().as_bytes()), &principal),
        records.create(
            row(Table::Certificate, &issued.fingerprint.0),
            &Owner { tenant: TenantId::PLATFORM, principal },
        ),
        records.create(seal_revision_row(), &created.record.revision()),
    ];
    let engine = Engine::new(Arc::clone(&store), settings)?;
    engine.ledger.open(book);
    let entry =
        Entry { detail: Some(DeploymentId(id).to_string()), ..engine.own_entry(Operation::Initialise) };
    engine.ledger.commit(Commit { writes, entry: entry.to_bytes() }).await?;
    engine.ledger.close();
    // From here on there is always a checkpoint and an anchor: a start without one is refused.
    engine.state_log(&created.unsealed.secrets().checkpoint_key()?)?;
    // The seal record comes last: without it there is no deployment, and the next attempt says so.
    store.put_document(seal::DOCUMENT, &created.record.to_bytes()).map_err(Error::from)?;
    let (opening, record) = (Arc::clone(&engine), created.record.clone());
    super::blocking(move || opening.open_with(created.unsealed, &record)).await?;
    Ok(Initial {
        shares: created.shares,
        ca: ca.certificate_pem().to_owned(),
        certificate: issued.pem,
        engine,
    })
}

impl Engine {
    /// An engine over a store, sealed.
    ///
    /// # Errors
    /// [`Error`] if the store cannot be read.
    pub fn new(store: Arc<dyn Store>, settings: Settings) -> Result<Arc<Self>, Error> {
        let size = store.head()?.log_size;
        let newest_of = |size: u64| match size.checked_sub(1) {
            Some(last) => store.entries(last, 1)?.pop().map(|bytes| Entry::from_bytes(&bytes)).transpose(),
            None => Ok(None),
        };
        let newest = newest_of(size)?;
        // The clock believes only an entry that a checkpoint covers. Whether that is genuine is seen when the
        // server is opened, see [`Engine::continues`].
        let covered = store.checkpoint()?.map_or(Ok(0), |note| stated_size(&note))?.min(size);
        let believed = newest_of(covered)?.map(|entry| entry.time);
        let mut request_prefix = [0; 4];
        random::fill("request ids", &mut request_prefix)?;
        let ledger = Ledger::start(Arc::clone(&store))?;
        Ok(Arc::new(Self {
            ledger,
            clock: Clock::start(Reading::take(), believed),
            rates: limits::Rates::new(settings.principal_per_s, settings.tenant_per_s),
            settings,
            open: arc_swap::ArcSwapOption::empty(),
            ceremonies: Mutex::default(),
            incarnation: AtomicU64::new(newest.map_or(1, |entry| entry.incarnation.saturating_add(1))),
            request_prefix,
            requests: AtomicU64::new(0),
            failures: Mutex::default(),
            checkpointed: Mutex::default(),
            found_log_size: size,
            unsealing: tokio::sync::Mutex::default(),
            opening: Mutex::default(),
            rotating: tokio::sync::Mutex::default(),
            keys: AtomicU64::new(0),
            store,
        }))
    }

    /// Checks everything that is stored and opens the server, or leaves it sealed. Reads every row.
    ///
    /// # Errors
    /// [`Error::Damaged`] says what does not fit; the log of the process says more.
    pub(super) fn open_with(self: &Arc<Self>, unsealed: Unsealed, record: &SealRecord) -> Result<(), Error> {
        let _one = self.opening.lock();
        if !self.is_sealed() {
            return Err(Error::Conflict("the server is not sealed"));
        }
        let auth = RowAuth::new(unsealed.secrets().row.expose());
        let found = Found::read(self.store.as_ref(), &auth)?;
        let head = self.store.head()?;
        let mut accepted = Vec::new();
        let digest = match found.digest(&auth, &head) {
            Some(digest) => digest,
            None => {
                tracing::error!(
                    "the rows are not those of the last commit: some are missing, older or foreign"
                );
                self.accept("database: its rows are not those of the last commit", &mut accepted)?;
                found.stored.clone()
            }
        };
        let damaged = found.damaged.len();
        self.keys.store(found.keys, Ordering::Relaxed);
        let book = Arc::new(Book::new(auth, found.presence, digest, head.epoch));
        let records = Records::new(Arc::clone(&self.store), Arc::clone(&book));
        let certificate = self.store.document(CA_DOCUMENT)?.ok_or(Error::Damaged("CA certificate"))?;
        let certificate = String::from_utf8(certificate).map_err(|_| Error::Damaged("CA certificate"))?;
        let ca = Ca::open(&unsealed.secrets().ca, unsealed.deployment(), &certificate)?;
        let open = Arc::new(Open::new(records, Arc::clone(&book), unsealed, ca, self.now().latest));
        if record.revision() < open.seal_revision()?.value {
            return Err(Error::Damaged("seal record: an older one was put back"));
        }
        let covered = match self.check_anchor(&open) {
            Err(Error::Damaged(what)) => {
                self.accept(what, &mut accepted)?;
                self.found_log_size
            }
            checked => checked?,
        };
        let caches = Arc::downgrade(&open);
        book.on_change(move |write| {
            if let Some(open) = caches.upgrade() {
                open.follow(write);
            }
        });
        self.ledger.open(book);
        self.open.store(Some(Arc::clone(&open)));
        self.after_opening(&open, Findings { damaged, covered, accepted });
        Ok(())
    }

    /// Refuses what was found, unless the operator said to go on with it.
    fn accept(&self, what: &'static str, accepted: &mut Vec<&'static str>) -> Result<(), Error> {
        if !self.settings.danger_accept_found {
            return Err(Error::Damaged(what));
        }
        accepted.push(what);
        Ok(())
    }

    /// Log and rows must continue what the anchor and the stored checkpoint state. Returns how many entries
    /// these cover.
    fn check_anchor(&self, open: &Open) -> Result<u64, Error> {
        let anchor = std::fs::read_to_string(&self.settings.anchor).map_err(|error| {
            tracing::error!(path = %self.settings.anchor.display(), %error, "the anchor cannot be read");
            Error::Damaged("anchor: the file is not there or cannot be read")
        })?;
        let covered = self.continues(open, &anchor)?;
        let stored = self.store.checkpoint()?.map_or(Ok(0), |note| self.continues(open, &note))?;
        Ok(covered.max(stored))
    }

    /// What is done in the background once the server is open: alarms for what was found, the dates of all
    /// keys, and what a crash left of rotations.
    fn after_opening(self: &Arc<Self>, open: &Arc<Open>, findings: Findings) {
        let (engine, open) = (Arc::clone(self), Arc::clone(open));
        let Findings { damaged, covered, accepted } = findings;
        tokio::runtime::Handle::current().spawn(async move {
            if let Err(error) = engine.log_accepted(&open, &accepted).await {
                engine.alarm(&format!("what was accepted could not be logged: {error}")).await;
            }
            if damaged > 0 {
                engine
                    .alarm(&format!("{damaged} stored rows fail their integrity check and are not used"))
                    .await;
            }
            if covered < engine.found_log_size {
                let last = engine.found_log_size - 1;
                let what = format!(
                    "no checkpoint covered the entries {covered} to {last} when the server started; that is so \
                     after a crash or a stop while sealed, else somebody wrote them"
                );
                engine.alarm(&what).await;
            }
            if !engine.clock.steady() {
                engine.alarm("the clock is behind the newest log entry; dates wait").await;
            }
            if let Err(error) = engine.resume(&open).await {
                engine.alarm(&format!("what a crash left could not be resumed: {error}")).await;
            }
        });
    }

    async fn resume(self: &Arc<Self>, open: &Arc<Open>) -> Result<(), Error> {
        let of = Arc::clone(open);
        let tenants = super::blocking(move || {
            let tenants = of.all_tenants()?;
            tenants.iter().try_for_each(|tenant| collect_dates(&of, tenant.value.id))?;
            Ok(tenants)
        })
        .await?;
        if let Err(error) = self.resume_root(open).await {
            self.alarm(&format!("the rotation of the root could not be resumed: {error}")).await;
        }
        for id in tenants.iter().map(|tenant| tenant.value.id) {
            let of = Arc::clone(open);
            if super::blocking(move || of.is_tenant_key_rotating(id)).await?
                && let Err(error) = self.sweep_tenant(open, id).await
            {
                self.alarm(&format!("the rotation of {id}'s key could not be resumed: {error}")).await;
            }
        }
        Ok(())
    }

    /// Logs for ever what an operator accepted as it was found, with a row, so that the sum of all rows is
    /// sealed anew.
    async fn log_accepted(&self, open: &Open, accepted: &[&'static str]) -> Result<(), Error> {
        if accepted.is_empty() {
            return Ok(());
        }
        let row = RowKey::new(Table::System, TenantId::PLATFORM, b"accepted");
        let write = match open.records.read::<u64>(&row)? {
            Some(old) => open.records.replace(&old, &(old.value + 1)),
            None => open.records.create(row, &1_u64),
        };
        self.commit_own(Operation::LogAccepted, vec![write], accepted.join("; ")).await
    }

    /// Makes a certificate for the server itself: private key and certificate, PEM.
    ///
    /// # Errors
    /// [`Error::Sealed`]; else as [`Ca::issue_server`].
    pub fn issue_server_certificate(
        &self,
        names: &[&str],
        days: u32,
    ) -> Result<(zeroize::Zeroizing<String>, String), Error> {
        let open = self.open.load_full().ok_or(Error::Sealed)?;
        let (key, issued) = open.ca.issue_server(names, days, self.now().latest)?;
        Ok((key, issued.pem))
    }

    /// What verifies the log's checkpoints, as text.
    ///
    /// # Errors
    /// [`Error::Sealed`].
    pub fn log_key(&self) -> Result<String, Error> {
        let open = self.open.load_full().ok_or(Error::Sealed)?;
        Ok(self.verifier_key(&open)?.to_string())
    }

    /// Logs that the server started.
    pub async fn log_start(&self) {
        self.log_own(Operation::Start).await;
    }

    /// Logs that the server stopped, and states the log as it ends: what is put back later must continue this.
    pub async fn log_stop(self: &Arc<Self>) {
        self.log_own(Operation::Stop).await;
        if let Some(open) = self.open.load_full() {
            self.keep_checkpoint(&open).await;
        }
    }

    async fn log_own(&self, operation: Operation) {
        let entry = Entry { detail: Some(env!("CARGO_PKG_VERSION").to_owned()), ..self.own_entry(operation) };
        if let Err(error) = self.ledger.commit(Commit { writes: Vec::new(), entry: entry.to_bytes() }).await {
            tracing::error!(%error, operation = operation.name(), "could not be logged");
        }
    }

    /// Numbers for the metrics: name, meaning, value.
    pub fn gauges(&self) -> Vec<(&'static str, &'static str, u64)> {
        let open = self.open.load();
        vec![
            ("sealed", "1 while the server is sealed.", u64::from(open.is_none())),
            ("log_entries", "Entries in the audit log.", self.ledger.log_size()),
            ("keys", "Keys there were when the server was unsealed.", self.keys.load(Ordering::Relaxed)),
            ("epoch", "Commits that changed rows.", open.as_ref().map_or(0, |open| open.epoch())),
            ("clock_steady", "1 while the wall clock behaves.", u64::from(self.clock.steady())),
        ]
    }

    /// Logs something that a person must look at.
    pub(super) async fn alarm(&self, what: &str) {
        tracing::error!("alarm: {what}");
        let entry = Entry {
            result: Outcome::Failed,
            detail: Some(what.to_owned()),
            ..self.own_entry(Operation::Alarm)
        };
        if let Err(error) = self.ledger.commit(Commit { writes: Vec::new(), entry: entry.to_bytes() }).await {
            tracing::error!(%error, "the alarm could not be logged");
        }
    }
}

/// Notes when something will happen to each key of a tenant by itself.
fn collect_dates(open: &Open, tenant: TenantId) -> Result<(), Error> {
    let mut after = Vec::new();
    loop {
        let (rows, next) = open.records.scan::<Key>(Table::Key, tenant, &after, PAGE_MAX)?;
        let mut dates = open.dates.lock();
        for key in rows.iter().map(|row| &row.value) {
            if let Some(date) = key.next_date() {
                dates.add((tenant, key.id), date);
            }
        }
        drop(dates);
        match next {
            Some(next) => after = next,
            None => return Ok(()),
        }
    }
}

/// What a person should look at after the server was opened.
struct Findings {
    /// Rows that are not used.
    damaged: usize,
    /// Entries that a checkpoint covers.
    covered: u64,
    /// What the operator accepted as it was found.
    accepted: Vec<&'static str>,
}

/// What was found when all rows were read.
#[derive(Default)]
struct Found {
    presence: Presence,
    stored: StateDigest,
    keys: u64,
    /// Rows whose MAC does not fit: the MAC they have, and the one they should have.
    damaged: Vec<([u8; 32], [u8; 32])>,
}

impl Found {
    fn read(store: &dyn Store, auth: &RowAuth) -> Result<Self, Error> {
        let found = Mutex::new(Self::default());
        store.visit_all(&|key, row| {
            // All hashing is done beside the other threads that read.
            let good = auth.verify(&key, &row);
            let term = StateDigest::term(auth, &row.mac);
            let place = Presence::place(&key);
            let mut found = found.lock();
            found.presence.set_at(place, &key, &row.mac);
            found.stored.add_term(&term);
            found.keys += u64::from(key.table == Table::Key);
            if !good {
                tracing::error!(table = ?key.table, tenant = %key.tenant, "a stored row fails its integrity check");
                let should = auth.seal(&key, row.revision, row.body).mac;
                found.damaged.push((row.mac, should));
            }
            Ok(())
        })?;
        Ok(found.into_inner())
    }

    /// The sum of the rows as the last commit left them, if these are they: with the MACs they have, or, where
    /// a MAC itself was damaged, with the ones they should have.
    fn digest(&self, auth: &RowAuth, head: &keyhearth_core::store::Head) -> Option<StateDigest> {
        let is_last = |digest: &StateDigest| {
            auth.seal_digest(digest, head.epoch, head.sealed_log_size) == head.digest_seal
        };
        let mut mended = self.stored.clone();
        for (has, should) in &self.damaged {
            mended.remove(auth, has);
            mended.add(auth, should);
        }
        [self.stored.clone(), mended].into_iter().find(is_last)
    }
}

/// Keeps the newest checkpoint outside the store: written beside, flushed, and moved into place.
pub(super) fn write_anchor(path: &Path, note: &str) -> Result<(), Error> {
    let temporary = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(note.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        path.parent().map_or(Ok(()), |directory| std::fs::File::open(directory)?.sync_all())
    };
    write().map_err(|error| {
        tracing::error!(path = %path.display(), %error, "the anchor cannot be written");
        Error::Unavailable { retry_after_ms: 1_000 }
    })
}
