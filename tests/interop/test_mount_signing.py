"""Mounts that sign what is done in them: as it was done there, and nothing that others did."""

import fcntl
import json
import os
import shutil

import pytest

from mounting import HELLO, WAIT_S_MAX, installed, mounts, refused, until  # noqa: F401

SIGN = ("--key", "files", "--sign-key", "names")


@pytest.fixture
def signed(mounts, monkeypatch):
    """A mount whose folder has a manifest."""
    monkeypatch.setenv("XDG_STATE_HOME", str(mounts.folder / "state"))
    mounts.server.done(mounts.who, "key", "create", "ed25519", "--alias", "names")
    sign(mounts)
    return mounts


def sign(mounts, *more):
    mounts.server.done(mounts.who, "file", "manifest", mounts.sealed, "--sign-key", "names", *more)


def wrong(mounts):
    """What is not as it was signed, as (what, path); nothing is known while somebody signs."""
    process = mounts.server.command(mounts.who, "--json", "file", "verify", "--deep", mounts.sealed)
    if b'"busy"' in process.stderr:
        return None
    return [(each["what"], each["path"]) for each in json.loads(process.stdout)["wrong"]]


def step(mounts):
    """What another device's plain folder has once it is in step."""
    words = ("--plain", mounts.plain, "--sealed", mounts.sealed, "--key", "files", "--sign-key", "names")
    mounts.server.done(mounts.who, "sync", "watch", *words, "--once")
    return tree(mounts.plain)


