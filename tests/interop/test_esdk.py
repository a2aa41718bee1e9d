"""Files that the command line and the AWS Encryption SDKs make, each opened by the other.

The command line gets its data keys from REST, the SDKs theirs from the AWS KMS API.
"""

import base64
import json
import os
import pathlib
import random
import subprocess
import sys

import aws_encryption_sdk
import pytest
from aws_encryption_sdk.identifiers import Algorithm

HERE = pathlib.Path(__file__).parent
NODE = pathlib.Path(sys.executable).parent / "node"
SUITE = Algorithm.AES_256_GCM_HKDF_SHA512_COMMIT_KEY
CONTEXT = {"purpose": "backup", "größe": "5 MB"}
FRAME = 64 << 10
# Nothing, less than a frame, exactly one, one more byte, exactly many, and many.
SIZES = [0, 17, FRAME, FRAME + 1, 20 * FRAME, 5_000_000]


@pytest.fixture(autouse=True)
def environment(access, monkeypatch):
    """What the clients are told, for those in this process too."""
    told = access.environment() | {"NODE_EXTRA_CA_CERTS": access.ca}
    for name, value in told.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def key(kms):
    return kms.create_key()["KeyMetadata"]["Arn"]


class Python:
    """The AWS Encryption SDK for Python."""

    client = aws_encryption_sdk.EncryptionSDKClient(
        commitment_policy=aws_encryption_sdk.CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT
    )

    def encrypt(self, key, plain, context=CONTEXT, **how):
        provider = aws_encryption_sdk.StrictAwsKmsMasterKeyProvider(key_ids=[key])
        how = {"algorithm": SUITE, "frame_length": FRAME} | how
        return self.client.encrypt(source=plain, key_provider=provider, encryption_context=context, **how)[0]

    def decrypt(self, key, message):
        """Returns the plaintext and the context."""
        provider = aws_encryption_sdk.StrictAwsKmsMasterKeyProvider(key_ids=[key])
        plain, header = self.client.decrypt(source=message, key_provider=provider)
        assert header.algorithm == SUITE
        return plain, header.encryption_context


