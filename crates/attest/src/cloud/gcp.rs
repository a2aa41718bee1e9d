//! GCP: the identity token of an instance, for an audience of our choice.
//!
//! A token of a service account that was made elsewhere says nothing of an instance, and is refused for that.
//!
//! Source: Google Cloud, "Verify the identity of instances"; RFC 7515 §3.1 (the form), RFC 7519 §4.1 (the times).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyhearth_crypto::algorithm::Mechanism;
use keyhearth_crypto::key::Input;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{CloudClaims, Clouds, Provider, SKEW_S, audience, check_signers, malformed, word, word_if_any};
use crate::claims::printable;
use crate::demands::Demands;
use crate::reason::{Reason, Refusal};

const ISSUER: &str = "https://accounts.google.com";

#[derive(Deserialize)]
struct Header {
    alg: String,
}

#[derive(Deserialize)]
struct Token {
    iss: String,
    aud: String,
    iat: u64,
    exp: u64,
    google: Option<Google>,
}

#[derive(Deserialize)]
struct Google {
    compute_engine: Option<Instance>,
}

#[derive(Deserialize)]
struct Instance {
    project_id: String,
    project_number: Option<u64>,
    zone: String,
    instance_id: String,
    instance_name: Option<String>,
}

pub(super) fn verify(document: &[u8], clouds: &Clouds, demands: &Demands) -> Result<CloudClaims, Refusal> {
    let token = signed(document, clouds, demands.now_s)?;
    if token.iss != ISSUER {
        return Err(Reason::CloudIssuer.because(printable(&token.iss)));
    }
    let Some(instance) = token.google.and_then(|google| google.compute_engine) else {
        return Err(Reason::CloudInstanceMissing.into());
    };
    if demands.report_data.is_some_and(|demanded| token.aud != audience(&demanded)) {
        return Err(Reason::CloudNonceDiffers.because(printable(&token.aud)));
    }
    if token.iat > demands.now_s.saturating_add(SKEW_S) {
        return Err(Reason::CloudNotYetValid.into());
    }
    if token.exp.saturating_add(SKEW_S) < demands.now_s {
        return Err(Reason::CloudExpired.into());
    }
    let zone = word(instance.zone)?;
    let (region, _) = zone.rsplit_once('-').ok_or(malformed("a zone without a region"))?;
    Ok(CloudClaims {
        provider: Provider::Gcp,
        fresh: demands.report_data.is_some(),
        account: word(instance.project_id)?,
        account_number: instance.project_number.map(|number| number.to_string()),
        region: Some(region.to_owned()),
        zone: Some(zone),
        instance: word(instance.instance_id)?,
        instance_name: word_if_any(instance.instance_name)?,
        instance_type: None,
        image: None,
    })
}

/// What a token says that a key of Google's signed.
fn signed(document: &[u8], clouds: &Clouds, now_s: u64) -> Result<Token, Refusal> {
    let form = || malformed("not a JWT");
    let text = str::from_utf8(document).map_err(|_| form())?;
    let (message, signature) = text.rsplit_once('.').ok_or_else(form)?;
    let (header, payload) = message.split_once('.').ok_or_else(form)?;
    if part::<Header>(header)?.alg != "RS256" {
        return Err(Reason::CloudSignatureAlgorithm.into());
    }
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| form())?;
    let believed = clouds.of(Provider::Gcp, None)?;
    let signers = believed.iter().filter(|certificate| {
        let verified = |key: keyhearth_crypto::key::PublicKey| {
            key.verify(Mechanism::RsaPkcs1Sha256, Input::Message(message.as_bytes()), &signature).is_ok()
        };
        certificate.rsa_key().is_some_and(verified)
    });
    check_signers(signers, Reason::CloudSignature.into(), now_s)?;
    part(payload)
}

/// JSON in base64url.
fn part<T: DeserializeOwned>(text: &str) -> Result<T, Refusal> {
    let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| malformed("not a JWT"))?;
    serde_json::from_slice(&json).map_err(|_| malformed("not the token of an identity"))
}
