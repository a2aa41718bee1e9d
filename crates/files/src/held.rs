//! Stanzas for who asks Keyhearth: the file's key, wrapped by a key that never leaves the server, or kept there itself.
//!
//! What each is made of: `docs/formats/files.md`. Not here: asking.

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Hrp};

use crate::age::{MAC_LINE_BYTES, Stanza};
use crate::{Error, hex};

const WRAPPED: &str = "keyhearth/wrap1";
const KEPT: &str = "keyhearth/ref1";
const PADDING: &str = "keyhearth/pad";
const RECIPIENT: Hrp = Hrp::parse_unchecked("age1keyhearth");
const IDENTITY: Hrp = Hrp::parse_unchecked("age-plugin-keyhearth-");
/// Bytes that the length of a padded header is a multiple of.
const PADDED_BYTES: usize = 512;
/// Characters of a line of a body.
const COLUMNS: usize = 64;
/// Stanzas of a header that are asked about: each is a request, which whoever writes the header causes.
pub const HELD_MAX: usize = 8;
/// The longest name of a key, in bytes.
const KEY_BYTES_MAX: usize = 256;
/// The longest wrapped file key that is read, in bytes.
const WRAPPED_BYTES_MAX: usize = 1024;

hex::digits! {
    /// What a file is, whatever it is called and however often it is sealed anew: 16 random bytes, 32 hexadecimal digits.
    FileId = "keyhearth/file-id"
}

impl FileId {
    /// Its bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    fn of(argument: &str) -> Result<Self, Error> {
        const RULE: Error = Error::Malformed("a file's id is not 32 hexadecimal digits in lower case");
        Self::read(argument).ok_or(RULE)
    }
}

/// A file's key, wrapped by a key of Keyhearth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapped {
    /// The id of the key that wrapped it.
    pub key: String,
    /// The file that the key belongs to; the wrap is of this file alone.
    pub file: FileId,
    /// When the file's key was made, in seconds since 1970: what is older than a theft has to be sealed anew.
    pub made: u64,
    /// What the server made of the file's key.
    pub ciphertext: Vec<u8>,
}

impl Wrapped {
    /// Its stanza.
    #[must_use]
    pub fn to_stanza(&self) -> Stanza {
        Stanza::new(
            WRAPPED,
            &[&self.key, &self.file.to_string(), &self.made.to_string()],
            self.ciphertext.clone(),
        )
    }

    /// What the one stanza among these says, if there is no other: nobody else can open the file then.
    #[must_use]
    pub fn alone(stanzas: &[Stanza]) -> Option<Self> {
        let mut stanzas = stanzas.iter().filter(|stanza| stanza.tag != PADDING);
        let stanza = stanzas.next().filter(|stanza| stanza.tag == WRAPPED)?;
        if stanzas.next().is_some() { None } else { Self::read(stanza).ok() }
    }

    fn read(stanza: &Stanza) -> Result<Self, Error> {
        let [key, file, made] = &stanza.arguments[..] else {
            return Err(Error::Malformed("a stanza of keyhearth/wrap1 has not three arguments"));
        };
        let is_number =
            made.bytes().all(|byte| byte.is_ascii_digit()) && (made == "0" || !made.starts_with('0'));
        let made = made.parse().ok().filter(|_| is_number);
        let made = made.ok_or(Error::Malformed("the time in a stanza of keyhearth/wrap1 is no number"))?;
        if key.len() > KEY_BYTES_MAX || stanza.body.len() > WRAPPED_BYTES_MAX || stanza.body.is_empty() {
            return Err(Error::Malformed("a stanza of keyhearth/wrap1 is empty or too long"));
        }
        Ok(Self { key: key.clone(), file: FileId::of(file)?, made, ciphertext: stanza.body.clone() })
    }
}

/// A file's key that the server keeps: the file names it and has nothing of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The id of the key that it is kept under.
    pub key: String,
    /// The file that it is of, which it is found by.
    pub file: FileId,
}

impl Kept {
    /// Its stanza.
    #[must_use]
    pub fn to_stanza(&self) -> Stanza {
        Stanza::new(KEPT, &[&self.key, &self.file.to_string()], Vec::new())
    }

