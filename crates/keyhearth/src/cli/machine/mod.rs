//! `boot enroll`, `boot explain` and what else is about machines that get the secrets of their volumes at boot.
//!
//! A machine that is named may be named by its name or its id. What is done to its disks is in [`super::volume`].

mod candidate;
mod erase;
mod image;
mod template;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use keyhearth_client::Page;
use keyhearth_core::id::{Name, PrincipalId, RequestId};
use keyhearth_core::machine::CLONES_MAX;
use keyhearth_core::request::KeyRef;
use keyhearth_crypto::algorithm::Algorithm;
use keyhearth_proto::rest::body::{
    ApprovalDecision, MachineChange, NewKey, NewMachine, Policy, ReferenceValue, VolumeOf,
};
use keyhearth_proto::rest::{Is, Text, Use, Within, answer};
use serde::Serialize;

use super::failure::Failure;
use super::key::PageFlags;
use super::made;
use super::output;
use super::session::{Server, Session};
use super::spelled::{pair, spelled};
use super::volume::{self, Disk, Opener, Passphrase, Volume, VolumeAt};
use candidate::CandidateArgument;
use erase::Erasure;
use template::Template;

#[derive(Subcommand)]
pub enum Verb {
    /// Makes its key too unless one is named, prepares the volumes whose devices are given, and sets its policy.
    Enroll(Box<Enrollment>),
    /// Adds a keyslot for the next secret of a volume, and enrolls the header as it then is
    Prepare {
        #[command(flatten)]
        volume: VolumeAt,
        #[command(flatten)]
        opener: Opener,
        /// End the keyslots of the secrets before, as `volume rotate` does.
        #[arg(long)]
        end_old: bool,
    },
    List(PageFlags),
    Show(MachineArgument),
    /// Says in plain words what the next boot needs, and why the last was refused
    Explain(MachineArgument),
    Update {
        #[command(flatten)]
        machine: MachineArgument,
        #[command(flatten)]
        reference: Reference,
        /// A value that a claim may have besides those that there are; can be given again.
        #[arg(long, value_name = "CLAIM=VALUE", value_parser = pair)]
        add: Vec<(String, String)>,
        /// A value that a claim may have no more, as that of an image that was replaced; can be given again.
        #[arg(long, value_name = "CLAIM=VALUE", value_parser = pair)]
        drop: Vec<(String, String)>,
        /// Drop all reference values.
        #[arg(long, conflicts_with_all = ["reference", "add", "drop"])]
        no_reference: bool,
        /// Forget the token that its volume keeps: after you put an older copy back on purpose.
        #[arg(long)]
        forget_token: bool,
        /// How many clones a golden image may make in all, 1 to 100000.
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=CLONES_MAX.into()))]
        clones: Option<u32>,
    },
    VolumeSecret {
        #[command(flatten)]
        volume: VolumeArgument,
        #[command(flatten)]
        out: SecretFile,
    },
    /// Wants `--reason`, which the log keeps.
    Recover {
        #[command(flatten)]
        volume: VolumeArgument,
        #[command(flatten)]
        out: SecretFile,
    },
    /// Ends a machine for ever: it boots no more, and one that runs ends at its next heartbeat
    ///
    /// A golden image makes no clones any more; those that there are keep their identities.
    Revoke {
        #[command(flatten)]
        machine: MachineArgument,
        /// Of a golden image: end all its clones too.
        #[arg(long)]
        clones: bool,
    },
    /// Ends a machine and destroys its key: nobody gets a secret of its volumes again, for any copy
    ///
    /// Wants `--reason`, which the log keeps. Passphrases of your own still open them, and secrets that somebody wrote
    /// to a file.
    Erase(Erasure),
    /// Lists what machines say of their next boots, beside the reference values
    Candidates {
        /// The machine's name or id; all machines if absent.
        machine: Option<String>,
    },
    /// Its values are added to the reference values; those of before stay.
    Accept(CandidateArgument),
    /// Rejects what a machine says its next boot will be
    Reject(CandidateArgument),
    Approvals(PageFlags),
    /// The next boot with the same claims, once.
    Approve(ApprovalArgument),
    /// Denies a boot
    Deny(ApprovalArgument),
    /// Prints a policy for a machine: what its evidence must show
    Template {
        /// How much is asked of it.
        #[arg(value_enum)]
        template: Template,
        #[command(flatten)]
        machine: MachineArgument,
    },
    /// Prints the configuration of the agent of a machine
    Config {
        #[command(flatten)]
        machine: MachineArgument,
        #[command(flatten)]
        agent: Agent,
        /// A volume and its device, as the machine names it; can be given again.
        #[arg(long = "volume", value_name = "VOLUME=DEVICE", value_parser = volume_at)]
        volumes: Vec<(Name, PathBuf)>,
    },
}

