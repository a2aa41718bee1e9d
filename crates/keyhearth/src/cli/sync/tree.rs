//! A folder of a pair: what lies in it. No link is followed, and no other filesystem entered.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keyhearth_crypto::digest::Sha256;
use keyhearth_files::Error;
use keyhearth_files::manifest::{Content, FOLDER, InsidePath, observe};
use serde::{Deserialize, Serialize};

use super::super::failure::Failure;
use super::super::file::failure;
use super::super::file::many::each;
use super::super::file::mount::beneath::Root;
use super::place::{PART, Place};

/// Bytes that are read at once.
const READ_BYTES: usize = 1 << 20;
/// A file that was changed so shortly before it was looked at may be changed again without showing it: as long as the coarsest
/// times that filesystems keep, and more.
const TICK: Duration = Duration::from_secs(3);

/// By what a file is known without reading it: device, number, length, and when it was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    lies: [u64; 3],
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub fn of(of: &Metadata) -> Self {
        Self {
            lies: [of.dev(), of.ino(), of.len()],
            modified: (of.mtime(), of.mtime_nsec()),
            changed: (of.ctime(), of.ctime_nsec()),
        }
    }

    /// Whether it is the same file with the same content. That it got another name shows in the other time.
    pub fn is_same_file(&self, other: &Self) -> bool {
        (self.lies, self.modified) == (other.lies, other.modified)
    }

    /// The length of the file.
    pub fn bytes(&self) -> u64 {
        self.lies[2]
    }

    /// Whether every later change will show.
    fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let changed = u64::try_from(self.changed.0).map(Duration::from_secs);
        changed.is_ok_and(|changed| now > changed + TICK)
    }
}

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
    /// What a manifest has of it, if it is a sealed file that was read.
    pub content: Option<Content>,
}

impl Lies {
    pub fn half(&self) -> Half {
        Half { hash: self.hash.clone(), stamp: Some(self.stamp).filter(|_| self.is_settled) }
    }
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

    fn refuse(&mut self, inside: PathBuf, suffix: &str, is_unknown: bool, refusal: Failure) {
        let text = inside.to_string_lossy();
        self.hidden.extend(text.strip_suffix(suffix).map(str::to_owned));
        self.hidden.insert(text.into_owned());
        self.has_unknown |= is_unknown;
        self.refused.push((inside, refusal));
    }
}

impl Tree {
    /// The folder at `path`, whose files have this `suffix` besides the names that both folders have in common.
    pub fn new(path: &Path, suffix: &'static str) -> Result<Self, Failure> {
        let at = |error: io::Error| Failure::at(path.display(), &error);
        let canonical = path.canonicalize().map_err(at)?;
        let root = Root::open(&canonical).map_err(at)?;
        Ok(Self { path: canonical, root, suffix })
    }

    /// The path inside the folder.
    pub fn inside(&self, path: &str) -> PathBuf {
        format!("{path}{}", self.suffix).into()
    }

    /// Where a path lies; the folders above it must be there.
    pub fn find(&self, path: &str) -> Result<Place, Failure> {
        Place::find(&self.root, &self.inside(path))
    }

    /// Where a path lies, with the folders above it, which are made.
    pub fn make(&self, path: &str) -> Result<Place, Failure> {
        Place::make(&self.root, &self.inside(path))
    }

    /// Where something else lies in the folder; `None` if the folders above it are missing.
    pub fn find_at(&self, inside: &Path) -> Result<Option<Place>, Failure> {
        match self.root.folder(inside.parent().unwrap_or(Path::new(""))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            _ => Place::find(&self.root, inside).map(Some),
        }
    }

    /// The same, with the folders above it, which are made.
    pub fn make_at(&self, inside: &Path) -> Result<Place, Failure> {
        Place::make(&self.root, inside)
    }

    /// Removes the folders above `path` that are empty and that `other` does not have.
    pub fn prune(&self, path: &str, other: &Self) {
        for inside in Path::new(path).ancestors().skip(1).take_while(|inside| !inside.as_os_str().is_empty())
        {
            let is_left =
                || Place::find(&self.root, inside).and_then(|place| Ok(place.remove_folder()?)).is_err();
            if other.root.folder(inside).is_ok() || is_left() {
                break;
            }
        }
    }

    /// Looks at everything; what is `known` by its stamp is not read.
    pub fn look<'k>(
        &self,
        hashing: &Hashing<'_>,
        known: impl Fn(&str) -> Option<&'k Half> + Sync,
        threads: usize,
    ) -> Seen {
        let mut seen = Seen::default();
        let (mut folders, mut files) = (vec![PathBuf::new()], Vec::new());
        while let Some(inside) = folders.pop() {
            if let Err(error) = self.list(&inside, &mut folders, &mut files, &mut seen) {
                let refusal = Failure::at(self.path.join(&inside).display(), &error);
                seen.refuse(inside, self.suffix, true, refusal);
            }
        }
        let looked = each(threads, files, |inside| {
            let text = inside.to_str().and_then(|text| InsidePath::new(text.strip_suffix(self.suffix)?));
            let lies = text.map(|path| Ok((self.lies(hashing, &inside, known(path.as_str()))?, path)));
            let no_name = || {
                let what = "its path is no UTF-8, has control characters or is too long";
                Err(Failure::of("bad_name", what, "", "rename it"))
            };
            (inside, lies.unwrap_or_else(no_name))
        });
        for (inside, looked) in looked {
            match looked {
                Ok((Some(lies), path)) => drop(seen.files.insert(path, lies)),
                // It is gone since the folder was listed.
                Ok((None, _)) => {}
                Err(refusal) => seen.refuse(inside, self.suffix, true, refusal),
            }
        }
        seen
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
            let is_ours = name.to_str().is_some_and(|name| PART.is_one(name));
            if kind.is_dir() {
                folders.extend((name != FOLDER).then_some(path));
            } else if kind.is_file() && is_ours {
                seen.parts.push(path);
            } else if !name.as_encoded_bytes().ends_with(self.suffix.as_bytes()) {
                // Not one of those that are kept in step; but a link may stand for a folder.
                if !kind.is_file() {
                    seen.hidden.extend(path.to_str().map(str::to_owned));
                }
            } else if kind.is_file() {
                files.push(path);
            } else {
                let what = if kind.is_symlink() { "a symbolic link" } else { "a device, a socket or a pipe" };
                let refusal =
                    Failure::of("not_a_file", &format!("it is {what}"), "", "it is not kept in step");
                seen.refuse(path, self.suffix, false, refusal);
            }
        }
        Ok(())
    }

    fn lies(
        &self,
        hashing: &Hashing<'_>,
        inside: &Path,
        known: Option<&Half>,
    ) -> Result<Option<Lies>, Failure> {
        let Some(file) = Place::find(&self.root, inside)?.open()? else { return Ok(None) };
        let stamp = Stamp::of(&file.metadata()?);
        let is_settled = stamp.is_settled();
        if let Some(half) = known.filter(|half| half.stamp == Some(stamp)) {
            return Ok(Some(Lies { stamp, hash: half.hash.clone(), is_settled: true, content: None }));
        }
        let (hash, content) = hashing.of(&file)?;
        if Stamp::of(&file.metadata()?) != stamp {
            return Err(failure(Error::Changed));
        }
        Ok(Some(Lies { stamp, hash, is_settled, content }))
    }
}
