"""What a session left becomes a patch, and a branch of the cache. Nothing that it left is believed or executed.

An agent may write anything below its checkout: configuration that names programs, hooks, filters, a `.git` that is a
link to elsewhere, forged objects, pipes that never end. So git never runs on the checkout's own `.git`:

1. The files are compared with the index of the moment of the checkout, by git directories of ours (the cache; where
   something changed, a *witness* made for it): the agent's filters, index flags and private ignore rules mean nothing.
2. Of the agent's `.git` two things are taken: the commit that HEAD leads to, read as text, and its object files,
   linked one by one if they are regular files. Indexes of packs, alternates, grafts and the rest stay behind.
3. They enter the cache by a fetch from the witness, which computes every name anew and checks every object (`fsck`).
   What is forged fails there; then the files alone are kept, as one commit by Rota.
4. The patch is made from what arrived in the cache.

What holds a secret does not enter the cache: then there is a patch only, of text, and the secret is taken out of it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import IO

from runners.base import WorkspaceError
from runners.redaction import Redactor
from runners.workspaces.cache import Cache
from runners.workspaces.checkout import Workspace
from runners.workspaces.folders import is_folder
from runners.workspaces.git import Answer, GitFailed, Place, git, plain_errors
from runners.workspaces.harvest import link_objects, read_head, tame
from runners.workspaces.leaks import leaked
from runners.workspaces.skeleton import BARE, EMAIL, NAME, write_git_dir

LARGEST_FILE = 50 * 1024 * 1024
"""Bytes. An uncommitted file that is larger (a core dump, a data set) is left out, and said to be."""

_MOST_LEFT_OUT = 50  # that are named
_MESSAGE = (
    "Keep what the session left uncommitted\n\n"
    "Committed by Rota at the end of the session: these changes were there and in no commit.\n"
)
_SHORTSTAT = re.compile(r"(\d+) (file|insertion|deletion)")
_IGNORED = re.compile(r"^Ignoring path (.+)$", re.MULTILINE)
_PATCH = (
    *("-r", "--no-commit-id", "--no-ext-diff", "--no-textconv", "--no-color", "--find-renames"),
    *("--full-index", "--src-prefix=a/", "--dst-prefix=b/"),
)
_MOST_DISCREET = 10 * 1024 * 1024  # bytes of a patch that secrets are taken out of


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """What came of a workspace. Without a change: `head` is `base_commit`, and there is neither patch nor branch.

    `branch` None beside a patch: the branch could not be kept, and `notes` say why. `notes` are sentences for people.
    """

    base_commit: str
    head: str
    commits: int = 0  # from base to head, Rota's own included
    committed_by_rota: bool = False  # the last one holds what the session had not committed
    changed_files: int = 0
    insertions: int = 0
    deletions: int = 0
    patch_path: Path | None = None
    patch_bytes: int = 0
    branch: str | None = None
    left_out: tuple[str, ...] = ()  # paths of what was changed and not kept, each with the reason
    notes: tuple[str, ...] = ()
    leaked: tuple[str, ...] = ()  # names of the secrets in it: so there is no branch, and the patch is not all of it


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """Paths that differ from the index, as git names them."""

    removed: Sequence[bytes]
    written: Sequence[bytes]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tip:
    """The commit that holds everything. Where it is not the base, `git_dir` is a witness that has it as its HEAD."""

    commit: str
    git_dir: Path
    committed_by_rota: bool
    left_out: tuple[str, ...]


def archive(
    workspace: Workspace,
    cache: Cache,
    *,
    into: Path,
    timeout: timedelta = timedelta(minutes=5),
    largest_file: int = LARGEST_FILE,
    secrets: Mapping[str, str] | None = None,
) -> Archive:
    """Make one patch, in the file `into`, of all that changed since the checkout, and keep it as the branch.

    Commits and uncommitted changes alike, new files included, ignored ones not. The workspace's processes must have
    ended. `timeout` is for each git command and for the lock of the cache. `secrets`, name → value, are not to be in
    what is kept. The checkout stays, and archiving again gives the same. Raises WorkspaceError, DiskFull: then nothing
    is lost, the workspace is there still.
    """
    if not is_folder(workspace.path):
        raise WorkspaceError("The checkout is gone.")
    with plain_errors("Archiving the workspace"), contextlib.ExitStack() as scratch:
        work = Work(
            workspace=workspace,
            too_large=tuple(tame(workspace.path)),
            cache=cache,
            timeout=timeout,
            largest_file=largest_file,
            secrets=secrets or {},
            scratch=scratch,
        )
        return _archive(work, into=into)


def diff_text(archive: Archive, *, max_bytes: int = 200_000) -> str:
    """The patch as text to show: UTF-8 with replacements, cut at a line's end, with a last line that says so."""
    if archive.patch_path is None:
        return ""
    with archive.patch_path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) <= max_bytes:
        return data.decode(errors="replace")
    shown = data[:max_bytes].rpartition(b"\n")[0]
    return f"{shown.decode(errors='replace')}\n… cut: {len(shown):,} of {archive.patch_bytes:,} bytes are shown\n"


