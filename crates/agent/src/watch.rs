//! While the machine runs: shows the server again and again what it is, and so keeps the lease; and what happens when it
//! may not go on.
//!
//! ```text
//! pause ─▶ challenge ─▶ evidence ─▶ attest, with proof of the lease ─▶ lease longer ─▶ pause
//!            ▲   202, 429, 503, no answer, nonsense │                        403, lease over
//!            └──────────────────────────────────────┘                               │
//!                               late volumes closed, or the machine ended ◀─────────┘
//! ```
//!
//! Asking and watching the time are two threads, as an answer may take long: when the lease is over, it is over. Time is
//! the kernel's clock that nobody sets and that counts while the machine is suspended. The program may be ended without
//! harm: nothing is closed by that, and another one goes on from what is in memory.
//!
//! Called by `keyhearth-boot watch`.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use crate::config::{self, Config, Heartbeat};
use crate::cryptsetup;
use crate::evidence::Machine;
use crate::run::{Agent, Failure, Rounds, jittered};
use crate::session::Session;
use crate::stop::Stop;
use crate::transport::{Server, Transport};

/// How often the time is looked at: clocks of threads stand still while the machine is suspended.
const LOOK: Duration = Duration::from_secs(5);
/// So often at least a heartbeat is tried before the lease is over.
const BEATS_OF_LEASE: u32 = 3;

/// Keeps the lease of a machine that runs, once it has one: until then its volumes are closed, or were opened otherwise, as
/// with a recovery passphrase.
///
/// # Errors
/// [`Stop::Refused`] if the machine may not go on, [`Stop::LeaseOver`] if no server said in time that it may; others
/// before the first heartbeat. It comes back in no other way.
pub fn watch(config: &Config, machine: &Machine, state: &Path) -> Result<Infallible, Stop> {
    let rule = config::Error::Invalid("heartbeat", "must be there, as every_s and on_end");
    let heartbeat = config.heartbeat.ok_or(Stop::Config(rule))?;
    let transport = Transport::new(&config.ca).map_err(|error| Stop::Ca(config.ca.clone(), error))?;
    let mut session = loop {
        match Session::read(state).map_err(|error| Stop::State(state.to_owned(), error))? {
            Some(session) => break session,
            None => thread::sleep(LOOK),
        }
    };
    let (refuse, refused) = mpsc::channel();
    // Silence ends with the lease, not after so many attempts.
    let patient = Config { attempts: u32::MAX, ..config.clone() };
    let (machine, folder) = (machine.clone(), state.to_owned());
    thread::spawn(move || beats(&patient, &machine, &transport, &folder, heartbeat, &refuse));
    loop {
        // Another program may have renewed it.
        if let Ok(Some(newer)) = Session::read(state) {
            session = newer;
        }
        if session.left().is_zero() {
            return Err(Stop::LeaseOver);
        }
        match refused.recv_timeout(session.left().min(LOOK)) {
            Ok(stop) => return Err(stop),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(Stop::Defect),
        }
    }
}

/// Asks again and again until it is refused.
fn beats(
    config: &Config,
    machine: &Machine,
    transport: &Transport,
    state: &Path,
    heartbeat: Heartbeat,
    refuse: &Sender<Stop>,
) {
    let agent = Agent::new(config, machine, transport, &[]);
    let mut rounds = Rounds::new(config);
    loop {
        let (why, after_s) = match agent.beat(rounds.server(), state) {
            Ok(left) => {
                rounds = Rounds::new(config);
                let every = Duration::from_secs(heartbeat.every_s.into());
                thread::sleep(jittered(every.min(left / BEATS_OF_LEASE)));
                continue;
            }
            Err(Failure::Stop(stop @ Stop::Refused(_))) => {
                // Nobody listens any more if the lease was over meanwhile.
                let _ = refuse.send(stop);
                return;
            }
            Err(Failure::Stop(stop)) => (stop.why(), None),
            Err(Failure::Again(why, after_s)) => (why, after_s),
            Err(Failure::Pending(pending)) => {
                let why = format!(
                    "approval {} is missing, which the policy asks of machines that run",
                    pending.approval
                );
                (why, Some(pending.poll_after_s))
            }
        };
        if let Err(stop) = rounds.wait(&why, after_s) {
            let _ = refuse.send(stop);
            return;
        }
    }
}

impl Agent<'_> {
    /// One heartbeat. Gives how long the lease lasts then.
    fn beat(&self, server: &Server, state: &Path) -> Result<Duration, Failure> {
        // Without a lease there is nothing that could go on.
        let missing = || Stop::State(state.to_owned(), io::ErrorKind::NotFound.into());
        Session::read(state).ok().flatten().ok_or_else(missing)?;
        Ok(self.go_on(server, state)?.0.left())
    }
}

/// Closes the volumes that were opened late, and forgets the lease. Says whether all keys are gone.
#[must_use]
pub fn close(config: &Config, state: &Path) -> bool {
    let _ = Session::forget(state);
    let late = config.volumes.iter().filter(|volume| volume.late);
    // Every one is tried.
    late.filter(|volume| !cryptsetup::close(&volume.mapping)).count() == 0
}
