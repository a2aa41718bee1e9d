"""Who may do what through the AWS KMS API: roles, grants, key policies; tenants do not see each other."""

import json
import re

import pytest

from aws_kms import KEY_ARN, create, default_policy, issue, refused

CONTEXT = {"purpose": "test"}
PLAINTEXT = b"a secret"
# Of a ciphertext whose key the request does not name: it is not said which of these it is.
NOT_MINE = (
    "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not "
    "allowed to access."
)


class Tenant:
    """A tenant with a client for each role, and a key that its key-admin made."""

    def __init__(self, server, name, folder):
        self.admin = server.tenant(name, folder)
        for role in ("key-admin", "key-user", "auditor", "tenant-admin"):
            _, _, access = issue(server, self.admin, f"{name}-{role}", folder, role)
            setattr(self, role.replace("-", "_"), access.client())
        self.key = create(self.key_admin, Description=name)["Arn"]
        self.blob = self.key_user.encrypt(KeyId=self.key, Plaintext=PLAINTEXT)["CiphertextBlob"]


@pytest.fixture(scope="module")
def tenants(aws, tmp_path_factory):
    return [Tenant(aws, name, tmp_path_factory.mktemp(name)) for name in ("crimson", "azure")]


@pytest.fixture(scope="module")
def red(tenants):
    return tenants[0]


def denied(key, who, action):
    """AWS's text for what nothing allows."""
    account = KEY_ARN.fullmatch(key)[2]
    return (
        f"User: arn:aws:iam::{account}:user/{who} is not authorized to perform: kms:{action} on resource: {key} "
        f"because no identity-based policy allows the kms:{action} action"
    )


def test_a_key_user_uses_and_does_not_manage(red):
    kms, key = red.key_user, red.key
    assert kms.decrypt(CiphertextBlob=red.blob)["Plaintext"] == PLAINTEXT
    assert kms.generate_data_key(KeyId=key, KeySpec="AES_256")["KeyId"] == key
    assert kms.describe_key(KeyId=key)["KeyMetadata"]["Arn"] == key
    for action, call in (
        ("DisableKey", lambda: kms.disable_key(KeyId=key)),
        ("ScheduleKeyDeletion", lambda: kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)),
        ("RotateKeyOnDemand", lambda: kms.rotate_key_on_demand(KeyId=key)),
        ("EnableKeyRotation", lambda: kms.enable_key_rotation(KeyId=key)),
        ("TagResource", lambda: kms.tag_resource(KeyId=key, Tags=[{"TagKey": "a", "TagValue": "b"}])),
        ("UpdateKeyDescription", lambda: kms.update_key_description(KeyId=key, Description="x")),
        (
            "PutKeyPolicy",
            lambda: kms.put_key_policy(KeyId=key, Policy=json.dumps(default_policy("123456789012"))),
        ),
    ):
        with refused("AccessDeniedException", denied(key, "crimson-key-user", action)):
            call()
    with refused(
        "AccessDeniedException",
        re.compile(".*crimson-key-user is not authorized to perform: kms:CreateKey.*"),
    ):
        kms.create_key()


def test_a_key_admin_manages_and_does_not_use(red):
    kms, key = red.key_admin, red.key
    kms.tag_resource(KeyId=key, Tags=[{"TagKey": "a", "TagValue": "b"}])
    kms.rotate_key_on_demand(KeyId=key)
    kms.disable_key(KeyId=key)
    kms.enable_key(KeyId=key)
    assert red.key_user.decrypt(CiphertextBlob=red.blob)["Plaintext"] == PLAINTEXT
    for action, call in (
        ("Encrypt", lambda: kms.encrypt(KeyId=key, Plaintext=PLAINTEXT)),
        ("Decrypt", lambda: kms.decrypt(KeyId=key, CiphertextBlob=red.blob)),
        ("Decrypt", lambda: kms.decrypt(KeyId=key, CiphertextBlob=red.blob, DryRun=True)),
        ("GenerateDataKey", lambda: kms.generate_data_key(KeyId=key, KeySpec="AES_256")),
    ):
        with refused("AccessDeniedException", denied(key, "crimson-key-admin", action)):
            call()
    with refused("AccessDeniedException", NOT_MINE):
        kms.decrypt(CiphertextBlob=red.blob)


def test_an_auditor_uses_nothing_and_changes_nothing(red):
    kms, key = red.auditor, red.key
    assert key in {entry["KeyArn"] for entry in kms.list_keys()["Keys"]}
    for call in (
        lambda: kms.encrypt(KeyId=key, Plaintext=PLAINTEXT),
        lambda: kms.decrypt(CiphertextBlob=red.blob),
        lambda: kms.disable_key(KeyId=key),
        lambda: kms.create_key(),
    ):
        with refused("AccessDeniedException"):
            call()


def test_a_refusal_does_not_tell_the_state_of_the_key(red):
    key = create(red.key_admin)["Arn"]
    red.key_admin.disable_key(KeyId=key)
    with refused("DisabledException"):
        red.key_user.encrypt(KeyId=key, Plaintext=PLAINTEXT)
    with refused("AccessDeniedException"):
        red.auditor.encrypt(KeyId=key, Plaintext=PLAINTEXT)
    with refused("AccessDeniedException"):
        red.auditor.sign(KeyId=key, Message=b"x", SigningAlgorithm="ECDSA_SHA_256")


