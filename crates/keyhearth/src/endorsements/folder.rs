//! The folder of endorsements: what is in it, and how something is put there.
//!
//! Every file is read whose name does not begin with a dot, whatever it is called. Files that are made here have the
//! name that [`Inspected::file_name`] gives, are written beside their place and moved there, so that whoever reads the
//! folder at any time finds the old one or the new one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use keyhearth_attest::{
    ENDORSEMENT_BYTES_MAX, Endorsement, Endorsements, Inspected, Library, Reason, Refusal, Roots,
};

/// The most files that are read of a folder.
pub const FILES_MAX: usize = 8192;
/// The most bytes that are read of a folder: a server has them in memory, and a part of them for each evidence.
pub const FOLDER_BYTES_MAX: u64 = 32 << 20;
/// How long an import waits for another one to end. One that hangs is not waited for: what it might undo comes again.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// How often it looks meanwhile.
const LOCK_LOOK: Duration = Duration::from_millis(20);
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
    /// Files that could not be read now, and why. They count as they did before.
    pub unread: Vec<(String, io::Error)>,
    /// What each file held.
    files: BTreeMap<String, Endorsements>,
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

    /// The files of the folder, by name. An error says which limit it is beyond.
    fn files(&self) -> io::Result<Vec<(PathBuf, fs::Metadata)>> {
        let (mut files, mut room) = (Vec::new(), Room::default());
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            // What is gone meanwhile was not there; a link counts as what it leads to.
            let Ok(metadata) = fs::metadata(entry.path()) else { continue };
            if metadata.is_file() {
                room.take(metadata.len())?;
                files.push((entry.path(), metadata));
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
    /// its issuer may be used, as a machine may bring that. A file that cannot be read is as it was in `before`: a list
    /// that the disk cannot give for a moment still revokes.
    ///
    /// # Errors
    /// The error of reading the folder; those of single files are in [`Contents::kept`] and [`Contents::unread`].
    pub fn read(&self, roots: &Roots, before: &Contents) -> io::Result<Contents> {
        let mut contents = Contents::default();
        let mut all = Endorsements::of_deployment();
        let mut found = Vec::new();
        for (path, _) in self.files()? {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let parsed = match read_file(&path) {
                Ok(bytes) => parse(&bytes),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    let as_it_was = before.files.get(&file).cloned();
                    contents.unread.push((file.clone(), error));
                    let Some(as_it_was) = as_it_was else { continue };
                    Ok(as_it_was)
                }
            };
            match parsed.and_then(|several| all.add_all(&several).map(|()| several)) {
                Ok(several) => {
                    found.extend(several.each().map(|one| (file.clone(), one)));
                    contents.files.insert(file, several);
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
    /// time in seconds since 1970, wanted, and newer than what is there. Issuers may be given, too. Imports wait for
    /// each other, so that what is newer stays.
    ///
    /// # Errors
    /// The error of reading or writing the folder, which may be full; what was refused is in the answer.
    pub fn import(
        &self,
        given: &[(String, Vec<u8>)],
        roots: &Roots,
        now_s: u64,
        wanted: impl Fn(&Inspected) -> bool,
    ) -> io::Result<Vec<Imported>> {
        let _lock = self.lock()?;
        let (mut present, mut unread, mut room) = (BTreeMap::new(), BTreeMap::new(), Room::default());
        let mut all = Endorsements::of_deployment();
        for (path, metadata) in self.files()? {
            room.take(metadata.len())?;
            let bytes = match read_file(&path) {
                Ok(bytes) => bytes,
                Err(error) => {
                    unread.insert(path, error);
                    continue;
                }
            };
            let Ok(several) = parse(&bytes) else { continue };
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
            } else if let Some(error) =
                unread.remove(&path).filter(|error| error.kind() != io::ErrorKind::NotFound)
            {
                // Nobody can tell whether what is there is newer.
                return Err(error);
            } else {
                let bytes = one.bytes();
                room.take(bytes.len() as u64)?;
                self.write(&path, &bytes)?;
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

    /// Keeps other imports out until it is dropped. The folder itself is locked, as users of different rights put things
    /// there. Where the file system has no such locks, or the other import hangs, this one goes on.
    ///
    /// Source: flock(2).
    fn lock(&self) -> io::Result<fs::File> {
        let (folder, end) = (fs::File::open(&self.path)?, Instant::now() + LOCK_WAIT);
        while let Err(TryLockError::WouldBlock) = folder.try_lock() {
            if Instant::now() >= end {
                break;
            }
            thread::sleep(LOCK_LOOK);
        }
        Ok(folder)
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

/// What a folder has of what it may have.
#[derive(Default)]
struct Room {
    files: usize,
    bytes: u64,
}

impl Room {
    /// Makes room for a file, of which no more is read than an endorsement has.
    fn take(&mut self, bytes: u64) -> io::Result<()> {
        self.files += 1;
        self.bytes += bytes.min(ENDORSEMENT_BYTES_MAX as u64);
        if self.files <= FILES_MAX && self.bytes <= FOLDER_BYTES_MAX {
            return Ok(());
        }
        let mib = FOLDER_BYTES_MAX >> 20;
        let limit =
            format!("more than {FILES_MAX} files or {mib} MiB; remove what is over or of no machine here");
        Err(io::Error::new(io::ErrorKind::StorageFull, limit))
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
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(ENDORSEMENT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
