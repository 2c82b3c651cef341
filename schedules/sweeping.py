"""What is left on this machine of sessions that are over: processes, workspaces, old folders."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from django.conf import settings

from runners import (
    Bounds,
    Dropped,
    KeptCheckout,
    Reaped,
    Redactor,
    RunnerError,
    WorkspaceError,
    end_checks,
    kill,
    leftover_of,
    reap,
    remove,
    size,
    waiting,
)
from schedules import vault
from schedules.folders import HOME, cache, given_to, holds_raw, keep_transcript, kept_checkouts, remove_raw
from schedules.models import Repository, Session

logger = logging.getLogger(__name__)

_ENDED = ("swept",)  # an ending.json alone may say that somebody was left: `kill` reads it
_READ_AT_ONCE = 1000  # rows: SQLite takes a limited number of ids in one query
_STRANGE_FOR = timedelta(days=1)
_CLEARED_WITHIN = timedelta(minutes=10)  # after its end a session's own worker keeps or removes its workspace
_FIRST_WAIT, _LONGEST_WAIT = timedelta(minutes=2), timedelta(hours=1)
REAPED = "reaped"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceOnDisk:
    """A workspace on this machine.

    `live`: its session is open. `leftover`: it is over, or unknown; a half that a killed worker left, too. `kept`: it
    waits for the next session of its repository. `bytes` on the disk, `since` aware UTC.
    """

    state: Literal["live", "leftover", "kept"]
    session: int | None
    repository: str
    path: Path
    bytes: int
    since: datetime


class Later:
    """Workspaces that could not be archived. To try may take minutes each time, so every failure doubles the wait."""

    def __init__(self) -> None:
        self._waits: dict[str, tuple[timedelta, datetime]] = {}  # by name: how long, and until when

    def names(self, now: datetime) -> set[str]:
        """Those that are left alone for now."""
        return {name for name, (_, until) in self._waits.items() if now < until}

    def note(self, tried: Collection[Reaped], now: datetime) -> None:
        for one in tried:
            wait, _ = self._waits.pop(one.name, (_FIRST_WAIT / 2, now))
            if one.error:
                wait = min(2 * wait, _LONGEST_WAIT)
                self._waits[one.name] = (wait, now + wait)


def sweep(*, now: datetime, done: set[int] | None = None, later: Later | None = None) -> int:
    """End processes that outlived their session, keep and remove workspaces nobody works in, drop old folders.

    Returns how many processes were ended. `done`: sessions that nothing is left to be done for, and that are not looked
    at again; it is added to here. Their folders are dropped by a sweep without it. `later`: what failed before.
    """
    done = set() if done is None else done
    folders = {session: _sessions() / str(session) for session in _on_disk() - done}
    ids, ended, over = list(folders), 0, []
    for at in range(0, len(ids), _READ_AT_ONCE):
        some = ids[at : at + _READ_AT_ONCE]
        known = dict(Session.objects.filter(pk__in=some).values_list("pk", "status"))
        for session_id in some:
            if known.get(session_id) not in Session.OPEN:
                ended += _end_and_drop(folders[session_id], is_known=session_id in known, now=now)
                over += [folders[session_id]] if session_id in known else []
    reap_workspaces(now=now, later=later)
    for folder in over:
        _tidy(folder, now=now)
        if _is_swept(folder) and not holds_raw(folder):
            done.add(int(folder.name))
    return ended


def _on_disk() -> set[int]:
    """The sessions that have a folder here."""
    try:
        names = [folder.name for folder in _sessions().iterdir()]
    except FileNotFoundError:
        return set()
    return {int(name) for name in names if name.isdecimal() and name[0] != "0"}


def _is_swept(folder: Path) -> bool:
    return any((folder / name).exists() for name in _ENDED)


def _tidy(folder: Path, *, now: datetime) -> None:
    """Nothing stays as a session printed or left it, when its worker could not see to that."""
    if not holds_raw(folder) or (_workspaces() / folder.name).exists() or _has_just_ended(folder, now):
        return
    try:
        remove(folder / HOME)  # first, for the disk may be full of it
        try:
            keep_transcript(folder, Redactor(vault.hidden(given_to(folder)).values()))
        except vault.Unreadable as error:
            logger.warning("The transcript of session %s is not kept: %s", folder.name, error)
        remove_raw(folder)
    except (OSError, RunnerError):
        logger.exception("%s can't be tidied", folder, extra={"action": "unswept"})


def _has_just_ended(folder: Path, now: datetime) -> bool:
    """Then its own worker is about to do it."""
    try:
        ended_at = datetime.fromtimestamp((folder / "ending.json").stat().st_mtime, tz=UTC)
    except FileNotFoundError:
        return False
    return now - ended_at < _CLEARED_WITHIN


def _end_and_drop(folder: Path, *, is_known: bool, now: datetime) -> int:
    """One that can't be dealt with does not keep the others. Another worker of this machine may sweep as well."""
    try:
        ended = _end(folder)
        if not is_known:
            _drop(folder, now=now)
    except (OSError, RunnerError):
        logger.exception("%s can't be swept", folder, extra={"action": "unswept"})
        return 0
    return ended


