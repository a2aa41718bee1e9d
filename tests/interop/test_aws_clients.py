"""Programs that were written for AWS KMS, unchanged: the AWS Encryption SDKs, Tink and the AWS SDK for Rust."""

import collections
import io
import itertools
import json
import logging
import pathlib
import subprocess
import sys

import aws_encryption_sdk
import pytest
import tink
from aws_cryptographic_material_providers.mpl import AwsCryptographicMaterialProviders
from aws_cryptographic_material_providers.mpl.config import MaterialProvidersConfig
from aws_cryptographic_material_providers.mpl.models import CreateAwsKmsKeyringInput
from aws_encryption_sdk.key_providers.kms import DiscoveryFilter
from tink import aead
from tink.integration import awskms

HERE = pathlib.Path(__file__).parent
BIN = pathlib.Path(sys.executable).parent
PROGRAMS = BIN.parent / "programs/bin"  # an environment of its own, see programs.txt
CONTEXT = {"purpose": "backup", "host": "db-1.example", "größe": "5 MB"}


@pytest.fixture(autouse=True)
def environment(access, monkeypatch):
    """What the clients are told, for those in this process too."""
    told = access.environment() | {"NODE_EXTRA_CA_CERTS": access.ca}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    return told


def new_key(kms):
    return kms.create_key()["KeyMetadata"]["Arn"]


class Refused(Exception):
    """A program did not do what it was asked; says what it said."""


class Python:
    """The AWS Encryption SDK for Python."""

    client = aws_encryption_sdk.EncryptionSDKClient(
        commitment_policy=aws_encryption_sdk.CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT
    )

    def encrypt(self, keys, folder, written, context=CONTEXT, frame=4096, cache=None):
        materials = self.materials(keys, cache)
        for source, target in files(folder, written):
            self.convert(source, target, mode="e", encryption_context=context, frame_length=frame, **materials)

    def decrypt(self, keys, folder, written, context=CONTEXT):
        materials = self.materials(keys, cache=None)
        for source, target in files(folder, written):
            header = self.convert(source, target, mode="d", **materials)
            assert context.items() <= header.encryption_context.items()

    def materials(self, keys, cache):
        provider = aws_encryption_sdk.StrictAwsKmsMasterKeyProvider(key_ids=keys)
        if cache is None:
            return {"key_provider": provider}
        caching = aws_encryption_sdk.CachingCryptoMaterialsManager(
            cache=aws_encryption_sdk.LocalCryptoMaterialsCache(100),
            master_key_provider=provider,
            max_age=600.0,
            max_messages_encrypted=cache,
        )
        return {"materials_manager": caching}

    def convert(self, source, target, **how):
        """Returns the header."""
        said = io.StringIO()
        handler = logging.StreamHandler(said)  # the SDK says there what the key server answered
        logging.getLogger("aws_encryption_sdk").addHandler(handler)
        try:
            with open(source, "rb") as read, open(target, "wb") as written:
                with self.client.stream(source=read, **how) as stream:
                    for piece in stream:
                        written.write(piece)
                    return stream.header
        except Exception as error:  # which one depends on where the SDK notices
            raise Refused(said.getvalue()) from error
        finally:
            logging.getLogger("aws_encryption_sdk").removeHandler(handler)


class Program:
    def run(self, *words):
        """Returns what it printed."""
        ended = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=120)
        if ended.returncode:
            raise Refused(ended.stdout + ended.stderr)
        return ended.stdout


class JavaScript(Program):
    """The AWS Encryption SDK for JavaScript, in js/files.mjs."""

    def encrypt(self, keys, folder, written, context=CONTEXT, frame=4096, cache=None):
        caching = ["--cache", cache] if cache else []
        self.node("encrypt", keys, folder, written, context, "--frame", frame, *caching)

    def decrypt(self, keys, folder, written, context=CONTEXT):
        self.node("decrypt", keys, folder, written, context)

    def node(self, operation, keys, folder, written, context, *more):
        options = [*more, *(f"--key={key}" for key in keys)]
        options += (f"--context={name}={value}" for name, value in context.items())
        pairs = itertools.chain(*files(folder, written))
        self.run(BIN / "node", HERE / "js/files.mjs", operation, *options, *pairs)


