"""Many sessions, hostile ones, cancelled ones, and a disk that is full."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from django.db import connection
from django.utils import timezone

from schedules.firing import trigger
from schedules.models import Reason, Repository, Run, Schedule, Session, WorkerHeartbeat
from schedules.steering import cancel_run
from tests.faults.house import House, all_ended, bounded_part, house
from tests.processes import until
from tests.schedules.factories import make_repository

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(900)]

_TREE = 'sh -c \'trap "" TERM; setsid sh -c "sleep 600 & sleep 600" & sleep 600 & wait\''


@pytest.fixture
def rota() -> Iterator[House]:
    with house() as made:
        made.worker("control")
        made.beat()
        yield made


def alive(rota: House) -> list[psutil.Process]:
    """Processes of sessions of this house."""
    found = []
    for process in psutil.process_iter(["environ"]):
        if str(rota.var) in (process.info["environ"] or {}).get("ROTA_SESSION", ""):
            found.append(process)
    return found


@pytest.mark.slow
def test_none_of_a_tree_is_alive_after_the_limit(rota: House) -> None:
    """Three generations, one in a session of its own, one that ignores SIGTERM."""
    rota.worker()
    trigger(rota.schedule(script=_TREE, timeout=timedelta(seconds=3)), now=timezone.now())
    until(lambda: rota.starts(), within=60, what="it runs")
    until(lambda: all_ended(1), within=40, what="its time is over")
    assert Session.objects.get().status == Session.Status.TIMED_OUT
    until(lambda: not alive(rota), within=20, what="none is alive")


@pytest.mark.slow
def test_output_without_end_is_capped_and_takes_no_memory_of_the_worker(rota: House) -> None:
    worker = rota.worker()
    before = psutil.Process(worker.pid).memory_info().rss
    megabytes = bounded_part(2000, 300)
    flood = f"yes 'a line of a flood that nobody wants to keep' | head -c {megabytes}000000"
    trigger(rota.schedule(script=flood), now=timezone.now())
    until(lambda: all_ended(1), within=180, what="it has run")
    assert psutil.Process(worker.pid).memory_info().rss - before < 100_000_000
    kept = sum(file.stat().st_size for file in (rota.var / "sessions").rglob("*") if file.is_file())
    assert kept < 60_000_000


@pytest.mark.parametrize("stage", ["queued", pytest.param("running", marks=pytest.mark.slow)])
def test_a_run_that_is_cancelled_ends_soon(rota: House, stage: str) -> None:
    if stage == "running":
        rota.worker()
    [run] = trigger(rota.schedule(script="sleep 600"), now=timezone.now())
    if stage == "running":
        until(lambda: rota.starts(), within=60, what="it runs")
    asked_at = time.monotonic()
    cancel_run(run.pk, by="ada", now=timezone.now())
    until(lambda: all_ended(1), within=5 if stage == "queued" else 30, what="it is over")
    assert time.monotonic() - asked_at < (5 if stage == "queued" else 30)
    assert Session.objects.get().reason == Reason.CANCELLED
    until(lambda: Run.objects.get().status == Run.Status.CANCELLED, within=20, what="the run is settled")
    until(lambda: not alive(rota), within=20, what="none is alive")


@pytest.mark.slow
def test_a_cancel_while_all_workers_are_away_is_honoured_by_the_next_one(rota: House) -> None:
    worker = rota.worker()
    [run] = trigger(rota.schedule(script="sleep 600"), now=timezone.now())
    until(lambda: Session.objects.filter(pid__isnull=False).exists(), within=60, what="it runs")
    rota.kill(worker)
    cancel_run(run.pk, by="ada", now=timezone.now())
    rota.worker()
    until(lambda: all_ended(1), within=30, what="it is over")
    assert Session.objects.get().status == Session.Status.CANCELLED
    until(lambda: not alive(rota), within=20, what="none is alive")


@pytest.fixture
def shop(tmp_path: Path) -> Repository:
    folder = tmp_path / "shop"
    folder.mkdir()
    for number in range(bounded_part(2000, 200)):
        (folder / f"{number}.txt").write_text(f"{number}\n")
    for arguments in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "Begin"]):
        identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=folder, check=True)
    return make_repository("shop", url=str(folder))


@pytest.mark.slow
def test_many_sessions_at_once_in_one_repository_leave_nothing_behind(rota: House, shop: Repository) -> None:
    count = bounded_part(20, 6)
    rota.worker(concurrency=count)
    schedule = rota.schedule(script="pwd > where.txt; sleep 2", overlap=Schedule.Overlap.ALLOW, repositories=[shop])
    for _ in range(count):
        trigger(schedule, now=timezone.now())
    until(lambda: all_ended(count), within=180, what="all have run")
    assert Counter(Session.objects.values_list("status", "message")) == {("succeeded", ""): count}
    assert len(set(Session.objects.values_list("patch", flat=True))) == count, "each had a checkout of its own"
    until(lambda: not any((rota.var / "workspaces").iterdir()), within=20, what="no checkout is left")
    caches = rota.var / "repositories"
    branches = subprocess.run(
        ["git", "for-each-ref", "--format=%(refname:short)", "refs/heads"],
        cwd=next(path for path in caches.glob("shop*") if path.is_dir()),
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    kept = set(Session.objects.values_list("branch", flat=True))
    assert {name for name in branches if name.startswith("rota/")} == kept
    assert not list(caches.rglob("index.lock"))
    assert not list(caches.rglob("config.lock"))


@pytest.mark.slow
def test_a_worker_killed_in_a_checkout_leaves_nothing_in_the_way(rota: House, shop: Repository) -> None:
    victim = rota.worker(concurrency=1)
    schedule = rota.schedule(repositories=[shop], overlap=Schedule.Overlap.ALLOW)
    trigger(schedule, now=timezone.now())
    until(lambda: any((rota.var / "workspaces").glob("*")), within=60, what="a checkout is made")
    rota.kill(victim)
    rota.worker()
    trigger(schedule, now=timezone.now())
    until(
        lambda: Session.objects.filter(status=Session.Status.SUCCEEDED).exists(),
        within=60,
        what="the next one succeeds",
    )


@pytest.mark.slow
def test_short_sessions_without_end_take_nothing_with_them(rota: House) -> None:
    worker = psutil.Process(rota.worker(concurrency=8).pid)
    schedule = rota.schedule(overlap=Schedule.Overlap.ALLOW)
    count = 2000

    def run(sessions: int) -> None:
        before = Session.objects.count()
        for _ in range(sessions):
            trigger(schedule, now=timezone.now())
        until(lambda: all_ended(before + sessions), within=800, what="all have run")

    run(300)  # until every thread has worked, and has its connections
    files, memory = worker.num_fds(), worker.memory_info().rss
    run(count)
    until(lambda: worker.num_fds() <= files + 5, within=30, what="files are closed")
    assert worker.memory_info().rss - memory < 50_000_000
    assert rota.starts() == Counter(Session.objects.values_list("pk", flat=True))
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
            assert cursor.fetchone()[0] <= 30


@pytest.fixture
def small_disk() -> Iterator[tuple[House, Path]]:
    """A house whose sessions write to a disk of 48 MB."""
    with house(ROTA_MIN_FREE_MB="16", ROTA_MIN_FREE_INODES="10") as made:
        disk = made.var / "sessions"
        disk.mkdir(mode=0o700)
        mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(disk)]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            pytest.skip("a small disk can't be mounted here")
        try:
            made.worker("control")
            made.beat()
            made.worker()
            yield made, disk
        finally:
            made.close()
            subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.slow
def test_a_full_disk_fails_the_session_and_holds_back_the_next(small_disk: tuple[House, Path]) -> None:
    rota, disk = small_disk
    (disk / "ballast").write_bytes(b"\0" * 20_000_000)
    flood = "sleep 1; head -c 40000000 /dev/zero | tr '\\0' 'a' | fold -w 1000; sleep 60"
    trigger(rota.schedule("fills", script=flood), now=timezone.now())
    until(lambda: all_ended(1), within=90, what="it has run")
    assert Session.objects.get().reason == Reason.DISK_FULL

    free = shutil.disk_usage(disk).free
    (disk / "more").write_bytes(b"\0" * max(0, free - 8_000_000))
    holds_back = WorkerHeartbeat.objects.filter(stopped_at=None).exclude(holds_back="")
    until(holds_back.exists, within=60, what="the worker takes nothing")
    trigger(rota.schedule("waits"), now=timezone.now())
    for _ in range(20):
        assert Session.objects.get(schedule__name="waits").status == Session.Status.QUEUED
        time.sleep(0.1)

    (disk / "ballast").unlink()
    (disk / "more").unlink()
    until(lambda: not Session.objects.open().exists(), within=120, what="it runs once there is room")
    assert Session.objects.get(schedule__name="waits").status == Session.Status.SUCCEEDED
