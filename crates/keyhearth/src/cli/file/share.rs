//! `file share` and `file unshare`: grants on the key of files, for these files alone. Nothing in the files changes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use keyhearth_client::Page;
use keyhearth_core::id::PrincipalId;
use keyhearth_core::operation::Operation;
use keyhearth_core::time::Time;
use keyhearth_files::held::{FileId, Held};
use keyhearth_files::{AnyOpened, Error};
use keyhearth_proto::rest::body::NewGrant;
use keyhearth_proto::rest::{Is, Text, answer};
use serde::Serialize;

use super::super::failure::Failure;
use super::super::output::one_line;
use super::super::session::{Server, Session};
use super::super::spelled::spelled;
use super::keys::{FILE, now};
use super::many::{Failed, Found};
use super::open::Opener;
use super::{esdk, failure, is_sealed_name, open};

#[derive(Args)]
pub struct Share {
    /// The sealed files, and folders of them
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Id of the identity that may open them
    #[arg(long, value_name = "IDENTITY", value_parser = spelled::<PrincipalId>())]
    with: Is<PrincipalId>,
    /// When that ends, such as 2027-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = spelled::<Time>())]
    until: Option<Is<Time>>,
    /// They may share them further
    #[arg(long)]
    delegable: bool,
}

#[derive(Args)]
pub struct Unshare {
    /// The sealed files, and folders of them
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Id of the identity that may no longer open them
    #[arg(long, value_name = "IDENTITY", value_parser = spelled::<PrincipalId>())]
    from: Is<PrincipalId>,
}

/// A file, and the grants on it that were made or ended.
#[derive(Serialize)]
struct Given {
    path: String,
    /// The file's id: whoever can write where the file lies can put another one there.
    file: String,
    grants: Vec<String>,
}

/// What was done, and what not.
#[derive(Serialize, Default)]
struct Outcomes {
    files: Vec<Given>,
    failed: Vec<Failed>,
    /// Grants that gave the same before, and end later.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    longer: Vec<String>,
}

impl Share {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        if let Some(until) = self.until.as_ref().filter(|until| until.unix_ms() / 1000 <= now()) {
            let next = "name a time to come, or leave out --until";
            return Err(Failure::new(format_args!("--until {until} is past"), next));
        }
        let server = session.server()?;
        let mut known = Known { server: &server, of_keys: BTreeMap::new() };
        let (mut outcomes, mut unseen) = (Outcomes::default(), None);
        outcomes.each(&self.files, |path, outcomes| self.give(&mut known, path, outcomes, &mut unseen));
        if !outcomes.longer.is_empty() {
            session.hint(&format!(
                "{} could open some of these files before and longer, and still can: `keyhearth file unshare` first, and \
                 then share them again",
                self.with
            ));
        }
        if let Some(refusal) = unseen {
            session.hint(&format!(
                "whether they were shared before, perhaps for longer, was not seen: {refusal}"
            ));
        }
        let until = self.until.as_ref().map(|time| format!(" until {time}")).unwrap_or_default();
        outcomes.finish(session, |_| format!("{} may open{until}", self.with), "shared")
    }

    /// Makes the grant on one file. Why those that were there already could not be seen is put to `unseen`.
    fn give(
        &self,
        known: &mut Known<'_>,
        path: &Path,
        outcomes: &mut Outcomes,
        unseen: &mut Option<Failure>,
    ) -> Result<(), Failure> {
        let Bound { key, file, opens } = Bound::proved(known.server, path)?;
        let ends = |end: &Option<Is<Time>>| end.as_ref().map_or(Time::MAX, |end| **end);
        let is_longer = |grant: &&answer::Grant| {
            gives(grant, *self.with, &file) && ends(&grant.expires) > ends(&self.until)
        };
        if unseen.is_none() {
            match known.grants(&key) {
                Ok(before) => {
                    outcomes.longer.extend(before.iter().filter(is_longer).map(|grant| grant.id.to_string()))
                }
                Err(refusal) => *unseen = Some(refusal),
            }
        }
        let body = NewGrant {
            context: Some([(FILE.to_owned(), file.clone())].into_iter().collect()),
            expires: self.until.clone(),
            delegable: Some(self.delegable),
            name: Some(Text(format!("file/{file}"))),
            ..NewGrant::new(*self.with, [opens])
        };
        let grant = known.server.wait(known.server.create_grant(&key, &body))?.id.to_string();
        outcomes.files.push(Given { path: path.display().to_string(), file, grants: vec![grant] });
        Ok(())
    }
}

impl Unshare {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let server = session.server()?;
        let mut known = Known { server: &server, of_keys: BTreeMap::new() };
        let mut outcomes = Outcomes::default();
        outcomes.each(&self.files, |path, outcomes| self.take(&mut known, path, outcomes));
        if outcomes.files.iter().all(|given| given.grants.is_empty()) && outcomes.failed.is_empty() {
            let next = "`keyhearth grant list` shows who holds the key; policies may allow it, too";
            return Err(Failure::of("not_shared", "no grant gives these files to this identity", "", next));
        }
        let words = |count| match count {
            0 => format!("{} had no grant for", self.from),
            count => format!("ended {count} grants of {} for", self.from),
        };
        outcomes.finish(session, words, "unshared")
    }

    /// Ends all grants on one file that can be ended.
    fn take(&self, known: &mut Known<'_>, path: &Path, outcomes: &mut Outcomes) -> Result<(), Failure> {
        let Bound { key, file, .. } = open::read_any(path).and_then(|file| Bound::of(&file))?;
        let server = known.server;
        let (mut grants, mut end) = (Vec::new(), Ok(()));
        for grant in known.grants(&key)?.iter().filter(|grant| gives(grant, *self.from, &file)) {
            match server.wait(server.revoke_grant(&key, *grant.id)) {
                // Another name of the same file may have come first.
                Err(refusal) if refusal.code() != Some("not_found") => end = end.and(Err(refusal)),
                Ok(_) | Err(_) => grants.push(grant.id.to_string()),
            }
        }
        outcomes.files.push(Given { path: path.display().to_string(), file, grants });
        end
    }
}

