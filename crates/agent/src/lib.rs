//! The agent in the initramfs of a machine whose disks are encrypted: it shows the server what the machine is, gets the
//! key of each volume sealed to itself, opens the volumes, and halts the machine otherwise. Never a shell.
//!
//! One static program without an event loop, a resolver of the system's or a library of TPMs: it runs before there is
//! a system. What it believes stands in one file ([`config`]) that is measured with it; disks and the network are
//! hostile. The wire format is `keyhearth_proto::boot`; what evidence proves, the server says.
//!
//! Called by the scripts of an initramfs, and by services of the system that runs then, through `keyhearth-boot`.

pub mod candidate;
pub mod check;
mod clone;
pub mod cloud;
pub mod config;
pub mod confirm;
pub mod cryptsetup;
pub mod evidence;
pub mod http;
pub mod luks;
pub mod resolve;
pub mod run;
pub mod screen;
pub mod session;
pub mod stop;
pub mod tpm;
pub mod transport;
pub mod watch;
