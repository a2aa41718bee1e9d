//! Keys and key versions: what is stored about them and how they change. All pure.
//!
//! The key row holds everything about a key and its versions except the material, so a change of
//! state writes one row, and the row's MAC covers all of it. Each version's wrapped material lies in
//! a row of its own ([`Material`]), written when it is made, rewrapped or destroyed.

use std::collections::{BTreeMap, BTreeSet};

use keyhearth_crypto::algorithm::{Algorithm, Family, Purpose};
use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};

use crate::error::Error;
use crate::id::{Alias, DeploymentId, KeyId, PrincipalId, TenantId};
use crate::operation::Operation;
use crate::policy::KeyPolicy;
use crate::state::{State, Switches, Transition};
use crate::time::{Now, Time};

/// The most versions of one key.
pub const VERSIONS_MAX: usize = 4_096;
/// The most tags of one key.
pub const TAGS_MAX: usize = 50;
/// The most aliases of one key.
pub const ALIASES_MAX: usize = 50;
/// The longest tag name, in characters.
pub const TAG_NAME_CHARS_MAX: usize = 128;
/// The longest tag value, in characters.
pub const TAG_VALUE_CHARS_MAX: usize = 256;
/// The longest description, in bytes.
pub const DESCRIPTION_BYTES_MAX: usize = 8_192;
/// Days between scheduling a destruction and the destruction itself.
pub const DESTROY_DAYS: std::ops::RangeInclusive<u32> = 7..=30;
/// Days between automatic rotations, and lengths of cryptoperiods.
pub const PERIOD_DAYS: std::ops::RangeInclusive<u32> = 1..=3_650;
/// Messages protected with one version under random 96-bit IVs: a hard stop.
///
/// Source: NIST SP 800-38D §8.3 (at most 2^32 invocations of one key).
pub const RANDOM_IV_USES_MAX: u64 = 1 << 32;

/// What a key may be used for: a set of directions, fixed when the key is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Usage(#[n(0)] u16);

impl Usage {
    /// Names in the order of the bits.
    pub const NAMES: [&'static str; 13] = [
        "encrypt",
        "decrypt",
        "sign",
        "verify",
        "mac",
        "verify-mac",
        "wrap",
        "unwrap",
        "agree",
        "encapsulate",
        "decapsulate",
        "exchange",
        "release",
    ];

