//! What a demonstration reports: measured values for programs, at most two lines of 80 columns each for people.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

const MIB: f64 = 1_048_576.0;
/// Columns of a file's name.
const NAME_CHARS: usize = 20;

/// Something that was done, checked and measured.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names say it; times are in milliseconds")]
pub enum Step {
    /// A deployment was made and its server started.
    Server { url: String, folder: String, ms: f64 },
    /// It refused while it was sealed; so many shares of so many opened the seal.
    Unsealed { shares: (u8, u8), refusal: String, ms: f64 },
    /// Identities of a tenant were issued.
    Identities { tenant: &'static str, roles: [&'static str; 5] },
    /// A key was made.
    Key { id: String, algorithm: String, ms: f64 },
    /// A policy limits it to one role and one pair of the context.
    Policy { role: &'static str, context: (&'static str, &'static str) },
    /// A file was sealed under a data key of its own.
    Sealed { file: String, bytes: u64, data_key_ms: f64, ms: f64 },
    /// All files were opened and compared.
    Opened { files: usize, bytes: u64, ms: f64 },
    /// Somebody was refused.
    Refused { role: &'static str, attempt: &'static str, code: String },
    /// A version was suspended and no file could be opened.
    Suspended { version: u32, code: String },
    /// It was resumed, and a file opened.
    Resumed { version: u32, opened: String },
    /// A new primary version; a file of the old one was opened.
    Rotated { primary: u32, opened: String },
    /// The new version was deactivated: no new data key, but the file opened.
    Deactivated { version: u32, code: String, opened: String },
    /// A version was destroyed and no file can be opened any more.
    Destroyed { version: u32, files: usize, code: String },
    /// The log was exported and verified, and a fault found in an altered copy.
    Log { entries: u64, done: u64, refused: u64, fault: String, ms: f64 },
    /// The temporary folder is gone.
    Removed { ms: f64 },
}

impl Display for Step {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server { url, folder, ms } => {
                line(f, "server", format_args!("{url}, mutual TLS  {}", time(*ms)))?;
                line(f, "", format_args!("in {folder}, gone at the end"))
            }
            Self::Unsealed { shares: (needed, made), refusal, ms } => line(
                f,
                "unseal",
                format_args!(
                    "it answered `{refusal}` until {needed} of {made} shares were given  {}",
                    time(*ms)
                ),
            ),
            Self::Identities { tenant, roles } => {
                line(f, "people", format_args!("tenant {tenant}, certificates from the built-in CA for"))?;
                line(f, "", format_args!("{}", roles.join(", ")))
            }
            Self::Key { id, algorithm, ms } => {
                line(f, "key", format_args!("{algorithm} {id} by key-admin  {}", time(*ms)))
            }
            Self::Policy { role, context: (name, value) } => {
                line(f, "policy", format_args!("used only by a {role}, and only with {name}={value}"))
            }
            Self::Sealed { file, bytes, data_key_ms, ms } => {
                line(f, "seal", format_args!("{}, key {}", throughput(file, *bytes, *ms), time(*data_key_ms)))
            }
            Self::Opened { files, bytes, ms } => line(
                f,
                "open",
                format_args!("{}, SHA-256 equal", throughput(&format!("all {files}"), *bytes, *ms)),
            ),
            Self::Refused { role, attempt, code } => {
                line(f, "refuse", format_args!("{role} {attempt}: {code}"))
            }
            Self::Suspended { version, code } => {
                line(f, "suspend", format_args!("version {version}: no file opens ({code})"))
            }
            Self::Resumed { version, opened } => {
                line(f, "resume", format_args!("version {version}: {} opens again", cut(opened)))
            }
            Self::Rotated { primary, opened } => line(
                f,
                "rotate",
                format_args!("version {primary} protects from now on; {} opens", cut(opened)),
            ),
            Self::Deactivated { version, code, opened } => line(
                f,
                "deactivate",
                format_args!("version {version}: no data keys ({code}); {} opens", cut(opened)),
            ),
            Self::Destroyed { version, files, code } => line(
                f,
                "destroy",
                format_args!("custodian ends version {version}: none of {files} opens, for ever ({code})"),
            ),
            Self::Log { entries, done, refused, fault, ms } => {
                line(f, "log", format_args!("{entries} entries ({done} done, {refused} refused) exported"))?;
                line(f, "", format_args!("and verified offline with the public key  {}", time(*ms)))?;
                line(f, "", format_args!("one bit changed: {fault}"))
            }
            Self::Removed { ms } => line(f, "done", format_args!("in {}; nothing is left behind", time(*ms))),
        }
    }
}

fn line(f: &mut Formatter<'_>, verb: &str, text: fmt::Arguments<'_>) -> fmt::Result {
    writeln!(f, "{verb:10}  {text}")
}

fn time(ms: f64) -> String {
    if ms < 1_000.0 { format!("{ms:.1} ms") } else { format!("{:.1} s", ms / 1e3) }
}

#[allow(clippy::cast_precision_loss, reason = "shown with one digit")]
fn throughput(what: &str, bytes: u64, ms: f64) -> String {
    let mib = bytes as f64 / MIB;
    let size = if mib < 1.0 { format!("{bytes} B") } else { format!("{mib:.0} MiB") };
    let rate = if mib < 1.0 { String::new() } else { format!("{:.0} MiB/s", mib / ms * 1e3) };
    format!("{:NAME_CHARS$} {size:>9} {:>8} {rate:>10}", cut(what), time(ms))
}

/// A name, short enough for a line.
fn cut(name: &str) -> String {
    if name.chars().count() <= NAME_CHARS {
        name.to_owned()
    } else {
        name.chars().take(NAME_CHARS - 1).chain(['…']).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_eighty_columns() {
        let long = "x".repeat(300);
        let code = || "wrong_state".to_owned();
        let ms = 99_999.9;
        let steps = [
            Step::Server {
                url: "https://localhost:65535".to_owned(),
                folder: "/tmp/x".to_owned(),
                ms: 999.9,
            },
            Step::Unsealed { shares: (2, 3), refusal: "sealed".to_owned(), ms: 999.9 },
            Step::Identities {
                tenant: "demo",
                roles: ["tenant-admin", "key-admin", "key-user", "auditor", "custodian"],
            },
            Step::Key {
                id: "0197b2f0-0000-7000-8000-000000000001".to_owned(),
                algorithm: "aes-256".to_owned(),
                ms: 999.9,
            },
            Step::Sealed { file: long.clone(), bytes: 1 << 36, data_key_ms: 999.9, ms },
            Step::Opened { files: 12, bytes: 1 << 36, ms },
            Step::Rotated { primary: 2, opened: long.clone() },
            Step::Deactivated { version: 2, code: code(), opened: long },
            Step::Destroyed { version: 1, files: 12, code: code() },
        ];
        for step in steps {
            let text = step.to_string();
            assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        }
    }
}
