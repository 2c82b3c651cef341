"""A worker that is told to end: what runs goes on under its shims, or is waited for, and nothing is started again."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from schedules import tasks
from schedules.firing import trigger
from schedules.models import Incident, Session, WorkerHeartbeat
from tests.faults.house import House, all_ended, house
from tests.processes import until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]


@pytest.fixture
def rota() -> Iterator[House]:
    with house() as made:
        made.worker("control", concurrency=1)
        yield made


def run_until(gate: Path, rota: House, count: int) -> list[int]:
    """So many sessions that run until `gate` is there."""
    script = f"while [ ! -e {gate} ]; do sleep 0.1; done; echo over"
    schedule = rota.schedule(overlap="allow", script=script)
    sessions = [trigger(schedule, now=timezone.now())[0].sessions.get().pk for _ in range(count)]
    until(lambda: sum(rota.starts().values()) == count, within=40, what="all run")
    return sessions


@pytest.mark.parametrize(
    ("asked", "drains"),
    [
        ((signal.SIGTERM,), False),
        pytest.param((signal.SIGQUIT,), False, marks=pytest.mark.slow),
        pytest.param((signal.SIGINT, signal.SIGINT), True, marks=pytest.mark.slow),
    ],
    ids=["term", "quit", "ctrl-c twice"],
)
def test_sessions_outlive_the_restart_of_their_worker(
    rota: House, asked: Sequence[signal.Signals], drains: bool
) -> None:
    gate = rota.var / "gate"
    before = rota.worker(concurrency=3, drain=drains)
    sessions = run_until(gate, rota, 3)

    for number in asked:
        before.send_signal(number)
        time.sleep(0.5)
    before.wait(timeout=30)
    assert Session.objects.filter(pk__in=sessions, status="running").count() == 3
    waiting = trigger(rota.schedule("later"), now=timezone.now())[0].sessions.get()
    rota.worker(concurrency=3)
    gate.touch()

    until(lambda: all_ended(4), within=40, what="all are over")
    assert set(Session.objects.values_list("status", "attempt")) == {("succeeded", 1)}
    assert rota.starts() == dict.fromkeys([*sessions, waiting.pk], 1)
    for session in Session.objects.filter(pk__in=sessions):
        assert session.events.filter(text="over").count() == 1
        assert session.worker != WorkerHeartbeat.objects.get(pid=before.pid)


def test_a_second_worker_of_the_machine_takes_over_from_one_that_died(rota: House) -> None:
    gate = rota.var / "gate"
    victim = rota.worker(concurrency=2)
    sessions = run_until(gate, rota, 2)
    beside = rota.worker(concurrency=1)

    rota.kill(victim)
    until(
        lambda: Session.objects.filter(pk__in=sessions, worker__pid=beside.pid).count() == 2,
        within=40,
        what="they were taken over",
    )
    gate.touch()
    until(lambda: all_ended(2), within=40, what="both are over")
    assert set(Session.objects.values_list("status", flat=True)) == {"succeeded"}
    assert rota.starts() == dict.fromkeys(sessions, 1)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["option", "setting"])
def test_a_worker_that_drains_waits_for_its_sessions_and_claims_no_others(rota: House, how: str) -> None:
    gate = rota.var / "gate"
    worker = rota.worker(concurrency=2, **({"ROTA_DRAIN": "true"} if how == "setting" else {}), drain=how == "option")
    sessions = run_until(gate, rota, 1)

    worker.send_signal(signal.SIGTERM)
    other = trigger(rota.schedule("later"), now=timezone.now())[0].sessions.get()
    tasks.dispatch()
    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(timeout=3)
    assert Session.objects.get(pk=sessions[0]).status == "running"
    gate.touch()
    worker.wait(timeout=40)

    assert Session.objects.get(pk=sessions[0]).status == "succeeded"
    assert Session.objects.get(pk=other.pk).status == "queued"
    assert rota.starts() == {sessions[0]: 1}


@pytest.mark.slow
def test_upkeep_goes_on_while_the_broker_is_away(rota: House) -> None:
    rota.stop_broker()
    session = trigger(rota.schedule(), now=timezone.now())[0].sessions.get()
    Session.objects.filter(pk=session.pk).update(admitted_at=timezone.now() - timedelta(minutes=5))
    until(
        lambda: Session.objects.filter(pk=session.pk, admitted_at=None).exists(),
        within=60,
        what="what was never claimed is taken back",
    )


@pytest.mark.slow  # for as long as beat may be silent
def test_workers_look_whether_beat_lives(rota: House) -> None:
    until(
        lambda: Incident.objects.filter(kind="beat_silent", recovered_at=None).exists(),
        within=120,
        what="a house without beat says so",
    )
