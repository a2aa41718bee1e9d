//! Grants: make, list, retire and revoke.
//!
//! Grants of core, narrowed as AWS narrows them. Different from AWS, nobody grants what it does not hold itself,
//! and `RetireGrant` and `RevokeGrant` are one operation: who made a grant, has it or is named to retire it may end
//! it by either.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "each call takes the one answer that its request gives, and words few of its refusals itself"
)]

use std::collections::{BTreeMap, BTreeSet};

use keyhearth_core::Error;
use keyhearth_core::grant::{GRANTS_PER_KEY_MAX, Grant};
use keyhearth_core::id::{GrantId, KeyId, Name, PrincipalId};
use keyhearth_core::operation::Operation as CoreOperation;
use keyhearth_core::request::{Ask, KeyRef, NewGrant, Page, Response as Answer};
use keyhearth_proto::aws::{
    Call, Exception, GrantConstraints, GrantListEntry, GrantOperation, Kind, Listing, Operation, grant_id,
    grant_token, input, output, read_grant_id, read_grant_token, unknown_identity,
};

use super::Exchange;
use super::demand::Rule;
use super::refusal::{About, other_answer, ours, performed};

/// Grants of a page unless the caller says otherwise, and the most.
const GRANTS_USUAL: usize = 50;
const GRANTS_MAX: u32 = 100;

/// Stands for an identity that there is not: what names it is first decided like everything else, and then
/// refused.
pub(super) const NOBODY: PrincipalId = PrincipalId([0; 16]);
/// In the same way for a grant.
const NO_GRANT: GrantId = GrantId([0; 16]);

