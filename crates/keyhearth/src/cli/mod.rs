//! The command line: verbs and flags, from and to the client.
//!
//! A verb of one file family is in that file. What a verb does to a server is an operation of core's table,
//! whose summary is its help; nothing is decided here. Secrets come from files, from standard input or from
//! a prompt, never from arguments. Not here: the server ([`keyhearth::engine`]) and what it is measured with
//! ([`keyhearth::bench`]).

mod audit;
mod bench;
mod boot;
mod demo;
mod failure;
mod file;
mod grant;
mod identity;
mod input;
mod key;
mod machine;
mod made;
mod manual;
mod material;
mod output;
mod policy;
mod seal;
mod secret;
mod server;
mod session;
mod spelled;
mod sync;
mod tang;
mod tenant;
#[cfg(test)]
mod tests;
mod volume;

use std::process::ExitCode;

use clap::{Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use keyhearth_core::operation::Operation;

use failure::Failure;
use session::{Flags, Session};

/// A key server: keys that stay inside, every use decided by policy and recorded.
#[derive(Parser)]
#[command(name = "keyhearth", version, arg_required_else_help = true, max_term_width = 100)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
#[allow(clippy::large_enum_variant, reason = "made once")]
enum Verb {
    #[command(flatten)]
    Server(server::Verb),
    #[command(flatten)]
    Seal(seal::Verb),
    /// Keys and their life.
    #[command(subcommand)]
    Key(key::Verb),
    #[command(flatten)]
    Material(material::Verb),
    #[command(flatten)]
    Identity(identity::Verb),
    /// What policies allow and forbid.
    #[command(subcommand)]
    Policy(policy::Verb),
    /// Small values that the server keeps, such as passwords of backups.
    #[command(subcommand)]
    Secret(secret::Verb),
    /// Passing on what one holds oneself.
    #[command(subcommand)]
    Grant(grant::Verb),
    /// Keys that open the disks of machines, for Clevis.
    #[command(subcommand)]
    Tang(tang::Verb),
    /// Tenants of the deployment.
    #[command(subcommand)]
    Tenant(tenant::Verb),
    /// The log and its proofs.
    #[command(subcommand)]
    Audit(audit::Verb),
    /// Machines that get their keys before they boot.
    #[command(subcommand)]
    Boot(boot::Verb),
    /// Encrypted disks of machines.
    #[command(subcommand)]
    Volume(volume::Verb),
    /// Files, sealed where they are.
    #[command(subcommand)]
    File(file::Verb),
    /// Folders of plain and of sealed files, kept in step.
    #[command(subcommand)]
    Sync(sync::Verb),
    #[command(flatten)]
    Bench(bench::Verb),
    #[command(flatten)]
    Demo(demo::Verb),
    #[command(flatten)]
    Manual(manual::Verb),
}

/// The whole command; verbs of operations have the operations' summaries as their help.
fn command() -> Command {
    let requests = Operation::ALL.iter().filter(|operation| operation.is_request());
    requests.fold(Arguments::command(), |command, operation| {
        let info = operation.info();
        let words: Vec<_> = info.command.split(' ').collect();
        if words.iter().any(|word| word.starts_with('-')) {
            command
        } else {
            describe(command, &words, info.summary)
        }
    })
}

fn describe(command: Command, words: &[&'static str], summary: &'static str) -> Command {
    match words {
        [] => command.about(summary.trim_end_matches('.')),
        [first, rest @ ..] => command.mut_subcommand(*first, |verb| describe(verb, rest, summary)),
    }
}

/// Runs the command of this process: 0 if it is done, 1 if it was refused or failed, 2 if it is misspelled.
///
/// Called as the plugin of `age` and `rage`, it is that one.
pub fn main() -> ExitCode {
    if file::plugin::is_called(std::env::args_os()) {
        return file::plugin::main();
    }
    let arguments =
        Arguments::from_arg_matches(&command().get_matches()).unwrap_or_else(|error| error.exit());
    let session = Session::new(arguments.flags);
    match run(arguments.verb, &session) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print(session.json());
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    match verb {
        Verb::Server(verb) => verb.run(session),
        Verb::Seal(verb) => verb.run(session),
        Verb::Key(verb) => verb.run(session),
        Verb::Material(verb) => verb.run(session),
        Verb::Identity(verb) => verb.run(session),
        Verb::Policy(verb) => verb.run(session),
        Verb::Secret(verb) => verb.run(session),
        Verb::Grant(verb) => verb.run(session),
        Verb::Tang(verb) => verb.run(session),
        Verb::Tenant(verb) => verb.run(session),
        Verb::Audit(verb) => verb.run(session),
        Verb::Boot(verb) => verb.run(session),
        Verb::Volume(verb) => verb.run(session),
        Verb::File(verb) => verb.run(session),
        Verb::Sync(verb) => verb.run(session),
        Verb::Bench(verb) => verb.run(session),
        Verb::Demo(verb) => verb.run(session),
        Verb::Manual(verb) => verb.run(),
    }
}