class CommandLine(Program):
    """aws-encryption-cli, which needs an older AWS Encryption SDK for Python than the one above."""

    def encrypt(self, keys, folder, written, context=CONTEXT, frame=4096, cache=None):
        caching = ["--caching", "capacity=100", "max_age=600", f"max_messages_encrypted={cache}"] if cache else []
        self.cli("--encrypt", keys, folder, written, context, "--frame-length", frame, *caching)

    def decrypt(self, keys, folder, written, context=CONTEXT):
        self.cli("--decrypt", keys, folder, written, context, "--buffer")

    def cli(self, mode, keys, folder, written, context, *more):
        written.mkdir()
        options = ["-vvv", "--recursive", "--suffix", "--suppress-metadata", "--no-overwrite"]
        options += ["--commitment-policy", "require-encrypt-require-decrypt"]
        options += ["--wrapping-keys", *(f"key={key}" for key in keys)]
        if context:
            options += ["--encryption-context", *(f"{name}={value}" for name, value in context.items())]
        self.run(PROGRAMS / "aws-encryption-cli", mode, "--input", folder, "--output", written, *options, *more)


SDKS = [Python(), JavaScript(), CommandLine()]
each_sdk = pytest.mark.parametrize("sdk", SDKS, ids=lambda sdk: type(sdk).__name__)


def files(folder, written):
    """Pairs of each file of a folder and what shall be made of it in another, which is made."""
    written.mkdir(exist_ok=True)
    return [(file, written / file.name) for file in sorted(folder.iterdir())]


