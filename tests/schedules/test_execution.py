"""A queued session becomes a process, and a recorded outcome: with real git, a real shim and real programs."""

import gzip
import subprocess
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.utils import timezone
from pytest_django import Settings

from schedules.execution import execute
from schedules.folders import session_folder
from schedules.following import Wish
from schedules.models import Repository, Session, WorkerHeartbeat
from schedules.sweeping import sweep
from tests.schedules.factories import make_repository
from tests.schedules.faults import failing
from tests.schedules.places import queued, run_admitted

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("folders")]


def test_a_script_runs_and_all_of_it_is_on_record(repository: Repository, worker: WorkerHeartbeat) -> None:
    script = 'echo working; git log --oneline; echo new > new.txt; echo "# Fine" > "$ROTA_RESULT_FILE"'
    session = run_admitted(queued("sh", "-c", script, repositories=[repository]), worker)

    assert (session.status, session.reason, session.exit_code) == ("succeeded", "ok", 0)
    assert session.result.strip() == "# Fine"
    assert (session.run.status, session.run.commit) == ("succeeded", session.base_commit)
    assert session.branch == f"rota/{session.schedule.name}/{session.run_id}-1"
    assert "+new" in session.patch
    assert (session.files_changed, session.insertions) == (1, 1)
    texts = list(session.events.values_list("text", flat=True))
    assert "working" in texts
    assert any("Begin" in text for text in texts)
    session.schedule.refresh_from_db()
    assert (session.schedule.run_count, session.schedule.last_status) == (1, "succeeded")
    assert session.schedule.last_run_at == session.run.started_at

    folder = session_folder(session.pk)
    assert b"working" in gzip.decompress((folder / "transcript.log.gz").read_bytes())
    assert not (folder / "home").exists()
    assert not any(Path(django_settings.ROTA_WORKSPACES_DIR).iterdir())


def test_the_branch_is_kept_in_the_cache(repository: Repository, worker: WorkerHeartbeat) -> None:
    session = run_admitted(queued("sh", "-c", "echo hi > hi.txt", repositories=[repository]), worker)
    cache = Path(django_settings.ROTA_CACHE_DIR) / "shop.git"
    shown = subprocess.run(
        ["git", f"--git-dir={cache}", "show", f"{session.branch}:hi.txt"], capture_output=True, text=True, check=True
    )
    assert shown.stdout == "hi\n"


def test_without_a_repository_it_works_in_an_empty_folder(worker: WorkerHeartbeat) -> None:
    session = run_admitted(queued("sh", "-c", "ls -A | wc -l"), worker)
    assert (session.status, session.result.strip()) == ("succeeded", "0")


@pytest.mark.parametrize(
    ("argv", "fields", "status", "reason"),
    [
        (["sh", "-c", "exit 3"], {}, "failed", "exit_code"),
        (["no-such-program"], {}, "failed", "program_missing"),
        (["sh", "-c", "kill -9 $$"], {}, "failed", "crashed"),
        (["sleep", "60"], {"timeout": timedelta(seconds=1)}, "timed_out", "timed_out"),
        (["sleep", "60"], {"silence": timedelta(seconds=1)}, "timed_out", "stalled"),
    ],
)
def test_the_plain_bad_ends(
    argv: list[str], fields: dict[str, object], status: str, reason: str, worker: WorkerHeartbeat
) -> None:
    session = run_admitted(queued(*argv, **fields), worker)
    assert (session.status, session.reason) == (status, reason)
    assert session.message
    assert (session.run.status, session.run.reason) == ("failed", reason)


def test_a_repository_that_is_gone_fails_with_its_own_reason(worker: WorkerHeartbeat, tmp_path: Path) -> None:
    gone = make_repository("gone", url=str(tmp_path / "nowhere"), default_branch="main")
    session = run_admitted(queued("true", repositories=[gone]), worker)
    assert session.status == "failed"
    assert session.reason in ("fetch_failed", "repository_invalid")
    assert "nowhere" in session.message


def test_a_message_that_comes_twice_is_a_no_op(worker: WorkerHeartbeat) -> None:
    session = run_admitted(queued("true"), worker)
    again = execute(session.pk, worker=worker, task_id="t2", wish=lambda: "", clock=timezone.now)
    assert again == "not claimed"


def test_a_running_session_is_cancelled(worker: WorkerHeartbeat) -> None:
    began = time.monotonic()

    def wish() -> Wish:
        return "cancelled" if time.monotonic() > began + 0.5 else ""

    session = run_admitted(queued("sleep", "60"), worker, wish)
    assert (session.status, session.reason) == ("cancelled", "cancelled")
    assert session.run.status == "cancelled"


def test_a_session_that_is_cancelled_while_it_is_prepared_never_starts(worker: WorkerHeartbeat, tmp_path: Path) -> None:
    session = run_admitted(queued("touch", str(tmp_path / "started")), worker, lambda: "cancelled")
    assert (session.status, session.started_at) == ("cancelled", None)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize(
    ("asked", "status", "reason"),
    [("cancelled", "cancelled", "cancelled"), ("shutdown", "cancelled", "shutdown"), ("lost", "lost", "worker_died")],
)
def test_a_fetch_that_takes_long_is_ended_with_its_session(
    worker: WorkerHeartbeat,
    tmp_path: Path,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    asked: Wish,
    status: str,
    reason: str,
) -> None:
    settings.ROTA_FETCH_TIMEOUT = timedelta(seconds=20)
    begun = tmp_path / "begun"
    forge = tmp_path / "ssh"
    forge.write_text(f"#!/bin/sh\ntouch {begun}\nsleep 60\n")
    forge.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(forge))
    shop = make_repository("shop", url="ssh://forge/shop.git", default_branch="main")

    session = run_admitted(queued("true", repositories=[shop]), worker, lambda: asked if begun.exists() else "")

    assert begun.exists()
    assert (session.status, session.reason, session.started_at) == (status, reason, None)
    assert not any((tmp_path / "workspaces").glob("*"))


def test_what_a_dead_worker_left_is_swept(worker: WorkerHeartbeat, repository: Repository) -> None:
    session = queued("sh", "-c", "echo work > work.txt; echo ready; sleep 60", repositories=[repository])
    began = time.monotonic()

    def leave() -> Wish:
        return "detach" if time.monotonic() > began + 0.7 else ""

    execute(session.pk, worker=worker, task_id="t", wish=leave, clock=timezone.now)
    assert sweep(now=timezone.now()) == 0  # it is open
    Session.objects.finish(session.pk, status="lost", reason="worker_died", now=timezone.now())

    assert sweep(now=timezone.now()) > 0
    assert sweep(now=timezone.now()) == 0
    kept = Path(django_settings.ROTA_SESSIONS_DIR) / "reaped" / f"{session.pk}.patch"
    assert "+work" in kept.read_text()
    assert not any(Path(django_settings.ROTA_WORKSPACES_DIR).iterdir())


def test_a_database_that_is_away_after_the_claim_is_waited_for(worker: WorkerHeartbeat) -> None:
    session = queued("true")
    with failing('UPDATE "schedules_run"', times=1) as failed:
        run_admitted(session, worker)
    assert failed
    assert (session.status, session.run.status) == ("succeeded", "succeeded")


def test_a_folder_that_is_there_already_is_left_alone(worker: WorkerHeartbeat) -> None:
    session = queued("true")
    home = session_folder(session.pk) / "home"
    home.mkdir(parents=True)
    run_admitted(session, worker)
    assert (session.status, session.reason) == ("failed", "workspace_failed")
    assert "another database" in session.message
    assert home.is_dir()
