//! Manifests as text, and what is signed of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use keyhearth_crypto::digest;

use super::{
    Content, Device, Earlier, Entry, FolderId, Front, Hash, InsidePath, MANIFEST_BYTES_MAX, Manifest, Record,
    VERSION_MAX,
};
use crate::held::FileId;
use crate::hex;
use crate::names::{Check, Names};

const VERSION: &str = "keyhearth/manifest1";
/// What a signature is of begins with this, so that it is of nothing else.
const STATEMENT: &str = "keyhearth/manifest-statement1";
/// What stands for no id.
const NONE: &str = "-";
/// The longest id of a tenant or a key, in bytes.
const ID_BYTES_MAX: usize = 256;
/// The longest signature, in bytes.
const SIGNATURE_BYTES_MAX: usize = 1024;

/// Why a text is no manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a manifest: line {line}: {rule}")]
pub struct Malformed {
    /// The first line that breaks a rule, from 1 on.
    pub line: usize,
    /// The rule.
    pub rule: &'static str,
}

/// Who signs, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The tenant of the key.
    pub tenant: String,
    /// The key's id.
    pub key: String,
    /// The version of the key.
    pub version: u32,
}

impl Statement {
    /// What is signed: these names and the folder's, and the hash of the manifest.
    #[must_use]
    pub fn of(&self, manifest: &Manifest) -> String {
        let Self { tenant, key, version } = self;
        let hash = Hash(digest::sha256(&[manifest.to_text().as_bytes()]));
        let folder = manifest.folder;
        format!("{STATEMENT}\nfolder {folder}\ntenant {tenant}\nkey {key} {version}\nsha256 {hash}\n")
    }
}

/// A manifest and its signature, which reading does not check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// What was signed.
    pub manifest: Manifest,
    /// Who says that it signed.
    pub by: Statement,
    /// The signature of [`Statement::of`].
    pub signature: Vec<u8>,
}

impl Signed {
    /// The text that lies in the folder.
    #[must_use]
    pub fn to_text(&self) -> String {
        let Statement { tenant, key, version } = &self.by;
        let mut text = self.manifest.to_text();
        text +=
            &format!("tenant {tenant}\nkey {key} {version}\nsignature {}\n", BASE64.encode(&self.signature));
        text
    }

    /// Reads such a text; only the one that [`Signed::to_text`] gives is accepted.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut lines = Lines::of(bytes)?;
        let manifest = lines.manifest()?;
        let tenant = lines.expect("tenant ", "must be the tenant", id)?;
        let (key, version) = lines.expect("key ", "must be the key and its version", |rest| {
            let (key, version) = rest.split_once(' ')?;
            Some((id(key)?, u32::try_from(number(version)?).ok()?))
        })?;
        let signature = lines.expect("signature ", "must be the signature in base64", |rest| {
            BASE64.decode(rest).ok().filter(|bytes| (1..=SIGNATURE_BYTES_MAX).contains(&bytes.len()))
        })?;
        lines.end()?;
        Ok(Self { manifest, by: Statement { tenant, key, version }, signature })
    }
}

impl Manifest {
    /// The manifest as text, without a signature. Equal manifests give equal texts.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{VERSION}\nfolder {}\n", self.folder);
        text.extend(self.names.iter().map(|names| format!("names {} {}\n", names.secret, names.check)));
        for (path, entry) in &self.entries {
            // Writing to a `String` fails never.
            let _ = entry.write(path, &mut text);
        }
        text
    }

    /// Reads a manifest without a signature; only the one text that [`Manifest::to_text`] gives is accepted.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut lines = Lines::of(bytes)?;
        let manifest = lines.manifest()?;
        lines.end()?;
        Ok(manifest)
    }
}

impl Entry {
    fn write(&self, path: &InsidePath, text: &mut String) -> fmt::Result {
        let path = path.as_str();
        for (version, Record { content, when, device }) in &self.newest {
            let device = device.as_str();
            match content {
                Some(Content { front, hash, payload_bytes, file }) => {
                    let file = file.map_or(NONE.to_owned(), |file| file.to_string());
                    writeln!(
                        text,
                        "file {version} {file} {payload_bytes} {front} {hash} {when} {device} {path}"
                    )?;
                }
                None => writeln!(text, "gone {version} {when} {device} {path}")?,
            }
        }
        self.earlier.iter().try_for_each(|(version, front)| {
            let front = front.map_or(NONE.to_owned(), |front| front.to_string());
            writeln!(text, "was {version} {front} {path}")
        })
    }
}

/// The lines of a text.
struct Lines<'t> {
    rest: &'t str,
    /// The number of the line that comes next.
    number: usize,
}

