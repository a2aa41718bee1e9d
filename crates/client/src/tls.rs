//! The TLS half of a client: one CA, TLS 1.3, a certificate of our own.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::ConfigurationError;

/// The cryptography of TLS; also where this crate takes its random bytes from.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

pub(crate) fn config(
    ca_pem: &[u8],
    identity: Option<(&[u8], &[u8])>,
) -> Result<Arc<ClientConfig>, ConfigurationError> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(ca_pem) {
        let root = root.map_err(|_| ConfigurationError::Ca)?;
        roots.add(root).map_err(|_| ConfigurationError::Ca)?;
    }
    if roots.is_empty() {
        return Err(ConfigurationError::Ca);
    }
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has suites of TLS 1.3")
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let unusable = |_| ConfigurationError::Identity;
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
            let key = PrivateKeyDer::from_pem_slice(key).map_err(unusable)?;
            builder
                .with_client_auth_cert(chain.map_err(unusable)?, key)
                .map_err(|_| ConfigurationError::Identity)?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
