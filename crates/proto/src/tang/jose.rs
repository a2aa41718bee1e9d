//! The JOSE that Tang carries: public keys on P-521, their thumbprints, and the signed set of them.
//!
//! Source: RFC 7515 (JWS), RFC 7517 (JWK), RFC 7518 §3.4 and §6.2.1 (ES512, EC keys), RFC 7638 (thumbprints).

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyhearth_core::Error;
use keyhearth_crypto::digest::{sha1, sha256};
use keyhearth_crypto::key::POINT_BYTES;
use serde::Deserialize;
use serde_json::{Value, json};

/// Media type of an advertisement.
pub const ADVERTISEMENT_TYPE: &str = "application/jose+json";
/// Media type of a point.
pub const POINT_TYPE: &str = "application/jwk+json";

/// Bytes of a coordinate on P-521.
const COORDINATE_BYTES: usize = POINT_BYTES / 2;
/// What precedes the point in a `SubjectPublicKeyInfo` of P-521 (RFC 5480 §2.1.1).
const SPKI_PREFIX: &[u8] =
    b"\x30\x81\x9b\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x23\x03\x81\x86\x00";
/// The algorithm of keys that sign.
const ES512: &str = "ES512";
/// The algorithm of keys that exchange.
const ECMR: &str = "ECMR";

/// A point that has the form of one on P-521; whether it is one, whoever multiplies it finds out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point([u8; POINT_BYTES]);

/// A public key as a body spells it. Members that are not of the point are nobody's business, as with tangd.
#[derive(Deserialize)]
struct Jwk<'a> {
    #[serde(borrow)]
    kty: Cow<'a, str>,
    #[serde(borrow)]
    crv: Cow<'a, str>,
    #[serde(borrow)]
    x: Cow<'a, str>,
    #[serde(borrow)]
    y: Cow<'a, str>,
    #[serde(default, borrow)]
    alg: Option<Cow<'a, str>>,
    #[serde(default)]
    key_ops: Option<Vec<String>>,
}

impl Point {
    /// Reads the body of a recovery.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is no JWK of an EC key on P-521, or one that is not for deriving.
    pub fn read(body: &[u8]) -> Result<Self, Error> {
        let invalid = |field, rule| Err(Error::Invalid { field, rule });
        // A list of the members' values would be read as well.
        let is_object = body.trim_ascii_start().starts_with(b"{");
        let Some(jwk) = serde_json::from_slice::<Jwk<'_>>(body).ok().filter(|_| is_object) else {
            return invalid("body", "must be a JWK with `kty`, `crv`, `x` and `y`, each of them once");
        };
        if jwk.kty != "EC" || jwk.crv != "P-521" {
            return invalid("crv", "must be P-521, and `kty` EC");
        }
        if jwk.alg.is_some_and(|alg| alg != ECMR) {
            return invalid("alg", "must be ECMR, or absent");
        }
        if jwk.key_ops.is_some_and(|uses| uses.iter().all(|one| one != "deriveKey")) {
            return invalid("key_ops", "must have `deriveKey`, or be absent");
        }
        let mut point = [4; POINT_BYTES];
        let (x, y) = point[1..].split_at_mut(COORDINATE_BYTES);
        for (field, text, place) in [("x", jwk.x, x), ("y", jwk.y, y)] {
            if URL_SAFE_NO_PAD.decode_slice(&*text, place) != Ok(COORDINATE_BYTES) {
                return invalid(field, "must be 66 bytes as base64url without padding");
            }
        }
        Ok(Self(point))
    }

    /// The point of a public key in DER; `None` for keys that are not on P-521.
    #[must_use]
    pub fn of_public_key(der: &[u8]) -> Option<Self> {
        let point: [u8; POINT_BYTES] = der.strip_prefix(SPKI_PREFIX)?.try_into().ok()?;
        Self::of_bytes(&point)
    }

    /// The point in its uncompressed form, 4 and its coordinates; `None` for every other form.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let point: [u8; POINT_BYTES] = bytes.try_into().ok()?;
        (point[0] == 4).then_some(Self(point))
    }

    /// Its uncompressed form (SEC 1 §2.3.3).
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The body of the answer to a recovery that gave this point.
    #[must_use]
    pub fn reply(&self) -> Vec<u8> {
        self.jwk(ECMR, "deriveKey").to_string().into_bytes()
    }

    /// Its thumbprints.
    #[must_use]
    pub fn thumbprints(&self) -> Thumbprints {
        let [x, y] = self.coordinates();
        let canonical = format!(r#"{{"crv":"P-521","kty":"EC","x":"{x}","y":"{y}"}}"#);
        Thumbprints { sha256: sha256(&[canonical.as_bytes()]), sha1: sha1(canonical.as_bytes()) }
    }

    fn jwk(&self, algorithm: &str, operation: &str) -> Value {
        let [x, y] = self.coordinates();
        json!({ "alg": algorithm, "crv": "P-521", "key_ops": [operation], "kty": "EC", "x": x, "y": y })
    }

    fn coordinates(&self) -> [String; 2] {
        let (x, y) = self.0[1..].split_at(COORDINATE_BYTES);
        [x, y].map(|bytes| URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// How a client names a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thumbprint {
    /// By SHA-256, 43 characters.
    Sha256([u8; 32]),
    /// By SHA-1, 27 characters, as clients did before 2021. A name needs no collision resistance: who finds another
    /// key of the same thumbprint has none of ours.
    Sha1([u8; 20]),
}

impl Thumbprint {
    /// Reads one from a path.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let mut bytes = [0; 33];
        // Longer than the bytes need, so that what does not fit is not cut off.
        let len = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        match len {
            32 => bytes[..32].try_into().ok().map(Self::Sha256),
            20 => bytes[..20].try_into().ok().map(Self::Sha1),
            _ => None,
        }
    }
}

/// As it was read.
impl std::fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hash: &[u8] = match self {
            Self::Sha256(hash) => hash,
            Self::Sha1(hash) => hash,
        };
        f.write_str(&URL_SAFE_NO_PAD.encode(hash))
    }
}

