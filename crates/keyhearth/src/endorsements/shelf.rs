//! The endorsements of a running server: its folder as it was a few seconds ago, and what may be fetched into it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use keyhearth_attest::{Bytes, Endorsements, Inspected, Need, Reason, Roots, Subject, needs};
use keyhearth_core::id::PrincipalId;
use parking_lot::Mutex;

use super::fetch::{FetchError, Fetcher, May, News};
use super::folder::{Contents, Folder, Imported, Outcome, Stamp};

/// How often is looked whether the folder changed.
const LOOK: Duration = Duration::from_secs(5);
/// When files that could not be read are tried again.
const UNREAD: Duration = Duration::from_secs(60);
/// How often is looked whether something ends soon: once in so many looks.
const LOOKS_PER_REFRESH: u32 = 12;
/// What has less than this part of its life left is fetched anew.
const REFRESH_PART: u64 = 4;
/// When machines come again at the latest, whatever they wait for.
const COME_AGAIN_MAX: Duration = Duration::from_secs(60);

/// The endorsements of a running server.
pub struct Shelf {
    folder: Option<Folder>,
    roots: Roots,
    contents: ArcSwap<Contents>,
    /// What `contents` were read from. Who holds it, reads.
    seen: Mutex<Seen>,
    fetcher: Option<Fetcher>,
}

/// A folder as it was read.
#[derive(Default)]
struct Seen {
    stamp: Stamp,
    /// When it is read again though nothing changed.
    again: Option<Instant>,
}

impl Shelf {
    /// Reads the folder, if there is one. Without a fetcher nothing is ever asked for elsewhere.
    ///
    /// # Errors
    /// The error of reading the folder. Broken files are logged and left out.
    pub fn open(folder: Option<Folder>, roots: Roots, fetcher: Option<Fetcher>) -> io::Result<Arc<Self>> {
        let (contents, seen) = (ArcSwap::default(), Mutex::default());
        let shelf = Self { folder, roots, contents, seen, fetcher };
        shelf.look()?;
        Ok(Arc::new(shelf))
    }

    /// Those that evidence may need.
    #[must_use]
    pub fn fitting(&self, evidence: &[u8]) -> Endorsements {
        self.contents.load().library.fitting(evidence)
    }

    /// The roots that are believed.
    #[must_use]
    pub fn roots(&self) -> &Roots {
        &self.roots
    }

    /// Revocation lists and Intel's statements, of those that replace each other the newest: it is what counts.
    #[must_use]
    pub fn latest_replaced(&self) -> Vec<Inspected> {
        let mut latest = BTreeMap::<String, Inspected>::new();
        let contents = self.contents.load();
        let found = contents.kept.iter().filter_map(|kept| kept.found.as_ref().ok());
        for one in found {
            let is_replaced = match one.subject {
                Subject::List(_) | Subject::TcbInfo(_) | Subject::QeIdentity(_) => true,
                Subject::Vcek { .. } | Subject::Vlek { .. } | Subject::Certificate(_) => false,
            };
            let name = one.file_name();
            if is_replaced && latest.get(&name).is_none_or(|known| one.is_newer_than(known)) {
                latest.insert(name, one.clone());
            }
        }
        latest.into_values().collect()
    }

