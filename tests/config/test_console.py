"""Faults that come again and again are told, and fill no disk."""

from __future__ import annotations

import io
import logging

import pytest

from config.console import MOST, QUIET, TRACEBACK_AGAIN, Console

NINE = 1_800_000_000.0  # seconds since 1970


@pytest.fixture
def console() -> Console:
    handler = Console()
    handler.setStream(io.StringIO())
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    return handler


def say(
    console: Console,
    at: float,
    words: str = "The database is away: locked",
    *args: object,
    level: int = 30,
    why: str = "no such server",
) -> str:
    """What is written of a fault that is told at this time."""
    try:
        raise OSError(why)
    except OSError as error:
        record = logging.LogRecord("rota", level, __file__, 1, words, args, (OSError, error, None))
    record.created = at
    before = len(console.stream.getvalue())
    console.handle(record)
    written: str = console.stream.getvalue()[before:]
    return written


def test_the_same_is_told_once_a_minute_with_how_often_it_came(console: Console) -> None:
    first = say(console, NINE)
    assert first.startswith("WARNING The database is away: locked\n")
    assert "OSError: no such server" in first
    assert [say(console, NINE + second) for second in range(1, 60)] == [""] * 59
    assert say(console, NINE + QUIET) == "WARNING The database is away: locked (59 times more in 60 s)\n"
    assert say(console, NINE + 2 * QUIET) == "WARNING The database is away: locked\n"


def test_a_traceback_comes_again_after_an_hour(console: Console) -> None:
    say(console, NINE)
    assert "no such server" not in say(console, NINE + TRACEBACK_AGAIN - 1)
    assert "no such server" in say(console, NINE + TRACEBACK_AGAIN + QUIET)


def test_what_differs_is_told_and_what_is_no_warning_always(console: Console) -> None:
    assert say(console, NINE, "Session %d is lost", 1)
    assert say(console, NINE, "Session %d is lost", 2)
    assert say(console, NINE, "Session %d is lost", 2, level=logging.ERROR)
    assert say(console, NINE, "Session %d is lost", 2, why="another fault")
    assert say(console, NINE, "begins", level=logging.INFO)
    assert say(console, NINE, "begins", level=logging.INFO)


def test_a_clock_that_was_turned_back_hides_nothing(console: Console) -> None:
    say(console, NINE + 3600)
    assert say(console, NINE)
    assert say(console, NINE + 1) == ""


def test_no_more_is_remembered_than_there_is_room_for(console: Console) -> None:
    for number in range(MOST + 1):
        assert say(console, NINE, "Session %d is lost", number)
    assert say(console, NINE, "Session %d is lost", 0)
    assert say(console, NINE, "Session %d is lost", MOST) == ""
