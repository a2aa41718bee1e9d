//! `file verify` and `file manifest`: whether all files of a folder are there, and as somebody signed.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread;

use clap::Args;
use keyhearth_core::request::KeyRef;
use keyhearth_core::secret::SecretName;
use keyhearth_files::manifest::{Device, FOLDER, InsidePath, compare};
use keyhearth_proto::rest::Is;
use serde::Serialize;

use super::super::failure::Failure;
use super::super::output;
use super::super::session::Session;
use super::super::spelled::{spelled, text_of};
use super::manifest::{DeviceName, Folder, Lying, Trust, Wrong, lying};
use super::names;

/// Notes that are told one by one.
const NOTED_MAX: usize = 10;
/// What can not be in a manifest.
const UNRECORDED: [&str; 3] = [lying::NOT_A_FILE, lying::UNREADABLE, lying::BAD_NAME];

#[derive(Args)]
pub struct Verify {
    /// The folder
    folder: PathBuf,
    /// Read all of each file: damage inside shows in no other way
    #[arg(long)]
    deep: bool,
    /// A public key to believe and no other, PEM or DER; can be given again. Needs no server
    #[arg(long, value_name = "FILE", conflicts_with = "sign_key")]
    public_key: Vec<PathBuf>,
    /// The key to believe from now on, by its id or an alias; the one believed before if absent
    #[arg(long, value_name = "KEY", value_parser = text_of::<KeyRef>)]
    sign_key: Option<String>,
    /// How many threads to work on; as many as the machine has if absent
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
}

#[derive(Args)]
pub struct Manifested {
    /// The folder
    folder: PathBuf,
    /// The key that signs what lies in the folder, by its id or an alias: Ed25519 or P-256
    #[arg(long, value_name = "KEY", value_parser = text_of::<KeyRef>)]
    sign_key: String,
    /// Encrypt the names of files that `sync watch` seals here by this secret; of a new, empty folder
    #[arg(long, value_name = "SECRET", value_parser = spelled::<SecretName>())]
    encrypt_names: Option<Is<SecretName>>,
    #[command(flatten)]
    name: DeviceName,
}

/// What was found in a folder.
#[derive(Serialize)]
struct Looked {
    /// The folder's id.
    folder: String,
    /// Ids of the keys that are believed.
    signed_by: Vec<String>,
    /// How many sealed files should lie there.
    files: usize,
    wrong: Vec<Wrong>,
    notes: Vec<Wrong>,
}

impl Looked {
    fn of(folder: &Folder<'_>, wrong: Vec<Wrong>, notes: Vec<Wrong>) -> Self {
        let signed_by = folder.signers().map(str::to_owned).collect();
        Self {
            folder: folder.manifest.folder.to_string(),
            signed_by,
            files: folder.manifest.files(),
            wrong,
            notes,
        }
    }

    fn print(&self, session: &Session, head: &str) -> Result<(), Failure> {
        let row = |wrong: &Wrong| {
            vec![wrong.what.to_owned(), wrong.path.clone(), wrong.see.clone().unwrap_or_default()]
        };
        if session.json() || !self.wrong.is_empty() {
            session.list(self, &[head, "path", "see"], self.wrong.iter().map(row))?;
        }
        if !self.notes.is_empty() {
            let names =
                self.notes.iter().take(NOTED_MAX).map(|note| format!("{} ({})", note.path, note.what));
            let names = output::visible(&names.collect::<Vec<_>>().join(", ")).into_owned();
            let more = if self.notes.len() > NOTED_MAX { ", …" } else { "" };
            session.hint(&format!("besides: {names}{more}"));
        }
        Ok(())
    }
}

fn threads(asked: Option<u16>) -> usize {
    asked.map_or_else(|| thread::available_parallelism().map_or(1, NonZero::get), usize::from)
}

impl Verify {
    pub fn run(&self, session: &Session) -> Result<(), Failure> {
        let trust = Trust::new(session, &self.public_key, self.sign_key.as_deref())?;
        let mut folder = Folder::open(&self.folder, &trust, false)?;
        let is_named = self.sign_key.is_some() || !self.public_key.is_empty();
        let mut wrong = of_manifests(&folder);
        if folder.present.is_some() {
            if !folder.is_known() {
                if let Some((path, refusal)) = folder.refused.first().filter(|_| !is_named) {
                    let what =
                        format!("seen for the first time, and {} does not fit: {refusal}", path.display());
                    let next = "say who signs: --sign-key or --public-key";
                    return Err(Failure::of("who_signs", &what, "", next));
                }
                let signers = folder.signers().collect::<Vec<_>>().join(", ");
                session.hint(&format!(
                    "this folder was not seen here before: what is older than what others saw can not be noticed; signed by {signers}"
                ));
            }
            folder.remember()?;
        }
        folder.check_proved()?;
        let lying = Lying::in_folder(&folder.root, self.deep, threads(self.threads));
        wrong.extend(lying.wrong);
        wrong.extend(compare(&folder.manifest, &lying.files).into_iter().map(Wrong::from));
        let looked = Looked::of(&folder, wrong, lying.notes);
        looked.print(session, "wrong")?;
        if looked.wrong.is_empty() {
            session.hint(&format!(
                "{} files are as they were signed; headers are proved when they are opened",
                looked.files
            ));
            return Ok(());
        }
        let what = format!("{} things are not as they were signed", looked.wrong.len());
        let next = "let the sync service come to its end and look again; then take older copies, or, if all is right as it \
                    is, sign it: `keyhearth file manifest FOLDER --sign-key KEY`";
        Err(Failure::of("not_as_signed", &what, "", next))
    }
}

