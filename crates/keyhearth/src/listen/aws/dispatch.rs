//! Which method answers which call.

use keyhearth_core::request::Secret;
use keyhearth_proto::aws::{Call, Exception, Kind, Operation, Output};

use super::Exchange;

impl Exchange<'_> {
    /// Answers a call: the body, or why not.
    pub(super) async fn answer(&self, call: Call) -> Result<Secret, Exception> {
        match call {
            Call::CancelKeyDeletion(_) => not_here(Operation::CancelKeyDeletion),
            Call::ConnectCustomKeyStore(_) => not_here(Operation::ConnectCustomKeyStore),
            Call::CreateAlias(_) => not_here(Operation::CreateAlias),
            Call::CreateCustomKeyStore(_) => not_here(Operation::CreateCustomKeyStore),
            Call::CreateGrant(_) => not_here(Operation::CreateGrant),
            Call::CreateKey(_) => not_here(Operation::CreateKey),
            Call::Decapsulate(input) => body(self.decapsulate(input).await),
            Call::Decrypt(input) => body(self.decrypt(input).await),
            Call::DeleteAlias(_) => not_here(Operation::DeleteAlias),
            Call::DeleteCustomKeyStore(_) => not_here(Operation::DeleteCustomKeyStore),
            Call::DeleteImportedKeyMaterial(_) => not_here(Operation::DeleteImportedKeyMaterial),
            Call::DeriveSharedSecret(input) => body(self.derive_shared_secret(input).await),
            Call::DescribeCustomKeyStores(_) => not_here(Operation::DescribeCustomKeyStores),
            Call::DescribeKey(_) => not_here(Operation::DescribeKey),
            Call::DisableKey(_) => not_here(Operation::DisableKey),
            Call::DisableKeyRotation(_) => not_here(Operation::DisableKeyRotation),
            Call::DisconnectCustomKeyStore(_) => not_here(Operation::DisconnectCustomKeyStore),
            Call::EnableKey(_) => not_here(Operation::EnableKey),
            Call::EnableKeyRotation(_) => not_here(Operation::EnableKeyRotation),
            Call::Encapsulate(input) => body(self.encapsulate(input).await),
            Call::Encrypt(input) => body(self.encrypt(input).await),
            Call::GenerateDataKey(input) => body(self.generate_data_key(input).await),
            Call::GenerateDataKeyPair(input) => body(self.generate_data_key_pair(input).await),
            Call::GenerateDataKeyPairWithoutPlaintext(input) => {
                body(self.generate_data_key_pair_without_plaintext(input).await)
            }
            Call::GenerateDataKeyWithoutPlaintext(input) => {
                body(self.generate_data_key_without_plaintext(input).await)
            }
            Call::GenerateMac(input) => body(self.generate_mac(input).await),
            Call::GenerateRandom(input) => body(self.generate_random(input).await),
            Call::GetKeyLastUsage(input) => body(self.get_key_last_usage(input).await),
            Call::GetKeyPolicy(_) => not_here(Operation::GetKeyPolicy),
            Call::GetKeyRotationStatus(_) => not_here(Operation::GetKeyRotationStatus),
            Call::GetParametersForImport(_) => not_here(Operation::GetParametersForImport),
            Call::GetPublicKey(input) => body(self.get_public_key(input).await),
            Call::ImportKeyMaterial(_) => not_here(Operation::ImportKeyMaterial),
            Call::ListAliases(_) => not_here(Operation::ListAliases),
            Call::ListGrants(_) => not_here(Operation::ListGrants),
            Call::ListKeyPolicies(_) => not_here(Operation::ListKeyPolicies),
            Call::ListKeyRotations(_) => not_here(Operation::ListKeyRotations),
            Call::ListKeys(_) => not_here(Operation::ListKeys),
            Call::ListResourceTags(_) => not_here(Operation::ListResourceTags),
            Call::ListRetirableGrants(_) => not_here(Operation::ListRetirableGrants),
            Call::PutKeyPolicy(_) => not_here(Operation::PutKeyPolicy),
            Call::ReEncrypt(input) => body(self.re_encrypt(input).await),
            Call::ReplicateKey(_) => not_here(Operation::ReplicateKey),
            Call::RetireGrant(_) => not_here(Operation::RetireGrant),
            Call::RevokeGrant(_) => not_here(Operation::RevokeGrant),
            Call::RotateKeyOnDemand(_) => not_here(Operation::RotateKeyOnDemand),
            Call::ScheduleKeyDeletion(_) => not_here(Operation::ScheduleKeyDeletion),
            Call::Sign(input) => body(self.sign(input).await),
            Call::TagResource(_) => not_here(Operation::TagResource),
            Call::UntagResource(_) => not_here(Operation::UntagResource),
            Call::UpdateAlias(_) => not_here(Operation::UpdateAlias),
            Call::UpdateCustomKeyStore(_) => not_here(Operation::UpdateCustomKeyStore),
            Call::UpdateKeyDescription(_) => not_here(Operation::UpdateKeyDescription),
            Call::UpdatePrimaryRegion(_) => not_here(Operation::UpdatePrimaryRegion),
            Call::Verify(input) => body(self.verify(input).await),
            Call::VerifyMac(input) => body(self.verify_mac(input).await),
        }
    }
}

#[allow(dead_code, reason = "the first operation uses it")]
/// The body of an answer.
fn body<T: Output>(result: Result<T, Exception>) -> Result<Secret, Exception> {
    result.map(|output| output.body())
}

/// An operation that this server refuses whatever is in it.
fn not_here(operation: Operation) -> Result<Secret, Exception> {
    let why = operation.refused().unwrap_or("This server does not do that yet.");
    Err(Exception::new(Kind::UnsupportedOperation, why))
}
