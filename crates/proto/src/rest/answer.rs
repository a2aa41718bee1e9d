//! What answers say. The server writes these types, clients read them, and their comments are the
//! descriptions in OpenAPI. A reader ignores members it does not know; members without a value are `null`.

use keyhearth_core::entry;
use keyhearth_core::id::{Alias, DeploymentId, GrantId, KeyId, Name, PrincipalId, RequestId, TenantId};
use keyhearth_core::key::Origin;
use keyhearth_core::operation::Operation;
use keyhearth_core::principal::{Fingerprint, Role};
use keyhearth_core::request::ImportMechanism;
use keyhearth_core::secret::SecretName;
use keyhearth_core::state::State;
use keyhearth_core::time::Time;
use keyhearth_crypto::algorithm::{Algorithm, Mechanism};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::body::{Cryptoperiod, Switches};
use super::spelling::{Bytes, Cursor, Is, Pairs, SecretText, Use};

/// Secret text of any length.
pub type Secret = SecretText<{ usize::MAX }>;

macro_rules! answers {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }
    )*};
}

mod machine;

pub use machine::*;

answers! {
    /// It is done.
    #[derive(Copy)]
    Done {}

    /// A key and its versions, without material.
    Key {
        /// Its id.
        id: Is<KeyId>,
        /// Its tenant.
        tenant: Is<TenantId>,
        /// What it is.
        algorithm: Is<Algorithm>,
        /// What it may be used for.
        usage: Vec<Is<Use>>,
        /// Whether its material may ever leave the server.
        exportable: bool,
        /// Where its material comes from.
        origin: Is<Origin>,
        /// When it was made.
        created: Is<Time>,
        /// Who made it.
        creator: Is<PrincipalId>,
        /// For people.
        description: String,
        /// For policies and people.
        tags: Pairs,
        /// The version that protects.
        primary: u32,
        /// All versions, by number.
        versions: Vec<Version>,
        /// Exceptions to the table of states.
        switches: Switches,
        /// For new versions.
        cryptoperiod: Cryptoperiod,
        /// Automatic rotation, if there is.
        rotation: Option<Rotation>,
        /// When it will be destroyed, unless that is cancelled.
        destroy_at: Option<Is<Time>>,
        /// Its aliases.
        aliases: Vec<Is<Alias>>,
        /// Since when the key as a whole is suspended, if it is.
        suspended: Option<Is<Time>>,
        /// Of what policies allow on it, only what its own policy allows counts.
        closed: bool,
    }

    /// One version of a key.
    Version {
        /// Its number.
        number: u32,
        /// Its state.
        state: Is<State>,
        /// When it was made.
        created: Is<Time>,
        /// When it becomes, or became, active.
        activation: Option<Is<Time>>,
        /// From here on it protects nothing.
        protect_end: Option<Is<Time>>,
        /// From here on it is not used at all.
        process_end: Option<Is<Time>>,
        /// When it was reported compromised.
        compromised: Option<Is<Time>>,
        /// When its material was deleted.
        destroyed: Option<Is<Time>>,
        /// Whether there is material; not before an import, and not while imported material is unloaded.
        has_material: bool,
        /// When its imported material ends, if it does.
        expires: Option<Is<Time>>,
        /// What its owner says of its imported material.
        description: Option<String>,
        /// Whether the schedule made it; otherwise somebody asked for it.
        automatic: bool,
    }

    /// Automatic rotation.
    Rotation {
        /// Days from one to the next.
        every_days: u32,
        /// When the next one is due.
        next: Is<Time>,
    }

    /// A page of keys.
    Keys {
        /// The keys.
        keys: Vec<Key>,
        /// Where the next page begins; `null` at the end.
        next: Option<Is<Cursor>>,
    }

    /// An alias and its key.
    AliasOf {
        /// The alias.
        alias: Is<Alias>,
        /// The key it points at.
        key: Is<KeyId>,
        /// When it was made; `null` if that is not known.
        created: Option<Is<Time>>,
        /// When it began to point at this key.
        updated: Option<Is<Time>>,
    }

    /// A page of aliases.
    Aliases {
        /// The aliases.
        aliases: Vec<AliasOf>,
        /// Where the next page begins; `null` at the end.
        next: Option<Is<Cursor>>,
    }

    /// A secret, without its value.
    KeptSecret {
        /// Its name.
        name: Is<SecretName>,
        /// The key that it is kept under.
        key: Is<KeyId>,
        /// The version of it that encrypted the value.
        version: u32,
        /// When it was kept.
        created: Is<Time>,
    }

    /// The value of a secret.
    SecretValue {
        /// The key that it is kept under.
        key: Is<KeyId>,
        /// The version of it that encrypted the value.
        version: u32,
        /// The value.
        value: Bytes,
    }

    /// A page of secrets.
    Secrets {
        /// The secrets.
        secrets: Vec<KeptSecret>,
        /// Where the next page begins; `null` at the end.
        next: Option<Is<Cursor>>,
    }

    /// A public key to wrap material with for import.
    ImportParameters {
        /// Names these parameters when material is imported.
        id: Bytes,
        /// The public key, as SubjectPublicKeyInfo in DER, or raw for HPKE.
        public: Bytes,
        /// How to wrap.
        mechanism: Is<ImportMechanism>,
        /// Until when it can be used.
        expires: Is<Time>,
    }

    /// Exported material.
    Exported {
        /// Number of the version.
        version: u32,
        /// The material, wrapped to the recipient.
        wrapped: Bytes,
    }

    /// The public half of a version.
    PublicKey {
        /// The key.
        key: Is<KeyId>,
        /// Number of the version.
        version: u32,
        /// What it is.
        algorithm: Is<Algorithm>,
        /// SubjectPublicKeyInfo in DER.
        der: Bytes,
    }

    /// The last use of a key that was done and is in the log.
    LastUse {
        /// The key.
        key: Is<KeyId>,
        /// When the key was made.
        created: Is<Time>,
        /// Uses are remembered from here on.
        since: Is<Time>,
        /// What was done; `null` if it was not used since then.
        operation: Option<Is<Operation>>,
        /// When.
        time: Option<Is<Time>>,
        /// The request.
        request_id: Option<Is<RequestId>>,
    }

    /// A ciphertext.
    Encrypted {
        /// The key.
        key: Is<KeyId>,
        /// The version that encrypted.
        version: u32,
        /// The IV, empty where the ciphertext holds it.
        iv: Bytes,
        /// The ciphertext.
        ciphertext: Bytes,
    }

    /// A ciphertext that was made of another.
    Rewrapped {
        /// The key that had encrypted the other.
        source: Is<KeyId>,
        /// The version that had encrypted the other.
        source_version: u32,
        /// The key.
        key: Is<KeyId>,
        /// The version that encrypted.
        version: u32,
        /// The IV, empty where the ciphertext holds it.
        iv: Bytes,
        /// The ciphertext.
        ciphertext: Bytes,
    }

    /// A plaintext.
    Decrypted {
        /// The key.
        key: Is<KeyId>,
        /// The version that had encrypted.
        version: u32,
        /// The plaintext.
        plaintext: Bytes,
    }

    /// A data key.
    DataKey {
        /// The key.
        key: Is<KeyId>,
        /// The version that encrypted.
        version: u32,
        /// The data key; `null` if it was not asked for.
        plaintext: Option<Bytes>,
        /// The data key, encrypted. Keep it beside the data.
        ciphertext: Bytes,
    }

    /// A key pair.
    DataKeyPair {
        /// The key.
        key: Is<KeyId>,
        /// The version that encrypted.
        version: u32,
        /// The public half: SubjectPublicKeyInfo in DER.
        public: Bytes,
        /// The private half, PrivateKeyInfo in DER; `null` if it was not asked for.
        private: Option<Bytes>,
        /// The private half, encrypted.
        ciphertext: Bytes,
    }

    /// A signature.
    Signature {
        /// The key.
        key: Is<KeyId>,
        /// The version that signed.
        version: u32,
        /// How.
        mechanism: Is<Mechanism>,
        /// The signature.
        signature: Bytes,
    }

    /// Whether a signature or a message authentication code is right.
    Verified {
        /// The key.
        key: Is<KeyId>,
        /// The version that verified.
        version: u32,
        /// Whether it is right.
        valid: bool,
    }

    /// A message authentication code.
    Mac {
        /// The key.
        key: Is<KeyId>,
        /// The version that made it.
        version: u32,
        /// How.
        mechanism: Is<Mechanism>,
        /// The message authentication code.
        mac: Bytes,
    }

    /// Wrapped key material.
    Wrapped {
        /// The key.
        key: Is<KeyId>,
        /// The version that wrapped.
        version: u32,
        /// The wrapped material.
        wrapped: Bytes,
    }

    /// Unwrapped key material.
    Unwrapped {
        /// The key.
        key: Is<KeyId>,
        /// The version that had wrapped.
        version: u32,
        /// The material.
        material: Bytes,
    }

    /// A shared secret.
    Shared {
        /// The key.
        key: Is<KeyId>,
        /// The version that was used.
        version: u32,
        /// The secret. Derive keys from it; do not use it as one.
        secret: Bytes,
    }

    /// The product of a point and a key.
    Exchanged {
        /// The key.
        key: Is<KeyId>,
        /// The version that was used.
        version: u32,
        /// The product, 133 bytes: 4, then its coordinates.
        point: Bytes,
    }

    /// A shared secret and its encapsulation.
    Encapsulated {
        /// The key.
        key: Is<KeyId>,
        /// The version that was used.
        version: u32,
        /// The secret.
        secret: Bytes,
        /// Its encapsulation, for the holder of the private key.
        encapsulated: Bytes,
    }

    /// Random bytes.
    Random {
        /// The bytes.
        bytes: Bytes,
    }

    /// A grant.
    Grant {
        /// Its id.
        id: Is<GrantId>,
        /// The key.
        key: Is<KeyId>,
        /// Who receives.
        grantee: Is<PrincipalId>,
        /// Who gave.
        grantor: Is<PrincipalId>,
        /// What it may do with the key.
        operations: Vec<Is<Operation>>,
        /// Pairs that the context of its requests must contain.
        context: Pairs,
        /// When it ends.
        expires: Option<Is<Time>>,
        /// Whether the grantee may pass it on.
        delegable: bool,
        /// The grant it was made from.
        parent: Option<Is<GrantId>>,
        /// When it was made.
        created: Is<Time>,
        /// Its grantor's name for it.
        name: Option<String>,
        /// The pairs that the context of its requests must be.
        exact_context: Option<Pairs>,
        /// Who else may revoke it.
        retiree: Option<Is<PrincipalId>>,
    }

    /// A page of grants.
    Grants {
        /// The grants.
        grants: Vec<Grant>,
        /// Where the next page begins; `null` at the end.
        next: Option<Is<Cursor>>,
    }

    /// An identity.
    Identity {
        /// Its id.
        id: Is<PrincipalId>,
        /// Its tenant.
        tenant: Is<TenantId>,
        /// Its name.
        name: Is<Name>,
        /// What it may do by template.
        roles: Vec<Is<Role>>,
        /// When it was made.
        created: Is<Time>,
        /// When it was revoked.
        revoked: Option<Is<Time>>,
        /// SHA-256 of the certificates it may present, newest last.
        certificates: Vec<Is<Fingerprint>>,
    }

    /// An identity with its new certificate.
    IssuedIdentity {
        /// The identity.
        identity: Identity,
        /// Its certificate as PEM.
        certificate: String,
        /// The certificate of the server's CA as PEM.
        ca: String,
    }

    /// A page of identities.
    Identities {
        /// The identities.
        identities: Vec<Identity>,
        /// Where the next page begins; `null` at the end.
        next: Option<Is<Cursor>>,
    }

    /// Who is calling.
    WhoAmI {
        /// The identity.
        identity: Is<PrincipalId>,
        /// Its tenant.
        tenant: Is<TenantId>,
        /// Its name.
        name: Is<Name>,
        /// What it may do by template.
        roles: Vec<Is<Role>>,
        /// SHA-256 of the certificate that proved it; `null` with an access key, and for the operator on the
        /// machine itself.
        certificate: Option<Is<Fingerprint>>,
        /// The id of the access key that proved it.
        access_key: Option<String>,
        /// The address the request came from.
        address: String,
    }

    /// A new access key. Its secret is never shown again.
    IssuedAccessKey {
        /// Its public id.
        id: String,
        /// Its secret.
        secret: Secret,
        /// Whose it is.
        identity: Is<PrincipalId>,
        /// The session token that goes with a temporary one.
        session_token: Option<Secret>,
        /// When it ends, if it is temporary.
        end: Option<Is<Time>>,
    }

    /// An access key, without its secret.
    AccessKey {
        /// Its public id.
        id: String,
        /// Whose it is.
        identity: Is<PrincipalId>,
        /// When it was made.
        created: Is<Time>,
        /// When it was disabled.
        disabled: Option<Is<Time>>,
        /// When it ends, if it is temporary.
        end: Option<Is<Time>>,
    }

    /// A page of access keys.
    AccessKeys {
        /// The access keys.
        access_keys: Vec<AccessKey>,
        /// Where the next page begins; `null` at the end.
        next: Option<Is<Cursor>>,
    }

    /// A policy in force.
    PolicyInForce {
        /// Its name.
        name: Is<Name>,
        /// Cedar policy text.
        text: String,
        /// Since when.
        activated: Is<Time>,
    }

    /// All policies of the tenant.
    Policies {
        /// The policies.
        policies: Vec<PolicyInForce>,
    }

    /// One difference that a change of policies makes.
    Difference {
        /// The identity.
        identity: Is<PrincipalId>,
        /// Its name.
        name: Is<Name>,
        /// What it could or could no longer do.
        operation: Is<Operation>,
        /// On which key; `null` for operations on the tenant.
        key: Option<Is<KeyId>>,
        /// Whether it gains it; otherwise it loses it.
        gains: bool,
    }

    /// What a change of policies makes different.
    PolicyDiff {
        /// The differences.
        differences: Vec<Difference>,
    }

    /// What the policies decide.
    PolicyTest {
        /// Whether it would be allowed.
        allowed: bool,
        /// Names of the policies, `role:NAME` or `grant:ID`, that decide.
        by: Vec<String>,
    }

    /// Something that somebody can do with a key.
    Ability {
        /// The identity.
        identity: Is<PrincipalId>,
        /// Its name.
        name: Is<Name>,
        /// What it can do.
        operation: Is<Operation>,
        /// Names of the policies, `role:NAME` or `grant:ID`, that allow it.
        by: Vec<String>,
    }

    /// Who can do what with a key.
    WhoCan {
        /// Who, what and why.
        abilities: Vec<Ability>,
    }

    /// A key's own policy.
    KeyPolicyInForce {
        /// The key.
        key: Is<KeyId>,
        /// Cedar policy text.
        text: Option<String>,
        /// Of what policies allow on the key, only what this one allows counts.
        closed: bool,
        /// What the text was translated from.
        document: Option<String>,
    }

    /// One log entry: who did what to which key, how that was decided, and what came of it.
    Entry {
        /// Its place in the log.
        index: u64,
        /// When, by the server's clock.
        time: Is<Time>,
        /// Counts starts of the server.
        incarnation: u64,
        /// The request.
        request_id: Is<RequestId>,
        /// The caller's tenant.
        tenant: Is<TenantId>,
        /// The caller; `null` if nobody proved to be anyone.
        actor: Option<Is<PrincipalId>>,
        /// The caller's name at that time.
        actor_name: Option<Is<Name>>,
        /// The first 8 bytes of the SHA-256 of its certificate, as hexadecimal.
        certificate: Option<String>,
        /// The id of the access key that it signed with.
        access_key: Option<String>,
        /// Its address.
        address: Option<String>,
        /// The operation's name; `operation-NUMBER` if this server does not know it.
        operation: String,
        /// The key.
        key: Option<Is<KeyId>>,
        /// The key version.
        version: Option<u32>,
        /// How it ended.
        result: Is<entry::Result>,
        /// The error's code, unless done.
        error: Option<String>,
        /// Names of the policies, `role:NAME` or `grant:ID`, that decided.
        by: Vec<String>,
        /// HMAC of the ciphertext's context as hexadecimal; equal contexts of a tenant have equal values.
        context: Option<String>,
        /// The reason the caller gave.
        reason: Option<String>,
        /// What else a reader needs.
        detail: Option<String>,
        /// For how long the caller said it would keep what it opens and use it without asking, in seconds.
        lease_seconds: Option<u32>,
        /// Until when it may, if it was given out.
        held_until: Option<Is<Time>>,
    }

    /// A log entry as it lies in the log.
    LoggedEntry {
        /// Its place in the log.
        index: u64,
        /// Its bytes, which the log's hashes cover.
        bytes: Bytes,
        /// What the bytes say; `null` if this server cannot read them.
        entry: Option<Entry>,
    }

    /// A page of the log.
    Entries {
        /// Where the page begins.
        first: u64,
        /// The tenant's entries.
        entries: Vec<LoggedEntry>,
        /// Where the next page begins; `null` at the end.
        next: Option<u64>,
    }

    /// A signed checkpoint of the log.
    Checkpoint {
        /// The checkpoint as a signed note (C2SP tlog-checkpoint).
        checkpoint: String,
    }

    /// Proof that an entry is in the log.
    InclusionProof {
        /// The entry's place.
        index: u64,
        /// The size of the tree it is proved in.
        size: u64,
        /// The entry's bytes.
        entry: Bytes,
        /// The siblings on the way to the root, from below (RFC 6962 §2.1.1).
        hashes: Vec<Bytes>,
        /// The signed checkpoint of that tree.
        checkpoint: String,
    }

    /// A tenant.
    Tenant {
        /// Its id.
        id: Is<TenantId>,
        /// Its name.
        name: Is<Name>,
        /// When it was made.
        created: Is<Time>,
        /// Since when its keys are not used.
        disabled: Option<Is<Time>>,
    }

    /// A new tenant, its first administrator, and the administrator's certificate.
    IssuedTenant {
        /// The tenant.
        tenant: Tenant,
        /// The administrator.
        admin: Identity,
        /// The administrator's certificate as PEM.
        certificate: String,
        /// The certificate of the server's CA as PEM.
        ca: String,
    }

    /// All tenants.
    Tenants {
        /// The tenants.
        tenants: Vec<Tenant>,
    }

    /// What a rotation wrapped anew.
    Rotated {
        /// Number of records.
        rows: u64,
    }

    /// The server's state, as far as the caller may see it.
    Status {
        /// The server's version.
        version: String,
        /// Whether it is sealed.
        sealed: bool,
        /// What opens the seal.
        seal_kind: String,
        /// Shares given so far, while it is being unsealed.
        shares_given: Option<u8>,
        /// Shares needed, while it is being unsealed.
        shares_needed: Option<u8>,
        /// Number of keys of all tenants; for the platform tenant.
        keys: Option<u64>,
        /// Number of log entries; for the platform tenant.
        log_size: Option<u64>,
        /// Counts changes; for the platform tenant.
        epoch: Option<u64>,
        /// This deployment; not while sealed.
        deployment: Option<Is<DeploymentId>>,
        /// The public half of the key that signs releases to machines that boot; not while sealed.
        release_key: Option<Bytes<32>>,
        /// Whether the wall clock behaves.
        clock_steady: bool,
        /// Whether this is a development server, which protects nothing.
        development: bool,
        /// What precedes a key's id in its ARN; `null` where the AWS KMS API is not served.
        key_arn_prefix: Option<String>,
    }

    /// What a step of replacing the shares or the passphrase gave; nothing where it was cancelled.
    Rekeying {
        /// The new shares, one for each custodian; only in the answer that makes them.
        shares: Option<Vec<Secret>>,
        /// How many are proved.
        proved: Option<u8>,
        /// How many must be.
        needed: Option<u8>,
        /// Whether the old ones are dead.
        done: Option<bool>,
    }

    /// Whether a health endpoint's question is answered with yes.
    Health {
        /// Yes or no.
        ok: bool,
        /// Whether the server is sealed, if that is why not.
        sealed: Option<bool>,
    }
}
