"""Statements that are made once say what the QuerySet says of which they are made."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.db.models import F, Model
from django.test.utils import CaptureQueriesContext

from schedules.models import Run, Schedule, Session, SessionEvent
from schedules.prepared import Insert, Select, Update, columns, given
from tests.schedules.factories import make_event, make_repository, make_run, make_schedule, make_session, make_worker

pytestmark = pytest.mark.django_db

NOW = datetime(2027, 1, 4, 9, tzinfo=UTC)

COUNTING = Update(
    lambda: Schedule.objects.filter(pk=given("pk", Schedule)), Schedule, "last_run_at", run_count=F("run_count") + 1
)
TOLD = Select(lambda: Run.objects.filter(pk=given("pk", Run)).values_list("snapshot", "queued_at", "cost_usd"))
SAID = Insert(SessionEvent, "session_id", "seq", "at", "kind", "text", "data")


def same(one: Model, other: Model) -> bool:
    return {name: getattr(one, name) for name in columns(type(one))} == {
        name: getattr(other, name) for name in columns(type(other))
    }


def test_an_update_changes_the_row_that_is_meant_again_and_again() -> None:
    mine, other = make_schedule(now=NOW), make_schedule(now=NOW)
    for minutes in (1, 2):
        assert COUNTING.carry_out({"last_run_at": NOW + timedelta(minutes=minutes)}, pk=mine.pk) == 1
    assert COUNTING.carry_out({"last_run_at": None}, pk=0) == 0
    mine.refresh_from_db()
    other.refresh_from_db()
    assert (mine.run_count, mine.last_run_at) == (2, NOW + timedelta(minutes=2))
    assert (other.run_count, other.last_run_at) == (0, None)


def test_it_is_made_once_and_sent_as_django_would_send_it() -> None:
    schedule = make_schedule(now=NOW)
    with CaptureQueriesContext(connection) as queries:
        COUNTING.carry_out({"last_run_at": NOW}, pk=schedule.pk)
        Schedule.objects.filter(pk=schedule.pk).update(last_run_at=NOW, run_count=F("run_count") + 1)
    prepared, ordinary = (query["sql"].replace("(", "").replace(")", "") for query in queries.captured_queries)
    assert prepared == ordinary


def test_values_are_written_as_their_fields_write_them() -> None:
    session = make_session(now=NOW, status="running", worker=make_worker(now=NOW))
    earlier = make_session(now=NOW)
    assert session.worker
    fields = {"resumed_from": earlier, "cost_usd": 0.25, "denied": ["Bash"], "exit_code": None, "started_at": NOW}
    assert Session.objects.progress(session.pk, worker=session.worker, **fields)
    session.refresh_from_db()
    assert (session.resumed_from, session.cost_usd, session.denied) == (earlier, Decimal("0.25"), ["Bash"])
    assert (session.exit_code, session.started_at) == (None, NOW)


def test_a_row_is_read_as_values_list_reads_it() -> None:
    run = make_run(now=NOW, cost_usd="1.5")
    assert TOLD.first(pk=run.pk) == (run.snapshot, NOW, Decimal("1.5"))
    assert TOLD.first(pk=0) is None


def test_what_is_no_value_of_a_field_is_refused_before_the_database_sees_it() -> None:
    with pytest.raises(ValueError, match="expected a number"):
        TOLD.first(pk="no number")


def test_what_is_there_already_is_not_inserted_again() -> None:
    session = make_session(now=NOW)
    make_event(session, now=NOW, seq=1, text="first")
    rows = [
        SessionEvent(session=session, seq=seq, at=NOW, kind="text", text="again", data={"n": seq}) for seq in (1, 2)
    ]
    SAID.unless_there(rows)
    told = list(session.events.order_by("seq").values_list("seq", "text", "data", "at"))
    assert told == [(1, "first", {}, NOW), (2, "again", {"n": 2}, NOW)]


@pytest.mark.parametrize("somewhere", [True, False])
def test_a_whole_session_is_what_django_reads(somewhere: bool) -> None:
    run = make_run(now=NOW, repository=make_repository() if somewhere else None, variables={"a": [1]})
    session = make_session(run, now=NOW, item={"title": "Broken"}, reserved_usd="0.5")
    found = Session.objects.whole(session.pk)
    expected = Session.objects.select_related("run", "schedule", "repository").get(pk=session.pk)
    assert same(found, expected)
    assert same(found.run, expected.run)
    with CaptureQueriesContext(connection) as queries:
        assert (found.schedule.name, str(found.schedule)) == (expected.schedule.name, expected.schedule.name)
        assert found.repository == expected.repository
        if found.repository and expected.repository:
            assert same(found.repository, expected.repository)
    assert not queries.captured_queries
    assert found.schedule.cron == expected.schedule.cron, "what was not read is read when it is asked for"


def test_a_session_that_is_gone_is_said_to_be() -> None:
    with pytest.raises(Session.DoesNotExist):
        Session.objects.whole(0)
