//! The OpenAPI description, generated from the operation table and the types of the wire.

use keyhearth_core::operation::{Method, Operation};
use keyhearth_core::request::{IDEMPOTENCY_KEY_BYTES_MAX, KeyRef, REASON_BYTES_MAX};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::print::{FILE, JSON};
use super::spelling::{AccessKeyId, Holder, Spelling};
use super::{BATCH_MAX, BATCH_PATH, Problem, answer, body, method_name, query};

/// Makes the schema of one type.
type Describe = fn(&mut SchemaGenerator) -> Value;

/// What one operation carries both ways.
struct Exchange {
    operation: Operation,
    /// The body's schema, and whether it may be empty.
    body: Option<(Describe, fn() -> bool)>,
    answer: Option<Describe>,
}

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

macro_rules! exchanges {
    ($($operation:ident ($($body:ident)?) $($answer:ident)?;)*) => {
        /// Bodies and answers of all operations that can be requested.
        const EXCHANGES: &[Exchange] = &[$(Exchange {
            operation: Operation::$operation,
            body: exchanges!(@ body $($body)?),
            answer: exchanges!(@ answer $($answer)?),
        }),*];
    };
    (@ body $name:ident) => { Some((schema::<body::$name>, || super::read::<body::$name>(b"").is_ok())) };
    (@ answer $name:ident) => { Some(schema::<answer::$name>) };
    (@ $either:ident) => { None };
}

exchanges! {
    CreateKey (NewKey) Key;
    ListKeys () Keys;
    DescribeKey () Key;
    UpdateKey (KeyChange) Key;
    RotateKey (Nothing) Key;
    ActivateKey (OfVersion) Key;
    SuspendKey (KeyOrVersion) Key;
    ResumeKey (KeyOrVersion) Key;
    DeactivateKey (OfVersion) Key;
    CompromiseKey (OfVersion) Key;
    ScheduleDestroy (Schedule) Key;
    CancelDestroy (Cancellation) Key;
    DestroyKey (Destruction) Key;
    ImportParameters (ImportTerms) ImportParameters;
    ImportKey (Import) Key;
    UnloadKey (OfVersion) Key;
    ExportKey (Export) Exported;
    PublicKey () PublicKey;
    LastUse () LastUse;
    SetAlias (Nothing) Key;
    DeleteAlias () Key;
    ListAliases () Aliases;
    MoveAlias (Nothing) Key;
    Encrypt (Encrypt) Encrypted;
    Decrypt (Decrypt) Decrypted;
    Rewrap (Rewrap) Rewrapped;
    DataKey (MakeDataKey) DataKey;
    DataKeyWithoutPlaintext (MakeDataKey) DataKey;
    DataKeyPair (MakeDataKeyPair) DataKeyPair;
    DataKeyPairWithoutPlaintext (MakeDataKeyPair) DataKeyPair;
    Sign (Sign) Signature;
    Verify (Verify) Verified;
    Mac (ComputeMac) Mac;
    VerifyMac (VerifyMac) Verified;
    Wrap (Wrap) Wrapped;
    Unwrap (Unwrap) Unwrapped;
    Agree (Agree) Shared;
    Encapsulate (Nothing) Encapsulated;
    Decapsulate (Decapsulate) Shared;
    Exchange (Exchange) Exchanged;
    Random (MakeRandom) Random;
    KeepSecret (KeepSecret) KeptSecret;
    ReadSecret (OfSecret) SecretValue;
    ShredSecret (OfSecret) Done;
    ListSecrets () Secrets;
    VolumeSecret (VolumeOf) VolumeSecret;
    RecoverySecret (VolumeOf) VolumeSecret;
    EnrollMachine (NewMachine) Machine;
    ListMachines () Machines;
    DescribeMachine () Machine;
    UpdateMachine (MachineChange) Machine;
    ListApprovals () Approvals;
    DecideApproval (ApprovalDecision) Approval;
    DecideCandidate (CandidateDecision) Machine;
    CreateGrant (NewGrant) Grant;
    ListGrants () Grants;
    ListRetirableGrants () Grants;
    RevokeGrant () Done;
    IssueIdentity (NewIdentity) IssuedIdentity;
    ListIdentities () Identities;
    RenewIdentity (Renewal) IssuedIdentity;
    RevokeIdentity (Nothing) Identity;
    SetRoles (Roles) Identity;
    BindCertificate (Certificate) Identity;
    WhoAmI () WhoAmI;
    CreateAccessKey (NewAccessKey) IssuedAccessKey;
    ListAccessKeys () AccessKeys;
    DisableAccessKey (Nothing) Done;
    PutPolicy (Policy) Done;
    ListPolicies () Policies;
    DeletePolicy () Done;
    DiffPolicy (PolicyDraft) PolicyDiff;
    TestPolicy (Question) PolicyTest;
    WhoCan () WhoCan;
    PutKeyPolicy (KeyPolicy) Done;
    KeyPolicy () KeyPolicyInForce;
    ListEntries () Entries;
    Checkpoint () Checkpoint;
    ProveEntry () InclusionProof;
    ExportLog () ;
    CreateTenant (NewTenant) IssuedTenant;
    ListTenants () Tenants;
    DisableTenant (Nothing) Done;
    EnableTenant (Nothing) Done;
    RotateTenantKey (Nothing) Rotated;
    RotateRoot (Nothing) Rotated;
    Status () Status;
    Seal (Nothing) Done;
    Rekey (Rekey) Rekeying;
    Unseal (Unseal) Status;
}

