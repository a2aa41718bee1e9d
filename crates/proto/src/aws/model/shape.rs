//! What members are made of: how each shape is read within its limits, written, and described.
//!
//! A value that breaks a limit is noted and reading goes on, so that one answer names all of them; what is
//! not even of the right JSON type ends reading at once.
//!
//! Source: recorded answers of AWS KMS for the words of violations.

use std::fmt::{self, Display};

use crate::aws::error::{Exception, Kind};
use crate::aws::json::{Reader, Writer, distinct, duplicate};

use super::coverage::Field;

/// The most violations that are noted; further ones are not counted.
pub const VIOLATIONS_MAX: usize = 16;
/// The longest value that a violation repeats, in characters; the rest is left out.
pub const ECHO_CHARS_MAX: usize = 4_096;

/// One part of an input while it is read.
pub struct Source<'a> {
    pub(super) reader: Reader<'a>,
    pub(super) violations: Vec<String>,
}

/// Where in the input a value stands.
#[derive(Clone, Copy)]
pub enum Path<'p> {
    /// The body itself.
    Body,
    /// A member, by its name.
    Member(&'p Path<'p>, &'static str),
    /// An element of a list, from 0.
    Element(&'p Path<'p>, usize),
}

impl Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body => Ok(()),
            Self::Member(parent, name) => {
                if !matches!(parent, Self::Body) {
                    write!(f, "{parent}.")?;
                }
                let (first, rest) = name.split_at(1);
                write!(f, "{}{rest}", first.to_ascii_lowercase())
            }
            Self::Element(parent, index) => write!(f, "{parent}.{}.member", index + 1),
        }
    }
}

impl<'a> Source<'a> {
    /// Begins to read a body.
    ///
    /// # Errors
    /// [`Kind::Serialization`] for what is not UTF-8.
    pub(super) fn new(body: &'a [u8]) -> Result<Self, Exception> {
        Ok(Self { reader: Reader::new(body)?, violations: Vec::new() })
    }

    /// Reads the whole body as one structure.
    ///
    /// # Errors
    /// [`Kind::Serialization`] for what is not such a JSON text, [`Kind::Validation`] for broken limits.
    pub(super) fn read<T: Shape>(mut self) -> Result<T::Value, Exception> {
        let value = T::read(&mut self, &Path::Body)?;
        self.reader.end()?;
        value.filter(|_| self.violations.is_empty()).ok_or_else(|| {
            let count = self.violations.len();
            let errors = if count == 1 { "error" } else { "errors" };
            let all = self.violations.join("; ");
            Exception::new(Kind::Validation, format!("{count} validation {errors} detected: {all}"))
        })
    }

    /// Reads an object: `member` reads the value of a name, or answers false to have it ignored.
    ///
    /// # Errors
    /// [`Kind::Serialization`] for another JSON type or a name that comes twice, and what `member` refuses.
    pub(super) fn structure(
        &mut self,
        mut member: impl FnMut(&mut Self, &str) -> Result<bool, Exception>,
    ) -> Result<(), Exception> {
        self.reader.open_object()?;
        let (mut first, mut ignored) = (true, Vec::new());
        while let Some(name) = self.reader.name(first)? {
            first = false;
            if !member(self, &name)? {
                self.reader.skip()?;
                ignored.push(name);
            }
        }
        distinct(ignored)
    }

    /// Reads one of `names`.
    ///
    /// # Errors
    /// [`Kind::Serialization`] for another JSON type.
    pub(super) fn one_of<T>(
        &mut self,
        parse: fn(&str) -> Option<T>,
        names: &[&str],
        at: &Path<'_>,
    ) -> Result<Option<T>, Exception> {
        let name = self.reader.text()?;
        let value = parse(&name);
        if value.is_none() && !self.is_full() {
            self.note(&echo(&name), at, &one_of(names));
        }
        Ok(value)
    }

    /// Whether no more violations are noted, so that nobody need find words for another.
    pub(super) fn is_full(&self) -> bool {
        self.violations.len() >= VIOLATIONS_MAX
    }

