//! What was done in the mount, signed into the folder's manifest.
//!
//! It is noted when it is done, and signed once it rests, and in the end. A file is signed as it was written here, and one that was
//! only renamed as somebody signed it before: what others put there meanwhile is not looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use keyhearth_files::Error;
use keyhearth_files::manifest::{Content, Device, Entry, Front, InsidePath, Manifest, Observed, observe};
use parking_lot::Mutex;

use super::super::super::failure::Failure;
use super::super::super::session::Session;
use super::super::failure;
use super::super::manifest::{Folder, Trust, Word, once_free};
use super::files::say;
use super::shown::ShownRoot;

/// How often it is looked whether something is to be signed.
pub const LOOK: Duration = Duration::from_secs(1);
/// How long nothing is done before what was done is signed.
const REST: Duration = Duration::from_secs(3);
/// How long it waits for that.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// How long after a failure it is tried again.
const AGAIN: Duration = Duration::from_secs(10);

/// What is at a path now.
#[derive(Clone, Debug, PartialEq)]
enum What {
    Nothing,
    /// What was written here.
    Written(Content),
    /// What was at another path and begins so: as that was signed, if it was.
    Moved {
        from: PathBuf,
        front: Front,
    },
}

impl What {
    fn front(&self) -> Option<Front> {
        match self {
            Self::Nothing => None,
            Self::Written(content) => Some(content.front),
            Self::Moved { front, .. } => Some(*front),
        }
    }
}

/// What was done at a path, and in place of what.
#[derive(Clone, Debug, PartialEq)]
struct Done {
    seen: BTreeSet<Option<Front>>,
    what: What,
}

/// What is not signed yet, by path: as it is shown, with the suffix of the sealed file.
#[derive(Default)]
struct Unsigned {
    done: BTreeMap<PathBuf, Done>,
    /// When the first of it was done, and the last.
    since: Option<(Instant, Instant)>,
    failed: Option<Instant>,
    /// Why it could not be signed, as it was told last.
    told: Option<String>,
}

impl Unsigned {
    fn note(&mut self, path: &Path, seen: impl IntoIterator<Item = Option<Front>>, what: What) {
        let now = Instant::now();
        self.since = Some((self.since.map_or(now, |(first, _)| first), now));
        let done =
            self.done.entry(path.to_owned()).or_insert(Done { seen: BTreeSet::new(), what: What::Nothing });
        done.seen.extend(seen);
        done.what = what;
    }

    fn moved(&mut self, from: &Path, to: &Path, front: Front, over: Option<Front>) {
        let known = self.done.get(from).map(|done| done.what.clone());
        let what = known.filter(|what| what.front() == Some(front));
        let what = what.unwrap_or_else(|| What::Moved { from: from.to_owned(), front });
        self.note(from, [Some(front)], What::Nothing);
        self.note(to, [over, None], what);
    }

    /// What could not be signed is before what was done since.
    fn put_back(&mut self, earlier: BTreeMap<PathBuf, Done>) {
        let known: BTreeMap<_, _> =
            earlier.values().filter_map(|done| Some((done.what.front()?, done.what.clone()))).collect();
        for later in self.done.values_mut() {
            if let What::Moved { front, .. } = &later.what
                && let Some(what) = known.get(front)
            {
                later.what = what.clone();
            }
        }
        for (path, earlier) in earlier {
            match self.done.get_mut(&path) {
                Some(later) => later.seen.extend(earlier.seen),
                None => drop(self.done.insert(path, earlier)),
            }
        }
        let now = Instant::now();
        self.since.get_or_insert((now, now));
        self.failed = Some(now);
    }

    fn is_due(&self) -> bool {
        let rests = |(first, last): (Instant, Instant)| last.elapsed() > REST || first.elapsed() > WAIT_MAX;
        self.since.is_some_and(rests) && self.failed.is_none_or(|failed| failed.elapsed() > AGAIN)
    }
}

