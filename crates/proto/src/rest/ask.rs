//! From bodies to what is asked.

use std::collections::BTreeMap;

use keyhearth_core::Error;
use keyhearth_core::id::{Name, PrincipalId};
use keyhearth_core::key;
use keyhearth_core::machine;
use keyhearth_core::policy::NewKeyPolicy;
use keyhearth_core::request::{self as ask, Ask, ImportId, KeyRef, Message};
use keyhearth_core::state;
use keyhearth_crypto::algorithm::Mechanism;

use super::body::*;
use super::spelling::{Bytes, Holder, Is, Object, Pairs, Within};

/// How long a data key is unless the caller says otherwise.
const DATA_KEY_BYTES_DEFAULT: u32 = 32;
/// Days until a scheduled destruction unless the caller says otherwise.
const DESTROY_DAYS_DEFAULT: u32 = 30;

fn how(mechanism: Option<Is<Mechanism>>) -> Option<Mechanism> {
    mechanism.map(|mechanism| mechanism.0)
}

fn number(version: Option<Number>) -> Option<u32> {
    version.map(Within::number)
}

fn seconds(lease: Option<Lease>) -> u32 {
    lease.map_or(0, Within::number)
}

fn pairs(context: Option<Pairs>) -> Vec<(String, String)> {
    context.unwrap_or_default().into_inner()
}

fn days(days: Option<Days>) -> Option<u32> {
    days.map(Within::number)
}

fn all<T: Copy>(values: &[Is<T>]) -> Vec<T> {
    values.iter().map(|value| value.0).collect()
}

fn message(message: Option<Plaintext>, digest: Option<Bytes<64>>) -> Result<Message, Error> {
    match (message, digest) {
        (Some(message), None) => Ok(Message::Whole(message.secret("message")?)),
        (None, Some(digest)) => Ok(Message::Digest(digest.public("digest")?)),
        (None, None) | (Some(_), Some(_)) => {
            Err(Error::Invalid { field: "message", rule: "give either `message` or `digest`" })
        }
    }
}

impl From<Object<Cryptoperiod>> for key::Cryptoperiod {
    fn from(Object(wire): Object<Cryptoperiod>) -> Self {
        Self { protect_days: days(wire.protect_days), process_days: days(wire.process_days) }
    }
}

impl From<Object<Switches>> for state::Switches {
    fn from(Object(wire): Object<Switches>) -> Self {
        Self {
            process_when_suspended: wire.process_when_suspended,
            process_when_compromised: wire.process_when_compromised,
        }
    }
}

fn tags(tags: Pairs) -> BTreeMap<String, String> {
    tags.into_inner().into_iter().collect()
}

impl NewKey {
    pub(super) fn ask(self) -> Result<ask::NewKey, Error> {
        Ok(ask::NewKey {
            algorithm: self.algorithm.0,
            usage: self.usage.unwrap_or_default().iter().map(|one| one.0.0.to_owned()).collect(),
            exportable: self.exportable.unwrap_or(false),
            import: self.import.unwrap_or(false),
            description: self.description.unwrap_or_default().within("description")?,
            tags: tags(self.tags.unwrap_or_default()),
            alias: self.alias.map(|alias| alias.0),
            activation: self.activation.map(|time| time.0),
            cryptoperiod: self.cryptoperiod.unwrap_or_default().into(),
            rotate_days: days(self.rotate_days),
            policy: self.policy.map(|Object(policy)| policy.ask()).transpose()?.unwrap_or_default(),
        })
    }
}

impl KeyPolicy {
    pub(super) fn ask(self) -> Result<NewKeyPolicy, Error> {
        let text = self.text.map(|text| text.within("text")).transpose()?;
        Ok(NewKeyPolicy { document: None, closed: self.closed.unwrap_or(false), text })
    }
}

impl KeyChange {
    pub(super) fn ask(self) -> Result<ask::KeyChange, Error> {
        Ok(ask::KeyChange {
            description: self.description.map(|text| text.within("description")).transpose()?,
            tags: self.tags.map(tags),
            set_tags: self.set_tags.unwrap_or_default().into_inner().into_iter().collect(),
            switches: self.switches.map(Into::into),
            cryptoperiod: self.cryptoperiod.map(Into::into),
            rotate_days: self.rotate_days.map(days),
        })
    }
}