    fn read(stanza: &Stanza) -> Result<Self, Error> {
        let [key, file] = &stanza.arguments[..] else {
            return Err(Error::Malformed("a stanza of keyhearth/ref1 has not two arguments"));
        };
        if key.len() > KEY_BYTES_MAX || !stanza.body.is_empty() {
            return Err(Error::Malformed("a stanza of keyhearth/ref1 is too long"));
        }
        Ok(Self { key: key.clone(), file: FileId::of(file)? })
    }
}

/// What the server opens: in which of two ways it has to do with a file's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// It wraps it.
    Wrapped(Wrapped),
    /// It keeps it.
    Kept(Kept),
}

impl Held {
    /// What each of the first [`HELD_MAX`] of these stanzas says; those of other kinds are left out.
    ///
    /// # Errors
    /// [`Error::Malformed`] if a stanza of these kinds breaks its rules.
    pub fn all(stanzas: &[Stanza]) -> Result<Vec<Self>, Error> {
        let ours = stanzas.iter().filter_map(|stanza| match &*stanza.tag {
            WRAPPED => Some(Wrapped::read(stanza).map(Self::Wrapped)),
            KEPT => Some(Kept::read(stanza).map(Self::Kept)),
            _ => None,
        });
        ours.take(HELD_MAX).collect()
    }

    /// The id of the key that wraps it, or that it is kept under.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Wrapped(wrapped) => &wrapped.key,
            Self::Kept(kept) => &kept.key,
        }
    }

    /// The file that it is of.
    #[must_use]
    pub fn file(&self) -> FileId {
        match self {
            Self::Wrapped(wrapped) => wrapped.file,
            Self::Kept(kept) => kept.file,
        }
    }
}

/// What `age` seals to so that the key of this name wraps: `age1keyhearth1…`.
///
/// # Errors
/// [`Error::Invalid`] if the name is longer than 256 bytes.
pub fn recipient(key: &str) -> Result<String, Error> {
    const RULE: Error = Error::Invalid("the name of a key has 1 to 256 bytes");
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(RULE);
    }
    bech32::encode::<Bech32>(RECIPIENT, key.as_bytes()).map_err(|_| RULE)
}

/// The name of the key in what [`recipient`] made.
///
/// # Errors
/// [`Error::Invalid`] if it did not make it.
pub fn read_recipient(text: &str) -> Result<String, Error> {
    const RULE: Error =
        Error::Invalid("not a recipient for a key of Keyhearth: age1keyhearth1 and more characters");
    let checked = CheckedHrpstring::new::<Bech32>(text).ok().filter(|checked| checked.hrp() == RECIPIENT);
    let bytes: Vec<u8> = checked.ok_or(RULE)?.byte_iter().take(KEY_BYTES_MAX + 1).collect();
    let key = String::from_utf8(bytes).map_err(|_| RULE)?;
    if recipient(&key)?.eq_ignore_ascii_case(text) { Ok(key) } else { Err(RULE) }
}

/// What `age` opens with by asking a server. It holds nothing: who asks proves itself in another way.
#[must_use]
pub fn identity() -> String {
    bech32::encode_upper::<Bech32>(IDENTITY, &[]).unwrap_or_default()
}

/// Whether this is [`identity`].
#[must_use]
pub fn is_identity(text: &str) -> bool {
    text == identity()
}

