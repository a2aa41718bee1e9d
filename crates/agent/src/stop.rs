//! Why a machine does not start or go on, in words for whoever looks at its console.

use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use keyhearth_core::id::{DeploymentId, Name, PrincipalId, RequestId};
use keyhearth_proto::boot::Refused;
use keyhearth_sys::power::{self, End};

use crate::config::{self, OnRefusal};
use crate::screen::Screen;
use crate::{cryptsetup, evidence, luks};

/// How long a screen is shown before the machine ends in a way that takes the screen away.
const SHOWN: Duration = Duration::from_secs(60);

/// The last word.
#[derive(Debug)]
pub enum Stop {
    /// The configuration.
    Config(config::Error),
    /// The pinned CA cannot be used.
    Ca(PathBuf, io::Error),
    /// This machine cannot keep secrets: no locked memory, no randomness.
    Machine(keyhearth_core::Error),
    /// The process cannot protect itself.
    Hardening(io::Error),
    /// A volume's device did not appear.
    Device(Name, PathBuf, io::Error),
    /// A volume's header is not of the form that is opened.
    Header(Name, luks::Refusal),
    /// There is no evidence.
    Evidence(evidence::Error),
    /// The server refused.
    Refused(Refused),
    /// Nobody approved in time.
    NotApproved(RequestId),
    /// No server answered: the last one that was asked, and why not.
    Unreachable(String, String),
    /// A server answered with what is no answer: the server, and the status.
    Answer(String, u16),
    /// Another deployment answered.
    OtherServer(DeploymentId),
    /// What was released is not signed by the release key, for this request and these volumes.
    Forged,
    /// What came is released to a machine that is no clone of this agent's image.
    OtherImage(PrincipalId),
    /// A volume does not open.
    Cryptsetup(Name, cryptsetup::Error),
    /// What is to be confirmed later cannot be kept.
    State(PathBuf, io::Error),
    /// The boot token in the encrypted volume cannot be read or replaced.
    Token(PathBuf, io::Error),
    /// A clone of a golden image cannot write what makes its disk its own.
    Exchange(Name, io::Error),
    /// A clone of a golden image did not start yet.
    NoIdentity,
    /// No server renewed the lease of a machine that runs before it was over.
    LeaseOver,
    /// A mistake in this program.
    Defect,
}

/// When a machine hears the last word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// It starts, and nothing of it is open yet.
    Start,
    /// It runs.
    Run,
}

