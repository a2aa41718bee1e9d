//! What programs change in the folder besides contents: files and folders that are made, renamed and removed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use fuser::Errno;
use keyhearth_files::Output;
use parking_lot::MutexGuard;

use super::super::SUFFIX;
use super::super::place::Stamp;
use super::super::place::beneath::Folder;
use super::super::place::exchange::{Exchanged, cannot, rename_new, swap};
use super::documents::{Base, Document, Draft, Placed, Tree};
use super::files::{Files, READ_ONLY, parts, remember, say, tell};
use super::numbers::moved_to;
use super::replace::Target;
use super::save::Unsaved;
use super::shown::{Entry, ShownFolder, is_kept_back};

/// How often a file that is written on and on is saved before it is not renamed.
const SAVES_MAX: u32 = 8;

impl Files {
    /// Refuses what is not writable, names that nothing here may have, and folders with a manifest of their own: their names may be
    /// encrypted.
    fn may_make(&self, inside: &Path, name: &OsStr) -> Result<(), Errno> {
        self.may_change()?;
        if is_kept_back(name) {
            return Err(Errno::EPERM);
        }
        for above in inside.ancestors().filter(|above| !above.as_os_str().is_empty()) {
            if self.root.folder(above)?.has_manifest()? {
                say(inside, "it has a manifest of its own: mount that folder to make something there");
                return Err(Errno::EROFS);
            }
        }
        Ok(())
    }

    fn may_change(&self) -> Result<(), Errno> {
        match self.key {
            Some(_) if self.is_over() => Err(Errno::EIO),
            Some(_) => Ok(()),
            None => Err(Errno::EROFS),
        }
    }

    /// Makes an empty file at `path` and opens it; what was there already is an error. `number` is what the kernel is to know it by,
    /// once it is there. Gives what it is open under.
    ///
    /// It lies on the disk at once, sealed, so that who may not seal is told at once, and nothing else takes its place.
    pub fn create(&self, path: &Path, number: impl FnOnce() -> u64) -> Result<u64, Errno> {
        let (inside, name) = parts(path);
        self.may_make(inside, name)?;
        let folder = self.root.folder(inside)?;
        let sealed_name = folder.sealed_name(name, SUFFIX)?;
        if folder.find(name)?.is_some() {
            return Err(Errno::EEXIST);
        }
        let head = self.head(None).map_err(|refusal| tell(path, &refusal))?;
        let place = folder.path().join(&sealed_name);
        let output = Output::create(&place).map_err(io::Error::from)?;
        let sealed =
            keyhearth_files::seal_stream(&head.file_key, &head.header, &mut io::empty(), &mut output.file());
        sealed.map_err(io::Error::from)?;
        let scratch = self.scratch(path)?;
        let (sealed, new) = output.name().map_err(io::Error::from)?;
        let proof = head.proof();
        let document = {
            let mut tree = self.tree.lock();
            if folder.find(name)?.is_some() {
                return Err(Errno::EEXIST);
            }
            new.persist_noclobber(place).map_err(|error| error.error)?;
            let base = Base::new(self.next(), sealed, Some(proof))?;
            remember(&mut self.known.lock(), path.to_owned(), *base.stamp.lock());
            let document = Document::new(base, Some(Draft::new(scratch, Some(head.identity), false)));
            let placed = Placed {
                document: Arc::clone(&document),
                path: Some(path.to_owned()),
                handles: 1,
                writers: 1,
            };
            tree.insert(placed);
            document
        };
        Ok(self.hold(number(), document, true))
    }

    /// Makes a folder.
    pub fn make_folder(&self, path: &Path) -> Result<(), Errno> {
        let (inside, name) = parts(path);
        self.may_make(inside, name)?;
        let _tree = self.tree.lock();
        let folder = self.root.folder(inside)?;
        if folder.find(name)?.is_some() {
            return Err(Errno::EEXIST);
        }
        Ok(folder.make(&folder.folder_name(name)?)?)
    }

    /// Removes a file. Who has it open still has what he wrote, and it is not saved any more.
    pub fn remove(&self, path: &Path) -> Result<(), Errno> {
        self.may_change()?;
        let (inside, name) = parts(path);
        let removed = {
            let mut tree = self.tree.lock();
            let folder = self.root.folder(inside)?;
            match folder.find(name)?.ok_or(Errno::ENOENT)? {
                Entry::Folder(_) => return Err(Errno::EISDIR),
                Entry::File(sealed) => folder.remove(&sealed)?,
            }
            let removed = tree.at(path).map(|placed| Arc::clone(&placed.document));
            tree.clear(path);
            self.known.lock().remove(path);
            self.numbers.lock().remove(path);
            removed
        };
        if let Some(document) = removed {
            self.settle(&document);
        }
        Ok(())
    }

