"""The rows: what is to run, what ran, and who ran it. Each model owns its states and the rules of its table."""

from schedules.models.command import Command
from schedules.models.reasons import Reason
from schedules.models.repository import Repository
from schedules.models.run import Run
from schedules.models.schedule import Schedule
from schedules.models.secret import Secret, known_secrets, unknown_secrets
from schedules.models.session import Session, SessionEvent
from schedules.models.worker import WorkerHeartbeat

__all__ = [
    "Command",
    "Reason",
    "Repository",
    "Run",
    "Schedule",
    "Secret",
    "Session",
    "SessionEvent",
    "WorkerHeartbeat",
    "known_secrets",
    "unknown_secrets",
]
