"""Canary secrets: a session that says all that it knows, and all the places where none of it may be. For tests."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from django.apps import apps
from django.test import Client
from django.urls import reverse

from schedules.admin import live
from schedules.management import report
from schedules.management.exits import Exit
from schedules.models import Secret, Session


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
