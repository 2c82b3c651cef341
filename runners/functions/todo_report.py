"""What was left to do: every TODO and FIXME with its age, the oldest first."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from runners.functions import FunctionContext, FunctionResult
from runners.functions.history import History, Hit, Origin
from runners.functions.markdown import code, days, plain, table

MOST_LINES = 200  # of one file
_THREADS = 4
_BUCKETS = (
    (30, "up to 30 days"),
    (90, "up to 90 days"),
    (365, "up to a year"),
    (730, "up to two years"),
)
_OLDEST = "over two years"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """A line that somebody left for later. `age` in whole days."""

    path: str
    number: int
    text: str
    author: str
    since: datetime
    age: int


def report(
    context: FunctionContext,
    *,
    markers: Sequence[str] = ("TODO", "FIXME"),
    limit: int = 100,
    seconds: float = 120,
) -> FunctionResult:
    """A table of the oldest `limit` lines with one of the words, and counts by age.

    Asking for the age of lines takes at most `seconds`: each file costs a git process, which is a
    long one in a long history.
    """
    _check(markers, limit)
    words = " or ".join(markers)
    history = History(context)
    hits = history.search(markers)
    if not hits:
        return FunctionResult(text=f"# Left for later\n\nNothing: no line has {words}.")
    context.log(f"{len(hits)} lines with {words}. Asking git for their age.")
    deadline = time.monotonic() + seconds
    found = _dated(history, _by_file(history, hits), now=context.scheduled_for, deadline=deadline)
    if not found:
        text = f"{len(hits):,} lines have {words}; there was no time to ask for their age."
        return FunctionResult(text=f"# Left for later\n\n{text}", summary=text)
    found.sort(key=lambda each: (each.since, each.path, each.number))
    summary = _summary(found, words)
    parts = ["# Left for later", summary, _ages(found), "## The oldest first"]
    parts += [_lines(found[:limit]), *_left_out(hits, found, limit)]
    return FunctionResult(text="\n\n".join(parts), summary=summary)


def _check(markers: Sequence[str], limit: int) -> None:
    if isinstance(markers, str) or not markers or limit < 1:
        raise ValueError("markers is a list of words, and limit is at least 1.")
    for marker in markers:
        if not re.fullmatch(r"\w[\w@-]*", str(marker)):
            raise ValueError(f"“{marker}” is not a word that can be searched for.")


def _by_file(history: History, hits: Iterable[Hit]) -> dict[str, list[Hit]]:
    """Hits by file; the file first that was left alone the longest, for its lines are old for sure."""
    found: dict[str, list[Hit]] = {}
    for hit in hits:
        of_file = found.setdefault(hit.path, [])
        if len(of_file) < MOST_LINES:
            of_file.append(hit)
    changed = history.last_changes(found)
    return {path: found[path] for path in sorted(found, key=lambda path: (changed[path], path))}


def _dated(history: History, hits: dict[str, list[Hit]], *, now: datetime, deadline: float) -> list[Leftover]:
    def origins(path: str) -> dict[int, Origin]:
        if time.monotonic() > deadline:
            return {}
        return history.origins(path, [hit.number for hit in hits[path]])

    with ThreadPoolExecutor(_THREADS) as pool:
        return [
            Leftover(
                path=hit.path,
                number=hit.number,
                text=hit.text,
                author=origin.author,
                since=origin.at,
                age=max(0, (now - origin.at).days),
            )
            for path, found in zip(hits, pool.map(origins, hits), strict=True)
            for hit in hits[path]
            if (origin := found.get(hit.number))
        ]


def _summary(found: Sequence[Leftover], words: str) -> str:
    files = len({each.path for each in found})
    lines = "1 line has" if len(found) == 1 else f"{len(found):,} lines have"
    where = "1 file" if files == 1 else f"{files:,} files"
    return f"{lines} {words}, in {where}; the oldest for {days(found[0].age)}."


def _ages(found: Iterable[Leftover]) -> str:
    counts = Counter(_bucket(each.age) for each in found)
    names = [name for _, name in _BUCKETS] + [_OLDEST]
    return table(["Age", "Lines:"], [[name, f"{counts[name]:,}"] for name in names])


def _bucket(age: int) -> str:
    return next((name for most, name in _BUCKETS if age <= most), _OLDEST)


def _lines(found: Iterable[Leftover]) -> str:
    rows = (
        [
            f"{each.age:,}",
            f"{each.since:%Y-%m-%d}",
            code(f"{each.path}:{each.number}"),
            plain(each.author),
            code(each.text),
        ]
        for each in found
    )
    return table(["Days:", "Since", "Where", "Who", "What"], rows)


def _left_out(hits: Sequence[Hit], found: Sequence[Leftover], limit: int) -> list[str]:
    notes = []
    if len(found) > limit:
        notes.append(f"The other {len(found) - limit:,} are younger.")
    if len(hits) > len(found):
        more = len(hits) - len(found)
        notes.append(f"{more:,} more were not dated: it would take too long.")
    return notes
