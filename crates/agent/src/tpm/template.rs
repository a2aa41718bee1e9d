//! The attestation key: what it is made from, and how it is known.

use super::wire::Body;
use super::{ALG_NULL, ALG_SHA256, Error};

const ALG_ECDSA: u16 = 0x0018;
const ALG_ECC: u16 = 0x0023;
const ECC_NIST_P256: u16 = 0x0003;
/// `fixedTPM`, `fixedParent`, `sensitiveDataOrigin`, `userWithAuth`, `noDA`, `restricted` and `sign`: the TPM made
/// it, keeps it, and signs nothing with it but what it says itself.
pub(super) const ATTRIBUTES: u32 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 10 | 1 << 16 | 1 << 18;
/// Makes it another key than one that other software derives from an otherwise equal template.
const UNIQUE: &[u8; 32] = b"keyhearth boot attestation key 1";

/// `SubjectPublicKeyInfo` of a point of P-256 (RFC 5480 §2), before its coordinates.
const SPKI_P256: &[u8] =
    b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00\x04";

/// A key that signs quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttestationKey {
    pub(super) handle: u32,
    /// `TPMT_PUBLIC`
    pub public: Vec<u8>,
}

impl AttestationKey {
    /// `SubjectPublicKeyInfo` in DER.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the TPM made another key than it was told to.
    pub fn spki(&self) -> Result<Vec<u8>, Error> {
        spki(&self.public).ok_or(Error::Malformed(super::code::CREATE_PRIMARY))
    }
}

/// The template of the attestation key, `TPMT_PUBLIC`: restricted ECDSA of P-256 with SHA-256.
///
/// It never changes: another template is another key, and every machine would have to be enrolled anew.
pub(super) fn ak() -> Vec<u8> {
    let numbers =
        |numbers: &[u16]| numbers.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<_>>();
    [
        &numbers(&[ALG_ECC, ALG_SHA256])[..],
        &ATTRIBUTES.to_be_bytes(),
        // No policy, no symmetric algorithm; the scheme with its hash; the curve; no key derivation.
        &numbers(&[0, ALG_NULL, ALG_ECDSA, ALG_SHA256, ECC_NIST_P256, ALG_NULL]),
        &numbers(&[32]),
        UNIQUE,
        &numbers(&[32]),
        &[0; 32],
    ]
    .concat()
}

/// `SubjectPublicKeyInfo` in DER of a key that [`ak`] describes; nothing for any other.
fn spki(public: &[u8]) -> Option<Vec<u8>> {
    let template = ak();
    // Everything before the coordinates is as it was demanded.
    let fixed = template.len() - 2 * (2 + 32);
    let mut rest = Body::new(public.strip_prefix(&template[..fixed])?);
    let coordinate = |rest: &mut Body<'_>| {
        let bytes = rest.sized()?;
        let zeroes = [0; 32].get(bytes.len()..)?.to_vec();
        Some([zeroes, bytes.to_vec()].concat())
    };
    let (x, y) = (coordinate(&mut rest)?, coordinate(&mut rest)?);
    rest.rest().is_empty().then(|| [SPKI_P256, &x, &y].concat())
}
