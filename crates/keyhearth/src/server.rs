//! A whole server: store, engine, listeners, signals. And its beginning, `init`, and the development server.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keyhearth_core::Error;
use keyhearth_core::id::Name;
use keyhearth_core::principal::Caller;
use keyhearth_core::request::{Ask, Request, Response};
use keyhearth_core::store::Store;
use keyhearth_crypto::passphrase::Params;
use keyhearth_crypto::random;
use keyhearth_proto::aws::Place;
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

use crate::config::{AwsConfig, BootConfig, Config, ConfigError, TangConfig};
use crate::engine::{Engine, StartError, UnsealWith, initialise};
use crate::identity::{self, SERVER_DAYS_MAX};
use crate::listen::aws::Aws;
use crate::listen::boot::{Appraiser, Boot, ends};
use crate::listen::rest::{Rest, answer_health};
use crate::listen::tang::{ActsAs, Tang};
use crate::listen::{ListenError, Listener, Stop, Tls, TlsError};
use crate::seal::{Passphrase, Quorum, SealChoice};
use crate::store::sqlite::{OpenError, SqliteStore};
use crate::telemetry::Metrics;

/// The CA's certificate in the data directory.
const CA_FILE: &str = "ca.crt";
/// The access key of a development server's identity in its data directory: id and secret.
const DEV_ACCESS_KEY_FILE: &str = "dev.access-key";
/// The passphrase of a development server in its data directory.
const DEV_PASSPHRASE_FILE: &str = "dev.passphrase";

/// Why a server could not begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The deployment.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The engine.
    #[error("{error}; {}", error.next_step())]
    Engine {
        /// Why.
        #[from]
        error: Error,
    },
    /// A socket.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The server's certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A file.
    #[error("cannot use {}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A development server's directory, used by another.
    #[error(
        "{} is of a development server, whose passphrase lies in it; run it with `--dev`, or make a \
         deployment in another directory with `keyhearth init`",
        .0.display()
    )]
    Development(PathBuf),
    /// There is no deployment in the data directory.
    #[error("{} holds no deployment; make one with `keyhearth init`", .0.display())]
    NotInitialised(PathBuf),
}

/// How a deployment is made.
pub struct InitOptions {
    /// Its data directory: empty, or not there.
    pub data: PathBuf,
    /// Name of the first platform operator.
    pub operator: Name,
    /// Seal with a passphrase…
    pub passphrase: Option<Zeroizing<Vec<u8>>>,
    /// …or with shares (needed, made), or with both.
    pub quorum: Option<(u8, u8)>,
    /// DNS names and addresses that callers will use; `localhost` and the loopback addresses unless named.
    pub names: Vec<String>,
    /// The log's name, as `origin` of the configuration.
    pub origin: String,
    /// Where the anchor is kept, as `anchor` of the configuration; in the data directory if absent.
    pub anchor: Option<PathBuf>,
    /// A development server.
    pub development: bool,
}

/// A deployment that was made.
pub struct Initialised {
    /// The seal's shares. They exist nowhere else.
    pub shares: Vec<Zeroizing<String>>,
    /// The CA's certificate.
    pub ca: PathBuf,
    /// The operator's certificate.
    pub operator_certificate: PathBuf,
    /// The operator's private key.
    pub operator_key: PathBuf,
    /// What verifies the log's checkpoints.
    pub log_key: PathBuf,
}

/// Makes a deployment. The files of the operator lie in `operator/` of the data directory: move them away.
///
/// # Errors
/// [`ServerError`].
pub async fn init(options: &InitOptions) -> Result<Initialised, ServerError> {
    let (origin, anchor) = (options.origin.clone(), options.anchor.clone());
    let config = Config { origin, anchor, ..Config::default_for(&options.data) };
    let (made, engine) = init_open(options, &config).await?;
    engine.seal();
    Ok(made)
}

