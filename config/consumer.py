"""Celery's consumer, that comes back soon after its broker does, and ends soon. Named in CELERY_WORKER_CONSUMER."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from celery.worker.consumer import Consumer as CeleryConsumer
from django.db import connection

# Celery's own wait grows by two seconds to half a minute, for which due sessions would wait once more.
_FIRST_WAIT, _LONGER_BY, _LONGEST_WAIT = 0.5, 0.5, 2.0  # seconds
_TOLD_EVERY = 30  # attempts: a line a minute while it is away


class Consumer(CeleryConsumer):
    """Looks for its broker every two seconds, and asks for work when it has found it again."""

    def ensure_connected(self, conn: Any) -> Any:
        conn.ensure_connection = partial(_ensure_soon, conn.ensure_connection)
        return super().ensure_connected(conn)

    def on_ready(self) -> None:
        super().on_ready()
        if self.restart_count > 0:  # the first time, the worker asks by itself
            threading.Thread(target=_ask_for_work, name="rota-broker-is-back", daemon=True).start()

    def cancel_active_requests(self) -> None:
        """Whoever asks again, by SIGQUIT or a second Ctrl-C, does not wait for sessions.

        Celery's own way is to end their threads, which can't be: it would fail here, and wait for them without a word.
        """
        from schedules.tasks import leave

        leave(drain=False)


def _ensure_soon(ensure: Callable[..., Any], tell: Callable[..., Any], most: int | None, **options: Any) -> Any:
    attempts = itertools.count()

    def tell_now_and_then(error: Exception, wait: float) -> None:
        if next(attempts) % _TOLD_EVERY == 0:
            tell(error, wait)

    return ensure(
        tell_now_and_then,
        most,
        interval_start=_FIRST_WAIT,
        interval_step=_LONGER_BY,
        interval_max=_LONGEST_WAIT,
        **options,
    )


def _ask_for_work() -> None:
    from schedules.tasks import dispatch  # models: not before Django is set up

    try:
        dispatch()
    finally:
        connection.close()
