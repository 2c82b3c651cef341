"""What is left of the money, and who is told when nothing is."""

import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connections, transaction
from pytest_django import DjangoAssertNumQueries, Settings

from schedules import budgets, ending
from schedules.firing import fire_due
from schedules.limits import admit
from schedules.models import Budget, Incident, Repository, Run, Schedule, Session, Spending
from schedules.spending import settle
from tests.schedules.factories import make_repository, make_run, make_schedule, make_session, make_worker

NOW = datetime(2027, 1, 4, 9, tzinfo=UTC)
OF = timedelta(seconds=1)


@pytest.fixture(autouse=True)
def _many_places(settings: Settings) -> None:
    settings.ROTA_MAX_SESSIONS = 50
    settings.ROTA_MAX_SESSIONS_PER_REPOSITORY = 50
    settings.ROTA_REHEARSE = False


def agents(count: int, *, repository: Repository | None = None, reserves: str = "1.00", **fields: Any) -> list[Session]:
    """Waiting sessions of one schedule that may run side by side."""
    schedule = make_schedule(now=NOW, runner="claude", max_sessions=50, overlap="allow", **fields)
    return [
        make_session(make_run(schedule, now=NOW, repository=repository), now=NOW, reserved_usd=reserves)
        for _ in range(count)
    ]


def spend(
    amount: str, *, schedule: Schedule | None = None, repository: Repository | None = None, at: datetime = NOW
) -> None:
    run = make_run(schedule or make_schedule(now=NOW), now=NOW, status="succeeded", repository=repository)
    settle(make_session(run, now=NOW, status="succeeded"), Decimal(amount), now=at)


def end(session: Session, cost: str, *, now: datetime = NOW) -> None:
    with transaction.atomic():
        assert Session.objects.finish(session.pk, status="succeeded", reason="ok", now=now, cost_usd=cost)
        settle(session, Decimal(cost), now=now)


def ids(sessions: list[Session]) -> list[int]:
    return [session.pk for session in sessions]


# --- What is reserved ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "reserved"),
    [
        ({"runner": "claude", "max_budget_usd": "0.25"}, "0.25"),
        ({"runner": "codex"}, "2.50"),
        ({"runner": "claude", "max_run_usd": "0.75"}, "0.75"),
        ({"runner": "script"}, "0"),
    ],
)
@pytest.mark.django_db
def test_a_session_reserves_its_own_limit_or_what_the_setting_guesses(
    fields: dict[str, Any], reserved: str, settings: Settings
) -> None:
    settings.ROTA_RESERVE_USD = Decimal("2.50")
    schedule = make_schedule(now=NOW, **fields)
    schedule.refresh_from_db()
    assert budgets.reservation(make_run(schedule, now=NOW)) == Decimal(reserved)


@pytest.mark.django_db
def test_a_rehearsal_reserves_nothing() -> None:
    schedule = make_schedule(now=NOW, runner="claude", max_budget_usd="0.25")
    assert budgets.reservation(make_run(schedule, now=NOW, is_rehearsal=True)) == 0


# --- Admission ----------------------------------------------------------------------------------


@pytest.mark.django_db
def test_of_ten_sessions_of_a_dollar_three_start_with_three_dollars_left() -> None:
    make_worker(now=NOW, concurrency=50)
    Budget.objects.create(period="month", limit_usd=10)
    spend("7.00")
    sessions = agents(10)

    assert admit(now=NOW) == ids(sessions[:3])
    assert admit(now=NOW) == []


@pytest.mark.django_db
def test_what_they_truly_cost_is_settled_and_makes_room_for_others() -> None:
    make_worker(now=NOW, concurrency=50)
    Budget.objects.create(period="day", limit_usd=3)
    sessions = agents(10)
    assert admit(now=NOW) == ids(sessions[:3])

    end(sessions[0], "0.20")
    end(sessions[1], "0.90")
    assert admit(now=NOW) == []  # 1.10 spent, 1.00 reserved
    end(sessions[2], "0.10")
    assert admit(now=NOW) == ids(sessions[3:4])  # 1.20 spent
    end(sessions[3], "0.80")
    assert admit(now=NOW) == ids(sessions[4:5])
    end(sessions[4], "1.30")  # it overran what it had reserved
    assert admit(now=NOW) == []


@pytest.mark.django_db
def test_one_that_costs_more_than_it_reserved_holds_what_it_cost() -> None:
    make_worker(now=NOW, concurrency=50)
    Budget.objects.create(period="day", limit_usd=3)
    dear, *others = agents(3)
    Session.objects.filter(pk=dear.pk).update(status="running", claimed_at=NOW, admitted_at=NOW, cost_usd="1.50")
    assert admit(now=NOW) == ids(others[:1])


