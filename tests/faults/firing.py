"""A process that fires as beat does, by a clock that is played: `python -m tests.faults.firing`.

Arguments: the first instant (ISO 8601), how many seconds to go on, the length of a step in seconds; a folder, in which
it tells the others how far it is, and how many there are. All of them do each step at once.
"""

from __future__ import annotations

import os
import sys
from datetime import datetime, timedelta
from pathlib import Path

import django

django.setup()

from schedules import tasks  # noqa: E402
from schedules.firing import fire_due  # noqa: E402
from tests.processes import until  # noqa: E402


def main(begin: str, seconds: str, step: str, folder: str, others: str) -> None:
    start, passed = datetime.fromisoformat(begin), timedelta()
    while passed <= timedelta(seconds=int(seconds)):
        _wait_for_all(Path(folder), str(passed.seconds), int(others))
        while True:
            fired = fire_due(now=start + passed)
            if fired.runs:
                tasks.dispatch()
            if not fired.more:
                break
        passed += timedelta(seconds=int(step))


def _wait_for_all(folder: Path, step: str, count: int) -> None:
    (folder / f"{step}.{os.getpid()}").touch()
    until(lambda: len(list(folder.glob(f"{step}.*"))) == count, within=120, what=f"all are at {step}")


if __name__ == "__main__":
    main(*sys.argv[1:])
