//! Acts that use key material. Pure computation: nothing here changes a row, except the reservation
//! of random IVs.

use keyhearth_core::Error;
use keyhearth_core::decide::Permit;
use keyhearth_core::key::{Key, RANDOM_IV_USES_MAX};
use keyhearth_core::request::{Ask, ContextPairs, Message, PLAINTEXT_BYTES_MAX, Response, Secret};
use keyhearth_core::state::Class;
use keyhearth_core::store::Write;
use keyhearth_crypto::algorithm::{Algorithm, Family, Mechanism, Purpose, Status};
use keyhearth_crypto::key::Input;
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

/// The version that the ciphertext of a request names, for messages that carry it.
///
/// The header is a hint only: the key is the one that the caller names.
pub fn named_version(ask: &Ask) -> Result<Option<u32>, Error> {
    match ask {
        Ask::Decrypt { mechanism: None | Some(Mechanism::Kh1), version: None, ciphertext, iv, .. }
            if iv.is_empty() =>
        {
            // Raw ciphertexts carry no header; without one the primary version is tried.
            Ok(kh1::header(ciphertext).ok().map(|header| header.version))
        }
        ask => Ok(ask.version()),
    }
}

fn context(pairs: &ContextPairs) -> Result<kh1::Context, Error> {
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

/// A KH1 message in which the key id, version and context are bound.
fn seal(
    key: &Key,
    ready: &keyhearth_crypto::key::Key,
    number: u32,
    pairs: &ContextPairs,
    plaintext: &[u8],
) -> Result<Vec<u8>, Error> {
    let material = ready.kh1_material().ok_or(Error::Unsupported("only AES-256 keys make KH1 messages"))?;
    Ok(kh1::seal(material, key.id.0, number, &context(pairs)?, plaintext)?)
}

fn open_message(
    key: &Key,
    ready: &keyhearth_crypto::key::Key,
    number: u32,
    pairs: &ContextPairs,
    message: &[u8],
) -> Result<Secret, Error> {
    let material = ready.kh1_material().ok_or(Error::Unsupported("only AES-256 keys make KH1 messages"))?;
    kh1::open(material, key.id.0, number, &context(pairs)?, message).map_err(|error| match error {
        keyhearth_crypto::Error::Invalid(_) => Error::NotAuthentic,
        other => other.into(),
    })
}

/// Carries out a permitted use of `held`.
pub fn act(open: &Open, permit: &Permit, ask: &Ask, held: &Held) -> Result<Effect, Error> {
    let key = &held.key.value;
    let number = permit.version().ok_or(Error::Internal("no version was permitted"))?;
    let class = permit.operation().class();
    let pick = |wanted: &Option<Mechanism>, purpose| mechanism(key, *wanted, purpose, class);
    let ready = open.version(held, number)?;
    let mut writes = Vec::new();
    let response = match ask {
        Ask::Encrypt { mechanism: wanted, context: pairs, plaintext, .. } => {
            check_size("plaintext", plaintext)?;
            match pick(wanted, Purpose::Encrypt)? {
                Mechanism::Kh1 => Response::Encrypted {
                    key: key.id,
                    version: number,
                    iv: Vec::new(),
                    ciphertext: seal(key, &ready, number, pairs, plaintext)?,
                },
                raw => {
                    writes = reserve_random_iv(open, held, number, raw)?;
                    let aad = context(pairs)?;
                    let made = ready.encrypt(raw, raw_aad(raw, pairs, &aad)?, plaintext)?;
                    Response::Encrypted {
                        key: key.id,
                        version: number,
                        iv: made.iv,
                        ciphertext: made.ciphertext,
                    }
                }
            }
        }
        Ask::Decrypt { mechanism: wanted, iv, context: pairs, ciphertext, .. } => {
            let plaintext = match pick(wanted, Purpose::Encrypt)? {
                Mechanism::Kh1 => open_message(key, &ready, number, pairs, ciphertext)?,
                raw => {
                    let aad = context(pairs)?;
                    ready.decrypt(raw, iv, raw_aad(raw, pairs, &aad)?, ciphertext)?
                }
            };
            Response::Decrypted { key: key.id, version: number, plaintext }
        }
        Ask::DataKey { context: pairs, bytes, with_plaintext, .. } => {
            if !DATA_KEY_BYTES.contains(bytes) {
                return Err(Error::Invalid { field: "bytes", rule: "must be 1 to 1,024" });
            }
            let data_key = SecretBytes::random(*bytes)?;
            let ciphertext = seal(key, &ready, number, pairs, data_key.expose())?;
            let plaintext = with_plaintext.then(|| secret(&data_key));
            Response::DataKey { key: key.id, version: number, plaintext, ciphertext }
        }
        Ask::Sign { mechanism: wanted, message, .. } => {
            let mechanism = pick(wanted, Purpose::Sign)?;
            let signature = ready.sign(mechanism, input(message)?)?;
            Response::Signature { key: key.id, version: number, mechanism, signature }
        }
        Ask::Verify { mechanism: wanted, message, signature, .. } => {
            let result = ready.verify(pick(wanted, Purpose::Sign)?, input(message)?, signature);
            Response::Verified { key: key.id, version: number, valid: holds(result)? }
        }
        Ask::Mac { mechanism: wanted, message, .. } => {
            check_size("message", message)?;
            let mechanism = pick(wanted, Purpose::Mac)?;
            let mac = ready.mac(mechanism, message)?;
            Response::Mac { key: key.id, version: number, mechanism, mac }
        }
        Ask::VerifyMac { mechanism: wanted, message, mac, .. } => {
            check_size("message", message)?;
            let result = ready.verify_mac(pick(wanted, Purpose::Mac)?, message, mac);
            Response::Verified { key: key.id, version: number, valid: holds(result)? }
        }
        Ask::Wrap { mechanism: wanted, material, .. } => {
            let wrapped = ready.wrap(pick(wanted, Purpose::Wrap)?, material)?;
            Response::Wrapped { key: key.id, version: number, wrapped }
        }
        Ask::Unwrap { mechanism: wanted, wrapped, .. } => {
            let material = ready.unwrap(pick(wanted, Purpose::Wrap)?, wrapped)?;
            Response::Unwrapped { key: key.id, version: number, material: secret(&material) }
        }
        Ask::Agree { peer, .. } => {
            let shared = ready.agree(peer)?;
            Response::Shared { key: key.id, version: number, secret: secret(&shared) }
        }
        Ask::Encapsulate { .. } => {
            let (encapsulated, shared) = ready.encapsulate()?;
            Response::Encapsulated { key: key.id, version: number, secret: secret(&shared), encapsulated }
        }
        Ask::Decapsulate { encapsulated, .. } => {
            let shared = ready.decapsulate(encapsulated)?;
            Response::Shared { key: key.id, version: number, secret: secret(&shared) }
        }
        _ => return Err(Error::Internal("not a use of key material")),
    };
    Ok(Effect { writes, ..Effect::of(response) })
}

/// Rewraps a KH1 message: opened under `source`, which has its own permit, and sealed under `held`.
pub fn rewrap(
    open: &Open,
    permit: &Permit,
    ask: &Ask,
    held: &Held,
    source: (&Permit, &Held),
) -> Result<Effect, Error> {
    let Ask::Rewrap { context: pairs, ciphertext, .. } = ask else {
        return Err(Error::Internal("not a rewrap"));
    };
    let (from_permit, from) = source;
    let from_number = from_permit.version().ok_or(Error::Internal("no version was permitted"))?;
    let from_ready = open.version(from, from_number)?;
    let plaintext = open_message(&from.key.value, &from_ready, from_number, pairs, ciphertext)?;
    let key = &held.key.value;
    let number = permit.version().ok_or(Error::Internal("no version was permitted"))?;
    let ciphertext = seal(key, &*open.version(held, number)?, number, pairs, &plaintext)?;
    Ok(Effect::of(Response::Encrypted { key: key.id, version: number, iv: Vec::new(), ciphertext }))
}

/// What raw mechanisms authenticate: the canonical context where they can, and no context where they cannot.
fn raw_aad<'a>(
    mechanism: Mechanism,
    pairs: &ContextPairs,
    canonical: &'a kh1::Context,
) -> Result<&'a [u8], Error> {
    let binds = matches!(
        mechanism,
        Mechanism::AesGcm
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

/// Counts one use under a random IV. The count is durable before the use it covers: when the present
/// reservation is used up, the write that makes the next one commits together with this use.
fn reserve_random_iv(
    open: &Open,
    held: &Held,
    number: u32,
    mechanism: Mechanism,
) -> Result<Vec<Write>, Error> {
    if !matches!(mechanism, Mechanism::AesGcm | Mechanism::ChaCha20Poly1305) {
        return Ok(Vec::new());
    }
    let reserved = held.key.value.version(number)?.random_iv_uses;
    let used = {
        let mut used = open.random_iv.lock();
        // What was reserved before the server was unsealed counts as used. A use that fails counts too.
        let used = used.entry((held.key.value.id, number)).or_insert(reserved);
        *used += 1;
        *used
    };
    if used <= reserved {
        return Ok(Vec::new());
    }
    if reserved + RANDOM_IV_RESERVATION > RANDOM_IV_USES_MAX {
        return Err(Error::Unsupported(
            "this version has encrypted 2^32 messages under random IVs; rotate the key",
        ));
    }
    let mut key = held.key.value.clone();
    key.version_mut(number)?.random_iv_uses = reserved + RANDOM_IV_RESERVATION;
    Ok(vec![open.records.replace(&held.key, &key)])
}
