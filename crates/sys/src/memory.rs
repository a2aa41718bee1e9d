//! Memory for secrets: never swapped, dumped or inherited by a child, and zeroed when given back.
//!
//! Secrets are small and frequent, so they share regions of 1 MiB that are mapped once, cut into
//! slots of a few sizes and never returned to the system. A region is `memfd_secret` memory where
//! the kernel has it (then the kernel itself cannot read it by accident) and locked anonymous
//! memory elsewhere; both have inaccessible guards on either side, so an overrun at the edge faults.
//! There is no guard between slots of one region.
//!
//! A child made by fork(2) does not have the regions at all: touching a secret there ends the child.
//!
//! Not covered: copies that the cryptographic library makes while it works, registers, a debugger
//! attached by root to kernels without `memfd_secret`, and hibernation there.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::process;

/// The most locked memory one process maps, 256 MiB; a request beyond it is [`Error::Exhausted`].
pub const LOCKED_BYTES_MAX: usize = 256 << 20;
/// Shared regions are this large.
const REGION_BYTES: usize = 1 << 20;
/// A multiple of every Linux page size in use (4, 16 and 64 KiB).
const GUARD_BYTES: usize = 64 << 10;
/// The smallest page size: touching memory at this stride touches every page.
const PAGE_BYTES_MIN: usize = 4 << 10;
/// The smallest slot. The others double, up to [`SLOT_BYTES_MAX`].
const SLOT_BYTES_MIN: usize = 32;
/// The largest slot. A longer secret has a region of its own, which is unmapped with it.
const SLOT_BYTES_MAX: usize = 16 << 10;
const CLASSES: usize = (SLOT_BYTES_MAX / SLOT_BYTES_MIN).ilog2() as usize + 1;

/// Why there is no locked memory.
#[derive(Debug)]
pub enum Error {
    /// The system does not let this process lock that much.
    LockLimit {
        /// RLIMIT_MEMLOCK of this process.
        limit_bytes: u64,
    },
    /// This process holds [`LOCKED_BYTES_MAX`] already.
    Exhausted,
    /// The system has no memory or does not know how to protect it.
    System(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LockLimit { limit_bytes } => write!(
                f,
                "cannot lock memory beyond RLIMIT_MEMLOCK ({limit_bytes} bytes); \
                 raise it with LimitMEMLOCK= or ulimit -l"
            ),
            Self::Exhausted => write!(f, "{LOCKED_BYTES_MAX} bytes of locked memory are in use already"),
            Self::System(error) => write!(f, "cannot map locked memory: {error}"),
        }
    }
}

impl std::error::Error for Error {}

/// Bytes in locked memory, zeroed when dropped. Deliberately neither `Clone` nor `Debug`.
pub struct LockedBytes {
    start: NonNull<u8>,
    len: usize,
    home: Home,
}

enum Home {
    Slot { class: usize },
    Own(Region),
}

// SAFETY: the slot belongs to this value alone; shared access only reads and writing needs `&mut`.
unsafe impl Send for LockedBytes {}
// SAFETY: as above.
unsafe impl Sync for LockedBytes {}

impl LockedBytes {
    /// Takes `len` zero bytes of locked memory.
    ///
    /// # Errors
    /// [`Error`], when the system or [`LOCKED_BYTES_MAX`] does not allow more.
    pub fn zeroed(len: usize) -> Result<Self, Error> {
        if len > SLOT_BYTES_MAX {
            let region =
                arena().region(len.checked_next_multiple_of(GUARD_BYTES).ok_or(Error::Exhausted)?)?;
            return Ok(Self { start: region.start, len, home: Home::Own(region) });
        }
        let class = class_of(len);
        let Slot(start) = arena().take(class)?;
        Ok(Self { start, len, home: Home::Slot { class } })
    }

