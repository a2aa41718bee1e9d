//! Why a request was not carried out, grouped by whose fault it is.

use std::fmt;

use crate::operation::Operation;
use crate::state::State;

/// Every refusal and failure that can reach a caller.
///
/// Each protocol maps this enum in one `match` without a wildcard, so that a new refusal does not
/// compile until every protocol answers it. No variant carries text from outside or a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    // The caller.
    /// The caller has not proved who it is.
    Unauthenticated,
    /// No policy and no grant allows it, or a policy forbids it.
    Denied,
    /// There is no such thing that this caller's tenant can see.
    NotFound(&'static str),
    /// A field of the request breaks a rule.
    Invalid {
        /// The field's name as the REST interface spells it.
        field: &'static str,
        /// The rule, to be read after "field: ".
        rule: &'static str,
    },
    /// The key version's state does not allow the operation.
    WrongState {
        /// The state the version is in now.
        state: State,
        /// What was asked.
        operation: Operation,
    },
    /// Somebody else changed it first, or it exists already.
    Conflict(&'static str),
    /// Longer than the limit, in bytes or items.
    TooLarge {
        /// What is too large.
        field: &'static str,
        /// The limit.
        limit: usize,
    },
    /// This server or this algorithm does not do that.
    Unsupported(&'static str),
    /// The caller is over its limit of requests.
    TooMany {
        /// When to try again.
        retry_after_ms: u32,
    },

    // The data.
    /// The ciphertext, signature, MAC or wrapped key does not belong to this key and context. Never says why.
    NotAuthentic,

    // We.
    /// The server is sealed.
    Sealed,
    /// Not now: overload, disk full, entropy not ready, shutting down.
    Unavailable {
        /// When to try again.
        retry_after_ms: u32,
    },
    /// The stored record of this thing fails its integrity check; it is not used.
    Damaged(&'static str),
    /// Our own failure. The log has more.
    Internal(&'static str),
}

impl Error {
    /// A stable word for logs, metrics and clients.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::Denied => "denied",
            Self::NotFound(_) => "not_found",
            Self::Invalid { .. } => "invalid",
            Self::WrongState { .. } => "wrong_state",
            Self::Conflict(_) => "conflict",
            Self::TooLarge { .. } => "too_large",
            Self::Unsupported(_) => "unsupported",
            Self::TooMany { .. } => "too_many",
            Self::NotAuthentic => "not_authentic",
            Self::Sealed => "sealed",
            Self::Unavailable { .. } => "unavailable",
            Self::Damaged(_) => "damaged",
            Self::Internal(_) => "internal",
        }
    }

    /// Whether somebody has to look at the server: it is nobody else's fault, and does not pass by itself.
    #[must_use]
    pub const fn is_ours_to_mend(&self) -> bool {
        matches!(self, Self::Damaged(_) | Self::Internal(_))
    }

    /// What the caller can do about it, one sentence.
    #[must_use]
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::Unauthenticated => {
                "present a client certificate that this server's CA issued, of an identity that is not revoked"
            }
            Self::Denied => "ask an administrator of the tenant for a role, a policy or a grant",
            Self::NotFound(_) => "check the id or alias, and that it belongs to your tenant",
            Self::Invalid { .. } => "correct the field and send the request again",
            Self::WrongState { .. } => {
                "look at the states of the key and of its versions: what is suspended is resumed with `key resume`"
            }
            Self::Conflict(_) => "read the present state and decide again",
            Self::TooLarge { field: "grants", .. } => {
                "revoke grants on this key that nobody needs, or let a policy say it for all files of a kind"
            }
            Self::TooLarge { field: "secrets", .. } => {
                "delete secrets that nobody needs, or have `secrets_per_tenant` of the server's configuration raised"
            }
            Self::TooLarge { field: "answers", .. } => "ask for it in another batch",
            Self::TooLarge { field: "lease_seconds", .. } => "say that it is kept for a shorter time",
            Self::TooLarge { .. } => "send less; for large data use a data key",
            Self::Unsupported(_) => "choose another algorithm or mechanism",
            Self::TooMany { .. } | Self::Unavailable { .. } => "try again after the stated time",
            Self::NotAuthentic => "check the key, the context and that the data is complete and unchanged",
            Self::Sealed => "unseal the server: keyhearth unseal",
            Self::Damaged(_) => "stop and restore this record from a backup; tell the security officer",
            Self::Internal(_) => "look for the request id in the server's log",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unauthenticated => f.write_str("the caller is not authenticated"),
            Self::Denied => f.write_str("not allowed"),
            Self::NotFound(what) => write!(f, "{what} not found"),
            Self::Invalid { field, rule } => write!(f, "{field}: {rule}"),
            Self::WrongState { state, operation } => {
                write!(f, "a key version that is {state} does not allow {}", operation.name())
            }
            Self::Conflict(what) => write!(f, "conflict: {what}"),
            Self::TooLarge { field, limit } => write!(f, "{field} is larger than the limit of {limit}"),
            Self::Unsupported(what) => write!(f, "not supported: {what}"),
            Self::TooMany { .. } => f.write_str("too many requests"),
            Self::NotAuthentic => f.write_str("not authentic"),
            Self::Sealed => f.write_str("the server is sealed"),
            Self::Unavailable { .. } => f.write_str("not available now"),
            Self::Damaged(what) => write!(f, "the stored {what} fails its integrity check"),
            Self::Internal(what) => write!(f, "internal failure: {what}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<keyhearth_crypto::Error> for Error {
    fn from(error: keyhearth_crypto::Error) -> Self {
        match error {
            keyhearth_crypto::Error::Invalid(rule) => Self::Invalid { field: "body", rule },
            keyhearth_crypto::Error::TooLarge { limit } => Self::TooLarge { field: "body", limit },
            keyhearth_crypto::Error::Unsupported(what) => Self::Unsupported(what),
            keyhearth_crypto::Error::NotAuthentic => Self::NotAuthentic,
            keyhearth_crypto::Error::Internal(what) => Self::Internal(what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_calls_nobody() {
        let retry_after_ms = 1;
        for error in [Error::Damaged("key"), Error::Internal("x")] {
            assert!(error.is_ours_to_mend());
        }
        for error in [Error::Sealed, Error::Unavailable { retry_after_ms }, Error::TooMany { retry_after_ms }]
        {
            assert!(!error.is_ours_to_mend());
        }
    }
}
