//! `keyhearth-boot`: the agent of an initramfs, and of the system that runs then.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use keyhearth_agent::config::{CONFIG_FILE, Config, OnRefusal};
use keyhearth_agent::evidence::Machine;
use keyhearth_agent::run::Extent;
use keyhearth_agent::session::{STATE_FOLDER, Session};
use keyhearth_agent::stop::{self, Moment, Stop};
use keyhearth_agent::{candidate, check, confirm, run, watch};
use keyhearth_core::id::PrincipalId;
use keyhearth_sys::process;

const USAGE: &str = "\
usage: keyhearth-boot [--config FILE] COMMAND

  open [--stay]                  get the keys of all volumes and open them, or end the machine
  open --late                    the same of the volumes that are opened late, while the system runs
  watch                          keep the lease while the system runs, and do what is configured when it ends
  try                            do the same without opening anything, to see whether the keys fit
  confirm --root DIR [--stay]    tell the server, with the root file system mounted at DIR
  candidate [--uki FILE] [--claim NAME=VALUE]... [--dry-run] [--json]
                                 tell the server what the next boot will be, under the lease
  check [--json]                 look at this machine and change nothing
  ak [--json]                    print the public attestation key of this machine's TPM

--config FILE is /etc/keyhearth/boot.toml unless given.
With --stay a refusal is an exit status of 1, and does not end the machine; so it is with --late.
Outside of an initramfs `open` and `confirm` do nothing without one of them.
";

/// What the command line says.
#[derive(Default)]
struct Arguments {
    command: String,
    config: Option<PathBuf>,
    root: Option<PathBuf>,
    json: bool,
    stay: bool,
    late: bool,
    uki: Option<PathBuf>,
    claims: candidate::Claims,
    dry_run: bool,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Option<Self> {
        let mut arguments = Self::default();
        while let Some(word) = words.next() {
            match &*word {
                "--config" => arguments.config = Some(words.next()?.into()),
                "--root" => arguments.root = Some(words.next()?.into()),
                "--json" => arguments.json = true,
                "--stay" => arguments.stay = true,
                "--late" => arguments.late = true,
                "--dry-run" => arguments.dry_run = true,
                "--uki" => arguments.uki = Some(words.next()?.into()),
                "--claim" => {
                    let word = words.next()?;
                    let (name, value) = word.split_once('=')?;
                    // Twice is a mistake, and not the last.
                    if arguments.claims.insert(name.to_owned(), value.to_owned()).is_some() {
                        return None;
                    }
                }
                _ if arguments.command.is_empty() && !word.starts_with('-') => arguments.command = word,
                _ => return None,
            }
        }
        Some(arguments)
    }

    fn config(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new(CONFIG_FILE))
    }
}

fn main() -> ExitCode {
    let Some(arguments) = Arguments::parse(std::env::args().skip(1)) else { return usage() };
    let proposes = arguments.uki.is_some() || !arguments.claims.is_empty();
    if arguments.late && arguments.command != "open"
        || (proposes || arguments.dry_run) && arguments.command != "candidate"
    {
        return usage();
    }
    let done = match (&*arguments.command, &arguments.root) {
        ("open", None) if arguments.late => {
            return boot(&Arguments { stay: true, ..arguments }, |config| open(config, Extent::Late));
        }
        ("open", None) => return boot(&arguments, |config| open(config, Extent::Open)),
        ("try", None) => {
            return boot(&Arguments { stay: true, ..arguments }, |config| open(config, Extent::Try));
        }
        ("confirm", Some(root)) => return boot(&arguments, |config| confirm::confirm(config, root, state())),
        ("watch", None) => return watch(&arguments),
        ("candidate", None) if proposes => propose(&arguments),
        ("check", None) => check(&arguments),
        ("ak", None) => ak(&arguments),
        _ => return usage(),
    };
    done.unwrap_or_else(|error| {
        eprintln!("keyhearth-boot: {error}");
        ExitCode::FAILURE
    })
}

fn usage() -> ExitCode {
    eprint!("{USAGE}");
    ExitCode::from(2)
}

fn open(config: &Config, extent: Extent) -> Result<(), Stop> {
    run::open(config, &Machine::default(), state(), extent)
}

fn state() -> &'static Path {
    Path::new(STATE_FOLDER)
}

