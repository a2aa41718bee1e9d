//! Golden images on the command line: which machine came from which, and how an image ends.

use keyhearth_core::id::Name;
use keyhearth_proto::rest::{Is, answer};
use serde::Serialize;

use super::super::failure::Failure;
use super::super::session::{Server, Session};
use super::erase;
use super::every_machine;

/// Lists machines, and where clones come from.
pub fn list(session: &Session, answer: &answer::Machines) -> Result<(), Failure> {
    let last = |machine: &answer::Machine| match (&machine.released, &machine.refused) {
        (Some(released), Some(refused)) if *refused.time > *released.time => refused.code.clone(),
        (Some(released), _) => released.code.clone(),
        (None, Some(refused)) => refused.code.clone(),
        (None, None) => "never".to_owned(),
    };
    let rows = answer.machines.iter().map(|machine| {
        let volumes: Vec<&str> = machine.volumes.iter().map(|volume| volume.name.as_str()).collect();
        vec![
            machine.name.to_string(),
            machine.id.to_string(),
            volumes.join(","),
            machine.boots.to_string(),
            last(machine),
            from(machine, answer),
        ]
    });
    session.list(answer, &["NAME", "ID", "VOLUMES", "BOOTS", "LAST", "IMAGE"], rows)
}

/// The image that a clone comes from: its name if it is on the same page. Of an image, how many clones it made.
fn from(machine: &answer::Machine, page: &answer::Machines) -> String {
    if let Some(clones) = &machine.clones {
        return format!("{}/{}", clones.made, clones.max);
    }
    let Some(image) = &machine.image else { return String::new() };
    let found = page.machines.iter().find(|one| *one.id == **image);
    found.map_or_else(|| image.to_string(), |one| one.name.to_string())
}

/// What an image or a clone needs besides.
pub fn needs(machine: &answer::Machine) -> impl Iterator<Item = String> {
    let image = machine.clones.as_ref().map(|clones| {
        format!(
            "it is a golden image, which gets no keys itself: {} of its {} clones have an identity, the next asks for one",
            clones.made, clones.max
        )
    });
    let unsettled = machine.unsettled.then(|| {
        "it is a clone that was given an identity and took no disk for it: if that does not start now it never will, and \
         the disk's next start makes another clone. Revoke it: keyhearth boot revoke"
            .to_owned()
    });
    image.into_iter().chain(unsettled)
}

/// Refuses an image of another number of volumes than one, and one that is opened late.
pub fn check(volumes: usize, late: &[Is<Name>]) -> Result<(), Failure> {
    if volumes == 1 && late.is_empty() {
        return Ok(());
    }
    let what = "a golden image has one volume, which is opened before the system runs";
    Err(Failure::new(
        what,
        "leave the others out, and enroll them for a clone as those of a machine of their own",
    ))
}

/// What was ended.
#[derive(Serialize)]
struct Revoked {
    machine: String,
    id: String,
    clones_revoked: Vec<String>,
    /// Clones that keep their identities, unless they were revoked before.
    clones_left: Vec<String>,
}

/// Revokes a machine; of an image, that it gives identities, and if asked its clones.
pub fn revoke(
    session: &Session,
    server: &Server,
    machine: &answer::Machine,
    clones: bool,
) -> Result<(), Failure> {
    if machine.clones.is_none() {
        if clones {
            let what = format_args!("{} is no golden image", machine.name.as_str()).to_string();
            return Err(Failure::new(what, "leave --clones out"));
        }
        return session.show(&server.wait(server.revoke_identity(*machine.id))?);
    }
    // The image first: what it makes meanwhile would be missed.
    let denied = || {
        let what = format_args!("you may not revoke {}", machine.name.as_str()).to_string();
        Failure::new(what, "it needs `revoke-identity`, which the role tenant-admin has")
    };
    if !erase::revoke(server, machine)? {
        return Err(denied());
    }
    let mut of_it = Vec::new();
    every_machine(server, |one| {
        if one.image.as_ref().is_some_and(|image| **image == *machine.id) {
            of_it.push(one);
        }
    })?;
    let (mut revoked, mut left) = (Vec::new(), Vec::new());
    for clone in of_it {
        if clones && !erase::revoke(server, &clone)? {
            return Err(denied());
        }
        if clones { &mut revoked } else { &mut left }.push(clone.name.to_string());
    }
    let name = machine.name.as_str();
    let words = match left.len() {
        0 => format!("{name} makes no clones any more. Revoked with it: {}.", revoked.len()),
        left => format!(
            "{name} makes no clones any more. Its {left} clones keep their identities: keyhearth boot revoke {name} --clones"
        ),
    };
    let (machine, id) = (name.to_owned(), machine.id.to_string());
    session.say(&Revoked { machine, id, clones_revoked: revoked, clones_left: left }, &words)
}
