"""What makes a schedule one that can run, and when it is due."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from pytest_django import Settings

from schedules.models import Schedule
from tests.schedules.factories import make_command, make_repository, make_run, make_schedule

pytestmark = pytest.mark.django_db

NOW = datetime(2027, 1, 4, 8, tzinfo=UTC)
SCRIPT: dict[str, Any] = {"name": "report", "runner": "script", "argv": ["true"]}
AGENT: dict[str, Any] = {"name": "brief", "runner": "claude", "model": "haiku", "prompt": "Look."}
FUNCTION: dict[str, Any] = {"name": "list", "runner": "function", "function": "todo-report"}


@pytest.mark.parametrize("fields", [SCRIPT, AGENT, FUNCTION])
def test_a_plain_schedule_is_fine(fields: dict[str, Any]) -> None:
    Schedule(**fields).full_clean()


@pytest.mark.parametrize(
    ("base", "change", "field", "words"),
    [
        (SCRIPT, {"name": "Has Spaces"}, "name", "lower-case"),
        (SCRIPT, {"cron": "0 9 * *"}, "cron", ""),
        (SCRIPT, {"cron": "0 0 31 2 *"}, "cron", "never"),
        (SCRIPT, {"time_zone": "Europe/Atlantis"}, "time_zone", "Europe/Atlantis"),
        (SCRIPT, {"starts_at": datetime(9999, 12, 31, tzinfo=UTC)}, "starts_at", "the calendar ends"),
        (SCRIPT, {"runner": "cobol"}, "runner", "There are: claude, codex, script, function"),
        (SCRIPT, {"argv": []}, "argv", ""),
        (SCRIPT, {"argv": "true"}, "argv", "JSON list"),
        (SCRIPT, {"prompt": "Do it."}, "prompt", "takes no prompt"),
        (SCRIPT, {"target": "issues"}, "target", "can't list issues"),
        (SCRIPT, {"timeout": timedelta()}, "timeout", "between one second and two days"),
        (SCRIPT, {"timeout": timedelta(days=3)}, "timeout", "between one second and two days"),
        (SCRIPT, {"silence": timedelta()}, "silence", "at least one second"),
        (SCRIPT, {"jitter": timedelta(seconds=-1)}, "jitter", "negative"),
        (SCRIPT, {"catch_up": timedelta(days=99)}, "catch_up", "31 days"),
        (SCRIPT, {"max_items": 0}, "max_items", ""),
        (SCRIPT, {"max_items": 101}, "max_items", ""),
        (SCRIPT, {"environment": {"2B": "x"}}, "environment", "2B: A name has letters"),
        (SCRIPT, {"environment": {"LD_PRELOAD": "x"}}, "environment", "LD_PRELOAD can't be set"),
        (SCRIPT, {"environment": ["A=1"]}, "environment", "JSON object"),
        (SCRIPT, {"secrets": ["NPM_TOKEN"]}, "secrets", "bin/manage secret set NPM_TOKEN"),
        (SCRIPT, {"secrets": ["KNOWN"], "environment": {"KNOWN": "x"}}, "environment", "Name it once"),
        (SCRIPT, {"variables": {"a-b": "x"}}, "variables", "a-b: A name has letters"),
        (AGENT, {"prompt": ""}, "prompt", "needs a prompt"),
        (AGENT, {"prompt": "{{ titel }}"}, "prompt", "is not a placeholder"),
        (AGENT, {"prompt": "{{ var.tone }}"}, "prompt", "no variable “tone”"),
        (AGENT, {"model": ""}, "model", ""),
        (AGENT, {"fallback_model": "haiku"}, "fallback_model", ""),
        (AGENT, {"max_turns": 0}, "max_turns", ""),
        (AGENT, {"max_budget_usd": "-1"}, "max_budget_usd", ""),
        (AGENT, {"setting_sources": ["everywhere"]}, "setting_sources", ""),
        (AGENT, {"allowed_tools": ["Bash("]}, "allowed_tools", ""),
        (FUNCTION, {"function": ""}, "function", ""),
        (FUNCTION, {"function": "os.system"}, "function", "not an allowed function. There are: todo-report"),
        (FUNCTION, {"arguments": ["x"]}, "arguments", "JSON object"),
    ],
)
def test_what_can_not_run_is_refused_at_its_field(
    base: dict[str, Any], change: dict[str, Any], field: str, words: str, settings: Settings
) -> None:
    settings.ROTA_SECRETS = {"KNOWN": "value"}
    with pytest.raises(ValidationError) as refused:
        Schedule(**{**base, **change}).full_clean()
    assert words in " ".join(refused.value.message_dict[field])


def test_a_command_and_a_prompt_are_one_too_many() -> None:
    schedule = Schedule(**{**AGENT, "command": make_command(target="custom")})
    with pytest.raises(ValidationError, match="not both"):
        schedule.full_clean()


def test_a_command_for_another_target_is_refused() -> None:
    schedule = Schedule(**{**AGENT, "prompt": "", "command": make_command(target="issues")})
    with pytest.raises(ValidationError, match="is for issues"):
        schedule.full_clean()


@pytest.mark.parametrize("target", ["codebase", "issues"])
def test_a_target_that_needs_a_repository_says_so(target: str) -> None:
    schedule = Schedule(**{**SCRIPT, "target": target})
    with pytest.raises(ValidationError, match="Choose a repository"):
        schedule.check_repositories([])


def test_issues_need_a_forge() -> None:
    schedule = Schedule(**{**SCRIPT, "target": "issues"})
    with pytest.raises(ValidationError, match="shop: has no forge"):
        schedule.check_repositories([make_repository("shop"), make_repository("web", forge="github")])


@pytest.mark.parametrize(
    "change",
    [
        {"status": "dozing"},
        {"status": "paused"},  # while due
        {"max_items": 0},
        {"starts_at": NOW, "ends_at": NOW},
        {"next_run_at": None},  # while due
    ],
)
def test_the_database_refuses_what_can_not_be(change: dict[str, Any]) -> None:
    schedule = make_schedule(now=NOW)
    with pytest.raises(IntegrityError), transaction.atomic():
        Schedule.objects.filter(pk=schedule.pk).update(**change)


def test_it_is_planned_from_now_on_and_within_its_bounds() -> None:
    nine = datetime(2027, 1, 4, 9, tzinfo=UTC)
    assert make_schedule(now=NOW).next_run_at == nine
    late = make_schedule(now=NOW, starts_at=datetime(2027, 2, 1, 9, tzinfo=UTC))
    assert late.next_run_at == datetime(2027, 2, 1, 9, tzinfo=UTC)
    assert make_schedule(now=NOW, ends_at=nine - timedelta(seconds=1)).due_at is None
    assert make_schedule(now=NOW, cron="").due_at is None
    assert make_schedule(now=NOW, status="paused").due_at is None


def test_an_edit_never_reaches_into_the_past() -> None:
    schedule = make_schedule(now=NOW)
    schedule.cron = "0 8 * * *"
    schedule.plan(NOW + timedelta(minutes=30))
    assert schedule.next_run_at == datetime(2027, 1, 5, 8, tzinfo=UTC)


def test_what_is_upcoming_is_what_will_fire() -> None:
    schedule = make_schedule(now=NOW, ends_at=datetime(2027, 1, 6, 12, tzinfo=UTC))
    assert [time.day for time in schedule.upcoming(NOW)] == [4, 5, 6]
    assert len(make_schedule(now=NOW).upcoming(NOW, 10)) == 10


def test_the_snapshot_is_what_a_run_goes_by_and_json() -> None:
    schedule = make_schedule(now=NOW, runner="claude", max_budget_usd="0.50", command=make_command(), prompt="")
    run = make_run(schedule, now=NOW)
    run.refresh_from_db()
    assert run.snapshot["template"] == "Look at {{ repository }}."
    assert run.snapshot["options"]["max_budget_usd"] == "0.50"
    assert run.snapshot["timeout"] == 1800.0
