//! Reading a body into its structure, and telling which member breaks which rule.

use keyhearth_core::Error;

use super::BODY_BYTES_MAX;
use super::body::Body;
use super::spelling::{Object, RULES};

/// Reads a body; an empty one is an empty object.
///
/// A secret in it is decoded straight into memory that is wiped; only one that is written with JSON escapes
/// passes through a buffer of the JSON reader that is not. Its depth is bounded by the structure, its size by [`BODY_BYTES_MAX`].
///
/// # Errors
/// [`Error::TooLarge`], or [`Error::Invalid`] with the name of the outermost member that is wrong.
pub fn read<T: Body>(body: &[u8]) -> Result<T, Error> {
    if body.len() > BODY_BYTES_MAX {
        return Err(Error::TooLarge { field: "body", limit: BODY_BYTES_MAX });
    }
    let body = if body.is_empty() { b"{}" } else { body };
    match serde_json::from_slice::<Object<T>>(body) {
        Ok(Object(value)) => Ok(value),
        Err(error) => Err(refusal::<T>(body, &error)),
    }
}

/// Serde's words for what is wrong, and ours.
const SHAPES: [(&str, &str); 6] = [
    ("unknown field", "has a member that this operation does not know"),
    ("unknown variant", "has a member that this operation does not know"),
    ("missing field", "is required"),
    ("duplicate field", "is given twice"),
    ("invalid type", "has the wrong type"),
    ("invalid value", "has the wrong type"),
];

/// Puts serde's error in our terms. Only the place and the kind are taken from it: its text may repeat
/// what the caller sent.
fn refusal<T: Body>(body: &[u8], error: &serde_json::Error) -> Error {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(&*text, |(text, _)| text);
    let shape = SHAPES.iter().find(|(words, _)| text.starts_with(words));
    let rule = match shape {
        Some((_, rule)) => rule,
        None if error.is_data() => {
            RULES.iter().find(|rule| **rule == text).copied().unwrap_or("is not valid")
        }
        None => return Error::Invalid { field: "body", rule: "must be one JSON object" },
    };
    let named = || text.split('`').nth(1).map(str::as_bytes);
    let name = match shape {
        Some(("missing field" | "duplicate field", _)) => named(),
        Some(("unknown field" | "unknown variant", _)) => None,
        Some(_) | None => member_at(body, offset(body, error)),
    };
    let member = T::MEMBERS.iter().find(|member| Some(member.as_bytes()) == name);
    Error::Invalid { field: member.copied().unwrap_or("body"), rule }
}

/// How many bytes were read before `error`.
fn offset(body: &[u8], error: &serde_json::Error) -> usize {
    let before: usize =
        body.split_inclusive(|&c| c == b'\n').take(error.line().saturating_sub(1)).map(<[u8]>::len).sum();
    before + error.column()
}

