//! The record that lies in the store and is readable while sealed.

use keyhearth_core::Error;
use keyhearth_core::id::DeploymentId;
use keyhearth_crypto::hpke::{self, Suite};
use keyhearth_crypto::kdf::{self, MacKey};
use keyhearth_crypto::kh1::envelope;
use keyhearth_crypto::passphrase::{self, Params};
use keyhearth_crypto::secret::SecretBytes;
use keyhearth_crypto::{self as crypto, random, shamir};
use minicbor::bytes::{ByteArray, ByteSlice};
use minicbor::{Decode, Encode};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{
    PASSPHRASE_BYTES_MIN, Passphrase, Quorum, Root, SECRET_BYTES, SealChoice, SealKey, Secrets,
    ShareCollector, Shares, Unsealed, concat,
};

/// The longest record that is read. With 255 shares it has some 20,000 bytes.
pub const RECORD_BYTES_MAX: usize = 64 << 10;

pub(super) const FORMAT: u8 = 1;
pub(super) const SECRETS_AAD: &[u8] = b"keyhearth/seal/secrets";
pub(super) const PREVIOUS_AAD: &[u8] = b"keyhearth/seal/previous-root";
const ROOT_INFO: &[u8] = b"keyhearth/seal/root";
const SUITE: Suite = Suite::X25519MlKem768;
const DAMAGED: Error = Error::Damaged("seal record");

/// How this deployment is sealed. Readable while sealed; holds nothing in the clear that helps to open it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SealRecord {
    #[n(0)]
    pub(super) body: Body,
    #[n(1)]
    mac: ByteArray<32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Body {
    #[n(0)]
    pub format: u8,
    #[n(1)]
    pub deployment: DeploymentId,
    /// Counts writes of the record.
    #[n(2)]
    pub revision: u64,
    #[n(3)]
    pub term: u32,
    #[n(4)]
    pub seals: Vec<Seal>,
    /// [`Secrets`] under the root.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub secrets: Vec<u8>,
    /// The root of the term before under this one, until no tenant key needs it.
    #[cbor(n(6), with = "minicbor::bytes")]
    pub previous: Option<Vec<u8>>,
}

/// One way to the root.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Seal {
    #[n(0)]
    pub method: Method,
    /// The root is sealed to this key.
    #[cbor(n(1), with = "minicbor::bytes")]
    public: Vec<u8>,
    /// The record's MAC key (32 bytes) and the private half of `public`, under the seal key.
    #[cbor(n(2), with = "minicbor::bytes")]
    wrapped_private: Vec<u8>,
    #[cbor(n(3), with = "minicbor::bytes")]
    sealed_root: Vec<u8>,
}

