//! The REST front: one request from its bytes to the engine and back. It adds no authority of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use keyhearth_core::Error;
use keyhearth_core::id::RequestId;
use keyhearth_core::operation::Operation;
use keyhearth_core::request::{Idempotency, Request as Asked, Response as Answer};
use keyhearth_crypto::digest::sha256_of_secrets;
use keyhearth_proto::rest;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{BodyError, Peer, discard_body, read_body};
use crate::engine::{Authenticated, Engine, UnsealWith};
use crate::telemetry::Metrics;

const REQUEST_ID: HeaderName = HeaderName::from_static(rest::REQUEST_ID);
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// When to come back to a sealed server, in seconds: people have to unseal it.
const SEALED_RETRY_S: u32 = 10;

/// Requests of one batch that are carried out at the same time. Those that wait take no thread from others.
const BATCH_RUNNING_MAX: usize = 64;

/// What is asked in a batch that has answers enough.
const TOO_MUCH: Error = Error::TooLarge { field: "answers", limit: rest::BATCH_ANSWER_BYTES_MAX };

/// What the REST listener answers from.
pub struct Rest {
    engine: Arc<Engine>,
    metrics: Arc<Metrics>,
    openapi: Bytes,
}

/// An answer before it has a request id.
struct Reply {
    status: u16,
    content_type: HeaderValue,
    body: Vec<u8>,
    allow: Option<&'static str>,
    retry_after_s: Option<u32>,
}

impl Reply {
    fn json(body: Vec<u8>) -> Self {
        Self { status: 200, content_type: JSON, body, allow: None, retry_after_s: None }
    }

    fn problem(error: &Error, id: RequestId) -> Self {
        let (status, body) = rest::problem(error, id);
        let retry_after_s =
            if let Error::TooMany { retry_after_ms } | Error::Unavailable { retry_after_ms } = error {
                Some(retry_after_ms.div_ceil(1_000))
            } else {
                (*error == Error::Sealed).then_some(SEALED_RETRY_S)
            };
        Self { status, retry_after_s, ..Self::json(body) }
    }

    fn refused(refused: rest::Refused, id: RequestId) -> Self {
        let (status, body) = rest::not_found(refused, id, "look at /v1/openapi.json");
        let allow = match refused {
            rest::Refused::MethodNotAllowed(allow) => Some(allow),
            rest::Refused::NotFound => None,
        };
        Self { status, allow, ..Self::json(body) }
    }

