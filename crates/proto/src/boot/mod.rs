//! The protocol of boot release: a machine proves what it is, and gets the secrets that open its volumes.
//!
//! Requests of JSON: [`Challenge`], [`Attest`], [`Confirm`]. A machine that runs repeats the first two, and proves
//! that it is the one that was released to before ([`Continues`]); so it may say what its next boot will be
//! ([`Candidate`]). A clone of a golden image asks for an [`Identity`] first, and [`Settle`]s. Both sides compute the same [`Transcript`], which
//! the evidence carries and to which the [`Release`] is bound. The agent links this module as the server does.
//!
//! Not here: sockets, what evidence says (`keyhearth-attest`), and who may have what (the server's engine).
//!
//! Source: `docs/formats/boot.md`.

mod message;
mod release;
mod transcript;

pub use message::{
    Attest, Candidate, Challenge, Challenged, Confirm, Confirmed, Continues, Expected, Fixed, Message,
    Outlook, Pending, Refused, Settle, Settled, Step, read, route, write,
};
pub use release::{
    Besides, Identified, Identity, Key, Opened, PublicKey, Release, Sealed, Terms, confirm_mac, continue_mac,
    ephemeral, header_hash, settle_mac,
};
pub use transcript::{Covered, Tee, Transcript};

/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 32;
/// Bytes that name a session.
pub const SESSION_BYTES: usize = 16;
/// Bytes of the secret of a volume's keyslot, and of the key that a confirmation is authenticated with.
pub const SECRET_BYTES: usize = 32;
/// Bytes of the token that the encrypted volume keeps from one boot to the next.
pub const TOKEN_BYTES: usize = 32;
/// The most volumes of one machine.
pub const VOLUMES_MAX: usize = 16;
/// The most endorsements that come with evidence.
pub const ENDORSEMENTS_MAX: usize = 16;
/// The longest endorsement, in bytes.
pub const ENDORSEMENT_BYTES_MAX: usize = 64 * 1024;
/// The longest evidence, in bytes.
pub const EVIDENCE_BYTES_MAX: usize = 1 << 20;
/// The longest document of a cloud, in bytes.
pub const CLOUD_BYTES_MAX: usize = 16 * 1024;
/// The longest body of [`Attest`], in bytes: evidence, endorsements and a document in base64, and the rest.
pub const ATTEST_BYTES_MAX: usize =
    (EVIDENCE_BYTES_MAX + ENDORSEMENTS_MAX * ENDORSEMENT_BYTES_MAX + CLOUD_BYTES_MAX) / 3 * 4
        + BODY_BYTES_MAX;
/// The longest body of the other requests and of every answer, in bytes.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// How long a challenge may be answered, in seconds.
pub const CHALLENGE_S: u32 = 120;
