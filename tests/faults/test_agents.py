"""Agents that end well by their exit code, and by nothing else; and one that does not end when it is done."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.utils import timezone
from pytest_django import Settings

from schedules.firing import trigger
from schedules.models import Session
from tests.runners.claude_sessions import STREAMS
from tests.schedules.factories import make_schedule
from tests.schedules.places import end_sessions, run_session, use_folders

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]

INIT, SAID, *_, RESULT = (STREAMS / "success.jsonl").read_text().splitlines()[1:]


@pytest.fixture(autouse=True)
def _pretending(tmp_path: Path, settings: Settings) -> Iterator[None]:
    use_folders(settings, tmp_path)
    settings.ROTA_REHEARSE = False
    settings.ROTA_RUNNERS = {**settings.ROTA_RUNNERS, "pretending": "tests.faults.pretending.PretendingRunner"}
    yield
    end_sessions(tmp_path)


def result(**changes: Any) -> str:
    return json.dumps(json.loads(RESULT) | changes)


def said(number: int) -> str:
    """An answer of the model."""
    frame = json.loads(SAID)
    return json.dumps({**frame, "message": {**frame["message"], "id": f"msg-{number}"}})


def session_of(folder: Path, lines: Sequence[str], then: str = "exit 0", **fields: Any) -> Session:
    """One whose program prints these lines, not the end of the last one, and goes on with a line of shell."""
    (folder / "lines").write_text("\n".join(lines))
    (folder / "program").write_text(f"cat '{folder / 'lines'}'\n{then}\n")
    fields = {"runner": "pretending", "prompt": str(folder / "program"), "pause_after": 0, **fields}
    schedule = make_schedule(now=timezone.now(), **fields)
    return run_session(trigger(schedule, now=timezone.now())[0].sessions.get())


def test_what_did_not_report_success_as_it_should_did_not_succeed(tmp_path: Path) -> None:
    denied = [{"tool_name": "Bash", "tool_use_id": "t1", "tool_input": {"command": "touch x"}}]
    ways: dict[str, tuple[Sequence[str], dict[str, Any], tuple[str, str]]] = {
        "as it should": ([INIT, SAID, RESULT], {}, ("succeeded", "ok")),
        "without a result": ([INIT, SAID, ""], {}, ("failed", "no_result")),
        "without a word": ([], {}, ("failed", "no_result")),
        "its result cut off": ([INIT, SAID, RESULT[:-100]], {}, ("failed", "no_result")),
        "is an error": ([INIT, SAID, result(is_error=True)], {}, ("failed", "agent_error")),
        "denied": ([INIT, SAID, result(permission_denials=denied)], {}, ("failed", "denied")),
        "empty": ([INIT, result(result="")], {}, ("failed", "no_result")),
        "beyond its turns": ([INIT, *map(said, range(3)), RESULT], {"max_turns": 2}, ("failed", "max_turns")),
        "silent": (
            [INIT, SAID, ""],
            {"then": "sleep 600", "silence": timedelta(seconds=1)},
            ("timed_out", "stalled"),
        ),
    }
    told = {}
    for way, (lines, more, _) in ways.items():
        session = session_of(tmp_path, lines, **more)
        told[way] = session.status, session.reason
        assert session.run.status == ("succeeded" if session.status == "succeeded" else "failed"), way
    assert told == {way: expected for way, (*_, expected) in ways.items()}


@pytest.mark.slow
def test_one_that_hangs_after_its_result_succeeded_and_is_killed(tmp_path: Path) -> None:
    """By the grace that every session has."""
    session = session_of(tmp_path, [INIT, SAID, RESULT, ""], then='trap "" TERM; sleep 600 & setsid sleep 600 & wait')
    assert (session.status, session.reason) == ("succeeded", "ok")
    assert session.duration is not None
    assert timedelta(seconds=25) < session.duration < timedelta(seconds=45)
    marked = [
        process
        for process in psutil.process_iter(["environ"])
        if str(tmp_path) in (process.info["environ"] or {}).get("ROTA_SESSION", "")
    ]
    assert not marked
