"""A whole house, with workers, broker, beat and pages, whose sessions tell their secrets: they are nowhere in it."""

from __future__ import annotations

import base64
import gzip
import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.end_to_end.test_first_light import environment as environment
from tests.end_to_end.test_first_light import house as house
from tests.end_to_end.test_first_light import shop as shop
from tests.processes import until

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(300)

GIVEN = "Xq7canaryGivenToSessions4Zk2"
OWN = {
    "SECRET_KEY": "Xq7canarySignsCookies4Zk2-and-is-long-enough-for-that",
    "ROTA_SECRETS_KEY": "Xq7canaryEncryptsTheTable4Zk2-and-is-long-enough",
    "ROTA_SECRET_OTHER": "Xq7canaryOfAnotherSchedule4Zk2",
    "GITHUB_TOKEN": "Xq7canaryOfAForge4Zk2",
    "ANTHROPIC_API_KEY": "Xq7canaryOfTheModel4Zk2",
}

# What a session does that means harm. It has Rota's own from a file, as if it had found them somewhere.
TELL = """
import base64, json, os, subprocess, sys
from urllib.parse import quote
known = [os.environ["TOKEN"], *json.load(open(%r))]
told = []
for secret in known:
    data = secret.encode()
    told += [secret, json.dumps(secret), data.hex(), data.hex().upper(), quote(secret), base64.b64encode(data).decode(),
             base64.b64encode(b"x" + data).decode(), base64.b64encode(b"xy" + data).decode()]
for line in told:
    print(line)
    print(line, file=sys.stderr)
for name in ("leak.txt", known[0]):
    open(name, "w").write("\\n".join(told))
subprocess.run(["git", "add", "."], check=True)
subprocess.run(["git", "commit", "-qm", "It is " + known[0]], check=True)
open(os.environ["ROTA_RESULT_FILE"], "w").write("# It is " + "\\n".join(told))
"""

# Where they must not be, and yet something is: what each name begins with.
PLACES = (
    *("table Session.message", "table Session.result", "table Session.summary", "table Session.patch"),
    *("table Session.prompt", "table Session.denied", "table SessionEvent.text", "table SessionEvent.data"),
    *("table Run.snapshot", "table Secret.ciphertext", "table Schedule.environment"),
    *("table TaskResult.result", "table TaskResult.traceback", "table TaskResult.task_args", "table TaskResult.meta"),
    *("page /admin/schedules/session/", "page /admin/schedules/run/", "page /admin/schedules/schedule/"),
    *("page /admin/schedules/secret/", "page /admin/django_celery_results/", "page /healthz", "live stream", "broker"),
    *("log of the house", "file sessions/", "name sessions/", "file repositories/"),
    *("objects of shop.git", "refs of shop.git", "runschedule --json"),
)
ON_SQLITE = ("file rota.sqlite3",)


def recognisable(secret: str) -> set[bytes]:
    """What would give it away, written in any of the ways; a part of twelve bytes is enough."""
    data = secret.encode()
    texts = [secret, quote(secret, safe=""), data.hex(), data.hex().upper()]
    texts += [base64.b64encode(b"x" * before + data).decode()[4:-4] for before in range(3)]
    return {text[at : at + 12].encode() for text in texts for at in range(0, len(text) - 12, 4)}


def manage(environment: dict[str, str], *arguments: str, stdin: str = "", ok: bool = True) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), *arguments],
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0 or not ok, done.stderr
    return done.stdout + done.stderr


def kept_files(var: Path) -> dict[str, bytes]:
    found = {}
    for file in var.rglob("*"):
        place = str(file.relative_to(var))
        found[f"name {place}"] = place.encode()
        if file.is_file() and file.name not in ("secret_key", "secrets_key"):
            data = file.read_bytes()
            found[f"file {place}"] = gzip.decompress(data) if file.suffix == ".gz" else data
    cache = var / "repositories" / "shop.git"
    for name, command in (("objects", ["cat-file", "--batch-all-objects", "--batch"]), ("refs", ["for-each-ref"])):
        found[f"{name} of shop.git"] = subprocess.run(
            ["git", *command], cwd=cache, capture_output=True, check=True
        ).stdout
    return found


@pytest.fixture
def secretive(environment: dict[str, str]) -> dict[str, str]:
    """What the house is given besides, before it starts."""
    environment |= {**OWN, "ROTA_REHEARSE": "true", "LOG_LEVEL": "DEBUG"}
    return environment


def test_no_secret_is_in_any_place_of_it(
    secretive: dict[str, str], house: subprocess.Popen[bytes], shop: Path, tmp_path: Path
) -> None:
    log = tmp_path / "up.log"
    until(lambda: "are at work" in log.read_text(errors="replace"), within=200, what="everything is at work")
    manage(secretive, "secret", "set", "TOKEN", stdin=GIVEN)
    script, others = tmp_path / "tell.py", tmp_path / "others.json"
    others.write_text(json.dumps([value for name, value in OWN.items() if name != "GITHUB_TOKEN"]))
    script.write_text(TELL % str(others))
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/end_to_end/telling.py"), str(shop), str(script)],
        env=secretive,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout)
    assert said["ended"] == [["failed", "secret_leaked"], ["succeeded", "ok"]]

    var = Path(secretive["ROTA_VAR"])
    places = {name: text.encode() for name, text in said["places"].items()}
    places["runschedule --json"] = manage(secretive, "runschedule", "tells", "--json", ok=False).encode()
    places |= kept_files(var)
    places["log of the house"] = log.read_bytes() + done.stderr.encode()
    for place in (*PLACES, *(() if "DATABASE_URL" in secretive else ON_SQLITE)):
        assert b"".join(content for name, content in places.items() if name.startswith(place)).strip(), place
    assert len(PLACES) >= 20
    assert b"[redacted]" in places["table SessionEvent.text"]
    assert b"[redacted]" in places["table Session.result"]
    assert b"ValueError" in places["table TaskResult.traceback"]

    canaries = {name: recognisable(value) for name, value in {**OWN, "TOKEN": GIVEN}.items()}
    leaks = [
        (place, name)
        for place, content in places.items()
        for name, signs in canaries.items()
        if any(sign in content for sign in signs)
    ]
    assert leaks == []
