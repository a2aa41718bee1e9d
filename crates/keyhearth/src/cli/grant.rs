//! `grant …`: passing on what one holds oneself.

use clap::Subcommand;
use keyhearth_core::id::{GrantId, PrincipalId};
use keyhearth_core::operation::Operation;
use keyhearth_core::time::Time;
use keyhearth_proto::rest::Is;
use keyhearth_proto::rest::body::NewGrant;

use super::failure::Failure;
use super::key::KeyArgument;
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
    },
    List(KeyArgument),
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
            Self::Create { key, grantee, operations, context, expires, delegable, parent } => {
                let (context, delegable) = (pairs(context), Some(delegable));
                let body = NewGrant { grantee, operations, context, expires, delegable, parent };
                session.show(&server.wait(server.create_grant(&key.key, &body))?)
            }
            Self::List(key) => {
                let answer = server.wait(server.list_grants(&key.key))?;
                if session.json() || answer.grants.is_empty() {
                    return session.list(&answer, &[], []);
                }
                // Three ids do not fit side by side: one record after the other.
                answer.grants.iter().try_for_each(|grant| {
                    session.show(grant)?;
                    output::line("")
                })
            }
            Self::Revoke { key, grant } => {
                let answer = server.wait(server.revoke_grant(&key.key, *grant))?;
                session.say(&answer, &format!("{grant} and those made from it are ended"))
            }
        }
    }
}
