//! `key …`: keys and their life.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use keyhearth_client::Page;
use keyhearth_core::id::{Alias, KeyId};
use keyhearth_core::policy::POLICY_BYTES_MAX;
use keyhearth_core::request::{ImportMechanism, KeyRef};
use keyhearth_core::state::State;
use keyhearth_core::time::Time;
use keyhearth_crypto::algorithm::Algorithm;
use keyhearth_proto::rest::body::{
    Cancellation, Cryptoperiod, Days, Destruction, Export, Import, ImportTerms, KeyChange, KeyOrVersion,
    KeyPolicy, NewKey, Number, OfVersion, PUBLIC_BYTES_MAX, Schedule, Switches,
};
use keyhearth_proto::rest::{Cursor, Is, Object, Text, Use, Within, answer};

use super::failure::Failure;
use super::input::{self, Source};
use super::output::Sink;
use super::session::{Server, Session};
use super::spelled::{pair, pairs, spelled, text_of, within};

/// The key that a command is about.
#[derive(Args)]
pub struct KeyArgument {
    /// The key's id or one of its aliases.
    #[arg(value_parser = text_of::<KeyRef>)]
    pub key: String,
}

/// A key and one of its versions.
#[derive(Args)]
pub struct VersionArguments {
    #[command(flatten)]
    pub key: KeyArgument,
    #[command(flatten)]
    pub version: VersionFlag,
}

/// A key, or one of its versions.
#[derive(Args)]
pub struct KeyOrVersionArguments {
    #[command(flatten)]
    pub key: KeyArgument,
    /// Only this version; the key as a whole if absent.
    #[arg(long, value_name = "NUMBER", value_parser = within::<1, { u32::MAX }>)]
    pub version: Option<Number>,
}

/// A version of a key.
#[derive(Args)]
pub struct VersionFlag {
    /// The version; the primary one if absent.
    #[arg(long, value_name = "NUMBER", value_parser = within::<1, { u32::MAX }>)]
    pub version: Option<Number>,
}

/// A page of a listing.
#[derive(Args)]
pub struct PageFlags {
    /// Where the page begins, as the page before said.
    #[arg(long, value_name = "CURSOR", value_parser = spelled::<Cursor>())]
    after: Option<Is<Cursor>>,
    /// At most so many, 1 to 1000.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: Option<u32>,
}

impl From<PageFlags> for Page {
    fn from(PageFlags { after, limit }: PageFlags) -> Self {
        Self { after, limit }
    }
}

#[derive(Subcommand)]
#[allow(clippy::large_enum_variant, reason = "made once")]
pub enum Verb {
    #[command(flatten)]
    OfKey(OfKey),
    List(PageFlags),
    ImportParameters {
        #[command(flatten)]
        key: KeyArgument,
        /// How the material will be wrapped.
        #[arg(long, value_parser = spelled::<ImportMechanism>())]
        mechanism: Is<ImportMechanism>,
        /// The algorithm of the RSA key that wraps, for mechanisms that have one; rsa-3072 if absent.
        #[arg(long, value_name = "ALGORITHM", value_parser = spelled::<Algorithm>())]
        wrapping: Option<Is<Algorithm>>,
        #[command(flatten)]
        sink: Sink,
    },
    /// FILE is the recipient's public key: PEM or DER, or raw for HPKE.
    Export {
        #[command(flatten)]
        at: VersionArguments,
        /// How to wrap it.
        #[arg(long, value_parser = spelled::<ImportMechanism>())]
        mechanism: Is<ImportMechanism>,
        #[command(flatten)]
        recipient: Source,
        #[command(flatten)]
        sink: Sink,
        /// Write bytes, not base64.
        #[arg(long)]
        raw: bool,
    },
    Public {
        #[command(flatten)]
        at: VersionArguments,
        #[command(flatten)]
        sink: Sink,
    },
    LastUse(KeyArgument),
    /// In the text, the key is `Keyhearth::Key::"this"`. Without FILE and --closed, the key has no policy then.
    SetPolicy {
        #[command(flatten)]
        key: KeyArgument,
        /// Cedar policy text; `-` is standard input.
        file: Option<PathBuf>,
        /// Roles and the tenant's policies allow nothing on the key any more; they still forbid.
        #[arg(long)]
        closed: bool,
    },
    Policy(KeyArgument),
    Alias(AliasArguments),
    Unalias(AliasArguments),
    /// KEY is the key that gets it.
    MoveAlias(AliasArguments),
    Aliases {
        /// Only those of this key.
        #[arg(long, value_name = "KEY", value_parser = text_of::<KeyRef>)]
        key: Option<String>,
        #[command(flatten)]
        page: PageFlags,
    },
}

