//! Requests of the AWS KMS API: a byte that picks the operation, then the body.
#![no_main]

use std::sync::LazyLock;

use keyhearth_core::id::PrincipalId;
use keyhearth_proto::aws::{Call, Coverage, Field, Kind, Listing, Operation, Place, coverage};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// More than the longest answer to a refused body: 16 broken limits, each repeating 4,096 characters.
const REFUSAL_BYTES_MAX: usize = 512 * 1024;

static TABLE: LazyLock<Vec<Coverage>> = LazyLock::new(|| coverage().collect());

fuzz_target!(|data: &[u8]| {
    let Some((&choice, body)) = data.split_first() else { return };
    let row = usize::from(choice) % TABLE.len();
    let operation = Operation::ALL[row];
    match Call::parse(operation, body) {
        Ok(call) => {
            assert_eq!(call.operation(), operation);
            // Only numbers that fit nowhere are refused by the other reader.
            if let Ok(read) = serde_json::from_slice::<Value>(body) {
                TABLE[row].input.iter().for_each(|field| check(field, &field.path, Some(&read)));
            }
        }
        Err(exception) => {
            assert!(matches!(exception.kind, Kind::Serialization | Kind::Validation), "{exception}");
            let answer = exception.body();
            assert!(answer.len() < REFUSAL_BYTES_MAX);
            let answer: Value = serde_json::from_slice(&answer).expect("answers are JSON");
            assert_eq!(answer["message"].as_str(), exception.message.as_deref());
        }
    }
    if let Ok(text) = str::from_utf8(body) {
        let place = Place::new("111122223333", "eu-central-1").expect("they are of the right form");
        let _ = (place.key(text), place.alias(text), place.identity(text));
        let listing = Listing { caller: PrincipalId([1; 16]), operation, filter: text };
        let cursor = &body[..body.len().min(512)];
        assert_eq!(
            listing.page(Some(&listing.marker(cursor)), None, 1).map(|page| page.after),
            Ok(cursor.to_vec())
        );
        let _ = listing.page(Some(text), None, 1);
    }
});

/// Whether what was read keeps the limits of the table, seen by another JSON reader.
fn check(field: &Field, path: &str, value: Option<&Value>) {
    let value = value.filter(|value| !value.is_null());
    let Some(whole) = value else { return assert!(!path.is_empty() || !field.required, "{}", field.path) };
    if let Some(rest) = path.strip_prefix("[]") {
        let elements = whole.as_array().expect("a list");
        return elements.iter().for_each(|element| check(field, rest, Some(element)));
    }
    let path = path.trim_start_matches('.');
    if !path.is_empty() {
        let end = path.find(['.', '[']).unwrap_or(path.len());
        return check(field, &path[end..], whole.get(&path[..end]));
    }
    let size = match field.kind {
        "text" => whole.as_str().expect("a text").chars().count(),
        "blob" => {
            let text = whole.as_str().expect("base64");
            text.len() / 4 * 3 - text.bytes().rev().take_while(|&c| c == b'=').count()
        }
        "integer" => whole.as_u64().and_then(|number| number.try_into().ok()).expect("a number"),
        "list" => whole.as_array().expect("a list").len(),
        "enum" => return assert!(field.values.contains(&whole.as_str().expect("a name"))),
        "boolean" => return assert!(whole.is_boolean()),
        "timestamp" => return assert!(whole.is_number()),
        "map" => return assert!(whole.as_object().expect("a map").values().all(Value::is_string)),
        "structure" => return assert!(whole.is_object()),
        other => panic!("the table has no {other}"),
    };
    assert!(field.min.is_none_or(|min| size >= min as usize), "{}", field.path);
    assert!(field.max.is_none_or(|max| size <= max as usize), "{}", field.path);
}
