//! What a machine gets: secrets sealed to its ephemeral key, signed by the server.

use std::collections::BTreeMap;

use keyhearth_core::Error;
use keyhearth_core::id::Name;
use keyhearth_crypto::hpke::{self, KeyPair, Suite};
use keyhearth_crypto::kdf::MacKey;
use keyhearth_crypto::note::{self, NoteKey};
use keyhearth_crypto::{digest, secret::SecretBytes};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use super::message::{Fixed, Outlook};
use super::transcript::{Transcript, frame, frame_all};
use super::{SECRET_BYTES, TOKEN_BYTES};
use crate::rest::{Bytes, Is};

/// Safe while either X25519 or ML-KEM-768 is. Both sides are ours: there is no other to choose.
const SUITE: Suite = Suite::X25519MlKem768;
const SIGNED_LABEL: &[u8] = b"keyhearth boot release v1";
const CONFIRM_LABEL: &[u8] = b"keyhearth boot confirm v1";
const CONTINUE_LABEL: &[u8] = b"keyhearth boot continue v1";

/// The secret of a volume's keyslot, or the key that a confirmation is authenticated with.
pub type Key = Zeroizing<[u8; SECRET_BYTES]>;

/// The public half of the server's release key, which the agent's measured configuration pins.
pub type PublicKey = [u8; note::KEY_BYTES];

/// 200 of [`super::Attest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// A secret for each volume, in the order of the challenge.
    pub volumes: Vec<Sealed>,
    /// The key that the confirmation is authenticated with, sealed.
    pub confirm: Bytes,
    /// When it is void, in seconds since 1970 UTC; for agents that have a clock.
    pub not_after_s: u64,
    /// How long no other copy of the machine is given anything.
    pub lease_s: u32,
    /// How the candidate that was sent compares; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlook: Option<Outlook>,
    /// Ed25519, over all of it and the transcript.
    pub signature: Fixed<{ note::SIGNATURE_BYTES }>,
}

/// The secret of one keyslot, sealed: HPKE with the transcript, the volume and the generation as `info`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// Which volume it opens.
    pub volume: Is<Name>,
    /// Counts the secrets of this volume from 1.
    pub generation: u32,
    /// `enc ‖ ciphertext ‖ tag`, [`SECRET_BYTES`] inside.
    pub sealed: Bytes,
}

/// What an agent has after it verified and opened a release.
pub struct Opened {
    /// Volume, generation and the secret of its keyslot.
    pub volumes: Vec<(Name, u32, Key)>,
    /// For [`confirm_mac`] and [`continue_mac`].
    pub confirm: Key,
    /// How the candidate that was sent compares.
    pub outlook: Option<Outlook>,
}

/// How long a release is good for.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "as in `Release`")]
pub struct Times {
    pub not_after_s: u64,
    pub lease_s: u32,
}

/// Makes the keys that one release is sealed to.
///
/// # Errors
/// [`Error::Internal`] without randomness or locked memory.
pub fn ephemeral() -> Result<KeyPair, Error> {
    Ok(hpke::generate(SUITE)?)
}

impl Release {
    /// Seals `volumes` and the `confirm` key to `ephemeral`, and signs.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `ephemeral` is no public key.
    pub fn seal(
        transcript: &Transcript,
        ephemeral: &[u8],
        volumes: &[(Name, u32, Key)],
        confirm: &Key,
        Times { not_after_s, lease_s }: Times,
        outlook: Option<Outlook>,
        signer: &NoteKey,
    ) -> Result<Self, Error> {
        let seal = |volume: &str, generation, secret: &Key| {
            let info = info(transcript, volume, generation);
            hpke::seal(SUITE, ephemeral, &info, &[], &secret[..])
                .map(Bytes::from)
                .map_err(|_| Error::Invalid { field: "ephemeral", rule: "must be a public key of X-Wing" })
        };
        let sealed = |(volume, generation, secret): &(Name, u32, Key)| {
            let sealed = seal(volume.as_str(), *generation, secret)?;
            Ok(Sealed { volume: Is(volume.clone()), generation: *generation, sealed })
        };
        let mut release = Self {
            volumes: volumes.iter().map(sealed).collect::<Result<_, Error>>()?,
            confirm: seal("", 0, confirm)?,
            not_after_s,
            lease_s,
            outlook,
            signature: Fixed([0; note::SIGNATURE_BYTES]),
        };
        release.signature = Fixed(signer.sign(&release.signed(transcript)));
        Ok(release)
    }

