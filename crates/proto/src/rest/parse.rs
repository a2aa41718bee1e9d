//! From an operation and what came with it to what is asked.

use keyhearth_core::Error;
use keyhearth_core::operation::{Method, Operation};
use keyhearth_core::request::Ask;

use super::body::*;
use super::query::Query;
use super::read::read;
use super::route::Params;
use super::spelling::AccessKeyId;

/// Reads a request. `path` comes from [`super::route()`] for the same operation; `body` may be empty where all
/// members are optional.
///
/// # Errors
/// [`Error::Invalid`] with field and rule, or [`Error::TooLarge`] with field and limit. [`Error::Unsupported`]
/// for unsealing, which the server does outside of all requests, and for what has no path.
#[expect(clippy::too_many_lines, reason = "a table")]
pub fn parse(
    operation: Operation,
    path: &Params<'_>,
    query: Option<&str>,
    body: &[u8],
) -> Result<Ask, Error> {
    use Operation as O;
    let query = Query::new(query, operation)?;
    if matches!(operation.info().method, Method::Get | Method::Delete) {
        read::<Nothing>(body)?;
    }
    let key = || path.read("key");
    let identity = || path.read("identity");
    let tenant = || path.read("tenant");
    let version = || Ok::<_, Error>(read::<OfVersion>(body)?.number());
    let key_or_version = || Ok::<_, Error>(read::<KeyOrVersion>(body)?.number());
    let nothing = |ask| read::<Nothing>(body).map(|_| ask);
    Ok(match operation {
        O::CreateKey => Ask::CreateKey(read::<NewKey>(body)?.ask()?),
        O::ListKeys => Ask::ListKeys { page: query.page()? },
        O::DescribeKey => Ask::DescribeKey { key: key()? },
        O::UpdateKey => Ask::UpdateKey { key: key()?, change: read::<KeyChange>(body)?.ask()? },
        O::RotateKey => nothing(Ask::RotateKey { key: key()? })?,
        O::ActivateKey => Ask::ActivateKey { key: key()?, version: version()? },
        O::SuspendKey => Ask::SuspendKey { key: key()?, version: key_or_version()? },
        O::ResumeKey => Ask::ResumeKey { key: key()?, version: key_or_version()? },
        O::DeactivateKey => Ask::DeactivateKey { key: key()?, version: version()? },
        O::CompromiseKey => Ask::CompromiseKey { key: key()?, version: version()? },
        O::ScheduleDestroy => read::<Schedule>(body)?.ask(key()?),
        O::CancelDestroy => read::<Cancellation>(body)?.ask(key()?),
        O::DestroyKey => read::<Destruction>(body)?.ask(key()?),
        O::ImportParameters => read::<ImportTerms>(body)?.ask(key()?),
        O::ImportKey => read::<Import>(body)?.ask(key()?)?,
        O::UnloadKey => Ask::UnloadKey { key: key()?, version: version()? },
        O::ExportKey => read::<Export>(body)?.ask(key()?)?,
        O::PublicKey => Ask::PublicKey { key: key()?, version: query.version()? },
        O::LastUse => Ask::LastUse { key: key()? },
        O::SetAlias => nothing(Ask::SetAlias { key: key()?, alias: path.read("alias")? })?,
        O::DeleteAlias => Ask::DeleteAlias { key: key()?, alias: path.read("alias")? },
        O::ListAliases => Ask::ListAliases { of: query.read("key")?, page: query.page()? },
        O::MoveAlias => nothing(Ask::MoveAlias { key: key()?, alias: path.read("alias")? })?,
        O::Encrypt => read::<Encrypt>(body)?.ask(key()?)?,
        O::Decrypt => read::<Decrypt>(body)?.ask(key()?)?,
        O::Rewrap => read::<Rewrap>(body)?.ask(key()?)?,
        O::DataKey => read::<MakeDataKey>(body)?.ask(key()?, true),
        O::DataKeyWithoutPlaintext => read::<MakeDataKey>(body)?.ask(key()?, false),
        O::DataKeyPair => read::<MakeDataKeyPair>(body)?.ask(key()?, true),
        O::DataKeyPairWithoutPlaintext => read::<MakeDataKeyPair>(body)?.ask(key()?, false),
        O::Sign => read::<Sign>(body)?.ask(key()?)?,
        O::Verify => read::<Verify>(body)?.ask(key()?)?,
        O::Mac => read::<ComputeMac>(body)?.ask(key()?)?,
        O::VerifyMac => read::<VerifyMac>(body)?.ask(key()?)?,
        O::Wrap => read::<Wrap>(body)?.ask(key()?)?,
        O::Unwrap => read::<Unwrap>(body)?.ask(key()?)?,
        O::Agree => read::<Agree>(body)?.ask(key()?)?,
        O::Exchange => read::<Exchange>(body)?.ask(key()?)?,
        O::Encapsulate => nothing(Ask::Encapsulate { key: key()? })?,
        O::Decapsulate => read::<Decapsulate>(body)?.ask(key()?)?,
        O::Random => Ask::Random { bytes: read::<MakeRandom>(body)?.bytes.number() as usize },
        O::KeepSecret => read::<KeepSecret>(body)?.ask(key()?)?,
        O::ReadSecret => read::<ReadSecret>(body)?.ask(path.read("key")?),
        O::ShredSecret => read::<OfSecret>(body)?.shred(path.read("key")?),
        O::ListSecrets => Ask::ListSecrets { page: query.page()? },
        O::VolumeSecret => read::<VolumeOf>(body)?.secret(key()?),
        O::RecoverySecret => read::<VolumeOf>(body)?.recovery(key()?),
        O::EnrollMachine => read::<NewMachine>(body)?.ask()?,
        O::ListMachines => Ask::ListMachines { page: query.page()? },
        O::DescribeMachine => Ask::DescribeMachine { machine: path.read("machine")? },
        O::UpdateMachine => read::<MachineChange>(body)?.ask(path.read("machine")?)?,
        O::ListApprovals => Ask::ListApprovals { page: query.page()? },
        O::DecideApproval => {
            let approve = read::<ApprovalDecision>(body)?.approve;
            Ask::DecideApproval { approval: path.read("approval")?, approve }
        }
        O::DecideCandidate => {
            let accept = read::<CandidateDecision>(body)?.accept;
            Ask::DecideCandidate {
                machine: path.read("machine")?,
                candidate: path.read("candidate")?,
                accept,
            }
        }
        O::CreateGrant => Ask::CreateGrant(read::<NewGrant>(body)?.ask(key()?)?),
        O::ListGrants => Ask::ListGrants { key: key()?, page: query.page()? },
        O::RevokeGrant => Ask::RevokeGrant { key: key()?, grant: path.read("grant")? },
        O::ListRetirableGrants => Ask::ListRetirableGrants { identity: identity()?, page: query.page()? },
        O::IssueIdentity => read::<NewIdentity>(body)?.ask()?,
        O::ListIdentities => Ask::ListIdentities { page: query.page()? },
        O::RenewIdentity => read::<Renewal>(body)?.ask()?,
        O::RevokeIdentity => nothing(Ask::RevokeIdentity { identity: identity()? })?,
        O::SetRoles => read::<Roles>(body)?.ask(identity()?),
        O::BindCertificate => read::<Certificate>(body)?.ask(identity()?)?,
        O::WhoAmI => Ask::WhoAmI,
        O::CreateAccessKey => read::<NewAccessKey>(body)?.ask()?,
        O::ListAccessKeys => Ask::ListAccessKeys { page: query.page()? },
        O::DisableAccessKey => {
            nothing(Ask::DisableAccessKey { id: path.read::<AccessKeyId>("access_key")?.0 })?
        }
        O::PutPolicy => read::<Policy>(body)?.ask(path.read("policy")?)?,
        O::ListPolicies => Ask::ListPolicies,
        O::DeletePolicy => Ask::DeletePolicy { name: path.read("policy")? },
        O::DiffPolicy => read::<PolicyDraft>(body)?.ask(path.read("policy")?)?,
        O::TestPolicy => read::<Question>(body)?.ask(),
        O::WhoCan => Ask::WhoCan { key: key()? },
        O::PutKeyPolicy => Ask::PutKeyPolicy { key: key()?, policy: read::<KeyPolicy>(body)?.ask()? },
        O::KeyPolicy => Ask::KeyPolicy { key: key()? },
        O::ListEntries => Ask::ListEntries { from: query.read("from")?.unwrap_or(0), limit: query.limit()? },
        O::Checkpoint => Ask::Checkpoint,
        O::ProveEntry => Ask::ProveEntry { index: path.read("index")?, size: query.read("size")? },
        O::ExportLog => Ask::ExportLog { path: query.log_path()? },
        O::CreateTenant => read::<NewTenant>(body)?.ask()?,
        O::ListTenants => Ask::ListTenants,
        O::DisableTenant => nothing(Ask::DisableTenant { tenant: tenant()? })?,
        O::EnableTenant => nothing(Ask::EnableTenant { tenant: tenant()? })?,
        O::RotateTenantKey => nothing(Ask::RotateTenantKey { tenant: tenant()? })?,
        O::RotateRoot => nothing(Ask::RotateRoot)?,
        O::Status => Ask::Status,
        O::Seal => nothing(Ask::Seal)?,
        O::Rekey => read::<Rekey>(body)?.ask()?,
        O::Unseal
        | O::RewrapFrom
        | O::Hold
        | O::ReleaseVolumes
        | O::AskApproval
        | O::CloneImage
        | O::ConfirmBoot
        | O::SettleClone
        | O::RefuseEvidence
        | O::Start
        | O::Stop
        | O::Alarm
        | O::Authenticate
        | O::Initialise
        | O::DateReached
        | O::LogAccepted => return Err(Error::Unsupported("this operation as a request")),
    })
}
