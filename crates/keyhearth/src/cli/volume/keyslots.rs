//! The keyslots of a machine's volume: added for its secrets, ended, and the header enrolled as it then is.
//!
//! The server keeps one header hash for each volume, and a hash covers the keyslots. So between a change of the header
//! and its enrolling the machine does not start without a passphrase: a fraction of a second, in which nothing is
//! asked and nothing is waited for. What fails there is undone where it can be: a header whose new keyslot is ended
//! again has the hash that it had before.

use std::io;
use std::path::{self, PathBuf};

use clap::Args;
use keyhearth_core::id::Name;
use keyhearth_core::request::Secret;
use keyhearth_proto::rest::body::{MachineChange, PreparedVolume, VolumeOf};
use keyhearth_proto::rest::{Is, Within, answer};

use super::super::failure::Failure;
use super::super::input;
use super::super::machine::{MachineArgument, volume_at};
use super::super::session::{Server, Session};
use super::disk::Disk;
use super::header::{Header, Mark};

/// The longest passphrase that opens a volume already, in bytes.
const PASSPHRASE_BYTES_MAX: usize = 8 * 1024;

/// What opens a volume already.
#[derive(Args)]
pub struct Passphrase {
    /// File with a passphrase that opens the volume now; asked for if absent.
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

impl Passphrase {
    pub fn read(&self) -> Result<Secret, Failure> {
        match &self.passphrase_file {
            Some(path) => input::read(path, PASSPHRASE_BYTES_MAX),
            None => input::secret("A passphrase of the volume", None, PASSPHRASE_BYTES_MAX),
        }
    }
}

/// The same, or the recovery secret.
#[derive(Args)]
pub struct Opener {
    #[command(flatten)]
    pub passphrase: Passphrase,
    /// Open it with its recovery secret instead; wants `--reason`, which the log keeps.
    #[arg(long, conflicts_with = "passphrase_file")]
    pub recover: bool,
}

/// A volume of a machine, and where it is.
#[derive(Args)]
pub struct VolumeAt {
    #[command(flatten)]
    machine: MachineArgument,
    /// The volume and its device or image file.
    #[arg(value_name = "VOLUME=DEVICE", value_parser = volume_at)]
    volume: (Name, PathBuf),
}

impl VolumeAt {
    /// Finds it on the server.
    pub fn find<'a>(&'a self, server: &'a Server) -> Result<Volume<'a>, Failure> {
        let (name, device) = &self.volume;
        Volume::of(server, self.machine.find(server)?, name, Disk::at(device))
    }

    /// Names the device wherever this process is.
    pub fn device_absolute(&mut self) -> io::Result<()> {
        self.volume.1 = path::absolute(&self.volume.1)?;
        Ok(())
    }
}

/// A volume of an enrolled machine, and the disk that it is on.
pub struct Volume<'a> {
    server: &'a Server,
    pub machine: answer::Machine,
    pub name: &'a Name,
    pub disk: Disk<'a>,
}

impl<'a> Volume<'a> {
    /// The volume `name` of a machine.
    pub fn of(
        server: &'a Server,
        machine: answer::Machine,
        name: &'a Name,
        disk: Disk<'a>,
    ) -> Result<Self, Failure> {
        if machine.volumes.iter().all(|volume| *volume.name != *name) {
            let names: Vec<&str> = machine.volumes.iter().map(|volume| volume.name.as_str()).collect();
            let what = format_args!("{} has no volume `{name}`", machine.name.as_str()).to_string();
            return Err(Failure::new(what, format_args!("name one of these: {}", names.join(", "))));
        }
        Ok(Self { server, machine, name, disk })
    }

    /// What the server knows of it.
    pub fn enrolled(&self) -> &answer::Volume {
        let found = self.machine.volumes.iter().find(|volume| *volume.name == *self.name);
        found.expect("`of` found it, and machines never lose volumes")
    }

