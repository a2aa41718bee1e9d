//! What requests say in their bodies. The same types are written by clients and read by the server, and
//! their comments are the descriptions in OpenAPI.
//!
//! Every structure refuses members it does not know, members given twice, and arrays in its place.

use keyhearth_core::grant::GRANT_NAME_BYTES_MAX;
use keyhearth_core::id::{Alias, GrantId, KeyId, Name, PrincipalId};
use keyhearth_core::key::DESCRIPTION_BYTES_MAX;
use keyhearth_core::machine::REFERENCE_BYTES_MAX;
use keyhearth_core::operation::Operation;
use keyhearth_core::policy::POLICY_BYTES_MAX;
use keyhearth_core::principal::{Fingerprint, Role};
use keyhearth_core::principal::{SESSION_MINUTES_MAX, SESSION_MINUTES_MIN};
use keyhearth_core::request::{
    ImportMechanism, KeyRef, LEASE_SECONDS_MAX, MATERIAL_DESCRIPTION_CHARS_MAX, PLAINTEXT_BYTES_MAX,
};
use keyhearth_core::secret::SecretName;
use keyhearth_core::time::Time;
use keyhearth_crypto::algorithm::{Algorithm, Mechanism};
use keyhearth_crypto::key::{HMAC_BYTES_MAX, IMPORT_BYTES_MAX};
use keyhearth_crypto::{keywrap, kh1, passphrase, shamir};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::spelling::{AccessKeyId, Bytes, Is, Object, Pairs, SecretText, Text, Use, Within};

/// The longest ciphertext: the longest plaintext and what KH1 adds.
pub const CIPHERTEXT_BYTES_MAX: usize = PLAINTEXT_BYTES_MAX + kh1::OVERHEAD_BYTES;
/// The longest certificate or certificate request, as PEM.
pub const PEM_BYTES_MAX: usize = 16 * 1024;
/// The longest signature; the longest there is, ML-DSA-87, has 4,627 bytes.
pub const SIGNATURE_BYTES_MAX: usize = 8 * 1024;
/// The longest public key, encapsulation or wrapped key.
pub const PUBLIC_BYTES_MAX: usize = 16 * 1024;
/// The longest secret of an access key.
pub const ACCESS_SECRET_BYTES_MAX: usize = 256;

/// Number of a key version.
pub type Number = Within<1, { u32::MAX }>;
/// Days of a period.
pub type Days = Within<1, 3650>;
/// Minutes of a temporary access key.
pub type Minutes = Within<SESSION_MINUTES_MIN, SESSION_MINUTES_MAX>;
/// How long what was opened is kept and used without the server, in seconds.
pub type Lease = Within<0, LEASE_SECONDS_MAX>;
/// What is encrypted, signed or authenticated.
pub type Plaintext = Bytes<PLAINTEXT_BYTES_MAX>;
/// What was encrypted.
pub type Ciphertext = Bytes<CIPHERTEXT_BYTES_MAX>;

/// A structure that is the body of a request.
pub trait Body: for<'de> Deserialize<'de> {
    /// The names of its members.
    const MEMBERS: &'static [&'static str];
}

macro_rules! bodies {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

        impl Body for $name {
            const MEMBERS: &'static [&'static str] = &[$(stringify!($field)),*];
        }
    )*};
}

