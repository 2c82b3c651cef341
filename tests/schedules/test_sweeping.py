"""What is left on a machine: archived, removed, listed; within bounds."""

import json
import shutil
import signal
import subprocess
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from runners import kill
from schedules.folders import GIVEN, kept_checkouts, session_folder
from schedules.following import Wish
from schedules.models import Repository, Session
from schedules.sweeping import Later, reap_workspaces, sweep, workspaces_on_disk
from tests.schedules.places import make_shop, queue_script, run_script, run_session, use_folders_that_keep

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _folders(settings: Settings, tmp_path: Path) -> None:
    use_folders_that_keep(settings, tmp_path)


@pytest.fixture
def warm(tmp_path: Path) -> Repository:
    return make_shop(tmp_path, workspaces=Repository.Workspaces.WARM)


def leave_behind(repository: Repository) -> Session:
    """A session whose worker and shim are gone, with a commit and an uncommitted file in its checkout."""
    script = "echo a > a; git add a; git commit -qm Work; echo b > b; echo ready; sleep 60"
    began = time.monotonic()

    def leave() -> Wish:
        return "detach" if time.monotonic() > began + 0.7 else ""

    session = run_session(queue_script(script, repository), wish=leave)
    kill(session_folder(session.pk))
    return session


def states() -> list[tuple[str, int | None, str]]:
    return [(one.state, one.session, one.repository) for one in workspaces_on_disk(now=timezone.now())]


def test_live_leftover_and_kept_ones_are_listed_with_their_sizes(warm: Repository) -> None:
    before = run_script("true", warm)
    session = leave_behind(warm)
    assert states() == [("live", session.pk, "shop")]
    Session.objects.finish(session.pk, status="lost", reason="worker_died", now=timezone.now())
    assert states() == [("leftover", session.pk, "shop")]
    after = run_script("true", warm)
    assert sorted(states()) == [("kept", after.pk, "shop"), ("leftover", session.pk, "shop")]
    assert all(one.bytes > 1000 for one in workspaces_on_disk(now=timezone.now()))
    assert before.pk < session.pk


def test_a_leftover_is_kept_as_a_patch_and_a_bundle_of_its_commits(warm: Repository, tmp_path: Path) -> None:
    session = leave_behind(warm)
    Session.objects.finish(session.pk, status="lost", reason="worker_died", now=timezone.now())
    ((reaped,), _) = reap_workspaces(now=timezone.now())
    assert (reaped.name, reaped.error) == (str(session.pk), "")
    assert reaped.bytes > 1000
    folder = tmp_path / "sessions" / "reaped"
    assert sorted(path.name for path in folder.iterdir()) == [f"{session.pk}.bundle", f"{session.pk}.patch"]
    shutil.rmtree(tmp_path / "repositories")  # all that is needed is in the bundle, and with the forge
    branch = f"refs/heads/rota/{session.schedule.name}/{session.run_id}-1"
    fetch = ["git", "fetch", "--quiet", str(folder / f"{session.pk}.bundle"), f"{branch}:refs/heads/work"]
    subprocess.run(fetch, cwd=tmp_path / "shop", check=True)
    log = subprocess.run(
        ["git", "log", "--format=%s", "main..work"], cwd=tmp_path / "shop", check=True, capture_output=True, text=True
    )
    assert log.stdout.splitlines() == ["Keep what the session left uncommitted", "Work"]
    assert states() == []


def test_what_can_t_be_archived_is_tried_again_after_a_longer_and_longer_time(warm: Repository) -> None:
    session = leave_behind(warm)
    Session.objects.finish(session.pk, status="lost", reason="worker_died", now=timezone.now())
    (session_folder(session.pk) / GIVEN).write_bytes(b"sealed with a key that is gone")
    now, later = timezone.now(), Later()

    def tried(minutes: float) -> int:
        left_behind, _ = reap_workspaces(now=now + timedelta(minutes=minutes), later=later)
        assert all(one.error for one in left_behind)
        return len(left_behind)

    assert [tried(minutes) for minutes in (0, 1, 2, 3, 5.9, 6, 13)] == [1, 0, 1, 0, 0, 1, 0]
    assert len(reap_workspaces(now=now + timedelta(minutes=13))[0]) == 1, "by hand it is tried at once"

    (session_folder(session.pk) / GIVEN).unlink()
    reap_workspaces(now=now + timedelta(minutes=14), later=later)
    assert states() == []


