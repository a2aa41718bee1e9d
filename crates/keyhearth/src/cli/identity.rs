//! `identity …`, `whoami` and `access-key …`: who may call.
//!
//! Private keys are made here and stay here: the server sees certificate requests only.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use keyhearth::identity::{CERTIFICATE_BYTES_MAX, generate_key_and_csr};
use keyhearth_core::id::{Name, PrincipalId};
use keyhearth_core::principal::{Role, SESSION_MINUTES_MAX, SESSION_MINUTES_MIN};
use keyhearth_proto::rest::body::{
    ACCESS_SECRET_BYTES_MAX, Certificate, Days, Minutes, NewAccessKey, NewIdentity, Renewal, Roles,
};
use keyhearth_proto::rest::{AccessKeyId, Is, Text, answer};
use zeroize::Zeroizing;

use super::failure::Failure;
use super::key::PageFlags;
use super::session::Session;
use super::spelled::{spelled, text_of, within};
use super::{input, made};

#[derive(Subcommand)]
pub enum Verb {
    /// Who may call.
    #[command(subcommand)]
    Identity(IdentityVerb),
    Whoami,
    /// Access keys, for programs that sign their requests.
    #[command(subcommand)]
    AccessKey(AccessKeyVerb),
}

#[derive(Subcommand)]
pub enum IdentityVerb {
    /// Makes NAME.key, NAME.crt and ca.crt in a folder.
    Issue {
        /// Its name, never used again.
        #[arg(value_parser = spelled::<Name>())]
        name: Is<Name>,
        /// What it may do by template; can be given again.
        #[arg(long = "role", value_delimiter = ',', value_parser = spelled::<Role>())]
        roles: Vec<Is<Role>>,
        #[command(flatten)]
        days: ValidDays,
        #[command(flatten)]
        out: OutFolder,
    },
    List(PageFlags),
    /// Makes a new NAME.key and NAME.crt, and ca.crt, in a folder.
    Renew {
        #[command(flatten)]
        days: ValidDays,
        #[command(flatten)]
        out: OutFolder,
    },
    Revoke(IdentityArgument),
    Roles {
        #[command(flatten)]
        identity: IdentityArgument,
        /// What it may do by template; can be given again. None at all if absent.
        #[arg(long = "role", value_delimiter = ',', value_parser = spelled::<Role>())]
        roles: Vec<Is<Role>>,
    },
    Bind {
        #[command(flatten)]
        identity: IdentityArgument,
        /// The certificate, PEM.
        certificate: PathBuf,
    },
}

#[derive(Subcommand)]
pub enum AccessKeyVerb {
    Create {
        #[command(flatten)]
        identity: IdentityArgument,
        /// Minutes until it ends, 15 to 2160; it then needs its session token too. Without, it does not end.
        #[arg(long, value_parser = within::<SESSION_MINUTES_MIN, SESSION_MINUTES_MAX>)]
        minutes: Option<Minutes>,
    },
    /// Lets an access key that programs have already be used here too.
    Import {
        #[command(flatten)]
        identity: IdentityArgument,
        /// Its id. Its secret is read from standard input, or asked for.
        #[arg(value_parser = spelled::<AccessKeyId>())]
        id: Is<AccessKeyId>,
        /// File with its secret.
        #[arg(long, value_name = "FILE")]
        secret_file: Option<PathBuf>,
    },
    List(PageFlags),
    Disable {
        /// The access key's id.
        #[arg(value_parser = text_of::<AccessKeyId>)]
        id: String,
    },
}

/// An identity.
#[derive(Args)]
pub struct IdentityArgument {
    /// The identity's id.
    #[arg(value_parser = spelled::<PrincipalId>())]
    pub identity: Is<PrincipalId>,
}

/// How long a certificate is valid.
#[derive(Args)]
pub struct ValidDays {
    /// Days the certificate is valid; the server's default if absent.
    #[arg(long, value_parser = within::<1, 3650>)]
    days: Option<Days>,
}

/// Where an identity's files go.
#[derive(Args)]
pub struct OutFolder {
    /// Folder for the files; made if it is not there.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    pub out: PathBuf,
}

impl Verb {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Identity(verb) => verb.run(session),
            Self::AccessKey(verb) => verb.run(session),
            Self::Whoami => {
                let server = session.server()?;
                session.show(&server.wait(server.who_am_i())?)
            }
        }
    }
}

