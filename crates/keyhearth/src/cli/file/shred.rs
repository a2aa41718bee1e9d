//! `file shred`: ends the keys of files that the server keeps.

use std::path::PathBuf;

use clap::Args;
use keyhearth_files::held::{Held, Kept};
use keyhearth_files::{AnyOpened, Error};
use keyhearth_proto::rest::body::OfSecret;

use super::super::failure::Failure;
use super::super::input;
use super::super::session::{Server, Session};
use super::many::{BATCH, Done, Found, Told};
use super::open::{Opener, read_any};
use super::{failure, is_sealed_name, keys};

#[derive(Args)]
pub struct Shred {
    /// The sealed files, and folders of them
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// A file whose key the server keeps.
struct Doomed {
    path: PathBuf,
    kept: Kept,
    bytes: u64,
}

impl Shred {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let mut found = Found::walk(&self.files);
        found.files.retain(|(path, _)| self.files.contains(path) || is_sealed_name(path));
        let question = format!(
            "Shred {} files for ever? No copy of what lies there opens then; earlier sealings do.",
            found.files.len()
        );
        input::confirm(&question, self.yes)?;
        let server = session.server()?;
        let told = Told::new(session, found.count(), "shredding");
        found.tell_refused(&told);
        let shredding = found.files.chunks(BATCH).try_for_each(|batch| {
            for Doomed { path, kept, bytes } in proved(&server, batch, &told)? {
                let body = OfSecret { name: keys::name(kept.file) };
                let text = path.display().to_string();
                let done = server.wait(server.shred_secret(&kept.key, &body));
                let done = done.map_err(|refusal| by_id(refusal, &kept));
                told.tell(&path, done.map(|_| Done { path: text.clone(), output: text, bytes }));
            }
            Ok(())
        });
        told.finish(session, "shredded", shredding)
    }
}

/// The files of a batch whose headers are proved: somebody else could make one name the key of another file.
fn proved(server: &Server, batch: &[(PathBuf, PathBuf)], told: &Told) -> Result<Vec<Doomed>, Failure> {
    let (mut doomed, mut files) = (Vec::new(), Vec::new());
    for (path, _) in batch {
        match read_any(path).and_then(|file| Ok((kept(&file)?, file))) {
            Ok((kept, file)) => {
                let bytes = bytes(&file);
                doomed.push(Doomed { path: path.clone(), kept, bytes });
                files.push(file);
            }
            Err(refusal) => told.tell(path, Err(refusal)),
        }
    }
    let mut proved = Vec::new();
    for (file, unlocked) in doomed.into_iter().zip(Opener::Server(server).unlock(files)?) {
        match unlocked.and_then(|unlocked| unlocked.verify().map_err(failure)) {
            Ok(()) => proved.push(file),
            Err(refusal) => told.tell(&file.path, Err(by_id(refusal, &file.kept))),
        }
    }
    Ok(proved)
}

/// A refusal to open or to shred, with what those do who may shred and open nothing.
fn by_id(refusal: Failure, kept: &Kept) -> Failure {
    if refusal.code() != Some("denied") {
        return refusal;
    }
    let command = format!(
        "a custodian, who opens nothing, does it by the id: keyhearth secret delete {}",
        keys::name(kept.file)
    );
    Failure::of("denied", &refusal.to_string(), &command, "ask a custodian, or an administrator for a policy")
}

fn kept(file: &AnyOpened) -> Result<Kept, Failure> {
    let held = match file {
        AnyOpened::Age(opened) => Held::all(&opened.header.stanzas).map_err(failure)?,
        AnyOpened::Esdk(_) => Vec::new(),
    };
    match &held[..] {
        [Held::Kept(kept)] => Ok(kept.clone()),
        [] => Err(failure(Error::NotForUs)),
        _ => {
            let next = "delete every copy, or destroy the version of the key that wraps it";
            Err(Failure::of("not_held", "the file has its key in it, wrapped", "", next))
        }
    }
}

fn bytes(file: &AnyOpened) -> u64 {
    match file {
        AnyOpened::Age(opened) => opened.plaintext_bytes(),
        AnyOpened::Esdk(opened) => opened.plaintext_bytes(),
    }
    .unwrap_or_default()
}
