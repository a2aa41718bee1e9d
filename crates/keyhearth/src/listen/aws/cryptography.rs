//! Uses of keys: encryption, data keys, signatures, MACs, shared secrets, random bytes.
//!
//! Each call is one request of core. Encrypt, Decrypt and GenerateDataKey move what they are given and get, and
//! copy none of it.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "each call takes the one answer that its request gives, and words few of its refusals itself"
)]

use keyhearth_core::Error;
use keyhearth_core::id::KeyId;
use keyhearth_core::key::Origin;
use keyhearth_core::operation::Operation as CoreOperation;
use keyhearth_core::request::{
    Ask, ContextPairs, KeyRef, LastUse, Message, Response as Answer, Secret, Source,
};
use keyhearth_crypto::algorithm::Mechanism;
use keyhearth_crypto::kh1;
use keyhearth_proto::aws::{
    self, DataKeySpec, DryRunModifier, EncryptionAlgorithm, Exception, KeyLastUsageData, KeySpec, KeyUsage,
    Kind, MacAlgorithm, MessageType, Operation, RecipientInfo, SigningAlgorithm, TrackedOperation, input,
    material_id, output,
};

use super::Exchange;
use super::demand::Rule;
use super::refusal::{About, other_answer, performed};

/// What AWS encrypts with where a call names nothing.
const USUAL: EncryptionAlgorithm = EncryptionAlgorithm::SYMMETRIC_DEFAULT;

/// Said of a key that the caller may not use or that is not there, where the ciphertext alone names it.
const UNREACHABLE: &str = "The ciphertext refers to a customer master key that does not exist, does not exist in \
                           this region, or you are not allowed to access.";

/// How something is encrypted: AWS's word and ours for it.
#[derive(Clone, Copy)]
struct Encryption {
    algorithm: EncryptionAlgorithm,
    mechanism: Mechanism,
}

impl Encryption {
    fn new(algorithm: Option<EncryptionAlgorithm>) -> Result<Self, Exception> {
        let algorithm = algorithm.unwrap_or(USUAL);
        let mechanism = algorithm.mechanism().ok_or_else(|| Exception::unsupported(algorithm.name()))?;
        Ok(Self { algorithm, mechanism })
    }

    fn is_usual(self) -> bool {
        self.algorithm == USUAL
    }

    /// The pairs to bind, if this can bind any.
    fn context(self, pairs: Option<ContextPairs>) -> Result<ContextPairs, Exception> {
        let pairs = pairs.unwrap_or_default();
        if !pairs.is_empty() && !self.is_usual() {
            return Err(invalid(
                "EncryptionContext is not supported when encrypting/decrypting with asymmetric CMKs.",
            ));
        }
        Ok(pairs)
    }

    /// The name of the material that was used; only such of symmetric keys has one.
    fn material(self, key: KeyId, version: u32) -> Option<String> {
        self.is_usual().then(|| material_id(key, version))
    }
}

/// A ciphertext to be opened, and the key that its own header names.
struct Sealed {
    ciphertext: Vec<u8>,
    header: Option<KeyId>,
}

impl Sealed {
    /// Takes the ciphertext of a call. A dry run may go without, and then looks at permissions alone.
    fn take(
        ciphertext: Option<Secret>,
        dry_run: Option<bool>,
        modifiers: Option<&[DryRunModifier]>,
    ) -> Result<Self, Exception> {
        let ignored =
            modifiers.is_some_and(|modifiers| modifiers.contains(&DryRunModifier::IGNORE_CIPHERTEXT));
        let header = |ciphertext: &Secret| kh1::header(ciphertext).ok().map(|header| KeyId(header.key_id));
        match ciphertext {
            _ if ignored && dry_run != Some(true) => {
                Err(invalid("DryRunModifiers can be specified only when DryRun is true."))
            }
            Some(ciphertext) if ignored => Ok(Self { header: header(&ciphertext), ciphertext: Vec::new() }),
            None if ignored => Ok(Self { header: None, ciphertext: Vec::new() }),
            Some(mut ciphertext) => {
                Ok(Self { header: header(&ciphertext), ciphertext: std::mem::take(&mut *ciphertext) })
            }
            None => Err(Exception::missing("ciphertextBlob")),
        }
    }
}