/// What answers with the key as it then is.
#[derive(Subcommand)]
#[allow(clippy::large_enum_variant, reason = "made once")]
pub enum OfKey {
    Create(Create),
    Show(KeyArgument),
    Update(Update),
    Rotate(KeyArgument),
    Activate(VersionArguments),
    Suspend(KeyOrVersionArguments),
    Resume(KeyOrVersionArguments),
    Deactivate(VersionArguments),
    Compromise(VersionArguments),
    ScheduleDestroy {
        #[command(flatten)]
        key: KeyArgument,
        /// Days from now, 7 to 30; 30 if absent.
        #[arg(long, value_parser = within::<7, 30>)]
        days: Option<Within<7, 30>>,
    },
    CancelDestroy {
        #[command(flatten)]
        key: KeyArgument,
        /// Leave the key suspended.
        #[arg(long)]
        suspend: bool,
    },
    Destroy {
        #[command(flatten)]
        key: KeyArgument,
        /// The version.
        #[arg(long, value_name = "NUMBER", value_parser = within::<1, { u32::MAX }>)]
        version: Number,
        /// The key's id again, so that nobody does it by mistake.
        #[arg(long, value_name = "KEY-ID", value_parser = spelled::<KeyId>())]
        confirm: Is<KeyId>,
    },
    Import {
        #[command(flatten)]
        key: KeyArgument,
        #[command(flatten)]
        wrapped: Source,
        /// The input is bytes, not base64.
        #[arg(long)]
        raw: bool,
        /// The version it is for; the one that it fits if absent.
        #[arg(long, value_name = "NUMBER", value_parser = within::<1, { u32::MAX }>)]
        version: Option<Number>,
        /// It is for one version more, which begins with the next rotation.
        #[arg(long)]
        for_rotation: bool,
        /// When it ends: from then on it is not used, and deleted.
        #[arg(long, value_name = "TIME", value_parser = spelled::<Time>())]
        expires: Option<Is<Time>>,
        /// For people.
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    Unload(VersionArguments),
}

/// A key and an alias.
#[derive(Args)]
pub struct AliasArguments {
    #[command(flatten)]
    key: KeyArgument,
    /// The alias.
    #[arg(value_parser = text_of::<Alias>)]
    alias: String,
}

/// What a new key is to be.
#[derive(Args)]
pub struct Create {
    /// What it is.
    #[arg(value_parser = spelled::<Algorithm>())]
    algorithm: Is<Algorithm>,
    /// An alias to make with it.
    #[arg(long, value_parser = spelled::<Alias>())]
    alias: Option<Is<Alias>>,
    /// What it may be used for; what is usual for the algorithm if absent.
    #[arg(long, value_delimiter = ',', value_parser = spelled::<Use>())]
    usage: Option<Vec<Is<Use>>>,
    /// Its material may leave the server, wrapped.
    #[arg(long)]
    exportable: bool,
    /// Its material will be imported.
    #[arg(long)]
    import: bool,
    /// When it becomes active; at once if absent.
    #[arg(long, value_name = "TIME", value_parser = spelled::<Time>())]
    activation: Option<Is<Time>>,
    #[command(flatten)]
    life: Life,
}

/// What can be changed later.
#[derive(Args)]
struct Life {
    /// For people.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// For policies and people; can be given again.
    #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = pair)]
    tags: Vec<(String, String)>,
    /// Days after which a version protects nothing more.
    #[arg(long, value_name = "DAYS", value_parser = within::<1, 3650>)]
    protect_days: Option<Days>,
    /// Days after which a version is not used at all.
    #[arg(long, value_name = "DAYS", value_parser = within::<1, 3650>)]
    process_days: Option<Days>,
    /// Days between automatic rotations.
    #[arg(long, value_name = "DAYS", value_parser = within::<1, 3650>)]
    rotate_days: Option<Days>,
}

impl Life {
    fn cryptoperiod(&self) -> Option<Object<Cryptoperiod>> {
        let (protect_days, process_days) = (self.protect_days, self.process_days);
        (protect_days.is_some() || process_days.is_some())
            .then_some(Object(Cryptoperiod { protect_days, process_days }))
    }
}

/// Changes of a key; what is absent stays as it is.
#[derive(Args)]
pub struct Update {
    #[command(flatten)]
    key: KeyArgument,
    #[command(flatten)]
    life: Life,
    /// Set one tag and leave the others; can be given again.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    set_tag: Vec<(String, String)>,
    /// Remove one tag and leave the others; can be given again.
    #[arg(long, value_name = "NAME")]
    remove_tag: Vec<String>,
    /// End automatic rotation.
    #[arg(long, conflicts_with = "rotate_days")]
    no_rotation: bool,
    /// A suspended version still decrypts and verifies; needs both switches.
    #[arg(long, value_name = "YES", requires = "process_when_compromised")]
    process_when_suspended: Option<bool>,
    /// A compromised version still decrypts and verifies, with a `--reason`; needs both switches.
    #[arg(long, value_name = "YES", requires = "process_when_suspended")]
    process_when_compromised: Option<bool>,
}

impl Create {
    fn body(self) -> NewKey {
        NewKey {
            cryptoperiod: self.life.cryptoperiod(),
            algorithm: self.algorithm,
            usage: self.usage,
            exportable: Some(self.exportable),
            import: Some(self.import),
            description: self.life.description.map(Text),
            tags: pairs(self.life.tags),
            alias: self.alias,
            activation: self.activation,
            rotate_days: self.life.rotate_days,
            policy: None,
        }
    }
}

impl Update {
    fn change(self) -> KeyChange {
        let switches = self.process_when_suspended.zip(self.process_when_compromised);
        let set = self.set_tag.into_iter().map(|(name, value)| (name, Some(value)));
        let tags: Vec<_> = set.chain(self.remove_tag.into_iter().map(|name| (name, None))).collect();
        KeyChange {
            cryptoperiod: self.life.cryptoperiod(),
            description: self.life.description.map(Text),
            tags: pairs(self.life.tags),
            set_tags: (!tags.is_empty()).then(|| tags.into_iter().collect()),
            switches: switches.map(|(process_when_suspended, process_when_compromised)| {
                Object(Switches { process_when_suspended, process_when_compromised })
            }),
            rotate_days: if self.no_rotation { Some(None) } else { self.life.rotate_days.map(Some) },
        }
    }
}

impl Verb {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let server = &session.server()?;
        match self {
            Self::SetPolicy { key, file, closed } => {
                let text = file.map(|file| input::text(&file, POLICY_BYTES_MAX).map(Text)).transpose()?;
                let body = KeyPolicy { text, closed: Some(closed) };
                let answer = server.wait(server.put_key_policy(&key.key, &body))?;
                session.say(&answer, &format!("the policy of {} is in force", key.key))
            }
            Self::Policy(key) => session.show(&server.wait(server.key_policy(&key.key))?),
            Self::List(page) => list(session, server, page),
            Self::Aliases { key, page } => {
                let answer = server.wait(server.list_aliases(key.as_deref(), &page.into()))?;
                let row = |one: &answer::AliasOf| vec![one.alias.to_string(), one.key.to_string()];
                session.list(&answer, &["alias", "key"], answer.aliases.iter().map(row))
            }
            Self::ImportParameters { key, mechanism, wrapping, sink } => {
                let terms = ImportTerms { mechanism, wrapping };
                let answer = server.wait(server.import_parameters(&key.key, &terms))?;
                if sink.is_file() { sink.public(&answer.public, true) } else { session.show(&answer) }
            }
            Self::Export { at, mechanism, recipient, sink, raw } => {
                let recipient = public_key(&recipient.read(PUBLIC_BYTES_MAX)?).into();
                let body = Export { version: at.version.version, mechanism, recipient };
                let answer = server.wait(server.export_key(&at.key.key, &body))?;
                if session.json() { session.show(&answer) } else { sink.public(&answer.wrapped, raw) }
            }
            Self::Public { at, sink } => {
                let answer =
                    server.wait(server.public_key(&at.key.key, at.version.version.map(Within::number)))?;
                if session.json() {
                    session.show(&answer)
                } else {
                    sink.text(&pem("PUBLIC KEY", &answer.der))
                }
            }
            Self::LastUse(key) => session.show(&server.wait(server.last_use(&key.key))?),
            Self::Unalias(AliasArguments { key, alias }) => {
                let answer = server.wait(server.delete_alias(&key.key, &alias))?;
                session.say(&answer, &format!("{alias} is deleted"))
            }
            Self::Alias(AliasArguments { key, alias }) => {
                let answer = server.wait(server.set_alias(&key.key, &alias))?;
                session.say(&answer, &format!("{alias} is {}", key.key))
            }
            Self::MoveAlias(AliasArguments { key, alias }) => {
                let answer = server.wait(server.move_alias(&key.key, &alias))?;
                session.say(&answer, &format!("{alias} is {}", key.key))
            }
            Self::OfKey(verb) => session.show(&verb.ask(server)?),
        }
    }
}

