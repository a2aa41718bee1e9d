"""Two devices that keep plain folders in step by a folder of sealed files, as a sync service would carry it."""

import json
import os
import random
import shutil
import signal
import subprocess
import time

import pytest

DEADLINE_S = 120


class Device:
    """A machine: its plain folder and its memory. The sealed folder is the same for all."""

    def __init__(self, server, folder, name):
        self.server, self.name, self.sign_key = server, name, "names"
        self.plain, self.sealed, self.state = folder / name, folder / "sealed", folder / f"state-{name}"
        self.plain.mkdir(exist_ok=True)

    def command(self, *more):
        words = ["--json", "sync", "watch", "--plain", self.plain, "--sealed", self.sealed]
        names = ["--key", "files", "--sign-key", self.sign_key, "--device", self.name]
        return [str(word) for word in [self.server.program, *words, *names, *more]]

    def environment(self):
        return {**os.environ, **self.server.developer.environment(), "XDG_STATE_HOME": str(self.state)}

    def run(self, *more):
        command = self.command("--once", *more)
        return subprocess.run(command, env=self.environment(), capture_output=True, timeout=DEADLINE_S)

    def sign(self, *more):
        """Signs what lies in the sealed folder, as somebody does by hand once."""
        command = [self.server.program, "file", "manifest", self.sealed, "--sign-key", "names", *more]
        subprocess.run(command, env=self.environment(), check=True, capture_output=True, timeout=DEADLINE_S)

    def once(self, *more):
        """A pass that must go well: what it did, as (what, path)."""
        process = self.run(*more)
        assert process.returncode == 0, (process.stdout, process.stderr)
        return [(step["what"], step["path"]) for step in json.loads(process.stdout)["steps"]]

    def refused(self):
        """A pass that must not: the code, and what it did."""
        process = self.run()
        assert process.returncode == 1, process.stdout
        steps = json.loads(process.stdout)["steps"] if process.stdout else []
        return json.loads(process.stderr.splitlines()[-1])["code"], [(step["what"], step["path"]) for step in steps]

    def verify(self):
        """What is not as the devices signed it."""
        command = [self.server.program, "--json", "file", "verify", "--deep", self.sealed]
        process = subprocess.run(command, env=self.environment(), capture_output=True, timeout=DEADLINE_S)
        return json.loads(process.stdout)["wrong"]

    def write(self, name, content):
        path = self.plain / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def files(self):
        found = (path for path in self.plain.rglob("*") if path.is_file() and ".keyhearth" not in path.parts)
        return {str(path.relative_to(self.plain)): path.read_bytes() for path in found}

    def trash(self):
        found = (self.plain / ".keyhearth/trash").rglob("*")
        return sorted(path.read_bytes() for path in found if path.is_file())

    def names(self):
        found = (path for path in self.sealed.rglob("*") if path.is_file() and ".keyhearth" not in path.parts)
        return sorted(str(path.relative_to(self.sealed)) for path in found)


@pytest.fixture
def keys(server):
    """The names of the keys that seal and sign."""
    server.done(server.developer, "key", "create", "aes-256", "--alias", "files")
    server.done(server.developer, "key", "create", "ed25519", "--alias", "names")


@pytest.fixture
def make(server, keys, tmp_path):
    """Makes devices; the sealed folder is signed once."""
    (tmp_path / "sealed").mkdir()
    Device(server, tmp_path, "first").sign()
    return lambda name: Device(server, tmp_path, name)