impl Exchange<'_> {
    pub(super) async fn encrypt(&self, input: input::Encrypt) -> Result<output::Encrypt, Exception> {
        let encryption = Encryption::new(input.encryption_algorithm)?;
        let about = About::key(Operation::Encrypt, &input.key_id).by(encryption.algorithm.name());
        let ask = Ask::Encrypt {
            key: self.place.key(&input.key_id)?,
            mechanism: Some(encryption.mechanism),
            context: encryption.context(input.encryption_context)?,
            plaintext: input.plaintext,
        };
        match self.perform(ask, input.dry_run, about).await? {
            Answer::Encrypted { key, ciphertext, .. } => Ok(output::Encrypt {
                ciphertext_blob: ciphertext.into(),
                key_id: self.place.key_arn(key),
                encryption_algorithm: encryption.algorithm,
            }),
            _ => Err(other_answer()),
        }
    }

    pub(super) async fn decrypt(&self, input: input::Decrypt) -> Result<output::Decrypt, Exception> {
        no_recipient(input.recipient.as_ref())?;
        let encryption = Encryption::new(input.encryption_algorithm)?;
        let sealed = Sealed::take(input.ciphertext_blob, input.dry_run, input.dry_run_modifiers.as_deref())?;
        let key_id = input.key_id.as_deref();
        let key = self.named_or_inside(key_id, encryption, &sealed)?;
        let ask = Ask::Decrypt {
            key,
            mechanism: Some(encryption.mechanism),
            version: None,
            iv: Vec::new(),
            context: encryption.context(input.encryption_context)?,
            ciphertext: sealed.ciphertext,
            lease_seconds: 0,
        };
        let about =
            About { operation: Operation::Decrypt, key_id, algorithm: Some(encryption.algorithm.name()) };
        let answer = match self.run(ask, input.dry_run.unwrap_or(false)).await {
            Ok(answer) => performed(answer)?,
            Err(error) => return Err(self.not_opened(error, about, sealed.header)),
        };
        match answer {
            Answer::Decrypted { key, version, plaintext } => Ok(output::Decrypt {
                key_id: self.place.key_arn(key),
                plaintext: Some(plaintext),
                encryption_algorithm: encryption.algorithm,
                ciphertext_for_recipient: None,
                key_material_id: encryption.material(key, version),
            }),
            _ => Err(other_answer()),
        }
    }

    pub(super) async fn re_encrypt(&self, input: input::ReEncrypt) -> Result<output::ReEncrypt, Exception> {
        let from = Encryption::new(input.source_encryption_algorithm)?;
        let to = Encryption::new(input.destination_encryption_algorithm)?;
        let sealed = Sealed::take(input.ciphertext_blob, input.dry_run, input.dry_run_modifiers.as_deref())?;
        let source_id = input.source_key_id.as_deref();
        let source = Source {
            key: Some(self.named_or_inside(source_id, from, &sealed)?),
            mechanism: Some(from.mechanism),
            version: None,
            iv: Vec::new(),
            context: from.context(input.source_encryption_context)?,
            ciphertext: sealed.ciphertext,
        };
        let ask = Ask::Rewrap {
            key: self.place.key(&input.destination_key_id)?,
            mechanism: Some(to.mechanism),
            context: to.context(input.destination_encryption_context)?,
            source: Box::new(source),
        };
        let answer = match self.run(ask, input.dry_run.unwrap_or(false)).await {
            Ok(answer) => performed(answer)?,
            Err(error) => {
                let name = Operation::ReEncrypt;
                let opening =
                    About { operation: name, key_id: source_id, algorithm: Some(from.algorithm.name()) };
                let sealing = About::key(name, &input.destination_key_id).by(to.algorithm.name());
                return Err(self.not_moved(error, (opening, sealed.header), sealing));
            }
        };
        match answer {
            Answer::Rewrapped { source, key, version, ciphertext, .. } => Ok(output::ReEncrypt {
                ciphertext_blob: ciphertext.into(),
                source_key_id: self.place.key_arn(source.0),
                key_id: self.place.key_arn(key),
                source_encryption_algorithm: from.algorithm,
                destination_encryption_algorithm: to.algorithm,
                source_key_material_id: from.material(source.0, source.1),
                destination_key_material_id: to.material(key, version),
            }),
            _ => Err(other_answer()),
        }
    }

    /// The key that a call names, or the one that the ciphertext names.
    fn named_or_inside(
        &self,
        key_id: Option<&str>,
        encryption: Encryption,
        sealed: &Sealed,
    ) -> Result<KeyRef, Exception> {
        match (key_id, sealed.header) {
            (Some(key_id), _) => self.place.key(key_id),
            (None, Some(key)) if encryption.is_usual() => Ok(KeyRef::Id(key)),
            (None, None) if encryption.is_usual() && !sealed.ciphertext.is_empty() => {
                Err(Exception::silent(Kind::InvalidCiphertext))
            }
            (None, _) => Err(invalid("KeyId must not be null")),
        }
    }

    /// Why a ciphertext was not opened. The key that its header names is looked at only after core found the
    /// caller allowed with the key of the call.
    fn not_opened(&self, error: Error, about: About<'_>, header: Option<KeyId>) -> Exception {
        let Some(key_id) = about.key_id else {
            return match error {
                Error::Denied | Error::NotFound("key" | "alias") => {
                    Exception::new(Kind::AccessDenied, UNREACHABLE)
                }
                error => {
                    let inside = header.map(|key| key.to_string());
                    self.refusal(error, About { key_id: inside.as_deref(), ..about })
                }
            };
        };
        let of_key = matches!(
            error,
            Error::NotAuthentic
                | Error::NotFound("key version")
                | Error::Unsupported(_)
                | Error::WrongState { .. }
                | Error::Invalid { .. }
        );
        let named = self.place.key(key_id).ok().filter(|_| of_key);
        let named = named.and_then(|key| self.engine.peek(self.caller.tenant, &key));
        match (named, header) {
            (Some(named), Some(inside)) if named.id != inside => Exception::new(
                Kind::IncorrectKey,
                "The key ID in the request does not identify a CMK that can perform this operation.",
            ),
            _ => self.refusal(error, about),
        }
    }

    /// Why a ciphertext was not encrypted anew: because of the key that opens it or of the one that seals it.
    fn not_moved(
        &self,
        error: Error,
        (opening, header): (About<'_>, Option<KeyId>),
        sealing: About<'_>,
    ) -> Exception {
        let sealing_key = || {
            let key = self.place.key(sealing.key_id?).ok()?;
            self.engine.peek(self.caller.tenant, &key)
        };
        let of_source = match error {
            Error::NotAuthentic | Error::NotFound("key version") => true,
            Error::WrongState { operation, .. } => operation == CoreOperation::RewrapFrom,
            // The source is looked for after the other key was found and allowed.
            Error::NotFound(_) => sealing_key().is_some(),
            Error::Unsupported(_) => sealing_key().is_some_and(|key| {
                let mechanism = sealing.algorithm.and_then(EncryptionAlgorithm::parse);
                let mechanism = mechanism.and_then(EncryptionAlgorithm::mechanism);
                KeyUsage::of(key.usage) == Some(KeyUsage::ENCRYPT_DECRYPT)
                    && mechanism.is_some_and(|mechanism| key.algorithm.supports(mechanism))
            }),
            _ => false,
        };
        if of_source { self.not_opened(error, opening, header) } else { self.refusal(error, sealing) }
    }

    pub(super) async fn generate_data_key(
        &self,
        input: input::GenerateDataKey,
    ) -> Result<output::GenerateDataKey, Exception> {
        no_recipient(input.recipient.as_ref())?;
        let about = About::key(Operation::GenerateDataKey, &input.key_id);
        let ask = Ask::DataKey {
            key: self.place.key(&input.key_id)?,
            context: input.encryption_context.unwrap_or_default(),
            bytes: data_key_bytes(input.key_spec, input.number_of_bytes)?,
            with_plaintext: true,
        };
        match self.perform(ask, input.dry_run, about).await? {
            Answer::DataKey { key, version, plaintext, ciphertext } => Ok(output::GenerateDataKey {
                ciphertext_blob: ciphertext.into(),
                plaintext,
                key_id: self.place.key_arn(key),
                ciphertext_for_recipient: None,
                key_material_id: Some(material_id(key, version)),
            }),
            _ => Err(other_answer()),
        }
    }

    pub(super) async fn generate_data_key_without_plaintext(
        &self,
        input: input::GenerateDataKeyWithoutPlaintext,
    ) -> Result<output::GenerateDataKeyWithoutPlaintext, Exception> {
        let about = About::key(Operation::GenerateDataKeyWithoutPlaintext, &input.key_id);
        let ask = Ask::DataKey {
            key: self.place.key(&input.key_id)?,
            context: input.encryption_context.unwrap_or_default(),
            bytes: data_key_bytes(input.key_spec, input.number_of_bytes)?,
            with_plaintext: false,
        };
        match self.perform(ask, input.dry_run, about).await? {
            Answer::DataKey { key, version, ciphertext, .. } => Ok(output::GenerateDataKeyWithoutPlaintext {
                ciphertext_blob: ciphertext.into(),
                key_id: self.place.key_arn(key),
                key_material_id: Some(material_id(key, version)),
            }),
            _ => Err(other_answer()),
        }
    }

    pub(super) async fn generate_data_key_pair(
        &self,
        input: input::GenerateDataKeyPair,
    ) -> Result<output::GenerateDataKeyPair, Exception> {
        no_recipient(input.recipient.as_ref())?;
        let about = About::key(Operation::GenerateDataKeyPair, &input.key_id);
        let spec = input.key_pair_spec;
        let ask = Ask::DataKeyPair {
            key: self.place.key(&input.key_id)?,
            context: input.encryption_context.unwrap_or_default(),
            algorithm: spec.algorithm().ok_or_else(|| Exception::unsupported(spec.name()))?,
            with_plaintext: true,
        };
        match self.perform(ask, input.dry_run, about).await? {
            Answer::DataKeyPair { key, version, pair } => Ok(output::GenerateDataKeyPair {
                private_key_ciphertext_blob: pair.ciphertext.into(),
                private_key_plaintext: pair.private,
                public_key: pair.public.into(),
                key_id: self.place.key_arn(key),
                key_pair_spec: spec,
                ciphertext_for_recipient: None,
                key_material_id: Some(material_id(key, version)),
            }),
            _ => Err(other_answer()),
        }
    }

    pub(super) async fn generate_data_key_pair_without_plaintext(
        &self,
        input: input::GenerateDataKeyPairWithoutPlaintext,
    ) -> Result<output::GenerateDataKeyPairWithoutPlaintext, Exception> {
        let about = About::key(Operation::GenerateDataKeyPairWithoutPlaintext, &input.key_id);
        let spec = input.key_pair_spec;
        let ask = Ask::DataKeyPair {
            key: self.place.key(&input.key_id)?,
            context: input.encryption_context.unwrap_or_default(),
            algorithm: spec.algorithm().ok_or_else(|| Exception::unsupported(spec.name()))?,
            with_plaintext: false,
        };
        match self.perform(ask, input.dry_run, about).await? {
            Answer::DataKeyPair { key, version, pair } => Ok(output::GenerateDataKeyPairWithoutPlaintext {
                private_key_ciphertext_blob: pair.ciphertext.into(),
                public_key: pair.public.into(),
                key_id: self.place.key_arn(key),
                key_pair_spec: spec,
                key_material_id: Some(material_id(key, version)),
            }),
            _ => Err(other_answer()),
        }
    }

    pub(super) async fn generate_random(
        &self,
        input: input::GenerateRandom,
    ) -> Result<output::GenerateRandom, Exception> {
        no_recipient(input.recipient.as_ref())?;
        if input.custom_key_store_id.is_some() {
            let why = Operation::DescribeCustomKeyStores.refused().unwrap_or_default();
            return Err(Exception::new(Kind::UnsupportedOperation, why));
        }
        let bytes = input.number_of_bytes.ok_or_else(|| invalid("NumberOfBytes is required."))?;
        let about = About { operation: Operation::GenerateRandom, key_id: None, algorithm: None };
        match self.perform(Ask::Random { bytes: bytes as usize }, None, about).await? {
            Answer::Random(bytes) => {
                Ok(output::GenerateRandom { plaintext: Some(bytes), ciphertext_for_recipient: None })
            }
            _ => Err(other_answer()),
        }
    }

    pub(super) async fn sign(&self, input: input::Sign) -> Result<output::Sign, Exception> {
        let algorithm = input.signing_algorithm;
        let about = About::key(Operation::Sign, &input.key_id).by(algorithm.name());
        let ask = Ask::Sign {
            key: self.place.key(&input.key_id)?,
            mechanism: Some(algorithm.mechanism().ok_or_else(|| Exception::unsupported(algorithm.name()))?),
            message: message(input.message, input.message_type, algorithm)?,
        };
        match self.perform(ask, input.dry_run, about).await? {
            Answer::Signature { key, signature, .. } => Ok(output::Sign {
                key_id: self.place.key_arn(key),
                signature: signature.into(),
                signing_algorithm: algorithm,
            }),
            _ => Err(other_answer()),
        }
    }

    pub(super) async fn verify(&self, mut input: input::Verify) -> Result<output::Verify, Exception> {
        let algorithm = input.signing_algorithm;
        let about = About::key(Operation::Verify, &input.key_id).by(algorithm.name());
        let ask = Ask::Verify {
            key: self.place.key(&input.key_id)?,
            mechanism: Some(algorithm.mechanism().ok_or_else(|| Exception::unsupported(algorithm.name()))?),
            version: None,
            message: message(input.message, input.message_type, algorithm)?,
            signature: std::mem::take(&mut *input.signature),
        };
        match self.perform(ask, input.dry_run, about).await? {
            Answer::Verified { key, valid: true, .. } => Ok(output::Verify {
                key_id: self.place.key_arn(key),
                signature_valid: true,
                signing_algorithm: algorithm,
            }),
            Answer::Verified { .. } => Err(Exception::silent(Kind::KMSInvalidSignature)),
            _ => Err(other_answer()),
        }
    }

    pub(super) async fn generate_mac(
        &self,
        input: input::GenerateMac,
    ) -> Result<output::GenerateMac, Exception> {
        let algorithm = input.mac_algorithm;
        let about = About::key(Operation::GenerateMac, &input.key_id).by(algorithm.name());
        let ask = Ask::Mac {
            key: self.place.key(&input.key_id)?,
            mechanism: MacAlgorithm::mechanism(algorithm),
            message: input.message,
        };
        match self.perform(ask, input.dry_run, about).await? {
            Answer::Mac { key, mac, .. } => Ok(output::GenerateMac {
                mac: mac.into(),
                mac_algorithm: algorithm,
                key_id: self.place.key_arn(key),
            }),
            _ => Err(other_answer()),
        }
    }

    pub(super) async fn verify_mac(
        &self,
        mut input: input::VerifyMac,
    ) -> Result<output::VerifyMac, Exception> {
        let algorithm = input.mac_algorithm;
        let about = About::key(Operation::VerifyMac, &input.key_id).by(algorithm.name());
        let ask = Ask::VerifyMac {
            key: self.place.key(&input.key_id)?,
            mechanism: MacAlgorithm::mechanism(algorithm),
            version: None,
            message: input.message,
            mac: std::mem::take(&mut *input.mac),
        };
        match self.perform(ask, input.dry_run, about).await? {
            Answer::Verified { key, valid: true, .. } => Ok(output::VerifyMac {
                key_id: self.place.key_arn(key),
                mac_valid: true,
                mac_algorithm: algorithm,
            }),
            Answer::Verified { .. } => Err(Exception::silent(Kind::KMSInvalidMac)),
            _ => Err(other_answer()),
        }
    }

    pub(super) async fn get_public_key(
        &self,
        input: input::GetPublicKey,
    ) -> Result<output::GetPublicKey, Exception> {
        let about = About::key(Operation::GetPublicKey, &input.key_id);
        let ask = Ask::PublicKey { key: self.place.key(&input.key_id)?, version: None };
        let rules = &[Rule::Stays, Rule::HasMaterial, Rule::Enabled];
        let Answer::PublicKey { key, algorithm, usage, der, .. } = self.manage(ask, about, rules).await?
        else {
            return Err(other_answer());
        };
        let (spec, usage) = (KeySpec::of(algorithm), KeyUsage::of(usage));
        let (Some(spec), Some(usage)) = (spec, usage) else {
            return Err(Exception::unsupported(algorithm.name()));
        };
        Ok(output::GetPublicKey {
            key_id: self.place.key_arn(key),
            public_key: der.into(),
            customer_master_key_spec: spec.former(),
            key_spec: spec,
            key_usage: usage,
            encryption_algorithms: spec.encryption_algorithms(usage),
            signing_algorithms: spec.signing_algorithms(usage),
            key_agreement_algorithms: spec.key_agreement_algorithms(usage),
            encapsulation_algorithms: spec.encapsulation_algorithms(usage),
        })
    }

    pub(super) async fn derive_shared_secret(
        &self,
        mut input: input::DeriveSharedSecret,
    ) -> Result<output::DeriveSharedSecret, Exception> {
        no_recipient(input.recipient.as_ref())?;
        let algorithm = input.key_agreement_algorithm;
        let about = About::key(Operation::DeriveSharedSecret, &input.key_id).by(algorithm.name());
        let ask = Ask::Agree {
            key: self.place.key(&input.key_id)?,
            version: None,
            peer: std::mem::take(&mut *input.public_key),
        };
        match self.perform(ask, input.dry_run, about).await? {
            Answer::Shared { key, origin, secret, .. } => Ok(output::DeriveSharedSecret {
                key_id: self.place.key_arn(key),
                shared_secret: Some(secret),
                ciphertext_for_recipient: None,
                key_agreement_algorithm: algorithm,
                key_origin: match origin {
                    Origin::Generated => aws::Origin::AWS_KMS,
                    Origin::Imported => aws::Origin::EXTERNAL,
                },
            }),
            _ => Err(other_answer()),
        }
    }

    pub(super) async fn encapsulate(
        &self,
        input: input::Encapsulate,
    ) -> Result<output::Encapsulate, Exception> {
        let algorithm = input.encapsulation_algorithm;
        let about = About::key(Operation::Encapsulate, &input.key_id).by(algorithm.name());
        let ask = Ask::Encapsulate { key: self.place.key(&input.key_id)? };
        match self.perform(ask, input.dry_run, about).await? {
            Answer::Encapsulated { key, secret, encapsulated, .. } => Ok(output::Encapsulate {
                key_id: self.place.key_arn(key),
                shared_secret: secret,
                shared_secret_ciphertext_blob: encapsulated.into(),
                encapsulation_algorithm: algorithm,
            }),
            _ => Err(other_answer()),
        }
    }

    pub(super) async fn decapsulate(
        &self,
        mut input: input::Decapsulate,
    ) -> Result<output::Decapsulate, Exception> {
        let algorithm = input.encapsulation_algorithm;
        let about = About::key(Operation::Decapsulate, &input.key_id).by(algorithm.name());
        let ask = Ask::Decapsulate {
            key: self.place.key(&input.key_id)?,
            version: None,
            encapsulated: std::mem::take(&mut *input.shared_secret_ciphertext_blob),
        };
        match self.perform(ask, input.dry_run, about).await? {
            Answer::Shared { key, secret, .. } => Ok(output::Decapsulate {
                key_id: self.place.key_arn(key),
                shared_secret: secret,
                encapsulation_algorithm: algorithm,
            }),
            _ => Err(other_answer()),
        }
    }

    pub(super) async fn get_key_last_usage(
        &self,
        input: input::GetKeyLastUsage,
    ) -> Result<output::GetKeyLastUsage, Exception> {
        let about = About::key(Operation::GetKeyLastUsage, &input.key_id);
        let ask = Ask::LastUse { key: self.place.key(&input.key_id)? };
        match self.manage(ask, about, &[]).await? {
            Answer::LastUse { key, created, since, last } => Ok(output::GetKeyLastUsage {
                key_id: self.place.key_arn(key),
                key_last_usage: Some(last_usage(last)),
                tracking_start_date: since,
                key_creation_date: created,
            }),
            _ => Err(other_answer()),
        }
    }
}

