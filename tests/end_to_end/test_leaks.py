"""A worker and a session of one unprivileged user: nothing of the worker's is the session's to read."""

import gzip
import json
import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runners import privacy

ROOT = Path(__file__).resolve().parents[2]

# What a worker has in its environment, and a session must not come to know.
CANARIES = {
    "SECRET_KEY": "canary-that-signs-cookies-and-is-long-enough",
    "REDIS_URL": "redis://rota:canary-of-the-broker@127.0.0.1:1/0",
    "ROTA_SECRETS_KEY": "canary-that-encrypts-the-table-and-is-long-enough",
    "ROTA_SECRET_OTHER_SCHEDULE": "canary-of-another-schedules-environment",
    "ANTHROPIC_API_KEY": "canary-of-a-model",
    "ANTHROPIC_AUTH_TOKEN": "canary-of-a-gateway",
    "CLAUDE_CODE_OAUTH_TOKEN": "canary-of-a-subscription",
    "OPENAI_API_KEY": "canary-of-another-model",
    "GITHUB_TOKEN": "canary-of-a-forge",
    "AWS_SECRET_ACCESS_KEY": "canary-of-a-cloud",
    "PGPASSWORD": "canary-of-a-database",
    "SSH_AUTH_SOCK": "/tmp/canary-of-an-agent",
    "CANARY": "canary-of-a-shell",
}
GIVEN = {"ROTA_SECRET_GIVEN": "canary-that-it-is-given"}


@pytest.fixture
def folder() -> Iterator[Path]:
    """That an unprivileged user may work in."""
    with tempfile.TemporaryDirectory(prefix="rota-leaks-") as name:
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(name, nobody.pw_uid, nobody.pw_gid)
        yield Path(name)


def unprivileged() -> dict[str, Any]:
    """For a process of somebody who is not root, for whom all of this is no use."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def environment(folder: Path) -> dict[str, str]:
    packages = [entry for entry in sys.path if entry and not entry.startswith(f"{sys.base_prefix}/lib")]
    return {
        "PATH": os.defpath,
        "HOME": str(folder),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *packages]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "ROTA_VAR": str(folder / "var"),
        "ROTA_ENV_FILE": str(folder / ".env"),
        "ROTA_REHEARSE": "true",
    }


def python(folder: Path) -> str:
    """One that this user can run: a virtual environment in root's home can't be."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for program in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        try:
            command = [program, "-c", "import django, config, schedules"]
            subprocess.run(command, env=environment(folder), check=True, capture_output=True, **unprivileged())
        except (OSError, subprocess.CalledProcessError):
            continue
        return program
    pytest.skip("There is no Python here that an unprivileged user can run.")


def test_a_session_that_looks_everywhere_finds_nothing_of_the_workers(folder: Path) -> None:
    if privacy._hides_processes():
        pytest.skip("/proc shows only what may be traced")
    program, seen = python(folder), folder / "seen"
    in_file = "canary-of-the-env-file"
    (folder / ".env").write_text(f"ROTA_SECRET_IN_THE_FILE={in_file}\n")
    subprocess.run(["mkdir", str(seen)], check=True, **unprivileged())

    done = subprocess.run(
        [program, str(ROOT / "tests/end_to_end/leaking.py"), str(folder), str(seen)],
        env=environment(folder) | CANARIES | GIVEN,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
        **unprivileged(),
    )

    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["row"]["status"], said["row"]["reason"]) == ("succeeded", "ok"), said["row"]["message"]
    found = {file.name: file.read_text(errors="replace") for file in seen.iterdir()}
    assert "TOKEN=canary-of-the-table" in found["own"], "it has what it is given"
    assert "GIVEN=canary-that-it-is-given" in found["own"]
    assert f"ROTA_SECRET_IN_THE_FILE={in_file}" in found["files"], "what its user may read, it may"
    assert "ROTA_SESSION=" in found["processes"], "it sees processes of its own"
    assert "leaking.py" in found["processes"], "it sees that there is a worker"
    assert "Permission denied" in found["refused"]
    values = {value.rpartition(":")[2].partition("@")[0] for value in CANARIES.values()}
    assert {value for value in values if value in found["processes"] + found["own"]} == set()
    assert "canary-of-another-schedule" not in found["processes"] + found["own"]
    assert found["launches"] == ""

    # And what it could read and said is not told on.
    told = [*said["events"], *said["row"].values(), done.stderr]
    told += [
        (gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()).decode(errors="replace")
        for file in (folder / "var" / "sessions").rglob("*")
        if file.is_file()
    ]
    everything = "\n".join(told)
    assert "[redacted]" in everything
    for value in {*values, *GIVEN.values(), "canary-of-the-table", in_file}:
        assert value not in everything
        assert value.encode().hex() not in everything


def test_every_process_of_rota_is_private(folder: Path) -> None:
    look = "import ctypes, config; print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"  # PR_GET_DUMPABLE
    done = subprocess.run(
        [sys.executable, "-c", look], env=environment(folder), cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == ("1\n" if privacy._hides_processes() else "0\n")
