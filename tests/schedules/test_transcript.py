"""Events on their way to the database."""

from datetime import UTC, datetime

import pytest

from runners import Event, Redactor
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
