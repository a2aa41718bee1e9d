//! `volume …`: the encrypted disks of enrolled machines, from the first keyslot to the last.
//!
//! What is done to a disk is done by cryptsetup ([`disk`]), here, where the disk is; the server knows of it what the
//! machine's record says. Not here: machines ([`super::machine`]), and opening volumes, which the agent does.

mod contents;
mod convert;
mod disk;
mod header;
mod keyslots;
mod mapping;
mod reencrypt;

use std::path::PathBuf;

use clap::Subcommand;
use keyhearth_proto::rest::answer;
use serde::Serialize;

use super::failure::Failure;
use super::input;
use super::session::Session;
use convert::{Conversion, list, refuse_underway};
pub use disk::Disk;
pub use keyslots::{Opener, Passphrase, Volume, VolumeAt};

#[derive(Subcommand)]
pub enum Verb {
    /// Makes an empty device a volume that opens with its next secret, and enrolls it
    Format {
        #[command(flatten)]
        volume: VolumeAt,
        /// Also add a keyslot for the recovery secret; without, no keyslot can be added later.
        #[arg(long)]
        recovery: bool,
        /// Also if something lies on the device: it is lost.
        #[arg(long)]
        force: bool,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Encrypts a device with its data in place, and enrolls it. Give it again if it was interrupted
    ///
    /// The last 32 MiB of the device must be free. It runs under the recovery secret, whose keyslot stays, unless a
    /// passphrase is given.
    Convert {
        #[command(flatten)]
        volume: VolumeAt,
        /// File with a passphrase that opens it too from then on; the recovery secret does if absent.
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
        /// With a passphrase, also add a keyslot for the recovery secret.
        #[arg(long)]
        recovery: bool,
        /// The last 32 MiB hold nothing, though what lies on the device is not known here.
        #[arg(long)]
        end_is_free: bool,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Gives a volume its next secret, and ends the keyslots of those before
    Rotate {
        #[command(flatten)]
        volume: VolumeAt,
        #[command(flatten)]
        opener: Opener,
        /// Also end this keyslot, as `cryptsetup luksDump` numbers them; can be given again.
        #[arg(long = "end", value_name = "KEYSLOT")]
        end: Vec<u32>,
    },
    /// Writes all data of a volume anew under another volume key. Give it again if it was interrupted
    ///
    /// An open volume stays usable. Keyslots of other passphrases end.
    Rekey {
        #[command(flatten)]
        volume: VolumeAt,
        #[command(flatten)]
        opener: Opener,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Opens this machine's late volumes with its agent, if the server allows it
    Open {
        /// The agent's configuration.
        #[arg(long, value_name = "FILE", default_value = "/etc/keyhearth/boot.toml")]
        config: PathBuf,
    },
    /// Takes an open volume away
    Close {
        /// Its name in /dev/mapper.
        mapping: PathBuf,
    },
}

/// A volume as it is after a change.
#[derive(Serialize)]
struct Changed<'a> {
    machine: &'a str,
    id: String,
    volume: &'a str,
    device: String,
    uuid: String,
    generation: u32,
    header: Option<String>,
    keyslots: Vec<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ended: Vec<u32>,
}

/// Shows a volume as it now is, and which of its keyslots nobody here knows.
pub fn show(session: &Session, volume: &Volume<'_>, ended: Vec<u32>) -> Result<(), Failure> {
    let header = volume.disk.header()?;
    let answer::Volume { generation, header: known, .. } = volume.enrolled();
    session.show(&Changed {
        machine: volume.machine.name.as_str(),
        id: volume.machine.id.to_string(),
        volume: volume.name.as_str(),
        device: volume.disk.path().display().to_string(),
        uuid: volume.disk.uuid()?,
        generation: *generation,
        header: known.as_ref().map(ToString::to_string),
        keyslots: header.keyslots(),
        ended,
    })?;
    let unmarked = volume.unmarked(&header);
    if !unmarked.is_empty() {
        session.hint(&format!(
            "Keyslots {} are for passphrases, or for secrets that were added by hand; `volume rotate --end` ends them.",
            list(&unmarked)
        ));
    }
    if unmarked.is_empty() && volume.marks(&header).iter().all(|mark| mark.generation.is_some()) {
        session.hint(
            "Nothing but the released secret opens it, and that is given once: no keyslot can be added.",
        );
    }
    Ok(())
}

impl Verb {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Format { volume, recovery, force, yes } => {
                let server = &session.server()?;
                let mut volume = volume.find(server)?;
                format(session, &mut volume, recovery, force, yes)?;
                show(session, &volume, Vec::new())
            }
            Self::Convert { mut volume, passphrase_file, recovery, end_is_free, yes } => {
                let server = &session.server()?;
                volume.device_absolute()?;
                let mut volume = volume.find(server)?;
                let passphrase = &Passphrase { passphrase_file };
                let told = Conversion { passphrase, recovery, end_is_free, yes };
                convert::convert(session, server, &mut volume, &told)?;
                show(session, &volume, Vec::new())
            }
            Self::Rotate { volume, opener, end } => {
                let server = &session.server()?;
                let mut volume = volume.find(server)?;
                let ended = renew(session, &mut volume, &opener, Some(&end))?;
                show(session, &volume, ended)
            }
            Self::Rekey { volume, opener, yes } => {
                let server = &session.server()?;
                let mut volume = volume.find(server)?;
                let ended = convert::rekey(session, server, &mut volume, &opener, yes)?;
                show(session, &volume, ended)
            }
            Self::Open { config } => mapping::open(session, &config),
            Self::Close { mapping } => mapping::close(session, &mapping),
        }
    }
}

