//! Every operation there and back, and garbage.

use std::collections::BTreeSet;

use keyhearth_core::Error;
use keyhearth_core::id::{KeyId, RequestId, TenantId};
use keyhearth_core::key::Usage;
use keyhearth_core::operation::Operation;
use keyhearth_core::request::{Ask, Message, Response};
use keyhearth_core::time::Time;
use keyhearth_core::{entry, tenant};
use keyhearth_crypto::algorithm::{Algorithm, Mechanism};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const FILE: &str = "file/07070707070707070707070707070707";
const ID: &str = "07070707-0707-0707-0707-070707070707";

/// A request of each operation with all its members.
#[expect(clippy::too_many_lines, reason = "a table")]
fn requests() -> Vec<(&'static str, &'static str, Value)> {
    let uses = |also: Value| {
        let mut body = json!({ "mechanism": "aes-gcm" });
        body.as_object_mut().unwrap().extend(also.as_object().unwrap().clone());
        body
    };
    let (none, version, context) = (Value::Null, json!({ "version": 2 }), json!({ "b": "2", "a": "1" }));
    vec![
        (
            "POST",
            "/v1/keys",
            json!({ "algorithm": "aes-256", "usage": ["encrypt", "decrypt"], "exportable": true, "import": false,
                "description": "d", "tags": context, "alias": "a/b", "activation": "2026-11-20T12:00:00Z",
                "cryptoperiod": { "protect_days": 1, "process_days": 2 }, "rotate_days": 90 }),
        ),
        ("GET", "/v1/keys?limit=7&after=AQID", none.clone()),
        ("GET", "/v1/keys/a%2Fb", none.clone()),
        (
            "PATCH",
            "/v1/keys/k",
            json!({ "switches": { "process_when_suspended": true, "process_when_compromised": false },
                "description": "", "tags": {}, "cryptoperiod": {}, "rotate_days": null }),
        ),
        ("POST", "/v1/keys/k/rotate", json!({})),
        ("POST", "/v1/keys/k/activate", version.clone()),
        ("POST", "/v1/keys/k/suspend", version.clone()),
        ("POST", "/v1/keys/k/resume", version.clone()),
        ("POST", "/v1/keys/k/deactivate", version.clone()),
        ("POST", "/v1/keys/k/compromise", version),
        ("POST", "/v1/keys/k/schedule-destroy", json!({ "days": 7 })),
        ("POST", "/v1/keys/k/cancel-destroy", json!({ "suspend": true })),
        ("POST", "/v1/keys/k/destroy", json!({ "version": 1, "confirm": ID })),
        (
            "POST",
            "/v1/keys/k/import-parameters",
            json!({ "mechanism": "rsa-oaep-sha1", "wrapping": "rsa-2048" }),
        ),
        (
            "POST",
            "/v1/keys/k/import",
            json!({ "wrapped": "AQID", "parameters": "AAAAAAAAAAAAAAAAAAAAAA==", "version": 1,
                "for_rotation": true, "expires": "2026-11-20T12:00:00.000Z", "description": "ours" }),
        ),
        ("POST", "/v1/keys/k/unload", json!({ "version": 1 })),
        (
            "POST",
            "/v1/keys/k/export",
            json!({ "version": 1, "mechanism": "rsa-oaep-sha256", "recipient": "AQID" }),
        ),
        ("GET", "/v1/keys/k/public?version=3", none.clone()),
        ("GET", "/v1/keys/k/last-use", none.clone()),
        ("PUT", "/v1/keys/k/aliases/a%2Fb", json!({})),
        ("DELETE", "/v1/keys/k/aliases/b", none.clone()),
        ("GET", "/v1/aliases?key=k", none.clone()),
        ("POST", "/v1/keys/k/aliases/b/move", none.clone()),
        ("POST", "/v1/keys/k/encrypt", uses(json!({ "context": context, "plaintext": "AQID" }))),
        (
            "POST",
            "/v1/keys/k/decrypt",
            uses(json!({ "version": 1, "iv": "AQID", "context": context, "ciphertext": "AQID" })),
        ),
        (
            "POST",
            "/v1/keys/k/rewrap",
            uses(
                json!({ "new_context": {}, "source": "o", "source_mechanism": "kh1", "version": 1, "iv": "AQID",
                "context": context, "ciphertext": "AQID" }),
            ),
        ),
        ("POST", "/v1/keys/k/data-key", json!({ "context": context, "bytes": 64 })),
        ("POST", "/v1/keys/k/data-key-without-plaintext", json!({ "context": context, "bytes": 64 })),
        ("POST", "/v1/keys/k/data-key-pair", json!({ "algorithm": "ec-p256", "context": context })),
        ("POST", "/v1/keys/k/data-key-pair-without-plaintext", json!({ "algorithm": "rsa-3072" })),
        ("POST", "/v1/keys/k/sign", uses(json!({ "message": "AQID" }))),
        ("POST", "/v1/keys/k/verify", uses(json!({ "version": 1, "digest": "AQID", "signature": "AQID" }))),
        ("POST", "/v1/keys/k/mac", uses(json!({ "message": "AQID" }))),
        ("POST", "/v1/keys/k/verify-mac", uses(json!({ "version": 1, "message": "AQID", "mac": "AQID" }))),
        ("POST", "/v1/keys/k/wrap", uses(json!({ "material": "AQID" }))),
        ("POST", "/v1/keys/k/unwrap", uses(json!({ "version": 1, "wrapped": "AQID" }))),
        ("POST", "/v1/keys/k/agree", json!({ "version": 1, "peer": "AQID" })),
        ("POST", "/v1/keys/k/encapsulate", none.clone()),
        ("POST", "/v1/keys/k/decapsulate", json!({ "version": 1, "encapsulated": "AQID" })),
        ("POST", "/v1/keys/k/exchange", json!({ "version": 1, "peer": "AQID" })),
        ("POST", "/v1/keys/k/volume-secret", json!({ "machine": ID, "volume": "root" })),
        ("POST", "/v1/keys/k/recovery-secret", json!({ "machine": ID, "volume": "root" })),
        (
            "POST",
            "/v1/machines",
            json!({ "name": "web-1", "key": "k", "volumes": ["root"],
                "reference": [{ "claim": "measurement", "values": ["00"] }], "clones": 3, "recovery": true }),
        ),
        ("GET", "/v1/machines?limit=10", Value::Null),
        ("GET", "/v1/machines/01990a3e-7c1d-7e52-9f60-3b1f2a6c8d10", Value::Null),
        (
            "PATCH",
            "/v1/machines/01990a3e-7c1d-7e52-9f60-3b1f2a6c8d10",
            json!({ "volumes": [{ "name": "root", "generation": 1, "header": "00".repeat(32) }], "forget_token": true,
                "clones": 4 }),
        ),
        ("GET", "/v1/approvals?limit=10", Value::Null),
        ("POST", "/v1/approvals/01990a3e-7c1d-7e52-9f60-3b1f2a6c8d10", json!({ "approve": true })),
        (
            "POST",
            "/v1/machines/01990a3e-7c1d-7e52-9f60-3b1f2a6c8d10/candidates/01990a3e-7c1d-7e52-9f60-3b1f2a6c8d11",
            json!({ "accept": true }),
        ),
        ("POST", "/v1/random", json!({ "bytes": 32 })),
        (
            "POST",
            "/v1/keys/k/grants",
            json!({ "grantee": ID, "operations": ["encrypt"], "context": context,
                "expires": "2026-11-20T12:00:00.000Z", "delegable": true, "parent": ID }),
        ),
        ("GET", "/v1/keys/k/grants", none.clone()),
        ("DELETE", "/v1/keys/k/grants/07070707-0707-0707-0707-070707070707", none.clone()),
        (
            "POST",
            "/v1/identities",
            json!({ "name": "n", "roles": ["key-user"], "request": "PEM", "days": 1 }),
        ),
        ("GET", "/v1/identities", none.clone()),
        ("GET", "/v1/identities/07070707-0707-0707-0707-070707070707/retirable-grants?limit=1", none.clone()),
        ("POST", "/v1/identities/renew", json!({ "request": "PEM", "days": 1 })),
        ("POST", "/v1/identities/07070707-0707-0707-0707-070707070707/revoke", none.clone()),
        ("PUT", "/v1/identities/07070707-0707-0707-0707-070707070707/roles", json!({ "roles": ["auditor"] })),
        (
            "POST",
            "/v1/identities/07070707-0707-0707-0707-070707070707/certificates",
            json!({ "certificate": "PEM" }),
        ),
        ("POST", "/v1/keys/k/keep-secret", json!({ "name": "restic", "value": "AQID", "replace": true })),
        ("POST", "/v1/keys/@/read-secret", json!({ "name": "restic" })),
        ("POST", "/v1/keys/%40/shred-secret", json!({ "name": FILE })),
        ("GET", "/v1/secrets", none.clone()),
        ("GET", "/v1/whoami", none.clone()),
        ("POST", "/v1/access-keys", json!({ "identity": ID, "id": "ABCDEFGHIJ012345", "secret": "s" })),
        ("GET", "/v1/access-keys", none.clone()),
        ("POST", "/v1/access-keys/ABCDEFGHIJ012345/disable", none.clone()),
        ("PUT", "/v1/policies/p", json!({ "text": "permit(principal, action, resource);" })),
        ("GET", "/v1/policies", none.clone()),
        ("DELETE", "/v1/policies/p", none.clone()),
        ("POST", "/v1/policies/p/diff", json!({ "text": "" })),
        (
            "POST",
            "/v1/policy-test",
            json!({ "identity": ID, "operation": "sign", "key": "k", "context": context }),
        ),
        ("GET", "/v1/keys/k/who-can", none.clone()),
        (
            "PUT",
            "/v1/keys/k/policy",
            json!({ "text": "permit(principal, action, resource);", "closed": true }),
        ),
        ("GET", "/v1/keys/k/policy", none.clone()),
        ("GET", "/v1/audit/entries?from=18446744073709551615&limit=1000", none.clone()),
        ("GET", "/v1/audit/checkpoint", none.clone()),
        ("GET", "/v1/audit/entries/5/proof?size=6", none.clone()),
        ("GET", "/v1/audit/log?path=tile%2F0/000", none.clone()),
        ("POST", "/v1/tenants", json!({ "name": "t", "admin": "a", "request": "PEM" })),
        ("GET", "/v1/tenants", none.clone()),
        ("POST", "/v1/tenants/07070707-0707-0707-0707-070707070707/disable", none.clone()),
        ("POST", "/v1/tenants/07070707-0707-0707-0707-070707070707/enable", none.clone()),
        ("POST", "/v1/tenants/07070707-0707-0707-0707-070707070707/rotate-key", none.clone()),
        ("POST", "/v1/seal/rotate-root", none.clone()),
        ("GET", "/v1/status", none.clone()),
        ("POST", "/v1/seal", none),
        ("POST", "/v1/seal/rekey", json!({ "shares": { "threshold": 3, "count": 5 } })),
    ]
}

