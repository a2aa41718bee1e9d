//! What commands read: files, standard input and prompts. Everything is bounded.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use keyhearth_core::request::Secret;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::failure::Failure;

/// Names standard input where a file is asked for.
const STDIN: &str = "-";

/// Data to read.
#[derive(Args)]
pub struct Source {
    /// The file to read; standard input if absent or `-`.
    file: Option<PathBuf>,
}

impl Source {
    /// The file at `path`.
    pub fn at(path: PathBuf) -> Self {
        Self { file: Some(path) }
    }

    /// Reads at most `limit` bytes.
    pub fn read(&self, limit: usize) -> Result<Secret, Failure> {
        read(self.file.as_deref().unwrap_or(Path::new(STDIN)), limit)
    }

    /// Reads base64, or bytes as they are if `raw`; at most `limit` bytes come out of it.
    pub fn decode(&self, raw: bool, limit: usize) -> Result<Vec<u8>, Failure> {
        let mut bytes =
            if raw { self.read(limit)? } else { from_base64(&self.read(limit.div_ceil(3) * 5)?, limit)? };
        Ok(std::mem::take(&mut *bytes))
    }
}

/// Reads base64 of at most `limit` bytes; spaces and ends of lines in it do not matter.
pub fn from_base64(text: &[u8], limit: usize) -> Result<Secret, Failure> {
    use base64::Engine as _;
    let dense: Vec<u8> = text.iter().copied().filter(|c| !c.is_ascii_whitespace()).collect();
    let bytes =
        base64::engine::general_purpose::STANDARD.decode(dense).ok().filter(|bytes| bytes.len() <= limit);
    bytes.map(Zeroizing::new).ok_or_else(|| {
        let next = "give what the other command printed, or add --raw for bytes";
        Failure::new(format_args!("the input is not base64 of at most {limit} bytes"), next)
    })
}

/// Reads a file, or standard input for `-`; more than `limit` bytes are an error.
pub fn read(path: &Path, limit: usize) -> Result<Secret, Failure> {
    // Never grown, so that no copy of a secret stays behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit + 1));
    read_into(&mut bytes, path, limit)?;
    Ok(bytes)
}

/// The same of what everybody may know, however much it may be.
pub fn public(path: &Path, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    read_into(&mut bytes, path, limit)?;
    Ok(bytes)
}

fn read_into(bytes: &mut Vec<u8>, path: &Path, limit: usize) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::at(path.display(), &error);
    let source: Box<dyn Read> = if path == Path::new(STDIN) {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(path).map_err(failed)?)
    };
    source.take(limit as u64 + 1).read_to_end(bytes).map_err(failed)?;
    if bytes.len() > limit {
        let next = "give less: large data goes under a data key (`keyhearth data-key`), and large messages are signed by digest";
        return Err(Failure::new(format_args!("{} has more than {limit} bytes", path.display()), next));
    }
    Ok(())
}

/// Reads a text file.
pub fn text(path: &Path, limit: usize) -> Result<String, Failure> {
    let bytes = read(path, limit)?;
    let text = std::str::from_utf8(&bytes).map(str::to_owned);
    text.map_err(|_| Failure::new(format_args!("{} is not UTF-8", path.display()), "convert it to UTF-8"))
}

/// Reads one line that nobody may see: of `file`, or typed without echo, or of standard input.
pub fn secret(prompt: &str, file: Option<&Path>, limit: usize) -> Result<Secret, Failure> {
    let mut line = match file {
        None if io::stdin().is_terminal() => {
            Zeroizing::new(rpassword::prompt_password(format!("{prompt}: "))?.into_bytes())
        }
        file => read(file.unwrap_or(Path::new(STDIN)), limit + 2)?,
    };
    let end = line.iter().position(|c| matches!(c, b'\n' | b'\r')).unwrap_or(line.len());
    line.truncate(end);
    if line.is_empty() || line.len() > limit {
        return Err(Failure::new(
            format_args!("{prompt}: nothing was given, or more than {limit} bytes"),
            "type it, or give it on standard input or in a file",
        ));
    }
    Ok(line)
}

/// Asks for a new secret, twice if it is typed.
pub fn new_secret(prompt: &str, file: Option<&Path>, limit: usize) -> Result<Secret, Failure> {
    let secret = self::secret(prompt, file, limit)?;
    if file.is_none() && io::stdin().is_terminal() {
        let again = self::secret("The same again", None, limit)?;
        if !bool::from(secret.ct_eq(&again)) {
            return Err(Failure::new("the two are not the same", "try again"));
        }
    }
    Ok(secret)
}

/// Asks whether to go on; without a terminal only `yes` does.
pub fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::new("this wants a confirmation and there is no terminal to ask", "add --yes"));
    }
    eprint!("{question} [y/N] ");
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    if line.trim().eq_ignore_ascii_case("y") {
        Ok(())
    } else {
        Err(Failure::new("nothing was changed", "answer y to go on"))
    }
}
