"""What a session has come to is kept for other machines while it runs, now and then, should its machine go away.

Only where its schedule wants it gone on with. In a thread of its own, so that nobody who follows the session waits; one
that is shorter than the times between pays nothing. What can't be kept now is tried again later: it is a precaution.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from runners import RunnerError

logger = logging.getLogger(__name__)

_PATIENCE = 8.0  # seconds: who cancels a session sees it end in 15
_SHARE = 20  # of what keeping takes: so many times as long it is left alone


@dataclass(slots=True)
class _Duty:
    keep: Callable[[], object]
    every: float  # seconds
    last: float
    took: float = 0.0

    def is_due(self, at: float) -> bool:
        return at - self.last >= max(self.every, _SHARE * self.took)


@dataclass(slots=True)
class Parking:
    """Of one session. Instants are seconds of the monotonic clock."""

    _duties: tuple[_Duty, ...]
    _thread: threading.Thread | None = field(default=None)

    @classmethod
    def of(cls, *, conversation: Callable[[], object], work: Callable[[], object], at: float) -> Parking:
        said, did = settings.ROTA_KEEP_CONVERSATION_EVERY, settings.ROTA_KEEP_WORK_EVERY
        return cls((_Duty(work, did.total_seconds(), at), _Duty(conversation, said.total_seconds(), at)))

    def look(self, at: float) -> None:
        """Begin to keep what is due, unless that goes on. To be called often."""
        due = [duty for duty in self._duties if duty.is_due(at)]
        if not due or (self._thread and self._thread.is_alive()):
            return
        self._thread = threading.Thread(target=_see_to, args=(due,), name="rota-parking", daemon=True)
        self._thread.start()

    def end(self, *, within: float = _PATIENCE) -> None:
        """The session is over or another's: wait a while for what is being kept. What comes later is not kept."""
        if self._thread:
            self._thread.join(timeout=within)


def _see_to(due: list[_Duty]) -> None:
    for duty in due:
        begun = time.monotonic()
        try:
            duty.keep()
        except (RunnerError, OSError, DatabaseError, InterfaceError) as error:
            logger.warning("What a session has come to is not kept for now: %s", error, extra={"action": "unparked"})
        except Exception:  # it may go better the next time, and the session goes on
            logger.exception("A fault in Rota: the session goes on", extra={"action": "internal"})
        finally:
            duty.last = time.monotonic()
            duty.took = duty.last - begun
    connection.close()
