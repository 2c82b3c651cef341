"""The form of a schedule: what it takes, what it refuses and where, and what an edit writes."""

import json
import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from schedules import firing, steering
from schedules.admin.schedule_form import ScheduleForm
from schedules.models import Schedule
from schedules.rendering.display import zoned
from tests.schedules.admin.forms import errors_of, filled, form_of, submit
from tests.schedules.factories import make_command, make_repository, make_schedule

ADD = reverse("admin:schedules_schedule_add")


def page_of(schedule: Schedule) -> str:
    return reverse("admin:schedules_schedule_change", args=(schedule.pk,))


def test_a_schedule_is_added_as_people_write_it(console: Client, now: datetime) -> None:
    shop = make_repository("shop")

    response = submit(
        console,
        ADD,
        name="report",
        runner="script",
        argv="python3\ntools/report.py\n--title\nTwo words",
        environment="DAYS=7\nMODE=a=b",
        repositories=[shop.pk],
        cron="*/10 * * * *",
        time_zone="Asia/Tokyo",
        timeout="1h 30m",
        silence="",
        jitter="",
        catch_up="0",
    )

    assert response.status_code == 302, errors_of(response)
    schedule = Schedule.objects.get(name="report")
    assert schedule.argv == ["python3", "tools/report.py", "--title", "Two words"]
    assert schedule.environment == {"DAYS": "7", "MODE": "a=b"}
    assert (schedule.timeout, schedule.silence, schedule.jitter, schedule.catch_up) == (
        timedelta(minutes=90),
        None,
        timedelta(),
        timedelta(),
    )
    assert list(schedule.repositories.all()) == [shop]
    assert schedule.next_run_at
    assert now < schedule.next_run_at <= now + timedelta(minutes=11)
    assert schedule.status_by == "olive"


def test_a_schedule_can_be_added_paused(console: Client) -> None:
    submit(console, ADD, name="later", runner="script", argv="true", cron="@daily", status="paused")

    schedule = Schedule.objects.get(name="later")
    assert (schedule.status, schedule.due_at) == (Schedule.Status.PAUSED, None)


_FUNCTION = {"runner": "function", "function": "todo-report", "prompt": "", "model": ""}


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("name", {"name": "Not A Slug"}),
        ("name", {"name": "taken"}),
        ("prompt", {"runner": "claude", "prompt": ""}),
        ("prompt", {"runner": "claude", "prompt": "See {{ nothing }}"}),
        ("prompt", {"runner": "claude", "prompt": "See {{ var.tone }}"}),
        ("argv", {"runner": "script", "argv": "", "prompt": ""}),
        ("function", {"runner": "function", "function": "", "prompt": ""}),
        ("runner", {"runner": "abacus"}),
        ("cron", {"cron": "every morning"}),
        ("cron", {"cron": "0 0 31 2 *"}),
        ("cron", {"cron": "*/0 * * * *"}),
        ("time_zone", {"time_zone": "Mars/Olympus"}),
        ("time_zone", {"time_zone": ""}),
        ("timeout", {"timeout": "30"}),
        ("timeout", {"timeout": "9d"}),
        ("silence", {"silence": "soon"}),
        ("catch_up", {"catch_up": "60d"}),
        ("max_items", {"max_items": "101"}),
        ("max_sessions", {"max_sessions": "0"}),
        ("environment", {"environment": "NO EQUALS"}),
        ("environment", {"environment": "1A=x"}),
        ("variables", {"variables": "a-b=x"}),
        ("arguments", {**_FUNCTION, "arguments": "{not json"}),
        ("arguments", {**_FUNCTION, "arguments": "[1]"}),
        ("mcp_servers", {"mcp_servers": "{not json"}),
        ("mcp_servers", {"mcp_servers": '{"forge": {"comand": "x"}}'}),
        ("mcp_servers", {"mcp_servers": '{"forge": {"command": "x", "env": {"TOKEN": "${TOKEN}"}}}'}),
        ("mcp_servers", {"mcp_servers": '["a\\u0000b"]'}),
        ("json_schema", {"json_schema": '{"type": "text"}'}),
        ("json_schema", {"json_schema": "[1]"}),
        ("agents", {"agents": '{"reviewer": {}}'}),
        ("plugins", {"plugins": "tools/reviewer"}),
        ("plugins", {"plugins": "/opt/reviewer"}),
        ("effort", {"effort": "mad"}),
        ("rehearsal_script", {"rehearsal_script": "{}"}),
        ("repositories", {"target": "codebase"}),
        ("ends_at", {"starts_at": "2030-01-02 10:00", "ends_at": "2030-01-02 09:00"}),
        ("setting_sources", {"setting_sources": ["everywhere"]}),
        ("secrets", {"secrets": ["NOT_SET"]}),
    ],
)
def test_a_refusal_stands_at_its_field(now: datetime, db: None, field: str, changes: dict[str, Any]) -> None:
    make_schedule("taken", now=now)

    errors = ScheduleForm(written(**changes)).errors

    assert set(errors) == {field}
    assert all(errors[field])


