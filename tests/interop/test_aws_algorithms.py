"""Every key spec and every algorithm of the AWS KMS API, beside what `cryptography` computes with the same keys."""

import hashlib
import hmac
import itertools
import os

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mlkem, padding, rsa

from aws_kms import (
    HASHES,
    MODEL,
    create,
    import_material,
    oaep,
    open_message,
    pkcs8,
    public_key,
    refused,
    spki,
    wrap,
)
from ed25519ph import verify_prehashed

MESSAGE = b"a message that is signed"

CURVES = {
    "ECC_NIST_P256": ec.SECP256R1(),
    "ECC_NIST_P384": ec.SECP384R1(),
    "ECC_NIST_P521": ec.SECP521R1(),
    "ECC_SECG_P256K1": ec.SECP256K1(),
}
ECDSA = dict(zip(CURVES, ("ECDSA_SHA_256", "ECDSA_SHA_384", "ECDSA_SHA_512", "ECDSA_SHA_256")))
MODULI = ("RSA_2048", "RSA_3072", "RSA_4096")
RSASSA = [f"RSASSA_{kind}_SHA_{bits}" for kind in ("PSS", "PKCS1_V1_5") for bits in ("256", "384", "512")]
RSAES = ["RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"]
MACS = {f"HMAC_{bits}": f"HMAC_SHA_{bits}" for bits in ("224", "256", "384", "512")}
ML_DSA = ("ML_DSA_44", "ML_DSA_65", "ML_DSA_87")
EDWARDS = "ECC_NIST_EDWARDS25519"
OTHERS = {
    EDWARDS: ed25519.Ed25519PrivateKey,
    "ML_KEM_768": mlkem.MLKEM768PrivateKey,
    "ML_KEM_1024": mlkem.MLKEM1024PrivateKey,
}

# Key spec, key usage and what a key of both may do.
SIGNING = [
    *((spec, "SIGN_VERIFY", RSASSA) for spec in MODULI),
    *((spec, "SIGN_VERIFY", [algorithm]) for spec, algorithm in ECDSA.items()),
    (EDWARDS, "SIGN_VERIFY", ["ED25519_SHA_512", "ED25519_PH_SHA_512"]),
    *((spec, "SIGN_VERIFY", ["ML_DSA_SHAKE_256"]) for spec in ML_DSA),
]
KEYS = [
    ("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", ["SYMMETRIC_DEFAULT"]),
    *((spec, "ENCRYPT_DECRYPT", RSAES) for spec in MODULI),
    *SIGNING,
    *((spec, "GENERATE_VERIFY_MAC", [algorithm]) for spec, algorithm in MACS.items()),
    *((spec, "KEY_AGREEMENT", ["ECDH"]) for spec in ("ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521")),
    *((spec, "ENCAPSULATE_DECAPSULATE", ["ML_KEM"]) for spec in ("ML_KEM_512", "ML_KEM_768", "ML_KEM_1024")),
]
MEMBER = {
    "ENCRYPT_DECRYPT": "EncryptionAlgorithms",
    "SIGN_VERIFY": "SigningAlgorithms",
    "GENERATE_VERIFY_MAC": "MacAlgorithms",
    "KEY_AGREEMENT": "KeyAgreementAlgorithms",
    "ENCAPSULATE_DECAPSULATE": "EncapsulationAlgorithms",
}
# The Chinese algorithms, which no key of a deployment has.
REFUSED = {"SM2", "SM2PKE", "SM2DSA"}


def private_key(spec):
    """One that is made here."""
    if spec == EDWARDS:
        return ed25519.Ed25519PrivateKey.generate()
    if spec.startswith("RSA"):
        return rsa.generate_private_key(65537, int(spec[4:]))
    return ec.generate_private_key(CURVES[spec])


@pytest.fixture(scope="module")
def keys(kms):
    """A key for each spec and usage, made when it is first asked for."""
    made = {}

    def key(spec, usage):
        if (spec, usage) not in made:
            made[spec, usage] = create(kms, KeySpec=spec, KeyUsage=usage)["Arn"]
        return made[spec, usage]

    return key


def enum(shape):
    return set(MODEL.shape_for(shape).enum) - REFUSED


