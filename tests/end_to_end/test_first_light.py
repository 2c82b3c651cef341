"""The whole house: one command, a schedule comes due by the clock, a real agent works, the outcome is on record."""

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.processes import bounded, until

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.database, pytest.mark.timeout(180)]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Of the house: nothing of who runs the tests."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "ROTA_VAR": str(tmp_path / "var"),
        "ROTA_ENV_FILE": str(tmp_path / "no.env"),
        "PORT": str(port),
        "PYTHONPATH": str(ROOT),
        "DJANGO_SETTINGS_MODULE": "config.settings",
    }
    if folder := os.environ.get("ROTA_TEST_POSTGRES"):
        name = f"house_{uuid.uuid4().hex}"  # another house may be tested at the same time
        create = [sys.executable, "-c", _CREATE, folder, name]
        subprocess.run(create, check=True, env={"PATH": os.environ["PATH"]}, timeout=30)
        environment["DATABASE_URL"] = f"postgresql://postgres@/{name}?host={folder}"
    return environment


_CREATE = """
import psycopg, sys
with psycopg.connect(f"host={sys.argv[1]} user=postgres dbname=postgres", autocommit=True) as connection:
    connection.execute(f"CREATE DATABASE {sys.argv[2]}")
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "README.md").write_text("# Shop\n")
    for arguments in (["init", "-b", "main"], ["add", "."], ["commit", "-m", "Begin"]):
        identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def house(environment: dict[str, str], tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`bin/up` without the installation: what it ends with."""
    with (tmp_path / "up.log").open("wb") as log:
        process = subprocess.Popen(
            bounded([sys.executable, "-m", "config.up"]),
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    yield process
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)


def ready(port: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def theirs(var: str) -> list[psutil.Process]:
    """Every process that belongs to the house."""
    found = []
    for process in psutil.process_iter():
        try:
            if var in " ".join(process.cmdline()) or var in str(process.environ()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_a_schedule_comes_due_and_an_agent_works(
    house: subprocess.Popen[bytes], environment: dict[str, str], shop: Path, tmp_path: Path
) -> None:
    until(lambda: "are at work" in (tmp_path / "up.log").read_text(), within=120, what="everything is at work")
    log = (tmp_path / "up.log").read_text()
    assert f"http://127.0.0.1:{environment['PORT']}/" in log
    assert "Agents are rehearsed" in log
    assert ready(environment["PORT"])

    told = subprocess.run(
        [sys.executable, str(ROOT / "tests/end_to_end/visitor.py"), str(shop)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    facts = json.loads(told.stdout)

    assert facts["examples"] == [
        "daily-briefing",
        "dashboard-refresh",
        "docs-freshness",
        "todo-report",
        "weekly-review",
    ]
    assert facts["run"] == {"status": "succeeded", "trigger": "schedule", "is_rehearsal": True}
    assert facts["on_time"]
    assert facts["late"] < 1
    assert facts["session"] == {"status": "succeeded", "reason": "ok", "message": ""}
    assert facts["turns"] > 1
    assert facts["branch"].startswith("rota/improve/")
    assert facts["patch"].startswith("diff --git")
    assert {"note", "init", "text", "tool_use", "tool_result", "result"} <= set(facts["kinds"])
    assert facts["task_id"]

    var = Path(environment["ROTA_VAR"])
    transcript = gzip.decompress((var / "sessions" / facts["folder"] / "transcript.log.gz").read_bytes())
    assert b'"type":"result"' in transcript
    assert not any((var / "workspaces").iterdir())
    assert not (var / "sessions" / facts["folder"] / "home").exists()

    began = time.monotonic()
    os.killpg(house.pid, signal.SIGINT)  # as Ctrl-C does
    house.wait(timeout=20)
    assert time.monotonic() - began < 10
    until(lambda: not theirs(str(tmp_path)), within=2, what="no process is left")
