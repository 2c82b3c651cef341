"""Many sessions, hostile ones, and cancelled ones."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from schedules.firing import trigger
from schedules.models import Reason, Repository, Run, Schedule, Session
from schedules.steering import cancel_run
from tests.faults.house import House, all_ended, bounded_part, every_session_once, house
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


@pytest.mark.slow
def test_none_of_a_tree_is_alive_after_the_limit(rota: House) -> None:
    """Three generations, one in a session of its own, one that ignores SIGTERM."""
    rota.worker()
    limit = timedelta(seconds=8)
    trigger(rota.schedule(script=_TREE, timeout=limit), now=timezone.now())
    until(lambda: len(sleepers(rota)) == 3, within=60, what="all of them run")
    assert len({os.getsid(process.pid) for process in sleepers(rota)}) == 2
    until(lambda: not rota.alive(), within=60, what="none is alive")
    gone_at = timezone.now()
    until(lambda: all_ended(1), within=10, what="its time is over")
    session = Session.objects.get()
    assert session.status == Session.Status.TIMED_OUT
    assert session.started_at is not None
    assert gone_at - session.started_at - limit < timedelta(seconds=20)


def sleepers(rota: House) -> list[psutil.Process]:
    return [process for process in rota.alive() if process.name() == "sleep"]


@pytest.mark.slow
def test_output_without_end_is_capped_and_takes_no_memory_of_the_worker(
    rota: House, settings: Settings, client: Client
) -> None:
    worker = rota.worker()
    before = psutil.Process(worker.pid).memory_info().rss
    megabytes = bounded_part(2000, 300)
    flood = f"yes 'a line of a flood that nobody wants to keep' | head -c {megabytes}000000"
    trigger(rota.schedule(script=flood), now=timezone.now())
    most_on_disk = 0

    def is_over() -> bool:
        nonlocal most_on_disk
        most_on_disk = max(most_on_disk, on_disk(rota.var / "sessions"))  # before it is compressed, too
        return all_ended(1)

    until(is_over, within=180, what="it has run")
    assert most_memory(worker.pid) - before < 100_000_000
    assert 10_000_000 < most_on_disk < 60_000_000

    settings.ROTA_SESSIONS_DIR = rota.var / "sessions"
    client.force_login(get_user_model().objects.create_superuser("ada"))
    session = Session.objects.get()
    for path in (f"session/{session.pk}/change/", f"run/{session.run_id}/change/", "session/"):
        assert min(seconds_to_open(client, path) for _ in range(2)) < 2, path  # the first time, templates are read


def seconds_to_open(client: Client, path: str) -> float:
    began = time.monotonic()
    assert client.get(f"/admin/schedules/{path}").status_code == 200
    return time.monotonic() - began


def on_disk(folder: Path) -> int:
    """Bytes of all files in it."""
    found = 0
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):
            found += file.lstat().st_size
    return found


def most_memory(pid: int) -> int:
    """Bytes that it ever had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


_STAGES = {  # what it does, and within how many seconds it is over
    "queued": ("sleep 600", 5),
    "running": ("sleep 600", 15),
    "running and deaf": ('trap "" TERM; while :; do sleep 1; done', 15),
}


@pytest.mark.parametrize(
    "stage", ["queued", *(pytest.param(stage, marks=pytest.mark.slow) for stage in _STAGES if stage != "queued")]
)
def test_a_run_that_is_cancelled_ends_soon(rota: House, stage: str) -> None:
    script, within = _STAGES[stage]
    if stage != "queued":
        rota.worker()
    [run] = trigger(rota.schedule(script=script), now=timezone.now())
    if stage != "queued":
        until(lambda: rota.starts(), within=60, what="it runs")
    cancel_and_see(rota, run, within=within)


@pytest.mark.slow
def test_a_run_that_is_cancelled_while_its_checkout_is_made_ends_sooner(rota: House, shop: Repository) -> None:
    slow = rota.var / "slow"
    rota.worker(PATH=slow_git(rota, while_there_is=slow))
    [run] = trigger(rota.schedule(repositories=[shop]), now=timezone.now())
    until(lambda: (rota.var / "at checkout").exists(), within=60, what="a checkout is made")
    assert Session.objects.get().status == Session.Status.RUNNING
    cancel_and_see(rota, run, within=5)
    assert not rota.starts()
    slow.unlink()


def cancel_and_see(rota: House, run: Run, *, within: int) -> None:
    asked_at = time.monotonic()
    cancel_run(run.pk, by="ada", now=timezone.now())
    until(lambda: all_ended(1), within=60, what="it is over")
    assert time.monotonic() - asked_at < within
    assert Session.objects.get().reason == Reason.CANCELLED
    until(lambda: Run.objects.get().status == Run.Status.CANCELLED, within=20, what="the run is settled")
    until(lambda: not rota.alive(), within=20, what="none is alive")


def slow_git(rota: House, *, while_there_is: Path) -> str:
    """A PATH on which git, about to check out, does a part of that and then waits while there is this file."""
    while_there_is.touch()
    programs = rota.var / "programs"
    programs.mkdir()
    git, there = shutil.which("git"), rota.var / "at checkout"
    (programs / "git").write_text(
        f"""#!/bin/sh
case "$*" in *read-tree*) if [ -e '{while_there_is}' ]; then
  timeout --signal KILL 0.03 {git} "$@"
  touch '{there}'
  for time in $(seq 600); do [ -e '{while_there_is}' ] && sleep 0.1; done
fi;; esac
exec {git} "$@"
"""
    )
    (programs / "git").chmod(0o755)
    return f"{programs}:{os.environ['PATH']}"


