//! Many files at once: what became of each, how far it is, and threads that do the work.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::fs::{File, FileType};
use std::io;
use std::num::NonZero;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use keyhearth_files::{Error, Output, manifest};
use keyhearth_sys::filesystem;
use serde::Serialize;

use super::super::failure::Failure;
use super::super::output;
use super::super::session::Session;
use super::Place;

/// Files whose keys are asked for in one request.
pub const BATCH: usize = keyhearth_proto::rest::BATCH_MAX;
/// Batches of files that are in work at once.
const LANES: usize = 3;
/// Files in one of them: each has two open at a time, and many systems let a program have 1024.
const LANE_FILES: usize = 128;
/// A file with so many bytes gets all threads; smaller ones get one each.
const LARGE_BYTES: u64 = 16 << 20;
/// Files that are told one by one; of more, the sums.
const TOLD_MAX: usize = 20;
const BAR: &str = "{msg}  {bar:40} {human_pos}/{human_len} {eta}";
const BYTES_BAR: &str = "{msg:20!}  {bar:20} {binary_bytes}/{binary_total_bytes} {eta}";
/// How often a bar of bytes moves.
const REDRAWN: Duration = Duration::from_millis(100);
/// What filesystems count by, in bytes.
const BLOCK_BYTES: u64 = 512;

/// What became of a file.
#[derive(Serialize)]
pub struct Done {
    /// The file that was given.
    pub path: String,
    /// What was made.
    pub output: String,
    /// Bytes of plaintext.
    pub bytes: u64,
}

/// A file that was not done, and why.
#[derive(Serialize)]
pub struct Failed {
    path: String,
    code: String,
    message: String,
    next_step: String,
    /// By which the server's log knows the refusal, if it is one of the server's.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

impl Failed {
    pub fn new(path: &Path, failure: &Failure) -> Self {
        Self {
            path: path.display().to_string(),
            code: failure.code().unwrap_or("local").to_owned(),
            message: failure.to_string(),
            next_step: failure.next().to_owned(),
            request_id: failure.request_id().map(str::to_owned),
        }
    }

    /// Tells of those that were not `done` beside so many that were.
    ///
    /// # Errors
    /// [`Failure`] if there are any.
    pub fn finish(failed: &[Self], done_files: usize, session: &Session, done: &str) -> Result<(), Failure> {
        let Some(first) = failed.first() else { return Ok(()) };
        if !session.json() {
            for failed in failed.iter().take(TOLD_MAX) {
                eprintln!(
                    "not {done}: {}: {}",
                    output::one_line(&failed.path),
                    output::one_line(&failed.message)
                );
            }
        }
        let what = format!("{} of {} files were not {done}", failed.len(), failed.len() + done_files);
        let others = if done_files > 0 { "; the others are done" } else { "" };
        Err(Failure::of(&first.code, &what, "", &format!("{}{others}", first.next_step)))
    }
}

/// What became of all files.
#[derive(Serialize, Default)]
struct Outcomes {
    files: Vec<Done>,
    failed: Vec<Failed>,
    /// What else is good to know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

/// A progress bar over so many files, where somebody watches; `doing` is what it says.
pub fn bar(session: &Session, files: usize, doing: &'static str) -> ProgressBar {
    let bar =
        if session.watched() && files != 1 { ProgressBar::new(files as u64) } else { ProgressBar::hidden() };
    bar.set_style(ProgressStyle::with_template(BAR).expect("the template is well formed"));
    bar.set_message(doing);
    bar
}

/// Collects what becomes of files, from any thread.
pub struct Told {
    bars: MultiProgress,
    bar: ProgressBar,
    outcomes: Mutex<Outcomes>,
}

impl Told {
    /// For so many files; `doing` is what the progress bar says.
    pub fn new(session: &Session, files: usize, doing: &'static str) -> Self {
        let bars = MultiProgress::new();
        if !session.watched() {
            bars.set_draw_target(ProgressDrawTarget::hidden());
        }
        let bar = bars.add(bar(session, files, doing));
        Self { bars, bar, outcomes: Mutex::default() }
    }

