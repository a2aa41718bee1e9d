"""Encrypted disks of test machines, made without a device mapper: LUKS2 volumes with an ext4 file system inside."""

import hashlib
import json
import subprocess

MIB = 1 << 20
# LUKS2: two copies of a header, each a binary part of 4 KiB and JSON, together this long by default.
HEADER_BYTES = 16 * 1024
BINARY_BYTES = 4096
CHECKSUM = slice(448, 512)
PROOF = "the disk was opened"


def make(path, key, folder, size_mib=24):
    """A volume of `size_mib` MiB that 32 bytes of `key` open, with what lies in `folder`."""
    path.touch()
    path.unlink()
    words = ["mkfs.ext4", "-q", "-d", folder, "-E", "root_owner=0:0", path, f"{size_mib}M"]
    subprocess.run(words, check=True, capture_output=True)
    with path.open("ab") as file:
        file.truncate((size_mib + 32) * MIB)
    # The key is random, so that deriving from it slowly would protect nothing.
    words = ["cryptsetup", "reencrypt", "--encrypt", "--type", "luks2", "--reduce-device-size", "32M", "--batch-mode"]
    words += ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--cipher", "aes-xts-plain64"]
    subprocess.run([*words, "--key-file", "-", path], input=key, check=True, capture_output=True)


def opens(path, key):
    """Whether a keyslot of the volume opens with this key."""
    words = ["cryptsetup", "open", "--type", "luks2", "--test-passphrase", "--batch-mode", "--key-file", "-", path]
    done = subprocess.run(words, input=key, capture_output=True)
    assert done.returncode in (0, 2), done.stderr
    return done.returncode == 0


def volume_key(path, key):
    """The volume key, which whoever has a key of a keyslot gets."""
    words = ["cryptsetup", "luksDump", "--dump-volume-key", "--batch-mode", "--key-file", "-", path]
    said = subprocess.run(words, input=key, capture_output=True, check=True).stdout.decode()
    return bytes.fromhex(said.split("MK dump:")[1])


def root_folder(folder):
    """What a small root file system holds."""
    (folder / "etc").mkdir(parents=True)
    (folder / "etc/proof").write_text(PROOF + "\n")
    (folder / "var/lib/keyhearth").mkdir(parents=True)
    return folder


def rewrite_header(path, change):
    """Changes the JSON of both headers, with checksums as they must be: what whoever has the disk can do.

    Source: LUKS2 on-disk format, sections 2 and 3.
    """
    with path.open("r+b") as file:
        for offset in (0, HEADER_BYTES):
            file.seek(offset)
            header = bytearray(file.read(HEADER_BYTES))
            described = json.loads(header[BINARY_BYTES:].split(b"\0", 1)[0])
            change(described)
            text = json.dumps(described, separators=(",", ":")).encode()
            header[BINARY_BYTES:] = text.ljust(HEADER_BYTES - BINARY_BYTES, b"\0")
            header[CHECKSUM] = bytes(64)
            header[CHECKSUM] = hashlib.sha256(header).digest().ljust(64, b"\0")
            file.seek(offset)
            file.write(header)
