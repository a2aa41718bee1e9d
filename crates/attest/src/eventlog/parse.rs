//! The bytes of a log: a header in the old form, and events with a digest for each bank.
//!
//! Source: TCG PC Client Platform Firmware Profile rev. 1.05 §10.2 (`TCG_PCR_EVENT2`), §10.4.5.1 (Spec ID event).

use super::replay::Bank;
use super::{EVENTS_MAX, LOG_BYTES_MAX};
use crate::reader::Reader;
use crate::reason::{Reason, Refusal};

/// The most banks of a log.
const BANKS_MAX: u32 = 8;
const SHA1_BYTES: usize = 20;
const EV_NO_ACTION: u32 = 3;
const SPEC_ID: &[u8; 16] = b"Spec ID Event03\0";

/// A log of the right form. Nothing in it is believed before it was replayed.
pub(super) struct Log<'a> {
    pub(super) events: Vec<Event<'a>>,
    /// Bytes up to the end of the last event.
    pub(super) bytes: usize,
}

/// One event, with the digest of one bank.
pub(super) struct Event<'a> {
    /// The register as the log counts them.
    pub(super) register: u32,
    /// Whether it only informs and is in no register.
    pub(super) informs: bool,
    /// What the register was extended by; as long as the bank's digests.
    pub(super) digest: &'a [u8],
    /// What the log says of it: often, but not always, what the digest is of.
    pub(super) data: &'a [u8],
}

impl<'a> Log<'a> {
    /// Reads a log for one bank. What fills its place up after the last event does not count.
    pub(super) fn parse(bytes: &'a [u8], bank: Bank) -> Result<Self, Refusal> {
        if bytes.len() > LOG_BYTES_MAX {
            let detail = format!("{} bytes; the limit is {LOG_BYTES_MAX}", bytes.len());
            return Err(Reason::EventLogTooLarge.because(detail));
        }
        let mut reader = Reader::new(bytes);
        let header = header(&mut reader).ok_or(Reason::EventLogMalformed.because("the header"))?;
        let banks = banks(header)?;
        if !banks.contains(&(bank.algorithm(), bank.digest_bytes())) {
            return Err(
                Reason::EventLogBank.because(format!("no digests of algorithm {:04x}", bank.algorithm()))
            );
        }
        let mut events = Vec::new();
        while !is_filler(reader.rest()) {
            if events.len() == EVENTS_MAX {
                return Err(Reason::EventLogTooLarge.because(format!("more than {EVENTS_MAX} events")));
            }
            let read = event(&mut reader, &banks, bank.algorithm());
            let event = read.ok_or_else(|| malformed(bytes.len() - reader.rest().len()))?;
            events.push(event);
        }
        Ok(Self { events, bytes: bytes.len() - reader.rest().len() })
    }
}

fn malformed(offset: usize) -> Refusal {
    Reason::EventLogMalformed.because(format!("the event that ends after byte {offset}"))
}

fn number(reader: &mut Reader<'_>) -> Option<u32> {
    reader.array().map(u32::from_le_bytes)
}

/// Bytes behind their length.
fn sized<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = number(reader)?;
    reader.slice(length.try_into().ok()?)
}

/// What the first event holds; its form is that of logs with SHA-1 digests alone.
fn header<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let _register = number(reader)?;
    let kind = number(reader)?;
    reader.slice(SHA1_BYTES)?;
    let data = sized(reader)?;
    Some(if kind == EV_NO_ACTION { data } else { &[] })
}

/// The algorithm of each bank, and how long its digests are.
fn banks(header: &[u8]) -> Result<Vec<(u16, u16)>, Refusal> {
    let Some(rest) = header.strip_prefix(SPEC_ID) else { return Err(Reason::EventLogLegacy.into()) };
    let read = |mut reader: Reader<'_>| {
        let _platform_and_versions = reader.slice(8)?;
        let count = number(&mut reader).filter(|count| *count <= BANKS_MAX)?;
        let mut banks: Vec<(u16, u16)> = Vec::new();
        for _ in 0..count {
            let bank = (u16::from_le_bytes(reader.array()?), u16::from_le_bytes(reader.array()?));
            if banks.iter().any(|(algorithm, _)| *algorithm == bank.0) {
                return None;
            }
            banks.push(bank);
        }
        let [length] = reader.array()?;
        reader.slice(length.into())?;
        Some(banks)
    };
    read(Reader::new(rest)).ok_or(Reason::EventLogMalformed.because("the Spec ID event"))
}

fn event<'a>(reader: &mut Reader<'a>, banks: &[(u16, u16)], algorithm: u16) -> Option<Event<'a>> {
    let register = number(reader)?;
    let informs = number(reader)? == EV_NO_ACTION;
    let digests = number(reader)?;
    if usize::try_from(digests) != Ok(banks.len()) {
        return None;
    }
    let mut digest = None;
    for _ in 0..digests {
        let bank = u16::from_le_bytes(reader.array()?);
        let (_, length) = banks.iter().find(|(known, _)| *known == bank)?;
        let bytes = reader.slice((*length).into())?;
        if bank == algorithm && digest.replace(bytes).is_some() {
            return None;
        }
    }
    let data = sized(reader)?;
    Some(Event { register, informs, digest: digest?, data })
}

/// Whether no event follows: logs lie in tables that are larger than they are.
fn is_filler(rest: &[u8]) -> bool {
    let first = rest.first().copied().unwrap_or(0);
    matches!(first, 0 | 0xff) && rest.iter().all(|byte| *byte == first)
}
