"""Sessions of agents, from their prompt to what they cost: with the real program and a scripted model."""

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from django.utils import timezone
from pytest_django import Settings

from runners.scripted_model import ScriptedModel
from schedules.firing import trigger
from schedules.models import Repository, Schedule, Session, WorkerHeartbeat
from schedules.readiness import report_of
from tests.schedules.factories import make_schedule
from tests.schedules.places import run_session

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("folders")]

READ_README = {"type": "tool_use", "name": "Read", "input": {"file_path": "README.md"}}


def of(schedule: Schedule) -> Session:
    return trigger(schedule, by="ada", now=timezone.now())[0].sessions.get()


def run(session: Session, worker: WorkerHeartbeat) -> Session:
    run_session(session, worker=worker)
    session.run.refresh_from_db()
    return session


def test_an_agent_is_rehearsed_with_its_prompt_and_no_cost(worker: WorkerHeartbeat, repository: Repository) -> None:
    schedule = make_schedule(
        now=timezone.now(),
        runner="claude",
        prompt="Brief me on {{ repository }}.",
        allowed_tools=["Read", "Bash(git log *)"],
        repositories=[repository],
    )
    session = run(of(schedule), worker)

    assert (session.status, session.reason) == ("succeeded", "ok"), session.message
    assert session.is_rehearsal
    assert session.prompt == "Brief me on shop."
    assert session.cost_usd == 0
    assert session.turns > 0
    assert session.output_tokens > 0
    assert "tool_use" in session.events.values_list("kind", flat=True)
    assert "rehears" in session.result.lower()


def test_a_result_that_keeps_to_a_schema_is_on_record(worker: WorkerHeartbeat, repository: Repository) -> None:
    schema = {"type": "object", "properties": {"verdict": {"enum": ["fine", "broken"]}}, "required": ["verdict"]}
    fields = {"now": timezone.now(), "runner": "claude", "repositories": [repository], "json_schema": schema}
    words = [[{"type": "text", "text": "It is fine."}]] * 2

    kept = run(of(make_schedule(**fields)), worker)  # type: ignore[arg-type]
    failed = run(of(make_schedule(**fields, rehearsal_script=words)), worker)  # type: ignore[arg-type]

    assert (kept.status, kept.structured) == ("succeeded", {"verdict": "fine"}), kept.message
    assert (failed.status, failed.reason, failed.structured) == ("failed", "invalid_output", None)
    assert failed.message.startswith("It gave no structured output.")


def test_plugins_are_looked_for_where_this_machine_has_them(
    worker: WorkerHeartbeat, repository: Repository, settings: Settings, tmp_path: Path
) -> None:
    plugin = tmp_path / "plugins" / "reviewer"
    (plugin / ".claude-plugin").mkdir(parents=True)
    (plugin / ".claude-plugin" / "plugin.json").write_text('{"name": "reviewer"}')
    settings.ROTA_PLUGIN_FOLDERS = [str(plugin.parent)]
    fields = {"now": timezone.now(), "runner": "claude", "repositories": [repository], "plugins": [str(plugin)]}
    here, elsewhere = of(make_schedule(**fields)), of(make_schedule(**fields))  # type: ignore[arg-type]

    assert run(here, worker).reason == "ok"
    settings.ROTA_PLUGIN_FOLDERS = []
    refused = run(elsewhere, worker)
    assert (refused.reason, "in no allowed folder" in refused.message) == ("invalid_options", True)


def test_a_conversation_is_gone_on_with(worker: WorkerHeartbeat, repository: Repository) -> None:
    schedule = make_schedule(
        now=timezone.now(), runner="claude", repositories=[repository], persistence="resume", overlap="allow"
    )
    first = run(of(schedule), worker)
    second = run(of(schedule), worker)

    assert (first.resumed_from, second.status) == (None, "succeeded")
    assert second.resumed_from == first


