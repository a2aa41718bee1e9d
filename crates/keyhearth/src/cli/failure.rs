//! Why a command ended without success: what happened, what to do next, and the request to ask about.

use std::fmt::{self, Display, Formatter};
use std::io;
use std::path::Path;

use keyhearth::config::ConfigError;
use keyhearth::server::ServerError;
use keyhearth_client::{ConfigurationError, Error as ClientError};
use keyhearth_core::Error;
use serde_json::{Value, json};

use super::output::visible;

/// What to do about errors of files.
const NEXT: [(io::ErrorKind, &str); 3] = [
    (io::ErrorKind::NotFound, "check the path"),
    (io::ErrorKind::AlreadyExists, "nothing is ever overwritten; name another file, or move this one"),
    (io::ErrorKind::PermissionDenied, "check who owns it, and who you are"),
];

/// A refusal or a failure, in words for whoever typed the command.
#[derive(Debug)]
pub struct Failure {
    what: String,
    next: String,
    /// The problem as programs read it, where the server refused or a check did.
    problem: Option<Box<Value>>,
    /// The server was asked and gave no answer.
    is_silence: bool,
}

impl Failure {
    /// States what happened and what to do next.
    pub fn new(what: impl Display, next: impl Display) -> Self {
        Self { what: what.to_string(), next: next.to_string(), problem: None, is_silence: false }
    }

    /// A refusal of our own that programs know by its code.
    pub fn of(code: &str, sentence: &str, detail: &str, next: &str) -> Self {
        let detail = if detail.is_empty() { None } else { Some(detail) };
        let shown = detail.map(|detail| format!(" ({detail})")).unwrap_or_default();
        let problem = json!({ "code": code, "message": sentence, "detail": detail, "next_step": next });
        let what = format!("{code}: {sentence}{shown}");
        Self { what, next: next.to_owned(), problem: Some(Box::new(problem)), is_silence: false }
    }

    /// A failure to read or write `path`.
    pub fn at(path: impl Display, error: &io::Error) -> Self {
        let known = NEXT.iter().find(|(kind, _)| *kind == error.kind());
        let next = known.map_or("correct that and try again", |(_, next)| next);
        Self::new(format_args!("{path}: {error}"), next)
    }

    /// The same, of this file.
    #[must_use]
    pub fn of_file(mut self, path: &Path) -> Self {
        let before = format!("{}: ", path.display());
        if !self.what.starts_with(&before) {
            self.what.insert_str(0, &before);
        }
        if let Some(problem) = &mut self.problem {
            problem["path"] = json!(path.display().to_string());
        }
        self
    }

    /// The server's stable word for what is wrong, where the server refused.
    pub fn code(&self) -> Option<&str> {
        self.problem.as_ref()?["code"].as_str()
    }

    /// What to do next.
    pub fn next(&self) -> &str {
        &self.next
    }

    /// By which the server's log knows the request that it refused.
    pub fn request_id(&self) -> Option<&str> {
        self.problem.as_ref()?["request_id"].as_str()
    }

    /// Whether the server was not reached, or cannot decide now.
    pub fn is_unanswered(&self) -> bool {
        self.is_silence || matches!(self.code(), Some("sealed" | "unavailable"))
    }

    /// Whether it says no; a server that is asked too often is there, and says neither yes nor no.
    pub fn is_refusal(&self) -> bool {
        !self.is_unanswered() && self.code() != Some("too_many")
    }

    /// The limit of this field, where the server refused because it is over that.
    pub fn limit(&self, field: &str) -> Option<u64> {
        let problem = self.problem.as_ref().filter(|problem| problem["field"] == field)?;
        problem["limit"].as_u64()
    }

    /// Prints it on standard error; as the server's problem, if `json`.
    pub fn print(&self, json: bool) {
        if json {
            let ours = || json!({ "code": "local", "message": self.what, "next_step": self.next });
            eprintln!("{}", self.problem.as_deref().cloned().unwrap_or_else(ours));
            return;
        }
        eprintln!("keyhearth: {}\n  next: {}", visible(&self.what), visible(&self.next));
        if let Some(id) = self.request_id() {
            eprintln!("  request: {id}");
        }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(error, "correct that and try again")
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(error, error.next_step())
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let next = match &error {
            ClientError::Refused { problem, .. } => {
                let (what, next) = (problem.message.clone(), problem.next_step.clone());
                let problem = serde_json::to_value(problem).ok().map(Box::new);
                return Self { what, next, problem, is_silence: false };
            }
            ClientError::Configuration(_) => "correct the flag or the variable",
            ClientError::Unreachable(_) => "check that the server runs, its URL, its CA and your certificate",
            ClientError::Certificate(_) => {
                "look when your certificate ends (`openssl x509 -enddate`) and whether it is of the server's CA; ask for a new one"
            }
            ClientError::Broken(_) | ClientError::Timeout => {
                "look whether it was carried out (`keyhearth audit list`), then try again"
            }
            ClientError::Answer => "use the client and the server of one version",
        };
        let is_silence = !matches!(error, ClientError::Configuration(_) | ClientError::Certificate(_));
        Self { is_silence, ..Self::new(error, next) }
    }
}

impl From<ConfigurationError> for Failure {
    fn from(error: ConfigurationError) -> Self {
        ClientError::from(error).into()
    }
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Self {
        Self::new(error, "correct that and start again")
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(error, "correct it; `keyhearth config reference` shows every key")
    }
}
