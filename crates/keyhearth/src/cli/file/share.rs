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
use super::super::session::{Server, Session};
use super::super::spelled::spelled;
use super::keys::{FILE, now};
use super::many::Found;
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

/// The grants that were made or ended.
#[derive(Serialize, Default)]
struct Grants {
    grants: Vec<String>,
    /// Those that gave the same before, and end later.
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
        let mut made = Grants::default();
        let mut before = BTreeMap::new();
        for path in sealed_files(&self.files)? {
            let grant = self.give(&server, &path, &mut made.longer, &mut before);
            made.grants.push(grant.map_err(|refusal| refusal.of_file(&path))?);
        }
        if !made.longer.is_empty() {
            session.hint(&format!(
                "{} could open these files before and longer, and still can: `keyhearth file unshare` first, and then \
                 share them again (`keyhearth grant list` shows the others)",
                self.with
            ));
        }
        let until = self.until.as_ref().map(|time| format!(" until {time}")).unwrap_or_default();
        session.say(&made, &format!("{} may open {} files{until}", self.with, made.grants.len()))
    }

    /// Gives the id of a new grant; those that were there already and end later are put to `longer`. `before` has all that were
    /// there, by their keys, as far as they may be seen.
    fn give(
        &self,
        server: &Server,
        path: &Path,
        longer: &mut Vec<String>,
        before: &mut BTreeMap<String, Vec<answer::Grant>>,
    ) -> Result<String, Failure> {
        let Bound { key, file, opens } = Bound::proved(server, path)?;
        if !before.contains_key(&key) {
            before.insert(key.clone(), all_grants(server, &key).unwrap_or_default());
        }
        let ends = |end: &Option<Is<Time>>| end.as_ref().map_or(Time::MAX, |end| **end);
        let is_longer = |grant: &&answer::Grant| {
            gives(grant, *self.with, &file) && ends(&grant.expires) > ends(&self.until)
        };
        let earlier = before.get(&key).into_iter().flatten().filter(is_longer);
        longer.extend(earlier.map(|grant| grant.id.to_string()));
        let body = NewGrant {
            context: Some([(FILE.to_owned(), file.clone())].into_iter().collect()),
            expires: self.until.clone(),
            delegable: Some(self.delegable),
            name: Some(Text(format!("file/{file}"))),
            ..NewGrant::new(*self.with, [opens])
        };
        Ok(server.wait(server.create_grant(&key, &body))?.id.to_string())
    }
}

impl Unshare {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let server = session.server()?;
        let (mut ended, mut ids) = (Grants::default(), Vec::new());
        for path in sealed_files(&self.files)? {
            let Bound { key, file, .. } = open::read_any(&path)
                .and_then(|file| Bound::of(&file))
                .map_err(|failure| failure.of_file(&path))?;
            for grant in
                all_grants(&server, &key)?.into_iter().filter(|grant| gives(grant, *self.from, &file))
            {
                server.wait(server.revoke_grant(&key, *grant.id))?;
                ended.grants.push(grant.id.to_string());
            }
            ids.push(file);
        }
        if ended.grants.is_empty() {
            let next = "`keyhearth grant list` shows who holds the key; policies may allow it, too";
            return Err(Failure::of("not_shared", "no grant gives these files to this identity", "", next));
        }
        // Whoever can write where the file lies can put another one there: its id tells.
        let (count, from) = (ended.grants.len(), *self.from);
        session.say(&ended, &format!("{count} grants to {from} are ended, for the files {}", ids.join(", ")))
    }
}

/// The files that were named, and the sealed ones in folders that were.
fn sealed_files(named: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Found::walk(named);
    let is_named = |path: &Path| named.iter().any(|named| named == path);
    if let Some((path, refusal)) = found.take_refused().into_iter().find(|(path, _)| is_named(path)) {
        return Err(refusal.of_file(&path));
    }
    found.files.retain(|(path, _)| is_named(path) || is_sealed_name(path));
    Ok(found.files.into_iter().map(|(path, _)| path).collect())
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
