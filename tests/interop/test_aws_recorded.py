"""Answers that were recorded from AWS, asked for again here and compared member by member.

The records name ids, ARNs, dates and random bytes by placeholders; one placeholder is the same text within a record.
They do not hold the calls: those are below, by the name of the record. Where our answer differs, DEVIATIONS says so
and docs/protocols/aws-kms.md with it; what differs otherwise, or no longer differs, fails.

KEYHEARTH_VECTORS names a folder with `aws/kms_recorded_responses.json`.
"""

import json
import os
import pathlib
import re

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from aws_kms import create, import_material, pkcs8, spki
from aws_records import ANSWERS, DEVIATIONS, DIFFERENT, Replay

DOCUMENTATION = pathlib.Path(__file__).resolve().parents[2] / "docs/protocols/aws-kms.md"
FILE = pathlib.Path(os.environ.get("KEYHEARTH_VECTORS", "")) / "aws/kms_recorded_responses.json"
if "KEYHEARTH_VECTORS" in os.environ:
    RECORDS = {name.split("::")[-1]: record["recorded-content"] for name, record in json.load(FILE.open()).items()}
else:
    RECORDS = {}
needs_records = pytest.mark.skipif(not RECORDS, reason="KEYHEARTH_VECTORS is not set")

REPLAYS = {}
# Names of the records that were compared.
DONE = set()


def record(name):
    def add(function):
        REPLAYS[name] = function
        return function

    return add


@pytest.fixture(scope="module")
def lax(access):
    """A client that does not look at what it is told to send."""
    return access.client(parameter_validation=False)


@needs_records
@pytest.mark.parametrize("name", [name for name, answers in RECORDS.items() if answers])
def test_recorded(name, kms, lax, record_property):
    test, arguments = re.fullmatch(r"(\w+)(?:\[(.*)\])?", name).groups()
    replay = Replay(name, RECORDS[name], kms, lax)
    REPLAYS[test](replay, *(arguments.split("-") if arguments else ()))
    replay.finish()
    DONE.add(name)
    record_property(ANSWERS, len(replay.compared))
    record_property(DIFFERENT, sum(seen == name for deviation in DEVIATIONS for seen, _ in deviation.seen))


@needs_records
def test_every_deviation_shows():
    if DONE != {name for name, answers in RECORDS.items() if answers}:
        pytest.skip("not every record was replayed")
    assert [deviation.what for deviation in DEVIATIONS if deviation.at and not deviation.seen] == []


