"""A machine under QEMU without an accelerator: what it prints, and how it ends."""

import pathlib
import re
import subprocess
import threading
import time

# Longer than any of these machines needs; whatever still runs then is ended and shown.
RUN_S_MAX = 1800
# Without the instruction that Linux clears pages with by single bytes, which is slow where it is emulated.
CPU = "max,-erms"
# As the kernel says it.
ENDS = {
    "reboot: Power down": "off",
    "reboot: System halted": "halted",
    "reboot: Restarting system": "restarted",
    "Kernel panic": "panicked",
}
OVMF = pathlib.Path("/usr/share/OVMF")


class Tpm:
    """A TPM 2.0 of its own, which keeps its state in `folder`."""

    def __init__(self, folder):
        self.folder = folder.resolve()
        self.folder.mkdir(exist_ok=True)
        if not any(self.folder.iterdir()):
            words = ["swtpm_setup", "--tpm2", "--tpmstate", self.folder, "--create-ek-cert", "--pcr-banks", "sha256"]
            subprocess.run(words, check=True, capture_output=True)

    def __enter__(self):
        socket = self.folder / "sock"
        socket.unlink(missing_ok=True)
        words = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.folder}", "--flags", "startup-clear"]
        words += ["--ctrl", f"type=unixio,path={socket}", "--terminate"]
        self.process = subprocess.Popen(words, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 20
        while not socket.exists():
            assert self.process.poll() is None, self.process.stderr.read()
            assert time.monotonic() < deadline, "swtpm made no socket"
            time.sleep(0.02)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def words(self):
        return [
            *("-chardev", f"socket,id=tpm,path={self.folder / 'sock'}"),
            *("-tpmdev", "emulator,id=tpm,chardev=tpm", "-device", "tpm-tis,tpmdev=tpm"),
        ]


class Machine:
    """Boots at once; ends with its `with` block. `kernel` and `initrd` are loaded by QEMU, or `esp` by firmware; `more` are
    disks besides."""

    def __init__(self, folder, disk, kernel=None, initrd=None, append="", esp=None, tpm=None, more=()):
        self.raw, self.closed, self.process = b"", False, None
        words = ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-cpu", CPU, "-smp", "1", "-m", "640"]
        words += ["-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot", "-nodefaults"]
        words += ["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="]
        words += ["-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng"]
        for disk in (disk, *more):
            words += ["-drive", f"file={disk},if=virtio,format=raw"]
        if esp:
            variables = folder / "variables.fd"
            variables.write_bytes((OVMF / "OVMF_VARS_4M.fd").read_bytes())
            words += ["-drive", f"if=pflash,format=raw,readonly=on,file={OVMF / 'OVMF_CODE_4M.fd'}"]
            words += ["-drive", f"if=pflash,format=raw,file={variables}", "-drive", f"format=raw,file=fat:rw:{esp}"]
        else:
            words += ["-kernel", kernel, "-initrd", initrd, "-append", append]
        self.words = [*words, *(tpm.words() if tpm else [])]

    def __enter__(self):
        null, pipe = subprocess.DEVNULL, subprocess.PIPE
        self.process = subprocess.Popen(self.words, stdin=null, stdout=pipe, stderr=subprocess.STDOUT)
        self.grown = threading.Condition()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        self.deadline = time.monotonic() + RUN_S_MAX
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.reader.join()

    def read(self):
        while part := self.process.stdout.read1():
            with self.grown:
                self.raw += part
                self.grown.notify_all()
        with self.grown:
            self.closed = True
            self.grown.notify_all()

    @property
    def console(self):
        """What was printed, without the movements of the cursor that firmware and systemd make."""
        return re.sub(r"\x1b\[[0-9;=?]*[A-Za-z]|\r", "", self.raw.decode(errors="replace"))

    def expect(self, pattern):
        """Waits until the console shows `pattern`, a regular expression, and gives the match."""
        found = None

        def seen():
            nonlocal found
            found = re.search(pattern, self.console)
            return found or self.closed

        with self.grown:
            self.grown.wait_for(seen, self.deadline - time.monotonic())
        assert found, f"{pattern!r} did not come:\n{self.console}"
        return found

    def end(self):
        """Waits for the machine's end: `off`, `halted`, `restarted` or `panicked`."""
        said = self.expect("|".join(map(re.escape, ENDS)))
        return ENDS[said[0]]
