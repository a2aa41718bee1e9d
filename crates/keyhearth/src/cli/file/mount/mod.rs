//! `file mount`: the plaintext of a folder of sealed files, for programs that know nothing of sealing.
//!
//! [`view`] answers the kernel; [`files`] is what is open. Nothing of plaintext is left to the kernel to keep: every read comes
//! here, so that it ends when the server's word does. [`save`] is writing, [`change`] what is made, renamed and removed.

mod change;
mod documents;
mod files;
mod held;
mod leases;
mod numbers;
mod replace;
mod save;
mod shown;
mod view;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use clap::Args;
use fuser::{Config, MountOption};
use keyhearth_core::request::KeyRef;
use keyhearth_files::names::NameKey;
use keyhearth_proto::rest::body::Lease;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::super::failure::Failure;
use super::super::output;
use super::super::session::{Server, Session};
use super::super::spelled::{self, seconds, text_of};
use super::manifest::{DeviceName, Folder, Trust, once_free};
use super::names;
use super::place::beneath::Root;
use files::Files;
use held::Held;
use shown::ShownRoot;
use view::View;

/// Requests that are answered at once.
const THREADS: usize = 4;
/// The longest that an open file is read without asking again, in seconds.
const LEASE_SECONDS_MAX: u32 = 60 * 60;

#[derive(Args)]
pub struct Mount {
    /// The folder of sealed files
    sealed: PathBuf,
    /// The folder to show them in
    mountpoint: PathBuf,
    /// How long the key of an open file is kept before the server is asked again: `30s`, `5m`, `2h`; 0s is not at all
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = lease)]
    lease: Duration,
    /// Keep the keys of all files in memory, and open them without the server for so long after it gave them: `8h`
    #[arg(long, value_name = "TIME", value_parser = offline)]
    offline: Option<Lease>,
    /// Let programs write, too; the key that wraps the keys of new files, by its id or an alias
    #[arg(long, value_parser = text_of::<KeyRef>)]
    key: Option<String>,
    #[command(flatten)]
    name: DeviceName,
}

fn lease(text: &str) -> Result<Duration, &'static str> {
    let short = Some(seconds(text)?).filter(|seconds| *seconds <= LEASE_SECONDS_MAX);
    short
        .map(|seconds| Duration::from_secs(seconds.into()))
        .ok_or("must be at most 1h; --offline is for longer")
}

fn offline(text: &str) -> Result<Lease, &'static str> {
    spelled::lease(text)
        .and_then(|lease| if lease.number() > 0 { Ok(lease) } else { Err("must be more than 0") })
}

