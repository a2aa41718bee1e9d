"""A laptop that reads a mounted folder without the server: what it holds, and what ends that."""

import contextlib
import copy
import datetime
import errno
import json
import os

import pytest

from mounting import HELLO, Gate, Mounts, installed, refused, until, until_it_ends  # noqa: F401

HOLD = 'permit (principal, action == Keyhearth::Action::"hold", resource is Keyhearth::Key)'


class Laptop(Mounts):
    """As mounts, where whatever is read is asked for, unless it is held."""

    def start(self, *words, who=None):
        self.gate = Gate(self.server.url)
        who = copy.copy(who or self.who)
        who.url = self.gate.url
        super().start("--lease", "0s", *words, who=who)

    def restart_server(self):
        self.server.start()
        self.who.url = self.server.url
        self.gate.lead_to(self.server.url)

    def says(self, text):
        until(f"it does not say {text!r}", lambda: text in self.said())

    def holds(self, count):
        self.says(f"{count} files open without the server")

    def ends(self, name, code):
        """Reads the file until that is refused in this way, however often it is read before."""

        def is_over():
            try:
                (self.point / name).read_bytes()
            except OSError as error:
                return error.errno == code

        until(f"{name} is still read", is_over)

    def policy(self, name, text):
        path = self.folder / f"{name}.cedar"
        path.write_text(text)
        self.server.done(self.who, "policy", "set", name, path, "--yes")

    def leases(self, *words):
        return json.loads(self.server.done(self.who, "--json", "audit", "leases", *words))["leases"]


@pytest.fixture
def laptop(server, tmp_path):
    yield from until_it_ends(Laptop(server, tmp_path))


def colleague(laptop, *roles):
    return laptop.server.issue(laptop.who, "colleague", laptop.folder / "colleague", *roles)


def test_all_files_open_without_the_server_until_it_refuses(laptop):
    laptop.policy("hold", f"{HOLD};")
    names = ["age", "esdk", "kept", "below/age"]
    sealed = [laptop.seal(names[0]), laptop.seal(names[1], HELLO, "--format", "esdk"), laptop.seal(names[2], HELLO, "--held")]
    (laptop.sealed / "below").mkdir()
    sealed.append(laptop.seal(names[3]))
    with laptop.mounted("--offline", "1h") as point:
        laptop.holds(4)
        ids = [json.loads(laptop.server.done(laptop.who, "--json", "file", "inspect", path)) for path in sealed]
        held = {one["what"] for one in laptop.leases()}
        assert len(held) == 4 and all(any(what.removeprefix("file/") in json.dumps(one) for one in ids) for what in held)
        laptop.server.kill()
        for name in names:
            assert (point / name).read_bytes() == HELLO
        # Renamed it is the same file; what nobody asked for yet is none of them.
        sealed[0].rename(laptop.sealed / "renamed.age")
        assert (point / "renamed").read_bytes() == HELLO
        laptop.restart_server()
        laptop.server.done(laptop.who, "key", "suspend", "files", "--reason", "test")
        for name in ("renamed", *names[1:]):
            laptop.ends(name, errno.EACCES)
        laptop.server.kill()
        for name in ("renamed", *names[1:]):
            refused(errno.EIO, (point / name).read_bytes)


def test_what_is_held_ends_with_its_time(laptop):
    laptop.policy("hold", f"{HOLD};")
    laptop.seal("file")
    with laptop.mounted("--offline", "3s") as point:
        laptop.holds(1)
        file = os.open(point / "file", os.O_RDONLY)
        laptop.server.kill()
        laptop.ends("file", errno.EIO)
        refused(errno.EIO, lambda: os.pread(file, 1, 0))
        os.close(file)
        laptop.holds(0)


def test_new_files_are_held_and_leases_are_renewed(laptop):
    laptop.policy("hold", f"{HOLD};")
    laptop.seal("old")
    with laptop.mounted("--offline", "20s") as point:
        laptop.holds(1)
        first = laptop.leases()[0]["held_until"]
        laptop.seal("new")
        laptop.holds(2)
        until("it is not renewed", lambda: any(one["held_until"] > first and one["index"] for one in laptop.leases()))
        assert (point / "new").read_bytes() == HELLO


def test_nothing_is_held_without_a_policy(laptop):
    laptop.seal("file")
    who = colleague(laptop, "key-user")
    with laptop.mounted("--offline", "1h", who=who) as point:
        laptop.says("1 files do not open without the server: not allowed")
        assert (point / "file").read_bytes() == HELLO
        laptop.server.kill()
        refused(errno.EIO, (point / "file").read_bytes)
    laptop.restart_server()
    laptop.policy("hold", f"{HOLD} when {{ context.lease_seconds <= 3600 }};")
    with laptop.mounted("--offline", "61m", who=who):
        laptop.says("1 files do not open without the server: not allowed")
    with laptop.mounted("--offline", "1h", who=who) as point:
        laptop.holds(1)
        laptop.server.kill()
        assert (point / "file").read_bytes() == HELLO


def test_who_is_revoked_holds_nothing_any_more(laptop):
    laptop.seal("file")
    laptop.seal("other")
    laptop.policy("hold", f"{HOLD};")
    who = colleague(laptop, "key-user")
    identity = laptop.server.id_of(who)
    with laptop.mounted("--offline", "1h", who=who) as point:
        laptop.holds(2)
        laptop.server.done(laptop.who, "identity", "revoke", identity)
        with pytest.raises(OSError):
            (point / "file").read_bytes()
        laptop.holds(0)
        laptop.server.kill()
        for name in ("file", "other"):
            refused(errno.EIO, (point / name).read_bytes)
    laptop.restart_server()
    assert {one["identity"] for one in laptop.leases("--of", identity)} == {identity}, "a laptop that is lost does not tell"


def test_a_lease_ends_with_the_grant(laptop):
    sealed = laptop.seal("file")
    laptop.policy("hold", f"{HOLD};")
    who = colleague(laptop)
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=2)
    end = f"{end:%Y-%m-%dT%H:%M:%SZ}"
    laptop.server.done(laptop.who, "file", "share", sealed, "--with", laptop.server.id_of(who), "--until", end)
    with laptop.mounted("--offline", "8h", who=who) as point:
        laptop.holds(1)
        assert [one["held_until"] <= end for one in laptop.leases()] == [True]
        laptop.server.done(laptop.who, "file", "unshare", sealed, "--from", laptop.server.id_of(who))
        refused(errno.EACCES, (point / "file").read_bytes)
        laptop.server.kill()
        refused(errno.EIO, (point / "file").read_bytes)


def test_times_that_make_no_sense_are_refused(laptop):
    for words in (("--offline", "0s"), ("--offline", "8d"), ("--offline", "x"), ("--lease", "2h")):
        process = laptop.server.command(laptop.who, "file", "mount", laptop.sealed, laptop.point, *words)
        assert process.returncode == 2, process.stderr
    with contextlib.suppress(FileNotFoundError):
        assert not laptop.said()
