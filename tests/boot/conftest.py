"""What every boot needs: the kernel, the package of the agent, and an initramfs.

KEYHEARTH_BOOT_PACKAGE names the package; `scripts/test boot` makes it.
"""

import os
import pathlib
import subprocess

import pytest

import image
from guests import Guest
from server import Away


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
