//! What a machine keeps of its release while it has the lease: in memory, for root alone.
//!
//! `session(16) ‖ confirm key(32) ‖ end of the lease(8) ‖ names of volumes, separated by newlines`; of a clone of a golden image
//! its id follows, as a line `=UUID`.
//!
//! Several programs replace it: opening late, heartbeats, confirming. Each holds the lock ([`Session::lock`]) from reading it
//! until what the server answered is written, so that none continues what another has continued already. Reading alone
//! needs no lock: it is replaced whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use keyhearth_core::id::{Name, PrincipalId};
use keyhearth_proto::boot::{Key, SECRET_BYTES, SESSION_BYTES, VOLUMES_MAX};
use keyhearth_sys::{clock, filesystem};
use zeroize::Zeroizing;

/// Where it is kept.
pub const STATE_FOLDER: &str = "/run/keyhearth";
const FILE: &str = "session";
const FILE_NEW: &str = "session.new";
const LOCK: &str = "lock";
const BYTES_MAX: usize = SESSION_BYTES + SECRET_BYTES + 8 + VOLUMES_MAX * 65 + 38;

/// The newest release, which this machine has the lease of.
#[derive(Clone)]
pub struct Session {
    /// Its session.
    pub session: [u8; SESSION_BYTES],
    /// What authenticates the confirmation, and requests that continue this one.
    pub key: Key,
    /// When the lease is over, in milliseconds since boot, suspended time included.
    pub until_ms: u64,
    /// What was released since the machine was started.
    pub volumes: Vec<Name>,
    /// Which machine it is, if the configured one is a golden image.
    pub clone: Option<PrincipalId>,
}

impl Session {
    /// Waits until no other program is about to replace it; nobody else is while the result exists.
    ///
    /// # Errors
    /// As [`Session::write`].
    pub fn lock(folder: &Path) -> io::Result<File> {
        make(folder)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(folder.join(LOCK))?;
        lock.lock()?;
        Ok(lock)
    }

    /// How long the lease lasts; nothing once it is over.
    #[must_use]
    pub fn left(&self) -> Duration {
        Duration::from_millis(self.until_ms.saturating_sub(clock::boottime_ms()))
    }

    fn path(folder: &Path) -> PathBuf {
        folder.join(FILE)
    }

    /// Keeps it in `folder`, which is made, in the place of the one before.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] if the folder is not in memory.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        make(folder)?;
        let new = folder.join(FILE_NEW);
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        let names = self.volumes.iter().map(|name| name.as_str().to_owned());
        let lines: Vec<_> = names.chain(self.clone.map(|id| format!("={id}"))).collect();
        let (until, names) = (self.until_ms.to_be_bytes(), lines.join("\n"));
        let content = Zeroizing::new([&self.session[..], &self.key[..], &until, names.as_bytes()].concat());
        file.write_all(&content)?;
        fs::rename(new, Self::path(folder))
    }

    /// Takes what [`Session::write`] kept; nothing if there is nothing.
    ///
    /// # Errors
    /// The error of reading, or [`io::ErrorKind::InvalidData`].
    pub fn read(folder: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(Self::path(folder)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut content = Zeroizing::new(Vec::with_capacity(BYTES_MAX));
        file.take(BYTES_MAX as u64).read_to_end(&mut content)?;
        Self::parse(&content).map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn parse(content: &[u8]) -> Option<Self> {
        let (session, rest) = content.split_first_chunk()?;
        let (key, rest) = rest.split_first_chunk::<SECRET_BYTES>()?;
        let (until, names) = rest.split_first_chunk()?;
        let lines = std::str::from_utf8(names).ok()?;
        let (names, clone) = match lines.rsplit_once("\n=") {
            Some((names, id)) => (names, Some(id.parse().ok()?)),
            None => (lines, None),
        };
        let names = names.split('\n').map(|name| name.parse().ok());
        let mut held = Key::default();
        held.copy_from_slice(key);
        let until_ms = u64::from_be_bytes(*until);
        Some(Self { session: *session, key: held, until_ms, volumes: names.collect::<Option<_>>()?, clone })
    }

    /// Forgets it: the kernel gives the memory to nobody before it is zeroed.
    ///
    /// # Errors
    /// The error of removing.
    pub fn forget(folder: &Path) -> io::Result<()> {
        fs::remove_file(Self::path(folder))
    }
}

fn make(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    if filesystem::in_memory(folder)? {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::Unsupported, "it is on a disk; mount a tmpfs there"))
}

#[cfg(test)]
mod tests {
    use std::fs::TryLockError;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn session(volumes: &[&str]) -> Session {
        let volumes = volumes.iter().map(|name| name.parse().unwrap()).collect();
        Session { session: [1; 16], key: Key::new([2; 32]), until_ms: 3, volumes, clone: None }
    }

    #[test]
    fn a_session_is_kept_in_memory_alone_and_forgotten() {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let state = folder.path().join("keyhearth");
        assert!(Session::read(&state).unwrap().is_none());
        let session = session(&["root", "data.1"]);
        session.write(&state).unwrap();
        // What a program left that was ended meanwhile.
        fs::write(state.join(FILE_NEW), b"half").unwrap();
        session.write(&state).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&state), mode(&state.join(FILE))), (0o700, 0o600));
        let read = Session::read(&state).unwrap().unwrap();
        assert_eq!((read.session, *read.key, read.until_ms), ([1; 16], [2; 32], 3));
        assert_eq!((read.left(), &read.volumes, read.clone), (Duration::ZERO, &session.volumes, None));
        let clone = Some(PrincipalId([7; 16]));
        Session { clone, ..read }.write(&state).unwrap();
        let read = Session::read(&state).unwrap().unwrap();
        assert_eq!((read.clone, read.volumes.len()), (clone, 2));
        for wrong in [&b"short"[..], &[1; 16 + 32 + 8], &[0xff; 16 + 32 + 8 + 4]] {
            fs::write(state.join(FILE), wrong).unwrap();
            assert!(Session::read(&state).is_err());
        }
        Session::forget(&state).unwrap();
        assert!(Session::read(&state).unwrap().is_none());
    }

    #[test]
    fn one_program_at_a_time_replaces_it() {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let first = Session::lock(folder.path()).unwrap();
        let other = File::open(folder.path().join(LOCK)).unwrap();
        assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
        drop(first);
        other.try_lock().unwrap();
    }

    #[test]
    fn nothing_is_written_to_a_disk() {
        let target = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let refused = session(&["root"]).write(target.path()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::Unsupported);
        assert!(Session::lock(target.path()).is_err());
        assert_eq!(fs::read_dir(target.path()).unwrap().count(), 0);
    }
}
