"""Files that are sealed on the command line, opened by age and rage, shared, rekeyed, and attacked."""

import base64
import json
import os
import pathlib
import random
import shutil
import signal
import struct
import subprocess
import time

import pytest

CHUNK = 64 * 1024
PROGRAMS = f"{pathlib.Path(__file__).parents[2]}/target/interop/bin:{os.environ['PATH']}"
SEALED_CHUNK = CHUNK + 16
HELLO = b"what nobody else may read\n"


@pytest.fixture(scope="module", autouse=True)
def installed():
    """These tests are of other people's programs: without them they fail, and are not skipped."""
    missing = [name for name in ("age", "age-keygen", "rage") if not shutil.which(name, path=PROGRAMS)]
    assert not missing, f"missing: {missing}; scripts/test install"


class Files:
    """A folder of files and a key to seal them by."""

    def __init__(self, server, folder):
        self.server, self.folder = server, folder
        self.who = server.developer
        server.done(self.who, "key", "create", "aes-256", "--alias", "files")
        # The plugin is the program under another name, found on the path.
        self.path = folder / "path"
        self.path.mkdir()
        (self.path / "age-plugin-keyhearth").symlink_to(server.program)

    def make(self, name, content=HELLO):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def file(self, *words, who=None, stdin=None):
        return self.server.done(who or self.who, "file", *words, stdin=stdin)

    def refused(self, *words, who=None, stdin=None):
        return self.server.refused(who or self.who, "file", *words, stdin=stdin)

    def sealed(self, name, content=HELLO, *words):
        """A sealed file, and the file itself no more."""
        path = self.make(name, content)
        self.file("seal", path, "--key", "files", *words)
        path.unlink()
        return path.with_name(path.name + ".age")

    def opened(self, path, who=None):
        return self.file("open", path, "--output", "-", who=who)

    def inspect(self, path):
        return json.loads(self.server.done(self.who, "--json", "file", "inspect", path))

    def age(self, *words, stdin=None, program="age"):
        environment = {
            **os.environ,
            **self.who.environment(),
            "PATH": f"{self.path}:{PROGRAMS}",
        }
        return subprocess.run(
            [shutil.which(program, path=PROGRAMS), *map(str, words)],
            input=stdin,
            env=environment,
            capture_output=True,
            timeout=60,
        )

    def age_done(self, *words, **more):
        process = self.age(*words, **more)
        assert process.returncode == 0, process.stderr.decode()
        return process.stdout

    def entries(self, operation):
        listed = self.server.done(self.who, "--json", "audit", "list", "--limit", "1000")
        entries = [logged["entry"] for logged in json.loads(listed)["entries"]]
        return [entry for entry in entries if entry["operation"] == operation]


@pytest.fixture
def files(server, tmp_path):
    return Files(server, tmp_path)


@pytest.mark.parametrize("length", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 40 * CHUNK + 7, 17 << 20])
def test_files_open_as_they_were_here_and_in_age(files, length):
    content = random.Random(length).randbytes(length)
    path = files.sealed("file", content)
    assert files.opened(path) == content
    identity = files.make("identity", files.file("identity"))
    for program in ("age", "rage"):
        assert files.age_done("-d", "-i", identity, path, program=program) == content
    assert HELLO not in path.read_bytes()


@pytest.mark.parametrize("other", ["age", "rage"])
def test_what_age_seals_opens_here(other, files):
    recipient = files.file("recipient", "files").decode().strip()
    content = os.urandom(100_000)
    path = files.make("theirs.age", files.age_done("-r", recipient, stdin=content, program=other))
    assert files.opened(path) == content
    # Armor is text; so is what it opens to here.
    armored = files.make("text.age", files.age_done("-a", "-r", recipient, stdin=content, program=other))
    assert files.opened(armored) == content
    process = files.age("-r", files.file("recipient", "nokey").decode().strip(), stdin=content, program=other)
    assert process.returncode != 0 and b"alias not found" in process.stderr, process.stderr


