"""Git's index, read as data: what each file of a checkout was when it was written, to the nanosecond.

Git itself compares whole seconds in most builds, which a session can be quicker than. The format is that of
`gitformat-index`: version 2, as `git read-tree` writes it where no configuration asks for another.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runners.base import WorkspaceError

Stamp = tuple[int, int, int, int, int, int]
"""Of a file: ctime and mtime in nanoseconds, inode, owner, group, size. The last four to 32 bits, as git keeps them."""

_HEADER = struct.Struct(">4sII")
_ENTRY = struct.Struct(">10I20sH")  # ctime, its ns, mtime, its ns, device, inode, mode, owner, group, size, name, flags
_CHECKSUM = 20  # bytes, at the end
_LONG = 0xFFF  # the flags' room for a length of a path; a longer one ends at its NUL
_STAGE_OR_EXTENDED = 0x7000
_LOW = 0xFFFFFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What an index says: files and links with their stamps; the folders that they need, and those of submodules."""

    files: Mapping[bytes, Stamp]
    folders: frozenset[bytes]


def read_index(path: Path) -> Known:
    """Read an index that Rota's git wrote. Raises WorkspaceError for one that is damaged, or of another kind."""
    data = path.read_bytes()
    checked = hashlib.sha1(data[:-_CHECKSUM], usedforsecurity=False).digest() == data[-_CHECKSUM:]
    if len(data) < _HEADER.size + _CHECKSUM or not checked:
        raise WorkspaceError("The index of the checkout is damaged.")
    signature, version, count = _HEADER.unpack_from(data)
    if (signature, version) != (b"DIRC", 2):
        raise WorkspaceError(f"The index of the checkout has version {version}, which Rota does not read.")
    files: dict[bytes, Stamp] = {}
    folders: set[bytes] = set()
    offset = _HEADER.size
    for _ in range(count):
        cs, cn, ms, mn, _dev, inode, mode, owner, group, size, _name, flags = _ENTRY.unpack_from(data, offset)
        if flags & _STAGE_OR_EXTENDED:
            raise WorkspaceError("The index of the checkout has entries that Rota does not make.")
        begin, length = offset + _ENTRY.size, flags & _LONG
        end = begin + length if length < _LONG else data.index(b"\0", begin)
        name = data[begin:end]
        offset += (end - offset + 8) & ~7
        if stat.S_IFMT(mode) == 0o160000:  # a submodule: an empty folder
            folders.add(name)
        else:
            files[name] = (cs * 10**9 + cn, ms * 10**9 + mn, inode, owner, group, size)
        parent = name.rpartition(b"/")[0]
        while parent and parent not in folders:
            folders.add(parent)
            parent = parent.rpartition(b"/")[0]
    return Known(files=files, folders=frozenset(folders))


def stamp(info: os.stat_result) -> Stamp:
    """The stamp of a file as it is now."""
    return (
        info.st_ctime_ns,
        info.st_mtime_ns,
        info.st_ino & _LOW,
        info.st_uid,
        info.st_gid,
        info.st_size & _LOW,
    )