fn ask(method: &str, uri: &str, body: &[u8]) -> Result<Ask, Error> {
    let (path, query) = uri.split_once('?').map_or((uri, None), |(path, query)| (path, Some(query)));
    let (operation, params) = route(method, path).unwrap_or_else(|_| panic!("{method} {uri}"));
    let ask = parse(operation, &params, query, body);
    assert!(ask.as_ref().map_or(true, |ask| ask.operation() == operation));
    ask
}

fn bytes(body: &Value) -> Vec<u8> {
    if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap() }
}

#[test]
fn every_operation_is_parsed() {
    let mut seen = BTreeSet::new();
    for (method, uri, body) in requests() {
        let ask = ask(method, uri, &bytes(&body)).unwrap_or_else(|error| panic!("{method} {uri}: {error}"));
        assert!(seen.insert(ask.operation().name()));
    }
    let expected = Operation::ALL.iter().filter(|o| o.is_request() && **o != Operation::Unseal);
    assert_eq!(seen, expected.map(|operation| operation.name()).collect());
}

#[test]
fn every_body_refuses_what_it_does_not_know_and_what_has_the_wrong_type() {
    for (method, uri, body) in requests() {
        let mut more = if body.is_null() { json!({}) } else { body.clone() };
        more["x"] = json!(1);
        assert!(
            matches!(ask(method, uri, &bytes(&more)), Err(Error::Invalid { field: "body", .. })),
            "{uri}"
        );
        assert!(matches!(ask(method, uri, b"[]"), Err(Error::Invalid { field: "body", .. })), "{uri}");
        for name in body.as_object().into_iter().flatten().map(|(name, _)| name) {
            let mut wrong = body.clone();
            wrong[name] = json!([[]]);
            let Err(Error::Invalid { field, .. }) = ask(method, uri, &bytes(&wrong)) else {
                panic!("{uri} {name}")
            };
            assert_eq!(field, name, "{uri}");
            let text = serde_json::to_string(&body).unwrap();
            let twice = format!("{}, \"{name}\": {}}}", &text[..text.len() - 1], body[name]);
            assert!(ask(method, uri, twice.as_bytes()).is_err(), "{uri} {name} twice");
        }
        let unknown = format!("{uri}{}x=1", if uri.contains('?') { '&' } else { '?' });
        assert!(matches!(ask(method, &unknown, &bytes(&body)), Err(Error::Invalid { field: "query", .. })));
    }
}