async fn init_open(
    options: &InitOptions,
    config: &Config,
) -> Result<(Initialised, Arc<Engine>), ServerError> {
    let data = &options.data;
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(data)?);
    let (operator_key_pem, request) = identity::generate_key_and_csr(options.operator.as_str())?;
    let choice = SealChoice {
        passphrase: options.passphrase.as_ref().map(|text| Passphrase { text, params: Params::MIN }),
        quorum: options.quorum.map(|(threshold, count)| Quorum { threshold, count }),
    };
    let settings = config.settings(options.development);
    let initial = match initialise(store, settings, &choice, &options.operator, &request).await {
        Err(StartError::Exists) if !data.join(CA_FILE).exists() => return Err(StartError::Unfinished.into()),
        made => made?,
    };
    let local = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let names = if options.names.is_empty() { &local[..] } else { &options.names };
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (server_key, server_certificate) =
        initial.engine.issue_server_certificate(&names, SERVER_DAYS_MAX)?;
    let made = Initialised {
        shares: initial.shares.0,
        ca: data.join(CA_FILE),
        operator_certificate: data.join("operator/operator.crt"),
        operator_key: data.join("operator/operator.key"),
        log_key: data.join("log.vkey"),
    };
    for directory in [data.join("tls"), data.join("operator")] {
        let error = |error| ServerError::File { path: directory.clone(), error };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(error)?;
    }
    write_file(&data.join("tls/server.crt"), server_certificate.as_bytes(), 0o644)?;
    write_file(&data.join("tls/server.key"), server_key.as_bytes(), 0o600)?;
    write_file(&made.operator_certificate, initial.certificate.as_bytes(), 0o644)?;
    write_file(&made.operator_key, operator_key_pem.as_bytes(), 0o600)?;
    write_file(&made.log_key, format!("{}\n", initial.engine.log_key()?).as_bytes(), 0o644)?;
    // Last: with this file the deployment is complete.
    write_file(&made.ca, initial.ca.as_bytes(), 0o644)?;
    Ok((made, initial.engine))
}

/// Writes a file with these permissions, in place of one that may be there, durably.
fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), ServerError> {
    let write = || -> std::io::Result<()> {
        let temporary = path.with_extension("new");
        let _ = std::fs::remove_file(&temporary);
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        path.parent().map_or(Ok(()), |directory| std::fs::File::open(directory)?.sync_all())
    };
    write().map_err(|error| ServerError::File { path: path.to_owned(), error })
}

fn read_file(path: &Path) -> Result<Vec<u8>, ServerError> {
    std::fs::read(path).map_err(|error| ServerError::File { path: path.to_owned(), error })
}

/// A server that takes requests.
pub struct Ready {
    /// Where callers connect.
    pub url: String,
    /// Where AWS clients connect, if they may.
    pub aws_url: Option<String>,
    /// Where Clevis connects, if it may.
    pub tang_url: Option<String>,
    /// Where machines that boot connect, if they may.
    pub boot_url: Option<String>,
    /// Where health and metrics are.
    pub health_url: String,
    /// It must be unsealed first.
    pub sealed: bool,
}

/// Runs a server until SIGTERM or SIGINT, then finishes what is under way. SIGHUP reads the certificates again.
///
/// With `danger_accept_found` it opens although what is stored is not what the last commit left.
///
/// # Errors
/// [`ServerError`] if it cannot begin.
pub async fn serve(
    config: Config,
    passphrase: Option<Zeroizing<Vec<u8>>>,
    danger_accept_found: bool,
    ready: impl FnOnce(&Ready),
) -> Result<(), ServerError> {
    if config.data.join(DEV_PASSPHRASE_FILE).exists() {
        return Err(ServerError::Development(config.data));
    }
    if !config.data.join(CA_FILE).exists() {
        return Err(ServerError::NotInitialised(config.data));
    }
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&config.data)?);
    let settings = crate::engine::Settings { danger_accept_found, ..config.settings(false) };
    let engine = Engine::new(store, settings)?;
    if let Some(passphrase) = passphrase {
        engine.unseal(UnsealWith::Passphrase(&passphrase), IpAddr::V4(Ipv4Addr::LOCALHOST)).await?;
    }
    let running = Running::begin(&config, engine).await?;
    ready(&running.ready);
    running.until_stopped().await
}

/// A server with its listeners bound.
pub struct Running {
    config: Config,
    engine: Arc<Engine>,
    rest: Arc<Listener>,
    aws: Option<(Arc<Listener>, Place)>,
    tang: Option<(Arc<Listener>, ActsAs)>,
    boot: Option<(Arc<Listener>, Appraiser, u32)>,
    health: Arc<Listener>,
    /// Where it listens.
    pub ready: Ready,
}

