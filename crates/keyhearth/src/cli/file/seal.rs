//! `file seal`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use keyhearth_core::request::KeyRef;
use keyhearth_files::age::{FileKey, Header, Recipient, Stanza};
use keyhearth_files::esdk::Frames;
use keyhearth_files::held::{self, FileId};
use keyhearth_files::{Error, Sealed};

use super::super::failure::Failure;
use super::super::made;
use super::super::session::{Server, Session};
use super::super::spelled::{pair, text_of};
use super::keys::Bare;
use super::manifest::{DeviceName, Folder, Trust};
use super::many::{Found, Target, Told, Written, each_file, in_lanes};
use super::verify::Recorder;
use super::{Place, SUFFIX, esdk, failure, is_sealed_name, keys, open};

/// What sealed files are written in.
#[derive(Clone, Copy, ValueEnum, PartialEq)]
pub enum Format {
    /// age v1, which `age` and `rage` open
    Age,
    /// The AWS Encryption SDK's, by AES-256-GCM, which its libraries open
    Esdk,
}

impl Format {
    /// What the names of its files end in.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Age => SUFFIX,
            Self::Esdk => esdk::SUFFIX,
        }
    }
}

#[derive(Args)]
pub struct Seal {
    /// The files and folders to seal; `-` is standard input
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The key that wraps the files' keys, by its id or an alias
    #[arg(long, value_parser = text_of::<KeyRef>)]
    key: String,
    /// Let the server keep the files' keys: nothing of them goes into the files, and `file shred` ends every copy
    #[arg(long, conflicts_with_all = ["recipients", "context"])]
    held: bool,
    /// Somebody else who can open them, without the server: `age1…`; can be given again
    #[arg(long = "recipient", value_name = "RECIPIENT")]
    recipients: Vec<Recipient>,
    /// The format
    #[arg(long, value_enum, default_value_t = Format::Age)]
    format: Format,
    /// A pair that the file is bound to, in the clear, in the format `esdk`; can be given again
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    context: Vec<(String, String)>,
    #[command(flatten)]
    place: Place,
    /// Sign what is made into the manifest of --output, a folder, by this key: Ed25519 or P-256
    #[arg(long, value_name = "KEY", requires = "output", value_parser = text_of::<KeyRef>)]
    sign_key: Option<String>,
    #[command(flatten)]
    name: DeviceName,
}

/// A file that has its header.
struct Job<'p> {
    source: &'p Path,
    place: &'p Path,
    head: Head,
}

/// The header of a new file, and what seals the file behind it.
pub enum Head {
    /// Of age, with the file's key.
    Age(FileKey, Header),
    /// Of the AWS Encryption SDK.
    Esdk(keyhearth_files::esdk::Header, Frames),
}

impl Head {
    pub fn seal(self, source: &File, output: &File, threads: usize) -> Result<Sealed, Error> {
        match self {
            Self::Age(key, header) => keyhearth_files::seal(&key, &header, source, output, threads),
            Self::Esdk(header, frames) => {
                keyhearth_files::esdk::seal((header, frames), source, output, threads)
            }
        }
    }

    pub fn seal_stream(self, source: &mut dyn Read, output: &mut dyn Write) -> Result<Sealed, Error> {
        match self {
            Self::Age(key, header) => keyhearth_files::seal_stream(&key, &header, source, output),
            Self::Esdk(header, frames) => {
                keyhearth_files::esdk::seal_stream((header, frames), source, output)
            }
        }
    }
}

/// Who has the keys of new files wrapped.
pub struct Sealer<'s> {
    server: &'s Server,
    /// The key that wraps them.
    key: &'s str,
    /// Who else can open files of age.
    recipients: &'s [Recipient],
    /// The server keeps the keys of files of age; nothing of them goes into the files.
    kept: bool,
    /// What makes the keys of files of the AWS Encryption SDK, if that is the format.
    esdk: Option<esdk::Wrapper<'s>>,
}

