//! What AWS demands of a key's kind and state before it manages the key, beside what core demands.
//!
//! Core looks at it after it has found the caller allowed, on the record that it then uses
//! ([`keyhearth_core::request::Demand`]): nobody learns of a key's state by it, and it can only refuse.
//!
//! Source: AWS KMS Developer Guide, "Key states of AWS KMS keys"; recorded answers of AWS KMS.

use std::sync::Arc;

use keyhearth_core::Error;
use keyhearth_core::key::{Key, Origin};
use keyhearth_core::request::{Ask, KeyRef, Request as Asked, Response as Answer};
use keyhearth_core::state::State;
use keyhearth_core::time::Now;
use keyhearth_proto::aws::{Exception, KeySpec, KeyState, Kind, Place};
use parking_lot::Mutex;

use super::Exchange;
use super::refusal::About;

/// One demand. That anything is left of the key is always demanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// It is not going to be deleted.
    Stays,
    /// It is going to be deleted.
    Ends,
    /// Its material is there.
    HasMaterial,
    /// It is not disabled.
    Enabled,
    /// It is a symmetric key for encryption, the kind that is rotated.
    Symmetric,
    /// Its material is made here.
    Generated,
    /// Its material is imported.
    Imported,
}

impl Rule {
    fn check(self, place: &Place, key: &Key, now: Now) -> Result<(), Exception> {
        let arn = || place.key_arn(key.id);
        let says = |kind, text: &str| Err(Exception::new(kind, format!("{} {text}", arn())));
        let state = state(key, now);
        match self {
            Self::Stays if state == KeyState::PendingDeletion => {
                says(Kind::KMSInvalidState, "is pending deletion.")
            }
            Self::Ends if state != KeyState::PendingDeletion => {
                says(Kind::KMSInvalidState, "is not pending deletion.")
            }
            Self::HasMaterial if state == KeyState::PendingImport => {
                says(Kind::KMSInvalidState, "is pending import.")
            }
            Self::Enabled if matches!(state, KeyState::Disabled | KeyState::Unavailable) => {
                says(Kind::Disabled, "is disabled.")
            }
            Self::Symmetric if KeySpec::of(key.algorithm) != Some(KeySpec::SYMMETRIC_DEFAULT) => {
                Err(Exception::silent(Kind::UnsupportedOperation))
            }
            Self::Generated if key.origin == Origin::Imported => {
                says(Kind::UnsupportedOperation, "origin is EXTERNAL which is not valid for this operation.")
            }
            Self::Imported if key.origin == Origin::Generated => {
                says(Kind::UnsupportedOperation, "origin is AWS_KMS which is not valid for this operation.")
            }
            Self::Stays
            | Self::Ends
            | Self::HasMaterial
            | Self::Enabled
            | Self::Symmetric
            | Self::Generated
            | Self::Imported => Ok(()),
        }
    }
}

/// What AWS calls the state of a key. It knows one state of the whole key: that of the version that protects.
pub(super) fn state(key: &Key, now: Now) -> KeyState {
    let primary = key.versions.iter().find(|version| version.number == key.primary);
    let version_state = primary.map_or(State::Destroyed, |version| version.state_at(now));
    let has_material = primary.is_some_and(|version| version.has_material_at(now));
    match version_state {
        _ if key.destroy_at.is_some() => KeyState::PendingDeletion,
        State::Destroyed => KeyState::Unavailable,
        _ if !has_material => KeyState::PendingImport,
        _ if key.suspended.is_some() => KeyState::Disabled,
        State::Active => KeyState::Enabled,
        State::PreActive | State::Suspended | State::Deactivated | State::Compromised => KeyState::Disabled,
    }
}

/// Whether anything is left of the key. AWS forgets a key that is deleted; core keeps its record for ever.
pub(super) fn is_left(key: &Key) -> bool {
    key.versions.iter().any(|version| version.state != State::Destroyed)
}

