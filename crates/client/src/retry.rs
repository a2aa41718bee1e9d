//! One call: written once, sent until it is answered, where sending again is safe.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST};
use http::{HeaderValue, Request};
use http_body_util::Full;
use keyhearth_core::operation::{Group, Method, Operation};
use keyhearth_proto::rest::{Headers, IDEMPOTENCY_KEY, Problem, REASON, method_name};
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout_at};
use zeroize::Zeroizing;

use crate::tls::provider;
use crate::{Client, ConfigurationError, Error};

/// How often a request is sent at most.
pub(crate) const TRIES_MAX: u32 = 4;
/// How long a call takes at most, with everything.
const DEADLINE: Duration = Duration::from_secs(30);
/// The first wait after a failed connection; it doubles.
const WAIT_FIRST: Duration = Duration::from_millis(100);

/// Whether `operation` changes nothing, so that doing it twice is doing it once.
fn is_repeatable(operation: Operation) -> bool {
    let info = operation.info();
    let questions = [Operation::Random, Operation::TestPolicy, Operation::DiffPolicy];
    info.method == Method::Get
        || matches!(info.group, Group::Protect | Group::Process)
        || questions.contains(&operation)
}

/// Whether a request carries an idempotency key.
fn is_named(operation: Operation) -> bool {
    operation.info().method == Method::Post
        && !is_repeatable(operation)
        && !matches!(operation, Operation::Unseal | Operation::Seal)
}

fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| Error::Unreachable(std::io::ErrorKind::Other.into()))?;
    Ok(bytes)
}

/// How many bytes `body` is written in.
pub(crate) fn length(body: &impl Serialize) -> Result<usize, Error> {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, body).map_err(|_| Error::Answer)?;
    Ok(count.0)
}

/// Writes `body` into one allocation, which is wiped when the last request that carries it is dropped.
fn write(body: &impl Serialize) -> Result<Bytes, Error> {
    let mut text = Zeroizing::new(Vec::with_capacity(length(body)?));
    serde_json::to_writer(&mut *text, body).map_err(|_| Error::Answer)?;
    Ok(Bytes::from_owner(text))
}

impl Client {
    /// Carries out `operation`; `uri` is its path with the parameters filled in, and its query.
    pub(crate) async fn call<B: Serialize>(
        &self,
        operation: Operation,
        uri: String,
        body: Option<&B>,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let body = body.map(write).transpose()?.unwrap_or_default();
        let name = is_named(operation).then(random::<16>).transpose()?.map(u128::from_be_bytes);
        let deadline = Instant::now() + DEADLINE;
        let mut wait = WAIT_FIRST;
        for tries_left in (0..TRIES_MAX).rev() {
            let request = self.request(operation, &uri, name, body.clone())?;
            let result = timeout_at(deadline, self.server.send(request)).await.map_err(|_| Error::Timeout)?;
            let error = match result.and_then(|answer| accept(answer.status, answer.body)) {
                Ok(body) => return Ok(body),
                Err(error) => error,
            };
            let may_repeat = name.is_some() || is_repeatable(operation);
            let pause = match &error {
                Error::Unreachable(_) => Some(wait),
                Error::Refused { status: 429 | 503, problem } if may_repeat => {
                    problem.retry_after_ms.map(|ms| Duration::from_millis(ms.into()))
                }
                Error::Refused { .. }
                | Error::Configuration(_)
                | Error::Certificate(_)
                | Error::Broken(_)
                | Error::Timeout
                | Error::Answer => None,
            };
            let Some(pause) = pause.filter(|_| tries_left > 0) else { return Err(error) };
            let pause = pause + pause.mul_f64(f64::from(random::<1>()?[0]) / 255.0);
            if Instant::now() + pause >= deadline {
                return Err(error);
            }
            sleep(pause).await;
            wait *= 2;
        }
        Err(Error::Timeout)
    }

    fn request(
        &self,
        operation: Operation,
        uri: &str,
        name: Option<u128>,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, Error> {
        let mut request = Request::builder()
            .method(method_name(operation.info().method))
            .uri(uri)
            .header(HOST, self.server.authority())
            .header(ACCEPT, HeaderValue::from_static("application/json, application/octet-stream"));
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(name) = name {
            request = request.header(IDEMPOTENCY_KEY, format!("{name:032x}"));
        }
        if let Some(reason) = &self.reason {
            Headers::new(None, Some(reason.as_bytes())).map_err(|_| ConfigurationError::Reason)?;
            request = request.header(REASON, reason.as_bytes());
        }
        request.body(Full::new(body)).map_err(|_| Error::Configuration(ConfigurationError::Url))
    }
}

/// Tells an answer from a refusal.
pub(crate) fn accept<B: AsRef<[u8]>>(status: u16, body: B) -> Result<B, Error> {
    if status == 200 {
        return Ok(body);
    }
    let problem: Problem = serde_json::from_slice(body.as_ref()).map_err(|_| Error::Answer)?;
    Err(Error::Refused { status, problem: Box::new(problem) })
}
