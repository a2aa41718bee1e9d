"""Secrets as real programs ask for them: backups that open while the server says so, disks, and terminals."""

import json
import os
import pty
import shutil
import subprocess

import pytest

PROGRAMS = ("restic", "borg", "cryptsetup", "age")


@pytest.fixture(scope="module", autouse=True)
def installed():
    """These tests are of other people's programs: without them they fail, and are not skipped."""
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    assert not missing, f"missing: {missing}; scripts/test install"


class Secrets:
    """A key for secrets, and programs that ask for them."""

    def __init__(self, server, folder):
        self.server, self.folder, self.who = server, folder, server.developer
        server.done(self.who, "key", "create", "aes-256", "--alias", "backups")
        self.data = folder / "files"
        self.data.mkdir()
        (self.data / "one").write_bytes(os.urandom(100_000))

    def create(self, name, *words, stdin=None, who=None):
        self.server.done(who or self.who, "secret", "create", name, "--key", "backups", *words, stdin=stdin)

    def get(self, name, who=None):
        return self.server.done(who or self.who, "secret", "get", name)

    def run(self, *words, who=None, stdin=None, cwd=None, **more):
        """Runs another program; `keyhearth` is on its path, and the server in its environment."""
        path = f"{self.server.program.parent}:{os.environ['PATH']}"
        homes = {"HOME": str(self.folder), "XDG_CACHE_HOME": str(self.folder / "cache")}
        environment = {**os.environ, **(who or self.who).environment(), "PATH": path, **homes, **more}
        return subprocess.run(
            [*map(str, words)], input=stdin, env=environment, cwd=cwd, capture_output=True, timeout=120
        )

    def works(self, *words, **more):
        process = self.run(*words, **more)
        assert process.returncode == 0, process.stderr.decode()
        return process.stdout


@pytest.fixture
def secrets(server, tmp_path):
    return Secrets(server, tmp_path)


def test_restic_opens_its_repository_while_the_server_says_so(secrets):
    secrets.create("restic", "--generate", "32")
    repository = secrets.folder / "repository"
    restic = ["restic", "--repo", repository, "--password-command", "keyhearth secret get restic"]
    secrets.works(*restic, "init")
    secrets.works(*restic, "backup", "files", cwd=secrets.folder)
    back = secrets.folder / "back"
    secrets.works(*restic, "restore", "latest", "--target", back)
    assert (back / "files/one").read_bytes() == (secrets.data / "one").read_bytes()

    guest = secrets.server.issue(secrets.who, "guest", secrets.folder / "guest", "key-user")
    forbid = secrets.folder / "forbid.cedar"
    forbid.write_text(
        'forbid (principal, action == Keyhearth::Action::"read-secret", resource) '
        'when { context.context.hasTag("secret") && context.context.getTag("secret") == "restic" };'
    )
    secrets.works(*restic, "snapshots", who=guest)
    secrets.server.done(secrets.who, "policy", "set", "stop", forbid, "--yes")
    refused = secrets.run(*restic, "snapshots", who=guest)
    assert refused.returncode != 0 and b"not allowed" in refused.stderr.lower(), refused.stderr

    secrets.server.done(secrets.who, "policy", "delete", "stop", "--yes")
    secrets.server.done(secrets.who, "secret", "delete", "restic", "--yes")
    lost = secrets.run(*restic, "snapshots")
    assert lost.returncode != 0 and b"not found" in lost.stderr.lower(), lost.stderr


