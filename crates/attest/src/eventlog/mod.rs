//! Event logs of firmware: what was measured, in the order in which registers were extended.
//!
//! A log proves nothing. It is replayed, and the registers that come out are compared with those that a TPM or a
//! processor vouched for; only then are facts taken from it. Nor does a register vouch for more than digests: what an
//! event says of itself (its type, its text) is believed where its digest is of exactly that, and what has other
//! digests counts as the worst that it could be.
//!
//! Facts are as true as the programs that were measured before them: a boot application may extend any register
//! with anything. A policy says which ones it trusts, by `boot_applications` or by Secure Boot.
//!
//! Two forms are read, both with a digest for each bank: logs of PCs, whose registers are PCRs, and those of
//! confidential VMs (CCEL), whose registers are RTMRs. Logs with SHA-1 digests alone are refused.
//!
//! Called by the kinds of evidence that have registers.
//!
//! Source: TCG PC Client Platform Firmware Profile rev. 1.05 §3.3, §10; UEFI 2.10 §38.4 (CC measurements);
//! Intel 726792 (Guest-Host-Communication Interface), table of the CCEL.

mod facts;
mod parse;
mod replay;

pub use facts::{BootFacts, BootPhase};
pub use replay::Quoted;

use crate::reason::Refusal;
use crate::tpm::Pcrs;
use parse::Log;
use replay::{Layout, Replay};

/// The longest log. Those of PCs have 10 to 100 kB; a CCEL is a table of 256 KiB.
pub const LOG_BYTES_MAX: usize = 512 << 10;
/// The most events of a log; real ones have less than 500.
pub const EVENTS_MAX: usize = 4096;

/// Checks that a log leads to the registers that were quoted, and says what it tells.
///
/// Registers that firmware does not extend (from PCR 8, RTMR2 on) are compared if the log has events for them; of the
/// others nothing is told.
///
/// # Errors
/// [`crate::Reason::EventLogMalformed`], [`crate::Reason::EventLogTooLarge`], [`crate::Reason::EventLogLegacy`],
/// [`crate::Reason::EventLogBank`], [`crate::Reason::EventLogRegister`], [`crate::Reason::EventLogDiffers`].
pub fn appraise(log: &[u8], quoted: &Quoted<'_>) -> Result<BootFacts, Refusal> {
    let log = Log::parse(log, quoted.bank())?;
    let mut replay = Replay::of(&log, quoted.layout())?;
    let phase = replay.compare(quoted)?;
    Ok(facts::facts(&replay, phase))
}

/// The log of a TD without what fills its table up behind the last event; a log that cannot be read stays as it is.
#[must_use]
pub fn without_filler(log: &[u8]) -> &[u8] {
    Log::parse(log, Layout::Rtmrs.bank()).map_or(log, |parsed| &log[..parsed.bytes])
}

/// The PCRs of the SHA-256 bank, 0 to 16, that a log leads to: what a machine had before userspace began. They are what
/// the log says, and no evidence of anything.
///
/// # Errors
/// As [`appraise`], but for [`crate::Reason::EventLogDiffers`].
pub fn replayed(log: &[u8]) -> Result<Pcrs, Refusal> {
    let log = Log::parse(log, Layout::Pcrs.bank())?;
    Ok(Replay::of(&log, Layout::Pcrs)?.pcrs())
}

/// Whether the initial ramdisk measures that it is entered, on a machine that is past it: whose PCR 11 (SHA-256) was `before`
/// when its kernel started, and is `now`. Nothing if that cannot be told.
#[must_use]
pub fn measures_initrd(before: &[u8; 32], now: &[u8; 32]) -> Option<bool> {
    BootPhase::measures_initrd(Layout::Pcrs.bank(), before, now)
}
