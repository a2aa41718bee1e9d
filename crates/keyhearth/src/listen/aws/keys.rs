//! The life of keys: make, show, list, switch off and on, delete.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "each call takes the one answer that its request gives, and words few of its refusals itself"
)]

use keyhearth_core::key::{Cryptoperiod, DESTROY_DAYS, Key};
use keyhearth_core::request::{Ask, KeyChange, NewKey, Response as Answer};
use keyhearth_crypto::algorithm::Algorithm;
use keyhearth_proto::aws::{
    Exception, KeyListEntry, KeySpec, KeyState, KeyUsage, Kind, Listing, Operation, Origin, ResourceOwner,
    input, output,
};

use super::Exchange;
use super::demand::{Rule, is_left};
use super::metadata::metadata;
use super::refusal::{About, other_answer};
use super::tags::tags;

/// Days until a key is deleted unless the caller says otherwise.
const DELETION_DAYS: u32 = 30;
/// Keys of a page unless the caller says otherwise.
const KEYS_USUAL: usize = 100;

/// What a new key is to be, out of what the call says in several ways.
struct Wish {
    algorithm: Algorithm,
    usage: KeyUsage,
    import: bool,
}

impl Wish {
    fn new(input: &input::CreateKey) -> Result<Self, Exception> {
        let invalid = |text: String| Exception::new(Kind::Validation, text);
        let refused = |operation: Operation| {
            Exception::new(Kind::UnsupportedOperation, operation.refused().unwrap_or_default())
        };
        if input.key_spec.is_some() && input.customer_master_key_spec.is_some() {
            return Err(invalid(
                "You cannot specify KeySpec and CustomerMasterKeySpec in the same request. CustomerMasterKeySpec is \
                 deprecated."
                    .to_owned(),
            ));
        }
        if input.multi_region == Some(true) {
            return Err(refused(Operation::ReplicateKey));
        }
        let import = match input.origin {
            None | Some(Origin::AWS_KMS) => false,
            Some(Origin::EXTERNAL) => true,
            Some(Origin::AWS_CLOUDHSM | Origin::EXTERNAL_KEY_STORE) => {
                return Err(refused(Operation::CreateCustomKeyStore));
            }
        };
        if input.custom_key_store_id.is_some() || input.xks_key_id.is_some() {
            return Err(refused(Operation::CreateCustomKeyStore));
        }
        let former = input.customer_master_key_spec.map(|former| former.present());
        let spec = input.key_spec.or(former).unwrap_or(KeySpec::SYMMETRIC_DEFAULT);
        let usage = match input.key_usage {
            Some(usage) => usage,
            None if spec == KeySpec::SYMMETRIC_DEFAULT => KeyUsage::ENCRYPT_DECRYPT,
            None => {
                return Err(invalid(
                    "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys."
                        .to_owned(),
                ));
            }
        };
        if !spec.usages().contains(&usage) {
            return Err(invalid(format!("KeyUsage {usage} is not compatible with KeySpec {spec}")));
        }
        let algorithm = spec.algorithm().ok_or_else(|| Exception::unsupported(&format!("KeySpec {spec}")))?;
        Ok(Self { algorithm, usage, import })
    }
}