impl Mount {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let server = session.server()?;
        self.apart()?;
        let root = Root::open(&self.sealed).map_err(|error| Failure::at(self.sealed.display(), &error))?;
        let root = ShownRoot::new(root, self.names(session, &server)?);
        let writer = (self.key.clone(), self.name.device());
        let files = Arc::new(Files::new(root, server, writer, self.lease, self.offline.map(Held::new)));
        if self.key.is_some() {
            // Whoever may not seal is told before he has written anything.
            files.head(None).map_err(|refusal| {
                let code = refusal.code().unwrap_or("local").to_owned();
                let what = format!("nothing can be sealed there: {refusal}");
                Failure::of(&code, &what, "", &format!("{}; to read alone, leave out --key", refusal.next()))
            })?;
        }
        let signals = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (mut terminate, mut interrupt, mut hangup) = signals.block_on(async {
            let kinds = (SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup());
            io::Result::Ok((signal(kinds.0)?, signal(kinds.1)?, signal(kinds.2)?))
        })?;
        let mut mounted =
            fuser::Session::new(View::new(Arc::clone(&files))?, &self.mountpoint, &self.options())
                .map_err(|error| self.not_mounted(&error))?;
        let mut unmounter = mounted.unmount_callable();
        let watched = Arc::clone(&files);
        let watching = thread::spawn(move || watched.leases.watch());
        let holding = Arc::clone(&files);
        // Not joined: it may wait for the server.
        thread::spawn(move || holding.held.iter().for_each(|held| held.watch(&holding)));
        if self.key.is_some() {
            let saved = Arc::clone(&files);
            // Nor this: what it does not save is saved in the end.
            thread::spawn(move || saved.save_again());
        }
        let (ended, end) = oneshot::channel();
        thread::spawn(move || ended.send(mounted.run()));
        if session.json() {
            session.show(&json!({ "mounted": self.mountpoint.display().to_string() }))?;
        }
        session.hint(&format!("{} is mounted; `umount` or Ctrl+C ends it", self.mountpoint.display()));
        let served = signals.block_on(async {
            tokio::select! {
                served = end => return served.unwrap_or(Ok(())),
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {}
            }
            unmounter.unmount().or_else(|_| self.detach())
        });
        files.end_all();
        let _ = watching.join();
        let (saved, is_saved) = oneshot::channel();
        let saving = Arc::clone(&files);
        thread::spawn(move || {
            saving.save_all();
            saved.send(())
        });
        // Who does not want to wait for that sends another signal.
        signals.block_on(async {
            tokio::select! {
                _ = is_saved => {}
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {}
            }
        });
        let unsaved = files.unsaved();
        if unsaved.is_empty() {
            return Ok(served?);
        }
        let names: Vec<_> =
            unsaved.iter().map(|path| output::visible(&path.to_string_lossy()).into_owned()).collect();
        let what = "what was written last to these files is lost";
        Err(Failure::of(
            "unsaved",
            what,
            &names.join(", "),
            "what lies there is what was saved last; write them again",
        ))
    }

    fn options(&self) -> Config {
        let mut options = Config::default();
        options.mount_options = vec![
            MountOption::FSName("keyhearth".to_owned()),
            MountOption::Subtype("keyhearth".to_owned()),
            MountOption::DefaultPermissions,
            MountOption::NoDev,
            MountOption::NoSuid,
            if self.key.is_some() { MountOption::RW } else { MountOption::RO },
        ];
        options.n_threads = Some(THREADS);
        options
    }

    /// The key of the folder's names, if its manifest says that they are encrypted.
    fn names(&self, session: &Session, server: &Server) -> Result<Option<NameKey>, Failure> {
        let sealed =
            self.sealed.canonicalize().map_err(|error| Failure::at(self.sealed.display(), &error))?;
        let trust = Trust::new(session, &[], None)?;
        let open = || Folder::open(&Folder::known_root_of(&sealed)?, &trust, false);
        let shown_as_it_lies = |refusal: &Failure| {
            session.hint(&format!("names that are not known are shown as they lie there: {refusal}"));
        };
        let mut folder = match once_free(open) {
            Err(refusal) if refusal.code() == Some("no_manifest") => return Ok(None),
            // Who only reads tells nobody a name.
            Err(refusal) if self.key.is_none() && refusal.is_refusal() && refusal.code() != Some("busy") => {
                shown_as_it_lies(&refusal);
                return Ok(None);
            }
            opened => opened?,
        };
        match folder.check() {
            Err(refusal) if self.key.is_some() => return Err(refusal),
            checked => checked.err().iter().for_each(shown_as_it_lies),
        }
        if folder.present.is_some() {
            folder.remember()?;
        }
        names::of_whole(server, &folder, &sealed)
    }

    /// Refuses to show plaintext where the sync service looks, and the folder in itself.
    fn apart(&self) -> Result<(), Failure> {
        let real = |path: &Path| path.canonicalize().map_err(|error| Failure::at(path.display(), &error));
        let (sealed, mountpoint) = (real(&self.sealed)?, real(&self.mountpoint)?);
        if sealed.starts_with(&mountpoint) || mountpoint.starts_with(&sealed) {
            return Err(Failure::new(
                "one of the two folders is in the other",
                "name a folder elsewhere to mount on",
            ));
        }
        Ok(())
    }

    fn not_mounted(&self, error: &io::Error) -> Failure {
        let next = "look whether /dev/fuse and `fusermount3` (package fuse3) are there, and the folder is yours and nothing is mounted \
                    on it (`fusermount3 -u` ends what is)";
        Failure::new(format_args!("{}: {error}", self.mountpoint.display()), next)
    }

    /// Takes the mount away though files in it are open: what is open gives errors from then on.
    fn detach(&self) -> io::Result<()> {
        let status = Command::new("fusermount3").arg("-uz").arg("--").arg(&self.mountpoint).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other("fusermount3 did not unmount it")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_numbers_with_a_unit() {
        for (text, seconds) in [("0s", 0), ("30s", 30), ("5m", 300), ("1h", 3_600)] {
            assert_eq!(lease(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "5", "m", "-1s", "1.5m", "61m", "2h", "5µ", "99999999999s", "5 m"] {
            assert!(lease(text).is_err(), "{text}");
        }
    }
}
