//! What the next boot of this machine will be, told to the server while the machine runs: an update of the kernel changes
//! what is measured, and without this nobody would know before the machine does not start.
//!
//! It is asked like a heartbeat: under the lease, with fresh evidence that covers it. Values come from whoever calls, or are
//! computed from the image that will be booted. Not here: whether they are accepted, which people decide at the server.
//!
//! Called by `keyhearth-boot candidate`, and so by the hooks that run when a kernel was installed.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use keyhearth_attest::eventlog::{self, LOG_BYTES_MAX};
use keyhearth_attest::measure::MeasureError;
use keyhearth_attest::measure::uki::{self, IMAGE_BYTES_MAX};
use keyhearth_core::id::PrincipalId;
use keyhearth_proto::boot::{Candidate, Expected, Outlook, Tee};
use keyhearth_proto::rest::Is;
use serde::Serialize;

use crate::config::Config;
use crate::evidence::Machine;
use crate::run::{Agent, Failure, Rounds};
use crate::session::Session;
use crate::stop::Stop;
use crate::tpm::Tpm;
use crate::transport::Transport;

/// How often every server is asked at most: whoever installs a package waits.
const ATTEMPTS_MAX: u32 = 2;
/// How long it waits in between at most, whatever a server says.
const PAUSE_S_MAX: u32 = 10;
/// The register that an image's stub measures into.
const PCR_IMAGE: u8 = 11;

/// Claims by their names.
pub type Claims = BTreeMap<String, String>;

/// Why nothing is known of the next boot.
#[derive(Debug)]
pub enum Error {
    /// The image cannot be read.
    Image(PathBuf, io::Error),
    /// Its measurement is not predicted.
    Measure(PathBuf, MeasureError),
    /// What the firmware and the TPM say does not tell how this machine measures itself.
    Initrd(String),
    /// The machine's evidence is of a kind that an image alone does not tell.
    Tee(Tee),
    /// The claims are none.
    Claims(keyhearth_core::Error),
    /// There is no session, or it is over.
    NoLease,
    /// A policy asks for an approval, also of machines that run.
    Pending(String),
    /// Any other reason not to go on.
    Stop(Stop),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Measure(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Initrd(why) => write!(
                f,
                "whether the initial ramdisk measures itself is not known ({why}); name the value by --claim pcrs.11=…, as \
                 `keyhearth boot measure uki` prints it"
            ),
            Self::Tee(tee) => {
                write!(f, "an image does not tell what evidence of kind {} claims; name it by --claim", tee.name())
            }
            Self::Claims(error) => error.fmt(f),
            Self::NoLease => f.write_str(
                "this machine has no lease: its boot.toml has no heartbeat, keyhearth-boot watch does not run, or its volumes \
                 were opened otherwise",
            ),
            Self::Pending(approval) => {
                write!(f, "approval {approval} is missing, which the policy asks of machines that run")
            }
            Self::Stop(stop) => write!(f, "{} ({})", stop.why(), stop.code()),
        }
    }
}

impl std::error::Error for Error {}

impl From<Stop> for Error {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

/// What the evidence of a boot of this unified kernel image will claim: the digests of its sections, and PCR 11 as the agent
/// will find it in the initial ramdisk. Where it asks in the system alone, that went on by then, and is left out.
///
/// # Errors
/// [`Error::Tee`], [`Error::Image`], [`Error::Measure`], [`Error::Initrd`].
pub fn predict(image: &Path, config: &Config, machine: &Machine) -> Result<Claims, Error> {
    let tee = config.tee.tee().unwrap_or_else(|| machine.detect());
    if !matches!(tee, Tee::Tpm | Tee::Azure) {
        return Err(Error::Tee(tee));
    }
    let measured = {
        let bytes = read(image, IMAGE_BYTES_MAX).map_err(|error| Error::Image(image.to_owned(), error))?;
        uki::measure(&bytes, false).map_err(|error| Error::Measure(image.to_owned(), error))?
    };
    let sections = measured.image_sections.iter();
    let mut claims: Claims =
        sections.map(|(name, digest)| (format!("boot.image_sections.{name}"), digest.to_string())).collect();
    if config.volumes.iter().any(|volume| !volume.late) {
        let pcr11 = if measures_initrd(machine)? { &measured.pcr11_enter_initrd } else { &measured.pcr11 };
        claims.insert("pcrs.11".to_owned(), pcr11.to_string());
    }
    Ok(claims)
}

/// Whether the initial ramdisk of the system that runs measures itself. The next one is of the same making.
fn measures_initrd(machine: &Machine) -> Result<bool, Error> {
    let unknown = |why: String| Error::Initrd(why);
    let log = read(&machine.event_log, LOG_BYTES_MAX);
    let log = log.map_err(|error| unknown(format!("{}: {error}", machine.event_log.display())))?;
    let started = eventlog::replayed(&log).map_err(|refusal| unknown(refusal.to_string()))?;
    let now = Tpm::open(&machine.tpm).and_then(|mut tpm| tpm.pcrs());
    let now = now.map_err(|error| unknown(error.to_string()))?;
    let told = started.get(&PCR_IMAGE).zip(now.get(&PCR_IMAGE));
    told.and_then(|(started, now)| eventlog::measures_initrd(started, now))
        .ok_or_else(|| unknown("PCR 11 is not what the firmware's log and systemd lead to".to_owned()))
}

fn read(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is longer than {bytes_max} bytes"),
        ));
    }
    Ok(bytes)
}

