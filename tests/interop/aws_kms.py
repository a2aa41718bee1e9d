"""boto3 clients of a development server, and the local mathematics that its answers are compared with."""

import contextlib
import hashlib
import hmac
import json
import os
import re

import boto3
import botocore.config
import botocore.session
import pytest
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives import hashes, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MODEL = botocore.session.Session().get_service_model("kms")

KEY_ARN = re.compile(r"arn:aws:kms:([a-z0-9-]+):(\d{12}):key/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
MATERIAL_ID = re.compile(r"[0-9a-f]{64}")

HASHES = {"1": hashes.SHA1(), "256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}


class Access:
    """What an AWS client is told by its environment: where, as whom, whom to believe."""

    def __init__(self, environment, key_id=None, secret=None, token=None):
        self.endpoint = environment["AWS_ENDPOINT_URL_KMS"]
        self.region = environment["AWS_DEFAULT_REGION"]
        self.ca = environment["AWS_CA_BUNDLE"]
        self.key_id = key_id or environment["AWS_ACCESS_KEY_ID"]
        self.secret = secret or environment["AWS_SECRET_ACCESS_KEY"]
        self.token = token

    def environment(self):
        """Of a program that is to call as this: these variables, and no files of the user's."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        nowhere = {name: os.devnull for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")}
        token = {"AWS_SESSION_TOKEN": self.token} if self.token else {}
        return kept | nowhere | token | {
            "AWS_ENDPOINT_URL_KMS": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_CA_BUNDLE": self.ca,
            "AWS_EC2_METADATA_DISABLED": "true",
        }  # fmt: skip

    def client(self, **config):
        """A client that asks once and keeps `answered`: what was answered with which status."""
        session = boto3.session.Session(self.key_id, self.secret, self.token, self.region)
        config = {"retries": {"total_max_attempts": 1}, "read_timeout": 60} | config
        kms = session.client("kms", endpoint_url=self.endpoint, verify=self.ca, config=botocore.config.Config(**config))
        kms.answered = []

        def note(http_response, model, **_):
            kms.answered.append((model.name, http_response.status_code))

        kms.meta.events.register("after-call.kms", note)
        return kms


def create(kms, **members):
    """Makes a key; returns its metadata."""
    return kms.create_key(**members)["KeyMetadata"]


@contextlib.contextmanager
def refused(kind, message=None):
    """Whatever is done inside is refused with this error type, and this text or pattern if one is given."""
    with pytest.raises(ClientError) as caught:
        yield caught
    error = caught.value.response["Error"]
    assert error["Code"] == kind, error
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    if isinstance(message, re.Pattern):
        assert message.fullmatch(error["Message"]), error
    elif message is not None:
        assert error["Message"] == message, error


def pages(call, member, limit, **members):
    """All entries of a list that is asked for `limit` at a time."""
    entries, marker = [], {}
    while True:
        page = call(Limit=limit, **marker, **members)
        assert len(page[member]) <= limit
        entries += page[member]
        if not page["Truncated"]:
            assert "NextMarker" not in page
            return entries
        assert len(page[member]) == limit
        marker = {"Marker": page["NextMarker"]}


def public_key(kms, key):
    return serialization.load_der_public_key(kms.get_public_key(KeyId=key)["PublicKey"])


def pkcs8(private):
    return private.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def spki(public):
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def oaep(algorithm):
    """OAEP whose two hashes are the one that the algorithm's name ends with."""
    hash_ = HASHES[algorithm.rpartition("_")[2]]
    return padding.OAEP(padding.MGF1(hash_), hash_, None)


def wrap(algorithm, public, material):
    """Key material for ImportKeyMaterial, as one of its wrapping algorithms wants it."""
    if algorithm.startswith("RSAES_OAEP"):
        return public.encrypt(material, oaep(algorithm))
    assert algorithm.startswith("RSA_AES_KEY_WRAP")
    kek = os.urandom(32)
    return public.encrypt(kek, oaep(algorithm)) + keywrap.aes_key_wrap_with_padding(kek, material)


def import_material(kms, key, material, algorithm="RSAES_OAEP_SHA_256", wrapping="RSA_2048", **members):
    """Brings key material to a key of external origin; returns the answer."""
    to = kms.get_parameters_for_import(KeyId=key, WrappingAlgorithm=algorithm, WrappingKeySpec=wrapping)
    wrapped = wrap(algorithm, serialization.load_der_public_key(to["PublicKey"]), material)
    members = {"ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"} | members
    return kms.import_key_material(KeyId=key, ImportToken=to["ImportToken"], EncryptedKeyMaterial=wrapped, **members)


def open_message(material, message, context):
    """The plaintext of a message of the format that docs/formats/kh1.md describes, opened without the server."""
    header, key_and_version, salt, commit = message[:25], message[5:25], message[25:57], message[57:89]
    assert header[:5] == b"KH1\n\x01"
    pairs = sorted((key.encode(), value.encode()) for key, value in context.items())
    text = b"".join(len(part).to_bytes(4, "big") + part for pair in pairs for part in pair)
    seed = salt + key_and_version + hashlib.sha256(header + text).digest()
    fixed = b"keyhearth/kh1/enc\0" + seed + (512).to_bytes(4, "big")
    blocks = [hmac.digest(material, i.to_bytes(4, "big") + fixed, "sha256") for i in (1, 2)]
    assert commit == blocks[1]
    return AESGCM(blocks[0]).decrypt(bytes(12), message[89:], header + text)


def default_policy(account):
    """The key policy of a key that was made without one."""
    statement = {
        "Sid": "Enable IAM User Permissions",
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{account}:root"},
        "Action": "kms:*",
        "Resource": "*",
    }
    return {"Version": "2012-10-17", "Id": "key-default-1", "Statement": [statement]}


def issue(server, admin, name, folder, *roles):
    """An identity with an access key; returns the identity's id, the access key and what it calls with."""
    identity = server.issue(admin, name, folder, *roles)
    who = json.loads(server.done(identity, "--json", "whoami"))["identity"]
    key = json.loads(server.done(admin, "--json", "access-key", "create", who))
    return who, key["id"], Access(server.environment, key["id"], key["secret"])