/// The thumbprints of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thumbprints {
    sha256: [u8; 32],
    sha1: [u8; 20],
}

impl Thumbprints {
    /// The one that names the key today.
    #[must_use]
    pub fn usual(&self) -> Thumbprint {
        Thumbprint::Sha256(self.sha256)
    }

    /// Whether the key is named so.
    #[must_use]
    pub fn are(&self, named: &Thumbprint) -> bool {
        match named {
            Thumbprint::Sha256(hash) => *hash == self.sha256,
            Thumbprint::Sha1(hash) => *hash == self.sha1,
        }
    }
}

/// As people read it: by SHA-256.
impl std::fmt::Display for Thumbprints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.usual().fmt(f)
    }
}

/// What is advertised: the set of the keys that sign and exchange.
#[must_use]
pub fn payload(signing: &Point, exchange: &Point) -> Vec<u8> {
    let keys = [signing.jwk(ES512, "verify"), exchange.jwk(ECMR, "deriveKey")];
    json!({ "keys": keys }).to_string().into_bytes()
}

/// The protected header of an advertisement.
fn protected() -> String {
    URL_SAFE_NO_PAD.encode(json!({ "alg": ES512, "cty": "jwk-set+json" }).to_string())
}

/// What the signature of an advertisement is over.
#[must_use]
pub fn signing_input(payload: &[u8]) -> Vec<u8> {
    format!("{}.{}", protected(), URL_SAFE_NO_PAD.encode(payload)).into_bytes()
}

/// An advertisement with its signatures, which are given in DER; `None` if one of them is not of P-521.
///
/// One signature is written flattened and several in a list, as tangd does.
///
/// Source: RFC 7515 §7.2.
#[must_use]
pub fn advertisement(payload: &[u8], signatures: &[Vec<u8>]) -> Option<Vec<u8>> {
    let payload = URL_SAFE_NO_PAD.encode(payload);
    let signed = |der: &Vec<u8>| {
        let signature = URL_SAFE_NO_PAD.encode(fixed_signature(der)?);
        Some(json!({ "protected": protected(), "signature": signature }))
    };
    let mut signatures: Vec<Value> = signatures.iter().map(signed).collect::<Option<_>>()?;
    let mut jws = match signatures.as_mut_slice() {
        [one] => one.take(),
        _ => json!({ "signatures": signatures }),
    };
    jws["payload"] = payload.into();
    Some(jws.to_string().into_bytes())
}

