"""A worker process: its lease, the sessions in its hands, how it takes over and leaves."""

import fcntl
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import DatabaseError, connection
from django.utils import timezone
from pytest_django import Settings

from runners import ending_or_died, identify, kill
from schedules import steering
from schedules.firing import trigger
from schedules.folders import session_folder
from schedules.models import Incident, Session, WorkerHeartbeat
from schedules.worker import Worker
from tests.schedules.factories import make_repository, make_schedule, make_session, make_worker
from tests.schedules.places import end_sessions, use_folders

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _var(tmp_path: Path, settings: Settings) -> Iterator[None]:
    use_folders(settings, tmp_path)
    yield
    end_sessions(tmp_path)


@pytest.fixture
def dispatched() -> list[float]:
    return []


@pytest.fixture
def worker(dispatched: list[float]) -> Iterator[Worker]:
    def dispatch() -> int:
        dispatched.append(time.monotonic())
        return 0

    made = Worker(kind="sessions", name="sessions@here", concurrency=2, version="test", dispatch=dispatch)
    yield made
    made.leave(end_sessions=True)


def queued(*argv: str, **fields: Any) -> Session:
    schedule = make_schedule(now=timezone.now(), argv=list(argv), **fields)
    session = trigger(schedule, now=timezone.now())[0].sessions.get()
    assert Session.objects.admit([session.pk], now=timezone.now())
    return session


def until(true: Callable[[], object], within: float = 10) -> None:
    deadline = time.monotonic() + within
    while not true():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.05)


def at_work(worker: Worker, session: Session, *, said: str = "on") -> threading.Thread:
    """A thread in which it sees the session through, that has said this already."""

    def body() -> None:
        worker.execute(session.pk, task_id="t")
        connection.close()

    thread = threading.Thread(target=body)
    thread.start()
    until(lambda: session.events.filter(text=said).exists())
    return thread


def test_it_announces_itself_and_asks_for_work(worker: Worker, dispatched: list[float]) -> None:
    worker.start()
    worker.stop()

    row = WorkerHeartbeat.objects.get()
    me = identify(os.getpid())
    assert (row.pid, row.start_ticks, row.boot_id, row.hostname) == (
        me.pid,
        me.start_ticks,
        me.boot_id,
        socket.gethostname(),
    )
    assert (row.kind, row.concurrency) == ("sessions", 2)
    assert row.stopped_at is not None
    assert dispatched


def test_a_process_has_one_row_however_often_it_registers(worker: Worker) -> None:
    Worker(kind="sessions", name="again@here", concurrency=8, version="test", dispatch=lambda: 0)
    assert WorkerHeartbeat.objects.get().concurrency == 8


def test_it_says_which_agent_programs_it_has_also_when_they_change(
    worker: Worker, settings: Settings, tmp_path: Path
) -> None:
    def install(version: str) -> None:
        (tmp_path / "new").write_text(f"#!/bin/sh\necho '{version} (Claude Code)'\n")
        (tmp_path / "new").chmod(0o755)
        (tmp_path / "new").replace(tmp_path / "claude")

    def version() -> str:
        return str(WorkerHeartbeat.objects.get().programs.get("claude", {}).get("version"))

    settings.ROTA_PROGRAMS = {"claude": str(tmp_path / "claude")}
    install("2.1.327")
    worker.start()
    until(lambda: version() == "2.1.327")
    worker.stop()
    install("2.1.330")
    worker._look_at_programs()
    assert version() == "2.1.330"


def test_it_goes_on_renewing_its_lease(worker: Worker) -> None:
    WorkerHeartbeat.objects.update(last_seen_at=timezone.now() - timedelta(seconds=50))
    worker._presence.renewed_at -= timedelta(seconds=50)
    worker.start()
    until(lambda: WorkerHeartbeat.objects.get().last_seen_at > timezone.now() - timedelta(seconds=10))
    worker.stop()


def test_a_cancel_reaches_a_running_session(worker: Worker) -> None:
    session = queued("sh", "-c", "echo on; sleep 60")
    worker.start()
    thread = at_work(worker, session)

    steering.cancel_session(session.pk, by="ada", now=timezone.now())
    thread.join(timeout=15)
    worker.stop()

    session.refresh_from_db()
    assert (session.status, session.reason) == ("cancelled", "cancelled")


@pytest.mark.parametrize(("end_sessions", "status"), [(True, "cancelled"), (False, "running")])
def test_a_worker_that_leaves_ends_its_sessions_or_leaves_them(worker: Worker, end_sessions: bool, status: str) -> None:
    session = queued("sh", "-c", "echo on; sleep 60")
    worker.start()
    thread = at_work(worker, session)

    worker.leave(end_sessions=end_sessions)
    thread.join(timeout=15)
    worker.stop()

    session.refresh_from_db()
    assert session.status == status
    assert session.reason == ("shutdown" if end_sessions else "")