#[derive(Args)]
pub struct Enrollment {
    /// Its name, never used again.
    #[arg(value_parser = spelled::<Name>())]
    name: Is<Name>,
    /// A volume, and its device or image file if its keyslot is to be prepared now; can be given again.
    #[arg(long = "volume", value_name = "NAME[=DEVICE]", required = true, value_parser = volume_name)]
    volumes: Vec<(Name, Option<PathBuf>)>,
    #[command(flatten)]
    passphrase: Passphrase,
    /// The key that its secrets are derived from; one is made as `boot/NAME` if absent.
    #[arg(long, value_parser = spelled::<KeyRef>())]
    key: Option<Is<KeyRef>>,
    #[command(flatten)]
    reference: Reference,
    /// Sets the policy `boot-NAME` from a template; without, no boot is allowed until a policy says so.
    #[arg(long, value_enum)]
    template: Option<Template>,
    /// Writes the agent's configuration to a file.
    #[arg(long, value_name = "FILE", requires = "server")]
    config: Option<PathBuf>,
    #[command(flatten)]
    agent: Agent,
    /// Also adds a keyslot for the recovery secret to every volume that is prepared; clones make theirs, too.
    #[arg(long)]
    recovery: bool,
    /// Enrolls a golden image instead: each of at most so many clones, 1 to 100000, gets an identity of its own.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=CLONES_MAX.into()))]
    clones: Option<u32>,
}

/// What evidence must claim.
#[derive(Args)]
pub struct Reference {
    /// A claim of its evidence and a value that it may have; can be given again.
    #[arg(long = "reference", value_name = "CLAIM=VALUE", value_parser = pair)]
    reference: Vec<(String, String)>,
}

impl Reference {
    fn values(self) -> Option<Vec<ReferenceValue>> {
        values(self.reference)
    }
}

fn values(pairs: Vec<(String, String)>) -> Option<Vec<ReferenceValue>> {
    let one = |(claim, value)| ReferenceValue { claim: Text(claim), values: vec![Text(value)] };
    let values: Vec<_> = pairs.into_iter().map(one).collect();
    (!values.is_empty()).then_some(values)
}

/// Where the agent finds the server, and what it does when it is refused.
#[derive(Args)]
pub struct Agent {
    /// URL of the server's boot listener, as the machine reaches it; can be given again.
    #[arg(long = "server", id = "server", value_name = "URL")]
    servers: Vec<String>,
    /// What the machine does when it is refused.
    #[arg(long, value_name = "ACTION", default_value = "halt", value_parser = ["halt", "poweroff", "reboot"])]
    on_refusal: String,
    /// Whom to ask, for the machine's screen.
    #[arg(long, value_name = "TEXT")]
    contact: Option<String>,
    /// A volume that is opened by the system that runs, not before it starts; can be given again.
    #[arg(long = "late", value_name = "VOLUME", value_parser = spelled::<Name>())]
    late: Vec<Is<Name>>,
    /// The machine goes on asking while it runs, so often at least: 1 to 3600 seconds.
    #[arg(long, value_name = "SECONDS", requires = "on_end", value_parser = clap::value_parser!(u32).range(1..=3600))]
    heartbeat: Option<u32>,
    /// What the machine does when it may not go on.
    #[arg(long, value_name = "ACTION", requires = "heartbeat", value_parser = ["close", "halt", "poweroff", "reboot"])]
    on_end: Option<String>,
}

