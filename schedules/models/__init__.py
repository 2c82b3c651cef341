"""The rows: what is to run, what ran, and who ran it. Each model owns its states and the rules of its table."""

from schedules.models.command import Command
from schedules.models.conversation import KeptConversation, KeptWork
from schedules.models.costs import CostSource, source_of_sum
from schedules.models.event import SessionEvent
from schedules.models.incident import Incident
from schedules.models.pool import Hold, Pool
from schedules.models.reasons import FINAL, INFRASTRUCTURE, INTERRUPTED, Reason
from schedules.models.repository import Repository
from schedules.models.run import Run
from schedules.models.schedule import Schedule
from schedules.models.secret import Secret, known_secrets, unknown_secrets
from schedules.models.session import Session
from schedules.models.spending import Budget, Spending
from schedules.models.stop import Freeze, Stop
from schedules.models.worker import WorkerHeartbeat

__all__ = [
    "FINAL",
    "INFRASTRUCTURE",
    "INTERRUPTED",
    "Budget",
    "Command",
    "CostSource",
    "Freeze",
    "Hold",
    "Incident",
    "KeptConversation",
    "KeptWork",
    "Pool",
    "Reason",
    "Repository",
    "Run",
    "Schedule",
    "Secret",
    "Session",
    "SessionEvent",
    "Spending",
    "Stop",
    "WorkerHeartbeat",
    "known_secrets",
    "source_of_sum",
    "unknown_secrets",
]
