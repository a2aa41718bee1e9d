//! What the console shows to whoever looks at a machine that waits or does not start.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};

/// Columns that every console has.
const COLUMNS: usize = 78;
/// Columns of the names of lines.
const NAME_COLUMNS: usize = 9;
const CONSOLE: &str = "/dev/console";
/// At most so many characters of what a server says are shown.
const TEXT_CHARS_MAX: usize = 600;

/// A screen: a title, and lines with names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Screen {
    title: &'static str,
    lines: Vec<(&'static str, String)>,
}

impl Screen {
    /// A screen without lines.
    #[must_use]
    pub fn new(title: &'static str) -> Self {
        Self { title, lines: Vec::new() }
    }

    /// Adds a line; text from outside is made printable and short.
    #[must_use]
    pub fn line(mut self, name: &'static str, text: impl Into<String>) -> Self {
        self.lines.push((name, text.into()));
        self
    }

    /// Adds a line if there is something to say.
    #[must_use]
    pub fn maybe(self, name: &'static str, text: Option<String>) -> Self {
        match text {
            Some(text) => self.line(name, text),
            None => self,
        }
    }

    /// The screen as text of at most 78 columns.
    #[must_use]
    pub fn text(&self) -> String {
        let rule = "=".repeat(COLUMNS);
        let mut text = format!("{rule}\n KEYHEARTH: {}\n\n", self.title);
        for (name, words) in &self.lines {
            let mut name = *name;
            for line in wrap(&printable(words), COLUMNS - NAME_COLUMNS - 1) {
                let _ = writeln!(text, " {name:NAME_COLUMNS$}{line}");
                name = "";
            }
        }
        text + &rule + "\n"
    }

    /// Shows it, on the console if there is one, cleared before.
    pub fn show(&self) {
        show(&format!("\x1b[2J\x1b[H\r\n{}", self.text()));
    }
}

/// Shows a line of progress.
pub fn note(text: &str) {
    show(&format!("keyhearth: {}\n", printable(text)));
}

/// Nobody can be told that the console does not work, so nothing comes of that.
fn show(text: &str) {
    let text = text.replace('\n', "\r\n");
    let shown = console().and_then(|mut console| console.write_all(text.as_bytes()));
    if shown.is_err() {
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

/// The console, in an initramfs; on a running system the caller's terminal is the place.
fn console() -> io::Result<std::fs::File> {
    if !crate::run::in_initramfs() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    OpenOptions::new().write(true).open(CONSOLE)
}

fn printable(text: &str) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(TEXT_CHARS_MAX).map(printable).collect()
}

/// Lines of whole words; a word that is longer than a line is cut.
fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        loop {
            let line = lines.last_mut().expect("there is a first line");
            let used = line.chars().count();
            let needed = word.len() + usize::from(used > 0);
            if used + needed <= columns {
                if used > 0 {
                    line.push(' ');
                }
                line.extend(word);
                break;
            }
            if used == 0 {
                line.extend(word.drain(..columns));
            }
            lines.push(String::new());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_fits_the_narrowest_console_and_controls_nothing() {
        let words = format!("\x1b[2J{} of {}", "word ".repeat(30), "x".repeat(200));
        let text = Screen::new("TITLE").line("What", "short").line("Why", words).maybe("Audit", None).text();
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");
        assert!(!text.contains('\x1b'));
        assert!(text.contains("\n What     short\n Why      [2Jword word"), "{text}");
        assert_eq!(text.matches('x').count(), 200);
        assert!(!text.contains("Audit"));
    }

    #[test]
    fn no_server_fills_the_screen() {
        let text = Screen::new("TITLE").line("Why", "z ".repeat(10_000)).text();
        assert_eq!(text.matches('z').count(), TEXT_CHARS_MAX / 2);
    }
}
