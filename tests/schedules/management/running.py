"""Commands run in the tests' own process, and a stand-in for a worker that moves rows by the models' own verbs."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.core.management import call_command
from django.db import connection, transaction

from schedules.models import Run, Session, WorkerHeartbeat
from schedules.settling import settle_run
from tests.processes import until
from tests.schedules.factories import make_worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def object(self) -> dict[str, Any]:
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found


def run(*arguments: str) -> Ended:
    """Run a command, such as `run("schedule", "list")`."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    try:
        call_command(*arguments, stdout=out, stderr=err)
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else 1
    return Ended(code=code, out=out.getvalue(), err=err.getvalue())


@contextmanager
def working(act: Callable[[Session, WorkerHeartbeat], None], *, sessions: int = 1) -> Iterator[WorkerHeartbeat]:
    """A worker that is alive, takes so many sessions one after another, and does `act` with each."""
    worker = make_worker(now=datetime.now(UTC))
    faults: list[BaseException] = []

    def work() -> None:
        try:
            for number in range(sessions):
                until(lambda n=number: Session.objects.count() > n, within=20, what="a session is queued")  # type: ignore[misc]
                session = Session.objects.order_by("pk")[number]
                act(session, worker)
                settle_run(session.run_id, now=datetime.now(UTC))
        except BaseException as fault:
            faults.append(fault)
            Run.objects.open().update(status="failed", reason="internal", finished_at=datetime.now(UTC))
            raise
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield worker
    finally:
        thread.join(timeout=30)
    assert not faults


def claim(session: Session, worker: WorkerHeartbeat) -> None:
    """queued → running, with its run."""
    now = datetime.now(UTC)
    with transaction.atomic():
        Session.objects.admit([session.pk], now=now)  # here there may be no broker to hand it to
        assert Session.objects.claim(session.pk, worker=worker, task_id="", now=now)
    Run.objects.start(session.run_id, now=now)
    Session.objects.filter(pk=session.pk).update(started_at=now)


def finishing(status: str, reason: str, **fields: Any) -> Callable[[Session, WorkerHeartbeat], None]:
    """What a worker does with a session: claim it, and finish it so."""

    def act(session: Session, worker: WorkerHeartbeat) -> None:
        claim(session, worker)
        assert Session.objects.finish(session.pk, status=status, reason=reason, now=datetime.now(UTC), **fields)

    return act
