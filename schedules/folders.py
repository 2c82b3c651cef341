"""What lies on a machine of a session: its own folder, with what it printed and was given; and checkouts that wait."""

from __future__ import annotations

import gzip
from pathlib import Path

from django.conf import settings

from runners import CHECKS, Cache, Kept, Redactor, remove
from schedules import vault

OUTPUT = "output.log"
GIVEN = "given"  # the values of its secrets, sealed, for as long as what it printed and left may hold them
TRANSCRIPT = "transcript.log.gz"
PATCH = "changes.patch"
HOME = "home"
CONVERSATION = "conversation.jsonl"  # its own, without secrets
EARLIER = "earlier.jsonl"  # the one that it goes on with


def session_folder(session_id: int) -> Path:
    """The session's own folder on its machine."""
    return Path(settings.ROTA_SESSIONS_DIR) / str(session_id)


def workspace_folder(session_id: int) -> Path:
    """Where its checkout is, while there is one."""
    return Path(settings.ROTA_WORKSPACES_DIR) / str(session_id)


def given_to(folder: Path) -> dict[str, str]:
    """The values that the session of a folder was given; none where it is over. Raises vault.Unreadable."""
    try:
        return vault.unseal((folder / GIVEN).read_bytes())
    except FileNotFoundError:
        return {}


def keep_transcript(folder: Path, redactor: Redactor) -> None:
    """The whole of what it printed, redacted and compressed. What the shim wrote stays for who may take over."""
    try:
        is_empty = not (folder / OUTPUT).stat().st_size
    except FileNotFoundError:
        return
    if is_empty:
        return
    with gzip.open(folder / TRANSCRIPT, "wb", compresslevel=5) as kept:
        kept.writelines(redactor.log(folder / OUTPUT))


def holds_raw(folder: Path) -> bool:
    """Whether there is something to `remove_raw`."""
    return any((folder / name).exists() for name in (HOME, OUTPUT, GIVEN, CHECKS, EARLIER))


def remove_raw(folder: Path) -> None:
    """Remove what may hold secrets: HOME, what was printed, what was given. Raises RunnerError, OSError.

    And the earlier conversation, which is kept elsewhere.
    """
    remove(folder / HOME)
    remove(folder / CHECKS)
    for name in (OUTPUT, GIVEN, EARLIER):
        (folder / name).unlink(missing_ok=True)


def cache() -> Cache:
    """Rota's own copies of the repositories, on this machine."""
    return Cache(Path(settings.ROTA_CACHE_DIR))


def kept_checkouts() -> Kept:
    """Those that wait on this machine for the next session of their repository."""
    return Kept(Path(settings.ROTA_WORKSPACES_DIR) / "kept")