impl<'s> Sealer<'s> {
    /// Of files in the age format.
    pub fn age(server: &'s Server, key: &'s str, recipients: &'s [Recipient]) -> Self {
        Self { server, key, recipients, kept: false, esdk: None }
    }

    /// The same, whose keys the server keeps.
    pub fn kept(self) -> Self {
        Self { kept: true, ..self }
    }

    /// Of files in the format of the AWS Encryption SDK, bound to these pairs.
    ///
    /// # Errors
    /// As [`esdk::Wrapper::new`].
    pub fn esdk(server: &'s Server, key: &'s str, context: &[(String, String)]) -> Result<Self, Failure> {
        Ok(Self {
            server,
            key,
            recipients: &[],
            kept: false,
            esdk: Some(esdk::Wrapper::new(server, key, context)?),
        })
    }

    /// What begins so many new files; each may be refused by itself.
    ///
    /// # Errors
    /// [`Failure`] if the server refuses all, or does not answer.
    pub fn heads(&self, count: usize) -> Result<Vec<Result<Head, Failure>>, Failure> {
        if let Some(esdk) = &self.esdk {
            let headers = esdk.headers(self.server, count)?.into_iter();
            return Ok(headers.map(|made| made.map(|(header, frames)| Head::Esdk(header, frames))).collect());
        }
        let made = (0..count).map(|_| Ok((FileId::random()?, FileKey::random()?)));
        let made: Vec<_> = made.collect::<Result<_, Error>>().map_err(failure)?;
        let stanzas = self.stanzas(&made)?;
        let heads = made.into_iter().zip(stanzas).map(|((_, file_key), stanza)| {
            let header = self.header(&file_key, stanza?).map_err(failure)?;
            Ok(Head::Age(file_key, header))
        });
        Ok(heads.collect())
    }

    /// What the server makes of the keys of these files.
    fn stanzas(&self, files: &[(FileId, FileKey)]) -> Result<Vec<Result<Stanza, Failure>>, Failure> {
        if self.kept {
            let asked: Vec<_> = files.iter().map(|(id, key)| (*id, key)).collect();
            let kept = keys::keep(self.server, self.key, &asked)?.into_iter();
            return Ok(kept.map(|kept| Ok(kept?.to_stanza())).collect());
        }
        let made = keys::now();
        let bare = |(file, file_key)| Bare { key: self.key, file, made, file_key };
        let asked: Vec<_> = files.iter().map(|(id, file_key)| bare((*id, file_key))).collect();
        let wrapped = keys::wrap(self.server, &asked)?.into_iter();
        Ok(wrapped.map(|wrapped| Ok(wrapped?.to_stanza())).collect())
    }

    /// What begins one new file.
    ///
    /// # Errors
    /// [`Failure`] if the server refuses or does not answer.
    pub fn head(&self) -> Result<Head, Failure> {
        self.heads(1)?.into_iter().next().unwrap_or_else(|| Err(failure(Error::NotForUs)))
    }

    fn header(&self, file_key: &FileKey, ours: Stanza) -> Result<Header, Error> {
        let mut stanzas = vec![ours];
        for recipient in self.recipients {
            stanzas.push(recipient.wrap(file_key)?);
        }
        held::pad(&mut stanzas, 0);
        Header::new(file_key, stanzas)
    }
}

