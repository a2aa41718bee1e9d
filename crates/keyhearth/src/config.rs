//! The configuration: one TOML file, read once. Every key has a default but `data`.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keyhearth_attest::{ENDORSEMENT_BYTES_MAX, Revocation, Roots};
use keyhearth_core::Error;
use keyhearth_proto::aws::Place;
use serde::Deserialize;

use crate::endorsements::{Fetcher, Folder, Shelf, Sources, Urls};
use crate::engine::{PRINCIPAL_PER_S, SECRETS_PER_TENANT, Settings, TENANT_PER_S};
use crate::listen::Limits;
use crate::listen::boot::{Appraiser, Rules, clouds};
use crate::listen::tang::ActsAs;

/// The longest configuration file, in bytes.
pub const CONFIG_BYTES_MAX: u64 = 64 * 1024;

/// The configuration of a server.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The data directory, made by `keyhearth init`.
    pub data: PathBuf,
    /// Where callers connect, with TLS.
    #[serde(default = "listen")]
    pub listen: SocketAddr,
    /// Where health and metrics are served, without TLS, on a loopback address.
    #[serde(default = "health")]
    pub health: SocketAddr,
    /// The server's certificate chain (PEM). `tls/server.crt` in the data directory unless named.
    pub certificate: Option<PathBuf>,
    /// The server's private key (PEM). `tls/server.key` in the data directory unless named.
    pub key: Option<PathBuf>,
    /// Roots of an external CA (PEM) whose client certificates are let in beside the built-in CA's.
    pub external_ca: Option<PathBuf>,
    /// Where the newest checkpoint of the log is kept. On another disk than `data` it shows when an old
    /// copy of `data` was put back. `anchor` in the data directory unless named.
    pub anchor: Option<PathBuf>,
    /// The log's name in its checkpoints. It must stay the same for the life of a deployment.
    #[serde(default = "origin")]
    pub origin: String,
    /// The AWS KMS API; not served if absent.
    pub aws: Option<AwsConfig>,
    /// Tang; not served if absent.
    pub tang: Option<TangConfig>,
    /// Boot release; not served if absent.
    pub boot: Option<BootConfig>,
    /// Limits.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// Logging.
    #[serde(default)]
    pub log: LogConfig,
}

/// `[aws]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AwsConfig {
    /// Where AWS clients connect, with TLS.
    pub listen: SocketAddr,
    /// The account in every ARN: 12 digits.
    pub account: String,
    /// The region in every ARN, and the only one that requests may be signed for.
    pub region: String,
}

impl Default for AwsConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8444)),
            account: "000000000000".to_owned(),
            region: "us-east-1".to_owned(),
        }
    }
}

impl AwsConfig {
    /// What the ARNs say.
    ///
    /// # Errors
    /// [`ConfigError::Value`] if account or region have another form.
    pub fn place(&self) -> Result<Place, ConfigError> {
        Place::new(&self.account, &self.region).map_err(|error| {
            let Error::Invalid { field: key, rule } = error else {
                return ConfigError::Value { key: "aws", rule: "is of no use" };
            };
            ConfigError::Value { key, rule }
        })
    }
}

/// `[tang]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TangConfig {
    /// Where Clevis connects.
    pub listen: SocketAddr,
    /// The tenant whose keys it reaches, by name or id.
    pub tenant: String,
    /// The identity of that tenant which it acts as, by name or id: its policies decide every request.
    pub identity: String,
    /// Whether to speak TLS, with the server's certificate. The protocol keeps its secrets without.
    pub tls: bool,
}

impl Default for TangConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8445)),
            tenant: "default".to_owned(),
            identity: "tang".to_owned(),
            tls: false,
        }
    }
}

