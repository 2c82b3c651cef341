"""What one can do to schedules from their list and their pages."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from schedules import steering
from schedules.models import Run, Schedule, Session
from tests.schedules.factories import (
    make_repository,
    make_run,
    make_schedule,
    make_session,
)

LIST = reverse("admin:schedules_schedule_changelist")


def to(schedule: Schedule, verb: str) -> str:
    return reverse(f"admin:schedules_schedule_{verb}", args=(schedule.pk,))


def page_of(schedule: Schedule) -> str:
    return reverse("admin:schedules_schedule_change", args=(schedule.pk,))


VERBS = ("run_now", "pause", "resume", "disable", "duplicate", "toggle")


@pytest.mark.parametrize("verb", VERBS)
def test_a_get_changes_nothing(console: Client, now: datetime, verb: str) -> None:
    schedule = make_schedule(now=now)
    before = Schedule.objects.values().get()

    response = console.get(to(schedule, verb))

    assert response.status_code == (405 if verb == "toggle" else 200)
    assert Schedule.objects.values().get() == before
    assert not Run.objects.exists()


@pytest.mark.parametrize("verb", VERBS)
def test_who_may_only_look_may_do_nothing(onlooker: Client, now: datetime, verb: str) -> None:
    schedule = make_schedule(now=now)
    before = Schedule.objects.values().get()

    response = onlooker.post(to(schedule, verb), {"reason": "x", "name": "y"})

    assert response.status_code == 403
    assert Schedule.objects.values().get() == before
    assert not Run.objects.exists()


@pytest.mark.parametrize("verb", VERBS)
def test_a_visitor_is_sent_to_sign_in(client: Client, now: datetime, db: None, verb: str) -> None:
    schedule = make_schedule(now=now)

    response = client.post(to(schedule, verb), {"reason": "x", "name": "y"})

    assert response.status_code == 302
    assert response.headers["Location"].startswith(reverse("admin:login"))
    assert Schedule.objects.get().status == "active"


def test_a_forged_post_is_refused(operator: Any, now: datetime) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(operator)
    schedule = make_schedule(now=now)

    assert client.post(to(schedule, "toggle")).status_code == 403
    assert client.post(to(schedule, "run_now")).status_code == 403
    assert not Run.objects.exists()


@pytest.mark.parametrize("object_id", ["999", "nonsense", "9" * 30, "1/../../2"])
def test_a_schedule_that_is_not_there_is_not_found(console: Client, object_id: str) -> None:
    assert console.get(f"{LIST}{object_id}/run/").status_code == 404
    assert console.get(f"{LIST}{object_id}/change/").headers["Location"] == reverse("admin:index")


# --- Run now ------------------------------------------------------------------------------------


def test_run_now_makes_a_run_and_shows_it(console: Client, now: datetime) -> None:
    schedule = make_schedule(now=now, repositories=[make_repository("shop")])

    response = console.post(to(schedule, "run_now"))

    run = Run.objects.get()
    assert (run.trigger, run.triggered_by, run.status) == ("manual", "olive", "queued")
    assert response.headers["Location"] == reverse("admin:schedules_run_change", args=(run.pk,))


def test_run_now_asks_where_and_with_which_variables(console: Client, now: datetime, settings: Any) -> None:
    settings.ROTA_REHEARSE = False
    shop, infra = make_repository("shop"), make_repository("infra")
    schedule = make_schedule(
        now=now,
        runner="claude",
        prompt="Be {{ var.tone }}.",
        variables={"tone": "brief"},
        repositories=[shop, infra],
    )

    asked = console.get(to(schedule, "run_now")).content.decode()
    console.post(to(schedule, "run_now"), {"repository": infra.pk, "variables": "tone=long", "rehearse": "on"})

    assert "tone=brief" in asked
    run = Run.objects.get()
    assert (run.repository, run.variables, run.is_rehearsal) == (infra, {"tone": "long"}, True)


def test_run_now_everywhere_shows_all_runs(console: Client, now: datetime) -> None:
    schedule = make_schedule(now=now, repositories=[make_repository(), make_repository()])

    response = console.post(to(schedule, "run_now"), {"repository": ""}, follow=True)

    assert Run.objects.count() == 2
    assert response.status_code == 200
    assert len(response.context["cl"].result_list) == 2


def test_run_now_leaves_out_a_repository_that_is_off(console: Client, now: datetime) -> None:
    shop, off = make_repository("shop"), make_repository("off", enabled=False)
    some, none = make_schedule(now=now, repositories=[shop, off]), make_schedule(now=now, repositories=[off])

    console.post(to(some, "run_now"))
    refused = console.post(to(none, "run_now"))

    assert [run.repository for run in Run.objects.all()] == [shop]
    assert "The repository off is off." in refused.content.decode()


def test_a_refusal_is_shown_where_it_was_asked(console: Client, now: datetime) -> None:
    schedule = make_schedule(now=now)
    make_run(schedule, now=now, status=Run.Status.RUNNING)

    response = console.post(to(schedule, "run_now"))

    assert response.status_code == 400
    assert "is still running; the overlap policy is to skip" in response.content.decode()
    assert Run.objects.count() == 1


def test_a_variable_that_the_schedule_has_not_is_refused(console: Client, now: datetime) -> None:
    schedule = make_schedule(now=now, variables={"tone": "brief"})

    response = console.post(to(schedule, "run_now"), {"variables": "tone=x\nother=y"})

    assert "has no variable other" in response.content.decode()


# --- Pause, resume, disable ---------------------------------------------------------------------


def test_a_pause_asks_why_and_tells_everybody(console: Client, now: datetime) -> None:
    schedule = make_schedule(now=now)

    refused = console.post(to(schedule, "pause"), {"reason": " "})
    console.post(to(schedule, "pause"), {"reason": "Waits for the lock file"})

    assert refused.status_code == 400
    after = Schedule.objects.get()
    assert (after.status, after.status_reason, after.status_by) == ("paused", "Waits for the lock file", "olive")
    assert after.due_at is None
    assert "Waits for the lock file" in console.get(page_of(schedule)).content.decode()


def test_a_pause_takes_back_what_was_fired_and_has_not_begun(console: Client, now: datetime) -> None:
    schedule = make_schedule(now=now)
    fired = make_session(make_run(schedule, now=now, trigger="schedule"), now=now)

    console.post(to(schedule, "pause"), {"reason": "Stop"})

    assert Session.objects.get(pk=fired.pk).status == "cancelled"


def test_a_schedule_is_resumed_from_now_on(console: Client, now: datetime) -> None:
    schedule = make_schedule(now=now - timedelta(days=9))
    steering.pause([schedule], by="marie", reason="x", now=now - timedelta(days=8))

    console.post(to(schedule, "resume"))

    after = Schedule.objects.get()
    assert (after.status, after.status_by) == ("active", "olive")
    assert after.due_at
    assert after.due_at > now


def test_a_schedule_whose_time_can_not_be_read_is_not_resumed(console: Client, now: datetime) -> None:
    schedule = make_schedule(now=now, status="paused")
    Schedule.objects.filter(pk=schedule.pk).update(cron="nonsense")

    response = console.post(to(schedule, "resume"), follow=True)

    assert "can&#x27;t be resumed" in response.content.decode()
    assert Schedule.objects.get().status == "paused"


def test_a_disabled_schedule_has_no_run_now(console: Client, now: datetime) -> None:
    schedule = make_schedule(now=now)

    console.post(to(schedule, "disable"), {"reason": "Retired"})

    assert Schedule.objects.get().status == "disabled"
    page = console.get(page_of(schedule)).content.decode()
    assert to(schedule, "run_now") not in page
    assert to(schedule, "resume") in page
    assert "is disabled: Retired" in console.post(to(schedule, "run_now")).content.decode()


def test_the_switch_in_the_list_pauses_and_resumes_and_comes_back(console: Client, now: datetime) -> None:
    schedule = make_schedule(now=now)
    where = f"{LIST}?status__exact=active"

    there = console.post(to(schedule, "toggle"), {"next": where})
    paused = Schedule.objects.get().status
    console.post(to(schedule, "toggle"), {"next": where})

    assert (there.headers["Location"], paused) == (where, "paused")
    assert Schedule.objects.get().status == "active"


@pytest.mark.parametrize("elsewhere", ["https://evil.example/", "//evil.example", "javascript:alert(1)", ""])
def test_the_switch_leads_nowhere_else(console: Client, now: datetime, elsewhere: str) -> None:
    response = console.post(to(make_schedule(now=now), "toggle"), {"next": elsewhere})

    assert response.headers["Location"] == LIST


def test_a_selection_is_paused_for_one_reason(console: Client, now: datetime) -> None:
    chosen, other = [make_schedule(now=now) for _ in range(2)], make_schedule(now=now)
    selected = {"action": "pause_selected", "_selected_action": [schedule.pk for schedule in chosen]}

    asked = console.post(LIST, selected)
    untouched = Schedule.objects.filter(status="paused").count()
    refused = console.post(LIST, selected | {"confirmed": "1", "reason": ""})
    done = console.post(LIST, selected | {"confirmed": "1", "reason": "Holidays"}, follow=True)

    assert "Pause 2 schedules" in asked.content.decode()
    assert (untouched, refused.status_code) == (0, 400)
    assert "2 paused." in done.content.decode()
    assert set(Schedule.objects.filter(status_reason="Holidays")) == set(chosen)
    assert Schedule.objects.get(pk=other.pk).status == "active"


def test_a_selection_is_resumed_but_for_what_can_not_be_read(console: Client, now: datetime) -> None:
    schedules = [make_schedule(now=now, status="paused") for _ in range(3)]
    Schedule.objects.filter(pk=schedules[0].pk).update(cron="nonsense")

    selected = {"action": "resume_selected", "_selected_action": [row.pk for row in schedules]}
    page = console.post(LIST, selected, follow=True).content.decode()

    assert set(Schedule.objects.filter(status="active", due_at__isnull=False)) == set(schedules[1:])
    assert "2 resumed." in page
    assert f"{schedules[0]} can&#x27;t be resumed" in page


def test_who_may_only_look_has_no_actions_on_a_selection(onlooker: Client, now: datetime) -> None:
    schedule = make_schedule(now=now)

    onlooker.post(LIST, {"action": "resume_selected", "_selected_action": [schedule.pk]})
    page = onlooker.get(LIST).content.decode()

    assert Schedule.objects.get().status == "active"
    assert "pause_selected" not in page


# --- Duplicate ----------------------------------------------------------------------------------


def test_a_copy_is_paused_and_has_no_history(console: Client, now: datetime) -> None:
    shop = make_repository("shop")
    schedule = make_schedule("nightly", now=now, repositories=[shop], argv=["make", "all"])
    make_run(schedule, now=now, status=Run.Status.SUCCEEDED)
    Schedule.objects.filter(pk=schedule.pk).update(run_count=3, last_status="succeeded", last_run_at=now)

    offered = console.get(to(schedule, "duplicate")).content.decode()
    response = console.post(to(schedule, "duplicate"), {"name": "weekly"})

    copy = Schedule.objects.get(name="weekly")
    assert 'value="nightly-copy"' in offered
    assert response.headers["Location"] == page_of(copy)
    assert (copy.status, copy.due_at, copy.run_count, copy.last_status) == ("paused", None, 0, "")
    assert (copy.argv, list(copy.repositories.all())) == (["make", "all"], [shop])
    assert not copy.runs.exists()
    assert LogEntry.objects.filter(object_id=str(copy.pk)).exists()


@pytest.mark.parametrize("name", ["nightly", "Not A Slug", ""])
def test_a_copy_needs_a_name_of_its_own(console: Client, now: datetime, name: str) -> None:
    schedule = make_schedule("nightly", now=now)

    assert console.post(to(schedule, "duplicate"), {"name": name}).status_code == 400
    assert Schedule.objects.count() == 1
