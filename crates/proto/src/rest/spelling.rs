//! How single values are spelled in JSON, in paths and in queries: each value in one way.

use std::fmt;
use std::ops::Deref;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use keyhearth_core::Error;
use keyhearth_core::entry;
use keyhearth_core::id::{Alias, DeploymentId, GrantId, KeyId, Name, PrincipalId, RequestId, TenantId};
use keyhearth_core::key::{Origin, Usage};
use keyhearth_core::machine::Decision;
use keyhearth_core::operation::Operation;
use keyhearth_core::principal::{Fingerprint, Role};
use keyhearth_core::request::{ImportMechanism, KeyRef, Secret};
use keyhearth_core::secret::SecretName;
use keyhearth_core::state::State;
use keyhearth_core::time::Time;
use keyhearth_crypto::algorithm::{Algorithm, Mechanism};
use keyhearth_crypto::kh1::{CONTEXT_BYTES_MAX, CONTEXT_PAIRS_MAX};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value, json};
use zeroize::Zeroize;

/// A value that is spelled as one string.
pub trait Spelling: Sized {
    /// What a reader refuses with, to be read after "field: ".
    const RULE: &'static str;
    /// Reads exactly what [`Spelling::write`] writes.
    fn read(text: &str) -> Option<Self>;
    /// Writes it.
    ///
    /// # Errors
    /// Only those of `f`.
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
    /// Its JSON Schema.
    fn schema() -> Value;
}

/// A value of core, spelled as a string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Is<T>(pub T);

impl<T> Deref for Is<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> From<T> for Is<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T: Spelling> fmt::Display for Is<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f)
    }
}

impl<T: Spelling> Serialize for Is<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, T: Spelling> Deserialize<'de> for Is<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer, |text| T::read(text).map(Self).ok_or(T::RULE))
    }
}

/// Describes types that are written in place, without a name of their own.
macro_rules! inline_schema {
    ([$($generics:tt)*] $type:ty, $schema:expr) => {
        impl<$($generics)*> JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                Schema::try_from($schema).expect("an object is a schema")
            }
        }
    };
}
inline_schema!([T: Spelling] Is<T>, T::schema());

/// Reads a string without keeping it.
fn text<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    read: impl FnOnce(&str) -> Result<T, &'static str>,
) -> Result<T, D::Error> {
    struct Text<F>(F);
    impl<T, F: FnOnce(&str) -> Result<T, &'static str>> Visitor<'_> for Text<F> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            (self.0)(text).map_err(E::custom)
        }
    }
    deserializer.deserialize_str(Text(read))
}

fn one_of<'a>(names: impl IntoIterator<Item = &'a str>) -> Value {
    json!({ "type": "string", "enum": names.into_iter().collect::<Vec<_>>() })
}

const UUID: &str = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";
const UUID_RULE: &str = "must be a lower-case UUID";
const NAME_PATTERN: &str = "^[a-z0-9][a-z0-9._-]{0,63}$";
const TIME_PATTERN: &str = r"^(19[7-9]\d|[2-9]\d{3})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{3})?Z$";
const ALIAS_PATTERN: &str = "^[A-Za-z0-9/_.:-]{1,250}$";

const HOLDER_PATTERN: &str = "^(@|[A-Za-z0-9/_.:-]{1,250})$";
const SECRET_PATTERN: &str = "^([a-z0-9][a-z0-9._-]{0,63}|file/[0-9a-f]{32})$";

/// One use of a key, out of [`Usage::NAMES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use(pub &'static str);

/// The public id of an access key: 16 to 128 of `A-Z 0-9`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessKeyId(pub String);

impl AccessKeyId {
    fn read(text: &str) -> Option<Self> {
        let ok = |c: u8| c.is_ascii_uppercase() || c.is_ascii_digit();
        ((16..=128).contains(&text.len()) && text.bytes().all(ok)).then(|| Self(text.to_owned()))
    }
}

/// A key, or [`HOLDER`] for the one that a secret is kept under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder(pub Option<KeyRef>);

/// In the place of a key: the one that the secret is kept under, which is named in the body.
pub const HOLDER: &str = "@";

impl Holder {
    fn read(text: &str) -> Option<Self> {
        if text == HOLDER { Some(Self(None)) } else { text.parse().ok().map(|key| Self(Some(key))) }
    }
}