impl Exchange<'_> {
    pub(super) async fn create_grant(
        &self,
        input: input::CreateGrant,
    ) -> Result<output::CreateGrant, Exception> {
        if input.grantee_service_principal.is_some() || input.retiring_service_principal.is_some() {
            return Err(no_services());
        }
        let grantee =
            input.grantee_principal.as_deref().ok_or_else(|| Exception::missing("granteePrincipal"))?;
        let parties = self.parties([Some(grantee), input.retiring_principal.as_deref()]).await?;
        let [grantee_id, retiree] = parties;
        let constraints = input.constraints.unwrap_or(NO_CONSTRAINTS);
        if constraints.source_arn.is_some() {
            let text = "SourceArn is for grants to services of AWS, of which there are none here.";
            return Err(Exception::new(Kind::UnsupportedOperation, text));
        }
        let wanted = |operation: &&GrantOperation| **operation != GrantOperation::CreateGrant;
        let new = NewGrant {
            operations: input.operations.iter().filter(wanted).map(|one| one.operation()).collect(),
            context: constraints.encryption_context_subset.into_iter().flatten().collect(),
            exact_context: constraints.encryption_context_equals.map(|pairs| pairs.into_iter().collect()),
            delegable: input.operations.contains(&GrantOperation::CreateGrant),
            name: input.name,
            retiree,
            ..NewGrant::new(self.place.key(&input.key_id)?, grantee_id.unwrap_or(NOBODY), Vec::new())
        };
        let rules = &[Rule::Stays, Rule::HasMaterial, Rule::Enabled];
        let dry_run = input.dry_run.unwrap_or(false);
        let (result, demanded) = self.try_demand(Ask::CreateGrant(new), dry_run, rules, |_, _| Ok(())).await;
        let answer = result.map_err(|error| match (demanded, error) {
            (Some(demanded), _) => demanded,
            (None, Error::Conflict("the retiree is revoked")) => {
                unknown_identity(input.retiring_principal.as_deref().unwrap_or_default())
            }
            (None, Error::Conflict("the grantee is revoked")) => unknown_identity(grantee),
            (None, Error::NotFound("identity")) => match grantee_id {
                None => unknown_identity(grantee),
                Some(_) => unknown_identity(input.retiring_principal.as_deref().unwrap_or_default()),
            },
            (None, error) => self.refusal(error, About::key(Operation::CreateGrant, &input.key_id)),
        })?;
        match performed(answer)? {
            Answer::Grant(grant) => Ok(output::CreateGrant {
                grant_token: grant_token(grant.key, grant.id),
                grant_id: grant_id(grant.key, grant.id),
            }),
            _ => Err(other_answer()),
        }
    }

    pub(super) async fn list_grants(
        &self,
        input: input::ListGrants,
    ) -> Result<output::ListGrants, Exception> {
        if input.grantee_service_principal.is_some() {
            return Err(no_services());
        }
        let [grantee] = self.parties([input.grantee_principal.as_deref()]).await?;
        let grant = input.grant_id.as_deref().map(named).transpose()?;
        let filter = format!("{} {grant:?} {grantee:?}", input.key_id);
        let listing =
            Listing { caller: self.caller.principal, operation: Operation::ListGrants, filter: &filter };
        let page = listing.page(input.marker.as_deref(), limit(input.limit), GRANTS_USUAL)?;
        // All grants of a key are one page of core's.
        let all = Page { after: page.after, limit: GRANTS_PER_KEY_MAX };
        let ask = Ask::ListGrants { key: self.place.key(&input.key_id)?, page: all };
        let about = About::key(Operation::ListGrants, &input.key_id);
        let Answer::Grants { grants, .. } = self.manage(ask, about, &[]).await? else {
            return Err(other_answer());
        };
        let listed = |one: &Grant| {
            grant.is_none_or(|named| (one.key, one.id) == named)
                && grantee.is_none_or(|grantee| one.grantee == grantee)
        };
        let mut grants: Vec<Grant> = grants.into_iter().filter(listed).collect();
        let truncated = grants.len() > page.limit;
        grants.truncate(page.limit);
        let last = grants.last().filter(|_| truncated);
        let next_marker = last.map(|last| listing.marker(&last.id.0));
        Ok(output::ListGrants { grants: self.entries(grants).await?, next_marker, truncated })
    }

    pub(super) async fn list_retirable_grants(
        &self,
        input: input::ListRetirableGrants,
    ) -> Result<output::ListRetirableGrants, Exception> {
        if input.retiring_service_principal.is_some() {
            return Err(no_services());
        }
        let arn =
            input.retiring_principal.as_deref().ok_or_else(|| Exception::missing("retiringPrincipal"))?;
        let [retiree] = self.parties([Some(arn)]).await?;
        let operation = Operation::ListRetirableGrants;
        let listing = Listing { caller: self.caller.principal, operation, filter: arn };
        let page = listing.page(input.marker.as_deref(), limit(input.limit), GRANTS_USUAL)?;
        let ask = Ask::ListRetirableGrants { identity: retiree.unwrap_or(NOBODY), page };
        let about = About { operation, key_id: None, algorithm: None };
        match self.perform(ask, None, about).await? {
            Answer::Grants { grants, next } => Ok(output::ListRetirableGrants {
                grants: self.entries(grants).await?,
                truncated: next.is_some(),
                next_marker: next.map(|cursor| listing.marker(&cursor)),
            }),
            _ => Err(other_answer()),
        }
    }

    pub(super) async fn revoke_grant(&self, input: input::RevokeGrant) -> Result<(), Exception> {
        let (key, grant) = (self.place.key(&input.key_id)?, named(&input.grant_id)?);
        let about = About::key(Operation::RevokeGrant, &input.key_id);
        self.end_grant(key, grant, input.dry_run, about).await
    }

    pub(super) async fn retire_grant(&self, input: input::RetireGrant) -> Result<(), Exception> {
        let (key, grant) = match (&input.grant_token, &input.key_id, &input.grant_id) {
            (Some(token), None, None) => {
                let named = read_grant_token(token).ok_or_else(invalid_grant_token)?;
                (KeyRef::Id(named.0), named)
            }
            (None, Some(key), Some(grant)) => (self.place.key(key)?, named(grant)?),
            _ => {
                let text = "A grant to be retired is named by its token, or by its key and its id.";
                return Err(Exception::new(Kind::Validation, text));
            }
        };
        let arn = match &key {
            KeyRef::Id(id) => Some(self.place.key_arn(*id)),
            KeyRef::Alias(_) => input.key_id.clone(),
        };
        let about = About { operation: Operation::RetireGrant, key_id: arn.as_deref(), algorithm: None };
        self.end_grant(key, grant, input.dry_run, about).await
    }

    async fn end_grant(
        &self,
        key: KeyRef,
        (of_key, grant): (KeyId, GrantId),
        dry_run: Option<bool>,
        about: About<'_>,
    ) -> Result<(), Exception> {
        // The id of a grant on another key is that of none on this one.
        let id = if key == KeyRef::Id(of_key) || matches!(key, KeyRef::Alias(_)) { grant } else { NO_GRANT };
        match self.run(Ask::RevokeGrant { key, grant: id }, dry_run.unwrap_or(false)).await {
            Ok(answer) => performed(answer).map(drop),
            Err(Error::NotFound("grant")) => {
                let text = format!("Grant ID {} not found", grant_id(of_key, grant));
                Err(Exception::new(Kind::NotFound, text))
            }
            Err(error) => Err(self.refusal(error, about)),
        }
    }

    /// The identities that these ARNs name: [`NOBODY`] for a name that there is not.
    async fn parties<const N: usize>(
        &self,
        arns: [Option<&str>; N],
    ) -> Result<[Option<PrincipalId>; N], Exception> {
        let mut names: Vec<Option<Name>> = Vec::with_capacity(N);
        for arn in arns {
            names.push(arn.map(|arn| self.place.identity(arn)).transpose()?);
        }
        let found = self.identities(names.iter().flatten().cloned().collect()).await?;
        let mut ids =
            names.iter().map(|name| name.as_ref().map(|name| found.get(name).copied().unwrap_or(NOBODY)));
        Ok(std::array::from_fn(|_| ids.next().flatten()))
    }

    /// The ids of identities by name, as far as they are.
    pub(super) async fn identities(
        &self,
        names: BTreeSet<Name>,
    ) -> Result<BTreeMap<Name, PrincipalId>, Exception> {
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let found = self.engine.identities_named(self.caller.tenant, names).await;
        found.map_err(ours)
    }

    async fn entries(&self, grants: Vec<Grant>) -> Result<Vec<GrantListEntry>, Exception> {
        let parties = grants.iter().flat_map(|grant| [Some(grant.grantee), grant.retiree]).flatten();
        let names = self.engine.names_of(self.caller.tenant, parties.collect()).await;
        let names = names.map_err(ours)?;
        Ok(grants.into_iter().map(|grant| self.entry(grant, &names)).collect())
    }

    fn entry(&self, grant: Grant, names: &BTreeMap<PrincipalId, Name>) -> GrantListEntry {
        let arn = |id: &PrincipalId| names.get(id).map(|name| self.place.identity_arn(name));
        let listed = |operation: &&GrantOperation| match operation.operation() {
            CoreOperation::CreateGrant => grant.delegable,
            operation => grant.operations.contains(&operation.info().code),
        };
        let constraints = GrantConstraints {
            encryption_context_subset: (!grant.context.is_empty())
                .then(|| grant.context.clone().into_iter().collect()),
            encryption_context_equals: grant.exact_context.clone().map(|pairs| pairs.into_iter().collect()),
            source_arn: None,
        };
        let constrained = !grant.context.is_empty() || grant.exact_context.is_some();
        GrantListEntry {
            key_id: self.place.key_arn(grant.key),
            grant_id: grant_id(grant.key, grant.id),
            operations: GrantOperation::ALL.iter().filter(listed).copied().collect(),
            creation_date: grant.created,
            grantee_principal: arn(&grant.grantee),
            retiring_principal: grant.retiree.as_ref().and_then(arn),
            issuing_account: self.place.root_arn(),
            constraints: constrained.then_some(constraints),
            name: grant.name,
            grantee_service_principal: None,
            retiring_service_principal: None,
        }
    }
}

