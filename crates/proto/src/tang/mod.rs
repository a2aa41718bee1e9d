//! The wire of Tang, which the clients of Clevis speak: three paths, and JOSE in what they carry.
//!
//! A server calls [`route`], [`Point::read`] on a body, then [`Point::reply`] or [`payload`] and [`advertisement`];
//! [`problem`] where it refuses. A machine or a group of them has keys of its own under a [`Name`] that stands before
//! the path; without one the keys are those of [`DEFAULT`].
//!
//! Not here: sockets, and which key answers to a name.
//!
//! Source: <https://github.com/latchset/tang>, README, "Tang Protocol"; what tangd 11 answers.

mod jose;

use keyhearth_core::Error;
use keyhearth_core::id::{Alias, Name, RequestId};

pub use jose::{
    ADVERTISEMENT_TYPE, POINT_TYPE, Point, Thumbprint, Thumbprints, advertisement, payload, signing_input,
};

use crate::rest;

/// The longest body, in bytes. Clevis sends less than 300.
pub const BODY_BYTES_MAX: usize = 4096;

/// The name of the keys that a path without a name means.
pub const DEFAULT: &str = "default";

/// Names that would be read as a part of the path.
const RESERVED: [&str; 2] = ["adv", "rec"];

/// What the alias of every key that Tang reaches begins with.
const PREFIX: &str = "tang/";

/// Whose keys are meant: a machine's, a group's, or [`DEFAULT`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pair(Name);

impl Pair {
    /// The pair of this name.
    ///
    /// # Errors
    /// [`Error::Invalid`] for `adv` and `rec`.
    pub fn new(name: Name) -> Result<Self, Error> {
        if RESERVED.contains(&name.as_str()) {
            return Err(Error::Invalid { field: "name", rule: "must not be `adv` or `rec`" });
        }
        Ok(Self(name))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.0
    }

    /// The alias of the key that exchanges.
    #[must_use]
    pub fn exchange(&self) -> Alias {
        let alias = format!("{PREFIX}{}", self.0);
        alias.parse().expect("the characters of a name are among those of an alias")
    }

    /// The alias of the key that signs what is advertised.
    #[must_use]
    pub fn signing(&self) -> Alias {
        let alias = format!("{PREFIX}{}/sign", self.0);
        alias.parse().expect("the characters of a name are among those of an alias")
    }

    /// The alias of a key that signed what was advertised before; `None` for thumbprints by SHA-1, which only name
    /// keys that are in use.
    #[must_use]
    pub fn signing_before(&self, named: &Thumbprint) -> Option<Alias> {
        let Thumbprint::Sha256(_) = named else { return None };
        let alias = format!("{}/{named}", self.signing());
        Some(alias.parse().expect("the characters of a thumbprint are among those of an alias"))
    }

    /// What stands between the server's URL and `/adv`.
    #[must_use]
    pub fn path(&self) -> String {
        if self.0.as_str() == DEFAULT { String::new() } else { format!("/{}", self.0) }
    }
}

impl Default for Pair {
    fn default() -> Self {
        Self(DEFAULT.parse().expect("six letters are a name"))
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The advertisement; if a thumbprint is given, one that this key signs too.
    Advertisement(Pair, Option<Thumbprint>),
    /// An exchange with the key of this thumbprint.
    Recovery(Pair, Thumbprint),
}

/// Finds what a method and a path ask for. Slashes count once, as with tangd: Clevis adds one to the URL it is given.
///
/// # Errors
/// [`rest::Refused`]; a name or a thumbprint that cannot be one leads nowhere.
pub fn route(method: &str, path: &str) -> Result<Asked, rest::Refused> {
    let mut parts = [""; 4];
    let mut count = 0;
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        *parts.get_mut(count).ok_or(rest::Refused::NotFound)? = segment;
        count += 1;
    }
    let parts = &parts[..count];
    let named = parts.first().is_some_and(|first| !RESERVED.contains(first));
    let (pair, rest) = match parts {
        [first, rest @ ..] if named => (first.parse().ok().map(Pair), rest),
        all => (Some(Pair::default()), all),
    };
    let pair = pair.ok_or(rest::Refused::NotFound)?;
    let read = |text: &str| Thumbprint::read(text).ok_or(rest::Refused::NotFound);
    let (allow, asked) = match rest {
        ["adv"] => ("GET", Asked::Advertisement(pair, None)),
        ["adv", thumbprint] => ("GET", Asked::Advertisement(pair, Some(read(thumbprint)?))),
        ["rec", thumbprint] => ("POST", Asked::Recovery(pair, read(thumbprint)?)),
        _ => return Err(rest::Refused::NotFound),
    };
    if method == allow { Ok(asked) } else { Err(rest::Refused::MethodNotAllowed(allow)) }
}

