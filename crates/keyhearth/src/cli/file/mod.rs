//! `file …`: files that are sealed where they are, before a sync service takes them.
//!
//! What a sealed file is: [`keyhearth_files`]. Here its keys are asked for, and outcomes are told. A file that can not be
//! sealed or opened does not stop the others; the command then ends as one that failed.

mod esdk;
pub mod keys;
mod look;
pub mod manifest;
pub mod many;
pub mod mount;
pub mod names;
pub mod open;
pub mod place;
pub mod plugin;
mod rekey;
pub mod seal;
mod share;
mod shred;
mod verify;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use keyhearth_core::request::KeyRef;
use keyhearth_files::held;
use serde_json::json;

use super::failure::Failure;
use super::session::Session;
use super::spelled::text_of;

/// What the name of a sealed file in the age format ends in.
const SUFFIX: &str = "age";

/// Whether a file of this name should be a sealed one.
fn is_sealed_name(path: &Path) -> bool {
    path.extension().is_some_and(|is| is == SUFFIX || is == esdk::SUFFIX)
}

/// Where what is made goes.
#[derive(Args)]
pub struct Place {
    /// The file to make, or the folder to make files in; beside each file if absent. `-` is standard output
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Replace what is there already
    #[arg(long)]
    force: bool,
    /// How many threads to work on; as many as the machine has if absent
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
}

/// A key to seal to.
#[derive(Args)]
pub struct Recipient {
    /// The key, by its id or an alias
    #[arg(value_parser = text_of::<KeyRef>)]
    key: String,
}

/// Sealed files.
#[derive(Args)]
pub struct SealedFiles {
    /// The sealed files
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

#[derive(Subcommand)]
pub enum Verb {
    /// Seals files; who may open them is up to the policies of the key
    ///
    /// A folder is sealed with everything in it. The files themselves stay as they are: `F` becomes `F.age` beside it, or
    /// in the folder of --output; with --format esdk `F.esdk`, which the AWS Encryption SDKs open by the AWS KMS API.
    Seal(seal::Seal),
    /// Opens sealed files
    Open(open::Open),
    /// Shows what a sealed file says of itself, without asking the server
    ///
    /// With --json one file is an object, and several are what `ls` gives.
    Inspect(SealedFiles),
    /// Lists the sealed files in a folder and those below it
    Ls(look::Ls),
    /// Shows the plaintext of a folder of sealed files in another folder, for all programs, until it is unmounted
    ///
    /// Sealed files are shown under their names without `.age` or `.esdk`; nothing else is shown. Only you see them.
    /// With --key programs write there, too.
    Mount(mount::Mount),
    /// Lets somebody open files, by a grant on their key for these files alone
    Share(share::Share),
    /// Ends what `share` gave
    Unshare(share::Unshare),
    /// Ends the keys of files that the server keeps: no copy of them, wherever it is, opens any more
    ///
    /// It is for files that `seal --held` made. The files themselves stay where they are.
    Shred(shred::Shred),
    /// Prints the recipient that `age` and `rage` seal files to, for a key of this server
    Recipient(Recipient),
    /// Prints the identity with which `age` and `rage` open files by asking this server
    Identity,
    /// Wraps the keys of files by the newest version of their key, or by another key
    ///
    /// Only headers change, where they lie. With --suspected-stolen each file gets a key of its own anew and is sealed again.
    Rekey(rekey::Rekey),
    /// Looks whether all files of a folder are there, as they were signed
    ///
    /// Names every file that is missing, added, renamed, swapped, older or damaged. Ends with 1 if there is any.
    Verify(verify::Verify),
    /// Signs what lies in a folder of sealed files now as what should lie there
    ///
    /// Prints what was different before. `seal --sign-key` does the same for the files that it makes.
    Manifest(verify::Manifested),
    /// Lists what the sealed files of a folder are called, if `sync watch` encrypts their names
    Names(names::Names),
}

impl Verb {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Seal(verb) => verb.run(session),
            Self::Open(verb) => verb.run(session),
            Self::Inspect(files) => look::inspect(session, &files.files),
            Self::Ls(verb) => verb.run(session),
            Self::Mount(verb) => verb.run(session),
            Self::Share(verb) => verb.run(session),
            Self::Unshare(verb) => verb.run(session),
            Self::Shred(verb) => verb.run(session),
            Self::Recipient(recipient) => {
                let text = held::recipient(&recipient.key).map_err(failure)?;
                session.say(&json!({ "recipient": text }), &text)
            }
            Self::Identity => session.say(&json!({ "identity": held::identity() }), &held::identity()),
            Self::Rekey(verb) => verb.run(session),
            Self::Verify(verb) => verb.run(session),
            Self::Manifest(verb) => verb.run(session),
            Self::Names(verb) => verb.run(session),
        }
    }
}

/// A failure of sealing or opening, as programs and people read it.
pub fn failure(error: keyhearth_files::Error) -> Failure {
    use keyhearth_files::Error;
    let (code, next) = match &error {
        Error::Malformed(_) => ("malformed", "look whether it is a sealed file, and whole"),
        Error::NotAuthentic => {
            ("not_authentic", "take an older copy of it from the sync service or a backup")
        }
        Error::NotForUs => ("not_for_us", "look with `keyhearth file inspect` for whom it is sealed"),
        Error::Unsupported(_) => ("unsupported", "open it with the program that made it"),
        Error::Invalid(_) => ("invalid", "correct it and try again"),
        Error::Changed => ("changed", "try again once nobody writes to it"),
        Error::Machine(_) => ("machine", "look at this machine's limits of memory, then try again"),
        Error::Io(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            ("exists", "name another place, or add --force")
        }
        Error::Io(_) => ("io", "correct that and try again"),
    };
    Failure::of(code, &error.to_string(), "", next)
}
