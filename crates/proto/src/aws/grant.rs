//! How grants are named: what they allow, their ids, and the tokens that lead to them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyhearth_core::id::{GrantId, KeyId};
use keyhearth_core::operation::Operation;

use super::model::GrantOperation;

macro_rules! grant_operations {
    ($($aws:ident $own:ident;)+) => {
        impl GrantOperation {
            /// The operation of core that it is: each is one of its own, so that none gives more than it says.
            /// [`GrantOperation::CreateGrant`] stands for the right to pass the grant on.
            #[must_use]
            pub const fn operation(self) -> Operation {
                match self { $(Self::$aws => Operation::$own,)+ }
            }
        }
    };
}

grant_operations! {
    Decrypt Decrypt;
    Encrypt Encrypt;
    GenerateDataKey DataKey;
    GenerateDataKeyWithoutPlaintext DataKeyWithoutPlaintext;
    ReEncryptFrom RewrapFrom;
    ReEncryptTo Rewrap;
    Sign Sign;
    Verify Verify;
    GetPublicKey PublicKey;
    CreateGrant CreateGrant;
    RetireGrant RevokeGrant;
    DescribeKey DescribeKey;
    GenerateDataKeyPair DataKeyPair;
    GenerateDataKeyPairWithoutPlaintext DataKeyPairWithoutPlaintext;
    GenerateMac Mac;
    VerifyMac VerifyMac;
    DeriveSharedSecret Agree;
    Encapsulate Encapsulate;
    Decapsulate Decapsulate;
}

/// A grant's id: 64 lower-case hexadecimal digits, of the key's id and of its own.
#[must_use]
pub fn grant_id(key: KeyId, grant: GrantId) -> String {
    format!("{key}{grant}").replace('-', "")
}

/// Reads exactly what [`grant_id()`] writes.
#[must_use]
pub fn read_grant_id(text: &str) -> Option<(KeyId, GrantId)> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let uuid = |digits: &str| {
        let [a, b, c, d, e] = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &digits[part]);
        format!("{a}-{b}-{c}-{d}-{e}")
    };
    let (key, grant) = text.split_at(32);
    Some((uuid(key).parse().ok()?, uuid(grant).parse().ok()?))
}

/// What a grant token begins with, so that others' tokens are not taken for ours.
const TOKEN_LABEL: &[u8; 8] = b"kh-grant";

/// The token of a grant. It says which grant it is and gives no authority: a grant holds for its grantee without.
#[must_use]
pub fn grant_token(key: KeyId, grant: GrantId) -> String {
    STANDARD.encode([&TOKEN_LABEL[..], &key.0, &grant.0].concat())
}

/// Reads what [`grant_token()`] writes.
#[must_use]
pub fn read_grant_token(text: &str) -> Option<(KeyId, GrantId)> {
    let bytes = STANDARD.decode(Some(text).filter(|text| text.len() <= 64)?).ok()?;
    let ids = bytes.strip_prefix(TOKEN_LABEL)?;
    let (key, grant) = ids.split_first_chunk()?;
    Some((KeyId(*key), GrantId(grant.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_grant_operation_is_one_that_can_be_granted() {
        let operations: BTreeSet<_> =
            GrantOperation::ALL.iter().map(|one| one.operation().info().code).collect();
        assert_eq!(operations.len(), GrantOperation::ALL.len(), "no two are one");
        for one in GrantOperation::ALL.iter().filter(|one| **one != GrantOperation::CreateGrant) {
            assert!(one.operation().is_grantable(), "{one}");
        }
    }

    #[test]
    fn ids_and_tokens_have_one_spelling() {
        let (key, grant) = (KeyId([0xab; 16]), GrantId([0x1f; 16]));
        let id = grant_id(key, grant);
        assert_eq!(id, "ab".repeat(16) + &"1f".repeat(16));
        assert_eq!(read_grant_id(&id), Some((key, grant)));
        let short = id[1..].to_owned();
        for bad in ["", &short, &id.to_uppercase(), &grant.to_string(), &"ü".repeat(32), &"g".repeat(64)] {
            assert_eq!(read_grant_id(bad), None, "{bad}");
        }
        let token = grant_token(key, grant);
        assert_eq!(read_grant_token(&token), Some((key, grant)));
        let other = STANDARD.encode([1; 40]);
        for bad in ["", "x", &token[4..], &(token.clone() + "AAAA"), &other, &"A".repeat(8192)] {
            assert_eq!(read_grant_token(bad), None, "{bad}");
        }
    }
}