def _archive(work: Work, *, into: Path) -> Archive:
    workspace = work.workspace
    base, notes = workspace.base_commit, []
    head = read_head(workspace.path / ".git")
    if head is None:
        notes.append("The checkout's HEAD could not be read: only its files are kept, not its commits.")
    elif head != base:
        try:
            tip = work.tip(on=head)
            if tip.commit == head and work.cache.is_published(workspace.slug, head):
                note = f"The checkout was left at {head[:12]}, a commit of the repository, with no change."
                return Archive(base_commit=base, head=base, left_out=tip.left_out, notes=(note,))
            if names := work.leaked(tip):
                return work.describe(tip, into=into, kept=False, notes=notes, names=names)
            work.keep(tip)
        except GitFailed as error:
            notes.append(f"The commits are damaged and were not kept, only the files: {error}")
        else:
            return work.describe(tip, into=into, kept=True, notes=notes)
    tip = work.tip(on=base)
    if tip.commit == base:
        return Archive(base_commit=base, head=base, left_out=tip.left_out, notes=tuple(notes))
    if names := work.leaked(tip):
        return work.describe(tip, into=into, kept=False, notes=notes, names=names)
    try:
        work.keep(tip)
    except GitFailed as error:
        notes.append(f"There is a patch only, for the branch was refused: {error}")
        return work.describe(tip, into=into, kept=False, notes=notes)
    return work.describe(tip, into=into, kept=True, notes=notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The steps of one archiving."""

    workspace: Workspace
    too_large: Sequence[bytes]  # files of rules that had to go
    cache: Cache
    timeout: timedelta
    largest_file: int
    secrets: Mapping[str, str]
    scratch: contextlib.ExitStack  # removes the witnesses at the end

    def tip(self, *, on: str) -> Tip:
        """Everything as a commit: `on`, where the files are as it has them, or one of Rota's on top of it."""
        try:
            return self._tip(on, attributes="")
        except GitFailed:  # perhaps of a file that is not encoded as the attributes have it: it is taken as it is
            return self._tip(on, attributes="* !working-tree-encoding\n")

    def _tip(self, on: str, *, attributes: str) -> Tip:
        is_base = on == self.workspace.base_commit
        place = self.workspace.place(self.cache)
        if attributes or not is_base:
            place = self._witness(on, with_agent=not is_base, attributes=attributes)
        if not is_base:
            self._git(place, "read-tree", "-i", "-m", on)
        change = self._change(place)
        if not (change.removed or change.written):
            return Tip(commit=on, git_dir=place.git_dir, committed_by_rota=False, left_out=change.left_out)
        if is_base and not attributes:
            place = self._witness(on, with_agent=False)
        change = self._stage(place, change)
        commit = self._commit(place, on=on)
        (place.git_dir / "HEAD").write_text(f"{commit}\n")
        return Tip(commit=commit, git_dir=place.git_dir, committed_by_rota=commit != on, left_out=change.left_out)

    def leaked(self, tip: Tip) -> tuple[str, ...]:
        """Names of the secrets in what would be kept. Raises GitFailed where it can't be read."""
        return leaked(
            Place(git_dir=tip.git_dir),
            base=self.workspace.base_commit,
            tip=tip.commit,
            secrets=self.secrets,
            scratch=self.workspace.folder,
            timeout=self.timeout,
        )

    def keep(self, tip: Tip) -> None:
        """Bring the tip into the cache, checked on its way. Raises GitFailed where it is refused, Busy."""
        self.cache.keep_branch(
            self.workspace.slug, self.workspace.branch, source=tip.git_dir, ref="HEAD", wait=self.timeout
        )

    def describe(
        self, tip: Tip, *, into: Path, kept: bool, notes: Sequence[str], names: tuple[str, ...] = ()
    ) -> Archive:
        """The patch and its numbers. From the cache where the branch was kept: that is what was checked.

        `names` are of secrets that leaked: then the patch is of text, and without them.
        """
        workspace = self.workspace
        place = self.cache.place(workspace.slug) if kept else Place(git_dir=tip.git_dir)
        span = (workspace.base_commit, tip.commit)
        count = self._git(place, "rev-list", "--count", f"{span[0]}..{span[1]}")
        found = Archive(
            base_commit=span[0],
            head=span[1],
            commits=int(count.out),
            committed_by_rota=tip.committed_by_rota,
            branch=workspace.branch if kept else None,
            left_out=tip.left_out,
            notes=tuple(notes),
            leaked=names,
        )
        try:
            stat_line = self._git(place, "diff-tree", "-r", "--shortstat", *span).out.decode()
            size = self._write_patch(place, span, into=into, discreet=bool(names))
        except GitFailed as error:
            if not kept:
                raise
            return replace(found, notes=(*notes, f"There is a branch only, and no patch: {error}"))
        numbers = {what: int(number) for number, what in _SHORTSTAT.findall(stat_line)}
        return replace(
            found,
            changed_files=numbers.get("file", 0),
            insertions=numbers.get("insertion", 0),
            deletions=numbers.get("deletion", 0),
            patch_path=into if size else None,
            patch_bytes=size,
        )

    def _witness(self, head: str, *, with_agent: bool, attributes: str = "") -> Place:
        """A new git directory of ours for the files; with the agent's objects, after those of the cache, or without.

        `attributes` go before those of the checkout.
        """
        scratch = tempfile.TemporaryDirectory(dir=self.workspace.folder, prefix="witness-")
        git_dir = Path(self.scratch.enter_context(scratch))
        agent = git_dir / "agent"
        write_git_dir(
            git_dir,
            config=BARE,
            head=head,
            objects=[self.cache.objects(self.workspace.slug), *([agent] if with_agent else [])],
            shallow=self.cache.path(self.workspace.slug) / "shallow",
        )
        # With its time: git looks into files that changed in the same second.
        index = Path(shutil.copy2(self.workspace.index, git_dir / "index"))
        place = Place(git_dir=git_dir, work_tree=self.workspace.path, index=index)
        if attributes:
            (git_dir / "info").mkdir()
            (git_dir / "info" / "attributes").write_text(attributes)
        if with_agent:
            for pack in link_objects(self.workspace.path / ".git", into=agent):
                self._git(place, "index-pack", str(pack))
        return place

    def _change(self, place: Place) -> _Change:
        # Plumbing, and not `git add --all`: that starts `git status` in submodules, where the agent's .git is obeyed.
        listed = self._git(place, "diff-files", "-z", "--name-status", "--no-renames", "--ignore-submodules=all")
        states = listed.out.split(b"\0")
        known = list(zip(states[::2], states[1::2], strict=False))
        others = self._git(place, "ls-files", "-z", "--others", "--exclude-standard").out
        new = [path for path in others.split(b"\0") if path]
        removed = [path for state, path in known if state == b"D"]
        written, left_out = [], [f"{_shown(path)}: too large to be read for rules" for path in self.too_large]
        for path in [*(path for state, path in known if state != b"D"), *new]:
            reason = self._refusal(path)
            if reason:
                left_out.append(f"{_shown(path)}: {reason}")
            else:
                written.append(path)
        return _Change(removed=removed, written=written, left_out=_few(left_out))

    def _refusal(self, path: bytes) -> str:
        """Why a changed path can't be kept. Empty: it can."""
        if path.endswith(b"/"):
            return "a git repository of its own"
        full = os.path.join(os.fsencode(self.workspace.path), path)  # noqa: PTH118 - git's paths are bytes
        info = os.lstat(full)
        if info.st_size > self.largest_file:
            return f"larger than {self.largest_file / 1024 / 1024:g} MB"
        if stat.S_ISREG(info.st_mode) and not info.st_mode & stat.S_IRUSR:
            os.chmod(full, stat.S_IMODE(info.st_mode) | stat.S_IRUSR)  # noqa: PTH101 - a regular file
        return ""

    def _stage(self, place: Place, change: _Change) -> _Change:
        refused = []
        for options, paths in (
            (("--force-remove",), change.removed),
            (("--add", "--replace"), change.written),
        ):
            if not paths:
                continue
            stdin = b"".join(path + b"\0" for path in paths)
            answer = self._git(place, "update-index", *options, "-z", "--stdin", stdin=stdin)
            refused += [f"{name}: no name that git takes" for name in _IGNORED.findall(answer.err)]
        return replace(change, left_out=_few([*change.left_out, *refused]))

    def _commit(self, place: Place, *, on: str) -> str:
        """The index as a commit on top of `on`; `on` itself where they are the same."""
        tree = self._git(place, "write-tree").out.decode().strip()
        before = self._git(place, "rev-parse", "--verify", f"{on}^{{tree}}").out.decode().strip()
        if tree == before:
            return on
        identity = ("-c", f"user.name={NAME}", "-c", f"user.email={EMAIL}")
        command = ("commit-tree", "-p", on, "-F", "-", tree)
        return self._git(place, *identity, *command, stdin=_MESSAGE.encode()).out.decode().strip()

    def _write_patch(self, place: Place, span: tuple[str, str], *, into: Path, discreet: bool) -> int:
        """Write the patch to the file `into`, whole or not at all, and give its size; an empty one is not written."""
        into.parent.mkdir(parents=True, exist_ok=True)
        draft = into.with_name(f"{into.name}.part")
        try:
            with draft.open("wb") as file:
                if discreet:
                    self._write_without_secrets(place, span, file)
                else:
                    self._git(place, "diff-tree", "--binary", *_PATCH, *span, stdout=file)
            size = draft.stat().st_size
            if size:
                draft.replace(into)
            else:
                into.unlink(missing_ok=True)
            return size
        finally:
            draft.unlink(missing_ok=True)

    def _write_without_secrets(self, place: Place, span: tuple[str, str], file: IO[bytes]) -> None:
        """No binary parts: git compresses them, and nothing could be found in there."""
        with tempfile.TemporaryFile(dir=self.workspace.folder) as raw:
            self._git(place, "diff-tree", "--patch", *_PATCH, *span, stdout=raw)
            raw.seek(0)
            lines = raw.read(_MOST_DISCREET).split(b"\n")
            is_cut = bool(raw.read(1)) and lines.pop() is not None
        # A secret may go on in the next line, which has its own plus or minus in front.
        bodies = Redactor(self.secrets.values()).data(b"\n".join(line[1:] for line in lines)).split(b"\n")
        file.write(b"\n".join(line[:1] + body for line, body in zip(lines, bodies, strict=True)))
        if is_cut:
            file.write(b"\n... The rest is left out.\n")

    def _git(self, place: Place, *arguments: str, stdin: bytes = b"", stdout: IO[bytes] | None = None) -> Answer:
        return git(
            *arguments,
            at=place,
            action="Archiving the workspace",
            timeout=self.timeout,
            stdin=stdin,
            stdout=stdout,
        )


def _few(lines: list[str]) -> tuple[str, ...]:
    more = len(lines) - _MOST_LEFT_OUT
    return (*lines[:_MOST_LEFT_OUT], f"and {more:,} more") if more > 0 else tuple(lines)


def _shown(path: bytes) -> str:
    text = path.decode(errors="replace")
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
