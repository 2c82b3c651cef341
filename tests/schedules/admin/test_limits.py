"""Pools, budgets, spending and holds in the console; and what a queued session is shown to wait for."""

import re
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.test import Client
from django.urls import reverse
from django.utils.html import strip_tags
from pytest_django import DjangoAssertNumQueries, DjangoCaptureOnCommitCallbacks

from schedules.models import Budget, Hold, Pool, Schedule
from schedules.spending import settle
from schedules.tasks import dispatch
from tests.schedules.admin.forms import errors_of, submit
from tests.schedules.factories import (
    make_pool,
    make_repository,
    make_run,
    make_schedule,
    make_session,
    make_worker,
)

POOLS = reverse("admin:schedules_pool_changelist")
BUDGETS = reverse("admin:schedules_budget_changelist")
SPENDING = reverse("admin:schedules_spending_changelist")
HOLDS = reverse("admin:schedules_hold_changelist")


def text(client: Client, url: str) -> str:
    response = client.get(url)
    assert response.status_code == 200
    return response.content.decode()


@pytest.mark.parametrize("url", [POOLS, BUDGETS, SPENDING, HOLDS])
def test_the_lists_open_when_they_are_empty_and_for_who_may_only_look(
    console: Client, onlooker: Client, stranger: Client, url: str
) -> None:
    assert console.get(url).status_code == 200
    assert onlooker.get(url).status_code == 200
    assert stranger.get(url).status_code == 403


# --- Pools --------------------------------------------------------------------------------------


def test_a_pool_is_made_and_tells_what_of_it_is_taken(console: Client, now: datetime) -> None:
    response = submit(console, reverse("admin:schedules_pool_add"), name="deploys", places=3)
    assert response.status_code == 302
    pool = Pool.objects.get()
    schedule = make_schedule(now=now, weight=2)
    schedule.pools.add(pool)
    make_session(make_run(schedule, now=now, status="running"), now=now, status="running")

    assert "2 of 3 taken" in text(console, POOLS)


def test_a_pool_without_places_is_shut(console: Client) -> None:
    Pool.objects.create(name="opus", places=0)

    assert "shut" in text(console, POOLS)


def test_a_pool_is_of_a_provider_or_a_model_and_not_of_both(console: Client) -> None:
    add = reverse("admin:schedules_pool_add")
    errors = errors_of(submit(console, add, name="x", places=1, provider="anthropic", model="opus"))
    assert errors == {"__all__": ["Choose a provider or a model, not both."]}


def test_a_provider_that_no_agent_has_is_refused(console: Client) -> None:
    errors = errors_of(submit(console, reverse("admin:schedules_pool_add"), name="x", places=1, provider="anthropc"))
    assert errors == {"provider": ["No agent is of “anthropc”. There are: anthropic, openai."]}


def test_a_pool_does_not_become_narrower_than_a_session_of_it(console: Client, now: datetime) -> None:
    pool = make_pool(places=5)
    make_schedule("build", now=now, weight=4).pools.add(pool)
    page = reverse("admin:schedules_pool_change", args=(pool.pk,))

    assert errors_of(submit(console, page, places=3)) == {"places": ["A session of build takes more places than that."]}
    assert submit(console, page, places=0).status_code == 302  # shut on purpose


def test_who_deletes_a_pool_is_told_whom_it_held_back(console: Client, now: datetime) -> None:
    pool = make_pool("memory", places=5)
    for number in range(7):
        make_schedule(f"build-{number}", now=now).pools.add(pool)
    models = make_pool("opus", model="claude-opus-*")

    page = strip_tags(text(console, reverse("admin:schedules_pool_delete", args=(pool.pk,))))
    assert "memory, the limit of 7 schedules: build-0, build-1, build-2, build-3, build-4 and 2 others" in page
    assert "relationship" not in page
    page = strip_tags(text(console, reverse("admin:schedules_pool_delete", args=(models.pk,))))
    assert "opus, the limit of every session of claude-opus-*" in page