def test_the_documentation_has_the_same_deviations():
    text = DOCUMENTATION.read_text()
    section = text.partition("## Where answers differ from AWS\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    assert rows[1:] == [deviation.row() for deviation in DEVIATIONS]


# The calls


@record("test_generate_random_invalid_number_of_bytes")
def _(replay, number):
    members = {} if number == "None" else {"NumberOfBytes": int(number)}
    with replay.refused("generate-random-exc"):
        replay.lax.generate_random(**members)


@record("test_encrypt_validate_plaintext_size_per_key_type")
def _(replay, spec, algorithm):
    key = create(replay.kms, KeySpec=spec, KeyUsage="ENCRYPT_DECRYPT")["Arn"]
    hash_bytes = {"1": 20, "256": 32}[algorithm.rpartition("_")[2]]
    too_long = bytes(int(spec[4:]) // 8 - 2 * hash_bytes - 1)
    with replay.refused("generate-random-exc"):
        replay.kms.encrypt(KeyId=key, Plaintext=too_long, EncryptionAlgorithm=algorithm)


@record("test_generate_random")
def _(replay, number):
    replay.same("result_length", len(replay.kms.generate_random(NumberOfBytes=int(number))["Plaintext"]))


@record("test_create_key")
def _(replay):
    key = create(replay.kms, Description="test key 123", KeyUsage="ENCRYPT_DECRYPT")["KeyId"]
    replay.same("describe-key", replay.kms.describe_key(KeyId=key)["KeyMetadata"])


NO_KEY = "01990a3f-1b7a-7c04-8e55-64d0c9a2f7e1"


def elsewhere(arn, region="af-south-9"):
    return re.sub("kms:[a-z0-9-]+:", f"kms:{region}:", arn)


@record("test_get_key_in_different_region")
def _(replay):
    with replay.refused("describe-key-diff-region-with-id"):
        replay.kms.describe_key(KeyId=NO_KEY)
    arn = create(replay.kms, Description="test key 123")["Arn"]
    replay.bound.clear()
    with replay.refused("describe-key-diff-region-with-arn"):
        replay.kms.describe_key(KeyId=elsewhere(arn))
    replay.bound.clear()
    replay.same("describe-key-same-specific-region-with-id", replay.kms.describe_key(KeyId=arn.rpartition("/")[2]))
    replay.same("describe-key-same-specific-region-with-arn", replay.kms.describe_key(KeyId=arn))


@record("test_get_key_does_not_exist")
def _(replay):
    arn = create(replay.kms)["Arn"].rpartition("/")[0] + "/" + NO_KEY
    for answer, key in (
        ("describe-nonexistent-key-with-id", NO_KEY),
        ("describe-nonexistent-with-arn", arn),
        ("describe-key-with-valid-id-mrk", "mrk-" + NO_KEY.replace("-", "")),
    ):
        with replay.refused(answer):
            replay.kms.describe_key(KeyId=key)


@record("test_get_key_invalid_uuid")
def _(replay):
    for answer, key in (
        ("describe-key-with-invalid-uuid", "fake-key-id"),
        ("describe-key-with-invalid-uuid-2", "134f2428cec14b25a1ae9048164dba47"),
        ("describe-key-with-invalid-uuid-mrk", "mrk-fake-key-id"),
    ):
        with replay.refused(answer):
            replay.kms.describe_key(KeyId=key)


@record("test_replicate_key")
def _(replay):
    key = create(replay.kms, Description="test replicated key")["KeyId"]
    with replay.refused("describe-key-from-different-region"):
        replay.kms.describe_key(KeyId=NO_KEY)
    with replay.refused("replicate-key"):
        replay.kms.replicate_key(KeyId=key, ReplicaRegion="ap-southeast-1")
    replay.bound.clear()
    described = replay.kms.describe_key(KeyId=key)
    replay.same("describe-key-from-region", described)
    with replay.refused("describe-replicated-key"):
        replay.kms.describe_key(KeyId=elsewhere(described["KeyMetadata"]["Arn"], "ap-southeast-1"))


@record("test_replicate_replica_key_should_fail")
def _(replay):
    key = create(replay.kms)["KeyId"]
    with replay.refused("fail-replicate-non-primary-key"):
        replay.kms.replicate_key(KeyId=key, ReplicaRegion="ap-southeast-1")


@record("test_create_multi_region_key")
def _(replay):
    with replay.refused("create_multi_region_key"):
        replay.kms.create_key(MultiRegion=True, Description="test multi region key")


@record("test_non_multi_region_keys_should_not_have_multi_region_properties")
def _(replay):
    made = create(replay.kms, MultiRegion=False, Description="test non multi region key")
    replay.same("non_multi_region_keys_should_not_have_multi_region_properties", made)


@record("test_create_alias")
def _(replay):
    key = create(replay.kms)["KeyId"]
    with replay.refused("create_alias"):
        replay.kms.create_alias(AliasName="invalid", TargetKeyId=key)


@record("test_describe_with_alias_arn")
def _(replay):
    made = create(replay.kms, Description="test - description")
    replay.same("created-key", made)
    name = f"alias/by-arn-{made['KeyId']}"
    replay.kms.create_alias(AliasName=name, TargetKeyId=made["KeyId"])
    arn = made["Arn"].rpartition("key/")[0] + name
    replay.same("describe-key", replay.kms.describe_key(KeyId=arn))


@record("test_sign_verify")
def _(replay, spec, algorithm):
    kms, bits = replay.kms, int(algorithm.rpartition("_")[2])
    members = {
        "KeyId": create(kms, KeySpec=spec, KeyUsage="SIGN_VERIFY")["Arn"],
        "SigningAlgorithm": algorithm,
        "MessageType": "DIGEST",
    }
    digest = os.urandom(bits // 8)
    signed = kms.sign(Message=digest, **members)
    replay.same("signature", signed)
    replay.same("verification", kms.verify(Message=digest, Signature=signed["Signature"], **members))
    with replay.refused("bad-digest"):
        kms.sign(Message=digest[1:], **members)
    with replay.refused("bad-signature"):
        kms.verify(Message=os.urandom(bits // 8), Signature=signed["Signature"], **members)


@record("test_hmac_create_key")
def _(replay):
    made = create(replay.kms, KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC", Description="test key")
    replay.same("create-hmac-key", made)
    replay.same("describe-key", replay.kms.describe_key(KeyId=made["KeyId"])["KeyMetadata"])


@record("test_hmac_create_key_invalid_operations")
def _(replay):
    for answer, members in (
        ("create-hmac-key-without-key-usage", {"KeySpec": "HMAC_256"}),
        ("create-hmac-key-invalid-spec", {"KeySpec": "HMAC_random", "KeyUsage": "GENERATE_VERIFY_MAC"}),
        ("create-hmac-key-invalid-key-usage", {"KeySpec": "HMAC_256", "KeyUsage": "RANDOM"}),
    ):
        with replay.refused(answer):
            replay.kms.create_key(**members)


def mac_key(replay, spec):
    return {
        "KeyId": create(replay.kms, KeySpec=spec, KeyUsage="GENERATE_VERIFY_MAC")["Arn"],
        "Message": b"message",
    }


@record("test_generate_and_verify_mac")
def _(replay, spec, algorithm):
    kms, members = replay.kms, mac_key(replay, spec) | {"MacAlgorithm": algorithm}
    made = kms.generate_mac(**members)
    replay.same("generate-mac", made)
    replay.same("verify-mac", kms.verify_mac(Mac=made["Mac"], **members))
    members["KeyId"] = "key_id"
    with replay.refused("generate-mac-invalid-key-id"):
        kms.generate_mac(**members)
    with replay.refused("verify-mac-invalid-key-id"):
        kms.verify_mac(Mac=made["Mac"], **members)


@record("test_invalid_generate_mac")
def _(replay, spec, algorithm):
    with replay.refused("generate-mac"):
        replay.kms.generate_mac(MacAlgorithm=algorithm, **mac_key(replay, spec))


@record("test_invalid_verify_mac")
def _(replay, spec, algorithm, message):
    members = mac_key(replay, spec) | {"Message": b"some important message"}
    made = replay.kms.generate_mac(MacAlgorithm="HMAC_SHA_256", **members)
    replay.same("generate-mac", made)
    with replay.refused("verify-mac"):
        replay.kms.verify_mac(Mac=made["Mac"], MacAlgorithm=algorithm, **(members | {"Message": message.encode()}))


@record("test_error_messaging_for_invalid_keys")
def _(replay):
    kms = replay.kms
    symmetric = create(kms)["Arn"]
    mac = create(kms, KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")["Arn"]
    signing = create(kms, KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")["Arn"]
    blob = kms.encrypt(KeyId=symmetric, Plaintext=b"x")["CiphertextBlob"]
    signed = {"Message": b"x", "SigningAlgorithm": "RSASSA_PSS_SHA_256"}
    for answer, call in (
        (
            "generate-mac-invalid-key-id",
            lambda: kms.generate_mac(KeyId=symmetric, Message=b"x", MacAlgorithm="HMAC_SHA_256"),
        ),
        ("sign-invalid-key-id", lambda: kms.sign(KeyId=mac, **signed)),
        ("verify-invalid-key-id", lambda: kms.verify(KeyId=symmetric, Signature=bytes(256), **signed)),
        ("encrypt-invalid-key-id", lambda: kms.encrypt(KeyId=signing, Plaintext=b"x")),
        ("decrypt-invalid-key-id", lambda: kms.decrypt(KeyId=mac, CiphertextBlob=blob)),
    ):
        replay.bound.clear()
        with replay.refused(answer):
            call()


# Imports


def external(kms, description, spec="SYMMETRIC_DEFAULT", usage="ENCRYPT_DECRYPT"):
    return create(kms, Origin="EXTERNAL", Description=description, KeySpec=spec, KeyUsage=usage)


def metadata(replay, answer, key):
    replay.same(answer, replay.kms.describe_key(KeyId=key))


@record("test_import_key_symmetric")
def _(replay):
    kms, material = replay.kms, os.urandom(32)
    made = external(kms, "test import")
    key = made["KeyId"]
    replay.same("created-key", made)
    with replay.refused("encrypt-before-import-error"):
        kms.encrypt(KeyId=key, Plaintext=b"x")
    metadata(replay, "describe-key-before-import", key)
    with replay.refused("import-expiring-key-without-valid-to"):
        import_material(kms, key, material, ExpirationModel="KEY_MATERIAL_EXPIRES")
    import_material(kms, key, material)
    metadata(replay, "describe-key-after-import", key)
    kms.delete_imported_key_material(KeyId=key)
    metadata(replay, "describe-key-after-deleted-import", key)
    with replay.refused("encrypt-after-delete-error"):
        kms.encrypt(KeyId=key, Plaintext=b"x")


@record("test_import_key_asymmetric")
def _(replay):
    made = external(replay.kms, "test import", "ECC_NIST_P256", "SIGN_VERIFY")
    replay.same("created-key", made)
    metadata(replay, "describe-key-before-import", made["KeyId"])
    import_material(replay.kms, made["KeyId"], pkcs8(ec.generate_private_key(ec.SECP256R1())))
    metadata(replay, "describe-key-after-import", made["KeyId"])
    replay.kms.delete_imported_key_material(KeyId=made["KeyId"])
    metadata(replay, "describe-key-after-deleted-import", made["KeyId"])


@record("test_import_key_rsa_aes_wrap_sha256")
def _(replay):
    key = external(replay.kms, "test-key", "RSA_4096")["KeyId"]
    metadata(replay, "describe-before-import", key)
    material = pkcs8(rsa.generate_private_key(65537, 4096))
    import_material(replay.kms, key, material, "RSA_AES_KEY_WRAP_SHA_256", "RSA_4096")
    metadata(replay, "import-key-material-response", key)
    replay.kms.delete_imported_key_material(KeyId=key)
    metadata(replay, "describe-key-after-deleted-import", key)


@record("test_import_key_ecc_keys")
def _(replay, spec):
    kms = replay.kms
    curves = {
        "ECC_NIST_P256": (ec.SECP256R1(), "ECDSA_SHA_256"),
        "ECC_NIST_P384": (ec.SECP384R1(), "ECDSA_SHA_384"),
        "ECC_NIST_P521": (ec.SECP521R1(), "ECDSA_SHA_512"),
        "ECC_SECG_P256K1": (ec.SECP256K1(), "ECDSA_SHA_256"),
    }
    curve, algorithm = curves[spec]
    key = external(kms, "test ecc key import", spec, "SIGN_VERIFY")["KeyId"]
    metadata(replay, "describe-key-before-import", key)
    import_material(kms, key, pkcs8(ec.generate_private_key(curve)), "RSA_AES_KEY_WRAP_SHA_256")
    metadata(replay, "describe-key-after-import", key)
    members = {"KeyId": key, "Message": b"message", "SigningAlgorithm": algorithm}
    signed = kms.sign(**members)
    replay.same("sign-result", signed)
    replay.same("verify-result", kms.verify(Signature=signed["Signature"], **members))
    kms.delete_imported_key_material(KeyId=key)
    metadata(replay, "describe-key-after-deleted-import", key)


@record("test_import_key_hmac_keys")
def _(replay, spec):
    kms, bits = replay.kms, spec[5:]
    key = external(kms, "test import hmac key", spec, "GENERATE_VERIFY_MAC")["KeyId"]
    metadata(replay, "describe-key-before-import", key)
    import_material(kms, key, os.urandom(int(bits) // 8))
    metadata(replay, "describe-key-after-import", key)
    members = {"KeyId": key, "Message": b"message", "MacAlgorithm": f"HMAC_SHA_{bits}"}
    made = kms.generate_mac(**members)
    replay.same("generate-mac-response", made)
    replay.same("verify-mac-response", kms.verify_mac(Mac=made["Mac"], **members))
    kms.delete_imported_key_material(KeyId=key)
    metadata(replay, "describe-key-after-deleted-import", key)


@record("test_get_parameters_for_import")
def _(replay, answer="response-error"):
    key = create(replay.kms)["KeyId"]
    with replay.refused(answer):
        replay.kms.get_parameters_for_import(
            KeyId=key, WrappingAlgorithm="RSAES_OAEP_SHA_256", WrappingKeySpec="RSA_4096"
        )


@record("test_get_parameters_for_import_raises_for_non_external_kms_keys")
def _(replay):
    REPLAYS["test_get_parameters_for_import"](replay, "get-import-parameters-error")


@record("test_import_key_material_raises_if_there_is_already_key_material_pending")
def _(replay):
    kms, key = replay.kms, external(replay.kms, "test-key")["Arn"]
    replay.same("import-initial-material-response", import_material(kms, key, os.urandom(32)))
    new = {"ImportType": "NEW_KEY_MATERIAL"}
    replay.same("import-pending-material-response", import_material(kms, key, os.urandom(32), **new))
    with replay.refused("existing-pending-material-error"):
        import_material(kms, key, os.urandom(32), **new)


# Encryption


@record("test_plaintext_size_for_encrypt")
def _(replay):
    key = create(replay.kms)["KeyId"]
    with replay.refused("invalid-plaintext-size-encrypt"):
        replay.lax.encrypt(KeyId=key, Plaintext=bytes(4097))


@record("test_encrypt_decrypt_encryption_context")
def _(replay):
    kms, context = replay.kms, {"EncryptionContext": {"context-key": "context-value"}}
    encrypted = kms.encrypt(KeyId=create(kms)["KeyId"], Plaintext=b"x", **context)
    replay.same("encrypt_response", encrypted)
    blob = encrypted["CiphertextBlob"]
    replay.same("decrypt_response_with_encryption_context", kms.decrypt(CiphertextBlob=blob, **context))
    with replay.refused("decrypt_response_without_encryption_context"):
        kms.decrypt(CiphertextBlob=blob)
    with replay.refused("decrypt_response_with_invalid_ciphertext"):
        kms.decrypt(CiphertextBlob=blob[:-1] + bytes([blob[-1] ^ 1]), **context)


def data_key(operation, blob="CiphertextBlob", **members):
    @record(f"test_{operation}")
    def _(replay):
        answer = operation.replace("_", "-") + ("-result" if operation == "generate_data_key" else "")
        replay.same(answer, getattr(replay.kms, operation)(KeyId=create(replay.kms)["KeyId"], **members))

    @record(f"test_encryption_context_{operation}")
    def _(replay):
        context = {"EncryptionContext": {"context-key": "context-value"}}
        made = getattr(replay.kms, operation)(KeyId=create(replay.kms)["KeyId"], **context, **members)
        with replay.refused("decrypt-without-encryption-context"):
            replay.kms.decrypt(CiphertextBlob=made[blob])

    @record(f"test_{operation}_dry_run")
    def _(replay):
        key = create(replay.kms)["KeyId"]
        with replay.refused("dryrun_exception"):
            getattr(replay.kms, operation)(KeyId=key, DryRun=True, **members)


data_key("generate_data_key", KeySpec="AES_256")
data_key("generate_data_key_without_plaintext", KeySpec="AES_256")
data_key("generate_data_key_pair", "PrivateKeyCiphertextBlob", KeyPairSpec="RSA_2048")
data_key("generate_data_key_pair_without_plaintext", "PrivateKeyCiphertextBlob", KeyPairSpec="RSA_2048")


@record("test_re_encrypt")
def _(replay, spec, algorithm):
    kms = replay.kms
    source, destination = (create(kms, KeySpec=spec, KeyUsage="ENCRYPT_DECRYPT")["Arn"] for _ in range(2))
    blob = kms.encrypt(KeyId=source, Plaintext=b"x", EncryptionAlgorithm=algorithm)["CiphertextBlob"]
    answer = kms.re_encrypt(
        CiphertextBlob=blob, SourceKeyId=source, DestinationKeyId=destination,
        SourceEncryptionAlgorithm=algorithm, DestinationEncryptionAlgorithm=algorithm,
    )  # fmt: skip
    replay.same("test_re_encrypt", answer)


@record("test_re_encrypt_incorrect_source_key")
def _(replay):
    kms = replay.kms
    source, other, destination = (create(kms)["Arn"] for _ in range(3))
    blob = kms.encrypt(KeyId=source, Plaintext=b"x")["CiphertextBlob"]
    with replay.refused("incorrect-source-key"):
        kms.re_encrypt(CiphertextBlob=blob, SourceKeyId=other, DestinationKeyId=destination)


@record("test_derive_shared_secret")
def _(replay):
    kms, mine = replay.kms, spki(ec.generate_private_key(ec.SECP256R1()).public_key())
    key = create(kms, KeySpec="ECC_NIST_P256", KeyUsage="KEY_AGREEMENT")["Arn"]
    signing = create(kms, KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["Arn"]
    symmetric = create(kms)["Arn"]

    def derive(key=key, algorithm="ECDH", public=mine):
        return kms.derive_shared_secret(KeyId=key, KeyAgreementAlgorithm=algorithm, PublicKey=public)

    replay.same("response", derive())
    for answer, call in (
        ("response-invalid-key-usage", lambda: derive(signing)),
        ("response-invalid-key-spec", lambda: kms.create_key(KeySpec="RSA_2048", KeyUsage="KEY_AGREEMENT")),
        ("response-invalid-key-agreement-algo", lambda: derive(algorithm="INVALID")),
        ("response-invalid-key", lambda: derive(symmetric)),
        ("response-invalid-public-key", lambda: derive(public=b"InvalidPublicKey")),
    ):
        replay.bound.clear()
        with replay.refused(answer):
            call()


@record("test_derive_shared_secret_matches_openssl")
def _(replay):
    key = create(replay.kms, KeySpec="ECC_NIST_P256", KeyUsage="KEY_AGREEMENT")["Arn"]
    mine = spki(ec.generate_private_key(ec.SECP256R1()).public_key())
    answer = replay.kms.derive_shared_secret(KeyId=key, KeyAgreementAlgorithm="ECDH", PublicKey=mine)
    replay.same("derived-shared-key-resp", answer)


# Tags


def tagged(**pairs):
    return [{"TagKey": key, "TagValue": value} for key, value in pairs.items()]


def tags(replay, answer, key):
    listed = replay.kms.list_resource_tags(KeyId=key)["Tags"]
    replay.same(answer, sorted(listed, key=lambda tag: tag["TagKey"]))


TAGS = tagged(tag1="value1", tag2="value2", tag3="value3")


@record("test_tag_existing_key_and_untag")
def _(replay, made=()):
    key = create(replay.kms, Tags=list(made))["KeyId"]
    if not made:
        replay.kms.tag_resource(KeyId=key, Tags=TAGS[:2])
    tags(replay, "list-resource-tags", key)
    replay.kms.untag_resource(KeyId=key, TagKeys=["tag1", "tag2"])
    tags(replay, "list-resource-tags-after-all-untagged", key)


@record("test_create_key_with_tag_and_untag")
def _(replay):
    REPLAYS["test_tag_existing_key_and_untag"](replay, TAGS[:2])


@record("test_untag_key_partially")
def _(replay):
    key = create(replay.kms, Tags=TAGS)["KeyId"]
    tags(replay, "list-resource-tags", key)
    replay.kms.untag_resource(KeyId=key, TagKeys=["tag2"])
    tags(replay, "list-resource-tags-after-partially-untagged", key)


@record("test_update_and_add_tags_on_tagged_key")
def _(replay):
    key = create(replay.kms, Tags=TAGS)["KeyId"]
    tags(replay, "list-resource-tags", key)
    new = tagged(tag2="updated_value2", tag4="value4", tag5="value5")
    replay.kms.tag_resource(KeyId=key, Tags=new)
    tags(replay, "list-resource-tags-after-tags-updated", key)


def bad_tags(name, answer, tags, to_existing=False):
    @record(name)
    def _(replay, case=None):
        bad = tags[case] if case else tags
        key = create(replay.kms)["KeyId"]
        with replay.refused(answer):
            if to_existing:
                replay.lax.tag_resource(KeyId=key, Tags=bad)
            else:
                replay.lax.create_key(Tags=bad)


bad_tags("test_tag_key_with_duplicate_tag_keys_raises_error", "duplicate-tag-keys", TAGS + TAGS[:1], True)
too_many = tagged(**{f"key{number}": "value" for number in range(51)})
bad_tags("test_create_key_with_too_many_tags_raises_error", "invalid-tag-key", too_many)
bad_tags("test_tag_existing_key_with_invalid_tag_key", "invalid-tag-key", tagged(**{"aws:key1": "value1"}), True)
bad_tags("test_key_with_long_tag_value_raises_error", "too-long-tag-value", tagged(tag1="v" * 257))
bad = {"lowercase_prefix": "aws:key1", "uppercase_prefix": "AWS:key1", "too_long_key": "a" * 129}
bad_tags(
    "test_create_key_with_invalid_tag_key", "invalid-tag-key",
    {case: tagged(**{key: "value1"}) for case, key in bad.items()},
)  # fmt: skip


# Rotation


@record("test_key_enable_rotation_status")
def _(replay, days):
    key = create(replay.kms)["KeyId"]
    replay.kms.enable_key_rotation(KeyId=key, RotationPeriodInDays=int(days))
    replay.same("match_response", replay.kms.get_key_rotation_status(KeyId=key))


@record("test_rotate_key_on_demand_modifies_key_material")
def _(replay, answer="rotate-on-demand-response"):
    key = create(replay.kms)["KeyId"]
    replay.same(answer, replay.kms.rotate_key_on_demand(KeyId=key))


@record("test_rotate_on_demand_returns_arn_for_key_id")
def _(replay):
    REPLAYS["test_rotate_key_on_demand_modifies_key_material"](replay, "rotate-on-demand-aws-key")


@record("test_rotate_key_on_demand_with_symmetric_key_and_automatic_rotation_disabled")
def _(replay, automatic=False):
    key = create(replay.kms)["Arn"]
    if automatic:
        replay.kms.enable_key_rotation(KeyId=key)
    replay.same("rotate-on-demand-response", replay.kms.rotate_key_on_demand(KeyId=key))
    replay.same("rotation-status-response-after-rotation", replay.kms.get_key_rotation_status(KeyId=key))


@record("test_rotate_key_on_demand_with_symmetric_key_and_automatic_rotation_enabled")
def _(replay):
    REPLAYS["test_rotate_key_on_demand_with_symmetric_key_and_automatic_rotation_disabled"](replay, True)


@record("test_rotate_key_on_demand_raises_error_given_key_is_disabled")
def _(replay):
    key = create(replay.kms)["KeyId"]
    replay.kms.disable_key(KeyId=key)
    with replay.refused("error-response"):
        replay.kms.rotate_key_on_demand(KeyId=key)


@record("test_rotate_key_on_demand_raises_error_given_key_that_does_not_exist")
def _(replay):
    with replay.refused("error-response"):
        replay.kms.rotate_key_on_demand(KeyId=NO_KEY)


@record("test_rotate_key_on_demand_raises_error_given_non_symmetric_key")
def _(replay):
    key = create(replay.kms, KeySpec="RSA_2048", KeyUsage="ENCRYPT_DECRYPT")["KeyId"]
    with replay.refused("error-response"):
        replay.kms.rotate_key_on_demand(KeyId=key)


@record("test_rotate_key_on_demand_raises_error_given_key_with_imported_key_material")
def _(replay, answer="error-response"):
    key = external(replay.kms, "test-key")["KeyId"]
    import_material(replay.kms, key, os.urandom(32))
    with replay.refused(answer):
        replay.kms.rotate_key_on_demand(KeyId=key)


@record("test_rotate_key_on_demand_raises_for_no_pending_key_material")
def _(replay):
    same = "test_rotate_key_on_demand_raises_error_given_key_with_imported_key_material"
    REPLAYS[same](replay, "rotate-key-on-demand-invalid-state-error")


@record("test_rotate_key_on_demand_on_external_key_with_no_key_material")
def _(replay, spec):
    made = external(replay.kms, "test-key")
    replay.same("create-kms-external-key", made)
    with replay.refused(f"rotate-key-on-demand-error-response-{spec}"):
        replay.kms.rotate_key_on_demand(KeyId=made["KeyId"])


@record("test_key_rotations_encryption_decryption")
def _(replay):
    kms, key = replay.kms, create(replay.kms)["KeyId"]
    blob = kms.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"]
    for _ in range(3):
        kms.rotate_key_on_demand(KeyId=key)
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == b"x"
    with replay.refused("bad-ciphertext"):
        kms.decrypt(CiphertextBlob=bytes(25) + blob[25:], KeyId=key)


@record("test_key_rotations_limits")
def _(replay):
    key = create(replay.kms)["KeyId"]
    for _ in range(25):
        replay.kms.rotate_key_on_demand(KeyId=key)
    with replay.refused("error-response"):
        replay.kms.rotate_key_on_demand(KeyId=key)


@record("test_key_rotation_updates_current_key_material_id_for_aws_symmetric_keys")
def _(replay):
    key = create(replay.kms, Description="test-key")["KeyId"]
    metadata(replay, "describe-key-before-rotation", key)
    replay.kms.rotate_key_on_demand(KeyId=key)
    metadata(replay, "describe-key-after-rotation", key)


@record("test_rotate_key_on_demand_updates_current_key_material_for_external_keys")
def _(replay):
    kms = replay.kms
    made = external(kms, "test-key")
    key = made["KeyId"]
    replay.same("create-kms-external-key", made)
    parameters = kms.get_parameters_for_import(
        KeyId=key, WrappingAlgorithm="RSAES_OAEP_SHA_256", WrappingKeySpec="RSA_2048"
    )
    replay.same("get-import-parameters-response", parameters)
    metadata(replay, "describe-empty-key-response", key)
    replay.same("import-key-material-response", import_material(kms, key, os.urandom(32)))
    metadata(replay, "describe-key-with-material-response", key)
    replay.same("kms-encrypt-initial-response", kms.encrypt(KeyId=key, Plaintext=b"x"))
    imported = import_material(kms, key, os.urandom(32), ImportType="NEW_KEY_MATERIAL")
    replay.same("import-new-key-material-response", imported)
    metadata(replay, "describe-key-with-new-material-response", key)
    replay.same("rotate-key-on-demand-response", kms.rotate_key_on_demand(KeyId=key))
    metadata(replay, "describe-key-after-rotation", key)
    replay.same("kms-encrypt-rotated-key-response", kms.encrypt(KeyId=key, Plaintext=b"x"))


@record("test_rotate_key_on_demand_for_external_keys_decrypts_with_previous_material")
def _(replay):
    kms = replay.kms
    made = external(kms, "test-key")
    key = made["KeyId"]
    replay.same("create-kms-external-key", made)
    replay.same("import-key-material-response", import_material(kms, key, os.urandom(32)))
    encrypted = kms.encrypt(KeyId=key, Plaintext=b"x")
    replay.same("kms-encrypt-initial-response", encrypted)
    import_material(kms, key, os.urandom(32), ImportType="NEW_KEY_MATERIAL")
    replay.same("rotate-key-on-demand-response", kms.rotate_key_on_demand(KeyId=key))
    assert kms.decrypt(CiphertextBlob=encrypted["CiphertextBlob"])["Plaintext"] == b"x"
