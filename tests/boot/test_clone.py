"""Clones of a golden image: each becomes a machine of its own when it starts for the first time, whatever interrupts it."""

import copy
import re
import shutil
import time

import pytest

import disk
from server import HOST
from wire import Wire

NEW = "a new clone of a golden image"
# Both copies of the header and all keyslots, as cryptsetup makes them.
HEADER_BYTES = 16 * disk.MIB


@pytest.fixture(scope="session")
def short(serve):
    """A server whose leases are over at once."""
    with serve(lease_s=1) as server:
        yield server


@pytest.fixture
def golden(machine, short):
    """Makes golden images."""
    return lambda clones, **enrolment: machine(short, clones=clones, **enrolment)


def clone(image, name):
    """A machine with a copy of the image's disk."""
    guest = copy.copy(image)
    guest.settings = dict(image.settings)
    guest.folder = image.folder / name
    guest.folder.mkdir()
    guest.disk = guest.folder / "disk"
    shutil.copy(image.disk, guest.disk)
    return guest


def identity(console):
    """The identity that a clone was given at this start; it must have opened its disk."""
    assert f"init: the root says: {disk.PROOF}" in console and NEW in console, console
    return re.search(r"this is machine ([0-9a-f-]{36}) from now on", console)[1]


def clones_of(server, image):
    return [one for one in server.call(server.keys, "GET", "/v1/machines")["machines"] if one["image"] == image.enrolled.id]


def described(server, id):
    return server.call(server.keys, "GET", f"/v1/machines/{id}")


def test_two_clones_that_start_together_become_two_machines_for_ever(golden, short):
    image = golden(2)
    one, two = clone(image, "one"), clone(image, "two")
    with one.boot() as first, two.boot() as second:
        assert (first.end(), second.end()) == ("off", "off"), first.console + second.console
    ids = [identity(first.console), identity(second.console)]
    assert len(set(ids)) == 2
    for guest, id in zip((one, two), ids):
        assert not disk.opens(guest.disk, image.enrolled.secret), "the image's secret opens a clone"
        shown = described(short, id)
        assert (shown["image"], shown["boots"], shown["confirmed"], shown["unsettled"]) == (image.enrolled.id, 1, True, False)
        time.sleep(2)  # until the lease is over
        assert NEW not in guest.opened()
        shown = described(short, id)
        assert (shown["boots"], shown["keeps_token"]) == (2, True)
    assert disk.opens(image.disk, image.enrolled.secret)
    assert described(short, image.enrolled.id)["clones"] == {"made": 2, "max": 2, "recovery": False}
    listed = short.run(short.keys, "boot", "list", "--json")
    assert all(id in listed for id in ids)
    # A third is one too many.
    console = clone(image, "three").refused("clones-full")
    assert "as many clones as it may" in console


def test_a_revoked_image_makes_no_clones_and_its_clones_go_on_until_they_are_revoked(golden, short):
    image = golden(3)
    guest = clone(image, "one")
    id = identity(guest.opened())
    name = described(short, image.enrolled.id)["name"]
    said = short.run(short.admin, "boot", "revoke", name)
    assert "Its 1 clones keep their identities" in said, said
    clone(image, "two").refused("machine-unknown")
    time.sleep(2)
    guest.opened()
    short.run(short.admin, "boot", "revoke", name, "--clones")
    guest.refused("machine-unknown")
    assert described(short, id)["boots"] == 2


def test_a_clone_is_rekeyed_by_its_own_recovery_secret_and_has_another_volume_key_then(golden, short):
    image = golden(1, recovery=True)
    guest = clone(image, "one")
    id = identity(guest.opened())

    def recovery(machine):
        out = guest.folder / f"recovery-{machine}"
        short.run(short.keys, "boot", "recover", machine, "root", "--to", out, "--reason", "a test")
        return out.read_bytes()

    assert not disk.opens(guest.disk, recovery(image.enrolled.id)), "the image's recovery secret opens a clone"
    images = disk.volume_key(image.disk, image.enrolled.secret)
    assert disk.volume_key(guest.disk, recovery(id)) == images, "until it is rekeyed"
    words = ["volume", "rekey", id, f"root={guest.disk}", "--recover", "--reason", "a test", "--yes"]
    short.run(short.keys, *words)
    (guest.folder / f"recovery-{id}").unlink()
    assert disk.volume_key(guest.disk, recovery(id)) != images
    assert NEW not in guest.opened()


