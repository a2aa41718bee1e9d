"""Folders of sealed files that are mounted: read by ordinary programs, and no longer than the server allows it."""

import contextlib
import errno
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile

import pytest

from mounting import HELLO, WAIT_S_MAX, installed, mounts, refused, until  # noqa: F401

CHUNK = 64 * 1024


@pytest.mark.parametrize("format", ["age", "esdk"])
def test_files_are_read_at_any_place(format, mounts):
    contents = {}
    for length in (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK, 3_000_001):
        contents[f"f{length}"] = random.Random(length).randbytes(length)
        mounts.seal(f"f{length}", contents[f"f{length}"], "--format", format)
    with mounts.mounted() as point:
        assert sorted(os.listdir(point)) == sorted(contents)
        for name, content in contents.items():
            assert (point / name).stat().st_size == len(content)
            assert (point / name).read_bytes() == content
            places, file = random.Random(name), os.open(point / name, os.O_RDONLY)
            for _ in range(60):
                offset, length = places.randrange(len(content) + 10), places.randrange(1, 3 * CHUNK)
                assert os.pread(file, length, offset) == content[offset : offset + length]
            os.close(file)


def test_ordinary_programs_read_a_tree(mounts):
    for number in range(60):
        mounts.plain.joinpath(f"tree/{number % 7}").mkdir(parents=True, exist_ok=True)
        content = b"needle\n" * 3 if number % 10 == 0 else os.urandom(number * 500)
        mounts.plain.joinpath(f"tree/{number % 7}/{number}").write_bytes(content)
    tree = mounts.plain / "tree"
    mounts.server.done(mounts.who, "file", "seal", tree, "--key", "files", "--output", mounts.sealed / "tree")
    os.symlink("/etc", mounts.sealed / "out")
    os.symlink("/etc/passwd", mounts.sealed / "link.age")
    mounts.sealed.joinpath("plain").write_bytes(HELLO)
    mounts.sealed.joinpath("broken.age").write_bytes(HELLO)
    with mounts.mounted() as point:
        assert sorted(os.listdir(point)) == ["broken", "tree"]
        refused(errno.EIO, (point / "broken").read_bytes)
        copy = mounts.folder / "copy"
        subprocess.run(["cp", "-r", point / "tree", copy], check=True)
        assert subprocess.run(["diff", "-r", tree, copy]).returncode == 0
        assert subprocess.run(["diff", "-r", tree, point / "tree"]).returncode == 0
        found = subprocess.run(["grep", "-rlc", "needle", point / "tree"], capture_output=True, text=True, check=True)
        assert len(found.stdout.split()) == 6
        for action in (
            lambda: (point / "new").write_bytes(HELLO),
            lambda: os.unlink(point / "tree/0/0"),
            lambda: os.mkdir(point / "folder"),
            lambda: os.rename(point / "tree", point / "wood"),
        ):
            refused(errno.EROFS, action)


def test_when_the_server_refuses_reads_end_with_the_lease(mounts):
    mounts.seal("file", HELLO * 10_000)
    colleague = mounts.server.issue(mounts.who, "colleague", mounts.folder / "colleague", "key-user")
    identity = json.loads(mounts.server.done(colleague, "--json", "whoami"))["identity"]
    with mounts.mounted("--lease", "0s", who=colleague) as point:
        file = os.open(point / "file", os.O_RDONLY)
        assert os.pread(file, 100, 0) == (HELLO * 10)[:100]
        mounts.server.done(mounts.who, "identity", "revoke", identity)
        refused(errno.EACCES, lambda: os.pread(file, 100, 0))
        refused(errno.EACCES, lambda: (point / "file").read_bytes())
        os.close(file)


def test_a_lease_that_is_not_over_needs_no_server_and_a_file_that_is_opened_anew_does(mounts):
    mounts.seal("file", HELLO * 10_000)
    mounts.seal("other")
    with mounts.mounted("--lease", "1h") as point:
        file = os.open(point / "file", os.O_RDONLY)
        mounts.server.done(mounts.who, "key", "suspend", "files", "--reason", "test")
        assert os.pread(file, 10**6, 0) == HELLO * 10_000
        refused(errno.EACCES, (point / "other").read_bytes)
        mounts.server.done(mounts.who, "key", "resume", "files")
        assert (point / "other").read_bytes() == HELLO
        mounts.server.kill()
        assert os.pread(file, 10**6, 0) == HELLO * 10_000
        refused(errno.EIO, (point / "other").read_bytes)
        os.close(file)


def test_a_lease_ends_by_itself(mounts):
    mounts.seal("file")
    with mounts.mounted("--lease", "1s") as point:
        file = os.open(point / "file", os.O_RDONLY)
        mounts.server.done(mounts.who, "key", "suspend", "files", "--reason", "test")

        def is_over():
            try:
                os.pread(file, 10, 0)
            except OSError as error:
                return error.errno == errno.EACCES

        until("the lease is not over", is_over)
        os.close(file)


