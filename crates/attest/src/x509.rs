//! Certificates and revocation lists, with the parts of path validation that a maker's short chain needs.
//!
//! Signatures are RSA-PSS with SHA-384 by keys of 4096 bits (AMD) or ECDSA with SHA-256 by keys of P-256 (Intel), and
//! nothing else is accepted. Clouds have their certificates from CAs of the web, whose signatures are another table.
//! The building blocks are here; which certificate may stand where is said by each kind of evidence.
//!
//! Source: RFC 5280 §4, §5; RFC 4055 §3.1 (parameters of RSA-PSS); RFC 5758 §3.2 (ECDSA).

use keyhearth_crypto::algorithm::{Algorithm, Mechanism};
use keyhearth_crypto::key::{Input, PublicKey};
use x509_parser::asn1_rs::{Oid, oid};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, X509Extension};
use x509_parser::oid_registry::{
    OID_NIST_HASH_SHA384, OID_PKCS1_RSASSAPSS, OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA,
    OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384,
    OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_EXTENDED_KEY_USAGE, OID_X509_EXT_KEY_USAGE,
    OID_X509_EXT_NAME_CONSTRAINTS, OID_X509_EXT_SUBJECT_ALT_NAME,
};
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::signature_algorithm::RsaSsaPssParams;
use x509_parser::time::ASN1Time;
use x509_parser::x509::{AlgorithmIdentifier, X509Name};

use crate::claims::printable;
use crate::reason::{Reason, Refusal};
use crate::tdx::STATEMENT_SIGNER;

const MGF1: Oid<'static> = oid!(1.2.840.113549.1.1.8);
const ISSUING_DISTRIBUTION_POINT: Oid<'static> = oid!(2.5.29.28);
const SHA384_BYTES: u32 = 48;

const RSA: &[Algorithm] = &[Algorithm::Rsa2048, Algorithm::Rsa3072, Algorithm::Rsa4096];

