//! The client that other programs embed: one method per operation, typed both ways.
//!
//! ```no_run
//! use keyhearth_client::{Client, body};
//! # async fn example() -> Result<(), keyhearth_client::Error> {
//! let client = Client::from_env()?;
//! let body = body::Encrypt { mechanism: None, context: None, plaintext: b"hello"[..].into() };
//! let encrypted = client.encrypt("invoices", &body).await?;
//! println!("{} bytes under version {}", encrypted.ciphertext.len(), encrypted.version);
//! # Ok(()) }
//! ```
//!
//! A key is named by its id or by an alias. Requests are sent again only where that is safe ([`Client::new`]
//! says when). Plaintexts and other secrets are wiped when they are dropped; what TLS and HTTP hold in their
//! own buffers for a moment is not. Nothing that is sent or received is logged.
//!
//! Tests of programs that embed it run against a real server: [`testing`].
//!
//! Not here: caching of data keys.

mod connection;
mod error;
mod operations;
mod retry;
pub mod testing;
mod tls;

use std::sync::Arc;

use http::Uri;

pub use error::{ConfigurationError, Error};
pub use keyhearth_core::operation::Operation;
pub use keyhearth_core::{
    id,
    principal::Role,
    request::{ImportMechanism, KeyRef},
    state::State,
    time::Time,
};
pub use keyhearth_crypto::algorithm::{Algorithm, Mechanism};
pub use keyhearth_proto::rest::{
    AccessKeyId, Bytes, Cursor, Is, Object, Pairs, Problem, SecretText, Text, Use, Within, answer, body,
};
pub use operations::Page;

/// One server and the identity to use it with. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {
    server: Arc<connection::Server>,
    reason: Option<Arc<str>>,
}

impl Client {
    /// Makes a client for the server at `url` (`https://host[:port]`), which must show a certificate of the CA
    /// in `ca_pem`, no other. `identity` is a certificate chain and its private key, both PEM; without it only
    /// what needs no proof is answered.
    ///
    /// A request is sent again when no connection could be made, and when the server answered 429 or 503
    /// and the request is one that may be repeated: it changes nothing, or carries an idempotency key, as all
    /// requests with POST that change something do. At most four times, within half a minute altogether.
    ///
    /// Must be used inside a tokio runtime.
    ///
    /// # Errors
    /// [`ConfigurationError`] if the URL or one of the PEM texts can not be used.
    pub fn new(
        url: &str,
        ca_pem: &[u8],
        identity: Option<(&[u8], &[u8])>,
    ) -> Result<Self, ConfigurationError> {
        let uri: Uri = url.parse().map_err(|_| ConfigurationError::Url)?;
        let host = uri.host().filter(|_| uri.scheme_str() == Some("https") && uri.path() == "/");
        let host = host.ok_or(ConfigurationError::Url)?.trim_matches(['[', ']']).to_owned();
        let server =
            connection::Server::new(host, uri.port_u16().unwrap_or(443), tls::config(ca_pem, identity)?)?;
        Ok(Self { server: Arc::new(server), reason: None })
    }

    /// Makes a client from the environment: `KEYHEARTH_URL`, and the names of PEM files in `KEYHEARTH_CA_FILE`,
    /// `KEYHEARTH_CERT_FILE` and `KEYHEARTH_KEY_FILE`.
    ///
    /// # Errors
    /// [`ConfigurationError`] if one is missing or can not be used.
    pub fn from_env() -> Result<Self, ConfigurationError> {
        let value = |name| std::env::var(name).map_err(|_| ConfigurationError::Missing(name));
        let file =
            |name| std::fs::read(value(name)?).map_err(|error| ConfigurationError::File(name, error.kind()));
        let key = zeroize::Zeroizing::new(file("KEYHEARTH_KEY_FILE")?);
        let certificate = file("KEYHEARTH_CERT_FILE")?;
        Self::new(&value("KEYHEARTH_URL")?, &file("KEYHEARTH_CA_FILE")?, Some((&certificate, &key)))
    }

    /// The same client, stating for the log why it does what it does: 1 to 512 bytes without control characters.
    #[must_use]
    pub fn because(&self, reason: &str) -> Self {
        Self { server: Arc::clone(&self.server), reason: Some(reason.into()) }
    }
}