def test_no_spec_and_no_algorithm_is_left_out():
    assert {spec for spec, _, _ in KEYS} == enum("KeySpec")
    assert {usage for _, usage, _ in KEYS} == enum("KeyUsageType")
    tried = {algorithm for _, _, algorithms in KEYS for algorithm in algorithms}
    assert tried == set.union(*(enum(member.removesuffix("s") + "Spec") for member in MEMBER.values()))
    assert {*CURVES, *MODULI, EDWARDS, "ML_KEM_512", "ML_KEM_768", "ML_KEM_1024"} == enum("DataKeyPairSpec")
    assert {*WRAPPING, "RSAES_PKCS1_V1_5"} == enum("AlgorithmSpec") and set(MODULI) == enum("WrappingKeySpec")


@pytest.mark.parametrize("spec, usage, algorithms", KEYS)
def test_a_key_says_what_it_is_for(kms, keys, spec, usage, algorithms):
    described = kms.describe_key(KeyId=keys(spec, usage))["KeyMetadata"]
    assert described["KeySpec"] == spec
    # The former name of the member has the former specs only.
    former = {"CustomerMasterKeySpec": spec} if spec in enum("CustomerMasterKeySpec") else {}
    assert former == {name: described[name] for name in ("CustomerMasterKeySpec",) if name in described}
    assert (described["KeyUsage"], sorted(described[MEMBER[usage]])) == (usage, sorted(algorithms))
    assert [member for member in MEMBER.values() if member in described] == [MEMBER[usage]]
    if usage != "GENERATE_VERIFY_MAC" and spec != "SYMMETRIC_DEFAULT":
        public = kms.get_public_key(KeyId=keys(spec, usage))
        assert (public["KeySpec"], public["KeyUsage"]) == (spec, usage)
        assert sorted(public[MEMBER[usage]]) == sorted(algorithms)


def test_a_spec_has_no_other_usage(kms):
    possible = {(spec, usage) for spec, usage, _ in KEYS}
    for spec, usage in itertools.product(sorted(enum("KeySpec")), sorted(enum("KeyUsageType"))):
        if (spec, usage) not in possible:
            with refused("ValidationException", f"KeyUsage {usage} is not compatible with KeySpec {spec}"):
                kms.create_key(KeySpec=spec, KeyUsage=usage)


# Encryption


