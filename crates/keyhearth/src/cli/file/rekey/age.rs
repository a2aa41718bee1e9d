//! Files in the age format whose keys are in their headers, wrapped.

use keyhearth_files::age::{FileKey, Header, Stanza};
use keyhearth_files::held::{self, Held, Wrapped};
use keyhearth_files::{Error, Opened};

use super::super::super::failure::Failure;
use super::super::super::session::Server;
use super::super::failure;
use super::super::keys::{self, Bare};
use super::super::many::Done;
use super::super::open::{Opener, Unlocked};
use super::super::seal::Head;
use super::place::Place;
use super::{Rekey, Telling, is_same_version, several_keys};

/// A file, and its key, which has proved its header.
struct Old {
    place: Place,
    opened: Opened,
    wrapped: Wrapped,
    file_key: FileKey,
}

impl Rekey {
    /// Has the keys of these files wrapped anew and puts that into their headers, or gives them new keys.
    pub(super) fn age(
        &self,
        server: &Server,
        files: Vec<(Place, Opened)>,
        telling: &mut Telling<'_>,
    ) -> Result<(), Failure> {
        let mut allowed = Vec::new();
        for (place, opened) in files {
            match self.allowed(&opened) {
                Ok(wrapped) => allowed.push((place, opened, wrapped)),
                Err(refusal) => telling.told.tell(&place.path, Err(refusal)),
            }
        }
        let headers: Vec<_> = allowed.iter().map(|(_, opened, _)| &opened.header).collect();
        let keys = Opener::Server(server).keys(&headers)?;
        let mut old = Vec::new();
        for ((place, opened, wrapped), key) in allowed.into_iter().zip(keys) {
            match key.and_then(|key| opened.header.verify(&key).map(|()| key).map_err(failure)) {
                Ok(file_key) => old.push(Old { place, opened, wrapped, file_key }),
                Err(refusal) => telling.told.tell(&place.path, Err(refusal)),
            }
        }

        let now = keys::now();
        let new_key = |_: &Old| self.suspected_stolen.then(FileKey::random).transpose().map_err(failure);
        let new_keys: Vec<Option<FileKey>> = old.iter().map(new_key).collect::<Result<_, Failure>>()?;
        let asked: Vec<_> = old
            .iter()
            .zip(&new_keys)
            .map(|(old, new)| {
                let (made, file_key) =
                    new.as_ref().map_or((old.wrapped.made, &old.file_key), |new| (now, new));
                let key = self.key.as_deref().unwrap_or(&old.wrapped.key);
                // Its id stays: who opens it by a grant goes on doing so.
                Bare { key, file: old.wrapped.file, made, file_key }
            })
            .collect();
        let wrapped = keys::wrap(server, &asked)?;
        drop(asked);
        for ((old, new_key), wrapped) in old.into_iter().zip(new_keys).zip(wrapped) {
            let path = old.place.path.clone();
            let is_same =
                wrapped.as_ref().is_ok_and(|new| is_same_version(&new.ciphertext, &old.wrapped.ciphertext));
            if is_same && self.is_newer(&old.wrapped) {
                telling.newer += 1;
                continue;
            }
            let done = wrapped.and_then(|wrapped| match new_key {
                Some(new_key) => self.seal_again(old, &wrapped, new_key),
                None => old.rewrap(&wrapped),
            });
            telling.same += usize::from(done.is_ok() && is_same && self.suspected_stolen);
            telling.told.tell(&path, done);
        }
        Ok(())
    }

    /// Whether the file's key is newer than those that may be stolen. A time that is still to come proves nothing.
    fn is_newer(&self, wrapped: &Wrapped) -> bool {
        let before = self.made_before.as_ref().map(|time| time.unix_ms() / 1000);
        before.is_some_and(|before| (before..=keys::now()).contains(&wrapped.made))
    }

    /// What wraps the file's key, if that is all it takes. Of other recipients a header tells how many there are, not who: so many have to
    /// be given.
    fn allowed(&self, opened: &Opened) -> Result<Wrapped, Failure> {
        let again = "open it and seal it again";
        if opened.is_stream() {
            return Err(Failure::of("armored", "the file is a text", "", again));
        }
        let mut held = Held::all(&opened.header.stanzas).map_err(failure)?.into_iter();
        let wrapped = match (held.next(), held.next()) {
            (Some(Held::Wrapped(wrapped)), None) => wrapped,
            (Some(Held::Kept(_)), None) => {
                let next = "to give it another one, open it, seal it again and shred this one";
                return Err(Failure::of("held", "the server keeps the file's key", "", next));
            }
            (None, _) => return Err(failure(Error::NotForUs)),
            (Some(_), Some(_)) => return Err(several_keys()),
        };
        // What nobody can open, only mixed in by `age` and `rage`.
        let is_grease = |stanza: &Stanza| stanza.tag.ends_with("-grease");
        let is_other = |stanza: &&Stanza| !stanza.tag.starts_with("keyhearth/") && !is_grease(stanza);
        let others = opened.header.stanzas.iter().filter(is_other).count();
        if self.suspected_stolen && others != self.recipients.len() {
            let given = self.recipients.len();
            let what = format!("{others} others can open it, whom it does not tell, and {given} are given");
            let next = "give as many --recipient as files have, and files that have others by themselves";
            return Err(Failure::of("recipients", &what, "", next));
        }
        Ok(wrapped)
    }

    fn seal_again(&self, old: Old, wrapped: &Wrapped, new_key: FileKey) -> Result<Done, Failure> {
        let mut stanzas = vec![wrapped.to_stanza()];
        for recipient in &self.recipients {
            stanzas.push(recipient.wrap(&new_key).map_err(failure)?);
        }
        held::pad(&mut stanzas, 0);
        let header = Header::new(&new_key, stanzas).map_err(failure)?;
        old.place.seal_again(Unlocked::Age(old.opened, old.file_key), Head::Age(new_key, header))
    }
}

impl Old {
    /// Puts a new wrap of the same key into the file's header.
    fn rewrap(&self, wrapped: &Wrapped) -> Result<Done, Failure> {
        let header = &self.opened.header;
        let ours = self.wrapped.to_stanza();
        let mut stanzas = header.stanzas.clone();
        stanzas.iter_mut().filter(|stanza| **stanza == ours).for_each(|stanza| *stanza = wrapped.to_stanza());
        held::pad(&mut stanzas, header.to_text().len());
        let new = Header::new(&self.file_key, stanzas).map_err(failure)?;
        if header.to_text().len() == new.to_text().len() {
            keyhearth_files::replace_header(&self.place.path, header, &new).map_err(failure)?;
        } else {
            self.place.copy_behind(header, &new)?;
        }
        Ok(self.place.done(self.opened.plaintext_bytes().unwrap_or_default()))
    }
}
