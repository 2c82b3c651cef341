"""Workers that die at any point of a session's life: it is started at most once, and its end is always on record."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from django.utils import timezone

from schedules.firing import trigger
from schedules.models import Reason, Run, Schedule, Session
from tests.faults.house import House, all_ended, bounded_part, every_session_once, house
from tests.faults.saboteur import POINTS
from tests.processes import until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(900)]

ALWAYS = ("after spawn is recorded",)  # the others take their time


@pytest.fixture
def rota() -> Iterator[House]:
    with house() as made:
        made.worker("control")
        made.beat()
        yield made


def by_hand(rota: House, count: int, *, script: str) -> None:
    """So many runs of one schedule."""
    schedule = rota.schedule(overlap=Schedule.Overlap.ALLOW, script=script)
    for _ in range(count):
        trigger(schedule, now=timezone.now())


@pytest.mark.parametrize(
    "point", [point if point in ALWAYS else pytest.param(point, marks=pytest.mark.slow) for point in POINTS]
)
def test_a_worker_killed_at_any_point_starts_nothing_twice(rota: House, point: str) -> None:
    times = bounded_part(25, 2)
    victims = [rota.worker(concurrency=1, harm=point) for _ in range(times)]
    by_hand(rota, times, script="sleep 3")
    until(lambda: all(victim.poll() == -signal.SIGKILL for victim in victims), within=300, what="all were killed")

    began = time.monotonic()
    rota.worker(concurrency=times)  # finds what they left on this machine
    until(lambda: all_ended(times), within=90, what="every session has a terminal state")
    assert time.monotonic() - began < 90
    until(lambda: not Run.objects.open().exists(), within=30, what="every run is settled")
    assert Session.objects.count() == times, "there is no other attempt"
    told = Counter(Session.objects.values_list("status", "reason"))
    if point == "after spawn":  # nobody knows whether it began, so it is not begun again
        assert told == {("lost", "worker_died"): times}
        assert set(rota.starts().values()) == {1}
    else:  # nothing was started; or the shims went on, and the next worker followed them
        assert told == {("succeeded", "ok"): times}
        assert rota.starts() == every_session_once()
    until(lambda: not rota.alive(), within=20, what="none of their processes is left")


@pytest.mark.slow
def test_a_session_whose_machine_stays_away_is_lost_and_never_run_again(rota: House) -> None:
    victim = rota.worker(concurrency=1, harm="after spawn is recorded")
    by_hand(rota, 1, script="sleep 300")
    assert victim.wait(timeout=60) == -signal.SIGKILL
    until(lambda: all_ended(1), within=90, what="it is declared lost")
    session = Session.objects.get()
    assert (session.status, session.reason) == (Session.Status.LOST, Reason.WORKER_DIED)
    assert session.run.sessions.count() == 1
    assert sum(rota.starts().values()) == 1


@pytest.mark.slow
def test_the_late_report_of_a_lost_worker_is_recorded_and_changes_nothing(rota: House) -> None:
    worker = rota.worker(concurrency=1)
    by_hand(rota, 1, script="sleep 2")
    until(lambda: Session.objects.filter(pid__isnull=False).exists(), within=30, what="it runs")
    worker.send_signal(signal.SIGSTOP)
    until(lambda: all_ended(1), within=90, what="it is declared lost")
    worker.send_signal(signal.SIGCONT)
    until(lambda: Session.objects.get().late_report, within=30, what="its report is recorded")
    session = Session.objects.get()
    assert (session.status, session.reason) == (Session.Status.LOST, Reason.WORKER_DIED)
    assert session.late_report is not None
    assert session.late_report["outcome"] == "succeeded"
    assert sum(rota.starts().values()) == 1
