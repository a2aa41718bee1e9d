//! What a machine gets: secrets sealed to its ephemeral key, signed by the server.

use std::collections::BTreeMap;

use keyhearth_core::Error;
use keyhearth_core::id::{Name, PrincipalId};
use keyhearth_crypto::hpke::{self, KeyPair, Suite};
use keyhearth_crypto::kdf::MacKey;
use keyhearth_crypto::note::{self, NoteKey};
use keyhearth_crypto::{digest, secret::SecretBytes};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use super::message::{Fixed, Outlook};
use super::transcript::{CLONE, Transcript, frame, frame_all};
use super::{SECRET_BYTES, SESSION_BYTES, TOKEN_BYTES};
use crate::rest::{Bytes, Is};

/// Safe while either X25519 or ML-KEM-768 is. Both sides are ours: there is no other to choose.
const SUITE: Suite = Suite::X25519MlKem768;
const SIGNED_LABEL: &[u8] = b"keyhearth boot release v1";
const CONFIRM_LABEL: &[u8] = b"keyhearth boot confirm v1";
/// What of a clone is sealed.
const SECRET: &[u8] = b"secret";
const RECOVERY: &[u8] = b"recovery";
const SETTLE_LABEL: &[u8] = b"keyhearth boot settle v1";
/// Before the id of a golden image.
const IMAGE: &[u8] = b"image";
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
    /// The golden image that the machine is, or is a clone of; absent for others. Agents of an image take no other's: which
    /// machine they ask as is up to the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Is<PrincipalId>>,
    /// How the candidate that was sent compares; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlook: Option<Outlook>,
    /// Who a clone that asked for an identity is from now on; absent for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
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

/// The identity of a clone, with the first secret of its volume, sealed: HPKE with the transcript and the identity as `info`.
///
/// `volumes` has the secret of its image's volume besides: the clone's first act is to put its own in the place of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Which machine it is.
    pub machine: Is<PrincipalId>,
    /// `enc ‖ ciphertext ‖ tag`, [`SECRET_BYTES`] inside.
    pub sealed: Bytes,
    /// The same of its recovery secret, if it is to have a keyslot for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Bytes>,
}

/// The same, opened.
#[derive(Clone)]
pub struct Identified {
    /// Which machine it is.
    pub machine: PrincipalId,
    /// The first secret of its volume.
    pub secret: Key,
    /// Its recovery secret, if it is to have a keyslot for that.
    pub recovery: Option<Key>,
}

/// What a release says besides, if anything.
pub enum Besides {
    /// Nothing.
    Nothing,
    /// How the candidate that was sent compares.
    Outlook(Outlook),
    /// Who the clone is.
    Identity(Identified),
}

/// What an agent has after it verified and opened a release.
pub struct Opened {
    /// Volume, generation and the secret of its keyslot.
    pub volumes: Vec<(Name, u32, Key)>,
    /// For [`confirm_mac`] and [`continue_mac`].
    pub confirm: Key,
    /// The golden image that the machine is, or is a clone of.
    pub image: Option<PrincipalId>,
    /// How the candidate that was sent compares.
    pub outlook: Option<Outlook>,
    /// Who this clone is.
    pub identity: Option<Identified>,
}

/// How long a release is good for, and for whom.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "as in `Release`")]
pub struct Terms {
    pub not_after_s: u64,
    pub lease_s: u32,
    pub image: Option<PrincipalId>,
}

/// Makes the keys that one release is sealed to.
///
/// # Errors
/// [`Error::Internal`] without randomness or locked memory.
pub fn ephemeral() -> Result<KeyPair, Error> {
    Ok(hpke::generate(SUITE)?)
}