bodies! {
    /// Nothing: an empty body or an empty object.
    #[derive(Copy, Default)]
    Nothing {}

    /// What a new key is to be.
    NewKey {
        /// Algorithm. Fixed for ever.
        algorithm: Is<Algorithm>,
        /// What it may be used for; what is usual for the algorithm if absent. Fixed for ever.
        usage: Option<Vec<Is<Use>>>,
        /// Whether its material may ever leave the server; not if absent. Fixed for ever.
        exportable: Option<bool>,
        /// Whether its material is to be imported instead of made; not if absent.
        import: Option<bool>,
        /// For people.
        description: Option<Text<DESCRIPTION_BYTES_MAX>>,
        /// For policies and people.
        tags: Option<Pairs>,
        /// An alias to make with it.
        alias: Option<Is<Alias>>,
        /// When it becomes active; at once if absent.
        activation: Option<Is<Time>>,
        /// For its versions.
        cryptoperiod: Option<Object<Cryptoperiod>>,
        /// Days between automatic rotations; none if absent.
        rotate_days: Option<Days>,
        /// Its own policy; none if absent. Needs the right to set one.
        policy: Option<Object<KeyPolicy>>,
    }

    /// A key's own policy. Without anything in it, the key has none.
    #[derive(Default)]
    KeyPolicy {
        /// Cedar policy text in which the key is `Keyhearth::Key::"this"`, and nothing else is a resource.
        text: Option<Text<POLICY_BYTES_MAX>>,
        /// Of what policies allow on the key, only what this one allows counts; grants count too. Not if absent.
        closed: Option<bool>,
    }

    /// How long versions protect and process, counted from their activation.
    #[derive(Copy, Default)]
    Cryptoperiod {
        /// After so many days a version protects nothing more.
        protect_days: Option<Days>,
        /// After so many days a version is not used at all.
        process_days: Option<Days>,
    }

    /// Exceptions to the table of states.
    #[derive(Copy)]
    Switches {
        /// A suspended version still decrypts and verifies.
        process_when_suspended: bool,
        /// A compromised version still decrypts and verifies, to recover data: each use states a reason.
        process_when_compromised: bool,
    }

    /// Changes of a key; what is absent stays as it is.
    #[derive(Default)]
    KeyChange {
        /// For people.
        description: Option<Text<DESCRIPTION_BYTES_MAX>>,
        /// All tags anew.
        tags: Option<Pairs>,
        /// Single tags, after `tags`: set to a value, or removed with `null`.
        set_tags: Option<Pairs<Option<String>>>,
        /// Exceptions to the table of states.
        switches: Option<Object<Switches>>,
        /// For versions made from now on.
        cryptoperiod: Option<Object<Cryptoperiod>>,
        /// Days between automatic rotations; `null` ends them.
        #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
        rotate_days: Option<Option<Days>>,
    }

    /// A version of the key; the primary one if absent.
    #[derive(Copy, Default)]
    OfVersion {
        /// Number of the version.
        version: Option<Number>,
    }

    /// The key, or one version of it.
    #[derive(Copy, Default)]
    KeyOrVersion {
        /// Number of the version; the key as a whole if absent.
        version: Option<Number>,
    }

    /// How a scheduled destruction is cancelled.
    #[derive(Copy, Default)]
    Cancellation {
        /// Leave the key suspended; not if absent.
        suspend: Option<bool>,
    }

    /// When a key is to be destroyed.
    #[derive(Copy, Default)]
    Schedule {
        /// Days from now; 30 if absent.
        days: Option<Within<7, 30>>,
    }

    /// Which version to destroy at once.
    Destruction {
        /// Number of the version.
        version: Number,
        /// The key's id again, so that nobody does it by mistake.
        confirm: Is<KeyId>,
    }

    /// How material will be imported.
    ImportTerms {
        /// How it will be wrapped.
        mechanism: Is<ImportMechanism>,
        /// The algorithm of the RSA key that wraps, for mechanisms that have one; rsa-3072 if absent.
        wrapping: Option<Is<Algorithm>>,
    }

    /// Material to import.
    Import {
        /// The material, wrapped as the import parameters say.
        wrapped: Bytes<PUBLIC_BYTES_MAX>,
        /// The id of the parameters it was wrapped with; the newest if absent.
        parameters: Option<Bytes<16>>,
        /// The version it is for; the one that it fits if absent.
        version: Option<Number>,
        /// Whether it is for one version more, which begins with the next rotation; not if absent.
        for_rotation: Option<bool>,
        /// When it ends: from then on it is not used, and deleted.
        expires: Option<Is<Time>>,
        /// For people; what was said before stays if absent.
        description: Option<Text<{ 4 * MATERIAL_DESCRIPTION_CHARS_MAX }>>,
    }

    /// How material is to be exported.
    Export {
        /// Number of the version; the primary one if absent.
        version: Option<Number>,
        /// How to wrap it.
        mechanism: Is<ImportMechanism>,
        /// The recipient's public key, as SubjectPublicKeyInfo in DER, or raw for HPKE.
        recipient: Bytes<PUBLIC_BYTES_MAX>,
    }

    /// What to encrypt.
    Encrypt {
        /// How; the best for the key if absent.
        mechanism: Option<Is<Mechanism>>,
        /// Pairs that are bound to the ciphertext and must be given again to decrypt.
        context: Option<Pairs>,
        /// The plaintext.
        plaintext: Plaintext,
    }

    /// What to decrypt.
    Decrypt {
        /// How it was encrypted; the best for the key if absent.
        mechanism: Option<Is<Mechanism>>,
        /// The version that encrypted it, for mechanisms that do not say it in the ciphertext.
        version: Option<Number>,
        /// The IV, for mechanisms that do not keep it in the ciphertext.
        iv: Option<Bytes<16>>,
        /// The pairs that were given to encrypt.
        context: Option<Pairs>,
        /// The ciphertext.
        ciphertext: Ciphertext,
        /// For how long the plaintext will be kept and used without asking again, in seconds; not at all if absent. Needs the
        /// permission `hold` too.
        lease_seconds: Option<Lease>,
    }

    /// A secret to keep: either `value` or `generate`.
    KeepSecret {
        /// Its name.
        name: Is<SecretName>,
        /// The value, 1 to 65,536 bytes.
        value: Option<Plaintext>,
        /// Make the value: so many random bytes as text, in base64url without padding.
        generate: Option<Within<16, 1024>>,
        /// Shred the secret of this name that there is, which needs that permission too; not if absent.
        replace: Option<bool>,
    }

    /// A secret to read.
    ReadSecret {
        /// Its name.
        name: Is<SecretName>,
        /// For how long the value will be kept and used without asking again, in seconds; not at all if absent. Needs the
        /// permission `hold` too.
        lease_seconds: Option<Lease>,
    }

    /// Which secret.
    OfSecret {
        /// Its name.
        name: Is<SecretName>,
    }

    /// What to encrypt anew under the primary version.
    #[derive(Default)]
    Rewrap {
        /// How; the best for the key if absent.
        mechanism: Option<Is<Mechanism>>,
        /// Pairs that are bound to the new ciphertext; those of the old one if absent.
        new_context: Option<Pairs>,
        /// The key that encrypted it; the same key if absent.
        source: Option<Is<KeyRef>>,
        /// How it was encrypted; the best for that key if absent.
        source_mechanism: Option<Is<Mechanism>>,
        /// The version that encrypted it, for mechanisms that do not say it in the ciphertext.
        version: Option<Number>,
        /// The IV, for mechanisms that do not keep it in the ciphertext.
        iv: Option<Bytes<16>>,
        /// The pairs that were given to encrypt.
        context: Option<Pairs>,
        /// The ciphertext.
        ciphertext: Ciphertext,
    }

    /// What the new data key is to be.
    #[derive(Default)]
    MakeDataKey {
        /// Pairs that are bound to it and must be given again to decrypt it.
        context: Option<Pairs>,
        /// Its length; 32 if absent.
        bytes: Option<Within<1, 1024>>,
    }

    /// What the new key pair is to be.
    MakeDataKeyPair {
        /// RSA, an elliptic curve, Ed25519 or ML-KEM.
        algorithm: Is<Algorithm>,
        /// Pairs that are bound to it and must be given again to decrypt it.
        context: Option<Pairs>,
    }

    /// What to sign: a message or its digest.
    #[derive(Default)]
    Sign {
        /// How; the best for the key if absent.
        mechanism: Option<Is<Mechanism>>,
        /// The whole message.
        message: Option<Plaintext>,
        /// The digest, by the mechanism's hash, instead of the message.
        digest: Option<Bytes<64>>,
    }

    /// What to verify: a message or its digest, and the signature.
    Verify {
        /// How it was signed; the best for the key if absent.
        mechanism: Option<Is<Mechanism>>,
        /// The version that signed; the primary one if absent.
        version: Option<Number>,
        /// The whole message.
        message: Option<Plaintext>,
        /// The digest, by the mechanism's hash, instead of the message.
        digest: Option<Bytes<64>>,
        /// The signature.
        signature: Bytes<SIGNATURE_BYTES_MAX>,
    }

    /// What to authenticate.
    ComputeMac {
        /// How; the best for the key if absent.
        mechanism: Option<Is<Mechanism>>,
        /// The message.
        message: Plaintext,
    }

    /// What to verify with a message authentication code.
    VerifyMac {
        /// How it was made; the best for the key if absent.
        mechanism: Option<Is<Mechanism>>,
        /// The version that made it; the primary one if absent.
        version: Option<Number>,
        /// The message.
        message: Plaintext,
        /// The message authentication code.
        mac: Bytes<{ HMAC_BYTES_MAX }>,
    }

    /// Foreign key material to wrap.
    Wrap {
        /// How; the best for the key if absent.
        mechanism: Option<Is<Mechanism>>,
        /// The material.
        material: Bytes<{ keywrap::KEY_BYTES_MAX }>,
    }

    /// Foreign key material to unwrap.
    Unwrap {
        /// How it was wrapped; the best for the key if absent.
        mechanism: Option<Is<Mechanism>>,
        /// The version that wrapped it; the primary one if absent.
        version: Option<Number>,
        /// The wrapped material.
        wrapped: Bytes<{ IMPORT_BYTES_MAX }>,
    }

    /// The other party of a key agreement.
    Agree {
        /// Number of our version; the primary one if absent.
        version: Option<Number>,
        /// The other party's public key.
        peer: Bytes<PUBLIC_BYTES_MAX>,
    }

    /// The other party's point of an exchange.
    Exchange {
        /// Number of our version; the primary one if absent.
        version: Option<Number>,
        /// The other party's public key.
        peer: Bytes<PUBLIC_BYTES_MAX>,
    }

    /// What to decapsulate.
    Decapsulate {
        /// The version it is for; the primary one if absent.
        version: Option<Number>,
        /// The encapsulated secret.
        encapsulated: Bytes<PUBLIC_BYTES_MAX>,
    }

    /// How much randomness.
    #[derive(Copy)]
    MakeRandom {
        /// Number of bytes.
        bytes: Within<1, 1024>,
    }

    /// Which volume of which machine.
    VolumeOf {
        /// The machine.
        machine: Is<PrincipalId>,
        /// Its volume.
        volume: Is<Name>,
    }

    /// What a claim of a machine's evidence must be one of.
    ReferenceValue {
        /// The claim, such as `measurement`, or `record.member`.
        claim: Text<REFERENCE_BYTES_MAX>,
        /// What it may be.
        values: Vec<Text<REFERENCE_BYTES_MAX>>,
    }

    /// A machine to be enrolled.
    NewMachine {
        /// Its name among all identities of the tenant, never used again.
        name: Is<Name>,
        /// The key that the secrets of its volumes are derived from: one made for release.
        key: Is<KeyRef>,
        /// Names of its volumes, 1 to 16.
        volumes: Vec<Is<Name>>,
        /// What its evidence must claim.
        reference: Option<Vec<ReferenceValue>>,
        /// Makes it a golden image: each of at most so many clones, 1 to 100,000, gets an identity of its own.
        clones: Option<Number>,
        /// Of a golden image: whether its clones make keyslots for their recovery secrets too.
        recovery: Option<bool>,
    }

    /// A volume whose keyslot was prepared.
    PreparedVolume {
        /// Its name.
        name: Is<Name>,
        /// Which secret opens it.
        generation: Number,
        /// The hash of its LUKS2 header.
        header: Is<Fingerprint>,
    }

    /// Changes of a machine; absent members stay as they are.
    #[derive(Default)]
    MachineChange {
        /// All reference values anew.
        reference: Option<Vec<ReferenceValue>>,
        /// Reference values besides those that there are.
        add: Option<Vec<ReferenceValue>>,
        /// Reference values that are taken away then; each claim keeps one.
        drop: Option<Vec<ReferenceValue>>,
        /// Volumes that were prepared.
        volumes: Option<Vec<PreparedVolume>>,
        /// Forget the token that its volume keeps: after an older copy was put back on purpose.
        forget_token: Option<bool>,
        /// How many clones a golden image may make in all.
        clones: Option<Number>,
    }

    /// A decision about a boot.
    #[derive(Copy)]
    ApprovalDecision {
        /// Whether the next boot with such claims is approved, once.
        approve: bool,
    }

    /// A decision about what a machine says its next boot will be.
    #[derive(Copy)]
    CandidateDecision {
        /// Whether its values are added to the reference values.
        accept: bool,
    }

    /// A grant to be made.
    NewGrant {
        /// Who receives.
        grantee: Is<PrincipalId>,
        /// What it may do with the key.
        operations: Vec<Is<Operation>>,
        /// Pairs that the context of its requests must contain.
        context: Option<Pairs>,
        /// When it ends.
        expires: Option<Is<Time>>,
        /// Whether the grantee may pass it on; not if absent.
        delegable: Option<bool>,
        /// The grant it is made from, if the caller itself holds the key by a grant.
        parent: Option<Is<GrantId>>,
        /// Your name for it: asked for again with the same name and content, it is made once.
        name: Option<Text<GRANT_NAME_BYTES_MAX>>,
        /// The pairs that the context of its requests must be: these and no others.
        exact_context: Option<Pairs>,
        /// Who else may revoke it.
        retiree: Option<Is<PrincipalId>>,
    }

    /// An identity to be made.
    NewIdentity {
        /// Its name, unique in the tenant, never used again.
        name: Is<Name>,
        /// What it may do by template.
        roles: Vec<Is<Role>>,
        /// A PKCS #10 certificate request as PEM.
        request: Text<PEM_BYTES_MAX>,
        /// Days the certificate is valid; the server's default if absent.
        days: Option<Days>,
    }

    /// A new certificate for the caller.
    Renewal {
        /// A PKCS #10 certificate request as PEM.
        request: Text<PEM_BYTES_MAX>,
        /// Days the certificate is valid; the server's default if absent.
        days: Option<Days>,
    }

    /// The roles of an identity.
    Roles {
        /// What it may do by template; all roles anew.
        roles: Vec<Is<Role>>,
    }

    /// A certificate of an external CA.
    Certificate {
        /// The certificate as PEM.
        certificate: Text<PEM_BYTES_MAX>,
    }

    /// An access key to be made, or brought along with both id and secret. One with an end is made.
    NewAccessKey {
        /// Whose it is.
        identity: Is<PrincipalId>,
        /// The id to import; made by the server if absent.
        id: Option<Is<AccessKeyId>>,
        /// The secret to import; made by the server if absent.
        secret: Option<SecretText<ACCESS_SECRET_BYTES_MAX>>,
        /// Minutes until it ends; never if absent. One that ends needs its session token too.
        minutes: Option<Minutes>,
    }

    /// A policy.
    Policy {
        /// Cedar policy text.
        text: Text<POLICY_BYTES_MAX>,
    }

    /// A policy to compare with the present one.
    #[derive(Default)]
    PolicyDraft {
        /// Cedar policy text; if absent, the difference that deleting it makes.
        text: Option<Text<POLICY_BYTES_MAX>>,
    }

    /// A question to the policies.
    Question {
        /// Who would ask.
        identity: Is<PrincipalId>,
        /// What would be asked.
        operation: Is<Operation>,
        /// On which key; the tenant or the deployment if absent.
        key: Option<Is<KeyRef>>,
        /// With which context.
        context: Option<Pairs>,
        /// For how long the caller would keep what it opens, in seconds; not at all if absent.
        lease_seconds: Option<Lease>,
    }

    /// A tenant to be made.
    NewTenant {
        /// Its name, unique in the deployment, never used again.
        name: Is<Name>,
        /// The name of its first administrator.
        admin: Is<Name>,
        /// The administrator's PKCS #10 certificate request as PEM.
        request: Text<PEM_BYTES_MAX>,
    }

    /// How many shares are made.
    #[derive(Copy)]
    Sharing {
        /// How many are needed.
        threshold: Within<1, 255>,
        /// How many are made.
        count: Within<1, 255>,
    }
}

