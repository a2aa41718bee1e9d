//! The machine Keyhearth runs on: locked memory, kernel randomness, clocks, process hardening.
//!
//! The only crate that may contain `unsafe`, each block with its proof. Knows no keys and no
//! formats: bytes that must stay secret live in [`memory::LockedBytes`], what they mean is the
//! business of `keyhearth-crypto`. Linux only.

pub mod clock;
pub mod entropy;
pub mod filesystem;
pub mod lock;
pub mod memory;
mod network;
pub mod power;
pub mod process;
pub mod sev_guest;
