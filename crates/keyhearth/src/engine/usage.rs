//! Acts that use key material. Pure computation: nothing here changes a row, except the reservation
//! of random IVs.

use std::sync::Arc;

use keyhearth_core::Error;
use keyhearth_core::decide::Permit;
use keyhearth_core::key::{Key, RANDOM_IV_USES_MAX};
use keyhearth_core::request::{
    Ask, ContextPairs, DataKeyPair, Message, PLAINTEXT_BYTES_MAX, Request, Response, Secret, Source,
};
use keyhearth_core::state::Class;
use keyhearth_core::store::Write;
use keyhearth_crypto::algorithm::{Algorithm, Family, Mechanism, Purpose, Status};
use keyhearth_crypto::key::{Encrypted, Input, Key as Ready, generate_pair};
use keyhearth_crypto::kh1;
use keyhearth_crypto::secret::SecretBytes;

use super::Effect;
use super::open::{Held, Open};

/// Uses under random IVs that one durable reservation covers. A crash wastes at most so many.
const RANDOM_IV_RESERVATION: u64 = 1 << 20;

/// Sizes of data keys, in bytes.
const DATA_KEY_BYTES: std::ops::RangeInclusive<usize> = 1..=1_024;

/// Whether the act takes so long that it must not run between other requests.
pub fn is_slow(algorithm: Algorithm) -> bool {
    match algorithm.info().family {
        Family::Rsa => true,
        Family::Aes
        | Family::ChaCha20
        | Family::Hmac
        | Family::Ec
        | Family::Ed25519
        | Family::X25519
        | Family::MlKem
        | Family::MlDsa => false,
    }
}

/// Whether the act is a short computation that reads nothing.
pub fn is_quick(ask: &Ask, held: &Held, version: u32) -> bool {
    let makes_pair = matches!(ask, Ask::DataKeyPair { algorithm, .. } if is_slow(*algorithm));
    let reads_more = matches!(
        ask,
        Ask::Rewrap { .. }
            | Ask::KeepSecret { .. }
            | Ask::ReadSecret { .. }
            | Ask::VolumeSecret { .. }
            | Ask::RecoverySecret { .. }
            | Ask::ReleaseVolumes { .. }
    );
    !reads_more && !makes_pair && !is_slow(held.key.value.algorithm) && Open::is_ready(held, version)
}

/// The version that the ciphertext of a request names, for messages that carry it.
///
/// The header is a hint only: the key is the one that the caller names.
pub fn named_version(ask: &Ask) -> Option<u32> {
    match ask {
        Ask::Decrypt { mechanism, version, iv, ciphertext, .. } => {
            version_in(*mechanism, *version, iv, ciphertext)
        }
        ask => ask.version(),
    }
}

/// The same of what a rewrap opens.
pub fn source_version(source: &Source) -> Option<u32> {
    version_in(source.mechanism, source.version, &source.iv, &source.ciphertext)
}

fn version_in(
    mechanism: Option<Mechanism>,
    version: Option<u32>,
    iv: &[u8],
    ciphertext: &[u8],
) -> Option<u32> {
    // Raw ciphertexts carry no header; without one the primary version is tried.
    let may_say = version.is_none() && iv.is_empty() && matches!(mechanism, None | Some(Mechanism::Kh1));
    if may_say { kh1::header(ciphertext).ok().map(|header| header.version) } else { version }
}

/// The pair that is bound to what the server keeps, beside the caller's. No caller can name it: who has a copy of what was
/// kept, from a backup of the store, does not open it by [`Ask::Decrypt`].
const KEPT: (&str, &str) = ("keyhearth:kept", "");
/// What names of such pairs begin with.
const RESERVED: &str = "keyhearth:";

/// What a caller binds.
fn context(pairs: &ContextPairs) -> Result<kh1::Context, Error> {
    if pairs.iter().any(|(name, _)| name.starts_with(RESERVED)) {
        let rule = "names that begin with keyhearth: are the server's own";
        return Err(Error::Invalid { field: "context", rule });
    }
    bound(pairs)
}

