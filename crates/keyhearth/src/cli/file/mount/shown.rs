//! What is shown of a folder of sealed files, and under which names: those on the disk may be encrypted.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::ops::Deref;
use std::path::Path;
use std::{fs, io};

use keyhearth_files::manifest::{self, InsidePath};
use keyhearth_files::names::{self, FolderKey, NameKey};
use rustix::fs::StatVfs;
use rustix::io::Errno;

use super::super::place::NAME_BYTES_MAX;
use super::super::place::beneath::{Folder, Root};
use super::super::{SUFFIX, esdk};

/// What is shown under a name, by its name on the disk.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    Folder(OsString),
    /// A sealed file.
    File(OsString),
}

/// The folder that is shown.
pub struct ShownRoot {
    root: Root,
    names: Option<NameKey>,
}

/// It, or a folder below it.
pub struct ShownFolder<'s> {
    lies: Folder,
    /// Its path, and what encrypts the names in it.
    names: Option<(String, FolderKey<'s>)>,
}

impl ShownRoot {
    /// Names are encrypted on the disk if there is a key for that.
    pub fn new(root: Root, names: Option<NameKey>) -> Self {
        Self { root, names }
    }

    /// The folder that is shown at `path`.
    ///
    /// # Errors
    /// The error of openat2(2); ENOENT of what has no encrypted name.
    pub fn folder(&self, path: &Path) -> io::Result<ShownFolder<'_>> {
        let Some(names) = &self.names else {
            return Ok(ShownFolder { lies: self.root.folder(path)?, names: None });
        };
        let path = path.to_str().ok_or(Errno::NOENT)?;
        let lies =
            if path.is_empty() { String::new() } else { names.encrypt(path).map_err(|_| Errno::NOENT)? };
        let names = Some((path.to_owned(), names.of_folder(path)));
        Ok(ShownFolder { lies: self.root.folder(Path::new(&lies))?, names })
    }

    /// Whether names on the disk depend on where they are.
    pub fn is_encrypted(&self) -> bool {
        self.names.is_some()
    }

    /// The longest name that is shown, in bytes.
    pub fn name_bytes_max(&self) -> usize {
        name_bytes_max(self.is_encrypted())
    }

    /// Room in its filesystem.
    ///
    /// # Errors
    /// The error of statvfs(3).
    pub fn room(&self) -> io::Result<StatVfs> {
        self.root.room()
    }
}

impl Deref for ShownFolder<'_> {
    type Target = Folder;

    /// It as it lies on the disk.
    fn deref(&self) -> &Folder {
        &self.lies
    }
}

impl ShownFolder<'_> {
    /// The longest name that is shown in it, in bytes.
    pub fn name_bytes_max(&self) -> usize {
        name_bytes_max(self.names.is_some())
    }

    /// The name on the disk of the folder that is shown as `name`.
    ///
    /// # Errors
    /// ENAMETOOLONG; EINVAL if nothing can be called that.
    pub fn folder_name(&self, name: &OsStr) -> io::Result<OsString> {
        let Some((path, key)) = &self.names else { return Ok(name.to_owned()) };
        let name = name.to_str().filter(|name| is_name(path, name)).ok_or(Errno::INVAL)?;
        Ok(key.encrypt(name).map_err(|_| Errno::NAMETOOLONG)?.into())
    }

    /// The name on the disk of the sealed file that is shown as `name`.
    ///
    /// # Errors
    /// As [`ShownFolder::folder_name`].
    pub fn sealed_name(&self, name: &OsStr, suffix: &str) -> io::Result<OsString> {
        let mut sealed = self.folder_name(name)?;
        sealed.push(".");
        sealed.push(suffix);
        if sealed.len() > NAME_BYTES_MAX { Err(Errno::NAMETOOLONG.into()) } else { Ok(sealed) }
    }

    /// Whether it has what a folder with a manifest has.
    ///
    /// # Errors
    /// The error of stat(2).
    pub fn has_manifest(&self) -> io::Result<bool> {
        Ok(self.kind(OsStr::new(manifest::FOLDER))?.is_some())
    }

    /// What is shown under `name`. A folder comes before a file, a file of age before one of the AWS Encryption SDK.
    ///
    /// # Errors
    /// The error of stat(2).
    pub fn find(&self, name: &OsStr) -> io::Result<Option<Entry>> {
        if is_kept_back(name) {
            return Ok(None);
        }
        // What nothing can be called is not there.
        if let Ok(folder) = self.folder_name(name)
            && self.kind(&folder)?.is_some_and(|kind| kind.is_dir())
        {
            return Ok(Some(Entry::Folder(folder)));
        }
        for suffix in [SUFFIX, esdk::SUFFIX] {
            if let Ok(sealed) = self.sealed_name(name, suffix)
                && self.kind(&sealed)?.is_some_and(|kind| kind.is_file())
            {
                return Ok(Some(Entry::File(sealed)));
            }
        }
        Ok(None)
    }

    fn kind(&self, name: &OsStr) -> io::Result<Option<fs::FileType>> {
        match fs::symlink_metadata(self.path().join(name)) {
            Ok(metadata) => Ok(Some(metadata.file_type())),
            // Nothing has a name that is too long.
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
                if let Some(plain) = self.plain(&name) {
                    shown.insert(plain, Entry::Folder(name));
                }
            } else if kind.is_file()
                && let Some((stem, suffix)) = without_suffix(&name)
                && let Some(plain) = self.plain(stem)
            {
                let place = shown.entry(plain).or_insert_with(|| Entry::File(name.clone()));
                if suffix == SUFFIX && matches!(place, Entry::File(_)) {
                    *place = Entry::File(name);
                }
            }
        }
        Ok(shown)
    }

    /// What something of this name on the disk is shown as, if it is.
    fn plain(&self, lies: &OsStr) -> Option<OsString> {
        let plain = match &self.names {
            None => lies.to_owned(),
            Some((path, key)) => {
                let plain = key.decrypt(lies.to_str()?).ok().filter(|plain| is_name(path, plain))?;
                plain.into()
            }
        };
        (!is_kept_back(&plain)).then_some(plain)
    }
}

