//! From an operation and what came with it to what is asked.

use keyhearth_core::Error;
use keyhearth_core::operation::{Method, Operation};
use keyhearth_core::request::{Ask, Secret};
use keyhearth_crypto::algorithm::Mechanism;

use super::body::*;
use super::query::Query;
use super::read::read;
use super::route::Params;
use super::spelling::{AccessKeyId, Is, Within};

/// How long a data key is unless the caller says otherwise.
const DATA_KEY_BYTES_DEFAULT: u32 = 32;
/// Days until a scheduled destruction unless the caller says otherwise.
const DESTROY_DAYS_DEFAULT: u32 = 30;

/// Reads a request. `path` comes from [`super::route()`] for the same operation; `body` may be empty where all
/// members are optional.
///
/// # Errors
/// [`Error::Invalid`] with field and rule, or [`Error::TooLarge`] with field and limit.
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
    let version = || Ok::<_, Error>(read::<OfVersion>(body)?.version.map(Within::number));
    let nothing = |ask| read::<Nothing>(body).map(|_| ask);
    Ok(match operation {
        O::CreateKey => Ask::CreateKey(read::<NewKey>(body)?.ask()?),
        O::ListKeys => Ask::ListKeys { page: query.page()? },
        O::DescribeKey => Ask::DescribeKey { key: key()? },
        O::UpdateKey => Ask::UpdateKey { key: key()?, change: read::<KeyChange>(body)?.ask()? },
        O::RotateKey => nothing(Ask::RotateKey { key: key()? })?,
        O::ActivateKey => Ask::ActivateKey { key: key()?, version: version()? },
        O::SuspendKey => Ask::SuspendKey { key: key()?, version: version()? },
        O::ResumeKey => Ask::ResumeKey { key: key()?, version: version()? },
        O::DeactivateKey => Ask::DeactivateKey { key: key()?, version: version()? },
        O::CompromiseKey => Ask::CompromiseKey { key: key()?, version: version()? },
        O::ScheduleDestroy => {
            let days = read::<Schedule>(body)?.days.map_or(DESTROY_DAYS_DEFAULT, Within::number);
            Ask::ScheduleDestroy { key: key()?, days }
        }
        O::CancelDestroy => nothing(Ask::CancelDestroy { key: key()? })?,
        O::DestroyKey => {
            let Destruction { version, confirm } = read(body)?;
            Ask::DestroyKey { key: key()?, version: version.number(), confirm: confirm.0 }
        }
        O::PublicKey => Ask::PublicKey { key: key()?, version: query.version()? },
        O::SetAlias => nothing(Ask::SetAlias { key: key()?, alias: path.read("alias")? })?,
        O::DeleteAlias => Ask::DeleteAlias { key: key()?, alias: path.read("alias")? },
        O::ListAliases => Ask::ListAliases { page: query.page()? },
        O::CreateGrant => Ask::CreateGrant(read::<NewGrant>(body)?.ask(key()?)),
        O::ListGrants => Ask::ListGrants { key: key()? },
        O::RevokeGrant => Ask::RevokeGrant { key: key()?, grant: path.read("grant")? },
        O::IssueIdentity => read::<NewIdentity>(body)?.ask()?,
        O::ListIdentities => Ask::ListIdentities { page: query.page()? },
        O::RenewIdentity => read::<Renewal>(body)?.ask()?,
        O::RevokeIdentity => nothing(Ask::RevokeIdentity { identity: identity()? })?,
        O::SetRoles => read::<Roles>(body)?.ask(identity()?),
        O::BindCertificate => {
            let certificate = read::<Certificate>(body)?.certificate.within("certificate")?;
            Ask::BindCertificate { identity: identity()?, certificate }
        }
        O::WhoAmI => Ask::WhoAmI,
        O::CreateAccessKey => read::<NewAccessKey>(body)?.ask()?,
        O::ListAccessKeys => Ask::ListAccessKeys { page: query.page()? },
        O::DisableAccessKey => {
            nothing(Ask::DisableAccessKey { id: path.read::<AccessKeyId>("access_key")?.0 })?
        }
        O::PutPolicy => {
            let text = read::<Policy>(body)?.text.within("text")?;
            Ask::PutPolicy { name: path.read("policy")?, text }
        }
        O::ListPolicies => Ask::ListPolicies,
        O::DeletePolicy => Ask::DeletePolicy { name: path.read("policy")? },
        O::DiffPolicy => {
            let text = read::<PolicyDraft>(body)?.text.map(|text| text.within("text")).transpose()?;
            Ask::DiffPolicy { name: path.read("policy")?, text }
        }
        O::TestPolicy => read::<Question>(body)?.ask(),
        O::WhoCan => Ask::WhoCan { key: key()? },
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
        _ => return parse_use(operation, path, body),
    })
}

