//! Points in time, and what is known of the present.

use minicbor::{Decode, Encode};

/// Milliseconds since 1970-01-01T00:00:00Z, leap seconds not counted. Never negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Time(#[n(0)] u64);

/// One day.
pub const DAY_MS: u64 = 86_400_000;

impl Time {
    /// The latest time that is accepted: the end of the year 9999.
    pub const MAX: Self = Self(253_402_300_799_999);

    /// Makes a time from milliseconds since 1970.
    #[must_use]
    pub const fn from_unix_ms(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub const fn unix_ms(self) -> u64 {
        self.0
    }

    /// This time moved forward, at most to [`Time::MAX`].
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms).min(Self::MAX.0))
    }

    /// This time moved forward by whole days of 24 hours.
    #[must_use]
    pub fn plus_days(self, days: u32) -> Self {
        self.plus_ms(u64::from(days) * DAY_MS)
    }
}

/// What is known of the present: it lies between two times.
///
/// They are equal while the wall clock behaves. After a jump of the wall clock, `earliest` and
/// `latest` span both readings, so that nothing starts early and nothing ends late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The present is not before this. What begins at a date has begun when `earliest` reaches it.
    pub earliest: Time,
    /// The present is not after this. What ends at a date has ended when `latest` reaches it.
    pub latest: Time,
}

impl Now {
    /// The present is known.
    #[must_use]
    pub const fn exactly(time: Time) -> Self {
        Self { earliest: time, latest: time }
    }

    /// The present and what follows it for so long: what ends in that time has ended.
    #[must_use]
    pub fn lasting(self, seconds: u32) -> Self {
        Self { latest: self.latest.plus_ms(u64::from(seconds) * 1_000), ..self }
    }

    /// Whether `date` has certainly come.
    #[must_use]
    pub fn reached(self, date: Time) -> bool {
        self.earliest >= date
    }

    /// Whether `date` may have passed.
    #[must_use]
    pub fn may_have_passed(self, date: Time) -> bool {
        self.latest >= date
    }
}