def written(**changes: Any) -> dict[str, Any]:
    """The form of a new agent's schedule, filled in, with these controls changed."""
    good = {"name": "new", "runner": "claude", "prompt": "Hello", "model": "haiku", "cron": "0 9 * * *"}
    return {**filled(ScheduleForm()), **good, **changes}


def test_a_form_that_is_refused_is_shown_again_with_what_was_typed(console: Client) -> None:
    response = submit(console, ADD, name="new", runner="script", argv="", environment="NO EQUALS", timeout="soon")

    assert set(errors_of(response)) == {"argv", "environment", "timeout"}
    assert "NO EQUALS" in response.content.decode()
    assert not Schedule.objects.exists()


def test_a_command_and_a_prompt_are_one_too_many(db: None) -> None:
    make_command("review", target="custom")

    assert set(ScheduleForm(written(command="review")).errors) == {"prompt"}


def test_a_repository_without_a_forge_has_no_issues_to_work_on(db: None, settings: Any) -> None:
    settings.ROTA_TARGETS = {**settings.ROTA_TARGETS, "issues": "of a later day"}
    shop, hub = make_repository("shop"), make_repository("hub", forge="github")
    make_command("issue/fix", target="issues", prompt="Fix {{ number }}.")

    form = ScheduleForm(written(prompt="", target="issues", command="issue/fix", repositories=[shop.pk, hub.pk]))

    assert list(form.errors) == ["repositories"]
    assert "shop: has no forge" in form.errors["repositories"][0]


def test_a_target_that_this_rota_has_not_is_not_on_offer(db: None, settings: Any) -> None:
    settings.ROTA_TARGETS = {"custom": "x"}

    assert 'value="issues"' not in str(ScheduleForm()["target"])


def test_an_edit_writes_only_what_it_changed(console: Client, now: datetime) -> None:
    schedule = make_schedule(now=now, description="old")
    data = filled(form_of(console.get(page_of(schedule)))) | {"description": "new"}
    # While the form is open, beat fires the schedule and its run ends.
    moved = now + timedelta(days=3)
    Schedule.objects.filter(pk=schedule.pk).update(
        next_run_at=moved, due_at=moved, last_run_at=now, last_status="succeeded", run_count=7
    )

    with CaptureQueriesContext(connection) as queries:
        console.post(page_of(schedule), data)

    (written,) = [query["sql"] for query in queries if query["sql"].startswith('UPDATE "schedules_schedule"')]
    assert set(re.findall(r'"(\w+)" = ', written.partition(" WHERE ")[0])) == {"description", "updated_at"}
    if connection.features.has_select_for_update:
        assert any("FOR UPDATE" in query["sql"] for query in queries)
    after = Schedule.objects.get(pk=schedule.pk)
    assert after.description == "new"
    assert (after.next_run_at, after.due_at, after.last_run_at) == (moved, moved, now)
    assert (after.last_status, after.run_count) == ("succeeded", 7)


