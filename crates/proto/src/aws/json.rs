//! Strict JSON: UTF-8, no duplicate names, bounded depth; read and written without an intermediate tree.

use std::borrow::Cow;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyhearth_core::request::Secret;
use keyhearth_core::time::Time;
use zeroize::Zeroizing;

use super::error::{Exception, Kind};

/// How deep arrays and objects may lie in each other.
pub const DEPTH_MAX: usize = 16;

/// A cursor over one JSON text.
pub struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

/// What a value begins with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// `"`
    Text,
    /// A digit or `-`.
    Number,
    /// `true`
    True,
    /// `false`
    False,
    /// `null`
    Null,
    /// `{`
    Object,
    /// `[`
    Array,
}

/// The length up to the quote that ends a string.
fn quoted_len(bytes: &[u8]) -> usize {
    let mut len = 0;
    while let Some(&byte) = bytes.get(len).filter(|&&byte| byte != b'"') {
        len += if byte == b'\\' { 2 } else { 1 };
    }
    len.min(bytes.len())
}

fn malformed(message: &str) -> Exception {
    Exception::new(Kind::Serialization, message)
}

impl<'a> Reader<'a> {
    /// Begins to read.
    ///
    /// # Errors
    /// [`Kind::Serialization`] for what is not UTF-8.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Exception> {
        let text = std::str::from_utf8(bytes).map_err(|_| malformed("The body is not UTF-8"))?;
        Ok(Self { text, at: 0, depth: 0 })
    }

    /// Where the cursor stands.
    pub const fn at(&self) -> usize {
        self.at
    }

    /// What was read since `start`, to be read again.
    pub fn since(&self, start: usize) -> Reader<'a> {
        Reader { text: &self.text[start..self.at], at: 0, depth: 0 }
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.byte(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        self.space();
        let here = self.byte() == Some(byte);
        self.at += usize::from(here);
        here
    }

    fn expect(&mut self, byte: u8) -> Result<(), Exception> {
        if self.eat(byte) { Ok(()) } else { Err(malformed("Unexpected token received from parser")) }
    }

    /// Looks at the value that comes.
    pub fn start(&mut self) -> Result<Start, Exception> {
        self.space();
        Ok(match self.byte() {
            Some(b'"') => Start::Text,
            Some(b'-' | b'0'..=b'9') => Start::Number,
            Some(b't') => Start::True,
            Some(b'f') => Start::False,
            Some(b'n') => Start::Null,
            Some(b'{') => Start::Object,
            Some(b'[') => Start::Array,
            Some(_) | None => return Err(malformed("Unexpected token received from parser")),
        })
    }

    /// Demands a kind of value; `wanted` is the kind in Java's words, with its article.
    fn demand(&mut self, start: Start, wanted: &str) -> Result<(), Exception> {
        let found = match self.start()? {
            found if found == start => return Ok(()),
            Start::Text => "STRING_VALUE",
            Start::Number => "NUMBER_VALUE",
            Start::True => "TRUE_VALUE",
            Start::False => "FALSE_VALUE",
            Start::Null => "NULL_VALUE",
            Start::Object => return Err(malformed("Start of structure or map found where not expected")),
            Start::Array => return Err(malformed("Start of list found where not expected")),
        };
        Err(malformed(&format!("{found} can not be converted to {wanted}")))
    }

    /// Steps over `null` if it comes.
    pub fn null(&mut self) -> Result<bool, Exception> {
        if self.start()? != Start::Null {
            return Ok(false);
        }
        self.word("null")?;
        Ok(true)
    }

    fn word(&mut self, word: &str) -> Result<(), Exception> {
        if !self.text[self.at..].starts_with(word) {
            return Err(malformed("Unexpected token received from parser"));
        }
        self.at += word.len();
        Ok(())
    }

    /// Reads a string; borrowed unless it has escapes.
    pub fn text(&mut self) -> Result<Cow<'a, str>, Exception> {
        self.demand(Start::Text, "a String")?;
        self.quoted()
    }

    fn quoted(&mut self) -> Result<Cow<'a, str>, Exception> {
        self.expect(b'"')?;
        let start = self.at;
        let run = self.plain()?;
        if self.byte() == Some(b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(run));
        }
        // A string decodes to no more bytes than it has here: this never grows and leaves no copy behind.
        let mut text = Zeroizing::new(String::with_capacity(quoted_len(&self.text.as_bytes()[start..])));
        text.push_str(run);
        loop {
            if self.byte() == Some(b'"') {
                self.at += 1;
                return Ok(Cow::Owned(std::mem::take(&mut *text)));
            }
            self.at += 1;
            text.push(self.escaped()?);
            text.push_str(self.plain()?);
        }
    }

    /// Steps over characters that stand for themselves, up to a quote or a backslash.
    fn plain(&mut self) -> Result<&'a str, Exception> {
        let rest = &self.text.as_bytes()[self.at..];
        let stop = rest.iter().position(|&c| c == b'"' || c == b'\\' || c < 0x20);
        let len = stop.filter(|&len| rest[len] >= 0x20).ok_or_else(|| malformed("A string does not end"))?;
        let run = &self.text[self.at..self.at + len];
        self.at += len;
        Ok(run)
    }

    /// Reads what follows a backslash.
    fn escaped(&mut self) -> Result<char, Exception> {
        let wrong = || malformed("A string has an unknown escape");
        let escape = self.byte().ok_or_else(wrong)?;
        self.at += 1;
        Ok(match escape {
            b'"' | b'\\' | b'/' => char::from(escape),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = self.unit().ok_or_else(wrong)?;
                if (0xd800..0xdc00).contains(&high) && self.text[self.at..].starts_with("\\u") {
                    self.at += 2;
                    let low = self.unit().filter(|low| (0xdc00..0xe000).contains(low)).ok_or_else(wrong)?;
                    char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00)).ok_or_else(wrong)?
                } else {
                    char::from_u32(high).ok_or_else(wrong)?
                }
            }
            _ => return Err(wrong()),
        })
    }

    /// Reads four hexadecimal digits.
    fn unit(&mut self) -> Option<u32> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4)?;
        self.at += 4;
        digits.iter().try_fold(0, |unit, &c| Some(unit << 4 | char::from(c).to_digit(16)?))
    }

    /// Reads base64 text; the bytes are wiped when dropped.
    pub fn blob(&mut self) -> Result<Secret, Exception> {
        self.demand(Start::Text, "a ByteBuffer")?;
        let wrong = || malformed("STRING_VALUE can not be converted to a ByteBuffer: it is not base64");
        let decode = |text: &str| {
            let mut bytes = Zeroizing::new(vec![0; base64::decoded_len_estimate(text.len())]);
            let len = STANDARD.decode_slice(text, &mut bytes).map_err(|_| wrong())?;
            bytes.truncate(len);
            Ok(bytes)
        };
        match self.quoted()? {
            Cow::Borrowed(text) => decode(text),
            Cow::Owned(text) => decode(&Zeroizing::new(text)),
        }
    }

    /// Reads `true` or `false`.
    pub fn boolean(&mut self) -> Result<bool, Exception> {
        let value = self.start()? == Start::True;
        self.demand(if value { Start::True } else { Start::False }, "a Boolean")?;
        self.word(if value { "true" } else { "false" })?;
        Ok(value)
    }

    /// Reads a number without a fraction, of 32 bits.
    pub fn integer(&mut self) -> Result<i32, Exception> {
        self.demand(Start::Number, "an Integer")?;
        let number = self.number()?;
        number.parse().map_err(|_| malformed("NUMBER_VALUE can not be converted to an Integer"))
    }

    /// Reads seconds since 1970 with a fraction, to the nearest millisecond. What lies before 1970 or after
    /// [`Time::MAX`] becomes that.
    pub fn time(&mut self) -> Result<Time, Exception> {
        self.demand(Start::Number, "a Date")?;
        let seconds: f64 = self.number()?.parse().unwrap_or(0.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "casts from floats saturate"
        )]
        let ms = (seconds * 1000.0).round() as u64;
        Ok(Time::from_unix_ms(ms).min(Time::MAX))
    }

    /// Steps over a number (RFC 8259 §6).
    fn number(&mut self) -> Result<&'a str, Exception> {
        let start = self.at;
        self.at += usize::from(self.byte() == Some(b'-'));
        let leading_zero = self.byte() == Some(b'0');
        let whole = self.digits()?;
        if leading_zero && whole > 1 {
            return Err(malformed("A number begins with 0"));
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.byte(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(&self.text[start..self.at])
    }

    fn digits(&mut self) -> Result<usize, Exception> {
        let rest = &self.text.as_bytes()[self.at..];
        let len = rest.iter().position(|c| !c.is_ascii_digit()).unwrap_or(rest.len());
        self.at += len;
        if len == 0 { Err(malformed("A number has no digits")) } else { Ok(len) }
    }

    fn enter(&mut self) -> Result<(), Exception> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(malformed("The body is nested too deeply"));
        }
        Ok(())
    }

    /// Enters an object; its members come from [`Reader::name`].
    pub fn open_object(&mut self) -> Result<(), Exception> {
        self.demand(Start::Object, "a structure")?;
        self.enter()?;
        self.expect(b'{')
    }

    /// Enters an array; whether there is an element says [`Reader::element`].
    pub fn open_array(&mut self) -> Result<(), Exception> {
        if self.start()? != Start::Array {
            return Err(malformed("Expected list or null"));
        }
        self.enter()?;
        self.expect(b'[')
    }

    /// Whether there is one more, the `first` or after a comma; if not, leaves the object or array.
    fn more(&mut self, first: bool, close: u8) -> Result<bool, Exception> {
        if self.eat(close) {
            self.depth -= 1;
            return Ok(false);
        }
        if !first {
            self.expect(b',')?;
        }
        Ok(true)
    }

    /// Reads the next name of an object; its value comes then.
    pub fn name(&mut self, first: bool) -> Result<Option<Cow<'a, str>>, Exception> {
        if !self.more(first, b'}')? {
            return Ok(None);
        }
        self.space();
        let name = self.quoted()?;
        self.expect(b':')?;
        Ok(Some(name))
    }

    /// Whether an array has another element, which comes then.
    pub fn element(&mut self, first: bool) -> Result<bool, Exception> {
        self.more(first, b']')
    }

    /// Steps over any value.
    pub fn skip(&mut self) -> Result<(), Exception> {
        match self.start()? {
            Start::Text => self.quoted().map(drop),
            Start::Number => self.number().map(drop),
            Start::True | Start::False => self.boolean().map(drop),
            Start::Null => self.null().map(drop),
            Start::Object => {
                self.open_object()?;
                let mut names = Vec::new();
                while let Some(name) = self.name(names.is_empty())? {
                    names.push(name);
                    self.skip()?;
                }
                distinct(names)
            }
            Start::Array => {
                self.open_array()?;
                let mut first = true;
                while self.element(first)? {
                    first = false;
                    self.skip()?;
                }
                Ok(())
            }
        }
    }

    /// Demands the end of the text.
    pub fn end(&mut self) -> Result<(), Exception> {
        self.space();
        if self.at < self.text.len() { Err(malformed("There is more after the body")) } else { Ok(()) }
    }
}

