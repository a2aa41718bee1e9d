//! Payloads of chunks, whatever the format: sealed and opened on several threads, as they come, or in one place.
//!
//! A payload is full chunks and a last one. Each is sealed by itself, with its number and whether it is the last. Where
//! each lies follows from the lengths, which the [`Geometry`] of a format says.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use keyhearth_crypto::stream::TAG_BYTES;
use zeroize::Zeroizing;

use crate::Error;

/// Bytes of neighbours that a thread takes at once, so that the disk sees long runs.
const RUN_BYTES: usize = 1 << 20;
const CUT: Error = Error::Malformed("the payload is cut, or something was added to it");
const TOO_LONG: Error = Error::Invalid("the file is too long");

/// How long the chunks of a payload are.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    /// Bytes of plaintext in each chunk; the last one may have fewer.
    pub chunk_bytes: usize,
    /// What a sealed chunk has besides: something in front, and the tag.
    pub added_bytes: usize,
    /// The same for the last chunk, which has as much or more.
    pub added_bytes_last: usize,
    /// Whether the last chunk can be empty though there are others.
    pub has_empty_last: bool,
    /// The most chunks of a payload.
    pub chunks_max: u64,
}

/// How many chunks a payload has.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    chunk_bytes: usize,
    /// Full chunks before the last one, which may be full too.
    full: u64,
    /// Bytes of plaintext in the last one.
    last: usize,
}

impl Geometry {
    /// Bytes of a sealed chunk that is not the last.
    pub fn sealed_chunk_bytes(&self) -> usize {
        self.chunk_bytes + self.added_bytes
    }

    /// Bytes of the longest sealed chunk, which is a last one.
    fn sealed_chunk_bytes_max(&self) -> usize {
        self.chunk_bytes + self.added_bytes_last
    }

    /// Bytes in front of a sealed chunk's content.
    pub fn front_bytes(&self, is_last: bool) -> usize {
        if is_last { self.added_bytes_last - TAG_BYTES } else { self.added_bytes - TAG_BYTES }
    }

    /// What a file of so many bytes becomes: no empty chunk, but for an empty file. `None` if it is too long.
    pub fn extent(&self, plaintext_bytes: u64) -> Option<Extent> {
        let full = plaintext_bytes.saturating_sub(1) / self.chunk_bytes as u64;
        let last = usize::try_from(plaintext_bytes - full * self.chunk_bytes as u64).ok()?;
        (full < self.chunks_max).then_some(Extent { chunk_bytes: self.chunk_bytes, full, last })
    }

    /// Bytes of the payload of a file of so many bytes; `None` if it is too long.
    pub fn sealed_bytes(&self, plaintext_bytes: u64) -> Option<u64> {
        let extent = self.extent(plaintext_bytes)?;
        let added = extent.full.checked_mul(self.added_bytes as u64)?;
        plaintext_bytes.checked_add(added)?.checked_add(self.added_bytes_last as u64)
    }

    /// What a payload of so many bytes is made of. Only opening it tells whether that is true.
    ///
    /// # Errors
    /// [`Error::Malformed`] if no payload has so many.
    pub fn extent_of_sealed(&self, sealed_bytes: u64) -> Result<Extent, Error> {
        let chunked = sealed_bytes.checked_sub(self.added_bytes_last as u64).ok_or(CUT)?;
        let sealed_chunk_bytes = self.sealed_chunk_bytes() as u64;
        let (full, last) = (chunked / sealed_chunk_bytes, chunked % sealed_chunk_bytes);
        let is_empty_last = last == 0 && full > 0;
        if last > self.chunk_bytes as u64
            || (is_empty_last && !self.has_empty_last)
            || full >= self.chunks_max
        {
            return Err(CUT);
        }
        let last = usize::try_from(last).map_err(|_| CUT)?;
        Ok(Extent { chunk_bytes: self.chunk_bytes, full, last })
    }

    /// Room for any sealed chunk, and for the one byte that tells whether something follows.
    fn buffer(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(vec![0; self.sealed_chunk_bytes_max() + 1])
    }
}

