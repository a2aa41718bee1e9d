//! What a request gives.

use keyhearth_crypto::algorithm::{Algorithm, Mechanism};

use super::{ImportId, ImportMechanism, Secret};
use crate::grant::Grant;
use crate::id::{Alias, DeploymentId, KeyId, Name, PrincipalId, RequestId};
use crate::key::{AliasOf, Key, Origin, Usage};
use crate::machine::{Approval, Machine, Outlook};
use crate::operation::Operation;
use crate::policy::Policy;
use crate::principal::{AccessKey, Caller, Principal};
use crate::secret::{KeptSecret, SecretName};
use crate::tenant::Tenant;
use crate::time::Time;

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

/// What a request gave; a dry run gives [`Response::WouldSucceed`]. The source of [`Response::Rewrapped`] is the
/// key and version that had encrypted.
#[allow(missing_docs, reason = "fields repeat the vocabulary of this module")]
pub enum Response {
    Done,
    WouldSucceed,
    Key(Box<Key>),
    Material {
        key: Box<Key>,
        version: u32,
    },
    Keys {
        keys: Vec<Key>,
        next: Option<Vec<u8>>,
    },
    Aliases {
        aliases: Vec<(Alias, AliasOf)>,
        next: Option<Vec<u8>>,
    },
    ImportParameters {
        key: KeyId,
        id: ImportId,
        public: Vec<u8>,
        mechanism: ImportMechanism,
        expires: Time,
    },
    Exported {
        version: u32,
        wrapped: Vec<u8>,
    },
    PublicKey {
        key: KeyId,
        version: u32,
        algorithm: Algorithm,
        usage: Usage,
        der: Vec<u8>,
    },
    LastUse {
        key: KeyId,
        created: Time,
        since: Time,
        last: Option<LastUse>,
    },
    Encrypted {
        key: KeyId,
        version: u32,
        iv: Vec<u8>,
        ciphertext: Vec<u8>,
    },
    Decrypted {
        key: KeyId,
        version: u32,
        plaintext: Secret,
    },
    Rewrapped {
        source: (KeyId, u32),
        key: KeyId,
        version: u32,
        iv: Vec<u8>,
        ciphertext: Vec<u8>,
    },
    DataKey {
        key: KeyId,
        version: u32,
        plaintext: Option<Secret>,
        ciphertext: Vec<u8>,
    },
    DataKeyPair {
        key: KeyId,
        version: u32,
        pair: DataKeyPair,
    },
    Signature {
        key: KeyId,
        version: u32,
        mechanism: Mechanism,
        signature: Vec<u8>,
    },
    Verified {
        key: KeyId,
        version: u32,
        valid: bool,
    },
    Mac {
        key: KeyId,
        version: u32,
        mechanism: Mechanism,
        mac: Vec<u8>,
    },
    Wrapped {
        key: KeyId,
        version: u32,
        wrapped: Vec<u8>,
    },
    Unwrapped {
        key: KeyId,
        version: u32,
        material: Secret,
    },
    Shared {
        key: KeyId,
        version: u32,
        origin: Origin,
        secret: Secret,
    },
    Encapsulated {
        key: KeyId,
        version: u32,
        secret: Secret,
        encapsulated: Vec<u8>,
    },
    Exchanged {
        key: KeyId,
        version: u32,
        point: Vec<u8>,
    },
    SecretKept {
        name: SecretName,
        secret: Box<KeptSecret>,
    },
    SecretValue {
        key: KeyId,
        version: u32,
        value: Secret,
    },
    Secrets {
        secrets: Vec<(SecretName, KeptSecret)>,
        next: Option<Vec<u8>>,
    },
    VolumeSecret {
        key: KeyId,
        version: u32,
        generation: u32,
        secret: Secret,
    },
    Released {
        machine: Box<Machine>,
        volumes: Vec<(Name, u32, Secret)>,
        outlook: Option<Outlook>,
    },
    /// `clone` is new: the secret of its volume, and of its image's the one that opens it until then.
    Cloned {
        clone: Box<Machine>,
        secret: Secret,
        recovery: Option<Secret>,
        volumes: Vec<(Name, u32, Secret)>,
    },
    Machine(Box<Machine>),
    Machines {
        machines: Vec<Machine>,
        next: Option<Vec<u8>>,
    },
    Approval(Box<Approval>),
    Approvals {
        approvals: Vec<Approval>,
        next: Option<Vec<u8>>,
    },
    Confirmed {
        token: Secret,
    },
    Settled,
    Random(Secret),
    Grant(Box<Grant>),
    Grants {
        grants: Vec<Grant>,
        next: Option<Vec<u8>>,
    },
    Identity {
        principal: Box<Principal>,
        certificate: String,
        ca: String,
    },
    Principal(Box<Principal>),
    Identities {
        principals: Vec<Principal>,
        next: Option<Vec<u8>>,
    },
    WhoAmI(Box<Caller>),
    AccessKey {
        id: String,
        secret: Secret,
        identity: PrincipalId,
        session: Option<Session>,
    },
    AccessKeys {
        keys: Vec<AccessKey>,
        next: Option<Vec<u8>>,
    },
    Policies(Vec<Policy>),
    PolicyDiff(Vec<Difference>),
    PolicyTest {
        allowed: bool,
        by: Vec<String>,
    },
    WhoCan(Vec<Ability>),
    KeyPolicy {
        key: KeyId,
        document: Option<String>,
        closed: bool,
        text: Option<String>,
    },
    Entries {
        first: u64,
        entries: Vec<(u64, Vec<u8>)>,
        next: Option<u64>,
    },
    Checkpoint(String),
    Proof {
        index: u64,
        size: u64,
        entry: Vec<u8>,
        hashes: Vec<crate::log::Hash>,
        checkpoint: String,
    },
    LogFile(Vec<u8>),
    Tenant {
        tenant: Box<Tenant>,
        admin: Box<Principal>,
        certificate: String,
        ca: String,
    },
    Tenants(Vec<Tenant>),
    Rotated {
        rows: u64,
    },
    Status(Box<Status>),
    RekeyShares(Vec<Secret>),
    RekeyProgress {
        proved: u8,
        needed: u8,
        done: bool,
    },
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
    /// This deployment, and the public half of the key that signs releases to machines that boot; not while sealed.
    pub release: Option<(DeploymentId, [u8; 32])>,
    pub clock_steady: bool,
    pub development: bool,
    /// What precedes a key's id in its ARN, where the AWS KMS API is served.
    pub key_arn_prefix: Option<String>,
}
