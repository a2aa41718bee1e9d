//! Times as RFC 3339 in UTC: `2026-11-20T12:00:00Z` or `2026-11-20T12:00:00.123Z`, years 1970 to 9999.

use std::fmt;

use keyhearth_core::time::{DAY_MS, Time};

/// Days before the first day of each month, in a year that is not a leap year.
const DAYS_BEFORE: [u64; 13] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365];

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// Days from 1970-01-01 to the first of January of `year`, 1970 or later.
const fn days_before_year(year: u64) -> u64 {
    let past = year - 1;
    365 * (year - 1970) + (past / 4 - past / 100 + past / 400) - (1969 / 4 - 1969 / 100 + 1969 / 400)
}

const fn days_before_month(year: u64, month: usize) -> u64 {
    DAYS_BEFORE[month] + (month > 1 && is_leap(year)) as u64
}

/// Reads a time. Leap seconds, offsets other than `Z` and fractions other than milliseconds are refused,
/// so that a time has two spellings at most.
///
/// Source: RFC 3339 §5.6.
pub(crate) fn read(text: &str) -> Option<Time> {
    let text = text.as_bytes();
    let shape = match text.len() {
        20 => &b"0000-00-00T00:00:00Z"[..],
        24 => b"0000-00-00T00:00:00.000Z",
        _ => return None,
    };
    let fits = |(&c, &s): (&u8, &u8)| if s == b'0' { c.is_ascii_digit() } else { c == s };
    if !text.iter().zip(shape).all(fits) {
        return None;
    }
    let number = |from: usize, to: usize| text[from..to].iter().fold(0, |n, c| n * 10 + u64::from(c - b'0'));
    let (year, month, day) =
        (number(0, 4), usize::try_from(number(5, 7)).ok()?.checked_sub(1)?, number(8, 10));
    let (hour, minute, second) = (number(11, 13), number(14, 16), number(17, 19));
    let ms = if text.len() == 24 { number(20, 23) } else { 0 };
    if year < 1970 || month > 11 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let before = days_before_month(year, month);
    if day == 0 || before + day > days_before_month(year, month + 1) {
        return None;
    }
    let days = days_before_year(year) + before + day - 1;
    Some(Time::from_unix_ms(days * DAY_MS + ((hour * 60 + minute) * 60 + second) * 1000 + ms))
}

/// Writes a time, always with milliseconds; what lies beyond [`Time::MAX`] is written as that.
pub(crate) fn write(time: &Time, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let ms = time.unix_ms().min(Time::MAX.unix_ms());
    let (days, ms) = (ms / DAY_MS, ms % DAY_MS);
    let guess = 1970 + days / 366;
    let year = (guess..).take_while(|&year| days_before_year(year) <= days).last().unwrap_or(guess);
    let day = days - days_before_year(year);
    let month = (0..12).take_while(|&month| days_before_month(year, month) <= day).last().unwrap_or(0);
    let day = day - days_before_month(year, month) + 1;
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    write!(f, "{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", month + 1, ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rest::Is;

    #[test]
    fn times_are_spelled_as_the_calendar_has_them() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (68_169_599_999, "1972-02-28T23:59:59.999Z"),
            (68_169_600_000, "1972-02-29T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_176_000_123, "2026-11-20T12:00:00.123Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Is(Time::from_unix_ms(ms)).to_string(), text);
            assert_eq!(read(text), Some(Time::from_unix_ms(ms)), "{text}");
        }
        assert_eq!(read("2026-11-20T12:00:00Z"), Some(Time::from_unix_ms(1_795_176_000_000)));
        assert_eq!(Is(Time::from_unix_ms(u64::MAX)).to_string(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn what_is_no_utc_time_is_refused() {
        for text in [
            "",
            "2026-11-20",
            "2026-11-20 12:00:00Z",
            "2026-11-20T12:00:00+00:00",
            "2026-11-20t12:00:00z",
            "2026-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-04-31T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-06-30T23:59:60Z",
            "1969-12-31T23:59:59Z",
            "2026-01-01T00:00:00.12Z",
            "2026-01-01T00:00:00.1234Z",
            "２026-01-01T00:00:0Z",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_time_has_one_written_form(ms in 0..=Time::MAX.unix_ms()) {
            let time = Time::from_unix_ms(ms);
            proptest::prop_assert_eq!(read(&Is(time).to_string()), Some(time));
        }
    }
}