/// The HTTP status of an error, where tangd has one for it: 400 for a point that is none, 403 for a key that may not
/// do this, 404 for a key that is not there.
#[must_use]
pub const fn status(error: &Error) -> u16 {
    match error {
        Error::Invalid { .. } | Error::NotAuthentic => 400,
        Error::Unauthenticated | Error::Denied | Error::WrongState { .. } | Error::Unsupported(_) => 403,
        Error::NotFound(_) => 404,
        Error::Conflict(_) => 409,
        Error::TooLarge { .. } => 413,
        Error::TooMany { .. } => 429,
        Error::Damaged(_) | Error::Internal(_) => 500,
        Error::Sealed | Error::Unavailable { .. } => 503,
    }
}

/// Status and body of the answer to a request that failed: the text is that of the REST interface.
#[must_use]
pub fn problem(error: &Error, request: RequestId) -> (u16, Vec<u8>) {
    (status(error), rest::problem(error, request).1)
}

/// Status and body of the answer to a request that leads nowhere.
#[must_use]
pub fn not_found(refused: rest::Refused, request: RequestId) -> (u16, Vec<u8>) {
    let next_step =
        "the paths are GET /adv, GET /adv/THUMBPRINT and POST /rec/THUMBPRINT, after a pair's name";
    rest::not_found(refused, request, next_step)
}

#[cfg(test)]
mod tests {
    use super::*;

    const THUMBPRINT: &str = "kEP9KUmpVxUoVI6W7lIiml4jaziea-WDphCy3fnd_3Y";

    fn pair(name: &str) -> Pair {
        Pair::new(name.parse().unwrap()).unwrap()
    }

    #[test]
    fn paths_lead_where_those_of_tangd_do_and_to_named_pairs() {
        let thumbprint = || Thumbprint::read(THUMBPRINT).unwrap();
        for path in ["/adv", "/adv/", "//adv", "/default/adv"] {
            assert_eq!(route("GET", path), Ok(Asked::Advertisement(Pair::default(), None)), "{path}");
        }
        let signed = Asked::Advertisement(pair("db1.example"), Some(thumbprint()));
        assert_eq!(route("GET", &format!("/db1.example/adv/{THUMBPRINT}")), Ok(signed));
        let recovery = Asked::Recovery(Pair::default(), thumbprint());
        assert_eq!(route("POST", &format!("/rec/{THUMBPRINT}")), Ok(recovery));
        let recovery = Asked::Recovery(pair("db1"), thumbprint());
        assert_eq!(route("POST", &format!("/db1//rec/{THUMBPRINT}")), Ok(recovery));
        for path in [
            "",
            "/",
            "/rec",
            "/rec/",
            "/adv/x",
            "/rec/x",
            "/DB1/adv",
            "/a/b/adv",
            "/adv/adv",
            "/rec/adv",
            "/a/adv/b/c",
            "/a/b/c/d/e",
            "/%61dv",
            "/../adv",
            "/db1",
        ] {
            assert_eq!(route("GET", path), Err(rest::Refused::NotFound), "{path}");
        }
        assert_eq!(route("POST", "/adv"), Err(rest::Refused::MethodNotAllowed("GET")));
        assert_eq!(route("GET", &format!("/rec/{THUMBPRINT}")), Err(rest::Refused::MethodNotAllowed("POST")));
    }

    #[test]
    fn a_pair_has_two_aliases_that_no_other_pair_has() {
        let (one, two) = (pair("db1"), Pair::default());
        assert_eq!([one.exchange().as_str(), one.signing().as_str()], ["tang/db1", "tang/db1/sign"]);
        assert_eq!([one.path(), two.path()], ["/db1", ""]);
        let before = one.signing_before(&Thumbprint::read(THUMBPRINT).unwrap()).unwrap();
        assert_eq!(before.as_str(), format!("tang/db1/sign/{THUMBPRINT}"));
        assert_eq!(one.signing_before(&Thumbprint::Sha1([7; 20])), None);
        let longest = pair(&"n".repeat(keyhearth_core::id::NAME_BYTES_MAX));
        assert!(longest.signing_before(&Thumbprint::Sha256([0xff; 32])).is_some());
        assert!(Pair::new("adv".parse().unwrap()).is_err() && Pair::new("rec".parse().unwrap()).is_err());
        assert!("db1/sign".parse::<Name>().is_err(), "so a name is never another's signing key");
    }

    #[test]
    fn refusals_have_the_statuses_that_clevis_knows_from_tangd() {
        use keyhearth_core::{operation::Operation, state::State};
        let suspended = Error::WrongState { state: State::Suspended, operation: Operation::Exchange };
        for (error, expected) in [
            (Error::Invalid { field: "x", rule: "y" }, 400),
            (Error::Denied, 403),
            (suspended, 403),
            (Error::Unsupported("x"), 403),
            (Error::NotFound("key"), 404),
            (Error::TooLarge { field: "body", limit: 1 }, 413),
            (Error::TooMany { retry_after_ms: 1 }, 429),
            (Error::Sealed, 503),
        ] {
            let (status, body) = problem(&error, RequestId([7; 16]));
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!((status, body["code"].as_str()), (expected, Some(error.code())));
            assert!(!body["next_step"].as_str().unwrap().is_empty());
        }
    }
}
