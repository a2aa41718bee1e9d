//! Names to addresses, by DNS over UDP. A static program has no other resolver.
//!
//! Answers are not authentic, and need not be: the servers prove who they are. Not here: TCP (a name of a server has
//! few addresses), search domains, `/etc/hosts`.
//!
//! Called by [`crate::transport`].
//!
//! Source: RFC 1035 §4 (messages), §4.1.4 (compression); RFC 3596 §2 (AAAA).

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use keyhearth_sys::entropy;

/// Where the resolver's servers are listed, each in a line `nameserver ADDRESS`.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";
/// So many servers of the list are asked.
const SERVERS_MAX: usize = 3;
/// Each server is asked so often, one round after the other.
const ROUNDS: u32 = 2;
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// A message over UDP.
const MESSAGE_BYTES_MAX: usize = 4096;
/// So many addresses of a name are used.
const ADDRESSES_MAX: usize = 16;
const NAME_BYTES_MAX: usize = 255;
const LABEL_BYTES_MAX: usize = 63;
const PORT: u16 = 53;

const TYPE_A: u16 = 1;
const TYPE_CNAME: u16 = 5;
const TYPE_AAAA: u16 = 28;
const CLASS_IN: u16 = 1;

/// Why a name has no address.
#[derive(Debug)]
pub enum Error {
    /// [`RESOLV_CONF`] names no server.
    NoServers,
    /// It is no name of a host.
    Name,
    /// No server answered in time.
    NoAnswer,
    /// There is no such name, or it has no addresses.
    NoSuchName,
    /// A server refused, with this response code.
    Refused(u8),
    /// The system refused.
    System(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoServers => {
                write!(f, "{RESOLV_CONF} names no DNS server; use an IP address or set up the network")
            }
            Self::Name => f.write_str("it is no name of a host"),
            Self::NoAnswer => f.write_str("no DNS server answered"),
            Self::NoSuchName => f.write_str("DNS knows no address of it"),
            Self::Refused(code) => write!(f, "the DNS server refused with code {code}"),
            Self::System(error) => write!(f, "DNS cannot be asked: {error}"),
        }
    }
}

impl std::error::Error for Error {}

/// The servers of a `resolv.conf`.
#[must_use]
pub fn servers(resolv_conf: &str) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse::<IpAddr>().ok())?
    };
    resolv_conf.lines().filter_map(address).take(SERVERS_MAX).map(|ip| SocketAddr::new(ip, PORT)).collect()
}

/// The addresses of `host`, IPv4 first: an initramfs rarely has a route for IPv6. A literal address is itself, and
/// `localhost` this machine, which DNS is not asked for.
///
/// Source: RFC 6761 §6.3.
///
/// # Errors
/// [`Error`] of the last server that was asked.
pub fn addresses(host: &str, servers: &[SocketAddr]) -> Result<Vec<IpAddr>, Error> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let name = wire_name(host).ok_or(Error::Name)?;
    let mut error = Error::NoServers;
    for server in std::iter::repeat_n(servers, ROUNDS as usize).flatten() {
        let answers = [TYPE_A, TYPE_AAAA].map(|kind| ask(*server, &name, kind));
        match answers {
            [Err(first), Err(_)] => error = first,
            [first, second] => {
                let found: Vec<_> = first.into_iter().chain(second).flatten().collect();
                if !found.is_empty() {
                    return Ok(found);
                }
                error = Error::NoSuchName;
            }
        }
    }
    Err(error)
}

/// A name as labels, each after its length; lower case.
fn wire_name(host: &str) -> Option<Vec<u8>> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let mut name = Vec::new();
    for label in host.split('.') {
        let fit = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
        if !(1..=LABEL_BYTES_MAX).contains(&label.len()) || !label.bytes().all(fit) {
            return None;
        }
        name.push(u8::try_from(label.len()).ok()?);
        name.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
    }
    name.push(0);
    (name.len() <= NAME_BYTES_MAX).then_some(name)
}