/// What CAs of the web sign with, and which keys do.
///
/// Source: RFC 8017 §8.2, RFC 5758 §3.2.
const OF_WEB: &[(Oid<'static>, Mechanism, &[Algorithm])] = &[
    (OID_PKCS1_SHA256WITHRSA, Mechanism::RsaPkcs1Sha256, RSA),
    (OID_PKCS1_SHA384WITHRSA, Mechanism::RsaPkcs1Sha384, RSA),
    (OID_PKCS1_SHA512WITHRSA, Mechanism::RsaPkcs1Sha512, RSA),
    (OID_SIG_ECDSA_WITH_SHA256, Mechanism::EcdsaSha256, &[Algorithm::EcP256]),
    (OID_SIG_ECDSA_WITH_SHA384, Mechanism::EcdsaSha384, &[Algorithm::EcP384]),
];

/// Critical extensions that are understood in makers' chains.
const KNOWN: &[Oid<'static>] = &[OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_KEY_USAGE];
/// Those that are understood in paths of the web.
const KNOWN_OF_WEB: &[Oid<'static>] = &[
    OID_X509_EXT_BASIC_CONSTRAINTS,
    OID_X509_EXT_KEY_USAGE,
    OID_X509_EXT_EXTENDED_KEY_USAGE,
    OID_X509_EXT_NAME_CONSTRAINTS,
    OID_X509_EXT_SUBJECT_ALT_NAME,
];

pub(crate) fn is_certificate(der: &[u8]) -> bool {
    Certificate::parse(der).is_ok()
}

pub(crate) fn is_list(der: &[u8]) -> bool {
    List::parse(der).is_ok()
}

/// A certificate of which nothing is believed yet.
pub(crate) struct Certificate<'a> {
    inner: X509Certificate<'a>,
}

impl<'a> Certificate<'a> {
    /// Reads DER, with nothing after its end.
    pub(crate) fn parse(der: &'a [u8]) -> Result<Self, Refusal> {
        match X509Certificate::from_der(der) {
            Ok(([], inner)) if has_one_spelling(der) => Ok(Self { inner }),
            Ok(_) | Err(_) => Err(Reason::EndorsementMalformed.because("not one certificate in DER")),
        }
    }

    /// The subject's common name, for people.
    pub(crate) fn name(&self) -> String {
        common_name(self.inner.subject())
    }

    /// The issuer's common name, for people.
    pub(crate) fn issuer_name(&self) -> String {
        common_name(self.inner.issuer())
    }

    /// When it begins and ends, in seconds since 1970.
    pub(crate) fn dates_s(&self) -> [u64; 2] {
        let validity = self.inner.validity();
        [seconds(validity.not_before), seconds(validity.not_after)]
    }

    /// The public key as `SubjectPublicKeyInfo`.
    pub(crate) fn spki(&self) -> &[u8] {
        self.inner.public_key().raw
    }

    /// Whether `issuer` bears the name that this certificate gives its issuer.
    pub(crate) fn names_issuer(&self, issuer: &Certificate<'_>) -> bool {
        self.inner.issuer().as_raw() == issuer.inner.subject().as_raw()
    }

    /// The value of the extension `oid`, if there is exactly one.
    pub(crate) fn extension(&self, oid: &Oid<'_>) -> Option<&'a [u8]> {
        self.inner.get_extension_unique(oid).ok().flatten().map(|extension| extension.value)
    }

    /// The public key, which must be one of P-384.
    pub(crate) fn p384_key(&self) -> Option<PublicKey> {
        PublicKey::from_der(Algorithm::EcP384, self.inner.public_key().raw).ok()
    }

    /// The public key, which must be one of P-256.
    pub(crate) fn p256_key(&self) -> Option<PublicKey> {
        PublicKey::from_der(Algorithm::EcP256, self.inner.public_key().raw).ok()
    }

    /// The public key, which must be one of RSA with 2048, 3072 or 4096 bits.
    pub(crate) fn rsa_key(&self) -> Option<PublicKey> {
        let key = |size: &Algorithm| PublicKey::from_der(*size, self.inner.public_key().raw).ok();
        RSA.iter().find_map(key)
    }

    /// The host names that it is for.
    pub(crate) fn host_names(&self) -> Vec<&str> {
        let names = self.inner.subject_alternative_name().ok().flatten();
        let names = names.iter().flat_map(|extension| &extension.value.general_names);
        let host =
            |name: &GeneralName<'a>| if let GeneralName::DNSName(name) = name { Some(*name) } else { None };
        names.filter_map(host).collect()
    }

    /// Whether so many issuers may stand between this one and the last certificate.
    pub(crate) fn allows_below(&self, issuers: usize) -> bool {
        let constraints = self.inner.basic_constraints().ok().flatten();
        let most = constraints.and_then(|found| found.value.path_len_constraint);
        most.is_none_or(|most| u32::try_from(issuers).is_ok_and(|issuers| issuers <= most))
    }

    /// Checks that the certificate is valid at a time in seconds since 1970; both ends are included.
    pub(crate) fn check_dates(&self, now_s: u64) -> Result<(), Refusal> {
        let validity = self.inner.validity();
        let now_s = i64::try_from(now_s).unwrap_or(i64::MAX);
        if now_s < validity.not_before.timestamp() {
            let detail = format!("{} begins at {}", self.name(), rfc3339(validity.not_before));
            return Err(Reason::CertificateNotYetValid.because(detail));
        }
        if now_s > validity.not_after.timestamp() {
            let detail = format!("{} ended at {}", self.name(), rfc3339(validity.not_after));
            return Err(Reason::CertificateExpired.because(detail));
        }
        Ok(())
    }

    /// Whether it is an issuer's, or of a key that signs Intel's statements.
    pub(crate) fn vouches(&self) -> bool {
        self.check_use(true).is_ok() || self.name() == STATEMENT_SIGNER
    }

    /// Checks that the certificate asks for nothing unknown (critical extensions) and, if it is to be an issuer,
    /// that it may be one.
    pub(crate) fn check_use(&self, as_issuer: bool) -> Result<(), Refusal> {
        self.check_place(as_issuer, KNOWN)
    }

    /// The same for a path of the web to a server's certificate: whatever says what it is for must be for servers, and
    /// the server's key for signatures. [`Self::check_names`] is the rest.
    ///
    /// Source: RFC 5280 §4.2.1.3, §4.2.1.12. What an issuer is for bounds all below it, as browsers have it.
    pub(crate) fn check_use_for_web(&self, as_issuer: bool) -> Result<(), Refusal> {
        self.check_place(as_issuer, KNOWN_OF_WEB)?;
        let purposes =
            self.inner.extended_key_usage().map_err(|_| self.unfit("purposes that cannot be read"))?;
        if purposes.is_some_and(|purposes| !purposes.value.server_auth && !purposes.value.any) {
            return Err(self.unfit("not for servers"));
        }
        let usage = self.inner.key_usage().map_err(|_| self.unfit("repeated extensions"))?;
        if !as_issuer && usage.is_some_and(|usage| !usage.value.digital_signature()) {
            return Err(self.unfit("its key must not sign"));
        }
        Ok(())
    }

    /// Checks that the constraints of names that this issuer has, if it has some, allow what `below` is for. Those of hosts
    /// are judged; an issuer that is constrained in anything else but addresses is unfit, and so is one with constraints
    /// above names that are none of hosts.
    pub(crate) fn check_names(&self, below: &Certificate<'_>) -> Result<(), Refusal> {
        let found = self.inner.get_extension_unique(&OID_X509_EXT_NAME_CONSTRAINTS);
        let Some(extension) = found.map_err(|_| self.unfit("repeated extensions"))? else { return Ok(()) };
        let constraints = Constraints::read(extension.value);
        let constraints = constraints.ok_or_else(|| self.unfit("constraints of names that are not known"))?;
        let names = below.inner.subject_alternative_name();
        let names = names.map_err(|_| below.unfit("names that cannot be read"))?;
        for name in names.iter().flat_map(|extension| &extension.value.general_names) {
            let is_allowed =
                if let GeneralName::DNSName(host) = name { constraints.allow(host) } else { false };
            if !is_allowed {
                return Err(self.unfit(&format!("must not vouch for {}", printable(&name.to_string()))));
            }
        }
        Ok(())
    }

    fn unfit(&self, what: &str) -> Refusal {
        Reason::CertificateUnfit.because(format!("{}: {what}", self.name()))
    }

    fn check_place(&self, as_issuer: bool, known: &[Oid<'_>]) -> Result<(), Refusal> {
        let unfit = |what: &str| self.unfit(what);
        if critical(self.inner.extensions()).any(|oid| !known.contains(oid)) {
            return Err(unfit("an unknown critical extension"));
        }
        let constraints = self.inner.basic_constraints().map_err(|_| unfit("repeated extensions"))?;
        let usage = self.inner.key_usage().map_err(|_| unfit("repeated extensions"))?;
        if constraints.is_some_and(|constraints| constraints.value.ca) != as_issuer {
            return Err(unfit(if as_issuer { "not a certificate of an issuer" } else { "an issuer's" }));
        }
        if as_issuer && usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
            return Err(unfit("must not sign certificates"));
        }
        Ok(())
    }

    /// Checks that the holder of this certificate signed `issued`.
    pub(crate) fn check_signed(&self, issued: &Certificate<'_>) -> Result<(), Refusal> {
        let certificate = &issued.inner;
        let signature = &certificate.signature_value.data;
        let verified =
            self.verify(&certificate.signature_algorithm, certificate.tbs_certificate.as_ref(), signature);
        verified.ok_or_else(|| {
            let detail = format!("{} is not signed by the given {}", issued.name(), self.name());
            Reason::CertificateSignature.because(detail)
        })
    }

    /// Checks that the holder of this certificate signed `issued`, as CAs of the web sign.
    pub(crate) fn check_signed_for_web(&self, issued: &Certificate<'_>) -> Result<(), Refusal> {
        let certificate = &issued.inner;
        let row = OF_WEB.iter().find(|(oid, ..)| *oid == certificate.signature_algorithm.algorithm);
        let verified = row.is_some_and(|(_, mechanism, keys)| {
            let message = Input::Message(certificate.tbs_certificate.as_ref());
            let signed_by = |key: &Algorithm| {
                let key = PublicKey::from_der(*key, self.inner.public_key().raw);
                key.is_ok_and(|key| {
                    key.verify(*mechanism, message, &certificate.signature_value.data).is_ok()
                })
            };
            keys.iter().any(signed_by)
        });
        let detail = || format!("{} is not signed by the given {}", issued.name(), self.name());
        if verified { Ok(()) } else { Err(Reason::CertificateSignature.because(detail())) }
    }

    fn verify(&self, algorithm: &AlgorithmIdentifier<'_>, message: &[u8], signature: &[u8]) -> Option<()> {
        let (key, mechanism) = if is_pss_sha384(algorithm) {
            (Algorithm::Rsa4096, Mechanism::RsaPssSha384)
        } else if is_ecdsa_sha256(algorithm) {
            (Algorithm::EcP256, Mechanism::EcdsaSha256)
        } else {
            return None;
        };
        let key = PublicKey::from_der(key, self.inner.public_key().raw).ok()?;
        key.verify(mechanism, Input::Message(message), signature).ok()
    }
}

/// What hosts an issuer may vouch for.
///
/// Source: RFC 5280 §4.2.1.10.
struct Constraints<'a> {
    permitted: Vec<&'a str>,
    excluded: Vec<&'a str>,
}

impl<'a> Constraints<'a> {
    /// Reads the extension's value; nothing if it is of more than hosts and addresses.
    fn read(value: &'a [u8]) -> Option<Self> {
        let all = Element::read(value).filter(|all| all.tag == SEQUENCE && all.after.is_empty())?;
        let (mut constraints, mut rest) =
            (Self { permitted: Vec::new(), excluded: Vec::new() }, all.contents);
        for (tag, hosts) in [(PERMITTED, &mut constraints.permitted), (EXCLUDED, &mut constraints.excluded)] {
            let Some(subtrees) = Element::read(rest).filter(|subtrees| subtrees.tag == tag) else { continue };
            rest = subtrees.after;
            let mut subtrees = subtrees.contents;
            while !subtrees.is_empty() {
                let subtree = Element::read(subtrees).filter(|subtree| subtree.tag == SEQUENCE)?;
                subtrees = subtree.after;
                // Neither a minimum nor a maximum follows.
                let base = Element::read(subtree.contents).filter(|base| base.after.is_empty())?;
                match base.tag {
                    HOST => hosts.push(std::str::from_utf8(base.contents).ok()?),
                    ADDRESS => {}
                    _ => return None,
                }
            }
        }
        rest.is_empty().then_some(constraints)
    }

    /// Whether a host, or all that a name with `*` stands for, may be vouched for.
    fn allow(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let permitted = self.permitted.is_empty() || self.permitted.iter().any(|above| permits(above, &host));
        permitted && !self.excluded.iter().any(|above| excludes(above, &host))
    }
}

/// Whether a permitted name is the host's or above it; one that begins with a dot is above alone.
fn permits(above: &str, host: &str) -> bool {
    let above = above.to_ascii_lowercase();
    match above.strip_prefix('.') {
        Some(above) => is_below(host, above),
        None => above.is_empty() || above == host || is_below(host, &above),
    }
}

/// Whether an excluded name is the host's, above it, or among those that its `*` stands for.
fn excludes(above: &str, host: &str) -> bool {
    let above = above.to_ascii_lowercase();
    let above = above.trim_matches('.');
    let host = host.trim_end_matches('.');
    let among = |stem: &str| above == stem || is_below(above, stem);
    above.is_empty() || above == host || is_below(host, above) || host.strip_prefix("*.").is_some_and(among)
}

fn is_below(host: &str, above: &str) -> bool {
    host.strip_suffix(above).is_some_and(|labels| labels.len() > 1 && labels.ends_with('.'))
}

/// A revocation list of which nothing is believed yet.
pub(crate) struct List<'a> {
    inner: CertificateRevocationList<'a>,
}