/// A last use in AWS's words. Uses that AWS has no word for are there without one.
fn last_usage(last: Option<LastUse>) -> KeyLastUsageData {
    KeyLastUsageData {
        operation: last.and_then(|last| tracked(last.operation)),
        timestamp: last.map(|last| last.time),
        cloud_trail_event_id: None,
        kms_request_id: last.map(|last| last.request.to_string()),
    }
}

fn tracked(operation: CoreOperation) -> Option<TrackedOperation> {
    use CoreOperation as C;
    use TrackedOperation as T;
    Some(match operation {
        C::Encrypt => T::Encrypt,
        C::Decrypt => T::Decrypt,
        C::Rewrap | C::RewrapFrom => T::ReEncrypt,
        C::DataKey => T::GenerateDataKey,
        C::DataKeyWithoutPlaintext => T::GenerateDataKeyWithoutPlaintext,
        C::DataKeyPair => T::GenerateDataKeyPair,
        C::DataKeyPairWithoutPlaintext => T::GenerateDataKeyPairWithoutPlaintext,
        C::Sign => T::Sign,
        C::Verify => T::Verify,
        C::Mac => T::GenerateMac,
        C::VerifyMac => T::VerifyMac,
        C::Agree => T::DeriveSharedSecret,
        C::Encapsulate => T::Encapsulate,
        C::Decapsulate => T::Decapsulate,
        _ => return None,
    })
}

