//! What a request says of itself: to the decision, to policies and to the log.

use std::borrow::Cow;

use super::{Ask, KeyRef, NewGrant};
use crate::machine::BootFacts;
use crate::operation::Operation;
use crate::secret::SecretName;

macro_rules! operations_of {
    ($self:ident: $($pattern:pat $(if $guard:expr)? => $operation:ident,)*) => {
        match $self { $($pattern $(if $guard)? => Operation::$operation,)* }
    };
}

impl Ask {
    /// The operation's row in the table.
    #[must_use]
    pub fn operation(&self) -> Operation {
        operations_of! { self:
            Self::CreateKey(_) => CreateKey,
            Self::ListKeys { .. } => ListKeys,
            Self::DescribeKey { .. } => DescribeKey,
            Self::UpdateKey { .. } => UpdateKey,
            Self::RotateKey { .. } => RotateKey,
            Self::ActivateKey { .. } => ActivateKey,
            Self::SuspendKey { .. } => SuspendKey,
            Self::ResumeKey { .. } => ResumeKey,
            Self::DeactivateKey { .. } => DeactivateKey,
            Self::CompromiseKey { .. } => CompromiseKey,
            Self::ScheduleDestroy { .. } => ScheduleDestroy,
            Self::CancelDestroy { .. } => CancelDestroy,
            Self::DestroyKey { .. } => DestroyKey,
            Self::ImportParameters { .. } => ImportParameters,
            Self::ImportKey { .. } => ImportKey,
            Self::UnloadKey { .. } => UnloadKey,
            Self::ExportKey { .. } => ExportKey,
            Self::PublicKey { .. } => PublicKey,
            Self::LastUse { .. } => LastUse,
            Self::SetAlias { .. } => SetAlias,
            Self::DeleteAlias { .. } => DeleteAlias,
            Self::ListAliases { .. } => ListAliases,
            Self::MoveAlias { .. } => MoveAlias,
            Self::Encrypt { .. } => Encrypt,
            Self::Decrypt { .. } => Decrypt,
            Self::Rewrap { .. } => Rewrap,
            Self::DataKey { with_plaintext: true, .. } => DataKey,
            Self::DataKey { with_plaintext: false, .. } => DataKeyWithoutPlaintext,
            Self::DataKeyPair { with_plaintext: true, .. } => DataKeyPair,
            Self::DataKeyPair { with_plaintext: false, .. } => DataKeyPairWithoutPlaintext,
            Self::Sign { .. } => Sign,
            Self::Verify { .. } => Verify,
            Self::Mac { .. } => Mac,
            Self::VerifyMac { .. } => VerifyMac,
            Self::Wrap { .. } => Wrap,
            Self::Unwrap { .. } => Unwrap,
            Self::Agree { .. } => Agree,
            Self::Encapsulate { .. } => Encapsulate,
            Self::Decapsulate { .. } => Decapsulate,
            Self::Exchange { .. } => Exchange,
            Self::Random { .. } => Random,
            Self::KeepSecret { .. } => KeepSecret,
            Self::ReadSecret { .. } => ReadSecret,
            Self::ShredSecret { .. } => ShredSecret,
            Self::ListSecrets { .. } => ListSecrets,
            Self::VolumeSecret { .. } => VolumeSecret,
            Self::RecoverySecret { .. } => RecoverySecret,
            Self::ReleaseVolumes { release, .. } if release.clone.is_some() => CloneImage,
            Self::ReleaseVolumes { .. } => ReleaseVolumes,
            Self::EnrollMachine(_) => EnrollMachine,
            Self::ListMachines { .. } => ListMachines,
            Self::DescribeMachine { .. } => DescribeMachine,
            Self::UpdateMachine { .. } => UpdateMachine,
            Self::ListApprovals { .. } => ListApprovals,
            Self::DecideApproval { .. } => DecideApproval,
            Self::DecideCandidate { .. } => DecideCandidate,
            Self::AskApproval { .. } => AskApproval,
            Self::ConfirmBoot { .. } => ConfirmBoot,
            Self::SettleClone { .. } => SettleClone,
            Self::CreateGrant(_) => CreateGrant,
            Self::ListGrants { .. } => ListGrants,
            Self::RevokeGrant { .. } => RevokeGrant,
            Self::ListRetirableGrants { .. } => ListRetirableGrants,
            Self::IssueIdentity { .. } => IssueIdentity,
            Self::ListIdentities { .. } => ListIdentities,
            Self::RenewIdentity { .. } => RenewIdentity,
            Self::RevokeIdentity { .. } => RevokeIdentity,
            Self::SetRoles { .. } => SetRoles,
            Self::BindCertificate { .. } => BindCertificate,
            Self::WhoAmI => WhoAmI,
            Self::CreateAccessKey { .. } => CreateAccessKey,
            Self::ListAccessKeys { .. } => ListAccessKeys,
            Self::DisableAccessKey { .. } => DisableAccessKey,
            Self::PutPolicy { .. } => PutPolicy,
            Self::ListPolicies => ListPolicies,
            Self::DeletePolicy { .. } => DeletePolicy,
            Self::DiffPolicy { .. } => DiffPolicy,
            Self::TestPolicy { .. } => TestPolicy,
            Self::WhoCan { .. } => WhoCan,
            Self::PutKeyPolicy { .. } => PutKeyPolicy,
            Self::KeyPolicy { .. } => KeyPolicy,
            Self::ListEntries { .. } => ListEntries,
            Self::Checkpoint => Checkpoint,
            Self::ProveEntry { .. } => ProveEntry,
            Self::ExportLog { .. } => ExportLog,
            Self::CreateTenant { .. } => CreateTenant,
            Self::ListTenants => ListTenants,
            Self::DisableTenant { .. } => DisableTenant,
            Self::EnableTenant { .. } => EnableTenant,
            Self::RotateTenantKey { .. } => RotateTenantKey,
            Self::RotateRoot => RotateRoot,
            Self::Status => Status,
            Self::Seal => Seal,
            Self::Rekey(_) => Rekey,
        }
    }