@pytest.mark.parametrize("algorithm", RSAES)
@pytest.mark.parametrize("spec", MODULI)
def test_rsa_encryption(kms, keys, spec, algorithm):
    key = keys(spec, "ENCRYPT_DECRYPT")
    members = {"KeyId": key, "EncryptionAlgorithm": algorithm}
    hash_bytes = HASHES[algorithm.rpartition("_")[2]].digest_size
    longest = os.urandom(int(spec[4:]) // 8 - 2 * hash_bytes - 2)
    answer = kms.encrypt(Plaintext=longest, **members)
    assert (answer["KeyId"], answer["EncryptionAlgorithm"]) == (key, algorithm)
    blob = public_key(kms, key).encrypt(b"made elsewhere", oaep(algorithm))
    for one, plaintext in ((answer["CiphertextBlob"], longest), (blob, b"made elsewhere")):
        opened = kms.decrypt(CiphertextBlob=one, **members)
        assert (opened["Plaintext"], opened["EncryptionAlgorithm"]) == (plaintext, algorithm)
    with refused("InvalidCiphertextException", ""):
        kms.decrypt(CiphertextBlob=os.urandom(len(blob)), **members)
    with refused("InvalidCiphertextException", ""):
        kms.decrypt(CiphertextBlob=blob, KeyId=key, EncryptionAlgorithm=(set(RSAES) - {algorithm}).pop())


def test_rsa_decryption_with_an_imported_key(kms):
    private = rsa.generate_private_key(65537, 2048)
    key = create(kms, KeySpec="RSA_2048", KeyUsage="ENCRYPT_DECRYPT", Origin="EXTERNAL")["Arn"]
    import_material(kms, key, pkcs8(private), "RSA_AES_KEY_WRAP_SHA_256", "RSA_3072")
    assert kms.get_public_key(KeyId=key)["PublicKey"] == spki(private.public_key())
    for algorithm in RSAES:
        members = {"KeyId": key, "EncryptionAlgorithm": algorithm}
        blob = kms.encrypt(Plaintext=b"there", **members)["CiphertextBlob"]
        assert private.decrypt(blob, oaep(algorithm)) == b"there"
        back = private.public_key().encrypt(b"back", oaep(algorithm))
        assert kms.decrypt(CiphertextBlob=back, **members)["Plaintext"] == b"back"


def test_re_encryption_between_kinds_of_keys(kms, keys):
    symmetric, rsa_key = keys("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT"), keys("RSA_2048", "ENCRYPT_DECRYPT")
    context = {"a": "b"}
    blob = kms.encrypt(KeyId=symmetric, Plaintext=b"there", EncryptionContext=context)["CiphertextBlob"]
    there = kms.re_encrypt(
        CiphertextBlob=blob, SourceEncryptionContext=context,
        DestinationKeyId=rsa_key, DestinationEncryptionAlgorithm="RSAES_OAEP_SHA_256",
    )  # fmt: skip
    assert there["DestinationEncryptionAlgorithm"] == "RSAES_OAEP_SHA_256"
    back = kms.re_encrypt(
        CiphertextBlob=there["CiphertextBlob"], SourceKeyId=rsa_key, SourceEncryptionAlgorithm="RSAES_OAEP_SHA_256",
        DestinationKeyId=symmetric, DestinationEncryptionContext=context,
    )  # fmt: skip
    opened = kms.decrypt(CiphertextBlob=back["CiphertextBlob"], EncryptionContext=context)
    assert (opened["KeyId"], opened["Plaintext"]) == (symmetric, b"there")


# Signatures


def digest(algorithm, message=MESSAGE):
    return hashlib.new("sha" + algorithm.rpartition("_")[2], message).digest()


def check(public, algorithm, signature, message):
    """Raises InvalidSignature unless the signature is right."""
    if algorithm == "ED25519_PH_SHA_512":
        # The digest that AWS demands is hashed once more.
        verify_prehashed(public.public_bytes_raw(), signature, digest(algorithm, digest(algorithm, message)))
    elif algorithm in ("ED25519_SHA_512", "ML_DSA_SHAKE_256"):
        public.verify(signature, message)
    else:
        public.verify(signature, message, *padded(algorithm))


def padded(algorithm):
    """The arguments of `cryptography` that mean an algorithm of RSASSA or ECDSA."""
    hash_ = HASHES[algorithm.rpartition("_")[2]]
    if algorithm.startswith("ECDSA"):
        return (ec.ECDSA(hash_),)
    if "PKCS1" in algorithm:
        return padding.PKCS1v15(), hash_
    return padding.PSS(padding.MGF1(hash_), padding.PSS.DIGEST_LENGTH), hash_


def ways(algorithm, public):
    """How the message can be given: message type and bytes."""
    if algorithm == "ED25519_SHA_512":
        return {"RAW": MESSAGE}
    if algorithm == "ED25519_PH_SHA_512":
        return {"DIGEST": digest(algorithm)}
    if algorithm == "ML_DSA_SHAKE_256":
        # FIPS 204, Algorithm 2 and line 6 of Algorithm 7, without a context.
        key = hashlib.shake_256(public.public_bytes_raw()).digest(64)
        return {"RAW": MESSAGE, "EXTERNAL_MU": hashlib.shake_256(key + b"\0\0" + MESSAGE).digest(64)}
    return {"RAW": MESSAGE, "DIGEST": digest(algorithm)}


@pytest.mark.parametrize(
    "spec, algorithm", [(spec, algorithm) for spec, _, algorithms in SIGNING for algorithm in algorithms]
)
def test_signatures(kms, keys, spec, algorithm):
    key = keys(spec, "SIGN_VERIFY")
    public = public_key(kms, key)
    members = {"KeyId": key, "SigningAlgorithm": algorithm}
    signed = ways(algorithm, public)
    for kind, message in signed.items():
        answer = kms.sign(Message=message, MessageType=kind, **members)
        assert (answer["KeyId"], answer["SigningAlgorithm"]) == (key, algorithm)
        signature = answer["Signature"]
        check(public, algorithm, signature, MESSAGE)
        with pytest.raises(InvalidSignature):
            check(public, algorithm, signature, MESSAGE + b"!")
        # However it was given, it is one signature.
        for other, same in signed.items():
            verified = kms.verify(Message=same, MessageType=other, Signature=signature, **members)
            assert verified["SignatureValid"] is True
        altered = bytes([message[0] ^ 1]) + message[1:]
        with refused("KMSInvalidSignatureException", ""):
            kms.verify(Message=altered, MessageType=kind, Signature=signature, **members)
        with refused("KMSInvalidSignatureException", ""):
            kms.verify(Message=message, MessageType=kind, Signature=signature[:-1] + b"\0\0", **members)
    for kind in {"RAW", "DIGEST", "EXTERNAL_MU"} - set(signed):
        with refused("ValidationException"):
            kms.sign(Message=digest("SHA_512"), MessageType=kind, **members)


@pytest.mark.parametrize("spec", ["RSA_2048", *CURVES, EDWARDS])
def test_an_imported_key_verifies_and_makes_what_it_made_here(kms, spec):
    private = private_key(spec)
    if spec == EDWARDS:
        signatures = {"ED25519_SHA_512": private.sign(MESSAGE)}
    else:
        algorithms = [ECDSA[spec]] if spec in CURVES else RSASSA
        signatures = {algorithm: private.sign(MESSAGE, *padded(algorithm)) for algorithm in algorithms}
    key = create(kms, KeySpec=spec, KeyUsage="SIGN_VERIFY", Origin="EXTERNAL")["Arn"]
    import_material(kms, key, pkcs8(private), "RSA_AES_KEY_WRAP_SHA_256")
    for algorithm, signature in signatures.items():
        members = {"KeyId": key, "SigningAlgorithm": algorithm, "Message": MESSAGE}
        assert kms.verify(Signature=signature, **members)["SignatureValid"] is True
        made = kms.sign(**members)["Signature"]
        check(private.public_key(), algorithm, made, MESSAGE)
        if "PKCS1" in algorithm or algorithm == "ED25519_SHA_512":
            assert made == signature


@pytest.mark.parametrize("spec", MACS)
def test_authentication_codes(kms, keys, spec):
    bits = spec.removeprefix("HMAC_")
    imported = create(kms, KeySpec=spec, KeyUsage="GENERATE_VERIFY_MAC", Origin="EXTERNAL")["Arn"]
    material = os.urandom(int(bits) // 8)
    import_material(kms, imported, material)
    for key in (imported, keys(spec, "GENERATE_VERIFY_MAC")):
        members = {"KeyId": key, "MacAlgorithm": MACS[spec], "Message": MESSAGE}
        mac = kms.generate_mac(**members)["Mac"]
        assert len(mac) == int(bits) // 8 and (mac == hmac.digest(material, MESSAGE, f"sha{bits}")) == (key == imported)
        assert kms.verify_mac(Mac=mac, **members)["MacValid"] is True
        with refused("KMSInvalidMacException", ""):
            kms.verify_mac(Mac=mac, **(members | {"Message": b"another"}))


# Agreement and encapsulation


@pytest.mark.parametrize("imported", [False, True])
@pytest.mark.parametrize("spec", ["ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521"])
def test_shared_secrets(kms, keys, spec, imported):
    curve = CURVES[spec]
    key, origin = keys(spec, "KEY_AGREEMENT"), "AWS_KMS"
    if imported:
        origin = "EXTERNAL"
        key = create(kms, KeySpec=spec, KeyUsage="KEY_AGREEMENT", Origin=origin)["Arn"]
        private = ec.generate_private_key(curve)
        import_material(kms, key, pkcs8(private), "RSA_AES_KEY_WRAP_SHA_1")
        assert kms.get_public_key(KeyId=key)["PublicKey"] == spki(private.public_key())
    mine = ec.generate_private_key(curve)
    members = {"KeyId": key, "KeyAgreementAlgorithm": "ECDH"}
    answer = kms.derive_shared_secret(PublicKey=spki(mine.public_key()), **members)
    assert answer["SharedSecret"] == mine.exchange(ec.ECDH(), public_key(kms, key))
    assert answer["KeyOrigin"] == origin
    for wrong in (
        CURVES["ECC_SECG_P256K1"],
        next(other for other in CURVES.values() if other.name != curve.name),
    ):
        with refused("ValidationException"):
            kms.derive_shared_secret(PublicKey=spki(ec.generate_private_key(wrong).public_key()), **members)


@pytest.mark.parametrize("spec", ["ML_KEM_512", "ML_KEM_768", "ML_KEM_1024"])
def test_encapsulation(kms, keys, spec):
    key = keys(spec, "ENCAPSULATE_DECAPSULATE")
    members = {"KeyId": key, "EncapsulationAlgorithm": "ML_KEM"}
    ours = kms.encapsulate(**members)
    pairs = [(ours["SharedSecret"], ours["SharedSecretCiphertextBlob"])]
    if spec != "ML_KEM_512":  # which `cryptography` does not have
        pairs.append(public_key(kms, key).encapsulate())
    for secret, encapsulated in pairs:
        opened = kms.decapsulate(SharedSecretCiphertextBlob=encapsulated, **members)
        assert opened["SharedSecret"] == secret and len(secret) == 32
        altered = encapsulated[:-1] + bytes([encapsulated[-1] ^ 1])
        # ML-KEM rejects implicitly: with another secret.
        assert kms.decapsulate(SharedSecretCiphertextBlob=altered, **members)["SharedSecret"] != secret
        with refused("InvalidCiphertextException"):
            kms.decapsulate(SharedSecretCiphertextBlob=encapsulated[:-1], **members)


# Data key pairs


@pytest.mark.parametrize("spec", [*MODULI, *CURVES, EDWARDS, "ML_KEM_512", "ML_KEM_768", "ML_KEM_1024"])
def test_data_key_pairs(kms, keys, spec):
    key = keys("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT")
    context = {"for": spec}
    answer = kms.generate_data_key_pair(KeyId=key, KeyPairSpec=spec, EncryptionContext=context)
    without = kms.generate_data_key_pair_without_plaintext(KeyId=key, KeyPairSpec=spec, EncryptionContext=context)
    pairs = []
    for pair in (answer, without):
        opened = kms.decrypt(CiphertextBlob=pair["PrivateKeyCiphertextBlob"], EncryptionContext=context)["Plaintext"]
        pairs.append((opened, pair["PublicKey"]))
    assert pairs[0][0] == answer["PrivateKeyPlaintext"] and pairs[0] != pairs[1]
    if spec == "ML_KEM_512":  # which `cryptography` does not have
        return
    for opened, public in pairs:
        private = serialization.load_der_private_key(opened, None)
        assert spki(private.public_key()) == public
        if spec in MODULI:
            assert private.key_size == int(spec[4:])
        elif spec in CURVES:
            assert private.curve.name == CURVES[spec].name
        else:
            assert isinstance(private, OTHERS[spec])


# Imports

# Each wrapping algorithm and a key spec of each kind that it can carry.
SHORT = ("SYMMETRIC_DEFAULT", "HMAC_512", "ECC_NIST_P256")
WRAPPING = {
    "RSAES_OAEP_SHA_1": SHORT,
    "RSAES_OAEP_SHA_256": SHORT,
    "RSA_AES_KEY_WRAP_SHA_1": (*SHORT, "RSA_2048", EDWARDS),
    "RSA_AES_KEY_WRAP_SHA_256": (*SHORT, "RSA_2048", EDWARDS),
}


def material(spec):
    """Key material made here, as it is imported, and the public key if there is one."""
    if spec == "SYMMETRIC_DEFAULT":
        return os.urandom(32), None
    if spec.startswith("HMAC"):
        return os.urandom(int(spec[5:]) // 8), None
    private = private_key(spec)
    return pkcs8(private), spki(private.public_key())


@pytest.mark.parametrize(
    "algorithm, spec", [(algorithm, spec) for algorithm, specs in WRAPPING.items() for spec in specs]
)
def test_imports(kms, algorithm, spec):
    usage = next(usage for one, usage, _ in KEYS if one == spec)
    key = create(kms, KeySpec=spec, KeyUsage=usage, Origin="EXTERNAL")["Arn"]
    bytes_, public = material(spec)
    for wrapping in MODULI if spec == SHORT[0] else MODULI[:1]:
        import_material(kms, key, bytes_, algorithm, wrapping)
    if public:
        assert kms.get_public_key(KeyId=key)["PublicKey"] == public
    elif usage == "GENERATE_VERIFY_MAC":
        mac = kms.generate_mac(KeyId=key, Message=MESSAGE, MacAlgorithm=MACS[spec])["Mac"]
        assert mac == hmac.digest(bytes_, MESSAGE, "sha" + spec[5:])
    else:
        message = kms.encrypt(KeyId=key, Plaintext=b"there", EncryptionContext={"a": "b"})["CiphertextBlob"]
        assert open_message(bytes_, message, {"a": "b"}) == b"there"


def test_what_aws_wraps_with_no_more(kms):
    key = create(kms, Origin="EXTERNAL")["Arn"]
    members = {"KeyId": key, "WrappingKeySpec": "RSA_2048"}
    for algorithm in ("RSAES_PKCS1_V1_5", "SM2PKE"):
        with refused("UnsupportedOperationException"):
            kms.get_parameters_for_import(WrappingAlgorithm=algorithm, **members)


def test_an_import_takes_its_own_token_and_its_own_material_only(kms):
    keys = [create(kms, Origin="EXTERNAL")["Arn"] for _ in range(2)]
    material = os.urandom(32)
    tokens = [
        kms.get_parameters_for_import(KeyId=key, WrappingAlgorithm="RSAES_OAEP_SHA_256", WrappingKeySpec="RSA_2048")
        for key in keys
    ]
    first, second = (serialization.load_der_public_key(token["PublicKey"]) for token in tokens)
    without_end = {"KeyId": keys[0], "ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"}
    for kind, token, wrapped in (
        (
            "InvalidImportTokenException",
            tokens[1]["ImportToken"],
            wrap("RSAES_OAEP_SHA_256", first, material),
        ),
        ("InvalidImportTokenException", b"garbage", wrap("RSAES_OAEP_SHA_256", first, material)),
        (
            "InvalidCiphertextException",
            tokens[0]["ImportToken"],
            wrap("RSAES_OAEP_SHA_256", second, material),
        ),
        ("InvalidCiphertextException", tokens[0]["ImportToken"], os.urandom(256)),
        (
            "IncorrectKeyMaterialException",
            tokens[0]["ImportToken"],
            wrap("RSAES_OAEP_SHA_256", first, material[:31]),
        ),
    ):
        with refused(kind):
            kms.import_key_material(ImportToken=token, EncryptedKeyMaterial=wrapped, **without_end)
    assert kms.describe_key(KeyId=keys[0])["KeyMetadata"]["KeyState"] == "PendingImport"
    import_material(kms, keys[0], material)
    kms.delete_imported_key_material(KeyId=keys[0])
    with refused("IncorrectKeyMaterialException"):
        import_material(kms, keys[0], os.urandom(32))
    import_material(kms, keys[0], material)
    assert kms.describe_key(KeyId=keys[0])["KeyMetadata"]["KeyState"] == "Enabled"


def test_imported_material_is_rotated_by_importing_more(kms):
    key, materials = create(kms, Origin="EXTERNAL")["Arn"], [os.urandom(32), os.urandom(32)]
    first = import_material(kms, key, materials[0])["KeyMaterialId"]
    old = kms.encrypt(KeyId=key, Plaintext=MESSAGE)["CiphertextBlob"]
    with refused("KMSInvalidStateException", f"No available key material pending rotation for the key: {key}."):
        kms.rotate_key_on_demand(KeyId=key)
    second = import_material(kms, key, materials[1], ImportType="NEW_KEY_MATERIAL")["KeyMaterialId"]
    assert kms.describe_key(KeyId=key)["KeyMetadata"]["CurrentKeyMaterialId"] == first != second
    assert open_message(materials[0], kms.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"], {}) == b"x"
    listed = kms.list_key_rotations(KeyId=key, IncludeKeyMaterial="ALL_KEY_MATERIAL")["Rotations"]
    states = {entry["KeyMaterialId"]: entry["KeyMaterialState"] for entry in listed}
    assert states == {first: "CURRENT", second: "PENDING_ROTATION"}
    kms.rotate_key_on_demand(KeyId=key)
    assert kms.describe_key(KeyId=key)["KeyMetadata"]["CurrentKeyMaterialId"] == second
    assert open_message(materials[1], kms.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"], {}) == b"x"
    assert kms.decrypt(CiphertextBlob=old)["Plaintext"] == MESSAGE
