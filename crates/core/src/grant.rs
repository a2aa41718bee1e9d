//! Grants: a key's holder passes some of what it holds on to another identity. Only ever narrower.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

use crate::error::Error;
use crate::id::{GrantId, KeyId, PrincipalId};
use crate::operation::{Group, Operation};
use crate::time::{Now, Time};

/// The most grants on one key. Those that have ended give way to new ones.
pub const GRANTS_PER_KEY_MAX: usize = 1_000;

/// The longest name of a grant, in bytes.
pub const GRANT_NAME_BYTES_MAX: usize = 256;

/// The longest chain of grants made from grants.
pub const GRANT_DEPTH_MAX: u8 = 5;

/// The stored record of a grant. Never changed: it is revoked, or it ends.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Grant {
    /// Its id.
    #[n(0)]
    pub id: GrantId,
    /// The key.
    #[n(1)]
    pub key: KeyId,
    /// Who receives.
    #[n(2)]
    pub grantee: PrincipalId,
    /// Who gave.
    #[n(3)]
    pub grantor: PrincipalId,
    /// Codes of the operations, sorted.
    #[n(4)]
    pub operations: Vec<u8>,
    /// Pairs that the context of a request must contain; at most 50, names of 1 to 128 and values of up to 256 characters.
    #[n(5)]
    pub context: BTreeMap<String, String>,
    /// When it ends.
    #[n(6)]
    pub expires: Option<Time>,
    /// Whether the grantee may pass it on.
    #[n(7)]
    pub delegable: bool,
    /// The grant it was made from. It ends when that one ends.
    #[n(8)]
    pub parent: Option<GrantId>,
    /// How many grants it is away from one that was made by right of policy; at most [`GRANT_DEPTH_MAX`].
    #[n(9)]
    pub depth: u8,
    /// When it was made.
    #[n(10)]
    pub created: Time,
    /// Its grantor's name for it: a grant that is asked for again under the same name is made once.
    #[n(11)]
    pub name: Option<String>,
    /// The pairs that the context of a request must be: these and no others.
    #[n(12)]
    pub exact_context: Option<BTreeMap<String, String>>,
    /// Who else may revoke it.
    #[n(13)]
    pub retiree: Option<PrincipalId>,
}

impl Grant {
    /// Whether it covers `operation` with this request context now.
    ///
    /// Operations that only read what is known about the key have no context, and are covered without.
    #[must_use]
    pub fn covers(&self, operation: Operation, context: &[(String, String)], now: Now) -> bool {
        self.operations.contains(&operation.info().code)
            && !self.expires.is_some_and(|end| now.may_have_passed(end))
            && (operation.info().group == Group::Inspect || self.fits(context))
    }

    /// Whether a request may have this context.
    fn fits(&self, context: &[(String, String)]) -> bool {
        let has = |(name, value): (&String, &String)| context.iter().any(|(n, v)| n == name && v == value);
        // No name occurs twice in a context.
        let is = |exact: &BTreeMap<_, _>| exact.len() == context.len() && exact.iter().all(has);
        self.context.iter().all(has) && self.exact_context.as_ref().is_none_or(is)
    }

    /// Whether `self` gives the same to the same as `other`, whatever their ids and times.
    #[must_use]
    pub fn repeats(&self, other: &Self) -> bool {
        let Self { id, created, .. } = other;
        *other == Self { id: *id, created: *created, ..self.clone() }
    }

