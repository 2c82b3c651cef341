"""The report on a rehearsal, out of its row and its events."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pytest_django import Settings

from runners import load_runner
from schedules.models import Run, Session
from schedules.readiness import facts_for_report, report_of
from schedules.workplace import Workplace
from tests.schedules.factories import make_event, make_run, make_schedule, make_session

pytestmark = pytest.mark.django_db

NOW = datetime(2027, 3, 1, 8, 0, tzinfo=UTC)
CLAUDE = load_runner("runners.claude.ClaudeRunner")


def rehearsal(*, status: str = "succeeded", **fields: Any) -> Session:
    schedule = make_schedule(now=NOW, runner="claude", **fields)
    run = make_run(schedule, now=NOW, status=Run.Status.RUNNING, is_rehearsal=True)
    return make_session(run, now=NOW, status=status, prompt="Say hello.")


def test_a_rehearsal_is_reported_from_its_events() -> None:
    session = rehearsal(allowed_tools=["Bash(git log *)"], max_turns=5)
    make_event(session, now=NOW, kind="note", data={"prepared": {"fetch": 1.2}})
    make_event(session, now=NOW + timedelta(seconds=1), kind="init", data={"model": "claude-haiku-5-5"})
    given = {"id": "1", "name": "Bash", "input": {"command": "git log"}}
    make_event(session, now=NOW, kind="tool_use", text="Bash: git log", data=given)
    make_event(session, now=NOW, kind="tool_result", text="x", data={"id": "1", "is_error": False})

    report = report_of(session)

    assert report
    assert (report.is_ready, report.model, report.prompt) == (True, "claude-haiku-5-5", "Say hello.")
    assert [(use.tool, use.outcome) for use in report.asked] == [("Bash: git log", "allowed")]
    assert report.preparation == {"fetch": 1.2, "start": 1.0}
    assert (report.limits["turns"], report.limits["time"], report.limits["money"]) == ("5", "30m", "none")


def test_a_rehearsal_that_failed_is_not_ready() -> None:
    session = rehearsal(status="failed")
    Session.objects.filter(pk=session.pk).update(reason="fetch_failed", message="The forge is away.")
    session.refresh_from_db()

    report = report_of(session)

    assert report
    assert [gap.what for gap in report.gaps] == ["The forge is away."]


@pytest.mark.parametrize("is_rehearsal", [True, False])
def test_what_is_no_rehearsal_or_not_over_has_no_report(is_rehearsal: bool) -> None:
    run = make_run(now=NOW, status=Run.Status.RUNNING, is_rehearsal=is_rehearsal)
    assert report_of(make_session(run, now=NOW, status="running" if is_rehearsal else "succeeded")) is None


@pytest.mark.parametrize(
    ("fields", "key", "credentials"),
    [
        ({}, "", True),
        ({}, "sk-made-up", False),
        ({"environment": {"ANTHROPIC_AUTH_TOKEN": "made-up"}}, "", False),
    ],
)
def test_the_worker_notes_whether_a_real_session_would_have_a_key(
    fields: dict[str, Any], key: str, credentials: bool, settings: Settings
) -> None:
    settings.ROTA_CREDENTIALS = {"ANTHROPIC_API_KEY": key, "ANTHROPIC_BASE_URL": "http://127.0.0.1:1"}
    facts = facts_for_report(rehearsal(**fields), CLAUDE, {"fetch": 0.123456})

    assert ("credentials" in facts) is credentials
    assert facts["prepared"] == {"fetch": 0.12}


def test_the_worker_notes_programs_that_are_not_there(settings: Settings) -> None:
    settings.ROTA_CREDENTIALS = {}
    session = rehearsal(allowed_tools=["Bash(no-such-program-here *)", "Bash(ls *)"])

    facts = facts_for_report(session, CLAUDE, {})

    assert facts["programs"] == ["no-such-program-here"]
    assert facts["credentials"] == ["ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_AUTH_TOKEN"]


@pytest.mark.parametrize(
    ("hosts", "words"), [(["example.com"], "add api.anthropic.com"), (["api.anthropic.com"], ""), ([], "")]
)
def test_the_worker_notes_whether_a_real_session_would_reach_its_model(
    hosts: list[str], words: str, settings: Settings
) -> None:
    settings.ROTA_CREDENTIALS = {"ANTHROPIC_API_KEY": "sk-made-up"}
    sandbox: dict[str, Any] = (
        {"sandbox": "bubblewrap", "network": "allow_list", "allowed_hosts": hosts} if hosts else {}
    )

    facts = facts_for_report(rehearsal(**sandbox), CLAUDE, {})

    assert words in facts.get("unreachable", "")
    assert ("unreachable" in facts) is bool(words)


def test_its_servers_are_given_nothing_for_a_secret_that_nobody_has_set(settings: Settings) -> None:
    """Else the rehearsal would be refused, and its report would not get to tell."""
    settings.ROTA_CREDENTIALS, settings.ROTA_SECRETS = {}, {"FORGE_TOKEN": "correct-horse-battery"}
    servers = {"forge": {"command": "mcp", "env": {"A": "${FORGE_TOKEN}", "B": "${DEPLOY_TOKEN}"}}}
    session = rehearsal(secrets=["FORGE_TOKEN", "DEPLOY_TOKEN", "OTHER"], mcp_servers=servers)
    given = Workplace(session, CLAUDE).spec.environment
    assert (given["FORGE_TOKEN"], given["DEPLOY_TOKEN"], "OTHER" in given) == ("correct-horse-battery", "", False)


def test_the_worker_notes_secrets_that_nobody_has_set(settings: Settings) -> None:
    settings.ROTA_SECRETS = {"FORGE_TOKEN": "made-up"}

    facts = facts_for_report(rehearsal(secrets=["FORGE_TOKEN", "DEPLOY_TOKEN"]), CLAUDE, {})

    assert facts["secrets"] == ["DEPLOY_TOKEN"]


def test_of_a_session_that_is_no_rehearsal_only_its_times_are_noted() -> None:
    assert facts_for_report(make_session(now=NOW), CLAUDE, {"fetch": 1.0}) == {"prepared": {"fetch": 1.0}}
