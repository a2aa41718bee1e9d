//! Plaintext that is still being written: in a file without a name, encrypted under a key that this process alone has.
//!
//! Any part can be written again and again, whatever its length, with one block of it in memory. What is on the disk opens in
//! this process only, and only as it was written last: the nonce of each block is kept here. Who makes sealed files of it:
//! [`crate::seal_stream`]. Not here: how it comes to its content, and when it is sealed.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use keyhearth_crypto::random;
use keyhearth_crypto::stream::{ChunkKey, KEY_BYTES, NONCE_BYTES, TAG_BYTES};
use zeroize::Zeroizing;

use crate::Error;

/// Bytes of plaintext in a block.
const BLOCK_BYTES: usize = 64 * 1024;
/// The longest plaintext, in bytes: its nonces take 64 MiB of memory.
pub const SCRATCH_BYTES_MAX: u64 = 512 << 30;
const TOO_LONG: Error = Error::Invalid("the file is longer than 512 GiB");

/// Plaintext that can be read and written at any place.
pub struct Scratch {
    file: File,
    key: ChunkKey,
    len: u64,
    /// For each block which writing was its last, from 1 on: its nonce. 0 if there was none; it is zeros then.
    written: Vec<u64>,
    writings: u64,
    block: Block,
}

/// The block that is in memory.
struct Block {
    number: Option<u64>,
    content: Zeroizing<Vec<u8>>,
    is_stored: bool,
}

