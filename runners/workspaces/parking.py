"""The work of a session that still runs, as a git bundle: what another machine goes on from should this one go away.

Made by the same steps as the archive at the end (`runners.workspaces.archiving`): the agent's `.git` is not believed,
and nothing of it is executed. But nothing is removed or tamed either, for the session is at work: a tree that git can't
read in time, or that changes under it, is left for the next time. What holds a secret is not kept.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

from runners.base import WorkspaceError
from runners.workspaces.archiving import Work
from runners.workspaces.cache import Cache
from runners.workspaces.checkout import Workspace
from runners.workspaces.folders import is_folder
from runners.workspaces.git import Place, git, plain_errors
from runners.workspaces.harvest import read_head
from runners.workspaces.skeleton import BARE, write_git_dir

LARGEST_FILE = 5 * 1024 * 1024
"""Bytes. An uncommitted file that is larger is left out."""

_ACTION = "Keeping the work so far"
_PARKED = "refs/heads/parked"


def bundle(
    workspace: Workspace,
    cache: Cache,
    *,
    base: str,
    into: Path,
    secrets: Mapping[str, str],
    timeout: timedelta = timedelta(seconds=20),
) -> bool:
    """Write what the checkout has beyond the commit `base` to the file `into`. False: nothing, or a secret is in it.

    `base` is a commit that every machine can fetch. `timeout` is for each git command. Raises WorkspaceError, DiskFull.
    """
    if not is_folder(workspace.path):
        raise WorkspaceError("The checkout is gone.")
    with plain_errors(_ACTION), contextlib.ExitStack() as scratch:
        work = Work(
            workspace=workspace,
            too_large=(),
            cache=cache,
            timeout=timeout,
            largest_file=LARGEST_FILE,
            secrets=secrets,
            scratch=scratch,
        )
        tip = work.tip(on=read_head(workspace.path / ".git") or workspace.base_commit)
        if tip.commit == workspace.base_commit or work.leaked(tip):
            return False
        return _write(Place(git_dir=tip.git_dir), base, into=into, timeout=timeout)


def bundle_branch(
    cache: Cache, slug: str, branch: str, *, base: str, into: Path, timeout: timedelta = timedelta(minutes=1)
) -> bool:
    """The same of a branch that the cache has kept. Raises WorkspaceError, DiskFull."""
    with _git_dir(cache, slug, head=cache.resolve(slug, branch), beside=into) as place:
        return _write(place, base, into=into, timeout=timeout)


def unbundle(cache: Cache, slug: str, *, file: Path, branch: str, timeout: timedelta = timedelta(minutes=1)) -> None:
    """Keep what such a file holds as a branch of the cache, which has to have its base. Every object is checked.

    Raises WorkspaceError, DiskFull.
    """
    with _git_dir(cache, slug, head=f"ref: {_PARKED}", beside=file) as place:
        git(
            *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--update-shallow", "--end-of-options"),
            *(str(file.resolve()), f"HEAD:{_PARKED}"),
            at=place,
            action="Taking over the work so far",
            timeout=timeout,
        )
        cache.keep_branch(slug, branch, source=place.git_dir, ref=_PARKED, wait=timeout)


@contextlib.contextmanager
def _git_dir(cache: Cache, slug: str, *, head: str, beside: Path) -> Iterator[Place]:
    """A git directory of ours for a moment, that borrows the objects of the cache."""
    with plain_errors(_ACTION), tempfile.TemporaryDirectory(dir=beside.parent) as folder:
        path = Path(folder) / "git"
        shallow = cache.path(slug) / "shallow"
        write_git_dir(path, config=BARE, head=head, objects=[cache.objects(slug)], shallow=shallow)
        yield Place(git_dir=path)


def _write(place: Place, base: str, *, into: Path, timeout: timedelta) -> bool:
    count = git("rev-list", "--count", "HEAD", f"^{base}", at=place, action=_ACTION, timeout=timeout)
    if int(count.out) == 0:
        return False
    draft = into.with_name(f"{into.name}.part")
    try:
        with draft.open("wb") as file:  # to a path it would be kept from by the lock of one that was killed
            command = ("bundle", "create", "--quiet", "-", "HEAD", f"^{base}")
            git(*command, at=place, action=_ACTION, timeout=timeout, stdout=file)
        draft.replace(into)
    finally:
        draft.unlink(missing_ok=True)
    return True