impl Outcomes {
    /// Does `work` with each file that was named and each sealed one in folders that were. One that fails stops no other, unless the
    /// server answers nobody.
    fn each(&mut self, named: &[PathBuf], mut work: impl FnMut(&Path, &mut Self) -> Result<(), Failure>) {
        let mut found = Found::walk(named);
        found.files.retain(|(path, _)| named.contains(path) || is_sealed_name(path));
        found.files.sort();
        let mut end = None;
        for (path, _) in &found.files {
            if let Some(end) = &end {
                self.failed.push(Failed::new(path, end));
            } else if let Err(refusal) = work(path, self) {
                self.failed.push(Failed::new(path, &refusal));
                end = Some(refusal).filter(Failure::is_unanswered);
            }
        }
        self.failed.extend(found.take_refused().iter().map(|(path, refusal)| Failed::new(path, refusal)));
    }

    /// Prints which files it was, by their paths and ids; before each, the words for so many grants.
    fn finish(&self, session: &Session, words: impl Fn(usize) -> String, done: &str) -> Result<(), Failure> {
        let line = |given: &Given| {
            format!("{} {} (file {})", words(given.grants.len()), one_line(&given.path), given.file)
        };
        if session.json() || !self.files.is_empty() {
            session.say(self, &self.files.iter().map(line).collect::<Vec<_>>().join("\n"))?;
        }
        Failed::finish(&self.failed, self.files.len(), session, done)
    }
}

/// The grants that there were on keys; each key is asked for once.
struct Known<'s> {
    server: &'s Server,
    of_keys: BTreeMap<String, Vec<answer::Grant>>,
}

impl Known<'_> {
    fn grants(&mut self, key: &str) -> Result<&[answer::Grant], Failure> {
        if !self.of_keys.contains_key(key) {
            self.of_keys.insert(key.to_owned(), all_grants(self.server, key)?);
        }
        Ok(self.of_keys.get(key).map(Vec::as_slice).unwrap_or_default())
    }
}

/// Whether it lets this identity open this file and no other.
fn gives(grant: &answer::Grant, identity: PrincipalId, file: &str) -> bool {
    *grant.grantee == identity
        && grant.context.clone().into_inner().contains(&(FILE.to_owned(), file.to_owned()))
}

/// What a file says of its key and itself.
struct Bound {
    /// The key that wraps the file's key, or that it is kept under.
    key: String,
    /// The file's id.
    file: String,
    /// What the key does to open the file.
    opens: Operation,
}

impl Bound {
    fn of(file: &AnyOpened) -> Result<Self, Failure> {
        let (key, file, opens) = match file {
            AnyOpened::Age(opened) => {
                let held = only(Held::all(&opened.header.stanzas).map_err(failure)?)?;
                (held.key().to_owned(), held.file().to_string(), opens(&held))
            }
            AnyOpened::Esdk(opened) => {
                let key = only(opened.header.data_keys.iter().filter_map(esdk::key_of).collect())?;
                // What another program called `file` may be in many files.
                let file = opened.header.context.get(FILE).filter(|id| FileId::read(id).is_some());
                let file = file.ok_or_else(|| {
                    let next = "open it, and seal it with `keyhearth file seal --format esdk`";
                    Failure::of("no_file_id", "its context has no `file` with an id of its own", "", next)
                })?;
                (key.to_owned(), file.clone(), Operation::Decrypt)
            }
        };
        Ok(Self { key, file, opens })
    }

    /// Of the file at `path`, proved: somebody else could make a header name another file, and who shares it would give
    /// away that one.
    fn proved(server: &Server, path: &Path) -> Result<Self, Failure> {
        let file = open::read_any(path)?;
        let bound = Self::of(&file)?;
        let unlocked = Opener::Server(server).unlock(vec![file])?.into_iter().next();
        unlocked.unwrap_or_else(|| Err(failure(Error::NotForUs)))?.verify().map_err(failure)?;
        Ok(bound)
    }
}

/// The only one of what a file says that the server may open. Of several one may prove the file and another name what
/// is given away.
fn only<T>(found: Vec<T>) -> Result<T, Failure> {
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(failure(Error::NotForUs)),
        (Some(_), Some(_)) => {
            let next = "open it and seal it again";
            Err(Failure::of("several_keys", "several keys of the server open it", "", next))
        }
    }
}

fn opens(held: &Held) -> Operation {
    match held {
        Held::Wrapped(_) => Operation::Decrypt,
        Held::Kept(_) => Operation::ReadSecret,
    }
}

fn all_grants(server: &Server, key: &str) -> Result<Vec<answer::Grant>, Failure> {
    let (mut grants, mut page) = (Vec::new(), Page { after: None, limit: Some(1000) });
    loop {
        let answer = server.wait(server.list_grants(key, &page))?;
        grants.extend(answer.grants);
        if answer.next.is_none() {
            return Ok(grants);
        }
        page.after = answer.next;
    }
}