#[test]
fn what_is_parsed_is_what_was_said() {
    let body = br#"{"mechanism":"aes-gcm","context":{"b":"2","a":"1"},"plaintext":"aGk="}"#;
    let Ok(Ask::Encrypt { mechanism, context, plaintext, .. }) = ask("POST", "/v1/keys/k/encrypt", body)
    else {
        panic!()
    };
    assert_eq!((mechanism, &plaintext[..]), (Some(Mechanism::AesGcm), &b"hi"[..]));
    assert_eq!(context, [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
    let Ok(Ask::Sign { message, .. }) = ask("POST", "/v1/keys/k/sign", br#"{"digest":"aGk="}"#) else {
        panic!()
    };
    assert!(matches!(message, Message::Digest(digest) if digest == b"hi"));
    let Ok(Ask::ListKeys { page }) = ask("GET", "/v1/keys?after=AQID", b"") else { panic!() };
    assert_eq!((page.after, page.limit), (vec![1, 2, 3], PAGE_DEFAULT));
    assert!(matches!(
        ask("POST", "/v1/keys/k/schedule-destroy", b""),
        Ok(Ask::ScheduleDestroy { days: 30, .. })
    ));
    assert!(matches!(ask("GET", "/v1/audit/entries", b""), Ok(Ask::ListEntries { from: 0, .. })));
}

#[test]
fn limits_and_rules_name_their_field() {
    let invalid = |method: &str, uri: &str, body: &str| match ask(method, uri, body.as_bytes()) {
        Err(Error::Invalid { field, .. }) => field,
        other => panic!("{method} {uri} {body}: {other:?}"),
    };
    for limit in ["0", "1001", "+5", "05", "", "x", "99999999999999999999"] {
        assert_eq!(invalid("GET", &format!("/v1/keys?limit={limit}"), ""), "limit");
    }
    assert_eq!(invalid("GET", "/v1/keys?limit=1&limit=1", ""), "limit");
    assert_eq!(invalid("GET", "/v1/keys?after=*", ""), "after");
    assert_eq!(invalid("GET", "/v1/keys/k/public?version=0", ""), "version");
    assert_eq!(invalid("GET", "/v1/audit/log", ""), "path");
    assert_eq!(invalid("GET", "/v1/audit/log?path=..%2F%00", ""), "path");
    assert_eq!(invalid("GET", "/v1/audit/entries/x/proof", ""), "index");
    assert_eq!(invalid("DELETE", "/v1/keys/k/grants/1", ""), "grant");
    assert_eq!(invalid("GET", "/v1/keys/a%20b", ""), "key");
    assert_eq!(invalid("POST", "/v1/keys/k/sign", "{}"), "message");
    assert_eq!(invalid("POST", "/v1/keys/k/sign", r#"{"message":"","digest":""}"#), "message");
    let half = format!(r#"{{"identity":"{ID}","secret":"s"}}"#);
    assert_eq!(invalid("POST", "/v1/access-keys", &half), "secret");
    let long = format!(r#"{{"plaintext":"{}"}}"#, "AAAA".repeat(65_536 / 3 + 1));
    let error = ask("POST", "/v1/keys/k/encrypt", long.as_bytes()).unwrap_err();
    assert_eq!(error, Error::TooLarge { field: "plaintext", limit: 65_536 });
    let fits = format!(r#"{{"plaintext":"{}AA=="}}"#, "AAAA".repeat(65_535 / 3));
    assert!(ask("POST", "/v1/keys/k/encrypt", fits.as_bytes()).is_ok());
}

#[test]
fn answers_are_read_as_they_were_printed() {
    let key = KeyId([7; 16]);
    let secret = || vec![1; 65_536].into();
    let printed = print(Response::Decrypted { key, version: 2, plaintext: secret() });
    assert_eq!(printed.content_type, "application/json");
    assert_eq!(printed.body.capacity(), MEMBERS + 4 * 65_540_usize.div_ceil(3), "one allocation");
    let read: answer::Decrypted = serde_json::from_slice(&printed.body).unwrap();
    assert_eq!((read.key.0, read.version, read.plaintext.into_inner()), (key, 2, secret()));

    let (der, algorithm) = (vec![5; 91], Algorithm::EcP256);
    let usage = Usage::usual(algorithm);
    let printed = print(Response::PublicKey { key, version: 1, algorithm, usage, der: der.clone() });
    let read: answer::PublicKey = serde_json::from_slice(&printed.body).unwrap();
    assert_eq!((*read.algorithm, &read.der[..]), (Algorithm::EcP256, &der[..]));

    let keys = Response::Keys { keys: Vec::new(), next: Some(vec![0xff, 0xfe]) };
    let read: answer::Keys = serde_json::from_slice(&print(keys).body).unwrap();
    assert_eq!(read.next.unwrap().to_string(), "__4");

    let shares = vec![b"khshare1-abc".to_vec().into()];
    let read: answer::Rekeying = serde_json::from_slice(&print(Response::RekeyShares(shares)).body).unwrap();
    assert_eq!(read.shares.unwrap()[0].expose(), "khshare1-abc");

    let row = tenant::Tenant {
        id: TenantId([7; 16]),
        name: "t".parse().unwrap(),
        created: Time::from_unix_ms(1),
        disabled: None,
        tenant_key: 3,
    };
    let body = print(Response::Tenants(vec![row])).body;
    let expected = format!(
        r#"{{"tenants":[{{"id":"{ID}","name":"t","created":"1970-01-01T00:00:00.001Z","disabled":null}}]}}"#
    );
    assert_eq!(String::from_utf8(body).unwrap(), expected);
    assert_eq!(print(Response::Done).body, b"{}");
    assert_eq!(print(Response::LogFile(vec![0, 255])).body, [0, 255]);
}

/// What [`print()`] leaves for members beside the bytes.
const MEMBERS: usize = 256;

#[test]
fn an_entry_is_spelled_out() {
    let entry = entry::Entry {
        time: Time::from_unix_ms(1_795_176_000_000),
        incarnation: 3,
        request: RequestId([7; 16]),
        tenant: TenantId([7; 16]),
        actor: None,
        actor_name: None,
        certificate: Some([0xab; 8]),
        address: Some(vec![127, 0, 0, 1]),
        operation: 255,
        key: Some(KeyId([7; 16])),
        version: Some(1),
        result: entry::Result::Refused,
        error: Some("denied".into()),
        by: vec![],
        context: Some([1; 16]),
        reason: None,
        detail: None,
        access_key: None,
        lease_seconds: None,
    };
    let line: Value = serde_json::from_str(&entry_json(9, &entry)).unwrap();
    assert_eq!(line["time"], "2026-11-20T12:00:00.000Z");
    assert_eq!((&line["index"], &line["operation"]), (&json!(9), &json!("operation-255")));
    assert_eq!((&line["address"], &line["certificate"]), (&json!("127.0.0.1"), &json!("abababababababab")));
    assert_eq!((&line["result"], &line["actor"]), (&json!("refused"), &Value::Null));
    let entries = vec![(9, entry.to_bytes()), (10, b"damaged".to_vec())];
    let printed = print(Response::Entries { first: 9, entries, next: None });
    let read: answer::Entries = serde_json::from_slice(&printed.body).unwrap();
    assert_eq!(&read.entries[0].bytes[..], entry.to_bytes());
    assert!(read.entries[0].entry.is_some() && read.entries[1].entry.is_none());
}

#[test]
fn secrets_do_not_show() {
    let body: body::Encrypt = read(br#"{"plaintext":"aHVudGVyMg=="}"#).unwrap();
    let unseal: body::Unseal = read(br#"{"passphrase":"hunter2"}"#).unwrap();
    let shown = format!("{body:?} {unseal:?}");
    assert!(!shown.contains("hunter") && !shown.contains("104"), "{shown}");
}

proptest! {
    #[test]
    fn garbage_is_refused_without_panic(
        method in "GET|POST|PUT|PATCH|DELETE|[A-Z]{0,4}",
        path in "(/(v1|keys|[a-z%/0-9]{0,6}|%[0-9A-Fa-f]{2}|identities|encrypt))*",
        query in proptest::option::of(".{0,40}"),
        body in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        if let Ok((operation, params)) = route(&method, &path) {
            let _ = parse(operation, &params, query.as_deref(), &body);
        }
    }

    #[test]
    fn damaged_requests_are_refused_without_panic(
        which in 0..requests().len(),
        at in any::<prop::sample::Index>(),
        by in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let (method, uri, body) = requests().swap_remove(which);
        let mut body = bytes(&body);
        if !body.is_empty() {
            let at = at.index(body.len());
            body[at] = by;
            body.truncate(cut.index(body.len()) + 1);
        }
        let _ = ask(method, uri, &body);
    }

    #[test]
    fn base64_has_one_spelling(text in "[A-Za-z0-9+/=]{0,12}") {
        let json = format!(r#"{{"wrapped":"{text}"}}"#);
        if let Ok(body) = read::<body::Import>(json.as_bytes()) {
            prop_assert_eq!(serde_json::to_string(&body.wrapped).unwrap(), format!("\"{text}\""));
        }
    }
}
