//! The two copies of a header, each 4 KiB of numbers and names before its JSON.

use keyhearth_crypto::digest::sha256;

use super::COPY_BYTES_MAX;
use super::refusal::{Refusal, Rule};

const MAGIC_FIRST: &[u8; 6] = b"LUKS\xba\xbe";
const MAGIC_SECOND: &[u8; 6] = b"SKUL\xba\xbe";
const VERSION: [u8; 2] = [0, 2];
const CHECKSUM_ALGORITHM: &[u8] = b"sha256";
const NUMBERS_BYTES: usize = 4096;
const COPY_BYTES_MIN: usize = 16 << 10;

/// Where what lies, in bytes.
mod at {
    use std::ops::Range;

    pub(super) const MAGIC: Range<usize> = 0..6;
    pub(super) const VERSION: Range<usize> = 6..8;
    pub(super) const SIZE: Range<usize> = 8..16;
    pub(super) const SEQUENCE: Range<usize> = 16..24;
    pub(super) const CHECKSUM_ALGORITHM: Range<usize> = 72..104;
    pub(super) const UUID: Range<usize> = 168..208;
    pub(super) const OFFSET: Range<usize> = 256..264;
    pub(super) const CHECKSUM: Range<usize> = 448..512;
}

/// A copy whose checksum is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Copy {
    /// As it was on the disk, of one of the sizes that are allowed.
    bytes: Vec<u8>,
    sequence: u64,
    /// Bytes of JSON.
    text_len: usize,
}

impl Copy {
    /// Of the copies at the beginning of a disk the newer one that is whole.
    pub(super) fn choose(bytes: &[u8]) -> Result<Self, Refusal> {
        let second_at = |size: usize| {
            bytes.get(size..).filter(|second| second.starts_with(MAGIC_SECOND)).map(|second| (size, second))
        };
        let first = Self::parse(bytes, MAGIC_FIRST, 0);
        // What the first copy says counts only if it is whole.
        let size = first.as_ref().ok().map(Self::size);
        let sizes = size.into_iter().chain(sizes().filter(|_| size.is_none()));
        let second =
            sizes.filter_map(second_at).next().map(|(at, second)| Self::parse(second, MAGIC_SECOND, at));
        match (first, second) {
            (Ok(first), Some(Ok(second))) if second.sequence > first.sequence => Ok(second),
            (Ok(first), Some(Ok(second))) if second.sequence == first.sequence => {
                if first.text() != second.text() || first.uuid() != second.uuid() {
                    return Err(Rule::CopiesDiffer.found(format_args!("both have {}", first.sequence)));
                }
                Ok(first)
            }
            (Ok(first), _) => Ok(first),
            (Err(_), Some(Ok(second))) => Ok(second),
            (Err(refusal), _) => Err(refusal),
        }
    }

    /// Reads the copy that begins `bytes`, at `offset` of the disk.
    fn parse(bytes: &[u8], magic: &[u8; 6], offset: usize) -> Result<Self, Refusal> {
        if !bytes.starts_with(magic) {
            return Err(Rule::Magic.found(if bytes.is_empty() { "no bytes" } else { "other bytes" }));
        }
        let numbers = bytes.get(..NUMBERS_BYTES).ok_or_else(|| Rule::Size.found("the disk ends"))?;
        if numbers[at::VERSION] != VERSION {
            return Err(Rule::Version.found(u16::from_be_bytes([numbers[6], numbers[7]])));
        }
        let size = number(&numbers[at::SIZE]);
        let stated = sizes().find(|known| *known as u64 == size).ok_or_else(|| Rule::Size.found(size))?;
        let copy = bytes.get(..stated).ok_or_else(|| Rule::Size.found("the disk ends"))?;
        let algorithm = &numbers[at::CHECKSUM_ALGORITHM];
        let named = algorithm.strip_prefix(CHECKSUM_ALGORITHM).is_some_and(is_zero);
        if !named {
            return Err(Rule::ChecksumAlgorithm.found(String::from_utf8_lossy(until_zero(algorithm))));
        }
        if checksum(copy) != numbers[at::CHECKSUM] || number(&numbers[at::OFFSET]) != offset as u64 {
            return Err(Rule::Checksum.found("other bytes"));
        }
        let text = &copy[NUMBERS_BYTES..];
        let text_len = until_zero(text).len();
        if text_len == text.len() {
            return Err(Rule::JsonTooLong.found(format_args!("{text_len} bytes and no end")));
        }
        if !is_zero(&text[text_len..]) {
            return Err(Rule::JsonTrailing.found("other bytes"));
        }
        Ok(Self { bytes: copy.to_vec(), sequence: number(&numbers[at::SEQUENCE]), text_len })
    }

    /// Bytes of one copy.
    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The number that grows with every change.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The JSON.
    pub(super) fn text(&self) -> &[u8] {
        &self.bytes[NUMBERS_BYTES..][..self.text_len]
    }

    /// What the header names itself by.
    pub(super) fn uuid(&self) -> &str {
        std::str::from_utf8(until_zero(&self.bytes[at::UUID])).unwrap_or_default()
    }

    /// Both copies with another text.
    pub(super) fn write(&self, text: &str) -> Result<Vec<u8>, Refusal> {
        let mut first = self.bytes.clone();
        let area = &mut first[NUMBERS_BYTES..];
        area.fill(0);
        let fits = area.split_last_mut().and_then(|(_, area)| area.get_mut(..text.len()));
        fits.ok_or_else(|| Rule::JsonTooLong.found(text.len()))?.copy_from_slice(text.as_bytes());
        let mut second = first.clone();
        for (copy, magic, offset) in
            [(&mut first, MAGIC_FIRST, 0), (&mut second, MAGIC_SECOND, self.size() as u64)]
        {
            copy[at::MAGIC].copy_from_slice(magic);
            copy[at::OFFSET].copy_from_slice(&offset.to_be_bytes());
            let checksum = checksum(copy);
            copy[at::CHECKSUM].copy_from_slice(&checksum);
        }
        Ok([first, second].concat())
    }
}

/// The sizes of a copy, the smallest first.
fn sizes() -> impl Iterator<Item = usize> {
    std::iter::successors(Some(COPY_BYTES_MIN), |size| Some(size * 2))
        .take_while(|size| *size <= COPY_BYTES_MAX)
}

/// The hash of a copy in which the checksum is zero, with zeroes after it.
fn checksum(copy: &[u8]) -> [u8; 64] {
    let (before, rest) = copy.split_at(at::CHECKSUM.start);
    let after = &rest[at::CHECKSUM.len()..];
    let mut checksum = [0; 64];
    checksum[..32].copy_from_slice(&sha256(&[before, &[0; 64], after]));
    checksum
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
