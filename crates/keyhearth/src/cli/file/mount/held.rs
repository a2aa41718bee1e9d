//! What opens without the server for a while: the keys of the folder's files, which the server let this identity hold.
//!
//! A thread asks for them when the folder is mounted, for new ones as they appear, and again at half of their time. While the
//! server answers, each opening asks it all the same. What it refuses ends at once, whoever asked, and all ends with its time:
//! on the clock that goes on while the machine sleeps.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use keyhearth_crypto::digest::sha256;
use keyhearth_files::age::FileKey;
use keyhearth_files::esdk::DataKey;
use keyhearth_files::held;
use keyhearth_files::{AnyOpened, Error, Reader};
use keyhearth_proto::rest::body::Lease;
use keyhearth_sys::clock::boottime_ms;
use parking_lot::{Condvar, Mutex};

use super::super::super::failure::Failure;
use super::super::many::BATCH;
use super::super::open::{Opener, Unlocked};
use super::super::{esdk, failure};
use super::beneath::{Entry, Root};
use super::files::Files;

/// The most files that are held.
const FILES_MAX: usize = 100_000;
/// The longest between two looks at the folder.
const LOOK_MS: u64 = 60_000;
/// The longest that the server is not asked whether a key may still be used.
const PROBE_MS: u64 = 5 * 60_000;
/// How long a server that did not answer is left alone.
const RETRY_MS: u64 = 10_000;
/// The longest that is waited before it is looked whether a time is over: waiting stands still while the machine sleeps.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// The shortest lease that is asked for where a grant ends before, in seconds.
const SHORTEST_S: u64 = 60;

/// SHA-256 of a file's header.
pub type Digest = [u8; 32];

/// What tells the header of a file from those of others.
pub fn digest(opened: &AnyOpened) -> Digest {
    match opened {
        AnyOpened::Age(opened) => sha256(&[opened.header.to_text().as_bytes()]),
        AnyOpened::Esdk(opened) => sha256(&[opened.header.as_bytes()]),
    }
}

enum Key {
    Age(FileKey),
    Esdk(DataKey),
}

struct Holding {
    key: Key,
    /// The server's key that the header names first.
    by: String,
    /// When the server was asked, and until when its answer holds.
    asked_ms: u64,
    until_ms: u64,
}

impl Holding {
    fn is_half_over(&self, now_ms: u64) -> bool {
        now_ms >= self.asked_ms + (self.until_ms - self.asked_ms) / 2
    }
}

#[derive(Default)]
struct State {
    held: HashMap<Digest, Holding>,
    /// What the server refused to let us hold, and when.
    refused: HashMap<Digest, u64>,
    /// Keys of the server under which something was refused: whatever else they open is asked for again.
    suspected: BTreeSet<String>,
    is_unreachable: bool,
    is_woken: bool,
    is_over: bool,
}

/// The keys that are held.
pub struct Held {
    lease: Lease,
    state: Mutex<State>,
    changed: Condvar,
}

/// A sealed file: the folder, and its name there.
type Place = (PathBuf, OsString);
/// What tells one state of a file from the others.
type Stamp = (u64, u64, i64, i64, u64);

/// The folder as it was looked at last.
#[derive(Default)]
struct Look {
    /// Headers that were read.
    known: HashMap<Stamp, Digest>,
    places: BTreeMap<Digest, Place>,
    is_too_many: bool,
    /// All folders could be read.
    is_whole: bool,
}

impl Held {
    /// Nothing yet; each key for so long.
    pub fn new(lease: Lease) -> Self {
        Self { lease, state: Mutex::default(), changed: Condvar::new() }
    }

    fn lease_ms(&self) -> u64 {
        u64::from(self.lease.number()) * 1_000
    }

