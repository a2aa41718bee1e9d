//! After the volumes are open: tells the server, and replaces the token that the encrypted root keeps from one boot to
//! the next.
//!
//! A copy of the disk presents a token that was replaced since, as does a disk that was put back: the server says so,
//! and the machine closes its volumes and ends. Called by `keyhearth-boot confirm`, when root is mounted.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use keyhearth_proto::boot::{Confirm, Confirmed, Fixed, Step, TOKEN_BYTES, confirm_mac, write};
use keyhearth_proto::rest::Is;
use keyhearth_sys::clock;
use keyhearth_sys::filesystem::{self, Access};

use crate::config::Config;
use crate::cryptsetup;
use crate::run::{Failure, Rounds, post};
use crate::screen;
use crate::session::Session;
use crate::stop::Stop;
use crate::transport::Transport;

/// The folder of the token in the encrypted root.
const FOLDER: &str = "var/lib/keyhearth";
const TOKEN: &str = "boot-token";
const TOKEN_NEW: &str = "boot-token.new";

/// Confirms what was opened, with `root` where the encrypted root is mounted.
///
/// Nothing happens if nothing was opened: then somebody opened the volumes otherwise, as with a recovery passphrase.
///
/// # Errors
/// [`Stop`]; then the volumes are closed.
pub fn confirm(config: &Config, root: &Path, state: &Path) -> Result<(), Stop> {
    let done = confirmed(config, root, state);
    if done.is_err() {
        // Whoever has files open there keeps them until the machine ends, which is next.
        let _ = filesystem::detach(root);
        for volume in &config.volumes {
            let _ = cryptsetup::close(&volume.mapping);
        }
        let _ = Session::forget(state);
    }
    done
}

fn confirmed(config: &Config, root: &Path, state: &Path) -> Result<(), Stop> {
    let kept = |error| Stop::State(state.to_owned(), error);
    let _lock = Session::lock(state).map_err(kept)?;
    let Some(session) = Session::read(state).map_err(kept)? else {
        screen::note("nothing to confirm: the volumes were not opened by this agent");
        return Ok(());
    };
    let token = |error| Stop::Token(root.join(FOLDER).join(TOKEN), error);
    let old = read_token(root).map_err(token)?;
    let transport = Transport::new(&config.ca).map_err(|error| Stop::Ca(config.ca.clone(), error))?;
    let message = |token: Option<[u8; TOKEN_BYTES]>| {
        write(&Confirm {
            machine: Is(session.clone.unwrap_or(config.machine)),
            session: Fixed(session.session),
            opened: session.volumes.iter().cloned().map(Is).collect(),
            token: token.map(Fixed),
            mac: Fixed(confirm_mac(&session.key, &session.volumes, token.as_ref())),
        })
    };
    let shown = message(old);
    let mut rounds = Rounds::new(config);
    let mut asked_ms;
    let confirmed: Confirmed = loop {
        asked_ms = clock::boottime_ms();
        match post(&transport, rounds.server(), Step::Confirm, &shown) {
            Ok(confirmed) => break confirmed,
            Err(Failure::Stop(stop)) => return Err(stop),
            Err(Failure::Again(why, after_s)) => rounds.wait(&why, after_s)?,
            Err(Failure::Pending(_)) => return Err(Stop::Answer(rounds.server().to_string(), 202)),
        }
    };
    replace_token(root, &confirmed.token.0).map_err(token)?;
    // Shown once more, the old one is over at once and not only at the next boot. That may fail.
    let new = message(Some(confirmed.token.0));
    let _ = post::<Confirmed>(&transport, rounds.server(), Step::Confirm, &new);
    // Nobody shows it any more where the server is not to hear of the machine.
    match config.heartbeat {
        Some(_) => {
            let until_ms = asked_ms + u64::from(confirmed.lease_s) * 1_000;
            Session { until_ms, ..session }.write(state)
        }
        None => Session::forget(state),
    }
    .map_err(kept)?;
    screen::note("the boot is confirmed");
    Ok(())
}

/// The token that the boot before left; nothing at the first boot.
fn read_token(root: &Path) -> io::Result<Option<[u8; TOKEN_BYTES]>> {
    let path = root.join(FOLDER).join(TOKEN);
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut token = Vec::new();
    file.take(TOKEN_BYTES as u64 + 1).read_to_end(&mut token)?;
    let length = || io::Error::new(io::ErrorKind::InvalidData, "it has not 32 bytes");
    token.try_into().map(Some).map_err(|_| length())
}

/// Puts another token in the place of the old one, also where root is mounted to be read only, as initramfs do.
///
/// The commit point is the renaming. Before it the next boot presents the old token, which the server takes until it
/// was shown the new one.
fn replace_token(root: &Path, token: &[u8; TOKEN_BYTES]) -> io::Result<()> {
    match write_token(root, token) {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            filesystem::remount(root, Access::ReadWrite)?;
            let written = write_token(root, token);
            // The system mounts root as it wants it anyway.
            let _ = filesystem::remount(root, Access::ReadOnly);
            written
        }
        written => written,
    }
}

fn write_token(root: &Path, token: &[u8; TOKEN_BYTES]) -> io::Result<()> {
    let folder = root.join(FOLDER);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    let new = folder.join(TOKEN_NEW);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(token)?;
    file.sync_all()?;
    fs::rename(new, folder.join(TOKEN))?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_replaces_the_one_before_whole() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(read_token(root.path()).unwrap(), None);
        for token in [[1; 32], [2; 32]] {
            replace_token(root.path(), &token).unwrap();
            assert_eq!(read_token(root.path()).unwrap(), Some(token));
            // What a boot left whose power failed.
            fs::write(root.path().join(FOLDER).join(TOKEN_NEW), b"half").unwrap();
        }
        let path = root.path().join(FOLDER).join(TOKEN);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for wrong in [31, 33] {
            fs::write(&path, vec![1; wrong]).unwrap();
            assert_eq!(read_token(root.path()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