def test_files_go_there_and_back(make):
    here, there = make("here"), make("there")
    contents = {"a.txt": b"a", "b/c/d.txt": b"d" * 200_000, "empty": b"", "e.age": b"no sealed file"}
    for name, content in contents.items():
        here.write(name, content)
    assert here.once() == [("sealed", name) for name in sorted(contents)]
    assert here.names() == sorted(f"{name}.age" for name in contents)
    assert all(b"d" * 100 not in (here.sealed / name).read_bytes() for name in here.names())
    assert there.once() == [("opened", name) for name in sorted(contents)]
    assert there.files() == contents
    assert here.once() == [] and there.once() == []
    # Changes, in both directions in one pass.
    there.write("a.txt", b"changed there")
    there.write("new.txt", b"new there")
    assert there.once() == [("sealed", "a.txt"), ("sealed", "new.txt")]
    here.write("b/c/d.txt", b"changed here")
    assert here.once() == [("opened", "a.txt"), ("opened", "new.txt"), ("sealed", "b/c/d.txt")]
    assert there.once() == [("opened", "b/c/d.txt")] and there.files() == here.files()
    # What was replaced is in the trash.
    assert b"a" in here.trash() and b"d" * 200_000 in there.trash()
    # New headers are nothing new.
    here.server.done(here.server.developer, "file", "rekey", here.sealed)
    assert here.once() == [] and there.once() == []
    assert here.verify() == []


def test_a_deletion_goes_over_unless_the_other_side_changed(make):
    here, there = make("here"), make("there")
    for name in ("keep", "x/gone", "changed", "both"):
        here.write(name, name.encode())
    here.once()
    there.once()
    for name in ("x/gone", "changed", "both"):
        (here.plain / name).unlink()
    (here.plain / "x").rmdir()
    (there.plain / "both").unlink()
    there.write("changed", b"newer")
    assert here.once() == [("deleted_sealed", name) for name in ("both", "changed", "x/gone")]
    assert here.names() == ["keep.age"]
    assert there.once() == [("deleted_plain", "x/gone"), ("sealed", "changed")]
    assert sorted(there.files()) == ["changed", "keep"] and not (there.plain / "x").exists()
    assert there.trash() == [b"x/gone"]
    assert here.once() == [("opened", "changed")] and here.files() == there.files()
    assert here.verify() == []


def test_a_folder_that_is_not_the_one_that_was_deletes_nothing(make):
    here = make("here")
    for name in "abc":
        here.write(name, b"x")
    here.once()
    here.plain.rename(here.plain.with_name("unmounted"))
    here.plain.mkdir()
    assert here.refused() == ("other_folder", []) and len(here.names()) == 3
    here.plain.rmdir()
    here.plain.with_name("unmounted").rename(here.plain)
    assert here.once() == []
    # The sealed one: without its manifest nothing is done at all.
    here.sealed.rename(here.sealed.with_name("unmounted"))
    here.sealed.mkdir()
    here.write("new", b"new")
    assert here.refused() == ("manifest_missing", []) and len(here.files()) == 4 and here.names() == []
    here.sealed.rmdir()
    here.sealed.with_name("unmounted").rename(here.sealed)
    assert here.once() == [("sealed", "new")]


def test_a_folder_takes_the_place_of_a_file_and_a_file_that_of_a_folder(make):
    here, there = make("here"), make("there")
    here.write("a", b"file")
    here.write("b/c", b"below")
    here.once()
    there.once()
    (here.plain / "a").unlink()
    here.write("a/x", b"below now")
    (here.plain / "b/c").unlink()
    (here.plain / "b").rmdir()
    here.write("b", b"file now")
    here.once()
    there.once()
    assert there.files() == here.files() == {"a/x": b"below now", "b": b"file now"}
    assert here.once() == [] and there.once() == [] and here.verify() == []


def test_what_the_service_lost_is_sealed_again_when_somebody_says_so(make):
    here, there = make("here"), make("there")
    here.write("a", b"a")
    here.once()
    there.once()
    (here.sealed / "a.age").unlink()
    assert here.refused() == ("not_signed", [("waits", "a")])
    assert here.once("--seal-missing") == [("sealed", "a")]
    assert there.once() == [("opened", "a")] and there.files() == {"a": b"a"}


