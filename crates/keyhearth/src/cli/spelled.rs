//! Values of the wire as arguments: read, listed in help and completed as the wire spells them.

use std::ffi::OsStr;
use std::marker::PhantomData;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, Error};
use keyhearth_proto::rest::body::Lease;
use keyhearth_proto::rest::{Is, Pairs, Spelling, Within};

/// Reads a `T` in its one spelling.
pub struct Spelled<T>(PhantomData<fn() -> T>);

/// The parser of arguments that are a `T`.
pub const fn spelled<T>() -> Spelled<T> {
    Spelled(PhantomData)
}

impl<T> Clone for Spelled<T> {
    fn clone(&self) -> Self {
        spelled()
    }
}

impl<T: Spelling + Clone + Send + Sync + 'static> TypedValueParser for Spelled<T> {
    type Value = Is<T>;

    fn parse_ref(&self, command: &Command, argument: Option<&Arg>, value: &OsStr) -> Result<Is<T>, Error> {
        let text = value.to_string_lossy();
        T::read(&text).map(Is).ok_or_else(|| refusal(command, argument, &text, T::RULE, &names::<T>()))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let names = names::<T>();
        let values = names.into_iter().map(PossibleValue::new);
        (values.len() > 0).then(|| Box::new(values) as Box<dyn Iterator<Item = PossibleValue>>)
    }
}

/// All spellings, where they are a list.
fn names<T: Spelling>() -> Vec<String> {
    let schema = T::schema();
    let names = schema["enum"].as_array().into_iter().flatten();
    names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

fn refusal(command: &Command, argument: Option<&Arg>, value: &str, rule: &str, names: &[String]) -> Error {
    let name = argument.map_or_else(String::new, ToString::to_string);
    if names.is_empty() {
        let message = format!("invalid value '{value}' for '{name}': {rule}\n");
        return Error::raw(ErrorKind::ValueValidation, message).with_cmd(command);
    }
    let mut error = Error::new(ErrorKind::InvalidValue).with_cmd(command);
    error.insert(ContextKind::InvalidArg, ContextValue::String(name));
    error.insert(ContextKind::InvalidValue, ContextValue::String(value.to_owned()));
    error.insert(ContextKind::ValidValue, ContextValue::Strings(names.to_vec()));
    error
}

/// Checks that the text spells a `T`, and keeps the text.
pub fn text_of<T: Spelling>(text: &str) -> Result<String, &'static str> {
    T::read(text).map(|_| text.to_owned()).ok_or(T::RULE)
}

/// Reads a number from `MIN` to `MAX`.
pub fn within<const MIN: u32, const MAX: u32>(text: &str) -> Result<Within<MIN, MAX>, String> {
    text.parse().ok().and_then(Within::new).ok_or_else(|| format!("must be a number from {MIN} to {MAX}"))
}

/// Reads seconds: a number and `s`, `m`, `h` or `d`.
pub fn seconds(text: &str) -> Result<u32, &'static str> {
    const RULE: &str = "must be a number and s, m, h or d";
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or(RULE)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(RULE),
    };
    number.parse::<u32>().ok().and_then(|number| number.checked_mul(seconds)).ok_or(RULE)
}

/// Reads for how long what is opened is kept without asking, as [`seconds`].
pub fn lease(text: &str) -> Result<Lease, &'static str> {
    Lease::new(seconds(text)?).ok_or("must be at most 7d")
}

/// Reads `NAME=VALUE`.
pub fn pair(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    if name.is_empty() { Err("must have a name before `=`") } else { Ok((name.to_owned(), value.to_owned())) }
}

/// The pairs, if there are any.
pub fn pairs(pairs: Vec<(String, String)>) -> Option<Pairs> {
    (!pairs.is_empty()).then(|| pairs.into_iter().collect())
}
