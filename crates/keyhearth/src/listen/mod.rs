//! Sockets: TCP, TLS and HTTP, with a limit on everything a stranger can make us spend.
//!
//! A listener turns connections into requests and hands each to one handler together with its
//! [`Peer`]. It knows no paths, keys or callers. Who the peer is, and whether it may, is decided above.
//!
//! The server runs one listener with TLS for callers, one for each protocol that is configured beside it, and one
//! without TLS, on loopback, for health and metrics. Each has its own [`Limits`], so the others have room while one is
//! flooded.
//!
//! Known limits:
//! - The rate of TLS handshakes is not bounded, only their number at once. A flood of new
//!   connections from many addresses costs every caller processor time; a packet filter in front
//!   is the place to bound it.
//! - The buffers of TLS and HTTP are ordinary memory and are not wiped, so what a caller sends or
//!   receives in the clear can stay in it until it is used again.

pub mod aws;
pub mod boot;
mod http;
mod limits;
pub mod rest;
pub mod tang;
pub mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ::http::{Request, Response};
use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

pub use self::http::{BodyError, Peer, Protocol, discard_body, read_body};
use self::limits::{ACCEPT_RETRY_DELAY, Admission};
pub use self::limits::{Counters, HEADER_BYTES_MAX, HEADERS_MAX, Limits};
pub use self::tls::{Tls, TlsError};

/// Answers the requests of a listener: a name for the functions of this shape.
///
/// `C` is what the layer above keeps about a connection's caller, see [`Peer::caller`]. An answer
/// is dropped unfinished, at any of its `await`s, if its client goes away; work that must not stop
/// half way belongs in a task of its own.
pub trait Handler<C>:
    Fn(Arc<Peer<C>>, Request<Incoming>) -> Self::Answer + Clone + Send + Sync + 'static
{
    /// The answer to one request.
    type Answer: Future<Output = Response<Full<Bytes>>> + Send + 'static;
}

impl<C, H, F> Handler<C> for H
where
    H: Fn(Arc<Peer<C>>, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    type Answer = F;
}

/// Why a listener could not start.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is taken, not ours, or needs a privilege.
    #[error("can not listen on {address}: {source}; choose another address or stop what uses it")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Without TLS only this machine may connect.
    #[error("{0} is reachable from outside, where only TLS is spoken; use a loopback address")]
    NotLoopback(SocketAddr),
}

/// Asks everything that holds the matching [`Shutdown`] to stop, when told or when dropped.
#[derive(Debug)]
pub struct Stop(watch::Sender<bool>);

impl Stop {
    /// A stop and the shutdown it requests.
    pub fn new() -> (Self, Shutdown) {
        let (sender, receiver) = watch::channel(false);
        (Self(sender), Shutdown(receiver))
    }

    /// Requests the shutdown. It stays requested.
    pub fn request(&self) {
        self.0.send_replace(true);
    }
}

/// Waits for a [`Stop`].
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// Ends when shutdown is requested, at once if it already is.
    pub async fn requested(mut self) {
        // An error means that the `Stop` is gone, which requests the same.
        let _ = self.0.wait_for(|requested| *requested).await;
    }
}

/// A bound socket and what it needs to serve.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    tls: Option<ArcSwap<ServerConfig>>,
    limits: Arc<Limits>,
    admission: Arc<Admission>,
}

impl Listener {
    /// Binds `address` for TLS. Port 0 takes a free one, see [`Listener::address`].
    ///
    /// # Errors
    /// [`ListenError::Bind`].
    pub async fn bind(address: SocketAddr, tls: Tls, limits: Limits) -> Result<Arc<Self>, ListenError> {
        Self::bound(address, Some(ArcSwap::new(tls.config)), limits).await
    }

    /// Binds a loopback `address` for plain HTTP/1.1.
    ///
    /// # Errors
    /// [`ListenError::Bind`], and [`ListenError::NotLoopback`] for any other address.
    pub async fn bind_loopback(address: SocketAddr, limits: Limits) -> Result<Arc<Self>, ListenError> {
        if !address.ip().to_canonical().is_loopback() {
            return Err(ListenError::NotLoopback(address));
        }
        Self::bind_plain(address, limits).await
    }

