//! The manifest of a folder: read, proved, joined with what was seen, signed.
//!
//! What a manifest is: [`keyhearth_files::manifest`]. All files in `.keyhearth` are manifests, whatever a sync service
//! named them; what is signed next takes the place of those that were joined in it.

mod files;
pub mod lying;
pub mod remembered;
mod trust;

use std::cell::LazyCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, thread};

use clap::Args;
use keyhearth_files::manifest::{
    Content, DEVICE_BYTES_MAX, Device, FOLDER, FolderId, InsidePath, Manifest, Record, Signed, Statement,
};

use super::super::failure::Failure;
use super::{failure, keys};
pub use files::PAIR;
use files::{Files, NAME};
pub use lying::{Lying, Wrong};
use remembered::{About, Remembered};
pub use trust::Trust;

/// Where Linux has the machine's name.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// How long another command is waited for that is at a folder, and how often it is looked whether it is done.
const BUSY_MAX: Duration = Duration::from_secs(30);
const BUSY_LOOK: Duration = Duration::from_millis(200);

/// Does something with what is remembered of a folder, once no other command is at it.
///
/// # Errors
/// As that; `busy` if the other one goes on.
pub fn once_free<T>(mut act: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    let end = Instant::now() + BUSY_MAX;
    loop {
        match act() {
            Err(refusal) if refusal.code() == Some("busy") && Instant::now() < end => {
                thread::sleep(BUSY_LOOK)
            }
            done => return done,
        }
    }
}

fn has_manifest(folder: &Path) -> bool {
    folder.join(FOLDER).join(NAME).is_file()
}

/// By what name this machine is known to people.
#[derive(Args)]
pub struct DeviceName {
    /// What to call this machine where people see who did something; its host name if absent
    #[arg(long, value_name = "NAME", value_parser = device)]
    device: Option<Device>,
}

fn device(text: &str) -> Result<Device, &'static str> {
    Device::new(text).ok_or("must have 1 to 64 characters of visible ASCII, without spaces")
}

impl DeviceName {
    /// The name that was given, or the host's.
    pub fn device(&self) -> Device {
        let host = || {
            let name = fs::read_to_string(HOST_NAME).unwrap_or_default();
            let visible = name.trim().chars().map(|c| if c.is_ascii_graphic() { c } else { '-' });
            Device::new(&visible.take(DEVICE_BYTES_MAX).collect::<String>())
        };
        self.device.clone().or_else(host).or_else(|| Device::new("unnamed")).expect("the last is a name")
    }
}

/// What was done at a path.
pub struct Word {
    pub path: InsidePath,
    /// The hashes of what it was put in place of; `None` is nothing.
    pub seen: BTreeSet<Option<String>>,
    pub content: Option<Content>,
}

/// A folder and everything that is known of it.
pub struct Folder<'t> {
    /// Where it lies, without links.
    pub root: PathBuf,
    files: Files,
    trust: &'t Trust<'t>,
    remembered: Remembered,
    about: About,
    /// What the manifests in the folder say, and what was remembered.
    pub manifest: Manifest,
    /// What the manifests in the folder say; `None` if there is none.
    pub present: Option<Manifest>,
    /// The manifests that were joined, who signed them, and the signatures.
    joined: Vec<(PathBuf, Statement, Vec<u8>)>,
    /// Those that were not, and why.
    pub refused: Vec<(PathBuf, Failure)>,
}

impl<'t> Folder<'t> {
    /// Reads what is known of the folder at `root`.
    ///
    /// # Errors
    /// [`Failure`] if there is no manifest and never was, unless it is to be `made`.
    pub fn open(root: &Path, trust: &'t Trust<'t>, made: bool) -> Result<Self, Failure> {
        let root = root.canonicalize().map_err(|error| Failure::at(root.display(), &error))?;
        let files = Files::of(&root)?;
        let (read, mut refused) = files.read()?;
        let id = match (remembered::at_place(&root)?, read.first()) {
            (Some(id), _) => id,
            (None, Some((_, signed))) => signed.manifest.folder,
            (None, None) if made && refused.is_empty() => FolderId::random().map_err(failure)?,
            (None, None) if !refused.is_empty() => return Err(refused.swap_remove(0).1),
            (None, None) => {
                let what = format!("{} has no manifest", root.display());
                let next = "make one: `keyhearth file manifest FOLDER --sign-key KEY`";
                return Err(Failure::of("no_manifest", &what, "", next));
            }
        };
        let remembered = Remembered::of(id)?;
        let mut about = remembered.about.clone().unwrap_or_default();
        trust.name_key(&mut about)?;
        let (mut present, mut joined): (Option<Manifest>, _) = (None, Vec::new());
        for (path, signed) in read {
            let proved = if signed.manifest.folder == id {
                trust.prove(&signed, &mut about)
            } else {
                let what = format!("it is of another folder, {}", signed.manifest.folder);
                Err(Failure::of("other_folder", &what, "", "move it away"))
            };
            match proved {
                Ok(()) => {
                    joined.push((path, signed.by, signed.signature));
                    present = Some(match present {
                        Some(present) => present.join(signed.manifest),
                        None => signed.manifest,
                    });
                }
                Err(refusal) => refused.push((path, refusal)),
            }
        }
        let manifest = [present.clone(), remembered.manifest.clone()].into_iter().flatten();
        let manifest = manifest.fold(Manifest::new(id), Manifest::join);
        Ok(Self { root, files, trust, remembered, about, manifest, present, joined, refused })
    }