def test_a_deletion_waits_while_its_content_is_not_sealed_under_another_name(make):
    here, there = make("here"), make("there")
    here.write("a", b"content")
    here.write("other", b"other")
    here.once()
    there.once()
    # Somebody's unsigned file is where the user moves it.
    (here.sealed / "b.age").write_bytes((here.sealed / "other.age").read_bytes())
    (here.plain / "a").rename(here.plain / "b")
    code, done = here.refused()
    assert ("waits", "b") in done and ("delete_failed", "a") in done and "a.age" in here.names()
    (here.sealed / "b.age").unlink()
    assert here.once() == [("sealed", "b"), ("deleted_sealed", "a")]
    # A link where a folder would be.
    (here.sealed / "dir").symlink_to("/nowhere")
    (here.plain / "dir").mkdir()
    (here.plain / "b").rename(here.plain / "dir/b")
    code, done = here.refused()
    assert ("refused", "dir/b") in done and "b.age" in here.names()
    (here.sealed / "dir").unlink()
    assert here.once() == [("sealed", "dir/b"), ("deleted_sealed", "b")]
    there.once()
    assert here.files() == there.files() and here.verify() == []


def test_what_could_not_be_signed_is_not_done_but_later(make):
    here, there = make("here"), make("there")
    here.write("a", b"first")
    here.write("gone", b"gone")
    here.once()
    here.write("a", b"second")
    here.write("new", b"new")
    (here.plain / "gone").unlink()
    here.server.done(here.server.developer, "key", "suspend", "names", "--reason", "a test")
    sealed = {name: (here.sealed / name).read_bytes() for name in here.names()}
    for _ in range(3):
        code, steps = here.refused()
        assert code == "wrong_state"
        assert steps == [("seal_failed", "a"), ("seal_failed", "new"), ("delete_failed", "gone")]
        assert {name: (here.sealed / name).read_bytes() for name in here.names()} == sealed
        # Until every change would show in the times of the files.
        time.sleep(3.2)
    # Who only reads goes on.
    assert there.once() == [("opened", "a"), ("opened", "gone")]
    here.server.done(here.server.developer, "key", "resume", "names")
    here.once()
    there.once()
    assert there.files() == here.files() == {"a": b"second", "new": b"new"} and here.verify() == []


def test_another_key_signs_from_then_on_also_if_nothing_is_to_be_done(make):
    here, there = make("here"), make("there")
    here.write("a", b"a")
    here.once()
    here.server.done(here.server.developer, "key", "create", "ed25519", "--alias", "others")
    here.sign_key = "others"
    assert here.once() == [] and here.once() == []
    assert there.refused() == ("manifest_refused", [])
    there.sign_key = "others"
    assert there.once() == [("opened", "a")]


def test_a_version_that_nobody_heard_of_is_not_forgotten(make, tmp_path):
    """One device changes a file once, apart; another one more often than a manifest remembers."""
    here, there = make("here"), make("there")
    here.write("a", b"first")
    here.once()
    there.once()
    apart = tmp_path / "apart"
    shutil.copytree(there.sealed, apart)
    together, there.sealed = there.sealed, apart
    there.write("a", b"from there")
    assert there.once() == [("sealed", "a")]
    for number in range(20):
        here.write("a", b"from here %d" % number)
        assert here.once() == [("sealed", "a")]
    # The service keeps the last one at the name, and both manifests.
    shutil.copy(apart / ".keyhearth/manifest", together / ".keyhearth/manifest (conflicted copy)")
    there.sealed = together
    done = there.once()
    assert done[0] == ("conflict", "a") and set(there.files().values()) == {b"from here 19", b"from there"}
    here.once()
    assert here.files() == there.files() and here.verify() == []


def test_most_files_are_deleted_only_if_that_is_said(make):
    here, there = make("here"), make("there")
    names = [f"{number:02}" for number in range(20)]
    for name in names:
        here.write(name, name.encode())
    here.once()
    there.once()
    for name in names[:11]:
        (here.plain / name).unlink()
    assert here.refused() == ("many_deletions", [("held", str(here.plain))]) and len(here.names()) == 20
    assert here.once("--delete-many") == [("deleted_sealed", name) for name in names[:11]]
    assert there.refused() == ("many_deletions", [("held", str(there.sealed))]) and len(there.files()) == 20
    assert there.once("--delete-many") == [("deleted_plain", name) for name in names[:11]]
    assert sorted(there.files()) == names[11:] and len(there.trash()) == 11


