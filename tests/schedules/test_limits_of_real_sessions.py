"""What a session's process says of a quota, and what it cost, reaches those who wait."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest
from django.utils import timezone
from pytest_django import Settings

from schedules.execution import execute
from schedules.firing import trigger
from schedules.limits import admit
from schedules.models import Hold, Session, Spending, WorkerHeartbeat
from tests.schedules.factories import make_schedule, make_worker
from tests.schedules.places import end_sessions

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _var(tmp_path: Path, settings: Settings) -> Iterator[None]:
    settings.ROTA_SESSIONS_DIR = tmp_path / "sessions"
    settings.ROTA_WORKSPACES_DIR = tmp_path / "workspaces"
    settings.ROTA_REHEARSE = False
    settings.ROTA_RUNNERS = {
        **settings.ROTA_RUNNERS,
        "limited": "tests.schedules.limited.LimitedRunner",
        "patient": "tests.schedules.limited.PatientRunner",
        "wasteful": "tests.schedules.wasteful.WastefulRunner",
    }
    yield
    end_sessions(tmp_path)


@pytest.fixture
def worker() -> WorkerHeartbeat:
    return make_worker(now=timezone.now())


def queued(runner: str, **fields: object) -> Session:
    return trigger(make_schedule(now=timezone.now(), runner=runner, **fields), now=timezone.now())[0].sessions.get()  # type: ignore[arg-type]


def see_through(session: Session, worker: WorkerHeartbeat, wish: object = None) -> Session:
    assert session.pk in admit(now=timezone.now())
    execute(session.pk, worker=worker, task_id="t", wish=wish or (lambda: ""), clock=timezone.now)  # type: ignore[arg-type]
    session.refresh_from_db()
    return session


def until() -> datetime:
    found = Hold.objects.get(credential="anthropic").until
    assert found is not None
    return found


def test_others_wait_until_the_quota_of_one_that_failed_is_given_anew(worker: WorkerHeartbeat) -> None:
    begun = timezone.now()
    session = see_through(queued("limited"), worker)
    other = queued("limited")

    assert (session.status, session.reason) == ("failed", "rate_limited"), session.message
    assert begun + timedelta(seconds=62) <= until() <= timezone.now() + timedelta(seconds=67)
    assert admit(now=timezone.now()) == []
    WorkerHeartbeat.objects.update(last_seen_at=until())
    assert admit(now=until()) == [other.pk]


def test_others_wait_while_the_one_that_was_told_still_runs(worker: WorkerHeartbeat) -> None:
    def wish() -> Literal["", "cancelled"]:
        return "cancelled" if Hold.objects.in_force(timezone.now()).exists() else ""

    session = see_through(queued("patient", timeout=timedelta(seconds=45)), worker, wish)

    assert session.status == "cancelled"
    assert until() > timezone.now()


def test_a_session_reserves_its_limit_and_is_settled_with_what_it_cost(worker: WorkerHeartbeat) -> None:
    session = queued("wasteful", max_budget_usd="3.50")
    assert (session.credential, str(session.reserved_usd)) == ("anthropic", "3.50")

    see_through(session, worker)

    assert session.cost_usd >= 4
    assert Spending.objects.get(schedule=session.schedule).cost_usd == session.cost_usd


def test_one_whose_reservation_is_a_guess_is_not_ended_when_it_costs_more(worker: WorkerHeartbeat) -> None:
    session = queued("wasteful", max_turns=5)
    assert str(session.reserved_usd) == "1.00"
    see_through(session, worker)
    assert session.reason == "max_turns"
    assert session.cost_usd >= 5
