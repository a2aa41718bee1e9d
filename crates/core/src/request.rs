//! Requests and their results: the one vocabulary that every protocol translates into.

use std::collections::BTreeMap;
use std::fmt;

use keyhearth_crypto::algorithm::{Algorithm, Mechanism};
use zeroize::Zeroizing;

use crate::id::{Alias, GrantId, KeyId, Name, PrincipalId, RequestId, TenantId};
use crate::key::{Cryptoperiod, Key};
use crate::machine::{BootFacts, MachineChange, NewMachine, Release};
use crate::operation::Operation;
use crate::policy::NewKeyPolicy;
use crate::principal::Role;
use crate::secret::SecretName;
use crate::state::Switches;
use crate::time::{Now, Time};

mod ask;
mod import;
mod response;

pub use import::{ImportId, ImportMechanism, MATERIAL_DESCRIPTION_CHARS_MAX, NewMaterial};
pub use response::{Ability, DataKeyPair, Difference, LastUse, Response, Session, Status};

/// An alias stays with keys of one kind: programs that name it expect no other.
pub const UNLIKE: crate::Error = crate::Error::Invalid {
    field: "key",
    rule: "must be of the kind and for the use of the key that has the alias now",
};

/// Bytes that are wiped when they are dropped.
pub type Secret = Zeroizing<Vec<u8>>;

/// The most plaintext of one request, in bytes. More belongs under a data key.
pub const PLAINTEXT_BYTES_MAX: usize = 64 * 1024;
/// The longest reason, in bytes.
pub const REASON_BYTES_MAX: usize = 512;
/// The most items of one answer that lists.
pub const PAGE_MAX: usize = 1_000;
/// The longest that a caller may keep what it opened, in seconds: a week.
pub const LEASE_SECONDS_MAX: u32 = 7 * 24 * 60 * 60;
/// The most random bytes of one request.
pub const RANDOM_BYTES_MAX: usize = 1_024;

/// A key by its id or by one of its aliases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRef {
    /// By id.
    Id(KeyId),
    /// By alias.
    Alias(Alias),
}

impl std::str::FromStr for KeyRef {
    type Err = crate::Error;
    /// What has the form of a UUID is an id; everything else is an alias.
    fn from_str(text: &str) -> Result<Self, crate::Error> {
        text.parse().map(Self::Id).or_else(|_| text.parse().map(Self::Alias))
    }
}

/// A request as any protocol spells it.
pub struct Request {
    /// Its id, made by the server.
    pub id: RequestId,
    /// What is asked.
    pub ask: Ask,
    /// Why, for the log; at most [`REASON_BYTES_MAX`].
    pub reason: Option<String>,
    /// The caller's own name for this request, if it may be repeated.
    pub idempotency: Option<Idempotency>,
    /// Decide and act, but change nothing and give nothing out: [`Response::WouldSucceed`]. Only its entry is
    /// committed. For operations on a key.
    ///
    /// A dry run of [`Ask::Decrypt`] or [`Ask::Rewrap`] without a ciphertext decides only.
    pub dry_run: bool,
    /// What the protocol demands of the key, if more than core does.
    pub demand: Option<Demand>,
}

impl Request {
    /// A request that only asks.
    #[must_use]
    pub fn new(id: RequestId, ask: Ask) -> Self {
        Self { id, ask, reason: None, idempotency: None, dry_run: false, demand: None }
    }
}

/// What a protocol demands of the key that a request names, beside what core demands.
///
/// Looked at once the caller is known to be allowed, on the very record that the act then uses: nobody learns
/// of a key's state by it, and what it allowed is still so when the change is committed. It can only refuse.
pub type Demand = std::sync::Arc<dyn Fn(&Key, Now) -> Result<(), crate::Error> + Send + Sync>;

/// What makes a repeated creating request give the first answer again, for 24 hours.
#[derive(Clone, Debug)]
pub struct Idempotency {
    /// The caller's name for the request, 1 to [`IDEMPOTENCY_KEY_BYTES_MAX`].
    pub key: String,
    /// SHA-256 of the request as the protocol carried it: another request under the same name is refused.
    pub digest: [u8; 32],
}

/// The longest idempotency key, in bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 128;
/// How long an answer is remembered, in milliseconds.
pub const IDEMPOTENCY_MS: u64 = 24 * 60 * 60 * 1000;

/// The pairs that are bound to a ciphertext, sorted by name, names unique.
pub type ContextPairs = Vec<(String, String)>;