/// A machine.
#[derive(Args)]
pub struct MachineArgument {
    /// The machine's name or id.
    machine: String,
}

/// A volume of a machine.
#[derive(Args)]
pub struct VolumeArgument {
    #[command(flatten)]
    machine: MachineArgument,
    /// The volume.
    #[arg(value_parser = spelled::<Name>())]
    volume: Is<Name>,
}

/// Where a secret goes.
#[derive(Args)]
pub struct SecretFile {
    /// File for the secret, 32 bytes; it must not exist.
    #[arg(long = "to", value_name = "FILE")]
    to: PathBuf,
}

/// An approval.
#[derive(Args)]
pub struct ApprovalArgument {
    /// Its id, as `boot approvals` shows it.
    #[arg(value_parser = spelled::<RequestId>())]
    approval: Is<RequestId>,
}

impl Verb {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let server = &session.server()?;
        match self {
            Self::Enroll(enrollment) => enrollment.run(session, server),
            Self::Prepare { volume, opener, end_old } => {
                let mut volume = volume.find(server)?;
                volume::renew(session, &mut volume, &opener, end_old.then_some(&[]))?;
                session.show(&volume.machine)
            }
            Self::List(page) => image::list(session, &server.wait(server.list_machines(&page.into()))?),
            Self::Show(machine) => session.show(&machine.find(server)?),
            Self::Explain(machine) => explain(session, server, &machine.find(server)?),
            Self::Update { machine, reference, add, drop, no_reference, forget_token, clones } => {
                let reference = if no_reference { Some(Vec::new()) } else { reference.values() };
                let change = MachineChange {
                    reference,
                    add: values(add),
                    drop: values(drop),
                    volumes: None,
                    forget_token: forget_token.then_some(true),
                    clones: clones.and_then(Within::new),
                };
                let machine = machine.find(server)?;
                session.show(&server.wait(server.update_machine(*machine.id, &change))?)
            }
            Self::VolumeSecret { volume, out } => {
                let (key, body) = volume.body(server)?;
                out.write(session, &server.wait(server.volume_secret(&key, &body))?)
            }
            Self::Recover { volume, out } => {
                let (key, body) = volume.body(server)?;
                out.write(session, &server.wait(server.recovery_secret(&key, &body))?)
            }
            Self::Revoke { machine, clones } => {
                image::revoke(session, server, &machine.find(server)?, clones)
            }
            Self::Erase(erasure) => erasure.run(session, server),
            Self::Candidates { machine } => {
                let machine = machine.map(|machine| MachineArgument { machine });
                candidate::list(session, server, machine.as_ref())
            }
            Self::Accept(candidate) => candidate::decide(session, server, &candidate, true),
            Self::Reject(candidate) => candidate::decide(session, server, &candidate, false),
            Self::Approvals(page) => approvals(session, &server.wait(server.list_approvals(&page.into()))?),
            Self::Approve(ApprovalArgument { approval }) => decide(session, server, *approval, true),
            Self::Deny(ApprovalArgument { approval }) => decide(session, server, *approval, false),
            Self::Template { template, machine } => {
                let machine = machine.find(server)?;
                output::line(template.policy(&machine).trim_end())
            }
            Self::Config { machine, agent, volumes } => {
                let machine = machine.find(server)?;
                output::line(agent.config(server, &machine, &volumes)?.trim_end())
            }
        }
    }
}