fn ask(server: SocketAddr, name: &[u8], kind: u16) -> Result<Vec<IpAddr>, Error> {
    let mut id = [0; 2];
    entropy::fill(&mut id).map_err(Error::System)?;
    let local: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A port that the kernel chooses at random, and answers from the server's address alone.
    let socket = UdpSocket::bind((local, 0)).map_err(Error::System)?;
    socket.connect(server).map_err(Error::System)?;
    socket.send(&question(id, name, kind)).map_err(Error::System)?;
    let deadline = Instant::now() + ANSWER_WAIT;
    let mut message = [0; MESSAGE_BYTES_MAX];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::NoAnswer);
        }
        socket.set_read_timeout(Some(left)).map_err(Error::System)?;
        match socket.recv(&mut message) {
            // What answers another question is not looked at again.
            Ok(length) => match answer(&message[..length], id, name, kind) {
                Some(answer) => return answer,
                None => continue,
            },
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Err(Error::NoAnswer);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::System(error)),
        }
    }
}

/// A question with recursion desired.
fn question(id: [u8; 2], name: &[u8], kind: u16) -> Vec<u8> {
    let head = [id[0], id[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    [&head, name, &kind.to_be_bytes(), &CLASS_IN.to_be_bytes()].concat()
}

/// The addresses in a message; nothing if it is no answer to this question.
fn answer(message: &[u8], id: [u8; 2], name: &[u8], kind: u16) -> Option<Result<Vec<IpAddr>, Error>> {
    let head = message.get(..12)?;
    let asked = question(id, name, kind);
    let echoed = message.get(12..asked.len())?;
    let is_response = head[2] & 0x80 != 0 && head[2] & 0x78 == 0;
    if head[..2] != id || !is_response || head[4..6] != [0, 1] || !echoed.eq_ignore_ascii_case(&asked[12..]) {
        return None;
    }
    match head[3] & 0x0f {
        0 => {}
        3 => return Some(Err(Error::NoSuchName)),
        code => return Some(Err(Error::Refused(code))),
    }
    let count = u16::from_be_bytes([head[6], head[7]]);
    Some(Ok(records(message, asked.len(), count, name, kind)))
}

/// The addresses of `name` and of the names that it stands for. What comes after something malformed is not read.
fn records(message: &[u8], start: usize, count: u16, name: &[u8], kind: u16) -> Vec<IpAddr> {
    let mut owner = name.to_vec();
    let mut found = Vec::new();
    let mut at = start;
    for _ in 0..count {
        let Some(record) = Record::read(message, at) else { break };
        at = record.end;
        if record.owner != owner || record.class != CLASS_IN || found.len() == ADDRESSES_MAX {
            continue;
        }
        let data = &message[record.data..record.end];
        if record.kind == TYPE_CNAME {
            match read_name(message, record.data) {
                Some((name, _)) => owner = name,
                None => break,
            }
        } else if record.kind == kind {
            found.extend(address(kind, data));
        }
    }
    found
}

fn address(kind: u16, data: &[u8]) -> Option<IpAddr> {
    match kind {
        TYPE_A => <[u8; 4]>::try_from(data).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(data).ok().map(IpAddr::from),
    }
}

struct Record {
    owner: Vec<u8>,
    kind: u16,
    class: u16,
    /// Where its data begin.
    data: usize,
    /// Where they end, inside the message.
    end: usize,
}

impl Record {
    fn read(message: &[u8], at: usize) -> Option<Self> {
        let (owner, at) = read_name(message, at)?;
        let fixed: &[u8; 10] = message.get(at..)?.first_chunk()?;
        let number = |i: usize| u16::from_be_bytes([fixed[i], fixed[i + 1]]);
        let data = at + fixed.len();
        let end = data + usize::from(number(8));
        message.get(data..end)?;
        Some(Self { owner, kind: number(0), class: number(2), data, end })
    }
}

/// The name at a place, in lower case, and where what follows begins. Pointers lead backwards only, so that it ends.
fn read_name(message: &[u8], start: usize) -> Option<(Vec<u8>, usize)> {
    let (mut at, mut before) = (start, start);
    let mut after = None;
    let mut name = Vec::new();
    loop {
        let length = *message.get(at)?;
        match length {
            0 => {
                name.push(0);
                return Some((name, after.unwrap_or(at + 1)));
            }
            1..=63 => {
                let label = message.get(at..=at + usize::from(length))?;
                name.extend(label.iter().map(u8::to_ascii_lowercase));
                at += label.len();
            }
            0xc0.. => {
                let pointer = usize::from(u16::from_be_bytes([length & 0x3f, *message.get(at + 1)?]));
                after = after.or(Some(at + 2));
                if pointer >= before {
                    return None;
                }
                (at, before) = (pointer, pointer);
            }
            _ => return None,
        }
        if name.len() >= NAME_BYTES_MAX {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: [u8; 2] = [7, 9];

    fn response(name: &[u8], kind: u16, records: &[&[u8]]) -> Vec<u8> {
        let mut message = question(ID, name, kind);
        message[2..4].copy_from_slice(&[0x81, 0x80]);
        message[7] = u8::try_from(records.len()).unwrap();
        records.iter().for_each(|record| message.extend_from_slice(record));
        message
    }

    fn record(owner: &[u8], kind: u16, data: &[u8]) -> Vec<u8> {
        let length = u16::try_from(data.len()).unwrap().to_be_bytes();
        [owner, &kind.to_be_bytes(), &[0, 1, 0, 0, 0, 60], &length, data].concat()
    }

    #[test]
    fn aliases_are_followed_and_strangers_are_not() {
        let name = wire_name("KMS.example").unwrap();
        assert_eq!(name, b"\x03kms\x07example\x00");
        // 12 is the question's name, 16 its second label.
        let alias = b"\x01b\xc0\x10";
        let message = response(
            &name,
            TYPE_A,
            &[
                &record(b"\x01x\xc0\x10", TYPE_A, &[9, 9, 9, 9]),
                &record(b"\xc0\x0c", TYPE_CNAME, alias),
                &record(alias, TYPE_A, &[192, 0, 2, 1]),
                &record(b"\x01B\x07EXAMPLE\x00", TYPE_A, &[192, 0, 2, 2]),
                &record(alias, TYPE_A, &[1]),
            ],
        );
        let found = answer(&message, ID, &name, TYPE_A).unwrap().unwrap();
        assert_eq!(found, ["192.0.2.1", "192.0.2.2"].map(|text| text.parse::<IpAddr>().unwrap()));
        assert!(answer(&message, [7, 8], &name, TYPE_A).is_none());
        assert!(answer(&message, ID, &name, TYPE_AAAA).is_none());
        assert!(answer(&message, ID, &wire_name("kms.example.org").unwrap(), TYPE_A).is_none());
    }

    #[test]
    fn a_loop_of_pointers_ends() {
        let name = wire_name("a").unwrap();
        let message = response(&name, TYPE_A, &[&record(b"\xc0\x13", TYPE_A, &[192, 0, 2, 1])]);
        assert!(answer(&message, ID, &name, TYPE_A).unwrap().unwrap().is_empty());
    }

    #[test]
    fn codes_of_refusal_are_told() {
        let name = wire_name("a").unwrap();
        let mut message = response(&name, TYPE_A, &[]);
        message[3] = 0x83;
        assert!(matches!(answer(&message, ID, &name, TYPE_A), Some(Err(Error::NoSuchName))));
        message[3] = 0x82;
        assert!(matches!(answer(&message, ID, &name, TYPE_A), Some(Err(Error::Refused(2)))));
    }

    #[test]
    fn this_machine_is_known_without_asking() {
        let here: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        assert_eq!(addresses("LocalHost", &[]).unwrap(), here);
    }

    #[test]
    fn servers_are_read_in_order() {
        let text = "# c\nnameserver 192.0.2.53\nsearch example\n nameserver\t2001:db8::53 \nnameserver x\n";
        let expected = ["192.0.2.53:53", "[2001:db8::53]:53"].map(|text| text.parse::<SocketAddr>().unwrap());
        assert_eq!(servers(text), expected);
        assert!(matches!(addresses("a.example", &[]), Err(Error::NoServers)));
        assert_eq!(addresses("2001:db8::1", &[]).unwrap(), ["2001:db8::1".parse::<IpAddr>().unwrap()]);
        assert!(matches!(addresses("a..b", &[]), Err(Error::Name)));
    }

    proptest! {
        #[test]
        fn any_message_is_read(tail in proptest::collection::vec(any::<u8>(), 0..200), count in any::<u16>()) {
            let name = wire_name("kms.example").unwrap();
            let mut message = response(&name, TYPE_A, &[&tail]);
            message[6..8].copy_from_slice(&count.to_be_bytes());
            let found = answer(&message, ID, &name, TYPE_A).unwrap().unwrap();
            prop_assert!(found.len() <= ADDRESSES_MAX);
        }
    }
}
