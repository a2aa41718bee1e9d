//! What machines are judged by and ends soon, said before it does: once it is over, those that boot are refused, and
//! those that run are ended at their next heartbeat.
//!
//! Of what replaces each other only the newest counts. Certificates of chips are not looked at: they outlive machines.
//!
//! Called by the server, for as long as it runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keyhearth_attest::cloud::Provider;
use keyhearth_core::time::Time;
use keyhearth_proto::rest::Is;

use super::clouds;
use crate::endorsements::Shelf;
use crate::telemetry::Metrics;

/// How often is looked.
const LOOK: Duration = Duration::from_secs(3600);
/// What ends within this time is said...
const SOON_S: u64 = 14 * 86_400;
/// ...or within this part of its life, if that is less: Google's keys live for two weeks, Intel's lists for a month.
const SOON_PART: u64 = 5;

/// Something that has to be replaced.
#[derive(Debug, PartialEq, Eq)]
struct Ending {
    what: String,
    ends_s: u64,
}

impl Ending {
    /// Nothing unless it ends soon.
    fn of(what: impl FnOnce() -> String, [begins_s, ends_s]: [u64; 2], now_s: u64) -> Option<Self> {
        let soon_s = SOON_S.min(ends_s.saturating_sub(begins_s) / SOON_PART);
        (ends_s <= now_s.saturating_add(soon_s)).then(|| Self { what: what(), ends_s })
    }
}

/// Says every hour what ends soon or is over, and counts it, for ever. `clouds` is the folder of clouds' certificates.
pub async fn watch(shelf: Arc<Shelf>, clouds: Option<PathBuf>, metrics: Arc<Metrics>) {
    loop {
        let (shelf, clouds, metrics) = (Arc::clone(&shelf), clouds.clone(), Arc::clone(&metrics));
        let look = move || {
            let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            let ending = of_endorsements(&shelf, now_s);
            say(&ending);
            metrics.set_endorsements_ending(ending.len());
            let Some(folder) = clouds else { return };
            match of_clouds(&folder, now_s) {
                Ok(ending) => {
                    say(&ending);
                    metrics.set_cloud_certificates_ending(ending.len());
                }
                Err(error) => tracing::error!(%error, "certificates of clouds cannot be read"),
            }
        };
        // A look that failed is one that said nothing.
        let _ = tokio::task::spawn_blocking(look).await;
        tokio::time::sleep(LOOK).await;
    }
}

fn say(ending: &[Ending]) {
    for Ending { what, ends_s } in ending {
        let ends = Is(Time::from_unix_ms(ends_s.saturating_mul(1000)));
        tracing::warn!(what, %ends, "what machines are judged by has to be replaced before it ends");
    }
}

/// Revocation lists and Intel's statements.
fn of_endorsements(shelf: &Shelf, now_s: u64) -> Vec<Ending> {
    let latest = shelf.latest_replaced().into_iter();
    latest
        .filter_map(|one| Ending::of(|| one.subject.to_string(), [one.begins_s, one.ends_s], now_s))
        .collect()
}

/// Certificates of clouds.
fn of_clouds(folder: &Path, now_s: u64) -> Result<Vec<Ending>, clouds::Error> {
    let latest = clouds::read(folder, Provider::ALL)?.latest().into_iter();
    let ending = latest.filter_map(|one| {
        let what = || format!("certificate of {} in {}/{}", one.holder, one.provider.name(), one.name);
        Ending::of(what, [one.begins_s, one.ends_s], now_s)
    });
    Ok(ending.collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use keyhearth_attest::Roots;
    use keyhearth_machines::clouds::Certificate;
    use keyhearth_machines::snp::{List, ark};

    use super::*;
    use crate::endorsements::Folder;

    /// When 2025 began.
    const NOW_S: u64 = 1_735_689_600;
    const DAY_S: u64 = 86_400;

    #[test]
    fn what_lives_long_is_said_two_weeks_before_and_what_lives_shortly_later() {
        let is_soon = |life: u64, left: u64| {
            let ends_s = NOW_S + left * DAY_S;
            Ending::of(String::new, [ends_s - life * DAY_S, ends_s], NOW_S).is_some()
        };
        assert_eq!([15, 14, 0].map(|left| is_soon(365, left)), [false, true, true]);
        assert_eq!([4, 3].map(|left| is_soon(16, left)), [false, true]);
        let over = Ending::of(String::new, [NOW_S - DAY_S, NOW_S - 1], NOW_S);
        assert_eq!(over, Some(Ending { what: String::new(), ends_s: NOW_S - 1 }));
    }

    #[test]
    fn certificates_of_clouds_are_said_until_their_successors_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, end: &'static str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let certificate = Certificate { dates: ["200101000000Z", end], ..Certificate::intermediate() };
            fs::write(path, certificate.der()).unwrap();
        };
        let said = || {
            let ending = of_clouds(folder.path(), NOW_S).unwrap();
            ending.into_iter().map(|one| one.what).collect::<Vec<_>>()
        };
        write("azure/issuing-1.pem", "250110000000Z");
        write("azure-us/issuing.pem", "260110000000Z");
        assert_eq!(said(), ["certificate of Hearth Issuing CA in azure/issuing-1"]);
        write("azure/issuing-2.pem", "300110000000Z");
        assert!(said().is_empty());
    }

    #[tokio::test]
    async fn lists_are_said_until_their_successors_are_there_and_all_is_counted() {
        let [folder, clouds] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let roots = Roots::built_in().with("lab", &ark().der()).unwrap();
        let list = |end| List { next_update: Some(end), ..List::of(&[]) }.der();
        fs::write(folder.path().join("first"), list("250110000000Z")).unwrap();
        let shelf = Shelf::open(Some(Folder::at(folder.path().to_owned())), roots, None).unwrap();
        let said =
            |shelf: &Shelf| of_endorsements(shelf, NOW_S).into_iter().map(|one| one.what).collect::<Vec<_>>();
        assert_eq!(said(&shelf), ["revocation list of ARK-Hearth"]);

        fs::create_dir(clouds.path().join("gcp")).unwrap();
        let over = Certificate { dates: ["200101000000Z", "210101000000Z"], ..Certificate::of_region() };
        fs::write(clouds.path().join("gcp/certs"), over.der()).unwrap();
        let metrics = Arc::new(Metrics::default());
        let watched = watch(Arc::clone(&shelf), Some(clouds.path().to_owned()), Arc::clone(&metrics));
        let watching = tokio::spawn(watched);
        while metrics.ending() != [1, 1] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        watching.abort();

        // The first is still there, under a name that somebody gave it.
        let later =
            List { this_update: "241231000000Z", next_update: Some("300110000000Z"), ..List::of(&[]) };
        fs::write(folder.path().join("second"), later.der()).unwrap();
        shelf.look().unwrap();
        assert!(said(&shelf).is_empty());
    }
}