def test_a_worker_that_is_leaving_claims_nothing(worker: Worker) -> None:
    session = make_session(now=timezone.now(), admitted_at=timezone.now())
    worker.leave(end_sessions=False)
    assert "leaving" in worker.execute(session.pk, task_id="t")
    session.refresh_from_db()
    assert (session.status, session.admitted_at) == ("queued", None)


def test_it_takes_over_what_a_worker_of_this_machine_left(worker: Worker, dispatched: list[float]) -> None:
    gone = make_worker(now=timezone.now(), hostname=socket.gethostname(), stopped_at=timezone.now())
    session = queued("sh", "-c", "for i in 1 2 3 4 5 6; do echo line $i; sleep 0.2; done")
    before = Worker(kind="sessions", name="before@here", concurrency=1, version="test", dispatch=lambda: 0)
    thread = at_work(before, session, said="line 2")
    before.leave(end_sessions=False)
    thread.join(timeout=10)
    Session.objects.filter(pk=session.pk).update(worker=gone)

    worker.start()
    until(lambda: Session.objects.filter(pk=session.pk, status="succeeded").exists())
    until(lambda: len(dispatched) == 2)
    worker.stop()

    lines = session.events.filter(text__startswith="line").order_by("seq").values_list("text", flat=True)
    assert list(lines) == [f"line {number}" for number in range(1, 7)]


def test_what_another_living_process_works_on_is_left_alone(worker: Worker) -> None:
    parent = identify(os.getppid())
    other = make_worker(
        now=timezone.now(),
        hostname=socket.gethostname(),
        pid=parent.pid,
        start_ticks=parent.start_ticks,
        boot_id=parent.boot_id,
    )
    make_session(now=timezone.now(), status="running", worker=other, hostname=socket.gethostname(), pid=1)
    assert worker._orphans() == []


def test_a_message_that_comes_twice_does_not_take_the_session_out_of_its_hands(worker: Worker) -> None:
    session = queued("sh", "-c", "echo on; sleep 60")
    worker.start()
    thread = at_work(worker, session)

    assert "not claimed" in worker.execute(session.pk, task_id="again")
    steering.cancel_session(session.pk, by="ada", now=timezone.now())
    thread.join(timeout=15)
    worker.stop()

    session.refresh_from_db()
    assert session.status == "cancelled"


def test_what_its_row_says_is_in_its_hands_and_is_not_is_lost(worker: Worker) -> None:
    session = make_session(now=timezone.now(), status="running", worker=worker.row)
    worker.start()
    until(lambda: Session.objects.filter(pk=session.pk, status="lost").exists())
    worker.stop()


