"""A queued session becomes a process, and a recorded outcome: with real git, a real shim and real programs."""

import gzip
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from runners import kill
from schedules.execution import Wish, adopt, execute
from schedules.firing import trigger
from schedules.models import Repository, Session, WorkerHeartbeat
from schedules.sweeping import sweep
from schedules.workplace import session_folder
from tests.schedules.factories import make_repository, make_schedule, make_worker

pytestmark = pytest.mark.django_db(transaction=True)


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
    """A queued session of a script."""
    schedule = make_schedule(now=timezone.now(), **{"argv": list(argv), **fields})  # type: ignore[arg-type]
    return trigger(schedule, by="ada", now=timezone.now())[0].sessions.get()


def run(session: Session, worker: WorkerHeartbeat, wish: Callable[[], Wish] = lambda: "") -> Session:
    execute(session.pk, worker=worker, task_id="t", wish=wish, clock=timezone.now)
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
    script = 'echo "it is $DEPLOY_TOKEN"; echo "$DEPLOY_TOKEN" > leak.txt; echo "$DEPLOY_TOKEN" > "$ROTA_RESULT_FILE"'
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


def test_an_agent_is_rehearsed_with_its_prompt_and_no_cost(worker: WorkerHeartbeat, repository: Repository) -> None:
    schedule = make_schedule(
        now=timezone.now(),
        runner="claude",
        prompt="Brief me on {{ repository }}.",
        allowed_tools=["Read", "Bash(git log *)"],
        repositories=[repository],
    )
    session = run(trigger(schedule, now=timezone.now())[0].sessions.get(), worker)

    assert (session.status, session.reason) == ("succeeded", "ok"), session.message
    assert session.is_rehearsal
    assert session.prompt == "Brief me on shop."
    assert session.cost_usd == 0
    assert session.turns > 0
    assert session.output_tokens > 0
    assert "tool_use" in session.events.values_list("kind", flat=True)
    assert "rehears" in session.result.lower()


def test_a_conversation_is_gone_on_with(worker: WorkerHeartbeat, repository: Repository) -> None:
    schedule = make_schedule(
        now=timezone.now(), runner="claude", repositories=[repository], persistence="resume", overlap="allow"
    )
    first = run(trigger(schedule, now=timezone.now())[0].sessions.get(), worker)
    second = run(trigger(schedule, now=timezone.now())[0].sessions.get(), worker)

    assert (first.resumed_from, second.status) == (None, "succeeded")
    assert second.resumed_from == first


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
