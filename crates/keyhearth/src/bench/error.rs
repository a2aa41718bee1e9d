//! Why a measurement could not be made. All of it is for the operator who started one.

use std::io;

use keyhearth_attest::Refusal;
use rustls::pki_types::{InvalidDnsNameError, pem};

use crate::listen::{ListenError, TlsError};

/// Why a measurement could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A process could not be started or talked to, or a connection broke.
    #[error("the benchmark failed: {0}; run it again")]
    Io(#[from] io::Error),
    /// A benchmark process ended before it said what it was started for.
    #[error("a benchmark process ended early; its own message is above")]
    Ended,
    /// A benchmark process said something other than what it was started for.
    #[error("a benchmark process answered in another form than expected: {0}; is it the same version?")]
    Form(#[from] serde_json::Error),
    /// A server did not announce its address.
    #[error("a server did not announce its address; is it the same version?")]
    NotReady,
    /// The server refuses what is measured.
    #[error("{connections} connections were given up, the first after: {refusal}")]
    Refused {
        /// How many.
        connections: u64,
        /// What the server said, shortened.
        refusal: String,
    },
    /// A load thread panicked; its message is on standard error.
    #[error("a load thread panicked; please report its message")]
    Panicked,
    /// The bare server could not listen.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The bare server's certificates are unusable.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The client's certificates are unusable.
    #[error("the target's certificates can not be used: {0}")]
    Client(#[from] rustls::Error),
    /// A text of the target is not PEM.
    #[error("the target's certificates can not be read: {0}")]
    Pem(#[from] pem::Error),
    /// The target's name is not one.
    #[error("the target's name is not a host name: {0}")]
    Name(#[from] InvalidDnsNameError),
    /// The measured server could not begin, or refused what the measurement needs.
    #[error("the measured server: {0}")]
    Server(Box<crate::server::ServerError>),
    /// The measured server refused what the measurement needs.
    #[error("the measured server refused: {0}")]
    Preparation(String),
    /// What is given as a server's URL.
    #[error("{0} is not the URL of a server; give one like http://127.0.0.1:5000")]
    Url(String),
    /// An answer lacks a member.
    #[error("an answer has no `{0}`; is it the same version?")]
    Answer(&'static str),
    /// No certificate could be made.
    #[error("can not make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A made machine was refused.
    #[error("a made machine was refused: {0}; please report this")]
    Appraisal(#[from] Refusal),
}