impl Stop {
    /// A word for programs that look at the console.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Config(_) => "config",
            Self::Ca(..) => "ca",
            Self::Machine(_) | Self::Hardening(_) => "machine",
            Self::Device(..) => "device",
            Self::Header(_, refusal) => refusal.rule.code(),
            Self::Evidence(_) => "no-evidence",
            Self::Refused(refused) => &refused.code,
            Self::NotApproved(_) => "not-approved",
            Self::Unreachable(..) => "unreachable",
            Self::Answer(..) => "answer",
            Self::OtherServer(_) => "other-server",
            Self::Forged => "forged",
            Self::OtherImage(_) => "other-image",
            Self::Cryptsetup(..) => "cryptsetup",
            Self::State(..) => "state",
            Self::Token(..) => "token",
            Self::Exchange(..) => "exchange",
            Self::NoIdentity => "no-identity",
            Self::LeaseOver => "lease-over",
            Self::Defect => "defect",
        }
    }

    /// What does not work, in one sentence.
    fn what(&self) -> String {
        match self {
            Self::Config(_) | Self::Ca(..) => {
                "The boot configuration of this machine cannot be used.".to_owned()
            }
            Self::Machine(_) | Self::Hardening(_) => "This machine cannot keep a secret.".to_owned(),
            Self::Device(name, ..) => format!("Volume {} is not there.", name.as_str()),
            Self::Header(name, _) => format!("Volume {} has a header that is not opened.", name.as_str()),
            Self::Evidence(_) => "This machine cannot show what it is.".to_owned(),
            Self::Refused(_) => "The key server refused this machine.".to_owned(),
            Self::NotApproved(_) => "Nobody approved this machine in time.".to_owned(),
            Self::Unreachable(..) => "No key server answered.".to_owned(),
            Self::Answer(..) | Self::OtherServer(_) => "What answered is not the key server.".to_owned(),
            Self::Forged => {
                "The keys that came were not released by the key server for this request.".to_owned()
            }
            Self::OtherImage(_) => "The disk is that of a machine of another kind.".to_owned(),
            Self::Cryptsetup(name, _) => format!("Volume {} does not open.", name.as_str()),
            Self::State(..) => "This machine has no memory for the boot's state.".to_owned(),
            Self::Token(..) => "The boot token of this machine cannot be kept.".to_owned(),
            Self::Exchange(name, _) => format!("Volume {} does not become this clone's own.", name.as_str()),
            Self::NoIdentity => "This clone of a golden image has no identity yet.".to_owned(),
            Self::LeaseOver => "No key server heard of this machine in time.".to_owned(),
            Self::Defect => "The boot agent failed.".to_owned(),
        }
    }

    /// Why, as exactly as it is known here.
    pub(crate) fn why(&self) -> String {
        match self {
            Self::Config(error) => error.to_string(),
            Self::Ca(path, error) | Self::State(path, error) | Self::Token(path, error) => {
                format!("{}: {error}", path.display())
            }
            Self::Machine(error) => error.to_string(),
            Self::Hardening(error) => error.to_string(),
            Self::Device(_, path, error) => format!("{}: {error}", path.display()),
            Self::Header(_, refusal) => refusal.to_string(),
            Self::Evidence(error) => error.to_string(),
            Self::Refused(refused) => refused.text.clone(),
            Self::NotApproved(approval) => format!("Approval {approval} is still open."),
            Self::Unreachable(server, why) => format!("{server}: {why}"),
            Self::Answer(server, status) => {
                format!("{server} answered with status {status}, and nothing known.")
            }
            Self::OtherServer(id) => format!("It is deployment {id}, and another one is configured."),
            Self::Forged => "The signature does not hold, or it is for other volumes.".to_owned(),
            Self::OtherImage(id) => format!("It says it is machine {id}, which is no clone of this image."),
            Self::Cryptsetup(_, error) => error.to_string(),
            Self::Exchange(_, error) => error.to_string(),
            Self::NoIdentity => "Its first start asks for one, and nothing else does.".to_owned(),
            Self::LeaseOver => "Its lease is over, so that another copy of it may start.".to_owned(),
            Self::Defect => "This is a mistake in it; its words stand above.".to_owned(),
        }
    }

    /// What somebody can do about it.
    fn advice(&self) -> &'static str {
        match self {
            Self::Config(_) | Self::Ca(..) => {
                "Start a rescue system and correct /etc/keyhearth, or enroll again."
            }
            Self::Machine(_) | Self::Hardening(_) | Self::State(..) => "Give the machine more memory.",
            Self::Device(..) => "Attach the disk, or correct `device` in the configuration.",
            Self::Header(..) | Self::OtherImage(_) => {
                "The disk was altered, or set up in a way that is not allowed. Compare it with a backup."
            }
            Self::Evidence(_) => "Start the machine where it has the hardware that it was enrolled with.",
            Self::Refused(_) => "The server's log has the rest under the audit number.",
            Self::NotApproved(_) => "Approve, then start the machine again.",
            Self::Unreachable(..) | Self::LeaseOver => {
                "See to the network, the name and the server, then start the machine again."
            }
            Self::Answer(..) | Self::OtherServer(_) | Self::Forged => {
                "Somebody else answers in the server's place, or the configuration is of another server."
            }
            Self::Cryptsetup(..) => "The keyslot and the server's secret differ, or the disk fails.",
            Self::Exchange(..) => {
                "See to the disk, and start again: as a new clone, or as this one if the header was written."
            }
            Self::NoIdentity => "Start it.",
            Self::Token(..) => "Start a rescue system and see to the file system.",
            Self::Defect => "Please report it.",
        }
    }

    /// The screen that says all of it.
    #[must_use]
    pub fn screen(&self, moment: Moment, contact: Option<&str>, then: &str) -> Screen {
        let audit = match self {
            Self::Refused(refused) => Some(refused.audit.to_string()),
            Self::NotApproved(approval) => Some(approval.to_string()),
            Self::Config(_)
            | Self::Ca(..)
            | Self::Machine(_)
            | Self::Hardening(_)
            | Self::Device(..)
            | Self::Header(..)
            | Self::Evidence(_)
            | Self::Unreachable(..)
            | Self::Answer(..)
            | Self::OtherServer(_)
            | Self::Forged
            | Self::OtherImage(_)
            | Self::Cryptsetup(..)
            | Self::State(..)
            | Self::Token(..)
            | Self::Exchange(..)
            | Self::NoIdentity
            | Self::LeaseOver
            | Self::Defect => None,
        };
        let title = match moment {
            Moment::Start => "THIS MACHINE DOES NOT START",
            Moment::Run => "THIS MACHINE MAY NOT KEEP ITS KEYS",
        };
        Screen::new(title)
            .line("What", self.what())
            .line("Why", self.why())
            .line("Code", self.code())
            .maybe("Audit", audit)
            .line("Do", self.advice())
            .maybe("Ask", contact.map(str::to_owned))
            .line("Now", then)
    }
}

/// Shows why, and ends the machine. Comes back only if the kernel does not end it.
pub fn end(stop: &Stop, contact: Option<&str>, how: OnRefusal) {
    let (then, pause) = match how {
        OnRefusal::Halt => ("The machine halts. Its volumes stay closed.", Duration::ZERO),
        OnRefusal::PowerOff => ("The power goes off in a minute. The volumes stay closed.", SHOWN),
        OnRefusal::Reboot => ("The machine starts anew in a minute. Its volumes stay closed.", SHOWN),
    };
    stop.screen(Moment::Start, contact, then).show();
    thread::sleep(pause);
    power_end(how);
}

/// Shows why, and ends a machine that runs, at once: what is open is open to whoever took it.
pub fn end_running(stop: &Stop, contact: Option<&str>, how: OnRefusal) {
    stop.screen(Moment::Run, contact, "The machine ends at once.").show();
    power_end(how);
}

fn power_end(how: OnRefusal) {
    let error = power::end(End::from(how));
    crate::screen::note(&format!("the kernel does not end this machine: {error}"));
}