/// Where the seal key comes from.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) enum Method {
    #[n(0)]
    Passphrase(#[n(0)] Argon2id),
    #[n(1)]
    Shares(#[n(0)] ShareSet),
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Argon2id {
    #[n(0)]
    pub salt: ByteArray<{ passphrase::SALT_BYTES }>,
    #[n(1)]
    pub passes: u32,
    #[n(2)]
    pub memory_kib: u32,
    #[n(3)]
    pub lanes: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct ShareSet {
    #[n(0)]
    pub set_id: ByteArray<16>,
    #[n(1)]
    pub threshold: u8,
    /// Of each share, in the order of their indexes from 1.
    #[n(2)]
    pub digests: Vec<ByteArray<32>>,
    #[n(3)]
    pub set_mac: ByteArray<32>,
}

impl SealRecord {
    pub(super) fn new(body: Body, record_auth: &SecretBytes) -> Self {
        let mac = body.mac(record_auth).sign(&[&body.to_bytes()]);
        Self { body, mac: mac.into() }
    }

    /// The document's bytes: CBOR.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a document. Refuses argon2id parameters below the least and absurd ones; whether the rest
    /// was altered shows when it opens.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unsupported`] for the format of a later version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(DAMAGED);
        }
        let record: Self = minicbor::decode(bytes).map_err(|_| DAMAGED)?;
        if record.body.format != FORMAT {
            return Err(Error::Unsupported("this format of the seal record"));
        }
        let seals = &record.body.seals;
        let twice = matches!(
            &seals[..],
            [Seal { method: Method::Passphrase(_), .. }, Seal { method: Method::Passphrase(_), .. }]
                | [Seal { method: Method::Shares(_), .. }, Seal { method: Method::Shares(_), .. }]
        );
        let sound = (1..=2).contains(&seals.len()) && !twice && seals.iter().all(|s| s.method.is_sound());
        if !sound || record.to_bytes() != bytes {
            return Err(DAMAGED);
        }
        Ok(record)
    }

    /// The deployment that is sealed. Proven only once it opens.
    #[must_use]
    pub fn deployment(&self) -> DeploymentId {
        self.body.deployment
    }

    /// Counts roots from 1.
    #[must_use]
    pub fn term(&self) -> u32 {
        self.body.term
    }

    /// Counts the record's changes: one below what the engine has seen was put back by somebody.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.body.revision
    }

    /// Whether a passphrase opens it.
    #[must_use]
    pub fn has_passphrase(&self) -> bool {
        self.body.seals.iter().any(|seal| matches!(seal.method, Method::Passphrase(_)))
    }

    /// The shares that open it, if shares do.
    #[must_use]
    pub fn quorum(&self) -> Option<Quorum> {
        self.share_set().map(|(_, set)| set.quorum())
    }

    /// Starts collecting shares, if shares open it.
    #[must_use]
    pub fn collector(&self) -> Option<ShareCollector> {
        self.share_set().map(|(_, set)| ShareCollector::new(set.clone()))
    }

    /// Opens it with the passphrase. Takes as long as argon2id does.
    ///
    /// # Errors
    /// [`Error::NotAuthentic`] for another passphrase or an altered seal, [`Error::Unsupported`] if no
    /// passphrase opens it, [`Error::Damaged`] if the rest of the record was altered.
    pub fn unseal_passphrase(&self, text: &[u8]) -> Result<Unsealed, Error> {
        let mut seals = self.body.seals.iter();
        let found = seals.find_map(|seal| match &seal.method {
            Method::Passphrase(argon2id) => Some((seal, argon2id)),
            Method::Shares(_) => None,
        });
        let (seal, argon2id) = found.ok_or(Error::Unsupported("a passphrase: this server has shares"))?;
        self.unseal(seal, &argon2id.derive(text)?)
    }

    /// Opens it with what a [`ShareCollector`] of this record gave.
    ///
    /// # Errors
    /// As [`SealRecord::unseal_passphrase`].
    pub fn unseal_shares(&self, key: &SealKey) -> Result<Unsealed, Error> {
        let (seal, _) = self.share_set().ok_or(Error::Unsupported("shares: this server has a passphrase"))?;
        self.unseal(seal, &key.0)
    }

    fn share_set(&self) -> Option<(&Seal, &ShareSet)> {
        self.body.seals.iter().find_map(|seal| match &seal.method {
            Method::Shares(set) => Some((seal, set)),
            Method::Passphrase(_) => None,
        })
    }

    fn unseal(&self, seal: &Seal, key: &SecretBytes) -> Result<Unsealed, Error> {
        let (record_auth, private) = seal.open_private(self.body.deployment, key)?;
        self.authentic_body(&record_auth)?;
        let root = seal.open_root(self.body.deployment, self.body.term, &private)?;
        self.open(Root { term: self.body.term, key: root })
    }

    /// Opens what `root` protects.
    pub(super) fn open(&self, root: Root) -> Result<Unsealed, Error> {
        let Body { deployment, secrets, previous, .. } = &self.body;
        let packed = root.unwrap(*deployment, SECRETS_AAD, secrets).map_err(|_| DAMAGED)?;
        let (secrets, record_auth) = Secrets::unpack(&packed)?;
        let previous = match previous {
            Some(wrapped) => Some(Root {
                term: root.term.checked_sub(1).ok_or(DAMAGED)?,
                key: root.unwrap(*deployment, PREVIOUS_AAD, wrapped).map_err(|_| DAMAGED)?,
            }),
            None => None,
        };
        Ok(Unsealed { deployment: *deployment, root, previous, record_auth, secrets })
    }

    pub(super) fn authentic_body(&self, record_auth: &SecretBytes) -> Result<&Body, Error> {
        let authentic = self.body.mac(record_auth).verify(&[&self.body.to_bytes()], &self.mac);
        if authentic { Ok(&self.body) } else { Err(DAMAGED) }
    }
}

