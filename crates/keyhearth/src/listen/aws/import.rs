//! Material that is brought in: parameters, import, deletion.
//!
//! An import token names the key and the parameters that the material was wrapped with. It is no authority.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "each call takes the one answer that its request gives, and words few of its refusals itself"
)]

use keyhearth_core::Error;
use keyhearth_core::id::KeyId;
use keyhearth_core::key::{Key, VERSIONS_MAX, Version};
use keyhearth_core::request::{Ask, ImportId, ImportMechanism, KeyRef, NewMaterial, Response as Answer};
use keyhearth_core::state::State;
use keyhearth_core::time::{Now, Time};
use keyhearth_crypto::algorithm::{Algorithm, Family};
use keyhearth_proto::aws::{
    Exception, ExpirationModel, ImportType, KeySpec, Kind, Operation, Place, WrappingAlgorithm,
    WrappingKeySpec, input, material_id, output,
};

use super::Exchange;
use super::demand::Rule;
use super::refusal::{About, other_answer};

/// The furthest end of imported material.
const VALID_DAYS_MAX: u32 = 365;

/// What is demanded of a key that material is brought for.
const RECEIVES: &[Rule] = &[Rule::Imported, Rule::Stays];

/// The form of import tokens.
const TOKEN_FORM: u8 = 1;
const TOKEN_BYTES: usize = 33;

/// An import token, opaque to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Token {
    key: KeyId,
    parameters: ImportId,
}

