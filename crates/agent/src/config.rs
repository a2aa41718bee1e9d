//! What the agent believes and does: one TOML file in the initramfs, which is measured with it.
//!
//! Nothing on a disk or from the network changes it.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyhearth_core::id::{DeploymentId, Name, PrincipalId};
use keyhearth_proto::boot::{PublicKey, VOLUMES_MAX};
use keyhearth_proto::rest::Is;
use keyhearth_sys::power::End;
use serde::{Deserialize, Deserializer, de};

use crate::cloud::{Cloud, Metadata};
use crate::evidence::Tee;
use crate::transport::Server;

/// Where the configuration lies in the initramfs.
pub const CONFIG_FILE: &str = "/etc/keyhearth/boot.toml";
/// The longest configuration file, in bytes.
const CONFIG_BYTES_MAX: u64 = 64 << 10;
/// Mappings' names have at most so many bytes.
const MAPPING_BYTES_MAX: usize = 64;
/// The longest pause between heartbeats that can be configured, in seconds.
const EVERY_S_MAX: u32 = 3_600;

/// The configuration of the agent.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The servers' addresses, in the order in which they are tried.
    pub servers: Vec<Server>,
    /// The CA that signed the servers' certificates (PEM).
    pub ca: PathBuf,
    /// The public key that signs what is released: 32 bytes of Ed25519, in base64.
    #[serde(deserialize_with = "release_key")]
    pub release_key: PublicKey,
    /// The deployment that answers.
    #[serde(deserialize_with = "deployment")]
    pub server: DeploymentId,
    /// This machine, as it was enrolled.
    #[serde(deserialize_with = "machine")]
    pub machine: PrincipalId,
    /// Whether that is a golden image: then this machine is a clone of it, with an identity that its disk names.
    #[serde(default)]
    pub image: bool,
    /// Which evidence is collected; the strongest there is if absent.
    #[serde(default)]
    pub tee: Choice,
    /// Whose document of where the machine runs is collected besides; none if absent.
    pub cloud: Option<Cloud>,
    /// Where that cloud's metadata service is.
    #[serde(default)]
    pub metadata: Metadata,
    /// What happens to a machine that gets no key.
    #[serde(default)]
    pub on_refusal: OnRefusal,
    /// How often every server is tried before this counts as a refusal.
    #[serde(default = "attempts")]
    pub attempts: u32,
    /// How long an approval is waited for, in seconds.
    #[serde(default = "approval_wait_s")]
    pub approval_wait_s: u64,
    /// How long the disks are waited for, in seconds.
    #[serde(default = "device_wait_s")]
    pub device_wait_s: u64,
    /// How the server hears of the machine while it runs; it does not if absent.
    pub heartbeat: Option<Heartbeat>,
    /// Whom the screen tells to ask.
    pub contact: Option<String>,
    /// What is opened.
    pub volumes: Vec<Volume>,
}

/// An encrypted volume.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// Its name on the server.
    #[serde(deserialize_with = "name")]
    pub name: Name,
    /// Where it lies.
    pub device: Device,
    /// The name that it gets in `/dev/mapper`.
    pub mapping: String,
    /// Whether it is opened by the running system, and not before.
    #[serde(default)]
    pub late: bool,
}

/// How the server hears of a machine that runs, and what follows if it may not go on.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// The longest pause between two heartbeats, in seconds.
    #[serde(default = "every_s")]
    pub every_s: u32,
    /// What happens when the lease ends.
    pub on_end: OnEnd,
}

/// What happens to a machine that runs when its lease ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnEnd {
    /// Volumes that were opened late are closed, and the machine goes on without them.
    Close,
    /// The same, and then the machine stops; the console keeps the reason.
    Halt,
    /// Its power goes off at once.
    PowerOff,
    /// It starts anew at once.
    Reboot,
}

