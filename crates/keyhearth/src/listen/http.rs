//! One connection: bytes in, requests to the handler, answers out.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::{Bytes, BytesMut};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep, timeout};

use super::limits::{Counters, Finding, HEADER_BYTES_MAX, Limits, Pulse, STREAMS_MAX};
use super::{Handler, Shutdown};

/// The HTTP version spoken on a connection, agreed in the TLS handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, also without TLS.
    Http1,
    /// HTTP/2.
    Http2,
}

/// The other end of a connection, shared by all its requests.
#[derive(Debug)]
pub struct Peer<C> {
    /// Where the connection comes from.
    pub remote: SocketAddr,
    /// The client's certificate; `None` for an anonymous peer.
    ///
    /// It was verified when the connection began, and a connection may outlive it: whoever relies
    /// on it compares its end with the clock, and looks for its revocation, at every request.
    pub certificate: Option<CertificateDer<'static>>,
    /// What it speaks.
    pub protocol: Protocol,
    /// Kept for the layer above, which resolves the certificate once and checks it for revocation each time.
    pub caller: ArcSwapOption<C>,
    pub(super) limits: Arc<Limits>,
    pulse: Arc<Pulse>,
}

impl<C> Peer<C> {
    pub(super) fn new(
        remote: SocketAddr,
        certificate: Option<CertificateDer<'static>>,
        protocol: Protocol,
        limits: Arc<Limits>,
    ) -> Self {
        Self {
            remote,
            certificate,
            protocol,
            caller: ArcSwapOption::empty(),
            limits,
            pulse: Arc::new(Pulse::new()),
        }
    }
}

/// Why a request's body could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is longer than `limit` bytes.
    #[error("the body is longer than {limit} bytes")]
    TooLarge {
        /// The limit it exceeds.
        limit: usize,
    },
    /// It did not arrive in time.
    #[error("the body did not arrive in time")]
    Timeout,
    /// The client went away, or broke the protocol.
    #[error("the connection was closed before the body was complete")]
    Closed,
}

impl BodyError {
    /// What the client is told. Source: RFC 9110 §15.5.
    pub fn status(self) -> StatusCode {
        match self {
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::Closed => StatusCode::BAD_REQUEST,
        }
    }
}

/// Reads a body of at most `limit` bytes within the listener's time for it.
///
/// A body that came in one piece, which is nearly every one, is handed on without a copy.
///
/// # Errors
/// [`BodyError`]; an announced length over `limit` is refused before a byte is read.
pub async fn read_body<C>(peer: &Peer<C>, body: &mut Incoming, limit: usize) -> Result<Bytes, BodyError> {
    timeout(peer.limits.body, collect(body, limit)).await.unwrap_or(Err(BodyError::Timeout))
}

/// Most bytes of a refused request's body that are still read.
const DISCARD_BYTES_MAX: u64 = 4 << 20;
/// How long they are waited for.
const DISCARD: Duration = Duration::from_secs(5);

/// Reads and forgets what is left of a refused request, so that the client finishes writing and reads the
/// refusal. What is longer, or slower, is cut off with its connection.
///
/// Source: RFC 9112 §9.6 (a close with unread data resets the connection, and the answer is lost).
pub async fn discard_body(body: &mut Incoming) {
    let discard = async {
        let mut left = DISCARD_BYTES_MAX;
        while body.size_hint().lower() <= left
            && let Some(Ok(frame)) = body.frame().await
        {
            let read = frame.data_ref().map_or(0, |piece| piece.len() as u64);
            let Some(rest) = left.checked_sub(read) else { return };
            left = rest;
        }
    };
    let _ = timeout(DISCARD, discard).await;
}

async fn collect(body: &mut Incoming, limit: usize) -> Result<Bytes, BodyError> {
    let too_large = BodyError::TooLarge { limit };
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(too_large);
    }
    let mut whole = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(|_| BodyError::Closed)?.into_data() else { continue };
        if whole.len() + joined.len() + piece.len() > limit {
            return Err(too_large);
        }
        if whole.is_empty() && joined.is_empty() {
            whole = piece;
            continue;
        }
        if joined.is_empty() {
            joined.reserve(announced);
            joined.extend_from_slice(&std::mem::take(&mut whole));
        }
        joined.extend_from_slice(&piece);
    }
    Ok(if joined.is_empty() { whole } else { joined.freeze() })
}

/// Serves the requests of one connection until it ends, is late, or the server stops.
pub(super) async fn serve_connection<I, C, H>(
    stream: I,
    peer: Arc<Peer<C>>,
    handler: H,
    counters: &Counters,
    shutdown: Shutdown,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    C: Send + Sync + 'static,
    H: Handler<C>,
{
    let service = service_fn({
        let peer = Arc::clone(&peer);
        move |request: Request<Incoming>| {
            let running = peer.pulse.begin();
            let answer = handler(Arc::clone(&peer), request);
            async move {
                let response = answer.await;
                drop(running);
                Ok::<_, Infallible>(response)
            }
        }
    });
    match peer.protocol {
        Protocol::Http1 => {
            let io = TokioIo::new(Watched { stream, pulse: Arc::clone(&peer.pulse) });
            // libmongocrypt compares header names letter by letter, and looks for `Content-Length`.
            let connection = http1::Builder::new()
                .title_case_headers(true)
                .header_read_timeout(None)
                .max_header_size(HEADER_BYTES_MAX as usize)
                .serve_connection(io, service);
            drive(connection, http1::Connection::graceful_shutdown, &peer, counters, shutdown).await;
        }
        Protocol::Http2 => {
            let connection = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(STREAMS_MAX)
                .max_header_list_size(HEADER_BYTES_MAX)
                .serve_connection(TokioIo::new(stream), service);
            drive(connection, http2::Connection::graceful_shutdown, &peer, counters, shutdown).await;
        }
    }
}

/// Runs `connection` under its peer's limits. `close` lets it finish what it has begun and no more.
async fn drive<F: Future, C>(
    connection: F,
    close: fn(Pin<&mut F>),
    peer: &Peer<C>,
    counters: &Counters,
    shutdown: Shutdown,
) {
    let mut connection = pin!(connection);
    let mut stop = pin!(shutdown.requested());
    let mut check = pin!(sleep(peer.limits.head / 2));
    let mut closing = false;
    loop {
        tokio::select! {
            biased;
            _ = &mut connection => return,
            () = &mut check => match peer.pulse.check(&peer.limits) {
                Finding::Well(again_after) => check.as_mut().reset(Instant::now() + again_after),
                Finding::Idle if !closing => {
                    closing = true;
                    close(connection.as_mut());
                    check.as_mut().reset(Instant::now() + peer.limits.head);
                }
                Finding::Idle | Finding::Late => {
                    counters.cut.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            },
            () = &mut stop, if !closing => {
                closing = true;
                close(connection.as_mut());
            }
        }
    }
}

/// A stream that reports to its connection's pulse when bytes come in.
struct Watched<I> {
    stream: I,
    pulse: Arc<Pulse>,
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.pulse.bytes_arrived();
        }
        result
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
