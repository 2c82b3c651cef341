"""Folders of a test's own for sessions, caches and workspaces, and sessions of scripts that run there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings

from runners.workspaces import tells_of_every_write
from schedules.execution import execute
from schedules.firing import trigger
from schedules.following import Wish
from schedules.models import Repository, Session, WorkerHeartbeat
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


def queue_script(script: str, repository: Repository, **fields: Any) -> Session:
    schedule = make_schedule(now=timezone.now(), argv=["sh", "-c", script], repositories=[repository], **fields)
    return trigger(schedule, by="ada", now=timezone.now())[0].sessions.get()


def run_session(
    session: Session, *, wish: Callable[[], Wish] = lambda: "", worker: WorkerHeartbeat | None = None
) -> Session:
    worker = worker or make_worker(now=timezone.now())
    Session.objects.filter(pk=session.pk).update(admitted_at=timezone.now())
    execute(session.pk, worker=worker, task_id="t", wish=wish, clock=timezone.now)
    session.refresh_from_db()
    return session


def run_script(script: str, repository: Repository) -> Session:
    """A session that ran to its end."""
    return run_session(queue_script(script, repository))