impl Token {
    fn bytes(self) -> [u8; TOKEN_BYTES] {
        let mut bytes = [TOKEN_FORM; TOKEN_BYTES];
        bytes[1..17].copy_from_slice(&self.key.0);
        bytes[17..].copy_from_slice(&self.parameters);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Self, Exception> {
        let ids = bytes.strip_prefix(&[TOKEN_FORM]).and_then(|ids| ids.split_first_chunk::<16>());
        let token =
            ids.and_then(|(key, rest)| Some(Self { key: KeyId(*key), parameters: rest.try_into().ok()? }));
        token.ok_or_else(bad_token)
    }
}

fn bad_token() -> Exception {
    Exception::silent(Kind::InvalidImportToken)
}

fn invalid(text: impl Into<String>) -> Exception {
    Exception::new(Kind::Validation, text)
}

/// How material is to be wrapped, in core's words.
fn wrapping(
    algorithm: WrappingAlgorithm,
    spec: WrappingKeySpec,
) -> Result<(ImportMechanism, Algorithm), Exception> {
    let mechanism = match algorithm {
        WrappingAlgorithm::RSAES_OAEP_SHA_1 => ImportMechanism::RsaOaepSha1,
        WrappingAlgorithm::RSAES_OAEP_SHA_256 => ImportMechanism::RsaOaepSha256,
        WrappingAlgorithm::RSA_AES_KEY_WRAP_SHA_1 => ImportMechanism::RsaAesKwpSha1,
        WrappingAlgorithm::RSA_AES_KEY_WRAP_SHA_256 => ImportMechanism::RsaAesKwpSha256,
        // AWS ended it in 2023: the padding can be used as an oracle.
        WrappingAlgorithm::RSAES_PKCS1_V1_5 => {
            return Err(Exception::new(
                Kind::UnsupportedOperation,
                "The wrapping algorithm RSAES_PKCS1_V1_5 is no longer supported.",
            ));
        }
        WrappingAlgorithm::SM2PKE => return Err(Exception::unsupported(algorithm.name())),
    };
    let key = match spec {
        WrappingKeySpec::RSA_2048 => Algorithm::Rsa2048,
        WrappingKeySpec::RSA_3072 => Algorithm::Rsa3072,
        WrappingKeySpec::RSA_4096 => Algorithm::Rsa4096,
        WrappingKeySpec::SM2 => return Err(Exception::unsupported(spec.name())),
    };
    Ok((mechanism, key))
}

/// RSA private keys are too long to be wrapped by RSA alone.
fn fits(key: &Key, mechanism: ImportMechanism) -> Result<(), Exception> {
    let alone = matches!(mechanism, ImportMechanism::RsaOaepSha1 | ImportMechanism::RsaOaepSha256);
    if alone && key.algorithm.info().family == Family::Rsa {
        return Err(invalid(
            "RSA private keys are imported with RSA_AES_KEY_WRAP_SHA_256 or RSA_AES_KEY_WRAP_SHA_1.",
        ));
    }
    Ok(())
}

/// When the material of a call ends.
fn end(model: Option<ExpirationModel>, valid_to: Option<Time>) -> Result<Option<Time>, Exception> {
    match (model.unwrap_or(ExpirationModel::KEY_MATERIAL_EXPIRES), valid_to) {
        (ExpirationModel::KEY_MATERIAL_EXPIRES, None) => {
            Err(invalid("A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES"))
        }
        (ExpirationModel::KEY_MATERIAL_DOES_NOT_EXPIRE, Some(_)) => Err(invalid(
            "A validTo date must not be set if the ExpirationModel is KEY_MATERIAL_DOES_NOT_EXPIRE",
        )),
        (_, end) => Ok(end),
    }
}

/// The version whose material has this name. Names are computed: no record is looked at.
fn version_of(key: KeyId, material: &str) -> Option<u32> {
    let versions = u32::try_from(VERSIONS_MAX).unwrap_or(u32::MAX);
    (1..=versions).find(|&version| material_id(key, version) == material)
}

/// The name of a version's material, where AWS gives it one.
fn name_of(key: &Key, version: u32) -> Option<String> {
    let symmetric = KeySpec::of(key.algorithm) == Some(KeySpec::SYMMETRIC_DEFAULT);
    symmetric.then(|| material_id(key.id, version))
}

/// What an import demands of the key beside what all demand that concerns imported keys.
fn receives(
    key: &Key,
    now: Now,
    token: Token,
    (import_type, end): (Option<ImportType>, Option<Time>),
) -> Result<(), Exception> {
    if token.key != key.id {
        return Err(bad_token());
    }
    let days = |days| now.latest.plus_days(days);
    if end.is_some_and(|end| end <= days(0) || end > days(VALID_DAYS_MAX)) {
        return Err(invalid("ValidTo must lie in the future, by at most 365 days."));
    }
    let rotates =
        import_type == Some(ImportType::NEW_KEY_MATERIAL) && key.versions.iter().any(Version::had_material);
    if rotates && KeySpec::of(key.algorithm) != Some(KeySpec::SYMMETRIC_DEFAULT) {
        let text = "New key material is imported into symmetric encryption keys only.";
        return Err(Exception::new(Kind::UnsupportedOperation, text));
    }
    Ok(())
}

impl Exchange<'_> {
    pub(super) async fn get_parameters_for_import(
        &self,
        input: input::GetParametersForImport,
    ) -> Result<output::GetParametersForImport, Exception> {
        let (mechanism, algorithm) = wrapping(input.wrapping_algorithm, input.wrapping_key_spec)?;
        let key = self.place.key(&input.key_id)?;
        let ask = Ask::ImportParameters { key, mechanism, wrapping: Some(algorithm) };
        let about = About::key(Operation::GetParametersForImport, &input.key_id);
        match self.manage_if(ask, about, RECEIVES, move |key, _| fits(key, mechanism)).await? {
            Answer::ImportParameters { key, id, public, expires, .. } => Ok(output::GetParametersForImport {
                key_id: self.place.key_arn(key),
                import_token: Token { key, parameters: id }.bytes().to_vec().into(),
                public_key: public.into(),
                parameters_valid_to: expires,
            }),
            _ => Err(other_answer()),
        }
    }

    pub(super) async fn import_key_material(
        &self,
        input: input::ImportKeyMaterial,
    ) -> Result<output::ImportKeyMaterial, Exception> {
        let expires = end(input.expiration_model, input.valid_to)?;
        let token = Token::read(&input.import_token)?;
        let mut wrapped = input.encrypted_key_material;
        let material = NewMaterial {
            wrapped: std::mem::take(&mut *wrapped),
            parameters: Some(token.parameters),
            version: named(token.key, input.key_material_id.as_deref(), other_material)?,
            for_rotation: input.import_type == Some(ImportType::NEW_KEY_MATERIAL),
            expires,
            description: input.key_material_description,
        };
        let ask = Ask::ImportKey { key: self.place.key(&input.key_id)?, material };
        let import_type = input.import_type;
        let demand = move |key: &Key, now| receives(key, now, token, (import_type, expires));
        let (result, refused) = self.demand(ask, RECEIVES, demand).await;
        match result {
            Ok(Answer::Material { key, version }) => Ok(output::ImportKeyMaterial {
                key_id: self.place.key_arn(key.id),
                key_material_id: name_of(&key, version),
            }),
            Ok(_) => Err(other_answer()),
            Err(error) => Err(refused.unwrap_or_else(|| self.not_imported(error, token.key, &input.key_id))),
        }
    }