    /// Binds `address` for plain HTTP/1.1 wherever it is, for a protocol that keeps its secrets by itself.
    ///
    /// # Errors
    /// [`ListenError::Bind`].
    pub async fn bind_plain(address: SocketAddr, limits: Limits) -> Result<Arc<Self>, ListenError> {
        Self::bound(address, None, limits).await
    }

    async fn bound(
        address: SocketAddr,
        tls: Option<ArcSwap<ServerConfig>>,
        limits: Limits,
    ) -> Result<Arc<Self>, ListenError> {
        let failed = |source| ListenError::Bind { address, source };
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Arc::new(Self { socket, address, tls, limits: Arc::new(limits), admission: Arc::default() }))
    }

    /// The address in use.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What this listener has seen.
    pub fn counters(&self) -> &Counters {
        &self.admission.counters
    }

    /// Uses `tls` for all connections from now on; those that exist stay as they are.
    ///
    /// A listener without TLS stays without.
    pub fn reload(&self, tls: Tls) {
        if let Some(current) = &self.tls {
            current.store(tls.config);
        }
    }

    /// Serves until `shutdown`, then lets running requests finish within [`Limits::drain`].
    ///
    /// New connections wait unanswered while the listener drains, and are closed when it is dropped.
    pub async fn serve<C, H>(self: Arc<Self>, handler: H, shutdown: Shutdown)
    where
        C: Send + Sync + 'static,
        H: Handler<C>,
    {
        let mut connections = JoinSet::new();
        let mut stop = std::pin::pin!(shutdown.clone().requested());
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                Some(_) = connections.join_next() => {}
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, remote)) => {
                        if let Some(place) = self.admission.admit(remote.ip(), &self.limits) {
                            let connection =
                                Arc::clone(&self).connection(stream, remote, handler.clone(), shutdown.clone());
                            connections.spawn(async move {
                                connection.await;
                                drop(place);
                            });
                        }
                    }
                    Err(error) if is_of_one_connection(&error) => {}
                    Err(error) => {
                        tracing::warn!(address = %self.address, %error, "can not accept connections");
                        sleep(ACCEPT_RETRY_DELAY).await;
                    }
                },
            }
        }
        let drained = timeout(self.limits.drain, async { while connections.join_next().await.is_some() {} });
        if drained.await.is_err() {
            tracing::warn!(address = %self.address, cut = connections.len(), "cut requests that did not finish");
        }
    }

    /// One connection, from accept to close.
    async fn connection<C, H>(
        self: Arc<Self>,
        stream: TcpStream,
        remote: SocketAddr,
        handler: H,
        shutdown: Shutdown,
    ) where
        C: Send + Sync + 'static,
        H: Handler<C>,
    {
        let counters = &self.admission.counters;
        // Answers are written whole; waiting to fill a packet only delays them. Failure costs speed alone.
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else {
            let peer = Arc::new(Peer::new(remote, None, Protocol::Http1, Arc::clone(&self.limits)));
            return http::serve_connection(stream, peer, handler, counters, shutdown).await;
        };
        let handshake = TlsAcceptor::from(tls.load_full()).accept(stream);
        let stream = tokio::select! {
            stream = timeout(self.limits.handshake, handshake) => stream,
            () = shutdown.clone().requested() => return,
        };
        let Ok(Ok(stream)) = stream else {
            counters.handshakes_failed.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let (_, session) = stream.get_ref();
        let certificate = session.peer_certificates().and_then(|chain| chain.first()).cloned();
        let protocol = match session.alpn_protocol() {
            Some(tls::ALPN_H2) => Protocol::Http2,
            _ => Protocol::Http1,
        };
        let peer = Arc::new(Peer::new(remote, certificate, protocol, Arc::clone(&self.limits)));
        http::serve_connection(stream, peer, handler, counters, shutdown).await;
    }
}

/// Whether a failed `accept` says something about one client only, so that the next may follow at once.
///
/// Source: accept(2), "Error handling".
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests;
