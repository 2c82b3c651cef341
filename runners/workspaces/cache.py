"""One bare repository per repository that schedules work on, fetched from its forge and shared by all sessions.

    ROOT/acme.git      its branches as refs/remotes/origin/*, its tags, and the branches that sessions made (rota/…)
    ROOT/acme.lock     held by whoever writes to it, with word of the last fetch

Sessions read without the lock. No object is ever removed, also not by the repacking, so that checkouts can borrow them.
What a killed worker left is tidied by the next holder of the lock; a cache that is half made, damaged or marked as
suspect is made anew beside the old one and takes its place.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from runners.base import FetchFailed, RepositoryInvalid, WorkspaceError
from runners.workspaces.addresses import check_branch, check_url, no_commits, refusal
from runners.workspaces.folders import building, is_folder, remove
from runners.workspaces.git import Answer, GitFailed, Place, TookTooLong, git, plain_errors
from runners.workspaces.locks import Busy, Lock, locked
from runners.workspaces.skeleton import BARE, write_git_dir

HEADS = "refs/remotes/origin/"
"""Where the forge's branches are, in the cache and in checkouts."""

COMMIT = re.compile(r"[0-9a-f]{40}")

_SLUG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_HEAD = "ref: refs/heads/none"  # nothing is ever checked out here
_MOST_PACKS = 50  # each fetch that brings something adds one; reading gets slower with their number
_QUICK = timedelta(seconds=60)  # for what only reads the cache
_REPACKING = timedelta(minutes=10)
_CHECKING = timedelta(minutes=10)

_STATE = "rota.json"  # written last: a cache without it is half made
_DEFAULT_BRANCH = "rota-default-branch"
_SUSPECT = "rota-suspect"  # a checkout found it damaged

# What git says when it is the forge that fails.
_FORGE = re.compile(r"unable to access|Could not read from remote repository|hung up|early EOF|disconnect")