def test_borg(secrets):
    secrets.create("borg", stdin=b"correct horse battery staple\n")
    assert secrets.get("borg") == b"correct horse battery staple"
    asks = {"BORG_PASSCOMMAND": "keyhearth secret get borg", "BORG_BASE_DIR": str(secrets.folder / "borg")}
    repository = secrets.folder / "repository"
    secrets.works("borg", "init", "--encryption", "repokey", repository, **asks)
    secrets.works("borg", "create", f"{repository}::one", "files", cwd=secrets.folder, **asks)
    back = secrets.folder / "back"
    back.mkdir()
    secrets.works("borg", "extract", f"{repository}::one", cwd=back, **asks)
    assert (back / "files/one").read_bytes() == (secrets.data / "one").read_bytes()
    asks["BORG_PASSCOMMAND"] = "keyhearth secret get other"
    assert secrets.run("borg", "list", repository, **asks).returncode != 0


def test_a_disk_opens_with_every_byte_of_its_secret(secrets):
    value = bytes(range(256)) * 8
    secrets.create("disk", "--from", "-", stdin=value)
    assert secrets.get("disk") == value
    disk = secrets.folder / "disk"
    disk.write_bytes(bytes(20 << 20))
    quick = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--batch-mode"]
    secrets.works("cryptsetup", "luksFormat", *quick, "--key-file", "-", disk, stdin=secrets.get("disk"))
    opens = ["cryptsetup", "open", "--test-passphrase", "--key-file", "-", disk]
    secrets.works(*opens, stdin=secrets.get("disk"))
    assert secrets.run(*opens, stdin=value[:-1]).returncode != 0


