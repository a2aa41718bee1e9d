"""A machine that belongs to a server: its disk, its configuration, and how it boots."""

import json
import re
import shutil

import disk
import image
from archive import Archive
from machine import Machine
from server import HOST

SHELL = re.compile(r"\(initramfs\)|[#$] $", re.MULTILINE)


class Guest:
    """A machine with one encrypted volume, which `server` knows."""

    def __init__(self, folder, kernel, base, server, **enrolment):
        self.folder, self.kernel, self.base, self.server = folder, kernel, base, server
        self.command_line = image.COMMAND_LINE
        self.disk = folder / "disk"
        self.enrolled = server.enrol(**enrolment)
        disk.make(self.disk, self.enrolled.secret, disk.root_folder(folder / "root"))
        server.prepared(self.enrolled, self.disk)
        self.files = {"etc/keyhearth/ca.pem": server.ca}
        self.settings = {
            "servers": [f"https://{HOST}:{server.boot_port}"],
            "ca": "/etc/keyhearth/ca.pem",
            "release_key": server.release_key,
            "server": server.deployment,
            "machine": self.enrolled.id,
            "tee": "none",
            "on_refusal": "halt",
            "attempts": 4,
            **({"image": True} if enrolment.get("clones") else {}),
            "volumes": [{"name": "root", "device": "/dev/vda", "mapping": "root"}],
        }

    def initrd(self, name="initrd"):
        """The initramfs with what is this machine's own."""
        own = Archive()
        own.file("etc/keyhearth/boot.toml", toml(self.settings))
        for path, contents in self.files.items():
            own.file(path, contents, 0o755 if path.startswith("sbin/") else 0o644)
        path = self.folder / name
        path.write_bytes(self.base.read_bytes() + own.bytes())
        return path

    def boot(self, **hardware):
        """Starts it: by QEMU's own loader, or from `esp`."""
        if "esp" not in hardware:
            hardware |= {"kernel": self.kernel.image, "initrd": self.initrd(), "append": self.command_line}
        return Machine(self.folder, self.disk, **hardware)

    def opened(self, **hardware):
        """Boots it; it must open its disk, read it and power off."""
        with self.boot(**hardware) as machine:
            end = machine.end()
        console = machine.console
        assert end == "off" and f"init: the root says: {disk.PROOF}" in console, console
        assert "the boot is confirmed" in console, console
        return console

    def stopped(self, **hardware):
        """Boots it; it must halt, at whatever point, without a prompt."""
        with self.boot(**hardware) as machine:
            end = machine.end()
        console = machine.console
        assert end == "halted" and not SHELL.search(console), console
        return console

    def refused(self, code, **hardware):
        """Boots it; it must halt with its disk closed and show this reason, if there is one."""
        console = self.stopped(**hardware)
        assert disk.PROOF not in console, console
        if code:
            assert "THIS MACHINE DOES NOT START" in console, console
            assert re.search(rf"^ Code +{code}$", console, re.MULTILINE), console
        return console

    def on_snp(self, hardware):
        """Puts it on a processor with SEV-SNP, as far as it can tell."""
        self.settings["tee"] = "snp"
        self.files |= {
            "etc/hardware": f"{HOST}:{hardware.port}",
            "scripts/before": (image.GUEST / "before-snp").read_text(),
            "sbin/tsm": (image.CACHE / "tsm").read_bytes(),
        }

    def copy_disk(self, name):
        return shutil.copy(self.disk, self.folder / name)


def toml(settings):
    """A record of texts, numbers, truths, lists, records and one list of records."""
    lines = [f"{name} = {toml_value(value)}" for name, value in settings.items() if name != "volumes"]
    for volume in settings["volumes"]:
        lines += ["[[volumes]]", *(f"{name} = {toml_value(value)}" for name, value in volume.items())]
    return "\n".join(lines) + "\n"


def toml_value(value):
    """All but records are spelled as in JSON."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {toml_value(member)}" for name, member in value.items()) + " }"
    return json.dumps(value)
