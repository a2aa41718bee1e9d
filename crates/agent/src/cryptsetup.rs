//! cryptsetup, which knows how to set up what the kernel then decrypts.
//!
//! It gets the header as a file in memory that was checked, and the key through a pipe: neither on the disk's word,
//! nor in an argument, a file or the environment.
//!
//! Called by [`crate::run`], `clone`, [`crate::confirm`] and [`crate::watch`].

use std::fmt;
use std::fs::File;
use std::io::{self, PipeReader, Seek, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use keyhearth_crypto::secret::SecretBytes;
use keyhearth_sys::filesystem;

use crate::luks;

const PROGRAM: &str = "cryptsetup";
/// Where initramfs and systems have it; what the caller's environment says does not count.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Keyslots of a header. Source: LUKS2 On-Disk Format Specification 1.1.4 §3.2.
const KEYSLOTS: u32 = 32;

const MAPPINGS: &str = "/dev/mapper";
/// How long a volume may take to close.
const CLOSE_WAIT: Duration = Duration::from_secs(20);
const CLOSE_POLL: Duration = Duration::from_millis(50);

/// What is done with a key that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose<'a> {
    /// The volume appears in `/dev/mapper` under this name.
    Open(&'a str),
    /// Nothing: only whether it fits is found out.
    Try,
}

/// Why cryptsetup did not do it.
#[derive(Debug)]
pub enum Error {
    /// It cannot be started.
    Start(io::Error),
    /// No keyslot opens with this key.
    WrongKey,
    /// There is no room for another keyslot.
    Full,
    /// It failed otherwise; what it said is on the console.
    Failed(ExitStatus),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => write!(f, "cryptsetup cannot be used: {error}"),
            Self::WrongKey => f.write_str("no keyslot of the volume opens with the key that was released"),
            Self::Full => f.write_str("all 32 keyslots of the volume are in use"),
            Self::Failed(status) => write!(f, "cryptsetup failed with {status}; its reason stands above"),
        }
    }
}

impl std::error::Error for Error {}

