"""Mounts of folders whose names are encrypted: plain in the mount, and never where they lie."""

import errno
import json
import os
import shutil

import pytest

from mounting import HELLO, Gate, installed, mounts, refused, until  # noqa: F401

WRITE = ("--key", "files")


@pytest.fixture
def encrypted(mounts, monkeypatch):
    """A mount whose folder has encrypted names from its beginning."""
    monkeypatch.setenv("XDG_STATE_HOME", str(mounts.folder / "state"))
    who = mounts.who
    mounts.server.done(who, "key", "create", "ed25519", "--alias", "names")
    mounts.server.done(who, "secret", "create", "documents", "--key", "files", "--generate", "32")
    mounts.server.done(who, "file", "manifest", mounts.sealed, "--sign-key", "names", "--encrypt-names", "documents")
    return mounts


def step(mounts):
    """Keeps a plain folder in step with it, as another device does; returns what that has."""
    words = ("--plain", mounts.plain, "--sealed", mounts.sealed, "--key", "files", "--sign-key", "names")
    mounts.server.done(mounts.who, "sync", "watch", *words, "--once")
    found = (path for path in mounts.plain.rglob("*") if path.is_file() and ".keyhearth" not in path.parts)
    return {str(path.relative_to(mounts.plain)): path.read_bytes() for path in found}


def signed(mounts):
    mounts.server.done(mounts.who, "file", "manifest", mounts.sealed, "--sign-key", "names")


def names(mounts):
    """What the sealed files are called; all of them must be called something."""
    listed = json.loads(mounts.server.done(mounts.who, "--json", "file", "names", mounts.sealed))
    return sorted(entry["name"] for entry in listed)


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_another_device_sealed_is_read_by_its_names(encrypted):
    contents = {"reports/june.pdf": b"june", "reports/2026/july.pdf": b"july", "notes": b"notes", "ä/ö": "ü".encode()}
    for name, content in contents.items():
        (encrypted.plain / name).parent.mkdir(parents=True, exist_ok=True)
        (encrypted.plain / name).write_bytes(content)
    step(encrypted)
    # Names that are not of the folder's secret are not shown, nor what lies where it was not encrypted for.
    encrypted.seal("clear")
    other = encrypted.sealed / "moved.age"
    shutil.copy(next(path for path in encrypted.sealed.iterdir() if path.suffix == ".age"), other)
    folder = next(path for path in encrypted.sealed.iterdir() if path.is_dir() and path.name != ".keyhearth")
    other.rename(folder / next(path for path in encrypted.sealed.glob("*.age")).name)
    with encrypted.mounted() as point:
        assert tree(point) == contents
        assert sorted(os.listdir(point)) == ["notes", "reports", "ä"]
        refused(errno.ENOENT, (point / "clear").read_bytes)


def test_what_is_written_is_called_so_on_other_devices(encrypted):
    with encrypted.mounted(*WRITE) as point:
        (point / "reports/2026").mkdir(parents=True)
        (point / "reports/2026/june.txt").write_bytes(b"june")
        (point / "notes.txt").write_bytes(b"first")
        os.rename(point / "notes.txt", point / "reports/notes.txt")
        (point / ".notes.new").write_bytes(b"second")
        os.rename(point / ".notes.new", point / "reports/notes.txt")
        (point / "gone").write_bytes(HELLO)
        os.unlink(point / "gone")
        with open(point / "reports/2026/june.txt", "ab") as file:
            file.write(b" and more")
        # Empty folders are renamed, others are copied by who moves them.
        (point / "empty").mkdir()
        os.rename(point / "empty", point / "void")
        (point / "other").mkdir()
        os.rename(point / "void", point / "other")
        refused(errno.EXDEV, lambda: os.rename(point / "reports", point / "papers"))
        refused(errno.ENOTEMPTY, lambda: os.rename(point / "other", point / "reports"))
        shutil.move(point / "reports", point / "papers")
        expected = {"papers/2026/june.txt": b"june and more", "papers/notes.txt": b"second"}
        assert tree(point) == expected and sorted(os.listdir(point)) == ["other", "papers"]
        refused(errno.ENAMETOOLONG, lambda: (point / ("n" * 145)).write_bytes(b""))
        refused(errno.ENAMETOOLONG, lambda: (point / ("n" * 145)).mkdir())
        refused(errno.EINVAL, lambda: (point / "a\nb").write_bytes(b""))
        refused(errno.EPERM, lambda: (point / ".keyhearth").mkdir())
        expected["n" * 144] = b"just fits"
        (point / ("n" * 144)).write_bytes(b"just fits")
        # A version that comes meanwhile: the copy's name is encrypted, too.
        with pytest.raises(OSError), open(point / "papers/notes.txt", "r+b", buffering=0) as file:
            file.write(b"mine!!")
            sealed = next(path for path in encrypted.sealed.rglob("*.age") if encrypted.opened(path) == b"second")
            sealed.unlink()
            shutil.copy(encrypted.seal("newer").rename(encrypted.folder / "newer.age"), sealed)
        expected["papers/notes.txt"] = HELLO
        copy = next(name for name in tree(point) if "conflict" in name)
        expected[copy] = b"mine!!"
        assert copy.startswith("papers/notes (conflict ") and tree(point) == expected
        assert encrypted.end() == 0
    on_disk = [path.name for path in encrypted.sealed.rglob("*") if ".keyhearth" not in path.parts]
    assert not [name for name in on_disk if not set(name.removesuffix(".age")) <= set("0123456789abcdefghijklmnopqrstuv")]
    assert names(encrypted) == sorted(expected)
    shutil.rmtree(encrypted.plain)
    encrypted.plain.mkdir()
    signed(encrypted)
    assert step(encrypted) == expected