impl Body {
    fn mac(&self, record_auth: &SecretBytes) -> MacKey {
        let mut key = Zeroizing::new([0; SECRET_BYTES]);
        kdf::kbkdf(record_auth.expose(), "keyhearth/seal/record", &[], &mut *key);
        MacKey::new(&*key)
    }

    fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }
}

impl Seal {
    /// Makes a seal that `key` opens and seals `root` with it.
    fn new(
        deployment: DeploymentId,
        method: Method,
        key: &SecretBytes,
        record_auth: &SecretBytes,
        root: &Root,
    ) -> Result<Self, Error> {
        let hpke::KeyPair { private, public } = hpke::generate(SUITE)?;
        let mut seal = Self { method, public, wrapped_private: Vec::new(), sealed_root: Vec::new() };
        let material = concat(&[record_auth, &private])?;
        seal.wrapped_private =
            envelope::wrap(key, deployment.0, 0, &seal.header(deployment), material.expose())?;
        seal.seal_root(deployment, root)?;
        Ok(seal)
    }

    pub(super) fn seal_root(&mut self, deployment: DeploymentId, root: &Root) -> Result<(), Error> {
        let aad = self.root_aad(deployment, root.term);
        self.sealed_root = hpke::seal(SUITE, &self.public, ROOT_INFO, &aad, root.key.expose())?;
        Ok(())
    }

    /// The record's MAC key and the private key.
    pub(super) fn open_private(
        &self,
        deployment: DeploymentId,
        key: &SecretBytes,
    ) -> Result<(SecretBytes, SecretBytes), Error> {
        let header = self.header(deployment);
        let material = envelope::unwrap(key, deployment.0, 0, &header, &self.wrapped_private);
        let material = material.map_err(|error| match error {
            crypto::Error::Internal(what) => Error::Internal(what),
            crypto::Error::Invalid(_)
            | crypto::Error::TooLarge { .. }
            | crypto::Error::Unsupported(_)
            | crypto::Error::NotAuthentic => Error::NotAuthentic,
        })?;
        let (record_auth, private) = material.expose().split_at_checked(SECRET_BYTES).ok_or(DAMAGED)?;
        Ok((SecretBytes::copy_from(record_auth)?, SecretBytes::copy_from(private)?))
    }

    pub(super) fn open_root(
        &self,
        deployment: DeploymentId,
        term: u32,
        private: &SecretBytes,
    ) -> Result<SecretBytes, Error> {
        let aad = self.root_aad(deployment, term);
        let mut root = hpke::open(SUITE, private, ROOT_INFO, &aad, &self.sealed_root).map_err(|_| DAMAGED)?;
        Ok(SecretBytes::take_from(&mut root)?)
    }

    /// What `wrapped_private` is bound to: format, deployment, method with all parameters, public key.
    fn header(&self, deployment: DeploymentId) -> Vec<u8> {
        let public = <&ByteSlice>::from(&self.public[..]);
        encode(&("keyhearth/seal", FORMAT, deployment, &self.method, public))
    }