    /// Does `work`, which writes so many bytes or a few more into `output`; if they are many, shows how far it is, where somebody
    /// watches.
    pub fn watch<R>(&self, output: &File, path: &Path, bytes: u64, work: impl FnOnce() -> R) -> R {
        if self.bars.is_hidden() || bytes < LARGE_BYTES {
            return work();
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let style = ProgressStyle::with_template(BYTES_BAR).expect("the template is well formed");
        let bar = self.bars.add(ProgressBar::new(bytes)).with_style(style);
        bar.set_message(output::one_line(&name));
        let done = thread::scope(|scope| {
            // Ends, too, if the work panics.
            let (_at_work, ended) = mpsc::channel::<()>();
            let bar = &bar;
            scope.spawn(move || {
                while ended.recv_timeout(REDRAWN) == Err(RecvTimeoutError::Timeout) {
                    let blocks = output.metadata().map_or(0, |metadata| metadata.blocks());
                    bar.set_position((blocks * BLOCK_BYTES).min(bytes));
                }
            });
            work()
        });
        bar.finish_and_clear();
        done
    }

    /// Takes note of what is good to know besides; people read it at once.
    pub fn note(&self, session: &Session, text: String) {
        session.hint(&text);
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).notes.push(text);
    }

    /// Takes note of one file.
    pub fn tell(&self, path: &Path, outcome: Result<Done, Failure>) {
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(done) => outcomes.files.push(done),
            Err(failure) => outcomes.failed.push(Failed::new(path, &failure)),
        }
        self.bar.inc(1);
    }

    /// What was made so far.
    pub fn made(&self) -> Vec<PathBuf> {
        let outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        outcomes.files.iter().map(|done| PathBuf::from(&done.output)).collect()
    }

    /// Prints what became of them: `done` is the word for those that went well, `end` how the whole ended.
    ///
    /// # Errors
    /// [`Failure`] if there are files that were not done, or the whole ended early.
    pub fn finish(self, session: &Session, done: &str, end: Result<(), Failure>) -> Result<(), Failure> {
        self.bar.finish_and_clear();
        let mut outcomes = self.outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
        outcomes.files.sort_by(|a, b| a.path.cmp(&b.path));
        outcomes.failed.sort_by(|a, b| a.path.cmp(&b.path));
        let mut words = Vec::new();
        if outcomes.files.len() <= TOLD_MAX {
            words.extend(outcomes.files.iter().map(|file| {
                let (path, place) = (output::one_line(&file.path), output::one_line(&file.output));
                if path == place { format!("{done} {path}") } else { format!("{done} {path} as {place}") }
            }));
        } else {
            let bytes: u64 = outcomes.files.iter().map(|file| file.bytes).sum();
            words.push(format!("{done} {} files, {}", outcomes.files.len(), indicatif::BinaryBytes(bytes)));
        }
        if session.json() || !outcomes.files.is_empty() {
            session.say(&outcomes, &words.join("\n"))?;
        }
        let failed = Failed::finish(&outcomes.failed, outcomes.files.len(), session, done);
        end.and(failed)
    }
}

/// Does `work` with each job on `threads` threads, and gives what came of them in their order.
pub fn each<J: Send, R: Send>(threads: usize, jobs: Vec<J>, work: impl Fn(J) -> R + Sync) -> Vec<R> {
    let results: Vec<Mutex<Option<R>>> = jobs.iter().map(|_| Mutex::default()).collect();
    let jobs = Mutex::new(jobs.into_iter().enumerate());
    let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).next();
    thread::scope(|scope| {
        for _ in 0..threads.min(results.len()) {
            scope.spawn(|| {
                while let Some((at, job)) = next() {
                    *results[at].lock().unwrap_or_else(PoisonError::into_inner) = Some(work(job));
                }
            });
        }
    });
    results
        .into_iter()
        .filter_map(|result| result.into_inner().unwrap_or_else(PoisonError::into_inner))
        .collect()
}

