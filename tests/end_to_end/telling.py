"""What a person sees of a running Rota whose sessions tell their secrets. Prints a JSON object: place → what is there.

python telling.py REPOSITORY SCRIPT    SCRIPT says what it was given in every way, and leaves it
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import django
import redis

django.setup()

from django.apps import apps  # noqa: E402
from django.conf import settings  # noqa: E402
from django.contrib.auth import get_user_model  # noqa: E402
from django.test import Client  # noqa: E402
from django.urls import reverse  # noqa: E402
from django.utils import timezone  # noqa: E402

from schedules.admin import live  # noqa: E402
from schedules.firing import trigger  # noqa: E402
from schedules.models import Repository, Run, Schedule, Secret, Session  # noqa: E402
from schedules.tasks import dispatch, execute_session  # noqa: E402

_WITHIN = 60.0  # seconds
_SAY = 'echo "$TOKEN"; env; echo "$TOKEN" >&2'


def main(path: str, script: str) -> None:
    repository = Repository.objects.create(slug="shop", url=path)
    told = Schedule(name="tells", runner="script", argv=[sys.executable, script], secrets=["TOKEN"])
    asked = Schedule(
        name="asks",
        runner="claude",
        model="haiku",
        prompt="Tell me.",
        allowed_tools=["Bash"],
        persistence="resume",
        secrets=["TOKEN"],
        rehearsal_script=[[{"type": "tool_use", "name": "Bash", "input": {"command": _SAY}}]],
    )
    sessions = [_finished(schedule, repository) for schedule in (told, asked)]
    broken = execute_session.apply_async(("no number",), queue="sessions")  # for a traceback among the results
    _until(lambda: _results(broken.id) and _results() >= len(sessions) + 1)
    found = {
        **_tables(),
        **_pages(sessions),
        "live stream": "".join(f"{reading.html}" for one in sessions if (reading := live.read(one.pk, 0))),
        "broker": _broker(),
    }
    print(json.dumps({"places": found, "ended": [[one.status, one.reason] for one in sessions]}))


def _finished(schedule: Schedule, repository: Repository) -> Session:
    schedule.full_clean()
    schedule.save()
    schedule.repositories.set([repository])
    run = trigger(schedule, by="ada", now=timezone.now())[0]
    dispatch()
    _until(lambda: Run.objects.get(pk=run.pk).finished_at)
    return Session.objects.get(run=run)


def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + _WITHIN
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.1)


def _results(task_id: str = "") -> int:
    """Of sessions' tasks that are over, or of this one. A message that came twice has one of its own."""
    rows = apps.get_model("django_celery_results", "TaskResult").objects.exclude(status="STARTED")
    task = {"task_id": task_id} if task_id else {"task_name": "schedules.tasks.execute_session"}
    return rows.filter(date_done__isnull=False, **task).count()


def _tables() -> dict[str, str]:
    """Every column of every table."""
    found: dict[str, str] = {}
    for model in apps.get_models():
        for row in model._default_manager.values():
            for column, value in row.items():
                place = f"table {model.__name__}.{column}"
                found[place] = f"{found.get(place, '')}\n{value}"
    return found


def _pages(sessions: list[Session]) -> dict[str, str]:
    visitor = Client(SERVER_NAME="localhost")
    visitor.force_login(get_user_model().objects.create_superuser("ada", password="x"))
    urls = ["/healthz", "/readyz", reverse("admin:index"), reverse("admin:schedules_secret_changelist")]
    urls += [reverse(f"admin:schedules_{name}_changelist") for name in ("session", "run", "schedule")]
    urls += [reverse("admin:schedules_secret_change", args=(secret.pk,)) for secret in Secret.objects.all()]
    urls += [reverse("admin:django_celery_results_taskresult_changelist")]
    for session in sessions:
        urls += [
            reverse("admin:schedules_session_change", args=(session.pk,)) + "?all",
            reverse("admin:schedules_run_change", args=(session.run_id,)),
            reverse("admin:schedules_schedule_change", args=(session.schedule_id,)),
        ]
    return {f"page {url}": visitor.get(url).content.decode() for url in urls}


def _broker() -> str:
    """All that it holds: messages, and what is kept of them."""
    client = redis.Redis.from_url(settings.CELERY_BROKER_URL.replace("redis+socket://", "unix://"))
    return "\n".join(f"{key!r} {client.dump(key)!r}" for key in client.scan_iter())


if __name__ == "__main__":
    main(sys.argv[1], str(Path(sys.argv[2]).resolve()))
