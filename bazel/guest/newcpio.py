#!/usr/bin/env python3
"""Writes a "newc" cpio archive, the format the Linux kernel unpacks as its initramfs.

    newcpio.py OUTPUT DESTINATION=SOURCE...

DESTINATION is the absolute path in the guest. Every file belongs to root and has time 0, so the
same input gives the same archive and no privileges are needed. The kernel unpacks concatenated
archives one after the other, so a small archive can be appended to a large one.
"""

import os
import stat
import sys


class Archive:
    def __init__(self, output):
        self._output = output
        self._inode = 0
        self._directories = {""}

    def _entry(self, path, mode, data=b""):
        self._inode += 1
        name = path.encode() + b"\0"
        fields = (
            self._inode, mode, 0, 0, 1, 0, len(data),  # inode mode uid gid links mtime filesize
            0, 0, 0, 0, len(name), 0,                  # dev and rdev (major, minor), namesize, check
        )
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        for part in (header + name, data):
            self._output.write(part)
            self._output.write(b"\0" * (-len(part) % 4))

    def directory(self, path):
        path = path.strip("/")
        if path not in self._directories:
            self.directory(os.path.dirname(path))
            self._directories.add(path)
            self._entry(path, stat.S_IFDIR | 0o755)

    def file(self, path, data, mode=0o644):
        self.directory(os.path.dirname(path))
        self._entry(path.strip("/"), stat.S_IFREG | mode, data)

    def copy(self, path, source):
        executable = os.stat(source).st_mode & 0o111
        with open(source, "rb") as stream:
            self.file(path, stream.read(), 0o755 if executable else 0o644)

    def symlink(self, path, target):
        self.directory(os.path.dirname(path))
        self._entry(path.strip("/"), stat.S_IFLNK | 0o777, target.encode())

    def close(self):
        self._entry("TRAILER!!!", 0)


def main(arguments):
    if len(arguments) < 2 or not all("=" in argument for argument in arguments[1:]):
        sys.exit(__doc__)
    with open(arguments[0], "wb") as output:
        archive = Archive(output)
        for argument in arguments[1:]:
            destination, source = argument.split("=", 1)
            archive.copy(destination, source)
        archive.close()


if __name__ == "__main__":
    main(sys.argv[1:])
