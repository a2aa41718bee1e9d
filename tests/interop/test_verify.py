"""Folders of sealed files that are signed, and everything that a sync service can do to them."""

import json
import os
import shutil

import pytest

HELLO = b"what nobody else may read\n"


class Folder:
    """A sealed folder, and a device that looks at it: its memory lies in a state folder of its own."""

    def __init__(self, server, folder, state, sign_key="names"):
        self.server, self.who = server, server.developer
        self.sealed, self.plain, self.state, self.sign_key = folder / "sealed", folder / "plain", state, sign_key

    def device(self, name):
        """Another device with the same folder in sight."""
        return Folder(self.server, self.sealed.parent, self.state.with_name(name), self.sign_key)

    def run(self, *words, who=None, json=True):
        saved = os.environ.get("XDG_STATE_HOME")
        os.environ["XDG_STATE_HOME"] = str(self.state)
        try:
            return self.server.command(who or self.who, *["--json"] * json, "file", *words)
        finally:
            os.environ.pop("XDG_STATE_HOME")
            if saved is not None:
                os.environ["XDG_STATE_HOME"] = saved

    def done(self, *words, who=None):
        process = self.run(*words, who=who)
        assert process.returncode == 0, process.stderr.decode()
        return process.stdout

    def refused(self, *words, who=None):
        process = self.run(*words, who=who)
        assert process.returncode == 1, process.stdout
        return json.loads(process.stderr.splitlines()[-1])["code"]

    def seal(self, **files):
        """Seals these files into the folder and signs them."""
        shutil.rmtree(self.plain, ignore_errors=True)
        for name, content in files.items():
            path = self.plain / f"{name}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self.done(
            "seal", self.plain, "--key", "files", "--output", self.sealed, "--force",
            "--sign-key", self.sign_key, "--device", self.state.name,
        )

    def sign(self):
        self.done("manifest", self.sealed, "--sign-key", self.sign_key, "--device", self.state.name)

    def verify(self, *words, who=None):
        """What is wrong, as (what, path, see)."""
        process = self.run("verify", self.sealed, *words, who=who)
        answer = json.loads(process.stdout)
        assert process.returncode == (1 if answer["wrong"] else 0), process.stderr
        if answer["wrong"]:
            assert json.loads(process.stderr)["code"] == "not_as_signed"
        self.notes = [(note["what"], note["path"]) for note in answer["notes"]]
        return [(wrong["what"], wrong["path"], wrong["see"]) for wrong in answer["wrong"]]

    def whats(self, *words):
        return [(what, path) for what, path, _ in self.verify(*words)]

    @property
    def manifest(self):
        return self.sealed / ".keyhearth/manifest"

    def path(self, name):
        return self.sealed / f"{name}.txt.age"


@pytest.fixture
def folder(server, tmp_path):
    server.done(server.developer, "key", "create", "aes-256", "--alias", "files")
    server.done(server.developer, "key", "create", "ed25519", "--alias", "names")
    folder = Folder(server, tmp_path, tmp_path / "state-here")
    folder.seal(a=b"a" * 200_000, b=b"b", c=b"c")
    return folder


def test_everything_that_is_done_to_files_is_named(folder):
    assert folder.verify("--deep") == []
    copy = folder.sealed.with_name("copy")
    shutil.copytree(folder.sealed, copy)

    def after(change):
        shutil.rmtree(folder.sealed)
        shutil.copytree(copy, folder.sealed)
        change()
        return folder.verify()

    def swap():
        b, c = folder.path("b").read_bytes(), folder.path("c").read_bytes()
        folder.path("b").write_bytes(c)
        folder.path("c").write_bytes(b)

    def link():
        folder.path("b").unlink()
        folder.path("b").symlink_to(folder.path("c"))

    a, b = folder.path("a"), folder.path("b")
    assert after(b.unlink) == [("missing", "b.txt.age", None)]
    assert after(lambda: b.rename(folder.path("x"))) == [("renamed", "b.txt.age", "x.txt.age")]
    assert after(lambda: shutil.copy(b, folder.path("x"))) == [("added", "x.txt.age", "b.txt.age")]
    assert after(swap) == [("swapped", "b.txt.age", "c.txt.age"), ("swapped", "c.txt.age", "b.txt.age")]
    assert after(lambda: os.truncate(a, a.stat().st_size - 1)) == [("damaged", "a.txt.age", None)]
    assert [what for what, _, _ in after(link)] == ["not_a_file", "missing"]
    assert after(lambda: b.with_name("readme").write_bytes(b"no")) == [] and folder.notes == [("not_sealed", "readme")]
    bad = os.fsencode(folder.sealed) + b"/\xff.age"
    assert [what for what, _, _ in after(lambda: shutil.copy(b, bad))] == ["bad_name"]

    def damage():
        content = bytearray(a.read_bytes())
        content[100_000] ^= 1
        a.write_bytes(content)

    assert after(damage) == []
    assert folder.verify("--deep") == [("damaged", "a.txt.age", None)]