impl Exchange<'_> {
    pub(super) async fn create_key(&self, input: input::CreateKey) -> Result<output::CreateKey, Exception> {
        let Wish { algorithm, usage, import } = Wish::new(&input)?;
        let written = match input.policy {
            Some(text) => Some(self.written(text, None).await?),
            None => None,
        };
        let new = NewKey {
            algorithm,
            usage: usage.uses().iter().map(|&one| one.to_owned()).collect(),
            exportable: false,
            import,
            description: input.description.unwrap_or_default(),
            tags: tags(input.tags.unwrap_or_default())?,
            alias: None,
            activation: None,
            cryptoperiod: Cryptoperiod::default(),
            rotate_days: None,
            policy: written.as_ref().map(|written| written.policy.clone()).unwrap_or_default(),
        };
        let about = About { operation: Operation::CreateKey, key_id: None, algorithm: None };
        let answer = self.run(Ask::CreateKey(new), false).await.map_err(|error| {
            let of_policy = written.as_ref().and_then(|written| written.refusal(error));
            of_policy.unwrap_or_else(|| self.refusal(error, about))
        })?;
        match answer {
            Answer::Key(key) => {
                Ok(output::CreateKey { key_metadata: metadata(self.place, &key, self.engine.now())? })
            }
            _ => Err(other_answer()),
        }
    }

    pub(super) async fn describe_key(
        &self,
        input: input::DescribeKey,
    ) -> Result<output::DescribeKey, Exception> {
        let key = self.described(Operation::DescribeKey, &input.key_id, &[]).await?;
        Ok(output::DescribeKey { key_metadata: metadata(self.place, &key, self.engine.now())? })
    }

    /// The key, for calls that tell of it.
    pub(super) async fn described(
        &self,
        operation: Operation,
        key_id: &str,
        rules: &'static [Rule],
    ) -> Result<Box<Key>, Exception> {
        let ask = Ask::DescribeKey { key: self.place.key(key_id)? };
        match self.manage(ask, About::key(operation, key_id), rules).await? {
            Answer::Key(key) => Ok(key),
            _ => Err(other_answer()),
        }
    }

    pub(super) async fn list_keys(&self, input: input::ListKeys) -> Result<output::ListKeys, Exception> {
        let owners = input.resource_owners.unwrap_or_else(|| vec![ResourceOwner::SELF]);
        let listing = Listing {
            caller: self.caller.principal,
            operation: Operation::ListKeys,
            filter: if owners.contains(&ResourceOwner::SELF) { "" } else { "others" },
        };
        let page = listing.page(input.marker.as_deref(), input.limit, KEYS_USUAL)?;
        if !owners.contains(&ResourceOwner::SELF) {
            // Nobody shares keys with this account.
            return Ok(output::ListKeys { keys: Vec::new(), next_marker: None, truncated: false });
        }
        let about = About { operation: Operation::ListKeys, key_id: None, algorithm: None };
        match self.perform(Ask::ListKeys { page }, None, about).await? {
            Answer::Keys { keys, next } => {
                let entry = |key: &Key| KeyListEntry {
                    key_id: key.id.to_string(),
                    key_arn: self.place.key_arn(key.id),
                };
                Ok(output::ListKeys {
                    keys: keys.iter().filter(|key| is_left(key)).map(entry).collect(),
                    truncated: next.is_some(),
                    next_marker: next.map(|cursor| listing.marker(&cursor)),
                })
            }
            _ => Err(other_answer()),
        }
    }

    pub(super) async fn enable_key(&self, input: input::EnableKey) -> Result<(), Exception> {
        let ask = Ask::ResumeKey { key: self.place.key(&input.key_id)?, version: None };
        self.manage(ask, About::key(Operation::EnableKey, &input.key_id), USED).await.map(drop)
    }

    pub(super) async fn disable_key(&self, input: input::DisableKey) -> Result<(), Exception> {
        let ask = Ask::SuspendKey { key: self.place.key(&input.key_id)?, version: None };
        self.manage(ask, About::key(Operation::DisableKey, &input.key_id), USED).await.map(drop)
    }

    pub(super) async fn update_key_description(
        &self,
        input: input::UpdateKeyDescription,
    ) -> Result<(), Exception> {
        let change = KeyChange { description: Some(input.description), ..KeyChange::default() };
        let ask = Ask::UpdateKey { key: self.place.key(&input.key_id)?, change };
        self.manage(ask, About::key(Operation::UpdateKeyDescription, &input.key_id), KEPT).await.map(drop)
    }

    pub(super) async fn schedule_key_deletion(
        &self,
        input: input::ScheduleKeyDeletion,
    ) -> Result<output::ScheduleKeyDeletion, Exception> {
        let days = input.pending_window_in_days.unwrap_or(DELETION_DAYS);
        if !DESTROY_DAYS.contains(&days) {
            let text = "PendingWindowInDays must be between 7 and 30 days.";
            return Err(Exception::new(Kind::Validation, text));
        }
        let ask = Ask::ScheduleDestroy { key: self.place.key(&input.key_id)?, days };
        let about = About::key(Operation::ScheduleKeyDeletion, &input.key_id);
        match self.manage(ask, about, KEPT).await? {
            Answer::Key(key) => Ok(output::ScheduleKeyDeletion {
                key_id: self.place.key_arn(key.id),
                deletion_date: key.destroy_at.ok_or_else(other_answer)?,
                key_state: KeyState::PendingDeletion,
                pending_window_in_days: days,
            }),
            _ => Err(other_answer()),
        }
    }

    pub(super) async fn cancel_key_deletion(
        &self,
        input: input::CancelKeyDeletion,
    ) -> Result<output::CancelKeyDeletion, Exception> {
        let ask = Ask::CancelDestroy { key: self.place.key(&input.key_id)?, suspend: true };
        let about = About::key(Operation::CancelKeyDeletion, &input.key_id);
        match self.manage(ask, about, &[Rule::Ends]).await? {
            Answer::Key(key) => Ok(output::CancelKeyDeletion { key_id: self.place.key_arn(key.id) }),
            _ => Err(other_answer()),
        }
    }
}

