//! What is asked of AMD and Intel, or of a mirror of theirs, and how often.
//!
//! Off unless the configuration says otherwise. Evidence that lacks its certificate cannot be told from a stranger's
//! invention, so that whoever knows a machine's id could make this server ask. What bounds it:
//!
//! - each thing is asked for once at a time, and not again before a time that doubles with every failure;
//! - certificates of chips, which an invention may name: from one network and for one machine [`OF_MACHINE_MAX`] in an
//!   hour, in all [`OF_ALL_MAX`]; repetitions are bounded by those times;
//! - a machine that has reference values of its chip is asked for no other;
//! - a service that says it is asked too often (429) is left alone for as long as it says;
//! - what is asked of Intel follows from a certificate of Intel's.
//!
//! Nothing waits here for an answer: the machine is told to come again.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::time::{Duration, Instant};

use keyhearth_attest::snp::{Generation, Signer, Tcb};
use keyhearth_attest::{Bytes, Need, Refusal};
use keyhearth_core::id::PrincipalId;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::http::{Answer, Client};

/// How many things are fetched at once.
const AT_ONCE_MAX: usize = 4;
/// How many things are remembered as asked for.
const ASKED_MAX: usize = 1024;
/// Certificates of how many chips a machine may cause to be fetched from one network in [`WINDOW`].
const OF_MACHINE_MAX: u32 = 6;
/// How many may be fetched for all machines in [`WINDOW`].
const OF_ALL_MAX: u32 = 600;
/// In which fetches are counted.
const WINDOW: Duration = Duration::from_secs(3600);
/// How many pairs of machine and network are counted.
const CALLERS_MAX: usize = 4096;
/// When a machine comes again whose endorsements are being fetched.
const SOON: Duration = Duration::from_secs(2);
/// How long a service is left alone that did not say for how long.
const PAUSE: Duration = Duration::from_secs(60);
/// The longest that a service is left alone, whatever it says.
const PAUSE_MAX: Duration = Duration::from_secs(900);
/// After the first failure that may pass by itself; it doubles.
const AGAIN: Duration = Duration::from_secs(5);
/// After the first answer that was of no use; it doubles. Also after one that was, so that nothing is asked for in a circle.
const AGAIN_LASTING: Duration = Duration::from_secs(600);
/// What is about to end is asked for anew after this time, which doubles while nothing newer comes...
const REFRESH: Duration = AGAIN_LASTING;
/// ...up to a day, and to a part of what is left of it, so that it is looked for more often towards its end.
const REFRESH_MAX: Duration = Duration::from_secs(86_400);
/// Which part that is.
const LEFT_PART: u32 = 4;
/// How long after a success a machine is told to come again: it may have been refused before that was there.
const FRESH: Duration = Duration::from_secs(10);
/// Times double so often at most.
const DOUBLED_MAX: u32 = 5;
/// Those of what brings nothing new, which reach [`REFRESH_MAX`] then.
const UNCHANGED_MAX: u32 = 8;

/// Where things are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Urls {
    /// AMD's service (KDS), or a mirror.
    pub amd: String,
    /// Intel's service (PCS), or a cache of it (PCCS).
    pub intel: String,
    /// The revocation list of Intel's root, as DER or hexadecimal digits.
    pub intel_root_list: String,
}

/// Whom to ask, and whom to believe that it is he.
#[derive(Clone, Debug)]
pub struct Sources<'a> {
    /// Where.
    pub urls: Urls,
    /// CAs for TLS; those of the system if absent.
    pub ca: Option<&'a Path>,
}

/// Which service is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Service {
    Amd,
    Intel,
    IntelRoot,
}

