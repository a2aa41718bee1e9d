//! Acts on secrets: keep, read, shred, list. A secret is a message of a key that the server keeps by its name.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyhearth_core::Error;
use keyhearth_core::operation::Operation;
use keyhearth_core::request::{Ask, NewSecret, PLAINTEXT_BYTES_MAX, Page, Response, Secret};
use keyhearth_core::row::Table;
use keyhearth_core::secret::{GENERATED_BYTES, KeptSecret, SecretName};
use keyhearth_crypto::random;

use super::keys::page_limit;
use super::records::{Records, Stored};
use super::{Effect, Turn, usage};

const NO_SECRET: Error = Error::NotFound("secret");

impl Turn<'_> {
    /// Acts on one secret.
    pub(super) fn on_secret(&self) -> Result<Effect, Error> {
        match &self.request.ask {
            Ask::KeepSecret { name, value, replace, .. } => self.keep_secret(name, value, *replace),
            Ask::ReadSecret { name, .. } => self.read_secret(name),
            Ask::ShredSecret { .. } => {
                Ok(Effect::writing(Response::Done, vec![Records::delete(self.kept()?)]))
            }
            _ => Err(Error::Internal("not an operation on a secret")),
        }
    }

    /// The secret of this name; one under another key is none.
    fn kept(&self) -> Result<&Stored<KeptSecret>, Error> {
        let key = self.held()?.key.value.id;
        self.secret.filter(|secret| secret.value.key == key).ok_or(NO_SECRET)
    }

    fn keep_secret(&self, name: &SecretName, value: &NewSecret, replace: bool) -> Result<Effect, Error> {
        if self.secret.is_some() && !replace {
            return Err(Error::Conflict(
                "there is a secret of this name; replace it, or choose another name",
            ));
        }
        if self.secret.is_some() && !self.may(Operation::ShredSecret, &self.held()?.key.value)? {
            return Err(Error::Denied);
        }
        let limit = self.engine.settings.secrets_per_tenant as usize;
        if self.secret.is_none() && self.open.records.count(Table::Secret, self.tenant()) >= limit {
            return Err(Error::TooLarge { field: "secrets", limit });
        }
        let made;
        let value = match value {
            NewSecret::Given(value) => value,
            NewSecret::Generated(bytes) => {
                made = generated(*bytes)?;
                &made
            }
        };
        if value.is_empty() || value.len() > PLAINTEXT_BYTES_MAX {
            return Err(Error::Invalid { field: "value", rule: "must be 1 to 65,536 bytes" });
        }
        let held = self.held()?;
        let bound = (&name.context(), value.as_slice());
        let (version, ciphertext) = usage::keep(self.open, self.permit, self.request, held, bound)?;
        let (key, created) = (held.key.value.id, self.now.latest);
        let secret = KeptSecret { key, version, created, ciphertext };
        let (write, detail) = match self.secret {
            Some(_) => (self.open.records.replace(self.kept()?, &secret), Some("replaced".to_owned())),
            None => (self.open.records.create(name.row(self.tenant()), &secret), None),
        };
        let response = Response::SecretKept { name: name.clone(), secret: Box::new(secret) };
        Ok(Effect { detail, ..Effect::writing(response, vec![write]) })
    }

    /// The value leaves only if its row is still there when the reading is committed: nothing is read after a shred
    /// has returned.
    fn read_secret(&self, name: &SecretName) -> Result<Effect, Error> {
        let (kept, held) = (self.kept()?, self.held()?);
        let bound = (&name.context(), kept.value.ciphertext.as_slice());
        let value = usage::read(self.open, self.permit, self.request, held, bound)?;
        let response = Response::SecretValue { key: kept.value.key, version: kept.value.version, value };
        Ok(Effect::writing(response, vec![Records::keep(kept)]))
    }

    /// Lists the tenant's secrets by name.
    pub(super) fn list_secrets(&self, page: &Page) -> Result<Effect, Error> {
        let limit = page_limit(page)?;
        let (rows, next) =
            self.open.records.scan::<KeptSecret>(Table::Secret, self.tenant(), &page.after, limit)?;
        let secrets = rows.into_iter().map(|row| {
            let name = std::str::from_utf8(&row.key.id).ok().and_then(|name| name.parse().ok());
            Ok((name.ok_or(Error::Damaged("secret"))?, row.value))
        });
        Ok(Effect::of(Response::Secrets { secrets: secrets.collect::<Result<_, Error>>()?, next }))
    }
}

/// Random bytes as text that every program takes as a password.
fn generated(bytes: usize) -> Result<Secret, Error> {
    if !GENERATED_BYTES.contains(&bytes) {
        return Err(Error::Invalid { field: "generate", rule: "must be 16 to 1,024" });
    }
    let mut raw = Secret::new(vec![0; bytes]);
    random::fill("secret", &mut raw)?;
    let mut text = Secret::new(vec![0; bytes.div_ceil(3) * 4]);
    let length = URL_SAFE_NO_PAD.encode_slice(&raw, &mut text).map_err(|_| Error::Internal("base64"))?;
    text.truncate(length);
    Ok(text)
}
