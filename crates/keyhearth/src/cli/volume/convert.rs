//! `volume convert` and `volume rekey`: all data of a volume are written anew.
//!
//! Both may take hours and be stopped at any moment, so both run under a secret that can be had again: a passphrase of
//! the user's or the recovery secret, which the server derives whenever it is asked. The secret that is released is
//! given once; it gets its keyslot at the end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::super::failure::Failure;
use super::super::input;
use super::super::made;
use super::super::session::{Server, Session};
use super::contents::{refuse_attached, refuse_full, signatures};
use super::disk::{CIPHER, Disk, PBKDF};
use super::header::{Header, Underway};
use super::keyslots::{Opener, Passphrase, Volume, opened_by};
use super::reencrypt::{resume, run};

/// Where the header of a device lies before it lies on the device.
const SCRATCH: &str = "/var/lib/keyhearth";
/// How cryptsetup names it there.
const SCRATCH_PREFIX: &str = "LUKS2-temp-";

/// What a conversion is told.
pub struct Conversion<'a> {
    pub passphrase: &'a Passphrase,
    pub recovery: bool,
    pub end_is_free: bool,
    pub yes: bool,
}

/// Encrypts what lies on the volume's disk, in place.
pub fn convert(
    session: &Session,
    server: &Server,
    volume: &mut Volume<'_>,
    told: &Conversion<'_>,
) -> Result<(), Failure> {
    let disk = volume.disk;
    let size = disk.writable()?;
    refuse_attached(disk.path())?;
    let scratch = scratch(volume);
    put_back(disk, &scratch)?;
    let found = if disk.is("luks2") { Some(disk.header()?) } else { None };
    match &found {
        None => refuse_unfit(disk, size, told)?,
        Some(header) if volume.is_enrolled(header) => {
            let what =
                format_args!("{} is converted and enrolled already", disk.path().display()).to_string();
            return Err(Failure::new(what, "for a new secret: keyhearth volume rotate"));
        }
        Some(header) => refuse_other(disk, header, Some(Underway::Encrypt))?,
    }
    let by_recovery = told.passphrase.passphrase_file.is_none();
    let opener = if by_recovery {
        volume.recovery_secret_for(session, "conversion")?
    } else {
        told.passphrase.read()?
    };
    if found.is_none() {
        session.hint("If this is interrupted, give the same command again: it goes on where it stopped.");
        // Of a secret that is random, the key needs no work; of a passphrase, cryptsetup's usual.
        let pbkdf = if by_recovery { &PBKDF[..] } else { &[] };
        let start = ["--encrypt", "--init-only", "--type", "luks2", "--reduce-device-size", "32M"];
        made::folder(&scratch)?;
        let begun =
            run(session, server, disk, &[&start[..], &CIPHER, pbkdf].concat(), &opener, Some(&scratch));
        // What is left in it after a failure, the next run settles.
        let _ = fs::remove_dir(&scratch);
        begun?;
    }
    let header = disk.header()?;
    let called = if by_recovery { "the recovery secret" } else { "this passphrase" };
    let slot = opened_by(disk, &opener, called)?;
    if header.underway().is_some() {
        resume(session, server, disk, &header, &opener)?;
    }
    if by_recovery && volume.marks(&disk.header()?).iter().all(|mark| mark.generation.is_some()) {
        volume.mark(slot, None)?;
    }
    let slot = volume.prepare(session, &opener, told.recovery && !by_recovery)?;
    volume.end_old(slot, &[]).map(drop)
}

/// Refuses what cannot be converted, and asks.
fn refuse_unfit(disk: Disk<'_>, size: u64, told: &Conversion<'_>) -> Result<(), Failure> {
    let shown = disk.path().display();
    let found = signatures(disk.path())?;
    if found.iter().any(|kind| kind == "crypto_LUKS") {
        let what = format_args!("{shown} has a LUKS header, but not one of LUKS2 that is whole").to_string();
        return Err(Failure::new(what, "see `cryptsetup luksDump` and `cryptsetup repair`"));
    }
    if found.len() > 1 {
        let what = format_args!("{shown} holds several things: {}", found.join(", ")).to_string();
        return Err(Failure::new(what, "convert a device that holds one file system, as a partition does"));
    }
    refuse_full(disk.path(), size, told.end_is_free)?;
    let question = format!(
        "Encrypt {shown} ({size} bytes, {}) in place? Have a backup: a disk that fails meanwhile takes the data along.",
        found.first().map_or("nothing that is known here", String::as_str)
    );
    input::confirm(&question, told.yes)
}

