//! What one release is about, in 64 bytes.

use keyhearth_core::id::{DeploymentId, Name, PrincipalId};
use keyhearth_crypto::digest;

use super::{Candidate, NONCE_BYTES, SESSION_BYTES};

const LABEL: &[u8] = b"keyhearth boot v1";
/// Five bytes, in a transcript and wherever else an identity is named.
pub(super) const CLONE: &[u8] = b"clone";

macro_rules! tees {
    ($($(#[$doc:meta])+ $variant:ident $name:literal;)+) => {
        /// What vouches for the machine.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Tee { $($(#[$doc])+ $variant,)+ }

        impl Tee {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its name on the wire.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

tees! {
    /// AMD SEV-SNP.
    Snp "snp";
    /// Intel TDX.
    Tdx "tdx";
    /// A TPM 2.0, which for a virtual machine is its host's word.
    Tpm "tpm";
    /// The vTPM of a confidential VM of Azure.
    Azure "azure";
    /// Nothing: the machine brings no evidence.
    None "none";
}

/// Everything that one release is bound to, hashed: the report data of SNP and TDX evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transcript(pub [u8; 64]);

/// What a transcript covers. Every member is framed by its length, 4 bytes big-endian; a list by the count of its
/// members before them. Without a candidate, or a clone that asks for an identity, there is nothing in its place, at the end.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "as in the messages")]
pub struct Covered<'a> {
    pub session: &'a [u8; SESSION_BYTES],
    pub nonce: &'a [u8; NONCE_BYTES],
    pub server: DeploymentId,
    pub machine: PrincipalId,
    pub ephemeral: &'a [u8],
    pub volumes: &'a [Name],
    pub headers: &'a [[u8; 32]],
    pub boot_counter: u64,
    pub tee: Tee,
    pub candidate: Option<&'a Candidate>,
    pub clone: bool,
}

impl Transcript {
    /// Hashes what a release is about.
    ///
    /// Source: FIPS 180-4 §6.4 (SHA-512).
    #[must_use]
    pub fn of(covered: &Covered<'_>) -> Self {
        let mut bytes = LABEL.to_vec();
        frame(&mut bytes, covered.session);
        frame(&mut bytes, covered.nonce);
        frame(&mut bytes, &covered.server.0);
        frame(&mut bytes, &covered.machine.0);
        frame(&mut bytes, covered.ephemeral);
        frame_all(&mut bytes, covered.volumes.iter().map(|name| name.as_str().as_bytes()));
        frame_all(&mut bytes, covered.headers.iter().map(|hash| &hash[..]));
        frame(&mut bytes, &covered.boot_counter.to_be_bytes());
        frame(&mut bytes, covered.tee.name().as_bytes());
        if let Some(Candidate { claims, dry_run }) = covered.candidate {
            let words: Vec<&[u8]> =
                claims.iter().flat_map(|one| [one.claim.as_bytes(), one.value.as_bytes()]).collect();
            frame_all(&mut bytes, words.into_iter());
            frame(&mut bytes, &[u8::from(*dry_run)]);
        }
        // No candidate begins so: its list has an even number of members.
        if covered.clone {
            frame(&mut bytes, CLONE);
        }
        Self(digest::sha512(&bytes))
    }

    /// What a TPM's quote carries of it as qualifying data: its SHA-256.
    #[must_use]
    pub fn qualifying_data(&self) -> [u8; 32] {
        digest::sha256(&[&self.0])
    }
}

/// Appends `part` behind its length.
pub(super) fn frame(bytes: &mut Vec<u8>, part: &[u8]) {
    let len = u32::try_from(part.len()).expect("messages are shorter than 4 GiB");
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.extend_from_slice(part);
}

/// Appends `parts`, each behind its length, behind their count.
pub(super) fn frame_all<'a>(bytes: &mut Vec<u8>, parts: impl ExactSizeIterator<Item = &'a [u8]>) {
    let count = u32::try_from(parts.len()).expect("a message has few parts");
    bytes.extend_from_slice(&count.to_be_bytes());
    parts.for_each(|part| frame(bytes, part));
}

#[cfg(test)]
mod tests {
    use super::super::Expected;
    use super::*;

    fn covered<'a>(volumes: &'a [Name], headers: &'a [[u8; 32]]) -> Covered<'a> {
        Covered {
            session: &[1; SESSION_BYTES],
            nonce: &[2; NONCE_BYTES],
            server: DeploymentId([3; 16]),
            machine: PrincipalId([4; 16]),
            ephemeral: &[5; 1216],
            volumes,
            headers,
            boot_counter: 7,
            tee: Tee::Snp,
            candidate: None,
            clone: false,
        }
    }

    fn candidate(claim: &str, value: &str, dry_run: bool) -> Candidate {
        let claims = vec![Expected { claim: claim.to_owned(), value: value.to_owned() }];
        Candidate { claims, dry_run }
    }

    #[test]
    fn every_member_changes_it() {
        let names: [Name; 2] = ["root", "data"].map(|name| name.parse().unwrap());
        let headers = [[6; 32], [7; 32]];
        let whole = covered(&names, &headers);
        let others = [
            Covered { session: &[9; SESSION_BYTES], ..whole },
            Covered { nonce: &[9; NONCE_BYTES], ..whole },
            Covered { server: DeploymentId([9; 16]), ..whole },
            Covered { machine: PrincipalId([9; 16]), ..whole },
            Covered { ephemeral: &[9; 1216], ..whole },
            Covered { volumes: &names[..1], ..whole },
            Covered { headers: &headers[1..], ..whole },
            Covered { boot_counter: 8, ..whole },
            Covered { tee: Tee::Tdx, ..whole },
            Covered { clone: true, ..whole },
            Covered { candidate: Some(&candidate("pcrs.11", "aa", false)), ..whole },
            Covered { candidate: Some(&candidate("pcrs.11", "aa", true)), ..whole },
            Covered { candidate: Some(&candidate("pcrs.11", "ab", false)), ..whole },
            Covered { candidate: Some(&candidate("pcrs.1", "1aa", false)), ..whole },
        ];
        let mut seen = vec![Transcript::of(&whole).0];
        for other in others {
            let transcript = Transcript::of(&other).0;
            assert!(!seen.contains(&transcript), "{other:?}");
            seen.push(transcript);
        }
    }

    /// Computed once by another implementation, from the document of the format.
    #[test]
    fn it_is_the_one_of_the_document() {
        let names: [Name; 2] = ["root", "data"].map(|name| name.parse().unwrap());
        let transcript = Transcript::of(&covered(&names, &[[6; 32], [7; 32]]));
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(
            hex(&transcript.0),
            "f0b34578d44edb874c71dae6115171130c7759918308b5089b2ea4520cda362057137c70d47b8a231537f65e50ce9de6c4311503dda3a958857c48b603631a94"
        );
        let said = candidate("pcrs.11", "aa", false);
        let saying = Covered { candidate: Some(&said), ..covered(&names, &[[6; 32], [7; 32]]) };
        assert_eq!(
            hex(&Transcript::of(&saying).0),
            "ea872189de5f973384440062be52016e2b0dda3b27fc74bc3a5f6490cfafe177197ede3f043731625f9c322a75ffe8d697093fd7a92191b9a7273812a8f8ec0b"
        );
        let clone = Covered { clone: true, ..covered(&names, &[[6; 32], [7; 32]]) };
        assert_eq!(
            hex(&Transcript::of(&clone).0),
            "d4454ccbffc9f9dcccd7d9555ae7b492e5b08d321f7c2cb7dd22d8b2fb7aa80f7c49072eae923a548fd918e0827ba9f397dbc8025c9c56c55d120c90d826ea35"
        );
        assert_eq!(
            hex(&transcript.qualifying_data()),
            "1c45aef18bcf5a4eefb255ceb10adedd220ee27e0f4ca689f892eaeb2aa60777"
        );
    }
}
