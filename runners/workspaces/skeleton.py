"""A git directory, written by hand: a few small files, with nothing in them that we did not choose.

`git init` and `git clone` would copy templates and hooks of the machine, and cost two to ten processes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

NAME, EMAIL = "Rota", "rota@localhost"
"""Who commits in a workspace, where the agent says nothing else."""

# What is fetched from it is packed by a git that knows no settings of `runners.workspaces.git` but these.
BARE = (
    "[core]\n\trepositoryformatversion = 0\n\tbare = true\n[gc]\n\tauto = 0\n"
    "[pack]\n\tthreads = 4\n\twindowMemory = 64m\n"
)

CHECKOUT = (
    "[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tfilemode = true\n\tlogallrefupdates = true\n"
    f"[user]\n\tname = {NAME}\n\temail = {EMAIL}\n"
    "[commit]\n\tgpgsign = false\n[tag]\n\tgpgsign = false\n"
    "[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n"
)


def write_git_dir(
    path: Path,
    *,
    config: str,
    head: str,
    refs: Iterable[tuple[str, str]] = (),
    symbolic: Mapping[str, str] | None = None,
    objects: Sequence[Path] = (),
    shallow: Path | None = None,
) -> None:
    """Write a git directory at `path`, which is empty or not there, with few folders: they are what takes time.

    `head` is what HEAD says. `refs` are pairs of full name and commit. `symbolic` maps the full name of a ref to that
    of another. `objects` are folders of objects to borrow from, `shallow` is a file that names where history ends.
    """
    (path / "objects" / "info").mkdir(parents=True)
    (path / "refs").mkdir()
    (path / "HEAD").write_text(f"{head}\n")
    (path / "config").write_text(config)
    packed = "".join(f"{commit} {name}\n" for name, commit in refs)
    if packed:
        (path / "packed-refs").write_bytes(os.fsencode(packed))
    for name, target in (symbolic or {}).items():
        (path / name).parent.mkdir(parents=True)
        (path / name).write_bytes(os.fsencode(f"ref: {target}\n"))
    if objects:
        alternates = "".join(f"{folder}\n" for folder in objects)
        (path / "objects" / "info" / "alternates").write_text(alternates)
    if shallow is not None:
        with contextlib.suppress(FileNotFoundError):  # history is whole
            shutil.copyfile(shallow, path / "shallow")