/// How long a data key is to be: by its kind or in bytes, not both.
fn data_key_bytes(spec: Option<DataKeySpec>, bytes: Option<u32>) -> Result<usize, Exception> {
    match (spec, bytes) {
        (Some(DataKeySpec::AES_256), None) => Ok(32),
        (Some(DataKeySpec::AES_128), None) => Ok(16),
        (None, Some(bytes)) => Ok(bytes as usize),
        (None, None) | (Some(_), Some(_)) => {
            Err(invalid("Please specify either number of bytes or key spec."))
        }
    }
}

/// What is signed, if the algorithm takes it in this form.
///
/// ED25519_PH_SHA_512 hashes the digest that it is given once more, as AWS does.
fn message(
    bytes: Secret,
    kind: Option<MessageType>,
    algorithm: SigningAlgorithm,
) -> Result<Message, Exception> {
    use SigningAlgorithm as S;
    let kind = kind.unwrap_or(MessageType::RAW);
    let digest_bytes = match algorithm {
        S::RSASSA_PSS_SHA_256 | S::RSASSA_PKCS1_V1_5_SHA_256 | S::ECDSA_SHA_256 | S::SM2DSA => Some(32),
        S::RSASSA_PSS_SHA_384 | S::RSASSA_PKCS1_V1_5_SHA_384 | S::ECDSA_SHA_384 => Some(48),
        S::RSASSA_PSS_SHA_512 | S::RSASSA_PKCS1_V1_5_SHA_512 | S::ECDSA_SHA_512 | S::ED25519_PH_SHA_512 => {
            Some(64)
        }
        S::ED25519_SHA_512 | S::ML_DSA_SHAKE_256 => None,
    };
    let of_wrong_length = |what| Err(invalid(format!("{what} is invalid length for algorithm {algorithm}.")));
    match (kind, digest_bytes) {
        (MessageType::RAW, _) if algorithm != S::ED25519_PH_SHA_512 => Ok(Message::Whole(bytes)),
        (MessageType::DIGEST, Some(length)) if bytes.len() != length => of_wrong_length("Digest"),
        (MessageType::DIGEST, Some(_)) if algorithm == S::ED25519_PH_SHA_512 => Ok(Message::Whole(bytes)),
        (MessageType::DIGEST, Some(_)) => Ok(Message::Digest(bytes.to_vec())),
        // Core refuses it, and the refusal names the key.
        (MessageType::DIGEST, None) if algorithm == S::ML_DSA_SHAKE_256 => {
            Ok(Message::Digest(bytes.to_vec()))
        }
        (MessageType::EXTERNAL_MU, _) if algorithm == S::ML_DSA_SHAKE_256 => match bytes.len() {
            64 => Ok(Message::Mu(bytes.to_vec())),
            _ => of_wrong_length("External Mu"),
        },
        (MessageType::RAW | MessageType::DIGEST | MessageType::EXTERNAL_MU, _) => {
            Err(invalid(format!("Message type {kind} is incompatible with algorithm {algorithm}.")))
        }
    }
}

/// Refuses a call whose answer only an attested enclave is to read.
fn no_recipient(recipient: Option<&RecipientInfo>) -> Result<(), Exception> {
    match recipient {
        None => Ok(()),
        Some(_) => Err(Exception::new(
            Kind::UnsupportedOperation,
            "This deployment does not verify attestation documents: leave Recipient out.",
        )),
    }
}

fn invalid(text: impl Into<String>) -> Exception {
    Exception::new(Kind::Validation, text)
}