/// Who signs, and what.
pub struct Signing {
    session: Session,
    key: String,
    device: Device,
    /// The folder of sealed files, and the one that the manifest is of: it may lie above. Both without links.
    place: PathBuf,
    root: PathBuf,
    unsigned: Mutex<Unsigned>,
    /// Held while it is signed.
    one: Mutex<()>,
}

impl Signing {
    /// By this key, for the folder at `sealed`, in the manifest that there is now.
    ///
    /// # Errors
    /// [`Failure`] if the folder is not there.
    pub fn new(session: Session, key: String, device: Device, sealed: &Path) -> Result<Self, Failure> {
        let place = sealed.canonicalize().map_err(|error| Failure::at(sealed.display(), &error))?;
        let root = Folder::known_root_of(&place)?;
        Ok(Self { session, key, device, place, root, unsigned: Mutex::default(), one: Mutex::default() })
    }

    /// A file was written to `path`, over what began so, if anything was there.
    pub fn written(&self, path: &Path, over: Option<Front>, content: Content) {
        self.unsigned.lock().note(path, [over, None], What::Written(content));
    }

    /// What began so was removed.
    pub fn removed(&self, path: &Path, front: Front) {
        self.unsigned.lock().note(path, [Some(front)], What::Nothing);
    }

    /// What begins so was renamed, over what began so, if anything was there.
    pub fn moved(&self, from: &Path, to: &Path, front: Front, over: Option<Front>) {
        self.unsigned.lock().moved(from, to, front, over);
    }

    /// Whether something is to be signed now.
    pub fn is_due(&self) -> bool {
        self.unsigned.lock().is_due()
    }

    /// What is not signed.
    pub fn left(&self) -> Vec<PathBuf> {
        self.unsigned.lock().done.keys().cloned().collect()
    }

    /// Signs what was done; what can not be signed is told, and kept.
    pub fn sign(&self, root: &ShownRoot) {
        let _one = self.one.lock();
        let done = {
            let mut unsigned = self.unsigned.lock();
            unsigned.since = None;
            std::mem::take(&mut unsigned.done)
        };
        if done.is_empty() {
            return;
        }
        let signed = self.try_sign(root, &done);
        let mut unsigned = self.unsigned.lock();
        match signed {
            Ok(()) => {
                unsigned.failed = None;
                if unsigned.told.take().is_some() {
                    eprintln!("what was done is signed");
                }
            }
            Err(refusal) => {
                unsigned.put_back(done);
                let text = format!("not signed, and tried again until it is: {refusal}");
                if unsigned.told.as_ref() != Some(&text) {
                    eprintln!("{text}");
                }
                unsigned.told = Some(text);
            }
        }
    }

    fn try_sign(&self, root: &ShownRoot, done: &BTreeMap<PathBuf, Done>) -> Result<(), Failure> {
        let trust = Trust::new(&self.session, &[], Some(&self.key))?;
        let mut folder = once_free(|| Folder::open(&self.root, &trust, false))?;
        folder.check()?;
        folder.check_present()?;
        if folder.manifest.names.is_some() != root.is_encrypted() {
            let what = "names in this folder are encrypted since it was mounted";
            return Err(Failure::of("other_names", what, "", "unmount it, and mount it again"));
        }
        let inside = self.place.strip_prefix(&folder.root).unwrap_or(Path::new(""));
        let signed_path = |path: &Path| InsidePath::new(inside.join(root.sealed_path(path)?).to_str()?);
        let (mut words, mut nameless) = (Vec::new(), Vec::new());
        for (path, Done { seen, what }) in done {
            let Some(signed) = signed_path(path) else {
                nameless.push(path);
                continue;
            };
            let content = match what {
                What::Nothing => None,
                What::Written(content) => Some(*content),
                What::Moved { from, front } => {
                    let content =
                        signed_path(from).and_then(|from| content_of(&folder.manifest, &from, *front));
                    // What nobody signed before is not signed now.
                    if content.is_none() {
                        continue;
                    }
                    content
                }
            };
            let seen = seen.iter().map(|front| front.map(|front| front.to_string())).collect();
            words.push(Word { path: signed, seen, content });
        }
        folder.sign_over(words, &self.device)?;
        nameless.into_iter().for_each(|path| say(path, "not signed: no manifest can name it; rename it"));
        Ok(())
    }
}