/// The name of the outermost object's member that is being read after `end` bytes.
fn member_at(body: &[u8], end: usize) -> Option<&[u8]> {
    let (mut depth, mut name, mut opened, mut escaped, mut is_name) = (0_u32, None, None, false, false);
    for (at, &c) in body.iter().enumerate().take(end) {
        match (opened, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), b'\\') => escaped = true,
            (Some(from), b'"') => {
                if is_name {
                    name = body.get(from + 1..at);
                    is_name = false;
                }
                opened = None;
            }
            (Some(_), _) => {}
            (None, b'"') => opened = Some(at),
            (None, b'{' | b'[') => {
                depth += 1;
                is_name = depth == 1;
            }
            (None, b'}' | b']') => depth = depth.saturating_sub(1),
            (None, b',') => is_name = depth == 1,
            (None, _) => {}
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::super::body::{Decrypt, Encrypt, KeyChange, NewKey, Nothing, Rekey};
    use super::*;

    fn refused<T: Body + std::fmt::Debug>(body: &str) -> (&'static str, &'static str) {
        match read::<T>(body.as_bytes()) {
            Err(Error::Invalid { field, rule }) => (field, rule),
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn every_refusal_names_member_and_rule() {
        let base64 = "must be standard base64 with padding";
        for (body, expected) in [
            ("{}", ("plaintext", "is required")),
            ("", ("plaintext", "is required")),
            ("[]", ("body", "has the wrong type")),
            ("[null,null,\"\"]", ("body", "has the wrong type")),
            ("null", ("body", "has the wrong type")),
            ("{", ("body", "must be one JSON object")),
            ("{\"plaintext\":\"\"} x", ("body", "must be one JSON object")),
            ("{\"plaintext\":\"\",\"x\":1}", ("body", "has a member that this operation does not know")),
            ("{\"plaintext\":\"\",\"plaintext\":\"\"}", ("plaintext", "is given twice")),
            ("{\"plaintext\":7}", ("plaintext", "has the wrong type")),
            ("{\"plaintext\":null}", ("plaintext", "has the wrong type")),
            ("{\n \"plaintext\" :\n \"YQ\"}", ("plaintext", base64)),
            ("{\"plaintext\":\"YQ==\\n\"}", ("plaintext", base64)),
            ("{\"plaintext\":\"YR==\"}", ("plaintext", base64)),
            ("{\"plaintext\":\"-_==\"}", ("plaintext", base64)),
            ("{\"mechanism\":\"KH1\",\"plaintext\":\"\"}", ("mechanism", "must be the name of a mechanism")),
            ("{\"context\":{\"a\":\"1\",\"a\":\"2\"},\"plaintext\":\"\"}", ("context", "has a name twice")),
            ("{\"context\":{\"a\":1},\"plaintext\":\"\"}", ("context", "has the wrong type")),
            ("{\"context\":{\"\":\"1\"},\"plaintext\":\"\"}", ("context", "has too many or too long pairs")),
            ("{\"plaintext\":\"\\u0061\\u0062\"}", ("plaintext", base64)),
        ] {
            assert_eq!(refused::<Encrypt>(body), expected, "{body}");
        }
        assert_eq!(refused::<Decrypt>("{\"version\":0}"), ("version", "is out of range"));
        assert_eq!(refused::<Decrypt>("{\"version\":-1}"), ("version", "has the wrong type"));
        assert_eq!(refused::<NewKey>("{\"algorithm\":\"aes-256\",\"cryptoperiod\":[1,2]}").0, "cryptoperiod");
        let twice = "{\"switches\":{\"process_when_suspended\":true,\"process_when_suspended\":true}}";
        assert_eq!(refused::<KeyChange>(twice).1, "is given twice");
        assert_eq!(refused::<Rekey>("{\"cancel\":[]}").0, "cancel");
        assert_eq!(refused::<Rekey>("{\"cancel\":{},\"prove\":\"x\"}").0, "body");
        assert_eq!(refused::<Nothing>("{\"a\":{\"a\":{}}}").0, "body");
    }

    #[test]
    fn what_is_deep_or_large_is_refused() {
        let deep = "{\"context\":".repeat(20_000);
        assert_eq!(refused::<Encrypt>(&deep).0, "context");
        let long = vec![b' '; BODY_BYTES_MAX + 1];
        assert_eq!(
            read::<Nothing>(&long).unwrap_err(),
            Error::TooLarge { field: "body", limit: BODY_BYTES_MAX }
        );
    }

    #[test]
    fn null_ends_rotation_and_absence_leaves_it() {
        assert!(read::<KeyChange>(b"{}").unwrap().rotate_days.is_none());
        assert_eq!(read::<KeyChange>(b"{\"rotate_days\":null}").unwrap().rotate_days, Some(None));
        let text = serde_json::to_string(&read::<KeyChange>(b"{}").unwrap()).unwrap();
        assert!(!text.contains("rotate_days"));
    }
}
