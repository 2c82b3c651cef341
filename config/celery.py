"""The Celery app: `celery -A config worker`, `celery -A config beat`."""

import os
import warnings
from typing import Any

from celery import Celery
from celery.exceptions import SecurityWarning
from celery.signals import setup_logging

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

# Five lines for each worker that root starts; bin/up says it in one.
warnings.filterwarnings("ignore", category=SecurityWarning, module="celery.platforms")

app = Celery("rota")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@setup_logging.connect
def _leave_logging_to_django(**_: Any) -> None:
    """A receiver is all it takes: Celery then adds no handler to those of settings.LOGGING."""
