"""Progress as it is drawn on a terminal, and as lines elsewhere."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management.base import OutputWrapper
from rich.text import Text

from schedules.management.following import Picture
from schedules.management.progress import progress
from schedules.management.streams import Stream
from schedules.models import Repository, Run, Schedule, Session
from schedules.waiting import Waiting

NOW = datetime(2027, 3, 1, 8, 0, tzinfo=UTC)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _screen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TERM", "xterm"), ("COLUMNS", "60"), ("LINES", "10")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)


def picture(*activities: str, running: bool = True) -> Picture:
    """A run whose sessions do this; the last one is over when not `running`."""
    run = Run(pk=7, schedule=Schedule(), repository=Repository(slug="shop"), status="running", queued_at=NOW)
    sessions = [
        Session(
            pk=number,
            run=run,
            schedule=Schedule(),
            status="running",
            item_key=f"issue/{number}",
            activity=activity,
            queued_at=NOW,
            claimed_at=NOW,
        )
        for number, activity in enumerate(activities, 1)
    ]
    if sessions and not running:
        sessions[0].status = "succeeded"
        sessions[0].finished_at = NOW + timedelta(seconds=5)
    return Picture(runs=[run], sessions=sessions)


def last_frame(out: io.StringIO) -> list[str]:
    frame = out.getvalue().split("\x1b[2K")[-1]
    return [Text.from_ansi(line).plain.rstrip() for line in frame.split("\n")]


def drawn(*pictures: Picture, note: str = "", colour: bool | None = None) -> Terminal:
    out = Terminal()
    with progress(Stream(OutputWrapper(out)), title="briefing", colour=colour) as display:
        for shown in pictures:
            display.show(shown, note=note, now=NOW + timedelta(seconds=65))
    return out


def test_a_terminal_shows_a_row_for_each_session_cut_at_its_edge() -> None:
    frame = last_frame(drawn(picture("Read", "Bash(" + "long " * 30)))

    assert frame[0] == "briefing"
    assert frame[1] == "run 7 shop issue/1  running  1:05 min    Read"
    assert frame[2].startswith("run 7 shop issue/2  running  1:05 min    Bash(long ")
    assert len(frame[2]) == 60
    assert frame[2].endswith("…")


def test_where_sessions_are_more_than_lines_the_open_ones_are_shown() -> None:
    frame = last_frame(drawn(picture(*["Read"] * 20, running=False)))

    assert [line.split()[3] for line in frame[1:7]] == [f"issue/{number}" for number in range(2, 8)]
    assert frame[7] == "… and 14 more"


def test_what_is_in_the_way_is_shown_below() -> None:
    assert "No worker" in last_frame(drawn(picture("Read"), note="No worker"))


def test_a_run_that_has_no_session_yet_has_a_row_of_its_own() -> None:
    assert last_frame(drawn(picture()))[1] == "run 7 shop  running  1:05 min"


def test_markup_and_control_characters_of_an_agent_are_text() -> None:
    out = drawn(picture("[b]Read[/b]\x1b]0;x\x07"))

    assert last_frame(out)[1].endswith("[b]Read[/b]]0;x")
    assert "\x1b]" not in out.getvalue()


@pytest.mark.parametrize(("colour", "coloured"), [(None, True), (True, True), (False, False)])
def test_colours_are_a_matter_of_choice(colour: bool | None, coloured: bool) -> None:
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-9]m", drawn(picture("Read"), colour=colour).getvalue())) is coloured


def test_a_terminal_that_can_not_move_its_cursor_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")

    assert drawn(picture("Read")).getvalue() == "run 7 shop issue/1: running, 1:05 min: Read\n"


def test_without_a_terminal_only_changes_are_told() -> None:
    out = io.StringIO()
    with progress(Stream(OutputWrapper(out)), title="briefing", colour=None) as display:
        for shown, note in (
            (picture("Read"), ""),
            (picture("Read"), ""),
            (picture("Read"), "No worker (giving up in 15 s)"),
            (picture("Read"), "No worker (giving up in 14 s)"),
            (picture("x" * 200), ""),
        ):
            display.show(shown, note=note, now=NOW)

    assert out.getvalue().splitlines() == [
        "run 7 shop issue/1: running, 0 s: Read",
        "No worker (giving up in 15 s)",
        f"run 7 shop issue/1: running, 0 s: {'x' * 200}",
    ]


def test_a_retry_is_told_by_its_attempt() -> None:
    seen = picture("Read")
    seen.sessions[0].attempt = 2

    assert "run 7 shop issue/1 attempt 2" in last_frame(drawn(seen))[1]


def test_a_session_that_is_queued_tells_what_it_waits_for() -> None:
    seen = picture("")
    seen.sessions[0].status, seen.sessions[0].claimed_at = "queued", None
    full = Waiting(why="pool deploys: 2 of 2 places taken", place=1, of=4)
    at_once = Waiting(why="it was handed to the workers", is_at_once=True)
    out = io.StringIO()

    with progress(Stream(OutputWrapper(out)), title="briefing", colour=None) as display:
        for waits in (full, full, at_once):
            display.show(replace(seen, waits={1: waits}), note="", now=NOW)

    assert out.getvalue().splitlines() == [
        "run 7 shop issue/1: queued, 0 s: Waits: pool deploys: 2 of 2 places taken. It is 1 of 4 that wait.",
        "run 7 shop issue/1: queued, 0 s",
    ]
