//! `file rekey`: new wraps for the keys of files, and after a theft new keys.

mod again;
mod header;
mod keyed;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use clap::Args;
use keyhearth_core::request::KeyRef;
use keyhearth_core::time::Time;
use keyhearth_files::age::Recipient;
use keyhearth_proto::rest::Is;

use self::keyed::Keyed;
use super::super::failure::Failure;
use super::super::session::{Server, Session};
use super::super::spelled::{spelled, text_of};
use super::many::{BATCH, Done, Found, Told};
use super::open::{Opener, Unlocked, read_any};
use super::{failure, is_sealed_name, keys};

#[derive(Args)]
pub struct Rekey {
    /// The sealed files, and folders of them
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Another key to wrap by; each file's own if absent
    #[arg(long, value_parser = text_of::<KeyRef>)]
    key: Option<String>,
    /// Give each file a new key and seal it again: who has the old key opens nothing that is written from now on
    #[arg(long)]
    suspected_stolen: bool,
    /// Seal again only files whose keys were made before; to go on after an interruption, give the time it told
    #[arg(long, value_name = "TIME", requires = "suspected_stolen", value_parser = spelled::<Time>())]
    made_before: Option<Is<Time>>,
    /// Who else can open them, without the server: `age1…`; can be given again. Needed with --suspected-stolen for files
    /// that had such recipients
    #[arg(long = "recipient", value_name = "RECIPIENT", requires = "suspected_stolen")]
    recipients: Vec<Recipient>,
}

/// A file, what it says of its key, and that key, which has proved its header.
struct Old {
    path: PathBuf,
    stamp: Stamp,
    file: Unlocked,
    keyed: Keyed,
}

/// What shows that a path still leads to the same file, unchanged.
#[derive(PartialEq)]
struct Stamp([i64; 4], [u64; 3]);

impl Stamp {
    fn of(path: &Path) -> Result<Self, Failure> {
        let of = path.metadata().map_err(|error| Failure::at(path.display(), &error))?;
        Ok(Self([of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec()], [of.dev(), of.ino(), of.len()]))
    }
}

/// How many files there were of a kind that people are told of.
#[derive(Default)]
struct Sums {
    /// Left alone: their keys are newer.
    newer: usize,
    /// Wrapped by the version that had wrapped them.
    same: usize,
    /// Given a new id, because the server keeps their keys.
    kept: usize,
}

impl Rekey {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let server = session.server()?;
        let mut found = Found::walk(&self.files);
        found.files.retain(|(path, _)| self.files.contains(path) || is_sealed_name(path));
        let before = self.made_before.as_ref().map(|time| time.unix_ms() / 1000);
        let told = Told::new(session, found.count(), "rekeying");
        if self.suspected_stolen && before.is_none() {
            // A second that has not begun: what was made in this one is older than every new key.
            let next = keys::now() + 1;
            while keys::now() < next {
                thread::sleep(Duration::from_millis(20));
            }
            let time = Is(Time::from_unix_ms(next * 1000));
            told.note(session, format!("to go on after an interruption: --made-before {time}"));
        }
        found.tell_refused(&told);
        let mut sums = Sums::default();
        let rekeying = found.files.chunks(BATCH).try_for_each(|batch| {
            let mut old = self.read(&server, batch, &told)?;
            if !self.suspected_stolen {
                return self.rewrap(&server, old, &told);
            }
            let read = old.len();
            old.retain(|old| !before.is_some_and(|before| old.keyed.is_made_since(before)));
            sums.newer += read - old.len();
            self.seal_again(&server, old, &told, &mut sums)
        });
        self.note(session, &told, &sums);
        told.finish(session, "rekeyed", rekeying)
    }

    /// Tells what is still to be done.
    fn note(&self, session: &Session, told: &Told, sums: &Sums) {
        let Sums { newer, same, kept } = sums;
        if *newer > 0 {
            told.note(session, format!("{newer} files have newer keys already"));
        }
        if *same > 0 {
            let what = "the new keys of files are wrapped by the versions of keys that wrapped the old ones; if one of those may \
                 be stolen, `keyhearth key rotate` first, and then this again";
            told.note(session, format!("{same} files: {what}"));
        }
        if *kept > 0 {
            let what = "the server keeps their keys, and they have new ids: share them again. It keeps the keys before, too; where \
                 the new files have arrived, end those by `keyhearth secret delete` and the names told with --json as `was`";
            told.note(session, format!("{kept} files: {what}"));
        }
        if self.suspected_stolen {
            let what = "of each of these files, all versions from before now stay readable to whoever has the stolen key, where \
                 a sync service or a backup keeps them: delete them there";
            told.note(session, what.to_owned());
        } else if self.key.is_some() {
            let what =
                "grants on the keys before stay as they are: share the files again, and revoke those grants";
            told.note(session, what.to_owned());
        }
    }

    /// Reads the headers and asks for the keys of a batch of files.
    fn read(&self, server: &Server, batch: &[(PathBuf, PathBuf)], told: &Told) -> Result<Vec<Old>, Failure> {
        let (mut found, mut files) = (Vec::new(), Vec::new());
        for (path, _) in batch {
            let header = keyhearth_files::recover(path).map_err(failure).and_then(|_| {
                let stamp = Stamp::of(path)?;
                let file = read_any(path)?;
                let keyed = Keyed::of(&file)?;
                if self.suspected_stolen { Ok(()) } else { keyed.has_wrap() }?;
                Ok((stamp, keyed, file))
            });
            match header {
                Ok((stamp, keyed, file)) => {
                    found.push((path, stamp, keyed));
                    files.push(file);
                }
                Err(refusal) => told.tell(path, Err(refusal)),
            }
        }
        if files.is_empty() {
            return Ok(Vec::new());
        }
        let mut old = Vec::new();
        for ((path, stamp, keyed), file) in found.into_iter().zip(Opener::Server(server).unlock(files)?) {
            let proved = file.and_then(|file| file.verify().map(|()| file).map_err(failure));
            match proved {
                Ok(file) => old.push(Old { path: path.clone(), stamp, file, keyed }),
                Err(refusal) => told.tell(path, Err(refusal)),
            }
        }
        Ok(old)
    }

    /// The name of the key that is to wrap the new key of a file.
    fn key_of<'k>(&'k self, keyed: &'k Keyed) -> &'k str {
        self.key.as_deref().unwrap_or_else(|| keyed.key())
    }
}

fn done(path: &Path, bytes: u64) -> Done {
    let path = path.display().to_string();
    Done { output: path.clone(), path, bytes, was: None }
}
