//! Key policies: put, get and list. What a document says is translated before it is stored, or it is refused.

#![expect(clippy::wildcard_enum_match_arm, reason = "each call takes the one answer that its request gives")]

use keyhearth_core::Error;
use keyhearth_core::id::Name;
use keyhearth_core::policy::NewKeyPolicy;
use keyhearth_core::request::{Ask, KeyRef, Response as Answer};
use keyhearth_proto::aws::policy::{Document, Label, Malformed, usual};
use keyhearth_proto::aws::{Exception, Kind, Listing, Operation, input, output};

use super::Exchange;
use super::grants::NOBODY;
use super::refusal::{About, other_answer};

/// The only policy of a key, by its name.
const DEFAULT: &str = "default";

/// A policy as a call gives it.
pub(super) struct Written {
    /// What core is asked to set.
    pub(super) policy: NewKeyPolicy,
    /// The first identity that it names and that there is not.
    unknown: Option<(Name, Label)>,
}

impl Written {
    /// Words a refusal of core that is because of the policy.
    pub(super) fn refusal(&self, error: Error) -> Option<Exception> {
        let reason = match (error, &self.unknown) {
            (Error::NotFound("identity"), Some((name, label))) => {
                let reason = format!("there is no identity of the name {name}");
                Malformed { statement: Some(label.clone()), reason }.to_string()
            }
            (Error::NotFound("identity"), None) => "The policy names an identity that is revoked.".to_owned(),
            (Error::TooLarge { field: "text" | "document", .. }, _) => "The policy is too long.".to_owned(),
            (Error::Invalid { field: "text", rule }, _) => {
                format!("The policy cannot be used here: what it says {rule}.")
            }
            _ => return None,
        };
        Some(malformed(reason))
    }
}

fn malformed(reason: String) -> Exception {
    Exception::new(Kind::MalformedPolicyDocument, reason)
}

fn only_default(name: Option<&str>) -> Result<(), Exception> {
    match name {
        None | Some(DEFAULT) => Ok(()),
        Some(_) => Err(Exception::new(Kind::NotFound, "No such policy exists")),
    }
}

impl Exchange<'_> {
    /// Reads a policy for a key; one that is only being made has no ARN yet.
    pub(super) async fn written(&self, text: String, key: Option<&KeyRef>) -> Result<Written, Exception> {
        let arn = match key {
            Some(KeyRef::Id(id)) => Some(self.place.key_arn(*id)),
            Some(KeyRef::Alias(_)) | None => None,
        };
        let document = Document::parse(&text, self.place, arn.as_deref())
            .map_err(|refused| malformed(refused.to_string()))?;
        let known = self.identities(document.identities().map(|(name, _)| name.clone()).collect()).await?;
        let unknown = document.identities().find(|(name, _)| !known.contains_key(*name));
        let unknown = unknown.map(|(name, label)| (name.clone(), label.clone()));
        let cedar = document.cedar(|name| known.get(name).copied().unwrap_or(NOBODY));
        let policy = NewKeyPolicy { closed: document.is_closed(), text: cedar, document: Some(text) };
        Ok(Written { policy, unknown })
    }

    pub(super) async fn put_key_policy(&self, input: input::PutKeyPolicy) -> Result<(), Exception> {
        only_default(input.policy_name.as_deref())?;
        let key = self.place.key(&input.key_id)?;
        // What is wrong with the document is said to who may set one.
        let (written, fault) = match self.written(input.policy, Some(&key)).await {
            Ok(written) => (written, None),
            Err(fault) => (Written { policy: NewKeyPolicy::default(), unknown: None }, Some(fault)),
        };
        let ask = Ask::PutKeyPolicy { key, policy: written.policy.clone() };
        let (result, demanded) = self.demand(ask, &[], move |_, _| fault.clone().map_or(Ok(()), Err)).await;
        result.map(drop).map_err(|error| {
            demanded
                .or_else(|| written.refusal(error))
                .unwrap_or_else(|| self.refusal(error, About::key(Operation::PutKeyPolicy, &input.key_id)))
        })
    }

    pub(super) async fn get_key_policy(
        &self,
        input: input::GetKeyPolicy,
    ) -> Result<output::GetKeyPolicy, Exception> {
        let ask = Ask::KeyPolicy { key: self.place.key(&input.key_id)? };
        let about = About::key(Operation::GetKeyPolicy, &input.key_id);
        let answer = self.manage(ask, about, &[]).await?;
        only_default(input.policy_name.as_deref())?;
        let policy = match answer {
            Answer::KeyPolicy { document: Some(document), .. } => document,
            Answer::KeyPolicy { text: None, closed: false, .. } => usual(self.place),
            Answer::KeyPolicy { .. } => {
                let text = "This key's policy is written in Cedar, which AWS's policies cannot say.";
                return Err(Exception::new(Kind::UnsupportedOperation, text));
            }
            _ => return Err(other_answer()),
        };
        Ok(output::GetKeyPolicy { policy, policy_name: DEFAULT.to_owned() })
    }

    pub(super) async fn list_key_policies(
        &self,
        input: input::ListKeyPolicies,
    ) -> Result<output::ListKeyPolicies, Exception> {
        let operation = Operation::ListKeyPolicies;
        let listing = Listing { caller: self.caller.principal, operation, filter: &input.key_id };
        listing.page(input.marker.as_deref(), input.limit, 1)?;
        self.described(operation, &input.key_id, &[]).await?;
        let policy_names = vec![DEFAULT.to_owned()];
        Ok(output::ListKeyPolicies { policy_names, next_marker: None, truncated: false })
    }
}