def is_made(clones):
    return len(clones) == 1


def is_settled(clones):
    return is_made(clones) and not clones[0]["unsettled"]


def test_an_answer_that_is_lost_makes_no_second_clone(golden, short):
    image = golden(5)
    guest = clone(image, "one")
    lost = [is_made, is_settled]

    def loses():
        return bool(lost) and lost[0](clones_of(short, image)) and bool(lost.pop(0))

    with Wire(short.boot_port, loses) as wire:
        guest.settings["servers"] = [f"https://{HOST}:{wire.port}"]
        guest.settings["attempts"] = 5
        id = identity(guest.opened())
    assert not lost, "the answers were lost"
    assert [one["id"] for one in clones_of(short, image)] == [id]
    assert not disk.opens(guest.disk, image.enrolled.secret)


@pytest.mark.parametrize(
    ("is_done", "answers_after", "same"),
    [(is_made, 0, False), (is_settled, 0, False), (is_settled, 1, True)],
    ids=["before the header is settled", "before it is written", "after it was written"],
)
def test_power_that_fails_leaves_a_disk_that_boots(golden, short, is_done, answers_after, same):
    image = golden(5)
    guest = clone(image, "one")
    started, passed = [], []

    def fails():
        if not is_done(clones_of(short, image)):
            return False
        passed.append(True)
        if len(passed) <= answers_after:
            return False
        started[0].process.kill()
        return True

    with Wire(short.boot_port, fails) as wire:
        guest.settings["servers"] = [f"https://{HOST}:{wire.port}"]
        with guest.boot() as machine:
            started.append(machine)
            machine.process.wait()
    assert disk.PROOF not in machine.console
    [interrupted] = clones_of(short, image)
    assert disk.opens(guest.disk, image.enrolled.secret) == (not same)
    guest.settings["servers"] = [f"https://{HOST}:{short.boot_port}"]
    console = guest.opened()
    clones = {one["id"]: one for one in clones_of(short, image)}
    if same:
        assert NEW not in console and list(clones) == [interrupted["id"]]
    else:
        assert set(clones) == {interrupted["id"], identity(console)}
        assert clones[interrupted["id"]]["boots"] == 0
    assert not disk.opens(guest.disk, image.enrolled.secret)


def test_a_clone_whose_header_was_put_back_is_noticed_by_its_token(golden, short):
    image = golden(5)
    guest = clone(image, "one")
    guest.opened()
    with image.disk.open("rb") as old, guest.disk.open("r+b") as target:
        target.write(old.read(HEADER_BYTES))
    console = guest.stopped()
    assert NEW in console and "token-stale" in console and "init: done" not in console, console


def test_a_mark_of_another_machine_opens_nothing(golden, short):
    image = golden(5)
    one, two = clone(image, "one"), clone(image, "two")
    ids = [identity(guest.opened()) for guest in (one, two)]

    def claim(header):
        for token in header["tokens"].values():
            token["machine"] = ids[1]

    disk.rewrite_header(one.disk, claim)
    one.refused("header-differs")
    disk.rewrite_header(one.disk, lambda header: header["tokens"].clear())
    one.refused("header-differs")


def test_the_whole_disk_of_a_machine_of_another_image_is_not_started(golden, short):
    image, other = golden(2), golden(2)
    victim, theirs = clone(image, "victim"), clone(other, "theirs")
    theirs.opened()
    time.sleep(2)  # until the lease is over
    shutil.copy(theirs.disk, victim.disk)
    console = victim.stopped()
    assert "no clone of this image" in console and disk.PROOF not in console, console
