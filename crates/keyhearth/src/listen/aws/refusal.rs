//! From core's refusals to AWS's, in AWS's words.
//!
//! To word a refusal a key may be looked at, but only one that core gave because of the key, after it had found
//! the caller allowed: nobody learns of a key's state or use by it. What was not allowed, or is not there, is
//! spoken of as it was asked for.

use keyhearth_core::Error;
use keyhearth_core::id::Name;
use keyhearth_core::key::Key;
use keyhearth_core::request::{Ask, KeyRef, Response as Answer};
use keyhearth_core::state::State;
use keyhearth_core::time::Now;
use keyhearth_crypto::algorithm::Algorithm;
use keyhearth_proto::aws::{Exception, KeySpec, KeyUsage, Kind, Operation, Place};

use super::Exchange;

/// What a call is about, for the wording of its refusal.
#[derive(Clone, Copy)]
pub(super) struct About<'a> {
    /// What was called.
    pub operation: Operation,
    /// The key as the call named it.
    pub key_id: Option<&'a str>,
    /// The encryption, signing, MAC or other algorithm that the call named.
    pub algorithm: Option<&'static str>,
}

impl<'a> About<'a> {
    /// A call about one key.
    pub(super) const fn key(operation: Operation, key_id: &'a str) -> Self {
        Self { operation, key_id: Some(key_id), algorithm: None }
    }

    /// The same, with an algorithm.
    pub(super) const fn by(self, algorithm: &'static str) -> Self {
        Self { algorithm: Some(algorithm), ..self }
    }
}

impl Exchange<'_> {
    /// Asks the engine, or in a dry run whether it would do it; refusals are in AWS's words.
    pub(super) async fn perform(
        &self,
        ask: Ask,
        dry_run: Option<bool>,
        about: About<'_>,
    ) -> Result<Answer, Exception> {
        let result = self.run(ask, dry_run.unwrap_or(false)).await;
        performed(result.map_err(|error| self.refusal(error, about))?)
    }

    /// Words a refusal of core.
    pub(super) fn refusal(&self, error: Error, about: About<'_>) -> Exception {
        let asked = about.key_id.and_then(|key_id| self.place.key(key_id).ok());
        let key = asked.as_ref().filter(|_| is_about_the_key(error));
        let key = key.and_then(|key| self.engine.peek(self.caller.tenant, key));
        let scene = Scene {
            place: self.place,
            caller: &self.caller.name,
            asked: asked.as_ref(),
            key: key.as_deref(),
            now: self.engine.now(),
        };
        word(error, about, &scene)
    }
}

/// An answer, unless it is that of a dry run.
pub(super) fn performed(answer: Answer) -> Result<Answer, Exception> {
    if matches!(answer, Answer::WouldSucceed) {
        let text = "The request would have succeeded, but the DryRun option is set.";
        return Err(Exception::new(Kind::DryRunOperation, text));
    }
    Ok(answer)
}

/// An answer of another kind than what was asked for gives.
pub(super) fn other_answer() -> Exception {
    Exception::silent(Kind::KMSInternal)
}

/// Whether core gives this error only after the caller was found allowed, and because of the key.
fn is_about_the_key(error: Error) -> bool {
    match error {
        Error::WrongState { .. } | Error::Unsupported(_) | Error::TooLarge { .. } | Error::Invalid { .. } => {
            true
        }
        Error::Unauthenticated
        | Error::Denied
        | Error::NotFound(_)
        | Error::Conflict(_)
        | Error::TooMany { .. }
        | Error::NotAuthentic
        | Error::Sealed
        | Error::Unavailable { .. }
        | Error::Damaged(_)
        | Error::Internal(_) => false,
    }
}

/// Who asked for what, and what is known of it.
struct Scene<'a> {
    place: &'a Place,
    caller: &'a Name,
    asked: Option<&'a KeyRef>,
    key: Option<&'a Key>,
    now: Now,
}

