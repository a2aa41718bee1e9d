//! PE images: their sections, and the digest that firmware measures them by.
//!
//! Source: Microsoft, "PE Format"; "Windows Authenticode Portable Executable Signature Format" (calculating the hash);
//! TCG PC Client Platform Firmware Profile rev. 1.05 §3.3.4.5 (PCR 4).

use keyhearth_crypto::digest::sha256;

use super::MeasureError;

/// The longest image.
pub(super) const IMAGE_BYTES_MAX: usize = 1 << 30;

const SECTIONS_MAX: u16 = 96;
const SECTION_HEADER_BYTES: usize = 40;
const PE_OFFSET: usize = 0x3c;
const COFF_HEADER_BYTES: usize = 24;
/// Magic numbers of the optional header, and where its directories begin.
const PE32: (u16, usize) = (0x010b, 96);
const PE32_PLUS: (u16, usize) = (0x020b, 112);
const HEADERS_BYTES_OFFSET: usize = 60;
const CHECKSUM_OFFSET: usize = 64;
const CHECKSUM_BYTES: usize = 4;
/// The directory of signatures is the fifth one.
const SIGNATURES_INDEX: usize = 4;
const DIRECTORY_BYTES: usize = 8;

/// An image of the right form.
pub(super) struct Image<'a> {
    bytes: &'a [u8],
    checksum_at: usize,
    /// The place of the directory of signatures, if there is one.
    signatures_at: Option<usize>,
    signatures_bytes: usize,
    headers_bytes: usize,
    pub(super) sections: Vec<Section<'a>>,
}

pub(super) struct Section<'a> {
    /// Up to 8 bytes, without the zeroes that follow.
    pub(super) name: &'a [u8],
    /// Bytes in memory.
    pub(super) memory_bytes: usize,
    /// What the file holds of it, which may be longer.
    pub(super) contents: &'a [u8],
    offset: usize,
}

impl<'a> Image<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, MeasureError> {
        let refused = MeasureError::Image;
        if bytes.len() > IMAGE_BYTES_MAX {
            return Err(refused("it is longer than 1 GiB"));
        }
        let (coff, optional) = headers(bytes).ok_or(refused("its headers do not have their form"))?;
        Self::read(bytes, coff, optional).ok_or(refused("its headers or sections reach beyond its end"))
    }

    fn read(bytes: &'a [u8], coff: usize, (optional, directories): (usize, usize)) -> Option<Self> {
        let count = short(bytes, coff + 6)?;
        let optional_bytes = usize::from(short(bytes, coff + 20)?);
        let headers_bytes = long(bytes, optional + HEADERS_BYTES_OFFSET)?;
        let directory_count = long(bytes, directories - 4)?;
        let signatures = directories + DIRECTORY_BYTES * SIGNATURES_INDEX;
        let signatures_at = (directory_count > SIGNATURES_INDEX).then_some(signatures);
        let signatures_bytes = signatures_at.map_or(Some(0), |at| long(bytes, at + 4))?;
        let table = bytes.get(optional.checked_add(optional_bytes)?..)?;
        let headers = table.chunks_exact(SECTION_HEADER_BYTES).take(count.into());
        let sections: Vec<_> = headers.map(|header| Section::read(bytes, header)).collect::<Option<_>>()?;
        let checksum_at = optional + CHECKSUM_OFFSET;
        let hashed_headers = signatures_at.map_or(checksum_at + CHECKSUM_BYTES, |at| at + DIRECTORY_BYTES);
        let whole = sections.len() == usize::from(count)
            && count <= SECTIONS_MAX
            && (hashed_headers..=bytes.len()).contains(&headers_bytes);
        whole.then_some(Self { bytes, checksum_at, signatures_at, signatures_bytes, headers_bytes, sections })
    }

    /// The digest that signatures are over and PCR 4 is extended by: all but checksum and signatures.
    pub(super) fn authenticode(&self) -> Result<[u8; 32], MeasureError> {
        let after_checksum = self.checksum_at + CHECKSUM_BYTES;
        let mut parts = vec![&self.bytes[..self.checksum_at]];
        match self.signatures_at {
            Some(at) => parts.extend([
                &self.bytes[after_checksum..at],
                &self.bytes[at + DIRECTORY_BYTES..self.headers_bytes],
            ]),
            None => parts.push(&self.bytes[after_checksum..self.headers_bytes]),
        }
        let mut sections: Vec<_> =
            self.sections.iter().filter(|section| !section.contents.is_empty()).collect();
        sections.sort_by_key(|section| section.offset);
        parts.extend(sections.iter().map(|section| section.contents));
        // What follows the sections, and whatever lies between them, counts by its length only.
        let hashed =
            self.headers_bytes + sections.iter().map(|section| section.contents.len()).sum::<usize>();
        let end = self.bytes.len().checked_sub(self.signatures_bytes);
        let rest = end.and_then(|end| self.bytes.get(hashed.min(self.bytes.len())..end));
        parts.push(rest.ok_or(MeasureError::Image("its signatures overlap with its sections"))?);
        Ok(sha256(&parts))
    }
}

/// Where the COFF header, and where the optional header and its directories begin.
fn headers(bytes: &[u8]) -> Option<(usize, (usize, usize))> {
    let coff = long(bytes, PE_OFFSET)?;
    let optional = coff.checked_add(COFF_HEADER_BYTES)?;
    let magic = short(bytes, optional)?;
    let is_image = bytes.starts_with(b"MZ") && bytes.get(coff..)?.starts_with(b"PE\0\0");
    let kind = [PE32, PE32_PLUS].into_iter().find(|(known, _)| *known == magic).filter(|_| is_image)?;
    Some((coff, (optional, optional + kind.1)))
}

impl<'a> Section<'a> {
    fn read(bytes: &'a [u8], header: &'a [u8]) -> Option<Self> {
        let name = &header[..8];
        let name = &name[..name.iter().position(|byte| *byte == 0).unwrap_or(name.len())];
        let (memory_bytes, file_bytes, offset) = (long(header, 8)?, long(header, 16)?, long(header, 20)?);
        let contents =
            if file_bytes == 0 { &[] } else { bytes.get(offset..offset.checked_add(file_bytes)?)? };
        Some(Self { name, memory_bytes, contents, offset })
    }
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_le_bytes)
}

fn long(bytes: &[u8], at: usize) -> Option<usize> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)?.try_into().ok()
}
