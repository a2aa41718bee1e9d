//! Files of the AWS Encryption SDK: after a theft each is sealed again, for the same context.

use keyhearth_files::esdk::{DataKey, EncryptedDataKey, Header};
use keyhearth_files::{Error, Opened};

use super::super::super::failure::Failure;
use super::super::super::session::Server;
use super::super::esdk::{self, New};
use super::super::failure;
use super::super::open::Unlocked;
use super::super::seal::Head;
use super::place::Place;
use super::{Rekey, Telling, is_same_version, several_keys};

/// A file, and its data key, which has proved its header.
struct Old {
    place: Place,
    opened: Opened<Header>,
    data_key: DataKey,
}

impl Rekey {
    /// Gives these files new data keys.
    pub(super) fn esdk(
        &self,
        server: &Server,
        files: Vec<(Place, Opened<Header>)>,
        telling: &mut Telling<'_>,
    ) -> Result<(), Failure> {
        let mut allowed = Vec::new();
        for (place, opened) in files {
            match self.is_allowed(&opened.header) {
                Ok(()) => allowed.push((place, opened)),
                Err(refusal) => telling.told.tell(&place.path, Err(refusal)),
            }
        }
        let headers: Vec<_> = allowed.iter().map(|(_, opened)| &opened.header).collect();
        let keys = esdk::data_keys(server, &headers, None)?;
        let mut old = Vec::new();
        for ((place, opened), key) in allowed.into_iter().zip(keys) {
            match key.and_then(|key| opened.header.frames(&key).map(|_| key).map_err(failure)) {
                Ok(data_key) => old.push(Old { place, opened, data_key }),
                Err(refusal) => telling.told.tell(&place.path, Err(refusal)),
            }
        }
        let made = esdk::headers(server, old.iter().map(|old| self.again(&old.opened.header)).collect())?;
        for (Old { place, opened, data_key }, made) in old.into_iter().zip(made) {
            let version = |header: &Header| header.data_keys.first().map(|one| one.ciphertext.clone());
            let before = version(&opened.header);
            let is_same = |(new, _): &(Header, _)| {
                version(new).zip(before).is_some_and(|(new, before)| is_same_version(&new, &before))
            };
            let is_same = made.as_ref().is_ok_and(is_same);
            let done = made.and_then(|(header, frames)| {
                place.seal_again(Unlocked::Esdk(opened, data_key), Head::Esdk(header, frames))
            });
            telling.same += usize::from(done.is_ok() && is_same);
            telling.told.tell(&place.path, done);
        }
        Ok(())
    }

    /// Whether one key, of Keyhearth, is all it takes.
    fn is_allowed(&self, header: &Header) -> Result<(), Failure> {
        if !self.suspected_stolen {
            let what = "a file of the AWS Encryption SDK keeps the header that it was made with";
            let next = "to give it a new key, which seals it again, add --suspected-stolen";
            return Err(Failure::of("not_age", what, "", next));
        }
        if !self.recipients.is_empty() {
            let next = "rekey files of the AWS Encryption SDK by themselves, without --recipient";
            return Err(Failure::of("recipients", "a file like this has no recipients", "", next));
        }
        match &header.data_keys[..] {
            [one] if esdk::key_of(one).is_some() => Ok(()),
            [_] | [] => Err(failure(Error::NotForUs)),
            _ => Err(several_keys()),
        }
    }

    /// What a file is sealed again as.
    fn again<'k>(&'k self, header: &'k Header) -> New<'k> {
        let arn = header.data_keys.first().and_then(EncryptedDataKey::arn).unwrap_or_default();
        let key = header.data_keys.first().and_then(esdk::key_of).unwrap_or_default();
        New {
            key: self.key.as_deref().unwrap_or(key),
            arn_prefix: arn.strip_suffix(key).unwrap_or_default(),
            context: header.context.clone(),
            frame_bytes: header.frame_bytes(),
        }
    }
}
