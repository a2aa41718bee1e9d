//! `file open`, and reading the headers of sealed files.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use clap::Args;
use keyhearth_files::age::{FileKey, Header, Identity};
use keyhearth_files::held::Wrapped;
use keyhearth_files::{Error, Opened};

use super::super::failure::Failure;
use super::super::input;
use super::super::session::{Server, Session};
use super::many::{BATCH, Found, LARGE_BYTES, Target, Told, Written, each};
use super::{Place, SUFFIX, failure, keys};

/// The longest file of identities that is read, in bytes.
const IDENTITIES_BYTES_MAX: usize = 64 * 1024;

#[derive(Args)]
pub struct Open {
    /// The sealed files, and folders of them; `-` is standard input
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// A file of identities (`AGE-SECRET-KEY-1…`), to open without the server
    #[arg(short, long, value_name = "FILE")]
    identity: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

/// A sealed file whose key is known.
struct Job {
    source: PathBuf,
    place: PathBuf,
    opened: Opened,
    file_key: FileKey,
}

impl Job {
    fn is_large(&self) -> bool {
        self.source.metadata().is_ok_and(|metadata| metadata.len() >= LARGE_BYTES)
    }
}

/// Who opens.
pub enum Opener<'s> {
    /// The server.
    Server(&'s Server),
    /// Whoever has these.
    Identities(Vec<Identity>),
}

impl Opener<'_> {
    /// The keys of the files with these headers, each or why not.
    ///
    /// # Errors
    /// [`Failure`] if the server refuses all, or does not answer.
    pub fn keys(&self, headers: &[&Header]) -> Result<Vec<Result<FileKey, Failure>>, Failure> {
        match self {
            Self::Server(server) => from_server(server, headers),
            Self::Identities(identities) => {
                Ok(headers.iter().map(|header| by_identity(identities, header).map_err(failure)).collect())
            }
        }
    }
}

fn by_identity(identities: &[Identity], header: &Header) -> Result<FileKey, Error> {
    for identity in identities {
        if let Some(key) = identity.unwrap(&header.stanzas)? {
            return Ok(key);
        }
    }
    Err(Error::NotForUs)
}

/// Asks for all files by their first stanza that is ours, then for those that were refused by their next one.
fn from_server(server: &Server, headers: &[&Header]) -> Result<Vec<Result<FileKey, Failure>>, Failure> {
    let stanzas: Vec<Result<Vec<Wrapped>, Failure>> = headers
        .iter()
        .map(|header| match Wrapped::all(&header.stanzas) {
            Ok(found) if found.is_empty() => Err(failure(Error::NotForUs)),
            found => found.map_err(failure),
        })
        .collect();
    let mut keys: Vec<Option<Result<FileKey, Failure>>> = stanzas.iter().map(|_| None).collect();
    for round in 0.. {
        let open = |at: &usize| !matches!(keys[*at], Some(Ok(_)));
        let asked: Vec<(usize, &Wrapped)> = (0..headers.len())
            .filter(open)
            .filter_map(|at| Some((at, stanzas[at].as_ref().ok()?.get(round)?)))
            .collect();
        if asked.is_empty() {
            break;
        }
        let wrapped: Vec<&Wrapped> = asked.iter().map(|(_, wrapped)| *wrapped).collect();
        for ((at, _), key) in asked.iter().zip(keys::unwrap(server, &wrapped)?) {
            keys[*at] = Some(key);
        }
    }
    let told = keys.into_iter().zip(stanzas).map(|(key, stanzas)| match (key, stanzas) {
        (Some(key), _) => key,
        (None, Err(refusal)) => Err(refusal),
        (None, Ok(_)) => Err(failure(Error::NotForUs)),
    });
    Ok(told.collect())
}