def test_without_the_secret_or_for_a_part_of_the_folder_nothing_is_mounted(encrypted):
    with encrypted.mounted(*WRITE) as point:
        (point / "folder").mkdir()
        (point / "folder/file").write_bytes(HELLO)
    part = next(path for path in encrypted.sealed.iterdir() if path.name != ".keyhearth")
    server, who = encrypted.server, encrypted.who
    assert server.refused(who, "file", "mount", part, encrypted.point) == "part_of_folder"
    manifests = (encrypted.sealed / ".keyhearth").rename(encrypted.folder / "manifests")
    assert server.refused(who, "file", "mount", part, encrypted.point, *WRITE) == "part_of_folder"
    manifests.rename(encrypted.sealed / ".keyhearth")
    server.done(who, "secret", "create", "documents", "--key", "files", "--generate", "32", "--replace")
    assert server.refused(who, "file", "mount", encrypted.sealed, encrypted.point, *WRITE) == "other_secret"
    assert not encrypted.is_mounted()
    (encrypted.sealed / ".keyhearth/manifest").write_bytes(b"damaged")
    assert server.refused(who, "file", "mount", encrypted.sealed, encrypted.point, *WRITE) == "manifest_refused"
    # A manifest that was taken away is remembered: what is written is not called in clear.
    shutil.rmtree(encrypted.sealed / ".keyhearth")
    assert server.refused(who, "file", "mount", encrypted.sealed, encrypted.point, *WRITE) == "other_secret"


def test_a_manifest_that_is_not_proved_lets_nothing_be_written(encrypted, monkeypatch):
    server, who = encrypted.server, encrypted.who
    manifest = encrypted.sealed / ".keyhearth/manifest"
    whole = manifest.read_bytes()
    # Seen for the first time, and its signature does not hold.
    monkeypatch.setenv("XDG_STATE_HOME", str(encrypted.folder / "fresh"))
    start = whole.index(b"\nsignature ") + len(b"\nsignature ")
    manifest.write_bytes(whole[:start] + (b"B" if whole[start : start + 1] == b"A" else b"A") + whole[start + 1 :])
    assert server.refused(who, "file", "mount", encrypted.sealed, encrypted.point, *WRITE) == "manifest_refused"
    # A folder that was known in clear, and is another one now.
    clear = encrypted.folder / "clear"
    clear.mkdir()
    server.done(who, "file", "manifest", clear, "--sign-key", "names")
    (clear / ".keyhearth/manifest").write_bytes(whole)
    assert server.refused(who, "file", "mount", clear, encrypted.point, *WRITE) == "manifest_refused"
    assert not encrypted.is_mounted()


