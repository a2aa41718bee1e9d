"""Each operation of the AWS KMS API by boto3, and what its answer means.

The test that is named after an operation must call it and have it answered; every operation of botocore's model
has such a test.
"""

import datetime
import json
import os
import re

import pytest
from botocore import xform_name
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding

from aws_kms import (
    KEY_ARN,
    MATERIAL_ID,
    MODEL,
    create,
    default_policy,
    import_material,
    issue,
    open_message,
    pages,
    pkcs8,
    public_key,
    refused,
    spki,
)  # fmt: skip

CONTEXT = {"purpose": "test", "Zürich": "ä"}
PLAINTEXT = b"a secret"

# The operations that a deployment without key stores of others and with one region does not offer.
REFUSED = {
    "connect_custom_key_store",
    "create_custom_key_store",
    "delete_custom_key_store",
    "describe_custom_key_stores",
    "disconnect_custom_key_store",
    "replicate_key",
    "update_custom_key_store",
    "update_primary_region",
}
KEY_STORES = re.compile("This deployment .*custom key stores.*")
ONE_REGION = re.compile("This deployment .*one region.*")


@pytest.fixture
def key(kms):
    """The ARN of a symmetric key."""
    return create(kms)["Arn"]


@pytest.fixture(scope="module")
def grantee(aws, tmp_path_factory):
    """The principal and the client of an identity that only grants allow anything."""
    folder = tmp_path_factory.mktemp("grantee")
    _, _, access = issue(aws, aws.developer, "grantee", folder)
    return access.client()


@pytest.fixture
def principal(key):
    """The ARN of an identity by its name."""
    account = KEY_ARN.fullmatch(key)[2]
    return f"arn:aws:iam::{account}:user/{{}}".format


@pytest.fixture(autouse=True)
def the_named_operation_was_answered(request, kms):
    kms.answered.clear()
    yield
    named = request.function.__name__.removeprefix("test_")
    for operation in MODEL.operation_names:
        if xform_name(operation) == named:
            assert (operation, 400 if named in REFUSED else 200) in kms.answered


def test_no_operation_without_a_call():
    tests = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert len(MODEL.operation_names) == 56
    assert {xform_name(operation) for operation in MODEL.operation_names} <= tests


def state(kms, key):
    return kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"]


def recent(time):
    """Whether a time of an answer is a time, with its zone, and not of another unit."""
    return abs(time - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(days=1)


def days_ahead(time):
    return round((time - datetime.datetime.now(datetime.UTC)) / datetime.timedelta(days=1))


# Keys and their life


def test_create_key(kms, access):
    made = create(kms, Description="a description", Tags=[{"TagKey": "team", "TagValue": "tests"}])
    region, account, id_ = KEY_ARN.fullmatch(made["Arn"]).groups()
    assert recent(made.pop("CreationDate")) and MATERIAL_ID.fullmatch(made.pop("CurrentKeyMaterialId"))
    assert region == access.region
    assert made == {
        "AWSAccountId": account,
        "KeyId": id_,
        "Arn": made["Arn"],
        "Enabled": True,
        "Description": "a description",
        "KeyUsage": "ENCRYPT_DECRYPT",
        "KeyState": "Enabled",
        "Origin": "AWS_KMS",
        "KeyManager": "CUSTOMER",
        "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT",
        "KeySpec": "SYMMETRIC_DEFAULT",
        "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
        "MultiRegion": False,
    }
    assert kms.list_resource_tags(KeyId=id_)["Tags"] == [{"TagKey": "team", "TagValue": "tests"}]
    with refused("UnsupportedOperationException", ONE_REGION):
        kms.create_key(MultiRegion=True)
    with refused("UnsupportedOperationException", KEY_STORES):
        kms.create_key(Origin="AWS_CLOUDHSM", CustomKeyStoreId="cks-1234567890abcdef0")
    with refused("UnsupportedOperationException"):
        kms.create_key(KeySpec="SM2", KeyUsage="SIGN_VERIFY")


def test_describe_key(kms, key):
    id_ = KEY_ARN.fullmatch(key)[3]
    name = f"alias/describe-{id_}"
    kms.create_alias(AliasName=name, TargetKeyId=id_)
    described = [
        kms.describe_key(KeyId=form)["KeyMetadata"]
        for form in (key, id_, name, key.replace(f"key/{id_}", name), f"alias/{name.removeprefix('alias/')}")
    ]
    assert described[0]["Arn"] == key and all(one == described[0] for one in described)


def test_list_keys(kms):
    made = {create(kms)["Arn"] for _ in range(3)}
    listed = pages(kms.list_keys, "Keys", 2)
    arns = [entry["KeyArn"] for entry in listed]
    assert made <= set(arns) and len(arns) == len(set(arns))
    assert all(entry["KeyArn"].endswith(f"key/{entry['KeyId']}") for entry in listed)
    paginator = kms.get_paginator("list_keys").paginate(PaginationConfig={"PageSize": 1000})
    assert [entry for page in paginator for entry in page["Keys"]] == listed


def test_update_key_description(kms, key):
    for text in ("new", "ein anderer, länger", ""):
        kms.update_key_description(KeyId=key, Description=text)
        assert kms.describe_key(KeyId=key)["KeyMetadata"]["Description"] == text


def test_disable_key(kms, key):
    blob = kms.encrypt(KeyId=key, Plaintext=PLAINTEXT)["CiphertextBlob"]
    kms.disable_key(KeyId=key)
    described = kms.describe_key(KeyId=key)["KeyMetadata"]
    assert (described["KeyState"], described["Enabled"]) == ("Disabled", False)
    for call in (
        lambda: kms.encrypt(KeyId=key, Plaintext=PLAINTEXT),
        lambda: kms.decrypt(CiphertextBlob=blob),
        lambda: kms.generate_data_key(KeyId=key, KeySpec="AES_256"),
        lambda: kms.rotate_key_on_demand(KeyId=key),
    ):
        with refused("DisabledException", f"{key} is disabled."):
            call()


def test_enable_key(kms, key):
    kms.rotate_key_on_demand(KeyId=key)
    blob = kms.encrypt(KeyId=key, Plaintext=PLAINTEXT)["CiphertextBlob"]
    kms.disable_key(KeyId=key)
    kms.enable_key(KeyId=key)
    kms.enable_key(KeyId=key)
    assert state(kms, key) == "Enabled"
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == PLAINTEXT


def test_schedule_key_deletion(kms, key):
    answer = kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    assert (answer["KeyId"], answer["KeyState"], answer["PendingWindowInDays"]) == (key, "PendingDeletion", 7)
    assert days_ahead(answer["DeletionDate"]) == 7
    described = kms.describe_key(KeyId=key)["KeyMetadata"]
    assert (described["KeyState"], described["Enabled"]) == ("PendingDeletion", False)
    assert described["DeletionDate"] == answer["DeletionDate"]
    for call in (
        lambda: kms.encrypt(KeyId=key, Plaintext=PLAINTEXT),
        lambda: kms.enable_key(KeyId=key),
        lambda: kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7),
    ):
        with refused("KMSInvalidStateException", f"{key} is pending deletion."):
            call()
    other = create(kms)["Arn"]
    answer = kms.schedule_key_deletion(KeyId=other)
    assert answer["PendingWindowInDays"] == days_ahead(answer["DeletionDate"]) == 30