    /// What reads the file with this header without asking, and until when; for who knows that the server does not answer.
    pub fn reader_offline(
        &self,
        header: &Digest,
        open: impl FnOnce() -> Result<AnyOpened, Failure>,
    ) -> Option<Result<(Reader, u64), Failure>> {
        let state = self.state.lock();
        let holding = state
            .held
            .get(header)
            .filter(|holding| state.is_unreachable && holding.until_ms > boottime_ms())?;
        let reader = |opened| match (opened, &holding.key) {
            (AnyOpened::Age(opened), Key::Age(key)) => opened.into_reader(key).map_err(failure),
            (AnyOpened::Esdk(opened), Key::Esdk(key)) => opened.into_reader(key).map_err(failure),
            (AnyOpened::Age(_), Key::Esdk(_)) | (AnyOpened::Esdk(_), Key::Age(_)) => {
                Err(failure(Error::Changed))
            }
        };
        Some(open().and_then(reader).map(|reader| (reader, holding.until_ms)))
    }

    /// Learns what the server said to who opened the file with this header: nothing, if there was no refusal.
    pub fn learn(&self, header: &Digest, refusal: Option<&Failure>) {
        let mut state = self.state.lock();
        state.is_woken |= match refusal {
            // What may be opened again may be held again.
            None => {
                state.refused.get(header).is_some_and(|at| boottime_ms() >= at + LOOK_MS)
                    && state.refused.remove(header).is_some()
            }
            Some(refusal) if refusal.is_unanswered() => !std::mem::replace(&mut state.is_unreachable, true),
            Some(_) => {
                state.refuse(header);
                true
            }
        };
        if state.is_woken {
            self.changed.notify_one();
        }
    }

    /// Wipes everything, and keeps nothing from now on.
    pub fn end_all(&self) {
        *self.state.lock() = State { is_over: true, ..State::default() };
        self.changed.notify_one();
    }

    /// Asks for keys and wipes them, each in its time, until [`Held::end_all`].
    pub fn watch(&self, files: &Files) {
        let (mut look, mut next_ms, mut told) = (Look::default(), 0, None);
        while self.wait(next_ms) {
            look.again(&files.root);
            let asked = self.renew(files, &look);
            let mut state = self.state.lock();
            if let Err(why) = &asked {
                eprintln!("what is held without the server is not renewed: {why}");
            }
            state.is_unreachable = asked.as_ref().is_err_and(Failure::is_unanswered);
            if told.replace(state.held.len()) != Some(state.held.len()) {
                eprintln!("{} files open without the server", state.held.len());
            }
            let pause_ms = if state.is_unreachable { RETRY_MS } else { LOOK_MS };
            next_ms = boottime_ms() + pause_ms.min(self.lease_ms() / 4);
        }
    }

    /// Waits until the time has come or somebody woke us, and wipes meanwhile what is over. False in the end.
    fn wait(&self, next_ms: u64) -> bool {
        let mut state = self.state.lock();
        loop {
            let now_ms = boottime_ms();
            state.held.retain(|_, holding| holding.until_ms > now_ms);
            if state.is_over || state.is_woken || now_ms >= next_ms {
                state.is_woken = false;
                return !state.is_over;
            }
            let end_ms =
                state.held.values().map(|holding| holding.until_ms).min().unwrap_or(next_ms).min(next_ms);
            self.changed.wait_for(&mut state, Duration::from_millis(end_ms - now_ms).min(WAIT_MAX));
        }
    }

    /// Asks for what is new or half over, and for some of each key, so that its end shows.
    fn renew(&self, files: &Files, look: &Look) -> Result<(), Failure> {
        if look.is_too_many {
            eprintln!("more than {FILES_MAX} files: the others do not open without the server");
        }
        self.forget(look);
        let mut why = None;
        self.ask_suspects(files, look, &mut why)?;
        for asked in self.due(look).chunks(BATCH) {
            self.ask(files, asked, self.lease, &mut why)?;
            self.ask_suspects(files, look, &mut why)?;
        }
        if let Some((count, why)) = why {
            eprintln!("{count} files do not open without the server: {why}");
        }
        Ok(())
    }

