//! The key server: everything that is not the command line.

pub mod bench;
pub mod config;
pub mod demo;
pub mod endorsements;
pub mod engine;
pub mod identity;
pub mod listen;
pub mod policy;
pub mod seal;
pub mod server;
pub mod store;
pub mod telemetry;