def test_cancel_key_deletion(kms, key):
    blob = kms.encrypt(KeyId=key, Plaintext=PLAINTEXT)["CiphertextBlob"]
    with refused("KMSInvalidStateException", f"{key} is not pending deletion."):
        kms.cancel_key_deletion(KeyId=key)
    kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    assert kms.cancel_key_deletion(KeyId=key)["KeyId"] == key
    described = kms.describe_key(KeyId=key)["KeyMetadata"]
    assert described["KeyState"] == "Disabled" and "DeletionDate" not in described
    kms.enable_key(KeyId=key)
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == PLAINTEXT


# Aliases and tags


def aliases(kms, key):
    return {entry["AliasName"]: entry for entry in kms.list_aliases(KeyId=key)["Aliases"]}


def test_create_alias(kms, key):
    name = f"alias/made/{KEY_ARN.fullmatch(key)[3]}"
    kms.create_alias(AliasName=name, TargetKeyId=key)
    answer = kms.encrypt(KeyId=name, Plaintext=PLAINTEXT)
    assert answer["KeyId"] == key
    assert kms.decrypt(CiphertextBlob=answer["CiphertextBlob"], KeyId=name)["Plaintext"] == PLAINTEXT
    arn = key.rpartition("key/")[0] + name
    with refused("AlreadyExistsException", f"An alias with the name {arn} already exists"):
        kms.create_alias(AliasName=name, TargetKeyId=key)
    with refused("ValidationException"):
        kms.create_alias(AliasName="alias/aws/taken", TargetKeyId=key)


def test_update_alias(kms, key):
    other = create(kms)["Arn"]
    name = f"alias/moved-{KEY_ARN.fullmatch(key)[3]}"
    kms.create_alias(AliasName=name, TargetKeyId=key)
    kms.update_alias(AliasName=name, TargetKeyId=other)
    assert kms.describe_key(KeyId=name)["KeyMetadata"]["Arn"] == other
    entry = aliases(kms, other)[name]
    assert entry["LastUpdatedDate"] >= entry["CreationDate"] and aliases(kms, key) == {}
    missing = key.rpartition("key/")[0] + "alias/missing"
    with refused("NotFoundException", f"Alias {missing} is not found."):
        kms.update_alias(AliasName="alias/missing", TargetKeyId=other)


