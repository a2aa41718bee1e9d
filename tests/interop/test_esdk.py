"""Files of our own codec and of the AWS Encryption SDKs, read by the other; the data keys through both interfaces.

Ours gets its data keys from REST, the SDKs theirs from the AWS KMS API.
"""

import pathlib
import subprocess
import sys

import aws_encryption_sdk
import pytest
from aws_encryption_sdk.identifiers import Algorithm

HERE = pathlib.Path(__file__).parent
REPOSITORY = HERE.parents[1]
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


@pytest.fixture(scope="session")
def ours(aws):
    return Ours(aws)


class Refused(Exception):
    """What a program says that did not do what it was asked."""


class Ours:
    """crates/files/examples/seal.rs, which is built here, and REST."""

    def __init__(self, server):
        self.server = server
        build = ["cargo", "build", "--quiet", "--workspace", "--locked", "--offline", "--example", "seal"]
        subprocess.run(build, cwd=REPOSITORY, check=True, timeout=1800)
        self.program = REPOSITORY / "target/debug/examples/seal"

    def encrypt(self, key, source, target, context=CONTEXT, threads=2):
        made = self.ask(key, "data-key", {"context": context, "bytes": 32})
        pairs = [f"{name}={value}" for name, value in context.items()]
        self.run("esdk", source, target, threads, lines=[made["plaintext"], key, made["ciphertext"], *pairs])

    def decrypt(self, source, target, threads=2):
        """Returns the context."""
        key, ciphertext, *pairs = self.run("say", source).splitlines()
        context = dict(pair.split("=", 1) for pair in pairs)
        opened = self.ask(key, "decrypt", {"context": context, "ciphertext": ciphertext})
        self.run("open", source, target, threads, lines=[opened["plaintext"]])
        return context

    def ask(self, key, verb, body):
        answer = self.server.developer.call("POST", f"/v1/keys/{key.rpartition('/')[2]}/{verb}", body)
        if answer.status != 200:
            raise Refused(answer.body)
        return answer

    def run(self, *words, lines=()):
        given = "".join(f"{line}\n" for line in lines)
        words = [self.program, *map(str, words)]
        ended = subprocess.run(words, input=given, capture_output=True, text=True, timeout=120)
        if ended.returncode:
            raise Refused(ended.stderr)
        return ended.stdout


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


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_the_sdks_read_what_we_wrote(threads, ours, key, tmp_path):
    pairs = []
    for size in SIZES:
        plain, written = tmp_path / f"{size}", tmp_path / f"{size}.written"
        plain.write_bytes(plaintext(size))
        ours.encrypt(key, plain, written, threads=threads)
        assert written.read_bytes()[:3] == b"\x02\x04\x78"
        assert Python().decrypt(key, written.read_bytes()) == (plaintext(size), CONTEXT)
        pairs += [written, tmp_path / f"{size}.read"]
    words = [NODE, HERE / "js/files.mjs", "decrypt", f"--key={key}", "--context=purpose=backup", *pairs]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for size in SIZES:
        assert (tmp_path / f"{size}.read").read_bytes() == plaintext(size)


@pytest.mark.parametrize("frame", [128, 4096, FRAME, 1 << 20])
@pytest.mark.parametrize("context", [{}, CONTEXT], ids=["no context", "context"])
def test_we_read_what_the_sdk_wrote(frame, context, ours, key, tmp_path):
    for size in {0, 17, frame, frame + 1, 3 * frame, 2_000_000 if frame >= 4096 else 5_000}:
        message, read = tmp_path / f"{size}.message", tmp_path / f"{size}.read"
        message.write_bytes(Python().encrypt(key, plaintext(size), context, frame_length=frame))
        for threads in (0, 2):
            assert ours.decrypt(message, read, threads) == context
            assert read.read_bytes() == plaintext(size)
            read.unlink()


def test_a_changed_file_is_refused_by_both(ours, key, tmp_path):
    plain, written, read = tmp_path / "plain", tmp_path / "written", tmp_path / "read"
    plain.write_bytes(plaintext(3 * FRAME + 5))
    ours.encrypt(key, plain, written)
    whole = written.read_bytes()
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
        written.write_bytes(message)
        for threads in (0, 2):
            with pytest.raises(Refused):
                ours.decrypt(written, read, threads)
            assert not read.exists(), what
        if what != "extended":  # which the SDK does not look at
            with pytest.raises(Exception):
                Python().decrypt(key, message)


def test_what_we_do_not_read_is_named(ours, key, tmp_path):
    message = tmp_path / "message"
    signed = Algorithm.AES_256_GCM_HKDF_SHA512_COMMIT_KEY_ECDSA_P384
    for how, says in [({"algorithm": signed}, "suite 0x0578"), ({"frame_length": 0}, "without frames")]:
        message.write_bytes(Python().encrypt(key, b"plain", **how))
        with pytest.raises(Refused, match=says):
            ours.decrypt(message, tmp_path / "read")


def test_the_key_decides_for_both(ours, kms, key, tmp_path):
    plain, written = tmp_path / "plain", tmp_path / "written"
    plain.write_bytes(b"plain")
    ours.encrypt(key, plain, written)
    kms.disable_key(KeyId=key)
    with pytest.raises(Refused):
        ours.decrypt(written, tmp_path / "read")
    with pytest.raises(Exception):
        Python().decrypt(key, written.read_bytes())
    kms.enable_key(KeyId=key)
    assert ours.decrypt(written, tmp_path / "read") == CONTEXT
    assert Python().decrypt(key, written.read_bytes()) == (b"plain", CONTEXT)