    /// Verifies that the server of `signer` made it for `transcript`, and opens it.
    ///
    /// # Errors
    /// [`Error::NotAuthentic`] if anything differs; then nothing of it is believed.
    pub fn open(&self, transcript: &Transcript, keys: &KeyPair, signer: &PublicKey) -> Result<Opened, Error> {
        note::verify(signer, &self.signed(transcript), &self.signature.0)?;
        let open = |volume: &str, generation, sealed: &[u8]| -> Result<Key, Error> {
            let secret = open(&keys.private, &info(transcript, volume, generation), sealed)?;
            let mut key = Key::default();
            key.copy_from_slice(
                Some(&secret[..]).filter(|all| all.len() == SECRET_BYTES).ok_or(Error::NotAuthentic)?,
            );
            Ok(key)
        };
        let volumes = self.volumes.iter().map(|one| {
            let secret = open(one.volume.as_str(), one.generation, &one.sealed)?;
            Ok((one.volume.0.clone(), one.generation, secret))
        });
        Ok(Opened {
            volumes: volumes.collect::<Result<_, Error>>()?,
            confirm: open("", 0, &self.confirm)?,
            outlook: self.outlook.clone(),
        })
    }

    fn signed(&self, transcript: &Transcript) -> Vec<u8> {
        let mut bytes = SIGNED_LABEL.to_vec();
        bytes.extend_from_slice(&transcript.0);
        for Sealed { volume, generation, sealed } in &self.volumes {
            frame(&mut bytes, volume.as_str().as_bytes());
            frame(&mut bytes, &generation.to_be_bytes());
            frame(&mut bytes, sealed);
        }
        frame(&mut bytes, &self.confirm);
        bytes.extend_from_slice(&self.not_after_s.to_be_bytes());
        bytes.extend_from_slice(&self.lease_s.to_be_bytes());
        if let Some(Outlook { candidate, lacks, unnamed }) = &self.outlook {
            frame(&mut bytes, candidate.as_ref().map_or(&[][..], |id| &id.0.0));
            frame_all(&mut bytes, lacks.iter().map(String::as_bytes));
            frame_all(&mut bytes, unnamed.iter().map(String::as_bytes));
        }
        bytes
    }
}

fn open(private: &SecretBytes, info: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    hpke::open(SUITE, private, info, &[], sealed).map_err(|_| Error::NotAuthentic)
}

fn info(transcript: &Transcript, volume: &str, generation: u32) -> Vec<u8> {
    let mut info = transcript.0.to_vec();
    frame(&mut info, volume.as_bytes());
    info.extend_from_slice(&generation.to_be_bytes());
    info
}

/// Authenticates a confirmation: HMAC-SHA-256 over what was opened and the token, if there was one.
#[must_use]
pub fn confirm_mac(key: &Key, opened: &[Name], token: Option<&[u8; TOKEN_BYTES]>) -> [u8; 32] {
    let mut bytes = CONFIRM_LABEL.to_vec();
    frame_all(&mut bytes, opened.iter().map(|name| name.as_str().as_bytes()));
    frame(&mut bytes, token.map_or(&[][..], |token| token));
    MacKey::new(&key[..]).sign(&[&bytes])
}

/// Authenticates a request that continues a release: HMAC-SHA-256 by that release's confirm key, over the transcript
/// of the new request.
#[must_use]
pub fn continue_mac(key: &Key, transcript: &Transcript) -> [u8; 32] {
    let mut bytes = CONTINUE_LABEL.to_vec();
    frame(&mut bytes, &transcript.0);
    MacKey::new(&key[..]).sign(&[&bytes])
}

/// What is compared of a LUKS2 header: the SHA-256 of its keyslots, segments and digests as JSON with sorted names and
/// no white space. Tokens and flags may change without it; priorities of keyslots may not.
#[must_use]
pub fn header_hash(header: &Value) -> [u8; 32] {
    let part = |name: &'static str| (name, header.get(name).map_or(Value::Null, sorted));
    let parts: BTreeMap<_, _> = ["keyslots", "segments", "digests"].map(part).into();
    let json = serde_json::to_vec(&parts).expect("JSON values are written");
    digest::sha256(&[&json])
}

