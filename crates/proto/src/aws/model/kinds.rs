//! The kinds of members: texts, bytes, numbers, dates, contexts and lists.

use keyhearth_core::request::{ContextPairs, Secret};
use keyhearth_core::time::Time;

use crate::aws::error::Exception;
use crate::aws::json::{Reader, Start, Writer, duplicate};

use super::coverage::Field;
use super::shape::{Limits, NOT_NULL, Path, Shape, Source, echo};

fn size(len: usize) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}

/// A kind of text or bytes, told from others by its limits.
pub trait Limited {
    /// In characters or bytes.
    const LIMITS: Limits;
}

/// A text.
pub struct Text<L>(L);

impl<L: Limited> Shape for Text<L> {
    type Value = String;

    fn read(source: &mut Source<'_>, at: &Path<'_>) -> Result<Option<String>, Exception> {
        let text = source.reader.text()?.into_owned();
        let chars = size(text.chars().count());
        Ok(L::LIMITS.check(("length", chars, &text), || echo(&text), source, at).then_some(text))
    }

    fn write(value: &String, writer: &mut Writer) {
        writer.text(value);
    }

    fn rules() -> Vec<String> {
        L::LIMITS.words("length")
    }

    fn describe(field: Field, fields: &mut Vec<Field>) {
        fields.push(L::LIMITS.describe("text", field));
    }
}

/// Bytes, in base64; wiped when dropped.
pub struct Blob<L>(L);

impl<L: Limited> Shape for Blob<L> {
    type Value = Secret;

    fn read(source: &mut Source<'_>, at: &Path<'_>) -> Result<Option<Secret>, Exception> {
        let blob = source.reader.blob()?;
        let len = blob.len();
        let echo = || format!("'java.nio.HeapByteBuffer[pos=0 lim={len} cap={len}]'");
        Ok(L::LIMITS.check(("length", size(len), ""), echo, source, at).then_some(blob))
    }

    fn write(value: &Secret, writer: &mut Writer) {
        writer.blob(value);
    }

    fn rules() -> Vec<String> {
        L::LIMITS.words("length")
    }

    fn describe(field: Field, fields: &mut Vec<Field>) {
        fields.push(L::LIMITS.describe("blob", field));
    }
}

/// A whole number from `MIN` to `MAX`; `MIN` is at least 1.
pub struct Integer<const MIN: u32, const MAX: u32>;

impl<const MIN: u32, const MAX: u32> Integer<MIN, MAX> {
    const LIMITS: Limits = Limits { min: Some(MIN), max: Some(MAX), pattern: None, sensitive: false };
}

impl<const MIN: u32, const MAX: u32> Shape for Integer<MIN, MAX> {
    type Value = u32;

    fn read(source: &mut Source<'_>, at: &Path<'_>) -> Result<Option<u32>, Exception> {
        let number = source.reader.integer()?;
        let echo = || format!("'{number}'");
        let holds = Self::LIMITS.check(("value", number.into(), ""), echo, source, at);
        Ok(u32::try_from(number).ok().filter(|_| holds))
    }

    fn write(value: &u32, writer: &mut Writer) {
        writer.plain(value);
    }

    fn rules() -> Vec<String> {
        Self::LIMITS.words("value")
    }

    fn describe(field: Field, fields: &mut Vec<Field>) {
        fields.push(Self::LIMITS.describe("integer", field));
    }
}

impl Shape for bool {
    type Value = Self;

    fn read(source: &mut Source<'_>, _: &Path<'_>) -> Result<Option<Self>, Exception> {
        source.reader.boolean().map(Some)
    }

    fn write(value: &Self, writer: &mut Writer) {
        writer.plain(value);
    }

    fn describe(field: Field, fields: &mut Vec<Field>) {
        fields.push(Field { kind: "boolean", ..field });
    }
}

impl Shape for Time {
    type Value = Self;

    fn read(source: &mut Source<'_>, _: &Path<'_>) -> Result<Option<Self>, Exception> {
        source.reader.time().map(Some)
    }

    fn write(value: &Self, writer: &mut Writer) {
        writer.time(*value);
    }

    fn describe(field: Field, fields: &mut Vec<Field>) {
        fields.push(Field { kind: "timestamp", ..field });
    }
}

/// An encryption context: pairs of text, sorted by name.
///
/// How many and how long they may be is core's to say.
pub struct Context;

impl Shape for Context {
    type Value = ContextPairs;

