//! LUKS2 devices and image files, through cryptsetup. Secrets go to it by pipes.

use std::fs::OpenOptions;
use std::io::{self, PipeReader, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::super::failure::Failure;
use super::header::{Header, Mark};

/// How data are encrypted: the one way that the agent opens.
pub const CIPHER: [&str; 4] = ["--cipher", "aes-xts-plain64", "--key-size", "512"];
/// How a keyslot's secret becomes a key. Ours is random, so that guessing it is hopeless without any work, and booting
/// does not wait. 1,000 iterations are the least that LUKS takes.
pub const PBKDF: [&str; 6] = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--hash", "sha256"];
/// cryptsetup reads the key from here.
pub const KEY: [&str; 3] = ["--batch-mode", "--key-file", "/dev/stdin"];
/// Its exit status where no keyslot opens. Source: cryptsetup(8).
const NO_PERMISSION: i32 = 2;

/// A device or an image file.
#[derive(Clone, Copy)]
pub struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    /// The one at `path`.
    pub fn at(path: &'a Path) -> Self {
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &'a Path {
        self.0
    }

    /// Refuses what is not there or cannot be written. Gives its size in bytes.
    pub fn writable(&self) -> Result<u64, Failure> {
        let opened = OpenOptions::new().read(true).write(true).open(self.0);
        let size = opened.and_then(|mut file| file.seek(SeekFrom::End(0)));
        size.map_err(|error| Failure::at(self.0.display(), &error))
    }

    /// Whether it has a header of this version, `luks1` or `luks2`.
    pub fn is(&self, version: &str) -> bool {
        self.run(&["isLuks", "--type", version], &[], quiet()).is_ok()
    }

    /// Refuses what cannot be written or is no LUKS2 volume.
    pub fn check(&self) -> Result<(), Failure> {
        self.writable()?;
        if self.is("luks2") {
            return Ok(());
        }
        let (what, next) = if self.is("luks1") {
            ("is a LUKS1 volume", "convert its header while it is closed: cryptsetup convert --type luks2")
        } else {
            ("is no LUKS2 volume", "`keyhearth volume format` makes one, `volume convert` keeps the data")
        };
        Err(Failure::new(format_args!("{} {what}", self.0.display()), next))
    }

    /// Its UUID, as the agent's configuration names devices.
    pub fn uuid(&self) -> Result<String, Failure> {
        let out = self.run(&["luksUUID"], &[], quiet())?;
        Ok(format!("UUID={}", String::from_utf8_lossy(&out).trim()))
    }

    /// Its header.
    pub fn header(&self) -> Result<Header, Failure> {
        Header::parse(&self.run(&["luksDump", "--dump-json-metadata"], &[], quiet())?)
    }

    /// Makes it an empty volume that `secret` opens. What it held is lost.
    pub fn format(&self, secret: &[u8]) -> Result<(), Failure> {
        let words = [&["luksFormat", "--type", "luks2"][..], &KEY, &CIPHER, &PBKDF].concat();
        self.run(&words, &[], (filled(secret)?.into(), Stdio::piped())).map(drop)
    }

    /// The keyslot that `secret` opens, if one does.
    ///
    /// Source: cryptsetup-open(8); with `--verbose` it says `Key slot N unlocked.`
    pub fn opened_by(&self, secret: &[u8]) -> Result<Option<u32>, Failure> {
        let words = [&["open", "--test-passphrase", "--verbose"][..], &KEY].concat();
        let output = self.spawn(&words, &[], (filled(secret)?.into(), Stdio::piped()))?;
        if output.status.code() == Some(NO_PERMISSION) {
            return Ok(None);
        }
        let said = self.unless_failed(&words, output)?;
        let said = String::from_utf8_lossy(&said);
        let number = |line: &str| line.strip_prefix("Key slot ")?.strip_suffix(" unlocked.")?.parse().ok();
        let slot = said.lines().find_map(number);
        slot.map(Some).ok_or_else(|| Failure::new("cryptsetup does not say which keyslot opened", NEWER))
    }

    /// Adds the keyslot `number` for `secret`, opened by `opener`.
    ///
    /// Each comes through a pipe: one as standard input, the other as standard output, where nothing is said.
    pub fn add_keyslot(&self, number: u32, opener: &[u8], secret: &[u8]) -> Result<(), Failure> {
        let number = number.to_string();
        let words = [&["luksAddKey", "--key-slot", &number][..], &KEY, &PBKDF].concat();
        self.run(&words, &["/dev/stdout"], (filled(opener)?.into(), filled(secret)?.into())).map(drop)
    }

    /// Ends a keyslot: its place is overwritten, and what opened it opens nothing.
    pub fn end_keyslot(&self, number: u32) -> Result<(), Failure> {
        self.run(&["luksKillSlot", "--batch-mode"], &[&number.to_string()], quiet()).map(drop)
    }

    /// Writes into the header what a keyslot is for. The header's hash does not cover it.
    pub fn mark(&self, mark: &Mark) -> Result<(), Failure> {
        let words = ["token", "import", "--json-file", "/dev/stdin"];
        let json = mark.to_json().to_string();
        self.run(&words, &[], (filled(json.as_bytes())?.into(), Stdio::piped())).map(drop)
    }

    /// Removes marks: those of keyslots that ended are of no use.
    pub fn unmark(&self, is_useless: impl Fn(&Mark) -> bool) -> Result<(), Failure> {
        for (token, mark) in self.header()?.marks() {
            if is_useless(&mark) {
                self.run(&["token", "remove", "--token-id", &token.to_string()], &[], quiet())?;
            }
        }
        Ok(())
    }

    /// Runs cryptsetup: the words, the device, and what follows it. Gives what it printed.
    pub fn run(&self, words: &[&str], after: &[&str], pipes: (Stdio, Stdio)) -> Result<Vec<u8>, Failure> {
        let output = self.spawn(words, after, pipes)?;
        self.unless_failed(words, output)
    }

    fn spawn(
        &self,
        words: &[&str],
        after: &[&str],
        pipes: (Stdio, Stdio),
    ) -> Result<std::process::Output, Failure> {
        self.command(words)
            .args(after)
            .stdin(pipes.0)
            .stdout(pipes.1)
            .stderr(Stdio::piped())
            .spawn()
            .and_then(Child::wait_with_output)
            .map_err(|error| self.failed(words, &error.to_string()))
    }

    /// cryptsetup with these words about this device. It speaks English, so that what it says can be read.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("cryptsetup");
        command.env("LC_ALL", "C").args(words).arg(self.0);
        command
    }

    fn unless_failed(&self, words: &[&str], output: std::process::Output) -> Result<Vec<u8>, Failure> {
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(self.failed(words, String::from_utf8_lossy(&output.stderr).trim()))
    }

    /// A failure of cryptsetup, in its own words.
    pub fn failed(&self, words: &[&str], what: &str) -> Failure {
        Failure::new(
            format_args!("cryptsetup {} {}: {what}", words.first().unwrap_or(&""), self.0.display()),
            "correct that and try again; cryptsetup comes with the package cryptsetup-bin",
        )
    }
}

/// What to do about a cryptsetup that says too little.
pub const NEWER: &str = "use cryptsetup 2.4 or later";

pub fn quiet() -> (Stdio, Stdio) {
    (Stdio::null(), Stdio::piped())
}

/// A pipe that holds `bytes` and nothing after them. They are fewer than a pipe takes at once (64 KiB).
pub fn filled(bytes: &[u8]) -> io::Result<PipeReader> {
    let (reader, mut writer) = io::pipe()?;
    writer.write_all(bytes)?;
    Ok(reader)
}
