"""Folders of a test's own for sessions, caches and workspaces, and sessions of scripts that run there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings

from runners import CHECKS, kill
from runners.workspaces import tells_of_every_write
from schedules.execution import execute
from schedules.firing import trigger
from schedules.following import Wish
from schedules.models import Repository, Schedule, Session, WorkerHeartbeat
from tests.runners.repositories import Source
from tests.schedules.factories import make_repository, make_schedule, make_worker


def use_folders(settings: Settings, folder: Path) -> None:
    settings.ROTA_SESSIONS_DIR = folder / "sessions"
    settings.ROTA_WORKSPACES_DIR = folder / "workspaces"
    settings.ROTA_CACHE_DIR = folder / "repositories"


def use_folders_that_keep(settings: Settings, folder: Path) -> None:
    """The same; skips the test where the temporary folder is on a file system on which no checkout is kept."""
    if not tells_of_every_write(folder):
        pytest.skip("Checkouts are not kept on the file system of the temporary folder.")
    use_folders(settings, folder)


def make_shop(folder: Path, **fields: Any) -> Repository:
    """A repository of two files, whose source is `folder/shop`."""
    source = Source(folder / "shop")
    source.commit({"README.md": "# Shop\n", ".gitignore": "build/\n"}, "Begin")
    return make_repository("shop", url=source.url, **fields)


def end_sessions(folder: Path) -> None:
    """Nobody of the sessions is left whose folders are in this one, or in one below it."""
    for session in (*folder.glob("sessions/[0-9]*"), *folder.glob("*/sessions/[0-9]*")):
        kill(session)
        for check in (session / CHECKS).glob("*"):
            kill(check)


def queued(*argv: str, **fields: Any) -> Session:
    """A session of a script that was handed to the broker."""
    return admitted(make_schedule(now=timezone.now(), **{"argv": list(argv), **fields}))


def admitted(schedule: Schedule) -> Session:
    """The same, of any schedule."""
    session = trigger(schedule, by="ada", now=timezone.now())[0].sessions.get()
    assert Session.objects.admit([session.pk], now=timezone.now())
    return session


def run_claimed(session: Session, worker: WorkerHeartbeat, wish: Callable[[], Wish] = lambda: "") -> str:
    return execute(session.pk, worker=worker, task_id="t", wish=wish, clock=timezone.now)


def run_admitted(session: Session, worker: WorkerHeartbeat, wish: Callable[[], Wish] = lambda: "") -> Session:
    """With its run, as they are when it has ended."""
    run_claimed(session, worker, wish)
    session.refresh_from_db()
    session.run.refresh_from_db()
    return session


def queue_script(script: str, repository: Repository, **fields: Any) -> Session:
    schedule = make_schedule(now=timezone.now(), argv=["sh", "-c", script], repositories=[repository], **fields)
    return trigger(schedule, by="ada", now=timezone.now())[0].sessions.get()


def run_session(
    session: Session, *, wish: Callable[[], Wish] = lambda: "", worker: WorkerHeartbeat | None = None
) -> Session:
    worker = worker or make_worker(now=timezone.now())
    Session.objects.filter(pk=session.pk).update(admitted_at=timezone.now())
    run_claimed(session, worker, wish)
    session.refresh_from_db()
    return session


def run_script(script: str, repository: Repository) -> Session:
    """A session that ran to its end."""
    return run_session(queue_script(script, repository))
