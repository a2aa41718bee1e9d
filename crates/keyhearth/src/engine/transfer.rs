//! Key material on its way in and out, always wrapped to the other side's public key.

use keyhearth_core::Error;
use keyhearth_core::key::{Key, Origin, Version};
use keyhearth_core::operation::Operation;
use keyhearth_core::request::{
    Ask, ImportId, ImportMechanism, MATERIAL_DESCRIPTION_CHARS_MAX, NewMaterial, Response,
};
use keyhearth_core::row::{RowKey, Table};
use keyhearth_core::state::{State, Transition};
use keyhearth_core::store::Write;
use keyhearth_core::time::{Now, Time};
use keyhearth_crypto::algorithm::{Algorithm, Family, Mechanism};
use keyhearth_crypto::hpke::{self, Suite};
use keyhearth_crypto::key::{PublicKey, generate, import, rsa_aes_kwp_unwrap, rsa_aes_kwp_wrap};
use keyhearth_crypto::kh1::envelope;
use keyhearth_crypto::random;
use keyhearth_crypto::secret::SecretBytes;

use super::open::Open;
use super::records::{Records, Stored};
use super::{Effect, Turn};

/// How long import parameters are good, in milliseconds.
const IMPORT_MS: u64 = 24 * 60 * 60 * 1_000;

/// The RSA key that wraps imports unless the caller says otherwise.
const IMPORT_RSA: Algorithm = Algorithm::Rsa3072;

/// The stored record of import parameters: the wrapped private key that awaits the material. It serves until it
/// ends or newer parameters replace it: what it can open is told apart by the check values of the versions.
#[derive(Clone, Debug, minicbor::Encode, minicbor::Decode)]
pub(super) struct Import {
    #[n(0)]
    mechanism: u8,
    /// When it ends.
    #[n(1)]
    pub expires: Time,
    /// The tenant key that wraps it.
    #[n(2)]
    pub tenant_key: u32,
    #[cbor(n(3), with = "minicbor::bytes")]
    wrapped_private: Vec<u8>,
    /// Its algorithm, for RSA; [`IMPORT_RSA`] if absent.
    #[n(4)]
    wrapping: Option<u8>,
    #[cbor(n(5), with = "minicbor::bytes")]
    id: Option<ImportId>,
}

/// The mechanisms by their stored numbers.
const MECHANISMS: [ImportMechanism; 6] = [
    ImportMechanism::RsaOaepSha256,
    ImportMechanism::RsaAesKwpSha256,
    ImportMechanism::HpkeX25519,
    ImportMechanism::HpkeX25519MlKem768,
    ImportMechanism::RsaOaepSha1,
    ImportMechanism::RsaAesKwpSha1,
];