/// Reads a request that uses material.
fn parse_use(operation: Operation, path: &Params<'_>, body: &[u8]) -> Result<Ask, Error> {
    use Operation as O;
    let key = || path.read("key");
    let how = |mechanism: Option<Is<Mechanism>>| mechanism.map(|mechanism| mechanism.0);
    let number = |version: Option<Number>| version.map(Within::number);
    Ok(match operation {
        O::ImportParameters => {
            let mechanism = read::<ImportTerms>(body)?.mechanism.0;
            Ask::ImportParameters { key: key()?, mechanism }
        }
        O::ImportKey => {
            let wrapped = read::<Import>(body)?.wrapped.public("wrapped")?;
            Ask::ImportKey { key: key()?, wrapped }
        }
        O::ExportKey => {
            let Export { version, mechanism, recipient } = read(body)?;
            let recipient = recipient.public("recipient")?;
            Ask::ExportKey { key: key()?, version: number(version), mechanism: mechanism.0, recipient }
        }
        O::Encrypt => {
            let Encrypt { mechanism, context, plaintext } = read(body)?;
            let context = context.unwrap_or_default().into_inner();
            let plaintext = plaintext.secret("plaintext")?;
            Ask::Encrypt { key: key()?, mechanism: how(mechanism), context, plaintext }
        }
        O::Decrypt => {
            let Decrypt { mechanism, version, iv, context, ciphertext } = read(body)?;
            Ask::Decrypt {
                key: key()?,
                mechanism: how(mechanism),
                version: number(version),
                iv: iv.unwrap_or_default().public("iv")?,
                context: context.unwrap_or_default().into_inner(),
                ciphertext: ciphertext.public("ciphertext")?,
            }
        }
        O::Rewrap => {
            let Rewrap { source, context, ciphertext } = read(body)?;
            let context = context.unwrap_or_default().into_inner();
            let ciphertext = ciphertext.public("ciphertext")?;
            Ask::Rewrap { key: key()?, source: source.map(|key| key.0), context, ciphertext }
        }
        O::DataKey => {
            let MakeDataKey { context, bytes, with_plaintext } = read(body)?;
            let context = context.unwrap_or_default().into_inner();
            let bytes = bytes.map_or(DATA_KEY_BYTES_DEFAULT, Within::number) as usize;
            Ask::DataKey { key: key()?, context, bytes, with_plaintext: with_plaintext.unwrap_or(true) }
        }
        O::Sign => {
            let Sign { mechanism, message: whole, digest } = read(body)?;
            Ask::Sign { key: key()?, mechanism: how(mechanism), message: message(whole, digest)? }
        }
        O::Verify => {
            let Verify { mechanism, version, message: whole, digest, signature } = read(body)?;
            Ask::Verify {
                key: key()?,
                mechanism: how(mechanism),
                version: number(version),
                message: message(whole, digest)?,
                signature: signature.public("signature")?,
            }
        }
        O::Mac => {
            let ComputeMac { mechanism, message } = read(body)?;
            Ask::Mac { key: key()?, mechanism: how(mechanism), message: message.secret("message")? }
        }
        O::VerifyMac => {
            let VerifyMac { mechanism, version, message, mac } = read(body)?;
            let message: Secret = message.secret("message")?;
            let mac = mac.public("mac")?;
            Ask::VerifyMac { key: key()?, mechanism: how(mechanism), version: number(version), message, mac }
        }
        O::Wrap => {
            let Wrap { mechanism, material } = read(body)?;
            Ask::Wrap { key: key()?, mechanism: how(mechanism), material: material.secret("material")? }
        }
        O::Unwrap => {
            let Unwrap { mechanism, version, wrapped } = read(body)?;
            let wrapped = wrapped.public("wrapped")?;
            Ask::Unwrap { key: key()?, mechanism: how(mechanism), version: number(version), wrapped }
        }
        O::Agree => {
            let Agree { version, peer } = read(body)?;
            Ask::Agree { key: key()?, version: number(version), peer: peer.public("peer")? }
        }
        O::Encapsulate => read::<Nothing>(body).and_then(|_| Ok(Ask::Encapsulate { key: key()? }))?,
        O::Decapsulate => {
            let Decapsulate { version, encapsulated } = read(body)?;
            let encapsulated = encapsulated.public("encapsulated")?;
            Ask::Decapsulate { key: key()?, version: number(version), encapsulated }
        }
        O::Random => Ask::Random { bytes: read::<MakeRandom>(body)?.bytes.number() as usize },
        _ => return Err(Error::Unsupported("this operation as a request")),
    })
}
