"""What a session came to goes on record once, whoever dies or comes in between."""

import gzip
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from runners import Conversation, SessionSpec
from runners.script import ScriptRunner
from schedules.execution import adopt
from schedules.folders import session_folder
from schedules.models import Repository, Run, Session, WorkerHeartbeat
from schedules.steering import cancel_run
from schedules.sweeping import sweep
from tests.schedules.factories import make_run, make_schedule, make_session, make_worker
from tests.schedules.faults import after, failing
from tests.schedules.places import queued, run_admitted, run_claimed

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("folders")]

_FINISHES = 'UPDATE "schedules_session" SET "status" = %s, "reason"'  # how the statement begins


def test_who_takes_over_when_the_end_was_not_yet_on_record_finds_everything(
    worker: WorkerHeartbeat, repository: Repository
) -> None:
    session = queued(
        "sh", "-c", 'echo hi > hi.txt; echo said; echo Fine. > "$ROTA_RESULT_FILE"', repositories=[repository]
    )
    with failing(_FINISHES, error=SystemExit(9)), pytest.raises(SystemExit):
        run_claimed(session, worker)
    heir = make_worker(now=timezone.now())

    assert adopt(session.pk, of=worker.pk, worker=heir, wish=lambda: "", clock=timezone.now) == "succeeded"

    session.refresh_from_db()
    assert (session.result.strip(), session.files_changed) == ("Fine.", 1)
    assert session.branch
    folder = session_folder(session.pk)
    assert b"said" in gzip.decompress((folder / "transcript.log.gz").read_bytes())
    assert not (folder / "output.log").exists()
    assert not any(Path(django_settings.ROTA_WORKSPACES_DIR).iterdir())


def test_who_dies_before_the_workspace_is_removed_has_settled_the_run_and_the_rest_is_swept(
    worker: WorkerHeartbeat, repository: Repository
) -> None:
    def die() -> None:
        raise SystemExit(9)

    session = queued("sh", "-c", "echo hi > hi.txt", repositories=[repository])
    with after('UPDATE "schedules_schedule" SET "last_status"', die), pytest.raises(SystemExit):
        run_claimed(session, worker)

    session.refresh_from_db()
    assert (session.status, session.run.status) == ("succeeded", "succeeded")
    assert any(Path(django_settings.ROTA_WORKSPACES_DIR).iterdir())
    sweep(now=timezone.now() + timedelta(minutes=11))
    assert not any(Path(django_settings.ROTA_WORKSPACES_DIR).iterdir())
    assert not (session_folder(session.pk) / "home").exists()


def test_a_workspace_that_can_not_be_removed_does_not_change_how_it_ended(
    worker: WorkerHeartbeat, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"  # without rm
    programs.mkdir()
    git = shutil.which("git")
    assert git
    (programs / "git").symlink_to(git)
    monkeypatch.setenv("PATH", str(programs))

    session = run_admitted(queued("sh", "-c", "echo hi > hi.txt", repositories=[repository]), worker)

    assert (session.status, session.reason, session.files_changed) == ("succeeded", "ok", 1)
    assert session.run.status == "succeeded"


class Forgetful(ScriptRunner):
    """A runner with a fault that shows at the end."""

    def conversation(self, spec: SessionSpec) -> Conversation | None:
        raise ValueError("there was something")


def test_a_fault_of_a_runner_leaves_no_session_running(worker: WorkerHeartbeat, settings: Settings) -> None:
    settings.ROTA_RUNNERS = {"script": f"{__name__}.Forgetful"}
    session = run_admitted(queued("true"), worker)
    assert (session.status, session.reason) == ("failed", "internal")
    assert "there was something" in session.message
    assert session.run.status == "failed"


def two_of_one_run() -> list[Session]:
    now = timezone.now()
    shared = make_run(make_schedule(now=now, argv=["true"]), now=now)
    return [make_session(shared, now=now, admitted_at=now) for _ in range(2)]


def in_threads(*works: Callable[[], object]) -> None:
    """All at once, each with a connection of its own, until they end."""

    def body(work: Callable[[], object]) -> None:
        try:
            work()
        finally:
            connection.close()

    threads = [threading.Thread(target=body, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)


def test_two_sessions_that_end_at_once_settle_their_run(worker: WorkerHeartbeat) -> None:
    sessions = two_of_one_run()
    both = threading.Barrier(2)

    def meet() -> None:
        with suppress(threading.BrokenBarrierError):
            both.wait(timeout=3)

    def work(session: Session) -> None:
        with after("SELECT COUNT", meet):  # of the sessions that are open
            run_claimed(session, worker)

    in_threads(*(partial(work, session) for session in sessions))

    assert Run.objects.get().status == "succeeded"


def test_a_cancel_and_an_end_at_once_do_not_wait_for_each_other_for_ever(worker: WorkerHeartbeat) -> None:
    session = two_of_one_run()[0]
    Session.objects.exclude(pk=session.pk).delete()
    ended, asked = threading.Event(), threading.Event()
    cancelled: list[bool] = []

    def in_between() -> None:
        ended.set()
        asked.wait(timeout=2)

    def end() -> None:
        with after(_FINISHES, in_between):
            run_claimed(session, worker)

    def cancel() -> None:
        assert ended.wait(timeout=20)
        with after('UPDATE "schedules_run"', asked.set):
            cancelled.append(cancel_run(session.run_id, by="ada", now=timezone.now()))

    in_threads(end, cancel)

    assert cancelled  # and not: deadlock detected
    assert Run.objects.get().status == "succeeded"