def plaintext(size):
    return (bytes(range(251)) * (size // 251 + 1))[:size]


class CommandLine:
    """`keyhearth file`, as the developer of the server."""

    def __init__(self, server, folder):
        self.server, self.folder, self.who = server, folder, server.developer

    def file(self, *words, who=None, stdin=None):
        return self.server.done(who or self.who, "file", *words, stdin=stdin)

    def refused(self, *words, who=None, stdin=None):
        return self.server.refused(who or self.who, "file", *words, stdin=stdin)

    def sealed(self, key, content, *words, name="plain"):
        """A sealed file, and the file itself no more."""
        path = self.folder / name
        path.write_bytes(content)
        self.file("seal", path, "--key", key.rpartition("/")[2], "--format", "esdk", *words)
        path.unlink()
        return path.with_name(name + ".esdk")

    def opened(self, path, *words, who=None):
        return self.file("open", path, "--output", "-", *words, who=who)

    def inspect(self, path):
        return json.loads(self.server.done(self.who, "--json", "file", "inspect", path))


@pytest.fixture
def cli(aws, tmp_path):
    return CommandLine(aws, tmp_path)


@pytest.mark.parametrize("way", ["pipe", "1", "2"])
def test_the_sdks_open_what_the_command_line_sealed(way, cli, key):
    pairs = [word for name, value in CONTEXT.items() for word in ("--context", f"{name}={value}")]
    # Many threads work on one file only if it is large.
    for size in [*SIZES, 17 << 20] if way == "2" else SIZES:
        if way == "pipe":
            sealed = cli.folder / "plain.esdk"
            seal = ["seal", "-", "--key", key.rpartition("/")[2], "--format", "esdk", *pairs]
            sealed.write_bytes(cli.file(*seal, stdin=plaintext(size)))
        else:
            sealed = cli.sealed(key, plaintext(size), *pairs, "--threads", way, "--force")
        assert sealed.read_bytes()[:3] == b"\x02\x04\x78"
        plain, context = Python().decrypt(key, sealed.read_bytes())
        file = context.pop("file")
        assert (plain, context) == (plaintext(size), CONTEXT)
        read = cli.folder / f"{size}.read"
        words = [NODE, HERE / "js/files.mjs", "decrypt", f"--key={key}", f"--context=file={file}", sealed, read]
        ended = subprocess.run(words, capture_output=True, text=True, timeout=120)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert read.read_bytes() == plaintext(size) and cli.opened(sealed) == plaintext(size)
        shown = cli.inspect(sealed)
        assert (shown["format"], shown["bytes"], shown["file"]) == ("esdk", size, file)
        assert key.endswith(shown["key"]) and shown["context"] == CONTEXT | {"file": file}


@pytest.mark.parametrize("frame", [128, 4096, FRAME, 1 << 20])
@pytest.mark.parametrize("context", [{}, CONTEXT], ids=["no context", "context"])
def test_the_command_line_opens_what_the_sdk_for_python_sealed(frame, context, cli, key):
    message, read = cli.folder / "theirs.esdk", cli.folder / "theirs"
    for size in {0, 17, frame, frame + 1, 3 * frame, 2_000_000 if frame >= 4096 else 5_000}:
        message.write_bytes(Python().encrypt(key, plaintext(size), context, frame_length=frame))
        cli.file("open", message)
        assert read.read_bytes() == plaintext(size)
        read.unlink()
        assert cli.file("open", "-", stdin=message.read_bytes()) == plaintext(size)
    shown = cli.inspect(message)["context"]
    assert {name: shown[name] for name in context} == context


@pytest.mark.parametrize("context", [{}, CONTEXT], ids=["no context", "context"])
def test_the_command_line_opens_what_the_sdk_for_javascript_sealed(context, cli, key):
    plain, theirs = cli.folder / "in", cli.folder / "js.esdk"
    plain.write_bytes(plaintext(200_000))
    pairs = [f"--context={name}={value}" for name, value in context.items()]
    for how in (["--unsigned"], []):
        words = [NODE, HERE / "js/files.mjs", "encrypt", *how, f"--key={key}", *pairs, plain, theirs]
        ended = subprocess.run(words, capture_output=True, text=True, timeout=120)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        if how:
            assert cli.opened(theirs) == plaintext(200_000)
        else:
            assert cli.refused("open", theirs) == "unsupported"


def test_a_changed_file_is_refused_by_both(cli, key):
    sealed = cli.sealed(key, plaintext(3 * FRAME + 5), "--context", "purpose=backup")
    whole = sealed.read_bytes()
    start = len(whole) - (3 * (FRAME + 32) + 45)
    frames = [whole[start + number * (FRAME + 32) :][: FRAME + 32] for number in range(3)]
    last = whole[start + 3 * (FRAME + 32) :]
    head = whole[:start]

    def flipped(place):
        return whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]

    changed = {
        "id": flipped(5),
        "context": flipped(whole.index(b"backup")),
        "commitment": flipped(start - 20),
        "header's tag": flipped(start - 1),
        "first frame": flipped(start + 100),
        "last frame": flipped(len(whole) - 1),
        "swapped": head + frames[1] + frames[0] + frames[2] + last,
        "left out": head + frames[0] + frames[2] + last,
        "twice": head + frames[0] + frames[0] + frames[1] + frames[2] + last,
        "cut in a frame": whole[: start + FRAME],
        "cut behind a frame": head + frames[0] + frames[1],
        "extended": whole + b"x",
    }
    assert head + b"".join(frames) + last == whole
    for what, message in changed.items():
        sealed.write_bytes(message)
        for threads in ("1", "2"):
            assert cli.refused("open", sealed, "--threads", threads) in ("not_authentic", "malformed"), what
            assert not sealed.with_name("plain").exists(), what
        assert cli.refused("open", "-", stdin=message) in ("not_authentic", "malformed"), what
        if what != "extended":  # which the SDK does not look at
            with pytest.raises(Exception):
                Python().decrypt(key, message)


def test_what_is_not_read_is_named(cli, key):
    message = cli.folder / "theirs.esdk"
    signed = Algorithm.AES_256_GCM_HKDF_SHA512_COMMIT_KEY_ECDSA_P384
    for how, says in [({"algorithm": signed}, "suite 0x0578"), ({"frame_length": 0}, "without frames")]:
        message.write_bytes(Python().encrypt(key, b"plain", **how))
        ended = cli.server.command(cli.who, "--json", "file", "open", message)
        assert ended.returncode == 1 and says in (ended.stdout + ended.stderr).decode()


def test_the_key_decides_for_both(cli, kms, key):
    sealed = cli.sealed(key, b"plain")
    kms.disable_key(KeyId=key)
    assert cli.refused("open", sealed, "--output", "-") == "wrong_state"
    with pytest.raises(Exception):
        Python().decrypt(key, sealed.read_bytes())
    kms.enable_key(KeyId=key)
    assert cli.opened(sealed) == b"plain" == Python().decrypt(key, sealed.read_bytes())[0]


def test_a_folder_of_both_formats_is_opened_whole_and_pipes_go_through(cli, key):
    folder, sealed, opened = (cli.folder / name for name in ("plain", "sealed", "opened"))
    contents = {f"{number // 100}/{number}": os.urandom(number) for number in range(300)}
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    id = key.rpartition("/")[2]
    cli.file("seal", folder, "--key", id, "--format", "esdk", "--output", sealed)
    cli.file("seal", folder / "2", "--key", id, "--output", sealed / "age")
    # Sealed again, a folder's sealed files are left alone.
    assert cli.file("seal", sealed, "--key", id, "--format", "esdk") == b""
    cli.file("open", sealed, "--output", opened)
    for name, content in contents.items():
        assert (opened / name).read_bytes() == content
    assert len(list((opened / "age").iterdir())) == 100
    listed = json.loads(cli.server.done(cli.who, "--json", "file", "ls", sealed))["files"]
    assert len({file["file"] for file in listed}) == 400
    assert {file["format"] for file in listed} == {"age", "esdk"}
    message = cli.file("seal", "-", "--key", id, "--format", "esdk", stdin=b"plain")
    assert Python().decrypt(key, message)[0] == b"plain" and cli.file("open", "-", stdin=message) == b"plain"


def test_a_context_that_is_demanded_is_there_or_the_file_is_refused(cli, key):
    sealed = cli.sealed(key, b"plain", "--context", "purpose=backup")
    assert cli.opened(sealed, "--context", "purpose=backup") == b"plain"
    # The id of a file is its own, and pairs have one value.
    for pairs in (["file=mine"], ["a=1", "a=2"]):
        words = [word for pair in pairs for word in ("--context", pair)]
        plain = cli.folder / "plain.txt"
        plain.write_bytes(b"plain")
        seal = ["file", "seal", plain, "--key", key.rpartition("/")[2], "--format", "esdk", *words]
        assert cli.server.command(cli.who, *seal).returncode == 1
        assert not plain.with_name("plain.txt.esdk").exists()
    for pair in ("purpose=restore", "owner=me"):
        assert cli.refused("open", sealed, "--context", pair, "--output", "-") == "other_context"
        assert cli.refused("open", sealed, "--context", pair) == "other_context"
        assert not sealed.with_name("plain").exists()
    # What the header says is proved: a context that was written over opens nothing.
    whole = sealed.read_bytes()
    sealed.write_bytes(whole.replace(b"backup", b"import"))
    assert cli.refused("open", sealed, "--context", "purpose=import") == "not_authentic"
    assert not sealed.with_name("plain").exists()
    aged = cli.folder / "aged"
    aged.write_bytes(b"plain")
    cli.file("seal", aged, "--key", key.rpartition("/")[2])
    id = cli.inspect(aged.with_name("aged.age"))["file"]
    assert cli.opened(aged.with_name("aged.age"), "--context", f"file={id}") == b"plain"
    assert cli.refused("open", aged.with_name("aged.age"), "--context", "purpose=backup") == "other_context"


def test_each_interface_opens_what_the_other_made_for_the_same_context(aws, kms, key):
    id = key.rpartition("/")[2]

    def rest(verb, **body):
        return aws.developer.call("POST", f"/v1/keys/{id}/{verb}", body)

    ours = rest("data-key", context=CONTEXT, bytes=32).ok()
    blob = base64.b64decode(ours["ciphertext"])
    opened = kms.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)
    assert opened["Plaintext"] == base64.b64decode(ours["plaintext"]) and opened["KeyId"] == key
    theirs = kms.generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext=CONTEXT)
    text = base64.b64encode(theirs["CiphertextBlob"]).decode()
    opened = rest("decrypt", context=CONTEXT, ciphertext=text).ok()
    assert base64.b64decode(opened["plaintext"]) == theirs["Plaintext"]
    for other in ({}, CONTEXT | {"more": "1"}, CONTEXT | {"purpose": "restore"}):
        assert rest("decrypt", context=other, ciphertext=text)["code"] == "not_authentic"
        with pytest.raises(kms.exceptions.InvalidCiphertextException):
            kms.decrypt(CiphertextBlob=blob, EncryptionContext=other)


