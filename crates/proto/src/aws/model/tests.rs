use keyhearth_core::time::Time;

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

/// Source: the constraints of AWS's model in the words of its other recorded answers.
#[test]
fn every_broken_limit_is_named() {
    assert_eq!(
        violations(Operation::Encrypt, r#"{"KeyId":"","EncryptionContext":{"b":null,"a":"1"}}"#),
        "3 validation errors detected: \
         Value '' at 'keyId' failed to satisfy constraint: Member must have length greater than or equal to 1; \
         Value '{b=null}' at 'encryptionContext' failed to satisfy constraint: \
         Map value must satisfy constraint: [Member must not be null]; \
         Value null at 'plaintext' failed to satisfy constraint: Member must not be null"
    );
    assert_eq!(
        violations(Operation::DeleteAlias, r#"{"AliasName":"alias/a b"}"#),
        "1 validation error detected: Value 'alias/a b' at 'aliasName' failed to satisfy constraint: \
         Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$"
    );
    assert_eq!(
        violations(Operation::Decrypt, r#"{"CiphertextBlob":""}"#),
        "1 validation error detected: Value 'java.nio.HeapByteBuffer[pos=0 lim=0 cap=0]' at 'ciphertextBlob' \
         failed to satisfy constraint: Member must have length greater than or equal to 1"
    );
    assert_eq!(
        violations(Operation::CreateGrant, r#"{"KeyId":"a","Operations":["Encrypt","Fly",null]}"#)
            .split_once(" set: ")
            .unwrap()
            .0,
        "1 validation error detected: Value '[Encrypt, Fly, null]' at 'operations' failed to satisfy constraint: \
         Member must satisfy constraint: [Member must satisfy enum value"
    );
    let tokens = [r#""t""#; 11].join(",");
    assert_eq!(
        violations(Operation::DescribeKey, &format!(r#"{{"KeyId":"a","GrantTokens":[{tokens}]}}"#)),
        format!(
            "1 validation error detected: Value '[{}]' at 'grantTokens' failed to satisfy constraint: \
             Member must have length less than or equal to 10",
            ["t"; 11].join(", ")
        )
    );
    assert_eq!(
        violations(
            Operation::TagResource,
            r#"{"KeyId":"a","Tags":[{"TagKey":"a","TagValue":""},{"TagValue":""},null]}"#
        ),
        "2 validation errors detected: \
         Value null at 'tags.2.member.tagKey' failed to satisfy constraint: Member must not be null; \
         Value null at 'tags.3.member' failed to satisfy constraint: Member must not be null"
    );
}

#[test]
fn secrets_are_not_repeated() {
    let secret = "s3cr3t";
    let text = violations(
        Operation::CreateCustomKeyStore,
        &format!(r#"{{"CustomKeyStoreName":"n","KeyStorePassword":"{secret}"}}"#),
    );
    assert!(text.contains("Value at 'keyStorePassword'") && !text.contains(secret), "{text}");
    let Ok(call) = Call::parse(Operation::Encrypt, br#"{"KeyId":"a","Plaintext":"c2VjcmV0"}"#) else {
        panic!()
    };
    assert_eq!(format!("{call:?}"), "Encrypt(Encrypt)");
}

#[test]
fn answers_to_hostile_bodies_are_bounded() {
    let tags = vec![r#"{"TagKey":""}"#; 5_000].join(",");
    let text = violations(Operation::CreateKey, &format!(r#"{{"Tags":[{tags}]}}"#));
    assert!(text.starts_with(&format!("{} validation errors", shape::VIOLATIONS_MAX)));
    let long = "ä".repeat(200_000);
    let text = violations(Operation::CreateKey, &format!(r#"{{"Description":"{long}"}}"#));
    assert!(text.len() < 3 * shape::ECHO_CHARS_MAX);
}

#[test]
fn other_json_is_not_read() {
    let nested = format!(r#"{{"X":{}{}}}"#, "[".repeat(16), "]".repeat(16));
    for (body, message) in [
        (r#"{"NumberOfBytes":"1"}"#, "STRING_VALUE can not be converted to an Integer"),
        (r#"{"NumberOfBytes":1.5}"#, "NUMBER_VALUE can not be converted to an Integer"),
        (r#"{"NumberOfBytes":4294967297}"#, "NUMBER_VALUE can not be converted to an Integer"),
        (r#"{"NumberOfBytes":true}"#, "TRUE_VALUE can not be converted to an Integer"),
        (r#"{"NumberOfBytes":[]}"#, "Start of list found where not expected"),
        (r#"{"NumberOfBytes":{}}"#, "Start of structure or map found where not expected"),
        (r#"{"NumberOfBytes":01}"#, "A number begins with 0"),
        (r#"{"NumberOfBytes":-}"#, "A number has no digits"),
        (r#"{"CustomKeyStoreId":1}"#, "NUMBER_VALUE can not be converted to a String"),
        (r#"{"CustomKeyStoreId":"a}"#, "A string does not end"),
        ("{\"CustomKeyStoreId\":\"a\nb\"}", "A string does not end"),
        (r#"{"CustomKeyStoreId":"\x"}"#, "A string has an unknown escape"),
        (r#"{"CustomKeyStoreId":"\ud800"}"#, "A string has an unknown escape"),
        (r#"{"CustomKeyStoreId":"\ud800\u0041"}"#, "A string has an unknown escape"),
        (r#"{"CustomKeyStoreId":"\u00é"}"#, "A string has an unknown escape"),
        (r#"{"Recipient":"r"}"#, "STRING_VALUE can not be converted to a structure"),
        (r#"{"NumberOfBytes":1,"NumberOfBytes":1}"#, "A name stands twice in one structure or map"),
        (r#"{"NumberOfBytes":null,"NumberOfBytes":1}"#, "A name stands twice in one structure or map"),
        (r#"{"X":1,"\u0058":2}"#, "A name stands twice in one structure or map"),
        (r#"{"X":{"a":1,"a":2}}"#, "A name stands twice in one structure or map"),
        (r#"{"NumberOfBytes":1,}"#, "Unexpected token received from parser"),
        (r#"{"NumberOfBytes" 1}"#, "Unexpected token received from parser"),
        (r#"{"X":nil}"#, "Unexpected token received from parser"),
        ("", "Unexpected token received from parser"),
        ("{", "Unexpected token received from parser"),
        ("{}}", "There is more after the body"),
        ("[]", "Start of list found where not expected"),
        (&nested, "The body is nested too deeply"),
    ] {
        let expected = Exception::new(Kind::Serialization, message);
        assert_eq!(refused(Operation::GenerateRandom, body), expected, "{body}");
    }
    let more = [
        (Operation::Decrypt, r#"{"CiphertextBlob":"a"}"#),
        (Operation::Decrypt, r#"{"CiphertextBlob":"YQ"}"#),
        (Operation::Decrypt, r#"{"CiphertextBlob":"YR=="}"#),
        (Operation::Decrypt, r#"{"CiphertextBlob":"_w=="}"#),
        (Operation::Decrypt, r#"{"EncryptionContext":{"a":"1","\u0061":"1"}}"#),
        (Operation::Decrypt, r#"{"EncryptionContext":{"a":1}}"#),
        (Operation::Decrypt, r#"{"EncryptionContext":[]}"#),
        (Operation::Decrypt, r#"{"DryRun":"true"}"#),
        (Operation::CreateKey, r#"{"Tags":{}}"#),
        (Operation::ImportKeyMaterial, r#"{"ValidTo":"2030-01-01T00:00:00Z"}"#),
    ];
    for (operation, body) in more {
        assert_eq!(refused(operation, body).kind, Kind::Serialization, "{body}");
    }
    assert_eq!(Call::parse(Operation::ListKeys, b"{\"X\":\"\xff\"}").unwrap_err().kind, Kind::Serialization);
}

#[test]
fn what_is_well_formed_is_read() {
    let body = br#" { "Plaintext" : "aGk\u003d" , "KeyId":"alias\/\ud83d\ude00","New":{"a":[1,{"b":null}]},
        "EncryptionContext":{"b":"2","a":"\"1\""},"GrantTokens":null,"DryRun":false} "#;
    let Ok(Call::Encrypt(input)) = Call::parse(Operation::Encrypt, body) else { panic!() };
    assert_eq!(input.key_id, "alias/😀");
    assert_eq!(**input.plaintext, b"hi"[..]);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(input.encryption_context.unwrap(), [pair("a", "\"1\""), pair("b", "2")]);
    assert_eq!((input.grant_tokens, input.dry_run), (None, Some(false)));

    for (number, ms) in [
        ("1.7E9", 1_700_000_000_000),
        ("0.0015", 2),
        ("-5", 0),
        ("1e400", Time::MAX.unix_ms()),
        ("12", 12_000),
    ] {
        let body = format!(
            r#"{{"KeyId":"a","ImportToken":"AA==","EncryptedKeyMaterial":"AA==","ValidTo":{number}}}"#
        );
        let Ok(Call::ImportKeyMaterial(input)) = Call::parse(Operation::ImportKeyMaterial, body.as_bytes())
        else {
            panic!("{body}")
        };
        assert_eq!(input.valid_to, Some(Time::from_unix_ms(ms)), "{number}");
    }
}

#[test]
fn answers_are_written_as_aws_writes_them() {
    let encrypted = output::Encrypt {
        ciphertext_blob: vec![0xff; 4].into(),
        key_id: "a\"\\\n\u{1}é".into(),
        encryption_algorithm: EncryptionAlgorithm::SYMMETRIC_DEFAULT,
    };
    assert_eq!(
        String::from_utf8_lossy(&encrypted.body()),
        r#"{"CiphertextBlob":"/////w==","KeyId":"a\"\\\n\u0001é","EncryptionAlgorithm":"SYMMETRIC_DEFAULT"}"#
    );
    let tags = output::ListResourceTags {
        tags: vec![Tag { tag_key: "a".into(), tag_value: String::new() }],
        next_marker: None,
        truncated: false,
    };
    assert_eq!(
        String::from_utf8_lossy(&tags.body()),
        r#"{"Tags":[{"TagKey":"a","TagValue":""}],"Truncated":false}"#
    );
    let scheduled = output::ScheduleKeyDeletion {
        key_id: "a".into(),
        deletion_date: Time::from_unix_ms(1_700_000_000_007),
        key_state: KeyState::PendingDeletion,
        pending_window_in_days: 7,
    };
    assert_eq!(
        String::from_utf8_lossy(&scheduled.body()),
        r#"{"KeyId":"a","DeletionDate":1700000000.007,"KeyState":"PendingDeletion","PendingWindowInDays":7}"#
    );
    assert_eq!(**output::DeleteCustomKeyStore {}.body(), b"{}"[..]);
    let nothing: output::EnableKey = ();
    assert!(nothing.body().is_empty());
}

#[test]
fn a_long_answer_is_written_whole() {
    let policy = "é\"".repeat(60_000);
    let answer = output::GetKeyPolicy { policy: policy.clone(), policy_name: "default".into() }.body();
    let read: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(read["Policy"], policy);
}

#[test]
fn targets_name_operations() {
    for &operation in Operation::ALL {
        let target = format!("TrentService.{}", operation.name());
        assert_eq!(Operation::from_target(&target), Ok(operation));
    }
    for target in
        ["", "Encrypt", "TrentService.", "TrentService.encrypt", "trentservice.Encrypt", "TrentService.Fly"]
    {
        let unknown = Exception::silent(Kind::UnknownOperation);
        assert_eq!(Operation::from_target(target), Err(unknown), "{target}");
    }
}

/// Wherever AWS counts something as required, a request without it is refused; nothing else is needed.
#[test]
fn an_empty_request_lacks_what_is_required() {
    assert_eq!(coverage().count(), 56);
    for (row, &operation) in coverage().zip(Operation::ALL) {
        let required = row.input.iter().filter(|field| field.required && !field.path.contains(['.', '[']));
        match Call::parse(operation, b"{}") {
            Ok(call) => assert_eq!((call.operation(), required.count()), (operation, 0)),
            Err(exception) => {
                let lacks = |field: &Field| {
                    let (first, rest) = field.path.split_at(1);
                    format!("Value null at '{}{rest}'", first.to_lowercase())
                };
                let text = exception.message.unwrap();
                assert_eq!(text.matches("Value null").count(), required.clone().count(), "{text}");
                required.for_each(|field| assert!(text.contains(&lacks(field)), "{text}"));
            }
        }
    }
}

#[test]
fn names_are_spelled_as_aws_spells_them() {
    let names: Vec<_> = coverage().flat_map(|row| row.output).map(|field| field.path).collect();
    for name in
        ["KeyMetadata.AWSAccountId", "KeyMetadata.XksKeyConfiguration.Id", "KeyLastUsage.CloudTrailEventId"]
    {
        assert!(names.iter().any(|path| path == name), "{name}");
    }
}
