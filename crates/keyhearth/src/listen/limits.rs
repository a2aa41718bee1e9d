//! What a listener lets a stranger cost: how many connections, and how long each may take.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Most bytes of one request's method, path and headers.
pub const HEADER_BYTES_MAX: u32 = 16 * 1024;
/// Most headers of one HTTP/1.1 request. This is hyper's own default, which it keeps on the stack;
/// setting another costs an allocation a request.
pub const HEADERS_MAX: usize = 100;
/// Most requests at once on one HTTP/2 connection.
pub const STREAMS_MAX: u32 = 128;
/// Pause after a failed `accept`, so that running out of file descriptors does not become a busy loop.
pub const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// The limits of one listener. Each listener has its own, so a flood at one leaves the others alone.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most connections at once; further ones are closed before the TLS handshake.
    pub connections_max: u32,
    /// Most connections at once from one IPv4 address or IPv6 /64.
    pub address_connections_max: u32,
    /// From accept to the end of the TLS handshake.
    pub handshake: Duration,
    /// From the first byte of an HTTP/1.1 request to the end of its headers.
    ///
    /// Looked at in steps of half this long, so the cut comes at most half of it late.
    pub head: Duration,
    /// Until a request's body has arrived.
    pub body: Duration,
    /// From a request's first byte to the handler's answer; the last resort when all else hangs.
    pub request: Duration,
    /// Without a request. It also bounds how long a client may take to read an answer.
    pub idle: Duration,
    /// From the request to stop until connections still busy are cut.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            address_connections_max: 512,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            body: Duration::from_secs(30),
            request: Duration::from_secs(60),
            idle: Duration::from_secs(75),
            drain: Duration::from_secs(20),
        }
    }
}

/// What a listener has seen since it started. `open` is a level, the others only grow.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections open now, handshakes included.
    pub open: AtomicU32,
    /// Connections let in.
    pub accepted: AtomicU64,
    /// Connections closed at once because a limit on their number was reached.
    pub refused: AtomicU64,
    /// TLS handshakes that failed or took too long.
    pub handshakes_failed: AtomicU64,
    /// Connections cut because a request took too long.
    pub cut: AtomicU64,
}

/// Who holds how many connections.
#[derive(Debug, Default)]
pub(super) struct Admission {
    addresses: Mutex<HashMap<IpAddr, u32>>,
    pub(super) counters: Counters,
}

impl Admission {
    /// Lets a connection from `address` in, or refuses and counts it.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr, limits: &Limits) -> Option<Admitted> {
        let network = network(address);
        let mut addresses = self.addresses.lock();
        let held = addresses.get(&network).copied().unwrap_or(0);
        let open = self.counters.open.load(Ordering::Relaxed);
        if open >= limits.connections_max || held >= limits.address_connections_max {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        addresses.insert(network, held + 1);
        self.counters.open.fetch_add(1, Ordering::Relaxed);
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        Some(Admitted { admission: Arc::clone(self), network })
    }
}

/// One connection's place; given back on drop.
pub(super) struct Admitted {
    admission: Arc<Admission>,
    network: IpAddr,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut addresses = self.admission.addresses.lock();
        if let Some(held) = addresses.get_mut(&self.network) {
            *held -= 1;
            if *held == 0 {
                addresses.remove(&self.network);
            }
        }
        self.admission.counters.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The address that limits count by: one IPv6 customer holds at least a /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
    }
}

/// What a connection is doing and since when; its reader and its requests report, its task asks.
///
/// Three atomics and a clock read instead of a timer per request: arming one costs an allocation
/// and a lock each time, and nearly every request is over long before it would fire.
#[derive(Debug)]
pub(super) struct Pulse {
    opened: Instant,
    since_ms: AtomicU64,
    requests: AtomicU32,
    in_head: AtomicBool,
}

/// What [`Pulse::check`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Within its limits; ask again after this long.
    Well(Duration),
    /// Nothing to do for too long: ask the client to go.
    Idle,
    /// A request takes too long: cut it.
    Late,
}

impl Pulse {
    pub(super) fn new() -> Self {
        Self {
            opened: Instant::now(),
            since_ms: AtomicU64::new(0),
            requests: AtomicU32::new(0),
            in_head: AtomicBool::new(false),
        }
    }

    /// Bytes came in. Between requests they are the beginning of the next one's headers.
    pub(super) fn bytes_arrived(&self) {
        if self.requests.load(Ordering::Relaxed) == 0 && !self.in_head.swap(true, Ordering::Relaxed) {
            self.mark();
        }
    }

    /// A request's headers are complete; it runs until the result is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Running {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if !self.in_head.swap(false, Ordering::Relaxed) {
            self.mark();
        }
        Running(Arc::clone(self))
    }

    pub(super) fn check(&self, limits: &Limits) -> Finding {
        let spent = self
            .opened
            .elapsed()
            .saturating_sub(Duration::from_millis(self.since_ms.load(Ordering::Relaxed)));
        let (allowed, overdue) = if self.requests.load(Ordering::Relaxed) > 0 {
            (limits.request, Finding::Late)
        } else if self.in_head.load(Ordering::Relaxed) {
            (limits.head, Finding::Late)
        } else {
            (limits.idle, Finding::Idle)
        };
        match allowed.checked_sub(spent) {
            Some(left) => Finding::Well(left.min(limits.head / 2).max(Duration::from_millis(1))),
            None => overdue,
        }
    }

    fn mark(&self) {
        let now = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.since_ms.store(now, Ordering::Relaxed);
    }
}

/// A running request.
pub(super) struct Running(Arc<Pulse>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.mark();
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_ipv6_customer_is_one_address() {
        let first: IpAddr = "2001:db8:1:2:3::4".parse().unwrap();
        let second: IpAddr = "2001:db8:1:2::ffff".parse().unwrap();
        let other: IpAddr = "2001:db8:1:3::4".parse().unwrap();
        assert_eq!(network(first), network(second));
        assert_ne!(network(first), network(other));
        assert_eq!(network("::ffff:192.0.2.1".parse().unwrap()), network("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn a_place_is_given_back() {
        let admission = Arc::new(Admission::default());
        let limits = Limits { connections_max: 2, address_connections_max: 1, ..Limits::default() };
        let address = |last| IpAddr::from([192, 0, 2, last]);
        let first = admission.admit(address(1), &limits).unwrap();
        assert!(admission.admit(address(1), &limits).is_none(), "one address holds one");
        let second = admission.admit(address(2), &limits).unwrap();
        assert!(admission.admit(address(3), &limits).is_none(), "two in total");
        drop((first, second));
        assert!(admission.addresses.lock().is_empty());
        assert!(admission.admit(address(1), &limits).is_some());
        assert_eq!(admission.counters.refused.load(Ordering::Relaxed), 2);
    }
}
