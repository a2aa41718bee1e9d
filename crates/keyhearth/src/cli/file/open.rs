//! `file open`, and reading the headers of sealed files.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use keyhearth_files::age::{FileKey, Header, Identity};
use keyhearth_files::esdk::DataKey;
use keyhearth_files::held::Held;
use keyhearth_files::{AnyOpened, Error, Opened, Reader};
use keyhearth_proto::rest::body::Lease;

use super::super::failure::Failure;
use super::super::input;
use super::super::session::{Server, Session};
use super::super::spelled::pair;
use super::many::{Found, Target, Told, Written, each_file, in_lanes};
use super::{Place, esdk, failure, is_sealed_name, keys};

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
    /// A pair that a file must be bound to, or it is refused; can be given again
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    context: Vec<(String, String)>,
    #[command(flatten)]
    place: Place,
}

/// A sealed file whose key is known.
struct Job<'p> {
    source: &'p Path,
    place: &'p Path,
    file: Unlocked,
}

/// A sealed file of either format, and its key.
pub enum Unlocked {
    /// Of age.
    Age(Opened, FileKey),
    /// Of the AWS Encryption SDK.
    Esdk(Opened<keyhearth_files::esdk::Header>, DataKey),
}

impl Unlocked {
    /// As [`Opened::plaintext_bytes`].
    fn plaintext_bytes(&self) -> Option<u64> {
        match self {
            Self::Age(opened, _) => opened.plaintext_bytes(),
            Self::Esdk(opened, _) => opened.plaintext_bytes(),
        }
    }

    /// As [`Opened::write_to`].
    pub fn write_to(self, output: &File, threads: usize) -> Result<u64, Error> {
        match self {
            Self::Age(opened, key) => opened.write_to(&key, output, threads),
            Self::Esdk(opened, key) => opened.write_to(&key, output, threads),
        }
    }

    /// As [`Opened::into_reader`].
    pub fn into_reader(self) -> Result<Reader, Error> {
        match self {
            Self::Age(opened, key) => opened.into_reader(&key),
            Self::Esdk(opened, key) => opened.into_reader(&key),
        }
    }

    /// Proves the header.
    pub fn verify(&self) -> Result<(), Error> {
        match self {
            Self::Age(opened, key) => opened.header.verify(key),
            Self::Esdk(opened, key) => opened.header.frames(key).map(drop),
        }
    }

    /// As [`Opened::stream_to`].
    pub fn stream_to(self, output: &mut dyn Write) -> Result<u64, Error> {
        match self {
            Self::Age(opened, key) => opened.stream_to(&key, output),
            Self::Esdk(opened, key) => opened.stream_to(&key, output),
        }
    }
}

