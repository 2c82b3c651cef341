"""What an agent has said and done, kept where every worker finds it, for the session that goes on with it."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import Exists, OuterRef

from schedules.models.session import Session


class KeptConversationQuerySet(models.QuerySet["KeptConversation"]):
    def in_line_with(self, session: Session) -> KeptConversationQuerySet:
        """Of the sessions that work on the same as this one: one of them goes on where the other one ended."""
        return self.filter(
            session__schedule=session.schedule_id,
            session__repository=session.repository_id,
            session__item_key=session.item_key,
            session__is_rehearsal=session.is_rehearsal,
        )

    def keep(self, session: Session, *, runner: str, data: bytes, size: int, now: datetime) -> None:
        """Keep a session's conversation and, of its line and runner, that of the newest success before it.

        That one counts until this session is on record as a success as well. So do those that another session is to
        go on with, or runs with. Twice is once: whoever takes a session over keeps it again.
        """
        self.update_or_create(session=session, defaults={"runner": runner, "data": data, "size": size, "kept_at": now})
        others = self.in_line_with(session).filter(runner=runner).exclude(session__status__in=Session.OPEN)
        others = others.filter(~Exists(Session.objects.open().filter(retry_of=OuterRef("pk")).exclude(pk=session.pk)))
        newest = others.filter(session__status=Session.Status.SUCCEEDED).order_by("-pk").values_list("pk", flat=True)
        self.filter(pk__in=list(others.exclude(pk__in=list(newest[:1])).values_list("pk", flat=True))).delete()


class KeptConversation(models.Model):
    """The conversation of a session whose schedule resumes, without secrets, as gzip.

    In the database, for that is what all workers share. It goes with its session's row, and is never listed.
    """

    session = models.OneToOneField(Session, primary_key=True, on_delete=models.CASCADE, related_name="conversation")
    runner = models.CharField(max_length=50, help_text="Only a session of the same runner can go on with it.")
    data = models.BinaryField(help_text="Its file, as gzip.")
    size = models.PositiveBigIntegerField(help_text="Bytes of its file.")
    kept_at = models.DateTimeField()

    objects = KeptConversationQuerySet.as_manager()

    def __str__(self) -> str:
        return f"conversation of session {self.session_id}"


class KeptWork(models.Model):
    """What a session that can be gone on with had changed when it was last looked at, should its machine go away.

    Only where its schedule wants it gone on with, and only until it ends by itself: then its branch has its work.
    """

    session = models.OneToOneField(Session, primary_key=True, on_delete=models.CASCADE, related_name="kept_work")
    data = models.BinaryField(help_text="A git bundle, on top of the commit of its run.")
    kept_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"work of session {self.session_id}"
