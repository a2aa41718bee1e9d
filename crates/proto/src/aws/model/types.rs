//! Enumerations and structures that the operations share, by AWS's names.

use keyhearth_core::time::Time;

use super::kinds::{Context, Integer};
use super::macros::{enumeration, structure};
use super::texts::*;

enumeration! {
    /// How imported key material is wrapped.
    WrappingAlgorithm {
        RSAES_PKCS1_V1_5, RSAES_OAEP_SHA_1, RSAES_OAEP_SHA_256, RSA_AES_KEY_WRAP_SHA_1,
        RSA_AES_KEY_WRAP_SHA_256, SM2PKE,
    }
}

enumeration! {
    /// Why a custom key store is not connected.
    ConnectionErrorCode {
        INVALID_CREDENTIALS, CLUSTER_NOT_FOUND, NETWORK_ERRORS, INTERNAL_ERROR, INSUFFICIENT_CLOUDHSM_HSMS,
        USER_LOCKED_OUT, USER_NOT_FOUND, USER_LOGGED_IN, SUBNET_NOT_FOUND,
        INSUFFICIENT_FREE_ADDRESSES_IN_SUBNET, XKS_PROXY_ACCESS_DENIED, XKS_PROXY_NOT_REACHABLE,
        XKS_VPC_ENDPOINT_SERVICE_NOT_FOUND, XKS_PROXY_INVALID_RESPONSE, XKS_PROXY_INVALID_CONFIGURATION,
        XKS_VPC_ENDPOINT_SERVICE_INVALID_CONFIGURATION, XKS_PROXY_TIMED_OUT,
        XKS_PROXY_INVALID_TLS_CONFIGURATION,
    }
}

enumeration! {
    /// Whether a custom key store is connected.
    ConnectionState { CONNECTED, CONNECTING, FAILED, DISCONNECTED, DISCONNECTING }
}

enumeration! {
    /// What a custom key store is.
    CustomKeyStoreType { AWS_CLOUDHSM, EXTERNAL_KEY_STORE }
}

enumeration! {
    /// A [`KeySpec`] under its former name; newer ones are not in it.
    CustomerMasterKeySpec {
        RSA_2048, RSA_3072, RSA_4096, ECC_NIST_P256, ECC_NIST_P384, ECC_NIST_P521, ECC_SECG_P256K1,
        SYMMETRIC_DEFAULT, HMAC_224, HMAC_256, HMAC_384, HMAC_512, SM2,
    }
}

enumeration! {
    /// What a data key pair is.
    DataKeyPairSpec {
        RSA_2048, RSA_3072, RSA_4096, ECC_NIST_P256, ECC_NIST_P384, ECC_NIST_P521, ECC_SECG_P256K1, SM2,
        ECC_NIST_EDWARDS25519, ML_KEM_512, ML_KEM_768, ML_KEM_1024,
    }
}

enumeration! {
    /// What a data key is.
    DataKeySpec { AES_256, AES_128 }
}

enumeration! {
    /// What a dry run leaves out.
    DryRunModifier { IGNORE_CIPHERTEXT }
}

enumeration! {
    /// How a secret is encapsulated.
    EncapsulationAlgorithm { ML_KEM }
}

enumeration! {
    /// How data is encrypted.
    EncryptionAlgorithm { SYMMETRIC_DEFAULT, RSAES_OAEP_SHA_1, RSAES_OAEP_SHA_256, SM2PKE }
}

enumeration! {
    /// Whether imported key material has an end.
    ExpirationModel { KEY_MATERIAL_EXPIRES, KEY_MATERIAL_DOES_NOT_EXPIRE }
}

enumeration! {
    /// What a grant allows.
    GrantOperation {
        Decrypt, Encrypt, GenerateDataKey, GenerateDataKeyWithoutPlaintext, ReEncryptFrom, ReEncryptTo,
        Sign, Verify, GetPublicKey, CreateGrant, RetireGrant, DescribeKey, GenerateDataKeyPair,
        GenerateDataKeyPairWithoutPlaintext, GenerateMac, VerifyMac, DeriveSharedSecret, Encapsulate,
        Decapsulate,
    }
}

enumeration! {
    /// Whether the material of a rotation is there.
    ImportState { IMPORTED, PENDING_IMPORT }
}

enumeration! {
    /// Whether imported material is new or comes again.
    ImportType { NEW_KEY_MATERIAL, EXISTING_KEY_MATERIAL }
}

enumeration! {
    /// What a listing of rotations holds.
    IncludeKeyMaterial { ALL_KEY_MATERIAL, ROTATIONS_ONLY }
}

enumeration! {
    /// How a secret is agreed on.
    KeyAgreementAlgorithm { ECDH }
}

