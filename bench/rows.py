"""What the measurements find and share in the database of the Rota that runs."""

from __future__ import annotations

from pathlib import Path

import psutil
from django.conf import settings

from schedules.models import Repository, Schedule, WorkerHeartbeat
from tests.runners.repositories import Source

_FILES = 40
_TEXT = "def answer() -> int:\n    return 42\n\n\n" * 20


def clear() -> None:
    """Away with the example schedules: one of them may be due while something else is measured."""
    Schedule.objects.all().delete()


def small_repository() -> Repository:
    """A git repository of forty files and ten commits on this machine, made at the first call."""
    path = Path(settings.ROTA_VAR).with_name("small")
    if not path.exists():
        source = Source(path)
        source.commit({"README.md": "# A small project\n", **{f"src/m{n}.py": _TEXT for n in range(_FILES - 1)}})
        for number in range(9):
            source.commit({f"src/m{number}.py": f"{_TEXT}# {number}\n"})
    return Repository.objects.get_or_create(slug="small", defaults={"url": str(path), "default_branch": "main"})[0]


def process_of(kind: WorkerHeartbeat.Kind) -> psutil.Process:
    """The first beat or worker that said so and is there still."""
    row = WorkerHeartbeat.objects.filter(kind=kind, stopped_at=None).earliest("started_at")
    return psutil.Process(row.pid)
