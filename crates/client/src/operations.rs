//! One method per operation.

use std::fmt::{Display, Write};
use std::time::Duration;

use keyhearth_core::id::{GrantId, Name, PrincipalId, RequestId, TenantId};
use keyhearth_core::operation::Operation;
use keyhearth_proto::rest::{Answers, BATCH_MAX, BATCH_PATH, BODY_BYTES_MAX, Cursor, Is, answer, body};
use serde::de::DeserializeOwned;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

use crate::retry::{TRIES_MAX, accept, length};
use crate::{Client, Error};

/// The shortest wait before what came too soon is asked again.
const BATCH_WAIT_MS: u32 = 200;

/// Cuts `items` where a batch is full: by their number, and by the bytes that they are long.
fn parts<T>(items: &[T], length: impl Fn(&T) -> Result<usize, Error>) -> Result<Vec<&[T]>, Error> {
    let (mut parts, mut rest) = (Vec::new(), items);
    while !rest.is_empty() {
        let (mut count, mut bytes) = (0, BATCH_FRAME_BYTES);
        for item in rest.iter().take(BATCH_MAX) {
            bytes += length(item)? + 1;
            if count > 0 && bytes > BODY_BYTES_MAX {
                break;
            }
            count += 1;
        }
        let (part, after) = rest.split_at(count);
        parts.push(part);
        rest = after;
    }
    Ok(parts)
}

/// Bytes of a batch around its requests.
const BATCH_FRAME_BYTES: usize = 16;

/// A batch as it is sent.
#[derive(Serialize)]
struct Batch<'a, B> {
    requests: Vec<Item<'a, B>>,
}

/// One request of it: the operation, and a key with the body.
struct Item<'a, B> {
    operation: Operation,
    asked: &'a (&'a str, B),
}

impl<B: Serialize> Serialize for Item<'_, B> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut item = serializer.serialize_struct("Item", 3)?;
        item.serialize_field("operation", self.operation.name())?;
        item.serialize_field("key", self.asked.0)?;
        item.serialize_field("body", &self.asked.1)?;
        item.end()
    }
}

/// Which page of a listing.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The `next` of the page before; the first page if absent.
    pub after: Option<Is<Cursor>>,
    /// At most so many items, 1 to 1000; the server's default if absent.
    pub limit: Option<u32>,
}

/// Appends `text`, percent-encoded so that it is one segment or one value.
///
/// Source: RFC 3986 §2.1, §2.3.
fn encode(uri: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            uri.push(char::from(byte));
        } else {
            write!(uri, "%{byte:02X}").expect("a string takes any text");
        }
    }
}

/// The operation's path with `params` in their order, and the query of those of `query` that are there.
fn uri(operation: Operation, params: &[&dyn Display], query: &[(&str, Option<String>)]) -> String {
    let mut params = params.iter();
    let mut uri = String::new();
    for segment in operation.info().path.split('/').skip(1) {
        uri.push('/');
        match params.as_slice().first().filter(|_| segment.starts_with('{')) {
            Some(param) => {
                encode(&mut uri, &param.to_string());
                params.next();
            }
            None => uri.push_str(segment),
        }
    }
    let given = query.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    for (at, (name, value)) in given.enumerate() {
        uri.push(if at == 0 { '?' } else { '&' });
        uri.push_str(name);
        uri.push('=');
        encode(&mut uri, value);
    }
    uri
}

/// A number for a query.
fn number(value: Option<impl Display>) -> Option<String> {
    value.map(|value| value.to_string())
}

impl Client {
    async fn ask<B: Serialize, A: DeserializeOwned>(
        &self,
        operation: Operation,
        uri: String,
        body: Option<&B>,
    ) -> Result<A, Error> {
        let answer = self.call(operation, uri, body).await?;
        serde_json::from_slice(&answer).map_err(|_| Error::Answer)
    }
}

/// As [`uri`], of a page of a listing.
fn paged(operation: Operation, params: &[&dyn Display], page: &Page) -> String {
    let after = page.after.as_ref().map(ToString::to_string);
    uri(operation, params, &[("after", after), ("limit", number(page.limit))])
}

macro_rules! operations {
    ($($method:ident $operation:ident ($($param:ident: $type:ty),*) $([$body:ident])? -> $answer:ident;)*) => {
        impl Client {$(
            #[doc = concat!("Requests [`Operation::", stringify!($operation), "`].")]
            ///
            /// # Errors
            /// [`Error`].
            pub async fn $method(
                &self,
                $($param: $type,)*
                $(body: &body::$body,)?
            ) -> Result<answer::$answer, Error> {
                let uri = uri(Operation::$operation, &[$(&$param),*], &[]);
                self.ask(Operation::$operation, uri, operations!(@ $($body body)?)).await
            }
        )*}
    };
    (@ $type:ident $body:ident) => { Some($body) };
    (@) => { None::<&()> };
}

