"""A process of Rota says that it is alive: one row, renewed every few seconds."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import datetime, timedelta

from runners import identify
from schedules.models import WorkerHeartbeat

RENEW_EVERY = timedelta(seconds=5)


@dataclass(slots=True)
class Presence:
    """The row of this process, and when it was last renewed."""

    row: WorkerHeartbeat
    renewed_at: datetime

    @classmethod
    def register(cls, *, kind: str, name: str, concurrency: int, version: str, now: datetime) -> Presence:
        """Make the row of this process; a process that registers again keeps its row."""
        me = identify(os.getpid())
        row, _ = WorkerHeartbeat.objects.update_or_create(
            hostname=socket.gethostname(),
            boot_id=me.boot_id,
            pid=me.pid,
            start_ticks=me.start_ticks,
            defaults={
                "kind": kind,
                "name": name,
                "concurrency": concurrency,
                "version": version,
                "last_seen_at": now,
            },
            create_defaults={
                "kind": kind,
                "name": name,
                "concurrency": concurrency,
                "version": version,
                "started_at": now,
                "last_seen_at": now,
            },
        )
        return cls(row=row, renewed_at=now)

    def renew(self, now: datetime) -> bool:
        """Renew when it is time to. False: the row is gone (pruned, or another database), so register again."""
        if timedelta() <= now - self.renewed_at < RENEW_EVERY:  # and at once when the clock was set back
            return True
        self.renewed_at = now
        return WorkerHeartbeat.objects.renew(self.row.pk, now=now)

    def leave(self, now: datetime) -> None:
        WorkerHeartbeat.objects.filter(pk=self.row.pk).update(stopped_at=now, last_seen_at=now)
