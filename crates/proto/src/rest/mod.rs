//! The REST wire: JSON over HTTP, from and to core requests.
//!
//! A server calls [`route()`], [`parse()`], [`print()`] and [`problem()`], in this order; a client writes what
//! is in [`body`] and reads what is in [`answer`]. [`openapi()`] describes all of it from the same types.
//! Not here: sockets, authentication, and answering the paths that need none (health, metrics).

pub mod answer;
mod ask;
mod batch;
pub mod body;
mod headers;
mod openapi;
mod parse;
mod print;
mod problem;
mod query;
mod read;
mod record;
mod route;
mod spelling;

#[cfg(test)]
mod tests;

pub use batch::{
    Answered, Answers, BATCH_ANSWER_BYTES_MAX, BATCH_MAX, BATCH_PATH, Item, batch, is_batched, print_answer,
    print_batch,
};
pub use headers::{Headers, IDEMPOTENCY_KEY, REASON, REQUEST_ID};
pub use openapi::openapi;
pub use parse::parse;
pub use print::{Printed, entry_json, print};
pub use problem::{Problem, not_found, problem, status};
pub use query::{LOG_PATH_BYTES_MAX, PAGE_DEFAULT};
pub use read::read;
pub use route::{Params, Refused, method_name, route};
pub use spelling::{
    AccessKeyId, Bytes, Cursor, HOLDER, Is, Object, Pairs, SecretText, Spelling, Text, Use, Within,
};

/// The longest body of a request, in bytes: the largest plaintext in base64, and room for the rest.
pub const BODY_BYTES_MAX: usize = 256 * 1024;
