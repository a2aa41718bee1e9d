//! The one table of everything that can be asked of Keyhearth.
//!
//! Command-line help, OpenAPI, the Cedar schema, the audit vocabulary and the protocol coverage page
//! are generated from [`Operation::ALL`]. To add an operation, add a row here and follow the compiler.

use crate::state::Class;

/// What kind of thing an operation acts on; it decides what is loaded before the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// One key of the caller's tenant.
    Key,
    /// The caller's tenant.
    Tenant,
    /// The deployment. Only callers of the platform tenant reach it.
    Platform,
}

/// Groups of operations that roles and policies name as one action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// Cryptography with a key: protect.
    Protect,
    /// Cryptography with a key: process.
    Process,
    /// Reading what is known about keys.
    Inspect,
    /// Changing keys and their life.
    Manage,
    /// Ending keys for ever.
    Destroy,
    /// Material leaving the server.
    Export,
    /// Enrolling machines, and approving their boots.
    Boot,
    /// Secrets of volumes, for machines that boot. No role has it.
    Release,
    /// Keeping what was opened, to use it without the server. No role has it.
    Offline,
    /// Passing on what one holds oneself.
    Delegate,
    /// Identities, policies, access keys.
    Govern,
    /// Reading the log and the reports.
    Audit,
    /// Tenants and the server itself.
    Operate,
}

impl Group {
    /// All groups.
    pub const ALL: [Self; 13] = [
        Self::Protect,
        Self::Process,
        Self::Inspect,
        Self::Manage,
        Self::Destroy,
        Self::Export,
        Self::Boot,
        Self::Release,
        Self::Offline,
        Self::Delegate,
        Self::Govern,
        Self::Audit,
        Self::Operate,
    ];

    /// The group's name in policies.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Protect => "protect",
            Self::Process => "process",
            Self::Inspect => "inspect",
            Self::Manage => "manage",
            Self::Destroy => "destroy",
            Self::Export => "export",
            Self::Boot => "boot",
            Self::Release => "release",
            Self::Offline => "offline",
            Self::Delegate => "delegate",
            Self::Govern => "govern",
            Self::Audit => "audit",
            Self::Operate => "operate",
        }
    }
}

/// The HTTP method of an operation's REST spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Info {
    /// The operation.
    pub operation: Operation,
    /// Stable name: policy action, audit word, OpenAPI operation id.
    pub name: &'static str,
    /// Stable number in log entries. Never reused.
    pub code: u8,
    /// What it acts on.
    pub scope: Scope,
    /// The group it belongs to in policies.
    pub group: Group,
    /// REST method.
    pub method: Method,
    /// REST path; `{name}` are parameters of one segment.
    pub path: &'static str,
    /// Command-line spelling after `keyhearth`.
    pub command: &'static str,
    /// One sentence.
    pub summary: &'static str,
}

macro_rules! operations {
    ($($variant:ident $code:literal $name:literal $scope:ident $group:ident $method:ident $path:literal $command:literal $summary:literal;)*) => {
        /// Everything that can be asked.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Operation { $(#[doc = $summary] $variant,)* }

        static TABLE: &[Info] = &[$(Info {
            operation: Operation::$variant,
            name: $name,
            code: $code,
            scope: Scope::$scope,
            group: Group::$group,
            method: Method::$method,
            path: $path,
            command: $command,
            summary: $summary,
        },)*];

        impl Operation {
            /// All operations, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
        }
    };
}

