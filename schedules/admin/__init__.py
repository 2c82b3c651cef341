"""The console: Django's admin in Unfold's looks. Importing it registers the pages."""

from django.contrib import admin

from schedules.admin import (
    commands,
    halts,
    incidents,
    limits,
    machinery,
    repositories,
    runs,
    schedules,
    secrets,
    sessions,
    workers,
)

admin.site.index_title = "Dashboard"

__all__ = [
    "commands",
    "halts",
    "incidents",
    "limits",
    "machinery",
    "repositories",
    "runs",
    "schedules",
    "secrets",
    "sessions",
    "workers",
]