    /// The bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        // SAFETY: `start` is valid for `len` initialised bytes that this value owns until dropped.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// The bytes, for filling them in.
    #[must_use]
    pub fn expose_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `expose`, and `&mut self` is the only access.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for LockedBytes {
    fn drop(&mut self) {
        // SAFETY: `start` is valid for writes of `len` bytes; explicit_bzero is never optimised away.
        unsafe { libc::explicit_bzero(self.start.as_ptr().cast(), self.len) };
        match &self.home {
            Home::Slot { class } => arena().free[*class].push(Slot(self.start)),
            Home::Own(region) => arena().mapped_bytes -= region.len,
        }
    }
}

/// The smallest class whose slots hold `len` bytes, which is at most [`SLOT_BYTES_MAX`].
fn class_of(len: usize) -> usize {
    (len.max(SLOT_BYTES_MIN).next_power_of_two() / SLOT_BYTES_MIN).ilog2() as usize
}

/// The start of memory in a shared region that nobody else points to. Always zero while free.
struct Slot(NonNull<u8>);

// SAFETY: shared regions are never unmapped and a `Slot` is the only pointer to its bytes.
unsafe impl Send for Slot {}

/// The free slots. The lists are outside the regions, so that secrets and pointers never mix.
struct Arena {
    mapped_bytes: usize,
    /// Pieces of [`SLOT_BYTES_MAX`] that no class has claimed. A class never gives one back.
    pieces: Vec<Slot>,
    free: [Vec<Slot>; CLASSES],
}

static ARENA: Mutex<Arena> =
    Mutex::new(Arena { mapped_bytes: 0, pieces: Vec::new(), free: [const { Vec::new() }; CLASSES] });

fn arena() -> MutexGuard<'static, Arena> {
    ARENA.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Arena {
    fn take(&mut self, class: usize) -> Result<Slot, Error> {
        if let Some(slot) = self.free[class].pop() {
            return Ok(slot);
        }
        if self.pieces.is_empty() {
            let region = self.region(REGION_BYTES)?;
            self.pieces.extend(cut(region.start, REGION_BYTES, SLOT_BYTES_MAX));
            std::mem::forget(region);
        }
        let Slot(piece) = self.pieces.pop().expect("a region was just cut into pieces");
        self.free[class].extend(cut(piece, SLOT_BYTES_MAX, SLOT_BYTES_MIN << class));
        Ok(self.free[class].pop().expect("a piece holds at least one slot of every class"))
    }

    fn region(&mut self, len: usize) -> Result<Region, Error> {
        if self.mapped_bytes.saturating_add(len) > LOCKED_BYTES_MAX {
            return Err(Error::Exhausted);
        }
        let region = Region::map(len)?;
        self.mapped_bytes += len;
        Ok(region)
    }
}

/// Cuts `len` bytes from `start` into slots of `step` bytes, which divides `len`.
fn cut(start: NonNull<u8>, len: usize, step: usize) -> impl Iterator<Item = Slot> {
    (0..len).step_by(step).map(move |offset| {
        // SAFETY: `offset` stays below `len`, inside the region that `start` belongs to.
        Slot(unsafe { start.add(offset) })
    })
}

/// Locked, zero, readable and writable memory between two guards; unmapped when dropped.
struct Region {
    start: NonNull<u8>,
    /// A multiple of [`GUARD_BYTES`].
    len: usize,
}

impl Region {
    fn map(len: usize) -> Result<Self, Error> {
        Self::map_from(secret_file(len), len)
    }

