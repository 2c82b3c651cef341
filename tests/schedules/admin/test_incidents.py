"""Incidents in the console: listed, told and acknowledged."""

from datetime import datetime, timedelta

import pytest
from django.test import Client
from django.urls import reverse

from schedules.models import Incident
from tests.schedules.admin.lists import page_costs_the_same
from tests.schedules.factories import make_run, make_schedule, make_session

LIST = reverse("admin:schedules_incident_changelist")
HOME = reverse("admin:index")


def make_incident(kind: str = "missed", subject: str = "", *, now: datetime, message: str = "!") -> Incident:
    Incident.objects.alarm(kind, subject, message=message, now=now)
    return Incident.objects.get(kind=kind, subject=subject, recovered_at=None)


def page_of(incident: Incident) -> str:
    return reverse("admin:schedules_incident_change", args=(incident.pk,))


def dialog_of(incident: Incident) -> str:
    return reverse("admin:schedules_incident_acknowledge", args=(incident.pk,))


def test_the_open_ones_come_first_then_those_that_somebody_sees_to(console: Client, now: datetime) -> None:
    over, seen, new = (make_incident(kind, now=now) for kind in ("missed", "disk_full", "no_worker"))
    Incident.objects.recover("missed", now=now + timedelta(hours=1))
    Incident.objects.acknowledge(seen.pk, by="ada", now=now)

    rows = console.get(LIST).context["cl"].result_list
    assert [row.pk for row in rows] == [new.pk, seen.pk, over.pk]
    assert [row.pk for row in console.get(LIST, {"state": "open"}).context["cl"].result_list] == [new.pk, seen.pk]
    assert [row.pk for row in console.get(LIST, {"state": "recovered"}).context["cl"].result_list] == [over.pk]


def test_a_person_says_that_they_see_to_it(console: Client, now: datetime) -> None:
    incident = make_incident(now=now)
    assert dialog_of(incident) in console.get(LIST).content.decode()

    assert console.get(dialog_of(incident)).status_code == 200
    incident.refresh_from_db()
    assert incident.acknowledged_at is None, "a look changes nothing"

    assert console.post(dialog_of(incident)).status_code == 302
    incident.refresh_from_db()
    assert (incident.acknowledged_by, incident.recovered_at) == ("olive", None)
    assert dialog_of(incident) not in console.get(LIST).content.decode()
    assert "olive" in console.get(page_of(incident)).content.decode()


def test_two_who_acknowledge_at_once_are_told(console: Client, now: datetime) -> None:
    incident = make_incident(now=now)
    Incident.objects.acknowledge(incident.pk, by="ada", now=now)
    assert "Somebody was faster" in console.post(dialog_of(incident), follow=True).content.decode()
    incident.refresh_from_db()
    assert incident.acknowledged_by == "ada"


def test_its_page_tells_all_of_it(console: Client, now: datetime) -> None:
    schedule = make_schedule("nightly", now=now)
    Incident.objects.alarm("paused_by_rota", "nightly", message="Paused. <b>No</b>", schedule=schedule, now=now)
    page = console.get(page_of(Incident.objects.get())).content.decode()
    assert "Paused. &lt;b&gt;No&lt;/b&gt;" in page
    assert reverse("admin:schedules_schedule_change", args=(schedule.pk,)) in page


def test_an_onlooker_looks_and_changes_nothing(onlooker: Client, now: datetime) -> None:
    incident = make_incident(now=now)
    assert dialog_of(incident) not in onlooker.get(LIST).content.decode()
    assert dialog_of(incident) not in onlooker.get(page_of(incident)).content.decode()
    assert onlooker.post(dialog_of(incident)).status_code == 403


def test_a_stranger_sees_none_of_it(stranger: Client, now: datetime) -> None:
    incident = make_incident(now=now, message="secret trouble")
    assert stranger.get(LIST).status_code == 403
    assert stranger.get(page_of(incident)).status_code == 403
    assert "secret trouble" not in stranger.get(HOME).content.decode()


def test_the_first_page_and_the_sidebar_tell_of_the_open_ones(console: Client, now: datetime) -> None:
    make_incident("beat_silent", now=now, message="Beat was never heard of.")
    page = console.get(HOME).content.decode()
    assert "Beat was never heard of." in page
    assert page.count(LIST) >= 2

    Incident.objects.recover("beat_silent", now=now)
    assert "Beat was never heard of." not in console.get(HOME).content.decode()


@pytest.mark.parametrize("url", [LIST, HOME])
def test_many_cost_no_more_queries_than_one(console: Client, now: datetime, url: str) -> None:
    schedule = make_schedule(now=now)

    def more(count: int) -> None:
        for _ in range(count):
            subject = f"cause {Incident.objects.count()}"
            Incident.objects.alarm("no_success", subject, message="!", schedule=schedule, now=now)

    page_costs_the_same(console, url, more, few=1, many=21)


# --- attempts and late reports ---


def test_a_run_and_its_sessions_link_their_attempts(console: Client, now: datetime) -> None:
    run = make_run(now=now, status="running")
    first = make_session(run, now=now, status="failed", number=1)
    second = make_session(run, now=now, status="succeeded", number=1, attempt=2, retry_of=first)
    make_session(run, now=now, number=2)

    page = console.get(reverse("admin:schedules_run_change", args=(run.pk,))).content.decode()
    assert page.count("attempt 2") == 1
    page = console.get(reverse("admin:schedules_session_change", args=(second.pk,))).content.decode()
    assert reverse("admin:schedules_session_change", args=(first.pk,)) in page
    assert "(this one)" in page


def test_a_late_report_is_told_and_believed_by_nobody(console: Client, now: datetime) -> None:
    session = make_session(now=now, status="lost")
    report = {"outcome": "succeeded", "reason": "ok", "message": "<i>All done", "at": "2027-01-04T09:00:00+00:00"}
    assert type(session).objects.report_late(session.pk, {**report, "worker": "sessions@a", "exit_code": 0})
    page = console.get(reverse("admin:schedules_session_change", args=(session.pk,))).content.decode()
    assert "that changed nothing" in page
    assert "&lt;i&gt;All done" in page
    assert "sessions@a" in page


def test_a_list_tells_how_much_of_it_is_shown_where_that_is_not_all(console: Client, now: datetime) -> None:
    make_incident("missed", now=now)
    make_incident("disk_full", now=now)

    assert "Show all" not in console.get(LIST).content.decode()
    assert "Show all" in console.get(LIST, {"kind__exact": "missed"}).content.decode()


def test_an_empty_list_does_not_ask_for_what_only_rota_writes(console: Client) -> None:
    secrets = console.get(reverse("admin:schedules_secret_changelist")).content.decode()
    assert "No secrets yet." in secrets
    assert "Add secret" in secrets

    incidents = console.get(LIST).content.decode()
    assert "No incidents yet." in incidents
    assert "Add incident" not in incidents
    assert "No incidents match." in console.get(LIST, {"state": "open"}).content.decode()
