//! `boot …`: machines that ask for keys before they boot, what they are, and what they will be.
//!
//! `appraise`, `measure` and `endorsements` are offline.

mod appraise;
mod endorsements;
mod measure;
mod show;

use clap::Subcommand;

use super::failure::Failure;
use super::machine;
use super::session::Session;

#[derive(Subcommand)]
pub enum Verb {
    #[command(flatten)]
    Machine(machine::Verb),
    /// Verifies attestation evidence and prints what it claims, offline
    Appraise(appraise::Appraisal),
    /// Computes what a machine will measure from the files that it boots, offline
    #[command(subcommand)]
    Measure(measure::Subject),
    /// What evidence is judged by: certificates, revocation lists and collateral in a folder, offline
    #[command(subcommand)]
    Endorsements(endorsements::Endorsements),
}

impl Verb {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Machine(verb) => verb.run(session),
            Self::Appraise(appraisal) => appraisal.run(session),
            Self::Measure(subject) => subject.run(session),
            Self::Endorsements(verb) => verb.run(session),
        }
    }
}
