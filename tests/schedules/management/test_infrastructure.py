"""What a run needs around it, told when it is missing."""

from datetime import UTC, datetime, timedelta

import pytest
from django.conf import LazySettings
from django.db import OperationalError, ProgrammingError

from schedules.management.infrastructure import broker_answers, database_problem, hindrance
from tests.schedules.factories import make_run, make_session, make_worker

NOW = datetime(2027, 3, 1, 8, 0, tzinfo=UTC)


@pytest.mark.usefixtures("broker")
@pytest.mark.django_db
def test_a_run_without_sessions_needs_a_control_worker() -> None:
    run = make_run(now=NOW)
    make_worker(now=NOW, kind="sessions")

    assert hindrance([run], [], now=NOW) == "No “control” worker is alive. Start Rota with bin/up"

    make_worker(now=NOW, kind="control")
    assert hindrance([run], [], now=NOW) is None


@pytest.mark.usefixtures("broker")
@pytest.mark.django_db
def test_a_queued_session_needs_a_sessions_worker_that_is_alive() -> None:
    session = make_session(now=NOW)
    make_worker(now=NOW, kind="control")
    make_worker(now=NOW, stopped_at=NOW)
    make_worker(now=NOW - timedelta(hours=1))

    assert hindrance([session.run], [session], now=NOW) == "No “sessions” worker is alive. Start Rota with bin/up"

    make_worker(now=NOW)
    assert hindrance([session.run], [session], now=NOW) is None


@pytest.mark.django_db
def test_a_queued_session_needs_the_broker_and_a_running_one_does_not(settings: LazySettings) -> None:
    settings.CELERY_BROKER_URL = "redis+socket:///nowhere/valkey.sock"
    make_worker(now=NOW)
    waiting, working = make_session(now=NOW), make_session(now=NOW, status="running")

    problem = hindrance([waiting.run], [waiting], now=NOW)

    assert problem == "The broker does not answer. Start Rota with bin/up, or check REDIS_URL"
    assert hindrance([working.run], [working], now=NOW) is None


@pytest.mark.django_db
def test_what_is_over_needs_nothing() -> None:
    session = make_session(make_run(now=NOW, status="succeeded"), now=NOW, status="succeeded")

    assert hindrance([session.run], [session], now=NOW) is None


@pytest.mark.usefixtures("broker")
def test_a_broker_that_is_there_answers() -> None:
    assert broker_answers()


@pytest.mark.django_db(transaction=True)
def test_a_database_that_was_busy_is_told() -> None:
    assert database_problem(OperationalError("database is locked")) == (
        "The database refused: database is locked. Try again."
    )
    assert database_problem(OperationalError()) == "The database refused: OperationalError. Try again."


@pytest.mark.django_db(transaction=True)
def test_a_query_that_is_wrong_is_a_fault_of_ours() -> None:
    assert database_problem(ProgrammingError("no such column")) is None
