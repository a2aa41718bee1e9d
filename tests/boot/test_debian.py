"""A Debian with initramfs-tools or dracut, on which the package was installed, from power on to its login prompt."""

import subprocess

import pytest

import debian
from guests import SHELL, toml
from machine import Machine

COMMAND_LINE = "console=ttyS0 quiet no_timer_check root=/dev/mapper/root"
# Words of the kernel's command line that ask each of them for a shell before there is a system.
SHELLS = {
    "initramfs-tools": ["break=bottom"],
    "dracut": ["rd.break", "rd.break=cmdline", "rd.shell rd.break=initqueue"],
}


@pytest.fixture(params=SHELLS)
def generator(request):
    return request.param


@pytest.fixture
def boot(generator, tmp_path, package, enrol):
    """Boots the machine as its server knows it, with Debian on its disk and these words on the command line."""
    guest = enrol()
    # Nobody has this name, which only DNS knows.
    guest.settings["servers"].insert(0, "https://kms.invalid:8446")
    root = debian.Root(tmp_path / "debian", {"etc/keyhearth/boot.toml": toml(guest.settings), **guest.files})
    root.use(generator, package)
    made = debian.Debian(tmp_path, root, guest.enrolled.secret)
    guest.server.prepared(guest.enrolled, made.disk)
    paths = {str(path) for path in debian.contents(made.initrd)}
    assert {"etc/keyhearth/boot.toml", "etc/keyhearth/ca.pem", "usr/sbin/keyhearth-boot"} <= paths
    return lambda words="": Machine(tmp_path, made.disk, made.kernel, made.initrd, f"{COMMAND_LINE} {words}")


def halted(machine):
    """What the console of a machine shows that halts without a prompt."""
    with machine:
        assert machine.end() == "halted", machine.console
    console = machine.console
    assert not SHELL.search(console) and "login:" not in console, console
    return console


# One test, since making the system takes longer than booting it.
def test_debian_boots_to_its_login_prompt_or_halts(boot, generator, server):
    server.stop()
    console = halted(boot("rd.shell"))
    assert "THIS MACHINE DOES NOT START" in console and "unreachable" in console, console
    server.start()
    for words in SHELLS[generator]:
        console = halted(boot(words))
        assert "keyhearth: the" in console and "asking" not in console, console
    with boot() as machine:
        machine.expect("vault login: ")
    console = machine.console
    assert "kms.invalid" in console and "names no DNS server" not in console, console
    assert "the boot is confirmed" in console, console


def test_no_initramfs_is_made_without_the_ca(tmp_path, package, generator):
    root = debian.Root(tmp_path / "debian", {"etc/keyhearth/boot.toml": 'ca = "/etc/keyhearth/ca.pem"\n'})
    with pytest.raises(subprocess.CalledProcessError) as failed:
        root.use(generator, package)
    assert "/etc/keyhearth/ca.pem" in failed.value.stdout, failed.value.stdout