impl Scratch {
    /// Makes an empty one in the filesystem of `folder`.
    ///
    /// # Errors
    /// [`Error::Io`] as making a file there, [`Error::Machine`] without randomness.
    pub fn create(folder: &Path) -> Result<Self, Error> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        random::fill("keyhearth/scratch", &mut *key)?;
        Ok(Self {
            file: tempfile::tempfile_in(folder)?,
            key: ChunkKey::aes_256_gcm(&key),
            len: 0,
            written: Vec::new(),
            writings: 0,
            block: Block {
                number: None,
                content: Zeroizing::new(vec![0; BLOCK_BYTES + TAG_BYTES]),
                is_stored: true,
            },
        })
    }

    /// Bytes of plaintext.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Reads from the byte `offset` on until `out` is full or the content ends; gives how many bytes were read.
    ///
    /// # Errors
    /// [`Error::NotAuthentic`] if the disk gives back something else than was written, [`Error::Io`] as reading and writing.
    pub fn read_at(&mut self, offset: u64, out: &mut [u8]) -> Result<usize, Error> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let out_len = left.min(out.len());
        let mut read = 0;
        while read < out_len {
            let (number, from, len) = part(offset + read as u64, out_len - read);
            self.load(number)?;
            out[read..read + len].copy_from_slice(&self.block.content[from..from + len]);
            read += len;
        }
        Ok(read)
    }

    /// Writes `data` at the byte `offset`; what is between the end and there becomes zeros.
    ///
    /// # Errors
    /// As [`Scratch::read_at`]; [`Error::Invalid`] beyond [`SCRATCH_BYTES_MAX`]. A part may then be written.
    pub fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), Error> {
        let end = offset.checked_add(data.len() as u64);
        end.filter(|end| *end <= SCRATCH_BYTES_MAX).ok_or(TOO_LONG)?;
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let (number, from, len) = part(at, data.len() - done);
            if len == BLOCK_BYTES {
                self.take(number)?
            } else {
                self.load(number)?
            }
            self.block.content[from..from + len].copy_from_slice(&data[done..done + len]);
            self.block.is_stored = false;
            done += len;
            self.len = self.len.max(at + len as u64);
        }
        Ok(())
    }

    /// Cuts the content, or appends zeros to it.
    ///
    /// # Errors
    /// As [`Scratch::write_at`]; then nothing is changed.
    pub fn set_len(&mut self, len: u64) -> Result<(), Error> {
        if len > SCRATCH_BYTES_MAX {
            return Err(TOO_LONG);
        }
        if len < self.len {
            let (last, from, _) = part(len, BLOCK_BYTES);
            if from > 0 {
                self.load(last)?;
                self.block.content[from..BLOCK_BYTES].fill(0);
                self.block.is_stored = false;
            }
            let blocks = len.div_ceil(BLOCK_BYTES as u64);
            if self.block.number.is_some_and(|number| number >= blocks) {
                self.block.number = None;
                self.block.is_stored = true;
            }
            self.written.truncate(usize::try_from(blocks).unwrap_or(usize::MAX));
            let stored = self.written.len() as u64 * SLOT_BYTES;
            if self.file.metadata()?.len() > stored {
                self.file.set_len(stored)?;
            }
        }
        self.len = len;
        Ok(())
    }

    /// Reads all of it, from its start.
    pub fn reader(&mut self) -> impl Read {
        Reading { scratch: self, offset: 0 }
    }

    /// Has the block in memory.
    fn load(&mut self, number: u64) -> Result<(), Error> {
        if self.block.number == Some(number) {
            return Ok(());
        }
        self.store()?;
        self.block.number = None;
        match usize::try_from(number).ok().and_then(|at| self.written.get(at)) {
            None | Some(0) => self.block.content.fill(0),
            Some(&writing) => {
                self.file.read_exact_at(&mut self.block.content, number * SLOT_BYTES)?;
                self.key.open(nonce(writing), &number.to_be_bytes(), &mut self.block.content)?;
            }
        }
        self.block.number = Some(number);
        Ok(())
    }

    /// Has room in memory for a block that is written whole.
    fn take(&mut self, number: u64) -> Result<(), Error> {
        if self.block.number != Some(number) {
            self.store()?;
            self.block.number = Some(number);
        }
        Ok(())
    }

    /// Brings the block that is in memory to the disk.
    fn store(&mut self) -> Result<(), Error> {
        let Some(number) = self.block.number.filter(|_| !self.block.is_stored) else { return Ok(()) };
        self.writings += 1;
        // The content stays: if the disk is full it is the only copy.
        let mut sealed = self.block.content.to_vec();
        let tag = self.key.seal(nonce(self.writings), &number.to_be_bytes(), &mut sealed[..BLOCK_BYTES])?;
        sealed[BLOCK_BYTES..].copy_from_slice(&tag);
        self.file.write_all_at(&sealed, number * SLOT_BYTES)?;
        let at = usize::try_from(number).map_err(|_| TOO_LONG)?;
        if self.written.len() <= at {
            self.written.resize(at + 1, 0);
        }
        self.written[at] = self.writings;
        self.block.is_stored = true;
        Ok(())
    }
}

/// Bytes of a block on the disk.
const SLOT_BYTES: u64 = (BLOCK_BYTES + TAG_BYTES) as u64;

/// Of `len` bytes from `offset` on those that are in its block: the block, where in it they begin, how many they are.
fn part(offset: u64, len: usize) -> (u64, usize, usize) {
    let from = usize::try_from(offset % BLOCK_BYTES as u64).unwrap_or(0);
    (offset / BLOCK_BYTES as u64, from, len.min(BLOCK_BYTES - from))
}

fn nonce(writing: u64) -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    nonce[NONCE_BYTES - 8..].copy_from_slice(&writing.to_be_bytes());
    nonce
}

struct Reading<'s> {
    scratch: &'s mut Scratch,
    offset: u64,
}

