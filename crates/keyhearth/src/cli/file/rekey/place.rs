//! Where a file lies, and the file sealed again in its place.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use keyhearth_files::age::Header;
use keyhearth_files::{Error, Output};
use keyhearth_sys::filesystem;
use tempfile::TempPath;

use super::super::super::failure::Failure;
use super::super::failure;
use super::super::open::Unlocked;
use super::super::place::Stamp;
use super::super::place::exchange::{self, Exchanged};
use super::super::seal::Head;
use super::Done;

/// A file's place, and what lay there.
pub struct Place {
    pub path: PathBuf,
    found: Metadata,
}

impl Place {
    /// That of the file at `path`.
    pub fn of(path: &Path) -> Result<Self, Failure> {
        let found = path.symlink_metadata().map_err(|error| Failure::at(path.display(), &error))?;
        Ok(Self { path: path.to_owned(), found })
    }

    /// What there is to tell of a file with so many bytes of plaintext.
    pub fn done(&self, bytes: u64) -> Done {
        let path = self.path.display().to_string();
        Done { output: path.clone(), path, bytes }
    }

    /// Puts the file that was found there behind another header; whatever came there meanwhile stays.
    pub fn copy_behind(&self, before: &Header, header: &Header) -> Result<(), Failure> {
        let (found, output) = self.output()?;
        keyhearth_files::copy_behind(&found, before, header, output.file()).map_err(failure)?;
        self.put(output)
    }

    /// Seals the file that was found there again behind this header, and puts that in its place; whatever came there meanwhile stays.
    pub fn seal_again(&self, file: Unlocked, head: Head) -> Result<Done, Failure> {
        let (_, output) = self.output()?;
        let (mut reader, mut writer) = io::pipe()?;
        // The pipe is memory of this machine: the plaintext lies nowhere else. That it ended early shows in what opening
        // it gives, before the file gets its name.
        let bytes = thread::scope(|scope| {
            let opening = scope.spawn(move || file.stream_to(&mut writer));
            let sealed = head.seal_stream(&mut reader, &mut output.file());
            drop(reader);
            let opened = opening.join().unwrap_or(Err(Error::Changed));
            sealed.and_then(|sealed| opened.map(|_| sealed.plaintext_bytes))
        })
        .map_err(failure)?;
        self.put(output)?;
        Ok(self.done(bytes))
    }

    /// The file that was found, and one that is to take its place.
    fn output(&self) -> Result<(File, Output), Failure> {
        let found = File::open(&self.path)?;
        if !Stamp::of(&found.metadata()?).has_content_of(&Stamp::of(&self.found)) {
            return Err(failure(Error::Changed));
        }
        let output = Output::create(&self.path).map_err(failure)?;
        output.belong_as(&found).map_err(|error| {
            let what = format!("its owner or permissions would not be what they were: {error}");
            Failure::of("owner", &what, "", "let its owner do this, or root")
        })?;
        Ok((found, output))
    }

    fn put(&self, output: Output) -> Result<(), Failure> {
        output.file().sync_all()?;
        let (file, new) = output.name().map_err(failure)?;
        let expected = Stamp::of(&self.found);
        match exchange::exchange(&new, &self.path, &expected) {
            Ok(Exchanged::Done) => {}
            Ok(Exchanged::Kept) => return Err(failure(Error::Changed)),
            // It may be the only one.
            Ok(Exchanged::Unclear) => return Err(beside(new, "somebody else replaced it at the same time")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(failure(Error::Changed)),
            Err(error) if exchange::cannot(&error) => {
                if Stamp::at(&self.path)? != Some(expected) {
                    return Err(failure(Error::Changed));
                }
                new.persist(&self.path).map_err(|refused| refused.error)?;
                return Ok(filesystem::synchronise_name(&file, &self.path)?);
            }
            Err(error) => return Err(error.into()),
        }
        // The new name is durable before the old file is gone.
        filesystem::synchronise_name(&file, &self.path).map_err(|error| beside(new, &error.to_string()))
    }
}

/// A failure that leaves a version beside the place, which is not removed.
fn beside(version: TempPath, what: &str) -> Failure {
    let next = match version.keep() {
        Ok(path) => format!("look at {}: it may be the version that you want", path.display()),
        Err(_) => "look at the file, and try again".to_owned(),
    };
    Failure::of("changed", what, "", &next)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    fn output(place: &Place) -> Output {
        let output = Output::create(&place.path).unwrap();
        output.file().write_all(b"ours").unwrap();
        output
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_came_meanwhile_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "old").unwrap();
        let place = Place::of(&path).unwrap();
        place.put(output(&place)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"ours");

        let place = Place::of(&path).unwrap();
        fs::write(folder.path().join("newer"), "newer").unwrap();
        fs::rename(folder.path().join("newer"), &path).unwrap();
        assert_eq!(place.put(output(&place)).unwrap_err().code(), Some("changed"));
        assert_eq!(fs::read(&path).unwrap(), b"newer");
        fs::remove_file(&path).unwrap();
        assert_eq!(place.put(output(&place)).unwrap_err().code(), Some("changed"));
        assert_eq!(names(folder.path()), [""; 0]);
    }
}