impl TangConfig {
    /// Whom its listener acts as.
    ///
    /// # Errors
    /// [`ConfigError::Value`] if one of them can be neither an id nor a name.
    pub fn acts_as(&self) -> Result<ActsAs, ConfigError> {
        let rule = "must be an id, or a name: 1 to 64 of a-z 0-9 . _ -";
        let tenant = self.tenant.parse().map_err(|_| ConfigError::Value { key: "tenant", rule })?;
        let identity = self.identity.parse().map_err(|_| ConfigError::Value { key: "identity", rule })?;
        Ok(ActsAs { tenant, identity })
    }
}

/// `[boot]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BootConfig {
    /// Where machines that boot connect, with TLS.
    pub listen: SocketAddr,
    /// A folder of certificates, revocation lists and collateral that evidence is judged by.
    pub endorsements: Option<PathBuf>,
    /// A folder of the certificates that documents of clouds are judged by; without it none is believed.
    pub clouds: Option<PathBuf>,
    /// Roots that are believed beside the built-in ones: a certificate (PEM or DER) by the label that claims show.
    pub roots: std::collections::BTreeMap<String, PathBuf>,
    /// Refuse evidence without a revocation list that is in force. Without this, claims say whether there was one.
    pub require_revocation: bool,
    /// Accept SNP reports of version 2, which do not name the processor.
    pub legacy_reports: bool,
    /// The privilege level that must have asked for an SNP report.
    pub vmpl: u32,
    /// Seconds after a release in which no other copy of the machine is given anything.
    pub lease_seconds: u32,
    /// Whether endorsements are fetched, and from where.
    pub fetch: FetchConfig,
}

/// `[boot.fetch]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FetchConfig {
    /// Fetch what is lacking in `endorsements`. Without this, nothing is ever asked for elsewhere.
    pub enabled: bool,
    /// AMD's service (KDS), or a mirror.
    pub amd: String,
    /// Intel's service (PCS), or a cache of it (PCCS).
    pub intel: String,
    /// The revocation list of Intel's root.
    pub intel_root_list: String,
    /// CAs of these services (PEM); those of the system if absent.
    pub ca: Option<PathBuf>,
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            amd: "https://kdsintf.amd.com".to_owned(),
            intel: "https://api.trustedservices.intel.com".to_owned(),
            intel_root_list: "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der".to_owned(),
            ca: None,
        }
    }
}

impl FetchConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let rule = "must begin with https:// or http:// and name a host, without `?`";
        for (key, url) in
            [("amd", &self.amd), ("intel", &self.intel), ("intel_root_list", &self.intel_root_list)]
        {
            let named = url.parse::<http::Uri>().is_ok_and(|uri| {
                matches!(uri.scheme_str(), Some("https" | "http"))
                    && uri.host().is_some()
                    && uri.query().is_none()
            });
            if !named {
                return Err(ConfigError::Value { key, rule });
            }
        }
        Ok(())
    }

    /// What fetches; nothing unless that is wanted.
    fn fetcher(&self) -> Result<Option<Fetcher>, ConfigError> {
        if !self.enabled {
            return Ok(None);
        }
        let base = |url: &str| url.trim_end_matches('/').to_owned();
        let (amd, intel) = (base(&self.amd), base(&self.intel));
        let urls = Urls { amd, intel, intel_root_list: self.intel_root_list.clone() };
        let path = || self.ca.clone().unwrap_or_else(|| PathBuf::from("the system's CAs"));
        let fetcher = Fetcher::new(Sources { urls, ca: self.ca.as_deref() });
        fetcher.map(Some).map_err(|error| ConfigError::Read { path: path(), error })
    }
}

impl Default for BootConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8446)),
            endorsements: None,
            clouds: None,
            roots: std::collections::BTreeMap::new(),
            require_revocation: true,
            legacy_reports: false,
            vmpl: 0,
            lease_seconds: 120,
            fetch: FetchConfig::default(),
        }
    }
}

impl BootConfig {
    fn check(&self) -> Result<(), ConfigError> {
        self.fetch.check()?;
        if self.fetch.enabled && self.endorsements.is_none() {
            let rule = "must be named, so that what is fetched (`boot.fetch`) can be kept there";
            return Err(ConfigError::Value { key: "endorsements", rule });
        }
        Ok(())
    }

