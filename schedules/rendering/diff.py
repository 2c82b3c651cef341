"""A patch, read into files and lines for a page. Pure, bounded, for any patch: what it can't read is shown as it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

MOST_LINES = 3_000
"""Lines of a patch that are shown."""
LONGEST_LINE = 600
"""Characters of one line that are shown."""

_HUNK = re.compile(r"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@")
_FILE_HEADER = "diff --git "
_NAMES = re.compile(r'"?a/(?P<old>.*?)"? "?b/(?P<new>.*?)"?')
_SAYS = {
    "new file mode": "added",
    "deleted file mode": "deleted",
    "rename to": "renamed",
    "copy to": "copied",
    "Binary files": "binary",
    "GIT binary patch": "binary",
}

Kind = Literal["added", "removed", "context", "hunk", "note"]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a file's changes; its numbers before and after, None where it has none."""

    kind: Kind
    text: str
    old: int | None = None
    new: int | None = None


@dataclass(slots=True)
class File:
    path: str
    was: str = ""
    change: str = "changed"
    insertions: int = 0
    deletions: int = 0
    lines: list[Line] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """`preamble` is what stands before the first file: the commits' messages. `hidden`: lines that are not shown."""

    files: list[File]
    preamble: str
    hidden: int


def parse(patch: str) -> Diff:
    """Read a patch of git; the first MOST_LINES of it."""
    lines = patch.split("\n")
    if lines[-1] == "":
        lines.pop()
    shown = lines[:MOST_LINES]
    files: list[File] = []
    preamble: list[str] = []
    reader = iter(shown)
    for text in reader:
        if text.startswith(_FILE_HEADER):
            files.append(_file(text.removeprefix(_FILE_HEADER)))
        elif not files:
            preamble.append(text[:LONGEST_LINE])
        elif hunk := _HUNK.match(text):
            files[-1].lines.append(Line("hunk", text[:LONGEST_LINE]))
            _read_hunk(files[-1], hunk, reader)
        else:
            _read_header(files[-1], text)
    return Diff(files=files, preamble="\n".join(preamble).strip(), hidden=len(lines) - len(shown))


def _file(names: str) -> File:
    """From `a/PATH b/PATH`. A path may hold spaces, so the two halves are looked at first."""
    half = len(names) // 2
    old, new = names[:half].strip('"'), names[half + 1 :].strip('"')
    if old[2:] == new[2:]:
        return File(path=new[2:])
    found = _NAMES.fullmatch(names)
    return File(path=found["new"], was=found["old"]) if found else File(path=names)


def _read_header(file: File, text: str) -> None:
    for beginning, change in _SAYS.items():
        if text.startswith(beginning):
            file.change = change
            return
    if not text.startswith(("index ", "--- ", "+++ ", "similarity ", "dissimilarity ", "rename ", "copy ")):
        file.lines.append(Line("note", text[:LONGEST_LINE]))


def _read_hunk(file: File, header: re.Match[str], reader: Iterator[str]) -> None:
    """By the counts in its header, for a line may look like the beginning of anything."""
    old, new = int(header[1]), int(header[3])
    old_end = old + (1 if header[2] is None else int(header[2]))
    new_end = new + (1 if header[4] is None else int(header[4]))
    while old < old_end or new < new_end:
        text = next(reader, None)
        if text is None:
            return
        sign, body = text[:1], text[1 : LONGEST_LINE + 1]
        if sign == "+":
            file.lines.append(Line("added", body, None, new))
            file.insertions += 1
            new += 1
        elif sign == "-":
            file.lines.append(Line("removed", body, old, None))
            file.deletions += 1
            old += 1
        elif sign in (" ", ""):
            file.lines.append(Line("context", body, old, new))
            old, new = old + 1, new + 1
        else:
            file.lines.append(Line("note", text[:LONGEST_LINE]))
            if sign != "\\":
                return  # no line of a hunk: the patch was cut here