impl OfKey {
    fn ask(self, server: &Server) -> Result<answer::Key, Failure> {
        let of = |at: &VersionArguments| OfVersion { version: at.version.version };
        match self {
            Self::Create(create) => server.wait(server.create_key(&create.body())),
            Self::Show(key) => server.wait(server.describe_key(&key.key)),
            Self::Update(update) => {
                let key = update.key.key.clone();
                server.wait(server.update_key(&key, &update.change()))
            }
            Self::Rotate(key) => server.wait(server.rotate_key(&key.key)),
            Self::Activate(at) => server.wait(server.activate_key(&at.key.key, &of(&at))),
            Self::Suspend(KeyOrVersionArguments { key, version }) => {
                server.wait(server.suspend_key(&key.key, &KeyOrVersion { version }))
            }
            Self::Resume(KeyOrVersionArguments { key, version }) => {
                server.wait(server.resume_key(&key.key, &KeyOrVersion { version }))
            }
            Self::Deactivate(at) => server.wait(server.deactivate_key(&at.key.key, &of(&at))),
            Self::Compromise(at) => server.wait(server.compromise_key(&at.key.key, &of(&at))),
            Self::ScheduleDestroy { key, days } => {
                server.wait(server.schedule_destroy(&key.key, &Schedule { days }))
            }
            Self::CancelDestroy { key, suspend } => {
                server.wait(server.cancel_destroy(&key.key, &Cancellation { suspend: Some(suspend) }))
            }
            Self::Destroy { key, version, confirm } => {
                server.wait(server.destroy_key(&key.key, &Destruction { version, confirm }))
            }
            Self::Import { key, wrapped, raw, version, for_rotation, expires, description } => {
                let wrapped = wrapped.decode(raw, PUBLIC_BYTES_MAX)?.into();
                let (for_rotation, description) = (Some(for_rotation), description.map(Text));
                let body = Import { wrapped, parameters: None, version, for_rotation, expires, description };
                server.wait(server.import_key(&key.key, &body))
            }
            Self::Unload(at) => server.wait(server.unload_key(&at.key.key, &of(&at))),
        }
    }
}

