"""What every boot needs: the kernel, the package of the agent, an initramfs, and a server.

KEYHEARTH_BIN names the server's program, KEYHEARTH_BOOT_PACKAGE the agent's package; `scripts/test boot` makes both.
"""

import functools
import itertools
import os
import pathlib
import subprocess

import pytest

import image
from guests import Guest
from server import Away, Server
from snp import Chain


@pytest.fixture(scope="session")
def kernel():
    return image.Kernel()


@pytest.fixture(scope="session")
def package():
    """The agent's Debian package."""
    path = pathlib.Path(os.environ["KEYHEARTH_BOOT_PACKAGE"])
    assert path.exists(), "build it first: scripts/package-boot"
    return path


@pytest.fixture(scope="session")
def unpacked(package, tmp_path_factory):
    """What the package installs."""
    folder = tmp_path_factory.mktemp("package")
    subprocess.run(["dpkg-deb", "--extract", package, folder], check=True)
    return folder


@pytest.fixture(scope="session")
def base(kernel, unpacked, tmp_path_factory):
    """An initramfs that lacks only what is one machine's own."""
    path = tmp_path_factory.mktemp("base") / "initrd"
    path.write_bytes(image.base(kernel, unpacked))
    return path


@pytest.fixture
def alone(tmp_path, kernel, base):
    """A machine whose server is away."""
    return Guest(tmp_path, kernel, base, Away())


@pytest.fixture(scope="session")
def chain():
    return Chain()


@pytest.fixture(scope="session")
def serve(unpacked, chain, tmp_path_factory):
    """Makes servers."""
    program, agent = pathlib.Path(os.environ["KEYHEARTH_BIN"]), unpacked / "usr/sbin/keyhearth-boot"
    return lambda **settings: Server(program, agent, tmp_path_factory.mktemp("server"), chain, **settings)


@pytest.fixture(scope="session")
def server(serve):
    with serve() as server:
        yield server


@pytest.fixture
def machine(tmp_path, kernel, base):
    """Makes machines that a server knows."""
    numbers = itertools.count()

    def make(server, **enrolment):
        folder = tmp_path / f"guest-{next(numbers)}"
        folder.mkdir()
        return Guest(folder, kernel, base, server, **enrolment)

    return make


@pytest.fixture
def enrol(machine, server):
    """Makes machines of the server that all tests share."""
    return functools.partial(machine, server)
