"""Why a run or session ended as it did: one list of codes for every finished row."""

from django.db import models


class Reason(models.TextChoices):
    OK = "ok", "ok"
    # Nothing was run
    OVERLAP = "overlap", "the run before was still open"
    PAUSED = "paused", "the schedule was paused"
    DISABLED = "disabled", "the schedule or repository was disabled"
    STOPPED = "stopped", "everything was stopped"
    FROZEN = "frozen", "a freeze window"
    BROKEN = "broken", "the schedule could not be read"
    CLOCK_JUMPED = "clock_jumped", "too many times were due at once"
    OUTSIDE_WINDOW = "outside_window", "later than the catch-up window"
    SUPERSEDED = "superseded", "a later time ran instead"
    NO_ITEMS = "no_items", "nothing matched"
    INVALID_OPTIONS = "invalid_options", "the schedule can't be run as it is"
    # People and policy
    CANCELLED = "cancelled", "cancelled by a person"
    SHUTDOWN = "shutdown", "Rota was stopped"
    # The agent
    MAX_TURNS = "max_turns", "turn limit reached"
    BUDGET = "budget", "money limit reached"
    RATE_LIMITED = "rate_limited", "rate limited"
    OVERLOADED = "overloaded", "the model's service was overloaded"
    API_ERROR = "api_error", "the model's service failed"
    AUTH = "auth", "credentials refused"
    BILLING = "billing", "no credit with the model's service"
    MODEL_UNAVAILABLE = "model_unavailable", "the model is not to be had"
    PROMPT_TOO_LONG = "prompt_too_long", "the prompt was too long"
    REFUSED = "refused", "the model refused"
    NO_RESULT = "no_result", "ended without a result"
    DENIED = "denied", "a tool was denied"
    MODEL_MISMATCH = "model_mismatch", "another model ran"
    INVALID_OUTPUT = "invalid_output", "the result does not keep to its schema"
    UNEQUIPPED = "unequipped", "an MCP server or a plugin did not start"
    AGENT_ERROR = "agent_error", "the agent reported an error"
    CHECK_FAILED = "check_failed", "a check command failed"
    # The process
    EXIT_CODE = "exit_code", "non-zero exit code"
    CRASHED = "crashed", "ended by a signal"
    TIMED_OUT = "timed_out", "time limit reached"
    STALLED = "stalled", "silent for too long"
    OUT_OF_MEMORY = "out_of_memory", "memory limit reached"
    TOO_MANY_PROCESSES = "too_many_processes", "too many processes"
    TRUNCATED = "truncated", "output was cut before the result"
    EXCEPTION = "exception", "the function raised an error"
    SECRET_LEAKED = "secret_leaked", "a secret is in its changes"
    # The house
    PROGRAM_MISSING = "program_missing", "program not found"
    REPOSITORY_INVALID = "repository_invalid", "not a usable repository"
    FETCH_FAILED = "fetch_failed", "the repository could not be fetched"
    WORKSPACE_FAILED = "workspace_failed", "no workspace could be made"
    DISK_FULL = "disk_full", "disk full"
    SHIM_FAILED = "shim_failed", "the session's shim could not start"
    SANDBOX_UNAVAILABLE = "sandbox_unavailable", "no sandbox could be made"
    WORKER_DIED = "worker_died", "its worker or machine went away"
    INTERNAL = "internal", "a fault in Rota"
    # A run, of its sessions
    SESSIONS_FAILED = "sessions_failed", "some sessions did not succeed"


INTERRUPTED: frozenset[str] = frozenset({Reason.SHUTDOWN, Reason.WORKER_DIED})
"""The session was neither done nor at fault: what it did so far may be gone on with."""

INFRASTRUCTURE: frozenset[str] = INTERRUPTED | {
    Reason.RATE_LIMITED,
    Reason.OVERLOADED,
    Reason.API_ERROR,
    Reason.UNEQUIPPED,  # a server that was away, or too slow to start; what is wrong for good fails a few times more
    Reason.CRASHED,
    Reason.FETCH_FAILED,
    Reason.WORKSPACE_FAILED,
    Reason.DISK_FULL,
    Reason.SHIM_FAILED,
    Reason.INTERNAL,
}
"""Faults of what a session stands on: with the policy `infrastructure`, it is tried anew after these alone."""

FINAL: frozenset[str] = frozenset(
    {Reason.CANCELLED, Reason.PAUSED, Reason.DISABLED, Reason.INVALID_OPTIONS, Reason.SECRET_LEAKED}
)
"""A person's wish, or what another attempt would only do again: never tried anew, whatever the policy."""
