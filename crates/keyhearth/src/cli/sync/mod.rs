//! `sync …`: a folder of plain files and a folder of sealed ones, kept in step.
//!
//! The sealed folder is the one that a sync service has; the plain one lies elsewhere. What is decided about a path is in
//! [`decide`], how it is done in [`pass`], by what means in [`place`](super::file::place) and [`aside`], what was in step before in [`pair`].
//! Nothing is destroyed: where both sides changed both stay, and what makes room for others is in the trash for a while.

mod aside;
mod decide;
mod pair;
mod pass;
mod tree;
mod watching;

use std::num::NonZero;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::{Args, Subcommand};
use keyhearth_core::request::KeyRef;
use keyhearth_files::manifest::FOLDER;
use serde::Serialize;

use super::failure::Failure;
use super::file::manifest::{DeviceName, Folder, Trust};
use super::file::seal::Sealer;
use super::file::{many, names};
use super::output::one_line;
use super::session::Session;
use super::spelled::text_of;
use aside::Trash;
use pair::Pair;
use pass::{Pass, Step};
use tree::Tree;
use watching::{QUIET, Watching};

/// Passes in a row: what was moved aside or signed late in one is sealed in the next.
const PASSES_MAX: usize = 3;
/// The longest that it is waited for rest.
const QUIET_MAX: Duration = Duration::from_secs(60);
/// What sealed files are called besides.
const SUFFIX: &str = ".age";

#[derive(Subcommand)]
pub enum Verb {
    /// Keeps a folder of plain files and a folder of sealed ones in step, in both directions
    ///
    /// New and changed files are sealed or opened; a file that is deleted on one side is deleted on the other, if it was not
    /// changed there. Where both sides changed, both versions stay. The sealed folder needs a manifest: `file manifest`.
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
    /// The key that signs the sealed folder's manifest: only what a device signed is opened and deleted
    #[arg(long, value_name = "KEY", value_parser = text_of::<KeyRef>)]
    sign_key: String,
    #[command(flatten)]
    name: DeviceName,
    /// Look once, do what is to be done, and end
    #[arg(long, conflicts_with = "rescan")]
    once: bool,
    /// Delete files even if most are gone on the other side
    #[arg(long, requires = "once")]
    delete_many: bool,
    /// Seal again what is missing on the sealed side though no device deleted it
    #[arg(long, requires = "once")]
    seal_missing: bool,
    /// After how many seconds to look though nothing seemed to happen
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    rescan: u64,
    /// How many days to keep plain files that others replaced or deleted, in `.keyhearth/trash` of the plain folder
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3650))]
    trash_days: u64,
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
        if self.steps.is_empty() {
            return session.list(self, &[], []);
        }
        // Not a table: nothing of a name that somebody has to type is cut.
        let line = |step: &Step| {
            let next = step.next_step.as_ref().map(|next| format!("next: {next}"));
            let more = step.see.iter().chain(&next).map(|text| format!("\n{:16}{}", "", one_line(text)));
            format!("{:16}{}{}", step.what, one_line(&step.path), more.collect::<String>())
        };
        session.say(self, &self.steps.iter().map(line).collect::<Vec<_>>().join("\n"))
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
        if self.once {
            let done = self.look(session, &mut false);
            if session.json() || !done.steps.is_empty() {
                done.print(session)?;
            }
            return done.end;
        }
        let mut watching = Watching::new()?;
        let (mut told, mut is_first, mut quiet) = (Told::default(), true, QUIET);
        let mut signs = false;
        loop {
            // Watched before it is looked: what happens meanwhile is seen in the next pass.
            // What goes into the trash is nothing that happened.
            let is_covered =
                [watching.cover(&self.plain, Some(FOLDER)), watching.cover(&self.sealed, None)] == [true; 2];
            if is_first && !is_covered {
                session.hint("not all folders can be watched: changes there are found when time has gone by");
            }
            let done = self.look(session, &mut signs);
            let now = Told::of(&done);
            if is_first || done.did_something() || now != told && !done.is_idle() {
                done.print(session)?;
                if let Err(failure) = &done.end {
                    failure.print(session.json());
                }
            }
            // What failed in the same way again is not tried each time that something happens.
            let is_stuck = !done.did_something() && !done.is_idle() && now == told;
            quiet = if is_stuck { (2 * quiet).min(QUIET_MAX) } else { QUIET };
            (told, is_first) = (now, false);
            watching.wait(Duration::from_secs(self.rescan), quiet);
        }
    }

    /// Looks until nothing is left to do.
    fn look(&self, session: &Session, signs: &mut bool) -> Done {
        let mut steps: Vec<Step> = Vec::new();
        let mut end = Ok(());
        for _ in 0..PASSES_MAX {
            // What was not done in the pass before is told by this one, if it is so still.
            steps.retain(|step| step.code.is_none());
            let before = steps.len();
            end = self.pass(session, &mut steps, signs);
            let leads_on = |step: &Step| matches!(step.what, "conflict" | "signed");
            if end.is_err() || !steps[before..].iter().any(leads_on) {
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

    /// Both folders are opened anew: they may have been unmounted, or mounted.
    fn pass(&self, session: &Session, steps: &mut Vec<Step>, signs: &mut bool) -> Result<(), Failure> {
        let plain = Tree::new(&self.plain, "", None)?;
        let sealed =
            self.sealed.canonicalize().map_err(|error| Failure::at(self.sealed.display(), &error))?;
        if plain.path.starts_with(&sealed) || sealed.starts_with(&plain.path) {
            let next = "keep the plain files outside the folder that is synchronised";
            return Err(Failure::new("one of the folders lies in the other", next));
        }
        let server = session.server()?;
        let trust = Trust::new(session, &[], Some(&self.sign_key))?;
        let folder = Folder::open(&Folder::root_of(&sealed)?, &trust, false)?;
        folder.check()?;
        if folder.present.is_none() {
            let what = format!("{} had a manifest and has none now", sealed.display());
            let next = "mount it, or let the sync service come to its end; `keyhearth file verify` says more";
            return Err(Failure::of("manifest_missing", &what, "", next));
        }
        let sealed = Tree::new(&sealed, SUFFIX, names::of_whole(&server, &folder, &sealed)?)?;
        let mut pair = Pair::open(&plain, folder.manifest.folder)?;
        let emptied = Trash::empty(&plain, self.trash_days);
        let mut pass = Pass {
            plain: &plain,
            sealed: &sealed,
            server: &server,
            sealer: Sealer::age(&server, &self.key, &[]),
            folder,
            device: self.name.device(),
            threads: thread::available_parallelism().map_or(1, NonZero::get),
            seals_missing: self.seal_missing,
            deletes_many: self.delete_many,
            pair: &mut pair,
            signs,
            bar: many::bar(session, 0, "files"),
            steps: Vec::new(),
        };
        let end = pass.run().and(emptied);
        pass.bar.finish_and_clear();
        steps.append(&mut pass.steps);
        end
    }
}
