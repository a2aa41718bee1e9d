//! A deployment in a temporary directory, its callers, and a store whose writes can be made to fail.

use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use keyhearth::engine::{Engine, Settings, UnsealWith, initialise};
use keyhearth::identity;
use keyhearth::seal::{self, Collected, Passphrase, Quorum, SealChoice, SealRecord, Unsealed};
use keyhearth::store::sqlite::SqliteStore;
use keyhearth_core::Error;
use keyhearth_core::entry::Entry;
use keyhearth_core::id::{KeyId, Name, PrincipalId, TenantId};
use keyhearth_core::key::{Cryptoperiod, Key};
use keyhearth_core::log::{Checkpoint, Hash, TileId};
use keyhearth_core::operation::Operation;
use keyhearth_core::principal::{Caller, Role};
use keyhearth_core::request::{Ask, Idempotency, KeyRef, NewKey, Page, Request, Response, Secret, Source};
use keyhearth_core::row::{Row, RowAuth, RowKey, StateDigest, Table};
use keyhearth_core::store::{Commit, Expect, Head, Outcome, RowChange, SealDigest, Store, StoreError, Write};
use keyhearth_core::time::Time;
use keyhearth_crypto::algorithm::Algorithm;
use keyhearth_crypto::passphrase::Params;
use parking_lot::Mutex;
use tempfile::TempDir;

/// Takes the fields out of the answer that is expected, and panics with any other.
macro_rules! got {
    ($result:expr, $pattern:pat => $value:expr) => {
        match $result {
            Ok($pattern) => $value,
            other => panic!("not the answer that was expected: {other:?}"),
        }
    };
}
pub(crate) use got;

pub const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Asks, as `caller`.
pub async fn ask(engine: &Arc<Engine>, caller: &Arc<Caller>, ask: Ask) -> Result<Response, Error> {
    because(engine, caller, ask, None).await
}

/// Asks, with a reason.
pub async fn because(
    engine: &Arc<Engine>,
    caller: &Arc<Caller>,
    ask: Ask,
    reason: Option<&str>,
) -> Result<Response, Error> {
    let reason = reason.map(str::to_owned);
    let request = Request { reason, ..Request::new(engine.request_id(), ask) };
    engine.execute(caller, Arc::new(request)).await
}

/// Asks, with an idempotency key and the digest of the request.
pub async fn repeatably(
    engine: &Arc<Engine>,
    caller: &Arc<Caller>,
    ask: Ask,
    (key, digest): (&str, u8),
) -> Result<Response, Error> {
    let idempotency = Some(Idempotency { key: key.to_owned(), digest: [digest; 32] });
    let request = Request { idempotency, ..Request::new(engine.request_id(), ask) };
    engine.execute(caller, Arc::new(request)).await
}

/// Where a deployment lies, and what opens it.
pub struct House {
    pub directory: TempDir,
    pub engine: Arc<Engine>,
    pub operator: Arc<Caller>,
    pub operator_certificate: String,
    shares: Vec<String>,
}

fn settings(directory: &Path) -> Settings {
    Settings {
        principal_per_s: 1_000_000,
        secrets_per_tenant: 1_000,
        tenant_per_s: 1_000_000,
        anchor: anchor(directory),
        origin: "keyhearth.test/log".to_owned(),
        development: false,
        key_arn_prefix: None,
        danger_accept_found: false,
    }
}

/// The file of the newest checkpoint, outside the data directory.
pub fn anchor(directory: &Path) -> PathBuf {
    directory.join("anchor")
}

fn data(directory: &Path) -> PathBuf {
    directory.join("data")
}

/// The database file of a deployment.
pub fn database(directory: &Path) -> PathBuf {
    data(directory).join("keyhearth.db")
}

/// Signs in with a certificate.
pub async fn sign_in(engine: &Arc<Engine>, certificate: &str) -> Result<Arc<Caller>, Error> {
    let der = identity::certificate_der(certificate)?;
    Ok(engine.authenticate(Some(&der), HERE).await?.caller)
}