def plain_files(folder, **sizes):
    """Makes files to encrypt, of so many bytes each."""
    folder.mkdir()
    for name, size in sizes.items():
        (folder / name).write_bytes(bytes(i * i % 251 for i in range(251)) * (size // 251) + b"x" * (size % 251))
    return folder


def assert_same(folder, other):
    for original, copy in files(folder, other):
        assert copy.read_bytes() == original.read_bytes(), copy


@each_sdk
@pytest.mark.parametrize("frame", [4096, 1 << 20])
def test_files_written_by_one_are_read_by_the_others(sdk, frame, kms, tmp_path):
    # Nothing, less than a frame, exactly one, and many.
    plain = plain_files(tmp_path / "plain", nothing=0, short=17, frame=frame, large=5_000_000)
    key, encrypted = new_key(kms), tmp_path / "encrypted"
    sdk.encrypt([key], plain, encrypted, frame=frame)
    for original, written in files(plain, encrypted):
        data = written.read_bytes()
        assert data[:3] == b"\x02\x05\x78", "version 2, with commitment and signature"
        assert original.stat().st_size == 0 or original.read_bytes()[:4096] not in data
    for reader in SDKS:
        read = tmp_path / type(reader).__name__
        reader.decrypt([key], encrypted, read)
        assert_same(plain, read)


@each_sdk
def test_a_disabled_key_is_refused(sdk, kms, tmp_path):
    plain = plain_files(tmp_path / "plain", file=10_000)
    key, encrypted = new_key(kms), tmp_path / "encrypted"
    sdk.encrypt([key], plain, encrypted)

    kms.disable_key(KeyId=key)
    with pytest.raises(Refused, match=f"{key} is disabled"):
        sdk.encrypt([key], plain, tmp_path / "again")
    with pytest.raises(Refused, match=f"{key} is disabled"):
        sdk.decrypt([key], encrypted, tmp_path / "refused")

    kms.enable_key(KeyId=key)
    sdk.decrypt([key], encrypted, tmp_path / "read")
    assert_same(plain, tmp_path / "read")


@each_sdk
def test_a_changed_file_is_refused(sdk, kms, tmp_path):
    plain = plain_files(tmp_path / "plain", file=10_000)
    key, encrypted = new_key(kms), tmp_path / "encrypted"
    Python().encrypt([key], plain, encrypted)
    data = (encrypted / "file").read_bytes()

    def said(name, changed):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "file").write_bytes(changed)
        with pytest.raises(Refused) as refused:
            sdk.decrypt([key], folder, tmp_path / f"{name} read", context={})
        return str(refused.value)

    def flipped(place):
        return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]

    # What the key server refuses, and what the SDKs notice.
    by_server = {"context": data.index(b"db-1.example"), "data key": data.index(key.encode()) + len(key) + 60}
    by_sdk = {"frame": len(data) // 2, "signature": len(data) - 1}
    for name, place in by_server.items():
        assert "InvalidCiphertextException" in said(name, flipped(place))
    for name, place in by_sdk.items():
        assert "Exception when calling" not in said(name, flipped(place))
    said("cut", data[:-1])


@each_sdk
def test_another_key_is_refused(sdk, kms, tmp_path):
    plain = plain_files(tmp_path / "plain", file=10)
    sdk.encrypt([new_key(kms)], plain, tmp_path / "encrypted")
    with pytest.raises(Refused):
        sdk.decrypt([new_key(kms)], tmp_path / "encrypted", tmp_path / "read")


@each_sdk
def test_each_of_several_keys_reads(sdk, kms, tmp_path):
    plain = plain_files(tmp_path / "plain", file=10)
    keys = [new_key(kms), new_key(kms)]
    sdk.encrypt(keys, plain, tmp_path / "encrypted")
    kms.disable_key(KeyId=keys[0])
    for reader in SDKS:
        read = tmp_path / type(reader).__name__
        reader.decrypt(keys[1:], tmp_path / "encrypted", read)
        assert_same(plain, read)


def test_the_file_says_which_key(kms, tmp_path):
    """Discovery: the reader names an account instead of keys."""
    plain = plain_files(tmp_path / "plain", file=10)
    key, encrypted = new_key(kms), tmp_path / "encrypted"
    account = key.split(":")[4]
    JavaScript().encrypt([key], plain, encrypted)

    JavaScript().node("decrypt", [], encrypted, tmp_path / "read", {}, "--account", account)
    assert_same(plain, tmp_path / "read")
    provider = aws_encryption_sdk.DiscoveryAwsKmsMasterKeyProvider(
        discovery_filter=DiscoveryFilter(account_ids=[account], partition="aws")
    )
    Python().convert(encrypted / "file", tmp_path / "file", mode="d", key_provider=provider)
    assert (tmp_path / "file").read_bytes() == (plain / "file").read_bytes()
    with pytest.raises(Refused):
        JavaScript().node("decrypt", [], encrypted, tmp_path / "refused", {}, "--account", "999999999999")


@each_sdk
def test_a_cached_data_key_serves_as_many_files_as_allowed(sdk, kms, tmp_path):
    plain = plain_files(tmp_path / "plain", a=10_000, b=2, c=3, d=4096, e=20_000)
    key, encrypted = new_key(kms), tmp_path / "encrypted"
    sdk.encrypt([key], plain, encrypted, cache=2)

    uses = collections.Counter()
    materials = Python().materials([key], cache=100)  # reads with a cache as well
    for source, target in files(encrypted, tmp_path / "read"):
        header = Python().convert(source, target, mode="d", **materials)
        (data_key,) = header.encrypted_data_keys
        uses[data_key.encrypted_data_key] += 1
    assert_same(plain, tmp_path / "read")
    assert sorted(uses.values()) == [1, 2, 2]


def test_keyrings_of_the_material_providers_library(access, kms, tmp_path):
    """What the SDK for Python recommends instead of master key providers."""
    plain = plain_files(tmp_path / "plain", file=100_000)
    key, encrypted = new_key(kms), tmp_path / "encrypted"
    providers = AwsCryptographicMaterialProviders(config=MaterialProvidersConfig())
    keyring = providers.create_aws_kms_keyring(CreateAwsKmsKeyringInput(kms_key_id=key, kms_client=access.client()))
    ((source, target),) = files(plain, encrypted)
    Python().convert(source, target, mode="e", keyring=keyring, encryption_context=CONTEXT)
    JavaScript().decrypt([key], encrypted, tmp_path / "read")
    assert_same(plain, tmp_path / "read")
    Python().convert(target, tmp_path / "again", mode="d", keyring=keyring, encryption_context=CONTEXT)
    assert (tmp_path / "again").read_bytes() == source.read_bytes()
    kms.disable_key(KeyId=key)
    with pytest.raises(Refused, match="No Configured KMS Key was able to decrypt"):
        Python().convert(target, tmp_path / "refused", mode="d", keyring=keyring)


def test_tink(kms, access):
    """Data under the key itself, and a keyset of Tink's under it."""
    aead.register()
    key, other = new_key(kms), new_key(kms)
    remote = awskms.AwsKmsClient(f"aws-kms://{key}", None).get_aead(f"aws-kms://{key}")
    sealed = remote.encrypt(b"some data", b"about it")
    assert remote.decrypt(sealed, b"about it") == b"some data"
    assert kms.decrypt(CiphertextBlob=sealed, EncryptionContext={"associatedData": b"about it".hex()})
    with pytest.raises(tink.TinkError, match="InvalidCiphertextException"):
        remote.decrypt(sealed, b"about something else")
    with pytest.raises(tink.TinkError, match="InvalidCiphertextException"):
        remote.decrypt(sealed[:-1], b"about it")
    with pytest.raises(tink.TinkError, match="IncorrectKeyException"):
        awskms.AwsKmsClient(None, None).get_aead(f"aws-kms://{other}").decrypt(sealed, b"about it")

    handle = tink.new_keyset_handle(aead.aead_key_templates.AES256_GCM)
    written = tink.json_proto_keyset_format.serialize_encrypted(handle, remote, b"payroll")
    assert "encryptedKeyset" in json.loads(written)
    again = tink.json_proto_keyset_format.parse_encrypted(written, remote, b"payroll")
    sealed = handle.primitive(aead.Aead).encrypt(b"row 1", b"id")
    assert again.primitive(aead.Aead).decrypt(sealed, b"id") == b"row 1"

    envelope = aead.KmsEnvelopeAead(aead.aead_key_templates.AES256_GCM, remote)
    sealed = envelope.encrypt(b"row 2", b"id")
    assert envelope.decrypt(sealed, b"id") == b"row 2"

    kms.disable_key(KeyId=key)
    with pytest.raises(tink.TinkError, match="DisabledException"):
        tink.json_proto_keyset_format.parse_encrypted(written, remote, b"payroll")


def test_sops(kms, tmp_path):
    """Version 1, which is the one in Python."""
    key, plain, encrypted = new_key(kms), tmp_path / "plain.json", tmp_path / "encrypted.json"
    values = {"database": {"password": "hunter2", "port": 5432}}
    plain.write_text(json.dumps(values))
    sops = Program()
    encrypted.write_text(sops.run(PROGRAMS / "sops", "--encrypt", "--kms", key, plain))
    assert "hunter2" not in encrypted.read_text()
    assert json.loads(sops.run(PROGRAMS / "sops", "--decrypt", encrypted)) == values
    kms.disable_key(KeyId=key)
    with pytest.raises(Refused, match=f"{key} is disabled"):
        sops.run(PROGRAMS / "sops", "--decrypt", encrypted)


def test_the_aws_sdk_for_rust():
    """rust/src/main.rs, which is built here."""
    manifest = HERE / "rust/Cargo.toml"
    target = HERE.parents[1] / "target/interop"
    words = ["cargo", "run", "--quiet", "--locked", "--offline", "--manifest-path", manifest, "--target-dir", target]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=3600)
    assert (ended.returncode, ended.stdout) == (0, "all as expected\n"), ended.stdout + ended.stderr