def test_an_older_file_is_named_and_one_that_was_deleted(folder):
    older, deleted = folder.path("b").read_bytes(), folder.path("c").read_bytes()
    folder.seal(b=b"newer")
    folder.path("c").unlink()
    assert folder.whats() == [("missing", "c.txt.age")]
    folder.sign()
    assert folder.verify("--deep") == []
    folder.path("b").write_bytes(older)
    folder.path("c").write_bytes(deleted)
    assert folder.whats() == [("rolled_back", "b.txt.age"), ("rolled_back", "c.txt.age")]


def test_an_older_manifest_is_named_by_who_saw_a_newer_one(folder):
    before = folder.sealed.with_name("before")
    shutil.copytree(folder.sealed, before)
    folder.seal(b=b"newer", d=b"new")
    shutil.rmtree(folder.sealed)
    before.rename(folder.sealed)
    assert folder.whats() == [
        ("manifest_older", ".keyhearth"), ("rolled_back", "b.txt.age"), ("missing", "d.txt.age")
    ]
    # Who sees it for the first time can not know.
    assert folder.device("state-other").verify() == []
    shutil.rmtree(folder.manifest.parent)
    assert folder.whats()[0] == ("manifest_missing", ".keyhearth")
    assert folder.device("state-third").refused("verify", folder.sealed) == "no_manifest"


def test_only_who_signs_changes_a_manifest(folder, tmp_path):
    text = folder.manifest.read_text()
    for forged in (
        "\n".join(line for line in text.split("\n") if not line.endswith("b.txt.age")),
        text.replace("b.txt.age", "x.txt.age"),
        text[:-1],
        "",
        "x" * 1000,
    ):
        folder.manifest.write_text(forged)
        assert [what for what, _ in folder.whats()] == ["manifest_refused", "manifest_missing"]
        assert folder.refused("manifest", folder.sealed, "--sign-key", "names") == "manifest_refused"
    folder.manifest.write_text(text)
    assert folder.verify() == []
    # A good signature of another key, and of another folder.
    folder.server.done(folder.who, "key", "create", "ec-p256", "--alias", "other")
    other = Folder(folder.server, tmp_path / "elsewhere", tmp_path / "state-elsewhere", "other")
    other.seal(z=b"z")
    shutil.copy(other.manifest, folder.manifest)
    assert folder.whats()[0] == ("manifest_refused", ".keyhearth/manifest")
    folder.manifest.write_text(text)
    copied = folder.device("state-there")
    assert copied.verify() == []
    other_key = folder.device("state-forger")
    assert other_key.verify() == []
    other_key.sign_key = "other"
    other_key.sign()
    assert copied.whats()[0] == ("manifest_refused", ".keyhearth/manifest")
    # It is right so, says the user.
    assert copied.verify("--sign-key", "other") == [] and copied.verify() == []


def test_what_two_devices_sign_at_the_same_time_is_joined(folder):
    here, there = folder, folder.device("state-there")
    assert there.verify() == []
    before = here.manifest.read_bytes()
    here.seal(b=b"from here", d=b"d")
    first = here.manifest.read_bytes()
    here.manifest.write_bytes(before)
    from_here = here.path("b").read_bytes()
    there.seal(b=b"from there", e=b"e")
    # As a sync service leaves it: both manifests, both files.
    conflicted = here.manifest.with_name("manifest (conflicted copy).1")
    conflicted.write_bytes(first)
    for device in (here, there, folder.device("state-third")):
        assert device.whats() == [("conflict", "b.txt.age")]
    here.path("b").with_name("b (conflicted copy).txt.age").write_bytes(from_here)
    assert here.whats() == [("added", "b (conflicted copy).txt.age"), ("conflict", "b.txt.age")]
    here.sign()
    assert not conflicted.exists()
    assert here.verify("--deep") == [] and there.verify() == []


