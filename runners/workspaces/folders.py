"""Folders that come to be, and cease to be, in one step, whatever is in them and whoever is killed meanwhile.

A folder is made, and taken apart, under a name of its own: `.NAME.0123abcd.new` or `.NAME.0123abcd.gone`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import shutil
import signal
import stat
import subprocess
import sys
import uuid
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

from runners.base import DiskFull, WorkspaceError
from runners.workspaces.git import environment, plain_errors

_LEFTOVER = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.(new|gone)")
_REMOVAL_SECONDS = 600
_FEW = 16  # entries of a folder
_END_SECONDS = 5  # a killed process may first have to finish a write

_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602  # FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, where a long has 64 bits
_TOP_DIRECTORY = 0x20000  # FS_TOPDIR_FL, as `chattr +T` sets it


@contextlib.contextmanager
def building(path: Path) -> Iterator[Path]:
    """Make a folder under another name, mode 0700, and give it its own when it is whole.

    What an earlier attempt left, killed on the way, is removed first, and the git that may still be writing there is
    ended. Only one may build at a path at a time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for entry in path.parent.iterdir():
        if leftover_of(entry) == path.name:
            _end_writers(entry)
            remove(entry)
    draft = apart(path, "new")
    draft.mkdir(mode=0o700)
    try:
        yield draft
        draft.rename(path)
    except BaseException:
        with contextlib.suppress(WorkspaceError, DiskFull):  # the first error is the one to tell
            remove(draft)
        raise


def spread_apart(folder: Path) -> None:
    """Have ext4 place what is made directly in a folder apart from each other; other file systems do as they please.

    An ext4 without a journal, as many virtual machines have it, gives out an inode that was freed in the last five
    minutes only when it has looked at all others of the group: where a checkout of 100,000 files was just removed, the
    next one takes 25 s instead of 3. So the next one goes elsewhere.
    """
    flags = bytearray(8)
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(descriptor, _GET_FLAGS, flags)
            wanted = int.from_bytes(flags, sys.byteorder) | _TOP_DIRECTORY
            fcntl.ioctl(descriptor, _SET_FLAGS, wanted.to_bytes(8, sys.byteorder))
        finally:
            os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file or folder, also one with read-only parts, and never what a symbolic link points to.

    By `rm`, as `shutil.rmtree` recurses and ends at a tree that is a thousand folders deep. What is not there is fine.
    Raises WorkspaceError.
    """
    with plain_errors(f"Removing {path.name}"):
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(mode):
            path.unlink()
            return
        if leftover_of(path) is None:
            path = path.rename(apart(path, "gone"))
        if _removed_here(str(path)) or _run("rm", "-rf", "--", str(path)) == 0:
            return
        _run("chmod", "-R", "u+rwx", "--", str(path))  # follows no link below the folder
        if _run("rm", "-rf", "--", str(path)) != 0:
            raise WorkspaceError(f"{path} could not be removed: something in it can't be changed by this user.")


def _removed_here(name: str, *, within: int | None = None, depth: int = 2) -> bool:
    """Remove a folder that holds next to nothing, as that of a script without a repository: `rm` costs more.

    `within`: the descriptor of the folder that it is in. False: it holds more, or something can't be removed.
    """
    try:
        here = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=within)
    except OSError:
        return False
    try:
        with os.scandir(here) as entries:
            found = list(islice(entries, _FEW + 1))
        if len(found) > _FEW:
            return False
        for entry in found:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=here)
            elif not depth or not _removed_here(entry.name, within=here, depth=depth - 1):
                return False
        os.rmdir(name, dir_fd=within)
    except OSError:
        return False
    finally:
        os.close(here)
    return True


def leftover_of(path: Path) -> str | None:
    """The name of the folder that is, or was when a worker was killed, being made or removed under this path's name.

    None for a path that is named otherwise.
    """
    match = _LEFTOVER.fullmatch(path.name)
    return match["name"] if match else None


def apart(path: Path, kind: Literal["new", "gone"]) -> Path:
    """A name beside `path` for a folder while it is made, or taken apart."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.{kind}")


def sizes(root: Path) -> dict[str, int]:
    """What each entry of a folder takes on the disk, in bytes: name → bytes. No root: empty."""
    if not root.is_dir():
        return {}
    return {entry.name: size(Path(entry.path)) for entry in os.scandir(root)}


def size(path: Path) -> int:
    """What a file or folder takes on the disk, in bytes, about."""
    total, seen, folders = 0, set[tuple[int, int]](), [path]
    with contextlib.suppress(OSError):
        total += path.lstat().st_blocks * 512
    if not is_folder(path):
        return total
    while folders:
        try:
            entries = list(os.scandir(folders.pop()))
        except OSError:
            continue  # it vanished, or can't be read: a size is an estimate
        for entry in entries:
            try:
                info = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if (info.st_dev, info.st_ino) in seen:
                continue
            if info.st_nlink > 1:
                seen.add((info.st_dev, info.st_ino))
            total += info.st_blocks * 512
            if stat.S_ISDIR(info.st_mode):
                folders.append(Path(entry.path))
    return total


def is_folder(path: Path) -> bool:
    """Whether it is a folder itself, and not a symbolic link to one."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def _end_writers(folder: Path) -> None:
    """Kill the processes that work in a draft: the git commands of a worker that was killed."""
    top = os.path.realpath(folder)
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            process = os.pidfd_open(int(entry.name))
            try:
                working_folder = str((entry / "cwd").readlink())
                if working_folder == top or working_folder.startswith(f"{top}/"):
                    signal.pidfd_send_signal(process, signal.SIGKILL)
                    select.select([process], [], [], _END_SECONDS)
            finally:
                os.close(process)


def _run(*argv: str) -> int:
    program = shutil.which(argv[0]) or argv[0]
    try:
        return subprocess.run(
            [program, *argv[1:]],
            env=environment(forge=False),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_REMOVAL_SECONDS,
            check=False,
        ).returncode
    except subprocess.TimeoutExpired:
        return -1