def test_where_both_changed_both_stay(make):
    here, there = make("here"), make("there")
    here.write("a/report.pdf", b"first")
    here.once()
    there.once()
    here.write("a/report.pdf", b"from here")
    there.write("a/report.pdf", b"from there")
    here.once()
    done = there.once()
    (aside,) = [name for name in there.files() if "conflict" in name]
    assert done == [("conflict", "a/report.pdf"), ("sealed", aside)]
    assert aside.startswith("a/report (conflict ") and aside.endswith(" there).pdf")
    assert there.files() == {"a/report.pdf": b"from here", aside: b"from there"}
    here.once()
    assert here.files() == there.files()
    # The same change on both sides is none.
    here.write("same", b"same")
    there.write("same", b"same")
    here.once()
    assert there.once() == [] and here.once() == []


def test_what_no_device_signed_waits(make):
    here, there = make("here"), make("there")
    here.write("a", b"first")
    here.write("b", b"b")
    here.once()
    there.once()
    first = (here.sealed / "a.age").read_bytes()
    here.write("a", b"second")
    here.once()
    assert there.once() == [("opened", "a")]
    second = (here.sealed / "a.age").read_bytes()
    # The service puts an older file back, removes one, adds one.
    (here.sealed / "a.age").write_bytes(first)
    (here.sealed / "c.age").write_bytes(first)
    removed = (here.sealed / "b.age").read_bytes()
    (here.sealed / "b.age").unlink()
    for device in (here, there):
        code, done = device.refused()
        assert code == "not_signed" and done == [("waits", name) for name in "abc"]
        assert device.files() == {"a": b"second", "b": b"b"}
    # Nor is it overwritten by what is changed here: it may be news whose manifest is on its way.
    here.write("a", b"third")
    assert here.refused()[0] == "not_signed" and (here.sealed / "a.age").read_bytes() == first
    (here.sealed / "a.age").write_bytes(second)
    (here.sealed / "b.age").write_bytes(removed)
    (here.sealed / "c.age").unlink()
    assert here.once() == [("sealed", "a")] and there.once() == [("opened", "a")]
    # A deletion that a device signed is one.
    (here.plain / "b").unlink()
    assert here.once() == [("deleted_sealed", "b")] and there.once() == [("deleted_plain", "b")]
    assert here.verify() == []


def test_files_that_were_swapped_wait(make):
    here, there = make("here"), make("there")
    here.write("a", b"one")
    here.write("b", b"two")
    here.once()
    one, two = (here.sealed / "a.age"), (here.sealed / "b.age")
    contents = one.read_bytes(), two.read_bytes()
    one.write_bytes(contents[1])
    two.write_bytes(contents[0])
    assert there.refused() == ("not_signed", [("waits", "a"), ("waits", "b")]) and there.files() == {}


def test_a_folder_without_a_manifest_is_refused(server, keys, tmp_path):
    device = Device(server, tmp_path, "device")
    device.sealed.mkdir()
    device.write("a", b"a")
    assert device.refused() == ("no_manifest", []) and device.names() == []


def test_a_file_that_could_not_be_sealed_keeps_what_may_be_its_older_name(make):
    here = make("here")
    here.write("old", b"content")
    here.write("other", b"other")
    here.once()
    (here.plain / "old").rename(here.plain / ("n" * 254))
    (here.plain / "other").unlink()
    code, done = here.refused()
    assert [step for step in done if "delete" in step[0]] == [("delete_failed", "old"), ("deleted_sealed", "other")]
    assert here.names() == ["old.age"]
    (here.plain / ("n" * 254)).rename(here.plain / "new")
    assert here.once() == [("sealed", "new"), ("deleted_sealed", "old")]


