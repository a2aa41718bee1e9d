//! The folder of endorsements: what is in it, and how something is put there.
//!
//! Every file is read whose name does not begin with a dot, whatever it is called. Files that are made here have the
//! name that [`Inspected::file_name`] gives, are written beside their place and moved there, so that whoever reads the
//! folder at any time finds the old one or the new one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use keyhearth_attest::{
    ENDORSEMENT_BYTES_MAX, Endorsement, Endorsements, Inspected, Library, Reason, Refusal, Roots,
};

/// The most files that are read of a folder.
pub const FILES_MAX: usize = 8192;
/// Everybody may read endorsements: they hold no secrets.
const MODE: u32 = 0o644;

/// A folder of endorsements.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

/// What a folder holds.
#[derive(Debug, Default)]
pub struct Contents {
    /// What may be used.
    pub library: Library,
    /// Everything by its file, those that may not be used too.
    pub kept: Vec<Kept>,
}

/// One endorsement, or a file that is none.
#[derive(Debug)]
pub struct Kept {
    /// Its file's name.
    pub file: String,
    /// What it is, or why it does not count.
    pub found: Result<Inspected, Refusal>,
}

/// What became of one endorsement that was to be imported.
#[derive(Debug)]
pub struct Imported {
    /// Where it came from.
    pub source: String,
    /// What it is, or why it was refused.
    pub found: Result<Inspected, Refusal>,
    /// What was done.
    pub outcome: Outcome,
}

/// What was done with an endorsement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the folder now.
    Taken,
    /// It, or a newer one, was there already.
    Known,
    /// It is a root, which is believed without the folder.
    Root,
    /// It is not taken.
    Refused,
}

impl Outcome {
    /// A word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Known => "known",
            Self::Root => "root",
            Self::Refused => "refused",
        }
    }
}

/// Names, sizes and times of a folder's files: other ones mean that something changed.
pub type Stamp = BTreeSet<(PathBuf, u64, u64, i64, i64)>;

