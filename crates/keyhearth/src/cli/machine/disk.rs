//! LUKS2 devices and image files, through cryptsetup. Secrets go to it by pipes.

use std::io::{self, PipeReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use keyhearth_core::principal::Fingerprint;
use keyhearth_proto::boot::header_hash;

use super::super::failure::Failure;

/// Iterations of PBKDF2 for a keyslot of ours: its secret is random, so that guessing it is hopeless without any, and
/// booting does not wait. 1,000 is the least that LUKS takes.
const ITERATIONS: &str = "1000";

/// A device or an image file.
pub struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    /// The one at `path`.
    pub fn at(path: &'a Path) -> Self {
        Self(path)
    }

    /// Refuses what is no LUKS2 volume.
    pub fn check(&self) -> Result<(), Failure> {
        let next = "encrypt it first: cryptsetup luksFormat --type luks2, or cryptsetup reencrypt --encrypt";
        self.run(&["isLuks", "--type", "luks2"], &[], quiet())
            .map(drop)
            .map_err(|_| Failure::new(format_args!("{} is no LUKS2 volume", self.0.display()), next))
    }

    /// Its UUID, as the agent's configuration names devices.
    pub fn uuid(&self) -> Result<String, Failure> {
        let out = self.run(&["luksUUID"], &[], quiet())?;
        Ok(format!("UUID={}", String::from_utf8_lossy(&out).trim()))
    }

    /// Adds a keyslot for `secret`, opened by `passphrase`.
    ///
    /// Each comes through a pipe: one as standard input, the other as standard output, where nothing is said.
    pub fn add_keyslot(&self, passphrase: &[u8], secret: &[u8]) -> Result<(), Failure> {
        let pbkdf = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", ITERATIONS, "--hash", "sha256"];
        let words = [&["luksAddKey", "--batch-mode", "--key-file", "/dev/stdin"][..], &pbkdf].concat();
        self.run(&words, &["/dev/stdout"], (filled(passphrase)?.into(), filled(secret)?.into())).map(drop)
    }

    /// The hash of its header, as machines announce it.
    pub fn header(&self) -> Result<Fingerprint, Failure> {
        let json = self.run(&["luksDump", "--dump-json-metadata"], &[], quiet())?;
        let header = serde_json::from_slice(&json)
            .map_err(|_| Failure::new("cryptsetup printed no JSON", "use cryptsetup 2.4 or later"))?;
        Ok(Fingerprint(header_hash(&header)))
    }

    /// Runs cryptsetup: the words, the device, and what follows it. Gives what it printed.
    fn run(&self, words: &[&str], after: &[&str], pipes: (Stdio, Stdio)) -> Result<Vec<u8>, Failure> {
        let failed = |what: &str| {
            Failure::new(
                format_args!("cryptsetup {} {}: {what}", words.first().unwrap_or(&""), self.0.display()),
                "see `cryptsetup --help`; it comes with the package cryptsetup-bin",
            )
        };
        let output = Command::new("cryptsetup")
            .args(words)
            .arg(self.0)
            .args(after)
            .stdin(pipes.0)
            .stdout(pipes.1)
            .stderr(Stdio::piped())
            .spawn()
            .and_then(Child::wait_with_output)
            .map_err(|error| failed(&error.to_string()))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(failed(String::from_utf8_lossy(&output.stderr).trim()))
    }
}

fn quiet() -> (Stdio, Stdio) {
    (Stdio::null(), Stdio::piped())
}

/// A pipe that holds `bytes` and nothing after them. They are fewer than a pipe takes at once (64 KiB).
fn filled(bytes: &[u8]) -> io::Result<PipeReader> {
    let (reader, mut writer) = io::pipe()?;
    writer.write_all(bytes)?;
    Ok(reader)
}
