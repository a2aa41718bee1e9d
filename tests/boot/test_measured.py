"""What firmware and TPM say about an image, and which key the TPM says it with."""

import json

from image import Unified
from machine import Tpm

LOOK = """
for index in 4 11 12 15; do echo "init: PCR $index $(cat /sys/class/tpm/tpm0/pcr-sha256/$index)"; done
keyhearth-boot ak --json
poweroff -f
"""
NOTHING = bytes(32).hex()


def look(guest, tpm, **boot):
    """PCRs by their index, and the fingerprint of the attestation key, as a machine prints them."""
    guest.files["scripts/before"] = LOOK
    with tpm, guest.boot(tpm=tpm, **boot) as machine:
        pcrs = {index: machine.expect(rf"init: PCR {index} ([0-9A-F]{{64}})")[1].lower() for index in (4, 11, 12, 15)}
        key = json.loads(machine.expect(r'\{"sha256".*\}')[0])["sha256"]
        assert machine.end() == "off", machine.console
    return pcrs, key


def test_pcr_11_of_an_image_is_known_before_it_boots(alone, tmp_path):
    alone.files["scripts/before"] = LOOK
    image = Unified(tmp_path / "image", alone.kernel, alone.initrd())
    pcrs, key = look(alone, Tpm(tmp_path / "tpm"), esp=image.esp)
    assert pcrs[11] == image.pcr_11().hex() and pcrs[4] != NOTHING
    # Nothing came from elsewhere, and nothing was released.
    assert pcrs[12] == pcrs[15] == NOTHING
    # The key is the TPM's, however the machine boots; what QEMU loads itself is not measured.
    pcrs, same = look(alone, Tpm(tmp_path / "tpm"))
    assert same == key and pcrs[11] == NOTHING
    _, other = look(alone, Tpm(tmp_path / "other-tpm"))
    assert other != key
