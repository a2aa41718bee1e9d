//! The seal: how the server comes to its root key, and what the root key protects.
//!
//! ```text
//! passphrase (argon2id) | shares (M of N)       the seal key: never stored, gone once it has opened
//!   └ wraps the seal's private key and the key that authenticates the record
//!       └ to its public half: root key, term n  in locked memory while unsealed
//!           ├ wraps the server's own secrets    row MACs, audit HMACs, checkpoints, CA
//!           └ wraps tenant keys
//! ```
//!
//! The root is sealed *to a public key*, so a new root needs neither the shares nor the passphrase, and
//! the running server holds nothing that opens the next record: rotating root and tenant keys locks
//! out whoever once read its memory. The record's MAC says that the holder of the last root wrote it:
//! who can write the store cannot make the server accept a root of his choice.
//!
//! The server's own secrets are random and stay the same when the root changes, so a rotation touches
//! no row but the tenant keys.
//!
//! Not here: reading and writing of the store, limits on how often somebody may try, and who may ask.
//! All that is the engine's, the only caller. The bytes are described in `docs/formats/seal.md`.

mod record;
mod rekey;
mod shares;
#[cfg(test)]
mod tests;

use keyhearth_core::Error;
use keyhearth_core::id::{DeploymentId, TenantId};
use keyhearth_crypto::algorithm::Algorithm;
use keyhearth_crypto::kdf::kbkdf;
use keyhearth_crypto::kh1::envelope;
use keyhearth_crypto::note::NoteKey;
use keyhearth_crypto::passphrase::Params;
use keyhearth_crypto::secret::SecretBytes;
use keyhearth_crypto::{self as crypto, key};
use zeroize::Zeroizing;

use record::{Body, FORMAT};
pub use record::{RECORD_BYTES_MAX, SealRecord};
pub use rekey::Rekey;
pub use shares::{COLLECT_MS_MAX, Collected, Progress, SealKey, ShareCollector, ShareError};

/// Name of the store's document that holds the [`SealRecord`].
pub const DOCUMENT: &str = "seal";
/// The shortest passphrase a seal is made with, in bytes. Argon2id does not make up for a short one.
pub const PASSPHRASE_BYTES_MIN: usize = 12;

const SECRET_BYTES: usize = 32;

/// Which seals to make: at least one; with both, either opens.
#[derive(Clone, Copy, Default)]
pub struct SealChoice<'a> {
    /// A passphrase.
    pub passphrase: Option<Passphrase<'a>>,
    /// Shares for custodians.
    pub quorum: Option<Quorum>,
}

/// A passphrase and the cost of guessing it.
#[derive(Clone, Copy)]
pub struct Passphrase<'a> {
    /// As typed, [`PASSPHRASE_BYTES_MIN`] to 1,024 bytes.
    pub text: &'a [u8],
    /// Work per guess.
    pub params: Params,
}

/// Any `threshold` of `count` shares open: 2 to `count`, or 1 of 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// Shares needed.
    pub threshold: u8,
    /// Shares made.
    pub count: u8,
}

/// A new seal.
#[derive(Debug)]
pub struct Created {
    /// For the store.
    pub record: SealRecord,
    /// For the engine.
    pub unsealed: Unsealed,
    /// For the custodians, one each. They exist nowhere else.
    pub shares: Shares,
}

/// Written shares, each on one line. `Debug` shows how many.
pub struct Shares(pub Vec<Zeroizing<String>>);

impl std::fmt::Debug for Shares {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shares({})", self.0.len())
    }
}

/// Seals a new deployment: draws its root key and its secrets. Takes as long as argon2id does.
///
/// # Errors
/// [`Error::Invalid`] for a choice without a seal, a short passphrase or an impossible quorum;
/// [`Error::Internal`] without randomness or locked memory.
pub fn create(deployment: DeploymentId, choice: &SealChoice<'_>) -> Result<Created, Error> {
    let root = Root { term: 1, key: SecretBytes::random(SECRET_BYTES)? };
    let record_auth = SecretBytes::random(SECRET_BYTES)?;
    let secrets = Secrets {
        row: SecretBytes::random(SECRET_BYTES)?,
        audit: SecretBytes::random(SECRET_BYTES)?,
        log_seed: SecretBytes::random(SECRET_BYTES)?,
        ca: key::generate(Algorithm::EcP256)?,
    };
    let (seals, shares) = record::make_seals(deployment, choice, &record_auth, &root)?;
    let wrapped = root.wrap(deployment, record::SECRETS_AAD, secrets.pack(&record_auth)?.expose())?;
    let body =
        Body { format: FORMAT, deployment, revision: 1, term: 1, seals, secrets: wrapped, previous: None };
    let record = SealRecord::new(body, &record_auth);
    let unsealed = record.open(root)?;
    Ok(Created { record, unsealed, shares })
}