def test_names_are_encrypted_if_the_manifest_says_so(server, keys, tmp_path):
    (tmp_path / "sealed").mkdir()
    here, there = Device(server, tmp_path, "here"), Device(server, tmp_path, "there")
    server.done(server.developer, "secret", "create", "documents", "--key", "files", "--generate", "32")
    here.sign("--encrypt-names", "documents")
    contents = {"reports/june.pdf": b"june", "reports/july.pdf": b"july", "notes": b"notes", "ä/ö": "ü".encode()}
    for name, content in contents.items():
        here.write(name, content)
    here.once()
    names = here.names()
    assert len(names) == 4 and not [name for name in names if "june" in name or "reports" in name or "notes" in name]
    assert len({name.partition("/")[0] for name in names}) == 3
    there.once()
    assert there.files() == contents
    (there.plain / "notes").unlink()
    (there.plain / "reports/june.pdf").rename(there.plain / "reports/moved.pdf")
    there.once()
    here.once()
    assert here.files() == there.files() and sorted(here.files()) == ["reports/july.pdf", "reports/moved.pdf", "ä/ö"]
    assert here.once() == [] and here.verify() == []
    command = [server.program, "--json", "file", "names", here.sealed]
    listed = subprocess.run(command, env=here.environment(), check=True, capture_output=True).stdout
    assert sorted(entry["name"] for entry in json.loads(listed)) == sorted(here.files())
    # Another secret of that name is noticed.
    value = server.done(server.developer, "secret", "get", "documents")
    server.done(server.developer, "secret", "create", "documents", "--key", "files", "--generate", "32", "--replace")
    assert here.refused() == ("other_secret", [])
    (tmp_path / "value").write_bytes(value)
    server.done(server.developer, "secret", "create", "documents", "--key", "files", "--from", tmp_path / "value", "--replace")
    assert here.once() == []
    # A name too long to be encrypted, and one that nobody encrypted, are told; nothing goes there in clear.
    here.write("n" * 145, b"x")
    (here.sealed / "clear.age").write_bytes((here.sealed / here.names()[0]).read_bytes())
    code, done = here.refused()
    assert code == "bad_name" or code == "invalid"
    assert [name for name in here.names() if "n" * 20 in name] == []
    # Names are encrypted from the beginning or not at all.
    other = tmp_path / "other"
    other.mkdir()
    here.sealed = other
    here.sign()
    (other / "a.age").write_bytes((tmp_path / "sealed/clear.age").read_bytes())
    with pytest.raises(subprocess.CalledProcessError):
        here.sign("--encrypt-names", "documents")


def test_no_link_leads_out(make, tmp_path):
    here, there = make("here"), make("there")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    here.write("dir/x", b"x")
    here.once()
    (there.plain / "dir").symlink_to(outside)
    assert there.refused()[0] == "not_a_file" and sorted(os.listdir(outside)) == ["secret"]
    (there.plain / "dir").unlink()
    # A link of the sync service, to where files would be written and deleted.
    (here.sealed / "links").symlink_to(outside)
    here.write("links/secret", b"mine")
    (here.plain / "file").symlink_to(outside / "secret")
    assert here.refused()[0] == "not_a_file"
    assert (outside / "secret").read_bytes() == b"secret" and sorted(os.listdir(outside)) == ["secret"]


def test_refusals_and_a_server_that_is_away_change_nothing(make):
    here, there = make("here"), make("there")
    here.write("a", b"a")
    here.write("b", b"b")
    here.once()
    there.once()
    # Damaged on the way: it is not what was signed, and the others are opened.
    content = bytearray((here.sealed / "a.age").read_bytes())
    content[-1] ^= 1
    (here.sealed / "a.age").write_bytes(content)
    here.write("c", b"c")
    here.refused()
    assert there.refused() == ("not_signed", [("opened", "c"), ("waits", "a")])
    assert there.files() == {"a": b"a", "b": b"b", "c": b"c"}
    content[-1] ^= 1
    (here.sealed / "a.age").write_bytes(content)
    here.server.stop()
    there.write("b", b"changed")
    names = there.names()
    assert there.run().returncode == 1 and there.names() == names and there.files()["b"] == b"changed"
    here.server.start()
    assert there.once() == [("sealed", "b")] and here.once() == [("opened", "b")]


