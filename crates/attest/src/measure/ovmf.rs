//! What OVMF says of itself at its end: where processors start, and which pages are measured besides its own.
//!
//! A table of entries is read backwards from 32 bytes before the end: contents, length of both (16 bits), GUID. One
//! entry tells how far from the end a list of sections lies.
//!
//! Source: edk2, `OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm` (table) and `X64/OvmfSevMetadata.asm` (sections).

use super::MeasureError;
use super::snp::PAGE_BYTES;
use crate::reader::Reader;

/// The longest firmware; OVMF has 2 to 4 MiB.
pub(super) const FIRMWARE_BYTES_MAX: usize = 64 << 20;
/// The most memory of sections; OVMF's have less than 1 MiB.
const SECTION_BYTES_MAX: u64 = 16 << 20;

const TABLE_END_BYTES: usize = 32;
const ENTRY_BYTES: usize = 18;
const TABLE: [u8; 16] =
    [0xde, 0x82, 0xb5, 0x96, 0xb2, 0x1f, 0xf7, 0x45, 0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d];
const HASHES: [u8; 16] =
    [0x1f, 0x37, 0x55, 0x72, 0x3b, 0x3a, 0x04, 0x4b, 0x92, 0x7b, 0x1d, 0xa6, 0xef, 0xa8, 0xd4, 0x54];
const RESET: [u8; 16] =
    [0xde, 0x71, 0xf7, 0x00, 0x7e, 0x1a, 0xcb, 0x4f, 0x89, 0x0e, 0x68, 0xc7, 0x7e, 0x2f, 0xb4, 0x4e];
const METADATA: [u8; 16] =
    [0x66, 0x65, 0x88, 0xdc, 0x4a, 0x98, 0x98, 0x47, 0xa7, 0x5e, 0x55, 0x85, 0xa7, 0xbf, 0x67, 0xcc];
const METADATA_SIGNATURE: &[u8; 4] = b"ASEV";
const METADATA_VERSION: u32 = 1;

/// A firmware that SNP guests can be started with.
pub(super) struct Ovmf {
    /// Where all processors but the first start.
    pub(super) reset_address: u32,
    /// Where the table of hashes of kernel, initial ramdisk and command line lies.
    pub(super) hashes_address: Option<u32>,
    pub(super) sections: Vec<Section>,
}

/// Pages that are measured, besides those of the firmware itself.
#[derive(Clone, Copy)]
pub(super) struct Section {
    pub(super) address: u64,
    pub(super) bytes: u64,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Memory that is zero, also that of a secure VM service module.
    Zero,
    Secrets,
    Cpuid,
    KernelHashes,
}

impl Ovmf {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, MeasureError> {
        let refused = MeasureError::Firmware;
        if bytes.is_empty() || bytes.len() > FIRMWARE_BYTES_MAX || !bytes.len().is_multiple_of(PAGE_BYTES) {
            return Err(refused("its length is no number of pages, or more than 64 MiB"));
        }
        let entries = entries(bytes).ok_or(refused("there is no table at its end"))?;
        let entry = |guid: [u8; 16]| {
            let (_, contents) = entries.iter().find(|(found, _)| *found == guid)?;
            contents.first_chunk().copied().map(u32::from_le_bytes)
        };
        let reset_address = entry(RESET).ok_or(refused("it does not say where processors start"))?;
        let distance = entry(METADATA).ok_or(refused("it does not say what is measured"))?;
        let sections =
            sections(bytes, distance).ok_or(refused("the list of what is measured has not its form"))?;
        if sections.iter().map(|section| section.bytes).sum::<u64>() > SECTION_BYTES_MAX {
            return Err(refused("more than 16 MiB are measured"));
        }
        Ok(Self { reset_address, hashes_address: entry(HASHES).filter(|address| *address != 0), sections })
    }
}

/// Contents by GUID, the last first.
fn entries(bytes: &[u8]) -> Option<Vec<([u8; 16], &[u8])>> {
    let end = bytes.len().checked_sub(TABLE_END_BYTES)?;
    let (TABLE, mut rest) = entry(&bytes[..end])? else { return None };
    let mut entries = Vec::new();
    while let Some((guid, contents)) = entry(rest) {
        entries.push((guid, contents));
        rest = &rest[..rest.len() - contents.len() - ENTRY_BYTES];
    }
    Some(entries)
}

/// The last entry.
fn entry(table: &[u8]) -> Option<([u8; 16], &[u8])> {
    let (rest, guid) = table.split_last_chunk()?;
    let (rest, length) = rest.split_last_chunk()?;
    let contents = usize::from(u16::from_le_bytes(*length)).checked_sub(ENTRY_BYTES)?;
    Some((*guid, &rest[rest.len().checked_sub(contents)?..]))
}

fn sections(bytes: &[u8], distance: u32) -> Option<Vec<Section>> {
    let start = bytes.len().checked_sub(distance.try_into().ok()?)?;
    let mut reader = Reader::new(&bytes[start..]);
    if reader.array()? != *METADATA_SIGNATURE {
        return None;
    }
    let mut number = || reader.array().map(u32::from_le_bytes);
    let (_bytes, METADATA_VERSION, count) = (number()?, number()?, number()?) else { return None };
    let mut sections = Vec::new();
    for _ in 0..count {
        let (address, bytes) = (number()?.into(), number()?.into());
        let kind = match number()? {
            1 | 4 => Kind::Zero,
            2 => Kind::Secrets,
            3 => Kind::Cpuid,
            0x10 => Kind::KernelHashes,
            _ => return None,
        };
        sections.push(Section { address, bytes, kind });
    }
    let page = PAGE_BYTES as u64;
    let whole =
        |section: &Section| section.bytes.is_multiple_of(page) && section.address.is_multiple_of(page);
    sections.iter().all(whole).then_some(sections)
}
