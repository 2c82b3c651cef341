"""What the attempts before a session had done, where it goes on with them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from runners import Cache, WorkspaceError, unbundle
from schedules import conversations
from schedules.models import Session
from schedules.patience import patiently
from schedules.retrying import goes_on

_BUNDLE = "work.bundle"  # there for a moment


class Left(NamedTuple):
    """`commit`: where to go on from, or "". What there is to say of it: a note, and what belongs into its message."""

    commit: str = ""
    note: str = ""
    remark: str = ""


def attempt_before(session: Session) -> Session | None:
    """That it goes on with, as the snapshot of their run says."""
    before = patiently(lambda: session.retry_of)
    if before is None or not goes_on(session.run.snapshot, before.reason):
        return None
    before.run = session.run  # attempts are of one run: it need not be read again
    return before


def branch_of(session: Session) -> str:
    attempt = f".{session.attempt}" if session.attempt > 1 else ""
    return f"rota/{session.run.snapshot['schedule']}/{session.run_id}-{session.number}{attempt}"


def left_by_attempts_before(session: Session, cache: Cache, slug: str, *, folder: Path) -> Left:
    """The newest that this machine has, or that was kept. `folder`: the session's, for what passes through."""
    before = last = attempt_before(session)
    remarks: list[str] = []
    while before:
        branch = branch_of(before)
        commit, remark = _work_of(before, cache, slug, branch, file=folder / _BUNDLE)
        remarks += [remark] if remark else []
        if commit:
            note = f"It goes on from the branch {branch} of session {before.pk}."
            return Left(commit, note, " ".join(remarks))
        before = attempt_before(before)
    if last:
        branch = branch_of(last)
        remarks.append(f"It begins without what session {last.pk} had done: {branch} is not kept on this machine.")
    return Left(remark=" ".join(remarks))


def _work_of(before: Session, cache: Cache, slug: str, branch: str, *, file: Path) -> tuple[str, str]:
    """The commit of its branch, which is on this machine or was kept for it, else ""; and why it can't be had."""
    with suppress(WorkspaceError):
        return cache.resolve(slug, branch), ""
    try:
        if not patiently(lambda: conversations.work_of(before, into=file)):
            return "", ""
        unbundle(cache, slug, file=file, branch=branch)
        return cache.resolve(slug, branch), ""
    except WorkspaceError as error:
        return "", f"What was kept of the work of session {before.pk} can't be taken over: {error}"
    finally:
        file.unlink(missing_ok=True)
