//! What policies can name: the Cedar schema, generated from the operation table and the roles.

use std::fmt::Write as _;
use std::sync::LazyLock;

use cedar_policy::{Entity, EntityId, EntityTypeName, EntityUid, Schema, Validator};
use keyhearth_core::operation::{Group, Operation, Scope};
use keyhearth_core::principal::Role;

/// The action that stands for all cryptography with a key.
pub(super) const USE: &str = "use";

/// The groups that are [`USE`].
pub(super) const fn is_use(group: Group) -> bool {
    matches!(group, Group::Protect | Group::Process)
}

const ENTITIES: &str = r#"
  // Who asks. Ids are the UUIDs of identities.
  entity Principal in [Role] { name: String };

  // What is asked for: a key, or the tenant, or the deployment (which only the platform tenant reaches).
  entity Key {
    algorithm: String,
    exportable: Bool,
    origin: String,      // "generated" or "imported"
    created: datetime,
    creator: Principal,
    folded: Set<String>, // the names of its tags in lower case
  } tags String;
  entity Tenant;
  entity Deployment;

  // The pairs that are bound to a ciphertext.
  entity Context {
    names: Set<String>,  // all there are
    folded: Set<String>, // the same in lower case
  } tags String;

  // A machine that boots. Its tags are what its evidence claims, as text: "measurement", "policy.smt".
  entity Boot {
    kind: String,            // of its evidence; "none" without any
    root: String,            // whom the evidence rests on; "none" without any
    memory_encrypted: Bool,
    reduced_assurance: Bool,
    revocation_checked: Bool,
    image_known: Bool,       // all reference values of the machine are met, and there are some
    approved: Bool,
    continues: Bool,         // it was released to before, runs, and has proved that
    counter: Long,           // of boots, as the machine counts them
    volumes: Set<String>,
    image: String,           // the id of the golden image that it is a clone of, or is; "none" without one
    numbers: Numbers,
  } tags String;

  // What its evidence claims that is a number: "reported_tcb.snp".
  entity Numbers tags Long;

  type Request = {
    ip: ipaddr,          // where the request came from
    now: datetime,
    proof: String,       // "certificate", "access-key", "evidence", "anonymous" or "local"
    context: Context,
    lease_seconds: Long, // for how long the caller keeps what it opens without asking; 0: not at all
  };

  type BootRequest = {
    ip: ipaddr,
    now: datetime,
    proof: String,
    context: Context,
    boot: Boot,
    lease_seconds: Long,
  };
"#;

/// The Cedar schema of policies, as text.
#[must_use]
pub fn schema_text() -> String {
    let roles: Vec<String> = Role::ALL.iter().map(|role| format!("\"{}\"", role.name())).collect();
    let mut text = format!("namespace Keyhearth {{\n  entity Role enum [{}];\n{ENTITIES}", roles.join(", "));
    let mut line = |indented: String| {
        writeln!(text, "  {indented}").expect("writing to a String cannot fail");
    };
    line(format!("\n  // All cryptography with a key.\n  action \"{USE}\";"));
    for group in Group::ALL {
        let parent = if is_use(group) { format!(" in [\"{USE}\"]") } else { String::new() };
        line(format!("action \"{}\"{parent};", group.name()));
    }
    for row in decided().map(Operation::info) {
        line(format!("\n  // {}", row.summary));
        line(format!("action \"{}\" in [\"{}\"] appliesTo {{", row.name, row.group.name()));
        let boots = matches!(row.operation, Operation::ReleaseVolumes | Operation::CloneImage);
        let request = if boots { "BootRequest" } else { "Request" };
        line(format!("  principal: Principal, resource: {}, context: {request}", type_of(row.scope)));
        line("};".to_owned());
    }
    text + "}\n"
}

/// The operations that a policy can name.
pub(super) fn decided() -> impl Iterator<Item = Operation> {
    Operation::ALL.iter().copied().filter(|operation| operation.is_decided())
}

const fn type_of(scope: Scope) -> &'static str {
    match scope {
        Scope::Key => "Key",
        Scope::Tenant => "Tenant",
        Scope::Platform => "Deployment",
    }
}

/// The parsed schema and the entities that never change.
pub(super) struct Vocabulary {
    pub(super) validator: Validator,
    pub(super) principal: EntityTypeName,
    pub(super) role: EntityTypeName,
    pub(super) key: EntityTypeName,
    pub(super) tenant: EntityTypeName,
    pub(super) deployment: EntityUid,
    pub(super) context: EntityUid,
    pub(super) boot: EntityUid,
    pub(super) numbers: EntityUid,
    /// In the order of [`Operation::ALL`], with all their groups.
    pub(super) actions: Vec<Entity>,
}

pub(super) static VOCABULARY: LazyLock<Vocabulary> = LazyLock::new(|| {
    let name = |name: &str| -> EntityTypeName {
        format!("Keyhearth::{name}").parse().expect("a namespace and an identifier are a type name")
    };
    let action = |id: &str| uid(&name("Action"), id);
    let entity = |operation: &Operation| {
        let group = operation.info().group;
        let parents = [Some(group.name()), is_use(group).then_some(USE)];
        Entity::new_no_attrs(action(operation.name()), parents.into_iter().flatten().map(action).collect())
    };
    let (schema, _) = Schema::from_cedarschema_str(&schema_text())
        .expect("the schema depends on tables alone, and a test parses it");
    Vocabulary {
        validator: Validator::new(schema),
        principal: name("Principal"),
        role: name("Role"),
        key: name("Key"),
        tenant: name("Tenant"),
        deployment: uid(&name("Deployment"), "keyhearth"),
        context: uid(&name("Context"), "request"),
        boot: uid(&name("Boot"), "request"),
        numbers: uid(&name("Numbers"), "request"),
        actions: Operation::ALL.iter().map(entity).collect(),
    }
});

/// The entity of this type and id.
pub(super) fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}