    /// Words the refusal of an import.
    fn not_imported(&self, error: Error, key: KeyId, key_id: &str) -> Exception {
        match error {
            NewMaterial::UNASKED | NewMaterial::REPLACED => bad_token(),
            NewMaterial::ENDED => Exception::silent(Kind::ExpiredImportToken),
            NewMaterial::OTHER => other_material(),
            NewMaterial::KNOWN => Exception::new(
                Kind::IncorrectKeyMaterial,
                "This key material belongs to the KMS key already: it is not new.",
            ),
            NewMaterial::BROUGHT => {
                let peeked = self.engine.peek(self.caller.tenant, &KeyRef::Id(key));
                let last =
                    peeked.as_deref().and_then(|key| key.versions.last()).map_or(1, |last| last.number);
                another_pending(self.place, key, last)
            }
            // What is wrapped is not what it should be.
            Error::Invalid { field: "body", rule } => Exception::new(
                Kind::IncorrectKeyMaterial,
                format!("The key material cannot be imported: {rule}."),
            ),
            error => self.refusal(error, About::key(Operation::ImportKeyMaterial, key_id)),
        }
    }

    pub(super) async fn delete_imported_key_material(
        &self,
        input: input::DeleteImportedKeyMaterial,
    ) -> Result<output::DeleteImportedKeyMaterial, Exception> {
        let key = self.place.key(&input.key_id)?;
        let unknown = || Exception::new(Kind::NotFound, "The KMS key has no key material of this id.");
        let version = match (&key, input.key_material_id.as_deref()) {
            (KeyRef::Id(id), material) => named(*id, material, unknown)?,
            (KeyRef::Alias(_), None) => None,
            (KeyRef::Alias(_), Some(_)) => {
                return Err(invalid(
                    "KeyMaterialId goes with the id or the ARN of a KMS key, not with an alias.",
                ));
            }
        };
        let ask = Ask::UnloadKey { key, version };
        let exists = move |key: &Key, _| match version.map(|number| key.version(number)) {
            None
            | Some(Ok(Version {
                state:
                    State::PreActive | State::Active | State::Suspended | State::Deactivated | State::Compromised,
                ..
            })) => Ok(()),
            Some(Ok(Version { state: State::Destroyed, .. }) | Err(_)) => Err(unknown()),
        };
        let about = About::key(Operation::DeleteImportedKeyMaterial, &input.key_id);
        match self.manage_if(ask, about, &[Rule::Imported], exists).await? {
            Answer::Material { key, version } => Ok(output::DeleteImportedKeyMaterial {
                key_id: self.place.key_arn(key.id),
                key_material_id: name_of(&key, version),
            }),
            _ => Err(other_answer()),
        }
    }
}

/// The version that a call names by its material.
fn named(
    key: KeyId,
    material: Option<&str>,
    unknown: impl Fn() -> Exception,
) -> Result<Option<u32>, Exception> {
    let Some(material) = material else { return Ok(None) };
    version_of(key, material).map(Some).ok_or_else(unknown)
}

fn other_material() -> Exception {
    Exception::new(
        Kind::IncorrectKeyMaterial,
        "This is not the key material that was imported into the KMS key before.",
    )
}

/// Source: recorded answers of AWS KMS.
fn another_pending(place: &Place, key: KeyId, pending: u32) -> Exception {
    let (new, old) = (material_id(key, pending.saturating_add(1)), material_id(key, pending));
    Exception::new(
        Kind::KMSInvalidState,
        format!(
            "New key material (id: {new}) cannot be imported into KMS key {}, because another key material (id: \
             {old}) is pending rotation.",
            place.key_arn(key)
        ),
    )
}

#[cfg(test)]
mod tests {
    use keyhearth_core::key::Origin;

    use super::super::demand::tests::{NOW, key};
    use super::*;