@pytest.mark.django_db(transaction=True)
def test_four_that_admit_at_once_do_not_spend_the_same_money_twice() -> None:
    make_worker(now=NOW, concurrency=50)
    Budget.objects.create(period="month", limit_usd=3)
    sessions = agents(10)
    start = threading.Barrier(4, timeout=30)
    found: list[int] = []

    def work() -> None:
        try:
            start.wait()
            for _ in range(3):
                found.extend(admit(now=NOW))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=45)

    assert sorted(found) == ids(sessions[:3])


@pytest.mark.django_db
def test_a_budget_of_a_schedule_or_a_repository_holds_back_nobody_else() -> None:
    make_worker(now=NOW, concurrency=50)
    shop, docs = make_repository(), make_repository()
    here, there = agents(3, repository=shop), agents(3, repository=docs)
    dear = agents(3)
    Budget.objects.create(repository=shop, period="month", limit_usd="1.50")
    Budget.objects.create(schedule=dear[0].schedule, period="day", limit_usd="2.00")
    spend("1.00", repository=docs)

    assert admit(now=NOW) == ids([*here[:1], *there, *dear[:2]])


@pytest.mark.django_db
def test_a_script_and_a_cheaper_session_go_past_one_that_a_budget_does_not_hold() -> None:
    make_worker(now=NOW, concurrency=50)
    Budget.objects.create(period="day", limit_usd=1)
    agents(2, reserves="5.00")
    cheap, script = agents(1, reserves="0.50"), agents(1, reserves="0.00")
    assert admit(now=NOW) == ids([*cheap, *script])


@pytest.mark.django_db
def test_a_budget_begins_anew_with_its_day_in_the_time_zone_of_the_setting(settings: Settings) -> None:
    settings.TIME_ZONE = "Asia/Tokyo"  # its midnight is 15:00 UTC
    Budget.objects.create(period="day", limit_usd=1)
    midnight = datetime(2027, 1, 4, 15, tzinfo=UTC)
    spend("0.50", at=midnight - OF)
    session = agents(1)[0]

    make_worker(now=midnight - OF, concurrency=50)
    assert admit(now=midnight - OF) == []
    assert admit(now=midnight) == [session.pk]


@pytest.mark.django_db
def test_a_budget_of_a_month_begins_anew_with_its_first_day() -> None:
    Budget.objects.create(period="month", limit_usd=1)
    spend("0.50", at=datetime(2027, 1, 1, tzinfo=UTC))
    session = agents(1)[0]
    february = datetime(2027, 2, 1, tzinfo=UTC)

    make_worker(now=february - OF, concurrency=50)
    assert admit(now=february - OF) == []
    assert admit(now=february) == [session.pk]