impl Seal {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let server = session.server()?;
        let sealer = match self.format {
            Format::Age if self.held => Sealer::age(&server, &self.key, &[]).kept(),
            Format::Esdk if self.held => {
                let next = "leave out --held, or --format esdk";
                return Err(Failure::new("the server keeps keys of files in the age format alone", next));
            }
            Format::Age if self.context.is_empty() => Sealer::age(&server, &self.key, &self.recipients),
            Format::Esdk if self.recipients.is_empty() => Sealer::esdk(&server, &self.key, &self.context)?,
            Format::Age => {
                let next = "leave out --context, or add --format esdk";
                return Err(Failure::new(
                    "a file in the age format is bound to its id and no other pairs",
                    next,
                ));
            }
            Format::Esdk => {
                let next = "leave out --recipient, or --format esdk";
                return Err(Failure::new("only files in the age format have recipients", next));
            }
        };
        let output = self.place.output.as_deref().filter(|_| !self.place.is_pipe());
        Folder::check_clear_names(output)?;
        if self.files == [Path::new("-")] {
            return self.pipe(&sealer);
        }
        if self.place.is_pipe() {
            return Err(Failure::new(
                "standard output takes one file, from standard input",
                "give `-` as the file, or a folder with --output",
            ));
        }
        let trust = Trust::new(session, &[], self.sign_key.as_deref())?;
        let recorder = self.recorder(&trust)?;
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
        let name = |path: &Path| Ok(sealed_name(path, self.format.suffix()));
        let files = target.places(found.files, &told, name);
        Folder::check_clear_names(files.iter().filter_map(|(_, place)| place.parent()))?;
        let sealing = in_lanes(self.place.threads(), &files, |batch, small| {
            self.batch(batch, small, &sealer, &target, &told)
        });
        let flushed = target.synchronise();
        let recorded = recorder.map_or(Ok(()), |recorder| recorder.record(told.made()));
        told.finish(session, "sealed", sealing.and(flushed).and(recorded))
    }

    /// Who signs what is made, if somebody is to.
    fn recorder<'t>(&self, trust: &'t Trust<'t>) -> Result<Option<Recorder<'t>>, Failure> {
        let Some((output, _)) = self.place.output.as_ref().zip(self.sign_key.as_ref()) else {
            return Ok(None);
        };
        made::folder(output)?;
        Recorder::new(output, trust, self.name.device()).map(Some)
    }

    fn batch(
        &self,
        batch: &[(PathBuf, PathBuf)],
        small: usize,
        sealer: &Sealer<'_>,
        target: &Target<'_>,
        told: &Told,
    ) -> Result<(), Failure> {
        let filesystems = target.filesystems(batch)?;
        let mut jobs = Vec::new();
        for ((source, place), head) in batch.iter().zip(sealer.heads(batch.len())?) {
            match head {
                Ok(head) => jobs.push(Job { source, place, head }),
                Err(refusal) => told.tell(source, Err(refusal)),
            }
        }
        let bytes = |job: &Job<'_>| job.source.metadata().map_or(0, |metadata| metadata.len());
        let written =
            each_file(small, self.place.threads(), jobs, bytes, |job, threads| self.seal(job, threads, told));
        target.finish(written, &filesystems, told)
    }

    fn seal<'p>(&self, job: Job<'p>, threads: usize, told: &Told) -> Written<'p> {
        let Job { source, place, head } = job;
        let sealed = |head: Head| {
            let file = File::open(source).map_err(|error| Failure::at(source.display(), &error))?;
            let output = self.place.create(place)?;
            let seal = || head.seal(&file, output.file(), threads);
            let sealed = told.watch(output.file(), place, file.metadata()?.len(), seal).map_err(failure)?;
            Ok((output, sealed.plaintext_bytes))
        };
        let made = sealed(head);
        Written { source, place, made }
    }

    /// Standard input, to standard output or a file.
    fn pipe(&self, sealer: &Sealer<'_>) -> Result<(), Failure> {
        let head = sealer.head()?;
        let mut input = io::stdin().lock();
        let seal = |output: &mut dyn Write| head.seal_stream(&mut input, output).map(drop).map_err(failure);
        match &self.place.output {
            Some(path) if !self.place.is_pipe() => self.place.make(path, |mut output| seal(&mut output)),
            Some(_) | None => seal(&mut io::stdout().lock()),
        }
    }
}

/// Whether it is a sealed file, by its name and by what it begins with.
fn is_sealed(path: &Path) -> bool {
    is_sealed_name(path) && open::read_any(path).is_ok()
}

/// The name of what a file is sealed as.
fn sealed_name(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}