def test_delete_alias(kms, key):
    name = f"alias/short-lived-{KEY_ARN.fullmatch(key)[3]}"
    kms.create_alias(AliasName=name, TargetKeyId=key)
    kms.delete_alias(AliasName=name)
    arn = key.rpartition("key/")[0] + name
    with refused("NotFoundException", f"Alias {arn} is not found."):
        kms.describe_key(KeyId=name)
    kms.create_alias(AliasName=name, TargetKeyId=key)


def test_list_aliases(kms, key):
    id_ = KEY_ARN.fullmatch(key)[3]
    names = [f"alias/{number}-{id_}" for number in range(5)]
    for name in names:
        kms.create_alias(AliasName=name, TargetKeyId=id_)
    listed = pages(kms.list_aliases, "Aliases", 2, KeyId=key)
    assert sorted(entry["AliasName"] for entry in listed) == names
    for entry in listed:
        assert entry["AliasArn"] == key.rpartition("key/")[0] + entry["AliasName"]
        assert entry["TargetKeyId"] == id_
        assert recent(entry["CreationDate"]) and recent(entry["LastUpdatedDate"])
    everything = pages(kms.list_aliases, "Aliases", 3)
    assert all(entry in everything for entry in listed)


def tags(kms, key):
    return {tag["TagKey"]: tag["TagValue"] for tag in kms.list_resource_tags(KeyId=key)["Tags"]}


def test_tag_resource(kms, key):
    kms.tag_resource(KeyId=key, Tags=[{"TagKey": "a", "TagValue": "1"}, {"TagKey": "b", "TagValue": ""}])
    kms.tag_resource(KeyId=key, Tags=[{"TagKey": "a", "TagValue": "2"}])
    assert tags(kms, key) == {"a": "2", "b": ""}


def test_untag_resource(kms, key):
    kms.tag_resource(KeyId=key, Tags=[{"TagKey": name, "TagValue": name} for name in "abc"])
    kms.untag_resource(KeyId=key, TagKeys=["a", "c", "never there"])
    assert tags(kms, key) == {"b": "b"}


def test_list_resource_tags(kms, key):
    made = [{"TagKey": f"tag {number}", "TagValue": str(number)} for number in range(5)]
    kms.tag_resource(KeyId=key, Tags=made)
    listed = pages(kms.list_resource_tags, "Tags", 2, KeyId=key)
    assert sorted(listed, key=lambda tag: tag["TagKey"]) == made


# Policies and grants


def test_get_key_policy(kms, key):
    answer = kms.get_key_policy(KeyId=key, PolicyName="default")
    assert json.loads(answer["Policy"]) == default_policy(KEY_ARN.fullmatch(key)[2])
    assert answer["PolicyName"] == "default"
    with refused("NotFoundException"):
        kms.get_key_policy(KeyId=key, PolicyName="another")


def test_put_key_policy(kms, key, principal, grantee):
    document = default_policy(KEY_ARN.fullmatch(key)[2])
    who = {"AWS": principal("grantee")}
    document["Statement"] += [
        {"Sid": "use", "Effect": "Allow", "Principal": who, "Action": ["kms:Encrypt", "kms:Decrypt"], "Resource": "*"},
        {"Sid": "not", "Effect": "Deny", "Principal": who, "Action": "kms:Decrypt", "Resource": "*",
         "Condition": {"StringEquals": {"kms:EncryptionContext:purpose": "other"}}},
    ]  # fmt: skip
    with refused("AccessDeniedException"):
        grantee.encrypt(KeyId=key, Plaintext=PLAINTEXT)
    text = json.dumps(document)
    kms.put_key_policy(KeyId=key, PolicyName="default", Policy=text)
    assert json.loads(kms.get_key_policy(KeyId=key)["Policy"]) == document
    for purpose in ("test", "other"):
        context = {"purpose": purpose}
        blob = grantee.encrypt(KeyId=key, Plaintext=PLAINTEXT, EncryptionContext=context)["CiphertextBlob"]
        if purpose == "test":
            assert grantee.decrypt(CiphertextBlob=blob, EncryptionContext=context)["Plaintext"] == PLAINTEXT
        else:
            with refused("AccessDeniedException"):
                grantee.decrypt(CiphertextBlob=blob, EncryptionContext=context)
    with refused("AccessDeniedException"):
        grantee.describe_key(KeyId=key)
    kms.put_key_policy(KeyId=key, PolicyName="default", Policy=json.dumps(default_policy(KEY_ARN.fullmatch(key)[2])))
    with refused("AccessDeniedException"):
        grantee.encrypt(KeyId=key, Plaintext=PLAINTEXT)


def test_list_key_policies(kms, key):
    assert kms.list_key_policies(KeyId=key)["PolicyNames"] == ["default"]


