//! One pass: both folders are looked at, and what happened in one is done in the other.
//!
//! The order of every change: what is made is whole and durable, then it gets its name, then a deletion or a new file is
//! signed, then it is remembered. A crash in between leaves files that the next pass finds equal.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use keyhearth_files::manifest::{Content, Device, InsidePath};
use keyhearth_files::{AnyOpened, Error, Output};
use serde::Serialize;

use super::super::failure::Failure;
use super::super::file::failure;
use super::super::file::manifest::{Folder, Lying};
use super::super::file::many::BATCH;
use super::super::file::open::{self, Opener, Unlocked};
use super::super::file::seal::{Head, Sealer};
use super::super::session::Server;
use super::conflict;
use super::decide::{Action, Side, decide};
use super::known::{Half, InStep, Known, Stamp};
use super::tree::{Lies, Seen, Tree, hash_of, sealed_hash_of};

/// What was done about a path.
#[derive(Serialize)]
pub struct Step {
    pub what: &'static str,
    pub path: String,
    /// Where the other version lies, or why it was not done.
    pub see: Option<String>,
    /// The code of a refusal.
    #[serde(skip)]
    pub code: Option<String>,
}

/// A pair of folders, and who seals, opens and signs.
pub struct Pass<'p> {
    pub plain: &'p Tree,
    pub sealed: &'p Tree,
    pub server: &'p Server,
    pub sealer: Sealer<'p>,
    /// The manifest of the sealed folder, if somebody signs.
    pub folder: Option<Folder<'p>>,
    pub device: Device,
    pub threads: usize,
    pub known: &'p mut Known,
    pub steps: Vec<Step>,
    /// Folders in which names were made or removed.
    pub touched: BTreeSet<PathBuf>,
}

/// What lies on both sides of a path.
struct Pair<'s> {
    path: InsidePath,
    plain: Option<&'s Lies>,
    sealed: Option<&'s Lies>,
}

