"""A worker that has something to hide, and a session that looks for it. Prints one JSON object.

python leaking.py FOLDER SEEN    the session writes what it saw below SEEN, and says it too
"""

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import django

django.setup()

from django.core.management import call_command  # noqa: E402
from django.utils import timezone  # noqa: E402

from schedules import vault  # noqa: E402
from schedules.execution import execute  # noqa: E402
from schedules.firing import trigger  # noqa: E402
from schedules.models import Repository, Schedule, Session, SessionEvent  # noqa: E402
from schedules.presence import Presence  # noqa: E402

# Everything that a process of this user may read of others: what a curious agent would try.
LOOK = r"""
for process in /proc/[0-9]*; do
  tr '\0' '\n' < "$process/environ"
  tr '\0' ' ' < "$process/cmdline"
  cat "$process/maps"
  for file in "$process"/fd/*; do [ -f "$file" ] && [ "${process#/proc/}" != $$ ] && head -c 100000 "$file"; done
done > "$SEEN/processes" 2> "$SEEN/refused"
env > "$SEEN/own"
cat "$ROTA_ENV_FILE_OF_OTHERS" > "$SEEN/files"
find "$HOUSE" /dev/shm /run -name launch.json -exec cat {} + > "$SEEN/launches" 2>/dev/null
cat "$SEEN/processes" "$SEEN/own" "$SEEN/files" "$SEEN/launches"
base64 "$SEEN/processes" "$SEEN/files"; od -An -v -tx1 "$SEEN/files" | tr -d ' \n'; echo
"""


def main(folder: Path, seen: Path) -> None:
    call_command("migrate", verbosity=0)
    now = timezone.now()
    vault.put("TOKEN", "canary-of-the-table", by="ada", now=now)
    vault.put("OTHER", "canary-of-another-schedule", by="ada", now=now)
    schedule = Schedule.objects.create(
        name="curious",
        runner="script",
        argv=["sh", "-c", LOOK],
        timeout=timedelta(seconds=45),
        secrets=["TOKEN", "GIVEN"],
        environment={"SEEN": str(seen), "HOUSE": str(folder), "ROTA_ENV_FILE_OF_OTHERS": str(folder / ".env")},
    )
    schedule.repositories.add(_repository(folder / "shop"))
    session = trigger(schedule, by="ada", now=now)[0].sessions.get()
    assert Session.objects.admit([session.pk], now=now)
    worker = Presence.register(kind="sessions", name="curious@here", concurrency=1, version="", now=now).row
    execute(session.pk, worker=worker, task_id="", wish=lambda: "", clock=timezone.now)
    session.refresh_from_db()
    row = {field.attname: str(getattr(session, field.attname)) for field in session._meta.concrete_fields}
    events = list(SessionEvent.objects.order_by("seq").values_list("text", flat=True))
    print(json.dumps({"row": row, "events": events}))


def _repository(folder: Path) -> Repository:
    folder.mkdir()
    (folder / "README.md").write_text("# Shop\n")
    for arguments in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "Begin"]):
        identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=folder, check=True)
    return Repository.objects.create(slug="shop", url=str(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
