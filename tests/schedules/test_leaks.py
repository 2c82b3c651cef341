"""Canary secrets: whatever a session says and leaves, none of them is where it must not be."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from django.apps import apps
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from runners import Ending, SessionResult, SessionSpec, Tally, kill
from runners.script import ScriptRunner
from schedules import vault
from schedules.admin import live
from schedules.execution import adopt, execute
from schedules.firing import trigger
from schedules.folders import session_folder
from schedules.following import Wish
from schedules.management import report
from schedules.management.exits import Exit
from schedules.models import Repository, Run, Schedule, Secret, Session, WorkerHeartbeat
from schedules.sweeping import sweep
from tests.schedules.factories import make_repository, make_schedule, make_worker

pytestmark = pytest.mark.django_db(transaction=True)


def canary(name: str, length: int = 32) -> str:
    """Letters and digits that stand nowhere by chance, the same each time."""
    digests = (hashlib.sha256(f"{name} {number}".encode()).digest() for number in range(length // 16 + 1))
    return base64.b32encode(b"".join(digests)).decode().strip("=")[:length]


GIVEN = {
    "TOKEN": canary("token"),
    "ODD": f'{canary("odd", 12)} "quoted" \\ & ümläut/+= {canary("even", 12)}',
    "LONG": canary("long", 200),
    "SSH_KEY": "\n".join(["-----BEGIN KEY-----", *(canary(f"line {number}", 64) for number in range(4)), "end==="]),
    "SHELL_TOKEN": canary("shell"),
}
OWN = {
    "SECRET_KEY": canary("cookies", 50),
    "broker": canary("broker", 20),
    "secrets key": canary("table", 50),
    "ANTHROPIC_API_KEY": canary("model", 40),
    "OPENAI_API_KEY": canary("another model", 40),
    "OTHER_SHELL": canary("another schedule"),
}

# A session that says all it knows, in every way it can think of. What is Rota's own it has from a file, as if it had
# found that somewhere.
TELL = """
import base64, json, os, subprocess, sys, textwrap, time
from urllib.parse import quote
known = [os.environ[name] for name in sys.argv[2].split(",")] + json.load(open(sys.argv[1]))
told = []
for secret in known:
    data = secret.encode()
    for text in (secret, json.dumps(secret), json.dumps(json.dumps(secret)), data.hex(), data.hex().upper(),
                 quote(secret, safe=""), base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode(),
                 base64.b64encode(b"user:" + data + b"!").decode(), f"see {secret}, he said"):
        told += [text, *textwrap.wrap(text, 19, drop_whitespace=False)]
for line in told:
    print(line)
    print(line, file=sys.stderr)
for secret in known:  # in pieces, with a pause
    for piece in (secret[:5], secret[5:9], secret[9:]):
        sys.stdout.write(piece)
        sys.stdout.flush()
        time.sleep(0.005)
    print()
with open(os.environ["ROTA_RESULT_FILE"], "w") as file:
    file.write("x" * 180 + known[0] + "\\n" + "\\n".join(told))
if len(sys.argv) > 3:
    def write(name, text, mode="w"):
        with open(name, mode) as file:
            file.write(text)
    write("leak.txt", "\\n".join(told))
    write("binary", b"\\0" + known[1].encode(), "wb")
    write(known[0], "")
    subprocess.run(["git", "add", "."], check=True)
    subprocess.run(["git", "commit", "-qm", "It is " + known[0]], check=True)
    write("leak.txt", "and again\\n" + "\\n".join(told) + "\\n")
print("at last " + known[0][:12])
sys.exit(known[0])
"""


@pytest.fixture(autouse=True)
def _var(tmp_path: Path, settings: Settings) -> Iterator[None]:
    settings.ROTA_SESSIONS_DIR = tmp_path / "sessions"
    settings.ROTA_WORKSPACES_DIR = tmp_path / "workspaces"
    settings.ROTA_CACHE_DIR = tmp_path / "repositories"
    settings.ROTA_REHEARSE = True
    settings.SECRET_KEY = OWN["SECRET_KEY"]
    settings.CELERY_BROKER_URL = f"redis+socket://:{OWN['broker']}@{tmp_path}/no.sock"
    settings.ROTA_SECRETS_KEYS = [OWN["secrets key"]]
    settings.ROTA_CREDENTIALS = {name: OWN[name] for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY")}
    settings.ROTA_SECRETS = {"SHELL_TOKEN": GIVEN["SHELL_TOKEN"], "OTHER_SHELL": OWN["OTHER_SHELL"]}
    for name in ("TOKEN", "ODD", "LONG", "SSH_KEY"):
        vault.put(name, GIVEN[name], by="ada", now=timezone.now())
    yield
    for folder in (tmp_path / "sessions").glob("[0-9]*"):
        kill(folder)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "README.md").write_text("# Shop\n")
    for arguments in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "Begin"]):
        identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)
    return make_repository("shop", url=str(folder))


@pytest.fixture
def worker() -> WorkerHeartbeat:
    return make_worker(now=timezone.now())


def queued(*argv: str, **fields: object) -> Session:
    schedule = make_schedule(now=timezone.now(), **{"argv": list(argv), **fields})  # type: ignore[arg-type]
    return admitted(schedule)


def admitted(schedule: Schedule) -> Session:
    """A session that was handed to the broker."""
    session = trigger(schedule, by="ada", now=timezone.now())[0].sessions.get()
    assert Session.objects.admit([session.pk], now=timezone.now())
    return session


def told(tmp_path: Path, *more: str, **fields: object) -> Session:
    """A queued session that tells everything; `more` than nothing: in its changes, too."""
    found = tmp_path / "found.json"
    found.write_text(json.dumps(list(OWN.values())))
    argv = [sys.executable, "-c", TELL, str(found), ",".join(GIVEN), *more]
    return queued(*argv, secrets=list(GIVEN), **fields)


def run(session: Session, worker: WorkerHeartbeat) -> Session:
    execute(session.pk, worker=worker, task_id="t", wish=lambda: "", clock=timezone.now)
    session.refresh_from_db()
    session.run.refresh_from_db()
    return session


def recognisable(secret: str) -> set[bytes]:
    """What of a secret would give it away: ten bytes of it in a row, in any encoding. The tests' own idea of it."""
    data = secret.encode()
    texts = [secret, json.dumps(secret)[1:-1], quote(secret, safe=""), data.hex(), data.hex().upper()]
    texts += [base64.b64encode(b"x" * before + data).decode() for before in range(3)]
    written = [text.encode() for text in texts]
    return {text[at : at + 16] for text in written for at in range(4, len(text) - 20, 5)} | {data}


