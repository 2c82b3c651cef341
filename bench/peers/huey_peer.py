"""huey: N periodic tasks, its Redis storage, one pass of its scheduler. It keeps no record of what was due.

Done when each task is in the queue.
"""

from __future__ import annotations

from datetime import UTC, datetime

import redis
from django.conf import settings
from huey import RedisHuey, crontab

from bench.peers.stopwatch import Figures, require, stopwatch


def measure(count: int) -> Figures:
    pool = redis.ConnectionPool(
        connection_class=redis.UnixDomainSocketConnection, path=str(settings.ROTA_VALKEY_SOCKET)
    )
    huey = RedisHuey("bench", connection_pool=pool)

    def noop() -> None: ...

    for number in range(count):
        huey.periodic_task(crontab(), name=f"burst-{number}")(noop)
    with stopwatch() as taken:
        for task in huey.read_periodic(datetime.now(UTC).replace(tzinfo=None)):
            huey.enqueue(task)
    require(huey.storage.queue_size(), count, "queued tasks")
    return taken.figures
