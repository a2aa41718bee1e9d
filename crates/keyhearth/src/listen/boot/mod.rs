//! The boot front: one message from its bytes to the engine and back.
//!
//! A machine that boots holds nothing that proves who it is but its evidence. What it says is looked at in this order:
//! the challenge is taken away, the transcript rebuilt, a release that is continued looked up, the evidence appraised,
//! the machine's own rules checked, and then policies decide, in the engine. Whatever fails is logged with its reason,
//! and the machine is told.
//!
//! Known limit: whoever knows a machine's id can have refusals logged in its name, at the rate that the log admits.

mod appraiser;
mod challenges;
pub mod clouds;
pub mod ends;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use keyhearth_core::Error;
use keyhearth_core::id::{Name, PrincipalId, RequestId};
use keyhearth_core::machine::{BootFacts, Claim, Claims, Comparison, Decision, Reason, Release as Asked};
use keyhearth_core::request::{Ask, KeyRef, Request as Query, Response as Answer, Secret};
use keyhearth_crypto::digest::sha256;
use keyhearth_crypto::random;
use keyhearth_proto::boot::{
    self, Attest, Besides, CHALLENGE_S, Challenge as Wanted, Challenged, Confirm, Confirmed, Continues,
    Covered, Fixed, Identified, Key, Message, NONCE_BYTES, Outlook, Pending, Refused, Release, SESSION_BYTES,
    Settle, Settled, Step, Tee, Terms, Transcript,
};
use keyhearth_proto::rest::{self, Is, Refused as Nowhere};
use parking_lot::Mutex;
use subtle::ConstantTimeEq;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroizing;

use appraiser::Failure as Unjudged;
pub use appraiser::{Appraiser, Rules};
use challenges::{Challenge, Challenges};

use super::{BodyError, Peer, discard_body, read_body};
use crate::engine::{Booting, Denial, Engine};
use crate::telemetry::Metrics;

/// Evidence that is read or appraised at once: up to 3 MiB of memory each.
const APPRAISALS_MAX: usize = 64;
/// For whoever asks for another path.
const NEXT_STEP: &str = "this listener is for machines that boot: docs/formats/boot.md";
/// When a machine asks again if a file of the server's own cannot be read: somebody may be replacing it.
const UNREADABLE_RETRY_MS: u32 = 10_000;
/// What is missing where policies or reference values ask for what a cloud says.
const NO_DOCUMENT: &str = "no identity document of its cloud came (`cloud` in its boot.toml has one sent)";
/// When a machine asks again whether its boot was approved.
const POLL_AFTER_S: u32 = 10;

/// What the boot listener answers from.
pub struct Boot {
    engine: Arc<Engine>,
    metrics: Arc<Metrics>,
    appraiser: Arc<Appraiser>,
    challenges: Mutex<Challenges>,
    appraisals: Arc<Semaphore>,
    lease_s: u32,
}

/// One of [`APPRAISALS_MAX`]. The request holds it, and what works for it: that goes on when the machine hangs up.
type Place = Arc<OwnedSemaphorePermit>;

/// What a machine gets.
enum Outcome {
    Done(Vec<u8>),
    Pending(Vec<u8>),
}

