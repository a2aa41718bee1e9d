//! From what a request gave to the answer's bytes.

use keyhearth_core::entry;
use keyhearth_core::request::{Response, Session};
use serde::Serialize;

use super::answer::*;
use super::record::list;
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

/// Writes what a use of a key gave: the key, its version, and bytes.
macro_rules! of_key {
    ($name:ident { $key:ident, $version:ident, $($bytes:ident),* }) => {
        json($($bytes.len() + 4 +)* 0, &$name { key: Is($key), $version, $($bytes: $bytes.into()),* })
    };
}

/// Prints a response; every one has status 200.
#[must_use]
#[expect(clippy::too_many_lines, reason = "a table")]
pub fn print(response: Response) -> Printed {
    use Response as R;
    let body = match response {
        R::LogFile(body) => return Printed { content_type: FILE, body },
        // This interface spells no dry runs.
        R::Done | R::WouldSucceed => json(0, &Done {}),
        R::Encrypted { key, version, iv, ciphertext } => of_key!(Encrypted { key, version, iv, ciphertext }),
        R::Rewrapped { source, key, version, iv, ciphertext } => {
            let (bytes, source_version, source) = (iv.len() + ciphertext.len() + 8, source.1, Is(source.0));
            let (iv, ciphertext) = (iv.into(), ciphertext.into());
            json(bytes, &Rewrapped { source, source_version, key: Is(key), version, iv, ciphertext })
        }
        R::Decrypted { key, version, plaintext } => of_key!(Decrypted { key, version, plaintext }),
        R::DataKey { key, version, plaintext, ciphertext } => {
            let bytes = plaintext.as_ref().map_or(0, |bytes| bytes.len()) + ciphertext.len() + 4;
            let plaintext = plaintext.map(Into::into);
            json(bytes, &DataKey { key: Is(key), version, plaintext, ciphertext: ciphertext.into() })
        }
        R::DataKeyPair { key, version, pair } => {
            let bytes = pair.private.as_ref().map_or(0, |private| private.len());
            let bytes = bytes + pair.public.len() + pair.ciphertext.len() + 12;
            let (public, private) = (pair.public.into(), pair.private.map(Into::into));
            let ciphertext = pair.ciphertext.into();
            json(bytes, &DataKeyPair { key: Is(key), version, public, private, ciphertext })
        }
        R::Signature { key, version, mechanism, signature } => {
            let (bytes, mechanism) = (signature.len(), Is(mechanism));
            json(bytes, &Signature { key: Is(key), version, mechanism, signature: signature.into() })
        }
        R::Verified { key, version, valid } => json(0, &Verified { key: Is(key), version, valid }),
        R::Mac { key, version, mechanism, mac } => {
            json(mac.len(), &Mac { key: Is(key), version, mechanism: Is(mechanism), mac: mac.into() })
        }
        R::Wrapped { key, version, wrapped } => of_key!(Wrapped { key, version, wrapped }),
        R::Unwrapped { key, version, material } => of_key!(Unwrapped { key, version, material }),
        R::Shared { key, version, origin: _, secret } => of_key!(Shared { key, version, secret }),
        R::Encapsulated { key, version, secret, encapsulated } => {
            of_key!(Encapsulated { key, version, secret, encapsulated })
        }
        R::Exchanged { key, version, point } => of_key!(Exchanged { key, version, point }),
        R::SecretKept { name, secret } => json(0, &KeptSecret::from(&(name, *secret))),
        R::SecretValue { key, version, value } => of_key!(SecretValue { key, version, value }),
        R::Secrets { secrets, next } => json(1024, &Secrets { secrets: list(&secrets), next: cursor(next) }),
        R::VolumeSecret { key, version, generation, secret } => {
            let (bytes, secret) = (secret.len(), secret.into());
            json(bytes, &VolumeSecret { key: Is(key), version, generation, secret })
        }
        R::Machine(machine) => json(1024, &Machine::from(&*machine)),
        R::Machines { machines, next } => {
            json(1024, &Machines { machines: list(&machines), next: cursor(next) })
        }
        R::Approval(approval) => json(1024, &Approval::from(&*approval)),
        R::Approvals { approvals, next } => {
            json(1024, &Approvals { approvals: list(&approvals), next: cursor(next) })
        }
        // Only the boot protocol asks for these.
        R::Released { .. } | R::Cloned { .. } | R::Confirmed { .. } | R::Settled => json(0, &Done {}),
        R::Random(bytes) => json(bytes.len(), &Random { bytes: bytes.into() }),
        R::Key(key) | R::Material { key, .. } => json(1024, &Key::from(&*key)),
        R::Keys { keys, next } => json(1024, &Keys { keys: list(&keys), next: cursor(next) }),
        R::Aliases { aliases, next } => json(1024, &Aliases { aliases: list(&aliases), next: cursor(next) }),
        R::ImportParameters { id, public, mechanism, expires, .. } => {
            let (id, mechanism, expires) = (id[..].into(), Is(mechanism), Is(expires));
            json(public.len(), &ImportParameters { id, public: public.into(), mechanism, expires })
        }
        R::Exported { version, wrapped } => {
            json(wrapped.len(), &Exported { version, wrapped: wrapped.into() })
        }
        R::PublicKey { key, version, algorithm, usage: _, der } => {
            let (bytes, algorithm) = (der.len(), Is(algorithm));
            json(bytes, &PublicKey { key: Is(key), version, algorithm, der: der.into() })
        }
        R::LastUse { key, created, since, last } => json(
            0,
            &LastUse {
                key: Is(key),
                created: Is(created),
                since: Is(since),
                operation: last.map(|last| Is(last.operation)),
                time: last.map(|last| Is(last.time)),
                request_id: last.map(|last| Is(last.request)),
            },
        ),
        R::Grant(grant) => json(1024, &Grant::from(&*grant)),
        R::Grants { grants, next } => json(1024, &Grants { grants: list(&grants), next: cursor(next) }),
        R::Identity { principal, certificate, ca } => {
            json(4096, &IssuedIdentity { identity: Identity::from(&*principal), certificate, ca })
        }
        R::Principal(principal) => json(1024, &Identity::from(&*principal)),
        R::Identities { principals, next } => {
            json(1024, &Identities { identities: list(&principals), next: cursor(next) })
        }
        R::WhoAmI(caller) => json(1024, &WhoAmI::from(&*caller)),
        R::AccessKey { id, secret, identity, session } => {
            let (session_token, end) = session.map(|Session { token, end }| (token.into(), Is(end))).unzip();
            let (secret, identity) = (secret.into(), Is(identity));
            json(1024, &IssuedAccessKey { id, secret, identity, session_token, end })
        }
        R::AccessKeys { keys, next } => {
            json(1024, &AccessKeys { access_keys: list(&keys), next: cursor(next) })
        }
        R::Policies(policies) => json(1024, &Policies { policies: list(&policies) }),
        R::PolicyDiff(differences) => json(1024, &PolicyDiff { differences: list(&differences) }),
        R::PolicyTest { allowed, by } => json(0, &PolicyTest { allowed, by }),
        R::WhoCan(abilities) => json(1024, &WhoCan { abilities: list(&abilities) }),
        R::KeyPolicy { key, document, closed, text } => {
            json(1024, &KeyPolicyInForce { key: Is(key), text, closed, document })
        }
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
            json(4096, &IssuedTenant { tenant, admin, certificate, ca })
        }
        R::Tenants(tenants) => json(1024, &Tenants { tenants: list(&tenants) }),
        R::Rotated { rows } => json(0, &Rotated { rows }),
        R::Status(status) => json(1024, &Status::from(&*status)),
        R::RekeyShares(shares) => {
            let bytes = shares.iter().map(|share| share.len() + 4).sum();
            let shares = shares.into_iter().map(Into::into).collect();
            json(bytes, &Rekeying { shares: Some(shares), proved: None, needed: None, done: None })
        }
        R::RekeyProgress { proved, needed, done } => {
            let (proved, needed, done) = (Some(proved), Some(needed), Some(done));
            json(0, &Rekeying { shares: None, proved, needed, done })
        }
    };
    Printed { content_type: JSON, body }
}

fn cursor(next: Option<Vec<u8>>) -> Option<Is<Cursor>> {
    next.map(|cursor| Is(Cursor(cursor)))
}

/// An entry of the log as one line of JSON.
#[must_use]
pub fn entry_json(index: u64, entry: &entry::Entry) -> String {
    serde_json::to_string(&Entry::new(index, entry)).expect("our types have text for names")
}
