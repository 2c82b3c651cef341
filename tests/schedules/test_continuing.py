"""An agent whose worker or machine goes away is gone on with: by a session of its own, with what was kept."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings

from runners import kill
from runners.scripted_model import Request, ScriptedModel
from schedules.firing import trigger
from schedules.following import Wish
from schedules.models import KeptConversation, KeptWork, Session
from schedules.upkeep import declare_lost
from tests.runners.claude_sessions import say
from tests.schedules.factories import make_schedule
from tests.schedules.places import make_shop, run_session, use_folders

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(180)]

HALF = "echo half > work.txt; echo half is done; sleep 25"
WORK = [{"type": "tool_use", "name": "Bash", "input": {"command": HALF}}]
LOOK = [{"type": "tool_use", "name": "Bash", "input": {"command": "cat work.txt"}}]
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


def last_result(request: Request) -> str:
    """What its latest tool returned."""
    blocks = [block for message in request.body["messages"] for block in message["content"] if isinstance(block, dict)]
    return str([block for block in blocks if block.get("type") == "tool_result"][-1])


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


def test_on_another_machine_it_has_its_conversation_and_its_work(tmp_path: Path, settings: Settings) -> None:
    first = begin(tmp_path, continue_interrupted=True)
    interrupt(first, settings, tmp_path)
    use_folders(settings, tmp_path / "two")

    second = Session.objects.get(retry_of=first)
    asked = run(second, settings, [LOOK, DONE], lambda: "")
    assert (second.status, second.resumed_from, second.message) == ("succeeded", first, "")
    assert "half" in last_result(asked[-1]), "it finds what it had written"
    assert second.base_commit == first.head_commit
    assert not KeptWork.objects.exists()


def test_what_ran_on_a_machine_that_died_is_gone_on_with_on_another(tmp_path: Path, settings: Settings) -> None:
    """Its worker, its shim, its agent and its folders are gone at once, as with the plug."""
    settings.ROTA_KEEP_CONVERSATION_EVERY = settings.ROTA_KEEP_WORK_EVERY = timedelta(seconds=1)
    settings.ROTA_SECRETS = {"TOKEN": "correct-horse-battery"}
    first = begin(tmp_path, continue_interrupted=True, secrets=["TOKEN"], prompt="Both. It is correct-horse-battery.")

    def is_kept() -> bool:
        said = KeptConversation.objects.filter(pk=first.pk).values_list("data", flat=True).first()
        return KeptWork.objects.exists() and b"echo half" in gzip.decompress(said or gzip.compress(b""))

    run(first, settings, [WORK, DONE], lambda: "detach" if half_done(tmp_path) and is_kept() else "")
    assert first.status == "running"
    assert b"correct-horse" not in gzip.decompress(KeptConversation.objects.get().data)
    kill(tmp_path / "one" / "sessions" / str(first.pk))
    (tmp_path / "one").rename(tmp_path / "gone")
    Session.objects.filter(pk=first.pk).update(worker=None)
    assert declare_lost(now=timezone.now()) == 1
    use_folders(settings, tmp_path / "two")

    second = Session.objects.get(retry_of=first)
    asked = run(second, settings, [LOOK, DONE], lambda: "")
    assert (second.status, second.resumed_from, second.message) == ("succeeded", first, "")
    assert "echo half > work.txt" in str(asked[-1].body), "the model is told what it did before"
    assert "half" in last_result(asked[-1]), "and finds it"
    assert "It goes on from the branch" in notes(second)
    assert [KeptWork.objects.count(), KeptConversation.objects.count()] == [0, 0]


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
