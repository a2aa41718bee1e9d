//! The engine over a real store: the life of keys, who may do what, races, faults, the log.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod access_keys;
mod aliases;
mod audit;
mod aws;
mod aws_cryptography;
mod aws_keys;
mod boot;
mod fault;
mod grants;
mod key_policies;
mod leases;
mod life;
mod policies;
mod race;
mod repeat;
mod rotation;
mod schedule;
mod secrets;
mod support;
mod suspension;
mod tang;
mod tenants;
mod transfer;
mod uses;
mod wire;
