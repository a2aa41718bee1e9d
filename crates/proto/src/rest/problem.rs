//! Refusals and failures, as every answer that is not 200 spells them.

use keyhearth_core::Error;
use keyhearth_core::id::RequestId;
use keyhearth_core::state::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::print::json;
use super::spelling::Is;

/// Why a request was not carried out.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// A stable word for programs.
    pub code: String,
    /// One sentence for people.
    pub message: String,
    /// The member or parameter that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The state the key version is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Is<State>>,
    /// The limit that was exceeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// After how many milliseconds to try again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u32>,
    /// What to do about it.
    pub next_step: String,
    /// The request's id, as in the log.
    pub request_id: Is<RequestId>,
}

/// The HTTP status of an error.
///
/// `NotAuthentic` is 422: the request is well formed, but what it carries does not belong to this key and
/// context. Source: RFC 9110 §15.5, §15.6; RFC 6585 §4.
#[must_use]
pub const fn status(error: &Error) -> u16 {
    match error {
        Error::Invalid { .. } | Error::Unsupported(_) => 400,
        Error::Unauthenticated => 401,
        Error::Denied => 403,
        Error::NotFound(_) => 404,
        Error::WrongState { .. } | Error::Conflict(_) => 409,
        Error::TooLarge { .. } => 413,
        Error::NotAuthentic => 422,
        Error::TooMany { .. } => 429,
        Error::Damaged(_) | Error::Internal(_) => 500,
        Error::Sealed | Error::Unavailable { .. } => 503,
    }
}

/// Status and body of the answer to a request that failed.
#[must_use]
pub fn problem(error: &Error, request: RequestId) -> (u16, Vec<u8>) {
    let mut problem = Problem {
        code: error.code().to_owned(),
        message: error.to_string(),
        field: None,
        state: None,
        limit: None,
        retry_after_ms: None,
        next_step: error.next_step().to_owned(),
        request_id: request.into(),
    };
    match *error {
        Error::Invalid { field, .. } => problem.field = Some(field.to_owned()),
        Error::WrongState { state, .. } => problem.state = Some(state.into()),
        Error::TooLarge { field, limit } => {
            problem.field = Some(field.to_owned());
            problem.limit = u64::try_from(limit).ok();
        }
        Error::TooMany { retry_after_ms } | Error::Unavailable { retry_after_ms } => {
            problem.retry_after_ms = Some(retry_after_ms);
        }
        Error::Unauthenticated
        | Error::Denied
        | Error::NotFound(_)
        | Error::Conflict(_)
        | Error::Unsupported(_)
        | Error::NotAuthentic
        | Error::Sealed
        | Error::Damaged(_)
        | Error::Internal(_) => {}
    }
    (status(error), json(256, &problem))
}

/// Status and body of the answer to a method or path that leads nowhere: 404, or 405 with the header
/// `Allow` as [`super::Refused::MethodNotAllowed`] has it. `next_step` says where the paths are.
#[must_use]
pub fn not_found(refused: super::Refused, request: RequestId, next_step: &str) -> (u16, Vec<u8>) {
    let (status, code, message) = match refused {
        super::Refused::NotFound => (404, "not_found", "no operation has this path"),
        super::Refused::MethodNotAllowed(_) => {
            (405, "method_not_allowed", "this path does not have this method")
        }
    };
    let problem = Problem {
        code: code.to_owned(),
        message: message.to_owned(),
        field: None,
        state: None,
        limit: None,
        retry_after_ms: None,
        next_step: next_step.to_owned(),
        request_id: request.into(),
    };
    (status, json(256, &problem))
}

#[cfg(test)]
mod tests {
    use keyhearth_core::operation::Operation;
    use serde_json::Value;

    use super::*;

    #[test]
    fn every_error_has_its_status_code_and_members() {
        let state = State::Suspended;
        let table: [(Error, u16, &str, &str); 14] = [
            (Error::Unauthenticated, 401, "unauthenticated", ""),
            (Error::Denied, 403, "denied", ""),
            (Error::NotFound("key"), 404, "not_found", ""),
            (Error::Invalid { field: "a", rule: "b" }, 400, "invalid", "field"),
            (Error::WrongState { state, operation: Operation::Sign }, 409, "wrong_state", "state"),
            (Error::Conflict("it exists"), 409, "conflict", ""),
            (Error::TooLarge { field: "a", limit: 1 }, 413, "too_large", "field,limit"),
            (Error::Unsupported("x"), 400, "unsupported", ""),
            (Error::TooMany { retry_after_ms: 5 }, 429, "too_many", "retry_after_ms"),
            (Error::NotAuthentic, 422, "not_authentic", ""),
            (Error::Sealed, 503, "sealed", ""),
            (Error::Unavailable { retry_after_ms: 5 }, 503, "unavailable", "retry_after_ms"),
            (Error::Damaged("key"), 500, "damaged", ""),
            (Error::Internal("x"), 500, "internal", ""),
        ];
        for (error, status, code, members) in table {
            let (found, body) = problem(&error, RequestId([7; 16]));
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!((found, body["code"].as_str()), (status, Some(code)));
            assert_eq!(body["request_id"], "07070707-0707-0707-0707-070707070707");
            assert!(!body["next_step"].as_str().unwrap().is_empty());
            let given: Vec<_> = ["field", "state", "limit", "retry_after_ms"]
                .into_iter()
                .filter(|name| body.get(name).is_some())
                .collect();
            assert_eq!(given.join(","), members, "{code}");
        }
    }
}
