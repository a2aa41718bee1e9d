//! The endorsements of a running server: its folder as it was a few seconds ago, and what may be fetched into it.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use keyhearth_attest::{Bytes, Endorsements, Inspected, Need, Reason, Roots, needs};
use keyhearth_core::id::PrincipalId;
use parking_lot::Mutex;

use super::fetch::{FetchError, Fetcher, May};
use super::folder::{Contents, Folder, Imported, Outcome, Stamp};

/// How often is looked whether the folder changed.
const LOOK: Duration = Duration::from_secs(5);
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
    stamp: Mutex<Stamp>,
    fetcher: Option<Fetcher>,
}

impl Shelf {
    /// Reads the folder, if there is one. Without a fetcher nothing is ever asked for elsewhere.
    ///
    /// # Errors
    /// The error of reading the folder. Broken files are logged and left out.
    pub fn open(folder: Option<Folder>, roots: Roots, fetcher: Option<Fetcher>) -> io::Result<Arc<Self>> {
        let (contents, stamp) = (ArcSwap::default(), Mutex::default());
        let shelf = Self { folder, roots, contents, stamp, fetcher };
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

    /// Reads the folder again if it changed. What is in use stays if it cannot be read.
    ///
    /// # Errors
    /// The error of reading the folder.
    pub fn look(&self) -> io::Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let mut read = self.stamp.lock();
        // Taken before the files are read: what changes meanwhile is seen at the next look.
        let stamp = folder.stamp()?;
        if *read == stamp {
            return Ok(());
        }
        let contents = folder.read(&self.roots)?;
        for kept in &contents.kept {
            if let Err(refusal) = &kept.found {
                tracing::warn!(file = kept.file, %refusal, "an endorsement does not count");
            }
        }
        tracing::info!(endorsements = contents.kept.len(), "endorsements read");
        self.contents.store(Arc::new(contents));
        *read = stamp;
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
                Ok(()) => tracing::info!(?need, "an endorsement was fetched"),
                Err(error) => tracing::warn!(?need, %error, "an endorsement was not fetched"),
            }
            fetcher.ended(&need, result.err().as_ref());
        });
    }

    /// Puts into the folder what came, as far as it was asked for and is sound, and reads the folder.
    async fn keep(self: &Arc<Self>, need: &Need, files: Vec<(String, Vec<u8>)>) -> Result<(), FetchError> {
        let (shelf, wanted) = (Arc::clone(self), need.clone());
        let work = move || {
            let Some(folder) = &shelf.folder else { return Err(FetchError::Other) };
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

    /// Begins to fetch what replaces what ends soon.
    pub fn refresh(self: &Arc<Self>, now_s: u64) {
        let Some(fetcher) = &self.fetcher else { return };
        let contents = self.contents.load();
        let ending = contents.kept.iter().filter_map(|kept| kept.found.as_ref().ok()).filter(|found| {
            let life_s = found.ends_s.saturating_sub(found.begins_s);
            found.ends_s.saturating_sub(now_s) < life_s / REFRESH_PART
        });
        for need in ending.filter_map(|found| Need::of_successor(&found.subject)) {
            if fetcher.may(&need, None) == May::Begin {
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

/// Whether what was asked for is in the folder now.
fn met(need: &Need, imported: Vec<Imported>) -> Result<(), FetchError> {
    let is_there = |one: &Imported| {
        let kept = matches!(one.outcome, Outcome::Taken | Outcome::Known);
        kept && one.found.as_ref().is_ok_and(|found| need.is_met_by(&found.subject))
    };
    if imported.iter().any(is_there) {
        return Ok(());
    }
    let refused = imported.into_iter().find_map(|one| one.found.err());
    Err(refused.map_or(FetchError::Other, FetchError::Refused))
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
