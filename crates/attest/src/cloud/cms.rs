//! CMS: JSON that one signer signed by RSA with SHA-256, in the same message.
//!
//! Not here: whether the signer may. What the message says of its signer's certificate is not signed, so it is not read:
//! the signer is whose key verifies.
//!
//! Source: RFC 5652 §3, §5 (`SignedData`), §11.1, §11.2 (attributes).

use keyhearth_crypto::algorithm::Mechanism;
use keyhearth_crypto::digest::sha256;
use keyhearth_crypto::key::{Input, PublicKey};

use super::der::definite;
use super::malformed;
use crate::reason::{Reason, Refusal};
use crate::x509::Element;

/// The most certificates that a message carries.
const CARRIED_MAX: usize = 8;

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const NULL: u8 = 0x05;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// What is optional, by its number.
const OPTION_0: u8 = 0xa0;
const OPTION_1: u8 = 0xa1;
/// A signer by the id of its key.
const KEY_ID: u8 = 0x80;

const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03];
const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const SHA256_WITH_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];

/// A message of which nothing is believed yet.
pub(super) struct Signed {
    /// What was signed, if the signature is right.
    pub(super) content: Vec<u8>,
    /// Certificates that came along, in DER.
    pub(super) certificates: Vec<Vec<u8>>,
    /// What the signature is over.
    message: Vec<u8>,
    signature: Vec<u8>,
}

impl Signed {
    /// Reads a message in BER, with nothing after its end.
    pub(super) fn parse(ber: &[u8]) -> Result<Self, Refusal> {
        let der = definite(ber).ok_or(malformed("not BER"))?;
        let not_signed = || malformed("not signed data with its content and one signer");
        let parts = Parts::read(&der).ok_or_else(not_signed)?;
        let signer = Signer::read(parts.signer).ok_or_else(not_signed)?;
        // Azure names the signature's algorithm where the digest's belongs.
        let digests = [SHA256, SHA256_WITH_RSA].contains(&signer.digest);
        if !digests || ![RSA, SHA256_WITH_RSA].contains(&signer.algorithm) {
            return Err(Reason::CloudSignatureAlgorithm.into());
        }
        let message = match signer.attributes {
            // The content is JSON, so it can be no attributes that somebody signed for something else.
            None => parts.content.to_vec(),
            Some(attributes) if covers(attributes.contents, parts.content) => {
                [&[SET], &attributes.whole[1..]].concat()
            }
            Some(_) => return Err(Reason::CloudSignature.because("its attributes are for another content")),
        };
        Ok(Self {
            content: parts.content.to_vec(),
            certificates: parts.certificates.iter().map(|der| der.to_vec()).collect(),
            message,
            signature: signer.signature.to_vec(),
        })
    }

    /// Whether the holder of `key`, one of RSA, signed it.
    pub(super) fn is_signed_by(&self, key: &PublicKey) -> bool {
        key.verify(Mechanism::RsaPkcs1Sha256, Input::Message(&self.message), &self.signature).is_ok()
    }
}

struct Parts<'a> {
    content: &'a [u8],
    certificates: Vec<&'a [u8]>,
    signer: &'a [u8],
}

impl<'a> Parts<'a> {
    fn read(der: &'a [u8]) -> Option<Self> {
        let mut outer = Values(take(&mut Values(der), SEQUENCE)?);
        let named = take(&mut outer, OID)? == SIGNED_DATA;
        let mut data = Values(take(&mut Values(take(&mut outer, OPTION_0)?), SEQUENCE)?);
        take(&mut data, INTEGER)?;
        take(&mut data, SET)?;
        let mut encapsulated = Values(take(&mut data, SEQUENCE)?);
        let is_data = take(&mut encapsulated, OID)? == DATA;
        let content = take(&mut Values(take(&mut encapsulated, OPTION_0)?), OCTETS)?;
        let certificates = Values(data.take_if(OPTION_0).map_or(&[], |all| all.contents)).wholes()?;
        data.take_if(OPTION_1);
        let mut signers = Values(take(&mut data, SET)?);
        let signer = take(&mut signers, SEQUENCE)?;
        let whole = named && is_data && signers.0.is_empty() && certificates.len() <= CARRIED_MAX;
        whole.then_some(Self { content, certificates, signer })
    }
}

struct Signer<'a> {
    digest: &'a [u8],
    attributes: Option<Element<'a>>,
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signer<'a> {
    fn read(signer: &'a [u8]) -> Option<Self> {
        let mut signer = Values(signer);
        take(&mut signer, INTEGER)?;
        signer.take_if(SEQUENCE).or_else(|| signer.take_if(KEY_ID))?;
        Some(Self {
            digest: algorithm(take(&mut signer, SEQUENCE)?)?,
            attributes: signer.take_if(OPTION_0),
            algorithm: algorithm(take(&mut signer, SEQUENCE)?)?,
            signature: take(&mut signer, OCTETS)?,
        })
    }
}

/// The name of an algorithm without parameters.
fn algorithm(identifier: &[u8]) -> Option<&[u8]> {
    let mut parts = Values(identifier);
    let name = take(&mut parts, OID)?;
    let bare = parts.take_if(NULL).is_none_or(|null| null.contents.is_empty());
    (bare && parts.0.is_empty()).then_some(name)
}

/// Whether signed attributes say that they are of data, and of exactly `content`.
fn covers(attributes: &[u8], content: &[u8]) -> bool {
    let is = |name: &[u8], tag: u8, expected: &[u8]| attribute(attributes, name, tag) == Some(expected);
    is(CONTENT_TYPE, OID, DATA) && is(MESSAGE_DIGEST, OCTETS, &sha256(&[content]))
}

/// The one value of the attribute `name`, if it is there once.
fn attribute<'a>(attributes: &'a [u8], name: &[u8], tag: u8) -> Option<&'a [u8]> {
    let mut attributes = Values(attributes);
    let mut found = None;
    while !attributes.0.is_empty() {
        let mut attribute = Values(take(&mut attributes, SEQUENCE)?);
        if take(&mut attribute, OID)? != name {
            continue;
        }
        let mut values = Values(take(&mut attribute, SET)?);
        let value = take(&mut values, tag)?;
        if found.is_some() || !values.0.is_empty() {
            return None;
        }
        found = Some(value);
    }
    found
}

/// Values that follow each other.
struct Values<'a>(&'a [u8]);

impl<'a> Values<'a> {
    /// Takes the next value, if it has this tag.
    fn take_if(&mut self, tag: u8) -> Option<Element<'a>> {
        let element = Element::read(self.0).filter(|element| element.tag == tag)?;
        self.0 = element.after;
        Some(element)
    }

    /// Every value with its header.
    fn wholes(mut self) -> Option<Vec<&'a [u8]>> {
        let mut all = Vec::new();
        while !self.0.is_empty() {
            let element = Element::read(self.0)?;
            self.0 = element.after;
            all.push(element.whole);
        }
        Some(all)
    }
}

/// What the next value contains, which must have this tag.
fn take<'a>(values: &mut Values<'a>, tag: u8) -> Option<&'a [u8]> {
    values.take_if(tag).map(|element| element.contents)
}
