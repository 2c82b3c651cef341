"""Events on their way to the database."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from runners import Event, Redactor
from runners.base import EventKind
from schedules.models import Session
from schedules.transcript import FIRST_OF_PROCESS, MOST_EVENTS, MOST_TEXT, Transcript, storable


@pytest.fixture
def transcript() -> Transcript:
    return Transcript(Session(pk=1), Redactor(["hunter2-secret"]), next_seq=1)


def text(said: str = "hello", **fields: object) -> Event:
    return Event(kind="text", at_ms=1_800_000_000_000, text=said, **fields)  # type: ignore[arg-type]


def test_events_are_numbered_and_wait_until_they_are_written(transcript: Transcript) -> None:
    transcript.add([text("note")])
    transcript.begin_process()
    transcript.add([text("one"), text("two")])

    rows = transcript.pending

    assert [(row.seq, row.text) for row in rows] == [
        (1, "note"),
        (FIRST_OF_PROCESS, "one"),
        (FIRST_OF_PROCESS + 1, "two"),
    ]
    assert rows[0].at == datetime.fromtimestamp(1_800_000_000, tz=UTC)
    transcript.written(2)
    assert [row.text for row in transcript.pending] == ["two"]


def test_read_again_from_the_start_nothing_comes_twice() -> None:
    adopted = Transcript(Session(pk=1), Redactor([]), next_seq=FIRST_OF_PROCESS, written=FIRST_OF_PROCESS + 1)
    adopted.add([text("one"), text("two"), text("three")])
    assert [(row.seq, row.text) for row in adopted.pending] == [(FIRST_OF_PROCESS + 2, "three")]


def test_secrets_do_not_reach_the_database(transcript: Transcript) -> None:
    transcript.add([text("key hunter2-secret", data={"input": {"token": ["hunter2-secret"]}})])
    (row,) = transcript.pending
    assert "hunter2" not in row.text
    assert "hunter2" not in str(row.data)


def test_long_texts_and_data_are_cut(transcript: Transcript) -> None:
    transcript.add([text("x" * 100_000, data={"input": "y" * 100_000})])
    (row,) = transcript.pending
    assert len(row.text) == MOST_TEXT
    assert row.data == {"cut": True}


def test_a_flood_is_kept_in_bounds_and_the_result_all_the_same(transcript: Transcript) -> None:
    transcript.begin_process()
    for _ in range(MOST_EVENTS + 500):
        transcript.add([text()])
    transcript.add([Event(kind="result", at_ms=0, text="done")])
    rows = transcript.pending
    assert len(rows) == MOST_EVENTS + 2
    assert [row.kind for row in rows[-2:]] == ["note", "result"]


@pytest.mark.parametrize(("text", "stored"), [("a\0b", "a␀b"), ("\ud800", "?"), ("x" * 9, "xxx …"), ("ünï", "ünï")])
def test_what_a_database_can_not_take_is_shown(text: str, stored: str) -> None:
    assert storable(text, 5) == stored


def test_data_is_such_that_both_databases_take_it(transcript: Transcript) -> None:
    data = {"nul\0": "a\0b", "half": "\ud800", "no number": float("nan"), "list": (1, True, None, 0.5, Path("x"))}
    transcript.add([text(data=data)])
    expected = {"nul␀": "a␀b", "half": "?", "no number": None, "list": [1, True, None, 0.5, "x"]}
    assert transcript.pending[0].data == expected


def test_data_without_a_bottom_is_cut(transcript: Transcript) -> None:
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    transcript.add([text(data={"deep": deep})])
    assert "…" in str(transcript.pending[0].data)


def test_a_secret_that_is_a_number_is_not_kept_and_does_no_harm() -> None:
    transcript = Transcript(Session(pk=1), Redactor(["20261120"]), next_seq=1)
    (told,) = transcript.add([text(data={"id": 20261120})])
    assert transcript.pending[0].data == {"cut": True}
    assert told.data == {"id": 20261120}


def test_what_it_returns_has_no_secrets(transcript: Transcript) -> None:
    (told,) = transcript.add([text("key hunter2-secret", data={"denied": ["Bash: echo hunter2-secret"]})])
    assert "hunter2" not in f"{told.text} {told.data}"


def lines(*said: tuple[EventKind, str]) -> list[Event]:
    return [Event(kind=kind, at_ms=1000 + number, text=text) for number, (kind, text) in enumerate(said)]


def test_a_secret_that_goes_on_in_the_next_line_is_hidden_in_both() -> None:
    transcript = Transcript(Session(pk=1), Redactor(["hunter2-secret"]), next_seq=1)
    assert transcript.add(lines(("output", "it is hunter2"))) == []
    assert transcript.pending == []
    known = transcript.add(lines(("stderr", "and hunter"), ("output", "-secret"), ("text", "he said")))
    assert [event.text for event in known] == ["it is [redacted]"]
    known = transcript.add(lines(("stderr", "2-secret too")))
    assert [event.text for event in known] == ["and [redacted]", "[redacted]", "he said", "[redacted] too"]
    assert [(row.seq, row.text) for row in transcript.pending] == [
        *((1, "it is [redacted]"), (2, "and [redacted]"), (3, "[redacted]"), (4, "he said"), (5, "[redacted] too"))
    ]


def test_what_waits_comes_in_its_order_when_nothing_follows() -> None:
    transcript = Transcript(Session(pk=1), Redactor(["hunter2-secret"]), next_seq=1)
    assert transcript.add(lines(("output", "the hunt"), ("stderr", "a hunt"), ("text", "fine"))) == []
    assert [event.text for event in transcript.flush()] == ["the hunt", "a hunt", "fine"]
    assert transcript.flush() == []


def test_a_reader_does_not_wait_for_long() -> None:
    transcript = Transcript(Session(pk=1), Redactor(["hunter2-secret"]), next_seq=1)
    on: list[tuple[EventKind, str]] = [("text", "on")] * 19
    assert transcript.add(lines(("stderr", "it is hunter2"), *on)) == []
    known = transcript.add(lines(("text", "and on")))
    assert [event.text for event in known] == ["it is [redacted]", *["on"] * 19, "and on"]
    assert [event.text for event in transcript.add(lines(("stderr", "-secret!")))] == ["[redacted]!"]


def test_what_is_passed_over_keeps_its_numbers_and_what_waited_comes_first() -> None:
    read, passed = (Transcript(Session(pk=1), Redactor(["hunter2-secret"]), next_seq=1) for _ in range(2))
    for transcript in (read, passed):
        transcript.begin_process()
        assert not transcript.is_full
        transcript.add([text("on")] * MOST_EVENTS)
        assert transcript.is_full
        transcript.add(lines(("output", "the hunt")))
    flood: list[tuple[EventKind, str]] = [("output", "a line")] * 1000
    read.add(lines(*flood))
    assert [event.text for event in passed.pass_over(1000)] == ["the hunt"]
    for transcript in (read, passed):
        transcript.add([Event(kind="result", at_ms=1, text="done")])
    assert [row.seq for row in read.pending] == [row.seq for row in passed.pending]
    assert passed.pending[-1].text == "done"