/// A certificate request for a new key pair.
pub fn certificate_request(name: &str) -> String {
    identity::generate_key_and_csr(name).unwrap().1
}

/// A deployment that a passphrase opens.
pub async fn with_passphrase(text: &[u8]) -> (TempDir, Arc<Engine>) {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(&data(directory.path())).unwrap());
    let choice = SealChoice { passphrase: Some(Passphrase { text, params: Params::MIN }), quorum: None };
    let name: Name = "operator".parse().unwrap();
    let request = certificate_request("operator");
    let initial = initialise(store, settings(directory.path()), &choice, &name, &request).await.unwrap();
    (directory, initial.engine)
}

impl House {
    pub async fn new() -> Self {
        Self::over(|store| Arc::new(store)).await
    }

    /// A deployment whose store is seen through `wrap`.
    pub async fn over(wrap: impl FnOnce(SqliteStore) -> Arc<dyn Store>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = wrap(SqliteStore::open(&data(directory.path())).unwrap());
        let choice = SealChoice { passphrase: None, quorum: Some(Quorum { threshold: 2, count: 3 }) };
        let name: Name = "operator".parse().unwrap();
        let request = certificate_request("operator");
        let initial = initialise(store, settings(directory.path()), &choice, &name, &request).await.unwrap();
        let operator = sign_in(&initial.engine, &initial.certificate).await.unwrap();
        let shares = initial.shares.0.iter().map(|share| share.to_string()).collect();
        Self {
            directory,
            engine: initial.engine,
            operator,
            operator_certificate: initial.certificate,
            shares,
        }
    }

    pub async fn ask(&self, caller: &Arc<Caller>, request: Ask) -> Result<Response, Error> {
        ask(&self.engine, caller, request).await
    }

    /// Seals the engine and unseals it.
    pub async fn reopen(&self) {
        self.engine.seal();
        for share in &self.shares[..2] {
            self.engine.unseal(UnsealWith::Share(share), HERE).await.unwrap();
        }
    }

    /// Ends the engine, and waits until nobody uses the data directory.
    pub async fn close(self) -> Closed {
        let Self { directory, engine, operator_certificate, shares, .. } = self;
        drop(engine);
        Closed { directory, operator_certificate, shares }.released().await
    }

    /// Ends the engine and begins another one.
    pub async fn restart(self) -> Self {
        self.close().await.open().await.map_err(|(_, error)| error).unwrap()
    }

    /// A new tenant with one identity of each role.
    pub async fn tenant(&self, name: &str) -> Household {
        let request = certificate_request("admin");
        let create =
            Ask::CreateTenant { name: name.parse().unwrap(), admin: "admin".parse().unwrap(), request };
        let (id, certificate) = got!(self.ask(&self.operator, create).await,
            Response::Tenant { tenant, certificate, .. } => (tenant.id, certificate));
        let admin = sign_in(&self.engine, &certificate).await.unwrap();
        let engine = Arc::clone(&self.engine);
        let key_admin = issue(&engine, &admin, "key-admin", &[Role::KeyAdmin]).await;
        let user = issue(&engine, &admin, "user", &[Role::KeyUser]).await;
        let auditor = issue(&engine, &admin, "auditor", &[Role::Auditor]).await;
        let custodian = issue(&engine, &admin, "custodian", &[Role::Custodian]).await;
        Household { engine: Arc::downgrade(&engine), id, admin, key_admin, user, auditor, custodian }
    }
}

/// A deployment that no process uses.
pub struct Closed {
    pub directory: TempDir,
    operator_certificate: String,
    shares: Vec<String>,
}