/// Status and meaning of every answer that is not 200.
const PROBLEMS: [(&str, &str); 10] = [
    ("400", "A field of the request breaks a rule, or this server or algorithm does not do that."),
    ("401", "The caller has not proved who it is."),
    ("403", "No policy and no grant allows it, or a policy forbids it."),
    ("404", "There is no such thing that this caller's tenant can see."),
    (
        "409",
        "The key version's state does not allow it, somebody else changed it first, or it exists already.",
    ),
    ("413", "Something is longer than its limit."),
    ("422", "The ciphertext, signature, MAC or wrapped key does not belong to this key and context."),
    ("429", "The caller is over its limit of requests."),
    ("500", "The server's own failure, or a stored record that fails its integrity check."),
    ("503", "The server is sealed, overloaded or shutting down."),
];

/// The schema of a path parameter.
fn path_schema(operation: Operation, name: &str) -> Value {
    use keyhearth_core::id::{Alias, GrantId, Name, PrincipalId, RequestId, TenantId};
    match name {
        "key" if matches!(operation, Operation::ReadSecret | Operation::ShredSecret) => Holder::schema(),
        "key" => KeyRef::schema(),
        "alias" => Alias::schema(),
        "grant" => GrantId::schema(),
        "identity" | "machine" => PrincipalId::schema(),
        "approval" => RequestId::schema(),
        "access_key" => AccessKeyId::schema(),
        "policy" => Name::schema(),
        "tenant" => TenantId::schema(),
        _ => u64::schema(),
    }
}

/// The names of the parameters in `path`.
fn path_parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
}

fn parameters(operation: Operation) -> Vec<Value> {
    let of_path = path_parameters(operation.info().path).map(|name| {
        json!({ "name": name, "in": "path", "required": true, "schema": path_schema(operation, name) })
    });
    let of_query = query::parameters(operation).iter().map(|parameter| {
        json!({ "name": parameter.name, "in": "query", "description": parameter.description,
            "required": parameter.required, "schema": (parameter.schema)() })
    });
    let header = |name| json!({ "$ref": format!("#/components/parameters/{name}") });
    let creates = operation.info().method == Method::Post && operation != Operation::Unseal;
    of_path
        .chain(of_query)
        .chain((operation != Operation::Unseal).then(|| header("Reason")))
        .chain(creates.then(|| header("IdempotencyKey")))
        .collect()
}

fn content(media_type: &str, schema: &Value) -> Value {
    json!({ media_type: { "schema": schema } })
}