/// The file that begins so, as somebody signed it at this path last.
fn content_of(manifest: &Manifest, path: &InsidePath, front: Front) -> Option<Content> {
    let newest = manifest.at(path).into_iter().flat_map(Entry::newest);
    newest.filter_map(|record| record.content).find(|content| content.front == front)
}

/// What a sealed file begins with; `None` if it is none, or can not be read.
pub fn front(sealed: &File) -> Option<Front> {
    Some(observed(sealed, false).ok()??.front)
}

fn observed(sealed: &File, whole: bool) -> Result<Option<Observed>, Error> {
    // Opened anew: others read it at their own place.
    observe(&File::open(format!("/proc/self/fd/{}", sealed.as_raw_fd()))?, whole)
}

/// What a file that was sealed here is in a manifest.
///
/// # Errors
/// As [`observe`].
pub fn content(sealed: &File) -> Result<Content, Failure> {
    let content = observed(sealed, true).map_err(failure)?.and_then(|observed| observed.content());
    content.ok_or_else(|| failure(Error::Changed))
}

#[cfg(test)]
mod tests {
    use keyhearth_files::age::{FileKey, Header, Stanza};

    use super::*;

    fn written() -> Content {
        let file = tempfile::tempfile().unwrap();
        let stanza = Stanza { tag: "x".to_owned(), arguments: Vec::new(), body: Vec::new() };
        let key = FileKey::random().unwrap();
        let header = Header::new(&key, vec![stanza]).unwrap();
        keyhearth_files::seal_stream(&key, &header, &mut &b"content"[..], &mut &file).unwrap();
        content(&file).unwrap()
    }

    fn done(seen: &[Option<Front>], what: What) -> Done {
        Done { seen: seen.iter().copied().collect(), what }
    }

    #[test]
    fn what_is_done_again_before_it_is_signed_is_one_word() {
        let [old, first, second] = [(); 3].map(|()| written());
        let [a, b, c] = ["a.age", "b.age", "c.age"].map(Path::new);
        let mut unsigned = Unsigned::default();
        unsigned.note(a, [Some(old.front), None], What::Written(first));
        unsigned.note(a, [Some(first.front), None], What::Written(second));
        let seen = [None, Some(old.front), Some(first.front)];
        assert_eq!(unsigned.done[a], done(&seen, What::Written(second)));
        // What was written here is known, whatever it is called; of what was not its path is.
        unsigned.moved(a, b, second.front, None);
        unsigned.moved(c, a, old.front, None);
        assert_eq!(unsigned.done[b], done(&[None], What::Written(second)));
        let moved = What::Moved { from: c.to_owned(), front: old.front };
        assert_eq!(unsigned.done[a].what, moved);
        assert_eq!(unsigned.done[c], done(&[Some(old.front)], What::Nothing));
        // Something else had come there.
        unsigned.moved(b, c, first.front, Some(old.front));
        assert_eq!(unsigned.done[c].what, What::Moved { from: b.to_owned(), front: first.front });
    }

    #[test]
    fn what_could_not_be_signed_is_before_what_was_done_meanwhile() {
        let [old, new] = [(); 2].map(|()| written());
        let [a, b, c] = ["a.age", "b.age", "c.age"].map(Path::new);
        let mut unsigned = Unsigned::default();
        unsigned.note(a, [None], What::Written(new));
        unsigned.moved(c, b, old.front, None);
        let earlier = std::mem::take(&mut unsigned.done);
        unsigned.moved(a, c, new.front, None);
        unsigned.moved(b, a, old.front, None);
        unsigned.put_back(earlier);
        assert_eq!(unsigned.done[c], done(&[None, Some(old.front)], What::Written(new)));
        let moved = What::Moved { from: c.to_owned(), front: old.front };
        assert_eq!(unsigned.done[a], done(&[None, Some(new.front)], moved));
        assert_eq!(unsigned.done[b], done(&[None, Some(old.front)], What::Nothing));
    }
}