fn command() -> Command {
    let mut command = Command::new(PROGRAM);
    command.env_clear().env("PATH", PATH).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Opens the volume on `device` with `key`, by a header that was checked ([`crate::luks::Header::image`]).
///
/// # Errors
/// [`Error`]; then nothing was opened.
///
/// Source: cryptsetup(8), cryptsetup-open(8): exit status 2 is a wrong key.
pub fn open(device: &Path, header: &[u8], key: &SecretBytes, purpose: Purpose<'_>) -> Result<(), Error> {
    let header = filesystem::memory_file(c"keyhearth-header", header).map_err(Error::Start)?;
    // It wants room for every keyslot there could be; what was not written takes no memory.
    header.set_len(luks::AREAS_END_MAX).map_err(Error::Start)?;
    let mut command = command();
    command.args(["open", "--type=luks2", "--batch-mode", "--tries=1", "--key-file=-"]);
    command.arg(format!("--keyfile-size={}", key.len()));
    command.arg(format!("--header=/proc/self/fd/{}", header.as_raw_fd()));
    match purpose {
        Purpose::Open(mapping) => command.arg(device).arg(mapping),
        Purpose::Try => command.arg("--test-passphrase").arg(device),
    };
    run(&mut command, key)
}

/// Exchanges the keyslots of a header in memory, the [`crate::luks::Header::image`] of one with `keyslots`: afterwards each
/// of `new` opens it, in the keyslots whose numbers are given, and neither `old` nor whatever else did so before.
///
/// New keys are random, so that deriving from it slowly would protect nothing: 1,000 iterations are LUKS2's least.
///
/// # Errors
/// [`Error`].
///
/// Source: cryptsetup-luksAddKey(8), cryptsetup-luksKillSlot(8).
pub fn exchange(
    header: &[u8],
    keyslots: &[u32],
    old: &SecretBytes,
    new: &[SecretBytes],
) -> Result<(File, Vec<u32>), Error> {
    let mut file = filesystem::memory_file(c"keyhearth-header", header).map_err(Error::Start)?;
    file.set_len(luks::AREAS_END_MAX).map_err(Error::Start)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let free: Vec<_> = (0..KEYSLOTS).filter(|number| !keyslots.contains(number)).take(new.len()).collect();
    if free.len() < new.len() || free.is_empty() {
        return Err(Error::Full);
    }
    for (number, new) in free.iter().zip(new) {
        add_keyslot(&path, *number, old, new)?;
    }
    for number in keyslots {
        end_keyslot(&path, *number, &new[0])?;
    }
    file.rewind().map_err(Error::Start)?;
    Ok((file, free))
}

/// Ends a keyslot. `stays` opens another one: nothing is ended before it was tried.
fn end_keyslot(header: &str, number: u32, stays: &SecretBytes) -> Result<(), Error> {
    let mut kill = command();
    kill.args(["luksKillSlot", "--batch-mode", "--key-file=-"])
        .arg(format!("--keyfile-size={}", stays.len()));
    kill.args([header, &number.to_string()]);
    run(&mut kill, stays)
}

fn add_keyslot(header: &str, number: u32, old: &SecretBytes, new: &SecretBytes) -> Result<(), Error> {
    let mut add = command();
    add.args([
        "luksAddKey",
        "--batch-mode",
        "--pbkdf=pbkdf2",
        "--pbkdf-force-iterations=1000",
        "--hash=sha256",
    ]);
    add.arg(format!("--key-slot={number}")).arg("--key-file=-").arg(format!("--keyfile-size={}", old.len()));
    add.arg(format!("--new-keyfile-size={}", new.len())).args([header, "/proc/self/fd/1"]);
    // The one key comes through standard input, the other through standard output, where nothing is said.
    run(add.stdout(filled(new).map_err(Error::Start)?), old)
}

/// Runs it with `key` as its standard input.
fn run(command: &mut Command, key: &SecretBytes) -> Result<(), Error> {
    let status = filled(key).and_then(|pipe| command.stdin(pipe).status()).map_err(Error::Start)?;
    match status.code() {
        Some(0) => Ok(()),
        Some(2) => Err(Error::WrongKey),
        _ => Err(Error::Failed(status)),
    }
}

/// A pipe that holds a key, which goes there from locked memory at once, and nothing after it. It is full before anybody
/// reads, so that a cryptsetup that ends without reading is told by how it ends. Keys are shorter than what a pipe takes.
fn filled(key: &SecretBytes) -> io::Result<PipeReader> {
    let (reader, mut writer) = io::pipe()?;
    writer.write_all(key.expose())?;
    Ok(reader)
}

/// Whether there is a volume of this name, whoever opened it.
#[must_use]
pub fn is_open(mapping: &str) -> bool {
    Path::new(MAPPINGS).join(mapping).exists()
}

/// Takes a volume away, or where it is in use its key: whatever uses it then waits for ever. Says whether the kernel has
/// the key no more; one that is not open counts as closed.
///
/// Source: cryptsetup(8): exit status 4 is a device that is not there.
#[must_use]
pub fn close(mapping: &str) -> bool {
    let ended = |verb: &str| {
        let status = wait(command().args([verb, mapping]).spawn().ok()?)?;
        status.code()
    };
    matches!(ended("close"), Some(0 | 4)) || ended("luksSuspend") == Some(0)
}

/// Waits for a program, but not for ever: a disk that does not answer holds it up.
fn wait(mut child: Child) -> Option<ExitStatus> {
    let deadline = Instant::now() + CLOSE_WAIT;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().ok()? {
            return Some(status);
        }
        thread::sleep(CLOSE_POLL);
    }
    let _ = child.kill();
    None
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::luks::testing::format;

    #[test]
    fn a_key_fits_through_a_checked_header_in_memory() {
        let disk = format(&[]);
        let (_, image) = luks::read(&mut File::open(disk.path()).unwrap()).unwrap();
        let key = SecretBytes::copy_from(&crate::luks::testing::KEY).unwrap();
        open(disk.path(), &image, &key, Purpose::Try).unwrap();
        let other = SecretBytes::copy_from(&[1; 32]).unwrap();
        assert!(matches!(open(disk.path(), &image, &other, Purpose::Try), Err(Error::WrongKey)));
        let broken = open(disk.path(), &image[..4096], &key, Purpose::Try);
        assert!(matches!(broken, Err(Error::Failed(_))), "{broken:?}");
    }
}
