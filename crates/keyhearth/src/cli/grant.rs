//! `grant …`: passing on what one holds oneself.

use clap::Subcommand;
use keyhearth_core::id::{GrantId, PrincipalId};
use keyhearth_core::operation::Operation;
use keyhearth_core::time::Time;
use keyhearth_proto::rest::body::NewGrant;
use keyhearth_proto::rest::{Is, Text, answer};

use super::failure::Failure;
use super::key::{KeyArgument, PageFlags};
use super::output;
use super::session::Session;
use super::spelled::{pair, pairs, spelled};

#[derive(Subcommand)]
pub enum Verb {
    Create {
        #[command(flatten)]
        key: KeyArgument,
        /// Id of the identity that receives.
        #[arg(value_parser = spelled::<PrincipalId>())]
        grantee: Is<PrincipalId>,
        /// What it may do with the key; can be given again.
        #[arg(long = "operation", required = true, value_delimiter = ',', value_parser = spelled::<Operation>(),
            hide_possible_values = true)]
        operations: Vec<Is<Operation>>,
        /// A pair that the context of its requests must contain; can be given again.
        #[arg(long = "context", value_name = "NAME=VALUE", value_parser = pair)]
        context: Vec<(String, String)>,
        /// When it ends, such as 2027-01-31T12:00:00Z.
        #[arg(long, value_name = "TIME", value_parser = spelled::<Time>())]
        expires: Option<Is<Time>>,
        /// The receiver may pass it on.
        #[arg(long)]
        delegable: bool,
        /// The grant it is made from, if you hold the key by a grant.
        #[arg(long, value_name = "GRANT", value_parser = spelled::<GrantId>())]
        parent: Option<Is<GrantId>>,
        /// Your name for it: asked for again with the same name and content, it is made once.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// A pair of those that the context of its requests must be, and no others; can be given again.
        #[arg(long = "exact-context", value_name = "NAME=VALUE", value_parser = pair)]
        exact_context: Vec<(String, String)>,
        /// Id of an identity that may revoke it, besides you, the receiver and administrators.
        #[arg(long, value_name = "IDENTITY", value_parser = spelled::<PrincipalId>())]
        retiree: Option<Is<PrincipalId>>,
    },
    List {
        #[command(flatten)]
        key: KeyArgument,
        #[command(flatten)]
        page: PageFlags,
    },
    Retirable {
        /// The identity's id.
        #[arg(value_parser = spelled::<PrincipalId>())]
        identity: Is<PrincipalId>,
        #[command(flatten)]
        page: PageFlags,
    },
    Revoke {
        #[command(flatten)]
        key: KeyArgument,
        /// The grant's id.
        #[arg(value_parser = spelled::<GrantId>())]
        grant: Is<GrantId>,
    },
}

impl Verb {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let server = session.server()?;
        match self {
            Self::Create {
                key,
                grantee,
                operations,
                context,
                expires,
                delegable,
                parent,
                name,
                exact_context,
                retiree,
            } => {
                let body = NewGrant {
                    grantee,
                    operations,
                    context: pairs(context),
                    expires,
                    delegable: Some(delegable),
                    parent,
                    name: name.map(Text),
                    exact_context: pairs(exact_context),
                    retiree,
                };
                session.show(&server.wait(server.create_grant(&key.key, &body))?)
            }
            Self::List { key, page } => {
                show(session, &server.wait(server.list_grants(&key.key, &page.into()))?)
            }
            Self::Retirable { identity, page } => {
                show(session, &server.wait(server.list_retirable_grants(*identity, &page.into()))?)
            }
            Self::Revoke { key, grant } => {
                let answer = server.wait(server.revoke_grant(&key.key, *grant))?;
                session.say(&answer, &format!("{grant} and those made from it are ended"))
            }
        }
    }
}

/// Three ids do not fit side by side: one record after the other.
fn show(session: &Session, answer: &answer::Grants) -> Result<(), Failure> {
    if session.json() || answer.grants.is_empty() {
        return session.list(answer, &[], []);
    }
    for grant in &answer.grants {
        session.show(grant)?;
        output::line("")?;
    }
    session.next(answer)
}