    /// Reads the folder again if it changed, or some of it could not be read a while ago. What is in use stays if it
    /// cannot be read.
    ///
    /// # Errors
    /// The error of reading the folder.
    pub fn look(&self) -> io::Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let mut seen = self.seen.lock();
        // Taken before the files are read: what changes meanwhile is seen at the next look.
        let stamp = folder.stamp()?;
        if seen.stamp == stamp && seen.again.is_none_or(|again| Instant::now() < again) {
            return Ok(());
        }
        let contents = folder.read(&self.roots, &self.contents.load())?;
        for (file, error) in &contents.unread {
            tracing::warn!(file, %error, "a file of endorsements cannot be read, and counts as it did before");
        }
        for kept in &contents.kept {
            if let Err(refusal) = &kept.found {
                tracing::warn!(file = kept.file, %refusal, "an endorsement does not count");
            }
        }
        tracing::info!(endorsements = contents.kept.len(), "endorsements read");
        let again = (!contents.unread.is_empty()).then(|| Instant::now() + UNREAD);
        self.contents.store(Arc::new(contents));
        *seen = Seen { stamp, again };
        Ok(())
    }

    /// When a machine should come again whose evidence was refused for lack of what is being fetched; nothing if
    /// that does not help, or nothing may be fetched. `chips` are those that the machine may have, if that is known, in
    /// hexadecimal digits.
    #[must_use]
    pub fn lacking(
        self: &Arc<Self>,
        caller: (PrincipalId, IpAddr),
        chips: Option<&BTreeSet<String>>,
        evidence: &[u8],
        refused: Reason,
    ) -> Option<Duration> {
        let fetcher = self.fetcher.as_ref()?;
        let wanted =
            needs(evidence, refused, &self.roots).into_iter().filter(|need| is_expected(need, chips));
        let mut wait = None;
        for need in wanted {
            let told = match fetcher.may(&need, Some(caller)) {
                May::Begin => {
                    self.begin(need);
                    Duration::from_secs(1)
                }
                May::Wait(wait) => wait.clamp(Duration::from_secs(1), COME_AGAIN_MAX),
                May::Not => continue,
            };
            wait = wait.max(Some(told));
        }
        wait
    }

    /// Fetches something and keeps it, in the background.
    fn begin(self: &Arc<Self>, need: Need) {
        let shelf = Arc::clone(self);
        tokio::spawn(async move {
            let Some(fetcher) = &shelf.fetcher else { return };
            let result = match fetcher.fetch(&need).await {
                Ok(files) => shelf.keep(&need, files).await,
                Err(error) => Err(error),
            };
            match &result {
                Ok(News::Something) => tracing::info!(?need, "an endorsement was fetched"),
                Ok(News::Nothing) => tracing::info!(?need, "an endorsement was fetched that is no newer"),
                Err(error) => tracing::warn!(?need, %error, "an endorsement was not fetched"),
            }
            fetcher.ended(&need, &result);
        });
    }

    /// Puts into the folder what came, as far as it was asked for and is sound, and reads the folder.
    async fn keep(self: &Arc<Self>, need: &Need, files: Vec<(String, Vec<u8>)>) -> Result<News, FetchError> {
        let (shelf, wanted) = (Arc::clone(self), need.clone());
        let work = move || {
            let Some(folder) = &shelf.folder else { return Err(FetchError::Other) };
            check_size(&files)?;
            let takes = |inspected: &Inspected| wanted.takes(&inspected.subject);
            let imported = folder.import(&files, &shelf.roots, now_s(), takes).map_err(FetchError::Folder)?;
            shelf.look().map_err(FetchError::Folder)?;
            met(&wanted, imported)
        };
        let failed = |_| FetchError::Folder(io::Error::other("a worker failed"));
        tokio::task::spawn_blocking(work).await.map_err(failed)?
    }

    /// Looks at the folder every few seconds, and fetches anew what ends soon, for ever.
    pub async fn keep_current(self: Arc<Self>) {
        if self.folder.is_none() {
            return;
        }
        for looks in 1_u32.. {
            tokio::time::sleep(LOOK).await;
            let shelf = Arc::clone(&self);
            let looked = tokio::task::spawn_blocking(move || shelf.look()).await;
            if let Ok(Err(error)) = looked {
                tracing::error!(%error, "endorsements kept as they were");
            }
            if looks.is_multiple_of(LOOKS_PER_REFRESH) {
                self.refresh(now_s());
            }
        }
    }

    /// Begins to fetch what replaces what ends soon, again and again, until that is there.
    pub fn refresh(self: &Arc<Self>, now_s: u64) {
        let Some(fetcher) = &self.fetcher else { return };
        let contents = self.contents.load();
        let ending = contents.kept.iter().filter_map(|kept| kept.found.as_ref().ok()).filter(|found| {
            let life_s = found.ends_s.saturating_sub(found.begins_s);
            found.ends_s.saturating_sub(now_s) < life_s / REFRESH_PART
        });
        for found in ending {
            let Some(need) = Need::of_successor(&found.subject) else { continue };
            let left = Duration::from_secs(found.ends_s.saturating_sub(now_s));
            if fetcher.may_refresh(&need, left) == May::Begin {
                self.begin(need);
            }
        }
    }
}

/// Whether a machine may have this at all.
fn is_expected(need: &Need, chips: Option<&BTreeSet<String>>) -> bool {
    let (Need::Vcek { chip, .. }, Some(known)) = (need, chips) else { return true };
    let chip = Bytes::from(&chip[..]).to_string();
    known.iter().any(|known| known.starts_with(&chip))
}

/// Checks that no more came than one evidence may have: each certificate is compared with all others.
fn check_size(files: &[(String, Vec<u8>)]) -> Result<(), FetchError> {
    let mut all = Endorsements::default();
    for (_, bytes) in files {
        // What is wrong with it otherwise, the import says.
        if let Err(refusal) = all.add(bytes)
            && refusal.reason == Reason::EndorsementTooLarge
        {
            return Err(FetchError::Refused(refusal));
        }
    }
    Ok(())
}

/// Whether what was asked for is in the folder now, and was not before.
fn met(need: &Need, imported: Vec<Imported>) -> Result<News, FetchError> {
    let meets = |one: &&Imported| one.found.as_ref().is_ok_and(|found| need.is_met_by(&found.subject));
    let outcomes: Vec<Outcome> = imported.iter().filter(meets).map(|one| one.outcome).collect();
    if outcomes.contains(&Outcome::Taken) {
        return Ok(News::Something);
    }
    if outcomes.contains(&Outcome::Known) {
        return Ok(News::Nothing);
    }
    let refused = imported.into_iter().find_map(|one| one.found.err());
    Err(refused.map_or(FetchError::Other, FetchError::Refused))
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A disk that fails for a moment says nothing when it works again.
    #[test]
    fn what_could_not_be_read_is_tried_again_though_nothing_changed() {
        let folder = tempfile::tempdir().unwrap();
        let at = Folder::at(folder.path().to_owned());
        // A file of which nothing can be read.
        symlink("/proc/self/mem", folder.path().join("broken")).unwrap();
        let shelf = Shelf::open(Some(at), Roots::built_in(), None).unwrap();
        let looked = || {
            let before = shelf.contents.load_full();
            shelf.look().unwrap();
            !Arc::ptr_eq(&before, &shelf.contents.load_full())
        };
        assert_eq!(shelf.contents.load().unread.len(), 1);
        assert!(!looked(), "not at once");
        shelf.seen.lock().again = Some(Instant::now());
        assert!(looked() && shelf.seen.lock().again.is_some());
        std::fs::remove_file(folder.path().join("broken")).unwrap();
        assert!(looked() && shelf.seen.lock().again.is_none() && !looked());
    }
}
