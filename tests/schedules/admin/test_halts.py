"""Stop everything, lift the stop, and freeze windows, from the console."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from schedules import stopping
from schedules.models import Freeze, Run, Session, Stop
from tests.schedules.factories import make_run, make_schedule, make_session

STOP, LIFT = reverse("admin:schedules_stop_stop_everything"), reverse("admin:schedules_stop_lift")
STOPS, FREEZES = reverse("admin:schedules_stop_changelist"), reverse("admin:schedules_freeze_changelist")
HOUR = timedelta(hours=1)

pytestmark = pytest.mark.django_db


def test_the_dashboard_leads_to_the_stop_and_every_page_tells_of_it(console: Client) -> None:
    assert STOP in console.get(reverse("admin:index")).content.decode()

    asked = console.get(STOP)
    assert "Nothing is fired" in asked.content.decode()
    assert not Stop.objects.exists()
    console.post(STOP, {"reason": "bad model <b>"})

    stop = Stop.objects.get()
    assert (stop.set_by, stop.reason) == ("olive", "bad model <b>")
    for page in (reverse("admin:index"), STOPS, reverse("admin:schedules_schedule_changelist")):
        shown = console.get(page).content.decode()
        assert "Everything is stopped" in shown
        assert "by olive, until somebody lifts it: bad model &lt;b&gt;" in shown
        assert LIFT in shown
    assert STOP not in console.get(reverse("admin:index")).content.decode()


def test_what_runs_is_cancelled_where_that_is_asked_for(console: Client, now: datetime) -> None:
    session = make_session(now=now, status="running")
    console.post(STOP, {"reason": "x", "cancel_running": "on"})
    assert Session.objects.get(pk=session.pk).cancel_requested_by == "olive"


def test_a_stop_wants_a_reason_and_there_is_one_at_a_time(console: Client, now: datetime) -> None:
    assert console.post(STOP, {"reason": ""}).status_code == 400
    stopping.stop(by="ada", reason="first", now=now)
    refused = console.post(STOP, {"reason": "second"})
    assert refused.status_code == 400
    assert "stopped by ada" in refused.content.decode()
    assert Stop.objects.count() == 1


def test_it_is_lifted_with_what_has_changed(console: Client, now: datetime) -> None:
    stopping.stop(by="ada", reason="bad model", now=now)
    assert "bad model" in console.get(LIFT).content.decode()
    assert Stop.objects.in_force().exists()

    console.post(LIFT, {"reason": "good model"})

    assert Stop.objects.values_list("lifted_by", "lift_reason").get() == ("olive", "good model")
    assert "Everything is stopped" not in console.get(STOPS).content.decode()
    assert "good model" in console.get(STOPS).content.decode()


@pytest.mark.parametrize("url", [STOP, LIFT])
def test_who_may_only_look_may_neither_stop_nor_lift(onlooker: Client, now: datetime, url: str) -> None:
    if url == LIFT:
        stopping.stop(by="ada", reason="x", now=now)
    before = Stop.objects.in_force().count()
    assert onlooker.post(url, {"reason": "x"}).status_code == 403
    assert Stop.objects.in_force().count() == before
    assert url not in onlooker.get(reverse("admin:index")).content.decode()


def test_who_may_stop_may_not_lift_unless_that_is_allowed_too(now: datetime) -> None:
    user = User.objects.create_user("guard", password="secret", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=("add_stop", "view_stop")))
    client = Client()
    client.force_login(user)

    assert client.post(STOP, {"reason": "x"}).status_code == 302
    assert client.post(LIFT, {"reason": "x"}).status_code == 403
    assert Stop.objects.in_force().exists()


def test_a_forged_stop_is_refused(operator: Any) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(operator)
    assert client.post(STOP, {"reason": "x"}).status_code == 403


def _window(now: datetime, **changes: object) -> dict[str, object]:
    return {
        "reason": "release",
        "starts_at_0": f"{now - HOUR:%Y-%m-%d}",
        "starts_at_1": f"{now - HOUR:%H:%M:%S}",
        "ends_at_0": f"{now + HOUR:%Y-%m-%d}",
        "ends_at_1": f"{now + HOUR:%H:%M:%S}",
        **changes,
    }


def test_a_freeze_window_is_made_shown_and_edited(console: Client, now: datetime) -> None:
    schedule = make_schedule("nightly", now=now)

    console.post(reverse("admin:schedules_freeze_add"), _window(now, schedules=[schedule.pk]))

    freeze = Freeze.objects.get()
    assert (freeze.created_by, freeze.reason, list(freeze.schedules.all())) == ("olive", "release", [schedule])
    listed = console.get(FREEZES).content.decode()
    assert "nightly" in listed
    assert "rota-is-frozen" in listed
    assert "Everything is frozen" not in listed
    console.post(reverse("admin:schedules_freeze_change", args=(freeze.pk,)), _window(now, reason="holidays"))
    assert Freeze.objects.values_list("reason", "created_by").get() == ("holidays", "olive")
    assert "Everything is frozen" in console.get(reverse("admin:index")).content.decode()


def test_a_freeze_that_ends_before_it_begins_is_refused_in_a_sentence(console: Client, now: datetime) -> None:
    refused = console.post(
        reverse("admin:schedules_freeze_add"), _window(now, ends_at_0=f"{now - timedelta(days=2):%Y-%m-%d}")
    )
    assert "The end must be after the start." in refused.content.decode()
    assert not Freeze.objects.exists()


def test_a_freeze_is_ended_now(console: Client, onlooker: Client, now: datetime) -> None:
    freeze = stopping.freeze(starts_at=now - HOUR, ends_at=now + HOUR, reason="x", by="ada")
    url = reverse("admin:schedules_freeze_end_now", args=(freeze.pk,))

    assert onlooker.post(url).status_code == 403
    assert console.get(url).status_code == 200
    assert Freeze.objects.in_force(now).exists()
    console.post(url)

    assert not Freeze.objects.in_force(now + timedelta(minutes=1)).exists()


def test_the_list_takes_the_same_number_of_queries_for_one_window_and_for_many(
    console: Client, now: datetime, django_assert_max_num_queries: Any
) -> None:
    for number in range(12):
        schedules = [make_schedule(now=now) for _ in range(number % 5)]
        stopping.freeze(starts_at=now - HOUR, ends_at=now + HOUR, reason="x", schedules=schedules, by="ada")
    with django_assert_max_num_queries(20):
        assert "1 more" in console.get(FREEZES).content.decode()


def test_the_page_of_a_schedule_says_why_it_does_not_run_now(console: Client, now: datetime) -> None:
    frozen, other = make_schedule(now=now), make_schedule(now=now)
    stopping.freeze(starts_at=now - HOUR, ends_at=now + HOUR, reason="release week", schedules=[frozen], by="ada")
    shown, not_shown = (
        console.get(reverse("admin:schedules_schedule_change", args=(one.pk,))).content.decode()
        for one in (frozen, other)
    )
    assert "Frozen by ada" in shown
    assert "release week" not in not_shown


@pytest.mark.parametrize("verb", ["schedule_run_now", "schedule_backfill", "run_retry"])
def test_what_nothing_would_come_of_is_told_before_and_has_no_button(console: Client, now: datetime, verb: str) -> None:
    schedule = make_schedule(now=now)
    run = make_run(schedule, now=now, status=Run.Status.FAILED)
    url = reverse(f"admin:schedules_{verb}", args=(run.pk if verb == "run_retry" else schedule.pk,))
    button = '<button type="submit" class="rota-button'
    assert button in console.get(url).content.decode()
    stopping.freeze(starts_at=now - HOUR, ends_at=now + HOUR, reason="release week", schedules=[schedule], by="ada")

    told = console.get(url)

    assert told.status_code == 200
    assert "release week" in told.content.decode()
    assert "nothing of it can be run by hand" in told.content.decode()
    assert button not in told.content.decode()
    refused = console.post(url)
    assert refused.status_code == 400
    assert "release week" in refused.content.decode()
    assert Run.objects.count() == 1
