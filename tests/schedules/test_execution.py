"""A queued session becomes a process, and a recorded outcome: with real git, a real shim and real programs."""

import gzip
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from runners import Conversation, SessionSpec, kill
from runners.script import ScriptRunner
from schedules.execution import adopt, execute
from schedules.firing import trigger
from schedules.folders import session_folder
from schedules.following import Wish
from schedules.models import Repository, Run, Schedule, Session, WorkerHeartbeat
from schedules.steering import cancel_run
from schedules.sweeping import sweep
from schedules.transcript import FIRST_OF_PROCESS
from tests.schedules.factories import make_event, make_repository, make_run, make_schedule, make_session, make_worker
from tests.schedules.faults import after, failing

pytestmark = pytest.mark.django_db(transaction=True)

_FINISHES = 'UPDATE "schedules_session" SET "status" = %s, "reason"'  # how the statement begins


@pytest.fixture(autouse=True)
def _var(tmp_path: Path, settings: Settings) -> Iterator[None]:
    settings.ROTA_SESSIONS_DIR = tmp_path / "sessions"
    settings.ROTA_WORKSPACES_DIR = tmp_path / "workspaces"
    settings.ROTA_CACHE_DIR = tmp_path / "repositories"
    settings.ROTA_REHEARSE = True
    yield
    for folder in (tmp_path / "sessions").glob("[0-9]*"):
        kill(folder)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    folder = tmp_path / "shop"

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)

    folder.mkdir()
    git("init", "--initial-branch=main")
    (folder / "README.md").write_text("# Shop\n")
    git("add", ".")
    git("commit", "-m", "Begin")
    return make_repository("shop", url=str(folder))


@pytest.fixture
def worker() -> WorkerHeartbeat:
    return make_worker(now=timezone.now())


def queued(*argv: str, **fields: object) -> Session:
    """A session of a script that was handed to the broker."""
    return of(make_schedule(now=timezone.now(), **{"argv": list(argv), **fields}))  # type: ignore[arg-type]


def of(schedule: Schedule) -> Session:
    """The same, of any schedule."""
    session = trigger(schedule, by="ada", now=timezone.now())[0].sessions.get()
    assert Session.objects.admit([session.pk], now=timezone.now())
    return session


def run_claimed(session: Session, worker: WorkerHeartbeat, wish: Callable[[], Wish] = lambda: "") -> str:
    return execute(session.pk, worker=worker, task_id="t", wish=wish, clock=timezone.now)


def run(session: Session, worker: WorkerHeartbeat, wish: Callable[[], Wish] = lambda: "") -> Session:
    run_claimed(session, worker, wish)
    session.refresh_from_db()
    session.run.refresh_from_db()
    return session


def test_a_script_runs_and_all_of_it_is_on_record(repository: Repository, worker: WorkerHeartbeat) -> None:
    script = 'echo working; git log --oneline; echo new > new.txt; echo "# Fine" > "$ROTA_RESULT_FILE"'
    session = run(queued("sh", "-c", script, repositories=[repository]), worker)

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
    session = run(queued("sh", "-c", "echo hi > hi.txt", repositories=[repository]), worker)
    cache = Path(django_settings.ROTA_CACHE_DIR) / "shop.git"
    shown = subprocess.run(
        ["git", f"--git-dir={cache}", "show", f"{session.branch}:hi.txt"], capture_output=True, text=True, check=True
    )
    assert shown.stdout == "hi\n"


def test_without_a_repository_it_works_in_an_empty_folder(worker: WorkerHeartbeat) -> None:
    session = run(queued("sh", "-c", "ls -A | wc -l"), worker)
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
    session = run(queued(*argv, **fields), worker)
    assert (session.status, session.reason) == (status, reason)
    assert session.message
    assert (session.run.status, session.run.reason) == ("failed", reason)


def test_a_repository_that_is_gone_fails_with_its_own_reason(worker: WorkerHeartbeat, tmp_path: Path) -> None:
    gone = make_repository("gone", url=str(tmp_path / "nowhere"), default_branch="main")
    session = run(queued("true", repositories=[gone]), worker)
    assert session.status == "failed"
    assert session.reason in ("fetch_failed", "repository_invalid")
    assert "nowhere" in session.message


def test_a_message_that_comes_twice_is_a_no_op(worker: WorkerHeartbeat) -> None:
    session = run(queued("true"), worker)
    again = execute(session.pk, worker=worker, task_id="t2", wish=lambda: "", clock=timezone.now)
    assert again == "not claimed"


def test_a_running_session_is_cancelled(worker: WorkerHeartbeat) -> None:
    began = time.monotonic()

    def wish() -> Wish:
        return "cancelled" if time.monotonic() > began + 0.5 else ""

    session = run(queued("sleep", "60"), worker, wish)
    assert (session.status, session.reason) == ("cancelled", "cancelled")
    assert session.run.status == "cancelled"


