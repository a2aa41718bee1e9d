//! The last use of each key since the server was unsealed: in memory alone. What was used before is in the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use keyhearth_core::id::KeyId;
use keyhearth_core::operation::Operation;
use keyhearth_core::request::{LastUse, Response};
use keyhearth_core::time::Time;
use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, UnitWeighter};

/// Keys whose last use is remembered; others make room, and nothing false is said about them.
const KEYS_REMEMBERED_MAX: usize = 131_072;

/// The last uses.
pub struct Uses {
    since: Time,
    last: Cache<KeyId, LastUse, UnitWeighter, DefaultHashBuilder, Forgotten>,
    forgotten: Forgotten,
}

/// The time of the newest use that was forgotten to make room.
#[derive(Clone, Default)]
struct Forgotten(Arc<AtomicU64>);

impl Lifecycle<KeyId, LastUse> for Forgotten {
    type RequestState = ();

    fn before_evict(&self, (): &mut (), _: &KeyId, last: &mut LastUse) {
        self.0.fetch_max(last.time.unix_ms(), Ordering::AcqRel);
    }
}

impl Uses {
    /// Remembers from `since` on.
    pub fn new(since: Time) -> Self {
        let forgotten = Forgotten::default();
        let max = KEYS_REMEMBERED_MAX;
        let last =
            Cache::with(max, max as u64, UnitWeighter, DefaultHashBuilder::default(), forgotten.clone());
        Self { since, last, forgotten }
    }

    /// Remembers a use that was committed. A signature that did not hold is none; a rewrap is a use of two keys.
    pub fn note(&self, key: KeyId, response: &Response, last: LastUse) {
        match response {
            Response::Verified { valid: false, .. } => return,
            Response::Rewrapped { source: (source, _), .. } => {
                self.last.insert(*source, LastUse { operation: Operation::RewrapFrom, ..last });
            }
            _ => {}
        }
        self.last.insert(key, last);
    }

    /// The last use of a key, and from when on it would be known.
    pub fn of(&self, key: KeyId) -> (Time, Option<LastUse>) {
        let last = self.last.get(&key);
        let forgotten = Time::from_unix_ms(self.forgotten.0.load(Ordering::Acquire));
        let since = if last.is_some() { self.since } else { self.since.max(forgotten) };
        (since, last)
    }
}

#[cfg(test)]
mod tests {
    use keyhearth_core::id::RequestId;

    use super::*;

    #[test]
    fn what_was_forgotten_is_not_denied() {
        let uses = Uses::new(Time::from_unix_ms(5));
        let used = |ms| LastUse {
            operation: Operation::Encrypt,
            time: Time::from_unix_ms(ms),
            request: RequestId([1; 16]),
        };
        let key = |number: u32| {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&number.to_be_bytes());
            KeyId(id)
        };
        assert_eq!(uses.of(key(1)), (Time::from_unix_ms(5), None));
        uses.note(key(1), &Response::Done, used(7));
        uses.note(key(1), &Response::Done, used(9));
        assert_eq!(uses.of(key(1)), (Time::from_unix_ms(5), Some(used(9))));
        assert_eq!(uses.of(key(2)), (Time::from_unix_ms(5), None), "replacing forgets nothing");
        let many = u32::try_from(2 * KEYS_REMEMBERED_MAX).unwrap();
        for number in 2..many {
            uses.note(key(number), &Response::Done, used(u64::from(number) + 10));
        }
        for number in 1..many {
            let noted = if number == 1 { 9 } else { u64::from(number) + 10 };
            match uses.of(key(number)) {
                (_, Some(last)) => assert_eq!(last, used(noted)),
                (since, None) => assert!(since >= Time::from_unix_ms(noted)),
            }
        }
    }
}
