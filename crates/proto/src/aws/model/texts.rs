//! Texts and bytes by AWS's names, with their limits.

use super::kinds::{Blob, Limited, Text};
use super::shape::{Limits, Pattern};

macro_rules! limited {
    ($($name:ident: $kind:ident $min:literal..=$max:literal $($matches:ident $pattern:literal)? $(; $sensitive:ident)?,)+) => {
        /// What tells one kind from another.
        pub mod kind {
            $(
                #[doc = concat!("The limits of [`", stringify!($name), "`](super::", stringify!($name), ").")]
                pub struct $name;
            )+
        }

        $(
            impl Limited for kind::$name {
                const LIMITS: Limits = Limits {
                    min: Some($min),
                    max: Some($max),
                    pattern: limited!(@pattern $($pattern $matches)?),
                    sensitive: limited!(@sensitive $($sensitive)?),
                };
            }

            #[doc = concat!(stringify!($min), " to ", stringify!($max), $(": `", $pattern, "`",)? ".")]
            pub type $name = $kind<kind::$name>;
        )+

        #[cfg(test)]
        fn all() -> Vec<Limits> {
            vec![$(kind::$name::LIMITS),+]
        }
    };
    (@pattern) => { None };
    (@pattern $pattern:literal $matches:ident) => { Some(Pattern { text: $pattern, matches: $matches }) };
    (@sensitive) => { false };
    (@sensitive sensitive) => { true };
}

limited! {
    AccountIdText: Text 12..=12 account r"[0-9]{12}",
    AliasNameText: Text 1..=256 alias r"^[a-zA-Z0-9:/_-]+$",
    ArnText: Text 20..=2048,
    BackingKeyIdResponseText: Text 0..=64 hexadecimal r"^[a-f0-9]+$",
    BackingKeyIdText: Text 64..=64 hexadecimal r"^[a-f0-9]+$",
    CloudHsmClusterIdText: Text 19..=24 cluster r"cluster-[2-7a-zA-Z]{11,16}",
    CustomKeyStoreIdText: Text 1..=64,
    CustomKeyStoreNameText: Text 1..=256,
    DescriptionText: Text 0..=8192,
    GrantConstraintSourceArnText: Text 20..=512 source_arn r"^arn:aws[a-z0-9-]*:[a-z0-9-]+:[a-z0-9-]*:[0-9]{12}:.+$",
    GrantIdText: Text 1..=128,
    GrantNameText: Text 1..=256 alias r"^[a-zA-Z0-9:/_-]+$",
    GrantTokenText: Text 1..=8192,
    KeyIdText: Text 1..=2048,
    KeyMaterialDescriptionText: Text 0..=256 material_description r"^[a-zA-Z0-9:/_\s.-]+$",
    KeyStorePasswordText: Text 7..=32; sensitive,
    MarkerText: Text 1..=1024 marker r"[\u0020-\u00FF]*",
    PolicyNameText: Text 1..=128 word r"[\w]+",
    PolicyText: Text 1..=131072 policy r"[\u0009\u000A\u000D\u0020-\u00FF]+",
    PrincipalIdText: Text 1..=256 principal r"^[\w+=,.@:/-]+$",
    RegionText: Text 1..=32 region r"^([a-z]+-){2,3}\d+$",
    ServicePrincipalText: Text 1..=128 service r"^([A-Za-z0-9\-]+)\.([A-Za-z0-9\-]+)(\.[A-Za-z0-9\-]+)+$",
    TagKeyText: Text 1..=128,
    TagValueText: Text 0..=256,
    TrustAnchorCertificateText: Text 1..=5000,
    XksKeyIdText: Text 1..=128 xks_key r"^[a-zA-Z0-9-_.]+$",
    XksProxyAuthenticationAccessKeyIdText: Text 20..=30 xks_access_key r"^[A-Z2-7]+$"; sensitive,
    XksProxyAuthenticationRawSecretAccessKeyText: Text 43..=64 xks_secret r"^[a-zA-Z0-9\/+=]+$"; sensitive,
    XksProxyUriEndpointText: Text 10..=128 xks_endpoint r"^https://[a-zA-Z0-9.-]+$",
    XksProxyUriPathText: Text 10..=128 xks_path r"^(/[a-zA-Z0-9\/_-]+/kms/xks/v\d{1,2})$|^(/kms/xks/v\d{1,2})$",
    XksProxyVpcEndpointServiceNameText: Text 20..=64 vpc_endpoint r"^(com|eu)\.amazonaws\.vpce\.([a-z]+-){2,3}\d+\.vpce-svc-[0-9a-z]+$",
    AttestationDocumentBlob: Blob 1..=262144,
    CiphertextBlob: Blob 1..=6144,
    PlaintextBlob: Blob 1..=4096; sensitive,
    PublicKeyBlob: Blob 1..=8192,
}

