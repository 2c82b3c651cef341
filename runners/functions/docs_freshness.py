"""Documents that were not touched since the code they name has changed, the furthest behind first."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from urllib.parse import unquote

from runners.functions import FunctionContext, FunctionResult
from runners.functions.history import History
from runners.functions.markdown import code, days, table

DOCUMENTS = ("*.md", "*.rst", "*.adoc", "docs/*.txt", "doc/*.txt")
IGNORE = ("*CHANGELOG*", "*CHANGES*", "*HISTORY*", "*NEWS*", "*LICENSE*")  # tell of what was
MOST_DOCUMENTS = 2000
MOST_BYTES = 1024 * 1024  # of a document: a longer one was made by a program
SHOWN = 3  # files of code in one row

_FENCE = re.compile(r"^ {0,3}(```+|~~~+).*?^ {0,3}\1[`~]*\s*$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`+([^`\n]+)`+")
_LINK = re.compile(r"\]\(\s*<?([^)>\s]+)|^\s*\[[^\]\n]+\]:\s*<?(\S+?)>?\s*$", re.MULTILINE)
_PLACE = re.compile(r"(?::\d+(?:[-:]\d+)*|#[\w.-]*)$")  # the line or heading in a file


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A document, and the files of code it names that changed after it."""

    path: str
    touched: datetime
    newer: Sequence[tuple[datetime, str]]  # the latest change first

    @property
    def behind(self) -> int:
        """Whole days, from its last change to the latest one of the code."""
        return (self.newer[0][0] - self.touched).days


def report(
    context: FunctionContext,
    *,
    documents: Sequence[str] = DOCUMENTS,
    ignore: Sequence[str] = IGNORE,
    limit: int = 100,
) -> FunctionResult:
    """A table of at most `limit` documents. `documents` and `ignore` are patterns of paths."""
    if isinstance(documents, str) or isinstance(ignore, str) or limit < 1:
        raise ValueError("documents and ignore are lists of patterns, and limit is at least 1.")
    history = History(context)
    files = history.files()
    chosen = [path for path in files if _fits(path, documents) and not _fits(path, ignore)]
    named = _named(history, files, chosen[:MOST_DOCUMENTS], code=set(files) - set(chosen))
    if not named:
        text = f"No document names a file of the code. Looked at {_count(chosen)}."
        return FunctionResult(text=f"# Documents and code\n\n{text}", summary=text)
    context.log(f"{_count(named)} with names of files of the code. Asking git when each changed.")
    behind = _behind(history, named)
    summary = _summary(named, behind)
    parts = ["# Documents and code", summary]
    if behind:
        parts.append(_rows(behind[:limit]))
    if len(behind) > limit:
        parts.append(f"The other {len(behind) - limit:,} are less far behind.")
    if len(chosen) > MOST_DOCUMENTS:
        parts.append(f"{len(chosen) - MOST_DOCUMENTS:,} documents were not read: too many.")
    return FunctionResult(text="\n\n".join(parts), summary=summary)


def names(text: str) -> Iterator[str]:
    """What may be a path in a document: in backticks, or as the target of a link."""
    text = _FENCE.sub("", text)
    for span in _SPAN.finditer(text):
        yield from span[1].split()
    for link in _LINK.finditer(text):
        target = link[1] or link[2]
        if "://" not in target:
            yield unquote(target)


def _fits(path: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in patterns)


def _named(
    history: History, files: Mapping[str, str], documents: Sequence[str], *, code: set[str]
) -> dict[str, set[str]]:
    """For each document that names code: which."""
    by_name: dict[str, list[str]] = {}
    for path in code:
        by_name.setdefault(posixpath.basename(path), []).append(path)
    contents = history.contents([files[path] for path in documents], most_bytes=MOST_BYTES)
    found: dict[str, set[str]] = {}
    for document, content in zip(documents, contents, strict=True):
        written = names(os.fsdecode(content))
        meant = {path for name in written for path in _meant(name, document, code, by_name)}
        if meant:
            found[document] = meant
    return found


def _meant(name: str, document: str, code: set[str], by_name: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """The file of code that is meant: from where the document lies, from the root, or by name."""
    name = _PLACE.sub("", name.strip("\"'(),;")).rstrip(".:")
    beside = posixpath.normpath(posixpath.join(posixpath.dirname(document), name))
    for path in (beside, posixpath.normpath(name.lstrip("/"))):
        if path in code:
            return [path]
    alike = by_name.get(name, ()) if "." in name.strip(".") else ()
    return alike if len(alike) == 1 else ()


def _behind(history: History, named: Mapping[str, set[str]]) -> list[Document]:
    """The documents with newer code, the furthest behind first."""
    changed = history.last_changes(set(named).union(*named.values()))
    found = []
    for path, files in named.items():
        touched = changed[path]
        newer = [(changed[file], file) for file in files if changed[file] > touched]
        if newer:
            newer.sort(reverse=True)
            found.append(Document(path=path, touched=touched, newer=newer))
    return sorted(found, key=lambda each: (-each.behind, each.path))


def _summary(named: Mapping[str, set[str]], behind: Sequence[Document]) -> str:
    if not behind:
        return f"No document is behind the code it names. Looked at {_count(named)}."
    worst = behind[0]
    return (
        f"{len(behind):,} of {_count(named)} that name files of the code were not touched since it "
        f"changed; {worst.path} is {days(worst.behind)} behind."
    )


def _count(documents: Sequence[str] | Mapping[str, set[str]]) -> str:
    return "1 document" if len(documents) == 1 else f"{len(documents):,} documents"


def _rows(behind: Iterable[Document]) -> str:
    heads = ["Document", "Last touched", "Code that changed since", "Days behind:"]
    return table(
        heads,
        [[code(each.path), f"{each.touched:%Y-%m-%d}", _newer(each), f"{each.behind:,}"] for each in behind],
    )


def _newer(document: Document) -> str:
    shown = [f"{code(path)} ({at:%Y-%m-%d})" for at, path in document.newer[:SHOWN]]
    more = len(document.newer) - SHOWN
    return ", ".join(shown) + (f" and {more:,} more" if more > 0 else "")
