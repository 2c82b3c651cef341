"""Canary secrets: whatever a session says and leaves, none of them is where it must not be."""

from __future__ import annotations

import base64
import gzip
import json
import logging
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from runners import Ending, SessionResult, SessionSpec, Tally
from runners.script import ScriptRunner
from schedules import vault
from schedules.execution import adopt, execute
from schedules.folders import session_folder
from schedules.following import Wish
from schedules.models import Repository, Run, Session, WorkerHeartbeat
from schedules.sweeping import sweep
from tests.schedules.canaries import GIVEN, OWN, TELL, assert_clean, kept_files, pages, rows
from tests.schedules.factories import make_schedule, make_worker
from tests.schedules.places import admitted, end_sessions, queued, run_admitted, use_folders

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _var(tmp_path: Path, settings: Settings) -> Iterator[None]:
    use_folders(settings, tmp_path)
    settings.ROTA_REHEARSE = True
    settings.SECRET_KEY = OWN["SECRET_KEY"]
    settings.CELERY_BROKER_URL = f"redis+socket://:{OWN['broker']}@{tmp_path}/no.sock"
    settings.ROTA_SECRETS_KEYS = [OWN["secrets key"]]
    settings.ROTA_CREDENTIALS = {name: OWN[name] for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY")}
    settings.ROTA_SECRETS = {"SHELL_TOKEN": GIVEN["SHELL_TOKEN"], "OTHER_SHELL": OWN["OTHER_SHELL"]}
    for name in ("TOKEN", "ODD", "LONG", "SSH_KEY"):
        vault.put(name, GIVEN[name], by="ada", now=timezone.now())
    yield
    end_sessions(tmp_path)


def told(tmp_path: Path, *more: str, **fields: object) -> Session:
    """A queued session that tells everything; `more` than nothing: in its changes, too."""
    found = tmp_path / "found.json"
    found.write_text(json.dumps(list(OWN.values())))
    argv = [sys.executable, "-c", TELL, str(found), ",".join(GIVEN), *more]
    return queued(*argv, secrets=list(GIVEN), **fields)


def test_what_a_session_says_in_every_way_is_nowhere(
    worker: WorkerHeartbeat,
    tmp_path: Path,
    admin_client: Client,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with caplog.at_level(logging.DEBUG):
        session = run_admitted(told(tmp_path), worker)

    assert (session.status, session.reason) == ("failed", "exit_code")
    assert "[redacted]" in session.result
    assert "[redacted]" in session.message
    assert session.summary.startswith("x" * 100)
    texts = list(session.events.values_list("text", flat=True))
    assert len(texts) > 1000
    assert "see [redacted], he said" in texts
    assert "at last [redacted]" in texts
    transcript = session_folder(session.pk) / "transcript.log.gz"
    assert gzip.decompress(transcript.read_bytes()).count(b"[redacted]") > 1000
    places = [*rows(), *kept_files(tmp_path), *pages(session, admin_client)]
    assert len(places) > 150
    for where, content in places:
        assert_clean(where, content)
    assert_clean("the log", caplog.text.encode())
    assert_clean("what was printed", "".join(capfd.readouterr()).encode())


def test_changes_with_a_secret_are_not_kept_as_they_are(
    worker: WorkerHeartbeat, repository: Repository, tmp_path: Path, admin_client: Client
) -> None:
    script = 'echo ok > fine.txt; echo "token: $TOKEN" > config.yaml; echo "# Done" > "$ROTA_RESULT_FILE"'
    session = run_admitted(queued("sh", "-c", script, secrets=["TOKEN"], repositories=[repository]), worker)

    assert (session.status, session.reason) == ("failed", "secret_leaked")
    assert session.message.startswith("What it changed holds TOKEN: so no branch is kept")
    assert (session.branch, session.commits, session.files_changed) == ("", 1, 2)
    assert "+token: [redacted]" in session.patch
    assert "+ok" in session.patch
    patch = (session_folder(session.pk) / "changes.patch").read_text()
    assert "+token: [redacted]" in patch
    assert session.result.strip() == "# Done"
    assert (session.run.status, session.run.reason) == ("failed", "secret_leaked")
    for where, content in [*rows(), *kept_files(tmp_path), *pages(session, admin_client)]:
        assert_clean(where, content)


def test_a_session_that_writes_everything_everywhere_leaves_none_of_it(
    worker: WorkerHeartbeat, repository: Repository, tmp_path: Path, admin_client: Client
) -> None:
    session = run_admitted(told(tmp_path, "and change", repositories=[repository]), worker)

    assert (session.status, session.reason) == ("failed", "secret_leaked")
    assert session.patch
    for where, content in [*rows(), *kept_files(tmp_path), *pages(session, admin_client)]:
        assert_clean(where, content)


def test_an_agents_conversation_is_kept_without_them(
    worker: WorkerHeartbeat, repository: Repository, tmp_path: Path
) -> None:
    script = [
        {"type": "text", "text": "I look at what I was given."},
        {"type": "tool_use", "name": "Bash", "input": {"command": 'echo "$ODD"; echo "$SSH_KEY"; env; echo "$TOKEN"'}},
    ]
    schedule = make_schedule(
        now=timezone.now(),
        runner="claude",
        prompt="Tell me.",
        allowed_tools=["Bash"],
        repositories=[repository],
        persistence="resume",
        rehearsal_script=[script],
        secrets=list(GIVEN),
        overlap="allow",
    )
    session = run_admitted(admitted(schedule), worker)

    assert session.status == "succeeded", session.message
    assert any("[redacted]" in text for text in session.events.values_list("text", flat=True))
    conversation = (session_folder(session.pk) / "conversation.jsonl").read_text()
    assert "[redacted]" in conversation
    assert all(json.loads(line) for line in conversation.splitlines())
    for where, content in [*rows(), *kept_files(tmp_path)]:
        assert_clean(where, content)
    again = run_admitted(admitted(schedule), worker)
    assert (again.status, again.resumed_from) == ("succeeded", session), again.message


def test_rehearsed_it_is_not_given_the_workers_credentials(worker: WorkerHeartbeat, settings: Settings) -> None:
    schedule = make_schedule(
        now=timezone.now(),
        runner="claude",
        allowed_tools=["Bash"],
        rehearsal_script=[[{"type": "tool_use", "name": "Bash", "input": {"command": "env | sort"}}]],
    )
    session = run_admitted(admitted(schedule), worker)
    said = "\n".join(session.events.values_list("text", flat=True))
    assert "HOME=" in said
    assert "[redacted]" not in said


def test_who_takes_a_session_over_hides_what_it_was_given(worker: WorkerHeartbeat, tmp_path: Path) -> None:
    script = 'echo "first $TOKEN"; sleep 1; echo "then $TOKEN"'
    session = queued("sh", "-c", script, secrets=["TOKEN"])
    began = time.monotonic()

    def leave() -> Wish:
        return "detach" if time.monotonic() > began + 0.6 else ""

    assert execute(session.pk, worker=worker, task_id="t", wish=leave, clock=timezone.now) == "left"
    given = session_folder(session.pk) / "given"
    assert given.stat().st_mode & 0o777 == 0o600
    assert_clean("what it was given", given.read_bytes())
    vault.put("TOKEN", "a-value-that-came-later", by="bob", now=timezone.now())

    heir = make_worker(now=timezone.now())
    assert adopt(session.pk, of=worker.pk, worker=heir, wish=lambda: "", clock=timezone.now) == "succeeded"

    texts = list(session.events.order_by("seq").values_list("text", flat=True))
    assert [text for text in texts if "redacted" in text] == ["first [redacted]", "then [redacted]"]
    assert not given.exists()
    for where, content in [*rows(), *kept_files(tmp_path)]:
        assert_clean(where, content)


def abandoned(worker: WorkerHeartbeat, repository: Repository) -> Session:
    """A session whose machine went down in the middle of it: its row says lost."""
    script = 'echo "$TOKEN" | tee leak.txt "$HOME/leak.txt"; sleep 60'
    session = queued("sh", "-c", script, secrets=["TOKEN"], repositories=[repository])
    began = time.monotonic()

    def leave() -> Wish:
        return "detach" if time.monotonic() > began + 1 else ""

    assert execute(session.pk, worker=worker, task_id="t", wish=leave, clock=timezone.now) == "left"
    assert GIVEN["TOKEN"] in (session_folder(session.pk) / "output.log").read_text()
    Session.objects.finish(session.pk, status="lost", reason="worker_died", now=timezone.now())
    return session


def test_what_a_lost_session_left_is_swept_without_them(
    worker: WorkerHeartbeat, repository: Repository, tmp_path: Path
) -> None:
    session = abandoned(worker, repository)

    sweep(now=timezone.now())

    folder = session_folder(session.pk)
    assert b"[redacted]" in gzip.decompress((folder / "transcript.log.gz").read_bytes())
    assert "+[redacted]" in (tmp_path / "sessions" / "reaped" / f"{session.pk}.patch").read_text()
    assert not any((folder / name).exists() for name in ("home", "output.log", "given", "launch.json"))
    assert not any(path for path in (tmp_path / "workspaces").iterdir() if path.name != "kept")
    for where, content in [*rows(), *kept_files(tmp_path)]:
        assert_clean(where, content)


def test_without_the_key_nothing_is_shown_and_no_work_is_lost(
    worker: WorkerHeartbeat, repository: Repository, tmp_path: Path, settings: Settings
) -> None:
    session = abandoned(worker, repository)
    settings.ROTA_SECRETS_KEYS = ["another key that is long enough, too"]

    sweep(now=timezone.now())

    assert (tmp_path / "workspaces" / str(session.pk)).exists(), "it may hold work, and what must not be shown"
    assert not (tmp_path / "sessions" / "reaped").exists()
    settings.ROTA_SECRETS_KEYS = [OWN["secrets key"]]
    sweep(now=timezone.now())
    assert not (tmp_path / "workspaces" / str(session.pk)).exists()
    for where, content in [*rows(), *kept_files(tmp_path)]:
        assert_clean(where, content)


def test_without_the_key_a_session_fails_with_the_mend(worker: WorkerHeartbeat, settings: Settings) -> None:
    session = queued("true", secrets=["TOKEN"])
    settings.ROTA_SECRETS_KEYS = ["another key that is long enough, too"]
    run_admitted(session, worker)
    assert (session.status, session.reason) == ("failed", "invalid_options")
    assert "TOKEN: can't be decrypted" in session.message
    assert "bin/manage secret set TOKEN" in session.message


class FaultyRunner(ScriptRunner):
    """Its fault quotes what the session was given."""

    name = "faulty"

    def judge(self, ending: Ending, tally: Tally, spec: SessionSpec) -> SessionResult:
        token = spec.environment["TOKEN"]
        try:
            raise ValueError(f"no such thing as {token}")
        except ValueError as error:
            raise RuntimeError(f"while {base64.b64encode(token.encode()).decode()} was read") from error


def test_a_fault_in_rota_that_quotes_one_is_told_without_it(
    worker: WorkerHeartbeat, tmp_path: Path, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.ROTA_RUNNERS = {**settings.ROTA_RUNNERS, "faulty": f"{__name__}.FaultyRunner"}
    with caplog.at_level(logging.DEBUG):
        session = run_admitted(queued("true", runner="faulty", prompt="", model="", secrets=["TOKEN"]), worker)

    assert (session.status, session.reason) == ("failed", "internal")
    assert session.message.startswith("A fault in Rota: RuntimeError: while [redacted]")
    assert "ValueError: no such thing as [redacted]" in caplog.text
    for where, content in [*rows(), *kept_files(tmp_path), ("the log", caplog.text.encode())]:
        assert_clean(where, content)


def test_one_that_was_left_over_a_minute_ago_is_its_workers_to_tidy(worker: WorkerHeartbeat) -> None:
    session = run_admitted(queued("true"), worker)
    home = session_folder(session.pk) / "home"
    home.mkdir()
    sweep(now=timezone.now())
    assert home.exists()
    sweep(now=timezone.now() + timedelta(hours=1))
    assert not home.exists()


def test_snapshots_name_secrets_and_hold_none(repository: Repository) -> None:
    session = queued("true", secrets=["TOKEN"], repositories=[repository])
    assert Run.objects.get(pk=session.run_id).snapshot["secrets"] == ["TOKEN"]
    for where, content in rows():
        assert_clean(where, content)
