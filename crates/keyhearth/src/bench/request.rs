//! A request of a measurement, and its bytes, which differ a little each time they are sent.

use keyhearth_core::time::Time;
use serde::{Deserialize, Serialize};

use super::sign::{AccessKey, Signer};

/// Stands in a request for 16 hexadecimal digits that no other request of any run has.
pub const SEQUENCE: &str = "@@sequence-hex@@";

/// The host that requests name. Whoever they are sent to answers for it.
pub(super) const HOST: &str = "localhost";

/// A request that is sent over and over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// HTTP method.
    pub method: String,
    /// HTTP path. [`SEQUENCE`] in it is unique to each request, unless requests are signed.
    pub path: String,
    /// What the body is.
    pub content_type: String,
    /// The body. [`SEQUENCE`] in it is unique to each request.
    pub body: String,
    /// The AWS operation that is called, and what signs each request at the time it is sent.
    pub aws: Option<Call>,
}

/// What an AWS request has beside.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Call {
    /// `TrentService.` and the operation's name.
    pub target: String,
    /// Who calls.
    pub access_key: AccessKey,
}

impl Request {
    /// A request of the REST API.
    pub fn rest(method: &str, path: &str, body: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            content_type: "application/json".to_owned(),
            body: body.to_owned(),
            aws: None,
        }
    }

    /// A call of the AWS KMS API.
    pub fn aws(operation: &str, body: &str, access_key: &AccessKey) -> Self {
        let target = format!("TrentService.{operation}");
        Self {
            content_type: "application/x-amz-json-1.1".to_owned(),
            aws: Some(Call { target, access_key: access_key.clone() }),
            ..Self::rest("POST", "/", body)
        }
    }
}

/// A request's bytes.
pub struct Outgoing {
    bytes: Vec<u8>,
    marks: Vec<usize>,
    signer: Option<Signer>,
}

impl Outgoing {
    /// Everything of `request` that stays.
    pub fn new(request: &Request) -> Self {
        let Request { method, path, content_type, body, aws } = request;
        let mut text = format!(
            "{method} {path} HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: {content_type}\r\n\
             content-length: {}\r\n",
            body.len()
        );
        let signer = aws.as_ref().map(|call| Signer::new(call, content_type, &mut text));
        if signer.is_none() {
            text += "\r\n";
        }
        text += body;
        let marks = text.match_indices(SEQUENCE).map(|(at, _)| at).collect();
        Self { bytes: text.into_bytes(), marks, signer }
    }

    /// What is sent as number `sequence`, at `now`.
    pub fn number(&mut self, sequence: u64, now: Time) -> &[u8] {
        if !self.marks.is_empty() {
            let sequence = format!("{sequence:016x}");
            for &at in &self.marks {
                self.bytes[at..at + SEQUENCE.len()].copy_from_slice(sequence.as_bytes());
            }
        }
        if let Some(signer) = &mut self.signer {
            signer.sign(&mut self.bytes, now);
        }
        &self.bytes
    }
}