fn list(session: &Session, server: &Server, page: PageFlags) -> Result<(), Failure> {
    let answer = server.wait(server.list_keys(&page.into()))?;
    let row = |key: &answer::Key| {
        let primary = key.versions.iter().find(|version| version.number == key.primary);
        let state = match (&key.suspended, primary) {
            (Some(_), _) => State::Suspended.to_string(),
            (None, primary) => primary.map(|version| version.state.to_string()).unwrap_or_default(),
        };
        let aliases: Vec<_> = key.aliases.iter().map(ToString::to_string).collect();
        vec![key.id.to_string(), key.algorithm.to_string(), state, aliases.join(" ")]
    };
    session.list(&answer, &["id", "algorithm", "state", "aliases"], answer.keys.iter().map(row))
}

/// The bytes of a public key that may be PEM.
pub fn public_key(bytes: &[u8]) -> Vec<u8> {
    use rustls::pki_types::SubjectPublicKeyInfoDer;
    use rustls::pki_types::pem::PemObject as _;
    SubjectPublicKeyInfoDer::from_pem_slice(bytes).map_or_else(|_| bytes.to_vec(), |der| der.to_vec())
}

/// DER as PEM. Source: RFC 7468 §2.
fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.extend(line.iter().map(|&c| char::from(c)));
        pem.push('\n');
    }
    pem + &format!("-----END {label}-----\n")
}
