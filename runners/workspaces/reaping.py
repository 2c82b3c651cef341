"""Workspaces that nobody works in any more are archived and removed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from runners.base import RunnerError
from runners.workspaces.archiving import Archive, archive
from runners.workspaces.cache import Cache
from runners.workspaces.checkout import Workspace, is_prepared
from runners.workspaces.folders import is_folder, leftover_of, remove, size
from runners.workspaces.git import git, plain_errors

_BUNDLING = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaped:
    """A folder that was dealt with; it took `bytes`. `error` says why it is still there; empty: it was removed.

    `archive` None: it was half made or half removed, and held no work. `bundle` holds its commits, where it had some.
    """

    name: str
    bytes: int
    archive: Archive | None = None
    bundle: Path | None = None
    error: str = ""


def reap(
    root: Path,
    cache: Cache,
    *,
    before: datetime,
    into: Path,
    live: Collection[str] = (),
    secrets_of: Callable[[str], Mapping[str, str]] = lambda _: {},
) -> list[Reaped]:
    """Archive and remove the workspaces directly below `root` that were prepared before an instant (aware).

    The oldest first. `live` are the names of folders whose session still runs: they stay, however old, whole or in
    the making. The patch of the workspace `x` becomes `into/x.patch`, its commits `into/x.bundle`; `secrets_of` gives
    what must not be in them, by name, or raises RunnerError. What is no workspace, nor the remains of one, is never
    touched. One that can't be archived stays, and the others are dealt with.
    """
    due = [
        folder
        for folder, written_at in waiting(root).items()
        if (leftover_of(folder) or folder.name) not in live and written_at < before
    ]
    return [_reap(folder, cache, into=into / f"{folder.name}.patch", secrets_of=secrets_of) for folder in due]


def waiting(root: Path) -> dict[Path, datetime]:
    """The workspaces, and remains of workspaces, directly below a folder, and since when: the oldest first."""
    found = {}
    for path in root.iterdir() if root.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):  # just gone
            if is_folder(path) and (is_prepared(path) or leftover_of(path)):
                found[path] = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return dict(sorted(found.items(), key=lambda item: (item[1], item[0])))


def _reap(folder: Path, cache: Cache, *, into: Path, secrets_of: Callable[[str], Mapping[str, str]]) -> Reaped:
    took = size(folder)
    try:
        if leftover_of(folder) is not None:
            remove(folder)
            return Reaped(name=folder.name, bytes=took)
        workspace = Workspace.open(folder)
        found = archive(workspace, cache, into=into, secrets=secrets_of(folder.name))
        bundle = _bundle(workspace.slug, cache, found, into=into.with_suffix(".bundle"))
        workspace.remove()
    except RunnerError as error:
        return Reaped(name=folder.name, bytes=took, error=str(error))
    return Reaped(name=folder.name, bytes=took, archive=found, bundle=bundle)


def _bundle(slug: str, cache: Cache, found: Archive, *, into: Path) -> Path | None:
    """The commits from the base to the branch, in a file that `git fetch` takes: the cache may be made anew."""
    if found.branch is None:
        return None
    draft = into.with_name(f"{into.name}.part")
    with plain_errors("Bundling the commits"):
        into.parent.mkdir(parents=True, exist_ok=True)
        try:
            with draft.open("wb") as file:  # to a path it would be kept from by the lock of one that was killed
                git(
                    *("bundle", "create", "--quiet", "-", f"^{found.base_commit}", f"refs/heads/{found.branch}"),
                    at=cache.place(slug),
                    action="Bundling the commits",
                    timeout=_BUNDLING,
                    stdout=file,
                )
            draft.replace(into)
        finally:
            draft.unlink(missing_ok=True)
    return into
