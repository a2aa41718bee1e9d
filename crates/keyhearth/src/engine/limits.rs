//! How many requests one principal and one tenant may make. On by default.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use keyhearth_core::Error;
use keyhearth_core::id::{PrincipalId, TenantId};
use keyhearth_core::principal::Caller;
use parking_lot::RwLock;

/// Requests per second of one principal unless configured.
pub const PRINCIPAL_PER_S: u32 = 5_000;
/// Requests per second of one tenant unless configured.
pub const TENANT_PER_S: u32 = 20_000;
/// Secrets of one tenant, unless configured otherwise. Each takes memory of the server (32 bytes, about) as well as of its disk.
pub const SECRETS_PER_TENANT: u32 = 100_000;

/// A rate by the generic cell rate algorithm: one number, the time until which capacity is used up.
///
/// Source: ITU-T I.371 §B (virtual scheduling algorithm).
#[derive(Debug, Default)]
struct Meter(AtomicU64);

impl Meter {
    /// Takes one request at `now_us`; a second's worth may come at once. On refusal, microseconds to wait.
    fn take(&self, now_us: u64, per_s: u32) -> Result<(), u64> {
        let cost_us_shifted = (1_000_000_u64 << 8) / u64::from(per_s.max(1));
        let now = now_us << 8;
        let burst = 1_000_000_u64 << 8;
        let mut used = self.0.load(Ordering::Relaxed);
        loop {
            let start = used.max(now);
            if start > now + burst {
                return Err((start - now - burst) >> 8);
            }
            match self.0.compare_exchange_weak(
                used,
                start + cost_us_shifted,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(()),
                Err(seen) => used = seen,
            }
        }
    }
}

#[derive(Debug)]
struct Meters<K> {
    per_s: u32,
    meters: RwLock<HashMap<K, Arc<Meter>>>,
}

impl<K: Copy + Eq + Hash> Meters<K> {
    fn new(per_s: u32) -> Self {
        Self { per_s, meters: RwLock::default() }
    }

    fn take(&self, who: K, now_us: u64) -> Result<(), u64> {
        if let Some(meter) = self.meters.read().get(&who) {
            return meter.take(now_us, self.per_s);
        }
        let meter = Arc::clone(self.meters.write().entry(who).or_default());
        meter.take(now_us, self.per_s)
    }
}

/// The meters of everybody.
#[derive(Debug)]
pub struct Rates {
    principals: Meters<PrincipalId>,
    tenants: Meters<TenantId>,
}

impl Rates {
    /// Rates in requests per second.
    #[must_use]
    pub fn new(principal_per_s: u32, tenant_per_s: u32) -> Self {
        Self { principals: Meters::new(principal_per_s), tenants: Meters::new(tenant_per_s) }
    }

    /// Takes one request of `caller` at `now_us` microseconds of any clock that does not go back.
    ///
    /// # Errors
    /// [`Error::TooMany`] with the time to wait.
    pub fn take(&self, caller: &Caller, now_us: u64) -> Result<(), Error> {
        let taken = self.principals.take(caller.principal, now_us);
        taken.and_then(|()| self.tenants.take(caller.tenant, now_us)).map_err(|wait_us| Error::TooMany {
            retry_after_ms: u32::try_from(wait_us / 1_000 + 1).unwrap_or(u32::MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_a_second_then_the_rate() {
        let meter = Meter::default();
        let start = 1_000_000_000;
        let burst = (0..1_000).filter(|_| meter.take(start, 100).is_ok()).count();
        assert_eq!(burst, 101);
        let wait_us = meter.take(start, 100).unwrap_err();
        assert!((1..=10_000).contains(&wait_us), "{wait_us}");
        let later = (0..1_000).filter(|_| meter.take(start + 500_000, 100).is_ok()).count();
        assert_eq!(later, 50);
    }
}
