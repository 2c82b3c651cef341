"""What a browser is told while the database does not answer."""

import time

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone

from config.unavailable import Unavailable
from schedules.models import Schedule
from tests.schedules.factories import make_schedule
from tests.schedules.locks import somebody_holding, waits_no_longer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def console() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("olive", "olive@example.org", "secret"))
    return client


def test_who_sends_something_while_it_is_locked_is_told_and_can_send_it_again(console: Client) -> None:
    schedule = make_schedule(now=timezone.now())
    pause = reverse("admin:schedules_schedule_changelist")
    wish = {"action": "pause_selected", "_selected_action": [schedule.pk], "reason": "Holidays", "confirmed": "yes"}

    with somebody_holding(schedule), waits_no_longer():
        refused = console.post(pause, wish)

    assert refused.status_code == 503
    assert refused["Retry-After"] == "5"
    told = refused.content.decode()
    assert "Its database is locked, restarted or away." in told
    assert "What you sent was not saved, or not all of it." in told
    schedule.refresh_from_db()
    assert schedule.status == Schedule.Status.ACTIVE

    console.post(pause, wish)
    schedule.refresh_from_db()
    assert schedule.status == Schedule.Status.PAUSED


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite is a file: there is no connection to lose")
def test_who_looks_while_it_restarts_is_told_to_look_again(console: Client) -> None:
    page = reverse("admin:schedules_schedule_changelist")
    with connection.cursor() as cursor:
        cursor.execute("SET idle_session_timeout = '1ms'")
    time.sleep(0.2)

    refused = console.get(page)

    assert refused.status_code == 503
    assert "Load this page again" in refused.content.decode()
    connection.close()
    assert console.get(page).status_code == 200


def test_a_fault_of_another_kind_is_shown_as_ever() -> None:
    nobody = lambda _: HttpResponse()  # noqa: E731
    assert Unavailable(nobody).process_exception(RequestFactory().get("/"), ValueError("odd")) is None
