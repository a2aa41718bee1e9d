//! The AWS KMS wire: JSON 1.1 over HTTP as AWS's SDKs speak it, from and to plain structures.
//!
//! A server reads the header `X-Amz-Target` with [`Operation::from_target`] and the body with [`Call::parse`],
//! turns key ids into core's with [`Place`], and writes an [`Output`] or an [`Exception`]. All names, limits
//! and texts come from one table of operations ([`model`]); [`coverage()`] prints it.
//! Not here: sockets, and what an operation does. Unknown members of a request are ignored, as AWS does.
//!
//! Source: AWS Key Management Service API Reference, API version 2014-11-01.

mod arn;
mod error;
mod grant;
mod json;
mod marker;
pub mod model;
pub mod policy;
pub mod sigv4;
mod spec;

pub use arn::{Place, REGION_BYTES_MAX, material_id, unknown_identity};
pub use error::{Exception, Kind};
pub use grant::{grant_id, grant_token, read_grant_id, read_grant_token};
pub use marker::Listing;
pub use model::*;

/// The longest body of a request, in bytes: the longest key policy (131,072 characters) with its quotes
/// escaped. An attestation document may be longer; those are refused in any case.
pub const BODY_BYTES_MAX: usize = 256 * 1024;
