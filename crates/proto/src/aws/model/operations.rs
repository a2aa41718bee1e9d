//! The table: every operation of the API, what it takes and what it gives.
//!
//! A member without `Option` has to be there in an input and is always there in an output. Rows keep AWS's
//! order, members too; enumerations, structures and limits are in [`super::types`] and [`super::texts`].

use keyhearth_core::request::Secret;

use crate::aws::error::{Exception, Kind};
use crate::aws::json::Writer;

use super::coverage::{Coverage, Field};
use super::kinds::{Integer, List};
use super::macros::structure;
use super::shape::{Shape, Source};
use super::texts::GrantTokenText;

/// The most items of a page.
type Limit = Integer<1, 1000>;
/// How many bytes are drawn.
type ByteCount = Integer<1, 1024>;
/// Days between automatic rotations.
type RotationDays = Integer<90, 2560>;
/// Days until a key is deleted.
type WindowDays = Integer<1, 365>;
/// Tokens of grants that are new.
type GrantTokens = List<GrantTokenText, 0, 10>;

/// Why what needs custom key stores is refused.
const KEY_STORES: &str = "This deployment has no custom key stores.";
/// Why what needs several regions is refused.
const REGIONS: &str = "This deployment has one region: there are no multi-Region keys.";

/// What an operation gives.
pub trait Output {
    /// The body of the answer; its status is 200. Empty where AWS's model has no output at all.
    fn body(&self) -> Secret;
}

impl Output for () {
    fn body(&self) -> Secret {
        Secret::default()
    }
}

macro_rules! output {
    ($name:ident nothing) => {
        #[doc = concat!("`", stringify!($name), "` gives nothing.")]
        pub type $name = ();
    };
    ($name:ident { $($fields:tt)* }) => {
        structure! {
            #[doc = concat!("What `", stringify!($name), "` gives.")]
            $name { $($fields)* }
        }

        impl Output for $name {
            fn body(&self) -> Secret {
                let mut writer = Writer::new();
                Self::write(self, &mut writer);
                writer.finish()
            }
        }
    };
}

macro_rules! describe_output {
    ($name:ident nothing $fields:ident) => {};
    ($name:ident { $($members:tt)* } $fields:ident) => {
        output::$name::describe(Field::default(), &mut $fields)
    };
}

macro_rules! operations {
    ($($name:ident $input:tt -> $output:tt $(, refused $refused:ident)?;)+) => {
        /// An operation of the API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "AWS's documentation describes them")]
        pub enum Operation { $($name,)+ }

        impl Operation {
            /// All of them, in AWS's order.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// AWS's name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// Why this server refuses the operation, if it does.
            #[must_use]
            pub const fn refused(self) -> Option<&'static str> {
                match self { $(Self::$name => operations!(@refused $($refused)?),)+ }
            }

            /// What the table says of it.
            pub(super) fn coverage(self) -> Coverage {
                let (mut input, mut output) = (Vec::new(), Vec::new());
                match self {
                    $(Self::$name => {
                        input::$name::describe(Field::default(), &mut input);
                        describe_output!($name $output output);
                    })+
                }
                Coverage { operation: self.name(), refused: self.refused(), input, output }
            }
        }

        /// What operations take.
        pub mod input {
            use super::super::kinds::Context;
            use super::super::texts::*;
            use super::super::types::*;
            use super::*;
            use keyhearth_core::time::Time;

            $(structure! {
                #[doc = concat!("What `", stringify!($name), "` takes.")]
                $name $input
            })+
        }

        /// What operations give.
        pub mod output {
            use super::super::texts::*;
            use super::super::types::*;
            use super::*;
            use keyhearth_core::time::Time;

            $(output!($name $output);)+
        }

        /// A request: an operation with its input.
        #[derive(Debug)]
        #[allow(missing_docs, reason = "AWS's documentation describes them")]
        pub enum Call { $($name(input::$name),)+ }

        impl Call {
            /// Reads the body of a request. Members that the table does not know are ignored, as AWS does.
            ///
            /// # Errors
            /// [`Kind::Serialization`] for what is not such a JSON text, [`Kind::Validation`] with every limit
            /// that is broken, in AWS's words.
            pub fn parse(operation: Operation, body: &[u8]) -> Result<Self, Exception> {
                let source = Source::new(body)?;
                match operation {
                    $(Operation::$name => source.read::<input::$name>().map(Self::$name),)+
                }
            }

            /// Its operation.
            #[must_use]
            pub const fn operation(&self) -> Operation {
                match self { $(Self::$name(_) => Operation::$name,)+ }
            }
        }
    };
    (@refused) => { None };
    (@refused $refused:ident) => { Some($refused) };
}

