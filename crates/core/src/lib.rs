//! What Keyhearth believes and allows.
//!
//! Keys, versions, states, grants, principals, tenants, the one table of operations, requests and
//! their results, the audit entry, the Merkle [`log`], the [`store::Store`] promise, and the pure
//! [`decide::decide`]. No IO, no async, no clock, no randomness: time and random bytes are arguments.
//!
//! Every protocol is a translation into [`request::Request`]; the server's engine is the only caller
//! of `decide` and the only holder of a [`decide::Permit`].

pub mod decide;
pub mod entry;
pub mod error;
pub mod grant;
pub mod id;
pub mod key;
pub mod log;
pub mod machine;
pub mod operation;
pub mod policy;
pub mod principal;
pub mod request;
pub mod row;
pub mod secret;
pub mod state;
pub mod store;
pub mod tenant;
pub mod time;

pub use error::Error;