CANARIES = set().union(*map(recognisable, [*GIVEN.values(), *OWN.values()]))


def assert_clean(where: str, content: bytes) -> None:
    joined = content.replace(b"\n", b"").replace(b"\\n", b"")
    found = [canary for canary in CANARIES if canary in content or canary in joined]
    assert not found, f"{where}: {found[:3]}"


def rows() -> Iterator[tuple[str, bytes]]:
    """Every value of every table, the lines of a session's transcript one after another."""
    for model in apps.get_models():
        values = list(model._default_manager.order_by("pk").values())
        for column in {name for row in values for name in row}:
            yield f"{model.__name__}.{column}", "\n".join(str(row[column]) for row in values).encode()


def kept_files(tmp_path: Path) -> Iterator[tuple[str, bytes]]:
    """Every file that Rota keeps, what is compressed opened."""
    for folder in ("sessions", "workspaces", "repositories"):
        for file in (tmp_path / folder).rglob("*"):
            yield f"the name {file.name}", file.name.encode()
            if file.is_file():
                data = file.read_bytes()
                yield str(file), gzip.decompress(data) if file.suffix == ".gz" else data
    for cache in (tmp_path / "repositories").glob("*.git"):
        command = ["git", "cat-file", "--batch-all-objects", "--batch"]
        objects = subprocess.run(command, cwd=cache, capture_output=True, check=True)
        yield f"the objects of {cache.name}", objects.stdout
        yield (
            f"the branches of {cache.name}",
            subprocess.run(["git", "for-each-ref"], cwd=cache, capture_output=True, check=True).stdout,
        )


def pages(session: Session, client: Client) -> Iterator[tuple[str, bytes]]:
    """What the console and the command line show of it."""
    for url in (
        reverse("admin:index"),
        reverse("admin:schedules_session_changelist"),
        reverse("admin:schedules_session_change", args=(session.pk,)) + "?all",
        reverse("admin:schedules_run_change", args=(session.run_id,)),
        reverse("admin:schedules_schedule_change", args=(session.schedule_id,)),
        reverse("admin:schedules_secret_changelist"),
        *(reverse("admin:schedules_secret_change", args=(pk,)) for pk in Secret.objects.values_list("pk", flat=True)),
    ):
        answer = client.get(url)
        assert answer.status_code == 200, url
        yield url, answer.content
    reading = live.read(session.pk, 0)
    assert reading
    yield "the live stream", f"{reading.html} {reading.state}".encode()
    told = report.as_object("x", [session.run], [session], code=Exit.FAILED)
    yield "runschedule --json", json.dumps(told, ensure_ascii=False).encode()


def test_what_a_session_says_in_every_way_is_nowhere(
    worker: WorkerHeartbeat,
    tmp_path: Path,
    admin_client: Client,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with caplog.at_level(logging.DEBUG):
        session = run(told(tmp_path), worker)

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
    session = run(queued("sh", "-c", script, secrets=["TOKEN"], repositories=[repository]), worker)

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
    session = run(told(tmp_path, "and change", repositories=[repository]), worker)

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
    session = run(admitted(schedule), worker)

    assert session.status == "succeeded", session.message
    assert any("[redacted]" in text for text in session.events.values_list("text", flat=True))
    conversation = (session_folder(session.pk) / "conversation.jsonl").read_text()
    assert "[redacted]" in conversation
    assert all(json.loads(line) for line in conversation.splitlines())
    for where, content in [*rows(), *kept_files(tmp_path)]:
        assert_clean(where, content)
    again = run(admitted(schedule), worker)
    assert (again.status, again.resumed_from) == ("succeeded", session), again.message


def test_rehearsed_it_is_not_given_the_workers_credentials(worker: WorkerHeartbeat, settings: Settings) -> None:
    schedule = make_schedule(
        now=timezone.now(),
        runner="claude",
        allowed_tools=["Bash"],
        rehearsal_script=[[{"type": "tool_use", "name": "Bash", "input": {"command": "env | sort"}}]],
    )
    session = run(admitted(schedule), worker)
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
    run(session, worker)
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
        session = run(queued("true", runner="faulty", prompt="", model="", secrets=["TOKEN"]), worker)

    assert (session.status, session.reason) == ("failed", "internal")
    assert session.message.startswith("A fault in Rota: RuntimeError: while [redacted]")
    assert "ValueError: no such thing as [redacted]" in caplog.text
    for where, content in [*rows(), *kept_files(tmp_path), ("the log", caplog.text.encode())]:
        assert_clean(where, content)


def test_one_that_was_left_over_a_minute_ago_is_its_workers_to_tidy(worker: WorkerHeartbeat) -> None:
    session = run(queued("true"), worker)
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
