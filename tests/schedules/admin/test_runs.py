"""The list of runs and a run's own page."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from schedules.models import Run, Session
from tests.schedules.admin.lists import costs_the_same
from tests.schedules.factories import (
    make_repository,
    make_run,
    make_schedule,
    make_session,
)

LIST = reverse("admin:schedules_run_changelist")


def page_of(run: Run, verb: str = "change") -> str:
    return reverse(f"admin:schedules_run_{verb}", args=(run.pk,))


def listed(client: Client, **query: Any) -> list[int]:
    return [run.pk for run in client.get(LIST, query).context["cl"].result_list]


def test_the_list_costs_the_same_queries_whatever_its_length(console: Client, now: datetime) -> None:
    def more(count: int) -> None:
        for _ in range(count):
            make_run(make_schedule(now=now, runner="claude"), now=now, repository=make_repository())

    costs_the_same(console, LIST, more)


def test_nothing_is_counted_and_no_page_is_skipped_over(console: Client, now: datetime) -> None:
    make_run(now=now)

    with CaptureQueriesContext(connection) as queries:
        console.get(LIST, {"before": "1000"})

    said = " ".join(query["sql"] for query in queries if "schedules_run" in query["sql"])
    assert "COUNT(" not in said
    assert "OFFSET" not in said


def test_one_reads_back_page_by_page(console: Client, now: datetime) -> None:
    schedule = make_schedule(now=now)
    runs = [make_run(schedule, now=now, status=Run.Status.SUCCEEDED).pk for _ in range(60)]
    first = console.get(LIST).context["cl"]
    second = console.get(f"{LIST}{first.older_url}").context["cl"]

    assert [run.pk for run in first.result_list] == runs[:9:-1]
    assert [run.pk for run in second.result_list] == runs[9::-1]
    assert (first.newest_url, second.older_url) == ("", "")
    assert second.newest_url


def test_another_filter_begins_at_the_newest(console: Client, now: datetime) -> None:
    make_run(now=now)

    chips = console.get(LIST, {"before": "5", "status__exact": "failed"}).context["cl"].chips

    assert not [chip.url for chip in chips if "before" in chip.url]
    assert [chip.label for chip in chips if chip.chosen] == ["failed"]


@pytest.mark.parametrize("before", ["", "x", "-1", "9" * 40, "²"])
def test_a_place_that_is_none_is_the_newest(console: Client, now: datetime, before: str) -> None:
    run = make_run(now=now)

    assert listed(console, before=before) == [run.pk]


def test_runs_are_filtered_by_status_trigger_and_schedule(console: Client, now: datetime) -> None:
    one, two = make_schedule(now=now), make_schedule(now=now)
    failed = make_run(one, now=now, status=Run.Status.FAILED)
    retried = make_run(two, now=now, trigger=Run.Trigger.RETRY)

    assert listed(console, status__exact="failed") == [failed.pk]
    assert listed(console, trigger__exact="retry") == [retried.pk]
    assert listed(console, schedule__id__exact=one.pk) == [failed.pk]


def test_a_run_tells_what_happened_and_why(console: Client, now: datetime) -> None:
    shop = make_repository("shop")
    schedule = make_schedule("nightly", now=now, runner="claude", model="haiku", repositories=[shop])
    first = make_run(schedule, now=now, status=Run.Status.CANCELLED, repository=shop)
    run = make_run(
        schedule,
        now=now,
        status=Run.Status.FAILED,
        repository=shop,
        trigger=Run.Trigger.RETRY,
        triggered_by="marie",
        retry_of=first,
        message="Session 1 ended with 1.",
        commit="4f2a9c0d1e2f",
        is_rehearsal=True,
        finished_at=now + timedelta(seconds=72),
        cost_usd="0.25",
        variables={"tone": "brief"},
    )
    session = make_session(run, now=now, status=Session.Status.FAILED)

    page = console.get(page_of(run)).content.decode()

    for part in (
        "Some sessions did not succeed.",
        "Session 1 ended with 1.",
        "by marie",
        f"of run {first.pk}",
        "4f2a9c0d1e",
        "1m 12s",
        "$0.25",
        "rehearsed",
        reverse("admin:schedules_session_change", args=(session.pk,)),
        "&quot;model&quot;: &quot;haiku&quot;",
        "&quot;tone&quot;",
        page_of(run, "retry"),
    ):
        assert part in page, part
    assert f"run {run.pk}" in console.get(page_of(first)).content.decode()


def test_a_cost_that_is_not_known_is_never_shown_as_nothing(console: Client, now: datetime) -> None:
    run = make_run(make_schedule(now=now, runner="claude"), now=now, status="succeeded", turns=2, cost_source="unknown")
    session = make_session(run, now=now, status="succeeded", turns=2, cost_source="unknown")

    lists = [reverse(f"admin:schedules_{model}_changelist") for model in ("run", "session")]
    for url in (*lists, page_of(run), reverse("admin:schedules_session_change", args=(session.pk,))):
        page = console.get(url).content.decode()
        assert "not known" in page, url
        assert "$0" not in page, url


def test_a_run_page_costs_the_same_queries_whatever_its_sessions(console: Client, now: datetime) -> None:
    small, large = make_run(now=now), make_run(now=now)
    make_session(small, now=now)
    for _ in range(30):
        make_session(large, now=now)
    console.get(page_of(small))
    with CaptureQueriesContext(connection) as few:
        console.get(page_of(small))
    with CaptureQueriesContext(connection) as many:
        console.get(page_of(large))

    assert len(many) == len(few)


def test_a_row_that_stands_for_many_due_times_says_how_many_until_when_and_what_became_of_them(
    console: Client, now: datetime
) -> None:
    until = now - timedelta(minutes=1)
    many = make_run(
        now=now - timedelta(hours=9), status=Run.Status.SKIPPED, reason="paused", missed_count=540, missed_until=until
    )
    make_run(now=now, status=Run.Status.MISSED, missed_count=1, missed_until=now)

    rows, page = console.get(LIST).content.decode(), console.get(page_of(many)).content.decode()

    assert ">540 due times<" in rows
    assert "1 due time<" not in rows
    assert "Due times skipped" in page
    assert f"{until:%Y-%m-%d %H:%M:%S} UTC" in page


def test_a_skipped_run_says_that_nothing_was_run(console: Client, now: datetime) -> None:
    run = make_run(now=now, status=Run.Status.MISSED, missed_count=3, missed_until=now, message="3 due times missed.")

    page = console.get(page_of(run)).content.decode()

    assert "Nothing was run." in page
    assert "3 due times missed." in page


@pytest.mark.parametrize("url", [f"{LIST}999/change/", f"{LIST}nonsense/change/", f"{LIST}{'9' * 30}/change/"])
def test_a_run_that_is_not_there_is_not_found(console: Client, url: str) -> None:
    assert console.get(url).status_code == 404


def test_a_run_can_neither_be_added_nor_changed_nor_deleted(console: Client, now: datetime) -> None:
    run = make_run(now=now)
    before = Run.objects.values().get()

    assert console.get(reverse("admin:schedules_run_add")).status_code == 403
    assert console.post(page_of(run, "delete"), {"post": "yes"}).status_code == 403
    console.post(page_of(run), {"status": "failed"})
    assert Run.objects.values().get() == before


# --- Cancel and retry ---------------------------------------------------------------------------


def test_asking_to_cancel_or_retry_changes_nothing(console: Client, now: datetime) -> None:
    run = make_run(now=now)
    before = Run.objects.values().get()

    assert console.get(page_of(run, "cancel")).status_code == 200
    assert console.get(page_of(run, "retry")).status_code == 200
    assert list(Run.objects.values()) == [before]


def test_an_open_run_is_cancelled(console: Client, now: datetime) -> None:
    run = make_run(now=now)
    make_session(run, now=now)

    offered = console.get(page_of(run)).content.decode()
    response = console.post(page_of(run, "cancel"), follow=True)

    assert page_of(run, "cancel") in offered
    assert "It is being cancelled." in response.content.decode()
    after = Run.objects.get()
    assert (after.status, after.reason) == ("cancelled", "cancelled")


def test_a_run_that_is_over_is_not_cancelled(console: Client, now: datetime) -> None:
    run = make_run(now=now, status=Run.Status.SUCCEEDED)

    response = console.post(page_of(run, "cancel"), follow=True)

    assert "It was over already." in response.content.decode()
    assert Run.objects.get().status == "succeeded"


def test_a_retry_is_a_new_run_of_the_same_place_and_variables(console: Client, now: datetime) -> None:
    shop, infra = make_repository("shop"), make_repository("infra")
    schedule = make_schedule(now=now, repositories=[shop, infra], variables={"tone": "brief"})
    run = make_run(
        schedule,
        now=now,
        status=Run.Status.FAILED,
        repository=shop,
        variables={"tone": "long", "gone": "x"},
    )

    response = console.post(page_of(run, "retry"))

    retry = Run.objects.exclude(pk=run.pk).get()
    assert response.headers["Location"] == page_of(retry)
    assert (retry.trigger, retry.retry_of, retry.repository, retry.triggered_by) == ("retry", run, shop, "olive")
    assert retry.variables == {"tone": "long"}
    assert Run.objects.get(pk=run.pk).status == "failed"


def test_a_retry_that_policy_refuses_says_why(console: Client, now: datetime) -> None:
    schedule = make_schedule(now=now, status="disabled")
    run = make_run(schedule, now=now, status=Run.Status.FAILED)

    response = console.post(page_of(run, "retry"))

    assert response.status_code == 400
    assert "is disabled" in response.content.decode()
    assert Run.objects.count() == 1


@pytest.mark.parametrize("verb", ["cancel", "retry"])
def test_who_may_only_look_neither_cancels_nor_retries(onlooker: Client, now: datetime, verb: str) -> None:
    run = make_run(now=now, status=Run.Status.QUEUED if verb == "cancel" else Run.Status.FAILED)

    page = onlooker.get(page_of(run))
    response = onlooker.post(page_of(run, verb))

    assert page.status_code == 200
    assert page_of(run, verb) not in page.content.decode()
    assert response.status_code == 403
    assert Run.objects.get().cancel_requested_at is None