def test_create_grant(kms, key, principal, grantee):
    constraints = {"EncryptionContextSubset": {"purpose": "test"}}
    with refused("AccessDeniedException"):
        grantee.encrypt(KeyId=key, Plaintext=PLAINTEXT, EncryptionContext=CONTEXT)
    grant = kms.create_grant(
        KeyId=key,
        GranteePrincipal=principal("grantee"),
        Operations=["Encrypt", "Decrypt"],
        Constraints=constraints,
    )
    assert re.fullmatch("[0-9a-f]{64}", grant["GrantId"]) and grant["GrantToken"]
    for token in ({}, {"GrantTokens": [grant["GrantToken"]]}):
        blob = grantee.encrypt(KeyId=key, Plaintext=PLAINTEXT, EncryptionContext=CONTEXT, **token)["CiphertextBlob"]
        opened = grantee.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT, **token)
        assert opened["Plaintext"] == PLAINTEXT
    for call in (
        lambda: grantee.encrypt(KeyId=key, Plaintext=PLAINTEXT, EncryptionContext={"purpose": "other"}),
        lambda: grantee.encrypt(KeyId=key, Plaintext=PLAINTEXT),
        lambda: grantee.generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext=CONTEXT),
        lambda: grantee.describe_key(KeyId=key),
    ):
        with refused("AccessDeniedException"):
            call()


def test_list_grants(kms, key, principal, grantee):
    made = [
        kms.create_grant(
            KeyId=key, GranteePrincipal=principal("grantee"), RetiringPrincipal=principal("dev"), Name=name,
            Operations=["Decrypt", "DescribeKey"], Constraints={"EncryptionContextEquals": CONTEXT},
        )
        for name in ("one", "two", "three")
    ]  # fmt: skip
    listed = pages(kms.list_grants, "Grants", 2, KeyId=key)
    assert {grant["GrantId"] for grant in listed} == {grant["GrantId"] for grant in made}
    grant = next(grant for grant in listed if grant["Name"] == "two")
    assert recent(grant.pop("CreationDate")) and sorted(grant.pop("Operations")) == ["Decrypt", "DescribeKey"]
    assert grant == {
        "KeyId": key,
        "GrantId": made[1]["GrantId"],
        "Name": "two",
        "GranteePrincipal": principal("grantee"),
        "RetiringPrincipal": principal("dev"),
        "IssuingAccount": principal("x").replace("user/x", "root"),
        "Constraints": {"EncryptionContextEquals": CONTEXT},
    }
    only = kms.list_grants(KeyId=key, GrantId=made[0]["GrantId"])["Grants"]
    assert [grant["Name"] for grant in only] == ["one"]
    assert kms.list_grants(KeyId=key, GranteePrincipal=principal("dev"))["Grants"] == []


def test_list_retirable_grants(kms, key, principal):
    id_ = kms.create_grant(
        KeyId=key,
        GranteePrincipal=principal("dev"),
        RetiringPrincipal=principal("dev"),
        Operations=["Decrypt"],
    )["GrantId"]
    listed = pages(kms.list_retirable_grants, "Grants", 2, RetiringPrincipal=principal("dev"))
    assert [grant["KeyId"] for grant in listed if grant["GrantId"] == id_] == [key]
    assert all(grant["RetiringPrincipal"] == principal("dev") for grant in listed)


def test_revoke_grant(kms, key, principal, grantee):
    grant = kms.create_grant(KeyId=key, GranteePrincipal=principal("grantee"), Operations=["Encrypt"])
    grantee.encrypt(KeyId=key, Plaintext=PLAINTEXT)
    kms.revoke_grant(KeyId=key, GrantId=grant["GrantId"])
    with refused("AccessDeniedException"):
        grantee.encrypt(KeyId=key, Plaintext=PLAINTEXT, GrantTokens=[grant["GrantToken"]])
    assert kms.list_grants(KeyId=key)["Grants"] == []
    with refused("NotFoundException"):
        kms.revoke_grant(KeyId=key, GrantId=grant["GrantId"])


def test_retire_grant(kms, key, principal, grantee):
    members = {"KeyId": key, "GranteePrincipal": principal("grantee"), "Operations": ["Encrypt"]}
    first, second = (kms.create_grant(**members, RetiringPrincipal=principal("dev")) for _ in range(2))
    kms.retire_grant(GrantToken=first["GrantToken"])
    grantee.encrypt(KeyId=key, Plaintext=PLAINTEXT)
    kms.retire_grant(KeyId=key, GrantId=second["GrantId"])
    with refused("AccessDeniedException"):
        grantee.encrypt(KeyId=key, Plaintext=PLAINTEXT)
    assert kms.list_grants(KeyId=key)["Grants"] == []


# Encryption and data keys


def test_encrypt(kms, key):
    answer = kms.encrypt(KeyId=key, Plaintext=PLAINTEXT, EncryptionContext=CONTEXT)
    assert (answer["KeyId"], answer["EncryptionAlgorithm"]) == (key, "SYMMETRIC_DEFAULT")
    assert PLAINTEXT not in answer["CiphertextBlob"]
    again = kms.encrypt(KeyId=key, Plaintext=PLAINTEXT, EncryptionContext=CONTEXT)
    assert again["CiphertextBlob"] != answer["CiphertextBlob"]
    longest = os.urandom(4096)
    blob = kms.encrypt(KeyId=key, Plaintext=longest)["CiphertextBlob"]
    assert len(blob) <= 6144 and kms.decrypt(CiphertextBlob=blob)["Plaintext"] == longest


