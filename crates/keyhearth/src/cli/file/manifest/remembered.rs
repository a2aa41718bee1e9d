//! What this machine remembers of folders: the newest manifest it saw of each, and whom it believes.
//!
//! It lies in the user's state folder, so that whoever can write to the folder itself can not change it. A folder here is
//! one process's at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use keyhearth_files::Output;
use keyhearth_files::manifest::{FolderId, MANIFEST_BYTES_MAX, Manifest};
use keyhearth_sys::lock::DirLock;
use serde::{Deserialize, Serialize};

use super::super::super::failure::Failure;
use super::super::super::made;
use super::super::failure;

/// Where the state of programs of this user lies: the XDG Base Directory Specification.
const STATE_HOME: &str = "XDG_STATE_HOME";
const ABOUT: &str = "about.json";
const MANIFEST: &str = "manifest";
/// The longest file about a folder, in bytes.
const ABOUT_BYTES_MAX: usize = 1 << 20;

/// Whom this machine believes about a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// The tenant of the keys.
    pub tenant: String,
    /// The ids of keys that may sign, one but while another takes its place, and the public half of each version that was
    /// met: DER in base64.
    pub keys: BTreeMap<String, BTreeMap<u32, String>>,
    /// Where the folder lies, or lay.
    pub places: BTreeSet<String>,
}

/// What is remembered of one folder, and nobody else's until this is dropped.
pub struct Remembered {
    folder: PathBuf,
    /// Whom to believe; `None` if the folder was never seen.
    pub about: Option<About>,
    /// The newest manifest that was seen.
    pub manifest: Option<Manifest>,
    _lock: DirLock,
}

/// The state folder of this program.
pub fn state() -> Result<PathBuf, Failure> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || absolute("HOME").map(|home| home.join(".local/state"));
    let state = absolute(STATE_HOME).or_else(home);
    let state = state.ok_or_else(|| {
        Failure::new("there is no place to remember folders in", "set XDG_STATE_HOME or HOME to a folder")
    })?;
    Ok(state.join("keyhearth"))
}

fn folders() -> Result<PathBuf, Failure> {
    Ok(state()?.join("folders"))
}

/// The folder that was seen at this place last.
pub fn at_place(place: &Path) -> Result<Option<FolderId>, Failure> {
    Ok(places()?.get(&*place.to_string_lossy()).copied())
}

/// The folders that were seen, by their places.
pub fn places() -> Result<BTreeMap<String, FolderId>, Failure> {
    let folders = folders()?;
    let entries = match fs::read_dir(&folders) {
        Ok(entries) => entries.collect::<Result<Vec<_>, _>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(Failure::at(folders.display(), &error)),
    };
    let mut places = BTreeMap::new();
    for entry in entries {
        let Some(id) = entry.file_name().to_str().and_then(FolderId::read) else { continue };
        let about = about(&entry.path())?.unwrap_or_default();
        places.extend(about.places.into_iter().map(|place| (place, id)));
    }
    Ok(places)
}

fn about(folder: &Path) -> Result<Option<About>, Failure> {
    let path = folder.join(ABOUT);
    if !path.try_exists()? {
        return Ok(None);
    }
    let about = serde_json::from_slice(&read(&path, ABOUT_BYTES_MAX)?);
    about.map(Some).map_err(|error| {
        let next = "remove its folder, and look at the sealed folder as if for the first time";
        Failure::new(format_args!("{}: {error}", path.display()), next)
    })
}

impl Remembered {
    /// What is remembered of a folder.
    ///
    /// # Errors
    /// [`Failure`] if another process works on it.
    pub fn of(id: FolderId) -> Result<Self, Failure> {
        let folder = folders()?.join(id.to_string());
        made::folder(&folder)?;
        let lock = DirLock::acquire(&folder).map_err(|error| {
            Failure::of("busy", &error.to_string(), "", "try again once the other command is done")
        })?;
        let path = folder.join(MANIFEST);
        let manifest = if path.try_exists()? {
            let text = read(&path, MANIFEST_BYTES_MAX)?;
            let read = Manifest::read(&text);
            Some(
                read.map_err(|error| Failure::new(format_args!("{}: {error}", path.display()), "remove it"))?,
            )
        } else {
            None
        };
        Ok(Self { about: about(&folder)?, manifest, folder, _lock: lock })
    }

    /// Remembers this from now on.
    pub fn put(&mut self, about: About, manifest: Manifest) -> Result<(), Failure> {
        if self.about.as_ref() != Some(&about) {
            let text =
                serde_json::to_vec_pretty(&about).map_err(|error| Failure::new(error, "report this"))?;
            write(&self.folder.join(ABOUT), &text)?;
            self.about = Some(about);
        }
        if self.manifest.as_ref() != Some(&manifest) {
            write(&self.folder.join(MANIFEST), manifest.to_text().as_bytes())?;
            self.manifest = Some(manifest);
        }
        Ok(())
    }
}

/// Reads a file that holds no secrets; more than `limit` bytes are an error.
pub fn read(path: &Path, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(limit as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|error| Failure::at(path.display(), &error))?;
    if bytes.len() > limit {
        let what = format!("{} has more than {limit} bytes", path.display());
        return Err(Failure::of("too_large", &what, "", "look who wrote it"));
    }
    Ok(bytes)
}

/// Puts a file in place of what is there; it is durable then.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let output = Output::create(path).map_err(failure)?;
    let mut file: &File = output.file();
    file.write_all(bytes).map_err(|error| Failure::at(path.display(), &error))?;
    output.replace().map_err(failure)
}
