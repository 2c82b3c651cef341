"""The floor: what nobody who keeps a durable record can do without.

One indexed read of what is due, N rows of a narrow table inserted with Django's `bulk_create`, one UPDATE that moves
the N schedules on, and N Celery messages, made from one template and pipelined.
"""

from __future__ import annotations

import base64
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from django.db import connection, models, transaction

from bench.peers.stopwatch import WARM, Figures, queue, require, stopwatch

_NOW = datetime(2027, 1, 12, 9, 0, tzinfo=UTC)


class Plan(models.Model):
    """A schedule, and nothing but when it is due."""

    due_at = models.DateTimeField(db_index=True)

    objects: ClassVar[models.Manager[Plan]] = models.Manager()

    class Meta:
        app_label = "bench"


class Record(models.Model):
    """A due time on record."""

    plan_id = models.BigIntegerField()
    scheduled_for = models.DateTimeField()
    status = models.CharField(max_length=20, default="queued")
    snapshot = models.JSONField(default=dict)
    queued_at = models.DateTimeField()

    objects: ClassVar[models.Manager[Record]] = models.Manager()

    class Meta:
        app_label = "bench"
        constraints = (models.UniqueConstraint(fields=("plan_id", "scheduled_for"), name="bench_record_once"),)


def measure(count: int) -> Figures:
    with connection.schema_editor() as editor:
        editor.create_model(Plan)
        editor.create_model(Record)
    _burst(WARM, _NOW)
    taken = _burst(count, _NOW + timedelta(hours=1))
    require(Record.objects.count(), WARM + count, "records")
    return taken


def _burst(count: int, now: datetime) -> Figures:
    Plan.objects.bulk_create(Plan(due_at=now) for _ in range(count))
    with queue() as broker, stopwatch() as taken:
        with transaction.atomic():
            due = list(Plan.objects.filter(due_at__lte=now).values_list("pk", flat=True))
            Record.objects.bulk_create(Record(plan_id=pk, scheduled_for=now, queued_at=now) for pk in due)
            Plan.objects.filter(due_at__lte=now).update(due_at=now + timedelta(days=1))
        with broker.pipeline(transaction=False) as pipeline:
            for pk in due:
                pipeline.lpush("sessions", _message(pk))
            pipeline.execute()
    return taken.figures


def _message(pk: int) -> str:
    task_id = str(uuid.uuid4())
    body = base64.b64encode(json.dumps([[pk], {}, {}]).encode()).decode()
    return json.dumps(
        {
            "body": body,
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"lang": "py", "task": "bench.noop", "id": task_id, "root_id": task_id, "retries": 0},
            "properties": {
                "correlation_id": task_id,
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": "sessions"},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": task_id,
            },
        }
    )
