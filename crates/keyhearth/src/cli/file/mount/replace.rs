//! Putting a sealed file in the place of the one it was made of, and of no other: what a sync service brought meanwhile stays,
//! and the new one lies beside it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use keyhearth_files::manifest::Device;
use tempfile::TempPath;

use super::super::SUFFIX;
use super::super::place::beneath::Folder;
use super::super::place::exchange::{self, Exchanged};
use super::super::place::{Stamp, copies};
use super::shown::ShownFolder;

/// Where a new file has come to.
#[derive(Debug, PartialEq)]
pub enum Put {
    /// To its place.
    There,
    /// Something else had come to its place, and stayed: beside it, shown under this name.
    Beside(OsString),
}

/// A place, and who puts something there.
pub struct Target<'t> {
    pub folder: &'t ShownFolder<'t>,
    /// As it is shown.
    pub name: &'t OsStr,
    /// For names of copies.
    pub device: &'t Device,
}

impl Target<'_> {
    /// Puts `new`, which lies in the same filesystem and is durable, in the place of what `is_expected` knows there; or there, if
    /// nothing is.
    ///
    /// The commit point is the exchange: a crash before it leaves the old file under its name and the new one under that of `new`,
    /// a crash after it the reverse.
    ///
    /// # Errors
    /// The error of renameat2(2) or fsync(2); nothing that was there is lost then.
    pub fn put(&self, new: TempPath, is_expected: impl Fn(&Stamp) -> bool) -> io::Result<Put> {
        match self.folder.stamp(&self.sealed(self.name)?)? {
            None => self.put_first(new),
            Some(found) if is_expected(&found) => self.exchange(new, &found),
            Some(_) => self.put_beside(new),
        }
    }

    /// The name on the disk of what is shown as this.
    fn sealed(&self, name: &OsStr) -> io::Result<OsString> {
        self.folder.sealed_name(name, SUFFIX)
    }

    fn path(&self) -> io::Result<PathBuf> {
        Ok(self.folder.path().join(self.sealed(self.name)?))
    }

    /// Where nothing was a moment ago.
    fn put_first(&self, new: TempPath) -> io::Result<Put> {
        match new.persist_noclobber(self.path()?) {
            Ok(()) => self.folder.synchronise().map(|()| Put::There),
            Err(taken) if taken.error.kind() == io::ErrorKind::AlreadyExists => self.put_beside(taken.path),
            Err(refused) => Err(refused.error),
        }
    }

    /// Where `expected` was a moment ago.
    fn exchange(&self, new: TempPath, expected: &Stamp) -> io::Result<Put> {
        let place = self.path()?;
        match exchange::exchange(&new, &place, expected) {
            // The new name is durable before the old file is gone.
            Ok(Exchanged::Done) => match self.folder.synchronise() {
                Ok(()) => Ok(Put::There),
                Err(error) => {
                    let _ = new.keep();
                    Err(error)
                }
            },
            Ok(Exchanged::Kept) => self.put_beside(new),
            // What lies beside now may be another version, and ours is written again.
            Ok(Exchanged::Unclear) => {
                let version = new.keep().map_err(|error| error.error)?;
                self.beside(|copy| exchange::rename_new(&version, copy))?;
                Err(io::ErrorKind::ResourceBusy.into())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.put_first(new),
            // What a filesystem without the exchange of names has: the look that was just taken.
            Err(error) if exchange::cannot(&error) => {
                new.persist(place).map_err(|error| error.error)?;
                self.folder.synchronise().map(|()| Put::There)
            }
            Err(error) => Err(error),
        }
    }

    /// Beside its place, under a name that nothing has.
    fn put_beside(&self, new: TempPath) -> io::Result<Put> {
        let name = self.beside(|copy| exchange::rename_new(&new, copy))?;
        // Nothing has its name any more.
        let _ = new.keep();
        self.folder.synchronise().map(|()| Put::Beside(name))
    }

    /// Moves another version, which lies in `from`, beside this place; gives its name, as it is shown.
    ///
    /// # Errors
    /// The error of renameat2(2).
    pub fn move_aside(&self, from: &Folder, version: &OsStr) -> io::Result<OsString> {
        self.beside(|copy| exchange::rename_new(&from.path().join(version), copy))
    }

    /// Renames something to the first name of a copy that nothing has.
    fn beside(&self, rename: impl Fn(&Path) -> io::Result<()>) -> io::Result<OsString> {
        for name in copies::of_conflict(self.name, self.device, self.folder.name_bytes_max()) {
            match rename(&self.folder.path().join(self.sealed(&name)?)) {
                Err(taken) if taken.kind() == io::ErrorKind::AlreadyExists => {}
                renamed => return renamed.map(|()| name),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::super::place::beneath::Root;
    use super::super::shown::ShownRoot;
    use super::*;

    struct Place {
        path: tempfile::TempDir,
        folder: ShownFolder<'static>,
        device: Device,
    }

    impl Place {
        fn new() -> Self {
            let path = tempfile::tempdir().unwrap();
            let shown = ShownRoot::new(Root::open(path.path()).unwrap(), None);
            let folder = Box::leak(Box::new(shown)).folder(Path::new("")).unwrap();
            Self { path, folder, device: Device::new("desk").unwrap() }
        }

        fn target(&self) -> Target<'_> {
            Target { folder: &self.folder, name: OsStr::new("f.txt"), device: &self.device }
        }

        fn write(&self, name: &str, content: &str) -> Stamp {
            let path = self.path.path().join(name);
            fs::write(&path, content).unwrap();
            Stamp::of(&fs::metadata(path).unwrap())
        }

        fn new_file(&self) -> TempPath {
            self.write(".new.part", "ours");
            TempPath::try_from_path(self.path.path().join(".new.part")).unwrap()
        }

        /// Names and contents.
        fn all(&self) -> Vec<(String, String)> {
            let entries = fs::read_dir(self.path.path()).unwrap().map(|entry| entry.unwrap().path());
            let mut all: Vec<_> = entries
                .map(|path: PathBuf| {
                    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                    (name, fs::read_to_string(path).unwrap())
                })
                .collect();
            all.sort();
            all
        }
    }

    fn lies(all: &[(&str, &str)]) -> Vec<(String, String)> {
        all.iter().map(|(name, content)| ((*name).to_owned(), (*content).to_owned())).collect()
    }

    #[test]
    fn what_is_expected_is_replaced_and_where_nothing_is_nothing_is_lost() {
        let place = Place::new();
        assert_eq!(place.target().put(place.new_file(), |_| false).unwrap(), Put::There);
        assert_eq!(place.all(), lies(&[("f.txt.age", "ours")]));
        let old = place.write("f.txt.age", "old");
        assert_eq!(place.target().put(place.new_file(), |found| *found == old).unwrap(), Put::There);
        assert_eq!(place.all(), lies(&[("f.txt.age", "ours")]));
    }

    /// The name of a copy, which is another one each second.
    fn beside(put: Put) -> String {
        let Put::Beside(name) = put else { panic!("{put:?}") };
        let name = name.into_string().unwrap();
        assert!(
            name.starts_with("f (conflict ") && name.contains(" desk") && name.ends_with(").txt"),
            "{name}"
        );
        format!("{name}.age")
    }

    #[test]
    fn what_came_meanwhile_stays_and_the_new_file_lies_beside_it() {
        let place = Place::new();
        place.write("f.txt.age", "newer");
        let [first, second] =
            [(); 2].map(|()| beside(place.target().put(place.new_file(), |_| false).unwrap()));
        assert_ne!(first, second);
        let mut all = lies(&[(&first, "ours"), (&second, "ours"), ("f.txt.age", "newer")]);
        all.sort();
        assert_eq!(place.all(), all);
    }

    #[test]
    fn what_came_between_the_look_and_the_exchange_goes_back() {
        let place = Place::new();
        let looked_at = place.write("f.txt.age", "as it was looked at");
        fs::remove_file(place.path.path().join("f.txt.age")).unwrap();
        place.write("f.txt.age", "newer");
        let copy = beside(place.target().exchange(place.new_file(), &looked_at).unwrap());
        assert_eq!(place.all(), lies(&[(&copy, "ours"), ("f.txt.age", "newer")]));
        // It was deleted in between, and one came where nothing was.
        fs::remove_file(place.path.path().join("f.txt.age")).unwrap();
        assert_eq!(place.target().exchange(place.new_file(), &looked_at).unwrap(), Put::There);
        beside(place.target().put_first(place.new_file()).unwrap());
        let moved = place.target().move_aside(&place.folder, OsStr::new("f.txt.age")).unwrap();
        beside(Put::Beside(moved));
        assert_eq!(place.all().len(), 3);
    }
}
