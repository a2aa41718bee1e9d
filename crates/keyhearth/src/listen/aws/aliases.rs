//! Aliases: `alias/NAME` leads to a key, and can be moved to another of its kind.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "each call takes the one answer that its request gives, and words few of its refusals itself"
)]

use keyhearth_core::Error;
use keyhearth_core::id::Alias;
use keyhearth_core::key::AliasOf;
use keyhearth_core::request::{Ask, KeyRef, Response as Answer, UNLIKE};
use keyhearth_proto::aws::{AliasListEntry, Exception, Kind, Listing, Operation, Place, input, output};

use super::Exchange;
use super::keys::KEPT;
use super::refusal::{About, other_answer};

/// Aliases of a page unless the caller says otherwise, and at most.
const ALIASES_USUAL: usize = 50;
const ALIASES_MAX: u32 = 100;

/// Names that AWS keeps for itself.
const RESERVED: &str = "aws/";

/// An alias that a caller may make or move.
fn own_alias(place: &Place, text: &str) -> Result<Alias, Exception> {
    let alias = place.alias(text)?;
    if alias.as_str().starts_with(RESERVED) {
        let text = format!("Alias names that begin with alias/{RESERVED} are reserved: '{text}'");
        return Err(Exception::new(Kind::Validation, text));
    }
    Ok(alias)
}

/// The key that an alias is to lead to: by its id, never by an alias.
fn target(place: &Place, text: &str) -> Result<KeyRef, Exception> {
    match place.key(text)? {
        KeyRef::Alias(_) => Err(Exception::new(Kind::Validation, "Aliases must refer to keys. Not aliases")),
        id @ KeyRef::Id(_) => Ok(id),
    }
}

impl Exchange<'_> {
    pub(super) async fn create_alias(&self, input: input::CreateAlias) -> Result<(), Exception> {
        let alias = own_alias(self.place, &input.alias_name)?;
        let key = target(self.place, &input.target_key_id)?;
        let name = self.place.alias_arn(&alias);
        let exists =
            Exception::new(Kind::AlreadyExists, format!("An alias with the name {name} already exists"));
        // Core gives a key its alias again; AWS does not.
        let (again, had) = (exists.clone(), alias.clone());
        let fresh = move |key: &keyhearth_core::key::Key, _| match key.aliases.contains(&had) {
            true => Err(again.clone()),
            false => Ok(()),
        };
        let (result, refused) = self.demand(Ask::SetAlias { key, alias }, KEPT, fresh).await;
        result.map(drop).map_err(|error| match (refused, error) {
            (Some(refused), _) => refused,
            (None, Error::Conflict(_)) => exists,
            (None, error) => self.refusal(error, About::key(Operation::CreateAlias, &input.target_key_id)),
        })
    }

    pub(super) async fn update_alias(&self, input: input::UpdateAlias) -> Result<(), Exception> {
        let alias = own_alias(self.place, &input.alias_name)?;
        let key = target(self.place, &input.target_key_id)?;
        let ask = Ask::MoveAlias { key, alias: alias.clone() };
        let (result, refused) = self.demand(ask, KEPT, |_, _| Ok(())).await;
        result.map(drop).map_err(|error| match (refused, error) {
            (Some(refused), _) => refused,
            (None, Error::NotFound("alias")) => self.place.missing(&KeyRef::Alias(alias)),
            (None, UNLIKE) => Exception::new(
                Kind::Validation,
                "The present and the new KMS key of an alias must be of the same type and have the same key usage.",
            ),
            (None, error) => self.refusal(error, About::key(Operation::UpdateAlias, &input.target_key_id)),
        })
    }

    pub(super) async fn delete_alias(&self, input: input::DeleteAlias) -> Result<(), Exception> {
        let alias = self.place.alias(&input.alias_name)?;
        let ask = Ask::DeleteAlias { key: KeyRef::Alias(alias.clone()), alias };
        let about = About::key(Operation::DeleteAlias, &input.alias_name);
        self.perform(ask, None, about).await.map(drop)
    }

    pub(super) async fn list_aliases(
        &self,
        input: input::ListAliases,
    ) -> Result<output::ListAliases, Exception> {
        let of = input.key_id.as_deref().map(|key_id| self.place.key(key_id)).transpose()?;
        let listing = Listing {
            caller: self.caller.principal,
            operation: Operation::ListAliases,
            filter: input.key_id.as_deref().unwrap_or_default(),
        };
        let limit = input.limit.map(|limit| limit.min(ALIASES_MAX));
        let page = listing.page(input.marker.as_deref(), limit, ALIASES_USUAL)?;
        let about =
            About { operation: Operation::ListAliases, key_id: input.key_id.as_deref(), algorithm: None };
        match self.perform(Ask::ListAliases { of, page }, None, about).await? {
            Answer::Aliases { aliases, next } => Ok(output::ListAliases {
                aliases: aliases.iter().map(|(alias, of)| entry(self.place, alias, of)).collect(),
                truncated: next.is_some(),
                next_marker: next.map(|cursor| listing.marker(&cursor)),
            }),
            _ => Err(other_answer()),
        }
    }
}

fn entry(place: &Place, alias: &Alias, of: &AliasOf) -> AliasListEntry {
    AliasListEntry {
        alias_name: format!("alias/{alias}"),
        alias_arn: place.alias_arn(alias),
        target_key_id: Some(of.key.to_string()),
        creation_date: of.created,
        last_updated_date: of.updated,
    }
}

#[cfg(test)]
mod tests {
    use super::super::demand::tests::{ARN, place};
    use super::*;

    #[test]
    fn aliases_are_named_under_a_prefix_and_lead_to_keys() {
        assert_eq!(own_alias(&place(), "alias/orders").unwrap().as_str(), "orders");
        assert_eq!(own_alias(&place(), "alias/aws/s3").unwrap_err().kind, Kind::Validation);
        assert_eq!(own_alias(&place(), "alias/awsome").unwrap().as_str(), "awsome");
        assert_eq!(own_alias(&place(), "orders").unwrap_err().kind, Kind::Validation);
        assert!(matches!(target(&place(), ARN), Ok(KeyRef::Id(_))));
        assert_eq!(target(&place(), "alias/orders").unwrap_err().kind, Kind::Validation);
    }
}