operations! {
    // Keys and their life.
    CreateKey 1 "create-key" Tenant Manage Post "/v1/keys" "key create" "Creates a key and its first version.";
    ListKeys 2 "list-keys" Tenant Inspect Get "/v1/keys" "key list" "Lists the tenant's keys.";
    DescribeKey 3 "describe-key" Key Inspect Get "/v1/keys/{key}" "key show" "Shows a key, its versions and their states.";
    UpdateKey 4 "update-key" Key Manage Patch "/v1/keys/{key}" "key update" "Changes a key's description, tags, switches, cryptoperiod or rotation.";
    RotateKey 5 "rotate-key" Key Manage Post "/v1/keys/{key}/rotate" "key rotate" "Makes a new primary version; the old one goes on decrypting.";
    ActivateKey 6 "activate-key" Key Manage Post "/v1/keys/{key}/activate" "key activate" "Activates a pre-active version.";
    SuspendKey 7 "suspend-key" Key Manage Post "/v1/keys/{key}/suspend" "key suspend" "Stops the key, or one active version, until it is resumed.";
    ResumeKey 8 "resume-key" Key Manage Post "/v1/keys/{key}/resume" "key resume" "Ends a suspension.";
    DeactivateKey 9 "deactivate-key" Key Manage Post "/v1/keys/{key}/deactivate" "key deactivate" "Ends protecting with a version; it goes on processing.";
    CompromiseKey 10 "compromise-key" Key Manage Post "/v1/keys/{key}/compromise" "key compromise" "Records that a version is known or suspected to others.";
    ScheduleDestroy 11 "schedule-destroy" Key Manage Post "/v1/keys/{key}/schedule-destroy" "key schedule-destroy" "Deactivates a key and destroys it after 7 to 30 days.";
    CancelDestroy 12 "cancel-destroy" Key Manage Post "/v1/keys/{key}/cancel-destroy" "key cancel-destroy" "Cancels a scheduled destruction.";
    DestroyKey 13 "destroy-key" Key Destroy Post "/v1/keys/{key}/destroy" "key destroy" "Destroys a version that is not in use, at once and for ever.";
    ImportParameters 14 "import-parameters" Key Manage Post "/v1/keys/{key}/import-parameters" "key import-parameters" "Gives a public key to wrap key material for import.";
    ImportKey 15 "import-key" Key Manage Post "/v1/keys/{key}/import" "key import" "Imports wrapped key material.";
    UnloadKey 22 "unload-key" Key Manage Post "/v1/keys/{key}/unload" "key unload" "Deletes imported material; its version awaits the same again.";
    ExportKey 16 "export-key" Key Export Post "/v1/keys/{key}/export" "key export" "Gives out a version's material, wrapped to a public key.";
    PublicKey 17 "public-key" Key Inspect Get "/v1/keys/{key}/public" "key public" "Gives the public half of a version.";
    SetAlias 18 "set-alias" Key Manage Put "/v1/keys/{key}/aliases/{alias}" "key alias" "Gives a key an alias.";
    DeleteAlias 19 "delete-alias" Key Manage Delete "/v1/keys/{key}/aliases/{alias}" "key unalias" "Deletes an alias.";
    ListAliases 20 "list-aliases" Tenant Inspect Get "/v1/aliases" "key aliases" "Lists the aliases of the tenant or of one key.";
    MoveAlias 21 "move-alias" Key Manage Post "/v1/keys/{key}/aliases/{alias}/move" "key move-alias" "Gives a key an alias that another key has.";
    LastUse 23 "last-use" Key Inspect Get "/v1/keys/{key}/last-use" "key last-use" "Shows when a key was last used, since the server was unsealed.";

    // Use.
    Encrypt 32 "encrypt" Key Protect Post "/v1/keys/{key}/encrypt" "encrypt" "Encrypts up to 64 KiB under the primary version.";
    Decrypt 33 "decrypt" Key Process Post "/v1/keys/{key}/decrypt" "decrypt" "Decrypts what this key encrypted.";
    RewrapFrom 49 "rewrap-from" Key Process Post "" "rewrap" "Lets a rewrap open what this key encrypted; part of a rewrap.";
    Rewrap 34 "rewrap" Key Protect Post "/v1/keys/{key}/rewrap" "rewrap" "Re-encrypts under the primary version without giving out the plaintext.";
    DataKey 35 "data-key" Key Protect Post "/v1/keys/{key}/data-key" "data-key" "Makes a data key: in plaintext, and encrypted under the primary version.";
    DataKeyWithoutPlaintext 46 "data-key-without-plaintext" Key Protect Post "/v1/keys/{key}/data-key-without-plaintext" "data-key --without-plaintext" "Makes a data key, and gives it only encrypted under the primary version.";
    DataKeyPair 47 "data-key-pair" Key Protect Post "/v1/keys/{key}/data-key-pair" "data-key-pair" "Makes a key pair: public, private in plaintext, and private encrypted.";
    DataKeyPairWithoutPlaintext 48 "data-key-pair-without-plaintext" Key Protect Post "/v1/keys/{key}/data-key-pair-without-plaintext" "data-key-pair --without-plaintext" "Makes a key pair, and gives its private half only encrypted.";
    Sign 36 "sign" Key Protect Post "/v1/keys/{key}/sign" "sign" "Signs a message or a digest.";
    Verify 37 "verify" Key Process Post "/v1/keys/{key}/verify" "verify" "Verifies a signature.";
    Mac 38 "mac" Key Protect Post "/v1/keys/{key}/mac" "mac" "Computes a message authentication code.";
    VerifyMac 39 "verify-mac" Key Process Post "/v1/keys/{key}/verify-mac" "mac --verify" "Verifies a message authentication code.";
    Wrap 40 "wrap" Key Protect Post "/v1/keys/{key}/wrap" "wrap" "Wraps foreign key material (AES-KW, AES-KWP, RSA-OAEP).";
    Unwrap 41 "unwrap" Key Process Post "/v1/keys/{key}/unwrap" "unwrap" "Unwraps foreign key material.";
    Agree 42 "agree" Key Process Post "/v1/keys/{key}/agree" "agree" "Derives a shared secret with another party's public key.";
    Encapsulate 43 "encapsulate" Key Protect Post "/v1/keys/{key}/encapsulate" "encapsulate" "Makes a shared secret and its encapsulation.";
    Decapsulate 44 "decapsulate" Key Process Post "/v1/keys/{key}/decapsulate" "decapsulate" "Recovers an encapsulated shared secret.";
    Exchange 50 "exchange" Key Process Post "/v1/keys/{key}/exchange" "exchange" "Multiplies another party's point by the key, for a McCallum-Relyea exchange.";
    Hold 55 "hold" Key Offline Post "" "file mount --offline" "Lets a caller keep what it opens for as long as it says; part of opening.";
    Random 45 "random" Tenant Inspect Post "/v1/random" "random" "Gives random bytes.";

    // Secrets.
    KeepSecret 24 "keep-secret" Key Protect Post "/v1/keys/{key}/keep-secret" "secret create" "Keeps a small value under a name, encrypted under the primary version.";
    ReadSecret 25 "read-secret" Key Process Post "/v1/keys/{key}/read-secret" "secret get" "Gives out the value of a secret.";
    ShredSecret 26 "shred-secret" Key Destroy Post "/v1/keys/{key}/shred-secret" "secret delete" "Deletes a secret at once and for ever.";
    ListSecrets 27 "list-secrets" Tenant Inspect Get "/v1/secrets" "secret list" "Lists the tenant's secrets, without their values.";

    // Boot release.
    VolumeSecret 51 "volume-secret" Key Boot Post "/v1/keys/{key}/volume-secret" "boot volume-secret" "Gives the next secret for a keyslot of a machine's volume, once.";
    RecoverySecret 52 "recovery-secret" Key Boot Post "/v1/keys/{key}/recovery-secret" "boot recover" "Gives the recovery secret of a machine's volume, for a reason.";
    ReleaseVolumes 53 "release-volumes" Key Release Post "" "serve" "Gives a machine that boots the secrets of its volumes.";
    CloneImage 54 "clone-image" Key Release Post "" "serve" "Gives a clone of a golden image an identity and a secret of its own.";
    EnrollMachine 128 "enroll-machine" Tenant Boot Post "/v1/machines" "boot enroll" "Makes an identity for a machine that gets the secrets of its volumes at boot.";
    ListMachines 129 "list-machines" Tenant Inspect Get "/v1/machines" "boot list" "Lists the tenant's machines.";
    DescribeMachine 130 "describe-machine" Tenant Inspect Get "/v1/machines/{machine}" "boot show" "Shows a machine, its volumes, and what became of its last boots.";
    UpdateMachine 131 "update-machine" Tenant Boot Patch "/v1/machines/{machine}" "boot update" "Changes a machine's reference values, or the secret and header of its volumes.";
    ListApprovals 132 "list-approvals" Tenant Inspect Get "/v1/approvals" "boot approvals" "Lists boots that wait for an approval, and those that were decided.";
    DecideApproval 133 "decide-approval" Tenant Boot Post "/v1/approvals/{approval}" "boot approve" "Approves or denies a boot.";
    DecideCandidate 136 "decide-candidate" Tenant Boot Post "/v1/machines/{machine}/candidates/{candidate}" "boot accept" "Accepts or rejects what a machine says its next boot will be.";
    AskApproval 134 "ask-approval" Tenant Release Post "" "serve" "A machine that boots asks for an approval.";
    ConfirmBoot 135 "confirm-boot" Tenant Release Post "" "serve" "A machine has opened its volumes, and shows what they kept.";
    SettleClone 137 "settle-clone" Tenant Release Post "" "serve" "A clone of a golden image says which header its volume will have.";

    // Grants.
    CreateGrant 56 "create-grant" Key Delegate Post "/v1/keys/{key}/grants" "grant create" "Passes on operations on a key that the caller holds itself.";
    ListGrants 57 "list-grants" Key Inspect Get "/v1/keys/{key}/grants" "grant list" "Lists the grants on a key.";
    RevokeGrant 58 "revoke-grant" Key Delegate Delete "/v1/keys/{key}/grants/{grant}" "grant revoke" "Ends a grant and those that were made from it.";
    ListRetirableGrants 59 "list-retirable-grants" Tenant Inspect Get "/v1/identities/{identity}/retirable-grants" "grant retirable" "Lists the grants that name an identity as one who may revoke them.";

    // Identities and policies.
    IssueIdentity 64 "issue-identity" Tenant Govern Post "/v1/identities" "identity issue" "Creates an identity and signs its certificate request.";
    ListIdentities 65 "list-identities" Tenant Govern Get "/v1/identities" "identity list" "Lists the tenant's identities.";
    RenewIdentity 66 "renew-identity" Tenant Inspect Post "/v1/identities/renew" "identity renew" "Signs a new certificate for the calling identity.";
    RevokeIdentity 67 "revoke-identity" Tenant Govern Post "/v1/identities/{identity}/revoke" "identity revoke" "Ends an identity and every certificate and access key of it.";
    SetRoles 68 "set-roles" Tenant Govern Put "/v1/identities/{identity}/roles" "identity roles" "Sets the roles of an identity.";
    BindCertificate 69 "bind-certificate" Tenant Govern Post "/v1/identities/{identity}/certificates" "identity bind" "Binds a certificate of an external CA to an identity.";
    WhoAmI 70 "who-am-i" Tenant Inspect Get "/v1/whoami" "whoami" "Shows who the caller is and how that was proved.";
    CreateAccessKey 72 "create-access-key" Tenant Govern Post "/v1/access-keys" "access-key create" "Creates an access key (id and secret) for an identity.";
    ListAccessKeys 73 "list-access-keys" Tenant Govern Get "/v1/access-keys" "access-key list" "Lists access keys, without secrets.";
    DisableAccessKey 74 "disable-access-key" Tenant Govern Post "/v1/access-keys/{access_key}/disable" "access-key disable" "Ends an access key.";
    PutPolicy 80 "put-policy" Tenant Govern Put "/v1/policies/{policy}" "policy set" "Validates and activates a policy.";
    ListPolicies 81 "list-policies" Tenant Govern Get "/v1/policies" "policy list" "Lists the tenant's policies with their text.";
    DeletePolicy 82 "delete-policy" Tenant Govern Delete "/v1/policies/{policy}" "policy delete" "Deletes a policy.";
    DiffPolicy 83 "diff-policy" Tenant Govern Post "/v1/policies/{policy}/diff" "policy diff" "Shows who would gain and who would lose what.";
    TestPolicy 84 "test-policy" Tenant Govern Post "/v1/policy-test" "policy test" "Decides a question without doing anything.";
    WhoCan 85 "who-can" Key Audit Get "/v1/keys/{key}/who-can" "policy who-can" "Lists who can do what with a key, and through which policy or grant.";
    PutKeyPolicy 86 "put-key-policy" Key Govern Put "/v1/keys/{key}/policy" "key set-policy" "Sets a key's own policy, or takes it away.";
    KeyPolicy 87 "key-policy" Key Inspect Get "/v1/keys/{key}/policy" "key policy" "Shows a key's own policy.";

    // The log.
    ListEntries 96 "list-entries" Tenant Audit Get "/v1/audit/entries" "audit list" "Lists the tenant's log entries.";
    Checkpoint 97 "checkpoint" Tenant Audit Get "/v1/audit/checkpoint" "audit checkpoint" "Gives the newest signed checkpoint of the log.";
    ProveEntry 98 "prove-entry" Tenant Audit Get "/v1/audit/entries/{index}/proof" "audit prove" "Gives an inclusion proof of an entry of the tenant.";
    ExportLog 99 "export-log" Platform Audit Get "/v1/audit/log" "audit export" "Gives one file of the log in C2SP tlog-tiles layout.";

    // The deployment.
    CreateTenant 112 "create-tenant" Platform Operate Post "/v1/tenants" "tenant create" "Creates a tenant and its first administrator.";
    ListTenants 113 "list-tenants" Platform Operate Get "/v1/tenants" "tenant list" "Lists the tenants.";
    DisableTenant 114 "disable-tenant" Platform Operate Post "/v1/tenants/{tenant}/disable" "tenant disable" "Stops all use of a tenant's keys.";
    EnableTenant 115 "enable-tenant" Platform Operate Post "/v1/tenants/{tenant}/enable" "tenant enable" "Ends a tenant's stop.";
    RotateTenantKey 116 "rotate-tenant-key" Platform Operate Post "/v1/tenants/{tenant}/rotate-key" "tenant rotate-key" "Makes a new tenant key and rewraps the tenant's key material.";
    RotateRoot 117 "rotate-root" Platform Operate Post "/v1/seal/rotate-root" "seal rotate-root" "Makes a new root key and rewraps what it wraps.";
    Rekey 118 "rekey" Platform Operate Post "/v1/seal/rekey" "seal rekey" "Replaces the shares or the passphrase; the old ones die when the new ones are proved.";
    Seal 119 "seal" Platform Operate Post "/v1/seal" "seal now" "Forgets the root key at once.";
    Unseal 120 "unseal" Platform Operate Post "/v1/unseal" "unseal" "Gives the server a share or the passphrase.";
    Status 121 "status" Tenant Inspect Get "/v1/status" "status" "Shows the server's state.";

    // What the server does by itself.
    Start 192 "start" Platform Operate Post "" "serve" "The server started.";
    Stop 193 "stop" Platform Operate Post "" "serve" "The server stopped.";
    Alarm 194 "alarm" Platform Operate Post "" "serve" "The server noticed something that a person must look at.";
    Authenticate 195 "authenticate" Platform Inspect Post "" "serve" "A caller could not prove who it is.";
    Initialise 196 "initialise" Platform Operate Post "" "init" "The deployment was created.";
    DateReached 197 "date-reached" Key Manage Post "" "serve" "A date changed a key version's state.";
    RefuseEvidence 199 "refuse-evidence" Tenant Release Post "" "serve" "A machine asked for the secrets of its volumes, and was refused before any policy was asked.";
    LogAccepted 198 "log-accepted" Platform Operate Post "" "serve" "An operator accepted the log as it was found.";
}

