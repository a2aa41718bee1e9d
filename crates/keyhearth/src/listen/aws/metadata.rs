//! What AWS says of a key: `KeyMetadata`, the materials of a key, and what a call to make one asks for.

use keyhearth_core::key::{Key, Origin as CoreOrigin, Version};
use keyhearth_core::state::State;
use keyhearth_core::time::Now;
use keyhearth_proto::aws::{
    Exception, ExpirationModel, ImportState, IncludeKeyMaterial, KeyManager, KeyMaterialState, KeyMetadata,
    KeySpec, KeyState, KeyUsage, Kind, Origin, Place, RotationType, RotationsListEntry, material_id,
};

use super::demand::state;

/// What AWS calls a key of this kind.
///
/// # Errors
/// [`Kind::UnsupportedOperation`] for keys that were made elsewhere and that AWS has no word for.
pub(super) fn kind(place: &Place, key: &Key) -> Result<(KeySpec, KeyUsage), Exception> {
    KeySpec::of(key.algorithm).zip(KeyUsage::of(key.usage)).ok_or_else(|| {
        let (arn, algorithm) = (place.key_arn(key.id), key.algorithm.name());
        let text = format!("{arn} is of a kind that this protocol has no name for: {algorithm}.");
        Exception::new(Kind::UnsupportedOperation, text)
    })
}

/// The description of a key that is left.
///
/// # Errors
/// As [`kind`] says.
pub(super) fn metadata(place: &Place, key: &Key, now: Now) -> Result<KeyMetadata, Exception> {
    let (spec, usage) = kind(place, key)?;
    let state = state(key, now);
    let primary = key.primary().ok();
    let loaded = primary.filter(|version| key.origin == CoreOrigin::Imported && version.has_material_at(now));
    let ends = loaded.and_then(|version| version.expires);
    let known = primary.filter(|version| spec == KeySpec::SYMMETRIC_DEFAULT && version.had_material());
    Ok(KeyMetadata {
        aws_account_id: place.account().to_owned(),
        key_id: key.id.to_string(),
        arn: place.key_arn(key.id),
        creation_date: key.created,
        enabled: state == KeyState::Enabled,
        description: key.description.clone(),
        key_usage: usage,
        key_state: state,
        deletion_date: key.destroy_at,
        valid_to: ends,
        origin: match key.origin {
            CoreOrigin::Generated => Origin::AWS_KMS,
            CoreOrigin::Imported => Origin::EXTERNAL,
        },
        custom_key_store_id: None,
        cloud_hsm_cluster_id: None,
        expiration_model: loaded.map(expiration_model),
        key_manager: KeyManager::CUSTOMER,
        customer_master_key_spec: spec.former(),
        key_spec: spec,
        encryption_algorithms: spec.encryption_algorithms(usage),
        signing_algorithms: spec.signing_algorithms(usage),
        key_agreement_algorithms: spec.key_agreement_algorithms(usage),
        encapsulation_algorithms: spec.encapsulation_algorithms(usage),
        multi_region: false,
        multi_region_configuration: None,
        pending_deletion_window_in_days: None,
        mac_algorithms: spec.mac_algorithms(usage),
        xks_key_configuration: None,
        current_key_material_id: known.map(|version| material_id(key.id, version.number)),
    })
}

/// The rotations of a key, oldest first; or all its materials, the first one and one that awaits its rotation too.
pub(super) fn rotations(key: &Key, now: Now, include: IncludeKeyMaterial) -> Vec<RotationsListEntry> {
    let all = include == IncludeKeyMaterial::ALL_KEY_MATERIAL;
    let listed = |version: &&Version| {
        let rotated = version.number > 1 && version.state != State::PreActive;
        version.had_material() && version.state != State::Destroyed && (all || rotated)
    };
    key.versions.iter().filter(listed).map(|version| rotation(key, version, now)).collect()
}

