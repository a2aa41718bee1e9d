//! From what a request gave to the answer's bytes.

use keyhearth_core::entry;
use keyhearth_core::request::Response;
use serde::Serialize;

use super::answer::*;
use super::spelling::{Cursor, Is};

/// The body of an answer with status 200.
#[derive(Debug)]
pub struct Printed {
    /// Its media type.
    pub content_type: &'static str,
    /// Its bytes. They may hold secrets.
    pub body: Vec<u8>,
}

/// The media type of everything but files of the log.
pub(super) const JSON: &str = "application/json";
/// The media type of files of the log.
pub(super) const FILE: &str = "application/octet-stream";

/// Room for the members of an answer beside its bytes.
const MEMBERS_BYTES: usize = 256;

/// Writes JSON into one allocation of `bytes` in base64 and [`MEMBERS_BYTES`], so that no copy of a secret is
/// left behind by growing; lists grow.
pub(super) fn json(bytes: usize, value: &impl Serialize) -> Vec<u8> {
    let mut body = Vec::with_capacity(MEMBERS_BYTES + bytes.div_ceil(3) * 4);
    serde_json::to_writer(&mut body, value).expect("our types have text for names, and memory does not fail");
    body
}

/// Prints a response; every one has status 200.
#[must_use]
pub fn print(response: Response) -> Printed {
    match response {
        Response::LogFile(body) => Printed { content_type: FILE, body },
        other => Printed { content_type: JSON, body: print_json(other) },
    }
}

/// Prints what uses of keys give, and hands on the rest.
fn print_json(response: Response) -> Vec<u8> {
    use Response as R;
    match response {
        R::Encrypted { key, version, iv, ciphertext } => {
            let bytes = iv.len() + ciphertext.len() + 4;
            json(bytes, &Encrypted { key: Is(key), version, iv: iv.into(), ciphertext: ciphertext.into() })
        }
        R::Decrypted { key, version, plaintext } => {
            json(plaintext.len(), &Decrypted { key: Is(key), version, plaintext: plaintext.into() })
        }
        R::DataKey { key, version, plaintext, ciphertext } => {
            let bytes = plaintext.as_ref().map_or(0, |bytes| bytes.len()) + ciphertext.len() + 4;
            let plaintext = plaintext.map(Into::into);
            json(bytes, &DataKey { key: Is(key), version, plaintext, ciphertext: ciphertext.into() })
        }
        R::Signature { key, version, mechanism, signature } => {
            let (bytes, mechanism) = (signature.len(), Is(mechanism));
            json(bytes, &Signature { key: Is(key), version, mechanism, signature: signature.into() })
        }
        R::Verified { key, version, valid } => json(0, &Verified { key: Is(key), version, valid }),
        R::Mac { key, version, mechanism, mac } => {
            json(mac.len(), &Mac { key: Is(key), version, mechanism: Is(mechanism), mac: mac.into() })
        }
        R::Wrapped { key, version, wrapped } => {
            json(wrapped.len(), &Wrapped { key: Is(key), version, wrapped: wrapped.into() })
        }
        R::Unwrapped { key, version, material } => {
            json(material.len(), &Unwrapped { key: Is(key), version, material: material.into() })
        }
        R::Shared { key, version, secret } => {
            json(secret.len(), &Shared { key: Is(key), version, secret: secret.into() })
        }
        R::Encapsulated { key, version, secret, encapsulated } => {
            let bytes = secret.len() + encapsulated.len() + 4;
            let (secret, encapsulated) = (secret.into(), encapsulated.into());
            json(bytes, &Encapsulated { key: Is(key), version, secret, encapsulated })
        }
        R::Random(bytes) => json(bytes.len(), &Random { bytes: bytes.into() }),
        R::AccessKey { id, secret, identity } => {
            json(id.len() + secret.len(), &NewAccessKey { id, secret: secret.into(), identity: Is(identity) })
        }
        R::RekeyShares(shares) => {
            let bytes = shares.iter().map(|share| share.len() + 4).sum();
            let shares = Some(shares.into_iter().map(Into::into).collect());
            json(bytes, &Rekey { shares, proved: 0, needed: 0, done: false })
        }
        other => print_records(other),
    }
}

