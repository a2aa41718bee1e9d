//! The key server: everything that is not the command line.

pub mod bench;
pub mod listen;
pub mod policy;
pub mod store;