fn rotation(key: &Key, version: &Version, now: Now) -> RotationsListEntry {
    let imported = key.origin == CoreOrigin::Imported;
    let loaded = Some(version).filter(|version| imported && version.has_material_at(now));
    let import_state = if loaded.is_some() { ImportState::IMPORTED } else { ImportState::PENDING_IMPORT };
    let rotated = version.number > 1 && version.state != State::PreActive;
    let rotation_type = if version.automatic { RotationType::AUTOMATIC } else { RotationType::ON_DEMAND };
    RotationsListEntry {
        key_id: key.id.to_string(),
        key_material_id: Some(material_id(key.id, version.number)),
        key_material_description: version.description.clone(),
        import_state: imported.then_some(import_state),
        key_material_state: Some(match version.state {
            _ if version.number == key.primary => KeyMaterialState::CURRENT,
            State::PreActive => KeyMaterialState::PENDING_ROTATION,
            State::Active | State::Suspended | State::Deactivated | State::Compromised | State::Destroyed => {
                KeyMaterialState::NON_CURRENT
            }
        }),
        expiration_model: loaded.map(expiration_model),
        valid_to: loaded.and_then(|version| version.expires),
        rotation_date: rotated.then(|| version.activation.unwrap_or(version.created)),
        rotation_type: rotated.then_some(rotation_type),
    }
}

fn expiration_model(version: &Version) -> ExpirationModel {
    match version.expires {
        Some(_) => ExpirationModel::KEY_MATERIAL_EXPIRES,
        None => ExpirationModel::KEY_MATERIAL_DOES_NOT_EXPIRE,
    }
}

#[cfg(test)]
mod tests {
    use keyhearth_core::key::Usage;
    use keyhearth_core::operation::Operation;
    use keyhearth_core::state::Transition;
    use keyhearth_crypto::algorithm::Algorithm;
    use keyhearth_proto::aws::{EncryptionAlgorithm, MacAlgorithm, SigningAlgorithm};

    use super::super::demand::tests::{ARN, NOW, key, place};
    use super::*;

    /// Source: recorded answers of AWS KMS.
    #[test]
    fn a_symmetric_key_is_described_as_by_aws() {
        let key = key(Algorithm::Aes256, CoreOrigin::Generated);
        let said = metadata(&place(), &key, NOW).unwrap();
        assert_eq!((said.aws_account_id.as_str(), said.arn.as_str()), ("111122223333", ARN));
        assert_eq!((said.key_state, said.enabled), (KeyState::Enabled, true));
        assert_eq!((said.key_spec, said.key_usage), (KeySpec::SYMMETRIC_DEFAULT, KeyUsage::ENCRYPT_DECRYPT));
        assert_eq!(said.encryption_algorithms, Some(vec![EncryptionAlgorithm::SYMMETRIC_DEFAULT]));
        assert_eq!((said.signing_algorithms, said.mac_algorithms), (None, None));
        assert_eq!((said.origin, said.expiration_model, said.valid_to), (Origin::AWS_KMS, None, None));
        assert_eq!(said.current_key_material_id, Some(material_id(key.id, 1)));
        assert_eq!((said.multi_region, said.key_manager), (false, KeyManager::CUSTOMER));
    }

    #[test]
    fn other_kinds_list_their_algorithms_and_name_no_material() {
        let rsa = metadata(&place(), &key(Algorithm::Rsa2048, CoreOrigin::Generated), NOW).unwrap();
        assert_eq!((rsa.key_usage, rsa.current_key_material_id), (KeyUsage::SIGN_VERIFY, None));
        assert_eq!(rsa.signing_algorithms.unwrap()[0], SigningAlgorithm::RSASSA_PKCS1_V1_5_SHA_256);
        let mac = metadata(&place(), &key(Algorithm::HmacSha256, CoreOrigin::Generated), NOW).unwrap();
        assert_eq!(mac.mac_algorithms, Some(vec![MacAlgorithm::HMAC_SHA_256]));
        let mut wrapping = key(Algorithm::Aes256, CoreOrigin::Generated);
        wrapping.usage = Usage::new(["wrap", "unwrap"], Algorithm::Aes256).unwrap();
        for nameless in [key(Algorithm::Aes128, CoreOrigin::Generated), wrapping] {
            assert_eq!(metadata(&place(), &nameless, NOW).unwrap_err().kind, Kind::UnsupportedOperation);
        }
    }