macro_rules! pages {
    ($($method:ident $operation:ident ($($param:ident: $type:ty)?) -> $answer:ident;)*) => {
        impl Client {$(
            #[doc = concat!("Requests [`Operation::", stringify!($operation), "`].")]
            ///
            /// # Errors
            /// [`Error`].
            pub async fn $method(&self, $($param: $type,)? page: &Page) -> Result<answer::$answer, Error> {
                let uri = paged(Operation::$operation, &[$(&$param)?], page);
                self.ask(Operation::$operation, uri, None::<&()>).await
            }
        )*}
    };
}

macro_rules! batches {
    ($($method:ident $operation:ident [$body:ident] -> $answer:ident;)*) => {
        impl Client {$(
            #[doc = concat!("Requests [`Operation::", stringify!($operation), "`] for each body with its key, many in one request.")]
            ///
            /// One that fails does not stop the others.
            ///
            /// # Errors
            /// [`Error`] if the whole was refused or not answered.
            pub async fn $method(
                &self,
                asked: &[(&str, body::$body)],
            ) -> Result<Vec<Result<answer::$answer, Error>>, Error> {
                self.batch(Operation::$operation, asked).await
            }
        )*}
    };
}

operations! {
    create_key CreateKey () [NewKey] -> Key;
    describe_key DescribeKey (key: &str) -> Key;
    update_key UpdateKey (key: &str) [KeyChange] -> Key;
    rotate_key RotateKey (key: &str) -> Key;
    activate_key ActivateKey (key: &str) [OfVersion] -> Key;
    suspend_key SuspendKey (key: &str) [KeyOrVersion] -> Key;
    resume_key ResumeKey (key: &str) [KeyOrVersion] -> Key;
    deactivate_key DeactivateKey (key: &str) [OfVersion] -> Key;
    compromise_key CompromiseKey (key: &str) [OfVersion] -> Key;
    schedule_destroy ScheduleDestroy (key: &str) [Schedule] -> Key;
    cancel_destroy CancelDestroy (key: &str) [Cancellation] -> Key;
    destroy_key DestroyKey (key: &str) [Destruction] -> Key;
    import_parameters ImportParameters (key: &str) [ImportTerms] -> ImportParameters;
    import_key ImportKey (key: &str) [Import] -> Key;
    unload_key UnloadKey (key: &str) [OfVersion] -> Key;
    export_key ExportKey (key: &str) [Export] -> Exported;
    last_use LastUse (key: &str) -> LastUse;
    set_alias SetAlias (key: &str, alias: &str) -> Key;
    delete_alias DeleteAlias (key: &str, alias: &str) -> Key;
    move_alias MoveAlias (key: &str, alias: &str) -> Key;

    encrypt Encrypt (key: &str) [Encrypt] -> Encrypted;
    decrypt Decrypt (key: &str) [Decrypt] -> Decrypted;
    rewrap Rewrap (key: &str) [Rewrap] -> Rewrapped;
    data_key DataKey (key: &str) [MakeDataKey] -> DataKey;
    data_key_without_plaintext DataKeyWithoutPlaintext (key: &str) [MakeDataKey] -> DataKey;
    data_key_pair DataKeyPair (key: &str) [MakeDataKeyPair] -> DataKeyPair;
    data_key_pair_without_plaintext DataKeyPairWithoutPlaintext (key: &str) [MakeDataKeyPair] -> DataKeyPair;
    sign Sign (key: &str) [Sign] -> Signature;
    verify Verify (key: &str) [Verify] -> Verified;
    mac Mac (key: &str) [ComputeMac] -> Mac;
    verify_mac VerifyMac (key: &str) [VerifyMac] -> Verified;
    wrap Wrap (key: &str) [Wrap] -> Wrapped;
    unwrap_key Unwrap (key: &str) [Unwrap] -> Unwrapped;
    agree Agree (key: &str) [Agree] -> Shared;
    encapsulate Encapsulate (key: &str) -> Encapsulated;
    decapsulate Decapsulate (key: &str) [Decapsulate] -> Shared;
    exchange Exchange (key: &str) [Exchange] -> Exchanged;
    random Random () [MakeRandom] -> Random;

    keep_secret KeepSecret (key: &str) [KeepSecret] -> KeptSecret;
    read_secret ReadSecret (key: &str) [ReadSecret] -> SecretValue;
    shred_secret ShredSecret (key: &str) [OfSecret] -> Done;

    volume_secret VolumeSecret (key: &str) [VolumeOf] -> VolumeSecret;
    recovery_secret RecoverySecret (key: &str) [VolumeOf] -> VolumeSecret;
    enroll_machine EnrollMachine () [NewMachine] -> Machine;
    describe_machine DescribeMachine (machine: PrincipalId) -> Machine;
    update_machine UpdateMachine (machine: PrincipalId) [MachineChange] -> Machine;
    decide_candidate DecideCandidate (machine: PrincipalId, candidate: RequestId) [CandidateDecision] -> Machine;
    decide_approval DecideApproval (approval: RequestId) [ApprovalDecision] -> Approval;

    create_grant CreateGrant (key: &str) [NewGrant] -> Grant;
    revoke_grant RevokeGrant (key: &str, grant: GrantId) -> Done;

    issue_identity IssueIdentity () [NewIdentity] -> IssuedIdentity;
    renew_identity RenewIdentity () [Renewal] -> IssuedIdentity;
    revoke_identity RevokeIdentity (identity: PrincipalId) -> Identity;
    set_roles SetRoles (identity: PrincipalId) [Roles] -> Identity;
    bind_certificate BindCertificate (identity: PrincipalId) [Certificate] -> Identity;
    who_am_i WhoAmI () -> WhoAmI;
    create_access_key CreateAccessKey () [NewAccessKey] -> IssuedAccessKey;
    disable_access_key DisableAccessKey (id: &str) -> Done;
    put_policy PutPolicy (policy: &Name) [Policy] -> Done;
    list_policies ListPolicies () -> Policies;
    delete_policy DeletePolicy (policy: &Name) -> Done;
    diff_policy DiffPolicy (policy: &Name) [PolicyDraft] -> PolicyDiff;
    test_policy TestPolicy () [Question] -> PolicyTest;
    who_can WhoCan (key: &str) -> WhoCan;
    put_key_policy PutKeyPolicy (key: &str) [KeyPolicy] -> Done;
    key_policy KeyPolicy (key: &str) -> KeyPolicyInForce;

    checkpoint Checkpoint () -> Checkpoint;

    create_tenant CreateTenant () [NewTenant] -> IssuedTenant;
    list_tenants ListTenants () -> Tenants;
    disable_tenant DisableTenant (tenant: TenantId) -> Done;
    enable_tenant EnableTenant (tenant: TenantId) -> Done;
    rotate_tenant_key RotateTenantKey (tenant: TenantId) -> Rotated;
    rotate_root RotateRoot () -> Rotated;
    rekey Rekey () [Rekey] -> Rekeying;
    seal Seal () -> Done;
    unseal Unseal () [Unseal] -> Status;
    status Status () -> Status;
}

