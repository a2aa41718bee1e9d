//! `audit …`: the log and its proofs.
//!
//! `verify` and `show` are offline: they believe a public key and nothing else.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use keyhearth_core::id::{KeyId, Name, PrincipalId};
use keyhearth_core::log::{
    self, BUNDLE_BYTES_MAX, CHECKPOINT_PATH, Checkpoint, EntryProof, ExportError, NOTE_BYTES_MAX, Report,
    SignedCheckpoint, TILE_WIDTH, VerifierKey, bundle_path, verify_export,
};
use keyhearth_core::time::Time;
use keyhearth_proto::rest::Is;
use keyhearth_proto::rest::answer::{self, LoggedEntry};
use serde::Serialize;

use super::failure::Failure;
use super::output::Sink;
use super::session::{Server, Session};
use super::spelled::spelled;
use super::{input, made, output};

/// Entries that are asked for at once.
const PAGE: u32 = 1_000;
/// Bytes of the longest file with a verifier key.
const VERIFIER_KEY_BYTES_MAX: usize = 1024;

#[derive(Subcommand)]
pub enum Verb {
    List {
        /// Index of the first entry.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// At most so many, 1 to 1000.
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: Option<u32>,
    },
    /// Lists what callers keep without asking, by what they said when they opened it
    Leases(Leases),
    Checkpoint {
        #[command(flatten)]
        key: KeyFlags,
        #[command(flatten)]
        sink: Sink,
    },
    Prove {
        /// The entry's index.
        index: u64,
        /// Size of the tree to prove it in; the newest checkpoint's if absent.
        #[arg(long)]
        size: Option<u64>,
        #[command(flatten)]
        key: KeyFlags,
        #[command(flatten)]
        sink: Sink,
    },
    /// All files of the log, into a new folder.
    Export {
        /// The folder; made if it is not there.
        folder: PathBuf,
    },
    #[command(flatten)]
    Offline(Offline),
}

/// Which leases.
#[derive(Args)]
pub struct Leases {
    /// Of this identity only.
    #[arg(long, value_name = "IDENTITY", value_parser = spelled::<PrincipalId>())]
    of: Option<Is<PrincipalId>>,
    /// Those that were held at this time, such as 2027-01-31T12:00:00Z; now, if absent.
    #[arg(long, value_name = "TIME", value_parser = spelled::<Time>())]
    at: Option<Is<Time>>,
    /// Index of the first entry that is looked at.
    #[arg(long, default_value_t = 0)]
    from: u64,
}

#[derive(Subcommand)]
pub enum Offline {
    /// Verifies an exported log, offline
    Verify(Exported),
    /// Prints the entries of an exported log that are proven, offline
    Show(Exported),
}

/// An exported log.
#[derive(Args)]
pub struct Exported {
    /// The folder that `export` made.
    folder: PathBuf,
    #[command(flatten)]
    key: KeyFlags,
    /// A checkpoint that the log must extend, from a witness or an earlier export; can be given again.
    #[arg(long, value_name = "FILE")]
    known: Vec<PathBuf>,
}

/// What verifies the log.
#[derive(Args)]
pub struct KeyFlags {
    /// The log's verifier key, from someone you believe.
    #[arg(long, value_name = "VKEY")]
    key: Option<String>,
    /// File with the log's verifier key; `init` writes it as log.vkey.
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    log_key_file: Option<PathBuf>,
}

impl KeyFlags {
    fn read(&self) -> Result<Option<VerifierKey>, Failure> {
        let text = match (&self.key, &self.log_key_file) {
            (Some(text), _) => text.clone(),
            (None, Some(file)) => input::text(file, VERIFIER_KEY_BYTES_MAX)?,
            (None, None) => return Ok(None),
        };
        let key = text.trim().parse();
        key.map(Some).map_err(|error| {
            Failure::new(format_args!("the verifier key: {error}"), "give it whole, as log.vkey has it")
        })
    }

    fn required(&self) -> Result<VerifierKey, Failure> {
        self.read()?.ok_or_else(|| {
            Failure::new(
                "the log's verifier key is not given",
                "give --key or --log-key-file (log.vkey of the server)",
            )
        })
    }
}