    #[test]
    fn imported_material_shows_when_it_ends() {
        let mut key = key(Algorithm::Aes256, CoreOrigin::Imported);
        let said = |key: &Key| {
            let said = metadata(&place(), key, NOW).unwrap();
            (said.key_state, said.expiration_model, said.valid_to, said.current_key_material_id)
        };
        assert_eq!(said(&key), (KeyState::PendingImport, None, None, None));
        let material = Some(material_id(key.id, 1));
        let version = &mut key.versions[0];
        (version.has_material, version.check) = (true, Some([1; 32]));
        key.apply(1, Transition::Activate, Operation::ImportKey, NOW).unwrap();
        let for_ever = Some(ExpirationModel::KEY_MATERIAL_DOES_NOT_EXPIRE);
        assert_eq!(said(&key), (KeyState::Enabled, for_ever, None, material.clone()));
        let end = Some(NOW.latest.plus_days(1));
        key.versions[0].expires = end;
        let ends = Some(ExpirationModel::KEY_MATERIAL_EXPIRES);
        assert_eq!(said(&key), (KeyState::Enabled, ends, end, material.clone()));
        key.versions[0].expires = Some(NOW.latest);
        assert_eq!(said(&key), (KeyState::PendingImport, None, None, material.clone()), "it has ended");
        (key.versions[0].has_material, key.versions[0].expires) = (false, None);
        assert_eq!(said(&key), (KeyState::PendingImport, None, None, material));
    }

    #[test]
    fn rotations_are_listed_and_materials_on_demand() {
        let mut key = key(Algorithm::Aes256, CoreOrigin::Generated);
        key.add_version(NOW, None, true).unwrap();
        key.versions[1].automatic = true;
        key.add_version(NOW, None, true).unwrap();
        let listed = rotations(&key, NOW, IncludeKeyMaterial::ROTATIONS_ONLY);
        let of = |entry: &RotationsListEntry| (entry.rotation_type, entry.key_material_state);
        let expected = [
            (Some(RotationType::AUTOMATIC), Some(KeyMaterialState::NON_CURRENT)),
            (Some(RotationType::ON_DEMAND), Some(KeyMaterialState::CURRENT)),
        ];
        assert_eq!(listed.iter().map(of).collect::<Vec<_>>(), expected);
        assert_eq!((listed[0].rotation_date, listed[0].import_state), (Some(NOW.latest), None));
        let all = rotations(&key, NOW, IncludeKeyMaterial::ALL_KEY_MATERIAL);
        assert_eq!(all.len(), 3);
        assert_eq!((all[0].rotation_date, all[0].rotation_type), (None, None), "the first is no rotation");
    }

    #[test]
    fn imported_materials_are_listed_with_what_is_missing() {
        let mut key = key(Algorithm::Aes256, CoreOrigin::Imported);
        (key.versions[0].has_material, key.versions[0].check) = (true, Some([1; 32]));
        key.apply(1, Transition::Activate, Operation::ImportKey, NOW).unwrap();
        key.add_version(NOW, None, false).unwrap();
        let all = |key: &Key| {
            let of = |entry: RotationsListEntry| (entry.key_material_state, entry.import_state);
            rotations(key, NOW, IncludeKeyMaterial::ALL_KEY_MATERIAL).into_iter().map(of).collect::<Vec<_>>()
        };
        let current = |import| (Some(KeyMaterialState::CURRENT), Some(import));
        assert_eq!(all(&key), [current(ImportState::IMPORTED)], "what was never there is not listed");
        (key.versions[1].has_material, key.versions[1].check) = (true, Some([2; 32]));
        key.versions[0].has_material = false;
        let pending = (Some(KeyMaterialState::PENDING_ROTATION), Some(ImportState::IMPORTED));
        assert_eq!(all(&key), [current(ImportState::PENDING_IMPORT), pending]);
        assert!(rotations(&key, NOW, IncludeKeyMaterial::ROTATIONS_ONLY).is_empty());
    }
}