    /// The key it is about.
    #[must_use]
    pub fn key(&self) -> Option<&KeyRef> {
        match self {
            Self::DescribeKey { key }
            | Self::UpdateKey { key, .. }
            | Self::RotateKey { key }
            | Self::ActivateKey { key, .. }
            | Self::SuspendKey { key, .. }
            | Self::ResumeKey { key, .. }
            | Self::DeactivateKey { key, .. }
            | Self::CompromiseKey { key, .. }
            | Self::ScheduleDestroy { key, .. }
            | Self::CancelDestroy { key, .. }
            | Self::DestroyKey { key, .. }
            | Self::ImportParameters { key, .. }
            | Self::ImportKey { key, .. }
            | Self::UnloadKey { key, .. }
            | Self::ExportKey { key, .. }
            | Self::PublicKey { key, .. }
            | Self::LastUse { key }
            | Self::SetAlias { key, .. }
            | Self::DeleteAlias { key, .. }
            | Self::MoveAlias { key, .. }
            | Self::Encrypt { key, .. }
            | Self::Decrypt { key, .. }
            | Self::Rewrap { key, .. }
            | Self::DataKey { key, .. }
            | Self::DataKeyPair { key, .. }
            | Self::Sign { key, .. }
            | Self::Verify { key, .. }
            | Self::Mac { key, .. }
            | Self::VerifyMac { key, .. }
            | Self::Wrap { key, .. }
            | Self::Unwrap { key, .. }
            | Self::Agree { key, .. }
            | Self::Encapsulate { key }
            | Self::Decapsulate { key, .. }
            | Self::Exchange { key, .. }
            | Self::KeepSecret { key, .. }
            | Self::VolumeSecret { key, .. }
            | Self::RecoverySecret { key, .. }
            | Self::ReleaseVolumes { key, .. }
            | Self::CreateGrant(NewGrant { key, .. })
            | Self::ListGrants { key, .. }
            | Self::RevokeGrant { key, .. }
            | Self::WhoCan { key }
            | Self::PutKeyPolicy { key, .. }
            | Self::KeyPolicy { key } => Some(key),
            Self::ReadSecret { key, .. } | Self::ShredSecret { key, .. } => key.as_ref(),
            Self::CreateKey(_)
            | Self::ListKeys { .. }
            | Self::ListAliases { .. }
            | Self::Random { .. }
            | Self::ListSecrets { .. }
            | Self::EnrollMachine(_)
            | Self::ListMachines { .. }
            | Self::DescribeMachine { .. }
            | Self::UpdateMachine { .. }
            | Self::ListApprovals { .. }
            | Self::DecideApproval { .. }
            | Self::DecideCandidate { .. }
            | Self::AskApproval { .. }
            | Self::ConfirmBoot { .. }
            | Self::SettleClone { .. }
            | Self::ListRetirableGrants { .. }
            | Self::IssueIdentity { .. }
            | Self::ListIdentities { .. }
            | Self::RenewIdentity { .. }
            | Self::RevokeIdentity { .. }
            | Self::SetRoles { .. }
            | Self::BindCertificate { .. }
            | Self::WhoAmI
            | Self::CreateAccessKey { .. }
            | Self::ListAccessKeys { .. }
            | Self::DisableAccessKey { .. }
            | Self::PutPolicy { .. }
            | Self::ListPolicies
            | Self::DeletePolicy { .. }
            | Self::DiffPolicy { .. }
            | Self::TestPolicy { .. }
            | Self::ListEntries { .. }
            | Self::Checkpoint
            | Self::ProveEntry { .. }
            | Self::ExportLog { .. }
            | Self::CreateTenant { .. }
            | Self::ListTenants
            | Self::DisableTenant { .. }
            | Self::EnableTenant { .. }
            | Self::RotateTenantKey { .. }
            | Self::RotateRoot
            | Self::Status
            | Self::Seal
            | Self::Rekey(_) => None,
        }
    }