/// What is bound to the value of a secret with this context.
fn kept_context(pairs: &ContextPairs) -> Result<kh1::Context, Error> {
    let mut pairs = pairs.clone();
    pairs.push((KEPT.0.to_owned(), KEPT.1.to_owned()));
    bound(&pairs)
}

fn bound(pairs: &ContextPairs) -> Result<kh1::Context, Error> {
    kh1::Context::new(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))).map_err(|_| {
        Error::Invalid { field: "context", rule: "at most 64 pairs with unique names, 8 KiB together" }
    })
}

fn secret(bytes: &SecretBytes) -> Secret {
    Secret::new(bytes.expose().to_vec())
}

fn check_size(field: &'static str, bytes: &[u8]) -> Result<(), Error> {
    if bytes.len() > PLAINTEXT_BYTES_MAX {
        return Err(Error::TooLarge { field, limit: PLAINTEXT_BYTES_MAX });
    }
    Ok(())
}

/// The mechanism to use: the caller's, if the key has it and it may still be used this way, or the usual one.
fn mechanism(
    key: &Key,
    wanted: Option<Mechanism>,
    purpose: Purpose,
    class: Class,
) -> Result<Mechanism, Error> {
    let info = key.algorithm.info();
    let unsupported = Error::Unsupported("the key's algorithm does not have this mechanism");
    let mechanism = match wanted {
        Some(mechanism) if info.mechanisms.contains(&mechanism) && mechanism.serves(purpose) => mechanism,
        Some(_) => return Err(unsupported),
        None => key.algorithm.default_mechanism(purpose).ok_or(unsupported)?,
    };
    let worst = info.status.max(mechanism.status());
    match (worst, class) {
        (Status::Forbidden, _) | (Status::ProcessOnly, Class::Protect | Class::Export) => {
            Err(Error::Unsupported("this algorithm or mechanism is no longer used to protect"))
        }
        (Status::Preferred | Status::Allowed | Status::ProcessOnly, _) => Ok(mechanism),
    }
}

/// A key version at work by a permit.
struct Work<'a> {
    open: &'a Open,
    held: &'a Held,
    number: u32,
    class: Class,
    ready: Arc<Ready>,
    dry_run: bool,
}

impl<'a> Work<'a> {
    fn new(open: &'a Open, permit: &Permit, held: &'a Held, dry_run: bool) -> Result<Self, Error> {
        let number = permit.version().ok_or(Error::Internal("no version was permitted"))?;
        let ready = open.version(held, number)?;
        Ok(Self { open, held, number, class: permit.operation().class(), ready, dry_run })
    }

