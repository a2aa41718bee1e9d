"""A whole Debian system on an encrypted root, which the package of the boot agent was installed in."""

import pathlib
import shutil
import subprocess

import disk
from image import CACHE

SIZE_MIB = 460
FSTAB = "/dev/mapper/root / ext4 errors=remount-ro 0 1\n"
# Were the agent not to open it, cryptroot would ask for a passphrase.
CRYPTTAB = "root /dev/vda none luks,initramfs\n"
# What cannot be there together with dracut.
INITRAMFS_TOOLS = ["initramfs-tools", "initramfs-tools-core", "cryptsetup-initramfs"]
# As a running system has it, and gone with the command.
CHROOT = 'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" "$@"'


class Root:
    """Files of a Debian system in `folder`, before they are on a disk; needs root's rights, for chroot."""

    def __init__(self, folder, files):
        base = CACHE / "debian"
        assert base.is_dir(), "no Debian in target/boot/debian: scripts/test install, as root"
        self.folder = folder
        subprocess.run(["cp", "-a", "--reflink=auto", base, folder], check=True)
        own = {"etc/hostname": "vault\n", "etc/fstab": FSTAB, "etc/crypttab": CRYPTTAB}
        for path, contents in (own | files).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(contents)

    def run(self, *words, check=True):
        """A command in the system."""
        words = ["unshare", "--mount", "sh", "-c", CHROOT, self.folder, *words]
        return subprocess.run(words, check=check, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def use(self, generator, package):
        """Installs the agent's `package`, and its `generator` of an initramfs, which then makes one."""
        packages = [package]
        if generator == "dracut":
            packages += cached("dracut")
            self.run("dpkg", "--force-depends", "--purge", *INITRAMFS_TOOLS)
            for initrd in self.folder.glob("boot/initrd.img-*"):
                initrd.unlink()
        self.install(packages)

    def install(self, packages):
        put = self.folder / "packages"
        put.mkdir()
        for file in packages:
            shutil.copy(file, put)
        self.run("dpkg", "--install", *(f"/packages/{file.name}" for file in packages))
        shutil.rmtree(put)


class Debian:
    """Kernel, initramfs and encrypted disk, in `folder`, of what `root` holds, which is no more then."""

    def __init__(self, folder, root, key):
        boot = root.folder / "boot"
        self.kernel = shutil.move(next(boot.glob("vmlinuz-*")), folder)
        self.initrd = shutil.move(next(boot.glob("initrd.img-*")), folder)
        for unused in [*root.folder.glob("var/cache/apt/*"), *root.folder.glob("var/lib/apt/lists/*")]:
            shutil.rmtree(unused) if unused.is_dir() else unused.unlink()
        self.disk = folder / "disk"
        disk.make(self.disk, key, root.folder, SIZE_MIB)
        shutil.rmtree(root.folder)


def cached(name):
    """Packages that the small Debian lacks, by the name of their folder."""
    packages = sorted(CACHE.glob(f"{name}/*.deb"))
    assert packages, f"no packages in target/boot/{name}: scripts/test install"
    return packages


def contents(initrd):
    """Paths of the files in an initramfs."""
    listed = subprocess.run(["lsinitramfs", initrd], check=True, capture_output=True, text=True).stdout
    return {pathlib.PurePosixPath(line) for line in listed.splitlines()}
