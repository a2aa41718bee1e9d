//! Stanzas: what a header holds for each who may open the file, and what plugins and `age` say to each other.
//!
//! Source: C2SP age §"Recipient stanza"; C2SP age-plugin §"IPC protocol".

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD as BASE64;

use crate::Error;

/// Characters of a full line of a body.
const COLUMNS: usize = 64;
/// Bytes that a full line stands for.
const LINE_BYTES: usize = COLUMNS / 4 * 3;
/// The longest body that is read, in bytes.
pub const BODY_BYTES_MAX: usize = 16 * 1024;
/// The longest first line that is read, in bytes.
const ARGUMENTS_BYTES_MAX: usize = 8 * 1024;
const LINE: Error = Error::Malformed("a line of the header is no line of a stanza");

/// One stanza.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stanza {
    /// What kind it is.
    pub tag: String,
    /// What follows on its first line.
    pub arguments: Vec<String>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Stanza {
    /// A stanza. `tag` and `arguments` are of visible ASCII, at least one character each.
    #[must_use]
    pub fn new(tag: &str, arguments: &[&str], body: Vec<u8>) -> Self {
        Self { tag: tag.to_owned(), arguments: arguments.iter().map(|&text| text.to_owned()).collect(), body }
    }

    /// Appends the stanza's text.
    pub fn write(&self, text: &mut String) {
        text.push_str("->");
        for argument in std::iter::once(&self.tag).chain(&self.arguments) {
            text.push(' ');
            text.push_str(argument);
        }
        text.push('\n');
        for line in self.body.chunks(LINE_BYTES) {
            BASE64.encode_string(line, text);
            text.push('\n');
        }
        // The last line is shorter than the others, though it be empty.
        if self.body.len().is_multiple_of(LINE_BYTES) {
            text.push('\n');
        }
    }
}

/// Takes the first line of `rest`, without its end.
pub(super) fn line<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
    let end = rest.iter().position(|&byte| byte == b'\n')?;
    let (line, after) = rest.split_at(end);
    *rest = &after[1..];
    Some(line)
}

/// Takes a stanza from the front of `rest`.
///
/// # Errors
/// [`Error::Malformed`]; `rest` is then anywhere.
pub fn read_stanza(rest: &mut &[u8]) -> Result<Stanza, Error> {
    let first = line(rest).ok_or(Error::Malformed("the header ends in a stanza"))?;
    if first.len() > ARGUMENTS_BYTES_MAX {
        return Err(Error::Malformed("the first line of a stanza is longer than 8 KiB"));
    }
    let arguments = first.strip_prefix(b"-> ").ok_or(LINE)?;
    let mut arguments = arguments.split(|&byte| byte == b' ').map(|argument| {
        let visible = !argument.is_empty() && argument.iter().all(u8::is_ascii_graphic);
        let text = visible.then(|| str::from_utf8(argument).ok()).flatten();
        text.map(str::to_owned).ok_or(Error::Malformed("an argument of a stanza is not of visible ASCII"))
    });
    let tag = arguments.next().ok_or(LINE)??;
    let arguments = arguments.collect::<Result<_, _>>()?;
    let mut body = Vec::new();
    loop {
        let text = line(rest).ok_or(Error::Malformed("the header ends in a stanza"))?;
        if text.len() > COLUMNS || body.len() > BODY_BYTES_MAX {
            return Err(Error::Malformed("the body of a stanza is too long"));
        }
        BASE64
            .decode_vec(text, &mut body)
            .map_err(|_| Error::Malformed("the body of a stanza is no base64"))?;
        if text.len() < COLUMNS {
            return Ok(Stanza { tag, arguments, body });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_written_is_read(
            tag in "[!-~]{1,40}",
            arguments in prop::collection::vec("[!-~]{1,20}", 0..5),
            body in prop::collection::vec(any::<u8>(), 0..200),
            after in prop::collection::vec(any::<u8>(), 0..10),
        ) {
            let stanza = Stanza { tag, arguments, body };
            let mut text = String::new();
            stanza.write(&mut text);
            let bytes = [text.as_bytes(), &after].concat();
            let mut rest = &bytes[..];
            prop_assert_eq!(read_stanza(&mut rest).unwrap(), stanza);
            prop_assert_eq!(rest, &after[..]);
        }
    }

    #[test]
    fn a_body_without_end_is_refused() {
        let text =
            format!("-> a\n{}", format!("{}\n", "A".repeat(COLUMNS)).repeat(BODY_BYTES_MAX / LINE_BYTES + 2));
        assert!(matches!(read_stanza(&mut text.as_bytes()), Err(Error::Malformed(_))));
        let text = format!("-> a {}\n\n", "a".repeat(ARGUMENTS_BYTES_MAX));
        assert!(matches!(read_stanza(&mut text.as_bytes()), Err(Error::Malformed(_))));
    }
}
