"""A conversation goes on in a later session, on whichever machine that runs.

It is kept where all workers look, the database, when its session succeeded and its schedule resumes; a copy stays in
the session's folder. And while it runs, with its work, where its schedule wants an interrupted session gone on with.
The rule for the later session: it goes on with the conversation of the newest success of its own line (schedule,
repository, item, runner), and with no other. Where that can't be had, it begins a new one and says why.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from shutil import copyfileobj
from typing import Final

from runners import Conversation
from schedules.folders import CONVERSATION, session_folder
from schedules.models import KeptConversation, KeptWork, Session

MOST_PACKED: Final = 16 * 2**20
"""Bytes that the database keeps of a conversation, as gzip: about 100 MB of text, more than any model can read."""

_BROKEN = (OSError, EOFError, zlib.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """What a session goes on with. Nothing: it begins a new conversation, and `remark` says why, if not the first."""

    session: Session | None = None
    conversation: Conversation | None = None
    remark: str = ""


def keep(session: Session, file: Path, *, runner: str, now: datetime) -> str:
    """Keep a session's conversation for every worker. Returns what is to be said of it, where it can't be kept."""
    packed = BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=6, mtime=0) as whole, file.open("rb") as lines:
        copyfileobj(lines, whole)
    if packed.tell() > MOST_PACKED:
        return (
            f"Its conversation takes {packed.tell() / 2**20:.0f} MB and is not kept in the database, which keeps "
            f"{MOST_PACKED // 2**20} MB at most: only on {session.hostname} can a session go on with it."
        )
    size = file.stat().st_size
    KeptConversation.objects.keep(session, runner=runner, data=packed.getvalue(), size=size, now=now)
    return ""


def keep_work(session: Session, file: Path, *, now: datetime) -> bool:
    """Keep what a session has changed, as a git bundle, for a machine that goes on with it. False: it is too large."""
    if file.stat().st_size > MOST_PACKED:
        return False
    KeptWork.objects.update_or_create(session=session, defaults={"data": file.read_bytes(), "kept_at": now})
    return True


def work_of(session: Session, *, into: Path) -> bool:
    """Write what was kept of its work to a file. False: nothing was."""
    data = KeptWork.objects.filter(pk=session.pk).values_list("data", flat=True).first()
    if data is not None:
        _private(into).write_bytes(data)
    return data is not None


def forget(session: Session, *, conversation: bool) -> None:
    """It ended by itself: nobody goes on with what was kept of it and the attempts before. `conversation`: that too."""
    attempts = {"session__run": session.run_id, "session__number": session.number}
    KeptWork.objects.filter(**attempts).delete()
    if conversation:
        KeptConversation.objects.filter(**attempts).delete()


def find(session: Session, *, runner: str, into: Path) -> Earlier:
    """What a session goes on with, written to the file `into`."""
    last = Session.objects.last_success(session, runner=runner)
    if last is None:
        other = Session.objects.last_success(session)
        return _afresh(f"session {other.pk} had another runner" if other else "")
    if Session.objects.could_not_resume(last):
        return _afresh(f"a session could not go on with that of session {last.pk}")
    return _taken_from(last, into)


def of(earlier: Session, *, runner: str, into: Path) -> Earlier:
    """The conversation of this very session, that was interrupted, written to the file `into`."""
    if earlier.run.snapshot["runner"] != runner:
        return _afresh(f"session {earlier.pk} had another runner")
    return _taken_from(earlier, into)


def found(session: Session, *, at: Path) -> Earlier:
    """The same for a session that began with another worker of this machine: what was found for it then."""
    earlier = session.resumed_from
    if earlier is None or not at.is_file():
        return Earlier()
    return Earlier(session=earlier, conversation=_conversation(earlier, at))


def refused(earlier: Earlier, problem: str) -> Earlier:
    """Instead of what the runner can't start with."""
    assert earlier.session
    return _afresh(f"that of session {earlier.session.pk} can't be used: {problem.rstrip('.')}")


def _taken_from(session: Session, into: Path) -> Earlier:
    try:
        if not _restore(session, into):
            return _afresh(f"that of session {session.pk} is not kept here")
    except _BROKEN as error:
        into.unlink(missing_ok=True)
        return _afresh(f"that of session {session.pk} is damaged ({error})")
    return Earlier(session=session, conversation=_conversation(session, into))


def _restore(session: Session, into: Path) -> bool:
    """Write its conversation to a file. False: it is kept neither in the database nor on this machine."""
    row = KeptConversation.objects.filter(pk=session.pk).first()
    if row:
        with gzip.GzipFile(fileobj=BytesIO(row.data)) as packed, _private(into).open("wb") as file:
            copyfileobj(packed, file)
        if into.stat().st_size != row.size:
            raise EOFError(f"it has {into.stat().st_size} of its {row.size} bytes")
        return True
    here = session_folder(session.pk) / CONVERSATION
    if here.is_file():
        _private(into).write_bytes(here.read_bytes())
    return here.is_file()


def _private(file: Path) -> Path:
    file.touch(mode=0o600)
    return file


def _conversation(session: Session, file: Path) -> Conversation:
    return Conversation(agent_session_id=str(session.agent_session_id), file=file)


def _afresh(why: str) -> Earlier:
    return Earlier(remark=f"It begins a new conversation: {why}." if why else "")
