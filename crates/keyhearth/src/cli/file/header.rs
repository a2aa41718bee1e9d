//! `file rekey`: new wraps for the keys of files, and after a theft new keys.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{io, thread};

use clap::Args;
use keyhearth_core::request::KeyRef;
use keyhearth_core::time::Time;
use keyhearth_crypto::kh1;
use keyhearth_files::age::{FileKey, Header, Recipient, Stanza};
use keyhearth_files::held::{self, Held, Wrapped};
use keyhearth_files::{Error, Opened, Output};
use keyhearth_proto::rest::Is;

use super::super::failure::Failure;
use super::super::session::{Server, Session};
use super::super::spelled::{spelled, text_of};
use super::many::{BATCH, Done, Found, Told};
use super::open::{Opener, read};
use super::{failure, is_sealed_name, keys};

#[derive(Args)]
pub struct Rekey {
    /// The sealed files, and folders of them
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Another key to wrap by; each file's own if absent
    #[arg(long, value_parser = text_of::<KeyRef>)]
    key: Option<String>,
    /// Give each file a new key and seal it again: who has the old key opens nothing that is written from now on
    #[arg(long)]
    suspected_stolen: bool,
    /// Seal again only files whose keys were made before; to go on after an interruption, give the time it told
    #[arg(long, value_name = "TIME", requires = "suspected_stolen", value_parser = spelled::<Time>())]
    made_before: Option<Is<Time>>,
    /// Who else can open them, without the server: `age1…`; can be given again. Needed with --suspected-stolen for files
    /// that had such recipients
    #[arg(long = "recipient", value_name = "RECIPIENT", requires = "suspected_stolen")]
    recipients: Vec<Recipient>,
}

/// A file, what it says of itself, and its keys.
struct Old {
    path: PathBuf,
    stamp: Stamp,
    opened: Opened,
    wrapped: Wrapped,
    file_key: FileKey,
}

/// What shows that a path still leads to the same file, unchanged.
#[derive(PartialEq)]
struct Stamp([i64; 4], [u64; 3]);

impl Stamp {
    fn of(path: &Path) -> Result<Self, Failure> {
        let of = path.metadata().map_err(|error| Failure::at(path.display(), &error))?;
        Ok(Self([of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec()], [of.dev(), of.ino(), of.len()]))
    }
}

