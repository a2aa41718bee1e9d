//! What opens without the server for a while: the keys of the folder's files, which the server let this identity hold.
//!
//! A thread asks for them when the folder is mounted, for new ones as they appear, and again at half of their time. While the
//! server answers, each opening asks it all the same. What it refuses ends at once, whoever asked, and all ends with its time:
//! on the clock that goes on while the machine sleeps.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs::File;
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
use super::super::place::Stamp;
use super::super::{esdk, failure};
use super::files::Files;
use super::shown::{Entry, ShownRoot};

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
    /// The server's keys that the header names, in order: any of them may open it.
    by: Vec<String>,
    /// When the server was asked, and until when its answer holds.
    asked_ms: u64,
    until_ms: u64,
}

impl Holding {
    /// Whether one of these keys opens it, and it was asked for no later than that was suspected.
    fn is_of(&self, suspected: &HashMap<String, u64>) -> bool {
        self.by.iter().any(|key| suspected.get(key).is_some_and(|at_ms| self.asked_ms <= *at_ms))
    }

    fn half_ms(&self) -> u64 {
        self.asked_ms + (self.until_ms - self.asked_ms) / 2
    }
}

#[derive(Default)]
struct State {
    held: HashMap<Digest, Holding>,
    /// What the server refused to let us hold, and when.
    refused: HashMap<Digest, u64>,
    /// Keys of the server under which something was refused, and when: whatever else they open, and was asked for before, is
    /// asked for again.
    suspected: HashMap<String, u64>,
    is_unreachable: bool,
    /// When that was asked which the server answered last.
    answered_ms: u64,
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