    /// The pairs bound to the ciphertext, for policies and grants; of a new grant those that it demands, so that
    /// whoever may not use the key with some pairs can be kept from passing on just that.
    #[expect(clippy::wildcard_enum_match_arm, reason = "few variants have one")]
    #[must_use]
    pub fn context(&self) -> Cow<'_, [(String, String)]> {
        match self {
            Self::Encrypt { context, .. }
            | Self::Decrypt { context, .. }
            | Self::Rewrap { context, .. }
            | Self::DataKey { context, .. }
            | Self::DataKeyPair { context, .. }
            | Self::TestPolicy { context, .. } => Cow::Borrowed(context),
            Self::CreateGrant(new) => Cow::Owned(new.pairs()),
            Self::KeepSecret { name, .. }
            | Self::ReadSecret { name, .. }
            | Self::ShredSecret { name, .. } => Cow::Owned(name.context()),
            _ => Cow::Borrowed(&[]),
        }
    }

    /// The secret it is about.
    #[expect(clippy::wildcard_enum_match_arm, reason = "few variants have one")]
    #[must_use]
    pub fn secret(&self) -> Option<&SecretName> {
        match self {
            Self::KeepSecret { name, .. }
            | Self::ReadSecret { name, .. }
            | Self::ShredSecret { name, .. } => Some(name),
            _ => None,
        }
    }

    /// For how long the caller will keep what it opens and use it without asking, in seconds.
    #[expect(clippy::wildcard_enum_match_arm, reason = "few variants have one")]
    #[must_use]
    pub fn lease_seconds(&self) -> u32 {
        match self {
            Self::Decrypt { lease_seconds, .. } | Self::ReadSecret { lease_seconds, .. } => *lease_seconds,
            _ => 0,
        }
    }

    /// What is known of the boot that it is part of.
    #[expect(clippy::wildcard_enum_match_arm, reason = "one variant has it")]
    #[must_use]
    pub fn boot(&self) -> Option<&BootFacts> {
        match self {
            Self::ReleaseVolumes { release, .. } => Some(&release.facts),
            _ => None,
        }
    }

    /// The key version the caller names.
    #[expect(clippy::wildcard_enum_match_arm, reason = "few variants have one")]
    #[must_use]
    pub fn version(&self) -> Option<u32> {
        match self {
            Self::ActivateKey { version, .. }
            | Self::SuspendKey { version, .. }
            | Self::ResumeKey { version, .. }
            | Self::DeactivateKey { version, .. }
            | Self::CompromiseKey { version, .. }
            | Self::UnloadKey { version, .. }
            | Self::ExportKey { version, .. }
            | Self::PublicKey { version, .. }
            | Self::Decrypt { version, .. }
            | Self::Verify { version, .. }
            | Self::VerifyMac { version, .. }
            | Self::Unwrap { version, .. }
            | Self::Agree { version, .. }
            | Self::Decapsulate { version, .. }
            | Self::Exchange { version, .. } => *version,
            Self::DestroyKey { version, .. } => Some(*version),
            _ => None,
        }
    }
}