/// Secrets of the server itself. They stay the same for the life of a deployment.
#[derive(Debug)]
pub struct Secrets {
    /// Authenticates rows: [`keyhearth_core::row::RowAuth::new`]; what boot release signs and authenticates with is
    /// derived from it too. 32 bytes.
    pub row: SecretBytes,
    /// Hides values in the log. 32 bytes.
    pub audit: SecretBytes,
    /// Seed of the key that signs checkpoints. 32 bytes.
    pub log_seed: SecretBytes,
    /// Private key of the built-in CA, PKCS#8: [`crate::identity::Ca`].
    pub ca: SecretBytes,
}

impl Secrets {
    /// The key that signs the log's checkpoints.
    ///
    /// # Errors
    /// [`Error::Internal`] if the library refuses the seed; it does so for none.
    pub fn checkpoint_key(&self) -> Result<NoteKey, Error> {
        let seed = self.log_seed.expose().try_into().map_err(|_| Error::Damaged("seal record"))?;
        Ok(NoteKey::from_seed(seed)?)
    }

    /// The key that signs what is released to machines that boot: they pin its public half.
    ///
    /// # Errors
    /// [`Error::Internal`] if the library refuses the seed; it does so for none.
    pub fn release_key(&self) -> Result<NoteKey, Error> {
        let mut seed = Zeroizing::new([0; SECRET_BYTES]);
        kbkdf(self.row.expose(), "keyhearth/release", &[], &mut seed[..]);
        Ok(NoteKey::from_seed(&seed)?)
    }

    /// The key of which a machine authenticates that it opened what was released to it by `transcript`.
    #[must_use]
    pub fn confirm_key(&self, transcript: &[u8; 64]) -> Zeroizing<[u8; SECRET_BYTES]> {
        let mut key = Zeroizing::new([0; SECRET_BYTES]);
        kbkdf(self.row.expose(), "keyhearth/confirm", &[transcript], &mut key[..]);
        key
    }

    /// `row ‖ audit ‖ log_seed ‖ record_auth ‖ ca`, the form that is wrapped.
    fn pack(&self, record_auth: &SecretBytes) -> Result<SecretBytes, crypto::Error> {
        concat(&[&self.row, &self.audit, &self.log_seed, record_auth, &self.ca])
    }

    fn unpack(packed: &SecretBytes) -> Result<(Self, SecretBytes), Error> {
        let damaged = Error::Damaged("seal record");
        let (fixed, ca) = packed.expose().split_at_checked(4 * SECRET_BYTES).ok_or(damaged)?;
        let part = |i: usize| SecretBytes::copy_from(&fixed[i * SECRET_BYTES..][..SECRET_BYTES]);
        let ca = SecretBytes::copy_from(ca)?;
        Ok((Self { row: part(0)?, audit: part(1)?, log_seed: part(2)?, ca }, part(3)?))
    }
}

fn concat(parts: &[&SecretBytes]) -> Result<SecretBytes, crypto::Error> {
    SecretBytes::with_len(parts.iter().map(|part| part.len()).sum(), |mut out| {
        for part in parts {
            let (head, rest) = out.split_at_mut(part.len());
            head.copy_from_slice(part.expose());
            out = rest;
        }
        Ok(())
    })
}

#[derive(Debug)]
struct Root {
    term: u32,
    key: SecretBytes,
}

impl Root {
    fn wrap(&self, deployment: DeploymentId, aad: &[u8], material: &[u8]) -> Result<Vec<u8>, crypto::Error> {
        envelope::wrap(&self.key, deployment.0, self.term, aad, material)
    }

    fn unwrap(
        &self,
        deployment: DeploymentId,
        aad: &[u8],
        wrapped: &[u8],
    ) -> Result<SecretBytes, crypto::Error> {
        envelope::unwrap(&self.key, deployment.0, self.term, aad, wrapped)
    }

    fn copy(&self) -> Result<Self, crypto::Error> {
        Ok(Self { term: self.term, key: SecretBytes::copy_from(self.key.expose())? })
    }
}

/// What an unsealed server holds. Dropping it seals the server again.
///
/// A rotation of the root, and what a crash leaves at each step:
///
/// | step | written | a crash after it |
/// |---|---|---|
/// | [`Unsealed::rotate`] | the record: new root, old root wrapped under the new | unseals, reads tenant keys of both terms, [`Unsealed::is_rotating`] |
/// | [`Unsealed::rewrap_tenant_key`] | one row each | as before; those done are left alone |
/// | [`Unsealed::finish_rotation`] | the record without the old root | done |
#[derive(Debug)]
pub struct Unsealed {
    deployment: DeploymentId,
    root: Root,
    previous: Option<Root>,
    record_auth: SecretBytes,
    secrets: Secrets,
}

impl Unsealed {
    /// The deployment everything is bound to.
    #[must_use]
    pub fn deployment(&self) -> DeploymentId {
        self.deployment
    }

    /// Counts roots from 1.
    #[must_use]
    pub fn term(&self) -> u32 {
        self.root.term
    }

    /// The server's own secrets.
    #[must_use]
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Whether tenant keys may still be wrapped under the previous root: then sweep them.
    #[must_use]
    pub fn is_rotating(&self) -> bool {
        self.previous.is_some()
    }

