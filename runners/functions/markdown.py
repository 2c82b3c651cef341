"""Markdown out of text that others wrote: nothing in it becomes a mark, a cell or a line of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_MARKS = re.compile(r"([\\`*_\[\]<>|#~&])")


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table. A head that ends in `:` has its column set to the right. Cells are Markdown."""
    rules = ("---:" if head.endswith(":") else "---" for head in heads)
    lines = [[head.removesuffix(":") for head in heads], rules, *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def plain(text: str, *, length: int = 80) -> str:
    """Words, shown as they are."""
    return _MARKS.sub(r"\\\1", _one_line(text, length))


def code(text: str, *, length: int = 160) -> str:
    """A span of code, also where the text has backticks or bars."""
    text = _one_line(text, length).replace("|", r"\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}" if text else ""


def days(count: int) -> str:
    """1,234 days, 1 day."""
    return "1 day" if count == 1 else f"{count:,} days"


def _one_line(text: str, length: int) -> str:
    text = text.encode("utf-8", "replace").decode()  # bytes of a path that are no text
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"