impl Turn<'_> {
    pub(super) fn transfer(&self) -> Result<Effect, Error> {
        match &self.request.ask {
            Ask::ImportParameters { mechanism, wrapping, .. } => {
                self.import_parameters(*mechanism, *wrapping)
            }
            Ask::ImportKey { material, .. } => self.import_key(material),
            Ask::UnloadKey { version, .. } => self.unload_key(*version),
            Ask::ExportKey { version, mechanism, recipient, .. } => {
                self.export_key(*version, *mechanism, recipient)
            }
            _ => Err(Error::Internal("not a transfer")),
        }
    }

    fn import_parameters(
        &self,
        mechanism: ImportMechanism,
        wrapping: Option<Algorithm>,
    ) -> Result<Effect, Error> {
        let key = &self.held()?.key.value;
        check_imported(key, Operation::ImportParameters, self.now)?;
        let wrapping = wrapping_algorithm(mechanism, wrapping)?;
        let (private, public) = match wrapping {
            Some(algorithm) => {
                let private = generate(algorithm)?;
                let loaded = keyhearth_crypto::key::Key::load(algorithm, &private)?;
                let public =
                    loaded.public_key_der().ok_or(Error::Internal("an RSA key has a public half"))?.to_vec();
                (private, public)
            }
            None => {
                let pair = hpke::generate(suite(mechanism))?;
                (pair.private, pair.public)
            }
        };
        let tenant = self.open.tenant(self.tenant())?;
        let tenant_key = tenant.value.tenant_key;
        let kek = self.open.tenant_key(self.tenant(), tenant_key)?;
        let wrapped_private =
            envelope::wrap(&kek, self.tenant().0, tenant_key, &binding(key), private.expose())?;
        let expires = self.now.latest.plus_ms(IMPORT_MS);
        let number = MECHANISMS.iter().position(|m| *m == mechanism).and_then(|at| u8::try_from(at).ok());
        let mut id = ImportId::default();
        random::fill("import parameters", &mut id)?;
        let record = Import {
            mechanism: number.ok_or(Error::Internal("every mechanism has a number"))?,
            expires,
            tenant_key,
            wrapped_private,
            wrapping: wrapping.map(Algorithm::code),
            id: Some(id),
        };
        let row = RowKey::new(Table::Import, self.tenant(), &key.id.0);
        let write = match self.open.records.read::<Import>(&row)? {
            Some(old) => self.open.records.replace(&old, &record),
            None => self.open.records.create(row, &record),
        };
        let writes = vec![write, Records::keep(&tenant)];
        Ok(Effect::writing(
            Response::ImportParameters { key: key.id, id, public, mechanism, expires },
            writes,
        ))
    }

    /// The present import parameters of the key.
    fn parameters(&self, key: &Key, named: Option<ImportId>) -> Result<Stored<Import>, Error> {
        let row = RowKey::new(Table::Import, self.tenant(), &key.id.0);
        let found: Stored<Import> = self.open.records.read(&row)?.ok_or(NewMaterial::UNASKED)?;
        if named.is_some() && named != found.value.id {
            return Err(NewMaterial::REPLACED);
        }
        if self.now.may_have_passed(found.value.expires) {
            return Err(NewMaterial::ENDED);
        }
        Ok(found)
    }

    fn import_key(&self, new: &NewMaterial) -> Result<Effect, Error> {
        let held = self.held()?;
        let mut key = held.key.value.clone();
        check_imported(&key, Operation::ImportKey, self.now)?;
        if new.expires.is_some_and(|end| self.now.may_have_passed(end)) {
            return Err(Error::Invalid { field: "expires", rule: "must lie ahead" });
        }
        if new.description.as_ref().is_some_and(|text| text.chars().count() > MATERIAL_DESCRIPTION_CHARS_MAX)
        {
            return Err(Error::TooLarge { field: "description", limit: MATERIAL_DESCRIPTION_CHARS_MAX });
        }
        let parameters = self.parameters(&key, new.parameters)?;
        let bytes = self.unwrap_import(&key, &parameters.value, &new.wrapped)?;
        let material = import(key.algorithm, bytes.expose())?;
        let number = self.receiver(&mut key, &material, new)?;
        let mut writes = vec![Records::keep(&parameters)];
        let version = key.version_mut(number)?;
        let (first, had) = (version.check.is_none(), version.has_material);
        version.has_material = true;
        version.expires = new.expires;
        if new.description.is_some() {
            version.description.clone_from(&new.description);
        }
        version.check = Some(self.open.check_value(&held.key.value, number, &material));
        let begins = version.activation.is_none_or(|date| self.now.reached(date));
        if first && begins && (number == 1 || !new.for_rotation) {
            key.apply(number, Transition::Activate, Operation::ImportKey, self.now)?;
        }
        if !had {
            writes.extend(self.open.store_material(&key, number, &material)?);
        }
        writes.insert(0, self.open.records.replace(&held.key, &key));
        Ok(Effect { version: Some(number), ..Effect::writing(material_of(key, number), writes) })
    }

    /// The version that the material is for: the one that has it or had it; otherwise the newest that never had
    /// any; otherwise, for a rotation, one more.
    fn receiver(&self, key: &mut Key, material: &SecretBytes, new: &NewMaterial) -> Result<u32, Error> {
        let fits = |version: &&Version| self.open.is_of(key, version, material);
        let known = key.versions.iter().find(fits);
        let fresh = |version: &&Version| {
            version.check.is_none() && !version.has_material && version.state == State::PreActive
        };
        let number = match known.or_else(|| key.versions.iter().rev().find(fresh)) {
            Some(_) if known.is_some() && new.for_rotation => return Err(NewMaterial::KNOWN),
            Some(version) => version.number,
            None if !new.for_rotation => return Err(NewMaterial::OTHER),
            None if key.brought(self.now).is_some() => return Err(NewMaterial::BROUGHT),
            None => key.add_version(self.now, None, false)?,
        };
        match new.version {
            Some(named) if named != number => Err(NewMaterial::OTHER),
            Some(_) | None => Ok(number),
        }
    }

    fn unwrap_import(&self, key: &Key, parameters: &Import, wrapped: &[u8]) -> Result<SecretBytes, Error> {
        let kek = self.open.tenant_key(self.tenant(), parameters.tenant_key)?;
        let private = envelope::unwrap(
            &kek,
            self.tenant().0,
            parameters.tenant_key,
            &binding(key),
            &parameters.wrapped_private,
        )
        .map_err(|_| Error::Damaged("import parameters"))?;
        let damaged = Error::Damaged("import parameters");
        let mechanism = *MECHANISMS.get(usize::from(parameters.mechanism)).ok_or(damaged)?;
        let wrapping = parameters.wrapping.map_or(Some(IMPORT_RSA), Algorithm::from_code).ok_or(damaged)?;
        let load = || keyhearth_crypto::key::Key::load(wrapping, &private);
        Ok(match mechanism {
            ImportMechanism::RsaOaepSha1 => load()?.unwrap(Mechanism::RsaOaepSha1, wrapped)?,
            ImportMechanism::RsaOaepSha256 => load()?.unwrap(Mechanism::RsaOaepSha256, wrapped)?,
            ImportMechanism::RsaAesKwpSha1 => rsa_aes_kwp_unwrap(&load()?, Mechanism::RsaOaepSha1, wrapped)?,
            ImportMechanism::RsaAesKwpSha256 => {
                rsa_aes_kwp_unwrap(&load()?, Mechanism::RsaOaepSha256, wrapped)?
            }
            ImportMechanism::HpkeX25519 | ImportMechanism::HpkeX25519MlKem768 => {
                let opened = hpke::open(suite(mechanism), &private, b"keyhearth/import", &key.id.0, wrapped)?;
                SecretBytes::copy_from(&opened)?
            }
        })
    }

    fn unload_key(&self, version: Option<u32>) -> Result<Effect, Error> {
        let held = self.held()?;
        let mut key = held.key.value.clone();
        if key.origin != Origin::Imported {
            return Err(Error::Unsupported("material that was made here could not come again"));
        }
        let number = version.unwrap_or(key.primary);
        if key.version(number)?.state == State::Destroyed {
            return Err(Error::WrongState { state: State::Destroyed, operation: Operation::UnloadKey });
        }
        let mut writes = self.unload(&mut key, number)?;
        if !writes.is_empty() {
            writes.insert(0, self.open.records.replace(&held.key, &key));
        }
        Ok(Effect { version: Some(number), ..Effect::writing(material_of(key, number), writes) })
    }

    /// Deletes imported material. The version keeps its state and what tells its material from other, and is not
    /// used until it has it again.
    pub(super) fn unload(&self, key: &mut Key, number: u32) -> Result<Vec<Write>, Error> {
        if !key.version(number)?.has_material {
            return Ok(Vec::new());
        }
        let check = match key.version(number)?.check {
            Some(check) => check,
            // Imported by the first servers, which kept no check value.
            None => self.open.check_value(key, number, &self.open.material(key, number)?),
        };
        let version = key.version_mut(number)?;
        (version.has_material, version.expires, version.check) = (false, None, Some(check));
        Ok(vec![Records::delete(&self.open.material_row(key, number)?)])
    }

    fn export_key(
        &self,
        version: Option<u32>,
        mechanism: ImportMechanism,
        recipient: &[u8],
    ) -> Result<Effect, Error> {
        let key = &self.held()?.key.value;
        let number = self.permit.version().or(version).unwrap_or(key.primary);
        let material = self.open.material(key, number)?;
        let wrapped = match mechanism {
            ImportMechanism::RsaOaepSha1 | ImportMechanism::RsaAesKwpSha1 => {
                return Err(Error::Unsupported("SHA-1 only brings material in"));
            }
            ImportMechanism::RsaOaepSha256 => {
                rsa(recipient)?.wrap(Mechanism::RsaOaepSha256, material.expose())?
            }
            ImportMechanism::RsaAesKwpSha256 => {
                rsa_aes_kwp_wrap(&rsa(recipient)?, Mechanism::RsaOaepSha256, material.expose())?
            }
            ImportMechanism::HpkeX25519 | ImportMechanism::HpkeX25519MlKem768 => {
                hpke::seal(suite(mechanism), recipient, b"keyhearth/export", &key.id.0, material.expose())?
            }
        };
        let effect = Effect::of(Response::Exported { version: number, wrapped });
        Ok(Effect { version: Some(number), ..effect })
    }
}