/// A text without limits.
pub struct Free;

impl Limited for Free {
    const LIMITS: Limits = Limits::NONE;
}

/// A text without limits of its own.
pub type AnyText = Text<Free>;

/// Whether a text is one or more of what `ok` admits.
fn some(text: &str, ok: impl Fn(char) -> bool) -> bool {
    !text.is_empty() && text.chars().all(ok)
}

fn digit(c: char) -> bool {
    c.is_ascii_digit()
}

fn small(c: char) -> bool {
    c.is_ascii_lowercase()
}

fn label(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-'
}

fn account(text: &str) -> bool {
    text.len() == 12 && some(text, digit)
}

fn alias(text: &str) -> bool {
    some(text, |c| c.is_ascii_alphanumeric() || matches!(c, ':' | '/' | '_' | '-'))
}

fn hexadecimal(text: &str) -> bool {
    some(text, |c| matches!(c, 'a'..='f' | '0'..='9'))
}

fn cluster(text: &str) -> bool {
    let id = text.strip_prefix("cluster-").filter(|id| (11..=16).contains(&id.len()));
    id.is_some_and(|id| some(id, |c| matches!(c, '2'..='7') || c.is_ascii_alphabetic()))
}

fn source_arn(text: &str) -> bool {
    let parts: Vec<_> = text.splitn(6, ':').collect();
    let [arn, partition, service, region, owner, resource] = parts[..] else { return false };
    let ok = |c| small(c) || digit(c) || c == '-';
    let line_end = |c| matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}');
    arn == "arn"
        && partition.strip_prefix("aws").is_some_and(|rest| rest.chars().all(ok))
        && some(service, ok)
        && region.chars().all(ok)
        && account(owner)
        && some(resource, |c| !line_end(c))
}

fn material_description(text: &str) -> bool {
    let space = |c| matches!(c, ' ' | '\t'..='\r');
    some(text, |c| c.is_ascii_alphanumeric() || space(c) || matches!(c, ':' | '/' | '_' | '.' | '-'))
}

fn marker(text: &str) -> bool {
    text.chars().all(|c| matches!(c, ' '..='\u{ff}'))
}

fn word(text: &str) -> bool {
    some(text, |c| c.is_ascii_alphanumeric() || c == '_')
}

fn policy(text: &str) -> bool {
    some(text, |c| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{ff}'))
}

fn principal(text: &str) -> bool {
    let sign = |c| matches!(c, '_' | '+' | '=' | ',' | '.' | '@' | ':' | '/' | '-');
    some(text, |c| c.is_ascii_alphanumeric() || sign(c))
}

fn region(text: &str) -> bool {
    let Some((words, number)) = text.rsplit_once('-') else { return false };
    (2..=3).contains(&words.split('-').count())
        && words.split('-').all(|word| some(word, small))
        && some(number, digit)
}

fn service(text: &str) -> bool {
    text.split('.').count() >= 3 && text.split('.').all(|part| some(part, label))
}

fn xks_key(text: &str) -> bool {
    some(text, |c| label(c) || matches!(c, '_' | '.'))
}

fn xks_access_key(text: &str) -> bool {
    some(text, |c| c.is_ascii_uppercase() || matches!(c, '2'..='7'))
}

fn xks_secret(text: &str) -> bool {
    some(text, |c| c.is_ascii_alphanumeric() || matches!(c, '/' | '+' | '='))
}

fn xks_endpoint(text: &str) -> bool {
    text.strip_prefix("https://").is_some_and(|host| some(host, |c| label(c) || c == '.'))
}

fn xks_path(text: &str) -> bool {
    let Some((prefix, version)) = text.rsplit_once("/kms/xks/v") else { return false };
    let ok = |c| label(c) || matches!(c, '/' | '_');
    let prefixed = prefix.strip_prefix('/').is_some_and(|rest| some(rest, ok));
    version.len() <= 2 && some(version, digit) && (prefix.is_empty() || prefixed)
}

fn vpc_endpoint(text: &str) -> bool {
    let parts: Vec<_> = text.split('.').collect();
    let [domain @ ("com" | "eu"), "amazonaws", "vpce", place, id] = parts[..] else { return false };
    let id = id.strip_prefix("vpce-svc-");
    !domain.is_empty() && region(place) && id.is_some_and(|id| some(id, |c| small(c) || digit(c)))
}

#[cfg(test)]
mod tests;
