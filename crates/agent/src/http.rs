//! One request of HTTP/1.1, and its answer, over any stream.
//!
//! Not here: redirects, cookies, compression. An answer that is longer or stranger than the servers' is an error.
//!
//! Called by [`crate::transport`].
//!
//! Source: RFC 9112 §2 (messages), §6 (length of a body), §7.1 (chunks).

use std::fmt;
use std::io::{self, Read, Write};

use zeroize::Zeroizing;

/// The longest answer before its body.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// The longest body of an answer: a dozen sealed keys have 40 kB.
pub const BODY_BYTES_MAX: usize = 256 << 10;
const HEADERS_MAX: usize = 64;

/// A server's answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// In how many seconds to ask again, if the server says so.
    pub retry_after_s: Option<u32>,
    /// The body, at most [`BODY_BYTES_MAX`] bytes.
    pub body: Zeroizing<Vec<u8>>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Error {
    /// The connection failed.
    Io(io::Error),
    /// It ended before the answer did.
    Cut,
    /// What came is no answer of HTTP/1.1.
    Malformed,
    /// It is longer than an answer may be.
    TooLong,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Cut => f.write_str("the connection ended before the answer did"),
            Self::Malformed => f.write_str("the answer is no HTTP/1.1"),
            Self::TooLong => write!(f, "the answer is longer than {BODY_BYTES_MAX} bytes"),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Sends JSON to `path` of the host `authority`, and reads the answer.
///
/// # Errors
/// [`Error`]; whether the server acted is not known then.
pub fn post(
    stream: &mut (impl Read + Write),
    authority: &str,
    path: &str,
    body: &[u8],
) -> Result<Answer, Error> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {authority}\r\ncontent-type: application/json\r\naccept: application/json\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    stream.flush()?;
    read(stream)
}

/// Asks for `path` without TLS and without a body, as a cloud's metadata service wants it.
///
/// # Errors
/// [`Error`].
pub fn plain(
    stream: &mut (impl Read + Write),
    method: &str,
    authority: &str,
    path: &str,
    header: &str,
) -> Result<Answer, Error> {
    let head =
        format!("{method} {path} HTTP/1.1\r\nhost: {authority}\r\n{header}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    stream.flush()?;
    read(stream)
}

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Stated(usize),
    Chunked,
    UntilClosed,
}

struct Head {
    status: u16,
    retry_after_s: Option<u32>,
    length: Length,
    /// Bytes of it.
    len: usize,
}

fn read(stream: &mut impl Read) -> Result<Answer, Error> {
    let mut source = Source { stream, bytes: Zeroizing::new(Vec::new()) };
    let head = loop {
        match head(&source.bytes)? {
            Some(head) => break head,
            None if source.bytes.len() > HEAD_BYTES_MAX => return Err(Error::TooLong),
            None => source.more()?,
        }
    };
    source.consume(head.len);
    let body = match head.length {
        Length::Stated(length) => source.take(length)?,
        Length::Chunked => chunks(&mut source)?,
        Length::UntilClosed => {
            while source.bytes.len() <= BODY_BYTES_MAX {
                match source.more() {
                    Ok(()) => {}
                    Err(Error::Cut) => break,
                    Err(error) => return Err(error),
                }
            }
            let length = source.bytes.len();
            source.take(length)?
        }
    };
    Ok(Answer { status: head.status, retry_after_s: head.retry_after_s, body })
}

fn head(bytes: &[u8]) -> Result<Option<Head>, Error> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let len = match response.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Error::Malformed),
    };
    let status = response.code.ok_or(Error::Malformed)?;
    let values = |name: &str| {
        let named = response.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| std::str::from_utf8(header.value).map(str::trim)).collect::<Result<Vec<_>, _>>()
    };
    let values = |name| values(name).map_err(|_| Error::Malformed);
    let length = match (&*values("transfer-encoding")?, &*values("content-length")?) {
        ([], []) if matches!(status, 204 | 304) => Length::Stated(0),
        ([], []) => Length::UntilClosed,
        ([], [length]) => Length::Stated(length.parse().map_err(|_| Error::Malformed)?),
        ([coding], []) if coding.eq_ignore_ascii_case("chunked") => Length::Chunked,
        _ => return Err(Error::Malformed),
    };
    let retry_after_s = values("retry-after")?.first().and_then(|seconds| seconds.parse().ok());
    Ok(Some(Head { status, retry_after_s, length, len }))
}