def test_a_tool_that_was_denied_is_told_without_secrets(worker: WorkerHeartbeat, settings: Settings) -> None:
    settings.ROTA_SECRETS = {"DEPLOY_TOKEN": "canary-47110815"}
    use = {"type": "tool_use", "name": "Bash", "input": {"command": "curl -H canary-47110815 forge"}}
    schedule = make_schedule(
        now=timezone.now(), runner="claude", secrets=["DEPLOY_TOKEN"], rehearsal_script=[[use]], repositories=[]
    )
    session = run(of(schedule), worker)
    assert (session.status, session.reason) == ("failed", "denied")
    assert session.denied == ["Bash: curl -H [redacted] forge"]


def agent(settings: Settings, runner: str = "claude", **fields: object) -> Session:
    """That is not rehearsed: its model has to be one on this machine."""
    settings.ROTA_REHEARSE = False
    settings.ROTA_RUNNERS = {**settings.ROTA_RUNNERS, "wasteful": "tests.schedules.wasteful.WastefulRunner"}
    return of(make_schedule(now=timezone.now(), runner=runner, **fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"max_budget_usd": Decimal("3.50")}, "budget"), ({"max_turns": 3}, "max_turns")],
)
def test_an_agent_that_overruns_its_own_cap_is_ended(
    fields: dict[str, object], reason: str, worker: WorkerHeartbeat, settings: Settings
) -> None:
    session = run(agent(settings, "wasteful", **fields), worker)

    assert (session.status, session.reason) == ("failed", reason), session.message
    assert session.turns >= 4
    assert session.cost_usd == session.turns
    assert session.cost_source == "reckoned"


def test_an_agent_that_is_ended_half_way_has_cost_what_it_used(worker: WorkerHeartbeat, settings: Settings) -> None:
    script = [[{"type": "text", "text": "Let me see."}, READ_README], {"hang": True, "times": 9}]
    with ScriptedModel(script) as model:
        settings.ROTA_CREDENTIALS = {"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": "made-up"}
        session = run(agent(settings, timeout=timedelta(seconds=4)), worker)

    assert (session.status, session.reason) == ("timed_out", "timed_out")
    assert (session.turns, session.cost_source) == (1, "reckoned")
    assert session.cost_usd > 0
    assert session.run.cost_usd == session.cost_usd


def test_a_model_without_a_price_has_a_cost_that_is_not_known(worker: WorkerHeartbeat, settings: Settings) -> None:
    script = [{"model": "my-own-model", "content": [READ_README]}, {"hang": True, "times": 9}]
    with ScriptedModel(script) as model:
        settings.ROTA_CREDENTIALS = {"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": "made-up"}
        session = run(agent(settings, timeout=timedelta(seconds=4), model="my-own-model"), worker)

    assert session.cost_usd == 0
    assert session.cost_source == "unknown"
    assert "no price of my-own-model" in session.message


def test_a_rehearsal_ends_in_a_report(worker: WorkerHeartbeat, repository: Repository, settings: Settings) -> None:
    settings.ROTA_CREDENTIALS = {"ANTHROPIC_API_KEY": "sk-made-up-and-not-used"}
    schedule = make_schedule(
        now=timezone.now(),
        runner="claude",
        allowed_tools=["Read", "Write", "Bash(git log *)", "Bash(no-such-program *)"],
        secrets=["NEVER_SET"],
        repositories=[repository],
    )
    session = run(trigger(schedule, by="ada", rehearse=True, now=timezone.now())[0].sessions.get(), worker)

    report = report_of(session)
    assert report
    assert [gap.what.partition(" is")[0] for gap in report.gaps] == ["no-such-program", "There"]
    assert "NEVER_SET" in report.gaps[1].what
    assert {use.tool.partition(":")[0] for use in report.asked} == {"Bash", "Read", "Write"}
    assert {"fetch", "checkout", "in all", "start"} == set(report.preparation)
    assert report.not_rehearsed == ("Bash(no-such-program *)",)
    assert session.cost_usd == 0
    assert session.cost_source == ""