impl Verb {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Offline(verb) => verb.run(session),
            Self::List { from, limit } => {
                let server = session.server()?;
                let answer = server.wait(server.list_entries(from, limit))?;
                let heads = ["index", "time", "actor", "operation", "result", "detail"];
                session.list(&answer, &heads, answer.entries.iter().map(row))
            }
            Self::Leases(leases) => leases.run(session),
            Self::Checkpoint { key, sink } => {
                let key = key.read()?;
                let server = session.server()?;
                let answer = server.wait(server.checkpoint())?;
                if let Some(key) = key {
                    verified(&answer.checkpoint, &key)?;
                    session.hint("The signature is right.");
                }
                if session.json() { session.show(&answer) } else { sink.text(&answer.checkpoint) }
            }
            Self::Prove { index, size, key, sink } => {
                let key = key.read()?;
                let server = session.server()?;
                let answer = server.wait(server.prove_entry(index, size))?;
                let proof = proof(&answer)?;
                if let Some(key) = key {
                    proof.verify(&answer.entry, &key).map_err(distrust)?;
                    session.hint("The log has signed that this entry is in it.");
                }
                if session.json() { session.show(&answer) } else { sink.text(&proof.to_string()) }
            }
            Self::Export { folder } => {
                let size = export(session, &session.server()?, &folder)?;
                session.say(&Size { size }, &format!("{size} entries are in {}", folder.display()))
            }
        }
    }
}

#[derive(Serialize)]
struct Size {
    size: u64,
}

/// What a caller holds, and the newest entry about it.
#[derive(Serialize)]
struct Held {
    identity: Is<PrincipalId>,
    name: Option<Is<Name>>,
    key: Is<KeyId>,
    /// The secret or the file, where the log names it; otherwise the HMAC of the context.
    what: Option<String>,
    held_until: Is<Time>,
    index: u64,
}

#[derive(Serialize)]
struct Holdings {
    leases: Vec<Held>,
    /// Entries that cannot be read: what they say is not among the leases.
    unreadable: u64,
}

impl Leases {
    /// Reads the log to its end. Of several leases of one thing that one caller has, the one that ends last counts.
    fn run(&self, session: &Session) -> Result<(), Failure> {
        let server = session.server()?;
        let at = self.at.as_ref().map_or_else(wall, |at| at.0);
        let (mut held, mut next, mut unreadable) = (BTreeMap::<_, Held>::new(), Some(self.from), 0);
        while let Some(from) = next {
            let page = server.wait(server.list_entries(from, Some(PAGE)))?;
            for logged in page.entries {
                let Some(one) = logged.entry else {
                    unreadable += 1;
                    continue;
                };
                let (Some(until), Some(identity), Some(key)) = (one.held_until, one.actor, one.key) else {
                    continue;
                };
                let is_meant = self.of.as_ref().is_none_or(|of| *of == identity);
                let what = one.detail.or(one.context);
                let place = (identity.0, key.0, what.clone());
                let is_last = held.get(&place).is_none_or(|other| other.held_until.0 <= until.0);
                if is_meant && is_last && one.time.0 <= at && at < until.0 {
                    let (name, index) = (one.actor_name, one.index);
                    held.insert(place, Held { identity, name, key, what, held_until: until, index });
                }
            }
            next = page.next;
        }
        let holdings = Holdings { leases: held.into_values().collect(), unreadable };
        let row = |one: &Held| {
            let name = one.name.as_ref().map(ToString::to_string).unwrap_or_default();
            let until = output::moment(&one.held_until.to_string());
            vec![name, one.key.to_string(), one.what.clone().unwrap_or_default(), until]
        };
        session.list(&holdings, &["who", "key", "what", "held until"], holdings.leases.iter().map(row))?;
        if unreadable > 0 {
            eprintln!(
                "{unreadable} entries cannot be read: there may be more leases; keyhearth audit export has the entries"
            );
        }
        Ok(())
    }
}

/// The present, by this machine's clock.
fn wall() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_unix_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn row(logged: &LoggedEntry) -> Vec<String> {
    let Some(entry) = &logged.entry else {
        return vec![
            logged.index.to_string(),
            String::new(),
            String::new(),
            "unreadable".to_owned(),
            String::new(),
            String::new(),
        ];
    };
    let detail = [&entry.error, &entry.reason, &entry.detail].into_iter().flatten().next();
    vec![
        logged.index.to_string(),
        output::moment(&entry.time.to_string()),
        entry.actor_name.as_ref().map(ToString::to_string).unwrap_or_default(),
        entry.operation.clone(),
        entry.result.to_string(),
        detail.cloned().unwrap_or_default(),
    ]
}