@pytest.mark.parametrize("how", ["page", "selection"])
@pytest.mark.parametrize("limit", ["pool", "budget"])
def test_what_waited_for_a_limit_that_is_deleted_starts_at_once(
    console: Client, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks, limit: str, how: str
) -> None:
    row = make_pool() if limit == "pool" else Budget.objects.create(limit_usd=1)
    page, data = reverse(f"admin:schedules_{limit}_delete", args=(row.pk,)), {"post": "yes"}
    if how == "selection":
        page = reverse(f"admin:schedules_{limit}_changelist")
        data |= {"action": "delete_selected", "_selected_action": str(row.pk)}

    with django_capture_on_commit_callbacks() as follows:
        assert console.post(page, data).status_code == 302

    assert not type(row).objects.exists()
    assert dispatch in follows


def test_a_schedule_is_given_pools_weight_and_the_money_of_a_run(console: Client, now: datetime) -> None:
    pool = make_pool("memory", places=5)
    schedule = make_schedule(now=now, runner="claude", max_budget_usd="1.00")
    page = reverse("admin:schedules_schedule_change", args=(schedule.pk,))

    assert errors_of(submit(console, page, pools=[pool.pk], weight=6)) == {
        "pools": ["A session takes 6 places, more than there are in all: memory (5)."]
    }
    assert errors_of(submit(console, page, max_run_usd="0.50")) == {
        "max_run_usd": ["It holds no session: one may cost 1.00 USD. Give at least as much."]
    }
    assert submit(console, page, pools=[pool.pk], weight=5, max_run_usd="4.00").status_code == 302
    schedule.refresh_from_db()
    assert (list(schedule.pools.all()), schedule.weight, schedule.max_run_usd) == ([pool], 5, Decimal("4.00"))


def test_a_session_fits_into_the_pools_of_its_provider_and_model_too(console: Client, now: datetime) -> None:
    schedule = make_schedule("wide", now=now, runner="claude", model="opus", weight=4)
    errors = {"places": ["A session of wide takes more places than that."]}
    add = reverse("admin:schedules_pool_add")
    assert errors_of(submit(console, add, name="x", places=3, provider="anthropic")) == errors
    assert errors_of(submit(console, add, name="x", places=3, model="claude-opus-*")) == errors
    assert submit(console, add, name="shut", places=0, provider="anthropic").status_code == 302
    assert submit(console, add, name="others", places=1, provider="openai").status_code == 302
    assert submit(console, add, name="opus", places=4, model="claude-opus-*").status_code == 302

    page = reverse("admin:schedules_schedule_change", args=(schedule.pk,))
    assert errors_of(submit(console, page, weight=5)) == {
        "pools": ["A session takes 5 places, more than there are in all: opus (4)."]
    }
    assert submit(console, page, weight=5, model="haiku").status_code == 302


def test_a_duplicate_is_in_the_same_pools(console: Client, now: datetime) -> None:
    schedule = make_schedule(now=now)
    schedule.pools.add(make_pool())
    page = reverse("admin:schedules_schedule_duplicate", args=(schedule.pk,))

    console.post(page, {"name": "copy"})

    assert Schedule.objects.get(name="copy").pools.count() == 1


# --- Budgets ------------------------------------------------------------------------------------


def test_a_budget_tells_what_is_spent_and_what_is_reserved(console: Client, now: datetime) -> None:
    shop = make_repository("shop")
    make_worker(now=now)
    Budget.objects.create(repository=shop, period="month", limit_usd=10)
    run = make_run(now=now, status="running", repository=shop)
    settle(make_session(run, now=now, status="succeeded"), Decimal("2.50"), now=now)
    make_session(run, now=now, status="running", reserved_usd="1.50")

    page = text(console, BUDGETS)

    assert "$2.50 of $10.00" in page
    assert "$1.50" in page
    assert 'aria-valuenow="40"' in page


@pytest.mark.parametrize(
    ("spent", "reserved", "hue"),
    [
        ("7.90", "0", "rota-is-succeeded"),
        ("8.00", "0", "rota-is-partial"),
        ("7.00", "1.00", "rota-is-partial"),
        ("10.00", "0", "rota-is-failed"),
    ],
)
def test_a_budget_warns_before_it_is_spent(console: Client, now: datetime, spent: str, reserved: str, hue: str) -> None:
    make_worker(now=now)
    Budget.objects.create(period="month", limit_usd=10)
    run = make_run(now=now, status="running")
    settle(make_session(run, now=now, status="succeeded"), Decimal(spent), now=now)
    make_session(run, now=now, status="running", reserved_usd=reserved)

    assert f'class="rota-meter {hue}"' in text(console, BUDGETS)


