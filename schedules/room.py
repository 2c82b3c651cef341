"""Whether this machine has room for another session: free bytes and inodes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def shortage(folders: Iterable[Path], *, least_bytes: int, least_inodes: int) -> str:
    """What the file system of one of these is short of, for people; "" where there is enough.

    A folder that is not there yet counts for the one above it. A file system without a number of inodes has enough.
    """
    for folder in folders:
        place = next(path for path in (folder, *folder.parents) if path.exists())
        disk = os.statvfs(place)
        free = disk.f_bavail * disk.f_frsize
        if free < least_bytes:
            return f"{folder} has {free // 2**20} MB free; a session needs {least_bytes // 2**20} MB."
        if disk.f_files and disk.f_favail < least_inodes:
            return f"{folder} has {disk.f_favail} inodes free; a session needs {least_inodes}."
    return ""
