//! The two clocks that Keyhearth compares: one that people set, one that nobody can set.

/// Milliseconds since 1970-01-01 UTC. An operator or NTP may step it, backwards as well.
#[must_use]
pub fn now_unix_ms() -> u64 {
    read_ms(libc::CLOCK_REALTIME)
}

/// Milliseconds since boot, suspended time included. Never steps back while the system runs.
///
/// Restarts at 0 with the system and may jump when a virtual machine is restored from a snapshot.
#[must_use]
pub fn boottime_ms() -> u64 {
    read_ms(libc::CLOCK_BOOTTIME)
}

fn read_ms(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid, writable timespec for the length of the call.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    // A clock before 1970 reads as 0, which every caller treats as a step backwards.
    u64::try_from(time.tv_sec).unwrap_or(0) * 1000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_run_forward_and_count_milliseconds() {
        let standard = std::time::SystemTime::UNIX_EPOCH;
        let before = standard.elapsed().unwrap().as_millis();
        let now = u128::from(now_unix_ms());
        assert!(before <= now && now <= standard.elapsed().unwrap().as_millis());
        let boot = boottime_ms();
        assert!(boot > 0 && boot <= boottime_ms());
    }
}