impl Enrollment {
    /// The commit point is the machine's record: what ends before it leaves at most a key that nothing uses, and what
    /// ends after it a machine that `boot prepare` and `policy set` complete.
    fn run(self, session: &Session, server: &Server) -> Result<(), Failure> {
        let devices: Vec<(&Name, &Path)> =
            self.volumes.iter().filter_map(|(name, device)| Some((name, device.as_deref()?))).collect();
        self.agent.check_late(&self.volumes)?;
        if self.clones.is_some() {
            image::check(self.volumes.len(), &self.agent.late)?;
        }
        let passphrase = if devices.is_empty() { None } else { Some(self.passphrase.read()?) };
        for ((_, device), passphrase) in devices.iter().zip(passphrase.iter().cycle()) {
            volume::check(Disk::at(device), passphrase)?;
        }
        let key = match self.key {
            Some(key) => key,
            None => Is(KeyRef::Id(*server.wait(server.create_key(&new_key(&self.name)))?.id)),
        };
        let new = NewMachine {
            name: self.name.clone(),
            key,
            volumes: self.volumes.iter().map(|(name, _)| Is(name.clone())).collect(),
            reference: self.reference.values(),
            clones: self.clones.and_then(Within::new),
            recovery: (self.clones.is_some() && self.recovery).then_some(true),
        };
        let mut machine = server.wait(server.enroll_machine(&new))?;
        for (name, device) in devices {
            let passphrase = passphrase.as_deref().expect("it was read, as there are devices");
            let mut volume = Volume::of(server, machine, name, Disk::at(device))?;
            volume.prepare(session, passphrase, self.recovery)?;
            machine = volume.machine;
        }
        if let Some(template) = self.template {
            let policy = Policy { text: Text(template.policy(&machine)) };
            server.wait(server.put_policy(&policy_name(&machine)?, &policy))?;
        } else {
            session.hint("No policy allows it anything yet: see `keyhearth boot template`.");
        }
        if let Some(path) = self.config {
            let mut volumes = Vec::new();
            for (name, device) in &self.volumes {
                let device = device.as_deref().map(|device| Disk::at(device).uuid()).transpose()?;
                volumes.push((name.clone(), PathBuf::from(device.unwrap_or_else(|| format!("/dev/{name}")))));
            }
            let text = self.agent.config(server, &machine, &volumes)?;
            made::create(&path, made::PUBLIC, text.as_bytes())?;
        }
        session.show(&machine)
    }
}

impl MachineArgument {
    /// Finds it on the server.
    pub fn find(&self, server: &Server) -> Result<answer::Machine, Failure> {
        if let Ok(id) = self.machine.parse::<PrincipalId>() {
            return server.wait(server.describe_machine(id));
        }
        let mut found = None;
        every_machine(server, |machine| {
            if machine.name.as_str() == self.machine {
                found = Some(machine);
            }
        })?;
        found.ok_or_else(|| {
            let what = format_args!("there is no machine `{}`", self.machine).to_string();
            Failure::new(what, "see `keyhearth boot list`")
        })
    }
}

/// Gives every machine of the tenant to `take`.
fn every_machine(server: &Server, mut take: impl FnMut(answer::Machine)) -> Result<(), Failure> {
    let mut page = Page::default();
    loop {
        let found = server.wait(server.list_machines(&page))?;
        found.machines.into_iter().for_each(&mut take);
        match found.next {
            Some(next) => page.after = Some(next),
            None => return Ok(()),
        }
    }
}

impl VolumeArgument {
    fn body(self, server: &Server) -> Result<(String, VolumeOf), Failure> {
        let machine = self.machine.find(server)?;
        Ok((machine.key.to_string(), VolumeOf { machine: machine.id, volume: self.volume }))
    }
}

impl SecretFile {
    fn write(&self, session: &Session, secret: &answer::VolumeSecret) -> Result<(), Failure> {
        #[derive(Serialize)]
        struct Written<'a> {
            key: &'a Is<keyhearth_core::id::KeyId>,
            version: u32,
            generation: u32,
            written_to: String,
        }
        made::create(&self.to, made::PRIVATE, &secret.secret)?;
        let answer::VolumeSecret { key, version, generation, .. } = secret;
        let (version, generation) = (*version, *generation);
        session.show(&Written { key, version, generation, written_to: self.to.display().to_string() })
    }
}

