//! Claims and measurements as they are printed.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::cli::failure::Failure;
use crate::cli::session::Session;

/// Where wide values are broken, in characters: 24 bytes in digits. Names of claims leave so much of 80 columns.
const VALUE_CHARS: usize = 48;

/// Prints a record: as it is for programs, in words for people.
pub fn show(session: &Session, record: &impl Serialize) -> Result<(), Failure> {
    if session.json() {
        return session.show(record);
    }
    let value = serde_json::to_value(record).map_err(|error| Failure::new(error, "report this"))?;
    let members = value.as_object().into_iter().flatten();
    session.show(&members.flat_map(|(name, value)| rows(name, value)).collect::<Map<_, _>>())
}

/// Claims for people, by their names: records of bits and numbers are one, others one for each member.
fn rows(name: &str, value: &Value) -> Vec<(String, Value)> {
    match value.as_object() {
        Some(members) if members.values().any(|member| !member.is_boolean() && !member.is_number()) => {
            members.iter().flat_map(|(member, value)| rows(&format!("{name} {member}"), value)).collect()
        }
        _ => vec![(name.to_owned(), in_words(value))],
    }
}

/// A claim for people: bits that are set and numbers by their names, and nothing wider than [`VALUE_CHARS`].
fn in_words(value: &Value) -> Value {
    let part = |(name, value): (&String, &Value)| match value.as_bool() {
        Some(yes) => yes.then(|| name.replace('_', " ")),
        None => Some(format!("{} {value}", name.replace('_', " "))),
    };
    if let Some(members) = value.as_object() {
        broken(&members.iter().filter_map(part).collect::<Vec<_>>().join(", ")).into()
    } else if let Some(texts) = value.as_array() {
        let texts: Vec<_> = texts.iter().map(|text| broken(text.as_str().unwrap_or_default())).collect();
        texts.join("\n").into()
    } else if let Some(text) = value.as_str() {
        broken(text).into()
    } else {
        value.clone()
    }
}

/// The text in lines: broken at spaces, or anywhere in words that are wider than a line.
fn broken(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always a line");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() <= VALUE_CHARS {
            line.push(' ');
            line.push_str(word);
            continue;
        }
        let letters: Vec<_> = word.chars().collect();
        lines.extend(letters.chunks(VALUE_CHARS).map(|part| part.iter().collect()));
    }
    lines[1..].join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_are_shown_in_words_that_fit() {
        let policy = json!({ "abi_major": 1, "smt": true, "debug": false, "single_socket": true });
        assert_eq!(in_words(&policy), json!("abi major 1, smt, single socket"));
        assert_eq!(rows("policy", &policy).len(), 1);
        let boot = json!({ "phase": "ready", "mok": ["aa", "bb"], "secure_boot": true });
        let told = [
            ("boot mok", json!("aa\nbb")),
            ("boot phase", json!("ready")),
            ("boot secure_boot", json!(true)),
        ];
        let mut shown = rows("boot", &boot);
        shown.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(shown, told.map(|(name, value)| (name.to_owned(), value)));
        let digits = "0".repeat(2 * VALUE_CHARS + 1);
        let lines: Vec<_> = broken(&digits).lines().map(str::len).collect();
        assert_eq!(lines, [VALUE_CHARS, VALUE_CHARS, 1]);
        assert_eq!(broken(""), "");
        assert!(broken(&"word ".repeat(40)).lines().all(|line| line.len() <= VALUE_CHARS));
    }
}