def test_an_escrow_opens_without_the_server(files):
    identity = files.folder / "escrow"
    subprocess.run(["age-keygen", "-o", identity], check=True, capture_output=True)
    public = [line for line in identity.read_text().splitlines() if "public key" in line][0].split()[-1]
    path = files.sealed("file", HELLO, "--recipient", public)
    files.server.stop()
    assert files.file("open", "--identity", identity, path, "--output", "-") == HELLO
    assert subprocess.run(["age", "-d", "-i", identity, path], capture_output=True, check=True).stdout == HELLO


def test_pipes(files):
    content = os.urandom(3 * CHUNK)
    sealed = files.file("seal", "-", "--key", "files", stdin=content)
    assert files.file("open", "-", stdin=sealed) == content


def test_a_folder_is_sealed_and_opened_whole_in_few_requests(files):
    names = [f"folder/{number // 100}/{number}" for number in range(450)]
    contents = {name: os.urandom(number % 300) for number, name in enumerate(names)}
    for name, content in contents.items():
        files.make(name, content)
    files.file("seal", files.folder / "folder", "--key", "files", "--output", files.folder / "sealed")
    files.file("open", files.folder / "sealed", "--output", files.folder / "open")
    for name, content in contents.items():
        assert (files.folder / name.replace("folder", "open", 1)).read_bytes() == content
    ids = [file["file"] for file in json.loads(
        files.server.done(files.who, "--json", "file", "ls", files.folder / "sealed"))["files"]]
    assert len(set(ids)) == len(names), "each file has a key of its own"
    # Each file is decided and recorded by itself.
    assert [len(files.entries(operation)) for operation in ("encrypt", "decrypt")] == [450, 450]


def test_a_colleague_opens_what_is_shared_and_no_longer_once_it_is_not(files, tmp_path):
    path, other = files.sealed("in/shared"), files.sealed("in/other")
    colleague = files.server.issue(files.who, "colleague", tmp_path / "colleague")
    assert files.refused("open", path, "--output", "-", who=colleague) == "denied"
    identity = json.loads(files.server.done(colleague, "--json", "whoami"))["identity"]
    files.file("share", path, "--with", identity)
    assert files.opened(path, who=colleague) == HELLO
    assert files.refused("open", other, "--output", "-", who=colleague) == "denied"
    files.file("unshare", path, "--from", identity)
    assert files.refused("open", path, "--output", "-", who=colleague) == "denied"
    assert files.refused("unshare", path, "--from", identity) == "not_shared"
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 10))
    files.file("share", path, "--with", identity, "--until", end)
    deadline = time.monotonic() + 120
    while files.server.command(colleague, "file", "open", path, "--output", "-").returncode == 0:
        assert time.monotonic() < deadline, "a share that is over still opens"
    assert files.server.command(files.who, "file", "share", path, "--with", identity, "--until", end).returncode == 1
    # A shorter share ends no longer one, and says so. Folders are shared with all that is in them.
    words = ["--json", "file", "share", path.parent, "--with", identity]
    first = json.loads(files.server.done(files.who, *words))
    assert [pathlib.Path(file["path"]).name for file in first["files"]] == ["other.age", "shared.age"] and "longer" not in first
    second = json.loads(files.server.done(files.who, *words, "--until", "2199-01-01T00:00:00Z"))
    assert sorted(second["longer"]) == sorted(grant for file in first["files"] for grant in file["grants"])
    assert "longer" not in json.loads(files.server.done(files.who, *words))
    # What somebody puts there keeps nothing shared, and shares nothing unseen.
    files.make("in/a-junk.age", b"junk")
    process = files.server.command(files.who, "--json", "file", "unshare", path.parent, "--from", identity)
    answer = json.loads(process.stdout)
    assert process.returncode == 1 and [failed["code"] for failed in answer["failed"]] == ["malformed"]
    assert [bool(file["grants"]) for file in answer["files"]] == [True, True]
    for ended in (path, other):
        assert files.refused("open", ended, "--output", "-", who=colleague) == "denied"
    process = files.server.command(files.who, *words)
    assert process.returncode == 1 and len(json.loads(process.stdout)["files"]) == 2


