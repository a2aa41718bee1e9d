//! Why a tenant's policies were not accepted.

use std::fmt;

use keyhearth_core::Error;
use keyhearth_core::id::Name;
use keyhearth_core::policy::{POLICIES_MAX, POLICY_BYTES_MAX};

use super::{KEY_TEXT_BYTES_MAX, NESTING_MAX, OPERATORS_MAX, STATEMENTS_MAX, TEXT_BYTES_MAX};

/// Why policies were refused. Its text is for whoever wrote the policy: where it is, what is wrong, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyError {
    /// More than [`POLICIES_MAX`] policies.
    TooManyPolicies,
    /// More than [`STATEMENTS_MAX`] statements over all policies.
    TooManyStatements,
    /// More than [`TEXT_BYTES_MAX`] of text over all policies, or [`KEY_TEXT_BYTES_MAX`] over those of keys.
    TooMuchText,
    /// A policy is longer than [`POLICY_BYTES_MAX`].
    TooLong(Name),
    /// A policy's text is not acceptable.
    Text {
        /// The policy.
        policy: Name,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong.
        fault: Fault,
    },
}

/// What is wrong at a place in a policy's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not Cedar. The parser's words.
    Syntax(String),
    /// It does not fit the schema. The validator's words.
    Schema(String),
    /// It holds no statement.
    Empty,
    /// It holds a slot (`?principal`, `?resource`).
    Slot,
    /// It names a principal, a key or a tenant by something else than its id.
    NotAnId(String),
    /// Brackets and `if` are nested deeper than [`NESTING_MAX`].
    TooDeep,
    /// A statement has more than [`OPERATORS_MAX`] operators and brackets.
    TooManyOperators,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(parser) => write!(f, "this is not Cedar: {parser}"),
            Self::Schema(validator) => {
                write!(f, "{validator}. What policies can name is in `keyhearth policy schema`")
            }
            Self::Empty => {
                f.write_str("there is no statement here. Write a permit or a forbid, or delete the policy")
            }
            Self::Slot => f.write_str("slots are not filled here. Write the id in place of the slot"),
            Self::NotAnId(entity) => {
                write!(
                    f,
                    "{entity} is not an id. Name principals, keys and tenants by their UUIDs, never by name or alias"
                )
            }
            Self::TooDeep => write!(f, "nested deeper than {NESTING_MAX}. Write several statements"),
            Self::TooManyOperators => {
                write!(
                    f,
                    "more than {OPERATORS_MAX} operators and brackets in one statement. Write several statements, or a set"
                )
            }
        }
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyPolicies => {
                write!(f, "a tenant has at most {POLICIES_MAX} policies. Merge or delete some")
            }
            Self::TooManyStatements => {
                write!(
                    f,
                    "a tenant's policies have at most {STATEMENTS_MAX} statements. Name roles or tags instead of keys"
                )
            }
            Self::TooMuchText => {
                write!(
                    f,
                    "a tenant's policies have at most {TEXT_BYTES_MAX} bytes, and those of its keys {KEY_TEXT_BYTES_MAX}. Name roles or tags instead of keys"
                )
            }
            Self::TooLong(policy) => {
                write!(f, "policy {policy} is longer than {POLICY_BYTES_MAX} bytes. Split it")
            }
            Self::Text { policy, line, column, fault } => {
                write!(f, "policy {policy}, line {line}, column {column}: {fault}")
            }
        }
    }
}

impl std::error::Error for PolicyError {}

impl From<&PolicyError> for Error {
    fn from(error: &PolicyError) -> Self {
        match error {
            PolicyError::TooManyPolicies => Self::TooLarge { field: "policies", limit: POLICIES_MAX },
            PolicyError::TooManyStatements => Self::TooLarge { field: "policies", limit: STATEMENTS_MAX },
            PolicyError::TooMuchText => Self::TooLarge { field: "policies", limit: TEXT_BYTES_MAX },
            PolicyError::TooLong(_) => Self::TooLarge { field: "text", limit: POLICY_BYTES_MAX },
            PolicyError::Text { fault, .. } => Self::Invalid {
                field: "text",
                rule: match fault {
                    Fault::Syntax(_) => "must be Cedar policies",
                    Fault::Schema(_) => "must fit the schema (`keyhearth policy schema`)",
                    Fault::Empty => "must hold a permit or a forbid",
                    Fault::Slot => "must not hold slots",
                    Fault::NotAnId(_) => "must name principals, keys and tenants by their ids",
                    Fault::TooDeep => "may be nested 32 deep",
                    Fault::TooManyOperators => "may have 500 operators and brackets in a statement",
                },
            },
        }
    }
}
