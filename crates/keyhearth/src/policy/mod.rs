//! Tenants' policies: Cedar over typed ids, compiled once and asked often.
//!
//! [`Compiled`] answers core's [`Authorizer`](keyhearth_core::policy::Authorizer) from the role templates
//! ([`ROLES`]), the guard-rails ([`GUARDS`]) and a tenant's own policies. Everything a policy can name
//! is generated from the operation table ([`schema_text`]): entity ids are typed ids, never aliases or paths.
//!
//! Not here: grants (core asks them when policies are silent), states and dates of keys (core again),
//! and storing policies (the engine compiles what it is about to store, before it stores it).
//!
//! Source: the Cedar policy language, version 4, <https://docs.cedarpolicy.com>.

mod compiled;
mod diff;
mod error;
mod question;
mod schema;
mod slices;
mod statement;
mod templates;

pub use compiled::Compiled;
pub use diff::{QUESTIONS_MAX, as_caller, diff, who_can};
pub use error::{Fault, PolicyError};
pub use schema::schema_text;
pub use templates::{GUARDS, ROLES};

/// The most Cedar statements of a tenant, over all its policies.
pub const STATEMENTS_MAX: usize = 4_000;

/// The most policy text of a tenant, in bytes. Bounds the time to validate it: a few seconds for text as
/// people write it, about half a minute for text that is made to be slow.
pub const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// The most text of the own policies of all keys of a tenant, in bytes, beside [`TEXT_BYTES_MAX`].
pub const KEY_TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The deepest nesting of brackets and `if` in a statement.
pub const NESTING_MAX: usize = 32;

/// The most operators and brackets in one statement: each may deepen the expression by one.
pub const OPERATORS_MAX: usize = 500;

#[cfg(test)]
mod tests;