impl Running {
    /// Binds the listeners.
    ///
    /// # Errors
    /// [`ServerError`] if an address or the certificate cannot be used.
    pub async fn begin(config: &Config, engine: Arc<Engine>) -> Result<Self, ServerError> {
        let _ = keyhearth_sys::process::open_files_limit_raise();
        let rest =
            Listener::bind(config.listen, tls(config, Clients::ByCertificate)?, config.limits()).await?;
        let aws = match &config.aws {
            Some(aws) => {
                let tls = tls(config, Clients::Otherwise)?;
                Some((Listener::bind(aws.listen, tls, config.limits()).await?, aws.place()?))
            }
            None => None,
        };
        let tang = match &config.tang {
            Some(tang) if tang.tls => {
                let tls = tls(config, Clients::Otherwise)?;
                Some((Listener::bind(tang.listen, tls, config.limits()).await?, tang.acts_as()?))
            }
            Some(tang) => Some((Listener::bind_plain(tang.listen, config.limits()).await?, tang.acts_as()?)),
            None => None,
        };
        let boot = match &config.boot {
            Some(boot) => {
                let appraiser = boot.appraiser()?;
                let tls = tls(config, Clients::Otherwise)?;
                let listener = Listener::bind(boot.listen, tls, config.limits()).await?;
                Some((listener, appraiser, boot.lease_seconds))
            }
            None => None,
        };
        let health = Listener::bind_loopback(config.health, config.limits()).await?;
        let ready = Ready {
            url: format!("https://{}", named(rest.address())),
            aws_url: aws.as_ref().map(|(listener, _)| format!("https://{}", named(listener.address()))),
            tang_url: tang.as_ref().map(|(listener, _)| {
                let scheme = if config.tang.as_ref().is_some_and(|tang| tang.tls) { "https" } else { "http" };
                format!("{scheme}://{}", named(listener.address()))
            }),
            boot_url: boot.as_ref().map(|(listener, ..)| format!("https://{}", named(listener.address()))),
            health_url: format!("http://{}", health.address()),
            sealed: engine.is_sealed(),
        };
        Ok(Self { config: config.clone(), engine, rest, aws, tang, boot, health, ready })
    }

