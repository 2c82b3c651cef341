"""Is Rota there (`/healthz`), and can it do its work (`/readyz`)? For monitors and bin/up."""

import logging
from dataclasses import asdict, dataclass
from datetime import datetime

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from kombu import Connection
from kombu.exceptions import OperationalError

from schedules.models import Incident, WorkerHeartbeat

logger = logging.getLogger(__name__)

_BROKER_PATIENCE = 0.5  # seconds, to connect and again to answer


@dataclass(frozen=True)
class Check:
    ok: bool
    detail: str


@require_safe
@never_cache
def healthz(request: HttpRequest) -> HttpResponse:
    """The process answers. Touches neither the database nor the broker."""
    return HttpResponse("ok\n", content_type="text/plain")


@require_safe
@never_cache
def readyz(request: HttpRequest) -> JsonResponse:
    """200 when every check holds, else 503. `detail` is for anybody: the cause is in the log.

    A broker that is away costs a second at most; a database that is away, its `connect_timeout`.
    """
    checks = {"broker": _broker(), **_database_and_what_it_tells(timezone.now())}
    ok = all(check.ok for check in checks.values())
    content = {"ok": ok, "checks": {name: asdict(check) for name, check in checks.items()}}
    return JsonResponse(content, status=200 if ok else 503)


def _broker() -> Check:
    options = {
        **settings.CELERY_BROKER_TRANSPORT_OPTIONS,
        "socket_timeout": _BROKER_PATIENCE,
        "socket_connect_timeout": _BROKER_PATIENCE,
    }
    try:
        with Connection(settings.CELERY_BROKER_URL, transport_options=options) as broker:
            broker.ensure_connection(max_retries=1, interval_start=0)
    except OperationalError as error:
        logger.warning("The broker does not answer: %s", error)
        return Check(ok=False, detail="The broker does not answer.")
    return Check(ok=True, detail="The broker answers.")


def _database_and_what_it_tells(now: datetime) -> dict[str, Check]:
    kinds = WorkerHeartbeat.Kind
    try:
        migrations = _migrations()
        checks = {
            "database": Check(ok=True, detail="The database answers."),
            "migrations": migrations,
        }
        if migrations.ok:
            return checks | {kind.value: _pulse(kind, now=now) for kind in kinds} | {"incidents": _incidents()}
        unknown = Check(ok=False, detail="Not known before the migrations are applied.")
    except DatabaseError as error:
        logger.warning("The database does not answer: %s", error)
        unknown = Check(ok=False, detail="Not known: the database does not answer.")
        checks = {
            "database": Check(ok=False, detail="The database does not answer."),
            "migrations": unknown,
        }
    return checks | {kind.value: unknown for kind in kinds} | {"incidents": unknown}


def _migrations() -> Check:
    executor = MigrationExecutor(connection)
    waiting = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    if waiting:
        return Check(ok=False, detail=f"{waiting} wait: run bin/manage migrate.")
    return Check(ok=True, detail="All are applied.")


def _incidents() -> Check:
    """How many are open, and no more: anybody may ask. They are no reason to send nobody here."""
    count = Incident.objects.open().count()
    return Check(ok=True, detail=f"{count} open: the console tells which." if count else "None is open.")


def _pulse(kind: WorkerHeartbeat.Kind, *, now: datetime) -> Check:
    """Whether a process of this kind has been heard of lately."""
    seen_at = (
        WorkerHeartbeat.objects.filter(kind=kind, stopped_at=None)
        .order_by("-last_seen_at")
        .values_list("last_seen_at", flat=True)
        .first()
    )
    if seen_at is None:
        return Check(ok=False, detail="None runs.")
    age = now - seen_at
    return Check(
        ok=age <= settings.ROTA_LEASE,
        detail=f"Last heard of {age.total_seconds():.0f} s ago.",
    )
