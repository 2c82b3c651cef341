"""What was left to do: every TODO and FIXME with its age, the oldest first."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from runners.functions import FunctionContext, FunctionResult
from runners.functions.history import History, Hit
from runners.functions.markdown import code, days, plain, table

MOST_FILES = 1000  # whose lines are dated: each costs a git process
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


def report(context: FunctionContext, *, markers: Sequence[str] = ("TODO", "FIXME"), limit: int = 100) -> FunctionResult:
    """A table of the oldest `limit` lines with one of the words, and counts by age."""
    _check(markers, limit)
    words = " or ".join(markers)
    history = History(context)
    hits = history.search(markers)
    if not hits:
        return FunctionResult(text=f"# Left for later\n\nNothing: no line has {words}.")
    context.log(f"{len(hits)} lines with {words}. Asking git for their age.")
    found = _dated(history, _chosen(hits), now=context.scheduled_for)
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


def _chosen(hits: Iterable[Hit]) -> dict[str, list[Hit]]:
    """The hits by file, as many as may be dated."""
    chosen: dict[str, list[Hit]] = {}
    for hit in hits:
        if hit.path not in chosen and len(chosen) == MOST_FILES:
            continue
        of_file = chosen.setdefault(hit.path, [])
        if len(of_file) < MOST_LINES:
            of_file.append(hit)
    return chosen


def _dated(history: History, chosen: dict[str, list[Hit]], *, now: datetime) -> list[Leftover]:
    with ThreadPoolExecutor(_THREADS) as pool:
        origins = pool.map(lambda path: history.origins(path, [hit.number for hit in chosen[path]]), chosen)
        return [
            Leftover(
                path=hit.path,
                number=hit.number,
                text=hit.text,
                author=of_file[hit.number].author,
                since=of_file[hit.number].at,
                age=max(0, (now - of_file[hit.number].at).days),
            )
            for path, of_file in zip(chosen, origins, strict=True)
            for hit in chosen[path]
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
        notes.append(f"{len(hits) - len(found):,} more lines were not dated: there are too many.")
    return notes