impl Extent {
    /// Bytes of plaintext in all of it.
    pub fn plaintext_bytes(&self) -> u64 {
        self.full * self.chunk_bytes as u64 + self.last as u64
    }

    fn is_last(&self, number: u64) -> bool {
        number == self.full
    }

    /// Bytes of plaintext in the chunk with this number.
    fn len(&self, number: u64) -> usize {
        if self.is_last(number) { self.last } else { self.chunk_bytes }
    }
}

/// What seals and opens the chunks of one payload, in any order and from any thread.
pub trait Chunks: Send + Sync {
    /// How long they are.
    fn geometry(&self) -> Geometry;

    /// Makes a sealed chunk of its content, which already lies where it will be. No number is used twice.
    ///
    /// # Errors
    /// [`Error::Machine`].
    fn seal(&self, number: u64, is_last: bool, sealed: &mut [u8]) -> Result<(), Error>;

    /// Opens a sealed chunk in place; gives its content. It has at least the bytes of an empty one.
    ///
    /// # Errors
    /// [`Error::NotAuthentic`] if it is not the chunk with this number, or is the last one and should not be, or the
    /// reverse.
    fn open<'c>(&self, number: u64, is_last: bool, sealed: &'c mut [u8]) -> Result<&'c mut [u8], Error>;
}

/// Seals `len` bytes of `source` into `output` behind `head`, on `threads` threads; gives the bytes written.
pub fn seal_file(
    payload: &dyn Chunks,
    source: &File,
    len: u64,
    output: &File,
    head: &[u8],
    threads: usize,
) -> Result<u64, Error> {
    let (geometry, start) = (payload.geometry(), head.len() as u64);
    let extent = geometry.extent(len).ok_or(TOO_LONG)?;
    let sealed_bytes = geometry.sealed_bytes(len).ok_or(TOO_LONG)?;
    let written = start.checked_add(sealed_bytes).ok_or(TOO_LONG)?;
    // The head lies in front of the first chunk and goes out with it: one call writes a small file.
    in_runs(geometry, extent, head.len(), threads, |number, buffer| {
        let is_last = extent.is_last(number);
        let begin = head.len() + geometry.front_bytes(is_last);
        let content = begin..begin + extent.len(number);
        let end = content.end + TAG_BYTES;
        match source.read_exact_at(&mut buffer[content], number * geometry.chunk_bytes as u64) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(Error::Changed),
            read => read?,
        }
        payload.seal(number, is_last, &mut buffer[head.len()..end])?;
        if number == 0 {
            buffer[..head.len()].copy_from_slice(head);
            return Ok(output.write_all_at(&buffer[..end], 0)?);
        }
        let place = start + number * geometry.sealed_chunk_bytes() as u64;
        Ok(output.write_all_at(&buffer[head.len()..end], place)?)
    })?;
    Ok(written)
}

/// Seals all of `source`; gives the bytes read and written.
pub fn seal_stream(
    payload: &dyn Chunks,
    source: &mut dyn Read,
    output: &mut dyn Write,
) -> Result<(u64, u64), Error> {
    let geometry = payload.geometry();
    let (front, chunk_bytes) = (geometry.front_bytes(true), geometry.chunk_bytes);
    let mut buffer = geometry.buffer();
    let (mut len, mut read, mut written) = (0, 0, 0);
    for number in 0.. {
        if number == geometry.chunks_max {
            return Err(TOO_LONG);
        }
        len += fill(source, &mut buffer[front + len..=front + chunk_bytes])?;
        // Whether a chunk is the last one shows when nothing follows it.
        let is_last = len <= chunk_bytes;
        let next = buffer[front + chunk_bytes];
        len = len.min(chunk_bytes);
        let sealed = &mut buffer[front - geometry.front_bytes(is_last)..front + len + TAG_BYTES];
        payload.seal(number, is_last, sealed)?;
        output.write_all(sealed)?;
        read += len as u64;
        written += sealed.len() as u64;
        if is_last {
            break;
        }
        buffer[front] = next;
        len = 1;
    }
    Ok((read, written))
}

