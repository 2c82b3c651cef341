"""A PostgreSQL that is restarted while a session runs: the session survives, and its outcome is written."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.faults.house import House, bounded_part, house
from tests.postgres import Postgres
from tests.processes import until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]

_SCHEDULE = """
from django.utils import timezone
from schedules.firing import trigger
from schedules.models import Schedule
schedule = Schedule.objects.create(name="long", runner="script", argv=["sh", "-c", {script!r}], silence=None)
trigger(schedule, now=timezone.now())
"""


@pytest.fixture
def server() -> Iterator[Postgres]:
    """One of this test alone: the others need theirs."""
    with tempfile.TemporaryDirectory(prefix="rota-pg-", ignore_cleanup_errors=True) as folder:
        made = Postgres(Path(folder))
        made.start()
        yield made
        made.stop()


@pytest.fixture
def rota(server: Postgres) -> Iterator[House]:
    url = f"postgresql://postgres@/postgres?host={server.directory}"
    with house(DATABASE_URL=url) as made:
        made.run("migrate", "--verbosity", "0")
        yield made


def row(server: Postgres, what: str) -> tuple[Any, ...] | None:
    with psycopg.connect(host=str(server.directory), user="postgres", dbname="postgres") as database:
        return database.execute(what).fetchone()


@pytest.mark.slow
def test_a_session_survives_a_restart_of_its_database(rota: House, server: Postgres) -> None:
    away = bounded_part(30, 6)
    script = f'echo "$ROTA_SESSION" >> {rota.starts_file}; sleep {away + 6}; echo fine'
    rota.run("shell", "--no-imports", "-c", _SCHEDULE.format(script=script))
    for kind in ("sessions", "control"):
        rota.start(
            *("-m", "celery", "--app", "config", "--quiet", "worker", "--without-mingle", "--without-gossip"),
            *("--pool", "threads", "--queues", kind, "--hostname", f"{kind}@%h"),
            log=kind,
        )
    rota.start("-m", "celery", "--app", "config", "--quiet", "beat", log="beat")
    until(lambda: rota.starts(), within=60, what=f"it runs: {rota.said('sessions')}")

    server.stop()
    back_at = time.monotonic() + away
    until(lambda: time.monotonic() > back_at, within=away + 5, what="it stays away")
    server.resume()

    ended = "SELECT status, result FROM schedules_session WHERE finished_at IS NOT NULL"
    until(lambda: row(server, ended), within=60, what=f"its outcome is written: {rota.said('sessions')}")
    found = row(server, ended)
    assert found is not None
    assert (found[0], found[1].strip()) == ("succeeded", "fine")
    assert list(rota.starts().values()) == [1]
