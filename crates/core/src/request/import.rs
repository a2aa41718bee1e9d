//! Material that comes from elsewhere.

use keyhearth_crypto::algorithm::Mechanism;

use crate::time::Time;

/// How key material is wrapped on its way in or out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportMechanism {
    /// RSA-OAEP with SHA-1: symmetric keys only, and only on their way in, for clients that know no other.
    RsaOaepSha1,
    /// RSA-OAEP with SHA-256: symmetric keys only.
    RsaOaepSha256,
    /// As [`ImportMechanism::RsaAesKwpSha256`], with SHA-1; only on the way in.
    RsaAesKwpSha1,
    /// An AES-256 key under RSA-OAEP-SHA-256, and the material under it with AES-KWP
    /// (PKCS #11 `CKM_RSA_AES_KEY_WRAP`).
    RsaAesKwpSha256,
    /// HPKE with X25519.
    HpkeX25519,
    /// HPKE with X25519 and ML-KEM-768 together.
    HpkeX25519MlKem768,
}

impl ImportMechanism {
    /// All mechanisms.
    pub const ALL: [Self; 6] = [
        Self::RsaOaepSha1,
        Self::RsaOaepSha256,
        Self::RsaAesKwpSha1,
        Self::RsaAesKwpSha256,
        Self::HpkeX25519,
        Self::HpkeX25519MlKem768,
    ];

    /// What is done with the RSA key, for mechanisms that have one.
    #[must_use]
    pub const fn oaep(self) -> Option<Mechanism> {
        match self {
            Self::RsaOaepSha1 | Self::RsaAesKwpSha1 => Some(Mechanism::RsaOaepSha1),
            Self::RsaOaepSha256 | Self::RsaAesKwpSha256 => Some(Mechanism::RsaOaepSha256),
            Self::HpkeX25519 | Self::HpkeX25519MlKem768 => None,
        }
    }
}

/// The longest description of imported material, in characters.
pub const MATERIAL_DESCRIPTION_CHARS_MAX: usize = 256;

/// Names import parameters: 16 random bytes.
pub type ImportId = [u8; 16];

/// Material to import.
#[derive(Clone, Debug, Default)]
pub struct NewMaterial {
    /// The material, wrapped as the import parameters say.
    pub wrapped: Vec<u8>,
    /// The parameters it was wrapped with; the newest if absent.
    pub parameters: Option<ImportId>,
    /// The version it is for; the one that it fits if absent.
    pub version: Option<u32>,
    /// It is for one version more, which begins with the next rotation.
    pub for_rotation: bool,
    /// When it ends.
    pub expires: Option<Time>,
    /// For people, at most [`MATERIAL_DESCRIPTION_CHARS_MAX`]; what was said before stays if absent.
    pub description: Option<String>,
}

/// Why material is not imported.
impl NewMaterial {
    /// There are no parameters.
    pub const UNASKED: crate::Error = crate::Error::Conflict("ask for import parameters first");
    /// The parameters that it names were replaced.
    pub const REPLACED: crate::Error = crate::Error::Conflict("newer import parameters replaced these");
    /// The parameters have ended.
    pub const ENDED: crate::Error =
        crate::Error::Conflict("the import parameters have ended; ask for new ones");
    /// Every version has material, or had other material.
    pub const OTHER: crate::Error =
        crate::Error::Conflict("no version awaits this material; a version takes again only what it had");
    /// A version that already has it, or had it, is not rotated to.
    pub const KNOWN: crate::Error = crate::Error::Conflict("a version of this key has this material");
    /// Other material was brought for the next rotation.
    pub const BROUGHT: crate::Error = crate::Error::Conflict("other material awaits the next rotation");
}