def test_no_sweep_finds_the_workspace_of_what_its_own_worker_ended_as_lost(warm: Repository, tmp_path: Path) -> None:
    session = queue_script("echo ready; sleep 60", warm)
    began, found = time.monotonic(), list[bool]()

    def look(execute: Any, sql: str, *rest: Any) -> Any:
        answer = execute(sql, *rest)
        if sql.startswith('UPDATE "schedules_session"') and '"finished_at" = ' in sql:
            found.append((tmp_path / "workspaces" / str(session.pk)).exists())
        return answer

    with connection.execute_wrapper(look):
        run_session(session, wish=lambda: "lost" if time.monotonic() > began + 0.7 else "")
    assert (session.status, found) == ("lost", [False])


def test_whoever_a_shim_could_not_end_is_ended_later_and_once(warm: Repository) -> None:
    """As one that hung in the kernel when its session ended."""
    session = run_script("true", warm)
    folder = session_folder(session.pk)
    ending = json.loads((folder / "ending.json").read_bytes())
    (folder / "ending.json").write_text(json.dumps({**ending, "left": 1}))
    with subprocess.Popen(["sleep", "20"], env={"ROTA_SESSION": str(folder)}) as left:
        assert sweep(now=timezone.now()) == 1
        assert left.wait(timeout=15) == -signal.SIGKILL
    assert sweep(now=timezone.now()) == 0


def test_a_young_workspace_of_another_database_is_not_touched(warm: Repository, tmp_path: Path) -> None:
    session = leave_behind(warm)
    session.run.delete()
    reap_workspaces(now=timezone.now())
    assert states() == [("live", session.pk, "")]
    reap_workspaces(now=timezone.now() + timedelta(days=2))
    assert states() == []
    assert (tmp_path / "sessions" / "reaped" / f"{session.pk}.patch").exists()


def test_kept_checkouts_go_with_age_size_and_their_repositorys_wish(warm: Repository, settings: Settings) -> None:
    run_script("true", warm)
    sweep(now=timezone.now())
    assert len(kept_checkouts().listed()) == 1
    sweep(now=timezone.now() + settings.ROTA_WORKSPACES_MAX_AGE + timedelta(minutes=1))
    assert kept_checkouts().listed() == []

    run_script("true", warm)
    settings.ROTA_WORKSPACES_MAX_BYTES = 10
    sweep(now=timezone.now())
    assert kept_checkouts().listed() == []

    settings.ROTA_WORKSPACES_MAX_BYTES = 10**9
    run_script("true", warm)
    Repository.objects.update(workspaces=Repository.Workspaces.FRESH)
    sweep(now=timezone.now())
    assert kept_checkouts().listed() == []


def test_what_is_in_order_is_not_looked_at_again(tmp_path: Path) -> None:
    session = run_script("true", make_shop(tmp_path))
    folder = session_folder(session.pk)
    done: set[int] = set()
    sweep(now=timezone.now() + timedelta(hours=1), done=done)
    assert done == {session.pk}

    with CaptureQueriesContext(connection) as queries:
        sweep(now=timezone.now() + timedelta(hours=1), done=done)
    assert not [query for query in queries if f'"id" IN ({session.pk})' in query["sql"]]

    session.run.delete()
    sweep(now=timezone.now() + timedelta(days=400), done=done)
    assert folder.exists(), "a sweep of all drops it"
    sweep(now=timezone.now() + timedelta(days=400))
    assert not folder.exists()


def test_without_a_folder_of_sessions_there_is_nothing_to_sweep() -> None:
    assert sweep(now=timezone.now()) == 0