impl Operation {
    /// The operation's row.
    #[must_use]
    pub fn info(self) -> &'static Info {
        &TABLE[self as usize]
    }

    /// Stable name: policy action, audit word, OpenAPI operation id.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// The operation with this stable number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        TABLE.iter().find(|row| row.code == code).map(|row| row.operation)
    }

    /// The operation with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.name == name).map(|row| row.operation)
    }

    /// Whether a caller can ask for it; the others are only logged, or decided as a part of another.
    #[must_use]
    pub fn is_request(self) -> bool {
        !self.info().path.is_empty()
    }

    /// Whether policies and grants decide about it.
    #[must_use]
    pub fn is_decided(self) -> bool {
        self.is_request()
            || matches!(
                self,
                Self::RewrapFrom
                    | Self::Hold
                    | Self::ReleaseVolumes
                    | Self::CloneImage
                    | Self::AskApproval
                    | Self::ConfirmBoot
                    | Self::SettleClone
            )
    }

    /// What a use of key material does, for operations on a key.
    #[must_use]
    pub fn class(self) -> Class {
        match self.info().group {
            Group::Protect => Class::Protect,
            Group::Process | Group::Boot | Group::Release => Class::Process,
            Group::Export => Class::Export,
            Group::Inspect
            | Group::Manage
            | Group::Destroy
            | Group::Offline
            | Group::Delegate
            | Group::Govern
            | Group::Audit
            | Group::Operate => Class::Metadata,
        }
    }

    /// Whether a grant can pass it on. Who has a grant may give it back: a grant can say so, and need not.
    #[must_use]
    pub fn is_grantable(self) -> bool {
        self.info().scope == Scope::Key
            && (self == Self::RevokeGrant
                || matches!(
                    self.info().group,
                    Group::Protect | Group::Process | Group::Inspect | Group::Export
                ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_codes_and_paths_are_unique() {
        let mut names = BTreeSet::new();
        let mut codes = BTreeSet::new();
        let mut paths = BTreeSet::new();
        for &operation in Operation::ALL {
            let row = operation.info();
            assert_eq!(row.operation, operation);
            assert!(names.insert(row.name), "{}", row.name);
            assert!(codes.insert(row.code), "{}", row.code);
            assert!(
                row.path.is_empty() || paths.insert((format!("{:?}", row.method), row.path)),
                "{}",
                row.path
            );
            assert_eq!(Operation::from_code(row.code), Some(operation));
            assert_eq!(Operation::from_name(row.name), Some(operation));
            assert_eq!(
                row.scope == Scope::Key,
                row.path.contains("{key}")
                    || ["date-reached", "rewrap-from", "hold", "release-volumes", "clone-image"]
                        .contains(&row.name),
                "{}",
                row.name
            );
            assert!(row.summary.ends_with('.') && row.summary.len() <= 100);
        }
    }
}
