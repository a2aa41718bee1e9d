//! ML-DSA over what stands for a message, for signers that never see the message itself.
//!
//! aws-lc-rs signs messages only; this alone is the `ml-dsa` crate's.

use ml_dsa::signature::rand_core::{TryCryptoRng, TryRng};
use ml_dsa::{EncodedVerifyingKey, MlDsaParams, Signature, SigningKey, VerifyingKey};

use super::REFUSED;
use crate::{Error, random};

const BAD_MU: Error = Error::Invalid("mu is not 64 bytes long");

/// [`sign_mu`] for one set of parameters.
pub(super) type SignMu = fn(&[u8], &[u8]) -> Result<Vec<u8>, Error>;
/// [`verify_mu`] for one set of parameters.
pub(super) type VerifyMu = fn(&[u8], &[u8], &[u8]) -> Result<(), Error>;

/// Signs `mu` with the key of this seed, 32 bytes. Hedged: the same `mu` gives another signature each time.
///
/// # Errors
/// [`Error::Invalid`] for a `mu` that is not 64 bytes long.
///
/// Source: FIPS 204 §6.2, Algorithm 7 from line 7 on.
pub(super) fn sign_mu<P: MlDsaParams>(seed: &[u8], mu: &[u8]) -> Result<Vec<u8>, Error> {
    let key = SigningKey::<P>::from_seed(seed.try_into().map_err(|_| REFUSED)?);
    let signature = key.expanded_key().sign_mu_randomized(mu.try_into().map_err(|_| BAD_MU)?, &mut Random);
    Ok(signature.map_err(|_| REFUSED)?.encode().to_vec())
}

/// Checks a signature of `mu` with the public key that ends `der`.
///
/// # Errors
/// [`Error::NotAuthentic`]; [`Error::Invalid`] for a `mu` that is not 64 bytes long.
///
/// Source: FIPS 204 §6.3, Algorithm 8 from line 8 on.
pub(super) fn verify_mu<P: MlDsaParams>(der: &[u8], mu: &[u8], signature: &[u8]) -> Result<(), Error> {
    let mu = mu.try_into().map_err(|_| BAD_MU)?;
    let key = public::<P>(der).ok_or(REFUSED)?;
    let signature = signature.try_into().ok().and_then(Signature::<P>::decode).ok_or(Error::NotAuthentic)?;
    if key.verify_mu(mu, &signature) { Ok(()) } else { Err(Error::NotAuthentic) }
}

fn public<P: MlDsaParams>(der: &[u8]) -> Option<VerifyingKey<P>> {
    let start = der.len().checked_sub(EncodedVerifyingKey::<P>::default().len())?;
    Some(VerifyingKey::decode(der[start..].try_into().ok()?))
}

/// Our random bytes, in the form in which the library takes them.
struct Random;

impl TryRng for Random {
    type Error = Error;

    fn try_next_u32(&mut self) -> Result<u32, Error> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Error> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Error> {
        random::fill("keyhearth/ml-dsa", out)
    }
}

impl TryCryptoRng for Random {}

#[cfg(test)]
mod tests {
    use ml_dsa::signature::digest::Update;
    use ml_dsa::{MlDsa44, MlDsa65, MlDsa87};

    use super::*;
    use crate::{
        algorithm::{
            Algorithm,
            Mechanism::{EcdsaSha256, MlDsa},
        },
        key::{Input, Key, generate},
    };

    fn mu<P: MlDsaParams>(der: &[u8]) -> Vec<u8> {
        let mu = public::<P>(der).unwrap().compute_mu(
            |shake| {
                shake.update(b"message");
                Ok(())
            },
            &[],
        );
        mu.unwrap().to_vec()
    }

    #[test]
    fn a_signature_of_mu_is_one_of_the_message() {
        for (algorithm, mu) in [
            (Algorithm::MlDsa44, mu::<MlDsa44> as fn(&[u8]) -> Vec<u8>),
            (Algorithm::MlDsa65, mu::<MlDsa65>),
            (Algorithm::MlDsa87, mu::<MlDsa87>),
        ] {
            let key = Key::load(algorithm, &generate(algorithm).unwrap()).unwrap();
            let mu = mu(key.public_key().unwrap().der());
            let message = Input::Message(b"message");
            let signature = key.sign(MlDsa, Input::Mu(&mu)).unwrap();
            assert_eq!(key.verify(MlDsa, message, &signature), Ok(()));
            assert_ne!(key.sign(MlDsa, Input::Mu(&mu)).unwrap(), signature, "it is hedged");
            let signature = key.sign(MlDsa, message).unwrap();
            assert_eq!(key.verify(MlDsa, Input::Mu(&mu), &signature), Ok(()));

            let mut other = mu.clone();
            other[63] ^= 1;
            assert_eq!(key.verify(MlDsa, Input::Mu(&other), &signature), Err(Error::NotAuthentic));
            let cut = &signature[1..];
            assert_eq!(key.verify(MlDsa, Input::Mu(&mu), cut), Err(Error::NotAuthentic));
            assert_eq!(key.verify(MlDsa, Input::Mu(&mu[1..]), &signature), Err(BAD_MU));
            assert_eq!(key.sign(MlDsa, Input::Mu(&mu[1..])), Err(BAD_MU));
        }
        let key = Key::load(Algorithm::EcP256, &generate(Algorithm::EcP256).unwrap()).unwrap();
        assert!(matches!(key.sign(EcdsaSha256, Input::Mu(&[0; 64])), Err(Error::Unsupported(_))));
    }
}
