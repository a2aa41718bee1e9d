//! The Tang front: one request from its bytes to the engine and back. It adds no authority of its own.
//!
//! Its callers prove nothing. It acts as the identity that it is configured to act as, and every request is decided
//! for that identity, with the caller's address and the time; it spells no more than exchanging, reading public halves
//! and signing what is advertised, with keys whose alias begins with `tang/`.
//!
//! Known limit: all callers share the rate of that one identity, so that one of them can use it up for the others.
//! Connections are counted per address as everywhere; a packet filter in front bounds their rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use keyhearth_core::Error;
use keyhearth_core::id::{Alias, KeyId, Name, PrincipalId, RequestId, TenantId};
use keyhearth_core::key::Key;
use keyhearth_core::operation::Operation;
use keyhearth_core::principal::Caller;
use keyhearth_core::request::{Ask, Demand, KeyRef, Message, Request as Asked, Response as Answer};
use keyhearth_core::state::State;
use keyhearth_core::time::Now;
use keyhearth_crypto::algorithm::Mechanism;
use keyhearth_proto::rest::Refused;
use keyhearth_proto::tang::{self, Pair, Point, Thumbprint, Thumbprints};

use super::{BodyError, Peer, discard_body, read_body};
use crate::engine::{Authenticated, Engine, Named};
use crate::telemetry::Metrics;

/// Pairs whose thumbprints are remembered; others are looked up when they are asked for.
const PAIRS_REMEMBERED_MAX: usize = 10_000;

/// Whom a Tang listener acts as.
#[derive(Clone, Debug)]
pub struct ActsAs {
    /// The tenant whose keys it reaches.
    pub tenant: Named<TenantId>,
    /// The identity in it.
    pub identity: Named<PrincipalId>,
}

/// What the Tang listener answers from.
pub struct Tang {
    engine: Arc<Engine>,
    metrics: Arc<Metrics>,
    acts_as: ActsAs,
    /// Whether it was said that there is nobody to act as.
    warned: AtomicBool,
    known: quick_cache::sync::Cache<Name, Arc<Known>>,
}

/// The thumbprints of a key's versions. What is here stays so; a version that is not may have come since.
struct Known {
    key: KeyId,
    versions: usize,
    thumbprints: Vec<(u32, Thumbprints)>,
}

impl Known {
    fn version(&self, named: &Thumbprint) -> Option<u32> {
        // The newest first: most clients are bound to one of the last.
        self.thumbprints
            .iter()
            .rev()
            .find(|(_, thumbprints)| thumbprints.are(named))
            .map(|(number, _)| *number)
    }
}

/// One request of somebody.
struct Exchange<'a> {
    front: &'a Tang,
    caller: Arc<Caller>,
    id: RequestId,
}

impl Tang {
    /// A front for `engine`.
    #[must_use]
    pub fn new(engine: Arc<Engine>, metrics: Arc<Metrics>, acts_as: ActsAs) -> Arc<Self> {
        let known = quick_cache::sync::Cache::new(PAIRS_REMEMBERED_MAX);
        Arc::new(Self { engine, metrics, acts_as, warned: AtomicBool::new(false), known })
    }

    /// Answers one request.
    pub async fn answer(
        self: Arc<Self>,
        peer: Arc<Peer<Authenticated>>,
        request: Request<Incoming>,
    ) -> Response<Full<Bytes>> {
        let id = self.engine.request_id();
        let (parts, mut body) = request.into_parts();
        let answer = match tang::route(parts.method.as_str(), parts.uri.path()) {
            Ok(asked) => self.asked(&peer, asked, &mut body, id).await.map_err(|error| refusal(&error, id)),
            Err(refused) => Err(nowhere(refused, id)),
        };
        match answer {
            Ok((content_type, answer)) => response(StatusCode::OK, content_type, answer),
            Err(refusal) => {
                discard_body(&mut body).await;
                refusal
            }
        }
    }