    /// The roots that are believed: reads the files that are named.
    ///
    /// # Errors
    /// [`ConfigError`] for a file that cannot be read, or is no root.
    pub fn believed(&self) -> Result<Roots, ConfigError> {
        self.roots.iter().try_fold(Roots::built_in(), |roots, (label, path)| {
            let added = roots.with(label, &read_endorsement(path)?);
            added.map_err(|error| ConfigError::Root { path: path.clone(), error })
        })
    }

    /// What evidence is judged by: reads the files that are named.
    ///
    /// # Errors
    /// [`ConfigError`] for a folder or file that cannot be read, or a root that is none. Broken endorsements are logged.
    pub fn appraiser(&self) -> Result<Appraiser, ConfigError> {
        let folder = self.endorsements.clone().map(Folder::at);
        let opened = Shelf::open(folder, self.believed()?, self.fetch.fetcher()?);
        let path = || self.endorsements.clone().unwrap_or_default();
        let shelf = opened.map_err(|error| ConfigError::Read { path: path(), error })?;
        if let Some(folder) = &self.clouds {
            // It is read again for each document; a mistake is told now.
            clouds::read(folder, keyhearth_attest::cloud::Provider::ALL)?;
        }
        let revocation = if self.require_revocation { Revocation::Demanded } else { Revocation::IfGiven };
        let rules = Rules { revocation, legacy_reports: self.legacy_reports, vmpl: self.vmpl };
        Ok(Appraiser::new(shelf, rules).with_clouds(self.clouds.clone()))
    }
}

fn read_endorsement(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let failed = |error| ConfigError::Read { path: path.to_owned(), error };
    if fs::metadata(path).map_err(failed)?.len() > ENDORSEMENT_BYTES_MAX as u64 {
        return Err(ConfigError::TooLong(path.to_owned()));
    }
    fs::read(path).map_err(failed)
}

/// `[limits]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Connections at once.
    pub connections: u32,
    /// Connections at once from one address.
    pub connections_per_address: u32,
    /// Requests per second of one principal.
    pub principal_per_second: u32,
    /// Requests per second of one tenant.
    pub tenant_per_second: u32,
    /// Secrets of one tenant.
    pub secrets_per_tenant: u32,
    /// Seconds until an idle connection is closed.
    pub idle_seconds: u64,
    /// Seconds that requests have to finish when the server stops.
    pub drain_seconds: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            connections: limits.connections_max,
            connections_per_address: limits.address_connections_max,
            principal_per_second: PRINCIPAL_PER_S,
            tenant_per_second: TENANT_PER_S,
            secrets_per_tenant: SECRETS_PER_TENANT,
            idle_seconds: limits.idle.as_secs(),
            drain_seconds: limits.drain.as_secs(),
        }
    }
}

/// `[log]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `text` or `json`.
    pub format: LogFormat,
    /// `error`, `warn`, `info` or `debug`.
    pub level: LogLevel,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What a person must look at.
    Error,
    /// And what is unusual.
    Warn,
    /// And what is good to know.
    #[default]
    Info,
    /// And what helps to find faults.
    Debug,
}

impl From<LogLevel> for tracing::Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
        }
    }
}

fn listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8440))
}

fn health() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8441))
}

