//! A name in a folder that others write to, reached without following links, and how something is put there or taken away without losing what somebody else put there
//! meanwhile: names are exchanged, and what came out is looked at.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keyhearth_crypto::random;
use keyhearth_files::{Error, Output};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};

use super::super::failure::Failure;
use super::failure;
use super::mount::beneath::{Folder, Root};

/// A file that was changed so shortly before it was looked at may be changed again without showing it: as long as the coarsest
/// times that filesystems keep, and more.
const TICK: Duration = Duration::from_secs(3);

/// Whether a file of this name is on its way from or to another one: `.keyhearth-`, letters and `.part`.
pub fn is_part(name: &str) -> bool {
    name.starts_with(".keyhearth-") && name.ends_with(".part")
}

/// By what a file is known without reading it: device, number, length, and when it was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    is_folder: bool,
    lies: [u64; 3],
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub fn of(of: &Metadata) -> Self {
        Self {
            is_folder: of.is_dir(),
            lies: [of.dev(), of.ino(), of.len()],
            modified: (of.mtime(), of.mtime_nsec()),
            changed: (of.ctime(), of.ctime_nsec()),
        }
    }

    /// Whether it is the same file with the same content. That it got another name shows in the other time.
    pub fn is_same_file(&self, other: &Self) -> bool {
        (self.lies, self.modified) == (other.lies, other.modified)
    }

    /// Whether it is the same file, whatever its content.
    pub fn is_same_number(&self, other: &Self) -> bool {
        self.lies[..2] == other.lies[..2]
    }

    /// Whether it is a folder.
    pub fn is_folder(&self) -> bool {
        self.is_folder
    }

    /// The length of the file.
    pub fn bytes(&self) -> u64 {
        self.lies[2]
    }

    /// Whether every later change will show.
    pub fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let changed = u64::try_from(self.changed.0).map(Duration::from_secs);
        changed.is_ok_and(|changed| now > changed + TICK)
    }
}

/// A file that is being written; its folder is reached by a descriptor, which is kept for as long.
pub struct Unnamed {
    output: Output,
    _folder: Arc<Folder>,
}

impl Unnamed {
    pub fn file(&self) -> &File {
        self.output.file()
    }

    /// Gives it its name, which nothing may have.
    pub fn finish(self) -> Result<(), Failure> {
        self.output.finish().map_err(failure)
    }
}

/// A name in a folder that stays the same one, whatever happens to the folders above it.
pub struct Place {
    folder: Arc<Folder>,
    name: OsString,
    /// For people.
    inside: PathBuf,
}

impl Place {
    /// The place at `inside`; the folders above it must be there.
    pub fn find(root: &Root, inside: &Path) -> Result<Self, Failure> {
        let folder = root.folder(inside.parent().unwrap_or(Path::new("")));
        let folder = folder.map_err(|error| no_folder(inside, &error))?;
        let name = inside.file_name().unwrap_or_default().to_owned();
        Ok(Self { folder: Arc::new(folder), name, inside: inside.to_owned() })
    }