/// Where the next page of a listing begins. Opaque: give it back as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor(pub Vec<u8>);

/// The longest [`Cursor`], as text.
const CURSOR_TEXT_MAX: usize = 512;

impl Cursor {
    fn read(text: &str) -> Option<Self> {
        (text.len() <= CURSOR_TEXT_MAX).then(|| URL_SAFE_NO_PAD.decode(text).ok().map(Self)).flatten()
    }
}

fn read_whole(text: &str) -> Option<u64> {
    let canonical = text == "0" || !text.starts_with('0');
    (canonical && text.bytes().all(|c| c.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        text.extend([byte >> 4, byte & 15].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])));
        text
    })
}

fn read_fingerprint(text: &str) -> Option<Fingerprint> {
    let mut bytes = [0; 32];
    let digits: Vec<u8> = text
        .bytes()
        .map_while(|c| b"0123456789abcdef".iter().position(|&d| d == c)?.try_into().ok())
        .collect();
    if text.len() != 64 || digits.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Some(Fingerprint(bytes))
}

const fn import_name(mechanism: ImportMechanism) -> &'static str {
    match mechanism {
        ImportMechanism::RsaOaepSha1 => "rsa-oaep-sha1",
        ImportMechanism::RsaOaepSha256 => "rsa-oaep-sha256",
        ImportMechanism::RsaAesKwpSha1 => "rsa-aes-kwp-sha1",
        ImportMechanism::RsaAesKwpSha256 => "rsa-aes-kwp-sha256",
        ImportMechanism::HpkeX25519 => "hpke-x25519",
        ImportMechanism::HpkeX25519MlKem768 => "hpke-x25519-ml-kem-768",
    }
}

const fn origin_name(origin: Origin) -> &'static str {
    match origin {
        Origin::Generated => "generated",
        Origin::Imported => "imported",
    }
}

const fn decision_name(decision: Decision) -> &'static str {
    match decision {
        Decision::Pending => "pending",
        Decision::Approved => "approved",
        Decision::Denied => "denied",
    }
}

const fn result_name(result: entry::Result) -> &'static str {
    match result {
        entry::Result::Done => "done",
        entry::Result::Refused => "refused",
        entry::Result::Failed => "failed",
    }
}

macro_rules! spellings {
    ($($type:ty { $rule:expr, read: $read:expr, write: $write:expr, schema: $schema:expr })*) => {
        $(impl Spelling for $type {
            const RULE: &'static str = $rule;
            fn read(text: &str) -> Option<Self> {
                ($read)(text)
            }
            fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                ($write)(self, f)
            }
            fn schema() -> Value {
                $schema
            }
        })*

        /// Every rule that the reader of a string can refuse with.
        pub(super) const RULES: &[&str] =
            &[BASE64_RULE, PAIRS_RULE, PAIRS_TWICE_RULE, RANGE_RULE, $(<$type as Spelling>::RULE,)*];
    };
}

macro_rules! named {
    ($all:expr, $name:expr) => {
        |text: &str| $all.iter().copied().find(|&value| $name(value) == text)
    };
}

/// Writes by `name`.
fn by<T: Copy>(name: impl Fn(T) -> &'static str) -> impl Fn(&T, &mut fmt::Formatter<'_>) -> fmt::Result {
    move |value, f| f.write_str(name(*value))
}

fn uuid() -> Value {
    json!({ "type": "string", "format": "uuid", "pattern": UUID })
}

