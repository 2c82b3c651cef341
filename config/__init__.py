"""Wiring: settings, Celery app, URLs, and the one command that runs it all. Nobody imports it."""

from config.celery import app as celery_app

__all__ = ["celery_app"]
