use super::*;
use crate::aws::{Exception, Kind};

fn refused(operation: Operation, body: &str) -> Exception {
    Call::parse(operation, body.as_bytes()).expect_err(body)
}

/// The text of a validation error with the number of errors that it counts.
fn violations(operation: Operation, body: &str) -> String {
    let exception = refused(operation, body);
    assert_eq!(exception.kind, Kind::Validation, "{exception}");
    exception.message.unwrap()
}

/// Source: recorded answers of AWS KMS.
#[test]
fn violations_read_as_aws_words_them() {
    let one = |rest: &str| format!("1 validation error detected: {rest}");
    assert_eq!(
        violations(Operation::GenerateRandom, r#"{"NumberOfBytes":0}"#),
        one(
            "Value '0' at 'numberOfBytes' failed to satisfy constraint: Member must have value greater than or equal to 1"
        )
    );
    assert_eq!(
        violations(Operation::GenerateRandom, r#"{"NumberOfBytes":1025}"#),
        one(
            "Value '1025' at 'numberOfBytes' failed to satisfy constraint: Member must have value less than or equal to 1024"
        )
    );
    let plaintext = "A".repeat(5464);
    assert_eq!(
        violations(Operation::Encrypt, &format!(r#"{{"KeyId":"a","Plaintext":"{plaintext}"}}"#)),
        one(
            "Value at 'plaintext' failed to satisfy constraint: Member must have length less than or equal to 4096"
        )
    );
    assert_eq!(
        violations(Operation::GenerateMac, r#"{"Message":"AA==","KeyId":"a","MacAlgorithm":"INVALID"}"#),
        one(
            "Value 'INVALID' at 'macAlgorithm' failed to satisfy constraint: Member must satisfy enum value set: [HMAC_SHA_384, HMAC_SHA_256, HMAC_SHA_224, HMAC_SHA_512]"
        )
    );
    let key = "a".repeat(129);
    assert_eq!(
        violations(Operation::CreateKey, &format!(r#"{{"Tags":[{{"TagKey":"{key}","TagValue":""}}]}}"#)),
        one(&format!(
            "Value '{key}' at 'tags.1.member.tagKey' failed to satisfy constraint: Member must have length less than or equal to 128"
        ))
    );
}
