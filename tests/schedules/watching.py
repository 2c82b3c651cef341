"""What the dead-man's switch has told. For tests."""

from datetime import datetime

from schedules.models import Incident, WorkerHeartbeat


def alarms() -> dict[tuple[str, str], str]:
    """Of the open incidents: (kind, subject) → message."""
    return {(one.kind, one.subject): one.message for one in Incident.objects.open()}


def lived(*, until: datetime) -> None:
    """Everybody has been heard of until then."""
    WorkerHeartbeat.objects.update(last_seen_at=until)