impl Rekey {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let server = session.server()?;
        let mut found = Found::walk(&self.files);
        found.files.retain(|(path, _)| self.files.contains(path) || is_sealed_name(path));
        let before = self.made_before.as_ref().map(|time| time.unix_ms() / 1000);
        let told = Told::new(session, found.count(), "rekeying");
        if self.suspected_stolen && before.is_none() {
            // A second that has not begun: what was made in this one is older than every new key.
            let next = keys::now() + 1;
            while keys::now() < next {
                thread::sleep(Duration::from_millis(20));
            }
            let time = Is(Time::from_unix_ms(next * 1000));
            told.note(session, format!("to go on after an interruption: --made-before {time}"));
        }
        found.tell_refused(&told);
        let (mut newer, mut same) = (0, 0);
        let rekeying = found.files.chunks(BATCH).try_for_each(|batch| {
            let mut old = self.read(&server, batch, &told)?;
            let read = old.len();
            // Only what a header proves keeps a file from being sealed again; a time that is still to come proves nothing.
            let is_newer =
                |old: &Old| before.is_some_and(|before| (before..=keys::now()).contains(&old.wrapped.made));
            old.retain(|old| !is_newer(old));
            newer += read - old.len();
            same += self.batch(&server, old, &told)?;
            Ok(())
        });
        if newer > 0 {
            told.note(session, format!("{newer} files have newer keys already"));
        }
        if self.suspected_stolen {
            if same > 0 {
                let what = "the new keys of files are wrapped by the versions of keys that wrapped the old ones; if one of those may \
                     be stolen, `keyhearth key rotate` first, and then this again";
                told.note(session, format!("{same} files: {what}"));
            }
            let what = "of each of these files, all versions from before now stay readable to whoever has the stolen key, where \
                 a sync service or a backup keeps them: delete them there";
            told.note(session, what.to_owned());
        } else if self.key.is_some() {
            let what =
                "grants on the keys before stay as they are: share the files again, and revoke those grants";
            told.note(session, what.to_owned());
        }
        told.finish(session, "rekeyed", rekeying)
    }

    /// Gives how many were wrapped by the version that had wrapped them.
    fn batch(&self, server: &Server, old: Vec<Old>, told: &Told) -> Result<usize, Failure> {
        let new_keys = self.new_keys(&old)?;
        let asked: Vec<_> = old
            .iter()
            .zip(&new_keys)
            .map(|(old, new)| match new {
                Some((made, key)) => (old.wrapped.file, *made, key),
                None => (old.wrapped.file, old.wrapped.made, &old.file_key),
            })
            .collect();
        let wrapped = self.wrap(server, &old, &asked)?;
        drop(asked);
        let version = |wrapped: &Wrapped| kh1::header(&wrapped.ciphertext).ok();
        let mut same = 0;
        for ((old, new_key), wrapped) in old.into_iter().zip(new_keys).zip(wrapped) {
            let path = old.path.clone();
            let is_same = |new: &Wrapped| version(new).is_some() && version(new) == version(&old.wrapped);
            let is_same = wrapped.as_ref().is_ok_and(is_same);
            let done = wrapped.and_then(|wrapped| match new_key {
                Some((_, new_key)) => self.seal_again(old, &wrapped, &new_key),
                None => rewrap(&old, &wrapped),
            });
            same += usize::from(is_same && done.is_ok());
            told.tell(&path, done);
        }
        Ok(same)
    }

    /// Reads the headers and asks for the keys of a batch of files.
    fn read(&self, server: &Server, batch: &[(PathBuf, PathBuf)], told: &Told) -> Result<Vec<Old>, Failure> {
        let mut found = Vec::new();
        for (path, _) in batch {
            let header = keyhearth_files::recover(path).map_err(failure).and_then(|_| {
                let stamp = Stamp::of(path)?;
                let opened = read(path)?;
                let mut held = Held::all(&opened.header.stanzas).map_err(failure)?.into_iter();
                match (held.next(), held.next()) {
                    (Some(Held::Wrapped(wrapped)), None) => Ok((stamp, opened, wrapped)),
                    (Some(Held::Kept(_)), None) => {
                        let next = "to give it another one, open it, seal it again and shred this one";
                        Err(Failure::of("held", "the server keeps the file's key", "", next))
                    }
                    (None, _) => Err(failure(Error::NotForUs)),
                    (Some(_), Some(_)) => {
                        let next = "open it and seal it again";
                        Err(Failure::of("several_keys", "several keys wrap the file's key", "", next))
                    }
                }
            });
            match header {
                Ok((stamp, opened, wrapped)) => found.push((path, stamp, opened, wrapped)),
                Err(refusal) => told.tell(path, Err(refusal)),
            }
        }
        let headers: Vec<&Header> = found.iter().map(|(_, _, opened, _)| &opened.header).collect();
        if headers.is_empty() {
            return Ok(Vec::new());
        }
        let keys = Opener::Server(server).keys(&headers)?;
        let mut old = Vec::new();
        for ((path, stamp, opened, wrapped), key) in found.into_iter().zip(keys) {
            let proved = key.and_then(|key| opened.header.verify(&key).map(|()| key).map_err(failure));
            match proved {
                Ok(file_key) => old.push(Old { path: path.clone(), stamp, opened, wrapped, file_key }),
                Err(refusal) => told.tell(path, Err(refusal)),
            }
        }
        Ok(old)
    }

    /// For each file a key of its own anew, if the old ones may be stolen.
    fn new_keys(&self, old: &[Old]) -> Result<Vec<Option<(u64, FileKey)>>, Failure> {
        let now = keys::now();
        let new =
            |_| self.suspected_stolen.then(|| Ok((now, FileKey::random().map_err(failure)?))).transpose();
        old.iter().map(new).collect()
    }

    /// Has keys wrapped: by the key that was given, or by each file's own.
    fn wrap(
        &self,
        server: &Server,
        old: &[Old],
        asked: &[(held::FileId, u64, &FileKey)],
    ) -> Result<Vec<Result<Wrapped, Failure>>, Failure> {
        let key_of = |old: &Old| self.key.clone().unwrap_or_else(|| old.wrapped.key.clone());
        let mut wrapped = Vec::new();
        let mut start = 0;
        while start < old.len() {
            let key = key_of(&old[start]);
            let len = old[start..].iter().take_while(|old| key_of(old) == key).count();
            wrapped.extend(keys::wrap(server, &key, &asked[start..start + len])?);
            start += len;
        }
        Ok(wrapped)
    }

    /// Seals the file anew under a key of its own, in place of what it is.
    fn seal_again(&self, old: Old, wrapped: &Wrapped, new_key: &FileKey) -> Result<Done, Failure> {
        let Old { path, stamp, opened, file_key, .. } = old;
        let is_other = |stanza: &Stanza| !stanza.tag.starts_with("keyhearth/");
        if self.recipients.is_empty() && opened.header.stanzas.iter().any(is_other) {
            let next = "give them again with --recipient";
            return Err(Failure::of(
                "recipients",
                "others can open it whose recipients it does not tell",
                "",
                next,
            ));
        }
        let mut stanzas = vec![wrapped.to_stanza()];
        for recipient in &self.recipients {
            stanzas.push(recipient.wrap(new_key).map_err(failure)?);
        }
        held::pad(&mut stanzas, 0);
        let header = Header::new(new_key, stanzas).map_err(failure)?;
        let output = Output::create(&path).map_err(failure)?;
        copy_permissions(&path, output.file())?;
        let (mut reader, mut writer) = io::pipe()?;
        // The pipe is memory of this machine: the plaintext lies nowhere else. That it ended early shows in what opening
        // it gives, before the file gets its name.
        let bytes = thread::scope(|scope| {
            let opening = scope.spawn(move || opened.stream_to(&file_key, &mut writer));
            let sealed = keyhearth_files::seal_stream(new_key, &header, &mut reader, &mut output.file());
            drop(reader);
            let opened = opening.join().unwrap_or(Err(Error::Changed));
            sealed.and_then(|sealed| opened.map(|_| sealed.plaintext_bytes))
        })
        .map_err(failure)?;
        // A sync service may have brought another version meanwhile.
        if Stamp::of(&path)? != stamp {
            return Err(failure(Error::Changed));
        }
        output.replace().map_err(failure)?;
        Ok(done(&path, bytes))
    }
}

/// Puts a new wrap of the same key into the file's header.
fn rewrap(old: &Old, wrapped: &Wrapped) -> Result<Done, Failure> {
    let header = &old.opened.header;
    let ours = old.wrapped.to_stanza();
    let mut stanzas = header.stanzas.clone();
    stanzas.iter_mut().filter(|stanza| **stanza == ours).for_each(|stanza| *stanza = wrapped.to_stanza());
    held::pad(&mut stanzas, header.to_text().len());
    let new = Header::new(&old.file_key, stanzas).map_err(failure)?;
    keyhearth_files::replace_header(&old.path, header, &new).map_err(failure)?;
    Ok(done(&old.path, old.opened.plaintext_bytes().unwrap_or_default()))
}

fn copy_permissions(from: &Path, to: &File) -> Result<(), Failure> {
    let copied = from.metadata().and_then(|metadata| to.set_permissions(metadata.permissions()));
    copied.map_err(|error| Failure::at(from.display(), &error))
}

fn done(path: &Path, bytes: u64) -> Done {
    let path = path.display().to_string();
    Done { output: path.clone(), path, bytes }
}