    /// Makes a set from names, checked against what `algorithm` can do.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the set is empty, a name is unknown, or the algorithm cannot do it.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>, algorithm: Algorithm) -> Result<Self, Error> {
        let mut bits = 0;
        for name in names {
            let bit = Self::NAMES.iter().position(|n| *n == name);
            bits |= 1 << bit.ok_or(Error::Invalid { field: "usage", rule: "names an unknown use" })?;
        }
        if bits == 0 || bits & !Self::possible(algorithm).0 != 0 {
            return Err(Error::Invalid {
                field: "usage",
                rule: "must be one or more uses that the algorithm has",
            });
        }
        // An exchange gives whoever may ask what an agreement would give only those who may agree; a code that is
        // computed of chosen bytes could be the secret of a volume.
        for alone in [Purpose::Exchange, Purpose::Release].map(Self::pair) {
            if bits & alone != 0 && bits != alone {
                let rule = "a key for exchange, or for release, is for nothing else";
                return Err(Error::Invalid { field: "usage", rule });
            }
        }
        Ok(Self(bits))
    }

    /// Everything `algorithm` can do.
    #[must_use]
    pub fn possible(algorithm: Algorithm) -> Self {
        let purposes = algorithm.info().mechanisms.iter().flat_map(|mechanism| mechanism.purposes());
        Self(purposes.fold(0, |bits, &purpose| bits | Self::pair(purpose)))
    }

    /// What a new key of `algorithm` is for unless the caller says otherwise: the purpose of its best mechanism.
    #[must_use]
    pub fn usual(algorithm: Algorithm) -> Self {
        Self(Self::pair(algorithm.info().mechanisms[0].purposes()[0]))
    }

    const fn pair(purpose: Purpose) -> u16 {
        match purpose {
            Purpose::Encrypt => 0b11,
            Purpose::Sign => 0b1100,
            Purpose::Mac => 0b11_0000,
            Purpose::Wrap => 0b1100_0000,
            Purpose::Agree => 0b1_0000_0000,
            Purpose::Encapsulate => 0b110_0000_0000,
            Purpose::Exchange => 0b1000_0000_0000,
            Purpose::Release => 0b1_0000_0000_0000,
        }
    }

    /// Whether the set allows `operation`; operations that use no material are always allowed.
    #[expect(clippy::wildcard_enum_match_arm, reason = "only uses of material are restricted")]
    #[must_use]
    pub fn permits(self, operation: Operation) -> bool {
        let name = match operation {
            Operation::Encrypt
            | Operation::Rewrap
            | Operation::DataKey
            | Operation::DataKeyWithoutPlaintext
            | Operation::DataKeyPair
            | Operation::DataKeyPairWithoutPlaintext
            | Operation::KeepSecret => "encrypt",
            Operation::RewrapFrom | Operation::ReadSecret => "decrypt",
            Operation::Decrypt
            | Operation::Sign
            | Operation::Verify
            | Operation::Mac
            | Operation::VerifyMac
            | Operation::Wrap
            | Operation::Unwrap
            | Operation::Agree
            | Operation::Encapsulate
            | Operation::Decapsulate
            | Operation::Exchange => operation.name(),
            Operation::VolumeSecret
            | Operation::RecoverySecret
            | Operation::ReleaseVolumes
            | Operation::CloneImage => "release",
            _ => return true,
        };
        Self::NAMES.iter().position(|n| *n == name).is_some_and(|bit| self.0 & 1 << bit != 0)
    }

    /// The names of the set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES
            .into_iter()
            .enumerate()
            .filter(move |(bit, _)| self.0 & 1 << bit != 0)
            .map(|(_, name)| name)
    }
}

/// Where a key's material came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Origin {
    /// Made by this server.
    #[n(0)]
    Generated,
    /// Brought in by its owner.
    #[n(1)]
    Imported,
}

/// How long versions protect and process, counted from their activation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Cryptoperiod {
    /// After so many days a version is deactivated.
    #[n(0)]
    pub protect_days: Option<u32>,
    /// After so many days a version is not used at all.
    #[n(1)]
    pub process_days: Option<u32>,
}

/// Automatic rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Rotation {
    /// Days from one rotation to the next.
    #[n(0)]
    pub every_days: u32,
    /// When the next one is due.
    #[n(1)]
    pub next: Time,
}

/// One version of a key, without its material.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Version {
    /// 1, 2, 3, …
    #[n(0)]
    pub number: u32,
    /// The state as last written. Read it through [`Version::state_at`].
    #[n(1)]
    pub state: State,
    /// When it was made.
    #[n(2)]
    pub created: Time,
    /// When it becomes, or became, active.
    #[n(3)]
    pub activation: Option<Time>,
    /// From here on it protects nothing: it is deactivated.
    #[n(4)]
    pub protect_end: Option<Time>,
    /// From here on it is not used at all.
    #[n(5)]
    pub process_end: Option<Time>,
    /// When it was reported compromised, whatever its state.
    #[n(6)]
    pub compromised: Option<Time>,
    /// When its material was deleted.
    #[n(7)]
    pub destroyed: Option<Time>,
    /// Whether there is material; not before an import has come.
    #[n(8)]
    pub has_material: bool,
    /// Uses under random IVs that are reserved durably; never fewer than were made.
    #[n(9)]
    pub random_iv_uses: u64,
    /// Whether the schedule made it; otherwise somebody asked for it.
    #[cbor(n(10), default)]
    pub automatic: bool,
    /// When its imported material ends: from here on it is not used, and then deleted.
    #[n(11)]
    pub expires: Option<Time>,
    /// A keyed check value of imported material. It stays when the material is deleted, so that the version
    /// takes no other one than it had.
    #[cbor(n(12), with = "minicbor::bytes")]
    pub check: Option<[u8; 32]>,
    /// What its owner says of its imported material.
    #[n(13)]
    pub description: Option<String>,
}