spellings! {
    Algorithm { "must be the name of an algorithm", read: Algorithm::parse, write: by(Algorithm::name),
        schema: one_of(Algorithm::ALL.iter().map(|a| a.name())) }
    Mechanism { "must be the name of a mechanism", read: Mechanism::parse, write: by(Mechanism::name),
        schema: one_of(Mechanism::ALL.iter().map(|m| m.name())) }
    Role { "must be the name of a role", read: Role::parse, write: by(Role::name),
        schema: one_of(Role::ALL.iter().map(|r| r.name())) }
    Operation { "must be the name of an operation", read: Operation::from_name, write: by(Operation::name),
        schema: one_of(Operation::ALL.iter().map(|o| o.name())) }
    ImportMechanism { "must be the name of an import mechanism", read: named!(ImportMechanism::ALL, import_name),
        write: by(import_name), schema: one_of(ImportMechanism::ALL.map(import_name)) }
    State { "must be the name of a state", read: named!(State::ALL, State::name), write: by(State::name),
        schema: one_of(State::ALL.map(State::name)) }
    Origin { "must be generated or imported", read: named!([Origin::Generated, Origin::Imported], origin_name),
        write: by(origin_name), schema: one_of([Origin::Generated, Origin::Imported].map(origin_name)) }
    Decision { "must be pending, approved or denied",
        read: named!([Decision::Pending, Decision::Approved, Decision::Denied], decision_name),
        write: by(decision_name), schema: one_of(["pending", "approved", "denied"]) }
    entry::Result { "must be done, refused or failed",
        read: named!([entry::Result::Done, entry::Result::Refused, entry::Result::Failed], result_name),
        write: by(result_name), schema: one_of(["done", "refused", "failed"]) }
    Use { "must be the name of a use", read: |text: &str| Usage::NAMES.into_iter().find(|n| *n == text).map(Self),
        write: by(|one: Self| one.0), schema: one_of(Usage::NAMES) }
    KeyId { UUID_RULE, read: |text: &str| text.parse().ok(), write: fmt::Display::fmt, schema: uuid() }
    PrincipalId { UUID_RULE, read: |text: &str| text.parse().ok(), write: fmt::Display::fmt, schema: uuid() }
    TenantId { UUID_RULE, read: |text: &str| text.parse().ok(), write: fmt::Display::fmt, schema: uuid() }
    GrantId { UUID_RULE, read: |text: &str| text.parse().ok(), write: fmt::Display::fmt, schema: uuid() }
    DeploymentId { UUID_RULE, read: |text: &str| text.parse().ok(), write: fmt::Display::fmt, schema: uuid() }
    RequestId { UUID_RULE, read: |text: &str| text.parse().ok(), write: fmt::Display::fmt, schema: uuid() }
    Name { "1 to 64 of a-z 0-9 . _ - and starts with a letter or digit", read: |text: &str| text.parse().ok(),
        write: fmt::Display::fmt, schema: json!({ "type": "string", "pattern": NAME_PATTERN }) }
    Alias { "1 to 250 of A-Z a-z 0-9 / _ . : - and not a UUID", read: |text: &str| text.parse().ok(),
        write: fmt::Display::fmt,
        schema: json!({ "type": "string", "pattern": ALIAS_PATTERN, "not": { "pattern": UUID } }) }
    KeyRef { "must be a key's id or an alias", read: |text: &str| text.parse().ok(),
        write: |key: &Self, f: &mut fmt::Formatter<'_>| match key {
            Self::Id(id) => write!(f, "{id}"),
            Self::Alias(alias) => write!(f, "{alias}"),
        },
        schema: json!({ "type": "string", "pattern": ALIAS_PATTERN }) }
    Holder { "must be a key's id or an alias, or @", read: Self::read,
        write: |holder: &Self, f: &mut fmt::Formatter<'_>| match &holder.0 {
            Some(key) => Spelling::write(key, f),
            None => f.write_str(HOLDER),
        },
        schema: json!({ "type": "string", "pattern": HOLDER_PATTERN }) }
    SecretName { "must be a name, or file/ and 32 hexadecimal digits", read: |text: &str| text.parse().ok(),
        write: fmt::Display::fmt, schema: json!({ "type": "string", "pattern": SECRET_PATTERN }) }
    Time { "must be a UTC time like 2026-11-20T12:00:00Z", read: crate::time::read, write: crate::time::write,
        schema: json!({ "type": "string", "format": "date-time", "pattern": TIME_PATTERN }) }
    AccessKeyId { "must be 16 to 128 of A-Z 0-9", read: Self::read,
        write: |id: &Self, f: &mut fmt::Formatter<'_>| f.write_str(&id.0),
        schema: json!({ "type": "string", "pattern": "^[A-Z0-9]{16,128}$" }) }
    Cursor { "must be the `next` of the page before", read: Self::read,
        write: |cursor: &Self, f: &mut fmt::Formatter<'_>| f.write_str(&URL_SAFE_NO_PAD.encode(&cursor.0)),
        schema: json!({ "type": "string", "pattern": "^[A-Za-z0-9_-]*$", "maxLength": CURSOR_TEXT_MAX }) }
    Fingerprint { "must be 64 hexadecimal digits in lower case", read: read_fingerprint,
        write: |print: &Self, f: &mut fmt::Formatter<'_>| f.write_str(&hex(&print.0)),
        schema: json!({ "type": "string", "pattern": "^[0-9a-f]{64}$" }) }
    u64 { "must be a whole number", read: read_whole, write: fmt::Display::fmt,
        schema: json!({ "type": "integer", "minimum": 0, "maximum": u64::MAX }) }
}