    fn into_response(self, id: RequestId) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(self.body)));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, self.content_type);
        if let Ok(id) = HeaderValue::try_from(id.to_string()) {
            headers.insert(REQUEST_ID, id);
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl Rest {
    /// A front for `engine`.
    #[must_use]
    pub fn new(engine: Arc<Engine>, metrics: Arc<Metrics>) -> Arc<Self> {
        let openapi = Bytes::from(rest::openapi(env!("CARGO_PKG_VERSION")).to_string());
        Arc::new(Self { engine, metrics, openapi })
    }

    /// Answers one request.
    pub async fn answer(
        self: Arc<Self>,
        peer: Arc<Peer<Authenticated>>,
        request: Request<Incoming>,
    ) -> Response<Full<Bytes>> {
        let id = self.engine.request_id();
        let (parts, mut body) = request.into_parts();
        let path = parts.uri.path();
        let reply = match (path, &parts.method) {
            ("/v1/openapi.json", &Method::GET) => {
                let mut response = Response::new(Full::new(self.openapi.clone()));
                response.headers_mut().insert(CONTENT_TYPE, JSON);
                return response;
            }
            ("/healthz" | "/readyz", &Method::GET) => health(&self.engine, path),
            ("/healthz" | "/readyz" | "/v1/openapi.json", _) => {
                Reply::refused(rest::Refused::MethodNotAllowed("GET"), id)
            }
            _ if let Err(error) = from_own_origin(&parts) => Reply::problem(&error, id),
            ("/v1/unseal", &Method::POST) => self.unseal(&peer, &mut body, id).await,
            (rest::BATCH_PATH, &Method::POST) => self.batch(&peer, &parts, &mut body, id).await,
            (rest::BATCH_PATH, _) => Reply::refused(rest::Refused::MethodNotAllowed("POST"), id),
            _ => self.operation(&peer, &parts, &mut body, id).await,
        };
        if reply.status >= 400 {
            discard_body(&mut body).await;
        }
        reply.into_response(id)
    }

    /// An operation of the table.
    async fn operation(
        &self,
        peer: &Peer<Authenticated>,
        parts: &Parts,
        body: &mut Incoming,
        id: RequestId,
    ) -> Reply {
        let (operation, params) = match rest::route(parts.method.as_str(), parts.uri.path()) {
            Ok(found) => found,
            Err(refused) => return Reply::refused(refused, id),
        };
        let began = std::time::Instant::now();
        let result = async {
            // Who asks comes first: a stranger learns nothing about what is wrong with the request.
            let caller = self.caller(peer).await?;
            let body = read_body(peer, body, rest::BODY_BYTES_MAX).await.map_err(body_error)?;
            let caller = &caller.caller;
            match asked(parts, (operation, &params), &body, id) {
                Ok(asked) => self.engine.execute(caller, Arc::new(asked)).await,
                Err(error) => Err(self.engine.charge(caller).err().unwrap_or(error)),
            }
        };
        let result = result.await;
        self.metrics.record(operation, result.as_ref().err(), began.elapsed());
        match result {
            Ok(answer) => {
                let printed = rest::print(answer);
                Reply {
                    content_type: HeaderValue::from_static(printed.content_type),
                    ..Reply::json(printed.body)
                }
            }
            Err(error) => {
                log(id, operation.name(), &error);
                Reply::problem(&error, id)
            }
        }
    }

    /// Many uses of keys at once. Each goes through the engine by itself, and those of one batch share its flushes.
    async fn batch(
        &self,
        peer: &Peer<Authenticated>,
        parts: &Parts,
        body: &mut Incoming,
        id: RequestId,
    ) -> Reply {
        let result = async {
            let caller = self.caller(peer).await?;
            let body = read_body(peer, body, rest::BODY_BYTES_MAX).await.map_err(body_error)?;
            let reason = rest::Headers::new(None, header(&parts.headers, rest::REASON)?);
            let read = reason.and_then(|headers| Ok((headers.reason, rest::batch(&body)?)));
            let (reason, requests) =
                read.map_err(|error| self.engine.charge(&caller.caller).err().unwrap_or(error))?;
            let (mut running, places) = (JoinSet::new(), Arc::new(Semaphore::new(BATCH_RUNNING_MAX)));
            let printed_bytes = Arc::new(AtomicUsize::new(0));
            let mut answers = Vec::with_capacity(requests.len());
            for (at, request) in requests.into_iter().enumerate() {
                let id = self.engine.request_id();
                let (operation, ask) = match request {
                    Ok(read) => read,
                    Err(error) => {
                        let error = self.engine.charge(&caller.caller).err().unwrap_or(error);
                        answers.push(rest::print_answer(id, Err(error)));
                        continue;
                    }
                };
                answers.push(rest::print_answer(
                    id,
                    Err(Error::Internal("a request of a batch was not answered")),
                ));
                let asked = Arc::new(Asked { reason: reason.clone(), ..Asked::new(id, ask) });
                let (engine, metrics) = (Arc::clone(&self.engine), Arc::clone(&self.metrics));
                let (caller, places) = (Arc::clone(&caller), Arc::clone(&places));
                let printed_bytes = Arc::clone(&printed_bytes);
                running.spawn(async move {
                    let _place = places.acquire().await;
                    let began = std::time::Instant::now();
                    let result = match printed_bytes.load(Ordering::Relaxed) {
                        0..rest::BATCH_ANSWER_BYTES_MAX => engine.execute(&caller.caller, asked).await,
                        _ => Err(engine.charge(&caller.caller).err().unwrap_or(TOO_MUCH)),
                    };
                    metrics.record(operation, result.as_ref().err(), began.elapsed());
                    if let Err(error) = &result {
                        log(id, operation.name(), error);
                    }
                    let printed = rest::print_answer(id, result);
                    printed_bytes.fetch_add(printed.1.len(), Ordering::Relaxed);
                    (at, printed)
                });
            }
            while let Some(answered) = running.join_next().await {
                if let Ok((at, printed)) = answered {
                    answers[at] = printed;
                }
            }
            Ok(answers)
        };
        match result.await {
            Ok(answers) => Reply::json(rest::print_batch(&answers)),
            Err(error) => {
                log(id, "batch", &error);
                Reply::problem(&error, id)
            }
        }
    }

    /// The connection's caller: found out once, and again whenever anything changed.
    async fn caller(&self, peer: &Peer<Authenticated>) -> Result<Arc<Authenticated>, Error> {
        if let Some(known) = peer.caller.load_full()
            && self.engine.still_holds(&known)
        {
            return Ok(known);
        }
        let certificate = peer.certificate.as_deref();
        let found = Arc::new(self.engine.authenticate(certificate, peer.remote.ip()).await?);
        peer.caller.store(Some(Arc::clone(&found)));
        Ok(found)
    }

    /// Unsealing: before anybody can prove who they are, so a certificate of the CA is asked for, nothing more.
    async fn unseal(&self, peer: &Peer<Authenticated>, body: &mut Incoming, id: RequestId) -> Reply {
        let result = async {
            if peer.certificate.is_none() {
                return Err(Error::Unauthenticated);
            }
            let body = read_body(peer, body, rest::BODY_BYTES_MAX).await.map_err(body_error)?;
            let with: rest::body::Unseal = rest::read(&body)?;
            let with = match &with {
                rest::body::Unseal::Share(share) => UnsealWith::Share(share.expose()),
                rest::body::Unseal::Passphrase(passphrase) => {
                    UnsealWith::Passphrase(passphrase.expose().as_bytes())
                }
            };
            self.engine.unseal(with, peer.remote.ip()).await
        };
        match result.await {
            Ok(status) => Reply::json(rest::print(Answer::Status(Box::new(status))).body),
            Err(error) => Reply::problem(&error, id),
        }
    }
}

/// Tells whoever runs the server of a failure, and whoever looks for it of a refusal.
fn log(id: RequestId, operation: &str, error: &Error) {
    let code = error.code();
    if error.is_ours_to_mend() {
        tracing::error!(request = %id, operation, code, %error, "failed");
    } else {
        tracing::debug!(request = %id, operation, code, "refused");
    }
}

/// What an operation's path, headers and body ask for.
fn asked(
    parts: &Parts,
    (operation, params): (Operation, &rest::Params),
    body: &[u8],
    id: RequestId,
) -> Result<Asked, Error> {
    let headers = rest::Headers::new(
        header(&parts.headers, rest::IDEMPOTENCY_KEY)?,
        header(&parts.headers, rest::REASON)?,
    )?;
    let ask = rest::parse(operation, params, parts.uri.query(), body)?;
    let idempotency = headers.idempotency_key.map(|key| {
        let digest = sha256_of_secrets(&[parts.uri.path().as_bytes(), &[0], body]);
        Idempotency { key, digest }
    });
    Ok(Asked { reason: headers.reason, idempotency, ..Asked::new(id, ask) })
}

/// `/healthz`: the process answers. `/readyz`: it is unsealed and takes requests.
fn health(engine: &Engine, path: &str) -> Reply {
    let ready = path == "/healthz" || !engine.is_sealed();
    let body = if ready { r#"{"ok":true}"# } else { r#"{"ok":false,"sealed":true}"# };
    Reply { status: if ready { 200 } else { 503 }, ..Reply::json(body.as_bytes().to_vec()) }
}

/// Answers the loopback listener for health and metrics.
pub async fn answer_health(
    engine: Arc<Engine>,
    metrics: Arc<Metrics>,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let id = engine.request_id();
    let reply = match (request.method(), request.uri().path()) {
        (&Method::GET, path @ ("/healthz" | "/readyz")) => health(&engine, path),
        (&Method::GET, "/metrics") => {
            let content_type = HeaderValue::from_static("text/plain; version=0.0.4");
            Reply { content_type, ..Reply::json(metrics.print(&engine).into_bytes()) }
        }
        _ => Reply::problem(&Error::NotFound("path"), id),
    };
    reply.into_response(id)
}

/// The value of a header that means one thing.
fn header<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<Option<&'h [u8]>, Error> {
    let mut values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(Error::Invalid { field: name, rule: "is given twice" }),
    }
}

/// Refuses what a web page of somebody else makes a browser send: the browser shows its user's certificate with
/// it, unasked. Other clients send no origin. Nor do browsers with GET, which changes nothing here and whose answer
/// they keep from the page.
///
/// Source: RFC 6454 §7.3; Fetch standard, "`Origin` header".
fn from_own_origin(parts: &Parts) -> Result<(), Error> {
    let Some(origin) = header(&parts.headers, "origin")? else { return Ok(()) };
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let own = authority.or(header(&parts.headers, "host")?);
    if own.is_some() && origin.strip_prefix(b"https://") == own {
        Ok(())
    } else {
        Err(Error::Invalid { field: "origin", rule: "must be the server's own" })
    }
}

fn body_error(error: BodyError) -> Error {
    match error {
        BodyError::TooLarge { limit } => Error::TooLarge { field: "body", limit },
        BodyError::Timeout => Error::Invalid { field: "body", rule: "did not arrive in time" },
        BodyError::Closed => Error::Invalid { field: "body", rule: "did not arrive whole" },
    }
}
