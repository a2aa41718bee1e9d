"""Folders of sealed files that programs write through a mount: nothing half, nothing in clear, and nothing lost."""

import concurrent.futures
import contextlib
import errno
import json
import os
import pathlib
import random
import shutil
import signal
import sqlite3
import subprocess
import sys

import pytest

from mounting import HELLO, Gate, installed, mounts, refused, until  # noqa: F401

CHUNK = 64 * 1024
WRITE = ("--key", "files")


def copies(mounts, name):
    """The sealed copies of a file that was in conflict."""
    stem, _, extension = name.partition(".")
    return sorted(mounts.sealed.glob(f"{stem} (conflict *).{extension}.age"))


def file_id(mounts, sealed):
    return json.loads(mounts.server.done(mounts.who, "--json", "file", "inspect", sealed))["file"]


def written_whole(path, content):
    """Writes a file anew, and closes it once all is written."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        os.write(file, content)
    finally:
        os.close(file)


def test_files_are_written_as_programs_write(mounts):
    mounts.seal("old", b"old")
    with mounts.mounted(*WRITE) as point:
        written_whole(point / "new", b"new")
        with open(point / "old", "ab") as file:
            file.write(b" and more")
        with open(point / "grown", "wb") as file:
            for number in range(5):
                file.seek(number * CHUNK + number)
                file.write(b"x" * (number + 1))
        with open(point / "old", "r+b") as file:
            file.seek(4)
            file.write(b"AND")
        os.truncate(point / "grown", 3 * CHUNK)
        expected = bytearray(3 * CHUNK)
        for number in range(3):
            expected[number * CHUNK + number :][: number + 1] = b"x" * (number + 1)
            expected[number * CHUNK + number : number * CHUNK + 2 * number + 1] = b"x" * (number + 1)
        expected = bytes(expected)
        for name, content in (("new", b"new"), ("old", b"old AND more"), ("grown", expected)):
            assert (point / name).read_bytes() == content, name
            assert (point / name).stat().st_size == len(content)
            assert mounts.opened(mounts.sealed / f"{name}.age") == content, name
        assert sorted(os.listdir(point)) == ["grown", "new", "old"]
        assert sorted(os.listdir(mounts.sealed)) == ["grown.age", "new.age", "old.age"]
        assert (mounts.sealed / "new.age").stat().st_mode & 0o777 == 0o600


def test_editors_and_trees_of_files_are_served(mounts):
    mounts.seal("notes.txt", b"first")
    tree = mounts.plain / "tree"
    for number in range(30):
        (tree / str(number % 4)).mkdir(parents=True, exist_ok=True)
        (tree / str(number % 4) / str(number)).write_bytes(random.Random(number).randbytes(number * 3000))
    with mounts.mounted(*WRITE) as point:
        # To a file beside it, and over it.
        written_whole(point / ".notes.swp", b"second")
        os.rename(point / ".notes.swp", point / "notes.txt")
        assert mounts.opened(mounts.sealed / "notes.txt.age") == b"second"
        # The old one aside, a new one in its place.
        os.rename(point / "notes.txt", point / "notes.txt~")
        written_whole(point / "notes.txt", b"third")
        os.unlink(point / "notes.txt~")
        assert mounts.opened(mounts.sealed / "notes.txt.age") == b"third"
        assert os.listdir(mounts.sealed) == ["notes.txt.age"]
        subprocess.run(["cp", "-rp", tree, point / "tree"], check=True)
        assert subprocess.run(["diff", "-r", tree, point / "tree"]).returncode == 0
        times = [path.stat().st_mtime for path in (tree / "1/5", point / "tree/1/5", mounts.sealed / "tree/1/5.age")]
        assert times[1:] == times[:1] * 2
        os.rename(point / "tree", point / "wood")
        os.rename(point / "wood/1/5", point / "five")
        assert (point / "five").read_bytes() == (tree / "1/5").read_bytes()
        refused(errno.ENOTEMPTY, lambda: os.rmdir(point / "wood"))
        shutil.rmtree(point / "wood")
        assert sorted(os.listdir(mounts.sealed)) == ["five.age", "notes.txt.age"]


def test_names_that_are_not_to_be(mounts):
    mounts.seal("file")
    (mounts.sealed / ".keyhearth").mkdir()
    with mounts.mounted(*WRITE) as point:
        assert os.listdir(point) == ["file"]
        refused(errno.EPERM, lambda: os.mkdir(point / ".keyhearth"))
        refused(errno.EPERM, lambda: written_whole(point / ".keyhearth", b""))
        refused(errno.EPERM, lambda: os.rename(point / "file", point / ".keyhearth"))
        refused(errno.EPERM, lambda: os.symlink("file", point / "link"))
        refused(errno.EPERM, lambda: os.link(point / "file", point / "link"))
        refused((errno.EPERM, errno.ENOTSUP), lambda: os.mkfifo(point / "pipe"))
        refused(errno.ENAMETOOLONG, lambda: written_whole(point / ("n" * 252), b""))
        refused(errno.ENAMETOOLONG, lambda: os.rename(point / "file", point / ("n" * 252)))
        written_whole(point / ("n" * 251), b"just fits")
        assert (point / ("n" * 251)).read_bytes() == b"just fits"
        refused(errno.EEXIST, lambda: os.mkdir(point / "file"))
        refused(errno.EEXIST, lambda: os.open(point / "file", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        (point / "folder").mkdir()
        refused((errno.EISDIR, errno.EPERM), lambda: os.unlink(point / "folder"))
        refused(errno.ENOTDIR, lambda: os.rmdir(point / "file"))
        refused(errno.EPERM, lambda: os.chown(point / "file", 12345, -1))
        os.chmod(point / "file", 0o644)
        assert (point / "file").read_bytes() == HELLO


def test_a_file_that_is_changed_stays_shared_and_one_that_is_written_anew_is_another(mounts):
    sealed = mounts.seal("file", b"first")
    colleague = mounts.server.issue(mounts.who, "colleague", mounts.folder / "colleague")
    mounts.server.done(mounts.who, "file", "share", sealed, "--with", mounts.server.id_of(colleague))

    def seen_by_colleague():
        return mounts.server.command(colleague, "file", "open", sealed, "--output", "-")

    before = file_id(mounts, sealed)
    with mounts.mounted(*WRITE) as point:
        keys = {sealed.read_bytes()[:600]}
        for number in range(3):
            with open(point / "file", "ab") as file:
                file.write(b" more")
            keys.add(sealed.read_bytes()[:600])
        assert seen_by_colleague().stdout == b"first more more more"
        assert len(keys) == 4, "each content has a key of its own"
        assert file_id(mounts, sealed) == before
        written_whole(point / "file", b"secret")
        assert file_id(mounts, sealed) != before
        assert mounts.opened(sealed) == b"secret"
        assert seen_by_colleague().returncode == 1


def test_what_others_can_open_or_is_of_another_kind_is_only_read(mounts):
    escrow = mounts.folder / "escrow"
    subprocess.run(["age-keygen", "-o", escrow], check=True, capture_output=True)
    recipient = next(line.split()[-1] for line in escrow.read_text().splitlines() if "public key" in line)
    mounts.seal("escrowed", HELLO, "--recipient", recipient)
    mounts.seal("held", HELLO, "--held")
    mounts.seal("esdk", HELLO, "--format", "esdk")
    mounts.server.done(mounts.who, "key", "create", "aes-256", "--alias", "others")
    mounts.server.done(mounts.who, "file", "rekey", mounts.seal("rekeyed"), "--key", "others")
    sealed = {path.name: path.read_bytes() for path in mounts.sealed.iterdir()}
    with mounts.mounted(*WRITE) as point:
        written_whole(point / "other", b"other")
        for name in ("escrowed", "held", "esdk", "rekeyed"):
            for mode in ("r+b", "ab", "wb"):
                refused(errno.EPERM, lambda: open(point / name, mode))
            refused(errno.EPERM, lambda: os.truncate(point / name, 0))
            refused(errno.EPERM, lambda: os.rename(point / "other", point / name))
            assert (point / name).read_bytes() == HELLO
        assert {name: (mounts.sealed / name).read_bytes() for name in sealed} == sealed
        assert "only files of age that are for the mount's key alone are written" in mounts.said()
        os.rename(point / "held", point / "renamed")
        assert (point / "renamed").read_bytes() == HELLO
        os.unlink(point / "renamed")
        written_whole(point / "held", b"anew")
        assert mounts.opened(mounts.sealed / "held.age") == b"anew"


def test_who_may_not_open_or_seal_writes_nothing(mounts):
    sealed = mounts.seal("file", b"old")
    with mounts.mounted(*WRITE) as point:
        mounts.server.done(mounts.who, "key", "suspend", "files", "--reason", "test")
        refused(errno.EACCES, lambda: open(point / "file", "r+b"))
        refused(errno.EACCES, lambda: open(point / "file", "wb"))
        refused(errno.EACCES, lambda: open(point / "new", "wb"))
        assert os.listdir(mounts.sealed) == ["file.age"]
        mounts.server.done(mounts.who, "key", "resume", "files")
        assert mounts.opened(sealed) == b"old"
    mounts.server.done(mounts.who, "key", "suspend", "files", "--reason", "test")
    command = mounts.server.command(mounts.who, "file", "mount", mounts.sealed, mounts.point, *WRITE)
    assert command.returncode == 1 and not mounts.is_mounted()


@pytest.mark.parametrize("how", ["suspended", "gone"])
def test_what_the_server_does_not_let_be_saved_waits_until_it_does(how, mounts):
    sealed = mounts.seal("file", b"old")
    gate = Gate(mounts.server.url)
    who = mounts.server.identity(mounts.who.certificate, mounts.who.key)
    who.url = gate.url
    with mounts.mounted(*WRITE, "--lease", "1h", who=who) as point:
        file = os.open(point / "file", os.O_RDWR)
        os.pwrite(file, b"new", 0)
        new = os.open(point / "new", os.O_RDWR | os.O_CREAT)
        os.write(new, HELLO)
        before = sealed.read_bytes()
        if how == "gone":
            gate.shut()
        else:
            mounts.server.done(mounts.who, "key", "suspend", "files", "--reason", "test")
        refused(errno.EIO, lambda: os.fsync(file))
        refused(errno.EIO, lambda: os.close(file))
        refused(errno.EIO, lambda: os.close(new))
        assert sealed.read_bytes() == before
        assert (point / "file").stat().st_size == 3 and (point / "new").stat().st_size == len(HELLO)
        assert "file: not saved, and tried again until it is" in mounts.said()
        if how == "gone":
            gate.open()
        else:
            mounts.server.done(mounts.who, "key", "resume", "files")
        until("it is not saved", lambda: mounts.said().count(": saved") == 2)
        assert mounts.opened(sealed) == b"new" == (point / "file").read_bytes()
        assert mounts.opened(mounts.sealed / "new.age") == HELLO
        assert mounts.end() == 0


def test_what_could_not_be_saved_at_the_end_is_named(mounts):
    sealed = mounts.seal("file", b"old")
    with mounts.mounted(*WRITE) as point:
        file = os.open(point / "file", os.O_RDWR)
        os.pwrite(file, b"new", 0)
        mounts.server.done(mounts.who, "key", "suspend", "files", "--reason", "test")
        refused(errno.EIO, lambda: os.close(file))
        assert mounts.end() == 1
        assert "what was written last to these files is lost (file)" in mounts.said()
    mounts.server.done(mounts.who, "key", "resume", "files")
    assert mounts.opened(sealed) == b"old"


def test_a_version_that_came_meanwhile_stays_and_what_was_written_lies_beside_it(mounts):
    sealed = mounts.seal("file.txt", b"old")
    newer = mounts.seal("newer", b"newer").rename(mounts.folder / "newer.age").read_bytes()

    def synchronised(content):
        brought = mounts.sealed / ".brought"
        brought.write_bytes(content)
        brought.rename(sealed)

    with mounts.mounted(*WRITE) as point:
        for number, way in enumerate((synchronised, sealed.write_bytes), 1):
            file = os.open(point / "file.txt", os.O_RDWR)
            os.pwrite(file, b"mine%d" % number, 0)
            way(newer)
            refused(errno.EIO, lambda: os.fsync(file))
            assert sealed.read_bytes() == newer and len(copies(mounts, "file.txt")) == number
            # What is written from now on goes to the copy.
            os.pwrite(file, b"!", 5)
            os.close(file)
            contents = sorted(mounts.opened(copy)[:6] for copy in copies(mounts, "file.txt"))
            assert contents == [b"mine%d!" % each for each in range(1, number + 1)]
            assert sealed.read_bytes() == newer and (point / "file.txt").read_bytes() == b"newer"
        assert mounts.said().count("another version came meanwhile and stays") == 2
        # It was deleted meanwhile: what was written is there.
        with open(point / "file.txt", "r+b") as file:
            file.write(b"mine4")
            sealed.unlink()
        assert mounts.opened(sealed) == b"mine4"
        # A new file where one came.
        file = os.open(point / "other.txt", os.O_WRONLY | os.O_CREAT)
        os.write(file, b"mine")
        (mounts.sealed / "other.txt.age").write_bytes(newer)
        refused(errno.EIO, lambda: os.close(file))
        assert [mounts.opened(copy) for copy in copies(mounts, "other.txt")] == [b"mine"]


def test_attributes_that_change_are_no_other_version(mounts):
    sealed = mounts.seal("file", b"old")
    with mounts.mounted(*WRITE) as point:
        with open(point / "file", "r+b") as file:
            file.write(b"new")
            sealed.chmod(0o640)
        assert mounts.opened(sealed) == b"new" and sealed.stat().st_mode & 0o777 == 0o640
        with open(point / "file", "r+b") as file:
            os.utime(point / "file", (1e9, 1e9))
            file.write(b"NEW")
            file.flush()
            os.utime(point / "file", (2e9, 2e9))
        with open(point / "file", "r+b") as file:
            sealed.chmod(0o600)
            os.utime(point / "file", (3e9, 3e9))
            os.rename(point / "file", point / "moved")
            os.rename(point / "moved", point / "file")
            file.write(b"NEW")
            file.flush()
            os.utime(point / "file", (2e9, 2e9))
        assert mounts.opened(sealed) == b"NEW" and sealed.stat().st_mtime == 2e9
        assert copies(mounts, "file") == []


def test_a_version_that_came_since_a_file_was_opened_is_kept_when_another_is_renamed_over_it(mounts):
    sealed = mounts.seal("file.txt", b"old")
    newer = mounts.seal("newer", b"newer")
    with mounts.mounted(*WRITE) as point:
        assert (point / "file.txt").read_bytes() == b"old"
        newer.rename(sealed)
        written_whole(point / "saved", b"mine")
        os.rename(point / "saved", point / "file.txt")
        assert mounts.opened(sealed) == b"mine"
        assert [mounts.opened(copy) for copy in copies(mounts, "file.txt")] == [b"newer"]
        # What was read or written here is replaced by who means it.
        written_whole(point / "saved", b"mine, too")
        os.rename(point / "saved", point / "file.txt")
        assert mounts.opened(sealed) == b"mine, too" and len(copies(mounts, "file.txt")) == 1


def test_what_is_renamed_or_removed_while_it_is_written(mounts):
    mounts.seal("file", b"old")
    mounts.seal("other", b"other")
    with mounts.mounted(*WRITE) as point:
        (point / "folder").mkdir()
        file = os.open(point / "file", os.O_RDWR)
        os.pwrite(file, b"new", 0)
        os.rename(point / "file", point / "folder/renamed")
        os.rename(point / "folder", point / "moved")
        os.pwrite(file, b"!", 3)
        os.close(file)
        assert mounts.opened(mounts.sealed / "moved/renamed.age") == b"new!"
        file = os.open(point / "other", os.O_RDWR)
        os.pwrite(file, b"never to be seen", 0)
        os.unlink(point / "other")
        assert os.pread(file, 100, 0) == b"never to be seen" and os.fstat(file).st_size == 16
        os.close(file)
        refused(errno.ENOENT, (point / "other").stat)
        file = os.open(point / "third", os.O_RDWR | os.O_CREAT)
        os.write(file, b"replaced")
        written_whole(point / "fourth", b"fourth")
        os.rename(point / "fourth", point / "third")
        os.close(file)
        assert (point / "third").read_bytes() == b"fourth"
        assert sorted(path.name for path in mounts.sealed.rglob("*")) == ["moved", "renamed.age", "third.age"]
        assert copies(mounts, "third") == []


def test_half_of_a_file_is_not_saved_while_somebody_writes(mounts):
    sealed = mounts.seal("file", b"old")
    before = sealed.read_bytes()
    with mounts.mounted(*WRITE) as point:
        with open(point / "file", "wb", buffering=0) as file:
            # It has the file from its parent, who closes it first.
            writer = subprocess.Popen(
                [sys.executable, "-c", "import os; os.write(1, b'half'); os.read(0, 1); os.write(1, b' and half')"],
                stdin=subprocess.PIPE,
                stdout=file,
            )
        until("nothing was written", lambda: (point / "file").stat().st_size == 4)
        assert sealed.read_bytes() == before
        writer.communicate(b"x")
        until("it is not saved", lambda: sealed.read_bytes() != before)
        assert mounts.opened(sealed) == b"half and half"


def test_who_closed_a_file_finds_it_saved_though_another_keeps_it_open(mounts):
    sealed = mounts.seal("file", b"old")
    before = sealed.read_bytes()
    with mounts.mounted(*WRITE) as point:
        first = os.open(point / "file", os.O_WRONLY)
        os.pwrite(first, b"OLD", 0)
        with open(point / "file", "ab") as second:
            second.write(b" and more")
        until("it is not saved", lambda: sealed.read_bytes() != before)
        assert mounts.opened(sealed) == b"OLD and more"
        os.close(first)


def test_what_is_not_saved_replaces_nothing(mounts):
    sealed = mounts.seal("file", b"old")
    with mounts.mounted(*WRITE) as point:
        # The program ignores that it was not saved.
        new = os.open(point / "new", os.O_WRONLY | os.O_CREAT)
        os.write(new, b"new")
        mounts.server.done(mounts.who, "key", "suspend", "files", "--reason", "test")
        refused(errno.EIO, lambda: os.close(new))
        before = sealed.read_bytes()
        refused(errno.EIO, lambda: os.rename(point / "new", point / "file"))
        assert sealed.read_bytes() == before and (point / "new").stat().st_size == 3
        mounts.server.done(mounts.who, "key", "resume", "files")
        os.rename(point / "new", point / "file")
        assert mounts.opened(sealed) == b"new"
        # It is not closed yet, and then there is a crash.
        newer = os.open(point / "newer", os.O_WRONLY | os.O_CREAT)
        os.write(newer, b"newer")
        os.rename(point / "newer", point / "file")
        mounts.end(signal.SIGKILL)
        mounts.clean()
        with contextlib.suppress(OSError):
            os.close(newer)
    assert mounts.opened(sealed) == b"newer" and os.listdir(mounts.sealed) == ["file.age"]


def test_without_the_server_the_end_is_not_long_and_names_all(mounts):
    gate = Gate(mounts.server.url)
    who = mounts.server.identity(mounts.who.certificate, mounts.who.key)
    who.url = gate.url
    with mounts.mounted(*WRITE, who=who) as point:
        files = [os.open(point / str(number), os.O_WRONLY | os.O_CREAT) for number in range(5)]
        for file in files:
            os.write(file, HELLO)
        gate.shut()
        assert mounts.end() == 1
        lost = mounts.said().split("is lost (")[1].split(")")[0]
        assert sorted(lost.split(", ")) == [str(number) for number in range(5)]
        for file in files:
            with contextlib.suppress(OSError):
                os.close(file)


def test_what_two_programs_write_by_one_opening_is_saved_when_both_are_done(mounts):
    sealed = mounts.seal("file", b"old")
    before = sealed.read_bytes()
    with mounts.mounted(*WRITE) as point:
        with open(point / "file", "wb", buffering=0) as file:
            file.write(b"parent")
            script = "import os; os.write(1, b' and'); os.read(0, 1); os.write(1, b' child')"
            child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=file)
            until("it does not write", lambda: (point / "file").stat().st_size == 10)
        assert sealed.read_bytes() == before
        child.communicate(b"x")
        until("it is not saved", lambda: sealed.read_bytes() != before)
        assert mounts.opened(sealed) == b"parent and child"


def test_killed_it_leaves_the_version_before_and_nothing_in_clear(mounts):
    marked = b"a secret sentence that is nowhere on the disk. " * 40_000
    sealed = mounts.seal("file", marked[::-1])
    shutil.rmtree(mounts.plain)
    before = sealed.read_bytes()
    mounts.start(*WRITE)
    file = os.open(mounts.point / "file", os.O_RDWR)
    os.pwrite(file, marked, 0)
    new = os.open(mounts.point / "new", os.O_RDWR | os.O_CREAT)
    os.write(new, marked)
    # What it has open, with and without a name.
    own = [path for path in pathlib.Path(f"/proc/{mounts.process.pid}/fd").iterdir() if path.exists()]
    scratches = [path for path in own if path.stat().st_size > len(marked) - CHUNK]
    contents = [path.read_bytes() for path in scratches if path.is_file()]
    assert len(contents) >= 2
    assert not any(marked[:40] in content or marked[::-1][:40] in content for content in contents)
    mounts.end(signal.SIGKILL)
    mounts.clean()
    for descriptor in (file, new):
        with contextlib.suppress(OSError):
            os.close(descriptor)
    assert sealed.read_bytes() == before
    assert mounts.opened(sealed) == marked[::-1]
    assert mounts.opened(mounts.sealed / "new.age") == b""
    for path in mounts.sealed.rglob("*"):
        assert marked[:40] not in path.read_bytes()


def test_signals_save_what_is_open(mounts):
    sealed = mounts.seal("file", b"old")
    for how in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        mounts.start(*WRITE)
        file = os.open(mounts.point / "file", os.O_RDWR)
        os.pwrite(file, how.name.encode(), 0)
        assert mounts.end(how) == 0
        with contextlib.suppress(OSError):
            os.close(file)
        assert mounts.opened(sealed)[: len(how.name)] == how.name.encode()
        mounts.clean()


def test_a_full_disk_loses_nothing(mounts):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "none", mounts.sealed], check=True)
    try:
        old, new = random.Random(1).randbytes(1 << 20), random.Random(2).randbytes(6 << 20)
        sealed = mounts.seal("file", old)
        before = sealed.read_bytes()
        with mounts.mounted(*WRITE) as point:
            file = os.open(point / "file", os.O_RDWR)
            for at in range(0, len(new), 1 << 20):
                assert os.pwrite(file, new[at : at + (1 << 20)], at) == 1 << 20
            refused(errno.ENOSPC, lambda: os.fsync(file))
            refused(errno.ENOSPC, lambda: os.close(file))
            assert sealed.read_bytes() == before and (point / "file").read_bytes() == new
            # Nor is there room for what is written first.
            other = os.open(point / "other", os.O_WRONLY | os.O_CREAT)

            def filled():
                for at in range(0, len(new), 1 << 20):
                    os.pwrite(other, new[:1 << 20], at)

            refused(errno.ENOSPC, filled)
            os.unlink(point / "other")
            os.close(other)
            subprocess.run(["mount", "-o", "remount,size=30m", mounts.sealed], check=True)
            until("it is not saved", lambda: ": saved" in mounts.said())
            assert mounts.opened(sealed) == new
            assert os.listdir(mounts.sealed) == ["file.age"]
    finally:
        subprocess.run(["umount", "-l", mounts.sealed], check=True)


def test_long_files_take_little_memory(mounts):
    size, part = 100 << 20, random.Random(1).randbytes(1 << 20)
    with mounts.mounted(*WRITE) as point:
        with open(mounts.plain / "big", "wb") as file:
            for number in range(size >> 20):
                file.write(number.to_bytes(4, "big") + part[4:])
        before = mounts.resident()
        subprocess.run(["cp", mounts.plain / "big", point / "big"], check=True)
        subprocess.run(["dd", f"if={mounts.plain / 'big'}", f"of={point / 'big'}", "bs=1M", "conv=notrunc"], check=True)
        assert mounts.resident() - before < 64 << 20
        assert subprocess.run(["cmp", mounts.plain / "big", point / "big"]).returncode == 0
    out = mounts.folder / "out"
    mounts.server.done(mounts.who, "file", "open", mounts.sealed / "big.age", "--output", out)
    assert subprocess.run(["cmp", mounts.plain / "big", out]).returncode == 0


def test_a_database_is_kept_in_it(mounts):
    with mounts.mounted(*WRITE) as point:
        first, second = (sqlite3.connect(point / "db", timeout=60) for _ in range(2))
        with first:
            first.execute("create table t (n integer primary key, value blob)")
        for number in range(12):
            with contextlib.suppress(ZeroDivisionError), (first, second)[number % 2] as connection:
                connection.execute("insert into t values (?, ?)", (number, bytes([number]) * 5000))
                if number % 5 == 4:
                    raise ZeroDivisionError
        for connection in (first, second):
            assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
            assert connection.execute("select count(*) from t").fetchall() == [(10,)]
            connection.close()
        assert os.listdir(point) == ["db"]
    copy = mounts.folder / "copy.db"
    copy.write_bytes(mounts.opened(mounts.sealed / "db.age"))
    assert sqlite3.connect(copy).execute("select count(*), sum(length(value)) from t").fetchall() == [(10, 50_000)]


def test_many_write_at_once(mounts):
    def work(number):
        draw = random.Random(number)
        for _ in range(10):
            content = draw.randbytes(draw.randrange(3 * CHUNK))
            written_whole(point / f"{number}.new", content)
            os.rename(point / f"{number}.new", point / str(number))
            with open(point / str(number), "ab", buffering=0) as file:
                file.write(b"more")
                os.fsync(file.fileno())
            assert (point / str(number)).read_bytes() == content + b"more"
            with open(point / "shared", "ab", buffering=0) as file:
                file.write(b"%d\n" % number)
            os.listdir(point)

    with mounts.mounted(*WRITE) as point, concurrent.futures.ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(work, number) for number in range(6)]:
            done.result()
    assert sorted(mounts.opened(mounts.sealed / "shared.age").split()) == sorted(b"%d" % (n % 6) for n in range(60))
    assert sorted(os.listdir(mounts.sealed)) == [*(f"{number}.age" for number in range(6)), "shared.age"]


class Twins:
    """The same done in the mount and in a plain folder, whose answers must be the same."""

    def __init__(self, *folders):
        self.folders, self.files = folders, []

    def do(self, action):
        answers = []
        for at, folder in enumerate(self.folders):
            try:
                answers.append(action(folder, at))
            except OSError as error:
                answers.append(errno.errorcode[error.errno])
        assert answers[0] == answers[1], answers
        return answers[0]

    def open(self, name, flags):
        opened = []
        answer = self.do(lambda folder, _: opened.append(os.open(folder / name, flags, 0o600)))
        if answer is None:
            self.files.append(opened)

    def close(self, number):
        for file in self.files.pop(number):
            os.close(file)

    def tree(self, folder):
        found = {}
        for path in folder.rglob("*"):
            found[str(path.relative_to(folder))] = path.read_bytes() if path.is_file() else None
        return found


@pytest.mark.parametrize("seed", range(3))
def test_random_operations_are_those_of_a_plain_folder(seed, mounts):
    draw = random.Random(seed)
    names = ["a", "b", "c", "folder/a", "folder/b"]

    def place():
        return draw.choice([0, 1, CHUNK - 1, CHUNK, CHUNK + 1, draw.randrange(5 * CHUNK)])

    with mounts.mounted(*WRITE) as point:
        twins = Twins(point, mounts.plain)
        for _ in range(250):
            name, other = draw.choice(names), draw.choice(names)
            files, length = twins.files, draw.choice([1, 100, CHUNK, 2 * CHUNK + 7])
            at, content = place(), draw.randbytes(length)
            step = draw.choice("ooowwwwwrrrtffccnuumds")
            number = draw.randrange(len(files)) if files else 0
            if step in "wrtfcs" and not files:
                continue
            if step == "o" and len(files) < 5:
                extra = draw.choice([0, os.O_CREAT, os.O_CREAT, os.O_CREAT | os.O_TRUNC, os.O_CREAT | os.O_APPEND])
                twins.open(name, os.O_RDWR | extra)
            elif step == "w":
                twins.do(lambda _, which: os.pwrite(files[number][which], content, at))
            elif step == "r":
                twins.do(lambda _, which: os.pread(files[number][which], length, at))
            elif step == "t":
                twins.do(lambda _, which: os.ftruncate(files[number][which], at))
            elif step == "f":
                twins.do(lambda _, which: os.fsync(files[number][which]))
            elif step == "s":
                twins.do(lambda _, which: os.fstat(files[number][which]).st_size)
            elif step == "c":
                twins.close(number)
            elif step == "n":
                twins.do(lambda folder, _: os.rename(folder / name, folder / other))
            elif step == "u":
                twins.do(lambda folder, _: os.unlink(folder / name))
            elif step == "m":
                twins.do(lambda folder, _: os.mkdir(folder / "folder"))
            elif step == "d":
                twins.do(lambda folder, _: sorted(os.listdir(folder)))
            twins.do(lambda folder, _: (folder / name).stat().st_size)
        while twins.files:
            twins.close(0)
        assert twins.tree(point) == twins.tree(mounts.plain)
        assert mounts.end() == 0
    out = mounts.folder / "out"
    mounts.server.done(mounts.who, "file", "open", mounts.sealed, "--output", out)
    opened = twins.tree(out)
    assert {name: content for name, content in twins.tree(mounts.plain).items() if content is not None} == {
        name: content for name, content in opened.items() if content is not None
    }