def test_decrypt(kms, key):
    blob = kms.encrypt(KeyId=key, Plaintext=PLAINTEXT, EncryptionContext=CONTEXT)["CiphertextBlob"]
    for named in ({}, {"KeyId": key}):
        answer = kms.decrypt(CiphertextBlob=blob, EncryptionContext=dict(reversed(CONTEXT.items())), **named)
        assert (answer["KeyId"], answer["Plaintext"]) == (key, PLAINTEXT)
        assert answer["EncryptionAlgorithm"] == "SYMMETRIC_DEFAULT"
        assert answer["KeyMaterialId"] == kms.describe_key(KeyId=key)["KeyMetadata"]["CurrentKeyMaterialId"]
    altered = blob[:-1] + bytes([blob[-1] ^ 1])
    for members in (
        {"CiphertextBlob": altered, "EncryptionContext": CONTEXT},
        {"CiphertextBlob": blob[:-1], "EncryptionContext": CONTEXT},
        {"CiphertextBlob": b"x", "EncryptionContext": CONTEXT},
        {"CiphertextBlob": blob},
        {"CiphertextBlob": blob, "EncryptionContext": CONTEXT | {"purpose": "Test"}},
        {"CiphertextBlob": blob, "EncryptionContext": CONTEXT | {"more": ""}},
    ):
        with refused("InvalidCiphertextException") as caught:
            kms.decrypt(**members)
        assert caught.value.response["Error"]["Message"] == ""
    other = create(kms)["Arn"]
    text = "The key ID in the request does not identify a CMK that can perform this operation."
    with refused("IncorrectKeyException", text):
        kms.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT, KeyId=other)


def test_re_encrypt(kms, key):
    other = create(kms)["Arn"]
    blob = kms.encrypt(KeyId=key, Plaintext=PLAINTEXT, EncryptionContext=CONTEXT)["CiphertextBlob"]
    answer = kms.re_encrypt(
        CiphertextBlob=blob, SourceEncryptionContext=CONTEXT, DestinationKeyId=other,
        DestinationEncryptionContext={"new": "context"},
    )  # fmt: skip
    assert (answer["SourceKeyId"], answer["KeyId"]) == (key, other)
    for member in ("SourceEncryptionAlgorithm", "DestinationEncryptionAlgorithm"):
        assert answer[member] == "SYMMETRIC_DEFAULT"
    for member, which in (("SourceKeyMaterialId", key), ("DestinationKeyMaterialId", other)):
        assert answer[member] == kms.describe_key(KeyId=which)["KeyMetadata"]["CurrentKeyMaterialId"]
    opened = kms.decrypt(CiphertextBlob=answer["CiphertextBlob"], EncryptionContext={"new": "context"})
    assert (opened["KeyId"], opened["Plaintext"]) == (other, PLAINTEXT)
    with refused("InvalidCiphertextException", ""):
        kms.re_encrypt(CiphertextBlob=blob, DestinationKeyId=other)


def test_generate_data_key(kms, key):
    for members, length in (
        ({"KeySpec": "AES_256"}, 32),
        ({"KeySpec": "AES_128"}, 16),
        ({"NumberOfBytes": 1}, 1),
        ({"NumberOfBytes": 1024}, 1024),
    ):
        answer = kms.generate_data_key(KeyId=key, EncryptionContext=CONTEXT, **members)
        assert answer["KeyId"] == key and len(answer["Plaintext"]) == length
        opened = kms.decrypt(CiphertextBlob=answer["CiphertextBlob"], EncryptionContext=CONTEXT)
        assert opened["Plaintext"] == answer["Plaintext"]
        assert opened["KeyMaterialId"] == answer["KeyMaterialId"]


def test_generate_data_key_without_plaintext(kms, key):
    answer = kms.generate_data_key_without_plaintext(KeyId=key, KeySpec="AES_256", EncryptionContext=CONTEXT)
    assert answer["KeyId"] == key and "Plaintext" not in answer
    opened = kms.decrypt(CiphertextBlob=answer["CiphertextBlob"], EncryptionContext=CONTEXT)
    assert len(opened["Plaintext"]) == 32 and opened["KeyMaterialId"] == answer["KeyMaterialId"]


