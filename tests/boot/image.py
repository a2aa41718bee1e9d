"""What test machines boot: Debian's kernel, and an initramfs of busybox, cryptsetup, the boot agent and its scripts."""

import hashlib
import pathlib
import re
import shutil
import struct
import subprocess

from archive import Archive

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
# What `scripts/test install` fetched.
CACHE = REPOSITORY / "target/boot"
GUEST = pathlib.Path(__file__).parent / "guest"
STUB = pathlib.Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
MODULES = "virtio_pci virtio_blk virtio_net dm_crypt xts aesni_intel algif_skcipher fuse configfs".split()
# The timer is not checked: on a busy host the check fails, and the kernel gives up.
COMMAND_LINE = "console=ttyS0 panic=-1 loglevel=4 no_timer_check"


class Kernel:
    """The unpacked package of Debian's cloud kernel."""

    def __init__(self):
        found = sorted(CACHE.glob("kernel/boot/vmlinuz-*"))
        assert found, "no kernel in target/boot/kernel: scripts/test install"
        self.image = found[-1]
        self.version = self.image.name.removeprefix("vmlinuz-")
        self.root = CACHE / "kernel"

    def modules(self, names):
        """Files of modules and of what they need, in the order in which they are loaded."""
        order = []
        for name in names:
            words = ["/sbin/modprobe", "--dirname", self.root, "--set-version", self.version, "--show-depends", name]
            shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout
            files = [line.split()[1] for line in shown.splitlines() if line.startswith("insmod ")]
            order += [file for file in files if file not in order]
        return [pathlib.Path(file) for file in order]


def libraries(program):
    """Shared libraries of a program of this machine, and the one that glibc loads to end a thread."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    files = {pathlib.Path(file) for file in re.findall(r"(/\S+) \(0x", listed)}
    return files | {next(file.parent for file in files if file.name == "libc.so.6") / "libgcc_s.so.1"}


def base(kernel, package):
    """The initramfs without the configuration of one machine; `package` is the agent's, unpacked."""
    archive = Archive()
    for folder in ("dev", "proc", "sys", "run", "newroot", "tmp", "etc"):
        archive.folder(folder)
    archive.file("bin/busybox", pathlib.Path("/bin/busybox").read_bytes(), 0o755)
    archive.file("init", (GUEST / "init").read_bytes(), 0o755)
    archive.file("scripts/functions", (GUEST / "functions").read_bytes())
    for stage in ("local-top", "local-bottom"):
        script = package / "usr/share/initramfs-tools/scripts" / stage / "keyhearth-boot"
        archive.file(f"scripts/{stage}", script.read_bytes(), 0o755)
    # What runs when a kernel is installed, for machines that stay in this system.
    hooks = ("etc/kernel/postinst.d/zzz-keyhearth-boot", "usr/lib/kernel/install.d/95-keyhearth-boot.install")
    for script in ("usr/lib/keyhearth/next-boot", *hooks):
        archive.file(script, (package / script).read_bytes(), 0o755)
    archive.file("sbin/keyhearth-boot", (package / "usr/sbin/keyhearth-boot").read_bytes(), 0o755)
    cryptsetup = shutil.which("cryptsetup", path="/sbin:/usr/sbin")
    archive.file("sbin/cryptsetup", pathlib.Path(cryptsetup).read_bytes(), 0o755)
    for library in libraries(cryptsetup):
        archive.file(str(library).lstrip("/"), library.read_bytes(), 0o755)
    modules = kernel.modules(MODULES)
    for module in modules:
        archive.file(f"modules/{module.name}", module.read_bytes())
    archive.file("modules/order", "".join(f"{module.name}\n" for module in modules))
    return archive.bytes()


class Unified:
    """A unified kernel image: systemd's stub, with kernel, initramfs and command line as sections of it.

    Source: the UAPI group's specification of unified kernel images; PE/COFF §3 for the headers.
    """

    # In the order in which the stub measures them.
    MEASURED = ("linux", "osrel", "cmdline", "initrd")

    def __init__(self, folder, kernel, initrd, command_line=COMMAND_LINE):
        folder.mkdir()
        self.sections = {"linux": kernel.image, "initrd": initrd}
        for name, text in {"osrel": 'ID=keyhearth-test\nNAME="Keyhearth boot test"\n', "cmdline": command_line}.items():
            self.sections[name] = folder / name
            self.sections[name].write_text(text)
        self.esp = folder / "esp"
        target = self.esp / "EFI/BOOT/BOOTX64.EFI"
        target.parent.mkdir(parents=True)
        subprocess.run([*self.words(), STUB, target], check=True)

    def words(self):
        headers = STUB.read_bytes()
        pe = struct.unpack_from("<I", headers, 0x3C)[0]
        alignment = struct.unpack_from("<I", headers, pe + 24 + 32)[0]
        shown = subprocess.run(["objdump", "-h", "-w", STUB], capture_output=True, text=True, check=True).stdout
        present = re.findall(r"^\s+\d+ \S+\s+([0-9a-f]{8})\s+([0-9a-f]{16})", shown, re.MULTILINE)
        end = max(int(address, 16) + int(size, 16) for size, address in present)
        words = ["objcopy"]
        # The kernel comes last: it is unpacked in place, over what would follow it.
        for name in ("osrel", "cmdline", "initrd", "linux"):
            file = self.sections[name]
            end = -(-end // alignment) * alignment
            words += ["--add-section", f".{name}={file}", "--change-section-vma", f".{name}={end:#x}"]
            end += file.stat().st_size
        return words

    def pcr_11(self):
        """What PCR 11 (SHA-256) will be before anything else extends it."""
        value = bytes(32)
        for name in self.MEASURED:
            for measured in (f".{name}\0".encode(), self.sections[name].read_bytes()):
                value = hashlib.sha256(value + hashlib.sha256(measured).digest()).digest()
        return value
