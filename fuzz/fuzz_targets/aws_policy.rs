//! A key policy as AWS writes it is refused, or is a policy that the server accepts.
#![no_main]

use std::sync::LazyLock;

use keyhearth::policy::{Compiled, Fault, PolicyError};
use keyhearth_core::id::{KeyId, PrincipalId, TenantId};
use keyhearth_core::policy::{Policy, THIS_KEY, key_policy_name};
use keyhearth_core::time::Time;
use keyhearth_proto::aws::Place;
use keyhearth_proto::aws::policy::Document;
use libfuzzer_sys::fuzz_target;

const KEY: KeyId = KeyId([5; 16]);

static PLACE: LazyLock<Place> =
    LazyLock::new(|| Place::new("111122223333", "eu-central-1").expect("twelve digits and a region"));

fuzz_target!(|text: &str| {
    let document = match Document::parse(text, &PLACE, Some(&PLACE.key_arn(KEY))) {
        Ok(document) => document,
        Err(malformed) => return assert!(!malformed.to_string().is_empty()),
    };
    let Some(cedar) = document.cedar(|_| PrincipalId([3; 16])) else { return };
    let text = cedar.replace(THIS_KEY, &format!("Keyhearth::Key::\"{KEY}\""));
    let policy = Policy { name: key_policy_name(KEY), text, activated: Time::from_unix_ms(0) };
    match Compiled::new(TenantId([2; 16]), &[policy]) {
        Ok(compiled) => assert!(compiled.own_policy(KEY).is_ok(), "every statement is about the key"),
        Err(PolicyError::TooLong(_) | PolicyError::TooManyStatements) => {}
        Err(PolicyError::Text { fault: Fault::TooDeep | Fault::TooManyOperators, .. }) => {}
        // Cedar warns of texts that mix scripts.
        Err(PolicyError::Text { fault: Fault::Schema(_), .. }) if cedar.contains("\\u{") => {}
        Err(error) => panic!("{error}: {cedar}"),
    }
});
