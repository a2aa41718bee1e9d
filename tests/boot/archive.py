"""Initramfs archives: the parts of cpio's "newc" format that the kernel reads.

Source: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
"""

import pathlib
import stat

PAD = 4


class Archive:
    """Files by their paths; archives that follow each other in one file are read as one."""

    def __init__(self):
        self.entries = {}

    def folder(self, path):
        for parent in [*reversed(pathlib.PurePosixPath(path).parents), pathlib.PurePosixPath(path)]:
            if str(parent) not in (".", "/"):
                self.entries.setdefault(str(parent), (stat.S_IFDIR | 0o755, b""))

    def file(self, path, contents, mode=0o644):
        self.folder(pathlib.PurePosixPath(path).parent)
        self.entries[path] = (stat.S_IFREG | mode, contents.encode() if isinstance(contents, str) else contents)

    def link(self, path, target):
        self.folder(pathlib.PurePosixPath(path).parent)
        self.entries[path] = (stat.S_IFLNK | 0o777, target.encode())


    def bytes(self):
        members = [*self.entries.items(), ("TRAILER!!!", (0, b""))]
        return b"".join(member(number, path, *entry) for number, (path, entry) in enumerate(members, 1))


def member(number, path, mode, contents):
    name = path.encode() + b"\0"
    fields = [number, mode, 0, 0, 1, 0, len(contents), 0, 0, 0, 0, len(name), 0]
    header = b"070701" + b"".join(b"%08x" % field for field in fields)
    return padded(header + name) + padded(contents)


def padded(block):
    return block + b"\0" * (-len(block) % PAD)
