//! Signing requests as AWS clients do, in place: a measurement must not wait for its own client.
//!
//! Source: AWS Identity and Access Management User Guide, "Create a signed AWS API request".

use keyhearth_core::time::Time;
use keyhearth_crypto::digest::sha256;
use keyhearth_crypto::kdf::MacKey;
use keyhearth_proto::rest::Is;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::request::{Call, HOST};

/// Who signs, and for which region.
#[derive(Clone, Serialize, Deserialize)]
pub struct AccessKey {
    /// Its id.
    pub id: String,
    /// Its secret, which lives as long as the measured server.
    pub secret: String,
    /// The region of the server.
    pub region: String,
}

impl std::fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessKey")
            .field("id", &self.id)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SIGNED_HEADERS: &str = "content-type;host;x-amz-date;x-amz-target";
/// Stands for the time of a request.
const NEVER: &[u8; 16] = b"19700101T000000Z";
/// How many bytes of a time are its day.
const DAY_BYTES: usize = 8;

impl AccessKey {
    /// What signs on a day.
    fn signing_key(&self, day: &[u8]) -> MacKey {
        let secret = Zeroizing::new(format!("AWS4{}", self.secret));
        [day, self.region.as_bytes(), b"kms", b"aws4_request"]
            .iter()
            .fold(MacKey::new(secret.as_bytes()), |key, part| MacKey::new(&key.sign(&[part])))
    }
}

/// Signs one request again and again.
pub struct Signer {
    access_key: AccessKey,
    signing_key: MacKey,
    /// The canonical request up to its time, and from there up to the hash of the body.
    canonical: [String; 2],
    date_at: usize,
    day_at: usize,
    signature_at: usize,
    body_at: usize,
}

impl Signer {
    /// Adds to `head` the headers that signing needs, and ends it.
    pub fn new(call: &Call, content_type: &str, head: &mut String) -> Self {
        let Call { target, access_key } = call;
        let never = String::from_utf8_lossy(NEVER);
        *head += "x-amz-date: ";
        let date_at = head.len();
        *head += &format!(
            "{never}\r\nx-amz-target: {target}\r\nauthorization: {ALGORITHM} Credential={}/",
            access_key.id
        );
        let day_at = head.len();
        *head += &format!(
            "{}/{}/kms/aws4_request, SignedHeaders={SIGNED_HEADERS}, Signature=",
            &never[..DAY_BYTES],
            access_key.region
        );
        let signature_at = head.len();
        *head += &format!("{:064}\r\n\r\n", 0);
        Self {
            access_key: access_key.clone(),
            signing_key: access_key.signing_key(&NEVER[..DAY_BYTES]),
            canonical: [
                format!("POST\n/\n\ncontent-type:{content_type}\nhost:{HOST}\nx-amz-date:"),
                format!("\nx-amz-target:{target}\n\n{SIGNED_HEADERS}\n"),
            ],
            date_at,
            day_at,
            signature_at,
            body_at: head.len(),
        }
    }

    /// Signs, as of `now`, the bytes of a request: the head of [`Signer::new`] and a body.
    pub fn sign(&mut self, request: &mut [u8], now: Time) {
        let date = basic(now);
        let day = &date[..DAY_BYTES];
        if request[self.day_at..][..DAY_BYTES] != *day {
            self.signing_key = self.access_key.signing_key(day);
            request[self.day_at..][..DAY_BYTES].copy_from_slice(day);
        }
        request[self.date_at..][..date.len()].copy_from_slice(&date);
        let [before, after] = &self.canonical;
        let body = hex(sha256(&[&request[self.body_at..]]));
        let canonical = hex(sha256(&[before.as_bytes(), &date, after.as_bytes(), &body]));
        let signature = hex(self.signing_key.sign(&[
            ALGORITHM.as_bytes(),
            b"\n",
            &date,
            b"\n",
            day,
            b"/",
            self.access_key.region.as_bytes(),
            b"/kms/aws4_request\n",
            &canonical,
        ]));
        request[self.signature_at..][..signature.len()].copy_from_slice(&signature);
    }
}

/// A time as `19700101T000000Z`.
///
/// Source: ISO 8601, basic format.
fn basic(time: Time) -> [u8; NEVER.len()] {
    let extended = Is(time).to_string();
    let mut basic = *NEVER;
    let digits = extended.bytes().filter(u8::is_ascii_digit);
    for (place, digit) in basic.iter_mut().filter(|c| c.is_ascii_digit()).zip(digits) {
        *place = digit;
    }
    basic
}

/// Lower-case hexadecimal.
fn hex(hash: [u8; 32]) -> [u8; 64] {
    let digit = |half: u8| b"0123456789abcdef"[usize::from(half)];
    let mut text = [0; 64];
    for (pair, byte) in text.chunks_exact_mut(2).zip(hash) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::bench::request::{Outgoing, Request};

    const FIRST: &str = "POST / HTTP/1.1\r\n\
        host: localhost\r\n\
        content-type: application/x-amz-json-1.1\r\n\
        content-length: 2\r\n\
        x-amz-date: 20261120T120000Z\r\n\
        x-amz-target: TrentService.ListKeys\r\n\
        authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20261120/us-east-1/kms/aws4_request, \
        SignedHeaders=content-type;host;x-amz-date;x-amz-target, \
        Signature=983dd1d4863e51b92e9572ad572bb526204887bd7d41977b28bef5d2c1a1dfbb\r\n\
        \r\n\
        {}";

    pub fn access_key() -> AccessKey {
        AccessKey {
            id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
            region: "us-east-1".to_owned(),
        }
    }

    /// The signature is botocore's of the same request.
    #[test]
    fn requests_are_signed_as_clients_sign_them() {
        let mut outgoing = Outgoing::new(&Request::aws("ListKeys", "{}", &access_key()));
        let mut sent =
            |ms| String::from_utf8(outgoing.number(0, Time::from_unix_ms(ms)).to_vec()).expect("it is text");
        assert_eq!(sent(1_795_176_000_000), FIRST);
        assert!(sent(1_795_276_000_000).contains("EXAMPLE/20261121/us-east-1"), "another day");
        assert_eq!(sent(1_795_176_000_999), FIRST);
    }
}
