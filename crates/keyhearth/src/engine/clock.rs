//! What time it is, as far as that is known.
//!
//! The wall clock is believed while it moves with the boot clock. When it jumps by more than
//! [`JUMP_MS_MAX`], forwards or backwards, or has drifted by more than that and [`DRIFT_PPM_MAX`] of the time
//! since the start, the present is only known to lie between both readings:
//! nothing begins early, nothing ends late, no date changes a stored state, and an alarm is logged.
//! A restart of the server believes the wall clock again, but never a time before the newest entry.

use keyhearth_core::time::{Now, Time};
use parking_lot::Mutex;

/// The most the wall clock may move against the boot clock between two readings, in milliseconds.
pub const JUMP_MS_MAX: u64 = 60_000;

/// The most the wall clock may drift from the boot clock for as long as the server runs, in parts per million.
/// No kernel slews its clock faster.
pub const DRIFT_PPM_MAX: u64 = 500;

/// How often the clock is compared at most; in between the readings are too close to tell, in milliseconds.
const FOLLOW_MS: u64 = 1_000;

/// A reading of both clocks of the machine, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Wall clock, since 1970.
    pub wall: u64,
    /// Time since boot, suspend included.
    pub boot: u64,
}

impl Reading {
    /// Reads the machine's clocks.
    #[must_use]
    pub fn take() -> Self {
        Self { wall: keyhearth_sys::clock::now_unix_ms(), boot: keyhearth_sys::clock::boottime_ms() }
    }
}

/// The server's clock.
#[derive(Debug)]
pub struct Clock {
    state: Mutex<Base>,
}

#[derive(Clone, Copy, Debug)]
struct Base {
    /// As the server was started.
    start: Reading,
    /// The newest that is followed.
    reading: Reading,
    steady: bool,
}

impl Clock {
    /// Starts from a reading; `newest` is the time of the newest log entry.
    #[must_use]
    pub fn start(reading: Reading, newest: Option<Time>) -> Self {
        let newest = newest.map_or(0, Time::unix_ms);
        let steady = reading.wall + JUMP_MS_MAX >= newest;
        let wall = reading.wall.max(newest);
        Self { state: Mutex::new(Base { start: reading, reading: Reading { wall, ..reading }, steady }) }
    }

    /// The present at this reading.
    #[must_use]
    pub fn at(&self, reading: Reading) -> Now {
        let mut base = self.state.lock();
        let passed = reading.boot.saturating_sub(base.reading.boot);
        let expected = base.reading.wall + passed;
        let elapsed = reading.boot.saturating_sub(base.start.boot);
        let drift = (base.start.wall + elapsed).abs_diff(reading.wall);
        if expected.abs_diff(reading.wall) > JUMP_MS_MAX
            || drift > JUMP_MS_MAX + elapsed * DRIFT_PPM_MAX / 1_000_000
        {
            base.steady = false;
        }
        if !base.steady {
            let time = |ms| Time::from_unix_ms(ms).min(Time::MAX);
            return Now {
                earliest: time(expected.min(reading.wall)),
                latest: time(expected.max(reading.wall)),
            };
        }
        if passed >= FOLLOW_MS {
            // Small corrections of the wall clock are followed, but time never goes back.
            base.reading = Reading { wall: reading.wall.max(base.reading.wall), boot: reading.boot };
        }
        Now::exactly(Time::from_unix_ms(reading.wall.max(base.reading.wall)).min(Time::MAX))
    }

    /// The present.
    #[must_use]
    pub fn now(&self) -> Now {
        self.at(Reading::take())
    }

    /// Whether the wall clock has behaved since the start.
    #[must_use]
    pub fn steady(&self) -> bool {
        self.state.lock().steady
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: u64 = 365 * 86_400_000;
    const START: Reading = Reading { wall: 100 * YEAR, boot: 1_000 };

    fn later(wall: u64, boot: u64) -> Reading {
        Reading { wall: START.wall + wall, boot: START.boot + boot }
    }

    #[test]
    fn a_wall_clock_that_behaves_is_followed() {
        let clock = Clock::start(START, None);
        for step in 1..100_000 {
            let reading = later(step * 60_030, step * 60_000);
            assert_eq!(clock.at(reading), Now::exactly(Time::from_unix_ms(reading.wall)));
        }
        assert!(clock.steady());
    }

    #[test]
    fn a_wall_clock_that_is_walked_away_in_small_steps_is_not_followed() {
        for step_ms in [50_000, 70_000] {
            let clock = Clock::start(START, None);
            let steps = (1..1_000).take_while(|step| {
                let _ = clock.at(later(step * step_ms, step * 60_000));
                clock.steady()
            });
            assert!(steps.count() < 10);
        }
    }

    #[test]
    fn a_jump_of_a_year_leaves_the_present_uncertain() {
        for (wall, expect_first) in
            [(START.wall + YEAR, START.wall + 5_000), (START.wall - YEAR, START.wall - YEAR)]
        {
            let clock = Clock::start(START, None);
            let now = clock.at(Reading { wall, boot: START.boot + 5_000 });
            assert_eq!(now.earliest.unix_ms(), expect_first);
            assert_eq!(now.latest.unix_ms(), wall.max(START.wall + 5_000));
            assert!(!clock.steady());
            let back = clock.at(later(6_000, 6_000));
            assert_eq!(back.latest.unix_ms(), START.wall + 6_000);
            assert!(!clock.steady(), "a jump is not forgotten");
        }
    }

    #[test]
    fn a_start_before_the_newest_entry_is_not_believed() {
        let newest = Time::from_unix_ms(START.wall + YEAR);
        let clock = Clock::start(START, Some(newest));
        let now = clock.at(later(10, 10));
        assert_eq!(now.latest.unix_ms(), newest.unix_ms() + 10);
        assert!(!clock.steady());
    }
}