    /// Removes an empty folder. What is not shown keeps it from being empty.
    pub fn remove_folder(&self, path: &Path) -> Result<(), Errno> {
        self.may_change()?;
        let (inside, name) = parts(path);
        let _tree = self.tree.lock();
        let folder = self.root.folder(inside)?;
        match folder.find(name)?.ok_or(Errno::ENOENT)? {
            Entry::Folder(lies) => folder.remove_folder(&lies)?,
            Entry::File(_) => return Err(Errno::ENOTDIR),
        }
        self.numbers.lock().remove(path);
        Ok(())
    }

    /// Has the file at `from` saved: an older version of it, or none, must not take the place of another file.
    ///
    /// Gives the tree, in which nobody changes that.
    fn saved_at(&self, from: &Path) -> Result<MutexGuard<'_, Tree>, Errno> {
        for _ in 0..SAVES_MAX {
            let mut tree = self.tree.lock();
            let unsaved = tree.at(from).map(|placed| Arc::clone(&placed.document));
            let Some(document) = unsaved.filter(|document| document.is_unsaved()) else { return Ok(tree) };
            drop(tree);
            self.save(&document).map_err(Unsaved::errno)?;
        }
        Err(Errno::EBUSY)
    }

    /// Renames a file or folder, over another one unless `is_kept`.
    pub fn rename(&self, from: &Path, to: &Path, is_kept: bool) -> Result<(), Errno> {
        let ((from_inside, from_name), (to_inside, to_name)) = (parts(from), parts(to));
        self.may_make(to_inside, to_name)?;
        let mut tree = match self.root.folder(to_inside)?.find(to_name)? {
            Some(Entry::File(_)) if from != to && !is_kept => self.saved_at(from)?,
            Some(_) | None => self.tree.lock(),
        };
        let (from_folder, to_folder) = (self.root.folder(from_inside)?, self.root.folder(to_inside)?);
        let found = from_folder.find(from_name)?.ok_or(Errno::ENOENT)?;
        let there = to_folder.find(to_name)?;
        if is_kept && there.is_some() {
            return Err(Errno::EEXIST);
        }
        if from == to {
            return Ok(());
        }
        let mut replaced = None;
        match (found, there) {
            (Entry::Folder(_), Some(Entry::File(_))) => return Err(Errno::ENOTDIR),
            (Entry::File(_), Some(Entry::Folder(_))) => return Err(Errno::EISDIR),
            (Entry::Folder(folder), there) => {
                let (old, new) = ((&from_folder, &*folder), (&to_folder, &*to_folder.folder_name(to_name)?));
                self.rename_folder(old, new, there.is_some())?;
                let mut known = self.known.lock();
                let moved: Vec<_> = known.extract_if(|path, _| path.starts_with(from)).collect();
                known.extend(moved.into_iter().map(|(path, stamp)| (moved_to(&path, from, to), stamp)));
            }
            (Entry::File(sealed), there) => {
                let suffix = Path::new(&sealed).extension().and_then(OsStr::to_str).unwrap_or(SUFFIX);
                let target = to_folder.sealed_name(to_name, suffix)?;
                let mut over = None;
                if let Some(Entry::File(other)) = there {
                    if other != target || !self.is_written(&to_folder.open(&other)?) {
                        say(to, &format!("{READ_ONLY}, and replaced; remove it first"));
                        return Err(Errno::EPERM);
                    }
                    if tree.at(from).is_some_and(|placed| placed.document.is_unsaved()) {
                        // It came since it was looked whether something is there.
                        return Err(Errno::EBUSY);
                    }
                    over = self.keep_unknown(&to_folder, to, &other)?;
                    replaced = tree.at(to).map(|placed| Arc::clone(&placed.document));
                }
                let before = from_folder.stamp(&sealed)?;
                let (old, new) = (from_folder.path().join(&sealed), to_folder.path().join(&target));
                match over {
                    Some(known) => {
                        self.rename_over((&from_folder, &sealed), (&to_folder, &new), to, &known)?
                    }
                    None => rename_new(&old, &new)?,
                }
                let known = self.known.lock().remove(from);
                // It is of who renamed it, unless another version had come there.
                let known = known.or(before);
                if let Some(known) = known {
                    remember(&mut self.known.lock(), to.to_owned(), known);
                }
                self.restamp(tree.at(from), to, before.zip(to_folder.stamp(&target)?));
            }
        }
        tree.rename(from, to);
        self.numbers.lock().rename(from, to);
        drop(tree);
        if let Some(document) = replaced {
            self.settle(&document);
        }
        Ok(())
    }

    /// Renames a folder to what nothing has, or an empty folder.
    ///
    /// If names are encrypted it must be empty: all those in it would be others. Who moves it copies it then, as to another filesystem.
    fn rename_folder(
        &self,
        (from_folder, from): (&ShownFolder<'_>, &OsStr),
        (to_folder, to): (&ShownFolder<'_>, &OsStr),
        is_over: bool,
    ) -> Result<(), Errno> {
        let (old, new) = (from_folder.path().join(from), to_folder.path().join(to));
        if !self.root.is_encrypted() {
            let renamed = if is_over { fs::rename(old, new) } else { rename_new(&old, &new) };
            return Ok(renamed?);
        }
        let is_full = |error: &io::Error| error.kind() == io::ErrorKind::DirectoryNotEmpty;
        let removed = from_folder.remove_folder(from);
        removed.map_err(|error| if is_full(&error) { Errno::EXDEV } else { error.into() })?;
        let cleared = if is_over { to_folder.remove_folder(to) } else { Ok(()) };
        let made = cleared.and_then(|()| to_folder.make(to));
        // What could not be moved is there again.
        Ok(made.or_else(|error| from_folder.make(from).and(Err(error)))?)
    }

    /// The stamp of the file that is at `path` now was changed here, from one to another: who knew it by the one knows it by the
    /// other.
    fn restamp(&self, placed: Option<&mut Placed>, path: &Path, changed: Option<(Stamp, Stamp)>) {
        let Some((before, after)) = changed.filter(|(before, after)| after.is_file_of(before)) else {
            return;
        };
        if let Some(known) = self.known.lock().get_mut(path).filter(|known| known.has_content_of(&before)) {
            *known = after;
        }
        if let Some(placed) = placed {
            let base = placed.document.base();
            let mut stamp = base.stamp.lock();
            if stamp.has_content_of(&before) {
                *stamp = stamp.after(&before, &after);
            }
        }
    }

    /// Moves aside what is about to be replaced, if it is another version than the one that was opened or saved here last: a
    /// program that writes its file anew and renames it over the old one means that one. Gives what lies there then.
    fn keep_unknown(
        &self,
        folder: &ShownFolder<'_>,
        path: &Path,
        sealed: &OsStr,
    ) -> Result<Option<Stamp>, Errno> {
        let known = self.known.lock().get(path).copied();
        let found = folder.stamp(sealed)?;
        if let (Some(known), Some(found)) = (known, found)
            && !found.has_content_of(&known)
        {
            self.move_aside(folder, sealed, folder, path)?;
            return Ok(None);
        }
        Ok(found)
    }

    /// Renames a file over another one that was `known` to lie there; what came there since is moved aside.
    fn rename_over(
        &self,
        (folder, sealed): (&Folder, &OsStr),
        (to_folder, target): (&ShownFolder<'_>, &Path),
        to: &Path,
        known: &Stamp,
    ) -> Result<(), Errno> {
        let from = folder.path().join(sealed);
        match swap(&from, target) {
            Ok(Exchanged::Done) => {}
            // Nobody knows what lies where: both stay.
            Ok(Exchanged::Kept | Exchanged::Unclear) => return Err(Errno::EIO),
            // It was removed in between.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(rename_new(&from, target)?),
            // What a filesystem without the exchange of names has: the look that was just taken.
            Err(error) if cannot(&error) => return Ok(fs::rename(from, target)?),
            Err(error) => return Err(error.into()),
        }
        // It is renamed; what can not be put away now stays under the name before.
        let put_away = match folder.stamp(sealed) {
            Ok(Some(out)) if !out.has_content_of(known) => self.move_aside(folder, sealed, to_folder, to),
            Ok(_) => folder.remove(sealed).map_err(Errno::from),
            Err(error) => Err(error.into()),
        };
        if put_away.is_err() {
            say(to, "what lay there before is under the name that this one had");
        }
        Ok(())
    }

    /// Keeps what lies in a folder, another version of the file at `path`, beside that.
    fn move_aside(
        &self,
        from: &Folder,
        sealed: &OsStr,
        folder: &ShownFolder<'_>,
        path: &Path,
    ) -> Result<(), Errno> {
        let (inside, name) = parts(path);
        let kept = Target { folder, name, device: &self.device }.move_aside(from, sealed)?;
        say(path, &format!("another version came meanwhile; it is {}", inside.join(kept).display()));
        Ok(())
    }

    /// Sets when a file or folder was modified.
    pub fn set_modified(&self, path: &Path, modified: SystemTime) -> Result<(), Errno> {
        self.may_change()?;
        let mut tree = self.tree.lock();
        let placed = tree.at(path);
        if let Some(placed) = &placed
            && let Some(shown) = placed.document.shown.lock().as_mut()
        {
            shown.modified = modified;
            if shown.is_unsaved {
                return Ok(());
            }
        }
        let (inside, name) = parts(path);
        let folder = self.root.folder(inside)?;
        let folder_at = |path: &Path| self.root.folder(path).and_then(|folder| File::open(folder.path()));
        if name.is_empty() {
            return Ok(folder_at(path)?.set_modified(modified)?);
        }
        match folder.find(name)?.ok_or(Errno::ENOENT)? {
            Entry::Folder(_) => folder_at(path)?.set_modified(modified)?,
            Entry::File(sealed) => {
                let before = folder.stamp(&sealed)?;
                folder.open(&sealed)?.set_modified(modified)?;
                self.restamp(placed, path, before.zip(folder.stamp(&sealed)?));
            }
        }
        Ok(())
    }

    /// Waits until the names in a folder are on the disk.
    pub fn synchronise_folder(&self, path: &Path) -> Result<(), Errno> {
        Ok(self.root.folder(path)?.synchronise()?)
    }
}
