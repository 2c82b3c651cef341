"""The Celery app: `celery -A config worker`, `celery -A config beat`."""

import os
import warnings
from typing import Any

from celery import Celery
from celery.bootsteps import Step
from celery.exceptions import SecurityWarning
from celery.signals import setup_logging
from click import Option
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
# Celery has Django check itself at each start, for which the console is read, and throws away what that finds.
os.environ.setdefault("CELERY_SKIP_CHECKS", "true")

# Five lines for each worker that root starts; bin/up says it in one.
warnings.filterwarnings("ignore", category=SecurityWarning, module="celery.platforms")

app = Celery("rota")
app.user_options["worker"].add(
    Option(["--drain"], is_flag=True, help="Wait for its sessions at SIGTERM: don't leave them to the next worker.")
)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


class Drain(Step):
    """Takes the option --drain of `celery worker`. So does the setting."""

    def __init__(self, parent: Any, drain: bool = False, **options: Any) -> None:
        super().__init__(parent, **options)
        settings.ROTA_DRAIN = settings.ROTA_DRAIN or drain


app.steps["worker"].add(Drain)


@setup_logging.connect
def _leave_logging_to_django(**_: Any) -> None:
    """A receiver is all it takes: Celery then adds no handler to those of settings.LOGGING."""
