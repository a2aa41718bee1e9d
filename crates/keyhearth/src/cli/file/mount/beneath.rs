//! The folder of sealed files, reached without leaving it: no symbolic link is followed and no other filesystem entered, whatever
//! somebody else puts there meanwhile.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use keyhearth_files::manifest;
use rustix::fs::{Mode, OFlags, RenameFlags, ResolveFlags, StatVfs};
use rustix::io::Errno;

use super::super::{SUFFIX, esdk};

/// The folder itself.
pub struct Root(OwnedFd);

/// It, or a folder below it.
pub struct Folder(OwnedFd);

/// What is shown under a name.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A folder of the same name.
    Folder,
    /// The sealed file of this name.
    File(OsString),
}

/// What tells one state of a file on the disk from the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stamp {
    content: Content,
    /// Renaming a file and changing its attributes change this alone.
    changed: (i64, i64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Content {
    device: u64,
    number: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Stamp {
    /// The stamp of what says this of itself.
    pub fn of(metadata: &Metadata) -> Self {
        let content = Content {
            device: metadata.dev(),
            number: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        };
        Self { content, changed: (metadata.ctime(), metadata.ctime_nsec()) }
    }

    /// Whether it is the same file and nobody has written to it, unless who did hides it.
    pub fn has_content_of(&self, other: &Self) -> bool {
        self.content == other.content
    }

    /// The stamp of the same file, after this changed into that by what was done here: when it was changed otherwise before that stays
    /// to be seen.
    pub fn after(&self, before: &Self, after: &Self) -> Self {
        if self == before { *after } else { Self { content: after.content, ..*self } }
    }

    /// Whether it is the same file, whatever is in it.
    pub fn is_file_of(&self, other: &Self) -> bool {
        (self.content.device, self.content.number) == (other.content.device, other.content.number)
    }

    /// What the file is known by in its filesystem.
    pub fn place(&self) -> (u64, u64) {
        (self.content.device, self.content.number)
    }
}

impl Root {
    /// # Errors
    /// The error of open(2).
    pub fn open(path: &Path) -> io::Result<Self> {
        let root =
            Self(rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?);
        root.folder(Path::new(""))?;
        Ok(root)
    }

    /// The folder at `inside`; the root itself, if that is empty.
    ///
    /// # Errors
    /// The error of openat2(2).
    pub fn folder(&self, inside: &Path) -> io::Result<Folder> {
        let inside = if inside.as_os_str().is_empty() { Path::new(".") } else { inside };
        let how = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        Ok(Folder(rustix::fs::openat2(&self.0, inside, how, Mode::empty(), within)?))
    }

    /// Room in its filesystem.
    ///
    /// # Errors
    /// The error of statvfs(3).
    pub fn room(&self) -> io::Result<StatVfs> {
        Ok(rustix::fs::fstatvfs(&self.0)?)
    }
}

impl Folder {
    /// A path to it that holds as long as this does.
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// The error of stat(2).
    pub fn metadata(&self) -> io::Result<Metadata> {
        fs::metadata(self.path())
    }

    /// Opens the regular file of this name on the disk, to read it.
    ///
    /// # Errors
    /// The error of open(2); [`io::ErrorKind::NotFound`] of what is no regular file.
    pub fn open(&self, sealed: &OsStr) -> io::Result<File> {
        let how = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&self.0, sealed, how, Mode::empty())?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// What is shown under `name`. A folder comes before a file, a file of age before one of the AWS Encryption SDK.
    ///
    /// # Errors
    /// The error of stat(2).
    pub fn find(&self, name: &OsStr) -> io::Result<Option<Entry>> {
        if is_kept_back(name) {
            return Ok(None);
        }
        if self.kind(name)?.is_some_and(|kind| kind.is_dir()) {
            return Ok(Some(Entry::Folder));
        }
        for suffix in [SUFFIX, esdk::SUFFIX] {
            let sealed = sealed_name(name, suffix);
            if self.kind(&sealed)?.is_some_and(|kind| kind.is_file()) {
                return Ok(Some(Entry::File(sealed)));
            }
        }
        Ok(None)
    }

    /// The stamp of what has this name on the disk, whatever it is.
    ///
    /// # Errors
    /// The error of stat(2).
    pub fn stamp(&self, sealed: &OsStr) -> io::Result<Option<Stamp>> {
        match fs::symlink_metadata(self.path().join(sealed)) {
            Ok(metadata) => Ok(Some(Stamp::of(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a folder, its owner's alone.
    ///
    /// # Errors
    /// The error of mkdir(2).
    pub fn make(&self, name: &OsStr) -> io::Result<()> {
        fs::DirBuilder::new().mode(0o700).create(self.path().join(name))
    }

    /// Removes what has this name on the disk and is no folder.
    ///
    /// # Errors
    /// The error of unlink(2).
    pub fn remove(&self, sealed: &OsStr) -> io::Result<()> {
        fs::remove_file(self.path().join(sealed))
    }

    /// Removes an empty folder.
    ///
    /// # Errors
    /// The error of rmdir(2).
    pub fn remove_folder(&self, name: &OsStr) -> io::Result<()> {
        fs::remove_dir(self.path().join(name))
    }

    /// Renames what has a name on the disk into `other`.
    ///
    /// # Errors
    /// The error of renameat2(2).
    pub fn rename(&self, from: &OsStr, other: &Self, to: &OsStr, how: RenameFlags) -> io::Result<()> {
        match rustix::fs::renameat_with(&self.0, from, &other.0, to, how) {
            // Some filesystems can not promise to replace nothing; a look comes close.
            Err(Errno::INVAL) if how == RenameFlags::NOREPLACE && other.stamp(to)?.is_none() => {
                Ok(rustix::fs::renameat(&self.0, from, &other.0, to)?)
            }
            renamed => Ok(renamed?),
        }
    }

    /// Exchanges what has a name on the disk with what has one in `other`.
    ///
    /// # Errors
    /// The error of renameat2(2).
    pub fn exchange(&self, one: &OsStr, other: &Self, two: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::renameat_with(&self.0, one, &other.0, two, RenameFlags::EXCHANGE)?)
    }

    /// Waits until the names in it are on the disk.
    ///
    /// # Errors
    /// The error of fsync(2).
    pub fn synchronise(&self) -> io::Result<()> {
        File::open(self.path())?.sync_all()
    }

    fn kind(&self, name: &OsStr) -> io::Result<Option<fs::FileType>> {
        match fs::symlink_metadata(self.path().join(name)) {
            Ok(metadata) => Ok(Some(metadata.file_type())),
            // Nothing has a name that is too long with its suffix.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidFilename) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Everything that is shown, by name.
    ///
    /// # Errors
    /// The error of readdir(3).
    pub fn entries(&self) -> io::Result<BTreeMap<OsString, Entry>> {
        let mut shown = BTreeMap::new();
        for entry in fs::read_dir(self.path())? {
            let entry = entry?;
            let (name, kind) = (entry.file_name(), entry.file_type()?);
            if is_kept_back(&name) {
                continue;
            }
            if kind.is_dir() {
                shown.insert(name, Entry::Folder);
            } else if kind.is_file()
                && let Some((plain, suffix)) = plain_name(&name)
                && !is_kept_back(&plain)
            {
                let place = shown.entry(plain).or_insert_with(|| Entry::File(name.clone()));
                if suffix == SUFFIX && *place != Entry::Folder {
                    *place = Entry::File(name);
                }
            }
        }
        Ok(shown)
    }
}

/// Whether it is the name of what the folder has for its manifest: neither shown nor made.
pub fn is_kept_back(name: &OsStr) -> bool {
    name == manifest::FOLDER
}

/// The name on the disk of the sealed file that is shown as `name`.
pub fn sealed_name(name: &OsStr, suffix: &str) -> OsString {
    let mut sealed = name.to_owned();
    sealed.push(".");
    sealed.push(suffix);
    sealed
}

/// What a sealed file is shown as, and the suffix that it has besides.
fn plain_name(sealed: &OsStr) -> Option<(OsString, &'static str)> {
    let (path, plain) = (Path::new(sealed), Path::new(sealed).with_extension("").into_os_string());
    let suffix =
        [SUFFIX, esdk::SUFFIX].into_iter().find(|suffix| path.extension().is_some_and(|is| is == *suffix))?;
    // Of `..age` there would be left what every folder has.
    (plain != "." && plain != "..").then_some((plain, suffix))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_outside_is_reached_and_only_sealed_files_are_shown() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("a.age"), "").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["both.age", "both.esdk", "one.esdk", "plain", ".age", "..age", "...age", "folder.age"] {
            fs::write(path(name), "").unwrap();
        }
        fs::create_dir_all(path("folder/below")).unwrap();
        fs::create_dir(path(manifest::FOLDER)).unwrap();
        symlink(outside.path(), path("out")).unwrap();
        symlink(outside.path().join("a.age"), path("link.age")).unwrap();
        symlink("folder", path("inner")).unwrap();
        let root = Root::open(folder.path()).unwrap();
        for inside in ["out", "inner", "inner/below", "..", "folder/../out", "/"] {
            assert!(root.folder(Path::new(inside)).is_err(), "{inside}");
        }
        let here = root.folder(Path::new("")).unwrap();
        let shown: Vec<_> = here.entries().unwrap().into_iter().collect();
        let file = |plain: &str, sealed: &str| (OsString::from(plain), Entry::File(sealed.into()));
        let folder = (OsString::from("folder"), Entry::Folder);
        assert_eq!(shown, [file("both", "both.age"), folder, file("one", "one.esdk")]);
        for (name, entry) in shown {
            assert_eq!(here.find(&name).unwrap(), Some(entry));
        }
        for name in ["plain", "out", "link", "inner", "nothing", manifest::FOLDER] {
            assert_eq!(here.find(OsStr::new(name)).unwrap(), None, "{name}");
        }
        assert!(here.open(OsStr::new("link.age")).is_err() && here.open(OsStr::new("folder")).is_err());
        assert!(root.folder(Path::new("folder/below")).unwrap().entries().unwrap().is_empty());
    }
}
