"""A folder of sealed files and where it is mounted, for the tests of `file mount`."""

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

HELLO = b"what nobody else may read\n"
WAIT_S_MAX = 60


@pytest.fixture(scope="module", autouse=True)
def installed():
    missing = [name for name in ("age", "fusermount3") if not shutil.which(name)]
    assert not missing, f"missing: {missing}; scripts/test install"
    assert os.path.exists("/dev/fuse"), "this machine has no FUSE"


def until(what, condition):
    """Waits until it holds, however long that takes within reason."""
    deadline = time.monotonic() + WAIT_S_MAX
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


class Gate:
    """The way to a server, which can be shut: a server that is gone, and comes back under its address."""

    def __init__(self, url):
        self.lead_to(url)
        self.is_open, self.sockets = True, []
        host, _ = self.server
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://{host}:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.serve, daemon=True).start()

    def lead_to(self, url):
        """Where the server is now: one that starts again may find its port taken."""
        host, port = url.removeprefix("https://").split(":")
        self.server = (host, int(port))

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                client = self.listener.accept()[0]
                if not self.is_open:
                    client.close()
                    continue
                try:
                    server = socket.create_connection(self.server)
                except OSError:
                    client.close()
                    continue
                self.sockets += (client, server)
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self.carry, args=ends, daemon=True).start()

    def carry(self, source, target):
        with contextlib.suppress(OSError):
            while part := source.recv(1 << 16):
                target.sendall(part)
            target.shutdown(socket.SHUT_WR)

    def shut(self):
        self.is_open = False
        for each in self.sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def open(self):
        self.is_open = True


class Mounts:
    """A folder of sealed files, and where it is mounted."""

    def __init__(self, server, folder):
        self.server, self.folder, self.who = server, folder, server.developer
        self.sealed, self.plain, self.point = (folder / name for name in ("sealed", "plain", "point"))
        for path in (self.sealed, self.plain, self.point):
            path.mkdir()
        server.done(self.who, "key", "create", "aes-256", "--alias", "files")
        self.process = None

    def seal(self, name, content=HELLO, *words):
        """Makes a file and its sealed one; returns the latter."""
        path = self.plain / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        suffix = "esdk" if "esdk" in words else "age"
        sealed, made = self.sealed / f"{name}.{suffix}", self.folder / "made"
        self.server.done(self.who, "file", "seal", path, "--key", "files", "--output", made, *words)
        sealed.parent.mkdir(parents=True, exist_ok=True)
        # Not by the command, which has rules about names of its own.
        shutil.move(made, sealed)
        return sealed

    def opened(self, sealed):
        return self.server.done(self.who, "file", "open", sealed, "--output", "-")

    def start(self, *words, who=None):
        environment = {**os.environ, **(who or self.who).environment()}
        command = [self.server.program, "file", "mount", self.sealed, self.point, *words]
        with open(self.folder / "said", "w") as said:
            self.process = subprocess.Popen(command, env=environment, stderr=said)
        until("it is not mounted", lambda: self.process.poll() is not None or self.is_mounted())
        assert self.process.poll() is None, self.said()

    def said(self):
        """What it said on standard error since it was mounted."""
        return (self.folder / "said").read_text()

    def resident(self):
        """Bytes of memory that it has."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) << 10

    def is_mounted(self):
        return any(line.split()[1] == str(self.point) for line in pathlib.Path("/proc/mounts").read_text().splitlines())

    def end(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        return self.process.wait(timeout=WAIT_S_MAX)

    @contextlib.contextmanager
    def mounted(self, *words, who=None):
        self.start(*words, who=who)
        try:
            yield self.point
        finally:
            if self.process.poll() is None:
                self.end()
            self.clean()

    def clean(self):
        if self.is_mounted():
            subprocess.run(["fusermount3", "-uz", self.point], check=True)


@pytest.fixture
def mounts(server, tmp_path):
    yield from until_it_ends(Mounts(server, tmp_path))


def until_it_ends(mounts):
    """Gives it to a test, after which nothing is mounted."""
    yield mounts
    if mounts.process and mounts.process.poll() is None:
        mounts.process.kill()
        mounts.process.wait()
    mounts.clean()


def refused(code, action):
    with pytest.raises(OSError) as caught:
        action()
    assert caught.value.errno in code if isinstance(code, tuple) else caught.value.errno == code, caught.value