impl Read for Reading<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.scratch.read_at(self.offset, out)?;
        self.offset += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BLOCK: u64 = BLOCK_BYTES as u64;

    fn scratch() -> Scratch {
        Scratch::create(&std::env::temp_dir()).unwrap()
    }

    fn all(scratch: &mut Scratch) -> Vec<u8> {
        let mut all = Vec::new();
        scratch.reader().read_to_end(&mut all).unwrap();
        all
    }

    #[derive(Clone, Debug)]
    enum Change {
        Write(u64, usize, u8),
        Cut(u64),
    }

    fn change() -> impl Strategy<Value = Change> {
        let place = prop_oneof![0..4 * BLOCK, (0u64..4).prop_map(|block| block * BLOCK), Just(BLOCK - 1)];
        let len = prop_oneof![0usize..200, Just(BLOCK_BYTES), 0..3 * BLOCK_BYTES];
        prop_oneof![
            3 => (place.clone(), len, 1u8..).prop_map(|(at, len, byte)| Change::Write(at, len, byte)),
            1 => place.prop_map(Change::Cut),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_is_what_was_written(changes in proptest::collection::vec(change(), 1..30)) {
            let (mut scratch, mut model) = (scratch(), Vec::new());
            for change in changes {
                match change {
                    Change::Write(at, len, byte) => {
                        scratch.write_at(at, &vec![byte; len]).unwrap();
                        let at = usize::try_from(at).unwrap();
                        if len > 0 && model.len() < at + len {
                            model.resize(at + len, 0);
                        }
                        let at = at.min(model.len());
                        model[at..at + len].fill(byte);
                    }
                    Change::Cut(len) => {
                        scratch.set_len(len).unwrap();
                        model.resize(usize::try_from(len).unwrap(), 0);
                    }
                }
                prop_assert_eq!(scratch.len(), model.len() as u64);
            }
            prop_assert!(all(&mut scratch) == model);
        }
    }

    #[test]
    fn on_the_disk_is_no_plaintext_and_nothing_older_is_believed() {
        let mut scratch = scratch();
        scratch.write_at(0, &[7; 3 * BLOCK_BYTES]).unwrap();
        scratch.store().unwrap();
        let stored = |scratch: &Scratch| {
            let mut bytes = vec![0; 3 * (BLOCK_BYTES + TAG_BYTES)];
            scratch.file.read_exact_at(&mut bytes, 0).unwrap();
            bytes
        };
        let old = stored(&scratch);
        assert!(!old.windows(16).any(|window| window == [7; 16]));
        scratch.write_at(5, &[8]).unwrap();
        scratch.load(2).unwrap();
        let new = stored(&scratch);
        let slot = BLOCK_BYTES + TAG_BYTES;
        assert!(new[..slot] != old[..slot] && new[slot..] == old[slot..]);
        scratch.file.write_all_at(&old, 0).unwrap();
        assert!(matches!(scratch.read_at(0, &mut [0]), Err(Error::NotAuthentic)));
        scratch.file.write_all_at(&new, 0).unwrap();
        assert_eq!(scratch.read_at(4, &mut [0; 2]).unwrap(), 2);
        // One block in the place of another.
        scratch.file.write_all_at(&new[slot..2 * slot], 2 * SLOT_BYTES).unwrap();
        assert!(matches!(scratch.read_at(2 * BLOCK, &mut [0]), Err(Error::NotAuthentic)));
    }

    #[test]
    fn what_is_cut_is_gone_and_lengths_have_a_limit() {
        let mut scratch = scratch();
        scratch.write_at(0, &[7; 2 * BLOCK_BYTES]).unwrap();
        scratch.set_len(10).unwrap();
        scratch.set_len(2 * BLOCK).unwrap();
        let mut expected = vec![0; 2 * BLOCK_BYTES];
        expected[..10].fill(7);
        assert!(all(&mut scratch) == expected);
        scratch.set_len(SCRATCH_BYTES_MAX).unwrap();
        assert_eq!(scratch.read_at(SCRATCH_BYTES_MAX - 1, &mut [1; 2]).unwrap(), 1);
        assert!(scratch.set_len(SCRATCH_BYTES_MAX + 1).is_err());
        assert!(
            scratch.write_at(SCRATCH_BYTES_MAX, &[1]).is_err() && scratch.write_at(u64::MAX, &[1]).is_err()
        );
        assert_eq!(scratch.len(), SCRATCH_BYTES_MAX);
    }
}
