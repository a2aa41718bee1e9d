//! `cryptsetup reencrypt`, watched: with a progress bar, and when it ends early, with how to go on.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::super::failure::Failure;
use super::super::session::{Server, Session};
use super::disk::{Disk, KEY, NEWER, filled, quiet};
use super::header::Header;

/// The first cryptsetup that says in JSON how far it is.
const SAYS_PROGRESS: (u32, u32) = (2, 6);
/// The first that does everything that is asked for here.
const OLDEST: (u32, u32) = (2, 4);
/// What the bar looks like.
const BAR: &str = "{msg}  {bar:40} {binary_bytes}/{binary_total_bytes} {eta}";
/// A line of progress is shorter, in bytes.
const LINE_BYTES_MAX: u64 = 4096;

/// Runs `cryptsetup reencrypt` with these words on `disk`, in `folder` if one is given.
pub fn run(
    session: &Session,
    server: &Server,
    disk: Disk<'_>,
    words: &[&str],
    secret: &[u8],
    folder: Option<&Path>,
) -> Result<(), Failure> {
    let version = version()?;
    // Asked to stop from the keyboard, cryptsetup comes to a good place and ends; this waits for it, to say how to go on.
    let _interrupts = server.wait(async { Ok(signal(SignalKind::interrupt())) })??;
    let mut all = vec!["reencrypt"];
    all.extend(words);
    all.extend(KEY);
    if disk.path().is_file() {
        all.push("--force-offline-reencrypt");
    }
    if version >= SAYS_PROGRESS {
        all.extend(["--progress-json", "--progress-frequency", "1"]);
    }
    let mut command = disk.command(&all);
    if let Some(folder) = folder {
        command.current_dir(folder);
    }
    let failed = |error: io::Error| disk.failed(&all, &error.to_string());
    let mut child = command
        .stdin(filled(secret)?)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let bar = if session.watched() { ProgressBar::new(0) } else { ProgressBar::hidden() };
    bar.set_style(
        ProgressStyle::with_template(BAR).expect("the template is well formed, and a test draws it"),
    );
    bar.set_message(disk.path().display().to_string());
    let mut done = None;
    if let Some(said) = child.stdout.take() {
        lines(said, |line| {
            if let Some((bytes, of)) = progress(line) {
                bar.set_length(of);
                bar.set_position(bytes);
                done = Some((bytes, of));
            }
        });
    }
    let output = child.wait_with_output().map_err(failed)?;
    bar.finish_and_clear();
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = if said.trim().is_empty() { output.status.to_string() } else { said.trim().to_owned() };
    let far = done.map(|(bytes, of)| format!(" at {} %", percent(bytes, of))).unwrap_or_default();
    let shown = disk.path().display();
    Err(Failure::new(
        format_args!("cryptsetup reencrypt {shown} stopped{far}: {said}"),
        format_args!(
            "nothing is lost; give the same command again. By hand: cryptsetup repair {shown}, then cryptsetup \
             reencrypt --resume-only {shown}"
        ),
    ))
}

/// Goes on with what `header` says is underway. What was stopped without warning is put right first.
pub fn resume(
    session: &Session,
    server: &Server,
    disk: Disk<'_>,
    header: &Header,
    secret: &[u8],
) -> Result<(), Failure> {
    if header.is_torn() {
        let words = [&["repair"][..], &KEY].concat();
        disk.run(&words, &[], (filled(secret)?.into(), quiet().1))?;
        // If the torn piece was the last one, nothing is left to do.
        if disk.header()?.underway().is_none() {
            return Ok(());
        }
    }
    run(session, server, disk, &["--resume-only"], secret, None)
}

/// The version of cryptsetup; one that is too old is refused.
fn version() -> Result<(u32, u32), Failure> {
    let output = Command::new("cryptsetup").arg("--version").stdin(Stdio::null()).output();
    let output = output.map_err(|error| {
        Failure::new(format_args!("cryptsetup: {error}"), "it comes with the package cryptsetup-bin")
    })?;
    let text = String::from_utf8_lossy(&output.stdout);
    // One that does not say it is taken for the oldest: without progress, it does all the same.
    let version = parse_version(&text).unwrap_or(OLDEST);
    if version < OLDEST {
        return Err(Failure::new(format_args!("cryptsetup is version {}.{}", version.0, version.1), NEWER));
    }
    Ok(version)
}

/// Reads `cryptsetup 2.6.1 flags: …`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_whitespace().nth(1)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Bytes that are done, and of how many. What is no line of progress is none.
///
/// Source: cryptsetup-reencrypt(8), `--progress-json`.
fn progress(line: &[u8]) -> Option<(u64, u64)> {
    let line: Value = serde_json::from_slice(line.trim_ascii()).ok()?;
    let number = |name: &str| line.get(name)?.as_str()?.parse().ok();
    number("device_bytes").zip(number("device_size")).filter(|(done, of): &(u64, u64)| done <= of && *of > 0)
}

fn percent(done: u64, of: u64) -> u128 {
    u128::from(done) * 100 / u128::from(of.max(1))
}

/// Gives each line to `take`; a line that is too long in pieces.
fn lines(from: impl io::Read, mut take: impl FnMut(&[u8])) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    // A pipe that breaks ends the process at its other end too, whose status says why.
    while from.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
        take(&line);
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_drawn() {
        ProgressStyle::with_template(BAR).unwrap();
    }

    #[test]
    fn progress_is_read_from_whatever_is_said() {
        let said = br#"{"device":"a","device_bytes":"25","device_size":"100","speed":"1","eta_ms":"0","time_ms":"7"}"#;
        assert_eq!(progress(said), Some((25, 100)));
        for other in [
            &b"Finished, time 00:01"[..],
            b"",
            b"{}",
            b"7",
            br#"{"device_bytes":25,"device_size":100}"#,
            br#"{"device_bytes":"25","device_size":"0"}"#,
            br#"{"device_bytes":"25","device_size":"24"}"#,
            br#"{"device_bytes":"-1","device_size":"99999999999999999999999"}"#,
        ] {
            assert_eq!(progress(other), None, "{}", String::from_utf8_lossy(other));
        }
        assert_eq!((percent(1, 3), percent(u64::MAX, u64::MAX), percent(0, 0)), (33, 100, 0));
        let mut count = 0;
        lines(&[b'x'; 9000][..], |_| count += 1);
        lines(&b"a\nb\n\nc"[..], |_| count += 1);
        assert_eq!(count, 3 + 4);
    }

    #[test]
    fn versions_are_read_where_they_are_said() {
        assert_eq!(parse_version("cryptsetup 2.6.1 flags: UDEV"), Some((2, 6)));
        assert_eq!(parse_version("cryptsetup 2.10.0-rc1"), Some((2, 10)));
        for other in ["", "cryptsetup", "cryptsetup 2", "cryptsetup two.six"] {
            assert_eq!(parse_version(other), None);
        }
    }
}
