"""A Debian with initramfs-tools or dracut, on which the package was installed, from power on to its login prompt."""

import subprocess

import pytest

import debian
import disk
from guests import SHELL, toml
from machine import Machine

COMMAND_LINE = "console=ttyS0 quiet no_timer_check root=/dev/mapper/root"
# Words of the kernel's command line that ask each of them for a shell before there is a system.
SHELLS = {
    "initramfs-tools": ["break=bottom"],
    "dracut": ["rd.break", "rd.break=cmdline", "rd.shell rd.break=initqueue"],
}


# What is mounted late, and shown on the console when it is.
LATE = {
    "etc/fstab": f"{debian.FSTAB}/dev/mapper/data /srv ext4 nofail,x-systemd.requires=keyhearth-boot-late.service 0 2\n",
    "etc/systemd/system/look.service": """
[Unit]
RequiresMountsFor=/srv
[Service]
Type=oneshot
ExecStart=sh -c 'echo "look: $(cat /srv/etc/proof)" >/dev/console'
[Install]
WantedBy=multi-user.target
""",
}


# Ends one machine and no other.
END = 'forbid (principal == Keyhearth::Principal::"{id}", action, resource);'


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


def test_systemd_opens_a_late_volume_and_keeps_the_lease(tmp_path, package, machine, server):
    guest = machine(server, volumes=["root", "data"])
    guest.settings["heartbeat"] = {"every_s": 2, "on_end": "close"}
    guest.settings["volumes"].append({"name": "data", "device": "/dev/vdb", "mapping": "data", "late": True})
    root = debian.Root(tmp_path / "debian", {"etc/keyhearth/boot.toml": toml(guest.settings), **guest.files, **LATE})
    root.use("initramfs-tools", package)
    root.run("systemctl", "enable", "keyhearth-boot-late.service", "keyhearth-boot-watch.service", "look.service")
    made = debian.Debian(tmp_path, root, guest.enrolled.secret)
    server.prepared(guest.enrolled, made.disk)
    data = tmp_path / "data"
    disk.make(data, server.secret(guest.enrolled.id, "data"), disk.root_folder(tmp_path / "data-root"))
    server.prepared(guest.enrolled, data, "data")
    with Machine(tmp_path, made.disk, made.kernel, made.initrd, COMMAND_LINE, more=[data]) as running:
        running.expect(f"look: {disk.PROOF}")
        running.expect("vault login: ")
        assert "MAY NOT KEEP" not in running.console, running.console
        server.forbid(guest.enrolled)
        running.expect("THIS MACHINE MAY NOT KEEP ITS KEYS")
        running.expect(r" Code +policy")
    shown = server.machine(guest.enrolled)
    assert (shown["boots"], shown["confirmed"], shown["refused"]["code"]) == (1, True, "policy"), shown


def test_a_clone_of_a_golden_debian_starts_as_a_machine_of_its_own_and_keeps_its_lease(
    generator, tmp_path, package, machine, server
):
    image = machine(server, clones=1)
    image.settings["heartbeat"] = {"every_s": 2, "on_end": "halt"}
    root = debian.Root(tmp_path / "debian", {"etc/keyhearth/boot.toml": toml(image.settings), **image.files})
    root.use(generator, package)
    root.run("systemctl", "enable", "keyhearth-boot-watch.service")
    made = debian.Debian(tmp_path, root, image.enrolled.secret)
    server.prepared(image.enrolled, made.disk)
    with Machine(tmp_path, made.disk, made.kernel, made.initrd, COMMAND_LINE) as running:
        id = running.expect("this is machine ([0-9a-f-]{36}) from now on")[1]
        running.expect("vault login: ")
        clone = server.call(server.keys, "GET", f"/v1/machines/{id}")
        assert (clone["image"], clone["boots"], clone["confirmed"]) == (image.enrolled.id, 1, True)
        # It runs as the clone, whatever its configuration says: a heartbeat under the image's id would be refused.
        server.call(server.admin, "PUT", f"/v1/policies/end-{id}", {"text": END.format(id=id)})
        assert running.end() == "halted", running.console
    assert server.call(server.keys, "GET", f"/v1/machines/{id}")["refused"]["code"] == "policy"
    assert server.machine(image.enrolled)["refused"] is None
    assert not disk.opens(made.disk, image.enrolled.secret)


def test_no_initramfs_is_made_without_the_ca(tmp_path, package, generator):
    root = debian.Root(tmp_path / "debian", {"etc/keyhearth/boot.toml": 'ca = "/etc/keyhearth/ca.pem"\n'})
    with pytest.raises(subprocess.CalledProcessError) as failed:
        root.use(generator, package)
    assert "/etc/keyhearth/ca.pem" in failed.value.stdout, failed.value.stdout