enumeration! {
    /// How an attested recipient has its answer wrapped.
    KeyEncryptionMechanism { RSAES_OAEP_SHA_256 }
}

enumeration! {
    /// The operations that count as a use of a key.
    TrackedOperation {
        Decrypt, DeriveSharedSecret, Encrypt, GenerateDataKey, GenerateDataKeyPair,
        GenerateDataKeyPairWithoutPlaintext, GenerateDataKeyWithoutPlaintext, GenerateMac, ReEncrypt, Sign,
        Verify, VerifyMac, Encapsulate, Decapsulate,
    }
}

enumeration! {
    /// Who rules a key.
    KeyManager { AWS, CUSTOMER }
}

enumeration! {
    /// What one key material of a key is for.
    KeyMaterialState { NON_CURRENT, CURRENT, PENDING_ROTATION, PENDING_MULTI_REGION_IMPORT_AND_ROTATION }
}

enumeration! {
    /// What a key is.
    KeySpec {
        RSA_2048, RSA_3072, RSA_4096, ECC_NIST_P256, ECC_NIST_P384, ECC_NIST_P521, ECC_SECG_P256K1,
        SYMMETRIC_DEFAULT, HMAC_224, HMAC_256, HMAC_384, HMAC_512, SM2, ML_DSA_44, ML_DSA_65, ML_DSA_87,
        ECC_NIST_EDWARDS25519, ML_KEM_512, ML_KEM_768, ML_KEM_1024,
    }
}

enumeration! {
    /// What may be done with a key now.
    KeyState {
        Creating, Enabled, Disabled, PendingDeletion, PendingImport, PendingReplicaDeletion, Unavailable,
        Updating,
    }
}

enumeration! {
    /// What a key is for.
    KeyUsage { SIGN_VERIFY, ENCRYPT_DECRYPT, GENERATE_VERIFY_MAC, KEY_AGREEMENT, ENCAPSULATE_DECAPSULATE }
}

enumeration! {
    /// How a MAC is made. In the order in which AWS lists them.
    MacAlgorithm { HMAC_SHA_384, HMAC_SHA_256, HMAC_SHA_224, HMAC_SHA_512 }
}

enumeration! {
    /// Whether a message or its digest is signed.
    MessageType { RAW, DIGEST, EXTERNAL_MU }
}

enumeration! {
    /// Which of the related keys of several regions one is.
    MultiRegionKeyType { PRIMARY, REPLICA }
}

enumeration! {
    /// Where key material came from.
    Origin { AWS_KMS, EXTERNAL, AWS_CLOUDHSM, EXTERNAL_KEY_STORE }
}

enumeration! {
    /// Whose keys are listed.
    ResourceOwner { SELF, OTHER_ACCOUNTS_VIA_RAM }
}

enumeration! {
    /// Why a key was rotated.
    RotationType { AUTOMATIC, ON_DEMAND }
}

enumeration! {
    /// How a message is signed.
    SigningAlgorithm {
        RSASSA_PSS_SHA_256, RSASSA_PSS_SHA_384, RSASSA_PSS_SHA_512, RSASSA_PKCS1_V1_5_SHA_256,
        RSASSA_PKCS1_V1_5_SHA_384, RSASSA_PKCS1_V1_5_SHA_512, ECDSA_SHA_256, ECDSA_SHA_384, ECDSA_SHA_512,
        SM2DSA, ML_DSA_SHAKE_256, ED25519_SHA_512, ED25519_PH_SHA_512,
    }
}

enumeration! {
    /// The public key that wraps imported material.
    WrappingKeySpec { RSA_2048, RSA_3072, RSA_4096, SM2 }
}

enumeration! {
    /// How an external key store is reached.
    XksProxyConnectivity { PUBLIC_ENDPOINT, VPC_ENDPOINT_SERVICE }
}

structure! {
    /// One alias.
    AliasListEntry {
        alias_name: AliasNameText, alias_arn: ArnText, target_key_id: Option<KeyIdText>,
        creation_date: Option<Time>, last_updated_date: Option<Time>,
    }
}

structure! {
    /// One custom key store.
    CustomKeyStoresListEntry {
        custom_key_store_id: Option<CustomKeyStoreIdText>,
        custom_key_store_name: Option<CustomKeyStoreNameText>,
        cloud_hsm_cluster_id: Option<CloudHsmClusterIdText>,
        trust_anchor_certificate: Option<TrustAnchorCertificateText>,
        connection_state: Option<ConnectionState>, connection_error_code: Option<ConnectionErrorCode>,
        creation_date: Option<Time>, custom_key_store_type: Option<CustomKeyStoreType>,
        xks_proxy_configuration: Option<XksProxyConfiguration>,
    }
}

