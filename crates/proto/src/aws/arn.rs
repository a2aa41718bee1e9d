//! Key ids and ARNs: in the five forms AWS reads, to core's [`KeyRef`]; and out as AWS prints them.

use keyhearth_core::Error;
use keyhearth_core::id::{Alias, KeyId, Name};
use keyhearth_core::request::KeyRef;

use super::error::{Exception, Kind};

/// The account and the region that this deployment speaks for; they stand in every ARN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    account: String,
    region: String,
}

/// The longest region, in bytes.
pub const REGION_BYTES_MAX: usize = 32;

/// The parts of `arn:aws:SERVICE:REGION:ACCOUNT:RESOURCE`.
struct Arn<'a> {
    service: &'a str,
    region: &'a str,
    account: &'a str,
    resource: &'a str,
}

impl<'a> Arn<'a> {
    /// Reads an ARN of any AWS partition.
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        if parts.next()? != "arn" || !parts.next()?.starts_with("aws") {
            return None;
        }
        Some(Self {
            service: parts.next()?,
            region: parts.next()?,
            account: parts.next()?,
            resource: parts.next()?,
        })
    }
}

impl Place {
    /// Takes an account of 12 digits and a region such as `eu-central-1`: 1 to [`REGION_BYTES_MAX`] of
    /// `a-z 0-9 -`.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the field.
    pub fn new(account: &str, region: &str) -> Result<Self, Error> {
        if account.len() != 12 || !account.bytes().all(|c| c.is_ascii_digit()) {
            return Err(Error::Invalid { field: "account", rule: "must be 12 digits" });
        }
        let ok = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        if !(1..=REGION_BYTES_MAX).contains(&region.len()) || !region.bytes().all(ok) {
            return Err(Error::Invalid { field: "region", rule: "must be 1 to 32 of a-z 0-9 -" });
        }
        Ok(Self { account: account.to_owned(), region: region.to_owned() })
    }

    /// The account.
    #[must_use]
    pub fn account(&self) -> &str {
        &self.account
    }

    /// The region.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The ARN of a key.
    #[must_use]
    pub fn key_arn(&self, key: KeyId) -> String {
        self.arn("key", key)
    }

    /// The ARN of an alias.
    #[must_use]
    pub fn alias_arn(&self, alias: &Alias) -> String {
        self.arn("alias", alias)
    }

    fn arn(&self, kind: &str, id: impl std::fmt::Display) -> String {
        format!("arn:aws:kms:{}:{}:{kind}/{id}", self.region, self.account)
    }

    /// The ARN of an identity.
    #[must_use]
    pub fn identity_arn(&self, name: &Name) -> String {
        format!("arn:aws:iam::{}:user/{name}", self.account)
    }

    /// The ARN of the account itself, which key policies name to admit its identities' own policies.
    #[must_use]
    pub fn root_arn(&self) -> String {
        format!("arn:aws:iam::{}:root", self.account)
    }

    /// Reads a key id as requests carry it: `UUID`, `alias/NAME`, the ARN of either, or a multi-region
    /// `mrk-…`, of which there are none here.
    ///
    /// # Errors
    /// [`Kind::NotFound`] or [`Kind::InvalidArn`] in AWS's words. Whether the key exists is not looked up.
    pub fn key(&self, text: &str) -> Result<KeyRef, Exception> {
        let id = if text.starts_with("arn:") { self.local(text)? } else { text };
        if let Some(name) = id.strip_prefix("alias/") {
            let alias = name.parse().map(KeyRef::Alias);
            return alias.map_err(|_| self.no_alias(name));
        }
        let id = if text.starts_with("arn:") {
            id.strip_prefix("key/").ok_or_else(|| invalid_arn(text))?
        } else {
            text
        };
        if is_multi_region(id) {
            return Err(Exception::new(
                Kind::NotFound,
                format!("Key '{}' does not exist", self.arn("key", id)),
            ));
        }
        let key = id.parse().map(KeyRef::Id);
        key.map_err(|_| Exception::new(Kind::NotFound, format!("Invalid keyId '{id}'")))
    }

    /// The resource of one of our own KMS ARNs.
    fn local<'a>(&self, text: &'a str) -> Result<&'a str, Exception> {
        let arn = Arn::parse(text).filter(|arn| arn.service == "kms").ok_or_else(|| invalid_arn(text))?;
        if arn.region != self.region {
            return Err(Exception::new(Kind::NotFound, format!("Invalid arn {}", arn.region)));
        }
        if arn.account != self.account {
            return Err(match arn.resource.strip_prefix("alias/") {
                Some(_) => Exception::new(Kind::NotFound, format!("Alias {text} is not found.")),
                None => Exception::new(Kind::NotFound, format!("Key '{text}' does not exist")),
            });
        }
        Ok(arn.resource)
    }

    /// What is said of a key that is not there.
    #[must_use]
    pub fn missing(&self, key: &KeyRef) -> Exception {
        match key {
            KeyRef::Id(id) => {
                Exception::new(Kind::NotFound, format!("Key '{}' does not exist", self.key_arn(*id)))
            }
            KeyRef::Alias(alias) => self.no_alias(alias.as_str()),
        }
    }

    fn no_alias(&self, name: &str) -> Exception {
        Exception::new(Kind::NotFound, format!("Alias {} is not found.", self.arn("alias", name)))
    }

    /// Reads `alias/NAME` where an alias is made, moved or deleted.
    ///
    /// # Errors
    /// [`Kind::Validation`] without the prefix; [`Kind::InvalidAliasName`] for what no alias can be called.
    pub fn alias(&self, text: &str) -> Result<Alias, Exception> {
        let name = text.strip_prefix("alias/").ok_or_else(|| {
            Exception::new(
                Kind::Validation,
                "Alias must start with the prefix \"alias/\". Please see \
                 https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html",
            )
        })?;
        let invalid = || Exception::new(Kind::InvalidAliasName, format!("Invalid alias name '{text}'"));
        name.parse().map_err(|_| invalid())
    }

    /// Reads the ARN of an identity of this account: `user/NAME`, or `role/NAME` for the same.
    ///
    /// # Errors
    /// [`Kind::InvalidArn`].
    pub fn identity(&self, text: &str) -> Result<Name, Exception> {
        let arn = Arn::parse(text).filter(|arn| arn.service == "iam" && arn.region.is_empty());
        let own = arn.filter(|arn| arn.account == self.account);
        let name = own.and_then(|arn| {
            let (kind, name) = arn.resource.split_once('/')?;
            matches!(kind, "user" | "role").then(|| name.parse().ok())?
        });
        name.ok_or_else(|| invalid_arn(text))
    }
}

fn invalid_arn(text: &str) -> Exception {
    Exception::new(Kind::InvalidArn, format!("Invalid ARN '{text}'"))
}

/// Whether `id` has the form of a multi-region key's id: `mrk-` and 32 hexadecimal digits.
fn is_multi_region(id: &str) -> bool {
    let digit = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
    id.strip_prefix("mrk-").is_some_and(|id| id.len() == 32 && id.bytes().all(digit))
}
