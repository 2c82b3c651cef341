"""Wiring: settings, Celery app, URLs, and the one command that runs it all. Nobody imports it."""

from runners import make_private

# First of all: from here on what a process of Rota holds in its environment and memory is no session's to read.
make_private()

from config.celery import app as celery_app  # noqa: E402

__all__ = ["celery_app"]