/// What is signed or verified.
pub enum Message {
    /// The message itself.
    Whole(Secret),
    /// Its digest, by the mechanism's hash.
    Digest(Vec<u8>),
    /// What ML-DSA signs in place of the message, 64 bytes; the caller computed it.
    Mu(Vec<u8>),
}

/// Start of a page of a listing: exactly the cursor of the answer before, or empty.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The cursor.
    pub after: Vec<u8>,
    /// At most so many items, 1 to [`PAGE_MAX`].
    pub limit: usize,
}

/// What a new key is to be.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Algorithm.
    pub algorithm: Algorithm,
    /// Names of uses; empty for what is usual for the algorithm.
    pub usage: Vec<String>,
    /// Whether its material may ever leave the server.
    pub exportable: bool,
    /// Material is to be imported.
    pub import: bool,
    /// For people.
    pub description: String,
    /// For policies and people.
    pub tags: BTreeMap<String, String>,
    /// An alias to make with it.
    pub alias: Option<Alias>,
    /// When it becomes active; at once if absent.
    pub activation: Option<Time>,
    /// For its versions.
    pub cryptoperiod: Cryptoperiod,
    /// Days between automatic rotations.
    pub rotate_days: Option<u32>,
    /// Its own policy. Whoever makes a key with one must also be allowed [`Operation::PutKeyPolicy`].
    pub policy: NewKeyPolicy,
}

/// Changes of a key; absent fields stay as they are.
#[derive(Clone, Debug, Default)]
pub struct KeyChange {
    /// For people.
    pub description: Option<String>,
    /// All tags anew.
    pub tags: Option<BTreeMap<String, String>>,
    /// Single tags: set to a value, or removed. After `tags`.
    pub set_tags: BTreeMap<String, Option<String>>,
    /// Exceptions to the table of states.
    pub switches: Option<Switches>,
    /// For versions made from now on.
    pub cryptoperiod: Option<Cryptoperiod>,
    /// Days between automatic rotations, or `None` for none.
    pub rotate_days: Option<Option<u32>>,
}

/// What is asked, one variant an operation.
#[allow(
    missing_docs,
    reason = "the operation table documents the variants; fields repeat the vocabulary of this module"
)]
pub enum Ask {
    CreateKey(NewKey),
    ListKeys {
        page: Page,
    },
    DescribeKey {
        key: KeyRef,
    },
    UpdateKey {
        key: KeyRef,
        change: KeyChange,
    },
    RotateKey {
        key: KeyRef,
    },
    ActivateKey {
        key: KeyRef,
        version: Option<u32>,
    },
    /// Without a version, the key as a whole.
    SuspendKey {
        key: KeyRef,
        version: Option<u32>,
    },
    /// Without a version, the key as a whole.
    ResumeKey {
        key: KeyRef,
        version: Option<u32>,
    },
    DeactivateKey {
        key: KeyRef,
        version: Option<u32>,
    },
    CompromiseKey {
        key: KeyRef,
        version: Option<u32>,
    },
    ScheduleDestroy {
        key: KeyRef,
        days: u32,
    },
    /// `suspend` leaves the key suspended as a whole.
    CancelDestroy {
        key: KeyRef,
        suspend: bool,
    },
    /// `confirm` repeats the key's id.
    DestroyKey {
        key: KeyRef,
        version: u32,
        confirm: KeyId,
    },
    /// `wrapping` is the algorithm of the RSA key, for mechanisms that have one.
    ImportParameters {
        key: KeyRef,
        mechanism: ImportMechanism,
        wrapping: Option<Algorithm>,
    },
    ImportKey {
        key: KeyRef,
        material: NewMaterial,
    },
    UnloadKey {
        key: KeyRef,
        version: Option<u32>,
    },
    ExportKey {
        key: KeyRef,
        version: Option<u32>,
        mechanism: ImportMechanism,
        recipient: Vec<u8>,
    },
    PublicKey {
        key: KeyRef,
        version: Option<u32>,
    },
    LastUse {
        key: KeyRef,
    },
    SetAlias {
        key: KeyRef,
        alias: Alias,
    },
    DeleteAlias {
        key: KeyRef,
        alias: Alias,
    },
    ListAliases {
        of: Option<KeyRef>,
        page: Page,
    },
    /// `key` is the one that gets it.
    MoveAlias {
        key: KeyRef,
        alias: Alias,
    },

