"""Rota's settings with django-q2 beside it: only its own benchmark uses them."""

from config.settings import *  # noqa: F403
from config.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "django_q"]
Q_CLUSTER = {"name": "bench", "orm": "default", "catch_up": False}