    /// Checks that `self`, made from `parent`, is not wider in any way.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the first field that is wider.
    pub fn narrows(&self, parent: &Self) -> Result<(), Error> {
        let wider = |field, rule| Err(Error::Invalid { field, rule });
        if !parent.delegable {
            return wider("parent", "this grant may not be passed on");
        }
        if self.depth > GRANT_DEPTH_MAX {
            return wider("parent", "grants made from grants may be 5 deep");
        }
        if !self.operations.iter().all(|code| parent.operations.contains(code)) {
            return wider("operations", "must be among those of the grant it is made from");
        }
        let has = |(name, value)| {
            let own = [Some(&self.context), self.exact_context.as_ref()];
            own.into_iter().flatten().any(|pairs| pairs.get(name) == Some(value))
        };
        if !parent.context.iter().all(has) {
            return wider("context", "must contain all pairs of the grant it is made from");
        }
        if parent.exact_context.is_some() && self.exact_context != parent.exact_context {
            return wider("exact_context", "must be that of the grant it is made from");
        }
        match (self.expires, parent.expires) {
            (_, None) => Ok(()),
            (Some(own), Some(end)) if own <= end => Ok(()),
            (None | Some(_), Some(_)) => {
                wider("expires", "must not be after that of the grant it is made from")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant() -> Grant {
        Grant {
            id: GrantId([1; 16]),
            key: KeyId([2; 16]),
            grantee: PrincipalId([3; 16]),
            grantor: PrincipalId([4; 16]),
            operations: vec![Operation::Encrypt.info().code, Operation::Decrypt.info().code],
            context: [("dept".into(), "hr".into())].into(),
            expires: Some(Time::from_unix_ms(1000)),
            delegable: true,
            parent: None,
            depth: 0,
            created: Time::from_unix_ms(0),
            name: None,
            exact_context: None,
            retiree: None,
        }
    }

    fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn covers_only_what_it_names() {
        let hr = [("dept".to_owned(), "hr".to_owned()), ("x".to_owned(), "y".to_owned())];
        let at = |ms| Now::exactly(Time::from_unix_ms(ms));
        assert!(grant().covers(Operation::Decrypt, &hr, at(999)));
        assert!(!grant().covers(Operation::Decrypt, &hr, at(1000)), "ended");
        assert!(!grant().covers(Operation::Sign, &hr, at(0)), "another operation");
        assert!(!grant().covers(Operation::Decrypt, &hr[1..], at(0)), "context misses a pair");
    }

    #[test]
    fn a_grant_from_a_grant_is_never_wider() {
        let parent = grant();
        assert_eq!(grant().narrows(&parent), Ok(()));
        let mut wider = grant();
        wider.operations.push(Operation::Sign.info().code);
        assert!(wider.narrows(&parent).is_err());
        let mut wider = grant();
        wider.context.clear();
        assert!(wider.narrows(&parent).is_err());
        for expires in [None, Some(Time::from_unix_ms(1001))] {
            let wider = Grant { expires, ..grant() };
            assert!(wider.narrows(&parent).is_err());
        }
        assert!(grant().narrows(&Grant { delegable: false, ..grant() }).is_err());
        assert!(Grant { depth: 6, ..grant() }.narrows(&parent).is_err());
    }

    #[test]
    fn an_exact_context_is_neither_less_nor_more() {
        let exact = Grant { exact_context: Some(pairs(&[("dept", "hr"), ("x", "y")])), ..grant() };
        let context = |text: &[(&str, &str)]| pairs(text).into_iter().collect::<Vec<_>>();
        let covers = |grant: &Grant, operation, text: &[(&str, &str)]| {
            grant.covers(operation, &context(text), Now::exactly(Time::from_unix_ms(0)))
        };
        assert!(covers(&exact, Operation::Decrypt, &[("dept", "hr"), ("x", "y")]));
        for other in
            [&[("dept", "hr")][..], &[("dept", "hr"), ("x", "z")], &[("dept", "hr"), ("x", "y"), ("z", "")]]
        {
            assert!(!covers(&exact, Operation::Decrypt, other), "{other:?}");
        }
        let none = Grant { context: BTreeMap::new(), exact_context: Some(BTreeMap::new()), ..grant() };
        assert!(covers(&none, Operation::Decrypt, &[]) && !covers(&none, Operation::Decrypt, &[("a", "b")]));
        let reads = Grant { operations: vec![Operation::DescribeKey.info().code], ..exact };
        assert!(covers(&reads, Operation::DescribeKey, &[]), "what only reads has no context");
    }

    #[test]
    fn an_exact_context_narrows_what_it_contains() {
        let subset = grant();
        let exact = |text: &[(&str, &str)]| Grant {
            context: BTreeMap::new(),
            exact_context: Some(pairs(text)),
            ..grant()
        };
        let hr = exact(&[("dept", "hr"), ("x", "y")]);
        assert_eq!(hr.narrows(&subset), Ok(()));
        assert!(exact(&[("x", "y")]).narrows(&subset).is_err(), "a pair is missing");
        assert_eq!(hr.narrows(&hr), Ok(()));
        for wider in [grant(), exact(&[("dept", "hr")]), exact(&[])] {
            assert!(matches!(wider.narrows(&hr), Err(Error::Invalid { field: "exact_context", .. })));
        }
    }

    #[test]
    fn a_record_without_the_newer_fields_is_read() {
        let record = minicbor::to_vec(grant()).unwrap();
        assert_eq!(record[0], 0x8b, "11 fields, as before there were others");
        assert_eq!(minicbor::decode::<Grant>(&record).unwrap(), grant());
    }
}