/// Appends a stanza that means nothing, so that the header is a multiple of 512 bytes and can be replaced where it lies
/// by one with other stanzas. One that was there is taken away first.
pub fn pad(stanzas: &mut Vec<Stanza>, header_bytes_min: usize) {
    stanzas.retain(|stanza| stanza.tag != PADDING);
    let mut text = String::new();
    stanzas.iter().for_each(|stanza| stanza.write(&mut text));
    let len = "age-encryption.org/v1\n".len() + text.len() + MAC_LINE_BYTES;
    // The arrow, the tag, one character of an argument, the ends of two lines.
    let least = 3 + PADDING.len() + 2 + 2;
    let whole = (len + least).next_multiple_of(PADDED_BYTES).max(header_bytes_min);
    let room = whole - len - least;
    let (lines, more) = (room / (COLUMNS + 1), room % (COLUMNS + 1));
    stanzas.push(Stanza::new(PADDING, &[&"-".repeat(1 + more)], vec![0; lines * COLUMNS / 4 * 3]));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::age::{FileKey, Header};

    proptest! {
        #[test]
        fn headers_of_any_length_are_padded(body in 0usize..800, min in 0usize..4) {
            let key = FileKey::random().unwrap();
            let mut stanzas = vec![Stanza::new("a", &["b"], vec![1; body])];
            pad(&mut stanzas, 0);
            pad(&mut stanzas, min * PADDED_BYTES);
            let text = Header::new(&key, stanzas.clone()).unwrap().to_text();
            prop_assert!(text.len().is_multiple_of(PADDED_BYTES) && text.len() >= min * PADDED_BYTES);
            prop_assert_eq!(stanzas.len(), 2);
            prop_assert_eq!(Header::read(text.as_bytes()).unwrap().0.stanzas, stanzas);
        }
    }

    #[test]
    fn recipients_name_keys_and_the_identity_nothing() {
        for key in ["files", "019aa2d4-7c1e-7b8e-9a44-0d6c1b2f3a55", &"k".repeat(KEY_BYTES_MAX)] {
            let text = recipient(key).unwrap();
            assert!(text.starts_with("age1keyhearth1"));
            assert_eq!(read_recipient(&text).unwrap(), key);
            assert!(read_recipient(&text[..text.len() - 1]).is_err());
        }
        assert!(recipient("").is_err() && recipient(&"k".repeat(KEY_BYTES_MAX + 1)).is_err());
        assert!(identity().starts_with("AGE-PLUGIN-KEYHEARTH-1") && is_identity(&identity()));
        assert!(read_recipient(&identity()).is_err() && !is_identity("AGE-PLUGIN-KEYHEARTH-1"));
    }

    #[test]
    fn what_was_wrapped_is_found_among_others() {
        let file = FileId::random().unwrap();
        let wrapped = Wrapped { key: "key".to_owned(), file, made: 7, ciphertext: vec![1; 121] };
        let stanzas = [Stanza::new("X25519", &[], vec![]), wrapped.to_stanza()];
        assert_eq!(Held::all(&stanzas).unwrap(), [Held::Wrapped(wrapped)]);
        assert_eq!(Wrapped::alone(&stanzas), None);
        let mut alone = vec![stanzas[1].clone()];
        pad(&mut alone, 0);
        assert_eq!(Wrapped::alone(&alone).map(Held::Wrapped), Held::all(&stanzas).unwrap().pop());
        alone.push(stanzas[1].clone());
        assert_eq!(Wrapped::alone(&alone), None);
        let kept = Kept { key: "key".to_owned(), file };
        assert_eq!(Wrapped::alone(&[kept.to_stanza()]), None);
        assert_eq!(Held::all(&[kept.to_stanza()]).unwrap(), [Held::Kept(kept)]);
        let many = vec![Stanza::new(KEPT, &["key", &file.to_string()], vec![]); HELD_MAX + 1];
        assert_eq!(Held::all(&many).unwrap().len(), HELD_MAX);
        let id = file.to_string();
        let long = "k".repeat(KEY_BYTES_MAX + 1);
        for (arguments, body) in [
            (vec!["key"], vec![]),
            (vec![&*id], vec![]),
            (vec!["key", &id, "7"], vec![]),
            (vec!["key", &id[1..]], vec![]),
            (vec![&*long, &id], vec![]),
            (vec!["key", &id], vec![1]),
        ] {
            assert!(Held::all(&[Stanza::new(KEPT, &arguments, body)]).is_err(), "{arguments:?}");
        }
        for (arguments, body) in [
            (vec!["key", &id], vec![1]),
            (vec!["key", &id, "7", "more"], vec![1]),
            (vec!["key", &id[1..], "7"], vec![1]),
            (vec!["key", &id, "+7"], vec![1]),
            (vec!["key", &id, "07"], vec![1]),
            (vec!["key", &id, "99999999999999999999"], vec![1]),
            (vec!["key", &id, "7"], vec![]),
            (vec!["key", &id, "7"], vec![0; WRAPPED_BYTES_MAX + 1]),
        ] {
            assert!(Held::all(&[Stanza::new(WRAPPED, &arguments, body)]).is_err(), "{arguments:?}");
        }
        assert!(FileId::read(&id.to_uppercase()).is_none() || id.bytes().all(|byte| byte.is_ascii_digit()));
    }
}
