"""An agent whose worker or machine goes away is gone on with: by a session of its own, with what was kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings

from runners import kill
from runners.scripted_model import Request, ScriptedModel
from schedules.execution import Wish
from schedules.firing import trigger
from schedules.models import Session
from schedules.upkeep import declare_lost
from tests.runners.claude_sessions import say
from tests.schedules.factories import make_schedule
from tests.schedules.places import make_shop, run_session, use_folders

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(180)]

HALF = "echo half > work.txt; echo half is done; sleep 25"
WORK = [{"type": "tool_use", "name": "Bash", "input": {"command": HALF}}]
DONE = say("All is done.")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, settings: Settings) -> Iterator[None]:
    settings.ROTA_REHEARSE = False
    use_folders(settings, tmp_path / "one")
    yield
    for folder in tmp_path.glob("*/sessions/[0-9]*"):
        kill(folder)


def begin(tmp_path: Path, **fields: Any) -> Session:
    shop = make_shop(tmp_path)
    given = {"model": "haiku", "prompt": "Do both halves.", "allowed_tools": ["Bash"], "retry_attempts": 1, **fields}
    schedule = make_schedule(now=timezone.now(), runner="claude", repositories=[shop], **given)
    return trigger(schedule, by="ada", now=timezone.now())[0].sessions.get()


def run(session: Session, settings: Settings, answers: list[object], wish: Callable[[], Wish]) -> list[Request]:
    with ScriptedModel(answers) as model:
        settings.ROTA_CREDENTIALS = {"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": "made-up"}
        run_session(session, wish=wish)
    return list(model.requests)


def half_done(tmp_path: Path) -> bool:
    return any((tmp_path / "one" / "workspaces").glob("[0-9]*/**/work.txt"))


def interrupt(session: Session, settings: Settings, tmp_path: Path) -> None:
    """In the middle of its work, as when Rota is stopped."""
    run(session, settings, [WORK, DONE], lambda: "shutdown" if half_done(tmp_path) else "")


def notes(session: Session) -> str:
    return "\n".join(session.events.filter(kind="note").values_list("text", flat=True))


def test_it_goes_on_with_its_conversation_and_its_work(tmp_path: Path, settings: Settings) -> None:
    first = begin(tmp_path, continue_interrupted=True)
    interrupt(first, settings, tmp_path)
    assert (first.status, first.reason) == ("cancelled", "shutdown")
    assert first.branch
    first.run.refresh_from_db()
    assert first.run.is_open

    second = Session.objects.get(retry_of=first)
    asked = run(second, settings, [DONE], lambda: "")

    assert (second.status, second.attempt, second.resumed_from) == ("succeeded", 2, first)
    assert second.base_commit == first.head_commit
    assert second.branch == "" or second.branch == f"{first.branch}.2"
    assert "It goes on from the branch" in notes(second)
    assert "was interrupted" in second.prompt
    assert "echo half > work.txt" in str(asked[-1].body), "the model is told what it did before"
    second.run.refresh_from_db()
    assert second.run.status == "succeeded"


def test_on_another_machine_it_has_its_conversation_and_says_what_it_lacks(tmp_path: Path, settings: Settings) -> None:
    first = begin(tmp_path, continue_interrupted=True)
    interrupt(first, settings, tmp_path)
    use_folders(settings, tmp_path / "two")

    second = Session.objects.get(retry_of=first)
    run(second, settings, [DONE], lambda: "")
    assert (second.status, second.resumed_from) == ("succeeded", first)
    assert "is not kept on this machine" in second.message


def test_without_the_policy_an_interruption_is_the_end(tmp_path: Path, settings: Settings) -> None:
    first = begin(tmp_path)
    interrupt(first, settings, tmp_path)
    assert Session.objects.count() == 1
    first.run.refresh_from_db()
    assert first.run.status == "cancelled"


def test_what_its_worker_ended_without_a_lease_is_gone_on_with_too(tmp_path: Path, settings: Settings) -> None:
    first = begin(tmp_path, continue_interrupted=True)
    run(first, settings, [WORK, DONE], lambda: "lost" if half_done(tmp_path) else "")
    assert (first.status, first.reason) == ("lost", "worker_died")
    second = Session.objects.get(retry_of=first)
    run(second, settings, [DONE], lambda: "")
    assert (second.status, second.resumed_from) == ("succeeded", first)


def test_what_was_lost_with_its_machine_begins_anew_and_says_so(tmp_path: Path, settings: Settings) -> None:
    first = begin(tmp_path, continue_interrupted=True)
    run(first, settings, [WORK, DONE], lambda: "detach" if half_done(tmp_path) else "")
    Session.objects.filter(pk=first.pk).update(worker=None)
    assert declare_lost(now=timezone.now()) == 1
    use_folders(settings, tmp_path / "two")

    second = Session.objects.get(retry_of=first)
    run(second, settings, [DONE], lambda: "")
    assert (second.status, second.resumed_from) == ("succeeded", None)
    assert "begins a new conversation" in second.message
    assert "is not kept on this machine" in second.message