impl OfVersion {
    pub(super) fn number(self) -> Option<u32> {
        number(self.version)
    }
}

impl KeyOrVersion {
    pub(super) fn number(self) -> Option<u32> {
        number(self.version)
    }
}

impl Schedule {
    pub(super) fn ask(self, key: KeyRef) -> Ask {
        Ask::ScheduleDestroy { key, days: self.days.map_or(DESTROY_DAYS_DEFAULT, Within::number) }
    }
}

impl Cancellation {
    pub(super) fn ask(self, key: KeyRef) -> Ask {
        Ask::CancelDestroy { key, suspend: self.suspend.unwrap_or(false) }
    }
}

impl Destruction {
    pub(super) fn ask(self, key: KeyRef) -> Ask {
        Ask::DestroyKey { key, version: self.version.number(), confirm: self.confirm.0 }
    }
}

impl ImportTerms {
    pub(super) fn ask(self, key: KeyRef) -> Ask {
        let wrapping = self.wrapping.map(|algorithm| algorithm.0);
        Ask::ImportParameters { key, mechanism: self.mechanism.0, wrapping }
    }
}

impl Import {
    pub(super) fn ask(self, key: KeyRef) -> Result<Ask, Error> {
        let parameters = self.parameters.map(|id| id.public("parameters")).transpose()?;
        let parameters = parameters.map(ImportId::try_from).transpose();
        let material = ask::NewMaterial {
            wrapped: self.wrapped.public("wrapped")?,
            parameters: parameters
                .map_err(|_| Error::Invalid { field: "parameters", rule: "must be 16 bytes" })?,
            version: number(self.version),
            for_rotation: self.for_rotation.unwrap_or(false),
            expires: self.expires.map(|time| time.0),
            description: self.description.map(|text| text.within("description")).transpose()?,
        };
        Ok(Ask::ImportKey { key, material })
    }
}

impl Export {
    pub(super) fn ask(self, key: KeyRef) -> Result<Ask, Error> {
        let recipient = self.recipient.public("recipient")?;
        Ok(Ask::ExportKey { key, version: number(self.version), mechanism: self.mechanism.0, recipient })
    }
}

impl Encrypt {
    pub(super) fn ask(self, key: KeyRef) -> Result<Ask, Error> {
        let plaintext = self.plaintext.secret("plaintext")?;
        Ok(Ask::Encrypt { key, mechanism: how(self.mechanism), context: pairs(self.context), plaintext })
    }
}

impl Decrypt {
    pub(super) fn ask(self, key: KeyRef) -> Result<Ask, Error> {
        Ok(Ask::Decrypt {
            key,
            mechanism: how(self.mechanism),
            version: number(self.version),
            iv: self.iv.unwrap_or_default().public("iv")?,
            context: pairs(self.context),
            ciphertext: self.ciphertext.public("ciphertext")?,
            lease_seconds: seconds(self.lease_seconds),
        })
    }
}

impl Rewrap {
    pub(super) fn ask(self, key: KeyRef) -> Result<Ask, Error> {
        let context = pairs(self.context);
        Ok(Ask::Rewrap {
            key,
            mechanism: how(self.mechanism),
            context: self.new_context.map_or_else(|| context.clone(), Pairs::into_inner),
            source: Box::new(ask::Source {
                key: self.source.map(|key| key.0),
                mechanism: how(self.source_mechanism),
                version: number(self.version),
                iv: self.iv.unwrap_or_default().public("iv")?,
                context,
                ciphertext: self.ciphertext.public("ciphertext")?,
            }),
        })
    }
}

impl MakeDataKey {
    pub(super) fn ask(self, key: KeyRef, with_plaintext: bool) -> Ask {
        let bytes = self.bytes.map_or(DATA_KEY_BYTES_DEFAULT, Within::number) as usize;
        Ask::DataKey { key, context: pairs(self.context), bytes, with_plaintext }
    }
}

impl MakeDataKeyPair {
    pub(super) fn ask(self, key: KeyRef, with_plaintext: bool) -> Ask {
        Ask::DataKeyPair { key, context: pairs(self.context), algorithm: self.algorithm.0, with_plaintext }
    }
}

impl Sign {
    pub(super) fn ask(self, key: KeyRef) -> Result<Ask, Error> {
        let message = message(self.message, self.digest)?;
        Ok(Ask::Sign { key, mechanism: how(self.mechanism), message })
    }
}