/// From `SEQUENCE { INTEGER, INTEGER }` to the two numbers one after the other, each as long as a coordinate.
///
/// Source: RFC 3279 §2.2.3; RFC 7518 §3.4.
fn fixed_signature(der: &[u8]) -> Option<[u8; 2 * COORDINATE_BYTES]> {
    let (numbers, rest) = element(0x30, der)?;
    let (r, s) = element(2, numbers)?;
    let (s, beyond) = element(2, s)?;
    let mut fixed = [0; 2 * COORDINATE_BYTES];
    for (number, place) in [r, s].into_iter().zip(fixed.chunks_exact_mut(COORDINATE_BYTES)) {
        let number = number.strip_prefix(&[0]).unwrap_or(number);
        let start = COORDINATE_BYTES.checked_sub(number.len())?;
        place[start..].copy_from_slice(number);
    }
    (rest.is_empty() && beyond.is_empty()).then_some(fixed)
}

/// The content of a DER element of up to 255 bytes with this tag, and what follows it.
fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = match der {
        [found, 0x81, len, rest @ ..] if *found == tag => (*len, rest),
        [found, len @ 0..=0x7f, rest @ ..] if *found == tag => (*len, rest),
        _ => return None,
    };
    rest.split_at_checked(usize::from(len))
}

#[cfg(test)]
mod tests {
    use keyhearth_crypto::algorithm::{Algorithm, Mechanism};
    use keyhearth_crypto::key::{Input, Key, PublicKey, generate};

    use super::*;

    /// A key of tangd 11, and its thumbprints as `jose jwk thp` writes them.
    const X: &str =
        "AIJTKuiuSvi9ZqWoSrcVXZa7ijCSQdYAz9pNFv0YEXxSjrMD_PMbQv-2RP5P1nQ_GYmANYAyOArQvA74mZy8N9Tl";
    const Y: &str =
        "AVyp1nOnZXPdPAU8eFJvBOEgmYFEnBUiLJ1U_4hn3i2Fwaz4nK5hGurc54sqkUWyA3uF4CZlk8GX95NWPb-HmmLp";
    const SHA256: &str = "s9zZD_9h-7mK5WE5JL6kJgmTInxlRguK1dYjrl685uU";
    const SHA1: &str = "NTAwuy4FiHK7wJudebJRrLX6w8o";

    fn jwk() -> Value {
        json!({ "alg": "ECMR", "crv": "P-521", "key_ops": ["deriveKey"], "kty": "EC", "x": X, "y": Y })
    }

    fn read(jwk: &Value) -> Result<Point, Error> {
        Point::read(jwk.to_string().as_bytes())
    }