/// The same with names in the order of their bytes, whichever order the JSON library keeps.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let members: BTreeMap<_, _> = members.iter().collect();
            Value::Object(members.into_iter().map(|(name, value)| (name.clone(), sorted(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use keyhearth_core::id::RequestId;

    use super::*;

    const TIMES: Times = Times { not_after_s: 100, lease_s: 60 };

    fn released() -> (Transcript, KeyPair, NoteKey, Release) {
        let transcript = Transcript([7; 64]);
        let keys = ephemeral().unwrap();
        let signer = NoteKey::from_seed(&[1; 32]).unwrap();
        let volumes = [("root", 1), ("data", 3)]
            .map(|(name, generation)| (name.parse().unwrap(), generation, Key::new([9; 32])));
        let release =
            Release::seal(&transcript, &keys.public, &volumes, &Key::new([8; 32]), TIMES, None, &signer);
        (transcript, keys, signer, release.unwrap())
    }

    #[test]
    fn what_was_sealed_opens_for_its_transcript_and_key_only() {
        let (transcript, keys, signer, release) = released();
        let json = super::super::write(&release);
        let release: Release = super::super::read(&json).unwrap();
        let opened = release.open(&transcript, &keys, &signer.public()).unwrap();
        assert_eq!(opened.volumes[1].0.as_str(), "data");
        assert_eq!((opened.volumes[1].1, *opened.volumes[1].2, *opened.confirm), (3, [9; 32], [8; 32]));

        let refused = |release: &Release, transcript: &Transcript, keys: &KeyPair, signer: &NoteKey| {
            release.open(transcript, keys, &signer.public()).err() == Some(Error::NotAuthentic)
        };
        assert!(refused(&release, &Transcript([8; 64]), &keys, &signer));
        assert!(refused(&release, &transcript, &ephemeral().unwrap(), &signer));
        assert!(refused(&release, &transcript, &keys, &NoteKey::from_seed(&[2; 32]).unwrap()));
        let altered = [
            Release { not_after_s: 101, ..release.clone() },
            Release { lease_s: 61, ..release.clone() },
            Release { volumes: release.volumes[..1].to_vec(), ..release.clone() },
            Release { volumes: release.volumes.iter().rev().cloned().collect(), ..release.clone() },
            Release { confirm: release.volumes[0].sealed.clone(), ..release.clone() },
            Release {
                outlook: Some(Outlook { candidate: None, lacks: Vec::new(), unnamed: Vec::new() }),
                ..release.clone()
            },
        ];
        assert!(altered.iter().all(|altered| refused(altered, &transcript, &keys, &signer)));
    }

    /// Nobody but the server says that a boot will pass.
    #[test]
    fn what_is_said_of_the_next_boot_is_signed() {
        let (transcript, keys, signer, release) = released();
        let names = |name: &str| vec![name.to_owned()];
        let candidate = Some(Is(RequestId([1; 16])));
        let waits = Outlook { candidate, lacks: names("pcrs.11"), unnamed: names("ak") };
        let (confirm, outlook) = (Key::new([8; 32]), Some(waits.clone()));
        let sealed =
            Release::seal(&transcript, &keys.public, &[], &confirm, TIMES, outlook, &signer).unwrap();
        let opened = sealed.open(&transcript, &keys, &signer.public()).unwrap();
        assert_eq!((opened.outlook, release.outlook), (Some(waits.clone()), None));
        for other in [
            None,
            Some(Outlook { candidate: None, ..waits.clone() }),
            Some(Outlook { lacks: Vec::new(), ..waits.clone() }),
            Some(Outlook { lacks: names("pcrs.12"), ..waits.clone() }),
            Some(Outlook { unnamed: Vec::new(), ..waits.clone() }),
            Some(Outlook { lacks: [names("pcrs.11"), names("ak")].concat(), unnamed: Vec::new(), ..waits }),
        ] {
            let altered = Release { outlook: other, ..sealed.clone() };
            assert!(altered.open(&transcript, &keys, &signer.public()).is_err(), "{altered:?}");
        }
    }

    /// A server that signs may still not move a secret from one volume or generation to another.
    #[test]
    fn a_secret_opens_in_its_place_only() {
        let (transcript, keys, signer, mut release) = released();
        release.volumes[0].generation = 2;
        release.signature = Fixed(signer.sign(&release.signed(&transcript)));
        let opened = release.open(&transcript, &keys, &signer.public());
        assert_eq!(opened.err(), Some(Error::NotAuthentic));
    }

    #[test]
    fn a_confirmation_covers_what_was_opened_and_the_token() {
        let key = Key::new([3; 32]);
        let names: [Name; 2] = ["root", "data"].map(|name| name.parse().unwrap());
        let mac = confirm_mac(&key, &names, Some(&[1; 32]));
        assert_ne!(mac, confirm_mac(&key, &names[..1], Some(&[1; 32])));
        assert_ne!(mac, confirm_mac(&key, &names, None));
        assert_ne!(mac, confirm_mac(&Key::new([4; 32]), &names, Some(&[1; 32])));
    }

    /// Computed once by another implementation, from the document of the format.
    #[test]
    fn macs_are_those_of_the_document() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let key = Key::new([3; 32]);
        let names: [Name; 2] = ["root", "data"].map(|name| name.parse().unwrap());
        assert_eq!(
            hex(&confirm_mac(&key, &names, Some(&[1; 32]))),
            "76d8c05334b177c4f48d9e4ab61bc6b7b1025383fd7dcf9378327188174e2ee1"
        );
        assert_eq!(
            hex(&continue_mac(&key, &Transcript([7; 64]))),
            "37ee206c8eca4535513ec167e5e771d4b23cb14f14c38517da54400400328908"
        );
    }

    #[test]
    fn the_hash_of_a_header_ignores_order_and_tokens() {
        let hash = |text: &str| header_hash(&serde_json::from_str(text).unwrap());
        let one = hash(r#"{"keyslots":{"0":{"type":"luks2","b":1}},"segments":{},"digests":{},"tokens":{}}"#);
        let same =
            hash(r#"{"digests":{},"tokens":{"0":1},"keyslots":{"0":{"b":1,"type":"luks2"}},"segments":{}}"#);
        let other = hash(r#"{"keyslots":{},"segments":{},"digests":{}}"#);
        assert_eq!(one, same);
        assert_ne!(one, other);
    }
}
