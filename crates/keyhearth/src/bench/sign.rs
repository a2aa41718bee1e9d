//! Signing requests at the time they are sent, as AWS clients do.

use keyhearth_core::time::Time;
use keyhearth_crypto::digest::sha256;
use keyhearth_proto::aws::sigv4::{self, Message, Scope, SigningKey, Stamp};
use serde::{Deserialize, Serialize};

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

impl AccessKey {
    fn scope(&self) -> Scope<'_> {
        Scope { region: &self.region, service: "kms" }
    }

    /// What signs on a day.
    fn signing_key(&self, day: &str) -> SigningKey {
        SigningKey::derive(self.secret.as_bytes(), day, self.scope())
    }
}

/// How many bytes of a time are its day.
const DAY_BYTES: usize = 8;

/// Signs one request again and again.
pub struct Signer {
    call: Call,
    content_type: String,
    signing_key: SigningKey,
    date_at: usize,
    authorization_at: usize,
    body_at: usize,
}

impl Signer {
    /// Adds to `head` the headers that signing needs, and ends it.
    pub fn new(call: &Call, content_type: &str, head: &mut String) -> Self {
        let never = Stamp(Time::from_unix_ms(0)).to_string();
        let mut signer = Self {
            call: call.clone(),
            content_type: content_type.to_owned(),
            signing_key: call.access_key.signing_key(&never[..DAY_BYTES]),
            date_at: head.len() + "x-amz-date: ".len(),
            authorization_at: 0,
            body_at: 0,
        };
        *head += &format!("x-amz-date: {never}\r\nx-amz-target: {}\r\nauthorization: ", call.target);
        signer.authorization_at = head.len();
        *head += &signer.authorization(&never, b"");
        *head += "\r\n\r\n";
        signer.body_at = head.len();
        signer
    }

    /// Signs, as of `now`, the bytes of a request: the head of [`Signer::new`] and a body.
    pub fn sign(&mut self, request: &mut [u8], now: Time) {
        let date = Stamp(now).to_string();
        let sent = &mut request[self.date_at..][..date.len()];
        if sent[..DAY_BYTES] != date.as_bytes()[..DAY_BYTES] {
            self.signing_key = self.call.access_key.signing_key(&date[..DAY_BYTES]);
        }
        sent.copy_from_slice(date.as_bytes());
        let authorization = self.authorization(&date, &request[self.body_at..]);
        request[self.authorization_at..][..authorization.len()].copy_from_slice(authorization.as_bytes());
    }

    /// The same length every time.
    fn authorization(&self, date: &str, body: &[u8]) -> String {
        let Call { target, access_key } = &self.call;
        let headers = [
            ("content-type", self.content_type.as_bytes()),
            ("host", HOST.as_bytes()),
            ("x-amz-date", date.as_bytes()),
            ("x-amz-target", target.as_bytes()),
        ];
        let message = Message { method: "POST", path: "/", query: "", headers: &headers };
        let signed_by = (&*access_key.id, &self.signing_key);
        sigv4::authorization(&message, &sha256(&[body]), access_key.scope(), signed_by)
            .expect("the date is among the headers")
    }
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
