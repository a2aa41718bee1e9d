//! A folder of a pair: what lies in it, and places in it that lead nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use keyhearth_crypto::digest::Sha256;
use keyhearth_files::manifest::{InsidePath, observe};

use super::super::failure::Failure;
use super::super::file::failure;
use super::super::file::many::{Found, each};
use super::known::{Half, Known, Stamp};

/// What sealed files are called besides.
pub const SUFFIX: &str = ".age";
/// Bytes that are read at once.
const READ_BYTES: usize = 1 << 20;

/// What lies at a path now.
pub struct Lies {
    pub stamp: Stamp,
    pub hash: String,
}

impl Lies {
    pub fn half(&self) -> Half {
        Half { hash: self.hash.clone(), stamp: self.stamp.settled() }
    }
}

/// One of the two folders.
pub struct Tree {
    pub root: PathBuf,
    /// What names have at their end besides the path: [`SUFFIX`] or nothing.
    suffix: &'static str,
}

/// What lies in a folder.
#[derive(Default)]
pub struct Seen {
    pub files: BTreeMap<InsidePath, Lies>,
    /// Paths at and below which nobody knows what lies there: nothing is done there.
    hidden: BTreeSet<String>,
    /// Why.
    pub refused: Vec<(PathBuf, Failure)>,
}

impl Seen {
    /// Whether it is not known what lies there.
    pub fn is_hidden(&self, path: &str) -> bool {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        ends.map(|end| &path[..end]).any(|above| self.hidden.contains(above))
    }
}

impl Tree {
    pub fn plain(root: &Path) -> Result<Self, Failure> {
        Self::of(root, "")
    }

    pub fn sealed(root: &Path) -> Result<Self, Failure> {
        Self::of(root, SUFFIX)
    }

    fn of(root: &Path, suffix: &'static str) -> Result<Self, Failure> {
        let at = |error| Failure::at(root.display(), &error);
        let root = root.canonicalize().map_err(at)?;
        fs::read_dir(&root).map_err(at)?;
        Ok(Self { root, suffix })
    }

    /// Where a path lies. Nothing on the way is looked at.
    pub fn at(&self, path: &str) -> PathBuf {
        self.root.join(format!("{path}{}", self.suffix))
    }

    /// Where a path lies, with the folders above it, which are made: none of them is a link.
    pub fn place(&self, path: &str) -> Result<PathBuf, Failure> {
        let place = self.at(path);
        let inside = place.strip_prefix(&self.root).unwrap_or(&place);
        let mut folder = self.root.clone();
        for name in inside.parent().into_iter().flat_map(Path::components) {
            folder.push(name);
            let is_folder = match folder.symlink_metadata() {
                Ok(metadata) => metadata.is_dir(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    DirBuilder::new()
                        .mode(0o700)
                        .create(&folder)
                        .map_err(|error| Failure::at(folder.display(), &error))?;
                    true
                }
                Err(error) => return Err(Failure::at(folder.display(), &error)),
            };
            if !is_folder {
                let what = format!("{} is no folder", folder.display());
                return Err(Failure::of("not_a_folder", &what, "", "move it away: links are not followed"));
            }
        }
        Ok(place)
    }

    /// Refuses unless what lies at the path is what was seen.
    pub fn check(&self, path: &str, seen: Option<&Lies>) -> Result<(), Failure> {
        let place = self.at(path);
        let now = match place.symlink_metadata() {
            Ok(metadata) => Some(Stamp::of(&metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Failure::at(place.display(), &error)),
        };
        if now == seen.map(|seen| seen.stamp) {
            Ok(())
        } else {
            Err(failure(keyhearth_files::Error::Changed))
        }
    }

    /// Looks at everything; what is known by its stamp is not read.
    pub fn look(&self, known: &Known, threads: usize) -> Seen {
        let mut found = Found::walk(std::slice::from_ref(&self.root));
        let mut seen = Seen::default();
        for (path, refusal) in found.take_refused() {
            let inside = path.strip_prefix(&self.root).unwrap_or(&path).to_string_lossy();
            seen.hidden.extend([
                inside.strip_suffix(self.suffix).unwrap_or(&inside).to_owned(),
                inside.into_owned(),
            ]);
            seen.refused.push((path, refusal));
        }
        found.files.retain(|(_, inside)| !is_ours(inside));
        let looked = each(threads, found.files, |(path, inside)| {
            let text = inside.to_str().map(|text| text.strip_suffix(self.suffix).map(str::to_owned));
            let inside = match text {
                // Not one of the files that are kept in step.
                Some(None) => return None,
                Some(Some(text)) => InsidePath::new(&text),
                None => None,
            };
            let Some(inside) = inside else {
                let what = "its path is no UTF-8, has control characters or is too long";
                return Some(Err((path, None, Failure::of("bad_name", what, "", "rename it"))));
            };
            match self.lies(&path, inside.as_str(), known) {
                Ok(lies) => Some(Ok((inside, lies))),
                Err(refusal) => Some(Err((path, Some(inside), refusal))),
            }
        });
        for looked in looked.into_iter().flatten() {
            match looked {
                Ok((path, lies)) => {
                    seen.files.insert(path, lies);
                }
                Err((path, inside, refusal)) => {
                    seen.hidden.extend(inside.map(|inside| inside.as_str().to_owned()));
                    seen.refused.push((path, refusal));
                }
            }
        }
        seen
    }

    fn lies(&self, place: &Path, path: &str, known: &Known) -> Result<Lies, Failure> {
        let file = File::open(place).map_err(|error| Failure::at(place.display(), &error))?;
        let stamp = Stamp::of(&file.metadata()?);
        let half =
            known.get(path).map(|known| if self.suffix.is_empty() { &known.plain } else { &known.sealed });
        if let Some(half) = half.filter(|half| half.stamp == Some(stamp)) {
            return Ok(Lies { stamp, hash: half.hash.clone() });
        }
        let hash = if self.suffix.is_empty() { hash_of(&file)? } else { sealed_hash_of(&file)? };
        if Stamp::of(&file.metadata()?) == stamp {
            Ok(Lies { stamp, hash })
        } else {
            Err(failure(keyhearth_files::Error::Changed))
        }
    }

    /// Removes the file at `path`, and the folders above it that are empty then and that `other` has not.
    pub fn remove(&self, path: &str, other: &Tree) -> Result<(), Failure> {
        let place = self.place(path)?;
        fs::remove_file(&place).map_err(|error| Failure::at(place.display(), &error))?;
        for inside in Path::new(path).ancestors().skip(1).take_while(|inside| !inside.as_os_str().is_empty())
        {
            if other.root.join(inside).exists() || fs::remove_dir(self.root.join(inside)).is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// Files on their way to a name.
fn is_ours(inside: &Path) -> bool {
    let name = inside.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with(".keyhearth-") && name.ends_with(".part")
}

/// SHA-256 of all of a file.
pub fn hash_of(mut file: &File) -> Result<String, Failure> {
    file.seek(SeekFrom::Start(0))?;
    let (mut hash, mut buffer) = (Sha256::default(), zeroize::Zeroizing::new(vec![0; READ_BYTES]));
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

/// SHA-256 of a sealed file's payload.
pub fn sealed_hash_of(mut file: &File) -> Result<String, Failure> {
    file.seek(SeekFrom::Start(0))?;
    let observed = observe(file, true).map_err(failure)?;
    let hash = observed.and_then(|observed| observed.hash);
    hash.map(|hash| hash.to_string())
        .ok_or_else(|| failure(keyhearth_files::Error::Malformed("it does not begin as one")))
}