impl<'a> List<'a> {
    /// Reads DER, with nothing after its end. Lists that only state changes are not taken.
    pub(crate) fn parse(der: &'a [u8]) -> Result<Self, Refusal> {
        let inner = match CertificateRevocationList::from_der(der) {
            Ok(([], inner)) if has_one_spelling(der) => inner,
            Ok(_) | Err(_) => {
                return Err(Reason::EndorsementMalformed.because("not one revocation list in DER"));
            }
        };
        if critical(inner.extensions()).any(|oid| *oid != ISSUING_DISTRIBUTION_POINT) {
            return Err(Reason::EndorsementMalformed.because("a list with an unknown critical extension"));
        }
        Ok(Self { inner })
    }

    /// The issuer's common name, for people.
    pub(crate) fn issuer_name(&self) -> String {
        common_name(self.inner.issuer())
    }

    /// When it begins and ends, in seconds since 1970. One without an end ends as it begins.
    pub(crate) fn dates_s(&self) -> [u64; 2] {
        let begin = self.inner.last_update();
        [begin, self.inner.next_update().unwrap_or(begin)].map(seconds)
    }

    /// Whether the list says that it is from `issuer`.
    pub(crate) fn names_issuer(&self, issuer: &Certificate<'_>) -> bool {
        self.inner.issuer().as_raw() == issuer.inner.subject().as_raw()
    }

