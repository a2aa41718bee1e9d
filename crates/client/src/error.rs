//! Why a call failed.

use std::io;

use keyhearth_proto::rest::Problem;
use rustls::AlertDescription;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client was not set up rightly.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// The server refused. [`Problem::next_step`] says what to do about it.
    #[error("{}; {} (request {})", problem.message, problem.next_step, problem.request_id)]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the server says.
        problem: Box<Problem>,
    },
    /// No connection could be made: the request was not carried out.
    #[error("the server can not be reached: {0}")]
    Unreachable(#[source] io::Error),
    /// The server does not believe the client's certificate, or wants one: the request was not carried out.
    #[error("the server refuses the client's certificate ({0:?})")]
    Certificate(AlertDescription),
    /// The connection broke after the request was sent: it may have been carried out.
    #[error("the connection broke: {0}")]
    Broken(#[source] hyper::Error),
    /// The time was over: the request may have been carried out.
    #[error("no answer in time")]
    Timeout,
    /// The answer is not what this client understands.
    #[error("the server's answer is not understood")]
    Answer,
}

impl Error {
    /// The server's stable word for what is wrong, such as `denied`.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { problem, .. } => Some(&problem.code),
            Self::Configuration(_)
            | Self::Unreachable(_)
            | Self::Certificate(_)
            | Self::Broken(_)
            | Self::Timeout
            | Self::Answer => None,
        }
    }
}

/// What is wrong with how a client is set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigurationError {
    /// An environment variable is missing.
    #[error("set {0}")]
    Missing(&'static str),
    /// The file that an environment variable names can not be read.
    #[error("the file of {0} can not be read: {1}")]
    File(&'static str, io::ErrorKind),
    /// Not an `https` URL of a host.
    #[error("the URL must be https://host or https://host:port")]
    Url,
    /// The CA's PEM holds no certificate.
    #[error("the CA file must hold certificates as PEM")]
    Ca,
    /// Certificate and private key can not be used together.
    #[error("the certificate and the private key must be PEM and belong together")]
    Identity,
    /// The reason or a parameter can not be sent.
    #[error("the reason must be 1 to 512 bytes without control characters")]
    Reason,
}