operations! {
    CancelKeyDeletion { key_id: KeyIdText } -> { key_id: KeyIdText };
    ConnectCustomKeyStore { custom_key_store_id: CustomKeyStoreIdText } -> {}, refused KEY_STORES;
    CreateAlias { alias_name: AliasNameText, target_key_id: KeyIdText } -> nothing;
    CreateCustomKeyStore {
        custom_key_store_name: CustomKeyStoreNameText, cloud_hsm_cluster_id: Option<CloudHsmClusterIdText>,
        trust_anchor_certificate: Option<TrustAnchorCertificateText>,
        key_store_password: Option<KeyStorePasswordText>, custom_key_store_type: Option<CustomKeyStoreType>,
        xks_proxy_uri_endpoint: Option<XksProxyUriEndpointText>,
        xks_proxy_uri_path: Option<XksProxyUriPathText>,
        xks_proxy_vpc_endpoint_service_name: Option<XksProxyVpcEndpointServiceNameText>,
        xks_proxy_vpc_endpoint_service_owner: Option<AccountIdText>,
        xks_proxy_authentication_credential: Option<XksProxyAuthenticationCredential>,
        xks_proxy_connectivity: Option<XksProxyConnectivity>,
    } -> { custom_key_store_id: Option<CustomKeyStoreIdText> }, refused KEY_STORES;
    CreateGrant {
        key_id: KeyIdText, grantee_principal: Option<PrincipalIdText>,
        retiring_principal: Option<PrincipalIdText>, operations: Vec<GrantOperation>,
        constraints: Option<GrantConstraints>, grant_tokens: Option<GrantTokens>,
        name: Option<GrantNameText>, dry_run: Option<bool>,
        grantee_service_principal: Option<ServicePrincipalText>,
        retiring_service_principal: Option<ServicePrincipalText>,
    } -> { grant_token: GrantTokenText, grant_id: GrantIdText };
    CreateKey {
        policy: Option<PolicyText>, description: Option<DescriptionText>, key_usage: Option<KeyUsage>,
        customer_master_key_spec: Option<CustomerMasterKeySpec>, key_spec: Option<KeySpec>,
        origin: Option<Origin>, custom_key_store_id: Option<CustomKeyStoreIdText>,
        bypass_policy_lockout_safety_check: Option<bool>, tags: Option<Vec<Tag>>,
        multi_region: Option<bool>, xks_key_id: Option<XksKeyIdText>,
    } -> { key_metadata: KeyMetadata };
    Decapsulate {
        key_id: KeyIdText, shared_secret_ciphertext_blob: CiphertextBlob,
        encapsulation_algorithm: EncapsulationAlgorithm, grant_tokens: Option<GrantTokens>,
        dry_run: Option<bool>,
    } -> {
        key_id: KeyIdText, shared_secret: PlaintextBlob, encapsulation_algorithm: EncapsulationAlgorithm,
    };
    Decrypt {
        ciphertext_blob: Option<CiphertextBlob>, encryption_context: Option<Context>,
        grant_tokens: Option<GrantTokens>, key_id: Option<KeyIdText>,
        encryption_algorithm: Option<EncryptionAlgorithm>, recipient: Option<RecipientInfo>,
        dry_run: Option<bool>, dry_run_modifiers: Option<Vec<DryRunModifier>>,
    } -> {
        key_id: KeyIdText, plaintext: Option<PlaintextBlob>, encryption_algorithm: EncryptionAlgorithm,
        ciphertext_for_recipient: Option<CiphertextBlob>, key_material_id: Option<BackingKeyIdText>,
    };
    DeleteAlias { alias_name: AliasNameText } -> nothing;
    DeleteCustomKeyStore { custom_key_store_id: CustomKeyStoreIdText } -> {}, refused KEY_STORES;
    DeleteImportedKeyMaterial {
        key_id: KeyIdText, key_material_id: Option<BackingKeyIdText>,
    } -> {
        key_id: KeyIdText, key_material_id: Option<BackingKeyIdResponseText>,
    };
    DeriveSharedSecret {
        key_id: KeyIdText, key_agreement_algorithm: KeyAgreementAlgorithm, public_key: PublicKeyBlob,
        grant_tokens: Option<GrantTokens>, dry_run: Option<bool>, recipient: Option<RecipientInfo>,
    } -> {
        key_id: KeyIdText, shared_secret: Option<PlaintextBlob>,
        ciphertext_for_recipient: Option<CiphertextBlob>, key_agreement_algorithm: KeyAgreementAlgorithm,
        key_origin: Origin,
    };
    DescribeCustomKeyStores {
        custom_key_store_id: Option<CustomKeyStoreIdText>,
        custom_key_store_name: Option<CustomKeyStoreNameText>, limit: Option<Limit>,
        marker: Option<MarkerText>,
    } -> {
        custom_key_stores: Vec<CustomKeyStoresListEntry>, next_marker: Option<MarkerText>, truncated: bool,
    }, refused KEY_STORES;
    DescribeKey { key_id: KeyIdText, grant_tokens: Option<GrantTokens> } -> { key_metadata: KeyMetadata };
    DisableKey { key_id: KeyIdText } -> nothing;
    DisableKeyRotation { key_id: KeyIdText } -> nothing;
    DisconnectCustomKeyStore { custom_key_store_id: CustomKeyStoreIdText } -> {}, refused KEY_STORES;
    EnableKey { key_id: KeyIdText } -> nothing;
    EnableKeyRotation {
        key_id: KeyIdText, rotation_period_in_days: Option<RotationDays>,
    } -> nothing;
    Encapsulate {
        key_id: KeyIdText, encapsulation_algorithm: EncapsulationAlgorithm,
        grant_tokens: Option<GrantTokens>, dry_run: Option<bool>,
    } -> {
        key_id: KeyIdText, shared_secret: PlaintextBlob, shared_secret_ciphertext_blob: CiphertextBlob,
        encapsulation_algorithm: EncapsulationAlgorithm,
    };
    Encrypt {
        key_id: KeyIdText, plaintext: PlaintextBlob, encryption_context: Option<Context>,
        grant_tokens: Option<GrantTokens>, encryption_algorithm: Option<EncryptionAlgorithm>,
        dry_run: Option<bool>,
    } -> {
        ciphertext_blob: CiphertextBlob, key_id: KeyIdText, encryption_algorithm: EncryptionAlgorithm,
    };
    GenerateDataKey {
        key_id: KeyIdText, encryption_context: Option<Context>, number_of_bytes: Option<ByteCount>,
        key_spec: Option<DataKeySpec>, grant_tokens: Option<GrantTokens>, recipient: Option<RecipientInfo>,
        dry_run: Option<bool>,
    } -> {
        ciphertext_blob: CiphertextBlob, plaintext: Option<PlaintextBlob>, key_id: KeyIdText,
        ciphertext_for_recipient: Option<CiphertextBlob>, key_material_id: Option<BackingKeyIdText>,
    };
    GenerateDataKeyPair {
        encryption_context: Option<Context>, key_id: KeyIdText, key_pair_spec: DataKeyPairSpec,
        grant_tokens: Option<GrantTokens>, recipient: Option<RecipientInfo>, dry_run: Option<bool>,
    } -> {
        private_key_ciphertext_blob: CiphertextBlob, private_key_plaintext: Option<PlaintextBlob>,
        public_key: PublicKeyBlob, key_id: KeyIdText, key_pair_spec: DataKeyPairSpec,
        ciphertext_for_recipient: Option<CiphertextBlob>, key_material_id: Option<BackingKeyIdText>,
    };
    GenerateDataKeyPairWithoutPlaintext {
        encryption_context: Option<Context>, key_id: KeyIdText, key_pair_spec: DataKeyPairSpec,
        grant_tokens: Option<GrantTokens>, dry_run: Option<bool>,
    } -> {
        private_key_ciphertext_blob: CiphertextBlob, public_key: PublicKeyBlob, key_id: KeyIdText,
        key_pair_spec: DataKeyPairSpec, key_material_id: Option<BackingKeyIdText>,
    };
    GenerateDataKeyWithoutPlaintext {
        key_id: KeyIdText, encryption_context: Option<Context>, key_spec: Option<DataKeySpec>,
        number_of_bytes: Option<ByteCount>, grant_tokens: Option<GrantTokens>, dry_run: Option<bool>,
    } -> {
        ciphertext_blob: CiphertextBlob, key_id: KeyIdText, key_material_id: Option<BackingKeyIdText>,
    };
    GenerateMac {
        message: PlaintextBlob, key_id: KeyIdText, mac_algorithm: MacAlgorithm,
        grant_tokens: Option<GrantTokens>, dry_run: Option<bool>,
    } -> {
        mac: CiphertextBlob, mac_algorithm: MacAlgorithm, key_id: KeyIdText,
    };
    GenerateRandom {
        number_of_bytes: Option<ByteCount>, custom_key_store_id: Option<CustomKeyStoreIdText>,
        recipient: Option<RecipientInfo>,
    } -> {
        plaintext: Option<PlaintextBlob>, ciphertext_for_recipient: Option<CiphertextBlob>,
    };
    GetKeyLastUsage { key_id: KeyIdText } -> {
        key_id: KeyIdText, key_last_usage: Option<KeyLastUsageData>, tracking_start_date: Time,
        key_creation_date: Time,
    };
    GetKeyPolicy { key_id: KeyIdText, policy_name: Option<PolicyNameText> } -> { policy: PolicyText, policy_name: PolicyNameText };
    GetKeyRotationStatus { key_id: KeyIdText } -> {
        key_rotation_enabled: bool, key_id: KeyIdText, rotation_period_in_days: Option<RotationDays>,
        next_rotation_date: Option<Time>, on_demand_rotation_start_date: Option<Time>,
    };
    GetParametersForImport {
        key_id: KeyIdText, wrapping_algorithm: WrappingAlgorithm, wrapping_key_spec: WrappingKeySpec,
    } -> {
        key_id: KeyIdText, import_token: CiphertextBlob, public_key: PlaintextBlob,
        parameters_valid_to: Time,
    };
    GetPublicKey { key_id: KeyIdText, grant_tokens: Option<GrantTokens> } -> {
        key_id: KeyIdText, public_key: PublicKeyBlob,
        customer_master_key_spec: Option<CustomerMasterKeySpec>, key_spec: KeySpec, key_usage: KeyUsage,
        encryption_algorithms: Option<Vec<EncryptionAlgorithm>>,
        signing_algorithms: Option<Vec<SigningAlgorithm>>,
        key_agreement_algorithms: Option<Vec<KeyAgreementAlgorithm>>,
        encapsulation_algorithms: Option<Vec<EncapsulationAlgorithm>>,
    };
    ImportKeyMaterial {
        key_id: KeyIdText, import_token: CiphertextBlob, encrypted_key_material: CiphertextBlob,
        valid_to: Option<Time>, expiration_model: Option<ExpirationModel>, import_type: Option<ImportType>,
        key_material_description: Option<KeyMaterialDescriptionText>,
        key_material_id: Option<BackingKeyIdText>,
    } -> {
        key_id: KeyIdText, key_material_id: Option<BackingKeyIdText>,
    };
    ListAliases {
        key_id: Option<KeyIdText>, limit: Option<Limit>, marker: Option<MarkerText>,
    } -> {
        aliases: Vec<AliasListEntry>, next_marker: Option<MarkerText>, truncated: bool,
    };
    ListGrants {
        limit: Option<Limit>, marker: Option<MarkerText>, key_id: KeyIdText, grant_id: Option<GrantIdText>,
        grantee_principal: Option<PrincipalIdText>, grantee_service_principal: Option<ServicePrincipalText>,
    } -> {
        grants: Vec<GrantListEntry>, next_marker: Option<MarkerText>, truncated: bool,
    };
    ListKeyPolicies {
        key_id: KeyIdText, limit: Option<Limit>, marker: Option<MarkerText>,
    } -> {
        policy_names: Vec<PolicyNameText>, next_marker: Option<MarkerText>, truncated: bool,
    };
    ListKeyRotations {
        key_id: KeyIdText, include_key_material: Option<IncludeKeyMaterial>, limit: Option<Limit>,
        marker: Option<MarkerText>,
    } -> {
        rotations: Vec<RotationsListEntry>, next_marker: Option<MarkerText>, truncated: bool,
    };
    ListKeys {
        limit: Option<Limit>, marker: Option<MarkerText>,
        resource_owners: Option<List<ResourceOwner, 1, 2>>,
    } -> {
        keys: Vec<KeyListEntry>, next_marker: Option<MarkerText>, truncated: bool,
    };
    ListResourceTags {
        key_id: KeyIdText, limit: Option<Limit>, marker: Option<MarkerText>,
    } -> {
        tags: Vec<Tag>, next_marker: Option<MarkerText>, truncated: bool,
    };
    ListRetirableGrants {
        limit: Option<Limit>, marker: Option<MarkerText>, retiring_principal: Option<PrincipalIdText>,
        retiring_service_principal: Option<ServicePrincipalText>,
    } -> {
        grants: Vec<GrantListEntry>, next_marker: Option<MarkerText>, truncated: bool,
    };
    PutKeyPolicy {
        key_id: KeyIdText, policy_name: Option<PolicyNameText>, policy: PolicyText,
        bypass_policy_lockout_safety_check: Option<bool>,
    } -> nothing;
    ReEncrypt {
        ciphertext_blob: Option<CiphertextBlob>, source_encryption_context: Option<Context>,
        source_key_id: Option<KeyIdText>, destination_key_id: KeyIdText,
        destination_encryption_context: Option<Context>,
        source_encryption_algorithm: Option<EncryptionAlgorithm>,
        destination_encryption_algorithm: Option<EncryptionAlgorithm>, grant_tokens: Option<GrantTokens>,
        dry_run: Option<bool>, dry_run_modifiers: Option<Vec<DryRunModifier>>,
    } -> {
        ciphertext_blob: CiphertextBlob, source_key_id: KeyIdText, key_id: KeyIdText,
        source_encryption_algorithm: EncryptionAlgorithm,
        destination_encryption_algorithm: EncryptionAlgorithm,
        source_key_material_id: Option<BackingKeyIdText>,
        destination_key_material_id: Option<BackingKeyIdText>,
    };
    ReplicateKey {
        key_id: KeyIdText, replica_region: RegionText, policy: Option<PolicyText>,
        bypass_policy_lockout_safety_check: Option<bool>, description: Option<DescriptionText>,
        tags: Option<Vec<Tag>>,
    } -> {
        replica_key_metadata: Option<KeyMetadata>, replica_policy: Option<PolicyText>,
        replica_tags: Option<Vec<Tag>>,
    }, refused REGIONS;
    RetireGrant {
        grant_token: Option<GrantTokenText>, key_id: Option<KeyIdText>, grant_id: Option<GrantIdText>,
        dry_run: Option<bool>,
    } -> nothing;
    RevokeGrant {
        key_id: KeyIdText, grant_id: GrantIdText, dry_run: Option<bool>,
    } -> nothing;
    RotateKeyOnDemand { key_id: KeyIdText } -> { key_id: KeyIdText };
    ScheduleKeyDeletion {
        key_id: KeyIdText, pending_window_in_days: Option<WindowDays>,
    } -> {
        key_id: KeyIdText, deletion_date: Time, key_state: KeyState, pending_window_in_days: WindowDays,
    };
    Sign {
        key_id: KeyIdText, message: PlaintextBlob, message_type: Option<MessageType>,
        grant_tokens: Option<GrantTokens>, signing_algorithm: SigningAlgorithm, dry_run: Option<bool>,
    } -> {
        key_id: KeyIdText, signature: CiphertextBlob, signing_algorithm: SigningAlgorithm,
    };
    TagResource { key_id: KeyIdText, tags: Vec<Tag> } -> nothing;
    UntagResource { key_id: KeyIdText, tag_keys: Vec<TagKeyText> } -> nothing;
    UpdateAlias { alias_name: AliasNameText, target_key_id: KeyIdText } -> nothing;
    UpdateCustomKeyStore {
        custom_key_store_id: CustomKeyStoreIdText,
        new_custom_key_store_name: Option<CustomKeyStoreNameText>,
        key_store_password: Option<KeyStorePasswordText>,
        cloud_hsm_cluster_id: Option<CloudHsmClusterIdText>,
        xks_proxy_uri_endpoint: Option<XksProxyUriEndpointText>,
        xks_proxy_uri_path: Option<XksProxyUriPathText>,
        xks_proxy_vpc_endpoint_service_name: Option<XksProxyVpcEndpointServiceNameText>,
        xks_proxy_vpc_endpoint_service_owner: Option<AccountIdText>,
        xks_proxy_authentication_credential: Option<XksProxyAuthenticationCredential>,
        xks_proxy_connectivity: Option<XksProxyConnectivity>,
    } -> {}, refused KEY_STORES;
    UpdateKeyDescription { key_id: KeyIdText, description: DescriptionText } -> nothing;
    UpdatePrimaryRegion { key_id: KeyIdText, primary_region: RegionText } -> nothing, refused REGIONS;
    Verify {
        key_id: KeyIdText, message: PlaintextBlob, message_type: Option<MessageType>,
        signature: CiphertextBlob, signing_algorithm: SigningAlgorithm, grant_tokens: Option<GrantTokens>,
        dry_run: Option<bool>,
    } -> {
        key_id: KeyIdText, signature_valid: bool, signing_algorithm: SigningAlgorithm,
    };
    VerifyMac {
        message: PlaintextBlob, key_id: KeyIdText, mac_algorithm: MacAlgorithm, mac: CiphertextBlob,
        grant_tokens: Option<GrantTokens>, dry_run: Option<bool>,
    } -> {
        key_id: KeyIdText, mac_valid: bool, mac_algorithm: MacAlgorithm,
    };
}

impl Operation {
    /// Reads the value of the header `X-Amz-Target`.
    ///
    /// # Errors
    /// [`Kind::UnknownOperation`] for what is not `TrentService.` and an operation.
    pub fn from_target(target: &str) -> Result<Self, Exception> {
        let name = target.strip_prefix("TrentService.");
        let operation = name.and_then(|name| Self::ALL.iter().copied().find(|one| one.name() == name));
        operation.ok_or(Exception::silent(Kind::UnknownOperation))
    }
}
