from datetime import datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from schedules.models import Run
from tests.schedules.admin.lists import page_costs_the_same
from tests.schedules.factories import (
    make_repository,
    make_run,
    make_schedule,
    make_session,
    make_worker,
)

HOME = reverse("admin:index")


def test_an_empty_house_says_what_to_do_first(console: Client) -> None:
    page = console.get(HOME).content.decode()

    assert "Nothing is on the rota yet" in page
    assert reverse("admin:schedules_repository_add") in page
    assert reverse("admin:schedules_schedule_add") in page
    assert "Nothing is heard of: beat, control, sessions" in page


def test_it_tells_what_is_next_what_runs_and_what_went_wrong(console: Client, now: datetime) -> None:
    make_schedule("soon", now=now, cron="*/5 * * * *")
    make_schedule("not-me", now=now, status="paused")
    broken = make_schedule("broken", now=now, cron="")
    make_run(broken, now=now, status=Run.Status.FAILED, message="It broke")
    make_session(make_run(broken, now=now, status="running"), now=now, status="running", activity="Reading cart.py")
    make_session(make_run(broken, now=now), now=now)
    for kind in ("beat", "control", "sessions"):
        make_worker(f"{kind}@here", now=now, kind=kind)
    make_worker("sessions@gone", now=now - timedelta(minutes=5))

    page = console.get(HOME).content.decode()

    for part in ("soon", "Every 5 minutes", "Reading cart.py", "1 waiting", "some sessions did not succeed"):
        assert part in page, part
    assert "not-me" not in page
    assert "Nothing is heard of" not in page
    assert page.count("rota-is-alive") == 3
    assert page.count("rota-is-silent") == 1
    assert "No API key: agents are rehearsed." in page


def test_it_costs_the_same_queries_however_much_there_is(console: Client, now: datetime) -> None:
    def more(count: int) -> None:
        for _ in range(count):
            schedule = make_schedule(now=now)
            make_run(schedule, now=now, status=Run.Status.FAILED, repository=make_repository())
            make_session(make_run(schedule, now=now, status="running"), now=now, status="running")
            make_worker(now=now)

    page_costs_the_same(console, HOME, more, few=1, many=21)


def test_one_sees_only_what_one_may(stranger: Client, now: datetime) -> None:
    make_run(make_schedule("secret", now=now), now=now, status=Run.Status.FAILED)

    page = stranger.get(HOME).content.decode()

    assert "secret" not in page
    for model in ("schedule", "run", "session", "repository"):
        assert reverse(f"admin:schedules_{model}_changelist") not in page


@pytest.mark.parametrize("rehearsing", [True, False])
def test_every_screen_says_that_agents_are_rehearsed(
    console: Client, now: datetime, settings: Any, rehearsing: bool
) -> None:
    settings.ROTA_REHEARSE = None if rehearsing else False
    session = make_session(now=now)
    screens = [
        HOME,
        *(reverse(f"admin:schedules_{model}_changelist") for model in ("schedule", "run", "session", "command")),
        reverse("admin:schedules_run_change", args=(session.run_id,)),
        reverse("admin:schedules_session_change", args=(session.pk,)),
        reverse("admin:schedules_schedule_change", args=(session.schedule_id,)),
        reverse("admin:schedules_schedule_run_now", args=(session.schedule_id,)),
    ]

    for url in screens:
        assert ("No API key: agents are rehearsed." in console.get(url).content.decode()) is rehearsing, url


def test_with_one_vendors_key_only_the_schedules_of_the_other_agent_are_said_to_be_rehearsed(
    console: Client, now: datetime, settings: Any
) -> None:
    settings.ROTA_CREDENTIALS = {"ANTHROPIC_API_KEY": "made-up"}
    claude = make_schedule(now=now, runner="claude")
    run_now = reverse("admin:schedules_schedule_run_now", args=(claude.pk,))
    assert "rehearsed" not in console.get(HOME).content.decode()

    codex = make_schedule(now=now, runner="codex", model="gpt-5.5")
    for url in (HOME, run_now):
        page = console.get(url).content.decode()
        assert "No API key: schedules of codex are rehearsed." in page
        assert "<code>OPENAI_API_KEY</code>" in page
    assert "it is rehearsed" not in console.get(run_now).content.decode()
    other = console.get(reverse("admin:schedules_schedule_run_now", args=(codex.pk,))).content.decode()
    assert "No API key: it is rehearsed." in other
    page = console.get(reverse("admin:schedules_schedule_changelist")).content.decode()
    assert page.count('title="No API key"') == 1


def test_when_all_is_rehearsed_by_wish_the_setting_is_named(console: Client, settings: Any) -> None:
    settings.ROTA_REHEARSE = True
    page = console.get(HOME).content.decode()
    assert "ROTA_REHEARSE is on: agents are rehearsed." in page
    assert "<code>ROTA_REHEARSE=false</code>" in page


def test_who_has_not_signed_in_is_told_nothing(client: Client, db: None, settings: Any) -> None:
    settings.ROTA_REHEARSE = True

    assert "rehearsed" not in client.get(reverse("admin:login")).content.decode()