    /// Checks that `issuer` signed the list and may do so.
    pub(crate) fn check_signed(&self, issuer: &Certificate<'_>) -> Result<(), Refusal> {
        let list = &self.inner;
        let allowed = issuer.inner.key_usage().ok().flatten().is_none_or(|usage| usage.value.crl_sign());
        let signature = &list.signature_value.data;
        let signed = issuer.verify(&list.signature_algorithm, list.tbs_cert_list.as_ref(), signature);
        signed.filter(|()| allowed).ok_or_else(|| Reason::ListSignature.because(issuer.name()))
    }

    /// Whether the list names the certificate's serial number.
    ///
    /// Who issued that certificate is not compared: AMD has one list for a whole generation.
    pub(crate) fn revokes(&self, certificate: &Certificate<'_>) -> bool {
        let serial = &certificate.inner.tbs_certificate.serial;
        self.inner.iter_revoked_certificates().any(|revoked| revoked.serial() == serial)
    }

    /// Whether the list is in force at a time in seconds since 1970. One without an end is not.
    pub(crate) fn is_current(&self, now_s: u64) -> bool {
        let now_s = i64::try_from(now_s).unwrap_or(i64::MAX);
        let begun = self.inner.last_update().timestamp() <= now_s;
        begun && self.inner.next_update().is_some_and(|end| now_s <= end.timestamp())
    }

