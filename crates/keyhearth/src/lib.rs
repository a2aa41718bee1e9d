//! The key server: everything that is not the command line.

pub mod policy;
pub mod store;
