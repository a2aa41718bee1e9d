//! A folder of a pair: what lies in it. No link is followed, and no other filesystem entered.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use keyhearth_crypto::digest::Sha256;
use keyhearth_files::Error;
use keyhearth_files::manifest::{Content, FOLDER, InsidePath, observe};
use keyhearth_files::names::{self, NameKey};
use serde::{Deserialize, Serialize};

use super::super::failure::Failure;
use super::super::file::failure;
use super::super::file::many::each;
use super::super::file::place::beneath::Root;
use super::super::file::place::{NAME_BYTES_MAX, Place, Stamp, is_part};

/// Bytes that are read at once.
const READ_BYTES: usize = 1 << 20;

/// One side of a path, as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Half {
    /// Of the plaintext, by the pair's secret; or of the sealed payload.
    pub hash: String,
    /// By which the file is known without reading it, once every later change will show.
    pub stamp: Option<Stamp>,
}

/// What lies at a path now.
pub struct Lies {
    pub stamp: Stamp,
    pub hash: String,
    /// Whether every change since then shows in the stamp.
    is_settled: bool,
}

impl Lies {
    /// Whether every later change shows.
    pub fn is_settled(&self) -> bool {
        self.is_settled
    }

    pub fn half(&self) -> Half {
        Half { hash: self.hash.clone(), stamp: Some(self.stamp).filter(|_| self.is_settled) }
    }
}

/// Whether nothing can lie below: there is no such folder, or a file in its place.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// How the files of a folder are hashed.
pub enum Hashing<'s> {
    /// The whole content, by this secret: what is remembered tells nothing of it to who has not the plain folder, too.
    Plain(&'s [u8; 32]),
    /// The payload, as in manifests.
    Sealed,
}

impl Hashing<'_> {
    /// The hash of a file, and what a manifest has of it.
    pub fn of(&self, file: &File) -> Result<(String, Option<Content>), Failure> {
        match self {
            Self::Plain(secret) => Ok((hash_of(file, secret)?, None)),
            Self::Sealed => {
                let mut start = file;
                start.seek(SeekFrom::Start(0))?;
                let content = observe(file, true).map_err(failure)?.and_then(|observed| observed.content());
                let content = content.ok_or_else(|| failure(Error::Malformed("it does not begin as one")))?;
                Ok((content.hash.to_string(), Some(content)))
            }
        }
    }
}