    /// Whether the server knows this header.
    pub fn is_enrolled(&self, header: &Header) -> bool {
        self.enrolled().header.as_ref().is_some_and(|known| **known == header.hash())
    }

    fn body(&self) -> (String, VolumeOf) {
        (
            self.machine.key.to_string(),
            VolumeOf { machine: self.machine.id.clone(), volume: Is(self.name.clone()) },
        )
    }

    /// Its recovery secret, for the reason that the user gives.
    pub fn recovery_secret(&self) -> Result<Secret, Failure> {
        let (key, body) = self.body();
        Ok(self.server.wait(self.server.recovery_secret(&key, &body))?.secret.into_inner())
    }

    /// Its recovery secret, for a keyslot or a conversion: a reason of ours.
    pub fn recovery_secret_for(&self, session: &Session, what: &str) -> Result<Secret, Failure> {
        if session.reason().is_some() {
            return self.recovery_secret();
        }
        let (key, body) = self.body();
        let because = self.server.because(&format!("{what} of {}", self.name));
        Ok(self.server.wait(because.recovery_secret(&key, &body))?.secret.into_inner())
    }

    /// What opens it, and the keyslot that it opens.
    pub fn open(&self, opener: &Opener) -> Result<(Secret, u32), Failure> {
        let secret = if opener.recover { self.recovery_secret()? } else { opener.passphrase.read()? };
        let slot = opened_by(
            self.disk,
            &secret,
            if opener.recover { "its recovery secret" } else { "this passphrase" },
        )?;
        Ok((secret, slot))
    }

    /// Its next secret and which that is. None is given twice.
    pub fn next_secret(&self) -> Result<(Secret, u32), Failure> {
        let (key, body) = self.body();
        let answer = self.server.wait(self.server.volume_secret(&key, &body))?;
        Ok((answer.secret.into_inner(), answer.generation))
    }

    /// Marks a keyslot as that of the secret of `generation`, or of the recovery secret.
    pub fn mark(&self, keyslot: u32, generation: Option<u32>) -> Result<(), Failure> {
        let (machine, volume) = (*self.machine.id, self.name.clone());
        self.disk.mark(&Mark { machine, volume, generation, keyslot: Some(keyslot) })
    }

    /// Its marks in `header`; those of other machines, whose disk this was a copy of, are not its.
    pub fn marks(&self, header: &Header) -> Vec<Mark> {
        let is_its = |mark: &Mark| mark.machine == *self.machine.id && mark.volume == *self.name;
        header.marks().into_iter().map(|(_, mark)| mark).filter(is_its).collect()
    }

    /// Gives it a keyslot for its next secret, and one for its recovery secret if asked, and enrolls its header. Older
    /// keyslots stay. Returns the number of the keyslot.
    ///
    /// The commit point is the machine's record on the server. If that refuses, the keyslots are ended again and the
    /// header is known as before; if it is not reached, both stay, and the same again completes them.
    pub fn prepare(&mut self, session: &Session, opener: &[u8], recovery: bool) -> Result<u32, Failure> {
        let recovery = recovery.then(|| self.recovery_secret_for(session, "recovery keyslot")).transpose()?;
        let (secret, generation) = self.next_secret()?;
        let mut added = Vec::new();
        let done = self
            .add(&mut added, opener, &secret, Some(generation))
            .and_then(|()| recovery.map_or(Ok(()), |secret| self.add(&mut added, opener, &secret, None)))
            .and_then(|()| self.enroll(generation));
        match done {
            Ok(()) => {
                self.disk.unmark(|mark| mark.keyslot.is_none())?;
                Ok(added[0])
            }
            Err(Unsettled { failure, undo: true }) => {
                for slot in added {
                    self.disk.end_keyslot(slot)?;
                }
                self.disk.unmark(|mark| mark.keyslot.is_none() && mark.generation == Some(generation))?;
                Err(*failure)
            }
            Err(Unsettled { failure, undo: false }) => Err(*failure),
        }
    }

