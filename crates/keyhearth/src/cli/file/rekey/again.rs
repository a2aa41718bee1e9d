//! New keys for files: each is sealed again, in place of what it is.

use std::fs::File;
use std::io;
use std::path::Path;
use std::thread;

use keyhearth_crypto::kh1;
use keyhearth_files::age::Stanza;
use keyhearth_files::{Error, Output};

use super::super::super::failure::Failure;
use super::super::super::session::Server;
use super::super::many::{Done, Told};
use super::super::open::Unlocked;
use super::super::seal::{Head, Sealer};
use super::super::{esdk, failure, keys};
use super::{Keyed, Old, Rekey, Stamp, Sums, done};

impl Rekey {
    /// Seals files again as what they are, under keys of their own anew.
    pub(super) fn seal_again(
        &self,
        server: &Server,
        old: Vec<Old>,
        told: &Told,
        sums: &mut Sums,
    ) -> Result<(), Failure> {
        let mut allowed = Vec::new();
        for old in old {
            match self.is_for_the_same(&old) {
                Ok(()) => allowed.push(old),
                Err(refusal) => told.tell(&old.path, Err(refusal)),
            }
        }
        let mut heads = Vec::new();
        for alike in allowed.chunk_by(|a, b| self.is_asked_with(&a.keyed, &b.keyed)) {
            heads.extend(self.heads(server, alike)?);
        }
        for (old, head) in allowed.into_iter().zip(heads) {
            let (path, version) = (old.path.clone(), old.keyed.version());
            let is_kept = matches!(old.keyed, Keyed::Kept(_));
            let is_same = |head: &Head| version.is_some() && version_of(head) == version;
            let is_same = head.as_ref().is_ok_and(is_same);
            let done = head.and_then(|head| old.seal(head));
            sums.same += usize::from(done.is_ok() && is_same);
            sums.kept += usize::from(done.is_ok() && is_kept);
            told.tell(&path, done);
        }
        Ok(())
    }

    /// Refuses to leave out somebody who could open the file, and to let in somebody who never could.
    fn is_for_the_same(&self, old: &Old) -> Result<(), Failure> {
        let is_other = |stanza: &Stanza| !stanza.tag.starts_with("keyhearth/");
        let others = match &old.file {
            Unlocked::Age(opened, _) => opened.header.stanzas.iter().any(is_other),
            Unlocked::Esdk(..) => false,
        };
        let (what, next) = match (&old.keyed, self.recipients.is_empty()) {
            (Keyed::Wrapped(_), true) if others => {
                ("others can open it whose recipients it does not tell", "give them again with --recipient")
            }
            (Keyed::Kept(_), _) if others => {
                ("the server keeps its key, and yet others can open it", "open it and seal it again")
            }
            (Keyed::Kept(_) | Keyed::Esdk(..), false) => {
                ("a file like this has no recipients", "rekey it by itself, without --recipient")
            }
            _ => return Ok(()),
        };
        Err(Failure::of("recipients", what, "", next))
    }

    /// Whether the keys of both are asked for in one request.
    fn is_asked_with(&self, a: &Keyed, b: &Keyed) -> bool {
        std::mem::discriminant(a) == std::mem::discriminant(b) && self.key_of(a) == self.key_of(b)
    }

    /// What begins the new files in place of these, which are alike.
    fn heads(&self, server: &Server, alike: &[Old]) -> Result<Vec<Result<Head, Failure>>, Failure> {
        let Some(first) = alike.first() else { return Ok(Vec::new()) };
        let key = self.key_of(&first.keyed);
        match &first.keyed {
            Keyed::Wrapped(_) => {
                // Their ids stay, so who opens them by a grant goes on doing so.
                let id = |old: &Old| match &old.keyed {
                    Keyed::Wrapped(wrapped) => Some(wrapped.file),
                    Keyed::Kept(_) | Keyed::Esdk(..) => None,
                };
                Sealer::age(server, key, &self.recipients).heads_of(alike.iter().filter_map(id).collect())
            }
            // The key before is kept under the old id: what is not replaced yet, on another device, opens.
            Keyed::Kept(_) => Sealer::age(server, key, &[]).kept().heads(alike.len()),
            Keyed::Esdk(..) => {
                let context = |old: &Old| match &old.keyed {
                    Keyed::Esdk(_, context) => Some(context.clone()),
                    Keyed::Wrapped(_) | Keyed::Kept(_) => None,
                };
                let contexts = alike.iter().filter_map(context).collect();
                let made = esdk::Wrapper::new(server, key, &[])?.headers_for(server, contexts)?.into_iter();
                Ok(made.map(|made| made.map(|(header, frames)| Head::Esdk(header, frames))).collect())
            }
        }
    }
}

/// The version of the key that wrapped a new file's key, where the file tells.
fn version_of(head: &Head) -> Option<kh1::Header> {
    let keyed = match head {
        Head::Age(_, header) => Keyed::of_age(header),
        Head::Esdk(header, _) => Keyed::of_esdk(header),
    };
    keyed.ok()?.version()
}

impl Old {
    /// Seals the file anew behind this header, in place of what it is.
    fn seal(self, head: Head) -> Result<Done, Failure> {
        let Self { path, stamp, file, keyed } = self;
        let output = Output::create(&path).map_err(failure)?;
        copy_permissions(&path, output.file())?;
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
        // A sync service may have brought another version meanwhile.
        if Stamp::of(&path)? != stamp {
            return Err(failure(Error::Changed));
        }
        output.replace().map_err(failure)?;
        let was = match keyed {
            Keyed::Kept(kept) => Some(keys::name(kept.file).to_string()),
            Keyed::Wrapped(_) | Keyed::Esdk(..) => None,
        };
        Ok(Done { was, ..done(&path, bytes) })
    }
}

fn copy_permissions(from: &Path, to: &File) -> Result<(), Failure> {
    let copied = from.metadata().and_then(|metadata| to.set_permissions(metadata.permissions()));
    copied.map_err(|error| Failure::at(from.display(), &error))
}