    /// Wraps a tenant key under the root, bound to deployment, tenant, version and term.
    ///
    /// # Errors
    /// [`Error::Internal`] without randomness.
    pub fn wrap_tenant_key(
        &self,
        tenant: TenantId,
        version: u32,
        key: &SecretBytes,
    ) -> Result<Vec<u8>, Error> {
        Ok(self.root.wrap(self.deployment, &tenant_key_aad(tenant, version), key.expose())?)
    }

    /// Unwraps a tenant key that is wrapped under this root or, during a rotation, the previous one.
    ///
    /// # Errors
    /// [`Error::NotAuthentic`] for every other.
    pub fn unwrap_tenant_key(
        &self,
        tenant: TenantId,
        version: u32,
        wrapped: &[u8],
    ) -> Result<SecretBytes, Error> {
        let aad = tenant_key_aad(tenant, version);
        let opened = self.root.unwrap(self.deployment, &aad, wrapped);
        match (opened, &self.previous) {
            (Err(crypto::Error::NotAuthentic), Some(previous)) => {
                Ok(previous.unwrap(self.deployment, &aad, wrapped)?)
            }
            (opened, _) => Ok(opened?),
        }
    }

    /// The same tenant key under this root; `None` if it is already.
    ///
    /// # Errors
    /// As [`Unsealed::unwrap_tenant_key`].
    pub fn rewrap_tenant_key(
        &self,
        tenant: TenantId,
        version: u32,
        wrapped: &[u8],
    ) -> Result<Option<Vec<u8>>, Error> {
        if self.root.unwrap(self.deployment, &tenant_key_aad(tenant, version), wrapped).is_ok() {
            return Ok(None);
        }
        let key = self.unwrap_tenant_key(tenant, version, wrapped)?;
        self.wrap_tenant_key(tenant, version, &key).map(Some)
    }

    /// Draws the next root. Write the record durably, and only then use the new [`Unsealed`].
    ///
    /// Needs no share and no passphrase: the seals stay, the root is sealed to their public keys.
    ///
    /// # Errors
    /// [`Error::Conflict`] while a rotation is not finished, [`Error::Damaged`] if `record` is not the
    /// one this server wrote last, [`Error::Internal`] without randomness or locked memory.
    pub fn rotate(&self, record: &SealRecord) -> Result<(SealRecord, Self), Error> {
        if self.is_rotating() {
            return Err(Error::Conflict("the last rotation of the root is not finished"));
        }
        let term =
            self.root.term.checked_add(1).ok_or(Error::Internal("the terms of the root are used up"))?;
        let root = Root { term, key: SecretBytes::random(SECRET_BYTES)? };
        let mut body = self.next_body(record)?;
        body.term = term;
        for seal in &mut body.seals {
            seal.seal_root(self.deployment, &root)?;
        }
        body.secrets =
            root.wrap(self.deployment, record::SECRETS_AAD, self.secrets.pack(&self.record_auth)?.expose())?;
        body.previous = Some(root.wrap(self.deployment, record::PREVIOUS_AAD, self.root.key.expose())?);
        let record = SealRecord::new(body, &self.record_auth);
        let unsealed = record.open(root)?;
        Ok((record, unsealed))
    }

    /// Ends a rotation: forgets the previous root, once all of `tenant_keys` (tenant, version, wrapped
    /// key: every row there is) open under the present one.
    ///
    /// # Errors
    /// [`Error::Conflict`] if one does not, or nothing is being rotated; [`Error::Damaged`] and
    /// [`Error::Internal`] as [`Unsealed::rotate`].
    pub fn finish_rotation(
        &self,
        record: &SealRecord,
        tenant_keys: impl IntoIterator<Item = (TenantId, u32, Vec<u8>)>,
    ) -> Result<(SealRecord, Self), Error> {
        if !self.is_rotating() {
            return Err(Error::Conflict("the root is not being rotated"));
        }
        for (tenant, version, wrapped) in tenant_keys {
            self.root
                .unwrap(self.deployment, &tenant_key_aad(tenant, version), &wrapped)
                .map_err(|_| Error::Conflict("a tenant key is not under the new root yet"))?;
        }
        let body = Body { previous: None, ..self.next_body(record)? };
        let record = SealRecord::new(body, &self.record_auth);
        let unsealed = record.open(self.root.copy()?)?;
        Ok((record, unsealed))
    }

    /// What follows `record`, if that is authentic and of this root.
    fn next_body(&self, record: &SealRecord) -> Result<Body, Error> {
        let mut body = record.authentic_body(&self.record_auth)?.clone();
        if body.deployment != self.deployment || body.term != self.root.term {
            return Err(Error::Damaged("seal record"));
        }
        body.revision += 1;
        Ok(body)
    }
}

fn tenant_key_aad(tenant: TenantId, version: u32) -> Vec<u8> {
    [&b"keyhearth/tenant-key"[..], &tenant.0, &version.to_be_bytes()].concat()
}
