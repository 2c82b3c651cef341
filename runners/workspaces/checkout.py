"""An isolated checkout for one session.

    INTO/checkout/        what the session sees and may change, with a .git of its own
    INTO/index            what git knows of the files as they were checked out: Rota tells by it what changed since, and
                          need never believe the session's .git
    INTO/workspace.json   what it is

The checkout's git directory has no remote, no hooks and no configuration but ours; it borrows the cache's objects and
writes its own. It knows all of the forge's branches and tags, so that `git log` works with no network. Neither LFS nor
any other filter runs: no configuration names one. Submodules stay empty folders.

A checkout that waits (`runners.workspaces.kept`) is renewed instead, where there is one: what is not as Rota's git
wrote it is removed, and git writes what is missing or differs at the new commit. Its `.git` is a new one.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from runners.base import RepositoryInvalid, WorkspaceError
from runners.workspaces.addresses import check_branch
from runners.workspaces.cache import COMMIT, HEADS, Cache
from runners.workspaces.file_times import let_time_pass
from runners.workspaces.folders import building, is_folder, remove, spread_apart
from runners.workspaces.git import GitFailed, Place, git, plain_errors
from runners.workspaces.kept import Kept
from runners.workspaces.restoring import RECORD, Spoilt, folder_facts, restore
from runners.workspaces.skeleton import CHECKOUT, write_git_dir

_ATTRIBUTES = ":(glob)**/.gitattributes"
WORKERS = 2
"""Processes that write the files: most of it is waiting for the file system."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """One session's checkout of the repository `slug`. `folder` holds all of it, `path` is where the session works.

    `renewed`: just made from a checkout that waited.
    """

    folder: Path
    slug: str
    branch: str
    base_commit: str
    renewed: bool = False

    @property
    def path(self) -> Path:
        return self.folder / "checkout"

    @property
    def index(self) -> Path:
        return self.folder / "index"

    @classmethod
    def open(cls, folder: Path) -> Workspace:
        """The workspace that was prepared in a folder. Raises WorkspaceError where there is none."""
        try:
            record = json.loads((folder / RECORD).read_text())
            found = cls(
                folder=folder.absolute(),
                slug=record["slug"],
                branch=record["branch"],
                base_commit=record["base_commit"],
            )
            check_branch(found.branch)
            if not COMMIT.fullmatch(found.base_commit):
                raise ValueError("base_commit is no commit")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RepositoryInvalid) as error:
            raise WorkspaceError(f"There is no whole workspace in {folder}.") from error
        return found

    def place(self, cache: Cache) -> Place:
        """Where git compares the checkout's files with their index: no git directory but the cache's is needed."""
        return Place(git_dir=cache.path(self.slug), work_tree=self.path, index=self.index)

    def remove(self) -> None:
        """Remove all of it."""
        remove(self.folder)


def is_prepared(folder: Path) -> bool:
    """Whether a folder holds a whole workspace."""
    return (folder / RECORD).is_file()


def prepare(
    cache: Cache,
    slug: str,
    *,
    ref: str,
    branch: str,
    into: Path,
    default_branch: str = "",
    kept: Kept | None = None,
    timeout: timedelta = timedelta(minutes=5),
) -> Workspace:
    """Check out `ref` (a branch, tag or commit) of a cached repository into the folder `into`, on the new `branch`.

    `default_branch` becomes a local branch and `origin/HEAD`, where it is known: agents compare with it. `kept`: where
    a checkout of the repository may wait; one that can't be renewed is thrown away. `into` comes to be in one step:
    killed on the way, this leaves nothing that the next attempt would mistake for a checkout. Raises
    RepositoryInvalid, WorkspaceError, DiskFull.
    """
    check_branch(branch)
    into = into.absolute()
    if into.exists() and (not is_folder(into) or any(into.iterdir())):
        raise WorkspaceError(f"{into} already holds something.")
    commit = cache.resolve(slug, ref)
    with plain_errors(f"Preparing a workspace for {slug}"):
        into.parent.mkdir(parents=True, exist_ok=True)
        spread_apart(into.parent)
    with plain_errors(f"Preparing a workspace for {slug}"), building(into) as draft:
        workspace = Workspace(folder=draft, slug=slug, branch=branch, base_commit=commit)
        renewed = kept is not None and _renew(workspace, cache, kept, timeout=timeout)
        if not renewed:
            workspace.path.mkdir()
            _check_out(workspace, cache, timeout=timeout)
        folders = folder_facts(workspace.path)
        _write_git_dir(workspace, cache, default_branch=default_branch)
        record = {"slug": slug, "branch": branch, "base_commit": commit, "folders": folders}
        (draft / RECORD).write_text(json.dumps(record))
        let_time_pass(workspace.index.stat().st_mtime_ns)  # by then any change by the session shows
    return replace(Workspace.open(into), renewed=renewed)


def _renew(workspace: Workspace, cache: Cache, kept: Kept, *, timeout: timedelta) -> bool:
    """Make the checkout from one that waits. Returns whether there was one, and it could be trusted."""
    old = workspace.folder / "kept"
    if not kept.take(workspace.slug, into=old):
        return False
    try:
        with plain_errors("Renewing a checkout"):
            restore(old)
            _check_conversions(Workspace.open(old), workspace, cache, timeout=timeout)
            (old / "checkout").rename(workspace.path)
            (old / "index").rename(workspace.index)
            _trust(workspace.index)
            _check_out(workspace, cache, timeout=timeout)
    except WorkspaceError:
        for path in (old, workspace.path, *workspace.folder.glob("index*")):
            remove(path)
        return False
    remove(old)
    return True


def _trust(index: Path) -> None:
    """Spare git to read what was written in the second of the index: `restore` has compared nanoseconds."""
    soon = time.time() + 2
    os.utime(index, (soon, soon))


def _check_conversions(old: Workspace, new: Workspace, cache: Cache, *, timeout: timedelta) -> None:
    """Git does not write a file anew whose attributes alone changed (`eol`, `ident`, …). Raises Spoilt."""
    if old.base_commit == new.base_commit:
        return
    changed = git(
        *("diff-tree", "-r", "--name-only", "--end-of-options", old.base_commit, new.base_commit, "--", _ATTRIBUTES),
        at=cache.place(new.slug),
        action=f"Comparing attributes in {new.slug}",
        timeout=timeout,
    )
    if changed.out:
        raise Spoilt("The attributes of files have changed.")


def _check_out(workspace: Workspace, cache: Cache, *, timeout: timedelta) -> None:
    """Have git write what is not there yet, or differs from the index, or from the commit."""
    try:
        git(
            *("-c", f"checkout.workers={WORKERS}", "read-tree", "--reset", "-u", workspace.base_commit),
            at=workspace.place(cache),
            action=f"Checking out {workspace.slug}",
            timeout=timeout,
        )
    except GitFailed as error:
        cache.suspect(workspace.slug, error)
        raise


def _write_git_dir(workspace: Workspace, cache: Cache, *, default_branch: str) -> None:
    """The session's own git directory. Last, for the files of a repository can't then get in its way."""
    git_dir = workspace.path / ".git"
    git_dir.mkdir()  # an error where the repository brought one, though git refuses the name
    refs = cache.refs(workspace.slug)
    symbolic = {}
    default = dict(refs).get(f"{HEADS}{default_branch}")
    if default is not None:
        symbolic[f"{HEADS}HEAD"] = f"{HEADS}{default_branch}"
    if default is not None and not _collide(default_branch, workspace.branch):
        refs = [*refs, (f"refs/heads/{default_branch}", default)]
    refs = [*refs, (f"refs/heads/{workspace.branch}", workspace.base_commit)]
    write_git_dir(
        git_dir,
        config=CHECKOUT,
        head=f"ref: refs/heads/{workspace.branch}",
        refs=[(name, value) for name, value in refs if name != f"{HEADS}HEAD"],
        symbolic=symbolic,
        objects=[cache.objects(workspace.slug)],
        shallow=cache.path(workspace.slug) / "shallow",
    )
    (git_dir / "info").mkdir()  # people and tools write an `exclude` there
    shutil.copyfile(workspace.index, git_dir / "index")


def _collide(one: str, other: str) -> bool:
    """Whether two branches can't be side by side: a name is a file, and `a/b` wants `a` to be a folder."""
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")
