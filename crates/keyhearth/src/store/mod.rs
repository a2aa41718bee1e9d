//! Where rows and log lie. The promise is [`keyhearth_core::store::Store`]; here are those who keep it.
//!
//! Every implementation passes the same suite, `conformance`. Nothing here knows a key, a caller or what
//! a row says. The engine is the only caller.

pub mod sqlite;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod faults;
