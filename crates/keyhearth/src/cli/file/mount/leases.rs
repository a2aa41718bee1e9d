//! What opens files that are being read, for as long as the server's word holds, and blocks of their plaintext.
//!
//! A file's key and what was read with it go together: when the lease is over, or the file is closed, both are wiped.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use keyhearth_files::{Error, Reader};
use keyhearth_sys::clock::boottime_ms;
use parking_lot::{Condvar, Mutex};
use zeroize::Zeroizing;

/// The most plaintext that is kept, in bytes.
const KEPT_BYTES_MAX: usize = 32 << 20;
/// Bytes of the blocks that are kept, unless a file's own are longer.
const BLOCK_BYTES: usize = 64 << 10;
/// The longest chunks of files that are read here, in bytes of plaintext.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;

/// A read of so many bytes goes past the blocks that are kept: who reads so much reads on, and not again.
const LONG_BYTES: usize = 128 << 10;
/// A read of so many bytes is shared by two threads.
const SHARED_BYTES: usize = 512 << 10;

/// The longest that is waited before leases are looked at.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// A block of plaintext.
type Content = Arc<Zeroizing<Vec<u8>>>;

/// What opens one file.
pub struct Leased {
    /// Tells it from others of the same file, before and after.
    id: u64,
    file: u64,
    reader: Reader,
    /// A whole number of the file's chunks.
    block_bytes: usize,
}

impl Leased {
    /// As [`Leases::read_at`], for who reads much at once: nothing is kept.
    ///
    /// # Errors
    /// As [`Reader::read_at`].
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<usize, Error> {
        if out.len() < SHARED_BYTES {
            return self.reader.read_at(offset, out);
        }
        let (first, second) = out.split_at_mut(out.len() / 2);
        let middle = offset.saturating_add(first.len() as u64);
        thread::scope(|scope| {
            let rest = scope.spawn(|| self.reader.read_at(middle, second));
            let read = self.reader.read_at(offset, first)?;
            // Where the first half ends early the file does.
            Ok(read + rest.join().unwrap_or(Err(Error::Changed))?)
        })
    }
}

struct Kept {
    leased: Arc<Leased>,
    /// Until when, on the clock that goes on while the machine sleeps.
    until_ms: u64,
}

struct Block {
    /// Whose it is.
    leased: u64,
    number: u64,
    content: Content,
}

#[derive(Default)]
struct State {
    kept: HashMap<u64, Kept>,
    /// The one that was used last is at the end.
    blocks: VecDeque<Block>,
    bytes: usize,
    next: u64,
    is_over: bool,
}

/// All that is open to read, each under what it was opened as.
pub struct Leases {
    state: Mutex<State>,
    changed: Condvar,
}

impl Leases {
    /// None yet.
    pub fn new() -> Self {
        Self { state: Mutex::default(), changed: Condvar::new() }
    }

    /// What opens this file, if its lease is not over.
    pub fn find(&self, file: u64) -> Option<Arc<Leased>> {
        let state = self.state.lock();
        let kept = state.kept.get(&file).filter(|kept| left_ms(kept.until_ms) > 0)?;
        Some(Arc::clone(&kept.leased))
    }

    /// Keeps what opens this file until then.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if its chunks are too long to be kept.
    pub fn keep(&self, file: u64, reader: Reader, until_ms: u64) -> Result<Arc<Leased>, Error> {
        let chunk_bytes = reader.chunk_bytes();
        if chunk_bytes > CHUNK_BYTES_MAX {
            return Err(Error::Unsupported(
                "a file in frames of more than 1 MiB; `keyhearth file open` opens it",
            ));
        }
        let block_bytes = chunk_bytes * (BLOCK_BYTES / chunk_bytes).max(1);
        let mut state = self.state.lock();
        state.next += 1;
        let leased = Arc::new(Leased { id: state.next, file, reader, block_bytes });
        state.end(file);
        if left_ms(until_ms) > 0 && !state.is_over {
            state.kept.insert(file, Kept { leased: Arc::clone(&leased), until_ms });
            self.changed.notify_one();
        }
        Ok(leased)
    }

    /// Wipes what opens this file.
    pub fn end(&self, file: u64) {
        self.state.lock().end(file);
    }