fn origin() -> String {
    "keyhearth.local/log".to_owned()
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is too long to be a configuration.
    #[error("{} is longer than {CONFIG_BYTES_MAX} bytes; is it a configuration?", .0.display())]
    TooLong(PathBuf),
    /// The text is not a configuration. The parser says where and what.
    #[error("{}: {error}; `keyhearth config reference` shows every key", path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// Where and what.
        error: Box<toml::de::Error>,
    },
    /// The folder with the certificates of clouds.
    #[error(transparent)]
    Clouds(#[from] clouds::Error),
    /// A root is none.
    #[error("{}: {error}", path.display())]
    Root {
        /// The file.
        path: PathBuf,
        /// Why.
        error: keyhearth_attest::RootError,
    },
    /// A value breaks a rule.
    #[error("{key}: {rule}")]
    Value {
        /// The key.
        key: &'static str,
        /// The rule.
        rule: &'static str,
    },
}

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let read = |error| ConfigError::Read { path: path.to_owned(), error };
        if std::fs::metadata(path).map_err(read)?.len() > CONFIG_BYTES_MAX {
            return Err(ConfigError::TooLong(path.to_owned()));
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        Self::parse(&text).map_err(|mut error| {
            if let ConfigError::Text { path: named, .. } = &mut error {
                path.clone_into(named);
            }
            error
        })
    }

    /// Reads and checks the text of a configuration.
    ///
    /// # Errors
    /// [`ConfigError::Text`], [`ConfigError::Value`].
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| ConfigError::Text {
            path: PathBuf::from("configuration"),
            error: Box::new(error),
        })?;
        config.check()?;
        Ok(config)
    }

    /// The defaults for a data directory.
    #[must_use]
    pub fn default_for(data: &Path) -> Self {
        Self {
            data: data.to_owned(),
            listen: listen(),
            health: health(),
            certificate: None,
            key: None,
            external_ca: None,
            anchor: None,
            origin: origin(),
            aws: None,
            tang: None,
            boot: None,
            limits: LimitsConfig::default(),
            log: LogConfig::default(),
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let refuse = |key, rule| Err(ConfigError::Value { key, rule });
        if !self.health.ip().to_canonical().is_loopback() {
            return refuse("health", "must be a loopback address: it is served without TLS");
        }
        if self.certificate.is_some() != self.key.is_some() {
            return refuse("certificate", "and `key` are named together or not at all");
        }
        if self.origin.parse::<keyhearth_core::log::KeyName>().is_err() {
            return refuse("origin", "must be a name without spaces and `+`, such as `kms.example.com/log`");
        }
        if let Some(aws) = &self.aws {
            aws.place()?;
        }
        if let Some(tang) = &self.tang {
            tang.acts_as()?;
        }
        if let Some(boot) = &self.boot {
            boot.check()?;
        }
        let LimitsConfig {
            connections,
            connections_per_address,
            principal_per_second,
            tenant_per_second,
            ..
        } = self.limits;
        if [connections, connections_per_address, principal_per_second, tenant_per_second].contains(&0) {
            return refuse("limits", "must be at least 1");
        }
        Ok(())
    }

    /// The server's certificate chain.
    #[must_use]
    pub fn certificate_path(&self) -> PathBuf {
        self.certificate.clone().unwrap_or_else(|| self.data.join("tls/server.crt"))
    }

    /// The server's private key.
    #[must_use]
    pub fn key_path(&self) -> PathBuf {
        self.key.clone().unwrap_or_else(|| self.data.join("tls/server.key"))
    }

    /// The engine's settings.
    #[must_use]
    pub fn settings(&self, development: bool) -> Settings {
        Settings {
            principal_per_s: self.limits.principal_per_second,
            tenant_per_s: self.limits.tenant_per_second,
            secrets_per_tenant: self.limits.secrets_per_tenant,
            anchor: self.anchor.clone().unwrap_or_else(|| self.data.join("anchor")),
            origin: self.origin.clone(),
            development,
            key_arn_prefix: self
                .aws
                .as_ref()
                .and_then(|aws| aws.place().ok())
                .map(|place| place.key_arn_prefix()),
            danger_accept_found: false,
        }
    }

    /// The listeners' limits.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            connections_max: self.limits.connections,
            address_connections_max: self.limits.connections_per_address,
            idle: Duration::from_secs(self.limits.idle_seconds),
            drain: Duration::from_secs(self.limits.drain_seconds),
            ..Limits::default()
        }
    }

    /// Every key with its meaning and default, as a commented file.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "a text")]
    pub fn reference() -> String {
        let limits = LimitsConfig::default();
        let aws = AwsConfig::default();
        let tang = TangConfig::default();
        let boot = BootConfig::default();
        format!(
            r#"# Keyhearth's configuration. Only `data` must be set; the others show their defaults.

# The data directory, made by `keyhearth init`.
data = "/var/lib/keyhearth"

# Where callers connect, with TLS.
listen = "{listen}"

# Where health and metrics are served, without TLS, on a loopback address.
health = "{health}"

# The server's certificate chain and private key (PEM). SIGHUP reads them again.
# certificate = "/var/lib/keyhearth/tls/server.crt"
# key = "/var/lib/keyhearth/tls/server.key"

# Roots of an external CA whose client certificates are let in beside the built-in CA's.
# Which identity such a certificate stands for is said by `keyhearth identity bind`.
# external_ca = "/etc/keyhearth/clients-ca.crt"

# Where the newest checkpoint of the log is kept. On another disk than `data` it shows
# when an old copy of `data` was put back.
# anchor = "/var/lib/keyhearth/anchor"

# The log's name in its checkpoints. It must stay the same for the life of a deployment.
origin = "{origin}"

# The AWS KMS API, served only with this section: where its clients connect, with TLS and without certificates
# of theirs; the account (12 digits) and the region in every ARN. Requests must be signed for that region.
# [aws]
# listen = "{aws_listen}"
# account = "{aws_account}"
# region = "{aws_region}"

# Tang, served only with this section: where Clevis connects, without TLS unless `tls` says so. Its callers prove
# nothing: it acts as one identity of one tenant, each by name or id, whose policies decide every request.
# [tang]
# listen = "{tang_listen}"
# tenant = "{tang_tenant}"
# identity = "{tang_identity}"
# tls = {tang_tls}

# Boot release, served only with this section: where machines connect before they boot, with TLS and no certificates
# of theirs. Their evidence is judged by what lies in a folder: certificates, revocation lists and collateral, which
# `keyhearth boot endorsements import` puts there; the server sees it within seconds. Without a list in force evidence is
# refused, unless `require_revocation` says otherwise. What clouds say is judged by the folders aws, gcp, azure, azure-us
# and azure-cn of another one, with their certificates. Roots beside the built-in ones are named by a label, which claims
# and the log show. What is lacking in the folder is fetched into it only if `enabled` says so, from the makers or from
# mirrors; `ca` are the CAs of these (PEM), those of the system if absent.
# [boot]
# listen = "{boot_listen}"
# endorsements = "/etc/keyhearth/endorsements"
# clouds = "/etc/keyhearth/clouds"
# require_revocation = {boot_revocation}
# legacy_reports = {boot_legacy}
# vmpl = {boot_vmpl}
# lease_seconds = {boot_lease}
# [boot.roots]
# our-lab = "/etc/keyhearth/lab-ark.pem"
# [boot.fetch]
# enabled = {fetch_enabled}
# amd = "{fetch_amd}"
# intel = "{fetch_intel}"
# intel_root_list = "{fetch_root_list}"
# ca = "/etc/keyhearth/mirror-ca.pem"

[limits]
# Connections at once, in all and from one address.
connections = {connections}
connections_per_address = {per_address}
# Requests per second of one principal and of one tenant; a second's worth may come at once.
principal_per_second = {principal}
tenant_per_second = {tenant}
# Secrets of one tenant, the keys of files that only the server has among them.
secrets_per_tenant = {secrets}
# Seconds until an idle connection is closed, and for requests to finish when the server stops.
idle_seconds = {idle}
drain_seconds = {drain}

[log]
# `text` or `json`, on standard error; `error`, `warn`, `info` or `debug`.
format = "text"
level = "info"
"#,
            listen = listen(),
            health = health(),
            origin = origin(),
            aws_listen = aws.listen,
            aws_account = aws.account,
            aws_region = aws.region,
            tang_listen = tang.listen,
            tang_tenant = tang.tenant,
            tang_identity = tang.identity,
            tang_tls = tang.tls,
            boot_listen = boot.listen,
            boot_revocation = boot.require_revocation,
            boot_legacy = boot.legacy_reports,
            boot_vmpl = boot.vmpl,
            boot_lease = boot.lease_seconds,
            fetch_enabled = boot.fetch.enabled,
            fetch_amd = boot.fetch.amd,
            fetch_intel = boot.fetch.intel,
            fetch_root_list = boot.fetch.intel_root_list,
            connections = limits.connections,
            per_address = limits.connections_per_address,
            principal = limits.principal_per_second,
            tenant = limits.tenant_per_second,
            secrets = limits.secrets_per_tenant,
            idle = limits.idle_seconds,
            drain = limits.drain_seconds,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_is_a_configuration_of_defaults() {
        let reference = Config::parse(&Config::reference()).unwrap();
        let defaults = Config::default_for(Path::new("/var/lib/keyhearth"));
        assert_eq!(format!("{reference:?}"), format!("{defaults:?}"));
        let uncommented =
            Config::reference().replace("\n# certificate", "\ncertificate").replace("\n# key", "\nkey");
        let uncommented =
            uncommented.replace("\n# external_ca", "\nexternal_ca").replace("\n# anchor", "\nanchor");
        assert!(Config::parse(&uncommented).unwrap().anchor.is_some());
        let mut sections = uncommented;
        let of_boot = [
            "[boot]",
            "endorsements",
            "clouds",
            "require_revocation",
            "legacy_reports",
            "vmpl",
            "lease_seconds",
        ];
        let others = ["[aws]", "listen", "account", "region", "[tang]", "tenant", "identity", "tls"];
        let of_fetch = ["[boot.fetch]", "enabled", "amd", "intel", "intel_root_list"];
        for name in others.into_iter().chain(of_boot).chain(of_fetch) {
            sections = sections.replace(&format!("\n# {name}"), &format!("\n{name}"));
        }
        let Config { aws, tang, boot, .. } = Config::parse(&sections).unwrap();
        let folder = |name: &str| Some(Path::new("/etc/keyhearth").join(name));
        let (endorsements, clouds) = (folder("endorsements"), folder("clouds"));
        let defaults = BootConfig { endorsements, clouds, ..BootConfig::default() };
        assert_eq!(format!("{:?}", boot.unwrap()), format!("{defaults:?}"));
        assert_eq!(format!("{:?}", aws.unwrap()), format!("{:?}", AwsConfig::default()));
        assert_eq!(format!("{:?}", tang.unwrap()), format!("{:?}", TangConfig::default()));
    }

    #[test]
    fn what_is_unknown_or_dangerous_is_refused_with_its_key() {
        for (text, key) in [
            ("data = \"/d\"\nlisen = \"1.2.3.4:5\"", "lisen"),
            ("listen = \"127.0.0.1:1\"", "data"),
            ("data = \"/d\"\nhealth = \"0.0.0.0:1\"", "health"),
            ("data = \"/d\"\ncertificate = \"/c\"", "certificate"),
            ("data = \"/d\"\norigin = \"a b\"", "origin"),
            ("data = \"/d\"\n[limits]\nconnections = 0", "limits"),
            ("data = \"/d\"\n[limits]\nconnection = 1", "connection"),
            ("data = \"/d\"\n[aws]\naccount = \"12345678901\"", "account"),
            ("data = \"/d\"\n[aws]\nregion = \"Frankfurt\"", "region"),
            ("data = \"/d\"\n[aws]\nport = 1", "port"),
            ("data = \"/d\"\n[tang]\ntenant = \"\"", "tenant"),
            ("data = \"/d\"\n[tang]\nidentity = \"A B\"", "identity"),
            ("data = \"/d\"\n[tang]\ntls = 1", "tls"),
            ("data = \"/d\"\n[boot.fetch]\nenabled = true", "endorsements"),
            ("data = \"/d\"\n[boot.fetch]\namd = \"kdsintf.amd.com\"", "amd"),
            ("data = \"/d\"\n[boot.fetch]\nintel = \"https://mirror/?a=b\"", "intel"),
        ] {
            let error = Config::parse(text).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }
}