    /// Learns what the server said to who asked for the file with this header at that time: nothing, if there was no refusal.
    pub fn learn(&self, header: &Digest, asked_ms: u64, refusal: Option<&Failure>) {
        let mut state = self.state.lock();
        let is_new = state.hear(asked_ms, refusal);
        state.is_woken |= match refusal {
            // What may be opened again may be held again.
            None => {
                state.refused.get(header).is_some_and(|at| boottime_ms() >= at + LOOK_MS)
                    && state.refused.remove(header).is_some()
            }
            Some(refusal) if refusal.is_refusal() => {
                state.refuse(header);
                true
            }
            Some(_) => is_new,
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
        let (mut look, mut next_ms, mut told, mut told_why) = (Look::default(), 0, None, None);
        while self.wait(next_ms) {
            look.again(&files.root);
            let asked = self.renew(files, &look);
            let mut state = self.state.lock();
            let why = asked.as_ref().err().map(ToString::to_string);
            if let Some(why) = why.as_ref().filter(|why| told_why.as_ref() != Some(*why)) {
                eprintln!("what is held without the server is not renewed: {why}");
            }
            told_why = why;
            // If nothing could be asked, who opens something finds out.
            state.is_unreachable &= asked.is_err();
            if told.replace(state.held.len()) != Some(state.held.len()) {
                eprintln!("{} files open without the server", state.held.len());
            }
            let now_ms = boottime_ms();
            let pause_ms = if state.is_unreachable { RETRY_MS } else { LOOK_MS };
            let halves = state.held.values().map(Holding::half_ms).filter(|half_ms| *half_ms > now_ms);
            next_ms = halves.fold(now_ms + pause_ms.min(self.lease_ms() / 4), u64::min);
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

    /// Asks for what suspected keys open, until nothing is left that was asked for before the last refusal.
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
        let State { held, suspected, .. } = &mut *state;
        // What is not found cannot be asked for.
        held.retain(|header, holding| !holding.is_of(suspected) || look.places.contains_key(header));
        let mut of: Vec<_> = held.iter().filter(|(_, holding)| holding.is_of(suspected)).collect();
        of.sort_by_key(|(_, holding)| holding.asked_ms);
        let headers: Vec<Digest> = of.into_iter().map(|(header, _)| *header).take(BATCH).collect();
        if headers.is_empty() {
            suspected.clear();
        }
        headers.into_iter().filter_map(|header| Some((header, look.places.get(&header)?))).collect()
    }

    fn due<'l>(&self, look: &'l Look) -> Vec<(Digest, &'l Place)> {
        let state = self.state.lock();
        let now_ms = boottime_ms();
        let mut oldest: BTreeMap<&[String], (u64, &Digest)> = BTreeMap::new();
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
            Some(holding) => probes.contains(header) || now_ms >= holding.half_ms(),
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
                headers.push((*header, *place, keys_of(&found)));
                opened.push(found);
            } else {
                self.state.lock().forget_suspect(header);
            }
        }
        let asked_ms = boottime_ms();
        let answers = Opener::Leased(&files.server, lease).unlock(opened);
        if let Err(refusal) = &answers {
            self.state.lock().hear(asked_ms, Some(refusal));
            if refusal.is_refusal() {
                self.state.lock().held.clear();
                files.leases.end_every();
            }
        }
        let until_ms = asked_ms + u64::from(lease.number()) * 1_000;
        let (mut shorter, mut shortest_s) = (Vec::new(), u64::MAX);
        for ((header, place, by), answer) in headers.into_iter().zip(answers?) {
            let answer = answer.and_then(proved);
            self.state.lock().hear(asked_ms, answer.as_ref().err());
            let refusal = match answer {
                Ok(key) => {
                    self.state.lock().hold(header, Holding { key, by, asked_ms, until_ms });
                    continue;
                }
                Err(refusal) if !refusal.is_refusal() => return Err(refusal),
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
    /// Hears an answer to what was asked at that time, or silence, which says nothing if something was asked and answered
    /// since. Gives whether the server cannot be reached any more.
    fn hear(&mut self, asked_ms: u64, refusal: Option<&Failure>) -> bool {
        if refusal.is_some_and(Failure::is_unanswered) {
            return asked_ms >= self.answered_ms && !std::mem::replace(&mut self.is_unreachable, true);
        }
        self.answered_ms = self.answered_ms.max(asked_ms);
        self.is_unreachable = false;
        false
    }

    /// Holds a key, unless it was refused since it was asked for.
    fn hold(&mut self, header: Digest, holding: Holding) {
        let is_refused = self.refused.get(&header).is_some_and(|at| *at >= holding.asked_ms);
        if !self.is_over && !is_refused {
            self.refused.remove(&header);
            self.held.insert(header, holding);
        }
    }

    /// Wipes what is suspected and cannot be asked for.
    fn forget_suspect(&mut self, header: &Digest) {
        let Self { held, suspected, .. } = self;
        if held.get(header).is_some_and(|holding| holding.is_of(suspected)) {
            held.remove(header);
        }
    }

    fn refuse(&mut self, header: &Digest) {
        let now_ms = boottime_ms();
        if let Some(holding) = self.held.remove(header) {
            self.suspected.extend(holding.by.into_iter().map(|key| (key, now_ms)));
        }
        self.refused.insert(*header, now_ms);
    }
}

impl Look {
    /// Looks at the folder again.
    fn again(&mut self, root: &ShownRoot) {
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
                    Entry::Folder(_) => folders.push(inside.join(name)),
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
    let stamp = Stamp::of(&file.metadata()?);
    let header = match known.get(&stamp) {
        Some(header) => *header,
        None => digest(&keyhearth_files::open_any(file).map_err(failure)?),
    };
    Ok((stamp, header))
}

fn open(root: &ShownRoot, (folder, sealed): &Place) -> Result<AnyOpened, Failure> {
    let file = root.folder(folder)?.open(sealed)?;
    keyhearth_files::open_any(file).map_err(failure)
}

/// The server's keys that the header names, in order.
fn keys_of(opened: &AnyOpened) -> Vec<String> {
    let mut keys: Vec<String> = match opened {
        AnyOpened::Age(opened) => {
            let held = held::Held::all(&opened.header.stanzas).unwrap_or_default();
            held.iter().map(|held| held.key().to_owned()).collect()
        }
        AnyOpened::Esdk(opened) => {
            opened.header.data_keys.iter().filter_map(esdk::key_of).map(str::to_owned).collect()
        }
    };
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// The key of a file whose header it proves.
fn proved(unlocked: Unlocked) -> Result<Key, Failure> {
    unlocked.verify().map_err(failure)?;
    Ok(match unlocked {
        Unlocked::Age(_, key) => Key::Age(key),
        Unlocked::Esdk(_, key) => Key::Esdk(key),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied() -> Failure {
        Failure::of("denied", "not allowed", "", "")
    }

    fn holding(by: &[&str], asked_ms: u64) -> Holding {
        let key = FileKey::from_bytes(&[0; 16]).unwrap();
        let by = by.iter().copied().map(str::to_owned).collect();
        Holding { key: Key::Age(key), by, asked_ms, until_ms: u64::MAX }
    }

    #[test]
    fn every_answer_ends_silence_and_silence_before_it_says_nothing() {
        let silence = Failure::of("sealed", "the server is sealed", "", "");
        let busy = Failure::of("too_many", "too many requests", "", "");
        for answer in [None, Some(&denied()), Some(&busy)] {
            let mut state = State::default();
            assert!(state.hear(5, Some(&silence)) && state.is_unreachable);
            assert!(!state.hear(6, Some(&silence)), "known");
            assert!(!state.hear(7, answer) && !state.is_unreachable);
            assert!(!state.hear(6, Some(&silence)) && !state.is_unreachable, "asked before the answer");
            assert!(state.hear(8, Some(&silence)) && state.is_unreachable);
        }
    }

    #[test]
    fn only_a_refusal_ends_what_is_held() {
        let held = Held::new(Lease::new(60).unwrap());
        let header = [1; 32];
        held.state.lock().hold(header, holding(&["a"], 0));
        held.learn(&header, 0, Some(&Failure::of("too_many", "too many requests", "", "")));
        assert!(held.state.lock().held.contains_key(&header));
        held.learn(&header, 0, Some(&denied()));
        assert!(held.state.lock().held.is_empty());
    }

    #[test]
    fn after_a_refusal_all_that_its_keys_open_is_asked_for() {
        let held = Held::new(Lease::new(60).unwrap());
        let mut look = Look::default();
        let names = (0..BATCH + 2).map(|number| sha256(&[&number.to_be_bytes()]));
        let of_key: Vec<Digest> = names.collect();
        let (refused, other, gone) = ([1; 32], [2; 32], [3; 32]);
        {
            let mut state = held.state.lock();
            of_key.iter().for_each(|header| state.hold(*header, holding(&["b", "c"], 0)));
            state.hold(refused, holding(&["a", "b"], 0));
            state.hold(other, holding(&["d"], 0));
            state.hold(gone, holding(&["a"], 0));
        }
        for header in of_key.iter().chain([&refused, &other]) {
            look.places.insert(*header, Place::default());
        }
        assert!(held.suspects(&look).is_empty());
        held.learn(&refused, 0, Some(&denied()));
        let mut asked = BTreeSet::new();
        loop {
            let batch = held.suspects(&look);
            if batch.is_empty() {
                break;
            }
            assert!(batch.len() <= BATCH);
            for (header, _) in batch {
                assert!(asked.insert(header), "once each");
                held.state.lock().hold(header, holding(&["b", "c"], u64::MAX));
            }
        }
        assert_eq!(asked, of_key.into_iter().collect());
        let state = held.state.lock();
        assert!(state.held.contains_key(&other) && !state.held.contains_key(&gone), "cannot be asked for");
    }
}
