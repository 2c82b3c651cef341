"""One process that works on one item of a run."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from django.db import models
from django.db.models import DateTimeField, Exists, OuterRef, Q

from schedules.bulk import Among, together
from schedules.models.costs import CostSource
from schedules.models.reasons import Reason
from schedules.models.repository import Repository
from schedules.models.run import Run
from schedules.models.schedule import Schedule
from schedules.models.stop import Freeze, Stop
from schedules.models.worker import WorkerHeartbeat
from schedules.prepared import Objects, Select, Update, columns, given, given_fields, instance


class SessionQuerySet(models.QuerySet["Session"]):
    def open(self) -> SessionQuerySet:
        return self.filter(status__in=Session.OPEN)

    def waiting(self) -> SessionQuerySet:
        """Queued, not yet handed to the broker and not to be cancelled; first those that go first."""
        return self.filter(status=Session.Status.QUEUED, admitted_at=None, cancel_requested_at=None).order_by(
            "-priority", "id"
        )

    def ready(self, now: datetime) -> SessionQuerySet:
        """Those whose time has come: a retry waits a while before it starts."""
        return self.filter(Q(not_before=None) | Q(not_before__lte=now))

    def in_flight(self) -> SessionQuerySet:
        """Those that hold a place: running, or handed to the broker and not yet claimed."""
        return self.filter(
            Q(status=Session.Status.RUNNING) | Q(status=Session.Status.QUEUED, admitted_at__isnull=False)
        )

    def last_success(self, session: Session, *, runner: str = "") -> Session | None:
        """The newest success of its schedule in its repository before it. A rehearsal only counts for rehearsals.

        `runner`: one of this runner, for only that has a conversation that can be gone on with.
        """
        line = {name: getattr(session, name) for name in _LINE}
        if runner:
            earlier = self.filter(**line, status=Session.Status.SUCCEEDED, pk__lt=session.pk)
            return earlier.filter(run__snapshot__runner=runner).order_by("-pk").first()
        statement = _LAST_SUCCESS_NOWHERE if session.repository_id is None else _LAST_SUCCESS
        return statement.first(pk=session.pk, **line)

    def whole(self, pk: int) -> Session:
        """It with its run and its repository, and of its schedule the name: anything more of that is read when needed.

        Raises DoesNotExist.
        """
        found = _WHOLE.first(pk=pk)
        if found is None:
            raise Session.DoesNotExist(f"There is no session {pk}.")
        values = iter(found)
        session: Session = instance(Session, _COLUMNS, [next(values) for _ in _COLUMNS])
        session.run = instance(Run, _RUN_COLUMNS, [next(values) for _ in _RUN_COLUMNS])
        session.schedule = instance(Schedule, ("id", "name"), (session.schedule_id, next(values)))
        of_repository = list(values)
        if session.repository_id is not None:
            session.repository = instance(Repository, _REPOSITORY_COLUMNS, of_repository)
        return session

    def could_not_resume(self, earlier: Session) -> bool:
        """Whether a session that went on from this one came to nothing, and by what the two have in common."""
        heirs = self.filter(resumed_from=earlier.pk, status=Session.Status.FAILED)
        silent = Q(turns=0, reason__in=(Reason.AGENT_ERROR, Reason.NO_RESULT, Reason.EXIT_CODE))
        return heirs.filter(Q(reason=Reason.PROMPT_TOO_LONG) | silent).exists()

    def version_before(self, session: Session, *, runner: str) -> str:
        """The version of the program in the newest session before it of its schedule, repository and runner, or ""."""
        earlier = self.filter(
            schedule=session.schedule_id,
            repository=session.repository_id,
            run__snapshot__runner=runner,
            pk__lt=session.pk,
        )
        return (
            earlier.exclude(program_version="").order_by("-pk").values_list("program_version", flat=True).first() or ""
        )

    def admit(self, ids: list[int], *, now: datetime) -> int:
        return _ADMIT.carry_out({"admitted_at": now}, ids=together(ids))

    def release(self, ids: list[int]) -> int:
        """Take back what was admitted and could not be published or was never claimed."""
        return self.filter(Among("pk", ids), status=Session.Status.QUEUED).update(admitted_at=None)

    def on_the_rota(self) -> SessionQuerySet:
        """Those that their schedule's status lets start: paused, it holds back what it fired; disabled, everything.

        Nor does anything start in a repository that is off.

        Subqueries and no joins: PostgreSQL then looks at the other conditions of an UPDATE again after it had to wait.
        """
        schedule = Schedule.objects.filter(pk=OuterRef("schedule_id"))
        fired = Run.objects.filter(pk=OuterRef("run_id"), trigger=Run.Trigger.SCHEDULE)
        disabled, paused = Schedule.Status.DISABLED, Schedule.Status.PAUSED
        return self.exclude(  # of one that is active, one look says so
            Exists(schedule.filter(status__in=(disabled, paused)))
            & (Exists(schedule.filter(status=disabled)) | Exists(fired))
            | Exists(Repository.objects.filter(pk=OuterRef("repository_id"), enabled=False))
        )

    def not_halted(self, now: datetime) -> SessionQuerySet:
        """Those that neither the stop nor a freeze window keeps from starting. Subqueries, as in `on_the_rota`."""
        frozen = Freeze.objects.in_force(now)
        return self.exclude(
            Exists(Stop.objects.in_force())
            | Exists(frozen.filter(schedules=None))
            | Exists(frozen.filter(schedules=OuterRef("schedule_id")))
        )

    def claim(self, pk: int, *, worker: WorkerHeartbeat, task_id: str, now: datetime) -> bool:
        """queued → running, atomically, once. What a pause, a cancel, a stop or a freeze came before is not claimed.

        Nor is what holds no place any more: a message that comes after its session was released is too late.
        """
        claimed = {
            "claimed_at": now,
            "worker": worker,
            "worker_name": worker.name,
            "hostname": worker.hostname,
            "task_id": task_id,
        }
        return _CLAIM.carry_out(claimed, pk=pk, now=now) == 1

    def claimable(self, now: datetime) -> SessionQuerySet:
        admitted = self.filter(status=Session.Status.QUEUED, admitted_at__isnull=False, cancel_requested_at=None)
        return admitted.on_the_rota().not_halted(now)

    def adopt(self, pk: int, *, of: int | None, worker: WorkerHeartbeat) -> bool:
        """A worker takes over a running session of the worker `of`, that is gone."""
        orphan = self.filter(pk=pk, status=Session.Status.RUNNING, worker_id=of)
        return orphan.update(worker=worker, worker_name=worker.name) == 1

    def progress(self, pk: int, *, worker: WorkerHeartbeat, **fields: Any) -> bool:
        """Live facts of a running session. False: it isn't this worker's any more."""
        return _progressing(tuple(fields)).carry_out(fields, pk=pk, lease=worker.pk) == 1

    def finish(self, pk: int, *, status: str, reason: str, now: datetime, **fields: Any) -> bool:
        """Open → a final status. True for the one caller that did it; a finished session is never changed."""
        fields = {"status": status, "reason": reason, "finished_at": now, "activity": "", **fields}
        if self.query.where:  # only while it is one of these
            return self.filter(pk=pk, status__in=Session.OPEN).update(**fields) == 1
        return _finishing(tuple(fields)).carry_out(fields, pk=pk) == 1

    def report_late(self, pk: int, report: dict[str, Any]) -> bool:
        """Keep what a worker says of a session that had ended already. It changes nothing; the first one stays."""
        late = self.filter(pk=pk, late_report__isnull=True).exclude(status__in=Session.OPEN)
        return late.update(late_report=report) == 1

    def lost(self, *, now: datetime, silent_after: timedelta) -> SessionQuerySet:
        """Running, and nobody renews its lease. A worker that stopped leaves its sessions this long to be adopted."""
        heard_of = WorkerHeartbeat.objects.filter(pk=OuterRef("worker_id"), last_seen_at__gt=now - silent_after)
        return self.filter(~Exists(heard_of), status=Session.Status.RUNNING)


class Session(models.Model):
    """One process that works on one item of a run: an agent's conversation, a script or a function.

        queued → running → succeeded | failed | timed_out | cancelled | lost
        queued → cancelled

    While it is queued, `admitted_at` says that it was handed to the broker. A session that started is never started
    again: a retry is a row of its own.
    """

    class Status(models.TextChoices):
        QUEUED = "queued", "queued"
        RUNNING = "running", "running"
        SUCCEEDED = "succeeded", "succeeded"
        FAILED = "failed", "failed"
        TIMED_OUT = "timed_out", "timed out"
        CANCELLED = "cancelled", "cancelled"
        LOST = "lost", "lost"

    CostSource = CostSource

    OPEN = (Status.QUEUED, Status.RUNNING)

    # Foreign keys have no index of their own: Meta says which one serves each of them.
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="sessions", db_index=False)
    # That of its run, which the database has looked for.
    schedule = models.ForeignKey(
        Schedule, on_delete=models.CASCADE, related_name="sessions", db_index=False, db_constraint=False
    )
    repository = models.ForeignKey(
        Repository, null=True, blank=True, on_delete=models.PROTECT, related_name="sessions", db_index=False
    )
    number = models.PositiveIntegerField(default=1, help_text="Its item's place in the run, from 1.")
    attempt = models.PositiveSmallIntegerField(default=1, help_text="The first one is 1; a retry is a row of its own.")
    retry_of = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="retries", db_index=False
    )
    item_key = models.CharField(max_length=100, default="prompt", help_text="Such as issue/12, codebase, prompt.")
    item = models.JSONField(default=dict, blank=True)

    status = models.CharField(max_length=20, choices=Status, default=Status.QUEUED)
    reason = models.CharField(max_length=40, choices=Reason, blank=True)
    message = models.TextField(blank=True)
    priority = models.SmallIntegerField(default=0)
    credential = models.CharField(
        max_length=100, blank=True, help_text="Whose quota it draws on, such as anthropic. Empty: nobody's."
    )
    reserved_usd = models.DecimalField(
        "reserves (USD)",
        max_digits=10,
        decimal_places=2,
        default=0,
        help_text="Of the budgets, from its admission to its end.",
    )
    is_rehearsal = models.BooleanField("rehearsed", default=False)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    cancel_requested_by = models.CharField(max_length=150, blank=True)

    queued_at = models.DateTimeField()
    not_before = models.DateTimeField(null=True, blank=True, help_text="A retry waits until then.")
    admitted_at = models.DateTimeField(null=True, blank=True)
    claimed_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True, help_text="When its process started.")
    finished_at = models.DateTimeField(null=True, blank=True)

    worker = models.ForeignKey(
        WorkerHeartbeat, null=True, blank=True, on_delete=models.SET_NULL, related_name="sessions", db_index=False
    )
    worker_name = models.CharField(max_length=200, blank=True)
    hostname = models.CharField(max_length=200, blank=True)
    pid = models.PositiveIntegerField(null=True, blank=True, help_text="Its shim.")
    start_ticks = models.BigIntegerField(null=True, blank=True)
    boot_id = models.CharField(max_length=40, blank=True)
    task_id = models.CharField(max_length=255, blank=True, help_text="The Celery task that ran it.")

    agent_session_id = models.UUIDField(default=uuid.uuid4)
    resumed_from = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="+", db_index=False
    )
    prompt = models.TextField(blank=True)
    model_asked = models.CharField(max_length=100, blank=True)
    model = models.CharField("model that ran", max_length=100, blank=True)
    program_version = models.CharField(max_length=100, blank=True)
    program_before = models.CharField(
        max_length=100, blank=True, help_text="The version in the session before, where that was another one."
    )
    turns = models.PositiveIntegerField(default=0)
    input_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    cached_tokens = models.PositiveBigIntegerField(default=0)
    cost_usd = models.DecimalField("cost (USD)", max_digits=12, decimal_places=6, default=0)
    cost_source = models.CharField(
        max_length=20, choices=CostSource, blank=True, help_text="Empty: it asked no model that costs anything."
    )
    activity = models.CharField(max_length=200, blank=True, help_text="What it does right now.")
    denied = models.JSONField(default=list, blank=True, help_text="Tools that it asked for and did not get.")
    exit_code = models.IntegerField(null=True, blank=True)
    late_report = models.JSONField(
        null=True, blank=True, help_text="What its worker said when the session had ended already: it changed nothing."
    )
    summary = models.CharField(max_length=300, blank=True)
    result = models.TextField(blank=True)
    structured = models.JSONField(
        "structured result", null=True, blank=True, help_text="The result as JSON, where its schedule has a schema."
    )

    base_commit = models.CharField(max_length=64, blank=True)
    head_commit = models.CharField(max_length=64, blank=True)
    branch = models.CharField(max_length=250, blank=True, help_text="Kept in the repository's cache.")
    patch = models.TextField(blank=True, help_text="What it changed, as a patch; cut where it is very long.")
    patch_bytes = models.PositiveBigIntegerField(default=0)
    commits = models.PositiveIntegerField(default=0)
    files_changed = models.PositiveIntegerField(default=0)
    insertions = models.PositiveIntegerField(default=0)
    deletions = models.PositiveIntegerField(default=0)
    folder = models.CharField(max_length=300, blank=True, help_text="Below the sessions' folder of its machine.")

    objects = SessionQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        constraints = (
            # It also finds the sessions of a run.
            models.UniqueConstraint(fields=("run", "number", "attempt"), name="session_attempt_is_unique_in_run"),
            models.CheckConstraint(
                name="session_status_is_known",
                condition=Q(
                    status__in=(
                        "queued",
                        "running",
                        "succeeded",
                        "failed",
                        "timed_out",
                        "cancelled",
                        "lost",
                    )
                ),
            ),
            models.CheckConstraint(
                name="session_cost_source_is_known",
                condition=Q(cost_source__in=("", "reported", "reckoned", "unknown")),
            ),
            # A row is finished if, and only if, it says when and why.
            models.CheckConstraint(
                name="session_finished_has_time_and_reason",
                condition=Q(status__in=("queued", "running"), finished_at=None, reason="")
                | (~Q(status__in=("queued", "running")) & Q(finished_at__isnull=False) & ~Q(reason="")),
            ),
            # Nothing runs that nobody claimed.
            models.CheckConstraint(
                name="session_running_was_claimed",
                condition=~Q(status="running") | Q(claimed_at__isnull=False),
            ),
        )
        indexes = (
            # Admission: who goes next.
            models.Index(
                fields=("-priority", "id"),
                condition=Q(status="queued", admitted_at=None),
                name="session_waiting",
            ),
            # Admission and upkeep: who holds a place.
            models.Index(
                fields=("status", "schedule"),
                condition=Q(status__in=("queued", "running")),
                name="session_open",
            ),
            # A schedule's newest sessions, for its list and, where it has no repository, for the last success; and what
            # goes with it when it is deleted.
            models.Index(fields=("schedule", "-id"), name="session_by_schedule"),
            # The last success in a repository; and a repository that is deleted has none. Not of those nowhere.
            models.Index(
                fields=("repository", "schedule", "-id"),
                condition=Q(repository__isnull=False),
                name="session_of_place",
            ),
            # What a worker has in hand, and had. Nobody has what waits.
            models.Index(fields=("worker",), condition=Q(worker__isnull=False), name="session_of_worker"),
            # A session's deletion: those that retry it. Few do.
            models.Index(fields=("retry_of",), condition=Q(retry_of__isnull=False), name="session_retry"),
            # Whether going on from a session came to nothing.
            models.Index(fields=("resumed_from",), condition=Q(resumed_from__isnull=False), name="session_resumed"),
        )

    def __str__(self) -> str:
        return f"session {self.pk}"

    @property
    def is_open(self) -> bool:
        return self.status in self.OPEN

    @property
    def duration(self) -> timedelta | None:
        """From the start of its process to its end."""
        return self.finished_at - self.started_at if self.finished_at and self.started_at else None


_COLUMNS = columns(Session)
_RUN_COLUMNS = columns(Run)
_REPOSITORY_COLUMNS = columns(Repository)

_WHOLE = Select(
    lambda: Session.objects.filter(pk=given("pk", Session)).values_list(
        *_COLUMNS,
        *(f"run__{name}" for name in _RUN_COLUMNS),
        "schedule__name",
        *(f"repository__{name}" for name in _REPOSITORY_COLUMNS),
    )
)
_ADMIT = Update(
    lambda: Session.objects.waiting().filter(Among("pk", given("ids", models.Field()))), Session, "admitted_at"
)
_CLAIM = Update(
    lambda: Session.objects.filter(pk=given("pk", Session)).claimable(given("now", DateTimeField())),
    Session,
    *("claimed_at", "worker", "worker_name", "hostname", "task_id"),
    status=Session.Status.RUNNING,
)


@cache
def _progressing(names: tuple[str, ...]) -> Update:
    mine = {"worker": given("lease", WorkerHeartbeat), "status": Session.Status.RUNNING}
    return Update(lambda: Session.objects.filter(pk=given("pk", Session), **mine), Session, *names)


@cache
def _finishing(names: tuple[str, ...]) -> Update:
    return Update(lambda: Session.objects.filter(pk=given("pk", Session), status__in=Session.OPEN), Session, *names)


_LINE = ("schedule_id", "repository_id", "item_key", "is_rehearsal")


def _last_success(**line: Any) -> SessionQuerySet:
    line = given_fields(Session, _LINE) | line
    earlier = Session.objects.filter(**line, status=Session.Status.SUCCEEDED, pk__lt=given("pk", Session))
    return earlier.order_by("-pk")[:1]


_LAST_SUCCESS = Objects(Session, _last_success)
_LAST_SUCCESS_NOWHERE = Objects(Session, lambda: _last_success(repository_id=None))
