//! Putting a sealed file in the place of the one it was made of, and of no other: what a sync service brought meanwhile stays,
//! and the new one lies beside it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;
use tempfile::TempPath;

use super::super::SUFFIX;
use super::beneath::{Folder, Stamp, sealed_name};

/// The longest name on the disk, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// The longest ending that a copy keeps at its end, in bytes.
const EXTENSION_BYTES_MAX: usize = 32;
/// Copies of one file in conflict, of one day.
const COPIES_MAX: u32 = 1000;

/// Where a new file has come to.
#[derive(Debug, PartialEq)]
pub enum Put {
    /// To its place.
    There,
    /// Something else had come to its place, and stayed: beside it, shown under this name.
    Beside(OsString),
}

/// A place, and when something is put there.
pub struct Target<'t> {
    pub folder: &'t Folder,
    /// As it is shown.
    pub name: &'t OsStr,
    /// `2026-11-22`, for names of copies.
    pub date: &'t str,
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
        match self.folder.stamp(&self.sealed())? {
            None => self.put_first(new),
            Some(found) if is_expected(&found) => self.exchange(new, &found),
            Some(_) => self.put_beside(new),
        }
    }

    fn sealed(&self) -> OsString {
        sealed_name(self.name, SUFFIX)
    }

    /// Where nothing was a moment ago.
    fn put_first(&self, new: TempPath) -> io::Result<Put> {
        match new.persist_noclobber(self.folder.path().join(self.sealed())) {
            Ok(()) => self.folder.synchronise().map(|()| Put::There),
            Err(taken) if taken.error.kind() == io::ErrorKind::AlreadyExists => self.put_beside(taken.path),
            Err(refused) => Err(refused.error),
        }
    }

    /// Where `expected` was a moment ago.
    fn exchange(&self, new: TempPath, expected: &Stamp) -> io::Result<Put> {
        let ours = Stamp::of(&fs::symlink_metadata(&new)?);
        match self.exchange_names(&new) {
            Ok(()) => {}
            Err(Errno::NOENT) => return self.put_first(new),
            // What a filesystem without the exchange of names has: the look that was just taken.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                new.persist(self.folder.path().join(self.sealed())).map_err(|error| error.error)?;
                return self.folder.synchronise().map(|()| Put::There);
            }
            Err(error) => return Err(error.into()),
        }
        let out = Stamp::of(&fs::symlink_metadata(&new)?);
        if out.has_content_of(expected) {
            // The new name is durable before the old file is gone.
            if let Err(error) = self.folder.synchronise() {
                let _ = new.keep();
                return Err(error);
            }
            drop(new);
            return Ok(Put::There);
        }
        // Something else came in between: it goes back.
        if let Err(error) = self.exchange_names(&new) {
            let _ = new.keep();
            return Err(error.into());
        }
        let back = Stamp::of(&fs::symlink_metadata(&new)?);
        let beside = self.put_beside(new)?;
        // And if yet another took our place meanwhile, that is what lies beside now, and ours is written again.
        if back.is_file_of(&ours) { Ok(beside) } else { Err(io::ErrorKind::ResourceBusy.into()) }
    }

    fn exchange_names(&self, new: &Path) -> Result<(), Errno> {
        let place = self.folder.path().join(self.sealed());
        rustix::fs::renameat_with(CWD, new, CWD, &place, RenameFlags::EXCHANGE)
    }

    /// Beside its place, under a name that nothing has.
    fn put_beside(&self, mut new: TempPath) -> io::Result<Put> {
        for number in 1..=COPIES_MAX {
            let name = copy_name(self.name, self.date, number);
            match new.persist_noclobber(self.folder.path().join(sealed_name(&name, SUFFIX))) {
                Ok(()) => return self.folder.synchronise().map(|()| Put::Beside(name)),
                Err(taken) if taken.error.kind() == io::ErrorKind::AlreadyExists => new = taken.path,
                Err(refused) => {
                    let _ = refused.path.keep();
                    return Err(refused.error);
                }
            }
        }
        let _ = new.keep();
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Moves another version, which lies in `from`, beside this place; gives its name, as it is shown.
    ///
    /// # Errors
    /// The error of renameat2(2).
    pub fn move_aside(&self, from: &Folder, version: &OsStr) -> io::Result<OsString> {
        for number in 1..=COPIES_MAX {
            let name = copy_name(self.name, self.date, number);
            let sealed = sealed_name(&name, SUFFIX);
            match from.rename(version, self.folder, &sealed, RenameFlags::NOREPLACE) {
                Ok(()) => return Ok(name),
                Err(taken) if taken.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

/// `NAME (conflict DATE).ext`, from the second copy on with its number; a name that would be too long is cut.
fn copy_name(name: &OsStr, date: &str, number: u32) -> OsString {
    let path = Path::new(name);
    let extension = path.extension().filter(|extension| extension.len() <= EXTENSION_BYTES_MAX);
    let stem = extension.and_then(|_| path.file_stem()).unwrap_or(name);
    let which = if number == 1 { String::new() } else { format!(" {number}") };
    let mut end = format!(" (conflict {date}{which})");
    if let Some(extension) = extension {
        end = format!("{end}.{}", extension.to_string_lossy());
    }
    let room = NAME_BYTES_MAX.saturating_sub(end.len() + 1 + SUFFIX.len());
    let mut copy = OsString::new();
    if stem.len() <= room {
        copy.push(stem);
    } else {
        let stem = stem.to_string_lossy();
        copy.push(&stem[..stem.floor_char_boundary(room)]);
    }
    copy.push(end);
    copy
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::beneath::Root;
    use super::*;

    struct Place {
        path: tempfile::TempDir,
        folder: Folder,
    }

    impl Place {
        fn new() -> Self {
            let path = tempfile::tempdir().unwrap();
            let folder = Root::open(path.path()).unwrap().folder(Path::new("")).unwrap();
            Self { path, folder }
        }

        fn target(&self) -> Target<'_> {
            Target { folder: &self.folder, name: OsStr::new("f.txt"), date: "2026-11-22" }
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

    #[test]
    fn what_came_meanwhile_stays_and_the_new_file_lies_beside_it() {
        let place = Place::new();
        place.write("f.txt.age", "newer");
        for number in 1..=2 {
            let which = if number == 1 { "" } else { " 2" };
            let beside = Put::Beside(format!("f (conflict 2026-11-22{which}).txt").into());
            assert_eq!(place.target().put(place.new_file(), |_| false).unwrap(), beside);
        }
        let [copy, second] = ["f (conflict 2026-11-22).txt.age", "f (conflict 2026-11-22 2).txt.age"]
            .map(|name| (name, "ours"));
        assert_eq!(place.all(), lies(&[second, copy, ("f.txt.age", "newer")]));
    }

    #[test]
    fn what_came_between_the_look_and_the_exchange_goes_back() {
        let place = Place::new();
        let looked_at = place.write("f.txt.age", "as it was looked at");
        fs::remove_file(place.path.path().join("f.txt.age")).unwrap();
        place.write("f.txt.age", "newer");
        let beside = Put::Beside("f (conflict 2026-11-22).txt".into());
        assert_eq!(place.target().exchange(place.new_file(), &looked_at).unwrap(), beside);
        let copy = ("f (conflict 2026-11-22).txt.age", "ours");
        assert_eq!(place.all(), lies(&[copy, ("f.txt.age", "newer")]));
        // It was deleted in between, and one came where nothing was.
        fs::remove_file(place.path.path().join("f.txt.age")).unwrap();
        assert_eq!(place.target().exchange(place.new_file(), &looked_at).unwrap(), Put::There);
        let second = Put::Beside("f (conflict 2026-11-22 2).txt".into());
        assert_eq!(place.target().put_first(place.new_file()).unwrap(), second);
        assert_eq!(
            place.target().move_aside(&place.folder, OsStr::new("f.txt.age")).unwrap(),
            "f (conflict 2026-11-22 3).txt"
        );
        assert_eq!(place.all().len(), 3);
    }

    #[test]
    fn names_of_copies_fit() {
        let name = |name: &str| copy_name(OsStr::new(name), "2026-11-22", 1).into_string().unwrap();
        assert_eq!(name("notes"), "notes (conflict 2026-11-22)");
        assert_eq!(name(".bashrc"), ".bashrc (conflict 2026-11-22)");
        let long = name(&format!("{}.txt", "ü".repeat(120)));
        assert!(long.len() <= NAME_BYTES_MAX - 4 && long.ends_with("ü (conflict 2026-11-22).txt"));
        let dotted = name(&format!("a.{}", "x".repeat(240)));
        assert!(dotted.len() <= NAME_BYTES_MAX - 4 && dotted.starts_with("a.x"));
    }
}