    fn root_aad(&self, deployment: DeploymentId, term: u32) -> Vec<u8> {
        [&self.header(deployment)[..], &term.to_be_bytes()].concat()
    }
}

impl Method {
    fn is_sound(&self) -> bool {
        match self {
            Self::Passphrase(argon2id) => argon2id.params().is_ok(),
            Self::Shares(ShareSet { threshold, digests, .. }) => {
                (1..=usize::from(u8::MAX)).contains(&digests.len())
                    && (1..=digests.len()).contains(&usize::from(*threshold))
            }
        }
    }
}

impl Argon2id {
    fn new(params: Params) -> Result<Self, Error> {
        let mut salt = [0; passphrase::SALT_BYTES];
        random::fill("keyhearth/seal/salt", &mut salt)?;
        let (passes, memory_kib, lanes) = (params.passes(), params.memory_kib(), params.lanes());
        Ok(Self { salt: salt.into(), passes, memory_kib, lanes })
    }

    fn params(&self) -> Result<Params, crypto::Error> {
        Params::new(self.passes, self.memory_kib, self.lanes)
    }

    pub(super) fn derive(&self, text: &[u8]) -> Result<SecretBytes, Error> {
        passphrase::derive(text, &self.salt, self.params()?).map_err(|error| match error {
            crypto::Error::Invalid(rule) => Error::Invalid { field: "passphrase", rule },
            crypto::Error::TooLarge { limit } => Error::TooLarge { field: "passphrase", limit },
            crypto::Error::Unsupported(_) | crypto::Error::NotAuthentic | crypto::Error::Internal(_) => {
                error.into()
            }
        })
    }
}

impl ShareSet {
    fn quorum(&self) -> Quorum {
        let count = u8::try_from(self.digests.len()).expect("a sound set has at most 255 shares");
        Quorum { threshold: self.threshold, count }
    }

    /// Whether `key` is what this set was split from, in constant time.
    pub(super) fn proves(&self, key: &SecretBytes) -> bool {
        let Quorum { threshold, count } = self.quorum();
        let mac = shamir::set_mac(key, *self.set_id, threshold, count);
        mac.ct_eq(&self.set_mac[..]).into()
    }
}

/// Makes the seals of `choice`.
pub(super) fn make_seals(
    deployment: DeploymentId,
    choice: &SealChoice<'_>,
    record_auth: &SecretBytes,
    root: &Root,
) -> Result<(Vec<Seal>, Shares), Error> {
    let mut seals = Vec::new();
    let mut shares = Vec::new();
    if let Some(Passphrase { text, params }) = choice.passphrase {
        if text.len() < PASSPHRASE_BYTES_MIN {
            return Err(Error::Invalid { field: "passphrase", rule: "at least 12 bytes long" });
        }
        let argon2id = Argon2id::new(params)?;
        let key = argon2id.derive(text)?;
        seals.push(Seal::new(deployment, Method::Passphrase(argon2id), &key, record_auth, root)?);
    }
    if let Some(Quorum { threshold, count }) = choice.quorum {
        let key = SecretBytes::random(SECRET_BYTES)?;
        let split = shamir::split(&key, threshold, count)?;
        let set_id = split.first().ok_or(Error::Internal("no shares"))?.set_id;
        let set = ShareSet {
            set_id: set_id.into(),
            threshold,
            digests: split.iter().map(|share| share.digest().into()).collect(),
            set_mac: shamir::set_mac(&key, set_id, threshold, count).into(),
        };
        seals.push(Seal::new(deployment, Method::Shares(set), &key, record_auth, root)?);
        shares = split.iter().map(shamir::Share::to_text).collect();
    }
    if seals.is_empty() {
        return Err(Error::Invalid { field: "seal", rule: "a passphrase, shares, or both" });
    }
    Ok((seals, Shares(shares)))
}

fn encode(value: &impl Encode<()>) -> Vec<u8> {
    minicbor::to_vec(value).expect("writing to memory does not fail")
}