@pytest.mark.parametrize("format", ["age", "esdk"])
def test_what_was_altered_gives_errors_and_nothing_else(format, mounts):
    content = random.Random(1).randbytes(4 * CHUNK + 100)
    whole = mounts.seal("file", content, "--format", format).read_bytes()
    header = len(whole) - len(content)
    with mounts.mounted() as point:
        for number, at in enumerate((20, header + CHUNK + 5_000, len(whole) - 1)):
            changed = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
            mounts.sealed.joinpath(f"{number}.{format}").write_bytes(changed)
            refused((errno.EIO, errno.EACCES), (point / str(number)).read_bytes)
        # Around the chunk that was altered all is as it was.
        file = os.open(point / "1", os.O_RDONLY)
        assert os.pread(file, CHUNK, 0) == content[:CHUNK]
        assert os.pread(file, CHUNK, 2 * CHUNK) == content[2 * CHUNK : 3 * CHUNK]
        refused(errno.EIO, lambda: os.pread(file, 10, CHUNK + 10))
        os.close(file)
        mounts.sealed.joinpath(f"cut.{format}").write_bytes(whole[: -2 * CHUNK])
        refused(errno.EIO, (point / "cut").read_bytes)


def test_it_ends_with_the_mount_and_the_mount_with_it(mounts):
    mounts.seal("file")
    mounts.start()
    subprocess.run(["fusermount3", "-u", mounts.point], check=True)
    assert mounts.process.wait(timeout=WAIT_S_MAX) == 0
    for how in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        mounts.start()
        assert mounts.end(how) == 0 and not mounts.is_mounted()
        mounts.start()
        file = os.open(mounts.point / "file", os.O_RDONLY)
        assert mounts.end(how) == 0 and not mounts.is_mounted()
        refused((errno.ENOTCONN, errno.ECONNABORTED, errno.EIO), lambda: os.pread(file, 1, 0))
        with contextlib.suppress(OSError):
            os.close(file)
    mounts.start()
    mounts.end(signal.SIGKILL)
    subprocess.run(["fusermount3", "-u", mounts.point], check=True)
    assert os.listdir(mounts.point) == []


def test_folders_in_each_other_are_not_mounted(mounts):
    inner = mounts.sealed / "inner"
    inner.mkdir()
    for sealed, point in ((mounts.sealed, mounts.sealed), (mounts.sealed, inner), (inner, mounts.sealed)):
        assert mounts.server.refused(mounts.who, "file", "mount", sealed, point) == "local"
    assert mounts.server.refused(mounts.who, "file", "mount", mounts.sealed, mounts.folder / "nothing") == "local"


def test_what_is_read_is_not_kept_by_the_kernel_and_memory_is_bounded(mounts):
    size = 200 << 20
    with open(mounts.plain / "big", "wb") as file:
        file.truncate(size)
    mounts.server.done(mounts.who, "file", "seal", mounts.plain / "big", "--key", "files", "--output", mounts.sealed / "big.age")
    with mounts.mounted() as point:
        before = mounts.resident()
        with open(point / "big", "rb", buffering=0) as file:
            read = 0
            while part := file.read(1 << 20):
                read += len(part)
        assert read == size and mounts.resident() - before < 64 << 20


def test_who_opened_a_file_reads_that_one_and_no_other(mounts):
    sealed = mounts.seal("file", b"old" * 1000)
    with mounts.mounted("--lease", "0s") as point:
        old = os.open(point / "file", os.O_RDONLY)
        # A newer one under its name, as a sync service brings it.
        other = mounts.seal("other", b"newer" * 1000)
        other.rename(sealed)
        assert (point / "file").read_bytes() == b"newer" * 1000
        assert os.pread(old, 10_000, 0) == b"old" * 1000
        # Another sealed file written over it where it lies, as authentic as it was.
        kept = os.open(point / "file", os.O_RDONLY)
        assert os.pread(kept, 5, 0) == b"newer"
        sealed.write_bytes(mounts.seal("third", b"third" * 1000).read_bytes())
        refused(errno.EIO, lambda: os.pread(kept, 5, 0))
        assert os.pread(old, 3, 0) == b"old"
        os.close(old)
        os.close(kept)


def test_who_is_not_root_mounts_too_and_root_sees_nothing_there(mounts):
    nobody = {"user": 65534, "group": 65534, "extra_groups": []}
    # The folder of tests is root's alone.
    folder = pathlib.Path(tempfile.mkdtemp())
    try:
        shutil.copy(mounts.server.program, folder / "keyhearth")
        identity = mounts.who.environment()
        for name in ("KEYHEARTH_CA_FILE", "KEYHEARTH_CERT_FILE", "KEYHEARTH_KEY_FILE"):
            identity[name] = shutil.copy(identity[name], folder / name)
        mounts.seal("file")
        shutil.copytree(mounts.sealed, folder / "sealed")
        (folder / "point").mkdir()
        for path in (folder, *folder.rglob("*")):
            os.chown(path, 65534, 65534)
        mounts.point = folder / "point"
        command = [folder / "keyhearth", "file", "mount", folder / "sealed", mounts.point]
        environment = {**os.environ, **identity}
        mounts.process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, **nobody)
        until("it is not mounted", lambda: mounts.process.poll() is not None or mounts.is_mounted())
        assert mounts.process.poll() is None, mounts.process.stderr.read()
        read = subprocess.run(["cat", mounts.point / "file"], capture_output=True, check=True, **nobody)
        assert read.stdout == HELLO
        refused(errno.EACCES, (mounts.point / "file").read_bytes)
        assert mounts.end() == 0 and not mounts.is_mounted()
    finally:
        mounts.clean()
        shutil.rmtree(folder)
