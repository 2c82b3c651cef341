"""A process that fires as beat does, by a clock that runs as fast as it is told: `python -m tests.faults.firing`.

Arguments: the first instant (ISO 8601), how many seconds to go on, the length of a step in simulated seconds.
"""

from __future__ import annotations

import sys
import time
from datetime import datetime, timedelta

import django

django.setup()

from schedules import tasks  # noqa: E402
from schedules.firing import fire_due  # noqa: E402

_PACE = 0.03  # true seconds a step, that others get their turn


def main(begin: str, seconds: str, step: str) -> None:
    start, passed = datetime.fromisoformat(begin), timedelta()
    while passed <= timedelta(seconds=int(seconds)):
        fired = fire_due(now=start + passed)
        if fired.runs:
            tasks.dispatch()
        if not fired.more:
            passed += timedelta(seconds=int(step))
            time.sleep(_PACE)


if __name__ == "__main__":
    main(*sys.argv[1:])
