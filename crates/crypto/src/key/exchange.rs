//! The key holder's half of a McCallum–Relyea exchange: another party's point times the private scalar, given whole.
//!
//! aws-lc-rs gives out the x-coordinate of a product and no more. The product itself goes to whoever asked, so
//! finding its y-coordinate needs no secrecy: of the two points with that x-coordinate it is the one whose sum with
//! the other party's point has the x-coordinate of the product by the scalar plus one. So aws-lc-rs alone computes
//! with the scalar, and the `p521` crate, whose arithmetic nobody audited, sees what is public.
//!
//! Called by [`super::Key`].

use aws_lc_rs::{agreement, encoding::AsBigEndian, signature::EcdsaKeyPair};
use p521::elliptic_curve::sec1::{FromSec1Point, Sec1Point, ToSec1Point};
use p521::{AffinePoint, NistP521, ProjectivePoint};
use zeroize::Zeroizing;

use super::{PublicKey, REFUSED, schemes::Curve};
use crate::Error;

/// Bytes of a coordinate on P-521.
const COORDINATE_BYTES: usize = 66;
/// Bytes of a point: 4, then its coordinates.
pub const POINT_BYTES: usize = 1 + 2 * COORDINATE_BYTES;

/// What multiplies by the scalar plus one.
pub(super) struct Next(agreement::PrivateKey);

impl Next {
    /// Of a pair on P-521; `None` on other curves, and for the one scalar to which nothing can be added.
    pub(super) fn of(curve: &Curve, pair: &EcdsaKeyPair) -> Result<Option<Self>, Error> {
        let Some(agreement) = curve.agreement.filter(|_| curve.scalar_bytes == COORDINATE_BYTES) else {
            return Ok(None);
        };
        let bytes = pair.private_key().as_be_bytes().map_err(|_| REFUSED)?;
        let mut scalar = Zeroizing::new([0; COORDINATE_BYTES]);
        scalar.copy_from_slice(bytes.as_ref().get(..COORDINATE_BYTES).ok_or(REFUSED)?);
        let mut carry = 1;
        for byte in scalar.iter_mut().rev() {
            let sum = u16::from(*byte) + carry;
            [_, *byte] = sum.to_be_bytes();
            carry = sum >> 8;
        }
        Ok(agreement::PrivateKey::from_private_key(agreement, scalar.as_ref()).ok().map(Self))
    }
}

/// `peer` times the scalar of `key`, uncompressed.
///
/// # Errors
/// [`Error::Internal`] if the two implementations disagree.
///
/// Source: SEC 1 §2.2.1 (addition), §2.3.3 (encoding).
pub(super) fn multiply(
    key: &agreement::PrivateKey,
    next: &Next,
    peer: &PublicKey,
) -> Result<[u8; POINT_BYTES], Error> {
    let x_of = |key: &agreement::PrivateKey| {
        let peer = agreement::UnparsedPublicKey::new(key.algorithm(), peer.der());
        agreement::agree(key, peer, REFUSED, |x| <[u8; COORDINATE_BYTES]>::try_from(x).map_err(|_| REFUSED))
    };
    let (x, x_of_next) = (x_of(key)?, x_of(&next.0)?);
    let peer = point(peer.der().last_chunk::<POINT_BYTES>().ok_or(REFUSED)?)?;
    let mut compressed = [2; 1 + COORDINATE_BYTES];
    compressed[1..].copy_from_slice(&x);
    let even = point(&compressed)?;
    for product in [even, -even] {
        let sum = AffinePoint::from(ProjectivePoint::from(product) + peer).to_sec1_point(false);
        if sum.as_bytes().get(1..=COORDINATE_BYTES) == Some(x_of_next.as_slice()) {
            return product.to_sec1_point(false).as_bytes().try_into().map_err(|_| REFUSED);
        }
    }
    Err(REFUSED)
}

/// A point on the curve and not the one at infinity.
fn point(bytes: &[u8]) -> Result<AffinePoint, Error> {
    let encoded = Sec1Point::<NistP521>::from_bytes(bytes).map_err(|_| REFUSED)?;
    Option::from(AffinePoint::from_sec1_point(&encoded)).ok_or(REFUSED)
}

#[cfg(test)]
mod tests {
    use p521::elliptic_curve::ops::Reduce;
    use p521::{FieldBytes, Scalar};

    use super::*;
    use crate::algorithm::Algorithm;
    use crate::key::{Key, generate, import_scalar};

