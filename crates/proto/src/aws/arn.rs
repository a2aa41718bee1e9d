//! Key ids and ARNs: in the four forms AWS reads, to core's [`KeyRef`]; and out as AWS prints them.

use keyhearth_core::Error;
use keyhearth_core::id::{Alias, KeyId, Name};
use keyhearth_core::request::KeyRef;
use keyhearth_crypto::digest::sha256;

use super::error::{Exception, Kind};
use super::sigv4::hex;

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
    /// Reads an ARN of the partition `aws`, the one that this deployment has.
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        if parts.next()? != "arn" || parts.next()? != "aws" {
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

    /// What precedes a key's id in its ARN.
    #[must_use]
    pub fn key_arn_prefix(&self) -> String {
        self.arn("key", "")
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
            return name.parse().map(KeyRef::Alias).map_err(|_| no_alias(&self.arn("alias", name)));
        }
        if is_multi_region(id) {
            return Err(no_key(&self.arn("key", id)));
        }
        let invalid = |_| Exception::new(Kind::NotFound, format!("Invalid keyId '{id}'"));
        id.parse().map(KeyRef::Id).map_err(invalid)
    }

    /// What one of our own ARNs names, as it is written without the ARN: `UUID` or `alias/NAME`.
    fn local<'a>(&self, text: &'a str) -> Result<&'a str, Exception> {
        let arn = Arn::parse(text).filter(|arn| arn.service == "kms").ok_or_else(|| invalid_arn(text))?;
        let id = match arn.resource.split_once('/') {
            Some(("alias", _)) => arn.resource,
            Some(("key", id)) if !id.starts_with("alias/") => id,
            _ => return Err(invalid_arn(text)),
        };
        if arn.region != self.region {
            return Err(Exception::new(Kind::NotFound, format!("Invalid arn {}", arn.region)));
        }
        if arn.account != self.account {
            return Err(if id == arn.resource { no_alias(text) } else { no_key(text) });
        }
        Ok(id)
    }

    /// What is said of a key that is not there.
    #[must_use]
    pub fn missing(&self, key: &KeyRef) -> Exception {
        match key {
            KeyRef::Id(id) => no_key(&self.key_arn(*id)),
            KeyRef::Alias(alias) => no_alias(&self.alias_arn(alias)),
        }
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
    /// [`unknown_identity`].
    pub fn identity(&self, text: &str) -> Result<Name, Exception> {
        let arn = Arn::parse(text).filter(|arn| arn.service == "iam" && arn.region.is_empty());
        let own = arn.filter(|arn| arn.account == self.account);
        let name = own.and_then(|arn| match arn.resource.split_once('/')? {
            ("user" | "role", name) => name.parse().ok(),
            _ => None,
        });
        name.ok_or_else(|| unknown_identity(text))
    }
}

/// What is said of the ARN of an identity that is not there.
#[must_use]
pub fn unknown_identity(arn: &str) -> Exception {
    Exception::new(Kind::InvalidArn, format!("ARN does not refer to a valid principal: {arn}"))
}

fn no_key(arn: &str) -> Exception {
    Exception::new(Kind::NotFound, format!("Key '{arn}' does not exist"))
}

fn no_alias(arn: &str) -> Exception {
    Exception::new(Kind::NotFound, format!("Alias {arn} is not found."))
}

fn invalid_arn(text: &str) -> Exception {
    Exception::new(Kind::InvalidArn, format!("Invalid ARN '{text}'"))
}

/// What AWS calls the material of one version of a key: 64 hexadecimal digits.
#[must_use]
pub fn material_id(key: KeyId, version: u32) -> String {
    let digits = hex(&sha256(&[b"keyhearth/aws/key-material", &key.0, &version.to_be_bytes()]));
    digits.iter().copied().map(char::from).collect()
}

