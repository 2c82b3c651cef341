"""A session that is claimed, and its outcome, are worth waiting for a database that is away."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import InterfaceError, OperationalError, connection

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

_LONGEST = 600.0  # seconds


def patiently(step: Callable[[], Answer]) -> Answer:
    """What `step` answers, which may be done more than once. Raises as it does when the database stays away."""
    deadline, wait = time.monotonic() + _LONGEST, 0.5
    while True:
        try:
            return step()
        except (OperationalError, InterfaceError):
            if time.monotonic() > deadline:
                raise
            logger.warning("The database is away: the session waits", exc_info=True)
            connection.close()
            time.sleep(wait)
            wait = min(wait * 2, 10.0)
