//! Sealed files, as the demonstration makes them: a file under a data key of its own.
//!
//! `NAME.sealed` is one KH1 message (`docs/formats/kh1.md`) after the other, sealed with the data key under the id
//! of the key that wraps it. Message n, from 1, has version n and holds the next [`CHUNK_BYTES`] of the file.
//! The last one is shorter, or empty where the file's length is a multiple. Its context is `file`, `chunk` and `last`
//! (`true` or `false`): no message can be moved, left out, or taken from another file, and no end cut off.
//! `NAME.key` beside it is the data key, encrypted by the server with the context `purpose` and `file`.
//!
//! A format of the demonstration only: it is made, opened and deleted by one run.

use std::fs::File;
use std::io::{self, Read, Write};

use keyhearth_crypto::digest::Sha256;
use keyhearth_crypto::{Error as CryptoError, kh1};
use zeroize::Zeroizing;

use super::Error;

/// Plaintext bytes of every message but the last, 1 MiB.
pub const CHUNK_BYTES: usize = 1 << 20;

/// SHA-256 of a file.
pub type Hash = [u8; 32];

/// What a file's messages are bound to.
#[derive(Clone, Copy)]
pub struct Binding<'a> {
    /// The data key.
    pub data_key: &'a [u8],
    /// Id of the key that wraps it.
    pub key_id: [u8; 16],
    /// The file's name.
    pub name: &'a str,
}

impl Binding<'_> {
    fn context(&self, chunk: u32, is_last: bool) -> Result<kh1::Context, CryptoError> {
        let (chunk, last) = (chunk.to_string(), is_last.to_string());
        kh1::Context::new([("file", self.name), ("chunk", &chunk), ("last", &last)])
    }

    /// Seals all of `from` into `to` and returns its hash. `progress` receives the number of bytes done.
    ///
    /// Gives way after every chunk, so that it can be dropped half-way.
    ///
    /// # Errors
    /// [`Error`] if a file can not be read or written, or is longer than 4 PiB.
    pub async fn seal(&self, from: File, to: File, progress: impl Fn(u64)) -> Result<Hash, Error> {
        let seal = |chunk, is_last, plaintext: &[u8]| {
            kh1::seal(self.data_key, self.key_id, chunk, &self.context(chunk, is_last)?, plaintext)
        };
        let hash = |hash: &mut Sha256, plaintext: &[u8], _: &[u8]| hash.update(plaintext);
        each_chunk(from, to, CHUNK_BYTES, seal, hash, progress).await
    }

    /// Opens all of `from` into `to` and returns the hash of what comes out, as [`Self::seal`] does.
    ///
    /// # Errors
    /// [`Error::Crypto`] at the first message that is not authentic or missing; [`Error`] otherwise.
    pub async fn open(&self, from: File, to: File, progress: impl Fn(u64)) -> Result<Hash, Error> {
        let open = |chunk, is_last, message: &[u8]| {
            kh1::open(self.data_key, self.key_id, chunk, &self.context(chunk, is_last)?, message)
        };
        let hash = |hash: &mut Sha256, _: &[u8], plaintext: &[u8]| hash.update(plaintext);
        each_chunk(from, to, CHUNK_BYTES + kh1::OVERHEAD_BYTES, open, hash, progress).await
    }
}

/// Turns `from` into `to` piece by piece; the first one shorter than `piece_bytes` is the last.
async fn each_chunk<T: AsRef<[u8]>>(
    from: File,
    mut to: File,
    piece_bytes: usize,
    turn: impl Fn(u32, bool, &[u8]) -> Result<T, CryptoError>,
    hash: impl Fn(&mut Sha256, &[u8], &[u8]),
    progress: impl Fn(u64),
) -> Result<Hash, Error> {
    let mut piece = Zeroizing::new(Vec::with_capacity(piece_bytes));
    let (mut digest, mut done) = (Sha256::default(), 0);
    for chunk in 1..=u32::MAX {
        piece.clear();
        (&from).take(piece_bytes as u64).read_to_end(&mut piece)?;
        let is_last = piece.len() < piece_bytes;
        let turned = turn(chunk, is_last, &piece)?;
        to.write_all(turned.as_ref())?;
        hash(&mut digest, &piece, turned.as_ref());
        done += piece.len() as u64;
        progress(done);
        if is_last {
            return Ok(digest.finish());
        }
        tokio::task::yield_now().await;
    }
    Err(io::Error::from(io::ErrorKind::FileTooLarge).into())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const LENGTHS: [usize; 5] = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 7];

    fn binding(name: &str) -> Binding<'_> {
        Binding { data_key: &[7; 32], key_id: [9; 16], name }
    }

    async fn sealed(folder: &std::path::Path, plaintext: &[u8]) -> (Hash, Vec<u8>) {
        fs::write(folder.join("plain"), plaintext).unwrap();
        let (from, to) =
            (File::open(folder.join("plain")).unwrap(), File::create(folder.join("sealed")).unwrap());
        let hash = binding("a").seal(from, to, |_| ()).await.unwrap();
        (hash, fs::read(folder.join("sealed")).unwrap())
    }

    async fn opened(folder: &std::path::Path, name: &str, sealed: &[u8]) -> Result<(Hash, Vec<u8>), Error> {
        fs::write(folder.join("sealed"), sealed).unwrap();
        let (from, to) =
            (File::open(folder.join("sealed")).unwrap(), File::create(folder.join("opened")).unwrap());
        let hash = binding(name).open(from, to, |_| ()).await?;
        Ok((hash, fs::read(folder.join("opened")).unwrap()))
    }

    #[tokio::test]
    async fn files_of_every_length_open_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        for length in LENGTHS {
            let plaintext: Vec<u8> = (0..length).map(|at| at.to_le_bytes()[at % 3]).collect();
            let (hash, bytes) = sealed(folder.path(), &plaintext).await;
            assert_eq!(bytes.len(), length + (length / CHUNK_BYTES + 1) * kh1::OVERHEAD_BYTES);
            assert!(opened(folder.path(), "a", &bytes).await.unwrap() == (hash, plaintext), "{length}");
        }
    }

    #[tokio::test]
    async fn what_was_altered_does_not_open() {
        let folder = tempfile::tempdir().unwrap();
        let (_, bytes) = sealed(folder.path(), &vec![1; 2 * CHUNK_BYTES]).await;
        let message = CHUNK_BYTES + kh1::OVERHEAD_BYTES;
        let mut swapped = bytes.clone();
        swapped[..2 * message].rotate_left(message);
        let mut flipped = bytes.clone();
        flipped[message + 300] ^= 1;
        let cuts = [
            &bytes[..0],
            &bytes[..message],
            &bytes[..2 * message],
            &bytes[..bytes.len() - 1],
            &bytes[message..],
        ];
        for altered in cuts.into_iter().chain([&swapped[..], &flipped[..]]) {
            assert!(opened(folder.path(), "a", altered).await.is_err(), "{}", altered.len());
        }
        assert!(opened(folder.path(), "b", &bytes).await.is_err());
        assert!(opened(folder.path(), "a", &bytes).await.is_ok());
    }
}
