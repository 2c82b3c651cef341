"""Agents that are interrupted in the middle of their work. For tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.utils import timezone
from pytest_django import Settings

from runners.scripted_model import Request, ScriptedModel
from schedules.firing import trigger
from schedules.following import Wish
from schedules.models import Session
from tests.runners.claude_sessions import say
from tests.schedules.factories import make_schedule
from tests.schedules.places import make_shop, run_session

HALF = "echo half > work.txt; echo half is done; sleep 25"
WORK = [{"type": "tool_use", "name": "Bash", "input": {"command": HALF}}]
LOOK = [{"type": "tool_use", "name": "Bash", "input": {"command": "cat work.txt"}}]
DONE = say("All is done.")


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
