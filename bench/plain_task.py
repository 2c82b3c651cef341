"""What one would write without Rota: a Celery task that runs a program, its result kept by django-celery-results.

Celery's own defaults, but for Rota's broker, database and pool: no state `STARTED` is stored, no events are sent.
"""

from __future__ import annotations

import subprocess

from celery import Celery

QUEUE = "bench"

app = Celery("bench")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.update(
    task_default_queue=QUEUE,
    task_routes={},
    task_track_started=False,
    worker_consumer="celery.worker.consumer:Consumer",
    worker_send_task_events=False,
)


@app.task
def run(argv: list[str]) -> dict[str, int | str]:
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    return {"exit_code": done.returncode, "printed": done.stdout}
