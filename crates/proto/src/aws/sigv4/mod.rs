//! AWS Signature Version 4: who says to have signed a request, for which service and when, and whether it is so.
//!
//! A server calls [`Claim::read`], finds the access key that it names, asks [`Claim::is_timely`] and, with the body,
//! [`Claim::verify`]. A client calls [`authorization`]. The signature lies in the `Authorization` header; signatures
//! in the query, unsigned bodies and chunked signatures are refused.
//! Not here: whose the access key is, whether it is good, and what its session token must be.
//!
//! The texts of refusals are AWS's, because programs and people search for them.
//!
//! Source: AWS Identity and Access Management User Guide, "AWS Signature Version 4 for API requests".

mod canonical;

pub(super) use canonical::hex;

use std::fmt::{self, Display, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyhearth_core::time::{Now, Time};
use keyhearth_crypto::digest::sha256;
use keyhearth_crypto::kdf::MacKey;
use zeroize::Zeroizing;

use crate::time;

/// The only algorithm.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// What ends every credential scope.
const TERMINATOR: &str = "aws4_request";
/// How far the time of a signature may lie from ours, in minutes.
///
/// AWS's guide speaks of 5 minutes for most services and of 15 for Amazon S3; KMS says `- 5 min.` when it refuses.
pub const SKEW_MIN: u64 = 5;
/// The same in milliseconds.
const SKEW_MS: u64 = SKEW_MIN * 60_000;

/// Where a header's name is, in lower case, and its value as it came. Repeated headers are repeated here.
pub type Header<'a> = (&'a str, &'a [u8]);

/// A request without its body. `path` and `query` are as on the wire. `Debug` shows neither the
/// query nor the values of headers: signatures and session tokens may stand in both.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    /// `POST` and so on.
    pub method: &'a str,
    /// Begins with a slash.
    pub path: &'a str,
    /// Without the question mark; empty if there is none.
    pub query: &'a str,
    /// In the order they came.
    pub headers: &'a [Header<'a>],
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| *name).collect();
        let mut shown = f.debug_struct("Message");
        shown.field("method", &self.method).field("path", &self.path).field("headers", &names);
        shown.finish_non_exhaustive()
    }
}

/// What signatures are good for.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// Such as `us-east-1`.
    pub region: &'a str,
    /// Such as `kms`.
    pub service: &'a str,
}

/// Why a request's signature is not accepted. The text is AWS's where AWS has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no signature: `MissingAuthenticationTokenException`.
    Missing,
    /// A part of it is missing or malformed: `IncompleteSignatureException`.
    Incomplete(String),
    /// It is not the right one for this request, here and now: `InvalidSignatureException`.
    Invalid(String),
}

impl Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "Request is missing Authentication Token",
            Self::Incomplete(text) | Self::Invalid(text) => text,
        })
    }
}

/// A key that signs the requests of one day, one region and one service. `Debug` does not show it.
#[derive(Clone, Debug)]
pub struct SigningKey(MacKey);

impl SigningKey {
    /// Derives it from an access key's secret; `date` is `YYYYMMDD`.
    ///
    /// Source: "Create a signed AWS API request", step 4.
    #[must_use]
    pub fn derive(secret: &[u8], date: &str, scope: Scope<'_>) -> Self {
        let secret = Zeroizing::new([b"AWS4", secret].concat());
        let steps = [date, scope.region, scope.service, TERMINATOR];
        let key = steps.iter().fold(MacKey::new(&secret), |key, step| {
            MacKey::new(&*Zeroizing::new(key.sign(&[step.as_bytes()])))
        });
        Self(key)
    }
}

/// What a request says about who signed it, and when. Nothing of it is proved before [`Claim::verify`]. `Debug` shows
/// neither session token nor signature.
#[derive(Clone)]
pub struct Claim<'a> {
    /// The id of the access key.
    pub access_key: &'a str,
    /// The day that the signing key is for, `YYYYMMDD`.
    pub date: &'a str,
    /// What `X-Amz-Security-Token` says.
    pub session_token: Option<&'a [u8]>,
    scope: Scope<'a>,
    /// `YYYYMMDDTHHMMSSZ`, and what it means.
    stamp: &'a str,
    time: Time,
    signed_headers: &'a str,
    signature: &'a str,
}

impl fmt::Debug for Claim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Claim");
        shown.field("access_key", &self.access_key).field("stamp", &self.stamp).finish_non_exhaustive()
    }
}

