//! `file seal`.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use keyhearth_core::request::KeyRef;
use keyhearth_files::Error;
use keyhearth_files::age::{FileKey, Header, Recipient};
use keyhearth_files::held::{self, FileId, Wrapped};

use super::super::failure::Failure;
use super::super::session::{Server, Session};
use super::super::spelled::text_of;
use super::many::{BATCH, Found, LARGE_BYTES, Target, Told, Written, each};
use super::{Place, SUFFIX, failure, keys, open};

#[derive(Args)]
pub struct Seal {
    /// The files and folders to seal; `-` is standard input
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The key that wraps the files' keys, by its id or an alias
    #[arg(long, value_parser = text_of::<KeyRef>)]
    key: String,
    /// Somebody else who can open them, without the server: `age1…`; can be given again
    #[arg(long = "recipient", value_name = "RECIPIENT")]
    recipients: Vec<Recipient>,
    #[command(flatten)]
    place: Place,
}

/// A file that was found, and what to do with it or why not.
type Planned = (PathBuf, Result<Job, Failure>);

/// A file that has its header.
struct Job {
    source: PathBuf,
    place: PathBuf,
    file_key: FileKey,
    header: Header,
}

impl Seal {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let server = session.server()?;
        if self.files == [Path::new("-")] {
            return self.pipe(&server);
        }
        if self.place.is_pipe() {
            return Err(Failure::new(
                "standard output takes one file, from standard input",
                "give `-` as the file, or a folder with --output",
            ));
        }
        let mut found = Found::walk(&self.files);
        let all = found.files.len();
        // A folder that was sealed before has sealed files in it.
        found.files.retain(|(path, _)| self.files.contains(path) || !is_sealed(path));
        if found.files.len() < all {
            session.hint(&format!("{} files are sealed already", all - found.files.len()));
        }
        let target = Target::new(&self.place, &self.files);
        let told = Told::new(session, found.count(), "sealing");
        found.tell_refused(&told);
        let sealing =
            found.files.chunks(BATCH).try_for_each(|batch| self.batch(&server, batch, &target, &told));
        let flushed = target.synchronise();
        told.finish(session, "sealed", sealing.and(flushed))
    }

    fn batch(
        &self,
        server: &Server,
        batch: &[(PathBuf, PathBuf)],
        target: &Target<'_>,
        told: &Told,
    ) -> Result<(), Failure> {
        let is_large = |job: &Job| job.source.metadata().is_ok_and(|metadata| metadata.len() >= LARGE_BYTES);
        let (mut large, mut small) = (Vec::new(), Vec::new());
        for (path, job) in self.jobs(server, batch, target)? {
            match job {
                Ok(job) if is_large(&job) => large.push(job),
                Ok(job) => small.push(job),
                Err(refusal) => told.tell(&path, Err(refusal)),
            }
        }
        let threads = self.place.threads();
        let mut written = each(threads, small, |job| self.seal(job, 1));
        written.extend(large.into_iter().map(|job| self.seal(job, threads)));
        target.finish(written, told)
    }

    /// Makes the keys and headers of a batch of files.
    fn jobs(
        &self,
        server: &Server,
        files: &[(PathBuf, PathBuf)],
        target: &Target<'_>,
    ) -> Result<Vec<Planned>, Failure> {
        let made =
            files.iter().map(|(path, inside)| Ok((path, inside, FileId::random()?, FileKey::random()?)));
        let made: Vec<_> = made.collect::<Result<_, Error>>().map_err(failure)?;
        let now = keys::now();
        let asked: Vec<_> = made.iter().map(|(_, _, id, key)| (*id, now, key)).collect();
        let wrapped = keys::wrap(server, &self.key, &asked)?;
        let jobs = made.into_iter().zip(wrapped).map(|((path, inside, _, file_key), wrapped)| {
            let job = wrapped.and_then(|wrapped| {
                let header = self.header(&file_key, &wrapped).map_err(failure)?;
                let place = target.of(path, inside, &sealed_name(path))?;
                Ok(Job { source: path.clone(), place, file_key, header })
            });
            (path.clone(), job)
        });
        Ok(jobs.collect())
    }

    fn header(&self, file_key: &FileKey, wrapped: &Wrapped) -> Result<Header, Error> {
        let mut stanzas = vec![wrapped.to_stanza()];
        for recipient in &self.recipients {
            stanzas.push(recipient.wrap(file_key)?);
        }
        held::pad(&mut stanzas, 0);
        Header::new(file_key, stanzas)
    }

    fn seal(&self, job: Job, threads: usize) -> Written {
        let Job { source, place, file_key, header } = job;
        let sealed = || {
            let file = File::open(&source).map_err(|error| Failure::at(source.display(), &error))?;
            let output = self.place.create(&place)?;
            let sealed = keyhearth_files::seal(&file_key, &header, &file, output.file(), threads);
            Ok((output, sealed.map_err(failure)?.plaintext_bytes))
        };
        let made = sealed();
        Written { source, place, made }
    }

    /// Standard input, to standard output or a file.
    fn pipe(&self, server: &Server) -> Result<(), Failure> {
        let (file, file_key) = (FileId::random(), FileKey::random());
        let file = file.map_err(failure)?;
        let file_key = file_key.map_err(failure)?;
        let wrapped = keys::wrap(server, &self.key, &[(file, keys::now(), &file_key)])?;
        let wrapped = wrapped.into_iter().next().unwrap_or_else(|| Err(failure(Error::NotForUs)))?;
        let header = self.header(&file_key, &wrapped).map_err(failure)?;
        let mut input = io::stdin().lock();
        match &self.place.output {
            Some(path) if !self.place.is_pipe() => self.place.make(path, |mut output| {
                let sealed = keyhearth_files::seal_stream(&file_key, &header, &mut input, &mut output);
                sealed.map(drop).map_err(failure)
            }),
            Some(_) | None => {
                keyhearth_files::seal_stream(&file_key, &header, &mut input, &mut io::stdout().lock())
                    .map_err(failure)?;
                Ok(())
            }
        }
    }
}

/// Whether it is a sealed file, by its name and by what it begins with.
fn is_sealed(path: &Path) -> bool {
    path.extension().is_some_and(|suffix| suffix == SUFFIX) && open::read(path).is_ok()
}

/// The name of what a file is sealed as.
fn sealed_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(SUFFIX);
    name.into()
}
