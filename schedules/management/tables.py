"""Tables among the results of a command: aligned for people, and each row a whole line for programs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from schedules.management.progress import console_on
from schedules.management.streams import Stream, one_line

_WIDE = 1000  # characters: where nobody looks, no row is broken


def listing(headings: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Collection[str] = ()) -> Table:
    """A row for each. `numbers`: the headings of columns that are set flush right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, justify="right" if heading in numbers else "left", overflow="fold")
    for cells in rows:
        table.add_row(*(Text(one_line(cell)) for cell in cells))
    return table


def show(table: Table, *, on: Stream, options: Mapping[str, Any]) -> None:
    """`options`: the command's, of which `no_color` counts."""
    console = console_on(on, colour=False if options["no_color"] else None)
    if not on.isatty():
        console.width = _WIDE
    console.print(table)