impl Agent {
    /// Checks that what is opened late is a volume of the machine, and that there is one where it is to be closed.
    fn check_late<T>(&self, volumes: &[(Name, T)]) -> Result<(), Failure> {
        let is_missing = |late: &&Is<Name>| !volumes.iter().any(|(name, _)| *name == late.0);
        if let Some(late) = self.late.iter().find(is_missing) {
            let what = format!("--late {}: no --volume has this name", late.as_str());
            return Err(Failure::new(what, "name the same volume in both"));
        }
        let is_early = |name: &Name| !self.late.iter().any(|late| late.0 == *name);
        if !self.late.is_empty() && self.heartbeat.is_none() && volumes.iter().any(|(name, _)| is_early(name))
        {
            let what = "--late: volumes that are opened before keep their lease by heartbeats alone";
            return Err(Failure::new(what, "add --heartbeat SECONDS and --on-end"));
        }
        if self.on_end.as_deref() == Some("close") && self.late.is_empty() {
            let what = "--on-end close: no volume is opened late, and no other can be closed";
            return Err(Failure::new(what, "add --late, or take halt, poweroff or reboot"));
        }
        Ok(())
    }

    /// The agent's configuration, as `docs/boot/agent.md` describes it.
    fn config(
        &self,
        server: &Server,
        machine: &answer::Machine,
        volumes: &[(Name, PathBuf)],
    ) -> Result<String, Failure> {
        #[derive(Serialize)]
        struct Config<'a> {
            servers: &'a [String],
            ca: &'a str,
            server: String,
            release_key: String,
            machine: String,
            #[serde(skip_serializing_if = "std::ops::Not::not")]
            image: bool,
            tee: &'a str,
            on_refusal: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            contact: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            heartbeat: Option<Heartbeat<'a>>,
            volumes: Vec<Volume<'a>>,
        }
        #[derive(Serialize)]
        struct Heartbeat<'a> {
            every_s: u32,
            on_end: &'a str,
        }
        #[derive(Serialize)]
        struct Volume<'a> {
            name: &'a str,
            device: String,
            mapping: String,
            #[serde(skip_serializing_if = "std::ops::Not::not")]
            late: bool,
        }
        use base64::Engine as _;
        self.check_late(volumes)?;
        if machine.clones.is_some() {
            image::check(volumes.len(), &self.late)?;
        }
        let status = server.wait(server.status())?;
        let (Some(deployment), Some(key)) = (status.deployment, status.release_key) else {
            return Err(Failure::new("the server is sealed", "unseal it: keyhearth unseal"));
        };
        let volume =
            |(name, device): &'_ (Name, PathBuf)| (name.as_str().to_owned(), device.display().to_string());
        let volumes: Vec<_> = volumes.iter().map(volume).collect();
        let config = Config {
            servers: &self.servers,
            ca: "/etc/keyhearth/ca.pem",
            server: deployment.to_string(),
            release_key: base64::engine::general_purpose::STANDARD.encode(&*key),
            machine: machine.id.to_string(),
            image: machine.clones.is_some(),
            tee: "auto",
            on_refusal: &self.on_refusal,
            contact: self.contact.as_deref(),
            heartbeat: self
                .heartbeat
                .zip(self.on_end.as_deref())
                .map(|(every_s, on_end)| Heartbeat { every_s, on_end }),
            volumes: volumes
                .iter()
                .map(|(name, device)| Volume {
                    name,
                    device: device.clone(),
                    mapping: format!("{name}_crypt"),
                    late: self.late.iter().any(|late| late.as_str() == name),
                })
                .collect(),
        };
        toml::to_string(&config).map_err(|error| Failure::new(error, "report this"))
    }
}

/// The name of a machine's own policy.
fn policy_name(machine: &answer::Machine) -> Result<Name, Failure> {
    let name = format!("boot-{}", machine.name.as_str());
    name.parse().map_err(|_| {
        Failure::new("the machine's name is too long for its policy's", "name the policy yourself")
    })
}

fn new_key(name: &Name) -> NewKey {
    NewKey {
        algorithm: Is(Algorithm::HmacSha256),
        usage: Some(vec![Is(Use("release"))]),
        exportable: None,
        import: None,
        description: Some(Text(format!("Secrets of the volumes of {name}"))),
        tags: None,
        alias: format!("boot/{name}").parse().ok().map(Is),
        activation: None,
        cryptoperiod: None,
        rotate_days: None,
        policy: None,
    }
}