fn next(cursor: Option<Vec<u8>>) -> Option<Is<Cursor>> {
    cursor.map(|cursor| Is(Cursor(cursor)))
}

/// Prints what is known about keys, identities, policies, the log and the server.
fn print_records(response: Response) -> Vec<u8> {
    use Response as R;
    match response {
        R::Key(key) => json(1024, &Key::from(&*key)),
        R::Keys { keys, next: after } => json(1024, &Keys { keys: list(&keys), next: next(after) }),
        R::Aliases { aliases, next: after } => {
            let of = |(alias, key)| AliasOf { alias: Is(alias), key: Is(key) };
            json(1024, &Aliases { aliases: aliases.into_iter().map(of).collect(), next: next(after) })
        }
        R::ImportParameters { public, mechanism, expires } => json(
            public.len(),
            &ImportParameters { public: public.into(), mechanism: Is(mechanism), expires: Is(expires) },
        ),
        R::Exported { version, wrapped } => {
            json(wrapped.len(), &Exported { version, wrapped: wrapped.into() })
        }
        R::PublicKey { key, version, algorithm, der } => {
            let (bytes, algorithm) = (der.len(), Is(algorithm));
            json(bytes, &PublicKey { key: Is(key), version, algorithm, der: der.into() })
        }
        R::Grant(grant) => json(1024, &Grant::from(&*grant)),
        R::Grants(grants) => json(1024, &Grants { grants: list(&grants) }),
        R::Identity { principal, certificate, ca } => {
            json(4096, &IssuedIdentity { identity: Identity::from(&*principal), certificate, ca })
        }
        R::Principal(principal) => json(1024, &Identity::from(&*principal)),
        R::Identities { principals, next: after } => {
            json(1024, &Identities { identities: list(&principals), next: next(after) })
        }
        R::WhoAmI(caller) => json(1024, &WhoAmI::from(&*caller)),
        R::AccessKeys { keys, next: after } => {
            json(1024, &AccessKeys { access_keys: list(&keys), next: next(after) })
        }
        R::Policies(policies) => json(1024, &Policies { policies: list(&policies) }),
        R::PolicyDiff(differences) => json(1024, &PolicyDiff { differences: list(&differences) }),
        R::PolicyTest { allowed, by } => json(0, &PolicyTest { allowed, by }),
        R::WhoCan(abilities) => json(1024, &WhoCan { abilities: list(&abilities) }),
        R::Entries { first, entries, next } => {
            let entries: Vec<LoggedEntry> = entries.into_iter().map(Into::into).collect();
            json(1024 * entries.len(), &Entries { first, entries, next })
        }
        R::Checkpoint(checkpoint) => json(checkpoint.len(), &Checkpoint { checkpoint }),
        R::Proof { index, size, entry, hashes, checkpoint } => {
            let hashes = hashes.iter().map(|hash| hash[..].into()).collect();
            json(4096, &InclusionProof { index, size, entry: entry.into(), hashes, checkpoint })
        }
        R::Tenant { tenant, admin, certificate, ca } => {
            let (tenant, admin) = (Tenant::from(&*tenant), Identity::from(&*admin));
            json(4096, &NewTenant { tenant, admin, certificate, ca })
        }
        R::Tenants(tenants) => json(1024, &Tenants { tenants: list(&tenants) }),
        R::Rewrapped { rows } => json(0, &Rewrapped { rows }),
        R::Status(status) => json(1024, &Status::from(&*status)),
        R::RekeyProgress { proved, needed, done } => json(0, &Rekey { shares: None, proved, needed, done }),
        _ => json(0, &Done {}),
    }
}

/// An entry of the log as one line of JSON.
#[must_use]
pub fn entry_json(index: u64, entry: &entry::Entry) -> String {
    serde_json::to_string(&Entry::new(index, entry)).expect("our types have text for names")
}
