//! The table of operations and what is generated from it: [`Operation`], [`input`], [`output`], [`Call`],
//! the limits of every member, and [`coverage()`].
//!
//! `shape` is the grammar of members, `kinds` their kinds, `types` and `texts` the named types, `operations` the table itself.

mod coverage;
pub mod kinds;
mod macros;
mod operations;
pub mod shape;
pub mod texts;
mod types;

#[cfg(test)]
mod tests;

pub use coverage::{Coverage, Field, coverage, markdown};
pub use operations::{Call, Operation, Output, input, output};
pub use types::*;