fn hash_of(mut file: &File, secret: &[u8; 32]) -> Result<String, Failure> {
    file.seek(SeekFrom::Start(0))?;
    let (mut hash, mut buffer) = (Sha256::default(), zeroize::Zeroizing::new(vec![0; READ_BYTES]));
    hash.update(secret);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => hash.update(&buffer[..len]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(hash.finish().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// One of the two folders.
pub struct Tree {
    /// Where it lies, without links.
    pub path: PathBuf,
    root: Root,
    /// What names have at their end besides the path.
    suffix: &'static str,
    names: Option<NameKey>,
}

/// What lies in a folder.
#[derive(Default)]
pub struct Seen {
    pub files: BTreeMap<InsidePath, Lies>,
    /// Paths at and below which nobody knows what lies there: nothing is done there.
    hidden: BTreeSet<String>,
    /// What can not be kept in step, and why.
    pub refused: Vec<(PathBuf, Failure)>,
    /// Whether there is a file that could not be read or named: it may be any that is missing elsewhere.
    pub has_unknown: bool,
    /// Files on their way from or to a name, which a crash left.
    pub parts: Vec<PathBuf>,
}

impl Seen {
    /// Whether it is not known what lies there.
    pub fn is_hidden(&self, path: &str) -> bool {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        ends.map(|end| &path[..end]).any(|above| self.hidden.contains(above))
    }
}

impl Tree {
    /// The folder at `path`, whose files have this `suffix` besides the names that both folders have in common, which are
    /// encrypted if there is a key for that.
    pub fn new(path: &Path, suffix: &'static str, names: Option<NameKey>) -> Result<Self, Failure> {
        let at = |error: io::Error| Failure::at(path.display(), &error);
        let canonical = path.canonicalize().map_err(at)?;
        let root = Root::open(&canonical).map_err(at)?;
        Ok(Self { path: canonical, root, suffix, names })
    }

    /// The longest name that a file may have so that this folder can hold it, in bytes.
    pub fn name_bytes_max(&self) -> usize {
        if self.names.is_some() { names::NAME_BYTES_MAX } else { NAME_BYTES_MAX - self.suffix.len() }
    }

    /// The path inside the folder of a file.
    pub fn inside(&self, path: &str) -> Result<PathBuf, Failure> {
        let mut inside = self.folder(path)?.into_os_string();
        inside.push(self.suffix);
        Ok(inside.into())
    }

    /// The path inside the folder of a folder.
    fn folder(&self, path: &str) -> Result<PathBuf, Failure> {
        match &self.names {
            Some(names) => Ok(names.encrypt(path).map_err(failure)?.into()),
            None => Ok(path.into()),
        }
    }

    /// The path that both folders have in common, without `suffix`.
    fn common(&self, inside: &Path, suffix: &str) -> Option<String> {
        let text = inside.to_str()?.strip_suffix(suffix)?;
        match &self.names {
            Some(names) => names.decrypt(text).ok(),
            None => Some(text.to_owned()),
        }
    }

    /// Where a path lies; the folders above it must be there.
    pub fn find(&self, path: &str) -> Result<Place, Failure> {
        Place::find(&self.root, &self.inside(path)?)
    }

    /// Where a path lies, with the folders above it, which are made.
    pub fn make(&self, path: &str) -> Result<Place, Failure> {
        Place::make(&self.root, &self.inside(path)?)
    }

    /// Where something else lies in the folder; `None` if the folders above it are missing.
    pub fn find_at(&self, inside: &Path) -> Result<Option<Place>, Failure> {
        match self.root.folder(inside.parent().unwrap_or(Path::new(""))) {
            Err(error) if is_absent(&error) => Ok(None),
            _ => Place::find(&self.root, inside).map(Some),
        }
    }

    /// The same, with the folders above it, which are made.
    pub fn make_at(&self, inside: &Path) -> Result<Place, Failure> {
        Place::make(&self.root, inside)
    }

    /// Removes the folders above `path` that are empty and that `other` does not have.
    pub fn prune(&self, path: &str, other: &Self) {
        for (at, _) in path.rmatch_indices('/') {
            let above = &path[..at];
            let is_there = other.folder(above).is_ok_and(|inside| other.root.folder(&inside).is_ok());
            let remove = |inside: PathBuf| Ok(Place::find(&self.root, &inside)?.remove_folder()?);
            if is_there || self.folder(above).and_then(remove).is_err() {
                break;
            }
        }
    }

    /// Looks at everything; what is `known` by its stamp is not read.
    pub fn look<'k>(
        &self,
        hashing: &Hashing<'_>,
        known: impl Fn(&str) -> [Option<&'k Half>; 2] + Sync,
        threads: usize,
    ) -> Seen {
        let mut seen = Seen::default();
        let (mut folders, mut files) = (vec![PathBuf::new()], Vec::new());
        while let Some(inside) = folders.pop() {
            if let Err(error) = self.list(&inside, &mut folders, &mut files, &mut seen) {
                let refusal = Failure::at(self.path.join(&inside).display(), &error);
                self.refuse(&mut seen, inside, true, refusal);
            }
        }
        let looked = each(threads, files, |inside| {
            let path = self.common(&inside, self.suffix).and_then(|path| InsidePath::new(&path));
            let Some(path) = path else {
                let what = match &self.names {
                    Some(_) => "its path is not encrypted as the names of this folder are",
                    None => "its path is no UTF-8, has control characters or is too long",
                };
                return (inside, Err((true, Failure::of("bad_name", what, "", "rename it"))));
            };
            let known = known(path.as_str());
            let lies = self.lies(hashing, &inside, known).map(|lies| (path, lies));
            // What has its own name still is not what is missing elsewhere.
            let lies = lies.map_err(|refusal| (!self.is_same(&inside, known), refusal));
            (inside, lies)
        });
        for (inside, looked) in looked {
            match looked {
                Ok((path, Some(lies))) => drop(seen.files.insert(path, lies)),
                // It is gone since the folder was listed.
                Ok((_, None)) => {}
                Err((is_unknown, refusal)) => self.refuse(&mut seen, inside, is_unknown, refusal),
            }
        }
        seen
    }

    fn refuse(&self, seen: &mut Seen, inside: PathBuf, is_unknown: bool, refusal: Failure) {
        // As a file, and as the folder of others.
        seen.hidden.extend([self.suffix, ""].into_iter().filter_map(|suffix| self.common(&inside, suffix)));
        seen.has_unknown |= is_unknown;
        seen.refused.push((inside, refusal));
    }

    fn is_same(&self, inside: &Path, known: [Option<&Half>; 2]) -> bool {
        let now = Place::find(&self.root, inside).and_then(|place| place.stamp()).ok().flatten();
        let mut stamps = known.into_iter().flatten().filter_map(|half| half.stamp);
        stamps.any(|stamp| now.is_some_and(|now| now.is_file_of(&stamp)))
    }

    fn list(
        &self,
        inside: &Path,
        folders: &mut Vec<PathBuf>,
        files: &mut Vec<PathBuf>,
        seen: &mut Seen,
    ) -> io::Result<()> {
        let folder = self.root.folder(inside)?;
        for entry in fs::read_dir(folder.path())? {
            let entry = entry?;
            let (name, kind) = (entry.file_name(), entry.file_type()?);
            let path = inside.join(&name);
            let is_ours = name.to_str().is_some_and(is_part);
            if kind.is_dir() {
                folders.extend((name != FOLDER).then_some(path));
            } else if kind.is_file() && is_ours {
                seen.parts.push(path);
            } else if !name.as_encoded_bytes().ends_with(self.suffix.as_bytes()) {
                // Not one of those that are kept in step; but a link may stand for a folder.
                if !kind.is_file() {
                    seen.hidden.extend(self.common(&path, ""));
                }
            } else if kind.is_file() {
                files.push(path);
            } else {
                let what = if kind.is_symlink() { "a symbolic link" } else { "a device, a socket or a pipe" };
                let refusal =
                    Failure::of("not_a_file", &format!("it is {what}"), "", "it is not kept in step");
                self.refuse(seen, path, false, refusal);
            }
        }
        Ok(())
    }

    fn lies(
        &self,
        hashing: &Hashing<'_>,
        inside: &Path,
        known: [Option<&Half>; 2],
    ) -> Result<Option<Lies>, Failure> {
        let Some(file) = Place::find(&self.root, inside)?.open()? else { return Ok(None) };
        let stamp = Stamp::of(&file.metadata()?);
        let is_settled = stamp.is_settled();
        if let Some(half) = known.into_iter().flatten().find(|half| half.stamp == Some(stamp)) {
            return Ok(Some(Lies { stamp, hash: half.hash.clone(), is_settled: true }));
        }
        let (hash, _) = hashing.of(&file)?;
        if Stamp::of(&file.metadata()?) != stamp {
            return Err(failure(Error::Changed));
        }
        Ok(Some(Lies { stamp, hash, is_settled }))
    }
}
