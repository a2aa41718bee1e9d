//! The certificate of the key that signs reports, and whether it belongs to a report.
//!
//! Source: AMD 57230 §3.1 (extensions of VCEK certificates); AMD 58369 (VLEK).

use keyhearth_crypto::algorithm::Mechanism;
use keyhearth_crypto::key::{Input, PublicKey};
use serde::Serialize;
use x509_parser::asn1_rs::{Oid, oid};

use super::report::Report;
use super::tcb::{Generation, Tcb};
use crate::reason::{Reason, Refusal};
use crate::x509::Certificate;

const PRODUCT_NAME: Oid<'static> = oid!(1.3.6.1.4.1.3704.1.2);
const BOOTLOADER: Oid<'static> = oid!(1.3.6.1.4.1.3704.1.3.1);
const TEE: Oid<'static> = oid!(1.3.6.1.4.1.3704.1.3.2);
const SNP: Oid<'static> = oid!(1.3.6.1.4.1.3704.1.3.3);
const MICROCODE: Oid<'static> = oid!(1.3.6.1.4.1.3704.1.3.8);
const FMC: Oid<'static> = oid!(1.3.6.1.4.1.3704.1.3.9);
const HARDWARE_ID: Oid<'static> = oid!(1.3.6.1.4.1.3704.1.4);
const PROVIDER_ID: Oid<'static> = oid!(1.3.6.1.4.1.3704.1.5);

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const UTF8_STRING: u8 = 0x0c;
const IA5_STRING: u8 = 0x16;

/// Whose key signed a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Signer {
    /// The chip's own, derived from its secret and the firmware level.
    Vcek,
    /// One that AMD gave a cloud for its machines.
    Vlek,
}

impl Signer {
    /// Its name in claims.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vcek => "vcek",
            Self::Vlek => "vlek",
        }
    }
}

/// A certificate that says it is of a VCEK or VLEK.
pub(crate) struct Vek<'a> {
    pub(crate) certificate: Certificate<'a>,
    pub(crate) generation: Generation,
    /// AMD's name of the product, with the stepping if it is a VCEK's: `Milan-B0`.
    pub(super) product: &'a str,
    /// Whose cloud it is; only of a VLEK.
    pub(crate) provider: Option<&'a str>,
    pub(crate) tcb: Tcb,
    /// The chip; only of a VCEK. 64 bytes, 8 of Turin.
    pub(crate) hardware_id: Option<&'a [u8]>,
    key: PublicKey,
}

impl<'a> Vek<'a> {
    /// Reads the certificate if it is one of this kind of key; nothing otherwise.
    pub(crate) fn parse(der: &'a [u8], signer: Signer) -> Result<Option<Self>, Refusal> {
        let certificate = Certificate::parse(der)?;
        let distinctive = match signer {
            Signer::Vcek => HARDWARE_ID,
            Signer::Vlek => PROVIDER_ID,
        };
        if certificate.extension(&distinctive).is_none() {
            return Ok(None);
        }
        let malformed = |what: &'static str| Reason::SnpCertificateMalformed.because(what);
        let product = certificate.extension(&PRODUCT_NAME).and_then(text).ok_or(malformed("product name"))?;
        let generation = Generation::of_product(product).ok_or(malformed("unknown product"))?;
        let level = |oid: &Oid<'_>| {
            certificate.extension(oid).and_then(small_integer).ok_or(malformed("firmware levels"))
        };
        let tcb = Tcb {
            fmc: (generation == Generation::Turin).then(|| level(&FMC)).transpose()?,
            bootloader: level(&BOOTLOADER)?,
            tee: level(&TEE)?,
            snp: level(&SNP)?,
            microcode: level(&MICROCODE)?,
        };
        let hardware_id = match signer {
            Signer::Vcek => {
                let id = certificate.extension(&HARDWARE_ID).and_then(|value| octets(value, generation));
                Some(id.ok_or(malformed("hardware id"))?)
            }
            Signer::Vlek => None,
        };
        let provider = match signer {
            Signer::Vcek => None,
            Signer::Vlek => {
                Some(certificate.extension(&PROVIDER_ID).and_then(text).ok_or(malformed("provider id"))?)
            }
        };
        let key = certificate.p384_key().ok_or(malformed("not a key of P-384"))?;
        Ok(Some(Self { certificate, generation, product, provider, tcb, hardware_id, key }))
    }

    /// Checks that this is the certificate of the key that signed the report: product, chip, firmware level, and
    /// the signature. The cheap checks come first; they also say more than a signature that does not fit.
    pub(super) fn check_belongs(&self, report: &Report<'_>) -> Result<(), Refusal> {
        let product = self.generation;
        if let Some(generation) = report.generation()?.filter(|generation| *generation != product) {
            let detail = format!("certificate: {}, report: {}", product.name(), generation.name());
            return Err(Reason::SnpProductDiffers.because(detail));
        }
        if let Some(id) = self.hardware_id {
            let (own, rest) = report.chip_id().split_at(id.len());
            if report.chip_id().iter().all(|byte| *byte == 0) {
                return Err(Reason::SnpChipMasked.into());
            }
            if own != id || rest.iter().any(|byte| *byte != 0) {
                return Err(Reason::SnpChipDiffers.into());
            }
        }
        let reported = Tcb::read(product, *report.reported_tcb());
        if reported != self.tcb {
            return Err(
                Reason::SnpTcbDiffers.because(format!("certificate: {}; report: {reported}", self.tcb))
            );
        }
        let signature = report.signature()?;
        let verified = self.key.verify(Mechanism::EcdsaSha384, Input::Message(report.signed()), &signature);
        verified.map_err(|_| Reason::SnpSignature.into())
    }
}

/// The contents of a DER value of less than 128 bytes, with nothing after its end.
fn contents(value: &[u8], tag: u8) -> Option<&[u8]> {
    match value {
        [first, length, contents @ ..]
            if *first == tag && *length < 0x80 && contents.len() == usize::from(*length) =>
        {
            Some(contents)
        }
        _ => None,
    }
}

fn text(value: &[u8]) -> Option<&str> {
    let contents = contents(value, IA5_STRING).or_else(|| contents(value, UTF8_STRING))?;
    str::from_utf8(contents).ok().filter(|text| text.bytes().all(|c| c.is_ascii_graphic() || c == b' '))
}

/// An INTEGER of 0 to 255.
fn small_integer(value: &[u8]) -> Option<u8> {
    match contents(value, INTEGER)? {
        [level @ 0..=0x7f] | [0, level @ 0x80..=0xff] => Some(*level),
        _ => None,
    }
}

/// The hardware id: 64 bytes, 8 of Turin. Older certificates have the bare bytes as the extension's value.
fn octets(value: &[u8], generation: Generation) -> Option<&[u8]> {
    let length = match generation {
        Generation::Milan | Generation::Genoa => 64,
        Generation::Turin => 8,
    };
    contents(value, OCTET_STRING).or(Some(value)).filter(|id| id.len() == length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_one_spelling() {
        assert_eq!(small_integer(&[2, 1, 0x7f]), Some(0x7f));
        assert_eq!(small_integer(&[2, 2, 0, 0xd9]), Some(0xd9));
        for wrong in
            [&[2, 1, 0xd9][..], &[2, 2, 0, 1], &[2, 2, 1, 0], &[2, 0], &[2, 1, 1, 0], &[4, 1, 1], &[]]
        {
            assert_eq!(small_integer(wrong), None, "{wrong:?}");
        }
    }
}
