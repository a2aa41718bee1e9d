//! The platform's certificate (PCK): whether it belongs to a quote, and what Intel certifies of the platform.
//!
//! Source: Intel, "SGX PCK Certificate and Certificate Revocation List Profile Specification" rev. 1.5 §1.3.5.

use x509_parser::asn1_rs::{Oid, oid};

use super::quote::Quote;
use crate::reason::{Reason, Refusal};
use crate::x509::{Certificate, Element};

const SGX_EXTENSION: Oid<'static> = oid!(1.2.840.113741.1.13.1);
/// The same name as DER has it; those of its members begin so.
const PREFIX: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01];

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

/// A platform at one level, as its certificate names it.
pub(crate) struct Platform {
    /// The kind of platform: processor and configuration.
    pub(crate) fmspc: [u8; 6],
    /// The enclave that certifies.
    pub(super) pce_id: [u8; 2],
    pub(super) ppid: [u8; 16],
    pub(super) instance_id: Option<[u8; 16]>,
    /// Security versions of the parts that TCB info numbers.
    pub(super) components: [u8; 16],
    pub(super) pce_svn: u16,
    /// The processor's spelling of the same.
    pub(super) cpu_svn: [u8; 16],
    pub(super) dynamic: Option<bool>,
    pub(super) cached_keys: Option<bool>,
    pub(super) smt: Option<bool>,
}

/// The certificate of the key that signed a quote's QE report.
pub(crate) struct Pck<'a> {
    pub(crate) certificate: Certificate<'a>,
    pub(crate) platform: Platform,
}

impl<'a> Pck<'a> {
    /// Finds it among certificates of every kind.
    pub(crate) fn find(
        quote: &Quote<'_>,
        candidates: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Self, Refusal> {
        let mut refusal = Reason::TdxCertificateMissing.into();
        for der in candidates {
            let certificate = Certificate::parse(der)?;
            let Some(extension) = certificate.extension(&SGX_EXTENSION) else { continue };
            if !certificate.p256_key().is_some_and(|key| quote.is_certified_by(&key)) {
                refusal = Reason::TdxQeSignature.because(certificate.name());
                continue;
            }
            let Some(platform) = Platform::parse(extension) else {
                return Err(Reason::TdxCertificateMalformed.because(certificate.name()));
            };
            return Ok(Self { certificate, platform });
        }
        Err(refusal)
    }
}

impl Platform {
    fn parse(extension: &[u8]) -> Option<Self> {
        let outer =
            Element::read(extension).filter(|outer| outer.tag == SEQUENCE && outer.after.is_empty())?;
        let members = Members::read(outer.contents, &[])?;
        let levels = Members::read(members.of(2, SEQUENCE)?, &[2])?;
        let settings = match members.of(7, SEQUENCE) {
            Some(settings) => Members::read(settings, &[7])?,
            None => Members(Vec::new()),
        };
        let mut components = [0; 16];
        for (number, component) in (1..).zip(&mut components) {
            *component = u8::try_from(levels.number(number)?).ok()?;
        }
        Some(Self {
            fmspc: members.of(4, OCTET_STRING)?.try_into().ok()?,
            pce_id: members.of(3, OCTET_STRING)?.try_into().ok()?,
            ppid: members.of(1, OCTET_STRING)?.try_into().ok()?,
            instance_id: members.of(6, OCTET_STRING).map(TryInto::try_into).transpose().ok()?,
            components,
            pce_svn: levels.number(17)?,
            cpu_svn: levels.of(18, OCTET_STRING)?.try_into().ok()?,
            dynamic: settings.truth(1),
            cached_keys: settings.truth(2),
            smt: settings.truth(3),
        })
    }
}

/// Values by the last number of their names.
struct Members<'a>(Vec<(u8, Element<'a>)>);

impl<'a> Members<'a> {
    /// Reads pairs of name and value, of which every name is [`PREFIX`], `path` and one number more. Nothing if
    /// there is another name, a name twice, or anything but pairs.
    fn read(mut bytes: &'a [u8], path: &[u8]) -> Option<Self> {
        let mut members: Vec<(u8, Element<'a>)> = Vec::new();
        while !bytes.is_empty() {
            let pair = Element::read(bytes).filter(|pair| pair.tag == SEQUENCE)?;
            let name = Element::read(pair.contents).filter(|name| name.tag == OBJECT_IDENTIFIER)?;
            let value = Element::read(name.after).filter(|value| value.after.is_empty())?;
            let [number] = name.contents.strip_prefix(PREFIX)?.strip_prefix(path)? else { return None };
            if members.iter().any(|(other, _)| other == number) {
                return None;
            }
            members.push((*number, value));
            bytes = pair.after;
        }
        Some(Self(members))
    }

    /// What the value of this number and type holds.
    fn of(&self, number: u8, tag: u8) -> Option<&'a [u8]> {
        let (_, value) = self.0.iter().find(|(found, _)| *found == number)?;
        (value.tag == tag).then_some(value.contents)
    }

    /// An INTEGER of 0 to 65535.
    fn number(&self, number: u8) -> Option<u16> {
        match *self.of(number, INTEGER)? {
            [low @ 0..=0x7f] | [0, low @ 0x80..=0xff] => Some(low.into()),
            [high @ 1..=0x7f, low] | [0, high @ 0x80..=0xff, low] => Some(u16::from_be_bytes([high, low])),
            _ => None,
        }
    }

    fn truth(&self, number: u8) -> Option<bool> {
        match self.of(number, BOOLEAN)? {
            [0] => Some(false),
            [0xff] => Some(true),
            _ => None,
        }
    }
}