/// What is wrong with the manifests themselves.
fn of_manifests(folder: &Folder<'_>) -> Vec<Wrong> {
    let inside = |path: &PathBuf| path.strip_prefix(&folder.root).unwrap_or(path).display().to_string();
    let refused = folder.refused.iter().map(|(path, refusal)| Wrong {
        what: "manifest_refused",
        path: inside(path),
        see: Some(refusal.to_string()),
    });
    let mut wrong: Vec<_> = refused.collect();
    let manifest = |what, see| Wrong { what, path: FOLDER.to_owned(), see };
    match &folder.present {
        None => wrong.push(manifest("manifest_missing", None)),
        Some(present) => {
            if present.names != folder.manifest.names {
                let see = "it says nothing of the encrypted names that were seen here".to_owned();
                wrong.push(manifest("manifest_older", Some(see)));
            }
            let mut behind = present.behind(&folder.manifest);
            if let Some(first) = behind.next() {
                let see =
                    format!("older than what was seen here: {} and {} more", first.as_str(), behind.count());
                wrong.push(manifest("manifest_older", Some(see)));
            }
        }
    }
    wrong
}

impl Manifested {
    pub fn run(&self, session: &Session) -> Result<(), Failure> {
        let trust = Trust::new(session, &[], Some(&self.sign_key))?;
        let mut folder = Folder::open(&self.folder, &trust, true)?;
        folder.check()?;
        let lying = Lying::in_folder(&folder.root, true, threads(None));
        let changes = compare(&folder.manifest, &lying.files).into_iter().map(Wrong::from);
        let wrong: Vec<_> = changes.chain(lying.wrong).collect();
        let refused = wrong.iter().filter(|wrong| UNRECORDED.contains(&wrong.what)).count();
        let looked = Looked::of(&folder, wrong, lying.notes);
        if refused > 0 {
            // What can not be looked at is not gone.
            looked.print(session, "wrong")?;
            let what = format!("nothing was signed: {refused} things in the folder can not be");
            return Err(Failure::of("not_recorded", &what, "", "take them away, or rename them"));
        }
        if let Some(secret) = &self.encrypt_names {
            let secret = secret.to_string();
            let check = names::key(&session.server()?, &secret)?.check();
            let encrypted = Some(keyhearth_files::names::Names { secret, check });
            let is_new = folder.manifest.names.is_none() && folder.manifest.entries().next().is_none();
            if folder.manifest.names != encrypted && !(is_new && lying.files.is_empty()) {
                let what = "names of a folder are encrypted from its beginning, and by one secret";
                return Err(Failure::of("not_empty", what, "", "begin a new folder"));
            }
            folder.manifest.names = encrypted;
        }
        let device = self.name.device();
        let listed: Vec<InsidePath> = folder.manifest.entries().map(|(path, _)| path.clone()).collect();
        for path in listed.into_iter().filter(|path| !lying.files.contains_key(path)) {
            folder.record(path, None, &device);
        }
        for (path, observed) in lying.files {
            folder.record(path, observed.content(), &device);
        }
        folder.sign()?;
        looked.print(session, "before")?;
        session.hint(&format!("{} files are signed", folder.manifest.files()));
        Ok(())
    }
}

/// Signs files that were just made, into the manifest of the folder that they lie in.
pub struct Recorder<'t> {
    folder: Folder<'t>,
    device: Device,
}

impl<'t> Recorder<'t> {
    /// Of files that will lie in `output`; what is known of the folder is proved before anything is made.
    pub fn new(output: &Path, trust: &'t Trust<'t>, device: Device) -> Result<Self, Failure> {
        let root = Folder::root_of(output)?;
        let known = Folder::known_root_of(output)?;
        if known != root {
            let what = format!("{} had a manifest and has none now", known.display());
            let next = "let the sync service come to its end, or seal elsewhere";
            return Err(Failure::of("manifest_missing", &what, "", next));
        }
        let folder = Folder::open(&root, trust, true)?;
        folder.check()?;
        Ok(Self { folder, device })
    }

    /// Takes note of files that lie there now, and signs.
    pub fn record(mut self, paths: Vec<PathBuf>) -> Result<(), Failure> {
        // The folders may be reached by links, the file may be none.
        let place = |path: PathBuf| match (path.parent().map(Path::canonicalize), path.file_name()) {
            (Some(Ok(folder)), Some(name)) => folder.join(name),
            _ => path,
        };
        let paths = paths.into_iter().map(place).collect();
        let lying = Lying::of(&self.folder.root, paths, threads(None));
        for (path, observed) in lying.files {
            self.folder.record(path, observed.content(), &self.device);
        }
        self.folder.sign()?;
        let Some(first) = lying.wrong.first() else { return Ok(()) };
        let what =
            format!("{} files are not in the manifest; {} is {}", lying.wrong.len(), first.path, first.what);
        Err(Failure::of("not_recorded", &what, "", "look at the folder with `keyhearth file verify`"))
    }
}
