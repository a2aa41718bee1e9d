//! LUKS2 headers: what lies on a disk is copied to memory, checked to the last member, written anew from what was
//! understood, and only that is ever given to cryptsetup.
//!
//! Whoever can write to the disk can write its header: one that says `cipher_null` opens with the right key, and the
//! machine then trusts a disk that is not encrypted. So a header has to be of the one form that is allowed here, and
//! because cryptsetup reads what was written anew, two readers of one text cannot disagree.
//!
//! Not here: whether it is *this* machine's header. The server compares [`Header::hash`] with what it knows.
//!
//! Called by [`crate::run`], `clone`, by `keyhearth-boot check` and by fuzzing.
//!
//! Source: LUKS2 On-Disk Format Specification 1.1.4 §2 (binary header), §3 (JSON).

mod binary;
pub mod exchange;
mod json;
mod mark;
mod model;
mod refusal;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::io::{Read, Seek, SeekFrom};

use keyhearth_core::id::{Name, PrincipalId};
use keyhearth_proto::boot::header_hash;

use binary::Copy;
pub use json::Json;
pub use refusal::{Refusal, Rule};

/// The largest of the two copies that is read: cryptsetup's default is 16 KiB, its limit 4 MiB.
pub const COPY_BYTES_MAX: usize = 1 << 20;
/// Both copies.
pub const METADATA_BYTES_MAX: usize = 2 * COPY_BYTES_MAX;
/// Where the last area of a keyslot ends at the latest.
pub const AREAS_END_MAX: u64 = 64 << 20;

/// A header of the one form that is allowed.
#[derive(Clone, Debug)]
pub struct Header {
    copy: Copy,
    json: Json,
    /// Where the material of each keyslot lies: offset and length in bytes.
    areas: Vec<(u64, u64)>,
    /// What it says of whose it is.
    marks: Vec<mark::Mark>,
}

impl Header {
    /// Reads the first bytes of a disk, up to [`METADATA_BYTES_MAX`], of which there may be more than the header.
    ///
    /// The copy with the higher sequence number counts; a copy that was torn while it was written does not.
    ///
    /// # Errors
    /// [`Refusal`] with the first rule that is broken.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let copy = Copy::choose(&bytes[..bytes.len().min(METADATA_BYTES_MAX)])?;
        let mut json = Json::parse(copy.text())?;
        let areas = model::check(&json, copy.size())?;
        let marks = mark::marks(&json);
        // Nothing in them is needed otherwise, and cryptsetup would load plugins that they name.
        json.set("tokens", Json::Object([].into()));
        Ok(Self { copy, json, areas, marks })
    }

    /// The UUID that the header names itself by: 36 characters, or what is there instead.
    #[must_use]
    pub fn uuid(&self) -> &str {
        self.copy.uuid()
    }

    /// The machine that the volume is marked as that of, if that is a clone of `image`. A hint: the disk says it.
    #[must_use]
    pub fn clone_of(&self, volume: &Name, image: PrincipalId) -> Option<PrincipalId> {
        mark::clone_of(&self.marks, volume, image)
    }

    /// The numbers of its keyslots, at most 32.
    #[must_use]
    pub fn keyslots(&self) -> Vec<u32> {
        let keyslots = self.json.member("keyslots").into_iter().flat_map(Json::members);
        keyslots.filter_map(|(number, _)| number.parse().ok()).collect()
    }

    /// What the server knows a header by ([`header_hash`]). Tokens and what only tunes performance may change.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        header_hash(&serde_json::to_value(&self.json).expect("it was JSON"))
    }

    /// Both copies, written anew.
    ///
    /// # Errors
    /// [`Rule::JsonTooLong`] if the text does not fit any more.
    pub fn metadata(&self) -> Result<Vec<u8>, Refusal> {
        self.copy.write(&self.json.to_string())
    }

    /// Everything that opening needs besides the data: both copies written anew, and the keyslots' material as it
    /// is on the disk.
    ///
    /// # Errors
    /// [`Rule::Unreadable`] if `disk` ends too early or cannot be read.
    pub fn image(&self, disk: &mut (impl Read + Seek)) -> Result<Vec<u8>, Refusal> {
        let mut image = self.metadata()?;
        for (offset, length) in &self.areas {
            let place = |number: &u64| usize::try_from(*number).map_err(|_| Rule::KeyslotArea.found(number));
            let (start, length) = (place(offset)?, place(length)?);
            image.resize(image.len().max(start + length), 0);
            disk.seek(SeekFrom::Start(*offset)).map_err(|error| Rule::Unreadable.found(error))?;
            disk.read_exact(&mut image[start..start + length])
                .map_err(|error| Rule::Unreadable.found(error))?;
        }
        Ok(image)
    }
}

/// Reads the header of a disk, and gives it with its [`Header::image`].
///
/// # Errors
/// [`Refusal`] with the first rule that is broken.
pub fn read(disk: &mut (impl Read + Seek)) -> Result<(Header, Vec<u8>), Refusal> {
    let mut bytes = Vec::new();
    disk.by_ref()
        .take(METADATA_BYTES_MAX as u64)
        .read_to_end(&mut bytes)
        .map_err(|error| Rule::Unreadable.found(error))?;
    let header = Header::parse(&bytes)?;
    let image = header.image(disk)?;
    Ok((header, image))
}
