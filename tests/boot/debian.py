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


class Debian:
    """Kernel, initramfs and encrypted disk, in `folder`; needs root's rights, for chroot."""

    def __init__(self, folder, package, configuration, key):
        base, root = CACHE / "debian", folder / "debian"
        assert base.is_dir(), "no Debian in target/boot/debian: scripts/test install, as root"
        subprocess.run(["cp", "-a", "--reflink=auto", base, root], check=True)
        files = {"etc/hostname": "vault\n", "etc/fstab": FSTAB, "etc/crypttab": CRYPTTAB} | configuration
        for path, contents in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(contents)
        shutil.copy(package, root / "keyhearth-boot.deb")
        # The package makes the initramfs anew.
        subprocess.run(["chroot", root, "dpkg", "--install", "/keyhearth-boot.deb"], check=True, capture_output=True)
        (root / "keyhearth-boot.deb").unlink()
        boot = root / "boot"
        self.kernel = shutil.move(next(boot.glob("vmlinuz-*")), folder)
        self.initrd = shutil.move(next(boot.glob("initrd.img-*")), folder)
        for unused in [*root.glob("var/cache/apt/*"), *root.glob("var/lib/apt/lists/*")]:
            shutil.rmtree(unused) if unused.is_dir() else unused.unlink()
        self.disk = folder / "disk"
        disk.make(self.disk, key, root, SIZE_MIB)
        shutil.rmtree(root)


def contents(initrd):
    """Paths of the files in an initramfs."""
    listed = subprocess.run(["lsinitramfs", initrd], check=True, capture_output=True, text=True).stdout
    return {pathlib.PurePosixPath(line) for line in listed.splitlines()}
