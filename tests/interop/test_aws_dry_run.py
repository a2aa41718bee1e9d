"""`DryRun`: a call is decided as if it were to be done, and is not done."""

import pytest
from botocore import xform_name
from cryptography.hazmat.primitives.asymmetric import ec

from aws_kms import KEY_ARN, MODEL, create, issue, refused, spki

OPERATIONS = [name for name in MODEL.operation_names if "DryRun" in MODEL.operation_model(name).input_shape.members]


@pytest.fixture(scope="module")
def calls(kms):
    """What each operation needs to succeed."""
    key = create(kms)["Arn"]
    signing = {
        "KeyId": create(kms, KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["Arn"],
        "Message": b"m",
        "SigningAlgorithm": "ECDSA_SHA_256",
    }
    mac = {
        "KeyId": create(kms, KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")["Arn"],
        "Message": b"m",
        "MacAlgorithm": "HMAC_SHA_256",
    }
    kem = {
        "KeyId": create(kms, KeySpec="ML_KEM_768", KeyUsage="ENCAPSULATE_DECAPSULATE")["Arn"],
        "EncapsulationAlgorithm": "ML_KEM",
    }
    agreeing = create(kms, KeySpec="ECC_NIST_P256", KeyUsage="KEY_AGREEMENT")["Arn"]
    public = spki(ec.generate_private_key(ec.SECP256R1()).public_key())
    blob = kms.encrypt(KeyId=key, Plaintext=b"m")["CiphertextBlob"]
    principal = f"arn:aws:iam::{KEY_ARN.fullmatch(key)[2]}:user/dev"
    granting = {"KeyId": key, "GranteePrincipal": principal, "Operations": ["Encrypt"]}
    grant = {"KeyId": key, "GrantId": kms.create_grant(RetiringPrincipal=principal, **granting)["GrantId"]}
    return {
        "CreateGrant": granting,
        "Decapsulate": kem | {"SharedSecretCiphertextBlob": kms.encapsulate(**kem)["SharedSecretCiphertextBlob"]},
        "Decrypt": {"CiphertextBlob": blob},
        "DeriveSharedSecret": {"KeyId": agreeing, "KeyAgreementAlgorithm": "ECDH", "PublicKey": public},
        "Encapsulate": kem,
        "Encrypt": {"KeyId": key, "Plaintext": b"m"},
        "GenerateDataKey": {"KeyId": key, "KeySpec": "AES_256"},
        "GenerateDataKeyPair": {"KeyId": key, "KeyPairSpec": "ECC_NIST_P256"},
        "GenerateDataKeyPairWithoutPlaintext": {"KeyId": key, "KeyPairSpec": "ECC_NIST_P256"},
        "GenerateDataKeyWithoutPlaintext": {"KeyId": key, "KeySpec": "AES_256"},
        "GenerateMac": mac,
        "ReEncrypt": {"CiphertextBlob": blob, "DestinationKeyId": key},
        "RetireGrant": grant,
        "RevokeGrant": grant,
        "Sign": signing,
        "Verify": signing | {"Signature": kms.sign(**signing)["Signature"]},
        "VerifyMac": mac | {"Mac": kms.generate_mac(**mac)["Mac"]},
    }


@pytest.fixture(scope="module")
def stranger(aws, tmp_path_factory):
    """The client of an identity that nothing allows anything."""
    return issue(aws, aws.developer, "dry-stranger", tmp_path_factory.mktemp("stranger"))[2].client()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_dry_run_is_decided_and_not_done(kms, stranger, calls, operation):
    members, call = calls[operation], xform_name(operation)
    grants = kms.list_grants(KeyId=calls["CreateGrant"]["KeyId"])["Grants"]
    with refused("DryRunOperationException", "The request would have succeeded, but the DryRun option is set."):
        getattr(kms, call)(DryRun=True, **members)
    with refused("AccessDeniedException"):
        getattr(stranger, call)(DryRun=True, **members)
    assert kms.list_grants(KeyId=calls["CreateGrant"]["KeyId"])["Grants"] == grants
    # Without it the same call is done; what ends a grant can be done once.
    if operation not in ("RetireGrant", "RevokeGrant"):
        getattr(kms, call)(DryRun=False, **members)


def test_a_dry_run_that_would_fail(kms, calls):
    for operation, wrong, kind in (
        ("Decrypt", {"EncryptionContext": {"a": "b"}}, "InvalidCiphertextException"),
        ("Verify", {"Message": b"another"}, "KMSInvalidSignatureException"),
        ("VerifyMac", {"Message": b"another"}, "KMSInvalidMacException"),
        ("Encrypt", {"KeyId": calls["Sign"]["KeyId"]}, "InvalidKeyUsageException"),
        ("Sign", {"SigningAlgorithm": "ECDSA_SHA_384"}, "InvalidKeyUsageException"),
    ):
        with refused(kind):
            getattr(kms, xform_name(operation))(DryRun=True, **(calls[operation] | wrong))
    key = create(kms)["Arn"]
    kms.disable_key(KeyId=key)
    with refused("DisabledException", f"{key} is disabled."):
        kms.encrypt(KeyId=key, Plaintext=b"m", DryRun=True)
