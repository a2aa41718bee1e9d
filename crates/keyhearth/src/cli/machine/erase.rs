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
    /// Whoever may revoke, deactivate and destroy need not be one: what is denied is left to others, who give the same
    /// command again.
    ///
    /// The commit point is the destruction of the version that the secrets come from. Before it the machine may be
    /// revoked and get nothing, but its recovery secrets can still be had.
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
        let mut denied = Vec::new();
        if revoke(server, &machine)? {
            session.hint("The machine is revoked.");
        } else {
            denied.push("revoke-identity");
        }
        let (destroyed, also_denied) = self.destroy(server, &machine, &key)?;
        if !also_denied.is_empty() {
            denied.extend(also_denied);
            denied.dedup();
            let name = machine.name.as_str();
            return Err(Failure::new(
                format_args!("{name} is not erased yet: you may not {}", denied.join(", ")),
                "give the same command as somebody who may: what is done stays done",
            ));
        }
        let volumes: Vec<String> = machine.volumes.iter().map(|volume| volume.name.to_string()).collect();
        let words = format!(
            "{} is erased: nobody gets a secret of its volumes {} again, for any copy of their disks.\nWhat still opens \
             them: passphrases of your own, and secrets that somebody wrote to a file.",
            machine.name.as_str(),
            volumes.join(", ")
        );
        let erased = Erased {
            machine: machine.name.to_string(),
            id: machine.id.to_string(),
            key: key.id.to_string(),
            versions_destroyed: destroyed,
            volumes,
        };
        session.say(&erased, &words)
    }

    /// Destroys every version of the key that is left, the machine's own first. Gives their numbers, and what was
    /// denied.
    fn destroy(
        &self,
        server: &Server,
        machine: &answer::Machine,
        key: &answer::Key,
    ) -> Result<(Vec<u32>, Vec<&'static str>), Failure> {
        let (mut destroyed, mut denied) = (Vec::new(), Vec::new());
        let id = key.id.to_string();
        let mut left: Vec<_> =
            key.versions.iter().filter(|version| *version.state != State::Destroyed).collect();
        left.sort_by_key(|version| version.number != machine.version);
        for answer::Version { number, state, .. } in left {
            let version = Within::new(*number);
            let version = version.ok_or_else(|| Failure::new("a version has no number", "report this"))?;
            if matches!(**state, State::Active | State::Suspended) {
                let of = OfVersion { version: Some(version) };
                if !unless_denied(server.wait(server.deactivate_key(&id, &of)))? {
                    denied.push("deactivate-key");
                    continue;
                }
            }
            let destruction = Destruction { version, confirm: Is(*self.confirm) };
            if unless_denied(server.wait(server.destroy_key(&id, &destruction)))? {
                destroyed.push(*number);
            } else {
                denied.push("destroy-key");
            }
        }
        denied.sort_unstable();
        denied.dedup();
        Ok((destroyed, denied))
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

/// Revokes the machine, unless it is already. Whether the caller may; where not, a destroyed key does as well.
pub(super) fn revoke(server: &Server, machine: &answer::Machine) -> Result<bool, Failure> {
    match server.wait(server.revoke_identity(*machine.id)) {
        Err(failure) if failure.code() == Some("conflict") => Ok(true),
        answer => unless_denied(answer),
    }
}

/// Whether it was done, and not denied.
fn unless_denied<T>(answer: Result<T, Failure>) -> Result<bool, Failure> {
    match answer {
        Ok(_) => Ok(true),
        Err(failure) if failure.code() == Some("denied") => Ok(false),
        Err(failure) => Err(failure),
    }
}
