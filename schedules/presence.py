"""A process of Rota says that it is alive: one row, renewed every few seconds."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection

from runners import identify
from schedules.models import WorkerHeartbeat

RENEW_EVERY = timedelta(seconds=5)


def keep_connection() -> None:
    """Let this thread's database connection stay open from one round to the next: making one is most of a round.

    Django would close it, as CONN_MAX_AGE is 0, for requests. One that broke meanwhile is made anew by the next query.
    """
    connection.close_at = None
    connection.close_if_unusable_or_obsolete()


@dataclass(slots=True)
class Presence:
    """The row of this process, and when it was last renewed."""

    row: WorkerHeartbeat
    renewed_at: datetime

    @classmethod
    def register(
        cls,
        *,
        kind: str,
        name: str,
        concurrency: int,
        version: str,
        programs: Mapping[str, Mapping[str, str]] | None = None,
        now: datetime,
    ) -> Presence:
        """Make the row of this process; a process that registers again keeps its row."""
        me = identify(os.getpid())
        facts = {
            "kind": kind,
            "name": name,
            "concurrency": concurrency,
            "version": version,
            "programs": dict(programs or {}),
        }
        row, _ = WorkerHeartbeat.objects.update_or_create(
            hostname=socket.gethostname(),
            boot_id=me.boot_id,
            pid=me.pid,
            start_ticks=me.start_ticks,
            defaults={**facts, "last_seen_at": now},
            create_defaults={**facts, "started_at": now, "last_seen_at": now},
        )
        return cls(row=row, renewed_at=now)

    def renew(self, now: datetime) -> bool:
        """Renew when it is time to. False: the row is gone (pruned, or another database), so register again."""
        if timedelta() <= now - self.renewed_at < RENEW_EVERY:  # and at once when the clock was set back
            return True
        renewed = WorkerHeartbeat.objects.renew(self.row.pk, now=now)
        self.renewed_at = now  # not before the database said so: while it is away, every call tries again
        return renewed

    def leave(self, now: datetime) -> None:
        WorkerHeartbeat.objects.filter(pk=self.row.pk).update(stopped_at=now, last_seen_at=now)
