"""Boots two machines at once, of which a policy allows one; prints their consoles side by side.

Called by `scripts/demo-boot`, in a folder of its own.
"""

import concurrent.futures
import pathlib
import re
import sys
import tempfile
import textwrap

import image
from guests import Guest
from server import Server
from snp import Chain

COLUMNS = 78
POLICIES = {"allowed": "true", "refused": "context.boot.memory_encrypted"}
# Where a console begins to be about us.
BEGIN = "init: user space"


def console(guest):
    with guest.boot() as machine:
        end = machine.end()
    shown = machine.console.split(BEGIN, 1)[-1]
    return f"{shown.strip()}\n\n[the machine is {end}]"


def lines(text):
    """Lines of a console, cut to a column."""
    text = re.sub(r"^\[ *[0-9.]+\] ", "", text, flags=re.MULTILINE).expandtabs()
    return [part for line in text.splitlines() for part in textwrap.wrap(line, COLUMNS, drop_whitespace=False) or [""]]


def side_by_side(left, right):
    left, right = lines(left), lines(right)
    rows = max(len(left), len(right))
    for one, other in zip(left + [""] * (rows - len(left)), right + [""] * (rows - len(right)), strict=True):
        print(f"{one:{COLUMNS}} │ {other}".rstrip())


def main(program, package, folder):
    kernel = image.Kernel()
    base = folder / "initrd"
    base.write_bytes(image.base(kernel, package))
    with Server(program, package / "usr/sbin/keyhearth-boot", folder / "server", Chain()) as server:
        guests = []
        for name, policy in POLICIES.items():
            (folder / name).mkdir()
            guests.append(Guest(folder / name, kernel, base, server, policy=policy))
        with concurrent.futures.ThreadPoolExecutor() as pool:
            side_by_side(*pool.map(console, guests))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="keyhearth-demo-") as folder:
        main(*map(pathlib.Path, sys.argv[1:3]), pathlib.Path(folder))
