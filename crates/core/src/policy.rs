//! What core needs of a policy engine. The engine itself (Cedar) lives in the server.

use minicbor::{Decode, Encode};

use crate::id::{KeyId, NAME_BYTES_MAX, Name};
use crate::key::Key;
use crate::machine::BootFacts;
use crate::operation::Operation;
use crate::principal::Caller;
use crate::time::{Now, Time};

/// The stored record of a tenant's policy.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Policy {
    /// Its name, unique in the tenant.
    #[n(0)]
    pub name: Name,
    /// Cedar policy text, at most [`POLICY_BYTES_MAX`].
    #[n(1)]
    pub text: String,
    /// When this text took effect.
    #[n(2)]
    pub activated: Time,
}

/// The longest policy text, and the longest document it is translated from, in bytes.
pub const POLICY_BYTES_MAX: usize = 64 * 1024;

/// The most policies of a tenant.
pub const POLICIES_MAX: usize = 2_000;

/// In the text of a key's own policy: the key. It has an id only when it is made.
pub const THIS_KEY: &str = r#"Keyhearth::Key::"this""#;

/// What a key's record keeps about the key's own policy. Its Cedar text, if it has one, is a [`Policy`] of the
/// tenant that [`key_policy_name`] names.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct KeyPolicy {
    /// What the text was translated from, where a protocol writes policies in a language of its own.
    #[n(0)]
    pub document: Option<String>,
    /// The key is closed: of what policies allow on it, only what this one allows counts. Grants count too, and
    /// what any policy forbids stays forbidden.
    #[n(1)]
    pub closed: bool,
}

/// A key's own policy to be set in place of the one it has. Without anything in it, the key has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in `KeyPolicy`")]
pub struct NewKeyPolicy {
    pub document: Option<String>,
    pub closed: bool,
    /// Cedar text in which the key is [`THIS_KEY`]; every statement is about the key and nothing else.
    pub text: Option<String>,
}

impl NewKeyPolicy {
    /// Whether it changes what anybody may do.
    #[must_use]
    pub fn decides(&self) -> bool {
        self.closed || self.text.is_some()
    }

    /// What the key's record keeps of it.
    #[must_use]
    pub fn record(&self) -> Option<KeyPolicy> {
        let Self { document, closed, .. } = self;
        (*self != Self::default()).then(|| KeyPolicy { document: document.clone(), closed: *closed })
    }
}

const KEY_POLICY_PREFIX: &str = "key-";
const _: () = assert!(KEY_POLICY_PREFIX.len() + 36 <= NAME_BYTES_MAX, "a UUID fits");

/// The name of a key's own policy: `key-` and the key's id. No other policy has such a name.
#[must_use]
pub fn key_policy_name(key: KeyId) -> Name {
    format!("{KEY_POLICY_PREFIX}{key}").parse().expect("lower-case hexadecimal and hyphens are a name")
}

/// The key whose own policy has this name.
#[must_use]
pub fn key_of_policy(name: &Name) -> Option<KeyId> {
    name.as_str().strip_prefix(KEY_POLICY_PREFIX)?.parse().ok()
}

/// One question to the policy engine: typed ids and attributes, never strings that look like paths.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Who asks.
    pub caller: &'a Caller,
    /// What is asked.
    pub operation: Operation,
    /// On which key; `None` for the tenant or the deployment.
    pub key: Option<&'a Key>,
    /// The context of the ciphertext, as pairs.
    pub context: &'a [(String, String)],
    /// What is known of the boot, for [`Operation::ReleaseVolumes`] and [`Operation::CloneImage`].
    pub boot: Option<&'a BootFacts>,
    /// For how long the caller will keep what it opens, in seconds.
    pub lease_seconds: u32,
    /// The present, and the time of the lease.
    pub now: Now,
}

/// The answer of the policy engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Allowed by these policies (names of the tenant's policies, or `role:NAME` of a template).
    Allow(std::sync::Arc<[String]>),
    /// No policy allows it; a grant may.
    Silent,
    /// These policies forbid it, whatever else allows it.
    Forbid(std::sync::Arc<[String]>),
}

/// Decides questions from the policies that are in force.
pub trait Authorizer {
    /// Answers one question. Total and without side effects.
    fn authorize(&self, question: &Question<'_>) -> Verdict;
}