impl OnEnd {
    /// How the machine ends; nothing if it goes on.
    #[must_use]
    pub fn end(self) -> Option<OnRefusal> {
        match self {
            Self::Close => None,
            Self::Halt => Some(OnRefusal::Halt),
            Self::PowerOff => Some(OnRefusal::PowerOff),
            Self::Reboot => Some(OnRefusal::Reboot),
        }
    }
}

/// A block device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device(PathBuf);

/// Which evidence is collected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// The strongest that the machine has.
    #[default]
    Auto,
    /// AMD SEV-SNP.
    Snp,
    /// Intel TDX.
    Tdx,
    /// A TPM.
    Tpm,
    /// The TPM of a confidential VM of Azure.
    Azure,
    /// None at all.
    None,
}

impl Choice {
    /// The kind that was chosen, if one was.
    #[must_use]
    pub fn tee(self) -> Option<Tee> {
        match self {
            Self::Auto => None,
            Self::Snp => Some(Tee::Snp),
            Self::Tdx => Some(Tee::Tdx),
            Self::Tpm => Some(Tee::Tpm),
            Self::Azure => Some(Tee::Azure),
            Self::None => Some(Tee::None),
        }
    }
}

/// What happens to a machine that gets no key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnRefusal {
    /// It stops; the console keeps the reason.
    #[default]
    Halt,
    /// Its power goes off.
    PowerOff,
    /// It starts anew, after a minute in which the console shows the reason.
    Reboot,
}

impl From<OnRefusal> for End {
    fn from(choice: OnRefusal) -> Self {
        match choice {
            OnRefusal::Halt => Self::Halt,
            OnRefusal::PowerOff => Self::PowerOff,
            OnRefusal::Reboot => Self::Reboot,
        }
    }
}

fn attempts() -> u32 {
    10
}

fn every_s() -> u32 {
    60
}

fn approval_wait_s() -> u64 {
    3600
}

fn device_wait_s() -> u64 {
    30
}

fn release_key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
    let text = String::deserialize(deserializer)?;
    let key = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    key.ok_or_else(|| de::Error::custom("a release key is 32 bytes in base64"))
}

fn deployment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DeploymentId, D::Error> {
    Is::deserialize(deserializer).map(|is| is.0)
}

fn machine<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PrincipalId, D::Error> {
    Is::deserialize(deserializer).map(|is| is.0)
}

fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
    Is::deserialize(deserializer).map(|is| is.0)
}

impl<'de> Deserialize<'de> for Device {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let named = [("UUID=", "by-uuid"), ("PARTUUID=", "by-partuuid"), ("LABEL=", "by-label")];
        let path = named.iter().find_map(|(prefix, folder)| {
            let name = text.strip_prefix(prefix)?;
            Some(Path::new("/dev/disk").join(folder).join(name))
        });
        let path = path.unwrap_or_else(|| PathBuf::from(&text));
        // A parent's name would lead out of the folder of names.
        if !path.is_absolute() || path.components().any(|part| part.as_os_str() == "..") {
            return Err(de::Error::custom("a device is an absolute path, UUID=…, PARTUUID=… or LABEL=…"));
        }
        Ok(Self(path))
    }
}

impl Device {
    /// The path that leads to it once it is there.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// Why there is no configuration.
#[derive(Debug)]
pub enum Error {
    /// The file cannot be read.
    Unreadable(PathBuf, std::io::Error),
    /// It is not of its form, or a value is not; the text says which.
    Form(PathBuf, Box<toml::de::Error>),
    /// A rule over several values is broken: the key, and the rule.
    Invalid(&'static str, &'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(path, error) => write!(f, "{} cannot be read: {error}", path.display()),
            Self::Form(path, error) => {
                write!(f, "{} is not of its form: {}", path.display(), error.message())
            }
            Self::Invalid(key, rule) => write!(f, "{key}: {rule}"),
        }
    }
}

impl std::error::Error for Error {}

