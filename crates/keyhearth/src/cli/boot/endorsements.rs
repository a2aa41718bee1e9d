//! `boot endorsements`: the folder of a server's endorsements, offline. A running server sees what changes in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use keyhearth::config::Config;
use keyhearth::endorsements::{Contents, FILES_MAX, Folder, Imported, Kept, Outcome};
use keyhearth_attest::{ENDORSEMENT_BYTES_MAX, Inspected, Refusal, Roots, Subject};
use keyhearth_core::time::Time;
use keyhearth_proto::rest::Is;
use serde::Serialize;

use super::appraise::extra_roots;
use crate::cli::failure::Failure;
use crate::cli::input;
use crate::cli::output::moment;
use crate::cli::session::Session;
use crate::cli::spelled::{pair, spelled};

/// Where the folder is unless it is named, as in `keyhearth config reference`.
const FOLDER: &str = "/etc/keyhearth/endorsements";
/// What ends sooner is said to.
const SOON_S: u64 = 7 * 86_400;

#[derive(Subcommand)]
pub enum Endorsements {
    /// Checks certificates, revocation lists and collateral, and puts those that are sound into the folder
    Import(Import),
    /// Shows what is in the folder, of what it is, and until when it is in force
    List(List),
}

#[derive(Args)]
pub struct Import {
    /// Files in PEM, DER or JSON, or folders of them.
    #[arg(required = true, value_name = "FILE|FOLDER")]
    given: Vec<PathBuf>,
    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
pub struct List {
    /// The folder; /etc/keyhearth/endorsements if neither it nor a configuration is named.
    #[arg(value_name = "FOLDER", conflicts_with = "config")]
    folder: Option<PathBuf>,
    #[command(flatten)]
    place: Judged,
}

/// The folder, and what its contents are judged by.
#[derive(Args)]
struct Place {
    /// The folder; /etc/keyhearth/endorsements if neither it nor a configuration is named.
    #[arg(long, value_name = "FOLDER", conflicts_with = "config")]
    to: Option<PathBuf>,
    #[command(flatten)]
    judged: Judged,
}

#[derive(Args)]
struct Judged {
    /// The server's configuration, which names the folder and roots of its own.
    #[arg(long, value_name = "FILE", conflicts_with = "roots")]
    config: Option<PathBuf>,
    /// A further root to believe; can be given again.
    #[arg(long = "root", value_name = "LABEL=FILE", value_parser = pair)]
    roots: Vec<(String, String)>,
    /// When they are judged; now if absent.
    #[arg(long, value_name = "TIME", value_parser = spelled::<Time>())]
    at: Option<Is<Time>>,
}

/// A folder that is judged at a time.
struct Open {
    folder: Folder,
    roots: Roots,
    now_s: u64,
}

/// What is said of one endorsement.
#[derive(Serialize)]
struct Row {
    /// Of an import.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    /// `ok`, `soon`, or `over`; absent for what does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<Subject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    root: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    begins: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ends: Option<String>,
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<Refusal>,
    #[serde(skip)]
    order: (u8, u64),
}

#[derive(Serialize)]
struct Rows {
    folder: PathBuf,
    items: Vec<Row>,
}

impl Endorsements {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Import(import) => import.run(session),
            Self::List(list) => list.run(session),
        }
    }
}

impl Judged {
    fn open(self, folder: Option<PathBuf>) -> Result<Open, Failure> {
        let now_s = match &self.at {
            Some(at) => at.0.unix_ms() / 1000,
            None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        };
        let (path, roots) = match &self.config {
            Some(config) => {
                let boot = Config::load(config)?.boot.ok_or_else(|| {
                    Failure::new(
                        format_args!("{} has no section [boot]", config.display()),
                        "add it, or name --to",
                    )
                })?;
                let missing = || Failure::new("`endorsements` of [boot] is not set", "set it, or name --to");
                (boot.endorsements.clone().ok_or_else(missing)?, boot.believed()?)
            }
            None => (folder.unwrap_or_else(|| PathBuf::from(FOLDER)), extra_roots(&self.roots)?),
        };
        Ok(Open { folder: Folder::at(path), roots, now_s })
    }
}

