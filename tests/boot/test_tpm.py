"""Machines with a TPM: a measured image, another image, and evidence that is not enough."""

import json

import pytest

from image import Unified
from machine import Tpm

NOTHING = bytes(32).hex()


@pytest.fixture
def tpm(tmp_path):
    return Tpm(tmp_path / "tpm")


def attestation_key(guest, tpm):
    """The fingerprint of the machine's attestation key, which it prints and then has no server to go on with."""
    guest.files["scripts/before"] = "keyhearth-boot ak --json; poweroff -f"
    with tpm, guest.boot(tpm=tpm) as machine:
        printed = machine.expect(r'\{"sha256".*\}')[0]
        machine.end()
    del guest.files["scripts/before"]
    return json.loads(printed)["sha256"]


@pytest.fixture
def guest(enrol, tpm, server):
    """A machine with an image whose measurement the server knows."""
    guest = enrol(policy='context.boot.image_known && context.boot.kind == "tpm"')
    guest.settings["tee"] = "tpm"
    reference = {"ak": attestation_key(guest, tpm), "pcrs.15": NOTHING}
    guest.image = Unified(guest.folder / "known", guest.kernel, guest.initrd())
    reference["pcrs.11"] = guest.image.pcr_11().hex()
    server.refer(guest.enrolled, reference)
    return guest


def test_the_image_that_is_known_gets_its_keys_and_another_does_not(guest, tpm):
    guest.files["etc/motd"] = "another initramfs\n"
    other = Unified(guest.folder / "other", guest.kernel, guest.initrd("other-initrd"))
    with tpm:
        console = guest.refused("policy-image", esp=other.esp, tpm=tpm)
    assert "Security violation" in console
    with tpm:
        guest.opened(esp=guest.image.esp, tpm=tpm)


def test_a_tpm_does_not_prove_encrypted_memory(enrol, tpm, server):
    guest = enrol(policy="context.boot.memory_encrypted")
    guest.settings["tee"] = "tpm"
    server.refer(guest.enrolled, {"ak": attestation_key(guest, tpm)})
    with tpm:
        console = guest.refused("policy-memory", tpm=tpm)
    assert "Security violation" in console


def test_a_tpm_that_is_not_enrolled_is_not_believed(enrol, tpm, server):
    guest = enrol()
    guest.settings["tee"] = "tpm"
    server.refer(guest.enrolled, {"ak": NOTHING})
    with tpm:
        guest.refused("tpm-key-untrusted", tpm=tpm)