    fn key(&self) -> &'a Key {
        &self.held.key.value
    }

    fn mechanism(&self, wanted: Option<Mechanism>, purpose: Purpose) -> Result<Mechanism, Error> {
        mechanism(self.key(), wanted, purpose, self.class)
    }

    fn kh1_material(&self) -> Result<&[u8], Error> {
        self.ready.kh1_material().ok_or(Error::Unsupported("only AES-256 keys make KH1 messages"))
    }

    /// A KH1 message in which the key id, version and context are bound.
    fn seal(&self, context: &kh1::Context, plaintext: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(kh1::seal(self.kh1_material()?, self.key().id.0, self.number, context, plaintext)?)
    }

    fn open_message(&self, context: &kh1::Context, message: &[u8]) -> Result<Secret, Error> {
        let opened = kh1::open(self.kh1_material()?, self.key().id.0, self.number, context, message);
        opened.map_err(|error| match error {
            keyhearth_crypto::Error::Invalid(_) => Error::NotAuthentic,
            other => other.into(),
        })
    }

    /// Encrypts, and gives what has to be written with it.
    fn encrypt(
        &self,
        wanted: Option<Mechanism>,
        pairs: &ContextPairs,
        plaintext: &[u8],
    ) -> Result<(Encrypted, Vec<Write>), Error> {
        match self.mechanism(wanted, Purpose::Encrypt)? {
            Mechanism::Kh1 => {
                let ciphertext = self.seal(&context(pairs)?, plaintext)?;
                Ok((Encrypted { iv: Vec::new(), ciphertext }, Vec::new()))
            }
            raw => {
                let writes = self.reserve_random_iv(raw)?;
                let aad = context(pairs)?;
                Ok((self.ready.encrypt(raw, raw_aad(raw, pairs, &aad)?, plaintext)?, writes))
            }
        }
    }

    /// Decrypts; `None` for the dry run of decrypting nothing.
    fn decrypt(
        &self,
        wanted: Option<Mechanism>,
        iv: &[u8],
        pairs: &ContextPairs,
        ciphertext: &[u8],
    ) -> Result<Option<Secret>, Error> {
        let mechanism = self.mechanism(wanted, Purpose::Encrypt)?;
        if self.dry_run && ciphertext.is_empty() {
            raw_aad(mechanism, pairs, &context(pairs)?)?;
            return Ok(None);
        }
        if mechanism == Mechanism::Kh1 {
            return self.open_message(&context(pairs)?, ciphertext).map(Some);
        }
        let aad = context(pairs)?;
        Ok(Some(self.ready.decrypt(mechanism, iv, raw_aad(mechanism, pairs, &aad)?, ciphertext)?))
    }

    fn data_key(&self, pairs: &ContextPairs, bytes: usize, with_plaintext: bool) -> Result<Response, Error> {
        if !DATA_KEY_BYTES.contains(&bytes) {
            return Err(Error::Invalid { field: "bytes", rule: "must be 1 to 1,024" });
        }
        let (material, key) = (self.kh1_material()?, self.key().id);
        let (data_key, ciphertext) = kh1::seal_new(material, key.0, self.number, &context(pairs)?, bytes)?;
        let plaintext = with_plaintext.then(|| secret(&data_key));
        Ok(Response::DataKey { key, version: self.number, plaintext, ciphertext })
    }

    fn data_key_pair(
        &self,
        pairs: &ContextPairs,
        algorithm: Algorithm,
        with_plaintext: bool,
    ) -> Result<Response, Error> {
        if !matches!(algorithm.info().family, Family::Rsa | Family::Ec | Family::Ed25519 | Family::MlKem) {
            return Err(Error::Unsupported("data key pairs are RSA, elliptic curve, Ed25519 or ML-KEM"));
        }
        // Before the pair, which takes long to make.
        let (material, context) = (self.kh1_material()?, context(pairs)?);
        let (private, public) = generate_pair(algorithm)?;
        let ciphertext = kh1::seal(material, self.key().id.0, self.number, &context, private.expose())?;
        let private = with_plaintext.then(|| secret(&private));
        let pair = DataKeyPair { public, private, ciphertext };
        Ok(Response::DataKeyPair { key: self.key().id, version: self.number, pair })
    }

    /// Counts one use under a random IV. The count is durable before the use it covers: when the present
    /// reservation is used up, the write that makes the next one commits together with this use.
    fn reserve_random_iv(&self, mechanism: Mechanism) -> Result<Vec<Write>, Error> {
        if !matches!(mechanism, Mechanism::AesGcm | Mechanism::ChaCha20Poly1305) {
            return Ok(Vec::new());
        }
        let reserved = self.key().version(self.number)?.random_iv_uses;
        let used = {
            let mut used = self.open.random_iv.lock();
            let place = (self.key().id, self.number);
            // What was reserved before the server was unsealed counts as used. A use that fails counts too.
            let next = used.get(&place).copied().unwrap_or(reserved) + 1;
            if !self.dry_run {
                used.insert(place, next);
            }
            next
        };
        if used <= reserved {
            return Ok(Vec::new());
        }
        if reserved + RANDOM_IV_RESERVATION > RANDOM_IV_USES_MAX {
            return Err(Error::Unsupported(
                "this version has encrypted 2^32 messages under random IVs; rotate the key",
            ));
        }
        let mut key = self.key().clone();
        key.version_mut(self.number)?.random_iv_uses = reserved + RANDOM_IV_RESERVATION;
        Ok(vec![self.open.records.replace(&self.held.key, &key)])
    }
}