/// Why something was not fetched.
#[derive(Debug)]
pub enum FetchError {
    /// The service could not be reached, or is out of order.
    Unreachable(io::Error),
    /// The service is out of order, with this status.
    Broken(u16),
    /// The service is asked too often.
    TooOften(Duration),
    /// The service does not have it, with this status.
    Absent(u16),
    /// What came was refused.
    Refused(Refusal),
    /// What came is something else than what was asked for.
    Other,
    /// The folder.
    Folder(io::Error),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => write!(f, "no answer: {error}"),
            Self::Broken(status) => write!(f, "the service is out of order, status {status}"),
            Self::TooOften(pause) => {
                write!(f, "the service is asked too often, and left alone for {} s", pause.as_secs())
            }
            Self::Absent(status) => write!(f, "the service does not have it, status {status}"),
            Self::Refused(refusal) => write!(f, "what came is refused: {refusal}"),
            Self::Other => f.write_str("what came is something else"),
            Self::Folder(error) => write!(f, "the folder of endorsements cannot be written: {error}"),
        }
    }
}

impl FetchError {
    /// Whether asking again later may help by itself.
    fn passes(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Broken(_) | Self::TooOften(_) | Self::Folder(_) => true,
            Self::Absent(_) | Self::Refused(_) | Self::Other => false,
        }
    }
}

/// What asks, and remembers what it asked for.
pub struct Fetcher {
    client: Client,
    urls: Urls,
    asked: Mutex<Asked>,
    places: Semaphore,
}

impl Fetcher {
    /// Asks nothing yet.
    ///
    /// # Errors
    /// The error of reading the CAs.
    pub fn new(sources: Sources<'_>) -> io::Result<Self> {
        let Sources { urls, ca } = sources;
        let (client, places) = (Client::new(ca)?, Semaphore::new(AT_ONCE_MAX));
        Ok(Self { client, urls, asked: Mutex::default(), places })
    }

    /// Whether to fetch something now. Whoever is told to begin, fetches and says how it [ended](Self::ended).
    pub(super) fn may(&self, need: &Need, caller: Option<(PrincipalId, IpAddr)>) -> May {
        self.asked.lock().may(need, service(need), caller, Instant::now())
    }

    /// Whether to fetch now what replaces something that has so long left, as [`Self::may`].
    pub(super) fn may_refresh(&self, need: &Need, left: Duration) -> May {
        self.asked.lock().may_refresh(need, service(need), left, Instant::now())
    }

    /// Says how a fetch ended.
    pub(super) fn ended(&self, need: &Need, result: &Result<News, FetchError>) {
        self.asked.lock().ended(need, service(need), result, Instant::now());
    }

    /// Asks for something; gives what came, which nobody has checked.
    ///
    /// # Errors
    /// [`FetchError`].
    pub(super) async fn fetch(&self, need: &Need) -> Result<Vec<(String, Vec<u8>)>, FetchError> {
        // It is never closed.
        let _place = self.places.acquire().await;
        let url = url(&self.urls, need);
        let Answer { status, retry_after, issuers, body } =
            self.client.get(&url).await.map_err(FetchError::Unreachable)?;
        match status {
            200 => {}
            429 => return Err(FetchError::TooOften(retry_after.unwrap_or(PAUSE).min(PAUSE_MAX))),
            500..=599 => return Err(FetchError::Broken(status)),
            _ => return Err(FetchError::Absent(status)),
        }
        let mut files = vec![(url.clone(), from_digits(&body).unwrap_or(body))];
        if !issuers.is_empty() {
            files.push((url, issuers));
        }
        Ok(files)
    }
}

fn service(need: &Need) -> Service {
    match need {
        Need::Vcek { .. } | Need::AmdIssuers(..) | Need::AmdList(_) => Service::Amd,
        Need::TcbInfo(_) | Need::QeIdentity | Need::PckList(_) => Service::Intel,
        Need::IntelRootList => Service::IntelRoot,
    }
}

