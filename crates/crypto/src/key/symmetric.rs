//! AES and ChaCha20 on data: GCM, Poly1305, CBC and CTR.

use aws_lc_rs::{
    aead::{Aad, LessSafeKey, NONCE_LEN, Nonce},
    cipher::{
        DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, PaddedBlockEncryptingKey,
        UnboundCipherKey,
    },
    iv::{FixedLength, IV_LEN_128_BIT},
};
use subtle::{Choice, ConstantTimeEq, ConstantTimeGreater};
use zeroize::Zeroizing;

use super::{Encrypted, schemes::Aes};
use crate::{Error, random};

const BLOCK_BYTES: usize = 16;
const TAG_BYTES: usize = 16;

const REFUSED: Error = Error::Internal("the library refused to encrypt");

pub(super) fn aead_seal(key: &LessSafeKey, aad: &[u8], plaintext: &[u8]) -> Result<Encrypted, Error> {
    let mut iv = vec![0; NONCE_LEN];
    random::fill("keyhearth/aead-iv", &mut iv)?;
    let mut ciphertext = Vec::with_capacity(plaintext.len() + TAG_BYTES);
    ciphertext.extend_from_slice(plaintext);
    let nonce = Nonce::try_assume_unique_for_key(&iv).map_err(|_| REFUSED)?;
    key.seal_in_place_append_tag(nonce, Aad::from(aad), &mut ciphertext).map_err(|_| REFUSED)?;
    Ok(Encrypted { iv, ciphertext })
}

pub(super) fn aead_open(
    key: &LessSafeKey,
    iv: &[u8],
    aad: &[u8],
    ciphertext: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let nonce = Nonce::try_assume_unique_for_key(iv).map_err(|_| Error::Invalid("the IV is 12 bytes"))?;
    let mut plaintext = Zeroizing::new(ciphertext.to_vec());
    let len =
        key.open_in_place(nonce, Aad::from(aad), &mut plaintext).map_err(|_| Error::NotAuthentic)?.len();
    plaintext.truncate(len);
    Ok(plaintext)
}

pub(super) fn cbc_encrypt(aes: &Aes, key: &[u8], plaintext: &[u8]) -> Result<Encrypted, Error> {
    let iv = random_iv()?;
    let mut ciphertext = Vec::with_capacity(plaintext.len() + BLOCK_BYTES);
    ciphertext.extend_from_slice(plaintext);
    PaddedBlockEncryptingKey::cbc_pkcs7(unbound(aes, key)?)
        .and_then(|key| {
            key.less_safe_encrypt(&mut ciphertext, EncryptionContext::Iv128(FixedLength::from(iv)))
        })
        .map_err(|_| REFUSED)?;
    Ok(Encrypted { iv: iv.to_vec(), ciphertext })
}

/// Decrypts and removes the padding, in time that depends on the length alone.
///
/// A wrong length, key, IV or padding is one and the same error. Whoever can ask again and again with
/// changed ciphertexts still learns the plaintext from that one bit: this is inherent in CBC without a MAC.
pub(super) fn cbc_decrypt(
    aes: &Aes,
    key: &[u8],
    iv: &[u8],
    ciphertext: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let context = decryption_context(iv)?;
    let mut plaintext = Zeroizing::new(ciphertext.to_vec());
    DecryptingKey::cbc(unbound(aes, key)?)
        .and_then(|key| key.decrypt(&mut plaintext, context).map(drop))
        .map_err(|_| Error::NotAuthentic)?;
    let len = unpadded_len(&plaintext).ok_or(Error::NotAuthentic)?;
    plaintext.truncate(len);
    Ok(plaintext)
}

/// Length without PKCS#7 padding of one to sixteen bytes. Source: RFC 5652 §6.3.
fn unpadded_len(plaintext: &[u8]) -> Option<usize> {
    let block = plaintext.last_chunk::<BLOCK_BYTES>()?;
    let padding = block[BLOCK_BYTES - 1];
    let mut wrong = padding.ct_eq(&0) | padding.ct_gt(&16);
    for (position, byte) in (1..=16u8).zip(block.iter().rev()) {
        let is_padding: Choice = !position.ct_gt(&padding);
        wrong |= is_padding & !byte.ct_eq(&padding);
    }
    (!bool::from(wrong)).then(|| plaintext.len() - usize::from(padding))
}

pub(super) fn ctr_encrypt(aes: &Aes, key: &[u8], plaintext: &[u8]) -> Result<Encrypted, Error> {
    let iv = random_iv()?;
    let mut ciphertext = plaintext.to_vec();
    EncryptingKey::ctr(unbound(aes, key)?)
        .and_then(|key| {
            key.less_safe_encrypt(&mut ciphertext, EncryptionContext::Iv128(FixedLength::from(iv)))
        })
        .map_err(|_| REFUSED)?;
    Ok(Encrypted { iv: iv.to_vec(), ciphertext })
}

pub(super) fn ctr_decrypt(
    aes: &Aes,
    key: &[u8],
    iv: &[u8],
    ciphertext: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let context = decryption_context(iv)?;
    let mut plaintext = Zeroizing::new(ciphertext.to_vec());
    DecryptingKey::ctr(unbound(aes, key)?)
        .and_then(|key| key.decrypt(&mut plaintext, context).map(drop))
        .map_err(|_| Error::Internal("the library refused to decrypt"))?;
    Ok(plaintext)
}

fn unbound(aes: &Aes, key: &[u8]) -> Result<UnboundCipherKey, Error> {
    UnboundCipherKey::new(aes.cipher, key).map_err(|_| REFUSED)
}

fn random_iv() -> Result<[u8; IV_LEN_128_BIT], Error> {
    let mut iv = [0; IV_LEN_128_BIT];
    random::fill("keyhearth/block-iv", &mut iv)?;
    Ok(iv)
}

fn decryption_context(iv: &[u8]) -> Result<DecryptionContext, Error> {
    FixedLength::try_from(iv).map(DecryptionContext::Iv128).map_err(|_| Error::Invalid("the IV is 16 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_one_to_sixteen_equal_bytes() {
        for n in 1..=16u8 {
            let mut block = [0xaa; 32];
            block[32 - usize::from(n)..].fill(n);
            assert_eq!(unpadded_len(&block), Some(32 - usize::from(n)));
            if n > 1 {
                block[32 - usize::from(n)] ^= 1;
                assert_eq!(unpadded_len(&block), None, "{n}");
            }
        }
        assert_eq!(unpadded_len(&[0; 16]), None);
        assert_eq!(unpadded_len(&[17; 32]), None);
        assert_eq!(unpadded_len(&[1; 15]), None);
        assert_eq!(unpadded_len(&[]), None);
    }
}