    /// Where callers connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.rest.address()
    }

    /// Serves until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// [`ServerError::File`] if signals cannot be had.
    pub async fn until_stopped(self) -> Result<(), ServerError> {
        let failed = |error| ServerError::File { path: PathBuf::from("signals"), error };
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
        let (rest, config) = (Arc::clone(&self.rest), self.config.clone());
        let aws = self.aws.iter().map(|(listener, _)| Arc::clone(listener));
        let tang = self.tang.iter().map(|(listener, _)| Arc::clone(listener));
        let boot = self.boot.iter().map(|(listener, ..)| Arc::clone(listener));
        let others: Vec<_> = aws.chain(tang).chain(boot).collect();
        self.until(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => return,
                    _ = interrupt.recv() => return,
                    _ = hangup.recv() => {
                        let read = |clients| tls(&config, clients);
                        match read(Clients::ByCertificate).and_then(|one| Ok((one, read(Clients::Otherwise)?))) {
                            Ok((by_certificate, otherwise)) => {
                                rest.reload(by_certificate);
                                others.iter().for_each(|listener| listener.reload(otherwise.clone()));
                                tracing::info!("certificates read again");
                            }
                            Err(error) => tracing::error!(%error, "certificates kept as they were"),
                        }
                    }
                }
            }
        })
        .await;
        Ok(())
    }

    /// Serves until `stop`, then finishes what is under way and seals.
    pub async fn until(self, stop: impl Future<Output = ()>) {
        let Self { engine, rest, aws, tang, boot, health, .. } = self;
        let metrics = Arc::new(Metrics::default());
        let front = Rest::new(Arc::clone(&engine), Arc::clone(&metrics));
        let (stopping, shutdown) = Stop::new();
        let rest_task = tokio::spawn(
            rest.serve(move |peer, request| Arc::clone(&front).answer(peer, request), shutdown.clone()),
        );
        let aws_task = aws.map(|(listener, place)| {
            let front = Aws::new(Arc::clone(&engine), Arc::clone(&metrics), place);
            let serve = move |peer, request| Arc::clone(&front).answer(peer, request);
            tokio::spawn(listener.serve(serve, shutdown.clone()))
        });
        let tang_task = tang.map(|(listener, acts_as)| {
            let front = Tang::new(Arc::clone(&engine), Arc::clone(&metrics), acts_as);
            let serve = move |peer, request| Arc::clone(&front).answer(peer, request);
            tokio::spawn(listener.serve(serve, shutdown.clone()))
        });
        let watches = boot.as_ref().map(|(_, appraiser, _)| {
            let (shelf, clouds) = (Arc::clone(appraiser.shelf()), appraiser.clouds().map(Path::to_owned));
            let ends = ends::watch(Arc::clone(&shelf), clouds, Arc::clone(&metrics));
            [tokio::spawn(shelf.keep_current()), tokio::spawn(ends)]
        });
        let boot_task = boot.map(|(listener, appraiser, lease_s)| {
            let front = Boot::new(Arc::clone(&engine), Arc::clone(&metrics), appraiser, lease_s);
            let serve = move |peer, request| Arc::clone(&front).answer(peer, request);
            tokio::spawn(listener.serve(serve, shutdown.clone()))
        });
        let health_engine = Arc::clone(&engine);
        let health_task = tokio::spawn(health.serve(
            move |_: Arc<crate::listen::Peer<()>>, request| {
                answer_health(Arc::clone(&health_engine), Arc::clone(&metrics), request)
            },
            shutdown,
        ));
        let scheduled = Arc::clone(&engine);
        let schedule = tokio::spawn(async move { scheduled.run_schedule().await });
        engine.log_start().await;
        stop.await;
        stopping.request();
        let _ = rest_task.await;
        for task in aws_task.into_iter().chain(tang_task).chain(boot_task) {
            let _ = task.await;
        }
        let _ = health_task.await;
        schedule.abort();
        watches.iter().flatten().for_each(tokio::task::JoinHandle::abort);
        engine.log_stop().await;
        engine.seal();
    }
}

/// The address as a client on this machine names it: the certificate knows `localhost`.
fn named(address: SocketAddr) -> String {
    if address.ip().is_loopback() { format!("localhost:{}", address.port()) } else { address.to_string() }
}

/// How the callers of a listener prove who they are, if they do.
#[derive(Clone, Copy)]
enum Clients {
    ByCertificate,
    Otherwise,
}

fn tls(config: &Config, clients: Clients) -> Result<Tls, ServerError> {
    let roots = match clients {
        Clients::ByCertificate => {
            let mut roots = read_file(&config.data.join(CA_FILE))?;
            if let Some(external) = &config.external_ca {
                roots.push(b'\n');
                roots.extend(read_file(external)?);
            }
            roots
        }
        Clients::Otherwise => Vec::new(),
    };
    let key = Zeroizing::new(read_file(&config.key_path())?);
    Ok(Tls::from_pem(&read_file(&config.certificate_path())?, &key, &roots)?)
}

/// A development server that takes requests.
pub struct DevReady {
    /// Where callers connect.
    pub url: String,
    /// What clients read, in shell syntax.
    pub env_file: PathBuf,
}

/// Runs a development server in `data`: made at the first start, unsealed by a passphrase that lies beside
/// it, one tenant `dev` with one identity that may do everything in it, with a certificate and an access key. On an
/// existing directory it goes on: same keys, same identities and, when they are free, same ports.
///
/// # Errors
/// [`ServerError`].
pub async fn serve_dev(data: &Path, ready: impl FnOnce(&DevReady)) -> Result<(), ServerError> {
    let running = begin_dev(data).await?;
    let dev = DevReady { url: running.ready.url.clone(), env_file: data.join("dev.env") };
    ready(&dev);
    running.until_stopped().await
}

