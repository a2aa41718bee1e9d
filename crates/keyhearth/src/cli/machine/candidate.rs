//! `boot candidates`, `accept` and `reject`: what machines say of their next boots.

use clap::Args;
use keyhearth_core::id::RequestId;
use keyhearth_proto::rest::body::CandidateDecision;
use keyhearth_proto::rest::{Is, answer};
use serde::Serialize;

use super::super::failure::Failure;
use super::super::output;
use super::super::session::{Server, Session};
use super::super::spelled::spelled;
use super::{MachineArgument, every_machine};

/// The longest part of a value in a line, in characters.
const VALUE_CHARS: usize = 68;

/// A candidate of a machine.
#[derive(Args)]
pub struct CandidateArgument {
    #[command(flatten)]
    machine: MachineArgument,
    /// Its id, as `boot candidates` shows it.
    #[arg(value_parser = spelled::<RequestId>())]
    candidate: Is<RequestId>,
}

#[derive(Serialize)]
struct Waiting<'a> {
    machine: String,
    name: &'a str,
    candidate: String,
    asked: String,
    claims: Vec<Change<'a>>,
}

/// A claim of a candidate beside what is accepted of it.
#[derive(Serialize)]
struct Change<'a> {
    claim: &'a str,
    value: &'a str,
    /// Reference values; none if the claim is not compared.
    accepted: Vec<&'a str>,
    differs: bool,
}

#[derive(Serialize)]
struct Listed<'a> {
    candidates: Vec<Waiting<'a>>,
}

/// Lists what waits, of one machine or of all.
pub fn list(session: &Session, server: &Server, machine: Option<&MachineArgument>) -> Result<(), Failure> {
    let mut machines = Vec::new();
    match machine {
        Some(machine) => machines.push(machine.find(server)?),
        None => every_machine(server, |machine| machines.push(machine))?,
    }
    let candidates: Vec<_> = machines.iter().flat_map(waiting).collect();
    let words = match candidates.is_empty() {
        true => "Nothing waits to be accepted.".to_owned(),
        false => candidates.iter().map(text).collect::<Vec<_>>().join("\n"),
    };
    session.say(&Listed { candidates }, words.trim_end())
}

/// Accepts a candidate, or rejects it.
pub fn decide(
    session: &Session,
    server: &Server,
    argument: &CandidateArgument,
    accept: bool,
) -> Result<(), Failure> {
    let machine = argument.machine.find(server)?;
    let decision = CandidateDecision { accept };
    session.show(&server.wait(server.decide_candidate(*machine.id, *argument.candidate, &decision))?)
}

/// What a machine still needs before it is started anew, a sentence for each candidate.
pub fn needs(machine: &answer::Machine) -> impl Iterator<Item = String> {
    machine.candidates.iter().map(|candidate| {
        let differs = candidate.claims.iter().filter(|claim| claim.differs);
        let names: Vec<&str> = differs.map(|claim| claim.claim.as_str()).collect();
        format!(
            "candidate {} waits: the next boot with it is refused (by policies that ask for a known image) because of {}, \
             until keyhearth boot accept {} {0}",
            candidate.id,
            names.join(", "),
            machine.name.as_str()
        )
    })
}

fn waiting(machine: &answer::Machine) -> Vec<Waiting<'_>> {
    let accepted = |claim: &str| {
        let values = machine.reference.iter().filter(move |value| value.claim.0 == claim);
        values.flat_map(|value| value.values.iter().map(|text| text.0.as_str())).collect()
    };
    let candidates = machine.candidates.iter().map(|candidate| Waiting {
        machine: machine.id.to_string(),
        name: machine.name.as_str(),
        candidate: candidate.id.to_string(),
        asked: candidate.asked.to_string(),
        claims: candidate
            .claims
            .iter()
            .map(|claim| Change {
                claim: &claim.claim,
                value: &claim.value,
                accepted: accepted(&claim.claim),
                differs: claim.differs,
            })
            .collect(),
    });
    candidates.collect()
}

/// What differs, one value a line, of at most 80 characters.
fn text(waiting: &Waiting<'_>) -> String {
    let asked = output::moment(&waiting.asked);
    let mut text =
        format!("machine    {}\ncandidate  {}\nasked      {asked}\n", waiting.name, waiting.candidate);
    for Change { claim, value, accepted, .. } in waiting.claims.iter().filter(|change| change.differs) {
        text.extend(["  ", claim, "\n"]);
        let shown = accepted.iter().map(|value| ("now", *value));
        for (word, value) in shown.chain([("next", *value)]) {
            let value: Vec<char> = value.chars().collect();
            for (index, part) in value.chunks(VALUE_CHARS).enumerate() {
                let word = if index == 0 { word } else { "" };
                text.push_str(&format!("    {word:<4}  {}\n", part.iter().collect::<String>()));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_is_shown_whole_in_lines_that_every_terminal_has() {
        let (old, new, long) = ("a".repeat(64), "b".repeat(64), "c".repeat(96));
        let change = |claim, value, accepted, differs| Change { claim, value, accepted, differs };
        let shown = text(&Waiting {
            machine: "01890a5d-ac96-774b-bcce-b302099a8057".to_owned(),
            name: "web-1",
            candidate: "01890a5d-ac96-774b-bcce-b302099a8057".to_owned(),
            asked: "2026-11-20T23:46:49.639Z".to_owned(),
            claims: vec![
                change("pcrs.11", &new, vec![&old], true),
                change("measurement", &long, vec![&new], true),
                change("pcrs.4", "dddd", Vec::new(), false),
            ],
        });
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
        assert!(shown.contains(&format!("    now   {old}\n    next  {new}\n")), "{shown}");
        let (first, rest) = long.split_at(VALUE_CHARS);
        assert!(shown.ends_with(&format!("    next  {first}\n          {rest}\n")), "{shown}");
        assert!(!shown.contains("pcrs.4"), "{shown}");
    }
}
