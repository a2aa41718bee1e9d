//! The TLS half of a listener: which certificate it shows and whose certificates it believes.
//!
//! Not here: what a caller may do, and whether its certificate was revoked. Both change while a
//! connection lives, so the layer above decides them for every request.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

/// ALPN name of HTTP/2. Source: RFC 9113 §3.2.
pub const ALPN_H2: &[u8] = b"h2";
/// ALPN name of HTTP/1.1. Source: RFC 7301 §6.
pub const ALPN_HTTP1: &[u8] = b"http/1.1";

/// Why a certificate, its key or the client roots can not be used. All are the operator's to fix.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file is damaged, or lacks the section it is read for.
    #[error("this is not the PEM file expected: {0}")]
    Pem(#[from] pem::Error),
    /// The certificate chain and the private key are unusable or do not belong together.
    #[error("the TLS certificate and its private key can not be used: {0}")]
    Certificate(#[from] rustls::Error),
    /// The client roots are unusable.
    #[error("the client root certificates can not be used: {0}")]
    Roots(#[from] rustls::server::VerifierBuilderError),
}

/// What a listener shows and believes, checked and ready for use.
#[derive(Clone, Debug)]
pub struct Tls {
    pub(super) config: Arc<ServerConfig>,
}

impl Tls {
    /// Shows `chain` (leaf first) and accepts client certificates that end in one of `client_roots`.
    ///
    /// A client without a certificate is let in as an anonymous peer; one whose certificate does
    /// not verify is refused in the handshake. Without roots no certificate is asked for.
    ///
    /// Sessions are never resumed: a resumed session skips the check of the client's certificate
    /// against the current roots, so a client removed from them could return on an old ticket.
    /// Connections are long-lived here and a full handshake costs under two milliseconds.
    ///
    /// # Errors
    /// [`TlsError`] if chain, key or roots are unusable, or the key is not the leaf's.
    ///
    /// Source: RFC 8446 §2.2, §4.4.2; RFC 5280 §6.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        client_roots: Vec<CertificateDer<'static>>,
    ) -> Result<Self, TlsError> {
        let versions = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
        let certificates = if client_roots.is_empty() {
            versions.with_no_client_auth()
        } else {
            let mut roots = RootCertStore::empty();
            for root in client_roots {
                roots.add(root)?;
            }
            versions.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                    .allow_unauthenticated()
                    .build()?,
            )
        };
        let mut config = certificates.with_single_cert(chain, key)?;
        config.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_HTTP1.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config) })
    }

    /// As [`Tls::new`], from the text of PEM files. `client_roots` may be empty.
    ///
    /// # Errors
    /// [`TlsError`], as for [`Tls::new`], and if a file is not PEM.
    pub fn from_pem(chain: &[u8], key: &[u8], client_roots: &[u8]) -> Result<Self, TlsError> {
        Self::new(certificates(chain)?, PrivateKeyDer::from_pem_slice(key)?, certificates(client_roots)?)
    }
}

/// All certificates of a PEM file, in its order.
///
/// # Errors
/// [`pem::Error`] if a section is damaged.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    CertificateDer::pem_slice_iter(text).collect()
}

/// The algorithms of every TLS connection: hybrid post-quantum key exchange first.
///
/// Built here and handed over; there is no process-wide default that another crate could change.
///
/// Source: draft-ietf-tls-ecdhe-mlkem (X25519MLKEM768); RFC 8446 §9.1.
pub fn provider() -> Arc<CryptoProvider> {
    use aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
    Arc::new(CryptoProvider {
        kx_groups: vec![X25519MLKEM768, X25519, SECP256R1, SECP384R1],
        ..aws_lc_rs::default_provider()
    })
}