fn material_of(key: Key, version: u32) -> Response {
    Response::Material { key: Box::new(key), version }
}

impl Open {
    /// Tells a version's material from other without keeping it.
    fn check_value(&self, key: &Key, number: u32, material: &SecretBytes) -> [u8; 32] {
        self.audit.sign(&check_parts(key, &number.to_be_bytes(), material))
    }

    /// Whether the version has or had this material.
    fn is_of(&self, key: &Key, version: &Version, material: &SecretBytes) -> bool {
        let number = version.number.to_be_bytes();
        version.check.is_some_and(|check| self.audit.verify(&check_parts(key, &number, material), &check))
    }
}

/// What a check value covers: all but the material of fixed length.
fn check_parts<'a>(key: &'a Key, number: &'a [u8; 4], material: &'a SecretBytes) -> [&'a [u8]; 5] {
    [b"material", &key.tenant.0, &key.id.0, number, material.expose()]
}

/// Refuses keys whose material does not come from outside, and those that end.
fn check_imported(key: &Key, operation: Operation, now: Now) -> Result<(), Error> {
    if key.origin != Origin::Imported {
        return Err(Error::Unsupported("the material of this key is made here"));
    }
    if key.versions.iter().all(|version| version.state == State::Destroyed) {
        return Err(Error::WrongState { state: State::Destroyed, operation });
    }
    key.check_not_ending(operation, now)
}