impl<'a> Claim<'a> {
    /// Reads what the headers say and refuses what no secret could make right: wrong scope, headers left unsigned.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn read(message: &Message<'a>, scope: Scope<'a>) -> Result<Self, Refusal> {
        let Some(header) = one(message, "authorization")? else {
            return Err(match message.query.split('&').any(|pair| pair.starts_with("X-Amz-Signature=")) {
                true => Refusal::Incomplete(
                    "Signatures in the query string are not accepted; sign with the Authorization header."
                        .to_owned(),
                ),
                false => Refusal::Missing,
            });
        };
        let parts = Parts::read(text(header, "Authorization")?)?;
        let stamp = match one(message, "x-amz-date")? {
            Some(stamp) => Some(stamp),
            None => one(message, "date")?,
        };
        let (credential, signed_headers, signature, stamp) = parts.complete(stamp)?;
        let stamp = text(stamp, "Date")?;
        let time = read_stamp(stamp).ok_or_else(|| {
            Refusal::Incomplete(format!(
                "Date must be in ISO-8601 'basic format'. Got '{stamp}'. See http://en.wikipedia.org/wiki/ISO_8601"
            ))
        })?;
        let elements: Vec<&str> = credential.split('/').take(6).collect();
        let [access_key, date, region, service, terminator] = elements[..] else {
            return Err(Refusal::Incomplete(format!(
                "Credential must have exactly 5 slash-delimited elements, e.g. \
                 keyid/date/region/service/term, got '{credential}'"
            )));
        };
        check_scope(scope, (region, service, terminator), (date, stamp))?;
        check_signed_headers(message, signed_headers)?;
        let session_token = one(message, "x-amz-security-token")?;
        Ok(Self { access_key, date, session_token, scope, stamp, time, signed_headers, signature })
    }

    /// Whether the signature may be of now: [`SKEW_MIN`] minutes more or less.
    ///
    /// While the clock is not trusted the present is an interval, and a signature is refused only if it is outside
    /// all of it: the alternative is to refuse everybody until a restart. What the rule keeps out, an old request
    /// sent again by who saw it, TLS keeps out too.
    ///
    /// # Errors
    /// [`Refusal::Invalid`].
    pub fn is_timely(&self, now: Now) -> Result<(), Refusal> {
        let (oldest, newest) =
            (now.earliest.unix_ms().saturating_sub(SKEW_MS), now.latest.plus_ms(SKEW_MS).unix_ms());
        // Stamps have no fractions.
        let second = |ms| ms / 1_000;
        let stamp = self.stamp;
        if second(self.time.unix_ms()) < second(oldest) {
            let (limit, now) = (Stamp(Time::from_unix_ms(oldest)), Stamp(now.earliest));
            return Err(Refusal::Invalid(format!(
                "Signature expired: {stamp} is now earlier than {limit} ({now} - {SKEW_MIN} min.)"
            )));
        }
        if second(self.time.unix_ms()) > second(newest) {
            let (limit, now) = (Stamp(Time::from_unix_ms(newest)), Stamp(now.latest));
            return Err(Refusal::Invalid(format!(
                "Signature not yet current: {stamp} is still later than {limit} ({now} + {SKEW_MIN} min.)"
            )));
        }
        Ok(())
    }

    /// Whether this request, with the body of this SHA-256, was signed with `key`. The signature is compared in
    /// constant time.
    ///
    /// # Errors
    /// [`Refusal::Invalid`].
    pub fn verify(&self, message: &Message<'_>, body: &[u8; 32], key: &SigningKey) -> Result<(), Refusal> {
        let hash = canonical::hex(body);
        if message.headers.iter().any(|(name, value)| *name == "x-amz-content-sha256" && *value != hash) {
            return Err(Refusal::Invalid(
                "The provided 'x-amz-content-sha256' header does not match what was computed.".to_owned(),
            ));
        }
        let mismatch = || {
            Refusal::Invalid(
                "The request signature we calculated does not match the signature you provided. Check your AWS \
                 Secret Access Key and signing method. Consult the service documentation for details."
                    .to_owned(),
            )
        };
        let signature = canonical::unhex(self.signature).ok_or_else(mismatch)?;
        let request = canonical::hash(message, self.signed_headers, &hash);
        let matches = key.0.verify(&to_sign(self.stamp, self.date, self.scope, &request), &signature);
        matches.then_some(()).ok_or_else(mismatch)
    }
}

