//! What each role may do, and what no policy of a tenant can change.
//!
//! These are ordinary Cedar policies over the same schema as a tenant's own. The names that decisions
//! give, `role:NAME` and `guard:NAME`, hold a colon and so are never those of a tenant's policy.

/// What the roles allow: name and text. `role:any` is for every identity of the tenant.
pub const ROLES: &[(&str, &str)] = &[
    (
        "role:any",
        r#"permit (
  principal,
  action in [
    Keyhearth::Action::"random",
    Keyhearth::Action::"who-am-i",
    Keyhearth::Action::"renew-identity",
    Keyhearth::Action::"status",
    Keyhearth::Action::"ask-approval",
    Keyhearth::Action::"confirm-boot",
    Keyhearth::Action::"settle-clone"
  ],
  resource
);"#,
    ),
    (
        // Governs the identities of the platform tenant too: no other role exists there that could.
        "role:platform-operator",
        r#"permit (
  principal in Keyhearth::Role::"platform-operator",
  action in [
    Keyhearth::Action::"operate",
    Keyhearth::Action::"govern"
  ],
  resource
);"#,
    ),
    (
        "role:tenant-admin",
        r#"permit (
  principal in Keyhearth::Role::"tenant-admin",
  action in [
    Keyhearth::Action::"govern",
    Keyhearth::Action::"inspect",
    Keyhearth::Action::"who-can"
  ],
  resource
);"#,
    ),
    (
        "role:key-admin",
        r#"permit (
  principal in Keyhearth::Role::"key-admin",
  action in [
    Keyhearth::Action::"manage",
    Keyhearth::Action::"boot",
    Keyhearth::Action::"inspect",
    Keyhearth::Action::"revoke-grant"
  ],
  resource
);"#,
    ),
    (
        "role:key-user",
        r#"permit (
  principal in Keyhearth::Role::"key-user",
  action in [
    Keyhearth::Action::"use",
    Keyhearth::Action::"delegate",
    Keyhearth::Action::"inspect"
  ],
  resource
);"#,
    ),
    (
        "role:auditor",
        r#"permit (
  principal in Keyhearth::Role::"auditor",
  action in [
    Keyhearth::Action::"inspect",
    Keyhearth::Action::"audit",
    Keyhearth::Action::"list-identities",
    Keyhearth::Action::"list-access-keys",
    Keyhearth::Action::"list-policies",
    Keyhearth::Action::"diff-policy",
    Keyhearth::Action::"test-policy"
  ],
  resource
);"#,
    ),
    (
        "role:custodian",
        r#"permit (
  principal in Keyhearth::Role::"custodian",
  action in [
    Keyhearth::Action::"destroy",
    Keyhearth::Action::"inspect",
    Keyhearth::Action::"seal",
    Keyhearth::Action::"unseal",
    Keyhearth::Action::"rekey",
    Keyhearth::Action::"rotate-root"
  ],
  resource
);"#,
    ),
    ("role:developer", r#"permit (principal in Keyhearth::Role::"developer", action, resource);"#),
];

/// What the roles exclude, whatever a tenant's policies and grants say: name and text.
pub const GUARDS: &[(&str, &str)] = &[
    (
        "guard:platform-operator",
        r#"forbid (
  principal in Keyhearth::Role::"platform-operator",
  action,
  resource is Keyhearth::Key
);"#,
    ),
    (
        "guard:tenant-admin",
        r#"forbid (
  principal in Keyhearth::Role::"tenant-admin",
  action in [Keyhearth::Action::"use", Keyhearth::Action::"export"],
  resource
);"#,
    ),
    (
        "guard:key-admin",
        r#"forbid (
  principal in Keyhearth::Role::"key-admin",
  action in [
    Keyhearth::Action::"use",
    Keyhearth::Action::"export",
    Keyhearth::Action::"destroy"
  ],
  resource
);"#,
    ),
    (
        "guard:auditor",
        r#"forbid (principal in Keyhearth::Role::"auditor", action, resource)
unless {
  action in [
    Keyhearth::Action::"inspect",
    Keyhearth::Action::"audit",
    Keyhearth::Action::"list-identities",
    Keyhearth::Action::"list-access-keys",
    Keyhearth::Action::"list-policies",
    Keyhearth::Action::"diff-policy",
    Keyhearth::Action::"test-policy"
  ]
};"#,
    ),
    (
        "guard:custodian",
        r#"forbid (
  principal in Keyhearth::Role::"custodian",
  action in [Keyhearth::Action::"use", Keyhearth::Action::"export"],
  resource
);"#,
    ),
];