def test_a_second_budget_of_the_same_kind_is_refused_with_a_sentence(console: Client) -> None:
    add = reverse("admin:schedules_budget_add")
    assert submit(console, add, period="day", limit_usd="5").status_code == 302
    assert errors_of(submit(console, add, period="day", limit_usd="6")) == {
        "__all__": ["There is a budget over all for that period already."]
    }
    assert errors_of(submit(console, add, period="month", limit_usd="-1")).keys() >= {"limit_usd"}


def test_the_list_of_budgets_takes_as_many_queries_for_many(
    console: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(20):
        Budget.objects.create(repository=make_repository(), period="day", limit_usd=1)
    with django_assert_max_num_queries(20):
        console.get(BUDGETS)


def test_spending_shows_the_sums_of_the_days_or_of_schedules_or_of_repositories(console: Client, now: datetime) -> None:
    run = make_run(make_schedule("look", now=now), now=now, status="running", repository=make_repository("shop"))
    settle(make_session(run, now=now, status="succeeded"), Decimal("2.50"), now=now)

    found = {of: console.get(SPENDING, {"of": of} if of else {}) for of in ("", "schedules", "repositories")}

    rows = {of: response.context["cl"].result_list for of, response in found.items()}
    assert [(row.schedule, row.repository) for row in rows[""]] == [(None, None)]
    assert [(row.schedule, row.repository) for row in rows["schedules"]] == [(run.schedule, run.repository)]
    assert [(row.schedule, row.repository) for row in rows["repositories"]] == [(None, run.repository)]
    cell = re.search(r'<(\w+) class="[^"]*field-of_schedule.*?</\1>', found[""].content.decode(), re.DOTALL)
    assert cell
    assert "all" in strip_tags(cell[0])


# --- Holds --------------------------------------------------------------------------------------


@pytest.fixture
def hold(db: None, now: datetime) -> Hold:
    return Hold.objects.create(
        credential="anthropic", until=now + timedelta(hours=1), since=now, reason="Its quota is used up."
    )


def test_a_person_lifts_a_hold(console: Client, hold: Hold) -> None:
    lift = reverse("admin:schedules_hold_lift", args=(hold.pk,))
    assert lift in text(console, HOLDS)
    assert "Its quota is used up." in text(console, lift)
    hold.refresh_from_db()
    assert hold.until is not None  # asking changes nothing

    console.post(lift)

    hold.refresh_from_db()
    assert hold.until is None
    assert lift not in text(console, HOLDS)


def test_who_may_only_look_lifts_nothing(onlooker: Client, hold: Hold) -> None:
    lift = reverse("admin:schedules_hold_lift", args=(hold.pk,))
    assert lift not in text(onlooker, HOLDS)
    assert onlooker.post(lift).status_code == 403


# --- Waiting ------------------------------------------------------------------------------------


def test_a_queued_session_is_shown_with_what_it_waits_for(console: Client, now: datetime) -> None:
    schedule = make_schedule(now=now)
    schedule.pools.add(make_pool("deploys", places=0))
    make_worker(now=now)
    session = make_session(make_run(schedule, now=now), now=now)
    told = "ool deploys is shut"

    for page in (
        reverse("admin:schedules_session_change", args=(session.pk,)),
        reverse("admin:schedules_run_change", args=(session.run_id,)),
        reverse("admin:schedules_session_changelist"),
        reverse("admin:schedules_run_changelist"),
    ):
        assert told in text(console, page)
        assert "It is 1 of 1" not in text(console, page), "it is alone"


def test_the_lists_take_as_many_queries_for_many_that_wait(
    console: Client, now: datetime, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(20):
        make_session(make_run(make_schedule(now=now), now=now), now=now)
    for page in ("session", "run"):
        with django_assert_max_num_queries(30):
            console.get(reverse(f"admin:schedules_{page}_changelist"))
