//! Identity documents of clouds: in whose account, and where, the cloud says that a machine runs.
//!
//! | cloud | document | made for the request |
//! |---|---|---|
//! | AWS | CMS over JSON, from `instance-identity/rsa2048`, by a key of the region | no: it is the same for as long as the instance is |
//! | GCP | a JWT for an audience, by a key of Google's | [`audience`]: all of it |
//! | Azure | CMS over JSON for a nonce, by a key of the region, whose certificate a CA of the web issued | [`nonce`]: ten digits, and the time |
//!
//! A document says what its cloud vouches for. That it is *this* machine's is another matter: whoever can ask the metadata
//! service of an instance can show that instance's document for any request. So it adds to evidence and replaces none.
//!
//! Not here: which account and which region are good enough (policy over [`CloudClaims`]), and revocation of the
//! clouds' certificates: whoever gives [`Clouds`] takes away what is over.
//!
//! Called by `keyhearth boot appraise` and by the server's boot release.

mod aws;
mod azure;
mod cms;
mod der;
mod gcp;
mod path;
mod trust;

use keyhearth_crypto::digest::sha256;
use serde::Serialize;

use crate::claims::Bytes;
use crate::demands::{Demands, REPORT_DATA_BYTES};
use crate::reason::{Reason, Refusal};
use crate::x509::Certificate;

pub use trust::{CLOUD_CERTIFICATES_MAX, Clouds, Latest};

/// The longest document, in bytes: Azure's with the certificates of two issuers has 8 kB.
pub const DOCUMENT_BYTES_MAX: usize = 16 << 10;
/// How far the clock of a cloud and the present one may be apart, in seconds.
pub const SKEW_S: u64 = 60;
/// How long before the request a document of Azure's may have been made, in seconds. Its nonce has ten digits, which whoever
/// asks for a release reaches by trying: this is what keeps old documents out.
pub const AGE_S_MAX: u64 = 300;
/// What is repeated of a document has at most so many characters.
const WORD_CHARS_MAX: usize = 128;

macro_rules! providers {
    ($($(#[$doc:meta])+ $variant:ident $name:literal;)+) => {
        /// Who vouches for a document.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub enum Provider { $($(#[$doc])+ #[serde(rename = $name)] $variant,)+ }

        impl Provider {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its name in claims, and that of the folder with its certificates.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

providers! {
    /// Amazon Web Services, every partition.
    Aws "aws";
    /// Google Cloud.
    Gcp "gcp";
    /// Microsoft Azure, the public cloud.
    Azure "azure";
    /// Azure for the government of the USA.
    AzureUs "azure-us";
    /// Azure in China.
    AzureCn "azure-cn";
}

/// What a document says that passed every check. A member that is absent was not claimed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CloudClaims {
    /// Who vouches for it.
    pub provider: Provider,
    /// Whether it was made for this request. Otherwise anybody who ever read it can show it.
    pub fresh: bool,
    /// AWS's account, GCP's project, Azure's subscription.
    pub account: String,
    /// GCP's number of the project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_number: Option<String>,
    /// The region, as the cloud spells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The part of the region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The cloud's id of the instance.
    pub instance: String,
    /// GCP's name of the instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_name: Option<String>,
    /// AWS's type of the instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<String>,
    /// What it was started from: AWS's AMI, Azure's SKU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// Which clouds a document may be of, by its form: JSON, the three parts of a JWT, or base64. None can be taken for another.
#[must_use]
pub fn providers(document: &[u8]) -> &'static [Provider] {
    let document = document.trim_ascii();
    if document.first() == Some(&b'{') {
        &[Provider::Azure, Provider::AzureUs, Provider::AzureCn]
    } else if document.contains(&b'.') {
        &[Provider::Gcp]
    } else {
        &[Provider::Aws]
    }
}

/// Checks a document of whatever cloud it is, as its metadata service gave it, and says what it claims.
///
/// Of `demands` the time counts, and the report data: what is made for the request is made for these. Without them nothing
/// is fresh.
///
/// Total: any bytes get claims or a refusal, after work that the limits of this crate bound.
///
/// # Errors
/// [`Refusal`] with the first check that failed.
pub fn verify(document: &[u8], clouds: &Clouds, demands: &Demands) -> Result<CloudClaims, Refusal> {
    let document = document.trim_ascii();
    if document.len() > DOCUMENT_BYTES_MAX {
        let detail = format!("{} bytes; the limit is {DOCUMENT_BYTES_MAX}", document.len());
        return Err(Reason::CloudDocumentTooLarge.because(detail));
    }
    match providers(document) {
        [Provider::Aws] => aws::verify(document, clouds, demands),
        [Provider::Gcp] => gcp::verify(document, clouds, demands),
        _ => azure::verify(document, clouds, demands),
    }
}

/// Checks that one of the certificates whose key signed is in force; a key may have been certified again.
fn check_signers<'a, 'c: 'a>(
    signers: impl Iterator<Item = &'a Certificate<'c>>,
    unsigned: Refusal,
    now_s: u64,
) -> Result<(), Refusal> {
    let mut refusal = unsigned;
    for signer in signers {
        match signer.check_dates(now_s) {
            Ok(()) => return Ok(()),
            Err(over) => refusal = over,
        }
    }
    Err(refusal)
}

/// The audience of a token of GCP's for a request: `keyhearth:` and the SHA-256 of its report data in hexadecimal digits.
#[must_use]
pub fn audience(report_data: &[u8; REPORT_DATA_BYTES]) -> String {
    format!("keyhearth:{}", Bytes::from(&sha256(&[report_data])[..]))
}

/// The nonce of a document of Azure's for a request: the first eight bytes of the same SHA-256 as a number, highest byte
/// first, of which these are the last ten decimal digits.
#[must_use]
pub fn nonce(report_data: &[u8; REPORT_DATA_BYTES]) -> String {
    const DIGITS_10: u64 = 10_000_000_000;
    let number = sha256(&[report_data]).iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
    format!("{:010}", number % DIGITS_10)
}

fn malformed(what: &'static str) -> Refusal {
    Reason::CloudDocumentMalformed.because(what)
}

/// Text that a claim repeats: printable, and not longer than anything that clouds name.
fn word(text: String) -> Result<String, Refusal> {
    let printable = text.bytes().all(|c| c.is_ascii_graphic() || c == b' ');
    let fits = (1..=WORD_CHARS_MAX).contains(&text.len()) && printable;
    if fits { Ok(text) } else { Err(malformed("a member is empty, long or not printable")) }
}

/// The same of a member that may be absent; an empty one is.
fn word_if_any(text: Option<String>) -> Result<Option<String>, Refusal> {
    text.filter(|text| !text.is_empty()).map(word).transpose()
}
