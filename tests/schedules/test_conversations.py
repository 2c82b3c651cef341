"""A conversation goes on on another machine: with real agents, a scripted model, and a folder of each machine's own."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings

from runners.scripted_model import Request, ScriptedModel
from schedules import conversations
from schedules.execution import adopt
from schedules.firing import trigger
from schedules.folders import EARLIER, session_folder
from schedules.models import KeptConversation, Repository, Schedule, Session
from tests.runners import codex_sessions
from tests.runners.claude_sessions import say
from tests.schedules.factories import make_run, make_schedule, make_session, make_worker
from tests.schedules.places import end_sessions, make_shop, run_session, use_folders

NOW = datetime(2027, 1, 4, 9, tzinfo=UTC)

pytestmark = pytest.mark.django_db(transaction=True)

SAID = "The number to remember is 4711."
SAY = say(SAID)
OOPS = {"error": {"status": 400, "type": "invalid_request_error", "message": "Oops"}, "times": 9}
OTHER = b'{"type":"other"}\n'  # lines that no agent wrote
ASKED = "Keep the number in mind, 31337."

needs_codex = pytest.mark.skipif(not codex_sessions.program(), reason=codex_sessions.NO_CODEX)
AGENTS = ["claude", pytest.param("codex", marks=needs_codex)]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, settings: Settings) -> Iterator[None]:
    settings.ROTA_REHEARSE = False
    settings.ROTA_PROGRAMS = {"codex": codex_sessions.program()}
    on_machine(settings, tmp_path, "one")
    yield
    end_sessions(tmp_path)


@pytest.fixture
def shop(tmp_path: Path) -> Repository:
    return make_shop(tmp_path)


def on_machine(settings: Settings, tmp_path: Path, name: str) -> None:
    use_folders(settings, tmp_path / name)


def agent(shop: Repository, runner: str = "claude", **fields: Any) -> Schedule:
    model = {"claude": "haiku", "codex": "gpt-5.5"}[runner]
    given: dict[str, Any] = {"model": model, "prompt": ASKED, "persistence": "resume", "overlap": "allow", **fields}
    return make_schedule(now=timezone.now(), runner=runner, repositories=[shop], **given)


def talk(
    schedule: Schedule, settings: Settings, answer: object = SAY, *, host: str = "one"
) -> tuple[Session, list[Request]]:
    """A session to its end, and what its model was asked."""
    with ScriptedModel([answer]) as model:
        address(settings, model)
        session = trigger(schedule, by="ada", now=timezone.now())[0].sessions.get()
        run_session(session, worker=make_worker(now=timezone.now(), hostname=host))
    return session, list(model.requests)


def address(settings: Settings, model: ScriptedModel) -> None:
    settings.ROTA_CREDENTIALS = {
        "ANTHROPIC_BASE_URL": model.url,
        "ANTHROPIC_API_KEY": "made-up",
        "OPENAI_BASE_URL": f"{model.url}/v1",
        "OPENAI_API_KEY": "made-up",
    }


def notes(session: Session) -> str:
    return "\n".join(session.events.filter(kind="note").values_list("text", flat=True))


@pytest.mark.parametrize("runner", AGENTS)
def test_it_goes_on_on_a_machine_that_has_nothing_of_the_first(
    runner: str, shop: Repository, settings: Settings, tmp_path: Path
) -> None:
    schedule = agent(shop, runner)
    first, _ = talk(schedule, settings)
    on_machine(settings, tmp_path, "two")
    second, asked = talk(schedule, settings, say("It was 4711."), host="two")

    assert (first.status, second.status) == ("succeeded", "succeeded"), (first.message, second.message)
    assert (first.resumed_from, second.resumed_from) == (None, first)
    told = json.dumps(asked[0].body)
    assert SAID in told
    assert told.count(ASKED) == 2
    assert f"the conversation of session {first.pk}." in notes(second)
    assert "begins a new conversation" not in notes(first)
    assert first.agent_session_id != second.agent_session_id
    assert not (session_folder(second.pk) / EARLIER).exists()

    on_machine(settings, tmp_path, "three")
    third, asked = talk(schedule, settings, say("Still 4711."), host="three")
    assert third.resumed_from == second
    assert "It was 4711." in json.dumps(asked[0].body)


def test_only_the_newest_are_kept_and_only_of_those_that_resume(shop: Repository, settings: Settings) -> None:
    schedule = agent(shop)
    sessions = [talk(schedule, settings)[0] for _ in range(3)]
    talk(agent(shop, persistence="fresh"), settings)

    assert list(KeptConversation.objects.order_by("pk").values_list("pk", flat=True)) == [s.pk for s in sessions[1:]]


def test_a_failure_is_not_gone_on_with(shop: Repository, settings: Settings) -> None:
    schedule = agent(shop)
    first, _ = talk(schedule, settings)
    failed, _ = talk(schedule, settings, OOPS)
    assert failed.status == "failed"
    third, _ = talk(schedule, settings)
    assert third.resumed_from == first


@needs_codex
def test_another_runner_begins_anew_and_each_finds_its_own_again(shop: Repository, settings: Settings) -> None:
    schedule = agent(shop)
    first, _ = talk(schedule, settings)
    Schedule.objects.filter(pk=schedule.pk).update(runner="codex", model="gpt-5.5")
    second, asked = talk(schedule, settings)

    assert (second.status, second.resumed_from) == ("succeeded", None), second.message
    assert SAID not in json.dumps(asked[0].body)
    assert f"begins a new conversation: session {first.pk} had another runner." in second.message
    assert second.message in notes(second)

    Schedule.objects.filter(pk=schedule.pk).update(runner="claude", model="haiku")
    third, _ = talk(schedule, settings)
    assert (third.status, third.resumed_from) == ("succeeded", first)


@pytest.mark.parametrize("runner", AGENTS)
@pytest.mark.parametrize(
    ("data", "why"),
    [
        (None, "is not kept here"),
        (b"", "is damaged"),
        (b"no gzip", "is damaged"),
        (gzip.compress(b"line\n" * 1000)[:-20], "is damaged"),
    ],
    ids=["missing", "empty", "other", "cut"],
)
def test_what_is_missing_or_broken_ends_in_a_new_conversation_that_says_so(
    runner: str, data: bytes | None, why: str, shop: Repository, settings: Settings, tmp_path: Path
) -> None:
    schedule = agent(shop, runner)
    first, _ = talk(schedule, settings)
    kept = KeptConversation.objects.filter(pk=first.pk)
    if data is None:
        kept.delete()
    else:
        kept.update(data=data)
    on_machine(settings, tmp_path, "two")
    second, asked = talk(schedule, settings)

    assert (second.status, second.resumed_from) == ("succeeded", None), second.message
    assert second.message.startswith(f"It begins a new conversation: that of session {first.pk} {why}")
    assert SAID not in json.dumps(asked[0].body)


@needs_codex
def test_what_a_runner_can_not_read_ends_in_a_new_conversation(
    shop: Repository, settings: Settings, tmp_path: Path
) -> None:
    schedule = agent(shop, "codex")
    talk(schedule, settings)
    KeptConversation.objects.update(data=gzip.compress(OTHER), size=len(OTHER))
    second, _ = talk(schedule, settings)

    assert (second.status, second.resumed_from) == ("succeeded", None), second.message
    assert "does not begin as a rollout of Codex does" in second.message


def test_what_the_program_refuses_fails_once_and_then_begins_anew(shop: Repository, settings: Settings) -> None:
    schedule = agent(shop)
    first, _ = talk(schedule, settings)
    KeptConversation.objects.update(data=gzip.compress(OTHER), size=len(OTHER))
    second, _ = talk(schedule, settings)
    third, _ = talk(schedule, settings)

    assert (second.status, second.resumed_from) == ("failed", first)
    assert "No conversation found" in second.message
    assert (third.status, third.resumed_from) == ("succeeded", None)
    assert f"could not go on with that of session {first.pk}" in third.message


def test_without_a_row_the_machine_of_the_first_session_can_go_on(
    shop: Repository, settings: Settings, tmp_path: Path
) -> None:
    schedule = agent(shop)
    first, _ = talk(schedule, settings)
    KeptConversation.objects.all().delete()
    second, asked = talk(schedule, settings)

    assert second.resumed_from == first
    assert SAID in json.dumps(asked[0].body)


def test_one_that_is_too_large_for_the_database_is_said_to_stay_on_its_machine(tmp_path: Path) -> None:
    session = make_session(now=NOW, status="running", hostname="host-7")
    file = tmp_path / "conversation.jsonl"
    file.write_bytes(os.urandom(conversations.MOST_PACKED))
    remark = conversations.keep(session, file, runner="claude", now=NOW)
    assert "only on host-7 can a session go on with it" in remark
    assert not KeptConversation.objects.exists()

    file.write_bytes(b"line\n" * conversations.MOST_PACKED)
    for _ in range(2):
        assert conversations.keep(session, file, runner="claude", now=NOW) == ""
    (kept,) = KeptConversation.objects.all()
    assert (kept.size, len(kept.data) < conversations.MOST_PACKED) == (file.stat().st_size, True)


def test_what_another_attempt_waits_to_go_on_with_stays(tmp_path: Path) -> None:
    schedule = make_schedule(now=NOW, overlap="allow")
    lost = make_session(make_run(schedule, now=NOW), now=NOW, status="lost")
    retry = make_session(lost.run, now=NOW, number=1, attempt=2, retry_of=lost)
    other = make_session(make_run(schedule, now=NOW), now=NOW, status="running")
    file = tmp_path / "conversation.jsonl"
    file.write_bytes(OTHER)
    for session in (lost, other):
        conversations.keep(session, file, runner="claude", now=NOW)
    assert set(KeptConversation.objects.values_list("pk", flat=True)) == {lost.pk, other.pk}
    conversations.keep(retry, file, runner="claude", now=NOW)
    assert set(KeptConversation.objects.values_list("pk", flat=True)) == {retry.pk, other.pk}


def test_a_secret_stays_redacted(shop: Repository, settings: Settings, tmp_path: Path) -> None:
    settings.ROTA_SECRETS = {"DEPLOY_TOKEN": "correct-horse-battery"}
    schedule = agent(shop, secrets=["DEPLOY_TOKEN"], prompt="The token is correct-horse-battery.")
    first, _ = talk(schedule, settings)
    data = gzip.decompress(KeptConversation.objects.get(pk=first.pk).data)
    assert b"[redacted]" in data
    assert b"correct-horse-battery" not in data

    on_machine(settings, tmp_path, "two")
    second, asked = talk(agent_again(schedule), settings)
    assert second.resumed_from == first
    assert json.dumps(asked[0].body).count("The token is [redacted]") == 1


def agent_again(schedule: Schedule) -> Schedule:
    """The same schedule, with another prompt."""
    Schedule.objects.filter(pk=schedule.pk).update(prompt="What was the token?")
    return schedule


@pytest.mark.parametrize("runner", AGENTS)
def test_who_takes_a_session_over_goes_on_with_the_same(runner: str, shop: Repository, settings: Settings) -> None:
    schedule = agent(shop, runner)
    first, _ = talk(schedule, settings)
    worker = make_worker(now=timezone.now())
    with ScriptedModel([say("It was 4711.")]) as model:
        address(settings, model)
        session = trigger(schedule, by="ada", now=timezone.now())[0].sessions.get()
        run_session(session, worker=worker, wish=lambda: "detach")
        assert (session.status, session.resumed_from) == ("running", first)
        heir = make_worker(now=timezone.now())
        adopt(session.pk, of=worker.pk, worker=heir, wish=lambda: "", clock=timezone.now)
    session.refresh_from_db()

    assert (session.status, session.resumed_from, session.turns) == ("succeeded", first, 1), session.message
    assert session.program_version == first.program_version
    assert b"It was 4711." in gzip.decompress(KeptConversation.objects.get(pk=session.pk).data)


@pytest.mark.parametrize("runner", AGENTS)
def test_the_version_of_the_program_is_on_record_and_a_change_is_noted(
    runner: str, shop: Repository, settings: Settings
) -> None:
    schedule = agent(shop, runner)
    first, _ = talk(schedule, settings)
    version = first.program_version
    assert version.count(".") == 2
    assert first.program_before == ""

    Session.objects.filter(pk=first.pk).update(program_version="0.0.9")
    second, _ = talk(schedule, settings)
    third, _ = talk(schedule, settings)
    assert (second.program_version, second.program_before) == (version, "0.0.9")
    assert f"The program of {runner} changed: 0.0.9 → {version}." in notes(second)
    assert third.program_before == ""
    assert "changed" not in notes(third)