    /// Notes a broken limit. `value` stands as AWS prints it: `'…'`, `null`, or nothing for a secret.
    pub(super) fn note(&mut self, value: &str, at: &Path<'_>, rule: &str) {
        if !self.is_full() {
            let space = if value.is_empty() { "" } else { " " };
            let violation = format!("Value{space}{value} at '{at}' failed to satisfy constraint: {rule}");
            self.violations.push(violation);
        }
    }
}

/// Quotes a value for a violation.
pub(super) fn echo(value: &str) -> String {
    let end = value.char_indices().nth(ECHO_CHARS_MAX).map_or(value.len(), |(at, _)| at);
    format!("'{}'", &value[..end])
}

/// The rule of an enumeration.
pub(super) fn one_of(names: &[&str]) -> String {
    format!("Member must satisfy enum value set: [{}]", names.join(", "))
}

/// A type that members have on the wire.
pub trait Shape {
    /// What such a member is in Rust.
    type Value;

    /// Reads a value that is not null; `None` if it breaks a limit, which is noted.
    ///
    /// # Errors
    /// [`Kind::Serialization`] for another JSON type.
    fn read(source: &mut Source<'_>, at: &Path<'_>) -> Result<Option<Self::Value>, Exception>;

    /// Writes a value.
    fn write(value: &Self::Value, writer: &mut Writer);

    /// All rules of a single value, as AWS lists them for the elements of a list; none for structures.
    fn rules() -> Vec<String> {
        Vec::new()
    }

    /// Whether it is a single value and no structure.
    const SINGLE: bool = true;

    /// Adds a row for this shape, and for what it is made of.
    fn describe(field: Field, fields: &mut Vec<Field>);
}

/// How a member stands in a structure: a [`Shape`] if it must be there, an `Option` of one if not.
pub trait Member {
    /// Its shape.
    type Shape: Shape;
    /// The type of the field.
    type Value;
    /// Whether it must be there.
    const REQUIRED: bool;

    /// Takes what was read; `None` if the structure cannot be had with it, which is noted.
    fn take(read: Read<Self::Shape>, source: &mut Source<'_>, at: &Path<'_>) -> Option<Self::Value>;

    /// Writes the member if it is there.
    fn write(value: &Self::Value, name: &str, writer: &mut Writer);
}

/// What has been read of a member.
pub enum Read<T: Shape> {
    /// Its name has not come.
    Absent,
    /// Its name has come, with null.
    Null,
    /// It breaks a limit, which is noted.
    Wrong,
    /// Its value.
    Value(T::Value),
}

impl<T: Shape> Read<T> {
    /// Reads the member's value, once.
    ///
    /// # Errors
    /// [`Kind::Serialization`] for another JSON type, or if the name comes twice.
    pub fn fill(&mut self, source: &mut Source<'_>, at: &Path<'_>) -> Result<(), Exception> {
        if !matches!(self, Self::Absent) {
            return Err(duplicate());
        }
        *self = if source.reader.null()? {
            Self::Null
        } else {
            T::read(source, at)?.map_or(Self::Wrong, Self::Value)
        };
        Ok(())
    }
}

pub(in crate::aws) const NOT_NULL: &str = "Member must not be null";

impl<T: Shape> Member for T {
    type Shape = T;
    type Value = T::Value;
    const REQUIRED: bool = true;

    fn take(read: Read<T>, source: &mut Source<'_>, at: &Path<'_>) -> Option<T::Value> {
        match read {
            Read::Value(value) => return Some(value),
            Read::Absent | Read::Null => source.note("null", at, NOT_NULL),
            Read::Wrong => {}
        }
        None
    }

    fn write(value: &T::Value, name: &str, writer: &mut Writer) {
        writer.name(name);
        <T as Shape>::write(value, writer);
    }
}

impl<T: Shape> Member for Option<T> {
    type Shape = T;
    type Value = Option<T::Value>;
    const REQUIRED: bool = false;