fn describe(exchange: &Exchange, generator: &mut SchemaGenerator) -> Value {
    let info = exchange.operation.info();
    let answer = match exchange.answer {
        Some(answer) => content(JSON, &answer(generator)),
        None => content(FILE, &json!({})),
    };
    let request_id = json!({ "$ref": "#/components/headers/RequestId" });
    let mut responses = Map::new();
    responses.insert(
        "200".into(),
        json!({ "description": "It is done.", "headers": { "X-Request-Id": request_id }, "content": answer }),
    );
    for (status, _) in PROBLEMS {
        responses.insert(status.into(), json!({ "$ref": format!("#/components/responses/{status}") }));
    }
    let mut row = json!({
        "operationId": info.name,
        "summary": info.summary,
        "tags": [info.group.name()],
        "parameters": parameters(exchange.operation),
        "responses": responses,
    });
    if let Some((schema, may_be_empty)) = exchange.body {
        let content = content(JSON, &schema(generator));
        row["requestBody"] = json!({ "required": !may_be_empty(), "content": content });
    }
    row
}

/// Many uses of keys in one request.
fn batch_path(generator: &mut SchemaGenerator) -> Value {
    let requests = schema::<Vec<super::Item<'_>>>(generator);
    let mut asked = json!({ "type": "object", "additionalProperties": false, "required": ["requests"],
        "properties": { "requests": requests } });
    asked["properties"]["requests"]["minItems"] = json!(1);
    asked["properties"]["requests"]["maxItems"] = json!(BATCH_MAX);
    let answers = schema::<super::Answers<'_>>(generator);
    let mut responses = Map::new();
    responses.insert(
        "200".into(),
        json!({ "description": "Each request has its answer.",
        "content": content(JSON, &answers) }),
    );
    for (status, _) in PROBLEMS {
        responses.insert(status.into(), json!({ "$ref": format!("#/components/responses/{status}") }));
    }
    json!({ "post": { "operationId": "batch", "summary": "Many uses of keys, each decided and recorded by itself.",
        "tags": ["protect", "process"], "parameters": [{ "$ref": "#/components/parameters/Reason" }],
        "requestBody": { "required": true, "content": content(JSON, &asked) }, "responses": responses } })
}