impl Scene<'_> {
    /// The ARN of the key, or of what was asked for in its place.
    fn arn(&self) -> String {
        match (self.key, self.asked) {
            (Some(key), _) => self.place.key_arn(key.id),
            (None, Some(KeyRef::Id(id))) => self.place.key_arn(*id),
            (None, Some(KeyRef::Alias(alias))) => self.place.alias_arn(alias),
            (None, None) => "*".to_owned(),
        }
    }

    fn missing(&self, what: &'static str) -> Exception {
        match self.asked {
            Some(key) if matches!(what, "key" | "alias") => self.place.missing(key),
            Some(_) | None => Exception::new(Kind::NotFound, format!("{} is not found.", capitalised(what))),
        }
    }
}

/// Words an error. A new one does not compile until it is answered here.
fn word(error: Error, about: About<'_>, scene: &Scene<'_>) -> Exception {
    match error {
        Error::Unauthenticated => {
            Exception::new(Kind::UnrecognizedClient, "The security token included in the request is invalid.")
        }
        Error::Denied => denied(about, scene),
        Error::NotFound("key version") => Exception::silent(Kind::InvalidCiphertext),
        Error::NotFound(what) => scene.missing(what),
        Error::Invalid { field: "reason", .. } => disabled(scene),
        // As AWS, which says nothing of what is wrong with a point.
        Error::Invalid { .. } if about.operation == Operation::DeriveSharedSecret => {
            Exception::silent(Kind::Validation)
        }
        Error::Invalid { field, rule } => Exception::new(Kind::Validation, format!("{field}: {rule}")),
        Error::WrongState { state, .. } => wrong_state(state, scene),
        Error::Conflict(what) => Exception::new(Kind::Conflict, capitalised(what)),
        Error::TooLarge { field, limit } => too_large((field, limit), about, scene),
        Error::Unsupported(what) => unsupported(what, about, scene),
        Error::TooMany { .. } => throttled(),
        Error::NotAuthentic => Exception::silent(Kind::InvalidCiphertext),
        Error::Sealed | Error::Unavailable { .. } | Error::Damaged(_) | Error::Internal(_) => ours(error),
    }
}

/// Said to who asks too often.
pub(super) fn throttled() -> Exception {
    Exception::new(Kind::Throttling, "Rate exceeded")
}

/// Words an error that is nobody's but ours. What passes by itself is 503, which clients try again.
pub(super) fn ours(error: Error) -> Exception {
    let (kind, text) = if error == Error::Sealed {
        (Kind::ServiceUnavailable, "The server is sealed.")
    } else if matches!(error, Error::Unavailable { .. }) {
        (Kind::ServiceUnavailable, "The server cannot take the request now.")
    } else {
        (Kind::KMSInternal, "The server failed; its log tells what happened under the id of this request.")
    };
    Exception::new(kind, text)
}

fn denied(about: About<'_>, scene: &Scene<'_>) -> Exception {
    let (caller, resource) = (scene.place.identity_arn(scene.caller), scene.arn());
    // Encrypting anew are two actions on two keys, and core does not say which of them is not allowed.
    let anew = about.operation == Operation::ReEncrypt;
    let action = if anew { "ReEncrypt*" } else { about.operation.name() };
    Exception::new(
        Kind::AccessDenied,
        format!(
            "User: {caller} is not authorized to perform: kms:{action} on resource: {resource} because no \
             identity-based policy allows the kms:{action} action"
        ),
    )
}

/// A state that AWS knows no word for stops a key as disabling it does.
fn wrong_state(state: State, scene: &Scene<'_>) -> Exception {
    let invalid = |what: &str| Exception::new(Kind::KMSInvalidState, format!("{} is {what}.", scene.arn()));
    let awaits_material = |key: &Key| {
        key.versions.iter().any(|version| !version.has_material_at(scene.now) && version.destroyed.is_none())
    };
    let lives = |key: &Key| key.versions.iter().any(|version| version.destroyed.is_none());
    if scene.key.is_some_and(|key| key.destroy_at.is_some()) {
        return invalid("pending deletion");
    }
    match state {
        State::PreActive if scene.key.is_none_or(awaits_material) => invalid("pending import"),
        State::Active => invalid("not in a state that allows this"),
        State::Destroyed if scene.key.is_some_and(lives) => invalid("unavailable"),
        State::Destroyed => scene.missing("key"),
        State::PreActive | State::Suspended | State::Deactivated | State::Compromised => disabled(scene),
    }
}

