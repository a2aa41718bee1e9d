//! Expressions and statements of Cedar, written so that constants are folded: Cedar's validator refuses what can
//! never hold.

use std::fmt::Write as _;

use keyhearth_core::id::PrincipalId;
use keyhearth_core::operation::Operation;
use keyhearth_core::policy::THIS_KEY;

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Test {
    /// Holds for every request.
    Always,
    /// Holds for none.
    Never,
    /// Holds where this expression does. It binds tighter than `&&`.
    When(String),
}

impl Test {
    pub(super) const fn of(holds: bool) -> Self {
        if holds { Self::Always } else { Self::Never }
    }

    /// Whether a text is one of these.
    pub(super) fn one_of<'a>(expression: &str, texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut texts: Vec<String> = texts.into_iter().map(quoted).collect();
        texts.sort_unstable();
        texts.dedup();
        match texts.as_slice() {
            [] => Self::Never,
            [one] => Self::When(format!("{expression} == {one}")),
            many => Self::When(format!("[{}].contains({expression})", many.join(", "))),
        }
    }

    pub(super) fn all(tests: impl IntoIterator<Item = Self>) -> Self {
        Self::joined(tests, Self::Always, &Self::Never, " && ")
    }

    pub(super) fn any(tests: impl IntoIterator<Item = Self>) -> Self {
        Self::joined(tests, Self::Never, &Self::Always, " || ")
    }

    /// Joins tests of which `neutral` changes nothing and `decisive` decides alone.
    fn joined(tests: impl IntoIterator<Item = Self>, neutral: Self, decisive: &Self, by: &str) -> Self {
        let mut expressions = Vec::new();
        for test in tests {
            match test {
                test if test == *decisive => return test,
                Self::When(expression) => expressions.push(expression),
                Self::Always | Self::Never => {}
            }
        }
        match expressions.as_slice() {
            [] => neutral,
            [_] => Self::When(expressions.remove(0)),
            // Cedar joins no two kinds without brackets, and a comparison stands beside either.
            _ => Self::When(format!("({})", expressions.join(by))),
        }
    }

    pub(super) fn not(self) -> Self {
        match self {
            Self::Always => Self::Never,
            Self::Never => Self::Always,
            Self::When(expression) => Self::When(format!("!({expression})")),
        }
    }

    /// Holds where `self` does not hold, and where `then` does.
    pub(super) fn implies(self, then: Self) -> Self {
        match (self, then) {
            (Self::Never, _) | (_, Self::Always) => Self::Always,
            (Self::Always, then) => then,
            (there @ Self::When(_), Self::Never) => there.not(),
            (Self::When(there), Self::When(then)) => {
                Self::When(format!("(if {there} then {then} else true)"))
            }
        }
    }
}

impl FromIterator<Test> for Test {
    /// Holds where any of them does.
    fn from_iter<I: IntoIterator<Item = Self>>(tests: I) -> Self {
        Self::any(tests)
    }
}

/// A text as a literal of Cedar. In the pattern of a `like` a `*` stays what it is.
pub(super) fn quoted(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => literal.extend(['\\', c]),
            ' '..='~' => literal.push(c),
            _ => write!(literal, "\\u{{{:x}}}", u32::from(c)).expect("writing to a String cannot fail"),
        }
    }
    literal.push('"');
    literal
}

/// Writes one statement about this key.
pub(super) fn write(
    text: &mut String,
    effect: &str,
    who: Option<&[PrincipalId]>,
    operations: Option<&[Operation]>,
    test: &Test,
) {
    let id = |id: &PrincipalId| format!("Keyhearth::Principal::\"{id}\"");
    let (principal, among) = match who {
        None => ("principal".to_owned(), Test::Always),
        Some([one]) => (format!("principal == {}", id(one)), Test::Always),
        Some(many) => {
            let ids = many.iter().map(id).collect::<Vec<_>>().join(", ");
            ("principal".to_owned(), Test::When(format!("[{ids}].contains(principal)")))
        }
    };
    let action = |operation: &Operation| format!("Keyhearth::Action::\"{}\"", operation.name());
    let action = match operations {
        None => "action".to_owned(),
        Some([one]) => format!("action == {}", action(one)),
        Some(many) => format!("action in [{}]", many.iter().map(action).collect::<Vec<_>>().join(", ")),
    };
    let when = match Test::all([among, test.clone()]) {
        Test::Never => return,
        Test::Always => String::new(),
        Test::When(expression) => format!(" when {{ {expression} }}"),
    };
    writeln!(text, "{effect} ({principal}, {action}, resource == {THIS_KEY}){when};")
        .expect("writing to a String cannot fail");
}
