//! The log entry: who did what to which key, how that was decided, and what came of it.
//!
//! Encoded as a CBOR map with small integer keys in ascending order, definite lengths: equal entries
//! have equal bytes. The index is not in the bytes: it is the entry's place in the log. Values that
//! could give something away (context, request) are there as HMACs under the server's audit key.

use minicbor::{Decode, Encode};

use crate::id::{KeyId, Name, PrincipalId, RequestId, TenantId};
use crate::operation::Operation;
use crate::time::Time;

/// How it was decided and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Result {
    /// Allowed and done.
    #[n(0)]
    Done,
    /// Refused before anything was done.
    #[n(1)]
    Refused,
    /// Allowed, but it failed.
    #[n(2)]
    Failed,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Entry {
    /// When, by the server's clock.
    #[n(0)]
    pub time: Time,
    /// Counts starts of the server; a restored or cloned server goes on with another number.
    #[n(1)]
    pub incarnation: u64,
    /// The request.
    #[n(2)]
    pub request: RequestId,
    /// The caller's tenant.
    #[n(3)]
    pub tenant: TenantId,
    /// The caller; absent if nobody proved to be anyone.
    #[n(4)]
    pub actor: Option<PrincipalId>,
    /// The caller's name at that time.
    #[n(5)]
    pub actor_name: Option<Name>,
    /// The first 8 bytes of the SHA-256 of the certificate that proved it.
    #[cbor(n(6), with = "minicbor::bytes")]
    pub certificate: Option<[u8; 8]>,
    /// The caller's address: 4 or 16 bytes.
    #[cbor(n(7), with = "minicbor::bytes")]
    pub address: Option<Vec<u8>>,
    /// Number of the operation.
    #[n(8)]
    pub operation: u8,
    /// The key.
    #[n(9)]
    pub key: Option<KeyId>,
    /// The key version.
    #[n(10)]
    pub version: Option<u32>,
    /// How it ended.
    #[n(11)]
    pub result: Result,
    /// The error's code, unless done.
    #[n(12)]
    pub error: Option<String>,
    /// Names of the policies, `role:NAME` or `grant:ID`, that decided.
    #[n(13)]
    pub by: Vec<String>,
    /// HMAC of the ciphertext's context, or of the pairs that a new grant demands, 16 bytes; equal contexts of a
    /// tenant have equal values.
    #[cbor(n(14), with = "minicbor::bytes")]
    pub context: Option<[u8; 16]>,
    /// The reason the caller gave.
    #[n(15)]
    pub reason: Option<String>,
    /// What else a reader needs: name of the thing that changed, new state, …
    #[n(16)]
    pub detail: Option<String>,
    /// The id of the access key that proved it, or was said to.
    #[n(17)]
    pub access_key: Option<String>,
    /// For how long the caller said it would keep what it opens and use it without asking, in seconds.
    #[n(18)]
    pub lease_seconds: Option<u32>,
}

impl Entry {
    /// The entry's bytes in the log.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(224);
        minicbor::encode(self, &mut bytes).expect("writing to memory does not fail");
        bytes
    }

    /// Reads an entry's bytes.
    ///
    /// # Errors
    /// [`crate::Error::Damaged`] if they are not an entry.
    pub fn from_bytes(bytes: &[u8]) -> std::result::Result<Self, crate::Error> {
        minicbor::decode(bytes).map_err(|_| crate::Error::Damaged("log entry"))
    }

    /// The operation; `None` if this program is older than the entry.
    #[must_use]
    pub fn operation(&self) -> Option<Operation> {
        Operation::from_code(self.operation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_survives_encoding_and_is_small() {
        let entry = Entry {
            time: Time::from_unix_ms(1_800_000_000_000),
            incarnation: 3,
            request: RequestId([1; 16]),
            tenant: TenantId([2; 16]),
            actor: Some(PrincipalId([3; 16])),
            actor_name: Some("web-1".parse().unwrap()),
            certificate: Some([4; 8]),
            address: Some(vec![127, 0, 0, 1]),
            operation: Operation::Encrypt.info().code,
            key: Some(KeyId([5; 16])),
            version: Some(1),
            result: Result::Done,
            error: None,
            by: vec!["role:key-user".into()],
            context: Some([6; 16]),
            reason: None,
            detail: None,
            access_key: None,
            lease_seconds: None,
        };
        let bytes = entry.to_bytes();
        assert!(bytes.len() < 200, "{}", bytes.len());
        assert_eq!(Entry::from_bytes(&bytes).unwrap(), entry);
        assert!(Entry::from_bytes(&bytes[..bytes.len() - 1]).is_err());
    }
}