    fn take(read: Read<T>, _: &mut Source<'_>, _: &Path<'_>) -> Option<Option<T::Value>> {
        match read {
            Read::Value(value) => Some(Some(value)),
            Read::Absent | Read::Null => Some(None),
            Read::Wrong => None,
        }
    }

    fn write(value: &Option<T::Value>, name: &str, writer: &mut Writer) {
        if let Some(value) = value {
            <T as Member>::write(value, name, writer);
        }
    }
}

/// A regular expression and what it means.
#[derive(Clone, Copy, Debug)]
pub struct Pattern {
    /// As AWS prints it.
    pub text: &'static str,
    /// Whether all of a text matches.
    pub matches: fn(&str) -> bool,
}

/// The limits of one shape; both ends count.
#[derive(Clone, Copy)]
pub struct Limits {
    /// The least length or value.
    pub min: Option<u32>,
    /// The greatest length or value.
    pub max: Option<u32>,
    /// For texts.
    pub pattern: Option<Pattern>,
    /// A secret is not repeated in answers.
    pub sensitive: bool,
}

impl Limits {
    /// No limits.
    pub const NONE: Self = Self { min: None, max: None, pattern: None, sensitive: false };

    /// The rules of this `quality` (length or value), in AWS's order and words, with whether each holds.
    fn rules(&self, quality: &str, size: i64, text: &str) -> [Option<(bool, String)>; 3] {
        let than =
            |order: &str, limit| format!("Member must have {quality} {order} than or equal to {limit}");
        let max = self.max.map(|max| (size <= max.into(), than("less", max)));
        let min = self.min.map(|min| (size >= min.into(), than("greater", min)));
        let pattern = self.pattern.map(|pattern| {
            let rule = format!("Member must satisfy regular expression pattern: {}", pattern.text);
            ((pattern.matches)(text), rule)
        });
        [max, min, pattern]
    }

    /// Whether all hold: the quick answer.
    fn admit(&self, size: i64, text: &str) -> bool {
        self.max.is_none_or(|max| size <= max.into())
            && self.min.is_none_or(|min| size >= min.into())
            && self.pattern.is_none_or(|pattern| (pattern.matches)(text))
    }

    /// Whether a value keeps the limits; notes those that it breaks. `echo` is the value as AWS prints it.
    pub(super) fn check(
        &self,
        (quality, size, text): (&str, i64, &str),
        echo: impl FnOnce() -> String,
        source: &mut Source<'_>,
        at: &Path<'_>,
    ) -> bool {
        if self.admit(size, text) {
            return true;
        }
        if source.is_full() {
            return false;
        }
        let shown = if self.sensitive { String::new() } else { echo() };
        for (_, rule) in self.rules(quality, size, text).into_iter().flatten().filter(|(holds, _)| !holds) {
            source.note(&shown, at, &rule);
        }
        false
    }

    /// The words of all rules.
    pub(super) fn words(&self, quality: &str) -> Vec<String> {
        self.rules(quality, 0, "").into_iter().flatten().map(|(_, rule)| rule).collect()
    }

    /// A row with these limits.
    pub(super) fn describe(&self, kind: &'static str, field: Field) -> Field {
        Field {
            kind,
            min: self.min,
            max: self.max,
            pattern: self.pattern.map(|pattern| pattern.text),
            sensitive: self.sensitive,
            ..field
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_for_what_is_noted_alone() {
        let mut source = Source::new(b"").unwrap();
        let limits = Limits { max: Some(1), ..Limits::NONE };
        let mut worded = 0;
        for _ in 0..3 * VIOLATIONS_MAX {
            let echo = || {
                worded += 1;
                echo("xx")
            };
            assert!(!limits.check(("length", 2, "xx"), echo, &mut source, &Path::Body));
        }
        assert_eq!((worded, source.violations.len()), (VIOLATIONS_MAX, VIOLATIONS_MAX));
    }
}
