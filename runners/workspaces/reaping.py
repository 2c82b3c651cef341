"""Workspaces that nobody works in any more are archived and removed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from runners.base import RunnerError
from runners.workspaces.archiving import Archive, archive
from runners.workspaces.cache import Cache
from runners.workspaces.checkout import Workspace, is_prepared
from runners.workspaces.folders import is_folder, leftover_of, remove


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaped:
    """A folder that was dealt with. `error` says why it is still there; empty: it was removed.

    `archive` None: it was half made or half removed, and held no work.
    """

    name: str
    archive: Archive | None = None
    error: str = ""


def reap(root: Path, cache: Cache, *, before: datetime, into: Path, live: Collection[str] = ()) -> list[Reaped]:
    """Archive and remove the workspaces directly below `root` that were prepared before an instant (aware).

    `live` are the names of folders whose session still runs: they stay, however old, whole or in the making. The patch
    of the workspace `x` becomes `into/x.patch`. What is no workspace, nor the remains of one, is never touched. One
    that can't be archived stays, and the others are dealt with.
    """
    if not root.is_dir():
        return []
    reaped = []
    for folder in sorted(root.iterdir()):
        if (leftover_of(folder) or folder.name) in live or not _is_due(folder, before):
            continue
        reaped.append(_reap(folder, cache, into=into / f"{folder.name}.patch"))
    return reaped


def _reap(folder: Path, cache: Cache, *, into: Path) -> Reaped:
    try:
        if leftover_of(folder) is not None:
            remove(folder)
            return Reaped(name=folder.name)
        workspace = Workspace.open(folder)
        found = archive(workspace, cache, into=into)
        workspace.remove()
    except RunnerError as error:
        return Reaped(name=folder.name, error=str(error))
    return Reaped(name=folder.name, archive=found)


def _is_due(folder: Path, before: datetime) -> bool:
    if not is_folder(folder):
        return False
    if not is_prepared(folder) and leftover_of(folder) is None:
        return False
    return datetime.fromtimestamp(folder.stat().st_mtime, UTC) < before