def test_tenants_do_not_see_each_other(tenants):
    for one, other in (tenants, tenants[::-1]):
        for kms in (one.key_user, one.key_admin, one.tenant_admin):
            arns = {entry["KeyArn"] for entry in kms.list_keys()["Keys"]}
            assert one.key in arns and other.key not in arns
        missing = f"Key '{other.key}' does not exist"
        for call in (
            lambda: one.key_user.describe_key(KeyId=other.key),
            lambda: one.key_user.encrypt(KeyId=other.key, Plaintext=PLAINTEXT),
            lambda: one.key_user.decrypt(KeyId=other.key, CiphertextBlob=other.blob),
            lambda: one.key_admin.disable_key(KeyId=other.key),
            lambda: one.key_admin.list_grants(KeyId=other.key),
            lambda: one.tenant_admin.get_key_policy(KeyId=other.key),
        ):
            with refused("NotFoundException", missing):
                call()
        with refused("AccessDeniedException", NOT_MINE):
            one.key_user.decrypt(CiphertextBlob=other.blob)


def test_tenants_may_use_one_alias_each(tenants):
    for tenant in tenants:
        tenant.key_admin.create_alias(AliasName="alias/same", TargetKeyId=tenant.key)
    for tenant in tenants:
        assert tenant.key_user.describe_key(KeyId="alias/same")["KeyMetadata"]["Arn"] == tenant.key


def test_a_disabled_tenant_is_answered_no_more(aws, tmp_path):
    tenant = Tenant(aws, "grey", tmp_path)
    listed = json.loads(aws.done(aws.operator, "--json", "tenant", "list"))["tenants"]
    id_ = next(one["id"] for one in listed if one["name"] == "grey")
    aws.done(aws.operator, "tenant", "disable", id_)
    with refused("AccessDeniedException"):
        tenant.key_user.decrypt(CiphertextBlob=tenant.blob)
    aws.done(aws.operator, "tenant", "enable", id_)
    assert tenant.key_user.decrypt(CiphertextBlob=tenant.blob)["Plaintext"] == PLAINTEXT


def test_the_log_has_the_calls_as_what_they_are(aws, access, kms):
    key = create(kms)["KeyId"]
    kms.encrypt(KeyId=key, Plaintext=PLAINTEXT)
    logged = []
    while len(logged) % 1000 == 0:
        page = ("audit", "list", "--from", logged[-1]["index"] + 1 if logged else 0, "--limit", 1000)
        logged += json.loads(aws.done(aws.developer, "--json", *page))["entries"]
    entries = [one["entry"] for one in logged if key in json.dumps(one["entry"])]
    assert [entry["operation"] for entry in entries] == ["create-key", "encrypt"]
    assert access.key_id in json.dumps(entries)


# Grants and key policies


@pytest.fixture
def key(kms):
    return create(kms)["Arn"]


@pytest.fixture
def principal(key):
    """The ARN of an identity by its name."""
    return f"arn:aws:iam::{KEY_ARN.fullmatch(key)[2]}:user/{{}}".format


@pytest.fixture(scope="module")
def grantee(aws, tmp_path_factory):
    """The client of an identity that only grants and key policies allow anything."""
    _, _, access = issue(aws, aws.developer, "grant-taker", tmp_path_factory.mktemp("grantee"))
    return access.client()


def test_a_grant_gives_the_operation_it_names_and_no_wider_one(kms, key, principal, grantee):
    kms.create_grant(
        KeyId=key, GranteePrincipal=principal("grant-taker"), Operations=["GenerateDataKeyWithoutPlaintext"],
        Constraints={"EncryptionContextEquals": CONTEXT},
    )  # fmt: skip
    members = {"KeyId": key, "KeySpec": "AES_256"}
    grantee.generate_data_key_without_plaintext(**members, EncryptionContext=CONTEXT)
    for call in (
        lambda: grantee.generate_data_key(**members, EncryptionContext=CONTEXT),
        lambda: grantee.generate_data_key_without_plaintext(**members, EncryptionContext=CONTEXT | {"a": "b"}),
        lambda: grantee.encrypt(KeyId=key, Plaintext=PLAINTEXT, EncryptionContext=CONTEXT),
    ):
        with refused("AccessDeniedException"):
            call()


def test_the_same_named_grant_is_made_once(kms, key, principal):
    members = {"KeyId": key, "GranteePrincipal": principal("dev"), "Operations": ["Decrypt"], "Name": "once"}
    assert kms.create_grant(**members)["GrantId"] == kms.create_grant(**members)["GrantId"]
    assert len(kms.list_grants(KeyId=key)["Grants"]) == 1
    del members["Name"]
    assert kms.create_grant(**members)["GrantId"] != kms.create_grant(**members)["GrantId"]


def test_a_policy_that_cannot_be_kept_is_refused_by_its_statement(kms, key):
    document = default_policy(KEY_ARN.fullmatch(key)[2])
    before = kms.get_key_policy(KeyId=key)["Policy"]
    condition = {"IpAddress": {"aws:SourceVpc": "vpc-1"}}
    document["Statement"].append(document["Statement"][0] | {"Sid": "Odd", "Condition": condition})
    for text in (json.dumps(document), "{", "[]", json.dumps({"Version": "2012-10-17"})):
        with refused("MalformedPolicyDocumentException") as caught:
            kms.put_key_policy(KeyId=key, Policy=text)
    with refused("MalformedPolicyDocumentException") as caught:
        kms.put_key_policy(KeyId=key, Policy=json.dumps(document))
    assert "Odd" in caught.value.response["Error"]["Message"]
    assert kms.get_key_policy(KeyId=key)["Policy"] == before