def tree(folder):
    found = (path for path in folder.rglob("*") if path.is_file() and ".keyhearth" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.mark.parametrize("encrypted", [False, True])
def test_what_is_done_is_signed_once_it_rests(encrypted, signed):
    if encrypted:
        signed.server.done(signed.who, "secret", "create", "documents", "--key", "files", "--generate", "32")
        sign(signed, "--encrypt-names", "documents")
    for name in ("kept", "changed", "deleted", "folder/moved", "folder/below/too"):
        (signed.plain / name).parent.mkdir(parents=True, exist_ok=True)
        (signed.plain / name).write_bytes(name.encode())
    step(signed)
    with signed.mounted(*SIGN) as point:
        with open(point / "changed", "ab") as file:
            file.write(b" here")
        (point / "new").write_bytes(b"new")
        os.unlink(point / "deleted")
        (point / "other").mkdir()
        if not encrypted:
            os.rename(point / "folder", point / "other/folder")
        else:
            shutil.move(point / "folder", point / "other/folder")
        os.rename(point / "other/folder/moved", point / "moved")
        # An editor: a new file over the old one.
        (point / ".kept.new").write_bytes(b"kept and saved")
        os.rename(point / ".kept.new", point / "kept")
        until("it is not signed", lambda: wrong(signed) == [])
        (point / "moved").rename(point / "moved again")
        (point / "new").write_bytes(b"newer")
        (point / "empty").touch()
        assert signed.end() == 0
    assert wrong(signed) == []
    assert step(signed) == {
        "kept": b"kept and saved",
        "changed": b"changed here",
        "new": b"newer",
        "empty": b"",
        "moved again": b"folder/moved",
        "other/folder/below/too": b"folder/below/too",
    }


def test_what_others_put_there_is_not_signed(signed):
    theirs = signed.seal("theirs").rename(signed.folder / "theirs.age").read_bytes()
    with signed.mounted(*SIGN) as point:
        for name in ("written", "read", "saved"):
            (point / name).write_bytes(HELLO)
        until("it is not signed", lambda: wrong(signed) == [])
        (signed.sealed / "added.age").write_bytes(theirs)
        os.rename(point / "added", point / "renamed")
        (signed.sealed / "other.age").write_bytes(theirs)
        # After it was written, before it is signed; where it lies, and in its place.
        for name in ("written", "again"):
            (point / name).write_bytes(b"mine")
            sealed = signed.sealed / f"{name}.age"
            sealed.write_bytes(theirs)
        # Another version comes while it is open: what is written is signed under the copy's name.
        with pytest.raises(OSError), open(point / "read", "r+b", buffering=0) as file:
            file.write(b"copy")
            (signed.sealed / "read.age").write_bytes(theirs)
        # And one that is not known is moved away by who saves anew: nobody signed it, and it is in conflict.
        (signed.sealed / "saved.age").write_bytes(theirs)
        (point / ".saved.new").write_bytes(b"saved")
        os.rename(point / ".saved.new", point / "saved")
        assert signed.end() == 0
    [moved] = (path.name for path in signed.sealed.glob("saved (conflict *.age"))
    expected = [("added", "other.age"), ("added", "renamed.age"), ("added", moved)]
    expected += [("conflict", "saved.age")]
    expected += [("changed", f"{name}.age") for name in ("again", "read", "written")]
    found = wrong(signed)
    assert sorted(found) == sorted(expected)
    assert [path for path in signed.sealed.glob("read (conflict *.age")]


def test_a_version_that_another_device_signed_stays_signed(signed):
    with signed.mounted(*SIGN) as point:
        (point / "file.txt").write_bytes(b"first")
        until("it is not signed", lambda: wrong(signed) == [])
        step(signed)
        (signed.plain / "file.txt").write_bytes(b"from there")
        with pytest.raises(OSError), open(point / "file.txt", "r+b", buffering=0) as file:
            file.write(b"from here")
            step(signed)
        assert signed.end() == 0
    assert wrong(signed) == []
    found = step(signed)
    assert found["file.txt"] == b"from there" and sorted(found.values()) == [b"from here", b"from there"]


def test_what_can_not_be_signed_is_told_and_tried_again(signed):
    with signed.mounted(*SIGN) as point:
        signed.server.done(signed.who, "key", "suspend", "names", "--reason", "test")
        (point / "file").write_bytes(HELLO)
        until("it is not told", lambda: "not signed, and tried again until it is" in signed.said())
        assert signed.opened(signed.sealed / "file.age") == HELLO
        os.rename(point / "file", point / "renamed")
        signed.server.done(signed.who, "key", "resume", "names")
        until("it is not signed", lambda: "what was done is signed" in signed.said())
        assert wrong(signed) == []
        signed.server.done(signed.who, "key", "suspend", "names", "--reason", "test")
        (point / "last").write_bytes(HELLO)
        assert signed.end() == 1
        assert "what was done to these files is not signed (last.age)" in signed.said()
    signed.server.done(signed.who, "key", "resume", "names")
    assert wrong(signed) == [("added", "last.age")]


def test_another_command_at_the_manifest_is_waited_for(signed):
    [lock] = (signed.folder / "state").rglob("folders/*/keyhearth.lock")
    with signed.mounted(*SIGN) as point:
        with open(lock) as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            (point / "file").write_bytes(HELLO)
            signed.process.terminate()
            until("it is mounted", lambda: not signed.is_mounted())
        assert signed.process.wait(timeout=WAIT_S_MAX) == 0
    assert wrong(signed) == []


def test_without_a_manifest_or_a_key_to_write_nothing_is_mounted(mounts, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(mounts.folder / "state"))
    mounts.server.done(mounts.who, "key", "create", "ed25519", "--alias", "names")
    assert mounts.server.refused(mounts.who, "file", "mount", mounts.sealed, mounts.point, *SIGN) == "no_manifest"
    command = mounts.server.command(mounts.who, "file", "mount", mounts.sealed, mounts.point, "--sign-key", "names")
    assert command.returncode == 2 and b"--key" in command.stderr
    sign(mounts)
    shutil.rmtree(mounts.sealed / ".keyhearth")
    assert mounts.server.refused(mounts.who, "file", "mount", mounts.sealed, mounts.point, *SIGN) == "manifest_missing"