pages! {
    list_keys ListKeys () -> Keys;
    list_secrets ListSecrets () -> Secrets;
    list_machines ListMachines () -> Machines;
    list_approvals ListApprovals () -> Approvals;
    list_grants ListGrants (key: &str) -> Grants;
    list_retirable_grants ListRetirableGrants (identity: PrincipalId) -> Grants;
    list_identities ListIdentities () -> Identities;
    list_access_keys ListAccessKeys () -> AccessKeys;
}

batches! {
    encrypt_all Encrypt [Encrypt] -> Encrypted;
    decrypt_all Decrypt [Decrypt] -> Decrypted;
    data_key_all DataKey [MakeDataKey] -> DataKey;
    keep_secrets KeepSecret [KeepSecret] -> KeptSecret;
    read_secrets ReadSecret [ReadSecret] -> SecretValue;
}

impl Client {
    /// Requests `operation` for each body with its key, in as few requests as the server takes. What was refused only
    /// because it came too soon, or the answers became too many, is asked again.
    async fn batch<B: Serialize, A: DeserializeOwned>(
        &self,
        operation: Operation,
        asked: &[(&str, B)],
    ) -> Result<Vec<Result<A, Error>>, Error> {
        let mut answers: Vec<Option<Result<A, Error>>> = asked.iter().map(|_| None).collect();
        let mut open: Vec<usize> = (0..asked.len()).collect();
        let mut tries_left = TRIES_MAX;
        while !open.is_empty() {
            let (mut again, mut wait_ms) = (Vec::new(), BATCH_WAIT_MS);
            for part in parts(&open, |&at| length(&Item { operation, asked: &asked[at] }))? {
                let items: Vec<_> = part.iter().map(|&at| Item { operation, asked: &asked[at] }).collect();
                let batch = Batch { requests: items };
                let answer = self.call(operation, BATCH_PATH.to_owned(), Some(&batch)).await?;
                let read: Answers<'_> = serde_json::from_slice(&answer).map_err(|_| Error::Answer)?;
                if read.answers.len() != part.len() {
                    return Err(Error::Answer);
                }
                for (&at, answered) in part.iter().zip(read.answers) {
                    let result = accept(answered.status, answered.body.get().as_bytes());
                    if let Err(Error::Refused { status: 429 | 503, problem }) = &result
                        && let Some(ms) = problem.retry_after_ms
                    {
                        wait_ms = wait_ms.max(ms);
                        again.push(at);
                    }
                    // The batch had answers enough.
                    if let Err(Error::Refused { status: 413, problem }) = &result
                        && problem.field.as_deref() == Some("answers")
                    {
                        again.push(at);
                    }
                    let read = |body| serde_json::from_slice(body).map_err(|_| Error::Answer);
                    answers[at] = Some(result.and_then(read));
                }
            }
            // Where a rate is limited some get through each time.
            tries_left = if again.len() < open.len() { TRIES_MAX } else { tries_left - 1 };
            if tries_left == 0 {
                break;
            }
            if !again.is_empty() {
                tokio::time::sleep(Duration::from_millis(wait_ms.into())).await;
            }
            open = again;
        }
        Ok(answers.into_iter().map(|answer| answer.unwrap_or(Err(Error::Answer))).collect())
    }

