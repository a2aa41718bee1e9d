//! `policy …`: what policies allow and forbid.
//!
//! A policy is compiled here before it is sent, so that faults are named by line and column.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use keyhearth::policy::{Compiled, schema_text};
use keyhearth_core::id::{Name, PrincipalId, TenantId};
use keyhearth_core::operation::Operation;
use keyhearth_core::policy::{POLICY_BYTES_MAX, Policy};
use keyhearth_core::request::KeyRef;
use keyhearth_core::time::Time;
use keyhearth_proto::rest::body::{self, Lease, PolicyDraft, Question};
use keyhearth_proto::rest::{Is, Text, answer};

use super::failure::Failure;
use super::key::KeyArgument;
use super::session::{Server, Session};
use super::spelled::{lease, pair, pairs, spelled};
use super::{input, output};

#[derive(Subcommand)]
pub enum Verb {
    /// Shows first who gains and who loses, and asks.
    Set {
        #[command(flatten)]
        policy: Argument,
        /// Cedar policy text; `-` is standard input.
        file: PathBuf,
        #[command(flatten)]
        yes: Yes,
    },
    List,
    Delete {
        #[command(flatten)]
        policy: Argument,
        #[command(flatten)]
        yes: Yes,
    },
    Diff {
        #[command(flatten)]
        policy: Argument,
        /// Cedar policy text; if absent, what deleting the policy would change.
        file: Option<PathBuf>,
    },
    Test {
        /// Id of the identity that would ask.
        #[arg(value_parser = spelled::<PrincipalId>())]
        identity: Is<PrincipalId>,
        /// What would be asked, such as `decrypt`.
        #[arg(value_parser = spelled::<Operation>(), hide_possible_values = true)]
        operation: Is<Operation>,
        /// On which key.
        #[arg(long, value_parser = spelled::<KeyRef>())]
        key: Option<Is<KeyRef>>,
        /// A pair of the context; can be given again.
        #[arg(long = "context", value_name = "NAME=VALUE", value_parser = pair)]
        context: Vec<(String, String)>,
        /// How long what is opened would be kept without asking: `30m`, `8h`.
        #[arg(long, value_name = "TIME", value_parser = lease)]
        lease: Option<Lease>,
    },
    WhoCan(KeyArgument),
    /// Prints what policies can name, as a Cedar schema.
    Schema,
}

/// A policy.
#[derive(Args)]
pub struct Argument {
    /// The policy's name.
    #[arg(value_parser = spelled::<Name>())]
    name: Is<Name>,
}

/// Consent given beforehand.
#[derive(Args)]
pub struct Yes {
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

impl Verb {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        if matches!(self, Self::Schema) {
            return output::line(&schema_text());
        }
        let server = &session.server()?;
        match self {
            Self::Set { policy, file, yes } => {
                let text = compiled(&policy.name, &file)?;
                preview(session, server, &policy.name, Some(text.clone()), &yes)?;
                let answer =
                    server.wait(server.put_policy(&policy.name, &body::Policy { text: Text(text) }))?;
                session.say(&answer, &format!("policy {} is in force", policy.name))
            }
            Self::List => {
                let answer = server.wait(server.list_policies())?;
                if session.json() || answer.policies.is_empty() {
                    return session.list(&answer, &[], []);
                }
                answer.policies.iter().try_for_each(|policy| {
                    output::line(&format!(
                        "// {} since {}\n{}\n",
                        policy.name,
                        output::moment(&policy.activated.to_string()),
                        policy.text.trim_end()
                    ))
                })
            }
            Self::Delete { policy, yes } => {
                preview(session, server, &policy.name, None, &yes)?;
                let answer = server.wait(server.delete_policy(&policy.name))?;
                session.say(&answer, &format!("policy {} is deleted", policy.name))
            }
            Self::Diff { policy, file } => {
                let text = file.map(|file| compiled(&policy.name, &file)).transpose()?;
                let body = PolicyDraft { text: text.map(Text) };
                differences(session, &server.wait(server.diff_policy(&policy.name, &body))?)
            }
            Self::Test { identity, operation, key, context, lease } => {
                let body =
                    Question { identity, operation, key, context: pairs(context), lease_seconds: lease };
                let answer = server.wait(server.test_policy(&body))?;
                let verdict = if answer.allowed { "allowed" } else { "refused" };
                let by = if answer.by.is_empty() { "no policy".to_owned() } else { answer.by.join(", ") };
                session.say(&answer, &format!("{verdict} by {by}"))
            }
            Self::WhoCan(key) => {
                let answer = server.wait(server.who_can(&key.key))?;
                let row = |one: &answer::Ability| {
                    vec![one.name.to_string(), one.operation.to_string(), one.by.join(", ")]
                };
                session.list(&answer, &["name", "operation", "by"], answer.abilities.iter().map(row))
            }
            Self::Schema => Ok(()),
        }
    }
}

/// Reads a policy and compiles it alone.
fn compiled(name: &Name, file: &Path) -> Result<String, Failure> {
    let text = input::text(file, POLICY_BYTES_MAX)?;
    let policy = Policy { name: name.clone(), text, activated: Time::from_unix_ms(0) };
    match Compiled::new(TenantId::PLATFORM, std::slice::from_ref(&policy)) {
        Ok(_) => Ok(policy.text),
        Err(error) => {
            Err(Failure::new(error, "correct the text; `keyhearth policy schema` has the vocabulary"))
        }
    }
}

/// Shows what will change, and asks.
fn preview(
    session: &Session,
    server: &Server,
    name: &Name,
    text: Option<String>,
    yes: &Yes,
) -> Result<(), Failure> {
    let answer = server.wait(server.diff_policy(name, &PolicyDraft { text: text.map(Text) }))?;
    if !session.json() {
        differences(session, &answer)?;
    }
    input::confirm(&format!("Change policy {name}?"), yes.yes)
}

fn differences(session: &Session, answer: &answer::PolicyDiff) -> Result<(), Failure> {
    if answer.differences.is_empty() && !session.json() {
        return output::line("nobody gains or loses anything");
    }
    let row = |one: &answer::Difference| {
        let sign = if one.gains { "gains" } else { "loses" };
        let key = one.key.as_ref().map_or_else(|| "the tenant".to_owned(), ToString::to_string);
        vec![one.name.to_string(), sign.to_owned(), one.operation.to_string(), key]
    };
    session.list(answer, &["name", "change", "operation", "on"], answer.differences.iter().map(row))
}