/// Why it gets nothing.
enum Failure {
    /// For a reason of its own, which was logged.
    Refused(Denial, RequestId),
    /// Later, perhaps.
    Error(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Boot {
    /// A front for `engine`. For `lease_s` seconds after a release no other copy of a machine is given anything.
    #[must_use]
    pub fn new(engine: Arc<Engine>, metrics: Arc<Metrics>, appraiser: Appraiser, lease_s: u32) -> Arc<Self> {
        Arc::new(Self {
            engine,
            metrics,
            appraiser: Arc::new(appraiser),
            challenges: Mutex::default(),
            appraisals: Arc::new(Semaphore::new(APPRAISALS_MAX)),
            lease_s,
        })
    }

    /// Answers one request.
    pub async fn answer(
        self: Arc<Self>,
        peer: Arc<Peer<()>>,
        request: Request<Incoming>,
    ) -> Response<Full<Bytes>> {
        let id = self.engine.request_id();
        let (parts, mut body) = request.into_parts();
        let step = match boot::route(parts.method.as_str(), parts.uri.path()) {
            Ok(step) => step,
            Err(refused) => {
                discard_body(&mut body).await;
                return nowhere(refused, id);
            }
        };
        let address = peer.remote.ip();
        let outcome = match step {
            Step::Challenge => match self.read(&peer, &mut body).await {
                Ok(wanted) => self.challenge(address, wanted).map(Outcome::Done),
                Err(failure) => Err(failure),
            },
            Step::Attest => match Arc::clone(&self.appraisals).try_acquire_owned() {
                Ok(place) => match self.read(&peer, &mut body).await {
                    Ok(attest) => self.attest(address, attest, Arc::new(place)).await,
                    Err(failure) => Err(failure),
                },
                Err(_) => Err(Error::Unavailable { retry_after_ms: 1_000 }.into()),
            },
            Step::Confirm => match self.read(&peer, &mut body).await {
                Ok(confirm) => self.confirm(address, confirm).await.map(Outcome::Done),
                Err(failure) => Err(failure),
            },
            Step::Settle => match self.read(&peer, &mut body).await {
                Ok(settle) => self.settle(address, settle).await.map(Outcome::Done),
                Err(failure) => Err(failure),
            },
        };
        match outcome {
            Ok(Outcome::Done(answer)) => response(StatusCode::OK, answer),
            Ok(Outcome::Pending(answer)) => response(StatusCode::ACCEPTED, answer),
            Err(failure) => {
                discard_body(&mut body).await;
                failed(failure, id)
            }
        }
    }

    async fn read<T: Message>(&self, peer: &Peer<()>, body: &mut Incoming) -> Result<T, Failure> {
        let body = read_body(peer, body, T::BYTES_MAX).await.map_err(|error| match error {
            BodyError::TooLarge { limit } => Error::TooLarge { field: "body", limit },
            BodyError::Timeout => Error::Invalid { field: "body", rule: "did not arrive in time" },
            BodyError::Closed => Error::Invalid { field: "body", rule: "did not arrive whole" },
        })?;
        Ok(boot::read(&body)?)
    }

    fn challenge(&self, address: IpAddr, wanted: Wanted) -> Result<Vec<u8>, Failure> {
        let (server, _) = self.engine.release_identity()?;
        let (mut session, mut nonce) = ([0; SESSION_BYTES], [0; NONCE_BYTES]);
        random::fill("boot session", &mut session).map_err(Error::from)?;
        random::fill("boot nonce", &mut nonce).map_err(Error::from)?;
        let volumes = wanted.volumes.into_iter().map(|name| name.0).collect();
        let challenge = Challenge { machine: wanted.machine.0, tee: wanted.tee, volumes, nonce, address };
        self.challenges.lock().put(session, challenge, Instant::now())?;
        let (session, nonce) = (Fixed(session), Fixed(nonce));
        Ok(boot::write(&Challenged { session, nonce, server: Is(server), expires_in_s: CHALLENGE_S }))
    }

    async fn attest(&self, address: IpAddr, attest: Attest, place: Place) -> Result<Outcome, Failure> {
        // Taken before anything is looked at: whatever comes of it, it does not serve again.
        let challenge = self.challenges.lock().take(&attest.session.0, Instant::now());
        let Some(challenge) = challenge else {
            return Err(self.refuse(None, address, Reason::ChallengeUnknown).await);
        };
        let booting = match self.engine.booting(challenge.machine, address).await {
            Ok(booting) => booting,
            Err(Error::NotFound(_)) => return Err(self.refuse(None, address, Reason::MachineUnknown).await),
            Err(error) => return Err(error.into()),
        };
        let (server, _) = self.engine.release_identity()?;
        let headers: Vec<[u8; 32]> = attest.headers.iter().map(|hash| hash.0).collect();
        let transcript = Transcript::of(&Covered {
            session: &attest.session.0,
            nonce: &challenge.nonce,
            server,
            machine: challenge.machine,
            ephemeral: &attest.ephemeral,
            volumes: &challenge.volumes,
            headers: &headers,
            boot_counter: attest.boot_counter,
            tee: challenge.tee,
            candidate: attest.candidate.as_ref(),
            clone: attest.clone,
        });
        let continues = match self.continued(&booting, attest.continues.as_ref(), &transcript)? {
            Ok(session) => session,
            Err(reason) => return Err(self.refuse(Some(&booting), address, reason).await),
        };
        let claims = match self.claims(&booting, &challenge, &attest, &transcript, &place).await? {
            Ok(claims) => claims,
            Err(denial) => return Err(self.refuse(Some(&booting), address, denial).await),
        };
        let decided = booting.approval(&claims).map(|approval| (approval.id, approval.decision));
        let approval = match decided {
            Some((_, Decision::Denied)) => {
                return Err(self.refuse(Some(&booting), address, Reason::ApprovalDenied).await);
            }
            Some((id, Decision::Approved)) => Some(id),
            Some((_, Decision::Pending)) | None => None,
        };
        let facts = BootFacts {
            volumes: challenge.volumes,
            comparison: booting.machine.compare(&claims, continues.is_some()),
            claims,
            counter: attest.boot_counter,
            approval,
            continues,
            image: booting.machine.image_id(),
        };
        let (session, transcript_bytes) = (attest.session.0, transcript.0);
        let lease_ms = u64::from(self.lease_s) * 1_000;
        let proposal = attest.candidate.as_ref().map(boot::Candidate::proposal).transpose()?;
        let clone = attest.clone.then(|| sha256(&[&attest.ephemeral]));
        let asked =
            Asked { facts, session, transcript: transcript_bytes, headers, lease_ms, proposal, clone };
        if let Err(reason) = booting.machine.check(&asked, self.engine.now()) {
            let refused = self.refuse(Some(&booting), address, reason).await;
            // The same machine may have crashed and started again: it waits until it is alone for certain.
            let wait = Error::Unavailable { retry_after_ms: self.lease_s.saturating_mul(1_000) };
            return Err(if reason == Reason::Leased { wait.into() } else { refused });
        }
        self.release(&booting, asked, &attest.ephemeral, &transcript).await
    }

    /// The session that a machine which runs continues, if it proves to be the one that was released to in it.
    fn continued(
        &self,
        booting: &Booting,
        continues: Option<&Continues>,
        transcript: &Transcript,
    ) -> Result<Result<Option<[u8; SESSION_BYTES]>, Reason>, Error> {
        let Some(Continues { session, mac }) = continues else { return Ok(Ok(None)) };
        let lease = booting.machine.lease.as_ref();
        let Some(before) = lease.and_then(|lease| lease.of(&session.0)) else {
            return Ok(Err(Reason::SessionUnknown));
        };
        let key = self.engine.confirm_key(&before.transcript)?;
        let same = bool::from(boot::continue_mac(&key, transcript).ct_eq(&mac.0));
        Ok(if same { Ok(Some(session.0)) } else { Err(Reason::ContinuationDiffers) })
    }

    /// What the machine's evidence says, and its cloud under `cloud`; nothing without either.
    async fn claims(
        &self,
        booting: &Booting,
        challenge: &Challenge,
        attest: &Attest,
        transcript: &Transcript,
        place: &Place,
    ) -> Result<Result<Claims, Denial>, Failure> {
        let evidence = match (&attest.evidence, challenge.tee) {
            (None, Tee::None) => None,
            (None, _) => return Ok(Err(Reason::EvidenceMissing.into())),
            (Some(_), Tee::None) => return Ok(Err(Reason::EvidenceKind.into())),
            (Some(evidence), _) => Some(evidence.to_vec()),
        };
        let document = attest.cloud.as_ref().map(|document| document.to_vec());
        if evidence.is_none() && document.is_none() {
            return Ok(Ok(Claims::new()));
        }
        let given: Vec<Vec<u8>> = attest.endorsements.iter().map(|one| one.to_vec()).collect();
        let (appraiser, machine, report_data) =
            (Arc::clone(&self.appraiser), booting.machine.clone(), transcript.0);
        let (id, address, place) = (challenge.machine, booting.caller.address, Arc::clone(place));
        let work = move || {
            let _place = place;
            let appraise = |evidence: Vec<u8>| {
                let appraised = appraiser.appraise(&machine, &evidence, &given, report_data);
                appraised.map_err(|refusal| {
                    let chips = machine.reference.get("chip_id");
                    let wait = appraiser.shelf().lacking((id, address), chips, &evidence, refusal.reason);
                    wait.map_or_else(|| refusal.into(), Unjudged::Lacking)
                })
            };
            let mut claims = evidence.map(appraise).transpose()?.unwrap_or_default();
            if let Some(document) = document {
                let cloud = appraiser.cloud(&document, report_data)?;
                claims.insert("cloud".to_owned(), Claim::Record(cloud));
            }
            Ok::<_, Unjudged>(claims)
        };
        let appraised =
            tokio::task::spawn_blocking(work).await.map_err(|_| Error::Internal("a worker failed"))?;
        Ok(match appraised {
            Ok(claims) if !is_kind(&claims, challenge.tee) => Err(Reason::EvidenceKind.into()),
            Ok(claims) => Ok(claims),
            // What is lacking is on its way: no reason to end the machine.
            Err(Unjudged::Lacking(wait)) => {
                let retry_after_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
                return Err(Error::Unavailable { retry_after_ms }.into());
            }
            Err(Unjudged::Unreadable(error)) => {
                tracing::error!(%error, "documents of clouds cannot be judged");
                return Err(Error::Unavailable { retry_after_ms: UNREADABLE_RETRY_MS }.into());
            }
            Err(Unjudged::Refused(refusal)) => {
                let detail =
                    if refusal.detail.is_empty() { String::new() } else { format!(" ({})", refusal.detail) };
                let text = format!("{}{detail}", refusal.reason.sentence());
                Err(Denial { code: refusal.reason.code(), text })
            }
        })
    }

    async fn release(
        &self,
        booting: &Booting,
        asked: Asked,
        ephemeral: &[u8],
        transcript: &Transcript,
    ) -> Result<Outcome, Failure> {
        let key = KeyRef::Id(booting.machine.key);
        let query = |asked: &Asked| {
            let ask = Ask::ReleaseVolumes { key: key.clone(), release: Box::new(asked.clone()) };
            Arc::new(Query::new(self.engine.request_id(), ask))
        };
        let address = booting.caller.address;
        let released = self.execute(booting, query(&asked)).await;
        match released {
            Ok(Answer::Released { volumes, outlook, .. }) => {
                let outlook = outlook.map(|known| Outlook {
                    candidate: known.candidate.map(Is),
                    lacks: known.lacks,
                    unnamed: known.unnamed,
                });
                let besides = outlook.map_or(Besides::Nothing, Besides::Outlook);
                self.seal(transcript, ephemeral, booting.machine.image_id(), volumes, besides)
            }
            Ok(Answer::Cloned { clone, secret, recovery, volumes }) => {
                let recovery = recovery.as_ref().map(key_of).transpose()?;
                let besides =
                    Besides::Identity(Identified { machine: clone.id, secret: key_of(&secret)?, recovery });
                self.seal(transcript, ephemeral, booting.machine.image_id(), volumes, besides)
            }
            Err(Error::TooLarge { field: "clones", .. }) => {
                Err(self.refuse(Some(booting), address, Reason::ClonesFull).await)
            }
            Ok(_) => Err(Error::Internal("another answer than what was asked for gives").into()),
            Err(Error::Denied) => self.denied(booting, asked, query).await,
            Err(Error::WrongState { .. } | Error::NotFound(_)) => {
                Err(self.refuse(Some(booting), address, Reason::KeyUnusable).await)
            }
            // The machine's record, or its approval, was changed meanwhile.
            Err(Error::Conflict(_)) => Err(Error::Unavailable { retry_after_ms: 1_000 }.into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Seals secrets and what is said besides to the machine's ephemeral key.
    fn seal(
        &self,
        transcript: &Transcript,
        ephemeral: &[u8],
        image: Option<PrincipalId>,
        volumes: Vec<(Name, u32, Secret)>,
        besides: Besides,
    ) -> Result<Outcome, Failure> {
        let volumes =
            volumes.into_iter().map(|(name, generation, secret)| Ok((name, generation, key_of(&secret)?)));
        let volumes = volumes.collect::<Result<Vec<(Name, u32, Key)>, Error>>()?;
        let confirm = self.engine.confirm_key(&transcript.0)?;
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let (not_after_s, lease_s) = (now_s + u64::from(CHALLENGE_S), self.lease_s);
        let terms = Terms { not_after_s, lease_s, image };
        let signer = self.engine.release_key()?;
        let release = Release::seal(transcript, ephemeral, &volumes, &confirm, terms, besides, &signer)?;
        Ok(Outcome::Done(boot::write(&release)))
    }

    /// No policy allowed it: whether an approval would, and if not, what is missing.
    async fn denied(
        &self,
        booting: &Booting,
        asked: Asked,
        query: impl Fn(&Asked) -> Arc<Query>,
    ) -> Result<Outcome, Failure> {
        let address = booting.caller.address;
        let with = |facts: BootFacts| query(&Asked { facts, ..asked.clone() });
        let approved = |facts: BootFacts| BootFacts { approval: Some(RequestId([0; 16])), ..facts };
        let facts = &asked.facts;
        let would = async |facts: BootFacts| self.engine.would_allow(&booting.caller, &with(facts)).await;
        if facts.approval.is_none() && would(approved(facts.clone())).await {
            let ask = Ask::AskApproval { facts: Box::new(facts.clone()) };
            let waiting = self.execute(booting, Arc::new(Query::new(self.engine.request_id(), ask))).await;
            return match waiting {
                Ok(Answer::Approval(approval)) => {
                    let pending = Pending { approval: Is(approval.id), poll_after_s: POLL_AFTER_S };
                    Ok(Outcome::Pending(boot::write(&pending)))
                }
                Ok(_) => Err(Error::Internal("another answer than what was asked for gives").into()),
                Err(Error::TooLarge { .. }) => {
                    Err(self.refuse(Some(booting), address, Reason::ApprovalsFull).await)
                }
                Err(error) => Err(error.into()),
            };
        }
        let mut lacking = Vec::new();
        for (reason, what, better) in betterments(facts) {
            if would(better.clone()).await || would(approved(better)).await {
                let text = format!("{} Here, {what}.", reason.text());
                return Err(self.refuse(Some(booting), address, Denial { code: reason.code(), text }).await);
            }
            lacking.push(what);
        }
        if self.appraiser.clouds().is_some() && !facts.claims.contains_key("cloud") {
            lacking.push(NO_DOCUMENT.to_owned());
        }
        let mut denial = Denial::from(Reason::Policy);
        if !lacking.is_empty() {
            denial.text = format!("{} Also, {}.", denial.text, lacking.join("; "));
        }
        Err(self.refuse(Some(booting), address, denial).await)
    }

    async fn confirm(&self, address: IpAddr, confirm: Confirm) -> Result<Vec<u8>, Failure> {
        let booting = match self.engine.booting(confirm.machine.0, address).await {
            Ok(booting) => booting,
            Err(Error::NotFound(_)) => return Err(self.refuse(None, address, Reason::MachineUnknown).await),
            Err(error) => return Err(error.into()),
        };
        let session = confirm.session.0;
        let lease = booting.machine.lease.as_ref();
        let Some(released) = lease.and_then(|lease| lease.of(&session)) else {
            return Err(self.refuse(Some(&booting), address, Reason::SessionUnknown).await);
        };
        let key = self.engine.confirm_key(&released.transcript)?;
        let opened: Vec<Name> = confirm.opened.into_iter().map(|name| name.0).collect();
        let token = confirm.token.map(|token| token.0);
        let expected = boot::confirm_mac(&key, &opened, token.as_ref());
        if !bool::from(expected.ct_eq(&confirm.mac.0)) {
            return Err(self.refuse(Some(&booting), address, Reason::ConfirmationDiffers).await);
        }
        let lease_ms = u64::from(self.lease_s) * 1_000;
        let ask = Ask::ConfirmBoot { session, token, opened, lease_ms };
        match self.execute(&booting, Arc::new(Query::new(self.engine.request_id(), ask))).await {
            Ok(Answer::Confirmed { token }) => {
                let token: [u8; boot::TOKEN_BYTES] =
                    token[..].try_into().map_err(|_| Error::Internal("a token of another length"))?;
                Ok(boot::write(&Confirmed { token: Fixed(token), lease_s: self.lease_s }))
            }
            Ok(_) => Err(Error::Internal("another answer than what was asked for gives").into()),
            Err(Error::Conflict(_)) => Err(self.refuse(Some(&booting), address, Reason::TokenStale).await),
            Err(Error::NotFound(_)) => {
                Err(self.refuse(Some(&booting), address, Reason::SessionUnknown).await)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A clone says which header its volume will have, with the key of the answer that gave its identity.
    async fn settle(&self, address: IpAddr, settle: Settle) -> Result<Vec<u8>, Failure> {
        let booting = match self.engine.booting(settle.machine.0, address).await {
            Ok(booting) => booting,
            Err(Error::NotFound(_)) => return Err(self.refuse(None, address, Reason::MachineUnknown).await),
            Err(error) => return Err(error.into()),
        };
        let (session, header) = (settle.session.0, settle.header.0);
        let transcript = match booting.machine.settling(&session, self.engine.now()) {
            Ok(origin) => origin.transcript,
            Err(reason) => return Err(self.refuse(Some(&booting), address, reason).await),
        };
        let key = self.engine.confirm_key(&transcript)?;
        let expected = boot::settle_mac(&key, booting.machine.id, &session, &header);
        if !bool::from(expected.ct_eq(&settle.mac.0)) {
            return Err(self.refuse(Some(&booting), address, Reason::ConfirmationDiffers).await);
        }
        let ask = Ask::SettleClone { session, header };
        match self.execute(&booting, Arc::new(Query::new(self.engine.request_id(), ask))).await {
            Ok(Answer::Settled) => Ok(boot::write(&Settled {})),
            Ok(_) => Err(Error::Internal("another answer than what was asked for gives").into()),
            Err(Error::Conflict(_)) => Err(self.refuse(Some(&booting), address, Reason::HeaderDiffers).await),
            Err(Error::NotFound(_)) => {
                Err(self.refuse(Some(&booting), address, Reason::SessionUnknown).await)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn execute(&self, booting: &Booting, query: Arc<Query>) -> Result<Answer, Error> {
        let (began, operation) = (Instant::now(), query.ask.operation());
        let result = self.engine.execute(&booting.caller, query).await;
        self.metrics.record(operation, result.as_ref().err(), began.elapsed());
        result
    }

    /// Logs the reason; where that fails, nothing else is said.
    async fn refuse(&self, booting: Option<&Booting>, address: IpAddr, denial: impl Into<Denial>) -> Failure {
        let denial = denial.into();
        match self.engine.refuse_boot(booting, address, &denial).await {
            Ok(request) => {
                tracing::info!(%request, code = denial.code, "a machine was refused at boot");
                Failure::Refused(denial, request)
            }
            Err(error) => Failure::Error(error),
        }
    }
}

fn key_of(secret: &Secret) -> Result<Key, Error> {
    let secret: [u8; boot::SECRET_BYTES] =
        secret[..].try_into().map_err(|_| Error::Internal("a secret of another length"))?;
    Ok(Zeroizing::new(secret))
}

/// Whether these are claims of the kind that was announced.
fn is_kind(claims: &Claims, tee: Tee) -> bool {
    match claims.get("kind") {
        Some(Claim::Text(kind)) => kind.split('-').next() == Some(tee.name()),
        None => tee == Tee::None,
        Some(_) => false,
    }
}

/// What could be better about a boot, one thing at a time: the reason if that is what a policy asks for, what is so
/// instead, and how the boot would then look.
fn betterments(facts: &BootFacts) -> Vec<(Reason, String, BootFacts)> {
    let mut better = Vec::new();
    let flag = |name: &str| facts.claims.get(name) == Some(&Claim::Bool(true));
    let with = |name: &str, value: bool| {
        let mut facts = facts.clone();
        facts.claims.insert(name.to_owned(), Claim::Bool(value));
        facts
    };
    if !flag("memory_encrypted") {
        let kind = match facts.claims.get("kind") {
            Some(Claim::Text(kind)) => format!("the evidence is of kind {kind}, which does not prove it"),
            _ => "there is no evidence".to_owned(),
        };
        better.push((Reason::PolicyMemory, kind, with("memory_encrypted", true)));
    }
    let image = match &facts.comparison {
        Comparison::Known => None,
        Comparison::NoReference => Some("this machine has no reference values".to_owned()),
        Comparison::Differs(name) if name.starts_with("cloud.") && !facts.claims.contains_key("cloud") => {
            Some(format!("{name} is one of its reference values, and {NO_DOCUMENT}"))
        }
        Comparison::Differs(name) => Some(format!("{name} is none of its reference values")),
    };
    if let Some(what) = image {
        let known = BootFacts { comparison: Comparison::Known, ..facts.clone() };
        better.push((Reason::PolicyImage, what, known));
    }
    if flag("reduced_assurance") {
        let what = "the hardware is of reduced assurance".to_owned();
        better.push((Reason::PolicyAssurance, what, with("reduced_assurance", false)));
    }
    better
}

fn response(status: StatusCode, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn failed(failure: Failure, id: RequestId) -> Response<Full<Bytes>> {
    match failure {
        Failure::Refused(denial, audit) => {
            let refused = Refused { code: denial.code.to_owned(), text: denial.text, audit: Is(audit) };
            response(StatusCode::FORBIDDEN, boot::write(&refused))
        }
        Failure::Error(error) => {
            let (status, body) = rest::problem(&error, id);
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let mut response = response(status, body);
            if let Error::TooMany { retry_after_ms } | Error::Unavailable { retry_after_ms } = error {
                let seconds = HeaderValue::from(retry_after_ms.div_ceil(1_000));
                response.headers_mut().insert(RETRY_AFTER, seconds);
            }
            response
        }
    }
}

fn nowhere(refused: Nowhere, id: RequestId) -> Response<Full<Bytes>> {
    let (status, body) = rest::not_found(refused, id, NEXT_STEP);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::NOT_FOUND);
    let mut response = response(status, body);
    if let Nowhere::MethodNotAllowed(allow) = refused {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    }
    response
}
