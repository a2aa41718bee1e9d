//! The clouds' certificates that are believed: those that whoever runs the server has put there.

use std::collections::BTreeMap;

use x509_parser::pem::Pem;

use super::Provider;
use crate::endorsements::ENDORSEMENT_BYTES_MAX;
use crate::reason::{Reason, Refusal};
use crate::x509::{self, Certificate};

/// The most certificates of one cloud: AWS has one for each of 40 regions, and two while it changes them.
pub const CLOUD_CERTIFICATES_MAX: usize = 128;

const JSON_OBJECT: u8 = b'{';
const DER_SEQUENCE: u8 = 0x30;

/// Certificates that documents are judged by. Each is believed for itself, whoever issued it.
#[derive(Clone, Debug, Default)]
pub struct Clouds {
    believed: BTreeMap<Provider, Vec<Believed>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Believed {
    /// What precedes the first dot in the name of its file: for AWS, the region.
    name: String,
    der: Vec<u8>,
}

/// Of the certificates that are for the same, the one that ends last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latest {
    /// Whose documents it vouches for.
    pub provider: Provider,
    /// What its file is called up to the first dot: for AWS, the region.
    pub name: String,
    /// The common name of its holder.
    pub holder: String,
    /// When it begins, in seconds since 1970.
    pub begins_s: u64,
    /// When it ends, in seconds since 1970.
    pub ends_s: u64,
}

impl Clouds {
    /// The certificates on which it depends until when documents are believed: of each cloud, and each region of AWS,
    /// and each holder, the one that ends last.
    #[must_use]
    pub fn latest(&self) -> Vec<Latest> {
        let mut latest = BTreeMap::<_, Latest>::new();
        let all =
            self.believed.iter().flat_map(|(provider, all)| all.iter().map(move |one| (*provider, one)));
        for (provider, Believed { name, der }) in all {
            let Ok(certificate) = Certificate::parse(der) else { continue };
            let (holder, [begins_s, ends_s]) = (certificate.name(), certificate.dates_s());
            let place = if provider == Provider::Aws { name.clone() } else { String::new() };
            let one = Latest { provider, name: name.clone(), holder: holder.clone(), begins_s, ends_s };
            let known = latest.entry((provider, place, holder)).or_insert_with(|| one.clone());
            if known.ends_s < ends_s {
                *known = one;
            }
        }
        latest.into_values().collect()
    }

    /// Adds what a file of `provider` holds: a certificate in DER, any number of them in PEM, or Google's JSON with a
    /// certificate in PEM for each key. `name` is that of the file: for AWS, it is the region up to the first dot.
    ///
    /// # Errors
    /// [`Reason::EndorsementMalformed`]; [`Reason::EndorsementTooLarge`] beyond [`CLOUD_CERTIFICATES_MAX`] or
    /// [`ENDORSEMENT_BYTES_MAX`].
    pub fn add(&mut self, provider: Provider, name: &str, bytes: &[u8]) -> Result<(), Refusal> {
        if bytes.len() > ENDORSEMENT_BYTES_MAX {
            return Err(Reason::EndorsementTooLarge.because(format!("{} bytes", bytes.len())));
        }
        let name = name.split('.').next().unwrap_or_default();
        if bytes.first() == Some(&DER_SEQUENCE) {
            return self.keep(provider, name, bytes.to_vec());
        }
        if bytes.trim_ascii_start().first() != Some(&JSON_OBJECT) {
            return self.add_pem(provider, name, bytes);
        }
        let keys: BTreeMap<String, String> = serde_json::from_slice(bytes)
            .map_err(|_| Reason::EndorsementMalformed.because("not JSON with a certificate for each key"))?;
        keys.values().try_for_each(|pem| self.add_pem(provider, name, pem.as_bytes()))
    }

    fn add_pem(&mut self, provider: Provider, name: &str, pem: &[u8]) -> Result<(), Refusal> {
        let mut found = false;
        for block in Pem::iter_from_buffer(pem) {
            let block = block.map_err(|_| Reason::EndorsementMalformed.because("not PEM"))?;
            self.keep(provider, name, block.contents)?;
            found = true;
        }
        if found { Ok(()) } else { Err(Reason::EndorsementMalformed.because("neither DER, PEM nor JSON")) }
    }

    fn keep(&mut self, provider: Provider, name: &str, der: Vec<u8>) -> Result<(), Refusal> {
        if !x509::is_certificate(&der) {
            return Err(Reason::EndorsementMalformed.because("not a certificate"));
        }
        let kept = self.believed.entry(provider).or_default();
        let given = Believed { name: name.to_owned(), der };
        if kept.contains(&given) {
            return Ok(());
        }
        if kept.len() == CLOUD_CERTIFICATES_MAX {
            let detail = format!("more than {CLOUD_CERTIFICATES_MAX} of {}", provider.name());
            return Err(Reason::EndorsementTooLarge.because(detail));
        }
        kept.push(given);
        Ok(())
    }

    /// The certificates of a cloud that files of this name hold; all of them without a name. There is at least one.
    pub(super) fn of(&self, provider: Provider, name: Option<&str>) -> Result<Vec<Certificate<'_>>, Refusal> {
        let all = self.believed.get(&provider).into_iter().flatten();
        let named = all.filter(|one| name.is_none_or(|name| one.name == name));
        let found: Vec<_> = named.map(|one| Certificate::parse(&one.der)).collect::<Result<_, _>>()?;
        if found.is_empty() {
            let place = name.map(|name| format!(" in {name}")).unwrap_or_default();
            return Err(Reason::CloudUntrusted.because(format!("{}{place}", provider.name())));
        }
        Ok(found)
    }
}