/// The same with files: small ones get one of `small` threads each, large ones all threads, one after another in the whole process.
/// `work` is told how many.
pub fn each_file<J: Send, R: Send>(
    small: usize,
    threads: usize,
    jobs: Vec<J>,
    bytes: impl Fn(&J) -> u64 + Sync,
    work: impl Fn(J, usize) -> R + Sync,
) -> Vec<R> {
    static LARGE: Mutex<()> = Mutex::new(());
    let done = each(small, jobs, |job| if bytes(&job) < LARGE_BYTES { Ok(work(job, 1)) } else { Err(job) });
    let large = |large| {
        let _one = LARGE.lock().unwrap_or_else(PoisonError::into_inner);
        work(large, threads)
    };
    done.into_iter().map(|done| done.unwrap_or_else(large)).collect()
}

/// Does `work` with all files, some in each of a few lanes: while one waits for the server or the disk, the others go on. It is told
/// how many threads each lane has for small files. With one thread there is one lane.
///
/// # Errors
/// The first [`Failure`]; what comes after is not begun.
pub fn in_lanes<F: Sync>(
    threads: usize,
    files: &[F],
    work: impl Fn(&[F], usize) -> Result<(), Failure> + Sync,
) -> Result<(), Failure> {
    let count = files.len().div_ceil(LANE_FILES);
    let lanes = if threads == 1 { 1 } else { LANES.min(count).max(1) };
    let batches = Mutex::new(files.chunks(LANE_FILES));
    let batches = || batches.lock().unwrap_or_else(PoisonError::into_inner);
    let next = || batches().next();
    let lane = |_| {
        while let Some(batch) = next() {
            work(batch, threads.div_ceil(lanes)).inspect_err(|_| *batches() = [].chunks(LANE_FILES))?;
        }
        Ok(())
    };
    each(lanes, vec![(); lanes], lane).into_iter().collect()
}

/// What became of a file that was to be written.
pub struct Written<'p> {
    /// The file it was made of.
    pub source: &'p Path,
    /// Where it goes.
    pub place: &'p Path,
    /// What was written whole and has no name yet, and its bytes of plaintext.
    pub made: Result<(Output, u64), Failure>,
}

/// A folder on each filesystem that is written to, by the filesystem's number. A flush tells of what failed since the folder was opened, so
/// it is opened before.
type Filesystems = BTreeMap<u64, File>;

/// Where one run puts what it makes.
pub struct Target<'p> {
    place: &'p Place,
    /// Whether the place that was given is a folder, there already or to be made.
    is_folder: bool,
    /// Of each filesystem that was written to, by its number: from before.
    written: Mutex<Filesystems>,
}

impl<'p> Target<'p> {
    /// Of what is made of the files and folders that were named.
    pub fn new(place: &'p Place, named: &[PathBuf]) -> Self {
        let is_folder = match named {
            [one] => one.is_dir() || place.output.as_ref().is_some_and(|path| path.is_dir()),
            _ => true,
        };
        Self { place, is_folder, written: Mutex::default() }
    }

    /// Whether one file's place was given by its name.
    pub fn is_named(&self) -> bool {
        !self.is_folder && self.place.output.is_some()
    }

    /// Where the file made of `source` goes: under `name` beside it, below the output folder at `inside`, or, for one
    /// file, at the path that was given.
    fn of(&self, source: &Path, inside: &Path, name: &Path) -> PathBuf {
        let name = name.file_name().unwrap_or_default();
        match &self.place.output {
            None => source.with_file_name(name),
            Some(path) if self.is_folder => path.join(inside.with_file_name(name)),
            Some(path) => path.clone(),
        }
    }