    fn add(
        &self,
        added: &mut Vec<u32>,
        opener: &[u8],
        secret: &[u8],
        generation: Option<u32>,
    ) -> Result<(), Unsettled> {
        let slot = self.disk.header()?.free_keyslot()?;
        self.disk.add_keyslot(slot, opener, secret)?;
        added.push(slot);
        Ok(self.mark(slot, generation)?)
    }

    /// Tells the server what the header is, and which secret opens the volume.
    pub fn enroll(&mut self, generation: u32) -> Result<(), Unsettled> {
        let header = self.disk.header()?;
        let number =
            Within::new(generation).ok_or_else(|| Failure::new("no secret was given", "report this"))?;
        let prepared =
            PreparedVolume { name: Is(self.name.clone()), generation: number, header: Is(header.hash()) };
        let change = MachineChange { volumes: Some(vec![prepared]), ..MachineChange::default() };
        let failure = match self.server.wait(self.server.update_machine(*self.machine.id, &change)) {
            Ok(machine) => {
                self.machine = machine;
                return Ok(());
            }
            Err(failure) if failure.code().is_some() => return Err(failure.into()),
            Err(failure) => failure,
        };
        // No answer: it may have been carried out.
        match self.server.wait(self.server.describe_machine(*self.machine.id)) {
            Ok(machine) => {
                self.machine = machine;
                if self.is_enrolled(&header) { Ok(()) } else { Err(failure.into()) }
            }
            Err(_) => {
                let next = "before the machine starts again do the same once more, when the server answers";
                let what = format_args!("the header has changed and the server may not know it: {failure}");
                Err(Unsettled { failure: Box::new(Failure::new(what, next)), undo: false })
            }
        }
    }

    /// Ends the keyslots of older secrets, by their marks, and those that are named; then enrolls the header again.
    /// Gives their numbers. `keep` is the keyslot of the newest secret.
    pub fn end_old(&mut self, keep: u32, named: &[u32]) -> Result<Vec<u32>, Failure> {
        let marks = self.marks(&self.disk.header()?);
        let old = marks.iter().filter(|mark| mark.generation.is_some()).filter_map(|mark| mark.keyslot);
        let mut slots: Vec<u32> = old.chain(named.iter().copied()).filter(|slot| *slot != keep).collect();
        slots.sort_unstable();
        slots.dedup();
        for slot in &slots {
            self.disk.end_keyslot(*slot)?;
        }
        self.disk.unmark(|mark| mark.keyslot.is_none())?;
        if !slots.is_empty() {
            self.enroll(self.enrolled().generation)?;
        }
        Ok(slots)
    }

    /// The keyslots of `header` that no mark of this volume explains: passphrases, and what a crash left.
    pub fn unmarked(&self, header: &Header) -> Vec<u32> {
        let marked: Vec<u32> = self.marks(header).iter().filter_map(|mark| mark.keyslot).collect();
        header.keyslots().into_iter().filter(|slot| !marked.contains(slot)).collect()
    }
}

/// The keyslot of `disk` that `secret` opens.
pub fn opened_by(disk: Disk<'_>, secret: &[u8], called: &str) -> Result<u32, Failure> {
    disk.opened_by(secret)?.ok_or_else(|| {
        let next = "give another with --passphrase-file, or use --recover if it has a recovery keyslot";
        Failure::new(format_args!("no keyslot of {} opens with {called}", disk.path().display()), next)
    })
}

/// A change that failed, and whether the header should be as it was before.
pub struct Unsettled {
    failure: Box<Failure>,
    undo: bool,
}

impl From<Failure> for Unsettled {
    fn from(failure: Failure) -> Self {
        Self { failure: Box::new(failure), undo: true }
    }
}

impl From<Unsettled> for Failure {
    fn from(unsettled: Unsettled) -> Self {
        *unsettled.failure
    }
}