    fn loaded(scalar: &[u8; COORDINATE_BYTES]) -> Key {
        Key::load(Algorithm::EcP521, &import_scalar(Algorithm::EcP521, scalar).unwrap()).unwrap()
    }

    fn small(number: u8) -> [u8; COORDINATE_BYTES] {
        let mut scalar = [0; COORDINATE_BYTES];
        scalar[COORDINATE_BYTES - 1] = number;
        scalar
    }

    #[test]
    fn the_product_is_that_of_the_second_implementation() {
        for _ in 0..8 {
            let material = generate(Algorithm::EcP521).unwrap();
            let key = Key::load(Algorithm::EcP521, &material).unwrap();
            let peer = Key::load(Algorithm::EcP521, &generate(Algorithm::EcP521).unwrap()).unwrap();
            let peer = peer.public_key_der().unwrap();
            let product = key.exchange(peer).unwrap();
            assert_eq!(product[1..=COORDINATE_BYTES], *key.agree(peer).unwrap().expose());

            let pair = EcdsaKeyPair::from_pkcs8(
                &aws_lc_rs::signature::ECDSA_P521_SHA512_ASN1_SIGNING,
                material.expose(),
            );
            let scalar = pair.unwrap().private_key().as_be_bytes().unwrap();
            let scalar = Scalar::reduce(&FieldBytes::try_from(scalar.as_ref()).unwrap());
            let ours = ProjectivePoint::from(point(peer.last_chunk::<POINT_BYTES>().unwrap()).unwrap());
            let theirs = AffinePoint::from(ours * scalar).to_sec1_point(false);
            assert_eq!(product, theirs.as_bytes());
        }
    }

    /// Sums that are doublings, or lie at infinity.
    #[test]
    fn scalars_at_the_ends_multiply_or_are_refused() {
        let order_less = |number: u8| {
            let mut scalar = [0xff; COORDINATE_BYTES];
            scalar[0] = 1;
            scalar[33..].copy_from_slice(&[
                0xfa,
                0x51,
                0x86,
                0x87,
                0x83,
                0xbf,
                0x2f,
                0x96,
                0x6b,
                0x7f,
                0xcc,
                0x01,
                0x48,
                0xf7,
                0x09,
                0xa5,
                0xd0,
                0x3b,
                0xb5,
                0xc9,
                0xb8,
                0x89,
                0x9c,
                0x47,
                0xae,
                0xbb,
                0x6f,
                0xb7,
                0x1e,
                0x91,
                0x38,
                0x64,
                0x09 - number,
            ]);
            scalar
        };
        let peer = loaded(&small(7));
        let peer = peer.public_key_der().unwrap();
        let own: [u8; POINT_BYTES] = *peer.last_chunk().unwrap();
        assert_eq!(loaded(&small(1)).exchange(peer).unwrap(), own);
        let fourteen = loaded(&small(14));
        let fourteen: [u8; POINT_BYTES] = *fourteen.public_key_der().unwrap().last_chunk().unwrap();
        assert_eq!(loaded(&small(2)).exchange(peer).unwrap(), fourteen);
        let negative = loaded(&order_less(2)).exchange(peer).unwrap();
        assert_eq!(negative[1..=COORDINATE_BYTES], fourteen[1..=COORDINATE_BYTES]);
        assert_ne!(negative, fourteen, "the same x-coordinate, the other y");
        assert!(matches!(loaded(&order_less(1)).exchange(peer), Err(Error::Unsupported(_))));
    }

    #[test]
    fn only_points_of_the_curve_are_multiplied() {
        let key = loaded(&small(3));
        let good = *loaded(&small(5)).public_key_der().unwrap().last_chunk::<POINT_BYTES>().unwrap();
        let mut off_curve = good;
        off_curve[POINT_BYTES - 1] ^= 1;
        let mut beyond_the_field = good;
        beyond_the_field[1] |= 2;
        let p256 = Key::load(Algorithm::EcP256, &generate(Algorithm::EcP256).unwrap()).unwrap();
        for bad in [
            &off_curve[..],
            &beyond_the_field,
            &[0],
            &[4; POINT_BYTES],
            &good[..POINT_BYTES - 1],
            &[],
            p256.public_key_der().unwrap(),
        ] {
            assert!(matches!(key.exchange(bad), Err(Error::Invalid(_))), "{}", bad.len());
        }
        assert!(key.exchange(&good).is_ok());
        assert!(matches!(p256.exchange(p256.public_key_der().unwrap()), Err(Error::Unsupported(_))));
    }
}