const BASE64_RULE: &str = "must be standard base64 with padding";
const BASE64_PATTERN: &str =
    "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$";

/// Bytes as standard base64 with padding, nothing else, at most `MAX`. Wiped when dropped.
///
/// Source: RFC 4648 §4.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Bytes<const MAX: usize = { usize::MAX }>(Secret);

impl<const MAX: usize> Bytes<MAX> {
    /// The bytes, to be kept secret.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond `MAX`.
    pub fn secret(self, field: &'static str) -> Result<Secret, Error> {
        if self.0.len() > MAX { Err(Error::TooLarge { field, limit: MAX }) } else { Ok(self.0) }
    }

    /// The bytes, which are no secret.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond `MAX`.
    pub fn public(self, field: &'static str) -> Result<Vec<u8>, Error> {
        self.secret(field).map(|mut bytes| std::mem::take(&mut *bytes))
    }

    /// The bytes as they came, whatever their number.
    #[must_use]
    pub fn into_inner(self) -> Secret {
        self.0
    }
}

impl<const MAX: usize> fmt::Debug for Bytes<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl<const MAX: usize> Deref for Bytes<MAX> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl<const MAX: usize> From<Secret> for Bytes<MAX> {
    fn from(bytes: Secret) -> Self {
        Self(bytes)
    }
}

impl<const MAX: usize> From<Vec<u8>> for Bytes<MAX> {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl<const MAX: usize> From<&[u8]> for Bytes<MAX> {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec().into())
    }
}

impl<const MAX: usize> Serialize for Bytes<MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&base64::display::Base64Display::new(&self.0, &STANDARD))
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Bytes<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer, |text| {
            let mut bytes = Secret::new(Vec::with_capacity(base64::decoded_len_estimate(text.len())));
            STANDARD.decode_vec(text, &mut bytes).map_err(|_| BASE64_RULE)?;
            Ok(Self(bytes))
        })
    }
}

inline_schema!([const MAX: usize] Bytes<MAX>, {
    let mut schema = json!({ "type": "string", "contentEncoding": "base64", "pattern": BASE64_PATTERN });
    if MAX < usize::MAX {
        schema["maxLength"] = MAX.div_ceil(3).saturating_mul(4).into();
    }
    schema
});

/// Text of at most `MAX` bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text<const MAX: usize>(pub String);

impl<const MAX: usize> Text<MAX> {
    /// The text.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond `MAX`.
    pub fn within(self, field: &'static str) -> Result<String, Error> {
        if self.0.len() > MAX { Err(Error::TooLarge { field, limit: MAX }) } else { Ok(self.0) }
    }
}

impl<const MAX: usize> From<String> for Text<MAX> {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl<const MAX: usize> Serialize for Text<MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Text<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}
inline_schema!([const MAX: usize] Text<MAX>, json!({ "type": "string", "maxLength": MAX }));

/// Secret text: a share, a passphrase, the secret of an access key. At most `MAX` bytes, wiped when dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretText<const MAX: usize>(Secret);

impl<const MAX: usize> SecretText<MAX> {
    /// The text's bytes, to be kept secret.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond `MAX`.
    pub fn secret(self, field: &'static str) -> Result<Secret, Error> {
        if self.0.len() > MAX { Err(Error::TooLarge { field, limit: MAX }) } else { Ok(self.0) }
    }

    /// The text, to be shown to the one it is for.
    #[must_use]
    pub fn expose(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl<const MAX: usize> fmt::Debug for SecretText<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("secret")
    }
}

impl<const MAX: usize> From<Secret> for SecretText<MAX> {
    /// Makes secret text of UTF-8; of anything else, nothing.
    fn from(mut bytes: Secret) -> Self {
        if std::str::from_utf8(&bytes).is_err() {
            bytes.zeroize();
        }
        Self(bytes)
    }
}

