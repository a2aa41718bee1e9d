//! Rotation: by date, on demand, and what was rotated.

use keyhearth_core::Error;
use keyhearth_core::key::{Key, Origin};
use keyhearth_core::request::{Ask, KeyChange, Response as Answer};
use keyhearth_core::time::Now;
use keyhearth_proto::aws::{Exception, IncludeKeyMaterial, Kind, Listing, Operation, Place, input, output};

use super::Exchange;
use super::demand::Rule;
use super::metadata::rotations;
use super::refusal::{About, other_answer};

/// Days between automatic rotations unless the caller says otherwise.
const PERIOD_DAYS: u32 = 365;
/// Rotations of a page unless the caller says otherwise.
const ROTATIONS_USUAL: usize = 100;

/// What is demanded of a key that is rotated by date.
const BY_DATE: &[Rule] = &[Rule::Symmetric, Rule::Generated, Rule::Stays, Rule::Enabled];
/// What is demanded of a key that is rotated on demand.
const ON_DEMAND: &[Rule] = &[Rule::Symmetric, Rule::Stays, Rule::HasMaterial, Rule::Enabled];

impl Exchange<'_> {
    pub(super) async fn enable_key_rotation(&self, input: input::EnableKeyRotation) -> Result<(), Exception> {
        let days = input.rotation_period_in_days.unwrap_or(PERIOD_DAYS);
        self.set_rotation(Operation::EnableKeyRotation, &input.key_id, Some(days)).await
    }

    pub(super) async fn disable_key_rotation(
        &self,
        input: input::DisableKeyRotation,
    ) -> Result<(), Exception> {
        self.set_rotation(Operation::DisableKeyRotation, &input.key_id, None).await
    }

    async fn set_rotation(
        &self,
        operation: Operation,
        key_id: &str,
        days: Option<u32>,
    ) -> Result<(), Exception> {
        let change = KeyChange { rotate_days: Some(days), ..KeyChange::default() };
        let ask = Ask::UpdateKey { key: self.place.key(key_id)?, change };
        self.manage(ask, About::key(operation, key_id), BY_DATE).await.map(drop)
    }

    pub(super) async fn get_key_rotation_status(
        &self,
        input: input::GetKeyRotationStatus,
    ) -> Result<output::GetKeyRotationStatus, Exception> {
        let key = self.described(Operation::GetKeyRotationStatus, &input.key_id, &[]).await?;
        // A key that is going to be deleted is not rotated.
        let rotation = key.rotation.filter(|_| key.destroy_at.is_none());
        Ok(output::GetKeyRotationStatus {
            key_rotation_enabled: rotation.is_some(),
            key_id: self.place.key_arn(key.id),
            rotation_period_in_days: rotation.map(|rotation| rotation.every_days),
            next_rotation_date: rotation.map(|rotation| rotation.next),
            on_demand_rotation_start_date: None,
        })
    }

    pub(super) async fn rotate_key_on_demand(
        &self,
        input: input::RotateKeyOnDemand,
    ) -> Result<output::RotateKeyOnDemand, Exception> {
        let ask = Ask::RotateKey { key: self.place.key(&input.key_id)? };
        let place = self.place.clone();
        let brought = move |key: &Key, now: Now| has_new_material(&place, key, now);
        let (result, refused) = self.demand(ask, ON_DEMAND, brought).await;
        match result {
            Ok(Answer::Key(key)) => Ok(output::RotateKeyOnDemand { key_id: self.place.key_arn(key.id) }),
            Ok(_) => Err(other_answer()),
            Err(error) => Err(match (refused, error) {
                (Some(refused), _) => refused,
                (None, Error::TooLarge { field: "versions", .. }) => Exception::new(
                    Kind::LimitExceeded,
                    format!(
                        "The on-demand rotations limit has been reached for the given keyId. No more on-demand \
                         rotations can be performed for this key: {}",
                        input.key_id
                    ),
                ),
                (None, error) => self.refusal(error, About::key(Operation::RotateKeyOnDemand, &input.key_id)),
            }),
        }
    }

    pub(super) async fn list_key_rotations(
        &self,
        input: input::ListKeyRotations,
    ) -> Result<output::ListKeyRotations, Exception> {
        let include = input.include_key_material.unwrap_or(IncludeKeyMaterial::ROTATIONS_ONLY);
        let operation = Operation::ListKeyRotations;
        let filter = format!("{include} {}", input.key_id);
        let listing = Listing { caller: self.caller.principal, operation, filter: &filter };
        let page = listing.page(input.marker.as_deref(), input.limit, ROTATIONS_USUAL)?;
        let from = page.after.try_into().map_or(0, u32::from_be_bytes) as usize;
        let key = self.described(operation, &input.key_id, &[Rule::Symmetric]).await?;
        let all = rotations(&key, self.engine.now(), include);
        let end = from.saturating_add(page.limit);
        let next = u32::try_from(end).ok().filter(|_| end < all.len());
        Ok(output::ListKeyRotations {
            rotations: all.into_iter().skip(from).take(page.limit).collect(),
            truncated: next.is_some(),
            next_marker: next.map(|next| listing.marker(&next.to_be_bytes())),
        })
    }
}

/// An imported key is rotated to material that was imported for that.
fn has_new_material(place: &Place, key: &Key, now: Now) -> Result<(), Exception> {
    if key.origin == Origin::Imported && key.brought(now).is_none() {
        let arn = place.key_arn(key.id);
        let text = format!("No available key material pending rotation for the key: {arn}.");
        return Err(Exception::new(Kind::KMSInvalidState, text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use keyhearth_core::operation::Operation as CoreOperation;
    use keyhearth_core::state::Transition;
    use keyhearth_crypto::algorithm::Algorithm;

    use super::super::demand::check;
    use super::super::demand::tests::{ARN, NOW, key, place};
    use super::*;

    /// Source: recorded answers of AWS KMS.
    #[test]
    fn an_imported_key_is_rotated_to_what_was_brought() {
        let mut key = key(Algorithm::Aes256, Origin::Imported);
        assert_eq!(check(&place(), &key, NOW, ON_DEMAND).unwrap_err().kind, Kind::KMSInvalidState);
        key.versions[0].has_material = true;
        key.apply(1, Transition::Activate, CoreOperation::ImportKey, NOW).unwrap();
        check(&place(), &key, NOW, ON_DEMAND).unwrap();
        let refused = has_new_material(&place(), &key, NOW).unwrap_err();
        let text = format!("No available key material pending rotation for the key: {ARN}.");
        assert_eq!((refused.kind, refused.message), (Kind::KMSInvalidState, Some(text)));
        key.add_version(NOW, None, false).unwrap();
        assert!(has_new_material(&place(), &key, NOW).is_err());
        key.versions[1].has_material = true;
        has_new_material(&place(), &key, NOW).unwrap();
    }
}