impl Verify {
    pub(super) fn ask(self, key: KeyRef) -> Result<Ask, Error> {
        Ok(Ask::Verify {
            key,
            mechanism: how(self.mechanism),
            version: number(self.version),
            message: message(self.message, self.digest)?,
            signature: self.signature.public("signature")?,
        })
    }
}

impl ComputeMac {
    pub(super) fn ask(self, key: KeyRef) -> Result<Ask, Error> {
        Ok(Ask::Mac { key, mechanism: how(self.mechanism), message: self.message.secret("message")? })
    }
}

impl VerifyMac {
    pub(super) fn ask(self, key: KeyRef) -> Result<Ask, Error> {
        Ok(Ask::VerifyMac {
            key,
            mechanism: how(self.mechanism),
            version: number(self.version),
            message: self.message.secret("message")?,
            mac: self.mac.public("mac")?,
        })
    }
}

impl Wrap {
    pub(super) fn ask(self, key: KeyRef) -> Result<Ask, Error> {
        Ok(Ask::Wrap { key, mechanism: how(self.mechanism), material: self.material.secret("material")? })
    }
}

impl Unwrap {
    pub(super) fn ask(self, key: KeyRef) -> Result<Ask, Error> {
        let wrapped = self.wrapped.public("wrapped")?;
        Ok(Ask::Unwrap { key, mechanism: how(self.mechanism), version: number(self.version), wrapped })
    }
}

impl Exchange {
    pub(super) fn ask(self, key: KeyRef) -> Result<Ask, Error> {
        Ok(Ask::Exchange { key, version: number(self.version), peer: self.peer.public("peer")? })
    }
}

impl Agree {
    pub(super) fn ask(self, key: KeyRef) -> Result<Ask, Error> {
        Ok(Ask::Agree { key, version: number(self.version), peer: self.peer.public("peer")? })
    }
}

impl Decapsulate {
    pub(super) fn ask(self, key: KeyRef) -> Result<Ask, Error> {
        let encapsulated = self.encapsulated.public("encapsulated")?;
        Ok(Ask::Decapsulate { key, version: number(self.version), encapsulated })
    }
}

impl KeepSecret {
    pub(super) fn ask(self, key: KeyRef) -> Result<Ask, Error> {
        let value = match (self.value, self.generate) {
            (Some(value), None) => ask::NewSecret::Given(value.secret("value")?),
            (None, Some(bytes)) => ask::NewSecret::Generated(bytes.number() as usize),
            (None, None) | (Some(_), Some(_)) => {
                return Err(Error::Invalid { field: "value", rule: "give either `value` or `generate`" });
            }
        };
        Ok(Ask::KeepSecret { key, name: self.name.0, value, replace: self.replace.unwrap_or(false) })
    }
}

impl ReadSecret {
    pub(super) fn ask(self, holder: Holder) -> Ask {
        Ask::ReadSecret { key: holder.0, name: self.name.0, lease_seconds: seconds(self.lease_seconds) }
    }
}

impl OfSecret {
    pub(super) fn shred(self, holder: Holder) -> Ask {
        Ask::ShredSecret { key: holder.0, name: self.name.0 }
    }
}

impl VolumeOf {
    pub(super) fn secret(self, key: KeyRef) -> Ask {
        Ask::VolumeSecret { key, machine: self.machine.0, volume: self.volume.0 }
    }

    pub(super) fn recovery(self, key: KeyRef) -> Ask {
        Ask::RecoverySecret { key, machine: self.machine.0, volume: self.volume.0 }
    }
}

fn reference(values: Vec<ReferenceValue>) -> Result<machine::Reference, Error> {
    let mut reference = machine::Reference::new();
    for ReferenceValue { claim, values } in values {
        let allowed = reference.entry(claim.within("reference")?).or_default();
        for value in values {
            allowed.insert(value.within("reference")?);
        }
    }
    Ok(reference)
}

impl NewMachine {
    pub(super) fn ask(self) -> Result<Ask, Error> {
        Ok(Ask::EnrollMachine(machine::NewMachine {
            name: self.name.0,
            key: self.key.0,
            volumes: self.volumes.into_iter().map(|name| name.0).collect(),
            reference: reference(self.reference.unwrap_or_default())?,
            clones: number(self.clones),
            recovery: self.recovery.unwrap_or(false),
        }))
    }
}