    /// When it is in force, for people.
    pub(crate) fn dates(&self) -> String {
        let end = self.inner.next_update().map_or_else(|| "no end".to_owned(), rfc3339);
        format!("{} to {end}", rfc3339(self.inner.last_update()))
    }
}

fn critical<'a>(extensions: &'a [X509Extension<'_>]) -> impl Iterator<Item = &'a Oid<'a>> {
    extensions.iter().filter(|extension| extension.critical).map(|extension| &extension.oid)
}

fn common_name(name: &X509Name<'_>) -> String {
    let first = name.iter_common_name().next().and_then(|name| name.as_str().ok());
    first.map_or_else(|| "a certificate without a name".to_owned(), printable)
}

/// A time in seconds since 1970; 0 before.
fn seconds(time: ASN1Time) -> u64 {
    u64::try_from(time.timestamp()).unwrap_or(0)
}

/// A time in UTC to the second as RFC 3339 writes it (`2025-06-19T10:16:03Z`), in seconds since 1970.
///
/// Source: the calendar of RFC 3339 §5.6, counted in years that begin in March, whose leap day is the last.
pub(crate) fn seconds_of(text: &str) -> Option<u64> {
    let shape = text.bytes().map(|byte| if byte.is_ascii_digit() { b'0' } else { byte });
    if !shape.eq(*b"0000-00-00T00:00:00Z") {
        return None;
    }
    let number = |from: usize, to: usize| text[from..to].parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day;
    let clock = number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
    Some(days.checked_sub(DAYS_TO_1970)? * 86_400 + clock)
}

/// From the first of March of the year 0, counted from 1.
const DAYS_TO_1970: u64 = 719_469;

/// A time in seconds since 1970, as RFC 3339 writes it; nothing beyond the year 9999.
pub(crate) fn rfc3339_of(time_s: u64) -> Option<String> {
    let time = ASN1Time::from_timestamp(i64::try_from(time_s).ok()?).ok()?;
    Some(rfc3339(time)).filter(|text| text.len() == "0000-00-00T00:00:00Z".len())
}

