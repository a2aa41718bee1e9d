//! Who signed a request. The first of a connection finds out; the others compute two hashes and one MAC.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::request::Parts;
use hyper::body::{Body as _, Incoming};
use keyhearth_core::Error;
use keyhearth_core::operation::Operation;
use keyhearth_core::principal::Caller;
use keyhearth_crypto::digest::sha256;
use keyhearth_proto::aws::sigv4::{Claim, Header, Message, Refusal, Scope, SigningKey};
use keyhearth_proto::aws::{BODY_BYTES_MAX, Exception, Kind};
use subtle::ConstantTimeEq as _;
use tokio::sync::SemaphorePermit;

use super::refusal::ours;
use super::{Aws, whole_body};
use crate::engine::{Authenticated, NoLogin};
use crate::listen::Peer;

/// The service that requests are signed for.
const SERVICE: &str = "kms";

/// What is known of whoever signed the newest good request of a connection. Enough for the requests that follow with
/// the same access key on the same day, while nothing has changed.
#[derive(Debug)]
pub struct Login {
    access_key: String,
    date: String,
    key: SigningKey,
    session_token_hash: Option<[u8; 32]>,
    authenticated: Authenticated,
}

impl Login {
    /// Who it is.
    #[must_use]
    pub fn caller(&self) -> &Arc<Caller> {
        &self.authenticated.caller
    }

    /// Whether the request has the session token that goes with the access key, and none if none does.
    fn has_token(&self, claim: &Claim<'_>) -> bool {
        match (&self.session_token_hash, claim.session_token) {
            (None, None) => true,
            (Some(hash), Some(token)) => sha256(&[token]).ct_eq(hash).into(),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }
}

impl Aws {
    /// Who signed the request, and its body. A failure is logged as any failed login is.
    pub(super) async fn authenticated(
        &self,
        peer: &Peer<Login>,
        parts: &Parts,
        body: &mut Incoming,
    ) -> Result<(Arc<Login>, Bytes), Exception> {
        let headers = headers(parts);
        let message = Message {
            method: parts.method.as_str(),
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or_default(),
            headers: &headers,
        };
        let scope = Scope { region: self.place.region(), service: SERVICE };
        let (began, mut named) = (Instant::now(), None);
        let proved = async {
            let claim = Claim::read(&message, scope).map_err(refused)?;
            named = Some(claim.access_key);
            claim.is_timely(self.engine.now()).map_err(refused)?;
            let mut login = self.login(peer, &claim, scope)?;
            let _room = if is_known(peer, &login) { None } else { Some(self.room(body)?) };
            let body = whole_body(peer, body).await?;
            // It may have been long in coming.
            claim.is_timely(self.engine.now()).map_err(refused)?;
            if !self.engine.still_holds(&login.authenticated) {
                login = self.login(peer, &claim, scope)?;
            }
            claim.verify(&message, &sha256(&[&body]), &login.key).map_err(refused)?;
            Ok((login, body))
        };
        let proved: Result<_, Exception> = proved.await;
        match &proved {
            Ok((login, _)) => {
                if !is_known(peer, login) {
                    peer.caller.store(Some(Arc::clone(login)));
                }
            }
            Err(exception) if is_failed_login(exception.kind) => {
                let (operation, error) = (Operation::Authenticate, Error::Unauthenticated);
                self.metrics.record(operation, Some(&error), began.elapsed());
                self.engine.refuse_login(named, peer.remote.ip()).await.map_err(ours)?;
            }
            Err(_) => {}
        }
        proved
    }

    /// Takes room for a body that nobody is known to have signed; given back on drop.
    fn room(&self, body: &Incoming) -> Result<SemaphorePermit<'_>, Exception> {
        let bytes = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
        let kib = bytes.unwrap_or(BODY_BYTES_MAX).min(BODY_BYTES_MAX) / 1_024 + 1;
        let taken = self.unproved.try_acquire_many(u32::try_from(kib).unwrap_or(u32::MAX));
        taken.map_err(|_| ours(Error::Unavailable { retry_after_ms: 1_000 }))
    }

    /// What is known of who is said to have signed: from the connection if that still holds.
    fn login(
        &self,
        peer: &Peer<Login>,
        claim: &Claim<'_>,
        scope: Scope<'_>,
    ) -> Result<Arc<Login>, Exception> {
        let known = peer.caller.load_full().filter(|known| {
            known.access_key == claim.access_key
                && known.date == claim.date
                && self.engine.still_holds(&known.authenticated)
        });
        let login = match known {
            Some(known) => known,
            None => {
                let signer = self.engine.signer(claim.access_key, peer.remote.ip()).map_err(no_login)?;
                let secret = signer.expose_secret().map_err(ours)?;
                Arc::new(Login {
                    access_key: claim.access_key.to_owned(),
                    date: claim.date.to_owned(),
                    key: SigningKey::derive(secret, claim.date, scope),
                    session_token_hash: signer.session_token_hash().map_err(ours)?,
                    authenticated: signer.authenticated,
                })
            }
        };
        if login.has_token(claim) { Ok(login) } else { Err(no_login(NoLogin::Unknown)) }
    }
}

/// Whether the newest good request of the connection was of this login.
fn is_known(peer: &Peer<Login>, login: &Arc<Login>) -> bool {
    peer.caller.load().as_ref().is_some_and(|known| Arc::ptr_eq(known, login))
}

/// The headers as they are signed. HTTP/2 has the host elsewhere.
///
/// Source: RFC 9113 §8.3.1.
fn headers(parts: &Parts) -> Vec<Header<'_>> {
    let authority = parts.uri.authority().filter(|_| !parts.headers.contains_key("host"));
    let host = authority.map(|authority| ("host", authority.as_str().as_bytes()));
    let mut headers = Vec::with_capacity(parts.headers.len() + 1);
    headers.extend(parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
    headers.extend(host);
    headers
}

fn refused(refusal: Refusal) -> Exception {
    let kind = match refusal {
        Refusal::Missing => Kind::MissingAuthenticationToken,
        Refusal::Incomplete(_) => Kind::IncompleteSignature,
        Refusal::Invalid(_) => Kind::InvalidSignature,
    };
    Exception::new(kind, refusal.to_string())
}

fn no_login(why: NoLogin) -> Exception {
    match why {
        NoLogin::Unknown => {
            Exception::new(Kind::UnrecognizedClient, "The security token included in the request is invalid.")
        }
        NoLogin::Ended => {
            Exception::new(Kind::ExpiredToken, "The security token included in the request is expired")
        }
        NoLogin::Failed(error) => ours(error),
    }
}

/// Whether somebody tried to be let in, rather than that nobody could be.
fn is_failed_login(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::ExpiredToken
            | Kind::IncompleteSignature
            | Kind::InvalidSignature
            | Kind::MissingAuthenticationToken
            // Of the body, without which nothing is proved.
            | Kind::Serialization
            | Kind::UnrecognizedClient
    )
}
