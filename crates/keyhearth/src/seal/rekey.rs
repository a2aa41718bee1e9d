//! New seals in place of the old ones, once they have proved to open.

use keyhearth_core::Error;
use keyhearth_core::time::Time;
use keyhearth_crypto::secret::SecretBytes;

use super::record::{self, Body, Method, Seal};
use super::{
    Collected, Progress, SECRET_BYTES, SealChoice, SealRecord, ShareCollector, ShareError, Shares, Unsealed,
};

/// A ceremony that replaces all seals of a server. Who may hold one, the caller decides.
///
/// | state | on | next |
/// |---|---|---|
/// | unproven | the passphrase, or enough shares, of each new seal | proven |
/// | unproven, proven | drop, crash | nothing happened: the old seals are good |
/// | proven | [`Rekey::finish`] and writing its record | the old seals are dead |
///
/// The root stays the same. Somebody who has a copy of the old record and the old shares still opens that
/// copy; rotate the root and the tenant keys afterwards, and what is made from then on is out of his reach.
#[derive(Debug)]
pub struct Rekey {
    term: u32,
    seals: Vec<Seal>,
    record_auth: SecretBytes,
    passphrase_proven: bool,
    collector: Option<ShareCollector>,
    shares_proven: bool,
}

impl Rekey {
    /// Makes new seals for the present root, and shows the new shares this once.
    ///
    /// # Errors
    /// As [`super::create`].
    pub fn begin(unsealed: &Unsealed, choice: &SealChoice<'_>) -> Result<(Self, Shares), Error> {
        let record_auth = SecretBytes::random(SECRET_BYTES)?;
        let (seals, shares) = record::make_seals(unsealed.deployment, choice, &record_auth, &unsealed.root)?;
        let collector = seals.iter().find_map(|seal| match &seal.method {
            Method::Shares(set) => Some(ShareCollector::new(set.clone())),
            Method::Passphrase(_) => None,
        });
        let rekey = Self {
            term: unsealed.root.term,
            passphrase_proven: choice.passphrase.is_none(),
            shares_proven: collector.is_none(),
            seals,
            record_auth,
            collector,
        };
        Ok((rekey, shares))
    }

    /// Whether every new seal has opened.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.passphrase_proven && self.shares_proven
    }

    /// Shares given so far, while they are being proved.
    #[must_use]
    pub fn progress(&self) -> Option<Progress> {
        self.collector.as_ref().map(ShareCollector::progress)
    }

    /// Proves that the new passphrase opens, by opening with it.
    ///
    /// # Errors
    /// [`Error::NotAuthentic`] if it does not; [`Error::Unsupported`] if none was chosen;
    /// [`Error::Conflict`] if the root has changed since.
    pub fn prove_passphrase(&mut self, unsealed: &Unsealed, text: &[u8]) -> Result<(), Error> {
        let found = self.seals.iter().find_map(|seal| match &seal.method {
            Method::Passphrase(argon2id) => Some((seal, argon2id)),
            Method::Shares(_) => None,
        });
        let (seal, argon2id) = found.ok_or(Error::Unsupported("a passphrase: the new seal has shares"))?;
        opens(seal, unsealed, &argon2id.derive(text)?)?;
        self.passphrase_proven = true;
        Ok(())
    }

    /// Proves one new share; with the last one needed, that together they open.
    ///
    /// # Errors
    /// As [`ShareCollector::add`]; [`ShareError::OtherSet`] also when no share is awaited,
    /// [`ShareError::Record`] if the root has changed since.
    pub fn prove_share(&mut self, unsealed: &Unsealed, text: &str, now: Time) -> Result<(), ShareError> {
        let collector = self.collector.as_mut().ok_or(ShareError::OtherSet)?;
        let Collected::Complete(key) = collector.add(text, now)? else { return Ok(()) };
        let mut seals = self.seals.iter();
        let seal = seals.find(|seal| matches!(seal.method, Method::Shares(_))).ok_or(ShareError::Record)?;
        opens(seal, unsealed, &key.0).map_err(|_| ShareError::Record)?;
        self.shares_proven = true;
        self.collector = None;
        Ok(())
    }

    /// The record with the new seals alone. Write it durably, and only then use the new [`Unsealed`]:
    /// until it is written the old seals open, afterwards the new ones.
    ///
    /// # Errors
    /// [`Error::Conflict`] before every new seal is proven or if the root has changed since;
    /// [`Error::Damaged`] if `record` is not the one this server wrote last.
    pub fn finish(&self, unsealed: &Unsealed, record: &SealRecord) -> Result<(SealRecord, Unsealed), Error> {
        if !self.is_proven() {
            return Err(Error::Conflict("not every new seal has proved to open"));
        }
        if self.term != unsealed.root.term {
            return Err(ROOT_CHANGED);
        }
        let secrets = unsealed.secrets.pack(&self.record_auth)?;
        let secrets = unsealed.root.wrap(unsealed.deployment, record::SECRETS_AAD, secrets.expose())?;
        let body = Body { seals: self.seals.clone(), secrets, ..unsealed.next_body(record)? };
        let record = SealRecord::new(body, &self.record_auth);
        let unsealed = record.open(unsealed.root.copy()?)?;
        Ok((record, unsealed))
    }
}

const ROOT_CHANGED: Error = Error::Conflict("the root has changed: begin again");

/// Opens `seal` and compares what comes out with the root in use.
fn opens(seal: &Seal, unsealed: &Unsealed, key: &SecretBytes) -> Result<(), Error> {
    let (_, private) = seal.open_private(unsealed.deployment, key)?;
    let root = seal.open_root(unsealed.deployment, unsealed.root.term, &private);
    let same = root.is_ok_and(|root| root.ct_eq(unsealed.root.key.expose()));
    if same { Ok(()) } else { Err(ROOT_CHANGED) }
}
