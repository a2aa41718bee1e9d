//! `sync …`: a folder of plain files and a folder of sealed ones, kept in step.
//!
//! The sealed folder is the one that a sync service has; the plain one lies elsewhere. What is decided about a path is in
//! [`decide`], how it is done in [`pass`], what was in step before in [`known`]. Nothing is destroyed that was not seen:
//! where both sides changed both stay.

mod conflict;
mod decide;
mod known;
mod pass;
mod tree;
mod watching;

use std::collections::BTreeSet;
use std::num::NonZero;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::{Args, Subcommand};
use keyhearth_core::request::KeyRef;
use serde::Serialize;

use super::failure::Failure;
use super::file::manifest::{DeviceName, Folder, Trust};
use super::file::seal::Sealer;
use super::session::Session;
use super::spelled::text_of;
use known::Known;
use pass::{Pass, Step};
use tree::Tree;
use watching::Watching;

/// Passes in a row: what was moved aside in one is sealed in the next.
const PASSES_MAX: usize = 3;

#[derive(Subcommand)]
pub enum Verb {
    /// Keeps a folder of plain files and a folder of sealed ones in step, in both directions
    ///
    /// New and changed files are sealed or opened; a file that is deleted on one side is deleted on the other, if it was not
    /// changed there. Where both sides changed, both versions stay.
    Watch(Watch),
}

#[derive(Args)]
pub struct Watch {
    /// The folder of plain files, which no sync service has
    #[arg(long, value_name = "FOLDER")]
    plain: PathBuf,
    /// The folder of sealed files
    #[arg(long, value_name = "FOLDER")]
    sealed: PathBuf,
    /// The key that wraps the keys of new files, by its id or an alias
    #[arg(long, value_parser = text_of::<KeyRef>)]
    key: String,
    /// The key that signs the sealed folder's manifest: then only what a device signed is opened
    #[arg(long, value_name = "KEY", value_parser = text_of::<KeyRef>)]
    sign_key: Option<String>,
    #[command(flatten)]
    name: DeviceName,
    /// Look once, do what is to be done, and end
    #[arg(long, conflicts_with = "rescan")]
    once: bool,
    /// After how many seconds to look though nothing seemed to happen
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    rescan: u64,
}

/// What was done, and how it ended.
#[derive(Serialize)]
struct Done {
    steps: Vec<Step>,
    #[serde(skip)]
    end: Result<(), Failure>,
}

impl Done {
    fn is_idle(&self) -> bool {
        self.steps.is_empty() && self.end.is_ok()
    }

    fn did_something(&self) -> bool {
        self.steps.iter().any(|step| step.code.is_none())
    }

    fn print(&self, session: &Session) -> Result<(), Failure> {
        let row =
            |step: &Step| vec![step.what.to_owned(), step.path.clone(), step.see.clone().unwrap_or_default()];
        session.list(self, &["done", "path", "see"], self.steps.iter().map(row))
    }
}

/// What was told last: what can not be done is tried each time, and told once.
#[derive(Default, PartialEq)]
struct Told(Vec<(String, Option<String>)>, Option<String>);

impl Told {
    fn of(done: &Done) -> Self {
        let steps = done.steps.iter().map(|step| (format!("{} {}", step.what, step.path), step.code.clone()));
        Self(steps.collect(), done.end.as_ref().err().map(ToString::to_string))
    }
}

impl Verb {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Watch(watch) => watch.run(session),
        }
    }
}

impl Watch {
    fn run(&self, session: &Session) -> Result<(), Failure> {
        let (plain, sealed) = (Tree::plain(&self.plain)?, Tree::sealed(&self.sealed)?);
        if plain.root.starts_with(&sealed.root) || sealed.root.starts_with(&plain.root) {
            let next = "keep the plain files outside the folder that is synchronised";
            return Err(Failure::new("one of the folders lies in the other", next));
        }
        let mut known = Known::of(&plain.root, &sealed.root)?;
        if self.once {
            let done = self.look(session, &plain, &sealed, &mut known);
            if session.json() || !done.steps.is_empty() {
                done.print(session)?;
            }
            return done.end;
        }
        let mut watching = Watching::new()?;
        let (mut told, mut is_first) = (Told::default(), true);
        loop {
            // Watched before it is looked: what happens meanwhile is seen in the next pass.
            let is_covered = [&plain.root, &sealed.root].map(|root| watching.cover(root)) == [true, true];
            if is_first && !is_covered {
                session.hint("not all folders can be watched: changes there are found when time has gone by");
            }
            let done = self.look(session, &plain, &sealed, &mut known);
            let now = Told::of(&done);
            if is_first || done.did_something() || now != told && !done.is_idle() {
                done.print(session)?;
                if let Err(failure) = &done.end {
                    failure.print(session.json());
                }
            }
            (told, is_first) = (now, false);
            watching.wait(Duration::from_secs(self.rescan));
        }
    }

    /// Looks until nothing is left to do.
    fn look(&self, session: &Session, plain: &Tree, sealed: &Tree, known: &mut Known) -> Done {
        let mut steps = Vec::new();
        let mut end = Ok(());
        for _ in 0..PASSES_MAX {
            let before = steps.len();
            end = self.pass(session, (plain, sealed), known, &mut steps);
            if end.is_err() || !steps[before..].iter().any(|step: &Step| step.what == "conflict") {
                break;
            }
        }
        steps.retain(|step| step.what != "same");
        let mut codes = steps.iter().filter_map(|step| step.code.as_deref());
        if let (Ok(()), Some(first)) = (&end, codes.next()) {
            let what = format!("{} files are not in step", 1 + codes.count());
            end = Err(Failure::of(first, &what, "", "correct that; the others are, and nothing was lost"));
        }
        Done { steps, end }
    }

    fn pass(
        &self,
        session: &Session,
        (plain, sealed): (&Tree, &Tree),
        known: &mut Known,
        steps: &mut Vec<Step>,
    ) -> Result<(), Failure> {
        let server = session.server()?;
        let trust = Trust::new(session, &[], self.sign_key.as_deref())?;
        let folder =
            self.sign_key.as_ref().map(|_| Folder::open(&Folder::root_of(&sealed.root)?, &trust, true));
        let mut pass = Pass {
            plain,
            sealed,
            server: &server,
            sealer: Sealer::age(&server, &self.key, &[]),
            folder: folder.transpose()?,
            device: self.name.device(),
            threads: thread::available_parallelism().map_or(1, NonZero::get),
            known,
            steps: Vec::new(),
            touched: BTreeSet::new(),
        };
        let end = pass.run();
        steps.append(&mut pass.steps);
        end
    }
}