/// Carries out a permitted use of `held`.
pub fn act(open: &Open, permit: &Permit, request: &Request, held: &Held) -> Result<Effect, Error> {
    let work = Work::new(open, permit, held, request.dry_run)?;
    let (key, version, ready) = (work.key().id, work.number, &work.ready);
    let origin = work.key().origin;
    let mut writes = Vec::new();
    let response = match &request.ask {
        Ask::Encrypt { mechanism, context, plaintext, .. } => {
            check_size("plaintext", plaintext)?;
            let (made, reserves) = work.encrypt(*mechanism, context, plaintext)?;
            writes = reserves;
            Response::Encrypted { key, version, iv: made.iv, ciphertext: made.ciphertext }
        }
        Ask::Decrypt { mechanism, iv, context, ciphertext, .. } => {
            match work.decrypt(*mechanism, iv, context, ciphertext)? {
                Some(plaintext) => Response::Decrypted { key, version, plaintext },
                None => Response::WouldSucceed,
            }
        }
        Ask::DataKey { context, bytes, with_plaintext, .. } => {
            work.data_key(context, *bytes, *with_plaintext)?
        }
        Ask::DataKeyPair { context, algorithm, with_plaintext, .. } => {
            work.data_key_pair(context, *algorithm, *with_plaintext)?
        }
        Ask::Sign { mechanism, message, .. } => {
            let mechanism = work.mechanism(*mechanism, Purpose::Sign)?;
            let signature = ready.sign(mechanism, input(message)?)?;
            Response::Signature { key, version, mechanism, signature }
        }
        Ask::Verify { mechanism, message, signature, .. } => {
            let result = ready.verify(work.mechanism(*mechanism, Purpose::Sign)?, input(message)?, signature);
            Response::Verified { key, version, valid: holds(result)? }
        }
        Ask::Mac { mechanism, message, .. } => {
            check_size("message", message)?;
            let mechanism = work.mechanism(*mechanism, Purpose::Mac)?;
            let mac = ready.mac(mechanism, message)?;
            Response::Mac { key, version, mechanism, mac }
        }
        Ask::VerifyMac { mechanism, message, mac, .. } => {
            check_size("message", message)?;
            let result = ready.verify_mac(work.mechanism(*mechanism, Purpose::Mac)?, message, mac);
            Response::Verified { key, version, valid: holds(result)? }
        }
        Ask::Wrap { mechanism, material, .. } => {
            let wrapped = ready.wrap(work.mechanism(*mechanism, Purpose::Wrap)?, material)?;
            Response::Wrapped { key, version, wrapped }
        }
        Ask::Unwrap { mechanism, wrapped, .. } => {
            let material = ready.unwrap(work.mechanism(*mechanism, Purpose::Wrap)?, wrapped)?;
            Response::Unwrapped { key, version, material: secret(&material) }
        }
        Ask::Agree { peer, .. } => {
            let shared = ready.agree(peer)?;
            Response::Shared { key, version, origin, secret: secret(&shared) }
        }
        Ask::Encapsulate { .. } => {
            let (encapsulated, shared) = ready.encapsulate()?;
            Response::Encapsulated { key, version, secret: secret(&shared), encapsulated }
        }
        Ask::Decapsulate { encapsulated, .. } => {
            let shared = ready.decapsulate(encapsulated)?;
            Response::Shared { key, version, origin, secret: secret(&shared) }
        }
        Ask::Exchange { peer, .. } => {
            let point = ready.exchange(peer)?.to_vec();
            Response::Exchanged { key, version, point }
        }
        _ => return Err(Error::Internal("not a use of key material")),
    };
    Ok(Effect { writes, ..Effect::of(response) })
}