impl Config {
    /// Reads the configuration.
    ///
    /// # Errors
    /// [`Error`] if there is none, or it is not one.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let unreadable = |error| Error::Unreadable(path.to_owned(), error);
        let mut text = String::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(CONFIG_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
        Self::parse(&text).map_err(|error| match error {
            Parsing::Form(error) => Error::Form(path.to_owned(), error),
            Parsing::Rule(key, rule) => Error::Invalid(key, rule),
        })
    }

    fn parse(text: &str) -> Result<Self, Parsing> {
        let config: Self = toml::from_str(text).map_err(|error| Parsing::Form(Box::new(error)))?;
        let rule = |key, rule| Err(Parsing::Rule(key, rule));
        if config.servers.is_empty() {
            return rule("servers", "at least one, as https://HOST:PORT");
        }
        if !(1..=VOLUMES_MAX).contains(&config.volumes.len()) {
            return rule("volumes", "1 to 16");
        }
        if config.attempts == 0 {
            return rule("attempts", "at least 1");
        }
        let late = |late: bool| config.volumes.iter().any(|volume| volume.late == late);
        match config.heartbeat {
            Some(Heartbeat { every_s, .. }) if !(1..=EVERY_S_MAX).contains(&every_s) => {
                return rule("heartbeat.every_s", "1 to 3600");
            }
            Some(Heartbeat { on_end: OnEnd::Close, .. }) if !late(true) => {
                return rule(
                    "heartbeat.on_end",
                    "\"close\" needs a volume with `late = true`: no other can be closed",
                );
            }
            None if late(true) && late(false) => {
                return rule(
                    "heartbeat",
                    "must be there, so that the lease lasts until late volumes are opened",
                );
            }
            Some(_) | None => {}
        }
        for volume in &config.volumes {
            if !is_mapping(&volume.mapping) {
                return rule(
                    "volumes.mapping",
                    "1 to 64 letters, digits, '-', '_' or '.', a letter or digit first",
                );
            }
        }
        if config.image && (config.volumes.len() != 1 || late(true)) {
            return rule("image", "a golden image has one volume, which is opened before the system runs");
        }
        let twice = |of: fn(&Volume) -> &str| {
            let mut names: Vec<_> = config.volumes.iter().map(of).collect();
            names.sort_unstable();
            names.windows(2).any(|pair| pair[0] == pair[1])
        };
        if twice(|volume| volume.name.as_str()) || twice(|volume| &volume.mapping) {
            return rule("volumes", "no name and no mapping twice");
        }
        Ok(config)
    }
}

#[derive(Debug)]
enum Parsing {
    Form(Box<toml::de::Error>),
    Rule(&'static str, &'static str),
}