/// What the server said of the next boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// This machine.
    pub machine: String,
    /// What was compared.
    pub claims: Claims,
    /// In a word.
    pub state: State,
    /// What waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidate: Option<String>,
    /// Claims whose values are none of the reference values.
    pub lacks: Vec<String>,
    /// Claims that have reference values, and were not compared.
    pub unnamed: Vec<String>,
}

/// Whether the next boot meets the reference values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It does.
    Accepted,
    /// It will, once somebody accepts it.
    Waits,
    /// It does not, and nobody was asked.
    Differs,
    /// Nothing that was named differs, and not everything was named.
    Unknown,
}

/// Tells the server what the next boot will be, and says what that means. With `dry_run` nothing is kept there.
///
/// # Errors
/// [`Error`]; then nothing is known.
pub fn propose(
    config: &Config,
    machine: &Machine,
    state: &Path,
    claims: Claims,
    dry_run: bool,
) -> Result<Answer, Error> {
    let expected =
        claims.iter().map(|(claim, value)| Expected { claim: claim.clone(), value: value.clone() });
    let candidate = Candidate { claims: expected.collect(), dry_run };
    candidate.proposal().map_err(Error::Claims)?;
    let held = Session::read(state).map_err(|error| Stop::State(state.to_owned(), error))?;
    let held = held.filter(|session| !session.left().is_zero()).ok_or(Error::NoLease)?;
    let transport = Transport::new(&config.ca).map_err(|error| Stop::Ca(config.ca.clone(), error))?;
    let config = Config { attempts: config.attempts.min(ATTEMPTS_MAX), ..config.clone() };
    let agent = Agent::new(&config, machine, &transport, &[]).proposing(&candidate);
    let mut rounds = Rounds::new(&config);
    let outlook = loop {
        match agent.go_on(rounds.server(), state) {
            Ok((_, opened)) => break opened.outlook.ok_or(Stop::Forged)?,
            Err(Failure::Stop(stop)) => return Err(stop.into()),
            Err(Failure::Pending(pending)) => return Err(Error::Pending(pending.approval.to_string())),
            Err(Failure::Again(why, after_s)) => {
                rounds.wait(&why, after_s.map(patience_s))?;
            }
        }
    };
    Ok(Answer::of(held.clone.unwrap_or(config.machine), claims, outlook))
}

/// What of the time that a server says is waited for.
fn patience_s(after_s: u32) -> u32 {
    after_s.min(PAUSE_S_MAX)
}

impl Answer {
    fn of(machine: PrincipalId, claims: Claims, outlook: Outlook) -> Self {
        let Outlook { candidate, lacks, unnamed } = outlook;
        let state = match (&candidate, lacks.is_empty(), unnamed.is_empty()) {
            (Some(_), ..) => State::Waits,
            (None, false, _) => State::Differs,
            (None, true, false) => State::Unknown,
            (None, true, true) => State::Accepted,
        };
        let candidate = candidate.map(|Is(id)| id.to_string());
        Self { machine: machine.to_string(), claims, state, candidate, lacks, unnamed }
    }

    /// The same in one sentence.
    #[must_use]
    pub fn text(&self) -> String {
        let lacks = self.lacks.join(", ");
        let unnamed = match &*self.unnamed {
            [] => String::new(),
            names => format!("; not compared, as nothing was said of it: {}", names.join(", ")),
        };
        match (&self.candidate, self.state) {
            (Some(id), _) => format!(
                "the next boot waits for acceptance as candidate {id} ({lacks}): do not restart before \
                 `keyhearth boot accept {} {id}`{unnamed}",
                self.machine
            ),
            (None, State::Accepted) => {
                "the next boot is accepted already: it meets the reference values".to_owned()
            }
            (None, State::Unknown) => {
                format!("whether the next boot will pass is not known: nothing differs{unnamed}")
            }
            (None, State::Waits | State::Differs) => format!(
                "the next boot would be refused: {lacks} is none of the reference values; without --dry-run it is \
                 proposed{unnamed}"
            ),
        }
    }
}

/// What to do where the server could not be told.
#[must_use]
pub fn advice(machine: PrincipalId, claims: &Claims) -> String {
    let value =
        claims.get("pcrs.11").map_or_else(|| "CLAIM=VALUE".to_owned(), |value| format!("pcrs.11={value}"));
    format!(
        "whether the next boot will pass is not known: before restarting, see `keyhearth boot explain {machine}`, and add what is \
         missing with `keyhearth boot update {machine} --add {value}`"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hook of a package is not held up for the five minutes that a boot would wait.
    #[test]
    fn whoever_installs_a_package_does_not_wait_for_long() {
        assert_eq!([0, 2, 300].map(patience_s), [0, 2, PAUSE_S_MAX]);
    }
}