def test_rekeying_touches_headers_alone_and_a_theft_everything(files):
    content = os.urandom(5 * CHUNK)
    path = files.sealed("file", content)
    before, inspected = path.read_bytes(), files.inspect(path)
    files.server.done(files.who, "key", "rotate", "files")
    files.file("rekey", path)
    after = path.read_bytes()
    header = inspected["header_bytes"]
    assert after[header:] == before[header:] and after[:header] != before[:header]
    assert files.inspect(path)["file"] == inspected["file"] and files.opened(path) == content
    words = ["--json", "file", "rekey", "--suspected-stolen", path]
    notes = json.loads(files.server.done(files.who, *words))["notes"]
    assert "--made-before" in notes[0] and any("key rotate" in note for note in notes)
    assert path.read_bytes()[header:] != after[header:] and files.opened(path) == content
    files.server.done(files.who, "key", "rotate", "files")
    notes = json.loads(files.server.done(files.who, *words))["notes"]
    assert not any("key rotate" in note for note in notes)
    assert files.inspect(path)["file"] == inspected["file"]
    names = {entry.name for entry in files.folder.iterdir()}
    assert names == {"data", "path", path.name}


def test_a_rekey_that_was_interrupted_is_taken_back(files):
    identity = files.folder / "escrow"
    subprocess.run(["age-keygen", "-o", identity], check=True, capture_output=True)
    public = [line for line in identity.read_text().splitlines() if "public key" in line][0].split()[-1]
    path = files.sealed("file", HELLO, *["--recipient", public] * 3)
    sealed = path.read_bytes()
    header = files.inspect(path)["header_bytes"]
    assert header >= 1024, "as many sectors as a disk can write separately"
    files.file("rekey", path)
    rekeyed = path.read_bytes()
    # As a crash leaves it: both headers are kept, the new one is half there.
    kept = files.folder / f".{path.name}.header"
    kept.write_bytes(sealed[:header] + rekeyed[:header])
    path.write_bytes(rekeyed[:512] + sealed[512:])
    assert files.refused("open", path, "--output", "-") in ("malformed", "not_authentic")
    files.file("rekey", path)
    assert files.opened(path) == HELLO and not kept.exists()
    # What was kept of another file is put over none.
    other = files.sealed("other")
    before = other.read_bytes()
    (files.folder / f".{other.name}.header").write_bytes(sealed[:header] + rekeyed[:header])
    assert files.refused("rekey", other) == "invalid"
    assert other.read_bytes() == before


def test_only_keys_whose_messages_hold_everything_seal_files(files):
    path = files.sealed("good")
    before = path.read_bytes()
    for algorithm in ("aes-128", "chacha20-poly1305", "rsa-2048"):
        usage = ["--usage", "encrypt,decrypt"] if algorithm.startswith("rsa") else []
        files.server.done(files.who, "key", "create", algorithm, "--alias", algorithm, *usage)
        plain = files.make("plain")
        assert files.refused("seal", plain, "--key", algorithm) == "unsupported", algorithm
        assert not plain.with_name("plain.age").exists()
        assert files.refused("rekey", path, "--key", algorithm) == "unsupported"
        assert path.read_bytes() == before


def test_no_two_files_go_to_one_place_and_a_folder_stays_a_folder(files):
    one, two = files.make("a/x", b"one"), files.make("b/x", b"two")
    out = files.folder / "out"
    assert files.refused("seal", one.parent, two.parent, "--key", "files", "--output", out, "--force") == "same_place"
    assert [entry.name for entry in out.iterdir()] == ["x.age"] and files.opened(out / "x.age") == b"one"
    files.file("seal", one.parent, "--key", "files", "--output", files.folder / "single")
    assert files.opened(files.folder / "single/x.age") == b"one"
    # Sealed again, a folder's sealed files are left alone.
    files.file("seal", one.parent, "--key", "files")
    assert files.refused("seal", one.parent, "--key", "files") == "exists"
    assert sorted(entry.name for entry in one.parent.iterdir()) == ["x", "x.age"]


