//! `file names`, and the keys of folders whose names are encrypted.

use std::path::{Path, PathBuf};

use clap::Args;
use keyhearth_core::secret::SecretName;
use keyhearth_files::manifest::Manifest;
use keyhearth_files::names::NameKey;
use keyhearth_proto::rest::HOLDER;
use keyhearth_proto::rest::body::ReadSecret;
use serde::Serialize;

use super::super::failure::Failure;
use super::super::session::{Server, Session};
use super::manifest::{Folder, Lying, Trust};
use super::{SUFFIX, failure};

#[derive(Args)]
pub struct Names {
    /// The folder, whose names `sync watch` encrypts
    folder: PathBuf,
}

/// A sealed file and what it is called.
#[derive(Serialize)]
struct Name {
    path: String,
    /// `None` if it is not encrypted by the folder's secret.
    name: Option<String>,
}

/// The key of names, from the secret of this name.
///
/// # Errors
/// [`Failure`] if the server does not give it, or if it is too short.
pub fn key(server: &Server, secret: &str) -> Result<NameKey, Failure> {
    let name =
        secret.parse::<SecretName>().map_err(|error| Failure::new(error, "ask who signs this folder"))?;
    let asked = ReadSecret { name: name.into(), lease_seconds: None };
    let answer = server.wait(server.read_secret(HOLDER, &asked))?;
    NameKey::new(&answer.value).map_err(failure)
}

/// The key of a folder's names, if they are encrypted.
///
/// # Errors
/// As [`key`]; or if the secret is not the one that the names were encrypted by.
pub fn of(server: &Server, manifest: &Manifest) -> Result<Option<NameKey>, Failure> {
    let Some(names) = &manifest.names else { return Ok(None) };
    let key = key(server, &names.secret)?;
    if key.check() != names.check {
        let what = format!(
            "the secret {} is not the one that the names of this folder were encrypted by",
            names.secret
        );
        return Err(Failure::of(
            "other_secret",
            &what,
            "",
            "put the earlier one back: `keyhearth secret create --replace`",
        ));
    }
    Ok(Some(key))
}

/// As [`of`], for who looks at what lies at `place`, which must be the whole folder: each name is encrypted by where it is in that.
///
/// # Errors
/// As [`of`]; or if it is a part of it.
pub fn of_whole(server: &Server, folder: &Folder<'_>, place: &Path) -> Result<Option<NameKey>, Failure> {
    if folder.manifest.names.is_some() && place != folder.root {
        let root = folder.root.display();
        let what = format!("the names in {root} are encrypted, which is done and undone for all of it");
        return Err(Failure::of("part_of_folder", &what, "", "name that folder"));
    }
    of(server, &folder.manifest)
}

impl Names {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let trust = Trust::new(session, &[], None)?;
        let folder = Folder::open(&self.folder, &trust, false)?;
        folder.check_proved()?;
        let Some(key) = of(&session.server()?, &folder.manifest)? else {
            return Err(Failure::of(
                "clear_names",
                "the names of this folder are not encrypted",
                "",
                "use `file ls`",
            ));
        };
        let names = Lying::in_folder(&folder.root, false, 1).files.into_keys().map(|path| {
            let path = path.as_str().to_owned();
            let stem = path.strip_suffix(SUFFIX).and_then(|stem| stem.strip_suffix('.'));
            Name { name: stem.and_then(|stem| key.decrypt(stem).ok()), path }
        });
        let names: Vec<Name> = names.collect();
        let rows = names.iter().map(|name| vec![name.name.clone().unwrap_or_default(), name.path.clone()]);
        session.list(&names, &["name", "path"], rows)
    }
}