fn disabled(scene: &Scene<'_>) -> Exception {
    Exception::new(Kind::Disabled, format!("{} is disabled.", scene.arn()))
}

fn too_large((field, limit): (&str, usize), about: About<'_>, scene: &Scene<'_>) -> Exception {
    let spec =
        scene.key.filter(|key| key.algorithm.is_asymmetric()).and_then(|key| KeySpec::of(key.algorithm));
    if let (Some(spec), Some(algorithm)) = (spec, about.algorithm) {
        return Exception::new(
            Kind::Validation,
            format!(
                "Algorithm {algorithm} and key spec {spec} cannot encrypt data larger than {limit} bytes."
            ),
        );
    }
    let kind = match field {
        "aliases" | "grants" | "keys" | "policies" | "tags" | "versions" => Kind::LimitExceeded,
        _ => Kind::Validation,
    };
    Exception::new(kind, format!("{} exceeds the limit of {limit}.", capitalised(field)))
}

fn unsupported(what: &str, about: About<'_>, scene: &Scene<'_>) -> Exception {
    let otherwise = || Exception::new(Kind::UnsupportedOperation, capitalised(what));
    let (Some(key), Some(needed)) = (scene.key, usage_for(about.operation)) else { return otherwise() };
    let misused = |text| Exception::new(Kind::InvalidKeyUsage, text);
    match (KeyUsage::of(key.usage), KeySpec::of(key.algorithm)) {
        (Some(usage), _) if usage != needed => misused(format!(
            "{} key usage is {usage} which is not valid for {}.",
            scene.arn(),
            about.operation.name()
        )),
        (Some(_), Some(spec)) => match about.algorithm {
            Some(algorithm) if !serves(key.algorithm, algorithm) => {
                misused(format!("Algorithm {algorithm} is incompatible with key spec {spec}."))
            }
            Some(_) if matches!(about.operation, Operation::Sign | Operation::Verify) => Exception::new(
                Kind::Validation,
                format!("Message type DIGEST is incompatible with key spec {spec}."),
            ),
            None if makes_data_keys(about.operation) && spec != KeySpec::SYMMETRIC_DEFAULT => {
                misused("You cannot generate a data key with an asymmetric CMK".to_owned())
            }
            Some(_) | None => otherwise(),
        },
        (Some(_) | None, _) => otherwise(),
    }
}

/// Whether keys of `algorithm` do what AWS calls `name`.
fn serves(algorithm: Algorithm, name: &str) -> bool {
    use keyhearth_proto::aws::{
        EncapsulationAlgorithm, EncryptionAlgorithm, KeyAgreementAlgorithm, MacAlgorithm, SigningAlgorithm,
    };
    let mechanism = EncryptionAlgorithm::parse(name)
        .and_then(EncryptionAlgorithm::mechanism)
        .or_else(|| SigningAlgorithm::parse(name)?.mechanism())
        .or_else(|| MacAlgorithm::parse(name)?.mechanism())
        .or_else(|| KeyAgreementAlgorithm::parse(name)?.mechanism())
        .or_else(|| EncapsulationAlgorithm::parse(name)?.mechanism());
    mechanism.is_some_and(|mechanism| algorithm.supports(mechanism))
}

/// What a key must be for, that the operation may use it.
#[expect(clippy::wildcard_enum_match_arm, reason = "only uses of material are restricted")]
fn usage_for(operation: Operation) -> Option<KeyUsage> {
    use Operation as O;
    match operation {
        O::Encrypt | O::Decrypt | O::ReEncrypt => Some(KeyUsage::ENCRYPT_DECRYPT),
        operation if makes_data_keys(operation) => Some(KeyUsage::ENCRYPT_DECRYPT),
        O::Sign | O::Verify => Some(KeyUsage::SIGN_VERIFY),
        O::GenerateMac | O::VerifyMac => Some(KeyUsage::GENERATE_VERIFY_MAC),
        O::DeriveSharedSecret => Some(KeyUsage::KEY_AGREEMENT),
        O::Encapsulate | O::Decapsulate => Some(KeyUsage::ENCAPSULATE_DECAPSULATE),
        _ => None,
    }
}

