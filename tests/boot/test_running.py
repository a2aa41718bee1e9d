"""Machines that run: volumes that are opened late, heartbeats, and what ends them."""

import disk
import pytest

from machine import Tpm
from test_tpm import NOTHING, attestation_key

# What the system does that was started: it opens a volume late, and keeps the lease until that ends. It goes down without
# writing anything out: what is suspended would keep it waiting for ever.
LATE = """
keyhearth-boot open --late && mount /dev/mapper/root /newroot && echo "init: the volume says: $(cat /newroot/etc/proof)"
{then}
keyhearth-boot watch
echo "init: watch ended with $?"
echo "init: then $(cryptsetup status root | grep -E 'mode|inactive')"
[ ! -e /run/keyhearth/session ] || echo "init: the session is still there"
ip link set eth0 down
poweroff -n -f
"""
OPENED = f"init: the volume says: {disk.PROOF}"


def late(machine, server, on_end, then="echo init: running"):
    """A machine whose one volume is opened late."""
    guest = machine(server)
    guest.settings["heartbeat"] = {"every_s": 1, "on_end": on_end}
    guest.settings["volumes"][0]["late"] = True
    guest.files["scripts/after"] = LATE.format(then=then)
    return guest


def test_a_volume_in_use_loses_its_key_when_the_machine_may_not_go_on(machine, serve):
    with serve() as server:
        # Whatever was done to the header on the disk since it was opened.
        guest = late(machine, server, "close", "dd if=/dev/zero of=/dev/vda bs=1M count=1; sync; echo init: running")
        with guest.boot() as running:
            running.expect("init: running")
            before = server.machine(guest.enrolled)
            server.suspend()
            assert running.end() == "off", running.console
        assert OPENED in running.console and "init: watch ended with 1" in running.console, running.console
        assert "(suspended)" in running.console and "still there" not in running.console, running.console
        after = server.machine(guest.enrolled)
    assert (before["boots"], after["boots"], after["refused"]["code"]) == (1, 1, "key-unusable")


def test_a_volume_is_closed_when_no_server_answers_in_time(machine, serve):
    with serve(lease_s=15) as server:
        guest = late(machine, server, "close", "umount /newroot; echo init: running")
        with guest.boot() as running:
            running.expect("init: running")
            server.stop()
            running.expect("init: watch ended with 1")
            assert running.end() == "off", running.console
            server.start()
    assert "lease-over" in running.console and "is inactive" in running.console, running.console


def test_a_machine_that_may_not_go_on_ends_if_it_is_told_to(machine, serve):
    with serve() as server:
        guest = late(machine, server, "poweroff")
        with guest.boot() as running:
            running.expect("init: running")
            server.suspend()
            assert running.end() == "off", running.console
    assert OPENED in running.console and "init: watch ended" not in running.console, running.console


ROOT_AND_LATE = """
keyhearth-boot watch &
keyhearth-boot open --late && mkdir /data && mount /dev/mapper/data /data && echo "init: the data say: $(cat /data/etc/proof)"
keyhearth-boot open --late
echo "init: again, $?"
cryptsetup status data | grep suspended
ls -d /data/etc
echo "init: running"
sleep 1000
"""


@pytest.fixture
def tpm(tmp_path):
    return Tpm(tmp_path / "tpm")


def test_root_and_a_late_volume_share_a_lease_on_evidence(machine, serve, tpm):
    with serve() as server:
        guest = machine(server, policy="context.boot.image_known", volumes=["root", "data"])
        data = guest.folder / "data"
        secret = server.secret(guest.enrolled.id, "data")
        disk.make(data, secret, disk.root_folder(guest.folder / "data-root"))
        server.prepared(guest.enrolled, data, "data")
        guest.settings["tee"] = "tpm"
        # The agent extends PCR 15 before the first volume is opened: what continues is compared without it.
        server.refer(guest.enrolled, {"ak": attestation_key(guest, tpm), "pcrs.15": NOTHING})
        guest.settings["heartbeat"] = {"every_s": 2, "on_end": "poweroff"}
        guest.settings["volumes"].append({"name": "data", "device": "/dev/vdb", "mapping": "data", "late": True})
        guest.files["scripts/after"] = ROOT_AND_LATE
        with tpm, guest.boot(tpm=tpm, more=[data]) as running:
            running.expect("init: running")
            shown = server.machine(guest.enrolled)
            server.suspend()
            assert running.end() == "off", running.console
    for said in (f"init: the root says: {disk.PROOF}", f"init: the data say: {disk.PROOF}", "init: again, 0", "/data/etc"):
        assert said in running.console, running.console
    assert "suspended" not in running.console.split("init: running")[0], running.console
    assert (shown["boots"], shown["confirmed"]) == (1, True)
