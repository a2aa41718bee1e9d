//! What core needs of a policy engine. The engine itself (Cedar) lives in the server.

use minicbor::{Decode, Encode};

use crate::id::Name;
use crate::key::Key;
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

/// The longest policy text, in bytes.
pub const POLICY_BYTES_MAX: usize = 64 * 1024;

/// The most policies of a tenant.
pub const POLICIES_MAX: usize = 2_000;

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
    /// The present.
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