    Encrypt {
        key: KeyRef,
        mechanism: Option<Mechanism>,
        context: ContextPairs,
        plaintext: Secret,
    },
    /// `lease_seconds` says for how long the caller will keep the plaintext and use it without asking, at most
    /// [`LEASE_SECONDS_MAX`]; 0 is not at all, and more needs [`Operation::Hold`] too.
    Decrypt {
        key: KeyRef,
        mechanism: Option<Mechanism>,
        version: Option<u32>,
        iv: Vec<u8>,
        context: ContextPairs,
        ciphertext: Vec<u8>,
        lease_seconds: u32,
    },
    /// Key, mechanism and context are those of the new ciphertext.
    Rewrap {
        key: KeyRef,
        mechanism: Option<Mechanism>,
        context: ContextPairs,
        source: Box<Source>,
    },
    DataKey {
        key: KeyRef,
        context: ContextPairs,
        bytes: usize,
        with_plaintext: bool,
    },
    DataKeyPair {
        key: KeyRef,
        context: ContextPairs,
        algorithm: Algorithm,
        with_plaintext: bool,
    },
    Sign {
        key: KeyRef,
        mechanism: Option<Mechanism>,
        message: Message,
    },
    Verify {
        key: KeyRef,
        mechanism: Option<Mechanism>,
        version: Option<u32>,
        message: Message,
        signature: Vec<u8>,
    },
    Mac {
        key: KeyRef,
        mechanism: Option<Mechanism>,
        message: Secret,
    },
    VerifyMac {
        key: KeyRef,
        mechanism: Option<Mechanism>,
        version: Option<u32>,
        message: Secret,
        mac: Vec<u8>,
    },
    Wrap {
        key: KeyRef,
        mechanism: Option<Mechanism>,
        material: Secret,
    },
    Unwrap {
        key: KeyRef,
        mechanism: Option<Mechanism>,
        version: Option<u32>,
        wrapped: Vec<u8>,
    },
    Agree {
        key: KeyRef,
        version: Option<u32>,
        peer: Vec<u8>,
    },
    Encapsulate {
        key: KeyRef,
    },
    Decapsulate {
        key: KeyRef,
        version: Option<u32>,
        encapsulated: Vec<u8>,
    },
    /// `peer` as of [`Ask::Agree`].
    Exchange {
        key: KeyRef,
        version: Option<u32>,
        peer: Vec<u8>,
    },
    Random {
        bytes: usize,
    },

    /// `replace` shreds the one there is, and needs that permission too.
    KeepSecret {
        key: KeyRef,
        name: SecretName,
        value: NewSecret,
        replace: bool,
    },
    /// Without a key, the one that the secret is kept under. `lease_seconds` as of [`Ask::Decrypt`].
    ReadSecret {
        key: Option<KeyRef>,
        name: SecretName,
        lease_seconds: u32,
    },
    /// Without a key, the one that the secret is kept under.
    ShredSecret {
        key: Option<KeyRef>,
        name: SecretName,
    },
    ListSecrets {
        page: Page,
    },

    VolumeSecret {
        key: KeyRef,
        machine: PrincipalId,
        volume: Name,
    },
    RecoverySecret {
        key: KeyRef,
        machine: PrincipalId,
        volume: Name,
    },
    /// Of a clone that has no identity yet it is [`Operation::CloneImage`].
    ReleaseVolumes {
        key: KeyRef,
        release: Box<Release>,
    },
    EnrollMachine(NewMachine),
    ListMachines {
        page: Page,
    },
    DescribeMachine {
        machine: PrincipalId,
    },
    UpdateMachine {
        machine: PrincipalId,
        change: MachineChange,
    },
    ListApprovals {
        page: Page,
    },
    DecideApproval {
        approval: RequestId,
        approve: bool,
    },
    DecideCandidate {
        machine: PrincipalId,
        candidate: RequestId,
        accept: bool,
    },
    AskApproval {
        facts: Box<BootFacts>,
    },
    ConfirmBoot {
        session: [u8; 16],
        token: Option<[u8; 32]>,
        opened: Vec<Name>,
        lease_ms: u64,
    },
    SettleClone {
        session: [u8; 16],
        header: [u8; 32],
    },

    CreateGrant(NewGrant),
    ListGrants {
        key: KeyRef,
        page: Page,
    },
    RevokeGrant {
        key: KeyRef,
        grant: GrantId,
    },
    ListRetirableGrants {
        identity: PrincipalId,
        page: Page,
    },

