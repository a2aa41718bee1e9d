//! The bare baseline: our listener, and a handler that reads the body and gives a fixed answer.
//!
//! What an operation costs beyond it is ours; what it costs itself is TLS, HTTP and the machine.

use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};

use super::error::Error;
use crate::listen::{Limits, Listener, Peer, Shutdown, Tls, read_body};

/// What the bare server's process reads from its standard input. All texts are PEM.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    /// The server's certificate chain.
    pub chain: String,
    /// The server's private key.
    pub key: String,
    /// Whose client certificates to believe; without any, clients show none.
    pub roots: String,
    /// Length of the fixed answer.
    pub answer_bytes: usize,
}

const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Serves on a free loopback port, which `ready` is told, until `shutdown`.
///
/// # Errors
/// If the job's certificates are unusable.
pub async fn serve(
    job: &Job,
    ready: impl FnOnce(std::net::SocketAddr),
    shutdown: Shutdown,
) -> Result<(), Error> {
    let tls = Tls::from_pem(job.chain.as_bytes(), job.key.as_bytes(), job.roots.as_bytes())?;
    let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into(), tls, Limits::default()).await?;
    ready(listener.address());
    let fixed = Bytes::from(vec![b' '; job.answer_bytes]);
    let handler = move |peer: Arc<Peer<()>>, request: Request<Incoming>| {
        let fixed = fixed.clone();
        async move {
            let mut response = match read_body(&peer, &mut request.into_body(), BODY_BYTES_MAX).await {
                Ok(_) => Response::new(Full::new(fixed)),
                Err(error) => {
                    let mut refusal = Response::new(Full::default());
                    *refusal.status_mut() = error.status();
                    refusal
                }
            };
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
    };
    listener.serve(handler, shutdown).await;
    Ok(())
}
