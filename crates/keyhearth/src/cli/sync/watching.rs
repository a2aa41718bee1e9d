//! When to look again: something happened in a folder, or time went by.
//!
//! Events only ever say that there is something to look for. What is missed (events that overflow, network filesystems,
//! memory maps, folders beyond the system's limit of watches) is found when time has gone by.

use std::ffi::OsStr;
use std::fs::DirEntry;
use std::io;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use inotify::{Inotify, WatchMask, Watches};

use super::super::failure::Failure;

/// How long nothing must happen before it is looked: programs write files in several steps.
pub const QUIET: Duration = Duration::from_secs(1);
/// How long something may go on happening before it is looked in spite of it.
const BUSY_MAX: Duration = Duration::from_secs(10);
/// Bytes of events that are read at once.
const EVENTS_BYTES: usize = 64 * 1024;

/// Waits for what happens in folders.
pub struct Watching {
    watches: Watches,
    happened: Receiver<()>,
}

impl Watching {
    /// Begins; no folder is watched yet.
    pub fn new() -> Result<Self, Failure> {
        let mut inotify = Inotify::init()?;
        let watches = inotify.watches();
        let (tell, happened) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = vec![0; EVENTS_BYTES];
            loop {
                let events = match inotify.read_events_blocking(&mut buffer) {
                    Ok(events) => events,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(_) => break,
                };
                // Files on their way to a name are our own.
                let is_others = |name: Option<&OsStr>| {
                    name.is_none_or(|name| !name.to_string_lossy().starts_with(".keyhearth-"))
                };
                if events.into_iter().any(|event| is_others(event.name)) && tell.send(()).is_err() {
                    break;
                }
            }
        });
        Ok(Self { watches, happened })
    }

    /// Watches a folder and all below it, links excepted, but for those called `without`; gives whether all could be.
    pub fn cover(&mut self, folder: &Path, without: Option<&str>) -> bool {
        let mask = WatchMask::CREATE
            | WatchMask::CLOSE_WRITE
            | WatchMask::MOVED_FROM
            | WatchMask::MOVED_TO
            | WatchMask::DELETE
            | WatchMask::ONLYDIR;
        let is_covered = self.watches.add(folder, mask).is_ok();
        let below = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let is_folder = |entry: &DirEntry| {
            entry.file_type().is_ok_and(|kind| kind.is_dir())
                && without.is_none_or(|without| entry.file_name() != without)
        };
        below.filter(is_folder).fold(is_covered, |all, entry| self.cover(&entry.path(), without) && all)
    }

    /// Waits until something happened and nothing did for a while (`quiet`), or so much `time` went by.
    pub fn wait(&self, time: Duration, quiet: Duration) {
        match self.happened.recv_timeout(time) {
            Ok(()) => {
                let since = Instant::now();
                while since.elapsed() < BUSY_MAX.max(quiet) && self.happened.recv_timeout(quiet).is_ok() {}
            }
            Err(RecvTimeoutError::Timeout) => {}
            // Nobody tells any more what happens.
            Err(RecvTimeoutError::Disconnected) => thread::sleep(time),
        }
    }
}
