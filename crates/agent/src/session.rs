//! What is kept between opening volumes and confirming it: in memory, for root alone, until it was confirmed.
//!
//! `session(16) ‖ confirm key(32) ‖ names of volumes, separated by newlines`

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use keyhearth_core::id::Name;
use keyhearth_proto::boot::{Key, SECRET_BYTES, SESSION_BYTES, VOLUMES_MAX};
use keyhearth_sys::filesystem;
use zeroize::Zeroizing;

/// Where it is kept.
pub const STATE_FOLDER: &str = "/run/keyhearth";
const FILE: &str = "session";
const BYTES_MAX: usize = SESSION_BYTES + SECRET_BYTES + VOLUMES_MAX * 65;

/// A release that was not confirmed yet.
pub struct Session {
    /// Its session.
    pub session: [u8; SESSION_BYTES],
    /// What authenticates the confirmation.
    pub key: Key,
    /// What was opened.
    pub opened: Vec<Name>,
}

impl Session {
    /// A session whose volumes are to be confirmed.
    #[must_use]
    pub fn new(session: [u8; SESSION_BYTES], key: &Key, opened: Vec<Name>) -> Self {
        Self { session, key: key.clone(), opened }
    }

    fn path(folder: &Path) -> PathBuf {
        folder.join(FILE)
    }

    /// Keeps it in `folder`, which is made.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] if the folder is not in memory.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        if !filesystem::in_memory(folder)? {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "it is on a disk; mount a tmpfs there"));
        }
        let path = Self::path(folder);
        let _ = fs::remove_file(&path);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let names: Vec<_> = self.opened.iter().map(Name::as_str).collect();
        let content =
            Zeroizing::new([&self.session[..], &self.key[..], names.join("\n").as_bytes()].concat());
        file.write_all(&content)
    }

    /// Takes what [`Session::write`] kept; nothing if there is nothing.
    ///
    /// # Errors
    /// The error of reading, or [`io::ErrorKind::InvalidData`].
    pub fn read(folder: &Path) -> io::Result<Option<Self>> {
        let file = match fs::File::open(Self::path(folder)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut content = Zeroizing::new(Vec::with_capacity(BYTES_MAX));
        file.take(BYTES_MAX as u64).read_to_end(&mut content)?;
        Self::parse(&content).map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn parse(content: &[u8]) -> Option<Self> {
        let (session, rest) = content.split_first_chunk()?;
        let (key, names) = rest.split_first_chunk::<SECRET_BYTES>()?;
        let names = std::str::from_utf8(names).ok()?.split('\n').map(|name| name.parse().ok());
        let mut held = Key::default();
        held.copy_from_slice(key);
        Some(Self { session: *session, key: held, opened: names.collect::<Option<_>>()? })
    }

    /// Forgets it: the kernel gives the memory to nobody before it is zeroed.
    ///
    /// # Errors
    /// The error of removing.
    pub fn forget(folder: &Path) -> io::Result<()> {
        fs::remove_file(Self::path(folder))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_session_is_kept_in_memory_alone_and_forgotten() {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let state = folder.path().join("keyhearth");
        assert!(Session::read(&state).unwrap().is_none());
        let names: Vec<Name> = ["root", "data.1"].map(|name| name.parse().unwrap()).into();
        let session = Session::new([1; 16], &Key::new([2; 32]), names.clone());
        session.write(&state).unwrap();
        session.write(&state).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&state), mode(&state.join(FILE))), (0o700, 0o600));
        let read = Session::read(&state).unwrap().unwrap();
        assert_eq!((read.session, *read.key, read.opened), ([1; 16], [2; 32], names));
        fs::write(state.join(FILE), b"short").unwrap();
        assert!(Session::read(&state).is_err());
        Session::forget(&state).unwrap();
        assert!(Session::read(&state).unwrap().is_none());
    }

    #[test]
    fn nothing_is_written_to_a_disk() {
        let target = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let session = Session::new([1; 16], &Key::new([2; 32]), vec!["root".parse().unwrap()]);
        let refused = session.write(target.path()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::Unsupported);
        assert_eq!(fs::read_dir(target.path()).unwrap().count(), 0);
    }
}