fn rfc3339(time: ASN1Time) -> String {
    let time = time.to_datetime();
    let (date, clock) = (time.date(), time.time());
    format!("{date}T{:02}:{:02}:{:02}Z", clock.hour(), clock.minute(), clock.second())
}

/// Whether what no signature covers is spelled as DER spells it: the algorithm in the same bytes as in the signed
/// part, where it is the first sequence, and a signature of whole bytes. The parser takes other tags there too.
fn has_one_spelling(der: &[u8]) -> bool {
    let spelled = || {
        let outer = Element::read(der).filter(|outer| outer.tag == SEQUENCE && outer.after.is_empty())?;
        let signed = Element::read(outer.contents).filter(|signed| signed.tag == SEQUENCE)?;
        let mut inside = Element::read(signed.contents)?;
        while inside.tag != SEQUENCE {
            inside = Element::read(inside.after)?;
        }
        let signature = Element::read(signed.after.strip_prefix(inside.whole)?)?;
        Some(
            signature.tag == BIT_STRING && signature.contents.starts_with(&[0]) && signature.after.is_empty(),
        )
    };
    spelled().unwrap_or(false)
}

const BIT_STRING: u8 = 0x03;
const SEQUENCE: u8 = 0x30;
/// Subtrees of names, and two kinds of names.
const PERMITTED: u8 = 0xa0;
const EXCLUDED: u8 = 0xa1;
const HOST: u8 = 0x82;
const ADDRESS: u8 = 0x87;

/// A DER value, and what follows it.
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) whole: &'a [u8],
    pub(crate) contents: &'a [u8],
    pub(crate) after: &'a [u8],
}

impl<'a> Element<'a> {
    /// Reads the first value; lengths have at most three bytes, and no more than they need.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (header, length) = match *bytes {
            [_, length @ 0..=0x7f, ..] => (2, usize::from(length)),
            [_, 0x81, length @ 0x80..=0xff, ..] => (3, usize::from(length)),
            [_, 0x82, high @ 1..=0xff, low, ..] => (4, usize::from(high) << 8 | usize::from(low)),
            [_, 0x83, top @ 1..=0xff, high, low, ..] => {
                (5, usize::from(top) << 16 | usize::from(high) << 8 | usize::from(low))
            }
            _ => return None,
        };
        let (whole, after) = bytes.split_at_checked(header + length)?;
        Some(Self { tag: bytes[0], whole, contents: &whole[header..], after })
    }
}

/// The first of `candidates` that bears the issuer's name, may issue, signed `issued` and passes `check`, with its
/// place among them. Otherwise the refusal that got furthest; `missing` if none bears the name.
pub(crate) fn find_issuer<'a>(
    issued: &Certificate<'_>,
    candidates: impl Iterator<Item = &'a [u8]>,
    missing: Refusal,
    check: impl Fn(usize) -> Result<(), Refusal>,
) -> Result<(usize, Certificate<'a>), Refusal> {
    let mut refusal = missing;
    for (index, der) in candidates.enumerate() {
        let candidate = Certificate::parse(der)?;
        if !issued.names_issuer(&candidate) {
            continue;
        }
        let checked = candidate.check_use(true).and_then(|()| candidate.check_signed(issued));
        match checked.and_then(|()| check(index)) {
            Ok(()) => return Ok((index, candidate)),
            Err(tried) => refusal = tried,
        }
    }
    Err(refusal)
}

fn is_ecdsa_sha256(algorithm: &AlgorithmIdentifier<'_>) -> bool {
    algorithm.algorithm == OID_SIG_ECDSA_WITH_SHA256 && algorithm.parameters.is_none()
}