    /// Requests [`Operation::ListAliases`] of the tenant, or of this key.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn list_aliases(&self, key: Option<&str>, page: &Page) -> Result<answer::Aliases, Error> {
        let after = page.after.as_ref().map(ToString::to_string);
        let query = [("key", key.map(str::to_owned)), ("after", after), ("limit", number(page.limit))];
        self.ask(Operation::ListAliases, uri(Operation::ListAliases, &[], &query), None::<&()>).await
    }

    /// Requests [`Operation::PublicKey`] of this version, or of the primary one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn public_key(&self, key: &str, version: Option<u32>) -> Result<answer::PublicKey, Error> {
        let uri = uri(Operation::PublicKey, &[&key], &[("version", number(version))]);
        self.ask(Operation::PublicKey, uri, None::<&()>).await
    }

    /// Requests [`Operation::ListEntries`] from index `from` on, at most `limit` (1 to 1000) of them.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn list_entries(&self, from: u64, limit: Option<u32>) -> Result<answer::Entries, Error> {
        let query = [("from", Some(from.to_string())), ("limit", number(limit))];
        self.ask(Operation::ListEntries, uri(Operation::ListEntries, &[], &query), None::<&()>).await
    }

    /// Requests [`Operation::ProveEntry`] in the tree of `size` entries, or of the newest checkpoint.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn prove_entry(&self, index: u64, size: Option<u64>) -> Result<answer::InclusionProof, Error> {
        let uri = uri(Operation::ProveEntry, &[&index], &[("size", number(size))]);
        self.ask(Operation::ProveEntry, uri, None::<&()>).await
    }

    /// Requests [`Operation::ExportLog`]: the bytes of one file, by its path in C2SP tlog-tiles.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn export_log(&self, path: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
        let uri = uri(Operation::ExportLog, &[], &[("path", Some(path.to_owned()))]);
        self.call(Operation::ExportLog, uri, None::<&()>).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_filled_in_and_read_back() {
        assert_eq!(uri(Operation::SetAlias, &[&"a/b", &"c d?"], &[]), "/v1/keys/a%2Fb/aliases/c%20d%3F");
        assert_eq!(
            uri(Operation::Status, &[], &[("a", None), ("b", Some("&=".into()))]),
            "/v1/status?b=%26%3D"
        );
        let path = uri(Operation::Encrypt, &[&"team/db:1"], &[]);
        let (operation, params) = keyhearth_proto::rest::route("POST", &path).unwrap();
        assert_eq!(operation, Operation::Encrypt);
        let key: keyhearth_core::request::KeyRef = params.read("key").unwrap();
        assert_eq!(key, "team/db:1".parse().unwrap());
    }

    #[test]
    fn a_batch_is_cut_by_number_and_by_bytes() {
        let cut = |lengths: &[usize]| -> Vec<usize> {
            parts(lengths, |&len| Ok(len)).unwrap().into_iter().map(<[usize]>::len).collect()
        };
        assert_eq!(cut(&[]), [0; 0]);
        assert_eq!(cut(&[10; BATCH_MAX + 1]), [BATCH_MAX, 1]);
        let half = BODY_BYTES_MAX / 2 - BATCH_FRAME_BYTES;
        assert_eq!(cut(&[half, half, 1, half, 2 * BODY_BYTES_MAX, 5]), [3, 1, 1, 1]);
    }
}
