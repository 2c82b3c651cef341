"""A schedule's sandbox, from its fields to the outcome on record: with real git, shims, programs and bubblewrap."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings

from runners import sandbox_obstacle
from schedules.firing import trigger
from schedules.models import Session
from tests.runners.repositories import Source
from tests.schedules.factories import make_repository, make_schedule
from tests.schedules.places import end_sessions, run_session, use_folders

pytestmark = pytest.mark.django_db(transaction=True)

_obstacle = sandbox_obstacle()
needs_sandbox = pytest.mark.skipif(bool(_obstacle), reason=_obstacle)

Run = Callable[..., Session]


@pytest.fixture(autouse=True)
def _var(tmp_path: Path, settings: Settings) -> Iterator[None]:
    use_folders(settings, tmp_path / "var")
    settings.ROTA_REHEARSE = True
    yield
    end_sessions(tmp_path)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a schedule in a sandbox, in a repository, to its end."""
    source = Source(tmp_path / "shop")
    source.commit({"README.md": "# Shop\n", "shop.py": "# FIXME: prices\n"}, "Begin")
    repository = make_repository("shop", url=source.url)

    def see_through(**fields: Any) -> Session:
        now = timezone.now()
        schedule = make_schedule(now=now, repositories=[repository], **{"sandbox": "bubblewrap", **fields})
        return run_session(trigger(schedule, by="ada", now=now)[0].sessions.get())

    return see_through


@needs_sandbox
def test_a_script_works_on_its_checkout_and_sees_nothing_else_of_rota(run: Run, tmp_path: Path) -> None:
    look = f"find {tmp_path}/var -mindepth 1 -maxdepth 2 -printf '%P '; git log --format=%s; echo more >> README.md"
    session = run(argv=["sh", "-c", f'({look}) > "$ROTA_RESULT_FILE"'], network="none")
    assert (session.status, session.message) == ("succeeded", "")
    assert set(session.result.split()) == {
        *("repositories", "repositories/shop.git", "sessions", f"sessions/{session.pk}"),
        *("workspaces", f"workspaces/{session.pk}", "Begin"),
    }
    assert "+more" in session.patch
    assert "In a sandbox. Its network: none." in session.events.values_list("text", flat=True)


@needs_sandbox
def test_a_function_reads_the_checkout_and_its_history(run: Run) -> None:
    session = run(runner="function", function="todo-report")
    assert (session.status, session.message) == ("succeeded", "")
    assert "prices" in session.result


@needs_sandbox
def test_an_agent_is_rehearsed_without_a_network(run: Run) -> None:
    session = run(runner="claude", network="none", allowed_tools=["Bash(git log:*)", "Write"])
    assert (session.status, session.message) == ("succeeded", "")
    assert "Begin" in session.result
    assert "+# A rehearsal wrote this file" in session.patch


@needs_sandbox
def test_a_host_that_is_not_allowed_is_told_in_the_transcript(run: Run) -> None:
    argv = ["sh", "-c", "curl -sS http://forge.example.com/; git ls-remote https://forge.example.com/x; true"]
    session = run(argv=argv, network="allow_list", allowed_hosts=["api.example.com"])
    refused = "is not among the allowed hosts of this session's schedule: refused."
    told = [text for text in session.events.values_list("text", flat=True) if text.endswith(refused)]
    assert told == [f"Sandbox: forge.example.com:{port} {refused}" for port in (80, 443)]


def test_where_no_sandbox_can_be_made_the_session_fails_and_says_what_to_do(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    for program in ("git", "sh", "rm", "timeout"):
        (tmp_path / "bin" / program).symlink_to(f"/usr/bin/{program}")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    session = run(argv=["touch", str(tmp_path / "ran")])
    assert (session.status, session.reason) == ("failed", "sandbox_unavailable")
    assert "Install the package bubblewrap" in session.message
    assert not (tmp_path / "ran").exists()
    assert not list((tmp_path / "var" / "workspaces").iterdir())


def test_a_run_that_was_recorded_before_there_were_sandboxes_has_none() -> None:
    now = timezone.now()
    session = trigger(make_schedule(now=now, argv=["true"]), by="ada", now=now)[0].sessions.get()
    for name in ("sandbox", "network", "allowed_hosts"):
        del session.run.snapshot[name]
    session.run.save(update_fields=["snapshot"])
    assert run_session(session).status == "succeeded"
