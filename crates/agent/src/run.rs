//! From a machine without keys to one with its volumes open.
//!
//! ```text
//! devices there ─▶ headers copied and checked ─▶ challenge ─▶ evidence ─▶ attest ─▶ release
//!                                                   ▲            202, 429, 503, no answer │
//!                                                   └─────────────────────────────────────┤
//!      volumes open ◀─ opened through the copies ◀─ PCR extended ◀─ signature, secrets ◀──┘
//! ```
//!
//! Every way out that is not "volumes open" is a [`Stop`]. A machine that runs goes the same way again, and shows that it
//! has the lease ([`Session`]): for volumes that are opened late, and for heartbeats ([`crate::watch`]).

use std::cell::Cell;
use std::fs::File;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use keyhearth_core::id::{Name, PrincipalId};
use keyhearth_core::machine::Reason;
use keyhearth_crypto::hpke::KeyPair;
use keyhearth_crypto::secret::SecretBytes;
use keyhearth_proto::boot::{
    Attest, Candidate, Challenge, Challenged, Continues, Covered, Fixed, Message, Opened, Pending, Refused,
    Release, Step, Transcript, continue_mac, ephemeral, read, write,
};
use keyhearth_proto::rest::Is;
use keyhearth_sys::{clock, entropy, filesystem};

use crate::clone;
use crate::cloud;
use crate::config::{Config, Volume};
use crate::cryptsetup::{self, Purpose};
use crate::evidence::{Machine, Tee};
use crate::http::Answer;
use crate::luks;
use crate::screen::{self, Screen};
use crate::session::Session;
use crate::stop::Stop;
use crate::transport::{Server, Transport};

/// How long to wait after the first round without an answer; it doubles.
const WAIT_FIRST: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Servers are asked again no sooner, whatever they say.
const POLL_MIN: Duration = Duration::from_secs(2);
const POLL_MAX: Duration = Duration::from_secs(300);
const DEVICE_POLL: Duration = Duration::from_millis(200);

/// Whether this is a machine that is still in its initramfs: its root is memory. Only there a refusal ends it.
#[must_use]
pub fn in_initramfs() -> bool {
    filesystem::in_memory(Path::new("/")).unwrap_or(false)
}

/// A volume whose header was copied and checked.
pub(crate) struct Prepared<'a> {
    pub(crate) volume: &'a Volume,
    pub(crate) header: luks::Header,
    pub(crate) image: Vec<u8>,
}

/// How far it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Volumes are open at the end.
    Open,
    /// The same of volumes that a running system opens late, under the lease that the machine has.
    Late,
    /// Everything is asked for and compared, and nothing is changed here: whether the keys fit is found out.
    Try,
}

/// What a server answered, if it is not the last word.
pub(crate) enum Failure {
    /// It is the last word.
    Stop(Stop),
    /// Somebody has to approve.
    Pending(Pending),
    /// It may be tried again, here or elsewhere, in a while if the server says so.
    Again(String, Option<u32>),
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

/// Opens the volumes of the machine after one attestation, and leaves in `state` what shows that it has the lease.
///
/// # Errors
/// [`Stop`]; then none of these volumes is open.
pub fn open(config: &Config, machine: &Machine, state: &Path, extent: Extent) -> Result<(), Stop> {
    let transport = Transport::new(&config.ca).map_err(|error| Stop::Ca(config.ca.clone(), error))?;
    let late = extent == Extent::Late;
    let image = (config.image && !late).then_some(config.machine);
    let own;
    let config = if config.image && !late {
        own = Config { machine: clone::identity(config, machine, &transport, extent)?, ..config.clone() };
        &own
    } else {
        config
    };
    // What runs keeps what it has open: asked again, it asks for what is missing.
    let wanted = |volume: &&Volume| volume.late == late && !(late && cryptsetup::is_open(&volume.mapping));
    let wanted = config.volumes.iter().filter(wanted);
    let volumes: Vec<_> = wanted.map(|volume| prepare(config, volume)).collect::<Result<_, _>>()?;
    if volumes.is_empty() {
        screen::note("no volume is to be opened now");
        return Ok(());
    }
    let agent = Agent::new(config, machine, &transport, &volumes).of_image(image);
    match extent {
        Extent::Try => {
            let (_, opened) = agent.release(|server| agent.ask(server, None))?;
            agent.open(&opened, |_| Purpose::Try)?;
            screen::note("the key of every volume fits; nothing was opened");
            return Ok(());
        }
        Extent::Late => agent.open_all(&agent.release(|server| agent.go_on(server, state))?.1)?,
        Extent::Open => {
            let (session, opened) = agent.release(|server| agent.ask(server, None))?;
            machine.mark_released(agent.tee).map_err(Stop::Evidence)?;
            agent.open_all(&opened)?;
            session.write(state).map_err(|error| {
                close(&volumes);
                Stop::State(state.to_owned(), error)
            })?;
        }
    }
    screen::note("every volume is open");
    Ok(())
}

/// Waits for a volume's device, copies its header and checks it.
pub(crate) fn prepare<'a>(config: &Config, volume: &'a Volume) -> Result<Prepared<'a>, Stop> {
    let path = volume.device.path();
    let deadline = Instant::now() + Duration::from_secs(config.device_wait_s);
    let mut file = loop {
        match File::open(path) {
            Ok(file) => break file,
            Err(error) if Instant::now() >= deadline => {
                return Err(Stop::Device(volume.name.clone(), path.to_owned(), error));
            }
            Err(_) => thread::sleep(DEVICE_POLL),
        }
    };
    let header = luks::read(&mut file);
    let (header, image) = header.map_err(|refusal| Stop::Header(volume.name.clone(), refusal))?;
    Ok(Prepared { volume, header, image })
}

