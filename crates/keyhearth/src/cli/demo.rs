//! `demo`: the life of a key on a throw-away server, told as it happens.

use std::cell::RefCell;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use keyhearth::demo::{self, Audience, FILES_MAX, Step};

use super::failure::Failure;
use super::output;
use super::server::runtime;
use super::session::Session;

/// The shortest file that gets a progress bar, in bytes.
const BAR_BYTES_MIN: u64 = 32 << 20;

#[derive(Subcommand)]
pub enum Verb {
    /// Shows the life of a key on a server of its own, which it removes afterwards
    Demo(Demo),
}

/// What to demonstrate with.
#[derive(Args)]
pub struct Demo {
    /// Files to seal copies of, which are only read; files of its own if absent.
    #[arg(value_name = "FILE", num_args = 0..=FILES_MAX)]
    files: Vec<PathBuf>,
}

impl Verb {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let Self::Demo(demo) = self;
        let teller = Teller { session, bar: RefCell::new(ProgressBar::hidden()), steps: RefCell::default() };
        runtime()?
            .block_on(demo::run(&demo.files, &teller))
            .map_err(|error| Failure::new(error, "start again; what it had made is removed"))?;
        if session.json() { session.show(&*teller.steps.borrow()) } else { Ok(()) }
    }
}

/// Tells the story line by line, or keeps it for JSON.
struct Teller<'a> {
    session: &'a Session,
    bar: RefCell<ProgressBar>,
    steps: RefCell<Vec<Step>>,
}

impl Audience for Teller<'_> {
    fn step(&self, step: &Step) {
        self.bar.borrow().finish_and_clear();
        if self.session.json() {
            self.steps.borrow_mut().push(step.clone());
        } else {
            // A reader that went away does not stop the demonstration before it has cleaned up.
            let _ = output::line(&step.to_string());
        }
    }

    fn progress(&self, file: &str, done: u64, bytes: u64) {
        if bytes < BAR_BYTES_MIN || !self.session.watched() {
            return;
        }
        let mut bar = self.bar.borrow_mut();
        if bar.is_hidden() || bar.is_finished() {
            let style = ProgressStyle::with_template("{msg}  {bar:40} {binary_bytes_per_sec}");
            *bar = ProgressBar::new(bytes).with_message(file.to_owned());
            bar.set_style(style.expect("the template is well formed, and a test draws it"));
        }
        bar.set_position(done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_drawn() {
        ProgressStyle::with_template("{msg}  {bar:40} {binary_bytes_per_sec}").unwrap();
    }
}