/// Opens the payload that lies in `source` from `start` to `end` into `output`, on `threads` threads; gives the bytes of
/// plaintext.
pub fn open_file(
    payload: &dyn Chunks,
    source: &File,
    (start, end): (u64, u64),
    output: &File,
    threads: usize,
) -> Result<u64, Error> {
    let geometry = payload.geometry();
    let extent = geometry.extent_of_sealed(end.saturating_sub(start))?;
    in_runs(geometry, extent, 0, threads, |number, buffer| {
        let content = open_at(payload, source, start, extent, number, buffer)?;
        Ok(output.write_all_at(content, number * geometry.chunk_bytes as u64)?)
    })?;
    Ok(extent.plaintext_bytes())
}

/// Opens one chunk of the payload that begins at `start`.
fn open_at<'b>(
    payload: &dyn Chunks,
    source: &File,
    start: u64,
    extent: Extent,
    number: u64,
    buffer: &'b mut [u8],
) -> Result<&'b mut [u8], Error> {
    let (geometry, is_last) = (payload.geometry(), extent.is_last(number));
    let sealed = &mut buffer[..geometry.front_bytes(is_last) + extent.len(number) + TAG_BYTES];
    source.read_exact_at(sealed, start + number * geometry.sealed_chunk_bytes() as u64)?;
    payload.open(number, is_last, sealed)
}

/// Opens the payload that `source` is, chunk by chunk; gives the bytes of plaintext.
pub fn open_stream(
    payload: &dyn Chunks,
    source: &mut dyn Read,
    output: &mut dyn Write,
) -> Result<u64, Error> {
    let geometry = payload.geometry();
    let (each, most) = (geometry.sealed_chunk_bytes(), geometry.sealed_chunk_bytes_max());
    let mut buffer = geometry.buffer();
    let (mut len, mut written) = (0, 0);
    for number in 0.. {
        len += fill(source, &mut buffer[len..])?;
        // A chunk is the last one if what is left is no longer than a last one can be.
        let is_last = len <= most;
        let sealed = if is_last {
            let is_empty = geometry.extent_of_sealed(len as u64)?.last == 0;
            if is_empty && number > 0 && !geometry.has_empty_last {
                return Err(CUT);
            }
            &mut buffer[..len]
        } else {
            &mut buffer[..each]
        };
        let content = payload.open(number, is_last, sealed)?;
        output.write_all(content)?;
        written += content.len() as u64;
        if is_last {
            break;
        }
        buffer.copy_within(each..len, 0);
        len -= each;
    }
    Ok(written)
}

/// Reads a sealed file at any place. Its length was proved, and what is read is proved each time.
pub struct Reader {
    payload: Box<dyn Chunks>,
    source: File,
    start: u64,
    extent: Extent,
}

impl Reader {
    /// Of the payload in `source` from `start` to `end`.
    pub(crate) fn new(
        payload: Box<dyn Chunks>,
        source: File,
        (start, end): (u64, u64),
    ) -> Result<Self, Error> {
        let extent = payload.geometry().extent_of_sealed(end.saturating_sub(start))?;
        let reader = Self { payload, source, start, extent };
        // Whether the file was cut shows in its last chunk alone.
        reader.chunk(extent.full, &mut reader.payload.geometry().buffer())?;
        Ok(reader)
    }

    /// Bytes of plaintext.
    #[must_use]
    pub fn plaintext_bytes(&self) -> u64 {
        self.extent.plaintext_bytes()
    }

    /// Bytes of plaintext in each chunk but the last; each is read whole.
    #[must_use]
    pub fn chunk_bytes(&self) -> usize {
        self.payload.geometry().chunk_bytes
    }