/// Where something is.
///
/// Source: AMD 57230 §4 (KDS); AMD 58369 (VLEK); Intel PCS API v4.
fn url(urls: &Urls, need: &Need) -> String {
    let Urls { amd, intel, intel_root_list } = urls;
    match need {
        Need::Vcek { generation, chip, tcb: Tcb { fmc, bootloader, tee, snp, microcode } } => {
            let (name, chip) = (generation.name(), Bytes::from(&chip[..]));
            let fmc = fmc.map_or_else(String::new, |fmc| format!("fmcSPL={fmc:02}&"));
            format!(
                "{amd}/vcek/v1/{name}/{chip}?{fmc}blSPL={bootloader:02}&teeSPL={tee:02}&snpSPL={snp:02}&ucodeSPL={microcode:02}"
            )
        }
        Need::AmdIssuers(generation, signer) => {
            let kind = match signer {
                Signer::Vcek => "vcek",
                Signer::Vlek => "vlek",
            };
            format!("{amd}/{kind}/v1/{}/cert_chain", Generation::name(*generation))
        }
        Need::AmdList(generation) => format!("{amd}/vcek/v1/{}/crl", generation.name()),
        Need::TcbInfo(fmspc) => {
            format!("{intel}/tdx/certification/v4/tcb?fmspc={}", Bytes::from(&fmspc[..]))
        }
        Need::QeIdentity => format!("{intel}/tdx/certification/v4/qe/identity"),
        Need::PckList(issuer) => {
            format!("{intel}/sgx/certification/v4/pckcrl?ca={}&encoding=der", issuer.name())
        }
        Need::IntelRootList => intel_root_list.clone(),
    }
}

/// The bytes that hexadecimal digits stand for, as caches of Intel's service write lists.
fn from_digits(body: &[u8]) -> Option<Vec<u8>> {
    let digits = body.trim_ascii();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    digits.chunks(2).map(byte).collect::<Option<Vec<u8>>>().filter(|bytes| !bytes.is_empty())
}

/// Whether something is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum May {
    /// Now, by whoever asked.
    Begin,
    /// Not now: it is on its way, or has to wait so long.
    Wait(Duration),
    /// It would not help.
    Not,
}

/// What a fetch that did not fail brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Something that was not there.
    Something,
    /// What was there already.
    Nothing,
}

/// What was asked for, and what may not be asked for yet.
#[derive(Default)]
struct Asked {
    things: HashMap<Need, Thing>,
    callers: HashMap<(PrincipalId, IpAddr), Count>,
    all: Count,
    paused: HashMap<Service, Instant>,
}

/// One thing.
struct Thing {
    under_way: bool,
    failures: u32,
    /// Whether the last answer will be the same for a while.
    lasting: bool,
    not_before: Instant,
    /// When it was fetched last.
    fetched: Option<Instant>,
    /// How often, since something new came, nothing new did.
    unchanged: u32,
}

impl Thing {
    /// When what has so long left is asked for anew, if the last fetch did not fail.
    fn refreshed_from(&self, left: Duration) -> Option<Instant> {
        let wait = REFRESH * 2_u32.pow(self.unchanged.saturating_sub(1).min(UNCHANGED_MAX));
        Some(self.fetched? + wait.min(REFRESH_MAX).min(left / LEFT_PART).max(REFRESH))
    }

    /// Until when it is remembered: failures a while longer than they forbid, so that times double, and so what brings
    /// nothing new.
    fn counts_until(&self) -> Instant {
        let refreshed = self.refreshed_from(Duration::MAX).filter(|_| self.unchanged > 0);
        refreshed.map_or(self.not_before, |from| from.max(self.not_before)) + AGAIN_LASTING
    }
}

/// So many in a window that began then.
#[derive(Clone, Copy, Default)]
struct Count {
    begun: Option<Instant>,
    number: u32,
}

impl Count {
    /// How long until there is room for one more; none if it is there.
    fn wait(&self, limit: u32, now: Instant) -> Option<Duration> {
        let over = self.begun? + WINDOW;
        (self.number >= limit && now < over).then(|| over - now)
    }

    fn add(&mut self, now: Instant) {
        if self.is_over(now) {
            *self = Self { begun: Some(now), number: 0 };
        }
        self.number += 1;
    }

    fn is_over(&self, now: Instant) -> bool {
        self.begun.is_none_or(|begun| now >= begun + WINDOW)
    }
}