fn chunks(source: &mut Source<'_, impl Read>) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut body = Zeroizing::new(Vec::new());
    loop {
        let (start, length) = loop {
            match httparse::parse_chunk_size(&source.bytes).map_err(|_| Error::Malformed)? {
                httparse::Status::Complete(chunk) => break chunk,
                httparse::Status::Partial if source.bytes.len() > HEAD_BYTES_MAX => {
                    return Err(Error::TooLong);
                }
                httparse::Status::Partial => source.more()?,
            }
        };
        source.consume(start);
        if length == 0 {
            return Ok(body);
        }
        let length = usize::try_from(length).map_err(|_| Error::TooLong)?;
        if body.len().saturating_add(length) > BODY_BYTES_MAX {
            return Err(Error::TooLong);
        }
        body.extend_from_slice(&source.take(length)?);
        if **source.take(2)? != *b"\r\n" {
            return Err(Error::Malformed);
        }
    }
}

/// What was received and not read yet.
struct Source<'a, S> {
    stream: &'a mut S,
    bytes: Zeroizing<Vec<u8>>,
}

impl<S: Read> Source<'_, S> {
    /// Receives some more.
    fn more(&mut self) -> Result<(), Error> {
        let mut room = Zeroizing::new([0; 4096]);
        match self.stream.read(&mut *room) {
            Ok(0) => Err(Error::Cut),
            // The server closed the connection without saying so in TLS: what came before counts by its length.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Error::Cut),
            Ok(length) => {
                self.bytes.extend_from_slice(&room[..length]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(Error::Io(error)),
        }
    }

    fn consume(&mut self, length: usize) {
        self.bytes.drain(..length);
    }

    fn take(&mut self, length: usize) -> Result<Zeroizing<Vec<u8>>, Error> {
        if length > BODY_BYTES_MAX {
            return Err(Error::TooLong);
        }
        while self.bytes.len() < length {
            self.more()?;
        }
        let taken = Zeroizing::new(self.bytes[..length].to_vec());
        self.consume(length);
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives its bytes `step` at a time.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(self.0.len()).min(out.len());
            out[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    fn parse(text: &str, step: usize) -> Result<Answer, Error> {
        read(&mut Slow(text.as_bytes(), step))
    }

    #[test]
    fn every_way_to_end_a_body_is_known() {
        let answers = [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, and more",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\nhello",
        ];
        for (answer, step) in answers.iter().flat_map(|answer| [1, 7, 4096].map(|step| (answer, step))) {
            let answer = parse(answer, step).unwrap();
            assert_eq!((answer.status, &**answer.body), (200, &b"hello"[..]));
        }
        let busy = parse("HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n", 3).unwrap();
        assert_eq!((busy.status, busy.retry_after_s, busy.body.len()), (503, Some(7), 0));
    }

    #[test]
    fn what_is_cut_long_or_strange_is_an_error() {
        let cut = parse("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell", 4096);
        assert!(matches!(cut, Err(Error::Cut)));
        assert!(matches!(parse("HTTP/1.1 200", 4096), Err(Error::Cut)));
        let long = parse("HTTP/1.1 200 OK\r\ncontent-length: 999999999\r\n\r\n", 4096);
        assert!(matches!(long, Err(Error::TooLong)));
        let chunk = parse("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffff\r\n", 4096);
        assert!(matches!(chunk, Err(Error::TooLong)));
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(3 * HEAD_BYTES_MAX));
        assert!(matches!(parse(&endless, 4096), Err(Error::TooLong)));
        let both = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
        assert!(matches!(parse(both, 4096), Err(Error::Malformed)));
        assert!(matches!(parse("SSH-2.0-x\r\n\r\n", 4096), Err(Error::Malformed)));
    }

    proptest! {
        #[test]
        fn anything_is_an_answer_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400), kind in 0..3) {
            let heads = ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"];
            let text = [heads[usize::try_from(kind).unwrap()].as_bytes(), &bytes].concat();
            let _ = read(&mut Slow(&text, 64));
        }
    }
}
