"""A session's process is followed, by one worker after another, and by nobody whose it is not."""

import threading
import time

import pytest
from django.db import connection
from django.utils import timezone

from schedules.execution import adopt, execute
from schedules.following import Wish
from schedules.models import Session, WorkerHeartbeat
from schedules.transcript import FIRST_OF_PROCESS
from tests.schedules.factories import make_event, make_worker
from tests.schedules.places import queued, run_admitted

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("folders")]


def test_a_worker_that_leaves_is_followed_by_another_and_nothing_is_lost_or_twice(worker: WorkerHeartbeat) -> None:
    session = queued("sh", "-c", "for i in 1 2 3 4 5 6 7 8; do echo line $i; sleep 0.2; done")
    began = time.monotonic()

    def leave() -> Wish:
        return "detach" if time.monotonic() > began + 0.7 else ""

    assert execute(session.pk, worker=worker, task_id="t", wish=leave, clock=timezone.now) == "left"
    session.refresh_from_db()
    assert session.status == "running"

    heir = make_worker(now=timezone.now())
    assert adopt(session.pk, of=worker.pk, worker=heir, wish=lambda: "", clock=timezone.now) == "succeeded"

    session.refresh_from_db()
    lines = [text for text in session.events.order_by("seq").values_list("text", flat=True) if text.startswith("line")]
    assert lines == [f"line {number}" for number in range(1, 9)]
    assert session.worker == heir


def test_a_session_that_was_taken_away_is_ended_and_its_report_changes_nothing(worker: WorkerHeartbeat) -> None:
    session = queued("sh", "-c", "while :; do echo on; sleep 0.1; done")
    done: list[str] = []

    def work() -> None:
        done.append(execute(session.pk, worker=worker, task_id="t", wish=lambda: "", clock=timezone.now))
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    deadline = time.monotonic() + 10
    while not session.events.filter(text="on").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    Session.objects.finish(session.pk, status="lost", reason="worker_died", now=timezone.now())
    thread.join(timeout=20)

    assert done == ["taken"]
    session.refresh_from_db()
    assert session.status == "lost"


def test_events_that_are_there_already_do_no_harm(worker: WorkerHeartbeat) -> None:
    session = queued("sh", "-c", "echo one; echo two")
    make_event(session, now=timezone.now(), seq=FIRST_OF_PROCESS, kind="output", text="one")  # its answer was lost
    run_admitted(session, worker)
    assert session.status == "succeeded", session.message
    assert list(session.events.filter(kind="output").values_list("text", flat=True)) == ["one", "two"]