impl Version {
    /// The state with dates applied.
    #[must_use]
    pub fn state_at(&self, now: Now) -> State {
        let active = match self.state {
            State::Active => true,
            State::PreActive => self.has_material && self.activation.is_some_and(|date| now.reached(date)),
            State::Suspended | State::Deactivated | State::Compromised | State::Destroyed => false,
        };
        match (active, self.protect_end) {
            (true, Some(end)) if now.may_have_passed(end) => State::Deactivated,
            (true, _) => State::Active,
            (false, _) => self.state,
        }
    }

    /// Whether there is material that may still be used.
    #[must_use]
    pub fn has_material_at(&self, now: Now) -> bool {
        self.has_material && !self.expires.is_some_and(|end| now.may_have_passed(end))
    }

    /// Whether there is material, or there was before it was deleted to come again.
    #[must_use]
    pub const fn had_material(&self) -> bool {
        self.has_material || self.check.is_some()
    }

    /// Whether even processing has ended.
    #[must_use]
    pub fn process_ended(&self, now: Now) -> bool {
        self.process_end.is_some_and(|end| now.may_have_passed(end))
    }

    /// The state that a date has certainly brought and that is not written yet.
    #[must_use]
    pub fn due(&self, now: Now) -> Option<State> {
        let state = self.state_at(Now::exactly(now.earliest));
        (state != self.state).then_some(state)
    }
}

/// The stored record of a key and its versions.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Key {
    /// Its id.
    #[n(0)]
    pub id: KeyId,
    /// Its tenant.
    #[n(1)]
    pub tenant: TenantId,
    /// What it is. Fixed.
    #[cbor(n(2), encode_with = "encode_algorithm", decode_with = "decode_algorithm")]
    pub algorithm: Algorithm,
    /// What it may be used for. Fixed.
    #[n(3)]
    pub usage: Usage,
    /// Whether its material may ever leave the server. Fixed.
    #[n(4)]
    pub exportable: bool,
    /// Where its material comes from. Fixed.
    #[n(5)]
    pub origin: Origin,
    /// When it was made. Fixed.
    #[n(6)]
    pub created: Time,
    /// Who made it. Fixed.
    #[n(7)]
    pub creator: PrincipalId,
    /// For people.
    #[n(8)]
    pub description: String,
    /// For policies and for people.
    #[n(9)]
    pub tags: BTreeMap<String, String>,
    /// The version that protects.
    #[n(10)]
    pub primary: u32,
    /// All versions, by number, starting with 1.
    #[n(11)]
    pub versions: Vec<Version>,
    /// Exceptions to the table of states.
    #[n(12)]
    pub switches: Switches,
    /// For new versions.
    #[n(13)]
    pub cryptoperiod: Cryptoperiod,
    /// Automatic rotation, if wanted.
    #[n(14)]
    pub rotation: Option<Rotation>,
    /// While set, the key is not used, and is destroyed at this date unless that is cancelled.
    #[n(15)]
    pub destroy_at: Option<Time>,
    /// Its aliases, sorted, at most [`ALIASES_MAX`].
    #[n(16)]
    pub aliases: Vec<Alias>,
    /// Since when the key as a whole is suspended: no version of it is used, whatever its own state.
    #[n(17)]
    pub suspended: Option<Time>,
    /// Its own policy, if it has one.
    #[n(18)]
    pub policy: Option<KeyPolicy>,
}

/// The stored record of an alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AliasOf {
    /// The key it leads to.
    pub key: KeyId,
    /// When it was made; unknown for those of the first servers, which stored the key alone.
    pub created: Option<Time>,
    /// When it began to lead to this key.
    pub updated: Option<Time>,
}

