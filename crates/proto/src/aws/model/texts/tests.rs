use proptest::prelude::*;
use proptest::string::string_regex;
use regex::Regex;

use crate::aws::model::coverage;

use super::*;

fn patterns() -> Vec<Pattern> {
    all().into_iter().filter_map(|limits| limits.pattern).collect()
}

/// The pattern in this library's syntax, where classes are those of Java and all of a text has to match.
fn java(pattern: &str) -> String {
    [
        ("[\\w", "[A-Za-z0-9_"),
        ("\\d", "[0-9]"),
        ("\\s", " \\t\\n\\x0B\\x0C\\r"),
        ("\\u00", "\\x"),
        ("^", ""),
        ("$", ""),
        (":.+", ":[^\\n\\r\\x{85}\\x{2028}\\x{2029}]+"),
    ]
    .into_iter()
    .fold(pattern.to_owned(), |pattern, (java, rust)| pattern.replace(java, rust))
}

#[test]
fn every_pattern_in_the_table_is_tried() {
    let tried: Vec<_> = patterns().iter().map(|pattern| pattern.text).collect();
    let fields = coverage().flat_map(|row| [row.input, row.output]).flatten();
    for pattern in fields.filter_map(|field| field.pattern) {
        assert!(tried.contains(&pattern), "{pattern}");
    }
}

/// A pattern, and a text that matches it.
fn matching() -> impl Strategy<Value = (Pattern, String)> {
    prop::sample::select(patterns()).prop_flat_map(|pattern| {
        let texts = string_regex(&java(pattern.text)).expect("a regular expression");
        (Just(pattern), texts)
    })
}

proptest! {
    /// What is written by hand decides as the regular expression that AWS prints.
    #[test]
    fn patterns_mean_what_they_say(
        (pattern, good) in matching(),
        cut in any::<prop::sample::Index>(),
        put in "[a-zA-Z0-9:/_+=,.@ \\n\\x00é€-]{0,2}",
    ) {
        prop_assert!((pattern.matches)(&good), "{} {good:?}", pattern.text);

        let mut chars: Vec<char> = good.chars().collect();
        let at = cut.index(chars.len() + 1);
        chars.splice(at..(at + 1).min(chars.len()), put.chars());
        let other: String = chars.into_iter().collect();
        let regex = Regex::new(&format!("\\A(?:{})\\z", java(pattern.text))).unwrap();
        prop_assert_eq!((pattern.matches)(&other), regex.is_match(&other), "{} {:?}", pattern.text, other);
    }
}
