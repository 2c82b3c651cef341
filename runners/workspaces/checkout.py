"""An isolated checkout for one session.

    INTO/checkout/        what the session sees and may change, with a .git of its own
    INTO/index            what git knows of the files as they were checked out: Rota tells by it what changed since, and
                          need never believe the session's .git
    INTO/workspace.json   what it is

The checkout's git directory has no remote, no hooks and no configuration but ours; it borrows the cache's objects and
writes its own. It knows all of the forge's branches and tags, so that `git log` works with no network. Neither LFS nor
any other filter runs: no configuration names one. Submodules stay empty folders.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from runners.base import RepositoryInvalid, WorkspaceError
from runners.workspaces.addresses import check_branch
from runners.workspaces.cache import COMMIT, HEADS, Cache
from runners.workspaces.folders import building, is_folder, remove
from runners.workspaces.git import GitFailed, Place, git, plain_errors
from runners.workspaces.skeleton import CHECKOUT, write_git_dir

_RECORD = "workspace.json"
_WORKERS = 2  # processes that write the files: most of it is waiting for the file system


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """One session's checkout of the repository `slug`. `folder` holds all of it, `path` is where the session works."""

    folder: Path
    slug: str
    branch: str
    base_commit: str

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
            record = json.loads((folder / _RECORD).read_text())
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
    return (folder / _RECORD).is_file()


def prepare(
    cache: Cache,
    slug: str,
    *,
    ref: str,
    branch: str,
    into: Path,
    default_branch: str = "",
    timeout: timedelta = timedelta(minutes=5),
) -> Workspace:
    """Check out `ref` (a branch, tag or commit) of a cached repository into the folder `into`, on the new `branch`.

    `default_branch` becomes a local branch and `origin/HEAD`, where it is known: agents compare with it. `into` comes
    to be in one step: killed on the way, this leaves nothing that the next attempt would mistake for a checkout.
    Raises RepositoryInvalid, WorkspaceError, DiskFull.
    """
    check_branch(branch)
    into = into.absolute()
    if into.exists() and (not is_folder(into) or any(into.iterdir())):
        raise WorkspaceError(f"{into} already holds something.")
    commit = cache.resolve(slug, ref)
    with plain_errors(f"Preparing a workspace for {slug}"), building(into) as draft:
        workspace = Workspace(folder=draft, slug=slug, branch=branch, base_commit=commit)
        _check_out(workspace, cache, timeout=timeout)
        _write_git_dir(workspace, cache, default_branch=default_branch)
        record = {"slug": slug, "branch": branch, "base_commit": commit}
        (draft / _RECORD).write_text(json.dumps(record))
    return Workspace.open(into)


def _check_out(workspace: Workspace, cache: Cache, *, timeout: timedelta) -> None:
    workspace.path.mkdir()
    try:
        git(
            *("-c", f"checkout.workers={_WORKERS}", "read-tree", "--reset", "-u", workspace.base_commit),
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