def test_a_session_that_is_cancelled_while_it_is_prepared_never_starts(worker: WorkerHeartbeat, tmp_path: Path) -> None:
    session = run(queued("touch", str(tmp_path / "started")), worker, lambda: "cancelled")
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

    session = run(queued("true", repositories=[shop]), worker, lambda: asked if begun.exists() else "")

    assert begun.exists()
    assert (session.status, session.reason, session.started_at) == (status, reason, None)
    assert not any((tmp_path / "workspaces").glob("*"))


def test_a_worker_that_leaves_is_followed_by_another_and_nothing_is_lost_or_twice(worker: WorkerHeartbeat) -> None:
    session = queued("sh", "-c", "for i in 1 2 3 4 5 6 7 8; do echo line $i; sleep 0.2; done")
    began = time.monotonic()

    def leave() -> Wish:
        return "detach" if time.monotonic() > began + 0.7 else ""

    assert execute(session.pk, worker=worker, task_id="t", wish=leave, clock=timezone.now) == "left"
    session.refresh_from_db()
    assert session.status == "running"

    heir = make_worker(now=timezone.now())
    assert adopt(session.pk, of=worker.pk, worker=heir, wish=lambda: "", clock=timezone.now) == "succeeded"

    session.refresh_from_db()
    lines = [text for text in session.events.order_by("seq").values_list("text", flat=True) if text.startswith("line")]
    assert lines == [f"line {number}" for number in range(1, 9)]
    assert session.worker == heir


def test_a_session_that_was_taken_away_is_ended_and_its_report_changes_nothing(worker: WorkerHeartbeat) -> None:
    session = queued("sh", "-c", "while :; do echo on; sleep 0.1; done")
    done: list[str] = []

    def work() -> None:
        done.append(execute(session.pk, worker=worker, task_id="t", wish=lambda: "", clock=timezone.now))
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    deadline = time.monotonic() + 10
    while not session.events.filter(text="on").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    Session.objects.finish(session.pk, status="lost", reason="worker_died", now=timezone.now())
    thread.join(timeout=20)

    assert done == ["taken"]
    session.refresh_from_db()
    assert session.status == "lost"


def test_the_values_of_secrets_are_nowhere(worker: WorkerHeartbeat, repository: Repository, settings: Settings) -> None:
    settings.ROTA_SECRETS = {"DEPLOY_TOKEN": "canary-47110815"}
    script = 'echo "it is $DEPLOY_TOKEN"; echo "$DEPLOY_TOKEN" > "$ROTA_RESULT_FILE"'
    session = run(queued("sh", "-c", script, secrets=["DEPLOY_TOKEN"], repositories=[repository]), worker)

    assert session.status == "succeeded"
    assert "it is [redacted]" in session.events.values_list("text", flat=True)
    everything = [session.result, session.patch, session.summary, session.message, str(session.run.snapshot)]
    assert "canary" not in "".join(everything)
    transcript = gzip.decompress((session_folder(session.pk) / "transcript.log.gz").read_bytes())
    assert b"canary" not in transcript


def test_a_secret_that_this_worker_does_not_have_is_said(worker: WorkerHeartbeat, settings: Settings) -> None:
    settings.ROTA_SECRETS = {"DEPLOY_TOKEN": "canary-47110815"}
    session = queued("true", secrets=["DEPLOY_TOKEN"])
    settings.ROTA_SECRETS = {}
    run(session, worker)
    assert (session.status, session.reason) == ("failed", "invalid_options")
    assert "DEPLOY_TOKEN" in session.message


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
        run(session, worker)
    assert failed
    assert (session.status, session.run.status) == ("succeeded", "succeeded")


def test_events_that_are_there_already_do_no_harm(worker: WorkerHeartbeat) -> None:
    session = queued("sh", "-c", "echo one; echo two")
    make_event(session, now=timezone.now(), seq=FIRST_OF_PROCESS, kind="output", text="one")  # its answer was lost
    run(session, worker)
    assert session.status == "succeeded", session.message
    assert list(session.events.filter(kind="output").values_list("text", flat=True)) == ["one", "two"]


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

    session = run(queued("sh", "-c", "echo hi > hi.txt", repositories=[repository]), worker)

    assert (session.status, session.reason, session.files_changed) == ("succeeded", "ok", 1)
    assert session.run.status == "succeeded"


class Forgetful(ScriptRunner):
    """A runner with a fault that shows at the end."""

    def conversation(self, spec: SessionSpec) -> Conversation | None:
        raise ValueError("there was something")


def test_a_fault_of_a_runner_leaves_no_session_running(worker: WorkerHeartbeat, settings: Settings) -> None:
    settings.ROTA_RUNNERS = {"script": f"{__name__}.Forgetful"}
    session = run(queued("true"), worker)
    assert (session.status, session.reason) == ("failed", "internal")
    assert "there was something" in session.message
    assert session.run.status == "failed"


def test_a_folder_that_is_there_already_is_left_alone(worker: WorkerHeartbeat) -> None:
    session = queued("true")
    home = session_folder(session.pk) / "home"
    home.mkdir(parents=True)
    run(session, worker)
    assert (session.status, session.reason) == ("failed", "workspace_failed")
    assert "another database" in session.message
    assert home.is_dir()


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