impl Closed {
    /// Waits until nobody uses the data directory.
    pub async fn released(self) -> Self {
        for _ in 0..2_000 {
            if SqliteStore::open(&data(self.path())).is_ok() {
                return self;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("something still holds the store");
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn shares(&self) -> [&str; 3] {
        [&self.shares[0], &self.shares[1], &self.shares[2]]
    }

    /// Begins an engine and unseals it; on refusal, what is left and why.
    pub async fn open(self) -> Result<House, (Self, Error)> {
        self.open_over(|store| Arc::new(store)).await
    }

    /// As [`Closed::open`], with the store seen through `wrap`.
    pub async fn open_over(
        self,
        wrap: impl FnOnce(SqliteStore) -> Arc<dyn Store>,
    ) -> Result<House, (Self, Error)> {
        let engine = self.begin(wrap);
        self.unseal(engine).await
    }

    /// As [`Closed::open`], although what is found is not what the last commit left.
    pub async fn open_accepting(self) -> Result<House, (Self, Error)> {
        self.open_as(|settings| Settings { danger_accept_found: true, ..settings }).await
    }

    /// As [`Closed::open`], with settings of its own.
    pub async fn open_as(self, set: impl FnOnce(Settings) -> Settings) -> Result<House, (Self, Error)> {
        let store = Arc::new(SqliteStore::open(&data(self.path())).unwrap());
        let engine = Engine::new(store, set(settings(self.path()))).unwrap();
        self.unseal(engine).await
    }

    async fn unseal(self, engine: Arc<Engine>) -> Result<House, (Self, Error)> {
        let mut refusal = None;
        for share in &self.shares[..2] {
            refusal = engine.unseal(UnsealWith::Share(share), HERE).await.err();
        }
        if let Some(error) = refusal {
            assert!(engine.is_sealed());
            return Err((self, error));
        }
        let operator = sign_in(&engine, &self.operator_certificate).await.unwrap();
        let Self { directory, operator_certificate, shares } = self;
        Ok(House { directory, engine, operator, operator_certificate, shares })
    }

    /// Begins an engine and leaves it sealed.
    pub fn begin(&self, wrap: impl FnOnce(SqliteStore) -> Arc<dyn Store>) -> Arc<Engine> {
        let store = wrap(SqliteStore::open(&data(self.path())).unwrap());
        Engine::new(store, settings(self.path())).unwrap()
    }

    /// The same deployment as it lies here now, in another directory.
    pub fn copy(&self) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(data(directory.path())).unwrap();
        for name in ["data/keyhearth.db", "data/keyhearth.db-wal", "anchor"] {
            let from = self.path().join(name);
            if from.exists() {
                std::fs::copy(from, directory.path().join(name)).unwrap();
            }
        }
        let (operator_certificate, shares) = (self.operator_certificate.clone(), self.shares.clone());
        Self { directory, operator_certificate, shares }
    }

    /// The database, as somebody with access to the disk has it.
    pub fn database(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(database(self.path())).unwrap()
    }

    /// What the shares open, without a server.
    pub fn unsealed(&self) -> Unsealed {
        let store = SqliteStore::open(&data(self.path())).unwrap();
        let record = SealRecord::from_bytes(&store.document(seal::DOCUMENT).unwrap().unwrap()).unwrap();
        let mut collector = record.collector().unwrap();
        let now = Time::from_unix_ms(1);
        collector.add(&self.shares[0], now).unwrap();
        match collector.add(&self.shares[1], now).unwrap() {
            Collected::Complete(key) => record.unseal_shares(&key).unwrap(),
            Collected::Waiting(_) => panic!("two shares are enough"),
        }
    }

    /// The whole log.
    pub fn log(&self) -> Vec<Entry> {
        let store = SqliteStore::open(&data(self.path())).unwrap();
        let entries = store.entries(0, 100_000).unwrap();
        entries.iter().map(|bytes| Entry::from_bytes(bytes).unwrap()).collect()
    }

    /// Changes a stored key as the server itself would: with valid MAC, sum, checkpoint and log, the newest
    /// entry of which is from `time`.
    pub fn rewrite_key(&self, tenant: TenantId, id: KeyId, time: Time, change: impl FnOnce(&mut Key)) {
        let unsealed = self.unsealed();
        let store = SqliteStore::open(&data(self.path())).unwrap();
        let auth = RowAuth::new(unsealed.secrets().row.expose());
        let digest = Mutex::new(StateDigest::default());
        let add = |_, row: Row| {
            digest.lock().add(&auth, &row.mac);
            Ok(())
        };
        store.visit_all(&add).unwrap();
        let place = RowKey::new(Table::Key, tenant, &id.0);
        let old = store.read(&place).unwrap().unwrap();
        let mut key: Key = minicbor::decode(&old.body).unwrap();
        change(&mut key);
        let row = auth.seal(&place, old.revision + 1, minicbor::to_vec(&key).unwrap());
        let write = Write { key: place, expect: Expect::Mac(old.mac), row: Some(row) };
        let newest = store.entries(store.head().unwrap().log_size - 1, 1).unwrap().pop().unwrap();
        let entry = Entry { time, ..Entry::from_bytes(&newest).unwrap() }.to_bytes();
        let mut seal = |changes: &[RowChange], epoch, log_size| {
            let mut digest = digest.lock();
            for (before, after) in changes {
                before.iter().for_each(|mac| digest.remove(&auth, mac));
                after.iter().for_each(|mac| digest.add(&auth, mac));
            }
            auth.seal_digest(&digest, epoch, log_size)
        };
        store.commit(&[Commit { writes: vec![write], entry }], &mut seal).unwrap();
        let ((size, root), head) = (store.log_root(), store.head().unwrap());
        let origin = settings(self.path()).origin.parse().unwrap();
        let checkpoint = Checkpoint::new(origin, size, root).with_rows(head.epoch, &head.digest_seal);
        let key = unsealed.secrets().checkpoint_key().unwrap();
        store.put_checkpoint(size, &checkpoint.sign(&key).to_string()).unwrap();
    }
}

/// SQL that replaces the byte in the middle of a column by another.
pub fn flip(column: &str) -> String {
    let at = format!("length({column}) / 2");
    format!(
        "{column} = CAST(substr({column}, 1, {at}) || \
         CASE substr({column}, {at} + 1, 1) WHEN x'41' THEN x'42' ELSE x'41' END || \
         substr({column}, {at} + 2) AS BLOB)"
    )
}

/// A tenant and one identity of each role. It does not keep its engine alive.
pub struct Household {
    engine: Weak<Engine>,
    pub id: TenantId,
    pub admin: Arc<Caller>,
    pub key_admin: Arc<Caller>,
    pub user: Arc<Caller>,
    pub auditor: Arc<Caller>,
    pub custodian: Arc<Caller>,
}

/// A new identity, signed in.
pub async fn issue(engine: &Arc<Engine>, admin: &Arc<Caller>, name: &str, roles: &[Role]) -> Arc<Caller> {
    let request = certificate_request(name);
    let issue =
        Ask::IssueIdentity { name: name.parse().unwrap(), roles: roles.to_vec(), request, days: None };
    let certificate =
        got!(ask(engine, admin, issue).await, Response::Identity { certificate, .. } => certificate);
    sign_in(engine, &certificate).await.unwrap()
}

impl Household {
    /// The same tenant in an engine that was begun later.
    pub fn within(&self, house: &House) -> Self {
        Self {
            engine: Arc::downgrade(&house.engine),
            id: self.id,
            admin: Arc::clone(&self.admin),
            key_admin: Arc::clone(&self.key_admin),
            user: Arc::clone(&self.user),
            auditor: Arc::clone(&self.auditor),
            custodian: Arc::clone(&self.custodian),
        }
    }

    pub fn engine(&self) -> Arc<Engine> {
        self.engine.upgrade().unwrap()
    }

    pub async fn ask(&self, caller: &Arc<Caller>, request: Ask) -> Result<Response, Error> {
        ask(&self.engine(), caller, request).await
    }

    /// Asks as the key administrator for something that answers with the key.
    pub async fn manage(&self, request: Ask) -> Result<Key, Error> {
        let answer = self.ask(&self.key_admin, request).await?;
        Ok(*got!(Ok::<_, Error>(answer), Response::Key(key) => key))
    }

    pub async fn create(&self, new: NewKey) -> Key {
        self.manage(Ask::CreateKey(new)).await.unwrap()
    }

    pub async fn aes(&self) -> Key {
        self.create(new_key(Algorithm::Aes256)).await
    }

    pub async fn issue(&self, name: &str, roles: &[Role]) -> Arc<Caller> {
        issue(&self.engine(), &self.admin, name, roles).await
    }

    pub async fn encrypt(&self, key: KeyId, plaintext: &str) -> Result<Vec<u8>, Error> {
        self.encrypt_as(&self.user, key, plaintext).await
    }

    pub async fn encrypt_as(
        &self,
        caller: &Arc<Caller>,
        key: KeyId,
        plaintext: &str,
    ) -> Result<Vec<u8>, Error> {
        let answer = self.ask(caller, encrypt(key, plaintext)).await?;
        Ok(got!(Ok::<_, Error>(answer), Response::Encrypted { ciphertext, .. } => ciphertext))
    }

    pub async fn decrypt(&self, key: KeyId, ciphertext: &[u8]) -> Result<String, Error> {
        self.decrypt_as(&self.user, key, ciphertext).await
    }

    pub async fn decrypt_as(
        &self,
        caller: &Arc<Caller>,
        key: KeyId,
        ciphertext: &[u8],
    ) -> Result<String, Error> {
        let answer = self.ask(caller, decrypt(key, ciphertext)).await?;
        let plaintext = got!(Ok::<_, Error>(answer), Response::Decrypted { plaintext, .. } => plaintext);
        Ok(String::from_utf8(plaintext.to_vec()).unwrap())
    }

    /// All of the tenant's log entries, with their places.
    pub async fn entries(&self) -> Vec<(u64, Entry)> {
        let mut all = Vec::new();
        let mut from = Some(0);
        while let Some(first) = from {
            let list = Ask::ListEntries { from: first, limit: 1_000 };
            from = got!(self.ask(&self.auditor, list).await, Response::Entries { entries, next, .. } => {
                all.extend(entries.iter().map(|(index, bytes)| (*index, Entry::from_bytes(bytes).unwrap())));
                next.filter(|_| !entries.is_empty())
            });
        }
        all
    }

    /// The newest entry about `operation`.
    pub async fn newest(&self, operation: Operation) -> Entry {
        let found =
            self.entries().await.into_iter().rev().find(|(_, entry)| entry.operation() == Some(operation));
        found.unwrap_or_else(|| panic!("no entry about {}", operation.name())).1
    }
}

/// A key of `algorithm` and nothing special.
pub fn new_key(algorithm: Algorithm) -> NewKey {
    NewKey {
        algorithm,
        usage: Vec::new(),
        exportable: false,
        import: false,
        description: String::new(),
        tags: Default::default(),
        alias: None,
        activation: None,
        cryptoperiod: Cryptoperiod::default(),
        rotate_days: None,
        policy: Default::default(),
    }
}

pub fn by_id(key: KeyId) -> KeyRef {
    KeyRef::Id(key)
}

pub fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

pub fn encrypt(key: KeyId, plaintext: &str) -> Ask {
    Ask::Encrypt { key: by_id(key), mechanism: None, context: Vec::new(), plaintext: secret(plaintext) }
}

pub fn decrypt(key: KeyId, ciphertext: &[u8]) -> Ask {
    Ask::Decrypt {
        key: by_id(key),
        mechanism: None,
        version: None,
        iv: Vec::new(),
        context: Vec::new(),
        ciphertext: ciphertext.to_vec(),
        lease_seconds: 0,
    }
}

/// What a rewrap opens: made by `key` without a context.
pub fn source(key: KeyId, ciphertext: &[u8]) -> Source {
    Source {
        key: Some(by_id(key)),
        mechanism: None,
        version: None,
        iv: Vec::new(),
        context: Vec::new(),
        ciphertext: ciphertext.to_vec(),
    }
}

/// Moves what `from` encrypted under `to`, both without a context.
pub fn rewrap(from: KeyId, to: KeyId, ciphertext: &[u8]) -> Ask {
    let source = Box::new(source(from, ciphertext));
    Ask::Rewrap { key: by_id(to), mechanism: None, context: Vec::new(), source }
}

pub fn page(limit: usize) -> Page {
    Page { after: Vec::new(), limit }
}

pub fn role_change(identity: PrincipalId, roles: &[Role]) -> Ask {
    Ask::SetRoles { identity, roles: roles.to_vec() }
}

/// Lets `first` run until it would commit, does `meanwhile`, and lets `first` go on. It may have committed
/// before, unless the runtime has one thread alone for what blocks.
pub async fn held_back<T>(first: impl Future<Output = T>, meanwhile: impl Future<Output = ()>) -> T {
    let mut first = pin!(first);
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let busy = tokio::task::spawn_blocking(move || wait.recv());
    let waits = poll_fn(|context| Poll::Ready(first.as_mut().poll(context).is_pending())).await;
    assert!(waits, "it should work on another thread");
    drop(go);
    busy.await.unwrap().unwrap_err();
    // Its work ends there; what follows happens only when it is polled again.
    std::thread::sleep(Duration::from_millis(300));
    meanwhile.await;
    first.await
}

/// A store that writes so many times more and then refuses, as a full or a dead disk does.
pub struct Failing {
    inner: SqliteStore,
    writes_left: Arc<AtomicI64>,
    error: StoreError,
}

impl Failing {
    /// The store, and the number of writes that still succeed.
    pub fn new(inner: SqliteStore, error: StoreError) -> (Self, Arc<AtomicI64>) {
        let writes_left = Arc::new(AtomicI64::new(i64::MAX));
        (Self { inner, writes_left: Arc::clone(&writes_left), error }, writes_left)
    }

    fn admit(&self) -> Result<(), StoreError> {
        if self.writes_left.fetch_sub(1, Ordering::SeqCst) > 0 { Ok(()) } else { Err(self.error) }
    }
}

impl Store for Failing {
    fn commit(&self, batch: &[Commit], seal_digest: SealDigest<'_>) -> Result<Vec<Outcome>, StoreError> {
        self.admit()?;
        self.inner.commit(batch, seal_digest)
    }
    fn read(&self, key: &RowKey) -> Result<Option<Row>, StoreError> {
        self.inner.read(key)
    }
    fn scan(
        &self,
        table: Table,
        tenant: TenantId,
        prefix: &[u8],
        after: &[u8],
        limit: usize,
    ) -> Result<Vec<(RowKey, Row)>, StoreError> {
        self.inner.scan(table, tenant, prefix, after, limit)
    }
    fn visit_all(
        &self,
        visit: &(dyn Fn(RowKey, Row) -> Result<(), StoreError> + Sync),
    ) -> Result<(), StoreError> {
        self.inner.visit_all(visit)
    }
    fn head(&self) -> Result<Head, StoreError> {
        self.inner.head()
    }
    fn changes(&self, epoch: u64, limit: usize) -> Result<Option<Vec<(u64, RowKey)>>, StoreError> {
        self.inner.changes(epoch, limit)
    }
    fn entries(&self, index: u64, limit: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        self.inner.entries(index, limit)
    }
    fn tile(&self, tile: TileId) -> Result<Vec<u8>, StoreError> {
        self.inner.tile(tile)
    }
    fn log_root(&self) -> (u64, Hash) {
        self.inner.log_root()
    }
    fn put_checkpoint(&self, size: u64, note: &str) -> Result<(), StoreError> {
        // Not counted: it is written in the background, before or after what a test counts on.
        if self.writes_left.load(Ordering::SeqCst) <= 0 {
            return Err(self.error);
        }
        self.inner.put_checkpoint(size, note)
    }
    fn checkpoint(&self) -> Result<Option<String>, StoreError> {
        self.inner.checkpoint()
    }
    fn document(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.document(name)
    }
    fn put_document(&self, name: &str, body: &[u8]) -> Result<(), StoreError> {
        self.admit()?;
        self.inner.put_document(name, body)
    }
}