    /// Asks for what suspected keys open, until all that was asked for is allowed.
    fn ask_suspects(
        &self,
        files: &Files,
        look: &Look,
        why: &mut Option<(usize, Failure)>,
    ) -> Result<(), Failure> {
        loop {
            let asked = self.suspects(look);
            if asked.is_empty() {
                return Ok(());
            }
            self.ask(files, &asked, self.lease, why)?;
        }
    }

    /// Wipes what is in the folder no more.
    fn forget(&self, look: &Look) {
        let mut state = self.state.lock();
        let now_ms = boottime_ms();
        if look.is_whole {
            state.held.retain(|header, _| look.places.contains_key(header));
        }
        let half_ms = self.lease_ms() / 2;
        state.refused.retain(|header, at| look.places.contains_key(header) && now_ms < *at + half_ms);
    }

    /// Files of keys that are suspected, those that were asked for longest ago.
    fn suspects<'l>(&self, look: &'l Look) -> Vec<(Digest, &'l Place)> {
        let mut state = self.state.lock();
        let mut of: Vec<_> =
            state.held.iter().filter(|(_, holding)| state.suspected.contains(&holding.by)).collect();
        of.sort_by_key(|(_, holding)| holding.asked_ms);
        let headers: Vec<Digest> = of.into_iter().map(|(header, _)| *header).take(BATCH).collect();
        // Refused ones put their keys back.
        state.suspected.clear();
        headers.into_iter().filter_map(|header| Some((header, look.places.get(&header)?))).collect()
    }

    fn due<'l>(&self, look: &'l Look) -> Vec<(Digest, &'l Place)> {
        let state = self.state.lock();
        let now_ms = boottime_ms();
        let mut oldest: BTreeMap<&str, (u64, &Digest)> = BTreeMap::new();
        for (header, holding) in &state.held {
            let place = oldest.entry(&holding.by).or_insert((holding.asked_ms, header));
            *place = (*place).min((holding.asked_ms, header));
        }
        let probe_ms = if state.is_unreachable { 0 } else { PROBE_MS };
        let probes: BTreeSet<&Digest> = oldest
            .into_values()
            .filter(|(asked_ms, _)| now_ms >= asked_ms + probe_ms)
            .map(|(_, header)| header)
            .collect();
        let is_due = |header: &Digest| match state.held.get(header) {
            Some(holding) => probes.contains(header) || holding.is_half_over(now_ms),
            None => !state.refused.contains_key(header),
        };
        look.places
            .iter()
            .filter(|(header, _)| is_due(header))
            .map(|(header, place)| (*header, place))
            .collect()
    }

    /// Asks for the keys of files; counts those that were refused, with the first reason.
    ///
    /// # Errors
    /// [`Failure`] if the server did not answer, or refused all; then nothing is held any more.
    fn ask(
        &self,
        files: &Files,
        asked: &[(Digest, &Place)],
        lease: Lease,
        why: &mut Option<(usize, Failure)>,
    ) -> Result<(), Failure> {
        let (mut headers, mut opened) = (Vec::new(), Vec::new());
        for (header, place) in asked {
            // What was replaced meanwhile is seen by the next look.
            if let Ok(found) = open(&files.root, place)
                && digest(&found) == *header
            {
                headers.push((*header, *place, key_of(&found)));
                opened.push(found);
            }
        }
        let asked_ms = boottime_ms();
        let answers = match Opener::Leased(&files.server, lease).unlock(opened) {
            Err(refusal) if !refusal.is_unanswered() => {
                self.state.lock().held.clear();
                files.leases.end_every();
                return Err(refusal);
            }
            answers => answers?,
        };
        let until_ms = asked_ms + u64::from(lease.number()) * 1_000;
        let (mut shorter, mut shortest_s) = (Vec::new(), u64::MAX);
        for ((header, place, by), answer) in headers.into_iter().zip(answers) {
            let refusal = match answer.and_then(proved) {
                Ok(key) => {
                    self.state.lock().hold(header, Holding { key, by, asked_ms, until_ms });
                    continue;
                }
                Err(refusal) if refusal.is_unanswered() => return Err(refusal),
                Err(refusal) => refusal,
            };
            match refusal.limit("lease_seconds") {
                Some(limit_s) if limit_s > SHORTEST_S && limit_s < lease.number().into() => {
                    shorter.push((header, place));
                    shortest_s = shortest_s.min(limit_s);
                }
                Some(_) | None => {
                    self.state.lock().refuse(&header);
                    files.end(&header);
                    why.get_or_insert((0, refusal)).0 += 1;
                }
            }
        }
        // As long as the grants last, less what asking takes.
        match u32::try_from(shortest_s - shortest_s / 10).ok().and_then(Lease::new) {
            Some(lease) if !shorter.is_empty() => self.ask(files, &shorter, lease, why),
            Some(_) | None => Ok(()),
        }
    }
}

