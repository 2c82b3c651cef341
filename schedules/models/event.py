"""What happened in a session, for whoever watches."""

from __future__ import annotations

from django.db import models

from schedules.models.session import Session


class SessionEvent(models.Model):
    """One thing that happened in a session, for the live view. The whole transcript is a file in its folder."""

    session = models.ForeignKey(Session, on_delete=models.CASCADE, related_name="events")
    seq = models.PositiveIntegerField()
    at = models.DateTimeField()
    kind = models.CharField(max_length=20)
    text = models.TextField(blank=True)
    data = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ("session", "seq")
        constraints = (
            # The live view pages by it, and an adopted session goes on where it was: nothing twice.
            models.UniqueConstraint(fields=("session", "seq"), name="event_seq_is_unique_in_session"),
        )

    def __str__(self) -> str:
        return f"{self.kind} {self.seq}"
