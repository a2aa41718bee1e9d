//! What a request does with a key: what is loaded and decided for it.

use std::borrow::Cow;

use keyhearth_core::decide::Permit;
use keyhearth_core::machine::BootFacts;
use keyhearth_core::operation::Operation;
use keyhearth_core::request::{Ask, KeyRef};
use keyhearth_core::secret::SecretName;

use super::usage;

/// What a request does with a key.
pub struct Question<'a> {
    pub operation: Operation,
    /// None, if it is about no key.
    pub key: Option<Cow<'a, KeyRef>>,
    /// As the request or the ciphertext names it.
    pub version: Option<u32>,
    pub context: Cow<'a, [(String, String)]>,
    /// The secret it is about. If it names no key, it is about the one that this is kept under.
    pub secret: Option<&'a SecretName>,
    pub boot: Option<&'a BootFacts>,
    /// For how long the caller will keep what it opens, in seconds.
    pub lease_seconds: u32,
}

impl<'a> Question<'a> {
    /// What it does with the key that it names.
    pub fn of(ask: &'a Ask) -> Self {
        Self {
            operation: ask.operation(),
            key: ask.key().map(Cow::Borrowed),
            version: usage::named_version(ask),
            context: ask.context(),
            secret: ask.secret(),
            boot: ask.boot(),
            lease_seconds: ask.lease_seconds(),
        }
    }

    /// What it does beside: with another key, or with what it opens with the key of `permit`. It needs both permits, each
    /// decided with the context of its own ciphertext.
    pub fn beside(ask: &'a Ask, permit: &Permit) -> Option<Self> {
        match ask {
            _ if ask.lease_seconds() > 0 => Some(Self {
                operation: Operation::Hold,
                key: permit.key().map(|id| Cow::Owned(KeyRef::Id(id))),
                version: None,
                context: ask.context(),
                secret: None,
                boot: None,
                lease_seconds: ask.lease_seconds(),
            }),
            Ask::Rewrap { key, source, .. } => Some(Self {
                operation: Operation::RewrapFrom,
                key: Some(Cow::Borrowed(source.key.as_ref().unwrap_or(key))),
                version: usage::source_version(source),
                context: Cow::Borrowed(&source.context),
                secret: None,
                boot: None,
                lease_seconds: 0,
            }),
            Ask::MoveAlias { alias, .. } => Some(Self {
                operation: Operation::MoveAlias,
                key: Some(Cow::Owned(KeyRef::Alias(alias.clone()))),
                version: None,
                context: Cow::Borrowed(&[]),
                secret: None,
                boot: None,
                lease_seconds: 0,
            }),
            _ => None,
        }
    }

    /// The same about the key of `permit`, whatever its alias leads to by now.
    pub fn again(self, permit: &Permit) -> Self {
        Self { key: permit.key().map(|id| Cow::Owned(KeyRef::Id(id))), ..self }
    }
}

/// The file whose key a lease is of, as the secrets of files are called: what a lost machine held is looked for by it.
pub fn held_file(ask: &Ask) -> Option<String> {
    let context = ask.context();
    let (_, id) = context.iter().find(|(name, _)| ask.lease_seconds() > 0 && name == "file")?;
    let is_id = id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_id.then(|| format!("file/{id}"))
}
