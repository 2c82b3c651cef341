"""What git knows of the files of a checkout. Paths are texts as `os.fsdecode` gives them.

Everything is read from HEAD: nothing depends on what stands in the working tree by now.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import IO

from runners.base import RepositoryInvalid
from runners.functions import FunctionContext
from runners.workspaces.git import GitFailed, Place, git

MOST_COMMITS = 20_000  # that are gone through for the last change of files
_TIMEOUT = timedelta(minutes=10)  # for one command; the session has a limit of its own
_AT_ONCE = 50  # contents in memory
_NEVER = datetime.fromtimestamp(0, UTC)
_COMMIT = re.compile(rb"\x01(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A line that was searched for."""

    path: str
    number: int  # from 1
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who wrote a line, and when."""

    author: str
    at: datetime


class History:
    """The commits that lead to HEAD. Raises RepositoryInvalid when the workspace has none."""

    def __init__(self, context: FunctionContext) -> None:
        if not (context.workspace / ".git").exists():
            raise RepositoryInvalid("This needs a repository, and its schedule has none.")
        self._place = Place(git_dir=context.workspace / ".git", work_tree=context.workspace)
        try:
            self._git("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        except GitFailed:
            raise RepositoryInvalid("The repository has no commit yet.") from None

    def files(self) -> dict[str, str]:
        """The files, each with the id of its content. No links and no submodules."""
        found = {}
        for entry in self._git("ls-tree", "-r", "-z", "HEAD").split(b"\0"):
            facts, _, path = entry.partition(b"\t")
            if facts.startswith(b"100"):
                found[os.fsdecode(path)] = facts.split()[2].decode()
        return found

    def contents(self, ids: Sequence[str], *, most_bytes: int) -> Iterator[bytes]:
        """The contents with these ids, in their order; empty where one is longer than allowed."""
        for begin in range(0, len(ids), _AT_ONCE):
            yield from self._some_contents(ids[begin : begin + _AT_ONCE], most_bytes)

    def _some_contents(self, ids: Sequence[str], most_bytes: int) -> Iterator[bytes]:
        asked = "\n".join(ids).encode()
        sizes = self._git("cat-file", "--batch-check=%(objectsize)", stdin=asked).split()
        fitting = {each for each, size in zip(ids, sizes, strict=True) if int(size) <= most_bytes}
        asked = "\n".join(each for each in ids if each in fitting).encode()
        data = self._git("cat-file", "--batch=%(objectsize)", stdin=asked) if asked else b""
        at = 0
        for each in ids:
            if each not in fitting:
                yield b""
                continue
            begin = data.index(b"\n", at) + 1
            end = begin + int(data[at:begin])
            yield data[begin:end]
            at = end + 1

    def search(self, words: Sequence[str]) -> list[Hit]:
        """Lines of text files with one of the words, as a word of its own."""
        patterns = [part for word in words for part in ("-e", word)]
        options = ("--full-name", "--no-color", "--no-textconv", "-n", "-I", "-z", "-w", "-F")
        return list(_hits(self._git("grep", *options, *patterns, "HEAD", "--", success=(0, 1))))

    def origins(self, path: str, numbers: Sequence[int]) -> dict[int, Origin]:
        """Where lines of a file come from; changes of white space alone are looked through."""
        ranges = [part for number in numbers for part in ("-L", f"{number},{number}")]
        data = self._git("blame", "--porcelain", "--no-textconv", "-w", *ranges, "HEAD", "--", path)
        return _origins(data)

    def last_changes(self, paths: Collection[str]) -> dict[str, datetime]:
        """When files were last changed.

        One that lies back further than `MOST_COMMITS` has the instant of the last commit that was
        gone through. All commits are read, for asking git for many paths takes far longer.
        """
        what = ("--name-only", "--no-renames", "-z", "--format=%x01%ct")
        missing, found, at = set(paths), {}, _NEVER
        with tempfile.TemporaryFile() as log:
            self._git("log", f"--max-count={MOST_COMMITS}", *what, "HEAD", stdout=log)
            log.seek(0)
            for token in _tokens(log):
                if commit := _COMMIT.fullmatch(token):
                    at = datetime.fromtimestamp(int(commit[1]), UTC)
                elif missing and (path := os.fsdecode(token)) in missing:
                    missing.remove(path)
                    found[path] = at
        return found | dict.fromkeys(missing, at)

    def _git(
        self,
        *arguments: str,
        stdin: bytes = b"",
        stdout: IO[bytes] | None = None,
        success: Collection[int] = (0,),
    ) -> bytes:
        return git(
            *arguments,
            at=self._place,
            action="Reading the repository",
            timeout=_TIMEOUT,
            stdin=stdin,
            stdout=stdout,
            success=success,
        ).out


def _tokens(log: IO[bytes]) -> Iterator[bytes]:
    """What stands between NULs; git begins the first path of a commit with a newline."""
    rest = b""
    while chunk := log.read(1024 * 1024):
        *whole, rest = (rest + chunk).split(b"\0")
        yield from (token.removeprefix(b"\n") for token in whole)


def _hits(data: bytes) -> Iterator[Hit]:
    """Each hit is `HEAD:path NUL number NUL text newline`; a path may itself hold newlines."""
    at = 0
    while at < len(data):
        path_end = data.index(b"\0", at)
        number_end = data.index(b"\0", path_end + 1)
        text_end = data.index(b"\n", number_end)
        yield Hit(
            path=os.fsdecode(data[at:path_end].removeprefix(b"HEAD:")),
            number=int(data[path_end + 1 : number_end]),
            text=data[number_end + 1 : text_end].decode("utf-8", "replace"),
        )
        at = text_end + 1


def _origins(porcelain: bytes) -> dict[int, Origin]:
    """A commit's particulars come once, with the first of its lines."""
    commits: dict[bytes, dict[bytes, bytes]] = {}
    found = {}
    commit, number = b"", 0
    for line in porcelain.split(b"\n"):
        key, _, value = line.partition(b" ")
        if line.startswith(b"\t"):
            found[number] = _origin(commits[commit])
        elif len(key) in (40, 64) and value[:1].isdigit():
            commit, number = key, int(value.split()[1])
            commits.setdefault(commit, {})
        elif commit:
            commits[commit].setdefault(key, value)
    return found


def _origin(particulars: Mapping[bytes, bytes]) -> Origin:
    return Origin(
        author=particulars.get(b"author", b"").decode("utf-8", "replace"),
        at=datetime.fromtimestamp(int(particulars.get(b"author-time", b"0")), UTC),
    )
