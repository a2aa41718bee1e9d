//! Query parameters: which operation takes which, and reading them.

use std::borrow::Cow;

use keyhearth_core::Error;
use keyhearth_core::operation::Operation;
use keyhearth_core::request::{KeyRef, PAGE_MAX, Page};
use serde_json::{Value, json};

use super::route::decode;
use super::spelling::{Cursor, Spelling};

/// How many items a page has unless the caller says otherwise.
pub const PAGE_DEFAULT: usize = 100;
/// The longest path of a file of the log.
pub const LOG_PATH_BYTES_MAX: usize = 256;

/// One query parameter.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    pub(super) required: bool,
    pub(super) schema: fn() -> Value,
}

const fn optional(name: &'static str, description: &'static str, schema: fn() -> Value) -> Parameter {
    Parameter { name, description, required: false, schema }
}

const LIMIT: Parameter = optional(
    "limit",
    "At most so many items.",
    || json!({ "type": "integer", "minimum": 1, "maximum": PAGE_MAX, "default": PAGE_DEFAULT }),
);
const AFTER: Parameter = optional("after", "The `next` of the page before.", Cursor::schema);
const PAGE: &[Parameter] = &[AFTER, LIMIT];

/// The operations that take query parameters; no other takes any.
const TAKEN: &[(Operation, &[Parameter])] = &[
    (Operation::ListKeys, PAGE),
    (
        Operation::ListAliases,
        &[optional("key", "Only the aliases of this key: its id or an alias.", KeyRef::schema), AFTER, LIMIT],
    ),
    (Operation::ListGrants, PAGE),
    (Operation::ListRetirableGrants, PAGE),
    (Operation::ListSecrets, PAGE),
    (Operation::ListMachines, PAGE),
    (Operation::ListApprovals, PAGE),
    (Operation::ListIdentities, PAGE),
    (Operation::ListAccessKeys, PAGE),
    (
        Operation::PublicKey,
        &[optional(
            "version",
            "Number of the version; the primary one if absent.",
            || json!({ "type": "integer", "minimum": 1, "maximum": u32::MAX }),
        )],
    ),
    (
        Operation::ListEntries,
        &[optional("from", "Index of the first entry; 0 if absent.", u64::schema), LIMIT],
    ),
    (
        Operation::ProveEntry,
        &[optional(
            "size",
            "Size of the tree to prove it in; the newest checkpoint's if absent.",
            u64::schema,
        )],
    ),
    (
        Operation::ExportLog,
        &[Parameter {
            name: "path",
            description: "The file's path as C2SP tlog-tiles has it, such as `checkpoint` or `tile/0/000`.",
            required: true,
            schema: || {
                json!({ "type": "string", "minLength": 1, "maxLength": LOG_PATH_BYTES_MAX,
                    "pattern": "^[a-z0-9./]+$" })
            },
        }],
    ),
];

/// The parameters of `operation`.
pub(super) fn parameters(operation: Operation) -> &'static [Parameter] {
    TAKEN.iter().find(|(taker, _)| *taker == operation).map_or(&[], |(_, parameters)| parameters)
}

/// A query, every name known and given once. `+` stands for itself.
pub(super) struct Query<'q>(Vec<(&'static str, Cow<'q, str>)>);

impl<'q> Query<'q> {
    pub(super) fn new(text: Option<&'q str>, operation: Operation) -> Result<Self, Error> {
        let invalid = |field, rule| Error::Invalid { field, rule };
        let mut pairs: Vec<(&'static str, Cow<'q, str>)> = Vec::new();
        for pair in text.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let known = parameters(operation).iter().find(|parameter| parameter.name == name);
            let name =
                known.ok_or(invalid("query", "has a parameter that this operation does not know"))?.name;
            if pairs.iter().any(|(taken, _)| *taken == name) {
                return Err(invalid(name, "is given twice"));
            }
            pairs.push((name, decode(value).ok_or(invalid(name, "must be percent-encoded UTF-8"))?));
        }
        Ok(Self(pairs))
    }

    pub(super) fn read<T: Spelling>(&self, field: &'static str) -> Result<Option<T>, Error> {
        let text = self.0.iter().find(|(name, _)| *name == field).map(|(_, text)| text);
        text.map(|text| T::read(text).ok_or(Error::Invalid { field, rule: T::RULE })).transpose()
    }

    pub(super) fn limit(&self) -> Result<usize, Error> {
        let limit =
            self.read::<u64>("limit")?.map_or(Some(PAGE_DEFAULT), |limit| usize::try_from(limit).ok());
        limit
            .filter(|limit| (1..=PAGE_MAX).contains(limit))
            .ok_or(Error::Invalid { field: "limit", rule: "must be 1 to 1000" })
    }

    pub(super) fn page(&self) -> Result<Page, Error> {
        let after = self.read::<Cursor>("after")?.unwrap_or_default();
        Ok(Page { after: after.0, limit: self.limit()? })
    }

    pub(super) fn version(&self) -> Result<Option<u32>, Error> {
        let number = |version| u32::try_from(version).ok().filter(|&version| version > 0);
        self.read::<u64>("version")?
            .map(|version| {
                number(version).ok_or(Error::Invalid { field: "version", rule: "is out of range" })
            })
            .transpose()
    }

    pub(super) fn log_path(&self) -> Result<String, Error> {
        let text = self.0.iter().find(|(name, _)| *name == "path").map(|(_, text)| text);
        let ok = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'.' | b'/');
        text.filter(|text| (1..=LOG_PATH_BYTES_MAX).contains(&text.len()) && text.bytes().all(ok))
            .map(|text| text.to_string())
            .ok_or(Error::Invalid { field: "path", rule: "must be 1 to 256 of a-z 0-9 . /" })
    }
}
