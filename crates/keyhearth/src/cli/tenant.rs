//! `tenant …`: tenants of the deployment.

use clap::Subcommand;
use keyhearth_core::id::{Name, TenantId};
use keyhearth_proto::rest::body::NewTenant;
use keyhearth_proto::rest::{Is, answer};

use super::failure::Failure;
use super::identity::{Files, OutFolder};
use super::output::moment;
use super::session::Session;
use super::spelled::spelled;

#[derive(Subcommand)]
pub enum Verb {
    /// Makes ADMIN.key, ADMIN.crt and ca.crt in a folder.
    Create {
        /// Its name, never used again.
        #[arg(value_parser = spelled::<Name>())]
        name: Is<Name>,
        /// Name of its first administrator.
        #[arg(long, value_parser = spelled::<Name>())]
        admin: Is<Name>,
        #[command(flatten)]
        out: OutFolder,
    },
    List,
    Disable(Argument),
    Enable(Argument),
    RotateKey(Argument),
}

/// A tenant.
#[derive(clap::Args)]
pub struct Argument {
    /// The tenant's id.
    #[arg(value_parser = spelled::<TenantId>())]
    tenant: Is<TenantId>,
}

impl Verb {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let server = session.server()?;
        match self {
            Self::Create { name, admin, out } => {
                let files = Files::new(&out, &admin)?;
                let body = NewTenant { name, admin, request: files.request() };
                let answer = server.wait(server.create_tenant(&body))?;
                files.finish(&answer.certificate, &answer.ca)?;
                session.show(&answer.tenant)?;
                session.hint(&files.usage());
                Ok(())
            }
            Self::List => {
                let answer = server.wait(server.list_tenants())?;
                let row = |one: &answer::Tenant| {
                    let life = if one.disabled.is_some() { "disabled" } else { "" };
                    vec![
                        one.id.to_string(),
                        one.name.to_string(),
                        moment(&one.created.to_string()),
                        life.to_owned(),
                    ]
                };
                session.list(&answer, &["id", "name", "created", "life"], answer.tenants.iter().map(row))
            }
            Self::Disable(Argument { tenant }) => {
                let answer = server.wait(server.disable_tenant(*tenant))?;
                session.say(&answer, &format!("{tenant} is disabled"))
            }
            Self::Enable(Argument { tenant }) => {
                let answer = server.wait(server.enable_tenant(*tenant))?;
                session.say(&answer, &format!("{tenant} is enabled"))
            }
            Self::RotateKey(Argument { tenant }) => {
                let answer = server.wait(server.rotate_tenant_key(*tenant))?;
                session.say(&answer, &format!("{} records are wrapped anew", answer.rows))
            }
        }
    }
}
