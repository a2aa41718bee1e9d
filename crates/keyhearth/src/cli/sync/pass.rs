//! One pass: both folders are looked at, and what happened in one is done in the other.
//!
//! The order of every change on the sealed side: what is made is whole and on the disk, what is about to be done is written
//! down, names are exchanged, what was done is signed, and then it is remembered. A pass that ends anywhere in between
//! leaves words that the next one signs, or files that it finds equal.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use indicatif::ProgressBar;
use keyhearth_files::manifest::{Content, Device, Entry, InsidePath, MANIFEST_BYTES_MAX, PATH_BYTES_MAX};
use keyhearth_files::{AnyOpened, Error};
use keyhearth_sys::filesystem;
use serde::Serialize;

use super::super::failure::Failure;
use super::super::file::failure;
use super::super::file::manifest::{Folder, Word};
use super::super::file::many::each_file;
use super::super::file::open::{Opener, Unlocked};
use super::super::file::place::{Place, Stamp, Unnamed};
use super::super::file::seal::{Head, Sealer};
use super::super::session::Server;
use super::aside::{Trash, conflict};
use super::decide::{Action, Plain, Sealed, decide, sealed};
use super::pair::{InStep, Looked, Pair, Pending};
use super::tree::{Half, Hashing, Lies, Seen, Tree};

/// Files that are worked on at once: each takes up to five descriptors.
const BATCH: usize = 128;
/// What a line of a manifest has besides the path, at most, in bytes.
const LINE_BYTES: usize = 512;
/// So many deletions are done whatever they are of.
const DELETIONS_MAX: usize = 10;

/// What was done about a path.
#[derive(Serialize)]
pub struct Step {
    pub what: &'static str,
    pub path: String,
    /// Where the other version lies, or why it was not done.
    pub see: Option<String>,
    /// The code of a refusal, and what to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_step: Option<String>,
}

/// A pair of folders, and who seals, opens and signs.
pub struct Pass<'p> {
    pub plain: &'p Tree,
    pub sealed: &'p Tree,
    pub server: &'p Server,
    pub sealer: Sealer<'p>,
    /// The manifest of the sealed folder.
    pub folder: Folder<'p>,
    pub device: Device,
    pub threads: usize,
    /// Whether to seal again what is missing on the sealed side though nobody deleted it.
    pub seals_missing: bool,
    /// Whether to delete most files of a side, if that is what happened on the other.
    pub deletes_many: bool,
    pub pair: &'p mut Pair,
    /// Whether the server signed when it was last asked to.
    pub signs: &'p mut bool,
    pub bar: ProgressBar,
    pub steps: Vec<Step>,
}

/// What lies on both sides of a path, and what the manifest says.
struct Found<'s> {
    path: InsidePath,
    plain: Option<&'s Lies>,
    sealed: Option<&'s Lies>,
    /// The hashes of what was in step there and of what lies on the sealed side; `None` is nothing.
    seen: BTreeSet<Option<String>>,
    /// What the manifest has of the sealed file, if that has to be said again: several devices signed at once.
    settles: Option<Content>,
}

impl Found<'_> {
    /// What is about to be done there.
    fn pending(&self, files: Option<(String, String)>) -> Pending {
        Pending { path: self.path.as_str().to_owned(), seen: self.seen.clone(), files }
    }
}

/// What was done on the sealed side, to be signed.
struct Done {
    path: String,
    /// What this device knew and saw there, by its hashes: it is in place of that and of nothing else.
    seen: BTreeSet<Option<String>>,
    content: Option<Content>,
    /// What is in step once it is signed.
    in_step: Option<InStep>,
}

/// A file that was sealed and has no name yet.
struct Made {
    output: Unnamed,
    /// Where it goes, and where it lies before if something is there.
    place: Place,
    part: Option<Place>,
    hash: String,
    content: Option<Content>,
}