@pytest.mark.django_db
def test_a_thousand_days_of_spending_are_read_in_as_many_queries_as_one(
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    shop = make_repository()
    schedule = make_schedule(now=NOW)
    for of in ({"schedule": schedule}, {"repository": shop}, {}):
        Budget.objects.create(period="day", limit_usd=5, **of)
        Budget.objects.create(period="month", limit_usd=5, **of)
    Spending.objects.bulk_create(
        [Spending(day=(NOW - timedelta(days=back)).date(), cost_usd=1) for back in range(1000)]
    )
    with django_assert_max_num_queries(3):
        ledger = budgets.Ledger.read(now=NOW)
    assert [account.spent for account in ledger.everybody] == [1, 4]


# --- The money of a run -------------------------------------------------------------------------


def items(count: int, **fields: Any) -> list[Session]:
    """Waiting sessions of one run."""
    schedule = make_schedule(now=NOW, runner="claude", max_sessions=50, **fields)
    run = make_run(schedule, now=NOW)
    return [make_session(run, now=NOW, reserved_usd="1.00") for _ in range(count)]


@pytest.mark.django_db
def test_what_the_money_of_a_run_does_not_hold_is_ended_once_nothing_of_it_is_open() -> None:
    make_worker(now=NOW, concurrency=50)
    sessions = items(5, max_run_usd="2.50")
    assert admit(now=NOW) == ids(sessions[:2])

    end(sessions[0], "0.20")
    assert admit(now=NOW) == ids(sessions[2:3])
    end(sessions[1], "0.90")
    assert admit(now=NOW) == []
    assert Session.objects.filter(status="queued", admitted_at=None).count() == 2  # one that runs may cost less
    end(sessions[2], "0.60")
    assert admit(now=NOW) == []

    ended = Session.objects.filter(pk__in=ids(sessions[3:])).values_list("status", "reason", "message")
    told = "The money limit of its run, 2.50 USD, does not hold another session. It would reserve 1.00."
    assert list(ended) == [("cancelled", "budget", told)] * 2
    run = Run.objects.get()
    assert (run.status, run.reason, run.cost_usd) == ("partial", "budget", Decimal("1.70"))


@pytest.mark.django_db
def test_a_run_whose_money_holds_not_even_one_session_is_cancelled() -> None:
    make_worker(now=NOW, concurrency=50)
    items(2, max_run_usd="0.50")
    admit(now=NOW)
    assert Run.objects.values_list("status", "reason").get() == ("cancelled", "budget")


# --- Due times ----------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_due_time_is_skipped_when_the_budget_is_spent_and_queued_while_it_is_only_reserved() -> None:
    due = NOW + timedelta(days=1)
    schedule = make_schedule("look", now=NOW, runner="claude", max_budget_usd="1.00")
    budget = Budget.objects.create(schedule=schedule, period="day", limit_usd="1.50")
    make_session(make_run(now=NOW, status="running"), now=NOW, status="running", reserved_usd="1.00")

    fire_due(now=due)
    fired = Run.objects.filter(schedule=schedule, trigger="schedule")
    assert fired.get().status == "queued"

    fired.update(status="succeeded", reason="ok", finished_at=due)
    Session.objects.all().delete()
    later = due + timedelta(days=1)
    spend("0.60", schedule=schedule, at=later)
    fire_due(now=later)
    run = fired.latest("id")
    assert (run.status, run.reason) == ("skipped", "budget")
    assert run.message == (
        "The daily budget of the schedule look: 0.60 of 1.50 USD spent; a session reserves 1.00. "
        "Nothing more starts until 2027-01-07 00:00 UTC."
    )
    incident = Incident.objects.open().get(kind="budget_spent")
    assert (incident.subject, incident.schedule) == (f"budget {budget.pk}", schedule)


@pytest.mark.django_db
def test_a_script_is_fired_whatever_is_spent() -> None:
    Budget.objects.create(period="month", limit_usd=0)
    make_schedule(now=NOW)
    fire_due(now=NOW + timedelta(days=1))
    assert Run.objects.get().status == "queued"


# --- Incidents ----------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_spent_budget_is_told_of_once_and_recovers_with_its_new_period() -> None:
    make_worker(now=NOW, concurrency=50)
    Budget.objects.create(period="day", limit_usd=1)
    spend("0.10")
    agents(3)
    for _ in range(3):
        admit(now=NOW)

    incident = Incident.objects.get()
    assert (incident.kind, incident.count) == ("budget_spent", 1)
    assert "daily budget of all: 0.10 of 1.00 USD spent" in incident.message
    assert budgets.recover(now=NOW) == 0
    assert budgets.recover(now=datetime(2027, 1, 5, tzinfo=UTC)) == 1
    assert not Incident.objects.open().exists()


@pytest.mark.django_db
def test_nobody_is_told_while_a_budget_is_only_reserved() -> None:
    make_worker(now=NOW, concurrency=50)
    Budget.objects.create(period="day", limit_usd=1)
    agents(3)
    admit(now=NOW)
    admit(now=NOW)
    assert not Incident.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("change", ["raise", "delete"])
def test_a_budget_that_was_changed_or_deleted_recovers(change: str) -> None:
    make_worker(now=NOW, concurrency=50)
    budget = Budget.objects.create(period="month", limit_usd=1)
    spend("1.00")
    agents(1)
    admit(now=NOW)
    assert Incident.objects.open().count() == 1

    if change == "raise":
        Budget.objects.filter(pk=budget.pk).update(limit_usd=5, updated_at=NOW + OF)
    else:
        budget.delete()
    assert budgets.recover(now=NOW + 2 * OF) == 1


@pytest.mark.django_db
def test_a_run_whose_money_holds_no_further_attempt_failed_and_counts() -> None:
    schedule = make_schedule(
        now=NOW, retry="all", retry_backoff=timedelta(), max_run_usd="1.00", max_budget_usd="1.00", pause_after=1
    )
    run = make_run(schedule, now=NOW, status="running", trigger="schedule")
    session = make_session(run, now=NOW, status="running", reserved_usd="1.00")
    make_worker(now=NOW)
    cost = Decimal("0.40")
    assert ending.end(session, status="failed", reason="agent_error", message="Oh.", cost_usd=cost, now=NOW)

    assert admit(now=NOW) == []

    run.refresh_from_db()
    assert (run.status, run.reason, run.message) == ("failed", "agent_error", "Oh.")
    assert run.sessions.get(attempt=2).reason == "budget"
    schedule.refresh_from_db()
    assert schedule.status == "paused"