impl<C> Encode<C> for AliasOf {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, c: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.array(3)?.encode_with(self.key, c)?.encode_with(self.created, c)?.encode_with(self.updated, c)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for AliasOf {
    fn decode(d: &mut Decoder<'b>, c: &mut C) -> Result<Self, decode::Error> {
        if d.datatype()? == minicbor::data::Type::Bytes {
            return Ok(Self { key: d.decode_with(c)?, created: None, updated: None });
        }
        if d.array()? != Some(3) {
            return Err(decode::Error::message("an alias has three fields"));
        }
        Ok(Self { key: d.decode_with(c)?, created: d.decode_with(c)?, updated: d.decode_with(c)? })
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the derive passes a reference")]
fn encode_algorithm<C, W: encode::Write>(
    algorithm: &Algorithm,
    e: &mut Encoder<W>,
    _: &mut C,
) -> Result<(), encode::Error<W::Error>> {
    e.u8(algorithm.code())?.ok()
}

fn decode_algorithm<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Algorithm, decode::Error> {
    Algorithm::from_code(d.u8()?).ok_or_else(|| decode::Error::message("unknown algorithm"))
}

impl Key {
    /// Whether roles and the tenant's policies allow nothing on it: see [`KeyPolicy::closed`].
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.policy.as_ref().is_some_and(|policy| policy.closed)
    }

    /// Refuses names of pairs or tags that differ in case alone, if the key's policy was translated from a document:
    /// to those who write documents they are one name, and which value counts could be chosen by who asks.
    ///
    /// # Errors
    /// [`Error::Invalid`] names `field`.
    pub fn check_told_apart<'a>(
        &self,
        field: &'static str,
        names: impl IntoIterator<Item = &'a String>,
    ) -> Result<(), Error> {
        let translated = self.policy.as_ref().is_some_and(|policy| policy.document.is_some());
        let mut seen = BTreeSet::new();
        if translated && !names.into_iter().all(|name| seen.insert(name.to_lowercase())) {
            return Err(Error::Invalid {
                field,
                rule: "names differ in case alone, which this key's policy does not tell apart; keep one of them",
            });
        }
        Ok(())
    }

    /// The version of this number.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn version(&self, number: u32) -> Result<&Version, Error> {
        let at = usize::try_from(number).ok().and_then(|n| n.checked_sub(1));
        at.and_then(|at| self.versions.get(at)).ok_or(Error::NotFound("key version"))
    }