impl<'t> Lines<'t> {
    fn of(bytes: &'t [u8]) -> Result<Self, Malformed> {
        let broken = |rule| Malformed { line: 1, rule };
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(broken("a manifest has at most 64 MiB"));
        }
        let rest = str::from_utf8(bytes).map_err(|_| broken("it is no UTF-8"))?;
        Ok(Self { rest, number: 1 })
    }

    fn broken(&self, rule: &'static str) -> Malformed {
        Malformed { line: self.number, rule }
    }

    fn expect<T>(
        &mut self,
        word: &str,
        rule: &'static str,
        read: impl FnOnce(&'t str) -> Option<T>,
    ) -> Result<T, Malformed> {
        let (line, rest) = self.rest.split_once('\n').ok_or(self.broken(rule))?;
        let read = line.strip_prefix(word).and_then(read).ok_or(self.broken(rule))?;
        (self.rest, self.number) = (rest, self.number + 1);
        Ok(read)
    }

    fn manifest(&mut self) -> Result<Manifest, Malformed> {
        let whole = self.rest;
        self.expect(VERSION, "must be `keyhearth/manifest1`", |rest| rest.is_empty().then_some(()))?;
        let folder = self.expect("folder ", "must be the folder's id", FolderId::read)?;
        let names = match self.rest.starts_with("names ") {
            true => Some(self.expect("names ", "must be the secret of names and its check", names)?),
            false => None,
        };
        let mut entries: BTreeMap<InsidePath, Entry> = BTreeMap::new();
        loop {
            let (path, said, was) = if self.rest.starts_with("file ") {
                const RULE: &str = "must be a file: version, id, length, front, hash, time, device, path";
                let (path, version, record) = self.expect("file ", RULE, file)?;
                (path, Some((version, record)), None)
            } else if self.rest.starts_with("gone ") {
                const RULE: &str = "must be a deleted file: version, time, device, path";
                let (path, version, record) = self.expect("gone ", RULE, gone)?;
                (path, Some((version, record)), None)
            } else if self.rest.starts_with("was ") {
                let (path, was) =
                    self.expect("was ", "must be an earlier version: version, front, path", was)?;
                (path, None, Some(was))
            } else {
                break;
            };
            let new = || Entry { newest: BTreeSet::new(), earlier: BTreeSet::new() };
            let entry = entries.entry(path).or_insert_with(new);
            entry.newest.extend(said);
            entry.earlier.extend(was);
            if entry.earlier.last().is_some_and(|(version, _)| *version >= entry.version()) {
                return Err(Malformed { line: self.number - 1, rule: "an earlier version has a newer one" });
            }
            entry.settle();
        }
        let manifest = Manifest { folder, names, entries };
        // One manifest has one text: what is signed is what is compared.
        if manifest.to_text() == whole[..whole.len() - self.rest.len()] {
            Ok(manifest)
        } else {
            Err(Malformed { line: 1, rule: "its lines are not all, each once and in their order" })
        }
    }

    fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.broken("nothing may follow")) }
    }
}

fn names(rest: &str) -> Option<Names> {
    let (secret, check) = rest.split_once(' ')?;
    Some(Names { secret: id(secret)?, check: Check::read(check)? })
}

fn file(rest: &str) -> Option<(InsidePath, u64, Record)> {
    let mut words = rest.splitn(8, ' ');
    let version = self::version(words.next()?)?;
    let file = match words.next()? {
        NONE => None,
        id => Some(FileId::read(id)?),
    };
    let payload_bytes = number(words.next()?)?;
    let front = Front(hex::read(words.next()?)?);
    let hash = Hash(hex::read(words.next()?)?);
    let content = Some(Content { front, hash, payload_bytes, file });
    let (when, device) = (number(words.next()?)?, Device::new(words.next()?)?);
    Some((InsidePath::new(words.next()?)?, version, Record { content, when, device }))
}

fn gone(rest: &str) -> Option<(InsidePath, u64, Record)> {
    let mut words = rest.splitn(4, ' ');
    let version = self::version(words.next()?)?;
    let (when, device) = (number(words.next()?)?, Device::new(words.next()?)?);
    Some((InsidePath::new(words.next()?)?, version, Record { content: None, when, device }))
}

fn was(rest: &str) -> Option<(InsidePath, Earlier)> {
    let mut words = rest.splitn(3, ' ');
    let version = self::version(words.next()?)?;
    let front = match words.next()? {
        NONE => None,
        front => Some(Front(hex::read(front)?)),
    };
    Some((InsidePath::new(words.next()?)?, (version, front)))
}

/// A version of a path, from 1 on.
fn version(text: &str) -> Option<u64> {
    number(text).filter(|version| (1..=VERSION_MAX).contains(version))
}

/// A decimal number without leading zeros.
fn number(text: &str) -> Option<u64> {
    let is_canonical =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_canonical)
}

/// An id: visible ASCII.
fn id(text: &str) -> Option<String> {
    let is_id = (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_id.then(|| text.to_owned())
}
