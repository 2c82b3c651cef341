"""What is left on this machine of sessions that are over: processes, workspaces, old folders."""

from __future__ import annotations

import logging
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from django.conf import settings

from runners import Cache, kill, reap
from schedules.models import Session

logger = logging.getLogger(__name__)

_ENDED = ("ending.json", "swept")
REAPED = "reaped"


def sweep(*, now: datetime) -> int:
    """End processes that outlived their session, keep and remove workspaces nobody works in, drop old folders.

    Returns how many processes were ended.
    """
    folders = {int(folder.name): folder for folder in _sessions().glob("[0-9]*") if folder.name.isdigit()}
    known = dict(Session.objects.filter(pk__in=folders).values_list("pk", "status"))
    ended = 0
    for session_id, folder in folders.items():
        if known.get(session_id) in Session.OPEN:
            continue
        ended += _end(folder)
        if session_id not in known:
            _drop(folder, now=now)
    _reap(now)
    return ended


def _end(folder: Path) -> int:
    if any((folder / name).exists() for name in _ENDED):
        return 0
    ended = kill(folder)
    (folder / "swept").touch()
    return ended


def _drop(folder: Path, *, now: datetime) -> None:
    """Its row is gone. A folder that is young may belong to another database: it stays for as long as rows do."""
    written_at = datetime.fromtimestamp(folder.stat().st_mtime, tz=UTC)
    if now - written_at > timedelta(days=settings.ROTA_RETENTION_DAYS):
        shutil.rmtree(folder, ignore_errors=True)


def _reap(now: datetime) -> None:
    live = {str(pk) for pk in Session.objects.open().values_list("pk", flat=True)}
    cache = Cache(Path(settings.ROTA_CACHE_DIR))
    for reaped in reap(Path(settings.ROTA_WORKSPACES_DIR), cache, before=now, into=_sessions() / REAPED, live=live):
        if reaped.error:
            logger.warning("The workspace of session %s stays: %s", reaped.name, reaped.error)
        else:
            logger.info("The workspace of session %s was left behind: kept and removed", reaped.name)


def _sessions() -> Path:
    return Path(settings.ROTA_SESSIONS_DIR)