/// Without a constraint.
const NO_CONSTRAINTS: GrantConstraints =
    GrantConstraints { encryption_context_subset: None, encryption_context_equals: None, source_arn: None };

/// The grant tokens that a call brings along.
macro_rules! tokens_of {
    ($call:ident: $($name:ident)+) => {
        match $call {
            $(Call::$name(input) => input.grant_tokens.as_deref().unwrap_or_default(),)+
            _ => &[],
        }
    };
}

/// Checks the form of a call's grant tokens. A grant holds from the moment it is made, so there is nothing else to
/// them.
pub(super) fn check_grant_tokens(call: &Call) -> Result<(), Exception> {
    let tokens = tokens_of!(call: CreateGrant Decapsulate Decrypt DeriveSharedSecret DescribeKey Encapsulate Encrypt
        GenerateDataKey GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext GenerateDataKeyWithoutPlaintext
        GenerateMac GetPublicKey ReEncrypt Sign Verify VerifyMac);
    let good = |token: &String| read_grant_token(token).is_some();
    if tokens.iter().all(good) { Ok(()) } else { Err(invalid_grant_token()) }
}

fn invalid_grant_token() -> Exception {
    Exception::silent(Kind::InvalidGrantToken)
}

fn named(grant: &str) -> Result<(KeyId, GrantId), Exception> {
    read_grant_id(grant)
        .ok_or_else(|| Exception::new(Kind::InvalidGrantId, format!("Grant ID {grant} is not valid")))
}

fn limit(limit: Option<u32>) -> Option<u32> {
    limit.map(|limit| limit.min(GRANTS_MAX))
}

fn no_services() -> Exception {
    let text = "There are no services of AWS here: grants are to identities of this account.";
    Exception::new(Kind::UnsupportedOperation, text)
}
