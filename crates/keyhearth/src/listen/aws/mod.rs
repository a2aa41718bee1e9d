//! The AWS KMS front: one signed request from its bytes to the engine and back. It adds no authority of its own.
//!
//! A request is authenticated whole, body and all, before anything in it is looked at. Answers to callers who are
//! not proved say what AWS says; which access key ids there are is told by them, as AWS tells it.

mod aliases;
mod cryptography;
mod demand;
mod dispatch;
mod grants;
mod import;
mod keys;
mod login;
mod metadata;
mod policies;
mod refusal;
mod rotation;
mod tags;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use keyhearth_core::Error;
use keyhearth_core::id::RequestId;
use keyhearth_core::principal::Caller;
use keyhearth_core::request::{Ask, Request as Asked, Response as Answer, Secret};
use keyhearth_proto::aws::{BODY_BYTES_MAX, Call, Exception, Kind, Operation, Place};
use tokio::sync::Semaphore;

pub use self::login::Login;
use self::refusal::throttled;
use super::{BodyError, Peer, discard_body, read_body};
use crate::engine::Engine;
use crate::telemetry::Metrics;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const JSON: &str = "application/x-amz-json-1.1";

/// Room for bodies that nobody is known to have signed, in KiB of all requests together: 64 MiB. Connections on which
/// somebody has proved to hold a secret do without it, so whoever fills it keeps nobody out of those.
const UNPROVED_KIB_MAX: usize = 64 * 1024;

/// What the AWS listener answers from.
pub struct Aws {
    engine: Arc<Engine>,
    metrics: Arc<Metrics>,
    place: Place,
    /// Room for bodies that nobody is known to have signed, in KiB.
    unproved: Semaphore,
}

impl Aws {
    /// A front for `engine`.
    #[must_use]
    pub fn new(engine: Arc<Engine>, metrics: Arc<Metrics>, place: Place) -> Arc<Self> {
        Arc::new(Self { engine, metrics, place, unproved: Semaphore::new(UNPROVED_KIB_MAX) })
    }

    /// Answers one request.
    pub async fn answer(
        self: Arc<Self>,
        peer: Arc<Peer<Login>>,
        request: Request<Incoming>,
    ) -> Response<Full<Bytes>> {
        let id = self.engine.request_id();
        let (parts, mut body) = request.into_parts();
        let (status, answer) = match self.call(&peer, &parts, &mut body, id).await {
            Ok(answer) => (StatusCode::OK, answer),
            Err(exception) => {
                discard_body(&mut body).await;
                let (status, kind) = (exception.kind.status(), exception.kind.name());
                if exception.kind == Kind::KMSInternal {
                    tracing::error!(request = %id, kind, %exception, "failed");
                } else {
                    tracing::debug!(request = %id, kind, "refused");
                }
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                (status, Secret::new(exception.body()))
            }
        };
        // Wiped when it has been sent.
        let mut response = Response::new(Full::new(Bytes::from_owner(answer)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        if let Ok(id) = HeaderValue::try_from(id.to_string()) {
            headers.insert(REQUEST_ID, id);
        }
        response
    }

    async fn call(
        self: &Arc<Self>,
        peer: &Peer<Login>,
        parts: &Parts,
        body: &mut Incoming,
        id: RequestId,
    ) -> Result<Secret, Exception> {
        if parts.method != Method::POST || parts.uri.path() != "/" {
            return Err(Exception::silent(Kind::UnknownOperation));
        }
        let (login, body) = self.authenticated(peer, parts, body).await?;
        let (engine, metrics, place, caller) = (&self.engine, &self.metrics, &self.place, login.caller());
        let exchange = Exchange { engine, metrics, caller, place, id, has_asked: AtomicBool::new(false) };
        let answer = match operation(parts).and_then(|operation| Call::parse(operation, &body)) {
            Ok(call) => exchange.answer(call).await,
            Err(exception) => Err(exception),
        };
        if !exchange.has_asked.into_inner() {
            engine.charge(caller).map_err(|_| throttled())?;
        }
        answer
    }
}

/// The operation that the headers name.
fn operation(parts: &Parts) -> Result<Operation, Exception> {
    let value = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let media_type = value("content-type").and_then(|text| text.split(';').next()).map(str::trim);
    if media_type != Some(JSON) {
        return Err(Exception::silent(Kind::UnknownOperation));
    }
    Operation::from_target(value("x-amz-target").unwrap_or_default())
}

/// The body of a request, before anybody knows whose it is.
async fn whole_body(peer: &Peer<Login>, body: &mut Incoming) -> Result<Bytes, Exception> {
    read_body(peer, body, BODY_BYTES_MAX).await.map_err(|error| match error {
        BodyError::TooLarge { limit } => Exception::new(
            Kind::RequestEntityTooLarge,
            format!("The body of a request has at most {limit} bytes."),
        ),
        BodyError::Timeout | BodyError::Closed => {
            Exception::new(Kind::Serialization, "The body did not arrive whole, or not in time.")
        }
    })
}

/// One call of a caller who has proved who it is. Every operation is a method of it.
pub struct Exchange<'a> {
    /// What carries the call out.
    pub engine: &'a Arc<Engine>,
    /// Where what is asked is counted.
    pub metrics: &'a Metrics,
    /// Who calls.
    pub caller: &'a Arc<Caller>,
    /// What ARNs in the answer say.
    pub place: &'a Place,
    /// The call's id, in the log and in the answer.
    pub id: RequestId,
    /// Whether the engine was asked, which takes the call from the caller's rate.
    has_asked: AtomicBool,
}

impl Exchange<'_> {
    /// Asks the engine, or, in a dry run, only whether it would do it: then the answer is
    /// [`Answer::WouldSucceed`], and a refusal is the refusal that the call itself would get.
    ///
    /// # Errors
    /// As [`Engine::execute`].
    pub async fn run(&self, ask: Ask, dry_run: bool) -> Result<Answer, Error> {
        self.execute(Asked { dry_run, ..Asked::new(self.id, ask) }).await
    }

    /// Asks the engine. A call that asks twice does so under one id.
    async fn execute(&self, asked: Asked) -> Result<Answer, Error> {
        let (began, operation) = (Instant::now(), asked.ask.operation());
        self.has_asked.store(true, Ordering::Relaxed);
        let result = self.engine.execute(self.caller, Arc::new(asked)).await;
        self.metrics.record(operation, result.as_ref().err(), began.elapsed());
        // The caller is told no more than that it is our fault.
        if let Err(error) = &result
            && error.is_ours_to_mend()
        {
            tracing::error!(request = %self.id, operation = operation.name(), %error, "failed");
        }
        result
    }
}
