"""A Debian with initramfs-tools, on which the package was installed, from power on to its login prompt."""

import pytest

import debian
from guests import toml
from machine import Machine

COMMAND_LINE = "console=ttyS0 quiet no_timer_check root=/dev/mapper/root"


@pytest.fixture
def system(tmp_path, package, enrol):
    """The machine as its server knows it, with Debian on its disk."""
    guest = enrol()
    configuration = {"etc/keyhearth/boot.toml": toml(guest.settings)} | guest.files
    made = debian.Debian(tmp_path, package, configuration, guest.enrolled.secret)
    guest.server.prepared(guest.enrolled, made.disk)
    return made


def test_debian_boots_to_its_login_prompt_or_halts(system, tmp_path, server):
    paths = {str(path) for path in debian.contents(system.initrd)}
    assert {"etc/keyhearth/boot.toml", "etc/keyhearth/ca.pem", "usr/sbin/keyhearth-boot"} <= paths
    server.stop()
    with Machine(tmp_path, system.disk, system.kernel, system.initrd, COMMAND_LINE) as machine:
        assert machine.end() == "halted", machine.console
    assert "unreachable" in machine.console and "(initramfs)" not in machine.console, machine.console
    server.start()
    with Machine(tmp_path, system.disk, system.kernel, system.initrd, COMMAND_LINE) as machine:
        machine.expect("vault login: ")
    assert "the boot is confirmed" in machine.console, machine.console
