"""procrastinate: N periodic tasks of one cron line, its own PostgreSQL tables, one pass of its periodic deferrer.

Done when each job is in its table. PostgreSQL only.
"""

from __future__ import annotations

import asyncio
import os
import time

import procrastinate
from procrastinate.periodic import PeriodicDeferrer

from bench.peers.stopwatch import Figures, stopwatch


def measure(count: int) -> Figures:
    return asyncio.run(_measure(count))


async def _measure(count: int) -> Figures:
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=os.environ["DATABASE_URL"]))

    async def noop(timestamp: int) -> None: ...

    for number in range(count):
        app.periodic(cron="* * * * *", periodic_id=str(number))(app.task(noop, name=f"burst-{number}"))
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        deferrer = PeriodicDeferrer(registry=app.periodic_registry)
        with stopwatch() as taken:
            await deferrer.defer_jobs(deferrer.get_previous_tasks(at=time.time()))
    return taken.figures