    /// The version of this number, to be changed.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn version_mut(&mut self, number: u32) -> Result<&mut Version, Error> {
        let at = usize::try_from(number).ok().and_then(|n| n.checked_sub(1));
        at.and_then(|at| self.versions.get_mut(at)).ok_or(Error::NotFound("key version"))
    }

    /// Whether programs can use `other` in place of this key: it has the same use, and is a public-key pair, a
    /// MAC key or a key for encryption as this one.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let kind = |key: &Self| (key.algorithm.is_asymmetric(), key.algorithm.info().family == Family::Hmac);
        self.usage == other.usage && kind(self) == kind(other)
    }

    /// The version that protects.
    ///
    /// # Errors
    /// [`Error::NotFound`] only for a record that was not made by [`Key::add_version`].
    pub fn primary(&self) -> Result<&Version, Error> {
        self.version(self.primary)
    }

    /// Bytes that are authenticated with the wrapped material of `version`: what never changes.
    ///
    /// A blob moved to another deployment, tenant, key or version, or a key whose algorithm, usage
    /// or exportability was altered in the store, does not unwrap.
    #[must_use]
    pub fn material_binding(&self, deployment: DeploymentId, version: u32) -> [u8; 65] {
        let mut bytes = [0; 65];
        bytes[..16].copy_from_slice(&deployment.0);
        bytes[16..32].copy_from_slice(&self.tenant.0);
        bytes[32..48].copy_from_slice(&self.id.0);
        bytes[48..52].copy_from_slice(&version.to_be_bytes());
        bytes[52] = self.algorithm.code();
        bytes[53..55].copy_from_slice(&self.usage.0.to_be_bytes());
        bytes[55] = u8::from(self.exportable);
        bytes[56] = match self.origin {
            Origin::Generated => 0,
            Origin::Imported => 1,
        };
        bytes[57..].copy_from_slice(&self.created.unix_ms().to_be_bytes());
        bytes
    }

    /// Adds the next version. With material it becomes primary and, unless `activation` lies ahead,
    /// active at once; the previous primary is deactivated. Returns its number.
    ///
    /// # Errors
    /// [`Error::TooLarge`] at [`VERSIONS_MAX`].
    pub fn add_version(
        &mut self,
        now: Now,
        activation: Option<Time>,
        has_material: bool,
    ) -> Result<u32, Error> {
        if self.versions.len() >= VERSIONS_MAX {
            return Err(Error::TooLarge { field: "versions", limit: VERSIONS_MAX });
        }
        let number = u32::try_from(self.versions.len() + 1).expect("VERSIONS_MAX fits");
        let mut version = Version {
            number,
            state: State::PreActive,
            created: now.latest,
            activation,
            protect_end: None,
            process_end: None,
            compromised: None,
            destroyed: None,
            has_material,
            random_iv_uses: 0,
            automatic: false,
            expires: None,
            check: None,
            description: None,
        };
        let begins_later = activation.is_some_and(|date| !now.reached(date));
        if has_material && !begins_later {
            begin(&mut version, self.cryptoperiod, now.latest);
        } else if let Some(date) = activation {
            set_ends(&mut version, self.cryptoperiod, date);
        }
        let active = version.state == State::Active;
        self.versions.push(version);
        if active || number == 1 {
            self.make_primary(number, now);
        }
        Ok(number)
    }

    /// Makes `number` the version that protects; the one before goes on processing. Protecting never goes
    /// back to a version older than the primary one: that begins deactivated, and only processes.
    fn make_primary(&mut self, number: u32, now: Now) {
        if number < self.primary {
            if let Ok(older) = self.version_mut(number) {
                older.state = State::Deactivated;
            }
            return;
        }
        if let Ok(old) = self.version_mut(self.primary)
            && old.number != number
            && matches!(old.state_at(now), State::Active)
        {
            old.state = State::Deactivated;
        }
        self.primary = number;
    }

    /// Carries out one transition of one version.
    ///
    /// # Errors
    /// [`Error::WrongState`] where the table refuses it, with `operation` as what was asked.
    pub fn apply(
        &mut self,
        number: u32,
        transition: Transition,
        operation: Operation,
        now: Now,
    ) -> Result<(), Error> {
        let cryptoperiod = self.cryptoperiod;
        let version = self.version_mut(number)?;
        let state = version.state_at(now);
        let next = state.after(transition).ok_or(Error::WrongState { state, operation })?;
        if transition == Transition::Activate && !version.has_material {
            return Err(Error::WrongState { state, operation });
        }
        version.state = next;
        match transition {
            Transition::Activate => {
                begin(version, cryptoperiod, now.latest);
                self.make_primary(number, now);
            }
            Transition::Compromise => {
                version.compromised.get_or_insert(now.latest);
            }
            Transition::Destroy => {
                version.destroyed = Some(now.latest);
                version.has_material = false;
                (version.expires, version.check) = (None, None);
            }
            Transition::Suspend | Transition::Resume | Transition::Deactivate => {}
        }
        Ok(())
    }

    /// The version that the next rotation activates, because its material was imported for that.
    #[must_use]
    pub fn brought(&self, now: Now) -> Option<&Version> {
        self.versions.last().filter(|version| {
            version.state == State::PreActive && version.activation.is_none() && version.has_material_at(now)
        })
    }

    /// Suspends the key as a whole. One that is suspended stays so.
    ///
    /// # Errors
    /// [`Error::WrongState`] if nothing is left of it, or if it is going to be destroyed: then it is not used
    /// anyway, and whoever cancels that says whether it is suspended afterwards.
    pub fn suspend(&mut self, now: Now) -> Result<(), Error> {
        self.check_not_ending(Operation::SuspendKey, now)?;
        if self.versions.iter().all(|version| version.state == State::Destroyed) {
            return Err(Error::WrongState { state: State::Destroyed, operation: Operation::SuspendKey });
        }
        self.suspended.get_or_insert(now.latest);
        Ok(())
    }

    /// Ends the suspension of the key as a whole. One whose primary version is active stays as it is.
    ///
    /// # Errors
    /// [`Error::WrongState`] if there is something else that keeps it from being used.
    pub fn resume(&mut self, now: Now) -> Result<(), Error> {
        self.check_not_ending(Operation::ResumeKey, now)?;
        let state = self.primary()?.state_at(now);
        if self.suspended.take().is_none() && state != State::Active {
            return Err(Error::WrongState { state, operation: Operation::ResumeKey });
        }
        Ok(())
    }

    /// Refuses a key that is going to be destroyed.
    ///
    /// # Errors
    /// [`Error::WrongState`] with the state of the primary version.
    pub fn check_not_ending(&self, operation: Operation, now: Now) -> Result<(), Error> {
        match self.destroy_at {
            Some(_) => Err(Error::WrongState { state: self.primary()?.state_at(now), operation }),
            None => Ok(()),
        }
    }

    /// Writes down what dates have certainly brought: activation, end of protecting. Returns what changed.
    pub fn apply_dates(&mut self, now: Now) -> Vec<(u32, State)> {
        let due: Vec<(u32, State)> =
            self.versions.iter().filter_map(|v| Some((v.number, v.due(now)?))).collect();
        for &(number, state) in &due {
            if let Ok(version) = self.version_mut(number) {
                version.state = state;
            }
            if state == State::Active {
                self.make_primary(number, now);
            }
        }
        due.into_iter().filter_map(|(number, _)| Some((number, self.version(number).ok()?.state))).collect()
    }

    /// The next date at which something happens to this key by itself.
    #[must_use]
    pub fn next_date(&self) -> Option<Time> {
        let of_version = |v: &Version| match v.state {
            State::PreActive if v.has_material => v.activation,
            State::Active => v.protect_end,
            State::PreActive
            | State::Suspended
            | State::Deactivated
            | State::Compromised
            | State::Destroyed => None,
        };
        let versions = self.versions.iter().filter_map(of_version).min();
        let material = self.versions.iter().filter(|v| v.has_material).filter_map(|v| v.expires).min();
        let rotation = self.rotation.filter(|_| self.suspended.is_none()).map(|rotation| rotation.next);
        [versions, material, rotation, self.destroy_at].into_iter().flatten().min()
    }
}

