//! The request headers that mean something to core.

use keyhearth_core::Error;
use keyhearth_core::request::{IDEMPOTENCY_KEY_BYTES_MAX, REASON_BYTES_MAX};

/// Names a creating request, so that repeating it within 24 hours gets the first answer again.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Why, for the log.
pub const REASON: &str = "x-keyhearth-reason";
/// In answers: the request's id, as in the log.
pub const REQUEST_ID: &str = "x-request-id";

/// What the headers of a request say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// 1 to [`IDEMPOTENCY_KEY_BYTES_MAX`] visible ASCII characters.
    pub idempotency_key: Option<String>,
    /// 1 to [`REASON_BYTES_MAX`] bytes of UTF-8 without control characters.
    pub reason: Option<String>,
}

impl Headers {
    /// Checks the values of the headers [`IDEMPOTENCY_KEY`] and [`REASON`].
    ///
    /// # Errors
    /// [`Error::Invalid`] or [`Error::TooLarge`].
    pub fn new(idempotency_key: Option<&[u8]>, reason: Option<&[u8]>) -> Result<Self, Error> {
        let visible = |text: &str| text.bytes().all(|c| c.is_ascii_graphic());
        let printable = |text: &str| !text.chars().any(char::is_control);
        let key_rule = "must be visible ASCII characters";
        let reason_rule = "must be UTF-8 without control characters";
        Ok(Self {
            idempotency_key: idempotency_key
                .map(|value| text(value, "Idempotency-Key", IDEMPOTENCY_KEY_BYTES_MAX, key_rule, visible))
                .transpose()?,
            reason: reason
                .map(|value| text(value, "X-Keyhearth-Reason", REASON_BYTES_MAX, reason_rule, printable))
                .transpose()?,
        })
    }
}

fn text(
    value: &[u8],
    field: &'static str,
    limit: usize,
    rule: &'static str,
    ok: impl Fn(&str) -> bool,
) -> Result<String, Error> {
    if value.len() > limit {
        return Err(Error::TooLarge { field, limit });
    }
    let text = std::str::from_utf8(value).ok().filter(|text| !text.is_empty() && ok(text));
    text.map(str::to_owned).ok_or(Error::Invalid { field, rule })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_bounded_and_visible() {
        let headers = Headers::new(Some(b"a-1"), Some("Prüfung 7".as_bytes())).unwrap();
        assert_eq!(headers.reason.as_deref(), Some("Prüfung 7"));
        assert_eq!(headers.idempotency_key.as_deref(), Some("a-1"));
        assert_eq!(Headers::new(None, None).unwrap(), Headers::default());
        for bad in [&b""[..], b"a b", b"\xc3\xa4", b"a\t", &[b'a'; 129]] {
            assert!(Headers::new(Some(bad), None).is_err());
        }
        for bad in [&b""[..], b"a\nb", b"\xff", "\u{85}".as_bytes(), &[b'a'; 513]] {
            assert!(Headers::new(None, Some(bad)).is_err());
        }
    }
}