    IssueIdentity {
        name: Name,
        roles: Vec<Role>,
        request: String,
        days: Option<u32>,
    },
    ListIdentities {
        page: Page,
    },
    RenewIdentity {
        request: String,
        days: Option<u32>,
    },
    RevokeIdentity {
        identity: PrincipalId,
    },
    SetRoles {
        identity: PrincipalId,
        roles: Vec<Role>,
    },
    BindCertificate {
        identity: PrincipalId,
        certificate: String,
    },
    WhoAmI,
    CreateAccessKey {
        identity: PrincipalId,
        import: Option<(String, Secret)>,
        minutes: Option<u32>,
    },
    ListAccessKeys {
        page: Page,
    },
    DisableAccessKey {
        id: String,
    },

    PutPolicy {
        name: Name,
        text: String,
    },
    ListPolicies,
    DeletePolicy {
        name: Name,
    },
    DiffPolicy {
        name: Name,
        text: Option<String>,
    },
    TestPolicy {
        identity: PrincipalId,
        operation: Operation,
        key: Option<KeyRef>,
        context: ContextPairs,
        lease_seconds: u32,
    },
    WhoCan {
        key: KeyRef,
    },
    PutKeyPolicy {
        key: KeyRef,
        policy: NewKeyPolicy,
    },
    KeyPolicy {
        key: KeyRef,
    },

    ListEntries {
        from: u64,
        limit: usize,
    },
    Checkpoint,
    ProveEntry {
        index: u64,
        size: Option<u64>,
    },
    ExportLog {
        path: String,
    },

    CreateTenant {
        name: Name,
        admin: Name,
        request: String,
    },
    ListTenants,
    DisableTenant {
        tenant: TenantId,
    },
    EnableTenant {
        tenant: TenantId,
    },
    RotateTenantKey {
        tenant: TenantId,
    },
    RotateRoot,
    Status,
    Seal,
    Rekey(Rekey),
}

/// The value of a new secret.
pub enum NewSecret {
    /// This, at most [`PLAINTEXT_BYTES_MAX`].
    Given(Secret),
    /// So many random bytes ([`crate::secret::GENERATED_BYTES`]), as text: base64url without padding.
    Generated(usize),
}

/// What a rewrap opens, as [`Ask::Decrypt`] names it. The decision about it is [`Operation::RewrapFrom`].
#[derive(Clone, Debug)]
pub struct Source {
    /// The key that encrypted it; the same key if absent.
    pub key: Option<KeyRef>,
    /// How it was encrypted.
    pub mechanism: Option<Mechanism>,
    /// The version that encrypted it, for mechanisms that do not say it in the ciphertext.
    pub version: Option<u32>,
    /// The IV, for mechanisms that do not keep it in the ciphertext.
    pub iv: Vec<u8>,
    /// The pairs that it is bound to.
    pub context: ContextPairs,
    /// The ciphertext.
    pub ciphertext: Vec<u8>,
}

/// A grant to be made.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "as in `Grant`")]
pub struct NewGrant {
    pub key: KeyRef,
    pub grantee: PrincipalId,
    pub operations: Vec<Operation>,
    pub context: BTreeMap<String, String>,
    pub expires: Option<Time>,
    pub delegable: bool,
    pub parent: Option<GrantId>,
    pub name: Option<String>,
    pub exact_context: Option<BTreeMap<String, String>>,
    pub retiree: Option<PrincipalId>,
}

impl NewGrant {
    /// A grant without limits, that is not passed on.
    #[must_use]
    pub fn new(key: KeyRef, grantee: PrincipalId, operations: Vec<Operation>) -> Self {
        Self {
            key,
            grantee,
            operations,
            context: BTreeMap::new(),
            expires: None,
            delegable: false,
            parent: None,
            name: None,
            exact_context: None,
            retiree: None,
        }
    }

    /// All pairs that it demands of a context.
    #[must_use]
    pub fn pairs(&self) -> ContextPairs {
        let mut pairs = self.context.clone();
        pairs.extend(self.exact_context.clone().unwrap_or_default());
        pairs.into_iter().collect()
    }
}

/// One step of replacing shares or passphrase.
pub enum Rekey {
    /// Begin: make new shares; the old ones stay good.
    Shares {
        /// How many are needed.
        threshold: u8,
        /// How many are made.
        count: u8,
    },
    /// Begin: a new passphrase.
    Passphrase(Secret),
    /// Prove a new share (or the new passphrase). When enough are proved the old ones die.
    Prove(Secret),
    /// Forget what was begun.
    Cancel,
}

/// Requests and results hold secrets: their `Debug` says which they are and nothing of what is in them.
macro_rules! says_no_more {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    )*};
}
says_no_more!(Message, Rekey, DataKeyPair, Response);

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ask({})", self.operation().name())
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({}, {:?})", self.id, self.ask)
    }
}