def reap_workspaces(
    *, now: datetime, all_kept: bool = False, later: Later | None = None
) -> tuple[list[Reaped], list[Dropped]]:
    """Archive and remove what sessions that are over left, and remove kept checkouts that are over the limits.

    `all_kept`: those within them, too. A kept checkout holds no work. `later`: what failed before, and can wait.
    """
    later = later or Later()
    live = _live(now) | later.names(now)
    into = _sessions() / REAPED
    left_behind = reap(_workspaces(), cache(), before=now, into=into, live=live, secrets_of=_secrets_of)
    later.note(left_behind, now)
    for reaped in left_behind:
        if reaped.error:
            logger.warning("The workspace of session %s stays: %s", reaped.name, reaped.error)
        elif reaped.archive and reaped.archive.leaked:
            told = ", ".join(reaped.archive.leaked)
            logger.warning("The workspace of session %s was left behind, with %s in it", reaped.name, told)
        else:
            logger.info("The workspace of session %s was left behind: kept and removed", reaped.name)
    warm = Repository.objects.filter(workspaces=Repository.Workspaces.WARM, enabled=True)
    slugs = set() if all_kept else set(warm.values_list("slug", flat=True))
    dropped = kept_checkouts().bound(_bounds(), now=now, slugs=slugs)
    for drop in dropped:
        logger.info("A kept checkout of %s is removed: %s", drop.checkout.slug, drop.error or drop.because)
    return left_behind, dropped


def workspaces_on_disk(*, now: datetime) -> list[WorkspaceOnDisk]:
    """All workspaces of this machine with their sizes, the oldest first. Looks at every file of those in use."""
    live = _live(now)
    found = waiting(_workspaces())
    ids = {int(name) for name in map(_name, found) if name.isdigit()}
    slugs = dict(Session.objects.filter(pk__in=ids).values_list("pk", "repository__slug"))
    in_use = [_in_use(path, since, live=live, slugs=slugs) for path, since in found.items()]
    return sorted([*in_use, *map(_kept, kept_checkouts().listed())], key=lambda one: one.since)


def _in_use(path: Path, since: datetime, *, live: Collection[str], slugs: Mapping[int, str | None]) -> WorkspaceOnDisk:
    name = _name(path)
    session = int(name) if name.isdigit() else None
    return WorkspaceOnDisk(
        state="live" if name in live else "leftover",
        session=session,
        repository=(slugs.get(session) if session else None) or "",
        path=path,
        bytes=size(path),
        since=since,
    )


def _kept(kept: KeptCheckout) -> WorkspaceOnDisk:
    return WorkspaceOnDisk(
        state="kept",
        session=int(kept.name) if kept.name.isdigit() else None,
        repository=kept.slug,
        path=kept.path,
        bytes=kept.bytes,
        since=kept.kept_at,
    )


def _name(path: Path) -> str:
    """What a workspace is called, also while it is made or removed: the id of its session."""
    return leftover_of(path) or path.name


def _live(now: datetime) -> set[str]:
    """Names of workspaces not to be touched: of sessions that are open or ended just now, young ones of elsewhere."""
    live = {str(pk) for pk in Session.objects.open().values_list("pk", flat=True)}
    found = {_name(path): since for path, since in waiting(_workspaces()).items() if _name(path).isdigit()}
    rows = Session.objects.filter(pk__in=map(int, found))
    known = set(map(str, rows.values_list("pk", flat=True)))
    ending = rows.filter(finished_at__gt=now - _CLEARED_WITHIN).exclude(status=Session.Status.LOST)
    live |= set(map(str, ending.values_list("pk", flat=True)))
    return live | {name for name in found.keys() - known if now - found[name] < _STRANGE_FOR}


def _secrets_of(name: str) -> dict[str, str]:
    """What must not be in what is kept of a session's workspace. Raises WorkspaceError."""
    try:
        return vault.hidden(given_to(_sessions() / name))
    except vault.Unreadable as error:
        raise WorkspaceError(str(error)) from error


def _bounds() -> Bounds:
    return Bounds(
        max_bytes=settings.ROTA_WORKSPACES_MAX_BYTES,
        max_bytes_per_repository=settings.ROTA_WORKSPACES_MAX_BYTES_PER_REPOSITORY,
        max_age=settings.ROTA_WORKSPACES_MAX_AGE,
    )


def _end(folder: Path) -> int:
    left = end_checks(folder)
    if _is_swept(folder):
        return left
    ended = left + kill(folder)
    (folder / "swept").touch()
    return ended


def _drop(folder: Path, *, now: datetime) -> None:
    """Its row is gone. A folder that is young may belong to another database: it stays for as long as rows do."""
    written_at = datetime.fromtimestamp(folder.stat().st_mtime, tz=UTC)
    if now - written_at > timedelta(days=settings.ROTA_RETENTION_DAYS):
        shutil.rmtree(folder, ignore_errors=True)


def _sessions() -> Path:
    return Path(settings.ROTA_SESSIONS_DIR)


def _workspaces() -> Path:
    return Path(settings.ROTA_WORKSPACES_DIR)