# What git says of its own objects and refs when they are damaged.
_DAMAGE = re.compile(
    r"bad object|corrupt|unable to read|unable to unpack|cannot read object|missing (blob|tree|commit)"
    r"|not a git repository|bad tree|not a tree|failed to unpack tree|unexpected line in|broken|inflate"
    r"|does not point to a valid object|reference is not a tree|file .* is not a GIT packfile"
    r"|packfile .* (is far too short|cannot be accessed|claims to have|does not match index)|could not parse"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a cache holds: the repository at `url` as it was at `fetched_at` (aware, UTC)."""

    url: str
    fetched_at: datetime


class Cache:
    """The caches below one folder. Any number of threads and processes may use it at once."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def path(self, slug: str) -> Path:
        """The bare repository's folder, whether it is there or not. Raises RepositoryInvalid for a bad slug."""
        if not _SLUG.fullmatch(slug) or ".." in slug:
            raise RepositoryInvalid(f"“{slug[:100]}” can't name a repository: use letters, digits, - and _.")
        return self.root / f"{slug}.git"

    def place(self, slug: str) -> Place:
        """Where git finds it."""
        return Place(git_dir=self.path(slug))

    def objects(self, slug: str) -> Path:
        """The folder that checkouts borrow objects from: a sandbox must show it, for reading only."""
        return self.path(slug) / "objects"

    def refresh(self, slug: str, url: str, *, timeout: timedelta = timedelta(minutes=5)) -> None:
        """Bring the cache up to the state of its repository, making or healing it where need be.

        Waits at most `timeout` for others and takes at most about as long itself. Whoever waits while another fetches
        takes the result of a fetch that began after it asked, also where that failed: twenty sessions cost two
        fetches. Raises RepositoryInvalid, FetchFailed, DiskFull; on any of them the last known state stays.
        """
        check_url(url)
        path = self.path(slug)
        asked = time.monotonic()
        with plain_errors(f"Fetching {slug}"):
            self.root.mkdir(parents=True, exist_ok=True)
            try:
                with locked(self._lock(slug), wait=timeout) as lock:
                    self._refresh_once(path, url, timeout=timeout, lock=lock, asked=asked)
            except Busy as error:
                raise FetchFailed(str(error)) from error

    def known(self, slug: str) -> Known | None:
        """The last known state. None where nothing was fetched yet, or its cache is half made."""
        try:
            state = json.loads((self.path(slug) / _STATE).read_text())
            return Known(url=state["url"], fetched_at=datetime.fromisoformat(state["fetched_at"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def default_branch(self, slug: str) -> str:
        """The branch that was noted last as the forge's own. Empty where that is not known."""
        try:
            branch = (self.path(slug) / _DEFAULT_BRANCH).read_text()
            check_branch(branch)
        except (OSError, ValueError, RepositoryInvalid):
            return ""
        return branch

    def note_default_branch(self, slug: str, branch: str) -> None:
        """Remember the forge's default branch, for when the forge can't be asked."""
        if branch != self.default_branch(slug):
            with plain_errors(f"Keeping the default branch of {slug}"):
                path = self.path(slug) / _DEFAULT_BRANCH
                draft = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}")  # this needs no lock
                draft.write_text(branch)
                draft.replace(path)

    def resolve(self, slug: str, ref: str) -> str:
        """The commit that a branch, a branch that a session made, a tag or a commit's full name stands for.

        In this order. Raises RepositoryInvalid where there is none, WorkspaceError without a cache.
        """
        names = [ref] if COMMIT.fullmatch(ref) else []
        if not names:
            check_branch(ref)
            names = [f"{HEADS}{ref}", f"refs/heads/{ref}", f"refs/tags/{ref}"]
        question = "".join(f"{name}^{{commit}}\n" for name in names).encode()
        answer = self._read(slug, "cat-file", "--batch-check=%(objectname)", stdin=question)
        for line in answer.out.decode().splitlines():
            if COMMIT.fullmatch(line):
                return line
        raise RepositoryInvalid(f"{slug} has no branch, tag or commit “{ref}”.")

    def holds(self, slug: str, commit: str) -> bool:
        """Whether a commit can be checked out without a fetch: a run's commit was fetched on one machine only."""
        try:
            return self.resolve(slug, commit) == commit
        except WorkspaceError:
            return False

    def is_published(self, slug: str, commit: str) -> bool:
        """Whether a commit is part of the forge's branches or tags, and so was not made by a session."""
        try:
            answer = git(
                *("for-each-ref", "--count=1", "--format=x", f"--contains={commit}", HEADS, "refs/tags/"),
                at=self.place(slug),
                action=f"Reading {slug}",
                timeout=_QUICK,
            )
        except GitFailed:
            return False  # the cache does not know the commit
        return bool(answer.out)

    def refs(self, slug: str) -> list[tuple[str, str]]:
        """The forge's branches and tags: pairs of full name (`refs/remotes/origin/main`) and object."""
        answer = self._read(slug, "for-each-ref", "--format=%(objectname) %(refname)", HEADS, "refs/tags/")
        lines = answer.out.decode(errors="surrogateescape").splitlines()
        return [(name, value) for value, _, name in (line.partition(" ") for line in lines)]

    def keep_branch(
        self,
        slug: str,
        branch: str,
        *,
        source: Path,
        ref: str,
        wait: timedelta = timedelta(minutes=5),
    ) -> None:
        """Keep `ref` of the git directory `source` as a branch of the cache; one of that name gives way.

        Every object that is new is checked on its way (`fsck`), so that nothing forged gets in. `source` must be a
        directory of ours: its configuration is obeyed. Raises GitFailed, Busy, DiskFull.
        """
        check_branch(branch)
        with plain_errors(f"Keeping {branch}"), locked(self._lock(slug), wait=wait) as lock:
            _tidy(self.path(slug))
            git(
                *("-c", "fetch.fsckObjects=true", "fetch", "--quiet", "--no-tags", "--no-write-fetch-head"),
                *("--no-recurse-submodules", "--update-shallow", "--end-of-options"),
                *(str(source), f"+{ref}:refs/heads/{branch}"),
                at=self.place(slug),
                action=f"Keeping {branch}",
                timeout=wait,
                held=lock.descriptor,
            )

    def suspect(self, slug: str, error: GitFailed) -> None:
        """Have the cache made anew by the next `refresh` if git's error says that it is damaged."""
        path = self.path(slug)
        if _tells_of_damage(error.stderr) and path.is_dir():
            (path / _SUSPECT).touch()

    def _refresh_once(self, path: Path, url: str, *, timeout: timedelta, lock: Lock, asked: float) -> None:
        attempt = lock.attempt_since(asked, url=url)
        if attempt and attempt.error:
            raise FetchFailed(attempt.error)
        if attempt and _is_whole(path):
            return
        began = time.monotonic()
        try:
            self._bring_up(path, url, timeout=timeout, lock=lock)
        except FetchFailed as error:
            lock.record(url=url, began=began, error=str(error))
            raise
        lock.record(url=url, began=began)

    def _bring_up(self, path: Path, url: str, *, timeout: timedelta, lock: Lock) -> None:
        if not _is_whole(path):
            self._make(path, url, timeout=timeout, lock=lock)
            return
        _tidy(path)
        try:
            damaged = _fetch(path, url, timeout=timeout, lock=lock)
        except GitFailed as error:
            cause = refusal(error, url)
            if isinstance(cause, RepositoryInvalid) or _FORGE.search(error.stderr) or _is_sound(path):
                raise cause from error
            damaged = True
        if damaged:
            self._make(path, url, timeout=timeout, lock=lock)
            return
        _write_state(path, url)
        _repack(path, lock=lock)

    def _make(self, path: Path, url: str, *, timeout: timedelta, lock: Lock) -> None:
        """Make the cache from nothing, and let it take the place of what is there. Branches of sessions are kept."""
        old = path.with_name(f".{path.name}.old")
        with building(path) as draft:
            write_git_dir(draft, config=BARE, head=_HEAD)
            try:
                _fetch(draft, url, timeout=timeout, lock=lock)
            except GitFailed as error:
                raise refusal(error, url) from error
            for earlier in (old, path):  # the first is there when the lines below were interrupted
                _salvage(earlier, into=draft, lock=lock)
            _write_state(draft, url)
            if path.exists():
                remove(old)
                path.rename(old)
        remove(old)

    def _read(self, slug: str, *arguments: str, stdin: bytes = b"") -> Answer:
        path = self.path(slug)
        if not path.is_dir():
            raise WorkspaceError(f"{slug} has not been fetched yet.")
        try:
            return git(*arguments, at=self.place(slug), action=f"Reading {slug}", stdin=stdin, timeout=_QUICK)
        except GitFailed as error:
            self.suspect(slug, error)
            raise

    def _lock(self, slug: str) -> Path:
        return self.path(slug).with_suffix(".lock")


def _fetch(path: Path, url: str, *, timeout: timedelta, lock: Lock) -> bool:
    """Fetch branches and tags, and tell whether git found the cache damaged on the way, and went on.

    Raises GitFailed, RepositoryInvalid where there is nothing, FetchFailed when it took too long.
    """
    try:
        fetched = git(
            *("fetch", "--quiet", "--prune", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance"),
            *("--no-recurse-submodules", "--update-shallow", "--end-of-options", url),
            *(f"+refs/heads/*:{HEADS}*", "+refs/tags/*:refs/tags/*"),
            at=Place(git_dir=path),
            action=f"Fetching {url}",
            timeout=timeout,
            forge=True,
            held=lock.descriptor,
        )
    except TookTooLong as error:
        raise FetchFailed(str(error)) from error
    branches = git(
        *("for-each-ref", "--count=1", "--format=x", HEADS),
        at=Place(git_dir=path),
        action=f"Reading {url}",
        timeout=_QUICK,
    )
    if not branches.out:
        raise RepositoryInvalid(no_commits(url))
    return _tells_of_damage(fetched.err)


def _tells_of_damage(stderr: str) -> bool:
    """Whether git complains of this side; what a forge says starts with `remote:`."""
    return any(_DAMAGE.search(line) for line in stderr.splitlines() if not line.startswith("remote:"))


def _is_whole(path: Path) -> bool:
    parts = (_STATE, "HEAD", "config", "objects", "refs")
    return all((path / part).exists() for part in parts) and not (path / _SUSPECT).exists()


def _is_sound(path: Path) -> bool:
    """Whether all that its refs lead to is there. Reads all of history: only for after a failure.

    A cache that takes more memory to be read than git may have, at ten million objects or so, is taken for sound: it
    is not to be fetched anew.
    """
    try:
        git(
            *("fsck", "--connectivity-only", "--no-dangling", "--no-progress"),
            at=Place(git_dir=path),
            action="Checking the cache",
            timeout=_CHECKING,
        )
    except GitFailed as error:
        return "Out of memory" in error.stderr
    return True


def _tidy(path: Path) -> None:
    """Remove the locks and halves of killed commands. Whoever holds the lock knows that none of them lives."""
    stale = [*path.glob("*.lock"), *(path / "objects" / "pack").glob("tmp_*")]
    stale += [*(path / "objects" / "pack").glob("*.keep"), *(path / "objects").glob("*/*.lock")]
    for folder, _, names in os.walk(path / "refs"):
        stale += [Path(folder, name) for name in names if name.endswith(".lock")]
    for leftover in stale:
        leftover.unlink(missing_ok=True)


def _repack(path: Path, *, lock: Lock) -> None:
    """Join small packs when they are many. Keeps every object, and the big packs as they are.

    What was fetched is whole without it: where it fails, it is tried again after the next fetch. Raises DiskFull.
    """
    if len(list((path / "objects" / "pack").glob("*.pack"))) <= _MOST_PACKS:
        return
    try:
        for command in (("repack", "--quiet", "--geometric=2", "-d"), ("pack-refs", "--all")):
            git(
                *command,
                at=Place(git_dir=path),
                action="Repacking the cache",
                timeout=_REPACKING,
                held=lock.descriptor,
            )
    except TookTooLong:
        return
    except GitFailed as error:
        if _tells_of_damage(error.stderr):
            (path / _SUSPECT).touch()


def _salvage(old: Path, *, into: Path, lock: Lock) -> None:
    """Take over the branches that sessions made, as far as they can still be read."""
    if not is_folder(old):
        return
    (old / "HEAD").write_text(f"{_HEAD}\n")  # the files that git knows a repository by may be what is damaged
    (old / "config").write_text(BARE)
    with contextlib.suppress(WorkspaceError):
        answer = git(
            *("for-each-ref", "--format=%(refname)", "refs/heads/"),
            at=Place(git_dir=old),
            action="Reading the old cache",
            timeout=_QUICK,
        )
        for name in answer.out.decode(errors="surrogateescape").splitlines():
            with contextlib.suppress(GitFailed):  # lost with the objects that it needed; its patch is archived
                git(
                    *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--update-shallow"),
                    *("--end-of-options", str(old), f"+{name}:{name}"),
                    at=Place(git_dir=into),
                    action=f"Taking over {name}",
                    timeout=_REPACKING,
                    held=lock.descriptor,
                )


def _write_state(path: Path, url: str) -> None:
    state = {"url": url, "fetched_at": datetime.now(UTC).isoformat()}
    draft = path / f"{_STATE}.draft"
    draft.write_text(json.dumps(state))
    draft.replace(path / _STATE)