/// Refuses a volume with which something other than `ours` is underway.
fn refuse_other(disk: Disk<'_>, header: &Header, ours: Option<Underway>) -> Result<(), Failure> {
    let next = match header.underway() {
        None => return Ok(()),
        underway if underway == ours => return Ok(()),
        Some(Underway::Encrypt) => "finish that: keyhearth volume convert",
        Some(Underway::Reencrypt) => "finish that: keyhearth volume rekey",
        Some(Underway::Other) => "finish that: cryptsetup reencrypt --resume-only",
    };
    Err(Failure::new(format_args!("{} is being reencrypted", disk.path().display()), next))
}

/// Refuses what is no LUKS2 volume, and one whose data are being written anew: its keyslots cannot be changed then.
pub fn refuse_underway(disk: Disk<'_>) -> Result<Header, Failure> {
    disk.check()?;
    let header = disk.header()?;
    refuse_other(disk, &header, None).map(|()| header)
}

/// The folder in which cryptsetup keeps the header until it is on the disk: beside an image file.
fn scratch(volume: &Volume<'_>) -> PathBuf {
    let device = volume.disk.path();
    if device.is_file() {
        let mut name = device.as_os_str().to_owned();
        name.push(".convert");
        return name.into();
    }
    Path::new(SCRATCH).join(format!("convert-{}-{}", *volume.machine.id, volume.name))
}

/// Settles what a conversion left that was stopped in its first moment.
///
/// cryptsetup copies the first 16 MiB of the data to the end of the disk, says in the header, which is still a file,
/// that a conversion is underway, writes the header over the copied data, and removes the file. So if the file says that
/// it is underway, the header belongs on the disk, wherever its writing stopped; if not, the disk is as it was.
fn put_back(disk: Disk<'_>, scratch: &Path) -> Result<(), Failure> {
    let failed = |error: &io::Error| Failure::at(scratch.display(), error);
    let files = match fs::read_dir(scratch) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(&error)),
    };
    for left in files {
        let left = left.map_err(|error| failed(&error))?;
        if !left.file_name().to_string_lossy().starts_with(SCRATCH_PREFIX) {
            continue;
        }
        let path = left.path();
        let header = Disk::at(&path);
        if header.is("luks2") && header.header()?.underway() == Some(Underway::Encrypt) && !disk.is("luks2") {
            let path = path.to_string_lossy();
            let words = ["luksHeaderRestore", "--batch-mode", "--header-backup-file", &path];
            disk.run(&words, &[], super::disk::quiet())?;
        }
        fs::remove_file(&path).map_err(|error| failed(&error))?;
    }
    fs::remove_dir(scratch).map_err(|error| failed(&error))
}

/// Gives the volume another volume key, and its keyslots anew.
pub fn rekey(
    session: &Session,
    server: &Server,
    volume: &mut Volume<'_>,
    opener: &Opener,
    yes: bool,
) -> Result<Vec<u32>, Failure> {
    let disk = volume.disk;
    disk.check()?;
    refuse_attached(disk.path())?;
    let header = disk.header()?;
    refuse_other(disk, &header, Some(Underway::Reencrypt))?;
    let marks = volume.marks(&header);
    let recovery = marks.iter().any(|mark| mark.generation.is_none());
    let (secret, slot) = volume.open(opener)?;
    // Once the data are written anew only the opener's keyslot is left, and the marks of the others point nowhere.
    let is_done = header.underway().is_none()
        && volume.enrolled().generation > 0
        && !volume.is_enrolled(&header)
        && header.keyslots() == [slot]
        && marks.iter().any(|mark| mark.generation.is_some() && mark.keyslot.is_none());
    let lost: Vec<u32> = volume.unmarked(&header).into_iter().filter(|other| *other != slot).collect();
    if header.underway().is_some() {
        resume(session, server, disk, &header, &secret)?;
    } else if !is_done {
        let others = match &lost[..] {
            [] => String::new(),
            lost => format!(" Keyslots {} end: add their passphrases again afterwards.", list(lost)),
        };
        let shown = disk.path().display();
        let question = format!(
            "Write all data of {shown} anew? Until it is done the machine does not start without a passphrase.{others}"
        );
        input::confirm(&question, yes)?;
        session.hint("If this is interrupted, give the same command again: it goes on where it stopped.");
        run(session, server, disk, &["--key-slot", &slot.to_string()], &secret, None)?;
    }
    let slot = volume.prepare(session, &secret, recovery && !opener.recover)?;
    volume.end_old(slot, &[])?;
    Ok(lost)
}

/// Numbers for people.
pub fn list(numbers: &[u32]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
