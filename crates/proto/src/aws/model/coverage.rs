//! The table as rows, for documentation and for tests against AWS's own model.

use serde::Serialize;

use super::operations::Operation;

/// One operation, and every member of its input and output.
#[derive(Clone, Debug, Serialize)]
pub struct Coverage {
    /// AWS's name.
    pub operation: &'static str,
    /// Why it is refused, if it is.
    pub refused: Option<&'static str>,
    /// What it takes, a member before what that is made of.
    pub input: Vec<Field>,
    /// What it gives; `required` is what is always there.
    pub output: Vec<Field>,
}

/// One member, or an element of a list.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Field {
    /// Names from the body down, such as `Tags[].TagKey`.
    pub path: String,
    /// Whether it has to be there.
    pub required: bool,
    /// `text`, `blob`, `integer`, `boolean`, `timestamp`, `enum`, `list`, `map` or `structure`.
    pub kind: &'static str,
    /// The least length or value.
    pub min: Option<u32>,
    /// The greatest length or value.
    pub max: Option<u32>,
    /// The regular expression of a text.
    pub pattern: Option<&'static str>,
    /// The values of an enumeration.
    pub values: &'static [&'static str],
    /// Whether answers do not repeat it.
    pub sensitive: bool,
}

impl Field {
    /// A member of what is at `whole`, the body if that is empty.
    pub(super) fn member(whole: &str, name: &str, required: bool) -> Self {
        let path = if whole.is_empty() { name.to_owned() } else { format!("{whole}.{name}") };
        Self { path, required, ..Self::default() }
    }

    /// An element of a list.
    pub(super) fn element(&self) -> Self {
        Self { path: format!("{}[]", self.path), required: true, ..Self::default() }
    }
}

/// All operations in AWS's order.
pub fn coverage() -> impl Iterator<Item = Coverage> {
    Operation::ALL.iter().map(|operation| operation.coverage())
}
