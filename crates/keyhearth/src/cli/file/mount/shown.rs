//! What is shown of a folder of sealed files, and under which names.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::{fs, io};

use keyhearth_files::manifest;

use super::super::beneath::Folder;
use super::super::{SUFFIX, esdk};

/// What is shown under a name.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A folder of the same name.
    Folder,
    /// The sealed file of this name.
    File(OsString),
}

impl Folder {
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

    use super::super::super::beneath::Root;
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
        let here = Root::open(folder.path()).unwrap().folder(Path::new("")).unwrap();
        let shown: Vec<_> = here.entries().unwrap().into_iter().collect();
        let file = |plain: &str, sealed: &str| (OsString::from(plain), Entry::File(sealed.into()));
        let folder = (OsString::from("folder"), Entry::Folder);
        assert_eq!(shown, [file("both", "both.age"), folder, file("one", "one.esdk")]);
        for (name, entry) in shown {
            assert_eq!(here.find(&name).unwrap(), Some(entry));
        }
        for name in ["plain", "link", "inner", "nothing", manifest::FOLDER] {
            assert_eq!(here.find(OsStr::new(name)).unwrap(), None, "{name}");
        }
    }
}