fn proof(answer: &answer::InclusionProof) -> Result<EntryProof, Failure> {
    let hashes = answer.hashes.iter().map(|hash| log::Hash::try_from(&**hash)).collect::<Result<_, _>>();
    Ok(EntryProof {
        index: answer.index,
        path: hashes.map_err(|_| Failure::new("the server's proof is malformed", "ask its operators"))?,
        checkpoint: answer.checkpoint.parse().map_err(distrust)?,
    })
}

fn distrust(error: log::CheckpointError) -> Failure {
    Failure::new(error, "do not believe it; compare the verifier key and the checkpoint with another copy")
}

fn verified(text: &str, key: &VerifierKey) -> Result<Checkpoint, Failure> {
    let signed: SignedCheckpoint = text.parse().map_err(distrust)?;
    signed.verify(key).cloned().map_err(distrust)
}

/// Fetches the log as the newest checkpoint states it, and returns its size.
fn export(session: &Session, server: &Server, folder: &Path) -> Result<u64, Failure> {
    let fetch = |path: &str| Ok::<_, Failure>(server.wait(server.export_log(path))?.to_vec());
    let note = fetch(CHECKPOINT_PATH)?;
    let note =
        std::str::from_utf8(&note).map_err(|_| distrust(log::CheckpointError::Malformed("not UTF-8")))?;
    let checkpoint: SignedCheckpoint = note.parse().map_err(distrust)?;
    let size = checkpoint.danger_unverified().size();
    let progress = if session.watched() { ProgressBar::new(size) } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} entries");
    progress.set_style(style.expect("every export sets this one template, and a test exports"));
    let read = |first: u64, count: usize| {
        progress.set_position(first);
        fetch(&bundle_path(first / TILE_WIDTH as u64, count))
    };
    let write = |path: &str, bytes: &[u8]| {
        let path = folder.join(path);
        made::folder(path.parent().unwrap_or(folder))?;
        made::create(&path, made::PUBLIC, bytes)
    };
    let exported = log::export(&checkpoint, read, write);
    progress.finish_and_clear();
    match exported {
        Ok(()) => Ok(size),
        Err(ExportError::Io(failure)) => Err(failure),
        Err(error @ (ExportError::Bundle { .. } | ExportError::Root)) => {
            Err(Failure::new(error, "keep what there is and tell the operators: the server's log is damaged"))
        }
    }
}

/// What `verify` found.
#[derive(Serialize)]
struct Verified {
    origin: String,
    entries: u64,
    root: String,
}

impl Offline {
    fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Verify(exported) => {
                let report = exported.verify(|_, _| Ok(()))?;
                let root = report.root.iter().map(|byte| format!("{byte:02x}")).collect();
                let (origin, entries) = (report.origin.to_string(), report.size);
                session.show(&Verified { origin, entries, root })?;
                session.hint("Every entry is as the log signed it.");
                Ok(())
            }
            Self::Show(exported) => exported.verify(print).map(|_| ()),
        }
    }
}

/// Prints a proven entry as a line of JSON.
fn print(index: u64, bytes: &[u8]) -> Result<(), Failure> {
    let logged = LoggedEntry::from((index, bytes.to_vec()));
    let text = match &logged.entry {
        Some(entry) => serde_json::to_string(entry),
        None => serde_json::to_string(&logged),
    };
    output::line(&text.map_err(|error| Failure::new(error, "report this"))?)
}

impl Exported {
    fn verify(&self, each: impl FnMut(u64, &[u8]) -> Result<(), Failure>) -> Result<Report, Failure> {
        let key = self.key.required()?;
        let known = self.known.iter().map(|path| verified(&input::text(path, NOTE_BYTES_MAX)?, &key));
        let known: Vec<_> = known.collect::<Result<_, Failure>>()?;
        let read = |path: &str| read(&self.folder.join(path));
        verify_export(read, &key, &known, each).map_err(|fault| {
            Failure::new(fault, "do not believe this export; keep it and compare it with another copy")
        })
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    let failed = |error: io::Error| Failure::at(path.display(), &error);
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed)?,
    };
    let mut bytes = Vec::new();
    file.take(BUNDLE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > BUNDLE_BYTES_MAX {
        return Err(Failure::new(
            format_args!("{} is too long for a file of a log", path.display()),
            "export the log again",
        ));
    }
    Ok(Some(bytes))
}
