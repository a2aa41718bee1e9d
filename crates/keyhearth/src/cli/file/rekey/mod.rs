//! `file rekey`: new wraps for the keys of files, and after a theft new keys.

mod age;
mod esdk;
mod place;

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::Args;
use keyhearth_core::request::KeyRef;
use keyhearth_core::time::Time;
use keyhearth_crypto::kh1;
use keyhearth_files::AnyOpened;
use keyhearth_files::age::Recipient;
use keyhearth_proto::rest::Is;

use self::place::Place;
use super::super::failure::Failure;
use super::super::session::{Server, Session};
use super::super::spelled::{spelled, text_of};
use super::many::{BATCH, Done, Found, Told};
use super::open::read_any;
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
    /// that had such recipients, all of them
    #[arg(long = "recipient", value_name = "RECIPIENT", requires = "suspected_stolen")]
    recipients: Vec<Recipient>,
}

/// What is told of all files together.
struct Telling<'t> {
    told: &'t Told,
    /// Files that were left alone: their keys are newer.
    newer: usize,
    /// Files whose new keys the same version of a key wraps that wrapped the old ones.
    same: usize,
}

impl Rekey {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let server = session.server()?;
        let mut found = Found::walk(&self.files);
        let mut seen = HashSet::new();
        found.files.retain(|(path, _)| {
            let is_asked_for = self.files.contains(path) || is_sealed_name(path);
            is_asked_for && seen.insert(fs::canonicalize(path).unwrap_or_else(|_| path.clone()))
        });
        let told = Told::new(session, found.count(), "rekeying");
        if self.suspected_stolen && self.made_before.is_none() {
            // A second that has not begun: what was made in this one is older than every new key.
            let next = keys::now() + 1;
            while keys::now() < next {
                thread::sleep(Duration::from_millis(20));
            }
            let time = Is(Time::from_unix_ms(next * 1000));
            told.note(session, format!("to go on after an interruption: --made-before {time}"));
        }
        found.tell_refused(&told);
        let mut telling = Telling { told: &told, newer: 0, same: 0 };
        let rekeying =
            found.files.chunks(BATCH).try_for_each(|batch| self.batch(&server, batch, &mut telling));
        let Telling { newer, same, .. } = telling;
        if newer > 0 {
            told.note(session, format!("{newer} files have newer keys already"));
        }
        if same > 0 {
            let what = "the new keys of files are wrapped by the versions of keys that wrapped the old ones; if one of those may \
                 be stolen, `keyhearth key rotate` first, and then this again";
            told.note(session, format!("{same} files: {what}"));
        }
        if self.suspected_stolen {
            let what = "of each of these files, all versions from before now stay readable to whoever has the stolen key, where \
                 a sync service or a backup keeps them: delete them there";
            told.note(session, what.to_owned());
        }
        if self.key.is_some() {
            let what =
                "grants on the keys before stay as they are: share the files again, and revoke those grants";
            told.note(session, what.to_owned());
        }
        told.finish(session, "rekeyed", rekeying)
    }

    fn batch(
        &self,
        server: &Server,
        batch: &[(PathBuf, PathBuf)],
        telling: &mut Telling<'_>,
    ) -> Result<(), Failure> {
        let (mut age, mut esdk) = (Vec::new(), Vec::new());
        for (path, _) in batch {
            // What lies there is looked at before it is read: what comes meanwhile is another file then.
            let read = keyhearth_files::recover(path).map_err(failure);
            match read.and_then(|_| Ok((Place::of(path)?, read_any(path)?))) {
                Ok((place, AnyOpened::Age(opened))) => age.push((place, opened)),
                Ok((place, AnyOpened::Esdk(opened))) => esdk.push((place, opened)),
                Err(refusal) => telling.told.tell(path, Err(refusal)),
            }
        }
        self.age(server, age, telling)?;
        self.esdk(server, esdk, telling)
    }
}

/// Whether one version of a key made both messages.
fn is_same_version(a: &[u8], b: &[u8]) -> bool {
    kh1::header(a).is_ok_and(|a| kh1::header(b).is_ok_and(|b| a == b))
}

fn several_keys() -> Failure {
    Failure::of("several_keys", "several keys wrap the file's key", "", "open it and seal it again")
}
