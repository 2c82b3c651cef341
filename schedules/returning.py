"""What a worker had claimed when its process died, and whose process is not on record.

Its row has a `folder` before anything is started: `execution` writes that first, and only while the row is its own.
While there is none, nothing was started, and nobody is left who would: the claim is given back, once. Where there is
one, something may have been started that nobody wrote down: then it is `lost`, and never started again by itself.
"""

from __future__ import annotations

import logging
from datetime import datetime

from django.db import transaction

from runners import RunnerError, kill, remove
from schedules.ending import end, settle
from schedules.folders import session_folder, workspace_folder
from schedules.models import Reason, Schedule, Session, WorkerHeartbeat
from schedules.models.session import SessionQuerySet
from schedules.retrying import is_wanted

logger = logging.getLogger(__name__)

GIVEN_BACK = "Its worker died before it was started: it waits again."


def after_death(session: Session, *, worker: WorkerHeartbeat, now: datetime) -> str:
    """Give its claim back, or end it. `worker` has adopted it from one of this machine whose process is gone.

    Returns what became of it. May be called again after a fault of the database.
    """
    unbegun = Session.objects.filter(pk=session.pk, worker=worker, status=Session.Status.RUNNING, pid=None)
    if not session.folder and session.message != GIVEN_BACK and _cleared(session):
        if _given_back(session, unbegun):
            logger.warning("Session %d: %s", session.pk, GIVEN_BACK, extra={"action": "given_back"})
            return "given back"
        message = "Its worker died before it was started, and it is not wanted any more."
        return _ended(session, unbegun, Session.Status.CANCELLED, Reason.CANCELLED, message, now)
    kill(session_folder(session.pk))  # whoever runs nevertheless: another attempt may follow at once
    again = " again" if session.message == GIVEN_BACK else ""
    message = f"Its worker died{again} as it began; whether anything was started is unknown."
    return _ended(session, unbegun, Session.Status.LOST, Reason.WORKER_DIED, message, now)


def _given_back(session: Session, unbegun: SessionQuerySet) -> bool:
    """Unless somebody asked for its end, or took its schedule off the rota: then nothing would end it, or start it."""
    waiting = {
        "claimed_at": None,
        "admitted_at": None,
        "worker": None,
        "worker_name": "",
        "hostname": "",
        "task_id": "",
    }
    with transaction.atomic():
        Schedule.objects.filter(pk=session.schedule_id).hold()
        return (
            is_wanted(session)
            and unbegun.filter(folder="").update(status=Session.Status.QUEUED, message=GIVEN_BACK, **waiting) == 1
        )


def _ended(
    session: Session, among: SessionQuerySet, status: Session.Status, reason: Reason, message: str, now: datetime
) -> str:
    if not end(session, status=status, reason=reason, now=now, among=among, message=message):
        return "taken"
    logger.warning("Session %d is %s: %s", session.pk, status, message, extra={"action": status.value})
    settle(session.run_id, now=now)
    return status.value


def _cleared(session: Session) -> bool:
    """Remove what had been prepared: whoever claims it next makes it anew."""
    try:
        remove(session_folder(session.pk))
        remove(workspace_folder(session.pk))
    except (RunnerError, OSError):
        logger.exception("Session %d: what was prepared can't be removed", session.pk, extra={"action": "uncleared"})
        return False
    return True