/// A message of `held`'s primary version, and that version: what a secret is kept as.
pub fn keep(
    open: &Open,
    permit: &Permit,
    request: &Request,
    held: &Held,
    (pairs, value): (&ContextPairs, &[u8]),
) -> Result<(u32, Vec<u8>), Error> {
    let work = Work::new(open, permit, held, request.dry_run)?;
    work.mechanism(Some(Mechanism::Kh1), Purpose::Encrypt)?;
    Ok((work.number, work.seal(&kept_context(pairs)?, value)?))
}

/// Opens what [`keep`] made.
pub fn read(
    open: &Open,
    permit: &Permit,
    request: &Request,
    held: &Held,
    (pairs, message): (&ContextPairs, &[u8]),
) -> Result<Secret, Error> {
    let work = Work::new(open, permit, held, request.dry_run)?;
    work.mechanism(Some(Mechanism::Kh1), Purpose::Encrypt)?;
    work.open_message(&kept_context(pairs)?, message)
}

/// Rewraps: opened under `source`, which has its own permit, and encrypted under `held`.
pub fn rewrap(
    open: &Open,
    permit: &Permit,
    request: &Request,
    held: &Held,
    (from_permit, from): (&Permit, &Held),
) -> Result<Effect, Error> {
    let Ask::Rewrap { mechanism, context, source, .. } = &request.ask else {
        return Err(Error::Internal("not a rewrap"));
    };
    let from = Work::new(open, from_permit, from, request.dry_run)?;
    let to = Work::new(open, permit, held, request.dry_run)?;
    let plaintext = from.decrypt(source.mechanism, &source.iv, &source.context, &source.ciphertext)?;
    // The dry run of opening nothing goes on with nothing, so that the other key has its say too.
    let plaintext = plaintext.as_deref().map_or(&[][..], Vec::as_slice);
    let (Encrypted { iv, ciphertext }, writes) = to.encrypt(*mechanism, context, plaintext)?;
    let (source, key, version) = ((from.key().id, from.number), to.key().id, to.number);
    Ok(Effect::writing(Response::Rewrapped { source, key, version, iv, ciphertext }, writes))
}

/// What a mechanism authenticates: the canonical context where it can, and no context where it cannot.
fn raw_aad<'a>(
    mechanism: Mechanism,
    pairs: &ContextPairs,
    canonical: &'a kh1::Context,
) -> Result<&'a [u8], Error> {
    let binds = matches!(
        mechanism,
        Mechanism::Kh1
            | Mechanism::AesGcm
            | Mechanism::ChaCha20Poly1305
            | Mechanism::RsaOaepSha1
            | Mechanism::RsaOaepSha256
            | Mechanism::RsaOaepSha384
            | Mechanism::RsaOaepSha512
    );
    match (pairs.is_empty(), binds) {
        (true, _) => Ok(&[]),
        (false, true) => Ok(canonical.as_bytes()),
        (false, false) => {
            Err(Error::Invalid { field: "context", rule: "this mechanism cannot bind a context" })
        }
    }
}

fn input(message: &Message) -> Result<Input<'_>, Error> {
    match message {
        Message::Whole(bytes) => {
            check_size("message", bytes)?;
            Ok(Input::Message(bytes))
        }
        Message::Digest(bytes) => Ok(Input::Digest(bytes)),
        Message::Mu(bytes) => Ok(Input::Mu(bytes)),
    }
}

/// A signature or MAC that does not hold is an answer, not an error.
fn holds(result: Result<(), keyhearth_crypto::Error>) -> Result<bool, Error> {
    match result {
        Ok(()) => Ok(true),
        Err(keyhearth_crypto::Error::NotAuthentic) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