def test_in_a_folder_inside_with_names_of_its_own_nothing_is_made(mounts, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(mounts.folder / "state"))
    mounts.server.done(mounts.who, "key", "create", "ed25519", "--alias", "names")
    mounts.server.done(mounts.who, "secret", "create", "documents", "--key", "files", "--generate", "32")
    (mounts.sealed / "inner/below").mkdir(parents=True)
    words = ("--sign-key", "names", "--encrypt-names", "documents")
    mounts.server.done(mounts.who, "file", "manifest", mounts.sealed / "inner", *words)
    mounts.seal("inner/file", b"old")
    with mounts.mounted(*WRITE) as point:
        (point / "outer").write_bytes(HELLO)
        (point / "folder").mkdir()
        for place in (point / "inner", point / "inner/below"):
            refused(errno.EROFS, lambda: (place / "new").write_bytes(HELLO))
            refused(errno.EROFS, lambda: (place / "folder").mkdir())
            refused(errno.EROFS, lambda: os.rename(point / "outer", place / "outer"))
            refused(errno.EROFS, lambda: os.rename(point / "folder", place / "folder"))
        (point / "inner/file").write_bytes(b"new")
        assert tree(point) == {"outer": HELLO, "inner/file": b"new"}


def test_no_command_puts_a_name_there_in_clear_and_who_may_not_look_is_told(encrypted, monkeypatch):
    plain, before = encrypted.folder / "plain.txt", tree(encrypted.sealed)
    plain.write_bytes(HELLO)
    (encrypted.sealed / "beside").write_bytes(HELLO)
    for words in (
        (plain, "--output", encrypted.sealed / "new.age"),
        (plain, "--output", encrypted.sealed / "new/deep/new.age"),
        (plain, "--output", encrypted.sealed / "new/deep", "--sign-key", "names"),
        (encrypted.sealed / "beside",),
        (encrypted.sealed,),
        # Below what is named.
        (encrypted.sealed.parent,),
    ):
        assert encrypted.server.refused(encrypted.who, "file", "seal", *words, "--key", "files") == "encrypted_names"
    piped = encrypted.server.done(encrypted.who, "file", "seal", "-", "--key", "files", stdin=HELLO)
    assert piped.startswith(b"age-encryption.org/v1")
    (encrypted.sealed / "beside").unlink()
    # What was seen here counts where nothing is said any more.
    manifest = encrypted.sealed / ".keyhearth/manifest"
    kept = manifest.read_bytes()
    clear = encrypted.folder / "clear"
    clear.mkdir()
    encrypted.server.done(encrypted.who, "file", "manifest", clear, "--sign-key", "names")
    unsaid = (clear / ".keyhearth/manifest").read_bytes()
    for damage in (lambda: manifest.write_bytes(b"damaged"), lambda: manifest.write_bytes(unsaid), manifest.unlink):
        damage()
        words = (plain, "--output", encrypted.sealed / "new.age", "--key", "files")
        assert encrypted.server.refused(encrypted.who, "file", "seal", *words) == "encrypted_names"
    manifest.write_bytes(kept)
    assert tree(encrypted.sealed) == before and not (encrypted.sealed / "new").exists()
    monkeypatch.setenv("XDG_STATE_HOME", str(encrypted.folder / "elsewhere"))
    nobody = encrypted.server.issue(encrypted.who, "nobody", encrypted.folder / "nobody")
    for verb in ("names", "verify"):
        told = encrypted.server.command(nobody, "file", verb, encrypted.sealed)
        assert told.returncode == 1 and b"was not proved: not allowed" in told.stderr, told.stderr
        assert b"public-key" in told.stderr


def test_what_is_known_of_no_manifest_is_only_read_as_it_lies(mounts, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(mounts.folder / "state"))
    mounts.seal("file")
    (mounts.sealed / ".keyhearth").mkdir()
    (mounts.sealed / ".keyhearth/manifest").write_bytes(b"damaged")
    assert mounts.server.refused(mounts.who, "file", "mount", mounts.sealed, mounts.point, *WRITE) == "malformed"
    with mounts.mounted() as point:
        assert tree(point) == {"file": HELLO}
        assert "names that are not known are shown as they lie there" in mounts.said()


def test_files_with_encrypted_names_open_without_the_server(encrypted):
    with encrypted.mounted(*WRITE) as point:
        (point / "folder").mkdir()
        for number in range(3):
            (point / f"folder/{number}").write_bytes(HELLO)
    policy = encrypted.folder / "hold.cedar"
    policy.write_text('permit (principal, action == Keyhearth::Action::"hold", resource is Keyhearth::Key);')
    encrypted.server.done(encrypted.who, "policy", "set", "hold", policy, "--yes")
    gate = Gate(encrypted.server.url)
    who = encrypted.server.identity(encrypted.who.certificate, encrypted.who.key)
    who.url = gate.url
    with encrypted.mounted("--offline", "1h", who=who) as point:
        until("they are not held", lambda: "3 files open without the server" in encrypted.said())
        gate.shut()
        assert tree(point) == {f"folder/{number}": HELLO for number in range(3)}
