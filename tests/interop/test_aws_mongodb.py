"""Field-level encryption of MongoDB's driver (libmongocrypt) with the `aws` provider.

The driver's conversation with the key server is the real one, over TLS. In place of a MongoDB server there is a
stand-in (document_store.py).
"""

import pymongo.errors
import pytest
from bson.binary import UUID_SUBTYPE
from bson.codec_options import CodecOptions
from document_store import DocumentStore
from pymongo.encryption import Algorithm, ClientEncryption
from pymongo.encryption_options import AutoEncryptionOpts

KEY_VAULT = "encryption.keys"


@pytest.fixture
def database(access):
    with DocumentStore() as store:
        yield Database(store, access)


class Database:
    def __init__(self, store, access):
        self.store, self.access = store, access
        self.providers = {"aws": {"accessKeyId": access.key_id, "secretAccessKey": access.secret}}
        self.tls = {"aws": {"tlsCAFile": access.ca}}

    def master(self, key):
        """What a data key's document says about the key that protects it."""
        # libmongocrypt takes no host name without a dot.
        host = self.access.endpoint.removeprefix("https://").replace("localhost", "127.0.0.1")
        return {"region": self.access.region, "key": key, "endpoint": host}

    def encryption(self, **providers):
        """Encryption with no data keys in its cache."""
        return ClientEncryption(
            self.providers | providers, KEY_VAULT, self.store.client(), CodecOptions(), kms_tls_options=self.tls
        )

    def reader(self):
        """A client that decrypts what it reads, and has no data keys in its cache."""
        automatic = AutoEncryptionOpts(
            self.providers, KEY_VAULT, kms_tls_options=self.tls, bypass_auto_encryption=True
        )
        return self.store.client(auto_encryption_opts=automatic)

    def patients(self, client):
        return client["hospital"]["patients"]


def new_key(kms):
    return kms.create_key()["KeyMetadata"]["Arn"]


def write_patients(database, key):
    """Two documents with encrypted fields; returns the deterministic ciphertext to find one by."""
    with database.encryption() as encryption, database.store.client() as plain:
        data_key = encryption.create_data_key("aws", database.master(key), key_alt_names=["patients"])
        assert data_key.subtype == UUID_SUBTYPE
        for name, number in [("Ada", "4711"), ("Grace", "0815")]:
            diagnosis = encryption.encrypt({"of": name}, Algorithm.AEAD_AES_256_CBC_HMAC_SHA_512_Random, data_key)
            insured = encryption.encrypt(
                number, Algorithm.AEAD_AES_256_CBC_HMAC_SHA_512_Deterministic, key_alt_name="patients"
            )
            database.patients(plain).insert_one({"name": name, "insured": insured, "diagnosis": diagnosis})
        return insured


def test_fields_are_read_with_the_key_only(database, kms):
    key = new_key(kms)
    insured = write_patients(database, key)

    with database.store.client() as plain:
        assert isinstance(database.patients(plain).find_one({"name": "Grace"})["diagnosis"], bytes)
    with database.reader() as reader:
        found = database.patients(reader).find_one({"insured": insured})
    assert (found["name"], found["insured"], found["diagnosis"]) == ("Grace", "0815", {"of": "Grace"})

    kms.disable_key(KeyId=key)
    with database.reader() as reader, pytest.raises(pymongo.errors.EncryptionError, match="DisabledException"):
        database.patients(reader).find_one({"insured": insured})

    kms.enable_key(KeyId=key)
    with database.encryption() as encryption:
        assert encryption.decrypt(insured) == "0815"


def test_data_keys_move_to_another_key(database, kms):
    first, second = new_key(kms), new_key(kms)
    insured = write_patients(database, first)
    with database.encryption() as encryption:
        moved = encryption.rewrap_many_data_key({}, "aws", database.master(second))
        assert moved.bulk_write_result.modified_count == 1
    kms.disable_key(KeyId=first)
    with database.encryption() as encryption:
        assert encryption.decrypt(insured) == "0815"


def test_a_changed_data_key_is_refused(database, kms):
    insured = write_patients(database, new_key(kms))
    (document,) = database.store.collections["encryption", "keys"]
    material = bytearray(document["keyMaterial"])
    material[-1] ^= 1
    document["keyMaterial"] = bytes(material)
    with database.encryption() as encryption:
        with pytest.raises(pymongo.errors.EncryptionError, match="InvalidCiphertextException"):
            encryption.decrypt(insured)


def test_a_wrong_secret_is_refused(database, kms):
    wrong = {"aws": {"accessKeyId": database.access.key_id, "secretAccessKey": "not the secret"}}
    with database.encryption(**wrong) as encryption:
        with pytest.raises(pymongo.errors.EncryptionError, match="InvalidSignatureException"):
            encryption.create_data_key("aws", database.master(new_key(kms)))