/// A name came twice.
pub fn duplicate() -> Exception {
    malformed("A name stands twice in one structure or map")
}

/// Refuses names that come twice in one object.
pub fn distinct(mut names: Vec<Cow<'_, str>>) -> Result<(), Exception> {
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) { Err(duplicate()) } else { Ok(()) }
}

/// Room for a usual answer.
const ANSWER_BYTES: usize = 1024;

/// Writes one JSON text. What it holds is wiped, also what it leaves behind by growing.
pub struct Writer(Secret);

impl Writer {
    /// An empty text.
    pub fn new() -> Self {
        Self(Zeroizing::new(Vec::with_capacity(ANSWER_BYTES)))
    }

    /// The text.
    pub fn finish(self) -> Secret {
        self.0
    }

    fn reserve(&mut self, len: usize) {
        let needed = self.0.len() + len;
        if needed > self.0.capacity() {
            let mut grown = Zeroizing::new(Vec::with_capacity(needed.max(self.0.capacity() * 2)));
            grown.extend_from_slice(&self.0);
            self.0 = grown;
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    /// Writes a comma where one is due.
    fn separate(&mut self) {
        if !matches!(self.0.last(), None | Some(b'{' | b'[' | b':')) {
            self.push(b",");
        }
    }

    /// Begins an object or array.
    pub fn open(&mut self, bracket: u8) {
        self.separate();
        self.push(&[bracket]);
    }

    /// Ends it.
    pub fn close(&mut self, bracket: u8) {
        self.push(&[bracket]);
    }

    /// Writes a member's name.
    pub fn name(&mut self, name: &str) {
        self.text(name);
        self.push(b":");
    }

    /// Writes a string.
    pub fn text(&mut self, text: &str) {
        self.separate();
        self.reserve(text.len() + 2);
        self.push(b"\"");
        let mut rest = text;
        while let Some(at) = rest.find(|c: char| c == '"' || c == '\\' || c < ' ') {
            self.push(&rest.as_bytes()[..at]);
            match rest.as_bytes()[at] {
                b'"' => self.push(b"\\\""),
                b'\\' => self.push(b"\\\\"),
                b'\n' => self.push(b"\\n"),
                control => self.push(format!("\\u{control:04x}").as_bytes()),
            }
            rest = &rest[at + 1..];
        }
        self.push(rest.as_bytes());
        self.push(b"\"");
    }

    /// Writes bytes in base64.
    pub fn blob(&mut self, bytes: &[u8]) {
        self.separate();
        let len =
            base64::encoded_len(bytes.len(), true).expect("what is in memory is far from usize::MAX / 2");
        self.reserve(len + 2);
        self.push(b"\"");
        let at = self.0.len();
        self.0.resize(at + len, 0);
        STANDARD.encode_slice(bytes, &mut self.0[at..]).expect("the room was measured");
        self.push(b"\"");
    }

    /// Writes what prints as JSON by itself.
    pub fn plain(&mut self, value: impl std::fmt::Display) {
        self.separate();
        write!(self, "{value}").expect("memory does not fail");
    }

    /// Writes seconds since 1970 with milliseconds.
    pub fn time(&mut self, time: Time) {
        let ms = time.unix_ms();
        self.plain(format_args!("{}.{:03}", ms / 1000, ms % 1000));
    }
}

impl std::fmt::Write for Writer {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}