fn approvals(session: &Session, answer: &answer::Approvals) -> Result<(), Failure> {
    let rows = answer.approvals.iter().map(|approval| {
        let summary: Vec<&str> = approval.summary.lines().take(2).collect();
        vec![
            approval.id.to_string(),
            approval.name.to_string(),
            approval.decision.to_string(),
            summary.join("; "),
        ]
    });
    session.list(answer, &["ID", "MACHINE", "DECISION", "ASKS FOR"], rows)
}

/// Shows what the machine showed, and decides.
fn decide(session: &Session, server: &Server, approval: RequestId, approve: bool) -> Result<(), Failure> {
    let decided = server.wait(server.decide_approval(approval, &ApprovalDecision { approve }))?;
    session.show(&decided)
}

fn explain(session: &Session, server: &Server, machine: &answer::Machine) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Explained<'a> {
        machine: &'a answer::Machine,
        policies: Vec<String>,
        needs: Vec<String>,
    }
    let policies = server.wait(server.list_policies())?.policies;
    // Policies for the clones of an image name the image.
    let ids = [Some(machine.id.to_string()), machine.image.as_ref().map(ToString::to_string)];
    let is_named = |text: &str| ids.iter().flatten().any(|id| text.contains(id));
    let named: Vec<_> = policies.iter().filter(|policy| is_named(policy.text.as_str())).collect();
    let mut needs = Vec::new();
    for volume in &machine.volumes {
        match (&volume.header, volume.generation) {
            (Some(_), 1..) => {}
            _ => needs
                .push(format!("volume {} has no secret yet: keyhearth boot prepare", volume.name.as_str())),
        }
    }
    let own: Vec<String> = named.iter().flat_map(|policy| template::descriptions(&policy.text)).collect();
    if named.is_empty() {
        needs.push(
            "no policy names this machine: unless a general one allows it, every boot is refused".to_owned(),
        );
    }
    needs.extend(own);
    if machine.reference.is_empty() {
        needs.push("it has no reference values: a policy that asks for a known image refuses it".to_owned());
    }
    for value in &machine.reference {
        let values: Vec<&str> = value.values.iter().map(|value| value.0.as_str()).collect();
        needs.push(format!("a known image has the claim {} = {}", value.claim.0, values.join(" or ")));
    }
    needs.extend(candidate::needs(machine));
    needs.extend(image::needs(machine));
    if machine.keeps_token {
        needs.push("its volume must show the token that the boot before left in it".to_owned());
    }
    let names = named.iter().map(|policy| policy.name.to_string()).collect();
    let explained = Explained { machine, policies: names, needs };
    let mut words = format!("{}: {} boots so far.\n", machine.name.as_str(), machine.boots);
    words.push_str("The next boot needs:\n");
    explained.needs.iter().for_each(|need| words.extend(["  - ", need, "\n"]));
    if let Some(until) = &machine.leased_until {
        words.extend(["The newest release is leased until ", &output::moment(&until.to_string()), ".\n"]);
    }
    for (what, boot) in [("released", &machine.released), ("refused", &machine.refused)] {
        match boot {
            None => words.extend(["Never ", what, ".\n"]),
            Some(boot) => {
                let time = output::moment(&boot.time.to_string());
                let id = boot.request_id.to_string();
                let line = format!("Last {what} {time} ({}): {}\n  audit id {id}\n", boot.code, boot.text);
                words.push_str(&line);
            }
        }
    }
    session.say(&explained, words.trim_end())
}

/// Reads `NAME` or `NAME=DEVICE`.
fn volume_name(text: &str) -> Result<(Name, Option<PathBuf>), String> {
    let (name, device) = match text.split_once('=') {
        Some((name, device)) => (name, Some(PathBuf::from(device))),
        None => (text, None),
    };
    Ok((name.parse().map_err(|error: keyhearth_core::Error| error.to_string())?, device))
}

/// Reads `NAME=DEVICE`.
pub fn volume_at(text: &str) -> Result<(Name, PathBuf), String> {
    let (name, device) = volume_name(text)?;
    Ok((name, device.ok_or("must be NAME=DEVICE")?))
}