impl Asked {
    fn may(
        &mut self,
        need: &Need,
        service: Service,
        caller: Option<(PrincipalId, IpAddr)>,
        now: Instant,
    ) -> May {
        if let Some(thing) = self.things.get(need) {
            if thing.under_way || thing.fetched.is_some_and(|fetched| now < fetched + FRESH) {
                return May::Wait(SOON);
            }
            if now < thing.not_before {
                return if thing.lasting { May::Not } else { May::Wait(thing.not_before - now) };
            }
        }
        if let Some(until) = self.paused.get(&service).filter(|until| now < **until) {
            return May::Wait(*until - now);
        }
        self.forget(now);
        let is_new = !self.things.contains_key(need);
        let counted = caller.filter(|_| is_new && matches!(need, Need::Vcek { .. }));
        let counted = counted.map(|(machine, address)| (machine, network(address)));
        let of_caller = counted.map(|caller| self.callers.get(&caller).copied().unwrap_or_default());
        let waits = of_caller.map(|count| [self.all.wait(OF_ALL_MAX, now), count.wait(OF_MACHINE_MAX, now)]);
        if let Some(wait) = waits.into_iter().flatten().flatten().max() {
            return May::Wait(wait);
        }
        let new_caller = counted
            .is_some_and(|caller| !self.callers.contains_key(&caller) && self.callers.len() >= CALLERS_MAX);
        if is_new && self.things.len() >= ASKED_MAX || new_caller {
            return May::Wait(PAUSE);
        }
        if let Some(caller) = counted {
            self.all.add(now);
            self.callers.entry(caller).or_default().add(now);
        }
        let (failures, unchanged) =
            self.things.get(need).map_or((0, 0), |thing| (thing.failures, thing.unchanged));
        let thing =
            Thing { under_way: true, failures, lasting: false, not_before: now, fetched: None, unchanged };
        self.things.insert(need.clone(), thing);
        May::Begin
    }

    fn may_refresh(&mut self, need: &Need, service: Service, left: Duration, now: Instant) -> May {
        let from = self.things.get(need).and_then(|thing| thing.refreshed_from(left));
        if from.is_some_and(|from| now < from) { May::Not } else { self.may(need, service, None, now) }
    }

    fn ended(&mut self, need: &Need, service: Service, result: &Result<News, FetchError>, now: Instant) {
        let Some(thing) = self.things.get_mut(need) else { return };
        let error = result.as_ref().err();
        thing.under_way = false;
        thing.fetched = error.is_none().then_some(now);
        thing.lasting = error.is_none_or(|error| !error.passes());
        thing.failures = if error.is_some() { thing.failures + 1 } else { 0 };
        match result {
            // Certificates of chips are not replaced, and strangers may ask for them.
            Ok(News::Nothing) if !matches!(need, Need::Vcek { .. }) => thing.unchanged += 1,
            Ok(_) => thing.unchanged = 0,
            Err(_) => {}
        }
        let first = if thing.lasting { AGAIN_LASTING } else { AGAIN };
        thing.not_before = now + first * 2_u32.pow(thing.failures.saturating_sub(1).min(DOUBLED_MAX));
        if let Some(FetchError::TooOften(pause)) = error {
            thing.not_before = now + *pause;
            self.paused.insert(service, now + *pause);
        }
    }

    /// Forgets what counts no more.
    fn forget(&mut self, now: Instant) {
        self.things.retain(|_, thing| thing.under_way || now < thing.counts_until());
        self.callers.retain(|_, count| !count.is_over(now));
    }
}