    const TOKEN: Token = Token { key: KeyId([7; 16]), parameters: [9; 16] };

    #[test]
    fn a_token_is_read_as_it_was_given_out() {
        assert_eq!(Token::read(&TOKEN.bytes()).unwrap(), TOKEN);
        let mut bytes = TOKEN.bytes().to_vec();
        bytes[0] = 2;
        for wrong in [&bytes[..], &TOKEN.bytes()[..32], &[TOKEN.bytes(), TOKEN.bytes()].concat(), b""] {
            assert_eq!(Token::read(wrong), Err(bad_token()));
        }
    }

    #[test]
    fn material_ends_as_the_model_says() {
        use ExpirationModel as M;
        let date = Some(NOW.latest);
        assert_eq!(end(Some(M::KEY_MATERIAL_EXPIRES), date), Ok(date));
        assert_eq!(end(None, date), Ok(date), "what is not said ends");
        assert_eq!(end(Some(M::KEY_MATERIAL_DOES_NOT_EXPIRE), None), Ok(None));
        let text = "A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES";
        for model in [None, Some(M::KEY_MATERIAL_EXPIRES)] {
            assert_eq!(end(model, None), Err(invalid(text)));
        }
        assert!(end(Some(M::KEY_MATERIAL_DOES_NOT_EXPIRE), date).is_err());
    }

    #[test]
    fn material_is_wrapped_in_four_ways_under_three_keys() {
        let mut ways = 0;
        for &algorithm in WrappingAlgorithm::ALL {
            for &spec in WrappingKeySpec::ALL {
                match wrapping(algorithm, spec) {
                    Ok((mechanism, key)) => {
                        assert!(mechanism.oaep().is_some() && key.info().family == Family::Rsa);
                        ways += 1;
                    }
                    Err(refused) => assert_eq!(refused.kind, Kind::UnsupportedOperation),
                }
            }
        }
        assert_eq!(ways, 12);
        let rsa = key(Algorithm::Rsa2048, Origin::Imported);
        assert!(fits(&rsa, ImportMechanism::RsaOaepSha256).is_err());
        fits(&rsa, ImportMechanism::RsaAesKwpSha1).unwrap();
        fits(&key(Algorithm::EcP256, Origin::Imported), ImportMechanism::RsaOaepSha1).unwrap();
    }

    #[test]
    fn a_version_is_found_by_the_name_of_its_material() {
        let last = u32::try_from(VERSIONS_MAX).unwrap();
        for version in [1, 2, last] {
            assert_eq!(version_of(TOKEN.key, &material_id(TOKEN.key, version)), Some(version));
        }
        assert_eq!(version_of(TOKEN.key, &material_id(TOKEN.key, last + 1)), None);
        assert_eq!(version_of(KeyId([8; 16]), &material_id(TOKEN.key, 1)), None);
    }

    #[test]
    fn an_import_fits_its_key() {
        let kind = |key: &Key, token, import_type, end| {
            receives(key, NOW, token, (import_type, end)).err().map(|exception| exception.kind)
        };
        let mut symmetric = key(Algorithm::Aes256, Origin::Imported);
        let tomorrow = Some(NOW.latest.plus_days(1));
        assert_eq!(kind(&symmetric, TOKEN, None, tomorrow), None);
        let foreign = Token { key: KeyId([8; 16]), ..TOKEN };
        assert_eq!(kind(&symmetric, foreign, None, None), Some(Kind::InvalidImportToken));
        for end in [NOW.latest, NOW.latest.plus_days(366)] {
            assert_eq!(kind(&symmetric, TOKEN, None, Some(end)), Some(Kind::Validation));
        }
        let new = Some(ImportType::NEW_KEY_MATERIAL);
        let mut signing = key(Algorithm::EcP256, Origin::Imported);
        assert_eq!(kind(&signing, TOKEN, new, None), None, "the first material is new");
        for key in [&mut symmetric, &mut signing] {
            (key.versions[0].has_material, key.versions[0].check) = (true, Some([1; 32]));
        }
        assert_eq!(kind(&symmetric, TOKEN, new, None), None);
        assert_eq!(kind(&signing, TOKEN, new, None), Some(Kind::UnsupportedOperation));
        assert_eq!(kind(&signing, TOKEN, Some(ImportType::EXISTING_KEY_MATERIAL), None), None);
    }
}
