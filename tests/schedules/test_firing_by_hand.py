"""Runs by hand: where, by whom, and when they are refused."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pytest_django import Settings

from schedules.ending import end
from schedules.firing import Refused, fire_due, trigger
from schedules.models import Reason, Run, Schedule, Session
from schedules.steering import disable
from tests.schedules.factories import make_repository, make_run, make_schedule, make_session

pytestmark = pytest.mark.django_db

NINE = datetime(2027, 1, 4, 9, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def test_by_hand_there_is_a_run_in_each_repository_with_who_and_why() -> None:
    repositories = [make_repository(), make_repository()]
    schedule = make_schedule(now=NINE, repositories=repositories, variables={"tone": "brief"})

    runs = trigger(schedule, by="ada", variables={"tone": "long"}, now=NINE)

    assert {run.repository for run in runs} == set(repositories)
    assert {(run.trigger, run.triggered_by, run.variables["tone"]) for run in runs} == {("manual", "ada", "long")}
    assert Session.objects.count() == 2


def test_a_paused_schedule_can_be_run_by_hand() -> None:
    assert trigger(make_schedule(now=NINE, status="paused"), now=NINE)


@pytest.mark.parametrize(
    ("fields", "reason", "words"),
    [
        ({"status": "disabled", "status_reason": "too dear"}, Reason.DISABLED, "too dear"),
        ({"argv": []}, Reason.INVALID_OPTIONS, "argv"),
        ({"target": "codebase"}, Reason.INVALID_OPTIONS, "Choose a repository"),
    ],
)
def test_by_hand_what_policy_forbids_is_refused_and_nothing_recorded(
    fields: dict[str, object], reason: Reason, words: str
) -> None:
    schedule = make_schedule(now=NINE, **fields)  # type: ignore[arg-type]

    with pytest.raises(Refused, match=words) as refused:
        trigger(schedule, now=NINE)

    assert refused.value.reason == reason
    assert not Run.objects.exists()


def test_by_hand_what_was_disabled_a_moment_ago_is_refused() -> None:
    schedule = make_schedule(now=NINE)
    disable([Schedule.objects.get(pk=schedule.pk)], by="bob", reason="too dear", now=NINE)

    with pytest.raises(Refused, match="too dear"):
        trigger(schedule, now=NINE)


def test_by_hand_an_open_run_is_respected() -> None:
    schedule = make_schedule(now=NINE)
    open_run = make_run(schedule, now=NINE, status="running")

    with pytest.raises(Refused, match=f"Run {open_run.pk} is still running"):
        trigger(schedule, now=NINE)


def test_by_hand_an_unknown_variable_is_refused_with_those_there_are() -> None:
    schedule = make_schedule(now=NINE, variables={"tone": "brief"})
    with pytest.raises(Refused, match=r"no variable colour\. There are: tone"):
        trigger(schedule, variables={"colour": "red"}, now=NINE)


def test_without_a_key_agents_are_rehearsed_and_scripts_are_not(settings: Settings) -> None:
    settings.ROTA_REHEARSE = True
    agent, script = make_schedule(now=NINE, runner="claude"), make_schedule(now=NINE)

    assert trigger(agent, now=NINE)[0].is_rehearsal
    assert not trigger(script, now=NINE, rehearse=True)[0].is_rehearsal


def test_with_one_vendors_key_the_other_agent_is_rehearsed(settings: Settings) -> None:
    settings.ROTA_REHEARSE = None
    settings.ROTA_CREDENTIALS = {"OPENAI_API_KEY": "made-up"}
    claude, codex = (make_schedule(now=NINE, runner=name, model="m") for name in ("claude", "codex"))

    assert trigger(claude, now=NINE)[0].sessions.get().is_rehearsal
    assert not trigger(codex, now=NINE)[0].sessions.get().is_rehearsal


def test_with_a_key_an_agent_is_rehearsed_when_asked(settings: Settings) -> None:
    settings.ROTA_REHEARSE = False
    agent = make_schedule(now=NINE, runner="claude", overlap="allow")

    assert not trigger(agent, now=NINE)[0].is_rehearsal
    assert trigger(agent, now=NINE, rehearse=True)[0].sessions.get().is_rehearsal


def test_an_agent_whose_model_is_out_of_its_sandbox_s_reach_can_be_rehearsed_and_not_run(settings: Settings) -> None:
    settings.ROTA_CREDENTIALS = {**settings.ROTA_CREDENTIALS, "ANTHROPIC_API_KEY": "of-the-tests-alone"}
    settings.ROTA_REHEARSE = False
    boxed: dict[str, Any] = {"sandbox": "bubblewrap", "network": "allow_list", "allowed_hosts": ["forge.example.com"]}
    schedule = make_schedule(now=NINE, runner="claude", **boxed)
    with pytest.raises(Refused, match=r"add api\.anthropic\.com"):
        trigger(schedule, now=NINE)
    assert trigger(schedule, now=NINE, rehearse=True)[0].is_rehearsal


def test_by_hand_a_repository_that_is_named_twice_has_one_run() -> None:
    repository = make_repository()
    schedule = make_schedule(now=NINE - HOUR, repositories=[repository])
    assert len(trigger(schedule, repositories=[repository, repository], now=NINE)) == 1


def test_a_run_that_a_waiting_attempt_keeps_open_is_told_as_that() -> None:
    schedule = make_schedule(now=NINE - HOUR, cron="0 * * * *", retry="all", retry_backoff=2 * HOUR)
    run = make_run(schedule, now=NINE - MINUTE, status="running")
    session = make_session(run, now=NINE - MINUTE, status="running")
    assert end(session, status="failed", reason="exit_code", now=NINE - MINUTE)

    fire_due(now=NINE)

    skipped = Run.objects.get(scheduled_for=NINE)
    assert (skipped.status, skipped.reason) == ("skipped", "overlap")
    assert f"Run {run.pk} is still open: its next attempt waits until 2027-01-04 " in skipped.message