/// What one party has: an IPv4 address, or a network of 64 bits of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: Service = Service::Amd;

    fn chip(number: u8) -> Need {
        let tcb = Tcb { fmc: None, bootloader: 3, tee: 0, snp: 8, microcode: 115 };
        Need::Vcek { generation: Generation::Milan, chip: vec![number; 64], tcb }
    }

    fn caller(number: u8) -> Option<(PrincipalId, IpAddr)> {
        Some((PrincipalId([number; 16]), IpAddr::from([10, 0, 0, 1])))
    }

    #[test]
    fn everything_has_its_place_at_its_service() {
        let urls = Urls { amd: "a".to_owned(), intel: "i".to_owned(), intel_root_list: "r".to_owned() };
        let turin = Need::Vcek {
            generation: Generation::Turin,
            chip: vec![0xc1; 8],
            tcb: Tcb { fmc: Some(1), bootloader: 4, tee: 2, snp: 24, microcode: 217 },
        };
        for (need, expected) in [
            (
                chip(0xab),
                format!("a/vcek/v1/Milan/{}?blSPL=03&teeSPL=00&snpSPL=08&ucodeSPL=115", "ab".repeat(64)),
            ),
            (
                turin,
                "a/vcek/v1/Turin/c1c1c1c1c1c1c1c1?fmcSPL=01&blSPL=04&teeSPL=02&snpSPL=24&ucodeSPL=217"
                    .to_owned(),
            ),
            (Need::AmdIssuers(Generation::Genoa, Signer::Vlek), "a/vlek/v1/Genoa/cert_chain".to_owned()),
            (Need::AmdList(Generation::Milan), "a/vcek/v1/Milan/crl".to_owned()),
            (
                Need::TcbInfo([0xb0, 0xc0, 0x6f, 0, 0, 0]),
                "i/tdx/certification/v4/tcb?fmspc=b0c06f000000".to_owned(),
            ),
            (Need::QeIdentity, "i/tdx/certification/v4/qe/identity".to_owned()),
            (
                Need::PckList(keyhearth_attest::PckIssuer::Platform),
                "i/sgx/certification/v4/pckcrl?ca=platform&encoding=der".to_owned(),
            ),
            (Need::IntelRootList, "r".to_owned()),
        ] {
            assert_eq!(url(&urls, &need), expected);
        }
    }

    #[test]
    fn one_thing_is_asked_for_once_and_later_after_every_failure() {
        let (mut asked, mut now) = (Asked::default(), Instant::now());
        assert_eq!(asked.may(&chip(1), SERVICE, caller(1), now), May::Begin);
        assert_eq!(asked.may(&chip(1), SERVICE, caller(2), now), May::Wait(SOON));
        for wait in [AGAIN, AGAIN * 2, AGAIN * 4] {
            asked.ended(&chip(1), SERVICE, &Err(FetchError::Broken(503)), now);
            assert_eq!(asked.may(&chip(1), SERVICE, caller(1), now), May::Wait(wait));
            now += wait;
            assert_eq!(asked.may(&chip(1), SERVICE, caller(1), now), May::Begin);
        }
        asked.ended(&chip(1), SERVICE, &Err(FetchError::Absent(404)), now);
        assert_eq!(asked.may(&chip(1), SERVICE, caller(1), now), May::Not);
        // What came is there, or nothing like it would help.
        assert_eq!(asked.may(&chip(2), SERVICE, caller(1), now), May::Begin);
        asked.ended(&chip(2), SERVICE, &Ok(News::Something), now);
        assert_eq!(asked.may(&chip(2), SERVICE, caller(1), now), May::Wait(SOON));
        assert_eq!(asked.may(&chip(2), SERVICE, caller(1), now + FRESH), May::Not);
        assert_eq!(asked.may(&chip(2), SERVICE, caller(1), now + AGAIN_LASTING), May::Begin);
    }

    #[test]
    fn what_has_no_successor_yet_is_asked_for_less_and_less() {
        let (mut asked, mut now) = (Asked::default(), Instant::now());
        let list = Need::AmdList(Generation::Milan);
        let may = |asked: &mut Asked, now, left| asked.may_refresh(&list, SERVICE, left, now);
        let (minute, month) = (Duration::from_secs(60), Duration::from_secs(30 * 86_400));
        let mut waits = Vec::new();
        assert_eq!(may(&mut asked, now, month), May::Begin);
        for _ in 0..11 {
            asked.ended(&list, SERVICE, &Ok(News::Nothing), now);
            let wait = (1..).find(|minutes| {
                let later = now + minute * *minutes;
                // What else is asked for makes room.
                asked.forget(later);
                may(&mut asked, later, month) == May::Begin
            });
            waits.push(wait.unwrap());
            now += minute * wait.unwrap();
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 1_280, 1_440, 1_440, 1_440]);
        // Towards the end it is looked for more often, and by a machine at once.
        asked.ended(&list, SERVICE, &Ok(News::Nothing), now);
        assert_eq!(may(&mut asked, now + minute * 29, minute * 120), May::Not);
        assert_eq!(may(&mut asked, now + minute * 30, minute * 120), May::Begin);
        asked.ended(&list, SERVICE, &Ok(News::Nothing), now);
        assert_eq!(may(&mut asked, now + AGAIN_LASTING, Duration::ZERO), May::Begin);
        asked.ended(&list, SERVICE, &Ok(News::Nothing), now);
        assert_eq!(may(&mut asked, now + AGAIN_LASTING, month), May::Not);
        assert_eq!(asked.may(&list, SERVICE, caller(1), now + AGAIN_LASTING), May::Begin);
        // What came begins anew, and a failure has its own times.
        asked.ended(&list, SERVICE, &Ok(News::Something), now);
        assert_eq!(may(&mut asked, now + REFRESH, month), May::Begin);
        asked.ended(&list, SERVICE, &Err(FetchError::Broken(503)), now);
        assert_eq!(may(&mut asked, now + AGAIN, month), May::Begin);
    }

    #[test]
    fn a_service_that_is_asked_too_often_is_left_alone() {
        let (mut asked, now) = (Asked::default(), Instant::now());
        assert_eq!(asked.may(&chip(1), SERVICE, caller(1), now), May::Begin);
        let pause = Duration::from_secs(30);
        asked.ended(&chip(1), SERVICE, &Err(FetchError::TooOften(pause)), now);
        assert_eq!(asked.may(&chip(1), SERVICE, caller(1), now), May::Wait(pause));
        assert_eq!(asked.may(&chip(2), SERVICE, caller(2), now), May::Wait(pause));
        assert_eq!(asked.may(&Need::QeIdentity, Service::Intel, caller(2), now), May::Begin);
        assert_eq!(asked.may(&chip(2), SERVICE, caller(2), now + pause), May::Begin);
    }

    #[test]
    fn a_stranger_makes_few_of_them() {
        let (mut asked, now) = (Asked::default(), Instant::now());
        let begun = |asked: &mut Asked, by: u8, from: u8| {
            (from..from + 50).filter(|n| asked.may(&chip(*n), SERVICE, caller(by), now) == May::Begin).count()
        };
        assert_eq!(begun(&mut asked, 1, 0), 6);
        // Another machine, or the same from another address, is not kept from its own.
        assert_eq!(begun(&mut asked, 2, 50), 6);
        let elsewhere = Some((PrincipalId([1; 16]), IpAddr::from([10, 0, 0, 2])));
        assert_eq!(asked.may(&chip(200), SERVICE, elsewhere, now), May::Begin);
        assert_eq!(asked.may(&chip(201), SERVICE, caller(1), now + WINDOW), May::Begin);
        // One network of IPv6 is one caller, however many addresses it has.
        let from =
            |host: u16| Some((PrincipalId([3; 16]), IpAddr::from([0x2001, 0xdb8, 0, 0, 1, 2, 3, host])));
        let begun =
            (210..220).filter(|n| asked.may(&chip(*n), SERVICE, from((*n).into()), now) == May::Begin);
        assert_eq!(begun.count(), 6);
        // What no stranger can invent is not counted, so that nobody keeps lists from being fetched.
        for (number, need) in [Need::QeIdentity, Need::AmdList(Generation::Genoa)].into_iter().enumerate() {
            let caller = if number == 0 { caller(1) } else { None };
            assert_eq!(asked.may(&need, Service::Intel, caller, now), May::Begin);
        }
    }

    /// An outage takes nothing from what a machine may ask for.
    #[test]
    fn repetitions_do_not_count() {
        let (mut asked, mut now) = (Asked::default(), Instant::now());
        for _ in 0..20 {
            assert_eq!(asked.may(&chip(1), SERVICE, caller(1), now), May::Begin);
            asked.ended(&chip(1), SERVICE, &Err(FetchError::Broken(503)), now);
            now += AGAIN * 2_u32.pow(DOUBLED_MAX);
        }
    }

    #[test]
    fn lists_may_be_written_in_digits() {
        assert_eq!(from_digits(b"30820A\n"), Some(vec![0x30, 0x82, 0x0a]));
        for other in [&[0x30, 0x82][..], b"{}", b"308", b""] {
            assert_eq!(from_digits(other), None);
        }
    }
}