    /// Maps `secret`, or anonymous memory where there is none.
    fn map_from(secret: Option<OwnedFd>, len: usize) -> Result<Self, Error> {
        let limit_bytes = process::limit_raise(libc::RLIMIT_MEMLOCK).map_err(Error::System)?;
        let total = len + 2 * GUARD_BYTES;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new anonymous mapping at an address the kernel chooses.
        let base = unsafe { libc::mmap(ptr::null_mut(), total, libc::PROT_NONE, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(Error::System(io::Error::last_os_error()));
        }
        // SAFETY: `GUARD_BYTES` is inside the mapping, which does not start at the null address.
        let start = unsafe { NonNull::new_unchecked(base.cast::<u8>().add(GUARD_BYTES)) };
        let region = Self { start, len };
        region.protect(secret).map_err(|error| match error.raw_os_error() {
            Some(libc::EAGAIN | libc::ENOMEM | libc::EPERM) => Error::LockLimit { limit_bytes },
            _ => Error::System(error),
        })?;
        Ok(region)
    }

    /// Makes the middle of a fresh reservation usable and keeps it out of swap, dumps and children.
    fn protect(&self, secret: Option<OwnedFd>) -> io::Result<()> {
        let middle = self.start.as_ptr().cast::<libc::c_void>();
        let access = libc::PROT_READ | libc::PROT_WRITE;
        if let Some(file) = secret {
            let flags = libc::MAP_SHARED | libc::MAP_FIXED;
            // SAFETY: replaces only the middle of our own reservation, which nobody uses yet.
            let mapped = unsafe { libc::mmap(middle, self.len, access, flags, file.as_raw_fd(), 0) };
            check(mapped != libc::MAP_FAILED)?;
        } else {
            // SAFETY: the middle of our own reservation; both calls only change its protection.
            check(unsafe {
                libc::mprotect(middle, self.len, access) == 0 && libc::mlock(middle, self.len) == 0
            })?;
        }
        for advice in [libc::MADV_DONTDUMP, libc::MADV_DONTFORK] {
            // SAFETY: the middle of our own reservation; neither advice changes its content.
            check(unsafe { libc::madvise(middle, self.len, advice) == 0 })?;
        }
        // Secret memory is not backed before its first use; find out now whether there is any.
        for offset in (0..self.len).step_by(PAGE_BYTES_MIN) {
            // SAFETY: `offset` is inside the middle, which is writable since above.
            unsafe { self.start.add(offset).write_volatile(0) };
        }
        Ok(())
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made by `map`, to which no pointer is left.
        unsafe { libc::munmap(self.start.as_ptr().sub(GUARD_BYTES).cast(), self.len + 2 * GUARD_BYTES) };
    }
}

/// A file of `len` bytes that only this process can map; `None` where the kernel does not offer it.
///
/// Source: memfd_secret(2), Linux 5.14.
fn secret_file(len: usize) -> Option<OwnedFd> {
    // SAFETY: the call takes one integer and touches no memory of ours.
    let descriptor = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    let descriptor = i32::try_from(descriptor).ok().filter(|&descriptor| descriptor >= 0)?;
    // SAFETY: the kernel has just returned this descriptor to us alone.
    let file = unsafe { OwnedFd::from_raw_fd(descriptor) };
    // SAFETY: integers only, and the descriptor is open.
    let sized = unsafe { libc::ftruncate(file.as_raw_fd(), libc::off_t::try_from(len).ok()?) };
    (sized == 0).then_some(file)
}

fn check(done: bool) -> io::Result<()> {
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `body` in a forked child and returns how the child ended, as waitpid(2) reports it.
    fn in_child(body: impl FnOnce() -> libc::c_int) -> libc::c_int {
        let mut status = 0;
        // SAFETY: the child only runs `body`, which reads memory, and leaves by `_exit`.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::signal(libc::SIGSEGV, libc::SIG_DFL);
                libc::_exit(body());
            }
            assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        }
        status
    }

    fn faults(address: *const u8) -> bool {
        let status = in_child(|| {
            // SAFETY: not sound, and that is the point: the test wants the fault.
            let _ = unsafe { address.read_volatile() };
            0
        });
        libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSEGV
    }

    #[test]
    fn classes_cover_every_length() {
        for len in 0..=SLOT_BYTES_MAX {
            let class = class_of(len);
            assert!(class < CLASSES && SLOT_BYTES_MIN << class >= len);
            assert!(class == 0 || SLOT_BYTES_MIN << (class - 1) < len);
        }
        assert_eq!(class_of(SLOT_BYTES_MAX), CLASSES - 1);
    }