/// What is served besides the operations, to everybody; the metrics on the listener for health only.
fn open_paths(generator: &mut SchemaGenerator) -> [(&'static str, Value); 4] {
    let health = schema::<answer::Health>(generator);
    let get = |id, summary, answers: &[(&str, Value)]| {
        let answers: Map<String, Value> = answers
            .iter()
            .map(|(status, content)| {
                ((*status).to_owned(), json!({ "description": summary, "content": content }))
            })
            .collect();
        json!({ "get": { "operationId": id, "summary": summary, "tags": ["health"], "security": [],
            "responses": answers } })
    };
    let yes = ("200", content(JSON, &health));
    let no = ("503", content(JSON, &health));
    let text = ("200", content("text/plain", &json!({ "type": "string" })));
    let object = ("200", content(JSON, &json!({ "type": "object" })));
    [
        ("/healthz", get("health", "Whether the process answers.", std::slice::from_ref(&yes))),
        ("/readyz", get("ready", "Whether requests are taken.", &[yes, no])),
        ("/metrics", get("metrics", "Counters in the Prometheus text format.", &[text])),
        ("/v1/openapi.json", get("openapi", "This description.", &[object])),
    ]
}

fn components(generator: &mut SchemaGenerator) -> Value {
    let problem = schema::<Problem>(generator);
    let responses: Map<String, Value> = PROBLEMS
        .iter()
        .map(|(status, meaning)| {
            let mut response = json!({ "description": meaning, "content": content(JSON, &problem) });
            if matches!(*status, "429" | "503") {
                response["headers"] = json!({ "Retry-After": { "description": "Seconds until to try again.",
                    "schema": { "type": "integer", "minimum": 0 } } });
            }
            ((*status).to_owned(), response)
        })
        .collect();
    json!({
        "schemas": generator.take_definitions(true),
        "responses": responses,
        "headers": { "RequestId": { "description": "The request's id, as in the log.",
            "schema": keyhearth_core::id::RequestId::schema() } },
        "parameters": {
            "Reason": { "name": "X-Keyhearth-Reason", "in": "header", "description": "Why, for the log.",
                "schema": { "type": "string", "minLength": 1, "maxLength": REASON_BYTES_MAX,
                    "pattern": "^[ -~]+$" } },
            "IdempotencyKey": { "name": "Idempotency-Key", "in": "header",
                "description": "The same creating request with the same key gets the first answer for 24 hours.",
                "schema": { "type": "string", "minLength": 1, "maxLength": IDEMPOTENCY_KEY_BYTES_MAX,
                    "pattern": "^[!-~]+$" } },
        },
        "securitySchemes": { "certificate": { "type": "mutualTLS",
            "description": "A client certificate that the server's CA issued or that was bound to an identity." } },
    })
}

/// The description of this interface for a server of this version.
///
/// Source: OpenAPI 3.1.1; JSON Schema 2020-12.
#[must_use]
pub fn openapi(version: &str) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    for exchange in EXCHANGES {
        let info = exchange.operation.info();
        let method = method_name(info.method).to_ascii_lowercase();
        let path = paths.entry(info.path).or_insert_with(|| json!({}));
        path[method] = describe(exchange, &mut generator);
    }
    paths.insert(BATCH_PATH.into(), batch_path(&mut generator));
    paths.extend(open_paths(&mut generator).map(|(path, item)| (path.to_owned(), item)));
    json!({
        "openapi": "3.1.1",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "Keyhearth",
            "version": version,
            "summary": "A key server.",
            "license": { "name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "certificate": [] }],
        "paths": paths,
        "components": components(&mut generator),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn refs(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => members.iter().for_each(|(name, value)| match value.as_str() {
                Some(target) if name == "$ref" => drop(found.insert(target.to_owned())),
                _ => refs(value, found),
            }),
            Value::Array(items) => items.iter().for_each(|item| refs(item, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    #[test]
    fn every_operation_is_described_once_and_every_reference_leads_somewhere() {
        let described: Vec<Operation> = EXCHANGES.iter().map(|exchange| exchange.operation).collect();
        let unique: BTreeSet<&str> = described.iter().map(|operation| operation.name()).collect();
        assert_eq!(unique.len(), described.len());
        for &operation in Operation::ALL {
            assert_eq!(operation.is_request(), described.contains(&operation), "{}", operation.name());
        }
        let api = openapi("0");
        let mut found = BTreeSet::new();
        refs(&api, &mut found);
        assert!(found.len() > 60);
        for target in found {
            assert!(api.pointer(target.strip_prefix('#').unwrap()).is_some(), "{target}");
        }
    }

    #[test]
    fn the_document_lists_every_operation_and_status() {
        let document = include_str!("../../../../docs/protocols/rest.md");
        for info in EXCHANGES.iter().map(|exchange| exchange.operation.info()) {
            let method = method_name(info.method);
            let row = format!("| {method} | `{}` | {} | {} |", info.path, info.name, info.summary);
            assert!(document.contains(&row), "{row}");
        }
        for (status, _) in PROBLEMS {
            assert!(document.contains(&format!("| {status} | `")), "{status}");
        }
    }

    #[test]
    fn parameters_are_declared_with_their_schemas() {
        let api = openapi("0");
        for exchange in EXCHANGES {
            let info = exchange.operation.info();
            let row = &api["paths"][info.path][method_name(info.method).to_ascii_lowercase()];
            assert_eq!(row["operationId"], info.name);
            assert_eq!(row["responses"].as_object().unwrap().len(), 1 + PROBLEMS.len());
            let declared: Vec<&Value> =
                row["parameters"].as_array().unwrap().iter().filter(|p| p["in"] == "path").collect();
            assert!(path_parameters(info.path).eq(declared.iter().map(|p| p["name"].as_str().unwrap())));
            assert!(declared.iter().all(|p| p["required"] == true && p["schema"].is_object()));
        }
        assert_eq!(path_schema(Operation::ProveEntry, "index")["type"], "integer");
        assert_eq!(api["components"]["schemas"]["Encrypt"]["additionalProperties"], false);
        assert_eq!(api["components"]["schemas"]["Encrypt"]["properties"]["plaintext"]["maxLength"], 87_384);
        assert_eq!(api["components"]["schemas"]["Encrypt"]["required"], json!(["plaintext"]));
    }
}