structure! {
    /// The encryption context, or the resource, to which a grant is bound.
    GrantConstraints {
        encryption_context_subset: Option<Context>, encryption_context_equals: Option<Context>,
        source_arn: Option<GrantConstraintSourceArnText>,
    }
}

structure! {
    /// One grant.
    GrantListEntry {
        key_id: KeyIdText, grant_id: GrantIdText, name: Option<GrantNameText>, creation_date: Time,
        grantee_principal: Option<PrincipalIdText>, retiring_principal: Option<PrincipalIdText>,
        issuing_account: PrincipalIdText, operations: Vec<GrantOperation>,
        constraints: Option<GrantConstraints>, grantee_service_principal: Option<ServicePrincipalText>,
        retiring_service_principal: Option<ServicePrincipalText>,
    }
}

structure! {
    /// The last use of a key.
    KeyLastUsageData {
        operation: Option<TrackedOperation>, timestamp: Option<Time>, cloud_trail_event_id: Option<AnyText>,
        kms_request_id: Option<AnyText>,
    }
}

structure! {
    /// One key of a listing.
    KeyListEntry { key_id: KeyIdText, key_arn: ArnText }
}

structure! {
    /// What is said of a key.
    KeyMetadata {
        aws_account_id: AnyText, key_id: KeyIdText, arn: ArnText, creation_date: Time, enabled: bool,
        description: DescriptionText, key_usage: KeyUsage, key_state: KeyState, deletion_date: Option<Time>,
        valid_to: Option<Time>, origin: Origin, custom_key_store_id: Option<CustomKeyStoreIdText>,
        cloud_hsm_cluster_id: Option<CloudHsmClusterIdText>, expiration_model: Option<ExpirationModel>,
        key_manager: KeyManager, customer_master_key_spec: Option<CustomerMasterKeySpec>, key_spec: KeySpec,
        encryption_algorithms: Option<Vec<EncryptionAlgorithm>>,
        signing_algorithms: Option<Vec<SigningAlgorithm>>,
        key_agreement_algorithms: Option<Vec<KeyAgreementAlgorithm>>,
        encapsulation_algorithms: Option<Vec<EncapsulationAlgorithm>>, multi_region: bool,
        multi_region_configuration: Option<MultiRegionConfiguration>,
        pending_deletion_window_in_days: Option<Integer<1, 365>>, mac_algorithms: Option<Vec<MacAlgorithm>>,
        xks_key_configuration: Option<XksKeyConfiguration>,
        current_key_material_id: Option<BackingKeyIdText>,
    }
}

structure! {
    /// The keys of several regions that belong together.
    MultiRegionConfiguration {
        multi_region_key_type: Option<MultiRegionKeyType>, primary_key: Option<MultiRegionKey>,
        replica_keys: Option<Vec<MultiRegionKey>>,
    }
}

structure! {
    /// A key of a group of keys that share material, each in a region of its own.
    MultiRegionKey { arn: Option<ArnText>, region: Option<RegionText> }
}

structure! {
    /// An attested enclave that alone may read the answer.
    RecipientInfo {
        key_encryption_algorithm: Option<KeyEncryptionMechanism>,
        attestation_document: Option<AttestationDocumentBlob>,
    }
}

structure! {
    /// One rotation, or one key material.
    RotationsListEntry {
        key_id: KeyIdText, key_material_id: Option<BackingKeyIdText>,
        key_material_description: Option<KeyMaterialDescriptionText>, import_state: Option<ImportState>,
        key_material_state: Option<KeyMaterialState>, expiration_model: Option<ExpirationModel>,
        valid_to: Option<Time>, rotation_date: Option<Time>, rotation_type: Option<RotationType>,
    }
}

structure! {
    /// A tag.
    Tag { tag_key: TagKeyText, tag_value: TagValueText }
}

structure! {
    /// The key in an external key store.
    XksKeyConfiguration { id: Option<XksKeyIdText> }
}

structure! {
    /// The access key of an external key store.
    XksProxyAuthenticationCredential {
        access_key_id: XksProxyAuthenticationAccessKeyIdText,
        raw_secret_access_key: XksProxyAuthenticationRawSecretAccessKeyText,
    }
}

structure! {
    /// Where an external key store is.
    XksProxyConfiguration {
        connectivity: Option<XksProxyConnectivity>,
        access_key_id: Option<XksProxyAuthenticationAccessKeyIdText>,
        uri_endpoint: Option<XksProxyUriEndpointText>, uri_path: Option<XksProxyUriPathText>,
        vpc_endpoint_service_name: Option<XksProxyVpcEndpointServiceNameText>,
        vpc_endpoint_service_owner: Option<AccountIdText>,
    }
}
