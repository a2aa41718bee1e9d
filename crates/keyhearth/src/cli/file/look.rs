//! `file inspect` and `file ls`: what sealed files say of themselves. Nothing of it is proved without their keys.

use std::path::{Path, PathBuf};

use clap::Args;
use keyhearth_core::time::Time;
use keyhearth_files::AnyOpened;
use keyhearth_files::esdk::Context;
use keyhearth_files::held::Held;
use keyhearth_proto::rest::Is;
use serde::Serialize;

use super::super::failure::Failure;
use super::super::session::Session;
use super::many::{Failed, Found};
use super::{esdk, failure, is_sealed_name, keys, open};

#[derive(Args)]
pub struct Ls {
    /// The folder; the current one if absent
    #[arg(default_value = ".")]
    folder: PathBuf,
}

/// What a sealed file says of itself.
#[derive(Serialize)]
struct Shown {
    path: String,
    /// `age`, or `esdk` for the AWS Encryption SDK.
    format: &'static str,
    /// The file's own id, whatever it is called.
    file: Option<String>,
    /// The key that wraps the file's key, or that it is kept under.
    key: Option<String>,
    /// Whether the server keeps the file's key.
    held: bool,
    /// When the file's key was made.
    made: Option<Is<Time>>,
    /// What the header says of it.
    context: Context,
    /// Kinds of others who may open it, or their keys.
    others: Vec<String>,
    /// Bytes of plaintext.
    bytes: Option<u64>,
    /// Bytes of the header.
    header_bytes: usize,
}

#[derive(Serialize)]
struct Listed {
    files: Vec<Shown>,
    /// What has the name of a sealed file and can not be read as one, and folders.
    failed: Vec<Failed>,
}

impl Ls {
    pub fn run(&self, session: &Session) -> Result<(), Failure> {
        let folder =
            self.folder.canonicalize().map_err(|error| Failure::at(self.folder.display(), &error))?;
        if !folder.is_dir() {
            let what = format!("{} is no folder", self.folder.display());
            let next = "`keyhearth file inspect` shows single files";
            return Err(Failure::of("not_a_folder", &what, "", next));
        }
        let mut found = Found::walk(&[folder]);
        let mut listed = Listed { files: Vec::new(), failed: Vec::new() };
        for (path, refusal) in found.take_refused() {
            // Links and devices are not listed.
            if refusal.code() != Some("not_a_file") {
                listed.failed.push(Failed::new(&path, &refusal));
            }
        }
        found.files.retain(|(path, _)| is_sealed_name(path));
        found.files.sort();
        for (path, inside) in &found.files {
            let path_text = inside.display().to_string();
            match shown(path) {
                Ok(shown) => listed.files.push(Shown { path: path_text, ..shown }),
                Err(refusal) => listed.failed.push(Failed::new(inside, &refusal)),
            }
        }
        let rows = listed.files.iter().map(|file| {
            let or_nothing = |text: &Option<String>| text.clone().unwrap_or_default();
            let bytes = file.bytes.map(|bytes| bytes.to_string()).unwrap_or_default();
            vec![file.path.clone(), bytes, or_nothing(&file.key)]
        });
        session.list(&listed, &["file", "bytes", "key"], rows.collect::<Vec<_>>())?;
        Failed::finish(&listed.failed, listed.files.len(), session, "read")
    }
}

/// Shows a file, or several one after the other.
pub fn inspect(session: &Session, files: &[PathBuf]) -> Result<(), Failure> {
    if let [path] = files {
        return session.show(&shown(path).map_err(|refusal| refusal.of_file(path))?);
    }
    let mut listed = Listed { files: Vec::new(), failed: Vec::new() };
    for path in files {
        match shown(path) {
            Ok(shown) => listed.files.push(shown),
            Err(refusal) => listed.failed.push(Failed::new(path, &refusal)),
        }
    }
    if session.json() {
        session.list(&listed, &[], [])?;
    } else {
        listed.files.iter().try_for_each(|shown| session.show(shown))?;
    }
    Failed::finish(&listed.failed, listed.files.len(), session, "read")
}

fn shown(path: &Path) -> Result<Shown, Failure> {
    let path_text = path.display().to_string();
    match open::read_any(path)? {
        AnyOpened::Age(opened) => {
            let stanzas = &opened.header.stanzas;
            let held = Held::all(stanzas).map_err(failure)?.into_iter().next();
            let others = stanzas.iter().filter(|stanza| !stanza.tag.starts_with("keyhearth/"));
            let made = |held: &Held| match held {
                Held::Wrapped(wrapped) => Some(Time::from_unix_ms(wrapped.made.saturating_mul(1000)).into()),
                Held::Kept(_) => None,
            };
            Ok(Shown {
                path: path_text,
                format: "age",
                file: held.as_ref().map(|held| held.file().to_string()),
                made: held.as_ref().and_then(made),
                key: held.as_ref().map(|held| held.key().to_owned()),
                held: matches!(held, Some(Held::Kept(_))),
                context: Context::new(),
                others: others.map(|stanza| stanza.tag.clone()).collect(),
                bytes: opened.plaintext_bytes(),
                header_bytes: opened.header.to_text().len(),
            })
        }
        AnyOpened::Esdk(opened) => {
            let header = &opened.header;
            let others = header.data_keys.iter().filter(|data_key| esdk::key_of(data_key).is_none());
            Ok(Shown {
                path: path_text,
                format: "esdk",
                file: header.context.get(keys::FILE).cloned(),
                made: None,
                held: false,
                key: header.data_keys.iter().find_map(esdk::key_of).map(str::to_owned),
                context: header.context.clone(),
                others: others.map(|other| other.arn().unwrap_or(&other.provider).to_owned()).collect(),
                bytes: opened.plaintext_bytes(),
                header_bytes: header.as_bytes().len(),
            })
        }
    }
}
