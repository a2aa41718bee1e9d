//! What commands print: tables and records for people, bytes for pipes and files.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use keyhearth_core::time::Time;
use keyhearth_proto::rest::Spelling;
use serde_json::Value;

use super::failure::Failure;
use super::made;

/// The widest line of a table, in characters.
const COLUMNS_MAX: usize = 80;
/// What stands between two columns.
const GAP: &str = "  ";
/// The narrowest that a column is made, in characters.
const COLUMN_MIN: usize = 4;
/// Characters of an id, which is never cut.
const ID_CHARS: usize = 36;
/// Times in tables: how many characters of them, and what ends them.
const TIMES: [(usize, &str); 3] =
    [("2026-11-22T18:37:05".len(), "Z"), ("2026-11-22T18:37".len(), "Z"), ("2026-11-22".len(), "")];
/// Columns are cut to so many characters before times are.
const CUT_MIN: usize = 10;
/// Members that are shown before the others.
const FIRST: [&str; 4] = ["id", "name", "number", "state"];

/// Where bytes go.
#[derive(Args)]
pub struct Sink {
    /// The file to make; standard output if absent.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Sink {
    /// Whether a file was named.
    pub fn is_file(&self) -> bool {
        self.output.is_some()
    }

    /// Writes what everybody may read: as a line of base64, or as it is if `raw`.
    pub fn public(&self, bytes: &[u8], raw: bool) -> Result<(), Failure> {
        if raw {
            self.write(made::PUBLIC, bytes)
        } else {
            self.write(made::PUBLIC, (STANDARD.encode(bytes) + "\n").as_bytes())
        }
    }

    /// Writes a text that everybody may read.
    pub fn text(&self, text: &str) -> Result<(), Failure> {
        self.write(made::PUBLIC, text.as_bytes())
    }

    /// Writes secret bytes as they are. A terminal gets them only if they are text, or if `force`.
    pub fn secret(&self, bytes: &[u8], force: bool) -> Result<(), Failure> {
        let terminal = self.output.is_none() && io::stdout().is_terminal();
        if terminal && !force && !is_text(bytes) {
            return Err(Failure::new(
                "these bytes are no text and standard output is a terminal",
                "name a file with --output, use a pipe, or add --force",
            ));
        }
        self.write(made::PRIVATE, bytes)
    }

    fn write(&self, mode: u32, bytes: &[u8]) -> Result<(), Failure> {
        match &self.output {
            Some(path) => made::create(path, mode, bytes),
            None => self::bytes(bytes),
        }
    }
}

fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| visible(text) == text)
}

/// Prints a line on standard output.
pub fn line(text: &str) -> Result<(), Failure> {
    bytes(visible(text.trim_end()).as_bytes())?;
    bytes(b"\n")
}

/// The text without characters that command a terminal: names and descriptions are others' words.
pub fn visible(text: &str) -> Cow<'_, str> {
    let commands = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if text.contains(commands) { text.replace(commands, "\u{fffd}").into() } else { text.into() }
}

/// The same without line breaks: names of files can have them, too.
pub fn one_line(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

/// Writes to standard output; a reader that went away is no failure of ours.
pub fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Lines of at most 80 characters. What is too wide is cut, and ends with `…`; ids are whole, and times to the second, the minute
/// or the day.
pub fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<_> = heads.iter().map(|head| head.to_uppercase().replace('_', " ")).collect();
    let room = COLUMNS_MAX.saturating_sub(GAP.len() * heads.len().saturating_sub(1));
    let is_time: Vec<bool> =
        (0..heads.len()).map(|column| rows.iter().any(|row| Time::read(&row[column]).is_some())).collect();
    let mut shown = Vec::new();
    let mut widths = Vec::new();
    for times in TIMES {
        shown = std::iter::once(head.clone())
            .chain(rows.iter().map(|row| row.iter().map(|cell| with_time(cell, times)).collect()))
            .collect::<Vec<Vec<_>>>();
        let width = |column: usize| shown.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        widths = (0..heads.len()).map(width).collect();
        let is_whole = |column: usize| is_time[column] || widths[column] == ID_CHARS;
        let least = |column: usize| widths[column].min(if is_whole(column) { usize::MAX } else { CUT_MIN });
        if (0..heads.len()).map(least).sum::<usize>() <= room {
            break;
        }
    }
    let cuttable: Vec<_> = (0..widths.len()).filter(|&column| widths[column] != ID_CHARS).collect();
    while widths.iter().sum::<usize>() > room {
        let cuttable = cuttable.iter().filter(|column| widths[**column] > COLUMN_MIN);
        let widest = cuttable.max_by_key(|column| (!is_time[**column], widths[**column]));
        let Some(&widest) = widest else { break };
        widths[widest] -= 1;
    }
    let mut text = String::new();
    for row in shown {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{:width$}", fit(cell, width)));
        text.push_str(cells.collect::<Vec<_>>().join(GAP).trim_end());
        text.push('\n');
    }
    text
}

/// A time with so many of its characters, and what ends it then; anything else as it is.
fn with_time(cell: &str, (chars, end): (usize, &str)) -> String {
    match Time::read(cell).and_then(|_| cell.get(..chars)) {
        Some(start) => format!("{start}{end}"),
        None => cell.to_owned(),
    }
}

fn fit(cell: &str, width: usize) -> String {
    let clean = cell.chars().map(|c| if matches!(c, '\n' | '\t') { ' ' } else { c });
    if cell.chars().count() <= width {
        clean.collect()
    } else {
        clean.take(width.saturating_sub(1)).chain(['…']).collect()
    }
}