def test_folders_inside_each_other_are_refused(make):
    here = make("here")
    here.write("a", b"a")
    here.sealed = here.sealed.rename(here.plain / "sealed")
    assert here.run().returncode == 1 and here.names() == []


def until(holds):
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def test_a_watcher_sees_what_happens(make):
    here, there = make("here"), make("there")
    command = here.command("--rescan", "86400")
    with subprocess.Popen(command, env=here.environment(), stdout=subprocess.PIPE) as watcher:
        try:
            assert json.loads(watcher.stdout.readline()) == {"steps": []}
            here.write("a/b/new", b"from here")
            until(lambda: here.names() == ["a/b/new.age"])
            there.once()
            there.write("other", b"from there")
            there.once()
            until(lambda: here.files().get("other") == b"from there")
        finally:
            watcher.kill()


def test_a_full_disk_leaves_everything_as_it_was(make, tmp_path):
    here = make("here")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", small], check=True)
    try:
        here.sealed = small
        here.sign()
        here.write("a", b"a")
        here.write("large", os.urandom(2 << 20))
        assert here.refused()[1] == [("sealed", "a"), ("seal_failed", "large")]
        assert here.names() == ["a.age"] and sorted(os.listdir(small)) == [".keyhearth", "a.age"]
        subprocess.run(["mount", "-o", "remount,size=8m", small], check=True)
        assert here.once() == [("sealed", "large")]
        # The other way round: what is opened finds no room.
        there = make("there")
        there.sealed = small
        full = tmp_path / "full"
        full.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", full], check=True)
        try:
            there.plain = full
            there.refused()
            assert there.files() == {"a": b"a"} and sorted(os.listdir(full)) == [".keyhearth", "a"]
            assert here.once() == []
        finally:
            subprocess.run(["umount", full], check=True)
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.parametrize("direction", ["seal", "open", "conflict"])
def test_nothing_is_lost_whenever_it_is_killed(make, direction):
    """Killed at points that are drawn, again and again, until a pass comes to its end by itself."""
    here, there = make("here"), make("there")
    draw = random.Random(direction)
    contents = {f"{number // 4}/{number}": draw.randbytes(draw.randrange(100_000)) for number in range(10)}
    for name, content in contents.items():
        here.write(name, content)
    device, versions = here, {name: {content} for name, content in contents.items()}
    if direction != "seal":
        here.once()
        device = there
    if direction == "conflict":
        there.once()
        for name in sorted(contents)[:5]:
            versions[name] = {here.write(name, b"here" + contents[name]).read_bytes()}
            versions[name].add(there.write(name, b"there" + contents[name]).read_bytes())
        here.once()
    calls = kill_at_each_step(device, draw)
    assert calls > 3
    device.once()
    for other in (here, there, here, there):
        other.once()
    assert here.files() == there.files()
    kept = list(here.files().values())
    for name, expected in versions.items():
        assert here.files()[name] in expected
        assert all(content in kept for content in expected), f"a version of {name} was lost"
    leftover = [name for name in [*here.files(), *here.names()] if "keyhearth-" in name]
    assert len(leftover) <= calls
    assert here.verify() == [] and there.verify() == []


def kill_at_each_step(device, draw):
    """Lets a pass run up to its Nth renaming, naming or removal of a file, with N growing, and kills it there."""
    calls = 0
    while True:
        at = 1 + calls + draw.randrange(2)
        inject = f"inject=rename,renameat,renameat2,linkat,unlink,unlinkat:signal=KILL:when={at}"
        process = subprocess.run(
            ["strace", "-f", "-qq", "-e", "trace=rename,renameat,renameat2,linkat,unlink,unlinkat", "-e", inject,
             "-o", "/dev/null", *device.command("--once")],
            env=device.environment(), capture_output=True, timeout=DEADLINE_S,
        )
        if process.returncode >= 0 and process.returncode != 128 + signal.SIGKILL:
            assert process.returncode == 0, (process.stdout, process.stderr)
            return calls
        calls += 1
