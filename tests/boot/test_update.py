"""A machine whose image is updated says so while it runs, and the new image boots once somebody has accepted it."""

import datetime
import json
import re
import time

import pytest

import disk
from image import Unified
from machine import Tpm
from test_tpm import NOTHING, attestation_key

VERSION = "6.1.0-99-amd64"
# The new image comes on a disk of its own, as one that a package brought. Then what the installation of a kernel runs.
INSTALL = f"""
mkdir -p /efi/EFI/Linux
head -c {{size}} /dev/vdb >/efi/EFI/Linux/test-{VERSION}.efi
keyhearth-boot candidate --uki /efi/EFI/Linux/test-{VERSION}.efi --dry-run --json
echo "init: dry run $?"
/etc/kernel/postinst.d/zzz-keyhearth-boot 6.1.0-98-amd64
/etc/kernel/postinst.d/zzz-keyhearth-boot {VERSION}
echo "init: the hook ended with $?"
export KERNEL_INSTALL_BOOT_ROOT=/efi
for act in remove add; do /usr/lib/kernel/install.d/95-keyhearth-boot.install $act {VERSION} /entry /vmlinuz; done
keyhearth-boot candidate --claim pcrs.11={{named}}
rm /run/keyhearth/session
/etc/kernel/postinst.d/zzz-keyhearth-boot {VERSION}
echo "init: without a lease the hook ended with $?"
rm /usr/lib/keyhearth/next-boot
/etc/kernel/postinst.d/zzz-keyhearth-boot {VERSION}
echo "init: without the package the hook ended with $?"
"""


@pytest.fixture
def tpm(tmp_path):
    return Tpm(tmp_path / "tpm")


def wait_for_end_of_lease(server, guest):
    """Until then another boot is told to wait."""
    until = server.machine(guest.enrolled)["leased_until"]
    until = datetime.datetime.fromisoformat(until.replace("Z", "+00:00"))
    time.sleep(max(0, (until - datetime.datetime.now(datetime.UTC)).total_seconds()) + 1)


def test_a_new_image_is_refused_until_it_is_accepted(machine, serve, tpm):
    with serve(lease_s=180) as server:
        guest = machine(server, policy="context.boot.image_known")
        guest.settings["tee"] = "tpm"
        guest.settings["heartbeat"] = {"every_s": 5, "on_end": "halt"}
        reference = {"ak": attestation_key(guest, tpm), "pcrs.15": NOTHING}
        guest.files["etc/motd"] = "another initramfs\n"
        new = Unified(guest.folder / "new", guest.kernel, guest.initrd("new-initrd"))
        file = new.esp / "EFI/BOOT/BOOTX64.EFI"
        size = file.stat().st_size
        brought = guest.folder / "brought"
        brought.write_bytes(file.read_bytes() + bytes(-size % 4096))
        # Whoever runs the machine may name any value: it waits beside the other.
        guest.files["scripts/after"] = INSTALL.format(size=size, named="0" * 64)
        old = Unified(guest.folder / "old", guest.kernel, guest.initrd("old-initrd"))
        server.refer(guest.enrolled, reference | {"pcrs.11": old.pcr_11().hex()})
        with tpm:
            console = guest.opened(esp=old.esp, tpm=tpm, more=[brought])
        assert "init: dry run 3" in console and "init: the hook ended with 0" in console, console
        told = json.loads(next(line for line in console.splitlines() if line.startswith('{"machine"')))
        assert (told["state"], told["lacks"]) == ("differs", ["pcrs.11"])
        assert told["claims"]["pcrs.11"] == new.pcr_11().hex()
        # A kernel without an image is passed over; of the other each hook says one sentence, and asks for the same.
        said = re.findall(rf"keyhearth-boot: /efi/EFI/Linux/test-{VERSION}.efi: (.*)", console)
        waiting = server.machine(guest.enrolled)["candidates"]
        assert all(f"waits for acceptance as candidate {waiting[0]['id']}" in line for line in said[:2]), said
        # What keeps it from asking fails no package, and names what to do instead.
        assert len(said) == 3 and "no lease" in said[2], said
        assert f"boot update {guest.enrolled.id} --add pcrs.11={new.pcr_11().hex()}" in said[2], said
        assert "init: without a lease the hook ended with 0" in console, console
        assert "init: without the package the hook ended with 0" in console, console
        assert len(waiting) == 2, "the image, and the value that was named by hand"
        claims = {claim["claim"]: (claim["value"], claim["differs"]) for claim in waiting[0]["claims"]}
        assert claims["pcrs.11"] == (new.pcr_11().hex(), True)

        wait_for_end_of_lease(server, guest)
        with tpm:
            guest.refused("policy-image", esp=new.esp, tpm=tpm)
        name = server.machine(guest.enrolled)["name"]
        explained = server.run(server.admin, "boot", "explain", name)
        assert waiting[0]["id"] in explained and "is refused" in explained, explained
        listed = server.run(server.keys, "boot", "candidates", name)
        assert new.pcr_11().hex() in listed and old.pcr_11().hex() in listed, listed
        assert all(len(line) <= 80 for line in listed.splitlines()), listed
        server.run(server.keys, "boot", "accept", name, waiting[0]["id"])
        server.run(server.keys, "boot", "reject", name, waiting[1]["id"])
        assert "Nothing waits" in server.run(server.keys, "boot", "candidates")
        with tpm:
            assert disk.PROOF in guest.opened(esp=new.esp, tpm=tpm)
        # The old image is dropped, and could not be before the new one was there.
        server.run(server.keys, "boot", "update", name, "--drop", f"pcrs.11={old.pcr_11().hex()}")
        values = {value["claim"]: value["values"] for value in server.machine(guest.enrolled)["reference"]}
        assert values["pcrs.11"] == [new.pcr_11().hex()]