pub(crate) struct Agent<'a> {
    config: &'a Config,
    machine: &'a Machine,
    transport: &'a Transport,
    volumes: &'a [Prepared<'a>],
    tee: Tee,
    /// Whether a document of its cloud was there once.
    documented: Cell<bool>,
    /// What it says of its next boot.
    candidate: Option<&'a Candidate>,
    /// Of a clone that asks for an identity: what the answer is sealed to, however often it asks.
    clone: Option<KeyPair>,
    /// The golden image that the machine it asks as must be a clone of, or be: the disk says which machine that is.
    image: Option<PrincipalId>,
}

impl<'a> Agent<'a> {
    pub(crate) fn new(
        config: &'a Config,
        machine: &'a Machine,
        transport: &'a Transport,
        volumes: &'a [Prepared<'a>],
    ) -> Self {
        let tee = config.tee.tee().unwrap_or_else(|| machine.detect());
        let documented = Cell::new(false);
        Self {
            config,
            machine,
            transport,
            volumes,
            tee,
            documented,
            candidate: None,
            clone: None,
            image: None,
        }
    }

    /// The same, and it says this of its next boot.
    pub(crate) fn proposing(self, candidate: &'a Candidate) -> Self {
        Self { candidate: Some(candidate), ..self }
    }

    /// The same, and what is released to any machine but this golden image and its clones is not taken.
    pub(crate) fn of_image(self, image: Option<PrincipalId>) -> Self {
        Self { image, ..self }
    }

    /// The same, and it asks for an identity of its own under the id of its golden image.
    pub(crate) fn cloning(self) -> Result<Self, Stop> {
        Ok(Self { clone: Some(ephemeral().map_err(Stop::Machine)?), ..self })
    }

    /// Asks until there is a release or a last word.
    pub(crate) fn release<T>(&self, ask: impl Fn(&Server) -> Result<T, Failure>) -> Result<T, Stop> {
        let mut rounds = Rounds::new(self.config);
        let mut approval: Option<Instant> = None;
        loop {
            let server = rounds.server();
            screen::note(&format!("asking {server} for keys, with evidence of kind {}", self.tee.name()));
            match ask(server) {
                Ok(released) => return Ok(released),
                Err(Failure::Stop(stop)) => return Err(stop),
                Err(Failure::Again(why, after_s)) => rounds.wait(&why, after_s)?,
                Err(Failure::Pending(pending)) => {
                    // The servers answer: what failed before is forgotten.
                    rounds = Rounds::new(self.config);
                    let limit = Duration::from_secs(self.config.approval_wait_s);
                    let deadline = *approval.get_or_insert_with(|| Instant::now() + limit);
                    let left = deadline.saturating_duration_since(Instant::now());
                    let poll = Duration::from_secs(pending.poll_after_s.into()).clamp(POLL_MIN, POLL_MAX);
                    if left < poll {
                        return Err(Stop::NotApproved(pending.approval.0));
                    }
                    self.waiting(&pending, poll, left).show();
                    thread::sleep(poll);
                }
            }
        }
    }

    /// Asks one server once as the copy of the machine that has the lease, and keeps it. A machine without a lease, none
    /// of whose volumes was opened before, begins one.
    ///
    /// If an answer is lost, what was continued is continued once more.
    pub(crate) fn go_on(&self, server: &Server, state: &Path) -> Result<(Session, Opened), Failure> {
        let kept = |error| Stop::State(state.to_owned(), error);
        let _lock = Session::lock(state).map_err(kept)?;
        let held = Session::read(state).map_err(kept)?;
        let (session, opened) = self.ask(server, held.as_ref())?;
        if held.is_none() {
            self.machine.mark_released(self.tee).map_err(Stop::Evidence)?;
        }
        session.write(state).map_err(kept)?;
        Ok((session, opened))
    }

    /// Asks one server once: a challenge, evidence for it, the answer. `held` is what it continues.
    pub(crate) fn ask(&self, server: &Server, held: Option<&Session>) -> Result<(Session, Opened), Failure> {
        let names: Vec<Name> = self.volumes.iter().map(|prepared| prepared.volume.name.clone()).collect();
        let id = held.and_then(|held| held.clone).unwrap_or(self.config.machine);
        let wanted =
            Challenge { machine: Is(id), tee: self.tee, volumes: names.iter().cloned().map(Is).collect() };
        let challenged: Challenged = post(self.transport, server, Step::Challenge, &write(&wanted))?;
        if challenged.server.0 != self.config.server {
            return Err(Stop::OtherServer(challenged.server.0).into());
        }
        let made;
        let keys = match &self.clone {
            Some(keys) => keys,
            None => {
                made = ephemeral().map_err(Stop::Machine)?;
                &made
            }
        };
        let headers: Vec<_> = self.volumes.iter().map(|prepared| prepared.header.hash()).collect();
        let boot_counter = self.machine.boot_counter().map_err(Stop::Evidence)?;
        let transcript = Transcript::of(&Covered {
            session: &challenged.session.0,
            nonce: &challenged.nonce.0,
            server: self.config.server,
            machine: id,
            ephemeral: &keys.public,
            volumes: &names,
            headers: &headers,
            boot_counter,
            tee: self.tee,
            candidate: self.candidate,
            clone: self.clone.is_some(),
        });
        let collected = self.machine.collect(self.tee, &transcript).map_err(Stop::Evidence)?;
        let attest = Attest {
            session: challenged.session,
            ephemeral: keys.public.clone().into(),
            headers: headers.into_iter().map(Fixed).collect(),
            boot_counter,
            evidence: collected.evidence.map(Into::into),
            endorsements: collected.endorsements.into_iter().map(Into::into).collect(),
            cloud: self.cloud(&transcript, held.is_some())?.map(Into::into),
            continues: held.map(|held| Continues {
                session: Fixed(held.session),
                mac: Fixed(continue_mac(&held.key, &transcript)),
            }),
            candidate: self.candidate.cloned(),
            clone: self.clone.is_some(),
        };
        // The server's lease begins later than this one.
        let asked_ms = clock::boottime_ms();
        let release: Release = post(self.transport, server, Step::Attest, &write(&attest))?;
        let opened = self.verify(&release, &transcript, keys, &names)?;
        let mut volumes = held.map_or_else(Vec::new, |held| held.volumes.clone());
        volumes.extend(names.into_iter().filter(|name| !volumes.contains(name)).collect::<Vec<_>>());
        let clone = self.config.image.then_some(id);
        let until_ms = asked_ms + u64::from(release.lease_s) * 1_000;
        let session =
            Session { session: challenged.session.0, key: opened.confirm.clone(), until_ms, volumes, clone };
        Ok((session, opened))
    }

    /// The cloud's document, if one is configured. Without it a machine that boots asks nevertheless, and the server decides;
    /// one that runs, or that had one when it asked before, asks later, because a refusal would end it for what may be a
    /// short silence: an approval that somebody gave meanwhile would be lost.
    fn cloud(&self, transcript: &Transcript, runs: bool) -> Result<Option<Vec<u8>>, Failure> {
        let Some(cloud) = self.config.cloud else { return Ok(None) };
        match cloud::document(cloud, &self.config.metadata, transcript) {
            Ok(document) => {
                self.documented.set(true);
                Ok(Some(document))
            }
            Err(error) if runs || self.documented.get() => {
                Err(Failure::Again(format!("no document of {cloud}: {error}"), None))
            }
            Err(error) => {
                screen::note(&format!("no document of {cloud}, going on without: {error}"));
                Ok(None)
            }
        }
    }

    /// Opens a release that the server's release key signed for this transcript, if it is for exactly these volumes.
    fn verify(
        &self,
        release: &Release,
        transcript: &Transcript,
        keys: &KeyPair,
        names: &[Name],
    ) -> Result<Opened, Stop> {
        let opened = release.open(transcript, keys, &self.config.release_key).map_err(|_| Stop::Forged)?;
        let same = opened.volumes.iter().map(|(name, ..)| name).eq(names);
        let asked = opened.outlook.is_some() == self.candidate.is_some()
            && opened.identity.is_some() == self.clone.is_some();
        if self.image.is_some() && opened.image != self.image {
            return Err(Stop::OtherImage(self.config.machine));
        }
        if same && asked { Ok(opened) } else { Err(Stop::Forged) }
    }

    /// Opens every volume under its mapping, or none.
    fn open_all(&self, opened: &Opened) -> Result<(), Stop> {
        self.open(opened, |volume| Purpose::Open(&volume.mapping))
    }

    /// Opens every volume, or none.
    fn open(&self, opened: &Opened, purpose: impl Fn(&Volume) -> Purpose<'_>) -> Result<(), Stop> {
        for (index, (prepared, (_, _, secret))) in self.volumes.iter().zip(&opened.volumes).enumerate() {
            let Prepared { volume, image, .. } = prepared;
            let secret = SecretBytes::copy_from(&secret[..]).map_err(|error| Stop::Machine(error.into()))?;
            if let Err(error) = cryptsetup::open(volume.device.path(), image, &secret, purpose(volume)) {
                close(&self.volumes[..index]);
                return Err(Stop::Cryptsetup(volume.name.clone(), error));
            }
        }
        Ok(())
    }

    fn waiting(&self, pending: &Pending, poll: Duration, left: Duration) -> Screen {
        let next = format!(
            "This machine asks again every {} s, for {} min more.",
            poll.as_secs(),
            left.as_secs() / 60
        );
        Screen::new("THIS MACHINE WAITS FOR APPROVAL")
            .line("What", "The keys of its volumes are given when somebody has approved it.")
            .line("Approval", pending.approval.to_string())
            .line("Machine", self.config.machine.to_string())
            .maybe("Ask", self.config.contact.clone())
            .line("Next", next)
    }
}

