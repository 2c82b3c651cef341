"""What a session could tell one checkout from another by."""

import os
import stat
import time
from pathlib import Path

from runners.workspaces import Workspace
from tests.runners.repositories import run_git

_PRIVATE = {"index"}  # holds inodes and times; what git says of it is compared


def seen_by_a_session(workspace: Workspace) -> dict[str, object]:
    """All of a checkout but its own branch's name, its inodes, and times that a plain checkout could have given."""
    branch = workspace.branch.encode()
    seen: dict[str, object] = {}
    for path in [workspace.path, *sorted(workspace.path.rglob("*"))]:
        name = os.fsencode(path.relative_to(workspace.path))
        if name.split(b"/")[0] == b".git" and path.name in _PRIVATE:
            continue
        seen[os.fsdecode(name)] = _entry(path).replace(branch, b"BRANCH")
    for question in (
        ("status", "--porcelain=2", "--branch", "--ignored", "--untracked-files=all"),
        ("ls-files", "--stage", "-v", "--full-name"),
        ("for-each-ref",),
        ("config", "--list", "--show-origin"),
        ("stash", "list"),
        ("log", "--all", "--format=%H", "--reflog"),
        ("count-objects", "-v"),
        ("rev-parse", "--is-shallow-repository", "--show-toplevel"),
    ):
        said = run_git(workspace.path, *question, environment={"GIT_OPTIONAL_LOCKS": "0"})
        seen[" ".join(question)] = said.replace(workspace.branch, "BRANCH").replace(str(workspace.path), "HERE")
    return seen


def _entry(path: Path) -> bytes:
    info = path.lstat()
    facts = [oct(info.st_mode), str(info.st_uid), str(info.st_gid), *os.listxattr(path, follow_symlinks=False)]
    if not abs(time.time() - info.st_mtime) < 600:
        facts.append(f"written {info.st_mtime}")
    if path.is_symlink():
        return repr((facts, path.readlink())).encode()
    if stat.S_ISREG(info.st_mode):
        return repr((facts, info.st_nlink, info.st_size)).encode() + path.read_bytes()
    return repr(facts).encode()