    /// The folder that a manifest is of, for what lies below `folder`: the nearest one above that has one, or itself.
    pub fn root_of(folder: &Path) -> Result<PathBuf, Failure> {
        let folder = folder.canonicalize().map_err(|error| Failure::at(folder.display(), &error))?;
        Ok(folder.ancestors().find(|above| has_manifest(above)).unwrap_or(&folder).to_owned())
    }

    /// The same; also the nearest one that had a manifest when this machine saw it, though it is missing now.
    pub fn known_root_of(folder: &Path) -> Result<PathBuf, Failure> {
        let folder = folder.canonicalize().map_err(|error| Failure::at(folder.display(), &error))?;
        for above in folder.ancestors() {
            if has_manifest(above) || remembered::at_place(above)?.is_some() {
                return Ok(above.to_owned());
            }
        }
        Ok(folder)
    }

    /// Refuses to make something at `places` whose name would be the only one in clear. Whether a manifest that says so is true is not
    /// asked, and one that says nothing is not believed if this machine saw another.
    ///
    /// # Errors
    /// [`Failure`] if names are encrypted there.
    pub fn check_clear_names<'p>(places: impl IntoIterator<Item = &'p Path>) -> Result<(), Failure> {
        let places: BTreeSet<_> = places.into_iter().collect();
        let there =
            |place: &'p Path| place.ancestors().find(|above| above.is_dir()).unwrap_or(Path::new("."));
        let folders: BTreeSet<_> = places.into_iter().map(there).collect();
        let roots = folders.into_iter().map(Self::root_of).collect::<Result<BTreeSet<_>, _>>()?;
        // What can not be read says nothing.
        let seen = LazyCell::new(|| remembered::places().unwrap_or_default());
        let was_encrypted = |place: &Path| {
            let id = seen.get(&*place.to_string_lossy())?;
            Remembered::of(*id).ok()?.manifest?.names
        };
        for root in roots {
            let read = Files::of(&root).and_then(|files| files.read()).unwrap_or_default().0;
            if read.iter().any(|(_, signed)| signed.manifest.names.is_some())
                || root.ancestors().any(|above| was_encrypted(above).is_some())
            {
                let next = "let `keyhearth sync watch` seal it, or write it in a mount of that folder";
                return Err(Failure::of(
                    "encrypted_names",
                    "the names of this folder are encrypted",
                    "",
                    next,
                ));
            }
        }
        Ok(())
    }

    /// Whether this machine saw the folder before.
    pub fn is_known(&self) -> bool {
        self.remembered.about.is_some()
    }

    /// Who signs, by the ids of keys.
    pub fn signers(&self) -> impl Iterator<Item = &str> {
        self.about.keys.keys().map(String::as_str)
    }

    /// Remembers what was proved.
    pub fn remember(&mut self) -> Result<(), Failure> {
        let mut about = self.about.clone();
        self.trust.name_only_key(&mut about);
        about.places.insert(self.root.to_string_lossy().into_owned());
        self.remembered.put(about, self.manifest.clone())
    }

    /// Takes note of what lies at a path now; `None` if nothing does any more.
    pub fn record(&mut self, path: InsidePath, content: Option<Content>, device: &Device) {
        self.manifest.record(path, Record { content, when: keys::now(), device: device.clone() });
    }

    /// Refuses to speak of a folder whose manifests were all refused, and of which nothing is remembered.
    ///
    /// # Errors
    /// [`Failure`] for such a folder.
    pub fn check_proved(&self) -> Result<(), Failure> {
        let Some((path, refusal)) = self.refused.first() else { return Ok(()) };
        if self.present.is_some() || self.is_known() {
            return Ok(());
        }
        let next = match refusal.code() {
            Some("denied") => {
                "ask for the right to `public-key` of the key that signed it, or `file verify` with --public-key"
            }
            _ => "there is no other manifest to compare with: look who wrote it",
        };
        let code = refusal.code().unwrap_or("malformed");
        Err(Failure::of(code, &format!("{} was not proved: {refusal}", path.display()), "", next))
    }

    /// Refuses to sign while there is something that can not be joined: it would be lost.
    pub fn check(&self) -> Result<(), Failure> {
        let Some((path, refusal)) = self.refused.first() else { return Ok(()) };
        let what = format!("{}: {refusal}", path.display());
        let next = "take it away if it is not yours, and look at the folder with `keyhearth file verify`";
        Err(Failure::of("manifest_refused", &what, "", next))
    }

    /// Joins what a sync service brought since the folder was opened: what is signed next takes its place.
    fn join_newer(&mut self) -> Result<(), Failure> {
        let (read, refused) = self.files.read()?;
        self.refused = refused;
        let mut joined = Vec::new();
        for (path, signed) in read {
            let is_known = self.joined.iter().any(|(_, _, signature)| *signature == signed.signature);
            if signed.manifest.folder != self.manifest.folder {
                let what = format!("it is of another folder, {}", signed.manifest.folder);
                self.refused.push((path, Failure::of("other_folder", &what, "", "move it away")));
                continue;
            }
            if let Err(refusal) = self.trust.prove(&signed, &mut self.about) {
                self.refused.push((path, refusal));
                continue;
            }
            if !is_known {
                self.manifest = self.manifest.clone().join(signed.manifest);
            }
            joined.push((path, signed.by, signed.signature));
        }
        self.joined = joined;
        Ok(())
    }

    /// Whether something could be signed now, for who is about to do what has to be.
    ///
    /// # Errors
    /// [`Failure`] if not.
    pub fn may_sign(&self) -> Result<(), Failure> {
        self.check()?;
        // By the deed: what is known is signed, and that is not kept.
        self.trust.sign(self.manifest.clone(), &mut self.about.clone()).map(drop)
    }

    /// Whether the key that the user named signed one of the manifests that were joined.
    pub fn is_signed(&self) -> bool {
        self.joined.iter().any(|(_, by, _)| self.trust.is_newest(by))
    }

    /// Signs what is known now, in place of all manifests that were joined; gives whether that was needed.
    pub fn sign(&mut self) -> Result<bool, Failure> {
        self.join_newer()?;
        self.check()?;
        self.commit()
    }

    /// The same with what was done at some paths, by who had not seen everything that others did there.
    pub fn sign_over(&mut self, words: Vec<Word>, device: &Device) -> Result<bool, Failure> {
        self.join_newer()?;
        self.check()?;
        for Word { path, seen, content } in words {
            let is_seen =
                |other: Option<&Content>| seen.contains(&other.map(|content| content.hash.to_string()));
            let record = Record { content, when: keys::now(), device: device.clone() };
            self.manifest.record_over(path, is_seen, record);
        }
        self.commit()
    }

    fn commit(&mut self) -> Result<bool, Failure> {
        let is_signed = self.joined.len() == 1 && self.is_signed();
        let is_new = !is_signed || self.present.as_ref() != Some(&self.manifest);
        if is_new {
            let signed = self.trust.sign(self.manifest.clone(), &mut self.about)?;
            let text = signed.to_text();
            // Nothing is written that could not be read.
            Signed::read(text.as_bytes()).map_err(|error| {
                Failure::of("too_large", &error.to_string(), "", "split the folder, and sign each part")
            })?;
            // The commit point. After a crash here the manifests that were joined are there still, and are joined again.
            let is_joined =
                |other: &Signed| self.joined.iter().any(|(.., joined)| *joined == other.signature);
            let place = self.files.put(text.as_bytes(), is_joined)?;
            for (path, ..) in self.joined.iter().filter(|(path, ..)| *path != place) {
                self.files.remove(path, is_joined)?;
            }
            self.joined.clear();
            self.joined.push((place, signed.by, signed.signature));
            self.present = Some(signed.manifest);
        }
        self.remember()?;
        Ok(is_new)
    }
}