def test_what_a_header_claims_keeps_no_file_from_a_rekey_and_gives_no_other_away(files, tmp_path):
    path, secret = files.sealed("notes"), files.sealed("secret")
    lines = path.read_bytes().split(b"\n", 2)
    tag = lines[1].rsplit(b" ", 1)[0]
    future = path.with_name("future.age")
    future.write_bytes(b"\n".join([lines[0], tag + b" 9999999999", lines[2]]))
    assert files.refused("rekey", "--suspected-stolen", future) == "not_authentic"
    files.file("rekey", "--suspected-stolen", path)
    # It has a newer key now: gone on with, nothing is left to do.
    before = path.read_bytes()
    files.file("rekey", "--suspected-stolen", "--made-before", "2026-01-01T00:00:00Z", path)
    assert path.read_bytes() == before
    files.file("rekey", "--suspected-stolen", "--made-before", "2199-01-01T00:00:00Z", path)
    assert path.read_bytes() != before
    colleague = files.server.issue(files.who, "colleague", tmp_path / "colleague")
    identity = json.loads(files.server.done(colleague, "--json", "whoami"))["identity"]
    # The header of a file that names another one.
    named = secret.read_bytes().split(b"\n", 2)[1]
    lines = path.read_bytes().split(b"\n", 2)
    path.write_bytes(b"\n".join([lines[0], named, lines[2]]))
    assert files.refused("share", path, "--with", identity) == "not_authentic"
    assert files.refused("open", secret, "--output", "-", who=colleague) == "denied"


def test_a_rekey_after_a_theft_leaves_nobody_out_and_lets_nobody_in(files):
    identities = []
    for name in ("one", "two"):
        identities.append(files.folder / name)
        subprocess.run(["age-keygen", "-o", identities[-1]], check=True, capture_output=True)
    public = [word for one in identities for word in one.read_text().split() if word.startswith("age1")]
    words = [word for one in public for word in ("--recipient", one)]
    both, none = files.sealed("both", b"both", *words), files.sealed("none", b"none")
    before = [path.read_bytes() for path in (both, none)]
    for given, path in (([], both), (words[:2], both), (words[:2], none), (words, none)):
        assert files.refused("rekey", "--suspected-stolen", *given, path) == "recipients"
    assert [path.read_bytes() for path in (both, none)] == before
    files.file("rekey", "--suspected-stolen", *words, both)
    assert both.read_bytes() != before[0]
    for identity in identities:
        assert files.file("open", both, "--identity", identity, "--output", "-") == b"both"


def test_who_has_no_home_seals_and_opens(files, monkeypatch):
    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert files.opened(files.sealed("file", HELLO)) == HELLO