def on_a_terminal(secrets, *words):
    """Status and output of the program whose standard output is a terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, **secrets.who.environment()}
    process = subprocess.run(
        [secrets.server.program, *words], stdout=theirs, stderr=subprocess.PIPE, env=environment, timeout=60
    )
    os.close(theirs)
    try:
        output = os.read(ours, 1024)
    except OSError:
        output = b""  # nothing was written
    os.close(ours)
    return process.returncode, output, process.stderr


def test_a_terminal_shows_a_secret_only_if_that_is_meant(secrets):
    secrets.create("one", stdin=b"value\n")
    status, output, error = on_a_terminal(secrets, "secret", "get", "one")
    assert (status, output) == (1, b"") and b"--show" in error and b"value" not in error
    assert on_a_terminal(secrets, "secret", "get", "one", "--show")[:2] == (0, b"value")


def test_what_was_kept_survives_the_end_of_the_server_and_lies_nowhere_in_plaintext(secrets):
    value = b"nobody finds this in a file"
    secrets.create("one", stdin=value)
    secrets.server.kill()
    data = [path.read_bytes() for path in secrets.server.data.rglob("*") if path.is_file()]
    assert data and not any(value in content for content in data)
    secrets.server.start()
    assert secrets.get("one") == value
    assert secrets.server.refused(secrets.who, "secret", "create", "one", "--key", "backups", stdin=value) == "conflict"
    secrets.create("one", "--replace", stdin=b"another")
    assert secrets.get("one") == b"another"
    secrets.server.done(secrets.who, "key", "create", "aes-256", "--alias", "other")
    assert secrets.server.refused(secrets.who, "secret", "get", "one", "--key", "other") == "not_found"
    assert secrets.server.done(secrets.who, "secret", "get", "one", "--key", "backups") == b"another"
    secrets.server.done(secrets.who, "secret", "delete", "one", "--yes")
    assert secrets.server.refused(secrets.who, "secret", "get", "one") == "not_found"


class Held:
    """Files whose keys the server keeps."""

    def __init__(self, secrets):
        self.server, self.folder, self.who = secrets.server, secrets.folder, secrets.who
        self.path = self.folder / "path"
        self.path.mkdir()
        (self.path / "age-plugin-keyhearth").symlink_to(self.server.program)

    def file(self, *words, who=None):
        return self.server.done(who or self.who, "file", *words)

    def sealed(self, name, content):
        path = self.folder / name
        path.write_bytes(content)
        self.file("seal", path, "--key", "backups", "--held")
        return path.with_name(path.name + ".age")

    def opened(self, path, who=None):
        return self.file("open", path, "--output", "-", who=who)

    def refused(self, *words, who=None):
        return self.server.refused(who or self.who, "file", *words)

    def inspect(self, path):
        return json.loads(self.server.done(self.who, "--json", "file", "inspect", path))


@pytest.fixture
def held(secrets):
    return Held(secrets)


def test_a_held_file_opens_here_and_in_age_and_has_only_ids_in_it(held):
    content = os.urandom(100_000)
    path = held.sealed("file", content)
    shown = held.inspect(path)
    assert shown["held"] and shown["made"] is None
    ours = [line for line in path.read_bytes().split(b"\n")[:4] if b"ref1" in line]
    assert ours == [f"-> keyhearth/ref1 {shown['key']} {shown['file']}".encode()]
    assert held.opened(path) == content
    environment = {**os.environ, **held.who.environment(), "PATH": f"{held.path}:{os.environ['PATH']}"}
    age = subprocess.run(["age", "-d", "-j", "keyhearth", path], env=environment, capture_output=True, timeout=60)
    assert age.returncode == 0 and age.stdout == content, age.stderr

    before = path.read_bytes()
    held.server.done(held.who, "key", "rotate", "backups")
    held.server.kill()
    held.server.start()
    assert held.opened(path) == content and path.read_bytes() == before
    for words in ([], ["--suspected-stolen"]):
        assert held.refused("rekey", *words, path) == "held" and path.read_bytes() == before


def test_a_held_file_is_shared_and_ends_everywhere_at_once(held):
    path = held.sealed("file", b"content")
    other = held.sealed("other", b"another")
    guest = held.server.issue(held.who, "guest", held.folder / "guest")
    who = json.loads(held.server.done(guest, "--json", "whoami"))["identity"]
    assert held.refused("open", path, "--output", "-", who=guest) == "denied"
    held.file("share", path, "--with", who)
    assert held.opened(path, who=guest) == b"content"
    assert held.refused("open", other, "--output", "-", who=guest) == "denied"
    held.file("unshare", path, "--from", who)
    assert held.refused("open", path, "--output", "-", who=guest) == "denied"

    copy = held.folder / "copy.age"
    copy.write_bytes(path.read_bytes())
    # Whose header names the key of another file ends nothing.
    names = [held.inspect(one)["file"].encode() for one in (path, other)]
    forged = held.folder / "forged.age"
    forged.write_bytes(path.read_bytes().replace(*names))
    assert held.refused("shred", forged, "--yes") == "not_authentic"
    assert held.opened(other) == b"another"
    wrapped = held.folder / "wrapped"
    wrapped.write_bytes(b"x")
    held.file("seal", wrapped, "--key", "backups")
    assert held.refused("shred", f"{wrapped}.age", "--yes") == "not_held"

    # Who opens nothing is told how to do it.
    told = held.server.command(guest, "file", "shred", path, "--yes")
    id = held.inspect(path)["file"]
    assert told.returncode == 1 and f"keyhearth secret delete file/{id}" in told.stderr.decode(), told.stderr

    held.file("shred", path, "--yes")
    for gone in (path, copy):
        assert held.refused("open", gone, "--output", "-") == "not_found"
    assert held.opened(other) == b"another"


def test_a_folder_of_held_files_goes_in_few_requests(held):
    folder = held.folder / "folder"
    folder.mkdir()
    for number in range(600):
        (folder / str(number)).write_bytes(os.urandom(number))
    held.file("seal", folder, "--key", "backups", "--held", "--output", held.folder / "sealed")
    held.file("open", held.folder / "sealed", "--output", held.folder / "opened")
    for number in range(600):
        assert (held.folder / "opened" / str(number)).read_bytes() == (folder / str(number)).read_bytes()
    page = json.loads(held.server.done(held.who, "--json", "secret", "list", "--limit", "1000"))
    assert sum(one["name"].startswith("file/") for one in page["secrets"]) == 600 and page["next"] is None
