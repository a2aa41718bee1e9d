//! The body of a message: frames that are sealed one by one.
//!
//! Source: AWS Encryption SDK Specification, message-body and message-body-aad.

use keyhearth_crypto::stream::{ChunkKey, NONCE_BYTES, TAG_BYTES};

use crate::Error;
use crate::chunks::{Chunks, Geometry};

/// Bytes of plaintext in the frames that are written; the last one may have fewer.
pub const FRAME_BYTES: usize = 64 * 1024;
/// The longest frames that are read or written, in bytes of plaintext.
pub const FRAME_BYTES_MAX: usize = 16 << 20;
/// Bytes of a message's id.
pub(super) const ID_BYTES: usize = 32;
/// What stands in place of a number in front of the last frame's number.
const END: [u8; 4] = [0xff; 4];

/// What seals and opens the frames of one message.
pub struct Frames {
    key: ChunkKey,
    id: [u8; ID_BYTES],
    frame_bytes: usize,
}

impl Frames {
    /// Of the message with this id; `frame_bytes` is 1 to [`FRAME_BYTES_MAX`].
    pub(super) fn new(key: ChunkKey, id: [u8; ID_BYTES], frame_bytes: usize) -> Self {
        Self { key, id, frame_bytes }
    }
}

/// How long frames of so many bytes are once they are sealed.
pub(super) fn geometry(frame_bytes: usize) -> Geometry {
    let number_and_nonce = 4 + NONCE_BYTES;
    Geometry {
        chunk_bytes: frame_bytes,
        added_bytes: number_and_nonce + TAG_BYTES,
        added_bytes_last: END.len() + number_and_nonce + 4 + TAG_BYTES,
        has_empty_last: true,
        chunks_max: u64::from(u32::MAX),
    }
}

impl Chunks for Frames {
    fn geometry(&self) -> Geometry {
        geometry(self.frame_bytes)
    }

    fn seal(&self, number: u64, is_last: bool, sealed: &mut [u8]) -> Result<(), Error> {
        let (front, content) = sealed.split_at_mut(self.geometry().front_bytes(is_last));
        let (content, tag) = content.split_at_mut(content.len() - TAG_BYTES);
        let frame = Frame::new(number, is_last, content.len())?;
        front.copy_from_slice(&frame.front());
        tag.copy_from_slice(&self.key.seal(frame.nonce(), &frame.aad(&self.id), content)?);
        Ok(())
    }

    fn open<'c>(&self, number: u64, is_last: bool, sealed: &'c mut [u8]) -> Result<&'c mut [u8], Error> {
        let (front, content) = sealed.split_at_mut(self.geometry().front_bytes(is_last));
        let frame = Frame::new(number, is_last, content.len() - TAG_BYTES)?;
        if front != frame.front() {
            return Err(Error::NotAuthentic);
        }
        Ok(self.key.open(frame.nonce(), &frame.aad(&self.id), content)?)
    }
}

/// Where a frame is.
struct Frame {
    /// From 1 on.
    number: u32,
    is_last: bool,
    /// Bytes of content.
    len: u32,
}

impl Frame {
    /// `number` counts from 0.
    fn new(number: u64, is_last: bool, len: usize) -> Result<Self, Error> {
        const TOO_LONG: Error = Error::Invalid("a message has at most 2^32 - 1 frames of at most 16 MiB");
        let number = number.checked_add(1).and_then(|number| u32::try_from(number).ok()).ok_or(TOO_LONG)?;
        Ok(Self { number, is_last, len: u32::try_from(len).map_err(|_| TOO_LONG)? })
    }

    /// The number; that of the header's tag is 0.
    fn nonce(&self) -> [u8; NONCE_BYTES] {
        let mut nonce = [0; NONCE_BYTES];
        nonce[NONCE_BYTES - 4..].copy_from_slice(&self.number.to_be_bytes());
        nonce
    }

    /// What precedes the content. It says nothing that the reader does not know; a frame in which it says something
    /// else was altered.
    fn front(&self) -> Vec<u8> {
        let (number, nonce) = (self.number.to_be_bytes(), self.nonce());
        if self.is_last {
            [&END[..], &number, &nonce, &self.len.to_be_bytes()].concat()
        } else {
            [&number[..], &nonce].concat()
        }
    }

    fn aad(&self, id: &[u8; ID_BYTES]) -> Vec<u8> {
        let kind: &[u8] = if self.is_last {
            b"AWSKMSEncryptionClient Final Frame"
        } else {
            b"AWSKMSEncryptionClient Frame"
        };
        [id, kind, &self.number.to_be_bytes(), &u64::from(self.len).to_be_bytes()].concat()
    }
}