def test_it_renews_its_lease_while_a_sweep_takes_its_time(worker: Worker, tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    for arguments in (["init", "-b", "main"], ["commit", "--allow-empty", "-m", "Begin"]):
        identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path / "shop", check=True, capture_output=True)
    shop = make_repository("shop", url=str(tmp_path / "shop"))
    session = queued("sh", "-c", "echo work > work.txt; echo on; sleep 60", repositories=[shop])
    before = Worker(kind="sessions", name="before@here", concurrency=1, version="test", dispatch=lambda: 0)
    thread = at_work(before, session)
    before.leave(end_sessions=False)
    thread.join(timeout=10)
    kill(session_folder(session.pk))
    Session.objects.filter(pk=session.pk).update(status="lost", reason="worker_died", finished_at=timezone.now())

    with (tmp_path / "repositories" / "shop.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # whoever archives waits
        worker.start()
        worker._presence.renewed_at -= timedelta(seconds=50)
        WorkerHeartbeat.objects.update(last_seen_at=timezone.now() - timedelta(seconds=50))
        until(lambda: WorkerHeartbeat.objects.get().last_seen_at > timezone.now() - timedelta(seconds=10))
        assert any((tmp_path / "workspaces").iterdir())
    until(lambda: not any((tmp_path / "workspaces").iterdir()))
    worker.stop()


def test_a_folder_that_can_not_be_swept_ends_nothing(worker: Worker, tmp_path: Path) -> None:
    stuck = tmp_path / "sessions" / "99"
    stuck.mkdir(parents=True)
    (stuck / "swept").symlink_to(tmp_path / "no" / "such" / "folder")
    worker.start()
    WorkerHeartbeat.objects.update(last_seen_at=timezone.now() - timedelta(seconds=50))
    worker._presence.renewed_at -= timedelta(seconds=50)
    until(lambda: WorkerHeartbeat.objects.get().last_seen_at > timezone.now() - timedelta(seconds=10))
    worker.stop()


# --- The fence ------------------------------------------------------------------------------------


def behind(worker: Worker, seconds: float) -> None:
    """As if the database had not heard of it for so long. The next renewal is due in five seconds."""
    worker._presence.renewed_at = timezone.now()
    worker._fence.renewed = time.monotonic() - seconds


def test_who_can_not_renew_its_lease_ends_its_sessions_as_lost(worker: Worker) -> None:
    session = queued("sh", "-c", "echo on; sleep 60")
    worker.start()
    thread = at_work(worker, session)

    behind(worker, 46)
    thread.join(timeout=15)
    worker.stop()

    session.refresh_from_db()
    assert (session.status, session.reason) == ("lost", "worker_died")
    assert "could not renew its lease" in session.message
    assert ending_or_died(session_folder(session.pk))


def test_who_could_not_renew_its_lease_claims_nothing(worker: Worker) -> None:
    session = queued("true")
    behind(worker, 46)
    assert "could not renew" in worker.execute(session.pk, task_id="t")
    session.refresh_from_db()
    assert (session.status, session.admitted_at) == ("queued", None)


def test_a_worker_that_ends_untold_leaves_its_sessions_to_the_next(worker: Worker) -> None:
    session = queued("sh", "-c", "echo on; sleep 60")
    worker.start()
    thread = at_work(worker, session)
    worker.stop()
    thread.join(timeout=15)
    session.refresh_from_db()
    assert session.status == "running"


def test_an_outage_of_half_a_minute_ends_nothing(worker: Worker) -> None:
    session = queued("sh", "-c", "echo on; sleep 4; echo over")
    worker.start()
    thread = at_work(worker, session)
    behind(worker, 35)
    thread.join(timeout=20)
    worker.stop()
    session.refresh_from_db()
    assert session.status == "succeeded"


def test_a_session_declared_lost_behind_its_back_is_given_up(worker: Worker) -> None:
    session = queued("sh", "-c", "echo on; sleep 60")
    worker.start()
    thread = at_work(worker, session)
    until(lambda: session.pk in worker._heard)

    Session.objects.finish(session.pk, status="lost", reason="worker_died", now=timezone.now())
    thread.join(timeout=15)
    worker.stop()

    session.refresh_from_db()
    assert (session.status, session.result) == ("lost", "")
    assert session.late_report
    assert session.late_report["worker"] == "sessions@here"
    assert "still at work" in session.late_report["message"]


def test_a_success_that_comes_too_late_is_told_and_changes_nothing(worker: Worker) -> None:
    session = queued("sh", "-c", "echo on; while [ ! -e ../go ]; do sleep 0.1; done; echo fine; exit 0")
    thread = at_work(worker, session)

    Session.objects.finish(session.pk, status="lost", reason="worker_died", now=timezone.now())
    (Path(django_settings.ROTA_WORKSPACES_DIR) / "go").touch()
    thread.join(timeout=15)

    session.refresh_from_db()
    assert (session.status, session.reason) == ("lost", "worker_died")
    assert session.late_report
    assert (session.late_report["outcome"], session.late_report["exit_code"]) == ("succeeded", 0)


# --- The disk -------------------------------------------------------------------------------------


def test_a_worker_without_room_takes_nothing_until_there_is_again(
    settings: Settings, dispatched: list[float], worker: Worker
) -> None:
    consumes: list[bool] = []
    worker._consume = consumes.append
    session = queued("true")
    settings.ROTA_MIN_FREE_BYTES = 2**60

    assert "MB free" in worker.execute(session.pk, task_id="t")
    session.refresh_from_db()
    assert (session.status, session.admitted_at) == ("queued", None)
    assert WorkerHeartbeat.objects.slots() == 0
    incident = Incident.objects.get()
    assert (incident.kind, incident.subject) == ("disk_full", socket.gethostname())
    worker.execute(session.pk, task_id="t")
    assert Incident.objects.get().count == 1, "the same one"

    settings.ROTA_MIN_FREE_BYTES = 0
    worker.start()
    worker.stop()
    assert WorkerHeartbeat.objects.slots() == 2
    assert Incident.objects.get().recovered_at
    assert consumes == [False, True]
    assert dispatched


# --- Leaving and taking over ----------------------------------------------------------------------


def test_a_worker_that_drains_sees_its_sessions_through(worker: Worker, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    session = queued("sh", "-c", f"echo on; while [ ! -e {gate} ]; do sleep 0.1; done; echo over")
    worker.start()
    thread = at_work(worker, session)
    worker.leave(end_sessions=True, drain=True)
    assert "leaving" in worker.execute(queued("true").pk, task_id="t")
    until(lambda: WorkerHeartbeat.objects.get().holds_back == "It was told to end, and takes no more.", within=20)
    assert WorkerHeartbeat.objects.slots() == 0
    gate.touch()
    thread.join(timeout=15)
    worker.stop()
    session.refresh_from_db()
    assert session.status == "succeeded"


def test_the_control_workers_own_thread_keeps_up_the_house(dispatched: list[float]) -> None:
    control = Worker(kind="control", name="control@here", concurrency=0, version="t", dispatch=lambda: 0)
    session = make_session(now=timezone.now(), admitted_at=timezone.now() - timedelta(minutes=5))
    control._keep_up()
    session.refresh_from_db()
    assert session.admitted_at is None


def test_a_duty_that_fails_does_not_end_its_thread(worker: Worker) -> None:
    done: list[int] = []

    def fails() -> None:
        done.append(1)
        if len(done) == 2:
            worker._stopped.set()
        raise DatabaseError("away") if len(done) == 1 else ValueError("a bug")

    worker._keep(0.01, fails)
    assert len(done) == 2
