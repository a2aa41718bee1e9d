//! Requests and their results: the one vocabulary that every protocol translates into.

use std::collections::BTreeMap;
use std::fmt;

use keyhearth_crypto::algorithm::{Algorithm, Mechanism};
use zeroize::Zeroizing;

use crate::grant::Grant;
use crate::id::{Alias, GrantId, KeyId, Name, PrincipalId, RequestId, TenantId};
use crate::key::{AliasOf, Cryptoperiod, Key, Origin, Usage};
use crate::operation::Operation;
use crate::policy::{NewKeyPolicy, Policy};
use crate::principal::{AccessKey, Caller, Principal, Role};
use crate::state::Switches;
use crate::tenant::Tenant;
use crate::time::{Now, Time};

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
    Decrypt {
        key: KeyRef,
        mechanism: Option<Mechanism>,
        version: Option<u32>,
        iv: Vec<u8>,
        context: ContextPairs,
        ciphertext: Vec<u8>,
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
    Random {
        bytes: usize,
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

/// How key material is wrapped on its way in or out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportMechanism {
    /// RSA-OAEP with SHA-1: symmetric keys only, and only on their way in, for clients that know no other.
    RsaOaepSha1,
    /// RSA-OAEP with SHA-256: symmetric keys only.
    RsaOaepSha256,
    /// As [`ImportMechanism::RsaAesKwpSha256`], with SHA-1; only on the way in.
    RsaAesKwpSha1,
    /// An AES-256 key under RSA-OAEP-SHA-256, and the material under it with AES-KWP
    /// (PKCS #11 `CKM_RSA_AES_KEY_WRAP`).
    RsaAesKwpSha256,
    /// HPKE with X25519.
    HpkeX25519,
    /// HPKE with X25519 and ML-KEM-768 together.
    HpkeX25519MlKem768,
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

impl ImportMechanism {
    /// All mechanisms.
    pub const ALL: [Self; 6] = [
        Self::RsaOaepSha1,
        Self::RsaOaepSha256,
        Self::RsaAesKwpSha1,
        Self::RsaAesKwpSha256,
        Self::HpkeX25519,
        Self::HpkeX25519MlKem768,
    ];

    /// What is done with the RSA key, for mechanisms that have one.
    #[must_use]
    pub const fn oaep(self) -> Option<Mechanism> {
        match self {
            Self::RsaOaepSha1 | Self::RsaAesKwpSha1 => Some(Mechanism::RsaOaepSha1),
            Self::RsaOaepSha256 | Self::RsaAesKwpSha256 => Some(Mechanism::RsaOaepSha256),
            Self::HpkeX25519 | Self::HpkeX25519MlKem768 => None,
        }
    }
}

/// The longest description of imported material, in characters.
pub const MATERIAL_DESCRIPTION_CHARS_MAX: usize = 256;

/// Names import parameters: 16 random bytes.
pub type ImportId = [u8; 16];

/// Material to import.
#[derive(Clone, Debug, Default)]
pub struct NewMaterial {
    /// The material, wrapped as the import parameters say.
    pub wrapped: Vec<u8>,
    /// The parameters it was wrapped with; the newest if absent.
    pub parameters: Option<ImportId>,
    /// The version it is for; the one that it fits if absent.
    pub version: Option<u32>,
    /// It is for one version more, which begins with the next rotation.
    pub for_rotation: bool,
    /// When it ends.
    pub expires: Option<Time>,
    /// For people, at most [`MATERIAL_DESCRIPTION_CHARS_MAX`]; what was said before stays if absent.
    pub description: Option<String>,
}

/// Why material is not imported.
impl NewMaterial {
    /// There are no parameters.
    pub const UNASKED: crate::Error = crate::Error::Conflict("ask for import parameters first");
    /// The parameters that it names were replaced.
    pub const REPLACED: crate::Error = crate::Error::Conflict("newer import parameters replaced these");
    /// The parameters have ended.
    pub const ENDED: crate::Error =
        crate::Error::Conflict("the import parameters have ended; ask for new ones");
    /// Every version has material, or had other material.
    pub const OTHER: crate::Error =
        crate::Error::Conflict("no version awaits this material; a version takes again only what it had");
    /// A version that already has it, or had it, is not rotated to.
    pub const KNOWN: crate::Error = crate::Error::Conflict("a version of this key has this material");
    /// Other material was brought for the next rotation.
    pub const BROUGHT: crate::Error = crate::Error::Conflict("other material awaits the next rotation");
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

macro_rules! operations_of {
    ($self:ident: $($pattern:pat => $operation:ident,)*) => {
        match $self { $($pattern => Operation::$operation,)* }
    };
}

impl Ask {
    /// The operation's row in the table.
    #[must_use]
    pub fn operation(&self) -> Operation {
        operations_of! { self:
            Self::CreateKey(_) => CreateKey,
            Self::ListKeys { .. } => ListKeys,
            Self::DescribeKey { .. } => DescribeKey,
            Self::UpdateKey { .. } => UpdateKey,
            Self::RotateKey { .. } => RotateKey,
            Self::ActivateKey { .. } => ActivateKey,
            Self::SuspendKey { .. } => SuspendKey,
            Self::ResumeKey { .. } => ResumeKey,
            Self::DeactivateKey { .. } => DeactivateKey,
            Self::CompromiseKey { .. } => CompromiseKey,
            Self::ScheduleDestroy { .. } => ScheduleDestroy,
            Self::CancelDestroy { .. } => CancelDestroy,
            Self::DestroyKey { .. } => DestroyKey,
            Self::ImportParameters { .. } => ImportParameters,
            Self::ImportKey { .. } => ImportKey,
            Self::UnloadKey { .. } => UnloadKey,
            Self::ExportKey { .. } => ExportKey,
            Self::PublicKey { .. } => PublicKey,
            Self::LastUse { .. } => LastUse,
            Self::SetAlias { .. } => SetAlias,
            Self::DeleteAlias { .. } => DeleteAlias,
            Self::ListAliases { .. } => ListAliases,
            Self::MoveAlias { .. } => MoveAlias,
            Self::Encrypt { .. } => Encrypt,
            Self::Decrypt { .. } => Decrypt,
            Self::Rewrap { .. } => Rewrap,
            Self::DataKey { with_plaintext: true, .. } => DataKey,
            Self::DataKey { with_plaintext: false, .. } => DataKeyWithoutPlaintext,
            Self::DataKeyPair { with_plaintext: true, .. } => DataKeyPair,
            Self::DataKeyPair { with_plaintext: false, .. } => DataKeyPairWithoutPlaintext,
            Self::Sign { .. } => Sign,
            Self::Verify { .. } => Verify,
            Self::Mac { .. } => Mac,
            Self::VerifyMac { .. } => VerifyMac,
            Self::Wrap { .. } => Wrap,
            Self::Unwrap { .. } => Unwrap,
            Self::Agree { .. } => Agree,
            Self::Encapsulate { .. } => Encapsulate,
            Self::Decapsulate { .. } => Decapsulate,
            Self::Random { .. } => Random,
            Self::CreateGrant(_) => CreateGrant,
            Self::ListGrants { .. } => ListGrants,
            Self::RevokeGrant { .. } => RevokeGrant,
            Self::ListRetirableGrants { .. } => ListRetirableGrants,
            Self::IssueIdentity { .. } => IssueIdentity,
            Self::ListIdentities { .. } => ListIdentities,
            Self::RenewIdentity { .. } => RenewIdentity,
            Self::RevokeIdentity { .. } => RevokeIdentity,
            Self::SetRoles { .. } => SetRoles,
            Self::BindCertificate { .. } => BindCertificate,
            Self::WhoAmI => WhoAmI,
            Self::CreateAccessKey { .. } => CreateAccessKey,
            Self::ListAccessKeys { .. } => ListAccessKeys,
            Self::DisableAccessKey { .. } => DisableAccessKey,
            Self::PutPolicy { .. } => PutPolicy,
            Self::ListPolicies => ListPolicies,
            Self::DeletePolicy { .. } => DeletePolicy,
            Self::DiffPolicy { .. } => DiffPolicy,
            Self::TestPolicy { .. } => TestPolicy,
            Self::WhoCan { .. } => WhoCan,
            Self::PutKeyPolicy { .. } => PutKeyPolicy,
            Self::KeyPolicy { .. } => KeyPolicy,
            Self::ListEntries { .. } => ListEntries,
            Self::Checkpoint => Checkpoint,
            Self::ProveEntry { .. } => ProveEntry,
            Self::ExportLog { .. } => ExportLog,
            Self::CreateTenant { .. } => CreateTenant,
            Self::ListTenants => ListTenants,
            Self::DisableTenant { .. } => DisableTenant,
            Self::EnableTenant { .. } => EnableTenant,
            Self::RotateTenantKey { .. } => RotateTenantKey,
            Self::RotateRoot => RotateRoot,
            Self::Status => Status,
            Self::Seal => Seal,
            Self::Rekey(_) => Rekey,
        }
    }

    /// The key it is about.
    #[must_use]
    pub fn key(&self) -> Option<&KeyRef> {
        match self {
            Self::DescribeKey { key }
            | Self::UpdateKey { key, .. }
            | Self::RotateKey { key }
            | Self::ActivateKey { key, .. }
            | Self::SuspendKey { key, .. }
            | Self::ResumeKey { key, .. }
            | Self::DeactivateKey { key, .. }
            | Self::CompromiseKey { key, .. }
            | Self::ScheduleDestroy { key, .. }
            | Self::CancelDestroy { key, .. }
            | Self::DestroyKey { key, .. }
            | Self::ImportParameters { key, .. }
            | Self::ImportKey { key, .. }
            | Self::UnloadKey { key, .. }
            | Self::ExportKey { key, .. }
            | Self::PublicKey { key, .. }
            | Self::LastUse { key }
            | Self::SetAlias { key, .. }
            | Self::DeleteAlias { key, .. }
            | Self::MoveAlias { key, .. }
            | Self::Encrypt { key, .. }
            | Self::Decrypt { key, .. }
            | Self::Rewrap { key, .. }
            | Self::DataKey { key, .. }
            | Self::DataKeyPair { key, .. }
            | Self::Sign { key, .. }
            | Self::Verify { key, .. }
            | Self::Mac { key, .. }
            | Self::VerifyMac { key, .. }
            | Self::Wrap { key, .. }
            | Self::Unwrap { key, .. }
            | Self::Agree { key, .. }
            | Self::Encapsulate { key }
            | Self::Decapsulate { key, .. }
            | Self::CreateGrant(NewGrant { key, .. })
            | Self::ListGrants { key, .. }
            | Self::RevokeGrant { key, .. }
            | Self::WhoCan { key }
            | Self::PutKeyPolicy { key, .. }
            | Self::KeyPolicy { key } => Some(key),
            Self::CreateKey(_)
            | Self::ListKeys { .. }
            | Self::ListAliases { .. }
            | Self::Random { .. }
            | Self::ListRetirableGrants { .. }
            | Self::IssueIdentity { .. }
            | Self::ListIdentities { .. }
            | Self::RenewIdentity { .. }
            | Self::RevokeIdentity { .. }
            | Self::SetRoles { .. }
            | Self::BindCertificate { .. }
            | Self::WhoAmI
            | Self::CreateAccessKey { .. }
            | Self::ListAccessKeys { .. }
            | Self::DisableAccessKey { .. }
            | Self::PutPolicy { .. }
            | Self::ListPolicies
            | Self::DeletePolicy { .. }
            | Self::DiffPolicy { .. }
            | Self::TestPolicy { .. }
            | Self::ListEntries { .. }
            | Self::Checkpoint
            | Self::ProveEntry { .. }
            | Self::ExportLog { .. }
            | Self::CreateTenant { .. }
            | Self::ListTenants
            | Self::DisableTenant { .. }
            | Self::EnableTenant { .. }
            | Self::RotateTenantKey { .. }
            | Self::RotateRoot
            | Self::Status
            | Self::Seal
            | Self::Rekey(_) => None,
        }
    }

    /// The pairs bound to the ciphertext, for policies and grants.
    #[expect(clippy::wildcard_enum_match_arm, reason = "few variants have one")]
    #[must_use]
    pub fn context(&self) -> &[(String, String)] {
        match self {
            Self::Encrypt { context, .. }
            | Self::Decrypt { context, .. }
            | Self::Rewrap { context, .. }
            | Self::DataKey { context, .. }
            | Self::DataKeyPair { context, .. }
            | Self::TestPolicy { context, .. } => context,
            _ => &[],
        }
    }

    /// The key version the caller names.
    #[expect(clippy::wildcard_enum_match_arm, reason = "few variants have one")]
    #[must_use]
    pub fn version(&self) -> Option<u32> {
        match self {
            Self::ActivateKey { version, .. }
            | Self::SuspendKey { version, .. }
            | Self::ResumeKey { version, .. }
            | Self::DeactivateKey { version, .. }
            | Self::CompromiseKey { version, .. }
            | Self::UnloadKey { version, .. }
            | Self::ExportKey { version, .. }
            | Self::PublicKey { version, .. }
            | Self::Decrypt { version, .. }
            | Self::Verify { version, .. }
            | Self::VerifyMac { version, .. }
            | Self::Unwrap { version, .. }
            | Self::Agree { version, .. }
            | Self::Decapsulate { version, .. } => *version,
            Self::DestroyKey { version, .. } => Some(*version),
            _ => None,
        }
    }
}

/// A use of a key that was done and is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastUse {
    /// What was done.
    pub operation: Operation,
    /// When.
    pub time: Time,
    /// The request.
    pub request: RequestId,
}

/// What a request gave; a dry run gives [`Response::WouldSucceed`]. The source of [`Response::Reencrypted`] is the
/// key and version that had encrypted.
#[allow(missing_docs, reason = "fields repeat the vocabulary of this module")]
pub enum Response {
    Done,
    WouldSucceed,
    Key(Box<Key>),
    Material { key: Box<Key>, version: u32 },
    Keys { keys: Vec<Key>, next: Option<Vec<u8>> },
    Aliases { aliases: Vec<(Alias, AliasOf)>, next: Option<Vec<u8>> },
    ImportParameters { key: KeyId, id: ImportId, public: Vec<u8>, mechanism: ImportMechanism, expires: Time },
    Exported { version: u32, wrapped: Vec<u8> },
    PublicKey { key: KeyId, version: u32, algorithm: Algorithm, usage: Usage, der: Vec<u8> },
    LastUse { key: KeyId, created: Time, since: Time, last: Option<LastUse> },
    Encrypted { key: KeyId, version: u32, iv: Vec<u8>, ciphertext: Vec<u8> },
    Decrypted { key: KeyId, version: u32, plaintext: Secret },
    Reencrypted { source: (KeyId, u32), key: KeyId, version: u32, iv: Vec<u8>, ciphertext: Vec<u8> },
    DataKey { key: KeyId, version: u32, plaintext: Option<Secret>, ciphertext: Vec<u8> },
    DataKeyPair { key: KeyId, version: u32, pair: DataKeyPair },
    Signature { key: KeyId, version: u32, mechanism: Mechanism, signature: Vec<u8> },
    Verified { key: KeyId, version: u32, valid: bool },
    Mac { key: KeyId, version: u32, mechanism: Mechanism, mac: Vec<u8> },
    Wrapped { key: KeyId, version: u32, wrapped: Vec<u8> },
    Unwrapped { key: KeyId, version: u32, material: Secret },
    Shared { key: KeyId, version: u32, origin: Origin, secret: Secret },
    Encapsulated { key: KeyId, version: u32, secret: Secret, encapsulated: Vec<u8> },
    Random(Secret),
    Grant(Box<Grant>),
    Grants { grants: Vec<Grant>, next: Option<Vec<u8>> },
    Identity { principal: Box<Principal>, certificate: String, ca: String },
    Principal(Box<Principal>),
    Identities { principals: Vec<Principal>, next: Option<Vec<u8>> },
    WhoAmI(Box<Caller>),
    AccessKey { id: String, secret: Secret, identity: PrincipalId, session: Option<Session> },
    AccessKeys { keys: Vec<AccessKey>, next: Option<Vec<u8>> },
    Policies(Vec<Policy>),
    PolicyDiff(Vec<Difference>),
    PolicyTest { allowed: bool, by: Vec<String> },
    WhoCan(Vec<Ability>),
    KeyPolicy { key: KeyId, document: Option<String>, closed: bool, text: Option<String> },
    Entries { first: u64, entries: Vec<(u64, Vec<u8>)>, next: Option<u64> },
    Checkpoint(String),
    Proof { index: u64, size: u64, entry: Vec<u8>, hashes: Vec<crate::log::Hash>, checkpoint: String },
    LogFile(Vec<u8>),
    Tenant { tenant: Box<Tenant>, admin: Box<Principal>, certificate: String, ca: String },
    Tenants(Vec<Tenant>),
    Rewrapped { rows: u64 },
    Status(Box<Status>),
    RekeyShares(Vec<Secret>),
    RekeyProgress { proved: u8, needed: u8, done: bool },
}

/// What a temporary access key is good for, and until when.
pub struct Session {
    /// To be sent with every request, beside its signature.
    pub token: Secret,
    /// When it ends.
    pub end: Time,
}

/// A key pair that a key protects.
pub struct DataKeyPair {
    /// `SubjectPublicKeyInfo` in DER.
    pub public: Vec<u8>,
    /// `PrivateKeyInfo` in DER, if it was asked for.
    pub private: Option<Secret>,
    /// The same, encrypted.
    pub ciphertext: Vec<u8>,
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

/// One difference that a change of policies would make.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Difference {
    pub principal: PrincipalId,
    pub name: Name,
    pub operation: Operation,
    /// `None` for operations on the tenant.
    pub key: Option<KeyId>,
    pub gains: bool,
}

/// Who can do what with a key, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Ability {
    pub principal: PrincipalId,
    pub name: Name,
    pub operation: Operation,
    /// Names of policies, `role:NAME`, or `grant:ID`.
    pub by: Vec<String>,
}

/// The server's state, as far as the caller may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Status {
    pub version: &'static str,
    pub sealed: bool,
    pub seal_kind: &'static str,
    /// Shares given so far, and needed.
    pub unseal_progress: Option<(u8, u8)>,
    /// These three speak of all tenants: they are for callers of the platform tenant.
    pub keys: Option<u64>,
    pub log_size: Option<u64>,
    pub epoch: Option<u64>,
    pub clock_steady: bool,
    pub development: bool,
}