def test_an_edit_does_not_undo_a_pause_that_came_meanwhile(console: Client, now: datetime) -> None:
    schedule = make_schedule(now=now)
    data = filled(form_of(console.get(page_of(schedule)))) | {"cron": "0 10 * * *"}
    steering.pause([schedule], by="marie", reason="Holidays", now=now)

    assert console.post(page_of(schedule), data).status_code == 302

    after = Schedule.objects.get(pk=schedule.pk)
    assert (after.cron, after.status, after.status_reason, after.due_at) == ("0 10 * * *", "paused", "Holidays", None)


def test_a_new_time_is_planned_from_now_and_never_fires_the_past(console: Client, now: datetime) -> None:
    schedule = make_schedule(now=now - timedelta(days=30), cron="0 9 1 1 *")

    submit(console, page_of(schedule), cron="* * * * *")

    after = Schedule.objects.get(pk=schedule.pk)
    assert after.due_at
    assert after.due_at > now
    assert firing.fire_due(now=now).runs == 0


def test_an_edit_tells_what_became_of_the_time_that_it_took_away(console: Client, now: datetime) -> None:
    later = (now + timedelta(hours=2)).replace(minute=0, second=0, microsecond=0)
    to_come = make_schedule(now=now, cron=f"0 {later.hour} * * *")
    due = make_schedule(now=now - timedelta(minutes=1), cron="* * * * *")  # and beat is away
    assert due.next_run_at

    assert f", and no longer {zoned(later, 'UTC')}." in said(
        console, submit(console, page_of(to_come), cron="59 23 29 2 *")
    )
    told_of_due = said(console, submit(console, page_of(due), cron="59 23 29 2 *"))

    assert f"{zoned(due.next_run_at, 'UTC')} was due by the old times, and is on record." in told_of_due
    assert "no longer" not in told_of_due
    assert due.runs.get().status == "queued"


def said(console: Client, response: Any) -> str:
    return " ".join(str(message) for message in console.get(response.url).context["messages"])


def test_saving_without_a_change_writes_nothing(console: Client, now: datetime) -> None:
    schedule = make_schedule(now=now, runner="claude", allowed_tools=["Read", "Bash(git log *)"])
    before = Schedule.objects.values().get(pk=schedule.pk)

    assert submit(console, page_of(schedule)).status_code == 302
    assert Schedule.objects.values().get(pk=schedule.pk) == before


def test_the_status_has_buttons_and_no_control_on_the_page_of_a_schedule(console: Client, now: datetime) -> None:
    schedule = make_schedule(now=now)

    page = console.get(page_of(schedule))

    assert "status" not in form_of(page).fields
    assert f"{page_of(schedule).removesuffix('change/')}run/" in page.content.decode()


def test_the_page_previews_ten_times_in_the_zone_of_the_schedule(console: Client, now: datetime) -> None:
    schedule = make_schedule(now=now, cron="0 9 * * *", time_zone="Asia/Kolkata")

    page = console.get(page_of(schedule)).content.decode()

    assert page.count("09:00 +05:30") >= 10


def test_what_only_agents_have_is_marked_for_the_page_s_script(console: Client) -> None:
    page = console.get(ADD).content.decode()

    assert re.search(r'name="prompt"[^>]*data-rota-when="runner=claude,codex"', page)
    assert re.search(r'name="model"[^>]*data-rota-when="runner=claude,codex"', page)
    assert re.search(r'name="max_turns"[^>]*data-rota-when="runner=claude"', page)
    assert re.search(r'name="argv"[^>]*data-rota-when="runner=script"', page)
    assert re.search(r'name="function"[^>]*data-rota-when="runner=function"', page)
    assert re.search(r'name="setting_sources"[^>]*data-rota-choices="[^"]*codex&quot;: \[&quot;project&quot;\]', page)
    assert re.search(r'name="model"[^>]*data-rota-suggestions="[^"]*gpt-', page)


def test_of_a_runner_that_is_gone_all_fields_are_shown(now: datetime, db: None) -> None:
    form = ScheduleForm(instance=Schedule(runner="abacus"))

    assert form.fields["argv"].widget.attrs["data-rota-when"] == "runner=script,abacus"
    assert form.fields["prompt"].widget.attrs["data-rota-when"] == "runner=claude,codex,abacus"


# Another runner