/// The parts of the string to sign; `request` is the canonical request's hash in hexadecimal.
///
/// Source: "Create a signed AWS API request", step 3.
fn to_sign<'a>(stamp: &'a str, date: &'a str, scope: Scope<'a>, request: &'a [u8; 64]) -> [&'a [u8]; 10] {
    let (region, service) = (scope.region.as_bytes(), scope.service.as_bytes());
    let (stamp, date) = (stamp.as_bytes(), date.as_bytes());
    [b"AWS4-HMAC-SHA256\n", stamp, b"\n", date, b"/", region, b"/", service, b"/aws4_request\n", request]
}

/// The `Authorization` header that signs `message`, all of whose headers are signed, with `x-amz-date` among them.
/// `None` without that.
///
/// `body` is the SHA-256 of the body. `key` must have been derived for the day of `x-amz-date`.
#[must_use]
pub fn authorization(
    message: &Message<'_>,
    body: &[u8; 32],
    scope: Scope<'_>,
    (access_key, key): (&str, &SigningKey),
) -> Option<String> {
    let stamp = std::str::from_utf8(one(message, "x-amz-date").ok()??).ok()?;
    let date = stamp.get(..8)?;
    let mut names: Vec<&str> = message.headers.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    names.dedup();
    let signed_headers = names.join(";");
    let request = canonical::hash(message, &signed_headers, &canonical::hex(body));
    let signature = canonical::hex(&key.0.sign(&to_sign(stamp, date, scope, &request)));
    let Scope { region, service } = scope;
    let signature = std::str::from_utf8(&signature).ok()?;
    Some(format!(
        "{ALGORITHM} Credential={access_key}/{date}/{region}/{service}/{TERMINATOR}, \
         SignedHeaders={signed_headers}, Signature={signature}"
    ))
}

/// The parts of the `Authorization` header that are there.
struct Parts<'a> {
    header: &'a str,
    credential: Option<&'a str>,
    signed_headers: Option<&'a str>,
    signature: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn read(header: &'a str) -> Result<Self, Refusal> {
        let (algorithm, parameters) = header.split_once(' ').unwrap_or((header, ""));
        if algorithm != ALGORITHM {
            return Err(match algorithm.starts_with("AWS4-") {
                true => Refusal::Incomplete(format!("Unsupported AWS 'algorithm': '{algorithm}'.")),
                false => Refusal::Missing,
            });
        }
        let mut parts = Self { header, credential: None, signed_headers: None, signature: None };
        for parameter in parameters.split(',').map(str::trim).filter(|parameter| !parameter.is_empty()) {
            let Some((name, value)) = parameter.split_once('=') else {
                return Err(Refusal::Incomplete(format!(
                    "Invalid key=value pair (missing equal-sign) in Authorization header {}.",
                    hashed(header, ": '", "'")
                )));
            };
            let place = match name {
                "Credential" => &mut parts.credential,
                "SignedHeaders" => &mut parts.signed_headers,
                "Signature" => &mut parts.signature,
                _ => {
                    return Err(Refusal::Incomplete(format!(
                        "Authorization header has no '{name}' parameter."
                    )));
                }
            };
            if place.replace(value).is_some() {
                return Err(Refusal::Incomplete(format!("Authorization header has '{name}' twice.")));
            }
        }
        Ok(parts)
    }

    /// All parts, and the date; the refusal names everything that is missing.
    fn complete(&self, stamp: Option<&'a [u8]>) -> Result<(&'a str, &'a str, &'a str, &'a [u8]), Refusal> {
        let present = |part: Option<&'a str>| part.filter(|part| !part.is_empty());
        let (credential, signed_headers, signature) =
            (present(self.credential), present(self.signed_headers), present(self.signature));
        if let (Some(credential), Some(signed_headers), Some(signature), Some(stamp)) =
            (credential, signed_headers, signature, stamp)
        {
            return Ok((credential, signed_headers, signature, stamp));
        }
        let mut text = String::new();
        let named = [("Credential", credential), ("Signature", signature), ("SignedHeaders", signed_headers)];
        for (name, _) in named.iter().filter(|(_, part)| part.is_none()) {
            let _ = write!(text, "Authorization header requires '{name}' parameter. ");
        }
        if stamp.is_none() {
            text += "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ";
        }
        text += &hashed(self.header, "Authorization=", "");
        Err(Refusal::Incomplete(text))
    }
}