/// Refuses a key of which nothing is left, and what breaks a rule; the first counts.
pub(super) fn check(place: &Place, key: &Key, now: Now, rules: &[Rule]) -> Result<(), Exception> {
    if !is_left(key) {
        return Err(place.missing(&KeyRef::Id(key.id)));
    }
    rules.iter().try_for_each(|rule| rule.check(place, key, now))
}

impl Exchange<'_> {
    /// Asks for something about a key that keeps `rules`.
    pub(super) async fn manage(
        &self,
        ask: Ask,
        about: About<'_>,
        rules: &'static [Rule],
    ) -> Result<Answer, Exception> {
        self.manage_if(ask, about, rules, |_, _| Ok(())).await
    }

    /// Asks for something about a key that keeps `rules` and what else the call demands.
    pub(super) async fn manage_if(
        &self,
        ask: Ask,
        about: About<'_>,
        rules: &'static [Rule],
        more: impl Fn(&Key, Now) -> Result<(), Exception> + Send + Sync + 'static,
    ) -> Result<Answer, Exception> {
        let (result, refused) = self.demand(ask, rules, more).await;
        result.map_err(|error| refused.unwrap_or_else(|| self.refusal(error, about)))
    }

    /// Asks; if what the call demands is why it was refused, with the words for it.
    pub(super) async fn demand(
        &self,
        ask: Ask,
        rules: &'static [Rule],
        more: impl Fn(&Key, Now) -> Result<(), Exception> + Send + Sync + 'static,
    ) -> (Result<Answer, Error>, Option<Exception>) {
        self.try_demand(ask, false, rules, more).await
    }

    /// As [`Exchange::demand`], or in a dry run only whether it would be done.
    pub(super) async fn try_demand(
        &self,
        ask: Ask,
        dry_run: bool,
        rules: &'static [Rule],
        more: impl Fn(&Key, Now) -> Result<(), Exception> + Send + Sync + 'static,
    ) -> (Result<Answer, Error>, Option<Exception>) {
        let refused = Arc::new(Mutex::new(None));
        let (said, place) = (Arc::clone(&refused), self.place.clone());
        let demand = move |key: &Key, now: Now| {
            let result = check(&place, key, now, rules).and_then(|()| more(key, now));
            result.map_err(|exception| {
                let error = in_core(exception.kind);
                *said.lock() = Some(exception);
                error
            })
        };
        let asked = Asked { demand: Some(Arc::new(demand)), dry_run, ..Asked::new(self.id, ask) };
        let result = self.execute(asked).await;
        let refused = refused.lock().take();
        (result, refused)
    }
}