    /// Wipes what opens any file now.
    pub fn end_every(&self) {
        let mut state = self.state.lock();
        let files: Vec<u64> = state.kept.keys().copied().collect();
        files.into_iter().for_each(|file| state.end(file));
    }

    /// Wipes everything, and keeps nothing from now on.
    pub fn end_all(&self) {
        let mut state = self.state.lock();
        *state = State { is_over: true, ..State::default() };
        self.changed.notify_one();
    }

    /// Wipes what opens files, each when its lease is over, until [`Leases::end_all`].
    pub fn watch(&self) {
        let mut state = self.state.lock();
        while !state.is_over {
            let is_over = |kept: &&Kept| left_ms(kept.until_ms) == 0;
            let over: Vec<u64> = state.kept.values().filter(is_over).map(|kept| kept.leased.file).collect();
            over.into_iter().for_each(|file| state.end(file));
            match state.kept.values().map(|kept| left_ms(kept.until_ms)).min() {
                None => self.changed.wait(&mut state),
                // Waiting stands still while the machine sleeps.
                Some(left_ms) => {
                    self.changed.wait_for(&mut state, Duration::from_millis(left_ms).min(WAIT_MAX));
                }
            }
        }
    }

    /// Reads plaintext from the byte `offset` on until `out` is full or the file ends; gives how many bytes were read.
    ///
    /// # Errors
    /// As [`Reader::read_at`].
    pub fn read_at(&self, leased: &Leased, offset: u64, out: &mut [u8]) -> Result<usize, Error> {
        if out.len() >= LONG_BYTES {
            return leased.read_at(offset, out);
        }
        let mut read = 0;
        while read < out.len() {
            let at = offset.saturating_add(read as u64);
            let block = self.block(leased, at / leased.block_bytes as u64)?;
            let from = usize::try_from(at % leased.block_bytes as u64).unwrap_or(usize::MAX);
            let Some(part) = block.get(from..).filter(|part| !part.is_empty()) else { break };
            let part = &part[..part.len().min(out.len() - read)];
            out[read..read + part.len()].copy_from_slice(part);
            read += part.len();
        }
        Ok(read)
    }

    fn block(&self, leased: &Leased, number: u64) -> Result<Content, Error> {
        if let Some(content) = self.state.lock().block(leased.id, number) {
            return Ok(content);
        }
        let mut content = Zeroizing::new(vec![0; leased.block_bytes]);
        let start = number.checked_mul(leased.block_bytes as u64);
        let len = start.map_or(Ok(0), |start| leased.reader.read_at(start, &mut content))?;
        content.truncate(len);
        let content = Arc::new(content);
        self.state.lock().keep(leased, number, &content);
        Ok(content)
    }
}

/// What is left until then.
fn left_ms(until_ms: u64) -> u64 {
    until_ms.saturating_sub(boottime_ms())
}

impl State {
    fn end(&mut self, file: u64) {
        if let Some(kept) = self.kept.remove(&file) {
            self.blocks.retain(|block| block.leased != kept.leased.id);
            self.bytes = self.blocks.iter().map(Block::bytes).sum();
        }
    }

    fn block(&mut self, leased: u64, number: u64) -> Option<Content> {
        let at = self.blocks.iter().position(|block| (block.leased, block.number) == (leased, number))?;
        let block = self.blocks.remove(at)?;
        let content = Arc::clone(&block.content);
        self.blocks.push_back(block);
        Some(content)
    }

    /// Keeps a block, unless what opened it was wiped meanwhile.
    fn keep(&mut self, leased: &Leased, number: u64, content: &Content) {
        if self.kept.get(&leased.file).is_none_or(|kept| kept.leased.id != leased.id) || content.is_empty() {
            return;
        }
        self.bytes += content.capacity();
        self.blocks.push_back(Block { leased: leased.id, number, content: Arc::clone(content) });
        while self.bytes > KEPT_BYTES_MAX
            && let Some(oldest) = self.blocks.pop_front()
        {
            self.bytes -= oldest.bytes();
        }
    }
}

impl Block {
    /// Bytes of memory.
    fn bytes(&self) -> usize {
        self.content.capacity()
    }
}
