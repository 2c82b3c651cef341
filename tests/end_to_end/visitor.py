"""What a person does with a running Rota, in a process of its own: a schedule comes due, its run is looked at.

python visitor.py REPOSITORY    prints one JSON object
"""

import json
import sys
import time
from datetime import timedelta

import django

django.setup()

from django.utils import timezone  # noqa: E402

from schedules.models import Repository, Run, Schedule  # noqa: E402

_WITHIN = 60.0  # seconds


def main(path: str) -> None:
    schedule = _due_in_two_seconds(path)
    due_at = schedule.due_at
    run = _finished(schedule)
    session = run.sessions.get()
    print(
        json.dumps(
            {
                "examples": sorted(Schedule.objects.exclude(pk=schedule.pk).values_list("name", flat=True)),
                "run": {"status": run.status, "trigger": run.trigger, "is_rehearsal": run.is_rehearsal},
                "on_time": run.scheduled_for == due_at,
                "late": (run.queued_at - run.scheduled_for).total_seconds(),
                "session": {"status": session.status, "reason": session.reason, "message": session.message},
                "turns": session.turns,
                "branch": session.branch,
                "patch": session.patch,
                "kinds": sorted(set(session.events.values_list("kind", flat=True))),
                "task_id": session.task_id,
                "folder": session.folder,
            }
        )
    )


def _due_in_two_seconds(path: str) -> Schedule:
    repository = Repository.objects.create(slug="shop", url=path)
    soon = timezone.now() + timedelta(seconds=2)
    schedule = Schedule(
        name="improve",
        runner="claude",
        model="haiku",
        prompt="Improve {{ repository }}.",
        allowed_tools=["Read", "Write", "Edit"],
        cron="0 0 1 1 *",
        next_run_at=soon,
        due_at=soon,
    )
    schedule.full_clean(exclude=["next_run_at"])
    schedule.save()
    schedule.repositories.add(repository)
    return schedule


def _finished(schedule: Schedule) -> Run:
    deadline = time.monotonic() + _WITHIN
    while not (run := Run.objects.finished().filter(schedule=schedule).first()):
        if time.monotonic() > deadline:
            sys.exit(f"not finished within {_WITHIN} s: {list(Run.objects.values('status', 'message'))}")
        time.sleep(0.1)
    return run


main(sys.argv[1])