impl<const MAX: usize> Serialize for SecretText<MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.expose())
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for SecretText<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer, |text| Ok(Self(text.as_bytes().to_vec().into())))
    }
}
inline_schema!([const MAX: usize] SecretText<MAX>, json!({ "type": "string", "maxLength": MAX }));

const RANGE_RULE: &str = "is out of range";

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Within<const MIN: u32, const MAX: u32>(u32);

impl<const MIN: u32, const MAX: u32> Within<MIN, MAX> {
    /// The number, if it is in range.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        if MIN <= number && number <= MAX { Some(Self(number)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl<const MIN: u32, const MAX: u32> Serialize for Within<MIN, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Within<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(u32::deserialize(deserializer)?).ok_or_else(|| serde::de::Error::custom(RANGE_RULE))
    }
}
inline_schema!([const MIN: u32, const MAX: u32] Within<MIN, MAX>,
    json!({ "type": "integer", "minimum": MIN, "maximum": MAX }));

const PAIRS_RULE: &str = "has too many or too long pairs";
const PAIRS_TWICE_RULE: &str = "has a name twice";

/// What a name in [`Pairs`] has: a string, or a string or nothing.
pub trait PairValue: for<'de> Deserialize<'de> + Serialize + Ord {
    /// Its length in bytes.
    fn len(&self) -> usize;
    /// Its JSON types.
    fn types() -> Value;
}

impl PairValue for String {
    fn len(&self) -> usize {
        self.len()
    }
    fn types() -> Value {
        json!("string")
    }
}

impl PairValue for Option<String> {
    fn len(&self) -> usize {
        self.as_ref().map_or(0, String::len)
    }
    fn types() -> Value {
        json!(["string", "null"])
    }
}

/// Pairs of strings as a JSON object: at most 64, together at most 8 KiB, no name twice. Sorted by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairs<V = String>(Vec<(String, V)>);

impl<V> Default for Pairs<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<V> Pairs<V> {
    /// The pairs, sorted by name.
    #[must_use]
    pub fn into_inner(self) -> Vec<(String, V)> {
        self.0
    }
}

impl<V, A: Into<String>, B: Into<V>> FromIterator<(A, B)> for Pairs<V> {
    /// Sorts the pairs; of pairs with one name the last counts.
    fn from_iter<I: IntoIterator<Item = (A, B)>>(pairs: I) -> Self {
        let pairs: std::collections::BTreeMap<String, V> =
            pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self(pairs.into_iter().collect())
    }
}

impl<V: PairValue> Serialize for Pairs<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de, V: PairValue> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<V>(std::marker::PhantomData<V>);
        impl<'de, V: PairValue> Visitor<'de> for Members<V> {
            type Value = Pairs<V>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Pairs<V>, A::Error> {
                let mut pairs: Vec<(String, V)> = Vec::new();
                let mut room = CONTEXT_BYTES_MAX;
                while let Some((name, value)) = members.next_entry::<String, V>()? {
                    let left = room.checked_sub(name.len() + value.len());
                    let fits = pairs.len() < CONTEXT_PAIRS_MAX && !name.is_empty();
                    room = left.filter(|_| fits).ok_or_else(|| serde::de::Error::custom(PAIRS_RULE))?;
                    pairs.push((name, value));
                }
                pairs.sort_unstable();
                if pairs.windows(2).any(|two| two[0].0 == two[1].0) {
                    return Err(serde::de::Error::custom(PAIRS_TWICE_RULE));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Members(std::marker::PhantomData))
    }
}

impl<V: PairValue> JsonSchema for Pairs<V> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        if V::types().is_string() { "Pairs".into() } else { "PairChanges".into() }
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "Pairs of strings; names and values have together at most 8192 bytes.",
            "maxProperties": CONTEXT_PAIRS_MAX,
            "propertyNames": { "minLength": 1, "maxLength": CONTEXT_BYTES_MAX },
            "additionalProperties": { "type": V::types(), "maxLength": CONTEXT_BYTES_MAX },
        })
    }
}

/// A structure that is read from a JSON object only; by itself serde also reads it from an array.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Object<T>(pub T);

impl<T: Serialize> Serialize for Object<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members)).map(Object)
            }
        }
        deserializer.deserialize_map(Members(std::marker::PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Object<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }
    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}