impl IdentityVerb {
    fn run(self, session: &Session) -> Result<(), Failure> {
        let server = &session.server()?;
        match self {
            Self::Issue { name, roles, days, out } => {
                let files = Files::new(&out, &name)?;
                let body = NewIdentity { name, roles, request: files.request(), days: days.days };
                let answer = server.wait(server.issue_identity(&body))?;
                files.finish(&answer.certificate, &answer.ca)?;
                session.show(&answer.identity)?;
                session.hint(&files.usage());
                Ok(())
            }
            Self::Renew { days, out } => {
                let caller = server.wait(server.who_am_i())?;
                let files = Files::new(&out, &caller.name)?;
                let body = Renewal { request: files.request(), days: days.days };
                let answer = server.wait(server.renew_identity(&body))?;
                files.finish(&answer.certificate, &answer.ca)?;
                session.show(&answer.identity)?;
                session.hint(&files.usage());
                Ok(())
            }
            Self::List(page) => {
                let answer = server.wait(server.list_identities(&page.into()))?;
                let row = |one: &answer::Identity| {
                    let roles: Vec<_> = one.roles.iter().map(ToString::to_string).collect();
                    let life = if one.revoked.is_some() { "revoked" } else { "" };
                    vec![one.id.to_string(), one.name.to_string(), roles.join(" "), life.to_owned()]
                };
                session.list(&answer, &["id", "name", "roles", "life"], answer.identities.iter().map(row))
            }
            Self::Revoke(one) => session.show(&server.wait(server.revoke_identity(*one.identity))?),
            Self::Roles { identity, roles } => {
                session.show(&server.wait(server.set_roles(*identity.identity, &Roles { roles }))?)
            }
            Self::Bind { identity, certificate } => {
                let certificate = Text(input::text(&certificate, CERTIFICATE_BYTES_MAX)?);
                let body = Certificate { certificate };
                session.show(&server.wait(server.bind_certificate(*identity.identity, &body))?)
            }
        }
    }
}

impl AccessKeyVerb {
    fn run(self, session: &Session) -> Result<(), Failure> {
        let server = session.server()?;
        match self {
            Self::Create { identity, minutes } => {
                let body = NewAccessKey { identity: identity.identity, id: None, secret: None, minutes };
                let answer = server.wait(server.create_access_key(&body))?;
                session.hint("The secret is never shown again.");
                session.show(&answer)
            }
            Self::Import { identity, id, secret_file } => {
                let secret = input::secret("Secret", secret_file.as_deref(), ACCESS_SECRET_BYTES_MAX)?;
                let (said, identity) = (format!("{id} is imported"), identity.identity);
                let body =
                    NewAccessKey { identity, id: Some(id), secret: Some(secret.into()), minutes: None };
                let answer = server.wait(server.create_access_key(&body))?;
                // Who imports it has the secret.
                session.say(&serde_json::json!({ "id": answer.id, "identity": answer.identity }), &said)
            }
            Self::List(page) => {
                let answer = server.wait(server.list_access_keys(&page.into()))?;
                let row = |key: &answer::AccessKey| {
                    let life = match (&key.disabled, &key.end) {
                        (Some(_), _) => "disabled".to_owned(),
                        (None, Some(end)) => format!("until {end}"),
                        (None, None) => String::new(),
                    };
                    vec![key.id.clone(), key.identity.to_string(), life]
                };
                session.list(&answer, &["id", "identity", "life"], answer.access_keys.iter().map(row))
            }
            Self::Disable { id } => {
                let answer = server.wait(server.disable_access_key(&id))?;
                session.say(&answer, &format!("{id} is disabled"))
            }
        }
    }
}

/// The files of an identity that is being made.
///
/// The private key is on the disk before the server is asked, so that no certificate comes for a key that
/// could not be kept. Without a certificate it is worth nothing and is removed again.
pub struct Files {
    key: PathBuf,
    certificate: PathBuf,
    ca: PathBuf,
    request: String,
}

impl Files {
    /// Makes the private key. A file in the way is an error before anything is asked.
    pub fn new(out: &OutFolder, name: &Name) -> Result<Self, Failure> {
        made::folder(&out.out)?;
        let path = |suffix| out.out.join(format!("{name}.{suffix}"));
        let (key, certificate) = (path("key"), path("crt"));
        if certificate.exists() {
            return Err(Failure::at(certificate.display(), &std::io::ErrorKind::AlreadyExists.into()));
        }
        let (pem, request): (Zeroizing<String>, String) = generate_key_and_csr(name.as_str())?;
        made::create(&key, made::PRIVATE, pem.as_bytes())?;
        Ok(Self { key, certificate, ca: out.out.join("ca.crt"), request })
    }

    /// The certificate request, as whatever length the wire takes.
    pub fn request<const MAX: usize>(&self) -> Text<MAX> {
        Text(self.request.clone())
    }

    /// Writes the certificates. A CA certificate that is there already must be the same.
    pub fn finish(&self, certificate: &str, ca: &str) -> Result<(), Failure> {
        made::create(&self.certificate, made::PUBLIC, certificate.as_bytes())?;
        match std::fs::read_to_string(&self.ca) {
            Ok(there) if there == ca => Ok(()),
            Ok(_) | Err(_) => made::create(&self.ca, made::PUBLIC, ca.as_bytes()),
        }
    }

    /// How to use them.
    pub fn usage(&self) -> String {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let line = |name: &str, path: &Path| format!("export {name}='{}'", absolute(path).display());
        [
            "To use it:".to_owned(),
            line("KEYHEARTH_CA_FILE", &self.ca),
            line("KEYHEARTH_CERT_FILE", &self.certificate),
            line("KEYHEARTH_KEY_FILE", &self.key),
        ]
        .join("\n  ")
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if !self.certificate.exists() {
            let _ = std::fs::remove_file(&self.key);
        }
    }
}
