"""A worker that dies between a claim and its process: nothing is started twice, and nobody waits for a lease."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from runners import identify
from schedules import steering
from schedules.execution import adopt
from schedules.folders import session_folder
from schedules.models import Repository, Session, WorkerHeartbeat
from schedules.returning import GIVEN_BACK
from schedules.worker import Worker
from tests.processes import until
from tests.schedules.factories import make_worker
from tests.schedules.places import end_sessions, make_shop, queue_script, run_session, use_folders

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def shop(tmp_path: Path, settings: Settings) -> Iterator[Repository]:
    use_folders(settings, tmp_path)
    yield make_shop(tmp_path)
    end_sessions(tmp_path)


def dead_worker() -> WorkerHeartbeat:
    """One of this machine whose process is gone, and that is not yet silent for long."""
    with subprocess.Popen(["sleep", "9"]) as process:
        was = identify(process.pid)
        process.kill()
    facts: dict[str, Any] = {"pid": was.pid, "start_ticks": was.start_ticks, "boot_id": was.boot_id}
    return make_worker(now=timezone.now(), hostname=socket.gethostname(), **facts)


def claimed(shop: Repository, **fields: Any) -> Session:
    """By a worker that died since."""
    session, of = queue_script("true", shop), dead_worker()
    Session.objects.admit([session.pk], now=timezone.now())
    assert Session.objects.claim(session.pk, worker=of, task_id="t", now=timezone.now())
    Session.objects.filter(pk=session.pk).update(**fields)
    return session


def taken_over(session: Session) -> str:
    session.refresh_from_db()
    told = adopt(
        session.pk,
        of=session.worker_id,
        worker=make_worker(now=timezone.now(), hostname=socket.gethostname()),
        wish=lambda: "",
        clock=timezone.now,
    )
    session.refresh_from_db()
    return told


def test_what_was_not_begun_waits_again_once_and_runs(shop: Repository, tmp_path: Path) -> None:
    session = claimed(shop)
    for folder in ("sessions", "workspaces"):  # it had come that far
        (tmp_path / folder / str(session.pk) / "half").mkdir(parents=True)

    assert taken_over(session) == "given back"
    assert (session.status, session.admitted_at, session.worker, session.message) == ("queued", None, None, GIVEN_BACK)

    run_session(session)
    assert (session.status, session.message) == ("succeeded", "")
    assert session.run.sessions.count() == 1
    assert session.schedule.run_count == 1


def test_it_is_not_given_back_again_and_again(shop: Repository) -> None:
    session = claimed(shop, message=GIVEN_BACK)
    assert taken_over(session) == "lost"
    assert (session.status, session.reason) == ("lost", "worker_died")
    assert "died again" in session.message


@pytest.mark.parametrize(
    "unwanted",
    [
        lambda session: steering.cancel_session(session.pk, by="ada", now=timezone.now()),
        lambda session: steering.disable([session.schedule], by="ada", reason="", now=timezone.now()),
    ],
    ids=["cancelled", "disabled"],
)
def test_what_nobody_wants_any_more_does_not_wait_for_ever(
    shop: Repository, unwanted: Callable[[Session], object]
) -> None:
    session = claimed(shop)
    unwanted(session)
    assert taken_over(session) == "cancelled"
    session.run.refresh_from_db()
    assert session.run.status == "cancelled"


def test_what_may_have_been_started_is_lost_and_ended(shop: Repository) -> None:
    session = claimed(shop)
    Session.objects.filter(pk=session.pk).update(folder=str(session.pk))
    folder = session_folder(session.pk)
    folder.mkdir(parents=True)
    marked = {"ROTA_SESSION": str(folder.resolve())}
    left = subprocess.Popen(["sleep", "600"], env=marked, start_new_session=True)

    assert taken_over(session) == "lost"
    assert session.finished_at is not None
    assert not session.run.sessions.exclude(pk=session.pk).exists()
    assert left.wait(timeout=20) == -signal.SIGKILL


def test_what_its_worker_still_has_in_hand_is_not_looked_at(shop: Repository) -> None:
    session = claimed(shop)
    here = identify(os.getppid())
    facts: dict[str, Any] = {
        "pid": here.pid,
        "start_ticks": here.start_ticks,
        "boot_id": here.boot_id,
        "hostname": socket.gethostname(),
    }
    for stopped_at in (None, timezone.now()):  # a row may say that it is gone a little before it is
        lives = make_worker(now=timezone.now(), stopped_at=stopped_at, **facts)
        Session.objects.filter(pk=session.pk).update(worker=lives)
        assert Worker(kind="sessions", name="w", concurrency=1, version="t", dispatch=lambda: 0)._orphans() == []
        lives.delete()


def test_the_next_worker_of_the_machine_gives_it_back_at_its_start(shop: Repository) -> None:
    session = claimed(shop)
    worker = Worker(kind="sessions", name="next@here", concurrency=1, version="t", dispatch=lambda: 0)
    worker.start()
    until(lambda: Session.objects.filter(pk=session.pk, status="queued").exists(), within=30, what="it waits again")
    worker.stop()


def test_a_session_has_its_folder_on_record_before_anything_is_started(shop: Repository) -> None:
    session = queue_script("true", shop)
    started = ("launch.json", "shim.log", "process.json", "output.log", "ending.json")
    seen: list[list[str]] = []

    def look(execute: Any, sql: str, *rest: Any) -> Any:
        answer = execute(sql, *rest)
        if sql.startswith('UPDATE "schedules_session"') and '"folder" = ' in sql:
            seen.append([name for name in started if (session_folder(session.pk) / name).exists()])
        return answer

    with connection.execute_wrapper(look):
        run_session(session)
    assert session.status == "succeeded"
    assert seen
    assert seen[0] == []
