"""A checkout that a session worked in becomes what it was before, or is thrown away.

Whatever is not as Rota's git wrote it goes: changed, new and ignored files, `.git`, nested repositories. What stays is
told by its stamp (see `runners.workspaces.index_file`). A session can choose the time at which a file was written last
(mtime), but not the time at which its inode changed last (ctime): the kernel sets that on every write, `chmod`,
`utime`, hard link and extended attribute. So nothing is read, and what hides behind an equal size and mtime is seen.

Of folders Rota knows the mode and owner. What else is odd about one (attributes, access lists, another file system) is
not mended: such a checkout is spoilt.
"""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runners.base import WorkspaceError
from runners.workspaces.folders import is_folder, remove
from runners.workspaces.index_file import Known, read_index, stamp

RECORD = "workspace.json"
"""The name of the file beside a checkout that says what it is."""

_TRASH = "trash"
_LABEL = "security.selinux"  # the system's own attribute

# Threads that walk at once. Each would take the interpreter's lock from the others at every system call: twenty at
# once took twice the CPU of two after two.
_TURNS = threading.BoundedSemaphore(2)


class Spoilt(WorkspaceError):
    """The checkout can't be made what it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What stays takes `bytes` on the disk; so many entries were `removed`, and what was below them."""

    bytes: int
    removed: int


def folder_facts(checkout: Path) -> dict[str, int]:
    """What the folders of a new checkout have in common, for its record."""
    info = checkout.stat()
    return {"mode": stat.S_IMODE(info.st_mode), "owner": info.st_uid, "group": info.st_gid}


def restore(folder: Path) -> Restored:
    """Leave in `folder/checkout` only what is as `folder/index` has it, and in `folder` only these and the record.

    What the index has and the checkout has not is for git to write. Nobody may be at work there. Raises Spoilt.
    """
    try:
        facts = json.loads((folder / RECORD).read_text())["folders"]
        with _TURNS:
            known = read_index(folder / "index")
            restored = _Restoring(folder, known, facts).run()
        remove(folder / _TRASH)
        return restored
    except Spoilt:
        raise
    except (OSError, ValueError, KeyError, TypeError, WorkspaceError) as error:
        raise Spoilt(f"The checkout can't be used again: {error}") from error


class _Restoring:
    """One pass over a checkout. Paths are bytes, as git's are, and relative to its top where they are called names."""

    def __init__(self, folder: Path, known: Known, facts: Mapping[str, Any]) -> None:
        self._folder = folder
        self._known = known
        self._mode, self._owner = int(facts["mode"]), (int(facts["owner"]), int(facts["group"]))
        self._top = os.fsencode(folder / "checkout")
        self._trash = folder / _TRASH
        self._written_ns = (folder / "index").stat().st_mtime_ns
        self._bytes, self._removed = 0, 0

    def run(self) -> Restored:
        if not is_folder(Path(os.fsdecode(self._top))):
            raise Spoilt("The checkout is no folder any more.")
        for entry in list(os.scandir(self._folder)):
            if entry.name not in ("checkout", "index", RECORD):
                remove(Path(entry.path))
        self._trash.mkdir(mode=0o700)
        top = os.lstat(self._top)
        self._device = top.st_dev
        folders = [(self._top, b"", top)]
        while folders:
            folders += self._restore_folder(*folders.pop())
        return Restored(bytes=self._bytes, removed=self._removed)

    def _restore_folder(
        self, path: bytes, prefix: bytes, info: os.stat_result
    ) -> Iterator[tuple[bytes, bytes, os.stat_result]]:
        """Clear one folder of what does not belong there. Yields the folders in it: path, prefix of names, stat."""
        self._check_folder(path, info)
        removed = self._removed
        with os.scandir(path) as entries:
            found = list(entries)
        for entry in found:
            name = prefix + entry.name
            own = entry.stat(follow_symlinks=False)
            if name in self._known.folders and stat.S_ISDIR(own.st_mode):
                yield entry.path, name + b"/", own
            elif self._known.files.get(name) != stamp(own) or own.st_nlink != 1:
                self._discard(entry.path, own)
            else:
                self._bytes += own.st_blocks * 512
        self._bytes += info.st_blocks * 512
        if info.st_ctime_ns > self._written_ns or self._removed != removed:
            os.utime(path)  # a time that was chosen would show

    def _check_folder(self, path: bytes, info: os.stat_result) -> None:
        if info.st_dev != self._device:
            raise Spoilt("Another file system is mounted in the checkout.")
        if (info.st_uid, info.st_gid) != self._owner:
            raise Spoilt("A folder of the checkout has another owner now.")
        if stat.S_IMODE(info.st_mode) != self._mode:
            os.chmod(path, self._mode)  # noqa: PTH101 - a folder, by whoever looked at it
        if _attributes(path):
            raise Spoilt("A folder of the checkout has extended attributes or an access list.")

    def _discard(self, path: bytes, info: os.stat_result) -> None:
        self._removed += 1
        if not stat.S_ISDIR(info.st_mode):
            os.unlink(path)  # noqa: PTH108 - bytes
            return
        if info.st_mode & 0o700 != 0o700:
            os.chmod(path, 0o700)  # noqa: PTH101 - to be moved, a folder must be writable
        os.rename(path, os.fsencode(self._trash / str(self._removed)))  # noqa: PTH104 - to go with the others


def _attributes(path: bytes) -> list[str]:
    try:
        return [name for name in os.listxattr(path, follow_symlinks=False) if name != _LABEL]
    except OSError:
        return []  # a file system without