fn makes_data_keys(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::GenerateDataKey
            | Operation::GenerateDataKeyWithoutPlaintext
            | Operation::GenerateDataKeyPair
            | Operation::GenerateDataKeyPairWithoutPlaintext
    )
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use keyhearth_core::id::KeyId;

    use super::*;

    /// What a caller reads of `error`, when nothing is known of the key.
    fn said(error: Error, operation: Operation) -> (&'static str, Option<String>) {
        let place = Place::new("111122223333", "eu-central-1").unwrap();
        let (caller, asked) = ("app".parse().unwrap(), KeyRef::Id(KeyId([1; 16])));
        let now = Now::exactly(keyhearth_core::time::Time::from_unix_ms(1));
        let scene = Scene { place: &place, caller: &caller, asked: Some(&asked), key: None, now };
        let Exception { kind, message } = word(error, About::key(operation, ""), &scene);
        (kind.name(), message)
    }

    #[test]
    fn every_refusal_has_its_words() {
        let arn = "arn:aws:kms:eu-central-1:111122223333:key/01010101-0101-0101-0101-010101010101";
        let wrong =
            |state| Error::WrongState { state, operation: keyhearth_core::operation::Operation::Encrypt };
        let denied = format!(
            "User: arn:aws:iam::111122223333:user/app is not authorized to perform: kms:Encrypt on resource: {arn} \
             because no identity-based policy allows the kms:Encrypt action"
        );
        for (error, kind, message) in [
            (Error::Denied, "AccessDeniedException", denied.as_str()),
            (Error::NotFound("key"), "NotFoundException", &format!("Key '{arn}' does not exist")),
            (Error::NotFound("grant"), "NotFoundException", "Grant is not found."),
            (
                Error::Invalid { field: "context", rule: "at most 64 pairs" },
                "ValidationException",
                "context: at most 64 pairs",
            ),
            (wrong(State::Suspended), "DisabledException", &format!("{arn} is disabled.")),
            (wrong(State::PreActive), "KMSInvalidStateException", &format!("{arn} is pending import.")),
            (wrong(State::Destroyed), "NotFoundException", &format!("Key '{arn}' does not exist")),
            (Error::Conflict("it exists already"), "ConflictException", "It exists already"),
            (
                Error::TooLarge { field: "aliases", limit: 50 },
                "LimitExceededException",
                "Aliases exceeds the limit of 50.",
            ),
            (Error::Unsupported("this use"), "UnsupportedOperationException", "This use"),
            (Error::TooMany { retry_after_ms: 1 }, "ThrottlingException", "Rate exceeded"),
            (Error::Sealed, "ServiceUnavailableException", "The server is sealed."),
            (
                Error::Unavailable { retry_after_ms: 1 },
                "ServiceUnavailableException",
                "The server cannot take the request now.",
            ),
        ] {
            assert_eq!(said(error, Operation::Encrypt), (kind, Some(message.to_owned())), "{error:?}");
        }
        for error in [Error::NotAuthentic, Error::NotFound("key version")] {
            assert_eq!(said(error, Operation::Decrypt), ("InvalidCiphertextException", None));
        }
        for error in [Error::Damaged("the secret part"), Error::Internal("the secret part")] {
            let (kind, message) = said(error, Operation::Sign);
            assert_eq!(kind, "KMSInternalException");
            assert!(!message.unwrap().contains("secret"), "what is ours stays in the log");
        }
        let point = Error::Invalid { field: "body", rule: "not on the curve" };
        assert_eq!(said(point, Operation::DeriveSharedSecret), ("ValidationException", None));
    }
}