    #[test]
    fn a_key_of_tangd_has_the_thumbprints_that_jose_gives_it() {
        let point = read(&jwk()).unwrap();
        let thumbprints = point.thumbprints();
        assert_eq!(thumbprints.to_string(), SHA256);
        for named in [SHA256, SHA1] {
            assert!(thumbprints.are(&Thumbprint::read(named).unwrap()), "{named}");
        }
        assert!(
            !thumbprints.are(&Thumbprint::Sha1([0; 20])) && !thumbprints.are(&Thumbprint::Sha256([0; 32]))
        );
        assert_eq!(Point::read(&point.reply()), Ok(point));
        for bad in
            ["", "x", &SHA256[1..], &format!("{SHA256}A"), &format!("{SHA256}="), "\u{e4}", &"A".repeat(999)]
        {
            assert_eq!(Thumbprint::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_no_point_is_refused_with_its_field() {
        let with = |name: &str, value: Value| {
            let mut jwk = jwk();
            jwk[name] = value;
            read(&jwk)
        };
        for (name, value) in [
            ("kty", json!("RSA")),
            ("crv", json!("P-256")),
            ("alg", json!("ES512")),
            ("alg", json!("ECDH")),
            ("key_ops", json!([])),
            ("key_ops", json!(["verify"])),
            ("x", json!("AA")),
            ("x", json!(format!("{X}="))),
            ("y", json!(format!("{Y}AA"))),
            ("y", json!("\u{0}")),
            ("y", json!(7)),
            ("kty", Value::Null),
        ] {
            assert!(matches!(with(name, value.clone()), Err(Error::Invalid { .. })), "{name} {value}");
        }
        let whole = jwk().to_string();
        let twice = format!(r#"{{"x":"{X}",{}"#, &whole[1..]);
        let deep = format!(r#"{{"more":{}{},{}"#, "[".repeat(2000), "]".repeat(2000), &whole[1..]);
        assert!(Point::read(deep.as_bytes()).is_ok(), "what is passed over is not descended into");
        let list = json!(["EC", "P-521", X, Y, "ECMR", ["deriveKey"]]).to_string();
        let cut = &whole[..whole.len() - 1];
        for bad in ["", "null", "[]", "{}", "\"x\"", cut, &twice, &list, &format!("{whole}x")] {
            assert!(
                matches!(Point::read(bad.as_bytes()), Err(Error::Invalid { field: "body", .. })),
                "{bad}"
            );
        }
        assert!(Point::read(b"\xff").is_err());
        for (name, value) in [
            ("alg", Value::Null),
            ("key_ops", Value::Null),
            ("key_ops", json!(["sign", "deriveKey"])),
            ("d", json!(X)),
            ("more", json!({ "a": [1] })),
        ] {
            assert!(with(name, value).is_ok(), "{name}: tangd reads it too");
        }
    }

    #[test]
    fn an_advertisement_is_a_jws_of_the_key_that_it_lists() {
        let key = |_| Key::load(Algorithm::EcP521, &generate(Algorithm::EcP521).unwrap()).unwrap();
        let [signing, exchange] = [0, 1].map(key);
        let point = |key: &Key| Point::of_public_key(key.public_key_der().unwrap()).unwrap();
        let payload = payload(&point(&signing), &point(&exchange));
        // Often enough that numbers shorter than the others are among them.
        for _ in 0..64 {
            let input = signing_input(&payload);
            let der = signing.sign(Mechanism::EcdsaSha512, Input::Message(&input)).unwrap();
            let jws: Value =
                serde_json::from_slice(&advertisement(&payload, std::slice::from_ref(&der)).unwrap())
                    .unwrap();
            let text = |name: &str| jws[name].as_str().unwrap().to_owned();
            assert_eq!(format!("{}.{}", text("protected"), text("payload")).into_bytes(), input);
            let fixed = URL_SAFE_NO_PAD.decode(text("signature")).unwrap();
            assert_eq!(fixed.len(), 132);
            let listed: Value =
                serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text("payload")).unwrap()).unwrap();
            assert_eq!(listed["keys"][1], exchange_jwk(&point(&exchange)));
            let public = PublicKey::from_der(Algorithm::EcP521, point(&signing).bytes()).unwrap();
            assert_eq!(
                public.verify(Mechanism::EcdsaSha512, Input::Message(&input), &der_of(&fixed)),
                Ok(())
            );
        }
    }

    #[test]
    fn several_signatures_are_a_list_over_one_payload() {
        let der = vec![0x30, 6, 2, 1, 5, 2, 1, 7];
        let jws = advertisement(b"{}", &[der.clone(), der.clone()]).unwrap();
        let jws: Value = serde_json::from_slice(&jws).unwrap();
        assert_eq!(jws["payload"], URL_SAFE_NO_PAD.encode("{}"));
        let [one, two] = jws["signatures"].as_array().unwrap().as_slice() else { panic!("{jws}") };
        assert_eq!((one, &one["protected"]), (two, &json!(protected())));
        assert!(jws.get("signature").is_none() && jws.get("protected").is_none());
        assert_eq!(advertisement(b"{}", &[der, vec![0x30]]), None);
    }

    fn exchange_jwk(point: &Point) -> Value {
        serde_json::from_slice(&point.reply()).unwrap()
    }

    fn der_of(fixed: &[u8]) -> Vec<u8> {
        let mut numbers = Vec::new();
        for number in fixed.chunks(COORDINATE_BYTES) {
            let start = number.iter().position(|byte| *byte != 0).unwrap();
            let mut number = number[start..].to_vec();
            if number[0] > 0x7f {
                number.insert(0, 0);
            }
            numbers.extend([2, u8::try_from(number.len()).unwrap()]);
            numbers.extend(number);
        }
        let len = u8::try_from(numbers.len()).unwrap();
        let head = if len > 0x7f { vec![0x30, 0x81, len] } else { vec![0x30, len] };
        [head, numbers].concat()
    }

    #[test]
    fn signatures_of_another_form_are_none() {
        let fine = [0x30, 6, 2, 1, 5, 2, 1, 7];
        let fixed = fixed_signature(&fine).unwrap();
        assert_eq!((fixed[COORDINATE_BYTES - 1], fixed[2 * COORDINATE_BYTES - 1]), (5, 7));
        let long = [&[0x30, 0x81, 72, 2, 67][..], &[1; 67], &[2, 1, 7]].concat();
        for bad in [
            &[][..],
            &[0x30],
            &[0x31, 0],
            &fine[..7],
            &[0x30, 6, 2, 1, 5, 2, 1, 7, 0],
            &[0x30, 3, 2, 1, 5],
            &long,
        ] {
            assert_eq!(fixed_signature(bad), None, "{bad:?}");
        }
    }
}
