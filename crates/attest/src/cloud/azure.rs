//! Azure: the attested document, signed with the key of a region's metadata service.
//!
//! ```text
//! a certificate that is believed ─▶ (certificates in the message) ─▶ REGION.metadata.azure.com ─▶ the document
//! ```
//! Which cloud it is, and which region, its certificate says and not the document. The sovereign clouds are run by others,
//! so each has certificates of its own that are believed.
//!
//! Source: Microsoft Learn, "Azure Instance Metadata Service", attested data.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use x509_parser::prelude::FromDer as _;
use x509_parser::time::ASN1Time;

use super::cms::Signed;
use super::{AGE_S_MAX, CloudClaims, Clouds, Provider, SKEW_S, malformed, nonce, path, word, word_if_any};
use crate::claims::printable;
use crate::demands::Demands;
use crate::reason::{Reason, Refusal};
use crate::x509::Certificate;

/// The host of the metadata service of each cloud; regions have names below.
const HOSTS: &[(Provider, &str)] = &[
    (Provider::Azure, "metadata.azure.com"),
    (Provider::AzureUs, "metadata.azure.us"),
    (Provider::AzureCn, "metadata.azure.cn"),
];

#[derive(Deserialize)]
struct Answer {
    encoding: String,
    signature: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    nonce: String,
    subscription_id: String,
    vm_id: String,
    sku: Option<String>,
    time_stamp: Times,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Times {
    created_on: String,
    expires_on: String,
}

pub(super) fn verify(document: &[u8], clouds: &Clouds, demands: &Demands) -> Result<CloudClaims, Refusal> {
    let answer: Answer =
        serde_json::from_slice(document).map_err(|_| malformed("not an answer of Azure's"))?;
    if answer.encoding != "pkcs7" {
        return Err(malformed("an encoding other than pkcs7"));
    }
    let message = STANDARD.decode(answer.signature).map_err(|_| malformed("not base64"))?;
    let signed = Signed::parse(&message)?;
    let carried: Vec<_> =
        signed.certificates.iter().map(|der| Certificate::parse(der)).collect::<Result<_, _>>()?;
    let Host { provider, region } = signer(&signed, &carried, clouds, demands.now_s)?;
    let document: Document =
        serde_json::from_slice(&signed.content).map_err(|_| malformed("not an attested document"))?;
    if demands.report_data.is_some_and(|demanded| document.nonce != nonce(&demanded)) {
        return Err(Reason::CloudNonceDiffers.because(printable(&document.nonce)));
    }
    check_times(&document.time_stamp, demands)?;
    Ok(CloudClaims {
        provider,
        fresh: demands.report_data.is_some(),
        account: word(document.subscription_id)?,
        account_number: None,
        region,
        zone: None,
        instance: word(document.vm_id)?,
        instance_name: None,
        instance_type: None,
        image: word_if_any(document.sku)?,
    })
}

/// What the signer's certificate is for. Several may have its key, of which one has to be sound.
fn signer(
    signed: &Signed,
    carried: &[Certificate<'_>],
    clouds: &Clouds,
    now_s: u64,
) -> Result<Host, Refusal> {
    let mut refusal = Reason::CloudSignature.into();
    let signs = |key| signed.is_signed_by(&key);
    for signer in carried.iter().filter(|certificate| certificate.rsa_key().is_some_and(signs)) {
        let checked = Host::of(signer).and_then(|host| {
            path::check(signer, carried, &clouds.of(host.provider, None)?, now_s)?;
            Ok(host)
        });
        match checked {
            Ok(host) => return Ok(host),
            Err(tried) => refusal = tried,
        }
    }
    Err(refusal)
}

/// What the certificate is for: a cloud, and a region if it names one.
struct Host {
    provider: Provider,
    region: Option<String>,
}

impl Host {
    fn of(signer: &Certificate<'_>) -> Result<Self, Refusal> {
        let names = signer.host_names();
        let below = |host: &str| {
            let below = |name: &&str| name.strip_suffix(host)?.strip_suffix('.').map(str::to_owned);
            names.iter().filter_map(below).collect::<Vec<_>>()
        };
        let is_for = |(_, host): &&(Provider, &str)| names.contains(host) || !below(host).is_empty();
        let mut clouds = HOSTS.iter().filter(is_for);
        let (Some((provider, host)), None) = (clouds.next(), clouds.next()) else {
            return Err(Reason::CloudSigner.because(signer.name()));
        };
        // A name for many regions, or several names, are of none.
        let region = <[String; 1]>::try_from(below(host)).ok().map(|[region]| region);
        let region = region.filter(|region| region != "*");
        Ok(Self { provider: *provider, region: region.map(word).transpose()? })
    }
}

fn check_times(times: &Times, demands: &Demands) -> Result<(), Refusal> {
    let at = |text: &str| seconds(text).ok_or(malformed("a time that is none of Azure's"));
    let (created_s, expires_s) = (at(&times.created_on)?, at(&times.expires_on)?);
    if created_s > demands.now_s.saturating_add(SKEW_S) {
        return Err(Reason::CloudNotYetValid.because(printable(&times.created_on)));
    }
    let is_old = demands.report_data.is_some() && created_s + AGE_S_MAX < demands.now_s;
    if is_old || expires_s + SKEW_S < demands.now_s {
        return Err(Reason::CloudExpired.because(printable(&times.created_on)));
    }
    Ok(())
}

/// `04/19/22 01:27:21 -0000` in seconds since 1970.
fn seconds(text: &str) -> Option<u64> {
    const FORM: &[u8] = b"00/00/00 00:00:00 -0000";
    let fits = |(given, form): (u8, &u8)| if *form == b'0' { given.is_ascii_digit() } else { given == *form };
    if text.len() != FORM.len() || !text.bytes().zip(FORM).all(fits) || !text.ends_with("-0000") {
        return None;
    }
    let part = |from: usize| &text[from..from + 2];
    let utc = [part(6), part(0), part(3), part(9), part(12), part(15), "Z"].concat();
    let der = [&[0x17, u8::try_from(utc.len()).ok()?], utc.as_bytes()].concat();
    let (_, time) = ASN1Time::from_der(&der).ok()?;
    u64::try_from(time.timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_azure_writes_them() {
        assert_eq!(seconds("04/19/22 01:27:21 -0000"), Some(1_650_331_641));
        for bad in
            ["04/19/22 01:27:21 +0100", "13/19/22 01:27:21 -0000", "04/19/2022 01:27:21 -0000", "", "é"]
        {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }
}
