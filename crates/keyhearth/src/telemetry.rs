//! What the server tells its operators: structured logs on standard error, and Prometheus metrics.
//!
//! Neither carries a secret, a plaintext or a context. What callers did is in the audit log, not here.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keyhearth_core::Error;
use keyhearth_core::operation::Operation;

use crate::engine::Engine;

/// Upper bounds of the latency histogram, in microseconds.
const BOUNDS_US: [u64; 12] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 500_000, 2_000_000, 10_000_000];

#[derive(Debug, Default)]
struct Counts {
    done: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    sum_us: AtomicU64,
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
}

/// Counters of what was asked and how it went.
#[derive(Debug)]
pub struct Metrics {
    operations: Vec<Counts>,
    endorsements_ending: AtomicU64,
    cloud_certificates_ending: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            operations: Operation::ALL.iter().map(|_| Counts::default()).collect(),
            endorsements_ending: AtomicU64::default(),
            cloud_certificates_ending: AtomicU64::default(),
        }
    }
}

impl Metrics {
    /// Counts one request.
    pub fn record(&self, operation: Operation, error: Option<&Error>, took: Duration) {
        let Some(counts) = self.operations.get(operation as usize) else { return };
        let counter = match error {
            None => &counts.done,
            Some(Error::Damaged(_) | Error::Internal(_) | Error::Unavailable { .. }) => &counts.failed,
            Some(_) => &counts.refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        counts.sum_us.fetch_add(us, Ordering::Relaxed);
        let bucket = BOUNDS_US.iter().position(|bound| us <= *bound).unwrap_or(BOUNDS_US.len());
        counts.buckets[bucket].fetch_add(1, Ordering::Relaxed);
    }

    /// Says how many lists and statements that machines are judged by end soon, or are over.
    pub fn set_endorsements_ending(&self, number: usize) {
        self.endorsements_ending.store(number as u64, Ordering::Relaxed);
    }

    /// The same of certificates of clouds.
    pub fn set_cloud_certificates_ending(&self, number: usize) {
        self.cloud_certificates_ending.store(number as u64, Ordering::Relaxed);
    }

    /// How many lists and statements, and how many certificates of clouds, end soon or are over.
    #[must_use]
    pub fn ending(&self) -> [u64; 2] {
        [&self.endorsements_ending, &self.cloud_certificates_ending]
            .map(|count| count.load(Ordering::Relaxed))
    }

    /// All metrics in the Prometheus text format.
    ///
    /// Source: Prometheus exposition format 0.0.4.
    #[must_use]
    pub fn print(&self, engine: &Engine) -> String {
        let mut text = String::new();
        let [endorsements, certificates] = self.ending();
        let ending = [
            (
                "boot_endorsements_ending",
                "Revocation lists and statements that end soon, or are over.",
                endorsements,
            ),
            (
                "boot_cloud_certificates_ending",
                "Certificates of clouds that end soon, or are over.",
                certificates,
            ),
        ];
        for (name, help, value) in engine.gauges().into_iter().chain(ending) {
            let _ = writeln!(
                text,
                "# HELP keyhearth_{name} {help}\n# TYPE keyhearth_{name} gauge\nkeyhearth_{name} {value}"
            );
        }
        let _ = writeln!(text, "# HELP keyhearth_requests_total Requests by operation and result.");
        let _ = writeln!(text, "# TYPE keyhearth_requests_total counter");
        let used = || Operation::ALL.iter().zip(&self.operations);
        for (operation, counts) in used() {
            for (result, counter) in
                [("done", &counts.done), ("refused", &counts.refused), ("failed", &counts.failed)]
            {
                let value = counter.load(Ordering::Relaxed);
                if value > 0 {
                    let name = operation.name();
                    let _ = writeln!(
                        text,
                        "keyhearth_requests_total{{operation=\"{name}\",result=\"{result}\"}} {value}"
                    );
                }
            }
        }
        let _ =
            writeln!(text, "# HELP keyhearth_request_seconds Time from a request's headers to its answer.");
        let _ = writeln!(text, "# TYPE keyhearth_request_seconds histogram");
        for (operation, counts) in used() {
            let name = operation.name();
            let mut total = 0;
            let loads = counts.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
            let bounds = BOUNDS_US.iter().map(|us| Some(*us)).chain([None]);
            let mut lines = String::new();
            for (count, bound) in loads.zip(bounds) {
                total += count;
                let le = bound.map_or_else(|| "+Inf".to_owned(), |us| seconds(us).to_string());
                let _ = writeln!(
                    lines,
                    "keyhearth_request_seconds_bucket{{operation=\"{name}\",le=\"{le}\"}} {total}"
                );
            }
            if total > 0 {
                let sum = seconds(counts.sum_us.load(Ordering::Relaxed));
                let _ = write!(text, "{lines}");
                let _ = writeln!(text, "keyhearth_request_seconds_sum{{operation=\"{name}\"}} {sum}");
                let _ = writeln!(text, "keyhearth_request_seconds_count{{operation=\"{name}\"}} {total}");
            }
        }
        text
    }
}

fn seconds(us: u64) -> f64 {
    Duration::from_micros(us).as_secs_f64()
}

/// Sends log lines to standard error: `json`, or `text` for people.
pub fn start_logging(json: bool, level: tracing::Level) {
    let builder =
        tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false);
    // A second call, as from tests, changes nothing.
    let _ = if json { builder.json().try_init() } else { builder.try_init() };
}