impl Pass<'_> {
    /// Does everything that can be done.
    ///
    /// # Errors
    /// [`Failure`] if what was done could not be signed or remembered: it is in the next pass. What became of each path is in
    /// `steps`.
    pub fn run(&mut self) -> Result<(), Failure> {
        let (plain, sealed) = self.look();
        for (path, refusal) in plain.refused.iter().chain(&sealed.refused) {
            self.tell("refused", &path.to_string_lossy(), Err(refusal));
        }
        self.tidy(&sealed);
        let mut done = self.left(&plain, &sealed)?;
        let mut unsigned: BTreeSet<String> = done.iter().map(|done| done.path.clone()).collect();
        let mut todo = self.decide(&plain, &sealed, &unsigned);
        todo.sort_by_key(|(action, _)| *action);
        self.hold_unsignable(&mut todo);
        self.bar.set_length(todo.iter().filter(|(action, _)| *action != Action::Nothing).count() as u64);
        let trash = Trash::now();
        for batch in todo.chunk_by(|(a, _), (b, _)| a == b).flat_map(|same| same.chunks(BATCH)) {
            let Some((action, _)) = batch.first() else { continue };
            let found: Vec<&Found<'_>> = batch.iter().map(|(_, found)| found).collect();
            match action {
                Action::Nothing => found.iter().for_each(|found| self.in_step(found)),
                Action::Open | Action::Compare => done.extend(self.open(&found, *action, &trash)),
                Action::Seal => done.extend(self.seal(&found)?),
                Action::DeleteSealed => {
                    let unsealed = self.unsealed(&plain, &done);
                    done.extend(self.delete_sealed(&found, plain.has_unknown, &unsealed)?);
                }
                Action::DeletePlain => found.iter().for_each(|found| self.delete_plain(found, &trash)),
                Action::SayAgain => {
                    let again = self.say_again(&found);
                    unsigned.extend(again.iter().map(|done| done.path.clone()));
                    done.extend(again);
                }
                Action::Forget => found.iter().for_each(|found| self.pair.forget(found.path.as_str())),
                Action::Wait => found.iter().for_each(|found| self.wait(found)),
            }
            if *action != Action::Nothing {
                self.bar.inc(batch.len() as u64);
            }
        }
        // Names are durable before they are signed and remembered.
        if !done.is_empty()
            || todo.iter().any(|(action, _)| !matches!(action, Action::Nothing | Action::Wait))
        {
            self.synchronise()?;
        }
        let signed = self.sign(&done);
        *self.signs &= signed.is_ok();
        unsigned.iter().for_each(|path| self.tell("signed", path, signed.as_ref().map(|()| None)));
        let said: BTreeSet<String> = done.iter().map(|done| done.path.clone()).collect();
        if signed.is_ok() {
            for done in done {
                match done.in_step {
                    Some(in_step) => self.pair.put(&done.path, in_step),
                    None => self.pair.forget(&done.path),
                }
            }
        }
        self.note(&plain, &sealed);
        self.pair.save()?;
        signed?;
        // What may have been done though it failed is looked at in the next pass.
        self.pair.ended(|path| said.contains(path))
    }

    /// Waits until both folders are on their disks: also what users wrote, so that no crash takes what was sealed for deleted.
    fn synchronise(&self) -> Result<(), Failure> {
        for tree in [self.plain, self.sealed] {
            filesystem::synchronise(&File::open(&tree.path)?)?;
        }
        Ok(())
    }

    fn tell(&mut self, what: &'static str, path: &str, outcome: Result<Option<String>, &Failure>) {
        let path = path.to_owned();
        self.steps.push(match outcome {
            Ok(see) => Step { what, path, see, code: None, next_step: None },
            Err(refusal) => Step {
                what: match what {
                    "sealed" => "seal_failed",
                    "opened" => "open_failed",
                    "signed" => "sign_failed",
                    "deleted_plain" | "deleted_sealed" => "delete_failed",
                    what => what,
                },
                path,
                see: Some(refusal.to_string()),
                code: Some(refusal.code().unwrap_or("local").to_owned()),
                next_step: Some(refusal.next().to_owned()),
            },
        });
    }

    fn look(&self) -> (Seen, Seen) {
        let plain = |path: &str| self.pair.plain_halves(path);
        let sealed = |path: &str| self.pair.sealed_halves(path);
        let hashing = Hashing::Plain(&self.pair.secret);
        (
            self.plain.look(&hashing, plain, self.threads),
            self.sealed.look(&Hashing::Sealed, sealed, self.threads),
        )
    }

    /// Remembers what is not in step by its stamps, so that it is not read again until it changes.
    fn note(&mut self, plain: &Seen, sealed: &Seen) {
        let mut looked: BTreeMap<String, Looked> = BTreeMap::new();
        let settled = |(path, lies): (&InsidePath, &Lies)| {
            let half = Some(lies.half()).filter(|half| half.stamp.is_some())?;
            Some((path.as_str().to_owned(), half))
        };
        for (path, half) in plain.files.iter().filter_map(settled) {
            if self.pair.get(&path).is_none_or(|known| known.plain.hash != half.hash) {
                looked.entry(path).or_default().plain = Some(half);
            }
        }
        for (path, half) in sealed.files.iter().filter_map(settled) {
            if self.pair.get(&path).is_none_or(|known| known.sealed.hash != half.hash) {
                looked.entry(path).or_default().sealed = Some(half);
            }
        }
        self.pair.looked(looked);
    }

    /// Removes files on their way that a crash left on the sealed side, if they are known; of others nobody knows whose they are.
    fn tidy(&mut self, sealed: &Seen) {
        let mut known: BTreeSet<String> = self
            .pair
            .paths()
            .filter_map(|path| self.pair.get(path))
            .map(|known| known.sealed.hash.clone())
            .collect();
        known.extend(
            self.pair
                .pending()
                .values()
                .filter_map(|pending| pending.files.as_ref())
                .map(|(_, sealed)| sealed.clone()),
        );
        for part in &sealed.parts {
            let removed = self.sealed.make_at(part).and_then(|place| {
                let Some(file) = place.open()? else { return Ok(()) };
                // Another command may be at it.
                if !Stamp::of(&file.metadata()?).is_settled() {
                    return Ok(());
                }
                let (hash, _) = Hashing::Sealed.of(&file)?;
                if known.contains(&hash) {
                    return place.remove();
                }
                let next =
                    "look whether it is a version that you miss (`keyhearth file open`); then remove it";
                Err(Failure::of("left_over", "something was interrupted and left it", "", next))
            });
            if let Err(refusal) = removed {
                self.tell("refused", &part.to_string_lossy(), Err(&refusal));
            }
        }
    }

    /// What this device did in earlier passes and did not sign.
    fn left(&mut self, plain: &Seen, sealed: &Seen) -> Result<Vec<Done>, Failure> {
        let (mut done, mut kept) = (Vec::new(), BTreeSet::new());
        for (path, pending) in self.pair.pending() {
            let was_done =
                |content, in_step| Done { path: path.clone(), seen: pending.seen.clone(), content, in_step };
            let lies = sealed.files.get(path.as_str()).map(|lies| &lies.hash);
            if sealed.is_hidden(path) {
                kept.insert(path.clone());
            } else if let (None, None) = (&pending.files, lies) {
                done.push(was_done(None, None));
            } else if let Some((plain_hash, hash)) =
                pending.files.as_ref().filter(|(_, hash)| lies == Some(hash))
            {
                let content = self.sealed.find(path).and_then(|place| {
                    let file = place.open()?.ok_or_else(|| failure(Error::Changed))?;
                    Hashing::Sealed.of(&file)
                });
                // Otherwise it was not done, or something else lies there since.
                if let Ok((now, content @ Some(_))) = content
                    && now == *hash
                {
                    // Unless the plain file is still that one, it is compared: a crash may have taken it.
                    let lies_there =
                        plain.files.get(path.as_str()).is_some_and(|lies| lies.hash == *plain_hash);
                    let half = |hash: &String| Half { hash: hash.clone(), stamp: None };
                    let in_step =
                        InStep { plain: half(plain_hash), sealed: half(hash), own: front_of(content) };
                    done.push(was_done(content, Some(in_step).filter(|_| lies_there)));
                }
            }
        }
        kept.extend(done.iter().map(|done| done.path.clone()));
        self.pair.ended(|path| !kept.contains(path))?;
        Ok(done)
    }

    /// What to do about each path.
    fn decide<'s>(
        &mut self,
        plain: &'s Seen,
        sealed: &'s Seen,
        skipped: &BTreeSet<String>,
    ) -> Vec<(Action, Found<'s>)> {
        let known = self.pair.paths().filter_map(InsidePath::new);
        let paths: BTreeSet<InsidePath> =
            known.chain(plain.files.keys().cloned()).chain(sealed.files.keys().cloned()).collect();
        let mut todo = Vec::new();
        for path in paths {
            let name = path.as_str();
            if skipped.contains(name) {
                continue;
            }
            if plain.is_hidden(name) || sealed.is_hidden(name) {
                let lies = plain.files.get(&path);
                let is_known = lies.is_some_and(|lies| {
                    self.pair.get(name).is_some_and(|known| known.plain.hash == lies.hash)
                });
                if lies.is_some() && !is_known {
                    let what = "what lies there on the sealed side, or above it, is no file and no folder";
                    self.tell("refused", name, Err(&Failure::of("hidden", what, "", "move that away")));
                }
                continue;
            }
            let (plain, sealed) = (plain.files.get(&path), sealed.files.get(&path));
            match self.decide_one(name, plain, sealed) {
                Ok((action, settles)) => {
                    let known = self.pair.get(name).map(|known| known.sealed.hash.clone());
                    let seen = BTreeSet::from([known, sealed.map(|lies| lies.hash.clone())]);
                    todo.push((action, Found { path, plain, sealed, seen, settles }));
                }
                Err(refusal) => self.tell("refused", name, Err(&refusal)),
            }
        }
        if !self.deletes_many {
            self.hold_deletions(&mut todo);
        }
        todo
    }

    fn decide_one(
        &self,
        path: &str,
        plain: Option<&Lies>,
        lies: Option<&Lies>,
    ) -> Result<(Action, Option<Content>), Failure> {
        let in_step = self.pair.get(path);
        let plain = match plain {
            None => Plain::Absent,
            Some(plain) if in_step.is_some_and(|known| known.plain.hash == plain.hash) => Plain::Same,
            Some(_) => Plain::Changed,
        };
        let entry = self.folder.manifest.at(&signed_path(&self.folder, self.sealed, path)?);
        let newest: Vec<Option<Content>> =
            entry.into_iter().flat_map(Entry::newest).map(|record| record.content).collect();
        let hashes: BTreeSet<_> =
            newest.iter().map(|content| content.map(|content| content.hash.to_string())).collect();
        let known = in_step.map(|known| &known.sealed.hash);
        let hash = lies.map(|lies| &lies.hash);
        let is_newest = |hash: Option<&String>| hashes.contains(&hash.cloned());
        // What this device sealed and the manifest has nothing of any more: too much happened elsewhere before it was heard of.
        let is_unheard = in_step.and_then(|known| known.own.as_ref()).is_some_and(|own| {
            !is_newest(known)
                && !entry.into_iter().flat_map(Entry::fronts).any(|front| front.to_string() == *own)
        });
        if is_unheard && known == hash {
            return Ok((Action::SayAgain, None));
        }
        let (what, gave_way) = sealed(known, hash, &hashes);
        let is_missing = plain != Plain::Absent && what == Sealed::Torn && lies.is_none() && is_newest(known);
        if is_missing && self.seals_missing {
            return Ok((Action::Seal, None));
        }
        let gave_way = gave_way || is_unheard && what != Sealed::Torn;
        // Whoever has seen all that was said at once says what is left of it.
        let ends_conflict = gave_way || known.is_none() && newest.len() > 1 && is_newest(None);
        let lying = newest
            .into_iter()
            .flatten()
            .find(|content| hash.is_some_and(|hash| content.hash.to_string() == *hash));
        Ok((decide(plain, (what, gave_way)), lying.filter(|_| ends_conflict)))
    }

    /// Leaves most files where they are, though they are gone on the other side: that may be a mistake.
    fn hold_deletions(&mut self, todo: &mut Vec<(Action, Found<'_>)>) {
        let sides =
            [(Action::DeleteSealed, self.plain, self.sealed), (Action::DeletePlain, self.sealed, self.plain)];
        for (deletion, gone, left) in sides {
            let count = todo.iter().filter(|(action, _)| *action == deletion).count();
            if count > DELETIONS_MAX && 2 * count > self.pair.count() {
                todo.retain(|(action, _)| *action != deletion);
                let what = format!(
                    "{count} of {} files are gone there at once, so none was deleted in {}",
                    self.pair.count(),
                    left.path.display()
                );
                let next = "if that is right: the same once more with --once --delete-many";
                let place = gone.path.to_string_lossy().into_owned();
                self.tell("held", &place, Err(&Failure::of("many_deletions", &what, "", next)));
            }
        }
    }

    /// Leaves the sealed side as it is if nothing can be signed: others would take what is done there for what nobody did.
    fn hold_unsignable(&mut self, todo: &mut Vec<(Action, Found<'_>)>) {
        let held = [(Action::Seal, "sealed"), (Action::DeleteSealed, "deleted_sealed")];
        let what = |action: &Action| held.iter().find(|(held, _)| held == action).map(|(_, what)| *what);
        if !todo.iter().any(|(action, _)| what(action).is_some()) {
            return;
        }
        // By the deed, but not each time: the log has every signature.
        let may_sign = if *self.signs { Ok(()) } else { self.folder.may_sign() };
        *self.signs = may_sign.is_ok();
        let Err(refusal) = may_sign else { return };
        let code = refusal.code().unwrap_or("local").to_owned();
        let because = format!("it could not be signed: {refusal}");
        let next = format!("{}; `keyhearth file open` brings a plain file back", refusal.next());
        let refusal = Failure::of(&code, &because, "", refusal.next());
        let undone = Failure::of(&code, &because, "", &next);
        todo.retain(|(action, found)| {
            let Some(what) = what(action) else { return true };
            let refusal = if *action == Action::DeleteSealed { &undone } else { &refusal };
            self.tell(what, found.path.as_str(), Err(refusal));
            false
        });
    }

    /// Both are as they were; perhaps other stamps show that from now on.
    fn in_step(&mut self, found: &Found<'_>) {
        if let (Some(plain), Some(sealed)) = (found.plain, found.sealed) {
            let own = self.pair.get(found.path.as_str()).and_then(|known| known.own.clone());
            self.pair.put(found.path.as_str(), InStep { plain: plain.half(), sealed: sealed.half(), own });
        }
    }

    /// Says again what this device sealed, as it lies there still.
    fn say_again(&mut self, found: &[&Found<'_>]) -> Vec<Done> {
        let mut done = Vec::new();
        for found in found {
            let path = found.path.as_str();
            let content = self.sealed.find(path).and_then(|place| {
                let file = place.open()?.ok_or_else(|| failure(Error::Changed))?;
                let (hash, content) = Hashing::Sealed.of(&file)?;
                check_file(&file, found.sealed)?;
                content.filter(|_| found.seen.contains(&Some(hash))).ok_or_else(|| failure(Error::Changed))
            });
            match content {
                Ok(content) => done.push(Done {
                    path: path.to_owned(),
                    seen: found.seen.clone(),
                    content: Some(content),
                    in_step: self.pair.get(path).cloned(),
                }),
                Err(refusal) => self.tell("signed", path, Err(&refusal)),
            }
        }
        done
    }

    fn wait(&mut self, found: &Found<'_>) {
        let what = if found.sealed.is_some() {
            "the sealed file is not the one that a device signed"
        } else {
            "the sealed file is gone, and no device signed that"
        };
        let next = "let the sync service come to its end; `keyhearth file verify` says more";
        self.tell("waits", found.path.as_str(), Err(&Failure::of("not_signed", what, "", next)));
    }

    fn delete_plain(&mut self, found: &Found<'_>, trash: &Trash) {
        let (path, Some(plain)) = (found.path.as_str(), found.plain) else { return };
        let deleted = check_absent(self.sealed, path).and_then(|()| {
            let place = self.plain.find(path)?;
            check_place(&place, Some(plain))?;
            let aside = trash.place(self.plain, path)?;
            place.take(&aside, &plain.stamp)?;
            self.plain.prune(path, self.sealed);
            Ok(aside.inside().display().to_string())
        });
        if deleted.is_ok() {
            self.pair.forget(path);
        }
        self.tell("deleted_plain", path, deleted.as_ref().map(|aside| Some(aside.clone())));
    }

    /// The content of plain files that is not sealed under their names: whatever is deleted may be one of them.
    fn unsealed(&self, plain: &Seen, done: &[Done]) -> BTreeSet<String> {
        let in_step = done.iter().filter_map(|done| Some((done.path.as_str(), done.in_step.as_ref()?)));
        let in_step: BTreeMap<&str, &InStep> = in_step.collect();
        let is_sealed = |path: &str, lies: &Lies| {
            let known = in_step.get(path).copied().or_else(|| self.pair.get(path));
            known.is_some_and(|known| known.plain.hash == lies.hash)
        };
        let unsealed = plain.files.iter().filter(|(path, lies)| !is_sealed(path.as_str(), lies));
        unsealed.map(|(_, lies)| lies.hash.clone()).collect()
    }

    /// Deletes sealed files, but for those whose content may now have another name that was not sealed.
    fn delete_sealed(
        &mut self,
        found: &[&Found<'_>],
        has_unknown: bool,
        unsealed: &BTreeSet<String>,
    ) -> Result<Vec<Done>, Failure> {
        let (mut todo, mut done) = (Vec::new(), Vec::new());
        for found in found {
            let path = found.path.as_str();
            let Some(sealed) = found.sealed else { continue };
            let is_unsealed = self.pair.get(path).is_some_and(|known| unsealed.contains(&known.plain.hash));
            if has_unknown || is_unsealed {
                let what = "the plain file is gone, but there is one that could not be sealed and may be it";
                let refusal = Failure::of("maybe_renamed", what, "", "correct that first");
                self.tell("deleted_sealed", path, Err(&refusal));
            } else {
                todo.push((found, path, sealed));
            }
        }
        self.pair.begin(todo.iter().map(|(found, ..)| found.pending(None)).collect())?;
        for (found, path, lies) in todo {
            let deleted = check_absent(self.plain, path).and_then(|()| {
                let place = self.sealed.find(path)?;
                check_place(&place, Some(lies))?;
                let part = place.part()?;
                place.take(&part, &lies.stamp)?;
                part.remove()?;
                self.sealed.prune(path, self.plain);
                Ok(())
            });
            if deleted.is_ok() {
                done.push(Done {
                    path: path.to_owned(),
                    seen: found.seen.clone(),
                    content: None,
                    in_step: None,
                });
            }
            self.tell("deleted_sealed", path, deleted.as_ref().map(|()| None));
        }
        Ok(done)
    }

    /// Opens sealed files, or compares them with the plain ones.
    fn open(&mut self, found: &[&Found<'_>], action: Action, trash: &Trash) -> Vec<Done> {
        let (mut read, mut files, mut done) = (Vec::new(), Vec::new(), Vec::new());
        for &found in found {
            match self.header(found) {
                Ok((file, opened)) => {
                    read.push((found, file));
                    files.push(opened);
                }
                Err(refusal) => self.tell("opened", found.path.as_str(), Err(&refusal)),
            }
        }
        if files.is_empty() {
            return done;
        }
        let unlocked = match Opener::Server(self.server).unlock(files) {
            Ok(unlocked) => unlocked,
            Err(refusal) => {
                read.iter().for_each(|(found, _)| self.tell("opened", found.path.as_str(), Err(&refusal)));
                return done;
            }
        };
        for ((found, file), unlocked) in read.into_iter().zip(unlocked) {
            let path = found.path.as_str();
            match unlocked.and_then(|unlocked| self.open_one(found, &file, unlocked, action, trash)) {
                Ok((what, see, in_step)) => {
                    match found.settles {
                        Some(content) => done.push(Done {
                            path: path.to_owned(),
                            seen: found.seen.clone(),
                            content: Some(content),
                            in_step: Some(in_step),
                        }),
                        None => self.pair.put(path, in_step),
                    }
                    self.tell(what, path, Ok(see));
                }
                Err(refusal) => self.tell("opened", path, Err(&refusal)),
            }
        }
        done
    }

    /// The sealed file that was seen, and its header.
    fn header(&self, found: &Found<'_>) -> Result<(File, AnyOpened), Failure> {
        let file = self.sealed.find(found.path.as_str())?.open()?.ok_or_else(|| failure(Error::Changed))?;
        check_file(&file, found.sealed)?;
        let opened = keyhearth_files::open_any(file.try_clone()?).map_err(failure)?;
        Ok((file, opened))
    }

    /// Opens one file into its place; gives what was done, where the other version is, and what is in step.
    fn open_one(
        &self,
        found: &Found<'_>,
        source: &File,
        unlocked: Unlocked,
        action: Action,
        trash: &Trash,
    ) -> Result<(&'static str, Option<String>, InStep), Failure> {
        let path = found.path.as_str();
        let place = self.plain.make(path)?;
        let aside = match found.plain {
            None => None,
            Some(_) if action == Action::Compare => {
                Some(conflict(&place, &self.device, self.sealed.name_bytes_max())?)
            }
            Some(_) => Some(trash.place(self.plain, path)?),
        };
        let output = aside.as_ref().unwrap_or(&place).output()?;
        unlocked.write_to(output.file(), self.threads).map_err(failure)?;
        let (hash, _) = Hashing::Plain(&self.pair.secret).of(output.file())?;
        // What was opened is what was seen.
        check_file(source, found.sealed)?;
        if let Some(seen) = found.sealed.filter(|seen| !seen.is_settled())
            && Hashing::Sealed.of(source)?.0 != seen.hash
        {
            return Err(failure(Error::Changed));
        }
        let sealed = found.sealed.map(Lies::half).ok_or_else(|| failure(Error::Changed))?;
        let in_step = InStep { plain: Half { hash: hash.clone(), stamp: None }, sealed, own: None };
        if action == Action::Compare && found.plain.is_some_and(|plain| plain.hash == hash) {
            return Ok(("same", None, in_step));
        }
        if let Some(was) = place.open()? {
            let mode = was.metadata()?.permissions().mode() & 0o777;
            output.file().set_permissions(Permissions::from_mode(mode))?;
        }
        output.file().sync_all()?;
        if found.plain.is_none() && place.stamp()?.is_some_and(|stamp| stamp.is_folder()) {
            // It holds no file any more; if it does this fails.
            place.remove_folder().map_err(|error| Failure::at(path, &error))?;
        }
        check_place(&place, found.plain)?;
        output.finish()?;
        let what = match (&aside, found.plain) {
            (Some(aside), Some(plain)) if action == Action::Open => {
                aside.exchange(&place, &plain.stamp)?;
                "opened"
            }
            (Some(aside), _) => {
                aside.swap(&place)?;
                "conflict"
            }
            (None, _) => "opened",
        };
        Ok((what, aside.map(|aside| aside.inside().display().to_string()), in_step))
    }

    /// Seals plain files.
    fn seal(&mut self, found: &[&Found<'_>]) -> Result<Vec<Done>, Failure> {
        // What could not be signed is not put there.
        let room = MANIFEST_BYTES_MAX.saturating_sub(self.folder.manifest.to_text().len());
        if room < (self.pair.pending().len() + found.len()) * (PATH_BYTES_MAX + LINE_BYTES) {
            let next = "split the folder, and keep each part in step";
            let refusal = Failure::of("too_large", "the manifest has no room for more files", "", next);
            found.iter().for_each(|found| self.tell("sealed", found.path.as_str(), Err(&refusal)));
            return Ok(Vec::new());
        }
        let heads = match self.sealer.heads(found.len()) {
            Ok(heads) => heads,
            Err(refusal) => {
                found.iter().for_each(|found| self.tell("sealed", found.path.as_str(), Err(&refusal)));
                return Ok(Vec::new());
            }
        };
        let (plain, sealed) = (self.plain, self.sealed);
        let jobs: Vec<(&Found<'_>, _)> = found.iter().copied().zip(heads).collect();
        let bytes = |(found, _): &(&Found<'_>, _)| found.plain.map_or(0, |plain| plain.stamp.bytes());
        let made = each_file(self.threads, self.threads, jobs, bytes, |(found, head), threads| {
            (found, head.and_then(|head| make(plain, sealed, found, head, threads)))
        });
        self.synchronise()?;
        let pending = made.iter().filter_map(|(found, made)| {
            Some(found.pending(Some((found.plain?.hash.clone(), made.as_ref().ok()?.hash.clone()))))
        });
        self.pair.begin(pending.collect())?;
        let mut done = Vec::new();
        for (found, made) in made {
            let path = found.path.as_str();
            let put = made.and_then(|made| put(made, found));
            self.tell("sealed", path, put.as_ref().map(|_| None));
            done.extend(put);
        }
        Ok(done)
    }

    /// Signs what this device did.
    fn sign(&mut self, done: &[Done]) -> Result<(), Failure> {
        if done.is_empty() {
            // What another manifest took the place of is said again, and what a key signed that is believed no longer.
            let is_whole = self.folder.present.as_ref() == Some(&self.folder.manifest);
            return if is_whole && self.folder.is_signed() {
                self.folder.remember()
            } else {
                self.folder.sign().map(drop)
            };
        }
        let said = done.iter().map(|done| {
            let path = signed_path(&self.folder, self.sealed, &done.path)?;
            Ok(Word { path, seen: done.seen.clone(), content: done.content })
        });
        let said = said.collect::<Result<_, Failure>>()?;
        self.folder.sign_over(said, &self.device).map(drop)
    }
}

/// Seals the plain file that was seen; the result has no name yet.
fn make(plain: &Tree, sealed: &Tree, found: &Found<'_>, head: Head, threads: usize) -> Result<Made, Failure> {
    let path = found.path.as_str();
    let source = plain.find(path)?.open()?.ok_or_else(|| failure(Error::Changed))?;
    check_file(&source, found.plain)?;
    let place = sealed.make(path)?;
    let part = found.sealed.map(|_| place.part()).transpose()?;
    let output = part.as_ref().unwrap_or(&place).output()?;
    head.seal(&source, output.file(), threads).map_err(failure)?;
    // What is sealed is what was hashed.
    check_file(&source, found.plain)?;
    let (hash, content) = Hashing::Sealed.of(output.file())?;
    Ok(Made { output, place, part, hash, content })
}

/// Gives a sealed file its name.
fn put(made: Made, found: &Found<'_>) -> Result<Done, Failure> {
    let Made { output, place, part, hash, content } = made;
    check_place(&place, found.sealed)?;
    output.finish()?;
    if let (Some(part), Some(was)) = (part, found.sealed) {
        part.exchange(&place, &was.stamp)?;
        part.remove()?;
    }
    let sealed = Half { hash, stamp: None };
    let in_step = found.plain.map(|plain| InStep { plain: plain.half(), sealed, own: front_of(content) });
    Ok(Done { path: found.path.as_str().to_owned(), seen: found.seen.clone(), content, in_step })
}

fn front_of(content: Option<Content>) -> Option<String> {
    content.map(|content| content.front.to_string())
}

/// Refuses unless no file lies at a path.
fn check_absent(tree: &Tree, path: &str) -> Result<(), Failure> {
    match tree.find_at(&tree.inside(path)?)? {
        Some(place) if place.stamp()?.is_some_and(|stamp| !stamp.is_folder()) => Err(failure(Error::Changed)),
        Some(_) | None => Ok(()),
    }
}

fn check_place(place: &Place, seen: Option<&Lies>) -> Result<(), Failure> {
    if place.stamp()? == seen.map(|seen| seen.stamp) { Ok(()) } else { Err(failure(Error::Changed)) }
}

fn check_file(file: &File, seen: Option<&Lies>) -> Result<(), Failure> {
    let now = Stamp::of(&file.metadata()?);
    if seen.is_some_and(|seen| seen.stamp == now) { Ok(()) } else { Err(failure(Error::Changed)) }
}

/// What the manifest calls a path.
fn signed_path(folder: &Folder<'_>, sealed: &Tree, path: &str) -> Result<InsidePath, Failure> {
    let place = sealed.path.join(sealed.inside(path)?);
    let inside = place.strip_prefix(&folder.root).ok().and_then(Path::to_str).and_then(InsidePath::new);
    let what = "no manifest can name it: the path is too long, or a folder above it has no name in UTF-8";
    inside.ok_or_else(|| Failure::of("bad_name", what, "", "rename it, or a folder above it"))
}
