"""A session that is claimed, its outcome, and a worker's start are worth waiting for a database that is away."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import InterfaceError, OperationalError, connection

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

_LONGEST = 600.0  # seconds


def patiently(step: Callable[[], Answer], *, longest: float = _LONGEST) -> Answer:
    """What `step` answers, which may be done more than once. Raises as it does when the database stays away.

    `longest`: seconds after which it is not tried again.
    """
    deadline, wait = time.monotonic() + longest, 0.5
    while True:
        try:
            return step()
        except (OperationalError, InterfaceError):
            if time.monotonic() > deadline:
                raise
            logger.warning("The database is away: it is tried again", exc_info=True)
            connection.close()
            time.sleep(wait)
            wait = min(wait * 2, 10.0)
