//! Files in text, as people send them by mail.
//!
//! Read and not written. Strict: apart from white space around it, one file has one text.
//!
//! Source: C2SP age §"ASCII armor"; RFC 7468 §3, Figure 3.

use std::io::{self, BufRead, Read};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// What a file in text begins with, white space aside.
pub const BEGIN: &str = "-----BEGIN AGE ENCRYPTED FILE-----";
const END: &str = "-----END AGE ENCRYPTED FILE-----";
/// Characters of a full line.
const COLUMNS: usize = 64;
/// The longest line that is looked at, in bytes; and how much white space may be around the file.
const LINE_BYTES_MAX: u64 = 1024;

/// Reads the bytes of a file in text. What breaks a rule is an error of kind [`io::ErrorKind::InvalidData`].
pub struct Armored<R> {
    text: R,
    state: State,
    bytes: Vec<u8>,
    at: usize,
}

#[derive(PartialEq)]
enum State {
    Before,
    Full,
    Short,
    Done,
}

impl<R: BufRead> Armored<R> {
    /// A reader of the file in `text`.
    pub fn new(text: R) -> Self {
        Self { text, state: State::Before, bytes: Vec::new(), at: 0 }
    }

    /// The next line without its end; `None` at the end of the text.
    fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = String::new();
        if (&mut self.text).take(LINE_BYTES_MAX).read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let end = line.strip_suffix('\n').unwrap_or(&line);
        Ok(Some(end.strip_suffix('\r').unwrap_or(end).to_owned()))
    }

    /// Decodes the next line, if there is one.
    fn step(&mut self) -> io::Result<()> {
        if self.state == State::Before {
            let mut left = LINE_BYTES_MAX;
            loop {
                let line = self.line()?.ok_or_else(|| invalid("it has no first line"))?;
                if line.trim_ascii_start() == BEGIN {
                    break;
                }
                left = left.saturating_sub(line.len() as u64 + 1);
                if !line.trim_ascii().is_empty() || left == 0 {
                    return Err(invalid("it does not begin with the first line of a file in text"));
                }
            }
            self.state = State::Full;
        }
        let line = self.line()?.ok_or_else(|| invalid("its last line is missing"))?;
        if line == END {
            self.state = State::Done;
            return self.nothing_more();
        }
        if self.state == State::Short || line.is_empty() || line.len() > COLUMNS {
            return Err(invalid("a line is longer or shorter than it may be"));
        }
        if line.len() < COLUMNS {
            self.state = State::Short;
        }
        self.bytes = BASE64_STANDARD.decode(line.as_bytes()).map_err(|_| invalid("a line is no base64"))?;
        self.at = 0;
        // Padding ends it, also at the end of a full line.
        if line.ends_with('=') {
            self.state = State::Short;
        }
        Ok(())
    }

    fn nothing_more(&mut self) -> io::Result<()> {
        let mut left = LINE_BYTES_MAX;
        while let Some(line) = self.line()? {
            left = left.saturating_sub(line.len() as u64 + 1);
            if !line.trim_ascii().is_empty() || left == 0 {
                return Err(invalid("something follows its last line"));
            }
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Armored<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.bytes.len() && self.state != State::Done {
            self.step()?;
        }
        let read = (&self.bytes[self.at..]).read(out)?;
        self.at += read;
        Ok(read)
    }
}

fn invalid(rule: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not a sealed file in text: {rule}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        Armored::new(text.as_bytes()).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    #[test]
    fn one_file_has_one_text() {
        let full = "QUJD".repeat(16);
        let bytes = decode(&format!(" \r\n{BEGIN}\r\n{full}\r\n{full}\nQUI=\n{END}\n \n")).unwrap();
        assert_eq!(bytes, ["ABC".repeat(32).as_bytes(), b"AB"].concat());
        assert_eq!(decode(&format!("{BEGIN}\n{full}\n{END}")).unwrap(), "ABC".repeat(16).as_bytes());
        for text in [
            String::new(),
            format!("x\n{BEGIN}\nQUI=\n{END}"),
            format!("{BEGIN}\nQUI=\n"),
            format!("{BEGIN}\nQUI=\n{END}\nx"),
            format!("{BEGIN}\nQUI\n{END}"),
            format!("{BEGIN}\nQUJ=\n{END}"),
            format!("{BEGIN}\n\n{END}"),
            format!("{BEGIN}\nQUJD\nQUJD\n{END}"),
            format!("{BEGIN}\n{full}QUJD\n{END}"),
            format!("{BEGIN}\nVersion: 1\n\nQUJD\n{END}"),
            " ".repeat(2000) + BEGIN,
            "\n".repeat(2000) + BEGIN,
        ] {
            assert!(decode(&text).is_err(), "{text}");
        }
    }
}