impl Folder {
    /// The folder at `path`.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files of the folder, by name.
    fn files(&self) -> io::Result<Vec<(PathBuf, fs::Metadata)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            // What is gone meanwhile was not there; a link counts as what it leads to.
            let Ok(metadata) = fs::metadata(entry.path()) else { continue };
            if metadata.is_file() {
                files.push((entry.path(), metadata));
            }
            if files.len() > FILES_MAX {
                return Err(io::Error::other(format!("it has more than {FILES_MAX} files")));
            }
        }
        files.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(files)
    }

    /// What tells whether the folder changed.
    ///
    /// # Errors
    /// The error of reading the folder.
    pub fn stamp(&self) -> io::Result<Stamp> {
        let stamp = |(path, metadata): (PathBuf, fs::Metadata)| {
            // Its rights count, too: what could not be read is tried again when they change.
            (path, metadata.len(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
        };
        Ok(self.files()?.into_iter().map(stamp).collect())
    }

    /// Reads every file. What is broken, or not vouched for by one of `roots`, is said and left out; what only lacks
    /// its issuer may be used, as a machine may bring that.
    ///
    /// # Errors
    /// The error of reading the folder; those of single files are in [`Contents::kept`].
    pub fn read(&self, roots: &Roots) -> io::Result<Contents> {
        let files = self.files()?.into_iter().map(|(path, _)| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (name, read_file(&path))
        });
        let mut contents = Contents::default();
        let mut all = Endorsements::of_deployment();
        let mut found = Vec::new();
        for (file, bytes) in files {
            match bytes.and_then(|bytes| parse(&bytes)) {
                Ok(several) => {
                    if let Err(refusal) = all.add_all(&several) {
                        contents.kept.push(Kept { file, found: Err(refusal) });
                        continue;
                    }
                    found.extend(several.each().map(|one| (file.clone(), one)));
                }
                Err(refusal) => contents.kept.push(Kept { file, found: Err(refusal) }),
            }
        }
        let issuers = issuers(&all);
        for (file, one) in found {
            let inspected = one.inspect(&issuers, roots);
            let added = match &inspected {
                Ok(inspected) if inspected.is_root => Ok(()),
                Ok(inspected) => contents.library.add(one, Some(&inspected.subject)),
                Err(refusal) if refusal.reason == Reason::IssuerMissing => contents.library.add(one, None),
                Err(_) => Ok(()),
            };
            contents.kept.push(Kept { file, found: added.and(inspected) });
        }
        Ok(contents)
    }

    /// Checks what was `given`, each with where it came from, and puts into the folder what is sound, in force at a
    /// time in seconds since 1970, wanted, and newer than what is there. Issuers may be given, too.
    ///
    /// # Errors
    /// The error of reading or writing the folder; what was refused is in the answer.
    pub fn import(
        &self,
        given: &[(String, Vec<u8>)],
        roots: &Roots,
        now_s: u64,
        wanted: impl Fn(&Inspected) -> bool,
    ) -> io::Result<Vec<Imported>> {
        let mut present = BTreeMap::new();
        let mut all = Endorsements::of_deployment();
        for (path, _) in self.files()? {
            let Ok(several) = read_file(&path).and_then(|bytes| parse(&bytes)) else { continue };
            if all.add_all(&several).is_ok() {
                present.insert(path, several);
            }
        }
        let mut imported = Vec::new();
        let mut found = Vec::new();
        for (source, bytes) in given {
            match parse(bytes).and_then(|several| all.add_all(&several).map(|()| several)) {
                Ok(several) => found.extend(several.each().map(|one| (source.clone(), one))),
                Err(refusal) => imported.push(Imported::refused(source.clone(), refusal)),
            }
        }
        let issuers = issuers(&all);
        for (source, one) in found {
            let inspected = match one.inspect(&issuers, roots) {
                Ok(inspected) => inspected,
                Err(refusal) => {
                    imported.push(Imported::refused(source, refusal));
                    continue;
                }
            };
            let stale = inspected.out_of_force(now_s).map(|reason| reason.because(source.clone()));
            let path = self.path.join(inspected.file_name());
            let outcome = if inspected.is_root {
                Outcome::Root
            } else if let Some(refusal) = stale {
                imported.push(Imported::refused(source, refusal));
                continue;
            } else if !wanted(&inspected) {
                continue;
            } else if present
                .get(&path)
                .is_some_and(|there| is_known(&one, &inspected, there, &issuers, roots))
            {
                Outcome::Known
            } else {
                self.write(&path, &one.bytes())?;
                let mut there = Endorsements::default();
                if there.add_one(&one).is_ok() {
                    present.insert(path, there);
                }
                Outcome::Taken
            };
            imported.push(Imported { source, found: Ok(inspected), outcome });
        }
        Ok(imported)
    }

    /// Writes a file in one step, durably. A crash leaves the old one, and at most a file whose name begins with a dot.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = tempfile::Builder::new()
            .prefix(".new-")
            .permissions(fs::Permissions::from_mode(MODE))
            .tempfile_in(&self.path)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        fs::File::open(&self.path)?.sync_all()
    }
}

impl Imported {
    fn refused(source: String, refusal: Refusal) -> Self {
        Self { source, found: Err(refusal), outcome: Outcome::Refused }
    }
}

/// Whether a file holds this one, or something newer of the same.
fn is_known(
    one: &Endorsement,
    inspected: &Inspected,
    there: &Endorsements,
    issuers: &Endorsements,
    roots: &Roots,
) -> bool {
    there.each().any(|other| {
        other == *one || other.inspect(issuers, roots).is_ok_and(|other| !inspected.is_newer_than(&other))
    })
}

/// Certificates alone: chips' certificates and the rest vouch for nothing.
fn issuers(all: &Endorsements) -> Endorsements {
    all.issuers()
}

fn parse(bytes: &[u8]) -> Result<Endorsements, Refusal> {
    let mut several = Endorsements::of_deployment();
    several.add(bytes)?;
    Ok(several)
}

/// Reads a file; one byte more than an endorsement has is enough to refuse it.
fn read_file(path: &Path) -> Result<Vec<u8>, Refusal> {
    let read = || {
        let mut bytes = Vec::new();
        fs::File::open(path)?.take(ENDORSEMENT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|error: io::Error| Reason::EndorsementMalformed.because(error.to_string()))
}