/// One line a member, those without a value left out; lists of records become tables.
pub fn record(value: &Value) -> String {
    let mut members: Vec<_> = value.as_object().into_iter().flatten().collect();
    members.sort_by_key(|(name, _)| rank(name));
    let (records, plain): (Vec<_>, Vec<_>) = members.into_iter().partition(|(_, value)| is_records(value));
    let plain: Vec<_> = plain.into_iter().map(|(name, value)| (name, inline(value))).collect();
    let shown = || plain.iter().filter(|(_, text)| !text.is_empty());
    let width = shown().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text: String = shown()
        .map(|(name, text)| {
            let indented = text.trim_end().replace('\n', &format!("\n{:width$}  ", ""));
            format!("{:width$}  {indented}\n", name.replace('_', " "))
        })
        .collect();
    for (name, list) in records {
        text.push_str(&format!("\n{name}\n{}", list_of_records(list)));
    }
    text
}

/// The place of a member among the others; equal ones keep their order.
fn rank(name: &str) -> usize {
    FIRST.iter().position(|first| *first == name).unwrap_or(FIRST.len())
}

fn is_records(value: &Value) -> bool {
    value.as_array().is_some_and(|list| list.iter().any(Value::is_object))
}

fn list_of_records(list: &Value) -> String {
    let records: Vec<_> = list.as_array().into_iter().flatten().filter_map(Value::as_object).collect();
    let mut heads: Vec<&str> = Vec::new();
    for (name, value) in records.iter().flat_map(|record| record.iter()) {
        if !value.is_null() && !heads.contains(&name.as_str()) {
            heads.push(name);
        }
    }
    heads.sort_by_key(|name| rank(name));
    let cell = |record: &serde_json::Map<String, Value>, name: &str| {
        record.get(name).map(inline).unwrap_or_default()
    };
    let rows: Vec<Vec<String>> =
        records.iter().map(|record| heads.iter().map(|name| cell(record, name)).collect()).collect();
    table(&heads, &rows)
}

/// A time without its milliseconds; any other text as it is.
pub fn moment(text: &str) -> String {
    match text.split_once('.') {
        Some((seconds, rest)) if seconds.len() == 19 && rest.len() == 4 && rest.ends_with('Z') => {
            format!("{seconds}Z")
        }
        Some(_) | None => text.to_owned(),
    }
}

/// A value in words; nothing for what is empty.
fn inline(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => moment(text),
        Value::Array(list) => list.iter().map(inline).collect::<Vec<_>>().join(", "),
        Value::Object(members) => {
            let pairs = members.iter().filter(|(_, value)| !value.is_null());
            pairs.map(|(name, value)| format!("{name}={}", inline(value))).collect::<Vec<_>>().join(" ")
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tables_fit_eighty_columns_and_keep_ids_whole() {
        let id = "0197b2f0-0000-7000-8000-000000000001".to_owned();
        let rows = vec![
            vec![id.clone(), "x".repeat(250), "b".repeat(64), "ä".repeat(30)],
            vec![id.clone(), "short".to_owned(), "a\nb".to_owned(), String::new()],
        ];
        let text = table(&["id", "alias", "name", "note"], &rows);
        assert_eq!(text.lines().count(), 3);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with(&id)), "{text}");
        assert!(text.contains("xx…") && text.contains("a b"), "{text}");
    }

    #[test]
    fn times_are_as_exact_as_there_is_room() {
        let table = |heads: &[&str], row: &[&str]| {
            let text = table(heads, &[row.iter().map(|cell| (*cell).to_owned()).collect()]);
            assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
            text
        };
        let (long, id, time) = ("w".repeat(40), "k".repeat(36), "2026-11-22T18:37:05.123Z");
        assert!(
            table(&["index", "time", "detail"], &["1", time, &"x".repeat(90)])
                .contains(" 2026-11-22T18:37:05Z ")
        );
        let text = table(&["who", "key", "what", "until"], &[&long, &id, &long, time]);
        assert!(text.contains("  2026-11-22T18:37Z") && text.contains("www…"), "{text}");
        let heads = ["number", "state", "created", "activation", "destroyed", "has material", "automatic"];
        let text = table(&heads, &["1", "destroyed", time, time, time, "no", "no"]);
        assert!(text.contains("1       destroyed  2026-11-22  2026-11-22  2026-11-22  no"), "{text}");
    }

    #[test]
    fn records_leave_out_what_is_empty() {
        let value = json!({ "id": "a", "destroy_at": null, "tags": {}, "uses": ["x", "y"], "exportable": false,
            "versions": [{ "number": 1, "state": "active", "destroyed": null }] });
        let text = record(&value);
        assert!(!text.contains("destroy") && !text.contains("tags"), "{text}");
        assert!(text.contains("x, y") && text.contains("no"), "{text}");
        assert!(text.contains("NUMBER  STATE\n1       active"), "{text}");
    }

    #[test]
    fn times_are_shown_to_the_second() {
        assert_eq!(moment("2026-11-20T23:46:49.639Z"), "2026-11-20T23:46:49Z");
        for text in ["2026-11-20T23:46:49Z", "v1.2.3", "10.0.0.1", ""] {
            assert_eq!(moment(text), text);
        }
    }

    #[test]
    fn only_text_without_controls_is_text() {
        assert!(is_text("grün\n\tx".as_bytes()));
        assert!(!is_text(b"\x1b[2J") && !is_text(b"\xff"));
        assert_eq!(visible("a\n\x1b[2Jb\u{9b}"), "a\n\u{fffd}[2Jb\u{fffd}");
    }
}