    async fn asked(
        &self,
        peer: &Peer<Authenticated>,
        asked: tang::Asked,
        body: &mut Incoming,
        id: RequestId,
    ) -> Result<(&'static str, Vec<u8>), Error> {
        let caller = Arc::clone(&self.caller(peer).await?.caller);
        let exchange = Exchange { front: self, caller, id };
        match asked {
            tang::Asked::Advertisement(pair, signer) => {
                Ok((tang::ADVERTISEMENT_TYPE, exchange.advertisement(&pair, signer.as_ref()).await?))
            }
            tang::Asked::Recovery(pair, thumbprint) => {
                let body = read_body(peer, body, tang::BODY_BYTES_MAX).await.map_err(body_error);
                match body.and_then(|body| Point::read(&body)) {
                    Ok(point) => {
                        Ok((tang::POINT_TYPE, exchange.recovery(&pair, &thumbprint, &point).await?.reply()))
                    }
                    Err(error) => Err(self.engine.charge(&exchange.caller).err().unwrap_or(error)),
                }
            }
        }
    }

    /// Whom the connection's requests are of: found out once, and again whenever anything changed.
    async fn caller(&self, peer: &Peer<Authenticated>) -> Result<Arc<Authenticated>, Error> {
        if let Some(known) = peer.caller.load_full()
            && self.engine.still_holds(&known)
        {
            return Ok(known);
        }
        let ActsAs { tenant, identity } = &self.acts_as;
        let found = self.engine.anonymous(tenant, identity, peer.remote.ip()).await;
        if matches!(found, Err(Error::Denied)) && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(?tenant, ?identity, "[tang] names an identity that does not exist or is revoked");
        }
        let found = Arc::new(found?);
        peer.caller.store(Some(Arc::clone(&found)));
        Ok(found)
    }
}