def test_a_file_that_is_written_anew_keeps_its_owner_and_what_else_is_said_of_it(files):
    recipient = files.file("recipient", "files").decode().strip()
    path = files.make("file.age", files.age_done("-r", recipient, stdin=HELLO))
    os.chown(path, 1234, 2345)
    path.chmod(0o640)
    os.setxattr(path, "user.note", b"kept")
    # Version 2: the owner reads and writes, user 1234 reads, the mask reads, nobody else.
    entries = [(1, 6, -1), (2, 4, 1234), (4, 0, -1), (16, 4, -1), (32, 0, -1)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    os.setxattr(path, "system.posix_acl_access", acl)
    said = lambda: (os.getxattr(path, "user.note"), os.getxattr(path, "system.posix_acl_access"), path.stat()[4:6], path.stat().st_mode)
    before, number = said(), path.stat().st_ino
    # The header is longer from now on; then the file is sealed again.
    for words in ([], ["--suspected-stolen"]):
        files.file("rekey", *words, path)
        assert path.stat().st_ino != number and said() == before and files.opened(path) == HELLO
        number = path.stat().st_ino


def test_a_file_in_text_is_not_rekeyed_and_one_named_twice_is_once(files):
    recipient = files.file("recipient", "files").decode().strip()
    text = files.make("text.age", files.age_done("-a", "-r", recipient, stdin=HELLO))
    before = text.read_bytes()
    for words in ([], ["--suspected-stolen"]):
        assert files.refused("rekey", *words, text) == "armored"
    assert text.read_bytes() == before and files.opened(text) == HELLO
    path = files.sealed("file", HELLO)
    words = ["--json", "file", "rekey", "--suspected-stolen", path, path.parent / "." / path.name, path]
    told = json.loads(files.server.done(files.who, *words))
    assert [file["path"] for file in told["files"]] == [str(path)]
    assert files.opened(path) == HELLO


def test_going_on_after_a_rotation_seals_again_what_the_old_version_wraps(files):
    path = files.sealed("file", HELLO)
    words = ["rekey", "--suspected-stolen", "--made-before", "2026-01-01T00:00:00Z", path]
    before = path.read_bytes()
    files.file(*words)
    assert path.read_bytes() == before
    files.server.done(files.who, "key", "rotate", "files")
    files.file(*words)
    assert path.read_bytes() != before and files.opened(path) == HELLO


def test_a_file_with_several_keys_is_not_rekeyed_but_opens(files):
    files.server.done(files.who, "key", "create", "aes-256", "--alias", "more")
    recipients = [files.file("recipient", key).decode().strip() for key in ("files", "more")]
    words = [word for recipient in recipients for word in ("-r", recipient)]
    path = files.make("both.age", files.age_done(*words, stdin=HELLO))
    assert files.opened(path) == HELLO
    before = path.read_bytes()
    assert files.refused("rekey", path) == "several_keys"
    assert files.refused("rekey", "--suspected-stolen", path) == "several_keys"
    # One key may prove it while another names what would be given away.
    identity = json.loads(files.server.done(files.who, "--json", "whoami"))["identity"]
    assert files.refused("share", path, "--with", identity) == "several_keys"
    assert path.read_bytes() == before


def chunks(sealed, header):
    """The nonce and the sealed chunks of a file."""
    payload = sealed[header:]
    rest = payload[16:]
    return payload[:16], [rest[at : at + SEALED_CHUNK] for at in range(0, len(rest), SEALED_CHUNK)]


def test_no_altered_file_opens_and_nothing_is_left(files):
    content = os.urandom(3 * CHUNK + 100)
    path, other = files.sealed("file", content), files.sealed("other", content)
    sealed, header = path.read_bytes(), files.inspect(path)["header_bytes"]
    nonce, parts = chunks(sealed, header)
    foreign = other.read_bytes()
    head = sealed[:header] + nonce
    altered = {
        "cut in a chunk": sealed[:-1],
        "cut at a chunk": head + b"".join(parts[:-1]),
        "cut to its header": sealed[:header],
        "without payload": head,
        "extended": sealed + b"x",
        "extended by a chunk": sealed + parts[0],
        "chunks in another order": head + parts[1] + parts[0] + b"".join(parts[2:]),
        "a chunk twice": head + parts[0] + parts[0] + b"".join(parts[2:]),
        "a chunk of another file": head + chunks(foreign, header)[1][0] + b"".join(parts[1:]),
        "a header of another file": foreign[:header] + sealed[header:],
        "a payload of another file": sealed[:header] + foreign[header:],
        "no file at all": os.urandom(2000),
        "empty": b"",
    }
    for seed in range(20):
        at = random.Random(seed).randrange(len(sealed))
        altered[f"a bit at {at}"] = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
    for what, content in altered.items():
        victim = files.make("victim.age", content)
        code = files.refused("open", victim)
        assert code in ("not_authentic", "malformed", "not_for_us", "not_found", "io"), (what, code)
        assert not (files.folder / "victim").exists(), what
    left = {entry.name for entry in files.folder.iterdir()}
    assert not [name for name in left if name.endswith(".part") or name.startswith(".")], left


def test_nothing_is_overwritten_and_what_is_no_file_is_named(files):
    path = files.make("file")
    files.file("seal", path, "--key", "files")
    sealed = path.with_name("file.age").read_bytes()
    assert files.refused("seal", path, "--key", "files") == "exists"
    assert path.with_name("file.age").read_bytes() == sealed
    assert files.refused("open", path.with_name("file.age")) == "exists"
    files.file("seal", path, "--key", "files", "--force")
    assert path.with_name("file.age").read_bytes() != sealed
    link, fifo, folder = files.folder / "link", files.folder / "in/fifo", files.folder / "in"
    link.symlink_to(path)
    folder.mkdir()
    os.mkfifo(fifo)
    files.make("in/good")
    os.symlink("/dev/zero", folder / "zero")
    assert files.refused("seal", link, "--key", "files") == "not_a_file"
    assert files.refused("seal", folder, "--key", "files") == "not_a_file"
    assert (folder / "good.age").exists() and not (folder / "zero.age").exists()
    assert files.refused("seal", "/dev/zero", "--key", "files", "--output", files.folder / "z") == "not_a_file"
    assert files.refused("seal", files.folder / "nothing", "--key", "files") == "local"


def test_force_replaces_files_alone_and_none_by_what_is_made_of_it(files):
    path, sealed = files.make("file"), files.sealed("other")
    fifo, link = files.folder / "fifo", files.folder / "link"
    os.mkfifo(fifo)
    link.symlink_to(files.make("target"))
    for special in (fifo, link):
        assert files.refused("seal", path, "--key", "files", "--output", special, "--force") == "not_a_file"
        assert files.refused("open", sealed, "--output", special, "--force") == "not_a_file"
    assert fifo.is_fifo() and link.is_symlink() and link.read_bytes() == HELLO
    assert files.refused("seal", path, "--key", "files", "--output", path, "--force") == "same_place"
    before = sealed.read_bytes()
    assert files.refused("open", sealed, "--output", sealed, "--force") == "same_place"
    assert path.read_bytes() == HELLO and sealed.read_bytes() == before
    # Nor by what is made of another one that was named, which may not be read yet; nor standard input.
    folder = files.make("in/a").parent
    files.make("in/a.age", b"not sealed, though its name says it")
    answer = json.loads(files.server.command(files.who, "--json", "file", "seal", folder, "--key", "files", "--force").stdout)
    assert [failed["code"] for failed in answer["failed"]] == ["same_place"]
    assert files.opened(folder / "a.age.age") == b"not sealed, though its name says it"
    words = [files.server.program, "file", "seal", "-", "--key", "files", "--force", "--output", path]
    with path.open("rb") as stdin:
        environment = {**os.environ, **files.who.environment()}
        assert subprocess.run(words, stdin=stdin, env=environment, capture_output=True, timeout=60).returncode == 1
    assert path.read_bytes() == HELLO


def test_each_failure_says_what_to_do_next(files):
    folder = files.make("in/a").parent
    files.make("in/b")
    files.file("seal", folder / "a", "--key", "files")
    process = files.server.command(files.who, "--json", "file", "seal", folder, "--key", "files")
    answer = json.loads(process.stdout)
    [failed] = answer["failed"]
    assert process.returncode == 1 and len(answer["files"]) == 1
    assert failed["code"] == "exists" and "--force" in failed["next_step"]
    assert "--force" in json.loads(process.stderr)["next_step"]
    # A refusal of the server can be found in its log.
    files.server.done(files.who, "key", "suspend", "files")
    process = files.server.command(files.who, "--json", "file", "open", folder / "a.age", "--output", folder / "c")
    assert json.loads(process.stdout)["failed"][0]["request_id"]


def test_what_is_no_sealed_file_is_listed_as_that(files):
    path = files.sealed("in/good")
    files.make("in/bad.age", b"")
    process = files.server.command(files.who, "--json", "file", "ls", path.parent)
    listed = json.loads(process.stdout)
    assert process.returncode == 1
    assert [file["path"] for file in listed["files"]] == ["good.age"]
    assert [file["path"] for file in listed["failed"]] == ["bad.age"]
    assert files.refused("ls", path.parent / "nowhere") == "local" and files.refused("ls", path) == "not_a_folder"
    assert b"bad.age" in files.server.command(files.who, "file", "inspect", path, path.parent / "bad.age").stderr


def test_names_that_are_no_text_go_there_and_back(files):
    name = os.fsencode(files.folder) + b"/caf\xe9 \xff"
    with open(name, "wb") as file:
        file.write(HELLO)
    environment = {**os.environ, **files.who.environment()}
    for words in ([b"seal", name, b"--key", b"files"], [b"open", b"--force", name + b".age"]):
        command = [os.fsencode(files.server.program), b"file", *words]
        subprocess.run(command, env=environment, capture_output=True, timeout=60, check=True)
    with open(name, "rb") as file:
        assert file.read() == HELLO


def test_a_full_disk_leaves_no_part_of_a_file(files):
    """In a filesystem of 1 MiB, in a mount namespace of its own."""
    big = files.make("big", os.urandom(2 << 20))
    small = files.folder / "small"
    small.mkdir()
    script = f"""
        mount -t tmpfs -o size=1m none {small} || exit 77
        {files.server.program} --json file seal {big} --key files --output {small}/big.age; echo code $?
        ls -A {small}
    """
    environment = {**os.environ, **files.who.environment()}
    process = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", script], env=environment, capture_output=True, timeout=60
    )
    assert process.returncode != 77, process.stderr
    assert process.stdout.decode().split("code 1\n")[1] == "", process.stdout
    assert json.loads(process.stderr.splitlines()[-1])["code"] in ("io", "local")
    assert big.exists()


