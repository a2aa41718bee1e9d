//! `secret …`: small values that the server keeps, for programs that ask a command for their password.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use clap::Subcommand;
use keyhearth_core::request::{KeyRef, PLAINTEXT_BYTES_MAX};
use keyhearth_core::secret::SecretName;
use keyhearth_proto::rest::body::{KeepSecret, OfSecret, ReadSecret};
use keyhearth_proto::rest::{HOLDER, Is, Within, answer};

use super::failure::Failure;
use super::input;
use super::key::PageFlags;
use super::output;
use super::session::Session;
use super::spelled::{spelled, text_of, within};

#[derive(Subcommand)]
pub enum Verb {
    /// The value is what --from holds, or is typed, or is made by the server.
    Create {
        /// Its name.
        #[arg(value_parser = spelled::<SecretName>())]
        name: Is<SecretName>,
        /// The key that decides who may read it: an AES-256 key.
        #[arg(long, value_parser = text_of::<KeyRef>)]
        key: String,
        /// The file with the value, every byte of it; `-` is standard input.
        #[arg(long, value_name = "FILE", conflicts_with = "generate")]
        from: Option<PathBuf>,
        /// Let the server make it: so many random bytes as text, 16 to 1024.
        #[arg(long, value_name = "BYTES", value_parser = within::<16, 1024>)]
        generate: Option<Within<16, 1024>>,
        /// Shred the secret of this name that there is.
        #[arg(long)]
        replace: bool,
    },
    /// Prints the value and nothing else.
    Get {
        /// Its name.
        #[arg(value_parser = spelled::<SecretName>())]
        name: Is<SecretName>,
        /// Only if it is kept under this key; whichever it is under if absent.
        #[arg(long, value_parser = text_of::<KeyRef>)]
        key: Option<String>,
        /// Print it on a terminal, too.
        #[arg(long)]
        show: bool,
    },
    List(PageFlags),
    Delete {
        /// Its name.
        #[arg(value_parser = spelled::<SecretName>())]
        name: Is<SecretName>,
        /// Only if it is kept under this key; whichever it is under if absent.
        #[arg(long, value_parser = text_of::<KeyRef>)]
        key: Option<String>,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

impl Verb {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Create { name, key, from, generate, replace } => {
                let value = match (&from, generate) {
                    (_, Some(_)) => None,
                    (Some(path), None) => Some(input::read(path, PLAINTEXT_BYTES_MAX)?),
                    (None, None) => Some(input::new_secret("The secret", None, PLAINTEXT_BYTES_MAX)?),
                };
                let body =
                    KeepSecret { name, value: value.map(Into::into), generate, replace: Some(replace) };
                let server = session.server()?;
                let answer = server.wait(server.keep_secret(&key, &body))?;
                session.say(&answer, &format!("{} is kept", answer.name))
            }
            Self::Get { name, key, show } => {
                if !show && io::stdout().is_terminal() {
                    return Err(Failure::new(
                        "standard output is a terminal",
                        "use a pipe, or add --show to see the secret",
                    ));
                }
                let server = session.server()?;
                let answer = server.wait(server.read_secret(
                    key.as_deref().unwrap_or(HOLDER),
                    &ReadSecret { name, lease_seconds: None },
                ))?;
                if session.json() { session.show(&answer) } else { output::bytes(&answer.value) }
            }
            Self::List(page) => {
                let server = session.server()?;
                let answer = server.wait(server.list_secrets(&page.into()))?;
                let row = |one: &answer::KeptSecret| {
                    let made = output::moment(&one.created.to_string());
                    vec![one.name.to_string(), one.key.to_string(), one.version.to_string(), made]
                };
                session.list(&answer, &["name", "key", "version", "created"], answer.secrets.iter().map(row))
            }
            Self::Delete { name, key, yes } => {
                let question = format!("Delete {name} for ever? What only it opens is lost.");
                input::confirm(&question, yes)?;
                let server = session.server()?;
                let words = format!("{name} is deleted");
                let key = key.as_deref().unwrap_or(HOLDER);
                let answer = server.wait(server.shred_secret(key, &OfSecret { name }))?;
                session.say(&answer, &words)
            }
        }
    }
}