def test_generate_data_key_pair(kms, key):
    answer = kms.generate_data_key_pair(KeyId=key, KeyPairSpec="ECC_NIST_P256", EncryptionContext=CONTEXT)
    assert (answer["KeyId"], answer["KeyPairSpec"]) == (key, "ECC_NIST_P256")
    opened = kms.decrypt(CiphertextBlob=answer["PrivateKeyCiphertextBlob"], EncryptionContext=CONTEXT)
    assert opened["Plaintext"] == answer["PrivateKeyPlaintext"]
    assert opened["KeyMaterialId"] == answer["KeyMaterialId"]
    private = serialization.load_der_private_key(answer["PrivateKeyPlaintext"], None)
    assert spki(private.public_key()) == answer["PublicKey"]


def test_generate_data_key_pair_without_plaintext(kms, key):
    answer = kms.generate_data_key_pair_without_plaintext(KeyId=key, KeyPairSpec="ECC_NIST_P384")
    assert (answer["KeyId"], answer["KeyPairSpec"]) == (key, "ECC_NIST_P384")
    assert "PrivateKeyPlaintext" not in answer
    opened = kms.decrypt(CiphertextBlob=answer["PrivateKeyCiphertextBlob"])["Plaintext"]
    assert spki(serialization.load_der_private_key(opened, None).public_key()) == answer["PublicKey"]


def test_generate_random(kms):
    drawn = [kms.generate_random(NumberOfBytes=length)["Plaintext"] for length in (1, 32, 32, 1024)]
    assert [len(one) for one in drawn] == [1, 32, 32, 1024] and drawn[1] != drawn[2]


# Signatures, authentication codes, agreement