def test_killed_in_the_middle_it_leaves_nothing(files):
    content = os.urandom(64 << 20)
    path = files.make("big", content)
    environment = {**os.environ, **files.who.environment()}
    for at in (0.0, 0.01, 0.05, 0.1, 0.2):
        process = subprocess.Popen([files.server.program, "file", "seal", path, "--key", "files"], env=environment)
        time.sleep(at)
        process.send_signal(signal.SIGKILL)
        process.wait()
        sealed = path.with_name("big.age")
        if sealed.exists():
            assert files.opened(sealed) == content
            sealed.unlink()
        assert {entry.name for entry in files.folder.iterdir()} <= {"big", "path", "data"}


def test_without_a_server_nothing_is_made(files):
    path = files.make("file")
    sealed = files.sealed("other")
    files.server.kill()
    assert files.refused("seal", path, "--key", "files") == "local"
    assert files.refused("open", sealed) == "local"
    assert not path.with_name("file.age").exists() and not sealed.with_name("other").exists()


def test_a_batch_answers_each_request_by_itself(files):
    good = {"operation": "encrypt", "key": "files", "body": {"plaintext": "AAAA"}}
    large = {"operation": "encrypt", "key": "files", "body": {"plaintext": "A" * 40_000}}
    assert files.who.call("POST", "/v1/batch", {"requests": [large] * 8}).status == 413
    answer = files.who.call(
        "POST", "/v1/batch", {"requests": [good, {**good, "key": "nokey"}, {**good, "operation": "destroy-key"}, good]}
    ).ok()
    statuses = [answered["status"] for answered in answer["answers"]]
    assert statuses == [200, 404, 400, 200]
    assert answer["answers"][0]["body"]["ciphertext"] != answer["answers"][3]["body"]["ciphertext"]
    assert files.who.call("POST", "/v1/batch", {"requests": []}).status == 400
    assert files.who.call("GET", "/v1/batch").status == 405
    assert files.who.call("POST", "/v1/batch", {"requests": [good] * 257}).status == 400


def test_the_answers_to_a_batch_are_bounded(files):
    value = {"name": "large", "value": base64.b64encode(os.urandom(65_536)).decode()}
    files.who.call("POST", "/v1/keys/files/keep-secret", value).ok()
    read = {"operation": "read-secret", "key": "files", "body": {"name": "large"}}
    answer = files.who.call("POST", "/v1/batch", {"requests": [read] * 256}).ok()
    answers = answer["answers"]
    given = [answered["body"] for answered in answers if answered["status"] == 200]
    refused = [answered["body"] for answered in answers if answered["status"] == 413]
    # As many as have 8 MiB, and those that had begun meanwhile.
    assert len(given) + len(refused) == 256 and 96 <= len(given) <= 160
    assert all(body["value"] == value["value"] for body in given)
    assert all(body["field"] == "answers" for body in refused)
    assert len(files.entries("read-secret")) == len(given), "what is refused is not done"