/// Begins a development server, see [`serve_dev`].
///
/// # Errors
/// [`ServerError`].
pub async fn begin_dev(data: &Path) -> Result<Running, ServerError> {
    let passphrase_path = data.join(DEV_PASSPHRASE_FILE);
    let (origin, aws) = ("keyhearth.dev/log".to_owned(), Some(AwsConfig::default()));
    let mut config = Config { origin, aws, ..Config::default_for(data) };
    config.limits.principal_per_second = 1_000_000;
    config.limits.tenant_per_second = 1_000_000;
    let engine = if data.join(CA_FILE).exists() {
        let passphrase = Zeroizing::new(read_file(&passphrase_path)?);
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(data)?);
        let engine = Engine::new(store, config.settings(true))?;
        engine.unseal(UnsealWith::Passphrase(&passphrase), IpAddr::V4(Ipv4Addr::LOCALHOST)).await?;
        engine
    } else {
        make_dev(data, &config).await?
    };
    let ports = std::fs::read_to_string(data.join("dev.ports")).ok();
    let known: Vec<u16> =
        ports.iter().flat_map(|text| text.split_whitespace()).filter_map(|port| port.parse().ok()).collect();
    let access_key = dev_access_key(data, &engine).await?;
    let address = |at: usize| SocketAddr::from((Ipv4Addr::LOCALHOST, known.get(at).copied().unwrap_or(0)));
    listen_dev(&mut config, address);
    let running = match Running::begin(&config, Arc::clone(&engine)).await {
        Err(ServerError::Listen(_)) => {
            listen_dev(&mut config, |_| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
            Running::begin(&config, engine).await?
        }
        begun => begun?,
    };
    let aws = running.aws.iter().map(|(listener, _)| listener);
    let tang = running.tang.iter().map(|(listener, _)| listener);
    let boot = running.boot.iter().map(|(listener, ..)| listener);
    let listeners = [&running.rest, &running.health].into_iter().chain(aws).chain(tang).chain(boot);
    let ports: Vec<String> = listeners.map(|listener| listener.address().port().to_string()).collect();
    let ports = ports.join(" ") + "\n";
    write_file(&data.join("dev.ports"), ports.as_bytes(), 0o600)?;
    write_file(&data.join("dev.env"), dev_env(data, &running, &access_key)?.as_bytes(), 0o600)?;
    Ok(running)
}

/// Where a development server listens: its first, second… address.
fn listen_dev(config: &mut Config, address: impl Fn(usize) -> SocketAddr) {
    (config.listen, config.health) = (address(0), address(1));
    config.aws = Some(AwsConfig { listen: address(2), ..AwsConfig::default() });
    let (tenant, identity) = ("dev".to_owned(), "dev".to_owned());
    config.tang = Some(TangConfig { listen: address(3), tenant, identity, tls: false });
    config.boot = Some(BootConfig { listen: address(4), require_revocation: false, ..BootConfig::default() });
}

async fn make_dev(data: &Path, config: &Config) -> Result<Arc<Engine>, ServerError> {
    let mut secret = Zeroizing::new([0; 32]);
    random::fill("development passphrase", secret.as_mut()).map_err(Error::from)?;
    let passphrase: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let options = InitOptions {
        data: data.to_owned(),
        operator: "operator".parse()?,
        passphrase: Some(Zeroizing::new(passphrase.clone().into_bytes())),
        quorum: None,
        names: Vec::new(),
        origin: config.origin.clone(),
        anchor: None,
        development: true,
    };
    let (_, engine) = init_open(&options, config).await?;
    let (key, request) = identity::generate_key_and_csr("dev")?;
    let ask = Ask::CreateTenant { name: "dev".parse()?, admin: "dev".parse()?, request };
    let asked = Request::new(engine.request_id(), ask);
    let caller = caller_of(&engine, &data.join("operator/operator.crt")).await?;
    let Response::Tenant { certificate, .. } = engine.execute(&caller, Arc::new(asked)).await? else {
        return Err(Error::Internal("a tenant was asked for").into());
    };
    write_file(&data.join("dev.crt"), certificate.as_bytes(), 0o600)?;
    write_file(&data.join("dev.key"), key.as_bytes(), 0o600)?;
    // Last: with this file the directory is complete.
    write_file(&data.join(DEV_PASSPHRASE_FILE), passphrase.as_bytes(), 0o600)?;
    Ok(engine)
}

/// Whoever has this certificate.
async fn caller_of(engine: &Engine, certificate: &Path) -> Result<Arc<Caller>, ServerError> {
    let pem = String::from_utf8(read_file(certificate)?).map_err(|_| Error::Damaged("certificate"))?;
    let der = identity::certificate_der(&pem)?;
    Ok(engine.authenticate(Some(&der), IpAddr::V4(Ipv4Addr::LOCALHOST)).await?.caller)
}