/// What the log says of a demand that is not met.
fn in_core(kind: Kind) -> Error {
    if kind == Kind::NotFound {
        Error::NotFound("key")
    } else if kind == Kind::UnsupportedOperation {
        Error::Unsupported("the protocol does not do that with such keys")
    } else {
        Error::Conflict("the protocol does not do that with a key in this state")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use keyhearth_core::id::{KeyId, PrincipalId, TenantId};
    use keyhearth_core::key::{Cryptoperiod, Usage};
    use keyhearth_core::state::Switches;
    use keyhearth_core::time::Time;
    use keyhearth_crypto::algorithm::Algorithm;

    use super::*;

    pub(in super::super) const NOW: Now = Now::exactly(Time::from_unix_ms(1_800_000_000_000));
    pub(in super::super) const ARN: &str =
        "arn:aws:kms:eu-central-1:111122223333:key/07070707-0707-0707-0707-070707070707";

    pub(in super::super) fn place() -> Place {
        Place::new("111122223333", "eu-central-1").unwrap()
    }

    /// A key of one version, which is active if it has material.
    pub(in super::super) fn key(algorithm: Algorithm, origin: Origin) -> Key {
        let mut key = Key {
            id: KeyId([7; 16]),
            tenant: TenantId([2; 16]),
            algorithm,
            usage: Usage::usual(algorithm),
            exportable: false,
            origin,
            created: NOW.latest,
            creator: PrincipalId([3; 16]),
            description: "a key".to_owned(),
            tags: BTreeMap::new(),
            primary: 1,
            versions: Vec::new(),
            switches: Switches::default(),
            cryptoperiod: Cryptoperiod::default(),
            rotation: None,
            destroy_at: None,
            aliases: Vec::new(),
            suspended: None,
            policy: None,
        };
        key.add_version(NOW, None, origin == Origin::Generated).unwrap();
        key
    }

    fn said(key: &Key, rules: &[Rule]) -> Option<(Kind, Option<String>)> {
        check(&place(), key, NOW, rules).err().map(|exception| (exception.kind, exception.message))
    }

    #[test]
    fn a_key_has_the_state_that_aws_calls_so() {
        let state = |change: fn(&mut Key)| {
            let mut key = key(Algorithm::Aes256, Origin::Generated);
            change(&mut key);
            state(&key, NOW)
        };
        assert_eq!(state(|_| {}), KeyState::Enabled);
        assert_eq!(state(|key| key.suspended = Some(NOW.latest)), KeyState::Disabled);
        for of_version in [State::Suspended, State::Deactivated, State::Compromised] {
            let mut key = key(Algorithm::Aes256, Origin::Generated);
            key.versions[0].state = of_version;
            assert_eq!(super::state(&key, NOW), KeyState::Disabled, "{of_version}");
        }
        let ending = |key: &mut Key| {
            key.suspended = Some(NOW.latest);
            key.destroy_at = Some(NOW.latest.plus_days(7));
        };
        assert_eq!(state(ending), KeyState::PendingDeletion);
        assert_eq!(state(|key| key.versions[0].has_material = false), KeyState::PendingImport);
        assert_eq!(state(|key| key.versions[0].expires = Some(NOW.latest)), KeyState::PendingImport);
        assert_eq!(state(|key| key.versions[0].state = State::Destroyed), KeyState::Unavailable);
    }

    /// Source: recorded answers of AWS KMS.
    #[test]
    fn what_is_demanded_is_worded_as_by_aws() {
        let sound = key(Algorithm::Aes256, Origin::Generated);
        let every = [Rule::Stays, Rule::HasMaterial, Rule::Enabled, Rule::Symmetric, Rule::Generated];
        assert_eq!(said(&sound, &every), None);
        let text = |kind, text: &str| Some((kind, Some(format!("{ARN} {text}"))));
        assert_eq!(said(&sound, &[Rule::Ends]), text(Kind::KMSInvalidState, "is not pending deletion."));
        assert_eq!(
            said(&sound, &[Rule::Imported]),
            text(Kind::UnsupportedOperation, "origin is AWS_KMS which is not valid for this operation.")
        );
        let disabled = Key { suspended: Some(NOW.latest), ..sound.clone() };
        assert_eq!(said(&disabled, &[Rule::Stays, Rule::Enabled]), text(Kind::Disabled, "is disabled."));
        let ending = Key { destroy_at: Some(NOW.latest), ..disabled };
        assert_eq!(said(&ending, &every), text(Kind::KMSInvalidState, "is pending deletion."));
        assert_eq!(said(&ending, &[Rule::Ends]), None);
        let awaiting = key(Algorithm::Aes256, Origin::Imported);
        assert_eq!(said(&awaiting, &every), text(Kind::KMSInvalidState, "is pending import."));
        assert_eq!(said(&awaiting, &[Rule::Imported, Rule::Enabled]), None);
        assert_eq!(
            said(&awaiting, &[Rule::Generated]),
            text(Kind::UnsupportedOperation, "origin is EXTERNAL which is not valid for this operation.")
        );
        for algorithm in [Algorithm::Rsa2048, Algorithm::HmacSha256, Algorithm::Aes128] {
            let other = key(algorithm, Origin::Generated);
            assert_eq!(said(&other, &[Rule::Symmetric]), Some((Kind::UnsupportedOperation, None)));
        }
        let mut gone = sound;
        gone.versions[0].state = State::Destroyed;
        assert_eq!(said(&gone, &[]), Some((Kind::NotFound, Some(format!("Key '{ARN}' does not exist")))));
    }
}