/// The header as refusals name it: hashed, because it may hold what somebody sent by mistake.
fn hashed(header: &str, before: &str, after: &str) -> String {
    let hash = STANDARD.encode(sha256(&[header.as_bytes()]));
    if after.is_empty() {
        format!("(Hashed with SHA-256 and encoded with Base64) {before}{hash}")
    } else {
        format!("(hashed with SHA-256 and encoded with Base64){before}{hash}{after}")
    }
}

/// The value of a header that means one thing.
fn one<'a>(message: &Message<'a>, name: &str) -> Result<Option<&'a [u8]>, Refusal> {
    let mut values = message.headers.iter().filter(|(found, _)| *found == name).map(|(_, value)| *value);
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(Refusal::Incomplete(format!("There is more than one '{name}' header."))),
    }
}

fn text<'a>(value: &'a [u8], name: &str) -> Result<&'a str, Refusal> {
    let text = std::str::from_utf8(value).map(str::trim).ok().filter(|text| text.is_ascii());
    text.ok_or_else(|| Refusal::Incomplete(format!("{name} header must be ASCII.")))
}

/// Everything that is wrong with the scope, in one text.
fn check_scope(
    scope: Scope<'_>,
    (region, service, terminator): (&str, &str, &str),
    (date, stamp): (&str, &str),
) -> Result<(), Refusal> {
    let mut text = String::new();
    if region != scope.region {
        text += "Credential should be scoped to a valid region. ";
    }
    if service != scope.service {
        let _ = write!(text, "Credential should be scoped to correct service: '{}'. ", scope.service);
    }
    if terminator != TERMINATOR {
        let _ = write!(
            text,
            "Credential should be scoped with a valid terminator: '{TERMINATOR}', not '{terminator}'. "
        );
    }
    if stamp.get(..8) != Some(date) {
        let day = stamp.get(..8).unwrap_or_default();
        let _ = write!(
            text,
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: \
             '{date}' != '{day}', from '{stamp}'. "
        );
    }
    if text.is_empty() { Ok(()) } else { Err(Refusal::Invalid(text)) }
}

/// That the list of signed headers is in order, names headers that are there, and all that must be signed.
fn check_signed_headers(message: &Message<'_>, signed_headers: &str) -> Result<(), Refusal> {
    let is_signed = |name: &str| signed_headers.split(';').any(|signed| signed == name);
    if !signed_headers.split(';').is_sorted_by(|before, after| before < after) {
        return Err(Refusal::Incomplete(
            "SignedHeaders must be sorted, and name each header once in lower case.".to_owned(),
        ));
    }
    if let Some(absent) =
        signed_headers.split(';').find(|signed| message.headers.iter().all(|(name, _)| name != signed))
    {
        return Err(Refusal::Incomplete(format!(
            "'{absent}' is named as a SignedHeader, but it does not exist in the HTTP request."
        )));
    }
    if !is_signed("host") {
        return Err(Refusal::Invalid(
            "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.".to_owned(),
        ));
    }
    let unsigned = message.headers.iter().find(|(name, _)| name.starts_with("x-amz-") && !is_signed(name));
    match unsigned {
        None => Ok(()),
        Some((name, _)) => Err(Refusal::Invalid(format!(
            "There were headers present in the request which were not signed: {name}"
        ))),
    }
}

/// Reads `YYYYMMDDTHHMMSSZ`.
///
/// Source: ISO 8601, basic format.
fn read_stamp(stamp: &str) -> Option<Time> {
    let stamp: &[u8; 16] = stamp.as_bytes().try_into().ok()?;
    let mut extended = *b"0000-00-00T00:00:00Z";
    for (from, to, at) in [(0, 4, 0), (4, 6, 5), (6, 11, 8), (11, 13, 14), (13, 16, 17)] {
        extended[at..at + to - from].copy_from_slice(&stamp[from..to]);
    }
    time::read(std::str::from_utf8(&extended).ok()?)
}

/// A time as signatures spell it.
#[derive(Clone, Copy, Debug)]
pub struct Stamp(pub Time);

impl Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut extended = String::with_capacity(24);
        write!(extended, "{}", crate::rest::Is(self.0))?;
        let seconds = extended.split('.').next().unwrap_or_default();
        seconds.chars().filter(char::is_ascii_alphanumeric).try_for_each(|c| f.write_char(c))?;
        f.write_char('Z')
    }
}

#[cfg(test)]
mod tests;
