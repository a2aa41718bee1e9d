//! `boot erase`: a machine's volumes end everywhere at once, because the key that their secrets come from does.

use clap::Args;
use keyhearth_core::id::KeyId;
use keyhearth_core::state::State;
use keyhearth_proto::rest::body::{Destruction, OfVersion};
use keyhearth_proto::rest::{Is, Within, answer};
use serde::Serialize;

use super::super::failure::Failure;
use super::super::session::{Server, Session};
use super::super::spelled::spelled;
use super::{MachineArgument, every_machine};

/// Which machine, and the proof that it is meant.
#[derive(Args)]
pub struct Erasure {
    #[command(flatten)]
    machine: MachineArgument,
    /// The id of its key, as `boot show` prints it, so that nobody does it by mistake.
    #[arg(long, value_name = "KEY-ID", value_parser = spelled::<KeyId>())]
    confirm: Is<KeyId>,
}

/// What was ended.
#[derive(Serialize)]
struct Erased {
    machine: String,
    id: String,
    key: String,
    versions_destroyed: Vec<u32>,
    volumes: Vec<String>,
}

impl Erasure {
    /// Each step is one that may have been done: what stops halfway is completed by the same again, by others too, as
    /// whoever may deactivate a key and whoever may destroy it need not be one.
    ///
    /// The commit point is the destruction of the version that the secrets come from. Before it the machine is
    /// revoked and gets nothing, but its recovery secrets can still be had.
    pub fn run(self, session: &Session, server: &Server) -> Result<(), Failure> {
        if session.reason().is_none() {
            return Err(Failure::new(
                "erasing a machine wants a reason",
                "say why, for the log: --reason TEXT",
            ));
        }
        let machine = self.machine.find(server)?;
        let key = server.wait(server.describe_key(&machine.key.to_string()))?;
        self.refuse_unmeant(server, &machine, &key)?;
        let id = key.id.to_string();
        revoke(server, &machine)?;
        session.hint("The machine is revoked.");
        let mut versions_destroyed = Vec::new();
        // The machine's own version first: nothing waits for the others.
        let mut versions: Vec<_> =
            key.versions.iter().filter(|version| *version.state != State::Destroyed).collect();
        versions.sort_by_key(|version| version.number != machine.version);
        for version in versions {
            let number = Within::new(version.number);
            let number =
                number.ok_or_else(|| Failure::new("a version of the key has no number", "report this"))?;
            if matches!(*version.state, State::Active | State::Suspended) {
                server.wait(server.deactivate_key(&id, &OfVersion { version: Some(number) }))?;
            }
            server.wait(
                server.destroy_key(&id, &Destruction { version: number, confirm: Is(*self.confirm) }),
            )?;
            versions_destroyed.push(version.number);
        }
        let volumes: Vec<String> = machine.volumes.iter().map(|volume| volume.name.to_string()).collect();
        let words = format!(
            "{} is erased. Its volumes {} are unreadable for ever, on every copy of their disks, by what the server ever \
             gave or would give.\nKeyslots for passphrases of your own still open them, if there are any.",
            machine.name.as_str(),
            volumes.join(", ")
        );
        let name = machine.name.to_string();
        let erased =
            Erased { machine: name, id: machine.id.to_string(), key: id, versions_destroyed, volumes };
        session.say(&erased, &words)
    }

    /// Refuses a key that is another than was typed, that other machines need, or that is for something else too.
    fn refuse_unmeant(
        &self,
        server: &Server,
        machine: &answer::Machine,
        key: &answer::Key,
    ) -> Result<(), Failure> {
        let name = machine.name.as_str();
        if *self.confirm != *key.id {
            let what = format_args!("the key of {name} is another than --confirm says").to_string();
            return Err(Failure::new(
                what,
                format_args!("see `keyhearth boot show {name}`: this cannot be undone"),
            ));
        }
        let mut others = Vec::new();
        every_machine(server, |one| {
            if *one.key == *key.id && *one.id != *machine.id {
                others.push(one.name.to_string());
            }
        })?;
        if !others.is_empty() {
            let what = format_args!("other machines have the same key: {}", others.join(", ")).to_string();
            let next = format_args!("revoke {name} alone: keyhearth boot revoke {name}").to_string();
            return Err(Failure::new(what, next));
        }
        let uses: Vec<&str> = key.usage.iter().map(|usage| usage.0.0).collect();
        if uses != ["release"] {
            let what = format_args!("the key is not for release alone: {}", uses.join(", ")).to_string();
            return Err(Failure::new(what, "destroy it yourself, if that is meant: keyhearth key destroy"));
        }
        Ok(())
    }
}

/// Revokes the machine, unless it is already.
fn revoke(server: &Server, machine: &answer::Machine) -> Result<(), Failure> {
    match server.wait(server.revoke_identity(*machine.id)) {
        Err(failure) if failure.code() != Some("conflict") => Err(failure),
        Ok(_) | Err(_) => Ok(()),
    }
}