def test_any_of_several_keys_opens(cli, kms, key):
    other = kms.create_key()["KeyMetadata"]["Arn"]
    provider = aws_encryption_sdk.StrictAwsKmsMasterKeyProvider(key_ids=[key, other])
    message, _ = Python.client.encrypt(
        source=b"plain", key_provider=provider, encryption_context=CONTEXT, algorithm=SUITE
    )
    path = cli.folder / "both.esdk"
    path.write_bytes(message)
    kms.disable_key(KeyId=key)
    assert cli.opened(path) == b"plain"
    kms.disable_key(KeyId=other)
    assert cli.refused("open", path, "--output", "-") == "wrong_state"
    # A key of AWS's own is nobody's here.
    path.write_bytes(message.replace(key.encode(), key[:-36].encode() + b"0" * 36))
    assert cli.refused("open", path, "--output", "-") in ("not_found", "wrong_state")


def test_a_colleague_opens_what_is_shared(cli, key):
    shared, other = (cli.sealed(key, b"plain", name=name) for name in ("shared", "other"))
    colleague = cli.server.issue(cli.who, f"c{os.urandom(4).hex()}", cli.folder / "colleague")
    identity = json.loads(cli.server.done(colleague, "--json", "whoami"))["identity"]
    assert cli.refused("open", shared, who=colleague) == "denied"
    cli.file("share", shared, "--with", identity)
    assert cli.opened(shared, who=colleague) == b"plain"
    assert cli.refused("open", other, "--output", "-", who=colleague) == "denied"
    cli.file("unshare", shared, "--from", identity)
    assert cli.refused("open", shared, "--output", "-", who=colleague) == "denied"
    theirs = cli.folder / "theirs.esdk"
    theirs.write_bytes(Python().encrypt(key, b"plain"))
    assert cli.refused("share", theirs, "--with", identity) == "no_file_id"