/// What is demanded of a key that is to be changed.
pub(super) const KEPT: &[Rule] = &[Rule::Stays];
/// What is demanded of a key that is switched off or on.
const USED: &[Rule] = &[Rule::Stays, Rule::HasMaterial];

#[cfg(test)]
mod tests {
    use keyhearth_proto::aws::{Call, CustomerMasterKeySpec};

    use super::*;

    fn wish(body: &str) -> Result<Wish, (Kind, String)> {
        let Ok(Call::CreateKey(input)) = Call::parse(Operation::CreateKey, body.as_bytes()) else {
            panic!("{body}")
        };
        Wish::new(&input).map_err(|exception| (exception.kind, exception.message.unwrap()))
    }

    fn made(body: &str) -> (Algorithm, KeyUsage, bool) {
        let Wish { algorithm, usage, import } = wish(body).unwrap_or_else(|why| panic!("{body}: {why:?}"));
        (algorithm, usage, import)
    }

    #[test]
    fn a_key_is_what_the_call_says() {
        let usual = (Algorithm::Aes256, KeyUsage::ENCRYPT_DECRYPT, false);
        assert_eq!(made("{}"), usual);
        assert_eq!(made(r#"{"MultiRegion":false,"Origin":"AWS_KMS"}"#), usual);
        assert_eq!(made(r#"{"Origin":"EXTERNAL"}"#), (Algorithm::Aes256, KeyUsage::ENCRYPT_DECRYPT, true));
        let agreement = r#"{"KeySpec":"ECC_NIST_P384","KeyUsage":"KEY_AGREEMENT"}"#;
        assert_eq!(made(agreement), (Algorithm::EcP384, KeyUsage::KEY_AGREEMENT, false));
        for &spec in CustomerMasterKeySpec::ALL {
            let Some(algorithm) = spec.present().algorithm() else { continue };
            let usage = spec.present().usages()[0];
            let body = format!(r#"{{"CustomerMasterKeySpec":"{spec}","KeyUsage":"{usage}"}}"#);
            assert_eq!(made(&body), (algorithm, usage, false));
        }
    }

    #[test]
    fn what_cannot_be_made_is_refused() {
        for (body, kind, text) in [
            (
                r#"{"KeySpec":"HMAC_256"}"#,
                Kind::Validation,
                "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.",
            ),
            (
                r#"{"KeySpec":"HMAC_256","KeyUsage":"SIGN_VERIFY"}"#,
                Kind::Validation,
                "KeyUsage SIGN_VERIFY is not compatible with KeySpec HMAC_256",
            ),
            (
                r#"{"KeySpec":"RSA_2048","CustomerMasterKeySpec":"RSA_2048","KeyUsage":"SIGN_VERIFY"}"#,
                Kind::Validation,
                "You cannot specify KeySpec and CustomerMasterKeySpec in the same request. CustomerMasterKeySpec is \
                 deprecated.",
            ),
            (
                r#"{"KeySpec":"SM2","KeyUsage":"SIGN_VERIFY"}"#,
                Kind::UnsupportedOperation,
                "KeySpec SM2 is not supported by this deployment.",
            ),
        ] {
            assert_eq!(wish(body).err(), Some((kind, text.to_owned())), "{body}");
        }
        for body in [
            r#"{"MultiRegion":true}"#,
            r#"{"Origin":"AWS_CLOUDHSM","CustomKeyStoreId":"cks-1"}"#,
            r#"{"CustomKeyStoreId":"cks-1"}"#,
            r#"{"Origin":"EXTERNAL_KEY_STORE","XksKeyId":"k"}"#,
        ] {
            let (kind, text) = wish(body).err().unwrap();
            assert_eq!(kind, Kind::UnsupportedOperation, "{body}");
            assert!(text.starts_with("This deployment has "), "{text}");
        }
    }
}
