//! Key material on its way in and out, always wrapped to the other side's public key.

use keyhearth_core::Error;
use keyhearth_core::key::{Key, Version};
use keyhearth_core::operation::Operation;
use keyhearth_core::request::{Ask, ImportMechanism, Response};
use keyhearth_core::row::{RowKey, Table};
use keyhearth_core::state::{State, Transition};
use keyhearth_core::time::Time;
use keyhearth_crypto::algorithm::{Algorithm, Mechanism};
use keyhearth_crypto::hpke::{self, Suite};
use keyhearth_crypto::key::{PublicKey, generate, import, rsa_aes_kwp_unwrap, rsa_aes_kwp_wrap};
use keyhearth_crypto::kh1::envelope;
use keyhearth_crypto::secret::SecretBytes;

use super::records::{Records, Stored};
use super::{Effect, Turn};

/// How long import parameters are good, in milliseconds.
const IMPORT_MS: u64 = 24 * 60 * 60 * 1_000;

/// The RSA key that wraps imports.
const IMPORT_RSA: Algorithm = Algorithm::Rsa3072;

/// The stored record of import parameters: the wrapped private key that awaits the material.
#[derive(Clone, Debug, minicbor::Encode, minicbor::Decode)]
pub(super) struct Import {
    #[n(0)]
    mechanism: u8,
    #[n(1)]
    expires: Time,
    /// The tenant key that wraps it.
    #[n(2)]
    pub tenant_key: u32,
    #[cbor(n(3), with = "minicbor::bytes")]
    wrapped_private: Vec<u8>,
}

/// The mechanisms by their stored numbers.
const MECHANISMS: [ImportMechanism; 4] = [
    ImportMechanism::RsaOaepSha256,
    ImportMechanism::RsaAesKwpSha256,
    ImportMechanism::HpkeX25519,
    ImportMechanism::HpkeX25519MlKem768,
];

impl Turn<'_> {
    pub(super) fn transfer(&self) -> Result<Effect, Error> {
        match &self.request.ask {
            Ask::ImportParameters { mechanism, .. } => self.import_parameters(*mechanism),
            Ask::ImportKey { wrapped, .. } => self.import_key(wrapped),
            Ask::ExportKey { version, mechanism, recipient, .. } => {
                self.export_key(*version, *mechanism, recipient)
            }
            _ => Err(Error::Internal("not a transfer")),
        }
    }

    fn import_parameters(&self, mechanism: ImportMechanism) -> Result<Effect, Error> {
        let key = &self.held()?.key.value;
        awaiting(key)?;
        let (private, public) = match mechanism {
            ImportMechanism::RsaOaepSha256 | ImportMechanism::RsaAesKwpSha256 => {
                let private = generate(IMPORT_RSA)?;
                let loaded = keyhearth_crypto::key::Key::load(IMPORT_RSA, &private)?;
                let public =
                    loaded.public_key_der().ok_or(Error::Internal("an RSA key has a public half"))?.to_vec();
                (private, public)
            }
            ImportMechanism::HpkeX25519 | ImportMechanism::HpkeX25519MlKem768 => {
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
        let number = number.ok_or(Error::Internal("every mechanism has a number"))?;
        let record = Import { mechanism: number, expires, tenant_key, wrapped_private };
        let row = RowKey::new(Table::Import, self.tenant(), &key.id.0);
        let write = match self.open.records.read::<Import>(&row)? {
            Some(old) => self.open.records.replace(&old, &record),
            None => self.open.records.create(row, &record),
        };
        let writes = vec![write, Records::keep(&tenant)];
        Ok(Effect::writing(Response::ImportParameters { public, mechanism, expires }, writes))
    }

    fn import_key(&self, wrapped: &[u8]) -> Result<Effect, Error> {
        let held = self.held()?;
        let mut key = held.key.value.clone();
        let number = awaiting(&key)?.number;
        let row = RowKey::new(Table::Import, self.tenant(), &key.id.0);
        let parameters: Stored<Import> =
            self.open.records.read(&row)?.ok_or(Error::Conflict("ask for import parameters first"))?;
        if self.now.may_have_passed(parameters.value.expires) {
            return Err(Error::Conflict("the import parameters have ended; ask for new ones"));
        }
        let bytes = self.unwrap_import(&key, &parameters.value, wrapped)?;
        let material = import(key.algorithm, bytes.expose())?;
        let [material, same_tenant_key] = self.open.store_material(&key, number, &material)?;
        let version = key.version_mut(number)?;
        version.has_material = true;
        if version.activation.is_none_or(|date| self.now.reached(date)) {
            key.apply(number, Transition::Activate, Operation::ImportKey, self.now)?;
        }
        let writes = vec![
            self.open.records.replace(&held.key, &key),
            material,
            same_tenant_key,
            Records::delete(&parameters),
        ];
        Ok(Effect { version: Some(number), ..Effect::writing(Response::Key(Box::new(key)), writes) })
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
        let mechanism =
            MECHANISMS.get(usize::from(parameters.mechanism)).ok_or(Error::Damaged("import parameters"))?;
        let load = || keyhearth_crypto::key::Key::load(IMPORT_RSA, &private);
        Ok(match mechanism {
            ImportMechanism::RsaOaepSha256 => load()?.unwrap(Mechanism::RsaOaepSha256, wrapped)?,
            ImportMechanism::RsaAesKwpSha256 => {
                rsa_aes_kwp_unwrap(&load()?, Mechanism::RsaOaepSha256, wrapped)?
            }
            ImportMechanism::HpkeX25519 | ImportMechanism::HpkeX25519MlKem768 => {
                let opened =
                    hpke::open(suite(*mechanism), &private, b"keyhearth/import", &key.id.0, wrapped)?;
                SecretBytes::copy_from(&opened)?
            }
        })
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

/// The version that waits for its material.
fn awaiting(key: &Key) -> Result<&Version, Error> {
    let waits = |version: &&Version| !version.has_material && version.state == State::PreActive;
    let state = key.primary()?.state;
    key.versions.iter().rev().find(waits).ok_or(Error::WrongState { state, operation: Operation::ImportKey })
}

fn binding(key: &Key) -> [u8; 22] {
    let mut bytes = *b"import................";
    bytes[6..].copy_from_slice(&key.id.0);
    bytes
}

fn suite(mechanism: ImportMechanism) -> Suite {
    match mechanism {
        ImportMechanism::HpkeX25519MlKem768 => Suite::X25519MlKem768,
        ImportMechanism::HpkeX25519 | ImportMechanism::RsaOaepSha256 | ImportMechanism::RsaAesKwpSha256 => {
            Suite::X25519
        }
    }
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
