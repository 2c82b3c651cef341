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
for script in {scripts!r}:
    schedule = Schedule.objects.create(name=script[-30:], runner="script", argv=["sh", "-c", script], silence=None)
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


def ended(server: Postgres) -> list[tuple[Any, ...]]:
    with psycopg.connect(host=str(server.directory), user="postgres", dbname="postgres") as database:
        what = "SELECT status, trim(result) FROM schedules_session WHERE finished_at IS NOT NULL ORDER BY id"
        return database.execute(what).fetchall()


@pytest.mark.slow
def test_sessions_survive_a_restart_of_their_database(rota: House, server: Postgres) -> None:
    """One that ends while it is away, and one that ends when it is back."""
    away = bounded_part(30, 6)
    told = f'echo "$ROTA_SESSION" >> {rota.starts_file}'
    scripts = [f"{told}; sleep {away / 2}; echo meanwhile", f"{told}; sleep {away + 6}; echo after"]
    rota.run("shell", "--no-imports", "-c", _SCHEDULE.format(scripts=scripts))
    rota.start_all()
    until(lambda: len(rota.starts()) == 2, within=60, what=f"they run: {rota.said('sessions')}")

    server.stop()
    back_at = time.monotonic() + away
    until(lambda: time.monotonic() > back_at, within=away + 5, what="it stays away")
    server.resume()

    until(lambda: len(ended(server)) == 2, within=60, what=f"their outcomes are written: {rota.said('sessions')}")
    assert ended(server) == [("succeeded", "meanwhile"), ("succeeded", "after")]
    assert list(rota.starts().values()) == [1, 1]