/// RSASSA-PSS with SHA-384 for the message and the mask, and a salt as long as the hash.
fn is_pss_sha384(algorithm: &AlgorithmIdentifier<'_>) -> bool {
    if algorithm.algorithm != OID_PKCS1_RSASSAPSS {
        return false;
    }
    let Some(Ok(parameters)) = algorithm.parameters.as_ref().map(RsaSsaPssParams::try_from) else {
        return false;
    };
    let mask = parameters.mask_gen_algorithm();
    *parameters.hash_algorithm_oid() == OID_NIST_HASH_SHA384
        && mask.is_ok_and(|mask| mask.mgf == MGF1 && mask.hash == OID_NIST_HASH_SHA384)
        && parameters.salt_length() == SHA384_BYTES
        && parameters.trailer_field() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subtrees(tag: u8, bases: &[(u8, &str)]) -> Vec<u8> {
        let value =
            |tag: u8, contents: &[u8]| [&[tag, u8::try_from(contents.len()).unwrap()], contents].concat();
        let each = bases.iter().map(|(kind, base)| value(SEQUENCE, &value(*kind, base.as_bytes())));
        let subtrees = value(tag, &each.collect::<Vec<_>>().concat());
        value(SEQUENCE, &subtrees)
    }

    #[test]
    fn hosts_are_within_their_constraints_or_refused() {
        for (permitted, host, expected) in [
            ("example.com", "example.com", true),
            ("example.com", "a.EXAMPLE.com", true),
            ("Example.com", "*.a.example.com", true),
            ("example.com", "anexample.com", false),
            ("example.com", "com", false),
            ("example.com", "*.com", false),
            (".example.com", "a.example.com", true),
            (".example.com", "example.com", false),
            (".example.com", ".example.com", false),
            ("", "example.com", true),
        ] {
            let value = subtrees(PERMITTED, &[(ADDRESS, "addr"), (HOST, permitted)]);
            let constraints = Constraints::read(&value).unwrap();
            assert_eq!(constraints.allow(host), expected, "{permitted} permits {host}");
        }
        for (excluded, host, expected) in [
            ("a.example.com", "b.example.com", true),
            ("a.example.com", "example.com", true),
            ("a.example.com", "A.example.com", false),
            ("a.example.com", "1.a.example.com", false),
            ("a.example.com", "a.example.com.", false),
            ("a.example.com", "*.example.com", false),
            ("b.a.example.com", "*.example.com", false),
            ("example.com", "*.example.com", false),
            (".example.com", "example.com", false),
            ("", "example.com", false),
        ] {
            let value = subtrees(EXCLUDED, &[(HOST, excluded)]);
            let constraints = Constraints::read(&value).unwrap();
            assert_eq!(constraints.allow(host), expected, "{excluded} excludes {host}");
        }
        // Constraints of addresses say nothing of hosts.
        let value = subtrees(PERMITTED, &[(ADDRESS, "addr")]);
        assert!(Constraints::read(&value).unwrap().allow("example.com"));
    }

    #[test]
    fn constraints_that_cannot_be_judged_are_not_read() {
        let directory = subtrees(PERMITTED, &[(HOST, "example.com"), (0xa4, "")]);
        let mut with_minimum = subtrees(PERMITTED, &[(HOST, "a")]);
        with_minimum.extend([0x80, 1, 1]);
        for place in [1, 3, 5] {
            with_minimum[place] += 3;
        }
        let turned = [
            &[SEQUENCE, 18][..],
            &subtrees(EXCLUDED, &[(HOST, "abc")])[2..],
            &subtrees(PERMITTED, &[(HOST, "abc")])[2..],
        ];
        for value in
            [&directory[..], &with_minimum, &turned.concat(), &[], &[SEQUENCE], &[SEQUENCE, 1, PERMITTED]]
        {
            assert!(Constraints::read(value).is_none(), "{value:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_constraints_are_read_or_not(value in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..60)) {
            if let Some(constraints) = Constraints::read(&value) {
                constraints.allow("*.example.com");
            }
        }
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        for time_s in [0, 86_399, 951_782_400, 951_868_800, 1_751_328_000, 4_107_542_399, 253_402_300_799] {
            let text = rfc3339_of(time_s).unwrap();
            assert_eq!(seconds_of(&text), Some(time_s), "{text}");
        }
        for wrong in ["", "2025-06-19", "2025-06-19T10:16:03", "2025-06-19t10:16:03Z", "0000-01-01T00:00:00Z"]
        {
            assert_eq!(seconds_of(wrong), None, "{wrong}");
        }
    }
}