def test_verifying_needs_the_server_once_or_not_at_all(folder, tmp_path):
    public = tmp_path / "names.pem"
    folder.server.done(folder.who, "key", "public", "names", "--output", public)
    device = folder.device("state-other")
    device.verify()
    folder.server.stop()
    assert folder.verify("--deep") == [] and device.verify() == []
    third = folder.device("state-third")
    assert third.run("verify", folder.sealed).returncode == 1
    assert third.verify("--public-key", public) == [] and third.verify() == []
    wrong = tmp_path / "wrong.pem"
    wrong.write_bytes(b"no key")
    assert third.run("verify", folder.sealed, "--public-key", wrong).returncode == 1


def test_a_rotated_key_and_rekeyed_files_are_the_same_folder(folder):
    folder.server.done(folder.who, "key", "rotate", "names")
    folder.server.done(folder.who, "key", "rotate", "files")
    folder.done("rekey", folder.sealed)
    assert folder.verify("--deep") == [], "headers are not what is signed"
    folder.seal(d=b"d")
    assert folder.verify() == [] and folder.device("state-new").verify() == []
    folder.done("rekey", "--suspected-stolen", folder.sealed)
    assert folder.whats() == [("changed", f"{name}.txt.age") for name in "abcd"]
    folder.sign()
    assert folder.verify("--deep") == []


def test_folders_below_belong_to_the_same_manifest_and_open_without_it(folder, tmp_path):
    folder.plain.mkdir(exist_ok=True)
    (folder.plain / "deep.txt").write_bytes(HELLO)
    folder.done(
        "seal", folder.plain / "deep.txt", "--key", "files", "--output", folder.sealed / "x/y", "--sign-key", "names"
    )
    assert not (folder.sealed / "x/y/.keyhearth").exists() and folder.verify() == []
    folder.done("open", folder.sealed, "--output", tmp_path / "opened")
    assert (tmp_path / "opened/x/y/deep.txt").read_bytes() == HELLO
    assert not (tmp_path / "opened/.keyhearth").exists()
    # Names that other systems take for one.
    shutil.copy(folder.path("b"), folder.path("B"))
    folder.sign()
    assert folder.verify() == [] and folder.notes == [("same_letters", "b.txt.age")]


def test_who_may_not_sign_signs_nothing(folder, tmp_path):
    colleague = folder.server.issue(folder.who, "colleague", tmp_path / "colleague", "auditor")
    before = folder.manifest.read_bytes()
    folder.path("b").unlink()
    assert folder.refused("manifest", folder.sealed, "--sign-key", "names", who=colleague) == "denied"
    assert folder.manifest.read_bytes() == before
    assert folder.refused("manifest", folder.sealed, "--sign-key", "files") == "unsupported"


def test_what_can_not_be_looked_at_is_not_signed_as_deleted(folder):
    before = folder.manifest.read_bytes()
    content = folder.path("b").read_bytes()
    folder.path("b").unlink()
    folder.path("b").symlink_to(folder.path("c"))
    assert folder.refused("manifest", folder.sealed, "--sign-key", "names") == "not_recorded"
    folder.path("b").unlink()
    folder.path("b").write_bytes(b"sealed no more")
    assert folder.refused("manifest", folder.sealed, "--sign-key", "names") == "not_recorded"
    assert folder.manifest.read_bytes() == before
    folder.path("b").write_bytes(content)
    assert folder.verify() == []


def test_who_signs_is_not_guessed(folder):
    (folder.manifest.with_name("another")).write_bytes(b"no manifest")
    new = folder.device("state-new")
    assert new.refused("verify", folder.sealed) == "who_signs"
    assert new.whats("--sign-key", "names") == [("manifest_refused", ".keyhearth/another")]


def test_a_table_fits_a_terminal(folder):
    shutil.copy(folder.path("b"), folder.path("n" * 150))
    process = folder.run("verify", folder.sealed, json=False)
    lines = process.stdout.decode().splitlines()
    assert process.returncode == 1 and lines[0].split() == ["WRONG", "PATH", "SEE"], process.stderr
    assert all(len(line) <= 80 for line in lines) and lines[1].startswith("added")