impl MachineChange {
    pub(super) fn ask(self, machine: PrincipalId) -> Result<Ask, Error> {
        let prepared =
            |volume: PreparedVolume| (volume.name.0, volume.generation.number(), volume.header.0.0);
        let change = machine::MachineChange {
            reference: self.reference.map(reference).transpose()?,
            add: reference(self.add.unwrap_or_default())?,
            drop: reference(self.drop.unwrap_or_default())?,
            volumes: self.volumes.into_iter().flatten().map(prepared).collect(),
            forget_token: self.forget_token.unwrap_or(false),
            clones: number(self.clones),
        };
        Ok(Ask::UpdateMachine { machine, change })
    }
}

impl NewGrant {
    pub(super) fn ask(self, key: KeyRef) -> Result<ask::NewGrant, Error> {
        Ok(ask::NewGrant {
            key,
            grantee: self.grantee.0,
            operations: all(&self.operations),
            context: tags(self.context.unwrap_or_default()),
            expires: self.expires.map(|time| time.0),
            delegable: self.delegable.unwrap_or(false),
            parent: self.parent.map(|id| id.0),
            name: self.name.map(|name| name.within("name")).transpose()?,
            exact_context: self.exact_context.map(tags),
            retiree: self.retiree.map(|id| id.0),
        })
    }
}

impl NewIdentity {
    pub(super) fn ask(self) -> Result<Ask, Error> {
        Ok(Ask::IssueIdentity {
            name: self.name.0,
            roles: all(&self.roles),
            request: self.request.within("request")?,
            days: days(self.days),
        })
    }
}

impl Renewal {
    pub(super) fn ask(self) -> Result<Ask, Error> {
        Ok(Ask::RenewIdentity { request: self.request.within("request")?, days: days(self.days) })
    }
}

impl Roles {
    pub(super) fn ask(&self, identity: PrincipalId) -> Ask {
        Ask::SetRoles { identity, roles: all(&self.roles) }
    }
}

impl NewAccessKey {
    pub(super) fn ask(self) -> Result<Ask, Error> {
        let import = match (self.id, self.secret) {
            (None, None) => None,
            (Some(id), Some(secret)) => Some((id.0.0, secret.secret("secret")?)),
            (None, Some(_)) | (Some(_), None) => {
                return Err(Error::Invalid { field: "secret", rule: "an import has both `id` and `secret`" });
            }
        };
        Ok(Ask::CreateAccessKey {
            identity: self.identity.0,
            import,
            minutes: self.minutes.map(Within::number),
        })
    }
}

impl Question {
    pub(super) fn ask(self) -> Ask {
        Ask::TestPolicy {
            identity: self.identity.0,
            operation: self.operation.0,
            key: self.key.map(|key| key.0),
            context: pairs(self.context),
            lease_seconds: seconds(self.lease_seconds),
        }
    }
}

impl NewTenant {
    pub(super) fn ask(self) -> Result<Ask, Error> {
        Ok(Ask::CreateTenant {
            name: self.name.0,
            admin: self.admin.0,
            request: self.request.within("request")?,
        })
    }
}

impl Rekey {
    pub(super) fn ask(self) -> Result<Ask, Error> {
        let count = |number: Within<1, 255>| u8::try_from(number.number()).expect("at most 255");
        Ok(Ask::Rekey(match self {
            Self::Shares(Object(sharing)) => {
                ask::Rekey::Shares { threshold: count(sharing.threshold), count: count(sharing.count) }
            }
            Self::Passphrase(text) => ask::Rekey::Passphrase(text.secret("passphrase")?),
            Self::Prove(text) => ask::Rekey::Prove(text.secret("prove")?),
            Self::Cancel(_) => ask::Rekey::Cancel,
        }))
    }
}

impl Certificate {
    pub(super) fn ask(self, identity: PrincipalId) -> Result<Ask, Error> {
        Ok(Ask::BindCertificate { identity, certificate: self.certificate.within("certificate")? })
    }
}

impl Policy {
    pub(super) fn ask(self, name: Name) -> Result<Ask, Error> {
        Ok(Ask::PutPolicy { name, text: self.text.within("text")? })
    }
}

impl PolicyDraft {
    pub(super) fn ask(self, name: Name) -> Result<Ask, Error> {
        let text = self.text.map(|text| text.within("text")).transpose()?;
        Ok(Ask::DiffPolicy { name, text })
    }
}
