//! AWS: the instance identity document, signed with the key of its region.
//!
//! It has no nonce and no end, so it is never fresh. Its region chooses the certificate: one region's key vouches for
//! nothing in another.
//!
//! Source: Amazon EC2 User Guide, "Instance identity documents", "Verify … using the RSA-2048 signature".

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::cms::Signed;
use super::{CloudClaims, Clouds, Provider, check_signers, malformed, word, word_if_any};
use crate::demands::Demands;
use crate::reason::{Reason, Refusal};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    account_id: String,
    region: String,
    availability_zone: Option<String>,
    instance_id: String,
    instance_type: Option<String>,
    image_id: Option<String>,
}

/// Checks a document in base64, whose lines may be broken.
pub(super) fn verify(document: &[u8], clouds: &Clouds, demands: &Demands) -> Result<CloudClaims, Refusal> {
    let base64: Vec<u8> = document.iter().copied().filter(|c| !c.is_ascii_whitespace()).collect();
    let message = STANDARD.decode(base64).map_err(|_| malformed("not base64"))?;
    let signed = Signed::parse(&message)?;
    let document: Document = serde_json::from_slice(&signed.content)
        .map_err(|_| malformed("not an instance identity document"))?;
    let region = word(document.region)?;
    let believed = clouds.of(Provider::Aws, Some(&region))?;
    let signs = |key| signed.is_signed_by(&key);
    let signers = believed.iter().filter(|certificate| certificate.rsa_key().is_some_and(signs));
    check_signers(signers, Reason::CloudSignature.because(region.clone()), demands.now_s)?;
    Ok(CloudClaims {
        provider: Provider::Aws,
        fresh: false,
        account: word(document.account_id)?,
        account_number: None,
        region: Some(region),
        zone: word_if_any(document.availability_zone)?,
        instance: word(document.instance_id)?,
        instance_name: None,
        instance_type: word_if_any(document.instance_type)?,
        image: word_if_any(document.image_id)?,
    })
}
