//! Which method answers which call.

use keyhearth_core::request::Secret;
use keyhearth_proto::aws::{Call, Exception, Kind, Operation, Output};

use super::Exchange;
use super::grants::check_grant_tokens;

impl Exchange<'_> {
    /// Answers a call: the body, or why not.
    pub(super) async fn answer(&self, call: Call) -> Result<Secret, Exception> {
        check_grant_tokens(&call)?;
        match call {
            Call::CancelKeyDeletion(input) => body(self.cancel_key_deletion(input).await),
            Call::ConnectCustomKeyStore(_) => not_here(Operation::ConnectCustomKeyStore),
            Call::CreateAlias(input) => body(self.create_alias(input).await),
            Call::CreateCustomKeyStore(_) => not_here(Operation::CreateCustomKeyStore),
            Call::CreateGrant(input) => body(self.create_grant(input).await),
            Call::CreateKey(input) => body(self.create_key(input).await),
            Call::Decapsulate(input) => body(self.decapsulate(input).await),
            Call::Decrypt(input) => body(self.decrypt(input).await),
            Call::DeleteAlias(input) => body(self.delete_alias(input).await),
            Call::DeleteCustomKeyStore(_) => not_here(Operation::DeleteCustomKeyStore),
            Call::DeleteImportedKeyMaterial(input) => body(self.delete_imported_key_material(input).await),
            Call::DeriveSharedSecret(input) => body(self.derive_shared_secret(input).await),
            Call::DescribeCustomKeyStores(_) => not_here(Operation::DescribeCustomKeyStores),
            Call::DescribeKey(input) => body(self.describe_key(input).await),
            Call::DisableKey(input) => body(self.disable_key(input).await),
            Call::DisableKeyRotation(input) => body(self.disable_key_rotation(input).await),
            Call::DisconnectCustomKeyStore(_) => not_here(Operation::DisconnectCustomKeyStore),
            Call::EnableKey(input) => body(self.enable_key(input).await),
            Call::EnableKeyRotation(input) => body(self.enable_key_rotation(input).await),
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
            Call::GetKeyPolicy(input) => body(self.get_key_policy(input).await),
            Call::GetKeyRotationStatus(input) => body(self.get_key_rotation_status(input).await),
            Call::GetParametersForImport(input) => body(self.get_parameters_for_import(input).await),
            Call::GetPublicKey(input) => body(self.get_public_key(input).await),
            Call::ImportKeyMaterial(input) => body(self.import_key_material(input).await),
            Call::ListAliases(input) => body(self.list_aliases(input).await),
            Call::ListGrants(input) => body(self.list_grants(input).await),
            Call::ListKeyPolicies(input) => body(self.list_key_policies(input).await),
            Call::ListKeyRotations(input) => body(self.list_key_rotations(input).await),
            Call::ListKeys(input) => body(self.list_keys(input).await),
            Call::ListResourceTags(input) => body(self.list_resource_tags(input).await),
            Call::ListRetirableGrants(input) => body(self.list_retirable_grants(input).await),
            Call::PutKeyPolicy(input) => body(self.put_key_policy(input).await),
            Call::ReEncrypt(input) => body(self.re_encrypt(input).await),
            Call::ReplicateKey(_) => not_here(Operation::ReplicateKey),
            Call::RetireGrant(input) => body(self.retire_grant(input).await),
            Call::RevokeGrant(input) => body(self.revoke_grant(input).await),
            Call::RotateKeyOnDemand(input) => body(self.rotate_key_on_demand(input).await),
            Call::ScheduleKeyDeletion(input) => body(self.schedule_key_deletion(input).await),
            Call::Sign(input) => body(self.sign(input).await),
            Call::TagResource(input) => body(self.tag_resource(input).await),
            Call::UntagResource(input) => body(self.untag_resource(input).await),
            Call::UpdateAlias(input) => body(self.update_alias(input).await),
            Call::UpdateCustomKeyStore(_) => not_here(Operation::UpdateCustomKeyStore),
            Call::UpdateKeyDescription(input) => body(self.update_key_description(input).await),
            Call::UpdatePrimaryRegion(_) => not_here(Operation::UpdatePrimaryRegion),
            Call::Verify(input) => body(self.verify(input).await),
            Call::VerifyMac(input) => body(self.verify_mac(input).await),
        }
    }
}

/// The body of an answer.
fn body<T: Output>(result: Result<T, Exception>) -> Result<Secret, Exception> {
    result.map(|output| output.body())
}

/// An operation that this server refuses whatever is in it.
fn not_here(operation: Operation) -> Result<Secret, Exception> {
    let why = operation.refused().unwrap_or("This server does not do that.");
    Err(Exception::new(Kind::UnsupportedOperation, why))
}