    /// Where what is made of each file goes, under the name that `name` gives it; tells of those that have no place. No two files go
    /// to the same, and none to that of a file that is still to be read.
    pub fn places(
        &self,
        files: Vec<(PathBuf, PathBuf)>,
        told: &Told,
        name: impl Fn(&Path) -> Result<PathBuf, Failure>,
    ) -> Vec<(PathBuf, PathBuf)> {
        let sources: HashSet<FileNumber> = match self.place.force {
            // What gets no name is not read.
            true => files
                .iter()
                .filter(|(source, _)| name(source).is_ok())
                .filter_map(|(source, _)| number(source))
                .collect(),
            false => HashSet::new(),
        };
        let mut taken = HashSet::new();
        let mut place_of = |source: &Path, inside: &Path| {
            let place = self.of(source, inside, &name(source)?);
            if !sources.is_empty() && number(&place).is_some_and(|place| sources.contains(&place)) {
                let what = format!("{} is one of the files that something is made of", place.display());
                return Err(Failure::of("same_place", &what, "", "name another place with --output"));
            }
            if taken.insert(place.clone()) {
                return Ok(place);
            }
            let what = format!("{} is what another of these files becomes", place.display());
            Err(Failure::of("same_place", &what, "", "give these files to commands of their own"))
        };
        let placed = files.into_iter().filter_map(|(source, inside)| match place_of(&source, &inside) {
            Ok(place) => Some((source, place)),
            Err(refusal) => {
                told.tell(&source, Err(refusal));
                None
            }
        });
        placed.collect()
    }

    /// The filesystems that a batch goes to.
    pub fn filesystems(&self, batch: &[(PathBuf, PathBuf)]) -> Result<Filesystems, Failure> {
        let folders: HashSet<&Path> = batch.iter().filter_map(|(_, place)| place.parent()).collect();
        let mut filesystems = BTreeMap::new();
        for folder in folders {
            // One that is still to be made is where the one above it is.
            let there =
                folder.ancestors().map(|path| if path == Path::new("") { Path::new(".") } else { path });
            let is_missing = |opened: &io::Result<File>| {
                opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
            };
            if let Some(Ok(folder)) = there.map(File::open).find(|opened| !is_missing(opened)) {
                filesystems.insert(folder.metadata()?.dev(), folder);
            }
        }
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, folder) in &filesystems {
            if let Entry::Vacant(place) = written.entry(*number) {
                place.insert(folder.try_clone()?);
            }
        }
        Ok(filesystems)
    }

    /// Gives files their names once they are on the disk, and tells of them. One flush serves all: one for each would take as long as
    /// all the rest.
    pub fn finish(&self, files: Vec<Written<'_>>, on: &Filesystems, told: &Told) -> Result<(), Failure> {
        // Of a folder that may not be read.
        let mut others = Filesystems::new();
        for (output, _) in files.iter().filter_map(|file| file.made.as_ref().ok()) {
            let number = output.file().metadata()?.dev();
            if !on.contains_key(&number)
                && let Entry::Vacant(place) = others.entry(number)
            {
                place.insert(output.file().try_clone()?);
            }
        }
        flush(on)?;
        flush(&others)?;
        self.written.lock().unwrap_or_else(PoisonError::into_inner).append(&mut others);
        for Written { source, place, made } in files {
            let done = made.and_then(|(output, bytes)| {
                let finished = if self.place.force { output.replace() } else { output.finish() };
                finished.map_err(super::failure)?;
                Ok(Done { path: source.display().to_string(), output: place.display().to_string(), bytes })
            });
            told.tell(source, done);
        }
        Ok(())
    }

    /// Waits until the names are on the disk, too.
    pub fn synchronise(&self) -> Result<(), Failure> {
        flush(&self.written.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn flush(on: &Filesystems) -> Result<(), Failure> {
    Ok(on.values().try_for_each(filesystem::synchronise)?)
}

impl Place {
    /// How many threads to work on.
    pub fn threads(&self) -> usize {
        let asked = self.threads.map(usize::from);
        asked.unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZero::get))
    }

    /// Whether standard output was asked for.
    pub fn is_pipe(&self) -> bool {
        self.output.as_deref() == Some(Path::new("-"))
    }

    /// Begins the file at `place` and the folders above it.
    pub fn create(&self, place: &Path) -> Result<Output, Failure> {
        match place.symlink_metadata() {
            Ok(_) if !self.force => {
                let next = "move it, name another place with --output, or add --force to replace it";
                let what = format!("{} is there already", place.display());
                return Err(Failure::of("exists", &what, "", next));
            }
            Ok(there) => is_regular(there.file_type()).map_err(|_| {
                let what = format!("{} is no regular file, and is not replaced", place.display());
                Failure::of("not_a_file", &what, "", "name another place with --output")
            })?,
            // It will show when the file is made.
            Err(_) => {}
        }
        let output = match Output::create(place) {
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                place.parent().map_or(Ok(()), super::super::made::folder)?;
                Output::create(place)
            }
            output => output,
        };
        output.map_err(super::failure)
    }

    /// Makes one file of a pipe.
    pub fn make(
        &self,
        place: &Path,
        write: impl FnOnce(&File) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if self.force && number(place).is_some_and(|there| number(Path::new("/dev/stdin")) == Some(there)) {
            let what = format!("{} is standard input, too", place.display());
            return Err(Failure::of("same_place", &what, "", "name another place with --output"));
        }
        let output = self.create(place)?;
        write(output.file())?;
        output.file().sync_all()?;
        let finished = if self.force { output.replace() } else { output.finish() };
        finished.map_err(super::failure)?;
        let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(File::open(folder)?.sync_all()?)
    }
}