/// Whether `id` has the form of a multi-region key's id: `mrk-` and 32 hexadecimal digits.
fn is_multi_region(id: &str) -> bool {
    let digit = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
    id.strip_prefix("mrk-").is_some_and(|id| id.len() == 32 && id.bytes().all(digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    fn place() -> Place {
        Place::new("111122223333", "eu-central-1").unwrap()
    }

    fn refused(text: &str) -> (Kind, String) {
        let exception = place().key(text).unwrap_err();
        (exception.kind, exception.message.unwrap())
    }

    #[test]
    fn a_key_is_named_in_four_ways() {
        let place = place();
        let id = KeyRef::Id(KEY.parse().unwrap());
        let alias = KeyRef::Alias("pay/roll".parse().unwrap());
        assert_eq!(place.key(KEY).unwrap(), id);
        assert_eq!(place.key(&place.key_arn(KEY.parse().unwrap())).unwrap(), id);
        assert_eq!(place.key("alias/pay/roll").unwrap(), alias);
        assert_eq!(place.key("arn:aws:kms:eu-central-1:111122223333:alias/pay/roll").unwrap(), alias);
        assert_eq!(
            place.key_arn(KEY.parse().unwrap()),
            format!("arn:aws:kms:eu-central-1:111122223333:key/{KEY}")
        );
    }

    /// Source: recorded answers of AWS KMS.
    #[test]
    fn what_names_no_key_is_refused_in_aws_words() {
        let not_found = |text: &str| (Kind::NotFound, text.to_owned());
        assert_eq!(refused("fake-key-id"), not_found("Invalid keyId 'fake-key-id'"));
        assert_eq!(
            refused("134f2428cec14b25a1ae9048164dba47"),
            not_found("Invalid keyId '134f2428cec14b25a1ae9048164dba47'")
        );
        assert_eq!(refused("mrk-fake-key-id"), not_found("Invalid keyId 'mrk-fake-key-id'"));
        let related = "mrk-134f2428cec14b25a1ae9048164dba47";
        assert_eq!(
            refused(related),
            not_found(&format!("Key 'arn:aws:kms:eu-central-1:111122223333:key/{related}' does not exist"))
        );
        assert_eq!(
            refused(&format!("arn:aws:kms:us-west-2:111122223333:key/{KEY}")),
            not_found("Invalid arn us-west-2")
        );
        let foreign = format!("arn:aws:kms:eu-central-1:444455556666:key/{KEY}");
        assert_eq!(refused(&foreign), not_found(&format!("Key '{foreign}' does not exist")));
        let foreign = "arn:aws:kms:eu-central-1:444455556666:alias/a";
        assert_eq!(refused(foreign), not_found(&format!("Alias {foreign} is not found.")));
        assert_eq!(
            refused("alias/a b"),
            not_found("Alias arn:aws:kms:eu-central-1:111122223333:alias/a b is not found.")
        );
    }

    #[test]
    fn what_is_no_arn_of_a_key_is_invalid() {
        for text in [
            "arn:",
            "arn:aws:kms:eu-central-1:111122223333",
            &format!("arn:aws:kms:eu-central-1:111122223333:{KEY}"),
            &format!("arn:aws:s3:eu-central-1:111122223333:key/{KEY}"),
            &format!("arn:aws-cn:kms:eu-central-1:111122223333:key/{KEY}"),
            "arn:aws:kms:eu-central-1:111122223333:key/alias/a",
        ] {
            assert_eq!(refused(text).0, Kind::InvalidArn, "{text}");
        }
    }

    #[test]
    fn identities_are_users_or_roles_of_the_account() {
        let place = place();
        let name: Name = "web-1".parse().unwrap();
        assert_eq!(place.identity(&place.identity_arn(&name)).unwrap(), name);
        assert_eq!(place.identity("arn:aws:iam::111122223333:role/web-1").unwrap(), name);
        for text in [
            "web-1",
            "arn:aws:iam::111122223333:root",
            "arn:aws:iam::111122223333:group/web-1",
            "arn:aws:iam::444455556666:user/web-1",
            "arn:aws:iam:eu-central-1:111122223333:user/web-1",
            "arn:aws:iam::111122223333:user/team/web-1",
            "arn:aws:iam::111122223333:user/WEB",
        ] {
            assert_eq!(place.identity(text).unwrap_err(), unknown_identity(text));
        }
    }

    #[test]
    fn an_alias_is_made_under_its_prefix() {
        assert_eq!(place().alias("alias/a").unwrap().as_str(), "a");
        assert_eq!(place().alias("a").unwrap_err().kind, Kind::Validation);
        assert_eq!(place().alias("alias/").unwrap_err().kind, Kind::InvalidAliasName);
    }

    #[test]
    fn account_and_region_are_checked() {
        assert!(Place::new("11112222333", "eu-central-1").is_err());
        assert!(Place::new("11112222333a", "eu-central-1").is_err());
        assert!(Place::new("111122223333", "").is_err());
        assert!(Place::new("111122223333", "eu:central").is_err());
    }
}
