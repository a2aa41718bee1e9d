//! New wraps of the keys that files have: headers change, where they lie.

use std::path::PathBuf;

use keyhearth_files::age::{FileKey, Header};
use keyhearth_files::held::{self, Wrapped};
use keyhearth_files::{Error, Opened};

use super::super::super::failure::Failure;
use super::super::super::session::Server;
use super::super::many::{Done, Told};
use super::super::open::Unlocked;
use super::super::{failure, keys};
use super::{Keyed, Old, Rekey, done};

/// A file whose key is wrapped in its header.
struct Job {
    path: PathBuf,
    opened: Opened,
    file_key: FileKey,
    wrapped: Wrapped,
}

impl Rekey {
    /// Has the keys of these files wrapped anew, and puts that into their headers.
    pub(super) fn rewrap(&self, server: &Server, old: Vec<Old>, told: &Told) -> Result<(), Failure> {
        let mut jobs = Vec::new();
        for Old { path, file, keyed, .. } in old {
            match (file, keyed) {
                (Unlocked::Age(opened, file_key), Keyed::Wrapped(wrapped)) => {
                    jobs.push(Job { path, opened, file_key, wrapped });
                }
                _ => told.tell(&path, Err(failure(Error::NotForUs))),
            }
        }
        let key_of = |job: &Job| self.key.clone().unwrap_or_else(|| job.wrapped.key.clone());
        for jobs in jobs.chunk_by(|a, b| key_of(a) == key_of(b)) {
            let asked: Vec<_> =
                jobs.iter().map(|job| (job.wrapped.file, job.wrapped.made, &job.file_key)).collect();
            let wrapped = keys::wrap(server, &key_of(&jobs[0]), &asked)?;
            for (job, wrapped) in jobs.iter().zip(wrapped) {
                told.tell(&job.path, wrapped.and_then(|wrapped| job.replace(&wrapped)));
            }
        }
        Ok(())
    }
}

impl Job {
    /// Puts a new wrap of the same key into the file's header.
    fn replace(&self, wrapped: &Wrapped) -> Result<Done, Failure> {
        let header = &self.opened.header;
        let ours = self.wrapped.to_stanza();
        let mut stanzas = header.stanzas.clone();
        stanzas.iter_mut().filter(|stanza| **stanza == ours).for_each(|stanza| *stanza = wrapped.to_stanza());
        held::pad(&mut stanzas, header.to_text().len());
        let new = Header::new(&self.file_key, stanzas).map_err(failure)?;
        keyhearth_files::replace_header(&self.path, header, &new).map_err(failure)?;
        Ok(done(&self.path, self.opened.plaintext_bytes().unwrap_or_default()))
    }
}
