//! Signed requests: `METHOD PATH[?QUERY]`, lines `name: value`, an empty line, the body.
//!
//! Read as they are; and, where another implementation can sign them, signed by it and verified by ours.
#![no_main]

use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use keyhearth_core::time::{Now, Time};
use keyhearth_crypto::digest::sha256;
use keyhearth_proto::aws::sigv4::{Claim, Header, Message, Refusal, Scope, SigningKey, authorization};
use libfuzzer_sys::fuzz_target;

const HERE: Scope<'static> = Scope { region: "us-east-1", service: "kms" };
/// 2026-11-20T12:00:00Z
const NOW: Time = Time::from_unix_ms(1_795_176_000_000);
const DAY: &str = "20261120";
const ID: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

fuzz_target!(|data: &[u8]| {
    let end = data.windows(2).position(|two| two == b"\n\n").unwrap_or(data.len());
    let (head, body) = (&data[..end], data.get(end + 2..).unwrap_or_default());
    let mut lines = head.split(|byte| *byte == b'\n');
    let Some((method, target)) =
        lines.next().and_then(|line| std::str::from_utf8(line).ok()).and_then(|line| line.split_once(' '))
    else {
        return;
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers: Vec<Header<'_>> = lines
        .filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            Some((std::str::from_utf8(&line[..colon]).ok()?, line.get(colon + 2..)?))
        })
        .collect();
    let message = Message { method, path, query, headers: &headers };
    let key = SigningKey::derive(SECRET.as_bytes(), DAY, HERE);
    if let Ok(claim) = Claim::read(&message, HERE) {
        let _ = claim.is_timely(Now::exactly(NOW));
        let _ = claim.verify(&message, &sha256(&[body]), &key);
    }
    let _ = authorization(&message, &sha256(&[body]), HERE, (ID, &key));
    if let Some(more) = signed_elsewhere(&message, body) {
        agree(&message, &more, body, &key);
    }
});

/// The headers that AWS's own crate adds; `None` for what it does not sign, or what HTTP cannot carry.
fn signed_elsewhere(message: &Message<'_>, body: &[u8]) -> Option<Vec<(String, String)>> {
    let token = |text: &str| {
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        !text.is_empty() && text.bytes().all(plain)
    };
    // What signing adds, what stands in the URL, and what must not lie outside of the signature.
    let kept = |name: &str| {
        !matches!(name, "authorization" | "date" | "host" | "x-amz-content-sha256" | "x-amz-date")
            && name != "x-amz-security-token"
    };
    let visible = |value: &[u8]| value.iter().all(|c| matches!(c, b' '..=b'~'));
    let headers: Option<Vec<(&str, &str)>> = message
        .headers
        .iter()
        .map(|(name, value)| {
            let good = token(name) && kept(name) && visible(value);
            std::str::from_utf8(value).ok().filter(|_| good).map(|value| (*name, value))
        })
        .collect();
    let method_is_good = !message.method.is_empty() && message.method.bytes().all(|c| c.is_ascii_uppercase());
    // A parameter that is not UTF-8 is signed as something else by the crate.
    let query_is_text =
        !message.query.as_bytes().windows(2).any(|two| two[0] == b'%' && !matches!(two[1], b'0'..=b'7'));
    if !method_is_good || !query_is_text || !message.path.starts_with('/') {
        return None;
    }
    let separator = if message.query.is_empty() { "" } else { "?" };
    let url = format!("https://localhost{}{separator}{}", message.path, message.query);
    let uri: http::Uri = url.parse().ok()?;
    if (uri.path(), uri.query().unwrap_or_default()) != (message.path, message.query) {
        return None;
    }
    let identity = Credentials::new(ID, SECRET, Some("token".to_owned()), None, "fuzz").into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region(HERE.region)
        .name(HERE.service)
        .time(UNIX_EPOCH + Duration::from_millis(NOW.unix_ms()))
        .settings(SigningSettings::default())
        .build()
        .ok()?;
    let request = SignableRequest::new(message.method, url, headers?.into_iter(), SignableBody::Bytes(body));
    let (added, _) = sign(request.ok()?, &params.into()).ok()?.into_parts();
    Some(added.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// Ours accepts what the other one signed, and nothing that differs from it.
fn agree(message: &Message<'_>, more: &[(String, String)], body: &[u8], key: &SigningKey) {
    let host = ("host", &b"localhost"[..]);
    let more = more.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let headers: Vec<Header<'_>> = message.headers.iter().copied().chain([host]).chain(more).collect();
    let message = Message { headers: &headers, ..*message };
    let claim = Claim::read(&message, HERE).unwrap_or_else(|refusal| panic!("{refusal} {headers:?}"));
    assert_eq!((claim.access_key, claim.date, claim.session_token), (ID, DAY, Some(&b"token"[..])));
    assert_eq!(claim.is_timely(Now::exactly(NOW)), Ok(()));
    let hash = sha256(&[body]);
    assert_eq!(claim.verify(&message, &hash, key), Ok(()), "{message:?}");
    let refused = |changed: Message<'_>, hash: &[u8; 32], key: &SigningKey| {
        assert!(matches!(claim.verify(&changed, hash, key), Err(Refusal::Invalid(_))));
    };
    refused(Message { method: "other", ..message }, &hash, key);
    refused(message, &sha256(&[body, b" "]), key);
    refused(message, &hash, &SigningKey::derive(b"another", DAY, HERE));
    let longer = format!("{}/x", message.path);
    refused(Message { path: &longer, ..message }, &hash, key);
}