/// Closes what was opened; what cannot be closed ends with the machine.
fn close(volumes: &[Prepared<'_>]) {
    for prepared in volumes {
        let _ = cryptsetup::close(&prepared.volume.mapping);
    }
}

/// Which server is asked next, and when.
pub(crate) struct Rounds<'a> {
    config: &'a Config,
    asked: usize,
    pause: Duration,
}

impl<'a> Rounds<'a> {
    pub(crate) fn new(config: &'a Config) -> Self {
        Self { config, asked: 0, pause: WAIT_FIRST }
    }

    pub(crate) fn server(&self) -> &'a Server {
        let servers = &self.config.servers;
        &servers[self.asked % servers.len()]
    }

    /// Goes on to the next server, after every server after a pause.
    ///
    /// # Errors
    /// [`Stop::Unreachable`] when every server was asked as often as it is configured.
    pub(crate) fn wait(&mut self, why: &str, after_s: Option<u32>) -> Result<(), Stop> {
        let server = self.server();
        screen::note(&format!("{server}: {why}"));
        self.asked += 1;
        let servers = self.config.servers.len();
        if !self.asked.is_multiple_of(servers) {
            return Ok(());
        }
        if u32::try_from(self.asked / servers).is_ok_and(|round| round >= self.config.attempts) {
            return Err(Stop::Unreachable(server.to_string(), why.to_owned()));
        }
        let after =
            after_s.map_or(Duration::ZERO, |after_s| Duration::from_secs(after_s.into())).min(POLL_MAX);
        thread::sleep(after.max(jittered(self.pause)));
        self.pause = (2 * self.pause).min(WAIT_MAX);
        Ok(())
    }
}