/// Who opens.
pub enum Opener<'s> {
    /// The server; what it gives is used and not kept.
    Server(&'s Server),
    /// The server, for keys that will be kept for so long.
    Leased(&'s Server, Lease),
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
            Self::Server(server) => from_server(server, headers, None),
            Self::Leased(server, lease) => from_server(server, headers, Some(*lease)),
            Self::Identities(identities) => {
                Ok(headers.iter().map(|header| by_identity(identities, header).map_err(failure)).collect())
            }
        }
    }

    /// Finds the keys of files of either format, each or why not.
    ///
    /// # Errors
    /// As [`Opener::keys`].
    pub fn unlock(&self, files: Vec<AnyOpened>) -> Result<Vec<Result<Unlocked, Failure>>, Failure> {
        let age = files.iter().filter_map(|file| match file {
            AnyOpened::Age(opened) => Some(&opened.header),
            AnyOpened::Esdk(_) => None,
        });
        let esdk = files.iter().filter_map(|file| match file {
            AnyOpened::Age(_) => None,
            AnyOpened::Esdk(opened) => Some(&opened.header),
        });
        let (age, esdk): (Vec<_>, Vec<_>) = (age.collect(), esdk.collect());
        let mut file_keys = if age.is_empty() { Vec::new() } else { self.keys(&age)? }.into_iter();
        let mut data_keys = match self {
            Self::Server(server) => esdk::data_keys(server, &esdk, None)?,
            Self::Leased(server, lease) => esdk::data_keys(server, &esdk, Some(*lease))?,
            Self::Identities(_) => esdk.iter().map(|_| Err(failure(Error::NotForUs))).collect(),
        }
        .into_iter();
        let none = || failure(Error::NotForUs);
        let unlocked = files.into_iter().map(|file| match file {
            AnyOpened::Age(opened) => Ok(Unlocked::Age(opened, file_keys.next().ok_or_else(none)??)),
            AnyOpened::Esdk(opened) => Ok(Unlocked::Esdk(opened, data_keys.next().ok_or_else(none)??)),
        });
        Ok(unlocked.collect())
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
fn from_server(
    server: &Server,
    headers: &[&Header],
    lease: keys::Lease,
) -> Result<Vec<Result<FileKey, Failure>>, Failure> {
    let stanzas: Vec<Result<Vec<Held>, Failure>> = headers
        .iter()
        .map(|header| match Held::all(&header.stanzas) {
            Ok(found) if found.is_empty() => Err(failure(Error::NotForUs)),
            found => found.map_err(failure),
        })
        .collect();
    let mut keys: Vec<Option<Result<FileKey, Failure>>> = stanzas.iter().map(|_| None).collect();
    for round in 0.. {
        let open = |at: &usize| !matches!(keys[*at], Some(Ok(_)));
        let asked: Vec<(usize, &Held)> = (0..headers.len())
            .filter(open)
            .filter_map(|at| Some((at, stanzas[at].as_ref().ok()?.get(round)?)))
            .collect();
        if asked.is_empty() {
            break;
        }
        let held: Vec<&Held> = asked.iter().map(|(_, held)| *held).collect();
        let told = match keys::open(server, &held, lease) {
            Ok(told) => told,
            // What some files ask for besides is no reason to refuse the others.
            Err(_) if round > 0 => break,
            Err(refusal) => return Err(refusal),
        };
        for ((at, _), key) in asked.iter().zip(told) {
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
                [path] => self.stream(&opener, read_any(path)?),
                _ => {
                    Err(Failure::new("standard output takes one file", "name one, or a folder with --output"))
                }
            };
        }
        let target = Target::new(&self.place, &self.files);
        let told = Told::new(session, found.count(), "opening");
        found.tell_refused(&told);
        let files = target.places(found.files, &told, |path| opened_name(&target, path));
        let opening = in_lanes(self.place.threads(), &files, |batch, small| {
            self.batch(batch, small, &opener, &target, &told)
        });
        let flushed = target.synchronise();
        told.finish(session, "opened", opening.and(flushed))
    }

    fn batch(
        &self,
        batch: &[(PathBuf, PathBuf)],
        small: usize,
        opener: &Opener<'_>,
        target: &Target<'_>,
        told: &Told,
    ) -> Result<(), Failure> {
        let (mut files, mut read) = (Vec::new(), Vec::new());
        for (source, place) in batch {
            match read_any(source).and_then(|file| self.demanded(file)) {
                Ok(file) => {
                    files.push((source, place));
                    read.push(file);
                }
                Err(refusal) => told.tell(source, Err(refusal)),
            }
        }
        let filesystems = target.filesystems(batch)?;
        let mut jobs = Vec::new();
        for ((source, place), file) in files.into_iter().zip(opener.unlock(read)?) {
            match file {
                Ok(file) => jobs.push(Job { source, place, file }),
                Err(refusal) => told.tell(source, Err(refusal)),
            }
        }
        let bytes = |job: &Job<'_>| job.file.plaintext_bytes().unwrap_or(0);
        let written = each_file(small, self.place.threads(), jobs, bytes, |job, threads| {
            self.write(job, threads, told)
        });
        target.finish(written, &filesystems, told)
    }

    /// Refuses a file that is not bound to the pairs that were given.
    fn demanded(&self, file: AnyOpened) -> Result<AnyOpened, Failure> {
        let held = match &file {
            AnyOpened::Age(opened) => Held::all(&opened.header.stanzas).map_err(failure)?,
            AnyOpened::Esdk(_) => Vec::new(),
        };
        // Whichever of them opens it.
        let is_bound = |(name, value): &&(String, String)| match &file {
            AnyOpened::Age(_) => {
                name == keys::FILE
                    && !held.is_empty()
                    && held.iter().all(|held| held.file().to_string() == *value)
            }
            AnyOpened::Esdk(opened) => opened.header.context.get(name) == Some(value),
        };
        match self.context.iter().find(|pair| !is_bound(pair)) {
            None => Ok(file),
            Some((name, value)) => {
                let what = format!("the file is not bound to {name}={value}");
                let next = "look with `keyhearth file inspect` what it is bound to";
                Err(Failure::of("other_context", &what, "", next))
            }
        }
    }

    fn write<'p>(&self, job: Job<'p>, threads: usize, told: &Told) -> Written<'p> {
        let Job { source, place, file } = job;
        let made = self.place.create(place).and_then(|output| {
            let bytes = file.plaintext_bytes().unwrap_or(0);
            let write = || file.write_to(output.file(), threads);
            let bytes = told.watch(output.file(), place, bytes, write).map_err(failure)?;
            Ok((output, bytes))
        });
        Written { source, place, made }
    }

    /// Standard input, to standard output or a file.
    fn pipe(&self, opener: &Opener<'_>) -> Result<(), Failure> {
        let opened = keyhearth_files::open_any_stream(Box::new(io::stdin())).map_err(failure)?;
        self.stream(opener, opened)
    }

    fn stream(&self, opener: &Opener<'_>, opened: AnyOpened) -> Result<(), Failure> {
        let unlocked = opener.unlock(vec![self.demanded(opened)?])?;
        let file = unlocked.into_iter().next().unwrap_or_else(|| Err(failure(Error::NotForUs)))?;
        match &self.place.output {
            Some(path) if !self.place.is_pipe() => {
                self.place.make(path, |output| file.write_to(output, 1).map(drop).map_err(failure))
            }
            Some(_) | None => {
                if io::stdout().is_terminal() && self.place.output.is_none() {
                    return Err(Failure::new(
                        "standard output is a terminal",
                        "name a file with --output, use a pipe, or add --output -",
                    ));
                }
                file.stream_to(&mut io::stdout().lock()).map(drop).map_err(failure)
            }
        }
    }
}

/// The name of the file that the sealed one at `path` becomes.
fn opened_name(target: &Target<'_>, path: &Path) -> Result<PathBuf, Failure> {
    if is_sealed_name(path) {
        Ok(path.with_extension(""))
    } else if target.is_named() {
        Ok(path.to_owned())
    } else {
        let next = "name what to make of it with --output";
        Err(Failure::of("no_name", "its name does not end in .age or .esdk", "", next))
    }
}

/// Reads the header of the file at `path`, of either format.
pub fn read_any(path: &Path) -> Result<AnyOpened, Failure> {
    let file = File::open(path).map_err(|error| Failure::at(path.display(), &error))?;
    keyhearth_files::open_any(file).map_err(failure)
}

/// The identities in a file: one on each line, comments after `#`.
fn identities(path: &Path) -> Result<Vec<Identity>, Failure> {
    let bytes = input::read(path, IDENTITIES_BYTES_MAX)?;
    let text = str::from_utf8(&bytes)
        .map_err(|_| Failure::new("the identities are no text", "name another file"))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| Identity::read(line).map_err(failure)).collect()
}