    #[test]
    fn slots_are_distinct_zero_and_reused_clean() {
        for round in 0..3u8 {
            let mut held = Vec::new();
            for len in (0..200).chain([4096, SLOT_BYTES_MAX, SLOT_BYTES_MAX + 1, 100_000]) {
                let mut bytes = LockedBytes::zeroed(len).unwrap();
                assert!(bytes.expose().iter().all(|&byte| byte == 0), "round {round}, {len} bytes");
                let mark = u8::try_from(held.len() % 251 + 1).unwrap();
                bytes.expose_mut().fill(mark);
                held.push((bytes, len, mark));
            }
            for (bytes, len, mark) in &held {
                assert_eq!(bytes.expose(), vec![*mark; *len]);
            }
        }
    }

    #[test]
    fn dropped_secret_is_gone() {
        let _guard = LockedBytes::zeroed(SLOT_BYTES_MAX).unwrap();
        let mut bytes = LockedBytes::zeroed(SLOT_BYTES_MAX).unwrap();
        bytes.expose_mut().fill(0xa5);
        let address = bytes.expose().as_ptr();
        drop(bytes);
        // SAFETY: slots of shared regions stay mapped; a racing test may reuse this one, but none writes 0xa5.
        assert_ne!(unsafe { address.read_volatile() }, 0xa5);
    }

    /// The flags that the kernel has for the mapping around `address`.
    fn flags(address: usize) -> Vec<String> {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        let line = maps.lines().find(|line| {
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            if let Some((low, high)) = range
                && let (Ok(low), Ok(high)) = (usize::from_str_radix(low, 16), usize::from_str_radix(high, 16))
            {
                inside = (low..high).contains(&address);
            }
            inside && line.starts_with("VmFlags:")
        });
        line.unwrap().split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn both_kinds_of_region_are_guarded_locked_and_absent_from_dumps_and_children() {
        let len = GUARD_BYTES;
        for region in [Region::map(len).unwrap(), Region::map_from(None, len).unwrap()] {
            let start = region.start.as_ptr();
            // SAFETY: the first byte of a region that this test alone knows.
            unsafe { start.write(7) };
            assert!(faults(start.wrapping_sub(1)) && faults(start.wrapping_add(len)), "guards");
            assert!(faults(start), "inherited by a child");
            // SAFETY: as above.
            assert_eq!(unsafe { start.read() }, 7);
            let flags = flags(start as usize);
            for flag in ["lo", "dd", "dc"] {
                assert!(flags.iter().any(|known| known == flag), "{flag} missing in {flags:?}");
            }
        }
    }

    #[test]
    fn lock_limit_is_named() {
        for secret in [true, false] {
            let status = in_child(|| {
                let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                // SAFETY: `none` is a valid rlimit; giving up root in the child ends its exemption from the limit.
                unsafe {
                    libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const none);
                    libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534);
                }
                let file = if secret { secret_file(GUARD_BYTES) } else { None };
                match Region::map_from(file, GUARD_BYTES) {
                    Err(Error::LockLimit { limit_bytes: 0 }) => 0,
                    _ => 1,
                }
            });
            assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "{status}");
        }
    }

    #[test]
    fn own_limit_is_named() {
        let Err(error) = LockedBytes::zeroed(LOCKED_BYTES_MAX + 1) else { panic!("limit not kept") };
        assert!(matches!(error, Error::Exhausted));
        assert!(matches!(LockedBytes::zeroed(usize::MAX), Err(Error::Exhausted)));
    }

    #[test]
    fn threads_share_the_arena() {
        std::thread::scope(|scope| {
            for mark in 1..=4 {
                scope.spawn(move || {
                    for len in 1..500 {
                        let mut bytes = LockedBytes::zeroed(len).unwrap();
                        assert!(bytes.expose().iter().all(|&byte| byte == 0));
                        bytes.expose_mut().fill(mark);
                        assert!(bytes.expose().iter().all(|&byte| byte == mark));
                    }
                });
            }
        });
    }
}
