//! The files in a folder's `.keyhearth`. They are reached by descriptors: no link leads elsewhere, and what a sync service puts
//! there meanwhile is not lost.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use keyhearth_files::manifest::{FOLDER, MANIFEST_BYTES_MAX, Signed};

use super::super::super::failure::Failure;
use super::super::place::beneath::Root;
use super::super::place::{Place, Stamp, is_part};

/// The name of the manifest that is written.
pub const NAME: &str = "manifest";
/// The name of the mark that the plain folder of a pair has in its place.
pub const PAIR: &str = "pair";
/// The most files in `.keyhearth`.
const MANIFESTS_MAX: usize = 64;

/// Where they lie.
pub struct Files(Root);

/// Paths inside the folder, each with what was read or why not.
type Read2 = (Vec<(PathBuf, Signed)>, Vec<(PathBuf, Failure)>);

impl Files {
    /// Of the folder at `root`.
    pub fn of(root: &Path) -> Result<Self, Failure> {
        Root::open(root).map(Self).map_err(|error| Failure::at(root.display(), &error))
    }

    /// The manifests that there are, the one of our name first, and what can not be read as one.
    pub fn read(&self) -> Result<Read2, Failure> {
        let (mut read, mut refused) = (Vec::new(), Vec::new());
        let folder = match self.0.folder(Path::new(FOLDER)) {
            Ok(folder) => folder,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((read, refused)),
            Err(error) => return Err(Failure::at(FOLDER, &error)),
        };
        let lies = |name: &str| folder.stamp(OsStr::new(name)).is_ok_and(|stamp| stamp.is_some());
        if lies(PAIR) && !lies(NAME) {
            let what = "this is the plain folder of a pair that `sync watch` keeps in step";
            return Err(Failure::of("plain_folder", what, "", "name the sealed one"));
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(folder.path())? {
            names.push(entry?.file_name());
        }
        names.sort_by_key(|name| (name != NAME, name.clone()));
        if names.len() > MANIFESTS_MAX {
            let what = format!("{FOLDER} has more than {MANIFESTS_MAX} files");
            return Err(Failure::of("too_large", &what, "", "remove what is no manifest of yours"));
        }
        for inside in names.into_iter().map(|name| Path::new(FOLDER).join(name)) {
            match self.read_one(&inside) {
                Ok(Some(signed)) => read.push((inside, signed)),
                Ok(None) => {}
                // Somebody is at it, or a crash left it.
                Err(_) if is_part_at(&inside) => {}
                Err(refusal) => refused.push((inside, refusal)),
            }
        }
        Ok((read, refused))
    }

    fn read_one(&self, inside: &Path) -> Result<Option<Signed>, Failure> {
        let place = Place::find(&self.0, inside)?;
        let Some(file) = place.open()? else {
            let what = "it is no regular file";
            return if place.stamp()?.is_none() {
                Ok(None)
            } else {
                Err(Failure::of("not_a_file", what, "", "remove it"))
            };
        };
        if is_part_at(inside) && !Stamp::of(&file.metadata()?).is_settled() {
            return Ok(None);
        }
        read(file).map(Some)
    }

    /// Puts a manifest in the place of the one of our name, durably; gives its path. What was there and is not one of the
    /// `joined` came meanwhile: it stays beside, and is joined later.
    pub fn put(&self, text: &[u8], joined: impl Fn(&Signed) -> bool) -> Result<PathBuf, Failure> {
        let inside = Path::new(FOLDER).join(NAME);
        let place = Place::make(&self.0, &inside)?;
        let is_new = place.stamp()?.is_none();
        let part = if is_new { None } else { Some(place.part()?) };
        let output = part.as_ref().unwrap_or(&place).output()?;
        let mut file = output.file();
        file.write_all(text)?;
        file.sync_all()?;
        output.finish()?;
        if let Some(part) = part {
            match part.swap(&place) {
                Err(refusal) if refusal.code() == Some("unsupported") => place.overwrite(text)?,
                swapped => {
                    swapped?;
                    let came = part.open()?.map(read).transpose().ok().flatten();
                    if came.is_some_and(|came| joined(&came)) {
                        part.remove()?
                    } else {
                        drop(part.move_aside(NAME)?)
                    }
                }
            }
        }
        place.synchronise()?;
        Ok(inside)
    }

    /// Removes a file that was joined; if it is another one by now it stays, and is joined later.
    pub fn remove(&self, inside: &Path, joined: impl Fn(&Signed) -> bool) -> Result<(), Failure> {
        let place = Place::find(&self.0, inside)?;
        let now = place.open()?.map(|file| Ok::<_, Failure>((Stamp::of(&file.metadata()?), read(file)?)));
        if let Some(Ok((stamp, signed))) = now
            && joined(&signed)
        {
            let part = place.part()?;
            place.take(&part, &stamp)?;
            part.remove()?;
        }
        Ok(())
    }
}

fn read(file: File) -> Result<Signed, Failure> {
    let mut bytes = Vec::new();
    file.take(MANIFEST_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Signed::read(&bytes).map_err(|error| Failure::of("malformed", &error.to_string(), "", "remove it"))
}

fn is_part_at(inside: &Path) -> bool {
    inside.file_name().and_then(OsStr::to_str).is_some_and(is_part)
}
