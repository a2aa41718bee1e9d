//! A deployment that lives as long as its folder: sealed with shares, on a free loopback port, with one identity
//! for each role.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use keyhearth_client::{Client, Is, Role, Text, body};
use keyhearth_core::store::Store;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use super::Error;
use crate::config::Config;
use crate::engine::Engine;
use crate::identity::generate_key_and_csr;
use crate::server::{InitOptions, Running, ServerError, init};
use crate::store::sqlite::SqliteStore;

/// Shares of the seal that are needed, and that are made.
pub const QUORUM: (u8, u8) = (2, 3);

/// A running server that was just initialised, and is sealed.
pub struct Deployment {
    /// Where it listens.
    pub url: String,
    /// The certificate of its CA.
    pub ca: Vec<u8>,
    /// What verifies its log.
    pub log_key: String,
    /// The seal's shares.
    pub shares: Vec<Zeroizing<String>>,
    /// Its first operator.
    pub operator: Client,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

impl Deployment {
    /// Makes a deployment in `data` and starts its server.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn start(data: &Path) -> Result<Self, Error> {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let config = Config { listen: free, health: free, ..Config::default_for(data) };
        let made = init(&InitOptions {
            data: data.to_owned(),
            operator: "operator".parse().map_err(ServerError::from)?,
            passphrase: None,
            quorum: Some(QUORUM),
            names: Vec::new(),
            origin: config.origin.clone(),
            anchor: None,
            development: false,
        })
        .await?;
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(data).map_err(ServerError::from)?);
        let engine = Engine::new(store, config.settings(false)).map_err(ServerError::from)?;
        let running = Running::begin(&config, engine).await?;
        let url = running.ready.url.clone();
        let ca = std::fs::read(&made.ca)?;
        let key = Zeroizing::new(std::fs::read(&made.operator_key)?);
        let operator = Client::new(&url, &ca, Some((&std::fs::read(&made.operator_certificate)?, &key)));
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(running.until(async {
            let _ = stopped.await;
        }));
        Ok(Self {
            url,
            ca,
            log_key: std::fs::read_to_string(&made.log_key)?,
            shares: made.shares,
            operator: operator.map_err(keyhearth_client::Error::from)?,
            stop,
            server,
        })
    }

    /// Gives the server as many shares as it needs.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn unseal(&self) -> Result<(), Error> {
        for share in self.shares.iter().take(QUORUM.0.into()) {
            self.operator
                .unseal(&body::Unseal::Share(Zeroizing::new(share.as_bytes().to_vec()).into()))
                .await?;
        }
        Ok(())
    }

    /// Makes a tenant and returns its administrator.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn tenant(&self, name: &str) -> Result<Client, Error> {
        let (key, request) = generate_key_and_csr(name).map_err(ServerError::from)?;
        let tenant = body::NewTenant {
            name: Is(name.parse().map_err(ServerError::from)?),
            admin: Is(Role::TenantAdmin.name().parse().map_err(ServerError::from)?),
            request: Text(request),
        };
        let made = self.operator.create_tenant(&tenant).await?;
        self.client(made.certificate.as_bytes(), key.as_bytes())
    }

    /// Makes an identity with one role, named as the role, on behalf of `admin`.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn identity(&self, admin: &Client, role: Role) -> Result<Client, Error> {
        let (key, request) = generate_key_and_csr(role.name()).map_err(ServerError::from)?;
        let identity = body::NewIdentity {
            name: Is(role.name().parse().map_err(ServerError::from)?),
            roles: vec![Is(role)],
            request: Text(request),
            days: None,
        };
        let made = admin.issue_identity(&identity).await?;
        self.client(made.certificate.as_bytes(), key.as_bytes())
    }

    fn client(&self, certificate: &[u8], key: &[u8]) -> Result<Client, Error> {
        Ok(Client::new(&self.url, &self.ca, Some((certificate, key)))
            .map_err(keyhearth_client::Error::from)?)
    }

    /// Stops the server and waits until it has let go of its folder.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.server.await;
    }
}
