//! A name in a folder that others write to, and how something is put there or taken away, in words for people.
//!
//! [`beneath`] is the folder; [`exchange`] is how something takes a place there without losing what somebody else put there, and
//! [`copies`] what the other version is called. Used by `mount`, by manifests and by `sync`.

pub mod beneath;
pub mod copies;
pub mod exchange;
mod stamp;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keyhearth_crypto::random;
use keyhearth_files::{Error, Output};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::super::failure::Failure;
use super::failure;
use beneath::{Folder, Root};
use exchange::Exchanged;
pub use stamp::Stamp;

/// The longest name of a file, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// Whether a file of this name is on its way from or to another one: `.keyhearth-`, letters and `.part`.
pub fn is_part(name: &str) -> bool {
    name.starts_with(".keyhearth-") && name.ends_with(".part")
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
                    match place.folder.make(&place.name) {
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
        self.folder.stamp(&self.name).map_err(|error| self.told(&error))
    }

    /// Begins a file that gets this name.
    pub fn output(&self) -> Result<Unnamed, Failure> {
        let output = Output::create(&self.path()).map_err(failure)?;
        Ok(Unnamed { output, _folder: Arc::clone(&self.folder) })
    }

    /// Exchanges what has this name, which is of our own making, with what has the name `other`, which was `expected` there. If
    /// something else was it stays, and what is of our own making goes.
    pub fn exchange(&self, other: &Self, expected: &Stamp) -> Result<(), Failure> {
        match exchange::exchange(&self.path(), &other.path(), expected) {
            Ok(Exchanged::Kept) => self.remove().and(Err(failure(Error::Changed))),
            exchanged => self.exchanged(other, exchanged),
        }
    }

    /// The same, whatever was there.
    pub fn swap(&self, other: &Self) -> Result<(), Failure> {
        self.exchanged(other, exchange::swap(&self.path(), &other.path()))
    }

    fn exchanged(&self, other: &Self, exchanged: io::Result<Exchanged>) -> Result<(), Failure> {
        match exchanged {
            Ok(Exchanged::Done) => Ok(()),
            Ok(Exchanged::Kept | Exchanged::Unclear) => Err(replaced(other, "replaced twice", self)),
            Err(error) => self.remove().and(Err(other.not_renamed(&error))),
        }
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
        if other.stamp()?.is_some_and(|came| came.has_content_of(expected)) {
            return Ok(());
        }
        other.rename(self, RenameFlags::NOREPLACE).map_err(|_| replaced(self, "replaced", other))?;
        Err(failure(Error::Changed))
    }

    fn rename(&self, other: &Self, how: RenameFlags) -> Result<(), Failure> {
        renameat_with(CWD, self.path(), CWD, other.path(), how)
            .map_err(|error| other.not_renamed(&error.into()))
    }

    fn not_renamed(&self, error: &io::Error) -> Failure {
        if !exchange::cannot(error) {
            return self.told(error);
        }
        let what = format!("{}: this filesystem can not exchange names", self.inside.display());
        Failure::of("unsupported", &what, "", "keep the folder on ext4, xfs, btrfs or tmpfs")
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
        self.folder.synchronise().map_err(|error| self.told(&error))
    }

    /// Removes the file of this name, if it is there still.
    pub fn remove(&self) -> Result<(), Failure> {
        match self.folder.remove(&self.name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.told(&error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Removes the folder of this name, which must be empty.
    pub fn remove_folder(&self) -> io::Result<()> {
        self.folder.remove_folder(&self.name)
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

fn replaced(place: &Place, how: &str, other: &Place) -> Failure {
    let what =
        format!("{} was {how} meanwhile; one version is {}", place.inside.display(), other.inside.display());
    Failure::of("changed", &what, "", "look at both, and keep what is right")
}
