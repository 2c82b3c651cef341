"""A disk that is full, of bytes or of files: on a real small one."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone

from schedules.firing import trigger
from schedules.models import Incident, Reason, Session, WorkerHeartbeat
from tests.faults.house import House, all_ended, house
from tests.processes import until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(900), pytest.mark.slow]


@contextmanager
def small_disk(folder: Path, *, options: str) -> Iterator[None]:
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small disk can't be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def house_on(options: str) -> Iterator[tuple[House, Path]]:
    """Its sessions write to a disk with these options of tmpfs."""
    with house(ROTA_MIN_FREE_MB="16", ROTA_MIN_FREE_INODES="100") as made:
        disk = made.var / "sessions"
        disk.mkdir(mode=0o700)
        with small_disk(disk, options=options):
            try:
                made.worker("control")
                made.beat()
                made.worker()
                yield made, disk
            finally:
                made.close()


def test_a_full_disk_fails_the_session_and_holds_back_the_next() -> None:
    with house_on("size=48m") as (rota, disk):
        (disk / "ballast").write_bytes(b"\0" * 20_000_000)
        flood = "sleep 1; head -c 40000000 /dev/zero | tr '\\0' 'a' | fold -w 1000; sleep 60"
        trigger(rota.schedule("fills", script=flood), now=timezone.now())
        until(lambda: all_ended(1), within=90, what="it has run")
        assert Session.objects.get().reason == Reason.DISK_FULL

        free = shutil.disk_usage(disk).free
        (disk / "more").write_bytes(b"\0" * max(0, free - 8_000_000))

        def make_room() -> None:
            (disk / "ballast").unlink()
            (disk / "more").unlink()

        sessions_wait_for(rota, make_room, said="MB free")


def test_a_disk_without_room_for_files_holds_back_sessions_too() -> None:
    with house_on("size=48m,nr_inodes=300") as (rota, disk):
        ballast = disk / "ballast"
        ballast.mkdir()
        for number in range(os.statvfs(disk).f_favail - 50):
            (ballast / str(number)).touch()
        sessions_wait_for(rota, lambda: shutil.rmtree(ballast), said="inodes free")


def sessions_wait_for(rota: House, make_room: Callable[[], None], *, said: str) -> None:
    holds_back = WorkerHeartbeat.objects.filter(stopped_at=None, holds_back__contains=said)
    until(holds_back.exists, within=60, what="the worker takes nothing")
    alarms = Incident.objects.open().filter(kind=Incident.Kind.DISK_FULL)
    until(alarms.exists, within=30, what="there is an alarm")
    trigger(rota.schedule("waits"), now=timezone.now())
    for _ in range(20):
        assert Session.objects.get(schedule__name="waits").status == Session.Status.QUEUED
        time.sleep(0.1)

    make_room()
    until(lambda: not Session.objects.open().exists(), within=120, what="it runs once there is room")
    assert Session.objects.get(schedule__name="waits").status == Session.Status.SUCCEEDED
    until(lambda: not alarms.exists(), within=30, what="the alarm is over")


_SCHEDULE = """
from django.utils import timezone
from schedules.firing import trigger
from schedules.models import Schedule
schedule = Schedule.objects.create(name="fills", runner="script", argv=["sh", "-c", {script!r}], silence=None)
trigger(schedule, now=timezone.now())
"""


def test_a_database_on_a_disk_that_a_session_fills_stays_whole() -> None:
    """As on a machine with one disk: what is to be written meanwhile waits for room."""
    if connection.vendor != "sqlite":
        pytest.skip("It is about the file of SQLite.")
    with tempfile.TemporaryDirectory(prefix="rota-") as folder, small_disk(Path(folder), options="size=64m"):
        rota = House(Path(folder), DATABASE_URL=f"sqlite:///{folder}/rota.sqlite3", ROTA_MIN_FREE_MB="8")
        try:
            rota.start_broker()
            rota.run("migrate", "--verbosity", "0")
            filling = Path(folder) / "filling"
            fills = f"cat /dev/zero 2>/dev/null > {filling}; sleep 12; echo over"
            script = f'echo "$ROTA_SESSION" >> {rota.starts_file}; {fills}'
            rota.run("shell", "--no-imports", "-c", _SCHEDULE.format(script=script))
            rota.start_all()
            until(lambda: not shutil.disk_usage(folder).free, within=60, what="the disk is full")
            full_until = time.monotonic() + 15
            until(lambda: time.monotonic() > full_until, within=30, what="it stays full")
            assert "full" in rota.log("sessions") + rota.log("control") + rota.log("beat")
            filling.unlink()
            ended = "SELECT status, reason FROM schedules_session WHERE finished_at IS NOT NULL"
            until(lambda: rows(folder, ended), within=90, what=f"its end is on record: {rota.said('sessions')}")
            assert rows(folder, ended) == [("failed", "disk_full")]
            assert rows(folder, "PRAGMA integrity_check") == [("ok",)]
            assert list(rota.starts().values()) == [1]
        finally:
            rota.close()


def rows(folder: str, what: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(f"{folder}/rota.sqlite3", timeout=30)) as database:
        return database.execute(what).fetchall()