impl Open {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let server = if self.identity.is_none() { Some(session.server()?) } else { None };
        let opener = match (&self.identity, &server) {
            (Some(path), _) => Opener::Identities(identities(path)?),
            (None, Some(server)) => Opener::Server(server),
            (None, None) => return Err(failure(Error::NotForUs)),
        };
        if self.files == [Path::new("-")] {
            return self.pipe(&opener);
        }
        let mut found = Found::walk(&self.files);
        if self.place.is_pipe() {
            return match &self.files[..] {
                [path] => self.stream(&opener, read(path)?),
                _ => {
                    Err(Failure::new("standard output takes one file", "name one, or a folder with --output"))
                }
            };
        }
        let target = Target::new(&self.place, &self.files);
        let told = Told::new(session, found.count(), "opening");
        found.tell_refused(&told);
        let opening = found.files.chunks(BATCH).try_for_each(|batch| {
            let (large, small): (Vec<_>, Vec<_>) =
                self.jobs(&opener, batch, &target, &told)?.into_iter().partition(Job::is_large);
            let threads = self.place.threads();
            let mut written = each(threads, small, |job| self.write(job, 1));
            written.extend(large.into_iter().map(|job| self.write(job, threads)));
            target.finish(written, &told)
        });
        let flushed = target.synchronise();
        told.finish(session, "opened", opening.and(flushed))
    }

    /// Reads the headers of a batch of files and asks for their keys; tells of those that can not be opened.
    fn jobs(
        &self,
        opener: &Opener<'_>,
        files: &[(PathBuf, PathBuf)],
        target: &Target<'_>,
        told: &Told,
    ) -> Result<Vec<Job>, Failure> {
        let mut read_files = Vec::new();
        for (path, inside) in files {
            match place_of(target, path, inside).and_then(|place| Ok((place, read(path)?))) {
                Ok((place, opened)) => read_files.push((path, place, opened)),
                Err(refusal) => told.tell(path, Err(refusal)),
            }
        }
        let headers: Vec<&Header> = read_files.iter().map(|(_, _, opened)| &opened.header).collect();
        let keys = opener.keys(&headers)?;
        let mut jobs = Vec::new();
        for ((path, place, opened), key) in read_files.into_iter().zip(keys) {
            match key {
                Ok(file_key) => jobs.push(Job { source: path.clone(), place, opened, file_key }),
                Err(refusal) => told.tell(path, Err(refusal)),
            }
        }
        Ok(jobs)
    }

    fn write(&self, job: Job, threads: usize) -> Written {
        let Job { source, place, opened, file_key } = job;
        let made = self.place.create(&place).and_then(|output| {
            let bytes = opened.write_to(&file_key, output.file(), threads).map_err(failure)?;
            Ok((output, bytes))
        });
        Written { source, place, made }
    }

    /// Standard input, to standard output or a file.
    fn pipe(&self, opener: &Opener<'_>) -> Result<(), Failure> {
        let opened = keyhearth_files::open_stream(Box::new(io::stdin())).map_err(failure)?;
        self.stream(opener, opened)
    }

    fn stream(&self, opener: &Opener<'_>, opened: Opened) -> Result<(), Failure> {
        let keys = opener.keys(&[&opened.header])?;
        let file_key = keys.into_iter().next().unwrap_or_else(|| Err(failure(Error::NotForUs)))?;
        match &self.place.output {
            Some(path) if !self.place.is_pipe() => self
                .place
                .make(path, |output| opened.write_to(&file_key, output, 1).map(drop).map_err(failure)),
            Some(_) | None => {
                if io::stdout().is_terminal() && self.place.output.is_none() {
                    return Err(Failure::new(
                        "standard output is a terminal",
                        "name a file with --output, use a pipe, or add --output -",
                    ));
                }
                opened.stream_to(&file_key, &mut io::stdout().lock()).map_err(failure)?;
                Ok(())
            }
        }
    }
}

/// Where the file that the sealed one at `path` becomes goes.
fn place_of(target: &Target<'_>, path: &Path, inside: &Path) -> Result<PathBuf, Failure> {
    let name = match path.extension() {
        Some(suffix) if suffix == SUFFIX => path.with_extension(""),
        _ if target.is_named() => path.to_owned(),
        _ => {
            let next = "name what to make of it with --output";
            return Err(Failure::of("no_name", "its name does not end in .age", "", next));
        }
    };
    target.of(path, inside, &name)
}

/// Reads the header of the file at `path`.
pub fn read(path: &Path) -> Result<Opened, Failure> {
    let file = File::open(path).map_err(|error| Failure::at(path.display(), &error))?;
    keyhearth_files::open(file).map_err(failure)
}

/// The identities in a file: one on each line, comments after `#`.
fn identities(path: &Path) -> Result<Vec<Identity>, Failure> {
    let bytes = input::read(path, IDENTITIES_BYTES_MAX)?;
    let text = str::from_utf8(&bytes)
        .map_err(|_| Failure::new("the identities are no text", "name another file"))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| Identity::read(line).map_err(failure)).collect()
}