impl State {
    /// Holds a key, unless it was refused since it was asked for.
    fn hold(&mut self, header: Digest, holding: Holding) {
        let is_refused = self.refused.get(&header).is_some_and(|at| *at >= holding.asked_ms);
        if !self.is_over && !is_refused {
            self.refused.remove(&header);
            self.held.insert(header, holding);
        }
    }

    fn refuse(&mut self, header: &Digest) {
        if let Some(holding) = self.held.remove(header) {
            self.suspected.insert(holding.by);
        }
        self.refused.insert(*header, boottime_ms());
    }
}

impl Look {
    /// Looks at the folder again.
    fn again(&mut self, root: &Root) {
        let (known, mut folders) = (std::mem::take(&mut self.known), vec![PathBuf::new()]);
        self.places.clear();
        (self.is_too_many, self.is_whole) = (false, true);
        while let Some(inside) = folders.pop() {
            let Ok((entries, folder)) =
                root.folder(&inside).and_then(|folder| Ok((folder.entries()?, folder)))
            else {
                self.is_whole = false;
                continue;
            };
            for (name, entry) in entries {
                match entry {
                    Entry::Folder => folders.push(inside.join(name)),
                    Entry::File(_) if self.places.len() == FILES_MAX => self.is_too_many = true,
                    Entry::File(sealed) => {
                        // What is no sealed file gives an error to who opens it.
                        let found =
                            folder.open(&sealed).map_err(Failure::from).and_then(|file| headed(file, &known));
                        let Ok((stamp, header)) = found else { continue };
                        self.known.insert(stamp, header);
                        self.places.insert(header, (inside.clone(), sealed));
                    }
                }
            }
        }
    }
}

/// What tells the state of this file, and its header, which is read if it is not known.
fn headed(file: File, known: &HashMap<Stamp, Digest>) -> Result<(Stamp, Digest), Failure> {
    let of = file.metadata()?;
    let stamp = (of.dev(), of.ino(), of.ctime(), of.ctime_nsec(), of.len());
    let header = match known.get(&stamp) {
        Some(header) => *header,
        None => digest(&keyhearth_files::open_any(file).map_err(failure)?),
    };
    Ok((stamp, header))
}

fn open(root: &Root, (folder, sealed): &Place) -> Result<AnyOpened, Failure> {
    let file = root.folder(folder)?.open(sealed)?;
    keyhearth_files::open_any(file).map_err(failure)
}

/// The server's key that the header names first.
fn key_of(opened: &AnyOpened) -> String {
    match opened {
        AnyOpened::Age(opened) => {
            let held = held::Held::all(&opened.header.stanzas).unwrap_or_default();
            held.first().map(|held| held.key().to_owned())
        }
        AnyOpened::Esdk(opened) => opened.header.data_keys.iter().find_map(esdk::key_of).map(str::to_owned),
    }
    .unwrap_or_default()
}

/// The key of a file whose header it proves.
fn proved(unlocked: Unlocked) -> Result<Key, Failure> {
    unlocked.verify().map_err(failure)?;
    Ok(match unlocked {
        Unlocked::Age(_, key) => Key::Age(key),
        Unlocked::Esdk(_, key) => Key::Esdk(key),
    })
}