    /// Reads plaintext from the byte `offset` on until `out` is full or the file ends; gives how many bytes were read.
    ///
    /// # Errors
    /// [`Error::NotAuthentic`] if what lies there is not as it was written, [`Error::Io`] as reading.
    pub fn read_at(&self, mut offset: u64, out: &mut [u8]) -> Result<usize, Error> {
        let geometry = self.payload.geometry();
        let (chunk_bytes, mut buffer) = (geometry.chunk_bytes as u64, geometry.buffer());
        let mut read = 0;
        while read < out.len() && offset < self.plaintext_bytes() {
            let content = self.chunk(offset / chunk_bytes, &mut buffer)?;
            let from = usize::try_from(offset % chunk_bytes).unwrap_or(content.len());
            let part = &content[from..content.len().min(from + out.len() - read)];
            out[read..read + part.len()].copy_from_slice(part);
            read += part.len();
            offset += part.len() as u64;
        }
        Ok(read)
    }

    fn chunk<'b>(&self, number: u64, buffer: &'b mut [u8]) -> Result<&'b mut [u8], Error> {
        open_at(&*self.payload, &self.source, self.start, self.extent, number, buffer)
    }
}

/// Calls `work` with the number of each chunk and a buffer for a sealed one behind `head_bytes`, on `threads` threads, until one
/// fails.
fn in_runs(
    geometry: Geometry,
    extent: Extent,
    head_bytes: usize,
    threads: usize,
    work: impl Fn(u64, &mut [u8]) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
    let chunks = extent.full + 1;
    let run_chunks = (RUN_BYTES / geometry.chunk_bytes).max(1) as u64;
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    // What is wiped at the end costs as much as it is long: small files get little.
    let bytes = match extent.full {
        0 => geometry.added_bytes_last + extent.last,
        _ => geometry.sealed_chunk_bytes_max(),
    };
    let worker = || {
        let mut buffer = Zeroizing::new(vec![0; head_bytes + bytes]);
        while !failed.load(Ordering::Relaxed) {
            let run = next.fetch_add(run_chunks, Ordering::Relaxed);
            if run >= chunks {
                break;
            }
            for number in run..(run + run_chunks).min(chunks) {
                work(number, &mut buffer).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
            }
        }
        Ok(())
    };
    let others =
        usize::try_from(chunks.div_ceil(run_chunks)).unwrap_or(usize::MAX).min(threads).saturating_sub(1);
    thread::scope(|scope| {
        let others: Vec<_> = (0..others).map(|_| scope.spawn(worker)).collect();
        let ours = worker();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| thread.join().unwrap_or(Err(Error::Changed));
        others.into_iter().map(join).fold(ours, Result::and)
    })
}

/// Reads until `out` is full or nothing is left.
pub fn fill(source: &mut dyn Read, out: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < out.len() {
        match source.read(&mut out[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lengths_go_there_and_back(
            len in 0u64..500,
            chunk_bytes in 1usize..70,
            (front, more) in (0usize..20, 0usize..10),
            has_empty_last: bool,
            sealed in 0u64..1000,
        ) {
            let geometry = Geometry {
                chunk_bytes,
                added_bytes: TAG_BYTES + front,
                added_bytes_last: TAG_BYTES + front + more,
                has_empty_last,
                chunks_max: 400,
            };
            let Some(sealed_len) = geometry.sealed_bytes(len) else {
                prop_assert!(len > 400 * chunk_bytes as u64);
                return Ok(());
            };
            let (made, read) = (geometry.extent(len).unwrap(), geometry.extent_of_sealed(sealed_len).unwrap());
            prop_assert_eq!((read.full, read.last), (made.full, made.last));
            prop_assert_eq!(read.plaintext_bytes(), len);
            prop_assert!(made.last > 0 || len == 0);
            // Of each other length there is one reading or none.
            if let Ok(read) = geometry.extent_of_sealed(sealed) {
                let lens = read.full * geometry.sealed_chunk_bytes() as u64 + read.last as u64;
                prop_assert_eq!(lens + geometry.added_bytes_last as u64, sealed);
                prop_assert!(read.last <= chunk_bytes && (read.last > 0 || read.full == 0 || has_empty_last));
            }
        }
    }
}