/// Makes the disk an empty volume. Nothing is asked of the server before the disk was looked at.
///
/// What ends after the disk was formatted and before its header is enrolled leaves an empty volume that nobody opens;
/// the same again with `--force` begins anew.
fn format(
    session: &Session,
    volume: &mut Volume<'_>,
    recovery: bool,
    force: bool,
    yes: bool,
) -> Result<(), Failure> {
    let disk = volume.disk;
    let (size, shown) = (disk.writable()?, disk.path().display());
    contents::refuse_attached(disk.path())?;
    let found = contents::signatures(disk.path())?;
    if !found.is_empty() && !force {
        let what = format_args!("{shown} is not empty: {}", found.join(", ")).to_string();
        return Err(Failure::new(
            what,
            "to keep the data: keyhearth volume convert; to lose them: add --force",
        ));
    }
    let holds = if found.is_empty() { "nothing that is known here".to_owned() } else { found.join(", ") };
    input::confirm(&format!("Format {shown} ({size} bytes, {holds})? What lies on it is lost."), yes)?;
    let recovery = recovery.then(|| volume.recovery_secret_for(session, "recovery keyslot")).transpose()?;
    let (secret, generation) = volume.next_secret()?;
    disk.format(&secret)?;
    volume.mark(0, Some(generation))?;
    if let Some(recovery) = recovery {
        disk.add_keyslot(1, &secret, &recovery)?;
        volume.mark(1, None)?;
    }
    Ok(volume.enroll(generation)?)
}

/// Gives a volume a keyslot for its next secret. With `end`, those of the secrets before end, and those in it.
/// Gives the numbers of what ended.
pub fn renew(
    session: &Session,
    volume: &mut Volume<'_>,
    opener: &Opener,
    end: Option<&[u32]>,
) -> Result<Vec<u32>, Failure> {
    let keyslots = refuse_underway(volume.disk)?.keyslots();
    if let Some(missing) = end.unwrap_or(&[]).iter().find(|slot| !keyslots.contains(slot)) {
        let what = format_args!("{} has no keyslot {missing}", volume.disk.path().display()).to_string();
        return Err(Failure::new(what, format_args!("name some of these: {}", list(&keyslots))));
    }
    let (secret, _) = volume.open(opener)?;
    let slot = volume.prepare(session, &secret, false)?;
    end.map_or(Ok(Vec::new()), |end| volume.end_old(slot, end))
}

/// Refuses a disk that gets no keyslot: no LUKS2 volume, or `passphrase` does not open it.
pub fn check(disk: Disk<'_>, passphrase: &[u8]) -> Result<(), Failure> {
    refuse_underway(disk)?;
    keyslots::opened_by(disk, passphrase, "this passphrase").map(drop)
}