fn begin(version: &mut Version, cryptoperiod: Cryptoperiod, at: Time) {
    version.state = State::Active;
    version.activation = Some(at);
    set_ends(version, cryptoperiod, at);
}

fn set_ends(version: &mut Version, cryptoperiod: Cryptoperiod, from: Time) {
    version.protect_end = cryptoperiod.protect_days.map(|days| from.plus_days(days));
    version.process_end = cryptoperiod.process_days.map(|days| from.plus_days(days));
}

/// Checks tags.
///
/// # Errors
/// [`Error::TooLarge`] or [`Error::Invalid`].
pub fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), Error> {
    if tags.len() > TAGS_MAX {
        return Err(Error::TooLarge { field: "tags", limit: TAGS_MAX });
    }
    let fits = |(name, value): (&String, &String)| {
        (1..=TAG_NAME_CHARS_MAX).contains(&name.chars().count())
            && value.chars().count() <= TAG_VALUE_CHARS_MAX
    };
    if !tags.iter().all(fits) {
        return Err(Error::Invalid {
            field: "tags",
            rule: "names have 1 to 128 characters, values at most 256",
        });
    }
    Ok(())
}

/// The stored record of one version's material.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Material {
    /// The version of the tenant key that wraps it.
    #[n(0)]
    pub tenant_key: u32,
    /// The material, wrapped with [`Key::material_binding`] as associated data.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub wrapped: Vec<u8>,
    /// The public half as `SubjectPublicKeyInfo` DER, for asymmetric keys.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub public: Option<Vec<u8>>,
}

#[cfg(test)]
mod tests;