impl Exchange<'_> {
    /// The point, multiplied by the version of the pair's key that has this thumbprint.
    async fn recovery(&self, pair: &Pair, named: &Thumbprint, point: &Point) -> Result<Point, Error> {
        let known = self.known(pair, named).await?;
        let version = known.as_ref().and_then(|known| known.version(named));
        let key = known.map(|known| known.key);
        // Asked for although there is none: who may not exchange learns no thumbprints, and the log has it.
        let demand = move |found: &Key, _: Now| match version {
            Some(_) if Some(found.id) == key => Ok(()),
            Some(_) | None => Err(Error::NotFound("key of this thumbprint")),
        };
        let ask = Ask::Exchange { key: by(pair.exchange()), version, peer: point.bytes().to_vec() };
        let Answer::Exchanged { point, .. } = self.execute(ask, Arc::new(demand)).await? else {
            return Err(OTHER_ANSWER);
        };
        Point::of_bytes(&point).ok_or(OTHER_ANSWER)
    }

    /// What is known of the pair's key; looked up again if no version that is known has this thumbprint and there may
    /// be others. `None` for a key that does not exist.
    async fn known(&self, pair: &Pair, named: &Thumbprint) -> Result<Option<Arc<Known>>, Error> {
        let Tang { engine, known: remembered, .. } = self.front;
        let key = by(pair.exchange());
        if let Some(known) = remembered.get(pair.name()) {
            let is_whole = |now: &Key| now.id == known.key && now.versions.len() == known.versions;
            if known.version(named).is_some()
                || engine.peek(self.caller.tenant, &key).is_some_and(|now| is_whole(&now))
            {
                return Ok(Some(known));
            }
        }
        let found = match engine.public_halves(self.caller.tenant, key).await {
            Ok(found) => found,
            Err(Error::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let of = |(number, der): &(u32, Vec<u8>)| Some((*number, Point::of_public_key(der)?.thumbprints()));
        let thumbprints = found.halves.iter().filter_map(of).collect();
        let known = Arc::new(Known { key: found.key, versions: found.versions, thumbprints });
        remembered.insert(pair.name().clone(), Arc::clone(&known));
        Ok(Some(known))
    }

    /// The pair's public halves, signed by its signing key; if `signer` is the thumbprint of one that it had before, by
    /// that one as well, so that who trusts it comes to trust the newer ones.
    async fn advertisement(&self, pair: &Pair, signer: Option<&Thumbprint>) -> Result<Vec<u8>, Error> {
        let (exchange, _) = self.active(pair.exchange()).await?;
        let (signing, version) = self.active(pair.signing()).await?;
        let mut signers = vec![(pair.signing(), version)];
        if let Some(named) = signer.filter(|named| !signing.thumbprints().are(named)) {
            let unknown = Error::NotFound("signing key of this thumbprint");
            let Some(alias) = pair.signing_before(named) else { return Err(unknown) };
            let (before, version) = self.active(alias.clone()).await?;
            if !before.thumbprints().are(named) {
                return Err(unknown);
            }
            signers.push((alias, version));
        }
        let payload = tang::payload(&signing, &exchange);
        let mut signatures = Vec::new();
        for (alias, version) in signers {
            signatures.push(self.signature(alias, version, &payload).await?);
        }
        tang::advertisement(&payload, &signatures).ok_or(OTHER_ANSWER)
    }

    /// The signature of an advertisement by the primary version of a key, which must be `version` still.
    async fn signature(&self, alias: Alias, version: u32, payload: &[u8]) -> Result<Vec<u8>, Error> {
        let message = Message::Whole(tang::signing_input(payload).into());
        let (key, mechanism) = (by(alias), Some(Mechanism::EcdsaSha512));
        // What is signed says which key signs it.
        let same = move |key: &Key, _: Now| {
            if key.primary == version { Ok(()) } else { Err(Error::Unavailable { retry_after_ms: 0 }) }
        };
        let signed = self.execute(Ask::Sign { key, mechanism, message }, Arc::new(same)).await?;
        let Answer::Signature { signature, .. } = signed else { return Err(OTHER_ANSWER) };
        Ok(signature)
    }

    /// The public half of the version that a new client would use, and its number.
    async fn active(&self, alias: Alias) -> Result<(Point, u32), Error> {
        let ask = Ask::PublicKey { key: by(alias), version: None };
        let found = self.execute(ask, Arc::new(is_active)).await?;
        let Answer::PublicKey { der, version, .. } = found else { return Err(OTHER_ANSWER) };
        let unlike = Error::Unsupported("keys of Tang are on P-521");
        Ok((Point::of_public_key(&der).ok_or(unlike)?, version))
    }

    async fn execute(&self, ask: Ask, demand: Demand) -> Result<Answer, Error> {
        let Tang { engine, metrics, .. } = self.front;
        let (began, operation) = (Instant::now(), ask.operation());
        let asked = Asked { demand: Some(demand), ..Asked::new(self.id, ask) };
        let result = engine.execute(&self.caller, Arc::new(asked)).await;
        metrics.record(operation, result.as_ref().err(), began.elapsed());
        if let Err(error) = &result {
            let (operation, code) = (operation.name(), error.code());
            if error.is_ours_to_mend() {
                tracing::error!(request = %self.id, operation, code, %error, "failed");
            } else {
                tracing::debug!(request = %self.id, operation, code, "refused");
            }
        }
        result
    }
}

const OTHER_ANSWER: Error = Error::Internal("another answer than what was asked for gives");

fn by(alias: Alias) -> KeyRef {
    KeyRef::Alias(alias)
}

/// Refuses a key that nobody is to be bound to any more, though it may still exchange for those who are.
fn is_active(key: &Key, now: Now) -> Result<(), Error> {
    let of_version = key.primary()?.state_at(now);
    let state = match (key.destroy_at, key.suspended) {
        (Some(_), _) if of_version == State::Active => State::Deactivated,
        (None, Some(_)) if of_version == State::Active => State::Suspended,
        _ => of_version,
    };
    if state == State::Active {
        return Ok(());
    }
    let operation =
        if key.usage.permits(Operation::Exchange) { Operation::Exchange } else { Operation::Sign };
    Err(Error::WrongState { state, operation })
}

fn body_error(error: BodyError) -> Error {
    match error {
        BodyError::TooLarge { limit } => Error::TooLarge { field: "body", limit },
        BodyError::Timeout => Error::Invalid { field: "body", rule: "did not arrive in time" },
        BodyError::Closed => Error::Invalid { field: "body", rule: "did not arrive whole" },
    }
}

fn response(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn refusal(error: &Error, id: RequestId) -> Response<Full<Bytes>> {
    let (status, body) = tang::problem(error, id);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = response(status, "application/json", body);
    if let Error::TooMany { retry_after_ms } | Error::Unavailable { retry_after_ms } = error {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after_ms.div_ceil(1_000)));
    }
    response
}

fn nowhere(refused: Refused, id: RequestId) -> Response<Full<Bytes>> {
    let (status, body) = tang::not_found(refused, id);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::NOT_FOUND);
    let mut response = response(status, "application/json", body);
    if let Refused::MethodNotAllowed(allow) = refused {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    }
    response
}
