//! `status`, `seal …` and `unseal`: the server's own state.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use keyhearth_crypto::passphrase::PASSPHRASE_BYTES_MAX;
use keyhearth_crypto::shamir::TEXT_PREFIX;
use keyhearth_proto::rest::body::{Nothing, Rekey, Sharing, Unseal};
use keyhearth_proto::rest::{Object, Within};

use super::failure::Failure;
use super::session::Session;
use super::spelled::within;
use super::{input, made, output};

#[derive(Subcommand)]
pub enum Verb {
    Status,
    /// The root key and what opens it.
    #[command(subcommand)]
    Seal(SealVerb),
    Unseal {
        /// File with the share or the passphrase; asked for if absent.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
pub enum SealVerb {
    /// Forgets the root key at once
    Now,
    RotateRoot,
    Rekey(RekeyFlags),
}

/// One step of replacing the shares or the passphrase.
#[derive(Args)]
#[group(required = true, multiple = true)]
pub struct RekeyFlags {
    /// Begin: make so many new shares.
    #[arg(long, value_name = "COUNT", requires = "threshold", value_parser = within::<1, 255>)]
    shares: Option<Within<1, 255>>,
    /// So many of them are needed.
    #[arg(long, value_name = "COUNT", requires = "shares", value_parser = within::<1, 255>)]
    threshold: Option<Within<1, 255>>,
    /// Folder for the new shares, one file each; printed if absent.
    #[arg(long, value_name = "FOLDER", requires = "shares")]
    out: Option<PathBuf>,
    /// Begin: a new passphrase.
    #[arg(long, conflicts_with_all = ["shares", "prove", "cancel"])]
    passphrase: bool,
    /// Prove a new share or the new passphrase. When enough are proved the old ones die.
    #[arg(long, conflicts_with_all = ["shares", "cancel"])]
    prove: bool,
    /// Forget what was begun.
    #[arg(long, conflicts_with = "shares")]
    cancel: bool,
    /// File with the passphrase or the share; asked for if absent.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["shares", "cancel"])]
    file: Option<PathBuf>,
}

impl RekeyFlags {
    fn step(&self) -> Result<Rekey, Failure> {
        let file = self.file.as_deref();
        Ok(match self.shares.zip(self.threshold) {
            Some((count, threshold)) => Rekey::Shares(Object(Sharing { threshold, count })),
            None if self.cancel => Rekey::Cancel(Object(Nothing {})),
            None if self.prove => {
                Rekey::Prove(input::secret("New share or passphrase", file, PASSPHRASE_BYTES_MAX)?.into())
            }
            None => {
                Rekey::Passphrase(input::new_secret("New passphrase", file, PASSPHRASE_BYTES_MAX)?.into())
            }
        })
    }
}

impl Verb {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Status => {
                let server = session.server()?;
                session.show(&server.wait(server.status())?)
            }
            Self::Seal(verb) => verb.run(session),
            Self::Unseal { file } => {
                let secret = input::secret("Share or passphrase", file.as_deref(), PASSPHRASE_BYTES_MAX)?;
                let prefix = secret.get(..TEXT_PREFIX.len());
                let is_share =
                    prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(TEXT_PREFIX.as_bytes()));
                let body =
                    if is_share { Unseal::Share(secret.into()) } else { Unseal::Passphrase(secret.into()) };
                let server = session.anonymous()?;
                session.show(&server.wait(server.unseal(&body))?)
            }
        }
    }
}

impl SealVerb {
    fn run(self, session: &Session) -> Result<(), Failure> {
        let server = session.server()?;
        match self {
            Self::Now => {
                let answer = server.wait(server.seal())?;
                session.say(&answer, "the server is sealed; `keyhearth unseal` opens it")
            }
            Self::RotateRoot => {
                let answer = server.wait(server.rotate_root())?;
                session.say(&answer, &format!("{} records are wrapped anew", answer.rows))
            }
            Self::Rekey(flags) => {
                let answer = server.wait(server.rekey(&flags.step()?))?;
                match (&answer.shares, &flags.out) {
                    (Some(shares), Some(folder)) => {
                        hand_out(shares.iter().map(|share| share.expose()), Some(folder))?
                    }
                    (Some(shares), None) if !session.json() => {
                        hand_out(shares.iter().map(|share| share.expose()), None)?
                    }
                    (Some(_) | None, _) => return session.show(&answer),
                }
                session.hint("Give each custodian one. Then prove them: `keyhearth seal rekey --prove`.");
                Ok(())
            }
        }
    }
}

/// Makes the folder for shares, in which none may lie yet.
pub fn share_folder(folder: &Path, count: u8) -> Result<(), Failure> {
    made::folder(folder)?;
    let taken = (1..=count).map(|number| share_file(folder, number.into())).find(|path| path.exists());
    taken.map_or(Ok(()), |path| Err(Failure::at(path.display(), &std::io::ErrorKind::AlreadyExists.into())))
}

fn share_file(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("share-{number}"))
}

/// Writes each share to a file of its own, or prints them.
pub fn hand_out<'a>(shares: impl Iterator<Item = &'a str>, folder: Option<&Path>) -> Result<(), Failure> {
    let Some(folder) = folder else {
        return shares.into_iter().try_for_each(output::line);
    };
    made::folder(folder)?;
    (1..).zip(shares).try_for_each(|(number, share): (u32, _)| {
        made::create(&share_file(folder, number), made::PRIVATE, share.as_bytes())
    })
}
