//! Many uses of keys in one request: `POST /v1/batch`.
//!
//! A way to send requests and no operation of its own: each is decided, recorded and refused by itself, and counted
//! as one. Not here: what manages a key, or is about more than one; that is asked for alone.

use keyhearth_core::Error;
use keyhearth_core::id::RequestId;
use keyhearth_core::operation::{Group, Operation, Scope};
use keyhearth_core::request::{Ask, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{BODY_BYTES_MAX, Object, Params, parse, print, problem};

/// The path of a batch.
pub const BATCH_PATH: &str = "/v1/batch";
/// Once its answers have so many bytes, the requests of a batch that were not begun are refused. Each of those that were adds
/// less than 96 KiB.
pub const BATCH_ANSWER_BYTES_MAX: usize = 8 << 20;
/// The most requests in a batch.
pub const BATCH_MAX: usize = 256;
const SHAPE: Error =
    Error::Invalid { field: "requests", rule: "must be 1 to 256 objects of operation, key and body" };

/// A batch as it is read: its requests are looked at one by one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch<'b> {
    #[serde(borrow)]
    requests: Vec<Object<Item<'b>>>,
}

/// One request of a batch.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Item<'b> {
    /// The operation: one that uses a key, such as `encrypt`.
    pub operation: &'b str,
    /// The key: its id or an alias.
    pub key: std::borrow::Cow<'b, str>,
    /// What the operation's own path takes as its body.
    #[serde(borrow)]
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub body: &'b RawValue,
}

/// The answer to one request of a batch.
#[derive(Deserialize, Serialize, JsonSchema)]
pub struct Answered<'b> {
    /// What its status would be if it had come alone.
    pub status: u16,
    /// What its body would be if it had come alone.
    #[serde(borrow)]
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub body: &'b RawValue,
}

/// The answers to a batch, in the order of its requests.
#[derive(Deserialize, Serialize, JsonSchema)]
pub struct Answers<'b> {
    /// One for each request.
    #[serde(borrow)]
    pub answers: Vec<Answered<'b>>,
}

/// Whether `operation` may be part of a batch.
#[must_use]
pub fn is_batched(operation: Operation) -> bool {
    let info = operation.info();
    operation.is_request()
        && info.scope == Scope::Key
        && matches!(info.group, Group::Protect | Group::Process)
}

/// Reads a batch: for each request its operation and what it asks, or why it is refused.
///
/// # Errors
/// [`Error::TooLarge`] or [`Error::Invalid`] if the whole can not be read; nothing of it is then carried out.
#[expect(clippy::type_complexity, reason = "named nowhere else")]
pub fn batch(body: &[u8]) -> Result<Vec<Result<(Operation, Ask), Error>>, Error> {
    if body.len() > BODY_BYTES_MAX {
        return Err(Error::TooLarge { field: "body", limit: BODY_BYTES_MAX });
    }
    let Object(Batch { requests }) = serde_json::from_slice(body).map_err(|_| SHAPE)?;
    if requests.is_empty() || requests.len() > BATCH_MAX {
        return Err(SHAPE);
    }
    let read = |Object(item): Object<Item<'_>>| {
        let operation = Operation::ALL.iter().copied().find(|operation| operation.name() == item.operation);
        let operation = operation.filter(|&operation| is_batched(operation));
        let rule = "must be the name of one that uses a key";
        let operation = operation.ok_or(Error::Invalid { field: "operation", rule })?;
        let ask = parse(operation, &Params::of_key(item.key), None, item.body.get().as_bytes())?;
        Ok((operation, ask))
    };
    Ok(requests.into_iter().map(read).collect())
}

/// Status and body of the answer to one request of a batch: what it gave, or why it was refused, and its id.
#[must_use]
pub fn print_answer(id: RequestId, answer: Result<Response, Error>) -> (u16, Vec<u8>) {
    match answer {
        Ok(response) => (200, print(response).body),
        Err(error) => problem(&error, id),
    }
}

/// Prints the answers to a batch.
#[must_use]
pub fn print_batch(bodies: &[(u16, Vec<u8>)]) -> Vec<u8> {
    // Written into one allocation, so that no copy of a secret is left behind by growing.
    let mut text = Vec::with_capacity(bodies.iter().map(|(_, body)| body.len() + 32).sum::<usize>() + 16);
    text.extend_from_slice(br#"{"answers":["#);
    for (at, (status, body)) in bodies.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        text.extend_from_slice(format!(r#"{comma}{{"status":{status},"body":"#).as_bytes());
        text.extend_from_slice(body);
        text.push(b'}');
    }
    text.extend_from_slice(b"]}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_is_read_or_refused_by_itself() {
        let body = br#"{"requests":[
            {"operation":"encrypt","key":"files","body":{"plaintext":"AAAA"}},
            {"operation":"decrypt","key":"team/files","body":{}},
            {"operation":"destroy-key","key":"files","body":{"version":1}},
            {"operation":"random","key":"files","body":{"bytes":1}},
            {"operation":"rewrap-from","key":"files","body":{}},
            {"operation":"encrypt","key":"","body":{"plaintext":"AAAA"}}]}"#;
        let read = batch(body).unwrap();
        assert!(matches!(read[0], Ok((Operation::Encrypt, Ask::Encrypt { .. }))));
        let field = |at: usize| match &read[at] {
            Err(Error::Invalid { field, .. }) => *field,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            [field(1), field(2), field(3), field(4), field(5)],
            ["ciphertext", "operation", "operation", "operation", "key"]
        );
    }

    #[test]
    fn what_is_no_batch_is_refused_whole() {
        let item = r#"{"operation":"encrypt","key":"files","body":{"plaintext":"AAAA"}}"#;
        let many = |count: usize| format!(r#"{{"requests":[{}]}}"#, vec![item; count].join(","));
        assert_eq!(batch(many(BATCH_MAX).as_bytes()).unwrap().len(), BATCH_MAX);
        for body in [
            String::new(),
            "[]".to_owned(),
            many(0),
            many(BATCH_MAX + 1),
            r#"{"requests":[["encrypt","files",{}]]}"#.to_owned(),
            r#"{"requests":[{"operation":"encrypt","key":"files"}]}"#.to_owned(),
            many(1).replace("\"key\"", "\"of\""),
        ] {
            assert_eq!(batch(body.as_bytes()).unwrap_err(), SHAPE, "{body}");
        }
        let long = vec![b' '; BODY_BYTES_MAX + 1];
        assert!(matches!(batch(&long), Err(Error::TooLarge { .. })));
    }

    #[test]
    fn answers_are_printed_in_their_order() {
        let answers = [Ok(Response::Done), Err(Error::Denied)];
        let text = print_batch(&answers.map(|answer| print_answer(RequestId([1; 16]), answer)));
        let read: Answers<'_> = serde_json::from_slice(&text).unwrap();
        assert_eq!(read.answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200, 403]);
        assert_eq!(read.answers[0].body.get(), "{}");
        assert!(read.answers[1].body.get().contains("\"denied\""));
    }
}
