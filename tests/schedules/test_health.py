"""/healthz and /readyz, over a real database and a real broker."""

import json
import subprocess
import sys
import time
from datetime import timedelta
from typing import Any

import pytest
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django.utils import timezone

from schedules.models import WorkerHeartbeat

Kind = WorkerHeartbeat.Kind


ASK_IN_A_PROCESS = """
import django
django.setup()
from django.test import Client
response = Client(SERVER_NAME="localhost").get("/readyz")
print(response.status_code, response.content.decode())
"""


def beating(kind: str, *, age: timedelta = timedelta(), stopped: bool = False) -> None:
    seen_at = timezone.now() - age
    WorkerHeartbeat.objects.create(
        kind=kind,
        name=f"{kind}@here",
        hostname="here",
        pid=WorkerHeartbeat.objects.count() + 1,
        started_at=seen_at,
        last_seen_at=seen_at,
        stopped_at=seen_at if stopped else None,
    )


def ask(client: Client) -> tuple[int, dict[str, Any]]:
    response = client.get("/readyz")
    return response.status_code, response.json()["checks"]


def test_healthz_answers_without_database_and_broker(client: Client) -> None:
    # Without the fixture `db`, pytest-django fails a test that opens a connection.
    response = client.get("/healthz")
    assert (response.status_code, response.content) == (200, b"ok\n")
    assert "no-store" in response["Cache-Control"]


def test_only_reading_methods_are_answered(client: Client) -> None:
    assert client.head("/healthz").status_code == 200
    assert client.post("/healthz").status_code == 405
    assert client.post("/readyz").status_code == 405


@pytest.mark.django_db
def test_ready_when_everybody_is_alive(client: Client, broker: str) -> None:
    for kind in Kind:
        beating(kind)
    status, checks = ask(client)
    assert status == 200
    assert set(checks) == {"broker", "database", "migrations", "beat", "control", "sessions", "incidents"}
    assert all(check["ok"] for check in checks.values())


@pytest.mark.django_db
@pytest.mark.parametrize("kind", Kind.values)
def test_not_ready_when_one_is_silent(client: Client, broker: str, kind: str) -> None:
    for other in Kind:
        beating(other, age=timedelta(seconds=75) if other == kind else timedelta())
    status, checks = ask(client)
    assert status == 503
    assert [name for name, check in checks.items() if not check["ok"]] == [kind]
    assert checks[kind]["detail"] == "Last heard of 75 s ago."


@pytest.mark.django_db
def test_one_that_said_goodbye_does_not_count(client: Client, broker: str) -> None:
    for kind in Kind:
        beating(kind, stopped=kind == Kind.SESSIONS)
    status, checks = ask(client)
    assert (status, checks["sessions"]) == (503, {"ok": False, "detail": "None runs."})
    assert checks["beat"]["ok"]


@pytest.mark.django_db
def test_says_within_two_seconds_that_no_broker_is_there(client: Client, no_broker: None) -> None:
    began = time.monotonic()
    status, checks = ask(client)
    assert time.monotonic() - began < 2
    assert (status, checks["broker"]) == (
        503,
        {"ok": False, "detail": "The broker does not answer."},
    )
    assert checks["database"]["ok"]


@pytest.mark.django_db
def test_says_within_two_seconds_that_the_broker_hangs(client: Client, frozen_broker: None) -> None:
    began = time.monotonic()
    status, checks = ask(client)
    assert time.monotonic() - began < 2
    assert (status, checks["broker"]["ok"]) == (503, False)


@pytest.mark.django_db
def test_says_how_many_migrations_wait(client: Client, broker: str) -> None:
    newest = MigrationRecorder.Migration.objects.filter(app="schedules").latest("id")
    newest.delete()
    status, checks = ask(client)
    assert status == 503
    assert checks["database"]["ok"]
    assert checks["migrations"]["detail"] == "1 wait: run bin/manage migrate."
    assert checks["beat"]["detail"] == "Not known before the migrations are applied."


def test_says_that_the_database_is_away(environment: dict[str, str]) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", ASK_IN_A_PROCESS],
        env=environment | {"DATABASE_URL": "postgresql://rota@/rota?host=/nowhere"},
        capture_output=True,
        text=True,
        check=True,
    )
    status, body = answer.stdout.split(maxsplit=1)
    checks = json.loads(body)["checks"]
    assert status == "503"
    assert checks["database"]["detail"] == "The database does not answer."
    assert checks["beat"]["detail"] == "Not known: the database does not answer."
    assert "/nowhere" not in body
    assert "/nowhere" in answer.stderr