/// The access key of a development server's identity, `ID SECRET`: made when there is none.
async fn dev_access_key(data: &Path, engine: &Arc<Engine>) -> Result<Zeroizing<String>, ServerError> {
    let path = data.join(DEV_ACCESS_KEY_FILE);
    if !path.exists() {
        let caller = caller_of(engine, &data.join("dev.crt")).await?;
        let ask = Ask::CreateAccessKey { identity: caller.principal, import: None, minutes: None };
        let asked = Request::new(engine.request_id(), ask);
        let Response::AccessKey { id, secret, .. } = engine.execute(&caller, Arc::new(asked)).await? else {
            return Err(Error::Internal("an access key was asked for").into());
        };
        let text = Zeroizing::new([id.as_bytes(), b" ", &secret, b"\n"].concat());
        write_file(&path, &text, 0o600)?;
    }
    let text = String::from_utf8(read_file(&path)?).map_err(|_| Error::Damaged("access key"))?;
    Ok(Zeroizing::new(text))
}

/// What clients read, in shell syntax.
fn dev_env(data: &Path, running: &Running, access_key: &str) -> Result<Zeroizing<String>, ServerError> {
    let data =
        std::path::absolute(data).map_err(|error| ServerError::File { path: data.to_owned(), error })?;
    let quoted = |name: &str| shell_quote(&data.join(name).display().to_string());
    let (id, secret) = access_key.trim_end().split_once(' ').ok_or(Error::Damaged("access key"))?;
    let (ready, region) = (&running.ready, AwsConfig::default().region);
    Ok(Zeroizing::new(format!(
        "# A development server: not for production.\n\
         export KEYHEARTH_URL={}\n\
         export KEYHEARTH_CA_FILE={}\n\
         export KEYHEARTH_CERT_FILE={}\n\
         export KEYHEARTH_KEY_FILE={}\n\
         export AWS_ENDPOINT_URL_KMS={}\n\
         export AWS_ACCESS_KEY_ID={}\n\
         export AWS_SECRET_ACCESS_KEY={}\n\
         export AWS_DEFAULT_REGION={region}\n\
         export AWS_REGION={region}\n\
         export AWS_CA_BUNDLE={}\n\
         unset AWS_SESSION_TOKEN\n\
         export KEYHEARTH_TANG_URL={}\n\
         export KEYHEARTH_BOOT_URL={}\n",
        shell_quote(&ready.url),
        quoted(CA_FILE),
        quoted("dev.crt"),
        quoted("dev.key"),
        shell_quote(ready.aws_url.as_deref().unwrap_or_default()),
        shell_quote(id),
        shell_quote(secret),
        quoted(CA_FILE),
        shell_quote(ready.tang_url.as_deref().unwrap_or_default()),
        shell_quote(ready.boot_url.as_deref().unwrap_or_default()),
        region = shell_quote(&region),
    )))
}

fn shell_quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_development_directory_is_not_served_as_another() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(DEV_PASSPHRASE_FILE), "x").unwrap();
        std::fs::write(directory.path().join(CA_FILE), "x").unwrap();
        let served = serve(Config::default_for(directory.path()), None, false, |_| ()).await;
        assert!(matches!(served, Err(ServerError::Development(_))));
    }

    #[tokio::test]
    async fn a_deployment_that_was_not_finished_is_said_to_be() {
        let directory = tempfile::tempdir().unwrap();
        let options = || InitOptions {
            data: directory.path().join("data"),
            operator: "operator".parse().unwrap(),
            passphrase: None,
            quorum: Some((2, 3)),
            names: Vec::new(),
            origin: "keyhearth.test/log".to_owned(),
            anchor: None,
            development: false,
        };
        let made = init(&options()).await.unwrap();
        // What the opening began in the background holds the store a little longer.
        while SqliteStore::open(&options().data).is_err() {
            tokio::task::yield_now().await;
        }
        assert!(matches!(init(&options()).await, Err(ServerError::Start(StartError::Exists))));
        std::fs::remove_file(made.ca).unwrap();
        assert!(matches!(init(&options()).await, Err(ServerError::Start(StartError::Unfinished))));
    }
}