/// Files that were named, or lie in folders that were.
#[derive(Default)]
pub struct Found {
    /// Regular files: where each is, and where it is within what was named.
    pub files: Vec<(PathBuf, PathBuf)>,
    /// What is something else, or can not be read.
    refused: Vec<(PathBuf, Failure)>,
}

impl Found {
    /// Looks for them.
    pub fn walk(named: &[PathBuf]) -> Self {
        let mut found = Self::default();
        for path in named {
            if path.is_dir() && !path.is_symlink() {
                found.below(path, Path::new(""));
            } else {
                found.add(
                    path.clone(),
                    path.file_name().map(PathBuf::from).unwrap_or_default(),
                    regular(path),
                );
            }
        }
        found
    }

    /// How many there are, the refused ones too.
    pub fn count(&self) -> usize {
        self.files.len() + self.refused.len()
    }

    /// What is refused, and why.
    pub fn take_refused(&mut self) -> Vec<(PathBuf, Failure)> {
        std::mem::take(&mut self.refused)
    }

    /// Tells of what is refused.
    pub fn tell_refused(&mut self, told: &Told) {
        self.refused.drain(..).for_each(|(path, refusal)| told.tell(&path, Err(refusal)));
    }

    fn below(&mut self, folder: &Path, inside: &Path) {
        let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let entries = match entries {
            Ok(entries) => entries,
            Err(error) => {
                return self.refused.push((folder.to_owned(), Failure::at(folder.display(), &error)));
            }
        };
        for entry in entries {
            let (path, inside) = (entry.path(), inside.join(entry.file_name()));
            match entry.file_type() {
                // What lies there is of the folder, and nobody's file.
                Ok(kind) if kind.is_dir() && entry.file_name() == manifest::FOLDER => {}
                Ok(kind) if kind.is_dir() => self.below(&path, &inside),
                Ok(kind) => self.add(path, inside, is_regular(kind)),
                Err(error) => {
                    let refusal = Failure::at(path.display(), &error);
                    self.refused.push((path, refusal));
                }
            }
        }
    }

    fn add(&mut self, path: PathBuf, inside: PathBuf, is_regular: Result<(), Failure>) {
        match is_regular {
            Ok(()) => self.files.push((path, inside)),
            Err(refusal) => self.refused.push((path, refusal)),
        }
    }
}

/// What a file is on its machine, whatever it is called.
type FileNumber = (u64, u64);

fn number(path: &Path) -> Option<FileNumber> {
    path.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Refuses what is no regular file.
pub fn regular(path: &Path) -> Result<(), Failure> {
    let metadata = path.symlink_metadata().map_err(|error| Failure::at(path.display(), &error))?;
    is_regular(metadata.file_type())
}

fn is_regular(kind: FileType) -> Result<(), Failure> {
    let what = match kind {
        kind if kind.is_file() => return Ok(()),
        kind if kind.is_symlink() => "a symbolic link",
        kind if kind.is_dir() => "a folder",
        _ => "a device, a socket or a pipe",
    };
    Err(Failure::of("not_a_file", &format!("it is {what}"), "", "name the file itself"))
}
