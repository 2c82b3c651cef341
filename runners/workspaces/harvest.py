"""What is taken from a checkout that an agent has written to, file by file, without git and without trust."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from runners.base import RepositoryInvalid
from runners.workspaces.addresses import check_branch
from runners.workspaces.cache import COMMIT
from runners.workspaces.folders import is_folder

_LOOSE_FOLDER, _LOOSE_FILE = re.compile(r"[0-9a-f]{2}"), re.compile(r"[0-9a-f]{38}")
_PACK_FILE = re.compile(r"pack-[0-9a-f]{40}\.pack")
_MOST_STEPS = 5  # a symbolic ref may lead to another
_LONGEST_PATH = 3800  # bytes; the system's limit is 4,096, and names of up to 255 come below
_LONGEST_FILE = 16 * 1024 * 1024  # bytes: packed-refs of a repository with some 200,000 branches
_RULES = (".gitignore", ".gitattributes")  # git reads the whole of each


def tame(checkout: Path) -> list[bytes]:
    """Make a tree safe to be read by git: nothing in it waits for ever, and each folder can be entered.

    Removes named pipes, sockets and devices (a `.gitignore` that is a pipe blocks git), and a `.git` below the top that
    leads out of the checkout. Nothing of that could be archived. Removes files of rules that are too large to be read,
    too: these are returned, by their paths below the top.
    """
    top = os.path.realpath(checkout)
    folders, too_large = [top], []
    while folders:
        folder = folders.pop()
        if len(os.fsencode(folder)) > _LONGEST_PATH:
            continue  # git can't read it either
        mode = os.lstat(folder).st_mode
        if mode & 0o700 != 0o700:
            os.chmod(folder, stat.S_IMODE(mode) | 0o700)  # noqa: PTH101 - a folder by the line above
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif not (entry.is_symlink() or entry.is_file(follow_symlinks=False)):
                    os.unlink(entry.path)  # noqa: PTH108 - a tree of 100,000 files: no objects for paths
                elif entry.name == ".git" and not _stays_inside(entry, top):
                    os.unlink(entry.path)  # noqa: PTH108
                elif entry.name in _RULES and entry.stat(follow_symlinks=False).st_size > _LONGEST_FILE:
                    os.unlink(entry.path)  # noqa: PTH108
                    too_large.append(os.fsencode(os.path.relpath(entry.path, top)))
    return too_large


def read_head(git_dir: Path) -> str | None:
    """The commit that HEAD leads to, by reading its files as text. None where that can't be told."""
    name = "HEAD"
    for _ in range(_MOST_STEPS):
        value = _read_ref(git_dir, name)
        if value is None or COMMIT.fullmatch(value):
            return value
        if not value.startswith("ref:"):
            return None
        name = value.removeprefix("ref:").strip()
        try:
            check_branch(name)
        except RepositoryInvalid:
            return None
        if not name.startswith("refs/"):
            return None
    return None


def link_objects(git_dir: Path, *, into: Path) -> list[Path]:
    """Link a git directory's own objects into a folder of ours; its packs are returned, to be indexed by us.

    Only regular files under the names that git gives. What they contain is not known to be what they are named for.
    """
    (into / "pack").mkdir(parents=True)
    objects = git_dir / "objects"
    if not (is_folder(git_dir) and is_folder(objects)):
        return []
    for folder in objects.iterdir():
        if _LOOSE_FOLDER.fullmatch(folder.name):
            _link(folder, into / folder.name, _LOOSE_FILE)
    return _link(objects / "pack", into / "pack", _PACK_FILE)


def _link(source: Path, into: Path, names: re.Pattern[str]) -> list[Path]:
    if not is_folder(source):
        return []
    into.mkdir(exist_ok=True)
    linked = []
    with os.scandir(source) as entries:
        for entry in entries:
            if names.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                os.link(entry.path, into / entry.name, follow_symlinks=False)
                linked.append(into / entry.name)
    return linked


def _read_ref(git_dir: Path, name: str) -> str | None:
    loose = _read_file(git_dir, name)
    if loose is not None:
        return loose.strip()
    for line in (_read_file(git_dir, "packed-refs") or "").splitlines():
        value, _, packed = line.partition(" ")
        if packed == name:
            return value
    return None


def _read_file(git_dir: Path, name: str) -> str | None:
    """The text of a regular file that no symbolic link leads to. Anything else: None."""
    *folders, last = name.split("/")
    path = git_dir
    for part in ("", *folders):
        path = path / part
        if not is_folder(path):
            return None
    try:
        descriptor = os.open(path / last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read(_LONGEST_FILE).decode(errors="replace")


def _stays_inside(entry: os.DirEntry[str], top: str) -> bool:
    """Whether a `.git` that is a file or a link (a worktree, a submodule) leads to somewhere in the same checkout."""
    target = os.path.realpath(entry.path)
    if entry.is_file(follow_symlinks=False):
        folder, name = os.path.split(entry.path)
        text = _read_file(Path(folder), name) or ""
        target = os.path.realpath(os.path.join(folder, text.removeprefix("gitdir:").strip()))  # noqa: PTH118
    return target.startswith(f"{top}/")