@pytest.mark.slow
def test_a_cancel_while_all_workers_are_away_is_honoured_by_the_next_one(rota: House) -> None:
    """What runs ends when it is taken over; what was only sent is over at once, and its message finds nothing."""
    worker = rota.worker(concurrency=2)
    [runs] = trigger(rota.schedule(script="sleep 600"), now=timezone.now())
    until(lambda: Session.objects.filter(pid__isnull=False).exists(), within=60, what="it runs")
    worker.send_signal(signal.SIGSTOP)
    [sent] = trigger(rota.schedule(script="sleep 600"), now=timezone.now())
    until(lambda: sent.sessions.get().admitted_at, within=30, what="the other one is sent")
    rota.kill(worker)
    for run in (runs, sent):
        cancel_run(run.pk, by="ada", now=timezone.now())
    assert sent.sessions.get().status == Session.Status.CANCELLED
    rota.worker()
    until(lambda: all_ended(2), within=30, what="both are over")
    with rota.broker() as broker:
        until(lambda: not broker.llen("sessions"), within=30, what="the message was taken")
    assert {session.status for session in Session.objects.all()} == {Session.Status.CANCELLED}
    assert list(rota.starts()) == [runs.sessions.get().pk]
    until(lambda: not rota.alive(), within=20, what="none is alive")


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
    """Half of them change something."""
    count = bounded_part(20, 6)
    rota.worker(concurrency=count)
    for script in ("pwd > where.txt; sleep 2", "pwd; sleep 2"):
        schedule = rota.schedule(script=script, overlap=Schedule.Overlap.ALLOW, repositories=[shop])
        for _ in range(count // 2):
            trigger(schedule, now=timezone.now())
    until(lambda: all_ended(count), within=180, what="all have run")
    sessions = list(Session.objects.all())
    assert Counter((session.status, session.message) for session in sessions) == {("succeeded", ""): count}
    assert rota.starts() == every_session_once()
    begun, over = ([getattr(session, name) for session in sessions] for name in ("claimed_at", "finished_at"))
    assert max(begun) < min(over), "they were at work at once"
    assert len({session.patch or session.result for session in sessions}) == count, "each had a checkout of its own"
    until(lambda: not any((rota.var / "workspaces").iterdir()), within=20, what="no checkout is left")
    cache = cache_of(rota)
    branches = subprocess.run(
        ["git", "for-each-ref", "--format=%(refname:short)", "refs/heads"],
        cwd=cache,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    kept = {session.branch for session in sessions if session.branch}
    assert len(kept) == count // 2
    assert {name for name in branches if name.startswith("rota/")} == kept
    assert not list(cache.rglob("*.lock"))
    for file in cache.parent.glob("*.lock"):
        with file.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody holds it


def cache_of(rota: House) -> Path:
    return next(path for path in (rota.var / "repositories").glob("shop*") if path.is_dir())


@pytest.mark.slow
def test_a_worker_killed_in_a_checkout_leaves_nothing_in_the_way(rota: House, shop: Repository) -> None:
    """With a part of the files written, and git's lock on its index."""
    slow = rota.var / "slow"
    victim = rota.worker(concurrency=1, PATH=slow_git(rota, while_there_is=slow))
    schedule = rota.schedule(repositories=[shop], overlap=Schedule.Overlap.ALLOW)
    trigger(schedule, now=timezone.now())
    until(lambda: (rota.var / "at checkout").exists(), within=60, what="a checkout is made")
    rota.kill(victim)
    assert any((rota.var / "workspaces").iterdir())
    slow.unlink()
    rota.worker()
    trigger(schedule, now=timezone.now())
    until(lambda: all_ended(2), within=90, what="both have run")
    assert Counter(Session.objects.values_list("status", flat=True)) == {"succeeded": 2}
    assert rota.starts() == every_session_once()
    until(lambda: not any((rota.var / "workspaces").iterdir()), within=90, what="no checkout is left")
    assert not list(cache_of(rota).rglob("*.lock"))


@pytest.mark.slow
def test_short_sessions_without_end_take_nothing_with_them(rota: House) -> None:
    worker = psutil.Process(rota.worker(concurrency=8).pid)
    schedule = rota.schedule(overlap=Schedule.Overlap.ALLOW)
    count = 2000

    def files() -> tuple[int, int]:
        """How many are open; and of them the database's own. SQLite closes those that it lent with its last connection
        alone: there are as many as there were connections at once."""
        of_database = sum(one.path.endswith(".sqlite3") for one in worker.open_files())
        return worker.num_fds() - of_database, of_database

    def run(sessions: int) -> None:
        before = Session.objects.count()
        for _ in range(sessions):
            trigger(schedule, now=timezone.now())
        until(lambda: all_ended(before + sessions), within=800, what="all have run")

    run(300)  # until every thread has worked, and has its connections
    (before, _), memory = files(), worker.memory_info().rss
    run(count)
    until(lambda: files()[0] <= before + 5, within=30, what="files are closed")
    assert files()[1] <= worker.num_threads()
    assert worker.memory_info().rss - memory < 50_000_000
    assert rota.starts() == every_session_once()
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
            assert cursor.fetchone()[0] <= 30