    /// The same, with the folders above it, which are made.
    pub fn make(root: &Root, inside: &Path) -> Result<Self, Failure> {
        let above: Vec<_> =
            inside.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()).collect();
        for folder in above.into_iter().rev() {
            match root.folder(folder) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let place = Self::find(root, folder)?;
                    match DirBuilder::new().mode(0o700).create(place.path()) {
                        // Another thread, or somebody else, made it meanwhile.
                        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                            return Err(place.told(&error));
                        }
                        Ok(()) | Err(_) => {}
                    }
                }
                Err(error) => return Err(no_folder(folder, &error)),
            }
        }
        Self::find(root, inside)
    }

    /// Another name in the same folder.
    fn beside(&self, name: OsString) -> Self {
        Self { folder: Arc::clone(&self.folder), inside: self.inside.with_file_name(&name), name }
    }

    /// A name in the same folder for what is on its way.
    pub fn part(&self) -> Result<Self, Failure> {
        Ok(self.beside(format!(".keyhearth-{}.part", drawn()?).into()))
    }

    /// The first name of these in the same folder that nothing has.
    pub fn free(&self, mut names: impl Iterator<Item = OsString>) -> Result<Self, Failure> {
        loop {
            let Some(name) = names.next() else {
                return Err(Failure::new("every name for another version is taken", "remove some of them"));
            };
            let place = self.beside(name);
            if place.stamp()?.is_none() {
                return Ok(place);
            }
        }
    }

    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// The path inside the folder of the pair.
    pub fn inside(&self) -> &Path {
        &self.inside
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(&self.name)
    }

    fn told(&self, error: &io::Error) -> Failure {
        Failure::at(self.inside.display(), error)
    }

    /// Opens the regular file; `None` if nothing is there.
    pub fn open(&self) -> Result<Option<File>, Failure> {
        match self.folder.open(&self.name) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.told(&error)),
        }
    }

    /// By what the thing there is known, whatever it is; `None` if nothing is there.
    pub fn stamp(&self) -> Result<Option<Stamp>, Failure> {
        match fs::symlink_metadata(self.path()) {
            Ok(metadata) => Ok(Some(Stamp::of(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.told(&error)),
        }
    }

    /// Begins a file that gets this name.
    pub fn output(&self) -> Result<Unnamed, Failure> {
        let output = Output::create(&self.path()).map_err(failure)?;
        Ok(Unnamed { output, _folder: Arc::clone(&self.folder) })
    }

    /// Exchanges what has this name, which is of our own making, with what has the name `other`, which was `expected` there. If
    /// something else was it stays, and what is of our own making goes.
    pub fn exchange(&self, other: &Self, expected: &Stamp) -> Result<(), Failure> {
        let ours = self.stamp()?;
        self.swap(other)?;
        let came = self.stamp()?;
        if came.is_some_and(|came| came.is_same_file(expected)) {
            return Ok(());
        }
        self.rename(other, RenameFlags::EXCHANGE)?;
        let back = self.stamp()?;
        if let (Some(ours), Some(back)) = (ours, back)
            && ours.is_same_file(&back)
        {
            self.remove()?;
            return Err(failure(Error::Changed));
        }
        let what = format!(
            "{} was replaced twice meanwhile; one version is {}",
            other.inside.display(),
            self.inside.display()
        );
        Err(Failure::of("changed", &what, "", "look at both, and keep what is right"))
    }

    /// The same, whatever was there.
    pub fn swap(&self, other: &Self) -> Result<(), Failure> {
        let ours = self.stamp()?;
        let swapped = self.rename(other, RenameFlags::EXCHANGE);
        // A failure may have come after the fact: what is not of our own making stays.
        if swapped.is_err() && self.stamp()?.zip(ours).is_some_and(|(now, ours)| now.is_same_file(&ours)) {
            self.remove()?;
        }
        swapped
    }

    /// Moves what has this name to another one in the same folder.
    pub fn move_aside(&self, stem: &str) -> Result<Self, Failure> {
        let aside = self.beside(format!("{stem} {}", drawn()?).into());
        self.rename(&aside, RenameFlags::NOREPLACE)?;
        Ok(aside)
    }

    /// Moves what has this name, and was `expected` there, to `other`, which nothing has. If something else was it is moved back.
    pub fn take(&self, other: &Self, expected: &Stamp) -> Result<(), Failure> {
        self.rename(other, RenameFlags::NOREPLACE)?;
        if other.stamp()?.is_some_and(|came| came.is_same_file(expected)) {
            return Ok(());
        }
        other.rename(self, RenameFlags::NOREPLACE).map_err(|_| {
            let what = format!(
                "{} was replaced meanwhile; one version is {}",
                self.inside.display(),
                other.inside.display()
            );
            Failure::of("changed", &what, "", "look at both, and keep what is right")
        })?;
        Err(failure(Error::Changed))
    }

    fn rename(&self, other: &Self, how: RenameFlags) -> Result<(), Failure> {
        renameat_with(CWD, self.path(), CWD, other.path(), how).map_err(|error| match error {
            rustix::io::Errno::INVAL => {
                let what = format!("{}: this filesystem can not exchange names", other.inside.display());
                Failure::of("unsupported", &what, "", "keep the folder on ext4, xfs, btrfs or tmpfs")
            }
            error => other.told(&error.into()),
        })
    }

    /// Puts a file in place of what has this name, on filesystems that can not exchange names.
    pub fn overwrite(&self, bytes: &[u8]) -> Result<(), Failure> {
        let output = Output::create(&self.path()).map_err(failure)?;
        let mut file = output.file();
        file.write_all(bytes).map_err(|error| self.told(&error))?;
        output.replace().map_err(failure)
    }

    /// Waits until the names in the folder are on the disk.
    pub fn synchronise(&self) -> Result<(), Failure> {
        let folder = File::open(self.folder.path()).and_then(|folder| folder.sync_all());
        folder.map_err(|error| self.told(&error))
    }

    /// Removes the file of this name, if it is there still.
    pub fn remove(&self) -> Result<(), Failure> {
        match fs::remove_file(self.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.told(&error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Removes the folder of this name, which must be empty.
    pub fn remove_folder(&self) -> io::Result<()> {
        fs::remove_dir(self.path())
    }
}

fn drawn() -> Result<String, Failure> {
    let mut bytes = [0; 8];
    random::fill("keyhearth/part", &mut bytes).map_err(|error| Failure::new(error, "try again"))?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}

fn no_folder(inside: &Path, error: &io::Error) -> Failure {
    let what = format!("{}: {error}", inside.display());
    Failure::of(
        "not_a_folder",
        &what,
        "",
        "links are not followed and no other filesystem is entered: move it away",
    )
}