impl Import {
    fn run(self, session: &Session) -> Result<(), Failure> {
        let Open { folder, roots, now_s } = self.place.judged.open(self.place.to)?;
        let mut given = Vec::new();
        for path in self.given.iter().map(|path| files(path)).collect::<Result<Vec<_>, _>>()?.concat() {
            given.push((path.display().to_string(), input::public(&path, ENDORSEMENT_BYTES_MAX)?));
        }
        let failed = |error| Failure::at(folder.path().display(), &error);
        let imported = folder.import(&given, &roots, now_s, |_| true).map_err(failed)?;
        let refused = imported.iter().filter(|one| one.outcome == Outcome::Refused).count();
        let items = imported.into_iter().map(|one| Row::imported(one, now_s)).collect();
        let rows = Rows { folder: folder.path().to_owned(), items };
        let cells = |row: &Row| {
            vec![row.outcome.unwrap_or_default().to_owned(), row.what(), row.ends.clone().unwrap_or_default()]
        };
        session.list(&rows, &["outcome", "what", "ends"], rows.items.iter().map(cells))?;
        rows.reasons(session);
        if refused == 0 {
            return Ok(());
        }
        let next =
            "docs/boot/appraisal.md explains the reasons; name roots of your own with --root or --config";
        Err(Failure::new(format_args!("{refused} of {} were refused", rows.items.len()), next))
    }
}

impl List {
    fn run(self, session: &Session) -> Result<(), Failure> {
        let Open { folder, roots, now_s } = self.place.open(self.folder)?;
        let contents = folder.read(&roots, &Contents::default());
        let contents = contents.map_err(|error| Failure::at(folder.path().display(), &error))?;
        let mut items: Vec<_> = contents.kept.into_iter().map(|kept| Row::kept(kept, now_s)).collect();
        items.sort_by(|one, other| (one.order, &one.file).cmp(&(other.order, &other.file)));
        let rows = Rows { folder: folder.path().to_owned(), items };
        let cells = |row: &Row| {
            let state = match row.state {
                Some("ok") => "ok".to_owned(),
                other => format!("! {}", other.unwrap_or("refused")),
            };
            vec![state, row.what(), row.ends.clone().unwrap_or_default()]
        };
        session.list(&rows, &["state", "what", "ends"], rows.items.iter().map(cells))?;
        rows.reasons(session);
        match contents.unread.first() {
            Some((file, error)) => Err(Failure::at(rows.folder.join(file).display(), error)),
            None => Ok(()),
        }
    }
}

impl Row {
    fn imported(one: Imported, now_s: u64) -> Self {
        Self { outcome: Some(one.outcome.name()), ..Self::of(one.source, one.found, now_s) }
    }

    fn kept(kept: Kept, now_s: u64) -> Self {
        Self::of(kept.file, kept.found, now_s)
    }

    fn of(file: String, found: Result<Inspected, Refusal>, now_s: u64) -> Self {
        let found = match found {
            Ok(found) => found,
            Err(refusal) => {
                let (outcome, state, subject, root) = (None, None, None, None);
                let refusal = Some(refusal);
                return Self {
                    outcome,
                    state,
                    subject,
                    root,
                    begins: None,
                    ends: None,
                    file,
                    refusal,
                    order: (0, 0),
                };
            }
        };
        let state = match found.out_of_force(now_s) {
            Some(_) => "over",
            None if found.ends_s < now_s + SOON_S => "soon",
            None => "ok",
        };
        // First what has to be replaced again and again.
        let first = match found.subject {
            Subject::List(_) | Subject::TcbInfo(_) | Subject::QeIdentity(_) => 1,
            Subject::Vcek { .. } | Subject::Vlek { .. } | Subject::Certificate(_) => 2,
        };
        let time =
            |time_s: u64| Some(moment(&Is(Time::from_unix_ms(time_s.saturating_mul(1000))).to_string()));
        Self {
            outcome: None,
            state: Some(state),
            root: Some(found.root.clone()),
            begins: time(found.begins_s),
            ends: time(found.ends_s),
            order: (first, found.ends_s),
            subject: Some(found.subject),
            file,
            refusal: None,
        }
    }

    fn what(&self) -> String {
        match (&self.subject, &self.refusal) {
            (Some(subject), _) => subject.to_string(),
            (None, Some(refusal)) => {
                let name = Path::new(&self.file).file_name().unwrap_or_default();
                format!("{}: {}", refusal.reason.code(), name.to_string_lossy())
            }
            (None, None) => String::new(),
        }
    }
}

impl Rows {
    /// Says why what was refused was.
    fn reasons(&self, session: &Session) {
        for row in &self.items {
            if let Some(refusal) = &row.refusal {
                session.hint(&format!("{}: {refusal}", row.file));
            }
        }
    }
}

/// The file, or the files in the folder.
fn files(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let failed = |error| Failure::at(path.display(), &error);
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        let hidden = file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if file.is_file() && !hidden {
            files.push(file);
        }
        if files.len() > FILES_MAX {
            let what = format!("{} has more than {FILES_MAX} files", path.display());
            return Err(Failure::new(what, "import it in parts"));
        }
    }
    files.sort();
    Ok(files)
}