impl Pass<'_> {
    /// Does everything that can be done.
    ///
    /// # Errors
    /// [`Failure`] if what was done could not be remembered or signed. What became of each path is in `steps`.
    pub fn run(&mut self) -> Result<(), Failure> {
        let plain = self.plain.look(self.known, self.threads);
        let sealed = self.sealed.look(self.known, self.threads);
        for (path, refusal) in plain.refused.iter().chain(&sealed.refused) {
            self.tell("refused", &path.to_string_lossy(), Err(refusal));
        }
        let mut todo = self.decide(&plain, &sealed);
        todo.sort_by_key(|(action, _)| *action);
        for batch in todo.chunk_by(|(a, _), (b, _)| a == b).flat_map(|same| same.chunks(BATCH)) {
            let Some((action, _)) = batch.first() else { continue };
            let pairs: Vec<&Pair<'_>> = batch.iter().map(|(_, pair)| pair).collect();
            match action {
                Action::Nothing => pairs.iter().for_each(|pair| self.in_step(pair)),
                Action::Open | Action::Compare => self.open(&pairs, *action),
                Action::Seal => self.seal(&pairs),
                Action::DeleteSealed => self.delete(&pairs, "deleted_sealed"),
                Action::DeletePlain => self.delete(&pairs, "deleted_plain"),
                Action::Forget => pairs.iter().for_each(|pair| self.gone(pair)),
                Action::Wait => pairs.iter().for_each(|pair| self.wait(pair)),
            }
        }
        // Names are durable before they are signed and remembered.
        for folder in std::mem::take(&mut self.touched).iter().filter(|folder| folder.is_dir()) {
            File::open(folder)?.sync_all()?;
        }
        let signed = self.sign();
        self.known.save()?;
        signed
    }

    fn tell(&mut self, what: &'static str, path: &str, outcome: Result<Option<String>, &Failure>) {
        let (see, code) = match outcome {
            Ok(see) => (see, None),
            Err(refusal) => (Some(refusal.to_string()), Some(refusal.code().unwrap_or("local").to_owned())),
        };
        self.steps.push(Step { what, path: path.to_owned(), see, code });
    }

    /// Takes note that a name was made or removed at a path of this folder, and perhaps folders above it.
    fn touch(&mut self, tree: &Tree, path: &str) {
        let above = Path::new(path).ancestors().skip(1).map(|inside| tree.root.join(inside));
        self.touched.extend(above);
    }

    /// What to do about each path.
    fn decide<'s>(&mut self, plain: &'s Seen, sealed: &'s Seen) -> Vec<(Action, Pair<'s>)> {
        let known = self.known.paths().filter_map(InsidePath::new);
        let paths: BTreeSet<InsidePath> =
            known.chain(plain.files.keys().cloned()).chain(sealed.files.keys().cloned()).collect();
        let mut todo = Vec::new();
        for path in paths {
            if plain.is_hidden(path.as_str()) || sealed.is_hidden(path.as_str()) {
                continue;
            }
            let known = self.known.get(path.as_str());
            let side = |lies: Option<&Lies>, known: Option<&Half>| match lies {
                None => Side::Absent,
                Some(lies) if known.is_some_and(|known| known.hash == lies.hash) => Side::Same,
                Some(_) => Side::Changed,
            };
            let (plain, sealed) = (plain.files.get(&path), sealed.files.get(&path));
            let plain_side = side(plain, known.map(|known| &known.plain));
            let sealed_side = side(sealed, known.map(|known| &known.sealed));
            let action = decide(plain_side, sealed_side, self.is_signed(&path, sealed));
            todo.push((action, Pair { path, plain, sealed }));
        }
        // A folder that is not mounted is empty, too.
        for (seen, deletion, tree) in
            [(plain, Action::DeleteSealed, self.plain), (sealed, Action::DeletePlain, self.sealed)]
        {
            if seen.files.is_empty() && todo.iter().any(|(action, _)| *action == deletion) {
                todo.retain(|(action, _)| *action != deletion);
                let what = "all files are gone at once, so none was deleted on the other side";
                let next = "look whether it is mounted; if they are to be deleted, delete them on the other side, too";
                self.tell(
                    "emptied",
                    &tree.root.to_string_lossy(),
                    Err(&Failure::of("emptied", what, "", next)),
                );
            }
        }
        todo
    }

    /// Whether a device signed what lies on the sealed side now; so it is where nobody signs.
    fn is_signed(&self, path: &InsidePath, sealed: Option<&Lies>) -> bool {
        let Some(folder) = &self.folder else { return true };
        let says = |content: &Option<Content>| match (content, sealed) {
            (Some(content), Some(sealed)) => content.hash.to_string() == sealed.hash,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        let entry =
            signed_path(folder, self.sealed, path.as_str()).and_then(|path| folder.manifest.at(&path));
        entry.is_some_and(|entry| entry.newest().any(|record| says(&record.content)))
    }

    /// Both are as they were; perhaps other stamps show that from now on.
    fn in_step(&mut self, pair: &Pair<'_>) {
        if let (Some(plain), Some(sealed)) = (pair.plain, pair.sealed) {
            self.known.put(pair.path.as_str(), InStep { plain: plain.half(), sealed: sealed.half() });
        }
    }

    fn wait(&mut self, pair: &Pair<'_>) {
        let what = if pair.sealed.is_some() {
            "no device has signed the sealed file"
        } else {
            "no device has signed that it is gone"
        };
        let next = "let the sync service come to its end; `keyhearth file verify` says more";
        self.tell("waits", pair.path.as_str(), Err(&Failure::of("not_signed", what, "", next)));
    }

    fn gone(&mut self, pair: &Pair<'_>) {
        let path = pair.path.as_str();
        if let Some(known) = self.known.get(path) {
            let hash = known.sealed.hash.clone();
            self.known.leave_unsigned(path, &hash);
            self.known.forget(path);
        }
    }

    fn delete(&mut self, pairs: &[&Pair<'_>], what: &'static str) {
        for pair in pairs {
            let path = pair.path.as_str();
            let (tree, other, lies, absent) = match pair.sealed {
                Some(sealed) => (self.sealed, self.plain, sealed, pair.plain),
                None => match pair.plain {
                    Some(plain) => (self.plain, self.sealed, plain, pair.sealed),
                    None => continue,
                },
            };
            let deleted = other
                .check(path, absent)
                .and_then(|()| tree.check(path, Some(lies)))
                .and_then(|()| tree.remove(path, other));
            if deleted.is_ok() {
                self.touch(tree, path);
                self.gone(pair);
            }
            self.tell(what, path, deleted.as_ref().map(|()| None));
        }
    }

    /// Opens sealed files, or compares them with the plain ones.
    fn open(&mut self, pairs: &[&Pair<'_>], action: Action) {
        let mut found: Vec<(&Pair<'_>, AnyOpened)> = Vec::new();
        for &pair in pairs {
            match open::read(&self.sealed.at(pair.path.as_str())) {
                Ok(opened) => found.push((pair, AnyOpened::Age(opened))),
                Err(refusal) => self.tell("opened", pair.path.as_str(), Err(&refusal)),
            }
        }
        if found.is_empty() {
            return;
        }
        let (pairs, files): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        match Opener::Server(self.server).unlock(files) {
            Ok(unlocked) => {
                for (pair, file) in pairs.into_iter().zip(unlocked) {
                    let done = file.and_then(|file| self.open_one(pair, file, action));
                    match done {
                        Ok((what, see)) => self.tell(what, pair.path.as_str(), Ok(see)),
                        Err(refusal) => self.tell("opened", pair.path.as_str(), Err(&refusal)),
                    }
                }
            }
            Err(refusal) => {
                pairs.iter().for_each(|pair| self.tell("opened", pair.path.as_str(), Err(&refusal)))
            }
        }
    }

    /// Opens one file into its place; gives what was done and where the other version is.
    fn open_one(
        &mut self,
        pair: &Pair<'_>,
        file: Unlocked,
        action: Action,
    ) -> Result<(&'static str, Option<String>), Failure> {
        let path = pair.path.as_str();
        let place = self.plain.place(path)?;
        let output = Output::create(&place).map_err(failure)?;
        file.write_to(output.file(), self.threads).map_err(failure)?;
        let hash = hash_of(output.file())?;
        self.sealed.check(path, pair.sealed)?;
        let is_equal = action == Action::Compare && pair.plain.is_some_and(|plain| plain.hash == hash);
        if is_equal {
            self.in_step(pair);
            if let Some(sealed) = pair.sealed {
                self.known.leave_unsigned(path, &sealed.hash);
            }
            return Ok(("same", None));
        }
        if action == Action::Compare && !self.is_signed(&pair.path, pair.sealed) {
            let next = "let the sync service come to its end; `keyhearth file verify` says more";
            return Err(Failure::of("not_signed", "no device has signed the sealed file", "", next));
        }
        output.file().sync_all()?;
        self.plain.check(path, pair.plain)?;
        let (what, see) = match pair.plain {
            None => {
                output.finish().map_err(failure)?;
                ("opened", None)
            }
            Some(_) if action == Action::Compare => {
                // From here on the plain version lies under another name; after a crash the sealed one is opened beside it.
                let aside = conflict::move_aside(&place, &self.device)?;
                output.finish().map_err(failure)?;
                ("conflict", Some(aside))
            }
            Some(_) => {
                output.file().set_permissions(place.metadata()?.permissions())?;
                output.replace().map_err(failure)?;
                ("opened", None)
            }
        };
        self.touch(self.plain, path);
        if let Some(sealed) = pair.sealed {
            let plain = Half { hash, stamp: stamp_of(&place)? };
            self.known.put(path, InStep { plain, sealed: sealed.half() });
        }
        Ok((what, see))
    }

    fn seal(&mut self, pairs: &[&Pair<'_>]) {
        match self.sealer.heads(pairs.len()) {
            Ok(heads) => {
                for (pair, head) in pairs.iter().zip(heads) {
                    let sealed = head.and_then(|head| self.seal_one(pair, head));
                    self.tell("sealed", pair.path.as_str(), sealed.as_ref().map(|()| None));
                }
            }
            Err(refusal) => {
                pairs.iter().for_each(|pair| self.tell("sealed", pair.path.as_str(), Err(&refusal)))
            }
        }
    }

    fn seal_one(&mut self, pair: &Pair<'_>, head: Head) -> Result<(), Failure> {
        let (path, Some(plain)) = (pair.path.as_str(), pair.plain) else { return Ok(()) };
        let (source, place) = (self.plain.at(path), self.sealed.place(path)?);
        let file = File::open(&source).map_err(|error| Failure::at(source.display(), &error))?;
        // What is sealed is what was hashed.
        if Stamp::of(&file.metadata()?) != plain.stamp {
            return Err(failure(Error::Changed));
        }
        let output = Output::create(&place).map_err(failure)?;
        head.seal(&file, output.file(), self.threads).map_err(failure)?;
        if Stamp::of(&file.metadata()?) != plain.stamp {
            return Err(failure(Error::Changed));
        }
        let hash = sealed_hash_of(output.file())?;
        self.sealed.check(path, pair.sealed)?;
        if pair.sealed.is_some() {
            output.replace().map_err(failure)?;
        } else {
            output.file().sync_all()?;
            output.finish().map_err(failure)?;
        }
        self.touch(self.sealed, path);
        self.known.leave_unsigned(path, &hash);
        let sealed = Half { hash, stamp: stamp_of(&place)? };
        self.known.put(path, InStep { plain: plain.half(), sealed });
        Ok(())
    }

    /// Signs what this machine wrote and deleted.
    fn sign(&mut self) -> Result<(), Failure> {
        let Some(folder) = &mut self.folder else {
            self.known.signed();
            return Ok(());
        };
        let (mut there, mut gone) = (Vec::new(), Vec::new());
        for (path, hash) in self.known.unsigned() {
            match self.known.get(path) {
                Some(known) => there.push((self.sealed.at(path), known.sealed.hash.clone())),
                None => gone.extend(signed_path(folder, self.sealed, path).map(|path| (path, hash))),
            }
        }
        for (path, hash) in gone {
            let is_what_was = |content: &Content| content.hash.to_string() == *hash;
            let newest = folder.manifest.at(&path).into_iter().flat_map(|entry| entry.newest());
            if newest.filter_map(|record| record.content.as_ref()).any(is_what_was) {
                folder.record(path, None, &self.device);
            }
        }
        let (paths, hashes): (Vec<_>, BTreeSet<_>) = there.into_iter().unzip();
        for (path, observed) in Lying::of(&folder.root, paths, self.threads).files {
            let content = observed.content();
            // Somebody may have put another file there meanwhile.
            if content.is_some_and(|content| hashes.contains(&content.hash.to_string())) {
                folder.record(path, content, &self.device);
            }
        }
        folder.sign()?;
        self.known.signed();
        Ok(())
    }
}

/// What the manifest calls a path.
fn signed_path(folder: &Folder<'_>, sealed: &Tree, path: &str) -> Option<InsidePath> {
    InsidePath::new(sealed.at(path).strip_prefix(&folder.root).ok()?.to_str()?)
}

fn stamp_of(place: &Path) -> Result<Option<Stamp>, Failure> {
    let metadata = fs::symlink_metadata(place).map_err(|error| Failure::at(place.display(), &error))?;
    Ok(Stamp::of(&metadata).settled())
}