    fn read(source: &mut Source<'_>, at: &Path<'_>) -> Result<Option<ContextPairs>, Exception> {
        let mut pairs = ContextPairs::new();
        let mut nulls = Vec::new();
        let reader = &mut source.reader;
        reader.open_object()?;
        while let Some(name) = reader.name(pairs.is_empty())? {
            let value = if reader.null()? {
                nulls.push(format!("{name}=null"));
                String::new()
            } else {
                reader.text()?.into_owned()
            };
            pairs.push((name.into_owned(), value));
        }
        pairs.sort_unstable();
        if pairs.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(duplicate());
        }
        if !nulls.is_empty() {
            let value = echo(&format!("{{{}}}", nulls.join(", ")));
            source.note(&value, at, &format!("Map value must satisfy constraint: [{NOT_NULL}]"));
            return Ok(None);
        }
        Ok(Some(pairs))
    }

    fn write(value: &ContextPairs, writer: &mut Writer) {
        writer.open(b'{');
        for (name, value) in value {
            writer.name(name);
            writer.text(value);
        }
        writer.close(b'}');
    }

    fn describe(field: Field, fields: &mut Vec<Field>) {
        fields.push(Field { kind: "map", ..field });
    }
}

/// A list with at least `MIN` and at most `MAX` elements.
pub struct List<T, const MIN: u32, const MAX: u32>(T);

impl<T: Shape, const MIN: u32, const MAX: u32> List<T, MIN, MAX> {
    const LIMITS: Limits = Limits { min: Some(MIN), max: Some(MAX), pattern: None, sensitive: false };
}

impl<T: Shape, const MIN: u32, const MAX: u32> Shape for List<T, MIN, MAX> {
    type Value = Vec<T::Value>;

    fn read(source: &mut Source<'_>, at: &Path<'_>) -> Result<Option<Self::Value>, Exception> {
        elements::<T>(source, at, &Self::LIMITS)
    }

    fn write(value: &Self::Value, writer: &mut Writer) {
        <Vec<T> as Shape>::write(value, writer);
    }

    fn describe(field: Field, fields: &mut Vec<Field>) {
        let element = field.element();
        fields.push(Self::LIMITS.describe("list", field));
        T::describe(element, fields);
    }
}

impl<T: Shape> Shape for Vec<T> {
    type Value = Vec<T::Value>;

    fn read(source: &mut Source<'_>, at: &Path<'_>) -> Result<Option<Self::Value>, Exception> {
        elements::<T>(source, at, &Limits::NONE)
    }

    fn write(value: &Self::Value, writer: &mut Writer) {
        writer.open(b'[');
        for element in value {
            T::write(element, writer);
        }
        writer.close(b']');
    }

    fn describe(field: Field, fields: &mut Vec<Field>) {
        let element = field.element();
        fields.push(Field { kind: "list", ..field });
        T::describe(element, fields);
    }
}

/// Reads a list. Of single values AWS names the whole list when one breaks a rule, and all their rules; of
/// structures it names the member.
fn elements<T: Shape>(
    source: &mut Source<'_>,
    at: &Path<'_>,
    limits: &Limits,
) -> Result<Option<Vec<T::Value>>, Exception> {
    source.reader.start()?;
    let start = source.reader.at();
    let noted = source.violations.len();
    let (mut values, mut count) = (Vec::new(), 0);
    source.reader.open_array()?;
    while source.reader.element(count == 0)? {
        let at = Path::Element(at, count);
        count += 1;
        if source.reader.null()? {
            source.note("null", &at, NOT_NULL);
        } else {
            values.extend(T::read(source, &at)?);
        }
    }
    let whole = source.reader.since(start);
    if values.len() < count && T::SINGLE {
        source.violations.truncate(noted);
        if !source.is_full() {
            let rule = format!("Member must satisfy constraint: [{}]", T::rules().join(", "));
            source.note(&echo_list(whole), at, &rule);
        }
        return Ok(None);
    }
    let holds = limits.check(("length", size(count), ""), || echo_list(whole), source, at);
    Ok((holds && values.len() == count).then_some(values))
}

/// A list of single values as Java prints it, in quotes.
fn echo_list(mut reader: Reader<'_>) -> String {
    let mut texts = Vec::new();
    let read = (|| {
        reader.open_array()?;
        while reader.element(texts.is_empty())? {
            texts.push(if reader.start()? == Start::Text {
                reader.text()?.into_owned()
            } else {
                reader.skip()?;
                "null".to_owned()
            });
        }
        Ok::<_, Exception>(())
    })();
    debug_assert!(read.is_ok(), "it was read before");
    echo(&format!("[{}]", texts.join(", ")))
}