def test_what_a_runner_does_not_take_is_emptied_and_told(console: Client, now: datetime) -> None:
    schedule = make_schedule(
        now=now,
        runner="claude",
        prompt="Hello.",
        model="haiku",
        allowed_tools=["Read"],
        permission_mode="plan",
        max_turns=5,
        persistence="resume",
        json_schema={"type": "object"},
        variables={"tone": "dry"},
    )

    response = submit(console, page_of(schedule), runner="script", argv="true")

    schedule.refresh_from_db()
    assert response.status_code == 302
    assert (schedule.runner, schedule.argv, schedule.variables) == ("script", ["true"], {"tone": "dry"})
    assert (schedule.prompt, schedule.model, schedule.allowed_tools, schedule.max_turns) == ("", "", [], None)
    assert (schedule.permission_mode, schedule.persistence, schedule.json_schema) == ("dontAsk", "fresh", {})
    assert told(console, response) == [
        "Emptied, for the runner script takes none: Prompt, Conversation, Model, Permission mode, Allowed tools, "
        "Max turns, Result schema."
    ]


def test_of_its_choices_those_that_another_agent_knows_are_kept(console: Client, now: datetime) -> None:
    schedule = make_schedule(
        now=now,
        runner="claude",
        prompt="Hello.",
        model="haiku",
        effort="max",
        setting_sources=["user", "project"],
        max_budget_usd="0.50",
    )

    response = submit(console, page_of(schedule), runner="codex", model="gpt-6-luna")

    schedule.refresh_from_db()
    assert (schedule.runner, schedule.effort, schedule.setting_sources) == ("codex", "", ["project"])
    assert (schedule.prompt, schedule.max_budget_usd) == ("Hello.", None)
    assert [message for message in told(console, response) if message.startswith("Emptied")] == [
        "Emptied, for the runner codex takes none: Effort, Money limit (USD), Setting sources."
    ]


def test_what_is_written_in_a_field_that_nobody_sees_is_no_obstacle(db: None) -> None:
    form = ScheduleForm(written(arguments="{not json", argv="a\nb"))

    assert form.is_valid(), form.errors
    assert form.emptied == ["argv", "arguments"]


def test_what_an_agent_is_given_is_kept_as_it_is_written(console: Client) -> None:
    server = {"forge": {"command": "forge-mcp", "env": {"TOKEN": "${TOKEN}"}}}
    schema = {"type": "object", "properties": {"verdict": {"enum": ["fine", "broken"]}}}
    submit(
        console,
        ADD,
        name="new",
        runner="claude",
        prompt="Hello",
        model="haiku",
        effort="high",
        agents='{"reviewer": {"description": "Reviews", "prompt": "You review."}}',
        setting_sources=["project"],
        plugins="tools/one\ntools/two",
        environment="TOKEN=made-up",
        mcp_servers=json.dumps(server),
        json_schema=json.dumps(schema),
    )

    schedule = Schedule.objects.get(name="new")
    assert (schedule.mcp_servers, schedule.json_schema, schedule.effort) == (server, schema, "high")
    assert (schedule.plugins, list(schedule.agents)) == (["tools/one", "tools/two"], ["reviewer"])
    options = schedule.snapshot()["options"]
    assert {**options, "mcp_servers": server, "json_schema": schema, "plugins": schedule.plugins} == options


def told(console: Client, response: Any) -> list[str]:
    return [str(message) for message in console.get(response.url).context["messages"] if message.level_tag == "warning"]


def test_a_runner_that_is_gone_stays_on_show_with_its_problem(console: Client, now: datetime) -> None:
    schedule = make_schedule(now=now)
    Schedule.objects.filter(pk=schedule.pk).update(runner="abacus")

    errors = errors_of(submit(console, page_of(schedule), description="x"))

    assert "There is no runner “abacus”" in errors["runner"][0]


def test_secrets_on_offer_are_those_that_are_set(console: Client, settings: Any) -> None:
    settings.ROTA_SECRETS = {"NPM_TOKEN": "s3cret-value"}

    page = console.get(ADD).content.decode()

    assert "NPM_TOKEN" in page
    assert "s3cret-value" not in page