impl From<Algorithm> for NewKey {
    /// A key with everything that is usual for the algorithm.
    fn from(algorithm: Algorithm) -> Self {
        Self {
            algorithm: algorithm.into(),
            usage: None,
            exportable: None,
            import: None,
            description: None,
            tags: None,
            alias: None,
            activation: None,
            cryptoperiod: None,
            rotate_days: None,
            policy: None,
        }
    }
}

impl NewGrant {
    /// A grant without limits, that is not passed on.
    #[must_use]
    pub fn new(grantee: PrincipalId, operations: impl IntoIterator<Item = Operation>) -> Self {
        Self {
            grantee: grantee.into(),
            operations: operations.into_iter().map(Is).collect(),
            context: None,
            expires: None,
            delegable: None,
            parent: None,
            name: None,
            exact_context: None,
            retiree: None,
        }
    }
}

impl From<Vec<u8>> for Import {
    /// Wrapped with the newest parameters, for the version that it fits, without end.
    fn from(wrapped: Vec<u8>) -> Self {
        Self {
            wrapped: wrapped.into(),
            parameters: None,
            version: None,
            for_rotation: None,
            expires: None,
            description: None,
        }
    }
}

/// One step of replacing the shares or the passphrase.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rekey {
    /// Begin: make new shares. The old ones stay good.
    Shares(Object<Sharing>),
    /// Begin: a new passphrase.
    Passphrase(SecretText<{ passphrase::PASSPHRASE_BYTES_MAX }>),
    /// Prove a new share or the new passphrase. When enough are proved the old ones die.
    Prove(SecretText<{ passphrase::PASSPHRASE_BYTES_MAX }>),
    /// Forget what was begun.
    Cancel(Object<Nothing>),
}

impl Body for Rekey {
    const MEMBERS: &'static [&'static str] = &["shares", "passphrase", "prove", "cancel"];
}

/// What opens the seal. The server takes it before anybody can prove who they are.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unseal {
    /// One custodian's share.
    Share(SecretText<{ shamir::TEXT_BYTES_MAX }>),
    /// The passphrase.
    Passphrase(SecretText<{ passphrase::PASSPHRASE_BYTES_MAX }>),
}

impl Body for Unseal {
    const MEMBERS: &'static [&'static str] = &["share", "passphrase"];
}

/// Reads a member that is there, `null` included.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Days>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
