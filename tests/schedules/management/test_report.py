"""What became of runs, in codes, objects and lines."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from schedules.management.exits import Exit
from schedules.management.rehearsing import report_lines
from schedules.management.report import as_object, branch_line, effort, elapsed, exit_code, run_line
from schedules.models import Repository, Run, Schedule, Session
from schedules.readiness import report_of
from schedules.waiting import Waiting
from tests.schedules.factories import make_event, make_run, make_schedule, make_session

NOW = datetime(2027, 3, 1, 8, 0, tzinfo=UTC)


def a_run(status: str, reason: str, *, pk: int = 7, **fields: Any) -> Run:
    repository = Repository(slug="web-shop")
    return Run(pk=pk, schedule=Schedule(), repository=repository, status=status, reason=reason, queued_at=NOW, **fields)


def a_session(run: Run, status: str, **fields: Any) -> Session:
    return Session(pk=9, run=run, schedule=Schedule(), status=status, queued_at=NOW, **fields)


@pytest.mark.parametrize(
    ("status", "reason", "sessions", "code"),
    [
        ("succeeded", "ok", ["succeeded"], Exit.SUCCEEDED),
        ("skipped", "no_items", [], Exit.SUCCEEDED),
        ("failed", "max_turns", ["failed"], Exit.FAILED),
        ("failed", "worker_died", ["lost"], Exit.FAILED),
        ("failed", "fetch_failed", ["failed"], Exit.FAILED),
        ("partial", "exit_code", ["succeeded", "failed"], Exit.FAILED),
        ("cancelled", "cancelled", ["cancelled"], Exit.FAILED),
        ("failed", "timed_out", ["timed_out"], Exit.TIMED_OUT),
        ("partial", "timed_out", ["succeeded", "timed_out"], Exit.TIMED_OUT),
        ("failed", "sessions_failed", ["timed_out", "failed"], Exit.FAILED),
        ("skipped", "overlap", [], Exit.REFUSED),
        ("missed", "outside_window", [], Exit.REFUSED),
        ("failed", "internal", [], Exit.FAILED),
    ],
)
def test_the_exit_code_of_a_run(status: str, reason: str, sessions: list[str], code: Exit) -> None:
    run = a_run(status, reason)

    assert exit_code([run], [a_session(run, session) for session in sessions]) == code


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        (["succeeded", "succeeded"], Exit.SUCCEEDED),
        (["succeeded", "skipped"], Exit.REFUSED),
        (["succeeded", "failed", "skipped"], Exit.FAILED),
    ],
)
def test_of_several_runs_the_worst_decides(statuses: list[str], code: Exit) -> None:
    assert exit_code([a_run(status, "overlap", pk=pk) for pk, status in enumerate(statuses)], []) == code


def test_runs_that_were_deleted_meanwhile_are_no_success() -> None:
    assert exit_code([], []) == Exit.FAILED


def test_the_object_is_json_with_numbers_and_instants() -> None:
    times: dict[str, Any] = {"started_at": NOW, "finished_at": NOW + timedelta(seconds=34)}
    run = a_run("succeeded", "ok", cost_usd=Decimal("0.021300"), turns=5, is_rehearsal=True, **times)
    session = a_session(
        run, "succeeded", result="# Done", model="haiku", item_key="codebase", exit_code=0, structured={"n": 1}
    )

    found = json.loads(json.dumps(as_object("look", [run], [session], code=Exit.SUCCEEDED)))

    assert (found["exit_code"], found["schedule"], found["rehearsed"]) == (0, "look", True)
    (told,) = found["runs"]
    assert (told["id"], told["repository"], told["status"], told["reason"]) == (7, "web-shop", "succeeded", "ok")
    assert (told["cost_usd"], told["turns"], told["duration"]) == (0.0213, 5, 34.0)
    assert told["started_at"] == "2027-03-01T08:00:00+00:00"
    (result,) = told["sessions"]
    assert (result["item"], result["result"], result["exit_code"]) == ("codebase", "# Done", 0)
    assert result["structured"] == {"n": 1}
    assert result["started_at"] is None


def test_the_line_of_a_run_says_what_it_took() -> None:
    times: dict[str, Any] = {"started_at": NOW, "finished_at": NOW + timedelta(seconds=125)}
    run = a_run("failed", "max_turns", message="Turn limit\x1b reached.", cost_usd=Decimal("0.04"), turns=1, **times)

    assert run_line(run) == "Run 7 in web-shop failed (max_turns): Turn limit reached. 1 turn, 0.0400 USD, 2:05 min"


def test_the_line_of_a_run_without_facts_is_short() -> None:
    run = a_run("succeeded", "ok")
    run.repository = None

    assert run_line(run) == "Run 7 succeeded."


def test_a_branch_is_told_with_its_size() -> None:
    run = a_run("succeeded", "ok")
    session = a_session(run, "succeeded", branch="rota/look/7-1", files_changed=2, insertions=10, deletions=3)

    assert branch_line(session) == "Session 9 left the branch rota/look/7-1 (2 files, +10 −3)."
    assert branch_line(a_session(run, "succeeded")) == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3, "0 s"),
        (0.4, "0 s"),
        (34, "34 s"),
        (60, "1:00 min"),
        (125, "2:05 min"),
        (3723, "1:02:03 h"),
        (90000, "25:00:00 h"),
    ],
)
def test_a_time_span_in_words(seconds: float, words: str) -> None:
    assert elapsed(timedelta(seconds=seconds)) == words


@pytest.mark.parametrize(
    ("cost", "source", "words", "usd"),
    [
        ("0.04", "reported", "0.0400 USD", 0.04),
        ("0.04", "reckoned", "0.0400 USD reckoned", 0.04),
        ("0.04", "unknown", "more than 0.0400 USD", 0.04),
        ("0", "unknown", "cost not known", None),
    ],
)
def test_the_cost_of_a_session_and_its_run_says_who_says_so(
    cost: str, source: str, words: str, usd: float | None
) -> None:
    run = a_run("succeeded", "ok", cost_usd=Decimal(cost), cost_source=source)
    session = a_session(run, "succeeded", cost_usd=Decimal(cost), cost_source=source)

    (told,) = as_object("look", [run], [session], code=Exit.SUCCEEDED)["runs"]
    for row, said in ((run, told), (session, told["sessions"][0])):
        assert effort(row) == words
        assert (said["cost_usd"], said["cost_source"]) == (usd, source)


@pytest.mark.django_db
def test_the_report_on_a_rehearsal_is_told_to_programs_and_to_people() -> None:
    recorded = make_run(
        make_schedule("look", now=NOW, runner="claude"), now=NOW, status=Run.Status.RUNNING, is_rehearsal=True
    )
    session = make_session(recorded, now=NOW, status="failed", reason="denied", message="Denied.")
    make_event(session, now=NOW, kind="error", data={"denied": "Bash: rm -r x\x1b"})

    report = report_of(session)
    assert report
    (told,) = as_object("look", [recorded], [session], code=Exit.FAILED)["runs"][0]["sessions"]
    lines = list(report_lines(session, report))

    found = json.loads(json.dumps(told["rehearsal"]))
    assert (found["ready"], found["asked"][0]["outcome"]) == (False, "denied")
    assert found["gaps"][0]["mend"].startswith("Add Bash(rm *)")
    assert lines[-1] == "Not ready: 1 gap to mend."
    assert any(line.startswith("       → Add Bash(rm *)") for line in lines)
    assert "\x1b" not in "".join(lines)


def test_a_session_that_is_still_queued_tells_programs_what_it_waits_for() -> None:
    run = a_run("queued", "")
    session = a_session(run, "queued")
    until = datetime(2027, 1, 4, 10, tzinfo=UTC)
    waits = {session.pk: Waiting(why="anthropic lets nobody in", place=2, of=3, until=until)}

    (told,) = as_object("look", [run], [session], code=Exit.TIMED_OUT, waits=waits)["runs"]

    assert told["sessions"][0]["waiting"] == {
        "why": "anthropic lets nobody in",
        "until": "2027-01-04T10:00:00+00:00",
        "place": 2,
        "of": 3,
    }
    (told,) = as_object("look", [run], [session], code=Exit.TIMED_OUT)["runs"]
    assert "waiting" not in told["sessions"][0]