def test_after_a_theft_a_file_gets_a_new_data_key_and_stays_what_it_was(cli, key, kms):
    pairs = [word for name, value in CONTEXT.items() for word in ("--context", f"{name}={value}")]
    ours, theirs = cli.sealed(key, plaintext(3 * FRAME + 9), *pairs), cli.folder / "theirs.esdk"
    theirs.write_bytes(Python().encrypt(key, b"theirs"))
    colleague = cli.server.issue(cli.who, f"c{os.urandom(4).hex()}", cli.folder / "colleague")
    cli.file("share", ours, "--with", json.loads(cli.server.done(colleague, "--json", "whoami"))["identity"])
    before = [(path, path.read_bytes(), cli.inspect(path)) for path in (ours, theirs)]
    told = json.loads(cli.server.done(cli.who, "--json", "file", "rekey", "--suspected-stolen", cli.folder))
    assert len(told["files"]) == 2 and any("key rotate" in note for note in told["notes"])
    for path, content, shown in before:
        assert {**cli.inspect(path), "header_bytes": 0} == {**shown, "header_bytes": 0}
        # The message id, and with it whatever follows.
        assert path.read_bytes()[:100] != content[:100]
    assert cli.opened(ours, who=colleague) == plaintext(3 * FRAME + 9)
    plain, context = Python().decrypt(key, theirs.read_bytes())
    assert plain == b"theirs" and CONTEXT.items() <= context.items() and "file" not in context
    # What somebody else could open is not taken from them in silence.
    other = kms.create_key()["KeyMetadata"]["Arn"]
    provider = aws_encryption_sdk.StrictAwsKmsMasterKeyProvider(key_ids=[key, other])
    both = Python.client.encrypt(source=b"plain", key_provider=provider, algorithm=SUITE)[0]
    theirs.write_bytes(both)
    assert cli.refused("rekey", "--suspected-stolen", theirs) == "several_keys"
    recipient = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"
    sealed = ours.read_bytes()
    assert cli.refused("rekey", "--suspected-stolen", "--recipient", recipient, ours) == "recipients"
    assert (theirs.read_bytes(), ours.read_bytes()) == (both, sealed)


def test_what_the_format_does_not_know_is_refused_with_the_way_out(cli, key):
    sealed = cli.sealed(key, b"plain")
    before = sealed.read_bytes()
    for place in (sealed, cli.folder):
        assert cli.refused("rekey", place) == "not_age" and sealed.read_bytes() == before
    id, plain = key.rpartition("/")[2], cli.folder / "plain"
    plain.write_bytes(b"plain")
    recipient = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"
    assert cli.refused("seal", plain, "--key", id, "--format", "esdk", "--recipient", recipient) == "local"
    assert cli.refused("seal", plain, "--key", id, "--context", "a=b") == "local"
    reserved = ["--format", "esdk", "--context", "aws-crypto-public-key=x", "--force"]
    assert cli.refused("seal", plain, "--key", id, *reserved) == "invalid"
    assert sealed.read_bytes() == before and not plain.with_name("plain.age").exists()


def test_no_altered_message_leaves_anything(cli, key):
    sealed = cli.sealed(key, plaintext(2 * FRAME + 9))
    whole = sealed.read_bytes()
    changed = [whole[:-1], whole + b"x", whole[:FRAME], b"\x02", b"\x02\x04\x78" + os.urandom(300)]
    for seed in range(20):
        at = random.Random(seed).randrange(len(whole))
        changed.append(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    for content in changed:
        sealed.write_bytes(content)
        assert cli.refused("open", sealed) in ("not_authentic", "malformed", "unsupported", "not_for_us", "not_found", "invalid")
        assert [path.name for path in cli.folder.iterdir()] == [sealed.name]