/// The algorithm of the RSA key that wraps, for mechanisms that have one.
fn wrapping_algorithm(
    mechanism: ImportMechanism,
    wanted: Option<Algorithm>,
) -> Result<Option<Algorithm>, Error> {
    match (mechanism.oaep(), wanted) {
        (Some(_), None) => Ok(Some(IMPORT_RSA)),
        (Some(_), Some(algorithm)) if algorithm.info().family == Family::Rsa => Ok(wanted),
        (None, None) => Ok(None),
        (Some(_) | None, Some(_)) => Err(Error::Invalid {
            field: "wrapping",
            rule: "must be an RSA algorithm, and only where the mechanism has an RSA key",
        }),
    }
}

fn binding(key: &Key) -> [u8; 22] {
    let mut bytes = *b"import................";
    bytes[6..].copy_from_slice(&key.id.0);
    bytes
}

fn suite(mechanism: ImportMechanism) -> Suite {
    if mechanism == ImportMechanism::HpkeX25519MlKem768 { Suite::X25519MlKem768 } else { Suite::X25519 }
}

/// A recipient's RSA public key, of any size that is strong enough.
fn rsa(der: &[u8]) -> Result<PublicKey, Error> {
    [Algorithm::Rsa4096, Algorithm::Rsa3072, Algorithm::Rsa2048]
        .into_iter()
        .find_map(|algorithm| PublicKey::from_der(algorithm, der).ok())
        .ok_or(Error::Invalid {
            field: "recipient",
            rule: "must be an RSA public key of 2048, 3072 or 4096 bits (DER)",
        })
}
