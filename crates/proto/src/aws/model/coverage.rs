//! The table as rows, for documentation and for tests against AWS's own model.

use std::fmt::Write as _;

use keyhearth_crypto::algorithm::Algorithm;
use serde::Serialize;

use super::operations::Operation;
use super::types::KeySpec;

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

impl Coverage {
    /// The names of the members of a body, in bold those that have to be there.
    fn members(fields: &[Field], bold: bool) -> String {
        let members = fields.iter().filter(|field| !field.path.contains(['.', '[']));
        let names = members.map(|field| match field.required && bold {
            true => format!("**{}**", field.path),
            false => field.path.clone(),
        });
        names.collect::<Vec<_>>().join(", ")
    }
}

impl Field {
    /// The limits in words; empty without any.
    fn limits(&self) -> String {
        let range = match (self.min, self.max) {
            (Some(min), Some(max)) if min == max => format!("{max}"),
            (Some(min), Some(max)) => format!("{min} to {max}"),
            _ => String::new(),
        };
        let unit = match self.kind {
            "text" => " characters",
            "blob" => " bytes",
            "list" => " elements",
            _ => "",
        };
        let pattern = self.pattern.map(|pattern| format!(", `{}`", pattern.replace('|', "\\|")));
        match self.kind {
            "enum" => self.values.join(", "),
            _ if range.is_empty() => range,
            _ => range + unit + &pattern.unwrap_or_default(),
        }
    }
}

/// The table as three in Markdown: the operations, the limits of what those take that are not refused, and the
/// kinds of keys.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from("| operation | takes | gives |\n|---|---|---|\n");
    let mut limits: Vec<(String, Vec<String>)> = Vec::new();
    for row in coverage() {
        let takes = Coverage::members(&row.input, true);
        let gives = row
            .refused
            .map_or_else(|| Coverage::members(&row.output, false), |why| format!("refused: {why}"));
        writeln!(text, "| {} | {takes} | {gives} |", row.operation).expect("memory does not fail");
        for field in row.input.iter().filter(|field| row.refused.is_none() && !field.limits().is_empty()) {
            let at = limits.iter().position(|(limit, _)| *limit == field.limits()).unwrap_or_else(|| {
                limits.push((field.limits(), Vec::new()));
                limits.len() - 1
            });
            if !limits[at].1.contains(&field.path) {
                limits[at].1.push(field.path.clone());
            }
        }
    }
    text.push_str("\n| member | limits |\n|---|---|\n");
    for (limit, members) in limits {
        writeln!(text, "| {} | {limit} |", members.join(", ")).expect("memory does not fail");
    }
    text.push_str("\n| key spec | is | serves |\n|---|---|---|\n");
    for &spec in KeySpec::ALL {
        let is = spec.algorithm().map_or("refused", Algorithm::name);
        let usages = spec.usages().iter().map(|&usage| (usage, spec.algorithms(usage)));
        let serves: Vec<_> = usages
            .filter(|(_, names)| !names.is_empty())
            .map(|(usage, names)| format!("{usage}: {}", names.join(", ")))
            .collect();
        writeln!(text, "| {spec} | {is} | {} |", serves.join("; ")).expect("memory does not fail");
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_document_has_the_table() {
        let document = include_str!("../../../../../docs/protocols/aws-kms.md");
        let wanted = super::markdown();
        assert!(document.contains(&wanted), "put this under \"Coverage\":\n{wanted}");
    }
}