/// Does what ends the machine if it fails.
fn boot(arguments: &Arguments, act: impl FnOnce(&Config) -> Result<(), Stop>) -> ExitCode {
    if !arguments.stay && !run::in_initramfs() {
        eprintln!(
            "keyhearth-boot: this is no initramfs, and a refusal would end the machine; say --stay to try it here"
        );
        return ExitCode::from(2);
    }
    if !arguments.stay {
        std::panic::set_hook(Box::new(|panic| {
            eprintln!("keyhearth-boot: {panic}");
            stop::end(&Stop::Defect, None, OnRefusal::Halt);
        }));
    }
    let config = configured(arguments);
    let done = config.as_ref().map_or(Ok(()), act);
    // Without a configuration nobody chose another end than the safest.
    let (contact, how) = config
        .as_ref()
        .map_or((None, OnRefusal::Halt), |config| (config.contact.as_deref(), config.on_refusal));
    let Some(stop) = config.as_ref().err().or(done.as_ref().err()) else { return ExitCode::SUCCESS };
    if arguments.stay {
        stop.screen(Moment::Start, contact, "Nothing: this was asked to stay.").show();
    } else {
        stop::end(stop, contact, how);
    }
    ExitCode::FAILURE
}

/// The configuration, read by a process that can keep secrets.
fn configured(arguments: &Arguments) -> Result<Config, Stop> {
    let hardened = process::harden().and_then(|()| process::lock_memory());
    hardened.map_err(Stop::Hardening)?;
    Config::read(arguments.config()).map_err(Stop::Config)
}

/// Keeps the lease until it ends. Whoever ends this program, as systemd does when the system goes down, closes nothing.
fn watch(arguments: &Arguments) -> ExitCode {
    let config = match configured(arguments) {
        Ok(config) => config,
        Err(stop) => {
            stop.screen(Moment::Run, None, "Nothing: nobody watches.").show();
            return ExitCode::FAILURE;
        }
    };
    let Err(stop) = watch::watch(&config, &Machine::default(), state());
    let contact = config.contact.as_deref();
    if !matches!(stop, Stop::Refused(_) | Stop::LeaseOver) {
        stop.screen(Moment::Run, contact, "Nothing yet: the lease runs on.").show();
        return if matches!(stop, Stop::Config(_)) { ExitCode::FAILURE } else { ExitCode::from(3) };
    }
    let end = config.heartbeat.and_then(|heartbeat| heartbeat.on_end.end());
    // What takes the memory away takes the keys with it, sooner than any volume closes.
    let at_once = matches!(end, Some(OnRefusal::PowerOff | OnRefusal::Reboot));
    let closed = at_once || watch::close(&config, state());
    match end.or((!closed).then_some(OnRefusal::Halt)) {
        Some(how) => stop::end_running(&stop, contact, how),
        None => {
            stop.screen(Moment::Run, contact, "Its late volumes are closed. It goes on without them.").show()
        }
    }
    ExitCode::FAILURE
}

type Done = Result<ExitCode, Box<dyn Error>>;

/// Tells the server what the next boot will be. Exit status 3 says that it is not accepted, 1 that nothing is known.
fn propose(arguments: &Arguments) -> Done {
    let config = Config::read(arguments.config())?;
    let mut claims = candidate::Claims::new();
    let answer = proposed(arguments, &config, &mut claims)
        .map_err(|error| format!("{error}; {}", candidate::advice(running(&config), &claims)))?;
    if arguments.json {
        println!("{}", serde_json::to_string(&answer)?);
    } else {
        println!("{}", answer.text());
    }
    Ok(if answer.state == candidate::State::Accepted { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

/// The machine that runs: of a golden image the clone that it started as.
fn running(config: &Config) -> PrincipalId {
    let held = Session::read(state()).ok().flatten();
    held.and_then(|held| held.clone).unwrap_or(config.machine)
}

/// What the server said of `claims`, which are found out here.
fn proposed(
    arguments: &Arguments,
    config: &Config,
    claims: &mut candidate::Claims,
) -> Result<candidate::Answer, candidate::Error> {
    // Before memory is locked: an image is long.
    if let Some(image) = &arguments.uki {
        *claims = candidate::predict(image, config, &Machine::default())?;
    }
    claims.extend(arguments.claims.clone());
    let config = configured(arguments)?;
    candidate::propose(&config, &Machine::default(), state(), claims.clone(), arguments.dry_run)
}

fn check(arguments: &Arguments) -> Done {
    let config = Config::read(arguments.config())?;
    let findings = check::look(&config, &Machine::default());
    if arguments.json {
        println!("{}", serde_json::to_string(&findings)?);
    } else {
        print!("{}", findings.text());
    }
    Ok(if findings.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn ak(arguments: &Arguments) -> Done {
    let ak = check::ak(&Machine::default())?;
    if arguments.json {
        println!("{}", serde_json::to_string(&ak)?);
    } else {
        print!("{}", ak.pem);
    }
    Ok(ExitCode::SUCCESS)
}