def test_sign(kms):
    key = create(kms, KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["Arn"]
    answer = kms.sign(KeyId=key, Message=PLAINTEXT, SigningAlgorithm="ECDSA_SHA_256")
    assert (answer["KeyId"], answer["SigningAlgorithm"]) == (key, "ECDSA_SHA_256")
    public_key(kms, key).verify(answer["Signature"], PLAINTEXT, ec.ECDSA(hashes.SHA256()))


def test_verify(kms):
    private = ec.generate_private_key(ec.SECP256R1())
    key = create(kms, KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY", Origin="EXTERNAL")["Arn"]
    import_material(kms, key, pkcs8(private))
    members = {
        "KeyId": key,
        "SigningAlgorithm": "ECDSA_SHA_256",
        "Signature": private.sign(PLAINTEXT, ec.ECDSA(hashes.SHA256())),
    }
    answer = kms.verify(Message=PLAINTEXT, **members)
    assert (answer["KeyId"], answer["SignatureValid"]) == (key, True)
    assert answer["SigningAlgorithm"] == "ECDSA_SHA_256"
    with refused("KMSInvalidSignatureException", ""):
        kms.verify(Message=b"another", **members)


def test_generate_mac(kms):
    key = create(kms, KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")["Arn"]
    answer = kms.generate_mac(KeyId=key, Message=PLAINTEXT, MacAlgorithm="HMAC_SHA_256")
    assert (answer["KeyId"], answer["MacAlgorithm"], len(answer["Mac"])) == (key, "HMAC_SHA_256", 32)


def test_verify_mac(kms):
    key = create(kms, KeySpec="HMAC_384", KeyUsage="GENERATE_VERIFY_MAC")["Arn"]
    members = {"KeyId": key, "MacAlgorithm": "HMAC_SHA_384"}
    mac = kms.generate_mac(Message=PLAINTEXT, **members)["Mac"]
    answer = kms.verify_mac(Message=PLAINTEXT, Mac=mac, **members)
    assert (answer["KeyId"], answer["MacAlgorithm"], answer["MacValid"]) == (key, "HMAC_SHA_384", True)
    for message, wrong in ((b"another", mac), (PLAINTEXT, mac[:-1]), (PLAINTEXT, b"x")):
        with refused("KMSInvalidMacException", ""):
            kms.verify_mac(Message=message, Mac=wrong, **members)


def test_get_public_key(kms):
    made = create(kms, KeySpec="RSA_2048", KeyUsage="ENCRYPT_DECRYPT")
    answer = kms.get_public_key(KeyId=made["KeyId"])
    algorithms = ["RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"]
    assert answer["KeyId"] == made["Arn"] and answer["EncryptionAlgorithms"] == algorithms
    assert answer["KeySpec"] == answer["CustomerMasterKeySpec"] == "RSA_2048"
    assert answer["KeyUsage"] == "ENCRYPT_DECRYPT"
    public = serialization.load_der_public_key(answer["PublicKey"])
    blob = public.encrypt(PLAINTEXT, padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None))
    opened = kms.decrypt(KeyId=made["Arn"], CiphertextBlob=blob, EncryptionAlgorithm="RSAES_OAEP_SHA_256")
    assert opened["Plaintext"] == PLAINTEXT
    with refused("UnsupportedOperationException"):
        kms.get_public_key(KeyId=create(kms)["Arn"])


def test_derive_shared_secret(kms):
    key = create(kms, KeySpec="ECC_NIST_P256", KeyUsage="KEY_AGREEMENT")["Arn"]
    mine = ec.generate_private_key(ec.SECP256R1())
    answer = kms.derive_shared_secret(KeyId=key, KeyAgreementAlgorithm="ECDH", PublicKey=spki(mine.public_key()))
    assert answer["SharedSecret"] == mine.exchange(ec.ECDH(), public_key(kms, key))
    rest = {"KeyId": key, "KeyAgreementAlgorithm": "ECDH", "KeyOrigin": "AWS_KMS"}
    assert {member: answer[member] for member in rest} == rest


def test_encapsulate(kms):
    key = create(kms, KeySpec="ML_KEM_768", KeyUsage="ENCAPSULATE_DECAPSULATE")["Arn"]
    answer = kms.encapsulate(KeyId=key, EncapsulationAlgorithm="ML_KEM")
    assert (answer["KeyId"], answer["EncapsulationAlgorithm"]) == (key, "ML_KEM")
    opened = kms.decapsulate(
        KeyId=key, EncapsulationAlgorithm="ML_KEM",
        SharedSecretCiphertextBlob=answer["SharedSecretCiphertextBlob"],
    )  # fmt: skip
    assert len(answer["SharedSecret"]) == 32 and opened["SharedSecret"] == answer["SharedSecret"]


def test_decapsulate(kms):
    key = create(kms, KeySpec="ML_KEM_1024", KeyUsage="ENCAPSULATE_DECAPSULATE")["Arn"]
    secret, encapsulated = public_key(kms, key).encapsulate()
    answer = kms.decapsulate(KeyId=key, EncapsulationAlgorithm="ML_KEM", SharedSecretCiphertextBlob=encapsulated)
    assert answer["SharedSecret"] == secret
    assert (answer["KeyId"], answer["EncapsulationAlgorithm"]) == (key, "ML_KEM")


def test_get_key_last_usage(kms, key):
    created = kms.describe_key(KeyId=key)["KeyMetadata"]["CreationDate"]
    before = kms.get_key_last_usage(KeyId=key)
    assert not before.get("KeyLastUsage") and before["KeyCreationDate"] == created
    assert recent(before["TrackingStartDate"])
    kms.encrypt(KeyId=key, Plaintext=PLAINTEXT)
    kms.generate_data_key(KeyId=key, KeySpec="AES_256")
    answer = kms.get_key_last_usage(KeyId=key)
    assert answer["KeyId"] == key and answer["KeyLastUsage"]["Operation"] == "GenerateDataKey"
    assert recent(answer["KeyLastUsage"]["Timestamp"]) and answer["KeyLastUsage"]["Timestamp"] >= created


# Rotation


def rotation(kms, key):
    answer = kms.get_key_rotation_status(KeyId=key)
    assert answer["KeyId"].endswith(KEY_ARN.fullmatch(key)[3])
    return answer


def test_enable_key_rotation(kms, key):
    for period, members in (
        (365, {}),
        (90, {"RotationPeriodInDays": 90}),
        (2560, {"RotationPeriodInDays": 2560}),
    ):
        kms.enable_key_rotation(KeyId=key, **members)
        status = rotation(kms, key)
        assert (status["KeyRotationEnabled"], status["RotationPeriodInDays"]) == (True, period)
        assert days_ahead(status["NextRotationDate"]) == period
    mac_key = create(kms, KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")["Arn"]
    with refused("UnsupportedOperationException"):
        kms.enable_key_rotation(KeyId=mac_key)


def test_disable_key_rotation(kms, key):
    kms.enable_key_rotation(KeyId=key)
    kms.disable_key_rotation(KeyId=key)
    assert rotation(kms, key)["KeyRotationEnabled"] is False


def test_get_key_rotation_status(kms, key):
    status = rotation(kms, key)
    assert status["KeyRotationEnabled"] is False
    assert "NextRotationDate" not in status and "RotationPeriodInDays" not in status


def test_rotate_key_on_demand(kms, key):
    before = kms.describe_key(KeyId=key)["KeyMetadata"]["CurrentKeyMaterialId"]
    old = kms.encrypt(KeyId=key, Plaintext=PLAINTEXT)["CiphertextBlob"]
    assert kms.rotate_key_on_demand(KeyId=key)["KeyId"] == key
    after = kms.describe_key(KeyId=key)["KeyMetadata"]["CurrentKeyMaterialId"]
    new = kms.encrypt(KeyId=key, Plaintext=PLAINTEXT)["CiphertextBlob"]
    for blob, material in ((old, before), (new, after)):
        opened = kms.decrypt(CiphertextBlob=blob)
        assert (opened["Plaintext"], opened["KeyMaterialId"]) == (PLAINTEXT, material)
    assert before != after


def test_list_key_rotations(kms, key):
    first = kms.describe_key(KeyId=key)["KeyMetadata"]["CurrentKeyMaterialId"]
    assert kms.list_key_rotations(KeyId=key)["Rotations"] == []
    for _ in range(3):
        kms.rotate_key_on_demand(KeyId=key)
    listed = pages(kms.list_key_rotations, "Rotations", 2, KeyId=key)
    assert len(listed) == 3
    for entry in listed:
        assert entry["KeyId"].endswith(KEY_ARN.fullmatch(key)[3])
        assert entry["RotationType"] == "ON_DEMAND" and recent(entry["RotationDate"])
    everything = kms.list_key_rotations(KeyId=key, IncludeKeyMaterial="ALL_KEY_MATERIAL")["Rotations"]
    states = {entry["KeyMaterialId"]: entry["KeyMaterialState"] for entry in everything}
    current = kms.describe_key(KeyId=key)["KeyMetadata"]["CurrentKeyMaterialId"]
    assert len(states) == 4 and states[current] == "CURRENT" and states[first] == "NON_CURRENT"


# Imported material


def test_get_parameters_for_import(kms):
    key = create(kms, Origin="EXTERNAL")["Arn"]
    answer = kms.get_parameters_for_import(
        KeyId=key, WrappingAlgorithm="RSAES_OAEP_SHA_256", WrappingKeySpec="RSA_3072"
    )
    assert answer["KeyId"] == key and 0 < len(answer["ImportToken"]) <= 6144
    assert serialization.load_der_public_key(answer["PublicKey"]).key_size == 3072
    assert days_ahead(answer["ParametersValidTo"]) == 1


def test_import_key_material(kms):
    made = create(kms, Origin="EXTERNAL")
    key, material = made["Arn"], os.urandom(32)
    assert (made["KeyState"], made["Enabled"], made["Origin"]) == ("PendingImport", False, "EXTERNAL")
    with refused("KMSInvalidStateException", f"{key} is pending import."):
        kms.encrypt(KeyId=key, Plaintext=PLAINTEXT)
    ends = datetime.datetime.now(datetime.UTC).replace(microsecond=0) + datetime.timedelta(days=3)
    answer = import_material(kms, key, material, ExpirationModel="KEY_MATERIAL_EXPIRES", ValidTo=ends)
    assert answer["KeyId"] == key and MATERIAL_ID.fullmatch(answer["KeyMaterialId"])
    described = kms.describe_key(KeyId=key)["KeyMetadata"]
    assert (described["KeyState"], described["ExpirationModel"]) == ("Enabled", "KEY_MATERIAL_EXPIRES")
    assert described["ValidTo"] == ends and described["CurrentKeyMaterialId"] == answer["KeyMaterialId"]
    message = kms.encrypt(KeyId=key, Plaintext=PLAINTEXT, EncryptionContext=CONTEXT)["CiphertextBlob"]
    assert open_message(material, message, CONTEXT) == PLAINTEXT


def test_delete_imported_key_material(kms):
    key, material = create(kms, Origin="EXTERNAL")["Arn"], os.urandom(32)
    id_ = import_material(kms, key, material)["KeyMaterialId"]
    blob = kms.encrypt(KeyId=key, Plaintext=PLAINTEXT)["CiphertextBlob"]
    answer = kms.delete_imported_key_material(KeyId=key)
    assert (answer["KeyId"], answer["KeyMaterialId"]) == (key, id_)
    assert state(kms, key) == "PendingImport"
    with refused("KMSInvalidStateException", f"{key} is pending import."):
        kms.decrypt(CiphertextBlob=blob)
    assert import_material(kms, key, material)["KeyMaterialId"] == id_
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == PLAINTEXT


# What a deployment does not offer


def test_create_custom_key_store(kms):
    with refused("UnsupportedOperationException", KEY_STORES):
        kms.create_custom_key_store(CustomKeyStoreName="a store")


def test_describe_custom_key_stores(kms):
    with refused("UnsupportedOperationException", KEY_STORES):
        kms.describe_custom_key_stores()


def test_connect_custom_key_store(kms):
    with refused("UnsupportedOperationException", KEY_STORES):
        kms.connect_custom_key_store(CustomKeyStoreId="cks-1234567890abcdef0")


def test_disconnect_custom_key_store(kms):
    with refused("UnsupportedOperationException", KEY_STORES):
        kms.disconnect_custom_key_store(CustomKeyStoreId="cks-1234567890abcdef0")


def test_update_custom_key_store(kms):
    with refused("UnsupportedOperationException", KEY_STORES):
        kms.update_custom_key_store(CustomKeyStoreId="cks-1234567890abcdef0")


def test_delete_custom_key_store(kms):
    with refused("UnsupportedOperationException", KEY_STORES):
        kms.delete_custom_key_store(CustomKeyStoreId="cks-1234567890abcdef0")


def test_replicate_key(kms, key):
    with refused("UnsupportedOperationException", ONE_REGION):
        kms.replicate_key(KeyId=key, ReplicaRegion="eu-north-1")


def test_update_primary_region(kms, key):
    with refused("UnsupportedOperationException", ONE_REGION):
        kms.update_primary_region(KeyId=key, PrimaryRegion="eu-north-1")