/// Half of it to all of it, so that machines that were started together do not ask together.
pub(crate) fn jittered(pause: Duration) -> Duration {
    let mut random = [0; 1];
    // Without randomness the pause is only less spread.
    let _ = entropy::fill(&mut random);
    pause / 2 + pause * u32::from(random[0]) / 512
}

/// Sends a message and reads the answer.
pub(crate) fn post<T: Message>(
    transport: &Transport,
    server: &Server,
    step: Step,
    message: &[u8],
) -> Result<T, Failure> {
    let answer = transport.post(server, step.path(), message);
    let Answer { status, retry_after_s, body } =
        answer.map_err(|error| Failure::Again(error.to_string(), None))?;
    match status {
        200 => read(&body).map_err(|_| Stop::Answer(server.to_string(), status).into()),
        202 => Err(match read(&body) {
            Ok(pending) => Failure::Pending(pending),
            Err(_) => Stop::Answer(server.to_string(), status).into(),
        }),
        403 => Err(match read::<Refused>(&body) {
            // It was given by a process that has ended since: nothing is said of this machine.
            Ok(refused) if refused.code == Reason::ChallengeUnknown.code() => {
                Failure::Again(refused.text, None)
            }
            Ok(refused) => Stop::Refused(refused).into(),
            Err(_) => Stop::Answer(server.to_string(), status).into(),
        }),
        // The last two come from what stands before a server.
        429 | 502..=504 => Err(Failure::Again(format!("busy, status {status}"), retry_after_s)),
        _ => Err(Stop::Answer(server.to_string(), status).into()),
    }
}