/// A mapping becomes an argument and the name of a file, so nothing in them means anything to a program.
fn is_mapping(name: &str) -> bool {
    let inside = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    name.len() <= MAPPING_BYTES_MAX
        && name.bytes().all(inside)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
servers = ["https://kms.example:8444", "https://[2001:db8::1]:8444"]
ca = "/etc/keyhearth/ca.pem"
release_key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
server = "01890a5d-ac96-774b-bcce-b302099a8057"
machine = "01890a5d-ac96-774b-bcce-b302099a8058"
[[volumes]]
name = "root"
device = "UUID=0c8d5c0e-6e6b-4f0c-9f0c-2e5a3d0a7b11"
mapping = "root_crypt"
"#;

    #[test]
    fn the_least_configuration_has_safe_defaults() {
        let config = Config::parse(TEXT).unwrap();
        assert_eq!((config.tee.tee(), End::from(config.on_refusal)), (None, End::Halt));
        assert_eq!((config.attempts, config.approval_wait_s, config.device_wait_s), (10, 3600, 30));
        assert_eq!((config.cloud, config.metadata), (None, "http://169.254.169.254".parse().unwrap()));
        let path = config.volumes[0].device.path();
        assert_eq!(path, Path::new("/dev/disk/by-uuid/0c8d5c0e-6e6b-4f0c-9f0c-2e5a3d0a7b11"));
        assert_eq!(config.release_key[31], 0x1f);
        assert_eq!(config.machine.0[15], 0x58);
    }

    #[test]
    fn heartbeats_keep_what_is_opened_late() {
        let late = "late = true\nname = \"data\"\ndevice = \"/dev/vdb\"\nmapping = \"data\"\n";
        let more = |head: &str, volume: &str| {
            let head = TEXT.replace("[[volumes]]", &format!("{head}\n[[volumes]]"));
            Config::parse(&format!("{head}[[volumes]]\n{volume}"))
        };
        let early = late.replace("late = true", "late = false");
        let config = more("heartbeat = { on_end = \"close\" }", late).unwrap();
        assert_eq!(config.volumes.iter().map(|volume| volume.late).collect::<Vec<_>>(), [false, true]);
        let heartbeat = config.heartbeat.unwrap();
        assert_eq!((heartbeat.every_s, heartbeat.on_end.end().is_none()), (60, true));
        let halts = more("heartbeat = { every_s = 5, on_end = \"poweroff\" }", &early).unwrap();
        assert_eq!(halts.heartbeat.unwrap().on_end.end().map(End::from), Some(End::PowerOff));
        for (head, volume) in [
            ("", late),
            ("heartbeat = { on_end = \"close\" }", &early),
            ("heartbeat = { }", late),
            ("heartbeat = { on_end = \"halt\", every_s = 0 }", late),
            ("heartbeat = { on_end = \"halt\", every_s = 3601 }", late),
            ("heartbeat = { on_end = \"ignore\" }", late),
        ] {
            assert!(more(head, volume).is_err(), "{head} {volume}");
        }
        // A machine may have late volumes alone, and then need nobody to hear of it.
        assert!(Config::parse(&TEXT.replace("[[volumes]]", "[[volumes]]\nlate = true")).is_ok());
    }

    #[test]
    fn what_is_not_meant_is_refused() {
        let broken = [
            ("servers = [\"https://kms.example:8444\", \"https://[2001:db8::1]:8444\"]", "servers = []"),
            ("https://kms.example:8444", "http://kms.example:8444"),
            ("AAECAwQF", "AAECAwQ"),
            ("01890a5d-ac96-774b-bcce-b302099a8058", "01890A5D-AC96-774B-BCCE-B302099A8058"),
            ("name = \"root\"", "name = \"\""),
            ("root_crypt", "--help"),
            ("root_crypt", "../x"),
            ("UUID=0c8d", "UUID=../../0c8d"),
            ("UUID=0c8d", "sda"),
            ("[[volumes]]", "attempts = 0\n[[volumes]]"),
            ("[[volumes]]", "shell = true\n[[volumes]]"),
            (
                "[[volumes]]",
                "image = true\n[[volumes]]\nname = \"data\"\ndevice = \"/dev/vdb\"\nmapping = \"b\"\n[[volumes]]",
            ),
            ("[[volumes]]", "image = true\n[[volumes]]\nlate = true"),
            ("[[volumes]]", "tee = \"sev\"\n[[volumes]]"),
            ("[[volumes]]", "cloud = \"AWS\"\n[[volumes]]"),
            ("[[volumes]]", "metadata = \"http://metadata.example\"\n[[volumes]]"),
            ("[[volumes]]", "on_refusal = \"shell\"\n[[volumes]]"),
            (
                "[[volumes]]",
                "[[volumes]]\nname = \"root\"\ndevice = \"/dev/vdb\"\nmapping = \"b\"\n[[volumes]]",
            ),
        ];
        for (good, bad) in broken {
            let text = TEXT.replace(good, bad);
            assert_ne!(text, TEXT, "{good}");
            assert!(Config::parse(&text).is_err(), "{bad}");
        }
    }
}
