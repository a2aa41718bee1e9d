//! What lies in a folder: its sealed files, and what keeps others from being any.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use keyhearth_files::manifest::{Finding, InsidePath, Observed, observe};
use serde::Serialize;

use super::super::super::failure::Failure;
use super::super::failure;
use super::super::is_sealed_name;
use super::super::many::{Found, each, regular};

/// It is a symbolic link, a device or a pipe.
pub const NOT_A_FILE: &str = "not_a_file";
/// It can not be read.
pub const UNREADABLE: &str = "unreadable";
/// Its path is no UTF-8, has control characters or is too long.
pub const BAD_NAME: &str = "bad_name";

/// Something to tell about a path.
#[derive(Serialize)]
pub struct Wrong {
    /// What it is.
    pub what: &'static str,
    /// Where.
    pub path: String,
    /// The path it has to do with, or why.
    pub see: Option<String>,
}

impl From<Finding> for Wrong {
    fn from(finding: Finding) -> Self {
        let see = finding.other.map(|path| path.as_str().to_owned());
        Self { what: finding.kind.name(), path: finding.path.as_str().to_owned(), see }
    }
}

/// What lies in a folder.
#[derive(Default)]
pub struct Lying {
    /// Its sealed files.
    pub files: BTreeMap<InsidePath, Observed>,
    /// What no manifest can have, or could not be read.
    pub wrong: Vec<Wrong>,
    /// What is no sealed file, and names that other systems take for the same.
    pub notes: Vec<Wrong>,
}

impl Lying {
    /// Looks at everything in the folder at `root`, on so many threads; at all of each file if `whole`.
    pub fn in_folder(root: &Path, whole: bool, threads: usize) -> Self {
        let mut found = Found::walk(&[root.to_owned()]);
        let mut lying = Self::default();
        for (path, refusal) in found.take_refused() {
            let inside = path.strip_prefix(root).unwrap_or(&path);
            lying.wrong.push(wrong(NOT_A_FILE, inside, Some(&refusal)));
        }
        for (inside, looked) in each(threads, found.files, |(path, inside)| (inside, look(&path, whole))) {
            match (inside.to_str().and_then(InsidePath::new), looked) {
                (_, Err(refusal)) => lying.wrong.push(wrong(UNREADABLE, &inside, Some(&refusal))),
                (_, Ok(None)) if is_sealed_name(&inside) => {
                    lying.wrong.push(wrong(UNREADABLE, &inside, None))
                }
                (_, Ok(None)) => lying.notes.push(wrong("not_sealed", &inside, None)),
                (None, Ok(Some(_))) => lying.wrong.push(wrong(BAD_NAME, &inside, None)),
                (Some(path), Ok(Some(observed))) => {
                    lying.files.insert(path, observed);
                }
            }
        }
        lying.same_letters();
        lying
    }

    /// Looks at some files in the folder at `root`: what lies at each, or why not.
    pub fn of(root: &Path, paths: Vec<PathBuf>, threads: usize) -> Self {
        let mut lying = Self::default();
        let looked = each(threads, paths, |path| {
            let looked = look(&path, true);
            (path.strip_prefix(root).map(Path::to_owned).unwrap_or(path), looked)
        });
        for (inside, looked) in looked {
            match (inside.to_str().and_then(InsidePath::new), looked) {
                (Some(path), Ok(Some(observed))) => {
                    lying.files.insert(path, observed);
                }
                (None, Ok(_)) => lying.wrong.push(wrong(BAD_NAME, &inside, None)),
                (Some(_), Ok(None)) => lying.wrong.push(wrong("not_sealed", &inside, None)),
                (_, Err(refusal)) => lying.wrong.push(wrong(UNREADABLE, &inside, Some(&refusal))),
            }
        }
        lying
    }

    /// Notes names that are one name where capital letters do not count.
    fn same_letters(&mut self) {
        let mut folded: BTreeMap<String, &InsidePath> = BTreeMap::new();
        for path in self.files.keys() {
            if let Some(other) = folded.insert(path.as_str().to_lowercase(), path) {
                let see = Some(other.as_str().to_owned());
                self.notes.push(Wrong { what: "same_letters", path: path.as_str().to_owned(), see });
            }
        }
    }
}

fn wrong(what: &'static str, path: &Path, refusal: Option<&Failure>) -> Wrong {
    Wrong { what, path: path.display().to_string(), see: refusal.map(ToString::to_string) }
}

fn look(path: &Path, whole: bool) -> Result<Option<Observed>, Failure> {
    regular(path)?;
    let file = File::open(path).map_err(|error| Failure::at(path.display(), &error))?;
    observe(&file, whole).map_err(failure)
}