impl Release {
    /// Seals `volumes`, the `confirm` key and an identity to `ephemeral`, and signs.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `ephemeral` is no public key.
    pub fn seal(
        transcript: &Transcript,
        ephemeral: &[u8],
        volumes: &[(Name, u32, Key)],
        confirm: &Key,
        Terms { not_after_s, lease_s, image }: Terms,
        besides: Besides,
        signer: &NoteKey,
    ) -> Result<Self, Error> {
        let seal = |info: Vec<u8>, secret: &Key| {
            hpke::seal(SUITE, ephemeral, &info, &[], &secret[..])
                .map(Bytes::from)
                .map_err(|_| Error::Invalid { field: "ephemeral", rule: "must be a public key of X-Wing" })
        };
        let sealed = |(volume, generation, secret): &(Name, u32, Key)| {
            let sealed = seal(info(transcript, volume.as_str(), *generation), secret)?;
            Ok(Sealed { volume: Is(volume.clone()), generation: *generation, sealed })
        };
        let (outlook, identity) = match besides {
            Besides::Nothing => (None, None),
            Besides::Outlook(outlook) => (Some(outlook), None),
            Besides::Identity(Identified { machine, secret, recovery }) => {
                let sealed = seal(identity_info(transcript, machine, SECRET), &secret)?;
                let recovery = recovery
                    .map(|secret| seal(identity_info(transcript, machine, RECOVERY), &secret))
                    .transpose()?;
                (None, Some(Identity { machine: Is(machine), sealed, recovery }))
            }
        };
        let mut release = Self {
            volumes: volumes.iter().map(sealed).collect::<Result<_, Error>>()?,
            confirm: seal(info(transcript, "", 0), confirm)?,
            not_after_s,
            lease_s,
            image: image.map(Is),
            outlook,
            identity,
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
        let open = |info: Vec<u8>, sealed: &[u8]| -> Result<Key, Error> {
            let secret = open(&keys.private, &info, sealed)?;
            let mut key = Key::default();
            key.copy_from_slice(
                Some(&secret[..]).filter(|all| all.len() == SECRET_BYTES).ok_or(Error::NotAuthentic)?,
            );
            Ok(key)
        };
        let volumes = self.volumes.iter().map(|one| {
            let secret = open(info(transcript, one.volume.as_str(), one.generation), &one.sealed)?;
            Ok((one.volume.0.clone(), one.generation, secret))
        });
        let identity = self.identity.as_ref().map(|one| {
            let info = |what| identity_info(transcript, one.machine.0, what);
            let recovery = one.recovery.as_ref().map(|sealed| open(info(RECOVERY), sealed)).transpose()?;
            let secret = open(info(SECRET), &one.sealed)?;
            Ok::<_, Error>(Identified { machine: one.machine.0, secret, recovery })
        });
        Ok(Opened {
            volumes: volumes.collect::<Result<_, Error>>()?,
            confirm: open(info(transcript, "", 0), &self.confirm)?,
            image: self.image.as_ref().map(|image| image.0),
            outlook: self.outlook.clone(),
            identity: identity.transpose()?,
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
        // What follows shows by how it begins: the first member of an outlook has no bytes or 16.
        if let Some(image) = &self.image {
            frame(&mut bytes, IMAGE);
            frame(&mut bytes, &image.0.0);
        }
        if let Some(Outlook { candidate, lacks, unnamed }) = &self.outlook {
            frame(&mut bytes, candidate.as_ref().map_or(&[][..], |id| &id.0.0));
            frame_all(&mut bytes, lacks.iter().map(String::as_bytes));
            frame_all(&mut bytes, unnamed.iter().map(String::as_bytes));
        }
        if let Some(Identity { machine, sealed, recovery }) = &self.identity {
            frame(&mut bytes, CLONE);
            frame(&mut bytes, &machine.0.0);
            frame(&mut bytes, sealed);
            frame(&mut bytes, recovery.as_deref().unwrap_or_default());
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

fn identity_info(transcript: &Transcript, machine: PrincipalId, what: &[u8]) -> Vec<u8> {
    let mut info = transcript.0.to_vec();
    [CLONE, &machine.0, what].into_iter().for_each(|part| frame(&mut info, part));
    info
}

/// Authenticates what a clone says of its volume's header: HMAC-SHA-256 by the confirm key of the answer that gave its
/// identity.
#[must_use]
pub fn settle_mac(
    key: &Key,
    machine: PrincipalId,
    session: &[u8; SESSION_BYTES],
    header: &[u8; 32],
) -> [u8; 32] {
    let mut bytes = SETTLE_LABEL.to_vec();
    [&machine.0[..], session, header].into_iter().for_each(|part| frame(&mut bytes, part));
    MacKey::new(&key[..]).sign(&[&bytes])
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

    const TERMS: Terms = Terms { not_after_s: 100, lease_s: 60, image: None };

    fn released() -> (Transcript, KeyPair, NoteKey, Release) {
        let transcript = Transcript([7; 64]);
        let keys = ephemeral().unwrap();
        let signer = NoteKey::from_seed(&[1; 32]).unwrap();
        let volumes = [("root", 1), ("data", 3)]
            .map(|(name, generation)| (name.parse().unwrap(), generation, Key::new([9; 32])));
        let release = Release::seal(
            &transcript,
            &keys.public,
            &volumes,
            &Key::new([8; 32]),
            TERMS,
            Besides::Nothing,
            &signer,
        );
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
            Release { image: Some(Is(PrincipalId([1; 16]))), ..release.clone() },
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
        let (confirm, outlook) = (Key::new([8; 32]), Besides::Outlook(waits.clone()));
        let sealed =
            Release::seal(&transcript, &keys.public, &[], &confirm, TERMS, outlook, &signer).unwrap();
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

    /// A clone believes nobody but the server who it is, and the secret is that of this identity alone.
    #[test]
    fn an_identity_is_signed_and_sealed_with_its_secret() {
        let (transcript, keys, signer, release) = released();
        assert!(release.identity.is_none());
        let (confirm, machine) = (Key::new([8; 32]), PrincipalId([6; 16]));
        let (secret, recovery) = (Key::new([5; 32]), Some(Key::new([4; 32])));
        let identity = Besides::Identity(Identified { machine, secret, recovery });
        let sealed =
            Release::seal(&transcript, &keys.public, &[], &confirm, TERMS, identity, &signer).unwrap();
        let sealed: Release = super::super::read(&super::super::write(&sealed)).unwrap();
        let opened = sealed.open(&transcript, &keys, &signer.public()).unwrap();
        let Identified { machine: who, secret, recovery } = opened.identity.unwrap();
        assert_eq!((who, *secret, recovery.as_deref()), (machine, [5; 32], Some(&[4; 32])));
        let given = sealed.identity.clone().unwrap();
        let other = Some(Identity { machine: Is(PrincipalId([7; 16])), ..given.clone() });
        let without = Some(Identity { recovery: None, ..given.clone() });
        // Neither secret serves as the other.
        let (one, two) = (given.sealed.clone(), given.recovery.clone().unwrap());
        let swapped = Identity { sealed: two, recovery: Some(one), ..given };
        let mut resigned = Release { identity: Some(swapped.clone()), ..sealed.clone() };
        resigned.signature = Fixed(signer.sign(&resigned.signed(&transcript)));
        assert_eq!(resigned.open(&transcript, &keys, &signer.public()).err(), Some(Error::NotAuthentic));
        for identity in [None, other.clone(), without, Some(swapped)] {
            let altered = Release { identity, ..sealed.clone() };
            assert!(altered.open(&transcript, &keys, &signer.public()).is_err(), "{altered:?}");
        }
        let mut moved = Release { identity: other, ..sealed };
        moved.signature = Fixed(signer.sign(&moved.signed(&transcript)));
        assert_eq!(moved.open(&transcript, &keys, &signer.public()).err(), Some(Error::NotAuthentic));
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
            hex(&settle_mac(&key, PrincipalId([6; 16]), &[1; 16], &[8; 32])),
            "758174a86dab36c0dee53ad850a5341ddee48aacd51e5a04c1dc845d14208866"
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