fn name_bytes_max(is_encrypted: bool) -> usize {
    if is_encrypted { names::NAME_BYTES_MAX } else { NAME_BYTES_MAX - 1 - SUFFIX.len() }
}

/// Whether a manifest can have this name in the folder at `path`.
fn is_name(path: &str, name: &str) -> bool {
    let inside = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
    InsidePath::new(&inside).is_some()
}

/// Whether it is the name of what the folder has for its manifest: neither shown nor made.
pub fn is_kept_back(name: &OsStr) -> bool {
    name == manifest::FOLDER
}

/// The name of a sealed file without its suffix, and that.
fn without_suffix(sealed: &OsStr) -> Option<(&OsStr, &'static str)> {
    let path = Path::new(sealed);
    let suffix =
        [SUFFIX, esdk::SUFFIX].into_iter().find(|suffix| path.extension().is_some_and(|is| is == *suffix))?;
    // Of `..age` there would be left what every folder has.
    Some((path.file_stem().filter(|stem| *stem != "." && *stem != "..")?, suffix))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_sealed_files_and_folders_are_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["both.age", "both.esdk", "one.esdk", "plain", ".age", "..age", "...age", "folder.age"] {
            fs::write(path(name), "").unwrap();
        }
        fs::create_dir_all(path("folder/below")).unwrap();
        fs::create_dir(path(manifest::FOLDER)).unwrap();
        symlink(path("both.age"), path("link.age")).unwrap();
        symlink("folder", path("inner")).unwrap();
        let shown = ShownRoot::new(Root::open(folder.path()).unwrap(), None);
        let here = shown.folder(Path::new("")).unwrap();
        let shown: Vec<_> = here.entries().unwrap().into_iter().collect();
        let file = |plain: &str, sealed: &str| (OsString::from(plain), Entry::File(sealed.into()));
        let folder = (OsString::from("folder"), Entry::Folder("folder".into()));
        assert_eq!(shown, [file("both", "both.age"), folder, file("one", "one.esdk")]);
        for (name, entry) in shown {
            assert_eq!(here.find(&name).unwrap(), Some(entry));
        }
        for name in ["plain", "link", "inner", "nothing", manifest::FOLDER] {
            assert_eq!(here.find(OsStr::new(name)).unwrap(), None, "{name}");
        }
    }

    #[test]
    fn encrypted_names_are_shown_plain_where_they_were_encrypted_for() {
        let folder = tempfile::tempdir().unwrap();
        let key = || NameKey::new(&[1; 32]).unwrap();
        let path = |plain: &str, suffix: &str| folder.path().join(key().encrypt(plain).unwrap() + suffix);
        fs::create_dir_all(path("a/b", "")).unwrap();
        for (plain, suffix) in
            [("a/f", ".age"), ("a/b/g", ".age"), ("h", ".age"), ("a/..", ".age"), ("a/\n", ".age")]
        {
            fs::write(path(plain, suffix), "").unwrap();
        }
        // In clear, moved from another folder, and of another secret.
        fs::write(folder.path().join("clear.age"), "").unwrap();
        fs::create_dir(folder.path().join("clear")).unwrap();
        fs::copy(path("h", ".age"), path("a", "").join(path("h", ".age").file_name().unwrap())).unwrap();
        let other = NameKey::new(&[2; 32]).unwrap().encrypt("other").unwrap();
        fs::write(folder.path().join(other + ".age"), "").unwrap();
        let shown = ShownRoot::new(Root::open(folder.path()).unwrap(), Some(key()));
        let names = |at: &str| {
            let here = shown.folder(Path::new(at)).unwrap();
            let entries = here.entries().unwrap();
            for (name, entry) in &entries {
                assert_eq!(here.find(name).unwrap().as_ref(), Some(entry));
            }
            entries.into_keys().map(|name| name.into_string().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(
            (names(""), names("a"), names("a/b")),
            (vec!["a".into(), "h".into()], vec!["b".into(), "f".into()], vec!["g".into()])
        );
        assert!(shown.folder(Path::new("clear")).is_err());
        let here = shown.folder(Path::new("")).unwrap();
        for name in ["clear", "other", ".", "..", manifest::FOLDER] {
            assert_eq!(here.find(OsStr::new(name)).unwrap(), None, "{name}");
        }
        let kind = |name: &str| here.sealed_name(OsStr::new(name), SUFFIX).map_err(|error| error.kind());
        assert_eq!(kind(&"n".repeat(145)), Err(io::ErrorKind::InvalidFilename));
        assert_eq!(kind("a\nb"), Err(io::ErrorKind::InvalidInput));
        assert!(kind(&"n".repeat(144)).is_ok());
    }
}
