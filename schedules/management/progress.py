"""Progress on standard error: a live table on a terminal, a line for each change elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import IO, cast

from rich.console import Console
from rich.live import Live
from rich.text import Text

from schedules.management.following import Display, Picture
from schedules.management.report import effort, elapsed
from schedules.management.streams import Stream, one_line
from schedules.models import Run, Session

_STYLES = {
    "queued": "dim",
    "running": "cyan",
    "succeeded": "green",
    "partial": "yellow",
    "cancelled": "yellow",
    "skipped": "yellow",
}
_LINES_BESIDE = 4  # of the screen, that are not for sessions


@contextmanager
def progress(stream: Stream, *, title: str, colour: bool | None) -> Iterator[Display]:
    """A display of what is followed. `colour` None: as the terminal likes it."""
    console = console_on(stream, colour=colour)
    if not stream.isatty() or console.is_dumb_terminal:
        yield Lines(console)
        return
    with Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live:
        yield Screen(live, title)


def console_on(stream: Stream, *, colour: bool | None) -> Console:
    """A console that believes the stream, and not the environment, about being a terminal."""
    return Console(
        file=cast(IO[str], stream),
        force_terminal=True if colour else stream.isatty(),
        no_color=True if colour is False else None,
        highlight=False,
    )


class Screen:
    """The runs' sessions as rows of a table that changes in its place."""

    def __init__(self, live: Live, title: str) -> None:
        self._live = live
        self._title = title

    def show(self, picture: Picture, *, note: str, now: datetime) -> None:
        rows = _rows(picture, now)
        room = max(1, self._live.console.height - _LINES_BESIDE)
        shown = rows if len(rows) <= room else sorted(rows, key=lambda row: not row.is_open)[:room]
        lines = [Text(self._title, style="bold"), *_aligned(shown)]
        if len(rows) > len(shown):
            lines.append(Text(f"… and {len(rows) - len(shown)} more", style="dim"))
        if note:
            lines.append(Text(note, style="yellow"))
        screen = Text("\n", no_wrap=True, overflow="ellipsis").join(lines)
        self._live.update(screen, refresh=True)


def _aligned(rows: Sequence[_Row]) -> list[Text]:
    """Columns of their own width; what the session does right now gets what is left of the screen."""
    place, status, elapsed, effort = (
        max((len(getattr(row, name)) for row in rows), default=0) for name in ("place", "status", "elapsed", "effort")
    )
    return [
        Text.assemble(
            f"{row.place:<{place}}  ",
            (f"{row.status:<{status}}  ", _STYLES.get(row.status, "red")),
            f"{row.elapsed:>{elapsed}}  {row.effort:>{effort}}  ",
            (row.activity, "dim"),
        )
        for row in rows
    ]


class Lines:
    """A line whenever something changed: for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said: dict[str, tuple[str, str]] = {}
        self._note = ""

    def show(self, picture: Picture, *, note: str, now: datetime) -> None:
        for row in _rows(picture, now):
            state = (row.status, row.activity)
            if self._said.get(row.key) != state:
                self._said[row.key] = state
                facts = ", ".join(filter(None, (row.status, row.elapsed, row.effort)))
                self._say(f"{row.place}: {facts}{': ' if row.activity else ''}{row.activity}")
        cause = note.partition(" (")[0]
        if cause != self._note:
            self._note = cause
            if note:
                self._say(note)

    def _say(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)


class _Row:
    """A session as people see it; or a run that has none yet."""

    def __init__(self, row: Run | Session, run: Run, now: datetime, *, waits: str = "") -> None:
        self.key = f"{type(row).__name__} {row.pk}"
        self.is_open = row.is_open
        self.status = row.status
        item = f" {row.item_key}" if isinstance(row, Session) else ""
        if isinstance(row, Session) and row.attempt > 1:
            item += f" attempt {row.attempt}"
        self.place = one_line(f"run {run.pk}{f' {run.repository}' if run.repository else ''}{item}")
        self.activity = one_line(row.activity if isinstance(row, Session) else "") or one_line(row.message)
        if row.status == Session.Status.QUEUED:
            self.activity = one_line(waits)
        self.effort = effort(row)
        self.elapsed = elapsed(_age(row, now))


def _rows(picture: Picture, now: datetime) -> list[_Row]:
    runs = {run.pk: run for run in picture.runs}
    without = runs.keys() - {session.run_id for session in picture.sessions}
    waits = {pk: one.told for pk, one in picture.waits.items() if not one.is_at_once}
    rows = [_Row(session, runs[session.run_id], now, waits=waits.get(session.pk, "")) for session in picture.sessions]
    return [*rows, *(_Row(runs[pk], runs[pk], now) for pk in sorted(without))]


def _age(row: Run | Session, now: datetime) -> timedelta:
    """How long it works, or waits as long as it does not. A session's preparation is work."""
    began = row.claimed_at if isinstance(row, Session) else row.started_at
    return (row.finished_at or now) - (began or row.queued_at)
